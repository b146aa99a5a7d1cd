"""Character n-grams of words, hashed to buckets as in fastText and floret.

The n-grams of a word are those of ``<word>``, in UTF-8 characters. fastText's hash is 32-bit FNV-1a over *signed*
bytes, a slip with which its models were trained. floret also hashes the whole ``<word>``, and hashes each n-gram to
one to four buckets by MurmurHash3. Sources: fastText and floret,
``Dictionary::computeSubwords``, ``Dictionary::hash`` and ``Dictionary::murmurhash``; A. Appleby's
``MurmurHash3_x64_128``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.storage.arrays import IntArray
from embshrink.storage.container import NEWER
from embshrink.storage.header import HEADER

if TYPE_CHECKING:
    from typing_extensions import Self

EOS = b"</s>"  # fastText's word for the end of a line; it has no n-grams
MAX_NGRAM = 100  # characters
MAX_BUCKETS = 2**31 - 1
MAX_MARK = 100  # characters of floret's marks before and after a word
_ALL_BITS = 2**64 - 1


def ngram_hash(ngram: Iterable[int]) -> int:
    """Return fastText's hash of the bytes of an n-gram, an int below 2**32.

    Examples
    --------
    >>> ngram_hash(b"<th"), ngram_hash("é".encode())
    (1619151151, 1023043777)
    """
    value = 2166136261
    for byte in ngram:
        value = (value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619 & 0xFFFFFFFF
    return value


def ngrams(word: bytes, minn: int, maxn: int) -> list[bytes]:
    """Return the n-grams of a word.

    Parameters
    ----------
    word : bytes
    minn, maxn : int
        Characters of the shortest and the longest n-gram; none if `maxn` is 0.

    Returns
    -------
    list of bytes
        In fastText's order: by first character, then by length. ``<`` and ``>`` alone are no n-grams, and ``</s>``
        has none.

    Notes
    -----
    A character is a byte with the continuation bytes after it, even if that is not valid UTF-8.

    Examples
    --------
    >>> ngrams(b"to", 2, 3)
    [b'<t', b'<to', b'to', b'to>', b'o>']
    """
    return [] if word == EOS else _runs(b"<" + word + b">", minn, maxn)


def _runs(marked: bytes, minn: int, maxn: int) -> list[bytes]:
    """Return all runs of `minn` to `maxn` characters, except the first or the last character alone."""
    starts = [i for i, byte in enumerate(marked) if byte & 0xC0 != 0x80]
    starts.append(len(marked))
    last = len(starts) - 1
    return [marked[starts[i] : starts[i + n]]
            for i in range(last) for n in range(max(minn, 1), min(maxn, last - i) + 1) if n > 1 or 0 < i < last - 1]


def bucket_ids(word: bytes, minn: int, maxn: int, bucket: int) -> list[int]:
    """Return the bucket of each n-gram of a word in fastText, 0 to `bucket` - 1; none if `bucket` is 0."""
    return [ngram_hash(ngram) % bucket for ngram in ngrams(word, minn, maxn)] if bucket else []


def all_bucket_ids(
    words: list[bytes], minn: int, maxn: int, bucket: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], IntArray]:
    """Return the buckets of the n-grams of many words, by a compiled kernel.

    Parameters
    ----------
    words : list of bytes
        n words.
    minn, maxn, bucket : int
        As for `bucket_ids`.

    Returns
    -------
    ids : numpy.ndarray, shape (total,), int32
        The result of `bucket_ids` for each word, concatenated.
    ends : numpy.ndarray, shape (n,), int64
        End of each word's part of `ids`.
    """
    from embshrink.kernels.subwords import count_ngrams, hash_ngrams

    marked = [b"" if word == EOS else b"<%b>" % word for word in words]
    blob = np.frombuffer(b"".join(marked), dtype=np.uint8)
    stops = np.cumsum(np.fromiter(map(len, marked), dtype=np.int64, count=len(marked)))
    counts = np.zeros(len(words), dtype=np.int64)
    if bucket:
        count_ngrams(blob, stops, minn, maxn, counts)
    ends = np.cumsum(counts)
    ids = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.int32)
    if len(ids):
        hash_ngrams(blob, stops, minn, maxn, bucket, ids)
    return ids, ends


def murmurhash3(data: bytes, seed: int) -> tuple[int, int, int, int]:
    """Return MurmurHash3_x64_128 of some bytes, as four ints below 2**32, the lowest first.

    Parameters
    ----------
    data : bytes
    seed : int
        Below 2**32.

    Examples
    --------
    >>> murmurhash3(b"<apple>", 2166136261)
    (2944390534, 3823770033, 2625612939, 4129847746)
    """
    h1 = h2 = seed
    whole = len(data) // 16 * 16
    tail = data[whole:]
    for start in range(0, whole, 16):
        h1 ^= _mix_low(int.from_bytes(data[start : start + 8], "little"))
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _ALL_BITS
        h2 ^= _mix_high(int.from_bytes(data[start + 8 : start + 16], "little"))
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _ALL_BITS
    h1 ^= _mix_low(int.from_bytes(tail[:8], "little")) ^ len(data)  # an empty tail is the number 0, which mixes to 0
    h2 ^= _mix_high(int.from_bytes(tail[8:], "little")) ^ len(data)
    h1 = (h1 + h2) & _ALL_BITS
    h2 = (h2 + h1) & _ALL_BITS
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _ALL_BITS
    h2 = (h2 + h1) & _ALL_BITS
    return h1 & 0xFFFFFFFF, h1 >> 32, h2 & 0xFFFFFFFF, h2 >> 32


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _ALL_BITS


def _mix_low(value: int) -> int:
    return _rotate(value * 0x87C37B91114253D5 & _ALL_BITS, 31) * 0x4CF5AD432745937F & _ALL_BITS


def _mix_high(value: int) -> int:
    return _rotate(value * 0x4CF5AD432745937F & _ALL_BITS, 33) * 0x87C37B91114253D5 & _ALL_BITS


def _finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _ALL_BITS
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _ALL_BITS
    return value ^ value >> 33


@dataclass(frozen=True)
class Floret:
    """The settings of floret's hashing besides the lengths of n-grams.

    Parameters
    ----------
    hashes : int
        Number of buckets for each n-gram, 1 to 4.
    seed : int
        Seed of the hash, below 2**32.
    bow, eow : str
        Marks before and after a word; at most 100 characters.
    """

    hashes: int
    seed: int
    bow: str = "<"
    eow: str = ">"


@dataclass(frozen=True)
class Hashing:
    """The hashing of a word's n-grams to buckets.

    Parameters
    ----------
    minn, maxn : int
        Characters of the shortest and the longest n-gram, 0 to 100.
    bucket : int
        Number of buckets, 1 to 2**31 - 1.
    floret : Floret, optional
        Settings of floret's hashing; fastText's hashing by default.

    Raises
    ------
    ValueError
        If a setting is out of range; the message states which.

    Examples
    --------
    >>> Hashing(3, 3, 1000).ids(b"to"), Hashing(3, 3, 1000, Floret(2, 2166136261)).ids(b"to")
    ([294, 126], [492, 107, 960, 157, 285, 476])
    """

    minn: int
    maxn: int
    bucket: int
    floret: Floret | None = None

    def __post_init__(self) -> None:
        limits = [("minn", self.minn, 0, MAX_NGRAM), ("maxn", self.maxn, 0, MAX_NGRAM),
                  ("bucket", self.bucket, 1, MAX_BUCKETS)]
        if self.floret is not None:
            limits += [("hashes", self.floret.hashes, 1, 4), ("seed", self.floret.seed, 0, 2**32 - 1)]
            for name, mark in (("bow", self.floret.bow), ("eow", self.floret.eow)):
                if len(mark) > MAX_MARK or mark != mark.encode("utf-8", "replace").decode():
                    raise ValueError(f"{name} must be text of at most {MAX_MARK} characters")
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {value}")

    def ids(self, word: bytes) -> list[int]:
        """Return the buckets whose rows have the word's vector as their mean; a bucket may occur several times.

        These are the buckets of the word's n-grams. With floret, the buckets of the whole word with its marks come
        first; an n-gram that is the whole word then counts twice.
        """
        if self.floret is None:
            return bucket_ids(word, self.minn, self.maxn, self.bucket)
        own = self.floret
        marked = own.bow.encode() + word + own.eow.encode()
        return [value % self.bucket for part in (marked, *_runs(marked, self.minn, self.maxn))
                for value in murmurhash3(part, own.seed)[: own.hashes]]

    def as_header(self) -> dict[str, int | str]:
        """Return the keys of a file's header that describe the hashing."""
        part: dict[str, int | str] = {"minn": self.minn, "maxn": self.maxn, "bucket": self.bucket}
        if self.floret is not None:
            own = self.floret
            part.update(hash="floret", hashes=own.hashes, seed=own.seed, bow=own.bow, eow=own.eow)
        return part

    @classmethod
    def from_header(cls, part: Mapping[str, object]) -> Self:
        """Return the hashing that a header describes; the inverse of `as_header`. Other keys are ignored.

        Raises
        ------
        FormatError
            If a value is missing, has the wrong type, or is out of range.
        """
        name, floret = part.get("hash", "fnv1a"), None
        if name == "floret":
            floret = _floret_of(part)
        elif name != "fnv1a":
            raise FormatError("the hash of n-grams is not supported", where=HEADER, expected="fnv1a or floret",
                              found=name, hint=NEWER)
        minn, maxn, bucket = part.get("minn"), part.get("maxn"), part.get("bucket")
        if not isinstance(minn, int) or not isinstance(maxn, int) or not isinstance(bucket, int):
            raise FormatError("the key 'subwords' is invalid", where=HEADER,
                              expected="integers bucket, maxn and minn", found=part, hint=DAMAGED)
        try:
            return cls(minn, maxn, bucket, floret)
        except ValueError as error:
            raise FormatError(f"the key 'subwords' is invalid: {error}", where=HEADER, hint=DAMAGED) from error


def _floret_of(part: Mapping[str, object]) -> Floret:
    """Return floret's settings from a header, after checking their types; `Hashing` checks their range."""
    hashes, seed, bow, eow = (part.get(key) for key in ("hashes", "seed", "bow", "eow"))
    if type(hashes) is not int or type(seed) is not int or type(bow) is not str or type(eow) is not str:
        raise FormatError("the key 'subwords' is invalid", where=HEADER,
                          expected="integers hashes and seed, strings bow and eow", found=part, hint=DAMAGED)
    return Floret(hashes, seed, bow, eow)
