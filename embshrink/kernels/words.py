"""Conversion of sorted words to symbols for coding, and decoding of all words from their blocks.

Constants of vocabulary/context_model.py and storage/rans.py are repeated here: a key or symbol has 9 bits,
frequencies add up to 4096, and the lowest state is 2**14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import ByteArray, IntArray

SHARED, FIRST, REST = 0, 1, 2  # kinds of symbols: length of the shared prefix, first byte after it, other bytes
FULL = 255  # a shared length of 255 or more is coded as 255s and a rest below 255


@kernel
def share(data: ByteArray, starts: IntArray, lengths: IntArray, size: int, shared: IntArray) -> None:
    """Compute the length of the prefix that each sorted word shares with the previous one; 0 at the start of a block.

    data (total,) uint8: the words, word i at starts[i]; starts and lengths (n,) int64; size: number of words in a
    block; out: shared (n,) int64.
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
def list_symbols(data: ByteArray, starts: IntArray, lengths: IntArray, shared: IntArray, size: int,
                 codes: IntArray) -> None:
    """List the symbols of all words in order; out: codes (m,) int64.

    A code is the kind of the symbol, three keys (its context, the most important first) and the symbol, with 9 bits
    for each of the four. The other arguments are those of `share`.
    """
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
def _find_context(codes: IntArray, packed: int) -> int:
    """Return the index of the longest context of a symbol that the model contains.

    codes (contexts - 3,) int64, ascending: parent and key of each context except the three roots; packed: the kind of
    the symbol and three keys.
    """
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
def decode_words(data: ByteArray, bounds: IntArray, size: int, longest: int, codes: IntArray, firsts: IntArray,
                 counts: IntArray, symbols: IntArray, starts: IntArray, text: ByteArray, lengths: IntArray) -> int:
    """Decode all blocks; return -1, or the number of the first damaged block.

    data (total,) uint8; bounds (b + 1,) int64: start of each block; size: number of words in a block; longest:
    maximum bytes of a word; codes, firsts, counts, symbols and starts: the arrays of the context model; out: text
    (bytes of all words,) uint8 and lengths (n,) int64.
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
                while high - low > 1:  # find the last symbol that starts at or before the slot
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
