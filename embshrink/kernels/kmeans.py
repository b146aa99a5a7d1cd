"""k-means in few dimensions: exact Lloyd iterations with most centroids ruled out per group of points.

The points are grouped once into leaves of neighbouring points. A centroid is ruled out for a leaf if another centroid
is nearer to every point of the leaf's bounding box; in two dimensions about seven of 256 remain (Pelleg and Moore,
KDD 1999). The remaining centroids are compared with all points of the leaf at once (SIMD over points).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import FAST, kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray

LEAF = 128  # points in a leaf
BRANCH = 8  # leaves in a branch, for which centroids are first ruled out together
RUN = 128  # points in a partial sum of k-means++ weights
ROUNDING = np.float32(1e-5)  # relative error of a distance, so that rounding does not rule out the nearest centroid


@kernel
def sort_along_curve(columns: FloatArray, order: IntArray) -> None:
    """Sort the points of columns (d, n) float32 along a Z-order curve; out: order (n,) int64, their indices.

    Each of the first 16 axes has 16 // d bits, at least one, which divide the range mean +- 2.5 standard deviations.
    """
    d, n = columns.shape
    axes = min(d, 16)
    bits = 16 // axes
    cells = 1 << bits
    codes = np.zeros(n, np.int32)
    spread_bits = np.empty(cells, np.int32)
    for t in range(axes):
        for cell in range(cells):
            code = 0
            for bit in range(bits):
                code |= ((cell >> bit) & 1) << (bit * axes + t)
            spread_bits[cell] = code
        mean = 0.0
        square = 0.0
        for i in range(n):
            mean += columns[t, i]
            square += np.float64(columns[t, i]) * columns[t, i]
        mean /= n
        spread = 2.5 * np.sqrt(max(square / n - mean * mean, 0.0)) + 1e-30
        low = np.float32(mean - spread)
        factor = np.float32(cells / (2 * spread))
        highest = np.float32(cells - 1)
        for i in range(n):
            place = (columns[t, i] - low) * factor
            codes[i] |= spread_bits[np.int32(min(place, highest)) if place > 0 else 0]  # 0 for NaN
    counts = np.zeros((1 << (bits * axes)) + 1, np.int64)
    for i in range(n):
        counts[codes[i] + 1] += 1
    for code in range(1, len(counts)):
        counts[code] += counts[code - 1]
    for i in range(n):
        order[counts[codes[i]]] = i
        counts[codes[i]] += 1


@kernel(fastmath=FAST)
def fill_leaves(columns: FloatArray, order: IntArray, points: FloatArray, lows: FloatArray,
                highs: FloatArray) -> None:
    """Group points, columns (d, n) float32, into leaves in the given order, and leaves into branches.

    out: points (e, n) float32, e >= d, in this order; lows and highs (e, leaves + branches) float32: the bounding
    boxes. All must be filled with zeros before.
    """
    d, n = columns.shape
    leaves = -(-n // LEAF)
    for t in range(d):
        for leaf in range(leaves):
            low = np.float32(np.inf)
            high = np.float32(-np.inf)
            for i in range(leaf * LEAF, min((leaf + 1) * LEAF, n)):
                value = columns[t, order[i]]
                points[t, i] = value
                low = min(low, value)
                high = max(high, value)
            lows[t, leaf] = low
            highs[t, leaf] = high
        for first in range(0, leaves, BRANCH):
            low = np.float32(np.inf)
            high = np.float32(-np.inf)
            for leaf in range(first, min(first + BRANCH, leaves)):
                low = min(low, lows[t, leaf])
                high = max(high, highs[t, leaf])
            lows[t, leaves + first // BRANCH] = low
            highs[t, leaves + first // BRANCH] = high


@kernel(fastmath=FAST)
def move_points(points: FloatArray, lows: FloatArray, highs: FloatArray, centroids: FloatArray, labels: AnyArray,
                distances: FloatArray, sums: DoubleArray, counts: IntArray) -> int:
    """Find the nearest centroid of each point, the lowest index on a tie; return how many labels changed.

    points, lows and highs come from `fill_leaves`, with an even number of rows; centroids (e, k) float32; labels
    (n,) int32, -1 at first, are updated, and so are the sum and the number of the points of each centroid: sums
    (e, k) float64 and counts (k,) int64. out: distances (n,) float32, squared.
    """
    e, k = centroids.shape
    n = points.shape[1]
    leaves = -(-n // LEAF)
    everyone = np.arange(k).astype(np.int32)
    near = np.empty(k, np.float32)
    some = np.empty((e, k), np.float32)
    names = np.empty(k, np.int32)
    few = np.empty((e, k), np.float32)
    ids = np.empty(k, np.int32)
    best = np.empty(LEAF, np.float32)
    found = np.empty(LEAF, np.int32)
    total = np.zeros(LEAF, np.float32)
    changed = 0
    for first in range(0, leaves, BRANCH):
        count = _rule_out(lows, highs, leaves + first // BRANCH, centroids, everyone, k, near, some, names)
        for leaf in range(first, min(first + BRANCH, leaves)):
            start, stop = leaf * LEAF, min((leaf + 1) * LEAF, n)
            _compare(points, start, stop, few, ids, _rule_out(lows, highs, leaf, some, names, count, near, few, ids),
                     total, best, found)
            same = True
            for i in range(stop - start):
                distances[start + i] = best[i]
                same &= labels[start + i] == found[i]
            if same:
                continue
            for i in range(start, stop):
                old, new = labels[i], found[i - start]
                if old != new:
                    changed += 1
                    labels[i] = new
                    counts[new] += 1
                    for t in range(e):
                        sums[t, new] += points[t, i]
                    if old >= 0:
                        counts[old] -= 1
                        for t in range(e):
                            sums[t, old] -= points[t, i]
    return changed


@kernel(fastmath=FAST)
def _rule_out(lows: FloatArray, highs: FloatArray, box: int, centroids: FloatArray, names: AnyArray, k: int,
              near: FloatArray, few: FloatArray, ids: AnyArray) -> int:
    """Copy those of the first k centroids that may be the nearest one to a point of a box; return their number.

    A centroid is ruled out if it is farther from every point of the box than the rival, the centroid nearest to the
    middle of the box. It is enough to check the corner that is farthest in the direction from the rival to the
    centroid: if this corner is nearer to the rival, so are all points of the box.

    centroids (e, >= k) float32; names (>= k,) int32, their indices; near (>= k,) float32, a buffer; out: few
    (e, >= k) float32 and ids (>= k,) int32, the centroids that remain and their indices.
    """
    e = len(centroids)
    rival = 0
    reach = np.float32(np.inf)
    near[:k] = 0
    for t in range(e):
        middle = (lows[t, box] + highs[t, box]) * np.float32(0.5)
        row = centroids[t, :k]
        for j in range(k):
            gap = row[j] - middle
            near[j] += gap * gap
    for j in range(k):
        reach = min(reach, near[j])
    while rival < k - 1 and near[rival] != reach:
        rival += 1
    reach = np.float32(0)
    near[:k] = 0
    for t in range(e):
        low, high, own = lows[t, box], highs[t, box], centroids[t, rival]
        far = max(abs(low - own), abs(high - own))
        reach += far * far
        row = centroids[t, :k]
        for j in range(k):
            corner = high if row[j] > own else low
            gap = corner - row[j]
            rest = corner - own
            near[j] += gap * gap - rest * rest
    limit = reach * ROUNDING
    count = 0
    for j in range(k):
        ids[count] = j
        count += not near[j] > limit
    for c in range(count):
        j = ids[c]
        ids[c] = names[j]
        for t in range(e):
            few[t, c] = centroids[t, j]
    return count


@kernel(fastmath=FAST)
def _compare(points: FloatArray, start: int, stop: int, centroids: FloatArray, ids: AnyArray, k: int,
             total: FloatArray, best: FloatArray, found: AnyArray) -> None:
    """Find the nearest of the first k centroids for the points from start to stop, two axes at a time.

    ids (>= k,) int32, the indices of the centroids; total (LEAF,) float32, a buffer, which must be zeros if e is 2;
    out: best (LEAF,) float32, squared distances, and found (LEAF,) int32, indices.
    """
    e = len(points)
    size = stop - start
    best[:size] = np.inf
    found[:size] = ids[0]
    for j in range(k):
        for t in range(0, e - 2, 2):
            one, two = points[t, start:stop], points[t + 1, start:stop]
            x, y = centroids[t, j], centroids[t + 1, j]
            if t == 0:
                for i in range(size):
                    total[i] = (one[i] - x) * (one[i] - x) + (two[i] - y) * (two[i] - y)
            else:
                for i in range(size):
                    total[i] += (one[i] - x) * (one[i] - x) + (two[i] - y) * (two[i] - y)
        one, two = points[e - 2, start:stop], points[e - 1, start:stop]
        x, y = centroids[e - 2, j], centroids[e - 1, j]
        name = ids[j]
        for i in range(size):
            distance = (one[i] - x) * (one[i] - x) + (two[i] - y) * (two[i] - y) + total[i]
            closer = distance < best[i]
            best[i] = distance if closer else best[i]
            found[i] = name if closer else found[i]


@kernel(fastmath=FAST)
def choose_plus_plus(columns: FloatArray, uniforms: DoubleArray, chosen: IntArray) -> None:
    """Choose points of columns (d, n) float32 by k-means++ (Arthur and Vassilvitskii, SODA 2007).

    uniforms (k,) float64: random numbers in [0, 1); out: chosen (k,) int64. If every point equals a chosen one,
    centroid c is point c.
    """
    d, n = columns.shape
    gaps = np.empty(n, np.float32)
    gaps[:] = np.inf
    squares = np.empty(RUN, np.float32)
    parts = np.empty(-(-n // RUN))
    last = int(uniforms[0] * n)
    chosen[0] = last
    for c in range(1, len(chosen)):
        total = 0.0
        for part in range(len(parts)):
            start, stop = part * RUN, min((part + 1) * RUN, n)
            squares[:] = 0
            for t in range(d):
                value = columns[t, last]
                run = columns[t, start:stop]
                for i in range(stop - start):
                    squares[i] += (run[i] - value) * (run[i] - value)
            own = gaps[start:stop]
            added = np.float64(0)
            for i in range(stop - start):
                own[i] = min(own[i], squares[i])
                added += own[i]
            parts[part] = added
            total += added
        target = uniforms[c] * total
        passed = 0.0
        part = 0
        while part < len(parts) - 1 and passed + parts[part] <= target:
            passed += parts[part]
            part += 1
        last = c
        if total > 0.0:
            for i in range(part * RUN, n):
                passed += gaps[i]
                if gaps[i] > 0:
                    last = i
                    if passed > target:
                        break
        chosen[c] = last


@kernel
def list_members(labels: IntArray, places: IntArray, members: IntArray) -> None:
    """List the rows of each cluster, ascending; out: members (n,) int64.

    places (k,) int64: start of each cluster in `members`; they are changed.
    """
    for i in range(len(labels)):
        members[places[labels[i]]] = i
        places[labels[i]] += 1


@kernel
def sum_clusters(matrix: FloatArray, members: IntArray, starts: IntArray, first: int, last: int,
                 sums: DoubleArray) -> None:
    """Sum the rows of the clusters from `first` to `last`, in order; out: sums (k, d) float64.

    members (n,) int64: the rows of each cluster; starts (k + 1,) int64: start of each cluster in `members`.
    """
    for c in range(first, last):
        sums[c] = 0
        for m in range(starts[c], starts[c + 1]):
            row = matrix[members[m]]
            for t in range(len(row)):
                sums[c, t] += row[t]
