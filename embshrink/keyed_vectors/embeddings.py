"""`Embeddings`: lookups and similarities, and with them evaluation, export and pickling."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from embshrink.embeddings.file import open_file
from embshrink.keyed_vectors.similarity import Similarity

if TYPE_CHECKING:
    from embshrink.evaluation.benchmarks import Analogies, WordPairs
    from embshrink.evaluation.scores import GensimSection

Path: TypeAlias = str | os.PathLike[str]


class Embeddings(Similarity):
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
            If the format cannot hold a word, the file exists and `force` is False, or writing fails.
        """
        from embshrink.formats import write_vectors

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

    emb = open_file(path, Embeddings, verify=verify, mmap=mmap)
    found = None if emb._container is None else emb._container.fingerprint
    if fingerprint is not None and found != tuple(fingerprint):
        emb.close()
        raise FormatError("this is not the file that was pickled or copied", path=path,
                          expected="{} bytes, crc32 {:08x}".format(*fingerprint),
                          found=None if found is None else "{} bytes, crc32 {:08x}".format(*found),
                          hint="The file was replaced since; load the new one with embshrink.load.")
    return emb
