"""Tables to code by while they are learned, and the coder that chooses sizes by them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embshrink.methods.ecq.model import (
    BASE,
    LARGEST,
    LEVELS_PER_OCTAVE,
    MAX_SIZES,
    RAW,
    SHIFTED,
    TOTAL,
    UNIT,
    Model,
    gains,
    value_of,
)
from embshrink.numerics.parallel import map_blocks

SLOPES = {0: 0.14, 4: 0.5, 8: 0.5}  # squared steps that a bit is worth
ROWS = 2048  # coded at a time
ZERO_LEVEL = 24  # of a number as large as the distance of its values, while tables are learned
TRIED_LEVELS = 88
ESCAPE_PRICE = 1e5  # bits from which on a size has no symbol in a table
FIRST_OF_SIZE = np.repeat(np.arange(MAX_SIZES), 1 << RAW)
FIRST_OF_SIZE = np.append(FIRST_OF_SIZE, np.full(LARGEST + 1 - len(FIRST_OF_SIZE), MAX_SIZES)).astype(np.int64)


def distance(trellis):
    """Return how far two values of one quantizer are apart, in 1/64 steps."""
    return 2 * UNIT if trellis else UNIT


@dataclass
class Tables:
    """Statistics to code by, while they are learned.

    Parameters
    ----------
    trellis : int
    counts : numpy.ndarray, shape (quantizers, levels, sizes + 1), float64
        Relative frequency of each size, both signs together, in each level.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
    """

    trellis: int
    frequencies: np.ndarray
    shifts: np.ndarray

    @classmethod
    def first(cls, trellis):
        """Return tables of numbers with a Laplace distribution, to begin with."""
        spreads = 2.0 ** ((np.arange(TRIED_LEVELS) - ZERO_LEVEL) / LEVELS_PER_OCTAVE) / math.sqrt(2)
        tables = []
        for quantizer in range(2 if trellis else 1):
            edges = np.concatenate([[0], BASE[1:] - 0.5, [LARGEST]])
            if quantizer:
                edges[1:-1] -= 0.5
                edges[1] = 0.25
            tables.append(-np.diff(np.exp(-edges[None] / spreads[:, None]), axis=1))
        shares = np.stack(tables)
        shares = np.concatenate([shares, np.full((*shares.shape[:2], 1), 1e-7)], axis=2)
        shifts = np.zeros((*shares.shape[:2], SHIFTED), np.int8)
        return cls(trellis, shares / shares.sum(axis=2, keepdims=True), shifts)

    def learned(self, counts, sums):
        """Return tables after what was counted, smoothed by these."""
        shape = self.frequencies.shape
        counts = counts.reshape(shape).astype(np.float64)
        # A level that was hardly met leans on the tables it was begun with.
        mixed = counts + 20 * self.frequencies
        sums = sums.reshape(*shape[:2], SHIFTED)
        number = np.maximum(counts[:, :, 1 : SHIFTED + 1], 1)
        sizes = np.arange(1, SHIFTED + 1)
        quantizers = np.arange(shape[0])[:, None, None]
        shifts = (sums - number * value_of(sizes, quantizers, self.trellis)) / (number + 20)
        return Tables(self.trellis, mixed / mixed.sum(axis=2, keepdims=True),
                      np.clip(np.rint(shifts), -40, 40).astype(np.int8))

    def rounded(self, low=0, high=TRIED_LEVELS, sizes=MAX_SIZES):
        """Return the tables as a file has them, for these levels and so many sizes: slots and shifts."""
        shares = self.frequencies[:, low:high]
        each = shares[:, :, 1 : MAX_SIZES] / 2  # a sign's
        slots = np.where(each * TOTAL >= 0.25, np.maximum(np.rint(each * TOTAL), 1), 0).astype(np.int64)
        slots[:, :, sizes - 1 :] = 0
        over = 2 * slots.sum(axis=2) + 2 - TOTAL  # zero and the escape need one each
        for quantizer, level in zip(*np.nonzero(over > 0)):
            row = slots[quantizer, level]
            while 2 * row.sum() + 2 > TOTAL:
                row[np.argmax(row)] -= 1
        table = np.zeros((*shares.shape[:2], sizes + 1), np.uint16)
        table[:, :, 1:sizes] = slots[:, :, : sizes - 1]
        table[:, :, sizes] = 1
        table[:, :, 0] = TOTAL - 1 - 2 * slots.sum(axis=2)
        return table, self.shifts[:, low:high]


class Coder:
    """Chooses sizes by tables, and counts what that costs.

    Parameters
    ----------
    table, shifts : numpy.ndarray
        As a file has them.
    trellis : int
    base : numpy.ndarray, shape (m,), int64
    fixed : bool
        As for centroids: no states, no shifts.
    """

    def __init__(self, table, shifts, trellis, base, fixed=False):
        self.model = Model(table, np.zeros_like(shifts) if fixed else shifts, trellis)
        self.trellis, self.base, self.fixed, self.gains = trellis, base.astype(np.int64), fixed, gains(len(base))
        model, sizes = self.model, table.shape[2] - 1
        codes = np.append(np.maximum(2 * np.arange(sizes) - 1, 0), len(model.base) - 1)  # of each size, plus sign
        frequencies = model.frequencies[:, codes]
        plain = np.append(RAW[:sizes] , 16.0)
        with np.errstate(divide="ignore"):
            price = PROBABILITY - np.log2(frequencies) + plain
        self.price = np.where(frequencies > 0, price, 2 * ESCAPE_PRICE)
        self.values = np.abs(model.values[:, codes]).astype(np.float64)
        scores = model.scores[:, codes]
        self.scores = np.where(frequencies > 0, scores, scores[:, -1:])
        self.first = np.minimum(FIRST_OF_SIZE, sizes)
        self.steps = np.array([[distance(trellis), 0.0], [distance(trellis), UNIT if trellis else 0.0]])

    def choose(self, targets, levels, slope):
        """Return signed sizes, (n, m) int32, for targets in 1/64 steps and what rows' levels begin with."""
        from embshrink.kernels.ecq import choose

        sizes = np.empty(targets.shape, np.int32)
        states = 1 if self.fixed else len(self.model.moves)
        room, links = np.empty((4, states)), np.empty((targets.shape[1], states), np.int64)
        choose(targets, levels, self.base, self.gains, slope * UNIT * UNIT, self.price, self.values, self.scores,
               self.first, self.steps, self.model.moves, self.fixed, sizes, room, links)
        return sizes

    def choose_all(self, targets, levels, slope, sizes):
        """Do as `choose`, some rows at a time on all cores; fill in sizes, (n, m) int32."""
        def work(start, stop):
            sizes[start:stop] = self.choose(targets[start:stop], levels[start:stop], slope)

        map_blocks(work, len(targets), ROWS)

    def count(self, targets, sizes, levels, rebuilt):
        """Return how often each size is met in each context, and what the smallest stand for; fill in the values."""
        from embshrink.kernels.ecq import count

        counts, sums = np.zeros(self.price.shape, np.int64), np.zeros((len(self.price), SHIFTED))
        count(sizes, levels, targets, self.base, self.gains, self.values, self.scores, self.first, self.steps,
              self.model.levels, self.model.moves, self.fixed, counts, sums, rebuilt)
        return counts, sums

    def write(self, sizes, levels, heads, tails, tail_bits, index, block):
        """Return the bytes of rows' blocks, end to end, and the length of each."""
        from embshrink.kernels.ecq import write

        n, m = sizes.shape
        model, blocks = self.model, -(-n // block)
        lengths = np.empty(blocks, np.int64)
        symbols = min(block, n) * (3 * m + 2)
        out, scratch = np.empty((blocks, symbols * 3 // 2 + 8), np.uint8), np.empty((symbols, 2), np.int64)
        write(sizes, levels, heads, tails, tail_bits, index, np.cumsum(index) - index, self.base, self.gains,
              model.frequencies, model.starts, model.scores, self.first, model.base, model.raw, model.levels,
              model.moves, self.fixed, block, out, lengths, scratch)
        return b"".join(row[len(row) - length :].tobytes() for row, length in zip(out, lengths)), lengths


PROBABILITY = float(np.log2(TOTAL))
