"""The best target of each row, over tiles of a score matrix or by products of bytes that rule most targets out.

A processor that multiplies bytes (VNNI) needs a quarter of the time that float32 takes. Therefore rows and targets
are rounded to bytes with known errors, and only targets that may be the best are compared in float32. The instruction
is called through an intrinsic, because numba does not use it by itself. If the processor lacks it, or numba does not
compile, `numerics/assignment` uses the tiles.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numba.core.base import BaseContext
    from numba.core.typing import Context, Signature

    from embshrink.storage.arrays import AnyArray, ByteArray, FloatArray, IntArray

    Codegen = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value | None]

RUN = 128  # number of columns skipped together if none of them is better
GROUP = 4  # number of bytes whose products one lane of a vector adds up
ROWS = 6  # rows processed together: their sums and operands fill the registers of the processor
_LANES, _VECTORS = (16, 4) if compiled_for("avx512vnni") else (8, 2)
STRIP = _LANES * _VECTORS  # number of targets compared together
_WHOLE = ir.VectorType(ir.IntType(32), _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_MASK = ir.IntType(64)
LEAST = np.float32(1e-30)  # smaller scales have no inverse in float32
LARGEST = np.float32(1e30)  # for larger squares the errors are unknown, and no target is ruled out
SPARE = np.float32(1.00001)  # covers the rounding of the sums that lengths are computed from
TINY = np.float32(1e-16)  # covers squares that are too small for float32


class RoundedTargets(NamedTuple):
    """Targets (k, d) in strips of STRIP targets, and their codes in bytes.

    A target less the centre is ``scale * code`` plus an error. `round_targets` fills `moved`, `scales`, `longest`,
    `losses` and `strips`; before, `strips` must be filled with 128.
    """

    targets: FloatArray  # (k, d) float32
    offsets: FloatArray  # (k,) float32, added to the products
    strips: ByteArray  # (strips, w / 4, STRIP, 4) uint8, w >= d: codes + 128
    moved: FloatArray  # (strips * STRIP,) float32: offset + centre . (target - centre)
    scales: FloatArray  # (strips,) float32
    longest: FloatArray  # (strips,) float32: length of the longest ``scale * code``
    losses: FloatArray  # (strips,) float32: length of the largest error
    errors: FloatArray  # (2,) float32: errors[0] * |row| + errors[1] bounds the float32 error of a score


class RoundedRows(NamedTuple):
    """Rows (n, d) and their codes in bytes: a row less the centre is ``scale * code`` plus an error."""

    rows: FloatArray  # (n, d) float32
    codes: AnyArray  # (m, w) int8, w >= d, m the next multiple of ROWS; must be filled with zeros before
    scales: FloatArray  # (n,) float32
    losses: FloatArray  # (n,) float32: length of the error
    distances: FloatArray  # (n,) float32: length of the row less the centre
    lengths: FloatArray  # (n,) float32: length of the row
    products: FloatArray  # (n,) float32: row . centre


def multiplies_bytes() -> bool:
    """Return whether numba compiles for a processor that has the instruction."""
    return compiled_for("avx512vnni") or compiled_for("avxvnni")


@kernel(fastmath=FAST)
def update_best(scores: FloatArray, offsets: FloatArray, first: int, best: FloatArray, ids: IntArray) -> None:
    """Update the best target of each row by a tile of scores.

    scores (r, c) and offsets (c,) float32 belong to the targets from number `first` on. If scores + offsets exceed
    best (r,) float32, they replace it, and ids (r,) int64 is set to the target. On a tie the old target stays, so
    tiles in ascending order give the lowest id.
    """
    for i in range(scores.shape[0]):
        limit = best[i]
        for start in range(0, scores.shape[1], RUN):
            run = scores[i, start : start + RUN]
            offset = offsets[start : start + RUN]
            better = False
            for j in range(len(run)):
                better |= run[j] + offset[j] > limit
            if better:
                for j in range(len(run)):
                    if run[j] + offset[j] > limit:
                        limit = run[j] + offset[j]
                        ids[i] = first + start + j
        best[i] = limit


@intrinsic
def _compare_strip(typingctx: Context, codes: types.Type, row: types.Type, groups: types.Type, sums: types.Type,
                   strips: types.Type, strip: types.Type, offsets: types.Type, scales: types.Type, limits: types.Type,
                   masks: types.Type) -> tuple[Signature, Codegen]:
    """Find the targets of a strip that reach the limit, for ROWS rows from `row` on; return 0 if none does.

    codes (n, 4 * groups) int8; strips (strips, groups, STRIP, 4) uint8: the targets' codes + 128; sums (n,) int32:
    -128 times the sum of each row's codes, which compensates for the 128; offsets (strips * STRIP,), scales and
    limits (n,) float32; out: masks (ROWS,) uint64. A target's bit is set unless ``scale * (code . code) + offset`` is
    below the limit of the row.
    """
    arguments = codes, row, groups, sums, strips, strip, offsets, scales, limits, masks
    signature = types.uint64(*arguments)

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature,
                args: Sequence[ir.Value]) -> ir.Value:
        data = [context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, args)]
        codes, row, groups, sums, strips, strip, offsets, scales, limits, masks = data
        name = f"llvm.x86.avx512.vpdpbusd.{32 * _LANES}"
        multiply = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WHOLE, [_WHOLE] * 3), name)

        def at(pointer: ir.Value, *factors: int | ir.Value) -> ir.Value:
            place = ir.Constant(groups.type, 1)
            for factor in factors:
                place = builder.mul(place, ir.Constant(groups.type, factor) if isinstance(factor, int) else factor)
            return builder.gep(pointer, [place])

        def load(kind: ir.Type, pointer: ir.Value, align: int) -> ir.Value:
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = align
            return value

        def fill(kind: ir.VectorType, value: ir.Value) -> ir.Value:
            single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
            return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None))

        firsts = [at(codes, builder.add(row, row.type(r)), groups, GROUP) for r in range(ROWS)]
        totals = [[cgutils.alloca_once_value(builder, fill(_WHOLE, builder.load(at(at(sums, row), r))))
                   for _ in range(_VECTORS)] for r in range(ROWS)]
        own = at(strips, strip, groups, GROUP * STRIP)
        with cgutils.for_range(builder, groups, intp=groups.type) as loop:
            group = at(own, loop.index, GROUP * STRIP)
            targets = [load(_WHOLE, at(group, GROUP * _LANES * v), 1) for v in range(_VECTORS)]
            for first, line in zip(firsts, totals):
                four = fill(_WHOLE, load(ir.IntType(32), at(first, loop.index, GROUP), 1))
                for total, target in zip(line, targets):
                    builder.store(builder.call(multiply, [builder.load(total), target, four]), total)
        own = at(offsets, strip, STRIP)
        added = [load(_FLOATS, at(own, _LANES * v), 4) for v in range(_VECTORS)]
        reached = _MASK(0)
        for r, line in enumerate(totals):
            scale = fill(_FLOATS, builder.load(at(at(scales, row), r)))
            limit = fill(_FLOATS, builder.load(at(at(limits, row), r)))
            mask = _MASK(0)
            for v, total in enumerate(line):
                product = builder.fmul(builder.sitofp(builder.load(total), _FLOATS), scale, flags=("contract",))
                score = builder.fadd(product, added[v], flags=("contract",))
                bits = builder.bitcast(builder.fcmp_unordered(">=", score, limit), ir.IntType(_LANES))
                mask = builder.or_(mask, builder.shl(builder.zext(bits, _MASK), _MASK(_LANES * v)))
            builder.store(mask, at(masks, r))
            reached = builder.or_(reached, mask)
        return reached

    return signature, codegen


@intrinsic
def _lowest_bit(typingctx: Context, mask: types.Type) -> tuple[Signature, Codegen]:
    """Return the number of the lowest bit set in a mask, which must not be 0."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature,
                args: Sequence[ir.Value]) -> ir.Value:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


