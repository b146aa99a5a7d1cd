"""What `ecq`'s symbols mean and how likely they are: integers only, so that every machine decodes the same.

*Symbols.* A coefficient is quantized to a *size* g >= 0 and a sign. Sizes fall into *bins*, the columns of the
tables: 0 to 15 have a bin each; from 16 on there are two bins an octave. A *symbol*, what rANS codes, is a bin with a
sign, in the order 0, +1, -1, +2, -2, ..., and the escape last, for every size without a symbol. A symbol whose bin
has 2**b sizes is followed by b raw bits, the escape by 16: the size and its sign.

*Contexts.* A context is a quantizer y (the parity of the trellis' state) and a *level*: the expected size of the
coefficient in quarter octaves. Encoder and decoder compute it alike, in 1/256, from the axis j, the row's bucket b
and centroid k, and the coefficients of the row before it:

    E[j] = axis_levels[j] + bucket_levels[b] + centroid_levels[k] + sum over i < j of (gains[i] * score[i] >> 12)
    context = y * level_count + (E[j] >> 8, but at least 0 and at most level_count - 1)

    gains[i] = 4096 // (12 + i)

With w = min(g, 8) for the size g, 8 for all bins above and the escape, and mu the mean of w under the context's
table,

    score = 1034 * (w - mu) / mu * min(1, 3 mu / 2),   but at least -1600 and at most 3600

(all divisions round down, mu in 1/64: `_scores`). The mean of sizes seen so far, if it began with 12 sizes of the
mean that the prior says, would move by (w - mu) / (13 + i) with coefficient i, and the level, 4 log2 of it in 1/256,
by about 4 * 256 / ln 2 * (w - mu) / mu / (13 + i); 1034 is 0.7 times 4 * 256 / ln 2. The last factor trusts sizes
less where most are 0. A running sum of rounded numbers takes the place of the mean and the logarithm.

*Values* are in 1/64 steps. Without a trellis size g means 64 g. With one, the quantizer of even states has the even
multiples of the step and that of odd states 0 and the odd multiples: 128 g - 64 y, 0 for g = 0. The sizes 1 to 3 are
moved from there by a shift of their context, to the mean of the coefficients that they stand for.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray
from embshrink.storage.rans import LOWEST as LOWEST
from embshrink.storage.rans import PROBABILITY_BITS as PROBABILITY_BITS
from embshrink.storage.rans import TOTAL as TOTAL

UNIT = 64  # of a coefficient's value: a step has so many
LEVELS_PER_OCTAVE = 4
FRACTION = 8  # bits of a level behind the point
MAX_LEVELS = 128
DIRECT = 16  # sizes with a bin of their own
LARGEST = 1 << 13  # sizes from here on are escaped
ESCAPED = 1 << 15  # and end here
SHIFTED = 3  # sizes whose values are shifted, from 1 on
STATES = (0, 4, 8)  # of a trellis
GAIN_DELAY = 12  # observations that the level which a row begins with counts as
FIRST_BUCKET = 8  # rows below 2**8 - 1 are one rank bucket
TAIL_BITS = 6  # of a centroid's number, at most, are plain

_OCTAVES = [(b, half) for b in range(DIRECT.bit_length() - 1, LARGEST.bit_length() - 1) for half in (0, 1)]
# Bin m holds the sizes from BIN_FIRST[m] on, 2**BIN_RAW_BITS[m] of them: 0 to 15 alone, then half octaves.
BIN_FIRST = np.array([*range(DIRECT), *((2 + half) << (b - 1) for b, half in _OCTAVES)], np.int64)
BIN_RAW_BITS = np.array([0] * DIRECT + [b - 1 for b, _ in _OCTAVES], np.int64)
MAX_BINS = len(BIN_FIRST)
TOP_SCORED = 8  # bins above count as this one in the scores
SCORE_UNIT = 1034  # 0.7 of 4 * 256 / ln 2: see above
SCORE_LIMITS = -1600, 3600

SizeArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int32]]  # sizes with their signs
Uint16Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
Int8Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int8]]


class Settings(Protocol):
    """The parameters of `ecq`, as `embshrink.methods.ecq.codec.ECQ` declares and documents them."""

    @property
    def bits(self) -> float | None:
        """Bits a row, every table counted."""

    @property
    def step(self) -> float | None:
        """Distance of two values."""

    @property
    def centroids(self) -> int | None:
        """How many centroids are taken off."""

    @property
    def trellis(self) -> int:
        """States of the trellis."""

    @property
    def weights(self) -> str:
        """What an error counts by."""

    @property
    def norms(self) -> bool:
        """Whether the mean length of vectors is kept."""

    @property
    def block(self) -> int:
        """Rows coded together."""


# ---------------------------------------------------------------- rows


def bucket_of(rows: AnyArray) -> IntArray:
    """Return the rank bucket of rows: 0 for the first 255, then one an octave."""
    exponents = np.frexp(np.asarray(rows, np.float64) + 1)[1]
    buckets: IntArray = np.maximum(exponents - FIRST_BUCKET, 0).astype(np.int64)
    return buckets


def bucket_count(n: int) -> int:
    """Return how many buckets n rows fall into."""
    return max(n.bit_length() - FIRST_BUCKET, 0) + 1


class LabelCode:
    """How the number of a row's centroid is coded: the high bits as a symbol, the *head*, the low ones as plain bits.

    Parameters
    ----------
    index : numpy.ndarray, shape (heads,), unsigned int
        Frequency of each head, of 4096; empty where there are no centroids.
    centroids : int
        How many there are. A damaged file may name more; whoever reads looks whether they are there.

    Attributes
    ----------
    frequencies, starts : numpy.ndarray, shape (heads,), int64
    slots : numpy.ndarray, shape (4096,), int64
        The head that each slot belongs to; empty where there are no centroids.
    tail_bits : int
    """

    def __init__(self, index: AnyArray, centroids: int) -> None:
        self.frequencies: IntArray = np.asarray(index).astype(np.int64)
        self.starts: IntArray = np.cumsum(self.frequencies) - self.frequencies
        self.slots: IntArray = np.repeat(np.arange(len(self.frequencies), dtype=np.int64), self.frequencies)
        self.tail_bits = label_bits(centroids)[1]

    @property
    def labels(self) -> int:
        """How many numbers can be coded: those of all centroids, and fewer than 2**tail_bits more."""
        return len(self.frequencies) << self.tail_bits


def label_bits(centroids: int) -> tuple[int, int]:
    """Return (heads, tail bits) of the numbers of so many centroids; no heads for one or none."""
    bits = max(centroids - 1, 0).bit_length()
    tail = min(TAIL_BITS, max(bits - TAIL_BITS, 0))
    return -(-centroids >> tail) if centroids > 1 else 0, tail


# ---------------------------------------------------------------- coefficients


def gains(m: int) -> IntArray:
    """Return by how much each coefficient's score moves the level of those behind it, in 1/4096, (m,)."""
    return TOTAL // (GAIN_DELAY + np.arange(m, dtype=np.int64))


