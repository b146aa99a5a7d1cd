"""The ``.ems`` file as bytes: magic, header, aligned sections, checksums. Knows nothing of vectors.

The format is written down in ``docs/format.md``. Writing is atomic: a failure at any moment
leaves the target as it was. Reading maps the file, checks every length against the bytes that
are there before using it, and checks data block by block as it is touched.
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

import numpy as np

from embshrink.errors import FormatError
from embshrink.storage.atomic import atomic_write

MAGIC = b"\x89EMS\r\n\x1a\n"
END_MAGIC = b"\x89EMSEND\n"
MAJOR, MINOR = 1, 0
ALIGNMENT = 64
BLOCK = 1 << 20
AT_ONCE = 16  # blocks that are checked and let go of together
PIECE = 4 << 20  # bytes of an array on disk that are written at a time
MAX_HEADER = 1 << 20
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "float32")
CHECKSUMS = "checksums"

# magic, major, minor, header length, file length, required flags, crc32 of all this and the header
_PRELUDE = struct.Struct("<8sHHIQII")
# file length, crc32 as above, zero, end magic
_FOOTER = struct.Struct("<QII8s")


def _aligned(position):
    return -(-position // ALIGNMENT) * ALIGNMENT


def _stored_dtype(name):
    return np.dtype(name).newbyteorder("<")


def canonical_json(value):
    """Return the one JSON text of `value` this format allows, as ASCII bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


# ---------------------------------------------------------------- writing


def _raw(array):
    """Return an array's bytes as they are stored, without a copy where it is already so."""
    array = np.ascontiguousarray(array, dtype=_stored_dtype(array.dtype))
    return array.reshape(-1).view(np.uint8).data


def _pieces(array):
    """Yield the bytes of an array, or of rows on disk some at a time."""
    if isinstance(array, np.ndarray):
        yield _raw(array)
        return
    rows = max(1, PIECE * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield _raw(array[start : start + rows])


def _block_sums(array):
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


def write_container(path, header, sections, *, force=False, check=None):
    """Write `header` and `sections` as one ``.ems`` file, atomically.

    Parameters
    ----------
    path : str or os.PathLike
    header : dict
        JSON-able, without the section table.
    sections : dict of str to numpy.ndarray
        Stored in this order. In place of an array may be what has its ``shape``, ``dtype`` and ``nbytes`` and gives
        slices of rows, as `embshrink.storage.disk_rows.Rows`: never all of it is in memory then.
    force, check
        As for `atomic_write`.

    Returns
    -------
    int
        Bytes written.
    """
    table, sums = [], []
    for name, array in sections.items():
        if array.dtype.name not in DTYPES:
            raise FormatError(f"section {name} has a dtype the file cannot hold", expected=DTYPES, found=array.dtype)
        blocks = _block_sums(array)
        crc = blocks[0] if len(blocks) == 1 else zlib.crc32(np.array(blocks, dtype="<u4").tobytes())
        if len(blocks) > 1:
            sums.extend(blocks)
        table.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "crc32": f"{crc:08x}"})
    if sums:
        sums = np.array(sums, dtype=np.uint32)
        sections = {**sections, CHECKSUMS: sums}
        table.append({"name": CHECKSUMS, "dtype": "uint32", "shape": list(sums.shape),
                      "crc32": f"{zlib.crc32(_raw(sums)):08x}"})
    # The table's own length moves the sections: offsets count from the end of the header.
    position = 0
    for entry, array in zip(table, sections.values()):
        entry["offset"] = position
        position += _aligned(array.nbytes)
    text = canonical_json({**header, "sections": table})
    if len(text) > MAX_HEADER:
        raise FormatError("the header is too large", expected=f"<= {MAX_HEADER} bytes", found=len(text))
    start = _aligned(_PRELUDE.size + len(text))
    length = start + position + _FOOTER.size
    fields = (MAGIC, MAJOR, MINOR, len(text), length, 0)
    crc = zlib.crc32(text, zlib.crc32(_PRELUDE.pack(*fields, 0)))
    with atomic_write(path, force=force, check=check) as file:
        head = _PRELUDE.pack(*fields, crc) + text
        file.write(head + bytes(start - len(head)))
        for array in sections.values():
            for piece in _pieces(array):
                file.write(piece)
            file.write(bytes(_aligned(array.nbytes) - array.nbytes))
        file.write(_FOOTER.pack(length, crc, 0, END_MAGIC))
    return length


