"""Constants of the layout of fastText's models."""

from __future__ import annotations

import struct

import numpy as np

MAGIC = struct.pack("<i", 793712314)
ARGS = ("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn",
        "lrUpdateRate", "t")
ARGS_LAYOUT = "<12id"
SKIPGRAM, SUPERVISED = 2, 3
SOFTMAX = 3
WITH_SUBWORDS = 12  # the first version whose supervised models have character n-grams
CENTROIDS = 256
MAX_ROWS = 2**31 - 1  # fastText stores row numbers as int32
ENTRY = np.dtype([("count", "<i8"), ("kind", "i1")])  # follows a word and its NUL byte in the dictionary
