"""What a method is: a frozen dataclass of parameters that implements one of three protocols.

A table of vectors costs about rows x columns x bits. A row step stores fewer vectors, a column
step fewer numbers a vector, a codec fewer bits a number. Parameters are fields made by `param`,
so that the registry can parse, print, check and document them without knowing the method.

A step whose ``by_blocks`` is true is given rows on disk (`embshrink.storage.disk_rows.Rows`) where a table is too
large for memory: it may index them by slices and by arrays of ids, and ask for ``shape`` and ``take``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from embshrink.errors import FormatError

State = dict[str, np.ndarray]
Codes = dict[str, np.ndarray]
Plan = dict[str, tuple]  # section name -> (dtype, shape)


def param(default, help, *, choices=None, low=None, high=None):
    """Declare a parameter of a method.

    Parameters
    ----------
    default : object
        None means: chosen from the table's shape when the step is resolved.
    help : str
        One line; printed by ``embshrink methods``.
    choices : tuple, optional
        The values allowed.
    low, high : number, optional
        The range allowed, ends included.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


def no_progress(stage, done, total):
    """Ignore what is reported: the default of every `progress` parameter."""


@dataclasses.dataclass
class Context:
    """What a step may use beside the matrix.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n,), float64
        Relative frequency of each row, summing to 1: of all words that share it.
    rng : numpy.random.Generator
        This step's own, so that a step's result does not depend on the steps beside it.
    leading : numpy.ndarray, shape (n,), float64, or None
        Relative frequency of each row's most frequent word; None where that is `weights`.
    protected : numpy.ndarray of int
        Rows that a row step must keep as they are.
    progress : callable
        ``progress(stage, done, total)``.
    notes : dict
        What a step has to say of what it found; shown in the report.
    """

    weights: np.ndarray
    rng: np.random.Generator
    leading: np.ndarray | None = None
    protected: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    progress: Callable = no_progress
    notes: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class RowMap:
    """Which stored row answers for which word.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n,), int64
        Row of each word; -1 for a word that is dropped.
    count : int
        How many rows there are.
    owners : numpy.ndarray, shape (count,), int64, or None
        The word whose own vector a row is; None where rows are nobody's own (centroids).
    scale : numpy.ndarray, shape (n,), float32, or None
        Word vector = scale * row; None for 1.
    """

    rows: np.ndarray
    count: int
    owners: np.ndarray | None = None
    scale: np.ndarray | None = None

    @classmethod
    def identity(cls, n):
        """Return the map of n words that each have their own row."""
        ids = np.arange(n)
        return cls(ids, n, ids)

    @property
    def is_identity(self):
        """Whether word i has row i, its own, unscaled."""
        return (self.scale is None and self.owners is not None and self.count == len(self.rows)
                and np.array_equal(self.rows, np.arange(self.count)))

    def then(self, after):
        """Return the map that applies `after` to this map's rows."""
        dropped = self.rows < 0
        rows = np.where(dropped, -1, after.rows[np.where(dropped, 0, self.rows)])
        scale = self.scale
        if after.scale is not None:
            inner = after.scale[np.where(dropped, 0, self.rows)]
            scale = inner if scale is None else scale * inner
        owners = None
        if self.owners is not None and after.owners is not None:
            owners = self.owners[after.owners]
        return RowMap(rows, after.count, owners, scale)

    def take(self, ids):
        """Return the map of these words, numbered anew in this order; every owner is among them."""
        if len(ids) == len(self.rows) and np.array_equal(ids, np.arange(len(ids))):
            return self
        new_id = np.full(len(self.rows), -1)
        new_id[ids] = np.arange(len(ids))
        return RowMap(
            self.rows[ids], self.count, None if self.owners is None else new_id[self.owners],
            None if self.scale is None else self.scale[ids],
        )


@dataclasses.dataclass
class SmallCodes:
    """Rows that are sums over codes of 4 or 8 bits, for an index that searches in the codes.

    Parameters
    ----------
    labels : callable
        A slice of rows -> (k, parts) uint8, the codes.
    starts : numpy.ndarray, shape (parts,), int64
        The column with which each part begins, ascending.
    book : numpy.ndarray, shape (16 or 256, c), float32
        What each code stands for, in the columns of its part.
    turn : numpy.ndarray, shape (c, d), float64, or None
        What a row's c numbers are multiplied by to make the decoded row; None where they are that row to the last
        bit.
    finish : callable, or None
        Rows' numbers, (k, c) float32 -> the decoded rows, (k, d) float32, to the last bit; None where `turn` is.
    """

    labels: Callable
    starts: np.ndarray
    book: np.ndarray
    turn: np.ndarray | None = None
    finish: Callable | None = None

    @property
    def bits(self):
        """Bits of a code."""
        return 4 if len(self.book) == 16 else 8

    @property
    def bytes_per_row(self):
        """Bytes of a row's codes."""
        return -(-len(self.starts) * self.bits // 8)


def halves(packed, parts):
    """Return the first so many 4-bit codes of each row of bytes (n, b), the low half of a byte first, (n, parts)."""
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)[:, :parts]


