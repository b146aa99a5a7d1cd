"""Entropy coding of small whole numbers: asymmetric numeral systems, in blocks that can be decoded alone.

A symbol with frequency f of 4096 costs 12 - log2(f) bits. A block is coded from its last symbol to
its first and decoded from its first to its last; it costs about two bytes more than its symbols.

References
----------
J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013; the variant by ranges (rANS), a byte
at a time, after F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, 2014.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

BITS = 12
TOTAL = 1 << BITS  # what the frequencies of one table add up to
LOWEST = 1 << 14  # a state is at least so much, and below 256 times so much


class Damaged(Exception):
    """Bytes that no encoder wrote; whoever decodes says which, in a `FormatError`."""


def frequencies(weights, counts):
    """Scale weights to frequencies of 4096 in all, at least 1 each, for several tables at once.

    Parameters
    ----------
    weights : numpy.ndarray, shape (m,), int64
        At least 1 and below 2**40, the tables end to end.
    counts : numpy.ndarray, shape (t,), int64
        How many symbols each table has, 1 to 4096.

    Returns
    -------
    numpy.ndarray, shape (m,), int64
        ``1 + weight * (4096 - count) // sum of the weights``; what is left goes to the first of a
        table's largest weights.
    """
    if not len(counts):
        return np.zeros(0, np.int64)
    firsts = np.cumsum(counts) - counts
    scaled = 1 + weights * np.repeat(TOTAL - counts, counts) // np.repeat(np.add.reduceat(weights, firsts), counts)
    largest = np.flatnonzero(weights == np.repeat(np.maximum.reduceat(weights, firsts), counts))
    scaled[largest[np.searchsorted(largest, firsts)]] += TOTAL - np.add.reduceat(scaled, firsts)
    return scaled


def starts_of(freqs, counts):
    """Return where each symbol's frequencies begin in its table, (m,) int64."""
    ends = np.cumsum(freqs)
    return ends - freqs - TOTAL * np.repeat(np.arange(len(counts)), counts)


def encode(freqs, starts, counts):
    """Encode blocks of symbols, all blocks side by side.

    Parameters
    ----------
    freqs, starts : numpy.ndarray, shape (m,), int64
        Frequency of each symbol, 1 to 4096, and the sum of those before it in its table; the blocks
        end to end.
    counts : numpy.ndarray, shape (b,), int64
        How many symbols each block has.

    Returns
    -------
    data : numpy.ndarray, (total,) uint8
        The blocks end to end.
    lengths : numpy.ndarray, (b,) int64
        Bytes of each block.
    """
    order, bounds, symbols = _side_by_side(counts)
    state = np.full(len(counts), LOWEST, np.int64)
    # A row of three bytes for each block's last state, then one for each of its symbols; most stay empty.
    blocks = np.repeat(np.arange(len(counts)), counts)
    rows = np.zeros((len(freqs) + len(counts), 3), np.uint8)
    used = np.zeros(rows.shape, bool)
    for start, stop in zip(bounds[-2::-1], bounds[:0:-1]):
        at, x = symbols[start:stop], state[: stop - start]
        freq, row = freqs[at], at + blocks[at] + 1
        for column in (2, 1):
            full = (x >= (LOWEST >> BITS << 8) * freq).nonzero()[0]
            rows[row[full], column] = x[full] & 255
            used[row[full], column] = True
            x[full] >>= 8
        quotient = x // freq
        x += quotient * (TOTAL - freq) + starts[at]  # (x // freq) * 4096 + x % freq + start
    heads = np.cumsum(counts + 1) - counts - 1
    final = np.empty_like(state)
    final[order] = state
    for column in range(3):
        rows[heads, column] = final >> (16 - 8 * column) & 255
    used[heads] = True
    used[heads, 0] = final >= 1 << 16
    lengths = np.add.reduceat(used.sum(axis=1), heads) if len(counts) else np.zeros(0, np.int64)
    return rows[used], lengths


