"""Vectors, ids, means and lengths of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embshrink.embeddings.table import VectorTable
from embshrink.keyed_vectors.views import KeyToIndex, LazyVectors
from embshrink.numerics.arrays import row_norms, unit_rows
from embshrink.vocabulary.words import Word, to_text

if TYPE_CHECKING:
    from embshrink.embeddings.search import Item
    from embshrink.storage.arrays import FloatArray, RealArray


class KeyLookup(VectorTable):
    """A table of vectors with those methods of gensim's ``KeyedVectors`` that look up words."""

    _index_to_key: list[str] | None = None

    @property
    def index_to_key(self) -> list[str]:
        """All words as a list of str, by id."""
        if self._index_to_key is None:
            self._index_to_key = [to_text(word) for word in self.words.raw]
        return self._index_to_key

    @property
    def key_to_index(self) -> Mapping[str, int]:
        """Mapping from word to id. It is a view that searches the file; no dict is built."""
        return KeyToIndex(self.words)

    @property
    def vectors(self) -> LazyVectors:
        """All vectors as an array-like of float32, shape (n, dim), which decodes the rows that are indexed."""
        return LazyVectors(self)

    def get_index(self, word: Word, default: int | None = None) -> int:
        """Return the id of a word.

        Parameters
        ----------
        word : str or bytes
            The word.
        default : int, optional
            Returned for a missing word.

        Returns
        -------
        int
            From 0 to ``len(emb) - 1``.

        Raises
        ------
        KeyError
            If the word is missing and `default` is None.
        """
        if default is not None and word not in self:
            return default
        return self.id_of(word)

    def __getitem__(self, word: Word | Iterable[Word]) -> FloatArray:
        """Return the vector of a word, (dim,), or the vectors of k words, (k, dim), as float32.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        """
        if isinstance(word, (str, bytes)):
            return self.get_vector(word)
        if not isinstance(word, Iterable):
            raise TypeError(f"expected a word or a list of words, not {type(word).__name__}; emb.vectors[i] is the "
                            "vector with the id i")
        return self.vectors_for(word)

    def get_mean_vector(
        self, words: Iterable[Item], weights: Sequence[float] | RealArray | None = None, pre_normalize: bool = True,
        post_normalize: bool = False, ignore_missing: bool = True,
    ) -> FloatArray:
        """Return the weighted mean of the vectors of words, as gensim does.

        Parameters
        ----------
        words : iterable of str, bytes or numpy.ndarray
            Words, and vectors of shape (dim,).
        weights : sequence of float, optional
            One weight for each word; 1 by default.
        pre_normalize : bool, default True
            Bring the vector of each word to length 1 first. Vectors that are given as arrays are used as they are.
        post_normalize : bool, default False
            Bring the mean to length 1.
        ignore_missing : bool, default True
            Leave out words that are not in the vocabulary.

        Returns
        -------
        numpy.ndarray of float32, shape (dim,)
            Zeros if every word is left out.

        Raises
        ------
        KeyError
            If a word is missing and `ignore_missing` is False.
        ValueError
            If `words` is empty, the number of weights differs from that of words, or a vector has another length.
        """
        words = list(words)
        if not words:
            raise ValueError("cannot compute the mean of no words: the list is empty")
        factors = np.ones(len(words), np.float32) if weights is None else np.asarray(weights, np.float32)
        if len(factors) != len(words):
            raise ValueError(f"expected one weight for each of the {len(words)} words, found {len(factors)}")
        if ignore_missing:
            present = [isinstance(word, np.ndarray) or word in self for word in words]
            words = [word for word, there in zip(words, present) if there]
            factors = factors[present]
        from embshrink.embeddings.search import query_vector

        mean = query_vector(self, words, factors, pre_normalize)
        total = np.abs(factors).sum()
        if total > 0:
            mean = mean / total
        return unit_rows(mean[None])[0] if post_normalize else mean

    def norms(self) -> FloatArray:
        """Return the Euclidean length of each word's vector, as float32 of shape (n,)."""
        return np.concatenate([row_norms(block) for _, block in self.blocks()] or [np.zeros(0, np.float32)])
