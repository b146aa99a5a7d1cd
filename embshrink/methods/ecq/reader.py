"""Reading of rows of integers from the blocks of `ecq`: in plain Python, by a numba kernel, or by numpy in lockstep.

All three ways give the same numbers. Plain Python is used for few blocks, and the kernel for many if numba is
installed. Numpy alone works on all blocks at once, one symbol of each at a time. `embshrink.storage.rans` has the
formulas of the coder, and `embshrink.methods.ecq.model` those of levels and values.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from embshrink.methods.ecq.model import (
    FIRST_BUCKET,
    FRACTION,
    LOWEST,
    PROBABILITY_BITS,
    TOTAL,
    UNIT,
    LabelCode,
    Model,
    SizeArray,
    bucket_of,
    gains,
    spacing,
)

if TYPE_CHECKING:
    from embshrink.methods.ecq.blocks import Blocks
    from embshrink.storage.arrays import AnyArray, BoolArray, ByteArray, IntArray

# The data of a symbol, for plain Python: frequency, start, value, score, first size, raw bits (-1: escape).
_Symbol: TypeAlias = tuple[int, int, int, int, int, int]


class Reader:
    """Reads rows of coefficients.

    Parameters
    ----------
    model : embshrink.methods.ecq.model.Model
    axis_levels : numpy.ndarray, shape (m,), int16
        The initial level of each coefficient, in 1/256.
    rows, block : int
        Rows of the table, and of a block.
    bucket_levels : numpy.ndarray, shape (buckets,), int16
        Added to the levels of a row for its bucket, in 1/256.
    classes : numpy.ndarray, shape (centroids,), int8
        Added to the levels of a row for its centroid, in 1/16.
    index : numpy.ndarray, shape (heads,), uint16
        Frequencies of the heads of centroid numbers, as for `LabelCode`.
    unit : int
        0 to read rows of the table. To read centroids, which have no buckets, labels and states: the value of size 1,
        in 1/64 steps.
    """

    def __init__(
        self, model: Model, axis_levels: AnyArray, rows: int, block: int, bucket_levels: AnyArray | None = None,
        classes: AnyArray | None = None, index: AnyArray | None = None, unit: int = 0,
    ) -> None:
        none = np.zeros(0, np.int64)
        self.model, self.rows, self.block, self.unit = model, rows, block, unit
        self.axis_levels: IntArray = axis_levels.astype(np.int64)
        self.gains = gains(len(axis_levels))
        self.bucket_levels: IntArray = none if bucket_levels is None else np.asarray(bucket_levels).astype(np.int64)
        levels = none if classes is None else np.asarray(classes).astype(np.int64) * 16
        self.label_code = LabelCode(none if index is None else index, len(levels))
        # A damaged file may contain centroid numbers up to this length; the caller checks them.
        self.centroid_levels: IntArray = np.append(levels, np.zeros(self.label_code.labels - len(levels), np.int64))
        self._contexts: dict[int, tuple[bytes, list[_Symbol]]] = {}
        self._moves: list[list[int]] = model.moves.tolist()
        self._axes: list[tuple[int, int]] = list(zip(self.axis_levels.tolist(), self.gains.tolist()))

    # ------------------------------------------------------------ one block

    def read_one(self, blocks: Blocks, number: int, count: int) -> tuple[list[int], list[list[int]]]:
        """Read the first `count` rows of a block; return their centroids, if rows have centroids, and their values.

        Raises
        ------
        FormatError
            If the block does not end where it should. This is checked only if the whole block is read.
        """
        begin, end = blocks.span(number)
        source = _Source(blocks.data[begin:end].tobytes())
        first = number * self.block
        labels: list[int] = []
        values = []
        for row in range(first, first + count):
            level = 0
            if not self.unit:
                level = int(self.bucket_levels[max((row + 1).bit_length() - FIRST_BUCKET, 0)])
                if len(self.label_code.slots):
                    labels.append(self._read_label(source))
                    level += int(self.centroid_levels[labels[-1]])
            values.append(self._read_row(source, level))
        if first + count == min(first + self.block, self.rows) and not source.ended:
            raise blocks.damaged(number)
        return labels, values

    def _read_label(self, source: _Source) -> int:
        """Read the number of a row's centroid."""
        code = self.label_code
        slot = source.x & TOTAL - 1
        head = int(code.slots[slot])
        source.x = int(code.frequencies[head]) * (source.x >> PROBABILITY_BITS) + slot - int(code.starts[head])
        source.refill()
        return head << code.tail_bits | source.plain(code.tail_bits) if code.tail_bits else head

    def _read_row(self, source: _Source, level: int) -> list[int]:
        """Read the values of a row."""
        x, place, data = source.x, source.place, source.data  # locals: lookups spend their time in this loop
        length, state, values = len(data), 0, []
        contexts, level_count, moves, unit = self._contexts, self.model.level_count, self._moves, self.unit
        for axis_level, gain in self._axes:
            context = (axis_level + level) >> 8
            context = 0 if context < 0 else level_count - 1 if context >= level_count else context
            if state & 1:
                context += level_count
            slots, symbols = contexts.get(context) or self._context(context)
            slot = x & 4095  # TOTAL - 1; the 12 below is PROBABILITY_BITS. Literals are faster.
            frequency, start, value, score, size, raw_bits = symbols[slots[slot]]
            x = frequency * (x >> 12) + slot - start
            while x < LOWEST and place < length:
                x = x << 8 | data[place]
                place += 1
            if raw_bits:
                source.x, source.place = x, place
                size, value = self._read_raw(source, raw_bits, size, value, state)
                x, place = source.x, source.place
            if unit:
                value = unit * size if value > 0 else -unit * size
            else:
                state = moves[state][size & 1]
            values.append(value)
            level += gain * score >> 12
        source.x, source.place = x, place
        return values

    def _read_raw(self, source: _Source, raw_bits: int, size: int, value: int, state: int) -> tuple[int, int]:
        """Read the raw bits after a symbol; return size and value, given those of the first size of its bin."""
        apart = spacing(self.model.trellis)
        if raw_bits > 0:
            extra = source.plain(raw_bits)
            return size + extra, value + apart * extra if value > 0 else value - apart * extra
        both = source.plain(8) << 8
        both |= source.plain(8)
        size = both >> 1
        value = apart * size - (UNIT if self.model.trellis and state & 1 and size else 0)
        return size, -value if both & 1 else value

    def _context(self, context: int) -> tuple[bytes, list[_Symbol]]:
        """Return the symbol of each slot and the data of each symbol; Python reads bytes and lists fastest."""
        model = self.model
        escape = len(model.first_sizes) - 1
        raw_bits = model.raw_bits.tolist()
        raw_bits[escape] = -1
        frequencies = model.frequencies[context]
        symbols = list(zip(frequencies.tolist(), model.starts[context].tolist(), model.values[context].tolist(),
                           model.scores[context].tolist(), model.first_sizes.tolist(), raw_bits))
        slots = np.repeat(np.arange(escape + 1, dtype=np.uint8), frequencies).tobytes()
        self._contexts[context] = slots, symbols
        return slots, symbols

    # ------------------------------------------------------------ many blocks

    def read(self, blocks: Blocks, numbers: IntArray, *, kernel: bool = True) -> tuple[IntArray, SizeArray]:
        """Read whole blocks.

        Parameters
        ----------
        blocks : Blocks
        numbers : numpy.ndarray of int, shape (k,)
            Ascending.
        kernel : bool
            Use the kernel, which needs numba; otherwise numpy in lockstep.

        Returns
        -------
        labels : numpy.ndarray, shape (k, block), int64
            The centroid of each row.
        values : numpy.ndarray, shape (k, block, m), int32
            In 1/64 steps. Rows after the last row of the table are zero.

        Raises
        ------
        FormatError
            If a block does not end where it should; the message names the first one.
        """
        begins, ends = blocks.spans(numbers)
        low, high = int(begins.min(initial=len(blocks.data))), int(ends.max(initial=0))
        data, begins, ends = np.asarray(blocks.data[low:high], np.uint8), begins - low, ends - low
        labels = np.zeros((len(numbers), self.block), np.int64)
        out = np.zeros((len(numbers), self.block, len(self.axis_levels)), np.int32)
        if kernel:
            from embshrink.kernels.ecq import read

            bad = read(data, begins, ends, numbers, self._kernel_tables, labels, out)
        else:
            lanes = _Lanes(data, begins, ends)
            self._read_lanes(lanes, numbers, labels, out)
            bad = lanes.first_bad()
        if bad >= 0:
            raise blocks.damaged(int(numbers[bad]))
        return labels, out

    @functools.cached_property
    def _kernel_tables(self) -> tuple[tuple[object, ...], ...]:
        """All tables in the form that the kernel `read` takes."""
        from embshrink.kernels.ecq import Contexts, LabelTables, Lookup, Stream, Symbols

        model, code = self.model, self.label_code
        frequencies, starts, scores, values = (
            part.astype(np.int32) for part in (model.frequencies, model.starts, model.scores, model.values))
        tables = (
            Stream(self.rows, self.block, self.bucket_levels, self.centroid_levels, self.unit),
            LabelTables(code.frequencies, code.starts, code.slots, code.tail_bits),
            Contexts(self.axis_levels, self.gains, model.level_count, model.moves, self.unit > 0),
            Symbols(frequencies, starts, scores, model.first_sizes, model.raw_bits),
            Lookup(model.slots, values),
        )
        return tuple(tuple(part) for part in tables)

    # ------------------------------------------------------------ many blocks, without numba

    def _read_lanes(self, lanes: _Lanes, numbers: IntArray, labels: IntArray, out: SizeArray) -> None:
        """Fill `labels` (k, block) and the values `out` (k, block, m) of k blocks, one lane per block."""
        for place in range(self.block):
            rows = numbers.astype(np.int64) * self.block + place
            count = int(np.searchsorted(rows, self.rows))  # the last block may be shorter
            level = np.zeros(count, np.int64)
            if not self.unit:
                level += self.bucket_levels[bucket_of(rows[:count])]
                if len(self.label_code.slots):
                    labels[:count, place] = label = self._read_labels(lanes, count)
                    level += self.centroid_levels[label]
            self._read_rows(lanes, level, out[:count, place])

    def _read_labels(self, lanes: _Lanes, count: int) -> IntArray:
        """Read the number of a row's centroid in each of the first lanes."""
        code = self.label_code
        slot = lanes.slot(count)
        head = code.slots[slot]
        lanes.take(code.frequencies[head], slot - code.starts[head])
        every = np.arange(count)
        return head << code.tail_bits | lanes.plain(every, code.tail_bits) if code.tail_bits else head

    def _read_rows(self, lanes: _Lanes, level: IntArray, out: SizeArray) -> None:
        """Read the values of a row in each of the first lanes, whose levels are given, into `out` (lanes, m)."""
        model, tables = self.model, self._lane_tables
        count, highest = len(level), model.level_count - 1
        state = np.zeros(count, np.int64)
        columns = np.empty((len(self._axes), count), np.int32)  # writing to columns of `out` would take twice as long
        for column, (axis_level, gain) in zip(columns, self._axes):
            context = level + axis_level
            context >>= FRACTION
            np.clip(context, 0, highest, out=context)
            if not self.unit:
                context += tables.quantizers.take(state)
            slot = lanes.slot(count)
            context <<= PROBABILITY_BITS
            context |= slot
            cell = tables.cells.take(context)
            lanes.take(tables.frequencies.take(cell), slot - tables.starts.take(cell))
            value = tables.values.take(cell)
            size = tables.sizes.take(cell)
            followed = np.flatnonzero(tables.followed.take(cell))
            if len(followed):
                size[followed], value[followed] = self._read_raws(
                    lanes, followed, cell[followed] % model.frequencies.shape[1], state[followed], value[followed])
            if self.unit:
                value = np.where(value > 0, size, -size) * self.unit
            else:
                state <<= 1
                state |= size & 1
                state = tables.moves.take(state)
            column[:] = value
            scores = tables.scores.take(cell)
            scores *= gain
            scores >>= PROBABILITY_BITS
            level += scores
        out[:] = columns.T

    def _read_raws(
        self, lanes: _Lanes, who: IntArray, symbol: IntArray, state: IntArray, value: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Read the raw bits after symbols in the lanes `who`; return sizes and values.

        The values are given as those of the bins' first sizes.
        """
        model, apart = self.model, spacing(self.model.trellis)
        raw_bits, size = model.raw_bits[symbol], model.first_sizes[symbol]
        for bits in np.unique(raw_bits[raw_bits > 0]).tolist():
            some = np.flatnonzero(raw_bits == bits)
            extra = lanes.plain(who[some], bits)
            size[some] += extra
            value[some] += np.where(value[some] > 0, apart * extra, -apart * extra)
        some = np.flatnonzero(raw_bits == 0)  # escapes
        if len(some):
            both = lanes.plain(who[some], 8) << 8
            both |= lanes.plain(who[some], 8)
            size[some] = both >> 1
            magnitude = apart * size[some]
            if model.trellis:
                magnitude -= UNIT * ((state[some] & 1) & (size[some] > 0))
            value[some] = np.where(both & 1, -magnitude, magnitude)
        return size, value

    @functools.cached_property
    def _lane_tables(self) -> _LaneTables:
        """The model's tables in the form that many lanes read fastest."""
        model = self.model
        contexts, symbols = model.frequencies.shape
        followed = model.raw_bits > 0
        followed[-1] = True
        first = np.arange(contexts)[:, None] * symbols
        return _LaneTables(
            (first + model.slots).ravel(), model.frequencies.ravel(), model.starts.ravel(), model.values.ravel(),
            model.scores.ravel(), np.tile(model.first_sizes, contexts), np.tile(followed, contexts),
            (np.arange(len(model.moves)) & 1) * model.level_count, model.moves.ravel())


class _LaneTables(NamedTuple):
    """Tables by *cell*, the number of a symbol in a context: ``context * symbols + symbol``."""

    cells: IntArray  # (contexts * 4096,): the cell of each slot
    frequencies: IntArray  # (cells,), of 4096
    starts: IntArray  # (cells,)
    values: IntArray  # (cells,), in 1/64 steps
    scores: IntArray  # (cells,)
    sizes: IntArray  # (cells,): smallest size of the symbol's bin
    followed: BoolArray  # (cells,): whether raw bits follow the symbol
    quantizers: IntArray  # (states,): first context of the state's quantizer
    moves: IntArray  # (2 * states,): next state after an even and an odd size


class _Source:
    """The rANS decoder of one block, in plain Python.

    Attributes
    ----------
    data : bytes
        The block.
    x, place : int
        State of the decoder, and position of the next byte.
    """

    __slots__ = ("x", "place", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.x, self.place = data, 0, 0
        self.refill()

    def refill(self) -> None:
        """Take bytes while the state is below `LOWEST` and bytes are left."""
        while self.x < LOWEST and self.place < len(self.data):
            self.x = self.x << 8 | self.data[self.place]
            self.place += 1

    def plain(self, bits: int) -> int:
        """Read `bits` plain bits, 1 to 12."""
        kept = PROBABILITY_BITS - bits
        found = (self.x & TOTAL - 1) >> kept
        self.x = (self.x >> PROBABILITY_BITS << kept) + (self.x & ((1 << kept) - 1))
        self.refill()
        return found

    @property
    def ended(self) -> bool:
        """Whether all bytes are read and the decoder is in the state in which the encoder started."""
        return self.x == LOWEST and self.place == len(self.data)


class _Lanes:
    """The rANS decoders of many blocks, one lane per block, in numpy.

    Parameters
    ----------
    data : numpy.ndarray, uint8
    begins, ends : numpy.ndarray, shape (lanes,), int64
        Start and end of each block in `data`.
    """

    def __init__(self, data: ByteArray, begins: IntArray, ends: IntArray) -> None:
        self._data, self._place, self._ends = data, begins.copy(), ends
        self._x = np.zeros(len(begins), np.int64)
        self._refill(np.arange(len(begins)))

    def slot(self, count: int) -> IntArray:
        """Return the slot of the next symbol of each of the first `count` lanes."""
        return self._x[:count] & TOTAL - 1

    def take(self, frequency: IntArray, within: IntArray) -> None:
        """Advance the first lanes past a symbol: its frequency, and the position of the slot within its slots."""
        x = self._x[: len(frequency)]
        x >>= PROBABILITY_BITS
        x *= frequency
        x += within
        self._refill(np.flatnonzero(x < LOWEST))

    def plain(self, who: IntArray, bits: int) -> IntArray:
        """Read `bits` plain bits in each of the lanes `who`."""
        kept = PROBABILITY_BITS - bits
        x = self._x[who]
        self._x[who] = (x >> PROBABILITY_BITS << kept) + (x & ((1 << kept) - 1))
        self._refill(who)
        return (x & TOTAL - 1) >> kept

    def first_bad(self) -> int:
        """Return the first lane whose block does not end where it should, or -1."""
        bad = (self._x != LOWEST) | (self._place != self._ends)
        return int(bad.argmax()) if bad.any() else -1

    def _refill(self, who: IntArray) -> None:
        """Take bytes in the lanes `who` while their states are below `LOWEST` and bytes are left."""
        x, place = self._x[who], self._place[who]
        while len(who):
            left = np.flatnonzero((x < LOWEST) & (place < self._ends[who]))
            if len(left) < len(who):
                who, x, place = who[left], x[left], place[left]
            x = x << 8 | self._data[place]
            place += 1
            self._x[who], self._place[who] = x, place
