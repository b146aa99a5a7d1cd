"""Reading of rows of the word2vec binary format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embshrink.kernels import kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import ByteArray, IntArray

INCOMPLETE, LONG_WORD, NO_NEWLINE, NEWLINE_IN_WORD = range(4)


@kernel
def read_rows(data: ByteArray, start: int, stop: int, last: bool, newline: bool, refuse: bool, longest: int,
              out: ByteArray, starts: IntArray, lengths: IntArray, words: ByteArray) -> tuple[int, int, int, int]:
    """Read rows: a word, a space, the bytes of its numbers, and a newline if `newline` is true.

    data : (bytes,) uint8; the rows are in ``data[start:stop]``
    last : whether no more data follows, so that the newline of the last row may be missing
    refuse : whether to stop at a word that begins with a newline
    longest : maximum bytes of a word
    out : (rows, width) uint8, the bytes of the numbers
    starts : (rows,) int64, start of each row
    lengths : (rows,) int64, bytes of each word
    words : (stop - start,) uint8, the words, concatenated
    Returns the number of rows read, the number of bytes used in `words`, the start of the next row, and the reason
    why it was not read.
    """
    rows, width = out.shape
    i = start
    written = 0
    for row in range(rows):
        if refuse and i < stop and data[i] == 10:
            return row, written, i, NEWLINE_IN_WORD
        space = i
        bound = min(stop, i + longest + 1)
        while space < bound and data[space] != 32:
            space += 1
        if space == bound and bound < stop:
            return row, written, i, LONG_WORD
        end = space + 1 + width
        if end > stop or (newline and end == stop and not last):
            return row, written, i, INCOMPLETE
        if newline and end < stop and data[end] != 10:
            return row, written, i, NO_NEWLINE
        starts[row] = i
        lengths[row] = space - i
        for j in range(i, space):
            words[written] = data[j]
            written += 1
        numbers = data[space + 1 : end]  # indices into a slice are known not to be negative, which allows SIMD
        for j in range(width):
            out[row, j] = numbers[j]
        i = end + 1 if newline and end < stop else end
    return rows, written, i, INCOMPLETE
