"""The base classes of methods. A method is a frozen dataclass of parameters, derived from the class of its axis.

A table of vectors takes about rows x columns x bits. A `RowStep` stores fewer rows, a `ColumnStep` fewer numbers per
row, a `Codec` fewer bits per number. Parameters are fields made by `param`, so that the registry can parse, print,
check and document them without knowing the method.

The classes below declare the whole interface of a method. Abstract members must be implemented; the others have a
default here, which a method may override. Callers use only members declared here and never test for attributes.
Everything else in a method is private.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, TypeVar

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

State: TypeAlias = Mapping[str, AnyArray]  # small arrays shared by all rows: codebooks, a basis, scales
Codes: TypeAlias = Mapping[str, StoredArray]  # the stored codes of the rows
T = TypeVar("T")


def param(
    default: T, help: str, *, choices: tuple[object, ...] | None = None, low: float | None = None,
    high: float | None = None,
) -> T:
    """Declare a parameter of a method.

    Parameters
    ----------
    default : object
        None: the default is chosen from the table's shape when the step is resolved.
    help : str
        One line, printed by ``embshrink methods``.
    choices : tuple, optional
        The allowed values.
    low, high : number, optional
        The allowed range, ends included.
    """
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def resolved(value: T | None) -> T:
    """Return the value of a parameter that `Step.resolve` fills in.

    Raises
    ------
    StepError
        If the value is None, because the step was not resolved.
    """
    if value is None:
        raise StepError("a step must be resolved before it is used", hint="Call resolve(rows, columns) first.")
    return value


class TooFewBits(StepError):
    """A codec cannot store rows in so few bits.

    Parameters
    ----------
    problem : str
        As for other errors.
    bits, least : float
        The bits per row that were given, and about how many are enough.
    """

    def __init__(self, problem: str, bits: float, least: float) -> None:
        super().__init__(problem, expected=f">= {math.ceil(least * 10) / 10:g}", found=bits,
                         hint="Raise bits, use rq or pq, or put prune before it.")
        self.least = least


class QualityGoal(Protocol):
    """A quality that a `SteppedCodec` is to reach with as few bits as possible."""

    def excess(self, before: FloatArray, after: FloatArray, words: IntArray) -> float:
        """Return log2(error / allowed error) of rows (s, d) before and after the codec.

        It is above 0 if too much is lost. The error grows about as the square of the step size.

        Parameters
        ----------
        before, after : numpy.ndarray, shape (s, d), float32
        words : numpy.ndarray, shape (s,), int64
            Number of words that share each row.
        """


@dataclasses.dataclass(eq=False, repr=False)
class Context:
    """The information that a step may use besides the matrix.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n,), float64
        Relative frequency of each row: the sum over all words that share the row. The weights sum to 1.
    rng : numpy.random.Generator
        A generator for this step alone, so that its result does not depend on the other steps.
    leading : numpy.ndarray, shape (n,), float64, or None
        Relative frequency of each row's most frequent word; None if it equals `weights`.
    words : numpy.ndarray, shape (n,), int64, or None
        Number of words that share each row; None if every row has one.
    protected : numpy.ndarray of int64
        Rows that a row step must keep unchanged.
    progress : callable
        Called as ``progress(stage, done, total)``.
    notes : dict of str to float
        A step adds what it measured; the report shows it.
    goal : QualityGoal, optional
        For a `SteppedCodec` alone: find the largest step size that reaches this, whatever bits that takes.
    unit : int
        The numbers of the matrix were divided by 2 to this power.
    name_row : callable
        Maps the number of a row to its name in messages, such as ``row 3 ('word')``.
    """

    weights: DoubleArray
    rng: np.random.Generator
    leading: DoubleArray | None = None
    words: IntArray | None = None
    protected: IntArray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    progress: Progress = no_progress
    notes: dict[str, float] = dataclasses.field(default_factory=dict)
    goal: QualityGoal | None = None
    unit: int = 0
    name_row: Callable[[int], str] = "row {}".format

    def by_frequency(self, rarest_first: bool = False) -> IntArray:
        """Return the row numbers, (n,) int64, sorted by the most frequent word of each row; ties keep their order."""
        frequency = self.weights if self.leading is None else self.leading
        return np.argsort(frequency if rarest_first else -frequency, kind="stable")

    def reordered(self, order: IntArray) -> Context:
        """Return the context of the matrix ``matrix[order]``."""
        leading = None if self.leading is None else self.leading[order]
        words = None if self.words is None else self.words[order]
        return dataclasses.replace(self, weights=self.weights[order], leading=leading, words=words,
                                   protected=inverse_of(order)[self.protected],
                                   name_row=lambda row: self.name_row(int(order[row])))


def inverse_of(order: IntArray) -> IntArray:
    """Return the inverse of a permutation, (n,) int64: ``inverse[order[i]] == i``."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


