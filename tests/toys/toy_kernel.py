"""The kernel of the method toy; in the copy of the tree it is embshrink/kernels/toy.py."""

from __future__ import annotations

import numpy as np

from embshrink.kernels import kernel
from embshrink.storage.arrays import IntArray


@kernel
def upper_halves(bits: IntArray, nearest: bool, halves: IntArray) -> None:
    """Fill `halves` (n, c) uint16 with the upper halves of `bits` (n, c) uint32; a finite number stays finite."""
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            half = (np.int64(bits[i, j]) + (0x8000 if nearest else 0)) >> 16
            halves[i, j] = half if half & 0x7F80 != 0x7F80 else half - 1
