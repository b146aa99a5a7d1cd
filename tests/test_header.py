"""The header's keys stand in one place: what is written, checked and documented is the same."""

from pathlib import Path

import pytest

from embshrink import FormatError
from embshrink.storage.header import Header, SourceInfo, SubwordsHeader, describe

FORMAT = Path(__file__).resolve().parents[1] / "docs" / "format.md"
GOOD = {"dim": 3, "words": 2, "rows": 2, "owned": True, "vocabulary": "plain", "steps": ["cast"], "seed": 0,
        "source": {"name": "a.txt", "size": 7}, "writer": "embshrink 1"}
SUBWORDS = {"minn": 3, "maxn": 6, "bucket": 100, "present": 5, "missing": "zero", "rows": 5, "owned": True,
            "steps": ["cast"]}


@pytest.mark.parametrize("kind", [Header, SourceInfo, SubwordsHeader])
def test_format_md_has_every_key(kind):
    lines = FORMAT.read_text(encoding="utf-8").splitlines()
    rows = describe(kind)
    first = lines.index(rows[0])
    here = [line for line in lines[first : first + len(rows) + 1] if "| `sections` |" not in line]
    assert here[: len(rows)] == rows


@pytest.mark.parametrize("parts", [
    GOOD, {**GOOD, "subwords": SUBWORDS}, {**GOOD, "counts": {"name": "c"}, "protected": {"words": 1, "sha256": "0"}},
    {**GOOD, "subwords": {**SUBWORDS, "hash": "floret", "hashes": 2, "seed": 1, "bow": "<", "eow": ">"}},
])
def test_what_is_written_is_what_is_read(parts):
    assert Header.of(parts).as_dict() == parts
    assert Header.of({**parts, "of a later version": [1]}).as_dict() == parts


@pytest.mark.parametrize("key", list(GOOD))
def test_a_key_that_is_missing_or_of_another_type_is_refused(key):
    for wrong in (None, 1.5, {"a": 1} if key != "source" else "a"):
        with pytest.raises(FormatError, match=f"header: the key '{key}' is missing or has the wrong type"):
            Header.of({**GOOD, key: wrong})
    with pytest.raises(FormatError, match=f"header: the key '{key}' is missing or has the wrong type"):
        Header.of({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize("key", list(SUBWORDS))
def test_subwords_that_are_not_whole_are_refused(key):
    for wrong in ({**SUBWORDS, key: None}, {name: value for name, value in SUBWORDS.items() if name != key}):
        with pytest.raises(FormatError, match="the key 'subwords' is invalid"):
            Header.of({**GOOD, "subwords": wrong})
    with pytest.raises(FormatError, match="the key 'subwords' is invalid"):
        Header.of({**GOOD, "subwords": {**SUBWORDS, "rows": 6}})


@pytest.mark.parametrize("key, value, problem", [
    ("dim", 0, "header: a number is out of range"), ("dim", 65_537, "a number is out of range"),
    ("words", -1, "a number is out of range"), ("rows", -1, "a number is out of range"),
    ("seed", -1, "a number is out of range"), ("steps", [1], "key 'steps' is invalid .expected a list of strings"),
    ("steps", ["cast"] * 101, "too many steps"),
    ("vocabulary", "folded", "kind of vocabulary is not supported .*update embshrink"),
    ("source", {"size": -1}, "key 'source.size' is invalid"),
    ("source", {"size": 2**63}, "key 'source.size' is invalid"),
    ("source", {"size": True}, "key 'source.size' is invalid"),
    ("source", {"name": 1}, "key 'source.name' is invalid"),
    ("source", {"steps": [1]}, "key 'source.steps' is invalid"),
])
def test_impossible_values_are_refused(key, value, problem):
    with pytest.raises(FormatError, match=problem):
        Header.of({**GOOD, key: value})
