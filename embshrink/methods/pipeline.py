"""Steps over a matrix: shrink it, say what the result needs, bring rows back."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

import numpy as np

from embshrink.errors import FormatError
from embshrink.methods import registry
from embshrink.methods.base import Context, expect, expect_finite, rows_at_once
from embshrink.methods.row_map import RowMap
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.progress import no_progress
from embshrink.storage.disk_rows import Rows

LOSSLESS = "cast:dtype=float32"


def zipf_weights(n):
    """Return the weights of n words that are sorted by frequency: ``1 / (rank + 2.7)``, summing to 1.

    Zipf's law as Mandelbrot corrected it. Vector files have no counts, and nearly all are sorted.
    """
    weights = 1 / (np.arange(n) + 2.7)
    return weights / weights.sum()


@dataclass
class Stored:
    """A shrunk table: everything a file keeps of the vectors.

    Parameters
    ----------
    steps : list
        The steps, resolved; the last one is the codec.
    dim : int
        Length of a vector as the user sees it.
    row_map : RowMap
        From words to rows.
    columns : list of (step, state)
        Column steps in order.
    codec : object
    state, codes : dict of str to array_like
        The codec's.
    """

    steps: list
    dim: int
    row_map: RowMap
    columns: list
    codec: object
    state: dict
    codes: dict

    @functools.cached_property
    def _decode(self):
        return self.codec.decoder(self.codes, self.state)

    def decode(self, rows):
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

    def sections(self):
        """Return the arrays a file keeps, by section name."""
        sections = {}
        if not self.row_map.is_identity:
            sections["map.rows"] = self.row_map.rows.astype(narrowest_uint(max(self.row_map.count - 1, 0)))
            if self.row_map.scale is not None:
                sections["map.scale"] = self.row_map.scale.astype(np.float16)
            if self.row_map.owners is not None and not _first_words(self.row_map):
                sections["map.owners"] = self.row_map.owners.astype(np.uint32)
        for index, (_, state) in enumerate(self.columns):
            sections.update({f"columns.{index}.{name}": array for name, array in state.items()})
        sections.update({f"state.{name}": array for name, array in self.state.items()})
        sections.update({f"codes.{name}": array for name, array in self.codes.items()})
        return sections


def _first_words(row_map):
    """Whether each row's owner is the first word that has it: then owners need not be stored."""
    _, first = np.unique(row_map.rows, return_index=True)
    return np.array_equal(first, row_map.owners)


def _with_codec(steps):
    """Return the steps with a codec at the end: the lossless one where none is given."""
    steps = registry.as_steps(steps)
    if not steps or steps[-1].axis != "bits":
        steps.append(registry.parse(LOSSLESS))
    return steps


def shrink(matrix, steps, *, row_map=None, weights=None, protected=(), seed=0, progress=no_progress,
           notes=None, order_words=None):
    """Run steps over a matrix.

    Parameters
    ----------
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (rows, d), float32
    steps : list of str or step
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
    stored : Stored
        Its row map is over the words that are still there, in the order they are stored in.
    row_map : RowMap
        Over all words; the rows of those that were dropped (`prune:min_similarity`) are -1.
    """
    row_map = RowMap.identity(len(matrix)) if row_map is None else row_map
    weights = zipf_weights(len(row_map.rows)) if weights is None else weights / weights.sum()
    dim = matrix.shape[1]
    resolved, columns, kept = [], [], None
    for index, step in enumerate(_with_codec(steps)):
        if kept is None and step.axis != "rows":
            kept = np.flatnonzero(row_map.rows >= 0)
            if order_words is not None:
                kept = order_words(kept)
                matrix, row_map = _order_rows(matrix, row_map, kept)
        step = step.resolve(*matrix.shape)
        resolved.append(step)
        if not step.by_blocks:
            matrix = np.asarray(matrix)  # refused where rows on disk are too many for memory
        per_row, leading = _row_weights(row_map, weights)
        context = Context(
            weights=per_row, leading=leading, rng=np.random.default_rng([seed, index]),
            protected=np.unique(row_map.rows[np.asarray(protected, np.int64)]),
            progress=progress, notes={} if notes is None else notes,
        )
        if step.axis == "rows":
            reduced, matrix = step.reduce(matrix, context)
            row_map = row_map.then(reduced)
        elif step.axis == "columns":
            state = step.fit(matrix, context)
            step = resolved[-1] = step.fitted(state)  # what is known only now, and the file must say
            matrix = step.apply(matrix, state)
            columns.append((step, state))
        else:
            matrix, row_map = _arrange(step, matrix, row_map, context)
            state = step.fit(matrix, context)
            step = resolved[-1] = step.fitted(state)
            codes = _encode(step, matrix, state, context)
    return Stored(resolved, dim, row_map.take(kept), columns, resolved[-1], state, codes), row_map


