"""toy: the upper half of each float32 (bfloat16).

tests/test_contributing.py adds it to a copy of the tree, as embshrink/methods/toy.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import Codec, Codes, Context, State, expect, param
from embshrink.storage.arrays import FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix, on_blocks

INFINITE = 0x7F80  # the bits of the exponent: all 1 for infinity and NaN


@dataclass(frozen=True)
class Toy(Codec):
    """Store the upper 16 bits of every float32."""

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "bfloat16"

    nearest: bool = param(True, "round to the nearest number instead of towards zero")

    def resolve(self, n: int, d: int) -> Toy:
        return self

    def with_bits(self, bits: float, c: int) -> Toy:
        if bits < 16 * c:
            raise StepError("toy cannot spend so few bits a word", expected=f">= {16 * c}", found=bits,
                            hint="Use pq.")
        return self

    def plan(self, n: int, c: int) -> Layout:
        return {"codes.upper": (np.dtype(np.uint16), (n, c))}

    def fit(self, matrix: Matrix, context: Context) -> State:
        return {}

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        from embshrink.kernels.toy import upper_halves

        def upper(block: FloatArray) -> IntArray:
            halves = np.empty(block.shape, np.uint16)
            upper_halves(np.ascontiguousarray(block).view(np.uint32), self.nearest, halves)
            return halves

        return {"upper": on_blocks(upper, matrix)}

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        return (codes["upper"][rows].astype(np.uint32) << 16).view(np.float32)

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        expect("codes.upper", codes.get("upper"), np.dtype(np.uint16), (n, c))

    def check_codes(self, codes: Codes, state: State) -> None:
        if (np.asarray(codes["upper"]) & INFINITE == INFINITE).any():
            raise FormatError("codes.upper holds an infinite number")
