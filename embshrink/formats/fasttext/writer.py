"""Writes dense fastText models with the n-grams of an ``.ems`` file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import TargetError
from embshrink.formats.base import Outgoing, OutputFile
from embshrink.formats.fasttext.layout import ARGS, ENTRY, MAGIC, MAX_ROWS, SKIPGRAM, SOFTMAX, WITH_SUBWORDS
from embshrink.formats.io.table_builder import WRITE_TEXT, plural, show
from embshrink.numerics.arrays import as_matrix, first_nonfinite
from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray
from embshrink.vocabulary.ngram_hashing import all_bucket_ids

if TYPE_CHECKING:
    from embshrink.embeddings.subwords import Subwords

BLOCK = 1 << 18  # words written at a time
WRITTEN = 1 << 23  # numbers in the n-gram rows added at a time


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write a dense model with the n-grams of the embeddings; see `embshrink.formats.write_vectors`.

    In fastText a word's vector is the mean of its own row and the rows of its k n-grams. The embeddings have that
    mean, so the word's row is 1 + k times its vector, minus the rows of its n-grams.

    The output matrix has no rows: only further training needs it, and the embeddings do not have it. The loss is
    softmax without negative samples: for it fastText builds no tree or table over the words when it loads the model,
    and gensim refuses to train instead of reading past that matrix. The embeddings have no counts either; the file
    has n * n / rank, which falls as by Zipf's law without two equal counts.

    Raises
    ------
    TargetError
        If a word contains a NUL byte, a row is too large for float32, there are too many rows, or the n-grams are
        hashed as in floret.
    FormatError
        If the n-grams are damaged.
    """
    n, dim, subwords = len(outgoing.words), outgoing.dim, outgoing.subwords
    minn = maxn = bucket = 0
    if subwords is not None:
        hashing = subwords.hashing
        if hashing.floret is not None:
            raise TargetError("the n-grams are hashed as in floret, which a fastText model cannot store",
                              hint="Choose the format floret, or text to write the words alone.")
        minn, maxn, bucket = hashing.minn, hashing.maxn, hashing.bucket
    if n + bucket > MAX_ROWS:
        raise TargetError("there are too many rows for a fastText model", expected=f"at most {MAX_ROWS}",
                          found=f"{plural(n, 'word')} and {plural(bucket, 'bucket')} of n-grams",
                          hint="Choose another format.")
    args = {"dim": dim, "ws": 5, "epoch": 5, "minCount": 1, "neg": 0, "wordNgrams": 1, "loss": SOFTMAX,
            "model": SKIPGRAM, "bucket": bucket, "minn": minn, "maxn": maxn, "lrUpdateRate": 100, "t": 1e-4}
    file.write(MAGIC + struct.pack("<i12id", WITH_SUBWORDS, *(args[name] for name in ARGS)))
    _write_dictionary(file, outgoing.words.raw)
    file.write(struct.pack("<?2q", False, n + bucket, dim))
    _write_rows(file, outgoing)
    file.write(struct.pack("<?2q", False, 0, dim))


def _write_dictionary(file: OutputFile, raw: list[bytes]) -> None:
    """Write words, counts, and the mark that no bucket was pruned."""
    n = len(raw)
    entries = np.zeros(n, ENTRY)
    entries["count"] = n * n // np.arange(1, n + 1, dtype=np.int64)
    file.write(struct.pack("<3i2q", n, n, 0, int(entries["count"].sum()), -1))
    for start in range(0, n, BLOCK):
        words = raw[start : start + BLOCK]
        for word in words:
            if b"\0" in word:
                raise TargetError(f"the word {show(word)} contains a NUL byte, which a fastText model cannot store",
                                  hint=WRITE_TEXT)
        tails = entries[start : start + BLOCK].view("V9").tolist()  # bytes
        file.write(b"".join([b"%b\0%b" % pair for pair in zip(words, tails)]))


def _write_rows(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the rows of words, then the rows of n-grams."""
    raw, subwords = outgoing.words.raw, outgoing.subwords
    ngrams = None if subwords is None else Ngrams(subwords)
    start = 0
    for block in outgoing.blocks:
        words = raw[start : start + len(block)]
        rows = block if ngrams is None else own_rows(block, words, ngrams)
        file.write(rows.astype("<f4", copy=False).tobytes())
        start += len(block)
    for _, block in () if subwords is None else subwords.blocks():
        file.write(as_matrix(block, "the n-gram table").astype("<f4", copy=False).tobytes())


def own_rows(vectors: FloatArray, words: list[bytes], ngrams: Ngrams) -> FloatArray:
    """Return the rows of words, (n, d) float32, whose mean with the n-gram rows is the words' vectors."""
    counts, sums = ngrams.sums(words)
    with np.errstate(over="ignore"):
        rows: FloatArray = ((1 + counts)[:, None] * vectors.astype(np.float64) - sums).astype(np.float32)
    bad = first_nonfinite(rows)
    if bad >= 0:
        raise TargetError(f"the row of the word {show(words[bad])} is too large for float32",
                          hint="Check its vector and the vectors of its n-grams: they are unusually large.")
    return rows


class Ngrams:
    """Sums of the n-gram rows of many words.

    Parameters
    ----------
    subwords : embshrink.embeddings.subwords.Subwords
    """

    def __init__(self, subwords: Subwords) -> None:
        self._hashing = subwords.hashing
        self._table = subwords.rows
        # A last entry that is no n-gram's, so that a search for any bucket finds an entry.
        self._buckets = np.append(subwords.ids(), self._hashing.bucket)

    def sums(self, words: list[bytes]) -> tuple[IntArray, DoubleArray]:
        """Return the number of n-grams of each word, (n,) int64, and the sum of their rows, (n, d) float64."""
        from embshrink.kernels.subwords import add_rows

        dim = self._table.vector_size
        sums = np.zeros((len(words), dim))
        buckets, ends = all_bucket_ids(words, self._hashing.minn, self._hashing.maxn, self._hashing.bucket)
        counts = np.diff(ends, prepend=0)
        rows = np.searchsorted(self._buckets, buckets)
        found = self._buckets[rows] == buckets
        rows, ends = rows[found], np.concatenate([[0], np.cumsum(found)])[ends]
        step = max(1, WRITTEN // dim)
        for first in range(0, len(rows), step):
            distinct, places = np.unique(rows[first : first + step], return_inverse=True)
            decoded = as_matrix(self._table.decode_ids(distinct), "the n-gram table")
            add_rows(decoded, places, np.clip(ends - first, 0, len(places)), sums)
        return counts, sums
