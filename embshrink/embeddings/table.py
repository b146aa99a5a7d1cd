"""A table of word vectors: words, stored rows, the map between them, and the file they are from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast, overload

import numpy as np

from embshrink.errors import FormatError
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.numerics.progress import Progress, no_progress

if TYPE_CHECKING:
    from typing_extensions import Self

    from embshrink.embeddings.index import Index
    from embshrink.embeddings.subwords import Subwords
    from embshrink.embeddings.word_vectors import WordVectors
    from embshrink.methods.base import Codes
    from embshrink.methods.pipeline import Stored
    from embshrink.methods.row_map import RowMap, StoredRowMap
    from embshrink.storage.arrays import AnyArray, FloatArray, IntArray
    from embshrink.storage.container import Container
    from embshrink.vocabulary.words import Vocabulary

BLOCK_VALUES = 1 << 21
CHECKED_ROWS = 65_536  # rows whose codes are checked at a time
FAR_ROWS = 64  # rows far apart that are decoded at a time where memory is spared: each may bring 1 MiB of the file

Default = TypeVar("Default")
_building_index = threading.Lock()


class FileInfo(TypedDict, total=False):
    """What a file says of itself; of vectors in memory only the first three. The header may have further keys."""

    words: int
    dim: int
    rows: int
    owned: bool
    vocabulary: str
    steps: list[str]
    seed: int
    source: dict[str, object]
    writer: str
    path: str
    version: str
    bytes: int
    sections: dict[str, int]
    bits_per_word: float
    word_bits_per_word: float


class VectorTable:
    """Words and a way to decode their vectors.

    Parameters
    ----------
    words : Vocabulary
        n words in order of id.
    decode : callable
        Stored row ids (k,) -> (k, dim) float32.
    dim : int
        Length of a vector.
    row_map : RowMap, StoredRowMap or None
        From words to stored rows; None where word i has row i.
    n_rows : int
        How many rows are stored.
    owned : bool
        Whether each row is some word's own vector; false for centroids.
    stored : Stored, optional
        Steps, codes and state that `decode` decodes.
    subwords : Subwords, optional
        What makes vectors of words that are not here.
    container : Container, optional
        The open file that all of it is read from.
    sparing : bool
        Take what was read of the file out of memory again at once.

    Attributes
    ----------
    vector_size : int
        Length of a vector.
    """

    def __init__(
        self, words: Vocabulary, decode: Callable[[IntArray], FloatArray], dim: int,
        row_map: RowMap | StoredRowMap | None, n_rows: int, *, owned: bool = True, stored: Stored | None = None,
        subwords: Subwords | None = None, container: Container | None = None, sparing: bool = False,
    ) -> None:
        self.words = words
        self.vector_size = dim
        self.n_rows = n_rows
        self.stored = stored
        self.subwords = subwords
        self.sparing = sparing
        self.index: Index | None = None
        self._searched = False
        self._decode = decode
        self._map = row_map
        self._owned = owned
        self._owners: IntArray | None = None
        self._container = container

    @classmethod
    def of_vectors(cls, vectors: WordVectors) -> Self:
        """Return the table of word vectors in memory."""
        return cls(vectors.words, vectors.matrix.__getitem__, vectors.dim, None, len(vectors))

    # ------------------------------------------------------------ rows

    @property
    def row_map(self) -> AnyArray | None:
        """Stored row of each word, (n,) unsigned, or None where word i has row i."""
        return None if self._map is None else self._checked_rows(np.asarray(self._map.rows))

    def _checked_rows(self, rows: AnyArray) -> AnyArray:
        """Return numbers of rows from the file's map; raise FormatError if there is no such row."""
        if rows.size and int(rows.max()) >= self.n_rows:
            raise FormatError("map.rows names a row that is not there", path=self.path, expected=f"< {self.n_rows}",
                              found=int(rows.max()))
        return rows

    def rows_of(self, ids: IntArray) -> IntArray:
        """Return the stored rows of words given by id, (k,)."""
        return ids if self._map is None else np.asarray(self._checked_rows(self._map.rows[ids]), np.int64)

    @property
    def scale(self) -> FloatArray | None:
        """Factor of each word on its row, (n,) float32, or None for 1."""
        if self._map is None or self._map.scale is None:
            return None
        return np.asarray(self._map.scale).astype(np.float32)

    @property
    def path(self) -> str | None:
        """The open file, or None."""
        return None if self._container is None else self._container.path

    def decode_rows(self, rows: IntArray) -> FloatArray:
        """Return stored rows as (k, dim) float32."""
        try:
            return self._decode_sparingly(np.asarray(rows)) if self.sparing else self._decode(rows)
        except FormatError as error:
            raise error.located(self.path) if self.path else error from error.__cause__

    def _decode_sparingly(self, rows: IntArray) -> FloatArray:
        """Decode rows, and take what was read of the file out of memory; of rows far apart a few at a time."""
        near = len(rows) and int(rows.max()) - int(rows.min()) < 4 * len(rows)
        size = len(rows) if near else FAR_ROWS
        parts = []
        for start in range(0, max(len(rows), 1), max(size, 1)):
            parts.append(self._decode(rows[start : start + size]))
            self._let_go()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _let_go(self) -> None:
        """Take what was read of the file out of memory, where that is asked for."""
        if self.sparing and self._container is not None:
            self._container.let_go()

    def decode_ids(self, ids: IntArray | Sequence[int]) -> FloatArray:
        """Return the vectors of words given by id, as (k, dim) float32."""
        ids = np.asarray(ids, dtype=np.int64)
        if self._map is None:
            return self.decode_rows(ids)
        rows, inverse = np.unique(self.rows_of(ids), return_inverse=True)  # shared rows are decoded once
        vectors = self.decode_rows(rows)[inverse.ravel()]
        if self._map.scale is not None:
            vectors = vectors * self._map.scale[ids].astype(np.float32)[:, None]
        return vectors

    @property
    def block_rows(self) -> int:
        """How many rows to decode at a time: fewer of very long vectors."""
        return max(1, min(BLOCK_ROWS, BLOCK_VALUES // self.vector_size))

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first id, vectors) over all words, `block_rows` at a time."""
        for start in range(0, len(self), self.block_rows):
            yield start, self.decode_ids(np.arange(start, min(start + self.block_rows, len(self))))

    def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, decoded rows) over all stored rows, `block_rows` at a time."""
        for start in range(0, self.n_rows, self.block_rows):
            yield start, self.decode_rows(np.arange(start, min(start + self.block_rows, self.n_rows)))

    # ------------------------------------------------------------ words

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str | bytes) -> bool:
        return self.words.find(word) >= 0

    def __repr__(self) -> str:
        rows = "" if self.n_rows == len(self) else f" on {self.n_rows} rows"
        path = f", {self.path}" if self.path else ""
        return f"<{type(self).__name__}: {len(self)} words{rows}, dim {self.vector_size}{path}>"

    def id_of(self, word: str | bytes) -> int:
        """Return the id of `word`; KeyError where there is none."""
        index = self.words.find(word)
        if index < 0:
            raise KeyError(f"Key '{word!s}' not present")
        return index

    @overload
    def get(self, word: str | bytes, default: None = None, *, oov: bool = True) -> FloatArray | None: ...

    @overload
    def get(self, word: str | bytes, default: Default, *, oov: bool = True) -> FloatArray | Default: ...

    def get(
        self, word: str | bytes, default: Default | None = None, *, oov: bool = True
    ) -> FloatArray | Default | None:
        """Return the vector of `word`, (dim,) float32, or `default`; of vocabulary words only without `oov`."""
        index = self.words.find(word)
        if index >= 0:
            vector: FloatArray = self.decode_ids([index])[0]
            return vector
        unseen = self.subwords.vector(word) if oov and self.subwords is not None else None
        return default if unseen is None else unseen

    def get_vector(self, word: str | bytes, norm: bool = False) -> FloatArray:
        """Return the vector of `word`, (dim,) float32; at length 1 with `norm`. KeyError for a missing word.

        A word that is not in the vocabulary gets a vector made of its n-grams, if the file has n-grams.
        """
        vector = self.get(word)
        if vector is None:
            raise KeyError(f"Key '{word!s}' not present")
        return unit_rows(vector[None])[0] if norm else vector

    def vectors_for(self, words: Iterable[str | bytes], *, norm: bool = False) -> FloatArray:
        """Return the vectors of several words, (k, dim) float32, in one decoding.

        Raises
        ------
        KeyError
            Naming the first word that is missing.
        """
        words = list(words)
        ids = np.array([self.words.find(word) for word in words], np.int64)
        vectors = np.empty((len(words), self.vector_size), np.float32)
        if (ids >= 0).any():
            vectors[ids >= 0] = self.decode_ids(ids[ids >= 0])
        for place in np.flatnonzero(ids < 0).tolist():
            vectors[place] = self.get_vector(words[place])
        return unit_rows(vectors) if norm else vectors

    # ------------------------------------------------------------ aliases

    def alias_of(self, word: str | bytes) -> str | None:
        """Return the word whose vector `word` answers with.

        Itself, unless its own vector was pruned or merged; None where vectors are centroids and so
        nobody's own. KeyError for a missing word.
        """
        index = self.id_of(word)
        if self._map is None:
            return self.words[index]
        owners = self.owners()
        return None if owners is None else self.words[int(owners[int(self.rows_of(np.array([index]))[0])])]

    def owners(self) -> IntArray | None:
        """Return the id of the word each stored row belongs to, (rows,), or None for centroids."""
        if not self._owned:
            return None
        if self._owners is None:
            self._owners = self._find_owners()
        return self._owners

    def _find_owners(self) -> IntArray:
        if self._map is None:
            return np.arange(self.n_rows)
        if self._map.owners is not None:
            owners = np.asarray(self._map.owners).astype(np.int64)
            if owners.size and int(owners.max()) >= len(self):
                raise FormatError("map.owners names a word that is not there", path=self.path,
                                  expected=f"< {len(self)}", found=int(owners.max()))
            return owners
        rows, first = np.unique(np.asarray(self.row_map), return_index=True)  # the first word that has the row
        if len(rows) != self.n_rows:
            raise FormatError("a stored row belongs to no word", path=self.path, expected=self.n_rows,
                              found=len(rows))
        return first.astype(np.int64)

    def shares_row(self, first: str | bytes, second: str | bytes) -> bool:
        """Whether two words answer with the same stored row."""
        rows = self.rows_of(np.array([self.id_of(first), self.id_of(second)], np.int64))
        return bool(rows[0] == rows[1])

    # ------------------------------------------------------------ search (see embeddings/search.py)

    def index_for(self, queries: int = 1) -> Index | None:
        """Return the index of the rows for so many queries, made for the second query and kept in `index`, or None.

        The first query decodes all rows: that takes less time than making an index, for which numba must be loaded.
        There is no index of fewer rows than 20,000, none that would take more than 1 GiB, and none without numba.
        """
        if self.index is not None:  # most searches: nothing more to ask
            return self.index
        from embshrink.embeddings.index import LEAST_ROWS, make_index

        if self.n_rows >= LEAST_ROWS:
            with _building_index:
                if self.index is None and (self._searched or queries > 1):
                    self.index = make_index(self)
                self._searched = True
        return self.index

    # ------------------------------------------------------------ the file

    @property
    def nbytes(self) -> int:
        """Bytes of the open file; 0 where there is none."""
        return 0 if self._container is None else self._container.size

    def info(self) -> FileInfo:
        """Return what the file is: header, and bytes of each section, as a JSON-able dict."""
        info: FileInfo = {"words": len(self), "dim": self.vector_size, "rows": self.n_rows}
        if self._container is None:
            return info
        container = self._container
        sections = {name: part.nbytes for name, part in container.sections.items()}
        vectors = sum(size for name, size in sections.items() if not name.startswith(("words.", "ngrams.")))
        strings = sum(size for name, size in sections.items() if name.startswith("words."))
        return cast("FileInfo", {
            **container.header, "path": container.path, "version": "{}.{}".format(*container.version),
            "bytes": container.size, "sections": sections,
            "bits_per_word": 8 * vectors / len(self) if len(self) else 0.0,
            "word_bits_per_word": 8 * strings / max(len(self), 1),
        })

    def check(self, *, progress: Progress = no_progress) -> None:
        """Check everything: all checksums, the word index, the row map, every code and every decoded row.

        Parameters
        ----------
        progress : callable
            ``progress("checking rows", done, total)``.

        Raises
        ------
        FormatError
            Naming the first thing that is wrong.
        """
        sparing, self.sparing = self.sparing, True  # what was looked at is not looked at again
        try:
            if self._container is not None:
                self._container.check()
                self.words.check()
            self.check_rows(progress)
            if self.subwords is not None:
                self.subwords.check()
        except FormatError as error:
            raise (error.located(self.path) if self.path else error) from error.__cause__
        finally:
            self.sparing = sparing

    def check_rows(self, progress: Progress = no_progress) -> None:
        """Check the row map, every code and every decoded row; raise FormatError at the first that is wrong."""
        self._check_codes()
        owners, scale, row_map = self.owners(), self.scale, self.row_map
        if row_map is not None and owners is not None and not np.array_equal(row_map[owners], np.arange(self.n_rows)):
            raise FormatError("map.owners names a word that has another row")
        if scale is not None and not np.isfinite(scale).all():
            raise FormatError("map.scale holds a NaN or an infinity")
        largest = self._largest_numbers(progress)
        with np.errstate(over="ignore"):
            if scale is not None and not np.isfinite(scale * largest[np.asarray(row_map)]).all():
                raise FormatError("map.scale makes a vector that is not finite")

    def _check_codes(self) -> None:
        if self.stored is None:
            return
        for codes in self._code_blocks(self.stored.codes):
            self.stored.codec.check_codes(codes, self.stored.state)
            self._let_go()

    def _code_blocks(self, codes: Codes) -> Iterator[Codes]:
        """Yield all codes, some rows at a time where each row has its own."""
        if any(len(part) != self.n_rows for part in codes.values()):
            yield codes
            return
        for start in range(0, self.n_rows, CHECKED_ROWS):
            yield {name: part[start : start + CHECKED_ROWS] for name, part in codes.items()}

    def _largest_numbers(self, progress: Progress) -> FloatArray:
        """Return the largest absolute value of each decoded row, (rows,); FormatError if one is not finite."""
        largest = np.empty(self.n_rows, np.float32)
        for start, block in self.row_blocks():
            stop = start + len(block)
            largest[start:stop] = np.abs(block).max(axis=1)
            if not np.isfinite(largest[start:stop]).all():
                raise FormatError("a decoded vector is not finite", where=f"rows {start} to {stop - 1}")
            progress("checking rows", stop, self.n_rows)
        return largest

    def close(self) -> None:
        """Close the file, and free what search keeps in memory."""
        self.index, self._searched = None, False
        self.words.pack()
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
