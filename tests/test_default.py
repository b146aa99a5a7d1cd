"""Without steps and aims, the smallest file is written that keeps 8 of 10 nearest neighbours."""

import numpy as np
import pytest
from conftest import make_vectors

from embshrink import StepError, WordVectors, compress, info, plan, quantize, write_vectors
from embshrink.compression import default, job


@pytest.fixture(scope="module")
def vectors():
    return make_vectors(n=2200, d=12, clusters=40)


def test_the_default_is_an_overlap_of_eight_tenths(vectors, tmp_path):
    report = compress(vectors, tmp_path / "a.ems")
    assert 0.8 <= report.overlap_at_10 <= 0.82
    assert report.steps[0].startswith("ecq:step=")
    assert len(report.remarks) == 1 and "--min-overlap" in report.remarks[0]
    quantize(vectors, tmp_path / "b.ems")
    asked = compress(vectors, tmp_path / "c.ems", "ecq", min_overlap=0.8)
    assert asked.remarks == []
    assert len({(tmp_path / f"{name}.ems").read_bytes() for name in "abc"}) == 1


def test_aims_and_methods_replace_it(vectors, tmp_path):
    for name, given in {"a": {"parameters": "trellis=0"}, "b": {"method": "ecq"}}.items():
        report = quantize(vectors, tmp_path / f"{name}.ems", measure=False, **given)
        assert report.steps[0].startswith("ecq:bits=") and report.remarks == []
    report = compress(vectors, tmp_path / "c.ems", size=40_000, measure=False)
    assert 39_000 < report.target_bytes <= 40_000 and report.remarks == []
    quantize(vectors, tmp_path / "d.ems", size=40_000, measure=False)
    assert (tmp_path / "c.ems").read_bytes() == (tmp_path / "d.ems").read_bytes()


def test_lossless_is_asked_for(vectors, tmp_path):
    for name, given in {"a": {"lossless": True}, "b": {"steps": []}, "c": {"steps": [], "lossless": True}}.items():
        assert compress(vectors, tmp_path / f"{name}.ems", **given).lossless
    assert len({(tmp_path / f"{name}.ems").read_bytes() for name in "abc"}) == 1
    for given in ({"steps": "cast"}, {"size": 1000}, {"min_overlap": 0.9}):
        with pytest.raises(StepError, match="lossless"):
            compress(vectors, tmp_path / "d.ems", lossless=True, **given)


def test_two_bits_where_neighbours_are_not_measured(vectors, tmp_path):
    report = compress(vectors, tmp_path / "a.ems", measure=False)
    assert report.steps[0].startswith("ecq:bits=")
    assert "--no-measure" in report.remarks[0] and "2 bits" in report.remarks[0]


def test_a_cast_where_the_tables_of_ecq_take_more_bytes_than_few_vectors(tmp_path):
    table = make_vectors(99, 12)
    report = compress(table, tmp_path / "a.ems")
    assert report.steps == ["cast"]
    assert "ecq would take more bytes" in report.remarks[0] and "fewer than 100" in report.remarks[0]
    assert plan(table).remarks == report.remarks
    assert report.target_bytes < compress(table, tmp_path / "b.ems", "ecq").target_bytes


def few_distinct(count):
    """Return 300 vectors, `count` of them distinct."""
    matrix = np.eye(count, 8, dtype=np.float32)[np.arange(300) % count]
    return WordVectors([f"w{i}" for i in range(300)], matrix)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_equal_vectors_have_no_neighbours_to_keep(count, tmp_path):
    """Any file keeps all neighbours of a few distinct vectors, so that an overlap says nothing of them."""
    report = compress(few_distinct(count), tmp_path / "a.ems")
    assert "distinct vectors" in report.remarks[0]
    assert report.mean_cosine > 0.99
    with pytest.raises(StepError, match="each is a neighbour of each .*found " + str(count)):
        compress(few_distinct(count), tmp_path / "b.ems", "ecq", min_overlap=0.5)


