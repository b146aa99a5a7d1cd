"""KeyedVectors we write: as gensim loads them, and as we read them."""

import os

import numpy as np
import pytest

from embshrink import compress, load
from embshrink.formats import ReadOptions, export, read_vectors, write_vectors


def of_gensim(path):
    from gensim.models import KeyedVectors

    return KeyedVectors.load(str(path))


def test_gensim_and_we_read_the_same(vectors, tmp_path):
    """The last word is not UTF-8: its bytes come back."""
    path = tmp_path / "v.kv"
    write_vectors(vectors.words, [vectors.matrix[:123], vectors.matrix[123:]], path, "gensim")
    theirs = of_gensim(path)
    assert theirs.index_to_key == list(vectors.words)
    assert theirs.key_to_index == {word: row for row, word in enumerate(vectors.words)}
    assert theirs.vectors.dtype == np.float32 and np.array_equal(theirs.vectors, vectors.matrix)
    assert np.array_equal(theirs["\udcff\udcfe"], vectors[b"\xff\xfe"])
    ours = read_vectors(path, ReadOptions(format="gensim"))
    assert ours.words.raw == vectors.words.raw and np.array_equal(ours.matrix, vectors.matrix)
    assert os.listdir(tmp_path) == ["v.kv"]


def test_it_works_as_gensims_own(vectors, tmp_path):
    write_vectors(vectors.words, [vectors.matrix], tmp_path / "v.kv", "gensim")
    theirs = of_gensim(tmp_path / "v.kv")
    assert theirs.most_similar("w0", topn=1)[0][0] in theirs
    theirs.vectors[0] = 0  # not read-only
    theirs.add_vectors(["new"], [np.ones(10, np.float32)])
    assert theirs["new"].tolist() == [1] * 10 and len(theirs) == len(vectors) + 1


def test_an_ems_file_by_the_targets_ending(gensim_data, tmp_path):
    """Words that share rows come out each with its own; n-grams stay behind."""
    compress(gensim_data / "lee_fasttext_new.bin", tmp_path / "v.ems", ["prune:keep=300", "cast"], measure=False)
    with load(tmp_path / "v.ems") as emb:
        assert export(emb, tmp_path / "v.kv") == "gensim"
        theirs = of_gensim(tmp_path / "v.kv")
        assert type(theirs).__name__ == "KeyedVectors" and "theoretically" not in theirs
        assert theirs.index_to_key == emb.index_to_key
        assert np.array_equal(theirs.vectors, np.asarray(emb.vectors))


def test_one_file_even_if_large(tmp_path):
    """Arrays of more numbers than this gensim puts into files of their own, if it is given a path."""
    matrix = np.zeros((161, 65_536), np.float32)
    assert matrix.size > 10 * 1024**2
    write_vectors(map(str, range(161)), [matrix], tmp_path / "v.kv", "gensim")
    assert os.listdir(tmp_path) == ["v.kv"]
    assert of_gensim(tmp_path / "v.kv").vectors.shape == matrix.shape


def test_the_same_bytes_again(vectors, tmp_path):
    for name in ("a.kv", "b.kv"):
        write_vectors(vectors.words, [vectors.matrix], tmp_path / name, "gensim")
    assert (tmp_path / "a.kv").read_bytes() == (tmp_path / "b.kv").read_bytes()


def test_an_interrupted_write_leaves_nothing(vectors, tmp_path):
    def blocks():
        yield vectors.matrix[:100]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_vectors(vectors.words, blocks(), tmp_path / "v.kv", "gensim")
    assert os.listdir(tmp_path) == []
