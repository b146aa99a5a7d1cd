"""A scan of rows of small codes that sums table entries by byte shuffles, and finds the rows that may be the best.

A shuffle instruction looks up 32 or 64 codes of 4 bits in a table of 16 bytes at once (Andre, Kermarrec and Le
Scouarnec, "Quicker ADC", TPAMI 43, 2021; faiss calls it fast scan). An instruction of AVX-512 VBMI looks up 64 codes
of 7 bits in 128 bytes; two of them look up codes of 8 bits. The instructions are called through intrinsics, because
numba does not use them by itself. If the processor lacks them, or numba does not compile, `embeddings/index` uses
another index. We deviate from the paper: table entries are small enough that the entries of two bytes of codes add up
within 8 bits, before sums need 16 bits. The bound is coarser and admits a few more rows, but takes less time.

A byte holds two codes of 4 bits or one of 8 bits. Tables have the shape (bytes, codes in a byte, 16 or 256).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numba.core.base import BaseContext
    from numba.core.typing import Context, Signature

    from embshrink.storage.arrays import AnyArray, BoolArray, ByteArray, DoubleArray, FloatArray, IntArray

    Codegen = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value | None]

UNKNOWN = 65_535  # stored length of very long rows and of zero rows
GROUP = 2  # number of bytes of codes whose entries are added up in 8 bits
LARGEST = 255  # maximum sum of a group
LARGE = 1e30  # for larger sums float32 may overflow
UNIT = 2.0**-24  # relative error of rounding to float32
CACHED = 1 << 11  # bytes per row of a block that all queries scan before the next part is read
SAMPLED = 256  # one block in this many is scanned beforehand
VECTOR = 64  # number of rows whose codes are looked up together
HALF = VECTOR // 2
ROWS = 2 * VECTOR if compiled_for("avx512bw") else VECTOR  # rows in a block: their sums fit into registers
WIDE = compiled_for("avx512vbmi")  # whether codes of 8 bits can be looked up
_VECTORS = ROWS // VECTOR
_BYTES = ir.VectorType(ir.IntType(8), VECTOR)
_WORDS = ir.VectorType(ir.IntType(16), HALF)
_TABLE = ir.VectorType(ir.IntType(8), 16)


def _all(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _fill(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a vector of 16-bit numbers that all equal `value`."""
    single = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), HALF), None))


def _part(builder: ir.IRBuilder, vector: ir.Value, start: int, count: int) -> ir.Value:
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), [place % vector.type.count for place in
                                                                 range(start, start + count)])
    return builder.shuffle_vector(vector, vector, places)


def _shuffle(builder: ir.IRBuilder, entries: ir.Value, labels: ir.Value) -> ir.Value:
    """Look up the low 4 bits of each label (64 bytes) in `entries` (16 bytes)."""

    def call(name: str, kind: ir.Type, *arguments: ir.Value) -> ir.Value:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
        return builder.call(function, arguments)

    # This instruction looks up 64 entries by 6 bits and ignores the other bits. The table repeats the same 16 entries
    # four times, so no mask is needed.
    if compiled_for("avx512vbmi"):
        return call("llvm.x86.avx512.permvar.qi.512", _BYTES, _part(builder, entries, 0, VECTOR), labels)
    labels = builder.and_(labels, _all(_BYTES, 15))
    if compiled_for("avx512bw"):
        return call("llvm.x86.avx512.pshuf.b.512", _BYTES, _part(builder, entries, 0, VECTOR), labels)
    kind = ir.VectorType(ir.IntType(8), VECTOR // 2)
    parts = [call("llvm.x86.avx2.pshuf.b", kind, _part(builder, entries, 0, kind.count),
                  _part(builder, labels, start, kind.count)) for start in (0, kind.count)]
    return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), list(range(VECTOR))))


