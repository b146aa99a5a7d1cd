"""Vectors for unseen words: the n-gram rows that are kept, and the mean of those a word is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embshrink.errors import FormatError
from embshrink.storage.disk_rows import on_blocks
from embshrink.vocabulary.ngram_hashing import Floret, Hashing
from embshrink.vocabulary.words import to_bytes

BITS_PER_RANK = 512


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


def encode_ids(ids, bucket):
    """Lay out which buckets have a row: a bit each, and how many come before every 512th.

    Returns
    -------
    dict of str to numpy.ndarray
        ``bitmap`` : (ceil(bucket / 8),) uint8, lowest bit first. A bucket's row is the number of bits before its own.
        ``ranks`` : (ceil(bucket / 512),) uint32.
    """
    bits = np.zeros(-(-bucket // 8) * 8, bool)
    bits[ids] = True
    starts = np.arange(0, bucket, BITS_PER_RANK)
    return {"bitmap": np.packbits(bits, bitorder="little"), "ranks": np.searchsorted(ids, starts).astype(np.uint32)}


def plan_ids(bucket):
    """Return dtype and shape of each array `encode_ids` makes."""
    return {"bitmap": (np.dtype(np.uint8), (-(-bucket // 8),)),
            "ranks": (np.dtype(np.uint32), (-(-bucket // BITS_PER_RANK),))}


def hashing_header(hashing):
    """Return the part of a file's header that says how n-grams are hashed."""
    part = {"minn": hashing.minn, "maxn": hashing.maxn, "bucket": hashing.bucket}
    return part if hashing.floret is None else {**part, "hash": "floret", **vars(hashing.floret)}


def hashing_of_header(part):
    """Return what `hashing_header` was given; raise FormatError if a value is impossible."""
    name = part.get("hash", "fnv1a")
    if name not in ("fnv1a", "floret"):
        raise FormatError("n-grams are hashed in an unknown way", expected="fnv1a or floret", found=name,
                          hint="Update embshrink: pip install -U embshrink")
    kinds = {"hashes": int, "seed": int, "bow": str, "eow": str} if name == "floret" else {}
    own = {key: part.get(key) for key in kinds}
    if any(type(own[key]) is not kind for key, kind in kinds.items()):
        raise FormatError("the header's subwords do not say how floret hashes", expected=sorted(kinds), found=part)
    try:
        return Hashing(part["minn"], part["maxn"], part["bucket"], Floret(**own) if own else None)
    except ValueError as error:
        raise FormatError(f"the header's subwords are impossible: {error}") from error


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
