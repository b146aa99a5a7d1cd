"""Reading from and writing to real files, pipes and pieces; differences from gensim; provenance and options."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import warnings

import badfiles
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from embshrink.errors import EmbshrinkError, ExtraError, ShapeError, SourceError, TargetError
from embshrink.formats import FORMATS, ReadOptions, read_vectors, text, word2vec, write_vectors
from embshrink.formats.io import stream

PLAIN = badfiles.text()


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought, a few at a time."""

    def __init__(self, data, most=7):
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self):
        return True

    def readinto(self, view):
        data = self._data.read(min(len(view), self._most))
        view[: len(data)] = data
        return len(data)


def same(vectors, words=badfiles.WORDS, rows=badfiles.ROWS):
    assert vectors.words.raw == list(words)
    np.testing.assert_array_equal(vectors.matrix.view(np.int32), np.asarray(rows, dtype=np.float32).view(np.int32))


def gensim_load(path, **options):
    from gensim.models import KeyedVectors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open
        return KeyedVectors.load_word2vec_format(str(path), **options)


# ---------------------------------------------------------------- round trips

ROUND_TRIP = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw, forbidden, leading=b""):
    kind = st.binary(max_size=6).filter(lambda word: not set(word) & set(forbidden) and word[:1] not in {leading})
    words = draw(st.lists(kind, min_size=1, max_size=12, unique=True))
    dim = draw(st.integers(1, 6))
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    rows = draw(st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=len(words), max_size=len(words)))
    return words, np.array(rows, dtype=np.float32)


def round_trip(tmp_path, table, target, **options):
    words, rows = table
    path = tmp_path / "out"
    write_vectors(words, (rows[i : i + 5] for i in range(0, len(rows), 5)), path, target, force=True)
    same(read_vectors(path, ReadOptions(**options)), words, rows)


@given(table=tables(b"\n"))
@ROUND_TRIP
def test_text_with_header_round_trip(table, tmp_path):
    # All words but the exotic: a carriage return at a line's end can only be the end of a number, never of a word.
    round_trip(tmp_path, table, "word2vec-text", format="text", header="yes")


@given(table=tables(b"\n "))
@ROUND_TRIP
def test_text_without_header_round_trip(table, tmp_path):
    # What a file begins with can be mistaken for a compressed file's mark or a byte order mark.
    assume(stream.packing(table[0][0]) is None and not table[0][0].startswith(text.BOM))
    round_trip(tmp_path, table, "text", format="text", header="no")


@given(table=tables(b" ", leading=b"\n"))
@ROUND_TRIP
def test_binary_round_trip(table, tmp_path):
    round_trip(tmp_path, table, "word2vec", format="word2vec")


@given(table=tables(b" ", leading=b"\n"))
@ROUND_TRIP
def test_binary_is_found_by_content(table, tmp_path):
    path = tmp_path / "out"
    write_vectors(table[0], [table[1]], path, "word2vec", force=True)
    try:
        found = read_vectors(path)
    except SourceError:
        return  # a few odd bytes may look like something else; they must not be read as something else
    if found.source["format"] == "word2vec":
        same(found, *table)


def test_written_bytes(tmp_path):
    write_vectors(["the", "of"], [badfiles.ROWS[:1], badfiles.ROWS[2:3]], tmp_path / "a", "text")
    assert (tmp_path / "a").read_bytes() == b"the 0.418 0.25 -0.41\nof 1e-05 3.5 -0.125\n"
    write_vectors(["the", "of"], [badfiles.ROWS[:2]], tmp_path / "b", "word2vec-text")
    assert (tmp_path / "b").read_bytes() == b"2 3\nthe 0.418 0.25 -0.41\nof 0.7 -1.5 2.25\n"
    write_vectors(["the"], [badfiles.ROWS[:1]], tmp_path / "c", "word2vec")
    assert (tmp_path / "c").read_bytes() == b"1 3\nthe " + badfiles.ROWS[0].tobytes() + b"\n"


@pytest.mark.parametrize("format", ["text", "word2vec-text"])
def test_long_numbers_are_written_whole(format, tmp_path):
    """numpy before 2.3 writes -9.999999e15 with 19 characters."""
    rows = np.array([[-9.999999e15, -1e15, 1e16], [-1.1754944e-38, 3.4028235e38, -1.2345678e-4]], np.float32)
    write_vectors(["a", "b"], [rows], tmp_path / "out", format)
    same(read_vectors(tmp_path / "out", ReadOptions(format="text")), [b"a", b"b"], rows)


def test_gensim_reads_what_we_write(tmp_path):
    for format, options in (("text", {"no_header": True}), ("word2vec-text", {}), ("word2vec", {"binary": True})):
        write_vectors(badfiles.WORDS, [badfiles.ROWS], tmp_path / format, format)
        model = gensim_load(tmp_path / format, **options)
        assert [word.encode() for word in model.index_to_key] == badfiles.WORDS
        np.testing.assert_array_equal(model.vectors, badfiles.ROWS)


