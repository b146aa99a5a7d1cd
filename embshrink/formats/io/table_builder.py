"""Builds a table from rows as they come out of a file, by the rules that all formats share.

Its matrix grows in place; rows that are not finite and words that come again are dealt with as the options say.
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
SPARE = 64 << 20  # the most bytes a matrix grows by where the number of rows is not known
SHOWN = 10  # words or rows that a warning names


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
        raise SourceError("the dimension is not possible", path=path, where=where, expected=f"1 to {MAX_DIM}",
                          found=dim, hint="Check that this is the file you meant.")


def check_count(found: int, options: ReadOptions, path: str) -> None:
    """Refuse a file with another number of words than the options expect."""
    expected = options.expect_rows
    if expected is not None and expected != found:
        raise SourceError("the number of rows is not the expected one", path=path, where="byte 0", expected=expected,
                          found=found, hint="Check that this is the file you meant.")


def finish_words(
    words: list[bytes], places: IntArray, vectors: Callable[[int], Matrix], options: ReadOptions, path: str,
    warnings: list[str],
) -> ReadTable:
    """Return the first words of a model that was read whole, as the options say, with their vectors.

    Parameters
    ----------
    words : list of bytes
        n words.
    places : numpy.ndarray, shape (n,), int64
        The byte at which each word stands.
    vectors : callable
        A number of words k -> the vectors of the first k, (k, d) float32; an array owns its memory.
    options : ReadOptions
    path : str
        For messages.
    warnings : list of str
        Added to.

    Raises
    ------
    SourceError
        If the options forbid what was found.
    """
    check_count(len(words), options, path)
    words = words[: options.limit]
    kept, matrix = settle(words, vectors(len(words)), places[: options.limit], options, path, warnings)
    return kept, matrix, warnings


def settle(
    words: list[bytes], matrix: Matrix, places: IntArray, options: ReadOptions, path: str, warnings: list[str]
) -> tuple[list[bytes], Matrix]:
    """Deal with words that come again and numbers that are not finite, in a table that was read whole.

    Parameters
    ----------
    words : list of bytes
        n words.
    matrix : numpy.ndarray or Rows, shape (n, d), float32
        An array owns its memory, and is used up.
    places : numpy.ndarray, shape (n,), int64
        The byte at which each word stands.
    options : ReadOptions
    path : str
        For messages.
    warnings : list of str
        Added to.

    Returns
    -------
    words : list of bytes
    matrix : numpy.ndarray, shape (m, d), float32

    Raises
    ------
    SourceError
        If the options forbid what was found.
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
    """Whether two words have the same hash; takes a tenth of the memory of a set of the words."""
    hashes = np.fromiter(map(hash, words), np.int64, len(words))
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


