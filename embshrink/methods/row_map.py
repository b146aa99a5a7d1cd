"""Which stored row answers for which word."""

from __future__ import annotations

import dataclasses

import numpy as np

from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, StoredArray


@dataclasses.dataclass(eq=False, repr=False)
class RowMap:
    """Which stored row answers for which word.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n,), int64
        Row of each word; -1 for a word that is dropped.
    count : int
        How many rows there are.
    owners : numpy.ndarray, shape (count,), int64, or None
        The word whose own vector a row is; None where rows are nobody's own (centroids).
    scale : numpy.ndarray, shape (n,), float32, or None
        Word vector = scale * row; None for 1.
    """

    rows: IntArray
    count: int
    owners: IntArray | None = None
    scale: FloatArray | None = None

    @classmethod
    def identity(cls, n: int) -> RowMap:
        """Return the map of n words that each have their own row."""
        ids = np.arange(n)
        return cls(ids, n, ids)

    @property
    def is_identity(self) -> bool:
        """Whether word i has row i, its own, unscaled."""
        return (self.scale is None and self.owners is not None and self.count == len(self.rows)
                and np.array_equal(self.rows, np.arange(self.count)))

    @property
    def first_words_own(self) -> bool:
        """Whether each row's owner is the first word that has it: then owners need not be stored."""
        _, first = np.unique(self.rows, return_index=True)
        return self.owners is not None and np.array_equal(first, self.owners)

    def then(self, after: RowMap) -> RowMap:
        """Return the map that applies `after` to this map's rows."""
        dropped = self.rows < 0
        rows = np.where(dropped, -1, after.rows[np.where(dropped, 0, self.rows)])
        scale = self.scale
        if after.scale is not None:
            inner = after.scale[np.where(dropped, 0, self.rows)]
            scale = inner if scale is None else scale * inner
        owners = None
        if self.owners is not None and after.owners is not None:
            owners = self.owners[after.owners]
        return RowMap(rows, after.count, owners, scale)

    def take(self, ids: IntArray) -> RowMap:
        """Return the map of these words, numbered anew in this order; every owner must be among them."""
        if len(ids) == len(self.rows) and np.array_equal(ids, np.arange(len(ids))):
            return self
        new_id = np.full(len(self.rows), -1)
        new_id[ids] = np.arange(len(ids))
        return RowMap(
            self.rows[ids], self.count, None if self.owners is None else new_id[self.owners],
            None if self.scale is None else self.scale[ids],
        )

    def sections(self) -> dict[str, AnyArray]:
        """Return the arrays that a file keeps of the map, by section name: none of the identity."""
        if self.is_identity:
            return {}
        sections: dict[str, AnyArray] = {"map.rows": self.rows.astype(narrowest_uint(max(self.count - 1, 0)))}
        if self.scale is not None:
            sections["map.scale"] = self.scale.astype(np.float16)
        if self.owners is not None and not self.first_words_own:
            sections["map.owners"] = self.owners.astype(np.uint32)
        return sections


@dataclasses.dataclass(eq=False, repr=False)
class StoredRowMap:
    """A row map as an open file holds it: sections that are read where they are asked for.

    Parameters
    ----------
    rows : array_like, shape (n,), unsigned
        Row of each word.
    count : int
        How many rows there are; entries of `rows` may be larger in a damaged file.
    owners : array_like, shape (count,), uint32, or None
        None where `embshrink.methods.row_map.RowMap` has none, or each row's owner is its first word.
    scale : array_like, shape (n,), float16, or None
    """

    rows: StoredArray
    count: int
    owners: StoredArray | None = None
    scale: StoredArray | None = None

    def sections(self) -> dict[str, StoredArray]:
        """Return the file's sections of the map, by name."""
        parts = {"map.rows": self.rows, "map.scale": self.scale, "map.owners": self.owners}
        return {name: part for name, part in parts.items() if part is not None}