def plan_container(header, sections):
    """Return what `write_container` would write, as (total bytes, bytes of each part).

    Parameters
    ----------
    header : dict
    sections : dict of str to (dtype, shape)

    Returns
    -------
    total : int
    parts : dict of str to int
        ``header``, each section with its padding, ``footer``.
    """
    parts, table, blocks, position = {}, [], 0, 0
    sections = dict(sections)
    for dtype, shape in sections.values():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        blocks += -(-size // BLOCK) if size > BLOCK else 0
    if blocks:
        sections[CHECKSUMS] = (np.dtype(np.uint32), (blocks,))
    for name, (dtype, shape) in sections.items():
        parts[name] = _aligned(math.prod(shape) * np.dtype(dtype).itemsize)
        table.append({"name": name, "dtype": np.dtype(dtype).name, "shape": list(shape), "crc32": "0" * 8,
                      "offset": position})
        position += parts[name]
    text = canonical_json({**header, "sections": table})
    parts = {"header": _aligned(_PRELUDE.size + len(text)), **parts, "footer": _FOOTER.size}
    return sum(parts.values()), parts


# ---------------------------------------------------------------- reading


class Section:
    """One array of an open file, checked block by block as it is touched.

    Index it by rows as an array (an int, a slice, an array of ints), or give it to
    `numpy.asarray` for the whole. Arrays that come out are read-only views where possible.
    """

    def __init__(self, name, array, sums, checked, path=None):
        self.name = name
        self._path = path
        self._array = array
        self._raw = array.reshape(-1).view(np.uint8)
        self._sums = sums
        self._seen = bytearray([checked]) * len(sums)  # of each block whether it was checked

    @property
    def shape(self):
        """Lengths of the array's axes."""
        return self._array.shape

    @property
    def dtype(self):
        """Dtype of the array."""
        return self._array.dtype

    @property
    def nbytes(self):
        """Bytes of the array, without padding."""
        return self._array.nbytes

    def __len__(self):
        return len(self._array)

    def __array__(self, dtype=None, copy=None):
        self._check_blocks(range(len(self._sums)))
        array = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __getitem__(self, key):
        if 0 in self._seen:
            self._check_blocks(self._touched(key))
        return self._array[key]

    def _touched(self, key):
        every = range(len(self._sums))
        if len(every) == 1 or not len(self):
            return every
        stride = self.nbytes // len(self)
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            key = int(key) + (len(self) if key < 0 else 0)
            return range(key * stride // BLOCK, max(key * stride, (key + 1) * stride - 1) // BLOCK + 1)
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return every
            return range(start * stride // BLOCK, (stop * stride - 1) // BLOCK + 1) if stop > start else range(0)
        rows = np.asarray(key)
        if rows.dtype.kind not in "iu" or stride > BLOCK:
            return every
        rows = rows.astype(np.int64).ravel()
        rows = np.where(rows < 0, rows + len(self), rows)
        touched = np.zeros(len(every), bool)
        touched[rows * stride // BLOCK] = touched[((rows + 1) * stride - 1) // BLOCK] = True
        return np.flatnonzero(touched).tolist()

    def _check_blocks(self, blocks):
        for block in blocks:
            if 0 <= block < len(self._seen) and not self._seen[block]:
                found = zlib.crc32(self._raw[block * BLOCK : (block + 1) * BLOCK])
                if found != self._sums[block]:
                    raise FormatError(
                        f"section {self.name} is damaged in block {block}", path=self._path,
                        expected=f"crc32 {self._sums[block]:08x}", found=f"{found:08x}",
                        hint="Get the file again, or make it anew from the source vectors.",
                    )
                self._seen[block] = True


class Container:
    """An open ``.ems`` file.

    Parameters
    ----------
    path : str or os.PathLike
    verify : {"lazy", "header", "full"}
        ``header`` checks magic, lengths, header, section table and padding, and trusts the data.
        ``lazy`` also checks each 1 MiB block of data when it is first touched.
        ``full`` checks every block now.
    mmap : bool
        Map the file, or read it whole into memory. A mapped file that another program cuts
        short kills the process with SIGBUS when the lost part is touched; one in memory does not mind.

    Attributes
    ----------
    header : dict
        The header without the section table.
    sections : dict of str to Section

    Raises
    ------
    FormatError
        If the file is not one, is damaged or truncated, or is of a newer major version.
    """

    def __init__(self, path, *, verify="lazy", mmap=True):
        if verify not in ("lazy", "header", "full"):
            raise FormatError(f"unknown verify level {verify!r}", expected="lazy, header or full")
        self.path = os.fspath(path)
        try:
            self._open(mmap)
            self._read_header()
            self._read_sections(trusted=verify == "header")
            if verify == "full":
                self.check()
        except FormatError as error:
            self.close()
            raise error.located(self.path) from error.__cause__
        except BaseException:
            self.close()
            raise

    def _open(self, mmap):
        self._map = b""
        try:
            with open(self.path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if self.size and mmap:
                    self._map = _mmap.mmap(file.fileno(), 0, access=_mmap.ACCESS_READ)
                else:
                    self._map = file.read()
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot read the file: {getattr(error, 'strerror', None) or error}") from error
        self.size = len(self._map)

    def _read_header(self):
        start = self._map[: _PRELUDE.size]
        if start[: len(MAGIC)] != MAGIC:
            if MAGIC.startswith(start) and start:
                raise FormatError("the file is truncated", where="byte 0", expected=f">= {_PRELUDE.size} bytes",
                                  found=self.size)
            damaged = start[1:4] == MAGIC[1:4]
            raise FormatError(
                "this is not an .ems file", where="byte 0", expected=MAGIC, found=bytes(start[: len(MAGIC)]),
                hint="It was damaged by a text-mode transfer; copy it as binary." if damaged
                else "Make one from word vectors with: embshrink compress SOURCE TARGET STEP...",
            )
        if self.size < _PRELUDE.size + _FOOTER.size:
            raise FormatError("the file is truncated", expected=f">= {_PRELUDE.size + _FOOTER.size} bytes",
                              found=self.size)
        _, major, minor, header_length, length, flags, crc = _PRELUDE.unpack(start)
        if major != MAJOR:
            raise FormatError("the file has another format version", where="byte 8", expected=f"{MAJOR}.x",
                              found=f"{major}.{minor}", hint="Update embshrink: pip install -U embshrink")
        if length != self.size:
            raise FormatError("the file is truncated or has something appended", where="byte 16",
                              expected=f"{length} bytes", found=self.size, hint="Get the file again.")
        if header_length > min(MAX_HEADER, self.size - _PRELUDE.size - _FOOTER.size):
            raise FormatError("the header's length is impossible", where="byte 12",
                              expected=f"<= {min(MAX_HEADER, self.size)}", found=header_length)
        if flags:
            raise FormatError("the file needs a feature this version does not know", where="byte 24",
                              found=f"flags {flags:#x}", hint="Update embshrink: pip install -U embshrink")
        text = self._map[_PRELUDE.size : _PRELUDE.size + header_length]
        found = zlib.crc32(text, zlib.crc32(start[:-4] + bytes(4)))
        if found != crc:
            raise FormatError("the header is damaged", where="byte 28", expected=f"crc32 {crc:08x}",
                              found=f"{found:08x}", hint="Get the file again.")
        end_length, end_crc, zero, end_magic = _FOOTER.unpack(self._map[self.size - _FOOTER.size :])
        if (end_length, end_crc, zero, end_magic) != (length, crc, 0, END_MAGIC):
            raise FormatError("the footer does not repeat the header", where=f"byte {self.size - _FOOTER.size}",
                              hint="Get the file again.")
        try:
            header = json.loads(text)
            canonical = canonical_json(header) == text
        except (ValueError, RecursionError) as error:
            raise FormatError(f"the header is not JSON: {error}", where=f"byte {_PRELUDE.size}") from error
        if not canonical or not isinstance(header, dict) or not isinstance(header.get("sections"), list):
            raise FormatError("the header is not the canonical JSON of an object with sections",
                              where=f"byte {_PRELUDE.size}")
        self.version = (major, minor)
        self._table = header.pop("sections")
        self.header = header
        self._start = _aligned(_PRELUDE.size + header_length)
        self.header_nbytes = self._start
        self._check_zero(_PRELUDE.size + header_length, self._start)

    def _read_sections(self, trusted):
        arrays, position, end = {}, self._start, self.size - _FOOTER.size
        for entry in self._table:
            name, dtype, shape, crc = self._entry(entry, position - self._start)
            if name in arrays:
                raise FormatError(f"section {name} is there twice")
            nbytes = math.prod(shape) * dtype.itemsize
            if position + nbytes > end:
                raise FormatError(f"section {name} does not fit into the file", where=f"byte {position}",
                                  expected=f"<= {end - position} bytes", found=nbytes)
            array = np.frombuffer(self._map, dtype=dtype, count=math.prod(shape), offset=position)
            arrays[name] = (array.reshape(shape), crc)
            self._check_zero(position + nbytes, position + _aligned(nbytes))
            position += _aligned(nbytes)
        if position != end:
            raise FormatError("the sections do not fill the file", where=f"byte {position}", expected=f"byte {end}")
        self.sections = self._with_sums(arrays, trusted)
        del self._table

    def _entry(self, entry, offset):
        keys = {"name": str, "dtype": str, "shape": list, "offset": int, "crc32": str}
        if not isinstance(entry, dict) or set(entry) != set(keys) or any(
            not isinstance(entry[key], kind) or isinstance(entry[key], bool) for key, kind in keys.items()
        ):
            raise FormatError("an entry of the section table is malformed", expected=sorted(keys), found=entry)
        name, shape = entry["name"], entry["shape"]
        if entry["dtype"] not in DTYPES:
            raise FormatError(f"section {name} has an unknown dtype", expected=DTYPES, found=entry["dtype"])
        if len(shape) > 4 or any(type(axis) is not int or axis < 0 for axis in shape) or (
            math.prod(max(axis, 1) for axis in shape) >= 2**48  # an empty array's other axes count too
        ):
            raise FormatError(f"section {name} has an impossible shape", found=shape)
        if entry["offset"] != offset:
            raise FormatError(f"section {name} is not where the one before it ends", expected=f"offset {offset}",
                              found=entry["offset"])
        if not re.fullmatch("[0-9a-f]{8}", entry["crc32"]):
            raise FormatError(f"section {name} has a malformed checksum", expected="8 hexadecimal digits",
                              found=entry["crc32"])
        return name, _stored_dtype(entry["dtype"]), tuple(shape), int(entry["crc32"], 16)

    def _with_sums(self, arrays, trusted):
        blocks = {name: -(-array.nbytes // BLOCK) for name, (array, _) in arrays.items()
                  if array.nbytes > BLOCK and name != CHECKSUMS}
        sums = np.zeros(0, np.uint32)
        if blocks:
            if CHECKSUMS not in arrays:
                raise FormatError("the block checksums are missing", expected=f"a section {CHECKSUMS}")
            sums, crc = arrays.pop(CHECKSUMS)
            if sums.dtype.name != "uint32" or sums.shape != (sum(blocks.values()),):
                raise FormatError("the block checksums do not fit the sections", expected=sum(blocks.values()),
                                  found=sums.shape)
            if zlib.crc32(sums.tobytes()) != crc:
                raise FormatError("the block checksums are damaged", hint="Get the file again.")
        elif CHECKSUMS in arrays:
            raise FormatError("there are block checksums and no section that needs them")
        sections, position = {}, 0
        for name, (array, crc) in arrays.items():
            own = [crc] if array.nbytes else []
            if name in blocks:
                part = sums[position : position + blocks[name]]
                position += blocks[name]
                if zlib.crc32(part.tobytes()) != crc:
                    raise FormatError(f"the block checksums of section {name} are damaged")
                own = part.tolist()
            sections[name] = Section(name, array, own, trusted, self.path)
        return sections

    def _check_zero(self, start, stop):
        if any(self._map[start:stop]):
            raise FormatError("padding is not zero", where=f"byte {start}", hint="Get the file again.")

    def group(self, prefix):
        """Return the sections whose names begin with `prefix` and a dot, by the rest of their names."""
        prefix += "."
        return {name[len(prefix) :]: part for name, part in self.sections.items() if name.startswith(prefix)}

    def check(self):
        """Check every block of every section; raise FormatError at the first that is damaged."""
        for section in self.sections.values():
            section._seen[:] = bytes(len(section._seen))
            for start in range(0, len(section._seen), AT_ONCE):
                section._check_blocks(range(start, start + AT_ONCE))
                self.let_go()

    def let_go(self):
        """Take what was read of the file out of the process's memory; where it is needed again it is mapped again."""
        if isinstance(self._map, _mmap.mmap) and hasattr(_mmap, "MADV_DONTNEED"):
            self._map.madvise(_mmap.MADV_DONTNEED)

    def close(self):
        """Let go of the file. Arrays taken from it stay valid."""
        self.sections = {}
        if isinstance(self._map, _mmap.mmap):
            with contextlib.suppress(BufferError):  # an array still needs the mapping: it goes with the array
                self._map.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
