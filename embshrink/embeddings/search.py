"""Nearest neighbours and analogies, by an index or in blocks of rows; the table is never decoded as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from embshrink.embeddings.index import MOST_FOUND
from embshrink.embeddings.table import Key
from embshrink.errors import EmbshrinkError
from embshrink.numerics.arrays import (
    LONGEST,
    SHORTEST,
    comparable_rows,
    row_norms,
    stable_product,
    unit_rows,
    within_one,
)
from embshrink.numerics.parallel import blocks, run_blocks
from embshrink.vocabulary.words import warn_if_moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embshrink.embeddings.index import Index, IndexedTable
    from embshrink.storage.arrays import FloatArray, IntArray, RealArray

    class SearchTable(IndexedTable, Protocol):
        """The attributes and methods of a table that search uses."""

        @property
        def index(self) -> Index | None:
            """The index of its rows, or None if it has not been made."""

        def index_for(self, queries: int = 1, /) -> Index | None:
            """Return the index, which is made if that is worth it for this number of queries; or None."""

        def __contains__(self, key: object, /) -> bool: ...

        def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
            """Yield (first row, decoded rows) over all stored rows."""

        def find(self, key: object, /) -> int:
            """Return the id of a word, or an id itself; -1 for anything else."""

        def id_of(self, key: object, /) -> int:
            """Return the id of a word, or an id itself; raise KeyError if there is none."""

        def get_vector(self, key: Key, norm: bool = False) -> FloatArray:
            """Return the vector of a word, if necessary made of n-grams; raise KeyError if it is missing."""

        def vectors_for(self, words: Iterable[Key], *, norm: bool = False) -> FloatArray:
            """Return the vectors of k words, (k, d)."""


Item: TypeAlias = "Key | RealArray"  # a word or its id, or a vector (d,)
Items: TypeAlias = "Item | tuple[Item, float] | Iterable[Item | tuple[Item, float]]"
Found: TypeAlias = "tuple[IntArray, FloatArray]"  # ids and cosines, best first

BATCH_VALUES = 1 << 24
BATCH_QUERIES = 8  # queries that one pass over an index answers: more would not be faster
FEW = 1000  # up to this many scores, sorting all is faster than partitioning first


def query_vector(
    emb: SearchTable, items: Iterable[Item], weights: Sequence[float] | RealArray, normalize: bool = True
) -> FloatArray:
    """Return the weighted sum of words and vectors, (dim,) float32.

    Parameters
    ----------
    emb : Embeddings
        The table.
    items : iterable of str, bytes or numpy.ndarray
        Words, and vectors of shape (dim,).
    weights : sequence of float
        One weight for each item.
    normalize : bool, default True
        Bring the vector of each word to length 1 first. Vectors that are given as arrays are used as they are.

    Raises
    ------
    KeyError
        If a word is missing.
    ValueError
        If a vector has another shape.
    """
    return _sum(emb, _look_up(emb, items, normalize)[0], weights)


def _look_up(emb: SearchTable, items: Iterable[Item], normalize: bool = True) -> tuple[list[RealArray], set[int]]:
    """Return the vectors of words and vectors, and the ids of the words that are in the vocabulary."""
    vectors: list[RealArray] = []
    ids: set[int] = set()
    for item in items:
        if isinstance(item, np.ndarray):
            if item.shape != (emb.vector_size,):
                raise ValueError(f"expected a vector of shape ({emb.vector_size},), found {item.shape}")
            vectors.append(item)
            continue
        index = emb.find(item)
        if index < 0:
            vectors.append(emb.get_vector(item, norm=normalize))
            continue
        ids.add(index)
        vector = _vector(emb, index)
        vectors.append(_unit(vector) if normalize else vector)
    return vectors, ids


def _vector(emb: SearchTable, index: int) -> FloatArray:
    if emb.index is None or emb.index.words is not None:
        vectors = emb.decode_ids([index])
    else:
        vectors = _decoder(emb)(np.array([index]))  # each word has its own row
    vector: FloatArray = vectors[0]
    return vector


def _decoder(emb: SearchTable) -> Callable[[IntArray], FloatArray]:
    """Return the fastest function that decodes rows: that of an index of codes, if there is one."""
    decode = None if emb.index is None else emb.index.rows.decode
    return emb.decode_rows if decode is None else decode


def _sum(emb: SearchTable, vectors: Sequence[RealArray], weights: Sequence[float] | RealArray) -> FloatArray:
    if len(vectors) == 1 and weights[0] == 1:  # one word, the usual case
        return vectors[0].astype(np.float32)
    total = np.zeros(emb.vector_size, np.float32)
    for vector, weight in zip(vectors, weights):
        total += np.float32(weight) * vector
    return total


def row_cosines(emb: SearchTable, queries: Sequence[RealArray] | RealArray) -> FloatArray:
    """Return the cosine of vectors to every stored row, (q, rows) float32; 0 if a vector or row is zero.

    Parameters
    ----------
    emb : Embeddings
        The table.
    queries : numpy.ndarray of float32, shape (q, dim)
        The vectors.

    Notes
    -----
    Decodes 16,384 rows at a time, fewer if they are very long.
    """
    units = [_unit(query) for query in queries]
    cosines = np.empty((len(units), emb.n_rows), np.float32)

    def work(start: int, stop: int) -> None:
        vectors, norms = _with_norms(emb.decode_rows(np.arange(start, stop)))
        for place, unit in enumerate(units):
            cosines[place, start:stop] = _cosines(vectors, norms, unit)

    run_blocks(work, emb.n_rows, emb.block_rows)
    return cosines


def _unit(query: RealArray) -> FloatArray:
    unit: FloatArray = unit_rows(np.ascontiguousarray(query, np.float32)[None])[0]
    return unit


def _with_norms(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return vectors, (k, d), and their lengths, (k,), with 1 for a length of 0; extreme vectors get length 1."""
    vectors = np.ascontiguousarray(vectors)
    norms = row_norms(vectors)
    if not ((norms >= SHORTEST) & (norms <= LONGEST)).all():
        vectors = comparable_rows(vectors)
        norms = row_norms(vectors)
        norms[norms == 0] = 1
    return vectors, norms


