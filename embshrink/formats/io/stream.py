"""Sources: a file, decompressed within limits and read once from front to back; or a folder of files."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, cast

from embshrink.errors import SourceError
from embshrink.formats.base import Provenance, ReadOptions
from embshrink.formats.io.raw import BinaryFile, Content, RawFile
from embshrink.formats.io.unpack import Unpacked, open_zip, packing
from embshrink.storage.inputs import open_input, standard_input

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, TypeIs

HEAD = 1 << 16
FREE_EXPANSION = 64 << 20
MAX_RATIO = 200


def _is_file(source: Any) -> TypeIs[BinaryFile]:
    """Whether a source is an open file.

    The test is for `readinto`, not for a class: files of tempfile forward every attribute to another file, which
    `isinstance` with a Protocol does not see.
    """
    try:
        return bool(source.readinto)
    except AttributeError:
        return False


def _name_of(file: Any) -> str:
    """Return the name of a caller's file for messages: it may have none, or a descriptor number instead."""
    try:
        name = file.name
    except AttributeError:
        return "<file>"
    return name if isinstance(name, str) else "<file>"


def open_source(
    source: str | os.PathLike[str] | BinaryFile, options: ReadOptions, *, folders: bool = False
) -> Stream | Folder:
    """Open a source.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path, ``"-"`` for standard input, or an object with ``readinto``.
    options : ReadOptions
        ``member`` and ``max_expanded`` are used.
    folders : bool
        Accept the path of a folder.

    Returns
    -------
    Stream or Folder
        A context manager.

    Raises
    ------
    SourceError
        If it cannot be opened, is a folder but `folders` is false, or is an archive without exactly one file to read.
    ExtraError
        If it is compressed with Zstandard and the package zstandard is not installed.
    """
    if _is_file(source):
        return Stream(source, _name_of(source), options, owned=False)
    path = os.fspath(source)
    if path == "-":
        return Stream(cast("BinaryFile", standard_input()), "<stdin>", options, owned=False)
    if os.path.isdir(path):
        if folders:
            return Folder(path, options)
        raise SourceError("this is a folder", path=path, expected="a file", hint="Give the path of a file.")
    return _open_path(path, options)


