"""The n-gram rows of a model, before steps are run on them."""

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

WORDS_AT_ONCE = 100_000  # words whose n-grams are hashed at a time


@dataclass
class NgramTable:
    """The n-gram rows of a model, before steps are run on them.

    Parameters
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
        How n-grams are hashed to buckets.
    ids : numpy.ndarray of int64, shape (k,)
        The buckets that have a row, ascending.
    matrix : numpy.ndarray of float32 or embshrink.storage.disk_rows.Rows, shape (k, d)
        Their rows.
    uses : numpy.ndarray of float64, shape (k,)
        How often each bucket occurs in the words of the model. Each word is counted once, because out-of-vocabulary
        words resemble the many rare words of the model more than its few frequent ones.
    missing : {"zero", "skip"}
        How an n-gram without a row counts in the mean: as a zero vector, or not at all.
    stored : embshrink.methods.pipeline.Shrunk, optional
        The rows as codes of the source, if an ``.ems`` file can hold these unchanged.
    """

    hashing: Hashing
    ids: IntArray
    matrix: Matrix
    uses: DoubleArray
    missing: str
    stored: Shrunk | None = None

    def most_useful(self, count: int) -> NgramTable:
        """Return the table of the `count` n-grams with the largest product of uses and length.

        The other n-grams become missing. This is the criterion of ``prune_ft_freq`` in compress-fasttext.
        """
        if count >= len(self.ids):
            return self
        worth = self.uses * on_blocks(lambda block: np.linalg.norm(block, axis=1), self.matrix)
        kept = np.sort(np.argsort(-worth, kind="stable")[:count])
        return replace(self, ids=self.ids[kept], matrix=self.matrix.take(kept, axis=0), uses=self.uses[kept],
                       stored=None)


def of_model(model: Model, spool: Spool | None = None) -> NgramTable:
    """Return the `NgramTable` of a fastText model.

    Buckets to which no n-gram of the model's words is hashed were never trained. Their rows still hold the random
    numbers of the initialization and are left out.

    Parameters
    ----------
    model : Model
        The model.
    spool : embshrink.storage.disk_rows.Spool, optional
        Keeps rows on disk that do not fit into memory.

    Raises
    ------
    ShapeError
        If a row holds a NaN or an infinity.
    """
    if model.pruned is None:  # each bucket has a row in the file
        uses = _uses(model, model.bucket)
        rows: IntArray = np.flatnonzero(uses)
        ids, uses = rows, uses[rows]
    else:  # a small file may state any number of buckets
        ids, rows = model.pruned
        uses = _uses(model, len(ids), ids)
    n = len(model.words)
    shape = len(ids), model.dim
    matrix: Matrix = np.empty(shape, np.float32) if spool is None else spool.empty(shape)
    for start in range(0, len(ids), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(ids))
        matrix[start:stop] = as_matrix(model.rows(rows[start:stop] + n), "the n-gram matrix")
    missing = "zero" if model.pruned is None else "skip"
    return NgramTable(Hashing(model.minn, model.maxn, model.bucket), ids, matrix, uses, missing)


def _uses(model: Model, count: int, kept: IntArray | None = None) -> DoubleArray:
    """Return how many n-grams of the words are hashed to each of `count` buckets: to all, or to those `kept`."""
    uses, raw = np.zeros(count), model.words.raw
    for start in range(0, len(raw), WORDS_AT_ONCE):
        found, _ = all_bucket_ids(raw[start : start + WORDS_AT_ONCE], model.minn, model.maxn, model.bucket)
        places = found if kept is None else np.searchsorted(kept, found[np.isin(found, kept)])
        uses += np.bincount(places, minlength=count)
    return uses


def of_file(subwords: Subwords) -> NgramTable:
    """Return the `NgramTable` of the n-grams of an open file, decoded; each n-gram counts as used once."""
    ids = subwords.ids()
    matrix = subwords.rows.decode_ids(np.arange(subwords.present))
    return NgramTable(subwords.hashing, ids, matrix, np.ones(len(ids)), subwords.missing)


def unseen_cosine(table: NgramTable, subwords: Subwords, words: Vocabulary, count: int = 1000) -> float | None:
    """Return the mean cosine of n-gram vectors of words before and after compression.

    The vectors of the words are made of n-grams alone, as those of out-of-vocabulary words are.

    Parameters
    ----------
    table : NgramTable
        The n-grams before.
    subwords : Subwords
        The n-grams after.
    words : Vocabulary
        Words to compare, taken at even distances.
    count : int, default 1000
        Largest number of words to compare.

    Returns
    -------
    float or None
        None if no word has an n-gram. A word that lost all its n-grams counts as 0.
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
