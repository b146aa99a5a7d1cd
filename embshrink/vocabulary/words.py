"""Words and ids: build an index, find a word, get the word of an id, iterate. Independent of vectors.

A word is a byte string. Bytes that are not UTF-8 are shown as text with ``surrogateescape``, which can be converted
back to the same bytes, so two different byte strings are always two words.
"""

from __future__ import annotations

import warnings
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, overload

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage.arrays import AnyArray, ByteArray, IntArray, Layout, StoredArray
from embshrink.storage.spans import PER_START, span_of
from embshrink.vocabulary import buffer

WORDS_PER_BUCKET = 4
OTHER_WORDS = "the words are not those that were to be written"
MANY = 1 << 20  # words from which on a dict of them takes too much memory

Word: TypeAlias = str | bytes  # as a caller may pass it


def to_bytes(word: Word) -> bytes:
    """Return the bytes of a word that is given as text or bytes."""
    if isinstance(word, bytes):
        return word
    try:
        return word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no file has this word
        return word.encode("utf-8", "surrogatepass")
    except AttributeError:
        raise TypeError(f"expected a word as str or bytes, not {type(word).__name__}") from None


def to_text(word: bytes) -> str:
    """Return a word as text; bytes that are not UTF-8 become lone surrogates."""
    return word.decode("utf-8", "surrogateescape")


