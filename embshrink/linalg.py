"""Principal axes of a table, from its small matrix of column products; the same at any number of threads."""

from __future__ import annotations

import numpy as np

from embshrink.parallel import map_blocks, one_blas_thread

NUMBERS = 1 << 20  # in a block


def column_means(matrix, weights=None):
    """Return the mean of the rows of a matrix, (d,) float32; `weights`, if given, add up to 1."""
    if weights is None:
        return matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.einsum("i,ij->j", weights, matrix).astype(np.float32)


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
    return sum(map_blocks(part, len(matrix), max(NUMBERS // d, 4 * d)))  # all results together stay small


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
    """Return ``(matrix - mean) @ axes``, (n, c) float32, block by block on all cores."""
    projected = np.empty((len(matrix), axes.shape[1]), np.float32)

    def part(start, stop):
        block = matrix[start:stop] if mean is None else matrix[start:stop] - mean
        np.matmul(block, axes, out=projected[start:stop])

    map_blocks(part, len(matrix), max(1, NUMBERS // matrix.shape[1]))
    return projected