def _copy_settled(matrix: Rows[np.float32], table: TableBuilder, words: list[bytes], places: IntArray) -> None:
    """Copy rows that are on disk into a table, as `settle` adopts those that are in memory."""
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
    """Words and vectors while a file is read.

    Memory is allocated as rows arrive, never because a header promises them.

    Parameters
    ----------
    dim : int
    options : ReadOptions
    path : str
        For messages.
    unit : str
        What a row's place is counted in: "line" or "byte".

    Attributes
    ----------
    words : list of bytes
        Of the rows kept so far.
    """

    def __init__(self, dim: int, options: ReadOptions, path: str, unit: str) -> None:
        self.words: list[bytes] = []
        self._dim = dim
        self._options = options
        self._path = path
        self._unit = unit
        self._places: list[IntArray] = []  # kept only where the options ask to name a repeated word's place
        self._matrix: FloatArray = np.empty((0, dim), dtype=np.float32)
        self._spooled: Rows[np.float32] | None = None  # takes the place of the matrix if that is too large
        self._dropped = 0
        self._zeroed = 0

    def room(self, count: int, coming: int) -> FloatArray:
        """Return space for `count` more rows, shape (count, d), where about `coming` more will follow those."""
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
                self._matrix.resize((size, self._dim), refcheck=False)  # grows in place where the system can
            else:
                self._matrix = np.empty((size, self._dim), dtype=np.float32)
        return self._matrix[used : used + count]

    def adopt(self, matrix: FloatArray) -> None:
        """Use a filled matrix, shape (n, d), that owns its memory, in place of what `room` gives."""
        self._matrix = matrix

    def settle_nonfinite(
        self, block: FloatArray, keep: BoolArray, rows: IntArray, places: Sequence[str], words: Sequence[bytes]
    ) -> None:
        """Deal with rows of a block that hold a NaN or an infinity, as the options say.

        Parameters
        ----------
        block : numpy.ndarray, shape (k, d), float32
            What `room` gave, filled.
        keep : numpy.ndarray, shape (k,), bool
            Cleared for rows to drop.
        rows : numpy.ndarray of int
            The rows of `block` to deal with.
        places : sequence of str
            Where each of `rows` is in the file.
        words : sequence of bytes
            The word of each of `rows`.

        Raises
        ------
        SourceError
            If the options say so.
        """
        if self._options.nonfinite == "error":
            column = int(np.flatnonzero(~np.isfinite(block[rows[0]]))[0])
            raise SourceError(f"number {column + 1} of the word {show(words[0])} is not finite", path=self._path,
                              where=places[0], expected="numbers within float32's range",
                              found="a NaN, an infinity or a larger number",
                              hint="Use --nonfinite drop to leave such rows out, or --nonfinite zero to put 0 there.")
        if self._options.nonfinite == "drop":
            keep[rows] = False
            self._dropped += len(rows)
            return
        for row in rows:
            block[row][~np.isfinite(block[row])] = 0
        self._zeroed += len(rows)

    def add(self, block: FloatArray, keep: BoolArray, words: list[bytes], places: IntArray) -> None:
        """Take the rows of `block`, which `room` gave, that `keep` marks.

        Parameters
        ----------
        block : numpy.ndarray, shape (k, d), float32
        keep : numpy.ndarray, shape (k,), bool
        words : list of bytes
            Of the rows kept, as many as `keep` has marks.
        places : numpy.ndarray, shape (k,), int64
            Line numbers or byte offsets.
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
        """Return the words and the matrix cut to size; add what was counted to `warnings`.

        Raises
        ------
        SourceError
            If no row is left, or a word occurs twice and the options forbid that.
        """
        used = len(self.words)
        if self._dropped:
            warnings.append(f"{plural(self._dropped, 'row')} with a NaN or an infinity left out")
        if self._zeroed:
            warnings.append(f"{plural(self._zeroed, 'row')} with a NaN or an infinity: 0 was put in its place")
        if not used:
            raise SourceError("no rows are left", path=self._path, where="the whole file",
                              expected="at least one word with its vector", found="none",
                              hint="Check that this is the file you meant.")
        matrix: Matrix = self._matrix if self._spooled is None else self._spooled
        if _may_repeat(self.words):
            self._drop_repeated(matrix, warnings)
        if self._spooled is None:
            self._matrix.resize((len(self.words), self._dim), refcheck=False)
        else:
            self._spooled.grow(len(self.words))
        zero = sum(self._count_zero(matrix[i : i + BLOCK_ROWS]) for i in range(0, len(self.words), BLOCK_ROWS))
        if zero:
            warnings.append(f"{plural(zero, 'row')} of nothing but zeros kept")
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
            raise SourceError(f"the word {show(words[row])} occurs again", path=self._path,
                              where=f"{self._unit} {places[row]}", expected="distinct words",
                              found=f"its first occurrence at {self._unit} {places[first]}",
                              hint="Use --duplicates first to keep the first of each.")
        rows, firsts = np.array(repeated).T
        same = sum(np.array_equal(matrix[row], matrix[first]) for row, first in repeated)
        names = list(dict.fromkeys(show(words[row]) for row in rows[:1000]))
        warnings.append(
            f"{plural(len(rows), 'repeated row')} left out, the first of each word kept "
            f"({same} with the same numbers, {len(rows) - same} with others): "
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
    """Move the rows to keep to the front of a matrix, block by block: no second matrix."""
    filled = int(np.argmin(keep))
    for start in range(filled, len(keep), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(keep))
        block = matrix[start:stop][keep[start:stop]]
        matrix[filled : filled + len(block)] = block
        filled += len(block)
