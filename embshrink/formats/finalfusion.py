"""finalfusion's files, ``.fifu``, read and written without finalfusion.

A file is a header that lists its chunks, and the chunks: metadata (optional), a vocabulary, the
matrix, dense or as product quantization codes, and the words' norms (optional). Rows of words come
first, at length 1, and norms are the lengths they had; behind them come the rows of n-grams.
Source: the readers and writers of the Rust crate and of the Python package, which agree, and from
which the published specification departs.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embshrink.errors import TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.cursor import CUT, F4, PIECE, U1, Cursor
from embshrink.formats.io.pq_codes import PQCodes
from embshrink.formats.io.pq_files import check_quantizer, codes_of_embeddings, read_codes, read_floats
from embshrink.formats.io.table_builder import MAX_WORD, check_dim, finish_words, plural, show
from embshrink.storage.arrays import FloatArray, IntArray
from embshrink.vocabulary.ngram_hashing import MAX_NGRAM
from embshrink.vocabulary.words import Vocabulary, Words

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

MAGIC = b"FiFu"
VERSION = 0
U8, F32 = 1, 10
SIMPLE, ND_ARRAY, BUCKETS, QUANTIZED, METADATA, ND_NORMS, FASTTEXT, EXPLICIT, FLORET = range(1, 10)
NAMES = {SIMPLE: "SimpleVocab", ND_ARRAY: "NdArray", BUCKETS: "BucketSubwordVocab", QUANTIZED: "QuantizedArray",
         METADATA: "Metadata", ND_NORMS: "NdNorms", FASTTEXT: "FastTextSubwordVocab",
         EXPLICIT: "ExplicitSubwordVocab", FLORET: "FloretSubwordVocab"}
VOCABULARIES = (SIMPLE, BUCKETS, FASTTEXT, EXPLICIT, FLORET)
STORAGES = (ND_ARRAY, QUANTIZED)
ORDER = "Metadata (optional), a vocabulary, NdArray or QuantizedArray, NdNorms (optional)"
WRITTEN = 1 << 14  # rows of codes, or words, written at a time
SHORTEST = 1e-30  # codes of a vector no longer than this are written as of a zero vector: its norm has no inverse

_NEWER = "It may be of a newer finalfusion: convert it with finalfusion to text."


def is_finalfusion(head: bytes) -> bool:
    """Whether a file that begins with `head` is a finalfusion file."""
    return head.startswith(MAGIC)


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the words and their finished vectors, norms multiplied in; as `embshrink.formats.text.read`.

    What a file from a path holds uncompressed is mapped, and only the words' rows are brought to memory.
    """
    return load_model(stream, options, progress).finished_words(options, stream.path, progress)


@dataclass
class FinalfusionModel:
    """What a file holds; a `embshrink.formats.base.Model`.

    Parameters
    ----------
    words : Words
        n words.
    places : numpy.ndarray, shape (n,), int64
        The byte at which each word stands.
    table : numpy.ndarray, shape (m, d), float32, or PQCodes
        The rows: of words, then of n-grams. Norms of words are multiplied into those of codes.
    norms : numpy.ndarray, shape (n,), float32, or None
        The length of each word's vector, for dense rows.
    ngram_rows : int
        How many rows are of n-grams.
    minn, maxn, bucket : int
        As for `embshrink.vocabulary.ngram_hashing.bucket_ids`, where n-grams are hashed as fastText does; else 0.
    metadata : int
        Bytes of metadata.
    """

    words: Words
    places: IntArray
    table: FloatArray | PQCodes
    norms: FloatArray | None
    ngram_rows: int
    minn: int
    maxn: int
    bucket: int
    metadata: int

    pruned = None  # every bucket has a row

    @property
    def codes(self) -> PQCodes | None:
        """The rows as codes, where they are stored so."""
        return self.table if isinstance(self.table, PQCodes) else None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.table.dim if isinstance(self.table, PQCodes) else self.table.shape[1]

    @property
    def has_ngrams(self) -> bool:
        """Whether there are n-grams that we can make vectors of unseen words from."""
        return self.bucket > 0

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows, shape (k, d), float32; those of words at length 1 where the norms are apart."""
        return self.table.rows(ids) if isinstance(self.table, PQCodes) else np.asarray(self.table[ids])

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, finished vectors and warnings; as `Model.finished_words`."""
        warnings = []
        if self.ngram_rows and not ngrams_kept:
            warnings.append("the file's n-grams, from which finalfusion makes vectors for unseen words, are not "
                            "kept: its own words keep their vectors")
        if self.metadata:
            warnings.append(f"the file's metadata, {plural(self.metadata, 'byte')}, are not kept")
        return finish_words(self.words.raw, self.places, lambda count: self.word_vectors(count, progress), options,
                            path, warnings)

    def word_vectors(self, count: int, progress: Progress | None = None) -> FloatArray:
        """Return the vectors of the first words, shape (count, d), float32."""
        if isinstance(self.table, PQCodes):
            return self.table.matrix(count, progress)
        matrix = np.array(self.table[:count])
        if self.norms is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                matrix *= self.norms[:count, None]
        return matrix


