"""Decompression with bounded memory: gzip, bzip2, xz, Zstandard, and one file of a zip archive.

The compression is detected from the first bytes of a file, never by its name. Nothing is written to disk, and a name
from inside an archive appears only in messages.
"""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import NoReturn, Protocol, cast

from embshrink.errors import SourceError, need
from embshrink.formats.base import ReadOptions
from embshrink.formats.io.raw import CHUNK, BinaryFile, RawFile
from embshrink.formats.io.table_builder import DAMAGED, INCOMPLETE, RIGHT_FILE, plural

MAX_XZ_MEMORY = 512 << 20
MAX_ZSTD_WINDOW = 128 << 20
# Zstandard's decompressor does not limit its output; 4 KiB of input give at most 128 MiB.
ZSTD_SIP = 1 << 12


def packing(head: bytes) -> str | None:
    """Return the name of the compression `head` begins with ("gzip", "bzip2", "xz", "zip", "zstd"), or None."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    # A Zstandard file may begin with a skippable frame, as those of pzstd do.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"*M\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return None


# ---------------------------------------------------------------- one file, compressed


class _Decompressor(Protocol):
    """The interface that the decompressors of bz2 and lzma share."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed data was reached."""

    @property
    def unused_data(self) -> bytes:
        """The bytes after that end."""

    @property
    def needs_input(self) -> bool:
        """Whether `decompress` returns nothing more without new data."""

    def decompress(self, data: bytes, most: int, /) -> bytes:
        """Return at most `most` bytes of content."""


class _Zlib:
    """zlib's decompressor with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, most: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


class _Zstd:
    """Zstandard's decompressor with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        need("reading a Zstandard file", "zstandard", extra="zstd")
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()
        self._data = self._out = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._out

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._data

    @property
    def needs_input(self) -> bool:
        return not self._out and not self._data

    def decompress(self, data: bytes, most: int, /) -> bytes:
        self._data += data
        while self._data and not self._out and not self._inner.eof:
            sip, self._data = self._data[:ZSTD_SIP], self._data[ZSTD_SIP:]
            self._out = self._inner.decompress(sip)
        out, self._out = self._out[:most], self._out[most:]
        return out


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _Zlib,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY),
    "zstd": _Zstd,
}