def _cosines(vectors: FloatArray, norms: FloatArray, unit: FloatArray) -> FloatArray:
    """Return the cosines of vectors to a unit vector, (k,); the bits of each do not depend on the other vectors."""
    return within_one(stable_product(vectors, unit[:, None])[:, 0] / norms)


def word_cosines(emb: SearchTable, query: RealArray) -> FloatArray:
    """Return the cosine of a vector to every word, (n,) float32; raise EmbshrinkError if there are no words."""
    if not len(emb):
        raise EmbshrinkError("there are no words to search: the table has n-grams only",
                             hint="Look up vectors with get, or compare words with emb.distances(word, other_words).")
    return _of_words(emb, row_cosines(emb, query[None])[0])


def _of_words(emb: SearchTable, cosines: FloatArray) -> FloatArray:
    """Return the cosines of words, (n,) float32, given those of rows."""
    rows, scale = emb.row_map, emb.scale
    if rows is None:
        return cosines
    cosines = cosines[rows]
    if scale is not None:  # a zero scale is a zero vector
        cosines[scale == 0] = 0
    return cosines


def top(scores: FloatArray, topn: int) -> IntArray:
    """Return the positions of the `topn` highest scores: the highest first, equal ones by position, NaN last.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
        The scores.
    topn : int
        Number of positions.
    """
    topn = min(topn, len(scores))
    if topn <= 0:
        return np.zeros(0, np.int64)
    negated = -scores
    if len(scores) < FEW:
        return negated.argsort(kind="stable")[:topn]
    worst = np.partition(negated, topn - 1)[topn - 1]
    places = np.flatnonzero(~(negated > worst))  # NaN, which sorts last, may be the worst
    return places[np.argsort(negated[places], kind="stable")[:topn]]


