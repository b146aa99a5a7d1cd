"""The best target of each row: over tiles of a score matrix, or by products of bytes that rule most targets out.

A processor that multiplies bytes (VNNI) takes a quarter of the time for them that it takes for float32. So rows and
targets are rounded to bytes, of which the error is known, and only targets that may be best are looked at in full.
Numba must be told of the instruction: without one, or without compiling, `numerics/assignment` uses the tiles.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from embshrink.kernels import FAST, compiled_for, kernel

RUN = 128  # columns passed over at once if none of them is better
GROUP = 4  # bytes whose products one lane adds up
ROWS = 6  # at once: with so many sums, and what they are made of, the processor's registers are full
_LANES, _VECTORS = (16, 4) if compiled_for("avx512vnni") else (8, 2)
STRIP = _LANES * _VECTORS  # targets at once
_WHOLE = ir.VectorType(ir.IntType(32), _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_MASK = ir.IntType(64)
LEAST = np.float32(1e-30)  # smaller scales have no inverse in float32
LARGEST = np.float32(1e30)  # squares beyond say nothing, and no target is ruled out
SPARE = np.float32(1.00001)  # for what is lost as lengths are added up,
TINY = np.float32(1e-16)  # and where squares are too small for float32


def multiplies_bytes():
    """Whether numba compiles here, and for a processor that has the instruction."""
    return compiled_for("avx512vnni") or compiled_for("avxvnni")


@kernel(fastmath=FAST)
def update_best(scores, offsets, first, best, ids):
    """Let a tile compete: scores (r, c) + offsets (c,) float32 against best (r,); ids (r,) int64 get first + column.

    Keeps what was there on a tie, so tiles in ascending order give the lowest id.
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
def _compare_strip(typingctx, codes, row, groups, sums, strips, strip, offsets, scales, limits, masks):
    """Set the bits of the targets of a strip that reach the limit, for ROWS rows: return whether any does.

    codes (n, 4 * groups) int8, from `row` on; strips (strips, groups, STRIP, 4) uint8, targets' codes + 128; sums
    (n,) int32, -128 times the sum of a row's codes; offsets (strips * STRIP,), scales and limits (ROWS,) float32;
    masks (ROWS,) uint64. A target's bit is set unless ``scale * (code . code) + offset`` is below the limit.
    """
    arguments = codes, row, groups, sums, strips, strip, offsets, scales, limits, masks
    signature = types.uint64(*arguments)

    def codegen(context, builder, signature, args):
        data = [context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, args)]
        codes, row, groups, sums, strips, strip, offsets, scales, limits, masks = data
        name = f"llvm.x86.avx512.vpdpbusd.{32 * _LANES}"
        multiply = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WHOLE, [_WHOLE] * 3), name)

        def at(pointer, *factors):
            place = ir.Constant(groups.type, 1)
            for factor in factors:
                place = builder.mul(place, ir.Constant(groups.type, factor) if isinstance(factor, int) else factor)
            return builder.gep(pointer, [place])

        def load(kind, pointer, align):
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = align
            return value

        def fill(kind, value):
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
def _lowest_bit(typingctx, mask):
    """Return the place of the lowest bit that is set, of a mask that has any."""
    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


