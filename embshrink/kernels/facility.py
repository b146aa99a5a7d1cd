"""Lazy greedy maximization of a facility-location function on a sparse graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import BoolArray, DoubleArray, FloatArray, IntArray


@kernel
def reverse_graph(targets: IntArray, scores: FloatArray, starts: IntArray, sources: IntArray,
                  reversed_scores: FloatArray) -> None:
    """Reverse the edges of a graph.

    targets (n, k) int64, the neighbours of each node, -1 for none; scores (n, k) float32; out: starts (n + 1,) int64,
    sources (edges,) int64 and reversed_scores (edges,) float32. The nodes that have j as a neighbour are
    ``sources[starts[j]:starts[j + 1]]``, in ascending order.
    """
    n, k = targets.shape
    starts[:] = 0
    for i in range(n):
        for e in range(k):
            if targets[i, e] >= 0:
                starts[targets[i, e] + 1] += 1
    for j in range(n):
        starts[j + 1] += starts[j]
    place = starts[:-1].copy()
    for i in range(n):
        for e in range(k):
            j = targets[i, e]
            if j >= 0:
                sources[place[j]] = i
                reversed_scores[place[j]] = scores[i, e]
                place[j] += 1


@kernel
def _gain(j: int, starts: IntArray, sources: IntArray, scores: FloatArray, weights: DoubleArray,
          served: DoubleArray) -> float:
    """Return the increase of the weighted sum of the best scores of all nodes if j is chosen."""
    gain = weights[j] * max(1.0 - served[j], 0.0)  # the score of j for itself is 1
    for e in range(starts[j], starts[j + 1]):
        i = sources[e]
        better = scores[e] - served[i]
        if better > 0.0 and i != j:
            gain += weights[i] * better
    return gain


@kernel
def _sift_down(heap: IntArray, bounds: DoubleArray, size: int, place: int) -> None:
    """Restore the heap order below `place`: highest bound on top, lower id first on a tie."""
    moved = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size:
            left, right = heap[child], heap[child + 1]
            if bounds[right] > bounds[left] or (bounds[right] == bounds[left] and right < left):
                child += 1
        below = heap[child]
        if bounds[below] > bounds[moved] or (bounds[below] == bounds[moved] and below < moved):
            heap[place] = below
            place = child
        else:
            break
    heap[place] = moved


@kernel
def choose_greedily(starts: IntArray, sources: IntArray, scores: FloatArray, weights: DoubleArray,
                    served: DoubleArray, taken: BoolArray, chosen: IntArray) -> None:
    """Fill `chosen` greedily with the candidates that raise the weighted sum most (lazy greedy, Minoux 1978).

    starts, sources and scores come from `reverse_graph`; weights (n,) float64; served (n,) float64 is the best score
    of each node so far, and is updated; taken (n,) bool marks nodes that are already chosen. The gain of a node can
    only fall when other nodes are chosen. An old gain is therefore an upper bound, and most gains are not computed
    again.
    """
    n = len(weights)
    bounds = np.empty(n, np.float64)
    heap = np.empty(n, np.int64)
    size = 0
    for j in range(n):
        if not taken[j]:
            bounds[j] = _gain(j, starts, sources, scores, weights, served)
            heap[size] = j
            size += 1
    for place in range(size // 2 - 1, -1, -1):
        _sift_down(heap, bounds, size, place)
    for c in range(len(chosen)):
        while True:
            j = heap[0]
            bounds[j] = _gain(j, starts, sources, scores, weights, served)
            _sift_down(heap, bounds, size, 0)
            if heap[0] == j:
                break
        chosen[c] = j
        size -= 1
        heap[0] = heap[size]
        _sift_down(heap, bounds, size, 0)
        served[j] = max(served[j], 1.0)
        for e in range(starts[j], starts[j + 1]):
            i = sources[e]
            served[i] = max(served[i], scores[e])
