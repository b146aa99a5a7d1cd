"""The best column of each row, over tiles of a score matrix."""

from __future__ import annotations

from embshrink.kernels import FAST, kernel

RUN = 128  # columns passed over at once if none of them is better


@kernel(fastmath=FAST)
def update_best(scores, offsets, first, best, ids):
    """Let a tile compete: scores (r, c) + offsets (c,) float32 against best (r,); ids (r,) int64 get first + column.

    Keeps what was there on a tie, so tiles in ascending order give the lowest id.
    """
    for i in range(scores.shape[0]):
        limit = best[i]
        for start in range(0, scores.shape[1], RUN):
            run = scores[i, start : start + RUN]
            offset = offsets[start : start + RUN]
            better = False
            for j in range(len(run)):
                better |= run[j] + offset[j] > limit
            if better:
                for j in range(len(run)):
                    if run[j] + offset[j] > limit:
                        limit = run[j] + offset[j]
                        ids[i] = first + start + j
        best[i] = limit
