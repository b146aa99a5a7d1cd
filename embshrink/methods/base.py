"""What a method is: a frozen dataclass of parameters, derived from the class of its axis.

A table of vectors costs about rows x columns x bits. A `RowStep` stores fewer vectors, a `ColumnStep` fewer numbers a
vector, a `Codec` fewer bits a number. Parameters are fields made by `param`, so that the registry can parse, print,
check and document them without knowing the method.

The classes below say all that a method may be asked for. What must be implemented is abstract; the rest has a default
here, and a method that can do more overrides it. Callers ask by what is declared here, never by looking for an
attribute.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

import numpy as np

from embshrink.errors import FormatError
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
    notes : dict of str to float
        What a step found; shown in the report.
    """

    weights: DoubleArray
    rng: np.random.Generator
    leading: DoubleArray | None = None
    protected: IntArray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    progress: Progress = no_progress
    notes: dict[str, float] = dataclasses.field(default_factory=dict)


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

    labels: Callable[[slice], ByteArray]
    starts: IntArray
    book: FloatArray
    turn: DoubleArray | None = None
    finish: Callable[[FloatArray], FloatArray] | None = None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 4 if len(self.book) == 16 else 8

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a row's codes."""
        return -(-len(self.starts) * self.bits // 8)


def halves(packed: ByteArray, parts: int) -> ByteArray:
    """Return the first so many 4-bit codes of each row of bytes (n, b), the low half of a byte first, (n, parts)."""
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)[:, :parts]


class Step(ABC):
    """What every method has. Derive from `RowStep`, `ColumnStep` or `Codec`, not from this.

    Attributes
    ----------
    axis : {"rows", "columns", "bits"}
    source : str
        Where the method is described.
    by_blocks : bool
        Whether it takes a matrix that is on disk (`embshrink.storage.disk_rows.Rows`): it indexes rows by slices and
        by arrays of ids, and asks for ``shape`` and ``take``. False: the matrix is brought into memory first.
    """

    axis: ClassVar[str]
    source: ClassVar[str]
    by_blocks: ClassVar[bool] = False

    @property
    def weighs(self) -> bool:
        """Whether the result depends on how frequent words are."""
        return False

    @abstractmethod
    def resolve(self, n: int, d: int) -> Self:
        """Return this step with every None filled in for a table of n rows and d columns."""


class RowStep(Step):
    """A method that stores fewer rows.

    Attributes
    ----------
    owned : bool
        Whether each stored row is some word's own vector.
    """

    axis: ClassVar[str] = "rows"
    owned: ClassVar[bool]

    @abstractmethod
    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        """Return the map and the rows that are stored, (count, d) float32."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        """Return how many rows stay at most, and which of ``scale`` and ``owners`` the map will hold."""


class ColumnStep(Step):
    """A method that stores fewer numbers a row."""

    axis: ClassVar[str] = "columns"

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that `apply` and `invert` need."""

    def fitted(self, state: State) -> Self:
        """Return the step to store: `fit` may decide what `resolve` could not. Until then `plan` gives the most."""
        return self

    @abstractmethod
    def apply(self, matrix: Matrix, state: State) -> Matrix:
        """Map (n, d) to (n, c) float32."""

    @abstractmethod
    def invert(self, matrix: FloatArray, state: State) -> FloatArray:
        """Map (k, c) back to (k, d) float32, with numpy alone."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, Layout]:
        """Return c and the state's sections."""


class Codec(Step):
    """A method that stores fewer bits a number.

    Attributes
    ----------
    fits_itself : bool
        Whether `fit` finds the setting that spends the bits asked for, as `fitted` then says; the size is known only
        after encoding. False: the size follows from the parameters.
    """

    axis: ClassVar[str] = "bits"
    fits_itself: ClassVar[bool] = False

    @property
    def reorders(self) -> bool:
        """Whether `arrange` returns an order other than by frequency, so that a plan counts the row map."""
        return False

    def arrange(self, matrix: Matrix, context: Context) -> IntArray | None:
        """Return the order in which rows come to `fit` and `encode`, (n,) int64, or None for theirs.

        The row map undoes it, so a codec stores no order of its own.
        """
        return None

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that coding needs: codebooks, scales, a basis."""

    def fitted(self, state: State) -> Self:
        """Return the step to store: `fit` may decide what `resolve` could not. Until then `plan` gives the most."""
        return self

    @abstractmethod
    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        """Return what is stored of each row, for a matrix (n, c)."""

    @abstractmethod
    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        """Return rows (k,) as (k, c) float32; with numpy alone where k is small."""

    def decoder(self, codes: Codes, state: State) -> Callable[[IntArray], FloatArray]:
        """Return what decodes rows as `decode` does; for codecs whose tables take time to make, made once."""
        return functools.partial(self.decode, codes, state)

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray | None:
        """Return the dot product of a vector (c,) with every row, (n,) float32, from the codes alone.

        None where that is no faster than decoding.
        """
        return None

    def small_codes(self, codes: Codes, state: State) -> SmallCodes | None:
        """Return the codes as `SmallCodes`, or None where these parameters make other codes."""
        return None

    @abstractmethod
    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        """Raise FormatError unless arrays from a file fit each other and n rows of c columns.

        Called at open with the sections unread: shapes and dtypes only, and the state's values.
        """

    def check_codes(self, codes: Codes, state: State) -> None:  # noqa: B027
        """Raise FormatError if a stored code is out of range, where decoding all rows would not say so.

        Where each row has codes of its own, it may be called with those of some rows at a time. By default every
        code is valid.
        """

    @abstractmethod
    def plan(self, n: int, c: int) -> Layout:
        """Return dtype and shape of every array of state and codes, named ``state.x``, ``codes.x``."""

    @abstractmethod
    def with_bits(self, bits: float, c: int) -> Self:
        """Return this codec set to spend at most `bits` a row of c columns.

        Raises
        ------
        StepError
            If it cannot spend so few.
        """


def rows_at_once(c: int) -> int:
    """Return how many rows of c columns to encode at a time: a multiple of what any method takes together."""
    return 16_384 * max(1, (1 << 22) // (16_384 * c))


def expect(
    name: str, array: StoredArray | None, dtype: npt.DTypeLike, shape: tuple[int | None, ...]
) -> None:
    """Raise FormatError unless `array` has this dtype and shape; None in `shape` allows any length."""
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
    given = {**{f"codes.{name}": part for name, part in codes.items()},
             **{f"state.{name}": part for name, part in state.items()}}
    for name, (dtype, shape) in planned.items():
        expect(name, given.get(name), dtype, shape)
    for name, array in state.items():
        expect_finite(f"state.{name}", array)
