"""lowrank, groupreduce, blocksparse, tensortrain, magnitude: each against what its paper says of it."""

import math

import naive
import numpy as np
import pytest
from conftest import make_vectors

from embshrink import StepError, WordVectors, compress, load
from embshrink.compression.job import Job
from embshrink.compression.source import open_table
from embshrink.errors import FormatError, ShapeError
from embshrink.methods import pipeline, registry
from embshrink.methods.base import Context
from embshrink.methods.blocksparse import geometry
from embshrink.methods.tensortrain import core_shapes, decompose, radices, tree_order


def shrunk(matrix, *steps, weights=None):
    """Return what the table decodes to, and what is stored of it."""
    stored, row_map = pipeline.shrink(matrix, steps, weights=weights)
    return stored.decode(row_map.rows), stored


def squared_error(matrix, decoded, weights=None):
    rows = ((matrix.astype(np.float64) - decoded) ** 2).sum(axis=1)
    return rows.sum() if weights is None else rows @ weights


def weighted_svd(matrix, weights, rank):
    """Return the best approximation of this rank when row i counts weights[i]."""
    scaled = np.sqrt(weights)[:, None] * matrix.astype(np.float64)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:rank]
    return matrix @ axes.T @ axes


@pytest.fixture(scope="module")
def table():
    """Return 1,500 vectors of dim 24: more than a block, not a round number of anything."""
    return make_vectors(1500, 24, seed=3, clusters=60).matrix


# ---------------------------------------------------------------- all


@pytest.mark.parametrize("text", [
    "lowrank:dims=7", "groupreduce", "groupreduce:dtype=int8,blocks=6", "groupreduce:refine=4", "blocksparse",
    "blocksparse:order=rand", "tensortrain:rank=20", "tensortrain:factors=4", "magnitude", "magnitude:scope=global",
])
def test_a_row_decodes_to_the_same_bits_in_any_company(text):
    table = make_vectors(1500, 50, clusters=60).matrix
    _, stored = shrunk(table, text)
    rows = np.random.default_rng(0).permutation(len(table))
    together = stored.decode(np.arange(len(table)))
    assert np.array_equal(stored.decode(rows), together[rows])
    assert np.array_equal(stored.decode(np.array([5, 5, 1499, 0, 5])), together[[5, 5, 1499, 0, 5]])
    for row in rows[:100]:
        assert np.array_equal(stored.decode(np.array([row]))[0], together[row])


@pytest.mark.parametrize("steps", [
    "prune:keep=120 lowrank:dims=6 groupreduce:dtype=int8", "kmeans:centroids=90 tensortrain:rank=4",
    "kmeans:centroids=90 blocksparse", "prune:keep=120,norms=true blocksparse:order=rand",
    "kmeans:centroids=90,norms=true groupreduce:refine=2", "lowrank:dims=5 magnitude",
    "lowrank:dims=8 pq:subspaces=4", "lowrank:energy=0.8 lowrank:dims=2 cast", "prune:keep=120 tensortrain:rank=3",
])
def test_compositions_through_a_file(steps, vectors, tmp_path):
    report = compress(vectors, tmp_path / "v.ems", steps.split())
    expected, stored = shrunk(vectors.matrix, *steps.split())
    if stored.row_map.scale is not None:
        expected = expected * stored.row_map.scale[:, None]
    with load(tmp_path / "v.ems", verify="full") as emb:
        assert emb.info()["steps"] == report.steps
        np.testing.assert_array_equal(np.asarray(emb.vectors), expected)
        assert report.loss["relative_error"] < 1.01
        if "prune" in steps:
            assert [emb.alias_of(word) for word in emb.index_to_key[:120]] == emb.index_to_key[:120]
    planned = Job(open_table(vectors)).plan(steps.split()).bytes
    assert planned >= report.target_bytes
    if "groupreduce" not in steps and "energy" not in steps:
        assert planned == report.target_bytes


def test_an_order_of_rows_costs_nothing_where_a_row_map_is_needed_anyway(vectors):
    def sizes(*steps):
        return {name: part.nbytes for name, part in shrunk(vectors.matrix, *steps)[1].sections().items()}

    assert sizes("prune:keep=120", "tensortrain")["map.rows"] == sizes("prune:keep=120", "cast")["map.rows"]
    assert sizes("tensortrain")["map.rows"] == 2 * 400
    assert "map.rows" not in sizes("blocksparse")


