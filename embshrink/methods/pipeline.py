"""Steps over a matrix: shrink it, say what the result needs, bring rows back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods import registry
from embshrink.methods.base import (
    Codec,
    Codes,
    ColumnStep,
    Context,
    RowStep,
    State,
    Step,
    expect,
    expect_finite,
    inverse_of,
    rows_at_once,
)
from embshrink.methods.row_map import RowMap, StoredRowMap
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray, Layout, StoredArray, layout_bytes
from embshrink.storage.disk_rows import Matrix, Rows

StepT = TypeVar("StepT", bound=Step)


def zipf_weights(n: int) -> DoubleArray:
    """Return the weights, (n,), of n words that are sorted by frequency: ``1 / (rank + 2.7)``, summing to 1.

    Zipf's law as Mandelbrot corrected it. Vector files have no counts, and nearly all are sorted.
    """
    weights = 1 / (np.arange(n) + 2.7)
    relative: DoubleArray = weights / weights.sum()
    return relative


class SplitSteps(NamedTuple):
    """Steps by their axis, in order."""

    rows: list[RowStep]
    columns: list[ColumnStep]
    codec: Codec | None


def split(steps: Iterable[Step]) -> SplitSteps:
    """Return steps, in the order that `registry.as_steps` asks for, by their axis."""
    rows: list[RowStep] = []
    columns: list[ColumnStep] = []
    codec = None
    for step in steps:
        if isinstance(step, RowStep):
            rows.append(step)
        elif isinstance(step, ColumnStep):
            columns.append(step)
        elif isinstance(step, Codec):
            codec = step
    return SplitSteps(rows, columns, codec)


def _split_with_codec(steps: registry.Steps) -> tuple[list[RowStep], list[ColumnStep], Codec]:
    """Return row steps, column steps and the codec: the lossless one where none is given."""
    rows, columns, codec = split(registry.as_steps(steps))
    if codec is None:
        from embshrink.methods.cast import Cast  # opening a file need not load it

        codec = Cast("float32")
    return rows, columns, codec


@dataclass(eq=False, repr=False)
class Stored:
    """A shrunk table: everything a file keeps of the vectors.

    Parameters
    ----------
    steps : list of Step
        The steps, resolved; the last one is the codec.
    dim : int
        Length of a vector as the user sees it.
    row_map : RowMap, StoredRowMap or None
        From words to rows. Of an open file: its sections, or None where word i has row i, its own.
    columns : list of (ColumnStep, State)
        Column steps in order.
    codec : Codec
    state, codes : dict of str to array_like
        The codec's.
    """

    steps: list[Step]
    dim: int
    row_map: RowMap | StoredRowMap | None
    columns: list[tuple[ColumnStep, State]]
    codec: Codec
    state: State
    codes: Codes

    @functools.cached_property
    def _decode(self) -> Callable[[IntArray], FloatArray]:
        return self.codec.decoder(self.codes, self.state)

    def decode(self, rows: IntArray) -> FloatArray:
        """Return stored rows as vectors.

        Parameters
        ----------
        rows : numpy.ndarray of int, shape (k,)

        Returns
        -------
        numpy.ndarray, shape (k, dim), float32

        Raises
        ------
        FormatError
            If a code points outside its codebook: the file was made or damaged with intent.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # `check` refuses infinities, and says where
            try:
                matrix = self._decode(rows)
            except IndexError as error:
                raise FormatError("a code points outside its codebook", hint="Get the file again.") from error
            for step, state in reversed(self.columns):
                matrix = step.invert(matrix, state)
        return matrix

    def sections(self) -> dict[str, StoredArray]:
        """Return the arrays a file keeps, by section name."""
        sections: dict[str, StoredArray] = {}
        if self.row_map is not None:
            sections.update(self.row_map.sections())
        for index, (_, state) in enumerate(self.columns):
            sections.update({f"columns.{index}.{name}": array for name, array in state.items()})
        sections.update({f"state.{name}": array for name, array in self.state.items()})
        sections.update({f"codes.{name}": array for name, array in self.codes.items()})
        return sections


class Shrunk(Stored):
    """What `shrink` makes: a `Stored` whose row map is in memory."""

    row_map: RowMap


# ---------------------------------------------------------------- shrinking


