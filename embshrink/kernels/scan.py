"""Rows rounded to 8-bit numbers with known errors, and a scan that finds the rows that may be the best.

Rows are stored in blocks, with two columns of all rows of a block together: an instruction of AVX2 multiplies both by
two numbers of a query and adds the products. It is called through an intrinsic, because numba does not use it by
itself. If the processor lacks it, or numba does not compile, a plain loop does the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numba.core.base import BaseContext
    from numba.core.typing import Context, Signature

    from embshrink.storage.arrays import AnyArray, BoolArray, FloatArray, IntArray

    Codegen = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value | None]

ROWS = 64  # rows in a block: their sums fit into registers
_LANES = 16 if compiled_for("avx512bw") else 8
_WHOLE = ir.VectorType(ir.IntType(32), _LANES)
_SHORT = ir.VectorType(ir.IntType(16), 2 * _LANES)
_BYTES = ir.VectorType(ir.IntType(8), 2 * _LANES)
_MULTIPLY = "llvm.x86.avx512.pmaddw.d.512" if _LANES == 16 else "llvm.x86.avx2.pmadd.wd"


@kernel(fastmath=FAST)
def encode_rows(rows: FloatArray, first: int, shortest: float, longest: float, margin: float, codes: AnyArray,
                scales: FloatArray, bounds: FloatArray) -> None:
    """Scale rows (n, d) float32 to length 1 and round them to ``scale * code``.

    They are the rows from number `first` on. out, at the positions of these rows: codes (blocks, pairs, ROWS, 2) int8
    with 2 * pairs >= d, which must be filled with zeros before; scales (all rows,) float32; bounds (all rows,)
    float32: length of the rounding error plus `margin`. A zero row has scale and bound 0. A row whose length is
    outside `shortest` to `longest` has an infinite bound.
    """
    for i in range(rows.shape[0]):
        row, place = rows[i], first + i
        block = codes[place // ROWS]
        total = 0.0
        peak = np.float32(0)
        for j in range(len(row)):
            value = np.float64(row[j])
            total += value * value
            peak = max(peak, abs(row[j]))
        length = math.sqrt(total)
        scales[place] = 0
        bounds[place] = 0 if length == 0 else np.inf
        if not shortest <= length <= longest:
            continue
        scale = np.float32(np.float64(peak) / length / 127)
        scales[place] = scale
        lost = 0.0
        for j in range(len(row)):
            unit = np.float64(row[j]) / length
            rounded = np.rint(unit / scale)
            block[j // 2, place % ROWS, j % 2] = np.int8(rounded)
            rest = unit - scale * rounded
            lost += rest * rest
        bounds[place] = math.sqrt(lost) + margin


@intrinsic
def _multiply_quickly(typingctx: Context, codes: types.Type, block: types.Type, pairs: types.Type,
                      queries: types.Type, number: types.Type, products: types.Type) -> tuple[Signature, Codegen]:
    """Fill products (ROWS,) int32 with the dot products of the rows of a block with one of the queries.

    codes (...,) int8 and queries (...,) int16 are those of `scan_rows`, flattened.
    """
    signature = types.void(codes, block, pairs, queries, number, products)

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Sequence[ir.Value]) -> None:
        codes, block, pairs, queries, number, products = (
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args))
        kind = ir.FunctionType(_WHOLE, [_SHORT, _SHORT])
        multiply = cgutils.get_or_insert_function(builder.module, kind, _MULTIPLY)

        def at(pointer: ir.Value, *factors: int | ir.Value) -> ir.Value:
            place = ir.Constant(pairs.type, 1)
            for factor in factors:
                place = builder.mul(place, ir.Constant(pairs.type, factor) if isinstance(factor, int) else factor)
            return builder.gep(pointer, [place])

        def load(kind: ir.Type, pointer: ir.Value) -> ir.Value:
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = 1
            return value

        own, query = at(codes, block, pairs, 2 * ROWS), at(queries, number, pairs, 2)
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_WHOLE, None)) for _ in range(ROWS // _LANES)]
        with cgutils.for_range(builder, pairs, intp=pairs.type) as loop:
            both = load(ir.IntType(32), at(query, loop.index, 2))
            both = builder.insert_element(ir.Constant(_WHOLE, ir.Undefined), both, ir.IntType(32)(0))
            both = builder.shuffle_vector(both, both, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None))
            both, pair = builder.bitcast(both, _SHORT), at(own, loop.index, 2 * ROWS)
            for v, total in enumerate(totals):
                numbers = builder.sext(load(_BYTES, at(pair, 2 * _LANES * v)), _SHORT)
                builder.store(builder.add(builder.load(total), builder.call(multiply, [numbers, both])), total)
        for v, total in enumerate(totals):
            place = builder.bitcast(at(products, _LANES * v), _WHOLE.as_pointer())
            builder.store(builder.load(total), place).align = 4

    return signature, codegen


@kernel
def _multiply_plainly(codes: AnyArray, block: int, pairs: int, queries: AnyArray, number: int,
                      products: AnyArray) -> None:
    """Do the same as `_multiply_quickly`, without the intrinsic."""
    products[:] = 0
    for pair in range(pairs):
        first, second = queries[2 * (number * pairs + pair)], queries[2 * (number * pairs + pair) + 1]
        own = codes[2 * ROWS * (block * pairs + pair) : 2 * ROWS * (block * pairs + pair + 1)]
        for row in range(ROWS):
            products[row] += np.int32(own[2 * row]) * np.int32(first) + np.int32(own[2 * row + 1]) * np.int32(second)


_multiply = _multiply_quickly if compiled_for("avx2") else _multiply_plainly


@kernel(fastmath=FAST)
def scan_rows(codes: AnyArray, scales: FloatArray, bounds: FloatArray, start: int, stop: int, eligible: BoolArray,
              queries: AnyArray, factors: FloatArray, best: FloatArray, rows: IntArray, uppers: FloatArray,
              found: IntArray) -> None:
    """Find the rows from `start` to `stop` that may be among the k rows of highest cosine to each query.

    codes (blocks, pairs, ROWS, 2) int8, scales and bounds (n,) float32 come from `encode_rows`. eligible (n,) bool
    selects the rows to check; empty for all rows. queries (q, 2 * pairs) int16; factors (q, 3) float32 holds (factor,
    reach, error) of each query: the cosine of a row is ``factor * scale * (code . query)``, plus or minus ``bound *
    reach + error``. best (q, k) float32 is sorted in descending order, and is updated to the k largest of its values
    and of the lower bounds of the rows' cosines. out: rows (q, m) int64: the rows found, ascending, in the first
    places; uppers (q, m) float32: upper bounds of their cosines; found (q,) int64: number of rows found.

    The arrays are passed one by one, because unpacking a named tuple adds about a microsecond to a call from Python.
    """
    k = best.shape[1]
    pairs = codes.shape[1]
    flat, flat_queries = codes.reshape(-1), queries.reshape(-1)
    products = np.empty(ROWS, np.int32)
    highest = np.empty(ROWS, np.float32)
    lowest = np.empty(ROWS, np.float32)
    found[:] = 0
    for block in range(start // ROWS, (stop + ROWS - 1) // ROWS):
        origin = block * ROWS
        first, last = max(start, origin), min(stop, origin + ROWS)
        scale = scales[first:last]
        bound = bounds[first:last]
        for q in range(len(queries)):
            _multiply(flat, block, pairs, flat_queries, q, products)
            product = products[first - origin : last - origin]
            factor, reach, error = factors[q, 0], factors[q, 1], factors[q, 2]
            top = best[q]
            least = top[k - 1]
            some = False
            for i in range(len(product)):
                cosine = factor * scale[i] * np.float32(product[i])
                slack = bound[i] * reach + error
                highest[i] = cosine + slack
                lowest[i] = cosine - slack
                some |= highest[i] >= least
            if some:
                count = found[q]
                for i in range(len(product)):
                    if highest[i] >= top[k - 1] and (not len(eligible) or eligible[first + i]):
                        rows[q, count] = first + i
                        uppers[q, count] = highest[i]
                        count += 1
                        lower = lowest[i]
                        if lower > top[k - 1]:
                            place = k - 1
                            while place > 0 and lower > top[place - 1]:
                                top[place] = top[place - 1]
                                place -= 1
                            top[place] = lower
                found[q] = count
    for q in range(len(queries)):  # drop rows that were found before the limit rose
        kept = 0
        for i in range(found[q]):
            if uppers[q, i] >= best[q, k - 1]:
                rows[q, kept], uppers[q, kept] = rows[q, i], uppers[q, i]
                kept += 1
        found[q] = kept
