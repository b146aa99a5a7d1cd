"""The reader: lookups, aliases, gensim's names, what it imports."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import checks
import numpy as np
import pytest
from conftest import make_vectors

import embshrink
from embshrink import WordVectors, compress, load
from embshrink.errors import FormatError


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    vectors = make_vectors()
    path = tmp_path_factory.mktemp("reader") / "v.ems"
    compress(vectors, path, ["prune:keep=100", "cast:dtype=float32"], measure=False)
    return vectors, load(path)


@pytest.fixture(scope="module")
def keyed():
    """Return the same vectors for embshrink and for gensim."""
    from gensim.models import KeyedVectors

    vectors = make_vectors(200, 8)
    words = [f"word{i}" for i in range(200)]
    gensim = KeyedVectors(8)
    gensim.add_vectors(words, vectors.matrix)
    return embshrink.as_embeddings(WordVectors(words, vectors.matrix)), gensim


def test_lookups(pruned):
    vectors, emb = pruned
    assert len(emb) == 400
    assert emb.vector_size == 10
    assert "w3" in emb
    assert "nothing" not in emb
    assert b"\xff\xfe" in emb
    assert "caf\u00e9" in emb
    assert np.array_equal(emb["w3"], vectors["w3"])
    assert np.array_equal(emb[["w3", "w7"]], vectors.matrix[[3, 7]])
    assert emb["w3"].dtype == np.float32
    assert emb.get("nothing") is None
    assert emb.get("nothing", 0) == 0
    assert emb.get_index("w7") == 7
    assert emb.get_index("nothing", -5) == -5
    assert emb.vectors_for([]).shape == (0, 10)
    np.testing.assert_allclose(np.linalg.norm(emb.get_vector("w3", norm=True)), 1, rtol=1e-6)
    for missing in (lambda: emb["nothing"], lambda: emb.get_index("nothing"), lambda: emb.vectors_for(["w1", "x"])):
        with pytest.raises(KeyError, match="not present"):
            missing()


def test_vectors_is_an_array_that_decodes_what_is_indexed(pruned):
    _, emb = pruned
    whole = np.asarray(emb.vectors)
    assert emb.vectors.shape == whole.shape == (400, 10)
    for key in (3, -1, slice(5, 9), [1, 5, 1], np.arange(400) % 3 == 0, (slice(2, 4), 1), (7, 2), (7, slice(1, 3))):
        assert np.array_equal(emb.vectors[key], whole[key])
    with pytest.raises(IndexError):
        emb.vectors[400]


def test_aliases(pruned):
    vectors, emb = pruned
    assert emb.alias_of("w3") == "w3"
    units = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    nearest = int(np.argmax(units[:100] @ units[250]))
    assert emb.alias_of("w250") == f"w{nearest}"
    assert np.array_equal(emb["w250"], vectors.matrix[nearest])
    assert emb.shares_row("w250", f"w{nearest}")
    assert not emb.shares_row("w1", "w2")
    assert emb.similarity("w250", f"w{nearest}") == pytest.approx(1)


def test_centroids_are_nobodys_alias(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", ["kmeans:centroids=10"], measure=False)
    emb = load(tmp_path / "v.ems")
    assert emb.alias_of("w1") is None
    assert emb.owners() is None


def test_owners_that_are_not_first_words_are_stored(vectors, tmp_path):
    keep = ["w399", "w250", "w300"]
    report = compress(vectors, tmp_path / "v.ems", ["prune:keep=3"], keep_words=keep, measure=False)
    assert report.warnings == [
        "1 of 3 words in keep_words (--keep-words) are not in the source and have no effect: w399"]
    emb = load(tmp_path / "v.ems", verify="full")
    for word in ("w250", "w300"):
        assert emb.alias_of(word) == word
        assert np.array_equal(emb[word], vectors[word])
    assert {emb.alias_of(word) for word in emb.index_to_key} == {"w0", "w250", "w300"}


def test_word_lists(pruned):
    vectors, emb = pruned
    assert emb.index_to_key == list(vectors.words)
    mapping = emb.key_to_index
    assert mapping["w3"] == 3
    assert len(mapping) == 400
    assert list(mapping)[:2] == ["w0", "w1"]
    assert mapping.get("nothing") is None
    assert dict(mapping)["two words"] == emb.get_index("two words")
    assert "400 words on 100 rows, dim 10" in repr(emb)


@pytest.mark.parametrize("call", [
    lambda kv: kv.most_similar("word3"),
    lambda kv: kv.most_similar(positive=["word3", "word4"], negative=["word9"], topn=7),
    lambda kv: kv.most_similar(positive=[("word3", 2.0), ("word4", -0.5)], topn=3),
    lambda kv: kv.most_similar(positive=[np.ones(8, np.float32)], topn=3),
    lambda kv: kv.most_similar("word3", restrict_vocab=50),
    lambda kv: kv.most_similar("word3", clip_start=20, clip_end=60),
    lambda kv: kv.most_similar("word3", topn=1000),
    lambda kv: kv.similar_by_word("word8", topn=4),
    lambda kv: kv.similar_by_key("word8", topn=4),
    lambda kv: kv.similar_by_vector(np.arange(8, dtype=np.float32), topn=4),
])
def test_neighbours_are_gensims(keyed, call):
    ours, theirs = (call(one) for one in keyed)
    assert [word for word, _ in ours] == [word for word, _ in theirs]
    np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda kv: kv["word5"],
    lambda kv: kv[["word5", "word6"]],
    lambda kv: kv.get_vector("word5", norm=True),
    lambda kv: kv.get_mean_vector(["word1", "word2"], weights=[1, -3]),
    lambda kv: kv.get_mean_vector(["word1", "nothing"], pre_normalize=False, post_normalize=True),
    lambda kv: kv.similarity("word1", "word2"),
    lambda kv: kv.distance("word1", "word2"),
    lambda kv: kv.distances("word1"),
    lambda kv: kv.distances("word1", ["word2", "word7"]),
    lambda kv: kv.n_similarity(["word1", "word2"], ["word3"]),
    lambda kv: kv.rank("word1", "word2"),
    lambda kv: kv.most_similar("word1", topn=None),
    lambda kv: kv.vectors[[3, 4]],
    lambda kv: len(kv),
    lambda kv: kv.vector_size,
    lambda kv: kv.get_index("word9"),
])
def test_numbers_are_gensims(keyed, call):
    ours, theirs = (call(one) for one in keyed)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda kv: kv.doesnt_match(["word1", "word2", "word3", "word4"]),
    lambda kv: kv.closer_than("word1", "word2"),
    lambda kv: kv.index_to_key,
    lambda kv: "word1" in kv,
    lambda kv: kv.key_to_index["word7"],
])
def test_answers_are_gensims(keyed, call):
    ours, theirs = (call(one) for one in keyed)
    assert ours == theirs


def test_neighbours_of_a_compressed_file_are_those_of_its_vectors(vectors, tmp_path):
    for text in checks.all_settings():
        compress(vectors, tmp_path / "v.ems", [text], force=True, measure=False)
        emb = load(tmp_path / "v.ems")
        whole = np.asarray(emb.vectors)
        norms = np.linalg.norm(whole, axis=1)
        cosines = whole @ whole[5] / np.where(norms * norms[5] > 0, norms * norms[5], 1)
        found = emb.most_similar("w5", topn=12)
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if i != 5][:12]
        np.testing.assert_allclose([score for _, score in found], cosines[order], atol=1e-6)


def test_neighbours_that_share_a_row_come_in_order_of_id():
    matrix = np.array([[1, 0], [0, 1], [1, 1], [1, 1], [1, 1]], np.float32)
    emb = embshrink.as_embeddings(WordVectors(list("abcde"), matrix))
    assert [word for word, _ in emb.most_similar("a", topn=2)] == ["c", "d"]
    assert emb.most_similar("a", topn=0) == []


def test_zero_vectors_have_cosine_zero():
    emb = embshrink.as_embeddings(WordVectors(list("abc"), np.array([[0, 0], [1, 0], [2, 0]], np.float32)))
    assert emb.similarity("a", "b") == 0
    assert emb.most_similar("b") == [("c", 1.0), ("a", 0.0)]
    assert [score for _, score in emb.most_similar("a")] == [0.0, 0.0]


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda emb: emb[400], KeyError, r"Key '400' not present in .*\.ems"),
    (lambda emb: emb[None], KeyError, "Key 'None' not present"),
    (lambda emb: emb[b"nothing"], KeyError, r"Key 'nothing' not present in .*\.ems"),
    (lambda emb: emb.most_similar(0.5), TypeError, "expected a word, a vector, or a list of these, not float"),
    (lambda emb: emb.most_similar("w1", topn="5"), TypeError, "topn must be a whole number or None, not str"),
    (lambda emb: emb.most_similar([("w1",)]), ValueError, "found a tuple of 1"),
    (lambda emb: emb.similar_by_vector("w1"), TypeError, "use similar_by_word"),
    (lambda emb: emb.nearest("w1"), ValueError, "expected a list of words or vectors, .* found one str"),
    (lambda emb: emb.nearest(np.ones(10)), ValueError, r"found shape \(10,\)"),
    (lambda emb: emb.nearest(["w1"], topn=-1), ValueError, "topn must be a whole number of at least 0, found -1"),
    (lambda emb: emb.get_mean_vector(["w1"], [1, 2]), ValueError, "one weight for each of the 1 words, found 2"),
    (lambda emb: emb.doesnt_match(["nothing"]), ValueError, "at least one word that is in the vocabulary"),
    (lambda emb: embshrink.get(emb, 5), TypeError, "words must be a word or a list of words, not int"),
    (lambda emb: WordVectors("ab", np.ones((2, 3))), TypeError, "words must be a list of words, not one str"),
    (lambda emb: WordVectors(["a", "a"], np.ones((2, 3))), ValueError, r"more than once \(found 'a' 2 times\)"),
])
def test_wrong_arguments_are_named(call, kind, message, pruned):
    with pytest.raises(kind, match=message):
        call(pruned[1])


def test_no_input_is_refused(pruned):
    with pytest.raises(ValueError, match="positive and negative are empty"):
        pruned[1].most_similar()
    with pytest.raises(KeyError, match="nothing"):
        pruned[1].most_similar("nothing")


def test_pickles_to_the_path_and_copies(pruned):
    _, emb = pruned
    data = pickle.dumps(emb)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert np.array_equal(again["w250"], emb["w250"])
    assert np.array_equal(copy.deepcopy(emb)["w1"], emb["w1"])
    with pytest.raises(TypeError, match="only Embeddings that were loaded from a file"):
        pickle.dumps(embshrink.as_embeddings(make_vectors(5, 2)))


def test_pickles_and_copies_find_the_same_file_or_raise(vectors, tmp_path, monkeypatch):
    """A relative path means the folder it was opened from, and a file that was replaced is not the file."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, scale in ((first, 1), (second, 3)):
        folder.mkdir()
        changed = type(vectors)(list(vectors.words), vectors.matrix * scale)
        compress(changed, folder / "v.ems", "cast:dtype=float32", measure=False)
    monkeypatch.chdir(first)
    emb = load("v.ems")
    data = pickle.dumps(emb)
    monkeypatch.chdir(second)
    for again in (pickle.loads(data), copy.copy(emb), copy.deepcopy(emb)):
        assert np.array_equal(again["w1"], vectors.matrix[1])
    os.replace(second / "v.ems", first / "v.ems")
    for attempt in (lambda: pickle.loads(data), lambda: copy.deepcopy(emb)):
        with pytest.raises(FormatError, match=r"v\.ems: this is not the file that was pickled.* load the new one"):
            attempt()
    os.remove(first / "v.ems")
    with pytest.raises(FormatError, match=r"first.v\.ems"):
        pickle.loads(data)


