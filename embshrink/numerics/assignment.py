"""Exact search for the best row of one matrix for each row of another, in blocks, on all cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import Progress, count_progress, no_progress

if TYPE_CHECKING:
    from embshrink.kernels.nearest import RoundedRows
    from embshrink.storage.arrays import FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix

TILE_ROWS, TILE_TARGETS = 1024, 512
MAX_BYTE_COLUMNS = 65_536  # with more columns, sums of products of bytes would not fit into 32 bits
UNIT_ROUNDOFF = 2.0**-24  # relative error of rounding to float32
LARGEST = 1e38  # nearly the largest float32


def best_targets(matrix: Matrix, targets: FloatArray, offsets: FloatArray | None = None, *,
                 rows: IntArray | None = None, guess: IntArray | None = None, progress: Progress = no_progress,
                 stage: str = "matching") -> tuple[IntArray, FloatArray]:
    """Find, for each row x, the target t with the largest ``x . t + offset``; the lowest id on a tie.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    targets : numpy.ndarray, shape (k, d), float32
    offsets : numpy.ndarray, shape (k,), float32, optional
        With ``-|t|^2 / 2`` the best target is the nearest by Euclidean distance. With no offsets and targets of
        length 1 it is the one of highest cosine.
    rows : numpy.ndarray of int, optional
        Use only these rows of `matrix`; they are copied a block at a time.
    guess : numpy.ndarray, shape (n,), int, optional
        A good target for each row, such as the best one in the last iteration. Good guesses save time; the result
        does not depend on them.
    progress : Progress
        Called as ``progress(stage, done, total)`` after each block of rows.
    stage : str
        Name of the stage, passed on to `progress`.

    Returns
    -------
    ids : numpy.ndarray, shape (n,), int64
    scores : numpy.ndarray, shape (n,), float32

    Notes
    -----
    There are two ways, both exact except for the rounding of float32. Where the processor multiplies bytes
    (AVX-512 VNNI or AVX-VNNI), rows and targets are rounded to bytes, and only targets that could be the best within
    the error of this rounding are compared in float32. Elsewhere, and without numba's compiler, BLAS computes all
    scores.
    """
    n, k = len(matrix) if rows is None else len(rows), len(targets)
    offsets = np.zeros(k, np.float32) if offsets is None else offsets.astype(np.float32)
    ids = np.zeros(n, np.int64)
    best = np.full(n, -np.inf, np.float32)
    match = _matcher(targets, offsets)

    def match_block(start: int, stop: int) -> None:
        block = np.ascontiguousarray(matrix[start:stop] if rows is None else matrix[rows[start:stop]])
        match(block, None if guess is None else guess[start:stop], best[start:stop], ids[start:stop])

    map_blocks(match_block, n, TILE_ROWS, count_progress(progress, stage, n))
    return ids, best


class _Matcher(Protocol):
    """Finds the best target of each row of a block."""

    def __call__(self, block: FloatArray, guess: IntArray | None, best: FloatArray, ids: IntArray) -> None:
        """Fill `best` (r,) and `ids` (r,) for a block (r, d); initially `best` is -inf and `ids` is 0."""


def _matcher(targets: FloatArray, offsets: FloatArray) -> _Matcher:
    """Return the fastest matcher for this processor."""
    from embshrink.kernels import nearest as kernels

    if kernels.multiplies_bytes() and targets.shape[1] < MAX_BYTE_COLUMNS and len(targets):
        return _Rounded(targets, offsets)
    return _Tiles(targets, offsets)


class _Tiles:
    """A matcher that multiplies a block of rows by one tile of targets after the other.

    A thread holds one tile of 1024 x 512 scores (2 MiB) at a time and finds the maxima while the tile is in the
    cache. The whole matrix of scores is never in memory.
    """

    def __init__(self, targets: FloatArray, offsets: FloatArray) -> None:
        self._offsets = offsets
        self._tiles = [np.ascontiguousarray(targets[first : first + TILE_TARGETS].T)
                       for first in range(0, len(targets), TILE_TARGETS)]

    def __call__(self, block: FloatArray, guess: IntArray | None, best: FloatArray, ids: IntArray) -> None:
        from embshrink.kernels.nearest import update_best

        buffer = np.empty(TILE_ROWS * TILE_TARGETS, np.float32)  # reused for all tiles, so that it stays in the cache
        for number, tile in enumerate(self._tiles):
            first = number * TILE_TARGETS
            scores = buffer[: len(block) * tile.shape[1]].reshape(len(block), tile.shape[1])
            np.matmul(block, tile, out=scores)
            update_best(scores, self._offsets[first : first + TILE_TARGETS], first, best, ids)


class _Rounded:
    """A matcher that rules out most targets by products of bytes with known errors, and compares the rest exactly."""

    def __init__(self, targets: FloatArray, offsets: FloatArray) -> None:
        from embshrink.kernels import nearest as kernels

        k, d = targets.shape
        self._centre = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
        # The float32 error of a score is at most errors[0] times the length of the row, plus errors[1].
        centre_length = np.linalg.norm(self._centre.astype(np.float64))
        longest = np.sqrt(np.einsum("ij,ij->i", targets, targets, dtype=np.float64).max()) + centre_length
        relative = (2 * d + 64) * UNIT_ROUNDOFF
        errors = [relative * longest, relative * (centre_length * longest + np.abs(offsets).max()) + 1e-37]
        strips, groups = -(-k // kernels.STRIP), -(-d // kernels.GROUP)
        self._targets = kernels.RoundedTargets(
            targets=np.ascontiguousarray(targets), offsets=offsets,
            strips=np.full((strips, groups, kernels.STRIP, kernels.GROUP), 128, np.uint8),
            moved=np.zeros(strips * kernels.STRIP, np.float32), scales=np.empty(strips, np.float32),
            longest=np.empty(strips, np.float32), losses=np.empty(strips, np.float32),
            errors=np.minimum(errors, LARGEST).astype(np.float32))
        kernels.round_targets(self._centre, self._targets)

    def __call__(self, block: FloatArray, guess: IntArray | None, best: FloatArray, ids: IntArray) -> None:
        from embshrink.kernels import nearest as kernels

        if guess is None:  # start from the best of a few targets
            few = slice(None, kernels.STRIP)
            with np.errstate(all="ignore"):
                guess = np.argmax(block @ self._targets.targets[few].T + self._targets.offsets[few], axis=1)
        ids[:] = guess
        kernels.match_rows(self._rounded(block), self._targets, best, ids)

    def _rounded(self, block: FloatArray) -> RoundedRows:
        """Round a block of rows to bytes."""
        from embshrink.kernels import nearest as kernels

        filled = -(-len(block) // kernels.ROWS) * kernels.ROWS
        codes = np.zeros((filled, self._targets.strips.shape[1] * kernels.GROUP), np.int8)
        rounded = kernels.RoundedRows(block, codes, *np.empty((5, len(block)), np.float32))
        kernels.round_rows(self._centre, rounded)
        return rounded
