"""spaCy's vectors: reads and writes the folder ``vocab`` of a pipeline, without spaCy.

``vectors`` is a numpy array; ``key2row`` is a MessagePack map from the key of a word to its row, which words may
share; ``strings.json`` lists the strings that have keys; ``vectors.cfg`` marks a floret table, which has no words.
Source: spaCy 3.8, ``Vectors.to_disk`` and ``Vocab.to_disk``.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import CreateFile, Outgoing, ReadOptions, ReadTable
from embshrink.formats.floret import FloretTable, check_whole, checked_hashing, floret_rows, no_words
from embshrink.formats.io.spacy_keys import ORTH, SYMBOLS, UInt64Array, keys_of, murmurhash64
from embshrink.formats.io.table_builder import WRITE_BINARY, check_count, check_dim, plural, settle, show
from embshrink.numerics.arrays import as_matrix
from embshrink.storage.arrays import FloatArray, IntArray
from embshrink.storage.disk_rows import Matrix
from embshrink.vocabulary.ngram_hashing import Floret
from embshrink.vocabulary.words import Numerals, Words, to_bytes

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Folder, Stream
    from embshrink.numerics.progress import Progress

JsonT = TypeVar("JsonT", "dict[str, Any]", "list[Any]")

FILES = ("strings.json", "key2row", "vectors", "vectors.cfg")
PIECE = 16 << 20
_AGAIN = "The folder is damaged or incomplete: download it again."
_NO_VECTORS = "Use a pipeline with word vectors; the names of those end in _md or _lg."


@dataclass
class Vocab:
    """Words and their rows.

    Parameters
    ----------
    words : list of bytes
        n words, in order of row.
    rows : numpy.ndarray, shape (n,), int64
        Row of each word, ascending from 0 to m - 1; words may share a row.
    matrix : numpy.ndarray, shape (m, d), float32
    warnings : list of str
    """

    words: list[bytes]
    rows: IntArray
    matrix: Matrix
    warnings: list[str]


def is_vocab(folder: Folder) -> bool:
    """Whether a folder is a vocab folder, or a pipeline with one in it."""
    return _prefix(folder) is not None


def _prefix(folder: Folder) -> str | None:
    """Return the prefix of the file names, or None if this is no vocab folder."""
    return next((prefix for prefix in ("", "vocab/")
                 if folder.has(f"{prefix}vectors") and folder.has(f"{prefix}strings.json")), None)


def read(folder: Folder, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the words of a vocab and their vectors; as `embshrink.formats.text.read`, from a folder."""
    found = load_table(folder, options, progress)
    if isinstance(found, FloretTable):
        raise no_words(folder.path)
    shared = len(found.matrix) < len(found.words)
    return Words(found.words), found.matrix[found.rows] if shared else found.matrix, found.warnings


def load_table(
    folder: Folder, options: ReadOptions, progress: Progress | None = None
) -> Vocab | FloretTable:
    """Read a vocab with the rows that words share, or the rows of a floret table.

    Parameters
    ----------
    folder : embshrink.formats.io.stream.Folder
    options : embshrink.formats.ReadOptions
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the vectors.

    Returns
    -------
    Vocab or embshrink.formats.floret.FloretTable

    Raises
    ------
    SourceError
        If it is malformed; the message states the file, the place, what was expected and what was found.
    """
    prefix = _prefix(folder)
    if prefix is None:
        raise SourceError("this is not a spaCy vocab folder", path=folder.path,
                          expected="the files vectors and strings.json", found="a folder without them",
                          hint="Give the path of a spaCy pipeline, or of its vocab folder.")
    settings = _read_settings(folder, prefix)
    stream = folder.open(f"{prefix}vectors")
    matrix, places = _read_vectors(stream, progress)
    if settings.get("mode", "default") == "floret":
        return _floret_table(folder.path, settings, matrix, places, options, stream.path)
    keys, key_rows = _read_key2row(folder.open(f"{prefix}key2row"), len(matrix))
    strings = _read_strings(folder.open(f"{prefix}strings.json"))
    words, rows, missing = _words_of_keys(strings, keys, key_rows)
    warnings = []
    if missing:
        warnings.append(f"dropped {missing} of {plural(len(keys), 'key')}, because strings.json lacks their strings")
    return _vocab(words, rows, matrix, places, options, stream.path, warnings)


