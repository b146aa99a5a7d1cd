"""Sorted words as symbols to be coded, and all words back from their blocks.

The numbers that vocabulary/context_model.py and storage/rans.py fix are repeated here: 9 bits for a key or
symbol, frequencies of 4096 in all, states from 2**14.
"""

from __future__ import annotations

import numpy as np

from embshrink.kernels import kernel

SHARED, FIRST, REST = 0, 1, 2  # kinds of symbols
FULL = 255  # so much of the shared bytes is not all of them


@kernel
def share(data, starts, lengths, size, shared):
    """Fill `shared` (n,) int64: bytes that each sorted word has in common with the one before; 0 at a block's head.

    data (total,) uint8 holds word i at starts[i]; starts, lengths (n,) int64; size is words in a block.
    """
    for i in range(len(starts)):
        shared[i] = 0
        if i % size:
            least = min(lengths[i - 1], lengths[i])
            before, own, k = starts[i - 1], starts[i], 0
            while k < least and data[before + k] == data[own + k]:
                k += 1
            shared[i] = k


@kernel
def list_symbols(data, starts, lengths, shared, size, codes):
    """Fill `codes` (m,) int64: kind, three keys and the symbol, 9 bits each, of every symbol in order."""
    m = 0
    for i in range(len(starts)):
        own, length, k = starts[i], lengths[i], 0
        if i % size:
            before, length_before, k = starts[i - 1], lengths[i - 1], shared[i]
            shared_before = min(shared[i - 1], 256)
            last = np.int64(data[before + length_before - 1]) + 1 if length_before else np.int64(0)
            context = (((SHARED << 9 | shared_before) << 9 | min(length_before, 256)) << 9 | last) << 9
            rest = k
            while rest >= FULL:
                codes[m] = context | FULL
                rest -= FULL
                m += 1
            codes[m] = context | rest
            there = np.int64(data[before + k]) + 1 if k < length_before else np.int64(0)
            one = np.int64(data[own + k - 1]) + 1 if k else np.int64(0)
            two = np.int64(data[own + k - 2]) + 1 if k > 1 else np.int64(0)
            symbol = np.int64(data[own + k]) + 1 if k < length else np.int64(0)
            codes[m + 1] = (((FIRST << 9 | there) << 9 | one) << 9 | two) << 9 | symbol
            m += 2
            k += 1
        keys = np.int64(0)
        for j in range(max(0, k - 3), k):
            keys = (np.int64(data[own + j]) + 1) << 18 | keys >> 9
        for j in range(k, length):
            symbol = np.int64(data[own + j]) + 1
            codes[m] = (REST << 27 | keys) << 9 | symbol
            keys = symbol << 18 | keys >> 9
            m += 1
        if k <= length:
            codes[m] = (REST << 27 | keys) << 9
            m += 1


@kernel
def _find_context(codes, packed):
    """Return the longest context that is there: codes (contexts - 3,) int64, parent and key, ascending."""
    node = packed >> 27
    for shift in (18, 9, 0):
        wanted = node << 9 | (packed >> shift & 511)
        low, high = 0, len(codes)
        while low < high:
            middle = (low + high) // 2
            if codes[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(codes) or codes[low] != wanted:
            break
        node = low + 3
    return node


@kernel
def decode_words(data, bounds, size, longest, codes, firsts, counts, symbols, starts, text, lengths):
    """Decode all blocks; return -1, or the number of the first that is damaged.

    data (total,) uint8; bounds (b + 1,) int64, where blocks begin; size is words in a block; codes, firsts,
    counts, symbols, starts: of a `Spelling`; out: text (bytes of all words,) uint8, lengths (n,) int64.
    """
    end = 0
    for block in range(len(bounds) - 1):
        position, stop = bounds[block], bounds[block + 1]
        if position == stop or data[position] == 0:
            return block
        x = shared = np.int64(0)
        begin = length = 0
        for i in range(block * size, min((block + 1) * size, len(lengths))):
            begin_before, length_before = begin, length
            begin, length = end, 0
            if i % size:
                kind = SHARED
                last = np.int64(text[begin - 1]) + 1 if length_before else np.int64(0)
                packed = (min(shared, 256) << 9 | min(length_before, 256)) << 9 | last
            else:
                kind, packed = REST, np.int64(REST << 27)
            shared = np.int64(0)
            there = np.int64(0)
            while True:
                while x < 1 << 14:
                    if position == stop:
                        return block
                    x = x << 8 | np.int64(data[position])
                    position += 1
                node = _find_context(codes, packed)
                low, high = firsts[node], firsts[node] + counts[node]
                if low == high:
                    return block
                slot = x & 4095
                above = np.int64(4096)
                while high - low > 1:  # the last symbol that begins at or before the slot
                    middle = (low + high) // 2
                    if starts[middle] <= slot:
                        low = middle
                    else:
                        high = middle
                        above = starts[middle]
                symbol = symbols[low]
                x = (above - starts[low]) * (x >> 12) + slot - starts[low]
                if kind == SHARED:
                    shared += symbol
                    if shared > length_before or symbol > FULL:
                        return block
                    if symbol < FULL:
                        if end + shared > len(text):
                            return block
                        for j in range(shared):
                            text[end + j] = text[begin_before + j]
                        end += shared
                        length = shared
                        kind = FIRST
                        if shared < length_before:
                            there = np.int64(text[begin_before + shared]) + 1
                        packed = FIRST << 27 | there << 18
                        for j in range(min(shared, 2)):
                            packed |= (np.int64(text[end - 1 - j]) + 1) << (9 - 9 * j)
                    continue
                if kind == FIRST:
                    if symbol <= there:
                        return block
                    kind, packed = REST, (packed & 0x3FFFF) << 9
                elif symbol == 0:
                    break
                if end == len(text) or length == longest:
                    return block
                text[end] = symbol - 1
                end += 1
                length += 1
                packed = REST << 27 | symbol << 18 | (packed >> 9 & 0x3FFFF)
            lengths[i] = length
        while x < 1 << 14:
            if position == stop:
                return block
            x = x << 8 | np.int64(data[position])
            position += 1
        if x != 1 << 14 or position != stop:
            return block
    return -1


@kernel
def find_word(text, ends, word):
    """Return the place of `word` (m,) uint8 among sorted words, or -1; they lie in text (total,) uint8 as ends say.

    ends (n + 1,) unsigned, the first of them 0.
    """
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        start, length = np.int64(ends[middle]), np.int64(ends[middle + 1]) - np.int64(ends[middle])
        i = 0
        while i < min(length, len(word)) and text[start + i] == word[i]:
            i += 1
        if i == length == len(word):
            return middle
        if i == length or (i < len(word) and text[start + i] < word[i]):
            low = middle + 1
        else:
            high = middle
    return -1
