"""What a file is, by its first bytes: a format we read, or a sentence on what it is and what to do."""

from __future__ import annotations

import re
import struct

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats import fasttext, finalfusion, floret, navec, spacy, text, word2vec
from embshrink.formats.io.stream import Folder

EMS = b"\x89EMS\r\n\x1a\n"

_AS_TEXT = "Write words and vectors as word2vec text and read that."
_FETCH = "Fetch the file itself, not a page about it."
_UNPACK = "Unpack it and name the file inside."
_PICKLE = "If you trust it and it was saved by gensim, use --from gensim; unpickling runs code from the file."

# What the file begins with; what it is; what to do.
_MAGICS = (
    (b"PAR1", "a Parquet file", _AS_TEXT),
    (b"\x93NUMPY", "a numpy .npy array, without words", _AS_TEXT),
    (b"SQLite format 3\0", "an SQLite database (as .magnitude files are)", _AS_TEXT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _AS_TEXT),
    (b"%PDF-", "a PDF document", _FETCH),
    (b"version https://git-lfs", "a pointer of git-LFS, not the file itself", "Fetch the file with: git lfs pull"),
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


def identify(stream):
    """Return the format of a stream: "ems", "fasttext", "word2vec" or "text".

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream

    Returns
    -------
    str

    Raises
    ------
    SourceError
        If it is something else: naming it, and what to do.
    """
    if isinstance(stream, Folder):
        if spacy.is_vocab(stream):
            return "spacy"
        raise SourceError("this is a folder", path=stream.path, expected="a file, or a spaCy vocab folder",
                          hint="Name a file in it.")
    head = stream.head
    if not head:
        raise SourceError("the file is empty", path=stream.path, where="byte 0", expected="words and vectors",
                          found="0 bytes", hint="Fetch it again.")
    if head.startswith(EMS):
        return "ems"
    if head.startswith(fasttext.MAGIC) or _is_old_fasttext(head):
        return "fasttext"
    if head.startswith(finalfusion.MAGIC):
        return "finalfusion"
    if navec.is_navec(head):
        return "navec"
    if floret.is_table(head):
        return "floret"
    found = _name(head, len(head) == stream.content_size)
    if found:
        what, hint = found
        raise SourceError(f"this is {what}", path=stream.path, where="byte 0", expected="words and vectors",
                          hint=hint)
    return "word2vec" if _is_word2vec(head, stream.content_size) else "text"


def _name(head, whole):
    """Return what a file we do not read is, and what to do; or None."""
    for magic, what, hint in _MAGICS:
        if head.startswith(magic):
            return what, hint
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if re.match(rb"\x80[\x02-\x05]", head) or _PICKLE_EARLY.match(head):
        return "a pickle", _PICKLE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "a safetensors file", _AS_TEXT
    zeros = [head[i:64:2].count(0) / max(1, len(head[i:64:2])) for i in (0, 1)]
    if len(head) >= 8 and min(zeros) < 0.2 and max(zeros) > 0.8:
        return "text in UTF-16", "Convert it to UTF-8, with: iconv -f utf-16le -t utf-8 (or utf-16be)"
    lines = head.split(b"\n")
    if not (_ends_in_number(lines[0]) or word2vec.HEADER_UNENDED.match(head)):
        binary = _binary(head)
        if binary:
            return binary
    if not whole and len(lines) > 1:
        lines.pop()  # it may go on
    return _name_text([line.rstrip(b"\r") for line in lines if line.strip()])


def _name_text(lines):
    if not lines:
        return None
    first = lines[0]
    start = b"\n".join(lines[:3])
    if not _ends_in_number(first):  # not a row, whatever its word
        if _HTML.match(start):
            return "an HTML or XML page", _FETCH
        if _JSON.match(start):
            return "JSON", _AS_TEXT
    if any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) and line.count(b" ") == 1 for line in lines):
        return "a file with conflict markers of git", "Resolve the conflict, or check the file out again."
    rows = lines[1:] if text.HEADER.fullmatch(first) and len(lines) > 1 else lines
    rows = rows[:100]
    if all(row.count(b":") >= 2 and all(map(_SPARSE.fullmatch, row.split()[-2:])) for row in rows):
        return "sparse text, with index:value pairs", "Write every value of every row, parted by spaces."
    if all(map(_QUOTED.match, rows)):
        return "CSV with quotes", "Write it without quotes, and with spaces in place of commas."
    for separator, what in ((b"\t", "tabs"), (b",", "commas"), (b";", "semicolons")):
        if all(_is_row_parted_by(row, separator) for row in rows):
            return f"a table whose columns are parted by {what}", f"Replace {what} by spaces."
    if len(rows) >= 3 and all(b"." in row.split(b" ")[0] and all(map(text.DECIMAL.fullmatch, row.split()))
                              for row in rows):
        return "a table of numbers, without words", "Put each row's word in front of it."
    return None


