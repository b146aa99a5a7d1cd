"""What a table is worth: word similarity, analogies, and what it lost against the table it was made from.

Everything here takes a table by the lookup protocol (`len`, ``vector_size``, ``words``, ``row_map``,
``scale``, ``decode_ids``), `WordVectors`, or the path of an ``.ems`` file, and decodes it block by
block. Scores on uncompressed vectors are those of gensim's ``evaluate_word_pairs`` and
``evaluate_word_analogies``. The cosine of a zero vector to anything is 0.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass

import numpy as np

from embshrink.errors import EmbshrinkError, ShapeError
from embshrink.evaluation.benchmarks import (
    Analogies,
    WordPairs,
    find_analogies,
    find_pairs,
    read_analogies,
    read_pairs,
)
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import blocks, map_blocks, one_blas_thread
from embshrink.numerics.progress import no_progress
from embshrink.vocabulary.words import to_text

RESTRICT_VOCAB = 300_000  # gensim's
DECODE_ROWS, DECODE_NUMBERS = 16_384, 1 << 20  # decoded at a time, whichever is less
TILE_ROWS, TILE_VECTORS = 1024, 64  # products at a time and thread: what fits its cache
LOWEST = np.float32(np.finfo(np.float32).min)  # below any score
PREDICTIONS = 5  # how many of the nearest words gensim looks at, query words left out


class _Scores:
    def as_dict(self):
        """Return the figures as a JSON-able dict, for ``--json``."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.repr}


def _plain(value):
    if isinstance(value, _Scores):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class SimilarityScore(_Scores):
    """Agreement with people on how similar two words are.

    Parameters
    ----------
    name : str
        The benchmark.
    spearman, spearman_p, pearson, pearson_p : float or None
        Correlations and their two-sided p-values; None where not defined.
    pairs_used, pairs_total : int
        Pairs correlated, pairs in the file.
    unknown : int
        Pairs with a word outside the vocabulary.
    coverage : float
        Share of the pairs whose words are both in the vocabulary.
    shared_rows : int
        Pairs whose two different words share one stored row, and so have cosine 1 whatever they mean.
    invalid : int
        Lines of the file that could not be read.
    vocabulary : int
        Words considered, the first of the table.
    reason : str or None
        Why there is no correlation.
    """

    name: str
    spearman: float | None
    spearman_p: float | None
    pearson: float | None
    pearson_p: float | None
    pairs_used: int
    pairs_total: int
    unknown: int
    coverage: float
    shared_rows: int
    invalid: int
    vocabulary: int
    reason: str | None = None

    def as_gensim(self):
        """Return ((Pearson r, p), (Spearman rho, p), percentage of unknown pairs); NaN for what is not defined.

        Raises
        ------
        EmbshrinkError
            If no pair could be used; gensim raises a ValueError too.
        """
        if not self.pairs_used:
            raise EmbshrinkError(f"no pair of {self.name} has both words in the vocabulary")
        pearson, pearson_p, spearman, spearman_p = (
            math.nan if value is None else value
            for value in (self.pearson, self.pearson_p, self.spearman, self.spearman_p)
        )
        return (pearson, pearson_p), (spearman, spearman_p), 100 * self.unknown / self.pairs_total


@dataclass(frozen=True)
class AnalogySection(_Scores):
    """Right answers in one section.

    Parameters
    ----------
    name : str
    correct, total, unknown : int
        Questions answered right, questions that count, questions with an unknown word.
    right, wrong : list of (str, str, str, str)
        The questions that count; not in `as_dict`.
    """

    name: str
    correct: int
    total: int
    unknown: int
    right: list = dataclasses.field(repr=False)
    wrong: list = dataclasses.field(repr=False)


