"""word2vec's binary format: a header line ``rows d``, then the rows.

A row is a word, a space, d little-endian float32 numbers and, from some tools, a newline.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.pieces import Pieces
from embshrink.formats.io.table_builder import (
    MAX_WORD,
    TRUNCATED,
    WRITE_TEXT,
    TableBuilder,
    check_count,
    check_dim,
    note_count,
    plural,
    show,
)
from embshrink.numerics.arrays import MAX_DIM
from embshrink.storage.arrays import FloatArray
from embshrink.storage.disk_rows import Matrix
from embshrink.vocabulary.buffer import bounds_of
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

PIECE = 4 << 20  # holds the first two rows, whatever their words and dimension
HEADER = re.compile(rb"[ \t]*([+-]?\d+)[ \t]+([+-]?\d+)[ \t]*\r?\n")
HEADER_UNENDED = re.compile(rb"\d+ \d+[^\d\r\n \t]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_WRONG_HEADER = "The header or the number type does not match the rows: download the file again."
_NOT_WORD2VEC = "Check that this is a word2vec binary file."
_LEADING_NEWLINE = ("If words begin with a newline, use --row-newline no (row_newline='no'); otherwise the file is "
                    "damaged: download it again.")

FloatingArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.floating]]


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read a binary file of vectors.

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream
    options : embshrink.formats.ReadOptions
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the source.

    Returns
    -------
    words : Words
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (n, d), float32
    warnings : list of str

    Raises
    ------
    SourceError
        If the file is malformed; the message states the byte, what was expected and what was found.
    """
    reader = _Reader(stream, options)
    with Pieces(stream, PIECE, MAX_WORD + 4 * reader.dim + 2) as pieces:
        used = pieces.start + reader.header_size
        reader.decide_newline(pieces, used)
        while True:
            used = reader.take(pieces, used)
            if progress:
                progress("read", stream.done, stream.size)
            if pieces.last or reader.full or reader.stopped:
                break
            used = pieces.advance(used)
        return *reader.finish(pieces, used), reader.warnings


def read_header(stream: Stream) -> tuple[int, int, int]:
    """Return rows, dimension and length of the header line.

    Raises
    ------
    SourceError
        If there is no header, or a number in it is out of range.
    """
    match = HEADER.match(stream.head[:256])
    if not match:
        problem = "the header line has no newline" if HEADER_UNENDED.match(stream.head) else "there is no header line"
        raise SourceError(problem, path=stream.path, where="byte 0", expected="two integers and a newline",
                          found=show(stream.head[:24]), hint=_NOT_WORD2VEC)
    count, dim = match.groups()
    if len(count) > 19 or len(dim) > 19 or int(count) < 1:
        raise SourceError("the number of rows is out of range", path=stream.path, where="byte 0",
                          expected="1 or more", found=show(match.group().strip()), hint=_NOT_WORD2VEC)
    check_dim(int(dim), stream.path, "byte 0")
    return int(count), int(dim), match.end()


