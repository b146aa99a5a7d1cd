"""Aims: what is asked for is kept, or the nearest is named; on a sample first, on the whole at last."""

import numpy as np
import pytest
from conftest import make_vectors

from embshrink import compress, load
from embshrink.compression import rate_control as aims
from embshrink.compression.job import Job
from embshrink.compression.pareto import pareto_front
from embshrink.compression.source import open_table
from embshrink.errors import StepError


@pytest.fixture(scope="module")
def table():
    return make_vectors(3000, 16, clusters=200)


@pytest.mark.parametrize("step", ["ecq", "ecq:trellis=0", "pq:centroids=16", "scalar"])
def test_a_size_is_kept_and_used(step, table, tmp_path):
    whole = compress(table, tmp_path / "a.ems", "cast:dtype=float32", measure=False)
    for bits in (32, 56):
        size = whole.parts["words"] + 4000 + 3000 * bits // 8
        report = compress(table, tmp_path / "a.ems", step, size=size, force=True, measure=False)
        assert report.target_bytes == (tmp_path / "a.ems").stat().st_size <= size
        assert report.target_bytes > size - (600 if step.startswith("ecq") else 6500)  # whole bits a number else


@pytest.mark.parametrize("step", ["ecq", "pq:centroids=16"])
@pytest.mark.parametrize("rows", [[], ["prune:keep=2000"]])
def test_bits_count_every_table(step, rows, table, tmp_path):
    report = compress(table, tmp_path / "a.ems", [*rows, step], bits=50, measure=False)
    with load(tmp_path / "a.ems") as emb:
        sections = emb.info()["sections"]
    taken = sum(size for name, size in sections.items() if not name.startswith("words."))
    assert report.bits_per_word == 8 * taken / 3000 <= 50
    assert report.bits_per_word > 40


@pytest.mark.parametrize("step", ["ecq", "ecq:trellis=4", "pq:centroids=16", "scalar"])
@pytest.mark.parametrize(("aim", "key", "low", "high"), [
    ({"max_error": 0.05}, "relative_error", 0.044, 0.05),
    ({"min_cosine": 0.97}, "mean_cosine", 0.97, 0.974),
    ({"min_overlap": 0.7}, "overlap_at_10", 0.7, 0.73),
])
def test_a_quality_is_reached_and_no_more(step, aim, key, low, high, table, tmp_path):
    loss = compress(table, tmp_path / "a.ems", step, **aim).loss[key]
    assert loss <= high if key == "relative_error" else loss >= low
    if step.startswith("ecq"):  # which has a setting for every error; others have steps
        assert low <= loss <= high


def test_a_sample_first_and_the_whole_at_last(table, tmp_path, monkeypatch):
    monkeypatch.setattr(aims, "SAMPLE", 1000)
    tried = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda job, steps: tried.append(len(job.table.words)) or run(job, steps))
    for step in ("ecq", "scalar"):
        tried.clear()
        loss = compress(table, tmp_path / "a.ems", step, max_error=0.05, force=True).loss
        assert loss["relative_error"] <= 0.05
        assert set(tried) == {1000, 3000} and tried[0] == 1000 and tried.count(3000) <= 4


@pytest.mark.parametrize(("arguments", "message"), [
    ({"size": 500}, r"the file cannot be made so small by this method \(expected >= [\d,]+ bytes, found 500\)"),
    ({"max_error": 1e-12}, r"max error 1e-12 is out of reach of this method \(found \S+ at the nearest\)"),
    ({"bits": 1, "max_error": 0.1}, "bits and max_error are both given. Give one of them"),
    ({"min_cosine": 1.5}, r"min_cosine cannot be 1.5 \(expected 0 to 1\)"),
])
def test_what_cannot_be_had_is_said(arguments, message, table, tmp_path):
    with pytest.raises(StepError, match=message):
        compress(table, tmp_path / "a.ems", "pq:centroids=16", **arguments)
    assert not list(tmp_path.iterdir())


def test_rq_is_taken_where_it_loses_less(table, tmp_path, monkeypatch):
    error = {step: compress(table, tmp_path / "a.ems", step, bits=60, force=True).loss["relative_error"]
             for step in ("ecq", "rq")}
    for most, expected in ((0.9, error["ecq"]), (10, min(error.values()))):
        monkeypatch.setattr(aims, "FEW_BITS", most)
        chosen = compress(table, tmp_path / "a.ems", "ecq", bits=60, choose=True, force=True)
        assert chosen.bits_per_word <= 60 and chosen.loss["relative_error"] == pytest.approx(expected)
    monkeypatch.setattr(aims._Search, "spend", lambda *_: (_ for _ in ()).throw(StepError("not so few")))
    chosen = compress(table, tmp_path / "a.ems", "ecq", bits=60, choose=True, force=True)
    assert chosen.steps[0].startswith("rq") and chosen.loss["relative_error"] == pytest.approx(error["rq"])


def test_the_frontier(table):
    found = pareto_front(Job(open_table(table)))
    assert [one.bytes for one in found] == sorted(one.bytes for one in found)
    best = [one for one in found if one.best]
    assert (np.diff([one.relative_error for one in best]) < 0).all()
    for one in found:
        assert one.best or any(other.bytes <= one.bytes and other.relative_error <= one.relative_error
                               for other in best)
    names = {one.step.split(":")[0] for one in found}
    assert {"ecq", "pq", "scalar", "rq", "iiq"} <= names
