"""What ``key_to_index`` and ``vectors`` return: views that read the table when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from embshrink.embeddings.table import VectorTable
from embshrink.storage.arrays import AnyArray
from embshrink.vocabulary.words import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from embshrink.storage.arrays import FloatArray

Indices: TypeAlias = "int | slice | Sequence[int] | AnyArray"  # as in numpy


class KeyToIndex(Mapping[str, int]):
    """Mapping from word to id that searches the vocabulary instead of building a dict."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words

    def __getitem__(self, word: object) -> int:
        index = self._words.find(word) if isinstance(word, (str, bytes)) else -1
        if index < 0:
            raise KeyError(word)
        return index

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} words>"


class LazyVectors(NDArrayOperatorsMixin):
    """All vectors as a read-only array that decodes the rows that are indexed.

    It has the operators, methods and attributes of `numpy.ndarray`. Those that need all numbers decode all rows, as
    ``numpy.asarray`` does. What they return is an array in memory.

    Attributes
    ----------
    shape : tuple of int
        Number of words, dimension.
    dtype : numpy.dtype
        float32.
    ndim : int
        2.
    size, nbytes : int
        Number of values, and the bytes that they take when all rows are decoded.

    Examples
    --------
    >>> import embshrink
    >>> emb = embshrink.as_embeddings(embshrink.WordVectors(["up", "down"], [[0.0, 2.0], [0.0, -1.0]]))
    >>> emb.vectors
    <LazyVectors: shape (2, 2), float32>
    >>> emb.vectors.mean(axis=0), 2 * emb.vectors[0]
    (array([0. , 0.5], dtype=float32), array([0., 4.], dtype=float32))
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, table: VectorTable) -> None:
        self._table = table
        self.shape = (len(table), table.vector_size)
        self.size = self.shape[0] * self.shape[1]
        self.nbytes = self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: shape {self.shape}, {self.dtype}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[FloatArray]:
        for _, block in self._table.blocks():
            yield from block

    def __getitem__(self, key: Indices | tuple[Indices, ...]) -> FloatArray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = np.arange(len(self))[first] if _is_plain(first) or np.asarray(first).ndim == 1 else None
        if rows is None or not all(map(_is_plain, rest)):  # such as a mask of numbers, or pairs of row and column
            part: FloatArray = self._whole()[key]
            return part
        vectors = self._table.decode_ids(np.atleast_1d(rows))
        return vectors[(slice(None) if np.ndim(rows) else 0, *rest)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("the vectors are decoded into a new array: copy=False is not possible")
        return self._whole() if dtype is None else self._whole().astype(dtype, copy=False)

    def _whole(self) -> FloatArray:
        """Return all vectors, decoded."""
        out = np.empty(self.shape, np.float32)
        for start, block in self._table.blocks():
            out[start : start + len(block)] = block
        return out

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, LazyVectors) for one in options.get("out", ())):
            raise TypeError("the vectors of a file are read-only: calculate with numpy.array(emb.vectors)")
        arrays = [one._whole() if isinstance(one, LazyVectors) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    @property
    def T(self) -> FloatArray:  # noqa: N802
        """The transpose, (dim, n)."""
        return self._whole().T

    def astype(self, dtype: DTypeLike, *, copy: bool = True) -> AnyArray:
        """Return all vectors with another dtype: always a new array, as all rows are decoded."""
        return self._whole().astype(dtype, copy=False)

    def mean(
        self, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None, *, keepdims: bool = False
    ) -> FloatArray:
        """Return the mean of all numbers, or along an axis, as `numpy.ndarray.mean` does."""
        mean: FloatArray = self._whole().mean(axis, dtype, out, keepdims=keepdims)
        return mean

    if not TYPE_CHECKING:  # type checkers know the attributes above

        def __setitem__(self, key: object, value: object) -> None:
            raise TypeError("the vectors of a file are read-only: change a copy, numpy.array(emb.vectors)")

        def __getattr__(self, name: str) -> object:
            if name.startswith("_") or name not in dir(np.ndarray):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            whole = self._whole()
            whole.setflags(write=False)  # so that methods such as sort() raise instead of changing a copy
            return getattr(whole, name)


def _is_plain(index: object) -> bool:
    """Whether an index is one number or a slice."""
    return isinstance(index, (int, np.integer, slice)) and not isinstance(index, bool)
