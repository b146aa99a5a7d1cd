"""What is to be shrunk: words, rows, and the map between them, from any source."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embshrink.compression.ngrams import NgramTable, of_file, of_model
from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import VectorTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import SourceError
from embshrink.methods.pipeline import Shrunk
from embshrink.methods.row_map import RowMap
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.disk_rows import SHARE, Matrix, Spool
from embshrink.vocabulary.words import Vocabulary, Words

if TYPE_CHECKING:
    from embshrink.formats import ReadOptions
    from embshrink.formats.base import Source as OpenSource
    from embshrink.formats.io.pq_codes import PQCodes

Source: TypeAlias = "str | os.PathLike[str] | WordVectors"



@dataclass
class SourceTable:
    """Word vectors ready to be shrunk: words, rows, and the map between them where rows are shared.

    Parameters
    ----------
    words : Vocabulary
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (rows, d), float32
    row_map : RowMap
    source : dict
        Provenance for the header.
    warnings : list of str
        What reading noticed.
    embeddings : VectorTable
        The same vectors, to compare with.
    ngrams : NgramTable, optional
        What vectors of unseen words are made of, if the source has it.
    stored : Shrunk, optional
        The same vectors as the source has them, where that is as codes that a file of ours holds as they are.
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
        """The source's name, for messages."""
        name = self.source.get("name")
        return None if name is None else str(name)

    @property
    def source_bytes(self) -> int | None:
        """Bytes of the source as it was given; None for vectors in memory."""
        size = self.source.get("size")
        return size if isinstance(size, int) else None


def open_table(
    source: Source, options: ReadOptions | None = None, *, ngrams: bool = True, progress: Progress = no_progress
) -> SourceTable:
    """Read what is to be shrunk.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
        Any file `embshrink.read_vectors` reads. An ``.ems`` file keeps its row map: words that share a row
        go on sharing it, and only the stored rows are decoded.
    options : embshrink.ReadOptions, optional
    ngrams : bool
        Keep the n-grams of a fastText model, also of one in a finalfusion file; its words' vectors are finished ones
        either way. With ``limit`` they are not kept. A floret table has nothing else.
    progress : callable

    Returns
    -------
    SourceTable

    Raises
    ------
    SourceError
        If it cannot be read, or nothing of it would be left.
    """
    table = _read_table(source, options, ngrams, progress)
    if not len(table.words) and table.ngrams is None:
        raise SourceError("there are no vectors in it", path=table.name,
                          hint="If it holds n-grams alone, as a floret table, keep those.")
    return table


def _read_table(source: Source, options: ReadOptions | None, ngrams: bool, progress: Progress) -> SourceTable:
    kept = stored = None
    if isinstance(source, WordVectors):
        vectors = source
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
    """Refuse a file that is read whole, whatever may be in memory, if that is too little."""
    size = stream.content_size
    if size is None or not spool.fits(size):
        raise SourceError(f"a file of the format {name} is read into memory whole", path=stream.path,
                          expected=f"at most {spool.limit // SHARE} bytes", found=size,
                          hint="Allow more memory, or turn it into a word2vec file first, elsewhere.")


def _read_model(
    stream: OpenSource, name: str, options: ReadOptions, ngrams: bool, progress: Progress
) -> tuple[WordVectors, NgramTable | None, Shrunk | None]:
    """Return a model's words as `WordVectors`; its n-grams and its words as codes, or None where it has none."""
    from embshrink.formats import FORMATS, as_vectors

    model = FORMATS[name].model_reader()(stream, options, progress)
    kept = None  # first: finishing the words uses the model up
    if ngrams and model.has_ngrams and options.limit is None:
        kept = of_model(model, options.spool)
    found = model.finished_words(options, stream.path, progress, ngrams_kept=kept is not None)
    vectors, stored = as_vectors(stream, name, *found), None
    if model.codes is not None:
        ids = {word: row for row, word in reversed(list(enumerate(model.words.raw)))}
        stored = _as_stored(model.codes.take(np.array([ids[word] for word in vectors.words.raw], np.int64)))
        if stored is None:
            vectors.warnings.append("its codes cannot be kept as they are, for a norm is out of float16's range")
        if kept is not None:
            kept = dataclasses.replace(kept, stored=_as_stored(model.codes.take(kept.ids + len(model.words))))
    return vectors, kept, stored


def _as_stored(codes: PQCodes) -> Shrunk | None:
    """Return codes of another program as a file of ours holds them; None if that cannot say their norms."""
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
    """Return a table whose words share rows, or one without words, whose rows are all n-grams'."""
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
    """Return all that an open file holds of a table's vectors, to be written to another file as it is."""
    rows = np.arange(len(table)) if table.row_map is None else table.row_map.astype(np.int64)
    if table.stored is None:
        raise TypeError("only a table out of a file has codes")
    codes = {name: np.asarray(part) for name, part in table.stored.codes.items()}
    row_map = RowMap(rows, table.n_rows, table.owners(), table.scale)
    stored = table.stored
    return Shrunk(stored.steps, stored.dim, row_map, stored.columns, stored.codec, stored.state, codes)
