"""Between ids and places: which id has the word at each place of a sorted list.

Ids come by frequency, places by spelling, so a list of ids costs log2(n) bits a word (`ListedIds`). Where ids need
be kept only roughly, the words of ids 63 to 126, 127 to 254, 255 to 510, ... form buckets, and inside each its ids
are dealt out anew, ascending with the places (`BucketedIds`). Then only the bucket of each place is stored. Each
bucket is twice as large as the one before, so in unary, the largest bucket first, this takes about two bits a word.
The bits are laid out as a wavelet tree of that shape (R. Grossi, A. Gupta and J. S. Vitter, "High-order
entropy-compressed text indexes", SODA 2003): level l has a bit for each place that is in none of the l largest
buckets, 1 if it is in the next one. From place p to its id:

    at each level, while the bit at p is 0: p <- rank_0(p);    where it is 1: id = first id of the bucket + rank_1(p)

with ranks counted inside the level. From an id to its place the same steps are undone by select.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.bitmap import Bitmap, encode_bits, plan_bits
from embshrink.vocabulary.sections import ErrorMaker, fitting

EXACT = 63  # ids below this are kept as they are; buckets of 64, 128, 256, ... follow


class IdOrder(ABC):
    """The id of each of n places, and the place of each id."""

    @abstractmethod
    def id_at(self, place: int) -> int:
        """Return the id of the word at `place`, 0 to n - 1."""

    @abstractmethod
    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""

    @abstractmethod
    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""

    @abstractmethod
    def check(self) -> None:
        """Raise FormatError unless each id is there once, and everything is stored as the encoder stores it."""


# ---------------------------------------------------------------- buckets


class _Bucket(NamedTuple):
    first: int  # id
    size: int


def _buckets(n: int) -> list[_Bucket]:
    """Return the buckets of n ids, largest first."""
    found, first = [], EXACT
    while first < n:
        found.append(_Bucket(first, min(first + 1, n - first)))
        first = 2 * first + 1
    return sorted(found, key=lambda bucket: -bucket.size)


def deal_by_buckets(ids: IntArray) -> tuple[IntArray, IntArray]:
    """Deal ids out anew inside their buckets.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64
        The id of each place.

    Returns
    -------
    order : numpy.ndarray, shape (n,), int64
        The old id of each new one.
    new : numpy.ndarray, shape (n,), int64
        The new id of each place.
    """
    new = ids.copy()
    for first, size in _buckets(len(ids)):
        new[(ids >= first) & (ids < first + size)] = np.arange(first, first + size)
    order = np.empty_like(new)
    order[new] = ids
    return order, new


def encode_buckets(ids: IntArray) -> dict[str, AnyArray]:
    """Lay out which bucket each place is in, for `BucketedIds`.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64
        The id of each place, ascending inside a bucket.

    Returns
    -------
    dict of str to numpy.ndarray
        ``order``, ``ranks`` : the levels' bits end to end, as `encode_bits` has them.
        ``first`` : (min(n, 63),) uint8, the ids of places that are in no bucket.
    """
    levels, rest = [np.zeros(0, np.bool_)], ids
    for first, size in _buckets(len(ids)):
        inside = (rest >= first) & (rest < first + size)
        levels.append(inside)
        rest = rest[~inside]
    order, ranks = encode_bits(np.concatenate(levels))
    return {"order": order, "ranks": ranks, "first": rest.astype(np.uint8)}


class _Level(NamedTuple):
    """One level of the wavelet tree: the bits of one bucket."""

    first: int  # id of the bucket
    size: int  # of the bucket: how many of the bits are ones
    start: int  # of its bits among all bits
    length: int  # in bits
    ones: int  # in the levels above


class BucketedIds(IdOrder):
    """Ids by the bits of `encode_buckets`.

    Parameters
    ----------
    n : int
    arrays : mapping of str to array_like
        What `encode_buckets` made, mapped or not.
    error : callable
        Makes the error where they are damaged.
    """

    def __init__(self, n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> None:
        self._error = error
        self._levels: list[_Level] = []
        start, ones, length = 0, 0, n
        for first, size in _buckets(n):
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
                raise self._error("words.ranks does not count words.order")
            if bit:
                return first + rank
            place -= rank
        found = int(self._first[place : place + 1].item())
        if found >= len(self._first):
            raise self._error("words.first names a word that is not there", expected=f"< {len(self._first)}",
                              found=found)
        return found

    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""
        if index < len(self._first):
            place, depth = self._first[:].tobytes().find(index), len(self._levels)
            if place < 0:
                raise self._error("words.first leaves a word out", expected=index)
        else:
            depth = next(i for i, level in enumerate(self._levels) if level.first <= index < level.first + level.size)
            place = self._select(self._levels[depth], index - self._levels[depth].first, 1)
        for above in reversed(self._levels[:depth]):
            place = self._select(above, place, 0)
        return place

    def _select(self, level: _Level, number: int, wanted: int) -> int:
        """Return the place inside a level of its `number`-th bit that is `wanted`."""
        before = level.ones if wanted else level.start - level.ones  # in the levels above
        place = self._bitmap.select(number + before, wanted) - level.start
        if not 0 <= place < level.length:
            raise self._error("words.ranks does not count words.order")
        return place

    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""
        packed = np.asarray(self._bitmap.bits, np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=self._total).astype(np.bool_)
        ids, rest = np.empty(self._n, np.int64), np.arange(self._n)
        for first, size, start, length, _ in self._levels:
            own = bits[start : start + length]
            if int(own.sum()) != size:
                raise self._error(f"words.order has the wrong number of words from id {first} on", expected=size,
                                  found=int(own.sum()))
            ids[rest[own]] = np.arange(first, first + size)
            rest = rest[~own]
        ids[rest] = np.asarray(self._first)
        if not np.array_equal(np.sort(ids[rest]), np.arange(len(rest))):
            raise self._error("words.first names a word twice, or one that is not there")
        return ids

    def check(self) -> None:
        """Raise FormatError unless each id is there once, ranks count bits, and no spare bit is set."""
        expected = encode_buckets(self.all())
        for name, found in (("order", self._bitmap.bits), ("ranks", self._bitmap.ranks)):
            if not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} is not what its words need")


# ---------------------------------------------------------------- lists


def encode_list(ids: IntArray) -> dict[str, AnyArray]:
    """Lay out the id of each place, for `ListedIds`.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64

    Returns
    -------
    dict of str to numpy.ndarray
        ``ids`` : (ceil(n * b / 8),) uint8, n numbers of the b bits that n - 1 needs, the lowest bit first.
    """
    bits = ids[:, None] >> np.arange(_width(len(ids))) & 1
    return {"ids": np.packbits(bits.astype(np.bool_).ravel(), bitorder="little")}


def _width(n: int) -> int:
    return max(0, n - 1).bit_length()


class ListedIds(IdOrder):
    """Ids by the numbers of `encode_list`.

    Parameters
    ----------
    n : int
    arrays : mapping of str to array_like
        What `encode_list` made, mapped or not.
    error : callable
        Makes the error where they are damaged.
    """

    def __init__(self, n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> None:
        self._n, self._width, self._error = n, _width(n), error
        self._bits = fitting(arrays, "ids", np.uint8, -(-n * self._width // 8), error)
        self._places: IntArray | None = None  # of each id, from the first time on that one is asked for

    def id_at(self, place: int) -> int:
        """Return the id of the word at `place`, 0 to n - 1."""
        start = place * self._width
        chunk = int.from_bytes(self._bits[start // 8 : (start + self._width + 7) // 8].tobytes(), "little")
        found = chunk >> start % 8 & (1 << self._width) - 1
        if found >= self._n:
            raise self._error("words.ids names a word that is not there", expected=f"< {self._n}", found=found)
        return found

    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""
        if self._places is None:
            places = np.empty(self._n, np.int64)
            places[self.all()] = np.arange(self._n)
            self._places = places
        return int(self._places[index])

    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""
        bits = np.unpackbits(np.asarray(self._bits, np.uint8), bitorder="little", count=self._n * self._width)
        ids = np.zeros(self._n, np.int64)
        for place, column in enumerate(bits.reshape(self._n, self._width).T):
            ids |= column.astype(np.int64) << place
        if int(ids.max(initial=0)) >= max(1, self._n) or (np.bincount(ids, minlength=self._n) != 1).any():
            raise self._error("words.ids names a word twice, or one that is not there")
        return ids

    def check(self) -> None:
        """Raise FormatError unless each id is there once, and no spare bit is set."""
        if not np.array_equal(np.asarray(self._bits), encode_list(self.all())["ids"]):
            raise self._error("words.ids has spare bits that are set")
