"""What must hold for any bytes: one function for each kind of file that embshrink reads.

A target takes bytes and returns nothing. Any exception that leaves it is a finding. Refusals (`EmbshrinkError`) are
caught inside. The first byte of an input of the targets ``text``, ``word2vec``, ``fasttext`` and ``evaluation``
chooses the options; the rest is the file.
"""

import atexit
import contextlib
import functools
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embshrink import Embeddings, EmbshrinkError, FormatError, WordVectors, as_embeddings, load
from embshrink.compression.counts import read_counts, weights_of
from embshrink.compression.source import open_table
from embshrink.embeddings.index import make_index
from embshrink.evaluation.analogies import analogies
from embshrink.evaluation.benchmarks import read_analogies, read_pairs
from embshrink.evaluation.similarity import word_similarity
from embshrink.formats import ReadOptions, fasttext, read_vectors, text, word2vec
from embshrink.formats.base import Outgoing
from embshrink.formats.io.stream import open_source
from embshrink.formats.io.unpack import packing

LOOKUPS = 20  # words of an .ems file that are looked up one by one
MOST_WORDS = 100_000  # up to which all words of an .ems file are listed and searched
PIPE_BYTES = 61  # that a pipe gives at a time


class Pipe:
    """A source without a size, which gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readinto(self, view: memoryview) -> int:
        return self._file.readinto(memoryview(view)[:PIPE_BYTES])


@functools.cache
def _folder() -> str:
    shared = "/dev/shm"  # in memory, where there is one
    folder = tempfile.mkdtemp(prefix="embshrink-fuzz-", dir=shared if os.path.isdir(shared) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _file(data: bytes, name: str) -> str:
    path = os.path.join(_folder(), name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def _chosen(data: bytes, choices: list) -> tuple:
    """Return the choice that the first byte names, and the bytes after it."""
    return choices[data[0] % len(choices) if data else 0], data[1:]


# ---------------------------------------------------------------- sources


def _read(source, options: ReadOptions) -> WordVectors | None:
    """Read a source and check the result; None if it is refused."""
    try:
        found = read_vectors(source, options)
    except EmbshrinkError as error:
        assert str(error).strip(), "a refusal without a message"
        return None
    words, matrix = found.words.raw, np.asarray(found.matrix)
    assert matrix.dtype == np.float32 and matrix.ndim == 2 and matrix.shape[0] == len(words) and matrix.shape[1] > 0
    assert np.isfinite(matrix).all(), "a vector is not finite"
    assert len(set(words)) == len(words), "a word is repeated"
    assert all(found.words.find(word) == place for place, word in enumerate(words[:LOOKUPS]))
    return found


def _same(first: WordVectors | None, second: WordVectors | None) -> None:
    assert (first is None) == (second is None), "read once, refused once"
    if first is not None and second is not None:
        assert first.words.raw == second.words.raw, "two readings give different words"
        assert np.asarray(first.matrix).tobytes() == np.asarray(second.matrix).tobytes(), "two readings differ"


def _read_twice(data: bytes, options: ReadOptions) -> WordVectors | None:
    """Read a file at once, then through a pipe that gives a few bytes at a time; the results must be equal."""
    found = _read(io.BytesIO(data), options)
    _same(found, _read(io.BytesIO(data) if packing(data) == "zip" else Pipe(data), options))  # zip has to seek
    if found is not None:
        assert found.source["size"] == len(data)
    return found


def _choices(format: str) -> list[ReadOptions]:
    common = [{}, {"nonfinite": "drop"}, {"nonfinite": "zero"}, {"duplicates": "error"}, {"allow_truncated": True},
              {"limit": 2}, {"expect_rows": 3}, {"allow_truncated": True, "nonfinite": "drop", "limit": 3}]
    own = {"text": [{"header": "yes"}, {"header": "no"}, {"skip_bad_rows": 2}, {"strict": True},
                    {"skip_bad_rows": 9, "nonfinite": "zero", "allow_truncated": True}],
           "word2vec": [{"row_newline": "yes"}, {"row_newline": "no"}]}
    return [ReadOptions(format=format, **options) for options in common + own.get(format, [])]


TEXT_OPTIONS, WORD2VEC_OPTIONS, FASTTEXT_OPTIONS = map(_choices, ("text", "word2vec", "fasttext"))


def check_text(data: bytes) -> None:
    """Rows of text: read twice; what was read is written and read back, word for word and bit for bit."""
    options, data = _chosen(data, TEXT_OPTIONS)
    found = _read_twice(data, options)
    if found is None:
        return
    for write, header in ((text.write, "no"), (text.write_with_header, "yes")):
        out = io.BytesIO()
        try:
            write(out, Outgoing(found.words, iter([np.asarray(found.matrix)]), found.matrix.shape[1]))
        except EmbshrinkError:
            continue  # a word that text cannot hold
        _same(found, _read(io.BytesIO(out.getvalue()), ReadOptions(format="text", header=header)))


def check_word2vec(data: bytes) -> None:
    """word2vec's binary format: read twice, written, read back."""
    options, data = _chosen(data, WORD2VEC_OPTIONS)
    found = _read_twice(data, options)
    if found is not None:
        out = io.BytesIO()
        with contextlib.suppress(EmbshrinkError):  # a word that the format cannot hold
            word2vec.write(out, Outgoing(found.words, iter([np.asarray(found.matrix)]), found.matrix.shape[1]))
            _same(found, _read(io.BytesIO(out.getvalue()), ReadOptions(format="word2vec", row_newline="yes")))


