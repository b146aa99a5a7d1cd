"""A pass over rows of 4-bit codes that adds up table entries by shuffling bytes, and finds the rows that may be best.

A shuffle looks 32 or 64 codes up in a table of 16 bytes at once (Andre, Kermarrec and Le Scouarnec, "Quicker ADC",
TPAMI 43, 2021; faiss calls it fast scan). It is an instruction of AVX2, of which numba must be told: where it is
missing, or nothing is compiled, `embshrink.scan` uses another index. Tables hold so few bits that four numbers are
added up in 8 bits before sums take 16: a coarser bound lets through some rows more, and is sooner added up.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

UNKNOWN = 65_535  # the length of a row that is long, or zero
GROUP = 4  # codes whose numbers are added up in 8 bits
LARGEST = 255  # sum of a group
LARGE = 1e30  # sums beyond which float32 may have no place for what is added up
UNIT = 2.0**-24  # what float32 may lose in rounding 1
SAMPLED = 128  # one of so many blocks is looked at beforehand
VECTOR = 64  # rows whose codes are looked up together
HALF = VECTOR // 2
ROWS = 2 * VECTOR if compiled_for("avx512bw") else VECTOR  # in a block: as many as have their sums in registers
_VECTORS = ROWS // VECTOR
_BYTES = ir.VectorType(ir.IntType(8), VECTOR)
_WORDS = ir.VectorType(ir.IntType(16), HALF)
_TABLE = ir.VectorType(ir.IntType(8), 16)


def _all(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def _fill(builder, value):
    """Return a vector of 16-bit numbers that are all this one."""
    single = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), HALF), None))


def _part(builder, vector, start, count):
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), [place % vector.type.count for place in
                                                                 range(start, start + count)])
    return builder.shuffle_vector(vector, vector, places)


def _shuffle(builder, entries, labels):
    """Return the entries (16 bytes) that the low halves of labels (64 bytes) name."""

    def call(name, kind, *arguments):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
        return builder.call(function, arguments)

    # Looks up 64 entries, and heeds no other bits: four times the same 16 need no mask.
    if compiled_for("avx512vbmi"):
        return call("llvm.x86.avx512.permvar.qi.512", _BYTES, _part(builder, entries, 0, VECTOR), labels)
    labels = builder.and_(labels, _all(_BYTES, 15))
    if compiled_for("avx512bw"):
        return call("llvm.x86.avx512.pshuf.b.512", _BYTES, _part(builder, entries, 0, VECTOR), labels)
    kind = ir.VectorType(ir.IntType(8), VECTOR // 2)
    parts = [call("llvm.x86.avx2.pshuf.b", kind, _part(builder, entries, 0, kind.count),
                  _part(builder, labels, start, kind.count)) for start in (0, kind.count)]
    return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), list(range(VECTOR))))


@intrinsic
def _compare_block(typingctx, codes, lengths, block, pairs, tables, slope, above, below, masks):
    """Return whether any row of a block may be among the best, and set those rows' bits: masks (ROWS / 32,) uint32.

    codes and tables (...,) uint8 and lengths (...,) uint16 as `scan_nibbles` has them, flat. A row's byte is two
    codes: the low one is looked up in the first 16 bytes of a pair of tables, the high one in the others. A row's
    bit is set if ``sum + above >= slope * length / 65536 + below``; all three are uint16, and the left side fits 16
    bits.
    """
    signature = types.boolean(codes, lengths, block, pairs, tables, slope, above, below, masks)

    def codegen(context, builder, signature, args):
        codes, lengths, block, pairs, tables, slope, above, below, masks = (
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args))

        def number(value):
            return ir.Constant(pairs.type, value)

        first = builder.mul(block, number(ROWS))
        start = builder.gep(codes, [builder.mul(first, pairs)])

        def load(kind, pointer):
            vector = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            vector.align = 1
            return vector

        def look_up(pair):
            """Return what both codes of a pair give each row: 64 bytes for each 64 rows."""
            own = builder.gep(tables, [builder.mul(pair, number(32))])
            low, high = (load(_TABLE, builder.gep(own, [number(place)])) for place in (0, 16))
            found = []
            for v in range(_VECTORS):
                packed = load(_BYTES, builder.gep(start, [builder.add(builder.mul(pair, number(ROWS)),
                                                                      number(v * VECTOR))]))
                upper = builder.bitcast(builder.lshr(builder.bitcast(packed, _WORDS), _all(_WORDS, 4)), _BYTES)
                found.append(builder.add(_shuffle(builder, low, packed), _shuffle(builder, high, upper)))
            return found

        # Sums of 16 bits: of two neighbours as they lie, and of the second one alone. The first ones' come out by
        # subtracting, modulo 2**16.
        both = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]
        second = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]

        def add(found):
            for v, numbers in enumerate(found):
                numbers = builder.bitcast(numbers, _WORDS)
                builder.store(builder.add(builder.load(both[v]), numbers), both[v])
                builder.store(builder.add(builder.load(second[v]), builder.lshr(numbers, _all(_WORDS, 8))), second[v])

        with cgutils.for_range(builder, builder.lshr(pairs, number(1)), intp=pairs.type) as loop:
            pair = builder.shl(loop.index, number(1))
            add(map(builder.add, look_up(pair), look_up(builder.add(pair, number(1)))))
        with builder.if_then(builder.trunc(pairs, ir.IntType(1))):
            add(look_up(builder.sub(pairs, number(1))))
        totals = []
        for v in range(_VECTORS):
            seconds = builder.load(second[v])
            totals += [builder.sub(builder.load(both[v]), builder.shl(seconds, _all(_WORDS, 8))), seconds]
        slope, above, below = (_fill(builder, value) for value in (slope, above, below))
        wide = ir.VectorType(ir.IntType(32), HALF)
        add_up = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WORDS, [_WORDS, _WORDS]),
                                                f"llvm.uadd.sat.v{HALF}i16")
        some = ir.IntType(HALF)(0)
        for place, total in enumerate(totals):
            length = load(_WORDS, builder.gep(lengths, [builder.add(first, number(HALF * place))]))
            product = builder.mul(builder.zext(length, wide), builder.zext(slope, wide))
            limit = builder.trunc(builder.lshr(product, _all(wide, 16)), _WORDS)
            reached = builder.icmp_unsigned(">=", builder.add(total, above), builder.call(add_up, [limit, below]))
            mask = builder.bitcast(reached, ir.IntType(HALF))
            builder.store(mask, builder.gep(masks, [number(place)]))
            some = builder.or_(some, mask)
        return builder.icmp_unsigned("!=", some, some.type(0))

    return signature, codegen


@kernel
def _place(row):
    """Return where in a block a row has its bytes."""
    within = row % VECTOR
    return row - within + (2 * within if within < HALF else 2 * within - VECTOR + 1)


@kernel
def lay_out(labels, first, codes):
    """Put the 4-bit codes of rows from number `first` on, labels (n, m) uint8, where `scan_nibbles` looks for them.

    codes (blocks, pairs, ROWS) uint8 with 2 * pairs >= m comes filled with zeros. Of two bytes side by side the first
    belongs to a row in the first half of 64, the second to one in the second.
    """
    for i in range(labels.shape[0]):
        row = first + i
        block = codes[row // ROWS]
        place = _place(row % ROWS)
        label = labels[i]
        for m in range(len(label)):
            block[m // 2, place] |= label[m] << np.uint8(4 * (m % 2))


@kernel
def decode_rows(codes, rows, book, starts, out):
    """Fill out (k, c) float32 with what book (16, c) float32 says of rows (k,) int64; starts as for `make_tables`."""
    for i in range(len(rows)):
        block, place = rows[i] // ROWS, _place(rows[i] % ROWS)
        for m in range(len(starts) - 1):
            code = codes[block, m // 2, place] >> np.uint8(4 * (m % 2)) & np.uint8(15)
            for j in range(starts[m], starts[m + 1]):
                out[i, j] = book[code, j]


@kernel
def make_tables(book, starts, query, exact, tables):
    """Fill a query's tables for `scan_nibbles`; return (step, base, size).

    book (c, 16) float64, what each code stands for in each column; starts (parts + 1,) int64, the columns of each
    part; query (c,) float64. exact (pairs, 2, 16) float64 gets what each code adds to the dot product, tables
    (pairs, 2, 16) uint8 the same rounded to steps above the least. No sum of exact numbers is above ``step * sum of
    tables + base``; none of the numbers that are added up to it is larger than size. Both come filled with zeros.
    """
    parts = len(starts) - 1
    least, widest, width, size = 0.0, 0.0, 0.0, 0.0
    for m in range(parts):
        own = exact[m // 2, m % 2]
        for j in range(starts[m], starts[m + 1]):
            for code in range(16):
                own[code] += book[j, code] * query[j]
        least += own.min()
        size += abs(own.min())
        width = own.max() - own.min() + (width if m % GROUP else 0.0)
        widest = max(widest, width)
    step = max(widest / (LARGEST - GROUP / 2), 1e-30)  # each of a group's numbers may be rounded up by a half
    base = least
    for m in range(parts):
        own = exact[m // 2, m % 2]
        lowest = own.min()
        above = 0.0
        for code in range(16):
            rounded = np.rint((own[code] - lowest) / step)
            tables[m // 2, m % 2, code] = np.uint8(rounded)
            above = max(above, own[code] - lowest - step * rounded)
        base += above
    return step, base, size + parts * LARGEST * step


@kernel
def _what_to_reach(limit, unit, step, base, margin, pairs):
    """Return (slope, above, below) for `_compare_block`: what the sum of a row must reach, if its cosine is to.

    That is ``(limit - margin) * length / step - base / step``, in whole numbers that are never too large: a row
    passes at ``0 + 0 >= 0 + 0``, which is so while any may be among the best, and where numbers are out of reach.
    """
    away = np.floor(-base / step) - 1
    if not (limit > margin and away > (pairs + 1) // 2 * LARGEST - 65535):
        return np.uint16(0), np.uint16(0), np.uint16(0)
    slope = np.floor((limit - margin) * unit / step * 65536 * (1 - 1e-9))
    return np.uint16(min(slope, 65535.0)), np.uint16(max(-away, 0.0)), np.uint16(min(max(away, 0.0), 65535.0))


@kernel(fastmath=FAST)
def _pass(stride, floor, codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin, best,
          rows, uppers):
    """Do as `scan_nibbles` for one of `stride` blocks, and pass over rows whose cosine is below `floor`."""
    k = len(best)
    pairs = codes.shape[1]
    flat, table = codes.reshape(-1), tables.reshape(-1)
    masks = np.empty(ROWS // HALF, np.uint32)
    limit = max(best[k - 1], floor)
    slope, above, below = _what_to_reach(limit, unit, step, base, margin, pairs)
    found = 0
    for block in range(start // ROWS, (stop + ROWS - 1) // ROWS, stride):
        if not _compare_block(flat, lengths, block, pairs, table, slope, above, below, masks):
            continue
        for part in range(len(masks)):
            mask = masks[part]
            row = block * ROWS + part * HALF - 1
            while mask:
                row += 1
                here = mask & np.uint32(1)
                mask >>= np.uint32(1)
                if not here or not start <= row < stop or (len(eligible) and not eligible[row]):
                    continue
                place = _place(row % ROWS)
                total = 0.0
                for pair in range(pairs):
                    both = codes[block, pair, place]
                    total += exact[pair, 0, both & 15] + exact[pair, 1, both >> 4]
                shortest = lengths[row] * unit
                longest = shortest + unit if lengths[row] < UNKNOWN else np.inf
                high, low = total + error, total - error
                upper = np.float32(high / (shortest if high > 0 else longest) + margin)
                if upper < limit:
                    continue
                rows[found] = row
                uppers[found] = upper
                found += 1
                lower = np.float32(low / (longest if low >= 0 else shortest) - margin)
                if lower > best[k - 1]:
                    at = k - 1
                    while at > 0 and lower > best[at - 1]:
                        best[at] = best[at - 1]
                        at -= 1
                    best[at] = lower
                    limit = max(best[k - 1], floor)
        slope, above, below = _what_to_reach(limit, unit, step, base, margin, pairs)
    return found


@kernel(fastmath=FAST)
def scan_nibbles(codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin, best, rows,
                 uppers):
    """Find the rows from `start` to `stop` that may be among the k of highest cosine to a query; return how many.

    codes (blocks, pairs, ROWS) uint8 as from `lay_out`; lengths (ROWS * blocks,) uint16, c for a row whose length is
    between c and c + 1 times `unit`, 65,535 for longer ones and for zero rows; eligible (rows,) bool, or empty where
    all are. tables (pairs, 2, 16) uint8, of which the numbers of two pairs add up
    to 255 at most, and exact (pairs, 2, 16) float64 are the query's: a
    dot product is at most ``step * sum of tables + base``, and it is ``sum of exact``, give or take `error`. By
    `margin` a cosine may differ from what these say. best (k,) float32 comes sorted, largest first, and gets the k
    largest of what it had and the least cosines that rows may have; rows (n,) int64 and uppers (n,) float32 get, in
    their first places, the rows found, ascending, and the most their cosines may be.
    """
    # A few blocks first, so that all begin with a limit that few rows reach.
    ahead = best.copy()
    _pass(SAMPLED, ahead[-1], codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin,
          ahead, rows, uppers)
    return _pass(1, ahead[-1], codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin,
                 best, rows, uppers)


@kernel
def search_nibbles(codes, lengths, unit, start, stop, eligible, book, starts, query, error, margin, best, rows,
                   uppers):
    """Do as `scan_nibbles` for a query (c,) float64, by tables made of book and starts; -1 where it is too large.

    book (c, 16) float64 and starts as for `make_tables`; by `error` a dot product may differ from what they say.
    """
    tables = np.zeros((codes.shape[1], 2, 16), np.uint8)
    exact = np.zeros((codes.shape[1], 2, 16))
    step, base, size = make_tables(book, starts, query, exact, tables)
    if not size < LARGE:
        return -1
    base += error + 8 * UNIT * size
    return scan_nibbles(codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin, best,
                        rows, uppers)
