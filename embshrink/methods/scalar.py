"""scalar: every number as one of 2 to 256 evenly spaced values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.base import Codec, SmallCodes, expect_planned, halves, param
from embshrink.numerics.parallel import blocks, map_blocks

GOLDEN = (np.sqrt(5) - 1) / 2
NUMBERS = 1 << 22  # of a sample that are looked at together
ENCODED = 1 << 20  # numbers, by one thread at a time
SEARCHES = 24  # each narrows the range by 0.618: to a hundred-thousandth


@dataclass(frozen=True)
class Scalar(Codec):
    """Round every number to the nearest of ``2 ** bits`` evenly spaced values.

    What lies outside a range is clipped to its ends; the range is the one that loses least.
    `int8` is ``scalar:bits=8``.

    Notes
    -----
    May, Zhang, Dao and Re, "On the Downstream Performance of Compressed Word Embeddings", NeurIPS 2019 (smallfry):
    uniform quantization, the clipping range by golden-section search of the squared error, rounding to nearest.
    ``per="matrix"`` is theirs, a range symmetric about zero; ``per="column"``, the default, gives every column a
    range about its own mean.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "May et al., NeurIPS 2019 (smallfry)"

    bits: int = param(8, "bits a number", low=1, high=8)
    per: str = param("column", "what a range is for", choices=("column", "matrix"))
    sample: int = param(65_536, "rows to find the range on", low=1)

    def resolve(self, n, d):
        return self

    def with_bits(self, bits, c):
        if bits < c:
            raise StepError("scalar cannot spend so few bits a word", expected=f">= {c}", found=bits,
                            hint="Use pq or iiq.")
        return replace(self, bits=min(8, int(bits // c)))

    def plan(self, n, c):
        return {
            "state.low": (np.dtype(np.float32), (c,)),
            "state.step": (np.dtype(np.float32), (c,)),
            "codes.codes": (np.dtype(np.uint8), (n, -(-c * self.bits // 8))),
        }

    def fit(self, matrix, context):
        rows = np.sort(context.rng.choice(len(matrix), min(len(matrix), self.sample), replace=False))
        sample = matrix[rows]
        c = matrix.shape[1]
        if self.per == "column":
            centre, at_once = sample.mean(axis=0, dtype=np.float64), max(1, NUMBERS // max(1, len(sample)))
            reach = np.concatenate([best_reach(
                np.ascontiguousarray((sample[:, start:stop] - centre[start:stop]).T), self.bits,
                lambda stage, done, total, start=start, stop=stop: context.progress(
                    stage, start * total + done * (stop - start), c * total),
            ) for start, stop in blocks(c, at_once)])
        else:
            centre, reach = np.zeros(1), best_reach(sample.reshape(1, -1), self.bits, context.progress)
        return {"low": np.broadcast_to(centre - reach, c).astype(np.float32),
                "step": np.broadcast_to(2 * reach / (2**self.bits - 1), c).astype(np.float32)}

    def encode(self, matrix, state, context):
        n, c = matrix.shape
        packed = np.empty((n, -(-c * self.bits // 8)), np.uint8)
        step = np.where(state["step"] > 0, state["step"], 1)

        def work(start, stop):
            levels = np.rint((matrix[start:stop] - state["low"]) / step)
            packed[start:stop] = pack_bits(np.clip(levels, 0, 2**self.bits - 1).astype(np.uint8), self.bits)

        map_blocks(work, n, max(1, ENCODED // c))
        return {"codes": packed}

    def decode(self, codes, state, rows):
        levels = unpack_bits(codes["codes"][rows], self.bits, len(state["low"]))
        return levels.astype(np.float32) * state["step"] + state["low"]

    def small_codes(self, codes, state):
        if self.bits > 4:
            return None
        low, step, c = state["low"], state["step"], len(state["low"])
        together = 1 if self.bits == 3 else 4 // self.bits  # numbers in a code
        starts = np.arange(0, c, together)
        levels = np.arange(16)[:, None] >> np.arange(c) % together * self.bits & 2**self.bits - 1

        def labels(rows):
            packed = codes["codes"][rows]
            return unpack_bits(packed, 3, c) if self.bits == 3 else halves(packed, len(starts))

        return SmallCodes(labels, starts, levels.astype(np.float32) * step + low)

    def check(self, codes, state, n, c):
        expect_planned(self.plan(n, c), codes, state)


def best_reach(columns, bits, progress):
    """Return for each row of `columns` the half-width of the range that loses least, by golden-section search.

    Parameters
    ----------
    columns : numpy.ndarray, shape (ranges, numbers), float32 or float64
        About zero.
    bits : int
    progress : callable

    Returns
    -------
    numpy.ndarray, shape (ranges,), float64
    """
    top = 2**bits - 1
    largest = np.abs(columns).max(axis=1).astype(np.float64)

    def loss(reach):
        lost = np.empty(len(columns))

        def work(start, stop):
            for row in range(start, stop):
                width = np.float32(max(reach[row], 1e-30))
                step = 2 * width / np.float32(top)
                total = 0.0
                for first, last in blocks(columns.shape[1], NUMBERS):
                    numbers = columns[row, first:last].astype(np.float64)
                    levels = np.clip(np.rint((numbers + width) / step), 0, top)
                    total += np.square(levels * step - width - numbers).sum()
                lost[row] = total

        map_blocks(work, len(columns), 1)
        return lost

    low, high = np.zeros(len(columns)), largest.copy()
    inner, outer = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_inner, loss_outer = loss(inner), loss(outer)
    for done in range(SEARCHES):
        left = loss_inner < loss_outer
        low, high = np.where(left, low, inner), np.where(left, outer, high)
        new = np.where(left, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        loss_new = loss(new)
        inner, outer = np.where(left, new, outer), np.where(left, inner, new)
        loss_inner, loss_outer = np.where(left, loss_new, loss_outer), np.where(left, loss_inner, loss_new)
        progress("finding ranges", done + 1, SEARCHES)
    return (low + high) / 2


def pack_bits(levels, bits):
    """Pack (n, c) values of so many bits into (n, ceil(c * bits / 8)) bytes, lowest bits first."""
    if bits == 8:
        return levels
    flags = (levels[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(flags.reshape(len(levels), -1), axis=1, bitorder="little")


def unpack_bits(packed, bits, c):
    """Return the (n, c) values that `pack_bits` packed."""
    if bits == 8:
        return packed
    flags = np.unpackbits(packed, axis=1, count=c * bits, bitorder="little").reshape(len(packed), c, bits)
    return (flags << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
