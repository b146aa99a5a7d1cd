"""Words and ids: build an index, find a word, name an id, iterate. Knows nothing of vectors.

A word is its bytes. Bytes that are not UTF-8 are shown as text with ``surrogateescape``, which
goes back to the same bytes, so two byte strings are always two words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from embshrink.errors import FormatError
from embshrink.numerics.arrays import narrowest_uint

WORDS_PER_START = 64
WORDS_PER_BUCKET = 4


def to_bytes(word):
    """Return a word given as text or bytes as its bytes."""
    if isinstance(word, bytes):
        return word
    try:
        return word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, so this is a word no file shows
        return word.encode("utf-8", "surrogatepass")


def to_text(word):
    """Return a word's bytes as text; what is not UTF-8 becomes lone surrogates."""
    return word.decode("utf-8", "surrogateescape")


class Words(Sequence):
    """Distinct words in memory, by id.

    Parameters
    ----------
    words : iterable of str or bytes
        In the order of their ids; the caller has removed duplicates.

    Examples
    --------
    >>> words = Words(["the", "of", "café"])
    >>> words.find("of"), words.find("nothing"), words[2]
    (1, -1, 'café')
    """

    def __init__(self, words):
        self.raw = [word if type(word) is bytes else to_bytes(word) for word in words]
        self._ids = None

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [to_text(word) for word in self.raw[index]]
        return to_text(self.raw[index])

    def __iter__(self):
        return map(to_text, self.raw)

    def find(self, word):
        """Return the id of `word`, or -1."""
        if self._ids is None:
            self._ids = {word: index for index, word in enumerate(self.raw)}
        return self._ids.get(to_bytes(word), -1)

    def prefix(self, text):
        """Return the ids of the words that begin with `text`, ascending, as a list."""
        return _beginning_with(self.raw, to_bytes(text))

    def take(self, ids):
        """Return the words with these ids, in this order, as a new `Words`."""
        return Words([self.raw[i] for i in ids])


def _beginning_with(raw, prefix):
    return [index for index, word in enumerate(raw) if word.startswith(prefix)]


def encode_plain(words):
    """Lay words out as plain arrays that can be mapped and searched in place.

    Parameters
    ----------
    words : Words
        n distinct words.

    Returns
    -------
    dict of str to numpy.ndarray
        ``bytes`` : (total,) uint8, the words end to end in order of id.
        ``lengths`` : (n,) narrowest unsigned, bytes of each word.
        ``starts`` : (ceil(n / 64),) uint64, where every 64th word begins.
        ``buckets`` : (b + 1,) uint32, b a power of two: ``ids[buckets[h]:buckets[h + 1]]`` are the
        ids of the words whose ``crc32(word) % b`` is h.
        ``ids`` : (n,) uint32, ascending inside a bucket.

    Notes
    -----
    Buckets, not open addressing: the same size, built by one sort, free of clusters, and a
    reader can check every entry.
    """
    raw = words.raw
    n = len(raw)
    lengths = np.fromiter(map(len, raw), dtype=np.int64, count=n)
    ends = np.cumsum(lengths)
    count = _bucket_count(n)
    hashes = np.fromiter(map(zlib.crc32, raw), dtype=np.uint32, count=n) & np.uint32(count - 1)
    return {
        "bytes": np.frombuffer(b"".join(raw), dtype=np.uint8),
        "lengths": lengths.astype(narrowest_uint(int(lengths.max(initial=0)))),
        "starts": (ends - lengths)[::WORDS_PER_START].astype(np.uint64),
        "buckets": np.concatenate([[0], np.cumsum(np.bincount(hashes, minlength=count))]).astype(np.uint32),
        "ids": np.argsort(hashes, kind="stable").astype(np.uint32),
    }


