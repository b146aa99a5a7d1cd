"""Decoding of the rows of an open file that `ecq` encoded."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods.ecq.blocks import Blocks
from embshrink.methods.ecq.model import UNIT, Model, SizeArray, bucket_of, centroid_unit
from embshrink.methods.ecq.reader import Reader
from embshrink.numerics.compiled import can_compile
from embshrink.numerics.parallel import map_blocks

if TYPE_CHECKING:
    from embshrink.methods.base import Codes, State
    from embshrink.methods.ecq.model import Settings
    from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray
FEW_NUMBERS = 500_000  # maximum of numbers read without the kernel: reading them takes as long as starting numba
FEW_WHILE_READY = 4_000  # the same if numba is loaded already
FEW_BLOCKS = 64  # maximum of blocks read in plain Python, which takes as long as numpy in lockstep
MOST_NUMBERS = 1 << 22  # numbers read at a time
ROWS_AT_ONCE = 2048  # rows decoded at a time with the kernel


class Way(enum.Enum):
    """A way to read blocks; all give the same numbers (see `embshrink.methods.ecq.reader`)."""

    PLAIN = "plain Python"
    LOCKSTEP = "numpy, all blocks at once"
    KERNEL = "a numba kernel"


class Decoder:
    """The tables of an open file, ready to decode rows.

    Row i, with bucket b and centroid k, is ``scale[b] * (x @ basis)`` where
    ``x = weights[b] * values[i] + 64 * (means[b] + values of k)``. The numbers in x are integers, in units of 1/4096
    step times the unit of the basis.

    Parameters
    ----------
    codec : Settings
    codes, state : mapping of str to array
        With the names that `ECQ.plan` gives.

    Attributes
    ----------
    n, centroid_count : int
    row_blocks, centroid_blocks : Blocks
    row_reader, centroid_reader : Reader
    """

    def __init__(self, codec: Settings, codes: Codes, state: State) -> None:
        model = Model(np.asarray(state["tables"]), np.asarray(state["shifts"]), codec.trellis)
        shortest, self.n = np.asarray(codes["sizes"]).tolist()
        self.block, self.centroid_count = codec.block, len(state["classes"])
        self.row_blocks = Blocks("codes.data", codes["data"], codes["lengths"], codes["starts"], shortest)
        self.centroid_blocks = Blocks("state.centroids", state["centroids"], state["lengths"], state["starts"],
                                      int(np.asarray(state["least"])[0]))
        row_levels, centroid_levels = np.asarray(state["base"])
        self.row_reader = Reader(model, row_levels, self.n, codec.block, state["prior"], state["classes"],
                                 state["index"])
        self.centroid_reader = Reader(model, centroid_levels, self.centroid_count, codec.block,
                                      unit=centroid_unit(codec.trellis))
        self.basis: DoubleArray = np.asarray(state["basis"]).astype(np.float64)
        self.scale: DoubleArray = np.asarray(state["scale"]).astype(np.float64)
        step, basis_unit = np.asarray(state["step"]).tolist()
        self.unit = step * basis_unit / UNIT / UNIT
        self.means: DoubleArray = np.asarray(state["means"]).astype(np.float64) * UNIT
        self.weights: DoubleArray = np.asarray(state["weights"]).astype(np.float64)
        self._centroid_values = np.zeros((self.centroid_count, len(self.basis)))
        self._centroid_known = np.zeros(self.centroid_count, np.bool_)

    def decode(self, rows: IntArray) -> FloatArray:
        """Decode rows (k,) to (k, c) float32.

        Raises
        ------
        IndexError
            If a row number is out of range.
        FormatError
            If a block is damaged.
        """
        out = np.empty((len(rows), self.basis.shape[1]), np.float32)
        order = None if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
        ordered = rows if order is None else rows[order]
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self.n:
            raise IndexError(f"rows are 0 to {self.n - 1}")

        blocks = ordered // self.block
        way = self._way(int(np.count_nonzero(np.diff(blocks, prepend=-1))))

        def part(start: int, stop: int) -> None:
            found = self._vectors(ordered[start:stop], way)
            with np.errstate(over="ignore"):
                out[slice(start, stop) if order is None else order[start:stop]] = found

        # Lockstep takes about the same time for many blocks as for few.
        size = max(1, MOST_NUMBERS // len(self.basis)) if way is Way.LOCKSTEP else ROWS_AT_ONCE
        if len(rows) <= size:
            part(0, len(rows))
        else:
            map_blocks(part, len(rows), size)
        return out

    def centroid_values(self, labels: IntArray) -> DoubleArray:
        """Return the coefficients of the centroids `labels` (k,): (k, m) float64, in 1/4096 steps."""
        self._read_centroids(labels)
        return self._centroid_values[labels]

    def centroid_vectors(self) -> FloatArray:
        """Return all centroids as vectors, (centroids, c) float32."""
        values = self.centroid_values(np.arange(self.centroid_count))
        vectors: FloatArray = (values @ self.basis * self.unit).astype(np.float32)
        return vectors

    def check(self) -> None:
        """Raise FormatError unless the blocks fill their sections and all centroids can be read."""
        if self.centroid_count:
            self.centroid_values(np.arange(self.centroid_count))
        for blocks in (self.row_blocks, self.centroid_blocks):
            blocks.check()

    def _way(self, blocks: int) -> Way:
        """Return the fastest way to read this number of blocks; starting numba takes a second."""
        if sys.modules.get("embshrink.kernels.ecq"):  # it is in use already
            return Way.KERNEL
        few = FEW_WHILE_READY if sys.modules.get("numba") else FEW_NUMBERS
        if blocks * self.block * len(self.basis) > few and can_compile():
            return Way.KERNEL
        return Way.PLAIN if blocks <= FEW_BLOCKS else Way.LOCKSTEP

    def _vectors(self, rows: IntArray, way: Way) -> DoubleArray:
        """Decode ascending rows (k,) to (k, c)."""
        labels, values = self._read(self.row_reader, self.row_blocks, rows, way)
        buckets = bucket_of(rows)
        if self.centroid_count:
            self._read_centroids(labels)
        # Integers below 53 bits are exact in float64, so the order of summation does not matter.
        if way is Way.KERNEL:
            from embshrink.kernels.ecq import combine

            total = np.empty(values.shape)
            combine(values, self.weights, self.means, self._centroid_values, buckets, labels, total)
        else:
            total = values * self.weights[buckets, None]
            total += self.means[buckets]
            if self.centroid_count:
                total += self._centroid_values[labels]
        product: DoubleArray = total @ self.basis
        product *= self.scale[buckets, None]
        return product

    def _read(self, reader: Reader, blocks: Blocks, rows: IntArray, way: Way) -> tuple[IntArray, SizeArray]:
        """Read ascending rows; return their centroids (k,) and values (k, m)."""
        own = rows // self.block
        numbers = own[np.flatnonzero(np.diff(own, prepend=-1))]
        place = np.searchsorted(numbers, own)
        inside = rows - numbers[place] * self.block
        labels, values = np.zeros(len(rows), np.int64), np.empty((len(rows), len(self.basis)), np.int32)
        if way is not Way.PLAIN:
            most = max(1, MOST_NUMBERS // (self.block * len(self.basis)))
            for first in range(0, len(numbers), most):
                found, read = reader.read(blocks, numbers[first : first + most], kernel=way is Way.KERNEL)
                mine = slice(*np.searchsorted(place, [first, first + most]))
                labels[mine] = found[place[mine] - first, inside[mine]]
                values[mine] = read[place[mine] - first, inside[mine]]
            return labels, values
        for at, number in enumerate(numbers.tolist()):
            some = np.flatnonzero(place == at)
            own_labels, own_values = reader.read_one(blocks, number, int(inside[some[-1]]) + 1)
            for row, which in zip(some.tolist(), inside[some].tolist()):
                values[row] = own_values[which]
                if own_labels:
                    labels[row] = own_labels[which]
        return labels, values

    def _read_centroids(self, labels: IntArray) -> None:
        """Read those of the centroids `labels` that were not read before."""
        if labels.size and int(labels.max()) >= self.centroid_count:
            raise FormatError("a row refers to a centroid that does not exist", expected=f"< {self.centroid_count}",
                              found=int(labels.max()))
        unknown = np.unique(labels[~self._centroid_known[labels]])
        if len(unknown):
            count = len(np.unique(unknown // self.block))
            values = self._read(self.centroid_reader, self.centroid_blocks, unknown, self._way(count))[1]
            self._centroid_values[unknown] = values * float(UNIT)
            self._centroid_known[unknown] = True
