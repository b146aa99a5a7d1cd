"""k-means: Lloyd's iterations, exact, the same at any number of threads."""

from __future__ import annotations

import numpy as np

from embshrink.numerics.assignment import best_targets
from embshrink.numerics.parallel import run_blocks
from embshrink.numerics.progress import no_progress

FEW_COLUMNS = 16  # up to here points are compared directly; beyond, through matrix products
BLOCK = 65_536  # rows that are put into leaves together
PLUS_PLUS_LIMIT = 4096
EQUAL_ROWS = 16  # so many rows are looked at for each empty cluster, to find ones that differ
PLUS_PLUS_ROWS = 16  # k-means++ looks at so many rows a centroid: its cost grows with k times rows


def kmeans(matrix, k, rng, *, init="k-means++", iterations=25, spherical=False, progress=no_progress):
    """Cluster the rows of a matrix.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
        With `spherical`, rows of length 1.
    k : int
        1 to n.
    rng : numpy.random.Generator
    init : {"k-means++", "random"} or numpy.ndarray, shape (k, d)
        k-means++ (Arthur and Vassilvitskii, SODA 2007) on a sample of 16 k rows, distinct rows at random, or
        centroids to begin with.
    iterations : int
        At most; it ends early when no row changes its cluster and none is empty.
    spherical : bool
        Keep centroids at length 1 (Dhillon and Modha, Machine Learning 42, 2001).
    progress : callable

    Returns
    -------
    centroids : numpy.ndarray, shape (k, d), float32
    labels : numpy.ndarray, shape (n,), int64
        The nearest of the returned centroids; the lowest on a tie.

    Notes
    -----
    A cluster that is left empty gets the row that is worst served, the second empty one the second
    worst, and so on.
    """
    n, d = matrix.shape
    if isinstance(init, str):
        init = matrix[_first_rows(matrix, k, rng, init)]
    centroids = np.array(init, np.float32)
    if d <= FEW_COLUMNS and not spherical:
        return _kmeans_direct(matrix, centroids, iterations, progress)
    return _kmeans_products(np.ascontiguousarray(matrix), centroids, iterations, spherical, progress)


def _first_rows(matrix, k, rng, init):
    n = len(matrix)
    if init == "random" or k == n:
        return rng.choice(n, k, replace=False)
    from embshrink.kernels.kmeans import choose_plus_plus

    sample = rng.choice(n, min(n, PLUS_PLUS_ROWS * k), replace=False)
    chosen = np.empty(k, np.int64)
    choose_plus_plus(np.ascontiguousarray(matrix[sample].T), rng.random(k), chosen)
    return sample[chosen]


def _reseed(counts, distances, row_at):
    """Return (empty clusters, the worst served rows to put there, equal rows only once)."""
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return empty, empty
    worst = np.argsort(-distances, kind="stable")[: EQUAL_ROWS * len(empty)]
    rows = np.ascontiguousarray(row_at(worst))
    _, first = np.unique(rows.view(np.dtype((np.void, rows.strides[0]))), return_index=True)
    worst = worst[np.sort(first)][: len(empty)]
    return empty[: len(worst)], worst


