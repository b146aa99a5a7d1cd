"""Text: one word and its numbers per line, as GloVe, word2vec and fastText (.vec) write it.

Lines are parsed as bytes. A line ends at a newline, exactly one space (0x20) separates two fields, and the numbers
are the last `d` fields: everything before them is the word, which may contain spaces. The first line may be a header,
``rows d``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.pieces import Pieces
from embshrink.formats.io.table_builder import (
    INCOMPLETE,
    MAX_WORD,
    RIGHT_FILE,
    SHOWN,
    TRUNCATED,
    WRITE_BINARY,
    TableBuilder,
    check_count,
    check_dim,
    note_count,
    plural,
    show,
)
from embshrink.numerics.arrays import MAX_DIM
from embshrink.numerics.parallel import map_blocks, one_blas_thread
from embshrink.storage.arrays import BoolArray, ByteArray, FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix
from embshrink.vocabulary.buffer import bounds_of
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

PIECE = 16 << 20  # holds the first rows, whatever their lengths
PART = 1 << 20
MAX_LINE = 4 << 20
HEAD_ROWS = 1000
BOM = b"\xef\xbb\xbf"

HEADER = re.compile(rb" *([+-]?\d+) +([+-]?\d+) *\r?")
# Decimal numbers as C's strtod reads them; Python's float() accepts more.
DECIMAL = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
NONFINITE = re.compile(rb"[+-]?(?:inf(?:inity)?|nan(?:\([a-z0-9_]*\))?|1\.#(?:inf|ind|qnan|snan)\d*)", re.IGNORECASE)

_SKIP_HINT = "Correct the row, or skip malformed rows with --skip-bad-rows N (skip_bad_rows=N)."
_CARRIAGE = "Some lines end in a carriage return (CR): convert all line ends to newlines (LF)."
_CONFLICT = "Resolve the conflict, or check the file out again."


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read a text file of vectors.

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
        Every number is ``numpy.float32(float(text))``, bit for bit.
    warnings : list of str

    Raises
    ------
    SourceError
        If the file is malformed; the message states line, byte, what was expected and what was found.
    """
    with Pieces(stream, PIECE, MAX_LINE) as pieces, one_blas_thread():
        warnings: list[str] = []
        layout = _layout(pieces, options, stream.path, warnings)
        return *read_rows(pieces, layout, options, stream, warnings, progress), warnings


def read_rows(
    pieces: Pieces, layout: Layout, options: ReadOptions, stream: Stream, warnings: list[str],
    progress: Progress | None = None, check: Callable[[Words], None] | None = None,
) -> tuple[Words, Matrix]:
    """Read the rows of a text file, from the first one on; return words and matrix.

    Parameters
    ----------
    pieces : embshrink.formats.io.pieces.Pieces
        Its first piece is current.
    layout : Layout
    options, stream, progress
        As for `read`.
    warnings : list of str
        New warnings are appended.
    check : callable, optional
        Called with all words, before repeated ones are dropped.
    """
    reader = _Reader(layout, options, stream, warnings)
    used = layout.start
    while True:
        used = reader.take(pieces, used)
        if progress:
            progress("read", stream.done, stream.size)
        if pieces.last or reader.full:
            break
        used = pieces.advance(used)
    if check is not None:
        check(reader.words)
    return reader.finish(pieces.last)


# ---------------------------------------------------------------- the first rows


@dataclass(frozen=True)
class Layout:
    """Where a text file's rows are, and what they look like.

    Parameters
    ----------
    dim : int
        Numbers in a row.
    promised : int or None
        Number of rows that the header states; None without a header.
    carriage : bool
        Whether lines end in a carriage return and a newline.
    start : int
        Where the first row begins in the first piece.
    """

    dim: int
    promised: int | None
    carriage: bool
    start: int


