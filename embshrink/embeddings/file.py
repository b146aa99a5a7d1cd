"""Open an ``.ems`` file as a table of vectors, which are decoded on request."""

from __future__ import annotations

import os
from typing import TypeVar

from embshrink.embeddings.subwords import Subwords
from embshrink.embeddings.table import VectorTable
from embshrink.errors import DAMAGED, FormatError
from embshrink.methods import pipeline
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.container import Container
from embshrink.storage.header import Header, SubwordsHeader
from embshrink.vocabulary.words import Numerals, PlainWords, Vocabulary

TableT = TypeVar("TableT", bound=VectorTable)


def open_file(
    path: str | os.PathLike[str], kind: type[TableT], *, verify: str = "lazy", mmap: bool = True,
    sparing: bool = False, progress: Progress = no_progress,
) -> TableT:
    """Open an ``.ems`` file without decoding any vector.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    kind : type
        Class of the result: `VectorTable`, or a class derived from it.
    verify, mmap
        As for `embshrink.load`.
    sparing : bool, default False
        Release the memory of what was read of the file at once.
    progress : callable
        Called as for `VectorTable.check` if `verify` is "full".

    Returns
    -------
    VectorTable
        Of the class `kind`.

    Raises
    ------
    FormatError
        If the file cannot be read, is not an ``.ems`` file, is damaged or truncated, or is of a newer version.
    """
    container = Container(path, verify=verify, mmap=mmap)
    try:
        table = _table_of(container, kind, sparing)
        if verify == "full":
            table.check(progress=progress)
    except FormatError as error:
        container.close()
        raise error.located(container.path) from error.__cause__
    return table


def _table_of(container: Container, kind: type[TableT], sparing: bool) -> TableT:
    header = Header.of(container.header)
    words = _words_of(container, header)
    if len(words) != header.words:
        raise FormatError("the header and the words section state different numbers of words", expected=header.words,
                          found=len(words), hint=DAMAGED)
    stored = pipeline.restore(header.steps, len(words), header.dim, header.rows, header.owned, container.group)
    subwords = None if header.subwords is None else _subwords_of(container, header.subwords, header.dim)
    return kind(words, stored.decode, header.dim, stored.row_map, header.rows, owned=header.owned, stored=stored,
                subwords=subwords, container=container, sparing=sparing)


def _words_of(container: Container, header: Header) -> Vocabulary:
    if header.vocabulary == "packed":
        from embshrink.vocabulary.packed import PackedWords

        return PackedWords(container.group("words"), container.path)
    return PlainWords(container.group("words"), container.path)


def _subwords_of(container: Container, header: SubwordsHeader, dim: int) -> Subwords:
    """Return the object that makes vectors of out-of-vocabulary words from a second table of rows."""
    stored = pipeline.restore(header.steps, header.present, dim, header.rows, header.owned,
                              lambda prefix: container.group(f"ngrams.{prefix}"))
    rows = VectorTable(Numerals(header.present), stored.decode, dim, stored.row_map, header.rows, owned=header.owned,
                       stored=stored)
    return Subwords(header.as_dict(), container.group("ngrams"), rows)
