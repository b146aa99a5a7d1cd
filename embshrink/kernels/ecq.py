"""Entropy-coded quantization: choose the sizes of coefficients, write them, read them.

`embshrink.methods.ecq` has the formulas. Arrays that belong together are passed as one NamedTuple. The classes are in
this file because the compiled code on disk depends on the order of their fields, and is only compiled again if this
file changes.

In the comments, a *size* is the absolute value of a quantized coefficient, its *bin* is its column in the tables, and
a *symbol* is a bin with a sign: 0, +1, -1, +2, -2, ..., and the escape last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embshrink.kernels import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

# As in storage/rans.py, which this package must not import; numba compiles them in as constants.
PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS
LOWEST = 1 << 14

# As in methods/ecq/model.py.
UNIT = 64  # units of a value per step
SHIFTED = 3  # the bins 1 to 3 have shifted values
LARGEST = 1 << 13  # sizes from here on are escaped
LARGEST_ESCAPED = (1 << 15) - 1

NO_PATH = 1e300  # cost of a trellis state that no path reaches
NOT_IN_TABLE = 1e5  # bits; from here on a bin has no symbol in a table, and its sizes are escaped


class Contexts(NamedTuple):
    """How level and state change along a row; they select the context, the row of the tables, of a coefficient."""

    axis_levels: npt.NDArray[np.int64]  # (m,), in 1/256: added to the level of a row for each axis
    gains: npt.NDArray[np.int64]  # (m,), in 1/4096: how much a coefficient's score moves the level
    level_count: int  # number of contexts per quantizer
    moves: npt.NDArray[np.int64]  # (states, 2): next state after an even and an odd size; (1, 2) without a trellis
    fixed: bool  # true for centroids: the state stays 0


class Prices(NamedTuple):
    """The costs by which the coder chooses sizes."""

    bits: npt.NDArray[np.float64]  # (contexts, bins + 1): bits of a size with its sign; the escape is last
    values: npt.NDArray[np.float64]  # (contexts, bins + 1), in 1/64 steps, unsigned; used only for bins up to 3
    scores: npt.NDArray[np.int64]  # (contexts, bins + 1)
    bin_of_size: npt.NDArray[np.int64]  # (8193,)
    spacing: float  # distance of two values of a quantizer, in 1/64 steps
    offset: float  # how much lower the second quantizer's values are, in 1/64 steps


class Symbols(NamedTuple):
    """The data of symbols that writing and reading need."""

    frequencies: npt.NDArray[np.integer]  # (contexts, symbols), of 4096
    starts: npt.NDArray[np.integer]  # (contexts, symbols): sum of the frequencies of the symbols before
    scores: npt.NDArray[np.integer]  # (contexts, symbols)
    first_sizes: npt.NDArray[np.int64]  # (symbols,): smallest size of the symbol's bin
    raw_bits: npt.NDArray[np.int64]  # (symbols,): the bin has 2**raw_bits sizes


class Lookup(NamedTuple):
    """The data of symbols that only reading needs."""

    slots: npt.NDArray[np.uint8]  # (contexts, 4096): the symbol of each slot
    values: npt.NDArray[np.integer]  # (contexts, symbols), in 1/64 steps: value of the first size of a bin


class LabelTables(NamedTuple):
    """The code of centroid numbers: a head, then plain bits. The arrays are empty without centroids."""

    frequencies: npt.NDArray[np.int64]  # (heads,), of 4096
    starts: npt.NDArray[np.int64]  # (heads,)
    slots: npt.NDArray[np.int64]  # (4096,): the head of each slot; used only for reading
    tail_bits: int


class Stream(NamedTuple):
    """The arrangement of rows in blocks, and their initial levels."""

    rows: int  # number of all rows
    block: int  # rows per block
    bucket_levels: npt.NDArray[np.int64]  # (buckets,), in 1/256
    centroid_levels: npt.NDArray[np.int64]  # (centroids,), in 1/256
    unit: int  # 0 for rows; for centroids, which have no labels, the value of size 1 in 1/64 steps


# ---------------------------------------------------------------- one coefficient


@kernel
def _context(level: int, state: int, level_count: int) -> int:
    """Return the context for a level, in 1/256, and a state; odd states use the second quantizer."""
    return (state & 1) * level_count + min(max(level >> 8, 0), level_count - 1)


@kernel
def _value(prices: Prices, context: int, bin_: int, size: int, quantizer: int) -> float:
    """Return the value, in 1/64 steps, of a size in a bin; the last bin is the escape."""
    if bin_ <= SHIFTED and bin_ < prices.values.shape[1] - 1:
        return prices.values[context, bin_]
    return prices.spacing * size - (prices.offset * quantizer if size > 0 else 0.0)


@kernel
def choose(targets: npt.NDArray[np.float64], row_levels: npt.NDArray[np.int64], slope: float, contexts: Contexts,
           prices: Prices, sizes: npt.NDArray[np.int32]) -> None:
    """Choose a size and sign for each coefficient of each row, by the Viterbi algorithm.

    It minimizes the sum of ``(target - value)**2 + slope * bits`` over a row. The bits depend on the path, so each
    state keeps the level of the best path to it. With one state, this is rounding that takes the cost into account.

    targets (n, m), in 1/64 steps; row_levels (n,): initial level of each row, in 1/256; slope: error that one bit is
    worth, in squares of 1/64 steps; out: sizes (n, m), signed.
    """
    n, m = targets.shape
    axis_levels, gains, moves = contexts.axis_levels, contexts.gains, contexts.moves
    bits, scores, bin_of_size = prices.bits, prices.scores, prices.bin_of_size
    states = 1 if contexts.fixed else len(moves)
    escape = bits.shape[1] - 1
    costs, levels = np.empty((2, states)), np.empty((2, states), np.int64)
    links = np.zeros((m, states), np.int64)  # last step of the best path to each state: 8 * size + previous state
    cost, cost_after, level, level_after = costs[0], costs[1], levels[0], levels[1]
    for i in range(n):
        for state in range(states):
            cost[state] = NO_PATH
        cost[0] = 0.0
        level[0] = row_levels[i]
        for j in range(m):
            target = abs(targets[i, j])
            for state in range(states):
                cost_after[state] = NO_PATH
            for state in range(states):
                if cost[state] == NO_PATH:
                    continue
                quantizer = state & 1
                context = _context(axis_levels[j] + level[state], state, contexts.level_count)
                ratio = (target + prices.offset * quantizer) / prices.spacing + 0.5
                nearest = int(ratio) if ratio < LARGEST_ESCAPED else LARGEST_ESCAPED  # the largest for NaN
                for option in range(4):  # the sizes nearest + 1, nearest, nearest - 1 and 0
                    size = nearest + 1 - option if option < 3 else 0
                    if size < 0 or size > LARGEST_ESCAPED:
                        continue
                    if (option == 3 and nearest < 2) or (option == 0 and states == 1):
                        continue
                    bin_ = min(bin_of_size[min(size, LARGEST)], escape)
                    price = bits[context, bin_]
                    if price > NOT_IN_TABLE:
                        bin_ = escape
                        price = bits[context, escape]
                    value = _value(prices, context, bin_, size, quantizer)
                    reached = cost[state] + (target - value) ** 2 + slope * price
                    after = 0 if contexts.fixed else moves[state, size & 1]
                    if reached < cost_after[after]:
                        cost_after[after] = reached
                        links[j, after] = size * 8 + state
                        level_after[after] = level[state] + ((gains[j] * scores[context, bin_]) >> PROBABILITY_BITS)
            cost, cost_after = cost_after, cost
            level, level_after = level_after, level
        best = 0
        for state in range(1, states):
            if cost[state] < cost[best]:
                best = state
        for j in range(m - 1, -1, -1):
            link = links[j, best]
            sizes[i, j] = link >> 3 if targets[i, j] >= 0 else -(link >> 3)
            best = link & 7


@kernel
def count(sizes: npt.NDArray[np.int32], row_levels: npt.NDArray[np.int64], targets: npt.NDArray[np.float64],
          contexts: Contexts, prices: Prices, counts: npt.NDArray[np.int64], sums: npt.NDArray[np.float64],
          rebuilt: npt.NDArray[np.float64]) -> None:
    """Count the bins in each context, and add up the targets of the sizes 1 to 3.

    Parameters as for `choose`; out: counts (contexts, bins + 1); sums (contexts, 3): sum of the absolute targets of
    the sizes 1 to 3, in 1/64 steps; rebuilt (n, m): the values, in 1/64 steps.
    """
    n, m = sizes.shape
    escape = counts.shape[1] - 1
    for i in range(n):
        level = row_levels[i]
        state = 0
        for j in range(m):
            context = _context(contexts.axis_levels[j] + level, state, contexts.level_count)
            size = abs(sizes[i, j])
            bin_ = min(prices.bin_of_size[min(size, LARGEST)], escape)
            counts[context, bin_] += 1
            value = _value(prices, context, bin_, size, state & 1)
            rebuilt[i, j] = value if sizes[i, j] >= 0 else -value
            if 0 < size <= SHIFTED:
                sums[context, size - 1] += abs(targets[i, j])
            level += (contexts.gains[j] * prices.scores[context, bin_]) >> PROBABILITY_BITS
            if not contexts.fixed:
                state = contexts.moves[state, size & 1]


# ---------------------------------------------------------------- writing


@kernel
def _encode(intervals: npt.NDArray[np.int64], used: int, out: npt.NDArray[np.uint8]) -> int:
    """Code the first `used` intervals by rANS, last to first, into the end of `out`; return the number of bytes."""
    x = LOWEST
    place = len(out)
    for k in range(used - 1, -1, -1):
        frequency = intervals[k, 1]
        limit = frequency * (LOWEST * 256 // TOTAL)
        while x >= limit:
            place -= 1
            out[place] = x & 255
            x >>= 8
        x = (x // frequency << PROBABILITY_BITS) + x % frequency + intervals[k, 0]
    while x:
        place -= 1
        out[place] = x & 255
        x >>= 8
    return len(out) - place


@kernel
def write(sizes: npt.NDArray[np.int32], row_levels: npt.NDArray[np.int64], labels: npt.NDArray[np.int64],
          label_tables: LabelTables, contexts: Contexts, symbols: Symbols, bin_of_size: npt.NDArray[np.int64],
          block: int, out: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> None:
    """Code rows in blocks, each block independently of the others.

    sizes (n, m), signed; row_levels (n,), in 1/256; labels (n,): centroid of each row; out: out (blocks, room): the
    bytes of each block, at the end of its row; lengths (blocks,): number of bytes.

    The symbols of a block are listed from first to last, each as an interval: its start and its frequency, of 4096.
    b plain bits are an interval of frequency 4096 / 2**b. Then `_encode` codes the list backwards, because rANS
    decodes symbols in the reverse order of encoding.
    """
    n, m = sizes.shape
    frequencies, starts, raw_bits = symbols.frequencies, symbols.starts, symbols.raw_bits
    escape = frequencies.shape[1] - 1
    escape_bin = (escape + 1) // 2
    tail_bits = label_tables.tail_bits
    plain = PROBABILITY_BITS - tail_bits
    intervals = np.empty((min(block, n) * (3 * m + 2), 2), np.int64)  # start and frequency of each symbol of a block
    for number in range(len(lengths)):
        used = 0
        for i in range(number * block, min((number + 1) * block, n)):
            if len(label_tables.frequencies):
                head = labels[i] >> tail_bits
                intervals[used, 0] = label_tables.starts[head]
                intervals[used, 1] = label_tables.frequencies[head]
                used += 1
                if tail_bits:
                    intervals[used, 0] = (labels[i] & ((1 << tail_bits) - 1)) << plain
                    intervals[used, 1] = 1 << plain
                    used += 1
            level = row_levels[i]
            state = 0
            for j in range(m):
                context = _context(contexts.axis_levels[j] + level, state, contexts.level_count)
                size = abs(sizes[i, j])
                negative = sizes[i, j] < 0
                bin_ = min(bin_of_size[min(size, LARGEST)], escape_bin)
                symbol = 0 if bin_ == 0 else 2 * bin_ - (0 if negative else 1)
                if bin_ == escape_bin or frequencies[context, symbol] == 0:
                    symbol = escape
                intervals[used, 0] = starts[context, symbol]
                intervals[used, 1] = frequencies[context, symbol]
                used += 1
                if symbol == escape:  # 16 plain bits: the size and its sign
                    both = 2 * size + (1 if negative else 0)
                    intervals[used, 0] = (both >> 8) << 4
                    intervals[used, 1] = 16
                    intervals[used + 1, 0] = (both & 255) << 4
                    intervals[used + 1, 1] = 16
                    used += 2
                elif raw_bits[symbol]:
                    kept = PROBABILITY_BITS - raw_bits[symbol]
                    intervals[used, 0] = (size - symbols.first_sizes[symbol]) << kept
                    intervals[used, 1] = 1 << kept
                    used += 1
                level += (contexts.gains[j] * symbols.scores[context, symbol]) >> PROBABILITY_BITS
                if not contexts.fixed:
                    state = contexts.moves[state, size & 1]
        lengths[number] = _encode(intervals, used, out[number])


# ---------------------------------------------------------------- reading


@kernel
def _refill(x: int, place: int, end: int, data: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Read bytes until the state is at least `LOWEST`, or none is left; return state and place of the next byte."""
    while x < LOWEST and place < end:
        x = x << 8 | np.int64(data[place])
        place += 1
    return x, place


