"""The ``.ems`` file as a container: magic, header, aligned sections, checksums. Does not interpret the sections.

``docs/format.md`` describes the format. Writing is atomic: after a failure the target is unchanged. Reading maps the
file into memory, checks every length against the size of the file before using it, and checks each block of data when
it is first read.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap as _mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.storage.atomic import atomic_write
from embshrink.storage.inputs import open_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike
    from typing_extensions import Self

    from embshrink.storage.arrays import AnyArray, BoolArray, IntArray, Layout, Shape, StoredArray

MAGIC = b"\x89EMS\r\n\x1a\n"
END_MAGIC = b"\x89EMSEND\n"
MAJOR, MINOR = 1, 0
ALIGNMENT = 64
BLOCK = 1 << 20
BLOCKS_CHECKED = 16  # blocks checked before their memory is released
PIECE = 4 << 20  # bytes of an array on disk that are read and written at a time
MAX_HEADER = 1 << 20
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "float32")
CHECKSUMS = "checksums"

NEWER = "This file was written by a newer embshrink; update embshrink to read it."
_TABLE = "section table"

# magic, major, minor, header length, file length, required flags, crc32 of all this (itself as 0) and the header
_PRELUDE = struct.Struct("<8sHHIQII")
# file length, crc32 as above, zero, end magic
_FOOTER = struct.Struct("<QII8s")


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _stored_dtype(name: str) -> np.dtype[np.generic]:
    return np.dtype(name).newbyteorder("<")


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of `value` that this format allows, as ASCII bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


@dataclass(eq=False, repr=False)
class Entry:
    """An entry of the section table.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
    shape : tuple of int
    offset : int
        Start of the section, in bytes from the end of the padded header.
    crc32 : int
        Checksum of the section's bytes, or of the checksums of its blocks if there are several.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: Shape
    offset: int
    crc32: int

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array, without padding."""
        return self.count * self.dtype.itemsize

    def to_json(self) -> dict[str, object]:
        """Return the entry as it is stored in the header."""
        return {"name": self.name, "dtype": self.dtype.name, "shape": list(self.shape), "offset": self.offset,
                "crc32": f"{self.crc32:08x}"}

    @classmethod
    def from_json(cls, entry: object, offset: int) -> Entry:
        """Check an entry of the section table and return it; `offset` is the end of the section before it."""
        kinds = {"name": str, "dtype": str, "shape": list, "offset": int, "crc32": str}
        if not isinstance(entry, dict) or set(entry) != set(kinds) or any(
            not isinstance(entry[key], kind) or isinstance(entry[key], bool) for key, kind in kinds.items()
        ):
            raise FormatError("an entry of the section table is malformed", where=_TABLE,
                              expected=f"the keys {', '.join(sorted(kinds))}", found=entry, hint=DAMAGED)
        name, shape = entry["name"], entry["shape"]
        if entry["dtype"] not in DTYPES:
            raise FormatError(f"section {name} has an unsupported dtype", where=_TABLE, expected=", ".join(DTYPES),
                              found=entry["dtype"], hint=DAMAGED)
        if len(shape) > 4 or any(type(axis) is not int or axis < 0 for axis in shape) or (
            math.prod(max(axis, 1) for axis in shape) >= 2**48  # the other axes of an empty array count too
        ):
            raise FormatError(f"the shape of section {name} is out of range", where=_TABLE,
                              expected="at most 4 axes and fewer than 2^48 values", found=shape, hint=DAMAGED)
        if entry["offset"] != offset:
            raise FormatError(f"section {name} does not begin at the end of the section before it", where=_TABLE,
                              expected=f"offset {offset}", found=entry["offset"], hint=DAMAGED)
        if not re.fullmatch("[0-9a-f]{8}", entry["crc32"]):
            raise FormatError(f"section {name} has a malformed checksum", where=_TABLE,
                              expected="8 hexadecimal digits", found=entry["crc32"], hint=DAMAGED)
        return cls(name, _stored_dtype(entry["dtype"]), tuple(shape), offset, int(entry["crc32"], 16))


# ---------------------------------------------------------------- writing


def _raw(array: AnyArray) -> memoryview:
    """Return the stored bytes of an array, without a copy if it already has the stored type."""
    array = np.ascontiguousarray(array, dtype=_stored_dtype(array.dtype.name))
    return array.reshape(-1).view(np.uint8).data


def _pieces(array: StoredArray) -> Iterator[memoryview]:
    """Yield the bytes of an array; for an array on disk, a few rows at a time."""
    if isinstance(array, np.ndarray):
        yield _raw(array)
        return
    rows = max(1, PIECE * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield _raw(array[start : start + rows])


def _block_sums(array: StoredArray) -> list[int]:
    """Return the checksum of each block of an array's bytes."""
    sums, crc, rest = [], 0, BLOCK
    for piece in _pieces(array):
        while len(piece):
            part, piece = piece[:rest], piece[rest:]
            crc, rest = zlib.crc32(part, crc), rest - len(part)
            if not rest:
                sums.append(crc)
                crc, rest = 0, BLOCK
    return sums if rest == BLOCK else [*sums, crc]


