"""What a method is: a frozen dataclass of parameters, derived from the class of its axis.

A table of vectors takes about rows x columns x bits. A `RowStep` stores fewer rows, a `ColumnStep` fewer numbers a
row, a `Codec` fewer bits a number. Parameters are fields made by `param`, so that the registry can parse, print,
check and document them without knowing the method.

The classes below declare all that a method may be asked for. What must be implemented is abstract; the rest has a
default here, and a method that can do more overrides it. Callers ask for what is declared here, and never look
whether an attribute is there. What a method has beside this is private.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

import numpy as np

from embshrink.errors import FormatError, ShapeError, StepError
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import AnyArray, ByteArray, DoubleArray, FloatArray, IntArray, Layout, StoredArray

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from embshrink.methods.row_map import RowMap
    from embshrink.storage.disk_rows import Matrix

State: TypeAlias = Mapping[str, AnyArray]  # small arrays that decoding needs: codebooks, a basis, scales
Codes: TypeAlias = Mapping[str, StoredArray]  # what is stored of each row
T = TypeVar("T")


def param(
    default: T, help: str, *, choices: tuple[object, ...] | None = None, low: float | None = None,
    high: float | None = None,
) -> T:
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
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def resolved(value: T | None) -> T:
    """Return the value of a parameter that `Step.resolve` fills in.

    Raises
    ------
    StepError
        If it is None: the step was not resolved.
    """
    if value is None:
        raise StepError("a step must be resolved before it is used", hint="Call resolve(rows, columns) first.")
    return value


@dataclasses.dataclass(eq=False, repr=False)
class Context:
    """What a step may use beside the matrix.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n,), float64
        Relative frequency of each row, summing to 1: the sum over all words that share the row.
    rng : numpy.random.Generator
        This step's own, so that a step's result does not depend on the steps beside it.
    leading : numpy.ndarray, shape (n,), float64, or None
        Relative frequency of each row's most frequent word; None where that is `weights`.
    protected : numpy.ndarray of int64
        Rows that a row step must keep as they are.
    progress : callable
        ``progress(stage, done, total)``.
    notes : dict of str to float
        A step adds what it found; it is shown in the report.
    """

    weights: DoubleArray
    rng: np.random.Generator
    leading: DoubleArray | None = None
    protected: IntArray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    progress: Progress = no_progress
    notes: dict[str, float] = dataclasses.field(default_factory=dict)

    def by_frequency(self, rarest_first: bool = False) -> IntArray:
        """Return the rows, (n,) int64, sorted by their most frequent word; rows that tie keep their order."""
        frequency = self.weights if self.leading is None else self.leading
        return np.argsort(frequency if rarest_first else -frequency, kind="stable")

    def reordered(self, order: IntArray) -> Context:
        """Return the context of the matrix ``matrix[order]``."""
        leading = None if self.leading is None else self.leading[order]
        return dataclasses.replace(self, weights=self.weights[order], leading=leading,
                                   protected=inverse_of(order)[self.protected])


def inverse_of(order: IntArray) -> IntArray:
    """Return the inverse of a permutation, (n,) int64: ``inverse[order[i]] == i``."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


@dataclasses.dataclass(eq=False, repr=False)
class SmallCodes:
    """Rows that are sums over codes of 4 or 8 bits, for an index that searches in the codes.

    A row's codes pick one row of the codebook for each part; in the columns of that part they say what the row's
    numbers are. So the row is ``x[j] = codebook[codes[part of j], j]``, and its dot product with a query is a sum of
    one table look-up for each part. Where there is a `transform` T, the decoded row is ``x @ T``.

    Parameters
    ----------
    codes : callable
        A slice of rows -> (k, parts) uint8, the codes.
    starts : numpy.ndarray, shape (parts,), int64
        The column with which each part begins, ascending.
    codebook : numpy.ndarray, shape (16 or 256, c), float32
        What each code stands for, in the columns of its part.
    transform : numpy.ndarray, shape (c, d), float64, or None
        A row's c numbers are multiplied by it to make the decoded row, with a rounding error of float32. None where
        they are the decoded row, to the last bit.
    finish : callable, or None
        Rows' numbers, (k, c) float32 -> the decoded rows, (k, d) float32, to the last bit; None where `transform` is.
    """

    codes: Callable[[slice], ByteArray]
    starts: IntArray
    codebook: FloatArray
    transform: DoubleArray | None = None
    finish: Callable[[FloatArray], FloatArray] | None = None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 4 if len(self.codebook) == 16 else 8

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a row's codes."""
        return -(-len(self.starts) * self.bits // 8)


def unpack_pairs(packed: ByteArray, parts: int) -> ByteArray:
    """Unpack 4-bit codes, two neighbours in a byte, the first one low.

    `embshrink.methods.pq.unpack_nibbles` is for another layout.

    Parameters
    ----------
    packed : numpy.ndarray, shape (n, ceil(parts / 2)), uint8
    parts : int
        Codes of a row.

    Returns
    -------
    numpy.ndarray, shape (n, parts), uint8
    """
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)[:, :parts]


