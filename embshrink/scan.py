"""An index in memory: which few rows may be nearest to a vector, so that search need not decode them all."""

from __future__ import annotations

import threading

import numpy as np

from embshrink.parallel import run_blocks, thread_count

LEAST_ROWS = 20_000  # fewer are decoded sooner than an index is made
MOST_BYTES = 1 << 30
MULTIPLE = 16  # columns are filled up to one, for SIMD
BLOCK_BYTES = 1 << 22  # fewer are not worth a thread
MOST_FOUND = 1000
SHORTEST, LONGEST = 1e-15, 1e15  # lengths whose squares float32 has in full

_building = threading.Lock()


def index_of(emb):
    """Return the index of a table, made at the first call and kept, or None.

    There is none of fewer rows than 20,000, none that would take more than 1 GiB, and none without numba.

    Parameters
    ----------
    emb : Embeddings

    Returns
    -------
    RowIndex or None
    """
    if emb.n_rows < LEAST_ROWS or emb.n_rows * bytes_per_row(emb.vector_size) > MOST_BYTES:
        return None
    try:
        import embshrink.kernels.scan  # noqa: F401
    except ImportError:
        return None
    with _building:
        if emb.index is None:
            emb.index = RowIndex(emb)
    return emb.index


def bytes_per_row(dim):
    """Return how much memory an index takes for each stored row of `dim` numbers."""
    return -(-dim // MULTIPLE) * MULTIPLE + 8


class RowIndex:
    """All stored rows at 8 bits a number: dim + 8 bytes a row, dim filled up to a multiple of 16.

    Parameters
    ----------
    emb : Embeddings
        Decoded once, block by block.

    Notes
    -----
    A row x of length 1 is held as ``s * c + r``, c whole numbers, and of r its length alone: r . q is at most that
    for every q of length 1. So each cosine is known to lie between two limits, and a row that cannot be among the
    nearest is passed over; the others are decoded, and what is found is what decoding all would find.
    """

    def __init__(self, emb):
        from embshrink.kernels.scan import encode_rows

        n, dim = emb.n_rows, emb.vector_size
        self.codes = np.zeros((n, bytes_per_row(dim) - 8), np.int8)
        self.scales = np.empty(n, np.float32)
        self.bounds = np.empty(n, np.float32)
        margin = (2 * dim + 32) * 2.0**-24  # what float32 may lose in the cosine, (1.5 dim + 3), and in the limits
        for start, block in emb.row_blocks():
            rows = slice(start, start + len(block))
            encode_rows(np.ascontiguousarray(block), SHORTEST, LONGEST, margin, self.codes[rows], self.scales[rows],
                        self.bounds[rows])

    def candidates(self, query, eligible, count):
        """Return the rows that may be among the nearest, ascending, (k,) int64.

        Parameters
        ----------
        query : numpy.ndarray, shape (dim,), float32
            Of length 1.
        eligible : numpy.ndarray, shape (rows,), bool
            Look only among these.
        count : int
            How many of the nearest must be among what is returned, with all that tie with the last one.

        Returns
        -------
        numpy.ndarray of int64, or None
            None where all rows should be decoded: for more than 1000 of the nearest, and for a query that is not
            of length 1, being zero, or too long or short for float32.
        """
        from embshrink.kernels.scan import scan_rows

        exact = query.astype(np.float64)
        length = np.linalg.norm(exact)
        count = min(count, int(np.count_nonzero(eligible)))
        if not 0.999 < length < 1.001 or count > MOST_FOUND:
            return None
        if count < 1:
            return np.zeros(0, np.int64)
        n, width = self.codes.shape
        steps = min(32767 / np.abs(exact).max(), 2**30 / (127 * width**0.5))  # the sums must fit 32 bits
        codes = np.zeros(width, np.int16)
        codes[: len(exact)] = np.rint(exact * steps)
        error = np.linalg.norm(exact - codes[: len(exact)] / steps)
        factors = np.array([1 / steps, length + error, error], np.float32)

        def work(start, stop):
            best = np.full(count, -np.inf, np.float32)
            rows, uppers = np.empty(stop - start, np.int64), np.empty(stop - start, np.float32)
            found = scan_rows(self.codes[start:stop], self.scales[start:stop], self.bounds[start:stop],
                              eligible[start:stop], codes, *factors, best, rows, uppers)
            return best, rows[:found] + start, uppers[:found]

        size = max(-(-n // thread_count()), BLOCK_BYTES // width)
        best, rows, uppers = map(np.concatenate, zip(*run_blocks(work, n, size)))
        return rows[uppers >= np.partition(best, -count)[-count]]
