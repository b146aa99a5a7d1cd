"""The table of formats, the reading options, and the interfaces of readers and writers.

A format is one line in `FORMATS` and one module or package with the functions that read and write it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict

import numpy as np

from embshrink.embeddings.protocols import LookupTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import EmbshrinkError, ShapeError
from embshrink.numerics.arrays import as_matrix
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.embeddings.subwords import Subwords
    from embshrink.formats.io.pq_codes import PQCodes
    from embshrink.methods.pipeline import Stored
    from embshrink.numerics.progress import Progress
    from embshrink.storage.arrays import FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix, Spool
    from embshrink.vocabulary.words import Vocabulary

Provenance: TypeAlias = "dict[str, object]"  # name, size, sha256, format
ReadTable: TypeAlias = "tuple[Words, Matrix, list[str]]"  # words, their vectors (n, d), warnings
Pruned: TypeAlias = "tuple[IntArray, IntArray]"  # buckets that were kept, ascending, and the row of each, (k,) both


# ---------------------------------------------------------------- reading


class Source(Protocol):
    """A file or folder that is open for reading: `embshrink.formats.io.stream.Stream` or ``Folder``.

    Attributes
    ----------
    path : str
        Its name in messages.
    file_path : str or None
        Its path, if it is a file that was opened by path.
    packed : str or None
        The compression of the file ("gzip", "bzip2", "xz", "zip", "zstd"); None if it is not compressed.
    content_size : int or None
        Bytes of the uncompressed content, if known before it is read.
    warnings : list of str
    """

    path: str
    file_path: str | None
    packed: str | None
    content_size: int | None
    warnings: list[str]

    def provenance(self, format: str) -> Provenance:
        """Return the name, size and SHA-256 of the source, and the format."""


class Model(Protocol):
    """A file that may hold more than words and vectors: rows of n-grams, or rows as product quantization codes.

    The rows of the n words come first, then the rows of n-grams.
    """

    @property
    def words(self) -> Words:
        """The n words."""

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""

    @property
    def has_ngrams(self) -> bool:
        """Whether there are n-grams, from which OOV words get vectors."""

    @property
    def minn(self) -> int:
        """Characters of the shortest n-gram."""

    @property
    def maxn(self) -> int:
        """Characters of the longest n-gram."""

    @property
    def bucket(self) -> int:
        """Number of buckets that n-grams are hashed to."""

    @property
    def pruned(self) -> Pruned | None:
        """Buckets that have a row, ascending, and the row of each among the n-grams; None if all have one."""

    @property
    def codes(self) -> PQCodes | None:
        """All rows as codes, if they are stored as codes and the words' vectors are rows; else None."""

    def rows(self, ids: IntArray, /) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, finished vectors and warnings; the model may be unusable afterwards.

        Parameters
        ----------
        options : ReadOptions
        path : str
            For messages.
        progress : callable, optional
            Called as ``progress(stage, done, total)``, in words.
        ngrams_kept : bool
            The caller keeps the n-grams: do not warn that they are dropped.

        Raises
        ------
        SourceError
            If the options refuse what the model holds.
        """


Reader: TypeAlias = "Callable[[Source, ReadOptions, Progress | None], ReadTable]"
ModelReader: TypeAlias = "Callable[[Source, ReadOptions, Progress | None], Model]"


# ---------------------------------------------------------------- writing


class OutputFile(Protocol):
    """A file to write to."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


CreateFile: TypeAlias = "Callable[[str], AbstractContextManager[OutputFile]]"  # opens a file of a folder, by name


class ExportedTable(LookupTable, Protocol):
    """Embeddings, as a writer needs them; `embshrink.Embeddings` is one.

    Attributes
    ----------
    stored : embshrink.methods.pipeline.Stored or None
        The rows as an open file stores them; None for a table in memory.
    subwords : embshrink.embeddings.subwords.Subwords or None
        The n-grams, from which OOV words get vectors.
    """

    stored: Stored | None
    subwords: Subwords | None

    @property
    def path(self) -> str | None:
        """Path of the open file; None for a table in memory."""

    @property
    def n_rows(self) -> int:
        """Number of stored rows."""

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield blocks: the id of the first word, and the vectors of k words from it on, shape (k, d), float32."""

    def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield blocks: the number of the first row, and k rows from it on, shape (k, d), float32."""


