"""floret's tables: hashed n-grams without words, read, compressed, looked up and written back."""

import gzip
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from second_reader import SecondReader

import embshrink
from embshrink import FormatError, SourceError, TargetError, WordVectors, as_embeddings, compress, load, read_vectors
from embshrink.cli.commands import cli
from embshrink.compression.job import Job
from embshrink.compression.source import open_table
from embshrink.formats import ReadOptions, export
from embshrink.storage.container import Container, write_container
from embshrink.vocabulary.ngram_hashing import Floret, Hashing, murmurhash3

SEED = 2166136261
WORDS = ["apple", "to", "a", "naïve", "東京", "straße", "two words", "😀😀x", "</s>", "an-uncommonly-long-word"]
# The mean bucket of each word's n-grams, from spaCy 3.8 with the vectors [0], [1], [2], ...
MEANS = {
    Hashing(3, 5, 50_000, Floret(2, SEED)): [
        28749.653846153848, 28634.5, 37513.5, 25002.03846153846, 20138.25, 24414.1875, 22598.46, 23138.714285714286,
        24893.25, 25344.873134328358],
    Hashing(2, 4, 997, Floret(4, 7, "«é", "»")): [
        482.07894736842104, 567.95, 567.2857142857143, 540.2763157894736, 517.525, 478.1931818181818,
        497.93548387096774, 541.3653846153846, 510.265625, 504.4109589041096],
}


def table(bucket=600, dim=6, minn=2, maxn=4, hashes=2, seed=SEED, bow="<", eow=">", matrix=None):
    """Return a table's text, as floret writes it, and its matrix."""
    if matrix is None:
        rng = np.random.default_rng(3)
        matrix = (rng.standard_normal((20, dim))[rng.integers(20, size=bucket)]
                  + 0.3 * rng.standard_normal((bucket, dim))).astype(np.float32)
    lines = [f"{bucket} {dim} {minn} {maxn} {hashes} {seed} {bow} {eow}"]
    lines += [f"{i} {' '.join(map(str, row))} " for i, row in enumerate(matrix)]  # floret puts a space at the end
    return ("\n".join(lines) + "\n").encode(), matrix


@pytest.fixture
def source(tmp_path):
    (tmp_path / "v.floret").write_bytes(table()[0])
    return tmp_path / "v.floret"


@pytest.fixture
def emb(source, tmp_path):
    compress(source, tmp_path / "v.ems", ["cast:dtype=float32"], measure=False)
    return load(tmp_path / "v.ems", verify="full")


# ---------------------------------------------------------------- hashing


@pytest.mark.parametrize("text, seed, lanes", [
    ("<apple>", 7, (4283187374, 3150462885, 4277297413, 430727032)),
    ("東京タワーへ行く", 7, (2604657437, 1135849545, 3114207318, 836900251)),
    ("", 7, (3319712143, 4093822298, 2171673602, 770017014)),
    ("sixteen letters!", 7, (3016806101, 1568107950, 2620233803, 1097520368)),
])
def test_murmurhash3_is_spacys(text, seed, lanes):
    assert murmurhash3(text.encode(), seed) == lanes


@pytest.mark.parametrize("hashing", MEANS)
def test_buckets_are_spacys(hashing):
    for word, mean in zip(WORDS, MEANS[hashing]):
        assert np.mean(hashing.ids(word.encode())) == pytest.approx(mean, rel=1e-12)


def test_buckets_are_florets_in_order():
    # From floret 0.10.5: with lone characters, but without lone marks.
    hashing = Hashing(1, 2, 11, Floret(2, SEED))
    assert hashing.ids("é".encode()) == [8, 8, 3, 5, 7, 7, 7, 8]
    assert hashing.ids("zß".encode()) == [7, 7, 4, 1, 1, 8, 4, 5, 7, 5, 7, 4]
    assert hashing.ids(b"cat") == [8, 9, 6, 8, 5, 1, 0, 2, 8, 0, 3, 7, 3, 1, 0, 7]