@kernel(fastmath=FAST)
def round_targets(centre: FloatArray, rounded: RoundedTargets) -> None:
    """Round targets less a centre (d,) to bytes: fill `strips`, `moved`, `scales`, `longest` and `losses`."""
    targets, strips = rounded.targets, rounded.strips
    k, d = targets.shape
    for strip in range(len(strips)):
        first, last = strip * STRIP, min((strip + 1) * STRIP, k)
        peak = 0.0
        for j in range(first, last):
            for t in range(d):
                peak = max(peak, abs(np.float64(targets[j, t]) - centre[t]))
        scale = np.float64(np.float32(peak / 127))
        longest = 0.0
        loss = 0.0
        total_loss = 0.0
        for j in range(first, last):
            base = np.float64(rounded.offsets[j])
            total = 0.0
            lost = 0.0
            for t in range(d):
                value = np.float64(targets[j, t]) - centre[t]
                code = min(max(np.rint(value / scale), -127.0), 127.0) if scale > 0 else 0.0
                strips[strip, t // GROUP, j - first, t % GROUP] = np.uint8(np.int32(code) + 128)
                code *= scale
                base += centre[t] * value
                total += code * code
                lost += (value - code) * (value - code)
            rounded.moved[j] = base
            longest = max(longest, total)
            loss = max(loss, lost)
            total_loss += lost
        rounded.scales[strip] = scale
        rounded.longest[strip] = math.sqrt(longest) * SPARE if total_loss < LARGEST else np.inf
        rounded.losses[strip] = math.sqrt(loss) * SPARE if total_loss < LARGEST else np.inf


@kernel(fastmath=FAST)
def round_rows(centre: FloatArray, rounded: RoundedRows) -> None:
    """Round rows less a centre (d,) to bytes: fill all arrays of `rounded` but `rows`."""
    d = len(centre)
    values = np.empty(d, np.float32)
    bits = values.view(np.int32)
    largest = np.empty(1, np.int32)
    for i in range(rounded.rows.shape[0]):
        row, code = rounded.rows[i], rounded.codes[i]
        base = np.float32(0)
        square = np.float32(0)
        for t in range(d):
            values[t] = row[t] - centre[t]
            base += row[t] * centre[t]
            square += row[t] * row[t]
        top = np.int32(0)
        for t in range(d):  # the bits of unsigned floats have the same order, and their maximum is computed by SIMD
            top = max(top, bits[t] & np.int32(0x7FFFFFFF))
        largest[0] = top
        scale = largest.view(np.float32)[0] / np.float32(127)
        inverse = np.float32(1) / scale if scale > LEAST else np.float32(0)
        total = np.float32(0)
        lost = np.float32(0)
        for t in range(d):
            value = np.rint(values[t] * inverse)
            code[t] = np.int8(np.int32(value))
            gap = values[t] - value * scale
            total += values[t] * values[t]
            lost += gap * gap
        rounded.scales[i] = scale
        rounded.losses[i] = math.sqrt(lost) * SPARE + TINY if total < LARGEST else np.inf
        rounded.distances[i] = math.sqrt(total) * SPARE + TINY if total < LARGEST else np.inf
        rounded.lengths[i] = math.sqrt(square) + TINY
        rounded.products[i] = base


@kernel(fastmath=FAST)
def match_rows(rounded: RoundedRows, against: RoundedTargets, best: FloatArray, ids: IntArray) -> None:
    """Find the best target of each row: the largest ``row . target + offset``, in float32, the lowest id on a tie.

    ids (n,) int64 contains guesses and is set to the best targets; better guesses make it faster. best (n,) float32
    is set to the scores.

    Let c be the centre, x - c = s a + e for a row and t - c = s' b + e' for a target, with codes a and b::

        x . t = x . c + c . (t - c) + (x - c) . (t - c)
        (x - c) . (t - c) = s s' a . b + e . s' b + (x - c) . e'

    The last two terms are at most ``|e| |s' b| + |x - c| |e'|``. A target whose ``s s' a . b + c . (t - c) + offset``
    is below the best score so far, less x . c and this bound, can therefore not be the best.
    """
    rows, codes, targets, offsets = rounded.rows, rounded.codes, against.targets, against.offsets
    n, k = len(rows), len(targets)
    filled, width = codes.shape
    sums = np.zeros(filled, np.int32)
    bases = np.empty(n, np.float32)
    factors = np.zeros(filled, np.float32)
    limits = np.full(filled, np.inf, np.float32)
    masks = np.empty(ROWS, np.uint64)
    for i in range(n):
        total = np.int32(0)
        code = codes[i]
        for t in range(width):
            total += np.int32(code[t])
        sums[i] = np.int32(-128) * total
        bases[i] = rounded.products[i] + against.errors[0] * rounded.lengths[i] + against.errors[1]
        best[i] = _score(rows[i], targets[ids[i]]) + offsets[ids[i]]
        if not best[i] > -np.inf:
            best[i] = -np.inf
            ids[i] = 0
    for strip in range(len(against.strips)):
        scale, longest, loss = against.scales[strip], against.longest[strip], against.losses[strip]
        for i in range(n):
            factors[i] = rounded.scales[i] * scale
            limits[i] = best[i] - bases[i] - rounded.losses[i] * longest - rounded.distances[i] * loss
        for start in range(0, n, ROWS):
            if not _compare_strip(codes, start, width // GROUP, sums, against.strips, strip, against.moved, factors,
                                  limits, masks):
                continue
            for i in range(start, min(start + ROWS, n)):
                mask = masks[i - start]
                while mask:
                    j = strip * STRIP + _lowest_bit(mask)
                    mask &= mask - np.uint64(1)
                    if j < k:
                        score = _score(rows[i], targets[j]) + offsets[j]
                        if score > best[i] or (score == best[i] and j < ids[i]):
                            best[i] = score
                            ids[i] = j


@kernel(fastmath=FAST)
def _score(row: FloatArray, target: FloatArray) -> np.float32:
    score = np.float32(0)
    for t in range(len(target)):
        score += row[t] * target[t]
    return score
