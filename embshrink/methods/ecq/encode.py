"""Encoding of rows by `ecq`.

The mean of a row's bucket b is subtracted from the row x, and the nearest centroid k is found. The targets, for which
sizes are chosen, are the coefficients in 1/64 steps. They invert the formula of `embshrink.methods.ecq.decoder`:

    t = (x A+ * 64 / step - means[b] - coefficients of k) * 64 / weights[b]

where A+ is `inverse_axes` of the axes. All values are taken as they are stored, so the coefficients of a row
compensate for the rounding of means and centroids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.blocks import block_starts
from embshrink.methods.ecq.coder import ROWS_AT_ONCE, SLOPES, Coder
from embshrink.methods.ecq.decoder import Decoder
from embshrink.methods.ecq.model import UNIT, LabelCode, bucket_of
from embshrink.methods.ecq.trial import CLASS_UNIT, inverse_axes, nearest_centroids
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.parallel import blocks, map_blocks
from embshrink.storage.disk_rows import Pile

if TYPE_CHECKING:
    from embshrink.methods.base import Codes, Context, State
    from embshrink.methods.ecq.model import Settings
    from embshrink.storage.arrays import AnyArray, FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix

PARTS_PER_BATCH = 64  # parts, of about `ROWS_AT_ONCE` rows each, that are coded before their bytes are stored


def encode(codec: Settings, matrix: Matrix, state: State, context: Context) -> Codes:
    """Return the codes of a matrix (n, c): blocks, their lengths, and the start of every 64th block."""
    n = len(matrix)
    encoder = Encoder(codec, state, n)
    size = codec.block * max(1, ROWS_AT_ONCE // codec.block)
    data, done = Pile(matrix), 0
    lengths: list[IntArray] = [np.zeros(0, np.int64)]

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        context.progress("encoding", done, n)

    for first, last in blocks(n, PARTS_PER_BATCH * size):
        def part(start: int, stop: int, first: int = first) -> tuple[bytes, IntArray]:
            numbers = slice(first + start, first + stop)
            return encoder.encode(matrix[numbers], np.arange(numbers.start, numbers.stop))

        for coded, own in map_blocks(part, last - first, size, report):
            data.add(coded)
            lengths.append(own)
    all_lengths: IntArray = np.concatenate(lengths)
    shortest = int(all_lengths.min()) if len(all_lengths) else 0
    spare = all_lengths - shortest
    return {
        "data": data.whole(),
        "lengths": spare.astype(narrowest_uint(int(spare.max(initial=0)))),
        "starts": block_starts(all_lengths),
        "sizes": np.array([shortest, n], np.uint64),
    }


class Encoder:
    """The tables of a state, ready to encode rows.

    Parameters
    ----------
    codec : Settings
    state : State
    n : int
        Rows of the whole table.
    """

    def __init__(self, codec: Settings, state: State, n: int) -> None:
        step, basis_unit = np.asarray(state["step"], np.float32).tolist()
        mean_unit = step * np.asarray(state["step"], np.float32)[1] / UNIT
        basis, means = np.asarray(state["basis"], np.int8), state["means"].astype(np.float64)  # in 1/64 steps
        self._codec, self._step = codec, step
        self._coder = Coder(state["tables"], state["shifts"], codec.trellis, state["base"][0])
        self._decoder = _centroid_decoder(codec, state, n)
        self._centroids = self._decoder.centroid_vectors()
        self._inverse = inverse_axes(basis, basis_unit)
        self._means = means
        self._mean_vectors = (means @ basis.astype(np.float64) * mean_unit).astype(np.float32)
        self._multipliers = UNIT / state["weights"].astype(np.float64)
        self._label_code = LabelCode(state["index"], len(self._centroids))
        self._bucket_levels = state["prior"].astype(np.int64)
        self._centroid_levels = state["classes"].astype(np.int64) * CLASS_UNIT

    def encode(self, rows: FloatArray, numbers: IntArray) -> tuple[bytes, IntArray]:
        """Return the blocks of some rows, one after the other, and their lengths in bytes.

        Parameters
        ----------
        rows : numpy.ndarray, shape (k, c), float32
            Whole blocks; only the last one may be shorter.
        numbers : numpy.ndarray, shape (k,), int64
            Their row numbers in the table.
        """
        buckets = bucket_of(numbers)
        labels: IntArray = np.zeros(len(rows), np.int64)
        levels = self._bucket_levels[buckets]
        targets = rows.astype(np.float64) @ self._inverse / (self._step / UNIT) - self._means[buckets]
        if len(self._centroids):
            labels = nearest_centroids(rows - self._mean_vectors[buckets], self._centroids)
            targets -= self._decoder.centroid_values(labels) / UNIT
            levels = levels + self._centroid_levels[labels]
        targets = np.ascontiguousarray(targets * self._multipliers[buckets, None])
        sizes = self._coder.choose(targets, levels, SLOPES[self._codec.trellis])
        return self._coder.write(sizes, levels, labels, self._label_code, self._codec.block)


def _centroid_decoder(codec: Settings, state: State, n: int) -> Decoder:
    """Return a decoder for centroids only, for use before there are codes."""
    nothing: dict[str, AnyArray] = {
        "data": np.zeros(0, np.uint8), "lengths": np.zeros(0, np.uint8), "starts": np.zeros(0, np.uint64),
        "sizes": np.array([0, n], np.uint64),
    }
    return Decoder(codec, nothing, state)
