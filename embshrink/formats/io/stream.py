"""The bytes of a source: opened, decompressed, hashed and bounded, forward only.

What a file is packed in is found by its first bytes, never by its name. Nothing is written
anywhere, and a name from inside an archive is only ever shown.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import os
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from embshrink.errors import SourceError, need_extra

HEAD = 1 << 16
CHUNK = 1 << 18
FREE_EXPANSION = 64 << 20
MAX_RATIO = 200
MAX_XZ_MEMORY = 512 << 20
MAX_ZSTD_WINDOW = 128 << 20
# Zstandard's decompressor does not bound what it returns; 4 KiB can become at most 128 MiB.
ZSTD_SIP = 1 << 12


def packing(head):
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


def open_source(source, options, *, folders=False):
    """Open a source.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path, ``"-"`` for standard input, or an object with ``readinto``.
    options : ReadOptions
        ``member`` and ``max_expanded`` are used.
    folders : bool
        Take a path of a folder, too.

    Returns
    -------
    Stream or Folder
        A context manager.

    Raises
    ------
    SourceError
        If it cannot be opened, is a folder, or is an archive without exactly one file to read.
    ExtraError
        If it is Zstandard and the package for that is missing.
    """
    if hasattr(source, "readinto"):
        name = getattr(source, "name", None)
        return Stream(source, name if isinstance(name, str) else "<file>", options, owned=False)
    path = os.fspath(source)
    if path == "-":
        return Stream(sys.stdin.buffer, "<stdin>", options, owned=False)
    if os.path.isdir(path):
        if folders:
            return Folder(path, options)
        raise SourceError("this is a folder", path=path, hint="Name a file in it.")
    try:
        file = open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot be opened: {reason}", path=path,
                          hint="Check the path and its permissions.") from error
    return Stream(file, path, options, owned=True)


class Stream:
    """The content of a source, read once from front to back.

    Attributes
    ----------
    path : str
        What messages call the source.
    file_path : str or None
        Its path, if it is a file opened by path.
    head : bytes
        The first 64 KiB of the content, or all of it; reading does not start behind it but at 0.
    size : int or None
        Bytes of the source as given, where known.
    content_size : int or None
        Bytes of the content, where known before it is read.
    warnings : list of str
    """

    def __init__(self, file, path, options, owned):
        self.path = path
        self.file_path = path if owned else None
        self.warnings = []
        self.packed = None
        self._owned = owned
        self._raw = _Raw(file, path)
        self._limit = options.max_expanded
        self._produced = 0
        self._pushed = b""
        try:
            self._open(options)
        except BaseException:
            self.close()
            raise

    def _open(self, options):
        raw = self._raw
        self.size = raw.remaining()
        start = raw.read(HEAD)
        raw.unread(start)
        self.packed = packing(start)
        if options.member is not None and self.packed != "zip":
            raise SourceError("a member was named, but this is not a zip archive", path=self.path,
                              where="byte 0", found=options.member, hint="Leave --member away.")
        if self.packed is None:
            self._content = raw
        elif self.packed == "zip":
            self._content = _open_zip(raw, options, self.path)
        else:
            self._content = _Unpacked(raw, self.packed, self.path, self.warnings)
        self.content_size = self.size if self.packed is None else None
        head = bytearray(HEAD)
        self.head = bytes(head[: self.readinto(head)])
        self._pushed = self.head
        if len(self.head) < HEAD:
            self.content_size = len(self.head)
        inner = packing(self.head) if self.packed else None
        if inner:
            raise SourceError(f"this is {inner} inside {self.packed}", path=self.path, where="byte 0",
                              expected="one layer of compression", found="two",
                              hint="Unpack the outer layer first.")

    @property
    def done(self):
        """Bytes of the source read so far."""
        return self._content.done if self.packed == "zip" else self._raw.done

    def readinto(self, view):
        """Fill `view` with what comes next; return how many bytes, fewer than its length only at the end."""
        view = memoryview(view)
        filled = min(len(self._pushed), len(view))
        view[:filled] = self._pushed[:filled]
        self._pushed = self._pushed[filled:]
        while filled < len(view):
            count = self._content.readinto(view[filled:])
            if not count:
                break
            filled += count
            self._produced += count
            if self.packed:
                self._check_expansion()
        return filled

    def _check_expansion(self):
        consumed = self._content.packed_size if self.packed == "zip" else self._raw.done
        if self._produced > self._limit:
            raise SourceError("the content is larger than allowed", path=self.path, where=f"byte {consumed}",
                              expected=f"at most {self._limit} bytes", found=f"more than {self._limit}",
                              hint="If the file can be trusted, raise --max-expanded.")
        if self._produced > FREE_EXPANSION and self._produced > MAX_RATIO * consumed:
            raise SourceError("the content expands like a decompression bomb", path=self.path,
                              where=f"byte {consumed}", expected=f"at most {MAX_RATIO} bytes for each byte",
                              found=f"{self._produced} bytes from {consumed}",
                              hint="If the file can be trusted, unpack it first.")

    def provenance(self, format):
        """Read the source to its end and return its name, size, SHA-256 and format."""
        return {"name": os.path.basename(self.path) if self._owned else self.path, **self._raw.identity(),
                "format": format}

    def close(self):
        """Close the file, if it was opened here."""
        if self._owned:
            self._raw.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Folder:
    """A source that is a folder of files, none of them compressed.

    Attributes
    ----------
    path : str
    warnings : list of str
    """

    def __init__(self, path, options):
        self.path = path
        self.warnings = []
        self._options = options
        self._opened = {}

    def has(self, name):
        """Whether there is a file of this name, which may be in a folder below: ``"vocab/vectors"``."""
        return os.path.isfile(os.path.join(self.path, name))

    def open(self, name):
        """Open a file in the folder, as a `Stream` with a known ``content_size``.

        Raises
        ------
        SourceError
            If it is missing, is compressed or cannot be opened.
        """
        path = os.path.join(self.path, name)
        if not self.has(name):
            raise SourceError("the folder lacks a file", path=self.path, where=name, expected="a file",
                              found="nothing", hint="Fetch the whole folder again.")
        stream = self._opened[name] = open_source(path, self._options)
        if stream.packed:
            raise SourceError(f"this is {stream.packed}, and a folder's files are read as they are", path=path,
                              where="byte 0", hint="Unpack it first.")
        return stream

    def provenance(self, format):
        """Return the folder's name, its files' sizes together, a SHA-256 and the format.

        The SHA-256 is that of the lines ``sha256sum`` prints for the files that were opened, by name.
        """
        size, lines = 0, []
        for name, stream in sorted(self._opened.items()):
            part = stream.provenance(format)
            size += part["size"]
            lines.append(f"{part['sha256']}  {name}\n")
        return {"name": os.path.basename(os.path.normpath(self.path)), "size": size,
                "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(), "format": format}

    def close(self):
        """Close the files that were opened."""
        for stream in self._opened.values():
            stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Raw(io.RawIOBase):
    """A file as given: counted and hashed as it goes by.

    Only zip archives are read out of order; they are hashed by a pass of their own.
    """

    def __init__(self, file, path):
        self.file = file
        self.path = path
        self.done = 0
        self._sha256 = hashlib.sha256()
        self._unread = b""
        self._identity = None
        try:
            self._origin = file.tell() if file.seekable() else None
        except (OSError, AttributeError):
            self._origin = None

    def readable(self):
        return True

    def seekable(self):
        return self._origin is not None

    def remaining(self):
        """Bytes from here to the end, or None where only reading tells."""
        if self._origin is None:
            return None
        end = self.file.seek(0, io.SEEK_END)
        self.file.seek(self._origin)
        return end - self._origin or None  # 0 may be a device: its size is not known

    def unread(self, data):
        """Put `data`, just read, back in front."""
        self._unread = data

    def readinto(self, view):
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
        self._sha256.update(memoryview(view)[:count])
        self.done += count
        return count

    def read(self, size):
        """Return `size` bytes, fewer only at the end."""
        data = bytearray(size)
        filled = 0
        while filled < size:
            count = self.readinto(memoryview(data)[filled:])
            if not count:
                break
            filled += count
        return bytes(data[:filled])

    def identity(self):
        """Return size and SHA-256 of the whole source, reading what is left of it."""
        if self._identity is None:
            self._unread = b""
            view = bytearray(CHUNK)
            while self.readinto(view):
                pass
            self._identity = {"size": self.done, "sha256": self._sha256.hexdigest()}
        return self._identity


# ---------------------------------------------------------------- one file, compressed


class _Zlib:
    """zlib's decompressor with the interface of bz2's and lzma's."""

    def __init__(self):
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self):
        return self._inner.eof

    @property
    def unused_data(self):
        return self._inner.unused_data

    @property
    def needs_input(self):
        return not self._inner.unconsumed_tail

    def decompress(self, data, most):
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


