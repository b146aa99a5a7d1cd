"""The public face of a compressed table: open a file, look words up, search, compare.

`Embeddings` has the names and return shapes of gensim 4's ``KeyedVectors``, so that it can stand where one was
expected; gensim is not imported. Opening and looking words up need numpy and the standard library only. The functions
have the names of the commands that read, and take paths or open tables.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np

from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import FileInfo, VectorTable
from embshrink.numerics.arrays import row_norms, unit_rows
from embshrink.numerics.progress import Progress, no_progress
from embshrink.vocabulary.words import to_text

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from embshrink.embeddings.search import Item, Items
    from embshrink.embeddings.word_vectors import WordVectors
    from embshrink.evaluation.benchmarks import Analogies, WordPairs
    from embshrink.evaluation.scores import Evaluation, GensimSection
    from embshrink.storage.arrays import AnyArray, FloatArray, IntArray, RealArray

Word: TypeAlias = str | bytes
WordT = TypeVar("WordT", str, bytes)
Path: TypeAlias = str | os.PathLike[str]
Indices: TypeAlias = "int | slice | Sequence[int] | AnyArray"  # as numpy takes them


def load(path: Path, *, verify: str = "lazy", mmap: bool = True) -> Embeddings:
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
    return open_file(path, Embeddings, verify=verify, mmap=mmap)


def as_embeddings(source: Embeddings | WordVectors | Path) -> Embeddings:
    """Return embeddings from a file or from word vectors in memory; embeddings are returned as they are.

    Parameters
    ----------
    source : Embeddings, WordVectors or path
        A path may be an ``.ems`` file, or any source that `embshrink.read_vectors` reads.

    Returns
    -------
    Embeddings

    Raises
    ------
    FormatError
        If an ``.ems`` file is damaged.
    SourceError
        If another file cannot be read.
    TypeError
        If it is none of these.
    """
    if isinstance(source, Embeddings):
        return source
    if isinstance(source, (str, os.PathLike)) and is_ems(source):
        return load(source)
    from embshrink.embeddings.word_vectors import WordVectors  # what a lookup need not pay for

    if isinstance(source, (str, os.PathLike)):
        from embshrink.formats import read_vectors

        source = read_vectors(source)
    if isinstance(source, WordVectors):
        return Embeddings.of_vectors(source)
    raise TypeError(f"expected embeddings, word vectors or a path, not {type(source).__name__}")


def evaluate(
    emb: Embeddings | WordVectors | Path,
    baseline: Embeddings | WordVectors | Path | None = None, *,
    pairs: WordPairs | Path | Iterable[WordPairs | Path] | None = None,
    analogies: Analogies | Path | Literal[True] | None = None,
    restrict_vocab: int | None = 300_000, case_insensitive: bool = True, dummy4unknown: bool = False,
    k: int = 10, queries: int = 1000, sample: int | None = None, seed: int = 0, progress: Progress = no_progress,
) -> Evaluation:
    """Measure all that can be measured: word similarity, analogies, and what was lost against a baseline.

    Parameters
    ----------
    emb : Embeddings, WordVectors, or path
        A path may be an ``.ems`` file or any source `embshrink.read_vectors` reads.
    baseline : Embeddings, WordVectors, or path, optional
        What `emb` was made from. It is scored too, and reconstruction and neighbour overlap are measured
        against it; reconstruction only where the vector sizes agree.
    pairs : WordPairs or path, or list of them, optional
        Word-similarity benchmarks; None for WordSim-353 and SimLex-999, an empty list for none.
    analogies : Analogies or path or True, optional
        An analogy benchmark, True for Google's; None for none.
    restrict_vocab : int, optional
        Consider only the first so many words in the benchmarks, and as answers of analogies; None for all.
    case_insensitive : bool
        Compare the benchmarks' words in upper case; of several that are equal then, the first counts, as the most
        frequent.
    dummy4unknown : bool
        Count pairs with an unknown word as similarity 0, and such questions as wrong, instead of leaving them out.
    k : int
        Neighbours of each word in the neighbour overlap.
    queries : int
        Words whose neighbours are compared, drawn at random; all where there are fewer.
    sample : int, optional
        Words compared in the reconstruction, drawn at random; None for all.
    seed : int
        Of both draws.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    Evaluation
        Scores on uncompressed vectors are gensim's.

    Raises
    ------
    SourceError
        If a benchmark or a source cannot be read.
    FormatError
        If an ``.ems`` file is damaged.
    ExtraError
        If the default benchmarks are not there.
    EmbshrinkError
        If the baseline has fewer than two of the words, or a count is below 1.
    """
    from embshrink.evaluation import run
    from embshrink.evaluation.benchmarks import analogy_benchmark, similarity_benchmarks

    # first, so that a benchmark that cannot be read is reported before a large table is read
    pairs, analogies = similarity_benchmarks(pairs), analogy_benchmark(analogies)
    return run.evaluate(
        as_embeddings(emb), None if baseline is None else as_embeddings(baseline), pairs=pairs, analogies=analogies,
        restrict_vocab=restrict_vocab, case_insensitive=case_insensitive, dummy4unknown=dummy4unknown, k=k,
        queries=queries, sample=sample, seed=seed, progress=progress,
    )


class Verified(NamedTuple):
    """What `verify` checked, and found good.

    Parameters
    ----------
    path : str
    level : {"full", "header"}
    words, rows, bytes : int
        How many words and stored rows there are, and bytes of the file.
    """

    path: str
    level: str
    words: int
    rows: int
    bytes: int

    def as_dict(self) -> dict[str, object]:
        """Return a JSON-able dict."""
        return {"path": self.path, "ok": True, "level": self.level, "bytes": self.bytes}


class Lookup(NamedTuple):
    """A word that was asked for.

    Parameters
    ----------
    word : str
    vector : numpy.ndarray, shape (dim,), float32, or None
        None for a word that is missing.
    alias_of : str or None
        The word whose vector it is; None for a centroid, for a vector made of n-grams, for a missing word, and where
        that was not asked for.
    """

    word: str
    vector: FloatArray | None
    alias_of: str | None


class Neighbour(NamedTuple):
    """A word that was found.

    Parameters
    ----------
    word : str
    cosine : float
    alias_of : str or None
        The word whose vector it answers with; None for a centroid.
    """

    word: str
    cosine: float
    alias_of: str | None

    def as_dict(self) -> dict[str, object]:
        """Return a JSON-able dict."""
        return self._asdict()


def info(path: Path) -> FileInfo:
    """Return what an ``.ems`` file says of itself, and where its bytes go.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict
        The header's keys, ``path``, ``version`` of the format, ``bytes`` of the file, ``sections`` (bytes of each),
        ``bits_per_word`` for the vectors, ``word_bits_per_word`` for the words.

    Raises
    ------
    FormatError
        If the file is not an ``.ems`` file, or its header is damaged.
    """
    with load(path) as emb:
        return emb.info()


def verify(path: Path, *, quick: bool = False, progress: Progress = no_progress) -> Verified:
    """Check an ``.ems`` file: checksums, word index, row map, and every row decoded.

    Parameters
    ----------
    path : str or os.PathLike
    quick : bool
        Check the header, lengths and the section table only.
    progress : callable
        ``progress("checking rows", done, total)``.

    Returns
    -------
    Verified

    Raises
    ------
    FormatError
        Naming the first thing that is wrong.
    """
    with load(path) as emb:
        if not quick:
            emb.check(progress=progress)
        return Verified(os.fspath(path), "header" if quick else "full", len(emb), emb.n_rows, emb.nbytes)


def get(
    source: Embeddings | WordVectors | Path, words: str | Iterable[str], *, aliases: bool = True
) -> list[Lookup]:
    """Look words up.

    Parameters
    ----------
    source : Embeddings, WordVectors or path
    words : str or iterable of str
    aliases : bool
        Say whose vector each word answers with; where words share rows, that takes a pass over all of them.

    Returns
    -------
    list of Lookup
        One for each word, in order. A word that is missing has no vector.

    Raises
    ------
    FormatError, SourceError
        If the source cannot be read.
    """
    words = [words] if isinstance(words, str) else list(words)
    with _opened(source) as emb:
        return [Lookup(word, emb.get(word), emb.alias_of(word) if aliases and word in emb else None)
                for word in words]


@contextlib.contextmanager
def _opened(source: Embeddings | WordVectors | Path) -> Iterator[Embeddings]:
    """Yield a source as embeddings; a file that was opened for it is closed."""
    emb = as_embeddings(source)
    try:
        yield emb
    finally:
        if emb is not source:
            emb.close()


def similar(
    source: Embeddings | WordVectors | Path, word: str, *, topn: int = 10, restrict_vocab: int | None = None
) -> list[Neighbour]:
    """Return the words nearest to a word, by cosine.

    Parameters
    ----------
    source : Embeddings, WordVectors or path
    word : str
    topn : int
    restrict_vocab : int, optional
        Look only among the first so many words.

    Returns
    -------
    list of Neighbour
        Best first.

    Raises
    ------
    KeyError
        If the word is missing.
    FormatError, SourceError
        If the source cannot be read.
    """
    return _neighbours(source, [word], [], topn, restrict_vocab)


def analogy(
    source: Embeddings | WordVectors | Path, a: str, b: str, c: str, *, topn: int = 10,
    restrict_vocab: int | None = None,
) -> list[Neighbour]:
    """Return the words that are to `c` as `b` is to `a`: the highest cosine to ``b - a + c`` (3CosAdd).

    Parameters
    ----------
    source : Embeddings, WordVectors or path
    a, b, c : str
    topn : int
    restrict_vocab : int, optional
        Look only among the first so many words.

    Returns
    -------
    list of Neighbour
        Best first, without `a`, `b` and `c`.

    Raises
    ------
    KeyError
        If a word is missing.
    FormatError, SourceError
        If the source cannot be read.

    References
    ----------
    Mikolov, Yih and Zweig, NAACL 2013.
    """
    return _neighbours(source, [b, c], [a], topn, restrict_vocab)


def _neighbours(
    source: Embeddings | WordVectors | Path, positive: list[str], negative: list[str], topn: int,
    restrict_vocab: int | None,
) -> list[Neighbour]:
    with _opened(source) as emb:
        found = emb.most_similar(positive, negative, topn=topn, restrict_vocab=restrict_vocab)
        return [Neighbour(word, cosine, emb.alias_of(word)) for word, cosine in found]


def export(
    source: Embeddings | WordVectors | Path, target: Path, format: str | None = None, *, force: bool = False,
    progress: Progress = no_progress,
) -> str:
    """Write a compressed table for other programs: word2vec, GloVe, fastText, gensim, spaCy, finalfusion and more.

    Parameters
    ----------
    source : Embeddings, WordVectors or path
    target : str or os.PathLike
    format : str, optional
        A format that can be written, see `list_formats`; by the target's ending if not given.
    force : bool
        Replace an existing target.
    progress : callable
        ``progress("writing", done, total)``, in words.

    Returns
    -------
    str
        The format.

    Raises
    ------
    TargetError
        If the format cannot hold a word, the target exists and `force` is false, or writing fails.
    FormatError, SourceError
        If the source cannot be read.
    """
    from embshrink import formats

    with _opened(source) as emb:
        return formats.export(emb, target, format, force=force, progress=progress)


def is_ems(path: Path) -> bool:
    """Whether the file at `path` begins as an ``.ems`` file does; not a pipe, which would lose what is looked at."""
    from embshrink.storage.container import MAGIC

    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Embeddings(VectorTable):
    """Words and their vectors, with gensim's names; the lookup and the file are those of `VectorTable`.

    Examples
    --------
    >>> import embshrink
    >>> emb = embshrink.as_embeddings(embshrink.WordVectors(["up", "down"], [[0.0, 2.0], [0.0, -1.0]]))
    >>> emb["up"], "left" in emb, emb.similarity("up", "down")
    (array([0., 2.], dtype=float32), False, -1.0)
    """

    _index_to_key: list[str] | None = None

    @property
    def index_to_key(self) -> list[str]:
        """All words, by id."""
        if self._index_to_key is None:
            self._index_to_key = [to_text(word) for word in self.words.raw]
        return self._index_to_key

    @property
    def key_to_index(self) -> Mapping[str, int]:
        """A mapping from word to id that is not built but searched."""
        return _KeyToIndex(self)

    @property
    def vectors(self) -> LazyVectors:
        """All vectors as an array-like of shape (n, dim) that decodes what is indexed."""
        return LazyVectors(self)

    def get_index(self, word: Word, default: int | None = None) -> int:
        """Return the id of `word`; `default` where there is none, or KeyError if that is None."""
        if default is not None and word not in self:
            return default
        return self.id_of(word)

    def __getitem__(self, word: Word | Iterable[Word]) -> FloatArray:
        """Return the vector of a word, (dim,), or of a list of words, (k, dim); KeyError for a missing one."""
        if isinstance(word, (str, bytes)):
            return self.get_vector(word)
        return self.vectors_for(word)

    def get_mean_vector(
        self, words: Iterable[Item], weights: Sequence[float] | RealArray | None = None, pre_normalize: bool = True,
        post_normalize: bool = False, ignore_missing: bool = True,
    ) -> FloatArray:
        """Return the weighted mean of words' vectors, as gensim does.

        Parameters
        ----------
        words : iterable of str, bytes or numpy.ndarray
            Words, and vectors of shape (dim,).
        weights : sequence of float, optional
            One for each word; 1 by default.
        pre_normalize, post_normalize : bool
            Bring words' vectors, or the mean, to length 1.
        ignore_missing : bool
            Leave out words that are missing.

        Returns
        -------
        numpy.ndarray, shape (dim,), float32

        Raises
        ------
        KeyError
            If a word is missing, without `ignore_missing`.
        ValueError
            If there is no word, or another number of weights.
        """
        words = list(words)
        if not words:
            raise ValueError("cannot compute mean with no input")
        factors = np.ones(len(words), np.float32) if weights is None else np.asarray(weights, np.float32)
        if len(factors) != len(words):
            raise ValueError("keys and weights array must have same number of elements")
        if ignore_missing:
            present = [isinstance(word, np.ndarray) or word in self for word in words]
            words = [word for word, there in zip(words, present) if there]
            factors = factors[present]
        from embshrink.embeddings.search import query_vector

        mean = query_vector(self, words, factors, pre_normalize)
        total = np.abs(factors).sum()
        if total > 0:
            mean = mean / total
        return unit_rows(mean[None])[0] if post_normalize else mean

    def norms(self) -> FloatArray:
        """Return the Euclidean length of each word's vector, (n,) float32."""
        return np.concatenate([row_norms(block) for _, block in self.blocks()] or [np.zeros(0, np.float32)])

    # ------------------------------------------------------------ similarity (see embeddings/search.py)

    def similarity(self, first: Word, second: Word) -> float:
        """Return the cosine of two words; 0 for a zero vector."""
        one, two = self.vectors_for([first, second], norm=True)
        return float(one @ two)

    def distance(self, first: Word, second: Word) -> float:
        """Return 1 - cosine of two words."""
        return 1 - self.similarity(first, second)

    def n_similarity(self, first: Iterable[Item], second: Iterable[Item]) -> float:
        """Return the cosine of the means of two lists of words."""
        one, two = (self.get_mean_vector(words, pre_normalize=False, post_normalize=True)
                    for words in (first, second))
        return float(one @ two)

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int = 10, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]]: ...

    @overload
    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, *, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> FloatArray: ...

    @overload
    def most_similar(
        self, positive: Items | None, negative: Items | None, topn: None, clip_start: int = 0,
        clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> FloatArray: ...

    def most_similar(
        self, positive: Items | None = None, negative: Items | None = None, topn: int | None = 10,
        clip_start: int = 0, clip_end: int | None = None, restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]] | FloatArray:
        """Return the words nearest to a sum of words, by cosine; with ``topn=None`` the cosine of every word.

        Parameters
        ----------
        positive, negative : str, bytes, numpy.ndarray, or list of these or of (word or vector, weight)
            Added and subtracted; words are brought to length 1 first.
        topn : int or None
        clip_start, clip_end : int, optional
            Look only among the words with these ids.
        restrict_vocab : int, optional
            Look only among the first so many words; overrides `clip_end`.

        Returns
        -------
        list of (str, float)
            Best first, without the words that were given; or numpy.ndarray, shape (n,), float32.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If no word is given, or a vector has another length.

        See Also
        --------
        embshrink.embeddings.search.most_similar : what it takes in time and memory.
        """
        from embshrink.embeddings import search

        return search.most_similar(self, positive, negative, topn, clip_start, clip_end, restrict_vocab)

    def similar_by_word(
        self, word: Word, topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the words nearest to a word."""
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_key = similar_by_word

    def similar_by_vector(
        self, vector: RealArray | Sequence[float], topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the words nearest to a vector."""
        return self.most_similar([np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def nearest(
        self, queries: Sequence[Item] | RealArray, topn: int = 10, restrict_vocab: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Return the words nearest to each of several words or vectors.

        Parameters
        ----------
        queries : sequence of str, bytes or numpy.ndarray, or numpy.ndarray, shape (q, dim)
        topn : int
        restrict_vocab : int, optional
            Look only among the first so many words.

        Returns
        -------
        ids : numpy.ndarray, shape (q, topn), int64
            ``emb.words[id]`` is the word; -1 where there are no more.
        cosines : numpy.ndarray, shape (q, topn), float32
            NaN where there are no more.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        from embshrink.embeddings import search

        return search.nearest_batch(self, queries, topn, restrict_vocab)

    def distances(self, word_or_vector: Item, other_words: Sequence[Word] = ()) -> FloatArray:
        """Return 1 - cosine to `other_words`, or to all words, as an array."""
        from embshrink.embeddings import search

        return search.distances(self, word_or_vector, other_words)

    def logits(self, vector: RealArray | Sequence[float]) -> FloatArray:
        """Return the dot product of a vector with every word's; see `embshrink.embeddings.search.logits`."""
        from embshrink.embeddings import search

        return search.logits(self, vector)

    def doesnt_match(self, words: Iterable[WordT]) -> WordT:
        """Return the word that fits the others least: farthest from their mean.

        Raises
        ------
        ValueError
            If none of the words is there.
        """
        from embshrink.embeddings import search

        return search.doesnt_match(self, words)

    def rank(self, first: Word, second: Word) -> int:
        """Return how near `second` is to `first` among all words; 1 is nearest."""
        return len(self.closer_than(first, second)) + 1

    def closer_than(self, first: Word, second: Word) -> list[str]:
        """Return the words that are nearer to `first` than `second` is."""
        from embshrink.embeddings import search

        return search.closer_than(self, first, second)

    # ------------------------------------------------------------ evaluation and export, as gensim names them

    def evaluate_word_pairs(
        self, pairs: WordPairs | Path, delimiter: str = "\t", restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True, dummy4unknown: bool = False,
    ) -> tuple[tuple[float, float], tuple[float, float], float]:
        """Return (Pearson (r, p), Spearman (rho, p), percentage of unknown pairs), as gensim does."""
        from embshrink.evaluation.similarity import word_similarity

        score = word_similarity(self, pairs, delimiter=delimiter, restrict_vocab=restrict_vocab,
                                case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def evaluate_word_analogies(
        self, analogies: Analogies | Path, restrict_vocab: int | None = 300_000, case_insensitive: bool = True,
        dummy4unknown: bool = False,
    ) -> tuple[float, list[GensimSection]]:
        """Return (score, sections), as gensim does."""
        from embshrink.evaluation.analogies import analogies as answer

        score = answer(self, analogies, restrict_vocab=restrict_vocab,
                       case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def save_word2vec_format(self, path: Path, binary: bool = False, *, force: bool = False) -> None:
        """Write all words and decoded vectors in a word2vec format; `force` replaces an existing file."""
        from embshrink.formats import write_vectors

        write_vectors(self.words, (block for _, block in self.blocks()), path,
                      "word2vec" if binary else "word2vec-text", force=force)

    def __reduce__(self) -> tuple[object, ...]:
        if self._container is None:
            raise TypeError("only embeddings that were loaded from a file can be pickled")
        return _load_again, (self._container.path, self._container.verify, self._container.mmap)


def _load_again(path: str, verify: str, mmap: bool) -> Embeddings:
    return load(path, verify=verify, mmap=mmap)


class _KeyToIndex(Mapping[str, int]):
    """Word -> id without building a dict."""

    def __init__(self, emb: Embeddings) -> None:
        self._emb = emb

    def __getitem__(self, word: Word) -> int:
        index = self._emb.words.find(word)
        if index < 0:
            raise KeyError(word)
        return index

    def __contains__(self, word: object) -> bool:
        return isinstance(word, (str, bytes)) and word in self._emb

    def __iter__(self) -> Iterator[str]:
        return iter(self._emb.index_to_key)

    def __len__(self) -> int:
        return len(self._emb)


class LazyVectors:
    """All vectors, decoded as they are indexed."""

    dtype = np.dtype(np.float32)

    def __init__(self, emb: Embeddings) -> None:
        self._emb = emb
        self.shape = (len(emb), emb.vector_size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Indices | tuple[Indices, ...]) -> FloatArray:
        if isinstance(key, tuple):
            rows, rest = self[key[0]], key[1:]
            part: FloatArray = rows[rest] if rows.ndim == 1 else rows[(slice(None), *rest)]
            return part
        ids = np.arange(self.shape[0])[key]
        vectors = self._emb.decode_ids(np.atleast_1d(ids))
        return vectors if np.ndim(ids) else vectors[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> FloatArray:
        out = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for start, block in self._emb.blocks():
            out[start : start + len(block)] = block
        return out
