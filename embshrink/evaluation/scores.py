"""Results of an evaluation, each with a method that returns a dict for JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from embshrink.errors import EmbshrinkError
from embshrink.evaluation.benchmarks import Question


@dataclass(frozen=True)
class _Scores:
    """Base class of all results."""

    def as_dict(self) -> dict[str, object]:
        """Return the attributes as a dict that can be written as JSON, as ``--json`` does."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.repr}


def _plain(value: object) -> object:
    if isinstance(value, _Scores):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


class Correlation(NamedTuple):
    """A correlation and its p-value, with the names that scipy and gensim use.

    Attributes
    ----------
    statistic : float
        The correlation, from -1 to 1; NaN if it is not defined.
    pvalue : float
        The two-sided p-value; NaN if it is not defined.
    """

    statistic: float
    pvalue: float

    @property
    def correlation(self) -> float:
        """The same as `statistic`: scipy's old name."""
        return self.statistic


@dataclass(frozen=True)
class SimilarityScore(_Scores):
    """Correlation of cosine similarities with human judgements.

    Attributes
    ----------
    name : str
        Name of the benchmark.
    spearman, pearson : float or None
        Spearman's rho and Pearson's r, from -1 to 1; None if not defined.
    spearman_p, pearson_p : float or None
        Their two-sided p-values; None if not defined.
    pairs_used : int
        Number of pairs that were correlated.
    pairs_total : int
        Number of pairs in the file.
    unknown : int
        Number of pairs with a word that is not in the vocabulary.
    coverage : float
        Share of the pairs with both words in the vocabulary, from 0 to 1.
    shared_rows : int
        Number of pairs of different words that share a stored row and so have a cosine of 1.
    invalid : int
        Number of lines of the file that could not be read.
    vocabulary : int
        Number of words that were used: the first ones of the table.
    reason : str or None
        Why the correlations are not defined.
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

    def as_gensim(self) -> tuple[Correlation, Correlation, float]:
        """Return the result of gensim's ``evaluate_word_pairs``.

        Returns
        -------
        pearson, spearman : Correlation
            Correlation and p-value; NaN if not defined.
        unknown : float
            Percentage of pairs with an unknown word.

        Raises
        ------
        EmbshrinkError
            If no pair could be used. It is a ValueError, as gensim raises.
        """
        if not self.pairs_used:
            raise EmbshrinkError(f"no pair of {self.name} has both words in the vocabulary",
                                 found=f"{self.vocabulary:,} words and {self.pairs_total:,} pairs",
                                 hint="Check the language of the benchmark, or raise restrict_vocab.")
        pearson, pearson_p, spearman, spearman_p = (
            math.nan if value is None else value
            for value in (self.pearson, self.pearson_p, self.spearman, self.spearman_p)
        )
        unknown = 100 * self.unknown / self.pairs_total
        return Correlation(pearson, pearson_p), Correlation(spearman, spearman_p), unknown


@dataclass(frozen=True)
class AnalogySection(_Scores):
    """Correct answers in one section of an analogy benchmark.

    Attributes
    ----------
    name : str
        Name of the section.
    correct : int
        Number of questions that were answered correctly.
    total : int
        Number of questions that count.
    unknown : int
        Number of questions with a word that is not in the vocabulary.
    right, wrong : list of (str, str, str, str)
        The questions that count, by their answers; not in `as_dict`.
    """

    name: str
    correct: int
    total: int
    unknown: int
    right: list[Question] = dataclasses.field(repr=False)
    wrong: list[Question] = dataclasses.field(repr=False)


class GensimSection(TypedDict):
    """Questions of a section as gensim's ``evaluate_word_analogies`` returns them."""

    section: str
    correct: list[Question]
    incorrect: list[Question]


