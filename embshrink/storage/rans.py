"""Entropy coding of small integers: range asymmetric numeral systems (rANS), in blocks that can be decoded alone.

A table gives each of its symbols a frequency f >= 1; the frequencies of a table add up to M = `TOTAL` = 4096. A
symbol's start s is the sum of the frequencies of those before it, so that the symbol owns the slots s to s + f - 1.
The coder is one integer, the state x. To encode a symbol is

    x <- (x // f) * M + s + x % f

and to decode one is the inverse: the slot x % M names the symbol, then

    x <- f * (x // M) + x % M - s

Encoding multiplies x by about M / f, so a symbol costs log2(M / f) bits. Between symbols L <= x < 256 L holds, with
L = `LOWEST`: before a symbol is encoded, low bytes of x are written until x < 256 L / M * f; after one is decoded,
bytes are read while x < L. A block is encoded from its last symbol to its first, so that it is decoded from its first
to its last. It begins with the bytes of the encoder's last state, and the decoder ends in the state L that the
encoder began with, which is checked. A block costs about two bytes more than its symbols.

References
----------
J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013; the variant by ranges (rANS), a byte
at a time, after F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, 2014.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from embshrink.storage.arrays import ByteArray, IntArray

PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS  # what the frequencies of one table add up to
LOWEST = 1 << 14  # the smallest state between two symbols; the largest is 256 times this, less 1
STATE_BYTES = 3  # of a block's last state, at most; and written for one symbol, at most

# What decodes one symbol: where each symbol's slots start, ascending from 0, and `TOTAL` at the end; and the symbols.
Table: TypeAlias = tuple[Sequence[int], Sequence[int]]


class Damaged(Exception):
    """Bytes that no encoder wrote; the caller turns it into a `FormatError` that says where they are."""


def frequencies(weights: IntArray, counts: IntArray) -> IntArray:
    """Scale weights to frequencies that add up to `TOTAL`, each at least 1, for several tables at once.

    Parameters
    ----------
    weights : numpy.ndarray, shape (m,), int64
        At least 1 and below 2**40, the tables end to end.
    counts : numpy.ndarray, shape (t,), int64
        How many symbols each table has, 1 to `TOTAL`.

    Returns
    -------
    numpy.ndarray, shape (m,), int64
        ``1 + weight * (TOTAL - count) // sum of the weights``; what is missing to `TOTAL` is added to the first of a
        table's largest weights.
    """
    if not len(counts):
        return np.zeros(0, np.int64)
    firsts = np.cumsum(counts) - counts
    sums = np.repeat(np.add.reduceat(weights, firsts), counts)
    scaled: IntArray = 1 + weights * np.repeat(TOTAL - counts, counts) // sums
    largest = np.flatnonzero(weights == np.repeat(np.maximum.reduceat(weights, firsts), counts))
    scaled[largest[np.searchsorted(largest, firsts)]] += TOTAL - np.add.reduceat(scaled, firsts)
    return scaled


def starts_of(freqs: IntArray, counts: IntArray) -> IntArray:
    """Return where each symbol's slots start in its table, (m,) int64, for the tables `frequencies` returns."""
    ends = np.cumsum(freqs)
    return ends - freqs - TOTAL * np.repeat(np.arange(len(counts)), counts)


def encode(freqs: IntArray, starts: IntArray, counts: IntArray) -> tuple[ByteArray, IntArray]:
    """Encode blocks of symbols, all blocks in parallel.

    Parameters
    ----------
    freqs, starts : numpy.ndarray, shape (m,), int64
        Frequency of each symbol, 1 to `TOTAL`, and where its slots start in its table; the blocks end to end.
    counts : numpy.ndarray, shape (b,), int64
        How many symbols each block has.

    Returns
    -------
    data : numpy.ndarray, shape (total,), uint8
        The blocks end to end.
    lengths : numpy.ndarray, shape (b,), int64
        Bytes of each block.
    """
    order, bounds, symbols = _lockstep(counts)
    state = np.full(len(counts), LOWEST, np.int64)
    # A row of three bytes for each block's last state, then one for each of its symbols; most bytes stay unused.
    blocks = np.repeat(np.arange(len(counts)), counts)
    rows = np.zeros((len(freqs) + len(counts), STATE_BYTES), np.uint8)
    used = np.zeros(rows.shape, bool)
    for start, stop in zip(bounds[-2::-1], bounds[:0:-1]):
        at, x = symbols[start:stop], state[: stop - start]
        freq, row = freqs[at], at + blocks[at] + 1
        for column in (2, 1):  # a symbol writes two bytes at most; the decoder reads them in reverse
            full = (x >= (LOWEST >> PROBABILITY_BITS << 8) * freq).nonzero()[0]
            rows[row[full], column] = x[full] & 255
            used[row[full], column] = True
            x[full] >>= 8
        quotient = x // freq
        x += quotient * (TOTAL - freq) + starts[at]  # (x // freq) * TOTAL + start + x % freq
    heads = np.cumsum(counts + 1) - counts - 1
    final = np.empty_like(state)
    final[order] = state
    for column in range(STATE_BYTES):
        rows[heads, column] = final >> (16 - 8 * column) & 255
    used[heads] = True
    used[heads, 0] = final >= 1 << 16  # no block begins with a zero byte
    lengths = np.add.reduceat(used.sum(axis=1), heads) if len(counts) else np.zeros(0, np.int64)
    return rows[used], lengths


