"""Writing the rows of `ecq`."""

from __future__ import annotations

import numpy as np

from embshrink.methods.ecq.blocks import BLOCKS_PER_START, bucket_of, split_bits
from embshrink.methods.ecq.coder import ROWS, SLOPES, Coder
from embshrink.methods.ecq.decoder import Decoder
from embshrink.methods.ecq.fit import inverse_axes, nearest_centroids
from embshrink.methods.ecq.model import UNIT
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.parallel import blocks, map_blocks
from embshrink.storage.disk_rows import Pile

PARTS = 64  # times as many until what was coded is put away


def encode(codec, matrix, state, context):
    """Return the codes of a matrix (n, c): blocks, their lengths, and where every 64th begins."""
    n, c = matrix.shape
    decoder = _tables_only(codec, state, n)
    book = decoder.centroid_vectors()
    table, trellis = state["tables"], codec.trellis
    base = state["base"][0].astype(np.int64)
    coder = Coder(table, state["shifts"], trellis, base)
    step = float(state["step"][0])
    inverse = inverse_axes(state["basis"], float(state["step"][1]))
    means = state["means"].astype(np.float64)  # in 1/64 steps along the axes
    index, tail = state["index"].astype(np.int64), split_bits(len(state["classes"]))[1]
    prior, classes = state["prior"].astype(np.int64), state["classes"].astype(np.int64) * 16
    mean_vectors = (means @ state["basis"].astype(np.float64) * (step * state["step"][1] / UNIT)).astype(np.float32)
    size = codec.block * max(1, ROWS // codec.block)
    done = 0

    def part(start, stop):
        buckets = bucket_of(np.arange(start, stop))
        rows = matrix[start:stop]
        labels = np.zeros(len(rows), np.int64)
        levels = prior[buckets]
        targets = rows.astype(np.float64) @ inverse / (step / UNIT) - means[buckets]
        if len(book):
            labels = nearest_centroids(rows - mean_vectors[buckets], book)
            targets -= decoder.centroid_values(labels) / UNIT
            levels = levels + classes[labels]
        targets = np.ascontiguousarray(targets * (UNIT / state["weights"][buckets].astype(np.float64))[:, None])
        sizes = coder.choose(targets, levels, SLOPES[trellis])
        return coder.write(sizes, levels, labels >> tail, labels & ((1 << tail) - 1), tail, index, codec.block)

    def report(count):
        nonlocal done
        done += count
        context.progress("encoding", done, n)

    data, lengths = Pile(matrix), [np.zeros(0, np.int64)]
    for first, last in blocks(n, PARTS * size):
        for coded, own in map_blocks(lambda start, stop: part(first + start, first + stop), last - first, size,  # noqa: B023
                                     report):
            data.add(coded)
            lengths.append(own)
    lengths = np.concatenate(lengths)
    least = int(lengths.min(initial=1 << 40)) if len(lengths) else 0
    spare = lengths - least
    return {
        "data": data.whole(),
        "lengths": spare.astype(narrowest_uint(int(spare.max(initial=0)))),
        "starts": (np.cumsum(lengths) - lengths)[::BLOCKS_PER_START].astype(np.uint64),
        "sizes": np.array([least, n], np.uint64),
    }


def _tables_only(codec, state, n):
    """Return a decoder that can decode centroids, before there are codes."""
    nothing = {"data": np.zeros(0, np.uint8), "lengths": np.zeros(0, np.uint8), "starts": np.zeros(0, np.uint64),
               "sizes": np.array([0, n], np.uint64)}
    return Decoder(codec, nothing, state)