@pytest.mark.parametrize(("format", "word", "problem"), [
    ("text", b"a\nb", "the word 'a\\nb' contains a newline"),
    ("word2vec-text", b"a\nb", "the word 'a\\nb' contains a newline"),
    ("word2vec", b"a b", "the word 'a b' contains a space"),
    ("word2vec", b"\na", "the word '\\na' contains a space or begins"),
])
def test_words_a_format_cannot_hold(format, word, problem, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(TargetError) as caught:
        write_vectors([*badfiles.WORDS[:5], word], [badfiles.ROWS], path, format, force=True)
    assert problem in str(caught.value) and "or remove the word" in str(caught.value)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["out"]


def test_words_that_need_a_header(tmp_path):
    with pytest.raises(TargetError, match="most of the first words contain spaces.*Choose the format word2vec-text"):
        write_vectors(["new york", "san francisco", "rome"], [badfiles.ROWS[:3]], tmp_path / "out", "text")
    assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_no_trace(tmp_path):
    def blocks():
        yield badfiles.ROWS[:2]
        raise KeyboardInterrupt

    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_vectors(badfiles.WORDS, blocks(), path, "text", force=True)
    with pytest.raises(TargetError, match="the target exists"):
        write_vectors(badfiles.WORDS, [badfiles.ROWS], path, "text")
    for bad in ([badfiles.ROWS[:3]], [badfiles.ROWS, badfiles.ROWS], [badfiles.ROWS[:3], badfiles.ROWS[3:, :2]],
                [badfiles.ROWS * np.inf], [badfiles.ROWS[0]], []):
        with pytest.raises(ShapeError):
            write_vectors(badfiles.WORDS, bad, path, "word2vec", force=True)
    with pytest.raises(EmbshrinkError, match="'navec' cannot be written .expected text or word2vec-text"):
        write_vectors(badfiles.WORDS, [badfiles.ROWS], path, "navec", force=True)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["out"]


# ---------------------------------------------------------------- real files, against gensim


@pytest.mark.parametrize(("name", "options"), [
    ("crime-and-punishment.vec", {}), ("lee_fasttext.vec", {}),
    ("pang_lee_polarity_fasttext.vec", {"encoding": "cp1252"}), ("test_glove.txt", {"no_header": True}),
    ("toy-model.vec", {}), ("high_precision.kv.txt", {}),
    ("word2vec_pre_kv_c", {}), ("euclidean_vectors.bin", {"binary": True}),
    ("high_precision.kv.bin", {"binary": True}), ("poincare_vectors.bin", {"binary": True}),
])
def test_real_files_as_gensim_reads_them(name, options, gensim_data):
    ours = read_vectors(gensim_data / name)
    theirs = gensim_load(gensim_data / name, **options)
    assert [word.decode(options.get("encoding", "utf-8")) for word in ours.words.raw] == theirs.index_to_key
    np.testing.assert_array_equal(ours.matrix, theirs.vectors)
    assert ours.warnings == []


def test_a_header_gensim_ignores(gensim_data):
    with pytest.raises(SourceError, match="line 2: the file has fewer rows than its header states .expected 3"):
        read_vectors(gensim_data / "pretrained.vec")
    vectors = read_vectors(gensim_data / "pretrained.vec", ReadOptions(allow_truncated=True))
    assert len(vectors) == 1 and "the header states 3 rows, but the file has 1; the stated number was ignored" in (
        vectors.warnings)


def test_gensim_models(tmp_path, gensim_data):
    from gensim.models import KeyedVectors

    model = KeyedVectors(3)
    model.add_vectors([word.decode() for word in badfiles.WORDS], badfiles.ROWS)
    path = tmp_path / "model.kv"
    model.save(str(path))
    with pytest.raises(SourceError, match="this is a pickle.*--from gensim"):
        read_vectors(path)
    vectors = read_vectors(path, ReadOptions(format="gensim"))
    same(vectors)
    assert vectors.warnings == ["unpickling runs code from the file: only load files you trust"]
    assert len(read_vectors(path, ReadOptions(format="gensim", limit=2))) == 2
    model.vectors[3, 1] = np.nan
    model.save(str(path))
    with pytest.raises(SourceError, match="gensim cannot load this as word vectors: ShapeError: .*row 3"):
        read_vectors(path, ReadOptions(format="gensim"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match="gensim cannot load this as word vectors"):
        read_vectors(path, ReadOptions(format="gensim"))
    with pytest.raises(SourceError, match="must be a file that is given by its path"):
        read_vectors(io.BytesIO(b"x"), ReadOptions(format="gensim"))
    full = read_vectors(gensim_data / "model-from-gensim-3.8.0.w2v", ReadOptions(format="gensim"))
    assert len(full) and full.dim


# ---------------------------------------------------------------- sources


def test_provenance_is_of_the_file_as_given(tmp_path):
    for name, data, format in (("a.txt", PLAIN, "text"), ("b.gz", gzip.compress(PLAIN), "text"),
                               ("c.zip", badfiles.zipped({"x": PLAIN}), "text"),
                               ("d.bin", badfiles.binary(), "word2vec")):
        (tmp_path / name).write_bytes(data)
        expected = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "format": format}
        assert read_vectors(tmp_path / name).source == expected
        assert read_vectors(tmp_path / name, ReadOptions(limit=1)).source == expected
        anonymous = read_vectors(io.BytesIO(data))
        assert anonymous.source == {**expected, "name": "<file>"}
        same(anonymous)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("data", [PLAIN, badfiles.binary()], ids=["text", "binary"])
def test_pipes(pack, data):
    packed = pack(data)
    vectors = read_vectors(Pipe(packed))
    same(vectors)
    assert vectors.source["sha256"] == hashlib.sha256(packed).hexdigest()
    assert vectors.source["size"] == len(packed)


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Pipe(PLAIN))))
    vectors = read_vectors("-")
    same(vectors)
    assert vectors.source["name"] == "<stdin>"