@dataclass(frozen=True)
class AnalogyScore(_Scores):
    """Share of analogy questions answered right.

    Parameters
    ----------
    name : str
        The benchmark.
    accuracy : float or None
        ``correct / total``; None if no question counts.
    correct, total : int
        Questions answered right, questions that count.
    unknown : int
        Questions with a word outside the vocabulary.
    coverage : float
        Share of the questions whose words are all in the vocabulary.
    invalid : int
        Lines of the file that could not be read.
    vocabulary : int
        Words considered, the first of the table.
    sections : tuple of AnalogySection
    """

    name: str
    accuracy: float | None
    correct: int
    total: int
    unknown: int
    coverage: float
    invalid: int
    vocabulary: int
    sections: tuple

    def as_gensim(self):
        """Return (accuracy, sections with their questions, the last being all of them); 0 where none counts."""
        sections = [{"section": section.name, "correct": section.right, "incorrect": section.wrong}
                    for section in self.sections]
        total = {"section": "Total accuracy"}
        for kind in ("correct", "incorrect"):
            total[kind] = [question for section in sections for question in section[kind]]
        return self.accuracy or 0.0, [*sections, total]


@dataclass(frozen=True)
class Reconstruction(_Scores):
    """How near the vectors are to those of the baseline, over the words that both have.

    Parameters
    ----------
    words : int
        Words compared.
    coverage : float
        Share of the baseline's words that the table has.
    relative_error : float or None
        ``||X - X^||^2 / ||X - mean||^2``, X the baseline's vectors; None if those are all equal and
        were not reproduced.
    mean_cosine, cosine_p1, worst_cosine : float
        Mean, first percentile and minimum of the cosine of a word's two vectors.
    worst_word : str
        The word with the lowest cosine, the first on a tie.
    zero_words : int
        Words whose baseline vector is zero; their cosine is 0 by convention.
    """

    words: int
    coverage: float
    relative_error: float | None
    mean_cosine: float
    cosine_p1: float
    worst_cosine: float
    worst_word: str
    zero_words: int


@dataclass(frozen=True)
class Overlap(_Scores):
    """How many of a word's nearest neighbours stayed, over the words that both tables have.

    Parameters
    ----------
    k : int
        Neighbours of each word, the word itself left out.
    overlap, first_decile : float
        Mean and first decile, over the queries, of the share of neighbours in common.
    queries : int
        Words whose neighbours were compared.
    words : int
        Words they were looked for among.
    coverage : float
        Share of the baseline's words that the table has.
    """

    k: int
    overlap: float
    first_decile: float
    queries: int
    words: int
    coverage: float


@dataclass(frozen=True)
class Evaluation(_Scores):
    """Everything `evaluate` measured.

    Parameters
    ----------
    similarity : tuple of SimilarityScore
        One for each benchmark.
    baseline_similarity : tuple of SimilarityScore
        The same for the baseline; empty without one.
    common_similarity : tuple of (SimilarityScore, SimilarityScore)
        Table and baseline on the pairs that both know, for each benchmark where they differ in that:
        figures over different pairs do not compare.
    analogies, baseline_analogies : AnalogyScore or None
    reconstruction : Reconstruction or None
    overlap : Overlap or None
    """

    similarity: tuple
    baseline_similarity: tuple = ()
    common_similarity: tuple = ()
    analogies: AnalogyScore | None = None
    baseline_analogies: AnalogyScore | None = None
    reconstruction: Reconstruction | None = None
    overlap: Overlap | None = None


class _Vocabulary:
    """The first words of a table, folded to upper case or not; of several alike the first is found."""

    def __init__(self, table, restrict_vocab, case_insensitive):
        _check_count("restrict_vocab", restrict_vocab)
        self.fold = str.upper if case_insensitive else str
        self.words = [self.fold(to_text(word)) for word in table.words.raw[:restrict_vocab]]
        self._ids = dict(zip(reversed(self.words), range(len(self.words) - 1, -1, -1)))

    def __len__(self):
        return len(self.words)

    def find(self, words):
        """Return the ids of several words, or None if one of them is unknown."""
        ids = [self._ids.get(self.fold(word)) for word in words]
        return None if None in ids else ids