@pytest.mark.parametrize("text", ["groupreduce", "groupreduce:dtype=int8", "groupreduce:refine=3", "blocksparse",
                                  "tensortrain", "tensortrain:order=frequency", "magnitude", "magnitude:scope=global",
                                  "magnitude:dtype=float16"])
@pytest.mark.parametrize("bits", [130, 190.5, 300, 1000])
def test_bits_are_not_exceeded(text, bits, table):
    step = registry.parse(text).with_bits(bits, 24)
    sections = shrunk(table, step)[1].sections()
    tables = {name for name in sections if name.startswith("state.")} | {"codes.levels"}  # as a codebook, not counted
    spent = 8 * sum(part.nbytes for name, part in sections.items() if name not in tables)
    assert spent <= bits * len(table) + 64  # blocksparse rounds the length of its last block
    if bits < 8 * 24:  # more than int8 could use
        assert spent >= 0.8 * bits * len(table)


@pytest.mark.parametrize(("text", "message"), [
    ("groupreduce", "keep is too small for groupreduce on this table"),
    ("blocksparse", "density is too small for blocksparse: every word stores the first block"),
    ("tensortrain", "tensortrain needs more bits per row, even for rank 1"),
    ("magnitude", r"bits=3 \(--bits\) is too small for magnitude"),
])
def test_too_few_bits_are_refused(text, message, vectors, tmp_path):
    with pytest.raises(StepError, match=message):
        compress(vectors, tmp_path / "v.ems", text, bits=3)
    size = compress(vectors, tmp_path / "v.ems", text, bits=100, measure=False).target_bytes
    assert compress(vectors, tmp_path / "v.ems", text, size=size, force=True, measure=False).target_bytes <= size


@pytest.mark.parametrize("text", ["groupreduce", "blocksparse", "tensortrain"])
def test_float16_refuses_what_it_cannot_hold(text, tmp_path):
    matrix = np.abs(np.random.default_rng(0).standard_normal((300, 6)))  # principal coordinates are larger
    matrix *= 65_500 / matrix.max()
    matrix[0] = 65_500
    with pytest.raises(ShapeError, match="too large for float16 .*Use dtype=float32"):
        compress(WordVectors(map(str, range(300)), matrix), tmp_path / "v.ems", text)
    whole, _ = shrunk(matrix.astype(np.float32), f"{text}:dtype=float32")
    assert np.isfinite(whole).all()


# ---------------------------------------------------------------- lowrank


@pytest.mark.parametrize("dims", [1, 5, 20, 24])
def test_lowrank_leaves_what_eckart_and_young_say(dims, table):
    singular = np.linalg.svd(table.astype(np.float64), compute_uv=False)
    decoded, stored = shrunk(table, f"lowrank:dims={dims},center=false")
    total = (table.astype(np.float64) ** 2).sum()
    assert squared_error(table, decoded) == pytest.approx((singular[dims:] ** 2).sum(), rel=1e-4, abs=1e-12 * total)
    assert np.linalg.matrix_rank(decoded, tol=1e-3) == dims
    numbers = sum(part.size for part in stored.sections().values())
    assert numbers == dims * (len(table) + 24)


def test_lowrank_from_the_mean_is_principal_component_analysis(table):
    from sklearn.decomposition import PCA

    expected = PCA(5, svd_solver="full").fit(table.astype(np.float64))
    decoded, stored = shrunk(table, "lowrank:dims=5")
    np.testing.assert_allclose(decoded, expected.inverse_transform(expected.transform(table)), atol=1e-4)
    np.testing.assert_allclose(np.abs(stored.columns[0][1]["basis"]), np.abs(expected.components_), atol=1e-4)


@pytest.mark.parametrize("center", ["true", "false"])
def test_lowrank_with_all_dims_loses_nothing(center, table):
    decoded, _ = shrunk(table, f"lowrank:keep=1,center={center}")
    np.testing.assert_allclose(decoded, table, atol=2e-6)


