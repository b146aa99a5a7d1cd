"""Choice of the rows that represent all rows best: facility location on a graph of nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.numerics import kmeans as clustering
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.assignment import best_targets
from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import Progress, count_progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray

EXACT_ROWS = 20_000  # up to this many rows, every pair is compared
PROBES = 16  # clusters in which neighbours are searched
TILE = 2048  # rows, and candidates, of one matrix product
SAMPLE = 64  # rows per coarse cluster, from which the clusters are learned


def neighbour_graph(matrix: FloatArray, k: int, rng: np.random.Generator, *,
                    progress: Progress = no_progress) -> tuple[IntArray, FloatArray]:
    """Find the nearest neighbours of each row by cosine similarity.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    k : int
        Number of neighbours.
    rng : numpy.random.Generator
    progress : Progress

    Returns
    -------
    ids : numpy.ndarray, shape (n, k), int64
        Best first, without the row itself; filled up with -1 if there are fewer than k.
    cosines : numpy.ndarray, shape (n, k), float32
        Filled up with -inf or the lowest float32 if there are fewer than k.

    Notes
    -----
    The search is exact up to 20,000 rows. For more rows, there are about sqrt(n) clusters, and the neighbours of a
    row are searched in its own and the 15 nearest clusters: a few neighbours are missed, and time grows as n^1.5.
    """
    n = len(matrix)
    units = unit_rows(matrix)
    members, probed = _coarse_clusters(units, rng)
    ids = np.full((n, k), -1, np.int64)
    cosines = np.full((n, k), -np.inf, np.float32)

    def search(first: int, last: int) -> None:
        for cluster in range(first, last):
            candidates = np.sort(np.concatenate([members[other] for other in probed[cluster]]))
            for start in range(0, len(members[cluster]), TILE):
                rows = members[cluster][start : start + TILE]
                ids[rows], cosines[rows] = _nearest_candidates(units, rows, candidates, k)

    map_blocks(search, len(members), 1, count_progress(progress, "finding neighbours", len(members)))
    return ids, cosines


def _coarse_clusters(units: FloatArray, rng: np.random.Generator) -> tuple[list[IntArray], IntArray]:
    """Return the rows of each cluster, ascending, and the clusters to search for the neighbours of each, (c, p).

    For few rows there is only one cluster, so the search is exact.
    """
    n = len(units)
    if n <= EXACT_ROWS:
        return [np.arange(n, dtype=np.int64)], np.zeros((1, 1), np.int64)
    count = int(np.sqrt(n))
    sample = units[np.sort(rng.choice(n, min(n, SAMPLE * count), replace=False))]
    centres, _ = clustering.kmeans(sample, count, rng, init="random", iterations=6, spherical=True)
    labels = best_targets(units, centres)[0]
    members: list[IntArray] = [np.flatnonzero(labels == c) for c in range(count)]
    return members, np.argsort(-(centres @ centres.T), axis=1, kind="stable")[:, :PROBES]


def _nearest_candidates(units: FloatArray, rows: IntArray, candidates: IntArray,
                        k: int) -> tuple[IntArray, FloatArray]:
    """Return the k candidates of highest cosine to each of some rows, without the row itself, and the cosines."""
    from embshrink.kernels.top import keep_top

    best = np.full((len(rows), k + 1), np.finfo(np.float32).min)  # one more, because the row itself is a candidate
    found = np.full((len(rows), k + 1), -1, np.int64)
    for low in range(0, len(candidates), TILE):
        products = units[rows] @ units[candidates[low : low + TILE]].T
        keep_top(products, np.arange(len(rows))[:, None], np.ones(1, np.float32), low, best, found)
    filled = found >= 0
    found[filled] = candidates[found[filled]]
    itself = found == rows[:, None]
    # If k + 1 equal rows come before the row itself, it was not found: drop the last one instead.
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(-1, k), best[~itself].reshape(-1, k)


def facility_location(matrix: FloatArray, count: int, weights: DoubleArray, rng: np.random.Generator, *,
                      fixed: Sequence[int] | IntArray = (), neighbours: int = 32,
                      progress: Progress = no_progress) -> IntArray:
    """Choose rows j greedily so that ``sum_i w_i max_j cos(i, j)`` is large.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    count : int
        Number of rows to choose, including the fixed ones.
    weights : numpy.ndarray, shape (n,), float64
        Weight w_i of each row.
    rng : numpy.random.Generator
    fixed : sequence of int
        Rows that are always chosen.
    neighbours : int
        A row represents only rows that have it among their `neighbours` nearest neighbours.
    progress : Progress

    Returns
    -------
    numpy.ndarray of int, shape (count,)
        The chosen rows, ascending.

    Notes
    -----
    The function is monotone and submodular, so the greedy choice reaches at least 1 - 1/e of the optimum (Nemhauser,
    Wolsey and Fisher 1978). Negative cosines, and those of pairs outside the graph, count as 0.
    """
    from embshrink.kernels.facility import choose_greedily, reverse_graph

    n = len(matrix)
    ids, cosines = neighbour_graph(matrix, min(neighbours, n - 1), rng, progress=progress)
    ids[cosines <= 0] = -1
    starts = np.empty(n + 1, np.int64)
    edges = int(np.count_nonzero(ids >= 0))
    sources, scores = np.empty(edges, np.int64), np.empty(edges, np.float32)
    reverse_graph(ids, cosines, starts, sources, scores)
    del ids, cosines
    served = np.zeros(n)
    taken = np.zeros(n, bool)
    for j in fixed:
        taken[j] = True
        served[j] = 1
        edges_of_j = slice(starts[j], starts[j + 1])
        served[sources[edges_of_j]] = np.maximum(served[sources[edges_of_j]], scores[edges_of_j])
    chosen = np.empty(count - len(fixed), np.int64)
    progress("choosing", 0, 1)
    choose_greedily(starts, sources, scores, weights, served, taken, chosen)
    progress("choosing", 1, 1)
    return np.sort(np.concatenate([np.asarray(fixed, np.int64), chosen]))


def polish_medoids(matrix: FloatArray, kept: IntArray, match: IntArray, weights: AnyArray,
                   fixed: Sequence[int] | IntArray) -> IntArray:
    """Replace each kept row by the medoid of its cluster: the row of largest weighted sum of cosines to the others.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    kept : numpy.ndarray of int, shape (k,)
    match : numpy.ndarray of int, shape (n,)
        Index into `kept` of the nearest kept row of each row.
    weights : numpy.ndarray, shape (n,)
        Weight of each row.
    fixed : sequence of int
        Kept rows that must stay.

    Returns
    -------
    numpy.ndarray of int, shape (k,)
        The new kept rows, ascending. The weighted sum of cosines of all rows to their kept row does not decrease.
    """
    order = np.argsort(match, kind="stable")
    bounds = np.searchsorted(match[order], np.arange(len(kept) + 1))
    medoids = kept.copy()
    stay = np.isin(kept, fixed)

    def move(first: int, last: int) -> None:
        for c in range(first, last):
            members = order[bounds[c] : bounds[c + 1]]
            if stay[c] or len(members) < 2:
                continue
            units = unit_rows(matrix[members])
            weighted_sum = (weights[members].astype(np.float64)[:, None] * units).sum(axis=0)
            sums = units @ weighted_sum  # weighted sum of each member's cosines to all members
            best = int(np.argmax(sums))
            place = np.flatnonzero(members == kept[c])
            if not len(place) or sums[best] > sums[place[0]] * (1 + 1e-6):
                medoids[c] = members[best]

    map_blocks(move, len(kept), 256)
    return np.sort(medoids)