@functools.cache
def transitions(trellis: int) -> IntArray:
    """Return which state follows a state when an even or odd size is read, (states, 2).

    The odd states use the second quantizer. These are Ungerboeck's codes of 4 and 8 states (IEEE Trans. Inf. Theory
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
    """What a file stores of the model."""

    frequencies: Uint16Array  # (quantizers, levels, bins + 1), of 4096; of each sign, and of the escape last
    shifts: Int8Array  # (quantizers, levels, 3), in 1/64 steps: added to the values of the sizes 1 to 3


class Model:
    """Tables to encode and decode with, made from what a file stores.

    Parameters
    ----------
    tables : numpy.ndarray, shape (quantizers, levels, bins + 1), uint16
        Frequency of each bin, of 4096, for either sign, and last of the escape. Zero has no sign.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
        What the values of the sizes 1 to 3 are off from their quantizer's, in 1/64 steps.
    trellis : {0, 4, 8}

    Attributes
    ----------
    level_count, bins : int
        Levels of each quantizer; bins without the escape.
    frequencies, starts : numpy.ndarray, shape (contexts, symbols), int64
        Of 4096, and their sum over the symbols before.
    values : numpy.ndarray, shape (contexts, symbols), int64
        In 1/64 steps, signed; of the smallest size of a bin. 0 for the escape.
    scores : numpy.ndarray, shape (contexts, symbols), int64
        Above 0 if the symbol says that the level is too low.
    first_sizes, raw_bits : numpy.ndarray, shape (symbols,), int64
        Smallest size of the symbol's bin, and how many raw bits follow it; 0 for the escape.
    moves : numpy.ndarray, shape (states, 2), int64
        As `transitions`.
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
        """The symbol that each slot belongs to, (contexts, 4096) uint8."""
        symbols = np.arange(self.frequencies.shape[1], dtype=np.uint8)
        return np.stack([np.repeat(symbols, row) for row in self.frequencies])


def value_of(size: IntArray, quantizer: IntArray, trellis: int) -> IntArray:
    """Return the value of a size in 1/64 steps, before its shift.

    Without a trellis the values are all multiples of a step. With one, the first quantizer has the even multiples,
    the second 0 and the odd ones.
    """
    return 2 * UNIT * size - UNIT * quantizer * (size > 0) if trellis else UNIT * size


def spacing(trellis: int) -> int:
    """Return how far two values of one quantizer are apart, in 1/64 steps."""
    return 2 * UNIT if trellis else UNIT


def _scores(tables: IntArray) -> IntArray:
    """Return the score of each bin in each context, (quantizers, levels, bins + 1): see the top of this file."""
    # BIN_FIRST is the bin itself up to 15, and only those up to 8 matter here.
    bins = np.minimum(np.append(BIN_FIRST[: tables.shape[2] - 1], TOP_SCORED), TOP_SCORED)
    # In 1/64. A bin's frequency is that of each sign; the escape, which has one symbol, counts twice: it is rare.
    mean = (tables * bins).sum(axis=2, keepdims=True) * 2 // UNIT
    trust = np.minimum(UNIT, 3 * mean // 2)
    scores: IntArray = (UNIT * bins - mean) * SCORE_UNIT * trust // (UNIT * np.maximum(mean, 1))
    return np.clip(scores, *SCORE_LIMITS)


def centroid_unit(trellis: int) -> int:
    """Return what a centroid's coefficients are multiples of, in 1/64 steps: half the spacing of rows' values."""
    return UNIT if trellis else UNIT // 2
