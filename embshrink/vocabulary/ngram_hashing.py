"""Character n-grams of words, hashed to buckets as fastText and floret do.

A word's n-grams are those of ``<word>``, counted in UTF-8 characters. fastText's hash is FNV-1a of
32 bits over *signed* bytes, the slip that its models were trained with. floret hashes the whole
``<word>`` too, each to one to four buckets by MurmurHash3. Sources: fastText and floret,
``Dictionary::computeSubwords``, ``Dictionary::hash`` and ``Dictionary::murmurhash``; A. Appleby's
``MurmurHash3_x64_128``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.errors import FormatError

EOS = b"</s>"
MAX_NGRAM = 100
MAX_BUCKETS = 2**31 - 1
MAX_MARK = 100
_ALL_BITS = 2**64 - 1


def ngram_hash(ngram):
    """Return the hash of an n-gram's bytes, an int below 2**32.

    Examples
    --------
    >>> ngram_hash(b"<th"), ngram_hash("é".encode())
    (1619151151, 1023043777)
    """
    value = 2166136261
    for byte in ngram:
        value = (value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619 & 0xFFFFFFFF
    return value


def ngrams(word, minn, maxn):
    """Return the n-grams of a word.

    Parameters
    ----------
    word : bytes
    minn, maxn : int
        Characters of the shortest and the longest n-gram; none if `maxn` is 0.

    Returns
    -------
    list of bytes
        In fastText's order: by their first character, then by length. Without the lone ``<`` and
        ``>``. ``</s>`` has none.

    Notes
    -----
    A character is a byte with the continuation bytes behind it, whether or not that is UTF-8.

    Examples
    --------
    >>> ngrams(b"to", 2, 3)
    [b'<t', b'<to', b'to', b'to>', b'o>']
    """
    return [] if word == EOS else _runs(b"<" + word + b">", minn, maxn)


def _runs(marked, minn, maxn):
    """Return all runs of `minn` to `maxn` characters, but for a lone first or last one."""
    starts = [i for i, byte in enumerate(marked) if byte & 0xC0 != 0x80]
    starts.append(len(marked))
    last = len(starts) - 1
    return [marked[starts[i] : starts[i + n]]
            for i in range(last) for n in range(max(minn, 1), min(maxn, last - i) + 1) if n > 1 or 0 < i < last - 1]


def bucket_ids(word, minn, maxn, bucket):
    """Return the bucket, 0 to `bucket` - 1, of each n-gram of a word, as a list; none if `bucket` is 0."""
    return [ngram_hash(ngram) % bucket for ngram in ngrams(word, minn, maxn)] if bucket else []


def all_bucket_ids(words, minn, maxn, bucket):
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
        What `bucket_ids` gives for each word, one after the other.
    ends : numpy.ndarray, shape (n,), int64
        Where each word's part of `ids` ends.
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


def murmurhash3(data, seed):
    """Return MurmurHash3_x64_128 of some bytes, as four ints below 2**32, the lowest first.

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
    h1 ^= _mix_low(int.from_bytes(tail[:8], "little")) ^ len(data)  # no bytes are the number 0, which mixes to 0
    h2 ^= _mix_high(int.from_bytes(tail[8:], "little")) ^ len(data)
    h1 = (h1 + h2) & _ALL_BITS
    h2 = (h2 + h1) & _ALL_BITS
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _ALL_BITS
    h2 = (h2 + h1) & _ALL_BITS
    return h1 & 0xFFFFFFFF, h1 >> 32, h2 & 0xFFFFFFFF, h2 >> 32


def _rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & _ALL_BITS


def _mix_low(value):
    return _rotate(value * 0x87C37B91114253D5 & _ALL_BITS, 31) * 0x4CF5AD432745937F & _ALL_BITS


def _mix_high(value):
    return _rotate(value * 0x4CF5AD432745937F & _ALL_BITS, 33) * 0x87C37B91114253D5 & _ALL_BITS


