"""The codec `ecq`: its parameters, its sections, and the checks of a file's sections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods.base import SteppedCodec, expect, expect_finite, param
from embshrink.methods.ecq.decoder import Decoder
from embshrink.methods.ecq.model import MAX_BINS, MAX_LEVELS, SHIFTED, STATES, TOTAL, UNIT, bucket_count, label_bits
from embshrink.methods.ecq.weights import parse_weights
from embshrink.storage.arrays import layout_bytes
from embshrink.storage.spans import PER_START

if TYPE_CHECKING:
    from typing_extensions import Self

    from embshrink.methods.base import Codes, Context, State
    from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, Layout, StoredArray
    from embshrink.storage.disk_rows import Matrix

BITS_PER_NUMBER = 2


@dataclass(frozen=True)
class ECQ(SteppedCodec):
    """Entropy-coded quantization with one step size; the default method.

    The mean of the rows of similar frequency rank and the nearest centroid are
    subtracted from each row. The residual is rotated to principal axes, quantized
    with one step size, and entropy-coded. Use it from about one bit per dimension
    upwards, where it loses less than any other method here at the same size. Rows
    are coded in blocks of `block` rows, and a lookup decodes only one block.

    `bits` sets the bits per row, all tables included. `step` sets the step size
    instead, in the unit of the vectors: a larger step makes a smaller file and a
    larger error. If both are given, `bits` is used. All axes have the same step
    size (reverse water-filling). The encoder chooses among the values near a
    number by squared error plus a price per bit; with a trellis it chooses the
    values of a row together.

    Notes
    -----
    At high rates, entropy-coded scalar quantization after the Karhunen-Loève transform takes 0.25 bit per number more
    than the rate-distortion bound of a Gaussian source (Gish and Pierce, IEEE Trans. Inf. Theory 14, 1968).
    Trellis-coded quantization regains most of it (Marcellin and Fischer, IEEE Trans. Commun. 38, 1990). We deviate
    from them in using entropy-coded union quantizers, as in dependent quantization (Schwarz et al., Data Compression
    Conference 2019). The coder is rANS (Duda, 2013). Levels that adapt along a row replace fixed energy classes. All
    choices, the trellis included, minimize squared error plus a fixed price per bit.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "ECSQ: Gish & Pierce 1968; trellis: Marcellin & Fischer 1990; rANS: Duda 2013"

    bits: float | None = param(None, "bits per row, tables included; by default 2 per column, plus the tables", low=0,
                               high=1e7)
    step: float | None = param(None, "quantization step size; found from bits by default", low=0, high=1e45)
    centroids: int | None = param(None, "centroids to subtract (1: none); chosen by trial by default", low=1,
                                  high=4096)
    trellis: int = param(8, "states of the trellis; 0: round each number separately, which is faster but loses more",
                         choices=STATES)
    weights: str = param("none", "weight of each row's error: none, zipf:A (rank ** -A) or counts:A (frequency ** A)")
    norms: bool = param(False, "keep the mean length of vectors, which shrinks at few bits")
    block: int = param(16, "rows coded together; more make the file smaller and lookups slower", low=1, high=4096)

    def resolve(self, n: int, d: int) -> Self:
        parse_weights(self.weights)
        bits = self.bits
        if bits is None and self.step is None:
            bits = math.ceil(BITS_PER_NUMBER * d + 8 * (3000 + d * (d + 40)) / max(n, 1))
        centroids = self.centroids if self.centroids is None else min(self.centroids, max(n, 1))
        return replace(self, bits=bits, centroids=centroids)

    def with_bits(self, bits: float, c: int) -> Self:
        return replace(self, bits=bits, step=None)

    def with_step(self, step: float) -> Self:
        return replace(self, bits=None, step=step)

    def fitted(self, state: State) -> Self:
        return replace(self, step=float(f"{state['step'][0]:.6g}"), centroids=max(1, len(state["classes"])))

    def in_unit(self, exponent: int) -> Self:
        if self.step is None or not exponent:
            return self
        return replace(self, step=float(f"{math.ldexp(self.step, -exponent):.6g}"))

    @property
    def takes_goal(self) -> bool:
        """Whether `fit` finds the step for a goal: not with `norms`, whose factors come after it."""
        return not self.norms

    @property
    def weighs(self) -> bool:
        """Whether the result depends on the frequencies of words."""
        return self.weights.startswith("counts")

    # ------------------------------------------------------------ sections

    def _sections(
        self, n: int, c: int, axes: int, blocks_of_centroids: int, tables: tuple[int | None, int | None, int | None]
    ) -> dict[str, tuple[tuple[type[np.generic], ...], tuple[int | None, ...]]]:
        """Return the allowed dtypes, the usual one first, and the shape of every section, in the file's order.

        `tables` is the shape of the tables: quantizers, levels, and bins with the escape. None in a shape allows any
        length.
        """
        u8, u16, u32 = np.uint8, np.uint16, np.uint32
        k = self.centroids if self.centroids and self.centroids > 1 else 0
        buckets, blocks = bucket_count(n), -(-n // self.block)
        return {
            "state.step": ((np.float32,), (2,)), "state.scale": ((np.float32,), (buckets,)),
            "state.basis": ((np.int8,), (axes, c)), "state.means": ((np.int16, np.int32), (buckets, axes)),
            "state.weights": ((u16,), (buckets,)), "state.prior": ((np.int16,), (buckets,)),
            "state.base": ((np.int16,), (2, axes)), "state.classes": ((np.int8,), (k,)),
            "state.index": ((u16,), (label_bits(k)[0],)), "state.tables": ((u16,), tables),
            "state.shifts": ((np.int8,), (*tables[:2], SHIFTED)), "state.centroids": ((u8,), (None,)),
            "state.least": ((u32,), (1,)), "state.lengths": ((u8, u16, u32), (blocks_of_centroids,)),
            "state.starts": ((np.uint64,), (-(-blocks_of_centroids // PER_START),)),
            "codes.data": ((u8,), (None,)), "codes.lengths": ((u8, u16, u32), (blocks,)),
            "codes.starts": ((np.uint64,), (-(-blocks // PER_START),)), "codes.sizes": ((np.uint64,), (2,)),
        }

    def plan(self, n: int, c: int) -> Layout:
        """Return dtype and shape of every array; `codes.data` gets the rest of the bits.

        Arrays whose shapes depend on the values have their smallest shape here, because `bits` includes them.
        """
        bits = self.bits if self.bits is not None else 64 * c + 8 * (9000 + c * (c + 40)) / max(n, 1)
        planned: Layout = {name: (np.dtype(dtypes[0]), tuple(length or 0 for length in shape))
                           for name, (dtypes, shape) in self._sections(n, c, c, 0, (1, 1, 2)).items()}
        planned["codes.data"] = np.dtype(np.uint8), (max(0, int(bits * n / 8) - layout_bytes(planned)),)
        return planned

    # ------------------------------------------------------------ writing

    def fit(self, matrix: Matrix, context: Context) -> State:
        from embshrink.methods.ecq.fit import fit

        return fit(self, matrix, context)

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        from embshrink.methods.ecq.encode import encode

        return encode(self, matrix, state, context)

    # ------------------------------------------------------------ reading

    def decoder(self, codes: Codes, state: State) -> Callable[[IntArray], FloatArray]:
        """Return a function that decodes rows as `decode` does; all tables are built once."""
        return Decoder(self, codes, state).decode

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        return Decoder(self, codes, state).decode(np.asarray(rows, np.int64))

    # ------------------------------------------------------------ checking

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.step is None or not self.step > 0 or self.centroids is None or self.trellis not in STATES:
            raise FormatError("the header's ecq step lacks step or centroids, or has an unknown trellis",
                              found=self)
        given: dict[str, StoredArray] = {**{f"codes.{name}": part for name, part in codes.items()},
                                         **{f"state.{name}": part for name, part in state.items()}}
        axes = state["basis"].shape[0] if "basis" in state and state["basis"].ndim else 0
        k = self.centroids if self.centroids > 1 else 0
        tables = 2 if self.trellis else 1, None, None
        for name, (dtypes, shape) in self._sections(n, c, axes, -(-k // self.block), tables).items():
            own = [dtype for dtype in dtypes if name in given and given[name].dtype.name == np.dtype(dtype).name]
            expect(name, given.get(name), own[0] if own else dtypes[-1], shape)
        _check_tables(np.asarray(state["tables"]), np.asarray(state["shifts"]), axes, c)
        index = np.asarray(state["index"]).astype(np.int64)
        if k and int(index.sum()) != TOTAL:
            raise FormatError("the frequencies of state.index have the wrong sum", expected=TOTAL,
                              found=int(index.sum()))
        sizes = np.asarray(codes["sizes"])
        if int(sizes[1]) != n or int(sizes[0]) > len(codes["data"]):
            raise FormatError("codes.sizes does not match the table", expected=f"{n} rows", found=sizes)
        for name in ("step", "scale"):
            expect_finite(f"state.{name}", np.asarray(state[name]))

    def check_codes(self, codes: Codes, state: State) -> None:
        Decoder(self, codes, state).check()


def _check_tables(tables: AnyArray, shifts: AnyArray, axes: int, c: int) -> None:
    """Raise FormatError unless the tables fit each other and their values are in range."""
    levels, bins = tables.shape[1], tables.shape[2] - 1
    if not (1 <= axes <= c and 1 <= levels <= MAX_LEVELS and 1 <= bins <= MAX_BINS and shifts.shape[1] == levels):
        raise FormatError("ecq's tables have an impossible shape", found=f"{axes} axes, {tables.shape}")
    wide: IntArray = tables.astype(np.int64)
    slots = 2 * wide[:, :, 1:-1].sum(axis=2) + wide[:, :, 0] + wide[:, :, -1]  # each bin but 0 has two signs
    if (slots != TOTAL).any():
        raise FormatError("the frequencies of a table in state.tables have the wrong sum", expected=TOTAL,
                          found=int(slots.max()))
    if np.abs(shifts.astype(np.int64)).max(initial=0) >= UNIT:
        raise FormatError("a shift of state.shifts is too large", expected=f"< {UNIT}")
