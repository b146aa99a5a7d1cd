"""A binary file, parsed from front to back: every size in it is checked against the length of the file."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats.io.table_builder import plural
from embshrink.storage.disk_rows import Rows

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress
    from embshrink.storage.arrays import Shape
    from embshrink.storage.disk_rows import Spool

ScalarT = TypeVar("ScalarT", bound=np.generic)

F4, I4, U1 = np.dtype("<f4"), np.dtype("<i4"), np.dtype(np.uint8)  # number types of the files
PIECE = 4 << 20
CUT = "The file is truncated, or a size stored in it is wrong: download it again."
UNCHANGED = "Check that no other program writes to the file, and try again."


class Cursor:
    """The content of a file, from front to back; every size is checked against the length of the file.

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the source.
    kind : str
        Kind of the file, for messages: "fastText model".

    Attributes
    ----------
    offset : int
        The next byte.
    ended : bool
        Whether the last error was that the file ends early.
    """

    def __init__(self, stream: Stream, progress: Progress | None, kind: str) -> None:
        self.path = stream.path
        self.damaged = f"The file is damaged or not a {kind}: download it again."
        self.offset = 0
        self.ended = False
        self._stream = stream
        self._progress = progress
        self._ahead = b""
        mapped = stream.file_path is not None and stream.packed is None and stream.content_size is not None
        self._map_path = stream.file_path if mapped else None

    def error(
        self, problem: str, byte: int, hint: str | None = None, *, expected: object = None, found: object = None
    ) -> SourceError:
        """Return the error for a fault at a byte."""
        return SourceError(problem, path=self.path, where=f"byte {byte}", expected=expected, found=found,
                           hint=hint or self.damaged)

    def check(
        self, right: bool, problem: str, byte: int, expected: object, found: object, hint: str | None = None
    ) -> None:
        """Raise the error for a fault at a byte unless `right`."""
        if not right:
            raise self.error(problem, byte, hint, expected=expected, found=found)

    def require(self, count: int, what: str) -> None:
        """Refuse the file if its known length ends within the next `count` bytes."""
        size = self._stream.content_size
        if size is not None and count > size - self.offset:
            raise self._ends(what, self.offset, count, size - self.offset)

    def _ends(self, what: str, byte: int, expected: int, found: int) -> SourceError:
        self.ended = True
        return self.error(f"the file ends in {what}", byte, CUT, expected=plural(expected, "byte"), found=found)

    def some(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer at the end of the file."""
        data = bytearray(count)
        return bytes(data[: self._into(memoryview(data))])

    def back(self, data: bytes) -> None:
        """Push back bytes that were just taken."""
        self._ahead = data + self._ahead
        self.offset -= len(data)

    def _into(self, view: memoryview) -> int:
        ready = min(len(self._ahead), len(view))
        view[:ready] = self._ahead[:ready]
        self._ahead = self._ahead[ready:]
        count = ready + self._stream.readinto(view[ready:])
        self.offset += count
        if self._progress:
            self._progress("read", self._stream.done, self._stream.size)
        return count

    def exactly(self, count: int, what: str) -> bytes:
        """Return the next `count` bytes; refuse the file if it ends before."""
        self.require(count, what)
        start = self.offset
        data = self.some(count)
        if len(data) < count:
            raise self._ends(what, start, count, len(data))
        return data

    def unpack(self, layout: str, what: str) -> tuple[int, ...]:
        """Return the integers of a `struct` layout."""
        return struct.unpack(layout, self.exactly(struct.calcsize(layout), what))

    def flag(self, what: str) -> bool:
        """Return a byte that must be 0 or 1, as a bool; `what` is its name in messages."""
        (value,) = self.unpack("<B", what)
        self.check(value < 2, f"{what} is out of range", self.offset - 1, "0 or 1", value)
        return bool(value)

    def array(
        self, shape: Shape, dtype: np.dtype[ScalarT], what: str, mapped: bool = True
    ) -> np.ndarray[tuple[int, ...], np.dtype[ScalarT]]:
        """Return the next array: memory-mapped if possible, else in memory.

        Memory is allocated as bytes arrive, never by the size that a header states.
        """
        count = math.prod(shape)
        total = count * dtype.itemsize
        self.require(total, what)
        start = self.offset
        if mapped and self._map_path is not None:
            self.skip(total, what)
            return self._map(self._map_path, start, shape, dtype, what)
        values = np.empty(min(count, PIECE), dtype)
        done = 0
        while done < count:
            if done == len(values):
                values.resize(min(count, 2 * done), refcheck=False)
            piece = values[done : done + PIECE].view(np.uint8)
            if self._into(memoryview(piece)) < len(piece):
                raise self._ends(what, start, total, self.offset - start)
            done += len(piece) // dtype.itemsize
            del piece
        values.resize(shape, refcheck=False)
        return values

    def rows(self, shape: tuple[int, int], what: str, spool: Spool) -> Rows[np.float32]:
        """Return the next float32 matrix as `Rows` on disk, in this file or in a temporary one."""
        rows, dim = shape
        self.require(4 * rows * dim, what)
        start = self.offset
        if self._map_path is not None:
            self.skip(4 * rows * dim, what)
            try:
                return Rows.of_file(spool, self._map_path, shape, start)
            except OSError as error:
                raise self.error(f"{what} cannot be opened again: {error}", start,
                                 UNCHANGED) from error
        matrix = Rows.new(spool, (0, dim))
        step = max(1, PIECE // dim)
        for first in range(0, rows, step):
            block = np.empty((min(step, rows - first), dim), "<f4")
            if self._into(memoryview(block.reshape(-1).view(np.uint8))) < block.nbytes:
                raise self._ends(what, start, 4 * rows * dim, self.offset - start)
            matrix.grow(first + len(block))
            matrix[first : first + len(block)] = block
        return matrix

    def _map(
        self, path: str, start: int, shape: Shape, dtype: np.dtype[ScalarT], what: str
    ) -> np.ndarray[tuple[int, ...], np.dtype[ScalarT]]:
        try:
            return np.asarray(np.memmap(path, dtype, "r", start, shape))
        except (OSError, ValueError) as error:  # the file was replaced meanwhile, or is too large to map
            raise self.error(f"{what} cannot be mapped: {error}", start,
                             UNCHANGED) from error

    def skip(self, total: int, what: str) -> None:
        """Skip bytes; they are still read, for the hash of the file."""
        self.require(total, what)
        start = self.offset
        view = memoryview(bytearray(min(total, PIECE)))
        while self.offset - start < total:
            part = view[: total - (self.offset - start)]
            if self._into(part) < len(part):
                raise self._ends(what, start, total, self.offset - start)