@dataclass
class Outgoing:
    """The data for a writer.

    Parameters
    ----------
    words : Words or PlainWords
        n distinct words.
    blocks : iterator of numpy.ndarray, shape (k, d), float32
        The finite vectors of all words in order, in blocks; can be iterated once.
    dim : int
        Dimension d of the vectors.
    embeddings : Embeddings, optional
        The source of words and blocks, for formats that can store n-grams, shared rows or codes.
    """

    words: Vocabulary
    blocks: Iterator[FloatArray]
    dim: int
    embeddings: ExportedTable | None = None

    @property
    def subwords(self) -> Subwords | None:
        """The n-grams to write, or None."""
        return None if self.embeddings is None else self.embeddings.subwords


Writer: TypeAlias = "Callable[[OutputFile, Outgoing], None]"
FolderWriter: TypeAlias = "Callable[[CreateFile, Outgoing], None]"


# ---------------------------------------------------------------- the formats


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    module : str
        The module with its functions; imported when the format is used.
    read : str
        Name of the function that reads it, a `Reader`.
    write : str, optional
        Name of the function that writes it, a `Writer`, or a `FolderWriter` for a folder; None if it is not written.
    endings : tuple of str
        File name endings for which this format is written by default.
    is_folder : bool
        It is a folder of files, whose names are ``FILES`` of its module.
    holds_ngrams_alone : bool
        It can store n-grams without words.
    checks_rows : bool
        Its reader checks that numbers are finite and drops repeated words, so that no second check is needed.
    by_blocks : bool
        It is read in blocks of rows, so that the table need not fit in memory.
    is_model : bool
        It may hold n-grams, or words as codes: its module has ``load_model``, a `ModelReader`.
    """

    module: str
    read: str = "read"
    write: str | None = "write"
    endings: tuple[str, ...] = ()
    is_folder: bool = False
    holds_ngrams_alone: bool = False
    checks_rows: bool = False
    by_blocks: bool = False
    is_model: bool = False

    def reader(self) -> Reader:
        """Return the function that reads the format."""
        function: Reader = getattr(importlib.import_module(self.module), self.read)
        return function

    def model_reader(self) -> ModelReader:
        """Return the function that reads a model with its n-grams and codes; only if `is_model`."""
        function: ModelReader = importlib.import_module(self.module).load_model
        return function


FORMATS = {
    "text": Format("embshrink.formats.text", checks_rows=True, by_blocks=True),
    "word2vec-text": Format("embshrink.formats.text", write="write_with_header", endings=(".vec",), by_blocks=True),
    "word2vec": Format("embshrink.formats.word2vec", endings=(".bin",), checks_rows=True, by_blocks=True),
    "fasttext": Format("embshrink.formats.fasttext", checks_rows=True, by_blocks=True, is_model=True),
    "finalfusion": Format("embshrink.formats.finalfusion", endings=(".fifu",), checks_rows=True, is_model=True),
    "navec": Format("embshrink.formats.navec", write=None, checks_rows=True, is_model=True),
    "gensim": Format("embshrink.formats.gensim", endings=(".kv",)),
    "floret": Format("embshrink.formats.floret", endings=(".floret",), holds_ngrams_alone=True),
    "spacy": Format("embshrink.formats.spacy", is_folder=True, holds_ngrams_alone=True),
    "ems": Format("embshrink.formats.ems", write=None, by_blocks=True),
}


class FormatEntry(TypedDict):
    """One entry of `list_formats`."""

    format: str
    read: bool
    written: bool
    endings: list[str]


def list_formats() -> list[FormatEntry]:
    """Return all formats that can be read or written.

    Returns
    -------
    list of dict
        For each format ``format`` (str, its name), ``read`` and ``written`` (bool), and ``endings`` (list of str):
        the file name endings for which it is written by default.
    """
    return [{"format": name, "read": True, "written": one.write is not None, "endings": sorted(one.endings)}
            for name, one in FORMATS.items()]


def format_of(target: str | os.PathLike[str]) -> str:
    """Return the name of the format to write, by the ending of the file name; "text" (GloVe) by default."""
    ending = os.path.splitext(os.fspath(target))[1].lower()
    return next((name for name, one in FORMATS.items() if ending in one.endings), "text")


# ---------------------------------------------------------------- options

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "format": (None, *FORMATS),
    "header": ("auto", "yes", "no"),
    "nonfinite": ("error", "drop", "zero"),
    "duplicates": ("first", "error"),
    "row_newline": ("auto", "yes", "no"),
}
_LEAST = {"skip_bad_rows": 0, "limit": 1, "expect_rows": 1, "max_expanded": 1}


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source; the defaults refuse a file that would silently give wrong vectors.

    Parameters
    ----------
    format : str, optional
        A name that `list_formats` returns; by default, the format is detected from the content. "gensim" must be
        named: reading it unpickles, which runs code from the file.
    header : {"auto", "yes", "no"}
        Whether the first line of a text file is a header. "auto": it is one if it is two integers, the second
        of which is the dimension of line 2.
    nonfinite : {"error", "drop", "zero"}
        What to do with a row that has a NaN, an infinity, or a number too large for float32: refuse the file,
        drop the row, or replace the number with 0.
    duplicates : {"first", "error"}
        What to do with a repeated word: keep its first row, or refuse the file.
    allow_truncated : bool
        Accept a file that is shorter than its header states, and a last row that is incomplete.
    skip_bad_rows : int
        Skip up to this many malformed rows of a text file.
    strict : bool
        Refuse a row of text with one number too many, instead of reading the first number as a part of the word.
    row_newline : {"auto", "yes", "no"}
        Whether a newline follows each row of a word2vec binary file; "auto" looks at the first two rows.
    limit : int, optional
        Read only the first `limit` rows.
    expect_rows : int, optional
        Refuse a file with another number of rows.
    member : str, optional
        Name of the file to read from a zip archive; needed if there are several.
    max_expanded : int
        Refuse a compressed file whose content has more bytes than this; 64 GiB by default.
    spool : embshrink.storage.disk_rows.Spool, optional
        Keep a table that does not fit in memory in a temporary file, as `embshrink.storage.disk_rows.Rows`.

    Raises
    ------
    EmbshrinkError
        If a value is not one of those allowed.
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
    spool: Spool | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise EmbshrinkError(f"{name} cannot be {getattr(self, name)!r}",
                                     expected=" or ".join(map(str, choices)), hint="Choose one of these values.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise EmbshrinkError(f"{name} cannot be {value!r}", expected=f"an integer of at least {least}",
                                     hint="Pass an integer in this range.")


# ---------------------------------------------------------------- from and to tables in memory


def as_vectors(source: Source, name: str, words: Words, matrix: Matrix, warnings: list[str]) -> WordVectors:
    """Return the result of a reader as `WordVectors`, with the provenance of the source.

    Parameters
    ----------
    source : Source
        Read to its end here, for its hash.
    name : str
        The format.
    words : Words
        n words.
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    warnings : list of str

    Raises
    ------
    ShapeError
        If a word is repeated or a number is not finite, and the reader of the format does not check that.
    """
    origin, noticed = source.provenance(name), [*source.warnings, *warnings]
    if FORMATS[name].checks_rows:
        return WordVectors.checked(words, matrix, origin, noticed)
    return WordVectors(words, np.asarray(matrix), origin, noticed)


def checked_blocks(blocks: Iterable[FloatArray], dim: int, rows: int) -> Iterator[FloatArray]:
    """Yield blocks as finite float32 matrices, after checking their width and the total number of rows.

    Parameters
    ----------
    blocks : iterable of array_like, shape (k, dim)
    dim : int
    rows : int
        Number of rows that all blocks together must have.

    Raises
    ------
    ShapeError
        If a block is not finite or not `dim` columns wide, or the blocks do not add up to `rows`.
    """
    seen = 0
    for block in blocks:
        block = as_matrix(block, "a block of vectors")
        seen += len(block)
        if block.shape[1] != dim or seen > rows:
            raise ShapeError("the blocks of vectors do not match the words", expected=f"{rows} rows of {dim} numbers",
                             found=f"{seen} rows so far, the last of {block.shape[1]} numbers",
                             hint="Pass one vector for each word, all of the same dimension.")
        yield block
    if seen != rows:
        raise ShapeError("there are fewer vectors than words", expected=f"{rows} rows", found=seen,
                         hint="Pass one vector for each word.")
