"""Entropy coding of small integers: range asymmetric numeral systems (rANS), in independent blocks.

A table gives each of its symbols a frequency f >= 1; the frequencies of a table add up to M = `TOTAL` = 4096. The
start s of a symbol is the sum of the frequencies of the symbols before it, so that the symbol owns the slots s to
s + f - 1. The coder is one integer, the state x. Encoding a symbol is

    x <- (x // f) * M + s + x % f

and decoding is the inverse: the slot x % M gives the symbol, then

    x <- f * (x // M) + x % M - s

Encoding multiplies x by about M / f, so a symbol costs log2(M / f) bits. Between symbols L <= x < 256 L holds, with
L = `LOWEST`: before a symbol is encoded, low bytes of x are written until x < 256 L / M * f; after one is decoded,
bytes are read while x < L. A block is encoded from its last symbol to its first, so that it is decoded from its first
to its last. It begins with the bytes of the encoder's last state, and the decoder checks that it ends in the state L,
in which the encoder began. A block takes about two bytes more than its symbols.

References
----------
J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013; the range variant (rANS), one byte
at a time, after F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, 2014.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from embshrink.storage.arrays import ByteArray, IntArray

PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS  # sum of the frequencies of a table
LOWEST = 1 << 14  # the smallest state between two symbols; the largest is 256 times this, less 1
STATE_BYTES = 3  # maximum bytes of a block's last state, and of one symbol

# A table for decoding: where the slots of each symbol start, ascending from 0, and `TOTAL` at the end; the symbols.
Table: TypeAlias = tuple[Sequence[int], Sequence[int]]


class Damaged(Exception):
    """Invalid data in a block; the caller turns it into a `FormatError` that states the place."""


def frequencies(weights: IntArray, counts: IntArray) -> IntArray:
    """Scale weights to frequencies that add up to `TOTAL`, each at least 1, for several tables at once.

    Parameters
    ----------
    weights : numpy.ndarray, shape (m,), int64
        The weights of all tables, concatenated; at least 1 and below 2**40.
    counts : numpy.ndarray, shape (t,), int64
        Number of symbols of each table, 1 to `TOTAL`.

    Returns
    -------
    numpy.ndarray, shape (m,), int64
        ``1 + weight * (TOTAL - count) // sum of the weights``; the remainder up to `TOTAL` is added to the first of
        the largest weights of a table.
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
    """Return the start of each symbol's slots in its table, (m,) int64, for tables from `frequencies`."""
    ends = np.cumsum(freqs)
    return ends - freqs - TOTAL * np.repeat(np.arange(len(counts)), counts)


def encode(freqs: IntArray, starts: IntArray, counts: IntArray) -> tuple[ByteArray, IntArray]:
    """Encode blocks of symbols, all blocks in parallel.

    Parameters
    ----------
    freqs, starts : numpy.ndarray, shape (m,), int64
        Frequency of each symbol, 1 to `TOTAL`, and the start of its slots; the blocks concatenated.
    counts : numpy.ndarray, shape (b,), int64
        Number of symbols of each block.

    Returns
    -------
    data : numpy.ndarray, shape (total,), uint8
        The blocks, concatenated.
    lengths : numpy.ndarray, shape (b,), int64
        Bytes of each block.
    """
    order, bounds, symbols = _lockstep(counts)
    state = np.full(len(counts), LOWEST, np.int64)
    # For each block: three bytes for its last state, then three for each of its symbols; most of them stay unused.
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
    """An order of all symbols: step t has the t-th symbol of every block that has one.

    Parameters
    ----------
    order : numpy.ndarray, shape (b,), int64
        The blocks, longest first, so that the blocks of a step come first.
    bounds : list of int
        Start of each step in `symbols`, and the end of the last step.
    symbols : numpy.ndarray, shape (m,), int64
        Number of each symbol, step by step, and within a step in the order of `order`.
    """

    order: IntArray
    bounds: list[int]
    symbols: IntArray


def _lockstep(counts: IntArray) -> _Lockstep:
    """Return the order in which blocks with these numbers of symbols are processed in parallel."""
    order = np.argsort(-counts, kind="stable")
    firsts = (np.cumsum(counts) - counts)[order]
    lanes = np.searchsorted(-counts[order], -np.arange(counts.max(initial=0)))  # blocks that have a t-th symbol
    bounds = np.append(0, np.cumsum(lanes))
    steps = np.repeat(np.arange(len(lanes)), lanes)
    return _Lockstep(order, bounds.tolist(), firsts[np.arange(len(steps)) - bounds[steps]] + steps)


class Tables:
    """Decodes blocks in parallel if the table of every symbol is known in advance.

    Parameters
    ----------
    freqs : numpy.ndarray, shape (c,), int64
        The frequencies of all tables, concatenated; those of a table add up to `TOTAL`.
    """

    def __init__(self, freqs: IntArray) -> None:
        self._cells = np.repeat(np.arange(len(freqs)), freqs)  # the symbol of each slot
        # For each slot, packed in one integer: the frequency of its symbol, and the slot minus the symbol's start.
        places = np.arange(len(self._cells)) - np.repeat(np.cumsum(freqs) - freqs, freqs)
        self._steps: IntArray = np.repeat(freqs << PROBABILITY_BITS, freqs) | places

    def decode(self, data: ByteArray, lengths: IntArray, counts: IntArray, tables: IntArray) -> IntArray:
        """Return the index of each symbol in `freqs`, (m,) int64.

        Parameters
        ----------
        data : numpy.ndarray, shape (total,), uint8
            The blocks, concatenated.
        lengths, counts : numpy.ndarray, shape (b,), int64
            Number of bytes and of symbols of each block.
        tables : numpy.ndarray, shape (m,), int64
            Number of the table of each symbol, the blocks concatenated.

        Raises
        ------
        Damaged
            If the blocks do not fill `data`, or a block does not use all its bytes or ends in another state than
            `LOWEST`.
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
    """Read bytes into every state below `LOWEST`; never outside `data`, even for a damaged block."""
    low = (state < LOWEST).nonzero()[0]
    while low.size:
        at = position[low]
        filled = state[low] << 8 | data.take(at, mode="clip")
        state[low] = filled
        position[low] = at + 1
        low = low[filled < LOWEST]


class Block:
    """Decodes one block, symbol by symbol.

    Parameters
    ----------
    data : bytes
        The bytes of the block.

    Raises
    ------
    Damaged
        Here and in `take`, if bytes are missing.
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
            The start of each symbol's slots, ascending from 0, and `TOTAL` at the end; and the symbols.
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
        """Raise `Damaged` unless all bytes are used and the state is `LOWEST`."""
        if self._position != len(self._data) or self._state != LOWEST:
            raise Damaged
