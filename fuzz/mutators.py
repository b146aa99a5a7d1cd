"""Mutators that know a file's structure: they change what is inside and make the checksums right again.

Without them, a fuzzer of a format with checksums tests only the checksums. Each mutator takes the input, `plain` (a
mutator that knows nothing: libFuzzer's own), the most bytes of the result, and a random generator.
"""

import bz2
import gzip
import io
import lzma
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from forge import FOOTER, PRELUDE, assemble, take_apart

from embshrink.formats.io.unpack import packing
from embshrink.storage.container import END_MAGIC, MAGIC

Plain = Callable[[bytes, int], bytes]
NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 2**24, 2**31 - 1, 2**31,
           2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -2]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e30, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan")]
SHARE_PLAIN = 0.1  # of mutations that do not repair anything


# ---------------------------------------------------------------- .ems files


def mutate_ems(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    """Change sections, header keys or the section table; all checksums are right, except for one in ten."""
    if rng.random() < SHARE_PLAIN:
        return plain(data, most)
    try:
        header, arrays = take_apart(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _CHANGES[rng.randrange(len(_CHANGES))](header, arrays, plain, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = assemble(header, arrays, edit=lambda table: _edit(table, rng))
    except Exception:  # the input is not a whole file, or became impossible: repair what there is
        result = repair_ems(plain(data, most))
    return result if len(result) <= most else repair_ems(plain(data, most))


def repair_ems(data: bytes) -> bytes:
    """Set the length, the header's checksum and the footer to what the rest of the file demands."""
    if len(data) < PRELUDE.size + FOOTER.size:
        return data
    _, major, minor, size, _, flags, _ = PRELUDE.unpack(data[: PRELUDE.size])
    fields = MAGIC, major, minor, size, len(data), flags
    crc = zlib.crc32(data[PRELUDE.size : PRELUDE.size + size], zlib.crc32(PRELUDE.pack(*fields, 0)))
    return (PRELUDE.pack(*fields, crc) + data[PRELUDE.size : -FOOTER.size]
            + FOOTER.pack(len(data), crc, 0, END_MAGIC))


def _change_bytes(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Change bytes of a section, of the same length."""
    name = rng.choice(list(arrays))
    raw = arrays[name].tobytes()
    changed = plain(raw, max(1, len(raw)))
    changed = (changed + raw[len(changed) :])[: len(raw)]
    arrays[name] = np.frombuffer(changed, arrays[name].dtype).reshape(arrays[name].shape).copy()


def _change_number(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Set a number of a section to a small, a large or a neighbouring one."""
    array = arrays[rng.choice(list(arrays))]
    if not array.size:
        return
    flat, place = array.reshape(-1), rng.randrange(array.size)
    if array.dtype.kind == "f":
        flat[place] = rng.choice([*FLOATS, float(flat[place]) * 2, -float(flat[place])])
    elif array.dtype.kind in "iu":
        bits = 8 * array.dtype.itemsize
        value = rng.choice([*NUMBERS, int(flat[place]) + 1, int(flat[place]) - 1, rng.randrange(len(flat) + 2)])
        flat.view(f"u{array.dtype.itemsize}")[place] = value % (1 << bits)


def _change_length(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Add rows to a section, or take some away."""
    name = rng.choice(list(arrays))
    rows = len(arrays[name]) if arrays[name].ndim else 0
    if rows:
        keep = rng.choice([rows - 1, rows + 1, rows // 2, 2 * rows, 0, 1])
        arrays[name] = np.resize(arrays[name], (keep, *arrays[name].shape[1:]))


def _change_sections(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Remove, copy, or exchange sections."""
    first, second = rng.choice(list(arrays)), rng.choice(list(arrays))
    what = rng.randrange(4)
    if what == 0:
        del arrays[first]
    elif what == 1:
        arrays[first] = arrays[second].copy()
    elif what == 2:
        arrays[first], arrays[second] = arrays[second], arrays[first]
    else:
        arrays[rng.choice((first + "x", "other", "checksums"))] = arrays.pop(first)


def _change_header(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Change one value of the header, however deep."""
    owner, key = _leaf(header, rng)
    value = owner[key]
    if isinstance(value, bool):
        owner[key] = not value
    elif isinstance(value, int):
        owner[key] = rng.choice([*NUMBERS, value + 1, value - 1, 2 * value])
    elif isinstance(value, str):
        owner[key] = _text(value, plain, rng)
    else:
        owner[key] = rng.choice([None, 0, "", [], {}, 1.5, True])


def _change_sizes(header: dict, arrays: dict, plain: Plain, rng: random.Random) -> None:
    """Change the number of words, rows or dimensions, and all sections of that length with it."""
    key = rng.choice([key for key in ("words", "rows", "dim") if isinstance(header.get(key), int)])
    old, new = header[key], rng.choice([0, 1, header[key] + 1, max(0, header[key] - 1), header[key] // 2])
    header[key] = new
    if rng.random() < 0.7:
        for name, array in list(arrays.items()):
            if array.ndim and len(array) == old:
                arrays[name] = np.resize(array, (new, *array.shape[1:]))


def _text(value: str, plain: Plain, rng: random.Random) -> str:
    """Change a string: a number in it, or any character."""
    digits = [place for place, character in enumerate(value) if character.isdigit()]
    if digits and rng.random() < 0.6:
        place = rng.choice(digits)
        return value[:place] + str(rng.choice(NUMBERS)) + value[place + 1 :]
    return plain(value.encode(), max(1, 2 * len(value))).decode("utf-8", "replace")


def _leaf(owner: dict | list, rng: random.Random) -> tuple:
    """Return a random value of a tree, as the object that holds it and its key."""
    while True:
        key = rng.choice(list(owner)) if isinstance(owner, dict) else rng.randrange(len(owner))
        if not isinstance(owner[key], (dict, list)) or not owner[key]:
            return owner, key
        owner = owner[key]


def _edit(table: list, rng: random.Random) -> list | None:
    """Rarely change an entry of the section table, which then contradicts the sections."""
    if not table or rng.random() < 0.9:
        return None
    entry = rng.choice(table)
    what = rng.randrange(4)
    if what == 0:
        entry["dtype"] = rng.choice(["uint8", "int8", "uint16", "int32", "uint64", "float16", "float32", "x"])
    elif what == 1:
        shape = entry["shape"]
        entry["shape"] = rng.choice([shape[::-1], [*shape, 1], [1, *shape], [], [0], [2**40]])
    elif what == 2:
        entry["offset"] = rng.choice(NUMBERS)
    else:
        rng.shuffle(table)
    return table


_CHANGES = (_change_bytes, _change_bytes, _change_number, _change_number, _change_length, _change_sections,
            _change_header, _change_sizes)


# ---------------------------------------------------------------- packed files


def mutate_packed(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    """Change the content of a packed file and pack it again, or change names and numbers of its structure."""
    kind = packing(data)
    if rng.random() < SHARE_PLAIN:
        return plain(data, most)
    try:
        if kind is None:
            kind = rng.choice((None, None, None, None, "gzip", "zip"))
            result = _content(data, plain, most, rng)
            return _pack(result, kind, rng) if kind else result
        if kind == "zip":
            return _zip(data, plain, most, rng)
        content = _UNPACK[kind](data)
        return _pack(_content(content, plain, most, rng), kind if rng.random() < 0.9 else "zip", rng)
    except Exception:  # the input is damaged: the exceptions of five packers
        return plain(data, most)


def _content(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    if data[257:262] == b"ustar":
        return _tar(data, plain, most, rng)
    if rng.random() < 0.3 and len(data) > 12:  # a number of a binary format: 4 or 8 bytes, little-endian
        width = rng.choice((4, 8))
        place = rng.randrange(min(len(data) - width, 400))
        return _set_number(data, place, width, rng.choice(NUMBERS))
    return plain(data, most)


def _set_number(data: bytes, place: int, width: int, value: int) -> bytes:
    return data[:place] + (value % (1 << 8 * width)).to_bytes(width, "little") + data[place + width :]


def _pack(data: bytes, kind: str, rng: random.Random) -> bytes:
    if kind == "zip":
        return _zip_of([("v", data)], rng)
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(write_checksum=rng.random() < 0.5).compress(data)
    pack = {"gzip": lambda part: gzip.compress(part, mtime=0), "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    if rng.random() < 0.2:  # in two parts
        place = rng.randrange(len(data) + 1)
        return pack(data[:place]) + pack(data[place:])
    return pack(data)


def _unpack_zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_UNPACK = {"gzip": gzip.decompress, "bzip2": bz2.decompress, "xz": lzma.decompress, "zstd": _unpack_zstd}


def _zip(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    """Change a member, its name or its number; or bytes of the archive's directory."""
    if rng.random() < 0.3:
        place = data.find(b"PK\x01\x02")
        return data[:place] + plain(data[place:], most) if place >= 0 else plain(data, most)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    if not members or rng.random() < 0.2:
        members.append((rng.choice(("a.txt", "../x", "__MACOSX/._a", "folder/", "\u00e9", "a.npy", "v")), b""))
    place = rng.randrange(len(members))
    name, content = members[place]
    if rng.random() < 0.2:
        name = plain(name.encode(), 40).decode("utf-8", "replace")
    members[place] = name, _content(content, plain, most, rng)
    return _zip_of(members, rng)


def _zip_of(members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that occur twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name[:60] or "v"), content, method)
    return out.getvalue()


def _tar(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    """Change a member of an archive: its head, its content, or what is packed inside; sizes and sums are repaired."""
    blocks, place = [], 0
    while place + 512 <= len(data) and data[place : place + 512].strip(b"\0"):
        size = int(data[place + 124 : place + 135] or b"0", 8)
        blocks.append([data[place : place + 512], data[place + 512 : place + 512 + size]])
        place += 512 + -(-size // 512) * 512
    block = rng.choice(blocks)
    what = rng.randrange(4)
    if what == 0:
        block[0] = (plain(block[0], 512) + block[0])[:512]
    elif what == 1 and packing(block[1]) == "gzip":
        content = gzip.decompress(block[1])
        if rng.random() < 0.5:
            content = _set_number(content, 0, 4, rng.choice([*range(9), *NUMBERS]))
        block[1] = gzip.compress(plain(content, most), mtime=0)
    elif what == 2 and len(block[1]) > 16:
        block[1] = _set_number(block[1], 4 * rng.randrange(4), 4, rng.choice(NUMBERS))
    else:
        block[1] = plain(block[1], most)
    if rng.random() < 0.1:
        rng.shuffle(blocks)
    return b"".join(map(_tar_member, *zip(*blocks))) + bytes(1024)


def _tar_member(head: bytes, content: bytes) -> bytes:
    changed = bytearray(head[:124] + b"%011o\0" % len(content) + head[136:148] + b" " * 8 + head[156:])
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed) + content + bytes(-len(content) % 512)


# ---------------------------------------------------------------- numbers of fastText's models


def mutate_fasttext(data: bytes, plain: Plain, most: int, rng: random.Random) -> bytes:
    """Set one number near the start of a model; or change any bytes."""
    if rng.random() < 0.5 or len(data) < 80:
        return plain(data, most)
    width = rng.choice((1, 4, 4, 8))
    place = 1 + rng.randrange(min(len(data) - width - 1, 400))
    return _set_number(data, place, width, rng.choice([*NUMBERS, data[place] + 1, data[place] - 1]))


MUTATORS = {"ems": mutate_ems, "containers": mutate_packed, "fasttext": mutate_fasttext}
