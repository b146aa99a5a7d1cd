"""Word counts: reading them, what weighs them, and the warning where order says nothing."""

import numpy as np
import pytest

from embshrink import SourceError, WordVectors, compress, load
from embshrink.compression import counts
from embshrink.vocabulary.words import Words


@pytest.fixture
def table():
    words = [f"{chr(97 + i // 4)}{chr(97 + i % 4)}" for i in range(100)]
    return WordVectors(words, np.random.default_rng(0).standard_normal((100, 4)))


def test_counts_decide_what_prune_keeps(table, tmp_path):
    (tmp_path / "counts.txt").write_text("".join(f"{word} {1000 + i}\n" for i, word in enumerate(table.words)))
    report = compress(table, tmp_path / "v.ems", ["prune:keep=10"], counts=tmp_path / "counts.txt")
    assert report.warnings == []
    emb = load(tmp_path / "v.ems", verify="full")
    assert {emb.alias_of(word) for word in table.words} == set(list(table.words)[-10:])
    assert emb.info()["counts"]["name"] == "counts.txt"


def test_a_mapping_does_too(table, tmp_path):
    report = compress(table, tmp_path / "v.ems", ["prune:keep=2"], counts={"ad": 50, "zz": 9, b"bb": 70})
    assert report.warnings == ["98 of 100 words have no count in counts (--counts); each is counted as used once"]
    assert {load(tmp_path / "v.ems").alias_of(word) for word in table.words} == {"ad", "bb"}


@pytest.mark.parametrize("count", [float("nan"), "many", None])
def test_a_count_must_be_a_number(count, table, tmp_path):
    with pytest.raises(SourceError, match="the count of 'ad' in counts is not a finite number"):
        compress(table, tmp_path / "v.ems", ["prune:keep=2"], counts={"ad": count})


def test_alphabetical_order_is_warned_of(table, tmp_path):
    said = compress(table, tmp_path / "v.ems", ["prune:keep=10"]).warnings
    assert len(said) == 1
    assert "alphabetical order" in said[0]
    assert "--counts" in said[0]
    assert compress(table, tmp_path / "v.ems", ["pq"], force=True).warnings == []
    facility = ["prune:keep=10,select=facility"]
    assert compress(table, tmp_path / "v.ems", facility, force=True).warnings == []


def test_frequency_order_is_not_alphabetical():
    assert not counts.looks_alphabetical(Words([f"w{i}" for i in np.random.default_rng(0).permutation(200)]))
    assert counts.looks_alphabetical(Words(sorted(f"{chr(97 + i % 26)}{i}" for i in range(200))))
    assert not counts.looks_alphabetical(Words([f"w{i}" for i in range(200)]))
    assert not counts.looks_alphabetical(Words(["a", "b", "c"]))


def test_reading(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfthe\t5\r\nof 3\ntwo words 7\n\nthe 2\n\xff 1\n")
    found, source = counts.read_counts(tmp_path / "c.txt")
    assert found == {b"the": 7, b"of": 3, b"two words": 7, b"\xff": 1}
    assert source["name"] == "c.txt"


@pytest.mark.parametrize(("data", "message"), [
    (b"", "the file of counts is empty"),
    (b"the 5\nof\n", r"line 2: the line does not end in a count \(expected a word, .*, found 'of'\)\. Correct"),
    (b"the -5\n", "line 1"),
    (b"the 1.5\n", "line 1"),
    (b"the " + b"9" * 5000, "line 1"),
])
def test_bad_counts_are_refused(data, message, tmp_path):
    (tmp_path / "c.txt").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        counts.read_counts(tmp_path / "c.txt")


def test_missing_file(tmp_path):
    with pytest.raises(SourceError, match="cannot read the file of counts: No such file"):
        counts.read_counts(tmp_path / "nothing")