def test_an_error_that_is_not_defined_meets_no_aim(tmp_path):
    for table in (few_distinct(1), WordVectors(["w"], np.ones((1, 5), np.float32))):
        with pytest.raises(StepError, match="the relative error is not defined"):
            compress(table, tmp_path / "a.ems", "ecq", max_error=0.01)
    matrix = np.full((300, 8), 0.1, np.float32)  # its mean has rounding errors
    loss = compress(WordVectors(map(str, range(300)), matrix), tmp_path / "a.ems", "ecq:bits=9").loss
    assert loss["weighted_error"] in (None, 0.0) and loss["relative_error"] in (None, 0.0)


def test_rows_of_too_different_sizes_are_stored_exactly(tmp_path):
    matrix = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    matrix[7] = 3e38
    report = compress(WordVectors(map(str, range(300)), matrix), tmp_path / "a.ems")
    assert report.steps == ["cast:dtype=float32"] and "too large for ecq" in report.remarks[0]


def test_a_hundred_vectors_are_enough(tmp_path):
    assert compress(make_vectors(100, 12), tmp_path / "a.ems").overlap_at_10 >= 0.8


def test_where_ecq_keeps_too_few_numbers_are_cast(tmp_path):
    """Vectors so near to each other that no step of ecq tells them apart beside one that is far away."""
    matrix = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    matrix[0] = 1e9
    report = compress(WordVectors(map(str, range(300)), matrix), tmp_path / "a.ems")
    assert report.steps == ["cast:dtype=float32"] and "ecq cannot" in report.remarks[0]
    matrix[0] = 3e4
    report = compress(WordVectors(map(str, range(300)), matrix), tmp_path / "b.ems")
    assert report.overlap_at_10 >= 0.8


def test_where_ecq_takes_more_bytes_numbers_are_cast(tmp_path):
    """The tables of ecq take some thousand bytes, however few the numbers are."""
    table = make_vectors(150, 4)
    report = compress(table, tmp_path / "a.ems")
    assert report.steps == ["cast"] and report.overlap_at_10 >= 0.8
    assert "ecq would take more bytes" in report.remarks[1]
    ecq = compress(table, tmp_path / "b.ems", "ecq", min_overlap=0.8)
    assert report.target_bytes < ecq.target_bytes
    assert compress(table, tmp_path / "c.ems", min_overlap=0.9).steps == ["cast"]


def test_other_overlaps_are_suggested_with_their_sizes(vectors, tmp_path):
    report = compress(vectors, tmp_path / "a.ems")
    assert [(one.goal, one.steps, one.min_overlap) for one in report.suggestions] == [
        ("better", None, 0.9), ("smaller", None, 0.7)]
    for one in report.suggestions:
        found = compress(vectors, tmp_path / "b.ems", one.steps, min_overlap=one.min_overlap, force=True)
        assert found.target_bytes == pytest.approx(one.bytes, rel=0.05)
    assert [one.min_overlap for one in found.suggestions][0] == 0.85  # half as many are lost as with 0.7
    named = compress(vectors, tmp_path / "c.ems", "ecq", min_overlap=0.8)
    assert all(one.steps and one.min_overlap is None for one in named.suggestions)


@pytest.mark.parametrize("kind", ["equal", "zero", "two", "one dimension", "grid"])
def test_it_never_fails(kind, tmp_path):
    rng = np.random.default_rng(1)
    matrix = {"equal": np.ones((200, 3)), "zero": np.zeros((200, 3)), "two": np.repeat(np.eye(2), 100, axis=0),
              "one dimension": rng.standard_normal((200, 1)), "grid": rng.integers(0, 2, (200, 3))}[kind]
    compress(WordVectors(map(str, range(200)), matrix.astype(np.float32)), tmp_path / "a.ems")


