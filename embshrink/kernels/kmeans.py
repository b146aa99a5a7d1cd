"""k-means in few dimensions: exact Lloyd iterations with most centroids ruled out per group of points.

The points are put once into a k-d tree's leaves. A leaf's box rules out every centroid that is
farther from all of the box than another centroid can be from any of it; in two dimensions ten of
256 remain. What remains is compared with all points of the leaf at once (SIMD over points).
"""

from __future__ import annotations

import numpy as np

from embshrink.kernels import FAST, kernel

LEAF = 128


@kernel
def sort_along_curve(columns, order):
    """Fill `order` (n,) int64 with the points of columns (d, n) float32 along a Z-order curve.

    Each axis gets 16 // d bits (at least one, on the first 16 axes), over the middle of its range.
    """
    d, n = columns.shape
    axes = min(d, 16)
    bits = 16 // axes
    cells = 1 << bits
    codes = np.zeros(n, np.int64)
    for t in range(axes):
        mean = 0.0
        square = 0.0
        for i in range(n):
            mean += columns[t, i]
            square += columns[t, i] * columns[t, i]
        mean /= n
        spread = 2.5 * np.sqrt(max(square / n - mean * mean, 0.0)) + 1e-30
        for i in range(n):
            cell = int(min(max((columns[t, i] - mean + spread) / (2 * spread), 0.0), 0.999999) * cells)
            for bit in range(bits):
                codes[i] |= ((cell >> bit) & 1) << (bit * axes + t)
    counts = np.zeros((1 << (bits * axes)) + 1, np.int64)
    for i in range(n):
        counts[codes[i] + 1] += 1
    for code in range(1, len(counts)):
        counts[code] += counts[code - 1]
    for i in range(n):
        order[counts[codes[i]]] = i
        counts[codes[i]] += 1


@kernel(fastmath=FAST)
def box_leaves(columns, bounds, lows, highs):
    """Fill the boxes of the leaves: columns (d, n), lows and highs (d, leaves), float32."""
    for t in range(columns.shape[0]):
        for leaf in range(len(bounds) - 1):
            low = high = columns[t, bounds[leaf]]
            for i in range(bounds[leaf], bounds[leaf + 1]):
                low = min(low, columns[t, i])
                high = max(high, columns[t, i])
            lows[t, leaf] = low
            highs[t, leaf] = high


@kernel(fastmath=FAST)
def move_points(columns, bounds, lows, highs, centroids, labels, distances, sums, counts):
    """Give every point its nearest centroid, the lowest index on a tie, and keep the sums up to date.

    columns (d, n) float32, points in leaf order; centroids (d, k) float32; labels (n,) int32, -1 at
    first; out: labels, distances (n,) float32, squared, sums (d, k) float64 and counts (k,) int64 of
    each centroid's points. Returns how many labels changed.
    """
    d, k = centroids.shape
    near = np.empty(k, np.float32)
    far = np.empty(k, np.float32)
    chosen = np.empty(k, np.int32)
    total = np.empty(LEAF, np.float32)
    best = np.empty(LEAF, np.float32)
    found = np.empty(LEAF, np.int32)
    changed = 0
    for leaf in range(len(bounds) - 1):
        start, stop = bounds[leaf], bounds[leaf + 1]
        size = stop - start
        near[:] = 0
        far[:] = 0
        for t in range(d):
            low, high = lows[t, leaf], highs[t, leaf]
            row = centroids[t]
            for j in range(k):
                below = low - row[j]
                above = row[j] - high
                out = max(max(below, above), np.float32(0))
                reach = max(abs(below), abs(above))
                near[j] += out * out
                far[j] += reach * reach
        reach = far[0]
        for j in range(k):
            reach = min(reach, far[j])
        reach *= np.float32(1.0001)  # rounding must not rule out the true nearest
        count = 0
        for j in range(k):
            chosen[count] = j
            count += near[j] <= reach
        best[:size] = np.inf
        for c in range(count):
            j = chosen[c]
            _compare(columns, centroids, start, size, j, total, best, found)
        for i in range(size):
            distances[start + i] = best[i]
            old, new = labels[start + i], found[i]
            if old != new:
                changed += 1
                labels[start + i] = new
                counts[new] += 1
                for t in range(d):
                    sums[t, new] += columns[t, start + i]
                if old >= 0:
                    counts[old] -= 1
                    for t in range(d):
                        sums[t, old] -= columns[t, start + i]
    return changed


@kernel(fastmath=FAST)
def _compare(columns, centroids, start, size, j, total, best, found):
    """Let centroid j compete for `size` points from `start` on."""
    value = centroids[0, j]
    part = columns[0, start : start + size]
    for i in range(size):
        gap = part[i] - value
        total[i] = gap * gap
    for t in range(1, centroids.shape[0]):
        value = centroids[t, j]
        part = columns[t, start : start + size]
        for i in range(size):
            gap = part[i] - value
            total[i] += gap * gap
    for i in range(size):
        closer = total[i] < best[i]
        best[i] = total[i] if closer else best[i]
        found[i] = j if closer else found[i]


@kernel(fastmath=FAST)
def label_block(columns, centroids, start, stop, labels):
    """Label points start..stop of columns (d, n) with their nearest of centroids (d, k), the lowest on a tie."""
    total = np.empty(LEAF, np.float32)
    best = np.empty(LEAF, np.float32)
    found = np.empty(LEAF, np.int32)
    for first in range(start, stop, LEAF):
        size = min(LEAF, stop - first)
        best[:size] = np.inf
        for j in range(centroids.shape[1]):
            _compare(columns, centroids, first, size, j, total, best, found)
        for i in range(size):
            labels[first + i] = found[i]


@kernel
def choose_plus_plus(points, uniforms, chosen):
    """k-means++ (Arthur and Vassilvitskii, SODA 2007): fill `chosen` (k,) with rows of points (n, d).

    uniforms (k,) float64 in [0, 1) are the random draws. Where all points are already centres, the
    next rows in order are taken.
    """
    n, d = points.shape
    gaps = np.empty(n, np.float32)
    gaps[:] = np.inf
    last = int(uniforms[0] * n)
    chosen[0] = last
    for c in range(1, len(chosen)):
        total = 0.0
        for i in range(n):
            gap = np.float32(0)
            for t in range(d):
                part = points[i, t] - points[last, t]
                gap += part * part
            gaps[i] = min(gaps[i], gap)
            total += gaps[i]
        target = uniforms[c] * total
        last = c
        if total > 0.0:
            passed = 0.0
            for i in range(n):
                passed += gaps[i]
                if passed > target and gaps[i] > 0:
                    last = i
                    break
        chosen[c] = last


@kernel
def sum_clusters(matrix, members, starts, first, last, sums):
    """Sum the rows of each cluster in order, for clusters first..last: sums (k, d) float64.

    members (n,) holds row ids by cluster, starts (k + 1,) where each cluster begins in it.
    """
    for c in range(first, last):
        sums[c] = 0
        for m in range(starts[c], starts[c + 1]):
            row = matrix[members[m]]
            for t in range(len(row)):
                sums[c, t] += row[t]