class _Zstd:
    """Zstandard's decompressor with the interface of bz2's and lzma's."""

    def __init__(self):
        zstandard = need_extra("zstandard", "zstd", "reading a Zstandard file")
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()
        self._data = self._out = b""

    @property
    def eof(self):
        return self._inner.eof and not self._out

    @property
    def unused_data(self):
        return self._inner.unused_data + self._data

    @property
    def needs_input(self):
        return not self._out and not self._data

    def decompress(self, data, most):
        self._data += data
        while self._data and not self._out and not self._inner.eof:
            sip, self._data = self._data[:ZSTD_SIP], self._data[ZSTD_SIP:]
            self._out = self._inner.decompress(sip)
        out, self._out = self._out[:most], self._out[most:]
        return out


_DECOMPRESSORS = {
    "gzip": _Zlib,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY),
    "zstd": _Zstd,
}


class _Unpacked(io.RawIOBase):
    """The content of a gzip, bzip2, xz or Zstandard file, all its members one after the other."""

    def __init__(self, raw, kind, path, warnings):
        self._raw = raw
        self._kind = kind
        self._path = path
        self._warnings = warnings
        self._data = raw.read(CHUNK)
        self._member = _DECOMPRESSORS[kind]()

    def readable(self):
        return True

    def readinto(self, view):
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
                # Every library has its own exceptions for damage, OSError and EOFError among them.
                self._fail(f"the {self._kind} data is damaged: {error}", error)
            if out:
                view[: len(out)] = out
                return len(out)
            if ended and not self._member.eof:
                self._fail(f"the {self._kind} data is cut short", None)
        return 0

    def _next_member(self, rest):
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
            self._warnings.append(f"{extra} bytes after the end of the {self._kind} data were ignored")

    def _fail(self, problem, cause):
        raise SourceError(problem, path=self._path, where=f"byte {self._raw.done}",
                          hint="The file is incomplete or damaged; fetch it again.") from cause


