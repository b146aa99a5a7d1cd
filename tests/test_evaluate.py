"""Scores are gensim's, losses are those of slow twins, and benchmark files are read or refused by name."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import embshrink
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import EmbshrinkError, ExtraError, ShapeError, SourceError
from embshrink.evaluation import benchmarks as datasets
from embshrink.evaluation import loss, neighbours, similarity
from embshrink.evaluation.analogies import analogies as answer_analogies
from embshrink.evaluation.benchmarks import Analogies, WordPairs, read_analogies, read_pairs
from embshrink.evaluation.scores import Evaluation
from embshrink.methods.row_map import RowMap
from embshrink.numerics.parallel import set_threads
from embshrink.numerics.progress import no_progress
from embshrink.reader import Embeddings, as_embeddings, evaluate
from embshrink.vocabulary.words import Words

DATA = Path(importlib.util.find_spec("gensim").submodule_search_locations[0], "test", "test_data")
OPTIONS = [
    {},
    {"case_insensitive": False},
    {"dummy4unknown": True},
    {"restrict_vocab": 700},
    {"restrict_vocab": 700, "dummy4unknown": True, "case_insensitive": False},
    {"restrict_vocab": None},
]


def mapped(words, rows, row_map, scale=None):
    """Embeddings whose words share rows."""
    rows = np.asarray(rows, np.float32)
    scale = None if scale is None else np.asarray(scale, np.float32)
    row_map = RowMap(np.asarray(row_map), len(rows), None, scale)
    return Embeddings(Words(words), rows.__getitem__, rows.shape[1], row_map, len(rows), owned=False)


def expanded(emb):
    """The same words and vectors, each word with a row of its own."""
    return WordVectors(emb.words, emb.decode_ids(np.arange(len(emb))))


def word_similarity(source, *args, **options):
    return similarity.word_similarity(as_embeddings(source), *args, **options)


def analogies(source, *args, **options):
    return answer_analogies(as_embeddings(source), *args, **options)


def reconstruction(source, baseline, **options):
    return loss.reconstruction(as_embeddings(source), as_embeddings(baseline), **options)


def neighbour_overlap(source, baseline, **options):
    return loss.neighbour_overlap(as_embeddings(source), as_embeddings(baseline), **options)


def unit(matrix):
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 0, norms, 1)


# ---------------------------------------------------------------- gensim's scores


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Every 100th of Google's questions: 196 of them in all 14 sections."""
    lines, kept = datasets.find_analogies().read_text().splitlines(), []
    for number, line in enumerate(lines):
        if line.startswith(": ") or number % 100 == 3:
            kept.append(line)
    path = tmp_path_factory.mktemp("questions") / "some-questions.txt"
    path.write_text("\n".join(kept) + "\n")
    return path


@pytest.fixture(scope="module")
def vectors(questions):
    """Random vectors of the benchmarks' words, in several cases, with relations so that some answers are right."""
    rng = np.random.default_rng(1)
    vectors = {}
    for _, quads in read_analogies(questions).sections:
        relation = rng.standard_normal(20)
        for a, b, c, d in quads:
            for left, right in ((a, b), (c, d)):
                vectors.setdefault(left, rng.standard_normal(20))
                vectors.setdefault(right, vectors[left] + relation + 0.6 * rng.standard_normal(20))
    for path in datasets.find_pairs():
        for a, b, _ in read_pairs(path).pairs[:200]:
            vectors.setdefault(a, rng.standard_normal(20))
            vectors.setdefault(b, vectors[a] + rng.standard_normal(20))
    for word in list(vectors)[::5]:  # other cases, near enough to be predicted
        for variant in (word.lower(), word.upper(), word.title()):
            vectors.setdefault(variant, vectors[word] + 0.3 * rng.standard_normal(20))
    order = rng.permutation(len(vectors))
    words, matrix = list(vectors), np.array(list(vectors.values()), np.float32)
    return WordVectors([words[i] for i in order], matrix[order])


@pytest.fixture(scope="module")
def keyed(vectors):
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(vectors.dim)
    keyed.add_vectors(list(vectors.words), vectors.matrix)
    return keyed


