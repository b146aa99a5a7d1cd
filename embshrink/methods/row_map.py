"""Which stored row answers for which word."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
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

    rows: np.ndarray
    count: int
    owners: np.ndarray | None = None
    scale: np.ndarray | None = None

    @classmethod
    def identity(cls, n):
        """Return the map of n words that each have their own row."""
        ids = np.arange(n)
        return cls(ids, n, ids)

    @property
    def is_identity(self):
        """Whether word i has row i, its own, unscaled."""
        return (self.scale is None and self.owners is not None and self.count == len(self.rows)
                and np.array_equal(self.rows, np.arange(self.count)))

    def then(self, after):
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

    def take(self, ids):
        """Return the map of these words, numbered anew in this order; every owner is among them."""
        if len(ids) == len(self.rows) and np.array_equal(ids, np.arange(len(ids))):
            return self
        new_id = np.full(len(self.rows), -1)
        new_id[ids] = np.arange(len(ids))
        return RowMap(
            self.rows[ids], self.count, None if self.owners is None else new_id[self.owners],
            None if self.scale is None else self.scale[ids],
        )
