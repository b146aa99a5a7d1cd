"""A second reader of .ems files: docs/format.md and Python's standard library, nothing of embshrink.

It is here so that the document cannot be wrong without a test noticing, and as a model for readers in other
languages.
"""

import json
import struct
import zlib
from bisect import bisect_right

BLOCK = 1 << 20
TYPES = {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int8": "b", "int16": "h", "int32": "i",
         "float16": "e", "float32": "f"}
KINDS = {"dim": int, "words": int, "rows": int, "owned": bool, "vocabulary": str, "steps": list, "seed": int,
         "source": dict, "writer": str, "sections": list}


class BadFile(Exception):
    """The file is not what docs/format.md says."""


def need(condition, what):
    if not condition:
        raise BadFile(what)


def padded(length):
    return -(-length // 64) * 64


def narrowest(maximum):
    sizes = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8}
    return next(name for name, size in sizes.items() if maximum < 256**size)


class Array:
    """One section: flat numbers by index."""

    def __init__(self, data, dtype, shape):
        self.data, self.dtype, self.shape = data, dtype, tuple(shape)
        self.format = "<" + TYPES[dtype]
        self.size = struct.calcsize(self.format)

    def __getitem__(self, index):
        return struct.unpack_from(self.format, self.data, index * self.size)[0]

    def row(self, index):
        width = self.shape[1]
        return struct.unpack_from(f"<{width}{self.format[1]}", self.data, index * width * self.size)

    def all(self):
        return struct.unpack(f"<{len(self.data) // self.size}{self.format[1]}", self.data)


