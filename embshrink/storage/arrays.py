"""Type names of arrays, and the interface of an array that may be on disk."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import numpy as np

# The same as numpy.typing.NDArray[...], whose import would slow down opening a file.
AnyArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
FloatArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
DoubleArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
IntArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
BoolArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
ByteArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

RealArray: TypeAlias = FloatArray | DoubleArray  # vectors as a caller may pass them

Shape: TypeAlias = tuple[int, ...]
Layout: TypeAlias = dict[str, tuple[np.dtype[np.generic], Shape]]  # dtype and shape of planned arrays, by name


class StoredArray(Protocol):
    """An array in memory, a section of an open file, or rows on disk.

    Indexing rows gives arrays in memory; ``numpy.asarray`` gives the whole array.
    """

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the array."""

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice | IntArray, /) -> AnyArray: ...

    def __array__(self) -> AnyArray: ...


def layout_bytes(layout: Layout) -> int:
    """Return the total bytes of planned arrays, without padding."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in layout.values())