class Vocabulary(Sequence[str]):
    """Distinct words with ids 0 to n - 1: the interface of the words of a table, however they are stored.

    It is a sequence of str. Subclasses implement the abstract methods; the others have a default.
    """

    @property
    @abstractmethod
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id."""

    @abstractmethod
    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`, 0 to n - 1."""

    @abstractmethod
    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""

    def find_all(self, words: Sequence[Word]) -> IntArray:
        """Return the ids of several words, (k,) int64; -1 for a word that is missing.

        Parameters
        ----------
        words : sequence of str or bytes
            k words.
        """
        return np.fromiter(map(self.find, words), np.int64, len(words))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [to_text(word) for word in self._raw_of(range(*index.indices(len(self))))]
        n = len(self)
        if index < 0:
            index += n
        if not 0 <= index < n:
            raise IndexError(f"no word has the id {index}: there are {n} words")
        return to_text(self.raw_at(index))

    def __iter__(self) -> Iterator[str]:
        return map(to_text, self.raw)

    def _raw_of(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of the words with these ids."""
        return [self.raw_at(index) for index in ids]

    def take(self, ids: Sequence[int] | IntArray) -> Words:
        """Return the words with these ids, in this order, as `Words` in memory."""
        return Words(self._raw_of(np.asarray(ids, np.int64).tolist()))

    def prefix(self, text: Word) -> list[int]:
        """Return the ids of the words that begin with `text`, ascending."""
        prefix = to_bytes(text)
        return [index for index, word in enumerate(self.raw) if word.startswith(prefix)]

    def in_memory(self) -> Words:
        """Return all words as `Words`."""
        return Words(self.raw)

    def equals(self, words: Words) -> bool:
        """Whether these are the same words with the same ids."""
        own = self.in_memory()
        return np.array_equal(own.bounds, words.bounds) and np.array_equal(own.text, words.text)

    @property
    def exact_ids(self) -> int | None:
        """Words with ids below this have the ids of the source; None, the default, if all words have them."""
        return None

    def unpack(self) -> None:
        """Keep decoded words in memory to speed up lookups, if the words are compressed; `pack` frees them."""

    def pack(self) -> None:
        """Free the memory that `unpack` uses."""

    def check(self, expected: Words | None = None) -> None:
        """Check all stored data.

        Parameters
        ----------
        expected : Words, optional
            Check that these are the words.

        Raises
        ------
        FormatError
            At the first fault.
        """
        if expected is not None and not self.equals(expected):
            raise FormatError(OTHER_WORDS, hint=DAMAGED)


class OrderWarning(UserWarning):
    """The ids of a file's words are not those of its source, and the answer depends on them."""


def warn_if_moved(words: Vocabulary, first: int | None) -> None:
    """Warn if the first words of a file are not quite the first words of its source.

    Parameters
    ----------
    words : Vocabulary
    first : int or None
        How many of the first words are asked for; None for all, where the order does not matter.
    """
    exact = words.exact_ids
    if exact is not None and first is not None and exact < first < len(words):
        warnings.warn(f"the words of this file are in approximate order after the first {exact:,}: some of its first "
                      f"{first:,} words are not among the first {first:,} of its source", OrderWarning, stacklevel=3)


class Words(Vocabulary):
    """Words in memory, by id: one array of bytes, and the bounds of each word.

    Parameters
    ----------
    words : iterable of str or bytes
        The words in order of id; they must be distinct.

    Attributes
    ----------
    text : numpy.ndarray, shape (total,), uint8
        The words, concatenated.
    bounds : numpy.ndarray, shape (n + 1,), int64
        Word i is ``text[bounds[i]:bounds[i + 1]]``.

    Examples
    --------
    >>> words = Words(["the", "of", "café"])
    >>> words.find("of"), words.find("nothing"), words[2]
    (1, -1, 'café')
    """

    text: ByteArray
    bounds: IntArray

    def __init__(self, words: Iterable[Word]) -> None:
        raw = [word if type(word) is bytes else to_bytes(word) for word in words]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        self._keep(np.frombuffer(b"".join(raw), np.uint8), buffer.bounds_of(lengths))

    @classmethod
    def of_text(cls, text: ByteArray, bounds: IntArray) -> Words:
        """Return the words of an array of bytes, which is not copied."""
        words = object.__new__(cls)
        words._keep(text, bounds)
        return words

    def _keep(self, text: ByteArray, bounds: IntArray) -> None:
        self.text, self.bounds = text, bounds
        # Python reads single numbers and short pieces fastest from a memoryview.
        self._text, self._bounds = memoryview(np.ascontiguousarray(text)), memoryview(np.ascontiguousarray(bounds))
        self._index: dict[bytes, int] | PlainWords | None = None  # built at the first lookup

    def __getstate__(self) -> tuple[ByteArray, IntArray]:
        return self.text, self.bounds

    def __setstate__(self, state: tuple[ByteArray, IntArray]) -> None:
        self._keep(*state)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id, as a new list."""
        return list(buffer.split(self.text, self.bounds))

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`, 0 to n - 1."""
        return self._text[self._bounds[index] : self._bounds[index + 1]].tobytes()

    def part(self, start: int, stop: int) -> Words:
        """Return the words `start` to `stop` - 1, or to the last one."""
        bounds = self.bounds[start : stop + 1]
        return Words.of_text(self.text[bounds[0] : bounds[-1]], bounds - bounds[0])

    def take(self, ids: Sequence[int] | IntArray) -> Words:
        """Return the words with these ids, in this order."""
        if len(ids) == len(self) and np.array_equal(ids, np.arange(len(self))):
            return self
        return Words.of_text(*buffer.gather(self.text, self.bounds, np.asarray(ids, np.int64)))

    def in_memory(self) -> Words:
        """Return these words."""
        return self

    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""
        if self._index is None:
            if len(self) < MANY:
                self._index = {word: index for index, word in enumerate(buffer.split(self.text, self.bounds))}
            else:
                self._index = PlainWords(encode_plain(self))
        if isinstance(self._index, PlainWords):
            return self._index.find(word)
        return self._index.get(to_bytes(word), -1)


class Numerals(Vocabulary):
    """The numbers 0 to n - 1 as words, in decimal digits: names for rows without words, such as n-gram rows.

    Parameters
    ----------
    n : int
        Number of words.

    Examples
    --------
    >>> names = Numerals(100)
    >>> names[7], names.find("42"), names.find("042"), names.find("100")
    ('7', 42, -1, -1)
    """

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    @property
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id."""
        return [b"%d" % index for index in range(self._n)]

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`, 0 to n - 1."""
        return b"%d" % index

    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""
        digits = to_bytes(word)
        if not digits.isdigit() or len(digits) > len(b"%d" % self._n):
            return -1
        index = int(digits)
        return index if index < self._n and b"%d" % index == digits else -1


def encode_plain(words: Vocabulary) -> dict[str, AnyArray]:
    """Encode words as plain arrays that can be mapped and searched without decoding.

    Parameters
    ----------
    words : Vocabulary
        n distinct words.

    Returns
    -------
    dict of str to numpy.ndarray
        ``bytes`` : (total,) uint8, the words concatenated in order of id.
        ``lengths`` : (n,) narrowest unsigned, bytes of each word.
        ``starts`` : (ceil(n / 64),) uint64, the start of every 64th word in ``bytes``.
        ``buckets`` : (b + 1,) uint32, b a power of two: ``ids[buckets[h]:buckets[h + 1]]`` are the
        ids of the words whose ``crc32(word) % b`` is h.
        ``ids`` : (n,) uint32, ascending within a bucket.

    Notes
    -----
    Buckets are used instead of open addressing: they have the same size and no clusters, one sort builds them, and a
    reader can check every entry.
    """
    own = words.in_memory()
    lengths = np.diff(own.bounds)
    count = _bucket_count(len(own))
    hashes = buffer.crc32_of(own.text, own.bounds) & np.uint32(count - 1)
    return {
        "bytes": own.text,
        "lengths": lengths.astype(narrowest_uint(int(lengths.max(initial=0)))),
        "starts": own.bounds[:-1][::PER_START].astype(np.uint64),
        "buckets": np.concatenate([[0], np.cumsum(np.bincount(hashes, minlength=count))]).astype(np.uint32),
        "ids": np.argsort(hashes, kind="stable").astype(np.uint32),
    }


def plan_plain(n: int, total: int, longest: int) -> Layout:
    """Return dtype and shape of each array of `encode_plain`.

    Parameters
    ----------
    n, total, longest : int
        Number of words, bytes of all words, and bytes of the longest word.
    """
    return {
        "bytes": (np.dtype(np.uint8), (total,)),
        "lengths": (narrowest_uint(longest), (n,)),
        "starts": (np.dtype(np.uint64), (-(-n // PER_START),)),
        "buckets": (np.dtype(np.uint32), (_bucket_count(n) + 1,)),
        "ids": (np.dtype(np.uint32), (n,)),
    }


def _bucket_count(n: int) -> int:
    return 1 << max(0, -(-n // WORDS_PER_BUCKET) - 1).bit_length()


class PlainWords(Vocabulary):
    """Words of an open file that are found without decoding.

    Parameters
    ----------
    arrays : mapping of str to array_like
        The arrays of `encode_plain`, mapped or not. The constructor checks only dtypes and shapes; the contents are
        checked when they are used, and completely by `check`.
    path : str, optional
        Path of the file, for messages.

    Raises
    ------
    FormatError
        If an array is missing, or has a wrong dtype or shape.
    """

    def __init__(self, arrays: Mapping[str, StoredArray], path: str | None = None) -> None:
        self._path = path
        for name in ("bytes", "lengths", "starts", "buckets", "ids"):
            if name not in arrays:
                raise self._error(f"section words.{name} is missing")
            if len(arrays[name].shape) != 1:
                raise self._error(f"section words.{name} has the wrong dtype or shape", expected="one axis",
                                  found=arrays[name].shape)
        n = len(arrays["lengths"])
        width = arrays["lengths"].dtype.itemsize
        # sums of 8-byte lengths could overflow 64 bits; no word is that long
        plan = plan_plain(n, len(arrays["bytes"]), min(256**width - 1, 2**32 - 1))
        for name, (dtype, shape) in plan.items():
            found = arrays[name]
            if found.dtype != dtype or found.shape != shape:
                raise self._error(f"section words.{name} has the wrong dtype or shape", expected=f"{dtype} {shape}",
                                  found=f"{found.dtype} {found.shape}")
        self._bytes, self._lengths, self._starts, self._buckets, self._ids = (arrays[name] for name in plan)

    def _error(self, problem: str, *, expected: object = None, found: object = None) -> FormatError:
        return FormatError(problem, path=self._path, expected=expected, found=found, hint=DAMAGED)

    def __len__(self) -> int:
        return len(self._lengths)

    def raw_at(self, index: int) -> bytes:
        """Return the bytes of the word with id `index`, 0 to n - 1."""
        start, end = span_of(self._lengths, self._starts, index)
        if end > len(self._bytes):
            raise self._error(f"word {index} ends after the end of words.bytes", expected=f"<= {len(self._bytes)}",
                              found=end)
        return self._bytes[start:end].tobytes()

    @property
    def raw(self) -> list[bytes]:
        """All words as bytes, in order of id."""
        return self.in_memory().raw

    def in_memory(self) -> Words:
        """Return all words as `Words`."""
        text, bounds = np.asarray(self._bytes).view(np.uint8), buffer.bounds_of(np.asarray(self._lengths))
        if len(self) and bounds[-1] != len(text):
            raise self._error("words.lengths do not add up to words.bytes", expected=len(text),
                              found=int(bounds[-1]))
        return Words.of_text(text, bounds)

    def find(self, word: Word) -> int:
        """Return the id of `word`, or -1."""
        word = to_bytes(word)
        bucket = zlib.crc32(word) & (len(self._buckets) - 2)
        low, high = self._buckets[bucket : bucket + 2].tolist()
        if not low <= high <= len(self):
            raise self._error(f"words.buckets is not ascending at {bucket}", expected=f"<= {len(self)}",
                              found=(low, high))
        for index in self._ids[low:high].tolist():
            if index >= len(self):
                raise self._error("words.ids refers to a word that does not exist", expected=f"< {len(self)}",
                                  found=index)
            if self._lengths[index : index + 1].item() == len(word) and self.raw_at(index) == word:
                return int(index)
        return -1

    def check(self, expected: Words | None = None) -> None:
        """Check all arrays, and that words are distinct.

        Parameters
        ----------
        expected : Words, optional
            Check that these are the words.

        Raises
        ------
        FormatError
            At the first fault.
        """
        super().check(expected)
        words = self.in_memory()
        if len(buffer.repeats(words.text, words.bounds)[0]):
            raise self._error("a word occurs twice")
        right = encode_plain(words)
        for name, found in (("starts", self._starts), ("buckets", self._buckets), ("ids", self._ids)):
            if not np.array_equal(np.asarray(found), right[name]):
                raise self._error(f"words.{name} does not match the words")
