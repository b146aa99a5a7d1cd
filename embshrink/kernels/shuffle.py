"""A pass over rows of small codes that adds up table entries by shuffling bytes, and finds the rows that may be best.

A shuffle looks 32 or 64 codes of 4 bits up in a table of 16 bytes at once (Andre, Kermarrec and Le Scouarnec,
"Quicker ADC", TPAMI 43, 2021; faiss calls it fast scan), and one of AVX-512 VBMI 64 codes of 7 bits in 128 bytes, so
that two of these do for 8 bits. numba must be told of such instructions: where they are missing, or nothing is
compiled, `embeddings/index` uses another. Tables hold so few bits that what two bytes of codes stand for is added
up in 8 bits before sums take 16: a coarser bound lets through some rows more, and is sooner added up.

Codes of 4 bits lie two in a byte, those of 8 bits one. Tables are (bytes, codes in a byte, 16 or 256).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

UNKNOWN = 65_535  # the length of a row that is long, or zero
GROUP = 2  # bytes of codes whose numbers are added up in 8 bits
LARGEST = 255  # sum of a group
LARGE = 1e30  # sums beyond which float32 may have no place for what is added up
UNIT = 2.0**-24  # what float32 may lose in rounding 1
CACHED = 1 << 11  # bytes of a place in blocks: all queries are done with so much before what comes next is read
SAMPLED = 256  # one of so many blocks is looked at beforehand
VECTOR = 64  # rows whose codes are looked up together
HALF = VECTOR // 2
ROWS = 2 * VECTOR if compiled_for("avx512bw") else VECTOR  # in a block: as many as have their sums in registers
WIDE = compiled_for("avx512vbmi")  # whether codes of 8 bits can be looked up
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


def _shuffle_wide(builder, tables, labels):
    """Return the entries of tables (four of 64 bytes) that labels (64 bytes) name."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_BYTES, [_BYTES, _BYTES, _BYTES]), "llvm.x86.avx512.vpermi2var.qi.512")
    low, high = (builder.call(function, [first, labels, second]) for first, second in (tables[:2], tables[2:]))
    return builder.select(builder.icmp_signed("<", labels, _all(_BYTES, 0)), high, low)


@intrinsic
def _compare_block(typingctx, codes, lengths, block, count, tables, entries, slope, above, below, masks):
    """Return whether any row of a block may be among the best, and set those rows' bits: masks (ROWS / 32,) uint32.

    codes and tables (...,) uint8 and lengths (...,) uint16 as `scan_codes` has them, flat; count is bytes a row, and
    entries those of a table. Of a byte of two codes the low one is looked up in the first 16 bytes of a pair of
    tables, the high one in the others. A row's bit is set if ``sum + above >= slope * length / 65536 + below``; all
    three are uint16, and the left side fits 16 bits.
    """
    signature = types.boolean(codes, lengths, block, count, tables, entries, slope, above, below, masks)

    def codegen(context, builder, signature, args):
        codes, lengths, block, count, tables, entries, slope, above, below, masks = (
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args))

        def number(value):
            return ir.Constant(count.type, value)

        first = builder.mul(block, number(ROWS))
        start = builder.gep(codes, [builder.mul(first, count)])

        def load(kind, pointer):
            vector = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            vector.align = 1
            return vector

        def rows_of(place):
            """Return a byte of each row: 64 of them for each 64 rows."""
            own = builder.gep(start, [builder.mul(place, number(ROWS))])
            return [load(_BYTES, builder.gep(own, [number(v * VECTOR)])) for v in range(_VECTORS)]

        def look_up_two(place):
            """Return what both codes of a byte give each row."""
            own = builder.gep(tables, [builder.mul(place, number(32))])
            low, high = (load(_TABLE, builder.gep(own, [number(half)])) for half in (0, 16))
            found = []
            for packed in rows_of(place):
                upper = builder.bitcast(builder.lshr(builder.bitcast(packed, _WORDS), _all(_WORDS, 4)), _BYTES)
                found.append(builder.add(_shuffle(builder, low, packed), _shuffle(builder, high, upper)))
            return found

        def look_up_one(place):
            """Return what the code of 8 bits gives each row."""
            own = builder.gep(tables, [builder.mul(place, number(256))])
            parts = [load(_BYTES, builder.gep(own, [number(quarter)])) for quarter in range(0, 256, VECTOR)]
            return [_shuffle_wide(builder, parts, labels) for labels in rows_of(place)]

        # Sums of 16 bits: of two neighbours as they lie, and of the second one alone. The first ones' come out by
        # subtracting, modulo 2**16.
        both = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]
        second = [cgutils.alloca_once_value(builder, _all(_WORDS, 0)) for _ in range(_VECTORS)]

        def add(found):
            for v, numbers in enumerate(found):
                numbers = builder.bitcast(numbers, _WORDS)
                builder.store(builder.add(builder.load(both[v]), numbers), both[v])
                builder.store(builder.add(builder.load(second[v]), builder.lshr(numbers, _all(_WORDS, 8))), second[v])

        def add_all(look_up):
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