def assert_same_correlations(score, expected):
    (pearson, pearson_p), (spearman, spearman_p), unknown = expected
    found = score.as_gensim()
    assert found[0] == pytest.approx((pearson, pearson_p), abs=1e-9)
    assert found[1] == pytest.approx((spearman, spearman_p), abs=1e-9)
    assert found[2] == pytest.approx(unknown, abs=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["wordsim353.tsv", "simlex999.txt"])
def test_word_similarity_is_gensims(vectors, keyed, name, options):
    score = word_similarity(vectors, DATA / name, **options)
    assert_same_correlations(score, keyed.evaluate_word_pairs(DATA / name, **options))
    assert 0 < score.unknown < score.pairs_total
    assert score.pairs_used == score.pairs_total - (0 if options.get("dummy4unknown") else score.unknown)
    assert score.vocabulary == (700 if options.get("restrict_vocab") == 700 else len(vectors))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_analogies_are_gensims_question_by_question(vectors, keyed, questions, options):
    score = analogies(vectors, questions, **options)
    expected, sections = keyed.evaluate_word_analogies(str(questions), **options)
    found, found_sections = score.as_gensim()
    assert found == expected
    assert found_sections == sections
    if "restrict_vocab" not in options:
        assert 0.1 < score.accuracy < 0.9
        assert len(score.sections) == 14


def test_scores_of_a_real_table_are_gensims():
    from gensim.models import KeyedVectors

    keyed = KeyedVectors.load_word2vec_format(DATA / "pang_lee_polarity_fasttext.vec", encoding="latin-1")
    real = WordVectors(keyed.index_to_key, keyed.vectors)
    for name in ("wordsim353.tsv", "simlex999.txt"):
        for options in ({}, {"dummy4unknown": True}, {"restrict_vocab": 1000}):
            score = word_similarity(real, DATA / name, **options)
            assert_same_correlations(score, keyed.evaluate_word_pairs(DATA / name, **options))
    benchmark = DATA / "questions-words.txt"
    assert analogies(real, benchmark).as_gensim() == keyed.evaluate_word_analogies(benchmark)


def test_blocks_and_threads_do_not_change_scores(vectors, questions, monkeypatch):
    whole = analogies(vectors, questions)
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 300)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 70)
    monkeypatch.setattr(neighbours, "TILE_VECTORS", 5)
    stages = []
    for threads in (1, 3):
        set_threads(threads)
        try:
            assert analogies(vectors, questions, progress=lambda *step: stages.append(step)) == whole
        finally:
            set_threads(None)
    assert stages[0] == ("neighbours", 300, len(vectors))
    assert stages[-1] == ("neighbours", len(vectors), len(vectors))


# ---------------------------------------------------------------- scores by hand


def angles(**degrees):
    """Words at angles in the plane, of different lengths."""
    turn = np.radians(list(degrees.values()))
    lengths = 1 + np.arange(len(turn))[:, None]
    return WordVectors(list(degrees), lengths * np.stack([np.cos(turn), np.sin(turn)], axis=1))


def test_word_similarity_by_hand():
    table = angles(a=0, b=60, c=90, d=180)
    pairs = WordPairs("hand", [("a", "b", 3.0), ("a", "c", 2.0), ("a", "d", 2.5), ("a", "z", 9.0)], invalid=2)
    score = word_similarity(table, pairs)
    # cosines 1/2, 0, -1 have ranks 3 2 1; the people's ranks are 3 1 2; rho = 1 - 6 * 2 / 24
    assert score.spearman == pytest.approx(0.5)
    assert score.pearson == pytest.approx(np.corrcoef([3, 2, 2.5], [0.5, 0, -1])[0, 1], abs=1e-6)
    assert (score.pairs_used, score.pairs_total, score.unknown, score.invalid) == (3, 4, 1, 2)
    assert score.coverage == 0.75
    assert score.reason is None


def test_the_first_of_several_cases_counts():
    table = WordVectors(["Up", "up", "down", "left"], [[0, 1], [9, 9], [0, -1], [-1, 0]])
    pairs = WordPairs("case", [("UP", "down", 0.0), ("up", "left", 1.0), ("Up", "up", 2.0)])
    assert word_similarity(table, pairs).pearson == pytest.approx(1.0)
    assert word_similarity(table, pairs, case_insensitive=False).unknown == 1
    assert word_similarity(table, pairs, restrict_vocab=3).unknown == 1