def shrink(
    matrix: Matrix, steps: registry.Steps, *, row_map: RowMap | None = None,
    weights: DoubleArray | None = None, protected: Sequence[int] | IntArray = (), seed: int = 0,
    progress: Progress = no_progress, notes: dict[str, float] | None = None,
    order_words: Callable[[IntArray], IntArray] | None = None,
) -> tuple[Shrunk, RowMap]:
    """Run steps over a matrix.

    Parameters
    ----------
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (rows, d), float32
    steps : list of str or Step
        Rows, then columns, then at most one of bits; without one of bits, float32 is stored.
    row_map : RowMap, optional
        From words to the rows of `matrix`, where the table was already shrunk; identity by default.
    weights : numpy.ndarray, shape (n words,), optional
        Relative frequencies; Zipf's law by rank by default.
    protected : sequence of int
        Ids of words a row step must keep.
    seed : int
        Same input, steps and seed give the same result at any number of threads.
    progress : callable
    notes : dict, optional
        Filled with what the steps have to say of what they found.
    order_words : callable, optional
        Given the ids of the words that row steps left, returns them in the order in which they are stored. Rows are
        put in the order of the first words that have them.

    Returns
    -------
    stored : Shrunk
        Its row map is over the words that are still there, in the order they are stored in.
    row_map : RowMap
        Over all words; the rows of those that were dropped (`prune:min_similarity`) are -1.

    Raises
    ------
    StepError
        If the steps do not fit each other or the table.
    ShapeError
        If a step cannot store the numbers, or keep all rows that are protected.
    """
    row_steps, column_steps, codec = _split_with_codec(steps)
    row_map = RowMap.identity(len(matrix)) if row_map is None else row_map
    weights = zipf_weights(len(row_map.rows)) if weights is None else weights / weights.sum()
    dim = matrix.shape[1]
    work = _Work(matrix, row_map, weights, np.asarray(protected, np.int64), seed, progress,
                 {} if notes is None else notes)
    del matrix, row_map  # only `work` holds the table from here on, and lets go of what a step replaced
    for row_step in row_steps:
        work.reduce_rows(row_step)
    kept: IntArray = np.flatnonzero(work.row_map.rows >= 0)
    if order_words is not None:
        kept = order_words(kept)
        work.order_rows(kept)
    columns = [work.reduce_columns(step) for step in column_steps]
    codec, state, codes = work.encode(codec)
    return Shrunk(work.resolved, dim, work.row_map.take(kept), columns, codec, state, codes), work.row_map


@dataclass(eq=False, repr=False)
class _Work:
    """A table between two steps: its rows as they are now, and which words have them.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (rows, columns), float32
    row_map : RowMap
        From all words to the rows of `matrix`.
    weights : numpy.ndarray, shape (n words,), float64
    protected : numpy.ndarray of int64
        Ids of words.
    seed, progress, notes
        As for `shrink`.
    resolved : list of Step
        The steps that were run.
    """

    matrix: Matrix
    row_map: RowMap
    weights: DoubleArray
    protected: IntArray
    seed: int
    progress: Progress
    notes: dict[str, float]
    resolved: list[Step] = field(default_factory=list)

    def reduce_rows(self, step: RowStep) -> None:
        """Run a row step."""
        step, context = self._begin(step)
        reduced, self.matrix = step.reduce(self.matrix, context)
        self.row_map = self.row_map.then(reduced)
        self.resolved.append(step)

    def order_rows(self, ids: IntArray) -> None:
        """Put rows in the order of the first of the words `ids` that have them."""
        row_map = self.row_map
        order = row_map.rows[ids]
        if not row_map.is_identity:
            _, first = np.unique(order, return_index=True)
            order = order[np.sort(first)]
        if len(order) < row_map.count:
            order = np.concatenate([order, np.setdiff1d(np.arange(row_map.count), order)])
        if np.array_equal(order, np.arange(len(order))):
            return
        owners = None if row_map.owners is None else row_map.owners[order]
        moved = np.where(row_map.rows < 0, -1, inverse_of(order)[row_map.rows])
        self.matrix = self.matrix.take(order, axis=0)
        self.row_map = RowMap(moved, row_map.count, owners, row_map.scale)

    def reduce_columns(self, step: ColumnStep) -> tuple[ColumnStep, State]:
        """Run a column step; return it as it is stored, and its state."""
        step, context = self._begin(step)
        state = step.fit(self.matrix, context)
        step = step.fitted(state)  # what is known only now, and the file must say
        self.matrix = step.apply(self.matrix, state)
        self.resolved.append(step)
        return step, state

    def encode(self, codec: Codec) -> tuple[Codec, State, Codes]:
        """Run the codec; return it as it is stored, its state and its codes."""
        codec, context = self._begin(codec)
        context = self._arrange(codec, context)
        fitting = f"fitting {registry.name_of(codec)}"
        self.progress(fitting, 0, 1)
        state = codec.fit(self.matrix, context)
        self.progress(fitting, 1, 1)
        codec = codec.fitted(state)
        self.resolved.append(codec)
        return codec, state, _encode(codec, self.matrix, state, context)

    def _begin(self, step: StepT) -> tuple[StepT, Context]:
        """Return the next step, resolved, and what it may use; bring the matrix into memory if it needs that."""
        step = step.resolve(*self.matrix.shape)
        if not step.by_blocks:
            self.matrix = np.asarray(self.matrix, np.float32)  # refused where rows on disk are too many for memory
        weights, leading = _row_weights(self.row_map, self.weights)
        return step, Context(
            weights=weights, leading=leading, rng=np.random.default_rng([self.seed, len(self.resolved)]),
            protected=np.unique(self.row_map.rows[self.protected]), progress=self.progress, notes=self.notes,
        )

    def _arrange(self, codec: Codec, context: Context) -> Context:
        """Put rows in the order that a codec asks for, and return its context in that order.

        The row map, which row steps may need anyway, undoes it.
        """
        order = codec.arrange(self.matrix, context)
        if order is None or np.array_equal(order, np.arange(len(order))):
            return context
        self.matrix = self.matrix.take(order, axis=0)
        self.row_map = self.row_map.then(RowMap(inverse_of(order), len(order), order))
        return context.reordered(order)


