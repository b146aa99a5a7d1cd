"""Word similarity: correlation of cosines with human judgements, with the same results as gensim."""

from __future__ import annotations

import math
import os
import warnings
from typing import NamedTuple

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.errors import need
from embshrink.evaluation.benchmarks import WordPairs, as_word_pairs
from embshrink.evaluation.scores import SimilarityScore
from embshrink.evaluation.vocabulary import RESTRICT_VOCAB, FoldedVocabulary
from embshrink.storage.arrays import DoubleArray, IntArray


def word_similarity(
    table: LookupTable, pairs: WordPairs | str | os.PathLike[str], *, delimiter: str | None = None,
    restrict_vocab: int | None = RESTRICT_VOCAB, case_insensitive: bool = True, dummy4unknown: bool = False,
) -> SimilarityScore:
    """Correlate cosine similarities with human judgements.

    Parameters
    ----------
    table : LookupTable
        `embshrink.as_embeddings` makes one from a path or `WordVectors`.
    pairs : WordPairs, str or os.PathLike
        A benchmark; see `embshrink.evaluation.benchmarks.read_pairs`.
    delimiter : str, optional
        Separator of the columns; by default the one that fits most lines.
    restrict_vocab : int or None, default 300000
        Use only the first `restrict_vocab` words; None for all.
    case_insensitive : bool, default True
        Compare words in upper case. If several words are equal in upper case, the first one is used.
    dummy4unknown : bool, default False
        Count pairs with an unknown word as similarity 0 instead of leaving them out.

    Returns
    -------
    SimilarityScore
        The correlations equal those of gensim on the same vectors, to 1e-9.

    Raises
    ------
    SourceError
        If the benchmark cannot be read.
    EmbshrinkError
        If `restrict_vocab` is below 1.
    """
    vocabulary = FoldedVocabulary(table, restrict_vocab, case_insensitive)
    return score_pairs(table, vocabulary, as_word_pairs(pairs, delimiter), dummy4unknown)


def score_pairs(
    table: LookupTable, vocabulary: FoldedVocabulary, benchmark: WordPairs, dummy4unknown: bool,
) -> SimilarityScore:
    """Return the score of a table with a given case-folded vocabulary; see `word_similarity`."""
    found = [vocabulary.find(pair[:2]) for pair in benchmark.pairs]
    known = np.array([ids is not None for ids in found], bool)
    ids = np.array([pair for pair in found if pair is not None], np.int64).reshape(-1, 2)
    gold = np.array([similarity for _, _, similarity in benchmark.pairs])
    model = np.zeros(len(gold))
    model[known] = _pair_cosines(table, ids)
    if not dummy4unknown:
        gold, model = gold[known], model[known]
    correlations = _correlate(gold, model)
    return SimilarityScore(
        name=benchmark.name, spearman=correlations.spearman, spearman_p=correlations.spearman_p,
        pearson=correlations.pearson, pearson_p=correlations.pearson_p, pairs_used=len(gold),
        pairs_total=len(found), unknown=len(found) - len(ids), coverage=len(ids) / max(1, len(found)),
        shared_rows=_shared_rows(table, ids), invalid=benchmark.invalid, vocabulary=len(vocabulary),
        reason=correlations.reason,
    )


def _pair_cosines(table: LookupTable, ids: IntArray) -> DoubleArray:
    """Return the cosine of each pair of ids (n, 2) with the arithmetic of gensim, so that ranks are equal.

    That is: the length in float64, the unit vector rounded to float32, the dot product in float32.
    """
    need("word similarity", "scipy")
    from scipy.linalg.blas import dnrm2, dscal

    if not len(ids):
        return np.zeros(0)
    distinct, places = np.unique(ids, return_inverse=True)
    units = np.array(table.decode_ids(distinct))
    for row in units:
        length = dnrm2(row)
        if length > 0:
            row[:] = dscal(1.0 / length, row)
    return np.array([np.dot(units[a], units[b]) for a, b in places.reshape(ids.shape)], np.float64)


def _shared_rows(table: LookupTable, ids: IntArray) -> int:
    """Return the number of pairs of ids (n, 2) of different words that share a stored row."""
    rows = table.row_map
    if rows is None:
        return 0
    rows = rows[ids]
    return int(np.count_nonzero((rows[:, 0] == rows[:, 1]) & (ids[:, 0] != ids[:, 1])))


class _Correlations(NamedTuple):
    """Correlations and p-values, or the reason why they are not defined."""

    spearman: float | None = None
    spearman_p: float | None = None
    pearson: float | None = None
    pearson_p: float | None = None
    reason: str | None = None


def _correlate(gold: DoubleArray, model: DoubleArray) -> _Correlations:
    from scipy import stats

    if len(gold) < 2:
        return _Correlations(reason=f"a correlation needs at least 2 usable pairs, found {len(gold)}")
    for values, what in ((gold, "the benchmark gives"), (model, "the vectors give")):
        if (values == values[0]).all():
            return _Correlations(reason=f"{what} every pair the same similarity")
    with warnings.catch_warnings():  # scipy warns about nearly constant input, and about the p-value of two pairs
        warnings.simplefilter("ignore")
        figures = [*stats.spearmanr(gold, model), *stats.pearsonr(gold, model)]
    rho, rho_p, r, r_p = (float(figure) if math.isfinite(figure) else None for figure in figures)
    return _Correlations(rho, rho_p, r, r_p)
