"""Nearest words and analogies, by an index or block by block: a float copy of the whole table is never there."""

from __future__ import annotations

import numpy as np

from embshrink.arrays import row_norms, stable_product, unit_rows
from embshrink.errors import EmbshrinkError
from embshrink.scan import index_of


def query_vector(emb, items, weights, normalize=True):
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
    total = np.zeros(emb.vector_size, np.float32)
    for item, weight in zip(items, weights):
        if isinstance(item, np.ndarray):
            if item.shape != (emb.vector_size,):
                raise ValueError(f"expected a vector of shape ({emb.vector_size},), found {item.shape}")
            vector = item
        else:
            vector = emb.get_vector(item, norm=normalize)
        total += np.float32(weight) * vector
    return total


def row_cosines(emb, query):
    """Return the cosine of a vector to every stored row, (rows,) float32; 0 where either is zero.

    Parameters
    ----------
    emb : Embeddings
    query : numpy.ndarray, shape (dim,), float32

    Notes
    -----
    Decodes 16,384 rows at a time, fewer of very long ones.
    """
    query = _unit(query)
    cosines = np.empty(emb.n_rows, np.float32)
    for start, block in emb.row_blocks():
        cosines[start : start + len(block)] = _cosines(block, query)
    return cosines


def _unit(query):
    return unit_rows(np.ascontiguousarray(query, np.float32)[None])[0]


def _cosines(vectors, query):
    """Return the cosine of each vector to one of length 1; its bits do not depend on the vectors beside it."""
    vectors = np.ascontiguousarray(vectors)
    norms = row_norms(vectors)
    norms[norms == 0] = 1
    return stable_product(vectors, query[:, None])[:, 0] / norms


def word_cosines(emb, query):
    """Return the cosine of a vector to every word, (n,) float32; EmbshrinkError where there are no words."""
    if not len(emb):
        raise EmbshrinkError("there are no words to search: the table holds n-grams alone",
                             hint="Look words up, or compare some of your own: emb.distances(word, others).")
    cosines, rows, scale = row_cosines(emb, query), emb.row_map, emb.scale
    if rows is None:
        return cosines
    cosines = cosines[rows]
    if scale is not None:  # a zero scale is a zero vector
        cosines[scale == 0] = 0
    return cosines


def top(scores, topn):
    """Return the places of the `topn` highest scores, best first, the lower place first on a tie.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
    topn : int
    """
    topn = min(topn, len(scores))
    if topn <= 0:
        return np.zeros(0, np.int64)
    least = np.partition(scores, -topn)[-topn]
    places = np.flatnonzero(scores >= least)
    return places[np.lexsort((places, -scores[places]))][:topn]


def nearest(emb, query, topn, allowed):
    """Return ids and cosines of the words nearest to a vector, best first, the lower id first on a tie.

    Parameters
    ----------
    emb : Embeddings
    query : numpy.ndarray, shape (dim,), float32
    topn : int
    allowed : numpy.ndarray, shape (n,), bool
        Which words to look among.

    Notes
    -----
    With an index (see `embshrink.scan.index_of`) only rows that may be among the nearest are decoded; ids and
    cosines are those of decoding all, to the last bit.
    """
    found = _candidates(emb, query, topn, allowed)
    if found is None:
        ids = np.flatnonzero(allowed)
        cosines = word_cosines(emb, query)[ids]
    else:
        ids, cosines = found
    best = top(cosines, topn)
    return ids[best], cosines[best]


def _candidates(emb, query, topn, allowed):
    """Return the words that may be among the nearest, by id, and their cosines; None where there is no index."""
    index = index_of(emb)
    if index is None:
        return None
    query, of_word, scale = _unit(query), emb.row_map, emb.scale
    zero = np.zeros(len(emb), bool) if scale is None else allowed & (scale == 0)
    eligible = allowed
    if of_word is not None:
        eligible = np.zeros(emb.n_rows, bool)
        eligible[of_word[allowed & ~zero]] = True
    rows = index.candidates(query, eligible, topn)
    if rows is None:
        return None
    cosines = np.concatenate([np.zeros(0, np.float32)] + [
        _cosines(emb.decode_rows(rows[start : start + emb.block_rows]), query)
        for start in range(0, len(rows), emb.block_rows)
    ])
    if of_word is None:
        return rows, cosines
    is_candidate, of_row = np.zeros(emb.n_rows, bool), np.zeros(emb.n_rows, np.float32)
    is_candidate[rows], of_row[rows] = True, cosines
    ids = np.flatnonzero(allowed & (is_candidate[of_word] | zero))
    cosines = of_row[of_word[ids]]
    cosines[zero[ids]] = 0
    return ids, cosines