def _row_weights(row_map: RowMap, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray | None]:
    """Return the sum of the weights of each row's words, and the largest of them: None if each row has one word."""
    present = row_map.rows >= 0
    rows, weights = row_map.rows[present], weights[present]
    sums = np.asarray(np.bincount(rows, weights, minlength=row_map.count), np.float64)
    if np.bincount(rows, minlength=1).max() == 1:
        return sums, None
    leading: DoubleArray = np.zeros(row_map.count)
    np.maximum.at(leading, rows, weights)
    return sums, leading


def _encode(codec: Codec, matrix: Matrix, state: State, context: Context) -> Codes:
    """Return a codec's codes; of rows on disk some rows at a time, put on disk too where they do not fit."""
    n, c = matrix.shape
    planned = {name.removeprefix("codes."): part for name, part in codec.plan(n, c).items()
               if name.startswith("codes.")}
    if not isinstance(matrix, Rows) or any(shape[0] != n for _, shape in planned.values()):
        return codec.encode(matrix, state, context)
    codes = {name: matrix.spool.empty(shape, dtype) for name, (dtype, shape) in planned.items()}
    size = rows_at_once(c)
    for start in range(0, n, size):
        stop = min(start + size, n)

        def report(stage: str, done: int, total: int | None, /, start: int = start) -> None:
            context.progress(stage, start + done, n)

        own = dataclasses.replace(context, progress=report)
        for name, part in codec.encode(matrix[start:stop], state, own).items():
            codes[name][start:stop] = np.asarray(part)
    return codes


# ---------------------------------------------------------------- planning


@dataclass(eq=False, repr=False)
class Planned:
    """What steps would make of a table.

    Parameters
    ----------
    steps : list of Step
        The steps, resolved.
    rows, width : int
        Stored rows, and columns that the codec is given.
    owned : bool
        Whether rows are some word's own.
    sections : dict of str to (dtype, shape)
        For methods of fixed size exactly what is written; `dedupe`, and `prune` with `min_similarity`, may come
        out smaller.
    """

    steps: list[Step]
    rows: int
    width: int
    owned: bool
    sections: Layout

    @property
    def nbytes(self) -> int:
        """Bytes of all sections, without padding."""
        return layout_bytes(self.sections)


def plan(
    n: int, d: int, steps: registry.Steps, *, row_map: RowMap | None = None
) -> Planned:
    """Return what steps would make of a table, without any work.

    Parameters
    ----------
    n, d : int
        Words and dim.
    steps : list of str or Step
    row_map : RowMap, optional
        As for `shrink`.

    Raises
    ------
    StepError
        If the steps do not fit each other or the table.
    """
    row_steps, column_steps, codec = _split_with_codec(steps)
    resolved: list[Step] = []
    planned_map = _PlannedMap.of(RowMap.identity(n) if row_map is None else row_map)
    for row_step in row_steps:
        row_step = row_step.resolve(planned_map.rows, d)
        planned_map.reduce(row_step, d)
        resolved.append(row_step)
    rows, width = planned_map.rows, d
    columns: Layout = {}
    for index, column_step in enumerate(column_steps):
        column_step = column_step.resolve(rows, width)
        width, state = column_step.plan(rows, width)
        columns.update({f"columns.{index}.{name}": part for name, part in state.items()})
        resolved.append(column_step)
    codec = codec.resolve(rows, width)
    resolved.append(codec)
    sections = {**planned_map.sections(n, codec.reorders), **columns, **codec.plan(rows, width)}
    return Planned(resolved, rows, width, planned_map.owned, sections)


