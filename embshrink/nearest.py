"""For each row of one matrix, the best row of another: exact, in blocks, on all cores."""

from __future__ import annotations

import numpy as np

from embshrink.methods.base import no_progress
from embshrink.parallel import map_blocks

ROWS = 512
TARGETS = 512


def best_targets(matrix, targets, offsets=None, *, rows=None, progress=no_progress, stage="matching"):
    """Return for each row x the target t with the largest ``x . t + offset``, the lowest id on a tie.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    targets : numpy.ndarray, shape (k, d), float32
    offsets : numpy.ndarray, shape (k,), float32, optional
        With ``-|t|^2 / 2`` the best target is the nearest in Euclidean distance; without, and with
        rows of length 1, the one of highest cosine.
    rows : numpy.ndarray of int, optional
        Match these rows of `matrix` only; they are copied a block at a time.
    progress, stage
        Reported per block of rows.

    Returns
    -------
    ids : numpy.ndarray, shape (n,), int64
    scores : numpy.ndarray, shape (n,), float32

    Notes
    -----
    Each thread holds one tile of 512 x 512 scores, 1 MiB, and looks for the maximum while it is in
    cache: a whole score matrix is never there.
    """
    from embshrink.kernels.nearest import update_best

    n, k = len(matrix) if rows is None else len(rows), len(targets)
    offsets = np.zeros(k, np.float32) if offsets is None else offsets.astype(np.float32)
    ids = np.zeros(n, np.int64)
    best = np.full(n, -np.inf, np.float32)
    tiles = [np.ascontiguousarray(targets[first : first + TARGETS].T) for first in range(0, k, TARGETS)]

    def work(start, stop):
        block = matrix[start:stop] if rows is None else matrix[rows[start:stop]]
        room = np.empty(ROWS * TARGETS, np.float32)  # the same for all tiles, so that it stays in the cache
        for number, tile in enumerate(tiles):
            first = number * TARGETS
            scores = room[: len(block) * tile.shape[1]].reshape(len(block), tile.shape[1])
            np.matmul(block, tile, out=scores)
            update_best(scores, offsets[first : first + TARGETS], first, best[start:stop], ids[start:stop])

    done = 0

    def report(rows):
        nonlocal done
        done += rows
        progress(stage, done, n)

    map_blocks(work, n, ROWS, report)
    return ids, best
