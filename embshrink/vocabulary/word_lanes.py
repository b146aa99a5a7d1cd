"""Decoding of all front-coded words by numpy: all blocks at once, one symbol of each at a time.

This is what `embshrink.kernels.words.decode_words` does without compiling; `embshrink.vocabulary.front_coding`
describes the symbols and their contexts.
"""

from __future__ import annotations

import numpy as np

from embshrink.numerics.arrays import ranges
from embshrink.storage.arrays import BoolArray, ByteArray, IntArray
from embshrink.storage.rans import LOWEST, PROBABILITY_BITS, TOTAL
from embshrink.vocabulary.context_model import DEPTH, KEY, KEY_BITS, KINDS, ContextModel

SHARED, FIRST, REST = range(KINDS)
FULL = 255  # symbol of shared bytes to which one more symbol is added
MOST = 256  # largest length in a key: stands for this length or more
TWO_KEYS = (1 << 2 * KEY_BITS) - 1  # the last two keys of a packed context
MOST_LANES = 1 << 14  # blocks decoded at a time
MOST_BYTES = 1 << 24  # of the words that blocks decoded at a time may hold


class DamagedBlock(Exception):
    """A block is damaged; `block` is its number."""

    def __init__(self, block: int) -> None:
        super().__init__(block)
        self.block = block


