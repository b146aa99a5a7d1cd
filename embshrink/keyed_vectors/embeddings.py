"""`Embeddings`: lookups and similarities, and with them evaluation, files of gensim's formats, and pickling."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import Key
from embshrink.errors import FormatError, TargetError, need
from embshrink.keyed_vectors.refused import Refused
from embshrink.keyed_vectors.similarity import Similarity

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from numpy.typing import DTypeLike

    from embshrink.evaluation.benchmarks import Analogies, WordPairs
    from embshrink.evaluation.scores import Correlation, GensimSection

Path: TypeAlias = str | os.PathLike[str]


class Embeddings(Similarity, Refused):
    """Words and their vectors, decoded on request, with the method names of gensim's ``KeyedVectors``.

    `embshrink.load` and `embshrink.as_embeddings` return one. Words are str, or bytes for words that are not UTF-8.
    Where a method takes a word, it also takes the id of a word, an int from 0 to ``len(emb) - 1``.
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
        self, pairs: WordPairs | Path, delimiter: str = "\t", encoding: str = "utf8",
        restrict_vocab: int | None = 300_000, case_insensitive: bool = True, dummy4unknown: bool = False,
    ) -> tuple[Correlation, Correlation, float]:
        """Correlate cosine similarities with human judgements, with gensim's arguments and result.

        Parameters
        ----------
        pairs : WordPairs, str or os.PathLike
            A benchmark, or the path of its file: two words and a score per line.
        delimiter : str, default tab
            Separator of the columns.
        encoding : str, default "utf8"
            Encoding of the file.
        restrict_vocab : int or None, default 300000
            Use only the first `restrict_vocab` words; None for all.
        case_insensitive : bool, default True
            Compare words in upper case.
        dummy4unknown : bool, default False
            Count pairs with an unknown word as similarity 0 instead of leaving them out.

        Returns
        -------
        pearson : Correlation
            Pearson's r as ``statistic``, and its p-value as ``pvalue``, as a tuple; NaN if not defined.
        spearman : Correlation
            The same of Spearman's rho.
        unknown : float
            Percentage of pairs with an unknown word.

        Raises
        ------
        SourceError
            If the benchmark cannot be read.
        EmbshrinkError
            If no pair has both words in the vocabulary, or `restrict_vocab` is below 1.
        """
        from embshrink.evaluation.benchmarks import as_word_pairs
        from embshrink.evaluation.similarity import word_similarity

        score = word_similarity(self, as_word_pairs(pairs, delimiter, encoding), restrict_vocab=restrict_vocab,
                                case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    def evaluate_word_analogies(
        self, analogies: Analogies | Path, restrict_vocab: int | None = 300_000, case_insensitive: bool = True,
        dummy4unknown: bool = False, similarity_function: str = "most_similar",
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
        similarity_function : {"most_similar"}
            How questions are answered. gensim has this parameter and does not use it.

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
        ValueError
            If `similarity_function` is another name.
        """
        from embshrink.evaluation.analogies import analogies as answer

        if similarity_function != "most_similar":
            raise ValueError("analogies are answered by most_similar, as in gensim, which does not use "
                             f"similarity_function; found {similarity_function!r}")
        score = answer(self, analogies, restrict_vocab=restrict_vocab,
                       case_insensitive=case_insensitive, dummy4unknown=dummy4unknown)
        return score.as_gensim()

    # ------------------------------------------------------------ files and tables of gensim

    @classmethod
    def load(cls, fname: Path, mmap: str | bool | None = True) -> Embeddings:
        """Open an ``.ems`` file: `embshrink.load` under gensim's name.

        Parameters
        ----------
        fname : str or os.PathLike
            The file.
        mmap : str, bool or None, default True
            Map the file into memory, which gensim writes as ``mmap="r"``; None or False reads it.

        Raises
        ------
        FormatError
            If it is not an ``.ems`` file, such as one that gensim saved, or cannot be read.
        """
        return open_file(fname, cls, mmap=bool(mmap))

    @classmethod
    def load_word2vec_format(
        cls, fname: Path, fvocab: Path | None = None, binary: bool = False, encoding: str = "utf8",
        unicode_errors: str = "strict", limit: int | None = None, datatype: DTypeLike = np.float32,
        no_header: bool = False,
    ) -> Embeddings:
        """Read a word2vec file into memory, with gensim's arguments; `embshrink.as_embeddings` reads more formats.

        Parameters
        ----------
        fname : str or os.PathLike
            The file; it may be compressed.
        fvocab : str or os.PathLike, optional
            A file with a word and its count on each line, for `get_vecattr`.
        binary : bool, default False
            Whether the file is in word2vec's binary format instead of its text format.
        encoding, unicode_errors : str, default "utf8", "strict"
            Encoding of the words, and what to do with bytes that are not in it, as for `bytes.decode`.
        limit : int, optional
            Read only the first rows.
        datatype : dtype, default float32
            Must be float32.
        no_header : bool, default False
            Whether a text file has no header.

        Raises
        ------
        SourceError
            If the file cannot be read.
        UnicodeDecodeError
            If a word is not in the encoding, and `unicode_errors` is ``"strict"``.
        ValueError
            If `datatype` is another one, or `no_header` is set for a binary file.
        """
        from embshrink.keyed_vectors.word2vec_files import read

        if np.dtype(datatype) != np.float32:
            raise ValueError(f"vectors are read as float32, not as {np.dtype(datatype)}")
        return cls.of_vectors(*read(fname, fvocab, binary, encoding, unicode_errors, limit, no_header))

    def save_word2vec_format(
        self, fname: Path, fvocab: Path | None = None, binary: bool = False, total_vec: int | None = None,
        write_header: bool = True, prefix: str = "", append: bool = False, sort_attr: str = "count", *,
        force: bool = True,
    ) -> None:
        """Write all words and their decoded vectors as a word2vec file, with gensim's arguments.

        Parameters
        ----------
        fname : str or os.PathLike
            The file to write.
        fvocab : str or os.PathLike, optional
            Also write a file with each word and its count.
        binary : bool, default False
            Write word2vec's binary format instead of its text format.
        total_vec : int, optional
            Number of vectors in the header; that of the words by default.
        write_header : bool, default True
            Write a first line with the number of vectors and their dimension.
        prefix : str, default ""
            Text that is put before each word.
        append : bool, default False
            Add to the end of an existing file.
        sort_attr : str, default "count"
            The order of the words: by descending count, or by id for any other name.
        force : bool, default True
            Replace an existing file, as gensim does. It stays as it is if writing fails.

        Raises
        ------
        TargetError
            If the format cannot hold a word, the file exists and `force` is False, or writing fails. `SameFileError`
            if the file, or `fvocab`, is the open file, or they are one file.
        ValueError
            If `fvocab` is given and `sort_attr` is not ``"count"``.
        """
        from embshrink.keyed_vectors.word2vec_files import Layout, write, write_counts
        from embshrink.storage.paths import check_distinct

        check_distinct({"the target": fname, "fvocab": fvocab}, {"the source": self.path})
        if fvocab is not None and sort_attr != "count":
            raise ValueError(f"words have no attribute {sort_attr!r} to write to fvocab: only 'count'")
        order = np.argsort(-self.counts, kind="stable") if sort_attr == "count" else np.arange(len(self))
        if fvocab is not None:
            write_counts(self, order, fvocab, prefix, append, force)
        write(self, order, fname, Layout(binary, total_vec, write_header, prefix, append), force)

    def save(self, fname_or_handle: Path | BinaryIO) -> None:
        """Copy the open ``.ems`` file; an existing file is replaced, as gensim does. Nothing is pickled.

        Parameters
        ----------
        fname_or_handle : str, os.PathLike or binary file object
            Where to write; `load` opens it.

        Raises
        ------
        TargetError
            If the vectors are in memory and have no ``.ems`` file, or writing fails.
        FormatError
            If the open file was replaced by another one since.
        """
        import shutil  # imported here, because a lookup does not need it

        from embshrink.storage.atomic import atomic_write

        if self._container is None:
            raise TargetError("these vectors are in memory and have no .ems file to copy",
                              hint="Write one with embshrink.compress, or a word2vec file with save_word2vec_format.")
        opened = self._container
        with _load_again(opened.absolute_path, "header", opened.mmap, opened.fingerprint):  # it is still this file
            with open(opened.absolute_path, "rb") as source:
                if not isinstance(fname_or_handle, (str, os.PathLike)):
                    shutil.copyfileobj(source, fname_or_handle)
                    return
                with atomic_write(fname_or_handle, force=True) as target:
                    shutil.copyfileobj(source, target)

    def vectors_for_all(
        self, keys: Iterable[Key], allow_inference: bool = True, copy_vecattrs: bool = False
    ) -> Embeddings:
        """Return the vectors of some words as a new table in memory.

        Parameters
        ----------
        keys : iterable of str, bytes or int
            The words, or ids of words. Repeated words count once, and words that have no vector are left out.
        allow_inference : bool, default True
            Make vectors of n-grams for words that are not in the vocabulary, if the file has n-grams.
        copy_vecattrs : bool, default False
            Keep the counts of the words, as `get_vecattr` returns them.

        Returns
        -------
        Embeddings
            Its ids are in the order of `keys`.
        """
        from embshrink.embeddings.word_vectors import WordVectors

        ids = {key: self.find(key) for key in keys}
        words = dict.fromkeys(self.words[index] if index >= 0 else key for key, index in ids.items()
                              if index >= 0 or (allow_inference and isinstance(key, (str, bytes))))
        wanted = [word for word in words if isinstance(word, (str, bytes))]
        vectors, known = self.known_vectors(wanted)
        left = [word for word, there in zip(wanted, known) if there]
        counts = np.arange(len(left), 0, -1)
        if copy_vecattrs:
            found = np.array([self.find(word) for word in left], np.int64)
            counts[found >= 0] = self.counts[found[found >= 0]]
        return type(self).of_vectors(WordVectors(left, vectors[known]), counts)

    def to_keyedvectors(self) -> KeyedVectors:
        """Return all words and decoded vectors as a gensim object, for programs that check the type.

        Needs the package gensim.

        Returns
        -------
        gensim.models.KeyedVectors
            A `gensim.models.fasttext.FastTextKeyedVectors` if the file has n-grams of fastText. Its arrays are
            float32 and independent of this table. Counts are those of `get_vecattr`.

        Notes
        -----
        gensim counts an n-gram without a row as a zero vector. If rows of n-grams were pruned, its vectors of
        out-of-vocabulary words are therefore shorter than those of this table, and point in the same direction.
        N-grams of floret are left out: gensim has no such class.

        Raises
        ------
        TargetError
            If a row of a word cannot be stored beside its n-grams: it is too large for float32.
        ExtraError
            If gensim is not installed.
        """
        from embshrink.formats.base import Outgoing
        from embshrink.formats.gensim import keyed_vectors

        need("to_keyedvectors", "gensim")
        blocks = (block for _, block in self.blocks())
        return keyed_vectors(Outgoing(self.words, blocks, self.vector_size, self), self.counts)

    def __reduce__(self) -> tuple[object, ...]:
        if self._container is None:
            raise TypeError("only Embeddings that were loaded from a file can be pickled: the pickle holds its path")
        opened = self._container
        return _load_again, (opened.absolute_path, opened.verify, opened.mmap, opened.fingerprint)


def _load_again(path: str, verify: str, mmap: bool, fingerprint: tuple[int, int] | None = None) -> Embeddings:
    """Load a pickled or copied file; FormatError if another file has taken its place."""
    emb = open_file(path, Embeddings, verify=verify, mmap=mmap)
    found = None if emb._container is None else emb._container.fingerprint
    if fingerprint is not None and found != tuple(fingerprint):
        emb.close()
        raise FormatError("this is not the file that was pickled or copied", path=path,
                          expected="{} bytes, crc32 {:08x}".format(*fingerprint),
                          found=None if found is None else "{} bytes, crc32 {:08x}".format(*found),
                          hint="The file was replaced since; load the new one with embshrink.load.")
    return emb
