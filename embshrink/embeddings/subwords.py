"""Vectors of out-of-vocabulary words: the mean of the rows of a word's n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.vocabulary.bitmap import Bitmap
from embshrink.vocabulary.ngram_hashing import Hashing
from embshrink.vocabulary.ngram_rows import encode_ids, plan_ids
from embshrink.vocabulary.words import Word, to_bytes

if TYPE_CHECKING:
    from embshrink.storage.arrays import FloatArray, IntArray, StoredArray


class RowTable(Protocol):
    """A table of n-gram rows; `Embeddings` is one."""

    @property
    def vector_size(self) -> int:
        """Dimension of the vectors."""

    @property
    def block_rows(self) -> int:
        """Number of rows to decode at a time."""

    def decode_ids(self, ids: IntArray, /) -> FloatArray:
        """Return rows as float32, (k, d), given their numbers, (k,)."""

    def check_rows(self) -> None:
        """Check every code and every decoded row; raise FormatError at the first fault."""


class Subwords:
    """Makes vectors of out-of-vocabulary words from the n-grams of an open file.

    Parameters
    ----------
    header : mapping
        The keys of `Hashing.as_header`, and ``present`` and ``missing``.
    arrays : mapping of str to array_like
        The arrays of `encode_ids`, memory-mapped or not.
    rows : RowTable
        The n-gram rows.

    Raises
    ------
    FormatError
        If header and arrays contradict each other.

    Attributes
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
        How n-grams are hashed to buckets.
    present : int
        Number of buckets that have a row.
    missing : {"zero", "skip"}
        How an n-gram without a row counts in the mean: as a zero vector, or not at all.
    bitmap : embshrink.vocabulary.bitmap.Bitmap
        One bit for each bucket, set if the bucket has a row. The rank of the bit is the number of the row.
    rows : RowTable
        The n-gram rows.
    """

    def __init__(self, header: Mapping[str, object], arrays: Mapping[str, StoredArray], rows: RowTable) -> None:
        self.hashing = Hashing.from_header(header)
        present, missing = header["present"], header["missing"]
        if (
            not isinstance(present, int) or not 0 <= present <= self.hashing.bucket
            or not isinstance(missing, str) or missing not in ("zero", "skip")
        ):
            raise FormatError("the header's subwords have an impossible 'present' or 'missing'", found=header,
                              expected=f"present 0 to {self.hashing.bucket}, missing zero or skip", hint=DAMAGED)
        for name, (dtype, shape) in plan_ids(self.hashing.bucket).items():
            part = arrays.get(name)
            if part is None or part.dtype.name != dtype.name or part.shape != shape:
                raise FormatError(f"section ngrams.{name} is missing or has another shape", hint=DAMAGED,
                                  expected=f"{dtype} {shape}",
                                  found="no section" if part is None else f"{part.dtype} {part.shape}")
        self.present, self.missing, self.rows = present, missing, rows
        self.bitmap = Bitmap(arrays["bitmap"], arrays["ranks"])

    def _row(self, bucket: int) -> int:
        """Return the row of a bucket, or -1."""
        if not self.bitmap.bit(bucket):  # the usual case if many n-grams were left out, and faster than rank()
            return -1
        row, _ = self.bitmap.rank(bucket)
        if row >= self.present:
            raise FormatError("ngrams.ranks refers to a row that does not exist", found=row,
                              expected=f"< {self.present}", hint=DAMAGED)
        return row

    def vector(self, word: Word) -> FloatArray | None:
        """Return the mean of a word's n-gram rows, (d,) float32; None if none of its n-grams has a row.

        A word without n-grams, such as the empty word, has a vector of zeros, as in fastText.
        """
        buckets = self.hashing.ids(to_bytes(word))
        if not buckets:
            return np.zeros(self.rows.vector_size, np.float32)
        rows = [row for row in map(self._row, buckets) if row >= 0]
        if not rows:
            return None
        total: FloatArray = self.rows.decode_ids(np.array(rows, np.int64)).sum(axis=0, dtype=np.float32)
        return total / np.float32(len(rows) if self.missing == "skip" else len(buckets))

    def ids(self) -> IntArray:
        """Return the buckets that have a row, (present,) int64, ascending."""
        ids = np.flatnonzero(np.unpackbits(np.asarray(self.bitmap.bits, np.uint8), bitorder="little"))
        if len(ids) and ids[-1] >= self.hashing.bucket:
            raise FormatError("ngrams.bitmap has bits set after the last bucket", expected=f"< {self.hashing.bucket}",
                              found=int(ids[-1]), hint=DAMAGED)
        if len(ids) != self.present:
            raise FormatError("ngrams.bitmap does not have one bit set for each row", expected=self.present,
                              found=len(ids), hint=DAMAGED)
        return ids

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first bucket, vectors) over all buckets, `block_rows` at a time; zeros for buckets without a row."""
        ids = self.ids()
        step = self.rows.block_rows
        for start in range(0, self.hashing.bucket, step):
            stop = min(start + step, self.hashing.bucket)
            first, last = np.searchsorted(ids, [start, stop])
            block = np.zeros((stop - start, self.rows.vector_size), np.float32)
            block[ids[first:last] - start] = self.rows.decode_ids(np.arange(first, last))
            yield start, block

    def check(self) -> None:
        """Raise FormatError unless the bitmap and its ranks agree, and every row decodes."""
        ids = self.ids()
        ranks = encode_ids(ids, self.hashing.bucket)["ranks"]
        if not np.array_equal(ranks, np.asarray(self.bitmap.ranks)):
            raise FormatError("ngrams.ranks does not agree with ngrams.bitmap", hint=DAMAGED)
        self.rows.check_rows()
