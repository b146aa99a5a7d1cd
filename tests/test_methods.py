"""Every method through the registry, and what is particular to each."""

import checks
import naive
import numpy as np
import pytest
from conftest import make_vectors

from embshrink import ShapeError, WordVectors, compress, load
from embshrink.methods import registry
from embshrink.methods.base import Context
from embshrink.methods.pq import PQ, pack_nibbles, unpack_nibbles
from embshrink.methods.row_map import RowMap


@pytest.mark.parametrize("text", checks.all_settings())
def test_step_string_round_trip(text):
    checks.check_string_round_trip(text)


@pytest.mark.parametrize("text", checks.all_settings())
def test_file_round_trip(text, vectors, tmp_path):
    checks.check_file(text, vectors, tmp_path / "v.ems")


@pytest.mark.parametrize("text", checks.all_settings())
def test_same_bytes_at_any_number_of_threads(text, vectors, tmp_path):
    checks.check_deterministic(text, vectors, tmp_path)


@pytest.mark.parametrize("name", registry.METHODS)
def test_input_is_not_changed(name, vectors, tmp_path):
    checks.check_inputs_untouched(name, vectors, tmp_path / "v.ems")


@pytest.mark.parametrize("name", registry.METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 7), (17, 1)])
def test_tiny_tables(name, shape, tmp_path):
    n, d = shape
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tiny = WordVectors([f"w{i}" for i in range(n)], matrix)
    checks.check_file(name, tiny, tmp_path / "v.ems")


@pytest.mark.parametrize("name", registry.METHODS)
def test_zero_and_equal_rows(name, tmp_path):
    matrix = np.zeros((40, 4), np.float32)
    matrix[20:] = 1
    checks.check_file(name, WordVectors([f"w{i}" for i in range(40)], matrix), tmp_path / "v.ems")


def context(n, protected=()):
    return Context(np.full(n, 1 / n), np.random.default_rng(0), protected=np.array(protected, np.int64))


# ---------------------------------------------------------------- prune


def test_prune_maps_to_the_true_nearest(vectors):
    row_map, kept = registry.parse("prune:keep=60").reduce(vectors.matrix, context(400))
    assert np.array_equal(kept, vectors.matrix[:60])
    assert np.array_equal(row_map.rows, naive.prune(vectors.matrix, 60))
    assert np.array_equal(row_map.owners, np.arange(60))


def test_prune_of_everything_changes_nothing(vectors):
    row_map, kept = registry.parse("prune:keep=400").reduce(vectors.matrix, context(400))
    assert row_map.is_identity
    assert np.array_equal(kept, vectors.matrix)


def test_prune_takes_the_lowest_id_on_a_tie():
    matrix = np.array([[1, 0], [2, 0], [0, 1], [3, 0]], np.float32)
    row_map, _ = registry.parse("prune:keep=3").reduce(matrix, context(4))
    assert row_map.rows.tolist() == [0, 1, 2, 0]


def test_prune_keeps_the_most_frequent_and_the_protected():
    matrix = np.eye(6, dtype=np.float32)
    weights = np.array([0.1, 0.3, 0.2, 0.1, 0.25, 0.05])
    row_map, _ = registry.parse("prune:keep=3").reduce(matrix, Context(weights, None, protected=np.array([5])))
    assert row_map.owners.tolist() == [1, 4, 5]


def test_prune_refuses_more_protected_words_than_places():
    with pytest.raises(ShapeError, match=r"than prune:keep=2 allows \(expected <= 2, found 3\).*--keep-words"):
        registry.parse("prune:keep=2").reduce(np.eye(5, dtype=np.float32), context(5, [0, 1, 2]))


def test_prune_drops_below_min_similarity():
    matrix = np.array([[1, 0], [0, 1], [1, 0.1], [-1, -1]], np.float32)
    row_map, _ = registry.parse("prune:keep=2,min_similarity=0.5").reduce(matrix, context(4))
    assert row_map.rows.tolist() == [0, 1, 0, -1]


def test_prune_maps_zero_vectors_to_a_zero_vector():
    matrix = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 0]], np.float32)
    row_map, kept = registry.parse("prune:keep=2").reduce(matrix, context(5))
    assert np.array_equal(kept[row_map.rows[[3, 4]]], np.zeros((2, 2)))
    assert row_map.owners.tolist() == [0, 3]


