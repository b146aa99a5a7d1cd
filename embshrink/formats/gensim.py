"""Models saved by gensim: pickles, so read only when asked for by name. Written are KeyedVectors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.numerics.arrays import as_matrix
from embshrink.vocabulary.words import to_bytes

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

WARNING = "unpickling runs code from the file: only load files you trust"


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read KeyedVectors, or a model that holds some in ``wv``; as `embshrink.formats.text.read`.

    Raises
    ------
    SourceError
        If gensim cannot load it, for whatever reason.
    """
    path = stream.file_path
    if path is None:
        raise SourceError("gensim's models are read from a file only", path=stream.path, where="byte 0",
                          hint="Save it to a file, with those that belong to it beside it, and give its path.")
    try:
        from gensim.models import KeyedVectors

        model = KeyedVectors.load(path)
        with contextlib.suppress(AttributeError):  # KeyedVectors themselves have no `wv`
            model = model.wv
        words = [to_bytes(str(word)) for word in model.index_to_key]
        matrix = as_matrix(model.vectors[: len(words)], "its table")
    except Exception as error:
        # Unpickling runs anything and so raises anything.
        raise SourceError(f"gensim cannot load this as word vectors: {type(error).__name__}: {error}", path=path,
                          where="byte 0", hint="Check that it was saved by KeyedVectors.save or by a model's save, "
                          "and that the .npy files that belong to it are beside it.") from error
    return words[: options.limit], matrix[: options.limit], [WARNING]


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write a KeyedVectors, one pickle with the vectors in it; see `embshrink.formats.write_vectors`.

    The matrix is built whole. A word that is not UTF-8 becomes text with lone surrogates, from which `read` has its
    bytes again. N-grams are left out: a KeyedVectors has none.
    """
    from gensim.models import KeyedVectors

    n = len(outgoing.words)
    vectors = KeyedVectors(outgoing.dim, count=n, dtype=np.float32)
    start = 0
    for block in outgoing.blocks:
        vectors.vectors[start : start + len(block)] = block
        start += len(block)
    vectors.index_to_key = list(outgoing.words)
    vectors.key_to_index = {word: index for index, word in enumerate(vectors.index_to_key)}
    vectors.next_index = n
    vectors.lifecycle_events = None  # a log with times and this machine's name in it
    vectors.save(file, pickle_protocol=5)  # the first that does not copy the matrix