def test_many_threads_may_look_up_at_once(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", ["pq:subspaces=3"], measure=False)
    emb = load(tmp_path / "v.ems")
    expected = np.asarray(load(tmp_path / "v.ems").vectors)
    wrong = []

    def look(seed):
        for i in np.random.default_rng(seed).integers(400, size=200).tolist():
            if not np.array_equal(emb[vectors.words[i]], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_save_word2vec_format_is_what_gensim_reads(pruned, tmp_path):
    from gensim.models import KeyedVectors

    _, emb = pruned
    emb = embshrink.as_embeddings(WordVectors([f"w{i}" for i in range(400)], np.asarray(emb.vectors)))
    for binary in (False, True):
        path = tmp_path / f"{binary}"
        emb.save_word2vec_format(path, binary=binary)
        loaded = KeyedVectors.load_word2vec_format(str(path), binary=binary)
        assert np.array_equal(loaded.vectors, np.asarray(emb.vectors))
        assert loaded.index_to_key == emb.index_to_key


LOOKUP = """
import sys
sys.modules["numba"] = sys.modules["scipy"] = sys.modules["sklearn"] = sys.modules["gensim"] = None
before = set(sys.modules)
import embshrink
emb = embshrink.load(sys.argv[1])
emb["w3"], emb.vectors_for(["w3", "caf\\u00e9"]), emb.alias_of("w7"), emb.similarity("w1", "w2")
emb.most_similar("w5")
roots = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(root for root in roots if root not in sys.stdlib_module_names and root not in ("numpy", "embshrink")))
"""


@pytest.mark.parametrize("text", checks.all_settings())
def test_lookup_needs_numpy_and_the_standard_library_only(text, vectors, tmp_path, subprocess_env):
    compress(vectors, tmp_path / "v.ems", [text], measure=False)
    result = subprocess.run([sys.executable, "-c", LOOKUP, str(tmp_path / "v.ems")], env=subprocess_env,
                            capture_output=True, text=True, check=True)
    assert result.stdout.strip() in ("", "_distutils_hack")
