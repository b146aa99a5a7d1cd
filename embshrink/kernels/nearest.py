"""The best column of each row, over tiles of a score matrix."""

from __future__ import annotations

import numpy as np

from embshrink.kernels import FAST, kernel

# Scores are finite here, and only with nnan does the compiler turn a maximum into SIMD.
_FINITE = FAST | {"nnan"}


@kernel(fastmath=_FINITE)
def update_best(scores, offsets, first, best, ids):
    """Let a tile compete: scores (r, c) + offsets (c,) float32 against best (r,); ids (r,) int64 get first + column.

    Keeps what was there on a tie, so tiles in ascending order give the lowest id.
    """
    columns = scores.shape[1]
    for i in range(scores.shape[0]):
        row = scores[i]
        top = np.float32(-3e38)
        for j in range(columns):
            value = row[j] + offsets[j]
            top = value if value > top else top
        if top > best[i]:
            best[i] = top
            for j in range(columns):
                if row[j] + offsets[j] == top:
                    ids[i] = first + j
                    break
