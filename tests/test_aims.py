"""Aims are kept, or the message gives the closest value; settings are tried on a sample first."""

import os
import re

import numpy as np
import pytest
from conftest import make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from embshrink import WordVectors, compress, load
from embshrink.compression import rate_control as aims
from embshrink.compression.job import Job
from embshrink.compression.pareto import pareto_front
from embshrink.compression.source import open_table
from embshrink.errors import SameFileError, StepError
from embshrink.formats import write_vectors
from embshrink.methods.ecq.codec import ECQ


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


@pytest.fixture
def counted(monkeypatch):
    """Count how often ecq is fitted, and how often it encodes all rows."""
    counts = {"fit": 0, "encode": 0}
    fit, encode = ECQ.fit, ECQ.encode

    def counted_fit(codec, *arguments):
        counts["fit"] += 1
        return fit(codec, *arguments)

    def counted_encode(codec, *arguments):
        counts["encode"] += 1
        return encode(codec, *arguments)

    monkeypatch.setattr(ECQ, "fit", counted_fit)
    monkeypatch.setattr(ECQ, "encode", counted_encode)
    return counts


@pytest.mark.parametrize("aim", [{"bits": 12}, {"bits": 60}, {"size": 90_000}, {"size": 10**8}], ids=str)
def test_bits_and_sizes_take_one_fit(aim, table, tmp_path, counted):
    report = compress(table, tmp_path / "a.ems", "ecq", measure=False, **aim)
    assert counted == {"fit": 1, "encode": 1}
    taken, allowed = (report.bits_per_word, aim["bits"]) if "bits" in aim else (report.target_bytes, aim["size"])
    assert taken <= allowed
    assert taken >= 0.97 * allowed or aim == {"size": 10**8}  # which no step size can use


def test_rows_that_a_step_drops_take_one_more_run(tmp_path, counted):
    """`dedupe` is planned to keep all rows; the bits of those that it drops are used by the others."""
    once = make_vectors(1500, 16, clusters=100)
    vectors = WordVectors([f"{word}{copy}" for copy in "ab" for word in once.words], np.tile(once.matrix, (2, 1)))
    report = compress(vectors, tmp_path / "a.ems", ["dedupe", "ecq"], bits=40, measure=False)
    assert 0.97 * 40 <= report.bits_per_word <= 40 and counted == {"fit": 2, "encode": 2}


def test_n_grams_share_a_size_with_words(gensim_data, tmp_path, counted):
    source = gensim_data / "crime-and-punishment.bin"
    report = compress(source, tmp_path / "a.ems", "ecq", size=15_000, measure=False)
    assert 0.97 * 15_000 <= report.target_bytes <= 15_000
    assert counted["fit"] <= 6  # of words and n-grams; twice more, as padding is a large part of so small a file


@settings(max_examples=6, deadline=None)
@given(rows=st.integers(60, 1500), dim=st.integers(1, 12), bits=st.floats(1, 80), seed=st.integers(0, 99))
def test_an_aim_is_never_exceeded_and_its_hint_is_true(rows, dim, bits, seed):
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((rows, dim)) * rng.lognormal(0, 1, (rows, 1))).astype(np.float32)
    job = Job(open_table(WordVectors([f"w{i}" for i in range(rows)], matrix)))
    for _ in range(2):
        try:
            assert aims.meet(aims.Aim("bits", bits), [ECQ()], job).bits_per_word <= bits
            break
        except aims.AimMissed as missed:
            bits = float(re.search(r"Set bits to at least ([\d.]+)", str(missed)).group(1))
    else:
        raise AssertionError("the hint was not true")


def test_a_sample_first_and_the_whole_at_last(table, tmp_path, monkeypatch):
    monkeypatch.setattr(aims, "SAMPLE", 1000)
    tried = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda job, steps, **goal: tried.append(len(job.table.words))
                        or run(job, steps, **goal))
    for step in ("ecq:norms=true", "scalar"):  # codecs that do not find a step for a goal
        tried.clear()
        loss = compress(table, tmp_path / "a.ems", step, max_error=0.05, force=True).loss
        assert loss["relative_error"] <= 0.05
        assert set(tried) == {1000, 3000} and tried[0] == 1000 and tried.count(3000) <= 4


def test_a_sample_tells_the_overlap_of_the_whole(table, tmp_path, monkeypatch):
    """Words of a sample have neighbours farther away, so that an overlap among them alone would be too high."""
    monkeypatch.setattr(aims, "SAMPLE", 500)
    tried = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda job, steps, **goal: tried.append(len(job.table.words))
                        or run(job, steps, **goal))
    assert compress(table, tmp_path / "a.ems", "scalar", min_overlap=0.9).overlap_at_10 >= 0.9
    assert set(tried) == {500, 3000} and tried.count(3000) <= 2


