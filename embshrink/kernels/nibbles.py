"""A pass over rows of 4-bit codes that adds up table entries by shuffling bytes, and finds the rows that may be best.

A shuffle looks 32 or 64 codes up in a table of 16 bytes at once (Andre, Kermarrec and Le Scouarnec, "Quicker ADC",
TPAMI 43, 2021; faiss calls it fast scan). It is an instruction of AVX2, of which numba must be told: where it is
missing, or nothing is compiled, `embshrink.scan` uses another index. Tables hold 6 bits a number, so that four of
them are added up in 8 bits before sums take 16: a coarser bound lets through some tens of rows more, and is sooner
added up.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, kernel

ROWS = 64  # in a block
HALF = ROWS // 2
LARGEST = 63  # of four numbers of a table the sum fits 8 bits
_BYTES = ir.VectorType(ir.IntType(8), ROWS)
_WORDS = ir.VectorType(ir.IntType(16), HALF)


def can(feature):
    """Whether the processor that numba compiles for has a feature, as LLVM names it."""
    from llvmlite.binding import get_host_cpu_features
    from numba.core import config

    if config.CPU_FEATURES is not None:
        return f"+{feature}" in config.CPU_FEATURES.split(",")
    return bool(get_host_cpu_features().get(feature))


def _all(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def _part(builder, vector, start, count):
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), [place % vector.type.count for place in
                                                                 range(start, start + count)])
    return builder.shuffle_vector(vector, vector, places)


def _shuffle(builder, entries, labels):
    """Return the entries (16 bytes) that the labels (64 bytes below 16) name."""
    wide = can("avx512bw")
    kind = _BYTES if wide else ir.VectorType(ir.IntType(8), 32)
    name = "llvm.x86.avx512.pshuf.b.512" if wide else "llvm.x86.avx2.pshuf.b"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
    table = _part(builder, entries, 0, kind.count)
    if wide:
        return builder.call(function, [table, labels])
    parts = [builder.call(function, [table, _part(builder, labels, start, 32)]) for start in (0, 32)]
    places = ir.Constant(ir.VectorType(ir.IntType(32), ROWS), list(range(ROWS)))
    return builder.shuffle_vector(*parts, places)


@intrinsic
def _sum_block(typingctx, codes, first, pairs, tables, sums):
    """Fill `sums` (64,) uint16 with what the tables give the 64 rows of a block; see `scan_nibbles`.

    codes and tables (...,) uint8; the block's codes begin at `first`. A row's byte is two codes: the low one is
    looked up in the first 16 bytes of a pair of tables, the high one in the others.
    """
    signature = types.void(codes, first, pairs, tables, sums)

    def codegen(context, builder, signature, args):
        codes, first, pairs, tables, sums = (
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args))
        start = builder.gep(codes, [first])

        def number(value):
            return ir.Constant(pairs.type, value)

        def load(kind, pointer):
            vector = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            vector.align = 1
            return vector

        def look_up(pair):
            """Return what both codes of a pair give each row, 64 bytes."""
            packed = load(_BYTES, builder.gep(start, [builder.mul(pair, number(ROWS))]))
            high = builder.lshr(builder.bitcast(packed, _WORDS), _all(_WORDS, 4))
            own, found = builder.gep(tables, [builder.mul(pair, number(32))]), []
            for half, labels in enumerate((packed, builder.bitcast(high, _BYTES))):
                entries = load(ir.VectorType(ir.IntType(8), 16), builder.gep(own, [number(16 * half)]))
                found.append(_shuffle(builder, entries, builder.and_(labels, _all(_BYTES, 15))))
            return builder.add(*found)

        # Sums of 16 bits: of two neighbours as they lie, and of the second one alone. The first ones' come out by
        # subtracting, modulo 2**16.
        both = cgutils.alloca_once_value(builder, _all(_WORDS, 0))
        second = cgutils.alloca_once_value(builder, _all(_WORDS, 0))

        def add(found):
            found = builder.bitcast(found, _WORDS)
            builder.store(builder.add(builder.load(both), found), both)
            builder.store(builder.add(builder.load(second), builder.lshr(found, _all(_WORDS, 8))), second)

        with cgutils.for_range(builder, builder.lshr(pairs, number(1)), intp=pairs.type) as loop:
            pair = builder.shl(loop.index, number(1))
            add(builder.add(look_up(pair), look_up(builder.add(pair, number(1)))))
        with builder.if_then(builder.trunc(pairs, ir.IntType(1))):
            add(look_up(builder.sub(pairs, number(1))))
        seconds = builder.load(second)
        firsts = builder.sub(builder.load(both), builder.shl(seconds, _all(_WORDS, 8)))
        for place, part in ((0, firsts), (HALF, seconds)):
            target = builder.bitcast(builder.gep(sums, [number(place)]), _WORDS.as_pointer())
            builder.store(part, target).align = 2
        return context.get_dummy_value()

    return signature, codegen


@kernel
def lay_out(labels, first, codes):
    """Put the 4-bit codes of rows from number `first` on, labels (n, m) uint8, where `scan_nibbles` looks for them.

    codes (blocks, pairs, 64) uint8 with 2 * pairs >= m comes filled with zeros. Of two bytes side by side the first
    belongs to a row in the first half of the block, the second to one in the second.
    """
    for i in range(labels.shape[0]):
        row = first + i
        block = codes[row // ROWS]
        place = row % ROWS
        place = 2 * place if place < HALF else 2 * place - ROWS + 1
        label = labels[i]
        for m in range(len(label)):
            block[m // 2, place] |= label[m] << np.uint8(4 * (m % 2))


@kernel
def make_tables(book, starts, query, exact, tables):
    """Fill a query's tables for `scan_nibbles`; return (step, base, size).

    book (c, 16) float64, what each code stands for in each column; starts (parts + 1,) int64, the columns of each
    part; query (c,) float64. exact (pairs, 2, 16) float64 gets what each code adds to the dot product, tables
    (pairs, 2, 16) uint8 the same rounded to steps above the least. No sum of exact numbers is above ``step * sum of
    tables + base``; none of the numbers that are added up to it is larger than size. Both come filled with zeros.
    """
    least, widest, size = 0.0, 0.0, 0.0
    for m in range(len(starts) - 1):
        own = exact[m // 2, m % 2]
        for j in range(starts[m], starts[m + 1]):
            for code in range(16):
                own[code] += book[j, code] * query[j]
        least += own.min()
        size += abs(own.min())
        widest = max(widest, own.max() - own.min())
    step = max(widest / LARGEST, 1e-30)
    base = least
    for m in range(len(starts) - 1):
        own = exact[m // 2, m % 2]
        lowest = own.min()
        above = 0.0
        for code in range(16):
            rounded = np.rint((own[code] - lowest) / step)
            tables[m // 2, m % 2, code] = np.uint8(rounded)
            above = max(above, own[code] - lowest - step * rounded)
        base += above
    return step, base, size + (len(starts) - 1) * LARGEST * step


@kernel(fastmath=FAST)
def scan_nibbles(codes, inverses, start, stop, eligible, tables, step, base, exact, error, margin, best, rows,
                 uppers):
    """Find the rows from `start` to `stop` that may be among the k of highest cosine to a query; return how many.

    codes (blocks, pairs, 64) uint8 as from `lay_out`, inverses (64 * blocks,) float32, 1 / length of each row, 0 of
    a zero row; eligible (rows,) bool, or empty where all are. tables (pairs, 2, 16) uint8, of numbers up to 63, and
    exact (pairs, 2, 16) float64 are the query's: a cosine is at most ``(step * sum of tables + base) * inverse +
    margin``, and it is ``sum of exact * inverse``, give or take ``error * inverse + margin``. best (k,) float32 comes
    sorted, largest first, and gets the k largest of what it had and the least cosines that rows may have; rows (n,)
    int64 and uppers (n,) float32 get, in their first places, the rows found, ascending, and the most their cosines
    may be.
    """
    k = len(best)
    pairs = codes.shape[1]
    step32, base32, margin32 = np.float32(step), np.float32(base), np.float32(margin)
    flat, table = codes.reshape(-1), tables.reshape(-1)
    sums = np.empty(ROWS, np.uint16)
    highest = np.empty(ROWS, np.float32)
    found = 0
    for block in range(start // ROWS, (stop + ROWS - 1) // ROWS):
        _sum_block(flat, block * pairs * ROWS, pairs, table, sums)
        inverse = inverses[block * ROWS : (block + 1) * ROWS]
        least = best[k - 1]
        some = False
        for i in range(ROWS):
            highest[i] = (step32 * np.float32(sums[i]) + base32) * inverse[i] + margin32
            some |= highest[i] >= least
        if not some:
            continue
        for i in range(ROWS):
            row = block * ROWS + i
            if highest[i] < best[k - 1] or not start <= row < stop or (len(eligible) and not eligible[row]):
                continue
            place = 2 * i if i < HALF else 2 * i - ROWS + 1
            total = 0.0
            for pair in range(pairs):
                both = codes[block, pair, place]
                total += exact[pair, 0, both & 15] + exact[pair, 1, both >> 4]
            slack = error * inverse[i] + margin
            upper = np.float32(total * inverse[i] + slack)
            if upper < best[k - 1]:
                continue
            rows[found] = row
            uppers[found] = upper
            found += 1
            lower = np.float32(total * inverse[i] - slack)
            if lower > best[k - 1]:
                at = k - 1
                while at > 0 and lower > best[at - 1]:
                    best[at] = best[at - 1]
                    at -= 1
                best[at] = lower
    return found
