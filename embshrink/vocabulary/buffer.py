"""Words as one array of bytes and the bounds of each word: gather, sort, find repeats. No object for each word.

Word i is ``text[bounds[i]:bounds[i + 1]]``: text (total,) uint8, bounds (n + 1,) int64, ascending from 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from embshrink.storage.arrays import AnyArray, BoolArray, ByteArray, IntArray

AT_ONCE = 1 << 16  # words that are compared or gathered at a time
KEY = 8  # bytes of a word that are compared at a time
HASHED = 1 << 17  # bytes of words that are hashed at a time
BASE = 0x9E3779B97F4A7C15  # of the polynomial; odd, so that it has an inverse
INVERSE = pow(BASE, -1, 1 << 64)


def split(text: ByteArray | bytes, bounds: AnyArray) -> Iterator[bytes]:
    """Yield all words."""
    data = bytes(text)
    for start, end in pairwise(memoryview(np.ascontiguousarray(bounds))):
        yield data[start:end]


def bounds_of(lengths: AnyArray) -> IntArray:
    """Return the bounds of words with these lengths, (n + 1,) int64."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def gather(text: ByteArray, bounds: IntArray, ids: IntArray) -> tuple[ByteArray, IntArray]:
    """Return text and bounds of the words with these ids, in this order."""
    starts, lengths = bounds[ids], bounds[ids + 1] - bounds[ids]
    own = bounds_of(lengths)
    out = np.empty(int(own[-1]), np.uint8)
    for first in range(0, len(ids), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        begin, end = int(own[first]), int(own[min(first + AT_ONCE, len(ids))])
        out[begin:end] = text[np.arange(begin, end) + np.repeat(starts[some] - own[:-1][some], lengths[some])]
    return out, own


def crc32_of(text: ByteArray, bounds: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """Return the CRC-32 of each word, (n,) uint32."""
    return np.fromiter(map(zlib.crc32, split(text, bounds)), np.uint32, len(bounds) - 1)


def hashes_of(text: ByteArray, bounds: IntArray) -> IntArray:
    """Return a hash of each word, (n,) int64: a polynomial of its bytes.

    Words with one hash can be made on purpose, so equal hashes are only a reason to compare the words.
    """
    hashes = np.empty(len(bounds) - 1, np.uint64)
    cuts = np.searchsorted(bounds, np.arange(bounds[0], bounds[-1], HASHED))  # whole words, of about so many bytes
    parts = np.unique(np.concatenate([[0], cuts, [len(hashes)]]))
    most = int(np.diff(bounds[parts]).max(initial=0)) + 1
    powers, inverses = _powers(BASE, most), _powers(INVERSE, most)
    for first, stop in pairwise(parts.tolist()):
        own = bounds[first : stop + 1] - bounds[first]
        terms = np.zeros(int(own[-1]) + 1, np.uint64)
        terms[1:] = np.add(text[bounds[first] : bounds[stop]], 1, dtype=np.uint64) * powers[: own[-1]]
        sums = np.cumsum(terms, out=terms)
        # The terms of a word begin with the power of its place in the text, which is divided off.
        hashes[first:stop] = np.diff(sums[own]) * inverses[own[:-1]]
    return hashes.view(np.int64)


def _powers(base: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Return the powers 0 to `count` - 1 of a number, modulo 2**64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def sorted_ids(text: ByteArray, bounds: IntArray) -> IntArray:
    """Return the ids of the words in the order of their bytes, (n,) int64.

    Eight bytes of each word are compared at a time, and only words that are equal so far are compared further.
    """
    n = len(bounds) - 1
    kind = np.int32 if n < 2**31 else np.int64  # of order, places and groups, to save memory
    order = np.arange(n, dtype=kind)
    if not n:
        return order.astype(np.int64)
    keys = _keys(text, bounds, order, 0)
    order = np.argsort(keys, kind="stable").astype(kind)
    keys = keys[order]
    places, groups = _ties(np.append(True, keys[1:] != keys[:-1]), kind)
    at = KEY
    longest = int(np.diff(bounds).max())
    while len(places):
        ids = order[places]
        if at < longest:
            keys = _keys(text, bounds, ids, at)
        else:  # equal but for bytes 0 at the end: the shorter word comes first
            keys = (bounds[ids + 1] - bounds[ids]).astype(np.uint64)
        inner = np.lexsort((keys, groups))
        order[places], keys = ids[inner], keys[inner]
        if at >= longest:
            break
        starts = np.append(True, (groups[1:] != groups[:-1]) | (keys[1:] != keys[:-1]))
        del keys, inner, ids
        tied, groups = _ties(starts, kind)
        places = places[tied]
        at += KEY
    return order.astype(np.int64)


def _keys(text: ByteArray, bounds: IntArray, ids: AnyArray, at: int) -> AnyArray:
    """Return bytes `at` to `at` + 7 of words as big-endian numbers, filled up with zeros, (k,) uint64."""
    keys = np.zeros(len(ids), np.uint64)
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        starts, ends = bounds[some] + at, bounds[some + 1]
        part = keys[first : first + AT_ONCE]
        for byte in range(KEY):
            place = starts + byte
            inside = place < ends
            part[inside] |= text[place[inside]].astype(np.uint64) << np.uint64(8 * (KEY - 1 - byte))
    return keys


def _ties(starts: BoolArray, kind: type[np.int32] | type[np.int64]) -> tuple[AnyArray, AnyArray]:
    """Return the places in groups of two or more, and the number of the group of each.

    starts (n,) bool: whether a group begins at a place.
    """
    ends = np.append(starts[1:], True)
    tied = np.flatnonzero(~(starts & ends)).astype(kind)
    return tied, np.cumsum(starts, dtype=kind)[tied]


def repeats(text: ByteArray, bounds: IntArray, hashes: IntArray | None = None) -> tuple[IntArray, IntArray]:
    """Return the ids of words that occurred before, ascending, and the id of the first occurrence of each.

    Parameters
    ----------
    text, bounds
        n words.
    hashes : numpy.ndarray, shape (n,), int64, optional
        From `hashes_of`; computed by default.
    """
    if hashes is None:
        hashes = hashes_of(text, bounds)
    ordered = np.sort(hashes)
    none = np.zeros(0, np.int64)
    if not (ordered[1:] == ordered[:-1]).any():
        return none, none
    del ordered
    order = np.argsort(hashes, kind="stable")
    starts = np.append(True, hashes[order[1:]] != hashes[order[:-1]])
    firsts = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    ids, firsts = order[~starts], firsts[~starts]
    ascending = np.argsort(ids, kind="stable")
    ids, firsts = ids[ascending], firsts[ascending]
    same = _equal(text, bounds, ids, firsts)
    if not same.all():  # two words with one hash: compare the words of these groups themselves
        ids, firsts = _repeats_among(text, bounds, np.unique(np.concatenate([ids, firsts])))
    return ids, firsts


def _equal(text: ByteArray, bounds: IntArray, ids: IntArray, others: IntArray) -> BoolArray:
    """Return whether words are equal to others, (k,) bool."""
    lengths = np.diff(bounds)
    same: BoolArray = lengths[ids] == lengths[others]
    alike = np.flatnonzero(same)
    for first in range(0, len(alike), AT_ONCE):
        some = alike[first : first + AT_ONCE]
        (left, own), (right, _) = gather(text, bounds, ids[some]), gather(text, bounds, others[some])
        wrong = bounds_of(left != right)
        same[some] = wrong[own[1:]] == wrong[own[:-1]]
    return same


def _repeats_among(text: ByteArray, bounds: IntArray, ids: IntArray) -> tuple[IntArray, IntArray]:
    seen: dict[bytes, int] = {}
    firsts = [seen.setdefault(text[bounds[one] : bounds[one + 1]].tobytes(), one) for one in ids.tolist()]
    found = np.array(firsts, np.int64)
    again = found != ids
    return ids[again], found[again]
