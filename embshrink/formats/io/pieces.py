"""Content in large pieces, for parsers that need many rows in one buffer."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from embshrink.formats.io.stream import Stream
from embshrink.storage.arrays import ByteArray

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Pieces:
    """The content in large pieces; the unused end of a piece is put in front of the next one.

    While one piece is parsed, a thread reads, decompresses and hashes the next one. A source of unknown size may be a
    terminal or a slow pipe: it is read without a thread, so that Ctrl-C works at once.

    Parameters
    ----------
    stream : Stream
    size : int
        Bytes of a piece.
    room : int
        Maximum number of unused bytes at the end of a piece.

    Attributes
    ----------
    buffer : bytearray
        The piece is ``buffer[start:stop]``; the byte after it may be overwritten.
    start, stop : int
    data : numpy.ndarray, uint8
        The memory of `buffer` as an array.
    base : int
        Offset of ``buffer[0]`` in the content.
    last : bool
        Whether this is the last piece.
    """

    buffer: bytearray
    data: ByteArray
    base: int
    start: int
    stop: int

    def __init__(self, stream: Stream, size: int, room: int) -> None:
        self._stream = stream
        known = stream.content_size
        self._single = known is not None and known <= size
        self._size, self._room = (known, 0) if known is not None and self._single else (size, room)
        self._buffers = [bytearray(self._room + self._size + 1) for _ in range(1 if self._single else 2)]
        self._pool = ThreadPoolExecutor(1) if not self._single and stream.size is not None else None
        self._ahead: Future[int] | None = None
        self._read = 0
        self.last = False
        self._next(b"")

    def _fill(self, buffer: bytearray) -> int:
        return self._stream.readinto(memoryview(buffer)[self._room : self._room + self._size])

    def _next(self, rest: bytes) -> None:
        """Take the next piece, with `rest` in front of it, and start to read the one after it."""
        buffer = self._buffers[0]
        count = self._ahead.result() if self._ahead else self._fill(buffer)
        self.last = self._single or count < self._size
        self._buffers.reverse()
        if self._pool and not self.last:
            self._ahead = self._pool.submit(self._fill, self._buffers[0])
        self.start = self._room - len(rest)
        self.stop = self._room + count
        buffer[self.start : self._room] = rest
        self.base = self._read - self._room
        self._read += count
        self.buffer = buffer
        self.data = np.frombuffer(buffer, dtype=np.uint8)

    def advance(self, used: int) -> int:
        """Take the next piece, with ``buffer[used:stop]`` in front of it; return its start."""
        self._next(bytes(self.buffer[used : self.stop]))
        return self.start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
