"""Compressed words: a sixth of the bytes of `embshrink.vocabulary.words.PlainWords`, still searchable.

Words are sorted by their bytes, front-coded in blocks and entropy-coded (`front_coding`). To find a word, a binary
search over the heads of the blocks finds its block, which is then decoded; its *place*, the number in sorted order,
gives its id (`id_order`). Ids are ordered by frequency, which sorting loses: storing the octave of each id takes a
little more than two bits per word.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.buffer import bounds_of, sorted_ids, split
from embshrink.vocabulary.front_coding import WORDS_PER_BLOCK, FrontCodedWords, encode_sorted
from embshrink.vocabulary.id_order import IdOrder
from embshrink.vocabulary.listed_ids import ListedIds, encode_list
from embshrink.vocabulary.sections import ErrorMaker, fitting
from embshrink.vocabulary.words import OTHER_WORDS, Vocabulary, Word, Words, to_bytes

LONGEST = 65_535  # bytes of a word
MANY = 500  # words that are searched together from this number on
WORDS_PER_SEARCH = 100  # decoding all words takes as long as searching for one in about so many
GROWTH = 256  # maximum ratio of the bytes of all words to their stored bytes


def encode_packed(words: Vocabulary, exact: bool = True) -> tuple[IntArray, dict[str, AnyArray] | None]:
    """Encode words for `PackedWords`.

    Parameters
    ----------
    words : Vocabulary
        n distinct words.
    exact : bool
        Keep every id, which takes about log2(n) bits per word. Otherwise the first 4,096 words keep their ids, and
        all others stay in their bucket of `tree_ids`, which takes about 5 bits per word.

    Returns
    -------
    order : numpy.ndarray, shape (n,), int64
        The old id of each new id.
    sections : dict of str to numpy.ndarray, or None
        ``sizes`` : (3,) uint64, n, bytes of all words, bytes of the longest word.
        ``model`` : uint8, the stored `ContextModel`.
        ``blocks`` : uint8, the coded blocks of 32 sorted words each.
        ``lengths`` : (ceil(n / 32),) narrowest unsigned, bytes of each block.
        ``ids`` and ``back``, or ``tree``, ``ranks`` and ``first`` : the id of each place, from `encode_list` or
        `encode_tree`.

        None if a word is longer than 65,535 bytes, or the words take more than 256 times their stored bytes: readers
        refuse that.
    """
    own = words.in_memory()
    ids = sorted_ids(own.text, own.bounds)  # id of each place
    sizes = np.array([len(own), len(own.text), int(np.diff(own.bounds).max(initial=0))], np.uint64)
    if sizes[2] > LONGEST:
        return np.arange(len(own)), None
    model, blocks, lengths = encode_sorted(own, ids)
    if sizes[1] > GROWTH * len(blocks):
        return np.arange(len(own)), None
    sections: dict[str, AnyArray] = {
        "sizes": sizes, "model": np.frombuffer(model, np.uint8), "blocks": blocks,
        "lengths": lengths.astype(narrowest_uint(int(lengths.max(initial=0))))}
    if exact:
        return np.arange(len(own)), {**sections, **encode_list(ids)}
    from embshrink.vocabulary.tree_ids import deal_by_buckets, encode_tree

    order, ids = deal_by_buckets(ids)
    return order, {**sections, **encode_tree(ids)}


class PackedWords(Vocabulary):
    """Words of an open file that are found by decoding a few blocks.

    Parameters
    ----------
    arrays : mapping of str to array_like
        The arrays of `encode_packed`, mapped or not. The constructor checks only dtypes, shapes and sizes; the
        contents are checked when they are decoded, and completely by `check`.
    path : str, optional
        Path of the file, for messages.

    Raises
    ------
    FormatError
        If an array is missing, or the arrays contradict each other. Every method raises it for damage.
    """

    def __init__(self, arrays: Mapping[str, StoredArray], path: str | None = None) -> None:
        # Not a method, which would make a reference cycle that keeps the mapped file open.
        self._error: ErrorMaker = functools.partial(FormatError, path=path, hint=DAMAGED)
        self._n, self._total, self._longest = map(int, fitting(arrays, "sizes", np.uint64, 3, self._error)[:])
        self._model = fitting(arrays, "model", np.uint8, None, self._error)
        self._blocks = fitting(arrays, "blocks", np.uint8, None, self._error)
        width: np.dtype[np.generic] = np.dtype(np.uint32)
        if "lengths" in arrays and arrays["lengths"].dtype in (np.uint8, np.uint16):
            width = arrays["lengths"].dtype
        self._lengths = fitting(arrays, "lengths", width, -(-self._n // WORDS_PER_BLOCK), self._error)
        if self._longest > min(LONGEST, self._total) or self._total > GROWTH * len(self._blocks):
            raise self._error("a number in words.sizes is out of range", found=(self._n, self._total, self._longest))
        self._order = _id_order(self._n, arrays, self._error)
        self._unpacked: _Unpacked | None = None

    def __len__(self) -> int:
        return self._n

    @property
    def exact_ids(self) -> int | None:
        """Words with ids below this have the ids of the source; None if all words have them."""
        exact = self._order.exact
        return None if exact is None or exact >= self._n else exact

    @functools.cached_property
    def _coded(self) -> FrontCodedWords:
        """The decoder of the blocks, made when first needed: reading the model takes time."""
        return FrontCodedWords(self._n, self._longest, self._model, self._blocks, self._lengths, self._error)

    def unpack(self) -> None:
        """Decode all words and keep them in memory, so that a lookup takes a few microseconds.

        Takes the bytes of the words plus 12 bytes per word (16 if they are more than 4 GiB). `pack` frees the memory.

        Raises
        ------
        FormatError
            If the words are damaged.
        """
        if self._unpacked is None:
            self._unpacked = _Unpacked(self._decoded(), self._order.all())

    def pack(self) -> None:
        """Free the memory that `unpack` uses."""
        self._unpacked = None

    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.find(to_bytes(word))
        place, there = self._coded.seek(to_bytes(word))
        return self._order.id_at(place) if there else -1

    def find_all(self, words: Sequence[Word]) -> IntArray:
        """Return the ids of several words, (k,) int64; -1 for a word that is missing.

        Many words are searched together: each block that may hold some of them is decoded once.

        Parameters
        ----------
        words : sequence of str or bytes
            k words.
        """
        if self._unpacked is not None or len(words) < MANY:
            return super().find_all(words)
        asked = [to_bytes(word) for word in words]
        distinct = set(asked)
        places: dict[bytes, int] = {}
        if len(distinct) > self._n // WORDS_PER_SEARCH:
            for first, part in self._parts():
                places.update((word, first + at) for at, word in enumerate(part.raw) if word in distinct)
        elif self._n:
            blocks = np.array(sorted(set(map(self._coded.block_of, distinct))))
            text, lengths = self._coded.decode_blocks(blocks, self._total)
            of_word = (blocks[:, None] * WORDS_PER_BLOCK + np.arange(WORDS_PER_BLOCK)).ravel().tolist()
            places.update((word, place) for place, word in zip(of_word, split(text, bounds_of(lengths)))
                          if word in distinct)
        ids = self._order.all() if len(places) > self._n // WORDS_PER_SEARCH else None
        found = {word: self._order.id_at(place) if ids is None else int(ids[place]) for word, place in places.items()}
        return np.fromiter((found.get(word, -1) for word in asked), np.int64, len(asked))

    def prefix(self, text: Word) -> list[int]:
        """Return the ids of the words that begin with `text`, ascending."""
        low = to_bytes(text)
        high = low.rstrip(b"\xff")  # with its last byte plus 1, it follows all words that begin with `low`
        start = self._coded.seek(low)[0]
        stop = self._coded.seek(high[:-1] + bytes([high[-1] + 1]))[0] if high else self._n
        if stop - start > WORDS_PER_BLOCK:
            ids: list[int] = np.sort(self._order.all()[start:stop]).tolist()
            return ids
        return sorted(self._order.id_at(place) for place in range(start, stop))

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`, 0 to n - 1."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.raw_at(index)
        block, inside = divmod(self._order.place_of(int(index)), WORDS_PER_BLOCK)
        for at, word in enumerate(self._coded.words_of(block)):
            if at == inside:
                return word
        raise self._coded.damaged(block)

    def take(self, ids: Sequence[int] | IntArray) -> Words:
        """Return the words with these ids, in this order, as `Words` in memory."""
        if len(ids) < len(self) // WORDS_PER_BLOCK:
            return super().take(ids)
        return self.in_memory().take(ids)

    def _raw_of(self, ids: Sequence[int]) -> list[bytes]:
        return super()._raw_of(ids) if len(ids) < len(self) // WORDS_PER_BLOCK else self.take(ids).raw

    @property
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id."""
        return self.in_memory().raw

    def in_memory(self) -> Words:
        """Return all words as `Words`."""
        words = self._decoded()
        places = np.empty(self._n, np.int64)
        places[self._order.all()] = np.arange(self._n)
        return words.take(places)

    def equals(self, words: Words) -> bool:
        """Whether `words` are the same words with the same ids."""
        if len(words) != self._n:
            return False
        ids = self._order.all()
        return all(part.equals(words.take(ids[place : place + len(part)])) for place, part in self._parts())

    def _decoded(self) -> Words:
        """Return all words, sorted."""
        text, bounds = np.empty(self._total, np.uint8), np.zeros(self._n + 1, np.int64)
        for place, part in self._parts():
            own = bounds[place : place + len(part) + 1]
            own[1:] = part.bounds[1:] + own[0]
            text[own[0] : own[-1]] = part.text
        return Words.of_text(text, bounds)

    def _parts(self) -> Iterator[tuple[int, Words]]:
        """Yield all words, sorted, some blocks at a time: the place of the first word, and the words."""
        place = total = 0
        for text, lengths in self._coded.decode(self._total):
            yield place, Words.of_text(text, bounds_of(lengths))
            place, total = place + len(lengths), total + len(text)
        if total != self._total:
            raise self._error("the bytes of all words do not match words.sizes", expected=self._total, found=total)

    def check(self, expected: Words | None = None) -> None:
        """Check all blocks, that words are sorted and distinct, and that each id occurs exactly once.

        Parameters
        ----------
        expected : Words, optional
            Check that these are the words.

        Raises
        ------
        FormatError
            At the first fault.
        """
        if expected is not None and len(expected) != self._n:
            raise self._error(OTHER_WORDS, expected=f"{len(expected)} words", found=self._n)
        ids = None if expected is None else self._order.all()
        before, longest = None, 0
        for place, part in self._parts():
            for head in range(0, len(part), WORDS_PER_BLOCK):  # the words of a block can only ascend
                before = part.raw_at(head - 1) if head else before
                if before is not None and before >= part.raw_at(head):
                    raise self._error("the words are not sorted", where=f"sorted word {place + head}")
            before, longest = part.raw_at(len(part) - 1), max(longest, int(np.diff(part.bounds).max()))
            if expected is not None and ids is not None and not part.equals(
                    expected.take(ids[place : place + len(part)])):
                raise self._error(OTHER_WORDS, where=f"sorted words from {place} on")
        if longest != self._longest:
            raise self._error("the longest word does not match words.sizes", expected=self._longest,
                              found=longest)
        self._order.check()


