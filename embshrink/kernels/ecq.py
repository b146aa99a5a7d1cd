"""Entropy-coded quantization: choose the sizes of coefficients, write them, read them."""

from __future__ import annotations

import numpy as np

from embshrink.kernels import kernel


@kernel
def choose(targets, levels, base, gains, slope, cost, values, scores, first, steps, moves, fixed, sizes, room, links):
    """Choose a size and sign for each coefficient of each row, by the Viterbi algorithm.

    The least ``(target - value)^2 + slope * bits`` over a row, where the bits depend on the path. With one state this
    is rounding that knows what each value costs.

    targets (n, m) float64, in 1/64 steps; levels (n,) int64, what rows begin with; base (m,) int64; gains (m,) int64;
    cost, values (contexts, sizes + 1) float64; scores (contexts, sizes + 1) int64, the last of each an escape;
    first (8193,) int64, the symbol of each size; steps (2, 2) float64, distance of a quantizer's values and how far
    the first is moved down; moves (states, 2) int64; fixed: stay in state 0; out: sizes (n, m) int32, signed;
    room (4, states) float64 and links (m, states) int64 are scratch.
    """
    n, m = targets.shape
    states = 1 if fixed else len(moves)
    top = cost.shape[1] - 1
    quantizers = 2 if len(moves) > 1 else 1
    height = len(cost) // quantizers
    total, after, level, level_after = room[0], room[1], room[2], room[3]
    for i in range(n):
        for state in range(states):
            total[state] = 1e300
        total[0] = 0.0
        level[0] = levels[i]
        for j in range(m):
            target = abs(targets[i, j])
            for state in range(states):
                after[state] = 1e300
            for state in range(states):
                if total[state] > 1e299:
                    continue
                quantizer = state & 1
                at = (base[j] + int(level[state])) >> 8
                at = quantizer * height + min(max(at, 0), height - 1)
                nearest = int(min((target + steps[quantizer, 1]) / steps[quantizer, 0] + 0.5, 32767.0))
                for option in range(4):
                    size = nearest + 1 - option if option < 3 else 0
                    if size < 0 or (option == 3 and nearest < 2) or size > 32767 or (option == 0 and states == 1):
                        continue
                    symbol = min(first[min(size, 8192)], top)
                    if symbol < 4 and symbol < top:
                        value = values[at, symbol]
                    else:
                        value = steps[quantizer, 0] * size - steps[quantizer, 1]
                    price = cost[at, symbol]
                    if price > 1e5:  # not in this table
                        symbol = top
                        value = steps[quantizer, 0] * size - (steps[quantizer, 1] if size > 0 else 0.0)
                        price = cost[at, top]
                    sum_ = total[state] + (target - value) ** 2 + slope * price
                    follows = 0 if fixed else moves[state, size & 1]
                    if sum_ < after[follows]:
                        after[follows] = sum_
                        links[j, follows] = size * 8 + state
                        level_after[follows] = level[state] + ((gains[j] * scores[at, symbol]) >> 12)
            total, after = after, total
            level, level_after = level_after, level
        best = 0
        for state in range(1, states):
            if total[state] < total[best]:
                best = state
        for j in range(m - 1, -1, -1):
            link = links[j, best]
            sizes[i, j] = link >> 3 if targets[i, j] >= 0 else -(link >> 3)
            best = link & 7


