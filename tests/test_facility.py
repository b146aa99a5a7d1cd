"""prune select=facility: the graph, the greedy choice, the polish."""

import itertools

import numpy as np
import pytest
from conftest import make_vectors

from embshrink import WordVectors, compress, load
from embshrink.methods import registry
from embshrink.methods.base import Context
from embshrink.numerics import facility as selection
from embshrink.numerics import parallel
from embshrink.numerics.arrays import unit_rows


def cosines(matrix):
    units = unit_rows(matrix).astype(np.float64)
    products = np.maximum(units @ units.T, 0)
    np.fill_diagonal(products, 1)
    return products


def value(matrix, kept, weights):
    return float((weights * cosines(matrix)[:, list(kept)].max(axis=1)).sum())


def naive_greedy(matrix, count, weights):
    products, kept = cosines(matrix), []
    for _ in range(count):
        served = products[:, kept].max(axis=1) if kept else np.zeros(len(matrix))
        gains = (weights[:, None] * np.maximum(products - served[:, None], 0)).sum(axis=0)
        gains[kept] = -1
        kept.append(int(gains.argmax()))
    return sorted(kept)


@pytest.fixture(params=[False, True], ids=["alike", "weighted"])
def weights(request):
    return 200 / (np.arange(200) + 2.7) if request.param else np.ones(200)


def test_graph_is_the_true_neighbours():
    matrix = make_vectors(300, 8).matrix
    ids, found = selection.neighbour_graph(matrix, 12, np.random.default_rng(0))
    products = unit_rows(matrix) @ unit_rows(matrix).T
    np.fill_diagonal(products, -2)
    np.testing.assert_allclose(found, -np.sort(-products, axis=1)[:, :12], atol=1e-6)
    np.testing.assert_allclose(products[np.arange(300)[:, None], ids], found, atol=1e-6)


def test_large_graphs_miss_little(monkeypatch):
    monkeypatch.setattr(selection, "EXACT_ROWS", 100)
    matrix = make_vectors(3000, 8, clusters=100).matrix
    ids, _ = selection.neighbour_graph(matrix, 10, np.random.default_rng(0))
    monkeypatch.setattr(selection, "EXACT_ROWS", 10_000)
    exact, _ = selection.neighbour_graph(matrix, 10, np.random.default_rng(0))
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids.tolist(), exact.tolist())]) > 0.97
    assert not (ids == np.arange(3000)[:, None]).any()


def test_equal_rows_do_not_name_themselves():
    matrix = np.repeat(make_vectors(6, 3).matrix, 20, axis=0)
    ids, found = selection.neighbour_graph(matrix, 5, np.random.default_rng(0))
    assert not (ids == np.arange(120)[:, None]).any()
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_lazy_greedy_is_greedy(weights):
    matrix = make_vectors(200, 8).matrix
    kept = selection.facility_location(matrix, 15, weights, np.random.default_rng(0), neighbours=199)
    assert value(matrix, kept, weights) == pytest.approx(value(matrix, naive_greedy(matrix, 15, weights), weights),
                                                         rel=1e-6)


def test_sparse_graph_is_within_a_hundredth_of_exact_greedy(weights):
    matrix = make_vectors(200, 8).matrix
    kept = selection.facility_location(matrix, 15, weights, np.random.default_rng(0), neighbours=80)
    assert value(matrix, kept, weights) >= 0.99 * value(matrix, naive_greedy(matrix, 15, weights), weights)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_near_the_optimum(seed):
    matrix = np.random.default_rng(seed).standard_normal((12, 4)).astype(np.float32)
    weights = np.ones(12)
    best = max(value(matrix, kept, weights) for kept in itertools.combinations(range(12), 3))
    kept = selection.facility_location(matrix, 3, weights, np.random.default_rng(0), neighbours=11)
    assert value(matrix, kept, weights) >= 0.63 * best


def test_polish_does_not_lose(weights):
    matrix = make_vectors(200, 8).matrix
    kept = np.sort(np.random.default_rng(0).choice(200, 15, replace=False))
    match = cosines(matrix)[:, kept].argmax(axis=1)
    moved = selection.polish_medoids(matrix, kept, match, weights, fixed=kept[:2])
    assert value(matrix, moved, weights) >= value(matrix, kept, weights)
    assert set(kept[:2]) <= set(moved)
    assert len(set(moved)) == 15


def mean_cosine(text, matrix, weights):
    step = registry.parse(text).resolve(*matrix.shape)
    row_map, rows = step.reduce(matrix, Context(weights / weights.sum(), np.random.default_rng(0)))
    products = np.einsum("ij,ij->i", unit_rows(matrix), unit_rows(rows)[row_map.rows])
    return products.mean(), (products * weights).sum() / weights.sum()


def test_order_of_the_ways_to_choose(vectors):
    """finalfusion-rust issue 26: no way is best for both the mean word and the mean use of a word."""
    zipf = 1 / (np.arange(400) + 2.7)
    scores = {text: mean_cosine(text, vectors.matrix, zipf) for text in (
        "prune:keep=40", "prune:keep=40,select=facility", "prune:keep=40,select=facility,weighted=true",
        "kmeans:centroids=40,iterations=100")}
    frequency, alike, weighted, kmeans = scores.values()
    assert kmeans[0] > alike[0] > frequency[0]
    assert weighted[1] >= frequency[1]
    assert alike[0] > weighted[0]


def test_in_a_file(vectors, tmp_path):
    contents = set()
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        compress(vectors, tmp_path / "v.ems", ["prune:keep=30,select=facility"], keep_words=["w399", "w7"],
                 measure=False, force=True)
        contents.add((tmp_path / "v.ems").read_bytes())
    assert len(contents) == 1
    emb = load(tmp_path / "v.ems", verify="full")
    assert emb.n_rows == 30
    assert emb.alias_of("w7") == "w7"
    for word in emb.index_to_key:
        assert np.array_equal(emb[word], vectors[emb.alias_of(word)])


def test_zero_vectors(tmp_path):
    matrix = np.concatenate([make_vectors(60, 4).matrix, np.zeros((5, 4), np.float32)])
    compress(WordVectors([f"w{i}" for i in range(65)], matrix), tmp_path / "v.ems", ["prune:keep=10,select=facility"])
    assert not load(tmp_path / "v.ems")["w63"].any()