def nearest(
    emb: SearchTable, query: RealArray, topn: int, start: int = 0, stop: int | None = None,
    without: Collection[int] = (),
) -> Found:
    """Return ids and cosines of the words nearest to a vector: the highest cosine first, equal ones by id.

    Parameters
    ----------
    emb : Embeddings
        The table.
    query : numpy.ndarray of float32, shape (dim,)
        The vector.
    topn : int
        Number of neighbours.
    start, stop : int, optional
        Search only the words with ids from `start` to ``stop - 1``; all by default.
    without : collection of int, optional
        Ids of words to leave out.

    Returns
    -------
    ids : numpy.ndarray of int64, shape (k,)
        Ids of the words, k being at most `topn`.
    cosines : numpy.ndarray of float32, shape (k,)
        Their cosines.

    Notes
    -----
    With an index (see `embshrink.embeddings.index`), only rows that may be among the nearest are decoded. Ids and
    cosines are equal, to the last bit, to those found by decoding all rows.
    """
    start, stop = max(start, 0), len(emb) if stop is None else min(max(stop, 0), len(emb))
    return _nearest(emb, [query], topn, start, stop, [without])[0]


def _nearest(
    emb: SearchTable, queries: Sequence[RealArray], topn: int, start: int, stop: int,
    without: Sequence[Collection[int]],
) -> list[Found]:
    """Return ids and cosines for each query, as `nearest` does; `without` has ids to leave out for each."""
    candidates = _candidates(emb, [_unit(query) for query in queries], topn + max(map(len, without)), start, stop)
    answers = []
    for query, found, left_out in zip(queries, candidates, without):
        ids, cosines = found or (np.arange(start, stop), word_cosines(emb, query)[start:stop])
        answers.append(_best(ids, cosines, topn, left_out))
    return answers


def _best(ids: IntArray, cosines: FloatArray, topn: int, without: Collection[int]) -> Found:
    best = top(cosines, topn + len(without))
    places = [place for place, index in zip(best.tolist(), ids[best].tolist()) if index not in without]
    left = np.array(places[: max(topn, 0)], np.int64)
    return ids[left], cosines[left]


