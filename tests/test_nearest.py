"""Nearest search against its naive twin, by products of bytes where the processor has them, and by tiles."""

import naive
import numpy as np
import pytest
from numba.core import config

from embshrink.kernels import nearest as kernels
from embshrink.numerics import assignment as nearest
from embshrink.numerics import parallel

FEW = config.DISABLE_JIT  # sizes that plain Python can do

bytes_only = pytest.mark.skipif(not kernels.multiplies_bytes(), reason="needs a processor that multiplies bytes")


@pytest.fixture(params=["bytes", "tiles"])
def way(request, monkeypatch):
    """Search in one of the two ways, whatever this processor has."""
    if request.param == "bytes" and not kernels.multiplies_bytes():
        pytest.skip("needs a processor that multiplies bytes")
    monkeypatch.setattr(kernels, "multiplies_bytes", lambda: request.param == "bytes")


def points(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) + 3 * rng.integers(3, size=(n, 1))).astype(np.float32)


def check(matrix, targets, offsets=None, **options):
    """Check that each row's target is the best but for float32's rounding; return the targets."""
    ids, scores = nearest.best_targets(matrix, targets, offsets, **options)
    all_scores = matrix.astype(np.float64) @ targets.T.astype(np.float64) + (0 if offsets is None else offsets)
    size = np.linalg.norm(matrix.astype(float), axis=1) * np.linalg.norm(targets.astype(float), axis=1).max()
    error = 1e-6 * matrix.shape[1] * (size + (0 if offsets is None else np.abs(offsets).max()) + 1e-37)
    found = all_scores[np.arange(len(matrix)), ids]
    assert (found >= all_scores.max(axis=1) - error).all()
    assert (np.abs(scores - found) <= error).all()
    return ids


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (1500, 7, 30), (1025, 40, 600), (2049, 16, 1), (7, 300, 65),
                                   (64, 51, 129), (13, 2, 700), (200, 4, 64)])
@pytest.mark.parametrize("offset", [False, True])
def test_best_targets_is_the_argmax(shape, offset):
    n, d, k = shape
    matrix, targets = points(n // 8 + 1 if FEW else n, d), points(k, d, seed=1)
    offsets = np.random.default_rng(2).standard_normal(k).astype(np.float32) if offset else None
    ids = check(matrix, targets, offsets)
    assert (ids == naive.best_targets(matrix, targets, offsets)[0]).mean() > 0.99


@pytest.mark.usefixtures("way")
def test_the_lowest_id_wins_a_tie():
    targets = np.tile(np.eye(3, dtype=np.float32), (700, 1))
    ids, _ = nearest.best_targets(np.eye(3, dtype=np.float32), targets)
    assert ids.tolist() == [0, 1, 2]
    ids, _ = nearest.best_targets(np.eye(3, dtype=np.float32), targets, guess=np.array([2094, 1000, 5]))
    assert ids.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("way")
def test_a_guess_changes_nothing():
    matrix, targets = points(300, 10), points(200, 10, seed=1)
    offsets = -(targets**2).sum(axis=1) / 2
    expected, scores = nearest.best_targets(matrix, targets, offsets)
    for guess in (expected, np.zeros(300, np.int64), np.random.default_rng(3).integers(200, size=300)):
        ids, again = nearest.best_targets(matrix, targets, offsets, guess=guess)
        assert np.array_equal(ids, expected)
        assert scores.tobytes() == again.tobytes()


@pytest.mark.usefixtures("way")
def test_rows_are_matched_in_the_order_given():
    matrix, targets = points(50, 5), points(20, 5, seed=1)
    rows = np.array([7, 3, 49, 3])
    ids, scores = nearest.best_targets(matrix, targets, rows=rows)
    expected, best = nearest.best_targets(matrix, targets)
    assert np.array_equal(ids, expected[rows])
    np.testing.assert_allclose(scores, best[rows], rtol=1e-6)


@pytest.mark.usefixtures("way")
def test_rows_and_targets_of_any_length():
    rng = np.random.default_rng(0)
    for scale in (1e-25, 1e-12, 1, 1e10):
        for other in (1e-12, 1, 1e8):
            check((rng.standard_normal((40, 12)) * scale).astype(np.float32),
                  (rng.standard_normal((150, 12)) * other).astype(np.float32))
    matrix, targets = points(60, 9), points(150, 9, seed=1)
    matrix[::3] *= np.float32(1e6)
    matrix[1] = 0
    targets[7] *= np.float32(1e7)
    targets[9] = 0
    targets[70:] *= np.float32(1e-7)
    check(matrix, targets)
    check(matrix, targets, -(targets.astype(np.float64) ** 2).sum(axis=1).astype(np.float32) / 2)
    check(matrix, np.zeros((70, 9), np.float32))


@pytest.mark.usefixtures("way")
def test_what_overflows_is_not_lost():
    targets = np.array([[1, 0], [3e38, 0], [0, 1]], np.float32)
    ids, _ = nearest.best_targets(np.array([[1, 0], [-1, 0], [0, 1]], np.float32), targets)
    assert ids.tolist() == [1, 2, 2]


@pytest.mark.usefixtures("way")
def test_a_mean_far_from_zero_does_no_harm():
    matrix, targets = points(200, 20) + np.float32(100), points(150, 20, seed=1) + np.float32(100)
    check(matrix, targets, -(targets.astype(np.float64) ** 2).sum(axis=1).astype(np.float32) / 2)


@pytest.mark.usefixtures("way")
def test_no_rows_and_no_targets():
    assert nearest.best_targets(np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32))[0].shape == (0,)
    ids, scores = nearest.best_targets(np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32))
    assert ids.tolist() == [0, 0]
    assert scores.tolist() == [-np.inf, -np.inf]


