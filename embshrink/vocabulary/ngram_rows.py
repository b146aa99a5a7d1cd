"""Which n-gram buckets have a row: a bit for each, with ranks, so that a bucket's row is the rank of its bit."""

from __future__ import annotations

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, Layout
from embshrink.vocabulary.bitmap import encode_bits, plan_bits


def encode_ids(ids: IntArray, bucket: int) -> dict[str, AnyArray]:
    """Lay out which buckets have a row.

    Parameters
    ----------
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending.
    bucket : int
        How many buckets there are.

    Returns
    -------
    dict of str to numpy.ndarray
        ``bitmap`` : (ceil(bucket / 8),) uint8, lowest bit first. A bucket's row is the number of ones before its bit.
        ``ranks`` : (ceil(bucket / 512),) uint32, the number of ones before every 512th bit.
    """
    bits = np.zeros(bucket, np.bool_)
    bits[ids] = True
    bitmap, ranks = encode_bits(bits)
    return {"bitmap": bitmap, "ranks": ranks}


def plan_ids(bucket: int) -> Layout:
    """Return dtype and shape of each array `encode_ids` makes."""
    return plan_bits(bucket, "bitmap", "ranks")
