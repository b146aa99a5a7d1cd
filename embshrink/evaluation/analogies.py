"""Analogies by 3CosAdd, with the same answers as gensim."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.evaluation.benchmarks import Analogies, Question, as_analogies
from embshrink.evaluation.neighbours import Queries, top_neighbours
from embshrink.evaluation.scores import AnalogyScore, AnalogySection
from embshrink.evaluation.vocabulary import RESTRICT_VOCAB, FoldedVocabulary
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import IntArray

PREDICTIONS = 5  # number of nearest words that gensim considers, without the words of the question


def analogies(
    table: LookupTable, questions: Analogies | str | os.PathLike[str], *,
    restrict_vocab: int | None = RESTRICT_VOCAB, case_insensitive: bool = True, dummy4unknown: bool = False,
    progress: Progress = no_progress,
) -> AnalogyScore:
    """Answer "a is to b as c is to ?" by the word nearest to ``b - a + c`` (3CosAdd), and count correct answers.

    Parameters
    ----------
    table : LookupTable
        `embshrink.as_embeddings` makes one from a path or `WordVectors`.
    questions : Analogies, str or os.PathLike
        A benchmark; see `embshrink.evaluation.benchmarks.read_analogies`.
    restrict_vocab : int or None, default 300000
        Use only the first `restrict_vocab` words, in questions and as answers; None for all.
    case_insensitive : bool, default True
        Compare words in upper case. If several words are equal in upper case, the first one is used.
    dummy4unknown : bool, default False
        Count questions with an unknown word as wrong instead of leaving them out.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    AnalogyScore
        The score that gensim gives on the same vectors. The answer is the first of the five nearest words other than
        a, b and c that does not differ from these in case only. Words with equal cosines, such as those that share a
        row, are in the order of their ids.

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
    vocabulary = FoldedVocabulary(table, restrict_vocab, case_insensitive)
    return score_analogies(table, vocabulary, as_analogies(questions), dummy4unknown, progress)


def score_analogies(
    table: LookupTable, vocabulary: FoldedVocabulary, benchmark: Analogies, dummy4unknown: bool, progress: Progress,
) -> AnalogyScore:
    """Return the score of a table with a given case-folded vocabulary; see `analogies`."""
    found = [[vocabulary.find(question) for question in questions] for _, questions in benchmark.sections]
    ids = np.array([quad for section in found for quad in section if quad is not None], np.int64).reshape(-1, 4)
    solved = iter(_solve(table, vocabulary, ids, progress) if len(ids) else [])
    sections, fold = [], vocabulary.fold
    for (name, questions), section in zip(benchmark.sections, found):
        right: list[Question] = []
        wrong: list[Question] = []
        for (a, b, c, d), quad in zip(questions, section):
            if quad is not None or dummy4unknown:
                answers = right if quad is not None and next(solved) else wrong
                answers.append((fold(a), fold(b), fold(c), fold(d)))
        sections.append(AnalogySection(name, len(right), len(right) + len(wrong), section.count(None), right, wrong))
    correct, total = sum(section.correct for section in sections), sum(section.total for section in sections)
    return AnalogyScore(
        name=benchmark.name, accuracy=correct / total if total else None, correct=correct, total=total,
        unknown=sum(section.unknown for section in sections), coverage=len(ids) / max(1, len(benchmark)),
        invalid=benchmark.invalid, vocabulary=len(vocabulary), sections=tuple(sections),
    )


def _solve(table: LookupTable, vocabulary: FoldedVocabulary, ids: IntArray, progress: Progress) -> list[bool]:
    """Return whether each question, given by the ids of its words (n, 4), is answered correctly."""
    distinct, places = np.unique(ids[:, :3], return_inverse=True)
    queries = Queries(unit_rows(table.decode_ids(distinct)), places.reshape(-1, 3), np.array([-1, 1, 1], np.float32))
    k = PREDICTIONS + 3  # a, b and c may be among the nearest
    nearest = top_neighbours(table, np.arange(len(vocabulary), dtype=np.int64), queries, k, progress)
    return [_answer(vocabulary, question[:3], near) == vocabulary.words[question[3]]
            for question, near in zip(ids.tolist(), nearest.tolist())]


def _answer(vocabulary: FoldedVocabulary, query: Sequence[int], nearest: Sequence[int]) -> str | None:
    """Return the case-folded answer of gensim, given the ids nearest to the query."""
    asked = {vocabulary.words[i] for i in query}
    answer = None
    for i in [i for i in nearest if i >= 0 and i not in query][:PREDICTIONS]:
        answer = vocabulary.words[i]
        if answer not in asked:
            break
    return answer