class Step(ABC):
    """What every method has. Derive from `RowStep`, `ColumnStep` or `Codec`, not from this.

    Attributes
    ----------
    axis : {"rows", "columns", "bits"}
        What there will be less of.
    source : str
        Where the method is described.
    """

    axis: ClassVar[str]
    source: ClassVar[str]

    @property
    def by_blocks(self) -> bool:
        """Whether the step takes a matrix on disk (`embshrink.storage.disk_rows.Rows`).

        Then it indexes rows by slices and arrays of ids only, and asks for ``shape`` and ``take``. False, the
        default: the caller brings the matrix into memory first.
        """
        return False

    @property
    def weighs(self) -> bool:
        """Whether the result depends on how frequent words are; by default it does not."""
        return False

    @abstractmethod
    def resolve(self, n: int, d: int) -> Self:
        """Return this step with every None filled in that follows from the shape, for n rows and d columns.

        To resolve a resolved step again changes nothing, for the same shape.

        Raises
        ------
        StepError
            If the parameters do not fit each other or the shape.
        """


class RowStep(Step):
    """A method that stores fewer rows.

    Its life: `resolve`, then `reduce`. Reading a file needs nothing of it: what it did is in the row map.

    Attributes
    ----------
    owned : bool
        Whether each stored row is some word's own vector.
    """

    axis: ClassVar[str] = "rows"
    owned: ClassVar[bool]

    @abstractmethod
    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        """Return the map from the rows of `matrix`, (n, d) float32, to those that are stored, (count, d) float32."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        """Return how many rows stay at most, and which of ``scale`` and ``owners`` the map will hold."""


class ColumnStep(Step):
    """A method that stores fewer numbers a row.

    Its life: `resolve`, `fit`, `fitted`, `apply`; and, when rows are decoded, `invert`.
    """

    axis: ClassVar[str] = "columns"

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that `apply` and `invert` need, named as `plan` names them."""

    def fitted(self, state: State) -> Self:
        """Return the step that the file names: this one, by default.

        A method whose `fit` decides what `resolve` could not, overrides this to fill that in. `plan` of the step as
        it was gives the most that may be stored; that of the fitted step is exact.
        """
        return self

    @abstractmethod
    def apply(self, matrix: Matrix, state: State) -> Matrix:
        """Map (n, d) to (n, c) float32."""

    @abstractmethod
    def invert(self, matrix: FloatArray, state: State) -> FloatArray:
        """Map (k, c) back to (k, d) float32, with numpy alone; a row's bits do not depend on the rows beside it."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, Layout]:
        """Return c and the state's sections, by name."""


