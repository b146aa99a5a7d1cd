"""Nearest words and analogies, by an index or block by block: a float copy of the whole table is never there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from embshrink.embeddings.index import MOST_FOUND
from embshrink.errors import EmbshrinkError
from embshrink.numerics.arrays import row_norms, stable_product, unit_rows
from embshrink.numerics.parallel import blocks, run_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embshrink.embeddings.index import Index, IndexedTable
    from embshrink.storage.arrays import FloatArray, IntArray, RealArray

    class SearchTable(IndexedTable, Protocol):
        """What search asks of a table."""

        @property
        def index(self) -> Index | None:
            """The index of its rows, where there is one by now."""

        def index_for(self, queries: int = 1, /) -> Index | None:
            """Return the index, made if so many queries are worth it."""

        def __contains__(self, word: str | bytes, /) -> bool: ...

        def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
            """Yield (first row, decoded rows) over all stored rows."""

        def id_of(self, word: str | bytes, /) -> int:
            """Return the id of a word; KeyError where there is none."""

        def get_vector(self, word: str | bytes, norm: bool = False) -> FloatArray:
            """Return the vector of a word, in the vocabulary or made of its n-grams; KeyError where there is none."""

        def vectors_for(self, words: Iterable[str | bytes], *, norm: bool = False) -> FloatArray:
            """Return the vectors of several words, (k, d)."""


Item: TypeAlias = "str | bytes | RealArray"  # a word, or a vector (d,)
Items: TypeAlias = "Item | tuple[Item, float] | Iterable[Item | tuple[Item, float]]"
WordT = TypeVar("WordT", str, bytes)
Found: TypeAlias = "tuple[IntArray, FloatArray]"  # ids and cosines, best first

BATCH_VALUES = 1 << 24
BATCH_QUERIES = 8  # that one pass over an index answers: more would not be faster
FEW = 1000  # are sooner sorted than sifted


def query_vector(
    emb: SearchTable, items: Iterable[Item], weights: Sequence[float] | RealArray, normalize: bool = True
) -> FloatArray:
    """Return the weighted sum of words and vectors, (dim,) float32.

    Parameters
    ----------
    emb : Embeddings
    items : list of str, bytes or numpy.ndarray
    weights : sequence of float
    normalize : bool
        Bring each word's vector to length 1 first; vectors are taken as they are given.

    Raises
    ------
    KeyError
        If a word is missing.
    """
    return _sum(emb, _look_up(emb, items, normalize)[0], weights)


def _look_up(emb: SearchTable, items: Iterable[Item], normalize: bool = True) -> tuple[list[RealArray], set[int]]:
    """Return the vectors of words and vectors, and the set of those words' ids; unseen words have none."""
    vectors: list[RealArray] = []
    ids: set[int] = set()
    for item in items:
        if isinstance(item, np.ndarray):
            if item.shape != (emb.vector_size,):
                raise ValueError(f"expected a vector of shape ({emb.vector_size},), found {item.shape}")
            vectors.append(item)
            continue
        index = emb.words.find(item)
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
        vectors = _decoder(emb)(np.array([index]))  # words have rows of their own
    vector: FloatArray = vectors[0]
    return vector


def _decoder(emb: SearchTable) -> Callable[[IntArray], FloatArray]:
    """Return the fastest way to decode rows: an index of codes has them in memory."""
    decode = None if emb.index is None else emb.index.rows.decode
    return emb.decode_rows if decode is None else decode


def _sum(emb: SearchTable, vectors: Sequence[RealArray], weights: Sequence[float] | RealArray) -> FloatArray:
    if len(vectors) == 1 and weights[0] == 1:  # one word, as most searches are for
        return vectors[0].astype(np.float32)
    total = np.zeros(emb.vector_size, np.float32)
    for vector, weight in zip(vectors, weights):
        total += np.float32(weight) * vector
    return total


def row_cosines(emb: SearchTable, queries: Sequence[RealArray] | RealArray) -> FloatArray:
    """Return the cosine of vectors to every stored row, (q, rows) float32; 0 where either is zero.

    Parameters
    ----------
    emb : Embeddings
    queries : numpy.ndarray, shape (q, dim), float32

    Notes
    -----
    Decodes 16,384 rows at a time, fewer of very long ones.
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
    query = np.ascontiguousarray(query, np.float32)
    return query / (row_norms(query[None])[0] or 1)


def _with_norms(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return vectors, (k, d), and what to divide their products by, (k,)."""
    vectors = np.ascontiguousarray(vectors)
    norms = row_norms(vectors)
    if not norms.all():
        norms[norms == 0] = 1
    return vectors, norms