def test_prune_norms_restore_lengths(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", ["prune:keep=60,norms=true"], measure=False)
    with load(tmp_path / "v.ems") as emb:
        np.testing.assert_allclose(emb.norms, np.linalg.norm(vectors.matrix, axis=1), rtol=1e-3)
        assert np.array_equal(emb["w3"], vectors["w3"])


# ---------------------------------------------------------------- dedupe


def test_dedupe_merges_equal_rows_in_order_of_first_words():
    matrix = np.array([[2, 2], [1, 1], [2, 2], [0, 0], [1, 1]], np.float32)
    row_map, rows = registry.parse("dedupe").reduce(matrix, context(5))
    assert row_map.rows.tolist() == [0, 1, 0, 2, 1]
    assert row_map.owners.tolist() == [0, 1, 3]
    assert np.array_equal(rows, matrix[[0, 1, 3]])


def test_dedupe_loses_nothing(vectors, tmp_path):
    doubled = WordVectors([f"{i}" for i in range(800)], np.concatenate([vectors.matrix, vectors.matrix]))
    report = compress(doubled, tmp_path / "v.ems", ["dedupe"])
    assert report.rows == 400
    assert report.loss["relative_error"] == 0
    assert np.array_equal(np.asarray(load(tmp_path / "v.ems").vectors), doubled.matrix)


# ---------------------------------------------------------------- kmeans


def test_kmeans_beats_prune_at_equal_rows(vectors, tmp_path):
    errors = {text: compress(vectors, tmp_path / f"{text[:5]}.ems", [text]).loss["relative_error"]
              for text in ("kmeans:centroids=40", "prune:keep=40")}
    assert errors["kmeans:centroids=40"] < errors["prune:keep=40"]


def test_kmeans_centroids_are_means_of_their_words(vectors):
    row_map, rows = registry.parse("kmeans:centroids=12,iterations=200").reduce(vectors.matrix, context(400))
    for c in range(12):
        np.testing.assert_allclose(rows[c], vectors.matrix[row_map.rows == c].mean(axis=0), atol=1e-4)
    assert row_map.owners is None


def test_kmeans_norms_restore_lengths(vectors, tmp_path):
    for text in ("kmeans:centroids=12,norms=true", "kmeans:centroids=12,norms=true,spherical=true"):
        compress(vectors, tmp_path / "v.ems", [text], measure=False, force=True)
        lengths = load(tmp_path / "v.ems").norms
        np.testing.assert_allclose(lengths, np.linalg.norm(vectors.matrix, axis=1), rtol=2e-3)


# ---------------------------------------------------------------- cast


def test_cast_float32_is_exact_and_float16_is_half(vectors, tmp_path):
    exact = checks.check_file("cast:dtype=float32", vectors, tmp_path / "a.ems")
    half = checks.check_file("cast", vectors, tmp_path / "b.ems")
    assert np.array_equal(exact, vectors.matrix)
    assert np.array_equal(half, vectors.matrix.astype(np.float16).astype(np.float32))


def test_cast_refuses_what_float16_cannot_hold(tmp_path):
    large = WordVectors(["a"], [[1e6]])
    with pytest.raises(ShapeError, match="too large for float16 .*Use cast:dtype=float32"):
        compress(large, tmp_path / "v.ems", ["cast"])
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- pq


@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_nibbles(m):
    labels = np.random.default_rng(0).integers(16, size=(30, m), dtype=np.uint8)
    packed = pack_nibbles(labels)
    assert packed.shape == (30, -(-m // 2))
    assert np.array_equal(unpack_nibbles(packed, m), labels)
    assert packed[0, 0] & 15 == labels[0, 0]
    if m > 1:
        assert packed[0, 0] >> 4 == labels[0, -(-m // 2)]


def test_pq_worked_example():
    # 1 0 | 5     codes 0 1
    # 0 1 | 4     codes 1 0
    matrix = np.array([[1, 0, 5], [0, 1, 4], [1, 0, 4], [0, 1, 5]], np.float32)
    step = PQ(subspaces=2, centroids=2).resolve(4, 3)
    codebook = np.array([[1, 0, 4], [0, 1, 5]], np.float32)
    codes = step.encode(matrix, {"codebook": codebook}, context(4))
    assert unpack_nibbles(codes["codes"], 2).tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]
    assert np.array_equal(step.decode(codes, {"codebook": codebook}, np.arange(4)), matrix)


@pytest.mark.parametrize("subspaces", [1, 3, 4, 10])
def test_pq_encodes_to_the_nearest_and_decodes_like_the_naive_twin(subspaces, vectors):
    step = PQ(subspaces=subspaces, centroids=30).resolve(400, 10)
    state = step.fit(vectors.matrix, context(400))
    codes = step.encode(vectors.matrix, state, context(400))
    for m, (start, stop) in enumerate(naive.pq_bounds(10, subspaces)):
        distances = naive.squared_distances(vectors.matrix[:, start:stop], state["codebook"][:, start:stop])
        chosen = distances[np.arange(400), codes["codes"][:, m]]
        np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-4, atol=1e-6)
    decoded = step.decode(codes, state, np.arange(400))
    assert np.array_equal(decoded, naive.pq_decode(codes["codes"], state["codebook"], subspaces))


def test_pq_is_exact_with_a_centroid_for_every_part(tmp_path):
    few = make_vectors(100, 6)
    whole = checks.check_file("pq:subspaces=2,centroids=100,iterations=1", few, tmp_path / "v.ems")
    np.testing.assert_allclose(whole, few.matrix, atol=1e-6)


def test_pq_error_falls_with_subspaces_and_centroids(vectors, tmp_path):
    def error(text):
        return compress(vectors, tmp_path / "v.ems", [text], force=True).loss["relative_error"]

    by_subspaces = [error(f"pq:subspaces={m},centroids=16") for m in (1, 2, 5, 10)]
    by_centroids = [error(f"pq:subspaces=5,centroids={k}") for k in (2, 8, 32, 128)]
    assert by_subspaces == sorted(by_subspaces, reverse=True)
    assert by_centroids == sorted(by_centroids, reverse=True)


def test_pq_rotations_are_orthogonal_and_help(tmp_path):
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((3000, 8)) * np.linspace(3, 0.1, 8) @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    table = WordVectors([f"w{i}" for i in range(3000)], mixed)
    errors = {}
    for rotate in ("none", "pca", "opq"):
        step = PQ(subspaces=4, centroids=16, rotate=rotate).resolve(3000, 8)
        state = step.fit(table.matrix, context(3000))
        if rotate != "none":
            np.testing.assert_allclose(state["rotation"] @ state["rotation"].T, np.eye(8), atol=1e-5)
        decoded = step.decode(step.encode(table.matrix, state, context(3000)), state, np.arange(3000))
        errors[rotate] = ((decoded - table.matrix) ** 2).sum()
    assert errors["pca"] < errors["none"]
    assert errors["opq"] < 1.01 * errors["pca"]


def test_pq_code_sizes(vectors):
    for centroids, dtype, width in ((2, np.uint8, 3), (16, np.uint8, 3), (17, np.uint8, 5), (256, np.uint8, 5),
                                    (257, np.uint16, 5)):
        step = PQ(subspaces=5, centroids=centroids).resolve(400, 10)
        plan = step.plan(400, 10)["codes.codes"]
        assert plan == (np.dtype(dtype), (400, width))


def test_pq_normalizes_columns_of_unequal_spread():
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((2000, 6)) * [100, 100, 100, 1, 1, 1]).astype(np.float32)
    errors = {}
    for normalize in ("none", "columns"):
        step = PQ(subspaces=1, centroids=64, normalize=normalize).resolve(2000, 6)
        state = step.fit(matrix, context(2000))
        decoded = step.decode(step.encode(matrix, state, context(2000)), state, np.arange(2000))
        errors[normalize] = (((decoded - matrix) / [100, 100, 100, 1, 1, 1]) ** 2).sum()
    assert errors["columns"] < errors["none"]


# ---------------------------------------------------------------- row maps


def test_row_maps_compose():
    first = RowMap(np.array([0, 1, 0, 2]), 3, np.array([0, 1, 3]), np.array([1, 1, 0.5, 1], np.float32))
    second = RowMap(np.array([0, 0, -1]), 1, np.array([1]), np.array([2, 4, 1], np.float32))
    both = first.then(second)
    assert both.rows.tolist() == [0, 0, 0, -1]
    assert both.owners.tolist() == [1]
    assert both.scale[:3].tolist() == [2, 4, 1]
    left = both.take(np.flatnonzero(both.rows >= 0))
    assert left.rows.tolist() == [0, 0, 0]
    assert left.owners.tolist() == [1]


def test_protected_words_must_leave_room_for_a_zero_vector(tmp_path):
    from embshrink import WordVectors, compress

    matrix = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    matrix[15] = 0
    vectors = WordVectors([f"w{i}" for i in range(20)], matrix)
    with pytest.raises(ShapeError, match=r"leave no room in prune:keep=3 for a zero vector.*expected keep >= 4"):
        compress(vectors, tmp_path / "v.ems", "prune:keep=3", keep_words=["w1", "w2", "w3"])
    compress(vectors, tmp_path / "v.ems", "prune:keep=4", keep_words=["w1", "w2", "w3"])
