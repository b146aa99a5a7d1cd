"""Ids kept approximately: exact for the first 4,096 words, then within buckets an eighth of an octave wide.

The buckets begin at ids 4096 * 2^(k / 8), rounded down. Inside a bucket ids ascend with the places, so that only the
bucket of each place is stored: about five bits per word. The first 4,096 ids are a bucket too, whose ids are listed.

The buckets are laid out as a wavelet tree (R. Grossi, A. Gupta and J. S. Vitter, "High-order entropy-compressed text
indexes", SODA 2003). A node holds some successive buckets, and a bit for each place whose id is in one of them: 1 if
the id is in its right part. The parts are as nearly equal in size as whole buckets allow. From place p to its id:

    from the root down, to the left p <- rank_0(p), to the right p <- rank_1(p);    id = first id of the bucket + p

with ranks counted inside the node. From an id to its place the same steps are undone by select.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.bitmap import Bitmap, encode_bits, plan_bits
from embshrink.vocabulary.id_order import IdOrder
from embshrink.vocabulary.numbers import pack_numbers, packed_bytes, unpack_numbers, width_of
from embshrink.vocabulary.sections import ErrorMaker, fitting

EXACT_IDS = 4096
OCTAVE = (4096, 4466, 4870, 5311, 5792, 6316, 6888, 7512)  # where buckets begin; all others are these, doubled


def borders(n: int) -> list[int]:
    """Return where the buckets of n ids begin, and n.

    Examples
    --------
    >>> borders(100), borders(5000), borders(8193)[-3:]
    ([0, 100], [0, 4096, 4466, 4870, 5000], [7512, 8192, 8193])
    """
    found, octave = [0], list(OCTAVE)
    while octave[0] < n:
        found += [first for first in octave if first < n]
        octave = [2 * first for first in octave]
    return [*found, n] if n else [0]


class Node(NamedTuple):
    """A node of the tree, which holds the ids from `first` to `stop`, those from `split` on in its right part."""

    first: int
    split: int
    stop: int
    start: int  # of its bits among all bits
    ones: int  # before them


def nodes(n: int) -> Iterator[Node]:
    """Yield the nodes of the tree of n ids, each before its left part, and that before its right part."""
    start = ones = 0
    ends = borders(n)
    spans = [(0, len(ends) - 1)]
    while spans:
        low, high = spans.pop()
        if high - low < 2:
            continue
        middle = min(range(low + 1, high), key=lambda at: abs(ends[high] + ends[low] - 2 * ends[at]))
        node = Node(ends[low], ends[middle], ends[high], start, ones)
        start, ones = start + node.stop - node.first, ones + node.stop - node.split
        spans += [(middle, high), (low, middle)]
        yield node


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
    ends = np.array(borders(len(ids)))
    places = np.empty_like(ids)
    places[ids] = np.arange(len(ids))
    order = np.arange(len(ids))
    for first, stop in zip(ends[1:-1].tolist(), ends[2:].tolist()):  # all but the first, which is exact
        order[first:stop] = ids[np.sort(places[first:stop])]
    new = np.empty_like(ids)
    new[places[order]] = np.arange(len(ids))
    return order, new


def encode_tree(ids: IntArray) -> dict[str, AnyArray]:
    """Lay out which bucket each place is in, for `TreeIds`.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64
        The id of each place, ascending inside a bucket but the first.

    Returns
    -------
    dict of str to numpy.ndarray
        ``tree``, ``ranks`` : the nodes' bits end to end, as `encode_bits` has them.
        ``first`` : uint8, the ids of the first bucket by place, packed, of the bits that the largest needs.
    """
    bits = [np.zeros(0, np.bool_)]
    for node in nodes(len(ids)):
        inside = ids[(ids >= node.first) & (ids < node.stop)]
        bits.append(inside >= node.split)
    tree, ranks = encode_bits(np.concatenate(bits))
    first = ids[ids < EXACT_IDS]
    return {"tree": tree, "ranks": ranks, "first": pack_numbers(first, width_of(len(first)))}


class TreeIds(IdOrder):
    """Ids by the tree of `encode_tree`.

    Parameters
    ----------
    n : int
    arrays : mapping of str to array_like
        What `encode_tree` made, mapped or not.
    error : callable
        Makes the error where they are damaged.
    """

    exact = EXACT_IDS

    def __init__(self, n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> None:
        self._n, self._error = n, error
        self._nodes = list(nodes(n))
        self._total = sum(node.stop - node.first for node in self._nodes)
        bits, ranks = (fitting(arrays, name, dtype, size, error)
                       for name, (dtype, (size,)) in plan_bits(self._total, "tree", "ranks").items())
        self._bitmap = Bitmap(bits, ranks)
        self._exact = min(n, EXACT_IDS)
        self._width = width_of(self._exact)
        self._packed = fitting(arrays, "first", np.uint8, packed_bytes(self._exact, self._width), error)

    @functools.cached_property
    def _first(self) -> list[int]:
        """The ids of the first bucket, by place."""
        ids = unpack_numbers(self._packed, self._exact, self._width)
        if not np.array_equal(np.sort(ids), np.arange(self._exact)):
            raise self._error("words.first refers to a word twice, or to one that does not exist")
        listed: list[int] = ids.tolist()
        return listed

    @functools.cached_property
    def _by_span(self) -> dict[tuple[int, int], Node]:
        return {(node.first, node.stop): node for node in self._nodes}

    def id_at(self, place: int) -> int:
        """Return the id of the word at `place`, 0 to n - 1."""
        first, stop = 0, self._n
        while node := self._by_span.get((first, stop)):
            ones, bit = self._bitmap.rank(node.start + place)
            ones -= node.ones
            place = ones if bit else place - ones
            first, stop = (node.split, stop) if bit else (first, node.split)
            if not 0 <= place < stop - first:
                raise self._error("words.ranks does not match words.tree")
        return first + place if first else self._first[place]

    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""
        path, first, stop = [], 0, self._n
        while node := self._by_span.get((first, stop)):
            path.append(node)
            first, stop = (node.split, stop) if index >= node.split else (first, node.split)
        place = index - first if first else self._first.index(index)
        for node in reversed(path):
            right = index >= node.split
            before = node.ones if right else node.start - node.ones
            place = self._bitmap.select(place + before, int(right)) - node.start
            if not 0 <= place < node.stop - node.first:
                raise self._error("words.ranks does not match words.tree")
        return place

    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""
        packed = np.asarray(self._bitmap.bits, np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=self._total).astype(np.bool_)
        ids, waiting = np.empty(self._n, np.int64), {(0, self._n): np.arange(self._n)}
        for node in self._nodes:
            places = waiting.pop((node.first, node.stop))
            right = bits[node.start : node.start + len(places)]
            if int(right.sum()) != node.stop - node.split:
                raise self._error(f"words.tree has the wrong number of words from id {node.split} on",
                                  expected=node.stop - node.split, found=int(right.sum()))
            waiting[node.first, node.split], waiting[node.split, node.stop] = places[~right], places[right]
        for (first, stop), places in waiting.items():
            ids[places] = np.arange(first, stop) if first else self._first
        return ids

    def check(self) -> None:
        """Raise FormatError unless each id is there once, ranks count bits, and no spare bit is set."""
        expected = encode_tree(self.all())
        for name, found in (("tree", self._bitmap.bits), ("ranks", self._bitmap.ranks), ("first", self._packed)):
            if not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} does not match the words")
