"""floret's table of vectors: rows of hashed n-grams, and no words.

Text. The first line is ``bucket dim minn maxn hashCount hashSeed BOW EOW``; each further one is the
number of a bucket and its vector. Whole words and n-grams share the buckets, so that any word has
a vector. Source: floret, ``FastText::saveFloretVectors``; spaCy reads it with
``spacy init vectors --mode floret``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.pieces import Pieces
from embshrink.formats.io.table_builder import check_dim, show
from embshrink.formats.text import DECIMAL, MAX_LINE, PIECE, Layout, read_rows
from embshrink.numerics.parallel import one_blas_thread
from embshrink.storage.arrays import IntArray
from embshrink.storage.disk_rows import Matrix
from embshrink.vocabulary.ngram_hashing import Floret, Hashing

if TYPE_CHECKING:
    from embshrink.embeddings.subwords import Subwords
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

HEADER = re.compile(rb"(\d{1,19})" + rb" (\d{1,19})" * 5 + rb" ([^ \r\n]+) ([^ \r\n]+)(\r?)")
_NO_WORDS = "Compress it to an .ems file, which keeps its n-grams and answers for any word."


@dataclass
class FloretTable:
    """Rows that every word's vector is made of.

    Parameters
    ----------
    hashing : embshrink.vocabulary.ngram_hashing.Hashing
    ids : numpy.ndarray, shape (k,), int64
        The buckets that have a row, ascending: all, unless the options allowed some to be left out.
    matrix : numpy.ndarray, shape (k, d), float32
    warnings : list of str
    """

    hashing: Hashing
    ids: IntArray
    matrix: Matrix
    warnings: list[str]


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Refuse the table, which has no words; `load_table` reads its rows.

    Raises
    ------
    SourceError
    """
    raise no_words(stream.path)


def no_words(path: str) -> SourceError:
    """Return the error for a floret table where words are needed."""
    return SourceError("a floret table holds no words, only rows that any word's vector is made of", path=path,
                       where="the whole file", expected="words and vectors", found="n-grams", hint=_NO_WORDS)


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
        Naming line, byte, what was expected and what was found.
    """
    check_whole(options, stream.path)
    warnings: list[str] = []
    with Pieces(stream, PIECE, MAX_LINE) as pieces, one_blas_thread():
        hashing, layout = _read_header(pieces, stream.path)
        words, matrix = read_rows(pieces, layout, options, stream, warnings, progress,
                                  check=lambda words: _check_ids(words, hashing.bucket, stream.path))
    return FloretTable(hashing, np.array(words).astype(np.int64), matrix, warnings)


def check_whole(options: ReadOptions, path: str) -> None:
    """Refuse options that ask for the first rows only: any row may be a word's."""
    if options.limit is not None:
        raise SourceError("a floret table cannot be cut to its first rows", path=path, where="the whole file",
                          expected="all rows, for any word may need any of them", found=f"a limit of {options.limit}",
                          hint="Leave --limit away.")


def checked_hashing(path: str, where: str, minn: int, maxn: int, bucket: int, own: Floret) -> Hashing:
    """Return a `Hashing` of numbers and texts from a file.

    Raises
    ------
    SourceError
        If one of them is impossible; `where` it stands in the file.
    """
    problem = None if minn <= maxn else f"minn must be at most maxn, not {minn} and {maxn}"
    try:
        hashing = Hashing(minn, maxn, bucket, own)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SourceError(f"floret's settings are not possible: {problem}", path=path, where=where,
                          hint="Check that this is the file you meant.")
    return hashing


