"""The coder chooses sizes by tables and prices, counts them, and writes them.

*Prices.* A size with its sign costs 12 - log2(frequency) bits plus its raw bits. Sizes are chosen to minimize
D + lambda R, where D is the error in squared steps, R is the number of bits, and lambda (`SLOPES`) is the error that
a bit must save to be worth its cost: the slope -dD/dR. At high rates D falls as 4**-R, so -dD/dR = 2 ln 2 D = 1.39 D.
Without a trellis, D is 1/12 or slightly more, which gives 0.12. With a trellis, the values of a quantizer are two
steps apart and D is about 0.24, which gives 0.33. The constants are somewhat larger. They are the same for all
tables, so lambda is not searched for: the step size alone determines the bits.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.model import (
    BIN_RAW_BITS,
    LARGEST,
    MAX_BINS,
    PROBABILITY_BITS,
    SHIFTED,
    UNIT,
    LabelCode,
    Model,
    SizeArray,
    gains,
    spacing,
)
from embshrink.numerics.parallel import map_blocks

if TYPE_CHECKING:
    from embshrink.kernels.ecq import Contexts, Prices
    from embshrink.storage.arrays import AnyArray, DoubleArray, IntArray

SLOPES = {0: 0.14, 4: 0.5, 8: 0.5}  # lambda by trellis: squared steps per bit
ROWS_AT_ONCE = 2048  # rows coded at a time
ESCAPE_PRICE = 1e5  # bits; from here on a size has no symbol in a table
ESCAPE_BITS = 16.0  # plain bits after an escape
BIN_OF_SIZE = np.repeat(np.arange(MAX_BINS), 1 << BIN_RAW_BITS)
BIN_OF_SIZE = np.append(BIN_OF_SIZE, np.full(LARGEST + 1 - len(BIN_OF_SIZE), MAX_BINS)).astype(np.int64)


class Coder:
    """Chooses sizes by tables, counts them and their cost, and writes them.

    Parameters
    ----------
    tables, shifts : numpy.ndarray
        As in a file.
    trellis : int
        Number of states; 0 for no trellis.
    axis_levels : numpy.ndarray, shape (m,), int
        The initial level of each coefficient, in 1/256.
    fixed : bool
        True for centroids: the trellis stays in state 0, and values have no shifts.
    """

    def __init__(
        self, tables: AnyArray, shifts: AnyArray, trellis: int, axis_levels: AnyArray, fixed: bool = False
    ) -> None:
        self.model = model = Model(tables, np.zeros_like(shifts) if fixed else shifts, trellis)
        self.trellis, self.fixed = trellis, fixed
        self.axis_levels: IntArray = axis_levels.astype(np.int64)
        self.gains = gains(len(axis_levels))
        bins = model.bins
        # The symbol of each bin with a plus sign, then the escape.
        symbols = np.append(np.maximum(2 * np.arange(bins) - 1, 0), len(model.first_sizes) - 1)
        frequencies = model.frequencies[:, symbols]
        plain_bits = np.append(BIN_RAW_BITS[:bins], ESCAPE_BITS)
        with np.errstate(divide="ignore"):
            price = PROBABILITY_BITS - np.log2(frequencies) + plain_bits
        scores = model.scores[:, symbols]
        # A bin without a symbol is escaped, and has the score of the escape.
        self.price: DoubleArray = np.where(frequencies > 0, price, 2 * ESCAPE_PRICE)
        self.scores: IntArray = np.where(frequencies > 0, scores, scores[:, -1:])
        self._values: DoubleArray = np.abs(model.values[:, symbols]).astype(np.float64)

    @functools.cached_property
    def _contexts(self) -> Contexts:
        from embshrink.kernels.ecq import Contexts

        return Contexts(self.axis_levels, self.gains, self.model.level_count, self.model.moves, self.fixed)

    @functools.cached_property
    def _prices(self) -> Prices:
        from embshrink.kernels.ecq import Prices

        return Prices(self.price, self._values, self.scores, BIN_OF_SIZE, float(spacing(self.trellis)),
                      float(UNIT) if self.trellis else 0.0)

    def choose(self, targets: DoubleArray, row_levels: IntArray, slope: float) -> SizeArray:
        """Return the signed sizes of least cost, (n, m) int32.

        Parameters
        ----------
        targets : numpy.ndarray, shape (n, m), float64
            Coefficients before rounding, in 1/64 steps.
        row_levels : numpy.ndarray, shape (n,), int64
            The initial level of each row, in 1/256.
        slope : float
            Squared steps per bit: `SLOPES`.
        """
        from embshrink.kernels.ecq import choose

        sizes = np.empty(targets.shape, np.int32)
        choose(targets, row_levels, slope * UNIT * UNIT, self._contexts, self._prices, sizes)
        return sizes

    def choose_all(self, targets: DoubleArray, row_levels: IntArray, slope: float, sizes: SizeArray) -> None:
        """Do as `choose`, block by block on all cores; fill `sizes` (n, m)."""
        def work(start: int, stop: int) -> None:
            sizes[start:stop] = self.choose(targets[start:stop], row_levels[start:stop], slope)

        map_blocks(work, len(targets), ROWS_AT_ONCE)

    def count(
        self, targets: DoubleArray, sizes: SizeArray, row_levels: IntArray, rebuilt: DoubleArray
    ) -> tuple[IntArray, DoubleArray]:
        """Count bins, and fill `rebuilt` (n, m) with the values of `sizes`.

        Returns
        -------
        counts : numpy.ndarray, shape (contexts, bins + 1), int64
            How often each bin occurs in each context.
        sums : numpy.ndarray, shape (contexts, 3), float64
            Sum of the absolute targets of the sizes 1 to 3.
        """
        from embshrink.kernels.ecq import count

        counts, sums = np.zeros(self.price.shape, np.int64), np.zeros((len(self.price), SHIFTED))
        count(sizes, row_levels, targets, self._contexts, self._prices, counts, sums, rebuilt)
        return counts, sums

    def bits(self, counts: IntArray) -> float:
        """Return the total bits of bins, given their counts in each context, (contexts, bins + 1)."""
        price = np.where(self.price < ESCAPE_PRICE, self.price, self.price[:, -1:])
        return float((counts * price).sum())

    def write(
        self, sizes: SizeArray, row_levels: IntArray, labels: IntArray, label_code: LabelCode, block: int
    ) -> tuple[bytes, IntArray]:
        """Return the bytes of all blocks of rows, one after the other, and the length of each block in bytes.

        Parameters
        ----------
        sizes : numpy.ndarray, shape (n, m), int32
            Signed.
        row_levels, labels : numpy.ndarray, shape (n,), int64
            The initial level of each row, in 1/256, and the number of its centroid.
        label_code : LabelCode
        block : int
            Rows per block.
        """
        from embshrink.kernels.ecq import LabelTables, Symbols, write

        n, m = sizes.shape
        model, blocks = self.model, -(-n // block)
        lengths = np.empty(blocks, np.int64)
        symbols = min(block, n) * (3 * m + 2)  # maximum in a block: an escape takes three
        out = np.empty((blocks, symbols * 3 // 2 + 8), np.uint8)  # 12 bits each
        write(sizes, row_levels, labels,
              LabelTables(label_code.frequencies, label_code.starts, label_code.slots, label_code.tail_bits),
              self._contexts,
              Symbols(model.frequencies, model.starts, model.scores, model.first_sizes, model.raw_bits),
              BIN_OF_SIZE, block, out, lengths)
        return b"".join(row[len(row) - length :].tobytes() for row, length in zip(out, lengths)), lengths
