"""Bits that are counted in place, and parts that lie end to end: as their slow twins say, at every edge."""

import numpy as np
import pytest

from embshrink.storage.spans import PER_START, span_of
from embshrink.vocabulary.bitmap import Bitmap, encode_bits, plan_bits


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 7, 8, 511, 512, 513, 1300])
def test_rank_and_select_are_those_of_the_slow_twin(n, share):
    bits = np.random.default_rng(n).random(n) < share
    packed, ranks = encode_bits(bits)
    plan = plan_bits(n, "bits", "ranks")
    assert [(part.dtype, part.shape) for part in (packed, ranks)] == [plan["bits"], plan["ranks"]]
    assert np.array_equal(np.unpackbits(packed, bitorder="little", count=n).astype(bool), bits)
    bitmap = Bitmap(packed, ranks)
    for place in range(n):
        assert bitmap.rank(place) == (int(bits[:place].sum()), int(bits[place]))
        assert bitmap.bit(place) == bits[place]
    for wanted in (0, 1):
        places = np.flatnonzero(bits == wanted).tolist()
        assert [bitmap.select(number, wanted) for number in range(len(places))] == places
        assert bitmap.select(-1, wanted) == -1
    assert bitmap.select(int(bits.sum()), 1) == -1


def test_no_bits():
    packed, ranks = encode_bits(np.zeros(0, bool))
    assert len(packed) == len(ranks) == 0


@pytest.mark.parametrize("least", [0, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_spans_are_those_of_all_lengths_added_up(least, dtype):
    lengths = np.random.default_rng(0).integers(0, 256, 3 * PER_START + 1).astype(dtype)
    ends = np.cumsum(lengths.astype(np.int64) + least)
    begins = ends - lengths - least
    starts = begins[::PER_START].astype(np.uint64)
    found = [span_of(lengths, starts, number, least) for number in range(len(lengths))]
    assert found == list(zip(begins.tolist(), ends.tolist()))
