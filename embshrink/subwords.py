"""Character n-grams of words, hashed to buckets as fastText does.

A word's n-grams are those of ``<word>``, counted in UTF-8 characters. Their hash is FNV-1a of 32
bits over *signed* bytes, the slip that fastText's models were trained with. Source: fastText,
``Dictionary::computeSubwords`` and ``Dictionary::hash``.
"""

from __future__ import annotations

import numpy as np

EOS = b"</s>"


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
    if word == EOS:
        return []
    marked = b"<" + word + b">"
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
