"""iiq, scalar and rq: what is particular to each."""

import naive
import numpy as np
import pytest
from conftest import make_vectors

from embshrink import StepError, WordVectors, compress, load
from embshrink.methods import iiq, registry, rq, scalar
from embshrink.methods.base import Context
from embshrink.numerics.linalg import eigen, gram
from embshrink.numerics.progress import no_progress


def context(n, seed=0):
    return Context(np.full(n, 1 / n), np.random.default_rng(seed))


def coded(text, matrix, seed=0):
    """Return (step, state, codes, decoded)."""
    step = registry.parse(text).resolve(*matrix.shape)
    state = step.fit(matrix, context(len(matrix), seed))
    codes = step.encode(matrix, state, context(len(matrix)))
    return step, state, codes, step.decode(codes, state, np.arange(len(matrix)))


# ---------------------------------------------------------------- iiq


@pytest.mark.parametrize("text", ["iiq", "iiq:bits=6", "iiq:remove=4", "iiq:bits=9,remove=5", "itq", "itq:bits=4",
                                  "sign"])
def test_iiq_basis_is_orthogonal_and_cosines_are_hammings(text, vectors):
    step, state, codes, decoded = coded(text, vectors.matrix)
    np.testing.assert_allclose(state["basis"] @ state["basis"].T, np.eye(step.bits), atol=1e-5)
    units = decoded / np.linalg.norm(decoded, axis=1, keepdims=True)
    np.testing.assert_allclose(iiq.hamming_cosines(codes["bits"], codes["bits"][7], step.bits), units @ units[7],
                               atol=1e-5)


def test_iiq_loss_never_rises():
    points = np.random.default_rng(0).standard_normal((500, 8)) * np.linspace(2, 0.2, 8)
    start = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    rotation, losses = iiq.fit_rotation(points, start, 40, no_progress)
    assert len(losses) == 41
    assert all(after <= before + 1e-9 for before, after in zip(losses, losses[1:]))
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(8), atol=1e-9)


def test_sign_is_the_signs(vectors):
    _, _, codes, decoded = coded("sign", vectors.matrix)
    assert np.array_equal(decoded > 0, vectors.matrix >= 0)
    bits = np.unpackbits(codes["bits"], axis=1, bitorder="little")[:, :10]
    assert np.array_equal(bits, vectors.matrix >= 0)


def test_isotropy_grows_as_strong_directions_go(vectors):
    mean = vectors.matrix.mean(axis=0, dtype=np.float64)
    _, axes = eigen(gram(vectors.matrix, mean=mean))
    values = [iiq.isotropy(vectors.matrix, mean, axes[:, removed:]) for removed in range(5)]
    assert values == sorted(values)
    assert iiq.isotropy(vectors.matrix, np.zeros(10), axes) < values[0]
    assert 0 < values[0] < values[-1] <= 1


def test_iiq_reports_isotropy(vectors, tmp_path):
    report = compress(vectors, tmp_path / "v.ems", ["iiq"])
    assert report.notes["isotropy after"] > report.notes["isotropy before"]


def test_new_words_get_the_code_their_vector_has(vectors):
    step, state, codes, _ = coded("iiq:bits=7", vectors.matrix)
    again = step.encode(vectors.matrix[[5, 9]], state, context(2))
    assert np.array_equal(again["bits"], codes["bits"][[5, 9]])


