"""Rows that other programs store as product quantization codes; they are, one to one, codes of our method pq."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.methods.pq import PQ, pack_nibbles, unpack_nibbles

MOST_CENTROIDS = 256
DECODED = 1 << 20  # numbers decoded at a time
CHECKED = 1 << 24  # codes checked at a time


@dataclass
class Codes:
    """A table as codes.

    Parameters
    ----------
    codes : numpy.ndarray, shape (n, subspaces), uint8
    codebooks : numpy.ndarray, shape (subspaces, centroids, d / subspaces), float32
    projection : numpy.ndarray, shape (d, d), float32, or None
        A row is the projection times the centroids laid end to end.
    norms : numpy.ndarray, shape (n,), float32, or None
        A factor of each row; None for 1.
    """

    codes: np.ndarray
    codebooks: np.ndarray
    projection: np.ndarray | None = None
    norms: np.ndarray | None = None

    def __len__(self):
        return len(self.codes)

    @property
    def dim(self):
        """Length of a row."""
        return self.codebooks.shape[0] * self.codebooks.shape[2]

    def take(self, ids):
        """Return the table of some rows: a slice, or an array of their numbers."""
        return Codes(self.codes[ids], self.codebooks, self.projection,
                     None if self.norms is None else self.norms[ids])

    def rows(self, ids):
        """Return rows, shape (k, d), float32, to the bit as our method pq decodes them."""
        taken = self.take(ids)
        step, state, codes = taken.as_pq()
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = step.decode(codes, state, slice(None))
            return matrix if taken.norms is None else matrix * taken.norms[:, None]

    def matrix(self, count, progress=None):
        """Return the first rows, shape (count, d), float32, decoded block by block."""
        out = np.empty((count, self.dim), np.float32)
        size = max(1, DECODED // self.dim)
        for start in range(0, count, size):
            stop = min(start + size, count)
            out[start:stop] = self.rows(slice(start, stop))
            if progress:
                progress("decoding", stop, count)
        return out

    def as_pq(self):
        """Return step, state and codes of the method pq that decode to these rows, norms left aside."""
        subspaces, centroids, _ = self.codebooks.shape
        step = PQ(subspaces=subspaces, centroids=centroids, rotate="none" if self.projection is None else "opq")
        state = {"codebook": self.codebooks.transpose(1, 0, 2).reshape(centroids, self.dim)}
        if self.projection is not None:
            state["rotation"] = np.ascontiguousarray(self.projection.T)
        codes = np.asarray(self.codes)
        return step, state, {"codes": pack_nibbles(codes) if centroids <= 16 else codes}


def of_embeddings(embeddings):
    """Return the rows of embeddings as `Codes` and the factor of each word, or None where they are not such codes.

    Parameters
    ----------
    embeddings : Embeddings or None

    Returns
    -------
    codes : Codes
        A row for each word, words that share a row with the same codes; without norms.
    scale : numpy.ndarray, shape (n,), float32
        Word vector = scale * row.
    """
    stored = None if embeddings is None else embeddings.stored
    step = None if stored is None else stored.codec
    if not isinstance(step, PQ) or stored.columns or step.centroids > MOST_CENTROIDS or stored.dim % step.subspaces:
        return None
    state, n = stored.state, len(embeddings)
    labels = np.asarray(stored.codes["codes"])
    if step.centroids <= 16:
        labels = unpack_nibbles(labels, step.subspaces)
    if embeddings.row_map is not None:
        labels = labels[embeddings.row_map]
    # What scales columns is a part of the last thing that makes them.
    scale = state.get("scale", np.ones(stored.dim, np.float32))
    codebook, projection = state["codebook"], state.get("rotation")
    if projection is None:
        codebook = codebook * scale
    else:
        projection = np.ascontiguousarray((projection * scale).T)
    codebooks = codebook.reshape(step.centroids, step.subspaces, -1).transpose(1, 0, 2)
    factor = np.ones(n, np.float32) if embeddings.scale is None else embeddings.scale
    return Codes(labels, np.ascontiguousarray(codebooks), projection), factor


# ---------------------------------------------------------------- reading


def read_floats(cursor, shape, what):
    """Return an array of float32, in memory, after checking that it is finite."""
    start = cursor.offset
    values = cursor.array(shape, "<f4", what, mapped=False).astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise cursor.error(f"a number of {what} is not finite", start + 4 * int(bad[0]), expected="a finite number",
                           found=float(values.flat[bad[0]]))
    return values


def read_codes(cursor, rows, subspaces, centroids):
    """Return codes, shape (rows, subspaces), uint8, after checking that each names a centroid."""
    start = cursor.offset
    codes = cursor.array((rows, subspaces), np.uint8, "its codes")
    size = max(1, CHECKED // subspaces)
    for first in range(0, rows if centroids < MOST_CENTROIDS else 0, size):
        bad = np.flatnonzero(codes[first : first + size] >= centroids)
        if len(bad):
            byte = first * subspaces + int(bad[0])
            raise cursor.error("a code names a centroid that is not there", start + byte,
                               expected=f"0 to {centroids - 1}", found=int(codes.flat[byte]))
    return codes


def check_quantizer(cursor, dim, subspaces, centroids, byte):
    """Refuse sizes of a quantizer that contradict each other; `byte` is where they stand."""
    cursor.check(1 <= subspaces <= dim and dim % subspaces == 0,
                 "the number of subspaces does not divide the dimension", byte, f"a divisor of {dim}", subspaces)
    cursor.check(1 <= centroids <= MOST_CENTROIDS, "the number of centroids is not possible", byte,
                 f"1 to {MOST_CENTROIDS}, for codes of a byte", centroids)
