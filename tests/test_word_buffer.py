"""Words as bytes and bounds: gather, sort and find repeats as Python does with lists of bytes."""

import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshrink import ReadOptions, read_vectors
from embshrink.errors import SourceError
from embshrink.formats import open_identified, read_stream, text, word2vec
from embshrink.formats.io import table_builder
from embshrink.storage.disk_rows import Spool
from embshrink.vocabulary import buffer, words
from embshrink.vocabulary.words import Words

# Short alphabets, with zero bytes, so that words share beginnings, are equal, or differ in zeros at the end.
TEXTS = st.lists(st.one_of(st.binary(max_size=20), st.text("\0ab", max_size=30).map(str.encode)), max_size=60)


@given(TEXTS, st.randoms())
def test_like_lists_of_bytes(raw, random):
    given = Words(raw)
    assert given.raw == list(given._raw_of(range(len(raw)))) == raw
    ids = [random.randrange(len(raw)) for _ in range(10)] if raw else []
    assert given.take(ids).raw == [raw[i] for i in ids]
    start, stop = sorted(random.randrange(len(raw) + 3) for _ in range(2))
    assert given.part(min(start, len(raw)), stop).raw == raw[start:stop]
    order = buffer.sorted_ids(given.text, given.bounds).tolist()
    assert order == sorted(range(len(raw)), key=raw.__getitem__)


@given(TEXTS, st.booleans())
def test_repeats(raw, colliding):
    given = Words(raw)
    first = {}
    expected = [(i, first[word]) for i, word in enumerate(raw) if first.setdefault(word, i) != i]
    hashes = np.array([len(word) % 2 for word in raw], np.int64) if colliding else None
    ids, firsts = buffer.repeats(given.text, given.bounds, hashes)
    assert list(zip(ids.tolist(), firsts.tolist())) == expected


@given(TEXTS, st.integers(1, 50))
def test_hashes(raw, size):
    given = Words(raw)
    with mock.patch.object(buffer, "HASHED", size):
        hashes = buffer.hashes_of(given.text, given.bounds).tolist()
        assert [buffer.hashes_of(one.text, one.bounds)[0]
                for one in map(given.part, range(len(raw)), range(1, len(raw) + 1))] == hashes
    assert len(set(hashes)) == len(set(raw))


@pytest.mark.parametrize("many", [0, 1 << 30])
def test_find(monkeypatch, many):
    monkeypatch.setattr(words, "MANY", many)
    raw = [b"", b"a", b"a\0", b"\xff", "é".encode()]
    given = pickle.loads(pickle.dumps(Words(raw)))
    assert [given.find(word) for word in [*raw, b"b", "é", b"\0"]] == [0, 1, 2, 3, 4, -1, 4, -1]
    assert given.equals(Words(raw)) and not given.equals(Words(raw[:-1])) and not given.equals(Words(raw[::-1]))
    assert Words([]).find("a") == -1 and not Words([]).raw


# ---------------------------------------------------------------- readers keep memory bounded


@pytest.fixture(params=["text", "word2vec", "spooled"])
def repeated(request, tmp_path, monkeypatch):
    """Return a reader of a file of 3,000 rows, of which each word is repeated, and what it holds."""
    monkeypatch.setattr(table_builder, "SPARE", 64 * 4 * 3)  # 64 rows
    monkeypatch.setattr(text, "PIECE", 2000)
    monkeypatch.setattr(text, "MAX_LINE", 500)
    monkeypatch.setattr(text, "PART", 300)
    rng = np.random.default_rng(0)
    ids, matrix = rng.integers(100, size=3000), rng.integers(-9, 9, (3000, 3)).astype(np.float32)
    matrix[ids < 50] = matrix[0]
    raw = [b"w%d" % i for i in ids]
    if request.param == "word2vec":
        monkeypatch.setattr(word2vec, "PIECE", 2000)
        rows = b"".join(word + b" " + row.tobytes() + b"\n" for word, row in zip(raw, matrix))
    else:
        rows = b"".join(b"%s %d %d %d\n" % (word, *row) for word, row in zip(raw, matrix))
    (tmp_path / "v").write_bytes(b"3000 3\n" + rows)
    options = {"spool": Spool(300 << 20, tmp_path)} if request.param == "spooled" else {}
    if options:
        monkeypatch.setattr(Spool, "fits", lambda self, nbytes: False)
    return lambda **more: _read(tmp_path / "v", ReadOptions(**options, **more)), raw, matrix


def _read(path, options):
    with open_identified(path, options) as (stream, name):
        return read_stream(stream, name, options)


def test_repeated_words_are_dropped_as_they_come(repeated, monkeypatch):
    read, raw, matrix = repeated
    peak, drops = 0, 0
    drop = table_builder.TableBuilder._drop_repeated

    def watched(self):
        nonlocal peak, drops
        peak, drops = max(peak, self._used), drops + 1
        drop(self)

    monkeypatch.setattr(table_builder.TableBuilder, "_drop_repeated", watched)
    found = read()
    first = {}
    for i, word in enumerate(raw):
        first.setdefault(word, i)
    assert found.words.raw == list(first)
    assert np.array_equal(np.asarray(found.matrix[:]), matrix[list(first.values())])
    same = sum(np.array_equal(matrix[i], matrix[first[word]]) for i, word in enumerate(raw) if first[word] != i)
    warning, = (one for one in found.warnings if "repeated" in one)
    assert f"dropped {3000 - len(first)} rows" in warning
    assert f"({same} with the same vector, {3000 - len(first) - same} with a different one)" in warning
    assert peak < 600 and drops > 4


def test_a_repeated_word_that_is_an_error_names_both_places(repeated):
    read, raw, _ = repeated
    again = next(i for i, word in enumerate(raw) if word in raw[:i])
    with pytest.raises(SourceError, match=f"the word '{raw[again].decode()}' is repeated") as caught:
        read(duplicates="error")
    if "line" in caught.value.where:
        assert caught.value.where == f"line {again + 2}"
        assert caught.value.found.endswith(f"line {raw.index(raw[again]) + 2}")


def test_short_lines_take_no_more_memory_than_rows(tmp_path, monkeypatch):
    """A million empty lines, or lines of one byte, in a table of 2,000 columns."""
    row = b"a" + b" 1" * 2000 + b"\n"
    asked = []
    room = table_builder.TableBuilder.room
    monkeypatch.setattr(table_builder.TableBuilder, "room",
                        lambda self, count, coming: asked.append(count + coming) or room(self, count, coming))
    path = tmp_path / "v.txt"
    path.write_bytes(row + row.replace(b"a", b"b") + b"\n" * 1_000_000)
    found = read_vectors(path)
    assert found.words.raw == [b"a", b"b"] and "ignored 1000000 empty lines at the end of the file" in found.warnings
    path.write_bytes(b"50002 2000\n" + row + b"x\n" * 50_000 + row.replace(b"a", b"b"))
    found = read_vectors(path, ReadOptions(skip_bad_rows=50_000))
    assert found.words.raw == [b"a", b"b"]
    assert any("skipped 50000 malformed rows (line 3, byte 4013" in one for one in found.warnings)
    assert max(asked) <= 2 * text.PIECE // 4000
