"""What ``key_to_index`` and ``vectors`` return: views that read the table when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embshrink.embeddings.table import VectorTable
from embshrink.vocabulary.words import Vocabulary, Word

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from embshrink.storage.arrays import AnyArray, FloatArray

Indices: TypeAlias = "int | slice | Sequence[int] | AnyArray"  # as in numpy


class KeyToIndex(Mapping[str, int]):
    """Mapping from word to id that searches the vocabulary instead of building a dict."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words

    def __getitem__(self, word: Word) -> int:
        index = self._words.find(word)
        if index < 0:
            raise KeyError(word)
        return index

    def __contains__(self, word: object) -> bool:
        return isinstance(word, (str, bytes)) and self._words.find(word) >= 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


class LazyVectors:
    """All vectors as an array-like that decodes the rows that are indexed.

    Attributes
    ----------
    shape : tuple of int
        Number of words, dimension.
    dtype : numpy.dtype
        float32.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, table: VectorTable) -> None:
        self._table = table
        self.shape = (len(table), table.vector_size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Indices | tuple[Indices, ...]) -> FloatArray:
        if isinstance(key, tuple):
            rows, rest = self[key[0]], key[1:]
            part: FloatArray = rows[rest] if rows.ndim == 1 else rows[(slice(None), *rest)]
            return part
        ids = np.arange(self.shape[0])[key]
        vectors = self._table.decode_ids(np.atleast_1d(ids))
        return vectors if np.ndim(ids) else vectors[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> FloatArray:
        out = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for start, block in self._table.blocks():
            out[start : start + len(block)] = block
        return out
