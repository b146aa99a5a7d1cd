"""Rows on disk: tables and codes that are larger than memory allows, for work that goes block by block."""

from __future__ import annotations

import math
import os
import sys
import threading
from bisect import bisect_left
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from embshrink.errors import EmbshrinkError, TargetError
from embshrink.storage.arrays import FloatArray

ScalarT = TypeVar("ScalarT", bound=np.generic)

SHARE = 8  # of what is allowed, a table in memory may take the eighth part: work on it takes as much a few times
LEAST_LIMIT = 256 << 20
GAP = 16 << 10  # bytes between two rows from which on they are read one by one
RUN = 4 << 20  # bytes read at once
_POSITIONED = hasattr(os, "preadv") and hasattr(os, "pwritev")


class Spool:
    """Decides whether a table is held in memory, and makes the file for one that is not.

    Parameters
    ----------
    limit : int
        Bytes of memory that the whole process may take; at least 256 MiB.
    folder : str or os.PathLike
        Where files are put: on a disk, with room for the table. They have no name, or are gone with the process.

    Raises
    ------
    EmbshrinkError
        If the limit is too low for anything.
    """

    def __init__(self, limit, folder):
        if limit < LEAST_LIMIT:
            raise EmbshrinkError("so little memory is not enough for any table", expected=f">= {LEAST_LIMIT} bytes",
                                 found=limit, hint="The interpreter and its libraries alone take about 200 MB.")
        self.limit = limit
        self.folder = os.fspath(folder)

    def fits(self, nbytes):
        """Whether a table of so many bytes may be in memory."""
        return nbytes <= self.limit // SHARE

    def check_whole(self, nbytes):
        """Refuse to take so many bytes into memory at once if that is half of what is allowed, or more."""
        if nbytes > self.limit // 2:
            raise EmbshrinkError("a step needs the whole table in memory", expected=f"<= {self.limit // 2} bytes",
                                 found=f"{nbytes} bytes",
                                 hint="Allow more memory (--max-memory), prune first, or use ecq, pq, rq, scalar, "
                                      "iiq, cast, lowrank or prune, which work block by block.")

    def empty(self, shape, dtype=np.float32):
        """Return room for a table: an array, or `Rows` where it does not fit."""
        if self.fits(math.prod(shape) * np.dtype(dtype).itemsize):
            return np.empty(shape, dtype)
        return Rows.new(self, shape, dtype)