def _layout(pieces: Pieces, options: ReadOptions, path: str, warnings: list[str]) -> Layout:
    """Determine the dimension, and whether there is a header, from the first 1,000 rows."""
    start = pieces.start
    if pieces.buffer[start : start + 3] == BOM:
        start += 3
        warnings.append("skipped the UTF-8 byte order mark at the start of the file; it is not part of a word")
    lines = _first_lines(pieces, start)
    rows = [line for line in lines if line.strip(b" \r")]
    if not rows:
        _too_long(pieces, start, path, 1)
        raise SourceError("the file has no rows", path=path, where="line 1", expected="a word and its numbers",
                          found="empty lines", hint=INCOMPLETE)
    header = _find_header(lines[0], rows, options, path)
    if header is not None:
        promised, dim = header
        carriage = all(row.endswith(b"\r") for row in rows[1:])
        if not re.fullmatch(rb"\d+ \d+\r?", lines[0]):
            warnings.append(f"the header has extra spaces or signs; it is read as {plural(promised, 'row')} of "
                            f"dimension {dim}")
        return Layout(dim, promised, carriage, start + len(lines[0]) + 1)
    carriage = all(row.endswith(b"\r") for row in rows)
    dim = _common_fields(rows, carriage) - 1
    if dim < 1:
        hint = f"{RIGHT_FILE} Each line of a text file is a word and its numbers, separated by single spaces."
        if b"\r" in rows[0]:
            hint = _CARRIAGE
        raise SourceError("no numbers follow the word", path=path, where=f"line 1, byte {start}",
                          expected="a word and its numbers", found=show(rows[0]), hint=hint)
    check_dim(dim, path, f"line 1, byte {start}")
    return Layout(dim, None, carriage, start)


def _find_header(first: bytes, rows: list[bytes], options: ReadOptions, path: str) -> tuple[int, int] | None:
    """Return rows and dimension from the header, or None if there is no header.

    Parameters
    ----------
    first : bytes
        The first line.
    rows : list of bytes
        The first lines that are not blank.
    options : ReadOptions
    path : str
        For messages.
    """
    match = HEADER.fullmatch(first) if rows[0] is first and options.header != "no" else None
    if options.header == "yes" and not match:
        raise SourceError("line 1 is not a header", path=path, where="line 1, byte 0",
                          expected="two integers: rows and dimension", found=show(first),
                          hint="Remove --header yes (header='yes').")
    if not match:
        return None
    if len(rows) == 1:
        raise SourceError("nothing follows the header", path=path, where="line 1, byte 0", expected="rows",
                          found=show(first),
                          hint="Download the file again; if this line is a word and one number, use --header no "
                               "(header='no').")
    return _checked_header(match, rows[1:], options, path)


def _first_lines(pieces: Pieces, start: int) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) <= HEAD_ROWS and start < pieces.stop:
        end = pieces.buffer.find(b"\n", start, pieces.stop)
        if end < 0:
            if not pieces.last:
                break
            end = pieces.stop
        lines.append(bytes(pieces.buffer[start:end]))
        start = end + 1
    return lines


def _fields(row: bytes, carriage: bool) -> list[bytes]:
    """Return the fields of a line; a space at its end, which some tools write, is not a field."""
    if carriage and row.endswith(b"\r"):
        row = row[:-1]
    return (row[:-1] if row.endswith(b" ") else row).split(b" ")


def _common_fields(rows: list[bytes], carriage: bool) -> int:
    """Return the most common number of fields in a line; the smallest one if several are equally common."""
    counts = Counter(len(_fields(row, carriage)) for row in rows)
    most = max(counts.values())
    return min(count for count, times in counts.items() if times == most)


def _checked_header(
    match: re.Match[bytes], rows: list[bytes], options: ReadOptions, path: str
) -> tuple[int, int] | None:
    """Return rows and dimension, or None if the line is the first row of a table with one column."""
    carriage = rows[0].endswith(b"\r")
    fields = _fields(rows[0], carriage)
    if all(len(number) < 20 for number in match.groups()):
        count, dim = map(int, match.groups())
        extra = len(fields) - 1 - dim
        fits = dim >= 1 and (extra == 0 or (
            extra > 0 and all(map(DECIMAL.fullmatch, fields[-dim:])) and not DECIMAL.fullmatch(fields[-dim - 1])))
        if count >= 0 and 1 <= dim <= MAX_DIM and (fits or options.header == "yes"):
            return count, dim
    if options.header == "auto" and _common_fields(rows, carriage) == 2 and len(fields) == 2:
        return None
    raise SourceError("the header does not match the rows", path=path, where="line 1, byte 0",
                      expected=f"the number of rows, and the dimension {len(fields) - 1} of line 2",
                      found=show(match.group().strip()),
                      hint="Correct the header; if this line is a word and one number, use --header no "
                           "(header='no').")


