"""A source as given: read once from front to back, and counted and hashed while it is read."""

from __future__ import annotations

import hashlib
import io
from typing import Protocol, cast

from embshrink.errors import SourceError

CHUNK = 1 << 18


class BinaryFile(Protocol):
    """A binary file that the caller has opened."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read the next bytes into `buffer`; return their number, 0 at the end."""


class SeekableFile(BinaryFile, Protocol):
    """A binary file that is not a pipe."""

    def seekable(self) -> bool:
        """Whether it supports `seek`."""

    def tell(self) -> int:
        """Return the offset of the next byte."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, or all that remain."""

    def close(self) -> None:
        """Close it."""


class Content(Protocol):
    """Uncompressed content, read from front to back."""

    @property
    def done(self) -> int:
        """Bytes of the source, as given, read so far."""

    @property
    def packed_size(self) -> int:
        """Upper bound of the source bytes of the content read so far, for the expansion ratio."""

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into the front of `view`; return their number, 0 at the end."""


class RawFile:
    """A file as given, counted and hashed while it is read.

    Only zip archives are read out of order; a separate pass hashes them.

    Parameters
    ----------
    file : BinaryFile
    path : str
        For messages.

    Attributes
    ----------
    done : int
        Bytes read so far.
    """

    def __init__(self, file: BinaryFile, path: str) -> None:
        self.file = cast("SeekableFile", file)  # only `readinto` is called unless `seekable`
        self.path = path
        self.done = 0
        self._sha256 = hashlib.sha256()
        self._unread = b""
        self._whole: tuple[int, str] | None = None
        self._origin: int | None = None
        try:
            if self.file.seekable():
                self._origin = self.file.tell()
        except (OSError, AttributeError):  # the caller's object may have only `readinto`
            pass

    @property
    def seekable(self) -> bool:
        """Whether the file supports `seek`."""
        return self._origin is not None

    @property
    def packed_size(self) -> int:
        """As for `Content`."""
        return self.done

    def remaining(self) -> int | None:
        """Bytes from here to the end, or None if they are unknown before reading."""
        if self._origin is None:
            return None
        end = self.file.seek(0, io.SEEK_END)
        self.file.seek(self._origin)
        return end - self._origin or None  # 0 may be a device, whose size is unknown

    def unread(self, data: bytes) -> None:
        """Push back `data`, which was just read."""
        self._unread = data

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into the front of `view`; return their number, 0 at the end."""
        if self._unread:
            count = min(len(self._unread), len(view))
            view[:count] = self._unread[:count]
            self._unread = self._unread[count:]
            return count
        try:
            count = self.file.readinto(view) or 0
        except OSError as error:
            raise SourceError(f"cannot read the file: {error.strerror or error}", path=self.path,
                              where=f"byte {self.done}", hint="Check the disk, or copy the file again.") from error
        self._sha256.update(view[:count])
        self.done += count
        return count

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer at the end."""
        data = bytearray(size)
        filled = 0
        while filled < size:
            count = self.readinto(memoryview(data)[filled:])
            if not count:
                break
            filled += count
        return bytes(data[:filled])

    def identity(self) -> tuple[int, str]:
        """Read the source to its end; return its size and SHA-256."""
        if self._whole is None:
            self._unread = b""
            view = memoryview(bytearray(CHUNK))
            while self.readinto(view):
                pass
            self._whole = self.done, self._sha256.hexdigest()
        return self._whole