def test_lowrank_weighted_is_the_weighted_svd(table):
    weights = pipeline.zipf_weights(len(table))
    decoded, _ = shrunk(table, "lowrank:dims=4,center=false,weighted=true")
    best = weighted_svd(table, weights, 4)
    assert squared_error(table, decoded, weights) == pytest.approx(squared_error(table, best, weights), rel=1e-5)
    plain, _ = shrunk(table, "lowrank:dims=4,center=false")
    assert squared_error(table, plain, weights) > squared_error(table, best, weights)


@pytest.mark.parametrize("energy", [0, 0.5, 0.9, 0.999, 1])
def test_lowrank_takes_as_many_dims_as_the_energy_needs(energy, table, tmp_path):
    variances = np.linalg.svd(table - table.mean(axis=0, dtype=np.float64), compute_uv=False) ** 2
    held = np.cumsum(variances) / variances.sum()
    expected = max(1, int(np.sum(held < energy - 1e-9)) + 1)
    _, stored = shrunk(table, f"lowrank:energy={energy}")
    assert registry.format(stored.steps[0]) == f"lowrank:dims={expected}"


def test_lowrank_fills_in_its_dims():
    step = registry.parse("lowrank:keep=0.3").resolve(400, 10)
    assert registry.format(step) == "lowrank:dims=3"
    assert registry.parse("lowrank").resolve(400, 7).dims == 4
    assert registry.parse("lowrank:keep=0").resolve(400, 7).dims == 1


@pytest.mark.parametrize(("text", "message"), [
    ("lowrank:dims=11", r"more dimensions than the vectors have \(expected dims <= 10, found 11\)"),
    ("lowrank:dims=3,energy=0.5", "lowrank takes one of dims, keep and energy, not dims and energy"),
])
def test_lowrank_refuses(text, message):
    with pytest.raises(StepError, match=message):
        registry.parse(text).resolve(400, 10)


# ---------------------------------------------------------------- groupreduce


def ranks_of(stored):
    return stored.state["blocks"][:, 1].astype(int)


def parameters_of(stored):
    return stored.codes["factors"].size + stored.state["axes"].size


def test_groupreduce_of_one_block_is_the_weighted_svd(table):
    weights = pipeline.zipf_weights(len(table))
    decoded, stored = shrunk(table, "groupreduce:blocks=1,keep=0.3,dtype=float32")
    best = weighted_svd(table, weights, ranks_of(stored)[0])
    assert ranks_of(stored).tolist() == [int(0.3 * 1500 * 24) // (1500 + 24)]
    assert squared_error(table, decoded, weights) == pytest.approx(squared_error(table, best, weights), rel=1e-4)
    even = np.full(len(table), 1 / len(table))
    decoded, _ = shrunk(table, "groupreduce:blocks=1,keep=0.3,dtype=float32", weights=even)
    svd, _ = shrunk(table, f"lowrank:dims={ranks_of(stored)[0]},center=false")
    np.testing.assert_allclose(decoded, svd, atol=1e-4)


def test_groupreduce_with_all_it_may_keep_loses_nothing(table):
    decoded, stored = shrunk(table, "groupreduce:keep=1,dtype=float32")
    assert np.array_equal(decoded, table)
    assert stored.state["axes"].shape == (0, 24)  # a dense block needs none


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1, 2])
@pytest.mark.parametrize("keep", [0.13, 0.25, 0.4, 0.7, 0.99])
def test_groupreduce_never_exceeds_its_budget_and_uses_it(alpha, keep, table):
    for blocks in (1, 3, 8):
        stored = shrunk(table, f"groupreduce:keep={keep},alpha={alpha},blocks={blocks}")[1]
        budget = keep * table.size
        next_step = math.ceil(1500 / blocks) * (1 if alpha else blocks) + 24 * blocks + (alpha == 0) * 24 * blocks
        assert budget - next_step <= parameters_of(stored) <= budget


def test_groupreduce_ranks_are_in_proportion_to_frequencies(table):
    stored = shrunk(table, "groupreduce:keep=0.35,alpha=1,blocks=3")[1]
    f = pipeline.zipf_weights(1500).reshape(3, 500).mean(axis=1)
    ratio = f / f[-1]
    for scale in np.arange(0, 24, 0.01):
        ranks = np.clip(np.floor(scale * ratio + 0.5), 1, 24)
        ranks[ranks * (500 + 24) >= 500 * 24] = 24
        if sum(500 * rank + 24 * rank * (rank < 24) for rank in ranks) > 0.35 * table.size:
            break
        expected = ranks
    assert ranks_of(stored).tolist() == expected.tolist()
    assert expected[0] > expected[1] > expected[2]


