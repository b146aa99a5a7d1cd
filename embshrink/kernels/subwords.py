"""Character n-grams of many words at once, and sums of their rows in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import AnyArray, ByteArray, FloatArray, IntArray


@kernel
def count_ngrams(blob: ByteArray, stops: IntArray, minn: int, maxn: int, out: IntArray) -> None:
    """Count the n-grams of each word.

    blob : (bytes,) uint8, the words as ``<word>``, one after the other; an empty word has no n-grams
    stops : (n,) int64, end of each word in `blob`
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
def hash_ngrams(blob: ByteArray, stops: IntArray, minn: int, maxn: int, bucket: int, out: AnyArray) -> None:
    """Write the bucket of each n-gram, word by word; `count_ngrams` gives their number.

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
                while True:  # one character: a byte and its continuation bytes
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
def add_rows(table: FloatArray, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
    """Add rows of `table` to each row of `out`, one after the other, in float32.

    table : (m, d) float32; `out` may be a part of it that contains no row in `ids`
    ids : (total,) int64, the rows of `table` to add, for one row of `out` after the other
    ends : (n,) int64, end in `ids` of the rows for each row of `out`
    out : (n, d) float32
    """
    k = 0
    for row in range(len(ends)):
        while k < ends[row]:
            source = ids[k]
            for j in range(out.shape[1]):
                out[row, j] += table[source, j]
            k += 1
