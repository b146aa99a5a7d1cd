"""Positions of the blocks in a stream."""

from __future__ import annotations

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.storage.arrays import IntArray, StoredArray
from embshrink.storage.spans import PER_START, span_of


def block_starts(lengths: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Return the start of every 64th block, for consecutive blocks of these lengths in bytes."""
    return (np.cumsum(lengths) - lengths)[::PER_START].astype(np.uint64)


class Blocks:
    """The positions of the blocks in a stream.

    Parameters
    ----------
    name : str
        Name of the section `data`, for messages.
    data : array_like of uint8
        The bytes of all blocks, one after the other.
    lengths : array_like of unsigned int, shape (blocks,)
        Bytes of each block, less `shortest`.
    starts : array_like of uint64
        Start of every 64th block.
    shortest : int
        Bytes of the shortest block.
    """

    def __init__(
        self, name: str, data: StoredArray, lengths: StoredArray, starts: StoredArray, shortest: int
    ) -> None:
        self.name, self.data, self.lengths, self.starts, self.shortest = name, data, lengths, starts, shortest

    def span(self, number: int) -> tuple[int, int]:
        """Return the start and the end of a block.

        Raises
        ------
        FormatError
            If the block lies outside the section.
        """
        begin, end = span_of(self.lengths, self.starts, number, self.shortest)
        if not 0 <= begin <= end <= len(self.data):
            raise self._outside(end)
        return begin, end

    def spans(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """Return the starts and the ends of blocks, two arrays (k,) int64; the block numbers are not checked.

        Raises
        ------
        FormatError
            If a block lies outside the section.
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
        """Raise FormatError unless the blocks fill the section without gaps and overlaps."""
        begins, ends = self.spans(np.arange(len(self.lengths)))
        edges = np.concatenate([[0], ends])
        if not np.array_equal(begins, edges[:-1]) or edges[-1] != len(self.data):
            raise FormatError(f"the blocks of {self.name} do not fill the section without gaps and overlaps",
                              expected=len(self.data), found=int(edges[-1]))

    def damaged(self, number: int) -> FormatError:
        """Return the error for a block that does not end where it should."""
        return FormatError(f"block {number} of {self.name} does not end where it should", hint=DAMAGED)

    def _outside(self, place: int) -> FormatError:
        return FormatError(f"a block of {self.name} lies past its end", expected=f"<= {len(self.data)}", found=place)
