"""Nearest words of many queries at once: an exact blocked search that decodes the table once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import BLOCK_ROWS, blocks, map_blocks, one_blas_thread
from embshrink.numerics.progress import Progress
from embshrink.storage.arrays import FloatArray, IntArray

DECODE_NUMBERS = 1 << 20  # decoded at a time; their number fixes the order in which sums are taken
TILE_ROWS, TILE_VECTORS = 1024, 64  # of a block of products that fits a thread's cache
SPREAD_QUERIES = 64  # whose words are sorted at a time, k * k each
LOWEST = np.float32(np.finfo(np.float32).min)  # below any score


@dataclass(frozen=True)
class Queries:
    """Signed sums of shared vectors: query i is ``sum(signs[t] * vectors[terms[i, t]])``.

    Queries share their vectors, so that it is cheaper to add products than to multiply sums.

    Parameters
    ----------
    vectors : numpy.ndarray, shape (w, d), float32
    terms : numpy.ndarray, shape (q, t), int64
    signs : numpy.ndarray, shape (t,), float32
    """

    vectors: FloatArray
    terms: IntArray
    signs: FloatArray

    def __len__(self) -> int:
        return len(self.terms)


def rows_at_once(table: LookupTable) -> int:
    """Return how many vectors of a table to decode at a time."""
    return max(1, min(BLOCK_ROWS, DECODE_NUMBERS // table.vector_size))


def neighbours_of_words(table: LookupTable, ids: IntArray, asked: IntArray, k: int, progress: Progress) -> IntArray:
    """Return the k nearest words of words, each word itself left out.

    Parameters
    ----------
    table : LookupTable
    ids : numpy.ndarray, shape (n,), int64
        The words that can be neighbours.
    asked : numpy.ndarray, shape (q,), int64
        Places in `ids` of the words whose neighbours are wanted.
    k : int
        Below n.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    numpy.ndarray, shape (q, k), int64
        Places in `ids`, as those of `top_neighbours`.
    """
    queries = Queries(unit_rows(table.decode_ids(ids[asked])), np.arange(len(asked), dtype=np.int64)[:, None],
                      np.ones(1, np.float32))
    nearest = top_neighbours(table, ids, queries, k + 1, progress)
    itself_last = np.argsort(nearest == asked[:, None], axis=1, kind="stable")
    return np.take_along_axis(nearest, itself_last[:, :k], 1)


def top_neighbours(table: LookupTable, ids: IntArray, queries: Queries, k: int, progress: Progress) -> IntArray:
    """Return the k words with the highest product of unit vector and query.

    Parameters
    ----------
    table : LookupTable
    ids : numpy.ndarray, shape (n,), int64
        The words that can be neighbours.
    queries : Queries
        q of them, of the table's vector size.
    k : int
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    numpy.ndarray, shape (q, k), int64
        Places in `ids`, best first, the lower place first on a tie; -1 where there are fewer than k words.
    """
    from embshrink.kernels.top import keep_top

    firsts, groups = _distinct_vectors(table, ids)
    scores = np.full((len(queries), k), LOWEST, np.float32)
    best = np.full((len(queries), k), -1, np.int64)

    def compete(units: FloatArray, first: int) -> None:
        """Let the vectors `units`, numbered from `first`, compete for the best of every query."""

        def work(start: int, stop: int) -> None:
            distinct, places = np.unique(queries.terms[start:stop], return_inverse=True)
            places = places.reshape(stop - start, -1)
            for low, high in blocks(len(units), TILE_ROWS):
                products = queries.vectors[distinct] @ units[low:high].T
                keep_top(products, places, queries.signs, first + low, scores[start:stop], best[start:stop])

        # so many queries that they use about TILE_VECTORS distinct vectors
        map_blocks(work, len(queries), TILE_VECTORS * -(-len(queries) // max(1, len(queries.vectors))))

    with one_blas_thread():
        for start, stop in blocks(len(firsts), rows_at_once(table)):
            compete(unit_rows(table.decode_ids(ids[firsts[start:stop]])), start)
            progress("neighbours", stop, len(firsts))
    return best if groups is None else _spread(scores, best, groups)


@dataclass(frozen=True)
class _Groups:
    """Words that share a vector's direction: ``members[starts[g]:starts[g + 1]]`` are those of group g, ascending."""

    members: IntArray
    starts: IntArray


def _distinct_vectors(table: LookupTable, ids: IntArray) -> tuple[IntArray, _Groups | None]:
    """Group words that share a vector's direction, so that it is scored once and they tie exactly.

    Returns
    -------
    firsts : numpy.ndarray, shape (m,), int64
        The first place in `ids` of each group, ascending.
    groups : _Groups or None
        Places in `ids`; None where every word is a group of its own.
    """
    rows, scale = table.row_map, table.scale
    if rows is None:
        return np.arange(len(ids), dtype=np.int64), None
    keys = rows[ids].astype(np.int64)
    if scale is not None:  # a negative or zero factor makes another direction
        keys = 3 * keys + np.sign(scale[ids]).astype(np.int64)
    _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    groups = np.argsort(order)[groups]
    starts = np.append(0, np.cumsum(np.bincount(groups, minlength=len(order))))
    return firsts[order], _Groups(np.argsort(groups, kind="stable"), starts)


def _spread(scores: FloatArray, best: IntArray, groups: _Groups) -> IntArray:
    """Turn the best groups of each query, (q, k), into its best words, (q, k).

    k groups are enough: they are sorted by score and then by first member, so each group left out
    has k words before it.
    """
    k = best.shape[1]
    words = np.empty_like(best)
    for low, high in blocks(len(best), SPREAD_QUERIES):
        group = best[low:high, :, None]
        place = groups.starts[group] + np.arange(k)
        there = (group >= 0) & (place < groups.starts[group + 1])
        word = groups.members[np.where(there, place, 0)].reshape(high - low, -1)
        score = np.where(there, scores[low:high, :, None], LOWEST).reshape(high - low, -1)
        order = np.lexsort((word, -score), axis=-1)[:, :k]
        word, score = np.take_along_axis(word, order, 1), np.take_along_axis(score, order, 1)
        words[low:high] = np.where(score == LOWEST, -1, word)
    return words
