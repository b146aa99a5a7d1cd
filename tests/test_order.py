"""Ids do not move unless asked: a file answers by rank as its source does, in every format and with every method."""

import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import embshrink
from embshrink import WordVectors, as_embeddings, compress, load
from embshrink.cli.commands import cli
from embshrink.errors import StepError
from embshrink.formats import read_vectors
from embshrink.vocabulary.words import OrderWarning

N = 12_000  # packed, and beyond the ids that the approximate order keeps


def table(n=N):
    """Return words whose order is that of no sort."""
    rng = np.random.default_rng(4)
    words = [f"{'aeiou'[i * 7 % 5]}{i * 7919 % 100_003}" for i in range(n)]
    return WordVectors(words, (rng.standard_normal((n, 8)) * np.linspace(2, 0.5, 8)).astype(np.float32))


@pytest.fixture(scope="module")
def vectors():
    return table()


@pytest.fixture(scope="module")
def approximate(vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("order") / "a.ems"
    compress(vectors, path, "cast:dtype=float32", order="approximate", measure=False)
    return path


@pytest.mark.parametrize("steps", [
    [], ["cast"], ["scalar"], ["pq:subspaces=4,centroids=16"], ["ecq:step=0.4,centroids=1"], ["iiq"],
    ["prune:keep=500", "cast"], ["kmeans:centroids=40,iterations=2", "cast"], ["dedupe", "scalar"],
    ["rq:codebooks=2,centroids=16"], ["lowrank:dims=4", "cast"], ["groupreduce:blocks=3,keep=0.6"],
    ["blocksparse:density=0.6"], ["tensortrain:rank=4"], ["magnitude:sparsity=0.5"]], ids="+".join)
def test_words_keep_their_ids_with_every_method(steps, vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", steps, measure=False)
    with load(tmp_path / "v.ems") as emb:
        assert emb.info()["vocabulary"] == "packed" and emb.info()["exact_ids"] is None
        assert emb.index_to_key == list(vectors.words)
        assert [emb.key_to_index[word] for word in vectors.words[::997]] == list(range(0, N, 997))
        embshrink.export(emb, tmp_path / "v.vec", "word2vec-text")
    assert list(read_vectors(tmp_path / "v.vec").words) == list(vectors.words)


def test_vectors_by_id_and_restricted_searches_are_those_of_the_source(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", [], measure=False)
    source = as_embeddings(vectors)
    with load(tmp_path / "v.ems") as emb:
        assert np.array_equal(np.asarray(emb.vectors), vectors.matrix)
        for first in (10, 5000, 9999):
            assert emb.most_similar(vectors.words[3], restrict_vocab=first) == source.most_similar(
                vectors.words[3], restrict_vocab=first)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "text", "finalfusion"])
def test_words_keep_their_ids_from_every_format(format, vectors, tmp_path):
    source = tmp_path / f"source.{format}"
    embshrink.export(vectors, source, format)
    compress(source, tmp_path / "v.ems", "scalar", measure=False)
    with load(tmp_path / "v.ems") as emb:
        assert emb.index_to_key == list(vectors.words)


def test_approximate_order_keeps_the_first_ids_and_nearly_all_ranks(vectors, approximate):
    with load(approximate, verify="full") as emb:
        words = emb.index_to_key
        assert words[:4096] == list(vectors.words[:4096])
        assert words != list(vectors.words) and sorted(words) == sorted(vectors.words)
        for first in range(4096, N, 131):
            assert len(set(words[:first]) & set(vectors.words[:first])) >= 0.97 * first
        for index in range(0, N, 501):  # each word with its own vector
            assert np.array_equal(emb[vectors.words[index]], vectors.matrix[index])
        assert emb.info()["exact_ids"] == 4096
    assert approximate.stat().st_size < 0.98 * (N * 32 + N * 5)


def test_approximate_order_is_said_where_it_matters_and_nowhere_else(vectors, approximate, tmp_path):
    word = vectors.words[0]
    with load(approximate) as emb:
        pairs = tmp_path / "pairs.tsv"
        pairs.write_text(f"{word}\t{vectors.words[1]}\t1\n{word}\t{vectors.words[2]}\t2\n")
        for call in (lambda: emb.most_similar(word, restrict_vocab=5000),
                     lambda: emb.nearest([word], restrict_vocab=5000),
                     lambda: embshrink.evaluate(emb, pairs=[pairs], restrict_vocab=5000),
                     lambda: embshrink.export(emb, tmp_path / "v.bin", force=True)):
            with pytest.warns(OrderWarning, match=r"approximate order .*4,096"):
                call()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            emb.most_similar(word)
            emb.most_similar(word, restrict_vocab=4096)
            emb.most_similar(word, restrict_vocab=N)


def test_order_at_the_command_line(vectors, approximate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embshrink.export(vectors, "v.bin")

    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    run("compress", "v.bin", "e.ems", "scalar", "-q")
    run("compress", "v.bin", "k.ems", "scalar", "-q", "--keep-order")
    run("compress", "v.bin", "a.ems", "scalar", "-q", "--order", "approximate")
    assert (tmp_path / "e.ems").read_bytes() == (tmp_path / "k.ems").read_bytes()
    sizes = {name: (tmp_path / f"{name}.ems").stat().st_size for name in "ea"}
    assert sizes["e"] - sizes["a"] > 0.8 * N  # bytes
    assert "exact: every word has its id in the source" in run("info", "e.ems").stdout
    assert "approximate: exact for the first 4,096 words" in run("info", "a.ems").stdout
    said = run("similar", "a.ems", vectors.words[5], "--restrict-vocab", 6000)
    assert said.stderr.count("Warning: the words of this file are in approximate order") == 1
    assert "Warning" not in run("similar", "e.ems", vectors.words[5], "--restrict-vocab", 6000).stderr
    assert "approximate order" in run("export", "a.ems", "x.bin").stderr
    assert "exclude each other" in run("compress", "v.bin", "b.ems", "--keep-order", "--order", "approximate",
                                       code=2).stderr


def test_wrong_orders_are_refused(vectors, tmp_path):
    with pytest.raises(StepError, match=r"order \(--order\) cannot be 'octaves' \(expected exact or approximate"):
        compress(vectors, tmp_path / "v.ems", [], order="octaves")
    with pytest.raises(StepError, match="exclude each other"):
        compress(vectors, tmp_path / "v.ems", [], order="approximate", keep_order=True)


def test_kept_codes_and_files_in_approximate_order_stay_in_theirs(approximate, tmp_path):
    compress(approximate, tmp_path / "b.ems", [], measure=False)
    with load(approximate) as before, load(tmp_path / "b.ems") as after:
        assert after.index_to_key == before.index_to_key