def word_similarity(emb, pairs, *, delimiter=None, restrict_vocab=RESTRICT_VOCAB, case_insensitive=True,
                    dummy4unknown=False):
    """Correlate cosine similarities with human judgements.

    Parameters
    ----------
    emb : Embeddings, WordVectors, or path
    pairs : WordPairs or path
        A benchmark; see `embshrink.evaluation.benchmarks.read_pairs`.
    delimiter : str, optional
        What separates the columns of the file; None to find out.
    restrict_vocab : int, optional
        Consider only so many words, the first; None for all.
    case_insensitive : bool
        Compare words in upper case; of several alike the first counts, as the most frequent.
    dummy4unknown : bool
        Count pairs with an unknown word as similarity 0 instead of leaving them out.

    Returns
    -------
    SimilarityScore
        The correlations are gensim's to 1e-9 on the same vectors.

    Raises
    ------
    SourceError
        If the benchmark cannot be read.
    EmbshrinkError
        If `restrict_vocab` is below 1.
    """
    table = _as_table(emb)
    vocabulary = _Vocabulary(table, restrict_vocab, case_insensitive)
    return _similarity(table, vocabulary, _as_pairs(pairs, delimiter), dummy4unknown)


def _similarity(table, vocabulary, benchmark, dummy4unknown):
    found = [vocabulary.find(pair[:2]) for pair in benchmark.pairs]
    known = np.array([ids is not None for ids in found], bool)
    ids = np.array([pair for pair in found if pair is not None], np.int64).reshape(-1, 2)
    gold = np.array([pair[2] for pair in benchmark.pairs])
    model = np.zeros(len(gold))
    model[known] = _pair_cosines(table, ids)
    if not dummy4unknown:
        gold, model = gold[known], model[known]
    correlations, reason = _correlations(gold, model)
    shared, rows = 0, table.row_map
    if rows is not None:
        rows = np.asarray(rows)[ids]
        shared = int(((rows[:, 0] == rows[:, 1]) & (ids[:, 0] != ids[:, 1])).sum())
    return SimilarityScore(
        benchmark.name, *correlations, pairs_used=len(gold), pairs_total=len(found), unknown=len(found) - len(ids),
        coverage=len(ids) / max(1, len(found)), shared_rows=shared, invalid=benchmark.invalid,
        vocabulary=len(vocabulary), reason=reason,
    )


def _pair_cosines(table, ids):
    """Return the cosine of each pair of ids (n, 2) in gensim's arithmetic, so that ranks are gensim's too.

    That is: the length in float64, the unit vector rounded to float32, the dot product in float32.
    """
    from scipy.linalg.blas import dnrm2, dscal

    if not len(ids):
        return []
    distinct, places = np.unique(ids, return_inverse=True)
    units = np.array(table.decode_ids(distinct))
    for row in units:
        length = dnrm2(row)
        if length > 0:
            row[:] = dscal(1.0 / length, row)
    return [np.dot(units[a], units[b]) for a, b in places.reshape(ids.shape)]


def _correlations(gold, model):
    """Return (spearman, p, pearson, p) and None, or four None and the reason."""
    from scipy import stats

    undefined = (None, None, None, None)
    if len(gold) < 2:
        return undefined, f"a correlation needs two pairs, and {len(gold)} can be used"
    for values, what in ((gold, "the benchmark gives"), (model, "the vectors give")):
        if (values == values[0]).all():
            return undefined, f"{what} every pair the same similarity"
    with warnings.catch_warnings():  # nearly constant input, and the p-value of two pairs
        warnings.simplefilter("ignore")
        figures = [*stats.spearmanr(gold, model), *stats.pearsonr(gold, model)]
    return tuple(float(figure) if math.isfinite(figure) else None for figure in figures), None


def analogies(emb, questions, *, restrict_vocab=RESTRICT_VOCAB, case_insensitive=True, dummy4unknown=False,
              progress=no_progress):
    """Answer "a is to b as c is to ?" by the word nearest to ``b - a + c`` (3CosAdd), and count right answers.

    Parameters
    ----------
    emb : Embeddings, WordVectors, or path
    questions : Analogies or path
        A benchmark; see `embshrink.evaluation.benchmarks.read_analogies`.
    restrict_vocab : int, optional
        Consider only so many words, the first, in questions and as answers; None for all.
    case_insensitive : bool
        Compare words in upper case; of several alike the first counts, as the most frequent.
    dummy4unknown : bool
        Count questions with an unknown word as wrong instead of leaving them out.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    AnalogyScore
        gensim's score on the same vectors. As there, the five nearest words other than a, b and c are looked
        at, and the first that is not one of them in another case is the answer. Words at exactly the
        same cosine, such as those that share a row, come in order of their ids.

    Raises
    ------
    SourceError
        If the benchmark cannot be read.
    EmbshrinkError
        If `restrict_vocab` is below 1.

    References
    ----------
    Mikolov, Yih and Zweig, NAACL 2013; Levy and Goldberg, CoNLL 2014, for the name.
    """
    table = _as_table(emb)
    return _analogies(table, _Vocabulary(table, restrict_vocab, case_insensitive), _as_analogies(questions),
                      dummy4unknown, progress)