def _too_long(pieces: Pieces, start: int, path: str, line: int) -> None:
    """Refuse the line that begins at `start` if it is too long."""
    if pieces.stop - start > MAX_LINE:
        raise SourceError("the line is too long", path=path, where=f"line {line}, byte {pieces.base + start}",
                          expected=f"at most {MAX_LINE} bytes", found="more",
                          hint=f"{RIGHT_FILE} It does not look like a text file of vectors.")


# ---------------------------------------------------------------- rows


class _BadRow(Exception):
    """A malformed row, with the parts of its error message."""

    def __init__(self, problem: str, hint: str, *, expected: object = None, found: object = None) -> None:
        self.problem, self.hint, self.expected, self.found = problem, hint, expected, found

    def error(self, path: str, where: str) -> SourceError:
        """Return the error for the row."""
        return SourceError(self.problem, path=path, where=where, expected=self.expected, found=self.found,
                           hint=self.hint)


def reread(line: bytes, dim: int) -> tuple[bytes, FloatArray]:
    """Parse one row by all rules, in Python; used for rows that the kernel does not recognize as plain.

    Parameters
    ----------
    line : bytes
        Without the end of the line.
    dim : int
        Numbers in a row.

    Returns
    -------
    word : bytes
    values : numpy.ndarray, shape (dim,), float32
        NaN or infinite if the number is, or is too large for float32.

    Raises
    ------
    _BadRow
        If the row has too few fields or a field that is not a number.
    """
    fields = (line[:-1] if line.endswith(b" ") else line).rsplit(b" ", dim)
    if b"\0" in line:
        raise _BadRow("the row contains NUL bytes", INCOMPLETE, found=show(line))
    if line.startswith((b"<<<<<<< ", b">>>>>>> ")) or line == b"=======":
        raise _BadRow("this line is a git conflict marker", _CONFLICT, found=show(line))
    if len(fields) <= dim:
        raise _BadRow("the row is too short", _SKIP_HINT, expected=f"a word and {dim} numbers",
                      found=f"{plural(len(fields), 'field')}, the first {show(fields[0])}")
    values = np.empty(dim)
    for column, field in enumerate(fields[1:]):
        if DECIMAL.fullmatch(field):
            values[column] = float(field)
        elif NONFINITE.fullmatch(field):
            values[column] = np.nan
        else:
            raise _not_a_number(fields[0], column, field)
    with np.errstate(over="ignore"):
        return fields[0], values.astype(np.float32)


def _not_a_number(word: bytes, column: int, field: bytes) -> _BadRow:
    hint = _SKIP_HINT
    if b"," in field:
        hint = "Numbers need a decimal point, not a comma. " + hint
    elif b"\r" in field:
        hint = _CARRIAGE
    return _BadRow(f"number {column + 1} of the word {show(word)} is not a decimal number", hint,
                   expected="a number such as -0.125 or 1e-05", found=show(field))


@dataclass
class _Lines:
    """Lines of a piece, as the kernel split them.

    Parameters
    ----------
    pieces : Pieces
    first : int
        Number of the first line, from 1 on.
    starts, word_ends, ends : numpy.ndarray, shape (k,), int64
        Where each line begins in the piece, where its word ends, and where the line ends.
    status : numpy.ndarray, shape (k,), uint8
        Flags of the kernel: ``ODD``, ``LONG``, ``TRAILING``.
    """

    pieces: Pieces
    first: int
    starts: IntArray
    word_ends: IntArray
    ends: IntArray
    status: ByteArray

    def __len__(self) -> int:
        return len(self.status)

    def where(self, row: int) -> str:
        """Return the place of a line for messages."""
        return f"line {self.first + row}, byte {self.pieces.base + self.starts[row]}"

    def line(self, row: int) -> bytes:
        """Return a line without its newline."""
        return bytes(self.pieces.buffer[self.starts[row] : self.ends[row]])

    def word(self, row: int) -> bytes:
        """Return the word of a line."""
        return bytes(self.pieces.buffer[self.starts[row] : self.word_ends[row]])


