"""Open a compressed file, look up words, search and evaluate.

`Embeddings` has the method names and return types of gensim 4's ``KeyedVectors``, so that it can replace one; gensim
is not imported. Opening a file and looking up words need numpy and the standard library only. Each function has the
name of a command, and takes a path or an open table.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np

from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import FileInfo, VectorTable
from embshrink.evaluation import QUERIES
from embshrink.numerics.arrays import cosines_of, row_norms, unit_rows
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
Indices: TypeAlias = "int | slice | Sequence[int] | AnyArray"  # as in numpy


def load(path: Path, *, verify: str = "lazy", mmap: bool = True) -> Embeddings:
    """Open an ``.ems`` file without decoding any vector.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    verify : {"lazy", "header", "full"}, default "lazy"
        When checksums are checked. ``"lazy"``: of each block of data when it is first read. ``"header"``: of the
        header and the section table only. ``"full"``: of the whole file now, as `verify` does.
    mmap : bool, default True
        Map the file into memory; False reads the whole file. Use False if another program may truncate the file
        while it is open: with a mapped file, the operating system would then kill the process.

    Returns
    -------
    Embeddings
        Close it with ``close()``, or use it in a ``with`` statement.

    Raises
    ------
    FormatError
        If the file cannot be read, is not an ``.ems`` file, is damaged or truncated, or is of a newer version; or if
        `verify` is not one of the three values.
    """
    return open_file(path, Embeddings, verify=verify, mmap=mmap)


def as_embeddings(source: Embeddings | WordVectors | Path) -> Embeddings:
    """Return a file or word vectors in memory as `Embeddings`.

    Parameters
    ----------
    source : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.

    Returns
    -------
    Embeddings
        `source` itself if it is one already.

    Raises
    ------
    FormatError
        If an ``.ems`` file is damaged or too new.
    SourceError
        If another file cannot be read.
    TypeError
        If `source` is of another type.

    Examples
    --------
    >>> import embshrink
    >>> vectors = embshrink.WordVectors(["up", "down", "left"], [[0.0, 2.0], [0.0, -1.0], [1.0, 1.0]])
    >>> emb = embshrink.as_embeddings(vectors)
    >>> [word for word, cosine in emb.most_similar("up", topn=2)]
    ['left', 'down']
    """
    if isinstance(source, Embeddings):
        return source
    if isinstance(source, (str, os.PathLike)) and is_ems(source):
        return load(source)
    from embshrink.embeddings.word_vectors import WordVectors  # imported here, because a lookup does not need it

    if isinstance(source, (str, os.PathLike)):
        from embshrink.formats import read_vectors

        source = read_vectors(source)
    if isinstance(source, WordVectors):
        return Embeddings.of_vectors(source)
    raise TypeError(f"expected Embeddings, WordVectors or a path, not {type(source).__name__}")


def evaluate(
    emb: Embeddings | WordVectors | Path,
    baseline: Embeddings | WordVectors | Path | None = None, *,
    pairs: WordPairs | Path | Iterable[WordPairs | Path] | None = None,
    analogies: Analogies | Path | Literal[True] | None = None,
    restrict_vocab: int | None = 300_000, case_insensitive: bool = True, dummy4unknown: bool = False,
    k: int = 10, queries: int = QUERIES, sample: int | None = None, seed: int = 0, progress: Progress = no_progress,
) -> Evaluation:
    """Score word vectors on word similarity and analogies, and measure what they lost against a baseline.

    Parameters
    ----------
    emb : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.
    baseline : Embeddings, WordVectors, str or os.PathLike, optional
        The vectors that `emb` was made from. They are scored too. Reconstruction (if the dimensions are equal) and
        neighbour overlap are measured against them, over the words that both have.
    pairs : WordPairs, str or os.PathLike, or list of these, optional
        Word-similarity benchmarks. None: WordSim-353 and SimLex-999, which come with gensim. An empty list: none.
    analogies : Analogies, str, os.PathLike or True, optional
        An analogy benchmark. True: Google's questions-words, which comes with gensim. None: no analogies.
    restrict_vocab : int or None, default 300000
        Use only the first `restrict_vocab` words, in the benchmarks and as answers to analogies; None for all.
    case_insensitive : bool, default True
        Compare words in upper case. If several words are equal in upper case, the first one is used.
    dummy4unknown : bool, default False
        Count pairs with an unknown word as similarity 0, and analogies with an unknown word as wrong, instead of
        leaving them out.
    k : int, default 10
        Number of nearest neighbours that are compared for each word.
    queries : int, default 1600
        Number of words whose neighbours are compared, drawn at random; all words if there are fewer.
    sample : int, optional
        Number of words whose vectors are compared, drawn at random; None for all.
    seed : int, default 0
        Seed of both random draws.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    Evaluation
        On uncompressed vectors the scores are equal to gensim's.

    Raises
    ------
    SourceError
        If a benchmark or a source cannot be read.
    FormatError
        If an ``.ems`` file is damaged or too new.
    ExtraError
        If a default benchmark is asked for and gensim or its test data is not installed.
    EmbshrinkError
        If `emb` and `baseline` have fewer than two words in common, or if a number is below 1.

    Notes
    -----
    Word similarity is Spearman's and Pearson's correlation of cosines with human judgements. Analogies are answered
    by 3CosAdd (Mikolov, Yih and Zweig, NAACL 2013). The relative error is ``||X - X^||^2 / ||X - mean||^2``.
    """
    from embshrink.evaluation import run
    from embshrink.evaluation.benchmarks import analogy_benchmark, similarity_benchmarks

    # Read benchmarks before the tables, so that an unreadable one is reported immediately.
    pairs, analogies = similarity_benchmarks(pairs), analogy_benchmark(analogies)
    return run.evaluate(
        as_embeddings(emb), None if baseline is None else as_embeddings(baseline), pairs=pairs, analogies=analogies,
        restrict_vocab=restrict_vocab, case_insensitive=case_insensitive, dummy4unknown=dummy4unknown, k=k,
        queries=queries, sample=sample, seed=seed, progress=progress,
    )


class Verified(NamedTuple):
    """Result of `verify`: what was checked and found correct.

    Attributes
    ----------
    path : str
        The file.
    level : {"full", "header"}
        ``"header"`` if `verify` was called with ``quick=True``.
    words, rows : int
        Number of words, and of stored rows.
    bytes : int
        Size of the file.
    """

    path: str
    level: str
    words: int
    rows: int
    bytes: int

    def as_dict(self) -> dict[str, object]:
        """Return a dict that can be written as JSON: ``path``, ``ok``, ``level`` and ``bytes``."""
        return {"path": self.path, "ok": True, "level": self.level, "bytes": self.bytes}


class Lookup(NamedTuple):
    """Result of `get` for one word.

    Attributes
    ----------
    word : str
        The word that was looked up.
    vector : numpy.ndarray of float32, shape (dim,), or None
        Its vector; None if the word is missing.
    alias_of : str or None
        The word whose vector it shares, or the word itself. None for a centroid, for an out-of-vocabulary word, and
        with ``aliases=False``.
    """

    word: str
    vector: FloatArray | None
    alias_of: str | None


class Neighbour(NamedTuple):
    """One word that `similar` or `analogy` found.

    Attributes
    ----------
    word : str
        The word.
    cosine : float
        Cosine similarity to the query.
    alias_of : str or None
        The word whose vector it shares, or the word itself; None if vectors are centroids.
    """

    word: str
    cosine: float
    alias_of: str | None

    def as_dict(self) -> dict[str, object]:
        """Return a dict that can be written as JSON."""
        return self._asdict()


def info(path: Path) -> FileInfo:
    """Return the header of an ``.ems`` file and the size of each of its sections.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    FileInfo
        A dict with the keys of the header, and ``path``, ``version`` (of the format), ``bytes`` (of the file),
        ``sections`` (bytes of each), ``bits_per_word`` (of the vectors) and ``word_bits_per_word`` (of the words).

    Raises
    ------
    FormatError
        If the file cannot be read, is not an ``.ems`` file, or its header is damaged.
    """
    with load(path) as emb:
        return emb.info()


def verify(path: Path, *, quick: bool = False, progress: Progress = no_progress) -> Verified:
    """Check an ``.ems`` file: checksums, word index, row map, codes, and that every row decodes to finite numbers.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    quick : bool, default False
        Check only the header, the section table and the length of the file.
    progress : callable, optional
        Called as ``progress("checking rows", done, total)``.

    Returns
    -------
    Verified
        What was checked.

    Raises
    ------
    FormatError
        If the file cannot be read or anything is wrong. The message names the first fault.
    """
    with load(path) as emb:
        if not quick:
            emb.check(progress=progress)
        return Verified(os.fspath(path), "header" if quick else "full", len(emb), emb.n_rows, emb.nbytes)


def get(
    source: Embeddings | WordVectors | Path, words: str | Iterable[str], *, aliases: bool = True
) -> list[Lookup]:
    """Look up words.

    Parameters
    ----------
    source : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.
    words : str or iterable of str
        One word or several. Out-of-vocabulary words get a vector if the source has n-grams.
    aliases : bool, default True
        Find the word whose vector each word shares. If words share rows, this takes a pass over all words.

    Returns
    -------
    list of Lookup
        One for each word, in order. For a missing word, ``vector`` is None.

    Raises
    ------
    FormatError, SourceError
        If the source cannot be read.

    Examples
    --------
    >>> import embshrink
    >>> vectors = embshrink.WordVectors(["up", "down"], [[0.0, 2.0], [0.0, -1.0]])
    >>> for found in embshrink.get(vectors, ["up", "left"]):
    ...     print(found.word, found.vector)
    up [0. 2.]
    left None
    """
    if not isinstance(words, Iterable):
        raise TypeError(f"words must be a word or a list of words, not {type(words).__name__}")
    words = [words] if isinstance(words, str) else list(words)
    with _opened(source) as emb:
        return [Lookup(word, emb.get(word), emb.alias_of(word) if aliases and word in emb else None)
                for word in words]


@contextlib.contextmanager
def _opened(source: Embeddings | WordVectors | Path) -> Iterator[Embeddings]:
    """Yield a source as `Embeddings`; close the file if it was opened here."""
    emb = as_embeddings(source)
    try:
        yield emb
    finally:
        if emb is not source:
            emb.close()


def similar(
    source: Embeddings | WordVectors | Path, word: str, *, topn: int = 10, restrict_vocab: int | None = None
) -> list[Neighbour]:
    """Return the nearest neighbours of a word by cosine similarity.

    Parameters
    ----------
    source : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.
    word : str
        The query.
    topn : int, default 10
        Number of neighbours.
    restrict_vocab : int, optional
        Search only the first `restrict_vocab` words; all by default.

    Returns
    -------
    list of Neighbour
        The highest cosine first, without `word`.

    Raises
    ------
    KeyError
        If the word is missing, and there are no n-grams to make its vector of.
    FormatError, SourceError
        If the source cannot be read.
    """
    return _neighbours(source, [word], [], topn, restrict_vocab)


def analogy(
    source: Embeddings | WordVectors | Path, a: str, b: str, c: str, *, topn: int = 10,
    restrict_vocab: int | None = None,
) -> list[Neighbour]:
    """Answer "a is to b as c is to ?" by the words with the highest cosine to ``b - a + c`` (3CosAdd).

    Parameters
    ----------
    source : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.
    a, b, c : str
        The words of the question.
    topn : int, default 10
        Number of answers.
    restrict_vocab : int, optional
        Search only the first `restrict_vocab` words; all by default.

    Returns
    -------
    list of Neighbour
        The highest cosine first, without `a`, `b` and `c`.

    Raises
    ------
    KeyError
        If a word is missing, and there are no n-grams to make its vector of.
    FormatError, SourceError
        If the source cannot be read.

    Notes
    -----
    Each word's vector is brought to length 1 first. Method: Mikolov, Yih and Zweig, NAACL 2013.

    Examples
    --------
    >>> import embshrink
    >>> vectors = embshrink.WordVectors(["man", "woman", "king", "queen"], [[1, 0], [1, 1], [3, 0], [2, 2]])
    >>> [answer.word for answer in embshrink.analogy(vectors, "man", "woman", "king")]
    ['queen']
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
    """Write vectors to a file of another program: word2vec, GloVe, fastText, gensim, spaCy, finalfusion and others.

    Parameters
    ----------
    source : Embeddings, WordVectors, str or os.PathLike
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads.
    target : str or os.PathLike
        The file to write, or the folder for the format ``"spacy"``. The target appears complete or not at all.
    format : str, optional
        A format that can be written; `embshrink.list_formats` lists them. Chosen by the ending of `target` by
        default.
    force : bool, default False
        Replace an existing target.
    progress : callable, optional
        Called as ``progress("writing", done, total)``, in words.

    Returns
    -------
    str
        The name of the format.

    Raises
    ------
    TargetError
        If the format cannot hold a word, the target exists and `force` is False, or writing fails. `SameFileError`
        if the target is the source.
    FormatError, SourceError
        If the source cannot be read.
    EmbshrinkError
        If `format` is not the name of a format that can be written.
    """
    from embshrink import formats
    from embshrink.storage.paths import check_distinct

    check_distinct({"the target": target}, {"the source": source})
    with _opened(source) as emb:
        return formats.export(emb, target, format, force=force, progress=progress)