def _ends_in_number(line):
    return bool(text.DECIMAL.fullmatch(line.rstrip(b" \r").rpartition(b" ")[2]))


def _is_row_parted_by(row, separator):
    """Say whether the first number of a row stands behind `separator`, where we expect a space."""
    fields = row.split(separator)
    values = fields[-1].split(b" ")
    return len(fields) > 1 and bool(text.DECIMAL.fullmatch(values[0])) and all(
        text.DECIMAL.fullmatch(value) for value in values[1:] if value)


def _is_old_fasttext(head):
    """Tell the first layout of fastText's models, which had no magic number, by what its 12 arguments can be."""
    if len(head) < 80:
        return False
    dim, ws, _, _, _, _, loss, model, bucket, minn, maxn, _ = struct.unpack_from("<12i", head)
    size, words, labels = struct.unpack_from("<3i", head, 56)
    return (1 <= dim <= 65_536 and 0 <= ws <= 1000 and 1 <= loss <= 4 and 1 <= model <= 3 and bucket >= 0
            and 0 <= minn <= 100 and 0 <= maxn <= 100 and 0 <= labels <= size and size == words + labels)


def _binary(head):
    """Name raw numbers and other bytes that cannot be text."""
    start = head[:4096]
    if not start.strip(b"\0"):
        return "nothing but NUL bytes", "The file was not written or fetched completely; fetch it again."
    if len(_CONTROL.findall(start)) < max(2, len(start) // 20):
        return None
    for dtype, what in (("<f8", "raw float64 numbers without words, as GloVe's own .bin files"),
                        ("<f4", "raw float32 numbers without words")):
        values = np.frombuffer(start[: len(start) // 8 * 8], dtype=dtype)
        with np.errstate(invalid="ignore"):
            sizes = np.abs(values[values != 0].astype(np.float64))
        if sizes.size >= 4 and np.mean((sizes > 1e-6) & (sizes < 1e3)) > 0.9:
            return what, "Use the text file that was written with it, which holds the words."
    return "binary data of no format we know", "Check that this is the file you meant."


def _is_word2vec(head, size):
    """Tell word2vec's binary format from its text format: both begin with the same header."""
    header = word2vec.HEADER.match(head[:256])
    if not header:
        return bool(word2vec.HEADER_UNENDED.match(head) and _CONTROL.search(head))
    body = head[header.end() :]
    line = body.split(b"\n", 1)[0]
    fields = line.rstrip(b"\r ").split(b" ")
    if len(fields) > 1 and all(map(text.DECIMAL.fullmatch, fields[1:])):
        return False
    if _CONTROL.search(body):
        # Text may hold control characters in words, but not behind the first space of most lines.
        rows = [row for row in body.split(b"\n")[:100] if row]
        return sum(map(_ends_in_number, rows)) < len(rows) / 2
    return _lands(body, header, len(head) == size)


def _lands(body, header, whole):
    """Say whether binary rows end exactly where a small file does."""
    count, dim = (int(number) for number in header.groups() if len(number) < 20) if whole else (0, 0)
    start = 0
    for _ in range(count):
        space = body.find(b" ", start)
        start = space + 1 + 4 * dim
        if space < 0 or start > len(body):
            return False
        if body[start : start + 1] == b"\n":
            start += 1
    return count > 0 and start == len(body)