def _finish(value):
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _ALL_BITS
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _ALL_BITS
    return value ^ value >> 33


@dataclass(frozen=True)
class Floret:
    """What floret's way of hashing has beside the sizes of n-grams.

    Parameters
    ----------
    hashes : int
        Buckets of each n-gram, 1 to 4.
    seed : int
        Of the hash, below 2**32.
    bow, eow : str
        What is put before and behind a word; at most 100 characters.
    """

    hashes: int
    seed: int
    bow: str = "<"
    eow: str = ">"


@dataclass(frozen=True)
class Hashing:
    """Which buckets a word's n-grams fall into.

    Parameters
    ----------
    minn, maxn : int
        Characters of the shortest and the longest n-gram, 0 to 100.
    bucket : int
        How many buckets there are, 1 to 2**31 - 1.
    floret : Floret, optional
        Hash as floret does; as fastText does if not given.

    Raises
    ------
    ValueError
        Saying which number is impossible.

    Examples
    --------
    >>> Hashing(3, 3, 1000).ids(b"to"), Hashing(3, 3, 1000, Floret(2, 2166136261)).ids(b"to")
    ([294, 126], [492, 107, 960, 157, 285, 476])
    """

    minn: int
    maxn: int
    bucket: int
    floret: Floret | None = None

    def __post_init__(self):
        limits = {"minn": (0, MAX_NGRAM), "maxn": (0, MAX_NGRAM), "bucket": (1, MAX_BUCKETS)}
        values = {name: getattr(self, name) for name in limits}
        if self.floret is not None:
            limits.update(hashes=(1, 4), seed=(0, 2**32 - 1))
            values.update(hashes=self.floret.hashes, seed=self.floret.seed)
            for name, mark in (("bow", self.floret.bow), ("eow", self.floret.eow)):
                if len(mark) > MAX_MARK or mark != mark.encode("utf-8", "replace").decode():
                    raise ValueError(f"{name} must be text of at most {MAX_MARK} characters")
        for name, (low, high) in limits.items():
            if not low <= values[name] <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {values[name]}")

    def ids(self, word):
        """Return the buckets that a word's vector is the mean of, as a list; one may be there several times.

        Those of its n-grams; with floret first those of the whole word between its marks. An n-gram that is the
        whole word counts once more.

        Parameters
        ----------
        word : bytes
        """
        if self.floret is None:
            return bucket_ids(word, self.minn, self.maxn, self.bucket)
        own = self.floret
        marked = own.bow.encode() + word + own.eow.encode()
        return [value % self.bucket for part in (marked, *_runs(marked, self.minn, self.maxn))
                for value in murmurhash3(part, own.seed)[: own.hashes]]


def hashing_header(hashing):
    """Return the part of a file's header that says how n-grams are hashed."""
    part = {"minn": hashing.minn, "maxn": hashing.maxn, "bucket": hashing.bucket}
    return part if hashing.floret is None else {**part, "hash": "floret", **vars(hashing.floret)}


def hashing_of_header(part):
    """Return what `hashing_header` was given; raise FormatError if a value is impossible."""
    name = part.get("hash", "fnv1a")
    if name not in ("fnv1a", "floret"):
        raise FormatError("n-grams are hashed in an unknown way", expected="fnv1a or floret", found=name,
                          hint="Update embshrink: pip install -U embshrink")
    kinds = {"hashes": int, "seed": int, "bow": str, "eow": str} if name == "floret" else {}
    own = {key: part.get(key) for key in kinds}
    if any(type(own[key]) is not kind for key, kind in kinds.items()):
        raise FormatError("the header's subwords do not say how floret hashes", expected=sorted(kinds), found=part)
    try:
        return Hashing(part["minn"], part["maxn"], part["bucket"], Floret(**own) if own else None)
    except ValueError as error:
        raise FormatError(f"the header's subwords are impossible: {error}") from error
