"""Embeddings in place of gensim's KeyedVectors and FastTextKeyedVectors: names, parameters and results."""

import copy
import inspect
import io
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import make_vectors
from gensim.models import KeyedVectors
from gensim.models.fasttext import FastTextKeyedVectors, load_facebook_vectors

import embshrink
from embshrink import Embeddings, as_embeddings
from embshrink.errors import FormatError, ShapeError, SourceError, TargetError
from embshrink.keyed_vectors.refused import REFUSED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gensim.md"


# ---------------------------------------------------------------- names and parameters


def listed(heading):
    """Return the names in the table below a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def names_of_gensim():
    """Return the public names of both classes, and of their objects."""
    classes = KeyedVectors, FastTextKeyedVectors
    objects = KeyedVectors(2), FastTextKeyedVectors(2, 3, 6, 10)
    found = {name for one in classes for name in dir(one)} | {name for one in objects for name in vars(one)}
    return {name for name in found if not name.startswith("_")} - {"lifecycle_events"}  # a log, if it is not empty


def test_the_page_lists_every_name_of_gensim_once():
    on_page = listed("The same") + listed("Different") + listed("Refused")
    assert sorted(on_page) == sorted(names_of_gensim())


def test_every_name_is_there_or_says_why_not(tmp_path):
    emb = as_embeddings({"a": [1.0, 2.0]})
    available = dir(emb)
    assert set(listed("The same") + listed("Different")) <= set(available)
    assert set(listed("Refused")) == set(REFUSED) - {"lifecycle_events"}
    for name in REFUSED:
        assert name not in available
        with pytest.raises(AttributeError, match=rf"no attribute '{name}': \w.*\."):
            getattr(emb, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'$"):
        emb.nothing  # noqa: B018
    with pytest.raises(TypeError, match="read-only.*to_keyedvectors"):
        emb["a"] = [1.0, 2.0]


def parameters(function):
    return {name: one.default for name, one in inspect.signature(function).parameters.items()
            if one.kind != one.KEYWORD_ONLY}


def test_parameters_are_gensims():
    compared = 0
    for name in listed("The same") + listed("Different"):
        theirs = inspect.getattr_static(FastTextKeyedVectors, name, None)
        theirs = inspect.getattr_static(KeyedVectors, name, theirs)  # get_vector has other names in fastText
        theirs = theirs.__func__ if isinstance(theirs, (staticmethod, classmethod)) else theirs
        if inspect.isfunction(theirs) and name not in ("save", "load"):
            ours = inspect.getattr_static(Embeddings, name)
            ours = ours.__func__ if isinstance(ours, (staticmethod, classmethod)) else ours
            expected = parameters(theirs)
            if "kwargs" in expected:  # word_vec hands all on
                expected = parameters(KeyedVectors.get_vector)
            assert list(parameters(ours).items()) == list(expected.items()), name
            compared += 1
    assert compared >= 30


# ---------------------------------------------------------------- results, paired with gensim


@pytest.fixture(scope="module")
def fasttext(tmp_path_factory, gensim_data):
    """Return a fastText model as an .ems file and as gensim reads it."""
    path = tmp_path_factory.mktemp("names") / "v.ems"
    embshrink.compress(gensim_data / "lee_fasttext_new.bin", path, "cast:dtype=float32", measure=False)
    return embshrink.load(path), load_facebook_vectors(str(gensim_data / "lee_fasttext_new.bin"))


@pytest.fixture(scope="module")
def keyed(tmp_path_factory, gensim_data):
    """Return gensim's euclidean vectors as an .ems file and as gensim reads them."""
    path = tmp_path_factory.mktemp("names") / "v.ems"
    embshrink.compress(gensim_data / "euclidean_vectors.bin", path, "cast:dtype=float32", measure=False)
    gensim = KeyedVectors.load_word2vec_format(str(gensim_data / "euclidean_vectors.bin"), binary=True)
    return embshrink.load(path), gensim


