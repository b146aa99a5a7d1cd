"""Rows rounded to 8-bit numbers, and a scan that finds the rows that may be the best, in numpy alone.

The functions do what those of `embshrink.kernels.scan` do. The rows are laid out one after the other, so that numpy
multiplies a block of them, converted to float32, by all queries at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from embshrink.storage.arrays import AnyArray, BoolArray, FloatArray, IntArray

ROWS = 4096  # rows in a block: in float32, they fit into the processor's cache


def encode_rows(rows: FloatArray, first: int, shortest: float, longest: float, margin: float, codes: AnyArray,
                scales: FloatArray, bounds: FloatArray) -> None:
    """Scale rows (n, d) float32 to length 1 and round them to ``scale * code``.

    They are the rows from number `first` on. out, at the positions of these rows: codes (all rows, d) int8; scales
    (all rows,) float32; bounds (all rows,) float32: length of the rounding error plus `margin`. A zero row has scale
    and bound 0. A row whose length is outside `shortest` to `longest` has an infinite bound.
    """
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS].astype(np.float64)
        lengths = np.sqrt(np.square(part).sum(axis=1))
        usual = (lengths >= shortest) & (lengths <= longest)
        units = part / np.where(usual, lengths, 1)[:, None]
        units[~usual] = 0
        peaks = np.abs(units).max(axis=1)
        scale = (peaks / 127).astype(np.float32)
        steps = np.where(usual, scale, np.float32(1)).astype(np.float64)[:, None]
        rounded = np.rint(units / steps)
        lost = np.sqrt(np.square(units - steps * rounded).sum(axis=1))
        place = slice(first + start, first + start + len(part))
        codes[place], scales[place] = rounded, scale
        bounds[place] = np.where(usual, lost + margin, np.where(lengths == 0, 0, np.inf))


def scan_rows(codes: AnyArray, scales: FloatArray, bounds: FloatArray, start: int, stop: int, eligible: BoolArray,
              queries: FloatArray, factors: FloatArray, best: FloatArray, rows: IntArray, uppers: FloatArray,
              found: IntArray) -> None:
    """Find the rows from `start` to `stop` that may be among the k rows of highest cosine to each query.

    codes (n, d) int8, scales and bounds (n,) float32 come from `encode_rows`. queries (d, q) float32; factors (q, 2)
    float32 holds (reach, error) of each query: the cosine of a row is ``scale * (code . query)``, plus or minus
    ``bound * reach + error``. eligible (n,) bool selects the rows to check; empty for all rows. best (q, k) float32
    is sorted in descending order, and is updated to the k largest of its values and of the lower bounds of the rows'
    cosines. out: rows (q, m) int64: the rows found, ascending, in the first places; uppers (q, m) float32: upper
    bounds of their cosines; found (q,) int64: number of rows found.
    """
    found[:] = 0
    k = best.shape[1]
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        cosines = (codes[first:last].astype(np.float32) @ queries).T * scales[first:last]
        for q, cosine in enumerate(cosines):
            slack = bounds[first:last] * factors[q, 0] + factors[q, 1]
            upper = cosine + slack
            reached = upper >= best[q, -1]
            if len(eligible):
                reached &= eligible[first:last]
            places = np.flatnonzero(reached)
            lower = cosine[places] - slack[places]
            higher = np.concatenate([best[q], lower[lower > best[q, -1]]])
            if len(higher) > k:
                best[q] = -np.sort(-higher)[:k]
            end = found[q] + len(places)
            rows[q, found[q] : end], uppers[q, found[q] : end] = first + places, upper[places]
            found[q] = end
    for q, count in enumerate(found.tolist()):  # drop rows that were found before the limit rose
        kept = np.flatnonzero(uppers[q, :count] >= best[q, -1])
        rows[q, : len(kept)], uppers[q, : len(kept)] = rows[q, kept], uppers[q, kept]
        found[q] = len(kept)
