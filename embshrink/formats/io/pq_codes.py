"""Rows that other programs store as product quantization codes, which the method pq can keep as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.pq import PQ, pack_nibbles
from embshrink.storage.arrays import ByteArray, FloatArray, IntArray

if TYPE_CHECKING:
    from embshrink.methods.base import Codes, State
    from embshrink.numerics.progress import Progress

DECODED = 1 << 20  # numbers decoded at a time


@dataclass
class PQCodes:
    """A table of rows as product quantization codes.

    Parameters
    ----------
    codes : numpy.ndarray, shape (n, subspaces), uint8
    codebooks : numpy.ndarray, shape (subspaces, centroids, d / subspaces), float32
    projection : numpy.ndarray, shape (d, d), float32, or None
        A row is the projection times the concatenated centroids; None for the identity.
    norms : numpy.ndarray, shape (n,), float32, or None
        Factor of each row; None for 1.
    """

    codes: ByteArray
    codebooks: FloatArray
    projection: FloatArray | None = None
    norms: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def dim(self) -> int:
        """Dimension of the rows."""
        return self.codebooks.shape[0] * self.codebooks.shape[2]

    def take(self, ids: slice | IntArray) -> PQCodes:
        """Return the codes of some rows, given by a slice or by an array of row numbers."""
        return PQCodes(self.codes[ids], self.codebooks, self.projection,
                     None if self.norms is None else self.norms[ids])

    def rows(self, ids: slice | IntArray) -> FloatArray:
        """Return rows, shape (k, d), float32, bit for bit as the method pq decodes them."""
        taken = self.take(ids)
        step, state, codes = taken.as_pq()
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = step.decode(codes, state, np.arange(len(taken)))
            return matrix if taken.norms is None else matrix * taken.norms[:, None]

    def matrix(self, count: int, progress: Progress | None = None) -> FloatArray:
        """Return the first rows, shape (count, d), float32, decoded block by block."""
        out = np.empty((count, self.dim), np.float32)
        size = max(1, DECODED // self.dim)
        for start in range(0, count, size):
            stop = min(start + size, count)
            out[start:stop] = self.rows(slice(start, stop))
            if progress:
                progress("decoding", stop, count)
        return out

    def as_pq(self) -> tuple[PQ, State, Codes]:
        """Return step, state and codes of the method pq for these rows, without the norms."""
        subspaces, centroids, _ = self.codebooks.shape
        step = PQ(subspaces=subspaces, centroids=centroids, rotate="none" if self.projection is None else "opq")
        state = {"codebook": self.codebooks.transpose(1, 0, 2).reshape(centroids, self.dim)}
        if self.projection is not None:
            state["rotation"] = np.ascontiguousarray(self.projection.T)
        codes = np.asarray(self.codes)
        return step, state, {"codes": pack_nibbles(codes) if centroids <= 16 else codes}