def decode_words(
    data: ByteArray, bounds: IntArray, counts: IntArray, longest: int, total: int, model: ContextModel
) -> tuple[ByteArray, IntArray]:
    """Decode all words.

    Parameters
    ----------
    data : numpy.ndarray, shape (bytes,), uint8
        The blocks, concatenated.
    bounds : numpy.ndarray, shape (blocks + 1,), int64
        Start of each block, and the end of the last.
    counts : numpy.ndarray, shape (blocks,), int64
        Number of words in each block, at least 1.
    longest, total : int
        Most bytes of a word, and of all words.
    model : ContextModel
        The tables of the symbols.

    Returns
    -------
    text : numpy.ndarray, uint8
        The words, concatenated; at most `total` bytes.
    lengths : numpy.ndarray, shape (words,), int64
        Bytes of each word.

    Raises
    ------
    DamagedBlock
        If a block is damaged, or the words are longer than `longest` and `total` state.
    """
    symbols = _Symbols(model)
    size = max(1, min(MOST_LANES, MOST_BYTES // max(longest, 1)))
    texts: list[ByteArray] = [np.zeros(0, np.uint8)]
    lengths: list[IntArray] = [np.zeros(0, np.int64)]
    for first in range(0, len(counts), size):
        part = slice(first, min(first + size, len(counts)))
        lanes = _Lanes(data, bounds[part], bounds[1:][part], counts[part], longest, total, symbols)
        bad = lanes.run()
        if bad >= 0:
            raise DamagedBlock(first + bad)
        text, own = lanes.words()
        total -= len(text)
        texts.append(text)
        lengths.append(own)
    return np.concatenate(texts), np.concatenate(lengths)


class _Symbols:
    """The tables of a context model, by binary search for many contexts at once."""

    def __init__(self, model: ContextModel) -> None:
        self._codes = np.append(model.codes, -1)  # the last place is that of keys above all
        self._symbols = model.symbols
        owner = np.repeat(np.arange(len(model.counts)), model.counts)
        self._cells: IntArray = owner << PROBABILITY_BITS | model.starts  # ascending
        self._starts, self._freqs = model.starts, model.freqs
        self._empty: BoolArray = model.counts == 0

    def find(self, packed: IntArray, slots: IntArray) -> tuple[IntArray, IntArray, IntArray, BoolArray]:
        """Return the symbols of slots in packed contexts: symbol, start, frequency, and whether there is none."""
        node = packed >> DEPTH * KEY_BITS
        open_ = np.arange(len(packed))  # contexts that may have a longer one in the model
        for depth in range(1, DEPTH + 1):
            wanted = node[open_] << KEY_BITS | packed[open_] >> (DEPTH - depth) * KEY_BITS & KEY
            place = np.searchsorted(self._codes[:-1], wanted)
            there = self._codes[place] == wanted
            open_ = open_[there]
            node[open_] = place[there] + KINDS
        cell = np.searchsorted(self._cells, node << PROBABILITY_BITS | slots, "right") - 1
        return self._symbols[cell], self._starts[cell], self._freqs[cell], self._empty[node]


class _Lanes:
    """The decoders of some blocks, one lane each.

    The arrays of state have one entry for each lane at work; lanes that are done are removed.
    """

    def __init__(
        self, data: ByteArray, begins: IntArray, ends: IntArray, counts: IntArray, longest: int, total: int,
        symbols: _Symbols,
    ) -> None:
        n = len(counts)
        self._data, self._longest, self._total, self._symbols = data, longest, total, symbols
        self._word_ends = np.cumsum(counts)  # of each lane, in numbers of words
        self._buffer = np.zeros((n, longest + 1), np.uint8)  # the word of each lane, written over the one before it
        self._bytes: list[ByteArray] = []  # of the words, in the order in which they end
        self._lengths: list[IntArray] = []
        self._numbers: list[IntArray] = []
        self._written = np.zeros(n, np.int64)  # bytes of the words of each lane
        self._emitted, self._first_bad = 0, n
        self._lane, self._x, self._place, self._end = np.arange(n), np.zeros(n, np.int64), begins.copy(), ends
        self._left = counts.copy()  # words
        self._kind = np.full(n, REST)
        self._packed = np.full(n, REST << DEPTH * KEY_BITS)  # context of the next symbol
        self._shared, self._length, self._before = (np.zeros(n, np.int64) for _ in range(3))
        bad = begins == ends
        bad[~bad] = data[begins[~bad]] == 0  # no block begins with a zero byte
        self._drop(bad, bad)

    def run(self) -> int:
        """Decode all blocks; return the first lane whose block is damaged, or -1."""
        while len(self._lane):
            self._refill()
            over = self._left == 0
            bad = (self._x < LOWEST) | over & ((self._x != LOWEST) | (self._place != self._end))
            self._drop(over | bad, bad)
            symbol, bad = self._take()
            beginning, first, rest = (np.flatnonzero(self._kind == kind) for kind in (SHARED, FIRST, REST))
            first_too_low = symbol[first] <= self._packed[first] >> 2 * KEY_BITS & KEY  # words are sorted
            bad[first[first_too_low]] = True
            ended = symbol[rest] == 0
            self._append(np.concatenate([first[~first_too_low], rest[~ended]]), symbol, bad)
            self._share(beginning, symbol, bad)
            self._end_words(rest[ended])
            if self._emitted > self._total:
                self._stop_at_total()
            self._drop(bad | (self._lane > self._first_bad), bad)
        return self._first_bad if self._first_bad < len(self._word_ends) else -1

    def words(self) -> tuple[ByteArray, IntArray]:
        """Return the bytes of all words, concatenated, and their lengths, after `run`."""
        if not self._numbers:
            return np.zeros(0, np.uint8), np.zeros(0, np.int64)
        order = np.argsort(np.concatenate(self._numbers))
        lengths = np.concatenate(self._lengths)
        starts = np.cumsum(lengths) - lengths
        return np.concatenate(self._bytes)[ranges(starts[order], lengths[order])], lengths[order]

    def _refill(self) -> None:
        """Read bytes into every state below `LOWEST` while bytes are left."""
        low = np.flatnonzero(self._x < LOWEST)
        while len(low):
            low = low[(self._x[low] < LOWEST) & (self._place[low] < self._end[low])]
            self._x[low] = self._x[low] << 8 | self._data[self._place[low]]
            self._place[low] += 1

    def _take(self) -> tuple[IntArray, BoolArray]:
        """Return the next symbol of each lane, and which lanes have none."""
        slot = self._x & TOTAL - 1
        symbol, start, frequency, missing = self._symbols.find(self._packed, slot)
        self._x = frequency * (self._x >> PROBABILITY_BITS) + slot - start
        return symbol, missing

    def _share(self, at: IntArray, symbol: IntArray, bad: BoolArray) -> None:
        """Take lengths of shared beginnings in the lanes `at`; mark lanes that share more than there is."""
        shared = self._shared[at] + symbol[at]
        wrong = (shared > self._before[at]) | (symbol[at] > FULL)
        bad[at[wrong]] = True
        complete = ~wrong & (symbol[at] < FULL)
        self._shared[at] = shared
        at, shared = at[complete], shared[complete]
        lane = self._lane[at]
        there = np.where(shared < self._before[at], self._keys(lane, shared), 0)
        one, two = (np.where(shared >= back, self._keys(lane, shared - back), 0) for back in (1, 2))
        self._packed[at] = ((FIRST << KEY_BITS | there) << KEY_BITS | one) << KEY_BITS | two
        self._kind[at], self._length[at] = FIRST, shared

    def _keys(self, lane: IntArray, place: IntArray) -> IntArray:
        """Return the keys of bytes of the words of lanes; anything where the place is negative."""
        keys: IntArray = self._buffer[lane, place].astype(np.int64) + 1
        return keys

    def _append(self, at: IntArray, symbol: IntArray, bad: BoolArray) -> None:
        """Append a byte to the words of the lanes `at`; mark lanes whose word becomes too long."""
        too_long = self._length[at] == self._longest
        bad[at[too_long]] = True
        at = at[~too_long]
        own, packed = symbol[at], self._packed[at]
        self._buffer[self._lane[at], self._length[at]] = own - 1
        self._length[at] += 1
        # The keys of FIRST are the byte of the word before and two bytes; those of REST are three bytes.
        earlier = np.where(self._kind[at] == FIRST, packed & TWO_KEYS, packed >> KEY_BITS & TWO_KEYS)
        self._packed[at] = REST << DEPTH * KEY_BITS | own << 2 * KEY_BITS | earlier
        self._kind[at] = REST

    def _end_words(self, at: IntArray) -> None:
        """Keep the words of the lanes `at`, and begin the next ones."""
        lane, length = self._lane[at], self._length[at]
        self._bytes.append(self._buffer.reshape(-1)[ranges(lane * self._buffer.shape[1], length)])
        self._lengths.append(length)
        self._numbers.append(self._word_ends[lane] - self._left[at])
        self._written[lane] += length
        self._emitted += int(length.sum())
        self._left[at] -= 1
        last = np.where(length > 0, self._keys(lane, length - 1), 0)
        lengths = np.minimum(self._shared[at], MOST) << KEY_BITS | np.minimum(length, MOST)
        self._packed[at] = (SHARED << 2 * KEY_BITS | lengths) << KEY_BITS | last
        self._kind[at], self._shared[at], self._before[at] = SHARED, 0, length

    def _stop_at_total(self) -> None:
        """Note the lane with which the words take more than all bytes; only lanes before it need to go on."""
        sums = np.cumsum(self._written)
        self._first_bad = min(self._first_bad, int(np.searchsorted(sums, self._total, "right")))
        self._written[self._first_bad :] = 0
        self._emitted = int(self._written.sum())

    def _drop(self, done: BoolArray, bad: BoolArray) -> None:
        """Remove the lanes that are done, and note the first that is damaged."""
        if not done.any():
            return
        self._first_bad = min(self._first_bad, int(self._lane[bad].min(initial=self._first_bad)))
        keep = ~done
        self._lane, self._x, self._place, self._end = (
            part[keep] for part in (self._lane, self._x, self._place, self._end))
        self._left, self._kind, self._packed = (part[keep] for part in (self._left, self._kind, self._packed))
        self._shared, self._length, self._before = (part[keep] for part in (self._shared, self._length, self._before))