def _crc_of_sums(sums: Sequence[int]) -> int:
    return zlib.crc32(np.array(sums, dtype="<u4").tobytes())


def _section_table(sections: Layout, crcs: Mapping[str, int]) -> list[Entry]:
    """Return the entries of sections, in order and without gaps; a missing checksum is 0."""
    table, offset = [], 0
    for name, (dtype, shape) in sections.items():
        entry = Entry(name, np.dtype(dtype), shape, offset, crcs.get(name, 0))
        table.append(entry)
        offset += _aligned(entry.nbytes)
    return table


def _header_text(header: Mapping[str, object], table: Iterable[Entry]) -> bytes:
    return canonical_json({**header, "sections": [entry.to_json() for entry in table]})


def write_container(path: str | os.PathLike[str], header: Mapping[str, object],
                    sections: Mapping[str, StoredArray], *, force: bool = False,
                    check: Callable[[str], object] | None = None) -> int:
    """Write `header` and `sections` as one ``.ems`` file, atomically.

    Parameters
    ----------
    path : str or os.PathLike
        The target.
    header : dict
        The header without the section table; its values must be JSON values.
    sections : dict of str to array
        Stored in this order. An array may be on disk, such as `embshrink.storage.disk_rows.Rows`: it is read a few
        rows at a time, so that it is never in memory as a whole.
    force, check
        As for `atomic_write`.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    FormatError
        If a section has a dtype that the format cannot store, or the header is larger than 1 MiB.
    TargetError
        As for `atomic_write`.
    """
    arrays, crcs, sums = dict(sections), {}, []
    for name, array in sections.items():
        if array.dtype.name not in DTYPES:
            raise FormatError(f"section {name} has a dtype that an .ems file cannot store", path=path,
                              expected=", ".join(DTYPES), found=array.dtype)
        blocks = _block_sums(array)
        crcs[name] = blocks[0] if len(blocks) == 1 else _crc_of_sums(blocks)
        if len(blocks) > 1:
            sums.extend(blocks)
    if sums:
        arrays[CHECKSUMS] = np.array(sums, dtype=np.uint32)
        crcs[CHECKSUMS] = _crc_of_sums(sums)
    table = _section_table({name: (array.dtype, array.shape) for name, array in arrays.items()}, crcs)
    text = _header_text(header, table)
    if len(text) > MAX_HEADER:
        raise FormatError("the header is too large", path=path, expected=f"<= {MAX_HEADER} bytes", found=len(text))
    # The table is part of the header, so its length shifts the sections: offsets count from the end of the header.
    start = _aligned(_PRELUDE.size + len(text))
    length = start + sum(_aligned(entry.nbytes) for entry in table) + _FOOTER.size
    fields = (MAGIC, MAJOR, MINOR, len(text), length, 0)
    crc = zlib.crc32(text, zlib.crc32(_PRELUDE.pack(*fields, 0)))
    with atomic_write(path, force=force, check=check) as file:
        prelude = _PRELUDE.pack(*fields, crc) + text
        file.write(prelude + bytes(start - len(prelude)))
        for array in arrays.values():
            for piece in _pieces(array):
                file.write(piece)
            file.write(bytes(_aligned(array.nbytes) - array.nbytes))
        file.write(_FOOTER.pack(length, crc, 0, END_MAGIC))
    return length


