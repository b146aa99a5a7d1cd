"""What all formats share: the table of formats, how to read, what a reader gives and what a writer is given.

A format is one line in `FORMATS` and one module, or package, with functions that read and write it.
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
ReadTable: TypeAlias = "tuple[list[bytes], Matrix, list[str]]"  # words, their vectors (n, d), warnings
Pruned: TypeAlias = "tuple[IntArray, IntArray]"  # buckets that were kept, ascending, and the row of each, (k,) both


# ---------------------------------------------------------------- what is read


class Source(Protocol):
    """A file or folder that is open for reading: `embshrink.formats.io.stream.Stream` or ``Folder``.

    Attributes
    ----------
    path : str
        What messages call it.
    file_path : str or None
        Its path, if it is a file that was opened by path.
    packed : str or None
        The compression of the file ("gzip", "bzip2", "xz", "zip", "zstd"); None if it is not compressed.
    content_size : int or None
        Bytes of the uncompressed content, where that is known before it is read.
    warnings : list of str
    """

    path: str
    file_path: str | None
    packed: str | None
    content_size: int | None
    warnings: list[str]

    def provenance(self, format: str) -> Provenance:
        """Return name, size and SHA-256 of all of it, and the format."""


class Model(Protocol):
    """A file that may hold more than words and vectors: rows of n-grams, or rows as product quantization codes.

    Rows of the n words come first, rows of n-grams behind them.
    """

    @property
    def words(self) -> Words:
        """The n words."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def has_ngrams(self) -> bool:
        """Whether there are n-grams to make vectors of unseen words from."""

    @property
    def minn(self) -> int:
        """Characters of the shortest n-gram."""

    @property
    def maxn(self) -> int:
        """Characters of the longest n-gram."""

    @property
    def bucket(self) -> int:
        """How many buckets n-grams are hashed to."""

    @property
    def pruned(self) -> Pruned | None:
        """Buckets that were kept, ascending, and the row of each among the n-grams; None if every bucket has one."""

    @property
    def codes(self) -> PQCodes | None:
        """All rows as codes, where they are stored so and the words' vectors are their rows."""

    def rows(self, ids: IntArray, /) -> FloatArray:
        """Return rows, shape (k, d)."""

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, finished vectors and warnings; may use the model up.

        Parameters
        ----------
        options : ReadOptions
        path : str
            For messages.
        progress : callable, optional
            Called as ``progress(stage, done, total)``, in words.
        ngrams_kept : bool
            The caller has taken the n-grams from the model: no warning says that they are lost.

        Raises
        ------
        SourceError
            If the options forbid what was found.
        """


Reader: TypeAlias = "Callable[[Source, ReadOptions, Progress | None], ReadTable]"
ModelReader: TypeAlias = "Callable[[Source, ReadOptions, Progress | None], Model]"


# ---------------------------------------------------------------- what is written


class OutputFile(Protocol):
    """A file to write to."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


CreateFile: TypeAlias = "Callable[[str], AbstractContextManager[OutputFile]]"  # opens a file of a folder, by name


class ExportedTable(LookupTable, Protocol):
    """Embeddings as a writer sees them: `embshrink.reader.Embeddings` is one.

    Attributes
    ----------
    stored : embshrink.methods.pipeline.Stored or None
        The rows as an open file keeps them; None for a table in memory.
    subwords : embshrink.embeddings.subwords.Subwords or None
        What vectors of unseen words are made of.
    """

    stored: Stored | None
    subwords: Subwords | None

    @property
    def n_rows(self) -> int:
        """How many rows are stored."""

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield the id of a first word, and the vectors of the words from it on, shape (k, d)."""

    def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield the number of a first row, and the rows from it on, shape (k, d)."""


@dataclass
class Outgoing:
    """What a writer is given.

    Parameters
    ----------
    words : Words or PlainWords
        n distinct words.
    blocks : iterator of numpy.ndarray, shape (k, d), float32
        The finite vectors of all words in order, a block at a time; to be used once.
    dim : int
    embeddings : Embeddings, optional
        Where words and blocks are from, for formats that hold more: n-grams, rows that words share, codes.
    """

    words: Vocabulary
    blocks: Iterator[FloatArray]
    dim: int
    embeddings: ExportedTable | None = None

    @property
    def subwords(self) -> Subwords | None:
        """The n-grams to write, if there are any."""
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
        Where its functions are; imported when the format is used.
    read : str
        The function that reads it, a `Reader`.
    write : str, optional
        The function that writes it, a `Writer`, or a `FolderWriter` of a folder; None if we do not write it.
    endings : tuple of str
        Names of files that end so are written in this format by default.
    is_folder : bool
        It is a folder of files; ``FILES`` in its module are their names.
    holds_ngrams_alone : bool
        It can be written without words, from n-grams alone.
    checks_rows : bool
        Its parser refuses what is not finite and leaves out words that come again: no need to check anew.
    by_blocks : bool
        It is read some rows at a time, so that the table need not fit into memory.
    is_model : bool
        It may hold n-grams beside words, or words as codes: its module has ``load_model``, a `ModelReader`.
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
        """Return the function that reads a model with all it holds; only for formats that are models."""
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
    """What `list_formats` says of a format."""

    format: str
    read: bool
    written: bool
    endings: list[str]


def list_formats() -> list[FormatEntry]:
    """Return every format: its name, whether it is read and written, and the endings that choose it for writing."""
    return [{"format": name, "read": True, "written": one.write is not None, "endings": sorted(one.endings)}
            for name, one in FORMATS.items()]


def format_of(target: str | os.PathLike[str]) -> str:
    """Return the name of the format that a file's name asks for by its ending; GloVe's text if by none."""
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
        Leave out up to this many malformed rows of a text file.
    strict : bool
        Treat a row of text with one number too many as an error, not as a word that holds a space.
    row_newline : {"auto", "yes", "no"}
        Whether a newline follows each row of a word2vec binary file.
    limit : int, optional
        Read only the first `limit` rows.
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
    spool: Spool | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise EmbshrinkError(f"{name} cannot be {getattr(self, name)!r}",
                                     expected=" or ".join(map(str, choices)), hint="Choose one of these.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise EmbshrinkError(f"{name} cannot be {value!r}", expected=f"a whole number, at least {least}",
                                     hint="Correct the option.")


# ---------------------------------------------------------------- from and to tables in memory


def as_vectors(source: Source, name: str, words: list[bytes], matrix: Matrix, warnings: list[str]) -> WordVectors:
    """Return what a reader found as `WordVectors`, with where it is from.

    Parameters
    ----------
    source : Source
        Read to its end here, for its hash.
    name : str
        Of the format.
    words : list of bytes
        n words.
    matrix : numpy.ndarray or Rows, shape (n, d), float32
    warnings : list of str

    Raises
    ------
    ShapeError
        If a word comes again or a number is not finite, in a format whose parser does not look for that.
    """
    origin, noticed = source.provenance(name), [*source.warnings, *warnings]
    if FORMATS[name].checks_rows:
        return WordVectors.checked(Words(words), matrix, origin, noticed)
    return WordVectors(Words(words), np.asarray(matrix), origin, noticed)


def checked_blocks(blocks: Iterable[FloatArray], dim: int, rows: int) -> Iterator[FloatArray]:
    """Yield blocks as finite float32 matrices, after checking that they fit one another and the words.

    Parameters
    ----------
    blocks : iterable of array_like, shape (k, dim)
    dim : int
    rows : int
        How many rows all blocks together must have.

    Raises
    ------
    ShapeError
        If they are not finite numbers of one width, or do not add up to `rows`.
    """
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
