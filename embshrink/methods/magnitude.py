"""magnitude: the numbers of smallest magnitude become 0, and a bitmap marks those that are kept.

Encode: ``codes.bitmap`` has one bit for each number of a row, the lowest bit first, 1 if the number is kept.
``codes.values`` are the kept numbers, row by row, each divided by its column's ``state.scale`` (and rounded, for
``int8``). With ``scope="row"`` every row keeps the same number of values. With ``global``, ``codes.starts`` gives the
position of the first value of every 64th row; the position of any other row is found by counting the bits of the
rows in between. Decode multiplies by the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import DAMAGED, FormatError, StepError
from embshrink.methods.base import Codec, Codes, Context, State, expect_finite, expect_planned, param
from embshrink.numerics.arrays import narrowest_uint, ranges
from embshrink.numerics.parallel import BLOCK_ROWS, map_blocks
from embshrink.storage.arrays import BoolArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix, on_blocks

ROWS_PER_START = 64
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)  # set bits of a byte
DTYPES: dict[str, np.dtype[np.generic]] = {"int8": np.dtype(np.int8), "float16": np.dtype(np.float16)}


@dataclass(frozen=True)
class Magnitude(Codec):
    """Keep the numbers of largest magnitude; all others decode as 0.

    A bitmap marks the kept numbers: every number costs 1 bit, and a kept number 8
    or 16 bits more. With ``scope=row`` all vectors keep the same number of values.
    With ``scope=global`` the largest numbers of the whole table are kept, so long
    vectors keep more. With ``dtype=int8`` a kept number is rounded to a multiple,
    -127 to 127, of 1/127 of the largest magnitude in its column. At the same size
    it loses more than `pq` or `ecq`.

    The share `sparsity` is met exactly, up to rounding: of numbers of equal
    magnitude, those of the lowest row and column are kept.

    Notes
    -----
    The pruning that Grachev, Ignatov and Savchenko compare ("Compression of Recurrent Neural Networks
    for Efficient Language Modeling", Applied Soft Computing 79, 2019, section 3.1), without their retraining. A
    bitmap is smaller than a list of column numbers unless nearly all numbers are 0.
    """

    source: ClassVar[str] = "Grachev et al. 2019 (magnitude pruning)"

    sparsity: float = param(0.5, "share of the numbers that become 0", low=0.0, high=1.0)
    scope: str = param("row", "keep the largest numbers of each row, or of the whole table",
                       choices=("row", "global"))
    dtype: str = param("int8", "type of the kept numbers", choices=tuple(DTYPES))

    @property
    def by_blocks(self) -> bool:
        return self.scope == "row"

    def resolve(self, n: int, d: int) -> Magnitude:
        return self

    def with_bits(self, bits: float, c: int) -> Magnitude:
        fixed = 8 * -(-c // 8) + (self.scope == "global")  # the bitmap; 64 bits for every 64th row's start
        kept = min(c, int(bits - fixed) // (8 * DTYPES[self.dtype].itemsize))
        if kept < 1:
            raise StepError("magnitude needs more bits per row",
                            expected=f">= {fixed + 8 * DTYPES[self.dtype].itemsize}", found=bits,
                            hint="Raise bits, or use pq or rq.")
        return replace(self, sparsity=1 - kept / c)

    def _kept(self, numbers: int) -> int:
        """Return how many of `numbers` numbers are kept: at least one."""
        return max(1, numbers - int(self.sparsity * numbers + 0.5))

    def plan(self, n: int, c: int) -> Layout:
        plan: Layout = {"state.scale": (np.dtype(np.float32), (c,)),
                        "codes.bitmap": (np.dtype(np.uint8), (n, -(-c // 8)))}
        if self.scope == "row":
            return {**plan, "codes.values": (DTYPES[self.dtype], (n, self._kept(c)))}
        kept = self._kept(n * c)
        return {**plan, "codes.starts": (narrowest_uint(kept), (-(-n // ROWS_PER_START),)),
                "codes.values": (DTYPES[self.dtype], (kept,))}

    def fit(self, matrix: Matrix, context: Context) -> State:
        largest = on_blocks(lambda block: np.abs(block).max(axis=0, keepdims=True), matrix).max(axis=0)
        return {"scale": largest / np.float32(127) if self.dtype == "int8" else largest}

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        n = len(matrix)
        mask = self._largest_of_each(matrix) if self.scope == "row" else self._largest_of_all(matrix)
        values = np.empty(np.count_nonzero(mask), DTYPES[self.dtype])
        ends = np.cumsum(np.count_nonzero(mask, axis=1))
        scale = np.asarray(state["scale"], np.float32)
        scale = np.where(scale > 0, scale, np.float32(1))
        done = 0
        for start in range(0, n, BLOCK_ROWS):
            block = matrix[start : start + BLOCK_ROWS]
            kept = (block / scale)[mask[start : start + BLOCK_ROWS]]
            if self.dtype == "int8":
                kept = np.rint(kept).clip(-127, 127)
            values[done : done + len(kept)] = kept
            done += len(kept)
            context.progress("encoding", start + len(block), n)
        codes = {"bitmap": np.packbits(mask, axis=1, bitorder="little")}
        if self.scope == "row":
            return {**codes, "values": values.reshape(n, -1)}
        starts = np.append(0, ends[:-1])[::ROWS_PER_START]
        return {**codes, "starts": starts.astype(narrowest_uint(len(values))), "values": values}

    def _largest_of_each(self, matrix: Matrix) -> BoolArray:
        """Return a mask of the kept numbers, (n, c): the largest of each row."""
        n, c = matrix.shape
        mask, kept = np.zeros((n, c), bool), self._kept(c)

        def mark(start: int, stop: int) -> None:
            order = np.argsort(-np.abs(matrix[start:stop]), axis=1, kind="stable")
            np.put_along_axis(mask[start:stop], order[:, :kept], True, axis=1)

        map_blocks(mark, n, BLOCK_ROWS)
        return mask

    def _largest_of_all(self, matrix: Matrix) -> BoolArray:
        """Return a mask of the kept numbers, (n, c): the largest of the table."""
        vectors = np.asarray(matrix, np.float32)
        sizes = np.abs(vectors)
        kept = self._kept(sizes.size)
        flat = sizes.reshape(-1)
        flat.partition(flat.size - kept)
        threshold = flat[flat.size - kept]
        np.abs(vectors, out=sizes)  # `partition` changed their order
        mask: BoolArray = sizes > threshold
        equal = np.flatnonzero(flat == threshold)
        mask.reshape(-1)[equal[: kept - np.count_nonzero(mask)]] = True
        return mask

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        rows, scale = np.asarray(rows, np.int64), np.asarray(state["scale"], np.float32)
        bitmap = np.asarray(codes["bitmap"][rows], np.uint8)
        mask = np.unpackbits(bitmap, axis=1, count=len(scale), bitorder="little").astype(bool)
        places = rows if self.scope == "row" else _places(codes, rows, np.count_nonzero(mask, axis=1))
        values = codes["values"][places].ravel()
        if np.count_nonzero(mask) != len(values):
            raise FormatError("codes.bitmap does not match codes.values", expected=len(values),
                              found=np.count_nonzero(mask), hint=DAMAGED)
        decoded = np.zeros(mask.shape, np.float32)
        decoded[mask] = values
        return decoded * scale

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes: Codes, state: State) -> None:
        bitmap = np.asarray(codes["bitmap"], np.uint8)
        c = len(state["scale"])
        if c % 8 and (bitmap[:, -1] >> (c % 8)).any():
            raise FormatError("codes.bitmap marks columns beyond the last one")
        counts = ONES[bitmap].sum(axis=1, dtype=np.int64)
        values = np.asarray(codes["values"])
        if self.scope == "row":
            right = bool((counts == values.shape[1]).all())
        else:
            starts = np.append(0, np.cumsum(counts))
            right = bool(starts[-1] == len(values)) and np.array_equal(starts[:-1:ROWS_PER_START], codes["starts"])
        if not right:
            raise FormatError("codes.bitmap does not match codes.values")
        expect_finite("codes.values", values)


def _places(codes: Codes, rows: IntArray, counts: IntArray) -> IntArray:
    """Return the positions in ``codes.values`` of all values of `rows`; row i has ``counts[i]`` values."""
    bitmap = codes["bitmap"]
    groups, group = np.unique(rows // ROWS_PER_START, return_inverse=True)
    members = np.minimum(groups[:, None] * ROWS_PER_START + np.arange(ROWS_PER_START), len(bitmap) - 1)
    ones = ONES[np.asarray(bitmap[members], np.uint8)].sum(axis=2, dtype=np.int64)
    before = np.cumsum(ones, axis=1)[group, rows % ROWS_PER_START] - counts
    return ranges(codes["starts"][groups].astype(np.int64)[group] + before, counts)