class _Reader:
    """Reads pieces of the file and checks that the rows agree with the header."""

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        self._stream = stream
        self._options = options
        self.warnings: list[str] = []
        self.promised, self.dim, self.header_size = read_header(stream)
        self._width = 4 * self.dim
        self._rows = 0
        self._newline = False  # whether one follows each row; see decide_newline
        self.full = False  # the limit of the options is reached
        self.stopped: int | None = None  # the kernel's reason why no further row was found
        least = self.header_size + self.promised * (self._width + 1)
        size = stream.content_size
        if size is not None and least > size and not options.allow_truncated:
            raise self._error("the file is too small for its header", 0, TRUNCATED,
                              expected=f"at least {least} bytes for {self.promised} rows of {self.dim} numbers",
                              found=size)
        self._table = TableBuilder(self.dim, options, stream.path, "byte")

    def _error(
        self, problem: str, byte: int, hint: str, *, expected: object = None, found: object = None
    ) -> SourceError:
        return SourceError(problem, path=self._stream.path, where=f"byte {byte}", expected=expected, found=found,
                           hint=_diagnosis(self._stream.head, self.header_size, self.dim) or hint)

    def decide_newline(self, pieces: Pieces, start: int) -> None:
        """Determine from rows 1 and 2 whether a newline follows each row."""
        if self._options.row_newline != "auto":
            self._newline = self._options.row_newline == "yes"
            return
        first = self._row_end(pieces, start)
        self._newline = first is not None and pieces.buffer[first] == 10
        if first is None or self.promised < 3:
            return
        second = self._row_end(pieces, first + self._newline)
        if second is not None and self._newline != (pieces.buffer[second] == 10):
            raise self._error("a newline follows only one of rows 1 and 2", pieces.base + second, _LEADING_NEWLINE)

    def _row_end(self, pieces: Pieces, start: int) -> int | None:
        """Return where the numbers of the row at `start` end, or None if nothing follows them."""
        space = pieces.buffer.find(b" ", start, min(pieces.stop, start + MAX_WORD + 1))
        end = space + 1 + self._width
        return end if space >= 0 and end < pieces.stop else None

    def take(self, pieces: Pieces, used: int) -> int:
        """Read the complete rows of ``buffer[used:]``; return where the first incomplete row begins."""
        from embshrink.kernels.word2vec import INCOMPLETE, read_rows

        most = (pieces.stop - used) // (self._width + 1) + 1
        if self._options.limit is not None:
            most = min(most, self._options.limit - self._rows)
        block = self._table.room(most, self._coming(pieces))
        starts, lengths = np.empty((2, most), dtype=np.int64)
        joined = np.empty(pieces.stop - used, dtype=np.uint8)
        refuse = not self._newline and self._options.row_newline == "auto"
        count, written, end, reason = read_rows(pieces.data, used, pieces.stop, pieces.last, self._newline, refuse,
                                                MAX_WORD, block.view(np.uint8), starts, lengths, joined)
        if reason != INCOMPLETE:
            self.stopped = reason
        block = block[:count]
        if sys.byteorder == "big":
            block.byteswap(inplace=True)
        words = Words.of_text(joined[:written], bounds_of(lengths[:count]))
        if not self._rows:
            self._check_byte_order(block[:1000], pieces.base + used)
        self._table.add_settled(block, words, starts[:count] + pieces.base)
        self._rows += count
        self.full = self._rows == self._options.limit
        return int(end)

    def _coming(self, pieces: Pieces) -> int:
        """Return how many rows may follow this piece, from the number of bytes that remain."""
        if self._stream.content_size is None:
            return 0
        rest = self._stream.content_size - (pieces.base + pieces.stop)
        return max(0, min(rest // (self._width + 1), self.promised - self._rows))

    def _check_byte_order(self, block: FloatArray, byte: int) -> None:
        share, swapped = _plausible(block), _plausible(block.byteswap())
        if share is not None and swapped is not None and share < 0.4 and swapped > 0.95:
            raise SourceError("the numbers are big-endian", path=self._stream.path, where=f"byte {byte}",
                              expected="little-endian float32", found="plausible numbers only in big-endian order",
                              hint="Write the file again in little-endian order, or as text.")

    def finish(self, pieces: Pieces, used: int) -> tuple[Words, Matrix]:
        """Check that the rows end where the file does; return words and matrix."""
        byte, rest = pieces.base + used, bytes(pieces.buffer[used : pieces.stop])
        if not self.full:
            self._check_end(byte, rest, pieces.last)
            check_count(self._rows, self._options, self._stream.path, f"byte {byte}")
        return self._table.finish(self.warnings)

    def _check_end(self, byte: int, rest: bytes, at_end: bool) -> None:
        """Check that the number of rows is that of the header, and that nothing follows them."""
        extra = self._rows - self.promised
        if extra < 0:
            self._check_missing(byte, rest)
        elif extra > 0:
            words = self._table.words
            added = words.part(max(0, len(words) - extra), len(words))
            if rest.strip(b"\n") or not at_end or not all(map(_is_sane, added.raw)):
                raise self._error("the data after the last row of the header are not rows", byte, _WRONG_HEADER,
                                  expected=f"the end of the file after {plural(self.promised, 'row')}",
                                  found=f"{plural(extra, 'possible row')}, then other bytes")
            self.warnings.append(note_count(self.promised, self._rows))
        elif rest == b"\n" and at_end:
            return
        elif len(rest) == 1 and at_end:
            self.warnings.append("ignored 1 byte after the last row")
        elif rest:
            raise self._error("bytes follow the last row", byte, _WRONG_HEADER,
                              expected=f"the end of the file after {plural(self.promised, 'row')}",
                              found=f"{len(rest)} bytes" + ("" if at_end else " or more"))

    def _check_missing(self, byte: int, rest: bytes) -> None:
        """Refuse a file with fewer rows than its header states, unless the options accept a truncated file."""
        from embshrink.kernels import word2vec as kernels

        row = f"row {self._rows + 1}"
        if self.stopped == kernels.LONG_WORD:
            raise self._error(f"no space ends the word of {row}", byte, _WRONG_HEADER,
                              expected=f"a space within {MAX_WORD} bytes", found=show(rest[:24]))
        if self.stopped == kernels.NO_NEWLINE:
            raise self._error(f"no newline follows {row}, unlike the rows before it", byte, _WRONG_HEADER,
                              expected="a newline after its numbers", found="another byte")
        if self.stopped == kernels.NEWLINE_IN_WORD:
            raise self._error(f"the word of {row} begins with a newline, unlike the words before it", byte,
                              _LEADING_NEWLINE)
        if not self._options.allow_truncated:
            raise self._error(f"the file ends in {row}", byte, TRUNCATED, expected=plural(self.promised, "row"),
                              found=f"{plural(self._rows, 'row')} and {plural(len(rest), 'byte')}")
        self.warnings.append(note_count(self.promised, self._rows)
                             + (f"; dropped {plural(len(rest), 'byte')} of an incomplete row" if rest else ""))


# ---------------------------------------------------------------- diagnosis of malformed files


def _is_sane(word: bytes) -> bool:
    return len(word) <= 256 and not _CONTROL.search(word)


def _plausible(values: FloatingArray) -> float | None:
    """Return the share of numbers whose size is plausible for word vectors, or None if there are too few to tell."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(values[values != 0].astype(np.float64))
    if sizes.size < 16:
        return None
    return float(np.mean((sizes > 1e-6) & (sizes < 1e3)))


def _diagnosis(head: bytes, start: int, dim: int) -> str | None:
    """Return a hint on the number type or dimension of the rows, if they differ from the header; else None."""
    def share(dtype: str, length: int) -> float:
        """Return the share of plausible numbers; 0 if the words are not plausible."""
        words, values = _walk(head, start, np.dtype(dtype), length)
        return (_plausible(values) or 0) if len(words) >= 3 and all(map(_is_sane, words)) else 0

    as_stated = share("<f4", dim)
    for kind, dtype, length in (("float64", "<f8", dim), ("float16", "<f2", dim), ("float32", "<f4", dim - 1),
                                ("float32", "<f4", dim + 1)):
        if share(dtype, length) > max(0.9, as_stated):
            return (f"The rows look like {length} numbers of {kind} each: write the file again as float32, "
                    "with a header that matches.")
    return None


def _walk(head: bytes, start: int, dtype: np.dtype[np.floating], dim: int) -> tuple[list[bytes], FloatingArray]:
    """Return the first words and vectors, read as `dim` numbers of `dtype` each."""
    words: list[bytes] = []
    vectors: list[FloatingArray] = []
    if 1 <= dim <= MAX_DIM:
        while len(words) < 20:
            start += head[start : start + 1] == b"\n"
            space = head.find(b" ", start)
            end = space + 1 + dim * dtype.itemsize
            if space < 0 or end > len(head):
                break
            words.append(head[start:space])
            vectors.append(np.frombuffer(head[space + 1 : end], dtype=dtype))
            start = end
    return words, np.array(vectors)


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the binary format, with a newline after each row. See `embshrink.formats.write_vectors`."""
    file.write(b"%d %d\n" % (len(outgoing.words), outgoing.dim))
    write_rows(file, outgoing)


def write_rows(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the rows without a header."""
    row, width, words = 0, 4 * outgoing.dim, outgoing.words.in_memory()
    for block in outgoing.blocks:
        numbers = block.astype("<f4", copy=False).tobytes()
        rows = []
        for i, word in enumerate(words.part(row, row + len(block)).raw):
            if b" " in word or word.startswith(b"\n"):
                raise TargetError(f"the word {show(word)} contains a space or begins with a newline, which the "
                                  "word2vec binary format cannot store", hint=WRITE_TEXT)
            rows.append(b"%s %s\n" % (word, numbers[i * width : (i + 1) * width]))
        file.write(b"".join(rows))
        row += len(block)
