"""fastText models we write: byte by byte, through our own reader, and through gensim."""

import os
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from models import open_model

from embshrink import Embeddings, FormatError, TargetError, WordVectors, as_embeddings, compress, load
from embshrink.embeddings import table
from embshrink.embeddings.subwords import Subwords
from embshrink.formats import export, read_vectors, write_vectors
from embshrink.formats.fasttext import model as fasttext_model
from embshrink.formats.fasttext import writer as fasttext_writer
from embshrink.numerics import parallel
from embshrink.vocabulary.bitmap import Bitmap
from embshrink.vocabulary.ngram_hashing import Floret, Hashing, bucket_ids
from embshrink.vocabulary.ngram_rows import encode_ids
from embshrink.vocabulary.words import Numerals, Words

PRUNED = Path(__file__).parent / "data" / "pruned.ftz"
UNSEEN = ["theoretically", "nightly", "caf\u00e9s", "\u6771\u4eac", "unforeseeable",
          "\u0437\u0432\u0435\u0437\u0434\u0430"]


def farthest(found, expected):
    """Return the largest distance between two rows, as a share of the second's length."""
    lengths = np.linalg.norm(expected, axis=1)
    return (np.linalg.norm(np.subtract(found, expected, dtype=np.float64), axis=1) / lengths).max()


def of_gensim(path, loader="load_facebook_vectors"):
    import gensim.models.fasttext

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return getattr(gensim.models.fasttext, loader)(str(path))


def with_ngrams(words, matrix, hashing, rows):
    """Return embeddings with rows, a dict, for some buckets."""
    matrix = np.asarray(matrix, np.float32)
    numbers = np.array(list(rows.values()), np.float32).reshape(-1, matrix.shape[1])
    subwords = Subwords(
        {**hashing.as_header(), "present": len(rows), "missing": "zero"},
        encode_ids(np.array(list(rows), np.int64), hashing.bucket),
        Embeddings(Numerals(len(rows)), numbers.__getitem__, matrix.shape[1], None, len(rows)))
    return Embeddings(Words(words), matrix.__getitem__, matrix.shape[1], None, len(matrix), subwords=subwords)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def exported(folder, source, *steps):
    """Return compressed embeddings and the model they were exported to."""
    name = "-".join([source.stem, *steps]).replace(":", "_").replace("=", "_")
    if not (folder / f"{name}.bin").exists():
        compress(source, folder / f"{name}.ems", list(steps), measure=False)
        export(load(folder / f"{name}.ems"), folder / f"{name}.bin", "fasttext")
    return load(folder / f"{name}.ems"), folder / f"{name}.bin"


# ---------------------------------------------------------------- the bytes


def test_every_byte_of_a_small_model(tmp_path):
    """Two words and three buckets, one of them without a row; the word rows by hand."""
    hashing = Hashing(3, 3, 3)
    assert [bucket_ids(word, 3, 3, 3) for word in (b"to", b"a")] == [[1, 2], [1]]
    matrix = np.array([[1, 2], [3, -4]], np.float32)
    emb = with_ngrams(["to", "a"], matrix, hashing, {0: [7, 8], 1: [0.5, 0.25]})
    assert export(emb, tmp_path / "m.bin", "fasttext") == "fasttext"
    assert (tmp_path / "m.bin").read_bytes() == b"".join([
        struct.pack("<2i", 793712314, 12),
        struct.pack("<12id", 2, 5, 5, 1, 0, 1, 3, 2, 3, 3, 3, 100, 1e-4),
        struct.pack("<3i2q", 2, 2, 0, 4 + 2, -1),
        b"to\0", struct.pack("<qb", 4, 0), b"a\0", struct.pack("<qb", 2, 0),
        b"\0", struct.pack("<2q", 2 + 3, 2),
        struct.pack("<2f", 3 * 1 - 0.5, 3 * 2 - 0.25), struct.pack("<2f", 2 * 3 - 0.5, 2 * -4 - 0.25),
        struct.pack("<6f", 7, 8, 0.5, 0.25, 0, 0),
        b"\0", struct.pack("<2q", 0, 2),
    ])


