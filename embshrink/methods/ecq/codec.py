"""ecq: entropy-coded quantization. Each number takes as many bits as it has news, the expected ones next to none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods.base import Codec, expect, expect_finite, param
from embshrink.methods.ecq.blocks import BLOCKS_PER_START, bucket_count, split_bits
from embshrink.methods.ecq.decoder import Decoder
from embshrink.methods.ecq.model import MAX_LEVELS, MAX_SIZES, SHIFTED, STATES, TOTAL, UNIT, parse_weights

BITS_PER_NUMBER = 2


@dataclass(frozen=True)
class ECQ(Codec):
    """Take off a centroid and its rank's mean, turn to principal axes, round to one step, and entropy-code.

    The default. Loses less than any other method here at the same bytes, from about one bit a number on.

    Parameters say how much to spend: `bits` a row with every table counted, or the `step` outright. A step is in
    the vectors' own unit; all axes have the same one, which is reverse water-filling. Which of the values near a
    number is taken depends on what it costs; with a trellis, on all those of the row together.

    Notes
    -----
    Entropy-coded scalar quantization after the Karhunen-Loève transform is 0.25 bit a number from the rate-distortion
    bound of a Gaussian source at high rates (Gish and Pierce, IEEE Trans. Inf. Theory 14, 1968); trellis-coded
    quantization takes back most of it (Marcellin and Fischer, IEEE Trans. Commun. 38, 1990; here with entropy-coded
    union quantizers, as in dependent quantization: Schwarz et al., Data Compression Conference 2019). The coder is
    rANS (Duda, 2013). Levels that adapt along a row take the place of fixed energy classes. The trellis and all
    choices are made by squared error plus a fixed price a bit.
    """

    by_blocks: ClassVar[bool] = True
    fits_itself: ClassVar[bool] = True
    source: ClassVar[str] = "ECSQ: Gish & Pierce 1968; trellis: Marcellin & Fischer 1990; rANS: Duda 2013"

    bits: float | None = param(None, "bits a row, every table counted; 2 a number and the tables by default", low=0,
                               high=1e7)
    step: float | None = param(None, "distance of two values; found for `bits` by default", low=0, high=1e30)
    centroids: int | None = param(None, "taken off first; as many as pay by default", low=1, high=4096)
    trellis: int = param(8, "states of the trellis; 0 rounds each number by itself, faster", choices=STATES)
    weights: str = param("none", "what is lost counts by: none, zipf:A (rank ** -A), counts or counts:A")
    norms: bool = param(False, "keep the mean length of vectors: at few bits they shrink")
    block: int = param(16, "rows coded together; more are smaller, and slower to look up", low=1, high=4096)

    def resolve(self, n, d):
        parse_weights(self.weights)
        bits = self.bits
        if bits is None and self.step is None:
            bits = math.ceil(BITS_PER_NUMBER * d + 8 * (3000 + d * (d + 40)) / max(n, 1))
        centroids = self.centroids if self.centroids is None else min(self.centroids, max(n, 1))
        return replace(self, bits=bits, centroids=centroids)

    def with_bits(self, bits, c):
        return replace(self, bits=bits, step=None)

    def fitted(self, state):
        return replace(self, step=float(f"{state['step'][0]:.6g}"), centroids=max(1, len(state["classes"])))

    @property
    def weighs(self):
        """Whether words' frequencies matter."""
        return self.weights.startswith("counts")

    # ------------------------------------------------------------ sizes

    def plan(self, n, c):
        """Return dtype and shape of every array; of those that depend on the values, the most they may be."""
        bits = self.bits if self.bits is not None else 64 * c + 8 * (9000 + c * (c + 40)) / max(n, 1)
        blocks = -(-n // self.block)
        buckets, k = bucket_count(n), self.centroids or 1
        u8, u64 = np.dtype(np.uint8), np.dtype(np.uint64)
        fixed = {
            "state.step": (np.dtype(np.float32), (2,)), "state.scale": (np.dtype(np.float32), (buckets,)),
            "state.basis": (np.dtype(np.int8), (c, c)), "state.means": (np.dtype(np.int16), (buckets, c)),
            "state.weights": (np.dtype(np.uint16), (buckets,)), "state.prior": (np.dtype(np.int16), (buckets,)),
            "state.base": (np.dtype(np.int16), (2, c)), "state.classes": (np.dtype(np.int8), (0 if k == 1 else k,)),
            "state.index": (np.dtype(np.uint16), (split_bits(k)[0],)),
            "state.tables": (np.dtype(np.uint16), (1, 1, 2)), "state.shifts": (np.dtype(np.int8), (1, 1, SHIFTED)),
            "state.centroids": (u8, (0,)), "state.lengths": (u8, (0,)), "state.starts": (u64, (0,)),
            "state.least": (np.dtype(np.uint32), (1,)), "codes.sizes": (u64, (2,)),
            "codes.lengths": (u8, (blocks,)), "codes.starts": (u64, (-(-blocks // BLOCKS_PER_START),)),
        }
        taken = sum(dtype.itemsize * math.prod(shape) for dtype, shape in fixed.values())
        return {**fixed, "codes.data": (u8, (max(0, int(bits * n / 8) - taken),))}

    # ------------------------------------------------------------ writing

    def fit(self, matrix, context):
        from embshrink.methods.ecq.fit import fit

        return fit(self, matrix, context)

    def encode(self, matrix, state, context):
        from embshrink.methods.ecq.encode import encode

        return encode(self, matrix, state, context)

    # ------------------------------------------------------------ reading

    def decoder(self, codes, state):
        """Return what decodes rows as `decode` does, with all tables made once."""
        return Decoder(self, codes, state).decode

    def decode(self, codes, state, rows):
        return Decoder(self, codes, state).decode(np.asarray(rows, np.int64))

    # ------------------------------------------------------------ checking

    def check(self, codes, state, n, c):
        given = {**{f"codes.{name}": part for name, part in codes.items()},
                 **{f"state.{name}": part for name, part in state.items()}}
        if self.step is None or not self.step > 0 or self.centroids is None or self.trellis not in STATES:
            raise FormatError("ecq does not say its step, centroids or trellis", found=self)
        k = self.centroids if self.centroids > 1 else 0
        buckets, blocks, books = bucket_count(n), -(-n // self.block), -(-k // self.block)
        m = given["state.basis"].shape[0] if np.ndim(given.get("state.basis", 0)) else 0
        quantizers = 2 if self.trellis else 1
        fixed = {
            "state.step": (np.float32, (2,)), "state.scale": (np.float32, (buckets,)),
            "state.basis": (np.int8, (m, c)), "state.weights": (np.uint16, (buckets,)),
            "state.prior": (np.int16, (buckets,)), "state.base": (np.int16, (2, m)),
            "state.classes": (np.int8, (k,)), "state.index": (np.uint16, (split_bits(k)[0],)),
            "state.tables": (np.uint16, (quantizers, None, None)),
            "state.shifts": (np.int8, (quantizers, None, SHIFTED)),
            "state.least": (np.uint32, (1,)), "codes.sizes": (np.uint64, (2,)), "codes.data": (np.uint8, (None,)),
            "state.centroids": (np.uint8, (None,)),
            "codes.starts": (np.uint64, (-(-blocks // BLOCKS_PER_START),)),
            "state.starts": (np.uint64, (-(-books // BLOCKS_PER_START),)),
        }
        for name, (dtype, shape) in fixed.items():
            expect(name, given.get(name), dtype, shape)
        for name, shape, types in (("state.means", (buckets, m), ("int16", "int32")),
                                   ("state.lengths", (books,), ("uint8", "uint16", "uint32")),
                                   ("codes.lengths", (blocks,), ("uint8", "uint16", "uint32"))):
            found = given[name].dtype.name if name in given else None
            expect(name, given.get(name), found if found in types else types[-1], shape)
        tables, shifts = np.asarray(state["tables"]), np.asarray(state["shifts"])
        levels, sizes = tables.shape[1], tables.shape[2] - 1
        if not (1 <= m <= c and 1 <= levels <= MAX_LEVELS and 1 <= sizes <= MAX_SIZES and shifts.shape[1] == levels):
            raise FormatError("ecq's tables have an impossible shape", found=f"{m} axes, {tables.shape}")
        wide = tables.astype(np.int64)
        slots = 2 * wide[:, :, 1:-1].sum(axis=2) + wide[:, :, 0] + wide[:, :, -1]
        if (slots != TOTAL).any():
            raise FormatError("a table of state.tables does not fill its slots", expected=TOTAL,
                              found=int(slots.max()))
        if np.abs(shifts.astype(np.int64)).max(initial=0) >= UNIT:
            raise FormatError("a shift of state.shifts is too large", expected=f"< {UNIT}")
        index = np.asarray(state["index"]).astype(np.int64)
        if k and int(index.sum()) != TOTAL:
            raise FormatError("state.index does not fill its slots", expected=TOTAL, found=int(index.sum()))
        if int(codes["sizes"][1]) != n or int(codes["sizes"][0]) > len(codes["data"]):
            raise FormatError("codes.sizes does not fit the table", expected=f"{n} rows",
                              found=np.asarray(codes["sizes"]))
        for name in ("step", "scale"):
            expect_finite(f"state.{name}", np.asarray(state[name]))

    def check_codes(self, codes, state):
        Decoder(self, codes, state).check()
