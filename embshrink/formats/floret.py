"""floret's table of vectors: rows of hashed n-grams, without words.

A text file. The first line is ``bucket dim minn maxn hashCount hashSeed BOW EOW``; each further line is the number of
a bucket and its vector. Whole words and n-grams share the buckets, so that every word has a vector. Source: floret,
``FastText::saveFloretVectors``; spaCy reads it with ``spacy init vectors --mode floret``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.pieces import Pieces
from embshrink.formats.io.table_builder import DAMAGED, INCOMPLETE, RIGHT_FILE, check_dim, show
from embshrink.formats.text import DECIMAL, MAX_LINE, PIECE, Layout, read_rows
from embshrink.numerics.parallel import one_blas_thread
from embshrink.storage.arrays import IntArray
from embshrink.storage.disk_rows import Matrix
from embshrink.vocabulary.ngram_hashing import Floret, Hashing
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.embeddings.subwords import Subwords
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

HEADER = re.compile(rb"(\d{1,19})" + rb" (\d{1,19})" * 5 + rb" ([^ \r\n]+) ([^ \r\n]+)(\r?)")
_NO_WORDS = "Compress it to an .ems file, which keeps the n-grams and gives every word a vector."


@dataclass
class FloretTable:
    """Rows of n-grams, from which every word gets its vector.

    Parameters
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending: all of them, unless the options dropped some.
    matrix : numpy.ndarray, shape (k, d), float32
    warnings : list of str
    """

    hashing: Hashing
    ids: IntArray
    matrix: Matrix
    warnings: list[str]


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Refuse the table, because it has no words; `load_table` reads its rows.

    Raises
    ------
    SourceError
        Always.
    """
    raise no_words(stream.path)


def no_words(path: str) -> SourceError:
    """Return the error for a floret table if words are needed."""
    return SourceError("a floret table has no words, only n-grams", path=path, expected="words and vectors",
                       found="n-gram vectors", hint=_NO_WORDS)


