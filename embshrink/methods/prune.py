"""prune: keep the vectors of frequent or representative words; the others share the nearest kept vector.

A removed word i is mapped to the row of ``argmax_j cos(x_i, x_j)`` over the kept words j. ``select=facility`` looks
for the set S of kept words that maximizes ``sum_i w_i max_{j in S} cos(x_i, x_j)``: greedily on a graph of nearest
neighbours, then by k-medoids updates. See `embshrink.numerics.facility`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import ShapeError
from embshrink.methods.base import Context, RowStep, param, resolved
from embshrink.methods.row_map import RowMap
from embshrink.numerics.arrays import comparable_rows, row_lengths, row_norms, unit_rows, within_one
from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix, on_blocks

LEAST_KEPT = 20_000


@dataclass(frozen=True)
class Prune(RowStep):
    """Keep the vectors of some words; other words use the nearest kept one.

    Use it when frequent words must stay exact. Kept words lose nothing. A removed
    word gets the kept vector of highest cosine similarity (exact search, lowest id
    on a tie), so the vocabulary stays complete; with `min_similarity` a removed
    word is dropped if this cosine is too low. With `norms` a removed word keeps
    the length of its own vector.

    ``select=frequency`` keeps the most frequent words. ``select=facility`` keeps
    words that represent the whole vocabulary: it raises the sum, over all words,
    of the cosine similarity to the nearest kept word. Every word counts the same,
    or with `weighted` by its frequency.

    A removed zero vector gets a kept zero vector: if necessary, a zero vector
    takes the place of the last kept word.

    Notes
    -----
    finalfusion-rust issue 26, variants 1 and 2, and spaCy's ``Vocab.prune_vectors``. Unlike spaCy's, the choice on
    ties and the order of rows are fixed, so the result is reproducible. Facility location: lazy greedy (Minoux 1978)
    on a graph of nearest neighbours, then `polish` rounds that move each kept word to the medoid of its cluster.
    """

    by_blocks: ClassVar[bool] = True
    literal: ClassVar[bool] = True
    owned: ClassVar[bool] = True
    source: ClassVar[str] = "finalfusion-rust issue 26, variants 1 and 2; spaCy Vocab.prune_vectors"

    keep: int | None = param(None, "number of vectors to keep; a tenth of them, but at least 20,000, by default",
                             low=1)
    min_similarity: float = param(-1.0, "drop a removed word if its highest cosine is below this", low=-1.0, high=1.0)
    select: str = param("frequency", "words to keep: the most frequent, or the most representative",
                        choices=("frequency", "facility"))
    weighted: bool = param(False, "with facility: weight each word by its frequency")
    neighbours: int = param(32, "with facility: nearest neighbours considered for each word", low=1, high=1000)
    polish: int = param(3, "with facility: rounds that move kept words to the medoids of their clusters", low=0,
                        high=100)
    norms: bool = param(False, "store each word's length relative to the kept vector's (2 bytes per word)")

    @property
    def weighs(self) -> bool:
        return self.select == "frequency" or self.weighted

    def resolve(self, n: int, d: int) -> Prune:
        keep = max(LEAST_KEPT, n // 10) if self.keep is None else self.keep
        keep = max(1, min(keep, n))
        return replace(self, keep=keep, norms=self.norms and keep < n)  # a kept vector has its own length

    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        keep = resolved(self.keep)
        typical = self.select == "facility" and keep < n
        parts = (("scale", self.norms), ("owners", typical))
        return keep, {name for name, needed in parts if needed}

    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        from embshrink.numerics.assignment import best_targets

        n, vectors = len(matrix), comparable_rows(matrix)
        kept = self._kept(vectors, context)
        removed = np.setdiff1d(np.arange(n), kept, assume_unique=True)
        rows = np.empty(n, np.int64)
        rows[kept] = np.arange(len(kept))
        lengths = on_blocks(row_norms, vectors)
        # The length of a row does not change which target is best, so only the score is divided by it.
        match, score = best_targets(vectors, unit_rows(vectors[kept]), rows=removed, progress=context.progress,
                                    stage="pruning")
        zero = lengths[removed] == 0
        if zero.any():
            match[zero] = np.flatnonzero(lengths[kept] == 0)[0]
        cosine = within_one(np.divide(score, lengths[removed], out=np.ones_like(score), where=~zero))
        match[cosine < self.min_similarity] = -1
        rows[removed] = match
        scale = self._scale(on_blocks(row_lengths, matrix), kept, rows) if self.norms else None
        return RowMap(rows, len(kept), owners=kept, scale=scale), matrix.take(kept, axis=0)

    @staticmethod
    def _scale(lengths: DoubleArray, kept: IntArray, rows: IntArray) -> FloatArray:
        """Return the length of each word relative to its kept row, rounded to float16 as in the file."""
        of_row = lengths[kept][rows]
        scale = np.divide(lengths, of_row, out=np.ones_like(lengths), where=of_row > 0)
        ratio = np.minimum(scale, np.finfo(np.float16).max).astype(np.float32)
        return ratio.astype(np.float16).astype(np.float32)

    def _kept(self, matrix: Matrix, context: Context) -> IntArray:
        """Return the ids to keep, ascending: protected words, then the most frequent or most representative."""
        keep, protected = resolved(self.keep), np.unique(context.protected)
        if len(protected) > keep:
            raise ShapeError(f"more words are protected than prune:keep={keep} allows", expected=f"<= {keep}",
                             found=len(protected),
                             hint="Raise keep, or protect fewer words with keep_words= (command line: --keep-words).")
        if self.select == "facility" and keep < len(matrix):
            kept = self._kept_by_facility(matrix, context, protected)
        else:
            order = context.by_frequency()
            free = order[~np.isin(order, protected)][: keep - len(protected)]
            kept = np.concatenate([protected, free])
        return _with_zero(matrix, kept, protected)

    def _kept_by_facility(self, matrix: Matrix, context: Context, protected: IntArray) -> IntArray:
        from embshrink.numerics.assignment import best_targets
        from embshrink.numerics.facility import facility_location, polish_medoids

        vectors = np.asarray(matrix, np.float32)  # raises an error if rows on disk do not fit into memory
        n = len(vectors)
        weights = context.weights * n if self.weighted else np.ones(n)
        kept = facility_location(vectors, resolved(self.keep), weights, context.rng, fixed=protected,
                                 neighbours=self.neighbours, progress=context.progress)
        for done in range(self.polish):
            match, _ = best_targets(vectors, unit_rows(vectors[kept]))
            moved = polish_medoids(vectors, kept, match, weights, protected)
            context.progress("polishing", done + 1, self.polish)
            if np.array_equal(moved, kept):
                break
            kept = moved
        return kept


def _with_zero(matrix: Matrix, kept: IntArray, protected: IntArray) -> IntArray:
    """Return the kept rows, ascending; one of them is a zero row if the matrix has any."""
    zeros = np.flatnonzero(~on_blocks(lambda block: np.asarray(block.any(axis=1)), matrix))
    if len(zeros) and not np.isin(zeros, kept).any():
        free = np.flatnonzero(~np.isin(kept, protected))
        if not len(free):
            raise ShapeError(f"the protected words leave no room in prune:keep={len(kept)} for a zero vector, which "
                             f"{len(zeros)} of the other words have", expected=f"keep >= {len(kept) + 1}",
                             hint="Raise keep, or protect fewer words with keep_words= (command line: --keep-words).")
        kept[free[-1]] = zeros[0]
    return np.sort(kept)