@dataclasses.dataclass(eq=False, repr=False)
class SmallCodes:
    """Codes of 4 or 8 bits per part of a row, for an index that searches in the codes.

    For each part, a row's code selects a row of the codebook, which gives the numbers in the columns of the part. The
    row is ``x[j] = codebook[codes[part of j], j]``, and its dot product with a query is a sum of one table lookup
    per part. With a `transform` T, the decoded row is ``x @ T``.

    Parameters
    ----------
    codes : callable
        Maps a slice of rows to their codes, (k, parts) uint8.
    starts : numpy.ndarray, shape (parts,), int64
        The first column of each part, ascending.
    codebook : numpy.ndarray, shape (16 or 256, c), float32
        The numbers that each code stands for, in the columns of its part.
    transform : numpy.ndarray, shape (c, d), float64, or None
        A row's c numbers times this matrix are the decoded row, up to the rounding error of float32. None if the c
        numbers are the decoded row, bit by bit.
    finish : callable, or None
        Maps the numbers of rows, (k, c) float32, to the decoded rows, (k, d) float32, bit by bit; None if `transform`
        is None.
    """

    codes: Callable[[slice], ByteArray]
    starts: IntArray
    codebook: FloatArray
    transform: DoubleArray | None = None
    finish: Callable[[FloatArray], FloatArray] | None = None

    @property
    def bits(self) -> int:
        """Bits per code."""
        return 4 if len(self.codebook) == 16 else 8

    @property
    def bytes_per_row(self) -> int:
        """Bytes per row of codes."""
        return -(-len(self.starts) * self.bits // 8)


def unpack_pairs(packed: ByteArray, parts: int) -> ByteArray:
    """Unpack 4-bit codes; a byte holds two neighbouring codes, the first one in the low bits.

    `embshrink.methods.pq.unpack_nibbles` unpacks another layout.

    Parameters
    ----------
    packed : numpy.ndarray, shape (n, ceil(parts / 2)), uint8
    parts : int
        Codes per row.

    Returns
    -------
    numpy.ndarray, shape (n, parts), uint8
    """
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)[:, :parts]


class Step(ABC):
    """Base class of all methods. Derive from `RowStep`, `ColumnStep` or `Codec`, not from this class.

    Attributes
    ----------
    axis : {"rows", "columns", "bits"}
        What the method reduces.
    source : str
        The literature or software that the method follows.
    literal : bool
        Whether the step must get numbers exactly as they are, however large or small. By default (False), a table
        whose largest magnitude is extreme is first divided by a power of two, so that the step can compute with
        squares and sums in float32 (see `embshrink.methods.rescale`). A literal step must give finite results for
        all finite numbers by itself.
    """

    axis: ClassVar[str]
    source: ClassVar[str]
    literal: ClassVar[bool] = False

    @property
    def by_blocks(self) -> bool:
        """Whether the step accepts a matrix on disk (`embshrink.storage.disk_rows.Rows`).

        If so, it indexes rows only by slices and arrays of row numbers, and uses only ``shape`` and ``take``. By
        default (False) the caller reads the matrix into memory first.
        """
        return False

    @property
    def weighs(self) -> bool:
        """Whether the result depends on the frequencies of words; False by default."""
        return False

    def in_unit(self, exponent: int) -> Self:
        """Return this step for vectors that were divided by ``2**exponent``; by default this step.

        A method overrides it if it has parameters in the unit of the vectors.
        """
        return self

    @abstractmethod
    def resolve(self, n: int, d: int) -> Self:
        """Return this step with the defaults that depend on the shape filled in, for n rows and d columns.

        Resolving a resolved step again for the same shape changes nothing.

        Raises
        ------
        StepError
            If the parameters do not fit each other or the shape.
        """


