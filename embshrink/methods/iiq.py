"""iiq: one bit per direction. Isotropic iterative quantization, with ITQ and plain signs as special cases.

Let m be the mean, D, (d, r), the strongest directions, which are removed, and B, (d, b), a basis of orthonormal
columns:

- Encode: ``bits = sign((x - m)(I - D D^T) B)``, packed eight to a byte, the lowest bit first.
- Decode: ``x' = length * bits @ B^T`` with bits of -1 and 1. All decoded vectors have the same length, and B is
  orthonormal, so ``cos(x', y') = 1 - 2 * hamming / b``. The ``length`` of least squared error is the mean of
  ``|(x - m)(I - D D^T) B|`` over all rows and bits.
- Fit: D are the first r eigenvectors of the covariance (Liao et al. 2020, after Mu and Viswanath 2018), V the next b
  ones. ``B = V R``, where the rotation R, (b, b), is learned by ITQ (Gong and Lazebnik 2011, section 2.2): for the
  points P = (x - m)(I - D D^T) V it minimizes ``|C - P R|^2`` over rotations R and corners C of the cube. Two steps
  alternate: C = sign(P R) is optimal for R, and R = W U^T is optimal for C, where C^T P = U S W^T is a singular value
  decomposition (orthogonal Procrustes). Neither step raises the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import (
    Codec,
    Codes,
    Context,
    SmallCodes,
    State,
    expect_planned,
    param,
    resolved,
    unpack_pairs,
)
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import column_means, eigen, gram
from embshrink.numerics.parallel import BLOCK_ROWS, map_blocks, one_blas_thread
from embshrink.numerics.progress import Progress
from embshrink.storage.arrays import AnyArray, ByteArray, DoubleArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix


@dataclass(frozen=True)
class IIQ(Codec):
    """Store one bit per direction, for comparing words by cosine similarity.

    Vectors are centred, and their `remove` strongest principal components are
    removed, because they reflect how frequent a word is rather than its meaning.
    The next `bits` components are rotated towards the corners of a cube (ITQ), and
    the sign along each direction is stored. Use it to compare words only: codes
    take 1/32 of the size of float32 or less, and the cosine of two decoded vectors
    is 1 - 2 * hamming / bits. Lengths, the mean and the values of single numbers
    are lost.

    The alias `itq` stands for ``iiq:remove=0``, and `sign` for
    ``iiq:remove=0,center=false,rotate=none``, which stores the signs of the
    original numbers.

    Notes
    -----
    Liao, Chen, Wang, Qiu and Yuan, "Embedding Compression with Isotropic Iterative Quantization", AAAI 2020,
    sections 3 and 4; ITQ: Gong and Lazebnik, CVPR 2011. The paper does not say how many directions it removes; the
    default, a twentieth of the columns, is ours. We also deviate in keeping the next directions instead of the last
    ones, in learning the rotation on a sample, and in giving all decoded vectors the same length. Decoding does not
    add the mean and the removed directions back, so the cosine of decoded vectors is that of the codes,
    ``1 - 2 * hamming / bits``.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Liao et al., AAAI 2020; ITQ: Gong & Lazebnik 2011"

    bits: int | None = param(None, "bits per row; one per column by default", low=1)
    ratio: float | None = param(None, "instead of bits: compression ratio to float32, codes only, as in the paper",
                                low=1.0)
    remove: int | None = param(None, "strongest components to remove; a twentieth of the columns by default", low=0)
    center: bool = param(True, "subtract the mean vector first")
    rotate: str = param("learned", "rotation of the kept directions: learned by ITQ, or none",
                        choices=("learned", "none"))
    iterations: int = param(50, "iterations of learning the rotation", low=0, high=10_000)
    sample: int = param(50_000, "number of rows from which the rotation is learned", low=1)

    def resolve(self, n: int, d: int) -> IIQ:
        if self.bits is not None and self.ratio is not None:
            raise StepError("iiq takes one of bits and ratio, not both", hint="Give one of them.")
        bits = d if self.bits is None else self.bits
        if self.ratio is not None:
            bits = max(1, round(32 * d / self.ratio))
        remove = (0 if d < 2 else max(1, round(d / 20))) if self.remove is None else self.remove
        if bits > d:
            raise StepError("iiq cannot store more bits than the vectors have columns", expected=f"bits <= {d}",
                            found=bits, hint="Lower bits, or raise ratio.")
        if remove >= d:
            raise StepError("iiq cannot remove all directions", expected=f"remove < {d}", found=remove,
                            hint="Lower remove.")
        if self.rotate == "none" and bits != d:
            raise StepError("iiq with rotate=none stores exactly one bit per column", expected=f"bits = {d}",
                            found=bits, hint="Leave out bits and ratio, or use rotate=learned.")
        return replace(self, bits=bits, ratio=None, remove=remove)

    def with_bits(self, bits: float, c: int) -> IIQ:
        if bits < 1:
            raise StepError("iiq needs more bits per row", expected=">= 1", found=bits, hint="Raise bits.")
        return replace(self, bits=min(c, int(bits)), ratio=None)

    def plan(self, n: int, c: int) -> Layout:
        bits = resolved(self.bits)
        return {
            "state.mean": (np.dtype(np.float32), (c,)),
            "state.removed": (np.dtype(np.float32), (resolved(self.remove), c)),
            "state.basis": (np.dtype(np.float32), (bits, c)),
            "state.length": (np.dtype(np.float32), (1,)),
            "codes.bits": (np.dtype(np.uint8), (n, -(-bits // 8))),
        }

    def fit(self, matrix: Matrix, context: Context) -> State:
        d = matrix.shape[1]
        with one_blas_thread():
            mean = column_means(matrix) if self.center else np.zeros(d)
            _, axes = eigen(gram(matrix, mean=mean))
            removed, left = np.split(axes, [resolved(self.remove)], axis=1)
            basis = self._learn_basis(matrix, mean, axes, context) if self.rotate == "learned" else np.eye(d)
            context.notes["isotropy before"] = isotropy(matrix, np.zeros(d), eigen(gram(matrix))[1])
            context.notes["isotropy after"] = isotropy(matrix, mean, left)
        state: dict[str, AnyArray] = {
            name: np.ascontiguousarray(part, dtype=np.float32)
            for name, part in (("mean", mean), ("removed", removed.T), ("basis", basis.T))
        }
        state["length"] = np.array([self._mean_size(matrix, state)], np.float32)  # of least squared error
        return state

    def _learn_basis(self, matrix: Matrix, mean: DoubleArray, axes: DoubleArray, context: Context) -> DoubleArray:
        """Return the basis, (d, bits): the principal axes after the removed ones, rotated by ITQ on a sample."""
        (n, d), bits, remove = matrix.shape, resolved(self.bits), resolved(self.remove)
        removed = axes[:, :remove]
        # If fewer than `bits` directions remain, removed ones fill up; coordinates along them are 0.
        directions = axes[:, min(remove, d - bits) :][:, :bits]
        rows = np.sort(context.rng.choice(n, min(n, self.sample), replace=False))
        points = matrix[rows] - mean
        points = (points - points @ removed @ removed.T) @ directions
        start = np.linalg.qr(context.rng.standard_normal((bits, bits)))[0]
        rotation, _ = fit_rotation(points, start, self.iterations, context.progress)
        return directions @ rotation

    def _mean_size(self, matrix: Matrix, state: State) -> float:
        """Return the mean magnitude of the coordinates whose signs are stored."""
        total = 0.0
        for start in range(0, len(matrix), BLOCK_ROWS):
            total += np.abs(self._project(matrix[start : start + BLOCK_ROWS], state)).sum(dtype=np.float64)
        return total / (len(matrix) * resolved(self.bits))

    @staticmethod
    def _project(matrix: FloatArray, state: State) -> FloatArray:
        """Return the coordinates whose signs are stored, (n, bits)."""
        mean, removed, basis = (np.asarray(state[name], np.float32) for name in ("mean", "removed", "basis"))
        centred = matrix - mean
        if len(removed):
            weights = stable_product(centred, np.ascontiguousarray(removed.T))
            centred = centred - stable_product(weights, removed)
        return stable_product(centred, np.ascontiguousarray(basis.T))

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        packed = np.empty((len(matrix), -(-resolved(self.bits) // 8)), np.uint8)

        def work(start: int, stop: int) -> None:
            packed[start:stop] = np.packbits(self._project(matrix[start:stop], state) >= 0, axis=1, bitorder="little")

        map_blocks(work, len(matrix), 8192)
        return {"bits": packed}

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        packed = np.asarray(codes["bits"][rows], np.uint8)
        signs = np.unpackbits(packed, axis=1, count=self.bits, bitorder="little")
        signed = (2 * signs.astype(np.float32) - 1) * np.asarray(state["length"], np.float32)
        return stable_product(signed, np.asarray(state["basis"], np.float32))

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray:
        """Return the dot product of a vector and every decoded row, with one table lookup per 8 bits."""
        basis, length = np.asarray(state["basis"], np.float32), np.asarray(state["length"], np.float32)
        weights = basis @ query.astype(np.float32) * length
        packed = np.asarray(codes["bits"], np.uint8)
        padded = np.zeros(8 * packed.shape[1], np.float32)
        padded[: len(weights)] = weights
        corners = 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") - 1.0
        tables = (corners @ padded.reshape(-1, 8).T).astype(np.float32)  # the padding bits have weight 0
        total: FloatArray = tables[packed[:, 0], 0]
        for byte in range(1, packed.shape[1]):
            total += tables[packed[:, byte], byte]
        return total

    def small_codes(self, codes: Codes, state: State) -> SmallCodes:
        bits, basis = resolved(self.bits), np.asarray(state["basis"], np.float32)
        signs = 2 * (np.arange(16)[:, None] >> np.arange(bits) % 4 & 1) - 1
        starts = np.arange(0, bits, 4)
        return SmallCodes(
            codes=lambda rows: unpack_pairs(np.asarray(codes["bits"][rows], np.uint8), len(starts)), starts=starts,
            codebook=signs.astype(np.float32) * np.asarray(state["length"], np.float32),
            transform=basis.astype(np.float64), finish=lambda signed: stable_product(signed, basis),
        )

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.bits is None or self.remove is None or not (1 <= self.bits <= c and self.remove < c):
            raise FormatError("iiq has an impossible number of bits or of removed directions",
                              expected=f"bits from 1 to {c}, remove < {c}", found=(self.bits, self.remove))
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes: Codes, state: State) -> None:
        packed = np.asarray(codes["bits"], np.uint8)
        spare = 8 * packed.shape[1] - resolved(self.bits)
        if spare and len(packed) and (packed[:, -1] >> (8 - spare)).any():
            raise FormatError("codes.bits has padding bits that are not zero")


def fit_rotation(
    points: DoubleArray, rotation: DoubleArray, iterations: int, progress: Progress
) -> tuple[DoubleArray, list[float]]:
    """Rotate points towards the corners of a cube (ITQ: orthogonal Procrustes, alternating).

    Parameters
    ----------
    points : numpy.ndarray, shape (n, c), float64
    rotation : numpy.ndarray, shape (c, c)
        The initial rotation, an orthogonal matrix.
    iterations : int
    progress : callable

    Returns
    -------
    rotation : numpy.ndarray, shape (c, c)
    losses : list of float
        ``||sign(points R) - points R||^2`` before each iteration and at the end; it never rises.
    """
    losses = []
    for done in range(iterations):
        rotated = points @ rotation
        corners = np.where(rotated >= 0, 1.0, -1.0)
        losses.append(float(((corners - rotated) ** 2).sum()))
        left, _, right = np.linalg.svd(corners.T @ points)
        rotation = (left @ right).T
        progress("learning the rotation", done + 1, iterations)
    rotated = points @ rotation
    losses.append(float(((np.where(rotated >= 0, 1.0, -1.0) - rotated) ** 2).sum()))
    return rotation, losses


def isotropy(matrix: Matrix, mean: DoubleArray, directions: DoubleArray) -> float:
    """Measure how evenly vectors are distributed over directions, from 0 to 1 (isotropic).

    Parameters
    ----------
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (n, d), float32
    mean : numpy.ndarray, shape (d,), float64
        Subtracted first.
    directions : numpy.ndarray, shape (d, k), float64
        Unit vectors, as columns.

    Returns
    -------
    float
        ``min Z / max Z`` over both signs of `directions`, with ``Z(c) = sum exp(c . x)``; 0 if that overflows.

    Notes
    -----
    Mu and Viswanath, ICLR 2018, section 2.2, after Arora et al., TACL 2016.
    """
    z = np.zeros((2, directions.shape[1]))
    for start in range(0, len(matrix), BLOCK_ROWS):
        products = (matrix[start : start + BLOCK_ROWS] - mean) @ directions
        with np.errstate(over="ignore"):
            z += np.exp(products).sum(axis=0), np.exp(-products).sum(axis=0)
    return float(z.min() / z.max()) if np.isfinite(z.max()) else 0.0


def hamming_cosines(packed: ByteArray, query: ByteArray, bits: int) -> FloatArray:
    """Return the cosines of codes to a query, from Hamming distances: ``1 - 2 * hamming / bits``.

    Parameters
    ----------
    packed : numpy.ndarray, shape (n, bytes), uint8
    query : numpy.ndarray, shape (bytes,), uint8
        A code of the same file, or of a new vector by `IIQ.encode`.
    bits : int

    Returns
    -------
    numpy.ndarray, shape (n,), float32
    """
    counts = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint16)
    hamming: IntArray = counts[packed ^ query].sum(axis=1)
    return (1 - 2 * hamming / bits).astype(np.float32)