def _analogies(table, vocabulary, benchmark, dummy4unknown, progress):
    found = [[vocabulary.find(question) for question in questions] for _, questions in benchmark.sections]
    ids = np.array([quad for section in found for quad in section if quad is not None], np.int64).reshape(-1, 4)
    solved = iter(_solve(table, vocabulary, ids, progress) if len(ids) else [])
    sections = []
    for (name, questions), section in zip(benchmark.sections, found):
        right, wrong = [], []
        for question, quad in zip(questions, section):
            if quad is not None:
                (right if next(solved) else wrong).append(tuple(map(vocabulary.fold, question)))
            elif dummy4unknown:
                wrong.append(tuple(map(vocabulary.fold, question)))
        sections.append(AnalogySection(name, len(right), len(right) + len(wrong), section.count(None), right, wrong))
    correct, total, unknown = (sum(getattr(section, field) for section in sections)
                               for field in ("correct", "total", "unknown"))
    return AnalogyScore(
        name=benchmark.name, accuracy=correct / total if total else None, correct=correct, total=total,
        unknown=unknown, coverage=len(ids) / max(1, len(benchmark)), invalid=benchmark.invalid,
        vocabulary=len(vocabulary), sections=tuple(sections),
    )


def _solve(table, vocabulary, ids, progress):
    """Return whether each question, as the ids of its words (n, 4), is answered right."""
    distinct, places = np.unique(ids[:, :3], return_inverse=True)
    units = unit_rows(table.decode_ids(distinct))
    signs = np.array([-1, 1, 1], np.float32)
    nearest = _nearest(table, np.arange(len(vocabulary)), units, places.reshape(-1, 3), signs, PREDICTIONS + 3,
                       progress)
    return [_answer(vocabulary, question[:3], near) == vocabulary.words[question[3]]
            for question, near in zip(ids.tolist(), nearest.tolist())]


def _answer(vocabulary, query, nearest):
    """Return the folded word that gensim would answer, given the ids nearest to the query."""
    asked = {vocabulary.words[i] for i in query}
    answer = None
    for i in [i for i in nearest if i >= 0 and i not in query][:PREDICTIONS]:
        answer = vocabulary.words[i]
        if answer not in asked:
            break
    return answer