@pytest.mark.usefixtures("way")
def test_same_bytes_at_any_number_of_threads_and_in_any_blocks(monkeypatch):
    matrix, targets = points(500 if FEW else 3000, 24), points(100, 24, seed=1)
    results = set()
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        ids, scores = nearest.best_targets(matrix, targets)
        results.add((ids.tobytes(), scores.tobytes()))
    assert len(results) == 1
    monkeypatch.setattr(nearest, "TILE_ROWS", 77)
    ids, _ = nearest.best_targets(matrix, targets)
    assert ids.tobytes() == results.pop()[0]


@bytes_only
def test_bytes_and_what_they_lose_add_up():
    rows = points(50, 11)
    centre = rows.mean(axis=0)
    codes, about = np.zeros((54, 12), np.int8), np.empty((5, 50), np.float32)
    kernels.round_rows(centre, kernels.RoundedRows(rows, codes, *about))
    scale, lost, length, whole, product = about.astype(np.float64)
    rest = rows.astype(np.float64) - centre
    error = np.linalg.norm(rest - codes[:50, :11] * scale[:, None], axis=1)
    assert (error <= lost).all()
    np.testing.assert_allclose(lost, error, rtol=1e-3)
    np.testing.assert_allclose(length, np.linalg.norm(rest, axis=1), rtol=1e-4)
    np.testing.assert_allclose(whole, np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-5)
    np.testing.assert_allclose(product, rows.astype(np.float64) @ centre, rtol=1e-4, atol=1e-4)
    assert not codes[50:].any()
    assert not codes[:, 11:].any()
    assert np.abs(codes[:50].astype(int)).max(axis=1).tolist() == [127] * 50


@bytes_only
def test_few_targets_are_compared_in_full(monkeypatch):
    """What rules targets out must leave next to none: else it would be right, and slow."""
    rng = np.random.default_rng(0)
    matrix, targets = np.split(rng.standard_normal((1240, 50)).astype(np.float32), [600])
    rounded = nearest._Rounded(targets, np.zeros(640, np.float32))
    rows = rounded._rounded(matrix)
    slack = rows.losses * rounded._targets.longest.max() + rows.distances * rounded._targets.losses.max()
    scores = matrix @ targets.T
    assert ((scores > scores.max(axis=1, keepdims=True) - 2 * slack[:, None]).sum(axis=1)).mean() < 4
