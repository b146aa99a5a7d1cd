"""A second reader of .ems files: docs/format.md and Python's standard library, nothing of embshrink.

It is here so that the document cannot be wrong without a test noticing, and as a model for readers in other
languages.
"""

import json
import math
import struct
import zlib
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from operator import mul

BLOCK = 1 << 20
TYPES = {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int8": "b", "int16": "h", "int32": "i",
         "float16": "e", "float32": "f"}
FLOAT32_MAX = float.fromhex("0x1.fffffep127")
KINDS = {"dim": int, "words": int, "rows": int, "owned": bool, "vocabulary": str, "steps": list, "seed": int,
         "source": dict, "writer": str, "sections": list}
ROW_STEPS = {"prune", "dedupe", "kmeans"}
COLUMN_STEPS = {"rescale", "lowrank"}
CODECS = {"cast", "pq", "scalar", "rq", "iiq", "magnitude", "blocksparse", "groupreduce", "tensortrain", "ecq"}
NEXT_STATE = {  # of even sizes, of odd ones
    0: ([0], [0]),
    4: ([0, 2, 1, 3], [1, 3, 0, 2]),
    8: ([0, 5, 1, 4, 2, 7, 3, 6], [2, 7, 3, 6, 0, 5, 1, 4]),
}


def undo_rescale(factor, values):
    return [max(-FLOAT32_MAX, min(FLOAT32_MAX, value * factor)) for value in values]


def undo_lowrank(basis, mean, values):
    values = times(values, basis)
    return [value + middle for value, middle in zip(values, mean)] if mean else values


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


def parameters(step):
    return dict(part.split("=") for part in step.partition(":")[2].split(",") if part)


def times(vector, rows):
    """Return a vector times a matrix, which is given as a list of its rows."""
    return [sum(map(mul, vector, column)) for column in zip(*rows)]


class Array:
    """One section: flat numbers by index."""

    def __init__(self, data, dtype, shape):
        self.data, self.dtype, self.shape = data, dtype, tuple(shape)
        self.format = "<" + TYPES[dtype]
        self.size = struct.calcsize(self.format)

    def __getitem__(self, index):
        return struct.unpack_from(self.format, self.data, index * self.size)[0]

    def row(self, index):
        """Return the numbers at one index of the first axis."""
        width = math.prod(self.shape[1:])
        return struct.unpack_from(f"<{width}{self.format[1]}", self.data, index * width * self.size)

    def rows(self):
        return [self.row(index) for index in range(self.shape[0])]

    def all(self):
        return struct.unpack(f"<{len(self.data) // self.size}{self.format[1]}", self.data)


