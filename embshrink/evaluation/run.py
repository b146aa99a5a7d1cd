"""All measurements of a table at once: word similarity, analogies, and the loss against a baseline.

All functions of this package take an `embshrink.embeddings.protocols.LookupTable` and decode it block by block. On
uncompressed vectors, scores are equal to those of gensim's ``evaluate_word_pairs`` and ``evaluate_word_analogies``.
The cosine of a zero vector to any vector is 0.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Literal

from embshrink.embeddings.protocols import LookupTable
from embshrink.evaluation import QUERIES
from embshrink.evaluation.analogies import score_analogies
from embshrink.evaluation.benchmarks import Analogies, WordPairs, analogy_benchmark, similarity_benchmarks
from embshrink.evaluation.loss import neighbour_overlap, reconstruction
from embshrink.evaluation.scores import AnalogyScore, Evaluation, SimilarityScore
from embshrink.evaluation.similarity import score_pairs
from embshrink.evaluation.vocabulary import RESTRICT_VOCAB, FoldedVocabulary
from embshrink.methods.pipeline import zipf_weights
from embshrink.numerics.progress import Progress, no_progress


def evaluate(
    table: LookupTable, baseline: LookupTable | None = None, *,
    pairs: WordPairs | str | os.PathLike[str] | Iterable[WordPairs | str | os.PathLike[str]] | None = None,
    analogies: Analogies | str | os.PathLike[str] | Literal[True] | None = None,
    restrict_vocab: int | None = RESTRICT_VOCAB, case_insensitive: bool = True, dummy4unknown: bool = False,
    k: int = 10, queries: int = QUERIES, sample: int | None = None, seed: int = 0, progress: Progress = no_progress,
) -> Evaluation:
    """Score a table, and measure its loss against a baseline.

    This is `embshrink.evaluate` for tables that are open; see there for the other parameters, the result and the
    errors.

    Parameters
    ----------
    table : LookupTable
        The table to evaluate.
    baseline : LookupTable, optional
        The table that it was made from.
    """
    benchmarks, questions = similarity_benchmarks(pairs), analogy_benchmark(analogies)

    def scorer(source: LookupTable) -> _Scorer:
        return _Scorer(source, FoldedVocabulary(source, restrict_vocab, case_insensitive), dummy4unknown, progress)

    mine = scorer(table)
    similarity = tuple(mine.similarity(benchmark) for benchmark in benchmarks)
    if baseline is None:
        return Evaluation(similarity, analogies=mine.analogies(questions))
    theirs = scorer(baseline)
    return Evaluation(
        similarity,
        baseline_similarity=tuple(theirs.similarity(benchmark) for benchmark in benchmarks),
        common_similarity=_on_common_pairs(mine, theirs, benchmarks),
        analogies=mine.analogies(questions),
        baseline_analogies=theirs.analogies(questions),
        reconstruction=None if table.vector_size != baseline.vector_size else
        reconstruction(table, baseline, sample=sample, seed=seed, weights=zipf_weights(len(baseline))),
        overlap=neighbour_overlap(table, baseline, k=k, queries=queries, seed=seed, progress=progress),
    )


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """A table with its case-folded vocabulary, which all benchmarks share."""

    table: LookupTable
    vocabulary: FoldedVocabulary
    dummy4unknown: bool
    progress: Progress

    def similarity(self, benchmark: WordPairs) -> SimilarityScore:
        return score_pairs(self.table, self.vocabulary, benchmark, self.dummy4unknown)

    def analogies(self, questions: Analogies | None) -> AnalogyScore | None:
        if questions is None:
            return None
        return score_analogies(self.table, self.vocabulary, questions, self.dummy4unknown, self.progress)


def _on_common_pairs(
    mine: _Scorer, theirs: _Scorer, benchmarks: list[WordPairs]
) -> tuple[tuple[SimilarityScore, SimilarityScore], ...]:
    """Return both scores on the pairs known to both tables, for each benchmark of which they know different pairs."""
    scores = []
    for benchmark in benchmarks:
        known = [(mine.vocabulary.find(pair[:2]) is not None, theirs.vocabulary.find(pair[:2]) is not None)
                 for pair in benchmark.pairs]
        if any(here != there for here, there in known):
            both = [pair for pair, (here, there) in zip(benchmark.pairs, known) if here and there]
            common = dataclasses.replace(benchmark, pairs=both)
            scores.append((mine.similarity(common), theirs.similarity(common)))
    return tuple(scores)