def test_groupreduce_axes_are_the_best_of_their_rank(table):
    weights = pipeline.zipf_weights(len(table))
    decoded, stored = shrunk(table, "groupreduce:blocks=5,keep=0.3,dtype=float32")
    rng = np.random.default_rng(0)
    start = 0
    for size, rank in stored.state["blocks"].astype(int):
        rows = slice(start, start + size)
        left = squared_error(table[rows], decoded[rows], weights[rows])
        best = squared_error(table[rows], weighted_svd(table[rows], weights[rows], rank), weights[rows])
        assert left <= best * (1 + 1e-6)
        for _ in range(20):
            other = np.linalg.qr(rng.standard_normal((24, rank)))[0]
            projected = table[rows] @ other @ other.T
            assert rank == 24 or left < squared_error(table[rows], projected, weights[rows])
        start += size


def test_groupreduce_halves_the_weighted_error_of_a_plain_svd_at_equal_size():
    rng = np.random.default_rng(0)  # a flat spectrum, as word vectors have
    matrix = (rng.standard_normal((4000, 40)) * np.linspace(1.4, 0.6, 40)).astype(np.float32)
    weights = pipeline.zipf_weights(4000)
    svd, low = shrunk(matrix, "lowrank:dims=8,center=false")
    grouped, stored = shrunk(matrix, "groupreduce:dtype=float32,keep=0.2,alpha=1")
    assert parameters_of(stored) <= sum(part.size for part in low.sections().values())
    assert squared_error(matrix, grouped, weights) < 0.5 * squared_error(matrix, svd, weights)


def test_groupreduce_follows_the_weights_and_not_the_order_of_rows(table):
    weights = pipeline.zipf_weights(len(table))
    order = np.random.default_rng(0).permutation(len(table))
    decoded, stored = shrunk(table, "groupreduce", weights=weights)
    shuffled, other = shrunk(table[order], "groupreduce", weights=weights[order])
    assert ranks_of(other).tolist() == ranks_of(stored).tolist()
    assert squared_error(table[order], shuffled, weights[order]) == pytest.approx(
        squared_error(table, decoded, weights), rel=1e-3)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_groupreduce_refinement_keeps_to_the_budget_and_does_not_harm(alpha, table):
    weights = pipeline.zipf_weights(len(table))
    errors = []
    for rounds in (0, 1, 2, 4, 8, 16):
        decoded, stored = shrunk(
            table, f"groupreduce:dtype=float32,keep=0.3,blocks=4,alpha={alpha},refine={rounds}")
        assert parameters_of(stored) <= 0.3 * table.size
        assert (stored.state["blocks"][:, 0] >= ranks_of(stored)).all()
        errors.append(squared_error(table, decoded, weights))
    assert all(after <= before * (1 + 1e-6) for before, after in zip(errors, errors[1:]))
    assert errors[-1] < errors[0]
    assert len(set(stored.state["blocks"][:, 0].tolist())) > 1  # words have moved


def test_groupreduce_int8_is_four_times_smaller_and_near(table):
    exact, large = shrunk(table, "groupreduce:dtype=float32,blocks=4")
    rounded, small = shrunk(table, "groupreduce:dtype=int8,blocks=4")
    ratio = large.codes["factors"].nbytes / small.codes["factors"].nbytes
    assert ratio == 4
    assert squared_error(exact, rounded) < 0.001 * squared_error(exact, 0)


def test_groupreduce_refuses_a_budget_that_no_rank_fits():
    with pytest.raises(StepError, match=r"expected keep >= 0\.1[\d]+, found 0\.05\)\. Raise keep"):
        registry.parse("groupreduce:keep=0.05,blocks=1").resolve(1500, 10)
    with pytest.raises(StepError, match="or a smaller min_rank"):
        registry.parse("groupreduce:keep=0.5,min_rank=9").resolve(1500, 10)
    assert ranks_of(shrunk(make_vectors().matrix, "groupreduce:keep=0.7,min_rank=4,alpha=2")[1]).min() == 4


# ---------------------------------------------------------------- blocksparse


