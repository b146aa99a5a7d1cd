"""Compressed fastText models: vectors of unseen words out of an .ems file."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from models import open_model

from embshrink import FormatError, compress, load
from embshrink.cli.commands import cli
from embshrink.compression.job import Job
from embshrink.compression.ngrams import of_file, of_model
from embshrink.compression.source import open_table
from embshrink.embeddings.subwords import Subwords
from embshrink.numerics import parallel
from embshrink.vocabulary.ngram_hashing import bucket_ids
from embshrink.vocabulary.ngram_rows import encode_ids

UNSEEN = ["theoretically", "nightly", "caf\u00e9s", "\u6771\u4eac", "unforeseeable"]


@pytest.fixture(scope="module")
def source(gensim_data):
    return gensim_data / "lee_fasttext_new.bin"


@pytest.fixture(scope="module")
def model(source):
    return open_model(source)


@pytest.fixture
def exact(source, tmp_path):
    compress(source, tmp_path / "v.ems", ["cast:dtype=float32"], measure=False)
    return load(tmp_path / "v.ems", verify="full")


def trained(model, word):
    """Return the mean of a word's n-gram rows with those that were never trained as zeros."""
    table = of_model(model)
    buckets = bucket_ids(word.encode(), model.minn, model.maxn, model.bucket)
    rows = [model.rows([bucket + len(model.words)])[0] for bucket in buckets if bucket in set(table.ids.tolist())]
    return sum(rows) / len(buckets) if rows else None


def test_words_are_finished_vectors_to_the_last_bit(model, exact):
    assert list(exact.words) == list(model.words)
    assert np.array_equal(np.asarray(exact.vectors), model.word_vectors())


def test_unseen_words_are_the_means_of_their_ngrams(model, exact):
    for word in UNSEEN:
        expected = trained(model, word)
        assert word not in exact
        if expected is None:
            assert exact.get(word) is None
        else:
            np.testing.assert_allclose(exact[word], expected, atol=1e-6)
            unit = expected / np.linalg.norm(expected)
            np.testing.assert_allclose(exact.get_vector(word, norm=True), unit, atol=1e-5)


def test_unseen_words_equal_gensims_where_all_ngrams_were_trained(source, exact):
    from gensim.models.fasttext import load_facebook_vectors

    gensim = load_facebook_vectors(str(source))
    trained_ids = set(of_file(exact.subwords).ids.tolist())
    checked = 0
    for word in ["theoretically", "nights", "Australians", "reporting", "governmental", "thing"]:
        buckets = exact.subwords.hashing.ids(word.encode())
        if word not in exact and set(buckets) <= trained_ids:
            np.testing.assert_allclose(exact[word], gensim[word], atol=1e-6)
            checked += 1
    assert checked >= 2


def test_lookups_of_unseen_words(exact):
    assert exact.get("theoretically", oov=False) is None
    assert not exact[""].any()  # no n-grams: zeros, as in fastText
    both = exact.vectors_for(["night", "theoretically", "the"])
    assert np.array_equal(both[1], exact["theoretically"])
    assert np.array_equal(both[0], exact["night"])
    found = exact.most_similar("theoretically", topn=5)
    assert len(found) == 5
    cosines = np.asarray(exact.vectors) @ exact["theoretically"]
    assert found[0][0] == exact.index_to_key[int(np.argmax(cosines / exact.norms))]
    assert exact.similarity("theoretically", "theoretically") == pytest.approx(1)


@pytest.mark.parametrize("steps", [["pq:subspaces=5"], ["cast"], ["prune:keep=500", "scalar:bits=8"],
                                   ["lowrank:dims=8"]])
@pytest.mark.parametrize("own", ["same", ["cast"], ["prune:keep=300", "scalar:bits=8"], ["dedupe", "pq:subspaces=2"],
                                 ["kmeans:centroids=200,norms=true"]])
def test_steps_for_words_and_for_ngrams(steps, own, source, tmp_path):
    report = compress(source, tmp_path / "v.ems", steps, ngrams=own)
    planned = Job(open_table(source), ngrams=own).plan(steps).bytes
    assert planned >= report.target_bytes if "dedupe" in own else planned == report.target_bytes
    assert 0.5 < report.loss["unseen_cosine"] <= 1.00001
    with load(tmp_path / "v.ems", verify="full") as emb:
        assert np.isfinite(emb["theoretically"]).all()