class _Noted:
    """Counts faults, and keeps the first ones for a warning."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[str] = []

    def add(self, text: str) -> None:
        """Count one fault."""
        self._count += 1
        if len(self._first) < SHOWN:
            self._first.append(text)

    def __len__(self) -> int:
        return self._count

    def __str__(self) -> str:
        return "; ".join(self._first) + ("; ..." if self._count > SHOWN else "")


class _Reader:
    """Reads pieces of the file, and counts lines, malformed rows and doubtful rows."""

    def __init__(self, layout: Layout, options: ReadOptions, stream: Stream, warnings: list[str]) -> None:
        self._dim = layout.dim
        self._layout = layout
        self._options = options
        self._path = stream.path
        self._content_size = stream.content_size
        self._warnings = warnings
        self._table = TableBuilder(layout.dim, options, stream.path, "line")
        self._line = 1 if layout.promised is None else 2  # number of the next line
        self._rows = 0  # rows so far, including malformed ones
        self._blank: tuple[int, int] | None = None  # line and byte of the first blank line, if no row followed
        self._skipped = _Noted()
        self._long = _Noted()
        self._trailing = 0
        self._final_newline = True
        self.full = False

    @property
    def words(self) -> Words:
        """The words of the rows kept so far."""
        return self._table.words

    def take(self, pieces: Pieces, used: int) -> int:
        """Read the complete lines of ``buffer[used:]``; return where the first incomplete line begins."""
        end = self._last_line_end(pieces, used)
        while used < end and not self.full:
            cuts, bounds = self._some_lines(pieces, used, end)
            self._keep(*self._parse(pieces, cuts, bounds))
            used = cuts[-1]
        return end

    def _last_line_end(self, pieces: Pieces, used: int) -> int:
        """Return where the last complete line from `used` on ends; `used` if there is none."""
        buffer = pieces.buffer
        end = pieces.stop if pieces.last else buffer.rfind(b"\n", used, pieces.stop) + 1
        if not pieces.last and pieces.stop - max(end, used) > MAX_LINE:
            _too_long(pieces, max(end, used), self._path, self._line + buffer.count(b"\n", used, pieces.stop))
        if pieces.last and end > used and buffer[end - 1] != 10:
            buffer[end] = 10
            end += 1
            self._final_newline = False
        return max(end, used)

    def _some_lines(self, pieces: Pieces, used: int, end: int) -> tuple[list[int], IntArray]:
        """Return the next lines, in parts: the bounds of the parts in bytes, and in lines.

        They are no more than a piece holds if they have numbers, so that short lines take no more memory.
        """
        from embshrink.kernels.text import count_lines

        cuts = [used]
        while cuts[-1] < end:
            cuts.append(pieces.buffer.find(b"\n", min(cuts[-1] + PART, end - 1)) + 1)
        counts = map_blocks(lambda part, _: count_lines(pieces.data, cuts[part], cuts[part + 1]), len(cuts) - 1, 1)
        bounds = np.cumsum([0, *counts])
        most = PIECE // (2 * self._dim + 1) + 1
        if bounds[-1] > most:
            parts = max(1, int(np.searchsorted(bounds, most, side="right")) - 1)
            cuts, bounds = cuts[: parts + 1], bounds[: parts + 1]
            if bounds[-1] > most:  # one part, of very short lines
                newlines = np.flatnonzero(pieces.data[cuts[0] : cuts[1]] == 10)
                cuts, bounds = [cuts[0], cuts[0] + int(newlines[most - 1]) + 1], np.array([0, most])
        return cuts, bounds

    def _parse(self, pieces: Pieces, cuts: list[int], bounds: IntArray) -> tuple[FloatArray, _Lines]:
        """Parse lines, up to the limit of the options, with a kernel on all cores."""
        from embshrink.kernels.text import parse_rows

        count = int(bounds[-1])
        if self._options.limit is not None:
            count = min(count, self._options.limit - self._rows)
            self.full = self._rows + count == self._options.limit

        matrix = self._table.room(count, self._coming(pieces.base + cuts[-1], cuts[-1] - cuts[0], count))
        starts, word_ends, ends = (np.empty(count, dtype=np.int64) for _ in range(3))
        lines = _Lines(pieces, self._line, starts, word_ends, ends, np.empty(count, dtype=np.uint8))

        def parse(part: int, _: int) -> None:
            rows = slice(bounds[part], bounds[part + 1])  # ends at count, if that is less
            parse_rows(pieces.data, cuts[part], self._layout.carriage, matrix[rows], starts[rows], word_ends[rows],
                       ends[rows], lines.status[rows])

        map_blocks(parse, len(cuts) - 1, 1)
        return matrix, lines

    def _coming(self, end: int, size: int, count: int) -> int:
        """Estimate how many rows follow the byte `end`, from the number of bytes that remain."""
        if self._content_size is None or self.full:
            return 0
        rest = self._content_size - end
        return max(0, min(rest * count // size * 51 // 50, rest // (2 * self._dim)))

    def _keep(self, matrix: FloatArray, lines: _Lines) -> None:
        """Add the rows that the kernel parsed to the table, after parsing odd ones again."""
        from embshrink.kernels.text import LONG, ODD, TRAILING, copy_words

        starts, ends, status = lines.starts, lines.ends, lines.status
        keep = np.ones(len(lines), dtype=bool)
        for row in self._leave_blank_out(np.flatnonzero(status & ODD), lines, keep):
            self._settle(row, matrix, lines, keep)
        self._rows += len(lines) - int(np.count_nonzero(starts == ends))
        self._trailing += int(np.count_nonzero(status & TRAILING))
        lengths = np.where(keep, lines.word_ends - starts, 0)
        for row in np.flatnonzero((lengths > MAX_WORD) | (ends - starts > MAX_LINE))[:1].tolist():
            raise SourceError("the row is too long", path=self._path, where=lines.where(row),
                              expected=f"a word of at most {MAX_WORD} bytes in a line of at most {MAX_LINE}",
                              found=f"a word of {lengths[row]} in a line of {ends[row] - starts[row]}",
                              hint=RIGHT_FILE)
        for row in np.flatnonzero((status & ODD == 0) & (status & LONG != 0)).tolist():
            self._note_long(row, lines)
        joined = np.empty(int(lengths.sum()), dtype=np.uint8)
        copy_words(lines.pieces.data, starts[keep], lines.word_ends[keep], joined)
        words = Words.of_text(joined, bounds_of(lengths[keep]))
        self._table.add(matrix, keep, words, np.arange(self._line, self._line + len(lines)))
        self._line += len(lines)

    def _leave_blank_out(self, odd: IntArray, lines: _Lines, keep: BoolArray) -> list[int]:
        """Return the odd rows that are not blank lines at the end of the file."""
        blank = odd[lines.starts[odd] == lines.ends[odd]]
        if self._blank and len(blank) < len(lines):
            line, byte = self._blank
            self._blank_inside(f"line {line}, byte {byte}")
            self._blank = None
        keep[blank] = False
        filled = np.flatnonzero(keep)
        last = filled[-1] if len(filled) else -1
        for row in blank[blank < last].tolist():
            self._blank_inside(lines.where(row))
        after = blank[blank > last]
        if len(after) and self._blank is None:
            self._blank = (lines.first + int(after[0]), lines.pieces.base + int(lines.starts[after[0]]))
        rest: list[int] = odd[keep[odd]].tolist()
        return rest

    def _blank_inside(self, where: str) -> None:
        self._fault(where, _BadRow("the line is empty, but rows follow it", _SKIP_HINT,
                                   expected=f"a word and {self._dim} numbers", found="an empty line"))

    def _settle(self, row: int, matrix: FloatArray, lines: _Lines, keep: BoolArray) -> None:
        """Parse a row again by all rules."""
        where = lines.where(row)
        try:
            word, matrix[row] = reread(lines.line(row), self._dim)
        except _BadRow as bad:
            keep[row] = False
            cut = lines.pieces.last and not self._final_newline and row == len(lines) - 1
            if cut and self._options.allow_truncated:
                self._warnings.append(f"dropped the last row, which is incomplete ({where})")
                return
            if cut and bad.hint is _SKIP_HINT:
                bad.hint = ("The file ends in this row: download it again, or drop the row with --allow-truncated "
                            "(allow_truncated=True).")
            self._fault(where, bad)
            return
        lines.word_ends[row] = lines.starts[row] + len(word)
        if not np.isfinite(matrix[row]).all():
            self._table.settle_nonfinite(matrix, keep, np.array([row]), [where], [word])
        if keep[row] and DECIMAL.fullmatch(word.rpartition(b" ")[2]) and b" " in word:
            self._note_long(row, lines)

    def _note_long(self, row: int, lines: _Lines) -> None:
        where, word = lines.where(row), lines.word(row)
        if self._options.strict:
            raise SourceError("the row may have one number too many", path=self._path, where=where,
                              expected=f"a word and {self._dim} numbers", found=f"the word {show(word)}",
                              hint="Correct the row; without --strict (strict=True) the word may contain a space.")
        self._long.add(f"{where}: {show(word)}")

    def _fault(self, where: str, bad: _BadRow) -> None:
        """Skip a malformed row, or refuse the file, as the options say."""
        if len(self._skipped) >= self._options.skip_bad_rows:
            raise bad.error(self._path, where)
        self._skipped.add(f"{where}: {bad.problem}")

    def finish(self, at_end: bool) -> tuple[Words, Matrix]:
        """Check the number of rows, append warnings; return words and matrix."""
        warnings, options = self._warnings, self._options
        if not self.full:
            self._check_counts(self._layout.promised)
            check_count(self._rows, options, self._path, f"line {self._line - 1}")
        if self._blank and at_end:
            count = self._line - self._blank[0]
            warnings.append(f"ignored {plural(count, 'empty line')} at the end of the file")
        if not self._final_newline:
            warnings.append("the last line has no newline; if the file is truncated, the last number may be wrong")
        if 0 < self._trailing < self._rows:
            warnings.append(f"ignored a space at the end of {self._trailing} of {self._rows} rows")
        for noted, text in (
            (self._skipped, f"skipped {plural(len(self._skipped), 'malformed row')}"),
            (self._long, f"{plural(len(self._long), 'row')} may have one number too many, because the word contains "
                         "a space and ends in a number"),
        ):
            if len(noted):
                warnings.append(f"{text} ({noted})")
        return self._table.finish(warnings)

    def _check_counts(self, promised: int | None) -> None:
        if promised is None or promised == self._rows:
            return
        if self._rows < promised and not self._options.allow_truncated:
            raise SourceError("the file has fewer rows than its header states", path=self._path,
                              where=f"line {self._line - 1}", expected=plural(promised, "row"), found=self._rows,
                              hint=TRUNCATED)
        self._warnings.append(note_count(promised, self._rows))


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write GloVe's text format, without a header. See `embshrink.formats.write_vectors`."""
    spaces = Counter(word.count(b" ") for word in outgoing.words.in_memory().part(0, HEAD_ROWS).raw)
    if min(count for count, times in spaces.items() if times == max(spaces.values())):
        raise TargetError("most of the first words contain spaces, and a file without a header cannot store them",
                          hint="Choose the format word2vec-text, which has a header.")
    write_rows(file, outgoing)


def write_with_header(file: OutputFile, outgoing: Outgoing) -> None:
    """Write word2vec's text format: a header, then rows as `write`. See `embshrink.formats.write_vectors`."""
    file.write(b"%d %d\n" % (len(outgoing.words), outgoing.dim))
    write_rows(file, outgoing)


def write_rows(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the rows alone, of either text format."""
    row, words = 0, outgoing.words.in_memory()
    for block in outgoing.blocks:
        numbers = block.astype("S20")  # the shortest decimal that gives the same float32
        lines = []
        for word, fields in zip(words.part(row, row + len(block)).raw, numbers.tolist()):
            if b"\n" in word:
                raise TargetError(f"the word {show(word)} contains a newline, which a text file cannot store",
                                  hint=WRITE_BINARY)
            lines.append(b"%s %s\n" % (word, b" ".join(fields)))
        file.write(b"".join(lines))
        row += len(block)
