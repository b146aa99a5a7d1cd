"""dedupe: words whose vectors are equal bit by bit share one row.

Rows are sorted as byte strings; the first row of each run of equal rows is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from embshrink.methods.base import Context, RowStep
from embshrink.methods.row_map import RowMap
from embshrink.storage.disk_rows import Matrix


@dataclass(frozen=True)
class Dedupe(RowStep):
    """Store each distinct vector once (lossless).

    Use it when many words have the same vector: such words then share one stored
    row. Vectors are compared bit by bit, so 0.0 and -0.0 differ. Rows are stored
    in the order of the first word of each. How many rows remain depends on the
    values, so a plan counts all rows.
    """

    literal: ClassVar[bool] = True
    owned: ClassVar[bool] = True
    source: ClassVar[str] = "spaCy Vectors.deduplicate_vectors"

    def resolve(self, n: int, d: int) -> Dedupe:
        return self

    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        return n, set()

    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        whole = np.ascontiguousarray(matrix, np.float32)
        as_bytes = whole.view(np.dtype((np.void, whole.shape[1] * 4))).ravel()
        _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
        owners = np.sort(first)
        rank = np.searchsorted(owners, first)
        return RowMap(rank[inverse.ravel()], len(owners), owners=owners), np.ascontiguousarray(whole[owners])