class _File:
    """An open file, by its descriptor; closed when the last `Rows` on it is gone."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def __del__(self):
        os.close(self.descriptor)

    def move(self, view, place, write):
        """Read or write some of `view` at a place; return how many bytes."""
        if _POSITIONED:
            return (os.pwritev if write else os.preadv)(self.descriptor, [view], place)
        with self._lock:
            os.lseek(self.descriptor, place, os.SEEK_SET)
            if write:
                return os.write(self.descriptor, view)
            data = os.read(self.descriptor, len(view))
            view[: len(data)] = data
            return len(data)


class Rows(Generic[ScalarT]):
    """An array in a file, shape (n, ...); a matrix (n, d) of float32 most of the time.

    ``rows[start:stop]``, ``rows[ids]`` and ``rows[i]`` are arrays in memory; ``rows[start:stop] = block`` writes.
    Threads may read and write side by side. What asks numpy for all of it is refused, or gets a copy, as the limit
    of memory says.

    Parameters
    ----------
    spool : Spool
    file : _File
        Held open as long as there are rows on it.
    shape : tuple of int
    dtype : numpy.dtype
    offset : int
        Where in the file the numbers begin.
    ids : numpy.ndarray, shape (n,), int64, optional
        Which rows of the file these are; the first n by default.
    """

    def __init__(self, spool, file, shape, dtype=np.float32, offset=0, ids=None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.spool, self._file, self._offset, self._ids = spool, file, offset, ids
        self._width = self.dtype.itemsize * math.prod(self.shape[1:])

    @classmethod
    def new(cls, spool, shape, dtype=np.float32):
        """Return room for an array, in a new file without a name."""
        import tempfile  # some milliseconds that a lookup need not pay

        try:
            with tempfile.TemporaryFile(buffering=0, dir=spool.folder, suffix=".embshrink") as file:
                return cls(spool, _File(os.dup(file.fileno())), shape, dtype)
        except OSError as error:
            raise _cannot_write(error, spool.folder) from error

    @classmethod
    def of_file(cls, spool, path, shape, offset):
        """Return rows of float32 that a file has, little-endian, from `offset` on; OSError if it cannot be opened."""
        return cls(spool, _File(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))), shape, offset=offset)

    def __len__(self):
        return self.shape[0]

    @property
    def nbytes(self):
        """Bytes of all rows."""
        return self.shape[0] * self._width

    @property
    def ndim(self):
        """How many axes there are."""
        return len(self.shape)

    def take(self, ids, axis=0):
        """Return these rows as `Rows` on the same file, without reading them; as `numpy.ndarray.take`."""
        ids = np.asarray(ids, np.int64)
        if self._ids is not None:
            ids = self._ids[ids]
        return Rows(self.spool, self._file, (len(ids), *self.shape[1:]), self.dtype, self._offset, ids)

    def like(self, dim):
        """Return room for as many rows of another width."""
        return self.spool.empty((len(self), dim))

    def grow(self, rows):
        """Be so many rows from now on; those that are new are to be written before they are read."""
        self.shape = (rows, *self.shape[1:])

    def __array__(self, dtype=None, copy=None):
        self.spool.check_whole(self.nbytes)
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key):
        if isinstance(key, (int, np.integer)):
            return self[np.array([key])][0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1 and self._ids is None:
                block = self._room(max(0, stop - start))
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

    def __setitem__(self, key, block):
        start, stop, step = key.indices(len(self))
        if step != 1 or self._ids is not None:
            raise IndexError("only rows that follow each other can be written")
        block = np.ascontiguousarray(np.broadcast_to(block, (stop - start, *self.shape[1:])), self.dtype)
        self._move(start, block.byteswap() if sys.byteorder == "big" else block, write=True)

    def _room(self, rows):
        return np.empty((rows, *self.shape[1:]), self.dtype)

    def _gather(self, ids):
        """Return rows of the file by number: neighbours, and those near to each other, in one go."""
        order = None if (ids[1:] >= ids[:-1]).all() else np.argsort(ids, kind="stable")
        ordered = ids if order is None else ids[order]
        found, width = self._room(len(ids)), self._width
        breaks = np.flatnonzero(np.diff(ordered) * width > GAP) + 1
        distinct = bool((ordered[1:] > ordered[:-1]).all())
        ordered = ordered.tolist()
        for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(ids)]):
            while start < stop:
                first = ordered[start]
                end = bisect_left(ordered, first + max(1, RUN // width), start, stop)
                block = self._room(ordered[end - 1] + 1 - first)
                self._read(first, block)
                if not (distinct and len(block) == end - start):
                    block = block[np.array(ordered[start:end]) - first]
                found[slice(start, end) if order is None else order[start:end]] = block
                start = end
        return found

    def _read(self, row, block):
        self._move(row, block, write=False)
        if sys.byteorder == "big":
            block.byteswap(inplace=True)

    def _move(self, row, block, write):
        """Read or write rows that follow each other, from `row` on."""
        view = memoryview(block.reshape(-1).view(np.uint8))
        place = self._offset + row * self._width
        while len(view):
            try:
                count = self._file.move(view, place, write)
            except OSError as error:
                raise _cannot_write(error, self.spool.folder) from error
            if not count:
                raise EmbshrinkError("a file of rows ends too early", path=self.spool.folder,
                                     where=f"byte {place}", expected=f"{len(view)} more bytes",
                                     found="the end of the file",
                                     hint="Check that nothing else writes to it, and run it again.")
            view, place = view[count:], place + count


Matrix: TypeAlias = FloatArray | Rows[np.float32]  # rows of vectors, in memory or on disk


def _cannot_write(error, folder):
    return TargetError(f"rows cannot be kept on disk: {error.strerror or error}", path=folder,
                       hint="Free some space there, or allow more memory (--max-memory).")


class Pile:
    """Bytes put end to end: in memory, or on disk where a matrix is.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows
    """

    def __init__(self, matrix):
        self._parts = []
        self._rows = Rows.new(matrix.spool, (0,), np.uint8) if isinstance(matrix, Rows) else None

    def add(self, data):
        """Put bytes behind those that are there."""
        if self._rows is None:
            self._parts.append(data)
            return
        used = len(self._rows)
        self._rows.grow(used + len(data))
        self._rows[used:] = np.frombuffer(data, np.uint8)

    def whole(self):
        """Return all of them, (n,) uint8, an array or `Rows`; the pile is used up."""
        if self._rows is not None:
            return self._rows
        whole, done = np.empty(sum(map(len, self._parts)), np.uint8), 0
        for number, part in enumerate(self._parts):
            whole[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
            self._parts[number] = b""  # so that all is never in memory twice
        return whole


def room_like(matrix, dim):
    """Return room for as many rows as a matrix has, in memory or on disk as it is."""
    return matrix.like(dim) if isinstance(matrix, Rows) else np.empty((len(matrix), dim), np.float32)


def on_blocks(function, matrix):
    """Return ``function(block)`` over all rows of a matrix, end to end: for what concerns each row alone."""
    size = max(1, RUN // (4 * matrix.shape[1]))
    parts = [function(matrix[start : start + size]) for start in range(0, len(matrix), size)]
    return np.concatenate(parts) if parts else function(matrix[:0])


def peak_memory():
    """Return the most bytes of memory this process has held, or None where the system does not say (Linux does)."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None
