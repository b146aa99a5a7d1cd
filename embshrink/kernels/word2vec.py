"""Rows of word2vec's binary format: found one after the other, then copied side by side."""

from __future__ import annotations

from embshrink.kernels import kernel

INCOMPLETE, LONG_WORD, NO_NEWLINE, NEWLINE_IN_WORD = range(4)


@kernel
def find_rows(data, start, stop, last, width, newline, refuse, longest, starts, ends):
    """Find rows: a word, a space, `width` bytes, and a newline if `newline`.

    data : (bytes,) uint8, the rows stand at start:stop
    last : nothing follows, so that the newline of the last row may be missing
    refuse : stop at a word that begins with a newline
    longest : bytes a word may have
    starts, ends : (rows,) int64; where each word begins and ends
    Returns how many rows were found, where the next one begins, and why it was not found.
    """
    i = start
    for row in range(starts.shape[0]):
        if refuse and i < stop and data[i] == 10:
            return row, i, NEWLINE_IN_WORD
        end = i
        bound = min(stop, i + longest + 1)
        while end < bound and data[end] != 32:
            end += 1
        if end == bound and bound < stop:
            return row, i, LONG_WORD
        after = end + 1 + width
        if after > stop or (newline and after == stop and not last):
            return row, i, INCOMPLETE
        starts[row] = i
        ends[row] = end
        if newline and after < stop:
            if data[after] != 10:
                return row, i, NO_NEWLINE
            after += 1
        i = after
    return starts.shape[0], i, INCOMPLETE


@kernel
def copy_rows(data, starts, out):
    """Copy ``out.shape[1]`` bytes from each start to a row of `out`; all uint8."""
    for row in range(starts.shape[0]):
        start = starts[row]
        for i in range(out.shape[1]):
            out[row, i] = data[start + i]


@kernel
def copy_words(data, starts, ends, separator, out):
    """Write the words ``data[starts[i]:ends[i]]`` to `out`, a separator after each."""
    position = 0
    for row in range(starts.shape[0]):
        for i in range(starts[row], ends[row]):
            out[position] = data[i]
            position += 1
        out[position] = separator
        position += 1
