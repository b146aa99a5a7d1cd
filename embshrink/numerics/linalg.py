"""Principal axes of a table, from its small matrix of column products; the same at any number of threads."""

from __future__ import annotations

import numpy as np

from embshrink.numerics.parallel import map_blocks, one_blas_thread
from embshrink.storage.disk_rows import room_like

NUMBERS = 1 << 20  # in a block
BLOCKS = 64


def column_means(matrix, weights=None, start=0, stop=None):
    """Return the mean of rows `start` to `stop` of a matrix, (d,) float64; `weights`, if given, add up to 1."""
    stop = len(matrix) if stop is None else stop

    def part(first, last):
        block = matrix[start + first : start + last]
        if weights is None:
            return block.sum(axis=0, dtype=np.float64)
        return np.einsum("i,ij->j", weights[start + first : start + last], block)

    total = _summed(part, stop - start, max(1, NUMBERS // matrix.shape[1]), np.zeros(matrix.shape[1]))
    return total / (stop - start) if weights is None else total


def _summed(part, n, size, zero):
    """Return the sum of ``part(start, stop)`` over blocks of ``range(n)``, of which few are held at a time."""
    total = zero
    for first in range(0, n, BLOCKS * size):
        some = min(BLOCKS * size, n - first)
        total = sum(map_blocks(lambda start, stop: part(first + start, first + stop), some, size), total)  # noqa: B023
    return total


def gram(matrix, weights=None, mean=None):
    """Return ``sum_i w_i (x_i - mean)(x_i - mean)^T`` over the rows of a matrix, in float64.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    weights : numpy.ndarray, shape (n,), optional
        1 each by default.
    mean : numpy.ndarray, shape (d,), optional
        0 by default.

    Returns
    -------
    numpy.ndarray, shape (d, d), float64
    """

    def part(start, stop):
        block = matrix[start:stop].astype(np.float64)
        if mean is not None:
            block -= mean
        weighted = block if weights is None else block * weights[start:stop, None]
        return weighted.T @ block

    d = matrix.shape[1]
    return _summed(part, len(matrix), max(NUMBERS // d, 4 * d), np.zeros((d, d)))


def eigen(symmetric):
    """Return eigenvalues, descending, and eigenvectors as columns, of a symmetric matrix.

    An eigenvector may be turned round at will; here its component of largest size is positive.
    """
    with one_blas_thread():
        values, vectors = np.linalg.eigh(symmetric)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.argmax(np.abs(vectors), axis=0)
    return values, vectors * np.where(vectors[largest, np.arange(len(values))] < 0, -1.0, 1.0)


def project(matrix, axes, mean=None):
    """Return ``(matrix - mean) @ axes``, (n, c) float32, block by block on all cores; on disk if the matrix is."""
    projected = room_like(matrix, axes.shape[1])

    def part(start, stop):
        block = matrix[start:stop] if mean is None else matrix[start:stop] - mean
        projected[start:stop] = block @ axes

    map_blocks(part, len(matrix), max(1, NUMBERS // matrix.shape[1]))
    return projected
