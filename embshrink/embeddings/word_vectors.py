"""Word vectors in memory: words, one matrix, and their source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from embshrink.errors import ShapeError
from embshrink.numerics.arrays import as_matrix
from embshrink.vocabulary.buffer import repeats
from embshrink.vocabulary.words import Words, to_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embshrink.storage.arrays import FloatArray
    from embshrink.storage.disk_rows import Matrix


@dataclass(init=False)
class WordVectors:
    """Words and their vectors in memory. Row i of the matrix is the vector of word i.

    Parameters
    ----------
    words : iterable of str or bytes
        n distinct words. Most methods expect the most frequent word first.
    matrix : array_like, shape (n, d)
        The vectors; converted to C-contiguous float32.
    source : mapping, optional
        Where the vectors come from: ``name``, ``size`` in bytes, ``sha256``, ``format``. It is written to the header
        of a compressed file.
    warnings : iterable of str, optional
        Warnings of the reader, such as duplicate words or zero rows, with counts.

    Raises
    ------
    ShapeError
        If `matrix` does not have two axes, the numbers of words and rows differ, a word occurs twice, or a value is
        not finite or too large for float32.
    TypeError
        If `words` is one str, or a word is neither str nor bytes.

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
        if isinstance(words, (str, bytes)):
            raise TypeError(f"words must be a list of words, not one {type(words).__name__}")
        self.words = words if isinstance(words, Words) else Words(words)
        self.matrix = as_matrix(matrix)
        self.source, self.warnings = dict(source or {}), list(warnings or [])
        if len(self.words) != len(self.matrix):
            raise ShapeError("the numbers of words and of vectors differ", expected=f"{len(self.words)} rows",
                             found=f"{len(self.matrix)}", hint="Pass one row of the matrix for each word.")
        if len(repeats(self.words.text, self.words.bounds)[0]):
            (word, times), = Counter(self.words.raw).most_common(1)
            raise ShapeError("a word occurs more than once", found=f"{to_text(word)!r} {times} times",
                             hint="Keep the first row of each word.")

    @classmethod
    def checked(cls, words: Words, matrix: Matrix, source: dict[str, object], warnings: list[str]) -> WordVectors:
        """Return vectors without checking them; the caller has done so.

        The matrix may be rows on disk, for callers that can read these.
        """
        vectors = object.__new__(cls)
        vectors.words, vectors.matrix = words, cast("FloatArray", matrix)
        vectors.source, vectors.warnings = source, warnings
        return vectors

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.matrix.shape[1]

    def __contains__(self, word: str | bytes) -> bool:
        return self.words.find(word) >= 0

    def __getitem__(self, word: str | bytes) -> FloatArray:
        """Return the vector of a word, (d,) float32; raise KeyError if the word is missing."""
        index = self.words.find(word)
        if index < 0:
            raise KeyError(f"Key '{to_text(word) if isinstance(word, bytes) else word}' not present")
        vector: FloatArray = self.matrix[index]
        return vector