@kernel
def count(sizes, levels, targets, base, gains, values, scores, first, steps, height, moves, fixed, counts, sums,
          rebuilt):
    """Count how often each size is met in each context, and add up what targets they stand for.

    Parameters as for `choose`; height: levels of a quantizer; out: counts (contexts, sizes + 1) int64; sums
    (contexts, 3) float64, of targets' sizes in 1/64 steps, for the sizes 1 to 3; rebuilt (n, m) float64, the values.
    """
    top = counts.shape[1] - 1
    n, m = sizes.shape
    for i in range(n):
        level = levels[i]
        state = 0
        for j in range(m):
            at = (state & 1) * height + min(max((base[j] + level) >> 8, 0), height - 1)
            size = abs(sizes[i, j])
            symbol = min(first[min(size, 8192)], top)
            counts[at, symbol] += 1
            target = abs(targets[i, j])
            if symbol < 4 and symbol < top:
                value = values[at, symbol]
            else:
                value = steps[state & 1, 0] * size - steps[state & 1, 1]
            if size == 0:
                value = 0.0
            rebuilt[i, j] = value if sizes[i, j] >= 0 else -value
            if 0 < size < 4:
                sums[at, size - 1] += target
            level += (gains[j] * scores[at, symbol]) >> 12
            if not fixed:
                state = moves[state, size & 1]


