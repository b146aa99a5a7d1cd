"""scalar: every number as one of 2 to 256 evenly spaced values.

Column j has the values ``low_j + step_j * l`` for the levels l = 0 ... 2^bits - 1. Encode: the nearest level, clipped
to the ends of the range; levels are packed, the lowest bit first. The range is ``centre - r`` to ``centre + r``. The
r of least squared error on a sample, errors of clipping included, is found by golden-section search between 0 and the
largest magnitude (May et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.base import Codec, Codes, Context, SmallCodes, State, expect_planned, param, unpack_pairs
from embshrink.numerics.parallel import blocks, map_blocks
from embshrink.numerics.progress import Progress
from embshrink.storage.arrays import ByteArray, DoubleArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

GOLDEN = (np.sqrt(5) - 1) / 2
NUMBERS = 1 << 22  # of the sample, processed together
ENCODED = 1 << 20  # numbers that a thread encodes at a time
SEARCHES = 24  # each shortens the interval by 0.618: to a hundred-thousandth of it in all


@dataclass(frozen=True)
class Scalar(Codec):
    """Round every number to one of ``2 ** bits`` evenly spaced values.

    Use it when other code must read the numbers as integers, or for fast decoding;
    `pq` and `ecq` lose less at the same size. Every column, or with ``per=matrix``
    the whole table, has a range of values, and numbers outside the range are
    clipped to its ends. The range has the least squared error on a sample of rows.
    The alias `int8` stands for ``scalar:bits=8``.

    Notes
    -----
    May, Zhang, Dao and Re, "On the Downstream Performance of Compressed Word Embeddings", NeurIPS 2019 (smallfry):
    uniform quantization, the clipping range by golden-section search of the squared error, rounding to nearest.
    ``per="matrix"`` is their variant: one range, symmetric about zero. We differ in the default, ``per="column"``:
    every column has a range about its own mean.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "May et al., NeurIPS 2019 (smallfry)"

    bits: int = param(8, "bits per number", low=1, high=8)
    per: str = param("column", "one range per column, or one for the whole matrix", choices=("column", "matrix"))
    sample: int = param(65_536, "number of rows from which ranges are computed", low=1)

    def resolve(self, n: int, d: int) -> Scalar:
        return self

    def with_bits(self, bits: float, c: int) -> Scalar:
        if bits < c:
            raise StepError("scalar needs more bits per row", expected=f">= {c}", found=bits,
                            hint="Raise bits, or use rq or pq.")
        return replace(self, bits=min(8, int(bits // c)))

    def plan(self, n: int, c: int) -> Layout:
        return {
            "state.low": (np.dtype(np.float32), (c,)),
            "state.step": (np.dtype(np.float32), (c,)),
            "codes.codes": (np.dtype(np.uint8), (n, -(-c * self.bits // 8))),
        }

    def fit(self, matrix: Matrix, context: Context) -> State:
        rows = np.sort(context.rng.choice(len(matrix), min(len(matrix), self.sample), replace=False))
        sample = matrix[rows]
        c = matrix.shape[1]
        if self.per == "column":
            centre = sample.mean(axis=0, dtype=np.float64)
            reach = self._reach_of_columns(sample, centre, context.progress)
        else:
            centre, reach = np.zeros(1), best_reach(sample.reshape(1, -1), self.bits, context.progress)
        return {"low": np.broadcast_to(centre - reach, c).astype(np.float32),
                "step": np.broadcast_to(2 * reach / (2**self.bits - 1), c).astype(np.float32)}

    def _reach_of_columns(self, sample: FloatArray, centre: DoubleArray, progress: Progress) -> DoubleArray:
        """Return the half-width of each column's range about its centre; work on a few columns at a time."""
        c, found = len(centre), []
        for start, stop in blocks(c, max(1, NUMBERS // max(1, len(sample)))):

            def report(stage: str, done: int, total: int | None, /, start: int = start, stop: int = stop) -> None:
                progress(stage, start * SEARCHES + done * (stop - start), c * SEARCHES)

            columns = np.ascontiguousarray((sample[:, start:stop] - centre[start:stop]).T)
            found.append(best_reach(columns, self.bits, report))
        return np.concatenate(found)

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        n, c = matrix.shape
        packed = np.empty((n, -(-c * self.bits // 8)), np.uint8)
        low, step = _low_and_step(state)
        step = np.where(step > 0, step, np.float32(1))

        def work(start: int, stop: int) -> None:
            levels = np.rint((matrix[start:stop] - low) / step)
            packed[start:stop] = pack_bits(np.clip(levels, 0, 2**self.bits - 1).astype(np.uint8), self.bits)

        map_blocks(work, n, max(1, ENCODED // c))
        return {"codes": packed}

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        low, step = _low_and_step(state)
        levels = unpack_bits(np.asarray(codes["codes"][rows], np.uint8), self.bits, len(low))
        return levels.astype(np.float32) * step + low

    def small_codes(self, codes: Codes, state: State) -> SmallCodes | None:
        if self.bits > 4:
            return None
        low, step = _low_and_step(state)
        c = len(low)
        together = 1 if self.bits == 3 else 4 // self.bits  # levels in a code
        starts = np.arange(0, c, together)
        levels = np.arange(16)[:, None] >> np.arange(c) % together * self.bits & 2**self.bits - 1

        def unpack(rows: slice) -> ByteArray:
            packed = np.asarray(codes["codes"][rows], np.uint8)
            return unpack_bits(packed, 3, c) if self.bits == 3 else unpack_pairs(packed, len(starts))

        return SmallCodes(unpack, starts, levels.astype(np.float32) * step + low)

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        expect_planned(self.plan(n, c), codes, state)


def _low_and_step(state: State) -> tuple[FloatArray, FloatArray]:
    return np.asarray(state["low"], np.float32), np.asarray(state["step"], np.float32)


def best_reach(columns: FloatArray | DoubleArray, bits: int, progress: Progress) -> DoubleArray:
    """Find the half-width of the range of least squared error for each row of `columns`, by golden-section search.

    Parameters
    ----------
    columns : numpy.ndarray, shape (ranges, numbers), float32 or float64
        The numbers of each range, less its centre.
    bits : int
        Bits per number.
    progress : callable

    Returns
    -------
    numpy.ndarray, shape (ranges,), float64
    """
    low: DoubleArray = np.zeros(len(columns))
    high = np.abs(columns).max(axis=1).astype(np.float64)
    inner, outer = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_inner, loss_outer = _rounding_losses(columns, bits, inner), _rounding_losses(columns, bits, outer)
    for done in range(SEARCHES):
        left = loss_inner < loss_outer
        low, high = np.where(left, low, inner), np.where(left, outer, high)
        new = np.where(left, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        loss_new = _rounding_losses(columns, bits, new)
        inner, outer = np.where(left, new, outer), np.where(left, inner, new)
        loss_inner, loss_outer = np.where(left, loss_new, loss_outer), np.where(left, loss_inner, loss_new)
        progress("finding ranges", done + 1, SEARCHES)
    reach: DoubleArray = (low + high) / 2
    return reach


def _rounding_losses(columns: FloatArray | DoubleArray, bits: int, reach: DoubleArray) -> DoubleArray:
    """Return the squared error of each row, with numbers rounded to ``2 ** bits`` values from -reach to reach."""
    top = 2**bits - 1
    lost = np.empty(len(columns))

    def work(start: int, stop: int) -> None:
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


def pack_bits(levels: ByteArray, bits: int) -> ByteArray:
    """Pack values of `bits` bits each, lowest bit first; every row begins at a byte boundary.

    Parameters
    ----------
    levels : numpy.ndarray, shape (n, c), uint8
        Below ``2 ** bits``.
    bits : int
        1 to 8.

    Returns
    -------
    numpy.ndarray, shape (n, ceil(c * bits / 8)), uint8
    """
    if bits == 8:
        return levels
    flags = (levels[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(flags.reshape(len(levels), -1), axis=1, bitorder="little")


def unpack_bits(packed: ByteArray, bits: int, c: int) -> ByteArray:
    """Return the values, (n, c) uint8, that `pack_bits` packed."""
    if bits == 8:
        return packed
    flags = np.unpackbits(packed, axis=1, count=c * bits, bitorder="little").reshape(len(packed), c, bits)
    levels: ByteArray = (flags << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    return levels
