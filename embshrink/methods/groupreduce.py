"""groupreduce: a low rank of its own for each block of words, higher for frequent words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, ShapeError, StepError
from embshrink.methods.base import Codec, expect, expect_finite, param
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.numerics.parallel import map_blocks, one_blas_thread

KEEP = 0.25
BLOCKS = 10
MOVED_SHARE = 0.1
ROWS = 16_384
ROWS_PER_COUNT = 256
DTYPES = {"float16": np.dtype(np.float16), "float32": np.dtype(np.float32), "int8": np.dtype(np.uint8)}


@dataclass(frozen=True)
class GroupReduce(Codec):
    """Cut words, sorted by frequency, into even blocks and give each block axes of its own.

    A block of n_p rows is stored as n_p x r_p coordinates on r_p axes: those that leave the
    least squared error weighted by frequency. Ranks grow with a block's mean frequency f_p as f_p ** `alpha`,
    as far as `keep` allows, which is never exceeded. Where coordinates and axes would take as
    much as the vectors, the block is stored as it is.

    `refine` moves words to the block whose axes fit them best, a tenth of those that would gain in each
    round, and fits the axes anew; then a block number is stored for each word (9 bits or so). It gains little.

    With ``dtype="int8"`` each column of coordinates and each axis is stored in 256 even levels between its least
    and largest value: the paper's combination with quantization, four times smaller than float32.

    The size depends on the frequencies, so a plan is an upper bound. Rows are stored in order of frequency; where
    they are not in it already (after `kmeans`), the row map holds it.

    Notes
    -----
    Chen, Si, Li, Chelba and Hsieh, "GroupReduce: Block-Wise Low-Rank Approximation for Neural
    Language Model Shrinking" (NeurIPS 2018), whose ranks are those of ``alpha=1``. That suits
    frequencies of a text; for similarity of words, rare ones among them, 0.25 to 0.5 is better.
    """

    source: ClassVar[str] = "Chen et al. 2018 (GroupReduce)"
    weighs: ClassVar[bool] = True

    keep: float | None = param(None, "share of the numbers to store, axes included; 0.25 by default", low=0.0,
                               high=1.0)
    blocks: int | None = param(None, "blocks of words; 10, or fewer for small tables, by default", low=1, high=256)
    alpha: float = param(0.5, "how ranks grow with frequency: 0 alike, 1 in proportion", low=0.0, high=4.0)
    min_rank: int = param(1, "the least rank of a block", low=1, high=65_536)
    refine: int = param(0, "rounds in which words may change blocks", low=0, high=1000)
    dtype: str = param("float16", "type of the stored numbers", choices=tuple(DTYPES))

    def resolve(self, n, d):
        blocks = min(n, BLOCKS if self.blocks is None else self.blocks)
        if self.blocks is None:
            blocks = max(1, min(blocks, n // (8 * d)))
        sizes = _even_sizes(n, blocks)
        least = _parameters(sizes, _dense_where_cheaper(np.full(blocks, self.min_rank), sizes, d), d)
        least = math.nextafter(least / (n * d), 2.0) if least < n * d else 1.0
        keep = max(KEEP, least) if self.keep is None else self.keep
        if keep < least:
            raise StepError("groupreduce cannot keep so little of this table", expected=f"keep >= {least:.4g}",
                            found=keep, hint="Use fewer blocks, or a smaller min_rank.")
        return replace(self, keep=keep, blocks=blocks)

    def with_bits(self, bits, c):
        if self.refine:
            bits -= 8 + 32 * (self.blocks or BLOCKS) / ROWS_PER_COUNT
        return replace(self, keep=min(1.0, max(0.0, bits / (8 * DTYPES[self.dtype].itemsize * c))))

    def plan(self, n, c):
        budget = int(self.keep * (n * c))
        axes = min(self.blocks * c, budget // max(1, n // self.blocks))
        plan = {"state.blocks": (np.dtype(np.uint32), (self.blocks, 2)),
                "state.axes": (DTYPES[self.dtype], (axes, c)),
                "codes.factors": (DTYPES[self.dtype], (budget,))}
        if self.dtype == "int8":
            plan["state.axis_levels"] = plan["codes.levels"] = (np.dtype(np.float32), (axes, 2))
        if self.refine:
            plan["state.block"] = (np.dtype(np.uint8), (n,))
            plan["state.before"] = (np.dtype(np.uint32), (-(-n // ROWS_PER_COUNT), self.blocks))
        return plan

    def arrange(self, matrix, context):
        frequency = context.weights if context.leading is None else context.leading
        return np.argsort(-frequency, kind="stable")

    def fit(self, matrix, context):
        n, c = matrix.shape
        sizes = _even_sizes(n, self.blocks)
        block = np.repeat(np.arange(self.blocks), sizes)
        ranks = self._ranks(np.bincount(block, context.weights) / sizes, sizes, c)

        def axes_of(p):
            rows = np.flatnonzero(block == p)
            _, axes = eigen(gram(matrix[rows], context.weights[rows]))
            context.progress("fitting groupreduce", p + 1, self.blocks)
            return axes[:, : ranks[p]].T.astype(np.float32)

        axes = {p: axes_of(p) for p in np.flatnonzero(ranks < c).tolist()}
        for _ in range(self.refine):
            changed = self._move(matrix, block, ranks, axes)
            if not changed:
                break
            axes.update({p: axes_of(p) for p in changed if p in axes})
        sizes = np.bincount(block, minlength=self.blocks)
        stored, levels = self._store(np.concatenate([np.zeros((0, c), np.float32), *axes.values()]).T)
        state = {"blocks": np.stack([sizes, ranks], axis=1).astype(np.uint32), "axes": np.ascontiguousarray(stored.T)}
        if self.dtype == "int8":
            state["axis_levels"] = levels
        if self.refine:
            state["block"] = block.astype(np.uint8)
            state["before"] = _counts_before(block, self.blocks)
        return state

    def _ranks(self, frequency, sizes, c):
        """Return the highest ranks in the wanted proportion that the budget allows; c where a block is dense."""
        budget = int(self.keep * (sizes.sum() * c))
        frequency = np.maximum(frequency, frequency[frequency > 0].min())
        ratio = (frequency / frequency.min()) ** self.alpha

        def ranks_at(scale):
            ranks = np.clip(np.floor(scale * ratio + 0.5), self.min_rank, c).astype(np.int64)
            return _dense_where_cheaper(ranks, sizes, c)

        scales = np.unique((np.arange(c)[:, None] + 0.5) / ratio * (1 + 1e-12))  # where a rank goes up
        low, high = 0, len(scales)
        while low < high:
            middle = (low + high) // 2
            if _parameters(sizes, ranks_at(scales[middle]), c) <= budget:
                low = middle + 1
            else:
                high = middle
        return ranks_at(scales[low - 1] if low else 0)

    def _move(self, matrix, block, ranks, axes):
        """Move words to blocks whose axes leave less of them (Algorithm 1); return the blocks that changed."""
        own, best, error = _best_blocks(matrix, block, axes, self.blocks)
        movable = np.flatnonzero(error < own)
        movable = movable[np.argsort(error[movable], kind="stable")][: math.ceil(MOVED_SHARE * len(movable))]
        sizes = np.bincount(block, minlength=self.blocks)
        spare = int(self.keep * matrix.size) - _parameters(sizes, ranks, matrix.shape[1])
        changed = set()
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

    def encode(self, matrix, state, context):
        block = state.get("block")
        factors, levels, start = [], [], 0
        for p, size in enumerate(state["blocks"][:, 0].tolist()):
            rows = slice(start, start + size) if block is None else np.flatnonzero(block == p)
            axes = self._axes(state, p)
            # the best coordinates on the axes as they are stored, which are no longer quite orthogonal
            factor = matrix[rows] if axes is None else project(matrix[rows], _inverse(axes))
            factor, level = self._store(factor)
            factors.append(factor.ravel())
            levels.append(level)
            start += size
            context.progress("encoding", p + 1, self.blocks)
        codes = {"factors": np.concatenate(factors)}
        return {**codes, "levels": np.concatenate(levels)} if self.dtype == "int8" else codes

    def _store(self, columns):
        """Return columns of numbers as they are stored, and with ``int8`` (least value, step) of each."""
        if self.dtype == "int8":
            low, high = columns.min(axis=0), columns.max(axis=0)
            step = ((high.astype(np.float64) - low) / 255).astype(np.float32)
            codes = np.rint((columns - low) / np.where(step > 0, step, 1))
            return codes.clip(0, 255).astype(np.uint8), np.stack([low, step], axis=1)
        limit = float(np.finfo(self.dtype).max)
        if np.abs(columns).max(initial=0) > limit:
            raise ShapeError("a value is too large for float16", expected=f"<= {limit:g}",
                             found=float(np.abs(columns).max()), hint="Use dtype=float32.")
        return columns.astype(self.dtype), None

    def _axes(self, state, p):
        """Return a block's axes, (rank, c) float32, or None where it is dense."""
        ranks, c = state["blocks"][:, 1].astype(np.int64), state["axes"].shape[1]
        if ranks[p] == c:
            return None
        start = int(ranks[:p][ranks[:p] < c].sum())
        part = slice(start, start + int(ranks[p]))
        return _values(state["axes"][part].T, state["axis_levels"][part] if self.dtype == "int8" else None).T

    def decode(self, codes, state, rows):
        rows = np.asarray(rows, np.int64)
        sizes, ranks = state["blocks"].astype(np.int64).T
        if self.refine:
            own = state["block"][rows].astype(np.int64)
            place = _places(state, rows, own)
        else:
            stops = np.cumsum(sizes)
            own = np.searchsorted(stops, rows, side="right")
            place = rows - (stops - sizes)[own]
        firsts, levels = np.cumsum(sizes * ranks) - sizes * ranks, np.cumsum(ranks) - ranks
        decoded = np.empty((len(rows), state["axes"].shape[1]), np.float32)
        for p in np.unique(own):
            mine = own == p
            where = firsts[p] + place[mine, None] * ranks[p] + np.arange(ranks[p])
            level = codes["levels"][levels[p] : levels[p] + ranks[p]] if self.dtype == "int8" else None
            factor = _values(codes["factors"][where], level)
            axes = self._axes(state, p)
            decoded[mine] = factor if axes is None else stable_product(factor, np.ascontiguousarray(axes))
        return decoded

    def check(self, codes, state, n, c):
        if self.blocks is None or self.keep is None:
            raise FormatError("groupreduce does not say how many blocks there are")
        expect("state.blocks", state.get("blocks"), np.uint32, (self.blocks, 2))
        sizes, ranks = state["blocks"].astype(np.int64).T
        if sizes.sum() != n or not ((ranks >= 1) & (ranks <= c)).all():
            raise FormatError("state.blocks does not fit the rows", expected=f"{n} rows, ranks 1 to {c}",
                              found=state["blocks"][:5].tolist())
        axes = int(ranks[ranks < c].sum())
        expected = {"axes": (DTYPES[self.dtype], (axes, c))}
        if self.dtype == "int8":
            expected["axis_levels"] = (np.float32, (axes, 2))
            expect("codes.levels", codes.get("levels"), np.float32, (int(ranks.sum()), 2))
        if self.refine:
            expected["block"] = (np.uint8, (n,))
            expected["before"] = (np.uint32, (-(-n // ROWS_PER_COUNT), self.blocks))
        for name, (dtype, shape) in expected.items():
            expect(f"state.{name}", state.get(name), dtype, shape)
            expect_finite(f"state.{name}", state[name])
        expect("codes.factors", codes.get("factors"), DTYPES[self.dtype], (int((sizes * ranks).sum()),))
        if self.refine and not (
            np.array_equal(np.bincount(state["block"], minlength=self.blocks), sizes)
            and np.array_equal(_counts_before(state["block"], self.blocks), state["before"])
        ):
            raise FormatError("state.block does not fit state.blocks and state.before")

    def check_codes(self, codes, state):
        expect_finite("codes.factors", np.asarray(codes["factors"]))
        if self.dtype == "int8":
            expect_finite("codes.levels", np.asarray(codes["levels"]))


def _even_sizes(n, blocks):
    """Return the sizes of so many blocks of n rows: they differ by one at most, larger ones first."""
    return n // blocks + (np.arange(blocks) < n % blocks)


def _dense_where_cheaper(ranks, sizes, c):
    """Return the ranks, c where coordinates and axes would take as much as the vectors themselves."""
    return np.where(ranks * (sizes + c) >= sizes * c, c, ranks)


def _parameters(sizes, ranks, c):
    """Return how many numbers blocks of these sizes and ranks take; a block of rank c has no axes."""
    return int((ranks * (sizes + np.where(ranks < c, c, 0))).sum())


def _best_blocks(matrix, block, axes, blocks):
    """Return for each row the squared error in its block, the block of least error, and that error."""
    n = len(matrix)
    own, error = np.zeros(n, np.float32), np.full(n, np.inf, np.float32)
    best = np.zeros(n, np.int64)

    def compare(start, stop):
        part = matrix[start:stop]
        squares = np.einsum("ij,ij->i", part, part)
        for p in range(blocks):
            left = np.zeros_like(squares)
            if p in axes:
                along = part @ axes[p].T
                left = squares - np.einsum("ij,ij->i", along, along)
            mine = block[start:stop] == p
            own[start:stop][mine] = left[mine]
            less = left < error[start:stop]
            error[start:stop][less] = left[less]
            best[start:stop][less] = p

    map_blocks(compare, n, ROWS)
    return own, best, error


def _counts_before(block, blocks):
    """Return how many rows of each block stand before every 256th row."""
    groups = -(-len(block) // ROWS_PER_COUNT)
    cells = np.arange(len(block)) // ROWS_PER_COUNT * blocks + block
    counts = np.bincount(cells, minlength=groups * blocks).reshape(groups, blocks)
    return (np.cumsum(counts, axis=0) - counts).astype(np.uint32)


def _places(state, rows, own):
    """Return how many rows of the same block stand before each of `rows`."""
    group = rows // ROWS_PER_COUNT
    members = group[:, None] * ROWS_PER_COUNT + np.arange(ROWS_PER_COUNT)
    same = state["block"][np.minimum(members, len(state["block"]) - 1)] == own[:, None]
    return state["before"][group, own].astype(np.int64) + (same & (members < rows[:, None])).sum(axis=1)


def _inverse(axes):
    """Return the (c, rank) matrix that takes vectors to their best coordinates on axes (rank, c)."""
    with one_blas_thread():
        return np.linalg.pinv(axes.astype(np.float64)).astype(np.float32)


def _values(stored, levels):
    """Return stored columns as float32."""
    values = stored.astype(np.float32)
    return values if levels is None else levels[:, 0] + levels[:, 1] * values