@pytest.mark.parametrize(("pairs", "reason"), [
    ([("x", "y", 1.0)], "a correlation needs at least 2 usable pairs, found 0"),
    ([("a", "b", 1.0), ("x", "y", 1.0)], "a correlation needs at least 2 usable pairs, found 1"),
    ([("a", "b", 1.0), ("a", "c", 1.0)], "the benchmark gives every pair the same similarity"),
    ([("a", "b", 1.0), ("zero", "a", 2.0), ("zero", "zero", 3.0)], None),
    ([("zero", "b", 1.0), ("zero", "c", 2.0)], "the vectors give every pair the same similarity"),
])
def test_no_correlation_comes_with_a_reason(pairs, reason):
    table = WordVectors(["a", "b", "c", "zero"], [[1, 0], [1, 1], [0, 1], [0, 0]])
    score = word_similarity(table, WordPairs("few", pairs))
    assert score.reason == reason
    assert (score.spearman is None) == (reason is not None)
    json.dumps(score.as_dict(), allow_nan=False)
    if score.pairs_used:
        assert math.isnan(score.as_gensim()[1][0]) == (reason is not None)
    else:
        with pytest.raises(EmbshrinkError, match="no pair of few has both words in the vocabulary"):
            score.as_gensim()


def test_two_pairs_have_no_p_value():
    table = angles(a=0, b=60, c=90)
    score = word_similarity(table, WordPairs("two", [("a", "b", 2.0), ("a", "c", 1.0)]))
    assert (score.spearman, score.spearman_p) == (pytest.approx(1.0), None)
    json.dumps(score.as_dict(), allow_nan=False)


def test_nearly_equal_scores_warn_nobody():
    pairs = WordPairs("near", [("a", "b", 1.0), ("a", "c", 1.0 + 2**-52), ("a", "d", 1.0 - 2**-52)])
    assert word_similarity(angles(a=0, b=60, c=90, d=180), pairs).spearman == pytest.approx(0.5)


def test_pairs_that_share_a_row_are_counted():
    emb = mapped(["a", "A", "b", "c", "d"], [[1, 0], [0, 1]], [0, 0, 0, 1, 1], scale=[1, 1, 2, 1, 3])
    pairs = WordPairs("shared", [("a", "b", 1.0), ("a", "c", 2.0), ("c", "d", 3.0), ("c", "c", 4.0), ("a", "A", 5.0)])
    assert word_similarity(emb, pairs).shared_rows == 2  # a and A are one word when folded
    assert word_similarity(emb, pairs, case_insensitive=False).shared_rows == 3
    assert word_similarity(expanded(emb), pairs).shared_rows == 0


SQUARE = ["king", "man", "woman", "queen", "King", "QUEEN", "other"]


def square(queen=(1, 1, 0.1)):
    rows = [[1, 0, 0], [0, 0, 1], [0, 1, 1], queen, [1, 0.2, 0], [1, 0.9, 0.4], [0, 0, 0]]
    return WordVectors(SQUARE, rows)


def test_analogies_by_hand():
    asked = Analogies("hand", [("one", [("man", "king", "woman", "queen"), ("man", "king", "woman", "prince")]),
                               ("two", [("man", "other", "woman", "king")])], invalid=3)
    score = analogies(square(), asked)
    assert [(s.name, s.correct, s.total, s.unknown) for s in score.sections] == [("one", 1, 1, 1), ("two", 0, 1, 0)]
    assert (score.accuracy, score.unknown, score.invalid, score.vocabulary) == (0.5, 1, 3, 7)
    assert score.coverage == pytest.approx(2 / 3)
    assert analogies(square(), asked, dummy4unknown=True).total == 3
    assert score.as_dict()["sections"][0] == {"name": "one", "correct": 1, "total": 1, "unknown": 1}
    json.dumps(score.as_dict(), allow_nan=False)


def test_a_question_word_in_another_case_is_no_answer():
    # "King" is the nearest to the query, but it is the query's own word when cases are folded
    asked = Analogies("case", [("all", [("other", "king", "king", "queen")])])
    table = square(queen=(1, 0.3, 0))
    assert analogies(table, asked).correct == 1
    assert analogies(table, asked, case_insensitive=False).correct == 0


