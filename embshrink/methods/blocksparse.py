"""blocksparse: predefined sparseness. Frequent words store all numbers, rare words only the first few.

Fit: the eigenvectors A, (c, c), of the sum of x x^T over all rows, in descending order of eigenvalue. The columns of
y = x A are cut into blocks, and block b is stored only for the first ``lengths[b]`` rows in order of frequency
(`geometry`). Rows therefore form runs, the *segments*, that store the same columns. A segment is stored as a matrix,
row by row, and the segments follow each other. Decode: x' = y A^T, where numbers that are not stored are 0.

Demeester, Deleu, Godin and Develder 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import (
    Codec,
    Codes,
    Context,
    State,
    check_range,
    expect,
    expect_finite,
    param,
    resolved,
)
from embshrink.numerics import parallel
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

DENSITY = 0.25
BLOCKS = 20
ROWS = 65_536
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class BlockSparse(Codec):
    """Store fewer principal components for rare words than for frequent words.

    Vectors are rotated to their principal axes, and the columns are cut into
    blocks. All words store the first block; every further block is stored for
    fewer words, the most frequent ones. A number that is not stored decodes as 0.
    Use it if frequent words matter most: their vectors are nearly exact. Averaged
    over all words, the error is slightly larger than that of `lowrank` at the same
    size.

    Rows are stored from the word with the most numbers to the word with the
    fewest. If the words are in another order (after `kmeans`, or with `order`
    other than ``up``), the row map stores the order: one unsigned integer of the
    smallest sufficient size per word, or nothing extra if a row step needs a row
    map anyway.

    Notes
    -----
    Demeester, Deleu, Godin and Develder, "Predefined Sparseness in Recurrent Sequence Models"
    (CoNLL 2018), who train embeddings of this shape. We deviate: the vectors are already trained, so their columns
    are principal components, whose first k are the best k columns for any k. ``order="up"`` is the order of the
    paper; ``down`` and ``rand`` are its controls, which lose more. `geometry` computes how many words store each
    block.
    """

    source: ClassVar[str] = "Demeester et al. 2018 (predefined sparseness)"

    density: float | None = param(None, "share of the numbers to store; 0.25 by default", low=0.0, high=1.0)
    blocks: int | None = param(None, "number of column blocks; 20, or 1 / density if that is more, by default", low=1,
                               high=1024)
    order: str = param("up", "words that store most numbers: frequent, rare, or random words",
                       choices=("up", "down", "rand"))
    dtype: str = param("float16", "type of the stored numbers", choices=DTYPES)

    @property
    def weighs(self) -> bool:
        return self.order != "rand"

    @property
    def reorders(self) -> bool:
        return self.order != "up"

    def resolve(self, n: int, d: int) -> BlockSparse:
        density, blocks = self.density, self.blocks
        if blocks is None:
            blocks = max(BLOCKS, math.ceil(1 / max(density or 1.0, 1 / d)))
        blocks = min(blocks, d)
        if density is None:
            density = 1.0 if blocks == 1 else max(DENSITY, 1 / blocks)
        if density < 1 / blocks:
            raise StepError("density is too small for blocksparse: every word stores the first block",
                            expected=f"density >= {1 / blocks:g} (1 / blocks)", found=density,
                            hint=f"Raise density, or use more blocks (at most {d}, the number of columns).")
        return replace(self, density=density, blocks=blocks)

    def with_bits(self, bits: float, c: int) -> BlockSparse:
        return replace(self, density=min(1.0, bits / (8 * np.dtype(self.dtype).itemsize * c)))

    def _geometry(self, n: int, c: int) -> tuple[list[int], list[int]]:
        return geometry(n, c, resolved(self.density), resolved(self.blocks))

    def plan(self, n: int, c: int) -> Layout:
        starts, widths = self._geometry(n, c)
        total = sum((n - start) * width for start, width in zip(starts, widths))
        return {
            "state.rotation": (np.dtype(np.float32), (c, c)),
            "state.lengths": (np.dtype(np.uint32), (len(starts),)),
            "codes.values": (np.dtype(self.dtype), (total,)),
        }

    def arrange(self, matrix: Matrix, context: Context) -> IntArray:
        if self.order == "rand":
            return context.rng.permutation(len(matrix))
        return context.by_frequency(rarest_first=self.order == "down")

    def fit(self, matrix: Matrix, context: Context) -> State:
        n, c = matrix.shape
        starts, _ = self._geometry(n, c)
        _, axes = eigen(gram(matrix))
        return {"rotation": np.ascontiguousarray(axes.T, dtype=np.float32),
                "lengths": (n - np.array(starts)).astype(np.uint32)}

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        n, c = matrix.shape
        axes = np.asarray(state["rotation"], np.float32).T
        values = np.empty(self.plan(n, c)["codes.values"][1], self.dtype)
        for segment in _segments(state["lengths"], c):
            width = len(segment.columns)
            for first, last in parallel.blocks(segment.stop - segment.start, ROWS):
                rows = np.asarray(matrix[segment.start + first : segment.start + last], np.float32)
                part = project(rows, axes[:, segment.columns])
                check_range(float(np.abs(part).max()), self.dtype)
                values[segment.offset + first * width : segment.offset + last * width] = part.ravel()
            context.progress("encoding", segment.stop, n)
        return {"values": values}

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        rotation = np.asarray(state["rotation"], np.float32)
        rows = np.asarray(rows, np.int64)
        decoded = np.empty((len(rows), rotation.shape[1]), np.float32)
        segments = _segments(state["lengths"], len(rotation))
        owner = np.searchsorted([segment.stop for segment in segments], rows, side="right")
        for number in np.unique(owner):
            segment, mine = segments[number], owner == number
            width = len(segment.columns)
            first = segment.offset + (rows[mine] - segment.start) * width
            values = codes["values"][first[:, None] + np.arange(width)].astype(np.float32)
            decoded[mine] = stable_product(values, rotation[segment.columns])
        return decoded

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.blocks is None or self.density is None or not 1 <= self.blocks <= c:
            raise FormatError("blocksparse has an impossible number of blocks", expected=f"1 to {c}",
                              found=self.blocks)
        expect("state.rotation", state.get("rotation"), np.float32, (c, c))
        expect_finite("state.rotation", state["rotation"])
        expect("state.lengths", state.get("lengths"), np.uint32, (self.blocks,))
        lengths = np.asarray(state["lengths"], np.int64)
        if lengths[0] != n or lengths.max() > n:
            raise FormatError("state.lengths does not match the rows", expected=f"{n}, then at most that",
                              found=lengths[:5].tolist())
        total = sum(length * width for length, width in zip(lengths.tolist(), _widths(c, self.blocks)))
        expect("codes.values", codes.get("values"), np.dtype(self.dtype), (total,))

    def check_codes(self, codes: Codes, state: State) -> None:
        expect_finite("codes.values", np.asarray(codes["values"]))


def geometry(n: int, d: int, density: float, blocks: int) -> tuple[list[int], list[int]]:
    """Compute for which words each block of columns is stored; words are counted from the least frequent.

    The ratio of the words of a block to those of the block before is about constant. It is computed again at every
    block, so that the table as a whole has the density.

    Parameters
    ----------
    n, d : int
        Words and columns.
    density : float
        Share of the n x d numbers that is stored: 1 / blocks to 1; 1 for a single block.
    blocks : int
        1 to d.

    Returns
    -------
    starts : list of int
        Block b is stored for the n - starts[b] most frequent words. The last start follows from the numbers that
        remain to be stored; it may be a few words below the start before it.
    widths : list of int
        Columns of each block; the last block has the remaining columns.

    Notes
    -----
    Gives the same numbers as ``calc_sparse_geometry`` of the authors' SparseSeqModels.
    """
    widths = _widths(d, blocks)
    width = widths[0]
    starts, stored = [0], width * n
    rows_left, columns_left, dense = n, d, density  # of what remains, and the density it must have
    for left in range(blocks, 2, -1):
        if dense <= 0:
            starts.append(n)
            continue
        cut = math.ceil(rows_left * (1 - _decay(dense, left)))
        starts.append(starts[-1] + cut)
        rows_left -= cut
        columns_left -= width
        if rows_left * columns_left > 0 and n * d * density - stored > 0:
            dense = min(1.0, (n * d * density - stored) / (rows_left * columns_left))
            stored += rows_left * width
        else:
            dense = 0.0
    if blocks > 1:
        rows = round(max(0, math.floor(n * d * density) - stored) / widths[-1])
        starts.append(n - min(n, rows))
    return starts, widths


def _widths(d: int, blocks: int) -> list[int]:
    """Return the number of columns of each block."""
    width = d // blocks
    return [width] * (blocks - 1) + [d - width * (blocks - 1)]


def _decay(density: float, blocks: int) -> float:
    """Return a in [0, 1] with ``(1 + a + ... + a**(blocks - 1)) / blocks = density``, to 1e-6, by bisection."""
    if density >= 1:
        return 1.0
    if density <= 1 / blocks:
        return 0.0
    low, step = 0.0, 1.0
    while step >= 1e-6:  # as scipy.optimize.bisect does, so that the numbers of words equal the authors'
        step /= 2
        middle = low + step
        excess = (1 - middle**blocks) / (1 - middle) / blocks - density
        if excess <= 0:
            low = middle
        if excess == 0:
            break
    return middle


class _Segment(NamedTuple):
    """A run of rows that store the same columns."""

    start: int
    stop: int
    offset: int  # position of their first value
    columns: IntArray


def _segments(lengths: AnyArray, c: int) -> list[_Segment]:
    """Return the runs of rows that store the same columns; ``lengths[b]`` rows store block b."""
    rows = np.asarray(lengths, np.int64)
    owner = np.repeat(np.arange(len(rows)), _widths(c, len(rows)))
    stops = np.unique(rows)
    segments, start, offset = [], 0, 0
    for stop in stops[stops > 0].tolist():
        columns = np.flatnonzero(rows[owner] >= stop)
        segments.append(_Segment(start, stop, offset, columns))
        offset += (stop - start) * len(columns)
        start = stop
    return segments
