"""Rows as 8-bit numbers of which the error is known, and a pass over them that finds what may be best."""

from __future__ import annotations

import math

import numpy as np

from embshrink.kernels import FAST, kernel

_RUN = 64  # rows at once: their products are made first, so that what follows is SIMD too


@kernel(fastmath=FAST)
def encode_rows(rows, shortest, longest, margin, codes, scales, bounds):
    """Round rows (n, d) float32, brought to length 1, to ``scale * code``; bounds are the lengths of what is lost.

    codes (n, w) int8 with w >= d come filled with zeros; scales and bounds (n,) float32. Every bound has `margin`
    added; a zero row has scale and bound 0; a row not of a length from shortest to longest has an infinite bound.
    """
    for i in range(rows.shape[0]):
        row = rows[i]
        total = 0.0
        peak = np.float32(0)
        for j in range(len(row)):
            value = np.float64(row[j])
            total += value * value
            peak = max(peak, abs(row[j]))
        length = math.sqrt(total)
        scales[i] = 0
        bounds[i] = 0 if length == 0 else np.inf
        if not shortest <= length <= longest:
            continue
        scale = np.float32(np.float64(peak) / length / 127)
        scales[i] = scale
        code = codes[i]
        lost = 0.0
        for j in range(len(row)):
            unit = np.float64(row[j]) / length
            rounded = np.rint(unit / scale)
            code[j] = np.int8(rounded)
            rest = unit - scale * rounded
            lost += rest * rest
        bounds[i] = math.sqrt(lost) + margin


@kernel(fastmath=FAST)
def scan_rows(codes, scales, bounds, start, stop, eligible, query, factor, reach, error, best, rows, uppers):
    """Find the rows from `start` to `stop` that may be among the k of highest cosine to the query; return how many.

    codes (n, w) int8, scales and bounds (n,) float32, eligible (n,) bool, or empty where all are, query (w,) int16.
    A row's cosine is ``factor * scale * (code . query)``, give or take ``bound * reach + error``. best (k,) float32
    comes sorted, largest first, and gets the k largest of what it had and the least cosines that rows may have; rows
    (n,) int64 and uppers (n,) float32 get, in their first places, the rows found, ascending, and the most their
    cosines may be.
    """
    k = len(best)
    products = np.empty(_RUN, np.int32)
    highest = np.empty(_RUN, np.float32)
    lowest = np.empty(_RUN, np.float32)
    found = 0
    for first in range(start, stop, _RUN):
        last = min(first + _RUN, stop)
        run = codes[first:last]
        for i in range(len(run)):
            row = run[i]
            product = np.int32(0)
            for j in range(len(query)):
                product += np.int32(row[j]) * np.int32(query[j])
            products[i] = product
        scale = scales[first:last]
        bound = bounds[first:last]
        least = best[k - 1]
        some = False
        for i in range(len(run)):
            cosine = factor * scale[i] * np.float32(products[i])
            slack = bound[i] * reach + error
            highest[i] = cosine + slack
            lowest[i] = cosine - slack
            some |= highest[i] >= least
        if some:
            for i in range(len(run)):
                if highest[i] >= best[k - 1] and (not len(eligible) or eligible[first + i]):
                    rows[found] = first + i
                    uppers[found] = highest[i]
                    found += 1
                    lower = lowest[i]
                    if lower > best[k - 1]:
                        place = k - 1
                        while place > 0 and lower > best[place - 1]:
                            best[place] = best[place - 1]
                            place -= 1
                        best[place] = lower
    return found