@kernel
def write(sizes, levels, heads, tails, tail_bits, head_frequencies, head_starts, base, gains, frequencies, starts,
          scores, first, bases, raw, height, moves, fixed, block, out, lengths, scratch):
    """Code rows in blocks, each block by itself.

    sizes (n, m) int32; levels (n,) int64; heads, tails (n,) int64, the parts of a row's centroid: a symbol of
    `head_frequencies`, if that is not empty, and `tail_bits` plain bits; out: out (blocks, room) uint8, filled from
    the end of each row; lengths (blocks,) int64; scratch (>= symbols of a block, 2) int64.
    """
    n, m = sizes.shape
    escape = frequencies.shape[1] - 1
    top = (escape + 1) // 2  # the escape's size symbol
    for number in range(len(lengths)):
        used = 0
        for i in range(number * block, min((number + 1) * block, n)):
            if len(head_frequencies):
                scratch[used, 0] = head_starts[heads[i]]
                scratch[used, 1] = head_frequencies[heads[i]]
                used += 1
                if tail_bits:
                    scratch[used, 0] = tails[i] << (12 - tail_bits)
                    scratch[used, 1] = 1 << (12 - tail_bits)
                    used += 1
            level = levels[i]
            state = 0
            for j in range(m):
                at = (state & 1) * height + min(max((base[j] + level) >> 8, 0), height - 1)
                size = abs(sizes[i, j])
                symbol = min(first[min(size, 8192)], top)
                code = 0 if symbol == 0 else 2 * symbol - (1 if sizes[i, j] > 0 else 0)
                if symbol == top or frequencies[at, code] == 0:
                    code = escape
                scratch[used, 0] = starts[at, code]
                scratch[used, 1] = frequencies[at, code]
                used += 1
                if code == escape:
                    both = 2 * size + (1 if sizes[i, j] < 0 else 0)
                    scratch[used, 0] = (both >> 8) << 4
                    scratch[used, 1] = 16
                    scratch[used + 1, 0] = (both & 255) << 4
                    scratch[used + 1, 1] = 16
                    used += 2
                elif raw[code]:
                    scratch[used, 0] = (size - bases[code]) << (12 - raw[code])
                    scratch[used, 1] = 1 << (12 - raw[code])
                    used += 1
                level += (gains[j] * scores[at, code]) >> 12
                if not fixed:
                    state = moves[state, size & 1]
        x = 1 << 14
        place = out.shape[1]
        for s in range(used - 1, -1, -1):
            frequency = scratch[s, 1]
            limit = frequency << 10  # 256 * LOWEST / 4096 a slot
            while x >= limit:
                place -= 1
                out[number, place] = x & 255
                x >>= 8
            x = (x // frequency << 12) + x % frequency + scratch[s, 0]
        while x:
            place -= 1
            out[number, place] = x & 255
            x >>= 8
        lengths[number] = out.shape[1] - place


@kernel
def read(data, begins, ends, numbers, rows, block, prior, classes, head_slots, head_frequencies, head_starts,
         tail_bits, base, gains, slots, frequencies, starts, values, scores, bases, raw, height, moves, fixed, step,
         labels, out):
    """Read blocks of rows back; return the place of the first block that is damaged, or -1.

    data uint8; begins, ends (k,) int64, where blocks lie; numbers (k,) int64, which blocks they are; rows: of the
    whole table; prior (buckets,) int64, classes (centroids,) int64; step: of a size's value, where `fixed`; out:
    labels (k, block) int64, out (k, block, m) int32 in 1/64 steps.
    """
    m = out.shape[2]
    escape = frequencies.shape[1] - 1
    for b in range(len(begins)):
        place, end = begins[b], ends[b]
        x = 0
        while x < 16384 and place < end:
            x = x << 8 | np.int64(data[place])
            place += 1
        first = numbers[b] * block
        for i in range(first, min(first + block, rows)):
            level = 0
            if not fixed:
                bucket = 0
                above = (i + 1) >> 8
                while above:
                    above >>= 1
                    bucket += 1
                level = prior[bucket]
                if len(head_frequencies):
                    slot = x & 4095
                    head = head_slots[slot]
                    x = head_frequencies[head] * (x >> 12) + slot - head_starts[head]
                    while x < 16384 and place < end:
                        x = x << 8 | np.int64(data[place])
                        place += 1
                    label = head << tail_bits
                    if tail_bits:
                        label |= (x & 4095) >> (12 - tail_bits)
                        x = (x >> 12 << (12 - tail_bits)) + (x & ((1 << (12 - tail_bits)) - 1))
                        while x < 16384 and place < end:
                            x = x << 8 | np.int64(data[place])
                            place += 1
                    labels[b, i - first] = label
                    level += classes[label]
            state = 0
            for j in range(m):
                at = (base[j] + level) >> 8
                at = (state & 1) * height + min(max(at, 0), height - 1)
                slot = x & 4095
                code = slots[at, slot]
                x = frequencies[at, code] * (x >> 12) + slot - starts[at, code]
                while x < 16384 and place < end:
                    x = x << 8 | np.int64(data[place])
                    place += 1
                size = bases[code]
                value = values[at, code]
                if code == escape:
                    size = (x & 4095) >> 4
                    x = (x >> 12 << 4) + (x & 15)
                    while x < 16384 and place < end:
                        x = x << 8 | np.int64(data[place])
                        place += 1
                    size = size << 8 | (x & 4095) >> 4
                    x = (x >> 12 << 4) + (x & 15)
                    while x < 16384 and place < end:
                        x = x << 8 | np.int64(data[place])
                        place += 1
                    negative = size & 1
                    size >>= 1
                    value = 64 * size
                    if len(moves) > 1:
                        value = 128 * size - (64 if state & 1 and size else 0)
                    if negative:
                        value = -value
                elif raw[code]:
                    bits = raw[code]
                    extra = (x & 4095) >> (12 - bits)
                    x = (x >> 12 << (12 - bits)) + (x & ((1 << (12 - bits)) - 1))
                    while x < 16384 and place < end:
                        x = x << 8 | np.int64(data[place])
                        place += 1
                    size += extra
                    extra *= 128 if len(moves) > 1 else 64
                    value = value + extra if value > 0 else value - extra
                if fixed:
                    out[b, i - first, j] = step * size if value > 0 else -step * size
                else:
                    out[b, i - first, j] = value
                    state = moves[state, size & 1]
                level += (gains[j] * scores[at, code]) >> 12
        if x != 16384 or place != end:
            return b
    return -1


@kernel
def combine(values, weights, means, book, buckets, labels, out):
    """Add what rows' buckets and centroids say to their own values: all whole numbers, in 1/4096 steps.

    values (k, m) int32; weights (buckets,), means (buckets, m) and book (centroids, m) float64; buckets, labels (k,)
    int64; out: (k, m) float64.
    """
    for i in range(len(values)):
        weight, mean, value, row = weights[buckets[i]], means[buckets[i]], values[i], out[i]
        for j in range(len(row)):
            row[j] = value[j] * weight + mean[j]
        if len(book):
            centroid = book[labels[i]]
            for j in range(len(row)):
                row[j] += centroid[j]