def check_fasttext(data: bytes) -> None:
    """fastText models: the words twice, the n-grams, and the vectors of words in and out of the vocabulary."""
    options, data = _chosen(data, FASTTEXT_OPTIONS)
    found = _read_twice(data, options)
    with contextlib.suppress(EmbshrinkError):
        table = open_table(io.BytesIO(data), options)
        assert found is not None, "refused as words, read as a model"
        assert table.words.raw == found.words.raw
        if table.ngrams is not None:
            assert np.isfinite(np.asarray(table.ngrams.matrix)).all(), "an n-gram's row is not finite"
    if found is None:
        return
    with open_source(io.BytesIO(data), options) as stream:
        model = fasttext.load_model(stream, options)
    for word in found.words.raw[:LOOKUPS]:
        row = np.asarray(found.matrix)[found.words.find(word)]
        vector = model.vector(word)
        assert np.array_equal(vector, row) or options.nonfinite != "error", "a word's vector differs from its row"
    with contextlib.suppress(KeyError):
        assert model.vector("unheard-of").shape == (model.dim,)


def check_containers(data: bytes) -> None:
    """Any file at all: its kind is detected, it is unpacked, and it is read, as words and as a table to compress."""
    found = _read_twice(data, ReadOptions(max_expanded=1 << 24))
    with contextlib.suppress(EmbshrinkError):
        table = open_table(io.BytesIO(data), ReadOptions(max_expanded=1 << 24))
        if len(table.words):
            assert found is not None, "refused as words, read as a table"
            assert table.words.raw == found.words.raw
        if table.ngrams is not None:
            assert np.isfinite(np.asarray(table.ngrams.matrix)).all(), "an n-gram's row is not finite"


# ---------------------------------------------------------------- .ems files


def check_ems(data: bytes) -> None:
    """A file that passes every check answers every question, twice the same, with and without an index.

    A file whose checksums are trusted (``verify="header"``) may answer nonsense, but raises only `FormatError`.
    """
    path = _file(data, "a.ems")
    try:
        emb = load(path, verify="full", mmap=False)
    except FormatError as error:
        assert path in str(error), "a refusal that does not name the file"
    else:
        with emb, load(path) as again:
            assert _answers(emb) == _answers(again), "two readings differ"
            if 0 < len(emb) <= MOST_WORDS:
                first = emb.most_similar(_query(emb), topn=3)
                emb.index = make_index(emb)
                assert emb.most_similar(_query(emb), topn=3) == first, "the index finds other words"
    with warnings.catch_warnings(), contextlib.suppress(FormatError):
        warnings.simplefilter("ignore", RuntimeWarning)  # trusted data may overflow
        with load(path, verify="header", mmap=False) as emb:
            _use(emb)


def _query(emb: Embeddings) -> list[np.ndarray]:
    return [np.linspace(-1, 1, emb.vector_size).astype(np.float32)]