@dataclass(frozen=True)
class AnalogyScore(_Scores):
    """Correct answers to an analogy benchmark.

    Attributes
    ----------
    name : str
        Name of the benchmark.
    accuracy : float or None
        ``correct / total``, from 0 to 1; None if no question counts.
    correct : int
        Number of questions that were answered correctly.
    total : int
        Number of questions that count.
    unknown : int
        Number of questions with a word that is not in the vocabulary.
    coverage : float
        Share of the questions with all words in the vocabulary, from 0 to 1.
    invalid : int
        Number of lines of the file that could not be read.
    vocabulary : int
        Number of words that were used: the first ones of the table.
    sections : tuple of AnalogySection
        The sections in the order of the file.
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
        """Return the result of gensim's ``evaluate_word_analogies``.

        Returns
        -------
        score : float
            The accuracy; 0 if no question counts.
        sections : list of dict
            Questions of each section; the last one, ``"Total accuracy"``, has those of all sections.
        """
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
    """Difference of the vectors from those of the baseline, over the words that both tables have.

    Attributes
    ----------
    words : int
        Number of words that were compared.
    coverage : float
        Share of the words of the baseline that the table has, from 0 to 1.
    relative_error : float or None
        ``||X - X^||^2 / ||X - mean||^2``, where X are the vectors of the baseline and X^ those of the table. None if
        all vectors of the baseline are equal and those of the table differ from them.
    weighted_error : float or None
        The same with each word weighted by its frequency, in the mean too; None if no frequencies were given.
        `embshrink.evaluate` takes Zipf's law by the rank in the baseline.
    mean_cosine, cosine_p1, worst_cosine : float
        Mean, first percentile and minimum of the cosine of the two vectors of each word.
    worst_word : str
        The word with the lowest cosine; the first one of several.
    zero_words : int
        Number of words whose vector in the baseline is zero; their cosine is 0 by convention.
    """

    words: int
    coverage: float
    relative_error: float | None
    weighted_error: float | None
    mean_cosine: float
    cosine_p1: float
    worst_cosine: float
    worst_word: str
    zero_words: int


@dataclass(frozen=True)
class Overlap(_Scores):
    """Share of the nearest neighbours that two tables have in common, over the words that both have.

    Attributes
    ----------
    k : int
        Number of neighbours of each word, without the word itself.
    overlap, first_decile : float
        Mean and first decile, over the queries, of the share of neighbours in common, from 0 to 1.
    standard_error : float
        Of the mean, as an estimate of that of all words; 0 if all words were compared.
    queries : int
        Number of words whose neighbours were compared.
    words : int
        Number of words that could be neighbours.
    coverage : float
        Share of the words of the baseline that the table has, from 0 to 1.
    """

    k: int
    overlap: float
    first_decile: float
    standard_error: float
    queries: int
    words: int
    coverage: float


@dataclass(frozen=True)
class Evaluation(_Scores):
    """Result of `embshrink.evaluate`.

    Attributes
    ----------
    similarity : tuple of SimilarityScore
        Word similarity, one score for each benchmark.
    baseline_similarity : tuple of SimilarityScore
        The same for the baseline; empty without a baseline.
    common_similarity : tuple of (SimilarityScore, SimilarityScore)
        Scores of the table and of the baseline on the pairs that both know, for each benchmark of which they know
        different pairs; correlations over different pairs cannot be compared.
    analogies, baseline_analogies : AnalogyScore or None
        Analogies of the table and of the baseline; None if they were not asked for.
    reconstruction : Reconstruction or None
        Difference of the vectors from those of the baseline; None without a baseline of equal dimension.
    overlap : Overlap or None
        Neighbours in common with the baseline; None without a baseline.
    """

    similarity: tuple[SimilarityScore, ...]
    baseline_similarity: tuple[SimilarityScore, ...] = ()
    common_similarity: tuple[tuple[SimilarityScore, SimilarityScore], ...] = ()
    analogies: AnalogyScore | None = None
    baseline_analogies: AnalogyScore | None = None
    reconstruction: Reconstruction | None = None
    overlap: Overlap | None = None

    def of_baseline(self) -> Evaluation:
        """Return the scores of the baseline as an `Evaluation`."""
        return Evaluation(self.baseline_similarity, analogies=self.baseline_analogies)
