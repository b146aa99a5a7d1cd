"""Similarities, distances and nearest neighbours of words and vectors (see embeddings/search.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from embshrink.keyed_vectors.lookup import KeyLookup
from embshrink.vocabulary.words import Word

if TYPE_CHECKING:
    from embshrink.embeddings.search import Item, Items
    from embshrink.storage.arrays import FloatArray, IntArray, RealArray

WordT = TypeVar("WordT", str, bytes)


class Similarity(KeyLookup):
    """A table of vectors with those methods of gensim's ``KeyedVectors`` that compare words."""

    def similarity(self, first: Word, second: Word) -> float:
        """Return the cosine similarity of two words; 0 if a vector is zero.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        one, two = self.vectors_for([first, second], norm=True)
        return float(one @ two)

    def distance(self, first: Word, second: Word) -> float:
        """Return the cosine distance of two words: 1 - `similarity`."""
        return 1 - self.similarity(first, second)

    def n_similarity(self, first: Iterable[Item], second: Iterable[Item]) -> float:
        """Return the cosine similarity of the means of two lists of words; missing words are left out.

        Raises
        ------
        ValueError
            If a list is empty.
        """
        one, two = (self.get_mean_vector(words, pre_normalize=False, post_normalize=True)
                    for words in (first, second))
        return float(one @ two)

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int = 10, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]]: ...

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, *, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> FloatArray: ...

    @overload
    def most_similar(
        self, positive: Items | None, negative: Items | None, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> FloatArray: ...

    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
        clip_start: int = 0, clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]] | FloatArray:
        """Return the nearest neighbours, by cosine similarity, of a sum of words and vectors.

        Parameters
        ----------
        positive, negative : str, bytes, numpy.ndarray, or list of these or of (word or vector, weight), optional
            Words and vectors to add, and to subtract. The vector of each word is brought to length 1 first.
        topn : int or None, default 10
            Number of neighbours. With None, the cosine of every word is returned instead.
        clip_start, clip_end : int, optional
            Search only the words with ids from `clip_start` to ``clip_end - 1``; all by default.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; overrides `clip_end`.

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

        return search.most_similar(self, positive, negative, topn, clip_start, clip_end, restrict_vocab)

    def similar_by_word(
        self, word: Word, topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a word: `most_similar` with one word.

        Raises
        ------
        KeyError
            If the word is missing.
        """
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_key = similar_by_word

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

    def distances(self, word_or_vector: Item, other_words: Sequence[Word] = ()) -> FloatArray:
        """Return the cosine distances of a word or vector to other words.

        Parameters
        ----------
        word_or_vector : str, bytes or numpy.ndarray of shape (dim,)
            The query.
        other_words : sequence of str or bytes, optional
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

    def doesnt_match(self, words: Iterable[WordT]) -> WordT:
        """Return the word with the lowest cosine similarity to the mean of all; missing words are left out.

        Raises
        ------
        ValueError
            If `words` is empty, or none of the words is in the vocabulary.
        """
        from embshrink.embeddings import search

        return search.doesnt_match(self, words)

    def rank(self, first: Word, second: Word) -> int:
        """Return the rank of `second` among the neighbours of `first`; 1 for the nearest.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        return len(self.closer_than(first, second)) + 1

    def closer_than(self, first: Word, second: Word) -> list[str]:
        """Return the words with a higher cosine similarity to `first` than `second` has, by id.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        from embshrink.embeddings import search

        return search.closer_than(self, first, second)