class RowStep(Step):
    """A method that stores fewer rows.

    Calls, in order: `resolve`, then `reduce`. Reading a file does not need the step, because the row map stores its
    result.

    Attributes
    ----------
    owned : bool
        Whether each stored row is the vector of a word.
    """

    axis: ClassVar[str] = "rows"
    owned: ClassVar[bool]

    @abstractmethod
    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        """Return the map from the rows of `matrix`, (n, d) float32, to stored rows, and these, (count, d) float32."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        """Return the maximum number of stored rows, and which of ``scale`` and ``owners`` the row map will hold."""


class ColumnStep(Step):
    """A method that stores fewer numbers per row.

    Calls, in order: `resolve`, `fit`, `fitted`, `apply`; and `invert` when rows are decoded.
    """

    axis: ClassVar[str] = "columns"

    @property
    def divides(self) -> int:
        """The step divides numbers by 2 to this power; 0 by default. The steps after it get `in_unit`."""
        return 0

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that `apply` and `invert` need, with the names that `plan` gives."""

    def fitted(self, state: State) -> Self:
        """Return the step that the file stores; by default this step.

        A method overrides this if `fit` finds values that `resolve` cannot know, and fills them in. Before, `plan`
        gives an upper bound; `plan` of the fitted step is exact.
        """
        return self

    @abstractmethod
    def apply(self, matrix: Matrix, state: State) -> Matrix:
        """Map rows (n, d) to (n, c) float32."""

    @abstractmethod
    def invert(self, matrix: FloatArray, state: State) -> FloatArray:
        """Map rows (k, c) back to (k, d) float32 with numpy alone; the bits of a row do not depend on other rows."""

    @abstractmethod
    def plan(self, n: int, d: int) -> tuple[int, Layout]:
        """Return c, and the dtype and shape of each array of the state, by name."""


class Codec(Step):
    """A method that stores fewer bits per number. It is the last step of every file; `cast` if no other is given.

    Calls, in order, when a file is written:

    1. `with_bits` sets a budget, if one is given.
    2. `resolve` fills in the defaults that depend on the shape. From then on `plan` tells what will be stored.
    3. `arrange` may ask for another order of the rows, in which `fit` and `encode` get them.
    4. `fit` computes the state: small arrays shared by all rows.
    5. `fitted` returns the codec as the file stores it, with the values that `fit` found.
    6. `encode` computes the codes of the rows. It may be called for a part of the rows at a time if the first axis of
       every array of codes in `plan` is the rows.

    Calls when a file is read, on a codec made from the file's step string, which is resolved and fitted:

    7. `check`, once, at open: whether shapes, dtypes and the state are consistent. `check_codes` only for a full
       verification.
    8. `decoder`, once, and then its result for each lookup. `decode` does the same for a single use.
    9. `scores` and `small_codes` serve search without decoding, if the codec supports it.

    A file may come from an untrusted source. After `check`, decoding must not crash the interpreter or run forever;
    it may raise IndexError or FormatError.
    """

    axis: ClassVar[str] = "bits"
    @property
    def reorders(self) -> bool:
        """Whether `arrange` may change an order by frequency, so that a plan counts a row map; False by default."""
        return False

    def arrange(self, matrix: Matrix, context: Context) -> IntArray | None:
        """Return the order in which `fit` and `encode` get the rows, (n,) int64; None, the default, for no change.

        The row map undoes the order, so the codec does not store it.
        """
        return None

    @abstractmethod
    def fit(self, matrix: Matrix, context: Context) -> State:
        """Return the small arrays that encoding and decoding need: codebooks, scales, a basis."""

    def fitted(self, state: State) -> Self:
        """Return the step that the file stores; by default this step. See `ColumnStep.fitted`."""
        return self

    @abstractmethod
    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        """Return the codes of the rows of a matrix (n, c)."""

    @abstractmethod
    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        """Decode rows (k,) to (k, c) float32, with numpy alone if k is small.

        The bits of a row do not depend on the other rows.

        Raises
        ------
        IndexError
            If a code is out of range.
        FormatError
            If codes contradict each other.
        """

    def decoder(self, codes: Codes, state: State) -> Callable[[IntArray], FloatArray]:
        """Return a function that decodes rows as `decode` does.

        By default this is `decode` with the first arguments filled in. A codec whose tables take time to build
        overrides it, to build them once. Several threads may call the function at the same time.
        """
        return functools.partial(self.decode, codes, state)

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray | None:
        """Return the dot product of a vector (c,) with every row, (n,) float32, without decoding the rows.

        None, the default, if this is not faster than decoding.
        """
        return None

    def small_codes(self, codes: Codes, state: State) -> SmallCodes | None:
        """Return the codes as `SmallCodes`; None, the default, if they have another form."""
        return None

    @abstractmethod
    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        """Raise FormatError unless arrays from a file are consistent and fit n rows of c columns.

        Called at open: it checks shapes, dtypes and the values of the state, and does not read the codes.
        """

    def check_codes(self, codes: Codes, state: State) -> None:  # noqa: B027
        """Raise FormatError for invalid codes that decoding all rows would not detect.

        If every array of codes has one entry per row, it may be called for a part of the rows at a time. By default
        every code is valid.
        """

    @abstractmethod
    def plan(self, n: int, c: int) -> Layout:
        """Return dtype and shape of every array of state and codes, by section name: ``state.x``, ``codes.x``.

        If a shape depends on the values, it is the largest possible one.
        """

    @abstractmethod
    def with_bits(self, bits: float, c: int) -> Self:
        """Return this codec with parameters for at most `bits` bits per row of c columns.

        Raises
        ------
        StepError
            If `bits` is too small for this codec.
        """


