"""Words drawn from a table with their nearest neighbours: searched once, then compared with many tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.evaluation import QUERIES
from embshrink.evaluation.neighbours import neighbours_of_words, rows_at_once
from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import DoubleArray, IntArray

FEW_QUERIES = 400  # however large the table
# The time of searches and of a run with ecq, in units of one product of two numbers in a search.
SEARCHES = 2  # of each word: before and after
SELECTING = 16  # per row: to keep the nearest ones
RUN = 16_000  # per number: to read, encode, write and compare it
RUN_ROWS = 1_000_000  # added to those of the table: fitting takes as long as 200,000, and seconds matter little below
SHARE = 0.1  # of the time of a run that searches may take


@dataclass(frozen=True)
class NeighbourSample:
    """Words drawn at random from a table, and their nearest neighbours in it.

    Words with equal vectors count once: they would be each other's nearest neighbours in every table, however bad.

    Parameters
    ----------
    ids : numpy.ndarray, shape (m,), int64
        Ids of the words that can be neighbours, ascending: the first of each distinct vector.
    asked : numpy.ndarray, shape (q,), int64
        Places in `ids` of the words drawn, ascending.
    nearest : numpy.ndarray, shape (q, count), int64
        Places in `ids` of their nearest neighbours, best first; of equals the lower place.
    """

    ids: IntArray
    asked: IntArray
    nearest: IntArray


def sample_neighbours(
    table: LookupTable, ids: IntArray, *, queries: int, count: int, seed: int = 0, progress: Progress = no_progress
) -> NeighbourSample:
    """Draw words of a table and search their nearest neighbours.

    Parameters
    ----------
    table : LookupTable
    ids : numpy.ndarray, shape (n,), int64
        The words that can be drawn and be neighbours, ascending.
    queries : int
        Words to draw; all where there are fewer.
    count : int
        Neighbours of each; all others where there are fewer.
    seed : int
        Of the draw.
    progress : callable
        ``progress(stage, done, total)``.
    """
    ids = distinct_vectors(table, ids)
    asked = draw(len(ids), queries, seed)
    return NeighbourSample(ids, asked, neighbours_of_words(table, ids, asked, min(count, len(ids) - 1), progress))


def queries_of(n: int, dim: int) -> int:
    """Return how many of n words to draw: enough for a standard error of at most .005, fewer in very large tables.

    The share of a word's ten nearest neighbours that stay has a standard deviation of at most about .2, so that 1,600
    words are enough. Where their search would take more than a tenth of the run, fewer are drawn. Both times follow
    from the shape of the table, not from a clock, so that the same input gives the same bytes:

        searches of one word  =  SEARCHES n (dim + SELECTING)
        run                   =  RUN (n + RUN_ROWS) dim
    """
    affordable = SHARE * RUN * (n + RUN_ROWS) * dim / (SEARCHES * max(n, 1) * (dim + SELECTING))
    return int(min(max(affordable, FEW_QUERIES), QUERIES))


def draw(n: int, count: int, seed: int) -> IntArray:
    """Return `count` of ``range(n)``, or all, ascending."""
    if count >= n:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def distinct_vectors(table: LookupTable, ids: IntArray) -> IntArray:
    """Return the first of these ids for each distinct vector, in their order.

    Rows are told apart by their products with two random vectors, in float64 and a fixed order of summation.
    """
    keys = np.empty((len(ids), 2))
    random = np.random.default_rng(0).standard_normal((2, table.vector_size))

    def project(start: int, stop: int) -> None:
        found: DoubleArray = np.einsum("ij,kj->ik", table.decode_ids(ids[start:stop]).astype(np.float64), random)
        keys[start:stop] = found

    map_blocks(project, len(ids), rows_at_once(table))
    firsts = np.unique(keys.view(np.complex128).ravel(), return_index=True)[1]
    return ids[np.sort(firsts)]