def _row_weights(row_map, weights):
    """Return the sum of the weights of each row's words, and the largest of them: None if each row has one word."""
    present = row_map.rows >= 0
    rows, weights = row_map.rows[present], weights[present]
    sums = np.bincount(rows, weights, minlength=row_map.count)
    if np.bincount(rows, minlength=1).max() == 1:
        return sums, None
    leading = np.zeros(row_map.count)
    np.maximum.at(leading, rows, weights)
    return sums, leading


def _encode(step, matrix, state, context):
    """Return a codec's codes; of rows on disk some rows at a time, put on disk too where they do not fit."""
    n = len(matrix)
    planned = {name[len("codes.") :]: part for name, part in step.plan(*matrix.shape).items()
               if name.startswith("codes.")}
    if not isinstance(matrix, Rows) or any(shape[0] != n for _, shape in planned.values()):
        return step.encode(matrix, state, context)
    codes = {name: matrix.spool.empty(shape, dtype) for name, (dtype, shape) in planned.items()}
    size = rows_at_once(matrix.shape[1])
    for start in range(0, n, size):
        stop = min(start + size, n)
        own = dataclasses.replace(context, progress=lambda stage, done, _, start=start: context.progress(
            stage, start + done, n))
        for name, part in step.encode(matrix[start:stop], state, own).items():
            codes[name][start:stop] = part
    return codes


def _order_rows(matrix, row_map, ids):
    """Put rows in the order of the first of the words `ids` that have them."""
    order = row_map.rows[ids]
    if not row_map.is_identity:
        _, first = np.unique(order, return_index=True)
        order = order[np.sort(first)]
    if len(order) < row_map.count:
        order = np.concatenate([order, np.setdiff1d(np.arange(row_map.count), order)])
    if np.array_equal(order, np.arange(len(order))):
        return matrix, row_map
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    owners = None if row_map.owners is None else row_map.owners[order]
    moved = np.where(row_map.rows < 0, -1, place[row_map.rows])
    return matrix.take(order, axis=0), RowMap(moved, row_map.count, owners, row_map.scale)


def _arrange(step, matrix, row_map, context):
    """Put rows in the order that a codec asks for; the row map, which row steps may need anyway, undoes it."""
    order = step.arrange(matrix, context)
    if order is None or np.array_equal(order, np.arange(len(order))):
        return matrix, row_map
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    context.weights = context.weights[order]
    context.leading = None if context.leading is None else context.leading[order]
    context.protected = place[context.protected]
    return matrix.take(order, axis=0), row_map.then(RowMap(place, len(order), order))


@dataclass
class Planned:
    """What steps would make of a table.

    Parameters
    ----------
    steps : list
        The steps, resolved.
    rows, width : int
        Stored rows, and columns that the codec is given.
    owned : bool
        Whether rows are some word's own.
    sections : dict of str to (dtype, shape)
        For methods of fixed size exactly what is written; `dedupe`, and `prune` with `min_similarity`, may come
        out smaller.
    """

    steps: list
    rows: int
    width: int
    owned: bool
    sections: dict

    @property
    def nbytes(self):
        """Bytes of all sections, without padding."""
        return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in self.sections.values())


