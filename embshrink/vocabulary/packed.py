"""Words stored small, in a sixth of the bytes of `embshrink.vocabulary.words.PlainWords`, and found in place.

Words are sorted by their bytes, front-coded in blocks and entropy-coded (`front_coding`). A word is found by a binary
search over the blocks' heads and the decoding of one block; its *place*, its number in sorted order, then gives its
id (`id_order`). Ids say how frequent words are, which sorting loses: the octave of each id takes a little more than
two bits a word.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from embshrink.errors import FormatError
from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.front_coding import WORDS_PER_BLOCK, FrontCodedWords, encode_sorted
from embshrink.vocabulary.id_order import (
    BucketedIds,
    IdOrder,
    ListedIds,
    deal_by_buckets,
    encode_buckets,
    encode_list,
)
from embshrink.vocabulary.sections import ErrorMaker, fitting
from embshrink.vocabulary.words import Vocabulary, Word, to_bytes

LONGEST = 65_535  # bytes of a word
GROWTH = 256  # all words take at most so many times the bytes they are stored in
MANY = 50_000  # words from which on compiled code is quicker, its loading included


def encode_packed(words: Vocabulary, keep_order: bool = False) -> tuple[IntArray, dict[str, AnyArray] | None]:
    """Lay words out for `PackedWords`.

    Parameters
    ----------
    words : Vocabulary
        n distinct words.
    keep_order : bool
        Keep every id, for ceil(log2 n) bits a word. Without, a word's id changes, but
        floor(log2(id + 1)) does not, and the first 63 words keep theirs.

    Returns
    -------
    order : numpy.ndarray, shape (n,), int64
        The id that each new id had before.
    sections : dict of str to numpy.ndarray, or None
        ``sizes`` : (3,) uint64, n, bytes of all words, bytes of the longest.
        ``model`` : uint8, the stored `ContextModel`.
        ``blocks`` : uint8, 32 words after 32 words, in the order of their bytes.
        ``lengths`` : (ceil(n / 32),) narrowest unsigned, bytes of each block.
        ``order``, ``ranks`` and ``first``, or ``ids`` : the id of each place, as `encode_buckets` or `encode_list`
        has it.

        None if a word is longer than 65,535 bytes, or the words take more than 256 times the bytes they would be
        stored in: no reader accepts that.
    """
    raw = words.raw
    n = len(raw)
    ids = np.array(sorted(range(n), key=raw.__getitem__), np.int64)  # of each place
    sizes = np.array([n, sum(map(len, raw)), max(map(len, raw), default=0)], np.uint64)
    order: IntArray = np.arange(n)
    if sizes[2] > LONGEST:
        return order, None
    model, blocks, lengths = encode_sorted([raw[i] for i in ids.tolist()])
    if sizes[1] > GROWTH * len(blocks):
        return order, None
    sections: dict[str, AnyArray] = {
        "sizes": sizes, "model": np.frombuffer(model, np.uint8), "blocks": blocks,
        "lengths": lengths.astype(narrowest_uint(int(lengths.max(initial=0))))}
    if keep_order:
        return order, {**sections, **encode_list(ids)}
    order, ids = deal_by_buckets(ids)
    return order, {**sections, **encode_buckets(ids)}


class PackedWords(Vocabulary):
    """Words of an open file, found by decoding a few blocks.

    Parameters
    ----------
    arrays : mapping of str to array_like
        What `encode_packed` made, mapped or not. Only dtypes, shapes and sizes are checked here; the
        contents are checked as they are decoded, and all of them by `check`.
    path : str, optional
        The file they are from, for messages.

    Raises
    ------
    FormatError
        If an array is missing, or the arrays contradict each other. Every method raises it where it meets damage.
    """

    def __init__(self, arrays: Mapping[str, StoredArray], path: str | None = None) -> None:
        # Not a method: with one, these objects would hold each other, and so keep the mapped file.
        self._error: ErrorMaker = functools.partial(FormatError, path=path)
        self._n, self._total, self._longest = map(int, fitting(arrays, "sizes", np.uint64, 3, self._error)[:])
        self._model = fitting(arrays, "model", np.uint8, None, self._error)
        self._blocks = fitting(arrays, "blocks", np.uint8, None, self._error)
        width: np.dtype[np.generic] = np.dtype(np.uint32)
        if "lengths" in arrays and arrays["lengths"].dtype in (np.uint8, np.uint16):
            width = arrays["lengths"].dtype
        self._lengths = fitting(arrays, "lengths", width, -(-self._n // WORDS_PER_BLOCK), self._error)
        if self._longest > min(LONGEST, self._total) or self._total > GROWTH * len(self._blocks):
            raise self._error("words.sizes has an impossible number", found=(self._n, self._total, self._longest))
        self._order: IdOrder = (ListedIds if "ids" in arrays else BucketedIds)(self._n, arrays, self._error)
        self._unpacked: _Unpacked | None = None

    def __len__(self) -> int:
        return self._n

    @functools.cached_property
    def _coded(self) -> FrontCodedWords:
        """The blocks, ready to be decoded: the model takes time to read."""
        return FrontCodedWords(self._n, self._longest, self._model, self._blocks, self._lengths, self._error)

    def unpack(self) -> None:
        """Decode all words and keep them in memory, so that a word is found, or named, in a few microseconds.

        Takes the bytes of the words and 12 bytes a word, 16 of more than 4 GiB; needs numba. `pack` lets go of it.

        Raises
        ------
        FormatError
            If the words are damaged.
        """
        if self._unpacked is None:
            self._unpacked = _Unpacked(*self._decoded(), self._order.all())

    def pack(self) -> None:
        """Let go of what `unpack` keeps."""
        self._unpacked = None

    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.find(to_bytes(word))
        place, there = self._coded.seek(to_bytes(word))
        return self._order.id_at(place) if there else -1

    def prefix(self, text: Word) -> list[int]:
        """Return the ids of the words that begin with `text`, ascending."""
        low = to_bytes(text)
        high = low.rstrip(b"\xff")  # its last byte plus 1 is the first thing above all words that begin with `low`
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

    def _raw_of(self, ids: Sequence[int]) -> list[bytes]:
        if len(ids) < len(self) // WORDS_PER_BLOCK:
            return super()._raw_of(ids)
        raw = self.raw
        return [raw[index] for index in ids]

    @property
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id."""
        words = list(self._sorted())
        places = np.empty(self._n, np.int64)
        places[self._order.all()] = np.arange(self._n)
        return [words[place] for place in places.tolist()]

    def equals(self, raw: list[bytes]) -> bool:
        """Whether these are all words, given as bytes in order of id."""
        if len(raw) != self._n:
            return False
        return all(raw[index] == word for index, word in zip(memoryview(self._order.all()), self._sorted()))

    def _sorted(self) -> Iterator[bytes]:
        """Return all words, sorted, to be iterated over once."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.sorted()
        if self._n >= MANY:
            return _split(*self._decoded())
        words, total = [], 0
        for block in range(len(self._lengths)):
            for word in self._coded.words_of(block):
                words.append(word)
                total += len(word)
                if total > self._total:
                    raise self._coded.damaged(block)
        self._check_total(total)
        return iter(words)

    def _decoded(self) -> tuple[bytes, IntArray]:
        """Return all words' bytes, sorted, and where each word ends, (n,) int64."""
        text, ends = self._coded.decode(self._total)
        self._check_total(int(ends[-1]) if self._n else 0)
        return text.tobytes(), ends

    def _check_total(self, total: int) -> None:
        if total != self._total:
            raise self._error("the words do not add up to words.sizes", expected=self._total, found=total)

    def check(self) -> None:
        """Check everything: all blocks, that words ascend and so are distinct, and that ids are all there once.

        Raises
        ------
        FormatError
            Naming the first thing that is wrong.
        """
        before, longest = None, 0
        for place, word in enumerate(self._sorted()):
            if before is not None and before >= word:
                raise self._error("the words are not sorted", where=f"sorted word {place}")
            before, longest = word, max(longest, len(word))
        if longest != self._longest:
            raise self._error("no word is as long as words.sizes says", expected=self._longest)
        self._order.check()


