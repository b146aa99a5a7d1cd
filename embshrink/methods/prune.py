"""prune: keep the most frequent words' vectors; the other words share the nearest kept one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.arrays import row_norms, unit_rows
from embshrink.errors import ShapeError
from embshrink.methods.base import RowMap, param

LEAST_KEPT = 20_000


@dataclass(frozen=True)
class Prune:
    """Keep the vectors of the most frequent words; map each other word to the nearest kept one.

    Kept words stay exact. A removed word answers with the kept vector of highest cosine
    (exact search, lowest id on a tie), or is dropped if that cosine is below `min_similarity`.
    With `norms` it answers with that vector at its own length.
    A removed zero vector maps to a kept zero vector, for which the last kept word gives up its
    place if need be.

    Notes
    -----
    finalfusion-rust issue 26, variant 1, and spaCy's ``Vocab.prune_vectors``; unlike the latter,
    ties and order are fixed, so the result is reproducible.
    """

    axis: ClassVar[str] = "rows"
    source: ClassVar[str] = "finalfusion-rust#26 (1); spaCy Vocab.prune_vectors"

    keep: int | None = param(None, "how many vectors to keep; a tenth, at least 20,000, by default", low=1)
    min_similarity: float = param(-1.0, "drop a removed word whose best cosine is below this", low=-1.0, high=1.0)
    norms: bool = param(False, "store each word's length relative to its vector's (2 bytes a word)")

    def resolve(self, n, d):
        keep = max(LEAST_KEPT, n // 10) if self.keep is None else self.keep
        return replace(self, keep=max(1, min(keep, n)))

    def plan(self, n, d):
        return self.keep, {"scale": (np.dtype(np.float16), (n,))} if self.norms else {}

    def reduce(self, matrix, context):
        from embshrink.nearest import best_targets

        n = len(matrix)
        kept = self._kept(matrix, context)
        removed = np.setdiff1d(np.arange(n), kept, assume_unique=True)
        rows = np.empty(n, np.int64)
        rows[kept] = np.arange(len(kept))
        lengths = row_norms(matrix)
        # A row's own length does not change which target is best: it is divided out of the score alone.
        match, score = best_targets(matrix, unit_rows(matrix[kept]), rows=removed, progress=context.progress,
                                    stage="pruning")
        zero = lengths[removed] == 0
        if zero.any():
            match[zero] = np.flatnonzero(lengths[kept] == 0)[0]
        cosine = np.divide(score, lengths[removed], out=np.ones_like(score), where=~zero)
        match[cosine < self.min_similarity] = -1
        rows[removed] = match
        scale = self._scale(lengths, kept, rows) if self.norms else None
        return RowMap(rows, len(kept), owners=kept, scale=scale), np.ascontiguousarray(matrix[kept])

    def _scale(self, lengths, kept, rows):
        of_row = lengths[kept][rows]
        scale = np.divide(lengths, of_row, out=np.ones_like(lengths), where=of_row > 0)
        return np.minimum(scale, np.finfo(np.float16).max).astype(np.float16).astype(np.float32)

    def _kept(self, matrix, context):
        """Return the ids to keep, ascending: the protected, then the most frequent."""
        protected = np.unique(context.protected)
        if len(protected) > self.keep:
            raise ShapeError("more words are protected than may be kept", expected=f"<= {self.keep}",
                             found=len(protected), hint="Raise keep, or protect fewer words.")
        frequency = context.weights if context.leading is None else context.leading
        order = np.argsort(-frequency, kind="stable")
        free = order[~np.isin(order, protected)][: self.keep - len(protected)]
        kept = np.concatenate([protected, free])
        zeros = np.flatnonzero(~matrix.any(axis=1))
        if len(zeros) and not np.isin(zeros, kept).any() and len(free):
            kept[-1] = zeros[0]
        return np.sort(kept)