@pytest.mark.parametrize("variants", [3, 4, 5, 6])
@pytest.mark.parametrize("expected", ["queen", "king"])
def test_five_predictions_are_looked_at_as_in_gensim(tmp_path, variants, expected):
    from gensim.models import KeyedVectors

    names = ["man", "woman", "king", *["KING", "King", "kIng", "kiNg", "kinG", "KINg"][:variants], "queen", "far"]
    turn = np.linspace(0, 2, len(names))
    rows = np.stack([np.cos(turn), np.sin(turn), np.linspace(1, 0, len(names))], axis=1)
    rows[:3] = [[0, 0, -1], [0, 0, -1.5], rows[3]]  # the query is king; man and woman are far from it
    keyed = KeyedVectors(3)
    keyed.add_vectors(names, rows.astype(np.float32))
    path = write(tmp_path, f": all\nman woman king {expected}\n")
    score = analogies(WordVectors(names, rows), path)
    assert score.as_gensim() == keyed.evaluate_word_analogies(path)
    assert score.correct == ((variants < 5) == (expected == "queen"))


def test_no_question_that_counts():
    score = analogies(square(), Analogies("none", [("all", [("a", "b", "c", "d")])]))
    assert (score.accuracy, score.total, score.unknown) == (None, 0, 1)
    assert score.as_gensim()[0] == 0.0


def test_a_vocabulary_smaller_than_the_predictions():
    table = WordVectors(["a", "b", "c"], np.eye(3))
    score = analogies(table, Analogies("tiny", [("all", [("a", "b", "c", "a")])]))
    assert (score.correct, score.total) == (0, 1)


def test_answers_at_the_same_cosine_come_by_id():
    names = ["a", "b", "c", "first", "second"]
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 2, 2]]
    for first, right in (("first", 1), ("second", 0)):
        emb = mapped(names, rows, [0, 1, 2, 3, 3])
        score = analogies(emb, Analogies("tie", [("all", [("a", "b", "c", first)])]))
        assert score.correct == right


def test_equal_rows_come_by_id():
    names = ["a", "b", "c", *(f"t{i:02}" for i in range(30))]
    rows = np.vstack([np.eye(4)[:3], np.tile([0, 0, 0, 1], (30, 1))])  # all at cosine 0 to b - a + c
    for answer, right in (("t00", 1), ("t01", 0), ("t29", 0)):
        asked = Analogies("tie", [("all", [("a", "b", "c", answer)])])
        assert analogies(WordVectors(names, rows), asked).correct == right
    table = as_embeddings(WordVectors(names, rows))
    near = neighbours.neighbours_of_words(table, np.arange(33), np.array([3, 10, 32]), 5, no_progress)
    assert near.tolist() == [[4, 5, 6, 7, 8], [3, 4, 5, 6, 7], [3, 4, 5, 6, 7]]


def test_shared_rows_answer_as_if_each_word_had_its_own(vectors, questions):
    rng = np.random.default_rng(3)
    n = len(vectors)
    rows = np.where(rng.random(n) < 0.7, np.arange(n), rng.integers(0, n, n))
    emb = mapped(vectors.words, vectors.matrix, rows, scale=rng.uniform(0.5, 2, n))
    score = analogies(emb, questions)
    expected = 0
    units = unit(vectors.matrix)
    folded = [word.upper() for word in vectors.words]
    for _, quads in read_analogies(questions).sections:
        for quad in quads:
            quad = [word.upper() for word in quad]
            if not all(word in folded for word in quad):
                continue
            a, b, c, _ = (folded.index(word) for word in quad)
            query = units[rows[b]] + units[rows[c]] - units[rows[a]]
            cosines = (units @ query)[rows]
            nearest = [i for i in np.argsort(-cosines, kind="stable") if i not in (a, b, c)][:5]
            answers = [folded[i] for i in nearest if folded[i] not in quad[:3]]
            expected += answers[:1] == [quad[3]]
    assert score.correct == expected > 0


# ---------------------------------------------------------------- what was lost