def test_zip_needs_a_file():
    with pytest.raises(SourceError, match="cannot be read from a pipe.*unzip -p"):
        read_vectors(Pipe(badfiles.zipped({"x": PLAIN})))


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        read_vectors(tmp_path / "missing")
    with pytest.raises(SourceError, match="this is a folder"):
        read_vectors(tmp_path)
    with pytest.raises(SourceError, match="cannot open the file"):
        read_vectors("a\0b")


def test_a_read_error_is_told():
    class Broken(Pipe):
        def readinto(self, view):
            raise OSError(5, "Input/output error")

    with pytest.raises(SourceError, match="byte 0: cannot read the file: Input/output error"):
        read_vectors(Broken(b""))


def test_bombs(monkeypatch):
    monkeypatch.setattr(stream, "FREE_EXPANSION", 1 << 20)
    rows = b"".join(b"w%d" % i + b" 0" * 60_000 + b"\n" for i in range(20))
    for pack in (gzip.compress, bz2.compress, lzma.compress, lambda data: badfiles.zipped({"x": data})):
        with pytest.raises(SourceError, match="like a decompression bomb .expected at most 200 bytes for each"):
            read_vectors(io.BytesIO(pack(rows)))


def test_zstandard_needs_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ExtraError, match=r"pip install 'embshrink\[zstd\]'"):
        read_vectors(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(20)))


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize("size", [64, 100, 1000])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_pieces_of_any_size_give_the_same(size, pack, tmp_path, monkeypatch):
    for module in (text, word2vec):
        monkeypatch.setattr(module, "PIECE", size)
    monkeypatch.setattr(text, "PART", 50)
    words = [b"w%d" % i * (i % 5 + 1) for i in range(150)]
    words[77] = b"two words"
    rows = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    path = tmp_path / "vectors"
    # A row of text is longer than the least piece: the first piece must still show the dimension.
    for data in (badfiles.binary(words[:77], rows[:77]), badfiles.binary(words[:77], rows[:77], newline=False),
                 badfiles.text(words, rows), badfiles.text(words, rows, header=True)):
        if size < 100 and data[:2] != b"77":
            continue
        path.write_bytes(pack(data))
        count = 77 if data[:2] == b"77" else 150
        same(read_vectors(path), words[:count], rows[:count])
        same(read_vectors(Pipe(pack(data), 1000)), words[:count], rows[:count])
        same(read_vectors(path, ReadOptions(limit=53)), words[:53], rows[:53])


def test_errors_far_in_name_the_line(monkeypatch):
    monkeypatch.setattr(text, "PIECE", 1000)
    lines = [b"w%d %d 0.5\n" % (i, i) for i in range(1000)]
    lines[777] = b"w777 x 0.5\n"
    offset = len(b"".join(lines[:777]))
    with pytest.raises(SourceError, match=f"line 778, byte {offset}: number 1 of the word 'w777' is not a decimal"):
        read_vectors(io.BytesIO(b"".join(lines)))
    with pytest.raises(SourceError, match=f"line 779, byte {offset + 7}: number 1"):
        read_vectors(io.BytesIO(b"1000 2\n" + b"".join(lines)))
    lines[777] = b"\n"
    with pytest.raises(SourceError, match=f"line 778, byte {offset}: the line is empty"):
        read_vectors(io.BytesIO(b"".join(lines)))
    lines[777] = b"\n" * 2500  # whole pieces of nothing, and rows behind them
    with pytest.raises(SourceError, match=f"line 778, byte {offset}: the line is empty"):
        read_vectors(io.BytesIO(b"".join(lines)))
    del lines[777]
    vectors = read_vectors(io.BytesIO(b"".join(lines) + b"\n" * 3000))
    assert len(vectors) == 999 and vectors.warnings == ["ignored 3000 empty lines at the end of the file"]