@kernel(fastmath=FAST)
def round_targets(targets, offsets, centre, strips, moved, about):
    """Round targets less a centre, (k, d) and (d,) float32, to the strips that `match_rows` takes.

    offsets (k,) float32; out: strips (strips, w / 4, STRIP, 4) uint8, w >= d, filled with 128, get the codes + 128;
    moved (strips * STRIP,) float32 gets offset + centre . (target - centre); about (strips, 3) float32 gets a
    strip's scale, the length of its longest target as rounded, and what rounding loses of one at most.
    """
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
        sound = 0.0
        for j in range(first, last):
            base = np.float64(offsets[j])
            total = 0.0
            lost = 0.0
            for t in range(d):
                value = np.float64(targets[j, t]) - centre[t]
                rounded = min(max(np.rint(value / scale), -127.0), 127.0) if scale > 0 else 0.0
                strips[strip, t // GROUP, j - first, t % GROUP] = np.uint8(np.int32(rounded) + 128)
                rounded *= scale
                base += centre[t] * value
                total += rounded * rounded
                lost += (value - rounded) * (value - rounded)
            moved[j] = base
            longest = max(longest, total)
            loss = max(loss, lost)
            sound += lost
        about[strip, 0] = scale
        about[strip, 1] = math.sqrt(longest) * SPARE if sound < LARGEST else np.inf
        about[strip, 2] = math.sqrt(loss) * SPARE if sound < LARGEST else np.inf


@kernel(fastmath=FAST)
def round_rows(rows, centre, codes, about):
    """Round rows less a centre, (n, d) and (d,) float32, to ``scale * code``.

    out: codes (n, w) int8, w >= d, which come filled with zeros; about (5, n) float32: the scale, the length of what
    rounding loses, the row's length less the centre and as it is, and row . centre.
    """
    d = len(centre)
    values = np.empty(d, np.float32)
    bits = values.view(np.int32)
    largest = np.empty(1, np.int32)
    for i in range(rows.shape[0]):
        row, code = rows[i], codes[i]
        base = np.float32(0)
        square = np.float32(0)
        for t in range(d):
            values[t] = row[t] - centre[t]
            base += row[t] * centre[t]
            square += row[t] * row[t]
        top = np.int32(0)
        for t in range(d):  # of numbers without a sign the bits are in order too, and their maximum is SIMD
            top = max(top, bits[t] & np.int32(0x7FFFFFFF))
        largest[0] = top
        scale = largest.view(np.float32)[0] / np.float32(127)
        inverse = np.float32(1) / scale if scale > LEAST else np.float32(0)
        total = np.float32(0)
        lost = np.float32(0)
        for t in range(d):
            rounded = np.rint(values[t] * inverse)
            code[t] = np.int8(np.int32(rounded))
            gap = values[t] - rounded * scale
            total += values[t] * values[t]
            lost += gap * gap
        about[0, i] = scale
        about[1, i] = math.sqrt(lost) * SPARE + TINY if total < LARGEST else np.inf
        about[2, i] = math.sqrt(total) * SPARE + TINY if total < LARGEST else np.inf
        about[3, i] = math.sqrt(square) + TINY
        about[4, i] = base


@kernel(fastmath=FAST)
def match_rows(rows, codes, rows_about, targets, offsets, strips, moved, strips_about, errors, best, ids):
    """Find the best target of each row: the largest ``row . target + offset``, in float32, the lowest id on a tie.

    rows (n, d) float32; codes, n filled up to a multiple of ROWS, and rows_about are theirs from `round_rows`;
    targets (k, d) and offsets (k,) float32; strips, moved and strips_about are theirs from `round_targets`; errors
    (2,) float32, what float32 may lose for each unit of a row's length, and beside it. ids (n,) int64 come with
    targets, the better the sooner it is done, and get the best; best (n,) float32 gets their scores.
    """
    n, k = len(rows), len(targets)
    filled, width = codes.shape
    sums = np.zeros(filled, np.int32)
    bases = np.empty(n, np.float32)
    factors = np.zeros(filled, np.float32)
    limits = np.full(filled, np.inf, np.float32)
    masks = np.empty(ROWS, np.uint64)
    scales, lost, lengths, whole, products = rows_about
    for i in range(n):
        total = np.int32(0)
        code = codes[i]
        for t in range(width):
            total += np.int32(code[t])
        sums[i] = np.int32(-128) * total
        bases[i] = products[i] + errors[0] * whole[i] + errors[1]
        best[i] = _score(rows[i], targets[ids[i]]) + offsets[ids[i]]
        if not best[i] > -np.inf:
            best[i] = -np.inf
            ids[i] = 0
    for strip in range(len(strips)):
        scale, longest, loss = strips_about[strip]
        for i in range(n):
            factors[i] = scales[i] * scale
            limits[i] = best[i] - bases[i] - lost[i] * longest - lengths[i] * loss
        for start in range(0, n, ROWS):
            if not _compare_strip(codes, start, width // GROUP, sums, strips, strip, moved, factors, limits, masks):
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
def _score(row, target):
    score = np.float32(0)
    for t in range(len(target)):
        score += row[t] * target[t]
    return score
