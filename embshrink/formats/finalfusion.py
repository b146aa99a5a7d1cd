"""finalfusion's files, ``.fifu``: reads and writes them without finalfusion.

A file is a header that lists the chunks, and the chunks: metadata (optional), a vocabulary, the matrix (dense, or
as product quantization codes), and the norms of the words (optional). The rows of words come first, scaled to norm 1;
then come the rows of n-grams. Source: the readers and writers of the Rust crate and of the Python package, which
agree; the published specification differs from them.
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
from embshrink.formats.io.table_builder import (
    MAX_WORD,
    WRITE_TEXT,
    check_dim,
    finish_words,
    note_ngrams,
    plural,
    show,
)
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
SHORTEST = 1e-30  # codes of a vector with a norm up to this get the norm 0: the inverse is too large

_NEWER = "If a newer finalfusion wrote it, convert it to text with finalfusion."


def is_finalfusion(head: bytes) -> bool:
    """Whether a file that begins with `head` is a finalfusion file."""
    return head.startswith(MAGIC)


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the words and their vectors, multiplied by their norms; as `embshrink.formats.text.read`.

    An uncompressed file that is given by its path is memory-mapped; only the rows of words are read into memory.
    """
    return load_model(stream, options, progress).finished_words(options, stream.path, progress)