def naive_neighbours(matrix, k):
    """The k nearest rows of each, itself left out, by float64 cosine; ties by lower id."""
    cosines = unit(matrix.astype(np.float64)) @ unit(matrix.astype(np.float64)).T
    cosines = cosines.round(6)  # what is equal is equal
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def naive_overlap(first, second, k):
    pairs = zip(naive_neighbours(first, k).tolist(), naive_neighbours(second, k).tolist())
    return np.array([len(set(a) & set(b)) / k for a, b in pairs])


def random_table(n, d, seed):
    return WordVectors([f"w{i}" for i in range(n)], np.random.default_rng(seed).standard_normal((n, d)))


@pytest.mark.parametrize("k", [1, 10, 25])
def test_overlap_is_that_of_its_slow_twin(k, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 70)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 32)
    baseline = random_table(230, 12, 0)
    other = WordVectors(baseline.words, baseline.matrix[:, :9] + 0.1)  # another dim
    overlap = neighbour_overlap(other, baseline, k=k)
    shares = naive_overlap(other.matrix, baseline.matrix, k)
    assert overlap.overlap == pytest.approx(shares.mean(), abs=1e-12)
    assert overlap.first_decile == pytest.approx(np.percentile(shares, 10), abs=1e-12)
    assert (overlap.k, overlap.queries, overlap.words, overlap.coverage) == (k, 230, 230, 1.0)
    assert 0 < overlap.overlap < 1


def test_overlap_over_the_common_words_only():
    baseline = random_table(120, 8, 1)
    keep = np.random.default_rng(2).permutation(120)[:80]
    noisy = baseline.matrix + 0.2 * np.random.default_rng(3).standard_normal((120, 8))
    other = WordVectors([*(f"w{i}" for i in keep), "new"], np.vstack([noisy[keep], np.ones(8)]))
    common = np.sort(keep)
    overlap = neighbour_overlap(other, baseline, k=5)
    assert overlap.overlap == pytest.approx(naive_overlap(noisy[common], baseline.matrix[common], 5).mean())
    assert (overlap.words, overlap.coverage) == (80, pytest.approx(80 / 120))
    overlap = neighbour_overlap(other, baseline, k=5, restrict_vocab=50)
    assert overlap.overlap == pytest.approx(naive_overlap(noisy[common[:50]], baseline.matrix[common[:50]], 5).mean())


@pytest.mark.parametrize("scale", [None, "mixed"])
def test_overlap_of_shared_rows_breaks_ties_by_id(scale):
    baseline = random_table(150, 6, 4)
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 30, 150)
    if scale:
        scale = rng.choice([2.0, 0.5, 0.0, -1.0], 150)
    emb = mapped(baseline.words, baseline.matrix[:30], rows, scale)
    overlap = neighbour_overlap(emb, baseline, k=8)
    shares = naive_overlap(expanded(emb).matrix, baseline.matrix, 8)
    assert overlap.overlap == pytest.approx(shares.mean(), abs=1e-12)


def test_overlap_of_a_table_with_itself_is_one():
    rows = np.vstack([np.zeros((2, 5)), np.repeat(random_table(20, 5, 6).matrix, 3, axis=0)])
    table = WordVectors([f"w{i}" for i in range(62)], rows)
    overlap = neighbour_overlap(table, table, k=100)
    assert (overlap.overlap, overlap.first_decile, overlap.k) == (1.0, 1.0, 20)  # equal vectors count as one


def test_overlap_draws_by_seed():
    baseline = random_table(300, 10, 7)
    other = WordVectors(baseline.words, baseline.matrix + 0.3 * random_table(300, 10, 8).matrix)
    first, again, another = (neighbour_overlap(other, baseline, queries=20, seed=s) for s in (0, 0, 1))
    assert first == again != another
    assert first.queries == 20
    set_threads(1)
    try:
        assert neighbour_overlap(other, baseline, queries=20) == first
    finally:
        set_threads(None)


def test_overlap_needs_two_common_words():
    table = random_table(3, 2, 0)
    with pytest.raises(EmbshrinkError, match=r"at least two words that both tables have \(found 1\)"):
        neighbour_overlap(WordVectors(["w1"], [[1, 2]]), table)
    with pytest.raises(EmbshrinkError, match="no word in common .found 'other' and 'w0' first.. Check that"):
        neighbour_overlap(WordVectors(["other"], [[1, 2]]), table)
    for name in ("k", "queries", "restrict_vocab"):
        with pytest.raises(EmbshrinkError, match=rf"{name} must be a whole number of at least 1 \(found 0\)"):
            neighbour_overlap(table, table, **{name: 0})


