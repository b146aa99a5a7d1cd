"""rescale: numbers divided by a power of two, so that float32 can hold their squares and sums.

Apply: ``y = x / 2^exponent``. Invert: ``x' = y * 2^exponent``, at most the largest float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from embshrink.methods.base import ColumnStep, Context, State, param
from embshrink.numerics.arrays import FLOAT32_MAX
from embshrink.numerics.parallel import BLOCK_ROWS, map_blocks
from embshrink.storage.arrays import FloatArray, Layout
from embshrink.storage.disk_rows import Matrix, room_like


@dataclass(frozen=True)
class Rescale(ColumnStep):
    """Divide all numbers by a power of two; decoding multiplies by it again.

    The other methods compute with squares and sums of numbers, which float32
    cannot hold if the numbers are extremely large or small. If the largest
    magnitude of a table is outside 2**-17 to 2**16 (7.6e-6 to 65,536), embshrink
    adds this step by itself before the first step that computes with numbers, with
    the exponent that brings the largest magnitude to 0.5 to 1. The result is then
    that of a table of usual magnitude. Parameters of other steps keep the unit of
    the original vectors.

    Division by a power of two is exact, except for numbers that become smaller
    than 1e-38.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "IEEE 754 scaleB"

    exponent: int = param(0, "numbers are divided by 2 ** exponent", low=-148, high=128)

    @property
    def divides(self) -> int:
        return self.exponent

    def resolve(self, n: int, d: int) -> Rescale:
        return self

    def plan(self, n: int, d: int) -> tuple[int, Layout]:
        return d, {}

    def fit(self, matrix: Matrix, context: Context) -> State:
        return {}

    def apply(self, matrix: Matrix, state: State) -> Matrix:
        scaled = room_like(matrix, matrix.shape[1])

        def scale(start: int, stop: int) -> None:
            scaled[start:stop] = times_power(matrix[start:stop], -self.exponent)

        map_blocks(scale, len(matrix), BLOCK_ROWS)
        return scaled

    def invert(self, matrix: FloatArray, state: State) -> FloatArray:
        return times_power(matrix, self.exponent)


def times_power(matrix: FloatArray, exponent: int) -> FloatArray:
    """Return ``matrix * 2**exponent`` as float32; what is too large becomes the largest float32."""
    with np.errstate(over="ignore", under="ignore"):
        scaled: FloatArray = np.ldexp(matrix, exponent)
    return np.clip(scaled, -FLOAT32_MAX, FLOAT32_MAX)
