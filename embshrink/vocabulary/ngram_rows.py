"""Vectors for unseen words: the n-gram rows that are kept, and the mean of those a word is made of."""

from __future__ import annotations

import numpy as np

BITS_PER_RANK = 512


def encode_ids(ids, bucket):
    """Lay out which buckets have a row: a bit each, and how many come before every 512th.

    Returns
    -------
    dict of str to numpy.ndarray
        ``bitmap`` : (ceil(bucket / 8),) uint8, lowest bit first. A bucket's row is the number of bits before its own.
        ``ranks`` : (ceil(bucket / 512),) uint32.
    """
    bits = np.zeros(-(-bucket // 8) * 8, bool)
    bits[ids] = True
    starts = np.arange(0, bucket, BITS_PER_RANK)
    return {"bitmap": np.packbits(bits, bitorder="little"), "ranks": np.searchsorted(ids, starts).astype(np.uint32)}


def plan_ids(bucket):
    """Return dtype and shape of each array `encode_ids` makes."""
    return {"bitmap": (np.dtype(np.uint8), (-(-bucket // 8),)),
            "ranks": (np.dtype(np.uint32), (-(-bucket // BITS_PER_RANK),))}