@pytest.mark.parametrize(("arguments", "starts", "density"), [
    ((15, 9, 0.5, 5), [0, 6, 8, 9, 9], 0.496296),
    ((20000, 100, 0.2, 10), [0, 9991, 14991, 17493, 18745, 19372, 19686, 19842, 19921, 19959], 0.2),
    ((10000, 20, 0.25, 20), [0, 1976, 3562, 4834, 5855, 6674, 7331, 7858, 8281, 8621, 8893, 9112, 9287, 9428, 9541,
                             9631, 9703, 9761, 9808, 9844], 0.25),
    ((400000, 300, 0.5, 10), [0, 67338, 123339, 169913, 208647, 240860, 267649, 289929, 308458, 323867], 0.5),
])
def test_geometry_is_the_authors(arguments, starts, density):
    n, d, _, blocks = arguments
    found, widths = geometry(*arguments)
    assert found == starts
    assert widths == [d // blocks] * (blocks - 1) + [d - d // blocks * (blocks - 1)]
    stored = sum((n - start) * width for start, width in zip(found, widths))
    assert round(stored / (n * d), 6) == density


def test_geometry_of_the_last_block_may_begin_before_the_one_before_it(table):
    assert geometry(400000, 300, 0.1, 30)[0][-2:] == [399995, 399994]
    matrix = np.random.default_rng(0).standard_normal((997, 24)).astype(np.float32)
    found = next((density, blocks) for density in np.arange(0.05, 1, 0.01).round(2) for blocks in range(3, 24)
                 if density * blocks >= 1 and np.diff(geometry(997, 24, density, blocks)[0])[-1] < 0)
    decoded, _ = shrunk(matrix, "blocksparse:density={},blocks={},dtype=float32".format(*found))
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize(("density", "blocks", "decay"), [
    (0.75, 2, 0.5), (0.1, 20, 0.500001), (0.5, 5, 0.644471), (0.25, 20, 0.802451), (0.5, 10, 0.831656), (1, 7, 1)])
def test_decay_is_what_scipys_bisection_finds(density, blocks, decay):
    from scipy.optimize import bisect

    from embshrink.methods.blocksparse import _decay

    def excess(alpha):
        return sum(alpha**j for j in range(blocks)) / blocks - density

    assert round(_decay(density, blocks), 6) == decay
    assert _decay(density, blocks) == bisect(excess, 0, 1, xtol=1e-6)


def test_blocksparse_of_density_1_loses_nothing(table):
    decoded, _ = shrunk(table, "blocksparse:density=1,dtype=float32")
    np.testing.assert_allclose(decoded, table, atol=1e-5)


@pytest.mark.parametrize("text", ["density=0.3,blocks=8", "density=0.5,blocks=24", "density=0.2,blocks=20"])
def test_blocksparse_stores_a_prefix_that_is_shorter_for_rarer_words(text, table):
    decoded, stored = shrunk(table, f"blocksparse:dtype=float32,{text}")
    step, rotation = stored.codec, stored.state["rotation"]
    starts, widths = geometry(1500, 24, step.density, step.blocks)
    lengths = [sum(width for start, width in zip(starts, widths) if rank < 1500 - start) for rank in range(1500)]
    assert lengths == sorted(lengths, reverse=True)
    assert stored.codes["values"].size == sum(lengths) == pytest.approx(step.density * table.size, abs=10)
    for row, length in enumerate(lengths):
        axes = rotation[:length]
        np.testing.assert_allclose(decoded[row], axes.T @ (axes @ table[row]), atol=1e-5)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(24), atol=1e-5)
    variances = ((table @ rotation.T) ** 2).sum(axis=0)
    assert (np.diff(variances) <= 0).all()


def test_blocksparse_order_up_beats_random_beats_down_where_frequency_counts(table):
    weights = pipeline.zipf_weights(len(table))
    up, rand, down = (squared_error(table, shrunk(table, f"blocksparse:order={order}")[0], weights)
                      for order in ("up", "rand", "down"))
    assert up < rand < down
    svd, _ = shrunk(table, "lowrank:dims=6,center=false")
    assert up < 0.5 * squared_error(table, svd, weights)


@pytest.mark.parametrize(("text", "message"), [
    ("blocksparse:density=0.1,blocks=5", r"expected density >= 0.2 \(1 / blocks\), found 0.1\)\. Raise density, or"),
    ("blocksparse:density=0.5,blocks=1", r"expected density >= 1 \(1 / blocks\), found 0.5"),
])
def test_blocksparse_refuses(text, message):
    with pytest.raises(StepError, match=message):
        registry.parse(text).resolve(400, 10)