class _Leaves:
    """Points in few dimensions, in leaves of neighbours, and the clusters that they are in.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    k : int
        How many clusters.
    """

    def __init__(self, matrix, k):
        from embshrink.kernels.kmeans import BRANCH, LEAF, fill_leaves, sort_along_curve

        n, d = matrix.shape
        columns = np.ascontiguousarray(matrix.T)
        self._order = np.empty(n, np.int64)
        sort_along_curve(columns, self._order)
        leaves = -(-n // LEAF)
        even = d + d % 2
        self.points = np.zeros((even, n), np.float32)
        self._boxes = np.zeros((2, even, leaves + -(-leaves // BRANCH)), np.float32)
        fill_leaves(columns, self._order, self.points, *self._boxes)
        self._labels = np.full(n, -1, np.int32)
        self.distances = np.empty(n, np.float32)
        self.sums = np.zeros((even, k))
        self.counts = np.zeros(k, np.int64)

    def move(self, centroids):
        """Put every point into the cluster of its nearest centroid, (d, k); return how many were elsewhere."""
        from embshrink.kernels.kmeans import move_points

        return move_points(self.points, *self._boxes, centroids, self._labels, self.distances, self.sums, self.counts)

    def labels(self):
        """Return the cluster of each row of the matrix, (n,) int64."""
        labels = np.empty(len(self._order), np.int64)
        labels[self._order] = self._labels
        return labels


def _kmeans_direct(matrix, centroids, iterations, progress):
    d = matrix.shape[1]
    leaves = _Leaves(matrix, len(centroids))
    centroids = _even_columns(centroids)
    for iteration in range(iterations + 1):
        changed = leaves.move(centroids)
        progress("k-means", iteration, iterations)
        if iteration == iterations or (not changed and leaves.counts.all()):
            break
        filled = leaves.counts > 0
        centroids[:, filled] = leaves.sums[:, filled] / leaves.counts[filled]
        empty, worst = _reseed(leaves.counts, leaves.distances, lambda rows: leaves.points[:, rows].T)
        centroids[:, empty] = leaves.points[:, worst]
    return np.ascontiguousarray(centroids[:d].T), leaves.labels()


def _even_columns(centroids):
    """Return a matrix (k, d) as columns, (d, k), with one of zeros if d is odd."""
    k, d = centroids.shape
    columns = np.zeros((d + d % 2, k), np.float32)
    columns[:d] = centroids.T
    return columns


def _kmeans_products(matrix, centroids, iterations, spherical, progress):
    k = len(centroids)
    labels, counts = None, np.zeros(k, np.int64)
    for iteration in range(iterations + 1):
        offsets = None if spherical else half_squares(centroids)
        new, scores = best_targets(matrix, centroids, offsets, guess=labels)
        progress("k-means", iteration, iterations)
        settled = labels is not None and np.array_equal(new, labels) and counts.all()
        labels = new
        if iteration == iterations or settled:
            break
        sums, counts = cluster_sums(matrix, labels, k)
        filled = counts > 0
        centroids[filled] = sums[filled] / counts[filled, None]
        if not filled.all():
            distances = np.einsum("ij,ij->i", matrix, matrix) - 2 * scores
            empty, worst = _reseed(counts, distances, matrix.__getitem__)
            centroids[empty] = matrix[worst]
        if spherical:
            lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids /= np.where(lengths > 0, lengths, 1)
    return centroids, labels


def half_squares(centroids):
    """Return ``-|c|^2 / 2`` of each centroid: the offset that makes the best dot product the nearest."""
    return -0.5 * np.einsum("ij,ij->i", centroids, centroids, dtype=np.float32)


def cluster_sums(matrix, labels, k):
    """Return the sum of the rows of each cluster, (k, d) float64, and their numbers, (k,) int64."""
    from embshrink.kernels.kmeans import list_members, sum_clusters

    counts = np.bincount(labels, minlength=k)
    starts = np.append(0, np.cumsum(counts))
    members = np.empty(len(labels), np.int64)
    list_members(labels, starts[:-1].copy(), members)
    sums = np.empty((k, matrix.shape[1]))
    run_blocks(lambda first, last: sum_clusters(matrix, members, starts, first, last, sums), k, max(1, k // 64))
    return sums, counts


def nearest_centroids(matrix, centroids, *, progress=no_progress):
    """Return the nearest centroid of each row, the lowest on a tie.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    centroids : numpy.ndarray, shape (k, d), float32

    Returns
    -------
    numpy.ndarray, shape (n,), int64
    """
    if matrix.shape[1] > FEW_COLUMNS:
        return best_targets(matrix, centroids, half_squares(centroids), progress=progress)[0]
    columns, labels = _even_columns(centroids), np.empty(len(matrix), np.int64)

    def work(start, stop):
        leaves = _Leaves(matrix[start:stop], len(centroids))
        leaves.move(columns)
        labels[start:stop] = leaves.labels()

    run_blocks(work, len(matrix), BLOCK)
    return labels


def lloyd_round(matrix, centroids):
    """Return centroids moved to the means of their clusters, those of empty ones left, and the clusters of the rows.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    centroids : numpy.ndarray, shape (k, d), float32

    Returns
    -------
    moved : numpy.ndarray, shape (k, d), float32
    labels : numpy.ndarray, shape (n,), int64
        The nearest of the centroids as they were.
    """
    k, d = centroids.shape
    if d > FEW_COLUMNS:
        labels = nearest_centroids(matrix, centroids)
        sums, counts = cluster_sums(matrix, labels, k)
    else:
        leaves = _Leaves(matrix, k)
        leaves.move(_even_columns(centroids))
        labels, sums, counts = leaves.labels(), leaves.sums[:d].T, leaves.counts
    moved, filled = centroids.copy(), counts > 0
    moved[filled] = sums[filled] / counts[filled, None]
    return moved, labels