def test_most_useful_ngrams_are_kept(source, model, tmp_path):
    table = of_model(model)
    compress(source, tmp_path / "v.ems", ["cast"], ngrams=["prune:keep=100"], measure=False)
    with load(tmp_path / "v.ems", verify="full") as emb:
        kept = of_file(emb.subwords)
        worth = table.uses * np.linalg.norm(table.matrix, axis=1)
        assert kept.ids.tolist() == sorted(table.ids[np.argsort(-worth, kind="stable")[:100]].tolist())


def test_ngrams_may_be_dropped(source, tmp_path):
    compress(source, tmp_path / "v.ems", ["cast"], ngrams="drop")
    emb = load(tmp_path / "v.ems")
    assert emb.subwords is None
    with pytest.raises(KeyError):
        emb["theoretically"]


def test_ngrams_survive_a_second_compression(source, tmp_path):
    compress(source, tmp_path / "a.ems", ["cast:dtype=float32"], measure=False)
    compress(tmp_path / "a.ems", tmp_path / "b.ems", ["scalar:bits=8"], measure=False)
    first, second = load(tmp_path / "a.ems"), load(tmp_path / "b.ems", verify="full")
    np.testing.assert_allclose(second["theoretically"], first["theoretically"], atol=0.02)


def test_same_bytes_at_any_number_of_threads(source, tmp_path):
    contents = set()
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        compress(source, tmp_path / "v.ems", ["pq:subspaces=5"], measure=False, force=True)
        contents.add((tmp_path / "v.ems").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("present", [[], [0], [7], list(range(1300)), [0, 511, 512, 513, 1023, 1024, 1299]])
def test_ranks(present):
    class Rows:
        vector_size = 1

        def decode_ids(self, ids):
            return ids[:, None].astype(np.float32)

    header = {"minn": 1, "maxn": 2, "bucket": 1300, "present": len(present), "missing": "zero"}
    subwords = Subwords(header, encode_ids(np.array(present, np.int64), 1300), Rows())
    rows = [subwords._row(bucket) for bucket in range(1300)]
    assert [bucket for bucket, row in enumerate(rows) if row >= 0] == present
    assert [row for row in rows if row >= 0] == list(range(len(present)))


def test_hostile_headers_are_refused(exact, tmp_path):
    from embshrink.storage.container import Container, write_container

    with Container(exact.path) as container:
        sections = {name: np.asarray(part).copy() for name, part in container.sections.items()}
        header = container.header
    good = header["subwords"]
    for key, values in {
        "bucket": [0, -1, 2**31, good["bucket"] + 8, 10**18, "many"], "present": [-1, 0, good["present"] + 1, 2**40],
        "minn": [-1, 101], "maxn": [101, None], "missing": ["", 3], "rows": [0, -1, good["rows"] + 1],
        "steps": [[], ["pq"], "cast", [3], ["nothing"]], "owned": [False, 1],
    }.items():
        for value in values:
            write_container(tmp_path / "h.ems", {**header, "subwords": {**good, key: value}}, sections, force=True)
            with pytest.raises(FormatError):
                load(tmp_path / "h.ems", verify="full")
    for name in [name for name in sections if name.startswith("ngrams.")]:
        fewer = {other: part for other, part in sections.items() if other != name}
        write_container(tmp_path / "h.ems", header, fewer, force=True)
        with pytest.raises(FormatError):
            load(tmp_path / "h.ems")
    for name in ("ngrams.bitmap", "ngrams.ranks"):
        wrong = {**sections, name: sections[name] ^ 1}
        write_container(tmp_path / "h.ems", header, wrong, force=True)
        with pytest.raises(FormatError, match=r"ngrams\."):
            load(tmp_path / "h.ems", verify="full")


def test_command_line(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    assert "cosine of OOV words' vectors, made of n-grams, " in run("quantize", source, "a.ems")
    assert run("get", "a.ems", "theoretically").startswith("theoretically ")
    assert json.loads(run("get", "a.ems", "theoretically", "--json"))["vectors"][0]["alias_of"] is None
    assert len(run("similar", "a.ems", "theoretically", "-n", 3).splitlines()) == 3
    run("quantize", source, "b.ems", "--ngrams", "prune:keep=200", "--ngrams", "cast", "-q")
    run("quantize", source, "c.ems", "--no-ngrams", "-q")
    sizes = [(tmp_path / name).stat().st_size for name in ("c.ems", "b.ems")]
    assert sizes[0] < sizes[1]
    run("get", "c.ems", "theoretically", code=1)
    run("quantize", source, "d.ems", "--no-ngrams", "--ngrams", "cast", code=2)
