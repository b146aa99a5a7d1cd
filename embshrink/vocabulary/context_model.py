"""Which symbol is likely after which others: the tables that packed words are coded with, stored small.

A context is the kind of a symbol and up to three keys, numbers known before the symbol, the most
telling first. Contexts form a tree: a longer one is there where it saves more bits than it costs,
and a symbol is coded with the table of the longest that is there.
"""

from __future__ import annotations

import struct

import numpy as np

from embshrink.storage import rans

KINDS = 3
DEPTH = 3
SYMBOLS = 257  # in a table, and values of a key
KEY_BITS = 9
KEY = (1 << KEY_BITS) - 1

# How often a symbol occurs is stored as a level, two to an octave: 0, 1, 2, 3, 4, 6, 8, 12, 16, ...
_UPPER = np.arange(2, 64, dtype=np.int64)
WEIGHTS = np.concatenate([[0, 1], (2 + _UPPER % 2) << (_UPPER // 2 - 1)])
_LEVEL_OF = np.searchsorted(WEIGHTS, np.arange(rans.TOTAL + 1), "right") - 1  # the last that is not above
_WHOLE = int(_LEVEL_OF[rans.TOTAL])

# A level is stored as a mark, which is coded by what the shorter context's table makes of it.
MARKS = 32
LOW, HIGH = -6, 12
_CHILDREN, _KEYS, _SIZES = range(HIGH - LOW + 1, HIGH - LOW + 4)
_TABLES = HIGH - LOW + 4
_HEAD = struct.Struct("<3I3B")
_MARKS_PER_BLOCK = 64  # of at most 12 bits: with its state, a block is shorter than 256 bytes

# What storing takes, in bits, as measured on real words: only a guide to which contexts pay.
_NODE_COST = 18.0
_MARK_COST = 3.5
_BITS_OF = rans.BITS - np.log2(np.maximum(1, np.arange(rans.TOTAL + 1)))


class Spelling:
    """Tables of frequencies by context.

    Parameters
    ----------
    parents, keys : numpy.ndarray, shape (contexts - 3,), int64
        Of each context but the first three, which are the kinds themselves: the context that is
        shorter by one key, and that key. Ascending by parent, then key.
    counts : numpy.ndarray, shape (contexts,), int64
        How many symbols each table has.
    symbols, freqs : numpy.ndarray, shape (cells,), int64
        The tables end to end, symbols ascending.
    """

    def __init__(self, parents, keys, counts, symbols, freqs):
        self.codes = parents << KEY_BITS | keys
        self.counts, self.symbols, self.freqs = counts, symbols, freqs
        self.firsts = np.cumsum(counts) - counts
        filled = counts[counts > 0]
        self.starts = rans.starts_of(freqs, filled)

    def scalar_tables(self):
        """Return a dict from packed context to what `rans.Block.take` asks for, filled as it is used."""
        return _Tables(self)


class _Tables(dict):
    def __init__(self, spelling):
        self._spelling = spelling
        self._contexts = dict(zip(spelling.codes.tolist(), range(KINDS, len(spelling.counts))))
        self._made = {}

    def __missing__(self, packed):
        node = packed >> KEY_BITS * DEPTH
        for depth in range(1, DEPTH + 1):
            longer = self._contexts.get(node << KEY_BITS | packed >> KEY_BITS * (DEPTH - depth) & KEY)
            if longer is None:
                break
            node = longer
        table = self[packed] = self._made.get(node) or self._make(node)
        return table

    def _make(self, node):
        spelling = self._spelling
        first, count = int(spelling.firsts[node]), int(spelling.counts[node])
        if not count:
            raise rans.Damaged
        starts = spelling.starts[first : first + count].tolist()
        table = self._made[node] = ([*starts, rans.TOTAL], spelling.symbols[first : first + count].tolist())
        return table


def _spread(firsts, counts):
    """Return ``firsts[i], firsts[i] + 1, ...``, `counts[i]` of them, for each i."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(firsts - ends + counts, counts)


def _nearest_levels(counts):
    """Return the level whose number is nearest to each count by ratio; 0 for 0 alone."""
    below = np.searchsorted(WEIGHTS[:-1], counts, "right") - 1
    return below + (counts * counts > WEIGHTS[below] * WEIGHTS[below + 1])


def _expected(sizes, counts, freqs):
    """Return the level that a shorter context's table lets expect of each symbol, as often as `sizes` says."""
    return np.repeat(sizes, counts) + _LEVEL_OF[freqs] - _WHOLE


def _weights_of(marks, expected):
    return WEIGHTS[np.where(marks > 0, marks + np.maximum(expected - HIGH, 0), 0)]


class _Layer:
    """The contexts of one length as they are stored: a mark for every symbol of each one's parent.

    `given` is what the parents' tables say of these symbols.
    """

    def __init__(self, parents, keys, sizes, counts, symbols, given):
        self.parents, self.keys, self.sizes = parents, keys, sizes
        self.counts, self.symbols, self.given = counts, symbols, given
        self.expected = np.repeat(sizes, counts) + _LEVEL_OF[given] - _WHOLE  # as often as the parent has it
        self.tables = np.clip(self.expected, LOW, HIGH) - LOW

    def owners(self):
        """Return the context that each symbol belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def freqs_of(self, marks):
        """Return the frequency of each symbol, 0 where its mark is."""
        present = marks > 0
        weights = WEIGHTS[marks[present] + np.maximum(self.expected[present] - HIGH, 0)]
        counts = np.bincount(self.owners()[present])
        freqs = np.zeros(len(marks), np.int64)
        freqs[present] = rans.frequencies(weights, counts[counts > 0])
        return freqs

    def finish(self, marks):
        """Take the marks; `counts`, `symbols` and `freqs` become the tables."""
        present = np.flatnonzero(marks)
        levels = marks[present] + np.maximum(self.expected[present] - HIGH, 0)
        weights = WEIGHTS[_proper(levels, len(WEIGHTS))]
        self.marks = marks
        self.counts = np.bincount(self.owners()[present], minlength=len(self.counts))
        self.symbols, self.freqs = self.symbols[present], rans.frequencies(weights, self.counts[self.counts > 0])


def _root_layer(sizes):
    nothing, cells = np.zeros(0, np.int64), KINDS * SYMBOLS
    return _Layer(nothing, nothing, sizes, np.full(KINDS, SYMBOLS), np.arange(cells) % SYMBOLS,
                  np.full(cells, rans.TOTAL // SYMBOLS))


def _next_layer(above, parents, keys, sizes):
    """Return the layer of contexts whose parents are numbered inside the layer above."""
    counts = above.counts[parents]
    cells = _spread((np.cumsum(above.counts) - above.counts)[parents], counts)
    return _Layer(parents, keys, sizes, counts, above.symbols[cells], above.freqs[cells])


def _joined(layers):
    """Return the layers as one `Spelling`."""
    parents, before = [], 0
    for above, layer in zip(layers, layers[1:]):
        parents.append(layer.parents + before)
        before += len(above.counts)
    rest = (np.concatenate([getattr(layer, name) for layer in layers])
            for name in ("keys", "counts", "symbols", "freqs"))
    return Spelling(np.concatenate(parents), *rest)


# ---------------------------------------------------------------- building and storing


def build(codes, uses):
    """Choose contexts and tables for symbols that were counted.

    Parameters
    ----------
    codes : numpy.ndarray, shape (k,), int64
        Distinct, ascending: a kind, three keys and a symbol, 9 bits each.
    uses : numpy.ndarray, shape (k,), int64
        How often each occurs.

    Returns
    -------
    spelling : Spelling
    cells : numpy.ndarray, shape (k,), int64
        Where each code's symbol stands in the tables.
    stored : bytes
        The same tables, for `read`.
    """
    symbols, context = codes & KEY, codes >> KEY_BITS * (DEPTH + 1)
    cells, offset = np.empty(len(codes), np.int64), 0
    growing = np.arange(len(codes))  # the codes that have a context in the last layer
    layers = []
    for depth in range(DEPTH + 1):
        if depth:
            key = codes[growing] >> KEY_BITS * (DEPTH + 1 - depth) & KEY
            pairs, context = np.unique(context << KEY_BITS | key, return_inverse=True)
            total = np.bincount(context, uses[growing], minlength=len(pairs)).astype(np.int64)
            layer = _next_layer(layers[-1], pairs >> KEY_BITS, pairs & KEY, _nearest_levels(total))
        else:
            layer = _root_layer(_nearest_levels(np.bincount(context, uses, minlength=KINDS).astype(np.int64)))
        owners = layer.owners()
        at = np.searchsorted(owners << KEY_BITS | layer.symbols, context << KEY_BITS | symbols[growing])
        counted = np.bincount(at, uses[growing], minlength=len(owners)).astype(np.int64)
        marks = np.clip(_nearest_levels(counted) - np.maximum(layer.expected - HIGH, 0), counted > 0, MARKS - 1)
        marks[counted == 0] = 0
        if depth:
            kept = _saved_bits(layer, counted, marks) > 0
            stay = kept[context]
            growing, at, context = growing[stay], at[stay], (np.cumsum(kept) - 1)[context[stay]]
            layer = _next_layer(layers[-1], layer.parents[kept], layer.keys[kept], layer.sizes[kept])
            marks, at = marks[kept[owners]], (np.cumsum(kept[owners]) - 1)[at]
        cells[growing] = (np.cumsum(marks > 0) - 1)[at] + offset
        layer.finish(marks)
        offset += len(layer.symbols)
        layers.append(layer)
    return _joined(layers), cells, _store(layers)


def _saved_bits(layer, counted, marks):
    """Return how many bits each context saves over its parent, less what it takes to store it."""
    before, after = _BITS_OF[layer.given], _BITS_OF[layer.freqs_of(marks)]
    likely = 2.0 ** (0.5 * layer.expected)  # how many uses the parent lets expect
    cost = np.where(marks > 0, _MARK_COST + np.maximum(0, -np.log2(likely)), np.log2(1 + 0.7 * likely))
    return np.bincount(layer.owners(), counted * (before - after) - cost, minlength=len(layer.counts)) - _NODE_COST


def _store(layers):
    """Return the layers as bytes: numbers of contexts, tables of the numbers below, and these in four runs."""
    roots, *rest = layers
    children = [np.bincount(layer.parents, minlength=len(above.counts)) for above, layer in zip(layers, rest)]
    steps = []
    for layer in rest:
        steps.append(np.diff(layer.keys, prepend=-1) - 1)
        first = np.flatnonzero(np.diff(layer.parents, prepend=-1))
        steps[-1][first] = layer.keys[first]
    shape = [*children, *steps, *(layer.sizes for layer in rest)]
    shape_tables = np.repeat([_CHILDREN, _KEYS, _SIZES], [sum(map(len, shape[i : i + DEPTH])) for i in (0, 3, 6)])
    runs = [(np.concatenate([roots.tables, shape_tables]), np.concatenate([roots.marks, *shape]))]
    runs += [(layer.tables, layer.marks) for layer in rest]
    numbers = np.concatenate([tables << KEY_BITS | values for tables, values in runs])
    used, uses = np.unique(numbers, return_counts=True)
    tables, levels = used >> KEY_BITS, []
    parts = [_HEAD.pack(*(len(layer.counts) for layer in rest), *roots.sizes.tolist())]
    for number in range(_TABLES):
        own, times = used[tables == number] & KEY, uses[tables == number]
        line = np.zeros(own.max(initial=0) + 1, np.int64)
        line[own] = _nearest_levels(np.maximum(1, times * WEIGHTS[15] // times.max(initial=1)))
        if not len(own):
            line[0] = 1
        levels.append(line)
        padded = np.append(line, 0)[: len(line) + len(line) % 2].reshape(-1, 2)
        parts += [struct.pack("<H", len(line)), (padded[:, 0] | padded[:, 1] << 4).astype(np.uint8).tobytes()]
    places, freqs, counts = _number_tables(levels)
    starts = rans.starts_of(freqs, counts)
    for tables, values in runs:
        cells = np.searchsorted(places, tables << KEY_BITS | values)
        data, lengths = rans.encode(freqs[cells], starts[cells], _block_counts(len(cells)))
        parts += [lengths.astype(np.uint8).tobytes(), data.tobytes()]
    return b"".join(parts)


def _number_tables(levels):
    """Return (table and value of each cell, frequencies, numbers of cells) of tables given as levels."""
    table = np.repeat(np.arange(len(levels)), [len(line) for line in levels])
    value = np.concatenate([np.arange(len(line)) for line in levels])
    line = np.concatenate(levels)
    present = line > 0
    counts = np.bincount(table[present], minlength=len(levels))
    return (table << KEY_BITS | value)[present], rans.frequencies(WEIGHTS[line[present]], counts), counts


def _block_counts(count):
    counts = np.full(-(-count // _MARKS_PER_BLOCK), _MARKS_PER_BLOCK)
    if count % _MARKS_PER_BLOCK:
        counts[-1] = count % _MARKS_PER_BLOCK
    return counts


# ---------------------------------------------------------------- reading


def read(data):
    """Return the `Spelling` that `build` stored.

    Parameters
    ----------
    data : bytes

    Raises
    ------
    rans.Damaged
        Before anything is allocated that these bytes could not fill.
    """
    source = _Bytes(data)
    *numbers, size0, size1, size2 = _HEAD.unpack(source.take(_HEAD.size))
    source.read_tables()
    contexts = sum(numbers)
    source.need_run(KINDS * SYMBOLS + KINDS - numbers[-1] + 3 * contexts)
    layer = _root_layer(np.array([size0, size1, size2]))
    shape = np.repeat([_CHILDREN, _KEYS, _SIZES], [KINDS + contexts - numbers[-1], contexts, contexts])
    marks, children, steps, sizes = np.split(
        source.take_run(np.concatenate([layer.tables, shape])),
        np.cumsum([KINDS * SYMBOLS, KINDS + contexts - numbers[-1], contexts]))
    layer.finish(_proper(marks, MARKS))
    layers = [layer]
    _proper(sizes, len(WEIGHTS))
    for number in numbers:
        own, children = np.split(children, [len(layer.counts)])
        if own.sum() != number:
            raise rans.Damaged
        parents = np.repeat(np.arange(len(own)), own)
        ends = np.cumsum(steps[:number] + 1)
        firsts = np.cumsum(own) - own
        keys = ends - 1 - np.append(0, ends)[firsts[parents]]
        _proper(keys, SYMBOLS)
        source.need_run(int(layer.counts[parents].sum()))
        layer = _next_layer(layer, parents, keys, sizes[:number])
        layer.finish(_proper(source.take_run(layer.tables), MARKS))
        if not layer.counts.all():
            raise rans.Damaged
        steps, sizes = steps[number:], sizes[number:]
        layers.append(layer)
    if source.left:
        raise rans.Damaged
    return _joined(layers)


def _proper(values, limit):
    """Return values that are all below `limit`."""
    if values.max(initial=0) >= limit:
        raise rans.Damaged
    return values


class _Bytes:
    """Stored tables from front to back."""

    def __init__(self, data):
        self._data, self._position = data, 0

    @property
    def left(self):
        return len(self._data) - self._position

    def take(self, count):
        if count > self.left:
            raise rans.Damaged
        self._position += count
        return self._data[self._position - count : self._position]

    def read_tables(self):
        """Take the tables that the numbers of all runs are coded with."""
        levels = []
        for _ in range(_TABLES):
            (count,) = struct.unpack("<H", self.take(2))
            halves = np.frombuffer(self.take(-(-count // 2)), np.uint8).astype(np.int64)
            line = np.stack([halves & 15, halves >> 4], axis=1).ravel()
            if count > SYMBOLS + 1 or line[count:].any() or not line[:count].any():
                raise rans.Damaged
            levels.append(line[:count])
        self._places, freqs, _ = _number_tables(levels)
        self._coder = rans.Tables(freqs)

    def need_run(self, count):
        """Raise `Damaged` unless the bytes that are left can hold a run of `count` numbers."""
        if self.left < 3 * -(-count // _MARKS_PER_BLOCK):  # a length, and a state of two bytes
            raise rans.Damaged

    def take_run(self, tables):
        """Decode numbers whose tables are given."""
        counts = _block_counts(len(tables))
        lengths = np.frombuffer(self.take(len(counts)), np.uint8).astype(np.int64)
        data = np.frombuffer(self.take(int(lengths.sum())), np.uint8)
        return self._places[self._coder.decode(data, lengths, counts, tables)] & KEY
