"""Rows of whole numbers out of `ecq`'s blocks: a few in plain Python, many by a kernel, or by numpy in lockstep.

All three give the same numbers. numba is used where there are many rows and it is there; numpy alone works on all
blocks at once, one symbol of each at a time.
"""

from __future__ import annotations

import functools

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods.ecq.model import LOWEST, PROBABILITY_BITS, TOTAL, UNIT, Model, gains

FIRST_BUCKET = 8  # rows below 2**8 - 1 are one bucket
BLOCKS_PER_START = 64
TAIL_BITS = 6  # of a centroid's number, at most, are coded plainly


def bucket_of(rows):
    """Return the rank bucket of rows: 0 for the first 255, then one an octave."""
    return np.maximum(np.frexp(np.asarray(rows, np.float64) + 1)[1] - FIRST_BUCKET, 0)


def bucket_count(n):
    """Return how many buckets n rows fall into."""
    return max(n.bit_length() - FIRST_BUCKET, 0) + 1


def split_bits(centroids):
    """Return (head symbols, tail bits) of a centroid's number."""
    bits = max(centroids - 1, 0).bit_length()
    tail = min(TAIL_BITS, max(bits - TAIL_BITS, 0))
    return -(-centroids >> tail) if centroids > 1 else 0, tail


