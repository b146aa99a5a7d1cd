"""cast: numbers as float32 (lossless) or float16.

A number x is stored as the nearest float16 (IEEE 754 binary16, ties to even); decoding converts it to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from embshrink.errors import ShapeError, StepError
from embshrink.methods.base import Codec, Codes, Context, State, check_range, expect, expect_finite, param
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.storage.arrays import FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix, on_blocks


@dataclass(frozen=True)
class Cast(Codec):
    """Store every number as float16, or unchanged as float32.

    Use it when vectors must stay as they are. float32 is lossless. float16 halves
    the size and keeps 11 significant bits: rounding changes a number by at most 1
    part in 2,048 (0.05 %), or by at most 3e-8 if its magnitude is below 6e-5. The
    relative error of a whole table, ||X - X^||^2 / ||X - mean||^2, is far smaller,
    4.7e-8 for GloVe 6B 50d, and cosine similarities hardly change. A magnitude
    above 65,504 does not fit float16 and is an error, and so is a table whose
    magnitudes are all below 6e-5.
    """

    by_blocks: ClassVar[bool] = True
    literal: ClassVar[bool] = True
    source: ClassVar[str] = "IEEE 754 binary16"

    dtype: str = param("float16", "type of the stored numbers", choices=("float16", "float32"))

    def resolve(self, n: int, d: int) -> Cast:
        return self

    def with_bits(self, bits: float, c: int) -> Cast:
        if bits < 16 * c:
            raise StepError("cast needs more bits per row", expected=f">= {16 * c}", found=bits,
                            hint="Raise bits, or use ecq or pq.")
        return Cast("float32" if bits >= 32 * c else "float16")

    def plan(self, n: int, c: int) -> Layout:
        return {"codes.values": (np.dtype(self.dtype), (n, c))}

    def fit(self, matrix: Matrix, context: Context) -> State:
        return {}

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        self._check_range(matrix, context)
        values = np.empty(matrix.shape, self.dtype)
        for start in range(0, len(matrix), BLOCK_ROWS):
            values[start : start + BLOCK_ROWS] = matrix[start : start + BLOCK_ROWS]
        return {"values": values}

    def _check_range(self, matrix: Matrix, context: Context) -> None:
        """Raise ShapeError if a number is too large for the dtype, or all are too small for it."""
        sizes = on_blocks(lambda block: np.abs(block).max(axis=1), matrix)
        if not len(sizes):
            return
        largest, where, hint = float(sizes.max()), context.name_row(int(sizes.argmax())), "Use cast:dtype=float32."
        check_range(largest, self.dtype, hint, where)
        if 0 < largest < np.finfo(self.dtype).smallest_normal and self.dtype == "float16":
            raise ShapeError("all values are too small for float16", where=where,
                             expected="a magnitude of at least 6.1e-05", found=largest, hint=hint)

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        return codes["values"][rows].astype(np.float32)

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        expect("codes.values", codes.get("values"), np.dtype(self.dtype), (n, c))

    def check_codes(self, codes: Codes, state: State) -> None:
        expect_finite("codes.values", np.asarray(codes["values"]))