def load_table(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> FloretTable:
    """Read a table.

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream
    options : embshrink.formats.ReadOptions
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the source.

    Returns
    -------
    FloretTable

    Raises
    ------
    SourceError
        If the file is malformed; the message states line, byte, what was expected and what was found.
    """
    check_whole(options, stream.path)
    warnings: list[str] = []
    with Pieces(stream, PIECE, MAX_LINE) as pieces, one_blas_thread():
        hashing, layout = _read_header(pieces, stream.path)
        options = replace(options, duplicates="error")  # none is dropped before the ids are checked
        words, matrix = read_rows(pieces, layout, options, stream, warnings, progress,
                                  check=lambda words: _check_ids(words, hashing.bucket, stream.path))
    return FloretTable(hashing, np.array(words.raw).astype(np.int64), matrix, warnings)


def check_whole(options: ReadOptions, path: str) -> None:
    """Refuse the option `limit`: any word may need any row."""
    if options.limit is not None:
        raise SourceError("a floret table cannot be limited to its first rows: words need all rows", path=path,
                          expected="no limit", found=f"a limit of {options.limit}", hint="Remove --limit (limit=).")


def checked_hashing(path: str, where: str, minn: int, maxn: int, bucket: int, own: Floret) -> Hashing:
    """Return the `Hashing` for settings from a file.

    Raises
    ------
    SourceError
        If a setting is out of range; `where` is its place in the file.
    """
    problem = None if minn <= maxn else f"minn must be at most maxn, but they are {minn} and {maxn}"
    try:
        hashing = Hashing(minn, maxn, bucket, own)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SourceError(f"a floret setting is out of range: {problem}", path=path, where=where, hint=RIGHT_FILE)
    return hashing


def _read_header(pieces: Pieces, path: str) -> tuple[Hashing, Layout]:
    end = pieces.buffer.find(b"\n", pieces.start, pieces.stop)
    line = bytes(pieces.buffer[pieces.start : pieces.stop if end < 0 else end])
    match = HEADER.fullmatch(line)
    if not match:
        raise SourceError("line 1 is not a floret header", path=path, where="line 1, byte 0",
                          expected="bucket dim minn maxn hashCount hashSeed BOW EOW", found=show(line[:80]),
                          hint="Write the table again with floret's saveFloretVectors (a .floret file).")
    bucket, dim, minn, maxn, hashes, seed = map(int, match.groups()[:6])
    check_dim(dim, path, "line 1, byte 0")
    try:
        bow, eow = (mark.decode() for mark in match.groups()[6:8])
    except UnicodeDecodeError as error:
        raise SourceError("the begin and end markers of words (BOW, EOW) are not UTF-8", path=path,
                          where="line 1, byte 0", found=show(line[:80]), hint=RIGHT_FILE) from error
    hashing = checked_hashing(path, "line 1, byte 0", minn, maxn, bucket, Floret(hashes, seed, bow, eow))
    if end < 0:
        raise SourceError("nothing follows the header", path=path, where="line 1, byte 0", expected=f"{bucket} rows",
                          found="the end of the file", hint=INCOMPLETE)
    return hashing, Layout(dim, bucket, bool(match.group(9)), pieces.start + len(line) + 1)


def _check_ids(words: Words, bucket: int, path: str) -> None:
    """Refuse rows whose bucket numbers are out of range or do not ascend."""
    last = -1
    for row, word in enumerate(words.raw, start=1):
        if not word.isdigit() or len(word) > 10 or not last < int(word) < bucket:
            after = f"an integer from {last + 1} to {bucket - 1}" if last + 1 < bucket else "the end of the file"
            raise SourceError(f"row {row} has the wrong bucket number", path=path, where=f"line {row + 1}",
                              expected=after, found=show(word), hint=DAMAGED)
        last = int(word)


def is_table(head: bytes) -> bool:
    """Whether `head` begins with a floret header, which is not a row of a word and 7 numbers."""
    match = HEADER.fullmatch(head.partition(b"\n")[0])
    return match is not None and not all(map(DECIMAL.fullmatch, match.groups()[6:8]))


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the n-grams of embeddings that are a floret table. See `embshrink.formats.export`.

    Raises
    ------
    TargetError
        If the embeddings are not a floret table, or a marker is empty or has white space.
    """
    subwords, own = floret_rows(outgoing)
    hashing = subwords.hashing
    for mark in (own.bow, own.eow):
        if not mark or mark.split() != [mark]:
            raise TargetError(f"the word marker {mark!r} is empty or contains white space, which a floret file "
                              "cannot store", hint="Choose the format spacy, which can store it.")
    header = (hashing.bucket, outgoing.dim, hashing.minn, hashing.maxn, own.hashes, own.seed, own.bow, own.eow)
    file.write(" ".join(map(str, header)).encode() + b"\n")
    for start, block in subwords.blocks():
        numbers = block.astype("S20")  # the shortest decimal that gives the same float32
        file.write(b"".join(b"%d %s\n" % (row, b" ".join(fields))
                            for row, fields in enumerate(numbers.tolist(), start)))


def floret_rows(outgoing: Outgoing) -> tuple[Subwords, Floret]:
    """Return the n-grams to write, and the settings of their hashing.

    Raises
    ------
    TargetError
        If the embeddings are not a floret table.
    """
    subwords = outgoing.subwords
    if subwords is None:
        problem = "it has no n-grams"
    elif subwords.hashing.floret is None:
        problem = "its n-grams are hashed as in fastText, not as in floret"
    elif len(outgoing.words):
        problem = "it has words with vectors, which a floret table cannot store"
    elif subwords.missing == "skip" and subwords.present < subwords.hashing.bucket:
        problem = "some n-grams were dropped, but a floret table has a row for each bucket"
    else:
        return subwords, subwords.hashing.floret
    raise TargetError(f"this cannot be written as a floret table: {problem}",
                      hint="Choose another format, such as word2vec-text.")
