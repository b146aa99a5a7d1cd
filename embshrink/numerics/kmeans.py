"""k-means: exact Lloyd iterations, with the same result for any number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.numerics.assignment import best_targets
from embshrink.numerics.parallel import run_blocks
from embshrink.numerics.progress import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray

FEW_COLUMNS = 16  # up to this many columns, points are compared directly; with more, through matrix products
LEAVES_ROWS = 65_536  # rows assigned at a time, with their own leaves
PLUS_PLUS_LIMIT = 4096  # maximum of clusters for which k-means++ is the default
RESEED_ROWS = 16  # candidates for each empty cluster; several are needed because equal rows are used only once
PLUS_PLUS_ROWS = 16  # rows of the k-means++ sample per centroid: its cost grows with k times rows


def kmeans(matrix: FloatArray, k: int, rng: np.random.Generator, *, init: str | AnyArray = "k-means++",
           iterations: int = 25, spherical: bool = False,
           progress: Progress = no_progress) -> tuple[FloatArray, IntArray]:
    """Cluster the rows of a matrix.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
        With `spherical`, rows of length 1.
    k : int
        Number of clusters, 1 to n.
    rng : numpy.random.Generator
    init : {"k-means++", "random"} or numpy.ndarray, shape (k, d)
        Initial centroids: chosen by k-means++ (Arthur and Vassilvitskii, SODA 2007) from a sample of 16 k rows,
        distinct rows at random, or given.
    iterations : int
        Maximum number of iterations. Iteration ends early if no row changes its cluster and no cluster is empty.
    spherical : bool
        Keep centroids at length 1 (Dhillon and Modha, Machine Learning 42, 2001).
    progress : Progress

    Returns
    -------
    centroids : numpy.ndarray, shape (k, d), float32
    labels : numpy.ndarray, shape (n,), int64
        Index of the nearest of the returned centroids; the lowest index on a tie.

    Notes
    -----
    The row that is farthest from its centroid becomes the centroid of the first empty cluster, the second farthest
    row that of the second empty cluster, and so on.
    """
    n, d = matrix.shape
    if isinstance(init, str):
        init = matrix[_first_rows(matrix, k, rng, init)]
    centroids = np.array(init, np.float32)
    if d <= FEW_COLUMNS and not spherical:
        return _kmeans_leaves(matrix, centroids, iterations, progress)
    return _kmeans_products(np.ascontiguousarray(matrix), centroids, iterations, spherical, progress)


def _first_rows(matrix: FloatArray, k: int, rng: np.random.Generator, init: str) -> IntArray:
    """Choose the rows that become the initial centroids, (k,) int64."""
    n = len(matrix)
    if init == "random" or k == n:
        return rng.choice(n, k, replace=False)
    from embshrink.kernels.kmeans import choose_plus_plus

    sample = rng.choice(n, min(n, PLUS_PLUS_ROWS * k), replace=False)
    chosen = np.empty(k, np.int64)
    choose_plus_plus(np.ascontiguousarray(matrix[sample].T), rng.random(k), chosen)
    return sample[chosen]


def _move_to_means(centroids: FloatArray, sums: DoubleArray, counts: IntArray) -> None:
    """Move centroids (k, d) to the means of their clusters, in place; those of empty clusters stay."""
    filled = counts > 0
    centroids[filled] = sums[filled] / counts[filled, None]


def _reseed(counts: IntArray, distances: FloatArray,
            rows_at: Callable[[IntArray], FloatArray]) -> tuple[IntArray, IntArray]:
    """Return the empty clusters and, for each, a row far from its centroid; equal rows are used only once."""
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return empty, empty
    worst = np.argsort(-distances, kind="stable")[: RESEED_ROWS * len(empty)]
    rows = np.ascontiguousarray(rows_at(worst))
    _, first = np.unique(rows.view(np.dtype((np.void, rows.strides[0]))), return_index=True)
    worst = worst[np.sort(first)][: len(empty)]
    return empty[: len(worst)], worst


class _Leaves:
    """Points of few dimensions, grouped in leaves of neighbouring points, and the cluster of each point.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    k : int
        Number of clusters.

    Attributes
    ----------
    points : numpy.ndarray, shape (e, n), float32
        The points as columns, in the order of the leaves; e is d rounded up to an even number.
    distances : numpy.ndarray, shape (n,), float32
        Squared distance of each point to its centroid.
    sums : numpy.ndarray, shape (e, k), float64
        Sum of the points of each cluster.
    counts : numpy.ndarray, shape (k,), int64
        Number of points of each cluster.
    """

    def __init__(self, matrix: FloatArray, k: int) -> None:
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

    @classmethod
    def assigned(cls, matrix: FloatArray, centroids: FloatArray) -> _Leaves:
        """Return the leaves of a matrix (n, d), with each row in the cluster of its nearest centroid (k, d)."""
        leaves = cls(matrix, len(centroids))
        leaves.assign(_even_columns(centroids))
        return leaves

    def assign(self, centroids: FloatArray) -> int:
        """Assign each point to its nearest centroid, (e, k); return how many points changed their cluster."""
        from embshrink.kernels.kmeans import move_points

        changed: int = move_points(self.points, *self._boxes, centroids, self._labels, self.distances, self.sums,
                                   self.counts)
        return changed

    def labels(self) -> IntArray:
        """Return the cluster of each row of the matrix, (n,) int64."""
        labels = np.empty(len(self._order), np.int64)
        labels[self._order] = self._labels
        return labels


def _kmeans_leaves(matrix: FloatArray, centroids: FloatArray, iterations: int,
                   progress: Progress) -> tuple[FloatArray, IntArray]:
    """Do as `kmeans` for a matrix of few columns, by comparing the points of a leaf with centroids."""
    d = matrix.shape[1]
    leaves = _Leaves(matrix, len(centroids))
    columns = _even_columns(centroids)
    for iteration in range(iterations + 1):
        changed = leaves.assign(columns)
        progress("k-means", iteration, iterations)
        if iteration == iterations or (not changed and leaves.counts.all()):
            break
        _move_to_means(columns.T, leaves.sums.T, leaves.counts)
        empty, worst = _reseed(leaves.counts, leaves.distances, lambda rows: leaves.points[:, rows].T)
        columns[:, empty] = leaves.points[:, worst]
    return np.ascontiguousarray(columns[:d].T), leaves.labels()


def _even_columns(centroids: FloatArray) -> FloatArray:
    """Return centroids (k, d) as columns, (e, k), with a row of zeros added if d is odd."""
    k, d = centroids.shape
    columns = np.zeros((d + d % 2, k), np.float32)
    columns[:d] = centroids.T
    return columns


def _kmeans_products(matrix: FloatArray, centroids: FloatArray, iterations: int, spherical: bool,
                     progress: Progress) -> tuple[FloatArray, IntArray]:
    """Do as `kmeans` for a matrix of any width, by matrix products; `centroids` are changed in place."""
    k = len(centroids)
    labels: IntArray | None = None
    counts: IntArray = np.zeros(k, np.int64)
    for iteration in range(iterations + 1):
        offsets = None if spherical else half_squares(centroids)
        new, scores = best_targets(matrix, centroids, offsets, guess=labels)
        progress("k-means", iteration, iterations)
        settled = labels is not None and np.array_equal(new, labels) and counts.all()
        labels = new
        if iteration == iterations or settled:
            break
        sums, counts = cluster_sums(matrix, labels, k)
        _move_to_means(centroids, sums, counts)
        if not counts.all():
            distances = np.einsum("ij,ij->i", matrix, matrix) - 2 * scores
            empty, worst = _reseed(counts, distances, matrix.__getitem__)
            centroids[empty] = matrix[worst]
        if spherical:
            lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids /= np.where(lengths > 0, lengths, 1)
    return centroids, new


def half_squares(centroids: FloatArray) -> FloatArray:
    """Return ``-|c|^2 / 2`` of each centroid: with this offset, the largest dot product is the nearest centroid."""
    squares: FloatArray = np.einsum("ij,ij->i", centroids, centroids, dtype=np.float32)
    return -0.5 * squares


def cluster_sums(matrix: FloatArray, labels: IntArray, k: int) -> tuple[DoubleArray, IntArray]:
    """Return the sum of the rows of each cluster, (k, d) float64, and the number of rows, (k,) int64."""
    from embshrink.kernels.kmeans import list_members, sum_clusters

    counts = np.bincount(labels, minlength=k)
    starts = np.append(0, np.cumsum(counts))
    members = np.empty(len(labels), np.int64)
    list_members(labels, starts[:-1].copy(), members)
    sums = np.empty((k, matrix.shape[1]))
    run_blocks(lambda first, last: sum_clusters(matrix, members, starts, first, last, sums), k, max(1, k // 64))
    return sums, counts


def nearest_centroids(matrix: FloatArray, centroids: FloatArray, *, progress: Progress = no_progress) -> IntArray:
    """Return the index of the nearest centroid of each row; the lowest index on a tie.

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
    labels = np.empty(len(matrix), np.int64)

    def assign_block(start: int, stop: int) -> None:
        labels[start:stop] = _Leaves.assigned(matrix[start:stop], centroids).labels()

    run_blocks(assign_block, len(matrix), LEAVES_ROWS)
    return labels


def lloyd_round(matrix: FloatArray, centroids: FloatArray) -> tuple[FloatArray, IntArray]:
    """Do one iteration of Lloyd's algorithm.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    centroids : numpy.ndarray, shape (k, d), float32

    Returns
    -------
    moved : numpy.ndarray, shape (k, d), float32
        The means of the clusters; centroids of empty clusters do not move.
    labels : numpy.ndarray, shape (n,), int64
        Index of the nearest of the given centroids.
    """
    k, d = centroids.shape
    if d > FEW_COLUMNS:
        labels = nearest_centroids(matrix, centroids)
        sums, counts = cluster_sums(matrix, labels, k)
    else:
        leaves = _Leaves.assigned(matrix, centroids)
        labels, sums, counts = leaves.labels(), leaves.sums[:d].T, leaves.counts
    moved = centroids.copy()
    _move_to_means(moved, sums, counts)
    return moved, labels
