"""Where the blocks of a stream lie."""

from __future__ import annotations

import numpy as np

from embshrink.errors import FormatError
from embshrink.storage.arrays import IntArray, StoredArray
from embshrink.storage.spans import PER_START, span_of


def block_starts(lengths: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Return where every 64th block starts, for blocks of these lengths end to end."""
    return (np.cumsum(lengths) - lengths)[::PER_START].astype(np.uint64)


class Blocks:
    """Where each block of a stream lies.

    Parameters
    ----------
    name : str
        Of the section `data`, for messages.
    data : array_like of uint8
    lengths : array_like of unsigned int, shape (blocks,)
        How many bytes longer than the shortest each block is.
    starts : array_like of uint64
        Where every 64th block begins.
    shortest : int
        Bytes of the shortest block.
    """

    def __init__(
        self, name: str, data: StoredArray, lengths: StoredArray, starts: StoredArray, shortest: int
    ) -> None:
        self.name, self.data, self.lengths, self.starts, self.shortest = name, data, lengths, starts, shortest

    def span(self, number: int) -> tuple[int, int]:
        """Return where one block begins and ends.

        Raises
        ------
        FormatError
            If that is outside the section.
        """
        begin, end = span_of(self.lengths, self.starts, number, self.shortest)
        if not 0 <= begin <= end <= len(self.data):
            raise self._outside(end)
        return begin, end

    def spans(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """Return where blocks begin and end, two (k,) int64; that there are such numbers is not checked.

        Raises
        ------
        FormatError
            If one is outside the section.
        """
        groups, within = np.divmod(np.asarray(numbers, np.int64), PER_START)
        own, group = np.unique(groups, return_inverse=True)
        starts = np.asarray(self.starts[own], np.uint64)
        if starts.size and int(starts.max()) > len(self.data):
            raise self._outside(int(starts.max()))
        places = np.minimum(own[:, None] * PER_START + np.arange(PER_START), len(self.lengths) - 1)
        lengths: IntArray = self.lengths[places].astype(np.int64) + self.shortest
        ends = (np.cumsum(lengths, axis=1) + starts.astype(np.int64)[:, None])[group, within]
        if (ends > len(self.data)).any():
            raise self._outside(int(ends.max()))
        return ends - lengths[group, within], ends

    def check(self) -> None:
        """Raise FormatError unless the blocks fill the section, one behind the other."""
        begins, ends = self.spans(np.arange(len(self.lengths)))
        edges = np.concatenate([[0], ends])
        if not np.array_equal(begins, edges[:-1]) or edges[-1] != len(self.data):
            raise FormatError(f"the blocks of {self.name} do not lie one behind the other", expected=len(self.data),
                              found=int(edges[-1]))

    def damaged(self, number: int) -> FormatError:
        """Return the error that a block did not end where it should."""
        return FormatError(f"block {number} of {self.name} does not end where it should", hint="Get the file again.")

    def _outside(self, place: int) -> FormatError:
        return FormatError(f"a block of {self.name} lies past its end", expected=f"<= {len(self.data)}", found=place)
