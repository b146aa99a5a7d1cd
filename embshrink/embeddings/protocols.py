"""The attributes and methods that code may use of a table of word vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from embshrink.storage.arrays import AnyArray, FloatArray, IntArray
from embshrink.vocabulary.words import Vocabulary


class LookupTable(Protocol):
    """Words and their vectors, decoded on request.

    Word i has the vector ``scale[i] * row[row_map[i]]``. `embshrink.Embeddings` is such a table.
    """

    @property
    def words(self) -> Vocabulary:
        """The n words by id, usually the most frequent first."""

    @property
    def vector_size(self) -> int:
        """Dimension d of the vectors."""

    @property
    def row_map(self) -> AnyArray | None:
        """Stored row of each word, (n,) of integers; None if word i has row i."""

    @property
    def scale(self) -> FloatArray | None:
        """Factor of each word by which its row is multiplied, (n,); None if all are 1."""

    def __len__(self) -> int: ...

    def decode_ids(self, ids: IntArray | Sequence[int], /) -> FloatArray:
        """Return the vectors of the words with these ids, (k, d)."""