@kernel
def _plain(x: int, bits: int) -> tuple[int, int]:
    """Return `bits` plain bits and the state after them, which must be refilled."""
    kept = PROBABILITY_BITS - bits
    return (x & (TOTAL - 1)) >> kept, (x >> PROBABILITY_BITS << kept) + (x & ((1 << kept) - 1))


@kernel
def _escaped(x: int, place: int, end: int, data: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    """Read an escaped size; return twice the size, plus 1 if negative, and the state and place after it."""
    high, x = _plain(x, 8)
    x, place = _refill(x, place, end, data)
    low, x = _plain(x, 8)
    x, place = _refill(x, place, end, data)
    return high << 8 | low, x, place


@kernel
def _bucket(row: int) -> int:
    """Return the rank bucket of a row: 0 for the first 255, then one bucket per octave."""
    above = (row + 1) >> 8
    bucket = 0
    while above:
        above >>= 1
        bucket += 1
    return bucket


@kernel
def read(data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64],
         numbers: npt.NDArray[np.int64], tables: tuple[tuple[object, ...], ...], labels: npt.NDArray[np.int64],
         out: npt.NDArray[np.int32]) -> int:
    """Read blocks of rows; return the index of the first damaged block, or -1.

    begins, ends (k,): start and end of the blocks in `data`; numbers (k,): their block numbers; tables: a `Stream`,
    `LabelTables`, `Contexts`, `Symbols` and a `Lookup`, as plain tuples, because numba unpacks these faster, which
    matters if one row is looked up; out: labels (k, block): centroid of each row; out (k, block, m), in 1/64 steps.
    """
    stream, label_tables, contexts = Stream(*tables[0]), LabelTables(*tables[1]), Contexts(*tables[2])
    symbols, lookup = Symbols(*tables[3]), Lookup(*tables[4])
    m = out.shape[2]
    block, unit = stream.block, stream.unit
    axis_levels, gains, moves = contexts.axis_levels, contexts.gains, contexts.moves
    frequencies, starts, scores = symbols.frequencies, symbols.starts, symbols.scores
    first_sizes, raw_bits = symbols.first_sizes, symbols.raw_bits
    slots, values = lookup.slots, lookup.values
    escape = frequencies.shape[1] - 1
    trellis = len(moves) > 1
    spacing = 2 * UNIT if trellis else UNIT
    for b in range(len(begins)):
        end = ends[b]
        x, place = _refill(0, begins[b], end, data)
        first = numbers[b] * block
        for i in range(first, min(first + block, stream.rows)):
            level = 0
            if not contexts.fixed:
                level = stream.bucket_levels[_bucket(i)]
                if len(label_tables.frequencies):
                    slot = x & (TOTAL - 1)
                    label = label_tables.slots[slot]
                    x = label_tables.frequencies[label] * (x >> PROBABILITY_BITS)
                    x += slot - label_tables.starts[label]
                    x, place = _refill(x, place, end, data)
                    if label_tables.tail_bits:
                        tail, x = _plain(x, label_tables.tail_bits)
                        x, place = _refill(x, place, end, data)
                        label = label << label_tables.tail_bits | tail
                    labels[b, i - first] = label
                    level += stream.centroid_levels[label]
            state = 0
            for j in range(m):
                context = _context(axis_levels[j] + level, state, contexts.level_count)
                slot = x & (TOTAL - 1)
                symbol = slots[context, slot]
                x = frequencies[context, symbol] * (x >> PROBABILITY_BITS) + slot - starts[context, symbol]
                x, place = _refill(x, place, end, data)
                size = first_sizes[symbol]
                value = values[context, symbol]
                if symbol == escape:
                    both, x, place = _escaped(x, place, end, data)
                    size = both >> 1
                    value = spacing * size - (UNIT if trellis and state & 1 and size else 0)
                    if both & 1:
                        value = -value
                elif raw_bits[symbol]:
                    extra, x = _plain(x, raw_bits[symbol])
                    x, place = _refill(x, place, end, data)
                    size += extra
                    value = value + spacing * extra if value > 0 else value - spacing * extra
                if contexts.fixed:
                    out[b, i - first, j] = unit * size if value > 0 else -unit * size
                else:
                    out[b, i - first, j] = value
                    state = moves[state, size & 1]
                level += (gains[j] * scores[context, symbol]) >> PROBABILITY_BITS
        if x != LOWEST or place != end:
            return b
    return -1


@kernel
def combine(values: npt.NDArray[np.int32], weights: npt.NDArray[np.float64], means: npt.NDArray[np.float64],
            centroids: npt.NDArray[np.float64], buckets: npt.NDArray[np.int64], labels: npt.NDArray[np.int64],
            out: npt.NDArray[np.float64]) -> None:
    """Add the bucket mean and the centroid of each row to its values; all are integers, in 1/4096 steps.

    values (k, m), in 1/64 steps; weights (buckets,), in 1/64; means (buckets, m) and centroids (count, m), in 1/4096
    steps; buckets, labels (k,): bucket and centroid of each row; out: out (k, m).
    """
    for i in range(len(values)):
        weight, mean, value, row = weights[buckets[i]], means[buckets[i]], values[i], out[i]
        for j in range(len(row)):
            row[j] = value[j] * weight + mean[j]
        if len(centroids):
            centroid = centroids[labels[i]]
            for j in range(len(row)):
                row[j] += centroid[j]
