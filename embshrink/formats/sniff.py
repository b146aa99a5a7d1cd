"""Detects the format of a file from its first bytes; for other kinds of files, states the kind and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats.fasttext import is_model
from embshrink.formats.finalfusion import is_finalfusion
from embshrink.formats.floret import is_table
from embshrink.formats.io.stream import Folder, Stream
from embshrink.formats.io.table_builder import INCOMPLETE, RIGHT_FILE
from embshrink.formats.navec import is_navec
from embshrink.formats.spacy import is_vocab
from embshrink.formats.text import DECIMAL
from embshrink.formats.text import HEADER as TEXT_HEADER
from embshrink.formats.word2vec import HEADER, HEADER_UNENDED
from embshrink.storage.container import MAGIC

_AS_TEXT = "Convert it to word2vec text first: a word and its numbers in each line."
_FETCH = "Download the file itself, not the web page about it."
_UNPACK = "Unpack it and give the path of the file inside."
_PICKLE = "If gensim saved it and you trust it, use --from gensim; unpickling runs code from the file."

# First bytes of a file, what the file is, and what to do.
_MAGICS = (
    (b"PAR1", "a Parquet file", _AS_TEXT),
    (b"\x93NUMPY", "a numpy .npy array, without words", _AS_TEXT),
    (b"SQLite format 3\0", "an SQLite database (as .magnitude files are)", _AS_TEXT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _AS_TEXT),
    (b"%PDF-", "a PDF document", _FETCH),
    (b"version https://git-lfs", "a git LFS pointer, not the file itself", "Download the file with: git lfs pull"),
    (b"ARROW1", "an Arrow file", _AS_TEXT),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK),
    (b"\xff\xfe\0\0", "text in UTF-32", "Convert it to UTF-8, with: iconv -f utf-32 -t utf-8"),
    (b"\0\0\xfe\xff", "text in UTF-32", "Convert it to UTF-8, with: iconv -f utf-32 -t utf-8"),
    (b"\xff\xfe", "text in UTF-16", "Convert it to UTF-8, with: iconv -f utf-16 -t utf-8"),
    (b"\xfe\xff", "text in UTF-16", "Convert it to UTF-8, with: iconv -f utf-16 -t utf-8"),
)
_PICKLE_EARLY = re.compile(rb"\((?:lp|dp|i)\d|c[\w.]+\n\w+\n|[\]}]q\x00")
_HTML = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml|script|!--)", re.IGNORECASE)
_JSON = re.compile(rb'\s*[\[{]\s*["\[{\]}]|\s*\[\s*-?\d')
_SPARSE = re.compile(rb"\d+:[-+\d.eE]+")
_QUOTED = re.compile(rb'"(?:[^"]|"")*"[,;\t]')
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1b\x7f]")


def identify(stream: Stream | Folder) -> str:
    """Return the name of a source's format, as in `embshrink.formats.FORMATS`.

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream or embshrink.formats.io.stream.Folder

    Returns
    -------
    str

    Raises
    ------
    SourceError
        If it is not a format that embshrink reads; the message states what it is and what to do.
    """
    if isinstance(stream, Folder):
        if is_vocab(stream):
            return "spacy"
        raise SourceError("this is a folder", path=stream.path, expected="a file, or a spaCy vocab folder",
                          hint="Give the path of a file, or of a spaCy pipeline.")
    head = stream.head
    if not head:
        raise SourceError("the file is empty", path=stream.path, where="byte 0", expected="words and vectors",
                          found="0 bytes", hint="Download the file again.")
    for name, recognized in _RECOGNIZED:
        if recognized(head):
            return name
    found = _name(head, len(head) == stream.content_size)
    if found:
        what, hint = found
        raise SourceError(f"this is {what}", path=stream.path, where="byte 0", expected="words and vectors",
                          hint=hint)
    return "word2vec" if _is_word2vec(head, stream.content_size) else "text"


# Formats whose first bytes are unmistakable.
_RECOGNIZED: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("ems", lambda head: head.startswith(MAGIC)),
    ("fasttext", is_model),
    ("finalfusion", is_finalfusion),
    ("navec", is_navec),
    ("floret", is_table),
)


# ---------------------------------------------------------------- formats that are not read


def _name(head: bytes, whole: bool) -> tuple[str, str] | None:
    """Return what a file is and what to do, if it is not a format that embshrink reads; else None.

    Parameters
    ----------
    head : bytes
        The first bytes of the file.
    whole : bool
        Whether `head` is the whole file.
    """
    for magic, what, hint in _MAGICS:
        if head.startswith(magic):
            return what, hint
    for what, hint, holds in _BINARY_RULES:
        if holds(head):
            return what, hint
    lines = head.split(b"\n")
    if not (_ends_in_number(lines[0]) or HEADER_UNENDED.match(head)):
        binary = _name_binary(head)
        if binary:
            return binary
    if not whole and len(lines) > 1:
        lines.pop()  # it may go on
    lines = [line.rstrip(b"\r") for line in lines if line.strip()]
    if not lines:
        return None
    sample = _Sample(lines)
    return next(((what, hint) for what, hint, holds in _TEXT_RULES if holds(sample)), None)


def _is_utf16(head: bytes) -> bool:
    """Whether every second byte is 0, as in UTF-16 text without a byte order mark."""
    zeros = [head[i:64:2].count(0) / max(1, len(head[i:64:2])) for i in (0, 1)]
    return len(head) >= 8 and min(zeros) < 0.2 and max(zeros) > 0.8


# What the file is, what to do, and a test of its first bytes. The first rule that holds counts.
_BINARY_RULES: tuple[tuple[str, str, Callable[[bytes], bool]], ...] = (
    ("a tar archive", _UNPACK, lambda head: head[257:262] == b"ustar"),
    ("a pickle", _PICKLE, lambda head: bool(re.match(rb"\x80[\x02-\x05]", head) or _PICKLE_EARLY.match(head))),
    ("a safetensors file", _AS_TEXT,
     lambda head: head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000),
    ("text in UTF-16", "Convert it to UTF-8, with: iconv -f utf-16le -t utf-8 (or utf-16be)", _is_utf16),
)


class _Sample:
    """The first lines of a text file.

    Parameters
    ----------
    lines : list of bytes
        At least one line; none is blank.

    Attributes
    ----------
    start : bytes
        The first three lines.
    starts_with_row : bool
        Whether the first line ends in a number: then it is a row, whatever its word.
    rows : list of bytes
        The first 100 lines, without a header.
    """

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.start = b"\n".join(lines[:3])
        self.starts_with_row = _ends_in_number(lines[0])
        self.rows = (lines[1:] if TEXT_HEADER.fullmatch(lines[0]) and len(lines) > 1 else lines)[:100]

    def has_conflict(self) -> bool:
        """Whether there are git conflict markers."""
        return any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) and line.count(b" ") == 1 for line in self.lines)

    def is_sparse(self) -> bool:
        """Whether all rows end in pairs ``index:value``."""
        return all(row.count(b":") >= 2 and all(map(_SPARSE.fullmatch, row.split()[-2:])) for row in self.rows)

    def is_quoted(self) -> bool:
        """Whether all rows begin with a quoted word."""
        return all(map(_QUOTED.match, self.rows))

    def is_separated_by(self, separator: bytes) -> bool:
        """Whether `separator` precedes the first number of every row, where a space is expected."""
        return all(_is_row_separated_by(row, separator) for row in self.rows)

    def lacks_words(self) -> bool:
        """Whether all rows are numbers only, and none begins with an integer, which could be a word."""
        return len(self.rows) >= 3 and all(
            b"." in row.split(b" ")[0] and all(map(DECIMAL.fullmatch, row.split())) for row in self.rows)


# What the file is, what to do, and a test of its first lines. The first rule that holds counts.
_TEXT_RULES: tuple[tuple[str, str, Callable[[_Sample], bool]], ...] = (
    ("an HTML or XML page", _FETCH, lambda text: not text.starts_with_row and bool(_HTML.match(text.start))),
    ("JSON", _AS_TEXT, lambda text: not text.starts_with_row and bool(_JSON.match(text.start))),
    ("a file with git conflict markers", "Resolve the conflict, or check the file out again.",
     _Sample.has_conflict),
    ("sparse text, with index:value pairs", "Write all values of each row, separated by spaces.", _Sample.is_sparse),
    ("CSV with quotes", "Remove the quotes and replace the commas with spaces.", _Sample.is_quoted),
    ("a table with columns separated by tabs", "Replace the tabs with spaces.",
     lambda text: text.is_separated_by(b"\t")),
    ("a table with columns separated by commas", "Replace the commas with spaces.",
     lambda text: text.is_separated_by(b",")),
    ("a table with columns separated by semicolons", "Replace the semicolons with spaces.",
     lambda text: text.is_separated_by(b";")),
    ("a table of numbers, without words", "Put the word of each row in front of its numbers.", _Sample.lacks_words),
)


def _ends_in_number(line: bytes) -> bool:
    return bool(DECIMAL.fullmatch(line.rstrip(b" \r").rpartition(b" ")[2]))


def _is_row_separated_by(row: bytes, separator: bytes) -> bool:
    fields = row.split(separator)
    values = fields[-1].split(b" ")
    return len(fields) > 1 and bool(DECIMAL.fullmatch(values[0])) and all(
        DECIMAL.fullmatch(value) for value in values[1:] if value)


def _name_binary(head: bytes) -> tuple[str, str] | None:
    """Return what a file of raw numbers or other binary data is, and what to do; None if it may be text."""
    start = head[:4096]
    if not start.strip(b"\0"):
        return "a file of NUL bytes only", INCOMPLETE
    if len(_CONTROL.findall(start)) < max(2, len(start) // 20):
        return None
    for dtype, what in (("<f8", "raw float64 numbers without words, like GloVe's own .bin files"),
                        ("<f4", "raw float32 numbers without words")):
        values = np.frombuffer(start[: len(start) // 8 * 8], dtype=dtype)
        with np.errstate(invalid="ignore"):
            sizes = np.abs(values[values != 0].astype(np.float64))
        if sizes.size >= 4 and np.mean((sizes > 1e-6) & (sizes < 1e3)) > 0.9:
            return what, "Use the text file that belongs to it: it has the words."
    return "binary data of an unknown format", RIGHT_FILE


def _is_word2vec(head: bytes, size: int | None) -> bool:
    """Whether this is word2vec's binary format, not its text format: both begin with the same header."""
    header = HEADER.match(head[:256])
    if not header:
        return bool(HEADER_UNENDED.match(head) and _CONTROL.search(head))
    body = head[header.end() :]
    line = body.split(b"\n", 1)[0]
    fields = line.rstrip(b"\r ").split(b" ")
    if len(fields) > 1 and all(map(DECIMAL.fullmatch, fields[1:])):
        return False
    if _CONTROL.search(body):
        # Text may hold control characters in words, but not after the first space of most lines.
        rows = [row for row in body.split(b"\n")[:100] if row]
        return sum(map(_ends_in_number, rows)) < len(rows) / 2
    return len(head) == size and _ends_with_rows(body, *header.groups())


def _ends_with_rows(body: bytes, *header: bytes) -> bool:
    """Whether the rows that the header states end exactly at the end of a small file."""
    if any(len(number) >= 20 for number in header):  # no file has this many rows
        return False
    count, dim = map(int, header)
    if count < 1 or dim < 1:
        return False
    start = 0
    for _ in range(count):
        space = body.find(b" ", start)
        start = space + 1 + 4 * dim
        if space < 0 or start > len(body):
            return False
        if body[start : start + 1] == b"\n":
            start += 1
    return start == len(body)