def _split(text: bytes, ends: AnyArray) -> Iterator[bytes]:
    """Yield words that lie end to end."""
    start = 0
    for end in memoryview(np.ascontiguousarray(ends)):
        yield text[start:end]
        start = end


class _Unpacked:
    """Sorted words in memory: their bytes end to end, where each ends, and places to ids and back."""

    def __init__(self, text: bytes, ends: IntArray, ids: IntArray) -> None:
        from embshrink.kernels.words import find_word

        places = np.empty(len(ids), np.uint32)
        places[ids] = np.arange(len(ids), dtype=np.uint32)
        bounds = np.append(0, ends).astype(np.uint32 if len(text) < 2**32 else np.uint64)
        self._text = text
        self._find = functools.partial(find_word, np.frombuffer(text, np.uint8), bounds)
        # Python reads single numbers fastest from memoryviews.
        self._ends: memoryview[int] = memoryview(bounds)
        self._ids: memoryview[int] = memoryview(ids.astype(np.uint32))
        self._places: memoryview[int] = memoryview(places)

    def find(self, word: bytes) -> int:
        """Return the id of `word`, or -1."""
        place = self._find(np.frombuffer(word, np.uint8))
        return self._ids[place] if place >= 0 else -1

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`."""
        place, ends = self._places[index], self._ends
        return self._text[ends[place] : ends[place + 1]]

    def sorted(self) -> Iterator[bytes]:
        """Yield all words, sorted."""
        return _split(self._text, np.asarray(self._ends)[1:])