def plan_plain(n, total, longest):
    """Return dtype and shape of each array `encode_plain` makes for n words of `total` bytes."""
    return {
        "bytes": (np.dtype(np.uint8), (total,)),
        "lengths": (narrowest_uint(longest), (n,)),
        "starts": (np.dtype(np.uint64), (-(-n // WORDS_PER_START),)),
        "buckets": (np.dtype(np.uint32), (_bucket_count(n) + 1,)),
        "ids": (np.dtype(np.uint32), (n,)),
    }


def _bucket_count(n):
    return 1 << max(0, -(-n // WORDS_PER_BUCKET) - 1).bit_length()


class PlainWords(Sequence):
    """Words of an open file, found in place; nothing is decoded before it is asked for.

    Parameters
    ----------
    arrays : mapping of str to array_like
        What `encode_plain` made, mapped or not. Only dtypes and shapes are checked here; the
        contents are checked as they are used, and all of them by `check`.
    path : str, optional
        The file they are from, for messages.

    Raises
    ------
    FormatError
        If an array is missing, or the arrays' dtypes or shapes contradict each other.
    """

    def __init__(self, arrays, path=None):
        self._path = path
        for name in ("bytes", "lengths", "starts", "buckets", "ids"):
            if name not in arrays:
                raise self._error(f"section words.{name} is missing")
            if len(arrays[name].shape) != 1:
                raise self._error(f"words.{name} has the wrong shape", expected="one axis", found=arrays[name].shape)
        n = len(arrays["lengths"])
        width = arrays["lengths"].dtype.itemsize
        # lengths of 8 bytes could add up past 64 bits; no word is that long
        plan = plan_plain(n, len(arrays["bytes"]), min(256**width - 1, 2**32 - 1))
        for name, (dtype, shape) in plan.items():
            found = arrays[name]
            if found.dtype != dtype or found.shape != shape:
                raise self._error(f"words.{name} does not fit {n} words", expected=f"{dtype} {shape}",
                                  found=f"{found.dtype} {found.shape}")
        self._bytes, self._lengths, self._starts, self._buckets, self._ids = (arrays[name] for name in plan)

    def _error(self, problem, **parts):
        return FormatError(problem, path=self._path, **parts)

    def __len__(self):
        return len(self._lengths)

    def _span(self, index):
        first = index - index % WORDS_PER_START
        lengths = self._lengths[first : index + 1]
        end = int(self._starts[index // WORDS_PER_START]) + int(lengths.sum(dtype=np.int64))
        start = end - int(lengths[-1])
        if end > len(self._bytes):
            raise self._error(f"word {index} lies past the end of words.bytes", expected=f"<= {len(self._bytes)}",
                              found=end)
        return start, end

    def raw_at(self, index):
        """Return the bytes of the word with id `index`."""
        start, end = self._span(index)
        return self._bytes[start:end].tobytes()

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [to_text(self.raw_at(i)) for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"no word has the id {index}: there are {len(self)} words")
        return to_text(self.raw_at(index))

    def equals(self, raw):
        """Whether these are all words, given as a list of bytes in order of id."""
        return self.raw == raw

    @property
    def raw(self):
        """All words as a list of bytes, in order of id."""
        data = np.asarray(self._bytes).tobytes()
        ends = np.cumsum(np.asarray(self._lengths), dtype=np.int64)
        if len(ends) and int(ends[-1]) != len(data):
            raise self._error("the words' lengths do not add up to words.bytes", expected=len(data),
                              found=int(ends[-1]))
        ends = ends.tolist()
        return [data[start:end] for start, end in zip([0, *ends], ends)]

    def __iter__(self):
        return map(to_text, self.raw)

    def find(self, word):
        """Return the id of `word`, or -1."""
        word = to_bytes(word)
        bucket = zlib.crc32(word) & (len(self._buckets) - 2)
        low, high = (int(bound) for bound in self._buckets[bucket : bucket + 2])
        if not low <= high <= len(self):
            raise self._error(f"words.buckets is not ascending at {bucket}", expected=f"<= {len(self)}",
                              found=(low, high))
        for index in self._ids[low:high].tolist():
            if index >= len(self):
                raise self._error("words.ids names a word that is not there", expected=f"< {len(self)}", found=index)
            if self._lengths[index] == len(word) and self.raw_at(index) == word:
                return index
        return -1

    def prefix(self, text):
        """Return the ids of the words that begin with `text`, ascending, as a list."""
        return _beginning_with(self.raw, to_bytes(text))

    def take(self, ids):
        """Return the words with these ids, in this order, as `Words` in memory."""
        return Words([self.raw_at(int(i)) for i in ids])

    def check(self):
        """Check everything: spans, buckets, and that each word is found under its own id.

        Raises
        ------
        FormatError
            Naming the first thing that is wrong.
        """
        words = Words(self.raw)
        if len(set(words.raw)) != len(words):
            raise self._error("a word is stored twice")
        expected = encode_plain(words)
        for name, found in (("starts", self._starts), ("buckets", self._buckets), ("ids", self._ids)):
            if not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} does not index the words that are stored")
