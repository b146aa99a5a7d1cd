"""Rows on disk: tables and codes that are too large for memory, processed in blocks."""

from __future__ import annotations

import math
import os
import sys
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, overload

import numpy as np

from embshrink.errors import EmbshrinkError, TargetError
from embshrink.storage.arrays import ByteArray, FloatArray, IntArray, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

    from embshrink.storage.arrays import AnyArray, BoolArray

ScalarT = TypeVar("ScalarT", bound=np.generic)
ScalarT_co = TypeVar("ScalarT_co", bound=np.generic, covariant=True)
Array: TypeAlias = np.ndarray[Shape, np.dtype[ScalarT]]

SHARE = 8  # a table in memory may take 1/8 of the limit: processing it needs several times its size
LEAST_LIMIT = 256 << 20
GAP = 16 << 10  # rows farther apart than this many bytes are read one by one
RUN = 4 << 20  # bytes read at once
_POSITIONED = hasattr(os, "preadv") and hasattr(os, "pwritev")


class Spool:
    """Decides whether a table is held in memory or in a temporary file.

    Parameters
    ----------
    limit : int
        Maximum memory of the whole process in bytes; at least 256 MiB.
    folder : str or os.PathLike
        Folder of the temporary files, on a disk with space for the table. They are removed when the process ends.

    Raises
    ------
    EmbshrinkError
        If the limit is less than 256 MiB.
    """

    def __init__(self, limit: int, folder: str | os.PathLike[str]) -> None:
        if limit < LEAST_LIMIT:
            raise EmbshrinkError("max_memory is too small", expected=f">= {LEAST_LIMIT} bytes", found=limit,
                                 hint="Raise --max-memory (max_memory=): Python and its libraries alone take about "
                                      "200 MB.")
        self.limit = limit
        self.folder = os.fspath(folder)

    def fits(self, nbytes: int) -> bool:
        """Return whether a table of `nbytes` bytes may be held in memory."""
        return nbytes <= self.limit // SHARE

    def check_whole(self, nbytes: int) -> None:
        """Check that `nbytes` bytes may be copied into memory at once.

        Raises
        ------
        EmbshrinkError
            If `nbytes` is more than half of the memory limit.
        """
        if nbytes > self.limit // 2:
            raise EmbshrinkError("a step needs the whole table in memory", expected=f"<= {self.limit // 2} bytes",
                                 found=f"{nbytes} bytes",
                                 hint="Raise --max-memory (max_memory=), prune first, or use methods that work in "
                                      "blocks: ecq, pq, rq, scalar, iiq, cast, magnitude:scope=row, lowrank, prune.")

    @overload
    def empty(self, shape: Shape) -> FloatArray | Rows[np.float32]: ...
    @overload
    def empty(self, shape: Shape, dtype: type[ScalarT] | np.dtype[ScalarT]) -> Array[ScalarT] | Rows[ScalarT]: ...
    def empty(self, shape: Shape, dtype: DTypeLike = np.float32) -> AnyArray | Rows[np.generic]:
        """Return an uninitialized table: an array, or `Rows` if it does not fit in memory."""
        if self.fits(math.prod(shape) * np.dtype(dtype).itemsize):
            return np.empty(shape, dtype)
        return Rows.new(self, shape, np.dtype(dtype))


