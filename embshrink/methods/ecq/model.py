"""What `ecq`'s symbols mean and how likely they are: integers only, so that every machine reads the same.

A symbol is the size of a quantized coefficient with its sign. How likely each is depends on the
*level*, the expected size of the coefficient in quarter octaves, which the reader works out from the
coefficient's place and from what it has already read of the row. docs/format.md has the rules.
"""

from __future__ import annotations

import functools

import numpy as np

from embshrink.errors import StepError

PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS
LOWEST = 1 << 14  # of the coder's state
UNIT = 64  # of a coefficient's value: a step has so many
LEVELS_PER_OCTAVE = 4
FRACTION = 8  # bits of a level behind the point
MAX_LEVELS = 128
DIRECT = 16  # sizes with a symbol of their own
LARGEST = 1 << 13  # sizes from here on are escaped
ESCAPED = 1 << 15  # and end here
SHIFTED = 3  # sizes whose values are shifted, from 1 on
STATES = (0, 4, 8)

# Symbol m stands for the sizes from BASE[m] on, 2**RAW[m] of them: 0 to 15 alone, then half octaves.
BASE = np.array([*range(DIRECT), *((2 + half) << (b - 1) for b in range(4, 13) for half in (0, 1))])
RAW = np.array([0] * DIRECT + [b - 1 for b in range(4, 13) for _ in (0, 1)])
MAX_SIZES = len(BASE)


def gains(m):
    """Return by how much each coefficient moves the level of those behind it, (m,) int64."""
    return TOTAL // (12 + np.arange(m))


@functools.cache
def transitions(trellis):
    """Return which state follows a state when an even or odd size is read, (states, 2) int64.

    The odd states use the second quantizer. Ungerboeck's codes of 4 and 8 states (IEEE Trans. Inf. Theory 28, 1982:
    parity checks 5, 2 and 13, 04 in octal), with sizes' parity as in dependent quantization (Schwarz et al., Data
    Compression Conference 2019).
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


class Model:
    """Tables to code and decode with, out of what a file stores.

    Parameters
    ----------
    tables : numpy.ndarray, shape (quantizers, levels, sizes + 1), uint16
        How many of 4096 slots each size has, for either sign, and last an escape. Zero has no sign.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
        What the values of the sizes 1 to 3 are off from their quantizer's, in 1/64 steps.
    trellis : {0, 4, 8}

    Attributes
    ----------
    frequencies, starts : numpy.ndarray, shape (contexts, symbols), int64
        A context is ``quantizer * levels + level``; a symbol is 0, then plus and minus each size, last the escape.
    values : numpy.ndarray, shape (contexts, symbols), int64
        In 1/64 steps; of the smallest size where a symbol stands for several.
    scores : numpy.ndarray, shape (contexts, symbols), int64
        What a symbol says of the level: above 0 that it is set too low.
    """

    def __init__(self, tables, shifts, trellis):
        self.trellis = trellis
        tables = tables.astype(np.int64)
        quantizers, self.levels, width = tables.shape
        self.sizes = width - 1
        contexts = quantizers * self.levels
        signed = np.repeat(np.arange(self.sizes), 2)[1:]  # size symbol of each signed symbol but the escape
        self.size_of = np.append(signed, self.sizes)
        self.sign_of = np.append(np.where(np.arange(len(signed)) % 2, 1, -1), 0)
        self.sign_of[0] = 0
        self.frequencies = tables[:, :, self.size_of].reshape(contexts, -1)
        self.starts = np.cumsum(self.frequencies, axis=1) - self.frequencies
        base = np.append(BASE[: self.sizes], 0)[self.size_of]
        self.base, self.raw = base, np.append(RAW[: self.sizes], 0)[self.size_of]
        values = value_of(base[None], np.arange(quantizers)[:, None], trellis)
        values = np.repeat(values[:, None], self.levels, axis=1)
        for size in range(1, min(SHIFTED + 1, self.sizes)):
            values[:, :, 2 * size - 1 : 2 * size + 1] += shifts[:, :, size - 1 : size]
        self.values = values.reshape(contexts, -1) * self.sign_of
        self.scores = _scores(tables)[:, :, self.size_of].reshape(contexts, -1)

    @functools.cached_property
    def slots(self):
        """Which symbol each slot belongs to, (contexts, 4096) uint8."""
        symbols = np.arange(self.frequencies.shape[1], dtype=np.uint8)
        return np.stack([np.repeat(symbols, row) for row in self.frequencies])

    @functools.cached_property
    def moves(self):
        """As `transitions`."""
        return transitions(self.trellis)


def value_of(size, quantizer, trellis):
    """Return the value of a size in 1/64 steps, before its shift.

    Without a trellis the values are all multiples of a step. With one, the first quantizer has the even multiples,
    the second 0 and the odd ones.
    """
    return 2 * UNIT * size - UNIT * quantizer * (size > 0) if trellis else UNIT * size


def _scores(tables):
    """Return ``score(size)`` for each table, (quantizers, levels, sizes + 1) int64.

    How far a size is from the mean of its table, as a fraction of that mean; sizes above 8 count as 8.
    """
    sizes = np.minimum(np.append(BASE[: tables.shape[2] - 1], 8), 8)
    mean = (tables * sizes).sum(axis=2, keepdims=True) * 2 // UNIT  # in 1/64; the escape counts twice, being rare
    trust = np.minimum(UNIT, 3 * mean // 2)
    return np.clip((UNIT * sizes - mean) * 1034 * trust // (UNIT * np.maximum(mean, 1)), -1600, 3600)


def centroid_unit(trellis):
    """Return what a centroid's coefficients are multiples of, in 1/64 steps: half of what rows' are."""
    return UNIT if trellis else UNIT // 2


def parse_weights(text):
    """Return (what is lost counts by: "none", "zipf" or "counts", to which power).

    Raises
    ------
    StepError
    """
    name, _, power = text.partition(":")
    try:
        power = float(power) if power else 1.0
    except ValueError:
        power = -1.0
    if name not in ("none", "zipf", "counts") or not 0 <= power <= 2:
        raise StepError(f"ecq cannot weigh by {text!r}", expected="none, zipf:A or counts:A, with A from 0 to 2",
                        hint="For instance weights=zipf:0.5")
    return name, power
