"""Formats of other programs: detected from the content, read as `WordVectors`, written from words and blocks of rows.

Each format has one module or package; the table of formats is `embshrink.formats.base.FORMATS`.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import EmbshrinkError, ShapeError, SourceError, TargetError
from embshrink.formats.base import (
    FORMATS,
    ExportedTable,
    FolderWriter,
    FormatEntry,
    Outgoing,
    ReadOptions,
    Source,
    Writer,
    as_vectors,
    checked_blocks,
    format_of,
    list_formats,
)
from embshrink.storage.paths import check_distinct
from embshrink.vocabulary.words import OrderWarning, Words

if TYPE_CHECKING:
    from embshrink.formats.io.raw import BinaryFile
    from embshrink.numerics.progress import Progress
    from embshrink.storage.arrays import FloatArray
    from embshrink.vocabulary.words import Vocabulary

__all__ = ["FORMATS", "FormatEntry", "ReadOptions", "as_vectors", "export", "format_of", "list_formats",
           "open_identified", "read_stream", "read_vectors", "write_vectors"]


def read_vectors(
    source: str | os.PathLike[str] | BinaryFile, options: ReadOptions | None = None, *,
    progress: Progress | None = None,
) -> WordVectors:
    r"""Read words and vectors from a file.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path, ``"-"`` for standard input, or an object with ``readinto``. It may be compressed
        with gzip, bzip2, xz, zip, or (with the extra "zstd") Zstandard.
    options : ReadOptions, optional
        How to read it; ``ReadOptions()`` by default.
    progress : callable, optional
        Called in this thread as ``progress("read", done, total)``, in bytes of the source; total
        is None if it is unknown.

    Returns
    -------
    WordVectors
        n words and a matrix of shape (n, d), float32, with ``source`` (format, and name, size and sha256 of the
        file as given) and ``warnings`` (list of str: what was dropped or changed).

    Raises
    ------
    SourceError
        If the file cannot be opened, has an unknown format, is malformed, or is too large for memory. The message
        states the place, what was expected and found, and what to do.
    ExtraError
        If the file is compressed with Zstandard and the package zstandard is not installed.

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
def open_identified(
    source: str | os.PathLike[str] | BinaryFile, options: ReadOptions
) -> Iterator[tuple[Source, str]]:
    """Open a source and yield it with the name of its format; all its content can still be read, even from a pipe.

    Raises
    ------
    SourceError
        If it cannot be opened, has an unknown format or not the one that the options name, or is too large for
        memory.
    """
    from embshrink.formats.io.stream import Folder, open_source
    from embshrink.formats.sniff import identify

    if not isinstance(options, ReadOptions):
        raise TypeError(f"options must be embshrink.ReadOptions, not {type(options).__name__}")
    with open_source(source, options, folders=True) as stream:
        try:
            name = options.format or identify(stream)
            if FORMATS[name].is_folder != isinstance(stream, Folder):
                kinds = ("a folder", "a file") if FORMATS[name].is_folder else ("a file", "a folder")
                raise SourceError(f"the format {name} is {kinds[0]}, but this is {kinds[1]}", path=stream.path,
                                  hint=f"Give the path of {kinds[0]}, or choose another format.")
            yield stream, name
        except MemoryError as error:
            raise SourceError("there is not enough memory for this file", path=stream.path,
                              hint="Read fewer rows with --limit N (limit=N).") from error


def read_stream(stream: Source, name: str, options: ReadOptions, progress: Progress | None = None) -> WordVectors:
    """Read a source that `open_identified` opened, in the format `name`, as `WordVectors`."""
    return as_vectors(stream, name, *FORMATS[name].reader()(stream, options, progress))