class SecondReader:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self._read_header()
        self._read_sections()
        self._read_steps()

    def _read_header(self):
        data, total = self.data, len(self.data)
        need(total >= 56 and data[:8] == b"\x89EMS\r\n\x1a\n" and data[-8:] == b"\x89EMSEND\n", "magic or length")
        major, _, size, length, flags, crc = struct.unpack("<HHIQII", data[8:32])
        need(major == 1, "major version")
        need(length == total, "length")
        need(flags == 0, "required flags")
        need(size <= min(1 << 20, total - 56), "header length")
        text = data[32 : 32 + size]
        need(zlib.crc32(data[:28] + bytes(4) + text) == crc, "header crc32")
        need(struct.unpack("<QII", data[-24:-8]) == (length, crc, 0), "footer")
        header = json.loads(text)
        need(json.dumps(header, sort_keys=True, separators=(",", ":")).encode() == text, "canonical JSON")
        need(all(type(header.get(key)) is kind for key, kind in KINDS.items()), "header keys")
        need(1 <= header["dim"] <= 65_536, "dim")
        need(min(header["words"], header["rows"], header["seed"]) >= 0, "header numbers")
        need(len(header["steps"]) <= 100, "number of steps")
        self.header, self.start = header, padded(32 + size)
        need(not any(data[32 + size : self.start]), "zeros after the header")

    def _read_sections(self):
        self.sections, position, sums = {}, self.start, []
        for entry in self.header["sections"]:
            need(set(entry) == {"name", "dtype", "shape", "offset", "crc32"}, "section entry")
            name, shape, size = entry["name"], entry["shape"], struct.calcsize("<" + TYPES[entry["dtype"]])
            for axis in shape:
                size *= axis
            need(len(shape) <= 4 and all(type(axis) is int and axis >= 0 for axis in shape), f"shape of {name}")
            need(name not in self.sections and self.start + entry["offset"] == position, f"place of {name}")
            need(position + padded(size) <= len(self.data) - 24, f"length of {name}")
            body = self.data[position : position + size]
            need(not any(self.data[position + size : position + padded(size)]), f"zeros after {name}")
            crc = zlib.crc32(body)
            if size > BLOCK and name != "checksums":
                blocks = [zlib.crc32(body[i : i + BLOCK]) for i in range(0, size, BLOCK)]
                sums += blocks
                crc = zlib.crc32(struct.pack(f"<{len(blocks)}I", *blocks))
            need(f"{crc:08x}" == entry["crc32"], f"crc32 of {name}")
            self.sections[name] = Array(body, entry["dtype"], shape)
            position += padded(size)
        need(position == len(self.data) - 24, "sections end at the footer")
        stored = self.sections["checksums"].all() if "checksums" in self.sections else ()
        need(list(stored) == sums, "block checksums")

    def _take(self, name, dtype, *shape):
        need(name in self.sections, f"section {name}")
        array = self.sections[name]
        need(array.dtype == dtype and array.shape == shape, f"dtype and shape of {name}")
        return array

    def _read_steps(self):
        header = self.header
        n, rows, c = header["words"], header["rows"], header["dim"]
        need(header["vocabulary"] == "plain", "vocabulary")
        self.lengths = self.sections["words.lengths"]
        need(self.lengths.shape == (n,) and self.lengths.dtype in ("uint8", "uint16", "uint32"), "words.lengths")
        self.bytes = self.sections["words.bytes"].data
        self.starts = self._take("words.starts", "uint64", -(-n // 64))
        self.buckets_count = 1
        while self.buckets_count < n / 4:
            self.buckets_count *= 2
        self.buckets = self._take("words.buckets", "uint32", self.buckets_count + 1)
        self.ids = self._take("words.ids", "uint32", n)
        self.map = self.scale = self.owners = None
        if "map.rows" in self.sections:
            self.map = self._take("map.rows", narrowest(max(rows - 1, 0)), n)
            if "map.scale" in self.sections:
                self.scale = self._take("map.scale", "float16", n)
            if "map.owners" in self.sections:
                self.owners = self._take("map.owners", "uint32", rows)
        else:
            need(rows == n and header["owned"], "rows without a map")
        names = [step.partition(":")[0] for step in header["steps"]]
        codec = names.pop() if names else ""
        need(set(names) <= {"prune", "dedupe", "kmeans"}, f"row steps {names}")
        need(codec in ("cast", "pq", "scalar", "rq", "iiq"), f"codec {codec}")
        given = dict(part.split("=") for part in header["steps"][-1].partition(":")[2].split(",") if part)
        getattr(self, f"_read_{codec}")(given, rows, c)
        self.decode = getattr(self, f"_decode_{codec}")

    def _read_cast(self, given, rows, c):
        self.values = self._take("codes.values", given.get("dtype", "float16"), rows, c)

    def _decode_cast(self, row):
        return list(self.values.row(row))

    def _read_pq(self, given, rows, c):
        m, k = int(given["subspaces"]), int(given.get("centroids", 256))
        need(1 <= m <= c and 1 <= k <= 65_536, "pq parameters")
        self.codebook = self._take("state.codebook", "float32", k, c)
        self.rotation = None
        if given.get("rotate", "none") != "none":
            self.rotation = self._take("state.rotation", "float32", c, c)
        self.packed = k <= 16
        width = -(-m // 2) if self.packed else m
        self.codes = self._take("codes.codes", "uint8" if k <= 256 else "uint16", rows, width)
        widths = [c // m + (part < c % m) for part in range(m)]
        self.ends = [sum(widths[: part + 1]) for part in range(m)]

    def _decode_pq(self, row):
        codes = self.codes.row(row)
        if self.packed:
            codes = [byte & 15 for byte in codes] + [byte >> 4 for byte in codes]
        c, k = self.header["dim"], self.codebook.shape[0]
        centroids = [codes[bisect_right(self.ends, column)] for column in range(c)]
        need(max(centroids) < k, "code")
        values = [self.codebook[code * c + column] for column, code in enumerate(centroids)]
        if self.rotation:
            turn = [self.rotation.row(i) for i in range(c)]
            values = [sum(value * turn[i][j] for i, value in enumerate(values)) for j in range(c)]
        return values

    def _read_scalar(self, given, rows, c):
        self.bits = int(given.get("bits", 8))
        need(1 <= self.bits <= 8, "scalar parameters")
        self.low = self._take("state.low", "float32", c)
        self.step = self._take("state.step", "float32", c)
        self.codes = self._take("codes.codes", "uint8", rows, -(-c * self.bits // 8))

    def _decode_scalar(self, row):
        whole = int.from_bytes(bytes(self.codes.row(row)), "little")
        mask = (1 << self.bits) - 1
        return [(whole >> j * self.bits & mask) * self.step[j] + self.low[j] for j in range(self.header["dim"])]

    def _read_rq(self, given, rows, c):
        m, self.k = int(given["codebooks"]), int(given.get("centroids", 256))
        need(1 <= m <= 256 and 1 <= self.k <= 4096, "rq parameters")
        self.codebooks = self._take("state.codebooks", "float32", m, self.k, c)
        self.codes = self._take("codes.codes", "uint8" if self.k <= 256 else "uint16", rows, m)

    def _decode_rq(self, row):
        codes, c = self.codes.row(row), self.header["dim"]
        need(max(codes) < self.k, "code")
        starts = [(stage * self.k + code) * c for stage, code in enumerate(codes)]
        return [sum(self.codebooks[start + column] for start in starts) for column in range(c)]

    def _read_iiq(self, given, rows, c):
        self.bits, removed = int(given["bits"]), int(given["remove"])
        need(1 <= self.bits <= c and 0 <= removed < c, "iiq parameters")
        self._take("state.mean", "float32", c)
        self._take("state.removed", "float32", removed, c)
        self.basis = self._take("state.basis", "float32", self.bits, c)
        self.length = self._take("state.length", "float32", 1)[0]
        self.codes = self._take("codes.bits", "uint8", rows, -(-self.bits // 8))

    def _decode_iiq(self, row):
        whole = int.from_bytes(bytes(self.codes.row(row)), "little")
        signed = [self.length if whole >> j & 1 else -self.length for j in range(self.bits)]
        basis = [self.basis.row(j) for j in range(self.bits)]
        return [sum(sign * basis[j][column] for j, sign in enumerate(signed)) for column in range(self.header["dim"])]

    # ------------------------------------------------------------ what a user asks for

    def word(self, index):
        first = index // 64 * 64
        start = self.starts[index // 64] + sum(self.lengths[i] for i in range(first, index))
        need(start + self.lengths[index] <= len(self.bytes), "word inside words.bytes")
        return self.bytes[start : start + self.lengths[index]]

    def find(self, word):
        bucket = zlib.crc32(word) % self.buckets_count
        low, high = self.buckets[bucket], self.buckets[bucket + 1]
        need(low <= high <= self.header["words"], "words.buckets")
        for position in range(low, high):
            index = self.ids[position]
            need(index < self.header["words"], "words.ids")
            if self.word(index) == word:
                return index
        return -1

    def vector(self, index):
        row = index if self.map is None else self.map[index]
        need(row < self.header["rows"], "map.rows")
        scale = 1 if self.scale is None else self.scale[index]
        return [scale * value for value in self.decode(row)]

    def owner(self, index):
        """Return the id of the word whose own vector word `index` answers with, or None."""
        if not self.header["owned"] or self.map is None:
            return index if self.header["owned"] else None
        row = self.map[index]
        return self.owners[row] if self.owners else self.map.all().index(row)
