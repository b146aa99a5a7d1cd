"""The place of a part in a section of concatenated parts, such as words or coded blocks.

A file stores the length of every part and the start of every 64th part. A part is found by adding at most 64 lengths,
and the starts take 1/8 byte per part.
"""

from __future__ import annotations

import numpy as np

from embshrink.storage.arrays import StoredArray

PER_START = 64  # parts from one stored start to the next


def span_of(lengths: StoredArray, starts: StoredArray, number: int, least: int = 0) -> tuple[int, int]:
    """Return the start and the end of a part.

    Parameters
    ----------
    lengths : array_like of unsigned int, shape (n,)
        Bytes of each part, minus `least`.
    starts : array_like of uint64, shape (ceil(n / 64),)
        Start of every 64th part, in bytes.
    number : int
        Number of the part, 0 to n - 1; not checked.
    least : int
        Bytes of each part in addition to its stored length; 0 by default.

    Returns
    -------
    begin, end : int
        In bytes from the start of the section. In a damaged file they may be out of range: the caller checks them.
    """
    first = number - number % PER_START
    own = lengths[first : number + 1]
    group = number // PER_START
    end = int(starts[group : group + 1].item()) + int(own.sum(dtype=np.int64)) + len(own) * least
    return end - int(own[-1]) - least, end