def test_reconstruction_by_hand():
    baseline = WordVectors(["a", "b", "zero", "gone"], [[3, 4], [-3, 4], [0, 1], [7, 7]])
    emb = WordVectors(["zero", "b", "new", "a"], [[0, 0], [4, 3], [5, 5], [6, 8]])
    found = reconstruction(emb, baseline)
    # mean (0, 3): spreads 9 + 1, 9 + 1, 0 + 4; errors 9 + 16, 49 + 1, 1
    assert found.relative_error == pytest.approx(76 / 24)
    assert found.mean_cosine == pytest.approx((1 + 0 + 0) / 3)
    assert (found.words, found.coverage, found.zero_words) == (3, 0.75, 0)
    assert (found.worst_cosine, found.worst_word) == (0.0, "b")
    json.dumps(found.as_dict(), allow_nan=False)


def test_reconstruction_is_that_of_its_slow_twin(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 64)
    baseline = random_table(500, 7, 9)
    baseline.matrix[:] += 1000  # far from the origin, where one-pass sums of squares cancel
    x = baseline.matrix.astype(np.float64)
    y = x + np.random.default_rng(10).standard_normal(x.shape).astype(np.float32)
    found = reconstruction(WordVectors(baseline.words, y), baseline)
    y = y.astype(np.float32).astype(np.float64)
    cosines = (unit(x) * unit(y)).sum(axis=1)
    assert found.relative_error == pytest.approx(((x - y) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), rel=1e-12)
    assert found.mean_cosine == pytest.approx(cosines.mean(), rel=1e-12)
    assert found.cosine_p1 == pytest.approx(np.percentile(cosines, 1), rel=1e-12)
    assert found.worst_word == f"w{np.argmin(cosines)}"
    part = reconstruction(WordVectors(baseline.words, y), baseline, sample=100)
    assert (part.words, part.coverage) == (100, 1.0)
    assert part == reconstruction(WordVectors(baseline.words, y), baseline, sample=100)


def test_reconstruction_of_equal_and_of_zero_vectors():
    equal = WordVectors(["a", "b"], [[1, 2], [1, 2]])
    assert reconstruction(equal, equal).relative_error == 0.0
    assert reconstruction(WordVectors(["a", "b"], [[1, 2], [1, 1]]), equal).relative_error is None
    zeros = WordVectors(["a", "b"], [[0, 0], [1, 2]])
    found = reconstruction(zeros, zeros)
    assert (found.zero_words, found.worst_cosine, found.worst_word) == (1, 0.0, "a")
    assert found.mean_cosine == pytest.approx(0.5)


def test_reconstruction_refuses_what_does_not_compare():
    table = random_table(3, 2, 0)
    with pytest.raises(ShapeError, match=r"differ in dimension \(expected 2, found 3\)"):
        reconstruction(random_table(3, 3, 0), table)
    with pytest.raises(EmbshrinkError, match="no word in common"):
        reconstruction(WordVectors(["other"], [[1, 2]]), table)
    with pytest.raises(EmbshrinkError, match=r"sample must be a whole number of at least 1 \(found 0\)"):
        reconstruction(table, table, sample=0)


# ---------------------------------------------------------------- all together


def test_evaluate_measures_everything(vectors, questions):
    emb = mapped(vectors.words, vectors.matrix[:500], np.arange(len(vectors)) % 500)
    found = evaluate(emb, vectors, analogies=questions, k=3, queries=50, sample=100)
    assert [score.name for score in found.similarity] == ["wordsim353", "simlex999"]
    assert found.similarity[0] == word_similarity(emb, DATA / "wordsim353.tsv")
    assert found.baseline_similarity[1] == word_similarity(vectors, DATA / "simlex999.txt")
    assert found.common_similarity == ()  # they know the same words
    assert found.analogies == analogies(emb, questions)
    assert found.baseline_analogies == analogies(vectors, questions)
    weights = 1 / (np.arange(len(vectors)) + 2.7)
    assert found.reconstruction == reconstruction(emb, vectors, sample=100, weights=weights / weights.sum())
    assert found.overlap == neighbour_overlap(emb, vectors, k=3, queries=50)
    assert list(json.loads(json.dumps(found.as_dict(), allow_nan=False))) == [
        "similarity", "baseline_similarity", "common_similarity", "analogies", "baseline_analogies",
        "reconstruction", "overlap",
    ]