def _shuffle_wide(builder: ir.IRBuilder, tables: Sequence[ir.Value], labels: ir.Value) -> ir.Value:
    """Look up labels (64 bytes) in four tables of 64 bytes each."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_BYTES, [_BYTES, _BYTES, _BYTES]), "llvm.x86.avx512.vpermi2var.qi.512")
    low, high = (builder.call(function, [first, labels, second]) for first, second in (tables[:2], tables[2:]))
    return builder.select(builder.icmp_signed("<", labels, _all(_BYTES, 0)), high, low)


def _load(builder: ir.IRBuilder, kind: ir.Type, pointer: ir.Value) -> ir.Value:
    vector = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    vector.align = 1
    return vector


def _sum_entries(builder: ir.IRBuilder, start: ir.Value, count: ir.Value, tables: ir.Value,
                 entries: ir.Value) -> list[ir.Value]:
    """Return the sums of the entries of a block's rows, as vectors of 16-bit numbers.

    `start` points to the codes of the block; the other arguments are those of `_compare_block`.
    """

    def number(value: int) -> ir.Constant:
        return ir.Constant(count.type, value)

    def rows_of(place: ir.Value) -> list[ir.Value]:
        """Return byte number `place` of each row, in vectors of 64 rows."""
        own = builder.gep(start, [builder.mul(place, number(ROWS))])
        return [_load(builder, _BYTES, builder.gep(own, [number(v * VECTOR)])) for v in range(_VECTORS)]

    def look_up_two(place: ir.Value) -> list[ir.Value]:
        """Return the sum of the entries of both codes of a byte, for each row."""
        own = builder.gep(tables, [builder.mul(place, number(32))])
        low, high = (_load(builder, _TABLE, builder.gep(own, [number(half)])) for half in (0, 16))
        found = []
        for packed in rows_of(place):
            upper = builder.bitcast(builder.lshr(builder.bitcast(packed, _WORDS), _all(_WORDS, 4)), _BYTES)
            found.append(builder.add(_shuffle(builder, low, packed), _shuffle(builder, high, upper)))
        return found

    def look_up_one(place: ir.Value) -> list[ir.Value]:
        """Return the entry of a code of 8 bits, for each row."""
        own = builder.gep(tables, [builder.mul(place, number(256))])
        parts = [_load(builder, _BYTES, builder.gep(own, [number(quarter)])) for quarter in range(0, 256, VECTOR)]
        return [_shuffle_wide(builder, parts, labels) for labels in rows_of(place)]

    # Two rows share a 16-bit number, a byte each. One 16-bit sum adds these numbers as they are, 256 * second +
    # first; another adds the second bytes alone. The sum of the first bytes follows from both, modulo 2**16.
    both = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]
    second = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]

    def add(found: Iterable[ir.Value]) -> None:
        for v, numbers in enumerate(found):
            numbers = builder.bitcast(numbers, _WORDS)
            builder.store(builder.add(builder.load(both[v]), numbers), both[v])
            builder.store(builder.add(builder.load(second[v]), builder.lshr(numbers, _all(_WORDS, 8))), second[v])

    def add_all(look_up: Callable[[ir.Value], list[ir.Value]]) -> None:
        with cgutils.for_range(builder, builder.lshr(count, number(1)), intp=count.type) as loop:
            place = builder.shl(loop.index, number(1))
            add(map(builder.add, look_up(place), look_up(builder.add(place, number(1)))))
        with builder.if_then(builder.trunc(count, ir.IntType(1))):
            add(look_up(builder.sub(count, number(1))))

    if WIDE:
        with builder.if_else(builder.icmp_unsigned("==", entries, entries.type(16))) as (two, one):
            with two:
                add_all(look_up_two)
            with one:
                add_all(look_up_one)
    else:
        add_all(look_up_two)
    totals = []
    for v in range(_VECTORS):
        seconds = builder.load(second[v])
        totals += [builder.sub(builder.load(both[v]), builder.shl(seconds, _all(_WORDS, 8))), seconds]
    return totals


@intrinsic
def _compare_block(typingctx: Context, codes: types.Type, lengths: types.Type, block: types.Type, count: types.Type,
                   tables: types.Type, entries: types.Type, slope: types.Type, above: types.Type, below: types.Type,
                   masks: types.Type) -> tuple[Signature, Codegen]:
    """Return whether a row of a block may be among the best; set the bits of such rows in masks (ROWS / 32,) uint32.

    codes and tables (...,) uint8 and lengths (...,) uint16 are those of `scan_codes`, flattened; count is the number
    of bytes per row, entries the number of entries per table. If a byte holds two codes, the low one is looked up in
    the first 16 bytes of a pair of tables, the high one in the other 16. A row's bit is set if ``sum + above >=
    slope * length / 65536 + below``; slope, above and below are uint16, and the left side fits 16 bits.
    """
    signature = types.boolean(codes, lengths, block, count, tables, entries, slope, above, below, masks)

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature,
                args: Sequence[ir.Value]) -> ir.Value:
        codes, lengths, block, count, tables, entries, slope, above, below, masks = (
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args))
        first = builder.mul(block, ir.Constant(count.type, ROWS))
        totals = _sum_entries(builder, builder.gep(codes, [builder.mul(first, count)]), count, tables, entries)
        slope, above, below = (_fill(builder, value) for value in (slope, above, below))
        wide = ir.VectorType(ir.IntType(32), HALF)
        add_up = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WORDS, [_WORDS, _WORDS]),
                                                f"llvm.uadd.sat.v{HALF}i16")
        some = ir.IntType(HALF)(0)
        for place, total in enumerate(totals):
            own = builder.gep(lengths, [builder.add(first, ir.Constant(count.type, HALF * place))])
            product = builder.mul(builder.zext(_load(builder, _WORDS, own), wide), builder.zext(slope, wide))
            limit = builder.trunc(builder.lshr(product, _all(wide, 16)), _WORDS)
            reached = builder.icmp_unsigned(">=", builder.add(total, above), builder.call(add_up, [limit, below]))
            mask = builder.bitcast(reached, ir.IntType(HALF))
            builder.store(mask, builder.gep(masks, [ir.Constant(count.type, place)]))
            some = builder.or_(some, mask)
        return builder.icmp_unsigned("!=", some, some.type(0))

    return signature, codegen


@intrinsic
def _lowest(typingctx: Context, mask: types.Type) -> tuple[Signature, Codegen]:
    """Return the number of the lowest bit set."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature,
                args: Sequence[ir.Value]) -> ir.Value:
        return context.cast(builder, builder.cttz(args[0], ir.IntType(1)(1)), mask, types.int64)

    return types.int64(mask), codegen