# ---------------------------------------------------------------- tensortrain


@pytest.mark.parametrize(("n", "d", "factors"), [
    (1, 1, 3), (27, 8, 3), (28, 50, 3), (20_000, 300, 3), (399_999, 97, 4), (65_537, 64, 2), (10**7, 100, 6)])
def test_radices_are_near_equal_and_hold_all_rows(n, d, factors):
    rows, columns = radices(n, d, factors)
    assert math.prod(columns) == d
    assert n <= math.prod(rows) < n + 1 + factors * n / min(max(rows), n)
    assert max(rows) - min(rows) <= 2
    assert columns == sorted(columns)
    if (d, factors) == (300, 3):
        assert columns == [5, 6, 10]


@pytest.mark.parametrize("order", ["cluster", "frequency"])
@pytest.mark.parametrize("factors", [2, 3, 4, 5])
def test_tensortrain_of_full_rank_loses_nothing(order, factors, table):
    decoded, stored = shrunk(table, f"tensortrain:rank=4096,dtype=float32,order={order},factors={factors}")
    np.testing.assert_allclose(decoded, table, atol=1e-5)
    cores = [stored.codes[f"core{k}"] for k in range(factors)]
    assert [core.shape for core in cores] == core_shapes(1500, 24, factors, 4096)


@pytest.mark.parametrize("factors", [2, 3, 4])
def test_tensortrain_rows_are_products_of_slices(factors, table):
    decoded, stored = shrunk(table, f"tensortrain:rank=9,dtype=float32,order=frequency,factors={factors}")
    cores = [stored.codes[f"core{k}"] for k in range(factors)]
    assert [core.shape for core in cores] == core_shapes(1500, 24, factors, 9)
    for row in range(0, 1500, 37):
        np.testing.assert_allclose(decoded[row], naive.tensor_train_row(cores, row), atol=1e-4)


def test_a_train_of_whole_rows_and_columns_is_the_svd(table):
    left, right = decompose(table.reshape(1500, 1, 1, 24), 7)
    svd, _ = shrunk(table, "lowrank:dims=7,center=false")
    np.testing.assert_allclose(left.reshape(1500, 7) @ right.reshape(7, 24), svd, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 8, 20])
def test_tensortrain_error_is_at_most_what_the_cuts_leave_out(rank):
    tensor = np.random.default_rng(0).standard_normal((6, 2, 7, 3, 5, 4)).astype(np.float32)
    cores = decompose(tensor, rank)
    full = cores[0]
    for core in cores[1:]:
        full = np.tensordot(full, core, 1)
    tails = [np.linalg.svd(tensor.reshape(cut, -1), compute_uv=False)[rank:] for cut in (12, 12 * 21)]
    left = float(((full.reshape(tensor.shape) - tensor) ** 2).sum())
    assert max((tail**2).sum() for tail in tails) * 0.999 <= left
    assert left <= sum((tail**2).sum() for tail in tails) * 1.001 + 1e-9 * tensor.size


def test_tensortrain_in_the_order_of_clusters_beats_that_of_frequency():
    matrix = make_vectors(4000, 24, clusters=100).matrix
    for rank in (8, 24):
        errors = {order: squared_error(matrix, shrunk(matrix, f"tensortrain:rank={rank},order={order}")[0])
                  for order in ("cluster", "frequency")}
        assert errors["cluster"] <= 0.75 * errors["frequency"]


def test_tree_order_puts_clusters_together():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((32, 12)) * 10
    labels = rng.permutation(np.repeat(np.arange(32), 27))
    matrix = (centres[labels] + rng.standard_normal((len(labels), 12))).astype(np.float32)
    order = tree_order(matrix, [4, 8, 27], lambda *_: None)
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert (np.diff(labels[order]) != 0).sum() < 90  # 31 at best, 836 at random


def test_tensortrain_error_falls_with_rank(table):
    errors = [squared_error(table, shrunk(table, f"tensortrain:rank={rank}")[0]) for rank in (1, 4, 16, 64)]
    assert errors == sorted(errors, reverse=True)


