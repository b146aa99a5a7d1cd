"""The size of state and codes, measured on blocks of rows that are encoded as they will be stored.

A `Trial` estimates the bits of the rows from which its tables are learned. The other rows take more: about 0.2 bit
per row of GloVe 6B 50d. Therefore blocks at even distances in the table are encoded. Their mean length has a standard
error, which is computed from the differences of successive blocks, because lengths vary slowly with the rank. A table
of few rows is encoded as a whole, and its size is exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.coder import ROWS_AT_ONCE
from embshrink.methods.ecq.encode import Encoder
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.parallel import map_blocks
from embshrink.storage.spans import PER_START

if TYPE_CHECKING:
    from embshrink.methods.base import State
    from embshrink.methods.ecq.model import Settings
    from embshrink.storage.arrays import IntArray
    from embshrink.storage.disk_rows import Matrix

MEASURED_ROWS = 65_536  # approximate number of rows that are encoded
ERRORS = 2.5  # standard errors that are added
LONGER = 1.25  # the range of the lengths of all blocks is taken to be this many times as long


def measured_bits(codec: Settings, matrix: Matrix, state: State) -> float:
    """Return the bits per row of state and codes of a matrix (n, c), from above: rarely more are stored."""
    n, block = len(matrix), codec.block
    count = -(-n // block)
    chosen = np.arange(0, count, max(1, n // MEASURED_ROWS))
    encoder = Encoder(codec, state, n)

    def lengths_of(start: int, stop: int) -> IntArray:
        numbers = (chosen[start:stop, None] * block + np.arange(block)).ravel()
        numbers = numbers[numbers < n]
        return encoder.encode(matrix[numbers], numbers)[1]

    lengths = np.concatenate(map_blocks(lengths_of, len(chosen), max(1, ROWS_AT_ONCE // block)))
    all_measured = len(chosen) == count
    reach = int(np.ptp(lengths)) * (1 if all_measured else LONGER)
    nbytes = float(lengths.mean()) * count + narrowest_uint(int(reach)).itemsize * count
    if not all_measured:
        variance = float(np.square(np.diff(lengths)).mean()) / 2 * (1 - len(chosen) / count)
        nbytes += ERRORS * math.sqrt(variance / len(chosen)) * count
    nbytes += 8 * -(-count // PER_START) + 16 + sum(part.nbytes for part in state.values())  # starts and sizes
    return 8 * nbytes / n
