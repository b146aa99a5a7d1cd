"""Read any source as a table: words, rows, and the map from words to rows."""

from __future__ import annotations

import dataclasses
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embshrink.compression.ngrams import NgramTable, of_file, of_model
from embshrink.embeddings.file import open_file
from embshrink.embeddings.from_memory import InMemory, word_vectors_of
from embshrink.embeddings.table import VectorTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import SourceError, need
from embshrink.methods.pipeline import Shrunk
from embshrink.methods.row_map import RowMap
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.disk_rows import SHARE, Matrix, Spool
from embshrink.vocabulary.words import Vocabulary, Words

if TYPE_CHECKING:
    from embshrink.formats import ReadOptions
    from embshrink.formats.base import Source as OpenSource
    from embshrink.formats.io.pq_codes import PQCodes

Source: TypeAlias = "str | os.PathLike[str] | InMemory"


@dataclass
class SourceTable:
    """Word vectors on which steps can be run: words, rows, and the map from words to rows.

    Parameters
    ----------
    words : Vocabulary
        The words.
    matrix : numpy.ndarray of float32 or embshrink.storage.disk_rows.Rows, shape (rows, d)
        The rows.
    row_map : RowMap
        Map from words to rows.
    source : dict
        Name, format, size and checksum of the source, for the header.
    warnings : list of str
        Warnings of the reader.
    embeddings : VectorTable
        The same vectors, as the baseline of the loss.
    ngrams : NgramTable, optional
        The n-grams that make vectors of out-of-vocabulary words, if the source has any.
    stored : Shrunk, optional
        The vectors as codes of the source, if an ``.ems`` file can hold these unchanged.
    """

    words: Vocabulary
    matrix: Matrix
    row_map: RowMap
    source: dict[str, object]
    warnings: list[str]
    embeddings: VectorTable
    ngrams: NgramTable | None = None
    stored: Shrunk | None = None

    @property
    def name(self) -> str | None:
        """Name of the source, for messages."""
        name = self.source.get("name")
        return None if name is None else str(name)

    @property
    def source_bytes(self) -> int | None:
        """Size of the source in bytes, compressed if it is; None for vectors in memory."""
        size = self.source.get("size")
        return size if isinstance(size, int) else None


def open_table(
    source: Source, options: ReadOptions | None = None, *, ngrams: bool = True, progress: Progress = no_progress
) -> SourceTable:
    """Read a source as a table on which steps can be run.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        A path of any file that `embshrink.read_vectors` reads, or of an ``.ems`` file; or words and vectors in memory
        (see `embshrink.embeddings.from_memory.word_vectors_of`). Words of an ``.ems`` file
        continue to share rows, and only its stored rows are decoded.
    options : embshrink.ReadOptions, optional
        How to read the source.
    ngrams : bool, default True
        Keep the n-grams of a fastText model or of one in a finalfusion file, unless ``options.limit`` is set. The
        vectors of its words are complete with or without them. A floret table consists of n-grams only.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    SourceTable
        The table.

    Raises
    ------
    SourceError
        If the source cannot be read, or has neither words nor n-grams that are kept.
    TypeError
        If `source` is an open file, or of another type.
    ExtraError
        If a package is not installed that compression needs.
    """
    need("compression", "numba", "scipy", "threadpoolctl")  # threadpoolctl: or bytes would depend on BLAS's threads
    if isinstance(source, VectorTable) and source.path is not None:
        raise TypeError("expected a path or vectors in memory as the source, not an open file: pass its path")
    table = _read_table(source, options, ngrams, progress)
    if not len(table.words) and table.ngrams is None:
        raise SourceError("the source has no vectors to keep", path=table.name,
                          hint='A floret table has n-grams only. Keep them: leave out ngrams="drop" (--no-ngrams).')
    return table


def _read_table(source: Source, options: ReadOptions | None, ngrams: bool, progress: Progress) -> SourceTable:
    kept = stored = None
    if not isinstance(source, (str, os.PathLike, io.IOBase)):
        vectors = word_vectors_of(source)
    else:
        from embshrink.formats import FORMATS, ReadOptions, open_identified, read_stream

        options = options or ReadOptions()
        with open_identified(source, options) as (stream, name):
            if name == "ems" and stream.file_path is not None and not stream.packed:
                return _open_ems(stream, stream.file_path, ngrams, options.spool)
            if not FORMATS[name].by_blocks and options.spool is not None:
                _refuse_large(stream, name, options.spool)
            if name in ("floret", "spacy"):
                return _open_floret_or_spacy(stream, name, options, ngrams, progress)
            if FORMATS[name].is_model:
                vectors, kept, stored = _read_model(stream, name, options, ngrams, progress)
            else:
                vectors = read_stream(stream, name, options, progress)
    return SourceTable(vectors.words, vectors.matrix, RowMap.identity(len(vectors)), vectors.source,
                       vectors.warnings, VectorTable.of_vectors(vectors), kept, stored)