def _read_header(pieces: Pieces, path: str) -> tuple[Hashing, Layout]:
    end = pieces.buffer.find(b"\n", pieces.start, pieces.stop)
    line = bytes(pieces.buffer[pieces.start : pieces.stop if end < 0 else end])
    match = HEADER.fullmatch(line)
    if not match:
        raise SourceError("line 1 is not a header of floret's", path=path, where="line 1, byte 0",
                          expected="bucket dim minn maxn hashCount hashSeed BOW EOW", found=show(line[:80]),
                          hint="Write the table anew with floret's saveFloretVectors (a .floret file).")
    bucket, dim, minn, maxn, hashes, seed = map(int, match.groups()[:6])
    check_dim(dim, path, "line 1, byte 0")
    try:
        bow, eow = (mark.decode() for mark in match.groups()[6:8])
    except UnicodeDecodeError as error:
        raise SourceError("the marks of begin and end of a word are not UTF-8", path=path, where="line 1, byte 0",
                          found=show(line[:80]), hint="Check that this is the file you meant.") from error
    hashing = checked_hashing(path, "line 1, byte 0", minn, maxn, bucket, Floret(hashes, seed, bow, eow))
    if end < 0:
        raise SourceError("nothing follows the header", path=path, where="line 1, byte 0", expected=f"{bucket} rows",
                          found="the end of the file", hint="The file is cut short: fetch it again.")
    return hashing, Layout(dim, bucket, bool(match.group(9)), pieces.start + len(line) + 1)


def _check_ids(words: list[bytes], bucket: int, path: str) -> None:
    """Refuse rows that are not numbered by bucket, each more than the one before."""
    last = -1
    for row, word in enumerate(words, start=1):
        if not word.isdigit() or len(word) > 10 or not last < int(word) < bucket:
            after = f"a whole number from {last + 1} to {bucket - 1}" if last + 1 < bucket else "the end of the file"
            raise SourceError(f"row {row} has the wrong number", path=path, where=f"line {row + 1}", expected=after,
                              found=show(word), hint="The file is damaged, or two were joined: fetch it again.")
        last = int(word)


def is_table(head: bytes) -> bool:
    """Whether a file that begins with `head` is a table: its header is no row of a word and 7 numbers."""
    match = HEADER.fullmatch(head.partition(b"\n")[0])
    return match is not None and not all(map(DECIMAL.fullmatch, match.groups()[6:8]))


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write a table, of embeddings whose n-grams are hashed as floret does. See `embshrink.formats.export`.

    Raises
    ------
    TargetError
        Of others; saying why.
    """
    subwords, own = floret_rows(outgoing)
    hashing = subwords.hashing
    for mark in (own.bow, own.eow):
        if not mark or mark.split() != [mark]:
            raise TargetError(f"the mark {mark!r} is empty or holds white space, which a floret file cannot hold",
                              hint="Write the format spacy, which can.")
    header = (hashing.bucket, outgoing.dim, hashing.minn, hashing.maxn, own.hashes, own.seed, own.bow, own.eow)
    file.write(" ".join(map(str, header)).encode() + b"\n")
    for start, block in subwords.blocks():
        numbers = block.astype("S20")  # the shortest decimal that gives the same float32
        file.write(b"".join(b"%d %s\n" % (row, b" ".join(fields))
                            for row, fields in enumerate(numbers.tolist(), start)))


def floret_rows(outgoing: Outgoing) -> tuple[Subwords, Floret]:
    """Return the n-grams that are to be written, and how they are hashed.

    Raises
    ------
    TargetError
        Unless it is a floret table and nothing else.
    """
    subwords = outgoing.subwords
    if subwords is None:
        problem = "there are no n-grams"
    elif subwords.hashing.floret is None:
        problem = "the n-grams are hashed as fastText does, not as floret does"
    elif len(outgoing.words):
        problem = "there are words with vectors of their own, which a floret table cannot hold"
    elif subwords.missing == "skip" and subwords.present < subwords.hashing.bucket:
        problem = "some n-grams were dropped, and a floret table has a row for each"
    else:
        return subwords, subwords.hashing.floret
    raise TargetError(f"this is no floret table: {problem}", hint="Write word2vec-text, or another format.")