def test_evaluate_compares_on_the_pairs_that_both_know():
    baseline = angles(a=0, b=60, c=90, d=180)
    pairs = WordPairs("hand", [("a", "b", 3.0), ("a", "c", 2.0), ("a", "d", 2.5)])
    other = WordVectors(["c", "a", "b"], [[0, 1, 0], [1, 0, 0], [1, 1, 0]])
    found = evaluate(other, baseline, pairs=pairs)
    assert [score.pairs_used for score in (*found.similarity, *found.baseline_similarity)] == [2, 3]
    mine, theirs = found.common_similarity[0]
    assert (mine.pairs_used, theirs.pairs_used) == (2, 2)
    assert theirs.spearman == pytest.approx(1.0) != found.baseline_similarity[0].spearman
    assert found.reconstruction is None  # another dim
    assert found.overlap.words == 3


def test_evaluate_without_baseline_or_benchmarks():
    assert evaluate(angles(a=0, b=1), pairs=[]) == Evaluation(())
    with pytest.raises(EmbshrinkError, match=r"restrict_vocab must be a whole number of at least 1 \(found 0\)"):
        evaluate(angles(a=0, b=1), restrict_vocab=0)


def test_evaluate_takes_paths(tmp_path):
    table = angles(a=0, b=60, c=90, d=180)
    pairs = WordPairs("hand", [("a", "b", 3.0), ("a", "c", 2.0), ("a", "d", 2.5)])
    embshrink.compress(table, tmp_path / "table.ems", ["cast:dtype=float32"], measure=False)
    embshrink.write_vectors(table.words, [table.matrix], tmp_path / "table.bin", "word2vec")
    found = embshrink.evaluate(tmp_path / "table.ems", str(tmp_path / "table.bin"), pairs=pairs)
    assert found == embshrink.evaluate(table, as_embeddings(table), pairs=iter([pairs]))
    assert found.similarity == found.baseline_similarity
    assert found.reconstruction.relative_error == 0
    with pytest.raises(TypeError, match="expected a path, WordVectors, .* not int"):
        embshrink.evaluate(3, pairs=[])


def test_benchmarks_are_read_before_tables(tmp_path):
    with pytest.raises(SourceError, match="no-pairs"):
        evaluate(tmp_path / "no-table.txt", pairs=tmp_path / "no-pairs.txt")
    with pytest.raises(SourceError, match="no-analogies"):
        evaluate(tmp_path / "no-table.txt", pairs=[], analogies=tmp_path / "no-analogies.txt")


# ---------------------------------------------------------------- benchmark files


def write(tmp_path, content, name="bench.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("content", [
    "a b\tc\t1.5\nd\te\t-2\n",
    "\ufeffa b,c,1.5\n# comment\n\nd,e,-2",
    "a b;c;1.5\r\nd;e;-2\r\n",
    "word 1,word 2,mean\na b, c ,1.5\nd,e,-2\n",
    "word1\tword2\tPOS\tscore\tother\na b\tc\tA\t1.5\t7\nd\te\tN\t-2\t8\n",
    "a b\tc\t1.5\t1\t2\nd\te\t-2\t2\t3\n",
], ids=["tab", "comma", "semicolon", "header", "simlex", "ratings"])
def test_pairs_of_many_shapes(tmp_path, content):
    pairs = read_pairs(write(tmp_path, content))
    assert pairs == WordPairs("bench", [("a b", "c", 1.5), ("d", "e", -2.0)])


def test_pairs_between_spaces(tmp_path):
    assert read_pairs(write(tmp_path, "sun-n  moon-n 50.0\n1984 2001   3\n")).pairs == [
        ("sun-n", "moon-n", 50.0), ("1984", "2001", 3.0)]


