"""The n-gram rows of a model, before they are shrunk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embshrink.embeddings.subwords import Subwords
from embshrink.formats.base import Model
from embshrink.methods.pipeline import Shrunk
from embshrink.numerics.arrays import as_matrix
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.storage.arrays import DoubleArray, IntArray
from embshrink.storage.disk_rows import Matrix, Spool, on_blocks
from embshrink.vocabulary.ngram_hashing import Hashing, all_bucket_ids
from embshrink.vocabulary.words import Vocabulary

WORDS_AT_ONCE = 100_000  # whose n-grams are hashed


@dataclass
class NgramTable:
    """The n-gram rows of a model, before they are shrunk.

    Parameters
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending.
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (k, d), float32
        Their rows.
    uses : numpy.ndarray, shape (k,), float64
        How often each bucket occurs in the words of the model, each word counted once: unseen words are more like the
        model's many rare words than like its few frequent ones.
    missing : {"zero", "skip"}
        What an n-gram without a row counts as in the mean: a zero vector, or not at all.
    stored : embshrink.methods.pipeline.Shrunk, optional
        The same rows in the codes of the source, where an ``.ems`` file can hold those as they are.
    """

    hashing: Hashing
    ids: IntArray
    matrix: Matrix
    uses: DoubleArray
    missing: str
    stored: Shrunk | None = None

    def most_useful(self, count: int) -> NgramTable:
        """Return the table of the `count` n-grams with the largest uses times length; the rest become missing.

        The measure of compress-fasttext's ``prune_ft_freq``.
        """
        if count >= len(self.ids):
            return self
        worth = self.uses * on_blocks(lambda block: np.linalg.norm(block, axis=1), self.matrix)
        kept = np.sort(np.argsort(-worth, kind="stable")[:count])
        return replace(self, ids=self.ids[kept], matrix=self.matrix.take(kept, axis=0), uses=self.uses[kept],
                       stored=None)


def of_model(model: Model, spool: Spool | None = None) -> NgramTable:
    """Return the `NgramTable` of a fastText model.

    Buckets that no n-gram of the model's words falls into were never trained: their rows still hold the random
    numbers they were initialized with, and are left out. No word of the model uses them.

    Parameters
    ----------
    model : Model
    spool : embshrink.storage.disk_rows.Spool, optional
        Where rows go that are too many for memory.

    Raises
    ------
    ShapeError
        If a row holds a NaN or an infinity.
    """
    uses = np.zeros(model.bucket)
    raw = model.words.raw
    for start in range(0, len(raw), WORDS_AT_ONCE):
        found, _ = all_bucket_ids(raw[start : start + WORDS_AT_ONCE], model.minn, model.maxn, model.bucket)
        uses += np.bincount(found, minlength=model.bucket)
    if model.pruned is None:
        rows: IntArray = np.flatnonzero(uses)
        ids = rows
    else:
        ids, rows = model.pruned
    n = len(model.words)
    shape = len(ids), model.dim
    matrix: Matrix = np.empty(shape, np.float32) if spool is None else spool.empty(shape)
    for start in range(0, len(ids), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(ids))
        matrix[start:stop] = as_matrix(model.rows(rows[start:stop] + n), "the n-gram matrix")
    missing = "zero" if model.pruned is None else "skip"
    return NgramTable(Hashing(model.minn, model.maxn, model.bucket), ids, matrix, uses[ids], missing)


def of_file(subwords: Subwords) -> NgramTable:
    """Return the `NgramTable` of an open file's n-grams, decoded; each counts as used once."""
    ids = subwords.ids()
    matrix = subwords.rows.decode_ids(np.arange(subwords.present))
    return NgramTable(subwords.hashing, ids, matrix, np.ones(len(ids)), subwords.missing)


def unseen_cosine(table: NgramTable, subwords: Subwords, words: Vocabulary, count: int = 1000) -> float | None:
    """Return the mean cosine of vectors made of n-grams before and after, for words as if they were unseen.

    Parameters
    ----------
    table : NgramTable
    subwords : Subwords
    words : Vocabulary
        Words to compare, taken at even distances.
    count : int
        How many are taken, at most.

    Returns
    -------
    float or None
        None if no word has an n-gram. A word whose n-grams are all gone counts as 0.
    """
    cosines = []
    for index in np.unique(np.linspace(0, len(words) - 1, min(count, len(words))).astype(np.int64)).tolist():
        word = words.raw_at(index)
        buckets = np.array(table.hashing.ids(word), np.int64)
        at = np.searchsorted(table.ids, buckets)
        at = at[table.ids[np.minimum(at, len(table.ids) - 1)] == buckets]
        if not len(at):
            continue
        before, after = table.matrix[at].sum(axis=0), subwords.vector(word)
        length = 0 if after is None else np.linalg.norm(before) * np.linalg.norm(after)
        cosines.append(float(before @ after / length) if length else 0.0)
    return float(np.mean(cosines)) if cosines else None
