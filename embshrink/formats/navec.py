"""navec's models, ``.tar``, read without navec: product quantization codes of Russian words.

A model is a tar archive of three files: ``meta.json``, which says the protocol; ``vocab.bin``,
gzip of the words, their counts before them; ``pq.bin``, four sizes, the codes and the codebooks.
``<unk>`` and ``<pad>`` are words like others. Source: navec's ``Navec.dump`` and ``Navec.load``.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.formats.base import ReadOptions, ReadTable
from embshrink.formats.io.cursor import CUT, PIECE, U1, Cursor
from embshrink.formats.io.pq_codes import PQCodes
from embshrink.formats.io.pq_files import check_quantizer, read_codes, read_floats
from embshrink.formats.io.stream import Stream
from embshrink.formats.io.table_builder import MAX_WORD, check_dim, finish_words, plural, show
from embshrink.storage.arrays import FloatArray, IntArray
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.numerics.progress import Progress

BLOCK = tarfile.BLOCKSIZE
META, VOCABULARY, QUANTIZER = "meta.json", "vocab.bin", "pq.bin"
MEMBERS = (META, VOCABULARY, QUANTIZER)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
PROTOCOL = 1
MAX_META = 1 << 20

_DIRECTLY = "Read it from the archive as navec published it."


def is_navec(head: bytes) -> bool:
    """Whether a file's first bytes are of a tar archive that begins with navec's metadata and vocabulary."""
    start = 0
    names: list[str] = []
    while len(names) < 2:
        try:
            info = tarfile.TarInfo.frombuf(head[start : start + BLOCK], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        names.append(info.name)
        start += BLOCK + _whole_blocks(max(0, info.size))
    return names == [META, VOCABULARY]


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read words and vectors; as `embshrink.formats.text.read`."""
    return load_model(stream, options, progress).finished_words(options, stream.path, progress)


@dataclass
class NavecModel:
    """What a model holds; a `embshrink.formats.base.Model` without n-grams.

    Parameters
    ----------
    words : Words
        n words.
    places : numpy.ndarray, shape (n,), int64
        The byte of the unpacked vocabulary at which each stands.
    codes : PQCodes
    """

    words: Words
    places: IntArray
    codes: PQCodes

    has_ngrams = False
    minn = maxn = bucket = 0
    pruned = None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.codes.dim

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows, shape (k, d), float32."""
        return self.codes.rows(ids)

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, vectors and warnings; as `Model.finished_words`."""
        return finish_words(self.words.raw, self.places, lambda count: self.codes.matrix(count, progress), options,
                            path, [])