def _nearest(table, ids, vectors, terms, signs, k, progress):
    """Return the places in `ids` of the k words nearest to each query, best first, ties by lower place.

    Parameters
    ----------
    table : lookup protocol
    ids : numpy.ndarray, shape (n,), int64
        The words that compete.
    vectors : numpy.ndarray, shape (w, d), float32
    terms : numpy.ndarray, shape (q, t), int64
    signs : numpy.ndarray, shape (t,), float32
        Query i is ``sum(signs[t] * vectors[terms[i, t]])``. Queries share their vectors, so that it is
        cheaper to add products than to multiply sums.
    k : int

    Returns
    -------
    numpy.ndarray, shape (q, k), int64
        -1 where there are fewer than k words.
    """
    from embshrink.kernels.top import keep_top

    firsts, members, starts = _distinct_vectors(table, ids)
    queries = TILE_VECTORS * -(-len(terms) // max(1, len(vectors)))
    scores = np.full((len(terms), k), LOWEST, np.float32)
    best = np.full((len(terms), k), -1, np.int64)

    def compete(units, first):
        def block(start, stop):
            distinct, places = np.unique(terms[start:stop], return_inverse=True)
            places = places.reshape(stop - start, -1)
            for low, high in blocks(len(units), TILE_ROWS):
                products = vectors[distinct] @ units[low:high].T
                keep_top(products, places, signs, first + low, scores[start:stop], best[start:stop])

        map_blocks(block, len(terms), queries)

    with one_blas_thread():
        for start, stop in blocks(len(firsts), _rows_at_once(table)):
            compete(unit_rows(table.decode_ids(ids[firsts[start:stop]])), start)
            progress("neighbours", stop, len(firsts))
    return best if members is None else _spread(scores, best, members, starts)


def _rows_at_once(table):
    return max(1, min(DECODE_ROWS, DECODE_NUMBERS // table.vector_size))


def _distinct_vectors(table, ids):
    """Group words that share a vector's direction, so that it is scored once and they tie exactly.

    Returns
    -------
    firsts : numpy.ndarray, shape (m,), int64
        The first place in `ids` of each group, ascending.
    members, starts : numpy.ndarray or None
        ``members[starts[g]:starts[g + 1]]`` are the places of group g, ascending; None where every
        word is a group of its own.
    """
    rows, scale = table.row_map, table.scale
    if rows is None:
        return np.arange(len(ids)), None, None
    keys = np.asarray(rows)[ids].astype(np.int64)
    if scale is not None:  # a factor below zero or of zero makes another direction
        keys = 3 * keys + np.sign(np.asarray(scale)[ids]).astype(np.int64)
    _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    groups = np.argsort(order)[groups]
    starts = np.append(0, np.cumsum(np.bincount(groups, minlength=len(order))))
    return firsts[order], np.argsort(groups, kind="stable"), starts


def _spread(scores, best, members, starts):
    """Turn the best groups of each query into its best words.

    k groups are enough: they are in order of score and then of first member, so each group left out
    has k words before it.
    """
    k = best.shape[1]
    words = np.empty_like(best)
    for low, high in blocks(len(best), 64):
        group = best[low:high, :, None]
        place = starts[group] + np.arange(k)
        there = (group >= 0) & (place < starts[group + 1])
        word = members[np.where(there, place, 0)].reshape(high - low, -1)
        score = np.where(there, scores[low:high, :, None], LOWEST).reshape(high - low, -1)
        order = np.lexsort((word, -score), axis=-1)[:, :k]
        word, score = np.take_along_axis(word, order, 1), np.take_along_axis(score, order, 1)
        words[low:high] = np.where(score == LOWEST, -1, word)
    return words


def reconstruction(emb, baseline, *, sample=None, seed=0, common=None):
    """Compare each word's vector with its vector in the baseline.

    Parameters
    ----------
    emb, baseline : Embeddings, WordVectors, or path
        Of the same dim.
    sample : int, optional
        Compare so many of the common words, drawn at random; None for all.
    seed : int
        Of the draw.
    common : tuple of numpy.ndarray, shape (n,), int64, optional
        Ids in `emb` and in `baseline` of the words that both have, in the order of the latter; found by name if not
        given.

    Returns
    -------
    Reconstruction
        Sums in float64 and in a fixed order.

    Raises
    ------
    ShapeError
        If the tables differ in dim.
    EmbshrinkError
        If they have no word in common, or `sample` is below 1.
    """
    mine, theirs = _as_table(emb), _as_table(baseline)
    if mine.vector_size != theirs.vector_size:
        raise ShapeError("the vectors and the baseline's differ in length", expected=theirs.vector_size,
                         found=mine.vector_size, hint="Neighbour overlap compares such tables.")
    _check_count("sample", sample)
    ids, base_ids = common or _common(mine, theirs)
    coverage = len(ids) / len(theirs)
    if sample is not None:
        chosen = _draw(len(ids), sample, seed)
        ids, base_ids = ids[chosen], base_ids[chosen]
    order = np.argsort(ids)  # what is stored in blocks is decoded once then
    ids, base_ids = ids[order], base_ids[order]
    n = len(ids)

    def add(start, stop):
        return theirs.decode_ids(base_ids[start:stop]).sum(axis=0, dtype=np.float64)

    size = _rows_at_once(theirs)
    mean = sum(map_blocks(add, n, size)) / n

    def compare(start, stop):
        x = theirs.decode_ids(base_ids[start:stop]).astype(np.float64)
        y = mine.decode_ids(ids[start:stop]).astype(np.float64)
        lengths = np.linalg.norm(x, axis=1)
        product = lengths * np.linalg.norm(y, axis=1)
        cosines = np.einsum("ij,ij->i", x, y) / np.where(product > 0, product, 1)
        return ((x - y) ** 2).sum(), ((x - mean) ** 2).sum(), np.clip(cosines, -1, 1), int((lengths == 0).sum())

    errors, spreads, cosines, zeros = zip(*map_blocks(compare, n, size))
    error, spread, cosines = float(sum(errors)), float(sum(spreads)), np.concatenate(cosines)
    ties = np.flatnonzero(cosines == cosines.min())
    worst = int(ties[np.argmin(base_ids[ties])])
    return Reconstruction(
        words=n, coverage=coverage,
        relative_error=error / spread if spread else (None if error else 0.0),
        mean_cosine=float(cosines.mean()), cosine_p1=float(np.percentile(cosines, 1)),
        worst_cosine=float(cosines[worst]), worst_word=mine.words[int(ids[worst])], zero_words=sum(zeros),
    )


def neighbour_overlap(emb, baseline, *, k=10, queries=1000, seed=0, restrict_vocab=None, common=None,
                      progress=no_progress):
    """Compare the nearest neighbours of words in two tables.

    Parameters
    ----------
    emb, baseline : Embeddings, WordVectors, or path
        They may differ in dim.
    k : int
        Neighbours of each word by cosine, among the words that both tables have.
    queries : int
        Words asked for, drawn at random from the common ones; all where there are fewer.
    seed : int
        Of the draw.
    restrict_vocab : int, optional
        Consider only so many common words, the first in the baseline's order; None for all.
    common : tuple of numpy.ndarray, shape (n,), int64, optional
        Ids in `emb` and in `baseline` of the words that both have, in the order of the latter; found by name if not
        given.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    Overlap
        Ties go to the word that comes first in `emb`, in both tables.

    Raises
    ------
    EmbshrinkError
        If they have fewer than two words in common, or a count is below 1.
    """
    for name, value in (("k", k), ("queries", queries), ("restrict_vocab", restrict_vocab)):
        _check_count(name, value)
    mine, theirs = _as_table(emb), _as_table(baseline)
    ids, base_ids = common or _common(mine, theirs)
    coverage = len(ids) / len(theirs)
    ids, base_ids = ids[:restrict_vocab], base_ids[:restrict_vocab]
    if len(ids) < 2:
        raise EmbshrinkError("neighbours need two words that both tables have", found=len(ids))
    k = min(k, len(ids) - 1)
    order = np.argsort(ids)  # what is stored in blocks is decoded once then
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    asked = places[_draw(len(ids), queries, seed)]  # the same words for every table with this baseline
    ids, base_ids = ids[order], base_ids[order]
    here, there = (_neighbours(*table, asked, k, progress).tolist() for table in ((mine, ids), (theirs, base_ids)))
    shares = np.array([len(set(a) & set(b)) for a, b in zip(here, there)]) / k
    return Overlap(k=k, overlap=float(shares.mean()), first_decile=float(np.percentile(shares, 10)),
                   queries=len(asked), words=len(ids), coverage=coverage)


def _neighbours(table, ids, asked, k, progress):
    """Return the places in `ids` of the k words nearest to each of those at the places `asked`, itself left out."""
    units = unit_rows(table.decode_ids(ids[asked]))
    terms = np.arange(len(asked))[:, None]
    nearest = _nearest(table, ids, units, terms, np.ones(1, np.float32), k + 1, progress)
    itself_last = np.argsort(nearest == asked[:, None], axis=1, kind="stable")
    return np.take_along_axis(nearest, itself_last[:, :k], 1)


def evaluate(emb, baseline=None, *, pairs=None, analogies=None, restrict_vocab=RESTRICT_VOCAB, case_insensitive=True,
             dummy4unknown=False, k=10, queries=1000, sample=None, seed=0, progress=no_progress):
    """Measure all that can be measured.

    Parameters
    ----------
    emb : Embeddings, WordVectors, or path
    baseline : Embeddings, WordVectors, or path, optional
        What `emb` was made from. It is scored too, and reconstruction and neighbour overlap are measured
        against it; reconstruction only where the dims agree.
    pairs : WordPairs or path, or list of them, optional
        Word-similarity benchmarks; None for WordSim-353 and SimLex-999, an empty list for none.
    analogies : Analogies or path or True, optional
        An analogy benchmark, True for Google's; None for none.
    restrict_vocab, case_insensitive, dummy4unknown
        As in `word_similarity` and `analogies`.
    k, queries
        As in `neighbour_overlap`.
    sample
        As in `reconstruction`.
    seed : int
        Of both draws.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    Evaluation

    Raises
    ------
    SourceError
        If a benchmark cannot be read.
    ExtraError
        If the default benchmarks are not there.
    EmbshrinkError
        If the baseline has fewer than two of the words, or a count is below 1.
    """
    if pairs is None:
        pairs = find_pairs()
    elif isinstance(pairs, (str, os.PathLike, WordPairs)):
        pairs = [pairs]
    benchmarks = [_as_pairs(benchmark) for benchmark in pairs]
    questions = None if analogies is None else _as_analogies(find_analogies() if analogies is True else analogies)

    tables = [_as_table(source) for source in (emb, baseline) if source is not None]
    vocabularies = [_Vocabulary(table, restrict_vocab, case_insensitive) for table in tables]
    sides = list(zip(tables, vocabularies))

    def scores(benchmark):
        return tuple(_similarity(*side, benchmark, dummy4unknown) for side in sides)

    by_benchmark = [scores(benchmark) for benchmark in benchmarks]
    similarity, *base_similarity = zip(*by_benchmark) if by_benchmark else [()]
    common = []
    for benchmark, by_side in zip(benchmarks, by_benchmark):
        both = [pair for pair in benchmark.pairs if all(vocabulary.find(pair[:2]) for vocabulary in vocabularies)]
        if any(score.unknown != len(benchmark) - len(both) for score in by_side):
            common.append(scores(dataclasses.replace(benchmark, pairs=both)))

    answers = [None, None]
    if questions is not None:
        answers[: len(sides)] = [_analogies(*side, questions, dummy4unknown, progress) for side in sides]

    loss = overlap = None
    if baseline is not None:
        if tables[0].vector_size == tables[1].vector_size:
            loss = reconstruction(*tables, sample=sample, seed=seed)
        overlap = neighbour_overlap(*tables, k=k, queries=queries, seed=seed, progress=progress)
    return Evaluation(similarity, *base_similarity, common_similarity=tuple(common), analogies=answers[0],
                      baseline_analogies=answers[1], reconstruction=loss, overlap=overlap)


def _as_table(source):
    if hasattr(source, "decode_ids"):
        return source
    from embshrink.reader import as_embeddings

    return as_embeddings(source)


def _as_pairs(benchmark, delimiter=None):
    return benchmark if isinstance(benchmark, WordPairs) else read_pairs(benchmark, delimiter)


def _as_analogies(benchmark):
    return benchmark if isinstance(benchmark, Analogies) else read_analogies(benchmark)


def _check_count(name, value):
    if value is not None and value < 1:
        raise EmbshrinkError(f"{name} must be at least 1", found=value)


def _draw(n, count, seed):
    """Return `count` of ``range(n)``, or all, ascending."""
    if count >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def _common(mine, theirs):
    """Return the ids in both tables of the words that both have, in the second table's order."""
    words, base = mine.words.raw, theirs.words.raw
    if words and words == base:
        return np.arange(len(words)), np.arange(len(words))
    index = {word: i for i, word in enumerate(words)}
    ids = np.array([index.get(word, -1) for word in base], np.int64)
    base_ids = np.flatnonzero(ids >= 0)
    if not len(base_ids):
        raise EmbshrinkError("the two tables have no word in common", hint="Is it the right baseline?")
    return ids[base_ids], base_ids
