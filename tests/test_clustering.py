"""k-means and nearest search against their naive twins."""

import naive
import numpy as np
import pytest

from embshrink import clustering, nearest, parallel
from embshrink.kernels import kmeans as kernels


def points(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) + 3 * rng.integers(3, size=(n, 1))).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (1500, 7, 30), (1025, 40, 1030), (2049, 16, 1)])
@pytest.mark.parametrize("offset", [False, True])
def test_best_targets_is_the_argmax(shape, offset):
    n, d, k = shape
    matrix, targets = points(n, d), points(k, d, seed=1)
    offsets = np.random.default_rng(2).standard_normal(k).astype(np.float32) if offset else None
    ids, scores = nearest.best_targets(matrix, targets, offsets)
    expected, best = naive.best_targets(matrix, targets, offsets)
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)
    differing = ids != expected  # only where two are equal but for rounding
    all_scores = matrix.astype(np.float64) @ targets.T + (0 if offsets is None else offsets)
    np.testing.assert_allclose(all_scores[np.arange(n), ids][differing], best[differing], rtol=1e-5)
    assert differing.mean() < 0.01


def test_best_targets_takes_the_lowest_id_on_a_tie():
    targets = np.tile(np.eye(3, dtype=np.float32), (700, 1))
    ids, _ = nearest.best_targets(np.eye(3, dtype=np.float32), targets)
    assert ids.tolist() == [0, 1, 2]


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
    matrix = np.repeat(points(40, d), 10, axis=0)  # random rows come twice, and one of the two gets nothing
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


def test_plus_plus_follows_its_definition():
    matrix = points(200, 3)
    uniforms = np.random.default_rng(5).random(12)
    chosen = np.empty(12, np.int64)
    kernels.choose_plus_plus(matrix, uniforms, chosen)
    assert chosen.tolist() == naive.choose_plus_plus(matrix, uniforms)


def test_spherical_centroids_have_length_one():
    matrix = points(500, 8)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    centroids, labels = clustering.kmeans(matrix, 10, np.random.default_rng(0), spherical=True)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    assert ((matrix @ centroids.T).argmax(axis=1) == labels).mean() > 0.999


@pytest.mark.parametrize("d", [2, 24])
def test_same_bytes_at_any_number_of_threads(d):
    matrix = points(9000, d)
    results = []
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        centroids, labels = clustering.kmeans(matrix, 64, np.random.default_rng(0), iterations=5)
        results.append((centroids.tobytes(), labels.tobytes()))
    assert results[0] == results[1] == results[2]
