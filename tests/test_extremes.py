"""Tables of extremely large and small numbers: every method gives finite results, or refuses with the row."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from checks import all_settings
from conftest import make_vectors

from embshrink import WordVectors, compress, evaluate, load
from embshrink.errors import EmbshrinkError
from embshrink.methods import pipeline, registry

N, DIM = 120, 8
USUAL = make_vectors(N, DIM).matrix
USUAL = np.nextafter(USUAL / np.abs(USUAL).max(), np.float32(0))  # the largest magnitude is just below 1
POWERS = {"1e-41": -136, "1e-30": -100, "1e-23": -76, "1e20": 67, "1e30": 100, "3.4e38": 128}
COMBINED = ["prune:keep=60 lowrank:dims=4 pq:subspaces=2", "dedupe lowrank:dims=6 ecq:bits=60",
            "kmeans:centroids=20,norms=true lowrank scalar:bits=4", "kmeans:centroids=20 cast:dtype=float32",
            "prune:keep=60,norms=true kmeans:centroids=30,norms=true"]
AIMS = [{"bits": 100.0}, {"size": 5000}, {"max_error": 0.1}, {"min_cosine": 0.9}, {"min_overlap": 0.5}]


def tables():
    """Return tables by name: those of POWERS differ from USUAL by a power of two."""
    rng = np.random.default_rng(0)
    found = {name: np.ldexp(USUAL, power) for name, power in POWERS.items()}
    found["mixed"] = (USUAL * 10.0 ** rng.uniform(-41, 38, (N, 1))).astype(np.float32)
    huge = USUAL * 5
    huge[17] = np.where(np.arange(DIM) % 2, -3.4e38, 3.4e38)
    found["one huge row"] = huge
    return {"usual": USUAL, **found}


TABLES = tables()
WORDS = [f"w{i}" for i in range(N)]


def steps():
    """Return steps of every method, and of pipelines that reduce several axes, once each."""
    unfit = "ecq:step", "pq:subspaces=10", "rescale:"  # parameters that do not fit these tables
    single = dict.fromkeys(text for text in all_settings() if not text.startswith(unfit))
    return [*single, *COMBINED]


def refusal(matrix, text, path, **aim):
    """Compress a table and check the file; return the message of an error, or None, and the relative error."""
    try:
        report = compress(WordVectors(WORDS, matrix), path, text.split(), force=True, **aim)
    except EmbshrinkError as error:
        assert ".tmp" not in str(error)
        return str(error), None
    with load(path, verify="full") as emb:
        assert np.isfinite(np.asarray(emb.vectors)).all()
    return None, report.relative_error


def outcome(name, text, path, **aim):
    """Do as `refusal` for the table with this name, with numpy's warnings as errors; a refusal must name the row."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message, error = refusal(TABLES[name], text, path, **aim)
    if message is not None:
        row = int(np.abs(TABLES[name]).max(axis=1).argmax())
        assert f"row {row} ('w{row}')" in message
    return message, error


@pytest.mark.parametrize("text", steps())
def test_finite_in_finite_out(text, tmp_path):
    """A table that differs from a usual one by a power of two alone has the same error."""
    message, usual = outcome("usual", text, tmp_path / "a.ems")
    assert message is None
    for name in POWERS:
        message, error = outcome(name, text, tmp_path / "a.ems")
        if text.endswith("cast"):
            assert "float16" in message
        else:
            assert error <= usual * 1.2 + 1e-6
            # At the ends of float32, numbers are few, and what is too large is clipped: the error may be smaller.
            assert name in ("1e-41", "3.4e38") or error == pytest.approx(usual, rel=1e-6, abs=1e-9)
    literal = all(step.literal for step in registry.as_steps(text.split())) and text != "cast"
    for name in ("mixed", "one huge row"):
        message, _ = outcome(name, text, tmp_path / "a.ems")
        assert literal == (message is None)


@pytest.mark.parametrize("aim", AIMS, ids=lambda aim: next(iter(aim)))
def test_aims_are_met_at_every_magnitude(aim, tmp_path):
    found = {name: outcome(name, "ecq", tmp_path / "a.ems", **aim) for name in TABLES}
    assert all(found[name][1] == pytest.approx(found["usual"][1], rel=0.5) for name in POWERS)
    assert found["one huge row"][0] is not None


@pytest.mark.parametrize("name", POWERS)
def test_a_step_of_ecq_is_in_the_unit_of_the_vectors(name, tmp_path):
    usual, given = (f"ecq:step={np.abs(TABLES[one]).max() / 40:g}" for one in ("usual", name))
    _, error = outcome(name, given, tmp_path / "a.ems")
    assert error == pytest.approx(outcome("usual", usual, tmp_path / "b.ems")[1], rel=0.05)
    with load(tmp_path / "a.ems") as emb:
        shown = emb.info()["steps"]
    assert shown[0].startswith("rescale:exponent=")
    assert outcome(name, " ".join(shown), tmp_path / "c.ems")[1] == pytest.approx(error, rel=0.05)


def test_usual_tables_are_not_rescaled(tmp_path):
    for power, count in ((-17, 2), (-16, 1), (0, 1), (16, 1), (17, 2)):
        vectors = WordVectors(WORDS, np.ldexp(USUAL, power))
        assert len(compress(vectors, tmp_path / "a.ems", "pq", force=True, measure=False).steps) == count