def _open_path(path: str, options: ReadOptions) -> Stream:
    try:
        file = open_input(path, pipes=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = isinstance(error, OSError) and error.strerror or error
        raise SourceError(f"cannot open the file: {reason}", path=path,
                          hint="Check the path and its permissions.") from error
    return Stream(file, path, options, owned=True)


class Stream:
    """The content of a source, read once from front to back; a `Source`, and a context manager.

    Parameters
    ----------
    file : BinaryFile
    path : str
        Name of the source in messages.
    options : ReadOptions
        ``member`` and ``max_expanded`` are used.
    owned : bool
        Whether the file was opened by path and is closed with the stream.

    Attributes
    ----------
    path : str
        Name of the source in messages.
    file_path : str or None
        Its path, if it is a file opened by path.
    head : bytes
        The first 64 KiB of the content, or all of it; reading still starts at byte 0.
    packed : str or None
        The compression: "gzip", "bzip2", "xz", "zip", "zstd"; None if it is not compressed.
    size : int or None
        Bytes of the source as given, if known.
    content_size : int or None
        Bytes of the content, if known before it is read.
    warnings : list of str
    """

    size: int | None
    content_size: int | None
    packed: str | None
    head: bytes

    def __init__(self, file: BinaryFile, path: str, options: ReadOptions, owned: bool) -> None:
        self.path = path
        self.file_path = path if owned else None
        self.warnings: list[str] = []
        self._owned = owned
        self._raw = RawFile(file, path)
        self._limit = options.max_expanded
        self._produced = 0
        self._pushed = b""
        try:
            self._open(options)
        except BaseException:
            self.close()
            raise

    def _open(self, options: ReadOptions) -> None:
        """Determine the compression and read the head."""
        raw = self._raw
        self.size = raw.remaining()
        start = raw.read(HEAD)
        raw.unread(start)
        self.packed = packing(start)
        if options.member is not None and self.packed != "zip":
            raise SourceError("a member was named, but this is not a zip archive", path=self.path,
                              where="byte 0", found=f"member {options.member!r}", hint="Remove --member (member=).")
        self._content: Content
        if self.packed is None:
            self._content = raw
        elif self.packed == "zip":
            self._content = open_zip(raw, options, self.path)
        else:
            self._content = Unpacked(raw, self.packed, self.path, self.warnings)
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
    def done(self) -> int:
        """Bytes of the source read so far."""
        return self._content.done

    def readinto(self, view: bytearray | memoryview) -> int:
        """Read the next bytes into `view`; return their number, which is less than its length only at the end."""
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

    def _check_expansion(self) -> None:
        consumed = self._content.packed_size
        if self._produced > self._limit:
            raise SourceError("the content is larger than allowed", path=self.path, where=f"byte {consumed}",
                              expected=f"at most {self._limit} bytes", found=f"more than {self._limit}",
                              hint="If you trust the file, raise --max-expanded (max_expanded=).")
        if self._produced > FREE_EXPANSION and self._produced > MAX_RATIO * consumed:
            raise SourceError("the content expands like a decompression bomb", path=self.path,
                              where=f"byte {consumed}", expected=f"at most {MAX_RATIO} bytes for each byte",
                              found=f"{self._produced} bytes from {consumed}",
                              hint="If you trust the file, unpack it first and give the path of the content.")

    def identity(self) -> tuple[int, str]:
        """Read the source to its end and return its size and SHA-256."""
        return self._raw.identity()

    def provenance(self, format: str) -> Provenance:
        """Read the source to its end and return its name, size, SHA-256 and format."""
        size, sha256 = self.identity()
        return {"name": os.path.basename(self.path) if self._owned else self.path, "size": size, "sha256": sha256,
                "format": format}

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owned:
            self._raw.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Folder:
    """A folder of files, none of them compressed; a `Source`, and a context manager.

    ``file_path``, ``packed`` and ``content_size`` are None.

    Parameters
    ----------
    path : str
    options : ReadOptions
        ``max_expanded`` is used.
    """

    def __init__(self, path: str, options: ReadOptions) -> None:
        self.path = path
        self.file_path: str | None = None
        self.packed: str | None = None
        self.content_size: int | None = None
        self.warnings: list[str] = []
        self._options = options
        self._opened: dict[str, Stream] = {}

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name; a name such as ``"vocab/vectors"`` is in a subfolder."""
        return os.path.isfile(os.path.join(self.path, name))

    def open(self, name: str) -> Stream:
        """Open a file of the folder, as a `Stream` with a known ``content_size``.

        Raises
        ------
        SourceError
            If it is missing, is compressed or cannot be opened.
        """
        path = os.path.join(self.path, name)
        if not self.has(name):
            raise SourceError("the folder lacks this file", path=self.path, where=name,
                              hint="Download the whole folder again.")
        stream = self._opened[name] = _open_path(path, self._options)
        if stream.packed:
            raise SourceError(f"the file is compressed with {stream.packed}; files in a folder must be uncompressed",
                              path=path, where="byte 0", hint="Unpack it first.")
        return stream

    def provenance(self, format: str) -> Provenance:
        """Return the folder's name, the total size of the files that were opened, a SHA-256 and the format.

        The SHA-256 is that of the lines that ``sha256sum`` prints for these files, sorted by name.
        """
        total, lines = 0, []
        for name, stream in sorted(self._opened.items()):
            size, sha256 = stream.identity()
            total += size
            lines.append(f"{sha256}  {name}\n")
        return {"name": os.path.basename(os.path.normpath(self.path)), "size": total,
                "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(), "format": format}

    def close(self) -> None:
        """Close the files that were opened."""
        for stream in self._opened.values():
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