def _side_by_side(counts):
    """Return how to go through blocks of so many symbols each, all a symbol at a time, the longest block first.

    Returns
    -------
    order : (b,) int64
        The blocks.
    bounds : list of int
        Where each step begins in `symbols`, and where the last one ends.
    symbols : (m,) int64
        The number of each symbol, step by step; in a step, of the first blocks in `order`.
    """
    order = np.argsort(-counts, kind="stable")
    firsts = (np.cumsum(counts) - counts)[order]
    lanes = np.searchsorted(-counts[order], -np.arange(counts.max(initial=0)))  # blocks that have a t-th symbol
    bounds = np.append(0, np.cumsum(lanes))
    steps = np.repeat(np.arange(len(lanes)), lanes)
    return order, bounds.tolist(), firsts[np.arange(len(steps)) - bounds[steps]] + steps


class Tables:
    """Decode blocks whose symbols' tables are all known beforehand, all blocks side by side.

    Parameters
    ----------
    freqs : numpy.ndarray, shape (c,), int64
        The tables' frequencies end to end, each table's adding up to 4096.
    """

    def __init__(self, freqs):
        self._cells = np.repeat(np.arange(len(freqs)), freqs)
        # What a step asks of a slot, in one number: its symbol's frequency, and which of that symbol's slots it is.
        places = np.arange(len(self._cells)) - np.repeat(np.cumsum(freqs) - freqs, freqs)
        self._steps = np.repeat(freqs << BITS, freqs) | places

    def decode(self, data, lengths, counts, tables):
        """Return the place of each symbol in `freqs`, (m,) int64.

        Parameters
        ----------
        data : numpy.ndarray, (total,) uint8
        lengths, counts : numpy.ndarray, shape (b,), int64
            Bytes and symbols of each block.
        tables : numpy.ndarray, shape (m,), int64
            Number of the table of each symbol, the blocks end to end.

        Raises
        ------
        Damaged
            Unless the blocks fill `data`, and each uses up its bytes and ends in the state it was begun in.
        """
        if int(lengths.sum()) != len(data) or (lengths < 2).any():
            raise Damaged
        order, bounds, symbols = _side_by_side(counts)
        ends = np.cumsum(lengths)[order]
        position = ends - lengths[order]
        if (data[position] == 0).any():  # no state begins so
            raise Damaged
        state = np.zeros(len(counts), np.int64)
        _fill(state, position, data)
        slots, steps = tables[symbols] << BITS, self._steps
        for start, stop in zip(bounds, bounds[1:]):
            x, slot = state[: stop - start], slots[start:stop]
            slot += x & TOTAL - 1
            step = steps[slot]
            x >>= BITS
            x *= step >> BITS
            x += step & TOTAL - 1
            _fill(x, position, data)
        if (position != ends).any() or (state != LOWEST).any():
            raise Damaged
        found = np.empty(len(slots), np.int64)
        found[symbols] = self._cells[slots]
        return found


def _fill(state, position, data):
    """Let every state below `LOWEST` take bytes; `data` is not left, whatever it says."""
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

    def __init__(self, data):
        self._data = data
        self._state = self._position = 0
        if not data or not data[0]:
            raise Damaged
        self._fill()

    def take(self, table):
        """Return the next symbol.

        Parameters
        ----------
        table : (list of int, list)
            Where each symbol's frequencies begin, ascending from 0, and 4096 at the end; and the symbols.
        """
        starts, symbols = table
        slot = self._state & TOTAL - 1
        place = bisect_right(starts, slot) - 1
        start = starts[place]
        self._state = (starts[place + 1] - start) * (self._state >> BITS) + slot - start
        if self._state < LOWEST:
            self._fill()
        return symbols[place]

    def _fill(self):
        try:
            while self._state < LOWEST:
                self._state = self._state << 8 | self._data[self._position]
                self._position += 1
        except IndexError:
            raise Damaged from None

    def end(self):
        """Raise `Damaged` unless the block is used up and came back to the state it was begun in."""
        if self._position != len(self._data) or self._state != LOWEST:
            raise Damaged
