"""Many queries at once, when an index is made, what it keeps, and names from memory."""

import random
import sys

import numpy as np
import pytest
from conftest import make_vectors
from test_packed import ORDERS, pack, random_words
from test_scan import small_tables, whole  # noqa: F401

from embshrink import WordVectors, compress, load
from embshrink.embeddings import index as scan
from embshrink.embeddings import search
from embshrink.errors import EmbshrinkError, FormatError
from embshrink.methods.row_map import RowMap
from embshrink.numerics import parallel
from embshrink.reader import Embeddings, as_embeddings
from embshrink.vocabulary.packed import PackedWords, encode_packed
from embshrink.vocabulary.words import Words

STEPS = [["pq:subspaces=5,centroids=16"], ["cast"], ["prune:keep=150,norms=true", "scalar:bits=4"],
         ["dedupe", "scalar"]]


@pytest.fixture(params=STEPS, ids=" ".join)
def emb(request, vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", request.param, vocabulary="packed", measure=False)
    return load(tmp_path / "v.ems")


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_queries_are_answered_as_one_by_one(emb, indexed, threads, monkeypatch):
    monkeypatch.setattr(scan, "LEAST_ROWS", 1 if indexed else 10**9)
    monkeypatch.setattr(search, "BATCH_VALUES", 7 * 400)
    parallel.set_threads(threads)
    words = emb.index_to_key[:50]
    ids, cosines = emb.nearest(words, topn=4, restrict_vocab=300)
    assert (emb.index is not None) == indexed
    assert ids.dtype == np.int64 and cosines.dtype == np.float32
    for word, near, values in zip(words, ids.tolist(), cosines.tolist()):
        assert list(zip([emb.words[i] for i in near], values)) == whole(emb, word, topn=4, restrict_vocab=300)
    rows = emb.vectors_for(words[:9])
    ids, cosines = emb.nearest(rows)
    for row, near, values in zip(rows, ids.tolist(), cosines.tolist()):
        assert list(zip([emb.words[i] for i in near], values)) == whole(emb, [row])


@pytest.mark.parametrize("least", [1, 10**9])
def test_more_neighbours_than_words(least, monkeypatch):
    monkeypatch.setattr(scan, "LEAST_ROWS", least)
    emb = as_embeddings(make_vectors(30, 5))
    ids, cosines = emb.nearest(["w3", emb["w3"]], topn=40)
    assert (ids >= 0).sum(axis=1).tolist() == [29, 30]
    assert np.array_equal(np.isnan(cosines), ids < 0)
    assert sorted(ids[0, :29].tolist()) == [i for i in range(30) if i != 3]
    ids, cosines = emb.nearest(["w3"], topn=2000, restrict_vocab=2)
    assert ids[0, :3].tolist() == whole_ids(emb, "w3", 2) + [-1]
    assert [part.shape for part in emb.nearest([])] == [(0, 10), (0, 10)]


def whole_ids(emb, word, stop):
    return [emb.get_index(found) for found, _ in whole(emb, word, restrict_vocab=stop)]


def test_a_missing_word_or_a_wrong_vector_is_refused(emb):
    with pytest.raises(KeyError, match="nothing"):
        emb.nearest(["w3", "nothing"])
    with pytest.raises(ValueError, match="expected a vector of shape"):
        emb.nearest(np.ones((2, 3), np.float32))
    with pytest.raises(EmbshrinkError, match="no words"):
        as_embeddings(WordVectors([], np.zeros((0, 3), np.float32))).nearest(np.ones((1, 3), np.float32))


def test_the_second_search_makes_an_index_and_closing_drops_it(emb, small_tables):  # noqa: F811
    expected = emb.most_similar("w3")
    assert emb.index is None and emb.words._unpacked is None
    assert emb.most_similar("w3") == expected
    index = emb.index
    assert index is not None and emb.words._unpacked is not None
    assert emb.most_similar("w3") == expected and emb.index is index
    emb.close()
    assert emb.index is None and emb.words._unpacked is None and not emb._searched


def test_one_search_loads_neither_numba_nor_an_index(emb, monkeypatch):
    monkeypatch.setattr(scan, "LEAST_ROWS", 1)
    for name in ("scan", "shuffle", "words"):
        monkeypatch.setitem(sys.modules, f"embshrink.kernels.{name}", None)
    assert len(emb.most_similar("w3")) == 10


def test_words_are_looked_up_once(vectors, monkeypatch):
    emb = as_embeddings(vectors)
    asked = []
    find = emb.words.find
    monkeypatch.setattr(emb.words, "find", lambda word: asked.append(word) or find(word))
    emb.most_similar(["w3", "w4"], "w5")
    assert asked == ["w3", "w4", "w5"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_vectors_of_any_numbers_are_taken_and_left_as_they_are(dtype):
    matrix = np.random.default_rng(0).integers(-9, 10, (30, 5)).astype(np.float32)
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(30)], matrix))
    given = matrix[3].astype(dtype)
    assert np.array_equal(emb.distances(given), emb.distances(matrix[3]))
    assert np.array_equal(emb.distances(given, ["w1", "w2"]), emb.distances(matrix[3], ["w1", "w2"]))
    for items in ([given], [given, "w1"]):
        assert emb.most_similar(items) == emb.most_similar([matrix[3], *items[1:]])
        query = search.query_vector(emb, items, [1.0] * len(items))
        assert query.dtype == np.float32
        query[:] = 0
    assert np.array_equal(given, matrix[3].astype(dtype))
    assert np.array_equal(emb.get_mean_vector([given], pre_normalize=False), matrix[3])