def test_repeated_words_far_apart(monkeypatch):
    monkeypatch.setattr(text, "PIECE", 1000)
    lines = [b"w%d %d 0.5\n" % (i % 800, i) for i in range(1000)]
    vectors = read_vectors(io.BytesIO(b"".join(lines)))
    assert vectors.words.raw == [b"w%d" % i for i in range(800)]
    np.testing.assert_array_equal(vectors.matrix[:, 0], np.arange(800))
    assert vectors.warnings == ["dropped 200 rows of repeated words, the first row of each word is kept (0 with the "
                                "same vector, 200 with a different one): 'w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', "
                                "'w7', 'w8', 'w9', ..."]


def test_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PIECE", 1000)
    data = b"".join(b"w%d %d 0.5\n" % (i, i) for i in range(1000))
    path = tmp_path / "vectors"
    path.write_bytes(data)
    calls = []
    read_vectors(path, progress=lambda *call: calls.append(call))
    assert len(calls) > 10 and calls == sorted(calls) and calls[-1] == ("read", len(data), len(data))
    calls.clear()
    read_vectors(Pipe(data), progress=lambda *call: calls.append(call))
    assert calls[-1] == ("read", len(data), None)


# ---------------------------------------------------------------- options


def test_header_of_a_one_column_table():
    table = b"7 8\n9 10\n11 12\n"
    same(read_vectors(io.BytesIO(table)), [b"7", b"9", b"11"], [[8], [10], [12]])
    with pytest.raises(SourceError, match="fewer rows than its header states"):
        read_vectors(io.BytesIO(b"7 1\n9 10\n"))
    same(read_vectors(io.BytesIO(b"7 1\n9 10\n"), ReadOptions(header="no")), [b"7", b"9"], [[1], [10]])


def test_limit_stops_before_what_is_wrong_behind_it():
    data = PLAIN.replace(b"house", b"house house").replace(b"-0.25", b"x")
    same(read_vectors(io.BytesIO(data), ReadOptions(limit=5)), badfiles.WORDS[:5], badfiles.ROWS[:5])
    same(read_vectors(io.BytesIO(PLAIN), ReadOptions(limit=100)))
    same(read_vectors(io.BytesIO(badfiles.binary()), ReadOptions(limit=2)), badfiles.WORDS[:2], badfiles.ROWS[:2])


def test_skipped_rows_are_counted_and_capped():
    data = PLAIN.replace(b"of 0.7", b"of").replace(b"to 0.5", b"to ?")
    with pytest.raises(SourceError, match="line 4"):
        read_vectors(io.BytesIO(data), ReadOptions(skip_bad_rows=1))
    vectors = read_vectors(io.BytesIO(data), ReadOptions(skip_bad_rows=2, expect_rows=6))
    assert vectors.words.raw == [b"the", b"and", b"in", b"house"]
    assert vectors.warnings[0].startswith("skipped 2 malformed rows (line 2, byte 21: the row is too short; line 4")


def test_nothing_left():
    with pytest.raises(SourceError, match="no rows are left"):
        read_vectors(io.BytesIO(b"a nan 1\n"), ReadOptions(nonfinite="drop"))


@pytest.mark.parametrize(("option", "value"), [("format", "csv"), ("header", True), ("nonfinite", "noise"),
                                               ("duplicates", "last"), ("row_newline", ""), ("limit", 0),
                                               ("skip_bad_rows", -1), ("expect_rows", 1.5), ("max_expanded", "64G")])
def test_impossible_options(option, value):
    with pytest.raises(EmbshrinkError, match=f"{option} cannot be {value!r}"):
        ReadOptions(**{option: value})


def test_the_registry_is_complete():
    import importlib

    for one in FORMATS.values():
        found = importlib.import_module(one.module)
        assert callable(one.reader()) and (one.write is None or callable(getattr(found, one.write)))
        assert not one.is_model or callable(one.model_reader())
        assert not one.is_folder or found.FILES


@pytest.mark.parametrize("header", [b"1" * 18 + b" -1", b"1" * 18 + b" 0", b"0 5", b"-3 5", b"1" * 25 + b" 5",
                                    b"5 " + b"1" * 25])
def test_a_header_that_promises_the_impossible_is_refused_at_once(header):
    with pytest.raises(SourceError):
        read_vectors(io.BytesIO(header + b"\nabcdefgh ij\n"))