def test_without_ngrams_rows_are_the_vectors(vectors, tmp_path):
    path = tmp_path / "m.bin"
    write_vectors(vectors.words, [vectors.matrix[:150], vectors.matrix[150:]], path, "fasttext")
    model = open_model(path)
    assert (model.minn, model.maxn, model.bucket, model.has_ngrams) == (0, 0, 0, False)
    assert model.words.raw == vectors.words.raw
    assert np.array_equal(model.word_vectors(), vectors.matrix)
    n = len(vectors)
    assert model.counts[0] == n * n and model.counts[-1] == n and (np.diff(model.counts) < 0).all()
    assert model.args["ntokens"] == model.counts.sum()
    theirs = of_gensim(path)
    assert theirs.index_to_key[:-1] == list(vectors.words)[:-1]
    assert np.array_equal(theirs.vectors, vectors.matrix)
    with pytest.raises(KeyError, match="without ngrams"):
        theirs["unseen"]


def test_blocks_and_threads_do_not_matter(gensim_data, folder, monkeypatch):
    emb, path = exported(folder, gensim_data / "lee_fasttext_new.bin", "pq:subspaces=5")
    monkeypatch.setattr(table, "BLOCK_ROWS", 70)
    monkeypatch.setattr(fasttext_writer, "WRITTEN", 900)
    monkeypatch.setattr(fasttext_writer, "BLOCK", 33)
    monkeypatch.setattr(fasttext_model, "BLOCK", 33)
    for threads in (1, 3):
        parallel.set_threads(threads)
        export(emb, folder / "again.bin", "fasttext", force=True)
        again, whole = open_model(folder / "again.bin"), open_model(path)
        assert again.words.raw == whole.words.raw and again.counts.tolist() == whole.counts.tolist()
        n = len(emb)
        assert np.array_equal(again.rows(range(n, n + 1000)), whole.rows(range(n, n + 1000)))
        # sums are added up in other pieces, in float64
        np.testing.assert_allclose(again.rows(range(n)), whole.rows(range(n)), rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- the vectors


@pytest.mark.parametrize("steps", [("cast:dtype=float32",), ("pq:subspaces=5",), ("prune:keep=50", "scalar:bits=8")])
@pytest.mark.parametrize("name", ["lee_fasttext_new.bin", "crime-and-punishment.bin", "non_ascii_fasttext.bin"])
def test_our_reader_and_gensim_give_the_same_vectors(name, steps, gensim_data, folder):
    if name.startswith("non") and steps[0].startswith("pq"):
        steps = ("cast",)  # of dim 2
    emb, path = exported(folder, gensim_data / name, *steps)
    vectors = np.asarray(emb.vectors)
    model = open_model(path)
    assert emb.subwords.missing == "zero" and model.bucket == emb.subwords.hashing.bucket
    assert model.words.raw == emb.words.raw and read_vectors(path).source["format"] == "fasttext"
    assert farthest(model.word_vectors(), vectors) < 1e-6
    for loader in ("load_facebook_vectors", "load_facebook_model"):
        theirs = of_gensim(path, loader)
        theirs = getattr(theirs, "wv", theirs)
        assert theirs.index_to_key == emb.index_to_key
        rows = [row for row, word in enumerate(emb.words) if word != "</s>"]  # gensim gives it n-grams
        assert farthest(theirs.vectors[rows], vectors[rows]) < 1e-6
        for word in UNSEEN:
            expected = emb.get(word, np.zeros(emb.vector_size))
            assert word not in emb
            np.testing.assert_allclose(theirs[word], expected, rtol=0, atol=1e-6)
            np.testing.assert_allclose(model.vector(word), expected, rtol=0, atol=1e-6)
    assert any(emb.get(word) is not None for word in UNSEEN)


def test_ngrams_of_a_pruned_model_are_zeros(folder):
    """A dense model has no holes: the mean is over all n-grams, so unseen words keep direction, not length."""
    emb, path = exported(folder, PRUNED, "cast:dtype=float32")
    model, theirs = open_model(path), of_gensim(path)
    assert emb.subwords.missing == "skip" and model.bucket == 3000
    assert farthest(model.word_vectors(), np.asarray(emb.vectors)) < 1e-6
    here = emb.subwords.ids()
    assert np.array_equal(model.rows(here + len(emb)), emb.subwords.rows.decode_ids(np.arange(emb.subwords.present)))
    missing = np.setdiff1d(np.arange(3000), here)
    assert not model.rows(missing + len(emb)).any() and len(missing) == 2500
    checked = 0
    for word in UNSEEN:
        buckets = bucket_ids(word.encode(), model.minn, model.maxn, model.bucket)
        share = np.isin(buckets, here).mean()
        if share:
            checked += share < 1
            np.testing.assert_allclose(theirs[word], emb[word] * share, rtol=0, atol=1e-6)
            np.testing.assert_allclose(model.vector(word), emb[word] * share, rtol=0, atol=1e-6)
    assert checked >= 3


def test_gensim_refuses_to_train_on(gensim_data, folder):
    """The output matrix is empty; training must not read past it."""
    model = of_gensim(exported(folder, gensim_data / "lee_fasttext_new.bin", "pq:subspaces=5")[1],
                      "load_facebook_model")
    with pytest.raises(ValueError, match="You must set either 'hs' or 'negative'"):
        model.train([["night", "the"]], total_examples=1, epochs=1)


# ---------------------------------------------------------------- what it cannot hold


def test_words_of_any_bytes_but_nul(tmp_path):
    words = [b"the", b"", b"a b", b"new\nline", b"\ttab", b"__label__x", b"</s>", b"\xff\xfe", "caf\u00e9".encode()]
    matrix = np.random.default_rng(0).standard_normal((len(words), 3)).astype(np.float32)
    emb = with_ngrams(words, matrix, Hashing(1, 4, 5), {bucket: [bucket, 1, -1] for bucket in range(5)})
    export(emb, tmp_path / "m.bin", "fasttext")
    model = open_model(tmp_path / "m.bin")
    assert model.words.raw == words and model.labels == []
    assert farthest(model.word_vectors(), matrix) < 2e-6
    with pytest.raises(TargetError, match=r"the word 'b\\x00c' contains a NUL byte, which a fastText model cannot"):
        write_vectors(["a", "b\0c"], [matrix[:2]], tmp_path / "no.bin", "fasttext")
    assert os.listdir(tmp_path) == ["m.bin"]


def test_rows_past_float32(tmp_path):
    emb = with_ngrams(["to"], [[1e38, 0]], Hashing(3, 3, 5), {1: [0, 0]})
    export(emb, tmp_path / "m.bin", "fasttext")
    emb = with_ngrams(["together"], [[1e38, 0]], Hashing(3, 3, 5), {1: [0, 0]})
    with pytest.raises(TargetError, match="the row of the word 'together' is too large for float32"):
        export(emb, tmp_path / "no.bin", "fasttext")


def test_more_rows_than_fasttext_can_number(tmp_path):
    emb = as_embeddings(WordVectors(["to"], [[1, 0]]))
    emb.subwords = SimpleNamespace(hashing=Hashing(3, 6, 2**31 - 1))
    with pytest.raises(TargetError, match=r"rows .*\(expected at most 2147483647, found 1 word and 2147483647 b"):
        export(emb, tmp_path / "no.bin", "fasttext")
    assert os.listdir(tmp_path) == []


def test_ngrams_of_floret(tmp_path):
    emb = with_ngrams(["to"], [[1, 0]], Hashing(3, 6, 10, Floret(2, 2166136261)), {})
    with pytest.raises(TargetError, match="the n-grams are hashed as in floret, which a fastText model cannot store"):
        export(emb, tmp_path / "no.bin", "fasttext")
    assert os.listdir(tmp_path) == []


def test_damaged_ngrams(gensim_data, folder, tmp_path):
    emb, _ = exported(folder, gensim_data / "lee_fasttext_new.bin", "pq:subspaces=5")
    emb.subwords.bitmap = Bitmap(np.zeros_like(emb.subwords.bitmap.bits), emb.subwords.bitmap.ranks)
    with pytest.raises(FormatError, match=r"bitmap does not have one bit set .*\(expected 1000, found 0\)"):
        export(emb, tmp_path / "no.bin", "fasttext")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("part", ["words", "ngrams"])
def test_an_interrupted_write_leaves_what_was_there(part, vectors, tmp_path):
    emb = with_ngrams(vectors.words, vectors.matrix, Hashing(3, 6, 100), {bucket: [0] * 10 for bucket in range(100)})
    (tmp_path / "m.bin").write_bytes(b"old")

    def interrupted(ids):
        raise KeyboardInterrupt

    if part == "words":
        emb.blocks = lambda: iter([(0, vectors.matrix[:200]), *map(interrupted, [200])])
    else:
        emb.subwords.rows.decode_ids = interrupted
    with pytest.raises(KeyboardInterrupt):
        export(emb, tmp_path / "m.bin", "fasttext", force=True)
    assert os.listdir(tmp_path) == ["m.bin"] and (tmp_path / "m.bin").read_bytes() == b"old"