def _vocab(
    words: list[bytes], rows: IntArray, matrix: FloatArray, places: IntArray, options: ReadOptions, path: str,
    warnings: list[str],
) -> Vocab:
    """Return the words and the rows in use, after applying the options for numbers that are not finite."""
    if not words:
        raise SourceError("no word has a vector", path=path, expected="a pipeline with word vectors",
                          found=f"{plural(len(matrix), 'row')} without words", hint=_NO_VECTORS)
    check_count(len(words), options, path)
    words, rows = words[: options.limit], rows[: options.limit]
    used, firsts, rows = np.unique(rows, return_index=True, return_inverse=True)
    if len(used) < len(matrix):
        if options.limit is None:
            warnings.append(f"dropped {plural(len(matrix) - len(used), 'row')} that no word has")
        matrix = matrix[used]
    owners = [words[first] for first in firsts]
    found, settled = settle(Words(owners), matrix, places[used], options, path, warnings)
    kept = found.raw
    if len(kept) < len(owners):  # drop rows that are not finite, and all their words
        finite = set(kept)
        here = np.array([word in finite for word in owners])
        words = [word for word, row in zip(words, rows) if here[row]]
        rows = (np.cumsum(here) - 1)[rows[here[rows]]]
    return Vocab(words, rows, settled, warnings)


def _words_of_keys(
    strings: list[bytes], keys: UInt64Array, key_rows: IntArray
) -> tuple[list[bytes], IntArray, int]:
    """Return words in order of row, their rows, and the number of keys without a string."""
    order = np.argsort(keys)
    ordered = keys[order]
    small = int(np.searchsorted(ordered, len(SYMBOLS)))
    symbols = {SYMBOLS[key]: at for at, key in enumerate(ordered[:small].tolist())}
    strings = [string for string in strings if string not in symbols]
    hashes = murmurhash64(strings)
    at = np.minimum(np.searchsorted(ordered, hashes), max(len(ordered) - 1, 0))
    known = np.flatnonzero(ordered[at] == hashes).tolist() if len(ordered) else []
    words = [*(strings[index] for index in known), *symbols]
    places = np.array([*(at[index] for index in known), *symbols.values()], np.int64)
    rows = key_rows[order[places]]
    by_row = np.argsort(rows, kind="stable")
    return [words[index] for index in by_row], rows[by_row], len(keys) - len(np.unique(places))


def _floret_table(
    folder_path: str, settings: dict[str, Any], matrix: FloatArray, places: IntArray, options: ReadOptions, path: str
) -> FloretTable:
    check_whole(options, folder_path)
    kinds = {"minn": int, "maxn": int, "hash_count": int, "hash_seed": int, "bow": str, "eow": str}
    if any(type(settings.get(name)) is not kind for name, kind in kinds.items()):
        raise SourceError("a setting of floret's hashing is missing or has the wrong type", path=folder_path,
                          where="vectors.cfg", expected=", ".join(kinds), found=settings, hint=_AGAIN)
    minn, maxn, hashes, seed, bow, eow = (settings[name] for name in kinds)
    hashing = checked_hashing(folder_path, "vectors.cfg", minn, maxn, len(matrix), Floret(hashes, seed, bow, eow))
    warnings = []
    if minn < 2:
        warnings.append(f"minn is {minn}: spaCy also hashes the begin and end markers alone as n-grams, floret and "
                        "embshrink do not, so the vectors of words differ from spaCy's")
    names, settled = settle(Numerals(len(matrix)).in_memory(), matrix, places, options, path, warnings)
    return FloretTable(hashing, np.array(names.raw).astype(np.int64), settled, warnings)


# ---------------------------------------------------------------- the files


def _content(stream: Stream) -> bytes:
    data = bytearray(stream.content_size or 0)
    return bytes(data[: stream.readinto(data)])


def _read_json(stream: Stream, kind: type[JsonT], expected: str) -> JsonT:
    try:
        value = json.loads(_content(stream))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"this is not JSON: {error}", path=stream.path, hint=_AGAIN) from error
    if not isinstance(value, kind):
        raise SourceError("the JSON value has the wrong type", path=stream.path, where="byte 0", expected=expected,
                          found=type(value).__name__, hint=_AGAIN)
    return value


def _read_settings(folder: Folder, prefix: str) -> dict[str, Any]:
    """Return the settings of ``vectors.cfg``; none if it is missing, as before spaCy 3.2."""
    if not folder.has(f"{prefix}vectors.cfg"):
        return {}
    stream = folder.open(f"{prefix}vectors.cfg")
    settings = _read_json(stream, dict, "an object of settings")
    if settings.get("mode", "default") not in ("default", "floret"):
        raise SourceError("the mode of the vectors is not supported", path=stream.path, where="mode",
                          expected="default or floret", found=settings["mode"],
                          hint="Write the vectors as text with the program that made them.")
    return settings