def nearest_batch(
    emb: SearchTable, queries: Sequence[Item] | RealArray, topn: int = 10, restrict_vocab: int | None = None
) -> Found:
    """Return ids and cosines of the words nearest to each of several words or vectors.

    See `embshrink.Embeddings.nearest`.

    Notes
    -----
    One pass over an index answers 8 queries. Without an index, rows are decoded once for as many queries as 64 MiB of
    cosines allow.
    """
    if isinstance(queries, (str, bytes)) or (isinstance(queries, np.ndarray) and queries.ndim != 2):
        given = f"shape {queries.shape}" if isinstance(queries, np.ndarray) else f"one {type(queries).__name__}"
        raise ValueError("expected a list of words or vectors, or an array of shape "
                         f"(q, {emb.vector_size}), found {given}")
    if not isinstance(topn, (int, np.integer)) or topn < 0:
        raise ValueError(f"topn must be a whole number of at least 0, found {topn!r}")
    warn_if_moved(emb.words, restrict_vocab)
    found = [_look_up(emb, [item]) for item in queries]
    stop = len(emb) if restrict_vocab is None else min(restrict_vocab, len(emb))
    ids, cosines = np.full((len(found), topn), -1), np.full((len(found), topn), np.nan, np.float32)

    def keep(place: int, best: Found) -> None:
        ids[place, : len(best[0])], cosines[place, : len(best[0])] = best

    if not len(emb) or (emb.index_for(len(found)) is not None and topn < MOST_FOUND):
        for first, last in blocks(len(found), BATCH_QUERIES):
            vectors = [query for (query,), _ in found[first:last]]
            without = [given for _, given in found[first:last]]
            for place, best in enumerate(_nearest(emb, vectors, topn, 0, stop, without), first):
                keep(place, best)
        return ids, cosines
    for first, last in blocks(len(found), max(1, BATCH_VALUES // max(emb.n_rows, 1))):
        part = row_cosines(emb, [query for (query,), _ in found[first:last]])
        for place in range(first, last):
            scores = _of_words(emb, part[place - first])[:stop]
            keep(place, _best(np.arange(stop), scores, topn, found[place][1]))
    return ids, cosines


def _candidates(
    emb: SearchTable, units: Sequence[FloatArray], count: int, start: int, stop: int
) -> list[Found | None]:
    """Return, for each query, the words that may be among the nearest, by id, and their cosines.

    None if all words must be compared: without an index, or if the index cannot narrow the search.
    """
    index = emb.index_for()
    if index is None:
        return [None] * len(units)
    decode = _decoder(emb)
    answers = index.candidates(units[0][None] if len(units) == 1 else np.array(units), count, start, stop)
    found: list[Found | None] = [None] * len(units)
    usual = [(place, rows) for place, rows in enumerate(answers) if rows is not None]
    cosines_of_rows = _cosines_to(decode, [rows for _, rows in usual], [units[place] for place, _ in usual],
                                  emb.block_rows)
    for (place, rows), cosines in zip(usual, cosines_of_rows):
        found[place] = (rows, cosines) if index.words is None else index.words.spread(
            rows, cosines, start, stop, count)
    return found


def _cosines_to(
    decode: Callable[[IntArray], FloatArray], rows: Sequence[IntArray], units: Sequence[FloatArray], size: int
) -> list[FloatArray]:
    """Return the cosines of rows to a unit vector, for each of several; decode `size` rows at a time."""
    if len(rows) > 1 and sum(map(len, rows)) <= size:  # few rows: decode all at once
        vectors, norms = _with_norms(decode(np.concatenate(rows)))
        ends = np.cumsum([len(own) for own in rows])
        return [_cosines(vectors[end - len(own) : end], norms[end - len(own) : end], unit)
                for own, end, unit in zip(rows, ends.tolist(), units)]
    found = []
    for own, unit in zip(rows, units):
        parts = [_cosines(*_with_norms(decode(own[first : first + size])), unit)
                 for first in range(0, max(len(own), 1), size)]
        found.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return found


def most_similar(
    emb: SearchTable, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
    clip_start: int = 0, clip_end: int | None = None, restrict_vocab: int | None = None,
) -> list[tuple[str, float]] | FloatArray:
    """Return the words whose vectors have the highest cosine similarity to a sum of words and vectors.

    See `embshrink.Embeddings.most_similar`.

    Notes
    -----
    The second search in 20,000 rows or more decodes all of them and keeps an index in memory. With codes of 4 bits
    (pq, iiq, scalar), it takes the bytes of the codes and 2 bytes per row; so it does with codes of 8 bits of pq, if
    there is at most one code for two dimensions and the processor has AVX-512 VBMI. Else it takes dim + 8 bytes per
    row, or one more (see `embshrink.embeddings.index`). Packed words take about 20 bytes per word. In 400,000 words
    of 50 dimensions, a search takes at most 0.5 ms with codes of 4 bits, else up to 2.5 ms. `Embeddings.close`
    releases all of this memory. Without numba, the first search in 1,000 rows or more makes the index, which takes
    dim + 8 bytes per row.
    """
    if not (topn is None or isinstance(topn, (int, np.integer))):
        raise TypeError(f"topn must be a whole number or None, not {type(topn).__name__}")
    if topn is not None and topn < 1:
        return []
    items, weights = _terms(positive, negative)
    warn_if_moved(emb.words, restrict_vocab or clip_end)
    vectors, given = _look_up(emb, items)
    query = _sum(emb, vectors, weights)
    start, stop, _ = slice(0 if restrict_vocab else clip_start, restrict_vocab or clip_end or None).indices(len(emb))
    if topn is None or not len(emb):
        return word_cosines(emb, query)[start:stop]
    ids, cosines = nearest(emb, query, topn, start, stop, given)
    return [(emb.words[index], cosine) for index, cosine in zip(ids.tolist(), cosines.tolist())]


def _terms(positive: Items | None, negative: Items | None) -> tuple[list[Item], list[float]]:
    """Return the words and vectors that are added and subtracted, and their weights."""
    items: list[Item] = []
    weights: list[float] = []
    for side, sign in ((positive, 1.0), (negative, -1.0)):
        for entry in _as_list(side):
            if isinstance(entry, tuple) and len(entry) != 2:
                raise ValueError(f"expected (word or vector, weight), found a tuple of {len(entry)}")
            item, weight = entry if isinstance(entry, tuple) else (entry, sign)
            items.append(item)
            weights.append(weight)
    if not items:
        raise ValueError("expected at least one word or vector: positive and negative are empty")
    return items, weights


def query_of(emb: SearchTable, positive: Items | None = None, negative: Items | None = None) -> FloatArray:
    """Return the vector that `most_similar` searches for, at length 1, (dim,)."""
    return _unit(query_vector(emb, *_terms(positive, negative)))


def most_similar_cosmul(
    emb: SearchTable, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
    restrict_vocab: int | None = None,
) -> list[tuple[str, float]] | FloatArray:
    """Return the words with the highest score by 3CosMul; see `embshrink.Embeddings.most_similar_cosmul`."""
    if topn is not None and topn < 1:
        return []
    if not _as_list(positive):
        raise ValueError("expected at least one word or vector in positive")
    warn_if_moved(emb.words, restrict_vocab)
    items, signs = _terms(positive, negative)
    if any(abs(sign) != 1 for sign in signs):
        raise ValueError("most_similar_cosmul takes words and vectors without weights")
    vectors, given = _look_up(emb, items)
    scores, divisor = np.ones(len(emb), np.float32), np.ones(len(emb), np.float32)
    for cosines, sign in zip(row_cosines(emb, vectors), signs):
        side = scores if sign > 0 else divisor
        side *= (1 + _of_words(emb, cosines)) / 2
    scores /= divisor + np.float32(1e-6)
    scores = scores[: restrict_vocab or None]
    if topn is None:
        return scores
    ids, best = _best(np.arange(len(scores)), scores, topn, given)
    return [(emb.words[index], score) for index, score in zip(ids.tolist(), best.tolist())]


def _as_list(given: Items | None) -> list[Item | tuple[Item, float]]:
    if given is None:
        return []
    if isinstance(given, (str, bytes, int, np.integer, tuple)) or (isinstance(given, np.ndarray) and given.ndim == 1):
        return [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"expected a word, a vector, or a list of these, not {type(given).__name__}")
    return list(given)


def logits(emb: SearchTable, query: RealArray | Sequence[float]) -> FloatArray:
    """Return the dot product of a vector with the vector of every word, (n,) float32.

    See `embshrink.Embeddings.logits`.
    """
    query = np.ascontiguousarray(query, np.float32)
    if query.shape != (emb.vector_size,):
        raise ValueError(f"expected a vector of shape ({emb.vector_size},), found {query.shape}")
    stored = emb.stored
    products = None
    if stored is not None and not stored.columns:
        products = stored.codec.scores(stored.codes, stored.state, query)
    if products is None:
        products = np.empty(emb.n_rows, np.float32)
        for start, block in emb.row_blocks():
            products[start : start + len(block)] = block @ query
    rows, scale = emb.row_map, emb.scale
    if rows is not None:
        products = products[rows]
    return products if scale is None else products * scale


def distances(emb: SearchTable, word_or_vector: Item, other_words: Iterable[Key] | None = ()) -> FloatArray:
    """Return 1 - cosine of a word or vector to `other_words`, or to all; see `embshrink.Embeddings.distances`."""
    query = query_vector(emb, [word_or_vector], [1.0])
    others = [] if other_words is None else list(other_words)
    if others:
        return 1 - within_one(emb.vectors_for(others, norm=True) @ unit_rows(query[None])[0])
    return 1 - word_cosines(emb, query)


def closer_than(emb: SearchTable, first: Key, second: Key) -> list[str]:
    """Return the words that are nearer to `first` than `second` is, by id; distances are compared in float32."""
    itself, limit = emb.id_of(first), emb.id_of(second)
    away = 1 - word_cosines(emb, emb.get_vector(first))
    return [emb.words[index] for index in np.flatnonzero(away < away[limit]).tolist() if index != itself]