@pytest.mark.parametrize(("arguments", "message"), [
    ({"size": 500}, r"size=500 \(--size\) is too small for pq \(expected >= [\d,]+ bytes\)\. The words alone take"),
    ({"size": 34_500}, r"size=34,500 .*expected >= ([\d,]+) bytes\)\. Set size to at least \1"),
    ({"bits": 1}, r"bits=1 \(--bits\) is too small for pq \(expected >= (\S+) bits per word\)\. Set bits to .* \1"),
    ({"max_error": 1e-7}, r"max_error=1e-07 \(--max-error\) cannot be met by pq \(expected relative error <= 1e-07, "
                          r"found 0\.\d+ as the closest\)\. Use cast, which reaches \S+, or set max_error to 0\.\d+"),
    ({"min_overlap": 0.99999}, r"\(--min-overlap\).*overlap@10 >= .*Use cast:dtype=float32, .*"
                               r"set min_overlap to 0\.\d+ or less"),
    ({"bits": 1, "max_error": 0.1}, r"only one aim.*found bits \(--bits\) and max_error \(--max-error\).*Keep one"),
    ({"min_cosine": 1.5}, r"min_cosine \(--min-cosine\) is out of range .*above 0 and below 1, found 1\.5"),
    ({"size": "6 apples"}, r"size \(--size\) is not a size \(expected 6MB, .*found '6 apples'"),
])
def test_an_aim_that_is_missed_is_explained(arguments, message, table, tmp_path):
    with pytest.raises(StepError, match=message):
        compress(table, tmp_path / "a.ems", "pq:centroids=16", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("steps", "arguments", "message"), [
    (["ecq"], {"max_error": 1e-12}, "cannot be met by ecq .*found .*e-08 as the closest.*Use cast:dtype=float32, "),
    (["ecq"], {"bits": 0.01}, r"too small for ecq \(expected >= [\d.]+ bits per word"),
    (["prune:keep=300", "ecq"], {"max_error": 0.01}, r"Set max_error to 0\.2\d+ or more, or keep more in prune"),
    (["prune:keep=300", "scalar"], {"min_cosine": 0.99}, r"Set min_cosine to 0\.8\d+ or less, or keep more in prune"),
])
def test_a_limit_of_the_codec_is_no_error_of_its_step(steps, arguments, message, table, tmp_path):
    """The message names the aim that was given, not a step or bits per row that the search chose."""
    with pytest.raises(aims.AimMissed, match=message):
        compress(table, tmp_path / "a.ems", steps, **arguments)


def test_the_message_is_about_the_method_that_comes_closer(table, tmp_path):
    for arguments in ({"bits": 0.01}, {"size": 34_500}):
        with pytest.raises(aims.AimMissed, match="too small for ecq"):  # rq's codebooks take more
            compress(table, tmp_path / "a.ems", "ecq", choose=True, **arguments)


def test_the_value_that_the_message_names_is_reached(table, tmp_path):
    compress(table, tmp_path / "a.ems", "ecq", size=10**9, measure=False)  # more than any setting takes
    for step, arguments in (("pq:centroids=16", {"max_error": 1e-7}), ("pq", {"bits": 1}), ("pq", {"size": 34_500})):
        with pytest.raises(aims.AimMissed) as caught:
            compress(table, tmp_path / "b.ems", step, force=True, **arguments)
        (name,), found = arguments, re.search(r"[Ss]et \w+ to (?:at least )?([\d.,e-]*\d)", str(caught.value))
        value = found.group(1)
        compress(table, tmp_path / "b.ems", step, measure=False, force=True, **{name: float(value.replace(",", ""))})


def test_rq_is_taken_where_it_loses_less(table, tmp_path, monkeypatch):
    error = {step: compress(table, tmp_path / "a.ems", step, bits=60, force=True).loss["relative_error"]
             for step in ("ecq", "rq")}
    for most, expected in ((0.9, error["ecq"]), (10, min(error.values()))):
        monkeypatch.setattr(aims, "FEW_BITS", most)
        chosen = compress(table, tmp_path / "a.ems", "ecq", bits=60, choose=True, force=True)
        assert chosen.bits_per_word <= 60 and chosen.loss["relative_error"] == pytest.approx(expected)
    monkeypatch.setattr(aims._Search, "_spend_bits", lambda *_: (_ for _ in ()).throw(StepError("not so few")))
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


def test_a_size_may_be_written_with_its_unit(table, tmp_path):
    compress(table, tmp_path / "a.ems", "pq:centroids=16", size="60kB")
    compress(table, tmp_path / "b.ems", "pq:centroids=16", size=60_000)
    assert (tmp_path / "a.ems").read_bytes() == (tmp_path / "b.ems").read_bytes()


def test_the_source_is_never_the_target(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_vectors(list(table.words)[:200], [table.matrix[:200]], "v.bin", "word2vec")
    before = (tmp_path / "v.bin").read_bytes()
    os.symlink("v.bin", "link.bin")
    for target in ("v.bin", "./v.bin", "link.bin"):
        with pytest.raises(SameFileError, match="the target is the same file as the source"):
            compress("v.bin", target, "cast", force=True)
    with pytest.raises(SameFileError, match=r"remap \(--remap\) is the same file as the source"):
        compress("v.bin", "v.ems", "prune:keep=9", remap="v.bin", force=True)
    assert (tmp_path / "v.bin").read_bytes() == before
