"""The mapping between ids and places: a place is the number of a word in a sorted list.

Ids are ordered by frequency, places by spelling. There are three ways to store the mapping:

============  ==========================  ===================================================================
module        bits per word of 400,000    order of the words
============  ==========================  ===================================================================
`listed_ids`  19.6                        exact
`tree_ids`    5.4                         exact for the first 4,096 words, then within an eighth of an octave
`octave_ids`  2.4                         exact for the first 63 words, then within an octave; read only
============  ==========================  ===================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from embshrink.storage.arrays import IntArray

EXACT, APPROXIMATE = "exact", "approximate"  # what a user may ask for


class IdOrder(ABC):
    """The id of each of n places, and the place of each id.

    Attributes
    ----------
    exact : int or None
        Ids below this are those of the source; None if all are.
    """

    exact: int | None = None

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
        """Raise FormatError unless each id occurs exactly once and everything is stored as the encoder stores it."""