def test_tensortrain_refuses_rank_and_bits():
    with pytest.raises(StepError, match="tensortrain takes one of rank and bits, not both"):
        registry.parse("tensortrain:rank=3,bits=50").resolve(400, 10)


# ---------------------------------------------------------------- magnitude


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.5, 0.9, 1])
def test_magnitude_keeps_the_largest_of_each_row(sparsity, table):
    decoded, stored = shrunk(table, f"magnitude:sparsity={sparsity},dtype=float16")
    kept = max(1, 24 - int(sparsity * 24 + 0.5))
    np.testing.assert_allclose(decoded, naive.largest_of_each_row(table, kept), rtol=1e-3, atol=1e-6)
    assert stored.codes["values"].shape == (1500, kept)


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.5, 0.9, 1])
@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_magnitude_keeps_the_largest_of_all(sparsity, dtype, table):
    decoded, stored = shrunk(table, f"magnitude:sparsity={sparsity},dtype={dtype},scope=global")
    kept = max(1, table.size - int(sparsity * table.size + 0.5))
    assert stored.codes["values"].shape == (kept,)
    marked = np.unpackbits(stored.codes["bitmap"], axis=1, count=24, bitorder="little").astype(bool)
    assert np.count_nonzero(marked) == kept
    assert np.abs(table[marked]).min() >= np.abs(table[~marked]).max(initial=0)
    steps = np.abs(table).max(axis=0) / (254 if dtype == "int8" else 2**11)
    assert (np.abs(decoded - table * marked) <= steps * 1.01).all()


def test_magnitude_of_equal_numbers_keeps_the_first(tmp_path):
    matrix = np.ones((5, 4), np.float32)
    decoded, _ = shrunk(matrix, "magnitude")
    assert np.array_equal(decoded, np.tile(np.float32([1, 1, 0, 0]), (5, 1)))
    decoded, _ = shrunk(matrix, "magnitude:scope=global,sparsity=0.45")
    assert decoded.ravel().tolist() == [1] * 11 + [0] * 9


def test_magnitude_takes_a_bit_a_number_and_a_byte_a_number_kept():
    matrix = make_vectors(640, 32).matrix
    for text, expected in (("magnitude:sparsity=0.75", 32 + 8 * 8),
                           ("magnitude:sparsity=0.5,dtype=float16", 32 + 256),
                           ("magnitude:sparsity=0.75,scope=global", 32 + 64 + 0.25)):
        codes = shrunk(matrix, text)[1].codes
        assert 8 * sum(part.nbytes for part in codes.values()) == expected * 640


def test_magnitude_of_the_whole_table_loses_less_than_of_each_row(table):
    errors = [squared_error(table, shrunk(table, f"magnitude:sparsity=0.7,dtype=float16,scope={scope}")[0])
              for scope in ("global", "row")]
    assert errors[0] < errors[1]


# ---------------------------------------------------------------- hostile files


def stored_parts(text, n=300, d=10):
    """Return a resolved codec and copies of its codes and state."""
    matrix = make_vectors(n, d).matrix
    step = registry.parse(text).resolve(n, d)
    context = Context(pipeline.zipf_weights(n), np.random.default_rng(0))
    order = step.arrange(matrix, context)
    matrix = matrix if order is None else matrix[order]
    state = step.fit(matrix, context)
    codes = step.encode(matrix, state, context)
    step.check(codes, state, n, d)
    step.check_codes(codes, state)
    return step, codes, state


@pytest.mark.parametrize("text", ["groupreduce", "groupreduce:dtype=int8,blocks=3", "groupreduce:refine=3,blocks=3",
                                  "blocksparse", "tensortrain", "tensortrain:order=frequency", "magnitude",
                                  "magnitude:scope=global"])
def test_missing_and_misshapen_sections_are_refused(text):
    step, codes, state = stored_parts(text)
    for group, kind in ((codes, "codes"), (state, "state")):
        for name, array in list(group.items()):
            for wrong in (None, array[:-1], array.astype(np.float64), array[None], np.concatenate([array, array])):
                if wrong is None:
                    del group[name]
                else:
                    group[name] = wrong
                with pytest.raises(FormatError, match=f"{kind}.{name}"):
                    step.check(codes, state, 300, 10)
                group[name] = array
            if array.dtype.kind == "f":
                group[name] = array.copy()
                group[name].reshape(-1)[-1] = np.nan
                with pytest.raises(FormatError, match=f"section {kind}.{name} holds a NaN"):
                    step.check(codes, state, 300, 10)
                    step.check_codes(codes, state)
                group[name] = array
    wrong = [(300, 9), (300, 11), (0, 10), (3000, 10)]
    if not text.startswith("tensortrain"):  # its cores hold 343 rows, padding among them
        wrong += [(299, 10), (301, 10)]
    for n, d in wrong:
        with pytest.raises(FormatError):
            step.check(codes, state, n, d)