@dataclass(eq=False, repr=False)
class _PlannedMap:
    """What is known of a row map before there is one.

    Parameters
    ----------
    rows : int
        How many rows there are at most.
    owned : bool
        Whether each row is some word's own.
    needed : bool
        Whether it is other than the identity.
    scaled : bool
        Whether it has a scale for each word.
    listed : bool
        Whether a row's owner may be another than the first word that has it.
    """

    rows: int
    owned: bool
    needed: bool
    scaled: bool
    listed: bool

    @classmethod
    def of(cls, row_map: RowMap) -> _PlannedMap:
        """Return what is known of a map that is there."""
        owned = row_map.owners is not None
        return cls(row_map.count, owned, not row_map.is_identity, row_map.scale is not None,
                   owned and not row_map.first_words_own)

    def reduce(self, step: RowStep, d: int) -> None:
        """Take account of a row step, for rows of d columns."""
        before, (self.rows, parts) = self.rows, step.plan(self.rows, d)
        self.owned &= step.owned
        self.scaled |= "scale" in parts
        self.listed |= "owners" in parts
        self.needed |= self.rows < before or bool(parts) or not self.owned

    def sections(self, n: int, reordered: bool) -> Layout:
        """Return the sections of the map of n words, after a codec that reorders the rows or does not."""
        if not (self.needed or reordered):
            return {}
        sections: Layout = {"map.rows": (narrowest_uint(max(self.rows - 1, 0)), (n,))}
        if self.scaled:
            sections["map.scale"] = (np.dtype(np.float16), (n,))
        if self.listed and self.owned:
            sections["map.owners"] = (np.dtype(np.uint32), (self.rows,))
        return sections


# ---------------------------------------------------------------- reading


def restore(
    steps: Sequence[str], n: int, dim: int, rows: int, owned: bool,
    groups: Callable[[str], Mapping[str, StoredArray]],
) -> Stored:
    """Return the `Stored` that a file's header and sections describe.

    Parameters
    ----------
    steps : list of str
    n, dim, rows : int
        Words, length of a vector, stored rows.
    owned : bool
        Whether rows are some word's own.
    groups : callable
        ``groups(prefix)`` gives the sections below a prefix.

    Raises
    ------
    FormatError
        If the sections do not fit the steps.
    """
    try:
        made = registry.as_steps(steps)
    except StepError as error:
        raise FormatError(f"the header's steps cannot be read: {error}",
                          hint="The file may need a newer embshrink: pip install -U embshrink") from error
    _, column_steps, codec = split(made)
    if codec is None:
        raise FormatError("the header's steps do not end in a codec", found=[registry.format(step) for step in made])
    row_map = _restore_map(groups("map"), n, rows, owned)
    width, columns = dim, []
    for index, step in enumerate(column_steps):
        width, column_state = _restore_columns(step, f"columns.{index}", groups, rows, width)
        columns.append((step, column_state))
    state = {name: np.asarray(part) for name, part in groups("state").items()}
    codes = groups("codes")
    if rows > n + sum(part.nbytes for part in codes.values()):  # some codecs take less than a byte a row
        raise FormatError("there are far more rows than words", expected=f"<= {n}", found=rows)
    codec.check(codes, state, rows, width)
    planned = codec.plan(rows, width)  # a section that the steps do not call for must not change what is decoded
    state = {name: part for name, part in state.items() if f"state.{name}" in planned}
    codes = {name: part for name, part in codes.items() if f"codes.{name}" in planned}
    return Stored(made, dim, row_map, columns, codec, state, codes)


def _restore_columns(
    step: ColumnStep, prefix: str, groups: Callable[[str], Mapping[str, StoredArray]], rows: int, d: int
) -> tuple[int, State]:
    """Return how many of d columns a column step leaves, and its state."""
    parts = groups(prefix)
    width, planned = step.plan(rows, d)
    if not 1 <= width <= d:
        raise FormatError("a column step leaves more columns than it is given", expected=f"<= {d}", found=width)
    state = {}
    for name, (dtype, shape) in planned.items():
        expect(f"{prefix}.{name}", parts.get(name), dtype, shape)
        state[name] = np.asarray(parts[name])
        expect_finite(f"{prefix}.{name}", state[name])
    return width, state


def _restore_map(parts: Mapping[str, StoredArray], n: int, rows: int, owned: bool) -> StoredRowMap | None:
    """Return a file's row map; None for the identity, of which there are no sections."""
    if not parts:
        if n != rows or not owned:
            raise FormatError("section map.rows is missing", expected=f"{n} words on {rows} rows")
        return None
    expect("map.rows", parts.get("rows"), narrowest_uint(max(rows - 1, 0)), (n,))
    if "scale" in parts:
        expect("map.scale", parts["scale"], np.float16, (n,))
    if "owners" in parts:
        expect("map.owners", parts["owners"], np.uint32, (rows,))
    return StoredRowMap(parts["rows"], rows, parts.get("owners"), parts.get("scale"))