def _id_order(n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> IdOrder:
    """Return the ids of places, however they are stored."""
    if "ids" in arrays:
        return ListedIds(n, arrays, error)
    if "tree" in arrays:
        from embshrink.vocabulary.tree_ids import TreeIds

        return TreeIds(n, arrays, error)
    from embshrink.vocabulary.octave_ids import OctaveIds

    return OctaveIds(n, arrays, error)


class _Unpacked:
    """Sorted words in memory: concatenated bytes, the end of each word, and the maps of places to ids and back."""

    def __init__(self, words: Words, ids: IntArray) -> None:
        places = np.empty(len(ids), np.uint32)
        places[ids] = np.arange(len(ids), dtype=np.uint32)
        self._text = words.text.tobytes()
        bounds = words.bounds.astype(np.uint32 if len(self._text) < 2**32 else np.uint64)
        # Python reads single numbers fastest from a memoryview.
        self._ends: memoryview[int] = memoryview(bounds)
        self._ids: memoryview[int] = memoryview(ids.astype(np.uint32))
        self._places: memoryview[int] = memoryview(places)

    def find(self, word: bytes) -> int:
        """Return the id of `word`, or -1."""
        text, ends = self._text, self._ends
        low, high = 0, len(self._ids)
        while low < high:
            middle = (low + high) // 2
            if text[ends[middle] : ends[middle + 1]] < word:
                low = middle + 1
            else:
                high = middle
        return self._ids[low] if low < len(self._ids) and text[ends[low] : ends[low + 1]] == word else -1

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`."""
        place, ends = self._places[index], self._ends
        return self._text[ends[place] : ends[place + 1]]