UNSEEN = ["night", "nights", "payments", "the"]
LISTS = [
    lambda kv: kv.n_similarity(["night"], ["nights"]),
    lambda kv: kv.n_similarity(UNSEEN, ["dayly", "years"]),
    lambda kv: kv.get_mean_vector(["nights"]),
    lambda kv: kv.get_mean_vector(UNSEEN, [1, -2, 3, 0.5], pre_normalize=False, post_normalize=True),
    lambda kv: kv.get_mean_vector(["the", "nights", np.ones(10, np.float32)]),
    lambda kv: kv.get_sentence_vector(UNSEEN),
    lambda kv: [score for score, _ in kv.rank_by_centrality(UNSEEN)],
    lambda kv: [score for score, _ in kv.rank_by_centrality(UNSEEN, use_norm=False)],
    lambda kv: kv.similarity("nights", "payments"),
    lambda kv: kv.distance("nights", "the"),
    lambda kv: kv.distances("nights", ["the", "night"]),
    lambda kv: kv["nights"],
    lambda kv: kv[["nights", "the"]],
    lambda kv: kv[""],
    lambda kv: kv.get_vector("nights", norm=True),
    lambda kv: kv.vectors_for_all(["nights", "the", "nights"]).get_normed_vectors(),
    lambda kv: kv.vectors_for_all(["nights", "the"], allow_inference=False).get_normed_vectors(),
    lambda kv: [score for _, score in kv.most_similar_cosmul("nights", "the", topn=8)],
]


@pytest.mark.parametrize("number", range(len(LISTS)))
def test_unseen_words_in_every_call(fasttext, number):
    ours, theirs = (LISTS[number](kv) for kv in fasttext)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda kv: kv.doesnt_match(UNSEEN),
    lambda kv: kv.doesnt_match(["payments", "pays", "nights", "paying"]),
    lambda kv: [word for _, word in kv.rank_by_centrality(UNSEEN)],
    lambda kv: kv.most_similar_to_given("nights", ["the", "night", "payments"]),
    lambda kv: [word for word, _ in kv.most_similar("nights")],
])
def test_choices_with_unseen_words(fasttext, call):
    ours, theirs = map(call, fasttext)
    assert ours == theirs


@pytest.mark.parametrize("call", [
    lambda kv: kv.similarity(w1="war", w2="conflict"),
    lambda kv: kv.similarity(3, "war"),
    lambda kv: kv.rank(key1="war", key2="terrorism"),
    lambda kv: [kv.rank("war", kv.index_to_key[i]) for i in range(40)],
    lambda kv: kv[7],
    lambda kv: kv[np.array([3, 5])],
    lambda kv: kv.get_index(np.int64(9)),
    lambda kv: kv.get_index("nothing", 3),
    lambda kv: kv.get_vector(key=7, norm=True),
    lambda kv: kv.norms if kv.fill_norms() is None else None,
    lambda kv: kv.get_normed_vectors(),
    lambda kv: kv.most_similar("war", topn=None, clip_start=40, restrict_vocab=30),
    lambda kv: kv.most_similar("war", topn=None, clip_start=-40),
    lambda kv: kv.most_similar("war", topn=None, clip_end=-40),
    lambda kv: [score for _, score in kv.most_similar(positive=kv.vectors[:3], topn=5, clip_start=9, clip_end=99)],
    lambda kv: [score for _, score in kv.most_similar(positive=[3, "war"], negative=5, topn=5)],
    lambda kv: kv.most_similar("nothing", topn=0),
    lambda kv: kv.relative_cosine_similarity("good", "nice", topn=8),
    lambda kv: [score for _, score in kv.most_similar_cosmul(["war", "peace"], ["call"], topn=7)],
    lambda kv: kv.cosine_similarities(kv["war"], kv[["peace", "call"]]),
    lambda kv: kv.get_vecattr("war", "count"),
    lambda kv: kv.vectors.mean(),
    lambda kv: np.mean(kv.vectors, axis=0),
    lambda kv: 2 * kv.vectors - 1,
    lambda kv: kv.vectors.T,
    lambda kv: kv.vectors.astype(np.float64, copy=False),
    lambda kv: kv.vectors.max(axis=1),
    lambda kv: kv.vectors.nbytes,
    lambda kv: kv.vectors[[1, 2], [3, 4]],
    lambda kv: kv.vectors[kv.vectors > 1],
    lambda kv: kv.vectors[..., 2],
    lambda kv: np.linalg.norm(kv.vectors, axis=1),
    lambda kv: list(kv.vectors)[5],
])
def test_numbers(keyed, call):
    ours, theirs = map(call, keyed)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