@dataclass
class FinalfusionModel:
    """The content of a file; an `embshrink.formats.base.Model`.

    Parameters
    ----------
    words : Words
        n words.
    places : numpy.ndarray, shape (n,), int64
        Byte offset of each word.
    table : numpy.ndarray, shape (m, d), float32, or PQCodes
        The rows of words, then the rows of n-grams. For codes, the norms of words are part of ``table.norms``.
    norms : numpy.ndarray, shape (n,), float32, or None
        Norm of each word's vector, for dense rows; None if there are no norms.
    ngram_rows : int
        Number of n-gram rows.
    minn, maxn, bucket : int
        As for `embshrink.vocabulary.ngram_hashing.bucket_ids`, if n-grams are hashed as in fastText; else 0.
    metadata : int
        Number of bytes of metadata.
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
        """The rows as codes, if they are stored as codes; else None."""
        return self.table if isinstance(self.table, PQCodes) else None

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.table.dim if isinstance(self.table, PQCodes) else self.table.shape[1]

    @property
    def has_ngrams(self) -> bool:
        """Whether there are n-grams in fastText's hashing, from which OOV words get vectors."""
        return self.bucket > 0

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows by number, shape (k, d), float32; dense rows of words have norm 1 if `norms` are given."""
        return self.table.rows(ids) if isinstance(self.table, PQCodes) else np.asarray(self.table[ids])

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, finished vectors and warnings; as `Model.finished_words`."""
        warnings = []
        if self.ngram_rows and not ngrams_kept:
            warnings.append(note_ngrams(self.ngram_rows))
        if self.metadata:
            warnings.append(f"dropped {plural(self.metadata, 'byte')} of metadata; vectors do not depend on them")
        return finish_words(self.words, self.places, lambda count: self.word_vectors(count, progress), options,
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
        If it is damaged or not supported; the message states the byte, what was expected and what was found.
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
    magic, version, count = struct.unpack("<4sII", cursor.exactly(12, "the header"))
    cursor.check(magic == MAGIC, "this is not a finalfusion file", 0, show(MAGIC), show(magic))
    cursor.check(version == VERSION, "the version of the file is not supported", 4, VERSION, version, _NEWER)
    cursor.check(2 <= count <= 4, "the number of chunks is out of range", 8, "2 to 4", count)
    kinds = cursor.unpack(f"<{count}I", "the list of chunks")
    for place, kind in enumerate(kinds):
        cursor.check(kind in NAMES, "the kind of a chunk is not supported", 12 + 4 * place, f"1 to {len(NAMES)}",
                     kind, _NEWER)
    rest = kinds[1:] if kinds[0] == METADATA else kinds
    right = len(rest) >= 2 and rest[0] in VOCABULARIES and rest[1] in STORAGES and rest[2:] in ((), (ND_NORMS,))
    cursor.check(right, "the chunks do not form a table of vectors", 12, ORDER,
                 ", ".join(NAMES[kind] for kind in kinds))
    return kinds


def _begin(cursor: Cursor, kind: int) -> int:
    """Read the head of a chunk; return the offset after its data."""
    start = cursor.offset
    found, length = cursor.unpack("<IQ", f"the head of the chunk {NAMES[kind]}")
    cursor.check(found == kind, "the kind of the chunk is not the one that the header lists", start,
                 f"{kind} ({NAMES[kind]})", f"{found} ({NAMES.get(found, 'unknown')})")
    cursor.require(length, f"the chunk {NAMES[kind]}")
    return cursor.offset + int(length)


def _check_end(cursor: Cursor, kind: int, end: int, coming: int = 0) -> None:
    """Refuse the chunk unless it ends after the next `coming` bytes."""
    cursor.check(cursor.offset + coming == end, f"the length of the chunk {NAMES[kind]} does not match its content",
                 cursor.offset, f"an end at byte {cursor.offset + coming}", f"byte {end}")


def _check_type(cursor: Cursor, found: int, expected: int, byte: int) -> None:
    cursor.check(found == expected, "the type of the numbers is not supported", byte, expected, found, _NEWER)


def _check_rows(cursor: Cursor, found: int, rows: int, byte: int) -> None:
    cursor.check(found == rows, "the number of rows does not match the words and n-grams", byte, rows, found)


def _skip_padding(cursor: Cursor) -> None:
    """Skip 1 to 4 zero bytes before an array, which begins at a multiple of 4."""
    start = cursor.offset
    padding = cursor.exactly(_padding(start), "the padding before the numbers")
    cursor.check(not padding.strip(b"\0"), "the padding before the numbers is not zero", start,
                 plural(len(padding), "zero byte"), padding.hex(" "))


def _padding(offset: int) -> int:
    return 4 - offset % 4


def _skip_metadata(cursor: Cursor) -> int:
    """Return the number of bytes of metadata, after checking that they are UTF-8."""
    end = _begin(cursor, METADATA)
    start, count = cursor.offset, end - cursor.offset
    _check_text([cursor.array((count,), U1, "the metadata", mapped=False).tobytes()], np.array([start]), cursor,
                "the metadata")
    return count


def _check_text(items: Sequence[bytes], places: IntArray, cursor: Cursor, what: str) -> None:
    """Refuse items that are not UTF-8."""
    try:
        b"\0".join(items).decode()  # the NUL bytes keep the parts of a character in two items apart
    except UnicodeDecodeError:
        for item, place in zip(items, places):
            try:
                item.decode()
            except UnicodeDecodeError as error:
                raise cursor.error(f"{what} is not UTF-8", int(place) + error.start, expected="UTF-8",
                                   found=show(item)) from error


class _Sizes(NamedTuple):
    """The sizes at the head of a vocabulary; `buckets` is the number of buckets, or its exponent."""

    words: int
    ngrams: int = 0
    minn: int = 1
    maxn: int = 1
    buckets: int = 0


class _Vocabulary(NamedTuple):
    """Words, their offsets, and how n-grams are hashed; zeros if they are not hashed as in fastText."""

    words: list[bytes]
    places: IntArray
    ngram_rows: int
    minn: int = 0
    maxn: int = 0
    bucket: int = 0


def _read_sizes(cursor: Cursor, kind: int, start: int) -> _Sizes:
    """Read and check the sizes of the vocabulary that begins at the byte `start`."""
    what = "the sizes of the vocabulary"
    if kind == SIMPLE:
        sizes, at = _Sizes(*cursor.unpack("<Q", what)), start
    elif kind == EXPLICIT:
        sizes, at = _Sizes(*cursor.unpack("<QQII", what)), start + 16
    else:
        count, minn, maxn, buckets = cursor.unpack("<QIII", what)
        sizes, at = _Sizes(count, 0, minn, maxn, buckets), start + 8
    cursor.check(sizes.words > 0, "the model has no words", start, "1 or more", sizes.words)
    cursor.check(1 <= sizes.minn <= sizes.maxn, "the lengths of the n-grams are out of range", at,
                 "1 or more, the shortest first", f"{sizes.minn} to {sizes.maxn}")
    if kind == BUCKETS:
        cursor.check(sizes.buckets < 64, "the exponent of the number of buckets is out of range", start + 16,
                     "0 to 63", sizes.buckets)
    elif kind == FASTTEXT:
        cursor.check(sizes.buckets > 0, "the number of buckets is out of range", start + 16, "1 or more",
                     sizes.buckets)
    return sizes


def _read_vocabulary(cursor: Cursor, kind: int) -> _Vocabulary:
    cursor.check(kind != FLORET, "a floret vocabulary has no words, only n-grams", cursor.offset, "words", "n-grams",
                 "Use finalfusion to write the vectors of the words you need as text.")
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
        if end == cursor.offset - 8 * ngrams:  # finalfusion-python does not count the indices
            end = cursor.offset
    _check_end(cursor, kind, end)
    # With n-grams of length 1, finalfusion uses the marks < and > as n-grams, fastText does not.
    if kind == FASTTEXT and minn > 1 and maxn <= MAX_NGRAM and buckets < 2**31:
        return _Vocabulary(words, places, rows, minn, maxn, buckets)
    return _Vocabulary(words, places, rows)


def _read_items(cursor: Cursor, count: int, noun: str, tail: int = 0) -> tuple[list[bytes], IntArray, bytes]:
    """Return strings, the byte offset of each, and the `tail` bytes after each, joined."""
    cursor.require((4 + tail) * count, f"the list of {plural(count, noun)}")
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
                               expected=plural(count, noun),
                               found=f"{plural(len(items), noun)} and {plural(len(chunk) - start, 'byte')}")
    sizes = np.fromiter(map(len, items), dtype=np.int64, count=count) + 4 + tail
    places = first + np.cumsum(sizes) - sizes + 4
    _check_text(items, places, cursor, f"{'an' if noun == 'n-gram' else 'a'} {noun}")
    return items, places, b"".join(tails)


