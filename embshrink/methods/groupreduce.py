"""groupreduce: low-rank approximation per block of words, with higher ranks for frequent words.

The notation is that of Chen, Si, Li, Chelba and Hsieh (NeurIPS 2018, section 3). Rows are sorted by frequency and cut
into blocks of equal size. Block p, of n_p rows X_p with frequencies q, is approximated as U_p V_p^T, where

- V_p, (c, r_p), the *axes*, are the first eigenvectors of ``sum_i q_i x_i x_i^T`` over the rows of the block: they
  minimize ``sum_i q_i |x_i - x_i V V^T|^2``.
- U_p = X_p pinv(V_p)^T, (n_p, r_p), the *factors*, computed for V_p as it is stored (rounded).
- r_p = round(s f_p^alpha), clipped to min_rank .. c, where f_p is the mean frequency of the block, and s is the
  largest value for which the numbers of all blocks, n_p r_p + c r_p each, are at most `keep` n c in total. If a block
  would take n_p c numbers or more, it is *dense*: r_p = c, there are no axes, and the factors are the rows.

`refine` (Algorithm 1): a row x moves to the block of least residual |x|^2 - |x V_p|^2, and the axes are fitted again.
Then ``state.block`` stores the block of each row, and ``state.before`` counts the rows of each block before every
256th row, so that the position of a row in its block is found without reading all of ``state.block``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import (
    Codec,
    Codes,
    Context,
    State,
    check_range,
    expect,
    expect_finite,
    param,
    resolved,
)
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.numerics.parallel import BLOCK_ROWS, map_blocks, one_blas_thread
from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

KEEP = 0.25
BLOCKS = 10
MOVED_SHARE = 0.1
ROWS_PER_COUNT = 256
DTYPES: dict[str, np.dtype[np.generic]] = {
    "float16": np.dtype(np.float16), "float32": np.dtype(np.float32), "int8": np.dtype(np.uint8),
}


@dataclass(frozen=True)
class GroupReduce(Codec):
    """Low-rank approximation by word blocks; frequent words get higher rank.

    Words are sorted by frequency and cut into blocks of equal size. A block of n_p
    rows is stored as n_p x r_p coordinates on r_p axes, which have the least
    squared error weighted by frequency. The rank r_p grows with the mean frequency
    f_p of the block as f_p ** `alpha`; all blocks together stay within `keep`. A
    block whose coordinates and axes would take as much space as its vectors is
    stored unchanged. Use it if a program mostly looks up frequent words;
    averaged over all words, `pq` and `ecq` lose far less.

    `refine` moves words to the block whose axes fit them best, in each round a
    tenth of those that would have a smaller error, and fits the axes again. The block number of
    each word is then stored (about 9 bits per word). The gain is small.

    With ``dtype=int8`` each column of coordinates and each axis is stored as 256
    evenly spaced values between its minimum and maximum. This is the paper's
    combination with quantization, four times smaller than float32.

    The size depends on the frequencies, so a plan is an upper bound. Rows are
    stored in order of frequency; if the words are in another order (after
    `kmeans`), the row map stores the order.

    Notes
    -----
    Chen, Si, Li, Chelba and Hsieh, "GroupReduce: Block-Wise Low-Rank Approximation for Neural
    Language Model Shrinking" (NeurIPS 2018). Their ranks are those of ``alpha=1``, which suits the frequencies of a
    text. We deviate in the default: for word similarity, rare words included, 0.25 to 0.5 is better.
    """

    source: ClassVar[str] = "Chen et al. 2018 (GroupReduce)"
    weighs: ClassVar[bool] = True

    keep: float | None = param(None, "share of the numbers to store, axes included; 0.25 by default", low=0.0,
                               high=1.0)
    blocks: int | None = param(None, "number of blocks; 10, or fewer for small tables, by default", low=1, high=256)
    alpha: float = param(0.5, "exponent of frequency in the ranks: 0 equal ranks, 1 proportional", low=0.0, high=4.0)
    min_rank: int = param(1, "minimum rank of a block", low=1, high=65_536)
    refine: int = param(0, "rounds in which words may change blocks", low=0, high=1000)
    dtype: str = param("float16", "type of the stored numbers", choices=tuple(DTYPES))

    def resolve(self, n: int, d: int) -> GroupReduce:
        blocks = min(n, BLOCKS if self.blocks is None else self.blocks)
        if self.blocks is None:
            blocks = max(1, min(blocks, n // (8 * d)))
        sizes = _even_sizes(n, blocks)
        numbers = _parameters(sizes, _dense_where_cheaper(np.full(blocks, self.min_rank), sizes, d), d)
        least = math.nextafter(numbers / (n * d), 2.0) if numbers < n * d else 1.0
        keep = max(KEEP, least) if self.keep is None else self.keep
        if keep < least:
            raise StepError("keep is too small for groupreduce on this table", expected=f"keep >= {least:.4g}",
                            found=keep, hint="Raise keep, or use fewer blocks or a smaller min_rank.")
        return replace(self, keep=keep, blocks=blocks)

    def with_bits(self, bits: float, c: int) -> GroupReduce:
        if self.refine:
            bits -= 8 + 32 * (self.blocks or BLOCKS) / ROWS_PER_COUNT
        return replace(self, keep=min(1.0, max(0.0, bits / (8 * DTYPES[self.dtype].itemsize * c))))

    def _budget(self, numbers: int) -> int:
        """Return how many numbers may be stored for a table of `numbers` numbers."""
        return int(resolved(self.keep) * numbers)

    def plan(self, n: int, c: int) -> Layout:
        blocks, budget = resolved(self.blocks), self._budget(n * c)
        axes = min(blocks * c, budget // max(1, n // blocks))
        plan: Layout = {"state.blocks": (np.dtype(np.uint32), (blocks, 2)),
                        "state.axes": (DTYPES[self.dtype], (axes, c)),
                        "codes.factors": (DTYPES[self.dtype], (budget,))}
        if self.dtype == "int8":
            plan["state.axis_levels"] = plan["codes.levels"] = (np.dtype(np.float32), (axes, 2))
        if self.refine:
            plan["state.block"] = (np.dtype(np.uint8), (n,))
            plan["state.before"] = (np.dtype(np.uint32), (-(-n // ROWS_PER_COUNT), blocks))
        return plan

    def arrange(self, matrix: Matrix, context: Context) -> IntArray:
        return context.by_frequency()

    def fit(self, matrix: Matrix, context: Context) -> State:
        vectors, blocks = np.asarray(matrix, np.float32), resolved(self.blocks)
        n, c = vectors.shape
        sizes = _even_sizes(n, blocks)
        block = np.repeat(np.arange(blocks), sizes)
        ranks = self._ranks(np.bincount(block, context.weights) / sizes, sizes, c)

        def axes_of(p: int) -> FloatArray:
            axes = _principal_axes(vectors, context.weights, np.flatnonzero(block == p), int(ranks[p]))
            context.progress("fitting groupreduce", p + 1, blocks)
            return axes

        axes = {p: axes_of(p) for p in np.flatnonzero(ranks < c).tolist()}
        for _ in range(self.refine):
            changed = self._move(vectors, block, ranks, axes)
            if not changed:
                break
            axes.update({p: axes_of(p) for p in changed if p in axes})
        return self._state(block, ranks, np.concatenate([np.zeros((0, c), np.float32), *axes.values()]))

    def _state(self, block: IntArray, ranks: IntArray, axes: FloatArray) -> State:
        """Return the state, given the block of each row, the rank of each block, and the axes of all blocks."""
        sizes = np.bincount(block, minlength=len(ranks))
        stored, levels = self._store(axes.T)
        state: dict[str, AnyArray] = {"blocks": np.stack([sizes, ranks], axis=1).astype(np.uint32),
                                      "axes": np.ascontiguousarray(stored.T)}
        if levels is not None:
            state["axis_levels"] = levels
        if self.refine:
            state["block"] = block.astype(np.uint8)
            state["before"] = _counts_before(block, len(ranks))
        return state

    def _ranks(self, frequency: DoubleArray, sizes: IntArray, c: int) -> IntArray:
        """Return the highest ranks in proportion to f_p ** alpha that the budget allows; c for a dense block."""
        budget = self._budget(int(sizes.sum() * c))
        frequency = np.maximum(frequency, frequency[frequency > 0].min())
        ratio = (frequency / frequency.min()) ** self.alpha

        def ranks_at(scale: float) -> IntArray:
            ranks = np.clip(np.floor(scale * ratio + 0.5), self.min_rank, c).astype(np.int64)
            return _dense_where_cheaper(ranks, sizes, c)

        scales = np.unique((np.arange(c)[:, None] + 0.5) / ratio * (1 + 1e-12))  # where a rank increases
        low, high = 0, len(scales)
        while low < high:
            middle = (low + high) // 2
            if _parameters(sizes, ranks_at(scales[middle]), c) <= budget:
                low = middle + 1
            else:
                high = middle
        return ranks_at(scales[low - 1] if low else 0)

    def _move(self, matrix: FloatArray, block: IntArray, ranks: IntArray, axes: dict[int, FloatArray]) -> list[int]:
        """Move words to blocks of smaller residual (Algorithm 1); return the blocks that changed."""
        own, best, error = _best_blocks(matrix, block, axes, len(ranks))
        movable = np.flatnonzero(error < own)
        movable = movable[np.argsort(error[movable], kind="stable")][: math.ceil(MOVED_SHARE * len(movable))]
        sizes = np.bincount(block, minlength=len(ranks))
        spare = self._budget(matrix.size) - _parameters(sizes, ranks, matrix.shape[1])
        changed: set[int] = set()
        for row in movable.tolist():
            donor, target = int(block[row]), int(best[row])
            extra = int(ranks[target] - ranks[donor])
            if extra <= spare and sizes[donor] > ranks[donor]:
                block[row] = target
                sizes[donor] -= 1
                sizes[target] += 1
                spare -= extra
                changed |= {donor, target}
        return sorted(changed)

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        vectors, block = np.asarray(matrix, np.float32), state.get("block")
        blocks = _Blocks.of(state)
        factors, levels, start = [], [], 0
        for p, size in enumerate(blocks.sizes.tolist()):
            rows = vectors[start : start + size] if block is None else vectors[block == p]
            axes = self._axes(state, blocks, p)
            # Least squares on the axes as stored: after rounding they are not quite orthogonal.
            factor, level = self._store(rows if axes is None else project(rows, _inverse(axes)))
            factors.append(factor.ravel())
            if level is not None:
                levels.append(level)
            start += size
            context.progress("encoding", p + 1, len(blocks.sizes))
        codes = {"factors": np.concatenate(factors)}
        return {**codes, "levels": np.concatenate(levels)} if self.dtype == "int8" else codes

    def _store(self, columns: FloatArray) -> tuple[AnyArray, FloatArray | None]:
        """Return columns as they are stored and, for ``int8``, (minimum, step) of each column."""
        if self.dtype == "int8":
            low, high = columns.min(axis=0), columns.max(axis=0)
            step = ((high.astype(np.float64) - low) / 255).astype(np.float32)
            codes = np.rint((columns - low) / np.where(step > 0, step, 1))
            return codes.clip(0, 255).astype(np.uint8), np.stack([low, step], axis=1)
        check_range(float(np.abs(columns).max(initial=0)), self.dtype)
        return columns.astype(self.dtype), None

    def _axes(self, state: State, blocks: _Blocks, p: int) -> FloatArray | None:
        """Return the axes of block p, (rank, c) float32, or None if it is dense."""
        part = blocks.axes(p)
        if part is None:
            return None
        levels = state["axis_levels"][part] if self.dtype == "int8" else None
        return _values(state["axes"][part].T, levels).T

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        rows, blocks = np.asarray(rows, np.int64), _Blocks.of(state)
        if self.refine:
            own = state["block"][rows].astype(np.int64)
            place = _places(state, rows, own)
        else:
            stops = np.cumsum(blocks.sizes)
            own = np.searchsorted(stops, rows, side="right")
            place = rows - (stops - blocks.sizes)[own]
        numbers = blocks.sizes * blocks.ranks
        first_factors, first_levels = np.cumsum(numbers) - numbers, np.cumsum(blocks.ranks) - blocks.ranks
        decoded = np.empty((len(rows), blocks.c), np.float32)
        for p in np.unique(own).tolist():
            mine, rank = own == p, int(blocks.ranks[p])
            where = first_factors[p] + place[mine, None] * rank + np.arange(rank)
            first = int(first_levels[p])
            levels = codes["levels"][first : first + rank] if self.dtype == "int8" else None
            factor = _values(codes["factors"][where], levels)
            axes = self._axes(state, blocks, p)
            decoded[mine] = factor if axes is None else stable_product(factor, np.ascontiguousarray(axes))
        return decoded

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.blocks is None or self.keep is None:
            raise FormatError("the header's groupreduce step lacks blocks or keep")
        expect("state.blocks", state.get("blocks"), np.uint32, (self.blocks, 2))
        sizes, ranks = np.asarray(state["blocks"], np.int64).T
        if sizes.sum() != n or not ((ranks >= 1) & (ranks <= c)).all():
            raise FormatError("state.blocks does not match the rows", expected=f"{n} rows, ranks 1 to {c}",
                              found=state["blocks"][:5].tolist())
        axes = int(ranks[ranks < c].sum())
        expected: Layout = {"axes": (DTYPES[self.dtype], (axes, c))}
        if self.dtype == "int8":
            expected["axis_levels"] = (np.dtype(np.float32), (axes, 2))
            expect("codes.levels", codes.get("levels"), np.float32, (int(ranks.sum()), 2))
        if self.refine:
            expected["block"] = (np.dtype(np.uint8), (n,))
            expected["before"] = (np.dtype(np.uint32), (-(-n // ROWS_PER_COUNT), self.blocks))
        for name, (dtype, shape) in expected.items():
            expect(f"state.{name}", state.get(name), dtype, shape)
            expect_finite(f"state.{name}", state[name])
        expect("codes.factors", codes.get("factors"), DTYPES[self.dtype], (int((sizes * ranks).sum()),))
        if self.refine:
            block = np.asarray(state["block"], np.int64)
            if not (np.array_equal(np.bincount(block, minlength=self.blocks), sizes)
                    and np.array_equal(_counts_before(block, self.blocks), state["before"])):
                raise FormatError("state.block does not match state.blocks and state.before")

    def check_codes(self, codes: Codes, state: State) -> None:
        expect_finite("codes.factors", np.asarray(codes["factors"]))
        if self.dtype == "int8":
            expect_finite("codes.levels", np.asarray(codes["levels"]))


class _Blocks(NamedTuple):
    """The blocks of a file: the rows and rank of each, (blocks,) int64, and the columns of the table."""

    sizes: IntArray
    ranks: IntArray
    c: int

    @classmethod
    def of(cls, state: State) -> _Blocks:
        """Return the blocks of a state."""
        sizes, ranks = state["blocks"].astype(np.int64).T
        return cls(sizes, ranks, state["axes"].shape[1])

    def axes(self, p: int) -> slice | None:
        """Return the slice of ``state.axes`` that belongs to block p, or None if it is dense."""
        if self.ranks[p] == self.c:
            return None
        before = self.ranks[:p]
        start = int(before[before < self.c].sum())
        return slice(start, start + int(self.ranks[p]))


def _even_sizes(n: int, blocks: int) -> IntArray:
    """Return the sizes of `blocks` blocks of n rows: they differ by at most one, larger ones first."""
    return n // blocks + (np.arange(blocks) < n % blocks)


def _dense_where_cheaper(ranks: IntArray, sizes: IntArray, c: int) -> IntArray:
    """Return the ranks, with c for blocks whose coordinates and axes would take as much as their vectors."""
    return np.where(ranks * (sizes + c) >= sizes * c, c, ranks)


def _parameters(sizes: IntArray, ranks: IntArray, c: int) -> int:
    """Return the count of numbers in blocks of these sizes and ranks; a block of rank c has no axes."""
    return int((ranks * (sizes + np.where(ranks < c, c, 0))).sum())


def _principal_axes(matrix: FloatArray, weights: DoubleArray, rows: IntArray, rank: int) -> FloatArray:
    """Return the axes, (rank, c) float32, of least weighted squared error for some rows of a matrix."""
    _, axes = eigen(gram(matrix[rows], weights[rows]))
    return axes[:, :rank].T.astype(np.float32)


def _best_blocks(
    matrix: FloatArray, block: IntArray, axes: dict[int, FloatArray], blocks: int
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return, for each row, the squared error in its block, the block of least error, and this error."""
    n = len(matrix)
    own, error = np.zeros(n, np.float32), np.full(n, np.inf, np.float32)
    best = np.zeros(n, np.int64)

    def compare(start: int, stop: int) -> None:
        part = matrix[start:stop]
        squares = np.einsum("ij,ij->i", part, part)
        for p in range(blocks):
            left = np.zeros_like(squares)  # a dense block has no error
            if p in axes:
                along = part @ axes[p].T
                left = squares - np.einsum("ij,ij->i", along, along)
            mine = block[start:stop] == p
            own[start:stop][mine] = left[mine]
            less = left < error[start:stop]
            error[start:stop][less] = left[less]
            best[start:stop][less] = p

    map_blocks(compare, n, BLOCK_ROWS)
    return own, best, error


