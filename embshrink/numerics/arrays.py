"""Small functions on arrays, and all checks of dtype, shape, finiteness and contiguity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embshrink.storage.arrays import FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix

MAX_DIM = 65_536


def as_matrix(values: ArrayLike, name: str = "matrix") -> FloatArray:
    """Return `values` as a C-contiguous float32 matrix with finite values.

    Parameters
    ----------
    values : array_like, shape (n, d)
        Any real dtype; copied only if necessary.
    name : str
        Name of the matrix in messages.

    Returns
    -------
    numpy.ndarray, shape (n, d), float32

    Raises
    ------
    ShapeError
        If `values` is not two-dimensional, has no column or more than 65,536, does not hold real numbers, or holds a
        NaN, an infinity, or a number too large for float32.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] < 1:
        raise ShapeError(f"{name} has the wrong shape", expected="(rows, dim) with dim >= 1", found=array.shape,
                         hint="Pass a two-dimensional array with one vector per row.")
    if array.shape[1] > MAX_DIM:
        raise ShapeError(f"{name} has too many columns", expected=f"dim <= {MAX_DIM}", found=array.shape[1])
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{name} does not hold real numbers", expected="float32", found=array.dtype,
                         hint="Convert it with numpy.asarray(values, numpy.float32).")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    row = first_nonfinite(array)
    if row >= 0:
        raise ShapeError(
            f"{name} holds a NaN or an infinity", expected="finite float32 values", found=f"row {row}",
            hint="Drop these rows or set them to zero first. For a file, nonfinite='drop' or 'zero' does so "
                 "(command line: --nonfinite).",
        )
    return array


def first_nonfinite(matrix: Matrix) -> int:
    """Return the index of the first row that holds a NaN or an infinity, or -1."""
    for start in range(0, len(matrix), 65_536):
        block = matrix[start : start + 65_536]
        # The sum is finite unless a value is not, or, rarely, the sum overflows. Only then check each row.
        with np.errstate(invalid="ignore"):  # inf - inf, or a signalling NaN
            total = block.sum(dtype=np.float64)
        if not np.isfinite(total):
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if bad.size:
                return start + int(bad[0])
    return -1


def narrowest_uint(maximum: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest unsigned integer dtype that can hold `maximum`."""
    kinds: tuple[type[np.unsignedinteger], ...] = (np.uint8, np.uint16, np.uint32)
    return np.dtype(next((kind for kind in kinds if maximum <= np.iinfo(kind).max), np.uint64))


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Return the integers of many ranges in one array, one range after the other.

    Parameters
    ----------
    starts : numpy.ndarray, shape (n,), int64
        First integer of each range.
    lengths : numpy.ndarray, shape (n,), int64
        Number of integers in each range; 0 or more.

    Returns
    -------
    numpy.ndarray, shape (sum of lengths,), int64

    Examples
    --------
    >>> ranges(np.array([10, 3, 7]), np.array([3, 0, 2]))
    array([10, 11, 12,  7,  8])
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    # Range i begins at position ends[i] - lengths[i]; so position p holds starts[i] + p - (ends[i] - lengths[i]).
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


def unit_rows(matrix: FloatArray) -> FloatArray:
    """Return the rows of `matrix` scaled to Euclidean length 1; a zero row stays zero.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32

    Returns
    -------
    numpy.ndarray, shape (n, d), float32
    """
    norms = row_norms(matrix)
    norms[norms == 0] = 1
    return matrix / norms[:, None]


def row_norms(matrix: FloatArray) -> FloatArray:
    """Return the Euclidean length of each row, shape (n,), float32."""
    squares: FloatArray = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float32)
    return np.sqrt(squares)


def cosine(first: FloatArray, second: FloatArray) -> float:
    """Return the cosine of two vectors, (d,), computed in float64, from -1 to 1; 0 if one of them is zero.

    The cosine of a vector with itself is exactly 1.
    """
    one, two = first.astype(np.float64), second.astype(np.float64)
    squares = float(one @ one) * float(two @ two)
    return min(max(float(one @ two) / math.sqrt(squares), -1.0), 1.0) if squares else 0.0


def stable_product(matrix: FloatArray, basis: FloatArray) -> FloatArray:
    """Return ``matrix @ basis`` such that the bits of a row do not depend on the other rows.

    BLAS chooses its order of summation by the shape of the whole product, so a row decoded alone
    could differ in the last bit from the same row decoded with others. Here the order is fixed.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (k, c), float32
    basis : numpy.ndarray, shape (c, d), float32

    Returns
    -------
    numpy.ndarray, shape (k, d), float32
    """
    product: FloatArray = np.einsum("ij,jk->ik", matrix, basis)
    return product