class Codec(Step):
    """A method that stores fewer bits a number. The last step of every file; `cast` where none is asked for.

    Its life, in order. To write:

    1. `with_bits` sets it to a budget, where one is given.
    2. `resolve` fills in what follows from the shape of the table. `plan` can now say what will be stored.
    3. `arrange` may ask for another order of the rows; `fit` and `encode` get them in it.
    4. `fit` makes the state: small arrays that are shared by all rows.
    5. `fitted` is the codec as the file names it, with what `fit` decided.
    6. `encode` makes the codes: what is stored of each row. It may be called with some of the rows at a time if the
       first axis of every array of codes, in `plan`, is the rows.

    To read, on a codec made from the file's string, which was resolved and fitted:

    7. `check`, once, at open: whether shapes, dtypes and the state fit. `check_codes` only if all is to be verified.
    8. `decoder`, once, and then its result for each lookup. `decode` is the same for a single use.
    9. `scores` and `small_codes` serve search without decoding, where the codec can do that.

    What is read comes from a file that anybody may have made. After `check`, decoding must not crash the interpreter
    or loop for ever; it may raise IndexError or FormatError.
    """

    axis: ClassVar[str] = "bits"
    @property
    def reorders(self) -> bool:
        """Whether `arrange` may change an order by frequency, so that a plan counts the row map; no by default."""
        return False

    def arrange(self, matrix: Matrix, context: Context) -> IntArray | None:
        """Return the order in which `fit` and `encode` are given the rows, (n,) int64.

        None, the default: as they are. The row map undoes it, so a codec stores no order of its own.
        """
        return None

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that coding needs: codebooks, scales, a basis."""

    def fitted(self, state: State) -> Self:
        """Return the step that the file names: this one, by default; see `ColumnStep.fitted`."""
        return self

    @abstractmethod
    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        """Return what is stored of each row, for a matrix (n, c)."""

    @abstractmethod
    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        """Return rows (k,) as (k, c) float32; with numpy alone where k is small.

        A row's bits do not depend on the rows beside it.

        Raises
        ------
        IndexError
            If a code points outside its table.
        FormatError
            If codes do not fit each other.
        """

    def decoder(self, codes: Codes, state: State) -> Callable[[IntArray], FloatArray]:
        """Return a function that decodes rows as `decode` does.

        By default `decode` with the first arguments filled in. A codec whose tables take time to make overrides this,
        to make them once. Threads may call the function side by side.
        """
        return functools.partial(self.decode, codes, state)

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray | None:
        """Return the dot product of a vector (c,) with every row, (n,) float32, from the codes alone.

        None, the default: that would be no faster than decoding.
        """
        return None

    def small_codes(self, codes: Codes, state: State) -> SmallCodes | None:
        """Return the codes as `SmallCodes`; None, the default: they are none, or not with these parameters."""
        return None

    @abstractmethod
    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        """Raise FormatError unless arrays from a file fit each other and n rows of c columns.

        Called at open with the codes unread: their shapes and dtypes only, and the state's values.
        """

    def check_codes(self, codes: Codes, state: State) -> None:  # noqa: B027
        """Raise FormatError if a stored code is out of range, where decoding all rows would not say so.

        Where each row has codes of its own, it may be called with those of some rows at a time. By default every
        code is valid.
        """

    @abstractmethod
    def plan(self, n: int, c: int) -> Layout:
        """Return dtype and shape of every array of state and codes, named ``state.x``, ``codes.x``.

        Where they depend on the values, the most that may be stored.
        """

    @abstractmethod
    def with_bits(self, bits: float, c: int) -> Self:
        """Return this codec set to spend at most `bits` a row of c columns.

        Raises
        ------
        StepError
            If it cannot spend so few.
        """


class SteppedCodec(Codec):
    """A codec of one quantization step, which `fit` finds where it is told how many bits to spend.

    What it takes is known only after encoding: bits, bytes or a quality are met by trying steps.
    """

    @property
    @abstractmethod
    def step(self) -> float | None:
        """Distance of two values, in the vectors' own unit; None where `fit` is to find it."""

    @abstractmethod
    def with_step(self, step: float) -> Self:
        """Return this codec with this step, whatever bits that takes."""


def rows_at_once(c: int) -> int:
    """Return how many rows of c columns to encode at a time: a multiple of what any method takes together."""
    return BLOCK_ROWS * max(1, (1 << 22) // (BLOCK_ROWS * c))


def check_range(largest: float, dtype: npt.DTypeLike, hint: str = "Use dtype=float32.") -> None:
    """Raise ShapeError if a number of magnitude `largest` is too large for a dtype, which can only be float16."""
    limit = float(np.finfo(dtype).max)
    if largest > limit:
        raise ShapeError("a value is too large for float16", expected=f"<= {limit:g}", found=largest, hint=hint)


def expect(
    name: str, array: StoredArray | None, dtype: npt.DTypeLike, shape: tuple[int | None, ...]
) -> None:
    """Check a section's dtype and shape; its numbers are not read.

    Parameters
    ----------
    name : str
        The section's, for messages.
    array : array_like or None
        None where the file has no such section.
    dtype : dtype
        In any byte order.
    shape : tuple of int or None
        None allows any length.

    Raises
    ------
    FormatError
        If the section is missing, or another.
    """
    if array is None:
        raise FormatError(f"section {name} is missing")
    if array.dtype.newbyteorder("=") != np.dtype(dtype) or len(array.shape) != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape)
    ):
        raise FormatError(f"section {name} has the wrong type or shape", expected=f"{np.dtype(dtype)} {shape}",
                          found=f"{array.dtype} {array.shape}")


def expect_finite(name: str, array: AnyArray) -> None:
    """Raise FormatError if `array` holds a NaN or an infinity."""
    if not np.isfinite(array).all():
        raise FormatError(f"section {name} holds a NaN or an infinity")


def expect_planned(planned: Layout, codes: Codes, state: State) -> None:
    """Raise FormatError unless a file's arrays have the types and shapes of `Codec.plan`, and its state is finite."""
    given: dict[str, StoredArray] = {
        **{f"codes.{name}": part for name, part in codes.items()},
        **{f"state.{name}": part for name, part in state.items()},
    }
    for name, (dtype, shape) in planned.items():
        expect(name, given.get(name), dtype, shape)
    for name, array in state.items():
        expect_finite(f"state.{name}", array)
