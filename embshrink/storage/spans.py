"""Where the parts of a section lie that are stored end to end, such as words or coded blocks.

A file has the length of every part, and the start of every 64th. So a part is found by adding up at most 64 lengths,
and an index takes an eighth of a byte a part beside the lengths.
"""

from __future__ import annotations

import numpy as np

from embshrink.storage.arrays import StoredArray

PER_START = 64  # parts from one stored start to the next


def span_of(lengths: StoredArray, starts: StoredArray, number: int, least: int = 0) -> tuple[int, int]:
    """Return where one part begins and ends.

    Parameters
    ----------
    lengths : array_like of unsigned int, shape (n,)
        Bytes of each part, less `least`.
    starts : array_like of uint64, shape (ceil(n / 64),)
        Where every 64th part begins.
    number : int
        The part, 0 to n - 1; not checked.
    least : int
        What each part takes beside its stored length.

    Returns
    -------
    begin, end : int
        In bytes from the start of the section. A damaged file may place them anywhere: the caller checks them.
    """
    first = number - number % PER_START
    own = lengths[first : number + 1]
    group = number // PER_START
    end = int(starts[group : group + 1].item()) + int(own.sum(dtype=np.int64)) + len(own) * least
    return end - int(own[-1]) - least, end