@runtime_checkable
class RowStep(Protocol):
    """A method that stores fewer rows. ``axis = "rows"``.

    Its class says in ``owned`` whether a stored row is some word's own vector.
    """

    def resolve(self, n, d):
        """Return this step with every None filled in for a table of n rows and d columns."""

    def reduce(self, matrix, context) -> tuple[RowMap, np.ndarray]:
        """Return the map and the rows that are stored, (count, d) float32."""

    def plan(self, n, d) -> tuple[int, set]:
        """Return how many rows stay at most, and which of ``scale`` and ``owners`` the map will hold."""


@runtime_checkable
class ColumnStep(Protocol):
    """A method that stores fewer numbers a row. ``axis = "columns"``.

    Optional: ``fitted(state)`` returns the step to store, where `fit` decides what `resolve` could not; until
    then `plan` gives the most it may be.
    """

    def resolve(self, n, d):
        """Return this step with every None filled in for a table of n rows and d columns."""

    def fit(self, matrix, context) -> State:
        """Return the small arrays that `apply` and `invert` need."""

    def apply(self, matrix, state) -> np.ndarray:
        """Map (n, d) to (n, c) float32."""

    def invert(self, matrix, state) -> np.ndarray:
        """Map (k, c) back to (k, d) float32, with numpy alone."""

    def plan(self, n, d) -> tuple[int, Plan]:
        """Return c and the state's sections."""


@runtime_checkable
class Codec(Protocol):
    """A method that stores fewer bits a number. ``axis = "bits"``.

    Optional: ``arrange(matrix, context)`` returns an order of the rows, (n,) int64, in which they come to `fit` and
    `encode`; the row map undoes it, so a codec stores no order of its own. ``reorders`` is true where that
    order is other than by frequency, so that a plan counts the row map. ``fitted(state)`` as for a column step.
    ``decoder(codes, state)`` returns an object with a method ``decode(rows)``, for codecs whose tables take time.
    ``small_codes(codes, state)`` returns the codes as `SmallCodes`, or None where these parameters make other codes.
    """

    def resolve(self, n, d):
        """Return this step with every None filled in for a table of n rows and d columns."""

    def fit(self, matrix, context) -> State:
        """Return the small arrays that coding needs: codebooks, scales, a basis."""

    def encode(self, matrix, state, context) -> Codes:
        """Return what is stored of each row, for a matrix (n, c)."""

    def decode(self, codes, state, rows) -> np.ndarray:
        """Return rows (k,) as (k, c) float32; with numpy alone where k is small."""

    def check(self, codes, state, n, c):
        """Raise FormatError unless arrays from a file fit each other and n rows of c columns.

        Called at open with the sections unread: shapes and dtypes only, and the state's values.
        """

    def check_codes(self, codes, state):
        """Raise FormatError if a stored code is out of range, where decoding all rows would not say so.

        Where each row has codes of its own, it may be called with those of some rows at a time.
        """

    def plan(self, n, c) -> Plan:
        """Return dtype and shape of every array of state and codes, named ``state.x``, ``codes.x``."""

    def with_bits(self, bits, c):
        """Return this codec set to spend at most `bits` a row of c columns."""


def rows_at_once(c):
    """Return how many rows of c columns to encode at a time: a multiple of what any method takes together."""
    return 16_384 * max(1, (1 << 22) // (16_384 * c))


def expect(name, array, dtype, shape):
    """Raise FormatError unless `array` has this dtype and shape; None in `shape` allows any length."""
    if array is None:
        raise FormatError(f"section {name} is missing")
    if array.dtype.newbyteorder("=") != np.dtype(dtype) or len(array.shape) != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape)
    ):
        raise FormatError(f"section {name} has the wrong type or shape", expected=f"{np.dtype(dtype)} {shape}",
                          found=f"{array.dtype} {array.shape}")


def expect_finite(name, array):
    """Raise FormatError if `array` holds a NaN or an infinity."""
    if not np.isfinite(array).all():
        raise FormatError(f"section {name} holds a NaN or an infinity")


def expect_planned(planned, codes, state):
    """Raise FormatError unless a file's arrays have the types and shapes of `Codec.plan`, and its state is finite."""
    given = {**{f"codes.{name}": part for name, part in codes.items()},
             **{f"state.{name}": part for name, part in state.items()}}
    for name, (dtype, shape) in planned.items():
        expect(name, given.get(name), dtype, shape)
    for name, array in state.items():
        expect_finite(f"state.{name}", array)
