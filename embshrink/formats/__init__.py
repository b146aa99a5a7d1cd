"""Foreign formats: found by content, read to `WordVectors`, written from words and blocks of rows.

One file per format; a format is one line in `FORMATS`.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import EmbshrinkError, ShapeError, SourceError, TargetError
from embshrink.vocabulary.words import Words

# name: module, function that reads, function that writes an `Outgoing` to a file (or, in FOLDERS, into a folder)
FORMATS = {
    "text": ("embshrink.formats.text", "read", "write"),
    "word2vec-text": ("embshrink.formats.text", "read", "write_with_header"),
    "word2vec": ("embshrink.formats.word2vec", "read", "write"),
    "fasttext": ("embshrink.formats.fasttext", "read", "write"),
    "finalfusion": ("embshrink.formats.finalfusion", "read", "write"),
    "navec": ("embshrink.formats.navec", "read", None),
    "gensim": ("embshrink.formats.gensim", "read", "write"),
    "floret": ("embshrink.formats.floret", "read", "write"),
    "spacy": ("embshrink.formats.spacy", "read", "write"),
    "ems": ("embshrink.formats.ems", "read", None),
}

FOLDERS = {"spacy"}  # formats that are a folder of files
WITHOUT_WORDS = {"floret", "spacy"}  # formats that can hold n-grams alone
ENDINGS = {".fifu": "finalfusion", ".bin": "word2vec", ".vec": "word2vec-text", ".kv": "gensim", ".floret": "floret"}

# Parsers that refuse what is not finite, and leave out words that come again.
_CHECKED = {"text", "word2vec", "fasttext", "finalfusion", "navec"}

_CHOICES = {
    "format": (None, *FORMATS),
    "header": ("auto", "yes", "no"),
    "nonfinite": ("error", "drop", "zero"),
    "duplicates": ("first", "error"),
    "row_newline": ("auto", "yes", "no"),
}


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source; the defaults refuse what would silently give wrong vectors.

    Parameters
    ----------
    format : str, optional
        A name in `FORMATS`; found by content if not given. "gensim" unpickles, which runs code
        from the file, and so is never chosen by itself.
    header : {"auto", "yes", "no"}
        Whether a text file's first line is a header. "auto": if it is two whole numbers and the
        second is the dimension of line 2.
    nonfinite : {"error", "drop", "zero"}
        What to do with a row that holds a NaN, an infinity, or a number too large for float32:
        refuse the file, leave the row out, put 0 for the number.
    duplicates : {"first", "error"}
        Keep the first row of each word, or refuse the file.
    allow_truncated : bool
        Take a file that ends early.
    skip_bad_rows : int
        Leave up to so many malformed rows of a text file out.
    strict : bool
        Take a row of text that has one number too many for an error, not for a word with a space.
    row_newline : {"auto", "yes", "no"}
        Whether a newline follows each row of a word2vec binary file.
    limit : int, optional
        Read the first so many rows.
    expect_rows : int, optional
        Refuse a file with another number of rows.
    member : str, optional
        The file to read from a zip archive.
    max_expanded : int
        Refuse compressed content of more bytes than this.
    spool : embshrink.storage.disk_rows.Spool, optional
        Keep a table that is too large for memory on disk; its matrix is `embshrink.storage.disk_rows.Rows` then.

    Raises
    ------
    EmbshrinkError
        If a value is not possible.
    """

    format: str | None = None
    header: str = "auto"
    nonfinite: str = "error"
    duplicates: str = "first"
    allow_truncated: bool = False
    skip_bad_rows: int = 0
    strict: bool = False
    row_newline: str = "auto"
    limit: int | None = None
    expect_rows: int | None = None
    member: str | None = None
    max_expanded: int = 64 << 30
    spool: object = None

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise EmbshrinkError(f"{name} cannot be {getattr(self, name)!r}",
                                     expected=" or ".join(map(str, choices)), hint="Choose one of these.")
        for name, least in (("skip_bad_rows", 0), ("limit", 1), ("expect_rows", 1), ("max_expanded", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise EmbshrinkError(f"{name} cannot be {value!r}", expected=f"a whole number, at least {least}",
                                     hint="Correct the option.")


def read_vectors(source, options=None, *, progress=None):
    r"""Read words and vectors from a file.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path, ``"-"`` for standard input, or an object with ``readinto``. It may be compressed
        with gzip, bzip2, xz, zip, or (with the extra "zstd") Zstandard.
    options : ReadOptions, optional
    progress : callable, optional
        Called in this thread as ``progress("read", done, total)``, in bytes of the source; total
        is None where it is not known.

    Returns
    -------
    WordVectors
        With ``source`` (name, size and sha256 of the file as given, format) and ``warnings``.

    Raises
    ------
    SourceError
        If the file cannot be opened, is not of a format we read, or is malformed: naming the
        place, what was expected and found, and what to do.
    ExtraError
        If it is Zstandard and the package for that is missing.

    Examples
    --------
    >>> import io
    >>> vectors = read_vectors(io.BytesIO(b"king 1 2\nqueen 1.5 2.5\n"))
    >>> vectors["queen"]
    array([1.5, 2.5], dtype=float32)
    """
    options = options or ReadOptions()
    with open_identified(source, options) as (stream, name):
        return read_stream(stream, name, options, progress)


@contextlib.contextmanager
def open_identified(source, options):
    """Open a source once, and yield its stream and the name of its format; nothing of it is lost, even of a pipe."""
    from embshrink.formats import sniff
    from embshrink.formats.io.stream import Folder, open_source

    with open_source(source, options, folders=True) as stream:
        try:
            name = options.format or sniff.identify(stream)
            if (name in FOLDERS) != isinstance(stream, Folder):
                kinds = ("a folder", "a file") if name in FOLDERS else ("a file", "a folder")
                raise SourceError(f"the format {name} is {kinds[0]}, and this is {kinds[1]}", path=stream.path,
                                  hint="Name the whole folder." if name in FOLDERS else "Name a file in it.")
            yield stream, name
        except MemoryError as error:
            raise SourceError("there is not enough memory for this file", path=stream.path, where="the whole file",
                              hint="Read fewer rows with --limit N.") from error


def read_stream(stream, name, options, progress=None):
    """Return the `WordVectors` of a stream that `open_identified` opened."""
    module, function, _ = FORMATS[name]
    return as_vectors(stream, name, *getattr(importlib.import_module(module), function)(stream, options, progress))


def as_vectors(stream, name, words, matrix, warnings):
    """Return what a reader found as `WordVectors`, with where it is from."""
    make = WordVectors.checked if name in _CHECKED else WordVectors
    return make(Words(words), matrix, stream.provenance(name), [*stream.warnings, *warnings])


@dataclass
class Outgoing:
    """What a writer is given.

    Parameters
    ----------
    words : Words
        n distinct words.
    blocks : iterator of numpy.ndarray, shape (k, d), float32
        The finite vectors of all words in order, a block at a time; to be used once.
    dim : int
    embeddings : Embeddings, optional
        Where words and blocks are from, for formats that hold more: n-grams, rows that words share, codes.
    """

    words: Words
    blocks: Iterator
    dim: int
    embeddings: object = None


def format_of(target):
    """Return the name of the format that a file's name asks for by its ending; GloVe's text if by none."""
    return ENDINGS.get(os.path.splitext(os.fspath(target))[1].lower(), "text")


def write_vectors(words, blocks, target_path, format, *, force=False):
    """Write words and vectors to a file of a foreign format; it appears whole, or not at all.

    Parameters
    ----------
    words : Words or iterable of str or bytes
        n distinct words.
    blocks : iterable of numpy.ndarray, shape (k, d), float32
        The vectors in order, a block of rows at a time, so that the matrix is never needed whole.
    target_path : str or os.PathLike
    format : str
        A format in `FORMATS` that can be written: GloVe's "text" without a header, "word2vec-text" with one,
        "word2vec" for the binary format, and others. Those in `FOLDERS` make a folder.
    force : bool
        Replace an existing file.

    Raises
    ------
    TargetError
        If the format cannot hold a word, the target exists and `force` is false, or writing fails.
    ShapeError
        If the blocks are not finite float32 of one width, or do not add up to n rows.
    """
    if not isinstance(words, Words):
        words = Words(words)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None or not len(words):
        raise ShapeError("there is nothing to write", expected="at least one word and its vector")
    dim = np.shape(first)[-1]
    _write(Outgoing(words, _checked(itertools.chain([first], blocks), dim, len(words)), dim), target_path, format,
           force)


def export(embeddings, target_path, format=None, *, force=False, progress=None):
    """Write embeddings to a foreign format, with all of them that it can hold.

    Parameters
    ----------
    embeddings : Embeddings
    target_path : str or os.PathLike
    format : str, optional
        As for `write_vectors`; by the target's ending if not given.
    force : bool
        Replace an existing file.
    progress : callable, optional
        Called as ``progress("writing", done, total)``, in words.

    Returns
    -------
    str
        The format.

    Raises
    ------
    TargetError
        If the format cannot hold a word or what the embeddings are made of, the target exists and `force` is false,
        or writing fails.
    """
    def blocks():
        for start, block in embeddings.blocks():
            if progress:
                progress("writing", start, len(embeddings))
            yield block

    format = format or format_of(target_path)
    if not len(embeddings) and format not in WITHOUT_WORDS:
        raise TargetError("there are no words to write: the table holds n-grams alone", path=os.fspath(target_path),
                          hint=f"Write one of: {', '.join(sorted(WITHOUT_WORDS))}.")
    dim = embeddings.vector_size
    _write(Outgoing(embeddings.words, _checked(blocks(), dim, len(embeddings)), dim, embeddings), target_path, format,
           force)
    return format


def _write(outgoing, target_path, format, force):
    from embshrink.storage.atomic import atomic_folder, atomic_write

    writers = {name: (module, function) for name, (module, _, function) in FORMATS.items() if function}
    if format not in writers:
        raise EmbshrinkError(f"the format {format!r} cannot be written", path=os.fspath(target_path),
                             expected=" or ".join(writers), hint="Choose one of these.")
    module, function = writers[format]
    module = importlib.import_module(module)
    opened = (atomic_folder(target_path, module.FILES, force=force) if format in FOLDERS
              else atomic_write(target_path, force=force))
    with opened as target:
        getattr(module, function)(target, outgoing)


def _checked(blocks, dim, rows):
    """Yield blocks as `as_matrix` makes them, after checking that they fit one another and the words."""
    from embshrink.numerics.arrays import as_matrix

    seen = 0
    for block in blocks:
        block = as_matrix(block, "a block of vectors")
        seen += len(block)
        if block.shape[1] != dim or seen > rows:
            raise ShapeError("the blocks do not fit", expected=f"{rows} rows of {dim}",
                             found=f"{seen} or more rows of {block.shape[1]}")
        yield block
    if seen != rows:
        raise ShapeError("there are fewer vectors than words", expected=f"{rows} rows", found=seen)
