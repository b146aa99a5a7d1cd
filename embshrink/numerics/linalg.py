"""Principal axes of a table, from its Gram matrix (d, d); the same result for any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import numpy as np

from embshrink.numerics.parallel import map_blocks, one_blas_thread
from embshrink.storage.disk_rows import room_like

if TYPE_CHECKING:
    from embshrink.storage.arrays import DoubleArray, FloatArray
    from embshrink.storage.disk_rows import Matrix

    Weights = FloatArray | DoubleArray

BLOCK_NUMBERS = 1 << 20  # numbers in a block of rows
BLOCKS_HELD = 64  # blocks whose results are in memory at the same time


def column_means(matrix: Matrix, weights: Weights | None = None, start: int = 0,
                 stop: int | None = None) -> DoubleArray:
    """Return the mean of the rows of a matrix from `start` to `stop`.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    weights : numpy.ndarray, shape (n,), optional
        Weights of the rows, which add up to 1; equal weights by default.
    start, stop : int
        Rows to use; all by default.

    Returns
    -------
    numpy.ndarray, shape (d,), float64
    """
    stop = len(matrix) if stop is None else stop

    def block_sum(first: int, last: int) -> DoubleArray:
        block = matrix[start + first : start + last]
        total: DoubleArray
        if weights is None:
            total = block.sum(axis=0, dtype=np.float64)
        else:
            total = np.einsum("i,ij->j", weights[start + first : start + last], block)
        return total

    d = matrix.shape[1]
    total = _sum_blocks(block_sum, stop - start, max(1, BLOCK_NUMBERS // d), np.zeros(d))
    return total / (stop - start) if weights is None else total


def _sum_blocks(function: Callable[[int, int], DoubleArray], n: int, size: int, zero: DoubleArray) -> DoubleArray:
    """Sum ``function(start, stop)`` over blocks of ``range(n)``; at most 64 results are in memory at a time."""
    total = zero
    for first in range(0, n, BLOCKS_HELD * size):
        def shifted(start: int, stop: int, first: int = first) -> DoubleArray:
            return function(first + start, first + stop)

        for part in map_blocks(shifted, min(BLOCKS_HELD * size, n - first), size):
            total = total + part
    return total


def gram(matrix: Matrix, weights: Weights | None = None, mean: Weights | None = None) -> DoubleArray:
    """Return ``sum_i w_i (x_i - mean)(x_i - mean)^T`` over the rows of a matrix, in float64.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    weights : numpy.ndarray, shape (n,), optional
        Weight w_i of each row; 1 by default.
    mean : numpy.ndarray, shape (d,), optional
        Subtracted from each row; 0 by default.

    Returns
    -------
    numpy.ndarray, shape (d, d), float64
    """

    def block_gram(start: int, stop: int) -> DoubleArray:
        block = matrix[start:stop].astype(np.float64)
        if mean is not None:
            block -= mean
        weighted = block if weights is None else block * weights[start:stop, None]
        return weighted.T @ block

    d = matrix.shape[1]
    return _sum_blocks(block_gram, len(matrix), max(BLOCK_NUMBERS // d, 4 * d), np.zeros((d, d)))


def eigen(symmetric: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return the eigenvalues and eigenvectors of a symmetric matrix.

    Parameters
    ----------
    symmetric : numpy.ndarray, shape (d, d), float64

    Returns
    -------
    values : numpy.ndarray, shape (d,), float64
        Descending.
    vectors : numpy.ndarray, shape (d, d), float64
        The eigenvectors as columns. Their sign is arbitrary; here the component of largest magnitude is positive.
    """
    with one_blas_thread():
        values, vectors = np.linalg.eigh(symmetric)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.argmax(np.abs(vectors), axis=0)
    return values, vectors * np.where(vectors[largest, np.arange(len(values))] < 0, -1.0, 1.0)


@overload
def project(matrix: FloatArray, axes: Weights, mean: Weights | None = None) -> FloatArray: ...
@overload
def project(matrix: Matrix, axes: Weights, mean: Weights | None = None) -> Matrix: ...
def project(matrix: Matrix, axes: Weights, mean: Weights | None = None) -> Matrix:
    """Return ``(matrix - mean) @ axes``, computed block by block on all cores.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    axes : numpy.ndarray, shape (d, c)
    mean : numpy.ndarray, shape (d,), optional
        Subtracted from each row; 0 by default.

    Returns
    -------
    numpy.ndarray or Rows, shape (n, c), float32
        In memory if `matrix` is in memory; otherwise in memory or on disk, as its `Spool` decides.
    """
    projected = room_like(matrix, axes.shape[1])

    def project_block(start: int, stop: int) -> None:
        block = matrix[start:stop] if mean is None else matrix[start:stop] - mean
        projected[start:stop] = block @ axes

    map_blocks(project_block, len(matrix), max(1, BLOCK_NUMBERS // matrix.shape[1]))
    return projected