def test_a_word_that_is_its_own_ngram_counts_twice():
    hashing = Hashing(3, 3, 1000, Floret(1, 0))
    whole = murmurhash3(b"<a>", 0)[0] % 1000
    assert hashing.ids(b"a") == [whole, whole]
    assert Hashing(0, 0, 1000, Floret(1, 0)).ids(b"a") == [whole]


@pytest.mark.parametrize("values, says", [
    ((-1, 3, 9), "minn must be 0 to 100"), ((1, 101, 9), "maxn must be 0 to 100"), ((1, 3, 0), "bucket must be 1 to"),
    ((1, 3, 2**31), "bucket must be 1 to"), ((1, 3, 9, Floret(0, 1)), "hashes must be 1 to 4"),
    ((1, 3, 9, Floret(5, 1)), "hashes must be 1 to 4"), ((1, 3, 9, Floret(1, 2**32)), "seed must be 0 to"),
    ((1, 3, 9, Floret(1, 1, "x" * 101)), "bow must be text"), ((1, 3, 9, Floret(1, 1, "<", "\udc80")), "eow must be"),
])
def test_impossible_hashing(values, says):
    with pytest.raises(ValueError, match=says):
        Hashing(*values)


# ---------------------------------------------------------------- a file without words


def test_any_word_answers(emb):
    _, matrix = table()
    for word in WORDS:
        ids = Hashing(2, 4, 600, Floret(2, SEED)).ids(word.encode())
        np.testing.assert_allclose(emb[word], matrix[ids].mean(axis=0), atol=1e-6)
    assert len(emb) == 0 and "apple" not in emb and emb.index_to_key == []
    assert emb.get("apple", oov=False) is None
    assert emb.vectors_for(WORDS).shape == (10, 6)
    assert emb.similarity("apple", "apples") > 0.3
    assert emb.distances("apple", ["apples"])[0] == pytest.approx(1 - emb.similarity("apple", "apples"), abs=1e-6)


def test_there_is_nothing_to_search(emb):
    for search in (lambda: emb.most_similar("apple"), lambda: emb.distances("apple")):
        with pytest.raises(embshrink.EmbshrinkError, match="no words to search: the table has n-grams only"):
            search()