def _cosines(vectors: FloatArray, norms: FloatArray, unit: FloatArray) -> FloatArray:
    """Return the cosines of vectors to one of length 1, (k,); their bits do not depend on what is beside them."""
    return stable_product(vectors, unit[:, None])[:, 0] / norms


def word_cosines(emb: SearchTable, query: RealArray) -> FloatArray:
    """Return the cosine of a vector to every word, (n,) float32; EmbshrinkError where there are no words."""
    if not len(emb):
        raise EmbshrinkError("there are no words to search: the table holds n-grams alone",
                             hint="Look words up, or compare some of your own: emb.distances(word, others).")
    return _of_words(emb, row_cosines(emb, query[None])[0])


def _of_words(emb: SearchTable, cosines: FloatArray) -> FloatArray:
    """Return words' cosines, (n,) float32, given those of rows."""
    rows, scale = emb.row_map, emb.scale
    if rows is None:
        return cosines
    cosines = cosines[rows]
    if scale is not None:  # a zero scale is a zero vector
        cosines[scale == 0] = 0
    return cosines


def top(scores: FloatArray, topn: int) -> IntArray:
    """Return the places of the `topn` highest scores, best first, the lower place first on a tie, NaN last.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
    topn : int
    """
    topn = min(topn, len(scores))
    if topn <= 0:
        return np.zeros(0, np.int64)
    negated = -scores
    if len(scores) < FEW:
        return negated.argsort(kind="stable")[:topn]
    worst = np.partition(negated, topn - 1)[topn - 1]
    places = np.flatnonzero(~(negated > worst))  # so that NaN, which is sorted last, may be the worst
    return places[np.argsort(negated[places], kind="stable")[:topn]]


def nearest(
    emb: SearchTable, query: RealArray, topn: int, start: int = 0, stop: int | None = None,
    without: Collection[int] = (),
) -> Found:
    """Return ids and cosines of the words nearest to a vector, best first, the lower id first on a tie.

    Parameters
    ----------
    emb : Embeddings
    query : numpy.ndarray, shape (dim,), float32
    topn : int
    start, stop : int, optional
        Look only among the words with these ids.
    without : collection of int
        Ids of words to leave out.

    Returns
    -------
    ids : numpy.ndarray, shape (k,), int64
    cosines : numpy.ndarray, shape (k,), float32

    Notes
    -----
    With an index (see `embshrink.embeddings.index`) only rows that may be among the nearest are decoded; ids
    and cosines are those of decoding all, to the last bit.
    """
    start, stop = max(start, 0), len(emb) if stop is None else min(max(stop, 0), len(emb))
    return _nearest(emb, [query], topn, start, stop, [without])[0]


