"""cast: numbers as float32 (lossless) or float16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from embshrink.errors import ShapeError, StepError
from embshrink.methods.base import Codec, expect, param
from embshrink.storage.disk_rows import on_blocks

ROWS = 16_384


@dataclass(frozen=True)
class Cast(Codec):
    """Store every number as float16, or as float32 as it is.

    float16 keeps 11 bits of each number: a relative error near 1e-8, invisible to cosines.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "IEEE 754 binary16"

    dtype: str = param("float16", "type of the stored numbers", choices=("float16", "float32"))

    def resolve(self, n, d):
        return self

    def with_bits(self, bits, c):
        if bits < 16 * c:
            raise StepError("cast cannot spend so few bits a word", expected=f">= {16 * c}", found=bits,
                            hint="Use pq.")
        return Cast("float32" if bits >= 32 * c else "float16")

    def plan(self, n, c):
        return {"codes.values": (np.dtype(self.dtype), (n, c))}

    def fit(self, matrix, context):
        return {}

    def encode(self, matrix, state, context):
        limit = float(np.finfo(self.dtype).max)
        largest = float(on_blocks(lambda block: np.abs(block).max(axis=1), matrix).max(initial=0))
        if largest > limit:
            raise ShapeError("a value is too large for float16", expected=f"<= {limit:g}", found=largest,
                             hint="Use cast:dtype=float32.")
        values = np.empty(matrix.shape, self.dtype)
        for start in range(0, len(matrix), ROWS):
            values[start : start + ROWS] = matrix[start : start + ROWS]
        return {"values": values}

    def decode(self, codes, state, rows):
        return codes["values"][rows].astype(np.float32)

    def check(self, codes, state, n, c):
        expect("codes.values", codes.get("values"), np.dtype(self.dtype), (n, c))

    def check_codes(self, codes, state):
        from embshrink.methods.base import expect_finite

        expect_finite("codes.values", np.asarray(codes["values"]))