def _refuse_large(stream: OpenSource, name: str, spool: Spool) -> None:
    """Refuse a file of a format that is read whole if it does not fit into the memory that is allowed."""
    size = stream.content_size
    if size is None or not spool.fits(size):
        raise SourceError(f"max_memory (--max-memory) is too small: a {name} file is read whole", path=stream.path,
                          expected=f"a file of at most {spool.limit // SHARE:,} bytes",
                          found="an unknown size" if size is None else f"{size:,}",
                          hint="Allow more memory, or convert the file to word2vec format on a larger machine.")


def _read_model(
    stream: OpenSource, name: str, options: ReadOptions, ngrams: bool, progress: Progress
) -> tuple[WordVectors, NgramTable | None, Shrunk | None]:
    """Return the words of a model as `WordVectors`, and its n-grams and codes; None if it has none."""
    from embshrink.formats import FORMATS, as_vectors

    model = FORMATS[name].model_reader()(stream, options, progress)
    kept = None  # n-grams first: finishing the words consumes the model
    if ngrams and model.has_ngrams and options.limit is None:
        kept = of_model(model, options.spool)
    found = model.finished_words(options, stream.path, progress, ngrams_kept=kept is not None)
    vectors, stored = as_vectors(stream, name, *found), None
    if model.codes is not None:
        ids = {word: row for row, word in reversed(list(enumerate(model.words.raw)))}
        stored = _as_stored(model.codes.take(np.array([ids[word] for word in vectors.words.raw], np.int64)))
        if stored is None:
            vectors.warnings.append(f"the codes of all {len(vectors):,} words are decoded instead of kept: a norm is "
                                    "outside the range of float16")
        if kept is not None:
            kept = dataclasses.replace(kept, stored=_as_stored(model.codes.take(kept.ids + len(model.words))))
    return vectors, kept, stored


def _as_stored(codes: PQCodes) -> Shrunk | None:
    """Return codes of another program as an ``.ems`` file holds them; None if float16 cannot hold their norms."""
    step, state, parts = codes.as_pq()
    row_map = RowMap.identity(len(codes))
    if codes.norms is not None:
        with np.errstate(over="ignore"):
            scale = codes.norms.astype(np.float16).astype(np.float32)
        if not (np.abs(scale - codes.norms) <= np.abs(codes.norms) / 1024).all():
            return None
        if (scale != 1).any():
            row_map = dataclasses.replace(row_map, scale=scale)
    return Shrunk([step], codes.dim, row_map, [], step, state, parts)


def _open_floret_or_spacy(
    stream: OpenSource, name: str, options: ReadOptions, ngrams: bool, progress: Progress
) -> SourceTable:
    """Return the table of a spaCy vocab, whose words may share rows, or of floret, which has only n-grams."""
    from embshrink.formats import floret, spacy

    found = (floret if name == "floret" else spacy).load_table(stream, options, progress)
    source = stream.provenance(name)
    words, row_map, kept = Words([]), RowMap.identity(0), None
    if isinstance(found, floret.FloretTable):
        kept = NgramTable(found.hashing, found.ids, found.matrix, np.ones(len(found.ids)), "zero") if ngrams else None
        matrix = np.empty((0, found.matrix.shape[1]), np.float32)
    else:
        words, matrix = Words(found.words), found.matrix
        _, owners = np.unique(found.rows, return_index=True)
        row_map = RowMap(found.rows, len(matrix), owners)
    table = VectorTable(words, matrix.__getitem__, matrix.shape[1], row_map, len(matrix))
    return SourceTable(words, matrix, row_map, source, [*stream.warnings, *found.warnings], table, kept)


def _open_ems(stream: OpenSource, path: str, ngrams: bool, spool: Spool | None) -> SourceTable:
    table = open_file(path, VectorTable, verify="full", sparing=spool is not None)
    stored = _kept_whole(table)
    shape = table.n_rows, table.vector_size
    matrix: Matrix = np.empty(shape, np.float32) if spool is None else spool.empty(shape)
    for start, block in table.row_blocks():
        matrix[start : start + len(block)] = block
    info = table.info()
    source = {**stream.provenance("ems"), **{key: info[key] for key in ("steps", "seed", "source", "writer")}}
    kept = None
    if ngrams and table.subwords is not None:
        kept, rows = of_file(table.subwords), table.subwords.rows
        kept = dataclasses.replace(kept, stored=_kept_whole(rows) if isinstance(rows, VectorTable) else None)
    return SourceTable(table.words, matrix, stored.row_map, source, [], table, kept, stored)


def _kept_whole(table: VectorTable) -> Shrunk:
    """Return the codes, state and row map of an open file, to be written to another file unchanged."""
    rows = np.arange(len(table)) if table.row_map is None else table.row_map.astype(np.int64)
    if table.stored is None:
        raise TypeError("only a table that was read from a file has codes")
    codes = {name: np.asarray(part) for name, part in table.stored.codes.items()}
    row_map = RowMap(rows, table.n_rows, table.owners(), table.scale)
    stored = table.stored
    return Shrunk(stored.steps, stored.dim, row_map, stored.columns, stored.codec, stored.state, codes)