def test_iiq_stores_what_it_says(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", ["iiq:ratio=64"], measure=False)
    emb = load(tmp_path / "v.ems")
    assert emb.info()["steps"] == ["iiq:bits=5,remove=1"]
    assert emb.info()["sections"]["codes.bits"] == 400


@pytest.mark.parametrize(("text", "message"), [
    ("iiq:bits=11", r"more bits than the vectors have columns \(expected bits <= 10, found 11\)"),
    ("iiq:remove=10", r"cannot remove all directions \(expected remove < 10, found 10\)"),
    ("iiq:bits=3,ratio=32", "iiq takes one of bits and ratio, not both"),
    ("sign:bits=5", r"rotate=none stores exactly one bit per column \(expected bits = 10, found 5\)"),
])
def test_iiq_refuses(text, message, vectors):
    with pytest.raises(StepError, match=message):
        registry.parse(text).resolve(400, 10)


def test_auto_is_a_value():
    assert registry.parse("iiq:remove=auto") == registry.parse("iiq")


# ---------------------------------------------------------------- scalar


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_are_packed(bits):
    levels = np.random.default_rng(0).integers(2**bits, size=(20, 7), dtype=np.uint8)
    packed = scalar.pack_bits(levels, bits)
    assert packed.shape == (20, -(-7 * bits // 8))
    assert np.array_equal(scalar.unpack_bits(packed, bits, 7), levels)


@pytest.mark.parametrize("per", ["matrix", "column"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_scalar_clips_where_it_loses_least(per, bits, vectors):
    _, _, _, decoded = coded(f"scalar:bits={bits},per={per}", vectors.matrix)
    error = ((decoded - vectors.matrix) ** 2).sum()
    for reach in np.linspace(0.2, 1.2, 30):  # no multiple of the widest range does better, by naive search
        centre = vectors.matrix.mean(axis=0) if per == "column" else 0
        widest = np.abs(vectors.matrix - centre).max(axis=0 if per == "column" else None) * reach
        step = 2 * widest / (2**bits - 1)
        levels = np.clip(np.rint((vectors.matrix - centre + widest) / step), 0, 2**bits - 1)
        other = ((levels * step - widest + centre - vectors.matrix) ** 2).sum()
        assert error <= other * 1.002


def test_scalar_rounds_to_the_nearest(vectors):
    step, state, codes, decoded = coded("scalar:bits=3", vectors.matrix)
    values = state["low"] + np.arange(8)[:, None] * state["step"]
    nearest = np.abs(vectors.matrix[:, None] - values[None]).min(axis=1)
    np.testing.assert_allclose(np.abs(decoded - vectors.matrix), nearest, atol=1e-5)


def test_more_bits_lose_less(vectors, tmp_path):
    errors = [compress(vectors, tmp_path / "v.ems", [f"scalar:bits={bits}"], force=True).loss["relative_error"]
              for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[7] < 1e-4


def test_constant_columns_are_exact(tmp_path):
    matrix = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    matrix[:, 2] = 0.75
    compress(WordVectors([f"w{i}" for i in range(50)], matrix), tmp_path / "v.ems", ["scalar:bits=2"], measure=False)
    np.testing.assert_allclose(np.asarray(load(tmp_path / "v.ems").vectors)[:, 2], 0.75, rtol=1e-6)


def test_int8_is_an_alias():
    assert registry.parse("int8") == registry.parse("scalar:bits=8")
    assert registry.parse("int8:per=matrix").per == "matrix"
    with pytest.raises(StepError, match="bits is given twice.* int8 stands for scalar:bits=8: use scalar"):
        registry.parse("int8:bits=4")


# ---------------------------------------------------------------- rq


@pytest.mark.parametrize("beam", [1, 3, 16])
def test_beam_search_is_the_naive_one(beam, vectors):
    books = np.random.default_rng(0).standard_normal((3, 12, 10)).astype(np.float32)
    step = rq.RQ(codebooks=3, centroids=12, beam=beam)
    codes = step._search(vectors.matrix[:60], books)
    expected = naive.beam_search(vectors.matrix[:60], books, beam)
    assert (codes == expected).all(axis=1).mean() > 0.98  # a tie up to rounding may fall either way
    errors = [((books[np.arange(3), chosen].sum(axis=1) - vectors.matrix[:60]) ** 2).sum()
              for chosen in (codes, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_wider_beams_and_joint_updates_lose_less(vectors):
    def error(text):
        return ((coded(text, vectors.matrix)[3] - vectors.matrix) ** 2).sum()

    common = "rq:codebooks=3,centroids=8"
    assert error(f"{common},beam=8,rounds=0") < error(f"{common},beam=1,rounds=0")
    assert error(f"{common},rounds=4") < error(f"{common},rounds=0")


def test_rq_beats_pq_at_few_bits():
    matrix = make_vectors(4000, 16).matrix
    errors = {text: ((coded(text, matrix)[3] - matrix) ** 2).sum()
              for text in ("rq:codebooks=2,centroids=16", "pq:subspaces=2,centroids=16")}
    assert errors["rq:codebooks=2,centroids=16"] < errors["pq:subspaces=2,centroids=16"]


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("text", [
    "iiq", "iiq:bits=9", "sign", "rq:codebooks=3,centroids=20", "pq:subspaces=3", "pq:subspaces=7,centroids=11",
    "pq:subspaces=4,normalize=columns,rotate=opq", "pq:subspaces=2,centroids=300"])
def test_scores_are_the_decoded_dot_products(text, vectors):
    step, state, codes, decoded = coded(text, vectors.matrix)
    query = np.random.default_rng(1).standard_normal(10).astype(np.float32)
    np.testing.assert_allclose(step.scores(codes, state, query), decoded @ query, atol=1e-5, rtol=1e-5)


def test_logits_are_the_dot_products_of_all_words(vectors, tmp_path):
    query = np.random.default_rng(1).standard_normal(10).astype(np.float32)
    for steps in (["pq:subspaces=3"], ["prune:keep=50,norms=true", "pq:subspaces=3"], ["cast"], ["dedupe", "iiq"]):
        compress(vectors, tmp_path / "v.ems", steps, measure=False, force=True)
        emb = load(tmp_path / "v.ems")
        np.testing.assert_allclose(emb.logits(query), np.asarray(emb.vectors) @ query, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"expected a vector of shape \(10,\)"):
        emb.logits([1, 2])
