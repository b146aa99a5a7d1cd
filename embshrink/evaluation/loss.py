"""Loss of a table against its baseline: reconstruction error and changed neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.errors import EmbshrinkError, ShapeError
from embshrink.evaluation import QUERIES
from embshrink.evaluation.neighbour_sample import NeighbourSample, draw, sample_neighbours
from embshrink.evaluation.neighbours import neighbours_of_words, rows_at_once
from embshrink.evaluation.scores import Overlap, Reconstruction
from embshrink.evaluation.vocabulary import check_count
from embshrink.numerics.parallel import map_blocks
from embshrink.numerics.progress import Progress, count_progress, no_progress
from embshrink.storage.arrays import DoubleArray, IntArray
from embshrink.vocabulary.words import to_text

EQUAL = 1e-24  # of the squares: a smaller variance is rounding, for float32 rows that differ at all have a larger one
CommonIds: TypeAlias = tuple[IntArray, IntArray]  # ids of the same words in a table and in its baseline


def reconstruction(
    table: LookupTable, baseline: LookupTable, *, sample: int | None = None, seed: int = 0,
    common: CommonIds | None = None, weights: DoubleArray | None = None, progress: Progress = no_progress,
) -> Reconstruction:
    """Compare each word's vector with its vector in the baseline.

    Parameters
    ----------
    table, baseline : LookupTable
        Tables of equal dimension. `embshrink.as_embeddings` makes one from a path or `WordVectors`.
    sample : int, optional
        Number of common words to compare, drawn at random; None for all.
    seed : int, default 0
        Seed of the random draw.
    common : tuple of numpy.ndarray, shape (n,), int64, optional
        Ids in `table` and in `baseline` of the words that both have, in the order of the latter; None to find them
        by name.
    weights : numpy.ndarray of float64, shape (len(baseline),), optional
        Frequency of each word of the baseline, for the weighted error.
    progress : callable
        ``progress("reconstruction", done, total)``, in words.

    Returns
    -------
    Reconstruction
        Sums are taken in float64 and in a fixed order.

    Raises
    ------
    ShapeError
        If the tables differ in dimension.
    EmbshrinkError
        If the tables have no word in common, or `sample` is below 1.
    """
    if table.vector_size != baseline.vector_size:
        raise ShapeError("the table and the baseline differ in dimension", expected=baseline.vector_size,
                         found=table.vector_size, hint="Use neighbour_overlap, which allows different dimensions.")
    check_count("sample", sample)
    ids, base_ids = common_words(table, baseline) if common is None else common
    coverage = len(ids) / len(baseline)
    if sample is not None:
        chosen = draw(len(ids), sample, seed)
        ids, base_ids = ids[chosen], base_ids[chosen]
    order = np.argsort(ids)  # so that what is stored in blocks is decoded once
    ids, base_ids = ids[order], base_ids[order]
    worth = np.ones(len(ids)) if weights is None else weights[base_ids]
    found = _differences(table, baseline, ids, base_ids, worth, progress)
    ties = np.flatnonzero(found.cosines == found.cosines.min())
    worst = int(ties[np.argmin(base_ids[ties])])
    return Reconstruction(
        words=len(ids), coverage=coverage,
        relative_error=_ratio(*found.sums[:3]),
        weighted_error=None if weights is None else _ratio(*found.sums[3:]),
        mean_cosine=float(found.cosines.mean()), cosine_p1=float(np.percentile(found.cosines, 1)),
        worst_cosine=float(found.cosines[worst]), worst_word=table.words[int(ids[worst])], zero_words=found.zeros,
    )


def _ratio(error: float, spread: float, size: float) -> float | None:
    """Return an error as a share of the variance; None if only the latter is 0, or is rounding beside the squares."""
    if spread > EQUAL * size:
        return float(error) / float(spread)
    return None if error else 0.0


class _Differences(NamedTuple):
    """Differences of rows y from baseline rows x.

    Parameters
    ----------
    sums : numpy.ndarray of float64, shape (6,)
        Sums of ||x - y||^2, ||x - mean||^2 and ||x||^2, then the same with weighted rows and the weighted mean.
    cosines : numpy.ndarray of float64, shape (n,)
    zeros : int
        Number of zero rows x.
    """

    sums: DoubleArray
    cosines: DoubleArray
    zeros: int


def _differences(
    table: LookupTable, baseline: LookupTable, ids: IntArray, base_ids: IntArray, weights: DoubleArray,
    progress: Progress,
) -> _Differences:
    """Compare the vectors with these ids. The means are computed first: sums of squares about 0 would lose digits."""
    n, size = len(ids), rows_at_once(baseline)

    def add(start: int, stop: int) -> DoubleArray:
        rows = baseline.decode_ids(base_ids[start:stop]).astype(np.float64)
        return np.stack([rows.sum(axis=0), np.einsum("i,ij->j", weights[start:stop], rows)])

    totals = sum(map_blocks(add, n, size), np.zeros((2, baseline.vector_size)))
    mean, weighted_mean = totals[0] / n, totals[1] / (weights.sum() or 1)

    def compare(start: int, stop: int) -> _Differences:
        x = baseline.decode_ids(base_ids[start:stop]).astype(np.float64)
        y = table.decode_ids(ids[start:stop]).astype(np.float64)
        lengths = np.linalg.norm(x, axis=1)
        product = lengths * np.linalg.norm(y, axis=1)
        cosines = np.einsum("ij,ij->i", x, y) / np.where(product > 0, product, 1)
        worth, lost = weights[start:stop], ((x - y) ** 2).sum(axis=1)
        spread = ((x - weighted_mean) ** 2).sum(axis=1)
        squares = lengths ** 2
        sums = np.array([lost.sum(), ((x - mean) ** 2).sum(), squares.sum(),
                         (worth * lost).sum(), (worth * spread).sum(), (worth * squares).sum()])
        return _Differences(sums, np.clip(cosines, -1, 1), int(np.count_nonzero(lengths == 0)))

    parts = map_blocks(compare, n, size, count_progress(progress, "reconstruction", n))
    return _Differences(sum((part.sums for part in parts), np.zeros(6)),
                        np.concatenate([part.cosines for part in parts]), sum(part.zeros for part in parts))


def neighbour_overlap(
    table: LookupTable, baseline: LookupTable, *, k: int = 10, queries: int = QUERIES, seed: int = 0,
    restrict_vocab: int | None = None, common: CommonIds | None = None, sample: NeighbourSample | None = None,
    progress: Progress = no_progress,
) -> Overlap:
    """Compare the nearest neighbours of words in two tables.

    Parameters
    ----------
    table, baseline : LookupTable
        Tables, which may differ in dimension. `embshrink.as_embeddings` makes one from a path or `WordVectors`.
    k : int, default 10
        Number of nearest neighbours of each word by cosine, among the words that both tables have.
    queries : int, default 1600
        Number of words whose neighbours are compared, drawn at random from the common words; all if there are fewer.
    seed : int, default 0
        Seed of the random draw.
    restrict_vocab : int, optional
        Use only the first `restrict_vocab` common words, in the order of the baseline; None for all.
    common : tuple of numpy.ndarray of int64, shape (n,), optional
        Ids, in `table` and in `baseline`, of the words that both have, in the order of the baseline. By default they
        are found by name.
    sample : NeighbourSample, optional
        Words of the baseline with at least `k` nearest neighbours, drawn and searched before. All of its words must
        be common words. By default `queries` words are drawn with `seed`.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    Overlap
        Words with equal vectors in the baseline count as one. If neighbours have equal cosines, the word that comes
        first counts as nearer.

    Raises
    ------
    EmbshrinkError
        If the tables have fewer than two words in common, or a number is below 1.
    """
    for name, value in (("k", k), ("queries", queries), ("restrict_vocab", restrict_vocab)):
        check_count(name, value)
    ids, base_ids = common_words(table, baseline) if common is None else common
    coverage = len(ids) / len(baseline)
    ids, base_ids = ids[:restrict_vocab], base_ids[:restrict_vocab]
    if len(ids) < 2:
        raise EmbshrinkError("neighbour overlap needs at least two words that both tables have", found=len(ids),
                             hint="Check that the baseline is the right one, or raise restrict_vocab.")
    if sample is None:  # the same words for every table with this baseline
        sample = sample_neighbours(baseline, base_ids, queries=queries, count=k, seed=seed,
                                   progress=lambda stage, *done: progress(f"{stage} of the baseline", *done))
    k = min(k, sample.nearest.shape[1])
    own = ids[np.searchsorted(base_ids, sample.ids)]
    order = np.argsort(own)  # so that what is stored in blocks is decoded once
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    here = order[neighbours_of_words(table, own[order], places[sample.asked], k, progress)]
    there = sample.nearest[:, :k]
    shares = np.array([len(set(a) & set(b)) for a, b in zip(here.tolist(), there.tolist())]) / max(k, 1)
    spread = float(shares.std(ddof=1)) if len(shares) > 1 else 0.0
    left_out = 1 - len(shares) / len(own)  # if all words are compared, there is nothing to estimate
    return Overlap(k=k, overlap=float(shares.mean()), first_decile=float(np.percentile(shares, 10)),
                   standard_error=spread * math.sqrt(left_out / len(shares)), queries=len(shares), words=len(own),
                   coverage=coverage)


def common_words(table: LookupTable, baseline: LookupTable) -> CommonIds:
    """Return the ids, in both tables, of the words that both have, in the order of the baseline.

    Raises
    ------
    EmbshrinkError
        If the tables have no word in common.
    """
    if len(table.words) and table.words.equals(baseline.words.in_memory()):
        same = np.arange(len(table.words), dtype=np.int64)
        return same, same
    words, base = table.words.raw, baseline.words.raw
    index = {word: i for i, word in enumerate(words)}
    ids = np.array([index.get(word, -1) for word in base], np.int64)
    base_ids = np.flatnonzero(ids >= 0)
    if not len(base_ids):
        raise EmbshrinkError("the table and the baseline have no word in common",
                             found=" and ".join(repr(to_text(some[0])) for some in (words, base) if some) + " first",
                             hint="Check that the baseline is the right one.")
    return ids[base_ids], base_ids
