"""Beam search over the codebooks of a residual quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import FAST, kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray

TWO = np.float32(2)  # a plain 2 would convert everything to float64
RUN = 32  # number of sums skipped together if none of them is among the best


@kernel(fastmath=FAST)
def encode_beam(products: FloatArray, cross: FloatArray, norms: FloatArray, beam: int, codes: IntArray) -> None:
    """Choose one centroid of each codebook for every row, keeping the `beam` best prefixes.

    products (n, m * k) float32: dot products of rows and centroids; cross (m * k, m * k) float32: dot products of
    centroids; norms (m, k) float32: squared lengths of centroids; out: codes (n, m) int64. The squared error of
    a sum of centroids, less the squared length of the row, is the sum of ``|c|^2 - 2 x . c`` over its centroids
    plus the sum of ``2 c . c'`` over their pairs.
    """
    stages, k = norms.shape
    kept = np.zeros((beam, stages), np.int64)
    fresh = np.zeros((beam, stages), np.int64)
    error = np.empty(beam, np.float32)
    fresh_error = np.empty(beam, np.float32)
    own = np.empty(k, np.float32)
    scores = np.empty(k, np.float32)
    origin = np.empty(beam, np.int64)
    choice = np.empty(beam, np.int64)
    for i in range(products.shape[0]):
        width = 1
        error[0] = 0
        for stage in range(stages):
            row, norm = products[i, stage * k : (stage + 1) * k], norms[stage]
            for j in range(k):
                own[j] = norm[j] - TWO * row[j]
            filled = 0
            limit = np.float32(3e38)
            for b in range(width):
                base = error[b]
                for j in range(k):
                    scores[j] = own[j] + base
                for before in range(stage):
                    pairs = cross[before * k + kept[b, before], stage * k : (stage + 1) * k]
                    for j in range(k):
                        scores[j] += TWO * pairs[j]
                for start in range(0, k, RUN):
                    run = scores[start : start + RUN]
                    some = False
                    for j in range(len(run)):
                        some |= run[j] < limit
                    for j in range(start, start + len(run) if some else start):
                        if scores[j] < limit:
                            place = filled if filled < beam else beam - 1
                            while place > 0 and fresh_error[place - 1] > scores[j]:
                                fresh_error[place] = fresh_error[place - 1]
                                origin[place] = origin[place - 1]
                                choice[place] = choice[place - 1]
                                place -= 1
                            fresh_error[place] = scores[j]
                            origin[place] = b
                            choice[place] = j
                            filled = min(filled + 1, beam)
                            if filled == beam:
                                limit = fresh_error[beam - 1]
            for b in range(filled):
                for before in range(stage):
                    fresh[b, before] = kept[origin[b], before]
                fresh[b, stage] = choice[b]
            width = filled
            kept, fresh = fresh, kept
            error[:width] = fresh_error[:width]
        for stage in range(stages):
            codes[i, stage] = kept[0, stage]


@kernel
def count_pairs(codes: IntArray, k: int, counts: DoubleArray) -> None:
    """Count how often two centroids are used together: codes (n, m) int64; out: counts (m * k, m * k) float64."""
    n, stages = codes.shape
    for i in range(n):
        for a in range(stages):
            for b in range(stages):
                counts[a * k + codes[i, a], b * k + codes[i, b]] += 1
