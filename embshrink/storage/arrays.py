"""Names for the types of arrays, and what an array that may be on disk can be asked for."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import numpy as np

# numpy.typing.NDArray[...], without the import: opening a file need not pay for it.
AnyArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
FloatArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
DoubleArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
IntArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
BoolArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
ByteArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

RealArray: TypeAlias = FloatArray | DoubleArray  # what callers may give as vectors

Shape: TypeAlias = tuple[int, ...]
Layout: TypeAlias = dict[str, tuple[np.dtype[np.generic], Shape]]  # of arrays that are planned, by name


class StoredArray(Protocol):
    """An array in memory, a section of an open file, or rows on disk.

    Rows come out as arrays in memory; ``numpy.asarray`` gives all of it.
    """

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of its numbers."""

    @property
    def shape(self) -> Shape:
        """Lengths of its axes."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice | IntArray, /) -> AnyArray: ...

    def __array__(self) -> AnyArray: ...


def layout_bytes(layout: Layout) -> int:
    """Return the bytes of planned arrays, without padding."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in layout.values())
