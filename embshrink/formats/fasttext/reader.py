"""Reads fastText's models from a stream."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embshrink.errors import SourceError
from embshrink.formats.base import Pruned, ReadOptions, ReadTable
from embshrink.formats.fasttext.layout import ARGS, ARGS_LAYOUT, CENTROIDS, ENTRY, MAGIC, SUPERVISED, WITH_SUBWORDS
from embshrink.formats.fasttext.model import Dense, FastTextModel, InputMatrix, OnDisk, Quantized
from embshrink.formats.io.cursor import CUT, F4, I4, PIECE, U1, Cursor
from embshrink.formats.io.table_builder import MAX_WORD, check_dim, plural, show
from embshrink.storage.arrays import FloatArray, IntArray
from embshrink.vocabulary.ngram_hashing import MAX_BUCKETS, MAX_NGRAM
from embshrink.vocabulary.words import Words

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress
    from embshrink.storage.disk_rows import Spool


EntryArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.void]]  # of the dtype ENTRY


def is_model(head: bytes) -> bool:
    """Whether a file that begins with `head` is a model."""
    return head.startswith(MAGIC) or _is_old_model(head)


def _is_old_model(head: bytes) -> bool:
    """Whether `head` is a model of 2016, which has no magic number: its 12 arguments must be in range."""
    if len(head) < 80:
        return False
    dim, ws, _, _, _, _, loss, model, bucket, minn, maxn, _ = struct.unpack_from("<12i", head)
    size, words, labels = struct.unpack_from("<3i", head, 56)
    return bool(1 <= dim <= 65_536 and 0 <= ws <= 1000 and 1 <= loss <= 4 and 1 <= model <= 3 and bucket >= 0
                and 0 <= minn <= 100 and 0 <= maxn <= 100 and 0 <= labels <= size and size == words + labels)


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the vectors of a model's words; as `embshrink.formats.text.read`.

    An uncompressed file that is given by its path is memory-mapped; otherwise the whole model is read into memory.
    """
    return load_model(stream, options, progress).finished_words(options, stream.path, progress)