def plan_container(header: Mapping[str, object],
                   sections: Mapping[str, tuple[DTypeLike, Shape]]) -> tuple[int, dict[str, int]]:
    """Return the size of the file that `write_container` would write.

    Parameters
    ----------
    header : dict
        The header without the section table.
    sections : dict of str to (dtype, shape)
        The arrays, in order.

    Returns
    -------
    total : int
        Bytes of the file.
    parts : dict of str to int
        Bytes of ``header``, each section with its padding, and ``footer``.
    """
    planned: Layout = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in sections.items()}
    sizes = [entry.nbytes for entry in _section_table(planned, {})]
    blocks = sum(-(-size // BLOCK) for size in sizes if size > BLOCK)
    if blocks:
        planned[CHECKSUMS] = (np.dtype(np.uint32), (blocks,))
    table = _section_table(planned, {})
    parts = {"header": _aligned(_PRELUDE.size + len(_header_text(header, table)))}
    parts.update((entry.name, _aligned(entry.nbytes)) for entry in table)
    parts["footer"] = _FOOTER.size
    return sum(parts.values()), parts


# ---------------------------------------------------------------- reading


class Section:
    """An array of an open file. Each block is checked when it is first read.

    Index rows as in an array (by an int, a slice, an array of ints), or pass it to `numpy.asarray` for the whole
    array. The results are read-only views of the file if possible.

    Parameters
    ----------
    name : str
    array : numpy.ndarray
        The whole array, in the mapped file.
    sums : list of int
        CRC-32 checksum of each block.
    trusted : bool
        Do not check blocks.
    path : str, optional
        Path of the file, for messages.
    """

    def __init__(self, name: str, array: AnyArray, sums: list[int], trusted: bool, path: str | None = None) -> None:
        self.name = name
        self._path = path
        self._array = array
        self._raw = array.reshape(-1).view(np.uint8)
        self._sums = sums
        self._checked = bytearray([trusted]) * len(sums)  # 1 for each block that was checked

    @property
    def shape(self) -> Shape:
        """Lengths of the array's axes."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the array."""
        return self._array.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array, without padding."""
        return self._array.nbytes

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        self._check_blocks(range(len(self._sums)))
        array = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __getitem__(self, key: int | slice | IntArray | BoolArray | Sequence[int]) -> AnyArray:
        if 0 in self._checked:
            self._check_blocks(self._touched(key))
        rows: AnyArray = self._array[key]
        return rows

    def _touched(self, key: int | slice | AnyArray | Sequence[int]) -> Iterable[int]:
        """Return the numbers of the blocks that hold the rows `key`; they may be out of range if `key` is."""
        every = range(len(self._sums))
        if len(every) == 1 or not len(self):
            return every
        width = self.nbytes // len(self)  # bytes of a row
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            row = int(key) + (len(self) if key < 0 else 0)
            return range(row * width // BLOCK, max(row * width, (row + 1) * width - 1) // BLOCK + 1)
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return every
            return range(start * width // BLOCK, (stop * width - 1) // BLOCK + 1) if stop > start else range(0)
        rows = np.asarray(key)
        if rows.dtype.kind not in "iu" or width > BLOCK:
            return every
        rows = rows.astype(np.int64).ravel()
        rows = np.where(rows < 0, rows + len(self), rows)
        touched = np.zeros(len(every), bool)
        touched[rows * width // BLOCK] = touched[((rows + 1) * width - 1) // BLOCK] = True
        return np.flatnonzero(touched).tolist()

    def _check_blocks(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if 0 <= block < len(self._checked) and not self._checked[block]:
                found = zlib.crc32(self._raw[block * BLOCK : (block + 1) * BLOCK])
                if found != self._sums[block]:
                    raise FormatError(
                        f"section {self.name} is damaged in block {block}", path=self._path,
                        expected=f"crc32 {self._sums[block]:08x}", found=f"{found:08x}",
                        hint=DAMAGED,
                    )
                self._checked[block] = True

    def check_again(self) -> Iterator[None]:
        """Check every block, even if it was checked before; yield after each 16 blocks.

        Raises
        ------
        FormatError
            At the first damaged block.
        """
        self._checked[:] = bytes(len(self._checked))
        for start in range(0, len(self._checked), BLOCKS_CHECKED):
            self._check_blocks(range(start, start + BLOCKS_CHECKED))
            yield


def _read_file(path: str, mmap: bool) -> bytes | _mmap.mmap:
    """Return the content of a file, mapped or in memory; an empty file cannot be mapped."""
    try:
        with open_input(path) as file:
            if mmap and os.fstat(file.fileno()).st_size:
                return _mmap.mmap(file.fileno(), 0, access=_mmap.ACCESS_READ)
            return file.readall()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise FormatError(f"cannot read the file: {reason or error}",
                          hint="Check the path and its permissions.") from error


@dataclass(eq=False, repr=False)
class _Head:
    """The part of a file before the sections, checked: format version, header, section table.

    Attributes
    ----------
    version : tuple of (int, int)
        Major and minor version.
    header : dict
        Without the section table.
    table : list
        The section table from the JSON header; its entries are not checked yet.
    nbytes : int
        Offset of the first section.
    crc : int
        Checksum of prelude and header.
    """

    version: tuple[int, int]
    header: dict[str, object]
    table: list[object]
    nbytes: int
    crc: int


def _read_head(data: bytes | _mmap.mmap) -> _Head:
    size = len(data)
    prelude = data[: _PRELUDE.size]
    _check_magic(prelude, size)
    _, major, minor, header_length, length, flags, crc = _PRELUDE.unpack(prelude)
    if major != MAJOR:
        raise FormatError("the format version is not supported", where="byte 8", expected=f"{MAJOR}.x",
                          found=f"{major}.{minor}", hint=NEWER if major > MAJOR else DAMAGED)
    if length != size:
        raise FormatError("the file is truncated or has extra bytes at its end", where="byte 16",
                          expected=f"{length} bytes", found=size, hint=DAMAGED)
    if header_length > min(MAX_HEADER, size - _PRELUDE.size - _FOOTER.size):
        raise FormatError("the length of the header is out of range", where="byte 12",
                          expected=f"<= {min(MAX_HEADER, size)}", found=header_length, hint=DAMAGED)
    if flags:
        raise FormatError("the file needs a feature that this version does not support", where="byte 24",
                          found=f"flags {flags:#x}", hint=NEWER)
    end = _PRELUDE.size + header_length
    text = data[_PRELUDE.size : end]
    found = zlib.crc32(text, zlib.crc32(prelude[:-4] + bytes(4)))
    if found != crc:
        raise FormatError("the header is damaged", where="byte 28", expected=f"crc32 {crc:08x}",
                          found=f"{found:08x}", hint=DAMAGED)
    if _FOOTER.unpack(data[size - _FOOTER.size :]) != (length, crc, 0, END_MAGIC):
        raise FormatError("the footer does not match the header", where=f"byte {size - _FOOTER.size}", hint=DAMAGED)
    header, table = _parse_header(text)
    _check_zero(data, end, _aligned(end))
    return _Head((major, minor), header, table, _aligned(end), crc)


def _check_magic(prelude: bytes, size: int) -> None:
    """Check the first bytes of a file of `size` bytes, and that it is long enough."""
    if prelude[: len(MAGIC)] != MAGIC:
        if MAGIC.startswith(prelude) and prelude:
            raise FormatError("the file is truncated", where="byte 0", expected=f">= {_PRELUDE.size} bytes",
                              found=size, hint=DAMAGED)
        damaged = prelude[1:4] == MAGIC[1:4]
        raise FormatError(
            "this is not an .ems file", where="byte 0", expected=MAGIC, found=prelude[: len(MAGIC)],
            hint="Copy the file again in binary mode: a text-mode transfer damaged it." if damaged
            else "Make an .ems file from word vectors with: embshrink quantize SOURCE TARGET",
        )
    if size < _PRELUDE.size + _FOOTER.size:
        raise FormatError("the file is truncated", where=f"byte {size}",
                          expected=f">= {_PRELUDE.size + _FOOTER.size} bytes", found=size, hint=DAMAGED)


def _parse_header(text: bytes) -> tuple[dict[str, object], list[object]]:
    """Return the header without its section table, and the table."""
    try:
        header = json.loads(text)
        canonical = canonical_json(header) == text
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header is not JSON: {error}", where=f"byte {_PRELUDE.size}", hint=DAMAGED) from error
    if not canonical or not isinstance(header, dict) or not isinstance(header.get("sections"), list):
        raise FormatError("the header is not an object with sections in canonical JSON",
                          where=f"byte {_PRELUDE.size}", hint=DAMAGED)
    return header, header.pop("sections")


def _check_zero(data: bytes | _mmap.mmap, start: int, stop: int) -> None:
    if any(data[start:stop]):
        raise FormatError("the padding is not zero", where=f"byte {start}", hint=DAMAGED)


def _read_sections(data: bytes | _mmap.mmap, head: _Head, path: str, trusted: bool) -> dict[str, Section]:
    """Return the sections of a file by name, without the section of checksums."""
    arrays, crcs, position, end = {}, {}, head.nbytes, len(data) - _FOOTER.size
    for item in head.table:
        entry = Entry.from_json(item, position - head.nbytes)
        name = entry.name
        if name in arrays:
            raise FormatError(f"section {name} occurs twice", where=_TABLE, hint=DAMAGED)
        stop = position + entry.nbytes
        if stop > end:
            raise FormatError(f"section {name} ends after the end of the file", where=f"byte {position}",
                              expected=f"<= {end - position} bytes", found=entry.nbytes, hint=DAMAGED)
        array = np.frombuffer(data, dtype=entry.dtype, count=entry.count, offset=position)
        arrays[name], crcs[name] = array.reshape(entry.shape), entry.crc32
        _check_zero(data, stop, _aligned(stop))
        position = _aligned(stop)
    if position != end:
        raise FormatError("the last section does not end at the footer", where=f"byte {position}",
                          expected=f"byte {end}", hint=DAMAGED)
    sums = _read_block_sums(arrays, crcs)
    return {name: Section(name, array, sums[name], trusted, path)
            for name, array in arrays.items() if name != CHECKSUMS}


def _read_block_sums(arrays: Mapping[str, AnyArray], crcs: Mapping[str, int]) -> dict[str, list[int]]:
    """Check and return the block checksums of each section.

    The checksum of a section of one block is in the section table. The checksums of longer sections are concatenated
    in the section ``checksums``.
    """
    counts = {name: -(-array.nbytes // BLOCK) for name, array in arrays.items()
              if array.nbytes > BLOCK and name != CHECKSUMS}
    stored: AnyArray = np.zeros(0, np.uint32)
    if counts:
        if CHECKSUMS not in arrays:
            raise FormatError("the block checksums are missing", where=_TABLE, expected=f"a section {CHECKSUMS}",
                              hint=DAMAGED)
        stored = arrays[CHECKSUMS]
        if stored.dtype.name != "uint32" or stored.shape != (sum(counts.values()),):
            raise FormatError("the block checksums do not match the sections", where=f"section {CHECKSUMS}",
                              expected=f"uint32 ({sum(counts.values())},)",
                              found=f"{stored.dtype} {stored.shape}", hint=DAMAGED)
        if zlib.crc32(stored.tobytes()) != crcs[CHECKSUMS]:
            raise FormatError("the block checksums are damaged", where=f"section {CHECKSUMS}", hint=DAMAGED)
    elif CHECKSUMS in arrays:
        raise FormatError("the file has block checksums, but no section that needs them", where=_TABLE, hint=DAMAGED)
    sums, position = {}, 0
    for name, array in arrays.items():
        sums[name] = [crcs[name]] if array.nbytes else []
        if name in counts:
            own = stored[position : position + counts[name]]
            position += counts[name]
            if zlib.crc32(own.tobytes()) != crcs[name]:
                raise FormatError(f"the block checksums of section {name} are damaged", where=f"section {CHECKSUMS}",
                                  hint=DAMAGED)
            sums[name] = own.tolist()
    return sums


class Container:
    """An open ``.ems`` file.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    verify : {"lazy", "header", "full"}
        ``header`` checks magic, lengths, header, section table and padding, and trusts the data. ``lazy``, the
        default, also checks each 1 MiB block of data when it is first read. ``full`` checks all blocks at once.
    mmap : bool
        Map the file into memory (the default), or read it. If another program truncates a mapped file, reading the
        lost part kills the process with SIGBUS; this cannot happen to a file in memory.

    Attributes
    ----------
    path : str
    absolute_path : str
        The same path, when the file was opened.
    size : int
        Bytes of the file.
    fingerprint : tuple of (int, int)
        Size, and checksum of the header, which has the checksums of all sections.
    version : tuple of (int, int)
        Major and minor version of the format.
    header : dict
        The header without the section table.
    sections : dict of str to Section
        The sections by name.

    Raises
    ------
    FormatError
        If the file is not an ``.ems`` file, is damaged or truncated, or has a newer major version; or if `verify` is
        none of these.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: str = "lazy", mmap: bool = True) -> None:
        if verify not in ("lazy", "header", "full"):
            raise FormatError(f"unknown verify level {verify!r}", expected="lazy, header or full",
                              hint="Choose one of these levels.")
        self.path = os.fspath(path)
        self.absolute_path = os.path.abspath(self.path)  # of now: the working directory may change
        self.verify, self.mmap = verify, mmap
        self.sections: dict[str, Section] = {}
        self._data: bytes | _mmap.mmap = b""
        try:
            self._data = _read_file(self.path, mmap)
            self.size = len(self._data)
            head = _read_head(self._data)
            self.version, self.header = head.version, head.header
            self.fingerprint = self.size, head.crc
            self.sections = _read_sections(self._data, head, self.path, trusted=verify == "header")
            if verify == "full":
                self.check()
        except FormatError as error:
            self.close()
            raise error.located(self.path) from error.__cause__
        except BaseException:
            self.close()
            raise

    def group(self, prefix: str) -> dict[str, Section]:
        """Return the sections whose names begin with `prefix` and a dot, by the part of the name after it."""
        prefix += "."
        return {name[len(prefix) :]: section for name, section in self.sections.items() if name.startswith(prefix)}

    def check(self) -> None:
        """Check every block of every section.

        Raises
        ------
        FormatError
            At the first damaged block.
        """
        for section in self.sections.values():
            for _ in section.check_again():
                self.let_go()

    def let_go(self) -> None:
        """Release the memory of the pages of a mapped file; they are read again when needed."""
        if isinstance(self._data, _mmap.mmap) and hasattr(_mmap, "MADV_DONTNEED"):
            self._data.madvise(_mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the file. Arrays taken from it stay valid."""
        self.sections = {}
        if isinstance(self._data, _mmap.mmap):
            with contextlib.suppress(BufferError):  # an array still uses the mapping, which is closed with the array
                self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
