"""Exact ids: the id of each place as a number of log2(n) bits, and a way back from an id to its place.

The list is a permutation of 0 to n - 1. Following it from place x to place ``ids[x]``, and so on, leads back to x
along a cycle; the last place before x is the one whose id is x. A cycle can have n places. So for every place that is
a multiple of 32, the list ``back`` holds the previous multiple of 32 on its cycle. A search for id x starts at place
x, goes on to the first multiple of 32, jumps back once, and goes on from there until it meets x: about 64 steps, no
array of n, and 0.6 bits per word. (The shortcuts of J. I. Munro, R. Raman, V. Raman and S. S. Rao, "Succinct
representations of permutations and functions", Theoretical Computer Science 438, 2012, section 2.1. There, every t-th
place of a cycle has one, and a bit says which.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, StoredArray
from embshrink.vocabulary.id_order import IdOrder
from embshrink.vocabulary.numbers import pack_numbers, packed_bytes, read_number, unpack_numbers, width_of
from embshrink.vocabulary.sections import ErrorMaker, fitting

PLACES_PER_SHORTCUT = 32
MOST_STEPS = 4096  # of one search; beyond, the places of all ids are computed
SEARCHES = 256  # after this many, the places of all ids are computed: 8 bytes per word


def encode_list(ids: IntArray) -> dict[str, AnyArray]:
    """Lay out the id of each place, for `ListedIds`.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,), int64
        A permutation of 0 to n - 1.

    Returns
    -------
    dict of str to numpy.ndarray
        ``ids`` : (ceil(n * b / 8),) uint8, n numbers of the b bits that n - 1 needs, packed.
        ``back`` : (ceil(m * b / 8),) uint8, m = ceil(n / 32) numbers of b bits, packed. The i-th is the
        previous multiple of 32 on the cycle of place 32 * i.
    """
    width = width_of(len(ids))
    return {"ids": pack_numbers(ids, width), "back": pack_numbers(_shortcuts(ids), width)}


def _shortcuts(ids: IntArray) -> IntArray:
    """Return, for every multiple of 32, the previous one on its cycle."""
    marked = np.arange(0, len(ids), PLACES_PER_SHORTCUT)
    back, at = np.empty(len(marked), np.int64), ids[marked]
    while len(marked):  # all go on at once, until each meets the next multiple
        met = at % PLACES_PER_SHORTCUT == 0
        back[at[met] // PLACES_PER_SHORTCUT] = marked[met]
        marked, at = marked[~met], ids[at[~met]]
    return back


class ListedIds(IdOrder):
    """Exact ids by the numbers of `encode_list`.

    Parameters
    ----------
    n : int
    arrays : mapping of str to array_like
        From `encode_list`, mapped or not. Without ``back``, the first search computes the places of all ids.
    error : callable
        Makes the error where they are damaged.
    """

    def __init__(self, n: int, arrays: Mapping[str, StoredArray], error: ErrorMaker) -> None:
        self._n, self._width, self._error = n, width_of(n), error
        self._bits = fitting(arrays, "ids", np.uint8, packed_bytes(n, self._width), error)
        self._back: StoredArray | None = None
        if "back" in arrays:
            count = -(-n // PLACES_PER_SHORTCUT)
            self._back = fitting(arrays, "back", np.uint8, packed_bytes(count, self._width), error)
        self._searches = 0
        self._places: IntArray | None = None  # of each id

    def id_at(self, place: int) -> int:
        """Return the id of the word at `place`, 0 to n - 1."""
        return self._read(self._bits, place, "ids")

    def _read(self, packed: StoredArray, index: int, name: str) -> int:
        found = read_number(packed, index, self._width)
        if found >= self._n:
            raise self._error(f"words.{name} refers to a word that does not exist", expected=f"< {self._n}",
                              found=found)
        return found

    def place_of(self, index: int) -> int:
        """Return the place of the word with id `index`, 0 to n - 1."""
        if self._places is None and self._back is not None and self._searches < SEARCHES:
            self._searches += 1
            place = self._follow(self._back, index)
            if place >= 0:
                return place
        if self._places is None:
            places = np.empty(self._n, np.int64)
            places[self.all()] = np.arange(self._n)
            self._places = places
        return int(self._places[index])

    def _follow(self, back: StoredArray, index: int) -> int:
        """Return the place of an id, found on its cycle; -1 if that takes too many steps."""
        place, jumped = index, False
        for _ in range(MOST_STEPS):
            if not jumped and place % PLACES_PER_SHORTCUT == 0:
                place, jumped = self._read(back, place // PLACES_PER_SHORTCUT, "back"), True
            found = self.id_at(place)
            if found == index:
                return place
            place = found
        return -1

    def all(self) -> IntArray:
        """Return the id of every place, (n,) int64."""
        ids = unpack_numbers(self._bits, self._n, self._width)
        if int(ids.max(initial=0)) >= max(1, self._n) or (np.bincount(ids, minlength=self._n) != 1).any():
            raise self._error("words.ids refers to a word twice, or to one that does not exist")
        return ids

    def check(self) -> None:
        """Raise FormatError unless each id is there once, shortcuts are right, and no spare bit is set."""
        expected = encode_list(self.all())
        for name, found in (("ids", self._bits), ("back", self._back)):
            if found is not None and not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} does not match the words")