@pytest.mark.parametrize("call", [
    lambda kv: kv.words_closer_than("war", "terrorism"),
    lambda kv: kv.has_index_for("war"),
    lambda kv: kv.has_index_for("nothing"),
    lambda kv: 3 in kv,
    lambda kv: 10**9 in kv,
    lambda kv: -1 in kv,
    lambda kv: [word for word, _ in kv.most_similar_cosmul("war", topn=4)],
    lambda kv: kv.vectors_for_all(["war", "no such word", "peace"]).index_to_key,
    lambda kv: kv.vectors_for_all(["war"], copy_vecattrs=True).get_vecattr("war", "count"),
    lambda kv: kv.vectors_for_all(["war"]).get_vecattr("war", "count"),
])
def test_answers(keyed, call):
    ours, theirs = map(call, keyed)
    assert ours == theirs


def test_evaluations_have_gensims_results(keyed, gensim_data, tmp_path):
    path = gensim_data / "wordsim353.tsv"
    (tmp_path / "utf16.tsv").write_text(path.read_text(encoding="utf-8"), encoding="utf-16")
    ours, theirs = (kv.evaluate_word_pairs(str(path)) for kv in keyed)
    for mine, yours in zip(ours[:2], theirs[:2]):
        np.testing.assert_allclose([mine.statistic, mine.pvalue, mine[0]],
                                   [yours.statistic, yours.pvalue, yours[0]], atol=1e-9)
    assert ours == keyed[0].evaluate_word_pairs(tmp_path / "utf16.tsv", "\t", "utf-16")
    with pytest.raises(SourceError, match="not ascii text"):
        keyed[0].evaluate_word_pairs(tmp_path / "utf16.tsv", encoding="ascii")
    with pytest.raises(ValueError, match="most_similar_cosmul"):
        keyed[0].evaluate_word_analogies(path, similarity_function="most_similar_cosmul")


# ---------------------------------------------------------------- what is worked out by hand


def test_ties_and_limits():
    emb = as_embeddings((list("abcd"), [[1, 0], [1, 0], [0, 1], [0, 0]]))
    assert emb.rank_by_centrality(["a", "b", "c"])[0][1] == "b"  # of equal words, the last in the alphabet, as gensim
    assert emb.similarity("a", "b") == 1 and emb.similarity("a", "d") == 0 and emb.distance("c", "c") == 0
    rough = as_embeddings((list("abc"), np.full((3, 3), 0.1, np.float32) * [[1], [3], [7]]))
    assert all(rough.similarity(one, two) <= 1 for one in rough for two in rough)
    assert all(rough.n_similarity([one, two], ["c"]) <= 1 for one in rough for two in rough)
    assert (rough.cosine_similarities(rough["a"], rough.vectors[:]) <= 1).all()
    assert emb.most_similar_cosmul("a", restrict_vocab=2) == [("b", pytest.approx(1, abs=1e-5))]
    with pytest.raises(ZeroDivisionError):
        emb.n_similarity([], ["a"])
    for call in (emb.most_similar_cosmul, lambda: emb.most_similar_cosmul([], "a"),
                 lambda: emb.most_similar_cosmul(("a", 2.0)), lambda: emb.most_similar_to_given("a", []),
                 lambda: emb.relative_cosine_similarity("a", "b", 0)):
        with pytest.raises(ValueError, match="expected at least one|without weights"):
            call()


def test_what_is_no_word_is_missing(keyed):
    for emb in (keyed[0], keyed[0].vectors_for_all(["war"])):
        for nothing in (None, float("nan"), 2.5, -1, 10**9, np.ones(3), ["war"]):
            assert nothing not in emb and emb.get(nothing) is None and emb.get_index(nothing, -1) == -1
        assert emb.key_to_index.get(None) is None and 3 not in emb.key_to_index
        for nothing in (None, float("nan"), -1):
            with pytest.raises(KeyError, match="not present"):
                emb[nothing]
    assert list(keyed[0]) == keyed[0].index_to_key
    with pytest.raises(KeyError, match="only 'count'"):
        keyed[0].get_vecattr("war", "sample_int")


def test_word_movers_distance():
    """One word a, at the origin, to one b at (3, 4); then halves of a and b to a: only b's half moves."""
    emb = as_embeddings({"a": [0.0, 0.0], "b": [3.0, 4.0], "twin": [3.0, 4.0], "c": [0.0, 1.0]})
    assert emb.wmdistance(["a"], ["b"], norm=False) == pytest.approx(5)
    assert emb.wmdistance(["a", "b"], ["a", "a"], norm=False) == pytest.approx(2.5)
    assert emb.wmdistance(["a", "b", "b", "nothing"], ["b", "a", "c"], norm=False) == pytest.approx(np.sqrt(18) / 3)
    assert emb.wmdistance(["b", "a"], ["a", "b"]) == 0 and emb.wmdistance(["b"], ["twin"]) == 0
    assert emb.wmdistance(["nothing"], ["a"]) == emb.wmdistance(["a"], []) == np.inf
    assert emb.wmdistance(["b"], ["c"]) == pytest.approx(np.sqrt(2 - 2 * 0.8))


