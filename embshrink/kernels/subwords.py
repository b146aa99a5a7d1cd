"""Character n-grams of many words at once, and sums of table rows by them."""

from __future__ import annotations

import numpy as np

from embshrink.kernels import kernel


@kernel
def count_ngrams(blob, stops, minn, maxn, out):
    """Count each word's n-grams.

    blob : (bytes,) uint8, the words as ``<word>``, end to end; an empty span has no n-grams
    stops : (n,) int64, where each ends
    out : (n,) int64
    """
    start = 0
    for word in range(len(stops)):
        chars = 0
        for i in range(start, stops[word]):
            chars += blob[i] & 0xC0 != 0x80
        count = 0
        for n in range(max(minn, 1), min(maxn, chars) + 1):
            count += chars - n + 1
        if minn <= 1 <= maxn and chars:
            count -= 2  # the marks at both ends
        out[word] = count
        start = stops[word]


@kernel
def hash_ngrams(blob, stops, minn, maxn, bucket, out):
    """Write the bucket of each n-gram, word by word, as many as `count_ngrams` counts.

    blob, stops : as for `count_ngrams`
    out : (total,) int32
    """
    written = 0
    start = 0
    for word in range(len(stops)):
        stop = stops[word]
        for first in range(start, stop):
            if blob[first] & 0xC0 == 0x80:
                continue
            value = np.int64(2166136261)
            i = first
            for n in range(1, maxn + 1):
                if i == stop:
                    break
                while True:  # one character: a byte and the continuation bytes behind it
                    byte = np.int64(blob[i])
                    if byte > 127:
                        byte |= 0xFFFFFF00
                    value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
                    i += 1
                    if i == stop or blob[i] & 0xC0 != 0x80:
                        break
                if n >= minn and (n > 1 or (first > start and i < stop)):
                    out[written] = value % bucket
                    written += 1
        start = stop


@kernel
def add_rows(table, ids, ends, out):
    """Add to each row of `out` its rows of `table`, one after the other, in float32.

    table : (m, d) float32, no row of it in both `ids` and `out`
    ids : (total,) int64, rows of `table`
    ends : (n,) int64, where the part of `ids` for each row ends
    out : (n, d) float32
    """
    k = 0
    for row in range(len(ends)):
        while k < ends[row]:
            source = ids[k]
            for j in range(out.shape[1]):
                out[row, j] += table[source, j]
            k += 1
