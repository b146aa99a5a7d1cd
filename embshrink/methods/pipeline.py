"""Apply steps to a matrix: shrink it, plan the size of the result, decode rows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from embshrink.errors import DAMAGED, FormatError, ShapeError, StepError
from embshrink.methods import registry
from embshrink.methods.base import (
    Codec,
    Codes,
    ColumnStep,
    Context,
    QualityGoal,
    RowStep,
    State,
    Step,
    expect,
    expect_finite,
    inverse_of,
    rows_at_once,
)
from embshrink.methods.row_map import RowMap, StoredRowMap
from embshrink.numerics.arrays import FLOAT32_MAX, narrowest_uint
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray, Layout, StoredArray, layout_bytes
from embshrink.storage.disk_rows import Matrix, Rows, on_blocks

StepT = TypeVar("StepT", bound=Step)
ORDINARY = 16  # a table with a largest magnitude from 2**-17 to 2**16 is not scaled
BLOCK_NUMBERS = 1 << 20  # numbers checked at a time
SPREAD = 60  # squares of numbers 2**60 times smaller than the largest vanish in float32 beside its square


def zipf_weights(n: int) -> DoubleArray:
    """Return the relative frequencies, (n,), of n words sorted by frequency: ``1 / (rank + 2.7)``, summing to 1.

    This is Zipf's law with Mandelbrot's correction. Vector files have no counts, but nearly all of them are sorted.
    """
    weights = 1 / (np.arange(n) + 2.7)
    relative: DoubleArray = weights / weights.sum()
    return relative


class SplitSteps(NamedTuple):
    """Steps grouped by axis, in order."""

    rows: list[RowStep]
    columns: list[ColumnStep]
    codec: Codec | None


def split(steps: Iterable[Step]) -> SplitSteps:
    """Group steps by axis; they are in the order that `registry.as_steps` requires."""
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
    """Return row steps, column steps and the codec; without a codec, the lossless `cast`."""
    rows, columns, codec = split(registry.as_steps(steps))
    if codec is None:
        from embshrink.methods.cast import Cast  # imported here, because opening a file does not need it

        codec = Cast("float32")
    return rows, columns, codec


@dataclass(eq=False, repr=False)
class Stored:
    """A shrunk table: everything that a file stores of the vectors.

    Parameters
    ----------
    steps : list of Step
        The steps, resolved; the last one is the codec.
    dim : int
        Length of a decoded vector.
    row_map : RowMap, StoredRowMap or None
        From words to rows. For an open file: its sections, or None if word i owns row i.
    columns : list of (ColumnStep, State)
        Column steps in order, with their state.
    codec : Codec
    state, codes : dict of str to array_like
        State and codes of the codec.
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
        """Decode stored rows to vectors.

        Parameters
        ----------
        rows : numpy.ndarray of int, shape (k,)

        Returns
        -------
        numpy.ndarray, shape (k, dim), float32

        Raises
        ------
        FormatError
            If a code is out of range: the file is damaged, or was changed on purpose.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # `check` reports infinities and their section
            try:
                matrix = self._decode(rows)
            except IndexError as error:
                raise FormatError("a code is out of range", hint=DAMAGED) from error
            for step, state in reversed(self.columns):
                matrix = step.invert(matrix, state)
        return matrix

    def sections(self) -> dict[str, StoredArray]:
        """Return the arrays that a file stores, by section name."""
        sections: dict[str, StoredArray] = {}
        if self.row_map is not None:
            sections.update(self.row_map.sections())
        for index, (_, state) in enumerate(self.columns):
            sections.update({f"columns.{index}.{name}": array for name, array in state.items()})
        sections.update({f"state.{name}": array for name, array in self.state.items()})
        sections.update({f"codes.{name}": array for name, array in self.codes.items()})
        return sections


class Shrunk(Stored):
    """The result of `shrink`: a `Stored` with the row map in memory."""

    row_map: RowMap


# ---------------------------------------------------------------- shrinking


def shrink(
    matrix: Matrix, steps: registry.Steps, *, row_map: RowMap | None = None,
    weights: DoubleArray | None = None, protected: Sequence[int] | IntArray = (), seed: int = 0,
    progress: Progress = no_progress, notes: dict[str, float] | None = None,
    order_words: Callable[[IntArray], IntArray] | None = None, goal: QualityGoal | None = None,
    name_word: Callable[[int], str] = "row {}".format,
) -> tuple[Shrunk, RowMap]:
    """Apply steps to a matrix.

    If the largest magnitude of the matrix is extreme, steps that are not `literal` get the matrix divided by a power
    of two, and the step `rescale` is added, which multiplies by it again when rows are decoded. The result of each
    step is checked to be finite.

    Parameters
    ----------
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (rows, d), float32
    steps : list of str or Step
        Row steps, then column steps, then at most one bits step. Without a bits step, float32 is stored.
    row_map : RowMap, optional
        From words to the rows of `matrix`, if the table was already shrunk; identity by default.
    weights : numpy.ndarray, shape (n words,), optional
        Frequencies of words, absolute or relative; Zipf's law by rank by default.
    protected : sequence of int
        Ids of words whose vectors row steps must keep.
    seed : int
        The same input, steps and seed give the same result with any number of threads.
    progress : callable
        Called as ``progress(stage, done, total)``.
    notes : dict, optional
        Steps add what they measured.
    order_words : callable, optional
        Called with the ids of the words that row steps keep; returns them in the order in which they are stored. Rows
        are put in the order of the first word of each.
    goal : QualityGoal, optional
        For a `SteppedCodec` as the only step: the quality that sets its step size.
    name_word : callable
        Maps the id of a word to its name in messages, such as ``row 3 ('word')``.

    Returns
    -------
    stored : Shrunk
        Its row map covers the remaining words, in the order in which they are stored.
    row_map : RowMap
        Covers all words; the row of a dropped word (`prune:min_similarity`) is -1.

    Raises
    ------
    StepError
        If the steps do not fit each other or the table.
    ShapeError
        If a step cannot store the numbers, or cannot keep all protected rows; if a row is so large that float32
        cannot hold the squares of the other rows beside its own.
    """
    row_steps, column_steps, codec = _split_with_codec(steps)
    row_map = RowMap.identity(len(matrix)) if row_map is None else row_map
    dim = matrix.shape[1]
    work = _Work(matrix, row_map, weights, np.asarray(protected, np.int64), seed, progress,
                 {} if notes is None else notes, goal, name_word, _largest_magnitude(matrix))
    del matrix, row_map  # from here on only `work` refers to the table, so a replaced table is freed
    for row_step in row_steps:
        work.reduce_rows(row_step)
    kept = work.row_map.kept()
    if order_words is not None:
        kept = order_words(kept)
        work.order_rows(kept)
    column_steps = work.rescaled(column_steps, codec)
    columns = [work.reduce_columns(step) for step in column_steps]
    codec, state, codes = work.encode(codec)
    stored = Shrunk(work.resolved, dim, work.row_map.take(kept), columns, codec, state, codes)
    if work.exponent > 0:
        stored.row_map = _bounded(stored)
    return stored, work.row_map


@dataclass(eq=False, repr=False)
class _Work:
    """A table between two steps: its current rows, and the map from words to them.

    Parameters
    ----------
    matrix : numpy.ndarray or Rows, shape (rows, columns), float32
    row_map : RowMap
        From all words to the rows of `matrix`.
    weights : numpy.ndarray, shape (n words,), float64, or None
        As for `shrink`.
    protected : numpy.ndarray of int64
        Ids of words.
    seed, progress, notes, goal, name_word
        As for `shrink`.
    largest : float
        Largest magnitude of the rows before the first column step.
    resolved : list of Step
        The steps applied so far.
    unit : int
        Numbers were divided by 2 to this power by the column steps so far.
    """

    matrix: Matrix
    row_map: RowMap
    weights: DoubleArray | None
    protected: IntArray
    seed: int
    progress: Progress
    notes: dict[str, float]
    goal: QualityGoal | None
    name_word: Callable[[int], str]
    largest: float
    resolved: list[Step] = field(default_factory=list)
    unit: int = 0

    @property
    def exponent(self) -> int:
        """Power of two by which numbers are divided for steps that are not `literal`; 0 unless they are extreme."""
        exponent = math.frexp(self.largest)[1]
        return exponent if abs(exponent) > ORDINARY else 0

    def reduce_rows(self, step: RowStep) -> None:
        """Apply a row step."""
        step, context = self._begin(step)
        if step.literal or not self.exponent:
            reduced, matrix = step.reduce(self.matrix, context)
        else:
            self._check_spread(step)
            scale = _rescale(self.exponent)
            reduced, matrix = step.reduce(scale.apply(self.matrix, {}), context)
            # What is the vector of a word must be this vector, and what is not is brought back to its unit.
            if step.owned and reduced.owners is not None:
                matrix = self.matrix.take(reduced.owners, axis=0)
            else:
                matrix = _rescale(-self.exponent).apply(matrix, {})
        self._check_finite(step, {"rows": matrix})
        self.matrix, self.row_map = matrix, self.row_map.then(reduced)
        if self.exponent:  # the extreme rows may be gone
            self.largest = _largest_magnitude(matrix)
        self.resolved.append(step)

    def rescaled(self, steps: list[ColumnStep], codec: Codec) -> list[ColumnStep]:
        """Return the column steps, with `rescale` as the first one if numbers are extreme and must be divided."""
        if any(step.divides for step in steps[1:]):
            raise StepError("rescale must be the first column step", hint="Put it after the row steps.")
        if steps and steps[0].divides:
            if not 2.0**-ORDINARY <= math.ldexp(self.largest, -steps[0].divides) <= 2.0**ORDINARY:
                raise StepError("the exponent of rescale does not fit the largest magnitude of the table",
                                expected=math.frexp(self.largest)[1], found=steps[0].divides,
                                hint="Leave out rescale: it is added if it is needed.")
        elif self.exponent and not (codec.literal and not steps):
            steps = [_rescale(self.exponent), *steps]
        if self.exponent and steps:
            self._check_spread(steps[-1] if codec.literal else codec)
        return steps

    def order_rows(self, ids: IntArray) -> None:
        """Put rows in the order in which the words `ids` first use them."""
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
        """Apply a column step; return it as it is stored, and its state."""
        step, context = self._begin(step)
        state = step.fit(self.matrix, context)
        step = step.fitted(state)  # with the values that only `fit` knows
        matrix = step.apply(self.matrix, state)
        self._check_finite(step, {**state, "rows": matrix})
        self.matrix, step = matrix, step.in_unit(-self.unit)
        self.unit += step.divides
        self.resolved.append(step)
        return step, state

    def encode(self, codec: Codec) -> tuple[Codec, State, Codes]:
        """Apply the codec; return it as it is stored, its state and its codes."""
        codec, context = self._begin(codec)
        context = self._arrange(codec, context)
        fitting = f"fitting {registry.name_of(codec)}"
        self.progress(fitting, 0, 1)
        state = codec.fit(self.matrix, context)
        self.progress(fitting, 1, 1)
        codec = codec.fitted(state)
        self._check_finite(codec, state)
        codes = _encode(codec, self.matrix, state, context)
        self._check_finite(codec, codes)
        codec = codec.in_unit(-self.unit)
        self.resolved.append(codec)
        return codec, state, codes

    def _begin(self, step: StepT) -> tuple[StepT, Context]:
        """Return the next step, resolved, and its context; read the matrix into memory if the step needs it there."""
        step = step.resolve(*self.matrix.shape).in_unit(self.unit)
        if not step.by_blocks:
            self.matrix = np.asarray(self.matrix, np.float32)  # raises an error if they do not fit into memory
        weights, leading, words = _row_weights(self.row_map, self.weights)
        # `rescale` is not counted, so that the other steps draw the same numbers with and without it.
        before = sum(not (isinstance(one, ColumnStep) and one.divides) for one in self.resolved)
        return step, Context(
            weights=weights, leading=leading, words=words, rng=np.random.default_rng([self.seed, before]),
            protected=np.unique(self.row_map.rows[self.protected]), progress=self.progress, notes=self.notes,
            goal=_RescaledGoal(self.goal, self.unit) if self.goal is not None and self.unit else self.goal,
            unit=self.unit, name_row=self._name_row,
        )

    def _name_row(self, row: int) -> str:
        """Return the name of a row in messages: that of its first word."""
        ids = np.flatnonzero(self.row_map.rows == row)
        return self.name_word(int(ids[0])) if len(ids) else f"row {row}"

    def _row_sizes(self) -> DoubleArray:
        """Return the largest magnitude of each row, (rows,) float64."""
        return on_blocks(lambda block: np.abs(block).max(axis=1).astype(np.float64), self.matrix)

    def _check_spread(self, step: Step) -> None:
        """Raise ShapeError if one row is so large that the squares of most rows vanish in float32 beside its own."""
        sizes = self._row_sizes()
        median = float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
        if self.exponent > 0 and median < math.ldexp(float(sizes.max()), -SPREAD):
            raise ShapeError(
                f"the row is too large for {registry.name_of(step)} beside the other rows",
                where=self._name_row(int(sizes.argmax())), found=f"a magnitude of {sizes.max():.3g}",
                expected=f"at most 2**{SPREAD} times the median of all rows, {median:.3g}",
                hint="Correct or remove this row, or use only dedupe, prune and cast:dtype=float32, which keep "
                     "numbers as they are.")

    def _check_finite(self, step: Step, arrays: Mapping[str, Matrix | StoredArray]) -> None:
        """Raise ShapeError if a result of a step holds a NaN or an infinity."""
        for name, array in arrays.items():
            if array.dtype.kind != "f" or not array.nbytes or _is_finite(array):
                continue
            sizes = self._row_sizes()
            raise ShapeError(
                f"{registry.name_of(step)} gave a NaN or an infinity in its {name}: numbers are too large for it",
                where=self._name_row(int(sizes.argmax())), found=f"a largest magnitude of {float(sizes.max()):.3g}",
                hint="Correct or remove this row, or use only cast:dtype=float32.")

    def _arrange(self, codec: Codec, context: Context) -> Context:
        """Put rows in the order that a codec asks for, and return its context in that order.

        The row map undoes the order.
        """
        order = codec.arrange(self.matrix, context)
        if order is None or np.array_equal(order, np.arange(len(order))):
            return context
        self.matrix = self.matrix.take(order, axis=0)
        self.row_map = self.row_map.then(RowMap(inverse_of(order), len(order), order))
        return context.reordered(order)


class _RescaledGoal:
    """A quality goal for rows that were divided by a power of two."""

    def __init__(self, goal: QualityGoal, exponent: int) -> None:
        self._goal, self._rescale = goal, _rescale(exponent)

    def excess(self, before: FloatArray, after: FloatArray, words: IntArray) -> float:
        """Return what the goal says of the rows in their own unit; see `embshrink.methods.base.QualityGoal`."""
        before, after = (self._rescale.invert(rows, {}) for rows in (before, after))
        return self._goal.excess(before, after, words)


def _rescale(exponent: int) -> ColumnStep:
    """Return the step that divides numbers by ``2**exponent``."""
    from embshrink.methods.rescale import Rescale  # imported here, because opening a file rarely needs it

    return Rescale(exponent)


def _largest_magnitude(matrix: Matrix) -> float:
    """Return the largest magnitude of a matrix; 0 if it has no rows."""
    ends = on_blocks(lambda block: np.array([block.max(initial=0), -block.min(initial=0)]), matrix)
    return float(ends.max(initial=0))


def _is_finite(array: Matrix | StoredArray) -> bool:
    """Whether an array of floats, in memory or on disk, holds neither a NaN nor an infinity."""
    size = max(1, BLOCK_NUMBERS * len(array) // math.prod(array.shape))
    return all(np.isfinite(array[start : start + size]).all() for start in range(0, len(array), size))


def _bounded(stored: Shrunk) -> RowMap:
    """Return the row map, with smaller scales where the product of scale and decoded row is too large for float32."""
    row_map = stored.row_map
    if row_map.scale is None:
        return row_map
    largest = np.zeros(row_map.count)
    for start in range(0, row_map.count, BLOCK_ROWS):
        rows = stored.decode(np.arange(start, min(start + BLOCK_ROWS, row_map.count)))
        largest[start : start + BLOCK_ROWS] = np.abs(rows).max(axis=1)
    scale = np.minimum(row_map.scale, np.finfo(np.float16).max).astype(np.float16)
    too_large = scale * largest[row_map.rows] > FLOAT32_MAX
    scale[too_large] = np.nextafter(FLOAT32_MAX / largest[row_map.rows][too_large], 0, dtype=np.float16)
    return dataclasses.replace(row_map, scale=scale.astype(np.float32))


def _row_weights(
    row_map: RowMap, weights: DoubleArray | None
) -> tuple[DoubleArray, DoubleArray | None, IntArray | None]:
    """Return the sum of the weights of each row's words, the largest one, and the number of words.

    The last two are None if every row has one word. The weights are made relative to their sum; None stands for
    Zipf's law.
    """
    weights = zipf_weights(len(row_map.rows)) if weights is None else weights / weights.sum()
    if row_map.is_identity:
        return weights, None, None
    present = row_map.rows >= 0
    rows, weights = row_map.rows[present], weights[present]
    sums = np.asarray(np.bincount(rows, weights, minlength=row_map.count), np.float64)
    words: IntArray = np.bincount(rows, minlength=row_map.count)
    if words.max(initial=1) == 1:
        return sums, None, None
    leading: DoubleArray = np.zeros(row_map.count)
    np.maximum.at(leading, rows, weights)
    return sums, leading, words


def _encode(codec: Codec, matrix: Matrix, state: State, context: Context) -> Codes:
    """Return the codes of a codec. For rows on disk, encode part by part, and keep large codes on disk too."""
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

        def named(row: int, start: int = start) -> str:
            return context.name_row(start + row)

        own = dataclasses.replace(context, progress=report, name_row=named)
        for name, part in codec.encode(matrix[start:stop], state, own).items():
            codes[name][start:stop] = np.asarray(part)
    return codes


# ---------------------------------------------------------------- planning


@dataclass(eq=False, repr=False)
class Planned:
    """The planned result of steps on a table.

    Parameters
    ----------
    steps : list of Step
        The steps, resolved.
    rows, width : int
        Stored rows, and columns that the codec gets.
    owned : bool
        Whether each row is the vector of a word.
    sections : dict of str to (dtype, shape)
        Exact for methods of fixed size; an upper bound for others, such as `dedupe` and `prune` with
        `min_similarity`.
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
    """Plan the result of steps on a table, from its shape alone.

    Parameters
    ----------
    n, d : int
        Number of words, and length of a vector.
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
    """The properties of a row map that are known before it is computed.

    Parameters
    ----------
    rows : int
        Maximum number of rows.
    owned : bool
        Whether each row is the vector of a word.
    needed : bool
        Whether the map differs from the identity.
    scaled : bool
        Whether it has a scale for each word.
    listed : bool
        Whether the owner of a row may be another word than the first one that has it.
    """

    rows: int
    owned: bool
    needed: bool
    scaled: bool
    listed: bool

    @classmethod
    def of(cls, row_map: RowMap) -> _PlannedMap:
        """Return the properties of an existing map."""
        owned = row_map.owners is not None
        return cls(row_map.count, owned, not row_map.is_identity, row_map.scale is not None,
                   owned and not row_map.first_words_own)

    def reduce(self, step: RowStep, d: int) -> None:
        """Update the properties for a row step, for rows of d columns."""
        before, (self.rows, parts) = self.rows, step.plan(self.rows, d)
        self.owned &= step.owned
        self.scaled |= "scale" in parts
        self.listed |= "owners" in parts
        self.needed |= self.rows < before or bool(parts) or not self.owned

    def sections(self, n: int, reordered: bool) -> Layout:
        """Return the sections of the map of n words; `reordered` says whether the codec reorders the rows."""
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
        Number of words, length of a vector, number of stored rows.
    owned : bool
        Whether each row is the vector of a word.
    groups : callable
        ``groups(prefix)`` returns the sections whose names begin with a prefix, by the rest of the name.

    Raises
    ------
    FormatError
        If the steps cannot be read, or the sections do not fit the steps.
    """
    try:
        made = registry.as_steps(steps)
    except StepError as error:
        raise FormatError(f"the header's steps cannot be read: {error}",
                          hint="If a newer embshrink wrote this file, update embshrink to read it.") from error
    _, column_steps, codec = split(made)
    if codec is None:
        raise FormatError("the header's steps do not end in a bits step",
                          found=[registry.format(step) for step in made])
    row_map = _restore_map(groups("map"), n, rows, owned)
    width, columns = dim, []
    for index, step in enumerate(column_steps):
        width, column_state = _restore_columns(step, f"columns.{index}", groups, rows, width)
        columns.append((step, column_state))
    state = {name: np.asarray(part) for name, part in groups("state").items()}
    codes = groups("codes")
    if rows > n + sum(part.nbytes for part in codes.values()):  # some codecs take less than a byte per row
        raise FormatError("there are far more rows than words", expected=f"<= {n}", found=rows)
    codec.check(codes, state, rows, width)
    planned = codec.plan(rows, width)  # a section that no step plans must not change decoded vectors
    state = {name: part for name, part in state.items() if f"state.{name}" in planned}
    codes = {name: part for name, part in codes.items() if f"codes.{name}" in planned}
    return Stored(made, dim, row_map, columns, codec, state, codes)


def _restore_columns(
    step: ColumnStep, prefix: str, groups: Callable[[str], Mapping[str, StoredArray]], rows: int, d: int
) -> tuple[int, State]:
    """Return the number of columns that a column step keeps of d, and its state."""
    parts = groups(prefix)
    width, planned = step.plan(rows, d)
    if not 1 <= width <= d:
        raise FormatError("a column step returns more columns than it gets", expected=f"<= {d}", found=width)
    state = {}
    for name, (dtype, shape) in planned.items():
        expect(f"{prefix}.{name}", parts.get(name), dtype, shape)
        state[name] = np.asarray(parts[name])
        expect_finite(f"{prefix}.{name}", state[name])
    return width, state


def _restore_map(parts: Mapping[str, StoredArray], n: int, rows: int, owned: bool) -> StoredRowMap | None:
    """Return a file's row map; None for the identity, which has no sections."""
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