@pytest.mark.parametrize(("text", "name", "change", "message"), [
    ("groupreduce:blocks=3", "blocks", lambda a: a.__setitem__((0, 1), 0), "state.blocks does not match the rows"),
    ("groupreduce:blocks=3", "blocks", lambda a: a.__setitem__((0, 1), 11), "ranks 1 to 10"),
    ("groupreduce:blocks=3", "blocks", lambda a: a.__setitem__((0, 0), 2**32 - 1), "does not match the rows"),
    ("groupreduce:blocks=3", "blocks", lambda a: a.__setitem__((slice(2), 0), [101, 99]), "codes.factors"),
    ("groupreduce:refine=3,blocks=3", "block", lambda a: a.__setitem__(5, 9), "state.block does not match"),
    ("groupreduce:refine=3,blocks=3", "block", lambda a: a.__setitem__(5, 1 - min(a[5], 1)), "does not match"),
    ("groupreduce:refine=3,blocks=3", "before", lambda a: a.__setitem__((1, 1), 7), "does not match"),
    ("blocksparse", "lengths", lambda a: a.__setitem__(0, 299), "state.lengths does not match the rows"),
    ("blocksparse", "lengths", lambda a: a.__setitem__(3, 301), "state.lengths does not match the rows"),
    ("blocksparse", "lengths", lambda a: a.__setitem__(3, a[3] - 1), "codes.values"),
])
def test_states_that_do_not_fit_are_refused_at_open(text, name, change, message):
    step, codes, state = stored_parts(text)
    state[name] = state[name].copy()
    change(state[name])
    with pytest.raises(FormatError, match=message):
        step.check(codes, state, 300, 10)


@pytest.mark.parametrize(("text", "name", "change"), [
    ("magnitude", "bitmap", lambda a: a.__setitem__((7, 0), 0)),
    ("magnitude", "bitmap", lambda a: a.__setitem__((7, 1), 255)),
    ("magnitude:scope=global", "bitmap", lambda a: a.__setitem__((7, 0), 255)),
    ("magnitude:scope=global", "bitmap", lambda a: a.__setitem__((299, 0), ~a[299, 0])),
    ("magnitude:scope=global", "starts", lambda a: a.__setitem__(1, 3)),
    ("magnitude:scope=global", "starts", lambda a: a.__setitem__(2, np.iinfo(a.dtype).max)),
])
def test_bitmaps_that_do_not_fit_are_refused(text, name, change):
    step, codes, state = stored_parts(text)
    codes[name] = codes[name].copy()
    change(codes[name])
    step.check(codes, state, 300, 10)
    with pytest.raises(FormatError, match="codes.bitmap"):
        step.check_codes(codes, state)
    stored = pipeline.Stored([step], 10, None, [], step, state, codes)
    for row in (7, 70, 140, 299):  # at the lower levels: a vector, or an error that says what is wrong
        try:
            assert stored.decode(np.array([row])).shape == (1, 10)
        except FormatError as error:
            assert "code" in str(error)


@pytest.mark.parametrize("text", ["groupreduce", "blocksparse", "tensortrain"])
def test_headers_that_were_not_resolved_are_refused(text):
    _, codes, state = stored_parts(text)
    with pytest.raises(FormatError, match=text):
        registry.parse(text).check(codes, state, 300, 10)


def test_far_more_rows_than_words_are_refused():
    step, codes, state = stored_parts("tensortrain")
    groups = {"map": {"rows": np.zeros(300, np.uint64)}, "state": state, "codes": codes}
    with pytest.raises(FormatError, match=r"far more rows than words \(expected <= 300, found 10{40}\)"):
        pipeline.restore([registry.format(step)], 300, 10, 10**40, True, lambda name: groups.get(name, {}))