def _read_strings(stream: Stream) -> list[bytes]:
    """Return the strings as distinct bytes, in order."""
    strings = _read_json(stream, list, "a list of strings")
    for index, string in enumerate(strings):
        if type(string) is not str:
            raise SourceError("the item is not a string", path=stream.path, where=f"item {index}",
                              expected="a string", found=type(string).__name__, hint=_AGAIN)
    return list(dict.fromkeys(map(to_bytes, strings)))


def _read_npy_header(stream: Stream) -> tuple[int, int, int]:
    """Return rows and columns of the table in a ``.npy`` file, and the byte offset of the table."""
    from numpy.lib import format as npy

    head = io.BytesIO(stream.head)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        shape, fortran, dtype = readers[npy.read_magic(head)](head)
        rows, dim = shape
    except Exception as error:  # numpy evaluates the header as a Python literal, which may raise any exception
        raise SourceError(f"this is not a .npy file with a table: {type(error).__name__}: {error}", path=stream.path,
                          where="byte 0", expected="the header of a two-dimensional array",
                          found=show(stream.head[:24]), hint=_AGAIN) from error
    start = head.tell()
    if dtype != np.dtype("<f4") or fortran:
        raise SourceError("the vectors have an unsupported type", path=stream.path, where="byte 0",
                          expected="little-endian float32, row by row", found=f"{dtype}{', by column' * fortran}",
                          hint="Save the pipeline again with spaCy.")
    if rows < 1 or dim < 1:
        raise SourceError("the pipeline has no word vectors", path=stream.path, where="byte 0",
                          expected="at least one row and column", found=f"shape {shape}", hint=_NO_VECTORS)
    check_dim(dim, stream.path, "byte 0")
    size = start + 4 * math.prod(shape)
    if size != stream.content_size:
        raise SourceError("the length of the file does not match its header", path=stream.path, where="byte 0",
                          expected=f"{size} bytes for {plural(rows, 'row')} of {dim}", found=stream.content_size,
                          hint=_AGAIN)
    return rows, dim, start


def _read_vectors(stream: Stream, progress: Progress | None) -> tuple[FloatArray, IntArray]:
    """Return the array of a ``.npy`` file, (rows, d) float32, and the byte offset of each row."""
    rows, dim, start = _read_npy_header(stream)
    stream.readinto(bytearray(start))
    matrix = np.empty((rows, dim), "<f4")
    view = memoryview(matrix.reshape(-1)).cast("B")
    for first in range(0, len(view), PIECE):
        piece = view[first : first + PIECE]
        if stream.readinto(piece) < len(piece):
            raise SourceError("the file ends early", path=stream.path, where=f"byte {start + first}",
                              expected=f"{start + len(view)} bytes",
                              found="fewer, because the file changed during reading", hint=_AGAIN)
        if progress:
            progress("read", stream.done, stream.size)
    return matrix.astype(np.float32, copy=False), start + np.arange(rows) * 4 * dim


def _read_key2row(stream: Stream, rows: int) -> tuple[UInt64Array, IntArray]:
    """Return keys, (k,) uint64, and the row of each, (k,) int64, from a MessagePack map of integers."""
    data = _content(stream)
    numbers = _unpack_map(data, stream.path)
    keys, key_rows = numbers[::2], numbers[1::2]
    if len(np.unique(keys)) < len(keys):
        raise _damaged(stream.path, "a key occurs twice", 0, f"{len(keys)} distinct keys", len(np.unique(keys)))
    if len(keys) and int(key_rows.max()) >= rows:
        raise _damaged(stream.path, "a key refers to a row that does not exist", 0, f"0 to {rows - 1}",
                       int(key_rows.max()))
    return keys, key_rows.astype(np.int64)


def _damaged(path: str, problem: str, at: int, expected: object, found: object) -> SourceError:
    return SourceError(problem, path=path, where=f"byte {at}", expected=expected, found=found, hint=_AGAIN)


