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
from embshrink.storage.arrays import BoolArray, FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix, Rows
from embshrink.vocabulary.words import to_text

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
    words: list[bytes], places: IntArray, vectors: Callable[[int], Matrix], options: ReadOptions, path: str,
    warnings: list[str],
) -> ReadTable:
    """Return the words of a model that is in memory, and their vectors, as the options say.

    Parameters
    ----------
    words : list of bytes
        n words.
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
    words = words[: options.limit]
    kept, matrix = settle(words, vectors(len(words)), places[: options.limit], options, path, warnings)
    return kept, matrix, warnings


def settle(
    words: list[bytes], matrix: Matrix, places: IntArray, options: ReadOptions, path: str, warnings: list[str]
) -> tuple[list[bytes], Matrix]:
    """Apply the options for repeated words and for numbers that are not finite to a whole table.

    Parameters
    ----------
    words : list of bytes
        n words.
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
    words : list of bytes
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
    keep = np.ones(len(words), dtype=bool)
    if first_nonfinite(matrix) >= 0:
        rows = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        table.settle_nonfinite(matrix, keep, rows, [f"byte {places[row]}" for row in rows],
                               [words[row] for row in rows])
        words = [word for word, kept in zip(words, keep) if kept]
    table.add(matrix, keep, words, places)
    return table.finish(warnings)


def _may_repeat(words: list[bytes]) -> bool:
    """Whether two words have the same hash; needs a tenth of the memory of a set of the words."""
    hashes = np.fromiter(map(hash, words), np.int64, len(words))
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


def _copy_settled(matrix: Rows[np.float32], table: TableBuilder, words: list[bytes], places: IntArray) -> None:
    """Copy rows on disk into a table, with the checks that `settle` makes on rows in memory."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(matrix)))
        block = table.room(rows.stop - start, len(matrix) - rows.stop)
        block[:] = matrix[rows]
        some, where, keep = words[rows], places[rows], np.ones(len(block), bool)
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            table.settle_nonfinite(block, keep, bad, [f"byte {where[row]}" for row in bad],
                                   [some[row] for row in bad])
            some = [word for word, kept in zip(some, keep) if kept]
        table.add(block, keep, some, where)


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

    Attributes
    ----------
    words : list of bytes
        The words of the rows kept so far.
    """

    def __init__(self, dim: int, options: ReadOptions, path: str, unit: str) -> None:
        self.words: list[bytes] = []
        self._dim = dim
        self._options = options
        self._path = path
        self._unit = unit
        self._places: list[IntArray] = []  # kept only if a repeated word is an error, which names its place
        self._matrix: FloatArray = np.empty((0, dim), dtype=np.float32)
        self._spooled: Rows[np.float32] | None = None  # replaces the matrix if that is too large for memory
        self._dropped = 0
        self._zeroed = 0

    def room(self, count: int, coming: int) -> FloatArray:
        """Return space for `count` more rows, shape (count, d); about `coming` more are expected after them."""
        used = len(self.words)
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

    def add(self, block: FloatArray, keep: BoolArray, words: list[bytes], places: IntArray) -> None:
        """Add the rows of `block` that `keep` marks; `block` is space from `room`, or the adopted matrix.

        Parameters
        ----------
        block : numpy.ndarray, shape (k, d), float32
        keep : numpy.ndarray, shape (k,), bool
        words : list of bytes
            The words of the marked rows.
        places : numpy.ndarray, shape (k,), int64
            Line number or byte offset of each row.
        """
        if len(words) < len(block):
            block[: len(words)] = block[keep]
        if self._options.duplicates == "error":
            self._places.append(places[keep])
        if self._spooled is not None:
            used = len(self.words)
            self._spooled.grow(used + len(words))
            self._spooled[used : used + len(words)] = block[: len(words)]
        self.words += words

    def finish(self, warnings: list[str]) -> tuple[list[bytes], Matrix]:
        """Return the words and the matrix, cut to size; append warnings with counts to `warnings`.

        Raises
        ------
        SourceError
            If no row is left, or a word is repeated and the options refuse that.
        """
        used = len(self.words)
        if self._dropped:
            warnings.append(f"dropped {plural(self._dropped, 'row')} with a NaN or an infinity")
        if self._zeroed:
            warnings.append(f"replaced NaN and infinity with 0 in {plural(self._zeroed, 'row')}")
        if not used:
            raise SourceError("no rows are left", path=self._path, expected="at least one word with its vector",
                              found="none", hint=RIGHT_FILE)
        matrix: Matrix = self._matrix if self._spooled is None else self._spooled
        if _may_repeat(self.words):
            self._drop_repeated(matrix, warnings)
        if self._spooled is None:
            self._matrix.resize((len(self.words), self._dim), refcheck=False)
        else:
            self._spooled.grow(len(self.words))
        zero = sum(self._count_zero(matrix[i : i + BLOCK_ROWS]) for i in range(0, len(self.words), BLOCK_ROWS))
        if zero:
            warnings.append(f"kept {plural(zero, 'zero vector')}, whose cosine similarity to any vector is 0")
        return self.words, matrix

    @staticmethod
    def _count_zero(block: FloatArray) -> int:
        candidates = np.flatnonzero(block[:, 0] == 0)
        return int(np.count_nonzero(~block[candidates].any(axis=1)))

    def _drop_repeated(self, matrix: Matrix, warnings: list[str]) -> None:
        """Keep the first row of each word, or refuse the file."""
        words = self.words
        seen: dict[bytes, int] = {}
        repeated: list[tuple[int, int]] = []
        for row, word in enumerate(words):
            first = seen.setdefault(word, row)
            if first != row:
                repeated.append((row, first))
        if not repeated:
            return
        if self._options.duplicates == "error":
            row, first = repeated[0]
            places = np.concatenate(self._places)
            raise SourceError(f"the word {show(words[row])} is repeated", path=self._path,
                              where=f"{self._unit} {places[row]}", expected="distinct words",
                              found=f"its first occurrence at {self._unit} {places[first]}",
                              hint="Use --duplicates first (duplicates='first') to keep the first row of each word.")
        rows, firsts = np.array(repeated).T
        same = sum(np.array_equal(matrix[row], matrix[first]) for row, first in repeated)
        names = list(dict.fromkeys(show(words[row]) for row in rows[:1000]))
        warnings.append(
            f"dropped {plural(len(rows), 'row')} of repeated words, the first row of each word is kept "
            f"({same} with the same vector, {len(rows) - same} with a different one): "
            + ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        )
        keep = np.ones(len(words), dtype=bool)
        keep[rows] = False
        _close_gaps(matrix, keep)
        self.words = list(seen)


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
