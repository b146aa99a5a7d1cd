"""tensortrain: the table as a chain of small tensors (cores); the product of their slices is a row.

Row numbers are written in k digits i_1 ... i_k of radices I_1 ... I_k, and column numbers in digits j_1 ... j_k of
radices J_1 ... J_k (`radices`). The table is then a tensor with an axis for each pair, T[i_1 j_1, ..., i_k j_k]. In
the TT format (Oseledets 2011) it is approximated as

    T[i_1 j_1, ..., i_k j_k] = G_1[i_1, :, j_1, :] G_2[i_2, :, j_2, :] ... G_k[i_k, :, j_k, :],

a product of matrices: core G_m, (I_m, r_m, J_m, r_{m+1}), has a matrix (r_m, r_{m+1}) for each pair of digits, and
r_1 = r_{k+1} = 1.

- Encode (TT-SVD, Oseledets 2011, Algorithm 1): T is reshaped to a matrix with (i_1, j_1) as rows. Its first `rank`
  left singular vectors are G_1. The remaining factor, S V^T, is reshaped to a matrix with (r_2, i_2, j_2) as rows,
  and so on. The squared error is at most the sum of the squared singular values that all cuts drop. Singular vectors
  are computed from the smaller of the two Gram matrices.
- Decode: for rows that share their first digits, the product of the first cores is computed once (`_chain`). Then, if
  rows were ordered by `tree_order`, the columns are rotated back: ``x' = y A^T`` with the principal axes A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import (
    Codec,
    Codes,
    Context,
    State,
    check_range,
    expect_finite,
    expect_planned,
    param,
    resolved,
)
from embshrink.numerics.arrays import narrowest_uint, stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.numerics.parallel import blocks, one_blas_thread
from embshrink.numerics.progress import Progress
from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

RANK = 64
LEAF = 8
POWER_ROUNDS = 6
DECODED = 1 << 23  # numbers in the largest product that decoding computes at a time
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class TensorTrain(Codec):
    """Store the table as a tensor train: a chain of small cores.

    Row numbers are written as digits in mixed radix I_1 x ... x I_k, column
    numbers in J_1 x ... x J_k, the most significant digit first, as in
    numpy.reshape. Radices are as equal as possible; rows are padded with zeros,
    columns need no padding. Row i is the product of the slices ``core_1[i_1] .
    core_2[i_2] ...`` of shape (r, J, r'), with ranks r up to `rank`. At full rank
    nothing is lost. Use it to compare with the literature: without retraining it
    loses less than a low-rank approximation of the same size, and far more than
    `pq`.

    A tensor train finds structure only between rows with similar numbers.
    ``order=cluster`` therefore sorts rows by a tree that halves them along their
    principal axis again and again, and rotates columns to principal axes.
    ``order=frequency`` does neither and loses far more. The row map stores the
    order: one unsigned integer of the smallest sufficient size per word, which is
    a large part of a small file, or nothing extra if a row step needs a row map
    anyway.

    Notes
    -----
    TT-SVD: Oseledets, SIAM J. Sci. Comput. 33 (2011). For embeddings: Hrinchuk, Khrulkov et al., "Tensorized
    Embedding Layers" (EMNLP Findings 2020), trained from scratch; for language models: Grachev, Ignatov and
    Savchenko (2019). We deviate from both: nothing is trained, the cores are computed from the vectors by TT-SVD.
    """

    source: ClassVar[str] = "Oseledets 2011; Hrinchuk et al. 2020; Grachev et al. 2019 (tensor train)"

    rank: int | None = param(None, "maximum rank between two cores; 64 by default", low=1, high=4096)
    bits: float | None = param(None, "instead of rank: maximum bits per row, row map included", low=0.0)
    factors: int = param(3, "number of cores, which is the number of digits", low=2, high=6)
    order: str = param("cluster", "order of rows: similar rows together, or by frequency",
                       choices=("cluster", "frequency"))
    dtype: str = param("float16", "type of the stored numbers", choices=DTYPES)

    @property
    def reorders(self) -> bool:
        return self.order == "cluster"

    def resolve(self, n: int, d: int) -> TensorTrain:
        if self.bits is None:
            return self if self.rank else replace(self, rank=RANK)
        if self.rank is not None:
            raise StepError("tensortrain takes one of rank and bits, not both", hint="Give one of them.")
        rank = self._highest_rank(n, d, self.bits - 8 * narrowest_uint(n - 1).itemsize * self.reorders)
        if rank == 0:
            raise StepError("tensortrain needs more bits per row, even for rank 1", found=self.bits,
                            hint="Raise bits, put prune before it, or use more factors.")
        return replace(self, rank=rank, bits=None)

    def _highest_rank(self, n: int, d: int, bits: float) -> int:
        """Return the highest rank, at most 4096, whose cores take at most `bits` bits per row; 0 if none does."""
        size = 8 * np.dtype(self.dtype).itemsize
        low, high = 0, 4096
        while low < high:
            middle = (low + high + 1) // 2
            if size * sum(map(math.prod, core_shapes(n, d, self.factors, middle))) <= bits * n:
                low = middle
            else:
                high = middle - 1
        return low

    def with_bits(self, bits: float, c: int) -> TensorTrain:
        return replace(self, rank=None, bits=float(bits))

    def plan(self, n: int, c: int) -> Layout:
        plan: Layout = {"state.rotation": (np.dtype(np.float32), (c, c))} if self.order == "cluster" else {}
        for k, shape in enumerate(core_shapes(n, c, self.factors, resolved(self.rank))):
            plan[f"codes.core{k}"] = (np.dtype(self.dtype), shape)
        return plan

    def arrange(self, matrix: Matrix, context: Context) -> IntArray:
        if self.order != "cluster":
            return context.by_frequency()
        n, c = matrix.shape
        rows, _ = radices(n, c, self.factors)
        return tree_order(np.asarray(matrix, np.float32), rows, context.progress)

    def fit(self, matrix: Matrix, context: Context) -> State:
        if self.order != "cluster":
            return {}
        _, axes = eigen(gram(matrix))
        return {"rotation": np.ascontiguousarray(axes.T, dtype=np.float32)}

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        codes: dict[str, AnyArray] = {}
        for k, core in enumerate(decompose(self._tensor(matrix, state), resolved(self.rank))):
            check_range(float(np.abs(core).max()), self.dtype)
            codes[f"core{k}"] = np.ascontiguousarray(core.swapaxes(0, 1), dtype=self.dtype)
            context.progress("encoding", k + 1, self.factors)
        return codes

    def _tensor(self, matrix: Matrix, state: State) -> FloatArray:
        """Return the rotated and padded table as a tensor with an axis for each digit: I_1, J_1, I_2, J_2 ..."""
        n, c = matrix.shape
        rows, columns = radices(n, c, self.factors)
        tensor = np.zeros([radix for pair in zip(rows, columns) for radix in pair], np.float32)
        by_row = tensor.transpose([*range(0, tensor.ndim, 2), *range(1, tensor.ndim, 2)])
        axes = np.asarray(state["rotation"], np.float32).T if state else None
        stride = math.prod(rows[1:])
        for digit in range(rows[0]):
            part = np.zeros((stride, c), np.float32)
            block = np.asarray(matrix[digit * stride : (digit + 1) * stride], np.float32)
            part[: len(block)] = block if axes is None else project(block, axes)
            by_row[digit] = part.reshape(*rows[1:], *columns)
        return tensor

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        rows = np.asarray(rows, np.int64)
        cores = [np.asarray(codes[f"core{k}"]) for k in range(self.factors)]
        columns = np.cumprod([core.shape[2] for core in cores]).tolist()
        vectors = np.empty((len(rows), columns[-1]), np.float32)
        widest = max(j * core.shape[3] for j, core in zip(columns, cores))
        for start, stop in blocks(len(rows), max(1, DECODED // widest)):
            vectors[start:stop] = _chain(cores, rows[start:stop])[:, :, 0]
        return stable_product(vectors, np.asarray(state["rotation"], np.float32)) if state else vectors

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.rank is None:
            raise FormatError("the header's tensortrain step lacks its rank")
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes: Codes, state: State) -> None:
        for name, core in codes.items():
            expect_finite(f"codes.{name}", np.asarray(core))


def radices(n: int, d: int, factors: int) -> tuple[list[int], list[int]]:
    """Return the radices of row and column numbers, as equal as possible.

    Parameters
    ----------
    n, d : int
        Rows and columns of the table.
    factors : int
        Number of digits.

    Returns
    -------
    rows : list of int
        Their product is n or slightly more.
    columns : list of int
        Ascending; their product is d.
    """
    rows, columns, above, left = [], [], max(n, 1), d
    for digits in range(factors, 0, -1):
        radix = round(above ** (1 / digits))
        radix += radix**digits < above
        rows.append(radix)
        above = -(-above // radix)
        columns.append(max(j for j in range(1, left + 1) if left % j == 0 and (j**digits <= left or digits == 1)))
        left //= columns[-1]
    return rows, sorted(columns)


def core_shapes(n: int, d: int, factors: int, rank: int) -> list[tuple[int, int, int, int]]:
    """Return the shape of each core as it is stored: (I, r, J, r').

    Parameters
    ----------
    n, d : int
        Rows and columns of the table.
    factors : int
        Number of cores.
    rank : int
        Maximum of r. At some cuts r is smaller, because full rank is: the product of I J over the cores on one side.
    """
    rows, columns = radices(n, d, factors)
    sizes = [i * j for i, j in zip(rows, columns)]
    ranks = [min(rank, math.prod(sizes[:k]), math.prod(sizes[k:])) for k in range(factors + 1)]
    return [(i, ranks[k], j, ranks[k + 1]) for k, (i, j) in enumerate(zip(rows, columns))]


def decompose(tensor: FloatArray, rank: int) -> list[FloatArray]:
    """Decompose a tensor into a train of cores (TT-SVD).

    Parameters
    ----------
    tensor : numpy.ndarray, shape (I_1, J_1, I_2, J_2, ...), float32
        Contiguous; element i_1 j_1 i_2 j_2 ... belongs to the row and the column with these digits.
    rank : int
        Maximum rank between two cores.

    Returns
    -------
    list of numpy.ndarray, shape (r, I, J, r'), float32
        The first r and the last r' are 1. The squared error is at most the sum of the squared singular values that
        all cuts drop.
    """
    cores: list[FloatArray] = []
    left, r = tensor, 1
    pairs = list(zip(tensor.shape[::2], tensor.shape[1::2]))
    del tensor  # as large as the table, and not needed after the first cut
    with one_blas_thread():
        for i, j in pairs[:-1]:
            left = left.reshape(r * i * j, -1)
            kept = min(rank, *left.shape)
            if left.shape[0] <= left.shape[1]:
                axes = eigen(gram(left.T))[1][:, :kept].astype(np.float32)
                left = axes.T @ left
            else:
                across = eigen(gram(left))[1][:, :kept].astype(np.float32)
                axes, rest = np.linalg.qr(left @ across)
                left = rest @ across.T
            cores.append(axes.reshape(r, i, j, kept))
            r = kept
    return [*cores, left.reshape(r, *pairs[-1], 1)]


def tree_order(matrix: FloatArray, rows: list[int], progress: Progress) -> IntArray:
    """Return an order of rows that puts similar rows next to each other.

    Rows are sorted along their principal axis (found by power iteration) and halved, and each half is treated the
    same way, down to 8 rows. A half begins at a multiple of the number of rows that share their first digits, so the
    branches of the tree agree with the digits.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n, d), float32
    rows : list of int
        Radices of row numbers.
    progress : callable

    Returns
    -------
    numpy.ndarray, shape (n,), int64
    """
    n = len(matrix)
    strides = [math.prod(rows[k:]) for k in range(1, len(rows))]
    order, parts = np.arange(n), [(0, n)]
    with one_blas_thread():
        while parts:
            start, stop = parts.pop()
            size = stop - start
            if size <= LEAF:
                progress("ordering", stop, n)
                continue
            members = order[start:stop]
            points = matrix[members] if size < n else matrix
            order[start:stop] = members[np.argsort(points @ _principal_axis(points), kind="stable")]
            stride = next((stride for stride in strides if stride < size), 1)
            half = max(1, round(size / 2 / stride)) * stride
            half = half if half < size else size // 2
            parts += [(start + half, stop), (start, start + half)]
    return order


def _principal_axis(points: FloatArray) -> FloatArray:
    """Approximate the first principal axis by power iteration, starting at the point farthest from the mean."""
    mean: FloatArray = points.mean(axis=0)
    axis: FloatArray = points[np.argmax(np.einsum("ij,ij->i", points, points) - 2 * (points @ mean))] - mean
    for _ in range(POWER_ROUNDS):
        length = np.sqrt(axis @ axis)
        if length == 0:
            break
        along: FloatArray = points @ (axis / length)
        axis = (along - along.mean()) @ points
    return axis


def _chain(cores: list[AnyArray], rows: IntArray) -> FloatArray:
    """Return rows of the product of these cores, (k, J_1 ... J_m, r) float32.

    Rows that share all digits but the last share the product of the previous cores. Every product has the same
    shape for any number of rows, so the bits of a row do not depend on the other rows.
    """
    core = cores[-1]
    radix, r, j, after = core.shape
    if len(cores) == 1:
        return core[rows].astype(np.float32).reshape(len(rows), j, after)
    parents, parent = np.unique(rows // radix, return_inverse=True)
    before = _chain(cores[:-1], parents)
    product = np.empty((len(rows), before.shape[1], j * after), np.float32)
    digits = rows % radix
    for digit in np.unique(digits).tolist():
        mine = np.flatnonzero(digits == digit)
        product[mine] = np.matmul(before[parent[mine]], core[digit].astype(np.float32).reshape(r, j * after))
    return product.reshape(len(rows), -1, after)
