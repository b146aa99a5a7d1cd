"""Vectors, ids, means and lengths of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embshrink.embeddings.table import Key, VectorTable
from embshrink.keyed_vectors.views import KeyToIndex, LazyVectors
from embshrink.numerics.arrays import row_norms, unit_rows
from embshrink.vocabulary.words import to_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from embshrink.embeddings.search import Item
    from embshrink.embeddings.word_vectors import WordVectors
    from embshrink.storage.arrays import BoolArray, FloatArray, IntArray, RealArray


class KeyLookup(VectorTable):
    """A table of vectors with those methods of gensim's ``KeyedVectors`` that look up words.

    A key is a word, or the id of a word.
    """

    _index_to_key: list[str] | None = None
    _norms: FloatArray | None = None
    _counts: IntArray | None = None  # of each word, (n,), if the source has them

    @classmethod
    def of_vectors(cls, vectors: WordVectors, counts: IntArray | None = None) -> Self:
        """Return the table of word vectors in memory, with the count of each word, (n,), if they are known."""
        table = super().of_vectors(vectors)
        table._counts = counts
        return table

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
        """All vectors as a read-only array of float32, shape (n, dim), which decodes the rows that are indexed."""
        return LazyVectors(self)

    @property
    def norms(self) -> FloatArray:
        """Euclidean length of the vector of each word, (n,) float32; computed at the first use, which decodes all."""
        if self._norms is None:
            norms = np.concatenate([row_norms(block) for _, block in self.blocks()] or [np.zeros(0, np.float32)])
            norms.setflags(write=False)
            self._norms = norms
        return self._norms

    def fill_norms(self, force: bool = False) -> None:
        """Compute `norms` now instead of at their first use.

        Parameters
        ----------
        force : bool, default False
            Compute them again.
        """
        if force:
            self._norms = None
        _ = self.norms

    def get_normed_vectors(self) -> FloatArray:
        """Return all vectors at length 1 as float32, (n, dim), by id; a zero vector stays zero."""
        units = np.empty((len(self), self.vector_size), np.float32)
        for start, block in self.blocks():
            units[start : start + len(block)] = unit_rows(block)
        return units

    def close(self) -> None:
        """Close the file, and release the memory that search and `norms` keep."""
        super().close()
        self._norms = None

    def get_index(self, key: object, default: int | None = None) -> int:
        """Return the id of a word.

        Parameters
        ----------
        key : str, bytes or int
            The word; an id is returned unchanged.
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
        if default is not None and key not in self:
            return default
        return self.id_of(key)

    def has_index_for(self, key: object) -> bool:
        """Return whether a word is in the vocabulary, or a number is the id of a word."""
        return key in self

    def __getitem__(self, key_or_keys: Key | Iterable[Key]) -> FloatArray:
        """Return the vector of a word, (dim,), or the vectors of k words, (k, dim), as float32.

        A word may be given by its id.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        """
        if isinstance(key_or_keys, (str, bytes)) or not isinstance(key_or_keys, Iterable):
            return self.get_vector(key_or_keys)
        return self.vectors_for(key_or_keys)

    def word_vec(self, key: Key, norm: bool = False) -> FloatArray:
        """Return the vector of a word: gensim's old name of `get_vector`."""
        return self.get_vector(key, norm)

    def get_mean_vector(
        self, keys: Iterable[Item], weights: Sequence[float] | RealArray | None = None, pre_normalize: bool = True,
        post_normalize: bool = False, ignore_missing: bool = True,
    ) -> FloatArray:
        """Return the weighted mean of the vectors of words, as gensim does.

        Parameters
        ----------
        keys : iterable of str, bytes, int or numpy.ndarray
            Words or their ids, and vectors of shape (dim,).
        weights : sequence of float, optional
            One weight for each word; 1 by default.
        pre_normalize : bool, default True
            Bring the vector of each word to length 1 first. Vectors that are given as arrays are used as they are.
        post_normalize : bool, default False
            Bring the mean to length 1.
        ignore_missing : bool, default True
            Leave out words that have no vector: they are not in the vocabulary, and cannot be made of n-grams.

        Returns
        -------
        numpy.ndarray of float32, shape (dim,)
            Zeros if every word is left out.

        Raises
        ------
        KeyError
            If a word is missing and `ignore_missing` is False.
        ValueError
            If `keys` is empty, the number of weights differs from that of words, or a vector has another length.
        """
        keys = list(keys)
        if not keys:
            raise ValueError("cannot compute the mean of no words: the list is empty")
        factors = np.ones(len(keys), np.float32) if weights is None else np.asarray(weights, np.float32)
        if factors.shape != (len(keys),):
            raise ValueError(f"expected one weight for each of the {len(keys)} words, found {factors.size}")
        vectors, known = self._items(keys, pre_normalize)
        if not ignore_missing and not known.all():
            raise self._missing(keys[int(np.argmin(known))])
        mean: FloatArray = (factors[known, None] * vectors[known]).sum(axis=0, dtype=np.float32)
        total = np.abs(factors[known]).sum()
        if total > 0:
            mean = mean / total
        return unit_rows(mean[None])[0] if post_normalize else mean

    def _items(self, items: Sequence[Item], normalize: bool) -> tuple[FloatArray, BoolArray]:
        """Return the vectors of words and vectors, as `known_vectors` does for words."""
        given = {place: item for place, item in enumerate(items) if isinstance(item, np.ndarray) and item.ndim}
        for vector in given.values():
            if vector.shape != (self.vector_size,):
                raise ValueError(f"expected a vector of shape ({self.vector_size},), found {vector.shape}")
        words = [item for place, item in enumerate(items) if place not in given]
        found, there = self.known_vectors(words, norm=normalize)
        vectors, known = np.empty((len(items), self.vector_size), np.float32), np.ones(len(items), bool)
        places = np.array([place for place in range(len(items)) if place not in given], np.int64)
        vectors[places], known[places] = found, there
        for place, vector in given.items():
            vectors[place] = vector
        return vectors, known

    def get_sentence_vector(self, sentence: Iterable[Item]) -> FloatArray:
        """Return the mean of the vectors of words at length 1: `get_mean_vector` with its defaults."""
        return self.get_mean_vector(sentence)

    def get_vecattr(self, key: object, attr: str) -> int:
        """Return the count of a word.

        Parameters
        ----------
        key : str, bytes or int
            The word, or its id.
        attr : {"count"}
            The attribute.

        Returns
        -------
        int
            How often the word occurs in the text that the vectors were trained on, if the vectors were made of a
            source with counts. Else ``len(emb) - id``, as gensim has it for files without counts.

        Raises
        ------
        KeyError
            If the word is missing, or `attr` is another name.
        """
        index = self.id_of(key)
        if attr != "count":
            raise KeyError(f"words have no attribute {attr!r}: only 'count'")
        return int(self.counts[index])

    @property
    def counts(self) -> IntArray:
        """Count of each word, (n,), by id, as `get_vecattr` returns it."""
        return np.arange(len(self), 0, -1) if self._counts is None else self._counts