class _File:
    """An open file descriptor; closed when the last `Rows` of the file is deleted."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self.descriptor)

    def move(self, view: memoryview, position: int, write: bool) -> int:
        """Read into `view`, or write it, at a position of the file; return the number of bytes read or written."""
        if _POSITIONED:
            return (os.pwritev if write else os.preadv)(self.descriptor, [view], position)
        with self._lock:
            os.lseek(self.descriptor, position, os.SEEK_SET)
            if write:
                return os.write(self.descriptor, view)
            data = os.read(self.descriptor, len(view))
            view[: len(data)] = data
            return len(data)


class Rows(Generic[ScalarT_co]):
    """An array in a file, shape (n, ...); mostly a float32 matrix, shape (n, d).

    ``rows[start:stop]``, ``rows[ids]`` and ``rows[i]`` read rows into arrays in memory; ``rows[start:stop] = block``
    writes rows. Threads may read and write at the same time. ``numpy.asarray(rows)`` copies all rows into memory if
    the memory limit allows it, and raises `EmbshrinkError` otherwise.

    Parameters
    ----------
    spool : Spool
    file : _File
        Stays open as long as there are `Rows` of it.
    shape : tuple of int
    dtype : numpy.dtype
    offset : int
        Byte offset of the first row in the file.
    ids : numpy.ndarray, shape (n,), int64, optional
        Which rows of the file these are; the first n by default.
    """

    def __init__(self, spool: Spool, file: _File, shape: Shape, dtype: np.dtype[ScalarT_co], offset: int = 0,
                 ids: IntArray | None = None) -> None:
        self.shape, self.dtype = shape, dtype
        self.spool, self._file, self._offset, self._ids = spool, file, offset, ids
        self._width = self.dtype.itemsize * math.prod(self.shape[1:])

    @overload
    @staticmethod
    def new(spool: Spool, shape: Shape) -> Rows[np.float32]: ...
    @overload
    @staticmethod
    def new(spool: Spool, shape: Shape, dtype: type[ScalarT] | np.dtype[ScalarT]) -> Rows[ScalarT]: ...
    @staticmethod
    def new(spool: Spool, shape: Shape, dtype: DTypeLike = np.float32) -> Rows[np.generic]:
        """Return uninitialized rows in a new temporary file; raise TargetError if it cannot be created."""
        import tempfile  # takes some milliseconds, which a lookup does not need

        try:
            with tempfile.TemporaryFile(buffering=0, dir=spool.folder, suffix=".embshrink") as file:
                return Rows(spool, _File(os.dup(file.fileno())), shape, np.dtype(dtype))
        except OSError as error:
            raise _cannot_write(error, spool.folder) from error

    @staticmethod
    def of_file(spool: Spool, path: str | os.PathLike[str], shape: Shape, offset: int) -> Rows[np.float32]:
        """Return the little-endian float32 rows of a file from byte `offset` on; OSError if it cannot be opened."""
        file = _File(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
        return Rows(spool, file, shape, np.dtype(np.float32), offset)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self._width

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def take(self, ids: IntArray | Sequence[int], axis: int = 0) -> Rows[ScalarT_co]:
        """Return some rows as `Rows` of the same file, without reading them; as `numpy.ndarray.take`."""
        ids = np.asarray(ids, np.int64)
        if self._ids is not None:
            ids = self._ids[ids]
        return Rows(self.spool, self._file, (len(ids), *self.shape[1:]), self.dtype, self._offset, ids)

    def like(self, dim: int) -> FloatArray | Rows[np.float32]:
        """Return an uninitialized float32 table with as many rows and `dim` columns."""
        return self.spool.empty((len(self), dim))

    def grow(self, rows: int) -> None:
        """Resize to `rows`; write new rows before reading them."""
        self.shape = (rows, *self.shape[1:])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        self.spool.check_whole(self.nbytes)
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: int | slice | IntArray | BoolArray | Sequence[int]) -> Array[ScalarT_co]:
        if isinstance(key, (int, np.integer)):
            return np.asarray(self[np.array([key])][0])
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1 and self._ids is None:
                block = self._empty(max(0, stop - start))
                self._read(start, block)
                return block
            key = np.arange(start, stop, step)
        ids = np.asarray(key)
        if ids.dtype == bool:
            ids = np.flatnonzero(ids)
        ids = np.where(ids < 0, ids + len(self), ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < len(self):
            raise IndexError(f"rows are 0 to {len(self) - 1}")
        return self._gather(ids if self._ids is None else self._ids[ids])

    def __setitem__(self, key: slice, block: AnyArray) -> None:
        start, stop, step = key.indices(len(self))
        if step != 1 or self._ids is not None:
            raise IndexError("only consecutive rows can be written")
        block = np.ascontiguousarray(np.broadcast_to(block, (stop - start, *self.shape[1:])), self.dtype)
        self._move(start, block.byteswap() if sys.byteorder == "big" else block, write=True)

    def _empty(self, rows: int) -> Array[ScalarT_co]:
        return np.empty((rows, *self.shape[1:]), self.dtype)

    def _gather(self, ids: IntArray) -> Array[ScalarT_co]:
        """Return rows of the file by number; nearby rows are read together."""
        order = None if (ids[1:] >= ids[:-1]).all() else np.argsort(ids, kind="stable")
        ordered = ids if order is None else ids[order]
        found, width = self._empty(len(ids)), self._width
        breaks = np.flatnonzero(np.diff(ordered) * width > GAP) + 1
        distinct = bool((ordered[1:] > ordered[:-1]).all())
        numbers: list[int] = ordered.tolist()
        for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(ids)]):
            while start < stop:
                first = numbers[start]
                end = bisect_left(numbers, first + max(1, RUN // width), start, stop)
                block = self._empty(numbers[end - 1] + 1 - first)
                self._read(first, block)
                if not (distinct and len(block) == end - start):
                    block = block[ordered[start:end] - first]
                found[slice(start, end) if order is None else order[start:end]] = block
                start = end
        return found

    def _read(self, row: int, block: Array[ScalarT_co]) -> None:
        """Read consecutive rows of the file into `block`, from number `row` on."""
        self._move(row, block, write=False)
        if sys.byteorder == "big":
            block.byteswap(inplace=True)

    def _move(self, row: int, block: AnyArray, write: bool) -> None:
        """Read or write consecutive rows of the file, from number `row` on, in the byte order of the file."""
        view = memoryview(block.reshape(-1).view(np.uint8))
        position = self._offset + row * self._width
        while len(view):
            try:
                count = self._file.move(view, position, write)
            except OSError as error:
                raise _cannot_write(error, self.spool.folder) from error
            if not count:
                raise EmbshrinkError("a file of rows ends too early", path=self.spool.folder,
                                     where=f"byte {position}", expected=f"{len(view)} more bytes",
                                     found="the end of the file",
                                     hint="Check that no other program writes to the file, and try again.")
            view, position = view[count:], position + count


Matrix: TypeAlias = FloatArray | Rows[np.float32]  # rows of vectors, in memory or on disk


def _cannot_write(error: OSError, folder: str) -> TargetError:
    return TargetError(f"rows cannot be kept on disk: {error.strerror or error}", path=folder,
                       hint="Free disk space in this folder, or raise --max-memory (max_memory=).")


class Pile:
    """Concatenates bytes: in memory, or on disk if `matrix` is on disk.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows
    """

    def __init__(self, matrix: Matrix) -> None:
        self._parts: list[bytes] = []
        self._rows = Rows.new(matrix.spool, (0,), np.uint8) if isinstance(matrix, Rows) else None

    def add(self, data: bytes) -> None:
        """Append bytes."""
        if self._rows is None:
            self._parts.append(data)
            return
        used = len(self._rows)
        self._rows.grow(used + len(data))
        self._rows[used:] = np.frombuffer(data, np.uint8)

    def whole(self) -> ByteArray | Rows[np.uint8]:
        """Return all bytes, shape (n,), uint8, as an array or `Rows`; the pile cannot be used after that."""
        if self._rows is not None:
            return self._rows
        whole, done = np.empty(sum(map(len, self._parts)), np.uint8), 0
        for number, part in enumerate(self._parts):
            whole[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
            self._parts[number] = b""  # free each part, to keep only one copy in memory
        return whole


@overload
def room_like(matrix: FloatArray, dim: int) -> FloatArray: ...
@overload
def room_like(matrix: Matrix, dim: int) -> Matrix: ...
def room_like(matrix: Matrix, dim: int) -> Matrix:
    """Return an uninitialized float32 table with as many rows as `matrix`, in memory or on disk as `matrix` is."""
    return matrix.like(dim) if isinstance(matrix, Rows) else np.empty((len(matrix), dim), np.float32)


def on_blocks(function: Callable[[FloatArray], Array[ScalarT]], matrix: Matrix) -> Array[ScalarT]:
    """Return ``function(matrix)``, computed in blocks of rows; `function` must treat each row independently."""
    size = max(1, RUN // (4 * matrix.shape[1]))
    parts = [function(matrix[start : start + size]) for start in range(0, len(matrix), size)]
    return np.concatenate(parts) if parts else function(matrix[:0])


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system does not report it (Linux does)."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None