class SteppedCodec(Codec):
    """A codec with one quantization step size, which `fit` finds if the number of bits is given.

    The size is known only after encoding. To meet a number of bits or bytes or a quality, step sizes are tried.
    """

    @property
    @abstractmethod
    def step(self) -> float | None:
        """Quantization step size, in the unit of the vectors; None if `fit` has to find it."""

    @property
    def takes_goal(self) -> bool:
        """Whether `fit` finds the step for the `goal` of its context; by default it does not."""
        return False

    @abstractmethod
    def with_step(self, step: float) -> Self:
        """Return this codec with this step size and no limit on the bits."""


def rows_at_once(c: int) -> int:
    """Return how many rows of c columns to encode at a time: a multiple of the block size of every method."""
    return BLOCK_ROWS * max(1, (1 << 22) // (BLOCK_ROWS * c))


def check_range(
    largest: float, dtype: npt.DTypeLike, hint: str = "Use dtype=float32.", where: str | None = None
) -> None:
    """Raise ShapeError if magnitude `largest` does not fit a dtype; in practice, only float16 is too small."""
    limit = float(np.finfo(dtype).max)
    if largest > limit:
        raise ShapeError("a value is too large for float16", where=where, expected=f"magnitude <= {limit:g}",
                         found=largest, hint=hint)


def expect(
    name: str, array: StoredArray | None, dtype: npt.DTypeLike, shape: tuple[int | None, ...]
) -> None:
    """Check dtype and shape of a section without reading its values.

    Parameters
    ----------
    name : str
        Name of the section, for messages.
    array : array_like or None
        None if the file has no such section.
    dtype : dtype
        The expected dtype; any byte order is accepted.
    shape : tuple of int or None
        The expected shape; None accepts any length.

    Raises
    ------
    FormatError
        If the section is missing, or has another dtype or shape.
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
    """Raise FormatError unless arrays have the dtypes and shapes of `Codec.plan` and the state is finite."""
    given: dict[str, StoredArray] = {
        **{f"codes.{name}": part for name, part in codes.items()},
        **{f"state.{name}": part for name, part in state.items()},
    }
    for name, (dtype, shape) in planned.items():
        expect(name, given.get(name), dtype, shape)
    for name, array in state.items():
        expect_finite(f"state.{name}", array)
