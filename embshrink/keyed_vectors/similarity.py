"""Similarities, distances and nearest neighbours of words and vectors (see embeddings/search.py)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar, overload

import numpy as np

from embshrink.embeddings.table import Key
from embshrink.errors import need
from embshrink.keyed_vectors.lookup import KeyLookup
from embshrink.numerics.arrays import cosine

if TYPE_CHECKING:
    from embshrink.embeddings.search import Item, Items
    from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray, RealArray

KeyT = TypeVar("KeyT", bound=Key)


class Indexer(Protocol):
    """Another search index, such as gensim's ``AnnoyIndexer``, that `Similarity.most_similar` asks."""

    def most_similar(self, vector: FloatArray, num_neighbors: int, /) -> list[tuple[str, float]]:
        """Return the nearest words and their similarities."""


class Similarity(KeyLookup):
    """A table of vectors with those methods of gensim's ``KeyedVectors`` that compare words.

    A key is a word, or the id of a word.
    """

    def similarity(self, w1: Key, w2: Key) -> float:
        """Return the cosine similarity of two words, from -1 to 1; 0 if a vector is zero.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        one, two = self.vectors_for([w1, w2])
        return cosine(one, two)

    def distance(self, w1: Key, w2: Key) -> float:
        """Return the cosine distance of two words: 1 - `similarity`."""
        return 1 - self.similarity(w1, w2)

    def n_similarity(self, ws1: Iterable[Item], ws2: Iterable[Item]) -> float:
        """Return the cosine similarity of the means of two lists of words.

        Words that have no vector are left out; if a list has no other words, the similarity is 0.

        Raises
        ------
        ZeroDivisionError
            If a list is empty.
        """
        first, second = list(ws1), list(ws2)
        if not first or not second:
            raise ZeroDivisionError("expected two lists of words, and one of them is empty")
        return cosine(self.get_mean_vector(first, pre_normalize=False),
                      self.get_mean_vector(second, pre_normalize=False))

    @staticmethod
    def cosine_similarities(vector_1: RealArray, vectors_all: RealArray) -> RealArray:
        """Return the cosine similarities of a vector to other vectors.

        Parameters
        ----------
        vector_1 : numpy.ndarray, shape (dim,)
            The vector.
        vectors_all : numpy.ndarray, shape (k, dim)
            The others.

        Returns
        -------
        numpy.ndarray, shape (k,)
            From -1 to 1; 0 if a vector is zero.
        """
        products = vectors_all @ vector_1
        lengths = np.linalg.norm(vectors_all, axis=1) * np.linalg.norm(vector_1)
        cosines = np.zeros_like(products)
        np.divide(products, lengths, out=cosines, where=lengths != 0)
        return cosines.clip(-1, 1)

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int = 10, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None, indexer: Indexer | None = None,
    ) -> list[tuple[str, float]]: ...

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, *, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None, indexer: Indexer | None = None,
    ) -> FloatArray: ...

    @overload
    def most_similar(
        self, positive: Items | None, negative: Items | None, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None, indexer: Indexer | None = None,
    ) -> FloatArray: ...

    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
        clip_start: int = 0, clip_end: int | None = None, restrict_vocab: int | None = None,
        indexer: Indexer | None = None,
    ) -> list[tuple[str, float]] | FloatArray:
        """Return the nearest neighbours, by cosine similarity, of a sum of words and vectors.

        Parameters
        ----------
        positive, negative : str, bytes, int, numpy.ndarray, or list of these or of (word or vector, weight), optional
            Words (or their ids) and vectors to add, and to subtract. The vector of each word is brought to length 1
            first.
        topn : int or None, default 10
            Number of neighbours. With None, the cosine of every word is returned instead.
        clip_start, clip_end : int, optional
            Search only the words with ids from `clip_start` to ``clip_end - 1``; all by default.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; overrides `clip_start` and `clip_end`.
        indexer : Indexer, optional
            Ask this index, such as gensim's ``AnnoyIndexer``, instead of comparing with all words.

        Returns
        -------
        list of (str, float)
            Words and cosines, the highest cosine first, without the words that were given. Words with equal cosines
            are in the order of their ids. With ``topn=None``: numpy.ndarray of float32, shape (n,), by id.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        ValueError
            If no word or vector is given, or a vector has another length.

        Notes
        -----
        The search is exact. The first one decodes all rows. From the second on, a table of 20,000 rows or more is
        searched by an index, which is kept in memory until `close`: with codes of 4 bits (pq, iiq, scalar) it takes
        their bytes and 2 bytes per row, else at most dim + 9 bytes per row, and for packed words about 20 bytes per
        word.

        Examples
        --------
        >>> import embshrink
        >>> vectors = embshrink.WordVectors(["man", "woman", "king", "queen"], [[1, 0], [1, 1], [3, 0], [2, 2]])
        >>> emb = embshrink.as_embeddings(vectors)
        >>> [word for word, cosine in emb.most_similar(["king", "woman"], ["man"], topn=1)]
        ['queen']
        """
        from embshrink.embeddings import search

        if indexer is not None and topn is not None and topn > 0:
            return indexer.most_similar(search.query_of(self, positive, negative), topn)
        return search.most_similar(self, positive, negative, topn, clip_start, clip_end, restrict_vocab)

    def most_similar_cosmul(
        self, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]] | FloatArray:
        """Return the words with the highest product of cosines to words, divided by that to others (3CosMul).

        Parameters
        ----------
        positive, negative : str, bytes, int, numpy.ndarray, or list of these, optional
            Words (or their ids) and vectors, which are brought to length 1.
        topn : int or None, default 10
            Number of words. With None, the score of every word is returned instead.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; all by default.

        Returns
        -------
        list of (str, float)
            Words and scores, the highest first, without the words that were given. Words with equal scores are in
            the order of their ids. With ``topn=None``: numpy.ndarray of float32, shape (n,), by id.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        ValueError
            If `positive` is empty, or a vector has another length.

        Notes
        -----
        Each cosine is moved to the range 0 to 1: ``(1 + cosine) / 2``. Levy and Goldberg, CoNLL 2014, equation 4.

        Examples
        --------
        >>> import embshrink
        >>> vectors = embshrink.WordVectors(["man", "woman", "king", "queen"], [[1, 0], [1, 1], [3, 0], [2, 2]])
        >>> emb = embshrink.as_embeddings(vectors)
        >>> [word for word, score in emb.most_similar_cosmul(["king", "woman"], ["man"], topn=1)]
        ['queen']
        """
        from embshrink.embeddings import search

        return search.most_similar_cosmul(self, positive, negative, topn, restrict_vocab)

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[KeyT]) -> KeyT:
        """Return the word of a list that has the highest cosine similarity to a word; the first one of equal ones.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If the list is empty.
        """
        if not len(keys_list):
            raise ValueError("expected at least one word to compare with")
        return keys_list[int(np.argmax([self.similarity(key1, key) for key in keys_list]))]

    def relative_cosine_similarity(self, wa: Key, wb: Key, topn: int = 10) -> float:
        """Return the cosine similarity of two words, divided by the sum of those of the nearest words to the first.

        Parameters
        ----------
        wa, wb : str, bytes or int
            The words.
        topn : int, default 10
            Number of nearest words to `wa`.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If `topn` is below 1.

        Notes
        -----
        Leeuwenberg et al., The Prague Bulletin of Mathematical Linguistics 105, 2016, equation 1.
        """
        near = self.similar_by_word(wa, topn)
        if not near:
            raise ValueError("expected at least one word that is near: topn must be at least 1")
        return self.similarity(wa, wb) / sum(score for _, score in near)

    def similar_by_word(
        self, word: Key, topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a word: `most_similar` with one word.

        Raises
        ------
        KeyError
            If the word is missing.
        """
        return self.similar_by_key(word, topn, restrict_vocab)

    def similar_by_key(self, key: Key, topn: int = 10, restrict_vocab: int | None = None) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a word: `most_similar` with one word.

        Raises
        ------
        KeyError
            If the word is missing.
        """
        return self.most_similar([key], topn=topn, restrict_vocab=restrict_vocab)

    def similar_by_vector(
        self, vector: RealArray | Sequence[float], topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a vector, (dim,): `most_similar` with one vector.

        Raises
        ------
        ValueError
            If the vector has another shape.
        """
        if isinstance(vector, (str, bytes)):
            raise TypeError("expected a vector, not a word; use similar_by_word for a word")
        return self.most_similar([np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def nearest(
        self, queries: Sequence[Item] | RealArray, topn: int = 10, restrict_vocab: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Return the nearest neighbours of each of several words or vectors, by cosine similarity.

        Parameters
        ----------
        queries : sequence of str, bytes or numpy.ndarray, or numpy.ndarray of shape (q, dim)
            Words and vectors. A word is not among its own neighbours.
        topn : int, default 10
            Number of neighbours of each query.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; all by default.

        Returns
        -------
        ids : numpy.ndarray of int64, shape (q, topn)
            Ids of the neighbours, the highest cosine first: ``emb.words[id]`` is the word. -1 if there are fewer.
        cosines : numpy.ndarray of float32, shape (q, topn)
            Their cosines. NaN if there are fewer.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If a vector has another length.

        Notes
        -----
        The neighbours are those of `most_similar` for each query, in less time.
        """
        from embshrink.embeddings import search

        return search.nearest_batch(self, queries, topn, restrict_vocab)

    def distances(self, word_or_vector: Item, other_words: Iterable[Key] | None = ()) -> FloatArray:
        """Return the cosine distances of a word or vector to other words.

        Parameters
        ----------
        word_or_vector : str, bytes, int or numpy.ndarray of shape (dim,)
            The query.
        other_words : iterable of str, bytes or int, optional
            Words to compare with; all words by default.

        Returns
        -------
        numpy.ndarray of float32, shape (k,)
            1 - cosine, in the order of `other_words`, or by id.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If the vector has another length.
        """
        from embshrink.embeddings import search

        return search.distances(self, word_or_vector, other_words)

    def logits(self, vector: RealArray | Sequence[float]) -> FloatArray:
        """Return the dot product of a vector with the vector of every word: a softmax layer in compressed form.

        Parameters
        ----------
        vector : array_like, shape (dim,)
            The query; not normalized.

        Returns
        -------
        numpy.ndarray of float32, shape (n,)
            By id.

        Raises
        ------
        ValueError
            If the vector has another shape.

        Notes
        -----
        With codes of `pq` and similar methods, products are sums of table entries, and no row is decoded (Jégou et
        al. 2011, asymmetric distances; Shi and Yu, Interspeech 2018, section 3).
        """
        from embshrink.embeddings import search

        return search.logits(self, vector)

    def rank_by_centrality(self, words: Iterable[KeyT], use_norm: bool = True) -> list[tuple[float, KeyT]]:
        """Return words by their similarity to the mean of all, the most similar first.

        Parameters
        ----------
        words : iterable of str, bytes or int
            Words that have no vector are left out.
        use_norm : bool, default True
            Bring the vector of each word to length 1 first. If False, the similarity is the dot product of the
            word's vector with the mean at length 1.

        Returns
        -------
        list of (float, str)
            Similarities and words. Words with equal similarities are in descending order, as in gensim.

        Raises
        ------
        ValueError
            If no word has a vector.
        """
        words = list(words)
        vectors, known = self.known_vectors(words, norm=use_norm)
        if not known.any():
            raise ValueError("expected at least one word that is in the vocabulary")
        scores = vectors[known] @ self.get_mean_vector(vectors[known], post_normalize=True)
        if use_norm:  # cosines
            scores = scores.clip(-1, 1)
        return sorted(zip(scores.tolist(), (word for word, there in zip(words, known) if there)), reverse=True)

    def doesnt_match(self, words: Iterable[KeyT]) -> KeyT:
        """Return the word with the lowest similarity to the mean of all: the last one of `rank_by_centrality`.

        Raises
        ------
        ValueError
            If no word has a vector.
        """
        return self.rank_by_centrality(words)[-1][1]

    def rank(self, key1: Key, key2: Key) -> int:
        """Return the rank of `key2` among the neighbours of `key1`; 1 for the nearest.

        Raises
        ------
        KeyError
            If a word is not in the vocabulary.
        """
        return len(self.closer_than(key1, key2)) + 1

    def closer_than(self, key1: Key, key2: Key) -> list[str]:
        """Return the words that are nearer to `key1` than `key2` is, by id.

        Raises
        ------
        KeyError
            If a word is not in the vocabulary.
        """
        from embshrink.embeddings import search

        return search.closer_than(self, key1, key2)

    def words_closer_than(self, word1: Key, word2: Key) -> list[str]:
        """Return the words that are nearer to `word1` than `word2` is: gensim's old name of `closer_than`."""
        return self.closer_than(word1, word2)

    def wmdistance(self, document1: Iterable[str], document2: Iterable[str], norm: bool = True) -> float:
        """Return the Word Mover's Distance of two texts: the least cost of moving the words of one to the other.

        Needs the package scipy.

        Parameters
        ----------
        document1, document2 : iterable of str
            The words of each text, as often as they occur. Words that have no vector are left out.
        norm : bool, default True
            Bring the vector of each word to length 1 first.

        Returns
        -------
        float
            The sum over all words that are moved: share of the text x Euclidean distance of the vectors. Infinity if
            a text has no word with a vector.

        Notes
        -----
        Kusner, Sun, Kolkin and Weinberger, ICML 2015. The linear program is solved exactly, in a time that grows
        quickly with the number of distinct words: use it for sentences, not for long texts.
        """
        first, second = self._shares(document1, norm), self._shares(document2, norm)
        if not len(first[0]) or not len(second[0]):
            return math.inf
        return _transport(first[1], second[1], first[0], second[0])

    def _shares(self, document: Iterable[str], norm: bool) -> tuple[FloatArray, DoubleArray]:
        """Return the vectors of the distinct words of a text, (k, dim), and the share of the text of each, (k,)."""
        counts = Counter(document)
        vectors, known = self.known_vectors(list(counts), norm=norm)
        times = np.array(list(counts.values()), np.float64)[known]
        return vectors[known], times / max(times.sum(), 1)


def _transport(supply: DoubleArray, demand: DoubleArray, sources: FloatArray, targets: FloatArray) -> float:
    """Return the least cost of moving shares, (s,) to (t,), between points, (s, dim) and (t, dim)."""
    need("wmdistance", "scipy")
    from scipy.optimize import linprog
    from scipy.sparse import identity, kron, vstack
    from scipy.spatial.distance import cdist

    costs = cdist(sources, targets)
    s, t = costs.shape
    sums = vstack([kron(identity(s), np.ones((1, t))), kron(np.ones((1, s)), identity(t))])  # by source, by target
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=np.concatenate([supply, demand])).fun)
