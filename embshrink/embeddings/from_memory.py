"""Words and vectors in the types of other packages, as `WordVectors`; none of these packages is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from embshrink.embeddings.table import VectorTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embshrink.storage.arrays import AnyArray, FloatArray, IntArray

NO_NGRAMS = ("the n-grams of the gensim object are left out, so out-of-vocabulary words have no vectors; to keep "
             "them, write the model with gensim's save_facebook_model and pass the path of that file")


@runtime_checkable
class KeyedVectorsLike(Protocol):
    """What is used of gensim's ``KeyedVectors``."""

    index_to_key: list[str]
    vectors: FloatArray
    expandos: dict[str, AnyArray]


@runtime_checkable
class _WithNgrams(Protocol):
    """What tells gensim's ``FastTextKeyedVectors`` from other ``KeyedVectors``."""

    vectors_ngrams: FloatArray


@runtime_checkable
class DataFrameLike(Protocol):
    """What is used of a pandas ``DataFrame``: words as its index, one column for each dimension."""

    @property
    def index(self) -> Iterable[str]:
        """The words."""

    def to_numpy(self) -> FloatArray:
        """Return the vectors, (n, d)."""


InMemory: TypeAlias = (
    "WordVectors | VectorTable | KeyedVectorsLike | Mapping[str, ArrayLike] | DataFrameLike"
    " | tuple[Iterable[str | bytes], ArrayLike]"
)


def word_vectors_of(source: object) -> WordVectors:
    """Return words and vectors in memory as `WordVectors`.

    Parameters
    ----------
    source : object
        `WordVectors`; a table; gensim's ``KeyedVectors``; a dict of words and vectors; a pandas ``DataFrame`` with
        the words as its index; or a tuple of words and a matrix, (n, d).

    Raises
    ------
    ShapeError
        If the vectors do not have one length, or for the reasons of `WordVectors`.
    TypeError
        If `source` is of another type, or a word is neither str nor bytes.
    """
    if isinstance(source, WordVectors):
        return source
    if isinstance(source, VectorTable):
        blocks = [block for _, block in source.blocks()]
        return WordVectors(source.words, np.concatenate(blocks) if blocks else np.empty((0, source.vector_size)))
    if isinstance(source, Mapping):
        return WordVectors(source.keys(), _stacked(source))
    if isinstance(source, tuple) and len(source) == 2:
        return WordVectors(*source)
    if isinstance(source, KeyedVectorsLike):
        words = [word if isinstance(word, bytes) else str(word) for word in source.index_to_key]
        ngrams = isinstance(source, _WithNgrams) and source.vectors_ngrams is not None and len(source.vectors_ngrams)
        return WordVectors(words, source.vectors[: len(words)], warnings=[NO_NGRAMS] if ngrams else [])
    if isinstance(source, DataFrameLike):
        return WordVectors(source.index, source.to_numpy())
    raise TypeError("expected a path, WordVectors, gensim's KeyedVectors, a dict of words and vectors, a DataFrame "
                    f"with words as its index, or a tuple of words and a matrix, not {type(source).__name__}")


def counts_of(source: object) -> IntArray | None:
    """Return the count of each word of gensim's ``KeyedVectors``, (n,); None if there are no counts."""
    counts = source.expandos.get("count") if isinstance(source, KeyedVectorsLike) else None
    return counts.astype(np.int64) if counts is not None and counts.dtype.kind in "iu" else None


def _stacked(vectors: Mapping[str, ArrayLike]) -> AnyArray:
    """Return vectors as the rows of a matrix."""
    rows = [np.asarray(vector) for vector in vectors.values()]
    for word, row in zip(vectors, rows):
        if row.ndim != 1 or row.shape != rows[0].shape:
            raise ShapeError(f"the vector of {word!r} has another shape than the first one", found=row.shape,
                             expected=f"({rows[0].size},)", hint="Pass one vector of the same length for each word.")
    return np.array(rows) if rows else np.empty((0, 0))
