"""The n-gram rows of a model, before they are shrunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.storage.disk_rows import on_blocks
from embshrink.vocabulary.ngram_hashing import Hashing
from embshrink.vocabulary.words import to_bytes


@dataclass
class NgramTable:
    """The n-gram rows of a model, before they are shrunk.

    Parameters
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending.
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (k, d), float32
    uses : numpy.ndarray, shape (k,), float64
        How often each bucket is met in the words of the model, each taken once: unseen words are more like its many
        rare words than like its few frequent ones.
    missing : {"zero", "skip"}
        What an n-gram without a row counts as in the mean: a zero vector, or not at all.
    stored : embshrink.methods.pipeline.Stored, optional
        The same rows as the source has them, where that is as codes that a file of ours holds as they are.
    """

    hashing: Hashing
    ids: np.ndarray
    matrix: np.ndarray
    uses: np.ndarray
    missing: str
    stored: object = None

    def most_useful(self, count):
        """Return the table of the `count` n-grams with the largest uses times length; the rest become missing.

        The measure of compress-fasttext's ``prune_ft_freq``.
        """
        if count >= len(self.ids):
            return self
        worth = self.uses * on_blocks(lambda block: np.linalg.norm(block, axis=1), self.matrix)
        kept = np.sort(np.argsort(-worth, kind="stable")[:count])
        return NgramTable(self.hashing, self.ids[kept], self.matrix.take(kept, axis=0), self.uses[kept],
                          self.missing)


def of_model(model, spool=None):
    """Return the `NgramTable` of a fastText model.

    Buckets that no n-gram of any of the model's words falls into were never trained: they hold the
    random numbers training began with, and are left out. A word of the model has none of them.

    Parameters
    ----------
    model : embshrink.formats.fasttext.FastTextModel
    spool : embshrink.storage.disk_rows.Spool, optional
        Where rows go that are too many for memory.
    """
    from embshrink.numerics.arrays import as_matrix
    from embshrink.vocabulary.ngram_hashing import all_bucket_ids

    uses = np.zeros(model.bucket)
    raw, size = model.words.raw, 100_000
    for start in range(0, len(raw), size):
        ids, _ = all_bucket_ids(raw[start : start + size], model.minn, model.maxn, model.bucket)
        uses += np.bincount(ids, minlength=model.bucket)
    if model.pruned is None:
        ids = np.flatnonzero(uses)
        rows = ids
    else:
        ids, rows = model.pruned
    n = len(model.words)
    matrix = np.empty((len(ids), model.dim), np.float32) if spool is None else spool.empty((len(ids), model.dim))
    step = 16_384
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        matrix[start:stop] = as_matrix(model.rows(rows[start:stop] + n), "the n-gram matrix")
    missing = "zero" if model.pruned is None else "skip"
    return NgramTable(Hashing(model.minn, model.maxn, model.bucket), ids, matrix, uses[ids], missing)


def of_file(subwords):
    """Return the `NgramTable` of an open file's n-grams, decoded; each counts as used once."""
    ids = subwords.ids()
    return NgramTable(subwords.hashing, ids, np.asarray(subwords.rows.vectors), np.ones(len(ids)), subwords.missing)


def unseen_cosine(table, subwords, words, count=1000):
    """Return the mean cosine of vectors made of n-grams before and after, for words as if they were unseen.

    Parameters
    ----------
    table : NgramTable
    subwords : Subwords
    words : Words
        Some of these are taken, at even distances.
    count : int

    Returns
    -------
    float or None
        None if no word has an n-gram. A word whose n-grams are all gone counts as 0.
    """
    cosines = []
    for index in np.unique(np.linspace(0, len(words) - 1, min(count, len(words))).astype(np.int64)).tolist():
        word = to_bytes(words[index])
        buckets = np.array(table.hashing.ids(word), np.int64)
        at = np.searchsorted(table.ids, buckets)
        at = at[table.ids[np.minimum(at, len(table.ids) - 1)] == buckets]
        if not len(at):
            continue
        before, after = table.matrix[at].sum(axis=0), subwords.vector(word)
        length = 0 if after is None else np.linalg.norm(before) * np.linalg.norm(after)
        cosines.append(float(before @ after / length) if length else 0.0)
    return float(np.mean(cosines)) if cosines else None
