"""Results of an evaluation. Each can be turned into a JSON-able dict."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TypedDict

from embshrink.errors import EmbshrinkError
from embshrink.evaluation.benchmarks import Question


@dataclass(frozen=True)
class _Scores:
    """Base of all results."""

    def as_dict(self) -> dict[str, object]:
        """Return the figures as a JSON-able dict, for ``--json``."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.repr}


def _plain(value: object) -> object:
    if isinstance(value, _Scores):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class SimilarityScore(_Scores):
    """Correlation of a table's word similarities with human judgements.

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

    def as_gensim(self) -> tuple[tuple[float, float], tuple[float, float], float]:
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
    right: list[Question] = dataclasses.field(repr=False)
    wrong: list[Question] = dataclasses.field(repr=False)


class GensimSection(TypedDict):
    """Questions of a section, as gensim's ``evaluate_word_analogies`` returns them."""

    section: str
    correct: list[Question]
    incorrect: list[Question]


@dataclass(frozen=True)
class AnalogyScore(_Scores):
    """Analogy questions answered right.

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
    sections: tuple[AnalogySection, ...]

    def as_gensim(self) -> tuple[float, list[GensimSection]]:
        """Return accuracy, 0 if no question counts, and the sections' questions; the last section has all of them."""
        sections: list[GensimSection] = [
            {"section": section.name, "correct": section.right, "incorrect": section.wrong}
            for section in self.sections
        ]
        total: GensimSection = {
            "section": "Total accuracy",
            "correct": [question for section in self.sections for question in section.right],
            "incorrect": [question for section in self.sections for question in section.wrong],
        }
        return self.accuracy or 0.0, [*sections, total]


@dataclass(frozen=True)
class Reconstruction(_Scores):
    """How close the vectors are to those of the baseline, over the words that both tables have.

    Parameters
    ----------
    words : int
        Words compared.
    coverage : float
        Share of the baseline's words that the table has.
    relative_error : float or None
        ``||X - X^||^2 / ||X - mean||^2``, where X are the baseline's vectors and X^ the table's; None if the
        baseline's are all equal and the table's differ from them.
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
    """Share of nearest neighbours that two tables agree on, over the words that both have.

    Parameters
    ----------
    k : int
        Neighbours of each word, the word itself left out.
    overlap, first_decile : float
        Mean and first decile, over the queries, of the share of neighbours in common.
    queries : int
        Words whose neighbours were compared.
    words : int
        Words that could be neighbours.
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
        Table and baseline on the pairs that both know, for each benchmark where they know different pairs:
        correlations over different pairs cannot be compared.
    analogies, baseline_analogies : AnalogyScore or None
    reconstruction : Reconstruction or None
    overlap : Overlap or None
    """

    similarity: tuple[SimilarityScore, ...]
    baseline_similarity: tuple[SimilarityScore, ...] = ()
    common_similarity: tuple[tuple[SimilarityScore, SimilarityScore], ...] = ()
    analogies: AnalogyScore | None = None
    baseline_analogies: AnalogyScore | None = None
    reconstruction: Reconstruction | None = None
    overlap: Overlap | None = None

    def of_baseline(self) -> Evaluation:
        """Return the baseline's own scores, to be shown beside the table's."""
        return Evaluation(self.baseline_similarity, analogies=self.baseline_analogies)
