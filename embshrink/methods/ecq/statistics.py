"""The statistics from which tables are computed, while they are learned.

*Tables from counts.* If bin g was counted N[g] times in a context, both signs together, its share becomes

    p[g] <- (N[g] + 20 p[g]) / (sum of N + 20)

A context that hardly occurs therefore keeps its previous shares: initially those of a Laplace distribution with the
standard deviation of its level. The shift of a size g from 1 to 3 moves its value v(g) to the mean of the absolute
coefficients a of this size (the centroid condition of Lloyd and Max), as if 20 more coefficients were at v(g):

    shift = (sum of a - N[g] v(g)) / (N[g] + 20),   but at least -40 and at most 40, in 1/64 steps

If N[g] is 0, it is replaced by 1. The shift is then slightly below 0, and no coefficient is decoded with it.

A file stores frequencies that add up to 4096: for each sign of a bin about 4096 p[g] / 2 but at least 1, or 0 if that
is below 1/4 (the size is then escaped); 1 for the escape; and the rest for size 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.model import (
    BIN_FIRST,
    LARGEST,
    LEVELS_PER_OCTAVE,
    MAX_BINS,
    SHIFTED,
    TOTAL,
    Int8Array,
    SizeTables,
    value_of,
)

if TYPE_CHECKING:
    from embshrink.storage.arrays import DoubleArray, IntArray

ZERO_LEVEL = 24  # level of a standard deviation equal to the distance of two values, while tables are learned
TRIED_LEVELS = 88  # number of levels while tables are learned; a file stores those that occur
PRIOR_WEIGHT = 20  # weight of the previous shares, in observations
MOST_SHIFT = 40  # maximum shift of a value, in 1/64 steps
LEAST_SHARE = 1e-7  # initial share of the escape


@dataclass(frozen=True)
class Statistics:
    """The probability of each size in each context, and its shift, learned from rows.

    Parameters
    ----------
    trellis : int
        Number of states; 0 for no trellis.
    shares : numpy.ndarray, shape (quantizers, levels, bins + 1), float64
        Relative frequency of each bin in each context, both signs together; the escape is last.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
        Added to the values of the sizes 1 to 3, in 1/64 steps.
    """

    trellis: int
    shares: DoubleArray
    shifts: Int8Array

    @classmethod
    def initial(cls, trellis: int) -> Statistics:
        """Return the statistics of Laplace distributions with the standard deviation of each level."""
        scales = 2.0 ** ((np.arange(TRIED_LEVELS) - ZERO_LEVEL) / LEVELS_PER_OCTAVE) / math.sqrt(2)
        tables = []
        for quantizer in range(2 if trellis else 1):
            edges = np.concatenate([[0], BIN_FIRST[1:] - 0.5, [LARGEST]])  # between bins, in distances of values
            if quantizer:  # values half a distance lower, except 0
                edges[1:-1] -= 0.5
                edges[1] = 0.25
            tables.append(-np.diff(np.exp(-edges[None] / scales[:, None]), axis=1))
        shares = np.stack(tables)
        shares = np.concatenate([shares, np.full((*shares.shape[:2], 1), LEAST_SHARE)], axis=2)
        shifts = np.zeros((*shares.shape[:2], SHIFTED), np.int8)
        return cls(trellis, shares / shares.sum(axis=2, keepdims=True), shifts)

    def updated(self, counts: IntArray, sums: DoubleArray) -> Statistics:
        """Return the statistics updated with the counts and sums of `Coder.count`, smoothed by the current ones."""
        shape = self.shares.shape
        met = counts.reshape(shape).astype(np.float64)
        mixed = met + PRIOR_WEIGHT * self.shares
        number = np.maximum(met[:, :, 1 : SHIFTED + 1], 1)
        unshifted = value_of(np.arange(1, SHIFTED + 1), np.arange(shape[0])[:, None, None], self.trellis)
        shifts = (sums.reshape(*shape[:2], SHIFTED) - number * unshifted) / (number + PRIOR_WEIGHT)
        return Statistics(self.trellis, mixed / mixed.sum(axis=2, keepdims=True),
                          np.clip(np.rint(shifts), -MOST_SHIFT, MOST_SHIFT).astype(np.int8))

    def rounded(self, low: int = 0, high: int = TRIED_LEVELS, bins: int = MAX_BINS) -> SizeTables:
        """Return tables as a file stores them, for the levels `low` to `high` - 1 and `bins` bins."""
        shares = self.shares[:, low:high]
        each = shares[:, :, 1:MAX_BINS] / 2  # per sign
        slots = np.where(each * TOTAL >= 0.25, np.maximum(np.rint(each * TOTAL), 1), 0).astype(np.int64)
        slots[:, :, bins - 1 :] = 0
        over = 2 * slots.sum(axis=2) + 2 - TOTAL  # zero and the escape need one each
        for quantizer, level in zip(*np.nonzero(over > 0)):
            row = slots[quantizer, level]
            while 2 * row.sum() + 2 > TOTAL:
                row[np.argmax(row)] -= 1
        table = np.zeros((*shares.shape[:2], bins + 1), np.uint16)
        table[:, :, 1:bins] = slots[:, :, : bins - 1]
        table[:, :, bins] = 1
        table[:, :, 0] = TOTAL - 1 - 2 * slots.sum(axis=2)
        return SizeTables(table, self.shifts[:, low:high])
