"""Word vectors in memory: words, one matrix, and where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from embshrink.errors import ShapeError
from embshrink.numerics.arrays import as_matrix
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embshrink.storage.arrays import FloatArray
    from embshrink.storage.disk_rows import Matrix


@dataclass(init=False)
class WordVectors:
    """Words and their vectors, row i belonging to word i.

    Parameters
    ----------
    words : Words or iterable of str or bytes
        n distinct words, most frequent first where the source is so ordered.
    matrix : array_like, shape (n, d)
        Taken as C-contiguous float32.
    source : dict, optional
        Provenance: ``name``, ``size`` in bytes, ``sha256``, ``format``. Stored in the compressed file.
    warnings : list of str, optional
        What reading noticed and counted: duplicates, zero rows, a wrong header and so on.

    Raises
    ------
    ShapeError
        If the number of words and of rows differ, a word occurs twice, or a value is not finite.

    Examples
    --------
    >>> vectors = WordVectors(["king", "queen"], [[1.0, 2.0], [1.5, 2.5]])
    >>> len(vectors), vectors.dim
    (2, 2)
    >>> vectors["queen"]
    array([1.5, 2.5], dtype=float32)
    """

    words: Words
    matrix: FloatArray
    source: dict[str, object]
    warnings: list[str]

    def __init__(
        self, words: Iterable[str | bytes], matrix: ArrayLike, source: Mapping[str, object] | None = None,
        warnings: Iterable[str] | None = None,
    ) -> None:
        self.words = words if isinstance(words, Words) else Words(words)
        self.matrix = as_matrix(matrix)
        self.source, self.warnings = dict(source or {}), list(warnings or [])
        if len(self.words) != len(self.matrix):
            raise ShapeError("the number of words and of vectors differ", expected=f"{len(self.words)} rows",
                             found=f"{len(self.matrix)}")
        if len(set(self.words.raw)) != len(self.words):
            raise ShapeError("a word occurs twice", hint="Keep the first of each before making WordVectors.")

    @classmethod
    def checked(cls, words: Words, matrix: Matrix, source: dict[str, object], warnings: list[str]) -> WordVectors:
        """Return vectors of which the caller has already checked all that is checked here.

        The matrix may be rows on disk, for callers that know of these.
        """
        vectors = object.__new__(cls)
        vectors.words, vectors.matrix = words, cast("FloatArray", matrix)
        vectors.source, vectors.warnings = source, warnings
        return vectors

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.matrix.shape[1]

    def __contains__(self, word: str | bytes) -> bool:
        return self.words.find(word) >= 0

    def __getitem__(self, word: str | bytes) -> FloatArray:
        """Return the vector of `word`, shape (d,); raise KeyError if there is none."""
        index = self.words.find(word)
        if index < 0:
            raise KeyError(word)
        vector: FloatArray = self.matrix[index]
        return vector