def is_ems(path: Path) -> bool:
    """Whether a file begins with the magic bytes of ``.ems``; False for a pipe, from which nothing must be read."""
    from embshrink.storage.container import MAGIC

    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Embeddings(VectorTable):
    """Words and their vectors, decoded on request, with the method names of gensim's ``KeyedVectors``.

    `embshrink.load` and `embshrink.as_embeddings` return one. Words are str, or bytes for words that are not UTF-8.
    Methods raise KeyError for a missing word. A word that is not in the vocabulary gets the mean of its n-gram
    vectors, if the file has n-grams: ``emb[word]`` returns it, and ``word in emb`` is False.

    Attributes
    ----------
    words : Vocabulary
        The words by id, a sequence of str.
    vector_size : int
        Dimension of the vectors.
    n_rows : int
        Number of stored rows; fewer than words if words share rows.

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
        """All words as a list of str, by id."""
        if self._index_to_key is None:
            self._index_to_key = [to_text(word) for word in self.words.raw]
        return self._index_to_key

    @property
    def key_to_index(self) -> Mapping[str, int]:
        """Mapping from word to id. It is a view that searches the file; no dict is built."""
        return _KeyToIndex(self)

    @property
    def vectors(self) -> LazyVectors:
        """All vectors as an array-like of float32, shape (n, dim), which decodes the rows that are indexed."""
        return LazyVectors(self)

    def get_index(self, word: Word, default: int | None = None) -> int:
        """Return the id of a word.

        Parameters
        ----------
        word : str or bytes
            The word.
        default : int, optional
            Returned for a missing word.

        Returns
        -------
        int
            From 0 to ``len(emb) - 1``.

        Raises
        ------
        KeyError
            If the word is missing and `default` is None.
        """
        if default is not None and word not in self:
            return default
        return self.id_of(word)

    def __getitem__(self, word: Word | Iterable[Word]) -> FloatArray:
        """Return the vector of a word, (dim,), or the vectors of k words, (k, dim), as float32.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        """
        if isinstance(word, (str, bytes)):
            return self.get_vector(word)
        if not isinstance(word, Iterable):
            raise TypeError(f"expected a word or a list of words, not {type(word).__name__}; emb.vectors[i] is the "
                            "vector with the id i")
        return self.vectors_for(word)

    def get_mean_vector(
        self, words: Iterable[Item], weights: Sequence[float] | RealArray | None = None, pre_normalize: bool = True,
        post_normalize: bool = False, ignore_missing: bool = True,
    ) -> FloatArray:
        """Return the weighted mean of the vectors of words, as gensim does.

        Parameters
        ----------
        words : iterable of str, bytes or numpy.ndarray
            Words, and vectors of shape (dim,).
        weights : sequence of float, optional
            One weight for each word; 1 by default.
        pre_normalize : bool, default True
            Bring the vector of each word to length 1 first. Vectors that are given as arrays are used as they are.
        post_normalize : bool, default False
            Bring the mean to length 1.
        ignore_missing : bool, default True
            Leave out words that are not in the vocabulary.

        Returns
        -------
        numpy.ndarray of float32, shape (dim,)
            Zeros if every word is left out.

        Raises
        ------
        KeyError
            If a word is missing and `ignore_missing` is False.
        ValueError
            If `words` is empty, the number of weights differs from that of words, or a vector has another length.
        """
        words = list(words)
        if not words:
            raise ValueError("cannot compute the mean of no words: the list is empty")
        factors = np.ones(len(words), np.float32) if weights is None else np.asarray(weights, np.float32)
        if len(factors) != len(words):
            raise ValueError(f"expected one weight for each of the {len(words)} words, found {len(factors)}")
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
        """Return the Euclidean length of each word's vector, as float32 of shape (n,)."""
        return np.concatenate([row_norms(block) for _, block in self.blocks()] or [np.zeros(0, np.float32)])

    # ------------------------------------------------------------ similarity (see embeddings/search.py)

    def similarity(self, first: Word, second: Word) -> float:
        """Return the cosine similarity of two words; 0 if a vector is zero.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        one, two = self.vectors_for([first, second], norm=True)
        return float(cosines_of(one[None], two[None])[0])

    def distance(self, first: Word, second: Word) -> float:
        """Return the cosine distance of two words: 1 - `similarity`."""
        return 1 - self.similarity(first, second)

    def n_similarity(self, first: Iterable[Item], second: Iterable[Item]) -> float:
        """Return the cosine similarity of the means of two lists of words; missing words are left out.

        Raises
        ------
        ValueError
            If a list is empty.
        """
        one, two = (self.get_mean_vector(words, pre_normalize=False, post_normalize=True)
                    for words in (first, second))
        return float(cosines_of(one[None], two[None])[0])

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
        """Return the nearest neighbours, by cosine similarity, of a sum of words and vectors.

        Parameters
        ----------
        positive, negative : str, bytes, numpy.ndarray, or list of these or of (word or vector, weight), optional
            Words and vectors to add, and to subtract. The vector of each word is brought to length 1 first.
        topn : int or None, default 10
            Number of neighbours. With None, the cosine of every word is returned instead.
        clip_start, clip_end : int, optional
            Search only the words with ids from `clip_start` to ``clip_end - 1``; all by default.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; overrides `clip_end`.

        Returns
        -------
        list of (str, float)
            Words and cosines, the highest cosine first, without the words that were given. Words with equal cosines
            are in the order of their ids. With ``topn=None``: numpy.ndarray of float32, shape (n,), by id.

        Raises
        ------
        KeyError
            If a word is missing, and the file has no n-grams to make its vector of.
        ValueError
            If no word or vector is given, or a vector has another length.

        Notes
        -----
        The search is exact. The first one decodes all rows. From the second on, a table of 20,000 rows or more is
        searched by an index, which is kept in memory until `close`: with codes of 4 bits (pq, iiq, scalar) it takes
        their bytes and 2 bytes per row, else at most dim + 9 bytes per row, and for packed words about 20 bytes per
        word.

        Examples
        --------
        >>> import embshrink
        >>> vectors = embshrink.WordVectors(["man", "woman", "king", "queen"], [[1, 0], [1, 1], [3, 0], [2, 2]])
        >>> emb = embshrink.as_embeddings(vectors)
        >>> [word for word, cosine in emb.most_similar(["king", "woman"], ["man"], topn=1)]
        ['queen']
        """
        from embshrink.embeddings import search

        return search.most_similar(self, positive, negative, topn, clip_start, clip_end, restrict_vocab)

    def similar_by_word(
        self, word: Word, topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a word: `most_similar` with one word.

        Raises
        ------
        KeyError
            If the word is missing.
        """
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_key = similar_by_word

    def similar_by_vector(
        self, vector: RealArray | Sequence[float], topn: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """Return the nearest neighbours of a vector, (dim,): `most_similar` with one vector.

        Raises
        ------
        ValueError
            If the vector has another shape.
        """
        if isinstance(vector, (str, bytes)):
            raise TypeError("expected a vector, not a word; use similar_by_word for a word")
        return self.most_similar([np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def nearest(
        self, queries: Sequence[Item] | RealArray, topn: int = 10, restrict_vocab: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Return the nearest neighbours of each of several words or vectors, by cosine similarity.

        Parameters
        ----------
        queries : sequence of str, bytes or numpy.ndarray, or numpy.ndarray of shape (q, dim)
            Words and vectors. A word is not among its own neighbours.
        topn : int, default 10
            Number of neighbours of each query.
        restrict_vocab : int, optional
            Search only the first `restrict_vocab` words; all by default.

        Returns
        -------
        ids : numpy.ndarray of int64, shape (q, topn)
            Ids of the neighbours, the highest cosine first: ``emb.words[id]`` is the word. -1 if there are fewer.
        cosines : numpy.ndarray of float32, shape (q, topn)
            Their cosines. NaN if there are fewer.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If a vector has another length.

        Notes
        -----
        The neighbours are those of `most_similar` for each query, in less time.
        """
        from embshrink.embeddings import search

        return search.nearest_batch(self, queries, topn, restrict_vocab)

    def distances(self, word_or_vector: Item, other_words: Sequence[Word] = ()) -> FloatArray:
        """Return the cosine distances of a word or vector to other words.

        Parameters
        ----------
        word_or_vector : str, bytes or numpy.ndarray of shape (dim,)
            The query.
        other_words : sequence of str or bytes, optional
            Words to compare with; all words by default.

        Returns
        -------
        numpy.ndarray of float32, shape (k,)
            1 - cosine, in the order of `other_words`, or by id.

        Raises
        ------
        KeyError
            If a word is missing.
        ValueError
            If the vector has another length.
        """
        from embshrink.embeddings import search

        return search.distances(self, word_or_vector, other_words)

    def logits(self, vector: RealArray | Sequence[float]) -> FloatArray:
        """Return the dot product of a vector with the vector of every word: a softmax layer in compressed form.

        Parameters
        ----------
        vector : array_like, shape (dim,)
            The query; not normalized.

        Returns
        -------
        numpy.ndarray of float32, shape (n,)
            By id.

        Raises
        ------
        ValueError
            If the vector has another shape.

        Notes
        -----
        With codes of `pq` and similar methods, products are sums of table entries, and no row is decoded (Jégou et
        al. 2011, asymmetric distances; Shi and Yu, Interspeech 2018, section 3).
        """
        from embshrink.embeddings import search

        return search.logits(self, vector)

    def doesnt_match(self, words: Iterable[WordT]) -> WordT:
        """Return the word with the lowest cosine similarity to the mean of all; missing words are left out.

        Raises
        ------
        ValueError
            If `words` is empty, or none of the words is in the vocabulary.
        """
        from embshrink.embeddings import search

        return search.doesnt_match(self, words)

    def rank(self, first: Word, second: Word) -> int:
        """Return the rank of `second` among the neighbours of `first`; 1 for the nearest.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        return len(self.closer_than(first, second)) + 1

    def closer_than(self, first: Word, second: Word) -> list[str]:
        """Return the words with a higher cosine similarity to `first` than `second` has, by id.

        Raises
        ------
        KeyError
            If a word is missing.
        """
        from embshrink.embeddings import search

        return search.closer_than(self, first, second)

    # ------------------------------------------------------------ evaluation and export, with gensim's names

    def evaluate_word_pairs(
        self, pairs: WordPairs | Path, delimiter: str = "\t", restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True, dummy4unknown: bool = False,
    ) -> tuple[tuple[float, float], tuple[float, float], float]:
        """Correlate cosine similarities with human judgements, with gensim's arguments and result.

        Parameters
        ----------
        pairs : WordPairs, str or os.PathLike
            A benchmark, or the path of its file: two words and a score per line.
        delimiter : str, default tab
            Separator of the columns.
        restrict_vocab : int or None, default 300000
            Use only the first `restrict_vocab` words; None for all.
        case_insensitive : bool, default True
            Compare words in upper case.
        dummy4unknown : bool, default False
            Count pairs with an unknown word as similarity 0 instead of leaving them out.

        Returns
        -------
        pearson : (float, float)
            Pearson's r and its p-value; NaN if not defined.
        spearman : (float, float)
            Spearman's rho and its p-value; NaN if not defined.
        unknown : float
            Percentage of pairs with an unknown word.

        Raises
        ------
        SourceError
            If the benchmark cannot be read.
        EmbshrinkError
            If no pair has both words in the vocabulary, or `restrict_vocab` is below 1.
        """
        from embshrink.evaluation.similarity import word_similarity

        score = word_similarity(self, pairs, delimiter=delimiter, restrict_vocab=restrict_vocab,
                                case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def evaluate_word_analogies(
        self, analogies: Analogies | Path, restrict_vocab: int | None = 300_000, case_insensitive: bool = True,
        dummy4unknown: bool = False,
    ) -> tuple[float, list[GensimSection]]:
        """Answer analogies by 3CosAdd, with gensim's arguments and result.

        Parameters
        ----------
        analogies : Analogies, str or os.PathLike
            A benchmark, or the path of its file: sections of questions of four words.
        restrict_vocab : int or None, default 300000
            Use only the first `restrict_vocab` words, in questions and as answers; None for all.
        case_insensitive : bool, default True
            Compare words in upper case.
        dummy4unknown : bool, default False
            Count questions with an unknown word as wrong instead of leaving them out.

        Returns
        -------
        score : float
            Share of the questions that are answered correctly, from 0 to 1.
        sections : list of dict
            ``section``, ``correct`` and ``incorrect`` of each section; the last one has all questions.

        Raises
        ------
        SourceError
            If the benchmark cannot be read.
        EmbshrinkError
            If `restrict_vocab` is below 1.
        """
        from embshrink.evaluation.analogies import analogies as answer

        score = answer(self, analogies, restrict_vocab=restrict_vocab,
                       case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def save_word2vec_format(self, path: Path, binary: bool = False, *, force: bool = False) -> None:
        """Write all words and their decoded vectors as a word2vec file.

        Parameters
        ----------
        path : str or os.PathLike
            The file to write.
        binary : bool, default False
            Write word2vec's binary format instead of its text format.
        force : bool, default False
            Replace an existing file.

        Raises
        ------
        TargetError
            If the format cannot hold a word, the file exists and `force` is False, or writing fails. `SameFileError`
            if it is the open file.
        """
        from embshrink.formats import write_vectors
        from embshrink.storage.paths import check_distinct

        check_distinct({"the target": path}, {"the source": self.path})
        write_vectors(self.words, (block for _, block in self.blocks()), path,
                      "word2vec" if binary else "word2vec-text", force=force)

    def __reduce__(self) -> tuple[object, ...]:
        if self._container is None:
            raise TypeError("only Embeddings that were loaded from a file can be pickled: the pickle holds its path")
        opened = self._container
        return _load_again, (opened.absolute_path, opened.verify, opened.mmap, opened.fingerprint)


def _load_again(path: str, verify: str, mmap: bool, fingerprint: tuple[int, int] | None = None) -> Embeddings:
    """Load a pickled or copied file; FormatError if another file has taken its place."""
    from embshrink.errors import FormatError

    emb = load(path, verify=verify, mmap=mmap)
    found = None if emb._container is None else emb._container.fingerprint
    if fingerprint is not None and found != tuple(fingerprint):
        emb.close()
        raise FormatError("this is not the file that was pickled or copied", path=path,
                          expected="{} bytes, crc32 {:08x}".format(*fingerprint),
                          found=None if found is None else "{} bytes, crc32 {:08x}".format(*found),
                          hint="The file was replaced since; load the new one with embshrink.load.")
    return emb


class _KeyToIndex(Mapping[str, int]):
    """Mapping from word to id that searches the vocabulary instead of building a dict."""

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
    """All vectors as an array-like that decodes the rows that are indexed.

    Attributes
    ----------
    shape : tuple of int
        Number of words, dimension.
    dtype : numpy.dtype
        float32.
    """

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