def test_evaluation_knows_no_word(emb, tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("apple\tpear\t3\nbus\tcar\t4\n")
    score = embshrink.evaluate(emb, pairs=pairs).similarity[0]
    assert (score.pairs_used, score.unknown, score.spearman) == (0, 2, None)
    with pytest.raises(embshrink.EmbshrinkError, match="no word in common"):
        embshrink.evaluate(emb, emb, pairs=[])


@pytest.mark.parametrize("steps", [["pq:subspaces=3"], ["cast"], ["lowrank:dims=3", "scalar"], ["iiq"],
                                   ["tensortrain:rank=6"], ["rq:codebooks=2,centroids=30"]])
def test_steps_are_for_the_ngrams(steps, source, tmp_path):
    report = compress(source, tmp_path / "a.ems", steps)
    planned = Job(open_table(source)).plan(steps)
    assert planned.steps == report.steps and planned.steps[-1].startswith(steps[-1].partition(":")[0])
    assert planned.bytes >= report.target_bytes >= planned.bytes - 64
    assert 0.5 < report.loss["mean_cosine"] <= 1 and report.words == report.rows == 0
    assert report.loss["unseen_cosine"] is None and report.bits_per_word == 0
    with load(tmp_path / "a.ems", verify="full") as emb:
        assert emb.subwords.present == 600
        second = SecondReader(tmp_path / "a.ems")
        for word in WORDS:
            np.testing.assert_allclose(second.unseen(word.encode()), emb[word], atol=1e-5)


def test_a_size_and_bits_may_be_asked_for(source, tmp_path):
    report = compress(source, tmp_path / "a.ems", "pq", size=9000, measure=False)
    assert report.target_bytes <= 9000 and report.steps[0].startswith("pq:subspaces=")
    report = compress(source, tmp_path / "b.ems", "pq:centroids=16", bits=60, measure=False)
    assert report.steps[0].startswith("pq:subspaces=")


def test_row_steps_are_left_out_and_said_so(source, tmp_path):
    report = compress(source, tmp_path / "a.ems", ["prune:keep=100", "cast"], measure=False)
    assert report.steps == ["cast"]
    assert len(report.warnings) == 1 and report.warnings[0].startswith("row steps are not run: ")
    compress(source, tmp_path / "b.ems", "cast", ngrams=["prune:keep=100", "cast"])
    with load(tmp_path / "b.ems", verify="full") as emb:
        assert emb.subwords.present == 100 and np.isfinite(emb["an-uncommonly-long-word"]).all()


def test_without_ngrams_nothing_is_left(source, emb, tmp_path):
    for path in (source, tmp_path / "v.ems"):
        with pytest.raises(SourceError, match="no vectors to keep.*A floret table has n-grams only. Keep them"):
            compress(path, tmp_path / "a.ems", "cast", ngrams="drop")


def test_an_ems_file_may_be_compressed_again(emb, tmp_path):
    compress(tmp_path / "v.ems", tmp_path / "a.ems", "scalar")
    again = load(tmp_path / "a.ems", verify="full")
    np.testing.assert_allclose(again["apple"], emb["apple"], atol=0.02)
    assert again.subwords.hashing == emb.subwords.hashing


def test_the_header_of_fasttexts_models_is_as_it_was(gensim_data, tmp_path):
    compress(gensim_data / "lee_fasttext_new.bin", tmp_path / "a.ems", "cast", measure=False)
    with Container(tmp_path / "a.ems") as container:
        assert sorted(container.header["subwords"]) == [
            "bucket", "maxn", "minn", "missing", "owned", "present", "rows", "steps"]


def test_hostile_headers_are_refused(emb, tmp_path):
    with Container(tmp_path / "v.ems") as container:
        sections = {name: np.asarray(part).copy() for name, part in container.sections.items()}
        header = container.header
    good = header["subwords"]
    assert (good["hash"], good["hashes"], good["seed"], good["bow"], good["eow"]) == ("floret", 2, SEED, "<", ">")
    for key, values in {
        "hash": ["", "murmur", None, 7, []], "hashes": [0, 5, -1, "2", True, None], "seed": [-1, 2**32, 1.5, None],
        "bow": [3, None, "x" * 101, "\ud800"], "eow": [[], "y" * 999],
    }.items():
        for value in values:
            write_container(tmp_path / "h.ems", {**header, "subwords": {**good, key: value}}, sections, force=True)
            with pytest.raises(FormatError):
                load(tmp_path / "h.ems")


# ---------------------------------------------------------------- reading


def refused(data, tmp_path, says, **options):
    (tmp_path / "bad.floret").write_bytes(data)
    options.setdefault("format", "floret")
    with pytest.raises(SourceError, match=says):
        open_table(tmp_path / "bad.floret", ReadOptions(**options))


def test_it_is_found_by_content_and_through_compression(source, tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(source.read_bytes()) + b"!")
    first, second = open_table(source), open_table(tmp_path / "packed")
    assert second.warnings == ["ignored 1 byte after the end of the gzip data"]
    assert first.source["format"] == "floret" and np.array_equal(first.ngrams.matrix, second.ngrams.matrix)
    assert np.array_equal(first.ngrams.matrix, table()[1])
    assert open_table(io.BytesIO(source.read_bytes())).ngrams.hashing == first.ngrams.hashing


def test_a_row_of_seven_numbers_is_no_header():
    found = read_vectors(io.BytesIO(b"3 7 1 2 2 5 6 7\n4 7 1 2 2 5 6 7\n5 7 1 2 2 5 6 7.5\n"))
    assert found.source["format"] == "text" and list(found.words) == ["3", "4", "5"]


def test_windows_lines_and_marks_of_several_bytes(tmp_path):
    data, matrix = table(bow="«é", eow="»")
    (tmp_path / "v.floret").write_bytes(data.replace(b"\n", b"\r\n"))
    found = open_table(tmp_path / "v.floret")
    assert found.ngrams.hashing.floret == Floret(2, SEED, "«é", "»")
    assert np.array_equal(found.ngrams.matrix, matrix)


def test_it_has_no_words_to_read(source):
    with pytest.raises(SourceError, match=r"has no words, only n-grams.*Compress it to an \.ems file"):
        read_vectors(source)
    with pytest.raises(SourceError, match="cannot be limited to its first rows"):
        open_table(source, ReadOptions(limit=5))


@pytest.mark.parametrize("header, says", [
    ("600 6 2 4 2 1 <", "line 1 is not a floret header"),
    ("600 6 2 4 2 1 < > !", "line 1 is not a floret header"),
    ("600 6 2 4 2 -1 < >", "line 1 is not a floret header"),
    ("600 6 2 4  2 1 < >", "line 1 is not a floret header"),
    ("0 6 2 4 2 1 < >", "bucket must be 1 to 2147483647, not 0"),
    ("2147483648 6 2 4 2 1 < >", "bucket must be 1 to 2147483647"),
    ("600 0 2 4 2 1 < >", "the dimension is out of range"),
    ("600 65537 2 4 2 1 < >", "the dimension is out of range"),
    ("600 6 5 4 2 1 < >", "minn must be at most maxn, but they are 5 and 4"),
    ("600 6 2 101 2 1 < >", "maxn must be 0 to 100"),
    ("600 6 2 4 0 1 < >", "hashes must be 1 to 4, not 0"),
    ("600 6 2 4 5 1 < >", "hashes must be 1 to 4, not 5"),
    ("600 6 2 4 2 4294967296 < >", "seed must be 0 to 4294967295"),
    (b"600 6 2 4 2 1 < \xff", "begin and end markers of words .BOW, EOW. are not UTF-8"),
    ("600 6 2 4 2 1 < " + ">" * 101, "eow must be text of at most 100"),
    ("599 6 2 4 2 1 < >", "row 600 has the wrong bucket number .expected the end of the file, found '599'"),
    ("601 6 2 4 2 1 < >", "the file has fewer rows than its header states .expected 601 rows, found 600"),
    ("600 7 2 4 2 1 < >", "the row is too short"),
    ("600 5 2 4 2 1 < >", "row 1 has the wrong bucket number"),
])
def test_headers_that_cannot_be(header, says, tmp_path):
    header = header if isinstance(header, bytes) else header.encode()
    refused(header + b"\n" + table()[0].split(b"\n", 1)[1], tmp_path, says)


def test_rows_that_cannot_be(tmp_path):
    lines = table(bucket=4)[0].split(b"\n")[:-1]

    def joined(*order, cut=None):
        return b"\n".join([lines[0], *(lines[i + 1] for i in order)])[:cut] + b"\n"

    refused(lines[0], tmp_path, "nothing follows the header")
    refused(lines[0] + b"\n", tmp_path, "fewer rows than its header states")
    refused(joined(0, 1, 3), tmp_path, "fewer rows than its header|row 3 has the wrong bucket number")
    refused(joined(0, 2, 1, 3), tmp_path, r"line 4: row 3 has the wrong bucket .*expected an integer from 3 to 3")
    refused(joined(0, 1, 1, 2), tmp_path, r"line 4: row 3 has the wrong bucket .*expected an integer from 2 to 3")
    refused(joined(0, 1, 2, 3, 3), tmp_path, "row 5 has the wrong bucket number .expected the end of the file")
    refused(joined(0, 1, 2, 3, cut=-14), tmp_path, "too short|not a decimal number")
    refused(joined(0, 1, 2, 3).replace(b"\n2 ", b"\n+2 "), tmp_path, "row 3 has the wrong bucket number")
    refused(joined(0, 1, 2, 3).replace(b"\n2 ", b"\n99999999999999999999 "), tmp_path, "row 3 has the wrong bucket")
    refused(joined(0, 1, 2, 3).replace(b"\n2 ", b"\n2 2 "), tmp_path, "row 3 has the wrong bucket number")


def test_numbers_that_are_not_finite(tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    matrix[2, 1] = np.nan
    data, _ = table(bucket=4, dim=3, minn=0, maxn=0, hashes=1, matrix=matrix)
    refused(data, tmp_path, "number 2 of the word '2' is not finite")
    (tmp_path / "v.floret").write_bytes(data)
    zeroed = open_table(tmp_path / "v.floret", ReadOptions(nonfinite="zero")).ngrams
    assert zeroed.matrix[2].tolist() == [6, 0, 8] and zeroed.ids.tolist() == [0, 1, 2, 3]
    dropped = open_table(tmp_path / "v.floret", ReadOptions(nonfinite="drop"))
    assert dropped.ngrams.ids.tolist() == [0, 1, 3] and "dropped 1 row" in dropped.warnings[0]
    compress(tmp_path / "v.floret", tmp_path / "v.ems", "cast", options=ReadOptions(nonfinite="drop"), measure=False)
    export(load(tmp_path / "v.ems"), tmp_path / "w.floret")
    assert (tmp_path / "w.floret").read_text().split("\n")[3] == "2 0.0 0.0 0.0"


# ---------------------------------------------------------------- writing


def test_a_table_is_written_back_as_it_was(source, emb, tmp_path, monkeypatch):
    monkeypatch.setattr("embshrink.embeddings.table.BLOCK_ROWS", 100)
    assert export(emb, tmp_path / "w.floret") == "floret"
    assert (tmp_path / "w.floret").read_bytes() == source.read_bytes().replace(b" \n", b"\n")
    export(emb, tmp_path / "vocab", "spacy")
    settings = json.loads((tmp_path / "vocab" / "vectors.cfg").read_bytes())
    assert settings == {"mode": "floret", "minn": 2, "maxn": 4, "hash_count": 2, "hash_seed": SEED, "bow": "<",
                        "eow": ">", "attr": 65}
    assert np.array_equal(np.load(io.BytesIO((tmp_path / "vocab" / "vectors").read_bytes())), table()[1])
    assert (tmp_path / "vocab" / "key2row").read_bytes() == b"\x80"
    again = open_table(tmp_path / "vocab")
    assert again.ngrams.hashing == emb.subwords.hashing and np.array_equal(again.ngrams.matrix, table()[1])
    with pytest.raises(SourceError, match="has no words"):
        read_vectors(tmp_path / "vocab")


def test_what_is_no_table_is_refused(emb, gensim_data, tmp_path):
    def attempt(embeddings, says, format="floret"):
        with pytest.raises(TargetError, match=says):
            export(embeddings, tmp_path / "w", format)

    attempt(as_embeddings(WordVectors(["a"], [[1]])), "cannot be written as a floret table: it has no n-grams")
    compress(gensim_data / "lee_fasttext_new.bin", tmp_path / "f.ems", "cast", measure=False)
    attempt(load(tmp_path / "f.ems"), "hashed as in fastText, not as in floret")
    attempt(emb, "there are no words to write.*floret, spacy", "text")
    with_words = as_embeddings(WordVectors(["a"], [[1] * 6]))
    with_words.subwords = emb.subwords
    attempt(with_words, "it has words with vectors")
    emb.subwords.missing, emb.subwords.present = "skip", 599
    attempt(emb, "some n-grams were dropped")
    (tmp_path / "m.floret").write_bytes(table(bow="a\tb")[0])
    compress(tmp_path / "m.floret", tmp_path / "m.ems", "cast", measure=False)
    attempt(load(tmp_path / "m.ems"), "white space, which a floret file cannot store.*Choose the format spacy")


def test_command_line(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.output

    assert "0 words, dim 6" in " ".join(run("quantize", source, "a.ems").split())
    assert run("get", "a.ems", "anything").startswith("anything ")
    assert "there are no words to search" in run("similar", "a.ems", "anything", code=1)
    run("verify", "a.ems")
    run("info", "a.ems")
    run("plan", source, "pq:subspaces=3")
    run("export", "a.ems", "b.floret", "-q")
    assert (tmp_path / "b.floret").read_text().startswith("600 6 2 4 2 2166136261 < >\n0 ")