def test_lines_that_are_no_pair_are_counted(tmp_path):
    content = "a\tb\t1\nc\td\nc\td\tnan\n\te\t1\ne\t\t1\n# no\nc\td\t2\t3\nc\td\t2\n"
    pairs = read_pairs(write(tmp_path, content))
    assert pairs.pairs == [("a", "b", 1.0), ("c", "d", 2.0)]
    assert pairs.invalid == 5
    assert read_pairs(write(tmp_path, "a\tb\nc\td\t2\n")).invalid == 1  # too narrow for a header


def test_a_delimiter_that_is_given_is_used(tmp_path):
    path = write(tmp_path, "a,b\tc\t1\nd,e\tf\t2\n")
    assert read_pairs(path, "\t").pairs == [("a,b", "c", 1.0), ("d,e", "f", 2.0)]
    with pytest.raises(SourceError, match="the file has no word pair"):
        read_pairs(path, "|")


def test_default_benchmarks():
    assert [len(read_pairs(path)) for path in datasets.find_pairs()] == [353, 999]
    google = read_analogies(datasets.find_analogies())
    assert (len(google), len(google.sections), google.invalid) == (19_544, 14, 0)
    assert google.sections[0][0] == "capital-common-countries"
    assert google.sections[0][1][0] == ("Athens", "Greece", "Baghdad", "Iraq")


def test_analogies_with_bad_lines(tmp_path):
    found = read_analogies(write(tmp_path, ": one\na b c d\n\na b c\na b c d e\n: two words\n# b c d\n"))
    assert found == Analogies("bench", [("one", [("a", "b", "c", "d")]), ("two words", [("#", "b", "c", "d")])], 2)


@pytest.mark.parametrize(("content", "message"), [
    ("", r"line 1: the file has no word pair \(expected two words and a number, .*, found nothing\)"),
    ("# only\n\n", "line 1: the file has no word pair"),
    ("# head\r\nking queen\r\nman woman\r\n", "line 2: the file has no word pair .*found 'king queen'"),
    (": family\nboy girl brother sister\n", "no word pair .*analogies .--analogies"),
    (b"a\tb\t1\nc\x00\t2\n", "line 2: the file is not UTF-8 text: it has a zero byte. Decompress it"),
    ("a\tb\t1\n".encode("utf-16"), "line 1: the file is not UTF-8 text"),
    ("the 0.1 0.2 0.3\nof 0.4 0.5 0.6\n", r"the second column has numbers .*found 'the 0.1 0.2 0.3'.* word-vector"),
])
def test_files_without_pairs(tmp_path, content, message):
    with pytest.raises(SourceError, match=r"bench\.txt: .*" + message):
        read_pairs(write(tmp_path, content))


@pytest.mark.parametrize(("content", "message"), [
    ("", "line 1: the file has no analogy .*found nothing"),
    (": section\n", "the file has no analogy"),
    (": section\nking queen 3.5\n", "line 2: the file has no analogy .*found 'king queen 3.5'"),
    ("\nboy girl brother sister\n", r"line 2: a question comes before the first section \(expected ': name of a "
                                    r"section', found 'boy girl brother sister'\). Add a line such as ': all'"),
    (b"\x1f\x8b\x08\x00", "line 1: the file is not UTF-8 text"),
])
def test_files_without_analogies(tmp_path, content, message):
    with pytest.raises(SourceError, match=r"bench\.txt: .*" + message):
        read_analogies(write(tmp_path, content))


def test_files_that_are_not_there_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"none\.txt: cannot read the file: No such file"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(SourceError, match="cannot read the file"):
        read_analogies(tmp_path)
    monkeypatch.setattr(datasets, "MAX_BYTES", 10)
    with pytest.raises(SourceError, match=r"too large for a benchmark \(expected at most 10 bytes\)"):
        read_pairs(write(tmp_path, "a\tb\t1.2345\n"))


def test_gensim_is_found_without_being_imported(monkeypatch, tmp_path):
    code = ("import sys; import embshrink.evaluation.run; from embshrink.evaluation import benchmarks; "
            "benchmarks.find_pairs(); benchmarks.find_analogies(); "
            "print(sorted({'gensim', 'scipy', 'numba'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraError, match=r"wordsim353.tsv is a file of the package gensim.*pip install gensim"):
        datasets.find_pairs()
    spec = importlib.machinery.ModuleSpec("gensim", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ExtraError, match="questions-words.txt: gensim is installed without its test data"):
        datasets.find_analogies()