# ---------------------------------------------------------------- zip


def _open_zip(raw, options, path):
    if not raw.seekable():
        raise SourceError("a zip archive cannot be read from a pipe: its list of files is at the end", path=path,
                          where="byte 0", hint="Save it to a file, or unpack it into the pipe: unzip -p archive.zip")
    raw.identity()  # hashed now, since it is read out of order from here on
    try:
        archive = zipfile.ZipFile(raw.file)
    except Exception as error:
        raise SourceError(f"the zip archive is damaged: {error}", path=path, where="byte 0",
                          hint="The file is incomplete or damaged; fetch it again.") from error
    files = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
    listing = ", ".join(f"{_name(info)} ({info.file_size} bytes)" for info in files[:20])
    if options.member is not None:
        chosen = [info for info in files if info.filename == options.member]
        if not chosen:
            raise SourceError("the zip archive has no such member", path=path, where="its list of files",
                              expected=repr(options.member), found=listing or "no files",
                              hint="Give one of the names listed to --member.")
    else:
        chosen = files
        if files and all(info.filename.endswith(".npy") for info in files):
            raise SourceError("this is a numpy .npz archive: arrays without words", path=path,
                              where="its list of files", hint="Write words and vectors as word2vec text.")
        if len(files) != 1:
            raise SourceError(f"the zip archive holds {len(files)} files", path=path, where="its list of files",
                              expected="one", found=listing or "none", hint="Name one with --member.")
    info = chosen[-1]  # of several entries of one name the last counts, as everywhere
    if info.flag_bits & 1:
        raise SourceError("the zip archive is encrypted", path=path, where=f"member {_name(info)}",
                          hint="Unpack it with its password first.")
    return _ZipMember(archive, info, raw, path)


def _name(info):
    return repr(info.filename[:100])


class _ZipMember(io.RawIOBase):
    """One file of a zip archive, in order."""

    def __init__(self, archive, info, raw, path):
        self._info = info
        self._path = path
        self._raw = raw
        self.packed_size = min(info.compress_size, raw.done)
        try:
            self._member = archive.open(info)
        except Exception as error:
            self._fail(error)

    @property
    def done(self):
        return self._raw.file.tell()

    def readable(self):
        return True

    def readinto(self, view):
        try:
            return self._member.readinto(view)
        except Exception as error:
            self._fail(error)

    def _fail(self, error):
        raise SourceError(f"the zip archive is damaged: {error or 'it ends early'}", path=self._path,
                          where=f"member {_name(self._info)}",
                          hint="The file is incomplete or damaged; fetch it again.") from error


# ---------------------------------------------------------------- in pieces


class Pieces:
    """The content in large pieces; what is left of one stands in front of the next.

    While one piece is worked on, a thread reads (and unpacks, and hashes) the one after it.
    A source whose size is unknown may be a person or a slow pipe: it is read without a
    thread, so that Ctrl-C is not held up.

    Parameters
    ----------
    stream : Stream
    size : int
        Bytes of a piece.
    room : int
        The most that may be left over.

    Attributes
    ----------
    buffer : bytearray
        Holds the piece at ``start:stop``; one byte behind it may be written to.
    data : numpy.ndarray, uint8
        The same memory.
    base : int
        The byte of the content that ``buffer[0]`` is.
    last : bool
        Nothing comes after this piece.
    """

    def __init__(self, stream, size, room):
        self._stream = stream
        known = stream.content_size
        self._single = known is not None and known <= size
        self._size, self._room = (known, 0) if self._single else (size, room)
        self._buffers = [bytearray(self._room + self._size + 1) for _ in range(1 if self._single else 2)]
        self._pool = ThreadPoolExecutor(1) if not self._single and stream.size is not None else None
        self._ahead = None
        self._read = 0
        self.last = False
        self._next(b"")

    def _fill(self, buffer):
        return self._stream.readinto(memoryview(buffer)[self._room : self._room + self._size])

    def _next(self, rest):
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

    def advance(self, used):
        """Take the next piece, with what stands at ``used:stop`` in front of it; return where it starts."""
        self._next(bytes(self.buffer[used : self.stop]))
        return self.start

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