def _read_ngrams(cursor: Cursor, count: int) -> int:
    """Return the number of rows that a list of n-grams refers to; several n-grams may share a row."""
    start = cursor.offset
    _, places, tails = _read_items(cursor, count, "n-gram", tail=8)
    named = np.unique(np.frombuffer(tails, "<u8"))
    cursor.check(not count or named[-1] == len(named) - 1, "the row numbers of n-grams have gaps", start,
                 f"0 to {len(named) - 1}", f"up to {named[-1] if count else 0}")
    return len(named)


def _read_dense(cursor: Cursor, rows: int) -> FloatArray:
    end = _begin(cursor, ND_ARRAY)
    start = cursor.offset
    found, dim, kind = cursor.unpack("<QII", "the sizes of the matrix")
    _check_rows(cursor, found, rows, start)
    check_dim(dim, cursor.path, f"byte {start + 8}")
    _check_type(cursor, kind, F32, start + 12)
    _skip_padding(cursor)
    _check_end(cursor, ND_ARRAY, end, 4 * rows * dim)
    return cursor.array((rows, dim), F4, "the matrix").astype(np.float32, copy=False)


def _read_quantized(cursor: Cursor, rows: int) -> PQCodes:
    end = _begin(cursor, QUANTIZED)
    start = cursor.offset
    projected, normed, subspaces, dim, centroids, found, codes, floats = cursor.unpack("<5IQ2I",
                                                                                       "the sizes of the codes")
    for place, flag, what in ((0, projected, "a projection"), (4, normed, "norms")):
        cursor.check(flag < 2, f"the flag for {what} is out of range", start + place, "0 or 1", flag)
    check_dim(dim, cursor.path, f"byte {start + 12}")
    check_quantizer(cursor, dim, subspaces, centroids, start + 8)
    _check_rows(cursor, found, rows, start + 20)
    _check_type(cursor, codes, U8, start + 28)
    _check_type(cursor, floats, F32, start + 32)
    _skip_padding(cursor)
    coming = 4 * (projected * dim * dim + centroids * dim + normed * rows) + rows * subspaces
    _check_end(cursor, QUANTIZED, end, coming)
    projection = read_floats(cursor, (dim, dim), "the projection") if projected else None
    codebooks = read_floats(cursor, (subspaces, centroids, dim // subspaces), "the codebooks")
    norms = read_floats(cursor, (rows,), "the norms of the codes") if normed else None
    return PQCodes(read_codes(cursor, rows, subspaces, centroids), codebooks, projection, norms)


def _read_norms(cursor: Cursor, count: int) -> FloatArray:
    end = _begin(cursor, ND_NORMS)
    start = cursor.offset
    found, kind = cursor.unpack("<QI", "the number of norms")
    cursor.check(found == count, "the number of norms does not match the number of words", start, count, found)
    _check_type(cursor, kind, F32, start + 8)
    _skip_padding(cursor)
    _check_end(cursor, ND_NORMS, end, 4 * count)
    return read_floats(cursor, (count,), "the norms")


# ---------------------------------------------------------------- writing


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write words, rows of norm 1 and norms; rows that pq stores as bytes are written as codes.

    Raises
    ------
    TargetError
        If a word is not UTF-8, or the norm of a vector is too large for float32.
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
    """An output file that counts the bytes written."""

    def __init__(self, file: OutputFile) -> None:
        self._file = file
        self._offset = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)

    def begin(self, kind: int, fields: bytes, coming: int, *, padded: bool) -> None:
        """Write the head and the first fields of a chunk; the caller writes `coming` bytes after them."""
        zeros = bytes(_padding(self._offset + 12 + len(fields)) if padded else 0)
        length = len(fields) + len(zeros) + coming
        self.write(struct.pack("<IQ", kind, length) + fields + zeros)


def _write_words(out: _Chunks, words: Vocabulary) -> None:
    for word in words.raw:
        try:
            word.decode()
        except UnicodeDecodeError:
            raise TargetError(f"the word {show(word)} is not UTF-8, which a finalfusion file cannot store",
                              hint=WRITE_TEXT) from None
    raw = words.raw
    out.begin(SIMPLE, struct.pack("<Q", len(raw)), sum(map(len, raw)) + 4 * len(raw), padded=False)
    for start in range(0, len(raw), WRITTEN):
        out.write(b"".join(itertools.chain.from_iterable(
            (struct.pack("<I", len(word)), word) for word in raw[start : start + WRITTEN])))


def _lengths(block: FloatArray, outgoing: Outgoing, start: int) -> FloatArray:
    """Return the norm of each row, (k,), float32."""
    with np.errstate(over="ignore"):
        lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64)).astype(np.float32)
    if not np.isfinite(lengths).all():
        word = outgoing.words.raw[start + int(np.flatnonzero(~np.isfinite(lengths))[0])]
        raise TargetError(f"the norm of the vector of {show(word)} is too large for float32, the type of norms in a "
                          "finalfusion file", hint=WRITE_TEXT)
    return lengths


def _write_dense(out: _Chunks, outgoing: Outgoing) -> FloatArray:
    """Write rows scaled to norm 1; return their norms."""
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
    """Write codes, with norms that scale each row to norm 1; return the norms of the words' vectors."""
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
