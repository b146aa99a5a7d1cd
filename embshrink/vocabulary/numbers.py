"""Whole numbers of a fixed width in bits, packed end to end, the lowest bit of a byte first."""

from __future__ import annotations

import numpy as np

from embshrink.storage.arrays import ByteArray, IntArray, StoredArray

GROUPS_AT_ONCE = 1 << 15  # groups packed at a time
PER_GROUP = 8  # numbers: a group of 8 numbers of b bits fills b bytes


def width_of(n: int) -> int:
    """Return how many bits hold the numbers 0 to n - 1."""
    return max(0, n - 1).bit_length()


def packed_bytes(n: int, width: int) -> int:
    """Return how many bytes n packed numbers take."""
    return -(-n * width // 8)


def pack_numbers(values: IntArray, width: int) -> ByteArray:
    """Pack numbers.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,), int64
        0 to 2**width - 1.
    width : int
        Bits of each number, 0 to 62.

    Returns
    -------
    numpy.ndarray, shape (ceil(n * width / 8),), uint8
        Spare bits of the last byte are 0.

    Examples
    --------
    >>> pack_numbers(np.array([1, 2, 3]), 4)
    array([33,  3], dtype=uint8)
    """
    packed = np.zeros((-(-len(values) // PER_GROUP), width), np.uint8)
    for first in range(0, len(packed), GROUPS_AT_ONCE):
        _pack_groups(values[first * PER_GROUP : (first + GROUPS_AT_ONCE) * PER_GROUP],
                     packed[first : first + GROUPS_AT_ONCE])
    return packed.ravel()[: packed_bytes(len(values), width)]


def _pack_groups(values: IntArray, packed: ByteArray) -> None:
    """Pack numbers into groups (k, width) of zeros."""
    width = packed.shape[1]
    groups = np.zeros((len(packed), PER_GROUP), np.int64)
    groups.ravel()[: len(values)] = values
    for number in range(PER_GROUP):
        start = number * width
        for byte in range(start // 8, -(-(start + width) // 8)):
            shift = 8 * byte - start  # of this byte's lowest bit inside the number
            part = groups[:, number] >> shift if shift >= 0 else groups[:, number] << -shift
            packed[:, byte] |= (part & 255).astype(np.uint8)


def read_number(packed: StoredArray, index: int, width: int) -> int:
    """Return one of the numbers that `pack_numbers` packed."""
    start = index * width
    chunk = int.from_bytes(packed[start // 8 : (start + width + 7) // 8].tobytes(), "little")
    return chunk >> start % 8 & (1 << width) - 1


def unpack_numbers(packed: StoredArray, n: int, width: int) -> IntArray:
    """Return all n numbers that `pack_numbers` packed, shape (n,), int64."""
    groups = np.zeros((-(-n // PER_GROUP), width), np.uint8)
    groups.ravel()[: packed_bytes(n, width)] = np.asarray(packed)
    values = np.zeros((len(groups), PER_GROUP), np.int64)
    for number in range(PER_GROUP):
        start = number * width
        for byte in range(start // 8, -(-(start + width) // 8)):
            shift = 8 * byte - start
            part = groups[:, byte].astype(np.int64)
            values[:, number] |= part << shift if shift >= 0 else part >> -shift
        values[:, number] &= (1 << width) - 1
    return values.ravel()[:n]