@intrinsic
def _lowest(typingctx, mask):
    """Return the place of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, builder.cttz(args[0], ir.IntType(1)(1)), mask, types.int64)

    return types.int64(mask), codegen


@kernel
def _place(row):
    """Return where in a block a row has its bytes."""
    within = row % VECTOR
    return row - within + (2 * within if within < HALF else 2 * within - VECTOR + 1)


@kernel
def lay_out(labels, first, per, codes):
    """Put the codes of rows from number `first` on, labels (n, m) uint8, where `scan_codes` looks for them.

    codes (blocks, bytes, ROWS) uint8 with `per` codes in a byte comes filled with zeros. Of two bytes side by side
    the first belongs to a row in the first half of 64, the second to one in the second.
    """
    for i in range(labels.shape[0]):
        row = first + i
        block = codes[row // ROWS]
        place = _place(row % ROWS)
        label = labels[i]
        for m in range(len(label)):
            block[m // per, place] |= label[m] << np.uint8(4 * (m % per))


@kernel
def decode_rows(codes, rows, book, starts, out):
    """Fill out (k, c) float32 with what book (16 or 256, c) float32 says of rows (k,) int64.

    codes as from `lay_out`, starts as for `make_tables`.
    """
    per = 2 if len(book) == 16 else 1
    for i in range(len(rows)):
        block, place = rows[i] // ROWS, _place(rows[i] % ROWS)
        for m in range(len(starts) - 1):
            code = codes[block, m // per, place] >> np.uint8(4 * (m % per)) & np.uint8(len(book) - 1)
            for j in range(starts[m], starts[m + 1]):
                out[i, j] = book[code, j]


@kernel
def make_tables(book, starts, query, exact, tables):
    """Fill a query's tables for `scan_codes`; return (step, base, size).

    book (c, 16 or 256) float64, what each code stands for in each column; starts (parts + 1,) int64, the columns of
    each part; query (c,) float64. exact (bytes, per, 16 or 256) float64 gets what each code adds to the dot product,
    tables of that shape, uint8, the same rounded to steps above the least. No sum of exact numbers is above ``step *
    sum of tables + base``; none of the numbers that are added up to it is larger than size. Both come filled with
    zeros.
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
    step = max(widest / (LARGEST - group / 2), 1e-30)  # each of a group's numbers may be rounded up by a half
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
def _what_to_reach(limit, unit, step, base, margin, count):
    """Return (slope, above, below) for `_compare_block`: what the sum of a row must reach, if its cosine is to.

    That is ``(limit - margin) * length / step - base / step``, in whole numbers that are never too large: a row
    passes at ``0 + 0 >= 0 + 0``, which is so while any may be among the best, and where numbers are out of reach.
    """
    away = np.floor(-base / step) - 1
    if not (limit > margin and away > (count + GROUP - 1) // GROUP * LARGEST - 65535):
        return np.uint16(0), np.uint16(0), np.uint16(0)
    slope = np.floor((limit - margin) * unit / step * 65536 * (1 - 1e-9))
    return np.uint16(min(slope, 65535.0)), np.uint16(max(-away, 0.0)), np.uint16(min(max(away, 0.0), 65535.0))


@kernel(fastmath=FAST)
def scan_codes(stride, floor, codes, lengths, unit, start, stop, eligible, tables, step, base, exact, error, margin,
               best, rows, uppers):
    """Find the rows from `start` to `stop` that may be among the k of highest cosine to a query; return how many.

    Only one of `stride` blocks is looked at, and rows whose cosine is below `floor` are passed over. codes (blocks,
    bytes, ROWS) uint8 as from `lay_out`; lengths (ROWS * blocks,) uint16, c for a row whose length is between c and
    c + 1 times `unit`, 65,535 for longer ones and for zero rows; eligible (rows,) bool, or empty where all are.
    tables (bytes, 2, 16) or (bytes, 1, 256) uint8, of which the numbers of two bytes add up to 255 at most, and
    exact, float64 of that shape, are the query's: a dot product is at most ``step * sum of tables + base``, and it is
    ``sum of exact``, give or take `error`. By `margin` a cosine may differ from what these say. best (k,) float32
    comes sorted, largest first, and gets the k largest of what it had and the least cosines that rows may have; rows
    (n,) int64 and uppers (n,) float32 get, in their first places, the rows found, ascending, and the most their
    cosines may be.
    """
    k = len(best)
    count, per, entries = exact.shape
    flat, table, numbers = codes.reshape(-1), tables.reshape(-1), exact.reshape(-1)
    masks = np.empty(ROWS // HALF, np.uint32)
    limit = max(best[k - 1], floor)
    slope, above, below = _what_to_reach(limit, unit, step, base, margin, count)
    found = 0
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
        slope, above, below = _what_to_reach(limit, unit, step, base, margin, count)
    return found


@kernel(fastmath=FAST)
def search_codes(codes, lengths, unit, start, stop, eligible, book, starts, queries, error, margin, best, rows,
                 uppers, found):
    """Do as `scan_codes` for each of some queries (q, c) float64, by tables made of book and starts.

    book (c, 16 or 256) float64 and starts as for `make_tables`; by `error` a dot product may differ from what they
    say. best (q, k), rows and uppers (q, n); found (q,) int64 gets how many rows there are, or -1 where a query's
    numbers are too large.
    """
    shape = len(queries), codes.shape[1], 2 if book.shape[1] == 16 else 1, book.shape[1]
    tables, exact = np.zeros(shape, np.uint8), np.zeros(shape)
    steps, bases, floors = np.empty(len(queries)), np.empty(len(queries)), np.empty(len(queries), np.float32)
    for q in range(len(queries)):
        steps[q], base, size = make_tables(book, starts, queries[q], exact[q], tables[q])
        bases[q] = base + error + 8 * UNIT * size
        found[q] = 0 if size < LARGE else -1
        if found[q] == 0:  # a few blocks first, so that all begin with a limit that few rows reach
            ahead = best[q].copy()
            scan_codes(SAMPLED, ahead[-1], codes, lengths, unit, start, stop, eligible, tables[q], steps[q], bases[q],
                       exact[q], error, margin, ahead, rows[q], uppers[q])
            floors[q] = ahead[-1]
    together = max(1, CACHED // (codes.shape[1] + 2)) * ROWS if len(queries) > 1 else max(stop, 1)
    for origin in range(start // ROWS * ROWS, stop, together):
        first, last = max(origin, start), min(origin + together, stop)
        for q in range(len(queries)):
            if found[q] >= 0:
                found[q] += scan_codes(1, floors[q], codes, lengths, unit, first, last, eligible, tables[q], steps[q],
                                       bases[q], exact[q], error, margin, best[q], rows[q, found[q] :],
                                       uppers[q, found[q] :])
    for q in range(len(queries)):  # what was found before the limit rose
        kept = 0
        for i in range(found[q]):
            if uppers[q, i] >= best[q, -1]:
                rows[q, kept], uppers[q, kept] = rows[q, i], uppers[q, i]
                kept += 1
        found[q] = min(found[q], kept)
