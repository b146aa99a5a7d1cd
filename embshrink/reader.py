"""Open a compressed file, and the functions that have the names of the commands that read.

Each function takes a path or an open table. Opening a file and looking up words need numpy and the standard library
only. The class `Embeddings` is in the folder `embshrink.keyed_vectors`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import FileInfo
from embshrink.evaluation import QUERIES
from embshrink.keyed_vectors.embeddings import Embeddings as Embeddings
from embshrink.keyed_vectors.embeddings import Path
from embshrink.keyed_vectors.embeddings import _load_again as _load_again  # pickles of earlier versions name it here
from embshrink.numerics.progress import Progress, no_progress

if TYPE_CHECKING:
    from embshrink.embeddings.from_memory import InMemory
    from embshrink.evaluation.benchmarks import Analogies, WordPairs
    from embshrink.evaluation.scores import Evaluation
    from embshrink.storage.arrays import FloatArray

Source: TypeAlias = "Embeddings | InMemory | Path"


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


def as_embeddings(source: Source) -> Embeddings:
    """Return a file, or words and vectors in memory, as `Embeddings`.

    Parameters
    ----------
    source : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        A path is that of an ``.ems`` file, or of any file that `embshrink.read_vectors` reads. In memory: gensim's
        ``KeyedVectors``; a dict of words and vectors; a pandas ``DataFrame`` with the words as its index and a column
        for each dimension; or a tuple of words and a matrix, (n, d).

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
    ShapeError
        If words and vectors in memory do not fit each other, or a word occurs twice.
    TypeError
        If `source` is of another type.

    Examples
    --------
    >>> import embshrink
    >>> vectors = {"up": [0.0, 2.0], "down": [0.0, -1.0], "left": [1.0, 1.0]}
    >>> emb = embshrink.as_embeddings(vectors)
    >>> [word for word, cosine in emb.most_similar("up", topn=2)]
    ['left', 'down']
    """
    if isinstance(source, Embeddings):
        return source
    if isinstance(source, (str, os.PathLike)):
        if is_ems(source):
            return load(source)
        from embshrink.formats import read_vectors

        return Embeddings.of_vectors(read_vectors(source))
    from embshrink.embeddings.from_memory import counts_of, word_vectors_of  # a lookup does not need it

    return Embeddings.of_vectors(word_vectors_of(source), counts_of(source))


def evaluate(
    emb: Source,
    baseline: Source | None = None, *,
    pairs: WordPairs | Path | Iterable[WordPairs | Path] | None = None,
    analogies: Analogies | Path | Literal[True] | None = None,
    restrict_vocab: int | None = 300_000, case_insensitive: bool = True, dummy4unknown: bool = False,
    k: int = 10, queries: int = QUERIES, sample: int | None = None, seed: int = 0, progress: Progress = no_progress,
) -> Evaluation:
    """Score word vectors on word similarity and analogies, and measure what they lost against a baseline.

    Parameters
    ----------
    emb : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `as_embeddings`.
    baseline : the same types, optional
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
    source: Source, words: str | Iterable[str], *, aliases: bool = True
) -> list[Lookup]:
    """Look up words.

    Parameters
    ----------
    source : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `as_embeddings`.
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
def _opened(source: Source) -> Iterator[Embeddings]:
    """Yield a source as `Embeddings`; close the file if it was opened here."""
    emb = as_embeddings(source)
    try:
        yield emb
    finally:
        if emb is not source:
            emb.close()


def similar(
    source: Source, word: str, *, topn: int = 10, restrict_vocab: int | None = None
) -> list[Neighbour]:
    """Return the nearest neighbours of a word by cosine similarity.

    Parameters
    ----------
    source : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `as_embeddings`.
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
    source: Source, a: str, b: str, c: str, *, topn: int = 10,
    restrict_vocab: int | None = None,
) -> list[Neighbour]:
    """Answer "a is to b as c is to ?" by the words with the highest cosine to ``b - a + c`` (3CosAdd).

    Parameters
    ----------
    source : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `as_embeddings`.
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
    source: Source, positive: list[str], negative: list[str], topn: int,
    restrict_vocab: int | None,
) -> list[Neighbour]:
    with _opened(source) as emb:
        found = emb.most_similar(positive, negative, topn=topn, restrict_vocab=restrict_vocab)
        return [Neighbour(word, cosine, emb.alias_of(word)) for word, cosine in found]


def export(
    source: Source, target: Path, format: str | None = None, *, force: bool = False,
    progress: Progress = no_progress,
) -> str:
    """Write vectors to a file of another program: word2vec, GloVe, fastText, gensim, spaCy, finalfusion and others.

    Parameters
    ----------
    source : Embeddings, str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `as_embeddings`.
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
