"""pq: product quantization. Vectors are cut into subspaces, and each part is replaced by its nearest centroid.

A vector y is cut into M parts y^1 ... y^M (Jegou et al. 2011, section II.B). Part m has a codebook C^m of k
centroids, found by k-means on a sample. The codebooks are stored side by side as one matrix ``state.codebook``,
(k, c); part m has its own columns.

- Encode: ``code_m = argmin_j |y^m - C^m_j|``. Decode: ``y'^m = C^m[code_m]``.
- Rotation: y = (x / s) A and x' = s * (y' A^T), where ``state.rotation`` is A^T, orthogonal, and s is
  ``state.scale``, the root mean square of each column (``normalize=columns``); 1 and the identity by default.
- ``rotate=pca`` (Ge et al. 2014, section 3.3): A are the principal axes, assigned to parts one by one, in descending
  order of variance. Each axis goes to the part that has the least product of variances so far and still has room.
- ``rotate=opq`` (section 3.2) starts from there and minimizes ``sum |x A - y'|^2`` over A, codebooks and codes. Each
  round does one iteration of Lloyd's algorithm on the points x A in each part, which gives y'. Then A = U V^T, where
  X^T Y' = U S V^T is a singular value decomposition (orthogonal Procrustes). At the end k-means runs to convergence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

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
    rows_at_once,
)
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.numerics.parallel import map_blocks, one_blas_thread
from embshrink.numerics.progress import count_progress
from embshrink.storage.arrays import AnyArray, ByteArray, DoubleArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

POINTS_PER_CENTROID = 256
LEAST_SAMPLE = 65_536
OPQ_ROUNDS = 30
BLOCK = 4096

CodeArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]  # uint8 or uint16


@dataclass(frozen=True)
class PQ(Codec):
    """Product quantization: store the nearest centroid of each subspace.

    Each vector is cut into `subspaces` parts. A part is stored as a code, the
    number of the nearest of `centroids` centroids. Use it for fast lookups and
    search: decoding only looks up centroids. `ecq` loses less at the same size,
    and `rq` below one bit per dimension.

    `rotate` balances the variance of the subspaces, which lowers the error:
    ``rotate=pca`` takes principal axes, ``rotate=opq`` also fits the rotation to
    the codebooks and takes longer to compress. With ``normalize=columns`` every
    column is divided by its root mean square before clustering, so all columns
    count alike; the scales are stored.

    The number of columns need not be a multiple of `subspaces`: the first parts
    may be longer by one.

    Notes
    -----
    Jegou, Douze and Schmid, TPAMI 33 (2011). ``rotate="pca"`` is the parametric solution of Ge, He,
    Ke and Sun, "Optimized Product Quantization" (TPAMI 36, 2014, section 3.3): principal axes are assigned
    to parts such that the products of their variances are balanced. ``rotate="opq"`` is their non-parametric
    solution (section 3.2), which starts from the parametric one. For word vectors, pq is known as basis embedding
    (Shi and Yu, Interspeech 2018). Their code scales columns to one norm before clustering and does not scale back,
    because it goes on training; here ``normalize="columns"`` stores the scales and scales back.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Jégou et al. 2011; OPQ: Ge et al. 2014; basis embedding: Shi & Yu 2018"

    subspaces: int | None = param(None, "number of parts (codes per row); half the columns by default", low=1)
    centroids: int = param(256, "centroids per part; a code takes 4 bits up to 16, 8 up to 256, else 16", low=1,
                           high=65_536)
    rotate: str = param("none", "rotation before cutting: none, balanced principal axes, or OPQ",
                        choices=("none", "pca", "opq"))
    normalize: str = param("none", "columns: divide each column by its root mean square first",
                           choices=("none", "columns"))
    iterations: int = param(25, "maximum number of k-means iterations", low=1, high=1000)
    sample: int | None = param(None, "rows to train on; 256 per centroid, at least 65,536, by default", low=1)

    def resolve(self, n: int, d: int) -> PQ:
        subspaces = max(1, d // 2) if self.subspaces is None else self.subspaces
        if subspaces > d:
            raise StepError("pq cannot have more subspaces than the vectors have columns",
                            expected=f"subspaces <= {d}", found=subspaces, hint="Lower subspaces.")
        centroids = min(self.centroids, n)
        sample = self.sample or max(LEAST_SAMPLE, POINTS_PER_CENTROID * centroids)
        return replace(self, subspaces=subspaces, centroids=centroids, sample=max(centroids, min(sample, n)))

    def with_bits(self, bits: float, c: int) -> PQ:
        width = self._code_bits()
        subspaces = min(c, int(bits // width))
        if subspaces < 1:
            raise StepError("pq needs more bits per row", expected=f">= {width}", found=bits,
                            hint="Raise bits, or use fewer centroids.")
        return replace(self, subspaces=subspaces)

    def _code_bits(self) -> int:
        return 4 if self.centroids <= 16 else 8 if self.centroids <= 256 else 16

    def _code_dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(np.uint8) if self.centroids <= 256 else np.dtype(np.uint16)

    def plan(self, n: int, c: int) -> Layout:
        subspaces = resolved(self.subspaces)
        width = -(-subspaces // 2) if self._code_bits() == 4 else subspaces
        plan: Layout = {"state.codebook": (np.dtype(np.float32), (self.centroids, c))}
        if self.rotate != "none":
            plan["state.rotation"] = (np.dtype(np.float32), (c, c))
        if self.normalize == "columns":
            plan["state.scale"] = (np.dtype(np.float32), (c,))
        return {**plan, "codes.codes": (self._code_dtype(), (n, width))}

    def _bounds(self, c: int) -> list[tuple[int, int]]:
        """Return the first and the end column of each part: lengths differ by at most one, longer parts first."""
        subspaces = resolved(self.subspaces)
        width, longer = divmod(c, subspaces)
        starts = [m * width + min(m, longer) for m in range(subspaces + 1)]
        return list(zip(starts, starts[1:]))

    # ------------------------------------------------------------ training

    def fit(self, matrix: Matrix, context: Context) -> State:
        n, c = matrix.shape
        rows = np.sort(context.rng.choice(n, resolved(self.sample), replace=False))
        sample = matrix[rows]
        state: dict[str, AnyArray] = {}
        if self.normalize == "columns":
            spread = np.sqrt(np.square(sample, dtype=np.float64).mean(axis=0))
            scale = np.where(spread > 0, spread, 1).astype(np.float32)
            state["scale"], sample = scale, sample / scale
        if self.rotate == "none":
            return {**state, "codebook": self._train(sample, "k-means++", context)}
        axes = _balanced_axes(sample, self._bounds(c))
        rotation = np.ascontiguousarray(axes.T)  # transposed, for decoding
        sample = sample @ axes
        codebook = self._train(sample, "k-means++", context)
        if self.rotate == "opq" and self.centroids < len(sample):  # else each row has its own centroid
            rotation, codebook = self._optimize_rotation(sample @ rotation, rotation, codebook, context)
        return {**state, "rotation": rotation, "codebook": codebook}

    def _train(self, sample: FloatArray, start: str | FloatArray, context: Context) -> FloatArray:
        """Return the codebook of k-means in each part, which starts by k-means++ or from the codebook `start`."""
        bounds = self._bounds(sample.shape[1])
        codebook = np.empty((self.centroids, sample.shape[1]), np.float32)
        seeds = context.rng.integers(2**63, size=len(bounds))

        def train(first: int, last: int) -> None:
            for m in range(first, last):
                part = slice(*bounds[m])
                codebook[:, part], _ = clustering.kmeans(
                    sample[:, part], self.centroids, np.random.default_rng(seeds[m]),
                    init=start if isinstance(start, str) else start[:, part], iterations=self.iterations)

        map_blocks(train, len(bounds), 1, count_progress(context.progress, "training pq", len(bounds)))
        return codebook

    def _optimize_rotation(
        self, sample: FloatArray, rotation: FloatArray, codebook: FloatArray, context: Context
    ) -> tuple[FloatArray, FloatArray]:
        """Return the rotation and codebook of OPQ, which starts from those of the principal axes."""
        axes = rotation.T
        for done in range(OPQ_ROUNDS):
            codebook, quantized = self._lloyd_round(project(sample, axes), codebook)
            axes = _closest_rotation(sample, quantized)
            context.progress("training opq", done + 1, OPQ_ROUNDS)
        codebook = self._train(project(sample, axes), codebook, context)
        return np.ascontiguousarray(axes.T), codebook

    def _lloyd_round(self, rotated: FloatArray, codebook: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the codebook after one k-means iteration in each part, and the quantized rows as columns, (c, n)."""
        bounds = self._bounds(rotated.shape[1])
        moved, quantized = np.empty_like(codebook), np.empty(rotated.shape[::-1], np.float32)

        def improve(first: int, last: int) -> None:
            for m in range(first, last):
                part = slice(*bounds[m])
                moved[:, part], labels = clustering.lloyd_round(rotated[:, part], codebook[:, part])
                for column in range(*bounds[m]):
                    quantized[column] = moved[labels, column]

        map_blocks(improve, len(bounds), 1)
        return moved, quantized

    # ------------------------------------------------------------ coding

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        n, c = matrix.shape
        bounds, codebook = self._bounds(c), np.asarray(state["codebook"], np.float32)
        scale, rotation = _scale_and_rotation(state)
        labels = np.empty((n, len(bounds)), self._code_dtype())
        size = rows_at_once(c)
        for start in range(0, n, size):
            block = matrix[start : start + size]
            if scale is not None:
                block = block / scale
            if rotation is not None:
                block = block @ rotation.T

            def label(first: int, last: int, block: FloatArray = block, start: int = start) -> None:
                for m in range(first, last):
                    part = slice(*bounds[m])
                    labels[start : start + size, m] = clustering.nearest_centroids(block[:, part], codebook[:, part])

            map_blocks(label, len(bounds), 1)
            context.progress("encoding", min(start + size, n), n)
        return {"codes": pack_nibbles(labels) if self._code_bits() == 4 else labels}

    def decoder(self, codes: Codes, state: State) -> Callable[[IntArray], FloatArray]:
        """Return a function that decodes rows as `decode` does; the codebook is arranged once."""
        stored, groups = codes["codes"], self._lay_out(np.asarray(state["codebook"], np.float32))

        def decode(rows: IntArray) -> FloatArray:
            labels = self._unpack(stored[rows])
            found = [centroids[labels[:, own], places].view(np.float32) for own, places, centroids in groups]
            return _rotate_back(found[0] if len(found) == 1 else np.concatenate(found, axis=1), state)

        return decode

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        return self.decoder(codes, state)(rows)

    def _lay_out(self, codebook: FloatArray) -> list[tuple[slice, IntArray, AnyArray]]:
        """Arrange the codebook so that each centroid is one item, which is faster to copy than single numbers.

        Returns one tuple for the longer parts and one for the others: the slice of the parts, their indices in the
        array of centroids, and this array, (k, parts) of void.
        """
        m = resolved(self.subspaces)
        groups: list[tuple[slice, IntArray, AnyArray]] = []
        width, longer = divmod(codebook.shape[1], m)
        for first, last, size in ((0, longer, width + 1), (longer, m, width)):
            if first < last:
                start = first * (width + 1)
                numbers = np.ascontiguousarray(codebook[:, start : start + (last - first) * size])
                centroids = numbers.view(np.dtype((np.void, numbers.itemsize * size)))
                groups.append((slice(first, last), np.arange(last - first), centroids))
        return groups

    def _unpack(self, stored: AnyArray) -> CodeArray:
        """Return the codes of stored rows, one per column: (n, subspaces)."""
        codes = np.asarray(stored, self._code_dtype())
        return unpack_nibbles(codes, resolved(self.subspaces)) if self._code_bits() == 4 else codes

    # ------------------------------------------------------------ search

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray:
        """Return the dot product of a vector and every decoded row, with one table lookup per part."""
        scale, rotation = _scale_and_rotation(state)
        codebook = np.asarray(state["codebook"], np.float32)
        query = query if scale is None else query * scale
        query = query if rotation is None else rotation @ query
        labels = self._unpack(np.asarray(codes["codes"]))
        total = np.zeros(len(labels), np.float32)
        for m, (start, stop) in enumerate(self._bounds(len(query))):
            total += (codebook[:, start:stop] @ query[start:stop])[labels[:, m]]
        return total

    def small_codes(self, codes: Codes, state: State) -> SmallCodes | None:
        if self._code_bits() > 8:
            return None
        scale, rotation = _scale_and_rotation(state)
        codebook = np.zeros((1 << self._code_bits(), state["codebook"].shape[1]), np.float32)
        codebook[: self.centroids] = state["codebook"]
        transform = None if rotation is None else rotation.astype(np.float64)
        if scale is not None and transform is None:  # in float32, as decoding does
            codebook = codebook * scale
        elif scale is not None and transform is not None:
            transform = transform * scale
        return SmallCodes(
            codes=lambda rows: np.asarray(self._unpack(codes["codes"][rows]), np.uint8),
            starts=np.array([start for start, _ in self._bounds(codebook.shape[1])]), codebook=codebook,
            transform=transform,
            finish=None if transform is None else functools.partial(_rotate_back, state=state),
        )

    # ------------------------------------------------------------ checking

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.subspaces is None or not 1 <= self.subspaces <= c:
            raise FormatError("pq has an impossible number of subspaces", expected=f"1 to {c}", found=self.subspaces)
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes: Codes, state: State) -> None:
        labels = self._unpack(np.asarray(codes["codes"]))
        if labels.size and int(labels.max()) >= len(state["codebook"]):
            raise FormatError("a code refers to a centroid that does not exist",
                              expected=f"< {len(state['codebook'])}", found=int(labels.max()))


def _scale_and_rotation(state: State) -> tuple[FloatArray | None, FloatArray | None]:
    """Return the scale and the rotation of a state; None for one that it does not have."""
    scale, rotation = state.get("scale"), state.get("rotation")
    return (None if scale is None else np.asarray(scale, np.float32),
            None if rotation is None else np.asarray(rotation, np.float32))


def _rotate_back(decoded: FloatArray, state: State) -> FloatArray:
    """Undo rotation and scaling of rows, (k, c) float32."""
    scale, rotation = _scale_and_rotation(state)
    if rotation is not None:
        decoded = stable_product(decoded, rotation)
    return decoded if scale is None else decoded * scale


def pack_nibbles(labels: CodeArray) -> ByteArray:
    """Pack 4-bit codes, two in a byte: the first half of a row's codes in the low bits, the second in the high bits.

    Parameters
    ----------
    labels : numpy.ndarray, shape (n, m), unsigned
        Below 16.

    Returns
    -------
    numpy.ndarray, shape (n, ceil(m / 2)), uint8
    """
    half = -(-labels.shape[1] // 2)
    packed = np.array(labels[:, :half], np.uint8, order="C")
    packed[:, : labels.shape[1] - half] |= np.asarray(labels[:, half:], np.uint8) << 4
    return packed


def unpack_nibbles(packed: CodeArray, m: int) -> ByteArray:
    """Unpack the codes that `pack_nibbles` packed.

    Parameters
    ----------
    packed : numpy.ndarray, shape (n, ceil(m / 2)), uint8
    m : int
        Codes per row.

    Returns
    -------
    numpy.ndarray, shape (n, m), uint8
    """
    half = packed.shape[1]
    whole = np.asarray(packed, np.uint8)
    return np.concatenate([whole & 15, whole[:, : m - half] >> 4], axis=1)


def _closest_rotation(sample: FloatArray, quantized: FloatArray) -> FloatArray:
    """Return the rotation, (c, c), of the rows of `sample`, (n, c), that fits the columns of `quantized` best.

    With fewer rows than half the columns, only the space that `sample` and `quantized` span is rotated: all
    rotations of the rest fit equally well, and a decomposition of all columns takes time as c^3.
    """
    n, c = sample.shape
    if 2 * n < c:
        with one_blas_thread():
            span = np.linalg.qr(np.concatenate([sample.T, quantized], axis=1).astype(np.float64))[0]
            left, _, right = np.linalg.svd((span.T @ sample.T) @ (quantized.T @ span))
            return np.asarray(np.eye(c) + span @ (left @ right - np.eye(2 * n)) @ span.T, np.float32)

    def products(start: int, stop: int) -> DoubleArray:
        return sample[start:stop].astype(np.float64).T @ quantized[:, start:stop].T.astype(np.float64)

    total: DoubleArray = np.zeros((sample.shape[1], len(quantized)))
    for part in map_blocks(products, len(sample), BLOCK):
        total = total + part
    with one_blas_thread():
        left, _, right = np.linalg.svd(total)
    rotation: FloatArray = (left @ right).astype(np.float32)
    return rotation


def _balanced_axes(sample: FloatArray, bounds: list[tuple[int, int]]) -> FloatArray:
    """Return the principal axes of `sample`, (c, c), assigned to parts with balanced products of variances."""
    values, vectors = eigen(gram(sample, mean=sample.mean(axis=0, dtype=np.float64)))
    logs = np.log(np.maximum(values, values[0] * 1e-9 + 1e-300))
    room = [stop - start for start, stop in bounds]
    parts: list[list[int]] = [[] for _ in bounds]
    product = np.zeros(len(bounds))
    for axis, value in enumerate(logs - logs.min()):
        free = [m for m in range(len(bounds)) if len(parts[m]) < room[m]]
        m = min(free, key=lambda m: (product[m], room[m], m))  # on a tie the shorter part first
        parts[m].append(axis)
        product[m] += value
    return np.ascontiguousarray(vectors[:, [axis for part in parts for axis in part]], dtype=np.float32)