def test_word_movers_distance_is_gensims(fasttext):
    pytest.importorskip("ot")
    first, second = "the night was long the nights".split(), "a day is paying payments the".split()
    for norm in (True, False):
        ours, theirs = (kv.wmdistance(first, second, norm) for kv in fasttext)
        assert ours == pytest.approx(theirs, abs=1e-6)


# ---------------------------------------------------------------- .vectors


def test_vectors_is_a_read_only_array(keyed):
    vectors = keyed[0].vectors
    assert len(repr(vectors)) < 60 and vectors.ndim == 2 and vectors.size == np.asarray(vectors).size
    with pytest.raises(ValueError, match="copy=False"):
        vectors.__array__(copy=False)
    with pytest.raises(TypeError, match="read-only"):
        vectors[0] = 0
    with pytest.raises(TypeError, match="read-only"):
        vectors += 1
    with pytest.raises(ValueError, match="read-only"):
        vectors.sort()
    with pytest.raises(AttributeError, match="nothing"):
        vectors.nothing  # noqa: B018
    with pytest.raises(ValueError, match="read-only"):
        keyed[0].norms[0] = 1
    assert np.array_equal(copy.copy(vectors), vectors)


def test_frames():
    pandas = pytest.importorskip("pandas")
    emb = as_embeddings({"up": [0.0, 2.0], "down": [1.0, -1.0]})
    frame = pandas.DataFrame(emb.vectors, index=emb.index_to_key)
    assert frame.loc["down"].tolist() == [1, -1]
    assert np.array_equal(as_embeddings(frame)["down"], emb["down"])


# ---------------------------------------------------------------- to and from gensim


class Frame:
    """What a pandas DataFrame has."""

    index = ["up", "down"]

    def to_numpy(self):
        return np.array([[0.0, 2.0], [1.0, -1.0]])


def test_words_and_vectors_in_memory_are_sources(tmp_path):
    table = {"up": [0.0, 2.0], "down": np.array([1.0, -1.0])}
    gensim = KeyedVectors(2)
    gensim.add_vectors(list(table), np.array(list(table.values())))
    pair = ["up", "down"], np.array(list(table.values()))
    expected = embshrink.WordVectors(*pair)
    for number, source in enumerate([expected, table, gensim, Frame(), pair]):
        target = tmp_path / f"{number}.ems"
        report = embshrink.compress(source, target, "cast", measure=False)
        assert report.source is None and target.read_bytes() == (tmp_path / "0.ems").read_bytes()
        assert np.array_equal(as_embeddings(source).vectors, expected.matrix)
        assert embshrink.get(source, "down")[0].vector.tolist() == [1, -1]
    for wrong, kind, message in (({"a": [1.0], "b": [1.0, 2.0]}, ShapeError, "'b' has another shape"),
                                 ({1: [1.0]}, TypeError, "not int"), (3, TypeError, "not int"),
                                 ((["a"], [[1.0], [2.0]]), ShapeError, "numbers of words"),
                                 ({}, ShapeError, "shape")):
        for call in (as_embeddings, lambda source: embshrink.compress(source, tmp_path / "x.ems", "cast")):
            with pytest.raises(kind, match=message):
                call(wrong)


def test_a_table_in_memory_is_a_source_and_an_open_file_is_named_by_its_path(fasttext, tmp_path):
    some = fasttext[0].vectors_for_all(["nights", "the"])
    embshrink.compress(some, tmp_path / "v.ems", "cast:dtype=float32", measure=False)
    with embshrink.load(tmp_path / "v.ems") as emb:
        assert emb.index_to_key == ["nights", "the"] and np.array_equal(emb.vectors, some.vectors)
        with pytest.raises(TypeError, match="not an open file: pass its path"):
            embshrink.compress(emb, tmp_path / "w.ems", "cast")


def test_counts_and_lost_ngrams_of_a_gensim_object(fasttext, tmp_path):
    gensim = fasttext[1]
    assert as_embeddings(gensim).get_vecattr("the", "count") == gensim.get_vecattr("the", "count") != len(gensim)
    report = embshrink.compress(gensim, tmp_path / "v.ems", "cast", measure=False)
    assert [text for text in report.warnings if "n-grams" in text and "save_facebook_model" in text]


