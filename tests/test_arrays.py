"""Small functions of arrays, and the counting of progress."""

from __future__ import annotations

import numpy as np
import pytest

from embshrink.numerics.arrays import narrowest_uint, ranges
from embshrink.numerics.progress import count_progress


@pytest.mark.parametrize("starts, lengths", [
    ([], []),
    ([5], [0]),
    ([5], [3]),
    ([0, 0, 0], [0, 0, 0]),
    ([10, 3, 7], [3, 0, 2]),
    ([0, 0, 1, 1], [0, 2, 2, 0]),
    ([-4, 2**40], [6, 2]),
])
def test_ranges_are_those_of_range(starts, lengths):
    expected = [i for start, length in zip(starts, lengths) for i in range(start, start + length)]
    got = ranges(np.array(starts, np.int64), np.array(lengths, np.int64))
    assert got.dtype == np.int64 and got.tolist() == expected


def test_random_ranges_are_those_of_range():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(0, 40))
        starts, lengths = rng.integers(-1000, 1000, count), rng.integers(0, 9, count)
        expected = [i for start, length in zip(starts, lengths) for i in range(start, start + length)]
        assert ranges(starts, lengths).tolist() == expected


def test_ranges_of_narrow_integers_do_not_overflow():
    got = ranges(np.array([200, 250], np.int64), np.array([200, 255], np.uint8))
    assert got.tolist() == [*range(200, 400), *range(250, 505)]


@pytest.mark.parametrize("maximum, bits", [(0, 8), (255, 8), (256, 16), (65_535, 16), (65_536, 32), (2**32 - 1, 32),
                                           (2**32, 64), (2**64 - 1, 64)])
def test_the_narrowest_dtype_holds_the_maximum(maximum, bits):
    dtype = narrowest_uint(maximum)
    assert dtype == np.dtype(f"uint{bits}") and np.iinfo(dtype).max >= maximum


def test_progress_adds_up():
    told = []
    report = count_progress(lambda *what: told.append(what), "stage", 5)
    report(2)
    report(3)
    assert told == [("stage", 2, 5), ("stage", 5, 5)]
