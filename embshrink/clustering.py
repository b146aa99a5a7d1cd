"""k-means: Lloyd's iterations, exact, the same at any number of threads."""

from __future__ import annotations

import numpy as np

from embshrink.methods.base import no_progress
from embshrink.nearest import best_targets
from embshrink.parallel import map_blocks

FEW_COLUMNS = 16  # up to here points are compared directly; beyond, through matrix products
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
    return _kmeans_products(matrix, centroids, iterations, spherical, progress)


def _first_rows(matrix, k, rng, init):
    n = len(matrix)
    if init == "random" or k == n:
        return rng.choice(n, k, replace=False)
    from embshrink.kernels.kmeans import choose_plus_plus

    sample = rng.choice(n, min(n, PLUS_PLUS_ROWS * k), replace=False)
    chosen = np.empty(k, np.int64)
    choose_plus_plus(np.ascontiguousarray(matrix[sample]), rng.random(k), chosen)
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


def _kmeans_direct(matrix, centroids, iterations, progress):
    from embshrink.kernels import kmeans as kernels

    n, d = matrix.shape
    k = len(centroids)
    order = np.empty(n, np.int64)
    kernels.sort_along_curve(np.ascontiguousarray(matrix.T), order)
    columns = np.ascontiguousarray(matrix[order].T)
    bounds = np.append(np.arange(0, n, kernels.LEAF), n)
    lows, highs = np.empty((2, d, len(bounds) - 1), np.float32)
    kernels.box_leaves(columns, bounds, lows, highs)
    labels = np.full(n, -1, np.int32)
    distances = np.empty(n, np.float32)
    sums = np.zeros((d, k))
    counts = np.zeros(k, np.int64)
    centroids = np.ascontiguousarray(centroids.T)
    for iteration in range(iterations + 1):
        args = (columns, bounds, lows, highs, centroids, labels, distances, sums, counts)
        changed = kernels.move_points(*args)
        progress("k-means", iteration, iterations)
        if iteration == iterations or (not changed and counts.all()):
            break
        filled = counts > 0
        centroids[:, filled] = sums[:, filled] / counts[filled]
        empty, worst = _reseed(counts, distances, lambda rows: columns[:, rows].T)
        centroids[:, empty] = columns[:, worst]
    result = np.empty(n, np.int64)
    result[order] = labels
    return np.ascontiguousarray(centroids.T), result


def _kmeans_products(matrix, centroids, iterations, spherical, progress):
    k = len(centroids)
    squares = np.einsum("ij,ij->i", matrix, matrix)
    labels = np.full(len(matrix), -1)
    counts = np.zeros(k, np.int64)
    for iteration in range(iterations + 1):
        offsets = None if spherical else half_squares(centroids)
        new, scores = best_targets(matrix, centroids, offsets)
        progress("k-means", iteration, iterations)
        settled = np.array_equal(new, labels) and counts.all()
        if iteration == iterations or settled:
            return centroids, new
        labels = new
        sums, counts = cluster_sums(matrix, labels, k)
        filled = counts > 0
        centroids[filled] = sums[filled] / counts[filled, None]
        empty, worst = _reseed(counts, squares - 2 * scores, matrix.__getitem__)
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
    from embshrink.kernels.kmeans import sum_clusters

    counts = np.bincount(labels, minlength=k)
    starts = np.append(0, np.cumsum(counts))
    members = np.argsort(labels, kind="stable")
    sums = np.empty((k, matrix.shape[1]))
    map_blocks(lambda first, last: sum_clusters(matrix, members, starts, first, last, sums), k, max(1, k // 64))
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
    from embshrink.kernels.kmeans import LEAF, label_block

    columns = np.ascontiguousarray(matrix.T)
    targets = np.ascontiguousarray(centroids.T)
    labels = np.empty(len(matrix), np.int32)
    map_blocks(lambda start, stop: label_block(columns, targets, start, stop, labels), len(matrix), 64 * LEAF)
    return labels.astype(np.int64)