def plan(n, d, steps, *, row_map=None):
    """Return what steps would make of a table, without any work.

    Parameters
    ----------
    n, d : int
        Words and dim.
    steps : list of str or step
    row_map : RowMap, optional
        As for `shrink`.

    Returns
    -------
    Planned
    """
    row_map = RowMap.identity(n) if row_map is None else row_map
    width, mapped, scaled, owned = d, not row_map.is_identity, row_map.scale is not None, row_map.owners is not None
    rows, listed = row_map.count, owned and not _first_words(row_map)
    sections, resolved, columns = {}, [], {}
    for step in _with_codec(steps):
        step = step.resolve(rows, width)
        resolved.append(step)
        if step.axis == "rows":
            before, (rows, parts) = rows, step.plan(rows, width)
            owned &= step.owned
            scaled |= "scale" in parts
            listed |= "owners" in parts
            mapped |= rows < before or bool(parts) or not owned
        elif step.axis == "columns":
            index = sum(1 for part in resolved if part.axis == "columns") - 1
            width, state = step.plan(rows, width)
            columns.update({f"columns.{index}.{name}": part for name, part in state.items()})
        else:
            codec = step.plan(rows, width)
            mapped |= step.reorders
    if mapped:
        sections["map.rows"] = (narrowest_uint(max(rows - 1, 0)), (n,))
        if scaled:
            sections["map.scale"] = (np.dtype(np.float16), (n,))
        if listed and owned:
            sections["map.owners"] = (np.dtype(np.uint32), (rows,))
    return Planned(resolved, rows, width, owned, {**sections, **columns, **codec})


def restore(steps, n, dim, rows, owned, groups):
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
    from embshrink.errors import StepError

    try:
        steps = registry.as_steps(steps)
    except StepError as error:
        raise FormatError(f"the header's steps cannot be read: {error}",
                          hint="The file may need a newer embshrink: pip install -U embshrink") from error
    if not steps or steps[-1].axis != "bits":
        raise FormatError("the header's steps do not end in a codec", found=[registry.format(s) for s in steps])
    row_map = _restore_map(groups("map"), n, rows, owned)
    width, columns = dim, []
    for index, step in enumerate(step for step in steps if step.axis == "columns"):
        parts, state = groups(f"columns.{index}"), {}
        before, (width, planned) = width, step.plan(rows, width)
        if not 1 <= width <= before:
            raise FormatError("a column step leaves more columns than it is given", expected=f"<= {before}",
                              found=width)
        for name, (dtype, shape) in planned.items():
            expect(f"columns.{index}.{name}", parts.get(name), dtype, shape)
            state[name] = np.asarray(parts[name])
            expect_finite(f"columns.{index}.{name}", state[name])
        columns.append((step, state))
    codec = steps[-1]
    state = {name: np.asarray(part) for name, part in groups("state").items()}
    codes = groups("codes")
    if rows > n + sum(part.nbytes for part in codes.values()):  # some codecs take less than a byte a row
        raise FormatError("there are far more rows than words", expected=f"<= {n}", found=rows)
    codec.check(codes, state, rows, width)
    planned = codec.plan(rows, width)  # a section that the steps do not call for must not change what is decoded
    state = {name: part for name, part in state.items() if f"state.{name}" in planned}
    codes = {name: part for name, part in codes.items() if f"codes.{name}" in planned}
    return Stored(steps, dim, row_map, columns, codec, state, codes)


def _restore_map(parts, n, rows, owned):
    if not parts:
        if n != rows or not owned:
            raise FormatError("section map.rows is missing", expected=f"{n} words on {rows} rows")
        return None
    expect("map.rows", parts.get("rows"), narrowest_uint(max(rows - 1, 0)), (n,))
    if "scale" in parts:
        expect("map.scale", parts["scale"], np.float16, (n,))
    if "owners" in parts:
        expect("map.owners", parts["owners"], np.uint32, (rows,))
    return RowMap(parts["rows"], rows, parts.get("owners"), parts.get("scale"))
