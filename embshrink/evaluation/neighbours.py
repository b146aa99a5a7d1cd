"""Exact nearest neighbours of many queries at once, in blocks of rows, so that the table is decoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import BLOCK_ROWS, blocks, map_blocks, one_blas_thread
from embshrink.numerics.progress import Progress
from embshrink.storage.arrays import FloatArray, IntArray

DECODE_NUMBERS = 1 << 20  # numbers decoded at a time; this fixes the order of summation
TILE_ROWS, TILE_VECTORS = 1024, 64  # size of a block of products that fits the cache of a thread
SPREAD_QUERIES = 64  # queries whose words are sorted at a time, k * k words each
LOWEST = np.float32(np.finfo(np.float32).min)  # below any score


@dataclass(frozen=True)
class Queries:
    """Signed sums of shared vectors: query i is ``sum(signs[t] * vectors[terms[i, t]])``.

    As queries share vectors, adding products of these is cheaper than multiplying by sums.

    Parameters
    ----------
    vectors : numpy.ndarray of float32, shape (w, d)
        The distinct vectors.
    terms : numpy.ndarray of int64, shape (q, t)
        Positions in `vectors` of the terms of each query.
    signs : numpy.ndarray of float32, shape (t,)
        Sign of each term.
    """

    vectors: FloatArray
    terms: IntArray
    signs: FloatArray

    def __len__(self) -> int:
        return len(self.terms)


def rows_at_once(table: LookupTable) -> int:
    """Return the number of vectors of a table to decode at a time."""
    return max(1, min(BLOCK_ROWS, DECODE_NUMBERS // table.vector_size))


def neighbours_of_words(table: LookupTable, ids: IntArray, asked: IntArray, k: int, progress: Progress) -> IntArray:
    """Return the k nearest neighbours of words; a word is not its own neighbour.

    Parameters
    ----------
    table : LookupTable
        The table.
    ids : numpy.ndarray of int64, shape (n,)
        Ids of the words that can be neighbours.
    asked : numpy.ndarray of int64, shape (q,)
        Positions in `ids` of the query words.
    k : int
        Number of neighbours, below n.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    numpy.ndarray of int64, shape (q, k)
        Positions in `ids`, as `top_neighbours` returns them.
    """
    queries = Queries(unit_rows(table.decode_ids(ids[asked])), np.arange(len(asked), dtype=np.int64)[:, None],
                      np.ones(1, np.float32))
    nearest = top_neighbours(table, ids, queries, k + 1, progress)
    itself_last = np.argsort(nearest == asked[:, None], axis=1, kind="stable")
    return np.take_along_axis(nearest, itself_last[:, :k], 1)


def top_neighbours(table: LookupTable, ids: IntArray, queries: Queries, k: int, progress: Progress) -> IntArray:
    """Return the k words with the highest dot product of unit vector and query.

    Parameters
    ----------
    table : LookupTable
        The table.
    ids : numpy.ndarray of int64, shape (n,)
        Ids of the words that can be neighbours.
    queries : Queries
        q queries, of the dimension of the table.
    k : int
        Number of neighbours.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    numpy.ndarray of int64, shape (q, k)
        Positions in `ids`: the highest product first, equal ones by position; -1 if there are fewer than k words.
    """
    from embshrink.kernels.top import keep_top

    firsts, groups = _distinct_vectors(table, ids)
    scores = np.full((len(queries), k), LOWEST, np.float32)
    best = np.full((len(queries), k), -1, np.int64)

    def compete(units: FloatArray, first: int) -> None:
        """Update the best of every query with the vectors `units`, numbered from `first`."""

        def work(start: int, stop: int) -> None:
            distinct, places = np.unique(queries.terms[start:stop], return_inverse=True)
            places = places.reshape(stop - start, -1)
            for low, high in blocks(len(units), TILE_ROWS):
                products = queries.vectors[distinct] @ units[low:high].T
                keep_top(products, places, queries.signs, first + low, scores[start:stop], best[start:stop])

        # queries that together use about TILE_VECTORS distinct vectors
        map_blocks(work, len(queries), TILE_VECTORS * -(-len(queries) // max(1, len(queries.vectors))))

    with one_blas_thread():
        for start, stop in blocks(len(firsts), rows_at_once(table)):
            compete(unit_rows(table.decode_ids(ids[firsts[start:stop]])), start)
            progress("neighbours", stop, len(firsts))
    return best if groups is None else _spread(scores, best, groups)


@dataclass(frozen=True)
class _Groups:
    """Words that share the direction of a vector: ``members[starts[g]:starts[g + 1]]`` of group g, ascending."""

    members: IntArray
    starts: IntArray


def _distinct_vectors(table: LookupTable, ids: IntArray) -> tuple[IntArray, _Groups | None]:
    """Group words that share the direction of a vector, so that it is scored once and they tie exactly.

    Returns
    -------
    firsts : numpy.ndarray of int64, shape (m,)
        The first position in `ids` of each group, ascending.
    groups : _Groups or None
        Positions in `ids`; None if every word is a group of its own.
    """
    rows, scale = table.row_map, table.scale
    if rows is None:
        return np.arange(len(ids), dtype=np.int64), None
    keys = rows[ids].astype(np.int64)
    if scale is not None:  # a negative or zero factor gives another direction
        keys = 3 * keys + np.sign(scale[ids]).astype(np.int64)
    _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    groups = np.argsort(order)[groups]
    starts = np.append(0, np.cumsum(np.bincount(groups, minlength=len(order))))
    return firsts[order], _Groups(np.argsort(groups, kind="stable"), starts)


def _spread(scores: FloatArray, best: IntArray, groups: _Groups) -> IntArray:
    """Return the best words of each query, (q, k), given its best groups, (q, k).

    k groups are enough: they are sorted by score and then by first member, so that k words precede each group that
    is left out.
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
