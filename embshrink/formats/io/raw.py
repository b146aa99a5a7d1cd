"""A source as it was given: read once from front to back, counted and hashed as it goes by."""

from __future__ import annotations

import hashlib
import io
from typing import Protocol, cast

from embshrink.errors import SourceError

CHUNK = 1 << 18


class BinaryFile(Protocol):
    """A binary file that the caller has opened."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` with what comes next; return how many bytes, 0 at the end."""


class SeekableFile(BinaryFile, Protocol):
    """What a file can do beside, if it is not a pipe."""

    def seekable(self) -> bool:
        """Whether it can be read out of order."""

    def tell(self) -> int:
        """Return the place of the next byte."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""

    def close(self) -> None:
        """Close it."""


class Content(Protocol):
    """Uncompressed content, read from front to back."""

    @property
    def done(self) -> int:
        """Bytes of the source, as it was given, read so far."""

    @property
    def packed_size(self) -> int:
        """Bytes of the source that what was read so far takes at most: to tell how far content expands."""

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view` with what comes next; return how many bytes, 0 at the end."""


class RawFile:
    """A file as given: counted and hashed as it goes by.

    Only zip archives are read out of order; they are hashed by a pass of their own.

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
        except (OSError, AttributeError):  # an object of the caller's may have `readinto` alone
            pass

    @property
    def seekable(self) -> bool:
        """Whether the file can be read out of order."""
        return self._origin is not None

    @property
    def packed_size(self) -> int:
        """As for `Content`."""
        return self.done

    def remaining(self) -> int | None:
        """Bytes from here to the end, or None where only reading tells."""
        if self._origin is None:
            return None
        end = self.file.seek(0, io.SEEK_END)
        self.file.seek(self._origin)
        return end - self._origin or None  # 0 may be a device: its size is not known

    def unread(self, data: bytes) -> None:
        """Put `data`, just read, back in front."""
        self._unread = data

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view` with what comes next; return how many bytes, 0 at the end."""
        if self._unread:
            count = min(len(self._unread), len(view))
            view[:count] = self._unread[:count]
            self._unread = self._unread[count:]
            return count
        try:
            count = self.file.readinto(view) or 0
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}", path=self.path,
                              where=f"byte {self.done}", hint="Check the disk, or copy the file anew.") from error
        self._sha256.update(view[:count])
        self.done += count
        return count

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        data = bytearray(size)
        filled = 0
        while filled < size:
            count = self.readinto(memoryview(data)[filled:])
            if not count:
                break
            filled += count
        return bytes(data[:filled])

    def identity(self) -> tuple[int, str]:
        """Return size and SHA-256 of the whole source, reading what is left of it."""
        if self._whole is None:
            self._unread = b""
            view = memoryview(bytearray(CHUNK))
            while self.readinto(view):
                pass
            self._whole = self.done, self._sha256.hexdigest()
        return self._whole
