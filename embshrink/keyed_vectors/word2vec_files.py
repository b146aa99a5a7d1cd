"""Word2vec files with the parameters that gensim has for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embshrink.embeddings.word_vectors import WordVectors
from embshrink.formats import ReadOptions, read_vectors, text, word2vec
from embshrink.formats.base import Outgoing, checked_blocks
from embshrink.storage.atomic import atomic_write
from embshrink.vocabulary.words import Words, to_bytes

if TYPE_CHECKING:
    from embshrink.keyed_vectors.lookup import KeyLookup
    from embshrink.storage.arrays import FloatArray, IntArray
    from embshrink.storage.atomic import Output


class Layout(NamedTuple):
    """The parameters of gensim's ``save_word2vec_format`` that say what a file holds."""

    binary: bool
    total_vec: int | None
    write_header: bool
    prefix: str
    append: bool


def write(
    table: KeyLookup, order: IntArray, path: str | os.PathLike[str], layout: Layout, force: bool
) -> None:
    """Write the words with these ids, (n,), and their vectors; see `embshrink.Embeddings.save_word2vec_format`."""
    def blocks() -> Iterator[FloatArray]:
        for start in range(0, len(order), table.block_rows):
            yield table.decode_ids(order[start : start + table.block_rows])

    words = _prefixed(table, order, layout.prefix)
    outgoing = Outgoing(words, checked_blocks(blocks(), table.vector_size, len(order)), table.vector_size)
    with atomic_write(path, force=force or layout.append) as file:
        if layout.append:
            _copy(path, file)
        if layout.write_header:
            count = len(order) if layout.total_vec is None else layout.total_vec
            file.write(b"%d %d\n" % (count, table.vector_size))
        (word2vec.write_rows if layout.binary else text.write_rows)(file, outgoing)


def write_counts(
    table: KeyLookup, order: IntArray, path: str | os.PathLike[str], prefix: str, append: bool, force: bool
) -> None:
    """Write a word and its count on each line, for the words with these ids, (n,)."""
    with atomic_write(path, force=force or append) as file:
        if append:
            _copy(path, file)
        for word, count in zip(_prefixed(table, order, prefix).raw, table.counts[order].tolist()):
            file.write(b"%b %d\n" % (word, count))


def _prefixed(table: KeyLookup, order: IntArray, prefix: str) -> Words:
    return Words([to_bytes(prefix) + word for word in table.words.take(order).raw])


def _copy(path: str | os.PathLike[str], target: Output) -> None:
    """Write the content of a file, if it exists, to a target."""
    if os.path.exists(path):
        with open(path, "rb") as source:
            shutil.copyfileobj(source, target)


def read(
    path: str | os.PathLike[str], counts_path: str | os.PathLike[str] | None, binary: bool, encoding: str,
    unicode_errors: str, limit: int | None, no_header: bool,
) -> tuple[WordVectors, IntArray | None]:
    """Return vectors, and the count of each word if they are known; see `Embeddings.load_word2vec_format`."""
    if binary and no_header:
        raise ValueError("no_header is for text files: a binary file without a header cannot be read")
    format, header = ("word2vec", "auto") if binary else ("text", "no") if no_header else ("word2vec-text", "yes")
    options = ReadOptions(format=format, header=header, row_newline="no", limit=limit)
    found = read_vectors(path, options)
    words = [word.decode(encoding, unicode_errors) for word in found.words.raw]
    if binary:
        words = [word.lstrip("\n") for word in words]  # as gensim does, whether each row ends in a newline or none
    rows = {word: row for row, word in reversed(list(enumerate(words)))}  # the first row of each word
    first = np.sort(np.array(list(rows.values()), np.int64))
    vectors = WordVectors([words[row] for row in first.tolist()], found.matrix[first], found.source, found.warnings)
    if counts_path is None:
        return vectors, None
    with open(counts_path, "rb") as file:
        pairs = [line.decode("utf8", unicode_errors).split() for line in file]
    counts = {word: int(count) for word, count in pairs}
    return vectors, np.array([counts.get(words[row], 0) for row in first.tolist()], np.int64)
