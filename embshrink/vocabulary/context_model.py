"""The context model of the symbols of words, and its encoding.

The model is static: it is built from the counts of all symbols, stored, and read before decoding. A context is the
kind of a symbol and up to three keys, which are numbers known before the symbol, the most informative first (see
`front_coding`). Contexts form a tree, whose roots are the kinds: a child has one key more than its parent. A symbol
is coded with the table of the deepest context in the model that agrees with its kind and keys, as in a pruned context
tree (J. Rissanen, "A universal data compression system", IEEE Trans. Inf. Theory 29, 1983). Orders are not mixed, and
there are no escapes to a shorter context as in PPM: the table of a context has all symbols that occur in it.

Counts are stored on a logarithmic scale with two steps per octave. *Level* l stands for the weight

    w(0) = 0,    w(1) = 1,    w(l) = (2 + l mod 2) * 2^(l // 2 - 1) for 2 <= l <= 63:    2, 3, 4, 6, 8, 12, 16, ...

which is about ``2^(l / 2)``. A table's weights are scaled to frequencies by `rans.frequencies`.

The table of a context is stored relative to that of its parent. If the context occurs about w(S) times (S is its
*size*), a symbol of frequency f in the parent is expected w(S) * f / 4096 times, which is about the level

    e = S + level(f) - level(4096)

Each symbol of the parent has a *mark* m in the child, coded with one of 19 tables that e chooses: m = 0 means that
the symbol does not occur, m > 0 that its level is m + max(0, e - 12). The roots are stored as if they had a parent in
which all 257 symbols are equally likely. docs/format.md, section 4b, has the layout.

The contexts are chosen by description length, depth by depth (J. Rissanen, "Modeling by shortest data description",
Automatica 14, 1978): a context is kept if its table saves more bits than its marks and its place in the tree take. It
saves

    sum over its symbols of count * log2(frequency / frequency in the parent).
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from embshrink.numerics.arrays import ranges
from embshrink.storage import rans
from embshrink.storage.arrays import BoolArray, DoubleArray, IntArray

KINDS = 3
DEPTH = 3  # keys of a context, at most
SYMBOLS = 257  # number of symbols in a table, and of values of a key
KEY_BITS = 9
KEY = (1 << KEY_BITS) - 1

_UPPER = np.arange(2, 64, dtype=np.int64)
WEIGHTS: IntArray = np.concatenate([[0, 1], (2 + _UPPER % 2) << (_UPPER // 2 - 1)])  # of each level
_LEVEL_OF = np.searchsorted(WEIGHTS, np.arange(rans.TOTAL + 1), "right") - 1  # of a frequency, rounded down
_WHOLE = int(_LEVEL_OF[rans.TOTAL])

MARKS = 32
LOW, HIGH = -6, 12  # each of these expectations has a number table; a larger one uses that of HIGH
# Number tables: one for each expectation, then three for the shape of the tree.
_CHILDREN, _KEYS, _SIZES = range(HIGH - LOW + 1, HIGH - LOW + 4)
_TABLES = HIGH - LOW + 4
_HEAD = struct.Struct(f"<{DEPTH}I{KINDS}B")
_LEVEL_BITS = 4  # of a level in a number table
_NUMBERS_PER_BLOCK = 64  # each at most 12 bits: a block with its state is shorter than 256 bytes
_LEAST_BLOCK = 3  # bytes of a block of numbers: its length, and a state of two bytes

# Storage cost in bits, measured on real words: only a guide to which contexts are worth storing.
_CONTEXT_COST = 18.0
_MARK_COST = 3.5
_BITS_OF: DoubleArray = rans.PROBABILITY_BITS - np.log2(np.maximum(1, np.arange(rans.TOTAL + 1)))  # of a frequency


class ContextModel:
    """Tables of frequencies, one for each context.

    Contexts are numbered by depth, then by parent, then by key; 0 to 2 are the kinds.

    Parameters
    ----------
    parents, keys : numpy.ndarray, shape (contexts - 3,), int64
        Parent and last key of each context, except the kinds.
    counts : numpy.ndarray, shape (contexts,), int64
        Number of symbols in each table.
    symbols, freqs : numpy.ndarray, shape (cells,), int64
        The tables, concatenated, symbols ascending.

    Attributes
    ----------
    codes : numpy.ndarray, shape (contexts - 3,), int64
        Parent and key of each context in one number, ``parent << 9 | key``, ascending.
    counts, symbols, freqs : numpy.ndarray
    firsts : numpy.ndarray, shape (contexts,), int64
        Start of each table in `symbols`.
    starts : numpy.ndarray, shape (cells,), int64
        Start of each symbol's slots in its table.
    """

    def __init__(
        self, parents: IntArray, keys: IntArray, counts: IntArray, symbols: IntArray, freqs: IntArray
    ) -> None:
        self.codes = parents << KEY_BITS | keys
        self.counts, self.symbols, self.freqs = counts, symbols, freqs
        self.firsts = np.cumsum(counts) - counts
        self.starts = rans.starts_of(freqs, counts[counts > 0])

    def scalar_tables(self) -> dict[int, rans.Table]:
        """Return a dict from packed context to table, which is filled when it is used.

        A packed context is ``kind << 27 | key1 << 18 | key2 << 9 | key3``. A lookup raises `rans.Damaged` if the
        table is empty.
        """
        return _Tables(self)


class _Tables(dict[int, rans.Table]):
    def __init__(self, model: ContextModel) -> None:
        self._model = model
        self._contexts = dict(zip(model.codes.tolist(), range(KINDS, len(model.counts))))
        self._made: dict[int, rans.Table] = {}  # by context; `self` is by packed context

    def __missing__(self, packed: int) -> rans.Table:
        context = packed >> KEY_BITS * DEPTH
        for depth in range(1, DEPTH + 1):
            child = self._contexts.get(context << KEY_BITS | packed >> KEY_BITS * (DEPTH - depth) & KEY)
            if child is None:
                break
            context = child
        table = self[packed] = self._made.get(context) or self._make(context)
        return table

    def _make(self, context: int) -> rans.Table:
        model = self._model
        first, count = int(model.firsts[context]), int(model.counts[context])
        if not count:
            raise rans.Damaged
        starts = model.starts[first : first + count].tolist()
        table = self._made[context] = ([*starts, rans.TOTAL], model.symbols[first : first + count].tolist())
        return table


# ---------------------------------------------------------------- layers: all contexts of one depth


def _nearest_levels(counts: IntArray) -> IntArray:
    """Return the level whose weight is nearest to each count by ratio; only a count of 0 gives 0."""
    below: IntArray = np.searchsorted(WEIGHTS[:-1], counts, "right") - 1
    return below + (counts * counts > WEIGHTS[below] * WEIGHTS[below + 1])


def _below(values: IntArray, limit: int) -> IntArray:
    """Return the values; raise `rans.Damaged` unless all are below `limit`."""
    if values.max(initial=0) >= limit:
        raise rans.Damaged
    return values


class _Contexts:
    """All contexts of one depth, before their tables are known; each may have the symbols of its parent.

    Parameters
    ----------
    parents, keys : numpy.ndarray, shape (c,), int64
        For each context, the number of its parent within the layer above, and its last key; empty for the roots.
    sizes : numpy.ndarray, shape (c,), int64
        Level of the number of symbols from which each context was built.
    counts : numpy.ndarray, shape (c,), int64
        Number of symbols of each parent.
    symbols, given : numpy.ndarray, shape (cells,), int64
        Symbols and frequencies of the parent of each context, concatenated.

    Attributes
    ----------
    expected : numpy.ndarray, shape (cells,), int64
        Expected level of each symbol, by the parent's frequency.
    tables : numpy.ndarray, shape (cells,), int64
        Number of the table of each mark.
    """

    def __init__(
        self, parents: IntArray, keys: IntArray, sizes: IntArray, counts: IntArray, symbols: IntArray, given: IntArray
    ) -> None:
        self.parents, self.keys, self.sizes = parents, keys, sizes
        self.counts, self.symbols, self.given = counts, symbols, given
        self.expected = np.repeat(sizes, counts) + _LEVEL_OF[given] - _WHOLE
        self.tables = np.clip(self.expected, LOW, HIGH) - LOW
        self._taken_off = np.maximum(self.expected - HIGH, 0)  # subtracted from a level to get a mark

    def __len__(self) -> int:
        return len(self.counts)

    @functools.cached_property
    def owners(self) -> IntArray:
        """The context of each cell, (cells,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def cells_of(self, contexts: IntArray, symbols: IntArray) -> IntArray:
        """Return the cells of symbols in contexts; all must exist."""
        return np.searchsorted(self.owners << KEY_BITS | self.symbols, contexts << KEY_BITS | symbols)

    def only(self, kept: BoolArray) -> _Contexts:
        """Return only the contexts that are kept; `kept` has shape (c,), bool."""
        cells = kept[self.owners]
        return _Contexts(self.parents[kept], self.keys[kept], self.sizes[kept], self.counts[kept],
                         self.symbols[cells], self.given[cells])

    def marks_of(self, counted: IntArray) -> IntArray:
        """Return the mark that is nearest to each cell's count; only a count of 0 gives 0."""
        marks: IntArray = np.clip(_nearest_levels(counted) - self._taken_off, counted > 0, MARKS - 1)
        marks[counted == 0] = 0
        return marks

    def marked(self, marks: IntArray) -> _Layer:
        """Return the contexts with the tables that the marks give.

        Raises
        ------
        rans.Damaged
            If a mark gives a level that does not exist.
        """
        present = np.flatnonzero(marks)
        weights = WEIGHTS[_below(marks[present] + self._taken_off[present], len(WEIGHTS))]
        counts = np.bincount(self.owners[present], minlength=len(self))
        return _Layer(self, marks, counts, self.symbols[present], rans.frequencies(weights, counts[counts > 0]))

    def saved_bits(self, counted: IntArray, marks: IntArray) -> DoubleArray:
        """Return how many bits each context saves over its parent, minus its storage cost."""
        own = np.zeros(len(marks), np.int64)
        own[marks > 0] = self.marked(marks).freqs
        likely = 2.0 ** (0.5 * self.expected)  # expected uses, by the parent
        of_mark = _MARK_COST + np.maximum(0, -np.log2(likely))
        cost: DoubleArray = np.where(marks > 0, of_mark, np.log2(1 + 0.7 * likely))
        saved: DoubleArray = counted * (_BITS_OF[self.given] - _BITS_OF[own]) - cost
        return np.bincount(self.owners, saved, len(self)).astype(np.float64, copy=False) - _CONTEXT_COST


@dataclasses.dataclass(eq=False, repr=False)
class _Layer:
    """All contexts of one depth with their tables.

    Parameters
    ----------
    contexts : _Contexts
    marks : numpy.ndarray, shape (cells of the contexts,), int64
    counts, symbols, freqs : numpy.ndarray
        The tables, as for `ContextModel`.
    """

    contexts: _Contexts
    marks: IntArray
    counts: IntArray
    symbols: IntArray
    freqs: IntArray

    def children(self, parents: IntArray, keys: IntArray, sizes: IntArray) -> _Contexts:
        """Return contexts that are one key longer; `parents` are numbered within this layer."""
        counts = self.counts[parents]
        cells = ranges((np.cumsum(self.counts) - self.counts)[parents], counts)
        return _Contexts(parents, keys, sizes, counts, self.symbols[cells], self.freqs[cells])


def _roots(sizes: IntArray) -> _Contexts:
    """Return the kinds: contexts without keys, with a virtual parent in which all symbols are equally likely."""
    nothing, cells = np.zeros(0, np.int64), KINDS * SYMBOLS
    return _Contexts(nothing, nothing, sizes, np.full(KINDS, SYMBOLS), np.arange(cells) % SYMBOLS,
                     np.full(cells, rans.TOTAL // SYMBOLS))


def _joined(layers: Sequence[_Layer]) -> ContextModel:
    """Return the layers as one model."""
    parents, before = [], 0
    for above, layer in zip(layers, layers[1:]):
        parents.append(layer.contexts.parents + before)
        before += len(above.counts)
    return ContextModel(
        np.concatenate(parents), np.concatenate([layer.contexts.keys for layer in layers]),
        np.concatenate([layer.counts for layer in layers]), np.concatenate([layer.symbols for layer in layers]),
        np.concatenate([layer.freqs for layer in layers]))


# ---------------------------------------------------------------- building


def build(codes: IntArray, uses: IntArray) -> tuple[ContextModel, IntArray, bytes]:
    """Choose contexts and tables for counted symbols.

    Parameters
    ----------
    codes : numpy.ndarray, shape (k,), int64
        Distinct and ascending: kind, three keys and symbol, 9 bits each.
    uses : numpy.ndarray, shape (k,), int64
        Count of each code.

    Returns
    -------
    model : ContextModel
    cells : numpy.ndarray, shape (k,), int64
        Index of each code's symbol in the tables.
    stored : bytes
        The same model, for `read`.
    """
    cells, offset = np.empty(len(codes), np.int64), 0
    growing = np.arange(len(codes))  # the codes whose contexts were kept down to this depth
    owner: IntArray = codes >> KEY_BITS * (DEPTH + 1)  # the context of each growing code in the last layer
    layers: list[_Layer] = []
    for depth in range(DEPTH + 1):
        if depth:
            key = codes[growing] >> KEY_BITS * (DEPTH + 1 - depth) & KEY
            pairs, owner = np.unique(owner << KEY_BITS | key, return_inverse=True)
            sizes = _sizes(owner, uses[growing], len(pairs))
            contexts = layers[-1].children(pairs >> KEY_BITS, pairs & KEY, sizes)
        else:
            contexts = _roots(_sizes(owner, uses, KINDS))
        at = contexts.cells_of(owner, codes[growing] & KEY)
        counted = np.bincount(at, uses[growing], minlength=len(contexts.symbols)).astype(np.int64)
        marks = contexts.marks_of(counted)
        if depth:
            kept = contexts.saved_bits(counted, marks) > 0
            stay, kept_cells = kept[owner], kept[contexts.owners]
            growing, at, owner = growing[stay], _renumbered(kept_cells)[at[stay]], _renumbered(kept)[owner[stay]]
            contexts, marks = contexts.only(kept), marks[kept_cells]
        layer = contexts.marked(marks)
        cells[growing] = _renumbered(marks > 0)[at] + offset
        offset += len(layer.symbols)
        layers.append(layer)
    return _joined(layers), cells, _store(layers)


def _sizes(owner: IntArray, uses: IntArray, count: int) -> IntArray:
    """Return the size, a level, of each of `count` contexts; `owner` is the context of each code."""
    return _nearest_levels(np.bincount(owner, uses, minlength=count).astype(np.int64))


def _renumbered(kept: BoolArray) -> IntArray:
    """Return the new number of each kept item, after the others are removed."""
    return np.cumsum(kept) - 1


# ---------------------------------------------------------------- storing


class _Shape(NamedTuple):
    """The numbers that describe the tree of contexts.

    Parameters
    ----------
    children : numpy.ndarray of int64
        Number of children of each context above the last layer.
    steps : numpy.ndarray of int64
        Last key of each context except the roots; for a sibling of the context before it, the difference minus 1.
    sizes : numpy.ndarray of int64
        Size of each context except the roots.
    """

    children: IntArray
    steps: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, layers: Sequence[_Layer]) -> _Shape:
        """Return the shape of layers."""
        children, steps, sizes = [], [], []
        for above, layer in zip(layers, layers[1:]):
            contexts = layer.contexts
            children.append(np.bincount(contexts.parents, minlength=len(above.counts)))
            step = np.diff(contexts.keys, prepend=-1) - 1
            first = np.flatnonzero(np.diff(contexts.parents, prepend=-1))
            step[first] = contexts.keys[first]
            steps.append(step)
            sizes.append(contexts.sizes)
        return cls(np.concatenate(children), np.concatenate(steps), np.concatenate(sizes))


def _shape_tables(contexts: int, last: int) -> IntArray:
    """Return the number of the table of each number in a `_Shape`.

    Parameters
    ----------
    contexts : int
        Number of contexts except the roots.
    last : int
        Number of contexts in the last layer.
    """
    return np.repeat([_CHILDREN, _KEYS, _SIZES], [KINDS + contexts - last, contexts, contexts])


def _keys_of(children: IntArray, steps: IntArray) -> tuple[IntArray, IntArray]:
    """Return parents and last keys of a layer's contexts, from the numbers of a `_Shape`."""
    parents = np.repeat(np.arange(len(children)), children)
    ends = np.cumsum(steps + 1)
    firsts = np.cumsum(children) - children
    return parents, ends - 1 - np.append(0, ends)[firsts[parents]]


def _store(layers: Sequence[_Layer]) -> bytes:
    """Return the layers as bytes: the number of contexts, the number tables, and all numbers in four runs."""
    roots, *rest = layers
    shape = _Shape.of(layers)
    runs = [(np.concatenate([roots.contexts.tables, _shape_tables(len(shape.sizes), len(rest[-1].contexts))]),
             np.concatenate([roots.marks, *shape]))]
    runs += [(layer.contexts.tables, layer.marks) for layer in rest]
    coder = _NumberCoder.of(np.concatenate([tables << KEY_BITS | values for tables, values in runs]))
    head = _HEAD.pack(*(len(layer.contexts) for layer in rest), *roots.contexts.sizes.tolist())
    return b"".join([head, coder.store(), *(coder.encode(tables, values) for tables, values in runs)])


def read(data: bytes) -> ContextModel:
    """Return the model that `build` stored.

    Parameters
    ----------
    data : bytes
        ``stored`` of `build`.

    Raises
    ------
    rans.Damaged
        If the data is invalid, before memory is allocated that these bytes cannot fill.
    """
    source = _Source(data)
    head = _HEAD.unpack(source.take(_HEAD.size))
    numbers, sizes = head[:DEPTH], head[DEPTH:]
    coder, contexts = _NumberCoder.read(source), sum(numbers)
    source.need_run(KINDS * SYMBOLS + KINDS - numbers[-1] + 3 * contexts)
    roots = _roots(np.array(sizes))
    run = coder.decode(source, np.concatenate([roots.tables, _shape_tables(contexts, numbers[-1])]))
    parts = np.split(run, np.cumsum([KINDS * SYMBOLS, KINDS + contexts - numbers[-1], contexts]))
    layers = [roots.marked(_below(parts[0], MARKS))]
    shape = _Shape(*parts[1:])
    _below(shape.sizes, len(WEIGHTS))
    for number in numbers:
        above = len(layers[-1].counts)
        layers.append(_read_layer(source, coder, layers[-1],
                                  _Shape(shape.children[:above], shape.steps[:number], shape.sizes[:number])))
        shape = _Shape(shape.children[above:], shape.steps[number:], shape.sizes[number:])
    if source.left:
        raise rans.Damaged
    return _joined(layers)


def _read_layer(source: _Source, coder: _NumberCoder, above: _Layer, shape: _Shape) -> _Layer:
    """Return the next layer, of the given shape."""
    if shape.children.sum() != len(shape.steps):
        raise rans.Damaged
    parents, keys = _keys_of(shape.children, shape.steps)
    _below(keys, SYMBOLS)
    source.need_run(int(above.counts[parents].sum()))
    contexts = above.children(parents, keys, shape.sizes)
    layer = contexts.marked(_below(coder.decode(source, contexts.tables), MARKS))
    if not layer.counts.all():
        raise rans.Damaged
    return layer


class _Source:
    """Reads stored bytes from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def left(self) -> int:
        """Number of remaining bytes."""
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        """Return the next bytes; raise `rans.Damaged` if fewer remain."""
        if count > self.left:
            raise rans.Damaged
        self._position += count
        return self._data[self._position - count : self._position]

    def need_run(self, count: int) -> None:
        """Raise `rans.Damaged` unless the remaining bytes can hold a run of `count` numbers."""
        if self.left < _LEAST_BLOCK * -(-count // _NUMBERS_PER_BLOCK):
            raise rans.Damaged


class _NumberCoder:
    """Codes runs of numbers with `_TABLES` tables, which are stored as a level for each number.

    The table of each number in a run is known in advance. A run is stored in blocks of 64 numbers, after the lengths
    of the blocks.

    Parameters
    ----------
    levels : sequence of numpy.ndarray of int64
        For each table, the levels of the numbers 0, 1, ...
    """

    def __init__(self, levels: Sequence[IntArray]) -> None:
        self._levels = levels
        table = np.repeat(np.arange(len(levels)), [len(line) for line in levels])
        number = np.concatenate([np.arange(len(line)) for line in levels])
        line = np.concatenate(levels)
        present = line > 0
        counts = np.bincount(table[present], minlength=len(levels))
        self._cells: IntArray = (table << KEY_BITS | number)[present]
        self._freqs = rans.frequencies(WEIGHTS[line[present]], counts)
        self._starts = rans.starts_of(self._freqs, counts)

    @classmethod
    def of(cls, cells: IntArray) -> _NumberCoder:
        """Return the coder for numbers, each given as ``table << 9 | number``."""
        used, uses = np.unique(cells, return_counts=True)
        tables, levels = used >> KEY_BITS, []
        for number in range(_TABLES):
            own, times = used[tables == number] & KEY, uses[tables == number]
            line = np.zeros(own.max(initial=0) + 1, np.int64)
            # The most frequent number gets level 15, the largest in 4 bits.
            line[own] = _nearest_levels(np.maximum(1, times * WEIGHTS[15] // times.max(initial=1)))
            if not len(own):
                line[0] = 1  # a table must not be empty
            levels.append(line)
        return cls(levels)

    @classmethod
    def read(cls, source: _Source) -> _NumberCoder:
        """Return the stored coder; raise `rans.Damaged` if the data is invalid."""
        levels = []
        for _ in range(_TABLES):
            (count,) = struct.unpack("<H", source.take(2))
            halves = np.frombuffer(source.take(-(-count // 2)), np.uint8).astype(np.int64)
            line = np.stack([halves & 15, halves >> _LEVEL_BITS], axis=1).ravel()
            if count > SYMBOLS + 1 or line[count:].any() or not line[:count].any():
                raise rans.Damaged
            levels.append(line[:count])
        return cls(levels)

    def store(self) -> bytes:
        """Return the tables, for `read`: number of levels, then two levels per byte, the lower half first."""
        parts = []
        for line in self._levels:
            halves = np.append(line, 0)[: len(line) + len(line) % 2].reshape(-1, 2)
            parts += [struct.pack("<H", len(line)),
                      (halves[:, 0] | halves[:, 1] << _LEVEL_BITS).astype(np.uint8).tobytes()]
        return b"".join(parts)

    def encode(self, tables: IntArray, numbers: IntArray) -> bytes:
        """Return a run of numbers as bytes, each number coded with its table."""
        cells = np.searchsorted(self._cells, tables << KEY_BITS | numbers)
        data, lengths = rans.encode(self._freqs[cells], self._starts[cells], _block_counts(len(cells)))
        return lengths.astype(np.uint8).tobytes() + data.tobytes()

    def decode(self, source: _Source, tables: IntArray) -> IntArray:
        """Return the numbers of a run; `tables` is the table of each."""
        counts = _block_counts(len(tables))
        lengths = np.frombuffer(source.take(len(counts)), np.uint8).astype(np.int64)
        data = np.frombuffer(source.take(int(lengths.sum())), np.uint8)
        return self._cells[self._decoder.decode(data, lengths, counts, tables)] & KEY

    @functools.cached_property
    def _decoder(self) -> rans.Tables:
        return rans.Tables(self._freqs)


def _block_counts(count: int) -> IntArray:
    """Return the number of numbers in each block of a run."""
    counts = np.full(-(-count // _NUMBERS_PER_BLOCK), _NUMBERS_PER_BLOCK)
    if count % _NUMBERS_PER_BLOCK:
        counts[-1] = count % _NUMBERS_PER_BLOCK
    return counts
