"""navec's models, ``.tar``, read without navec: product quantization codes of Russian words.

A model is a tar archive of three files: ``meta.json`` with the protocol; ``vocab.bin``, compressed with gzip, with
counts and words; ``pq.bin`` with four sizes, the codes and the codebooks. ``<unk>`` and ``<pad>`` are ordinary words.
Source: navec's ``Navec.dump`` and ``Navec.load``.
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

_DIRECTLY = "Use the archive as navec published it."


def is_navec(head: bytes) -> bool:
    """Whether `head` begins a tar archive whose first files are navec's metadata and vocabulary."""
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
    """The content of a model; an `embshrink.formats.base.Model` without n-grams.

    Parameters
    ----------
    words : Words
        n words.
    places : numpy.ndarray, shape (n,), int64
        Byte offset of each word in the unpacked vocabulary.
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
        """Dimension of the vectors."""
        return self.codes.dim

    def rows(self, ids: IntArray) -> FloatArray:
        """Return rows by number, shape (k, d), float32."""
        return self.codes.rows(ids)

    def finished_words(
        self, options: ReadOptions, path: str, progress: Progress | None = None, *, ngrams_kept: bool = False
    ) -> ReadTable:
        """Return words, vectors and warnings; as `Model.finished_words`."""
        return finish_words(self.words, self.places, lambda count: self.codes.matrix(count, progress), options,
                            path, [])


def load_model(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> NavecModel:
    """Read a model from a stream.

    Returns
    -------
    NavecModel

    Raises
    ------
    SourceError
        If it is damaged or not supported; the message states the byte, what was expected and what was found.
    """
    cursor = Cursor(stream, progress, "navec model")
    found: set[str] = set()
    while True:
        start = cursor.offset
        info = _read_member(cursor)
        if info is None:
            break
        cursor.check(info.name not in found, f"the archive has two files {info.name}", start, "each file once",
                     "a second one")
        cursor.check(info.type in PLAIN, "an entry of the archive is neither a plain file nor a folder", start,
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
    cursor.check(not missing, "a file is missing in the archive", start, ", ".join(MEMBERS),
                 f"no {' and no '.join(missing)}")
    cursor.check(len(words) == len(codes), "the number of vectors does not match the number of words", byte,
                 len(words), len(codes))
    return NavecModel(Words(words), places, codes)


def _whole_blocks(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes in an archive, with padding."""
    return -(-size // BLOCK) * BLOCK


def _read_member(cursor: Cursor) -> tarfile.TarInfo | None:
    """Return the head of the next file in the archive; None at its end, which only zeros may follow."""
    start = cursor.offset
    block = cursor.exactly(BLOCK, "the archive, before the zeros at its end")
    if not block.strip(b"\0"):
        while block:
            cursor.check(not block.strip(b"\0"), "bytes follow the end of the archive", cursor.offset - len(block),
                         "zeros", "other bytes")
            block = cursor.some(PIECE)
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise cursor.error(f"the head of a file in the archive is damaged: {error}", start) from error
    cursor.check(info.size >= 0, "the size of a file in the archive is out of range", start + 124, "0 or more",
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
    cursor.check(type(protocol) is int and protocol == PROTOCOL, "the protocol of the model is not supported",
                 start, PROTOCOL, protocol, "If a newer navec wrote it, write its vectors as text with navec.")

def _read_vocabulary(cursor: Cursor, size: int, options: ReadOptions) -> tuple[list[bytes], IntArray]:
    """Return words, and the byte offset of each in the unpacked vocabulary."""
    packed = cursor.array((size,), U1, VOCABULARY, mapped=False).tobytes()
    inner = dataclasses.replace(options, member=None)
    with Stream(io.BytesIO(packed), f"{cursor.path}: {VOCABULARY}", inner, owned=False) as stream:
        unpacked = Cursor(stream, None, "navec vocabulary")
        unpacked.check(stream.packed == "gzip", "the vocabulary is not compressed with gzip", 0, "gzip",
                       stream.packed or "other data")
        (count,) = unpacked.unpack("<I", "the number of words")
        unpacked.check(count > 0, "the model has no words", 0, "1 or more", count)
        unpacked.skip(4 * count, "the counts of the words")  # vectors do not need them
        first = unpacked.offset
        pieces: list[bytes] = []
        while not pieces or pieces[-1]:
            pieces.append(unpacked.some(PIECE))
        unpacked.check(not stream.warnings, "bytes follow the end of the vocabulary", unpacked.offset, "its end",
                       "more bytes")
        data = b"".join(pieces)
        return _split_words(unpacked, data, first, count)


def _split_words(unpacked: Cursor, data: bytes, first: int, count: int) -> tuple[list[bytes], IntArray]:
    """Return the words of `data`, one per line, and the byte offset of each; `data` begins at the byte `first`."""
    words = data.split(b"\n")
    unpacked.check(len(words) == count, "the number of words is not the one stated", 0, count, len(words), CUT)
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
    """Return the codes, and the byte offset of their sizes."""
    start = cursor.offset
    rows, dim, subspaces, centroids = cursor.unpack("<4I", f"the sizes at the head of {QUANTIZER}")
    cursor.check(rows > 0, "the model has no vectors", start, "1 or more", rows)
    check_dim(dim, cursor.path, f"byte {start + 4}")
    check_quantizer(cursor, dim, subspaces, centroids, start + 8)
    expected = 16 + rows * subspaces + 4 * centroids * dim
    cursor.check(size == expected, f"the size of {QUANTIZER} does not match its content", start,
                 plural(expected, "byte"), size)
    codes = read_codes(cursor, rows, subspaces, centroids)
    codebooks = read_floats(cursor, (subspaces, centroids, dim // subspaces), "the codebooks")
    return PQCodes(codes, codebooks), start