def load_model(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> NavecModel:
    """Read a model from a stream.

    Returns
    -------
    NavecModel

    Raises
    ------
    SourceError
        If it is not intact: naming the byte, what was expected and found.
    """
    cursor = Cursor(stream, progress, "navec model")
    found: set[str] = set()
    while True:
        start = cursor.offset
        info = _read_member(cursor)
        if info is None:
            break
        cursor.check(info.name not in found, f"the archive holds {show(info.name.encode('utf-8', 'replace'))} twice",
                     start, "each file once", "another")
        cursor.check(info.type in PLAIN, "the archive holds what is neither a plain file nor a folder", start,
                     "plain files", f"type {info.type!r}", _DIRECTLY)
        data = cursor.offset
        if info.name == META:
            _check_meta(cursor, info.size)
        elif info.name == VOCABULARY:
            words, places = _read_vocabulary(cursor, info.size, options)
        elif info.name == QUANTIZER:
            codes, byte = _read_quantizer(cursor, info.size)
        else:
            cursor.skip(info.size, f"the file {show(info.name.encode('utf-8', 'replace'))}")
        if info.name in MEMBERS:
            found.add(info.name)
        cursor.skip(_whole_blocks(info.size) - (cursor.offset - data), "the padding of the archive")
    missing = [name for name in MEMBERS if name not in found]
    cursor.check(not missing, "the archive lacks a part of a model", start, ", ".join(MEMBERS),
                 f"no {' and no '.join(missing)}")
    cursor.check(len(words) == len(codes), "the number of vectors is not that of words", byte, len(words), len(codes))
    return NavecModel(Words(words), places, codes)


def _whole_blocks(size: int) -> int:
    """Return the bytes that a file takes in an archive, padding included."""
    return -(-size // BLOCK) * BLOCK


def _read_member(cursor: Cursor) -> tarfile.TarInfo | None:
    """Return the head of the archive's next file, or None at its end, with nothing but zeros behind."""
    start = cursor.offset
    block = cursor.exactly(BLOCK, "the archive, without a block of zeros at its end")
    if not block.strip(b"\0"):
        while block:
            cursor.check(not block.strip(b"\0"), "bytes follow the end of the archive", cursor.offset - len(block),
                         "zeros", "others")
            block = cursor.some(PIECE)
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise cursor.error(f"the head of a file in the archive is damaged: {error}", start) from error
    cursor.check(info.size >= 0, "the size of a file in the archive is not possible", start + 124, "0 or more",
                 info.size)
    return info


def _check_meta(cursor: Cursor, size: int) -> None:
    """Check the protocol."""
    start = cursor.offset
    cursor.check(size <= MAX_META, f"{META} is too large", start, f"at most {MAX_META} bytes", size)
    data = cursor.array((size,), U1, META, mapped=False).tobytes()
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise cursor.error(f"{META} is not JSON: {error}", start, found=show(data)) from error
    protocol = meta.get("protocol") if isinstance(meta, dict) else None
    cursor.check(type(protocol) is int and protocol == PROTOCOL, "the protocol of the model is not one we know",
                 start, PROTOCOL, protocol, "It may be of a newer navec: write its vectors as text.")

def _read_vocabulary(cursor: Cursor, size: int, options: ReadOptions) -> tuple[list[bytes], IntArray]:
    """Return words, and the byte of the unpacked vocabulary at which each stands."""
    packed = cursor.array((size,), U1, VOCABULARY, mapped=False).tobytes()
    inner = dataclasses.replace(options, member=None)
    with Stream(io.BytesIO(packed), f"{cursor.path}: {VOCABULARY}", inner, owned=False) as stream:
        unpacked = Cursor(stream, None, "vocabulary of navec")
        unpacked.check(stream.packed == "gzip", "the vocabulary is not packed as navec does", 0, "gzip",
                       stream.packed or "other data")
        (count,) = unpacked.unpack("<I", "the number of its words")
        unpacked.check(count > 0, "the model holds no words", 0, "1 or more", count)
        unpacked.skip(4 * count, "the counts of its words")  # how often each was seen, which vectors do not need
        first = unpacked.offset
        pieces: list[bytes] = []
        while not pieces or pieces[-1]:
            pieces.append(unpacked.some(PIECE))
        unpacked.check(not stream.warnings, "bytes follow the packed vocabulary", unpacked.offset, "the end of it",
                       "more bytes")
        data = b"".join(pieces)
        return _split_words(unpacked, data, first, count)


def _split_words(unpacked: Cursor, data: bytes, first: int, count: int) -> tuple[list[bytes], IntArray]:
    """Return the words that `data` holds, one a line, and where each stands; `data` begins at the byte `first`."""
    words = data.split(b"\n")
    unpacked.check(len(words) == count, "the number of words is not the one given", 0, count, len(words), CUT)
    sizes = np.fromiter(map(len, words), dtype=np.int64, count=count)
    places = first + np.cumsum(sizes + 1) - (sizes + 1)
    longest = int(sizes.argmax())
    unpacked.check(sizes[longest] <= MAX_WORD, f"word {longest + 1} is too long", int(places[longest]),
                   f"at most {MAX_WORD} bytes", int(sizes[longest]))
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise unpacked.error("a word is not UTF-8", first + error.start, expected="UTF-8",
                             found=show(data[max(0, error.start - 8) : error.start + 8])) from error
    return words, places


def _read_quantizer(cursor: Cursor, size: int) -> tuple[PQCodes, int]:
    """Return the codes, and the byte at which their sizes stand."""
    start = cursor.offset
    rows, dim, subspaces, centroids = cursor.unpack("<4I", f"the sizes at the head of {QUANTIZER}")
    cursor.check(rows > 0, "the model holds no vectors", start, "1 or more", rows)
    check_dim(dim, cursor.path, f"byte {start + 4}")
    check_quantizer(cursor, dim, subspaces, centroids, start + 8)
    expected = 16 + rows * subspaces + 4 * centroids * dim
    cursor.check(size == expected, f"the size of {QUANTIZER} is not that of what it holds", start,
                 plural(expected, "byte"), size)
    codes = read_codes(cursor, rows, subspaces, centroids)
    codebooks = read_floats(cursor, (subspaces, centroids, dim // subspaces), "its codebooks")
    return PQCodes(codes, codebooks), start