def test_the_mean_of_words_that_are_all_missing_is_zero():
    emb = as_embeddings(WordVectors(["one"], np.ones((1, 3), np.float32)))
    assert emb.get_mean_vector(["two", "three"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n", [50, 5000])
def test_the_top_comes_in_order_ties_by_place_and_nan_last(n):
    rng = np.random.default_rng(n)
    scores = rng.integers(30, size=n).astype(np.float32)
    scores[rng.random(n) < 0.9] = np.nan
    expected = sorted(range(n), key=lambda i: (np.isnan(scores[i]), -np.nan_to_num(scores[i]), i))
    for topn in (0, 1, 3, n // 20, n // 2, n, n + 5):
        assert search.top(scores, topn).tolist() == expected[:topn]


@pytest.mark.parametrize("kept", ORDERS)
def test_unpacked_words_answer_as_packed_ones(kept):
    words = random_words(3000)
    packed, ordered = pack(words, kept)
    prefixes = {prefix: packed.prefix(prefix) for prefix in (b"", b"a", b"ab", b"\xff", b"zz")}
    packed.unpack()
    assert [packed.raw_at(i) for i in range(3000)] == ordered == packed.raw
    assert [packed.find(word) for word in ordered] == list(range(3000))
    rng = random.Random(1)
    for _ in range(2000):
        word = bytes(rng.choices(b"aaabcde\xff\0f", k=rng.randrange(10)))
        assert packed.find(word) == (ordered.index(word) if word in ordered else -1)
    assert {prefix: packed.prefix(prefix) for prefix in prefixes} == prefixes
    assert packed[-1] == Words(ordered)[-1] and packed[5:9] == Words(ordered)[5:9]
    with pytest.raises(IndexError):
        packed[3000]
    packed.check()
    text, places = packed._unpacked._text, packed._unpacked._places
    assert places.itemsize == packed._unpacked._ends.itemsize == packed._unpacked._ids.itemsize == 4
    assert len(text) == sum(map(len, words))
    packed.pack()
    assert packed._unpacked is None and packed.raw == ordered


@pytest.mark.parametrize("words", [[], [b""], [b"one"]])
def test_unpacking_few_words(words):
    packed = pack(words)[0]
    packed.unpack()
    assert packed.raw == words and [packed.find(word) for word in words] == list(range(len(words)))
    assert packed.find("two") == packed.find("zzz") == -1


def test_damaged_words_are_refused_as_they_are_unpacked():
    sections = encode_packed(Words(random_words(2000)))[1]
    blocks = sections["blocks"].copy()
    blocks[len(blocks) // 2] ^= 40
    packed = PackedWords({**sections, "blocks": blocks})
    with pytest.raises(FormatError, match="damaged"):
        packed.unpack()


def test_words_of_rows_are_those_of_a_slow_twin():
    rng = np.random.default_rng(0)
    row_map, scale = rng.integers(40, size=300).astype(np.uint8), rng.choice([0, 1, 2], 300).astype(np.float32)
    row_map[row_map == 17] = 3  # nobody's row
    for scale_or_none in (scale, None):
        words = scan.WordsOfRows(row_map, scale_or_none, 40)
        zero = np.zeros(300, bool) if scale_or_none is None else scale == 0
        for start, stop in ((0, 300), (0, 300), (10, 30), (299, 300), (5, 5)):
            found = words.eligible(start, stop)
            expected = np.zeros(40, bool)
            expected[row_map[start:stop][~zero[start:stop]]] = True
            assert np.array_equal(found, expected) or (expected.all() and not len(found))
            rows = np.flatnonzero(expected)[::2]
            cosines = rng.standard_normal(len(rows)).astype(np.float32)
            ids, values = words.spread(rows, cosines, start, stop, 7)
            inside = [i for i in range(start, stop) if not zero[i] and row_map[i] in rows]
            zeros = [i for i in range(start, stop) if zero[i]][:7]
            assert ids.tolist() == sorted(inside + zeros)
            of_row = dict(zip(rows.tolist(), cosines.tolist()))
            assert values.tolist() == [0 if zero[i] else of_row[row_map[i]] for i in ids.tolist()]


def test_rows_of_no_word_are_not_answers(small_tables):  # noqa: F811
    matrix = np.eye(6, dtype=np.float32)
    matrix[:, 0] = 1
    emb = Embeddings(Words("abc"), matrix.__getitem__, 6, RowMap(np.array([0, 1, 4]), 6), 6, owned=False)
    emb.index_for(2)
    assert emb.most_similar("a", topn=2) == whole(emb, "a", topn=2)
    assert emb.index is not None