def _unpack_map(data: bytes, path: str) -> UInt64Array:
    """Return the keys and values of a MessagePack map of integers, alternating, (2 k,) uint64."""
    kind = data[0] if data else None
    if kind is None or not (kind >> 4 == 8 or kind in (0xDE, 0xDF)) or len(data) < {0xDE: 3, 0xDF: 5}.get(kind, 1):
        raise _damaged(path, "this is not a MessagePack map", 0, "the head of a map", show(data[:8]))
    at = {0xDE: 3, 0xDF: 5}.get(kind, 1)
    count = int.from_bytes(data[1:at], "big") if at > 1 else kind & 15
    if 2 * count > len(data) - at:
        raise _damaged(path, "the map is longer than the file", 0, f"{count} keys and rows", f"{len(data)} bytes")
    numbers = np.empty(2 * count, np.uint64)
    widths = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
    for index in range(2 * count):
        kind = data[at] if at < len(data) else -1
        if 0 <= kind < 128:
            numbers[index] = kind
            at += 1
            continue
        end = at + 1 + widths.get(kind, 0)
        if kind not in widths or end > len(data):
            raise _damaged(path, f"{'key' if index % 2 == 0 else 'row'} {index // 2} is not an integer", at,
                           "an integer of 1 to 9 bytes",
                           show(data[at : at + 9]) if kind >= 0 else "the end of the file")
        numbers[index] = int.from_bytes(data[at + 1 : end], "big")
        at = end
    if at < len(data):
        raise _damaged(path, "bytes follow the map", at, "the end of the file", f"{plural(len(data) - at, 'byte')}")
    return numbers


# ---------------------------------------------------------------- writing


def write(create: CreateFile, outgoing: Outgoing) -> None:
    """Write a vocab folder with shared rows, or a floret table if there are no words. See `embshrink.formats.export`.

    Parameters
    ----------
    create : callable
        ``create(name)`` is a context manager that opens a file of the folder.
    outgoing : embshrink.formats.Outgoing

    Raises
    ------
    TargetError
        If a word is not UTF-8, two words have the same key, or there are no words and the n-grams are not a floret
        table.
    """
    if len(outgoing.words):
        _write_words(create, outgoing)
    else:
        _write_floret(create, outgoing)


def _write_words(create: CreateFile, outgoing: Outgoing) -> None:
    raw, emb = outgoing.words.raw, outgoing.embeddings
    for word in raw:
        try:
            word.decode()
        except UnicodeDecodeError as error:
            raise TargetError(f"the word {show(word)} is not UTF-8, which spaCy cannot store",
                              hint=WRITE_BINARY) from error
    keys = keys_of(raw)
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(twice):
        one, other = (show(raw[index]) for index in order[twice[0] : twice[0] + 2])
        raise TargetError(f"the words {one} and {other} have the same key in spaCy", hint="Remove one of them.")
    rows, count, blocks = list(range(len(raw))), len(raw), outgoing.blocks
    if emb is not None and emb.row_map is not None and emb.scale is None:
        rows, count = emb.row_map.tolist(), emb.n_rows
        blocks = (as_matrix(block, "a block of rows") for _, block in emb.row_blocks())
    _write_files(create, raw, zip(keys.tolist(), rows), (count, outgoing.dim), blocks, {"mode": "default"})


def _write_floret(create: CreateFile, outgoing: Outgoing) -> None:
    subwords, own = floret_rows(outgoing)
    hashing = subwords.hashing
    settings = {"mode": "floret", "minn": hashing.minn, "maxn": hashing.maxn, "hash_count": own.hashes,
                "hash_seed": own.seed, "bow": own.bow, "eow": own.eow, "attr": ORTH}
    _write_files(create, [], (), (hashing.bucket, outgoing.dim), (block for _, block in subwords.blocks()), settings)


def _write_files(
    create: CreateFile, raw: list[bytes], pairs: Iterable[tuple[int, int]], shape: tuple[int, int],
    blocks: Iterable[FloatArray], settings: dict[str, object],
) -> None:
    """Write the four files; strings are in the order of ids, which spaCy accepts."""
    with create("strings.json") as file:
        file.write(json.dumps([word.decode() for word in raw]).encode("ascii"))
    with create("key2row") as file:
        count = len(raw)
        file.write(bytes([0x80 | count]) if count < 16 else _packed(count, {2: 0xDE, 4: 0xDF}))
        file.write(b"".join(number for pair in pairs for number in map(_number, pair)))
    with create("vectors") as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(header.getvalue())
        for block in blocks:
            file.write(block.astype("<f4", copy=False).tobytes())
    with create("vectors.cfg") as file:
        file.write(json.dumps(settings).encode("ascii"))


def _number(value: int) -> bytes:
    """Return an integer in MessagePack."""
    return bytes([value]) if value < 128 else _packed(value, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF})


def _packed(value: int, kinds: dict[int, int]) -> bytes:
    """Return an integer in the fewest bytes, after its MessagePack type; `kinds` maps widths in bytes to types."""
    width = next(width for width in kinds if value < 256**width)
    return struct.pack(">B", kinds[width]) + value.to_bytes(width, "big")