class _Lockstep(NamedTuple):
    """An order of all symbols in which step t takes the t-th symbol of every block that has one.

    Parameters
    ----------
    order : numpy.ndarray, shape (b,), int64
        The blocks, longest first, so that the blocks of a step are the first ones.
    bounds : list of int
        Where each step begins in `symbols`, and where the last one ends.
    symbols : numpy.ndarray, shape (m,), int64
        The number of each symbol, step by step; within a step in the order of `order`.
    """

    order: IntArray
    bounds: list[int]
    symbols: IntArray


def _lockstep(counts: IntArray) -> _Lockstep:
    """Return how to go through blocks of these numbers of symbols in parallel."""
    order = np.argsort(-counts, kind="stable")
    firsts = (np.cumsum(counts) - counts)[order]
    lanes = np.searchsorted(-counts[order], -np.arange(counts.max(initial=0)))  # blocks that have a t-th symbol
    bounds = np.append(0, np.cumsum(lanes))
    steps = np.repeat(np.arange(len(lanes)), lanes)
    return _Lockstep(order, bounds.tolist(), firsts[np.arange(len(steps)) - bounds[steps]] + steps)


class Tables:
    """Decode blocks in parallel, where the table of every symbol is known beforehand.

    Parameters
    ----------
    freqs : numpy.ndarray, shape (c,), int64
        The tables' frequencies end to end, each table's adding up to `TOTAL`.
    """

    def __init__(self, freqs: IntArray) -> None:
        self._cells = np.repeat(np.arange(len(freqs)), freqs)  # the symbol of each slot
        # Both numbers a step needs of a slot, in one: its symbol's frequency, and the slot less the symbol's start.
        places = np.arange(len(self._cells)) - np.repeat(np.cumsum(freqs) - freqs, freqs)
        self._steps: IntArray = np.repeat(freqs << PROBABILITY_BITS, freqs) | places

    def decode(self, data: ByteArray, lengths: IntArray, counts: IntArray, tables: IntArray) -> IntArray:
        """Return the place of each symbol in `freqs`, (m,) int64.

        Parameters
        ----------
        data : numpy.ndarray, shape (total,), uint8
            The blocks end to end.
        lengths, counts : numpy.ndarray, shape (b,), int64
            Bytes and symbols of each block.
        tables : numpy.ndarray, shape (m,), int64
            Number of the table of each symbol, the blocks end to end.

        Raises
        ------
        Damaged
            Unless the blocks fill `data`, and each uses up its bytes and ends in the state its encoder began with.
        """
        if int(lengths.sum()) != len(data) or (lengths < 2).any():
            raise Damaged
        order, bounds, symbols = _lockstep(counts)
        ends = np.cumsum(lengths)[order]
        position = ends - lengths[order]
        if (data[position] == 0).any():  # no block begins with a zero byte
            raise Damaged
        state = np.zeros(len(counts), np.int64)
        _fill(state, position, data)
        slots, steps = tables[symbols] << PROBABILITY_BITS, self._steps
        for start, stop in zip(bounds, bounds[1:]):
            x, slot = state[: stop - start], slots[start:stop]
            slot += x & TOTAL - 1
            step = steps[slot]
            x >>= PROBABILITY_BITS
            x *= step >> PROBABILITY_BITS
            x += step & TOTAL - 1
            _fill(x, position, data)
        if (position != ends).any() or (state != LOWEST).any():
            raise Damaged
        found = np.empty(len(slots), np.int64)
        found[symbols] = self._cells[slots]
        return found


def _fill(state: IntArray, position: IntArray, data: ByteArray) -> None:
    """Read bytes into every state below `LOWEST`; never outside `data`, whatever a damaged block asks for."""
    low = (state < LOWEST).nonzero()[0]
    while low.size:
        at = position[low]
        filled = state[low] << 8 | data.take(at, mode="clip")
        state[low] = filled
        position[low] = at + 1
        low = low[filled < LOWEST]


class Block:
    """Decode one block, symbol by symbol.

    Parameters
    ----------
    data : bytes
        The block alone.

    Raises
    ------
    Damaged
        Here and from `take`, where bytes are missing.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._state = self._position = 0
        if not data or not data[0]:
            raise Damaged
        self._fill()

    def take(self, table: Table) -> int:
        """Return the next symbol.

        Parameters
        ----------
        table : (list of int, list of int)
            Where each symbol's slots start, ascending from 0, and `TOTAL` at the end; and the symbols.
        """
        starts, symbols = table
        slot = self._state & TOTAL - 1
        place = bisect_right(starts, slot) - 1
        start = starts[place]
        self._state = (starts[place + 1] - start) * (self._state >> PROBABILITY_BITS) + slot - start
        if self._state < LOWEST:
            self._fill()
        return symbols[place]

    def _fill(self) -> None:
        try:
            while self._state < LOWEST:
                self._state = self._state << 8 | self._data[self._position]
                self._position += 1
        except IndexError:
            raise Damaged from None

    def end(self) -> None:
        """Raise `Damaged` unless the block is used up and its state is the one its encoder began with."""
        if self._position != len(self._data) or self._state != LOWEST:
            raise Damaged