# ---------------------------------------------------------------- reading


def load_model(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> FinalfusionModel:
    """Read a file from a stream.

    Returns
    -------
    FinalfusionModel

    Raises
    ------
    SourceError
        If it is not intact: naming the byte, what was expected and found.
    """
    cursor = Cursor(stream, progress, "finalfusion file")
    kinds = _read_header(cursor)
    metadata = _skip_metadata(cursor) if kinds[0] == METADATA else 0
    kind, storage, *rest = kinds[1:] if kinds[0] == METADATA else kinds
    found = _read_vocabulary(cursor, kind)
    count = len(found.words)
    rows = count + found.ngram_rows
    table = _read_dense(cursor, rows) if storage == ND_ARRAY else _read_quantized(cursor, rows)
    norms = _read_norms(cursor, count) if rest else None
    cursor.check(not cursor.some(1), "bytes follow the last chunk", cursor.offset - 1, "the end of the file",
                 "more bytes")
    if isinstance(table, PQCodes) and norms is not None:
        factors = np.ones(rows, np.float32) if table.norms is None else table.norms
        with np.errstate(over="ignore"):
            factors[:count] *= norms
        table, norms = dataclasses.replace(table, norms=factors), None
    return FinalfusionModel(
        words=Words(found.words), places=found.places, table=table, norms=norms, ngram_rows=found.ngram_rows,
        minn=found.minn, maxn=found.maxn, bucket=found.bucket, metadata=metadata)


def _read_header(cursor: Cursor) -> tuple[int, ...]:
    """Return the kinds of the chunks."""
    magic, version, count = struct.unpack("<4sII", cursor.exactly(12, "its header"))
    cursor.check(magic == MAGIC, "the file does not begin as finalfusion's do", 0, show(MAGIC), show(magic))
    cursor.check(version == VERSION, "the version of the file is not one we know", 4, VERSION, version, _NEWER)
    cursor.check(2 <= count <= 4, "the number of chunks is not possible", 8, "2 to 4", count)
    kinds = cursor.unpack(f"<{count}I", "its list of chunks")
    for place, kind in enumerate(kinds):
        cursor.check(kind in NAMES, "a chunk is of no kind we know", 12 + 4 * place, f"1 to {len(NAMES)}", kind,
                     _NEWER)
    rest = kinds[1:] if kinds[0] == METADATA else kinds
    right = len(rest) >= 2 and rest[0] in VOCABULARIES and rest[1] in STORAGES and rest[2:] in ((), (ND_NORMS,))
    cursor.check(right, "the chunks do not make a table of vectors", 12, ORDER,
                 ", ".join(NAMES[kind] for kind in kinds))
    return kinds


def _begin(cursor: Cursor, kind: int) -> int:
    """Read the head of a chunk; return the byte behind its data."""
    start = cursor.offset
    found, length = cursor.unpack("<IQ", f"the head of the chunk {NAMES[kind]}")
    cursor.check(found == kind, "the chunk is not the one that the header lists", start,
                 f"{kind} ({NAMES[kind]})", f"{found} ({NAMES.get(found, 'unknown')})")
    cursor.require(length, f"the chunk {NAMES[kind]}")
    return cursor.offset + int(length)


def _check_end(cursor: Cursor, kind: int, end: int, coming: int = 0) -> None:
    """Refuse the chunk unless it ends behind the next `coming` bytes."""
    cursor.check(cursor.offset + coming == end, f"the length of the chunk {NAMES[kind]} is not that of what it holds",
                 cursor.offset, f"its end at byte {cursor.offset + coming}", f"byte {end}")


def _check_type(cursor: Cursor, found: int, expected: int, byte: int) -> None:
    cursor.check(found == expected, "the type of the numbers is not one we know", byte, expected, found, _NEWER)


def _check_rows(cursor: Cursor, found: int, rows: int, byte: int) -> None:
    cursor.check(found == rows, "the number of rows is not that of words and n-grams", byte, rows, found)


def _skip_padding(cursor: Cursor) -> None:
    """Skip the zeros before an array: 1 to 4 of them, so that it begins at a multiple of 4."""
    start = cursor.offset
    padding = cursor.exactly(_padding(start), "the padding before its numbers")
    cursor.check(not padding.strip(b"\0"), "the padding before the numbers is not zero", start,
                 plural(len(padding), "zero byte"), padding.hex(" "))


def _padding(offset: int) -> int:
    return 4 - offset % 4


def _skip_metadata(cursor: Cursor) -> int:
    """Return the number of bytes, after checking that they are text."""
    end = _begin(cursor, METADATA)
    start, count = cursor.offset, end - cursor.offset
    _check_text([cursor.array((count,), U1, "its metadata", mapped=False).tobytes()], np.array([start]), cursor,
                "the metadata are")
    return count


def _check_text(items: Sequence[bytes], places: IntArray, cursor: Cursor, what: str) -> None:
    """Refuse items that are not UTF-8."""
    try:
        b"\0".join(items).decode()  # a character cut off at the end of one is not made whole by the next
    except UnicodeDecodeError:
        for item, place in zip(items, places):
            try:
                item.decode()
            except UnicodeDecodeError as error:
                raise cursor.error(f"{what} not UTF-8", int(place) + error.start, expected="UTF-8",
                                   found=show(item)) from error


class _Sizes(NamedTuple):
    """What the head of a vocabulary says: `buckets` is their number, or its exponent."""

    words: int
    ngrams: int = 0
    minn: int = 1
    maxn: int = 1
    buckets: int = 0


class _Vocabulary(NamedTuple):
    """Words, where each stands, and how n-grams are hashed: zeros unless as fastText does."""

    words: list[bytes]
    places: IntArray
    ngram_rows: int
    minn: int = 0
    maxn: int = 0
    bucket: int = 0


def _read_sizes(cursor: Cursor, kind: int, start: int) -> _Sizes:
    """Return the sizes of the vocabulary that begins at the byte `start`, checked."""
    what = "the sizes of its vocabulary"
    if kind == SIMPLE:
        sizes, at = _Sizes(*cursor.unpack("<Q", what)), start
    elif kind == EXPLICIT:
        sizes, at = _Sizes(*cursor.unpack("<QQII", what)), start + 16
    else:
        count, minn, maxn, buckets = cursor.unpack("<QIII", what)
        sizes, at = _Sizes(count, 0, minn, maxn, buckets), start + 8
    cursor.check(sizes.words > 0, "the file holds no words", start, "1 or more", sizes.words)
    cursor.check(1 <= sizes.minn <= sizes.maxn, "the lengths of the n-grams are not possible", at,
                 "1 or more, the shortest first", f"{sizes.minn} to {sizes.maxn}")
    if kind == BUCKETS:
        cursor.check(sizes.buckets < 64, "the exponent of the number of buckets is not possible", start + 16,
                     "0 to 63", sizes.buckets)
    elif kind == FASTTEXT:
        cursor.check(sizes.buckets > 0, "the number of buckets is not possible", start + 16, "1 or more",
                     sizes.buckets)
    return sizes


def _read_vocabulary(cursor: Cursor, kind: int) -> _Vocabulary:
    cursor.check(kind != FLORET, "a vocabulary of floret holds no words, only buckets of n-grams", cursor.offset,
                 "words", "none", "Have finalfusion write the vectors of the words you need as text.")
    end = _begin(cursor, kind)
    start = cursor.offset
    count, ngrams, minn, maxn, buckets = _read_sizes(cursor, kind, start)
    words, places, _ = _read_items(cursor, count, "word")
    rows = 0
    if kind == BUCKETS:
        rows = 1 << buckets
    elif kind == FASTTEXT:
        rows = buckets
    elif kind == EXPLICIT:
        rows = _read_ngrams(cursor, ngrams)
        if end == cursor.offset - 8 * ngrams:  # finalfusion-python forgets to count the indices
            end = cursor.offset
    _check_end(cursor, kind, end)
    # finalfusion counts the marks < and > as n-grams of length 1, which fastText does not.
    if kind == FASTTEXT and minn > 1 and maxn <= MAX_NGRAM and buckets < 2**31:
        return _Vocabulary(words, places, rows, minn, maxn, buckets)
    return _Vocabulary(words, places, rows)


def _read_items(cursor: Cursor, count: int, noun: str, tail: int = 0) -> tuple[list[bytes], IntArray, bytes]:
    """Return strings, where each stands, and the `tail` bytes behind each, joined."""
    cursor.require((4 + tail) * count, f"its list of {plural(count, noun)}")
    first = cursor.offset
    items: list[bytes] = []
    tails: list[bytes] = []
    while len(items) < count:
        chunk = cursor.some(PIECE)
        start = 0
        while len(items) < count and start + 4 <= len(chunk):
            length = int.from_bytes(chunk[start : start + 4], "little")
            stop = start + 4 + length
            if length > MAX_WORD:
                raise cursor.error(f"{noun} {len(items) + 1} is too long", cursor.offset - len(chunk) + start,
                                   expected=f"at most {MAX_WORD} bytes", found=length)
            if stop + tail > len(chunk):
                break
            items.append(chunk[start + 4 : stop])
            tails.append(chunk[stop : stop + tail])
            start = stop + tail
        cursor.back(chunk[start:])
        if len(items) < count and len(chunk) < PIECE:
            raise cursor.error(f"the file ends in {noun} {len(items) + 1}", cursor.offset, CUT,
                               expected=plural(count, noun), found=f"{len(items)} and {len(chunk) - start} bytes")
    sizes = np.fromiter(map(len, items), dtype=np.int64, count=count) + 4 + tail
    places = first + np.cumsum(sizes) - sizes + 4
    _check_text(items, places, cursor, f"a {noun} is")
    return items, places, b"".join(tails)


def _read_ngrams(cursor: Cursor, count: int) -> int:
    """Return how many rows a list of n-grams names; several may name the same."""
    start = cursor.offset
    _, places, tails = _read_items(cursor, count, "n-gram", tail=8)
    named = np.unique(np.frombuffer(tails, "<u8"))
    cursor.check(not count or named[-1] == len(named) - 1, "the rows that n-grams name are not all of a range", start,
                 f"0 to {len(named) - 1}", f"up to {named[-1] if count else 0}")
    return len(named)


def _read_dense(cursor: Cursor, rows: int) -> FloatArray:
    end = _begin(cursor, ND_ARRAY)
    start = cursor.offset
    found, dim, kind = cursor.unpack("<QII", "the sizes of its matrix")
    _check_rows(cursor, found, rows, start)
    check_dim(dim, cursor.path, f"byte {start + 8}")
    _check_type(cursor, kind, F32, start + 12)
    _skip_padding(cursor)
    _check_end(cursor, ND_ARRAY, end, 4 * rows * dim)
    return cursor.array((rows, dim), F4, "its matrix").astype(np.float32, copy=False)


def _read_quantized(cursor: Cursor, rows: int) -> PQCodes:
    end = _begin(cursor, QUANTIZED)
    start = cursor.offset
    projected, normed, subspaces, dim, centroids, found, codes, floats = cursor.unpack("<5IQ2I",
                                                                                       "the sizes of its codes")
    for place, flag, what in ((0, projected, "a projection"), (4, normed, "norms")):
        cursor.check(flag < 2, f"the number that says whether there are {what} is not possible", start + place,
                     "0 or 1", flag)
    check_dim(dim, cursor.path, f"byte {start + 12}")
    check_quantizer(cursor, dim, subspaces, centroids, start + 8)
    _check_rows(cursor, found, rows, start + 20)
    _check_type(cursor, codes, U8, start + 28)
    _check_type(cursor, floats, F32, start + 32)
    _skip_padding(cursor)
    coming = 4 * (projected * dim * dim + centroids * dim + normed * rows) + rows * subspaces
    _check_end(cursor, QUANTIZED, end, coming)
    projection = read_floats(cursor, (dim, dim), "its projection") if projected else None
    codebooks = read_floats(cursor, (subspaces, centroids, dim // subspaces), "its codebooks")
    norms = read_floats(cursor, (rows,), "the norms of its codes") if normed else None
    return PQCodes(read_codes(cursor, rows, subspaces, centroids), codebooks, projection, norms)


def _read_norms(cursor: Cursor, count: int) -> FloatArray:
    end = _begin(cursor, ND_NORMS)
    start = cursor.offset
    found, kind = cursor.unpack("<QI", "the number of its norms")
    cursor.check(found == count, "the number of norms is not that of words", start, count, found)
    _check_type(cursor, kind, F32, start + 8)
    _skip_padding(cursor)
    _check_end(cursor, ND_NORMS, end, 4 * count)
    return read_floats(cursor, (count,), "its norms")


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write words, rows at length 1 and norms; codes of the method pq as they are, where the format can hold them.

    Raises
    ------
    TargetError
        If a word is not UTF-8, or a vector is longer than float32 can say.
    """
    out = _Chunks(file)
    found = codes_of_embeddings(outgoing.embeddings)
    kinds = (SIMPLE, ND_ARRAY if found is None else QUANTIZED, ND_NORMS)
    out.write(MAGIC + struct.pack("<5I", VERSION, len(kinds), *kinds))
    _write_words(out, outgoing.words)
    lengths = _write_dense(out, outgoing) if found is None else _write_quantized(out, outgoing, *found)
    out.begin(ND_NORMS, struct.pack("<QI", len(lengths), F32), 4 * len(lengths), padded=True)
    out.write(lengths.astype("<f4").tobytes())


class _Chunks:
    """A file that knows how far it is written."""

    def __init__(self, file: OutputFile) -> None:
        self._file = file
        self._offset = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)

    def begin(self, kind: int, fields: bytes, coming: int, *, padded: bool) -> None:
        """Write a chunk's head and first fields; `coming` bytes follow."""
        zeros = bytes(_padding(self._offset + 12 + len(fields)) if padded else 0)
        length = len(fields) + len(zeros) + coming
        self.write(struct.pack("<IQ", kind, length) + fields + zeros)


def _write_words(out: _Chunks, words: Vocabulary) -> None:
    for word in words.raw:
        try:
            word.decode()
        except UnicodeDecodeError:
            raise TargetError(f"the word {show(word)} is not UTF-8, which finalfusion's format asks for",
                              hint="Leave the word out, or write word2vec-text.") from None
    raw = words.raw
    out.begin(SIMPLE, struct.pack("<Q", len(raw)), sum(map(len, raw)) + 4 * len(raw), padded=False)
    for start in range(0, len(raw), WRITTEN):
        out.write(b"".join(itertools.chain.from_iterable(
            (struct.pack("<I", len(word)), word) for word in raw[start : start + WRITTEN])))


def _lengths(block: FloatArray, outgoing: Outgoing, start: int) -> FloatArray:
    """Return the length of each row, (k,), float32."""
    with np.errstate(over="ignore"):
        lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64)).astype(np.float32)
    if not np.isfinite(lengths).all():
        word = outgoing.words.raw[start + int(np.flatnonzero(~np.isfinite(lengths))[0])]
        raise TargetError(f"the vector of {show(word)} is longer than a float32 can say, as finalfusion stores it",
                          hint="Leave the word out, or write word2vec-text.")
    return lengths


def _write_dense(out: _Chunks, outgoing: Outgoing) -> FloatArray:
    """Write rows at length 1; return the lengths they had."""
    n, dim = len(outgoing.words), outgoing.dim
    out.begin(ND_ARRAY, struct.pack("<QII", n, dim, F32), 4 * n * dim, padded=True)
    lengths, done = np.empty(n, np.float32), 0
    for block in outgoing.blocks:
        found = _lengths(block, outgoing, done)
        lengths[done : done + len(block)] = found
        done += len(block)
        out.write((block / np.where(found > 0, found, 1)[:, None]).astype("<f4", copy=False).tobytes())
    return lengths


def _write_quantized(out: _Chunks, outgoing: Outgoing, codes: PQCodes, scale: FloatArray) -> FloatArray:
    """Write codes, and what brings each row to length 1; return the lengths that the words' vectors have."""
    lengths = np.empty(len(codes), np.float32)
    done = 0
    for block in outgoing.blocks:
        lengths[done : done + len(block)] = _lengths(block, outgoing, done)
        done += len(block)
    norms = np.divide(scale, lengths, out=np.zeros_like(lengths), where=lengths > SHORTEST)
    subspaces, centroids, _ = codes.codebooks.shape
    projected, n, dim = codes.projection is not None, len(codes), codes.dim
    out.begin(QUANTIZED, struct.pack("<5IQ2I", projected, True, subspaces, dim, centroids, n, U8, F32),
              4 * (projected * dim * dim + centroids * dim + n) + n * subspaces, padded=True)
    for array in (codes.projection, codes.codebooks, norms):
        if array is not None:
            out.write(array.astype("<f4", copy=False).tobytes())
    for start in range(0, n, WRITTEN):
        out.write(codes.codes[start : start + WRITTEN].tobytes())
    return lengths
