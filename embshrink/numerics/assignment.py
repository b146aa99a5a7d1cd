"""For each row of one matrix, the best row of another: exact, in blocks, on all cores."""

from __future__ import annotations

import numpy as np

from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import no_progress

ROWS = 1024
TARGETS = 512
MOST_COLUMNS = 65_536  # with more, sums of products of bytes would not fit 32 bits
UNIT = 2.0**-24  # what float32 may lose in rounding 1
LARGEST = 1e38  # of float32, all but


def best_targets(matrix, targets, offsets=None, *, rows=None, guess=None, progress=no_progress, stage="matching"):
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
    guess : numpy.ndarray, shape (n,), int, optional
        Targets that are good, if not the best: they save time, and change nothing else.
    progress, stage
        Reported per block of rows.

    Returns
    -------
    ids : numpy.ndarray, shape (n,), int64
    scores : numpy.ndarray, shape (n,), float32

    Notes
    -----
    Two ways, both exact but for float32's rounding. Where the processor multiplies bytes (AVX-512 VNNI or AVX-VNNI),
    rows and targets are rounded to bytes, and only targets that by what rounding may lose could be the best are
    compared in full. Elsewhere, and without compiling, all scores are computed, by BLAS.
    """
    n, k = len(matrix) if rows is None else len(rows), len(targets)
    offsets = np.zeros(k, np.float32) if offsets is None else offsets.astype(np.float32)
    ids = np.zeros(n, np.int64)
    best = np.full(n, -np.inf, np.float32)
    match = _matcher(targets, offsets)

    def work(start, stop):
        block = matrix[start:stop] if rows is None else matrix[rows[start:stop]]
        block = np.ascontiguousarray(block)
        match(block, None if guess is None else guess[start:stop], best[start:stop], ids[start:stop])

    done = 0

    def report(rows):
        nonlocal done
        done += rows
        progress(stage, done, n)

    map_blocks(work, n, ROWS, report)
    return ids, best


def _matcher(targets, offsets):
    """Return what finds the best targets of a block of rows: the fastest way that this processor has."""
    from embshrink.kernels import nearest as kernels

    if kernels.multiplies_bytes() and targets.shape[1] < MOST_COLUMNS and len(targets):
        return _Rounded(targets, offsets)
    return _Tiles(targets, offsets)


class _Tiles:
    """Targets in tiles, each multiplied with a block of rows.

    A thread holds one tile of 1024 x 512 scores, 2 MiB, and looks for the maximum while it is in the cache: a whole
    score matrix is never there.
    """

    def __init__(self, targets, offsets):
        self._offsets = offsets
        self._tiles = [np.ascontiguousarray(targets[first : first + TARGETS].T)
                       for first in range(0, len(targets), TARGETS)]

    def __call__(self, block, guess, best, ids):
        from embshrink.kernels.nearest import update_best

        room = np.empty(ROWS * TARGETS, np.float32)  # the same for all tiles, so that it stays in the cache
        for number, tile in enumerate(self._tiles):
            first = number * TARGETS
            scores = room[: len(block) * tile.shape[1]].reshape(len(block), tile.shape[1])
            np.matmul(block, tile, out=scores)
            update_best(scores, self._offsets[first : first + TARGETS], first, best, ids)


class _Rounded:
    """Targets as bytes, of which the error is known: most are ruled out by them, the others are compared in full."""

    def __init__(self, targets, offsets):
        from embshrink.kernels import nearest as kernels

        k, d = targets.shape
        strips, groups = -(-k // kernels.STRIP), -(-d // kernels.GROUP)
        self._targets, self._offsets = np.ascontiguousarray(targets), offsets
        self._centre = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._strips = np.full((strips, groups, kernels.STRIP, kernels.GROUP), 128, np.uint8)
        self._moved = np.zeros(strips * kernels.STRIP, np.float32)
        self._about = np.empty((strips, 3), np.float32)
        kernels.round_targets(self._targets, offsets, self._centre, self._strips, self._moved, self._about)
        # What float32 may lose in a score: for each unit of a row's length, and beside it.
        away = np.linalg.norm(self._centre.astype(np.float64))
        reach = np.sqrt(np.einsum("ij,ij->i", targets, targets, dtype=np.float64).max()) + away
        lost = (2 * d + 64) * UNIT
        errors = [lost * reach, lost * (away * reach + np.abs(offsets).max()) + 1e-37]
        self._errors = np.minimum(errors, LARGEST).astype(np.float32)

    def __call__(self, block, guess, best, ids):
        from embshrink.kernels import nearest as kernels

        if guess is None:
            few = slice(None, kernels.STRIP)
            with np.errstate(all="ignore"):
                guess = np.argmax(block @ self._targets[few].T + self._offsets[few], axis=1)
        ids[:] = guess
        filled = -(-len(block) // kernels.ROWS) * kernels.ROWS
        codes = np.zeros((filled, self._strips.shape[1] * kernels.GROUP), np.int8)
        about = np.empty((5, len(block)), np.float32)
        kernels.round_rows(block, self._centre, codes, about)
        kernels.match_rows(block, codes, about, self._targets, self._offsets, self._strips, self._moved, self._about,
                           self._errors, best, ids)
