"""Ids kept to their power of two. Read only: the first versions of embshrink wrote such files.

The words of ids 63 to 126, 127 to 254, 255 to 510, ... form buckets, and the ids of a bucket are in the order of the
places. Only the bucket of each place is stored. Each bucket is twice as large as the one before it, so in unary, the
largest bucket first, this takes about two bits per word. The bits form a wavelet tree of that shape (R. Grossi, A.
Gupta and J. S. Vitter, "High-order entropy-compressed text indexes", SODA 2003): level l has a bit for each place
that is in none of the l largest buckets, 1 if it is in the next one. From place p to its id:

    at each level, while the bit at p is 0: p <- rank_0(p);    where it is 1: id = first id of the bucket + rank_1(p)

with ranks counted within the level. From an id to its place, select inverts the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.bitmap import Bitmap, encode_bits, plan_bits
from embshrink.vocabulary.id_order import IdOrder
from embshrink.vocabulary.sections import ErrorMaker, fitting

EXACT = 63  # ids below this are kept; buckets of 64, 128, 256, ... ids follow


class _Bucket(NamedTuple):
    first: int  # id
    size: int


def _octaves(n: int) -> list[_Bucket]:
    """Return the buckets of n ids, largest first."""
    found, first = [], EXACT
    while first < n:
        found.append(_Bucket(first, min(first + 1, n - first)))
        first = 2 * first + 1
    return sorted(found, key=lambda bucket: -bucket.size)


def encode_octaves(ids: IntArray) -> dict[str, AnyArray]:
    """Encode the bucket of each place, for `OctaveIds`.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64
        The id of each place, ascending within a bucket.

    Returns
    -------
    dict of str to numpy.ndarray
        ``order``, ``ranks`` : the bits of all levels, concatenated, as from `encode_bits`.
        ``first`` : (min(n, 63),) uint8, the ids of places in no bucket.
    """
    levels, rest = [np.zeros(0, np.bool_)], ids
    for first, size in _octaves(len(ids)):
        inside = (rest >= first) & (rest < first + size)
        levels.append(inside)
        rest = rest[~inside]
    order, ranks = encode_bits(np.concatenate(levels))
    return {"order": order, "ranks": ranks, "first": rest.astype(np.uint8)}


class _Level(NamedTuple):
    """One level of the wavelet tree: the bits of one bucket."""

    first: int  # first id of the bucket
    size: int  # of the bucket: number of ones among the bits
    start: int  # of its bits among all bits
    length: int  # number of bits
    ones: int  # number of ones in the levels above


class OctaveIds(IdOrder):
    """Ids from the bits of `encode_octaves`.

    Parameters
    ----------
    n : int
        Number of words.
    arrays : mapping of str to array_like
        The arrays of `encode_octaves`, mapped or not.
    error : callable
        Makes the error for damage.
    """

    def __init__(self, n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> None:
        self._error = error
        self._levels: list[_Level] = []
        start, ones, length = 0, 0, n
        for first, size in _octaves(n):
            self._levels.append(_Level(first, size, start, length, ones))
            start, ones, length = start + length, ones + size, length - size
        self._n, self._total = n, start
        bits, ranks = (fitting(arrays, name, dtype, size, error)
                       for name, (dtype, (size,)) in plan_bits(start, "order", "ranks").items())
        self._bitmap = Bitmap(bits, ranks)
        self._first = fitting(arrays, "first", np.uint8, length, error)

    def id_at(self, place: int) -> int:
        """Return the id of the word at `place`, 0 to n - 1."""
        rank_of = self._bitmap.rank
        for first, size, start, length, ones in self._levels:
            rank, bit = rank_of(start + place)
            rank -= ones
            if not (0 <= rank < size if bit else 0 <= place - rank < length - size):
                raise self._error("words.ranks does not match words.order")
            if bit:
                return first + rank
            place -= rank
        found = int(self._first[place : place + 1].item())
        if found >= len(self._first):
            raise self._error("words.first refers to a word that does not exist", expected=f"< {len(self._first)}",
                              found=found)
        return found

    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""
        if index < len(self._first):
            place, depth = self._first[:].tobytes().find(index), len(self._levels)
            if place < 0:
                raise self._error("an id is missing in words.first", expected=index)
        else:
            depth = next(i for i, level in enumerate(self._levels) if level.first <= index < level.first + level.size)
            place = self._select(self._levels[depth], index - self._levels[depth].first, 1)
        for above in reversed(self._levels[:depth]):
            place = self._select(above, place, 0)
        return place

    def _select(self, level: _Level, number: int, wanted: int) -> int:
        """Return the place within a level of its `number`-th bit that equals `wanted`."""
        before = level.ones if wanted else level.start - level.ones  # in the levels above
        place = self._bitmap.select(number + before, wanted) - level.start
        if not 0 <= place < level.length:
            raise self._error("words.ranks does not match words.order")
        return place

    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""
        packed = np.asarray(self._bitmap.bits, np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=self._total).astype(np.bool_)
        ids, rest = np.empty(self._n, np.int64), np.arange(self._n)
        for first, size, start, length, _ in self._levels:
            own = bits[start : start + length]
            if int(own.sum()) != size:
                raise self._error(f"words.order has the wrong number of words in the bucket of id {first}",
                                  expected=size, found=int(own.sum()))
            ids[rest[own]] = np.arange(first, first + size)
            rest = rest[~own]
        ids[rest] = np.asarray(self._first)
        if not np.array_equal(np.sort(ids[rest]), np.arange(len(rest))):
            raise self._error("words.first refers to a word twice, or to a word that does not exist")
        return ids

    def check(self) -> None:
        """Raise FormatError unless each id occurs exactly once, ranks match the bits, and no spare bit is set."""
        expected = encode_octaves(self.all())
        for name, found in (("order", self._bitmap.bits), ("ranks", self._bitmap.ranks)):
            if not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} does not match the words")
