"""The k best columns for each query, over tiles of products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import FAST, kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import FloatArray, IntArray

_RUN = 64  # number of columns skipped together if none of them is good enough


@kernel(fastmath=FAST)
def keep_top(products: FloatArray, terms: IntArray, signs: FloatArray, first: int, top_scores: FloatArray,
             top_ids: IntArray) -> None:
    """Update the k best columns of each query by a tile; on a tie, old columns come first, then lower columns.

    products (w, c) float32: scores of w words for c columns; terms (q, t) int64: the words of each query; signs (t,)
    float32: their signs. The score of query i is ``sum(signs[t] * products[terms[i, t]])``. top_scores (q, k) float32
    and top_ids (q, k) int64, ``first + column``, are sorted, best first; empty places hold a score below any other.
    """
    columns = products.shape[1]
    k = top_scores.shape[1]
    row = np.empty(columns, np.float32)
    for i in range(terms.shape[0]):
        if terms.shape[1] == 3:  # analogies: one loop, so that sums stay in registers
            first_sign, second_sign, third_sign = signs[0], signs[1], signs[2]
            one, two, three = products[terms[i, 0]], products[terms[i, 1]], products[terms[i, 2]]
            for j in range(columns):
                row[j] = first_sign * one[j] + second_sign * two[j] + third_sign * three[j]
        else:
            row[:] = 0
            for t in range(terms.shape[1]):
                product = products[terms[i, t]]
                sign = signs[t]
                for j in range(columns):
                    row[j] += sign * product[j]
        best = top_scores[i]
        ids = top_ids[i]
        for start in range(0, columns, _RUN):
            run = row[start : start + _RUN]
            limit = best[k - 1]
            some = False
            for j in range(len(run)):  # a maximum would not be compiled to SIMD
                some |= run[j] > limit
            if not some:
                continue
            for j in range(len(run)):
                value = run[j]
                if value > best[k - 1]:
                    place = k - 1
                    while place > 0 and value > best[place - 1]:
                        best[place] = best[place - 1]
                        ids[place] = ids[place - 1]
                        place -= 1
                    best[place] = value
                    ids[place] = first + start + j