def _nearest(
    emb: SearchTable, queries: Sequence[RealArray], topn: int, start: int, stop: int,
    without: Sequence[Collection[int]],
) -> list[Found]:
    """Return for each query ids and cosines, as `nearest`; those to be left out are given for each."""
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
    """Return ids and cosines of the words nearest to each of several words or vectors, best first.

    Parameters
    ----------
    emb : Embeddings
    queries : sequence of str or numpy.ndarray, or numpy.ndarray, shape (q, dim)
        Words and vectors. A word is none of its own neighbours.
    topn : int
    restrict_vocab : int, optional
        Look only among the first so many words.

    Returns
    -------
    ids : numpy.ndarray, shape (q, topn), int64
        -1 where there are no more words.
    cosines : numpy.ndarray, shape (q, topn), float32
        NaN there.

    Raises
    ------
    KeyError
        If a word is missing.

    Notes
    -----
    The answers are those of `most_similar`, query by query. With an index (see there) a pass over it answers several
    queries; without, rows are decoded once for as many queries as 64 MiB of cosines allow.
    """
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
    """Return for each query the words that may be among the nearest, by id, and their cosines.

    None where all are to be looked at: where there is no index, or it cannot tell.
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
    """Return the cosines of some rows to a vector of length 1, for each of several; decode `size` rows at a time."""
    if len(rows) > 1 and sum(map(len, rows)) <= size:  # few, so in one go
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
    """Return the words whose vectors have the highest cosine to a sum of words.

    Parameters
    ----------
    emb : Embeddings
    positive, negative : str, numpy.ndarray, or list of these or of (str or array, weight)
        Added and subtracted; words are brought to length 1 first.
    topn : int or None
        None returns the cosine of every word instead, as an array.
    clip_start, clip_end : int, optional
        Look only among the words with these ids.
    restrict_vocab : int, optional
        Look only among the first so many words; overrides `clip_end`.

    Returns
    -------
    list of (str, float)
        Without the words that were given. Words that share a vector tie; the lower id is first.

    Raises
    ------
    KeyError
        If a word is missing.
    ValueError
        If no word is given.

    Notes
    -----
    The second search among 20,000 rows or more decodes them all and keeps an index in memory: of codes of 4 bits
    (pq, iiq, scalar) their bytes and 2 bytes a row, so too of pq's of 8 bits, up to one for two columns, where the
    processor has AVX-512 VBMI; else dim + 8 bytes a row or one more (see `embshrink.embeddings.index`); and for
    packed words about 20 bytes a word. Among 400,000 words of 50 columns later ones take half a millisecond or less
    with codes of 4 bits, else up to two and a half. `Embeddings.close` lets go of all of it.
    """
    items: list[Item] = []
    weights: list[float] = []
    for side, sign in ((positive, 1.0), (negative, -1.0)):
        for entry in _as_list(side):
            item, weight = entry if isinstance(entry, tuple) else (entry, sign)
            items.append(item)
            weights.append(weight)
    if not items:
        raise ValueError("expected at least one word or vector: positive and negative are empty")
    vectors, given = _look_up(emb, items)
    query = _sum(emb, vectors, weights)
    stop = restrict_vocab or clip_end or len(emb)
    if topn is None or not len(emb):
        return word_cosines(emb, query)[clip_start:stop]
    ids, cosines = nearest(emb, query, topn, clip_start, stop, given)
    return [(emb.words[index], cosine) for index, cosine in zip(ids.tolist(), cosines.tolist())]


def _as_list(given: Items | None) -> list[Item | tuple[Item, float]]:
    if given is None:
        return []
    if isinstance(given, (str, bytes, tuple)) or (isinstance(given, np.ndarray) and given.ndim == 1):
        return [given]
    return list(given)


def logits(emb: SearchTable, query: RealArray | Sequence[float]) -> FloatArray:
    """Return the dot product of a vector with every word's vector: a softmax layer held in compressed form.

    Parameters
    ----------
    emb : Embeddings
    query : array_like, shape (dim,)

    Returns
    -------
    numpy.ndarray, shape (n,), float32

    Notes
    -----
    Where the codec can, products are summed from tables, one look-up a code, and no row is decoded
    (Shi and Yu, Interspeech 2018, section 3; Jegou et al. 2011, asymmetric distances).
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


def distances(emb: SearchTable, word_or_vector: Item, other_words: Sequence[str | bytes] = ()) -> FloatArray:
    """Return 1 - cosine of a word or vector to `other_words`, or to all words, as an array."""
    query = query_vector(emb, [word_or_vector], [1.0])
    if other_words:
        cosines: FloatArray = emb.vectors_for(other_words, norm=True) @ unit_rows(query[None])[0]
        return 1 - cosines
    return 1 - word_cosines(emb, query)


def doesnt_match(emb: SearchTable, words: Iterable[WordT]) -> WordT:
    """Return the word with the lowest cosine to the mean of all; words that are missing are passed over."""
    words = [word for word in words if word in emb]
    if not words:
        raise ValueError("expected at least one word that is in the vocabulary")
    vectors = emb.vectors_for(words, norm=True)
    return words[int(np.argmin(vectors @ unit_rows(vectors.mean(axis=0, keepdims=True))[0]))]


def closer_than(emb: SearchTable, first: str | bytes, second: str | bytes) -> list[str]:
    """Return the words whose cosine to `first` is above that of `second`, in order of id."""
    cosines = word_cosines(emb, emb.get_vector(first))
    limit = cosines[emb.id_of(second)]
    itself = emb.id_of(first)
    return [emb.words[int(i)] for i in np.flatnonzero(cosines > limit) if i != itself]
