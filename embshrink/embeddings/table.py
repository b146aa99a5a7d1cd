"""A table of word vectors: words, stored rows, the map from words to rows, and the file they come from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias, TypedDict, TypeVar, cast, overload

import numpy as np

from embshrink.errors import DAMAGED, FormatError
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.compiled import numba_installed
from embshrink.numerics.parallel import BLOCK_ROWS
from embshrink.numerics.progress import Progress, no_progress
from embshrink.vocabulary.words import to_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from embshrink.embeddings.index import Index
    from embshrink.embeddings.subwords import Subwords
    from embshrink.embeddings.word_vectors import WordVectors
    from embshrink.methods.base import Codes
    from embshrink.methods.pipeline import Stored
    from embshrink.methods.row_map import RowMap, StoredRowMap
    from embshrink.storage.arrays import AnyArray, BoolArray, FloatArray, IntArray
    from embshrink.storage.container import Container
    from embshrink.vocabulary.words import Vocabulary, Words

BLOCK_VALUES = 1 << 21
UNCOMPILED = 4  # times more rows are decoded at a time without numba: numpy alone reads many as fast as few
CHECKED_ROWS = 65_536  # rows whose codes are checked at a time
FAR_ROWS = 64  # distant rows decoded at a time if memory is limited: each may load 1 MiB of the file

Default = TypeVar("Default")
Key: TypeAlias = str | bytes | SupportsIndex  # a word, or the id of a word
_building_index = threading.Lock()


class TableInfo(TypedDict):
    """Size of a table: number of `words`, dimension `dim` of the vectors, and number of stored `rows`."""

    words: int
    dim: int
    rows: int


class _HeaderInfo(TypedDict, total=False):
    """Keys that only some headers have."""

    counts: dict[str, object]
    protected: dict[str, object]
    subwords: dict[str, object]


class FileInfo(TableInfo, _HeaderInfo):
    """Header of an ``.ems`` file, and the size of its parts. The header may have further keys.

    Attributes
    ----------
    words, dim, rows : int
        Number of words, dimension of the vectors, number of stored rows.
    owned : bool
        Whether each row is the vector of a word; False for centroids.
    vocabulary : {"plain", "packed"}
        How the words are stored.
    steps : list of str
        Steps that made the file, with all parameters filled in.
    seed : int
        Seed of the steps.
    source : dict
        ``name``, ``format``, ``size`` in bytes and ``sha256`` of the source, if they are known.
    writer : str
        Program and version that wrote the file.
    path : str
        The file.
    version : str
        Version of the format, such as ``"1.0"``.
    bytes : int
        Size of the file.
    sections : dict of str to int
        Bytes of each section.
    bits_per_word : float
        Bits per word that vectors take, with all tables that decoding needs.
    word_bits_per_word : float
        Bits per word that the words themselves take.
    exact_ids : int or None
        Words with ids below this have the ids of the source; None if all words have them.
    counts, protected, subwords : dict
        Only in some files: the word counts that were used, the words that were kept with ``keep_words``, and how
        vectors of out-of-vocabulary words are made.
    """

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
    exact_ids: int | None


class VectorTable:
    """Words, and a function that decodes their vectors.

    Parameters
    ----------
    words : Vocabulary
        n words by id.
    decode : callable
        Takes numbers of stored rows, (k,), and returns the rows as float32, (k, dim).
    dim : int
        Dimension of the vectors.
    row_map : RowMap, StoredRowMap or None
        Map from words to stored rows; None if word i has row i.
    n_rows : int
        Number of stored rows.
    owned : bool, default True
        Whether each row is the vector of a word; False for centroids.
    stored : Stored, optional
        Steps, codes and state that `decode` reads.
    subwords : Subwords, optional
        Makes vectors of out-of-vocabulary words.
    container : Container, optional
        The open file.
    sparing : bool, default False
        Release the memory of what was read of the file at once.

    Attributes
    ----------
    vector_size : int
        Dimension of the vectors.
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
        """Stored row of each word, (n,) of unsigned integers; None if word i has row i."""
        return None if self._map is None else self._checked_rows(np.asarray(self._map.rows))

    def _checked_rows(self, rows: AnyArray) -> AnyArray:
        """Return row numbers from the file's map; raise FormatError if one is not below the number of rows."""
        if rows.size and int(rows.max()) >= self.n_rows:
            raise FormatError("map.rows refers to a row that does not exist", path=self.path,
                              expected=f"< {self.n_rows}", found=int(rows.max()), hint=DAMAGED)
        return rows

    def rows_of(self, ids: IntArray) -> IntArray:
        """Return the numbers of the stored rows of words, (k,), given their ids."""
        return ids if self._map is None else np.asarray(self._checked_rows(self._map.rows[ids]), np.int64)

    @property
    def scale(self) -> FloatArray | None:
        """Factor of each word by which its row is multiplied, (n,) float32; None if all are 1."""
        if self._map is None or self._map.scale is None:
            return None
        return np.asarray(self._map.scale).astype(np.float32)

    @property
    def path(self) -> str | None:
        """Path of the open file; None for vectors in memory."""
        return None if self._container is None else self._container.path

    def decode_rows(self, rows: IntArray) -> FloatArray:
        """Return stored rows as float32, (k, dim), given their numbers."""
        try:
            return self._decode_sparingly(np.asarray(rows)) if self.sparing else self._decode(rows)
        except FormatError as error:
            raise error.located(self.path) if self.path else error from error.__cause__

    def _decode_sparingly(self, rows: IntArray) -> FloatArray:
        """Decode rows and release the memory of what was read of the file; decode few distant rows at a time."""
        near = len(rows) and int(rows.max()) - int(rows.min()) < 4 * len(rows)
        size = len(rows) if near else FAR_ROWS
        parts = []
        for start in range(0, max(len(rows), 1), max(size, 1)):
            parts.append(self._decode(rows[start : start + size]))
            self._let_go()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _let_go(self) -> None:
        """Release the memory of what was read of the file, if `sparing`."""
        if self.sparing and self._container is not None:
            self._container.let_go()

    def decode_ids(self, ids: IntArray | Sequence[int]) -> FloatArray:
        """Return the vectors of words as float32, (k, dim), given their ids."""
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
        """Number of rows to decode at a time; smaller for vectors of high dimension."""
        rows = max(1, min(BLOCK_ROWS, BLOCK_VALUES // self.vector_size))
        return rows if numba_installed() else UNCOMPILED * rows

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

    def __contains__(self, key: object) -> bool:
        return self.find(key) >= 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __repr__(self) -> str:
        rows = "" if self.n_rows == len(self) else f" on {self.n_rows} rows"
        path = f", {self.path}" if self.path else ""
        return f"<{type(self).__name__}: {len(self)} words{rows}, dim {self.vector_size}{path}>"

    def find(self, key: object) -> int:
        """Return the id of a word, or an id itself, from 0 to n - 1; -1 for anything else."""
        if isinstance(key, (str, bytes)):
            return self.words.find(key)
        if isinstance(key, (int, np.integer)) and 0 <= key < len(self):
            return int(key)
        return -1

    def id_of(self, key: object) -> int:
        """Return the id of a word, or an id itself; raise KeyError if there is none."""
        index = self.find(key)
        if index < 0:
            raise self._missing(key)
        return index

    def _missing(self, key: object) -> KeyError:
        """Return the error for a missing word: gensim's text, and the file."""
        place = f" in {self.path}" if self.path else ""
        return KeyError(f"Key '{to_text(key) if isinstance(key, bytes) else key}' not present{place}")

    @overload
    def get(self, word: object, default: None = None, *, oov: bool = True) -> FloatArray | None: ...

    @overload
    def get(self, word: object, default: Default, *, oov: bool = True) -> FloatArray | Default: ...

    def get(
        self, word: object, default: Default | None = None, *, oov: bool = True
    ) -> FloatArray | Default | None:
        """Return the vector of a word, or a default.

        Parameters
        ----------
        word : str, bytes or int
            The word, or its id. Anything else, such as None, is missing.
        default : object, optional
            Returned if the word is missing; None by default.
        oov : bool, default True
            Make a vector of n-grams for a word that is not in the vocabulary, if the file has n-grams.

        Returns
        -------
        numpy.ndarray of float32, shape (dim,), or `default`
        """
        index = self.find(word)
        if index >= 0:
            vector: FloatArray = self.decode_ids([index])[0]
            return vector
        unseen = None
        if oov and self.subwords is not None and isinstance(word, (str, bytes)):
            unseen = self.subwords.vector(word)
        return default if unseen is None else unseen

    def get_vector(self, key: Key, norm: bool = False) -> FloatArray:
        """Return the vector of a word.

        Parameters
        ----------
        key : str, bytes or int
            The word, or its id. If a word is not in the vocabulary and the file has n-grams, its vector is made of
            these.
        norm : bool, default False
            Bring the vector to length 1.

        Returns
        -------
        numpy.ndarray of float32, shape (dim,)

        Raises
        ------
        KeyError
            If the word is missing, and the file has no n-grams to make its vector of.
        """
        vector = self.get(key)
        if vector is None:
            raise self._missing(key)
        return unit_rows(vector[None])[0] if norm else vector

    def vectors_for(self, words: Iterable[Key], *, norm: bool = False) -> FloatArray:
        """Return the vectors of several words; faster than one call for each.

        Parameters
        ----------
        words : iterable of str, bytes or int
            k words or ids.
        norm : bool, default False
            Bring the vectors to length 1.

        Returns
        -------
        numpy.ndarray of float32, shape (k, dim)

        Raises
        ------
        KeyError
            If a word is missing; the message names the first one.
        """
        words = list(words)
        vectors, known = self.known_vectors(words, norm=norm)
        if not known.all():
            raise self._missing(words[int(np.argmin(known))])
        return vectors

    def known_vectors(self, words: Sequence[Key], *, norm: bool = False) -> tuple[FloatArray, BoolArray]:
        """Return the vectors of several words, of which some may be missing.

        Parameters
        ----------
        words : sequence of str, bytes or int
            k words or ids.
        norm : bool, default False
            Bring the vectors to length 1.

        Returns
        -------
        vectors : numpy.ndarray of float32, shape (k, dim)
            Zeros for a missing word.
        known : numpy.ndarray of bool, shape (k,)
            Whether each word has a vector: its own, or one made of its n-grams.
        """
        ids = self._find_all(words)
        vectors, known = np.zeros((len(words), self.vector_size), np.float32), ids >= 0
        if known.any():
            vectors[known] = self.decode_ids(ids[known])
        for place in np.flatnonzero(~known).tolist():
            unseen = self.get(words[place])
            if unseen is not None:
                vectors[place], known[place] = unseen, True
        return (unit_rows(vectors) if norm else vectors), known

    def _find_all(self, keys: Sequence[Key]) -> IntArray:
        """Return the ids of several words or ids, (k,); -1 for anything else."""
        words = [key for key in keys if isinstance(key, (str, bytes))]
        if len(words) == len(keys):
            return self.words.find_all(words)
        return np.array([self.find(key) for key in keys], np.int64)

    # ------------------------------------------------------------ aliases

    def alias_of(self, word: Key) -> str | None:
        """Return the word whose vector a word shares.

        Parameters
        ----------
        word : str, bytes or int
            The word, or its id.

        Returns
        -------
        str or None
            `word` itself if it kept its own vector; another word if its vector was pruned or merged; None if vectors
            are centroids, which belong to no word.

        Raises
        ------
        KeyError
            If the word is not in the vocabulary.
        """
        index = self.id_of(word)
        if self._map is None:
            return self.words[index]
        owners = self.owners()
        return None if owners is None else self.words[int(owners[int(self.rows_of(np.array([index]))[0])])]

    def owners(self) -> IntArray | None:
        """Return the id of the word that each stored row belongs to, (rows,); None for centroids."""
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
                raise FormatError("map.owners refers to a word that does not exist", path=self.path,
                                  expected=f"< {len(self)}", found=int(owners.max()), hint=DAMAGED)
            return owners
        rows, first = np.unique(np.asarray(self.row_map), return_index=True)  # the first word that has the row
        if len(rows) != self.n_rows:
            raise FormatError("a stored row belongs to no word", path=self.path, found=len(rows),
                              expected=f"{self.n_rows} rows with words", hint=DAMAGED)
        return first.astype(np.int64)

    def shares_row(self, first: Key, second: Key) -> bool:
        """Return whether two words share a stored row; raise KeyError if a word is missing."""
        rows = self.rows_of(np.array([self.id_of(first), self.id_of(second)], np.int64))
        return bool(rows[0] == rows[1])

    # ------------------------------------------------------------ search (see embeddings/search.py)

    def index_for(self, queries: int = 1) -> Index | None:
        """Return the index of the rows for a number of queries, or None if all rows should be decoded.

        The index is made for the second query and kept. The first query decodes all rows, which takes less time than
        making an index, as numba must be loaded for that. Where numba is not installed, it is made for the first
        query. There is no index of fewer than 20,000 rows (1,000 without numba), and none that would take more than
        1 GiB.
        """
        if self.index is not None:  # the usual case
            return self.index
        from embshrink.embeddings.index import least_rows, make_index

        if self.n_rows >= least_rows():
            with _building_index:
                if self.index is None and (self._searched or queries > 1 or not numba_installed()):
                    self.index = make_index(self)
                self._searched = True
        return self.index

    # ------------------------------------------------------------ the file

    @property
    def nbytes(self) -> int:
        """Size of the open file in bytes; 0 for vectors in memory."""
        return 0 if self._container is None else self._container.size

    def info(self) -> FileInfo:
        """Return the header and the size of each section, as a dict that can be written as JSON.

        Returns
        -------
        FileInfo
            For vectors in memory, only the keys of `TableInfo`: ``words``, ``dim`` and ``rows``.
        """
        if self._container is None:
            size: TableInfo = {"words": len(self), "dim": self.vector_size, "rows": self.n_rows}
            return cast("FileInfo", size)
        container = self._container
        sections = {name: part.nbytes for name, part in container.sections.items()}
        vectors = sum(size for name, size in sections.items() if not name.startswith(("words.", "ngrams.")))
        strings = sum(size for name, size in sections.items() if name.startswith("words."))
        return cast("FileInfo", {
            **container.header, "path": container.path, "version": "{}.{}".format(*container.version),
            "bytes": container.size, "sections": sections,
            "bits_per_word": 8 * vectors / len(self) if len(self) else 0.0,
            "word_bits_per_word": 8 * strings / max(len(self), 1),
            "exact_ids": self.words.exact_ids,
        })

    def check(self, *, words: Words | None = None, progress: Progress = no_progress) -> None:
        """Check all checksums, the word index, the row map, every code and every decoded row.

        Parameters
        ----------
        words : Words, optional
            Check that these are the words of the file.
        progress : callable, optional
            Called as ``progress("checking rows", done, total)``.

        Raises
        ------
        FormatError
            If anything is wrong. The message names the first fault.
        """
        sparing, self.sparing = self.sparing, True  # each part is read once
        try:
            if self._container is not None:
                self._container.check()
                self.words.check(words)
                self._let_go()
            self.check_rows(progress)
            if self.subwords is not None:
                self.subwords.check()
        except FormatError as error:
            raise (error.located(self.path) if self.path else error) from error.__cause__
        finally:
            self.sparing = sparing

    def check_rows(self, progress: Progress = no_progress) -> None:
        """Check the row map, every code and every decoded row; raise FormatError at the first fault."""
        self._check_codes()
        scale, row_map = self.scale, self.row_map
        if row_map is not None:
            owners = self.owners()
            if owners is not None and not np.array_equal(row_map[owners], np.arange(self.n_rows)):
                raise FormatError("map.owners refers to a word that has another row", hint=DAMAGED)
        if scale is not None and not np.isfinite(scale).all():
            raise FormatError("map.scale holds a NaN or an infinity", hint=DAMAGED)
        largest = self._largest_numbers(progress)
        with np.errstate(over="ignore"):
            if scale is not None and not np.isfinite(scale * largest[np.asarray(row_map)]).all():
                raise FormatError("map.scale makes a vector that is not finite", hint=DAMAGED)

    def _check_codes(self) -> None:
        if self.stored is None:
            return
        for codes in self._code_blocks(self.stored.codes):
            self.stored.codec.check_codes(codes, self.stored.state)
            self._let_go()

    def _code_blocks(self, codes: Codes) -> Iterator[Codes]:
        """Yield all codes, some rows at a time if each row has codes of its own."""
        if any(len(part) != self.n_rows for part in codes.values()):
            yield codes
            return
        for start in range(0, self.n_rows, CHECKED_ROWS):
            yield {name: part[start : start + CHECKED_ROWS] for name, part in codes.items()}

    def _largest_numbers(self, progress: Progress) -> FloatArray:
        """Return the largest absolute value of each decoded row, (rows,); raise FormatError if it is not finite."""
        largest = np.empty(self.n_rows, np.float32)
        for start, block in self.row_blocks():
            stop = start + len(block)
            largest[start:stop] = np.abs(block).max(axis=1)
            if not np.isfinite(largest[start:stop]).all():
                raise FormatError("a decoded vector is not finite", where=f"rows {start} to {stop - 1}", hint=DAMAGED)
            progress("checking rows", stop, self.n_rows)
        return largest

    def close(self) -> None:
        """Close the file, and release the index that search keeps in memory."""
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
