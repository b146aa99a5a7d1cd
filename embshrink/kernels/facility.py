"""Lazy greedy maximisation of a facility-location function on a sparse graph."""

from __future__ import annotations

import numpy as np

from embshrink.kernels import kernel


@kernel
def reverse_graph(targets, scores, starts, sources, reversed_scores):
    """Turn lists of neighbours into lists of those whose neighbour one is.

    targets (n, k) int64, -1 for none; scores (n, k) float32; out: starts (n + 1,) int64, sources and
    reversed_scores (edges,), where j's entries are at starts[j]:starts[j + 1], sources ascending.
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
def _gain(j, starts, sources, scores, weights, served):
    """Return by how much choosing j would raise the sum of weights times the best score of each."""
    gain = weights[j] * max(1.0 - served[j], 0.0)  # j serves itself perfectly
    for e in range(starts[j], starts[j + 1]):
        i = sources[e]
        better = scores[e] - served[i]
        if better > 0.0 and i != j:
            gain += weights[i] * better
    return gain


@kernel
def _sift_down(heap, bounds, size, place):
    """Restore the heap's order below `place`: the highest bound on top, the lower id first on a tie."""
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
def choose_greedily(starts, sources, scores, weights, served, taken, chosen):
    """Fill `chosen` with the candidates that raise the sum most, one after the other (Minoux 1978).

    served (n,) float64 is each one's best score so far, kept up to date; taken (n,) bool marks those
    already chosen. A gain only falls as others are chosen, so an old gain is a bound, and most
    candidates are never looked at again.
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