def most_similar(emb, positive=None, negative=None, topn=10, clip_start=0, clip_end=None, restrict_vocab=None):
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
    The first search among 20,000 rows or more decodes them all once and keeps an index in memory, dim + 8 bytes a
    row (see `embshrink.scan`); later ones take milliseconds. `Embeddings.close` lets go of it.
    """
    items, weights = [], []
    for given, sign in ((positive, 1.0), (negative, -1.0)):
        for item in _as_list(given):
            item, weight = item if isinstance(item, tuple) else (item, sign)
            items.append(item)
            weights.append(weight)
    if not items:
        raise ValueError("cannot compute similarity with no input")
    query = query_vector(emb, items, weights)
    stop = restrict_vocab or clip_end or len(emb)
    if topn is None or not len(emb):
        return word_cosines(emb, query)[clip_start:stop]
    allowed = np.zeros(len(emb), bool)
    allowed[max(clip_start, 0) : max(stop, 0)] = True
    given = [emb.words.find(item) for item in items if not isinstance(item, np.ndarray)]
    # An unseen word has a vector, but is none of the answers.
    allowed[[index for index in given if index >= 0]] = False
    ids, cosines = nearest(emb, query, topn, allowed)
    return [(emb.words[index], cosine) for index, cosine in zip(ids.tolist(), cosines.tolist())]


def _as_list(given):
    if given is None:
        return []
    if isinstance(given, (str, bytes, tuple)) or (isinstance(given, np.ndarray) and given.ndim == 1):
        return [given]
    return list(given)


def logits(emb, query):
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
    if stored is not None and not stored.columns and hasattr(stored.codec, "scores"):
        products = stored.codec.scores(stored.codes, stored.state, query)
    else:
        products = np.empty(emb.n_rows, np.float32)
        for start, block in emb.row_blocks():
            products[start : start + len(block)] = block @ query
    rows, scale = emb.row_map, emb.scale
    if rows is not None:
        products = products[rows]
    return products if scale is None else products * scale


def analogy(emb, a, b, c, topn=10, restrict_vocab=None):
    """Return the words that are to `c` as `b` is to `a` (3CosAdd), best first.

    Notes
    -----
    Mikolov, Yih and Zweig, NAACL 2013: the highest cosine to ``b - a + c``.
    """
    return most_similar(emb, positive=[b, c], negative=[a], topn=topn, restrict_vocab=restrict_vocab)


def distances(emb, word_or_vector, other_words=()):
    """Return 1 - cosine of a word or vector to `other_words`, or to all words, as an array."""
    query = query_vector(emb, [word_or_vector], [1.0])
    if other_words:
        return 1 - emb.vectors_for(other_words, norm=True) @ unit_rows(query[None])[0]
    return 1 - word_cosines(emb, query)


def doesnt_match(emb, words):
    """Return the word with the lowest cosine to the mean of all; words that are missing are passed over."""
    words = [word for word in words if word in emb]
    if not words:
        raise ValueError("cannot select a word from an empty list")
    vectors = emb.vectors_for(words, norm=True)
    return words[int(np.argmin(vectors @ unit_rows(vectors.mean(axis=0, keepdims=True))[0]))]


def closer_than(emb, first, second):
    """Return the words whose cosine to `first` is above that of `second`, in order of id."""
    cosines = word_cosines(emb, emb.get_vector(first))
    limit = cosines[emb.get_index(second)]
    itself = emb.get_index(first)
    return [emb.words[int(i)] for i in np.flatnonzero(cosines > limit) if i != itself]
