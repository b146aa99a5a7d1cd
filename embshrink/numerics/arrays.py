"""Small functions on arrays, and all checks of dtype, shape, finiteness and contiguity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, overload

import numpy as np

from embshrink.errors import ShapeError
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.storage.disk_rows import on_blocks, room_like

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embshrink.storage.arrays import BoolArray, DoubleArray, FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix

MAX_DIM = 65_536
FLOAT32_MAX = float(np.finfo(np.float32).max)
SHORTEST, LONGEST = 2.0**-50, 2.0**50  # lengths of rows whose squares float32 holds


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
    units = matrix / norms[:, None]
    far = ~_is_ordinary(norms)
    if far.any():
        rows = matrix[far].astype(np.float64)
        units[far] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def row_norms(matrix: FloatArray) -> FloatArray:
    """Return the Euclidean length of each row, shape (n,), float32; at most the largest float32."""
    return np.minimum(row_lengths(matrix), FLOAT32_MAX).astype(np.float32)


def row_lengths(matrix: FloatArray) -> DoubleArray:
    """Return the Euclidean length of each row, shape (n,), float64.

    Sums of squares are taken in float32, and again in float64 where float32 cannot hold them.
    """
    with np.errstate(over="ignore"):
        squares: FloatArray = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float32)
    lengths: DoubleArray = np.sqrt(squares).astype(np.float64)
    far = ~_is_ordinary(lengths)
    if far.any():
        lengths[far] = np.linalg.norm(matrix[far].astype(np.float64), axis=1)
    return lengths


@overload
def comparable_rows(matrix: FloatArray) -> FloatArray: ...
@overload
def comparable_rows(matrix: Matrix) -> Matrix: ...
def comparable_rows(matrix: Matrix) -> Matrix:
    """Return rows of the same directions whose products with unit vectors float32 can hold.

    Rows that are extremely long or short are scaled to length 1. If there is none, `matrix` itself is returned.
    """
    if not on_blocks(_extreme_rows, matrix).any():
        return matrix
    comparable = room_like(matrix, matrix.shape[1])
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[start : start + BLOCK_ROWS].copy()
        far = _extreme_rows(block)
        block[far] = unit_rows(block[far])
        comparable[start : start + BLOCK_ROWS] = block
    return comparable


def _extreme_rows(matrix: FloatArray) -> BoolArray:
    """Whether each row is too long or too short, and not zero."""
    lengths = row_norms(matrix)
    return ~_is_ordinary(lengths) & (lengths > 0)


def _is_ordinary(lengths: FloatArray | DoubleArray) -> BoolArray:
    """Whether squares of rows of these lengths neither overflow float32 nor lose digits in it."""
    return (lengths >= SHORTEST) & (lengths <= LONGEST)


def cosines_of(units: FloatArray, others: FloatArray) -> FloatArray:
    """Return the cosine of each row of length 1 to the same row of another matrix, shape (n,), from -1 to 1."""
    return within_one(np.einsum("ij,ij->i", units, others))


def within_one(cosines: FloatArray) -> FloatArray:
    """Clip computed cosines, which rounding may take beyond 1, to -1 and 1, in place; return them."""
    return np.clip(cosines, -1, 1, out=cosines)


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