class Unpacked:
    """The content of a gzip, bzip2, xz or Zstandard file, all its members concatenated.

    Parameters
    ----------
    raw : RawFile
    kind : str
        The compression, as `packing` returns it.
    path : str
        For messages.
    warnings : list of str
        New warnings are appended.
    """

    def __init__(self, raw: RawFile, kind: str, path: str, warnings: list[str]) -> None:
        self._raw = raw
        self._kind = kind
        self._path = path
        self._warnings = warnings
        self._data = raw.read(CHUNK)
        self._member: _Decompressor | None = _DECOMPRESSORS[kind]()

    @property
    def done(self) -> int:
        """Bytes of the source read so far."""
        return self._raw.done

    @property
    def packed_size(self) -> int:
        """As for `Content`."""
        return self._raw.done

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into the front of `view`; return their number, 0 at the end."""
        while self._member is not None:
            if self._member.eof:
                self._next_member(self._member.unused_data)
                continue
            if self._member.needs_input and not self._data:
                self._data = self._raw.read(CHUNK)
                ended = not self._data
            else:
                ended = False
            data, self._data = self._data, b""
            try:
                out = self._member.decompress(data, len(view))
            except Exception as error:
                # Every library raises other exceptions for damage, OSError and EOFError among them.
                self._fail(f"the {self._kind} data is damaged: {error}", error)
            if out:
                view[: len(out)] = out
                return len(out)
            if ended and not self._member.eof:
                self._fail(f"the {self._kind} data is truncated", None)
        return 0

    def _next_member(self, rest: bytes) -> None:
        """Start the next member; `rest` is the part of it that was already read."""
        rest = rest.lstrip(b"\0")  # padding to whole blocks is allowed between members
        while len(rest) < 16:
            more = self._raw.read(CHUNK)
            if not more:
                break
            rest = (rest + more).lstrip(b"\0")
        self._data = rest
        if packing(rest) == self._kind:
            self._member = _DECOMPRESSORS[self._kind]()
            return
        self._member = None
        self._data = b""
        extra = len(rest)
        while rest:
            rest = self._raw.read(CHUNK)
            extra += len(rest)
        if extra:
            self._warnings.append(f"ignored {plural(extra, 'byte')} after the end of the {self._kind} data")

    def _fail(self, problem: str, cause: Exception | None) -> NoReturn:
        raise SourceError(problem, path=self._path, where=f"byte {self._raw.done}",
                          hint=DAMAGED if cause else INCOMPLETE) from cause


# ---------------------------------------------------------------- zip


def open_zip(raw: RawFile, options: ReadOptions, path: str) -> ZipMember:
    """Open the file of a zip archive that the options name, or its only file.

    Raises
    ------
    SourceError
        If the archive is damaged, encrypted, comes through a pipe, or does not have exactly one file to read.
    """
    if not raw.seekable:
        raise SourceError("a zip archive cannot be read from a pipe: its list of files is at the end", path=path,
                          where="byte 0", hint="Save it to a file, or unpack it into the pipe: unzip -p archive.zip")
    raw.identity()  # hashed now, since it is read out of order from here on
    try:
        archive = zipfile.ZipFile(raw.file)
    except Exception as error:
        raise SourceError(f"the zip archive is damaged: {error}", path=path, where="byte 0",
                          hint=DAMAGED) from error
    info = _choose(archive, options.member, path)
    if info.flag_bits & 1:
        raise SourceError("the zip archive is encrypted", path=path, where=f"member {_name(info)}",
                          hint="Unpack it with its password first.")
    return ZipMember(archive, info, raw, path)


def _choose(archive: zipfile.ZipFile, member: str | None, path: str) -> zipfile.ZipInfo:
    # Not is_dir(), which fails for an empty name in older Pythons.
    files = [info for info in archive.infolist()
             if not info.filename.endswith("/") and not info.filename.startswith("__MACOSX/")]
    listing = ", ".join(f"{_name(info)} ({info.file_size} bytes)" for info in files[:20])
    if member is not None:
        chosen = [info for info in files if info.filename == member]
        if not chosen:
            raise SourceError(f"the zip archive has no member {member!r}", path=path, where="list of files",
                              found=listing or "no files", hint="Choose one of its files with --member (member=).")
    else:
        chosen = files
        if files and all(info.filename.endswith(".npy") for info in files):
            raise SourceError("this is a numpy .npz archive: arrays without words", path=path,
                              where="list of files",
                              hint="Convert it to word2vec text first: a word and its numbers in each line.")
        if len(files) != 1:
            raise SourceError(f"the zip archive has {len(files)} files", path=path, where="list of files",
                              expected="one", found=listing or "none",
                              hint="Choose one of them with --member (member=)." if files else RIGHT_FILE)
    return chosen[-1]  # if several entries have the same name, the last one counts, as in other programs


def _name(info: zipfile.ZipInfo) -> str:
    return repr(info.filename[:100])


class ZipMember:
    """One file of a zip archive, read from front to back.

    Parameters
    ----------
    archive : zipfile.ZipFile
    info : zipfile.ZipInfo
        The file.
    raw : RawFile
        The archive, already hashed.
    path : str
        For messages.
    """

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, raw: RawFile, path: str) -> None:
        self._info = info
        self._path = path
        self._raw = raw
        self.packed_size = min(info.compress_size, raw.done)
        try:
            self._member = cast("BinaryFile", archive.open(info))  # its type IO[bytes] lacks readinto
        except Exception as error:
            self._fail(error)

    @property
    def done(self) -> int:
        """Current read position in the archive."""
        return self._raw.file.tell()

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into the front of `view`; return their number, 0 at the end."""
        try:
            return self._member.readinto(view) or 0
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        raise SourceError(f"the zip archive is damaged: {error or 'it ends early'}", path=self._path,
                          where=f"member {_name(self._info)}",
                          hint=DAMAGED) from error
