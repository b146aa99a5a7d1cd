"""The map from words to stored rows."""

from __future__ import annotations

import dataclasses

import numpy as np

from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, StoredArray


@dataclasses.dataclass(eq=False, repr=False)
class RowMap:
    """The map from words to stored rows.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n,), int64
        Row of each word; -1 for a dropped word.
    count : int
        Number of rows.
    owners : numpy.ndarray, shape (count,), int64, or None
        For each row, the word whose vector it is (the owner); None if rows belong to no word (centroids).
    scale : numpy.ndarray, shape (n,), float32, or None
        The vector of a word is scale * row; None if all scales are 1.
    """

    rows: IntArray
    count: int
    owners: IntArray | None = None
    scale: FloatArray | None = None

    @classmethod
    def identity(cls, n: int) -> RowMap:
        """Return the map of n words to n rows, word i to row i."""
        ids = np.arange(n)
        return cls(ids, n, ids)

    @property
    def is_identity(self) -> bool:
        """Whether word i has row i, owns it, and has no scale."""
        return (self.scale is None and self.owners is not None and self.count == len(self.rows)
                and np.array_equal(self.rows, np.arange(self.count)))

    def kept(self) -> IntArray:
        """Return the ids of the words that have a row, ascending; do not change the array."""
        return self.owners if self.owners is not None and self.is_identity else np.flatnonzero(self.rows >= 0)

    @property
    def first_words_own(self) -> bool:
        """Whether the owner of each row is the first word that has it; owners are not stored then."""
        if self.is_identity:
            return True
        _, first = np.unique(self.rows, return_index=True)
        return self.owners is not None and np.array_equal(first, self.owners)

    def then(self, after: RowMap) -> RowMap:
        """Return the composition of two maps: this one, then `after` on its rows."""
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
        """Return the map of the words `ids`, renumbered in this order; every owner must be among them."""
        if len(ids) == len(self.rows) and np.array_equal(ids, np.arange(len(ids))):
            return self
        new_id = np.full(len(self.rows), -1)
        new_id[ids] = np.arange(len(ids))
        return RowMap(
            self.rows[ids], self.count, None if self.owners is None else new_id[self.owners],
            None if self.scale is None else self.scale[ids],
        )

    def sections(self) -> dict[str, AnyArray]:
        """Return the arrays that a file stores for the map, by section name; none for the identity."""
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
    """The row map of an open file; its sections are read on access.

    Parameters
    ----------
    rows : array_like, shape (n,), unsigned
        Row of each word.
    count : int
        Number of rows; in a damaged file, entries of `rows` may be larger.
    owners : array_like, shape (count,), uint32, or None
        None if rows belong to no word, or if the owner of each row is the first word that has it.
    scale : array_like, shape (n,), float16, or None
        As for `RowMap`.
    """

    rows: StoredArray
    count: int
    owners: StoredArray | None = None
    scale: StoredArray | None = None

    def sections(self) -> dict[str, StoredArray]:
        """Return the sections of the map that the file has, by name."""
        parts = {"map.rows": self.rows, "map.scale": self.scale, "map.owners": self.owners}
        return {name: part for name, part in parts.items() if part is not None}