def load_model(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> FastTextModel:
    """Read a model with its n-grams.

    Parameters
    ----------
    stream : embshrink.formats.io.stream.Stream
        Memory-mapped if it is an uncompressed file opened by path.
    options : ReadOptions
        ``allow_truncated`` and ``spool`` are used.
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the source.

    Returns
    -------
    FastTextModel

    Raises
    ------
    SourceError
        If it is not a model, or is damaged; the message states the byte, what was expected and what was found.
    """
    cursor = Cursor(stream, progress, "fastText model")
    version, args = _read_args(cursor)
    dim, bucket = int(args["dim"]), int(args["bucket"])
    if args["model"] == SUPERVISED and version < WITH_SUBWORDS:
        args["maxn"] = 0
    nwords, nlabels, kept = _read_sizes(cursor, version, args)
    words, entries, places = _read_entries(cursor, nwords, nlabels)
    rows = nwords + (bucket if kept < 0 else kept)
    pruned = None if kept < 0 else _read_pruned(cursor, kept, bucket)
    quantized = version > 0 and cursor.flag("the quantization flag of the model")
    if pruned and not quantized:
        raise cursor.error("n-grams are pruned but the matrix is not quantized, a fault of early .ftz files",
                           cursor.offset - 1, "Download a newer file of the model from its publisher.")
    table: InputMatrix
    if quantized:
        table = _read_quantized(cursor, dim, "the input matrix", rows)
    else:
        table = _read_dense(cursor, dim, "the input matrix", rows, options.spool)
    cut = not _pass_output(cursor, quantized, version, dim, options.allow_truncated)
    return FastTextModel(
        version=version, args=args, words=Words(words[:nwords]), counts=entries["count"][:nwords],
        places=places[:nwords], labels=words[nwords:], minn=int(args["minn"]), maxn=int(args["maxn"]), bucket=bucket,
        pruned=pruned, table=table, cut=cut, spool=options.spool)


def _read_args(cursor: Cursor) -> tuple[int, dict[str, float]]:
    """Return the version, 0 for models without magic, and the arguments."""
    version = 0
    first = cursor.some(4)
    if first == MAGIC:
        (version,) = cursor.unpack("<i", "the version")
        cursor.check(version in (11, 12), "the version of the model is not supported", 4, "11 or 12", version,
                     "If a newer fastText wrote it, write its vectors as text with fasttext print-word-vectors.")
    else:
        cursor.back(first)
    start = cursor.offset
    values = struct.unpack(ARGS_LAYOUT, cursor.exactly(struct.calcsize(ARGS_LAYOUT), "the arguments"))
    args: dict[str, float] = dict(zip(ARGS, values))
    check_dim(int(args["dim"]), cursor.path, f"byte {start}")
    for name, least, most, what in (
        ("loss", 1, 4, "the loss function"),
        ("model", 1, 3, "the kind of model"),
        ("bucket", 0, MAX_BUCKETS, "the number of buckets"),
        ("minn", 0, MAX_NGRAM, "the length of the shortest n-grams (minn)"),
        ("maxn", 0, MAX_NGRAM, "the length of the longest n-grams (maxn)"),
    ):
        cursor.check(least <= args[name] <= most, f"{what} is out of range", start + 4 * ARGS.index(name),
                     f"{least} to {most}", args[name])
    return version, args


def _read_sizes(cursor: Cursor, version: int, args: dict[str, float]) -> tuple[int, int, int]:
    """Return the number of words, of labels, and of buckets kept by pruning, or -1."""
    start = cursor.offset
    size, nwords, nlabels, args["ntokens"], *pruned = cursor.unpack("<3iqq" if version else "<3iq",
                                                                    "the sizes of the dictionary")
    hint = cursor.damaged
    (hashes,) = struct.unpack("<i4x", struct.pack("<d", args["t"]))
    if args["lrUpdateRate"] in (1, 2) and hashes in (1, 2, 3, 4):  # floret's mode and number of hashes
        hint = "This looks like a floret model, which is not supported: save its vectors as a .floret file."
    cursor.check(size == nwords + nlabels and nwords >= 0 <= nlabels,
                 "the numbers of words and labels contradict each other", start, "entries = words + labels",
                 f"{size} = {nwords} + {nlabels}", hint)
    cursor.check(nwords > 0, "the model has no words", start + 4, "1 or more", nwords)
    kept = int(pruned[0]) if pruned else -1
    cursor.check(-1 <= kept <= args["bucket"], "the number of n-grams kept by pruning is out of range", start + 20,
                 f"-1 to {args['bucket']}", kept)
    cursor.require(10 * size + 8 * max(0, kept), f"the dictionary of {size} entries")
    return nwords, nlabels, kept


def _read_entries(cursor: Cursor, nwords: int, nlabels: int) -> tuple[list[bytes], EntryArray, IntArray]:
    """Return words and labels, their counts and kinds, and the byte offset of each."""
    first = cursor.offset
    words, tails = _split_entries(cursor, nwords + nlabels)
    entries = np.frombuffer(b"".join(tails), dtype=ENTRY)
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    places = first + np.cumsum(lengths + 10) - (lengths + 10)
    _check_entries(cursor, words, entries, lengths, places, nwords)
    return words, entries, places


def _split_entries(cursor: Cursor, size: int) -> tuple[list[bytes], list[bytes]]:
    """Return the words of the dictionary's entries, and the 9 bytes after the NUL byte of each."""
    words: list[bytes] = []
    tails: list[bytes] = []
    while len(words) < size:
        chunk = cursor.some(PIECE)
        start = 0
        while len(words) < size:
            end = chunk.find(0, start)
            if end < 0 or end + 10 > len(chunk):
                break
            words.append(chunk[start:end])
            tails.append(chunk[end + 1 : end + 10])
            start = end + 10
        cursor.back(chunk[start:])
        if len(words) == size:
            break
        rest = len(chunk) - start
        cursor.check(chunk.find(0, start, start + MAX_WORD + 1) >= 0 or rest <= MAX_WORD,
                     f"no NUL byte ends the word of entry {len(words) + 1} of the dictionary", cursor.offset,
                     f"a NUL byte within {MAX_WORD} bytes", show(chunk[start : start + 24]))
        if len(chunk) < PIECE:
            raise cursor.error(f"the file ends in entry {len(words) + 1} of the dictionary", cursor.offset, CUT,
                               expected=f"{size} entries", found=f"{len(words)} entries and {plural(rest, 'byte')}")
    return words, tails


def _check_entries(
    cursor: Cursor, words: list[bytes], entries: EntryArray, lengths: IntArray, places: IntArray, nwords: int
) -> None:
    """Refuse entries that are out of range, and labels that do not follow all words."""
    for bad, problem, expected, value in (
        (lengths > MAX_WORD, "the word is too long", f"at most {MAX_WORD} bytes", lengths),
        (entries["count"] < 0, "the count of the word is negative", "0 or more", entries["count"]),
        ((entries["kind"] | 1) != 1, "the entry is neither a word nor a label", "0 or 1", entries["kind"]),
        (entries["kind"] != (np.arange(len(words)) >= nwords), "words and labels are not in order",
         f"{plural(nwords, 'word')}, then {plural(len(words) - nwords, 'label')}", entries["kind"]),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise cursor.error(f"entry {row + 1} of the dictionary, {show(words[row])}: {problem}", int(places[row]),
                               expected=expected, found=int(value[row]))


def _read_pruned(cursor: Cursor, kept: int, bucket: int) -> Pruned:
    """Return the buckets that were kept, ascending, and the row of each among the n-grams."""
    start = cursor.offset
    pairs = cursor.array((kept, 2), I4, "the list of n-grams kept by pruning", mapped=False).astype(np.int64)
    for column, end, what in ((0, bucket, "the bucket"), (1, kept, "the row")):
        bad = np.flatnonzero((pairs[:, column] < 0) | (pairs[:, column] >= end))
        if len(bad):
            raise cursor.error(f"{what} of kept n-gram {bad[0] + 1} is out of range",
                               start + 8 * int(bad[0]) + 4 * column, expected=f"0 to {end - 1}",
                               found=int(pairs[bad[0], column]))
    buckets, rows = np.ascontiguousarray(pairs[np.argsort(pairs[:, 0], kind="stable")].T)
    twice = buckets[1:][np.diff(buckets) == 0]
    if len(twice):
        raise cursor.error("a bucket occurs twice among the kept n-grams", start, expected="distinct buckets",
                           found=int(twice[0]))
    return buckets, rows


def _read_shape(cursor: Cursor, dim: int, what: str, rows: int | None = None) -> int:
    """Return the number of rows of a matrix, after checking its columns and, if `rows` is given, its rows."""
    start = cursor.offset
    m, n = cursor.unpack("<2q", f"the sizes of {what}")
    if rows is None:
        cursor.check(m >= 0, f"the number of rows of {what} is out of range", start, "0 or more", m)
    else:
        cursor.check(m == rows, f"the number of rows of {what} does not match the words and n-grams", start, rows, m)
    cursor.check(n == dim or m == 0, f"the number of columns of {what} does not match the dimension", start + 8, dim,
                 n)
    return int(m)


def _read_dense(cursor: Cursor, dim: int, what: str, rows: int, spool: Spool | None) -> Dense | OnDisk:
    _read_shape(cursor, dim, what, rows)
    if spool is not None and not spool.fits(4 * rows * dim):
        return OnDisk(cursor.rows((rows, dim), what, spool))
    return Dense(cursor.array((rows, dim), F4, what).astype(np.float32, copy=False))


def _read_quantized(cursor: Cursor, dim: int, what: str, rows: int | None = None) -> Quantized:
    with_norms = cursor.flag(f"the flag for separate norms of {what}")
    rows = _read_shape(cursor, dim, what, rows)
    start = cursor.offset
    (size,) = cursor.unpack("<i", f"the size of the codes of {what}")
    subspaces = size // max(rows, 1)
    cursor.check(1 <= subspaces <= dim and size == rows * subspaces,
                 f"the size of the codes of {what} is out of range", start, f"{rows} times 1 to {dim}", size)
    codes = cursor.array((rows, subspaces), U1, f"the codes of {what}")
    codebooks = _read_codebooks(cursor, dim, subspaces, what)
    if not with_norms:
        return Quantized(codes, codebooks, None, None)
    norm_codes = cursor.array((rows,), U1, f"the norms of {what}")
    (norms,) = _read_codebooks(cursor, 1, 1, f"the norms of {what}")
    return Quantized(codes, codebooks, norm_codes, norms[:, 0])


def _read_codebooks(cursor: Cursor, dim: int, subspaces: int, what: str) -> list[FloatArray]:
    """Return the codebooks of a quantizer, for each subspace an array of shape (256, columns), float32."""
    start = cursor.offset
    found = cursor.unpack("<4i", f"the quantizer of {what}")
    width = found[2]
    cursor.check(1 <= width <= dim, f"the width of a subspace of {what} is out of range", start + 8, f"1 to {dim}",
                 width)
    count = -(-dim // width)
    expected = (dim, count, width, dim - (count - 1) * width)
    for i, name in enumerate(("number of columns", "number of subspaces", "", "width of the last subspace")):
        cursor.check(found[i] == expected[i], f"the {name} of the quantizer of {what} is wrong", start + 4 * i,
                     expected[i], found[i])
    cursor.check(subspaces == count, f"the number of codes in a row of {what} does not match its quantizer",
                 start + 4, count, subspaces)
    start = cursor.offset
    centroids = cursor.array((dim * CENTROIDS,), F4, f"the centroids of {what}", mapped=False)
    centroids = centroids.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(centroids))
    if len(bad):
        raise cursor.error(f"a centroid of {what} is not finite", start + 4 * int(bad[0]), expected="a finite number",
                           found=float(centroids[bad[0]]))
    return [part.reshape(CENTROIDS, -1) for part in np.split(centroids, np.arange(1, count) * width * CENTROIDS)]


def _pass_output(cursor: Cursor, quantized: bool, version: int, dim: int, allow_truncated: bool) -> bool:
    """Check the sizes of the output matrix, which is not needed; return whether it is complete."""
    what = "the output matrix"
    try:
        quantized = bool(version) and cursor.flag("the quantization flag of the output matrix") and quantized
        if quantized:
            _read_quantized(cursor, dim, what)
        else:
            cursor.skip(4 * dim * _read_shape(cursor, dim, what), what)
    except SourceError:
        if allow_truncated and cursor.ended:
            return False
        raise
    cursor.check(not cursor.some(1), "bytes follow the end of the model", cursor.offset - 1, "the end of the file",
                 "more bytes")
    return True
