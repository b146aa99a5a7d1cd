"""An open file's rows of `ecq`, back as vectors."""

from __future__ import annotations

import sys

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods.ecq.blocks import Blocks, Reader, bucket_of
from embshrink.methods.ecq.model import UNIT, Model, centroid_unit
from embshrink.numerics.parallel import map_blocks

FEW_NUMBERS = 500_000  # numbers read in plain Python at most: it takes as long as starting numba
FEW_WHILE_READY = 4_000  # the same where numba runs already
MOST_NUMBERS = 1 << 22  # read at a time
ROWS = 2048  # decoded at a time


class Decoder:
    """An open file's tables, ready to decode rows."""

    def __init__(self, codec, codes, state):
        model = Model(np.asarray(state["tables"]), np.asarray(state["shifts"]), codec.trellis)
        least, self.n = np.asarray(codes["sizes"]).tolist()
        self.blocks = Blocks("codes.data", codes["data"], codes["lengths"], codes["starts"], least)
        self.book = Blocks("state.centroids", state["centroids"], state["lengths"], state["starts"],
                           int(state["least"][0]))
        base, self.block, self.k = np.asarray(state["base"]), codec.block, len(state["classes"])
        self.rows = Reader(model, base[0], self.n, codec.block, state["prior"], state["classes"], state["index"])
        self.centroids = Reader(model, base[1], self.k, codec.block, step=centroid_unit(codec.trellis))
        self.basis = np.asarray(state["basis"]).astype(np.float64)
        self.scale, (step, unit) = np.asarray(state["scale"]).astype(np.float64), np.asarray(state["step"]).tolist()
        self.unit = step * unit / UNIT / UNIT
        self.means = np.asarray(state["means"]).astype(np.float64) * UNIT
        self.weights = np.asarray(state["weights"]).astype(np.float64)
        self._values = np.zeros((self.k, len(self.basis)))
        self._known = np.zeros(self.k, bool)

    def decode(self, rows):
        """Return rows (k,) as (k, c) float32."""
        out = np.empty((len(rows), self.basis.shape[1]), np.float32)
        order = None if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
        ordered = rows if order is None else rows[order]
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self.n:
            raise IndexError(f"rows are 0 to {self.n - 1}")

        blocks = ordered // self.block
        kernel = self._pays(np.count_nonzero(np.diff(blocks, prepend=-1)))

        def part(start, stop):
            found = self._vectors(ordered[start:stop], kernel)
            with np.errstate(over="ignore"):
                out[slice(start, stop) if order is None else order[start:stop]] = found

        if len(rows) <= ROWS:
            part(0, len(rows))
        else:
            map_blocks(part, len(rows), ROWS)
        return out

    def _pays(self, blocks):
        """Whether there are so many blocks to read that the kernel is worth while; starting numba takes a second."""
        if sys.modules.get("embshrink.kernels.ecq"):  # in use already
            return True
        few = FEW_WHILE_READY if sys.modules.get("numba") else FEW_NUMBERS
        return blocks * self.block * len(self.basis) > few

    def _vectors(self, rows, kernel):
        """Return ascending rows (k,) as (k, c) float32."""
        blocks = rows // self.block
        numbers = blocks[np.flatnonzero(np.diff(blocks, prepend=-1))]
        labels, values = self._read(self.rows, self.blocks, numbers, rows, kernel)
        buckets = bucket_of(rows)
        if self.k:
            self._know(labels)
        # Whole numbers of less than 53 bits: float64 has them exactly, in whatever order they are added.
        if kernel and sys.modules.get("numba"):  # not where numba is missing
            from embshrink.kernels.ecq import combine

            total = np.empty(values.shape)
            combine(values, self.weights, self.means, self._values, buckets.astype(np.int64), labels, total)
        else:
            total = values * self.weights[buckets, None]
            total += self.means[buckets]
            if self.k:
                total += self._values[labels]
        product = total @ self.basis
        product *= self.scale[buckets, None]
        return product

    def _read(self, reader, blocks, numbers, rows, kernel):
        """Return labels (k,) and values (k, m) of ascending rows in these blocks."""
        place = np.searchsorted(numbers, rows // self.block)
        inside = rows - numbers[place] * self.block
        labels, values = np.zeros(len(rows), np.int64), np.empty((len(rows), len(self.basis)), np.int32)
        if kernel:
            most = max(1, MOST_NUMBERS // (self.block * len(self.basis)))
            for first in range(0, len(numbers), most):
                found, read = reader.read(blocks, numbers[first : first + most])
                mine = slice(*np.searchsorted(place, [first, first + most]))
                labels[mine] = found[place[mine] - first, inside[mine]]
                values[mine] = read[place[mine] - first, inside[mine]]
            return labels, values
        for at, number in enumerate(numbers.tolist()):
            mine = np.flatnonzero(place == at)
            found, read = reader.read_one(blocks, number, int(inside[mine[-1]]) + 1)
            for row, which in zip(mine.tolist(), inside[mine].tolist()):
                values[row] = read[which]
                if found:
                    labels[row] = found[which]
        return labels, values

    def centroid_values(self, labels):
        """Return the coefficients of centroids (k,), (k, m) float64 in 1/4096 steps."""
        self._know(labels)
        return self._values[labels]

    def _know(self, labels):
        """Read those of these centroids that were not yet read."""
        if labels.size and int(labels.max()) >= self.k:
            raise FormatError("a row names a centroid that is not there", expected=f"< {self.k}",
                              found=int(labels.max()))
        unknown = np.unique(labels[~self._known[labels]])
        if len(unknown):
            numbers = np.unique(unknown // self.block)
            _, values = self._read(self.centroids, self.book, numbers, unknown, self._pays(len(numbers)))
            self._values[unknown] = values * float(UNIT)
            self._known[unknown] = True

    def centroid_vectors(self):
        """Return all centroids as vectors, (k, c) float32."""
        values = self.centroid_values(np.arange(self.k))
        return (values @ self.basis * self.unit).astype(np.float32)

    def check(self):
        """Raise FormatError unless blocks lie one behind the other and all centroids can be read."""
        if self.k:
            self.centroid_values(np.arange(self.k))
        for blocks in (self.blocks, self.book):
            blocks.check()
