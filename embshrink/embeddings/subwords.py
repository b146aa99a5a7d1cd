"""Vectors for unseen words: the mean of the n-gram rows that a word is made of."""

from __future__ import annotations

import numpy as np

from embshrink.errors import FormatError
from embshrink.vocabulary.ngram_hashing import hashing_of_header
from embshrink.vocabulary.ngram_rows import BITS_PER_RANK, encode_ids, plan_ids
from embshrink.vocabulary.words import to_bytes


class Subwords:
    """Vectors for unseen words, out of an open file.

    Parameters
    ----------
    header : dict
        What `hashing_header` made, ``present``, ``missing``.
    arrays : mapping of str to array_like
        What `encode_ids` made, mapped or not.
    rows : Embeddings
        The n-gram rows, by number.

    Raises
    ------
    FormatError
        If they contradict each other.

    Attributes
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
    present : int
        How many buckets have a row.
    missing : {"zero", "skip"}
        As for `NgramTable`.
    """

    def __init__(self, header, arrays, rows):
        self.hashing = hashing_of_header(header)
        self.present, self.missing = header["present"], header["missing"]
        if not 0 <= self.present <= self.hashing.bucket or self.missing not in ("zero", "skip"):
            raise FormatError("the header's subwords have an impossible number", found=header)
        for name, (dtype, shape) in plan_ids(self.hashing.bucket).items():
            part = arrays.get(name)
            if part is None or part.dtype.name != dtype.name or part.shape != shape:
                raise FormatError(f"section ngrams.{name} is missing or does not fit", expected=f"{dtype} {shape}",
                                  found=None if part is None else f"{part.dtype} {part.shape}")
        self.bitmap, self._ranks, self.rows = arrays["bitmap"], arrays["ranks"], rows

    def _row(self, bucket):
        """Return the row of a bucket, or -1."""
        byte = int(self.bitmap[bucket >> 3])
        if not byte >> (bucket & 7) & 1:
            return -1
        first = bucket // BITS_PER_RANK
        before = self.bitmap[first * BITS_PER_RANK // 8 : bucket >> 3].tobytes()
        row = int(self._ranks[first]) + int.from_bytes(before, "little").bit_count()
        row += (byte & ((1 << (bucket & 7)) - 1)).bit_count()
        if row >= self.present:
            raise FormatError("ngrams.ranks points past the last row", expected=f"< {self.present}", found=row)
        return row

    def vector(self, word):
        """Return the mean of a word's n-gram rows, (d,) float32, or None if it has none that is here."""
        buckets = self.hashing.ids(to_bytes(word))
        rows = [row for row in map(self._row, buckets) if row >= 0]
        if not rows:
            return None
        total = self.rows.decode_ids(np.array(rows)).sum(axis=0, dtype=np.float32)
        return total / np.float32(len(rows) if self.missing == "skip" else len(buckets))

    def ids(self):
        """Return the buckets that have a row, ascending, (present,) int64."""
        ids = np.flatnonzero(np.unpackbits(np.asarray(self.bitmap), bitorder="little"))
        if len(ids) and ids[-1] >= self.hashing.bucket:
            raise FormatError("ngrams.bitmap has bits beyond the last bucket")
        if len(ids) != self.present:
            raise FormatError("ngrams.bitmap does not have a bit for each row", expected=self.present, found=len(ids))
        return ids

    def blocks(self):
        """Yield (first bucket, vectors) over all buckets, some thousand at a time; zeros for those without a row."""
        ids = self.ids()
        step = self.rows.block_rows
        for start in range(0, self.hashing.bucket, step):
            stop = min(start + step, self.hashing.bucket)
            first, last = np.searchsorted(ids, [start, stop])
            block = np.zeros((stop - start, self.rows.vector_size), np.float32)
            block[ids[first:last] - start] = self.rows.decode_ids(np.arange(first, last))
            yield start, block

    def check(self):
        """Raise FormatError unless the bitmap and its ranks agree, and every row decodes."""
        ids = self.ids()
        ranks = encode_ids(ids, self.hashing.bucket)["ranks"]
        if not np.array_equal(ranks, np.asarray(self._ranks)):
            raise FormatError("ngrams.ranks does not count ngrams.bitmap")
        self.rows.check_rows()
