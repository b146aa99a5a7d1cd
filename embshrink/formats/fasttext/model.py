"""A fastText model in memory: words, input matrix, and the vectors computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from embshrink.formats.base import Pruned, ReadOptions, ReadTable
from embshrink.formats.io.table_builder import finish_words, note_ngrams, plural, show
from embshrink.numerics.parallel import map_blocks
from embshrink.storage.arrays import ByteArray, FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix, Rows, Spool
from embshrink.vocabulary.ngram_hashing import all_bucket_ids, bucket_ids
from embshrink.vocabulary.words import Words, to_bytes

if TYPE_CHECKING:
    from embshrink.numerics.progress import Progress

BucketArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int32 | np.int64]]

BLOCK = 1 << 18  # n-grams looked up at a time
DECODED = 1 << 22  # numbers decoded at a time


@dataclass
class FastTextModel:
    """The words of a model and its input matrix; an `embshrink.formats.base.Model`.

    Parameters
    ----------
    version : int
        11 or 12; 0 for a model without magic.
    args : dict of str to number
        Training arguments, by fastText's names.
    words : Words
        n words, the most frequent first.
    counts : numpy.ndarray, shape (n,), int64
        Count of each word in the training text.
    places : numpy.ndarray, shape (n,), int64
        Byte offset of each word.
    labels : list of bytes
    minn, maxn, bucket : int
        As for `embshrink.vocabulary.ngram_hashing.bucket_ids`.
    pruned : tuple of numpy.ndarray, shape (k,), int64; or None
        The buckets that were kept, ascending, and the row of each; None if all were kept.
    table : InputMatrix
        The input matrix.
    cut : bool
        Whether the output matrix is incomplete.
    spool : embshrink.storage.disk_rows.Spool, optional
        Keeps vectors on disk that are too large for memory.
    """

    version: int
    args: dict[str, float]
    words: Words
    counts: IntArray
    places: IntArray
    labels: list[bytes]
    minn: int
    maxn: int
    bucket: int
    pruned: Pruned | None
    table: InputMatrix
    cut: bool
    spool: Spool | None = None

    codes = None  # a word's vector is the mean of several rows, so that it has no codes

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.args["dim"])

    @property
    def quantized(self) -> bool:
        """Whether the input matrix is stored as codes."""
        return isinstance(self.table, Quantized)

    @property
    def has_ngrams(self) -> bool:
        """Whether there are n-grams, from which OOV words get vectors."""
        return bool(self.maxn and self.bucket and (self.pruned is None or len(self.pruned[0])))

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows of the input matrix by number, shape (k, d), float32; the rows of words come first."""
        return self.table.rows(np.asarray(ids, dtype=np.int64))

    def vector(self, word: str | bytes) -> FloatArray:
        """Return the vector of any word, shape (d,), float32.

        Raises
        ------
        KeyError
            If the word is not in the vocabulary and no n-gram of it has a row.
        """
        index = self.words.find(word)
        buckets = np.array(bucket_ids(to_bytes(word), self.minn, self.maxn, self.bucket), dtype=np.int64)
        ids, _ = self._ngram_rows(buckets, np.array([len(buckets)]))
        if index >= 0:
            ids = np.concatenate([[index], ids])
        if not len(ids):
            raise KeyError(word)
        vector = np.zeros(self.dim, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for row in ids:  # one by one, to save memory and for fastText's order of summation
                vector += self.table.rows(np.array([row]))[0]
            return np.asarray(vector * np.float32(1 / len(ids)))

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, vectors and warnings, and overwrite the model's matrix; as `Model.finished_words`."""
        warnings = []
        if self.labels:
            more = ", ..." if len(self.labels) > 1 else ""
            warnings.append(f"dropped {plural(len(self.labels), 'label')} of the classifier, which are not words: "
                            f"{show(self.labels[0])}{more}")
        if self.has_ngrams and not ngrams_kept:
            warnings.append(note_ngrams(self.bucket if self.pruned is None else len(self.pruned[0])))
        if self.cut:
            warnings.append("the file ends in the output matrix; word vectors do not depend on it")
        return finish_words(self.words, self.places,
                            lambda count: self.word_vectors(count, overwrite=True, progress=progress), options, path,
                            warnings)

    def word_vectors(
        self, limit: int | None = None, *, overwrite: bool = False, progress: Progress | None = None
    ) -> Matrix:
        """Return the vectors of the words, computed as fastText does, in float32 and in its order.

        Parameters
        ----------
        limit : int, optional
            Only of the first `limit` words.
        overwrite : bool
            Save memory: overwrite the model's matrix, if it is in memory. The model cannot be used afterwards.
        progress : callable, optional
            Called as ``progress("average", done, total)``, in words.

        Returns
        -------
        numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (n, d), float32
        """
        words = self.words.raw[:limit]
        shape = len(words), self.dim
        if overwrite and isinstance(self.table, Dense) and self.table.in_memory:
            self._average(words, self.table.array[: len(words)], True, progress)
            self.table.array.resize(shape, refcheck=False)
            return self.table.array
        out: Matrix = np.empty(shape, np.float32) if self.spool is None else self.spool.empty(shape)
        self._average(words, out, False, progress)
        return out

    def _average(self, words: list[bytes], out: Matrix, in_place: bool, progress: Progress | None) -> None:
        """Write the vectors of words to `out`, in blocks; with `in_place`, `out` already has the words' own rows."""
        n = len(words)
        most = np.fromiter(map(len, words), dtype=np.int64, count=n)  # bound of a word's n-grams and itself
        most = np.cumsum((most + 2) * self.maxn + 1)
        bounds = np.searchsorted(most, np.arange(BLOCK, most[-1], BLOCK), side="right")
        bounds = np.unique(np.concatenate([[0], bounds, [n]])).tolist()
        done = 0

        def average(first: int, _: int) -> None:
            start, stop = bounds[first : first + 2]
            block = out[start:stop] if in_place else np.empty((stop - start, self.dim), np.float32)
            if not in_place:
                self.table.copy(start, stop, block)
            ids, ends = self._ngram_rows(*all_bucket_ids(words[start:stop], self.minn, self.maxn, self.bucket))
            with np.errstate(over="ignore", invalid="ignore"):
                self.table.add(ids, ends, block)
                counts = 1 + np.diff(ends, prepend=0)
                block *= (1 / counts).astype(np.float32)[:, None]
            if not in_place:
                out[start:stop] = block

        def on_done(_: int) -> None:
            nonlocal done
            done += 1
            if progress:
                progress("average", bounds[done], n)

        map_blocks(average, len(bounds) - 1, 1, on_done)

    def _ngram_rows(self, buckets: BucketArray, ends: IntArray) -> tuple[IntArray, IntArray]:
        """Return the rows of the buckets that were not pruned, and where each word's part of them ends."""
        if self.pruned is None:
            return buckets.astype(np.int64) + len(self.words), ends
        kept, rows = self.pruned
        if not len(kept):
            return np.empty(0, dtype=np.int64), np.zeros_like(ends)
        at = np.minimum(np.searchsorted(kept, buckets), len(kept) - 1)
        found = kept[at] == buckets
        before = np.concatenate([[0], np.cumsum(found)])
        return rows[at[found]] + len(self.words), before[ends]


class InputMatrix(Protocol):
    """The rows of words, then the rows of n-grams."""

    def rows(self, ids: IntArray, /) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""

    def copy(self, start: int, stop: int, out: FloatArray) -> None:
        """Copy the rows `start` to `stop` - 1 to `out`."""

    def add(self, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
        """Add sums of rows to the rows of `out`; as `embshrink.kernels.subwords.add_rows`."""


class Dense:
    """A matrix of float32, memory-mapped or in memory.

    Parameters
    ----------
    array : numpy.ndarray, shape (m, d), float32

    Attributes
    ----------
    in_memory : bool
        Whether the array owns its memory and is not mapped.
    """

    def __init__(self, array: FloatArray) -> None:
        self.array = array
        self.in_memory = array.flags.owndata

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""
        return np.asarray(self.array[ids])

    def copy(self, start: int, stop: int, out: FloatArray) -> None:
        """Copy the rows `start` to `stop` - 1 to `out`."""
        out[:] = self.array[start:stop]

    def add(self, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
        """Add sums of rows to the rows of `out`; as `embshrink.kernels.subwords.add_rows`."""
        from embshrink.kernels.subwords import add_rows

        add_rows(self.array, ids, ends, out)


class OnDisk:
    """A matrix of float32 that is too large for memory.

    Parameters
    ----------
    array : embshrink.storage.disk_rows.Rows, shape (m, d)
    """

    def __init__(self, array: Rows[np.float32]) -> None:
        self.array = array

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""
        return self.array[ids]

    def copy(self, start: int, stop: int, out: FloatArray) -> None:
        """Copy the rows `start` to `stop` - 1 to `out`."""
        out[:] = self.array[start:stop]

    def add(self, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
        """Add sums of rows to the rows of `out`; as `embshrink.kernels.subwords.add_rows`."""
        _add_in_parts(self, ids, ends, out)


class Quantized:
    """A matrix as product quantization codes; the norms of the rows may be codes of their own quantizer.

    Parameters
    ----------
    codes : numpy.ndarray, shape (m, subspaces), uint8
    codebooks : list of numpy.ndarray, shape (256, columns), float32
        One for each subspace; the last may have fewer columns.
    norm_codes : numpy.ndarray, shape (m,), uint8, or None
    norms : numpy.ndarray, shape (256,), float32, or None
        Codes and centroids of the norms; both or neither are None.
    """

    def __init__(
        self, codes: ByteArray, codebooks: list[FloatArray], norm_codes: ByteArray | None, norms: FloatArray | None
    ) -> None:
        self.codes = codes
        self.codebooks = codebooks
        self.norm_codes = norm_codes
        self.norms = norms
        self._dim = sum(book.shape[1] for book in codebooks)

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""
        return self._decode(ids)

    def _decode(self, ids: IntArray | slice) -> FloatArray:
        codes = np.asarray(self.codes[ids])
        out = np.empty((len(codes), self._dim), dtype=np.float32)
        column = 0
        for subspace, book in enumerate(self.codebooks):
            out[:, column : column + book.shape[1]] = book[codes[:, subspace]]
            column += book.shape[1]
        if self.norm_codes is not None and self.norms is not None:
            with np.errstate(over="ignore"):
                out *= self.norms[self.norm_codes[ids]][:, None]
        return out

    def copy(self, start: int, stop: int, out: FloatArray) -> None:
        """Copy the rows `start` to `stop` - 1 to `out`."""
        step = max(1, DECODED // self._dim)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            out[first - start : last - start] = self._decode(slice(first, last))

    def add(self, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
        """Add sums of rows to the rows of `out`; as `embshrink.kernels.subwords.add_rows`."""
        _add_in_parts(self, ids, ends, out)


def _add_in_parts(table: InputMatrix, ids: IntArray, ends: IntArray, out: FloatArray) -> None:
    """Add rows of a table that is no array: take some thousand distinct rows at a time, each once."""
    from embshrink.kernels.subwords import add_rows

    step = max(1, DECODED // out.shape[1])
    for first in range(0, len(ids), step):
        distinct, which = np.unique(ids[first : first + step], return_inverse=True)
        add_rows(table.rows(distinct), which, np.clip(ends - first, 0, len(which)), out)
