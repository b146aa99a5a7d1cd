"""Which rows stand best for all: facility location on a graph of nearest neighbours."""

from __future__ import annotations

import numpy as np

from embshrink.numerics import kmeans as clustering
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import no_progress

EXACT_ROWS = 20_000  # up to here every pair is compared
PROBES = 16
TILE = 2048
SAMPLE = 64  # rows a cluster that the coarse clusters are learned on


def neighbour_graph(matrix, k, rng, *, progress=no_progress):
    """Return the nearest rows of each row by cosine.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    k : int
    rng : numpy.random.Generator
    progress : callable

    Returns
    -------
    ids : numpy.ndarray, shape (n, k), int64
        Best first, the row itself left out; -1 where there are fewer than k.
    cosines : numpy.ndarray, shape (n, k), float32

    Notes
    -----
    Exact up to 20,000 rows. Beyond, rows are put into about sqrt(n) clusters, and each looks for its neighbours in
    its own and the 15 clusters nearest to it: a few near neighbours are missed, and time grows as n^1.5.
    """
    from embshrink.kernels.top import keep_top

    n = len(matrix)
    units = unit_rows(matrix)
    if n <= EXACT_ROWS:
        members, nearest = [np.arange(n)], np.zeros((1, 1), np.int64)
    else:
        count = int(np.sqrt(n))
        sample = units[np.sort(rng.choice(n, min(n, SAMPLE * count), replace=False))]
        centres, _ = clustering.kmeans(sample, count, rng, init="random", iterations=6, spherical=True)
        labels = clustering.best_targets(units, centres)[0]
        members = [np.flatnonzero(labels == c) for c in range(count)]
        nearest = np.argsort(-(centres @ centres.T), axis=1, kind="stable")[:, :PROBES]
    ids = np.full((n, k), -1, np.int64)
    cosines = np.full((n, k), -np.inf, np.float32)

    def search(first, last):
        for c in range(first, last):
            candidates = np.sort(np.concatenate([members[other] for other in nearest[c]]))
            for start in range(0, len(members[c]), TILE):
                rows = members[c][start : start + TILE]
                best = np.full((len(rows), k + 1), np.finfo(np.float32).min)  # one more: the row itself is among them
                found = np.full((len(rows), k + 1), -1, np.int64)
                for low in range(0, len(candidates), TILE):
                    products = units[rows] @ units[candidates[low : low + TILE]].T
                    keep_top(products, np.arange(len(rows))[:, None], np.ones(1, np.float32), low, best, found)
                there = found >= 0
                found[there] = candidates[found[there]]
                itself = found == rows[:, None]
                itself[~itself.any(axis=1), -1] = True  # equal rows crowded it out: the last one goes instead
                ids[rows], cosines[rows] = found[~itself].reshape(-1, k), best[~itself].reshape(-1, k)

    done = 0

    def report(number):
        nonlocal done
        done += number
        progress("finding neighbours", done, len(members))

    map_blocks(search, len(members), 1, report)
    return ids, cosines


def facility_location(matrix, count, weights, rng, *, fixed=(), neighbours=32, progress=no_progress):
    """Choose the rows that raise ``sum_i w_i max_j cos(i, j)`` most, greedily.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    count : int
        How many to choose, the fixed ones counted.
    weights : numpy.ndarray, shape (n,), float64
    rng : numpy.random.Generator
    fixed : sequence of int
        Rows that are chosen in any case.
    neighbours : int
        A row can stand for those that count it among so many nearest.
    progress : callable

    Returns
    -------
    numpy.ndarray of int, shape (count,)
        Ascending.

    Notes
    -----
    The function is monotone and submodular, so greedy reaches 1 - 1/e of the optimum (Nemhauser, Wolsey and Fisher
    1978), with cosines below 0, and those outside the graph, counted as 0.
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
        mine = slice(starts[j], starts[j + 1])
        served[sources[mine]] = np.maximum(served[sources[mine]], scores[mine])
    chosen = np.empty(count - len(fixed), np.int64)
    progress("choosing", 0, 1)
    choose_greedily(starts, sources, scores, weights, served, taken, chosen)
    progress("choosing", 1, 1)
    return np.sort(np.concatenate([np.asarray(fixed, np.int64), chosen]))


def polish_medoids(matrix, kept, match, weights, fixed):
    """Move each kept row to the member of its cluster that serves the cluster best.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    kept : numpy.ndarray of int, shape (k,)
    match : numpy.ndarray of int, shape (n,)
        Which of the kept each row is nearest to.
    weights : numpy.ndarray, shape (n,)
    fixed : sequence of int
        Kept rows that must stay.

    Returns
    -------
    numpy.ndarray of int, shape (k,)
        Ascending. The sum of weighted cosines to the kept row of each cluster does not fall.
    """
    order = np.argsort(match, kind="stable")
    bounds = np.searchsorted(match[order], np.arange(len(kept) + 1))
    medoids = kept.copy()
    stay = np.isin(kept, fixed)

    def move(first, last):
        for c in range(first, last):
            members = order[bounds[c] : bounds[c + 1]]
            if stay[c] or len(members) < 2:
                continue
            units = unit_rows(matrix[members])
            towards = (weights[members].astype(np.float64)[:, None] * units).sum(axis=0)
            sums = units @ towards  # the sum of cosines to all members is one product
            best = int(np.argmax(sums))
            at = np.flatnonzero(members == kept[c])
            if not len(at) or sums[best] > sums[at[0]] * (1 + 1e-6):
                medoids[c] = members[best]

    map_blocks(move, len(kept), 256)
    return np.sort(medoids)