def write_vectors(
    words: Vocabulary | Iterable[str | bytes], blocks: Iterable[FloatArray],
    target_path: str | os.PathLike[str], format: str, *, force: bool = False,
) -> None:
    """Write words and vectors to a file in a format of another program, atomically.

    Parameters
    ----------
    words : Words or iterable of str or bytes
        n distinct words.
    blocks : iterable of numpy.ndarray, shape (k, d), float32
        The vectors in order, in blocks of rows, so that the whole matrix need not be in memory.
    target_path : str or os.PathLike
        The file, or the folder for "spacy".
    format : str
        A format that `list_formats` marks as written: "text" (GloVe, no header), "word2vec-text" (with a header),
        "word2vec" (binary), and others.
    force : bool
        Replace an existing target; False by default.

    Raises
    ------
    TargetError
        If the format cannot store a word, the target exists and `force` is false, or writing fails.
    ShapeError
        If there are no words, the blocks are not finite or differ in width, or they do not add up to n rows.
    EmbshrinkError
        If the format is unknown or cannot be written.
    """
    if not isinstance(words, Words):
        words = Words(words)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None or not len(words):
        raise ShapeError("there is nothing to write", expected="at least one word and its vector",
                         hint="Pass words and blocks of vectors that are not empty.")
    dim = np.shape(first)[-1]
    _write(Outgoing(words, checked_blocks(itertools.chain([first], blocks), dim, len(words)), dim), target_path,
           format, force)


def export(
    embeddings: ExportedTable, target_path: str | os.PathLike[str], format: str | None = None, *,
    force: bool = False, progress: Progress | None = None,
) -> str:
    """Write embeddings in a format of another program, with n-grams and codes where the format can store them.

    Parameters
    ----------
    embeddings : Embeddings
        The table to write.
    target_path : str or os.PathLike
        The file, or the folder for "spacy".
    format : str, optional
        As for `write_vectors`; chosen by the target's ending by default.
    force : bool
        Replace an existing target; False by default.
    progress : callable, optional
        Called as ``progress("writing", done, total)``, in words.

    Returns
    -------
    str
        The name of the format.

    Raises
    ------
    TargetError
        If the format cannot store a word or the n-grams, the target exists and `force` is false, or writing fails.
        `SameFileError` if the target is the open file.
    EmbshrinkError
        If the format is unknown or cannot be written.
    """
    def blocks() -> Iterator[FloatArray]:
        for start, block in embeddings.blocks():
            if progress:
                progress("writing", start, len(embeddings))
            yield block

    check_distinct({"the target": target_path}, {"the source": embeddings.path})
    format = format or format_of(target_path)
    without_words = sorted(name for name, one in FORMATS.items() if one.holds_ngrams_alone)
    if not len(embeddings) and format not in without_words:
        raise TargetError("there are no words to write: the table has only n-grams", path=os.fspath(target_path),
                          hint=f"Choose one of the formats {', '.join(without_words)}.")
    if embeddings.words.exact_ids is not None:
        warnings.warn(f"the words are written in the approximate order of the .ems file: after the first "
                      f"{embeddings.words.exact_ids:,} it is not the order of its source", OrderWarning, stacklevel=2)
    dim = embeddings.vector_size
    _write(Outgoing(embeddings.words, checked_blocks(blocks(), dim, len(embeddings)), dim, embeddings), target_path,
           format, force)
    return format


def _write(outgoing: Outgoing, target_path: str | os.PathLike[str], format: str, force: bool) -> None:
    from embshrink.storage.atomic import atomic_folder, atomic_write

    writers = {name: one.write for name, one in FORMATS.items() if one.write}
    if format not in writers:
        raise EmbshrinkError(f"the format {format!r} cannot be written", path=os.fspath(target_path),
                             expected=" or ".join(writers), hint="Choose one of these formats.")
    module = importlib.import_module(FORMATS[format].module)
    if FORMATS[format].is_folder:
        write_folder: FolderWriter = getattr(module, writers[format])
        with atomic_folder(target_path, module.FILES, force=force) as create, _located(target_path):
            write_folder(create, outgoing)
    else:
        write_file: Writer = getattr(module, writers[format])
        with atomic_write(target_path, force=force) as file, _located(target_path):
            write_file(file, outgoing)


@contextlib.contextmanager
def _located(target_path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the target in a `TargetError` that a writer raises."""
    try:
        yield
    except TargetError as error:
        raise error.located(target_path) from error.__cause__