def _counts_before(block: IntArray, blocks: int) -> AnyArray:
    """Count the rows of each block before every 256th row, (n / 256, blocks) uint32."""
    groups = -(-len(block) // ROWS_PER_COUNT)
    cells = np.arange(len(block)) // ROWS_PER_COUNT * blocks + block
    counts = np.bincount(cells, minlength=groups * blocks).reshape(groups, blocks)
    return (np.cumsum(counts, axis=0) - counts).astype(np.uint32)


def _places(state: State, rows: IntArray, own: IntArray) -> IntArray:
    """Count the rows of the same block before each of `rows`."""
    group = rows // ROWS_PER_COUNT
    members = group[:, None] * ROWS_PER_COUNT + np.arange(ROWS_PER_COUNT)
    same = state["block"][np.minimum(members, len(state["block"]) - 1)] == own[:, None]
    in_group: IntArray = (same & (members < rows[:, None])).sum(axis=1)
    return state["before"][group, own].astype(np.int64) + in_group


def _inverse(axes: FloatArray) -> FloatArray:
    """Return the (c, rank) matrix that maps vectors to least-squares coordinates on axes (rank, c)."""
    with one_blas_thread():
        inverse: FloatArray = np.linalg.pinv(axes.astype(np.float64)).astype(np.float32)
    return inverse


def _values(stored: AnyArray, levels: AnyArray | None) -> FloatArray:
    """Undo `GroupReduce._store`: return columns as float32; `levels` are (minimum, step) for ``int8``."""
    values = stored.astype(np.float32)
    if levels is None:
        return values
    floats: FloatArray = np.asarray(levels, np.float32)
    return floats[:, 0] + floats[:, 1] * values