def _some(emb: Embeddings) -> list[int]:
    """Return the ids of the first words, the last ones, and some between."""
    n = len(emb)
    return sorted({*range(min(n, 5)), *range(max(0, n - 5), n), *range(0, n, max(1, n // 10))})[:LOOKUPS]


def _answers(emb: Embeddings) -> list[object]:
    """Return what a checked file says of some words; every answer must be as documented."""
    ids = _some(emb)
    words = [emb.words.raw_at(place) for place in ids]
    vectors = emb.decode_ids(np.array(ids, np.int64))
    assert vectors.shape == (len(ids), emb.vector_size) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all(), "a vector is not finite"
    for place, word, vector in zip(ids, words, vectors):
        assert emb.words.find(word) == place, "a word does not map back to itself"
        assert word in emb and np.array_equal(emb[word], vector), "a word's vector is not that of its id"
        assert emb.alias_of(word) is None or emb.alias_of(word) in emb
    assert len(list(emb.words)) == len(emb) if len(emb) <= MOST_WORDS else True
    unseen = emb.get("unheard-of")
    assert unseen is None or (unseen.shape == (emb.vector_size,) and np.isfinite(unseen).all())
    similar: list[object] = []
    if words and len(emb) <= MOST_WORDS:
        similar += [emb.most_similar(_query(emb), topn=3), emb.most_similar(words[0], topn=3)]
        found, cosines = emb.nearest([words[0], words[-1], *_query(emb)], topn=4)
        assert found.max() < len(emb) and not (np.abs(cosines) > 1 + 1e-6).any(), "a cosine above 1"
        assert abs(emb.similarity(words[0], words[-1])) <= 1 + 1e-6, "a similarity above 1"
        similar += [found.tobytes(), cosines.tobytes()]
    return [words, vectors.tobytes(), None if unseen is None else unseen.tobytes(), similar, emb.n_rows]


def _use(emb: Embeddings) -> None:
    """Ask a file whose data were not checked."""
    for place in _some(emb):
        with contextlib.suppress(FormatError):
            emb.decode_ids([place])
        with contextlib.suppress(FormatError):
            word = emb.words.raw_at(place)
            emb.get(word)
            with contextlib.suppress(KeyError):
                emb.alias_of(word)
    emb.get("unheard-of")
    emb.info()
    if 0 < len(emb) <= MOST_WORDS:
        emb.words.prefix("a")
        emb.most_similar(_query(emb), topn=3)
        emb.index = make_index(emb)
        emb.most_similar(_query(emb), topn=3)


# ---------------------------------------------------------------- benchmarks and counts


@functools.cache
def _table() -> Embeddings:
    """Return a small table to score benchmarks on."""
    words = ["tiger", "cat", "book", "paper", "athens", "greece", "oslo", "norway", "the", "Cat"]
    return as_embeddings(WordVectors(words, np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)))


def _check_pairs(path: str, delimiter: str | None) -> None:
    pairs = read_pairs(path, delimiter)
    assert len(pairs) > 0 and pairs.invalid >= 0
    assert all(first and second and np.isfinite(score) for first, second, score in pairs.pairs)
    assert read_pairs(path, delimiter) == pairs, "two readings differ"
    word_similarity(_table(), pairs)


def _check_analogies(path: str) -> None:
    questions = read_analogies(path)
    assert len(questions) > 0 and questions.invalid >= 0
    assert all(len(question) == 4 and all(question) for _, section in questions.sections for question in section)
    analogies(_table(), questions)


def _check_counts(path: str) -> None:
    counts, source = read_counts(path)
    assert counts and all(isinstance(word, bytes) and count >= 0 for word, count in counts.items())
    assert read_counts(path) == (counts, source), "two readings differ"
    weights, missing = weights_of(_table().words, counts)
    assert np.isfinite(weights).all() and (weights >= 1).all() and 0 <= missing <= len(weights)


def check_evaluation(data: bytes) -> None:
    """Word pairs, analogies and word counts: read twice, and scored on a small table."""
    kinds: list[Callable[[str], None]] = [
        lambda path: _check_pairs(path, None), _check_analogies, _check_counts, lambda path: _check_pairs(path, ",")]
    check, data = _chosen(data, kinds)
    with contextlib.suppress(EmbshrinkError):
        check(_file(data, "benchmark.txt"))


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Target:
    """One target: its function, and the most bytes of an input."""

    check: Callable[[bytes], None]
    max_bytes: int = 4096


TARGETS = {
    "text": Target(check_text),
    "word2vec": Target(check_word2vec),
    "fasttext": Target(check_fasttext, 30_000),
    "ems": Target(check_ems, 30_000),
    "evaluation": Target(check_evaluation),
    "containers": Target(check_containers, 16_000),
}
