"""The weights of errors: a relative step size for each rank bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.ecq.model import UNIT, bucket_count, bucket_of

if TYPE_CHECKING:
    from embshrink.methods.ecq.model import Uint16Array
    from embshrink.storage.arrays import DoubleArray


def parse_weights(text: str) -> tuple[str, float]:
    """Parse the parameter `weights`: return the kind ("none", "zipf" or "counts") and the exponent A.

    Raises
    ------
    StepError
        If the text is not ``none``, ``zipf:A`` or ``counts:A`` with A from 0 to 2. Without ``:A``, A is 1.
    """
    name, _, rest = text.partition(":")
    try:
        power = float(rest) if rest else 1.0
    except ValueError:
        power = -1.0
    if name not in ("none", "zipf", "counts") or not 0 <= power <= 2:
        raise StepError(f"ecq cannot take weights={text}", expected="none, zipf:A or counts:A, with A from 0 to 2",
                        hint="Use for example weights=zipf:0.5.")
    return name, power


def bucket_weights(text: str, n: int, frequencies: DoubleArray) -> Uint16Array:
    """Return the relative step size of each rank bucket, the factor for its decoded values: (buckets,), in 1/64.

    A row's weight w multiplies its squared error. With the mean weight w_b of its rows, a bucket gets a step size
    proportional to w_b ** -0.5, so that the weighted distortion of all buckets is the same. The geometric mean of the
    step sizes over all rows is 1: at high rates, this leaves the bits unchanged.

    Parameters
    ----------
    text : str
        As for `parse_weights`.
    n : int
        Number of rows, the most frequent first.
    frequencies : numpy.ndarray, shape (n,), float64
        Relative frequency of each row.
    """
    name, power = parse_weights(text)
    count, buckets = bucket_count(n), bucket_of(np.arange(n))
    if name == "none":
        return np.full(count, UNIT, np.uint16)
    worth = (np.arange(n) + 1.0) ** -power if name == "zipf" else np.maximum(frequencies, 1e-12) ** power
    rows = np.maximum(np.bincount(buckets, minlength=count), 1)
    mean = np.bincount(buckets, worth, minlength=count) / rows
    steps = np.where(mean > 0, mean, 1) ** -0.5
    steps /= np.exp((np.log(steps) * rows).sum() / rows.sum())
    return np.clip(np.rint(steps * UNIT), 4, 1024).astype(np.uint16)