@pytest.mark.parametrize("exponent", [-148, -30, 30, 128])
def test_an_exponent_that_does_not_fit_is_refused(exponent, tmp_path):
    message, _ = refusal(USUAL, f"rescale:exponent={exponent} pq", tmp_path / "a.ems")
    assert "exponent of rescale" in message


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_one_word_stay_exact(name, tmp_path):
    """Kept words keep their vectors to the last bit, whatever the others are."""
    for text in ("prune:keep=40", "prune:keep=40,select=facility", "dedupe"):
        compress(WordVectors(WORDS, TABLES[name]), tmp_path / "a.ems", text, force=True, measure=False)
        with load(tmp_path / "a.ems", verify="full") as emb:
            owners = emb.owners()
            assert np.array_equal(emb.decode_rows(np.arange(emb.n_rows)),
                                  TABLES[name] if owners is None else TABLES[name][owners])


def test_a_huge_row_that_prune_removes_does_no_harm(tmp_path):
    message, _ = refusal(TABLES["one huge row"], "prune:keep=10 scalar", tmp_path / "a.ems")
    assert message is None
    with load(tmp_path / "a.ems") as emb:
        assert np.allclose(emb.decode_ids(np.arange(10)), TABLES["one huge row"][:10], atol=0.1)


@pytest.mark.parametrize("select", ["frequency", "facility"])
def test_the_default_drops_no_word(select):
    """In a table of rank 1, cosines are 1 and -1, which rounding may exceed."""
    rng = np.random.default_rng(1)
    matrix = np.outer(rng.standard_normal(300), rng.standard_normal(50)).astype(np.float32)
    _, row_map = pipeline.shrink(matrix, f"prune:keep=1,select={select}")
    assert (row_map.rows == 0).all()


@pytest.mark.parametrize("name", TABLES)
def test_search_and_evaluation(name, tmp_path):
    vectors = WordVectors(WORDS, TABLES[name])
    exact = TABLES[name].astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(vectors, tmp_path / "a.ems", "cast:dtype=float32")
        compress(vectors, tmp_path / "b.ems", "prune:keep=40", remap=tmp_path / "remap.json")
        with load(tmp_path / "a.ems") as emb:
            cosines = emb.most_similar(WORDS[17], topn=None)
            assert np.abs(cosines - exact @ exact[17]).max() < 1e-5
            assert np.abs(cosines).max() <= 1
            assert all(-1 <= emb.similarity(word, word) <= 1 for word in WORDS)
            assert emb.similarity(WORDS[17], WORDS[17]) == pytest.approx(1)
            assert all(0 <= emb.distances(word).min() < 1e-6 for word in WORDS[:9])
            assert np.abs(emb.nearest(WORDS[:9], topn=N)[1][:, : N - 1]).max() <= 1
            assert np.isfinite(emb.norms).all()
            assert emb.n_similarity(WORDS[:1], WORDS[:1]) <= 1
        result = evaluate(tmp_path / "a.ems", vectors, pairs=[], analogies=None)
    assert (result.reconstruction.relative_error, result.overlap.overlap) == (0, 1)
    assert max(abs(one["similarity"]) for one in json.loads((tmp_path / "remap.json").read_text())) <= 1


CHECKED = """
import sys, warnings
import numpy as np
sys.path.insert(0, {tests!r})
from test_extremes import BOUNDS_STEPS, TABLES
from embshrink.errors import EmbshrinkError
from embshrink.kernels import beam
from embshrink.methods import pipeline
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.facility import neighbour_graph

warnings.simplefilter("error")
for matrix in TABLES.values():
    for text in BOUNDS_STEPS:
        try:
            stored, _ = pipeline.shrink(matrix, text.split())
            stored.decode(np.arange(stored.row_map.count))
        except EmbshrinkError:
            pass
warnings.simplefilter("ignore")  # from here on, kernels get numbers that they never get from a step
rng = np.random.default_rng(0)
for value in (np.nan, np.inf, 3.4e38):
    for width in (2, 3, 30):
        matrix = rng.standard_normal((300, width)).astype(np.float32)
        matrix[::7] = value
        matrix[::11, 0] = -value
        for k in (1, 20, 300):
            for spherical in (False, True):
                _, labels = clustering.kmeans(matrix, k, rng, iterations=3, spherical=spherical)
                assert labels.min() >= 0 and labels.max() < k
        neighbour_graph(matrix, 5, rng)
        codes = np.empty((300, 2), np.int64)
        products = np.ascontiguousarray(np.tile(matrix[:, :2], 4))
        beam.encode_beam(products, products[:8], np.full((2, 4), value, np.float32), 3, codes)
        assert codes.min() >= 0 and codes.max() < 4
print("checked")
"""
BOUNDS_STEPS = ["ecq:bits=40", "pq:subspaces=4,rotate=pca", "pq:subspaces=1,centroids=16",
                "rq:codebooks=2,centroids=20", "prune:keep=20,select=facility",
                "kmeans:centroids=20,spherical=true cast:dtype=float32"]


def test_no_kernel_leaves_its_arrays(tmp_path, subprocess_env):
    """With numba's checks of indices, in a process and a cache of its own, because compiled code differs."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        pytest.skip("numba does not compile")
    env = {**subprocess_env, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = CHECKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "checked\n", done.stderr[-2000:]