@kernel
def _place(row: int) -> int:
    """Return the position in a block of the bytes of a row."""
    within = row % VECTOR
    return row - within + (2 * within if within < HALF else 2 * within - VECTOR + 1)


@kernel
def lay_out(labels: ByteArray, first: int, per: int, codes: ByteArray) -> None:
    """Arrange the codes of rows from number `first` on, labels (n, m) uint8, as `scan_codes` needs them.

    out: codes (blocks, bytes, ROWS) uint8 with `per` codes in a byte, which must be filled with zeros before. Of two
    neighbouring bytes, the first belongs to a row in the first half of 64 rows, the second to one in the second half.
    """
    for i in range(labels.shape[0]):
        row = first + i
        block = codes[row // ROWS]
        place = _place(row % ROWS)
        label = labels[i]
        for m in range(len(label)):
            block[m // per, place] |= label[m] << np.uint8(4 * (m % per))


@kernel
def decode_rows(codes: ByteArray, rows: IntArray, book: FloatArray, starts: IntArray, out: FloatArray) -> None:
    """Decode rows (k,) int64 into out (k, c) float32.

    codes come from `lay_out`; book (16 or 256, c) float32: the numbers that each code stands for; starts as for
    `make_tables`.
    """
    per = 2 if len(book) == 16 else 1
    for i in range(len(rows)):
        block, place = rows[i] // ROWS, _place(rows[i] % ROWS)
        for m in range(len(starts) - 1):
            code = codes[block, m // per, place] >> np.uint8(4 * (m % per)) & np.uint8(len(book) - 1)
            for j in range(starts[m], starts[m + 1]):
                out[i, j] = book[code, j]


class RowCodes(NamedTuple):
    """The codes of all rows, and the lengths of the rows.

    A length from ``c * unit`` to ``(c + 1) * unit`` is stored as c; for longer rows and zero rows it is UNKNOWN.
    """

    codes: ByteArray  # (blocks, bytes, ROWS) uint8, as `lay_out` arranges them
    lengths: AnyArray  # (ROWS * blocks,) uint16
    unit: float


class Query(NamedTuple):
    """The data of a query from which its dot product with a row is computed.

    The dot product is ``sum of exact``, plus or minus `error`, and at most ``step * sum of tables + base``.
    """

    tables: ByteArray  # (bytes, 2, 16) or (bytes, 1, 256) uint8; the entries of two bytes add up to 255 at most
    step: float
    base: float
    exact: DoubleArray  # of the same shape, float64
    error: float
    margin: float  # maximum error of a cosine computed here


class Candidates(NamedTuple):
    """The rows found for a query, in the first places of `rows` and `uppers`."""

    best: FloatArray  # (k,) float32, descending: the k largest lower bounds of cosines
    rows: IntArray  # (n,) int64, ascending
    uppers: FloatArray  # (n,) float32: upper bounds of the rows' cosines


@kernel
def make_tables(book: DoubleArray, starts: IntArray, query: DoubleArray, exact: DoubleArray,
                tables: ByteArray) -> tuple[float, float, float]:
    """Fill a query's tables for `scan_codes`; return (step, base, size).

    book (c, 16 or 256) float64: the number that each code stands for in each column; starts (parts + 1,) int64: first
    column of each part; query (c,) float64; out: exact (bytes, per, 16 or 256) float64: the contribution of each code
    to the dot product; tables, of the same shape, uint8: the contribution less the smallest one of the part, rounded
    to multiples of step. Both must be filled with zeros before. A sum of exact entries is at most ``step * sum of
    tables + base``, and none of its partial sums is larger than size.
    """
    parts, per = len(starts) - 1, exact.shape[1]
    group, lowest = GROUP * per, np.empty(parts)
    least, widest, width, size = 0.0, 0.0, 0.0, 0.0
    for m in range(parts):
        own = exact[m // per, m % per]
        for j in range(starts[m], starts[m + 1]):
            for code in range(len(own)):
                own[code] += book[j, code] * query[j]
        low, high = own[0], own[0]
        for code in range(len(own)):
            low, high = min(low, own[code]), max(high, own[code])
        lowest[m] = low
        least += low
        size += abs(low)
        width = high - low + (width if m % group else 0.0)
        widest = max(widest, width)
    step = max(widest / (LARGEST - group / 2), 1e-30)  # rounding may raise each entry of a group by half a step
    base = least
    for m in range(parts):
        own = exact[m // per, m % per]
        above = 0.0
        for code in range(len(own)):
            rounded = np.rint((own[code] - lowest[m]) / step)
            tables[m // per, m % per, code] = np.uint8(rounded)
            above = max(above, own[code] - lowest[m] - step * rounded)
        base += above
    return step, base, size + parts * LARGEST * step


@kernel
def _thresholds(limit: float, unit: float, query: Query) -> tuple[np.uint16, np.uint16, np.uint16]:
    """Return (slope, above, below) for `_compare_block`, such that every row whose cosine reaches `limit` passes.

    The sum of the entries of such a row is at least ``(limit - margin) * length / step - base / step``. This is
    converted to whole numbers, which are rounded such that no such row is lost. If all rows may be among the best, or
    the numbers do not fit 16 bits, all three are 0, and every row passes.
    """
    away = np.floor(-query.base / query.step) - 1
    if not (limit > query.margin and away > (len(query.exact) + GROUP - 1) // GROUP * LARGEST - 65535):
        return np.uint16(0), np.uint16(0), np.uint16(0)
    slope = np.floor((limit - query.margin) * unit / query.step * 65536 * (1 - 1e-9))
    return np.uint16(min(slope, 65535.0)), np.uint16(max(-away, 0.0)), np.uint16(min(max(away, 0.0), 65535.0))


@kernel(fastmath=FAST)
def scan_codes(stride: int, floor: np.float32, stored: RowCodes, start: int, stop: int, eligible: BoolArray,
               query: Query, found: Candidates) -> int:
    """Find the rows from `start` to `stop` that may be among the k of highest cosine to a query; return how many.

    Only one block in `stride` is scanned, and rows whose cosine is below `floor` are skipped. eligible (rows,) bool
    selects the rows to check; empty for all rows. ``found.best`` is sorted in descending order, and is updated to the
    k largest of its values and of the lower bounds of the rows' cosines. The rows found are in the first places of
    ``found.rows`` and ``found.uppers``.
    """
    codes, lengths, unit = stored.codes, stored.lengths, stored.unit
    exact, error, margin, best = query.exact, query.error, query.margin, found.best
    k = len(best)
    count, per, entries = exact.shape
    flat, table, numbers = codes.reshape(-1), query.tables.reshape(-1), exact.reshape(-1)
    masks = np.empty(ROWS // HALF, np.uint32)
    limit = max(best[k - 1], floor)
    slope, above, below = _thresholds(limit, unit, query)
    filled = 0
    for block in range(start // ROWS, (stop + ROWS - 1) // ROWS, stride):
        if not _compare_block(flat, lengths, block, count, table, entries, slope, above, below, masks):
            continue
        for part in range(len(masks)):
            mask = masks[part]
            while mask:
                row = block * ROWS + part * HALF + _lowest(mask)
                mask &= mask - np.uint32(1)
                if not start <= row < stop or (len(eligible) and not eligible[row]):
                    continue
                place = _place(row % ROWS)
                total = 0.0
                for i in range(count):
                    code = np.int64(codes[block, i, place])
                    if per == 2:
                        total += numbers[32 * i + (code & 15)] + numbers[32 * i + 16 + (code >> 4)]
                    else:
                        total += numbers[256 * i + code]
                shortest = lengths[row] * unit
                longest = shortest + unit if lengths[row] < UNKNOWN else np.inf
                high, low = total + error, total - error
                upper = np.float32(high / (shortest if high > 0 else longest) + margin)
                if upper < limit:
                    continue
                found.rows[filled] = row
                found.uppers[filled] = upper
                filled += 1
                lower = np.float32(low / (longest if low >= 0 else shortest) - margin)
                if lower > best[k - 1]:
                    at = k - 1
                    while at > 0 and lower > best[at - 1]:
                        best[at] = best[at - 1]
                        at -= 1
                    best[at] = lower
                    limit = max(best[k - 1], floor)
        slope, above, below = _thresholds(limit, unit, query)
    return filled


@kernel(fastmath=FAST)
def search_codes(codes: ByteArray, lengths: AnyArray, unit: float, start: int, stop: int, eligible: BoolArray,
                 book: DoubleArray, starts: IntArray, queries: DoubleArray, error: float, margin: float,
                 best: FloatArray, rows: IntArray, uppers: FloatArray, found: IntArray) -> None:
    """Do as `scan_codes` for several queries (q, c) float64, with tables computed from book and starts.

    codes, lengths and unit as in `RowCodes`; book (c, 16 or 256) float64 and starts as for `make_tables`; error and
    margin as in `Query`; best (q, k), rows and uppers (q, n) as in `Candidates`; out: found (q,) int64: the number of
    rows found, or -1 if the numbers of a query are too large.

    The arrays are passed one by one, because unpacking a named tuple adds about a microsecond to a call from Python.
    """
    stored = RowCodes(codes, lengths, unit)
    shape = len(queries), codes.shape[1], 2 if book.shape[1] == 16 else 1, book.shape[1]
    tables, exact = np.zeros(shape, np.uint8), np.zeros(shape)
    steps, bases, floors = np.empty(len(queries)), np.empty(len(queries)), np.empty(len(queries), np.float32)
    for q in range(len(queries)):
        steps[q], base, size = make_tables(book, starts, queries[q], exact[q], tables[q])
        bases[q] = base + error + 8 * UNIT * size
        found[q] = 0 if size < LARGE else -1
        if found[q] == 0:  # scan a few blocks first, to start with a limit that few rows reach
            ahead = best[q].copy()
            scan_codes(SAMPLED, ahead[-1], stored, start, stop, eligible,
                       Query(tables[q], steps[q], bases[q], exact[q], error, margin),
                       Candidates(ahead, rows[q], uppers[q]))
            floors[q] = ahead[-1]
    together = max(1, CACHED // (codes.shape[1] + 2)) * ROWS if len(queries) > 1 else max(stop, 1)
    for origin in range(start // ROWS * ROWS, stop, together):
        first, last = max(origin, start), min(origin + together, stop)
        for q in range(len(queries)):
            if found[q] >= 0:
                found[q] += scan_codes(1, floors[q], stored, first, last, eligible,
                                       Query(tables[q], steps[q], bases[q], exact[q], error, margin),
                                       Candidates(best[q], rows[q, found[q] :], uppers[q, found[q] :]))
    for q in range(len(queries)):  # drop rows that were found before the limit rose
        kept = 0
        for i in range(found[q]):
            if uppers[q, i] >= best[q, -1]:
                rows[q, kept], uppers[q, kept] = rows[q, i], uppers[q, i]
                kept += 1
        found[q] = min(found[q], kept)
