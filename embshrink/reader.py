"""Word vectors out of an ``.ems`` file: open at once, decode what is asked for.

Names and return shapes are those of gensim 4's ``KeyedVectors``, so that an `Embeddings` can
stand where one was expected; gensim is not imported. Opening and looking words up need numpy
and the standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from embshrink.embeddings.subwords import Subwords
from embshrink.errors import FormatError
from embshrink.methods import pipeline
from embshrink.numerics.arrays import MAX_DIM, row_norms, unit_rows
from embshrink.numerics.progress import no_progress
from embshrink.storage.container import Container
from embshrink.vocabulary.words import PlainWords, to_text

BLOCK_ROWS = 16_384
CHECKED_ROWS = 65_536  # whose codes are checked at a time
FAR_ROWS = 64  # decoded at a time where memory is spared: each may bring a mebibyte of the file into it
BLOCK_VALUES = 1 << 21
MAX_STEPS = 100
SOURCE_KINDS = {"name": str, "size": int, "sha256": str, "format": str, "steps": list}
VOCABULARIES = ("plain", "packed")


def load(path, *, verify="lazy", mmap=True):
    """Open an ``.ems`` file; nothing is decoded.

    Parameters
    ----------
    path : str or os.PathLike
    verify : {"lazy", "header", "full"}
        ``lazy`` checks each block of data when it is first touched, ``header`` never, ``full`` now.
    mmap : bool
        Map the file, or read it into memory whole. Prefer False where another program may cut the
        file short while it is open: a mapped file kills the process then.

    Returns
    -------
    Embeddings

    Raises
    ------
    FormatError
        If the file is not an ``.ems`` file, is damaged, truncated or too new.
    """
    container = Container(path, verify=verify, mmap=mmap)
    try:
        return _from_container(container, verify, mmap)
    except FormatError as error:
        container.close()
        raise error.located(container.path) from error.__cause__


def _from_container(container, verify, mmap):
    header = container.header
    kinds = {"dim": int, "words": int, "rows": int, "owned": bool, "vocabulary": str, "steps": list, "seed": int,
             "source": dict, "writer": str}
    for key, kind in kinds.items():
        if type(header.get(key)) is not kind:
            raise FormatError(f"the header has no proper {key!r}", expected=kind.__name__, found=header.get(key))
    if not 1 <= header["dim"] <= MAX_DIM or header["words"] < 0 or header["rows"] < 0 or header["seed"] < 0:
        raise FormatError("the header has an impossible number",
                          found={key: header[key] for key in ("dim", "words", "rows", "seed")})
    if not all(isinstance(step, str) for step in header["steps"]):
        raise FormatError("the header's steps are not strings", found=header["steps"])
    if len(header["steps"]) > MAX_STEPS:
        raise FormatError("the header has too many steps", expected=f"<= {MAX_STEPS}", found=len(header["steps"]))
    for key, kind in SOURCE_KINDS.items():
        value = header["source"].get(key)
        if value is not None and (
            type(value) is not kind or (kind is int and not 0 <= value < 2**63)
            or (kind is list and not all(isinstance(step, str) for step in value))
        ):
            raise FormatError(f"the header's source has no proper {key!r}", expected=kind.__name__, found=value)
    if header["vocabulary"] not in VOCABULARIES:
        raise FormatError("the words are stored in an unknown way", expected=sorted(VOCABULARIES),
                          found=header["vocabulary"], hint="Update embshrink: pip install -U embshrink")
    if header["vocabulary"] == "packed":
        from embshrink.vocabulary.packed import PackedWords as StoredWords
    else:
        StoredWords = PlainWords
    words = StoredWords(container.group("words"), container.path)
    if len(words) != header["words"]:
        raise FormatError("the header and the words differ", expected=header["words"], found=len(words))
    stored = pipeline.restore(header["steps"], len(words), header["dim"], header["rows"], header["owned"],
                              container.group)
    emb = Embeddings(words, stored.decode, header["dim"], stored.row_map, header["rows"], owned=header["owned"])
    emb.stored, emb._container, emb._opened = stored, container, (container.path, verify, mmap)
    if "subwords" in header:
        emb.subwords = _subwords(header, container)
    if verify == "full":
        emb.check()
    return emb


def _subwords(header, container):
    """Return what makes vectors for unseen words: a second table of rows, with steps of its own."""
    part = header["subwords"]
    kinds = {"minn": int, "maxn": int, "bucket": int, "present": int, "rows": int, "missing": str, "steps": list,
             "owned": bool}
    if type(part) is not dict or any(type(part.get(key)) is not kind for key, kind in kinds.items()) or not all(
        isinstance(step, str) for step in part["steps"]
    ) or not 0 <= part["rows"] <= part["present"]:
        raise FormatError("the header has no proper 'subwords'", expected=sorted(kinds), found=part)
    stored = pipeline.restore(part["steps"], part["present"], header["dim"], part["rows"], part["owned"],
                              lambda prefix: container.group(f"ngrams.{prefix}"))
    rows = Embeddings(range(part["present"]), stored.decode, header["dim"], stored.row_map, part["rows"],
                      owned=part["owned"])
    rows.stored = stored
    return Subwords(part, container.group("ngrams"), rows)


def as_embeddings(source):
    """Return an `Embeddings` from one, from a `WordVectors`, or from a path.

    A path may be an ``.ems`` file or any source `embshrink.read_vectors` reads.
    """
    from embshrink.embeddings.word_vectors import WordVectors

    if isinstance(source, Embeddings):
        return source
    if isinstance(source, (str, os.PathLike)):
        if is_ems(source):
            return load(source)
        from embshrink.formats import read_vectors

        source = read_vectors(source)
    if isinstance(source, WordVectors):
        return Embeddings(source.words, source.matrix.__getitem__, source.dim, None, len(source))
    raise TypeError(f"expected embeddings, word vectors or a path, not {type(source).__name__}")


def is_ems(path):
    """Whether the file at `path` begins as an ``.ems`` file does; not a pipe, which would lose what is looked at."""
    from embshrink.storage.container import MAGIC

    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Embeddings:
    """Words and a way to decode their vectors.

    Parameters
    ----------
    words : Words or PlainWords
        n words in order of id.
    decode : callable
        Stored row ids (k,) -> (k, dim) float32.
    dim : int
        Length of a vector.
    row_map : RowMap or None
        From words to stored rows; None where word i has row i.
    n_rows : int
        How many rows are stored.
    owned : bool
        Whether each row is some word's own vector; false for centroids.

    Examples
    --------
    >>> import embshrink
    >>> emb = embshrink.as_embeddings(embshrink.WordVectors(["up", "down"], [[0.0, 2.0], [0.0, -1.0]]))
    >>> emb["up"], "left" in emb, emb.similarity("up", "down")
    (array([0., 2.], dtype=float32), False, -1.0)
    """

    def __init__(self, words, decode, dim, row_map, n_rows, *, owned=True):
        self.words = words
        self.vector_size = dim
        self.n_rows = n_rows
        self.stored = None
        self.subwords = None
        self.index, self.searched = None, False  # what search makes for itself at its second call; see scan.py
        self.sparing = False  # whether what is read of the file is taken out of memory again at once
        self._decode = decode
        self._map = row_map
        self._owned = owned
        self._owners = None
        self._index_to_key = None
        self._container = None
        self._opened = None

    # ------------------------------------------------------------ rows

    @property
    def row_map(self):
        """Stored row of each word, (n,) unsigned, or None where word i has row i."""
        if self._map is None:
            return None
        rows = np.asarray(self._map.rows)
        if rows.size and int(rows.max()) >= self.n_rows:
            raise FormatError("map.rows names a row that is not there", path=self._path, expected=f"< {self.n_rows}",
                              found=int(rows.max()))
        return rows

    @property
    def scale(self):
        """Factor of each word on its row, (n,) float32, or None for 1."""
        if self._map is None or self._map.scale is None:
            return None
        return np.asarray(self._map.scale).astype(np.float32)

    @property
    def _path(self):
        return self._opened[0] if self._opened else None

    def _rows_of(self, ids):
        if self._map is None:
            return ids
        rows = self._map.rows[ids]
        if rows.size and int(rows.max()) >= self.n_rows:
            raise FormatError("map.rows names a row that is not there", path=self._path, expected=f"< {self.n_rows}",
                              found=int(rows.max()))
        return rows

    def decode_rows(self, rows):
        """Return stored rows as (k, dim) float32."""
        try:
            return self._decode_sparingly(np.asarray(rows)) if self.sparing else self._decode(rows)
        except FormatError as error:
            raise error.located(self._path) if self._path else error from error.__cause__

    def _decode_sparingly(self, rows):
        """Decode rows, and take what was read of the file out of memory; of rows far apart a few at a time."""
        near = len(rows) and int(rows.max()) - int(rows.min()) < 4 * len(rows)
        size = len(rows) if near else FAR_ROWS
        parts = []
        for start in range(0, max(len(rows), 1), max(size, 1)):
            parts.append(self._decode(rows[start : start + size]))
            self._let_go()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _let_go(self):
        """Take what was read of the file out of memory, where that is asked for."""
        if self.sparing and self._container is not None:
            self._container.let_go()

    def decode_ids(self, ids):
        """Return the vectors of words given by id, as (k, dim) float32."""
        ids = np.asarray(ids, dtype=np.int64)
        if self._map is None:
            return self.decode_rows(ids)
        rows, inverse = np.unique(self._rows_of(ids), return_inverse=True)  # shared rows are decoded once
        vectors = self.decode_rows(rows)[inverse.ravel()]
        if self._map.scale is not None:
            vectors = vectors * self._map.scale[ids].astype(np.float32)[:, None]
        return vectors

    @property
    def block_rows(self):
        """How many rows to decode at a time: fewer of very long vectors."""
        return max(1, min(BLOCK_ROWS, BLOCK_VALUES // self.vector_size))

    def blocks(self):
        """Yield (first id, vectors) over all words, `block_rows` at a time."""
        for start in range(0, len(self), self.block_rows):
            yield start, self.decode_ids(np.arange(start, min(start + self.block_rows, len(self))))

    def row_blocks(self):
        """Yield (first row, decoded rows) over all stored rows, `block_rows` at a time."""
        for start in range(0, self.n_rows, self.block_rows):
            yield start, self.decode_rows(np.arange(start, min(start + self.block_rows, self.n_rows)))

    # ------------------------------------------------------------ words

    def __len__(self):
        return len(self.words)

    def __contains__(self, word):
        return self.words.find(word) >= 0

    def __repr__(self):
        rows = "" if self.n_rows == len(self) else f" on {self.n_rows} rows"
        path = f", {self._path}" if self._path else ""
        return f"<Embeddings: {len(self)} words{rows}, dim {self.vector_size}{path}>"

    @property
    def index_to_key(self):
        """All words, by id."""
        if self._index_to_key is None:
            self._index_to_key = [to_text(word) for word in self.words.raw]
        return self._index_to_key

    @property
    def key_to_index(self):
        """A mapping from word to id that is not built but searched."""
        return _KeyToIndex(self)

    @property
    def vectors(self):
        """All vectors as an array-like of shape (n, dim) that decodes what is indexed."""
        return _Vectors(self)

    def get_index(self, word, default=None):
        """Return the id of `word`; `default` where there is none, or KeyError if that is None."""
        index = self.words.find(word)
        if index >= 0:
            return index
        if default is not None:
            return default
        raise KeyError(f"Key '{word}' not present")

    def _ids_of(self, words):
        return np.array([self.get_index(word) for word in words], dtype=np.int64)

    # ------------------------------------------------------------ vectors

    def __getitem__(self, word):
        """Return the vector of a word, (dim,), or of a list of words, (k, dim); KeyError for a missing one."""
        if isinstance(word, (str, bytes)):
            return self.get_vector(word)
        return self.vectors_for(word)

    def get(self, word, default=None, *, oov=True):
        """Return the vector of `word`, (dim,) float32, or `default`; of vocabulary words only without `oov`."""
        index = self.words.find(word)
        if index >= 0:
            return self.decode_ids([index])[0]
        vector = self.subwords.vector(word) if oov and self.subwords is not None else None
        return default if vector is None else vector

    def get_vector(self, word, norm=False):
        """Return the vector of `word`, (dim,) float32; at length 1 with `norm`. KeyError for a missing word.

        A word that is not in the vocabulary gets a vector made of its n-grams, if the file has n-grams.
        """
        vector = self.get(word)
        if vector is None:
            raise KeyError(f"Key '{word}' not present")
        return unit_rows(vector[None])[0] if norm else vector

    def vectors_for(self, words, *, norm=False):
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

    def get_mean_vector(self, words, weights=None, pre_normalize=True, post_normalize=False, ignore_missing=True):
        """Return the weighted mean of words' vectors, (dim,) float32, as gensim does."""
        words = list(words)
        if not words:
            raise ValueError("cannot compute mean with no input")
        weights = np.ones(len(words), np.float32) if weights is None else np.asarray(weights, np.float32)
        if len(weights) != len(words):
            raise ValueError("keys and weights array must have same number of elements")
        if ignore_missing:
            present = [isinstance(word, np.ndarray) or word in self for word in words]
            words = [word for word, there in zip(words, present) if there]
            weights = weights[present]
        from embshrink.embeddings.search import query_vector

        mean = query_vector(self, words, weights, pre_normalize)
        total = np.abs(weights).sum()
        if total > 0:
            mean = mean / total
        return unit_rows(mean[None])[0] if post_normalize else mean

    def norms(self):
        """Return the Euclidean length of each word's vector, (n,) float32."""
        return np.concatenate([row_norms(block) for _, block in self.blocks()] or [np.zeros(0, np.float32)])

    # ------------------------------------------------------------ aliases

    def alias_of(self, word):
        """Return the word whose vector `word` answers with.

        Itself, unless its own vector was pruned or merged; None where vectors are centroids and so
        nobody's own. KeyError for a missing word.
        """
        index = self.get_index(word)
        if self._map is None:
            return self.words[index]
        if not self._owned:
            return None
        return self.words[int(self.owners()[int(self._rows_of(np.array([index]))[0])])]

    def owners(self):
        """Return the id of the word each stored row belongs to, (rows,), or None for centroids."""
        if not self._owned:
            return None
        if self._owners is None:
            if self._map is None:
                self._owners = np.arange(self.n_rows)
            elif self._map.owners is not None:
                owners = np.asarray(self._map.owners).astype(np.int64)
                if owners.size and int(owners.max()) >= len(self):
                    raise FormatError("map.owners names a word that is not there", path=self._path,
                                      expected=f"< {len(self)}", found=int(owners.max()))
                self._owners = owners
            else:  # the first word that has the row
                rows, first = np.unique(self.row_map, return_index=True)
                if len(rows) != self.n_rows:
                    raise FormatError("a stored row belongs to no word", path=self._path, expected=self.n_rows,
                                      found=len(rows))
                self._owners = first
        return self._owners

    def shares_row(self, first, second):
        """Whether two words answer with the same stored row."""
        rows = self._rows_of(self._ids_of([first, second]))
        return bool(rows[0] == rows[1])

    # ------------------------------------------------------------ similarity (see search.py)

    def similarity(self, first, second):
        """Return the cosine of two words; 0 for a zero vector."""
        one, two = self.vectors_for([first, second], norm=True)
        return float(one @ two)

    def distance(self, first, second):
        """Return 1 - cosine of two words."""
        return 1 - self.similarity(first, second)

    def n_similarity(self, first, second):
        """Return the cosine of the means of two lists of words."""
        one, two = (self.get_mean_vector(words, pre_normalize=False, post_normalize=True)
                    for words in (first, second))
        return float(one @ two)

    def most_similar(self, positive=None, negative=None, topn=10, clip_start=0, clip_end=None, restrict_vocab=None):
        """Return the words nearest to a combination of words; see `embshrink.embeddings.search.most_similar`."""
        from embshrink.embeddings import search

        return search.most_similar(self, positive, negative, topn, clip_start, clip_end, restrict_vocab)

    def similar_by_word(self, word, topn=10, restrict_vocab=None):
        """Return the words nearest to a word."""
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_key = similar_by_word

    def similar_by_vector(self, vector, topn=10, restrict_vocab=None):
        """Return the words nearest to a vector."""
        return self.most_similar([np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def nearest(self, queries, topn=10, restrict_vocab=None):
        """Return (ids, cosines), (q, topn) each, of the words nearest to several words, or vectors (q, dim).

        See `embshrink.embeddings.search.nearest_batch`; ``emb.words[id]`` is a word.
        """
        from embshrink.embeddings import search

        return search.nearest_batch(self, queries, topn, restrict_vocab)

    def distances(self, word_or_vector, other_words=()):
        """Return 1 - cosine to `other_words`, or to all words, as an array."""
        from embshrink.embeddings import search

        return search.distances(self, word_or_vector, other_words)

    def logits(self, vector):
        """Return the dot product of a vector with every word's; see `embshrink.embeddings.search.logits`."""
        from embshrink.embeddings import search

        return search.logits(self, vector)

    def doesnt_match(self, words):
        """Return the word that fits the others least: farthest from their mean."""
        from embshrink.embeddings import search

        return search.doesnt_match(self, words)

    def rank(self, first, second):
        """Return how near `second` is to `first` among all words; 1 is nearest."""
        return len(self.closer_than(first, second)) + 1

    def closer_than(self, first, second):
        """Return the words that are nearer to `first` than `second` is."""
        from embshrink.embeddings import search

        return search.closer_than(self, first, second)

    # ------------------------------------------------------------ evaluation and export, as gensim names them

    def evaluate_word_pairs(self, pairs, delimiter="\t", restrict_vocab=300_000, case_insensitive=True,
                            dummy4unknown=False):
        """Return (Pearson (r, p), Spearman (rho, p), percentage of unknown pairs), as gensim does."""
        from embshrink.evaluation import run as evaluation

        score = evaluation.word_similarity(self, pairs, delimiter=delimiter, restrict_vocab=restrict_vocab,
                                           case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def evaluate_word_analogies(self, analogies, restrict_vocab=300_000, case_insensitive=True, dummy4unknown=False):
        """Return (score, sections), as gensim does."""
        from embshrink.evaluation import run as evaluation

        score = evaluation.analogies(self, analogies, restrict_vocab=restrict_vocab,
                                     case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def save_word2vec_format(self, path, binary=False, *, force=False):
        """Write all words and decoded vectors in a word2vec format; `force` replaces an existing file."""
        from embshrink.formats import write_vectors

        write_vectors(self.words, (block for _, block in self.blocks()), path,
                      "word2vec" if binary else "word2vec-text", force=force)

    # ------------------------------------------------------------ the file

    def info(self):
        """Return what the file is: header, and bytes of each section, as a JSON-able dict."""
        info = {"words": len(self), "dim": self.vector_size, "rows": self.n_rows}
        if self._container is None:
            return info
        container = self._container
        sections = {name: part.nbytes for name, part in container.sections.items()}
        kinds = ("words.", "ngrams.")
        vectors = sum(size for name, size in sections.items() if not name.startswith(kinds))
        strings = sum(size for name, size in sections.items() if name.startswith("words."))
        return {
            **container.header, "path": container.path, "version": "{}.{}".format(*container.version),
            "bytes": container.size, "sections": sections,
            "bits_per_word": 8 * vectors / len(self) if len(self) else 0.0,
            "word_bits_per_word": 8 * strings / max(len(self), 1),
        }

    def check(self, *, progress=no_progress):
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
            raise (error.located(self._path) if self._path else error) from error.__cause__
        finally:
            self.sparing = sparing

    def check_rows(self, progress=no_progress):
        """Check the row map, every code and every decoded row; raise FormatError at the first that is wrong."""
        if self.stored is not None:
            for codes in self._code_blocks():
                self.stored.codec.check_codes(codes, self.stored.state)
                self._let_go()
        owners = self.owners()
        if self._map is not None and owners is not None and (
            not np.array_equal(self.row_map[owners], np.arange(self.n_rows))
        ):
            raise FormatError("map.owners names a word that has another row")
        scale = self.scale
        if scale is not None and not np.isfinite(scale).all():
            raise FormatError("map.scale holds a NaN or an infinity")
        largest = np.empty(self.n_rows, np.float32)
        for start, block in self.row_blocks():
            stop = start + len(block)
            largest[start:stop] = np.abs(block).max(axis=1)
            if not np.isfinite(largest[start:stop]).all():
                raise FormatError("a decoded vector is not finite", where=f"rows {start} to {stop - 1}")
            progress("checking rows", stop, self.n_rows)
        with np.errstate(over="ignore"):
            if scale is not None and not np.isfinite(scale * largest[self.row_map]).all():
                raise FormatError("map.scale makes a vector that is not finite")

    def _code_blocks(self):
        """Yield all codes, some rows at a time where each row has its own."""
        codes = self.stored.codes
        if any(len(part) != self.n_rows for part in codes.values()):
            yield codes
            return
        for start in range(0, self.n_rows, CHECKED_ROWS):
            yield {name: part[start : start + CHECKED_ROWS] for name, part in codes.items()}

    def close(self):
        """Let go of the file, and of what search keeps in memory."""
        self.index, self.searched = None, False
        if hasattr(self.words, "pack"):
            self.words.pack()
        if self._container is not None:
            self._container.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __reduce__(self):
        if self._opened is None:
            raise TypeError("only embeddings that were loaded from a file can be pickled")
        return _load_again, self._opened


def _load_again(path, verify, mmap):
    return load(path, verify=verify, mmap=mmap)


class _KeyToIndex(Mapping):
    """Word -> id without building a dict."""

    def __init__(self, emb):
        self._emb = emb

    def __getitem__(self, word):
        index = self._emb.words.find(word)
        if index < 0:
            raise KeyError(word)
        return index

    def __contains__(self, word):
        return word in self._emb

    def __iter__(self):
        return iter(self._emb.index_to_key)

    def __len__(self):
        return len(self._emb)


class _Vectors:
    """All vectors, decoded as they are indexed."""

    dtype = np.dtype(np.float32)

    def __init__(self, emb):
        self._emb = emb
        self.shape = (len(emb), emb.vector_size)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        if isinstance(key, tuple):
            rows = self[key[0]]
            return rows[key[1:]] if rows.ndim == 1 else rows[(slice(None), *key[1:])]
        ids = np.arange(self.shape[0])[key]
        return self._emb.decode_ids(np.atleast_1d(ids))[0 if np.ndim(ids) == 0 else slice(None)]

    def __array__(self, dtype=None, copy=None):
        out = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for start, block in self._emb.blocks():
            out[start : start + len(block)] = block
        return out
