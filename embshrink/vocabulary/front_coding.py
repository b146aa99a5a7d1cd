"""Sorted words, front-coded in blocks and entropy-coded with a context model.

Front coding stores a word as the number of bytes that it shares with the word before it, and the remaining bytes (I.
H. Witten, A. Moffat and T. C. Bell, "Managing Gigabytes", section 4.1, 1999). Every 32nd word, the head of a block,
is stored in full, so that a block can be decoded independently; a word is found by a binary search over the heads and
by decoding one block.

A word v that follows a word u and shares s bytes with it becomes symbols of three kinds. A byte b has the symbol b +
1; 0 stands for the end of a word, and in keys for a missing byte.

==========  ======================================  ==========================================================
kind        symbol                                  keys, the most informative first
==========  ======================================  ==========================================================
``SHARED``  s; 255 means 255 plus one more symbol   bytes that u shares with the word before it, length of u
                                                    (both at most 256), last byte of u
``FIRST``   v[s] + 1; above u[s] + 1, for words     u[s] + 1, v[s - 1] + 1, v[s - 2] + 1
            are sorted
``REST``    v[k] + 1 for k > s, and 0 at the end    v[k - 1] + 1, v[k - 2] + 1, v[k - 3] + 1
==========  ======================================  ==========================================================

A head has only symbols of kind ``REST``. Kind and keys are the context, by which `context_model` chooses the table
for `rans`. A context is packed into one integer,
``kind << 27 | key1 << 18 | key2 << 9 | key3``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from embshrink.errors import FormatError
from embshrink.numerics.compiled import can_compile
from embshrink.storage import rans
from embshrink.storage.arrays import ByteArray, IntArray, StoredArray
from embshrink.vocabulary import context_model
from embshrink.vocabulary.sections import ErrorMaker
from embshrink.vocabulary.word_lanes import (
    FIRST,
    FULL,
    MOST,
    MOST_LANES,
    REST,
    SHARED,
    TWO_KEYS,
    DamagedBlock,
    decode_words,
)
from embshrink.vocabulary.words import Words

WORDS_PER_BLOCK = 32
WORDS_AT_ONCE = WORDS_PER_BLOCK << 11  # words encoded at a time: their symbols take ten times their bytes
BLOCKS_AT_ONCE = 1 << 11  # blocks decoded at a time by compiled code
FEW = 3_000  # up to this many words, plain Python is faster than numpy
MANY = 100_000  # from this many words on, compiled code is faster, including its loading time

SHARED_CONTEXT, FIRST_CONTEXT, REST_CONTEXT = (kind << 27 for kind in (SHARED, FIRST, REST))


class Encoded(NamedTuple):
    """Encoded sorted words.

    Parameters
    ----------
    model : bytes
        The stored context model.
    blocks : numpy.ndarray, shape (total,), uint8
        The blocks, concatenated.
    lengths : numpy.ndarray, shape (b,), int64
        Bytes of each block.
    """

    model: bytes
    blocks: ByteArray
    lengths: IntArray


def encode_sorted(words: Words, ids: IntArray) -> Encoded:
    """Encode words, of which `ids` is the sorted order: count all symbols, build the model, and code the symbols."""
    starts = range(0, max(len(ids), 1), WORDS_AT_ONCE)
    counted: list[tuple[IntArray, IntArray]] = []
    for start in starts:
        codes = _symbols(words.take(ids[start : start + WORDS_AT_ONCE]))[0]
        counted.append(np.unique(codes, return_counts=True))
        if sum(len(codes) for codes, _ in counted[1:]) > len(counted[0][0]):
            counted = [_added_up(counted)]
    distinct, uses = _added_up(counted)
    model, cells, stored = context_model.build(distinct, uses)
    blocks, lengths = [], []
    for start in starts:
        codes, counts = _symbols(words.take(ids[start : start + WORDS_AT_ONCE]))
        own = cells[np.searchsorted(distinct, codes)]
        data, sizes = rans.encode(model.freqs[own], model.starts[own], counts)
        blocks.append(data)
        lengths.append(sizes)
    return Encoded(stored, np.concatenate(blocks), np.concatenate(lengths))


def _added_up(counted: list[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    """Return the distinct codes of several lists, ascending, and the sum of the counts of each."""
    codes, places = np.unique(np.concatenate([codes for codes, _ in counted]), return_inverse=True)
    uses = np.bincount(places, np.concatenate([uses for _, uses in counted]), len(codes))
    return codes, uses.astype(np.int64)


def _symbols(words: Words) -> tuple[IntArray, IntArray]:
    """Return the symbols of sorted words with their contexts, and the number of symbols in each block.

    The first word is a head. Each symbol is ``context << 9 | symbol``.
    """
    from embshrink.kernels.words import list_symbols, share

    n, data = len(words), words.text
    lengths = np.diff(words.bounds)
    starts, shared = words.bounds[:-1], np.empty(n, np.int64)
    share(data, starts, lengths, WORDS_PER_BLOCK, shared)
    heads = np.arange(0, n, WORDS_PER_BLOCK)
    per_word = shared // FULL + 2 + lengths - shared  # symbols of the shared bytes, the other bytes, the end
    per_word[heads] = lengths[heads] + 1
    codes = np.empty(int(per_word.sum()), np.int64)
    list_symbols(data, starts, lengths, shared, WORDS_PER_BLOCK, codes)
    return codes, np.add.reduceat(per_word, heads) if n else np.zeros(0, np.int64)


class FrontCodedWords:
    """Sorted words of an open file, which are decoded block by block.

    Parameters
    ----------
    n, longest : int
        Number of words, and bytes of the longest word.
    model, blocks, lengths : array_like
        The arrays of `Encoded`, mapped or not.
    error : callable
        Makes the error for damage.

    Raises
    ------
    FormatError
        If the lengths do not add up to the blocks, or the model is damaged. The methods raise it for a damaged block.
    """

    def __init__(
        self, n: int, longest: int, model: StoredArray, blocks: StoredArray, lengths: StoredArray, error: ErrorMaker
    ) -> None:
        self._n, self._longest, self._blocks, self._error = n, longest, blocks, error
        self._bounds = np.cumsum(np.append(0, lengths[:].astype(np.int64)))
        if self._bounds[-1] != len(blocks):
            raise error("words.lengths do not add up to words.blocks", expected=len(blocks),
                        found=int(self._bounds[-1]))
        try:
            self._model = context_model.read(model[:].tobytes())
        except rans.Damaged:
            raise error("words.model is damaged") from None
        self._tables = self._model.scalar_tables()
        self._heads: dict[int, bytes] = {}  # heads that a search has decoded

    @property
    def block_count(self) -> int:
        """Number of blocks."""
        return len(self._bounds) - 1

    def damaged(self, block: int) -> FormatError:
        """Return the error for a damaged block."""
        return self._error(f"block {block} of words.blocks is damaged")

    def words_of(self, block: int) -> Iterator[bytes]:
        """Yield the words of a block, beginning with its head."""
        begin, end = self._bounds[block : block + 2].tolist()
        tables, longest, word, shared = self._tables, self._longest, bytearray(), 0
        try:
            coder = rans.Block(self._blocks[begin:end].tobytes())
            take = coder.take
            _take_rest(word, REST_CONTEXT, longest, take, tables)
            yield bytes(word)
            for _ in range(min(WORDS_PER_BLOCK, self._n - block * WORDS_PER_BLOCK) - 1):
                shared, context = _take_beginning(word, shared, take, tables)
                _take_rest(word, context, longest, take, tables)
                yield bytes(word)
            coder.end()
        except rans.Damaged:
            raise self.damaged(block) from None

    def seek(self, word: bytes) -> tuple[int, bool]:
        """Return the place of the first word >= `word`, and whether it is `word`."""
        block = self.block_of(word)
        place = block * WORDS_PER_BLOCK
        for found in self.words_of(block) if self._n else ():
            if found >= word:
                return place, found == word
            place += 1
        return place, False

    def block_of(self, word: bytes) -> int:
        """Return the only block that may contain a word."""
        low, high = 0, self.block_count
        while high - low > 1:
            middle = (low + high) // 2
            if self._head(middle) <= word:
                low = middle
            else:
                high = middle
        return low

    def _head(self, block: int) -> bytes:
        head = self._heads.get(block)
        if head is None:
            head = self._heads[block] = next(self.words_of(block))
        return head

    def decode(self, total: int) -> Iterator[tuple[ByteArray, IntArray]]:
        """Decode all words, in the fastest of three ways: plain Python, numpy in lockstep, or a compiled kernel.

        Parameters
        ----------
        total : int
            Bytes of all words, as the file states.

        Yields
        ------
        text : numpy.ndarray, shape (bytes,), uint8
            The words of some blocks, concatenated.
        lengths : numpy.ndarray, shape (k,), int64
            Bytes of each of these words.
        """
        if self._n < FEW:
            way, size = self._decode_one_by_one, FEW
        elif self._n < MANY or not can_compile():
            way, size = self._decode_in_lockstep, MOST_LANES
        else:
            way, size = self._decode_compiled, BLOCKS_AT_ONCE
        for first in range(0, self.block_count, size):
            text, lengths = way(first, min(first + size, self.block_count), total)
            total -= len(text)
            yield text, lengths

    def decode_blocks(self, blocks: IntArray, total: int) -> tuple[ByteArray, IntArray]:
        """Decode some blocks, given by their numbers, by numpy; text and lengths as from `decode`."""
        begins, ends = self._bounds[blocks], self._bounds[blocks + 1]
        if len(blocks) and ends[-1] - begins[0] == (ends - begins).sum():  # one after the other
            data: ByteArray = self._block(int(begins[0]), int(ends[-1]))
        else:
            data = np.concatenate([np.zeros(0, np.uint8), *map(self._block, begins.tolist(), ends.tolist())])
        counts = np.minimum(WORDS_PER_BLOCK, self._n - blocks * WORDS_PER_BLOCK)
        try:
            return decode_words(data, np.append(0, np.cumsum(ends - begins)), counts, self._longest, total,
                                self._model)
        except DamagedBlock as error:
            raise self.damaged(int(blocks[error.block])) from None

    def _block(self, begin: int, end: int) -> ByteArray:
        return np.asarray(self._blocks[begin:end], np.uint8)

    def _decode_one_by_one(self, first: int, stop: int, total: int) -> tuple[ByteArray, IntArray]:
        text, lengths = bytearray(), []
        for block in range(first, stop):
            for word in self.words_of(block):
                text += word
                lengths.append(len(word))
                if len(text) > total:
                    raise self.damaged(block)
        return np.frombuffer(bytes(text), np.uint8), np.array(lengths, np.int64)

    def _decode_in_lockstep(self, first: int, stop: int, total: int) -> tuple[ByteArray, IntArray]:
        return self.decode_blocks(np.arange(first, stop), total)

    def _decode_compiled(self, first: int, stop: int, total: int) -> tuple[ByteArray, IntArray]:
        from embshrink.kernels import words as kernels

        model, bounds = self._model, self._bounds[first : stop + 1]
        text = np.empty(total, np.uint8)  # of which only the part that is used takes memory
        lengths = np.empty(min(self._n, stop * WORDS_PER_BLOCK) - first * WORDS_PER_BLOCK, np.int64)
        damaged = kernels.decode_words(
            np.asarray(self._blocks[bounds[0] : bounds[-1]]), bounds - bounds[0], WORDS_PER_BLOCK, self._longest,
            model.codes, model.firsts, model.counts, model.symbols, model.starts, text, lengths)
        if damaged >= 0:
            raise self.damaged(first + int(damaged))
        return text[: int(lengths.sum())], lengths


def _take_beginning(
    word: bytearray, shared: int, take: Callable[[rans.Table], int], tables: dict[int, rans.Table]
) -> tuple[int, int]:
    """Turn a word into the beginning of the next one: the shared bytes and the first different byte.

    Returns
    -------
    shared : int
        Number of shared bytes; the argument is that of the word and the one before it.
    context : int
        Context of the next symbol.
    """
    length = len(word)
    last = word[-1] + 1 if length else 0
    table = tables[SHARED_CONTEXT | min(shared, MOST) << 18 | min(length, MOST) << 9 | last]
    shared, symbol = 0, FULL
    while symbol == FULL:
        symbol = take(table)
        shared += symbol
        if shared > length or symbol > FULL:
            raise rans.Damaged
    there = word[shared] + 1 if shared < length else 0
    del word[shared:]
    keys = (word[-1] + 1) << 9 if shared else 0
    if shared > 1:
        keys |= word[-2] + 1
    symbol = take(tables[FIRST_CONTEXT | there << 18 | keys])
    if symbol <= there:
        raise rans.Damaged
    word.append(symbol - 1)
    return shared, REST_CONTEXT | symbol << 18 | keys


def _take_rest(
    word: bytearray, context: int, longest: int, take: Callable[[rans.Table], int], tables: dict[int, rans.Table]
) -> None:
    """Append the remaining bytes of a word; `context` is the context of the first of them."""
    while len(word) <= longest and (symbol := take(tables[context])):
        word.append(symbol - 1)
        context = REST_CONTEXT | symbol << 18 | context >> 9 & TWO_KEYS
    if len(word) > longest:
        raise rans.Damaged