class Blocks:
    """Where each block of a stream lies.

    Parameters
    ----------
    name : str
        Of the section `data`, for messages.
    data : array_like of uint8
    lengths : array_like of unsigned int, shape (blocks,)
        What a block takes beyond `least` bytes.
    starts : array_like of uint64
        Where every 64th block begins.
    least : int
    """

    def __init__(self, name, data, lengths, starts, least):
        self.name, self.data, self.lengths, self.starts, self.least = name, data, lengths, starts, least

    def span(self, number):
        """Return where one block begins and ends."""
        first = number - number % BLOCKS_PER_START
        lengths = self.lengths[first : number + 1]
        end = int(self.starts[number // BLOCKS_PER_START]) + int(lengths.sum(dtype=np.int64))
        end += len(lengths) * self.least
        begin = end - int(lengths[-1]) - self.least
        if not 0 <= begin <= end <= len(self.data):
            raise self._outside(end)
        return begin, end

    def check(self):
        """Raise FormatError unless the blocks fill the section, one behind the other."""
        begins, ends = self.spans(np.arange(len(self.lengths)))
        edges = np.concatenate([[0], ends])
        if not np.array_equal(begins, edges[:-1]) or edges[-1] != len(self.data):
            raise FormatError(f"the blocks of {self.name} do not lie one behind the other", expected=len(self.data),
                              found=int(edges[-1]))

    def spans(self, numbers):
        """Return where blocks begin and end, two (k,) int64; that there are such numbers is not checked."""
        groups, within = np.divmod(np.asarray(numbers, np.int64), BLOCKS_PER_START)
        own, group = np.unique(groups, return_inverse=True)
        starts = np.asarray(self.starts[own])
        if starts.size and int(starts.max()) > len(self.data):
            raise self._outside(int(starts.max()))
        places = np.minimum(own[:, None] * BLOCKS_PER_START + np.arange(BLOCKS_PER_START), len(self.lengths) - 1)
        lengths = self.lengths[places].astype(np.int64) + self.least
        ends = (np.cumsum(lengths, axis=1) + starts.astype(np.int64)[:, None])[group, within]
        if (ends > len(self.data)).any():
            raise self._outside(int(ends.max()))
        return ends - lengths[group, within], ends

    def _outside(self, place):
        return FormatError(f"a block of {self.name} lies past its end", expected=f"<= {len(self.data)}", found=place)

    def damaged(self, number):
        """Return the error that a block did not end where it should."""
        return FormatError(f"block {number} of {self.name} does not end where it should", hint="Get the file again.")


class Reader:
    """Reads rows of coefficients.

    Parameters
    ----------
    model : embshrink.methods.ecq.model.Model
    base : numpy.ndarray, shape (m,), int16
        The level each coefficient begins with, in 1/256.
    rows, block : int
        Rows of the table, and of a block.
    prior : numpy.ndarray, shape (buckets,), int16
        What a row's bucket adds to its levels.
    classes : numpy.ndarray, shape (centroids,), int8
        What a row's centroid adds, in 1/16.
    index : numpy.ndarray, shape (heads,), uint16
        How many of 4096 slots each head of a centroid's number has.
    step : int
        0 for rows of the table. Else rows have neither buckets, centroids nor states, and each value is its size
        times `step`.
    """

    def __init__(self, model: Model, base, rows, block, prior=None, classes=None, index=None, step=0):
        self.model, self.rows, self.block, self.step = model, rows, block, step
        self.base = base.astype(np.int64)
        self.gains = gains(len(base))
        none = np.zeros(0, np.int64)
        self.prior = none if prior is None else np.asarray(prior).astype(np.int64)
        self.classes = none if classes is None else np.asarray(classes).astype(np.int64) * 16
        self.heads = none if index is None else np.asarray(index).astype(np.int64)
        self.head_starts = np.cumsum(self.heads) - self.heads
        self.head_slots = np.repeat(np.arange(len(self.heads)), self.heads)
        self.tail_bits = split_bits(len(self.classes))[1]
        # a damaged file may name centroids up to here; the caller looks whether they are there
        room = (len(self.heads) << self.tail_bits) - len(self.classes)
        self.classes = np.append(self.classes, np.zeros(room, np.int64))
        self._contexts = {}
        self._moves = model.moves.tolist()
        self._steps = list(zip(self.base.tolist(), self.gains.tolist()))

    # ------------------------------------------------------------ one block

    def _context(self, at):
        """Return a context's slots, and for each symbol all that reading it needs: Python reads these fastest."""
        model = self.model
        escape = len(model.base) - 1
        special = model.raw.tolist()
        special[escape] = -1
        symbols = list(zip(model.frequencies[at].tolist(), model.starts[at].tolist(), model.values[at].tolist(),
                           model.scores[at].tolist(), model.base.tolist(), special))
        slots = np.repeat(np.arange(escape + 1, dtype=np.uint8), model.frequencies[at]).tobytes()
        self._contexts[at] = slots, symbols
        return slots, symbols

    def read_one(self, blocks, number, count):
        """Read the first `count` rows of a block; return their centroids and values, as lists.

        A whole block's end is checked; that of a part of it cannot be.
        """
        begin, end = blocks.span(number)
        data = blocks.data[begin:end].tobytes()
        place, x, labels, out, length = 0, 0, [], [], end - begin
        contexts, height, moves, steps = self._contexts, self.model.levels, self._moves, self._steps
        doubled = len(moves) > 1
        while x < LOWEST and place < length:
            x = x << 8 | data[place]
            place += 1

        def plain(bits):
            nonlocal x, place
            found = (x & 4095) >> (12 - bits)
            x = (x >> 12 << (12 - bits)) + (x & ((1 << (12 - bits)) - 1))
            while x < LOWEST and place < length:
                x = x << 8 | data[place]
                place += 1
            return found

        for row in range(number * self.block, number * self.block + count):
            level, state, values = 0, 0, []
            if not self.step:
                level = int(self.prior[max((row + 1).bit_length() - FIRST_BUCKET, 0)])
                if len(self.heads):
                    slot = x & 4095
                    head = int(self.head_slots[slot])
                    x = int(self.heads[head]) * (x >> 12) + slot - int(self.head_starts[head])
                    while x < LOWEST and place < length:
                        x = x << 8 | data[place]
                        place += 1
                    label = head << self.tail_bits
                    if self.tail_bits:
                        label |= plain(self.tail_bits)
                    labels.append(label)
                    level += int(self.classes[label])
            for start, gain in steps:
                at = (start + level) >> 8
                at = 0 if at < 0 else height - 1 if at >= height else at
                if state & 1:
                    at += height
                slots, symbols = contexts.get(at) or self._context(at)
                slot = x & 4095
                frequency, first, value, score, size, special = symbols[slots[slot]]
                x = frequency * (x >> 12) + slot - first
                while x < LOWEST and place < length:
                    x = x << 8 | data[place]
                    place += 1
                if special:
                    if special < 0:
                        both = plain(8) << 8
                        both |= plain(8)
                        size = both >> 1
                        value = 2 * UNIT * size - UNIT * (state & 1 and size > 0) if doubled else UNIT * size
                        value = -value if both & 1 else value
                    else:
                        extra = plain(special)
                        size += extra
                        extra *= 2 * UNIT if doubled else UNIT
                        value += extra if value > 0 else -extra
                if self.step:
                    value = self.step * size if value > 0 else -self.step * size
                else:
                    state = moves[state][size & 1]
                values.append(value)
                level += gain * score >> 12
            out.append(values)
        if number * self.block + count == min((number + 1) * self.block, self.rows) and (
            x != LOWEST or place != length
        ):
            raise blocks.damaged(number)
        return labels, out

    # ------------------------------------------------------------ many blocks

    @functools.cached_property
    def _tables(self):
        """What the kernel takes of the model."""
        model = self.model
        return (self.base, self.gains, model.slots,
                *(part.astype(np.int32) for part in (model.frequencies, model.starts, model.values, model.scores)),
                model.base, model.raw, model.levels, model.moves)

    def read(self, blocks, numbers, *, kernel=True):
        """Read whole blocks.

        Parameters
        ----------
        blocks : Blocks
        numbers : numpy.ndarray of int, shape (k,)
            Ascending.
        kernel : bool
            Use the kernel if numba is there; else numpy in lockstep.

        Returns
        -------
        labels : numpy.ndarray, shape (k, block), int64
            The centroid of each row.
        values : numpy.ndarray, shape (k, block, m), int32
            In 1/64 steps. Rows behind the table's last one are zero.

        Raises
        ------
        FormatError
            Naming the first block that does not end where it should.
        """
        begins, ends = blocks.spans(numbers)
        low, high = int(begins.min(initial=len(blocks.data))), int(ends.max(initial=0))
        data, begins, ends = np.asarray(blocks.data[low:high]), begins - low, ends - low
        labels = np.zeros((len(numbers), self.block), np.int64)
        out = np.zeros((len(numbers), self.block, len(self.base)), np.int32)
        if kernel:
            try:
                from embshrink.kernels.ecq import read
            except ImportError:
                kernel = False
        if kernel:
            bad = read(data, begins, ends, numbers, self.rows, self.block, self.prior, self.classes, self.head_slots,
                       self.heads, self.head_starts, self.tail_bits, *self._tables, self.step > 0, self.step, labels,
                       out)
        else:
            bad = self._lockstep(data, begins, ends, numbers, labels, out)
        if bad >= 0:
            raise blocks.damaged(int(numbers[bad]))
        return labels, out

    def _lockstep(self, data, begins, ends, numbers, labels, out):
        """Read blocks all at once with numpy, the same symbol of each, then the next; return as the kernel does."""
        model = self.model
        place, x = begins.copy(), np.zeros(len(begins), np.int64)
        doubled, escape = len(model.moves) > 1, len(model.base) - 1
        flat = [part.ravel() for part in (model.frequencies, model.starts, model.values, model.scores)]
        frequencies, starts, meanings, scores = flat
        slots, width = model.slots.ravel(), model.frequencies.shape[1]

        def refill(who):
            while len(who):
                who = who[(x[who] < LOWEST) & (place[who] < ends[who])]
                x[who] = x[who] << 8 | data[place[who]]
                place[who] += 1

        def plain(who, bits):
            found = (x[who] & TOTAL - 1) >> (PROBABILITY_BITS - bits)
            kept = PROBABILITY_BITS - bits
            x[who] = (x[who] >> PROBABILITY_BITS << kept) + (x[who] & ((1 << kept) - 1))
            refill(who)
            return found

        refill(np.arange(len(begins)))
        for row in range(self.block):
            rows = np.asarray(numbers, np.int64) * self.block + row
            who = np.flatnonzero(rows < self.rows)
            level, state = np.zeros(len(who), np.int64), np.zeros(len(who), np.int64)
            if not self.step:
                level += self.prior[bucket_of(rows[who])]
                if len(self.heads):
                    slot = x[who] & TOTAL - 1
                    head = self.head_slots[slot]
                    x[who] = self.heads[head] * (x[who] >> PROBABILITY_BITS) + slot - self.head_starts[head]
                    refill(who)
                    label = head << self.tail_bits
                    if self.tail_bits:
                        label |= plain(who, self.tail_bits)
                    labels[who, row] = label
                    level += self.classes[label]
            for j in range(len(self.base)):
                at = np.clip((self.base[j] + level) >> 8, 0, model.levels - 1) + (state & 1) * model.levels
                slot = x[who] & TOTAL - 1
                code = slots[at * TOTAL + slot].astype(np.int64)
                cell = at * width + code
                x[who] = frequencies[cell] * (x[who] >> PROBABILITY_BITS) + slot - starts[cell]
                refill(who)
                size, value = model.base[code], meanings[cell]
                raw = model.raw[code]
                for bits in np.unique(raw[raw > 0]):
                    some = np.flatnonzero(raw == bits)
                    extra = plain(who[some], int(bits))
                    size[some] += extra
                    extra *= 2 * UNIT if doubled else UNIT
                    value[some] += np.where(value[some] > 0, extra, -extra)
                some = np.flatnonzero(code == escape)
                if len(some):
                    both = plain(who[some], 8) << 8
                    both |= plain(who[some], 8)
                    size[some] = both >> 1
                    magnitude = UNIT * size[some]
                    if doubled:
                        magnitude = 2 * magnitude - UNIT * ((state[some] & 1) & (size[some] > 0))
                    value[some] = np.where(both & 1, -magnitude, magnitude)
                if self.step:
                    value = np.where(value > 0, size, -size) * self.step
                else:
                    state = model.moves[state, size & 1]
                out[who, row, j] = value
                level += self.gains[j] * scores[cell] >> 12
        bad = (x != LOWEST) | (place != ends)
        return int(bad.argmax()) if bad.any() else -1
