"""The symbols of `ecq` and their probabilities, in integers only, so that every machine decodes the same.

*Symbols.* A coefficient is quantized to a *size* g >= 0 and a sign. Sizes are grouped in *bins*, the columns of the
tables: the sizes 0 to 15 have one bin each; from 16 on there are two bins per octave. A *symbol*, the unit that rANS
codes, is a bin with a sign, in the order 0, +1, -1, +2, -2, ... The last symbol is the escape, for every size without
a symbol. A symbol whose bin has 2**b sizes is followed by b raw bits, the escape by 16: the size and its sign.

*Contexts.* A context is a quantizer y (the parity of the trellis state) and a *level*: the expected size of the
coefficient in quarter octaves. Encoder and decoder compute it in the same way, in 1/256 level, from the axis j, the
row's bucket b and centroid k, and the previous coefficients of the row:

    E[j] = axis_levels[j] + bucket_levels[b] + centroid_levels[k] + sum over i < j of (gains[i] * score[i] >> 12)
    context = y * level_count + (E[j] >> 8, but at least 0 and at most level_count - 1)

    gains[i] = 4096 // (12 + i)

With w = min(g, 8) for the size g, 8 for all bins above and the escape, and mu the mean of w under the context's
table,

    score = 1034 * (w - mu) / mu * min(1, 3 mu / 2),   but at least -1600 and at most 3600

(all divisions round down, mu in 1/64: `_scores`). Why: consider the running mean of the sizes of a row, which starts
as if 12 sizes of the mean predicted by the priors had been seen. Coefficient i moves it by (w - mu) / (13 + i), and
moves the level, 4 log2 of the mean in 1/256, by about 4 * 256 / ln 2 * (w - mu) / mu / (13 + i). The constant 1034 is
0.7 times 4 * 256 / ln 2. The last factor gives sizes less weight if most of them are 0. The mean and the logarithm
are replaced by a running sum of rounded numbers.

*Values* are in 1/64 steps. Without a trellis, size g has the value 64 g. With a trellis, the quantizer of even states
has the even multiples of the step, and that of odd states has 0 and the odd multiples: 128 g - 64 y, 0 for g = 0. For
the sizes 1 to 3, a shift that depends on the context moves the value to the mean of the coefficients of this size.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray
from embshrink.storage.rans import LOWEST as LOWEST
from embshrink.storage.rans import PROBABILITY_BITS as PROBABILITY_BITS
from embshrink.storage.rans import TOTAL as TOTAL

UNIT = 64  # units of a coefficient's value per step
LEVELS_PER_OCTAVE = 4
FRACTION = 8  # fractional bits of a level
MAX_LEVELS = 128
DIRECT = 16  # the number of smallest sizes that have a separate bin each
LARGEST = 1 << 13  # sizes from here on are escaped
ESCAPED = 1 << 15  # upper limit of escaped sizes
SHIFTED = 3  # the sizes 1 to 3 have shifted values
STATES = (0, 4, 8)  # allowed numbers of trellis states; 0: no trellis
GAIN_DELAY = 12  # weight of the initial level of a row, in observations
FIRST_BUCKET = 8  # the first 2**8 - 1 rows are one rank bucket
TAIL_BITS = 6  # maximum of plain bits in a centroid's number

_OCTAVES = [(b, half) for b in range(DIRECT.bit_length() - 1, LARGEST.bit_length() - 1) for half in (0, 1)]
# Bin m holds 2**BIN_RAW_BITS[m] sizes from BIN_FIRST[m] on: single sizes up to 15, then half octaves.
BIN_FIRST = np.array([*range(DIRECT), *((2 + half) << (b - 1) for b, half in _OCTAVES)], np.int64)
BIN_RAW_BITS = np.array([0] * DIRECT + [b - 1 for b, _ in _OCTAVES], np.int64)
MAX_BINS = len(BIN_FIRST)
TOP_SCORED = 8  # larger bins count as this one in the scores
SCORE_UNIT = 1034  # 0.7 times 4 * 256 / ln 2, see above
SCORE_LIMITS = -1600, 3600

SizeArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int32]]  # sizes with their signs
Uint16Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
Int8Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int8]]


class Settings(Protocol):
    """The parameters of `ecq`, as `embshrink.methods.ecq.codec.ECQ` declares and documents them."""

    @property
    def bits(self) -> float | None:
        """Bits per row, tables included."""

    @property
    def step(self) -> float | None:
        """Quantization step size."""

    @property
    def centroids(self) -> int | None:
        """Number of centroids to subtract."""

    @property
    def trellis(self) -> int:
        """Number of states of the trellis."""

    @property
    def weights(self) -> str:
        """Weights of the errors of rows."""

    @property
    def norms(self) -> bool:
        """Whether to keep the mean length of vectors."""

    @property
    def block(self) -> int:
        """Rows coded together."""


# ---------------------------------------------------------------- rows


def bucket_of(rows: AnyArray) -> IntArray:
    """Return the rank bucket of rows: 0 for the first 255, then one bucket per octave."""
    exponents = np.frexp(np.asarray(rows, np.float64) + 1)[1]
    buckets: IntArray = np.maximum(exponents - FIRST_BUCKET, 0).astype(np.int64)
    return buckets


def bucket_count(n: int) -> int:
    """Return the number of rank buckets of n rows."""
    return max(n.bit_length() - FIRST_BUCKET, 0) + 1


class LabelCode:
    """The code of centroid numbers: the high bits are a symbol, the *head*; the low bits are stored plainly.

    Parameters
    ----------
    index : numpy.ndarray, shape (heads,), unsigned int
        Frequency of each head, of 4096; empty without centroids.
    centroids : int
        Number of centroids. A damaged file may contain larger numbers; the caller must check them.

    Attributes
    ----------
    frequencies, starts : numpy.ndarray, shape (heads,), int64
        Frequency of each head, and the sum of the frequencies before it.
    slots : numpy.ndarray, shape (4096,), int64
        The head of each slot; empty without centroids.
    tail_bits : int
        Number of plain bits.
    """

    def __init__(self, index: AnyArray, centroids: int) -> None:
        self.frequencies: IntArray = np.asarray(index).astype(np.int64)
        self.starts: IntArray = np.cumsum(self.frequencies) - self.frequencies
        self.slots: IntArray = np.repeat(np.arange(len(self.frequencies), dtype=np.int64), self.frequencies)
        self.tail_bits = label_bits(centroids)[1]

    @property
    def labels(self) -> int:
        """How many numbers can be coded: all centroids, and fewer than 2**tail_bits more."""
        return len(self.frequencies) << self.tail_bits


def label_bits(centroids: int) -> tuple[int, int]:
    """Return (heads, tail bits) for a number of centroids; no heads for one or none."""
    bits = max(centroids - 1, 0).bit_length()
    tail = min(TAIL_BITS, max(bits - TAIL_BITS, 0))
    return -(-centroids >> tail) if centroids > 1 else 0, tail


# ---------------------------------------------------------------- coefficients


def gains(m: int) -> IntArray:
    """Return how much the score of each coefficient moves the level of the later ones, in 1/4096, (m,)."""
    return TOTAL // (GAIN_DELAY + np.arange(m, dtype=np.int64))


@functools.cache
def transitions(trellis: int) -> IntArray:
    """Return the next state for each state and the parity of the size, even or odd: (states, 2).

    Odd states use the second quantizer. These are Ungerboeck's codes of 4 and 8 states (IEEE Trans. Inf. Theory
    28, 1982; parity checks 5, 2 and 13, 04 in octal), with the parity of sizes as in dependent quantization (Schwarz
    et al., Data Compression Conference 2019). With the bits h0 of the first check and h1 of the second, the bits s of
    the state and the parity p, bit i of the next state is ``s[i + 1] ^ (h0[i + 1] & s[0]) ^ (h1[i + 1] & p)``.
    """
    if not trellis:
        return np.zeros((1, 2), np.int64)
    first, second = ((1, 0, 1), (0, 1, 0)) if trellis == 4 else ((1, 1, 0, 1), (0, 0, 1, 0))
    bits = len(first) - 1
    table = np.zeros((trellis, 2), np.int64)
    for state in range(trellis):
        old = [state >> i & 1 for i in range(bits)] + [0]
        for parity in (0, 1):
            table[state, parity] = sum(
                (old[i + 1] ^ (first[i + 1] & old[0]) ^ (second[i + 1] & parity)) << i for i in range(bits))
    return table


class SizeTables(NamedTuple):
    """The part of the model that a file stores."""

    frequencies: Uint16Array  # (quantizers, levels, bins + 1), of 4096; of each sign, and of the escape last
    shifts: Int8Array  # (quantizers, levels, 3), in 1/64 steps: added to the values of the sizes 1 to 3


class Model:
    """Tables for encoding and decoding, computed from the tables of a file.

    Parameters
    ----------
    tables : numpy.ndarray, shape (quantizers, levels, bins + 1), uint16
        Frequency of each bin, of 4096, for each of its two signs; the escape is last. Zero has no sign.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
        Added to the quantizer's values of the sizes 1 to 3, in 1/64 steps.
    trellis : {0, 4, 8}
        Number of states; 0 for no trellis.

    Attributes
    ----------
    level_count, bins : int
        Levels of each quantizer; bins without the escape.
    frequencies, starts : numpy.ndarray, shape (contexts, symbols), int64
        Frequency of each symbol, of 4096, and the sum of the frequencies of the symbols before it.
    values : numpy.ndarray, shape (contexts, symbols), int64
        Signed value of the smallest size of the symbol's bin, in 1/64 steps; 0 for the escape.
    scores : numpy.ndarray, shape (contexts, symbols), int64
        Positive if the symbol indicates that the level is too low.
    first_sizes, raw_bits : numpy.ndarray, shape (symbols,), int64
        Smallest size of the symbol's bin, and number of raw bits that follow the symbol; 0 for the escape.
    moves : numpy.ndarray, shape (states, 2), int64
        The result of `transitions`.
    """

    def __init__(self, tables: AnyArray, shifts: AnyArray, trellis: int) -> None:
        self.trellis = trellis
        wide: IntArray = tables.astype(np.int64)
        quantizers, self.level_count, width = wide.shape
        self.bins = width - 1
        contexts = quantizers * self.level_count
        signed = np.repeat(np.arange(self.bins), 2)[1:]  # the bin of each symbol but the escape
        bin_of_symbol = np.append(signed, self.bins)
        sign_of_symbol = np.append(np.where(np.arange(len(signed)) % 2, 1, -1), 0)
        sign_of_symbol[0] = 0
        self.frequencies: IntArray = wide[:, :, bin_of_symbol].reshape(contexts, -1)
        self.starts: IntArray = np.cumsum(self.frequencies, axis=1) - self.frequencies
        self.first_sizes: IntArray = np.append(BIN_FIRST[: self.bins], 0)[bin_of_symbol]
        self.raw_bits: IntArray = np.append(BIN_RAW_BITS[: self.bins], 0)[bin_of_symbol]
        values = value_of(self.first_sizes[None], np.arange(quantizers)[:, None], trellis)
        values = np.repeat(values[:, None], self.level_count, axis=1)
        wide_shifts: IntArray = shifts.astype(np.int64)
        for size in range(1, min(SHIFTED + 1, self.bins)):
            values[:, :, 2 * size - 1 : 2 * size + 1] += wide_shifts[:, :, size - 1 : size]
        self.values: IntArray = values.reshape(contexts, -1) * sign_of_symbol
        self.scores: IntArray = _scores(wide)[:, :, bin_of_symbol].reshape(contexts, -1)
        self.moves = transitions(trellis)

    @functools.cached_property
    def slots(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The symbol of each slot, (contexts, 4096) uint8."""
        symbols = np.arange(self.frequencies.shape[1], dtype=np.uint8)
        return np.stack([np.repeat(symbols, row) for row in self.frequencies])