class SecondReader:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self._read_header()
        self._read_sections()
        self._read_words()
        self._read_rows()
        self._read_subwords()

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
        if name.startswith(("columns.", "state.")):
            need(all(map(math.isfinite, array.all())), f"finite numbers in {name}")
        return array

    def _read_words(self):
        header, n = self.header, self.header["words"]
        self.listed = None
        if header["vocabulary"] == "packed":
            self.listed = packed_words(self.sections)
            need(len(self.listed) == n, "words.sizes")
            return
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

    def _read_rows(self):
        header = self.header
        n, rows = header["words"], header["rows"]
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
        given = [parameters(step) for step in header["steps"]]
        first = sum(name in ROW_STEPS for name in names)  # where row steps end
        need(set(names[:first]) <= ROW_STEPS and set(names[first:-1]) <= COLUMN_STEPS, f"order of steps {names}")
        codec = names[-1] if names else ""
        need(codec in CODECS, f"codec {codec}")
        self.columns = self._read_columns(names[first:-1], given[first:-1])
        getattr(self, f"_read_{codec}")(given[-1], rows, self.columns)
        self.decode_codes = getattr(self, f"_decode_{codec}")

    def _read_subwords(self):
        """Read the n-grams as what they are: a second table of rows, with steps of its own."""
        self.ngrams, part = None, self.header.get("subwords")
        if part is None:
            return
        need(0 <= part["minn"] <= 100 and 0 <= part["maxn"] <= 100 and 0 < part["bucket"] < 2**31, "n-gram sizes")
        need(0 <= part["rows"] <= part["present"] <= part["bucket"], "n-gram rows")
        need(part["missing"] in ("zero", "skip"), "missing n-grams")
        need(part.get("hash", "fnv1a") in ("fnv1a", "floret"), "hash of n-grams")
        if part.get("hash") == "floret":
            need(1 <= part["hashes"] <= 4 and 0 <= part["seed"] < 2**32, "floret's numbers")
            need(len(part["bow"]) <= 100 and len(part["eow"]) <= 100, "floret's marks")
        self.bitmap = self._take("ngrams.bitmap", "uint8", -(-part["bucket"] // 8))
        self.ranks = self._take("ngrams.ranks", "uint32", -(-part["bucket"] // 512))
        self.ngrams = table = object.__new__(SecondReader)
        table.sections = {name[7:]: array for name, array in self.sections.items() if name.startswith("ngrams.")}
        table.header = {**part, "words": part["present"], "dim": self.header["dim"]}
        table._read_rows()

    def _read_columns(self, names, steps):
        """Return how many columns the column steps leave."""
        self.inverses, d = [], self.header["dim"]
        for i, (name, given) in enumerate(zip(names, steps)):
            if name == "rescale":
                exponent = int(given.get("exponent", "0"))
                need(-148 <= exponent <= 128, "rescale parameters")
                self.inverses.append(partial(undo_rescale, 2.0**exponent))
                continue
            dims = int(given["dims"])
            need(1 <= dims <= d, "lowrank parameters")
            basis, mean = self._take(f"columns.{i}.basis", "float32", dims, d), None
            if given.get("center", "true") == "true":
                mean = self._take(f"columns.{i}.mean", "float32", d).all()
            self.inverses.append(partial(undo_lowrank, basis.rows(), mean))
            d = dims
        return d

    def decode(self, row):
        values = self.decode_codes(row)
        for undo in reversed(self.inverses):
            values = undo(values)
        return values

    def _read_cast(self, given, rows, c):
        self.values = self._take("codes.values", given.get("dtype", "float16"), rows, c)

    def _decode_cast(self, row):
        return list(self.values.row(row))

    def _read_pq(self, given, rows, c):
        m, k = int(given["subspaces"]), int(given.get("centroids", 256))
        need(1 <= m <= c and 1 <= k <= 65_536, "pq parameters")
        self.codebook = self._take("state.codebook", "float32", k, c)
        self.rotation = self.spread = None
        if given.get("rotate", "none") != "none":
            self.rotation = self._take("state.rotation", "float32", c, c).rows()
        if given.get("normalize", "none") == "columns":
            self.spread = self._take("state.scale", "float32", c)
        self.packed = k <= 16
        width = -(-m // 2) if self.packed else m
        self.codes = self._take("codes.codes", "uint8" if k <= 256 else "uint16", rows, width)
        widths = [c // m + (part < c % m) for part in range(m)]
        self.ends = list(accumulate(widths))

    def _decode_pq(self, row):
        codes = self.codes.row(row)
        if self.packed:
            codes = [byte & 15 for byte in codes] + [byte >> 4 for byte in codes]
        k, c = self.codebook.shape
        centroids = [codes[bisect_right(self.ends, column)] for column in range(c)]
        need(max(centroids) < k, "code")
        values = [self.codebook[code * c + column] for column, code in enumerate(centroids)]
        if self.rotation:
            values = times(values, self.rotation)
        return [value * self.spread[j] for j, value in enumerate(values)] if self.spread else values

    def _read_scalar(self, given, rows, c):
        self.bits = int(given.get("bits", 8))
        need(1 <= self.bits <= 8, "scalar parameters")
        self.low = self._take("state.low", "float32", c)
        self.step = self._take("state.step", "float32", c)
        self.codes = self._take("codes.codes", "uint8", rows, -(-c * self.bits // 8))

    def _decode_scalar(self, row):
        whole = int.from_bytes(bytes(self.codes.row(row)), "little")
        mask = (1 << self.bits) - 1
        return [(whole >> j * self.bits & mask) * self.step[j] + self.low[j] for j in range(self.columns)]

    def _read_rq(self, given, rows, c):
        m, self.k = int(given["codebooks"]), int(given.get("centroids", 256))
        need(1 <= m <= 256 and 1 <= self.k <= 4096, "rq parameters")
        self.codebooks = self._take("state.codebooks", "float32", m, self.k, c)
        self.codes = self._take("codes.codes", "uint8" if self.k <= 256 else "uint16", rows, m)

    def _decode_rq(self, row):
        codes, c = self.codes.row(row), self.columns
        need(max(codes) < self.k, "code")
        starts = [(stage * self.k + code) * c for stage, code in enumerate(codes)]
        return [sum(self.codebooks[start + column] for start in starts) for column in range(c)]

    def _read_iiq(self, given, rows, c):
        self.bits, removed = int(given["bits"]), int(given["remove"])
        need(1 <= self.bits <= c and 0 <= removed < c, "iiq parameters")
        self._take("state.mean", "float32", c)
        self._take("state.removed", "float32", removed, c)
        self.basis = self._take("state.basis", "float32", self.bits, c).rows()
        self.length = self._take("state.length", "float32", 1)[0]
        self.codes = self._take("codes.bits", "uint8", rows, -(-self.bits // 8))

    def _decode_iiq(self, row):
        whole = int.from_bytes(bytes(self.codes.row(row)), "little")
        return times([self.length if whole >> j & 1 else -self.length for j in range(self.bits)], self.basis)

    def _read_magnitude(self, given, rows, c):
        sparsity, dtype = float(given.get("sparsity", 0.5)), given.get("dtype", "int8")
        need(0 <= sparsity <= 1 and dtype in ("int8", "float16"), "magnitude parameters")

        def kept(numbers):
            return max(1, numbers - math.floor(sparsity * numbers + 0.5))

        self.magnitudes = self._take("state.scale", "float32", c)
        self.bitmap = self._take("codes.bitmap", "uint8", rows, -(-c // 8))
        self.value_starts = None
        if given.get("scope", "row") == "row":
            self.values = self._take("codes.values", dtype, rows, kept(c))
        else:
            self.values = self._take("codes.values", dtype, kept(rows * c))
            self.value_starts = self._take("codes.starts", narrowest(kept(rows * c)), -(-rows // 64))

    def _decode_magnitude(self, row):
        columns = [j for j in range(self.columns) if self.bitmap.row(row)[j // 8] >> j % 8 & 1]
        if self.value_starts is None:
            start = row * self.values.shape[1]
            need(len(columns) == self.values.shape[1], "1 bits and values")
        else:
            before = [byte for i in range(row // 64 * 64, row) for byte in self.bitmap.row(i)]
            start = self.value_starts[row // 64] + sum(map(int.bit_count, before))
            need(start + len(columns) <= self.values.shape[0], "values inside codes.values")
        decoded = [0.0] * self.columns
        for place, column in enumerate(columns, start):
            decoded[column] = self.values[place] * self.magnitudes[column]
        return decoded

    def _read_blocksparse(self, given, rows, c):
        blocks, dtype = int(given["blocks"]), given.get("dtype", "float16")
        need(1 <= blocks <= min(c, 1024) and dtype in ("float16", "float32"), "blocksparse parameters")
        self.rotation = self._take("state.rotation", "float32", c, c).rows()
        self.block_rows = self._take("state.lengths", "uint32", blocks).all()
        need(self.block_rows[0] == rows == max(self.block_rows), "state.lengths")
        self.widths = [c // blocks] * (blocks - 1) + [c - c // blocks * (blocks - 1)]
        self.values = self._take("codes.values", dtype, sum(map(mul, self.block_rows, self.widths)))

    def _decode_blocksparse(self, row):
        blocks = list(zip(self.block_rows, self.widths))
        start = sum(min(row, length) * width for length, width in blocks)
        stored = [row < length for length, width in blocks for _ in range(width)]
        axes = [axis for axis, there in zip(self.rotation, stored) if there]
        return times([self.values[start + j] for j in range(len(axes))], axes)

    def _read_groupreduce(self, given, rows, c):
        blocks, kind = int(given["blocks"]), given.get("dtype", "float16")
        need(1 <= blocks <= 256 and kind in ("float16", "float32", "int8"), "groupreduce parameters")
        dtype = "uint8" if kind == "int8" else kind
        self.blocks = self._take("state.blocks", "uint32", blocks, 2).rows()
        sizes, ranks = zip(*self.blocks)
        need(sum(sizes) == rows and 1 <= min(ranks) and max(ranks) <= c, "state.blocks")
        low_ranks = [rank if rank < c else 0 for rank in ranks]
        axes = self._take("state.axes", dtype, sum(low_ranks), c).rows()
        self.factors = self._take("codes.factors", dtype, sum(size * rank for size, rank in self.blocks))
        self.levels = self.member = None
        if kind == "int8":
            self.levels = self._take("codes.levels", "float32", sum(ranks), 2)
            levels = self._take("state.axis_levels", "float32", sum(low_ranks), 2).rows()
            axes = [[low + step * number for number in axis] for axis, (low, step) in zip(axes, levels)]
        self.axes = [axes[stop - rank : stop] for rank, stop in zip(low_ranks, accumulate(low_ranks))]
        if int(given.get("refine", 0)) > 0:
            self.member = self._take("state.block", "uint8", rows).all()
            self.before = self._take("state.before", "uint32", -(-rows // 256), blocks)
            for start in range(0, rows, 256):
                counts = [self.member[:start].count(p) for p in range(blocks)]
                need(list(self.before.row(start // 256)) == counts, "state.before")
            need([self.member.count(p) for p in range(blocks)] == list(sizes), "state.block")

    def _decode_groupreduce(self, row):
        if self.member:
            p, first = self.member[row], row // 256 * 256
            place = self.before.row(row // 256)[p] + self.member[first:row].count(p)
        else:
            stops = list(accumulate(size for size, _ in self.blocks))
            p = bisect_right(stops, row)
            place = row - stops[p] + self.blocks[p][0]
        start = sum(size * rank for size, rank in self.blocks[:p]) + place * self.blocks[p][1]
        numbers = [self.factors[start + j] for j in range(self.blocks[p][1])]
        if self.levels:
            first = sum(rank for _, rank in self.blocks[:p])
            levels = [self.levels.row(first + j) for j in range(len(numbers))]
            numbers = [low + step * number for number, (low, step) in zip(numbers, levels)]
        return numbers if len(numbers) == self.columns else times(numbers, self.axes[p])

    def _read_tensortrain(self, given, rows, c):
        m, rank, dtype = int(given.get("factors", 3)), int(given["rank"]), given.get("dtype", "float16")
        need(2 <= m <= 6 and 1 <= rank <= 4096 and dtype in ("float16", "float32"), "tensortrain parameters")
        self.rotation = None
        if given.get("order", "cluster") != "frequency":
            self.rotation = self._take("state.rotation", "float32", c, c).rows()
        radices, divisors, x, y = [], [], max(rows, 1), c
        for power in range(m, 0, -1):
            radices.append(next(i for i in range(1, x + 1) if i**power >= x))
            x = -(-x // radices[-1])
            divisors.append(max(j for j in range(1, y + 1) if y % j == 0 and j**power <= y))
            y //= divisors[-1]
        divisors.sort()
        sizes = list(map(mul, radices, divisors))
        ranks = [min(rank, math.prod(sizes[:k]), math.prod(sizes[k:])) for k in range(m + 1)]
        self.cores = [self._take(f"codes.core{k}", dtype, radices[k], ranks[k], divisors[k], ranks[k + 1])
                      for k in range(m)]

    def _decode_tensortrain(self, row):
        digits = []
        for core in reversed(self.cores):
            row, digit = divmod(row, core.shape[0])
            digits.insert(0, digit)
        product = [[1.0]]  # one row for each number that the first column digits make
        for core, digit in zip(self.cores, digits):
            _, rank, divisor, after = core.shape
            numbers = core.row(digit)
            matrix = [numbers[i : i + divisor * after] for i in range(0, len(numbers), divisor * after)]
            wide = [times(line, matrix) for line in product]
            product = [line[i : i + after] for line in wide for i in range(0, len(line), after)]
        values = [value for (value,) in product]
        return times(values, self.rotation) if self.rotation else values

    def _read_ecq(self, given, rows, c):
        self.trellis, self.block = int(given.get("trellis", 8)), int(given.get("block", 16))
        k = int(given["centroids"])
        need(self.trellis in NEXT_STATE and 1 <= k <= 4096 and 1 <= self.block <= 4096, "ecq parameters")
        k, quantizers, self.tail_bits = k if k > 1 else 0, 2 if self.trellis else 1, 0
        if k:
            self.tail_bits = min(6, max(0, (k - 1).bit_length() - 6))
        buckets = ecq_bucket(rows - 1) + 1 if rows else 1
        m = self._shape("state.basis", 2)[0]
        _, self.levels, self.sizes = self._shape("state.tables", 3)
        self.sizes -= 1
        need(1 <= m <= c and 1 <= self.levels <= 128 and 1 <= self.sizes <= 34, "shapes of ecq")
        self.axes = self._take("state.basis", "int8", m, c).rows()
        self.bucket_scale = self._take("state.scale", "float32", buckets)
        self.weights = self._take("state.weights", "uint16", buckets)
        self.means = self._take_one_of("state.means", ("int16", "int32"), buckets, m).rows()
        self.bases = self._take("state.base", "int16", 2, m).rows()
        self.prior = self._take("state.prior", "int16", buckets)
        self.classes = self._take("state.classes", "int8", k)
        index = self._take("state.index", "uint16", -(-k // 2**self.tail_bits)).all()
        self.heads = frequencies_of(index) if k else {}
        self.tables = self._take("state.tables", "uint16", quantizers, self.levels, self.sizes + 1)
        self.shifts = self._take("state.shifts", "int8", quantizers, self.levels, 3)
        need(all(-64 < shift < 64 for shift in self.shifts.all()), "shifts of ecq")
        self._take("state.step", "float32", 2)
        self.contexts, self.ready = {}, {}
        least, count = self._take("codes.sizes", "uint64", 2).all()
        need(count == rows, "codes.sizes")
        self.blocks = self._blocks("codes.data", "codes", rows, least)
        book = self._blocks("state.centroids", "state", k, self._take("state.least", "uint32", 1)[0])
        self.centroids = []
        for block in book:
            coder = Coder(block)
            for _ in range(min(self.block, k - len(self.centroids))):
                self.centroids.append(self._coordinates(coder, 0, centroid=True))
            coder.end()

    def _shape(self, name, axes):
        need(name in self.sections and len(self.sections[name].shape) == axes, f"shape of {name}")
        return self.sections[name].shape

    def _take_one_of(self, name, dtypes, *shape):
        need(name in self.sections and self.sections[name].dtype in dtypes, f"dtype of {name}")
        return self._take(name, self.sections[name].dtype, *shape)

    def _blocks(self, name, prefix, rows, least):
        """Return the bytes of each block."""
        count = -(-rows // self.block)
        data = self._take(name, "uint8", *self._shape(name, 1)).data
        lengths = self._take_one_of(f"{prefix}.lengths", ("uint8", "uint16", "uint32"), count).all()
        edges = list(accumulate((least + length for length in lengths), initial=0))
        starts = self._take(f"{prefix}.starts", "uint64", -(-count // 64)).all()
        need(edges[-1] == len(data) and list(starts) == edges[:-1:64], f"blocks of {name}")
        return [data[begin:end] for begin, end in zip(edges, edges[1:])]

    def _context(self, y, a):
        """Return the table of a quantizer and level, and its symbols' scores."""
        if (y, a) not in self.contexts:
            z, start = self.sizes, (y * self.levels + a) * (self.sizes + 1)
            f = [self.tables[start + g] for g in range(z + 1)]
            symbols = {0: f[0]}
            for g in range(1, z):
                symbols[g] = symbols[-g] = f[g]
            symbols["escape"] = f[z]
            sizes = [*(min(g, 8) for g in range(z)), 8]
            mean = 2 * sum(map(mul, f, sizes)) // 64
            scores = [(64 * w - mean) * 1034 * min(64, 3 * mean // 2) // (64 * max(1, mean)) for w in sizes]
            self.contexts[y, a] = (dict(zip(symbols, frequencies_of(symbols.values()).values())),
                                   [min(max(score, -1600), 3600) for score in scores])
        return self.contexts[y, a]

    def _coordinates(self, coder, e, centroid=False):
        """Return a row's values, or a centroid's."""
        values, state = [], 0
        for j, base in enumerate(self.bases[centroid]):
            y, a = state % 2, min(max((base + e) // 256, 0), self.levels - 1)
            table, scores = self._context(y, a)
            symbol = coder.take(table)
            if symbol == "escape":
                score, both = scores[-1], 256 * coder.plain(8) + coder.plain(8)
                size, sign, shift = both // 2, -1 if both % 2 else 1, 0
            else:
                score, size, sign, shift = scores[abs(symbol)], abs(symbol), -1 if symbol < 0 else 1, 0
                if 1 <= size <= 3:
                    shift = self.shifts[(y * self.levels + a) * 3 + size - 1]
                if size >= 16:
                    half, bits = size % 2, (size - 16) // 2 + 3
                    size = (2 + half) * 2**bits + coder.plain(bits)
            if centroid:
                values.append(sign * size * (64 if self.trellis else 32))
            else:
                value = 128 * size - 64 * y if self.trellis else 64 * size
                values.append(sign * (value + shift) if size else 0)
                state = NEXT_STATE[self.trellis][size % 2][state]
            e += 4096 // (12 + j) * score // 4096
        return values

    def _block_rows(self, number):
        """Return the (centroid's number, values) of each row of a block."""
        coder, found = Coder(self.blocks[number]), []
        for row in range(number * self.block, min((number + 1) * self.block, self.header["rows"])):
            e, label = self.prior[ecq_bucket(row)], None
            if self.centroids:
                label = coder.take(self.heads) * 2**self.tail_bits
                label += coder.plain(self.tail_bits) if self.tail_bits else 0
                need(label < len(self.centroids), "centroid")
                e += 16 * self.classes[label]
            found.append((label, self._coordinates(coder, e)))
        coder.end()
        return found

    def _decode_ecq(self, row):
        number, bucket = row // self.block, ecq_bucket(row)
        if number not in self.ready:
            self.ready = {number: self._block_rows(number)}
        label, values = self.ready[number][row % self.block]
        middle = self.means[bucket]
        if label is not None:
            middle = map(sum, zip(middle, self.centroids[label]))
        total = [value * self.weights[bucket] + 64 * mean for value, mean in zip(values, middle)]
        return [self.bucket_scale[bucket] * column for column in times(total, self.axes)]

    # ------------------------------------------------------------ what a user asks for

    def word(self, index):
        if self.listed is not None:
            return self.listed[index]
        first = index // 64 * 64
        start = self.starts[index // 64] + sum(self.lengths[i] for i in range(first, index))
        need(start + self.lengths[index] <= len(self.bytes), "word inside words.bytes")
        return self.bytes[start : start + self.lengths[index]]

    def find(self, word):
        if self.listed is not None:
            return self.listed.index(word) if word in self.listed else -1
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

    def unseen(self, word):
        """Return a vector made of a word's n-grams, or None."""
        part, rows = self.header["subwords"], []
        numbers = (floret_buckets if part.get("hash") == "floret" else buckets)(word, part)
        if not numbers:
            return [0.0] * self.header["dim"]
        for number in numbers:
            if self.bitmap[number // 8] >> number % 8 & 1:
                first = number // 512 * 512
                before = sum(self.bitmap[i // 8] >> i % 8 & 1 for i in range(first, number))
                row = self.ranks[number // 512] + before
                need(row < part["present"], "ngrams.ranks")
                rows.append(self.ngrams.vector(row))
        count = len(rows) if part["missing"] == "skip" else len(numbers)
        return [sum(column) / count for column in zip(*rows)] if rows else None


def runs(marked, minn, maxn):
    """Return the n-grams of a word between its marks."""
    starts, found = [i for i, byte in enumerate(marked) if byte & 0xC0 != 0x80], []
    for first, start in enumerate(starts):
        for n in range(max(minn, 1), maxn + 1):
            if first + n > len(starts) or (n == 1 and first in (0, len(starts) - 1)):
                continue
            found.append(marked[start : starts[first + n] if first + n < len(starts) else len(marked)])
    return found


def buckets(word, part):
    """Return the bucket of each n-gram of a word's bytes."""
    found = []
    for ngram in [] if word == b"</s>" else runs(b"<" + word + b">", part["minn"], part["maxn"]):
        value = 2166136261
        for byte in ngram:
            value = (value ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619 % 2**32
        found.append(value % part["bucket"])
    return found


def floret_buckets(word, part):
    """Return the buckets of a word's bytes between their marks, and of their n-grams."""
    marked = part["bow"].encode() + word + part["eow"].encode()
    return [lane % part["bucket"] for ngram in [marked, *runs(marked, part["minn"], part["maxn"])]
            for lane in murmurhash3(ngram, part["seed"])[: part["hashes"]]]


def ecq_bucket(row):
    """Return the bucket of a row: 255 rows, 256, 512, ..."""
    return max(0, (row + 1).bit_length() - 8)


def frequencies_of(frequencies):
    """Return {place: (frequency, start)} of a table's frequencies in order."""
    frequencies = list(frequencies)
    need(sum(frequencies) == 4096, "sum of frequencies")
    return dict(enumerate(zip(frequencies, accumulate(frequencies, initial=0))))


def rotated(value, bits):
    value %= 2**64
    return (value << bits) % 2**64 + (value >> 64 - bits)


def murmurhash3(data, seed):
    """Return the four lanes of MurmurHash3_x64_128."""
    one, two = 0x87C37B91114253D5, 0x4CF5AD432745937F
    h1 = h2 = seed
    padded_to_16 = data + bytes(-len(data) % 16)
    for start in range(0, len(padded_to_16), 16):
        k1, k2 = struct.unpack_from("<2Q", padded_to_16, start)
        h1 ^= rotated(k1 * one, 31) * two % 2**64
        if start + 16 > len(data):
            h2 ^= rotated(k2 * two, 33) * one % 2**64
            break
        h1 = ((rotated(h1, 27) + h2) * 5 + 0x52DCE729) % 2**64
        h2 ^= rotated(k2 * two, 33) * one % 2**64
        h2 = ((rotated(h2, 31) + h1) * 5 + 0x38495AB5) % 2**64
    halves = [h1 ^ len(data), h2 ^ len(data)]
    halves[0] = (halves[0] + halves[1]) % 2**64
    halves[1] = (halves[1] + halves[0]) % 2**64
    for i, h in enumerate(halves):
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            h = (h ^ h >> 33) * factor % 2**64
        halves[i] = h ^ h >> 33
    halves[0] = (halves[0] + halves[1]) % 2**64
    halves[1] = (halves[1] + halves[0]) % 2**64
    return struct.unpack("<4I", struct.pack("<2Q", *halves))


def numbers_of(data, width, count):
    """Return numbers that are packed into bits."""
    need(len(data) == -(-width * count // 8), "length of packed bits")
    bits = int.from_bytes(data, "little")
    need(bits >> width * count == 0, "spare bits")
    return [bits >> width * i & (1 << width) - 1 for i in range(count)]


def weight(level):
    return level if level < 2 else (2 + level % 2) << level // 2 - 1


def level_of(frequency):
    return max(level for level in range(25) if weight(level) <= frequency)


def table_of(weights):
    """Return {symbol: (frequency, start)} of {symbol: weight}."""
    table, total = {}, sum(weights.values())
    if weights:
        table = {symbol: 1 + w * (4096 - len(weights)) // total for symbol, w in sorted(weights.items())}
        table[max(table, key=lambda symbol: (weights[symbol], -symbol))] += 4096 - sum(table.values())
    starts = accumulate(table.values(), initial=0)
    return {symbol: (f, start) for (symbol, f), start in zip(table.items(), starts)}


class Coder:
    """One block of symbols."""

    def __init__(self, data):
        self.data, self.x = iter(data), 0
        need(len(data) > 0 and data[0] != 0, "first byte of a block")
        self.fill()

    def fill(self):
        while self.x < 1 << 14:
            byte = next(self.data, None)
            need(byte is not None, "bytes of a block")
            self.x = self.x << 8 | byte

    def take(self, table):
        t = self.x % 4096
        found = [(symbol, f, start) for symbol, (f, start) in table.items() if start <= t < start + f]
        need(found, "a symbol")
        symbol, f, start = found[0]
        self.x = f * (self.x // 4096) + t - start
        self.fill()
        return symbol

    def plain(self, bits):
        """Return a number of so many bits, all as likely."""
        return self.take({value: (2 ** (12 - bits), value * 2 ** (12 - bits)) for value in range(2**bits)})

    def end(self):
        need(self.x == 1 << 14 and next(self.data, None) is None, "end of a block")


def read_model(data):
    """Return {(kind, key, ...): table}."""
    *numbers, size0, size1, size2 = struct.unpack_from("<3I3B", data)
    position, tables = 15, []
    for _ in range(22):
        (k,) = struct.unpack_from("<H", data, position)
        halves = numbers_of(data[position + 2 : position + 2 + -(-k // 2)], 4, k)
        position += 2 + -(-k // 2)
        tables.append(table_of({value: weight(level) for value, level in enumerate(halves) if level}))

    def run(names):
        nonlocal position
        blocks = [names[i : i + 64] for i in range(0, len(names), 64)]
        lengths, found = data[position : position + len(blocks)], []
        need(len(lengths) == len(blocks), "lengths of a run")
        position += len(blocks)
        for block, length in zip(blocks, lengths):
            coder = Coder(data[position : position + length])
            found += [coder.take(tables[name]) for name in block]
            coder.end()
            position += length
        return found

    def expectations(sizes, parents):
        return [[size + level_of(f) - 24 for f, _ in parent.values()] for size, parent in zip(sizes, parents)]

    def names(expected):
        return [max(0, min(18, e + 6)) for part in expected for e in part]

    def tables_from(marks, expected, parents):
        marks, found = iter(marks), []
        for part, parent in zip(expected, parents):
            own = {symbol: (next(marks), e) for symbol, e in zip(parent, part)}
            found.append(table_of({symbol: weight(m + max(0, e - 12)) for symbol, (m, e) in own.items() if m}))
        return found

    total = sum(numbers)
    parents = [dict.fromkeys(range(257), (15, 0))] * 3
    expected = expectations([size0, size1, size2], parents)
    shape = [19] * (3 + total - numbers[2]) + [20] * total + [21] * total
    first = run(names(expected) + shape)
    marks, rest = first[:771], first[771:]
    middle = len(rest) - 2 * total
    children, keys, sizes = rest[:middle], iter(rest[middle : middle + total]), rest[middle + total :]
    contexts, layer = {}, {(kind,): table for kind, table in enumerate(tables_from(marks, expected, parents))}
    for number in numbers:
        contexts.update(layer)
        own, children = children[: len(layer)], children[len(layer) :]
        need(sum(own) == number, "number of contexts")
        paths, parents = [], []
        for (path, table), count in zip(layer.items(), own):
            key = -1
            for i in range(count):
                step = next(keys)
                key = step if i == 0 else key + 1 + step
                paths.append((*path, key))
                parents.append(table)
        expected, sizes = expectations(sizes[:number], parents), sizes[number:]
        layer = dict(zip(paths, tables_from(run(names(expected)), expected, parents)))
        need(all(layer.values()), "empty tables")
    contexts.update(layer)
    need(position == len(data), "end of words.model")
    return contexts


def packed_words(sections):
    """Return all words, by id."""
    n, total, longest = sections["words.sizes"].all()
    contexts = read_model(sections["words.model"].data)
    blocks, position, words = sections["words.blocks"].data, 0, []
    need(longest <= 65_535 and total <= 256 * len(blocks), "words.sizes")

    def table(*path):
        while path not in contexts:
            path = path[:-1]
        return contexts[path]

    def last(word, count):
        return [word[-i] + 1 if i <= len(word) else 0 for i in range(1, count + 1)]

    lengths = sections["words.lengths"].all()
    need(len(lengths) == -(-n // 32), "number of blocks")
    for length in lengths:
        coder, before, shared = Coder(blocks[position : position + length]), None, 0
        position += length
        for _ in range(min(32, n - len(words))):
            word = b""
            if before is not None:
                own = table(0, min(shared, 256), min(len(before), 256), *last(before, 1))
                shared, symbol = 0, 255
                while symbol == 255:
                    symbol = coder.take(own)
                    shared += symbol
                need(symbol <= 255 and shared <= len(before), "shared bytes")
                word, there = before[:shared], before[shared] + 1 if shared < len(before) else 0
                symbol = coder.take(table(1, there, *last(word, 2)))
                need(symbol > there, "order of words")
                word += bytes([symbol - 1])
            while symbol := coder.take(table(2, *last(word, 3))):
                word += bytes([symbol - 1])
                need(len(word) <= longest, "length of a word")
            words.append(word)
            before = word
        coder.end()
    need(position == len(blocks), "length of words.blocks")
    need(all(one < two for one, two in zip(words, words[1:])), "order of words")
    need((sum(map(len, words)), max(map(len, words), default=0)) == (total, longest), "words.sizes")
    ids = ids_of_places(sections, n)
    need(sorted(ids) == list(range(n)), "ids")
    return [word for _, word in sorted(zip(ids, words))]


def ids_of_places(sections, n):
    if "words.ids" in sections:
        return listed_ids(sections, n)
    return tree_ids(sections, n) if "words.tree" in sections else octave_ids(sections, n)


def listed_ids(sections, n):
    width = max(0, n - 1).bit_length()
    ids = numbers_of(sections["words.ids"].data, width, n)
    if "words.back" in sections:
        need(sorted(ids) == list(range(n)), "ids")
        back = numbers_of(sections["words.back"].data, width, -(-n // 32))
        for number, place in enumerate(back):
            need(place % 32 == 0, "words.back")
            place = ids[place]
            while place % 32:
                place = ids[place]
            need(place == 32 * number, "words.back")
    return ids


def tree_ids(sections, n):
    borders = [0, *(2**k * first for k in range(64) for first in (4096, 4466, 4870, 5311, 5792, 6316, 6888, 7512)), n]
    borders = sorted({border for border in borders if border <= n})
    stored, asked, ids = int.from_bytes(sections["words.tree"].data, "little"), [], [None] * n
    first = numbers_of(sections["words.first"].data, max(0, min(n, 4096) - 1).bit_length(), min(n, 4096))

    def deal(ends, places):
        """Give ids to places: halve the buckets whose borders these are, until one is left."""
        if len(ends) == 2:
            for index, place in enumerate(places):
                ids[place] = ends[0] + index if ends[0] else first[index]
            return
        split = min(ends[1:-1], key=lambda end: (abs((end - ends[0]) - (ends[-1] - end)), end))
        bits = [stored >> len(asked) + i & 1 for i in range(len(places))]
        need(sum(bits) == ends[-1] - split, "size of a part")
        asked.extend(bits)
        deal([end for end in ends if end <= split], [place for place, bit in zip(places, bits) if not bit])
        deal([end for end in ends if end >= split], [place for place, bit in zip(places, bits) if bit])

    if n:
        deal(borders, list(range(n)))
    need(stored >> len(asked) == 0 and len(sections["words.tree"].data) == -(-len(asked) // 8), "words.tree")
    need(sections["words.ranks"].all() == tuple(sum(asked[:i]) for i in range(0, len(asked), 512)), "words.ranks")
    return ids


def octave_ids(sections, n):
    buckets = sorted((-min(first + 1, n - first), first) for first in (2**i - 1 for i in range(6, 64)) if first < n)
    ids, places, asked = [None] * n, list(range(n)), []
    stored = int.from_bytes(sections["words.order"].data, "little")
    for size, first in buckets:
        bits = [stored >> len(asked) + i & 1 for i in range(len(places))]
        need(sum(bits) == -size, "size of a bucket")
        for index, place in enumerate((place for place, bit in zip(places, bits) if bit), first):
            ids[place] = index
        asked += bits
        places = [place for place in places if ids[place] is None]
    need(stored >> len(asked) == 0 and len(sections["words.order"].data) == -(-len(asked) // 8), "words.order")
    need(sections["words.ranks"].all() == tuple(sum(asked[:i]) for i in range(0, len(asked), 512)), "words.ranks")
    for place, index in zip(places, sections["words.first"].all()):
        ids[place] = index
    need(len(places) == sections["words.first"].shape[0], "words.first")
    return ids
