"""iiq: one bit a direction. Isotropic iterative quantization, with ITQ and plain signs as special cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import Codec, SmallCodes, expect_planned, halves, param
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import column_means, eigen, gram
from embshrink.numerics.parallel import map_blocks, one_blas_thread

BLOCK = 16_384


@dataclass(frozen=True)
class IIQ(Codec):
    """Store one bit for each of `bits` directions, chosen so that words stay apart.

    The vectors are centred, their `remove` strongest directions are taken away (they say how
    frequent a word is rather than what it means), the next `bits` directions are kept and turned
    so that they fit the corners of a cube. Made for comparing words by cosine, at 32 and more times
    smaller; single numbers do not come back. `itq` is ``iiq:remove=0``; `sign` is
    ``iiq:rotate=none,remove=0,center=false``, the signs of the numbers as they are.

    Notes
    -----
    Liao, Chen, Wang, Qiu and Yuan, "Embedding Compression with Isotropic Iterative Quantization", AAAI 2020,
    sections 3 and 4; ITQ: Gong and Lazebnik, CVPR 2011. The paper leaves open how many directions it removes:
    the default, a twentieth of the columns, is ours, as is keeping the next directions instead of the last
    ones, learning the rotation on a sample, and the one length all decoded vectors have. Decoded vectors are
    left without the mean and the removed directions, so that their cosine is that of the codes,
    ``1 - 2 * hamming / bits``.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Liao et al., AAAI 2020; ITQ: Gong & Lazebnik 2011"

    bits: int | None = param(None, "bits a word; one a column by default", low=1)
    ratio: float | None = param(None, "instead of bits: times smaller than float32, as the paper counts", low=1.0)
    remove: int | None = param(None, "strongest directions to take away; auto is a twentieth of the columns", low=0)
    center: bool = param(True, "subtract the mean")
    rotate: str = param("learned", "how to turn the kept directions", choices=("learned", "none"))
    iterations: int = param(50, "rounds of learning the rotation", low=0, high=10_000)
    sample: int = param(50_000, "rows to learn the rotation on", low=1)

    def resolve(self, n, d):
        if self.bits is not None and self.ratio is not None:
            raise StepError("iiq got both bits and ratio", hint="Give one of them.")
        bits = d if self.bits is None else self.bits
        if self.ratio is not None:
            bits = max(1, round(32 * d / self.ratio))
        remove = (0 if d < 2 else max(1, round(d / 20))) if self.remove is None else self.remove
        if bits > d:
            raise StepError("iiq cannot make more bits than there are columns", expected=f"<= {d}", found=bits)
        if remove >= d:
            raise StepError("iiq cannot remove every direction", expected=f"< {d}", found=remove)
        if self.rotate == "none" and bits != d:
            raise StepError("iiq without a rotation takes one bit a column", expected=d, found=bits)
        return replace(self, bits=bits, ratio=None, remove=remove)

    def with_bits(self, bits, c):
        if bits < 1:
            raise StepError("iiq cannot spend so few bits a word", expected=">= 1", found=bits)
        return replace(self, bits=min(c, int(bits)), ratio=None)

    def plan(self, n, c):
        return {
            "state.mean": (np.dtype(np.float32), (c,)),
            "state.removed": (np.dtype(np.float32), (self.remove, c)),
            "state.basis": (np.dtype(np.float32), (self.bits, c)),
            "state.length": (np.dtype(np.float32), (1,)),
            "codes.bits": (np.dtype(np.uint8), (n, -(-self.bits // 8))),
        }

    def fit(self, matrix, context):
        n, d = matrix.shape
        with one_blas_thread():
            mean = column_means(matrix) if self.center else np.zeros(d)
            _, vectors = eigen(gram(matrix, mean=mean))
            removed, basis = vectors[:, : self.remove], np.eye(d)
            if self.rotate == "learned":
                # Where there are more bits than directions left, removed ones fill up: as zeros, they cost no cosine.
                directions = vectors[:, min(self.remove, d - self.bits) :][:, : self.bits]
                rows = np.sort(context.rng.choice(n, min(n, self.sample), replace=False))
                points = matrix[rows] - mean
                points = (points - points @ removed @ removed.T) @ directions
                start = np.linalg.qr(context.rng.standard_normal((self.bits, self.bits)))[0]
                basis = directions @ fit_rotation(points, start, self.iterations, context.progress)[0]
            context.notes["isotropy before"] = isotropy(matrix, np.zeros(d), eigen(gram(matrix))[1])
            context.notes["isotropy after"] = isotropy(matrix, mean, vectors[:, self.remove :])
        state = {"mean": mean, "removed": removed.T, "basis": basis.T}
        state = {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in state.items()}
        total = 0.0
        for start in range(0, n, BLOCK):
            total += np.abs(self._project(matrix[start : start + BLOCK], state)).sum(dtype=np.float64)
        state["length"] = np.array([total / (n * self.bits)], np.float32)  # the size that loses least
        return state

    @staticmethod
    def _project(matrix, state):
        """Return the coordinates whose signs are stored, (n, bits)."""
        centred = matrix - state["mean"]
        if len(state["removed"]):
            weights = stable_product(centred, np.ascontiguousarray(state["removed"].T))
            centred = centred - stable_product(weights, state["removed"])
        return stable_product(centred, np.ascontiguousarray(state["basis"].T))

    def encode(self, matrix, state, context):
        packed = np.empty((len(matrix), -(-self.bits // 8)), np.uint8)

        def work(start, stop):
            packed[start:stop] = np.packbits(self._project(matrix[start:stop], state) >= 0, axis=1, bitorder="little")

        map_blocks(work, len(matrix), 8192)
        return {"bits": packed}

    def decode(self, codes, state, rows):
        signs = np.unpackbits(codes["bits"][rows], axis=1, count=self.bits, bitorder="little")
        signed = (2 * signs.astype(np.float32) - 1) * state["length"]
        return stable_product(signed, state["basis"])

    def scores(self, codes, state, query):
        """Return the dot product of a vector and every decoded row, by table: one look-up for eight bits."""
        weights = state["basis"] @ query.astype(np.float32) * state["length"]
        packed = np.asarray(codes["bits"])
        padded = np.zeros(8 * packed.shape[1], np.float32)
        padded[: self.bits] = weights
        corners = 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") - 1.0
        tables = (corners @ padded.reshape(-1, 8).T).astype(np.float32)  # padding weighs nothing
        total = tables[packed[:, 0], 0]
        for byte in range(1, packed.shape[1]):
            total += tables[packed[:, byte], byte]
        return total

    def small_codes(self, codes, state):
        signs = 2 * (np.arange(16)[:, None] >> np.arange(self.bits) % 4 & 1) - 1
        starts = np.arange(0, self.bits, 4)
        return SmallCodes(lambda rows: halves(codes["bits"][rows], len(starts)), starts,
                          signs.astype(np.float32) * state["length"], state["basis"].astype(np.float64),
                          lambda signed: stable_product(signed, state["basis"]))

    def check(self, codes, state, n, c):
        if self.bits is None or self.remove is None or not (1 <= self.bits <= c and self.remove < c):
            raise FormatError("iiq has an impossible number of bits or of removed directions",
                              expected=f"1 to {c} and < {c}", found=(self.bits, self.remove))
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes, state):
        spare = 8 * codes["bits"].shape[1] - self.bits
        if spare and len(codes["bits"]) and (np.asarray(codes["bits"])[:, -1] >> (8 - spare)).any():
            raise FormatError("bits beyond the code are not zero")


def fit_rotation(points, rotation, iterations, progress):
    """Turn points towards the corners of a cube (orthogonal Procrustes, alternating).

    Parameters
    ----------
    points : numpy.ndarray, shape (n, c), float64
    rotation : numpy.ndarray, shape (c, c)
        Orthogonal, to begin with.
    iterations : int
    progress : callable

    Returns
    -------
    rotation : numpy.ndarray, shape (c, c)
    losses : list of float
        ``||sign(points R) - points R||^2`` before each round and at the end: it never rises.
    """
    losses = []
    for done in range(iterations):
        turned = points @ rotation
        corners = np.where(turned >= 0, 1.0, -1.0)
        losses.append(float(((corners - turned) ** 2).sum()))
        left, _, right = np.linalg.svd(corners.T @ points)
        rotation = (left @ right).T
        progress("turning", done + 1, iterations)
    turned = points @ rotation
    losses.append(float(((np.where(turned >= 0, 1.0, -1.0) - turned) ** 2).sum()))
    return rotation, losses


def isotropy(matrix, mean, directions):
    """Return how evenly vectors fill all directions: 1 is evenly, 0 not at all.

    ``min Z / max Z`` over both signs of `directions`, with ``Z(c) = sum exp(c . x)``: Mu and Viswanath, ICLR 2018,
    section 2.2, after Arora et al., TACL 2016.
    """
    z = np.zeros((2, directions.shape[1]))
    for start in range(0, len(matrix), BLOCK):
        products = (matrix[start : start + BLOCK] - mean) @ directions
        with np.errstate(over="ignore"):
            z += np.exp(products).sum(axis=0), np.exp(-products).sum(axis=0)
    return float(z.min() / z.max()) if np.isfinite(z.max()) else 0.0


def hamming_cosines(packed, query, bits):
    """Return the cosine of codes by popcount: ``1 - 2 * hamming / bits``.

    Parameters
    ----------
    packed : numpy.ndarray, shape (n, bytes), uint8
    query : numpy.ndarray, shape (bytes,), uint8
        A code of the same file, or `IIQ.encode` of a new vector.
    bits : int

    Returns
    -------
    numpy.ndarray, shape (n,), float32
    """
    counts = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint16)
    return (1 - 2 * counts[packed ^ query].sum(axis=1) / bits).astype(np.float32)