def value_of(size: IntArray, quantizer: IntArray, trellis: int) -> IntArray:
    """Return the value of a size in 1/64 steps, before its shift.

    Without a trellis, the values are all multiples of the step. With a trellis, the first quantizer has the even
    multiples, the second 0 and the odd multiples.
    """
    return 2 * UNIT * size - UNIT * quantizer * (size > 0) if trellis else UNIT * size


def spacing(trellis: int) -> int:
    """Return the distance of two neighbouring values of a quantizer, in 1/64 steps."""
    return 2 * UNIT if trellis else UNIT


def _scores(tables: IntArray) -> IntArray:
    """Return the score of each bin in each context, (quantizers, levels, bins + 1): see the top of this file."""
    # BIN_FIRST equals the bin up to 15, and only bins up to 8 matter here.
    bins = np.minimum(np.append(BIN_FIRST[: tables.shape[2] - 1], TOP_SCORED), TOP_SCORED)
    # In 1/64. Times 2: each bin has two signs. This counts the escape, which has no sign, twice; it is rare.
    mean = (tables * bins).sum(axis=2, keepdims=True) * 2 // UNIT
    trust = np.minimum(UNIT, 3 * mean // 2)
    scores: IntArray = (UNIT * bins - mean) * SCORE_UNIT * trust // (UNIT * np.maximum(mean, 1))
    return np.clip(scores, *SCORE_LIMITS)


def centroid_unit(trellis: int) -> int:
    """Return the step size of the coefficients of centroids, in 1/64 steps: half the spacing of rows' values."""
    return UNIT if trellis else UNIT // 2