def test_to_keyedvectors(fasttext, keyed, tmp_path):
    plain = keyed[0].to_keyedvectors()
    assert type(plain) is KeyedVectors and plain.index_to_key == keyed[1].index_to_key
    assert np.array_equal(plain.vectors, keyed[1].vectors)
    assert plain.get_vecattr("war", "count") == keyed[1].get_vecattr("war", "count")
    ours = fasttext[0].to_keyedvectors()
    assert type(ours) is FastTextKeyedVectors
    ours.save(str(tmp_path / "v.kv"))
    for one in (ours, FastTextKeyedVectors.load(str(tmp_path / "v.kv"))):  # gensim composes the vectors again
        np.testing.assert_allclose(one[["night", "nights"]], fasttext[0][["night", "nights"]], atol=1e-6)


def test_save_copies_the_file(keyed, tmp_path):
    emb = keyed[0]
    original = Path(emb.path).read_bytes()
    for _ in range(2):  # an existing file is replaced
        emb.save(str(tmp_path / "copy.ems"))
    emb.save(memory := io.BytesIO())
    assert (tmp_path / "copy.ems").read_bytes() == memory.getvalue() == original
    with Embeddings.load(str(tmp_path / "copy.ems"), mmap="r") as again:
        again.save(tmp_path / "copy.ems")  # onto itself
        assert np.array_equal(again["war"], emb["war"])
    with pytest.raises(TargetError, match="in memory"):
        emb.vectors_for_all(["war"]).save(tmp_path / "x.ems")
    (tmp_path / "other.txt").write_text("up 1 2\n")
    with pytest.raises(FormatError):
        Embeddings.load(tmp_path / "other.txt")


@pytest.mark.parametrize("binary", [False, True])
def test_word2vec_files_as_gensim_writes_them(binary, tmp_path):
    vectors = make_vectors(30, 4)
    words = [f"w{i}" for i in range(30)]
    gensim = KeyedVectors(4, 30)
    for word, vector in zip(words, vectors.matrix):
        gensim.add_vector(word, vector)
        gensim.set_vecattr(word, "count", int(abs(vector[0]) * 100))
    ours = as_embeddings(gensim)
    files = {}
    for name, kv in (("ours", ours), ("theirs", gensim)):
        path, counts = str(tmp_path / name), str(tmp_path / f"{name}.counts")
        kv.save_word2vec_format(path, counts, binary, 60, True, "p_")
        kv.save_word2vec_format(path, fvocab=None, binary=binary, write_header=False, append=True, sort_attr="id")
        files[name] = Path(path).read_bytes(), Path(counts).read_bytes()
    data = files["ours"][0].replace(b"\n", b"") if binary else files["ours"][0]  # we end binary rows by a newline
    theirs = files["theirs"][0].replace(b"\n", b"") if binary else files["theirs"][0]
    assert data == theirs and files["ours"][1] == files["theirs"][1]
    both = [load(str(tmp_path / "ours"), fvocab=str(tmp_path / "ours.counts"), binary=binary, limit=30)
            for load in (Embeddings.load_word2vec_format, KeyedVectors.load_word2vec_format)]
    assert both[0].index_to_key == both[1].index_to_key and np.array_equal(both[0].vectors, both[1].vectors)
    assert both[0].get_vecattr("p_w3", "count") == both[1].get_vecattr("p_w3", "count")
    with pytest.raises(TargetError, match="exists"):
        ours.save_word2vec_format(tmp_path / "ours", force=False)
    with pytest.raises(ValueError, match="'age'"):
        ours.save_word2vec_format(tmp_path / "x", tmp_path / "y", sort_attr="age")
    with pytest.raises(ValueError, match="float16"):
        Embeddings.load_word2vec_format(tmp_path / "ours", datatype=np.float16)
    with pytest.raises(ValueError, match="no_header"):
        Embeddings.load_word2vec_format(tmp_path / "ours", binary=True, no_header=True)


class Asked:
    """An index of another program."""

    def most_similar(self, vector, num_neighbors):
        return [("found", float(vector @ vector))] * num_neighbors


def test_an_indexer_is_asked(keyed):
    ours, theirs = (kv.most_similar(["war", "peace"], topn=2, indexer=Asked()) for kv in keyed)
    assert ours == theirs == [("found", pytest.approx(1))] * 2
    assert keyed[0].most_similar("war", topn=0, indexer=Asked()) == []
