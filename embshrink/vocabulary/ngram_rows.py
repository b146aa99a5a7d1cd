"""The n-gram buckets that have a row: a bit for each bucket, with ranks; the rank of a bit is the bucket's row."""

from __future__ import annotations

import numpy as np

from embshrink.storage.arrays import AnyArray, IntArray, Layout
from embshrink.vocabulary.bitmap import encode_bits, plan_bits


def encode_ids(ids: IntArray, bucket: int) -> dict[str, AnyArray]:
    """Encode which buckets have a row.

    Parameters
    ----------
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending.
    bucket : int
        Number of buckets.

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
    """Return dtype and shape of each array of `encode_ids`."""
    return plan_bits(bucket, "bitmap", "ranks")
