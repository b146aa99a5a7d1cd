"""k-means against its naive twin."""

import naive
import numpy as np
import pytest
from numba.core import config

from embshrink.kernels import kmeans as kernels
from embshrink.numerics import kmeans as clustering
from embshrink.numerics import parallel

N_MANY = 1500 if config.DISABLE_JIT else 9000


def points(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) + 3 * rng.integers(3, size=(n, 1))).astype(np.float32)


@pytest.mark.parametrize(("n", "d", "k"), [(300, 1, 4), (1000, 2, 16), (700, 5, 9), (400, 16, 7), (500, 20, 6)])
def test_kmeans_equals_naive_lloyd(n, d, k):
    matrix = points(n, d)
    start = np.random.default_rng(3).choice(n, k, replace=False)
    centroids, labels = clustering.kmeans(matrix, k, np.random.default_rng(3), init="random", iterations=12)
    expected, expected_labels = naive.lloyd(matrix, matrix[start], 12)
    assert (labels == expected_labels).mean() > 0.995  # a tie up to rounding may fall either way
    np.testing.assert_allclose(centroids, expected, rtol=1e-2, atol=1e-2)
    error = naive.squared_distances(matrix, centroids).min(axis=1).sum()
    np.testing.assert_allclose(error, naive.squared_distances(matrix, expected).min(axis=1).sum(), rtol=1e-3)


def test_labels_belong_to_the_centroids_that_are_returned():
    for d in (3, 30):
        matrix = points(800, d)
        centroids, labels = clustering.kmeans(matrix, 20, np.random.default_rng(0), iterations=2)
        distances = naive.squared_distances(matrix, centroids)
        np.testing.assert_allclose(distances[np.arange(800), labels], distances.min(axis=1), rtol=1e-4, atol=1e-5)


def test_error_does_not_grow_with_iterations():
    matrix = points(2000, 4)
    errors = []
    for iterations in (1, 2, 4, 8, 16):
        centroids, labels = clustering.kmeans(matrix, 50, np.random.default_rng(1), iterations=iterations)
        errors.append(((matrix - centroids[labels]) ** 2).sum())
    assert errors == sorted(errors, reverse=True)


def test_boxes_rule_out_nothing_that_matters():
    matrix = points(5000, 2)
    centroids, labels = clustering.kmeans(matrix, 300, np.random.default_rng(1), iterations=3)
    assert np.array_equal(labels, clustering.nearest_centroids(matrix, centroids))


@pytest.mark.parametrize("d", [2, 20])
def test_empty_clusters_are_seeded_anew(d):
    # Random rows come twice, and one of the two gets nothing. Whole numbers: float32 has all products exactly, so
    # that rows which are equal tie on every processor, whatever order BLAS adds in.
    matrix = np.repeat(np.rint(40 * points(40, d)), 10, axis=0)
    assert len(np.unique(matrix, axis=0)) == 40
    centroids, labels = clustering.kmeans(matrix, 40, np.random.default_rng(0), init="random", iterations=60)
    assert len(np.unique(labels)) == 40
    np.testing.assert_allclose(centroids[labels], matrix, atol=1e-5)


def test_as_many_centroids_as_rows_is_exact():
    matrix = points(50, 6)
    centroids, labels = clustering.kmeans(matrix, 50, np.random.default_rng(0))
    np.testing.assert_allclose(centroids[labels], matrix, atol=1e-6)


def test_equal_rows_make_one_cluster_of_use():
    matrix = np.ones((30, 3), np.float32)
    centroids, labels = clustering.kmeans(matrix, 4, np.random.default_rng(0))
    assert set(labels) == {0}
    assert np.isfinite(centroids).all()


@pytest.mark.parametrize(("n", "d"), [(200, 3), (130, 1), (5, 20)])
def test_plus_plus_follows_its_definition(n, d):
    matrix = points(n, d)
    uniforms = np.random.default_rng(5).random(min(n, 12))
    chosen = np.empty(len(uniforms), np.int64)
    kernels.choose_plus_plus(np.ascontiguousarray(matrix.T), uniforms, chosen)
    assert chosen.tolist() == naive.choose_plus_plus(matrix, uniforms)


def test_plus_plus_takes_the_next_where_all_are_centres():
    chosen = np.empty(4, np.int64)
    kernels.choose_plus_plus(np.ones((2, 300), np.float32), np.array([0.5, 0.9, 0.1, 0.99]), chosen)
    assert chosen.tolist() == [150, 1, 2, 3]


@pytest.mark.parametrize("d", [1, 2, 3, 6, 16, 17])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (127, 3), (1300, 40)])
def test_nearest_centroids_are_the_nearest(n, d, k):
    matrix, centroids = points(n, d), points(k, d, seed=1)
    distances = naive.squared_distances(matrix, centroids)
    labels = clustering.nearest_centroids(matrix, centroids)
    np.testing.assert_allclose(distances[np.arange(n), labels], distances.min(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_the_lowest_of_equal_centroids_is_the_nearest(d):
    matrix = points(300, d)
    centroids = matrix[[5, 9, 5, 9, 7, 5]]
    labels = clustering.nearest_centroids(matrix, centroids)
    assert set(labels) == {0, 1, 4}
    middle = np.zeros((200, d), np.float32)  # as far from one as from the other
    centroids = np.zeros((3, d), np.float32)
    centroids[:, -1] = 2, 1, -1
    assert set(clustering.nearest_centroids(middle, centroids)) == {1}


def test_columns_far_from_zero_are_told_apart():
    matrix = points(400, 2) + np.array([3000, -500], np.float32)
    centroids = matrix[:30]
    distances = naive.squared_distances(matrix, centroids)
    labels = clustering.nearest_centroids(matrix, centroids)
    np.testing.assert_allclose(distances[np.arange(400), labels], distances.min(axis=1), atol=1e-5)


@pytest.mark.parametrize("d", [3, 20])
def test_a_round_moves_centroids_to_the_means_and_leaves_empty_ones(d):
    matrix = points(300, d)
    centroids = np.concatenate([matrix[:7], np.full((1, d), 1e4, np.float32)])
    moved, labels = clustering.lloyd_round(matrix, centroids)
    assert np.array_equal(labels, clustering.nearest_centroids(matrix, centroids))
    for c in range(7):
        np.testing.assert_allclose(moved[c], matrix[labels == c].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert np.array_equal(moved[7], centroids[7])


def test_cluster_sums_are_the_sums():
    matrix, labels = points(500, 9), np.random.default_rng(4).integers(70, size=500) * 2
    sums, counts = clustering.cluster_sums(matrix, labels, 140)
    assert np.array_equal(counts, np.bincount(labels, minlength=140))
    expected = np.zeros((140, 9))
    np.add.at(expected, labels, matrix.astype(np.float64))
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


def test_spherical_centroids_have_length_one():
    matrix = points(500, 8)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    centroids, labels = clustering.kmeans(matrix, 10, np.random.default_rng(0), spherical=True)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    assert ((matrix @ centroids.T).argmax(axis=1) == labels).mean() > 0.999


@pytest.mark.parametrize("d", [2, 24])
def test_same_bytes_at_any_number_of_threads(d):
    matrix = points(N_MANY, d)
    results = []
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        centroids, labels = clustering.kmeans(matrix, 64, np.random.default_rng(0), iterations=5)
        results.append((centroids.tobytes(), labels.tobytes()))
    assert results[0] == results[1] == results[2]
