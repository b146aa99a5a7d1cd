"""Builds a table from the rows of a file, by the rules that all formats share.

The matrix grows in place; the options say what to do with numbers that are not finite and with repeated words. The
wording of faults that several formats have in common is here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats.base import ReadOptions, ReadTable
from embshrink.numerics.arrays import MAX_DIM, first_nonfinite
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.storage.arrays import AnyArray, BoolArray, FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix, Rows
from embshrink.vocabulary import buffer
from embshrink.vocabulary.words import Words, to_text

if TYPE_CHECKING:
    from embshrink.storage.disk_rows import Spool

MAX_WORD = 1 << 16
SPARE = 64 << 20  # the most bytes by which a matrix grows if the number of rows is unknown
SHOWN = 10  # words or rows that a warning names

RIGHT_FILE = "Check that this is the right file."
INCOMPLETE = "The file is incomplete: download it again."
DAMAGED = "The file is damaged: download it again."
TRUNCATED = ("The file is truncated or its header is wrong: download it again, or use --allow-truncated "
             "(allow_truncated=True).")
WRITE_TEXT = "Choose the format word2vec-text, or remove the word."
WRITE_BINARY = "Choose the format word2vec (binary), or remove the word."


def show(word: bytes | bytearray | memoryview) -> str:
    """Return a word's bytes as a short quoted text for messages."""
    text = to_text(bytes(word))
    return repr(text if len(text) <= 40 else text[:37] + "...")


