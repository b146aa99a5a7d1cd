"""Models saved by gensim: pickles, so they are read only if the format is named. Writes KeyedVectors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, need
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.numerics.arrays import as_matrix
from embshrink.vocabulary.words import Words, to_bytes

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from gensim.models.fasttext import FastTextKeyedVectors

    from embshrink.embeddings.subwords import Subwords
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress
    from embshrink.storage.arrays import IntArray

BLOCK = 1 << 16  # words at a time
WARNING = "unpickling runs code from the file: only load files you trust"


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read KeyedVectors, or a model that has them as ``wv``; as `embshrink.formats.text.read`.

    Raises
    ------
    SourceError
        If gensim cannot load it.
    ExtraError
        If gensim is not installed.
    """
    path = stream.file_path
    if path is None:
        raise SourceError("a gensim model must be a file that is given by its path", path=stream.path, where="byte 0",
                          hint="Save it to a file, with its .npy files in the same folder, and give its path.")
    need("the format gensim", "gensim")
    try:
        from gensim.models import KeyedVectors

        model = KeyedVectors.load(path)
        with contextlib.suppress(AttributeError):  # KeyedVectors themselves have no `wv`
            model = model.wv
        words = [to_bytes(str(word)) for word in model.index_to_key]
        matrix = as_matrix(model.vectors[: len(words)], "the matrix of the model")
    except Exception as error:
        # Unpickling runs code from the file, which may raise any exception.
        raise SourceError(f"gensim cannot load this as word vectors: {type(error).__name__}: {error}", path=path,
                          where="byte 0", hint="Check that gensim saved this file (KeyedVectors.save or the save of "
                          "a model), and that its .npy files are in the same folder.") from error
    return Words(words[: options.limit]), matrix[: options.limit], [WARNING]


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write KeyedVectors as one pickle that includes the vectors; see `embshrink.formats.write_vectors`.

    The whole matrix is built in memory. A word that is not UTF-8 becomes text with lone surrogates, from which `read`
    restores its bytes. N-grams are dropped: KeyedVectors have none.
    """
    need("the format gensim", "gensim")
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(outgoing.dim, count=len(outgoing.words), dtype=np.float32)
    _fill(vectors, outgoing)
    vectors.lifecycle_events = None  # a log with times and this machine's name in it
    vectors.save(file, pickle_protocol=5)  # the first that does not copy the matrix


def keyed_vectors(outgoing: Outgoing, counts: IntArray) -> KeyedVectors:
    """Return words, vectors and counts, (n,), as KeyedVectors, or as FastTextKeyedVectors with n-grams of fastText.

    Raises
    ------
    TargetError
        If the row of a word, without those of its n-grams, is too large for float32.
    """
    subwords = outgoing.subwords
    if subwords is None or subwords.hashing.floret is not None:
        from gensim.models import KeyedVectors

        vectors = KeyedVectors(outgoing.dim, count=len(outgoing.words), dtype=np.float32)
        _fill(vectors, outgoing)
    else:
        vectors = _with_ngrams(outgoing, subwords)
    vectors.expandos["count"] = counts.copy()
    return vectors


def _fill(vectors: KeyedVectors, outgoing: Outgoing) -> None:
    """Fill KeyedVectors that have room for all words."""
    start = 0
    for block in outgoing.blocks:
        vectors.vectors[start : start + len(block)] = block
        start += len(block)
    vectors.index_to_key = list(outgoing.words)
    vectors.key_to_index = {word: index for index, word in enumerate(vectors.index_to_key)}
    vectors.next_index = len(outgoing.words)


def _with_ngrams(outgoing: Outgoing, subwords: Subwords) -> FastTextKeyedVectors:
    from gensim.models.fasttext import FastTextKeyedVectors

    from embshrink.formats.fasttext.writer import Ngrams, own_rows

    hashing, raw = subwords.hashing, outgoing.words.raw
    vectors = FastTextKeyedVectors(outgoing.dim, hashing.minn, hashing.maxn, hashing.bucket, count=len(raw))
    _fill(vectors, outgoing)
    ngrams = Ngrams(subwords)
    for start in range(0, len(raw), BLOCK):
        stop = start + BLOCK
        vectors.vectors_vocab[start:stop] = own_rows(vectors.vectors[start:stop], raw[start:stop], ngrams)
    vectors.vectors_ngrams = np.concatenate([block for _, block in subwords.blocks()])
    vectors.recalc_char_ngram_buckets()
    return vectors