def test_codes_of_the_source_are_kept_where_others_save_little(vectors, tmp_path):
    compress(vectors, tmp_path / "a.ems", "scalar:bits=2", measure=False)
    report = compress(tmp_path / "a.ems", tmp_path / "b.ems")
    assert report.lossless and report.steps == ["scalar:bits=2"] and "--lossless" in report.remarks[0]
    compress(vectors, tmp_path / "a.ems", "scalar:bits=8", measure=False, force=True)
    report = compress(tmp_path / "a.ems", tmp_path / "b.ems", force=True)
    assert report.steps[0].startswith("ecq:") and "keeps the codes of the source" in report.remarks[1]
    compress(vectors, tmp_path / "a.ems", "cast", measure=False, force=True)
    assert len(compress(tmp_path / "a.ems", tmp_path / "b.ems", force=True).remarks) == 1  # numbers are no codes


def test_ngrams_get_the_step_of_the_words(tmp_path, monkeypatch):
    from test_fasttext import build, i64, join

    words = [f"w{index}".encode() for index in range(2100)]
    parts, _ = build(dim=8, words=words, bucket=300)
    parts |= {f"count{index}": i64(9000 - index) for index in range(len(words))}
    (tmp_path / "model.bin").write_bytes(join(parts))
    report = compress(tmp_path / "model.bin", tmp_path / "a.ems")
    own, of_words = info(tmp_path / "a.ems")["subwords"]["steps"][0], report.steps[0]
    assert own.split(",")[0] == of_words.split(",")[0] and of_words.startswith("ecq:step=")
    assert report.loss["unseen_cosine"] > 0.99


@pytest.mark.parametrize("aim", [{}, {"min_overlap": 0.9}], ids=str)
def test_keys_that_share_rows_do_not_raise_the_overlap(aim, tmp_path):
    """25 keys for each row: the overlap is that of the table of rows, and so is what the aim leads to."""
    rows = make_vectors(400, 12).matrix
    owner = np.sort(np.random.default_rng(0).integers(0, 400, 10_000))
    owner[:400], words = np.arange(400), [f"k{index}" for index in range(10_000)]
    write_vectors(words, [rows[owner]], tmp_path / "v.bin", "word2vec")
    compress(tmp_path / "v.bin", tmp_path / "shared.ems", "dedupe", measure=False)
    shared = compress(tmp_path / "shared.ems", tmp_path / "a.ems", **aim)
    alone = compress(WordVectors(words[:400], rows), tmp_path / "b.ems", shared.steps)
    assert shared.rows == 400 and shared.words == 10_000
    assert shared.overlap_at_10 == pytest.approx(alone.overlap_at_10, abs=0.02)
    assert (aim or {"min_overlap": 0.8})["min_overlap"] <= shared.overlap_at_10 < 0.93


def test_plan_estimates_the_size_of_the_default(vectors, tmp_path):
    planned, report = plan(vectors), compress(vectors, tmp_path / "a.ems")
    assert planned.bytes == pytest.approx(report.target_bytes, rel=0.1)
    assert "estimate" in planned.remarks[0] and planned.as_dict()["remarks"] == planned.remarks
    assert "fewer than 100" in plan(make_vectors(50, 12)).remarks[0]
    assert "not known" in plan(make_vectors(150, 12)).remarks[0]
    assert plan(vectors, "ecq").remarks == [] and plan(vectors, []).bits_per_word == 32 * 12


def test_the_least_vectors_are_those_of_the_text():
    assert default.LEAST_VECTORS == 100 and default.AIM.value == 0.8


@pytest.mark.parametrize("overlap", [0.5, 0.8])
def test_neighbours_of_the_source_are_searched_once(vectors, overlap, tmp_path, monkeypatch):
    searched = []
    search = job.sample_neighbours
    monkeypatch.setattr(
        job, "sample_neighbours", lambda *given, **named: searched.append(1) or search(*given, **named))
    compress(vectors, tmp_path / "a.ems", "ecq", min_overlap=overlap)
    assert len(searched) == 1