def plural(count: int, noun: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_dim(dim: int, path: str, where: str) -> None:
    """Refuse a dimension that is not 1 to 65,536."""
    if not 1 <= dim <= MAX_DIM:
        raise SourceError("the dimension is out of range", path=path, where=where, expected=f"1 to {MAX_DIM}",
                          found=dim, hint=RIGHT_FILE)


def check_count(found: int, options: ReadOptions, path: str, where: str | None = None) -> None:
    """Refuse a file whose number of rows is not the one that the options state."""
    expected = options.expect_rows
    if expected is not None and expected != found:
        raise SourceError("the number of rows differs from --expect-rows (expect_rows)", path=path, where=where,
                          expected=expected, found=found,
                          hint="The file may be truncated: download it again, or correct the expected number.")


def note_count(stated: int, found: int) -> str:
    """Return the warning for a file that does not have the number of rows that its header states."""
    return f"the header states {plural(stated, 'row')}, but the file has {found}; the stated number was ignored"


def note_ngrams(count: int) -> str:
    """Return the warning for a model whose n-grams are not kept."""
    return (f"dropped {plural(count, 'n-gram vector')}: the vectors of the words do not change, but "
            "out-of-vocabulary words get no vector")


def finish_words(
    words: Words, places: IntArray, vectors: Callable[[int], Matrix], options: ReadOptions, path: str,
    warnings: list[str],
) -> ReadTable:
    """Return the words of a model that is in memory, and their vectors, as the options say.

    Parameters
    ----------
    words : Words
        n words, which may be repeated.
    places : numpy.ndarray, shape (n,), int64
        Byte offset of each word.
    vectors : callable
        ``vectors(k)`` returns the vectors of the first k words, (k, d) float32; an array must own its memory.
    options : ReadOptions
    path : str
        For messages.
    warnings : list of str
        New warnings are appended.

    Raises
    ------
    SourceError
        If the options refuse the number of words, a number that is not finite, or a repeated word.
    """
    check_count(len(words), options, path)
    words = words.part(0, len(words) if options.limit is None else options.limit)
    kept, matrix = settle(words, vectors(len(words)), places[: options.limit], options, path, warnings)
    return kept, matrix, warnings


def settle(
    words: Words, matrix: Matrix, places: IntArray, options: ReadOptions, path: str, warnings: list[str]
) -> tuple[Words, Matrix]:
    """Apply the options for repeated words and for numbers that are not finite to a whole table.

    Parameters
    ----------
    words : Words
        n words, which may be repeated.
    matrix : numpy.ndarray or Rows, shape (n, d), float32
        An array must own its memory, and is overwritten.
    places : numpy.ndarray, shape (n,), int64
        Byte offset of each word.
    options : ReadOptions
    path : str
        For messages.
    warnings : list of str
        New warnings are appended.

    Returns
    -------
    words : Words
    matrix : numpy.ndarray, shape (m, d), float32

    Raises
    ------
    SourceError
        If the options refuse the number of words, a number that is not finite, or a repeated word.
    """
    table = TableBuilder(matrix.shape[1], options, path, "byte")
    if isinstance(matrix, Rows):
        _copy_settled(matrix, table, words, places)
        return table.finish(warnings)
    table.adopt(matrix)
    table.add_settled(matrix, words, places)
    return table.finish(warnings)


def _copy_settled(matrix: Rows[np.float32], table: TableBuilder, words: Words, places: IntArray) -> None:
    """Copy rows on disk into a table, with the checks that `settle` makes on rows in memory."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(matrix))
        block = table.room(stop - start, len(matrix) - stop)
        block[:] = matrix[start:stop]
        table.add_settled(block, words.part(start, stop), places[start:stop])


class TableBuilder:
    """The words and vectors of a file that is being read.

    Memory is allocated as rows arrive, never by the number of rows that a header states.

    Parameters
    ----------
    dim : int
    options : ReadOptions
    path : str
        For messages.
    unit : str
        Unit of a row's place in messages: "line" or "byte".
    """

    def __init__(self, dim: int, options: ReadOptions, path: str, unit: str) -> None:
        self._dim = dim
        self._text = bytearray()  # the words of the rows kept so far
        self._lengths: list[AnyArray] = []
        self._used = 0  # rows kept so far
        self._distinct = 0  # the first of them, among which no word is repeated
        self._repeated = _Repeated()
        self._options = options
        self._path = path
        self._unit = unit
        self._places: list[IntArray] = []  # kept only if a repeated word is an error, which names its place
        self._matrix: FloatArray = np.empty((0, dim), dtype=np.float32)
        self._spooled: Rows[np.float32] | None = None  # replaces the matrix if that is too large for memory
        self._dropped = 0
        self._zeroed = 0

    def room(self, count: int, coming: int) -> FloatArray:
        """Return space for `count` more rows, shape (count, d); about `coming` more are expected after them.

        Rows of repeated words are dropped here once there may be more of them than other rows.
        """
        if self._used - self._distinct > max(self._distinct, SPARE // (4 * self._dim)):
            self._drop_repeated()
        used = self._used
        spool = self._options.spool
        if self._spooled is None and spool is not None and not spool.fits(4 * self._dim * (used + count + coming)):
            self._spooled = _on_disk(spool, self._matrix[:used])
            self._matrix = np.empty((0, self._dim), np.float32)
        if self._spooled is not None:
            return np.empty((count, self._dim), np.float32)
        if used + count > len(self._matrix):
            spare = min(used // 4, SPARE // (4 * self._dim))
            size = used + count + max(coming, spare)
            if len(self._matrix):
                self._matrix.resize((size, self._dim), refcheck=False)  # grows in place if the system can
            else:
                self._matrix = np.empty((size, self._dim), dtype=np.float32)
        return self._matrix[used : used + count]

    def adopt(self, matrix: FloatArray) -> None:
        """Use a filled matrix, shape (n, d), that owns its memory, instead of space from `room`."""
        self._matrix = matrix

    def settle_nonfinite(
        self, block: FloatArray, keep: BoolArray, rows: IntArray, places: Sequence[str], words: Sequence[bytes]
    ) -> None:
        """Refuse, drop or zero rows of a block that have a NaN or an infinity, as the options say.

        Parameters
        ----------
        block : numpy.ndarray, shape (k, d), float32
            Space from `room`, filled.
        keep : numpy.ndarray, shape (k,), bool
            Set to False for dropped rows.
        rows : numpy.ndarray, shape (m,), int64
            The rows of `block` that are not finite.
        places : sequence of str
            Place of each of `rows` in the file.
        words : sequence of bytes
            The word of each of `rows`.

        Raises
        ------
        SourceError
            If the options refuse numbers that are not finite.
        """
        if self._options.nonfinite == "error":
            column = int(np.flatnonzero(~np.isfinite(block[rows[0]]))[0])
            raise SourceError(f"number {column + 1} of the word {show(words[0])} is not finite", path=self._path,
                              where=places[0], expected="a finite float32",
                              found="NaN, infinity or a number too large for float32",
                              hint="Use --nonfinite drop to drop these rows, or --nonfinite zero to replace these "
                              "numbers with 0 (nonfinite='drop' or 'zero').")
        if self._options.nonfinite == "drop":
            keep[rows] = False
            self._dropped += len(rows)
            return
        for row in rows:
            block[row][~np.isfinite(block[row])] = 0
        self._zeroed += len(rows)

    def add(self, block: FloatArray, keep: BoolArray, words: Words, places: IntArray) -> None:
        """Add the rows of `block` that `keep` marks; `block` is space from `room`, or the adopted matrix.

        Parameters
        ----------
        block : numpy.ndarray, shape (k, d), float32
        keep : numpy.ndarray, shape (k,), bool
        words : Words
            The words of the marked rows; they may be repeated.
        places : numpy.ndarray, shape (k,), int64
            Line number or byte offset of each row.
        """
        if len(words) < len(block):
            block[: len(words)] = block[keep]
        if self._options.duplicates == "error":
            self._places.append(places[keep])
        used, self._used = self._used, self._used + len(words)
        if self._spooled is not None:
            self._spooled.grow(self._used)
            self._spooled[used : self._used] = block[: len(words)]
        self._text += words.text.data
        self._lengths.append(np.diff(words.bounds).astype(np.int32))

    def add_settled(self, block: FloatArray, words: Words, places: IntArray) -> None:
        """Add the rows of `block`, without those that are not finite if the options drop them.

        The parameters are those of `add`, with a word for each row of `block`.
        """
        keep = np.ones(len(block), dtype=bool)
        if first_nonfinite(block) >= 0:
            rows = np.flatnonzero(~np.isfinite(block).all(axis=1))
            self.settle_nonfinite(block, keep, rows, [f"{self._unit} {places[row]}" for row in rows],
                                  words.take(rows).raw)
            words = words.take(np.flatnonzero(keep))
        self.add(block, keep, words, places)

    @property
    def words(self) -> Words:
        """The words of the rows kept so far; they may be repeated. No row can be added while they are in use."""
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        return Words.of_text(np.frombuffer(self._text, np.uint8), buffer.bounds_of(lengths))

    def finish(self, warnings: list[str]) -> tuple[Words, Matrix]:
        """Return the words and the matrix, cut to size; append warnings with counts to `warnings`.

        Raises
        ------
        SourceError
            If no row is left, or a word is repeated and the options refuse that.
        """
        if self._dropped:
            warnings.append(f"dropped {plural(self._dropped, 'row')} with a NaN or an infinity")
        if self._zeroed:
            warnings.append(f"replaced NaN and infinity with 0 in {plural(self._zeroed, 'row')}")
        if not self._used:
            raise SourceError("no rows are left", path=self._path, expected="at least one word with its vector",
                              found="none", hint=RIGHT_FILE)
        self._drop_repeated()
        warnings += self._repeated.warnings()
        if self._spooled is None:
            self._matrix.resize((self._used, self._dim), refcheck=False)
        else:
            self._spooled.grow(self._used)
        matrix = self._rows
        zero = sum(self._count_zero(matrix[i : i + BLOCK_ROWS]) for i in range(0, self._used, BLOCK_ROWS))
        if zero:
            warnings.append(f"kept {plural(zero, 'zero vector')}, whose cosine similarity to any vector is 0")
        return self.words, matrix

    @property
    def _rows(self) -> Matrix:
        return self._matrix if self._spooled is None else self._spooled

    @staticmethod
    def _count_zero(block: FloatArray) -> int:
        candidates = np.flatnonzero(block[:, 0] == 0)
        return int(np.count_nonzero(~block[candidates].any(axis=1)))

    def _drop_repeated(self) -> None:
        """Keep the first row of each word, or refuse the file."""
        words, self._distinct = self.words, self._used
        rows, firsts = buffer.repeats(words.text, words.bounds)
        if not len(rows):
            return
        if self._options.duplicates == "error":
            row, first = rows[0], firsts[0]
            places = np.concatenate(self._places)
            raise SourceError(f"the word {show(words.raw_at(row))} is repeated", path=self._path,
                              where=f"{self._unit} {places[row]}", expected="distinct words",
                              found=f"its first occurrence at {self._unit} {places[first]}",
                              hint="Use --duplicates first (duplicates='first') to keep the first row of each word.")
        self._repeated.count(self._rows, rows, firsts, words)
        keep = np.ones(self._used, dtype=bool)
        keep[rows] = False
        _close_gaps(self._rows, keep)
        kept = words.take(np.flatnonzero(keep))
        self._text, self._lengths = bytearray(kept.text.data), [np.diff(kept.bounds).astype(np.int32)]
        self._used = self._distinct = len(kept)


class _Repeated:
    """Counts rows of repeated words that are dropped, and keeps the first of the words."""

    def __init__(self) -> None:
        self._count = self._same = 0
        self._names: dict[str, None] = {}

    def count(self, matrix: Matrix, rows: IntArray, firsts: IntArray, words: Words) -> None:
        """Count `rows` of a matrix, whose words occurred first in the rows `firsts`."""
        self._count += len(rows)
        for start in range(0, len(rows), BLOCK_ROWS):
            some = slice(start, start + BLOCK_ROWS)
            self._same += int(np.count_nonzero((matrix[rows[some]] == matrix[firsts[some]]).all(axis=1)))
        if len(self._names) <= SHOWN:
            self._names.update(dict.fromkeys(show(words.raw_at(row)) for row in rows[:1000].tolist()))

    def warnings(self) -> list[str]:
        """Return the warning, or none if no row was dropped."""
        if not self._count:
            return []
        names = list(self._names)
        return [f"dropped {plural(self._count, 'row')} of repeated words, the first row of each word is kept "
                f"({self._same} with the same vector, {self._count - self._same} with a different one): "
                + ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")]


def _on_disk(spool: Spool, matrix: FloatArray) -> Rows[np.float32]:
    rows = Rows.new(spool, matrix.shape)
    rows[:] = matrix
    return rows


def _close_gaps(matrix: Matrix, keep: BoolArray) -> None:
    """Move the rows to keep to the front of a matrix, block by block, without a second matrix."""
    filled = int(np.argmin(keep))
    for start in range(filled, len(keep), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(keep))
        block = matrix[start:stop][keep[start:stop]]
        matrix[filled : filled + len(block)] = block
        filled += len(block)
