"""fastText's models, ``.bin`` and ``.ftz``, read without fastText.

A model is: magic and version, 13 arguments, a dictionary, the input matrix (a row for each word,
then one for each bucket of n-grams), the output matrix. A word's vector is the mean of its own row
and those of its n-grams. A ``.ftz`` holds the matrices as product quantization codes, and often
only some of the buckets. Models of 2016 have no magic and neither quantize nor prune. Source:
fastText's ``FastText::loadModel``, ``Dictionary::load``, ``QuantMatrix::load``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from embshrink.arrays import first_nonfinite
from embshrink.errors import SourceError
from embshrink.formats.rows import MAX_WORD, Table, check_dim, plural, show
from embshrink.parallel import map_blocks
from embshrink.subwords import all_bucket_ids, bucket_ids
from embshrink.vocab import Words, to_bytes

MAGIC = struct.pack("<i", 793712314)
ARGS = ("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn",
        "lrUpdateRate", "t")
SUPERVISED = 3
WITH_SUBWORDS = 12  # the first version whose supervised models have character n-grams
MAX_NGRAM = 100
CENTROIDS = 256
PIECE = 4 << 20
BLOCK = 1 << 18  # n-grams looked up at a time
DECODED = 1 << 20  # numbers decoded at a time

_ENTRY = np.dtype([("count", "<i8"), ("kind", "i1")])
_CUT = "The file is cut short, or a number in it is wrong: fetch it again."
_DAMAGED = "The file is damaged, or is no fastText model: fetch it again."


def read(stream, options, progress=None):
    """Read the vectors of a model's own words; as `embshrink.formats.text.read`.

    A model from a file by path is mapped; one that is compressed, or comes through a pipe, is held
    in memory, its n-grams too.
    """
    return finished_words(load_model(stream, options, progress), stream, options, progress)


def finished_words(model, stream, options, progress=None, *, ngrams_kept=False):
    """Return words, finished vectors and warnings of a model as `read` does, using up the model's own matrix.

    With `ngrams_kept` the caller has taken the n-grams from the model, and they are not said to be lost.
    """
    warnings = []
    if model.labels:
        warnings.append(f"{plural(len(model.labels), 'label')} left out: {show(model.labels[0])}"
                        + (", ..." if len(model.labels) > 1 else ""))
    if model.has_ngrams and not ngrams_kept:
        warnings.append("the model's n-grams, from which it makes vectors for unseen words, are not kept: "
                        "its own words keep their vectors")
    if model.cut:
        warnings.append("the file ends in the output matrix, which word vectors do not need")
    expected = options.expect_rows
    if expected is not None and expected != len(model.words):
        raise SourceError("the number of rows is not the expected one", path=stream.path, where="byte 0",
                          expected=expected, found=len(model.words), hint="Check that this is the file you meant.")
    words = model.words.raw[: options.limit]
    places = model.places[: options.limit]
    matrix = model.word_vectors(len(words), overwrite=True, progress=progress)
    table = Table(model.dim, options, stream.path, "byte")
    table.adopt(matrix)
    keep = np.ones(len(words), dtype=bool)
    if first_nonfinite(matrix) >= 0:
        rows = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        table.settle_nonfinite(matrix, keep, rows, [f"byte {places[row]}" for row in rows],
                               [words[row] for row in rows])
        words = [word for word, kept in zip(words, keep) if kept]
    table.add(matrix, keep, words, places)
    del matrix  # the table cuts it to size
    return *table.finish(warnings), warnings


def open_model(source, options=None, *, progress=None):
    """Open a model, to have vectors of unseen words too.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        As for `embshrink.formats.read_vectors`. A file by path that is not compressed is mapped.
    options : ReadOptions, optional
        ``allow_truncated``, ``member`` and ``max_expanded`` are used.
    progress : callable, optional
        Called as ``progress("read", done, total)``, in bytes of the source.

    Returns
    -------
    FastTextModel

    Raises
    ------
    SourceError
        If it cannot be opened, or is no intact model: naming the byte, what was expected and found.
    """
    from embshrink.formats import ReadOptions
    from embshrink.formats.stream import open_source

    options = options or ReadOptions()
    with open_source(source, options) as stream:
        return load_model(stream, options, progress)


# ---------------------------------------------------------------- the model


@dataclass
class FastTextModel:
    """A model's words and what their vectors are made of.

    Parameters
    ----------
    version : int
        11 or 12; 0 for a model without magic.
    args : dict
        The arguments it was trained with, by fastText's names.
    words : Words
        n words, the most frequent first.
    counts : numpy.ndarray, shape (n,), int64
        How often each word was seen.
    places : numpy.ndarray, shape (n,), int64
        The byte at which each word stands.
    labels : list of bytes
    minn, maxn, bucket : int
        As for `embshrink.subwords.bucket_ids`.
    pruned : tuple of numpy.ndarray, shape (k,), int64; or None
        Buckets that were kept, ascending, and the row of each. None if all were.
    table : Dense or Quantized
        The input matrix.
    cut : bool
        The output matrix is incomplete.
    """

    version: int
    args: dict
    words: Words
    counts: np.ndarray
    places: np.ndarray
    labels: list
    minn: int
    maxn: int
    bucket: int
    pruned: tuple | None
    table: Dense | Quantized
    cut: bool

    @property
    def dim(self):
        """Length of a vector."""
        return self.args["dim"]

    @property
    def quantized(self):
        """Whether the input matrix is stored as codes."""
        return isinstance(self.table, Quantized)

    @property
    def has_ngrams(self):
        """Whether there are n-grams to make vectors of unseen words from."""
        return bool(self.maxn and self.bucket and (self.pruned is None or len(self.pruned[0])))

    def rows(self, ids):
        """Return rows of the input matrix, shape (k, d), float32: first come words, then n-grams."""
        return self.table.rows(np.asarray(ids, dtype=np.int64))

    def vector(self, word):
        """Return the vector of any word, shape (d,), float32.

        Raises
        ------
        KeyError
            If it is none of the model's words and has none of its n-grams.
        """
        index = self.words.find(word)
        buckets = np.array(bucket_ids(to_bytes(word), self.minn, self.maxn, self.bucket), dtype=np.int64)
        ids, _ = self._ngram_rows(buckets, np.array([len(buckets)]))
        if index >= 0:
            ids = np.concatenate([[index], ids])
        if not len(ids):
            raise KeyError(word)
        vector = np.zeros(self.dim, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for id in ids:  # one by one, for memory and for the order of summation
                vector += self.table.rows(np.array([id]))[0]
            return vector * np.float32(1 / len(ids))

    def word_vectors(self, limit=None, *, overwrite=False, progress=None):
        """Return the vectors of the words, computed as fastText does, in float32 and in its order.

        Parameters
        ----------
        limit : int, optional
            Of the first so many words only.
        overwrite : bool
            Save memory by using up the model's own matrix, if that is in memory; the model is of
            no use afterwards.
        progress : callable, optional
            Called as ``progress("average", done, total)``, in words.

        Returns
        -------
        numpy.ndarray, shape (n, d), float32
        """
        words = self.words.raw[:limit]
        n = len(words)
        overwrite = overwrite and self.table.in_memory
        out = self.table.array[:n] if overwrite else np.empty((n, self.dim), dtype=np.float32)
        most = np.fromiter(map(len, words), dtype=np.int64, count=n)  # n-grams a word may have, and itself
        most = np.cumsum((most + 2) * self.maxn + 1)
        bounds = np.searchsorted(most, np.arange(BLOCK, most[-1], BLOCK), side="right")
        bounds = np.unique(np.concatenate([[0], bounds, [n]])).tolist()
        done = 0

        def average(first, _):
            start, stop = bounds[first : first + 2]
            block = out[start:stop]
            if not overwrite:
                self.table.copy(start, stop, block)
            ids, ends = self._ngram_rows(*all_bucket_ids(words[start:stop], self.minn, self.maxn, self.bucket))
            with np.errstate(over="ignore", invalid="ignore"):
                self.table.add(ids, ends, block)
                counts = 1 + np.diff(ends, prepend=0)
                block *= (1 / counts).astype(np.float32)[:, None]

        def on_done(_):
            nonlocal done
            done += 1
            if progress:
                progress("average", bounds[done], n)

        map_blocks(average, len(bounds) - 1, 1, on_done)
        if overwrite:
            del out
            self.table.array.resize((n, self.dim), refcheck=False)
            return self.table.array
        return out

    def _ngram_rows(self, buckets, ends):
        """Return the rows of buckets, without those that were pruned, and where each word's part of them ends."""
        if self.pruned is None:
            return buckets.astype(np.int64) + len(self.words), ends
        kept, rows = self.pruned
        if not len(kept):
            return np.empty(0, dtype=np.int64), np.zeros_like(ends)
        at = np.minimum(np.searchsorted(kept, buckets), len(kept) - 1)
        found = kept[at] == buckets
        before = np.concatenate([[0], np.cumsum(found)])
        return rows[at[found]] + len(self.words), before[ends]


class Dense:
    """A matrix of float32, mapped or in memory.

    Parameters
    ----------
    array : numpy.ndarray, shape (m, d), float32
    """

    def __init__(self, array):
        self.array = array
        self.in_memory = array.flags.owndata

    def rows(self, ids):
        """Return rows, shape (k, d), float32."""
        return np.asarray(self.array[ids])

    def copy(self, start, stop, out):
        """Write the rows `start` to `stop` to `out`."""
        out[:] = self.array[start:stop]

    def add(self, ids, ends, out):
        """Add rows to those of `out`, as `embshrink.kernels.subwords.add_rows`."""
        from embshrink.kernels.subwords import add_rows

        add_rows(self.array, ids, ends, out)


class Quantized:
    """A matrix as product quantization codes, and maybe the rows' lengths as codes.

    Parameters
    ----------
    codes : numpy.ndarray, shape (m, subspaces), uint8
    codebooks : list of numpy.ndarray, shape (256, columns), float32
        One for each subspace; the last may have fewer columns.
    norm_codes : numpy.ndarray, shape (m,), uint8, or None
    norms : numpy.ndarray, shape (256,), float32, or None
    """

    in_memory = False

    def __init__(self, codes, codebooks, norm_codes, norms):
        self.codes = codes
        self.codebooks = codebooks
        self.norm_codes = norm_codes
        self.norms = norms
        self._dim = sum(book.shape[1] for book in codebooks)

    def rows(self, ids):
        """Return rows, shape (k, d), float32."""
        codes = np.asarray(self.codes[ids])
        out = np.empty((len(codes), self._dim), dtype=np.float32)
        column = 0
        for subspace, book in enumerate(self.codebooks):
            out[:, column : column + book.shape[1]] = book[codes[:, subspace]]
            column += book.shape[1]
        if self.norm_codes is not None:
            with np.errstate(over="ignore"):
                out *= self.norms[self.norm_codes[ids]][:, None]
        return out

    def copy(self, start, stop, out):
        """Write the rows `start` to `stop` to `out`."""
        step = max(1, DECODED // self._dim)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            out[first - start : last - start] = self.rows(slice(first, last))

    def add(self, ids, ends, out):
        """Add rows to those of `out`, as `embshrink.kernels.subwords.add_rows`."""
        from embshrink.kernels.subwords import add_rows

        step = max(1, DECODED // self._dim)
        for first in range(0, len(ids), step):
            decoded = self.rows(ids[first : first + step])
            add_rows(decoded, np.arange(len(decoded)), np.clip(ends - first, 0, len(decoded)), out)


# ---------------------------------------------------------------- reading


def load_model(stream, options, progress=None):
    """Read a model from a stream; see `open_model`."""
    cursor = _Cursor(stream, progress)
    version, args = _read_args(cursor)
    if args["model"] == SUPERVISED and version < WITH_SUBWORDS:
        args["maxn"] = 0
    nwords, nlabels, kept = _read_sizes(cursor, version, args)
    words, entries, places = _read_entries(cursor, nwords, nlabels)
    rows = nwords + (args["bucket"] if kept < 0 else kept)
    pruned = None if kept < 0 else _read_pruned(cursor, kept, args["bucket"])
    quantized = version > 0 and cursor.flag("whether the model is quantized")
    if pruned and not quantized:
        raise cursor.error("n-grams are pruned and the matrix is not quantized, which fastText's early .ftz files "
                           "did wrongly", cursor.offset - 1, "Fetch the model anew from where it was published.")
    table = (_read_quantized if quantized else _read_dense)(cursor, args["dim"], "the input matrix", rows)
    cut = not _pass_output(cursor, quantized, version, args["dim"], options.allow_truncated)
    return FastTextModel(version, args, Words(words[:nwords]), entries["count"][:nwords], places[:nwords],
                         words[nwords:], args["minn"], args["maxn"], args["bucket"], pruned, table, cut)


class _Cursor:
    """The content from front to back; each length is checked against the bytes that are there."""

    def __init__(self, stream, progress):
        self.path = stream.path
        self.offset = 0  # the byte that comes next
        self.ended = False  # an error says that the file ends early
        self._stream = stream
        self._progress = progress
        self._ahead = b""
        mapped = stream.file_path is not None and stream.packed is None and stream.content_size is not None
        self._map_path = stream.file_path if mapped else None

    def error(self, problem, byte, hint=_DAMAGED, **details):
        return SourceError(problem, path=self.path, where=f"byte {byte}", **details, hint=hint)

    def check(self, right, problem, byte, expected, found, hint=_DAMAGED):
        """Refuse the file unless `right`."""
        if not right:
            raise self.error(problem, byte, hint, expected=expected, found=found)

    def require(self, count, what):
        """Refuse the file if it is known to end within the next `count` bytes."""
        size = self._stream.content_size
        if size is not None and count > size - self.offset:
            raise self._ends(what, self.offset, count, size - self.offset)

    def _ends(self, what, byte, expected, found):
        self.ended = True
        return self.error(f"the file ends in {what}", byte, _CUT, expected=plural(expected, "byte"), found=found)

    def some(self, count):
        """Return the next `count` bytes, fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self._into(memoryview(data))])

    def back(self, data):
        """Put bytes just taken back."""
        self._ahead = data + self._ahead
        self.offset -= len(data)

    def _into(self, view):
        ready = min(len(self._ahead), len(view))
        view[:ready] = self._ahead[:ready]
        self._ahead = self._ahead[ready:]
        count = ready + self._stream.readinto(view[ready:])
        self.offset += count
        if self._progress:
            self._progress("read", self._stream.done, self._stream.size)
        return count

    def unpack(self, layout, what):
        """Return the numbers of a `struct` layout."""
        size = struct.calcsize(layout)
        self.require(size, what)
        start = self.offset
        data = self.some(size)
        if len(data) < size:
            raise self._ends(what, start, size, len(data))
        return struct.unpack(layout, data)

    def flag(self, what):
        """Return a byte that is 0 or 1."""
        (value,) = self.unpack("<B", f"the byte that says {what}")
        self.check(value < 2, f"the byte that says {what} is not possible", self.offset - 1, "0 or 1", value)
        return value == 1

    def array(self, shape, dtype, what, mapped=True):
        """Return the array that comes next: mapped where that can be, else in memory.

        Memory is asked for as bytes arrive, never because a header promises them.
        """
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        total = count * dtype.itemsize
        self.require(total, what)
        start = self.offset
        if mapped and self._map_path is not None:
            self.skip(total, what)
            return self._map(start, shape, dtype, what)
        values = np.empty(min(count, PIECE), dtype)
        done = 0
        while done < count:
            if done == len(values):
                values.resize(min(count, 2 * done), refcheck=False)
            piece = values[done : done + PIECE].view(np.uint8)
            if self._into(memoryview(piece)) < len(piece):
                raise self._ends(what, start, total, self.offset - start)
            done += len(piece) // dtype.itemsize
            del piece
        values.resize(shape, refcheck=False)
        return values

    def _map(self, start, shape, dtype, what):
        try:
            return np.asarray(np.memmap(self._map_path, dtype, "r", start, shape))
        except (OSError, ValueError) as error:  # the file was replaced meanwhile, or is too large for this system
            raise self.error(f"{what} cannot be mapped: {error}", start,
                             "Check that nothing else writes to the file.") from error

    def skip(self, total, what):
        """Pass over bytes, which are hashed as they go by."""
        self.require(total, what)
        start = self.offset
        view = memoryview(bytearray(min(total, PIECE)))
        while self.offset - start < total:
            part = view[: total - (self.offset - start)]
            if self._into(part) < len(part):
                raise self._ends(what, start, total, self.offset - start)


def _read_args(cursor):
    """Return version and arguments."""
    version = 0
    first = cursor.some(4)
    if first == MAGIC:
        (version,) = cursor.unpack("<i", "the version")
        cursor.check(version in (11, 12), "the version of the model is not one we know", 4, "11 or 12", version,
                     "It may be of a newer fastText: write its vectors with fasttext print-word-vectors.")
    else:
        cursor.back(first)
    start = cursor.offset
    args = dict(zip(ARGS, cursor.unpack("<12id", "its arguments")))
    check_dim(args["dim"], cursor.path, f"byte {start}")
    for name, least, most, what in (
        ("loss", 1, 4, "the loss it was trained with"),
        ("model", 1, 3, "the kind of model"),
        ("bucket", 0, 2**31 - 1, "the number of buckets"),
        ("minn", 0, MAX_NGRAM, "the length of the shortest n-grams"),
        ("maxn", 0, MAX_NGRAM, "the length of the longest n-grams"),
    ):
        cursor.check(least <= args[name] <= most, f"{what} is not possible", start + 4 * ARGS.index(name),
                     f"{least} to {most}", args[name])
    return version, args


def _read_sizes(cursor, version, args):
    """Return the number of words, of labels, and of buckets kept by pruning, or -1."""
    start = cursor.offset
    size, nwords, nlabels, args["ntokens"], *kept = cursor.unpack("<3iqq" if version else "<3iq",
                                                                  "the sizes of its dictionary")
    hint = _DAMAGED
    (hashes,) = struct.unpack("<i4x", struct.pack("<d", args["t"]))
    if args["lrUpdateRate"] in (1, 2) and hashes in (1, 2, 3, 4):  # floret puts its mode and this in front of them
        hint = "This looks like a model of floret, which we do not read: write its vectors as text."
    cursor.check(size == nwords + nlabels and nwords >= 0 <= nlabels,
                 "the numbers of words and labels contradict each other", start, "entries = words + labels",
                 f"{size} = {nwords} + {nlabels}", hint)
    cursor.check(nwords > 0, "the model holds no words", start + 4, "1 or more", nwords)
    kept = kept[0] if kept else -1
    cursor.check(-1 <= kept <= args["bucket"], "the number of n-grams kept by pruning is not possible", start + 20,
                 f"-1 to {args['bucket']}", kept)
    cursor.require(10 * size + 8 * max(0, kept), f"its dictionary of {size} entries")
    return nwords, nlabels, kept


def _read_entries(cursor, nwords, nlabels):
    """Return words and labels, their counts and kinds, and where each stands."""
    size = nwords + nlabels
    first = cursor.offset
    words, tails = [], []
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
                     f"the word of entry {len(words) + 1} never ends", cursor.offset,
                     f"a NUL byte within {MAX_WORD} bytes", show(chunk[start : start + 24]))
        if len(chunk) < PIECE:
            raise cursor.error(f"the file ends in entry {len(words) + 1} of its dictionary", cursor.offset, _CUT,
                               expected=f"{size} entries", found=f"{len(words)} and {plural(rest, 'byte')}")
    entries = np.frombuffer(b"".join(tails), dtype=_ENTRY)
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=size)
    places = first + np.cumsum(lengths + 10) - (lengths + 10)
    for bad, problem, expected, value in (
        (lengths > MAX_WORD, "the word is too long", f"at most {MAX_WORD} bytes", lengths),
        (entries["count"] < 0, "the count of the word is negative", "0 or more", entries["count"]),
        ((entries["kind"] | 1) != 1, "the entry is neither word nor label", "0 or 1", entries["kind"]),
        (entries["kind"] != (np.arange(size) >= nwords), "words and labels are not where the header says",
         f"{plural(nwords, 'word')}, then {plural(nlabels, 'label')}", entries["kind"]),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise cursor.error(f"entry {row + 1} of its dictionary, {show(words[row])}: {problem}", int(places[row]),
                               expected=expected, found=int(value[row]))
    return words, entries, places


def _read_pruned(cursor, kept, bucket):
    """Return the buckets kept, ascending, and the row of each among the n-grams."""
    start = cursor.offset
    pairs = cursor.array((kept, 2), "<i4", "its list of n-grams kept", mapped=False).astype(np.int64)
    for column, end, what in ((0, bucket, "the bucket"), (1, kept, "the row")):
        bad = np.flatnonzero((pairs[:, column] < 0) | (pairs[:, column] >= end))
        if len(bad):
            raise cursor.error(f"{what} of n-gram {bad[0] + 1} of those kept is not possible",
                               start + 8 * int(bad[0]) + 4 * column, expected=f"0 to {end - 1}",
                               found=int(pairs[bad[0], column]))
    buckets, rows = np.ascontiguousarray(pairs[np.argsort(pairs[:, 0], kind="stable")].T)
    twice = buckets[1:][np.diff(buckets) == 0]
    if len(twice):
        raise cursor.error("a bucket is among the n-grams kept twice", start, expected="distinct buckets",
                           found=int(twice[0]))
    return buckets, rows


def _read_shape(cursor, dim, what, rows=None):
    """Return the rows a matrix has, after checking them, if `rows` is given, and its columns."""
    start = cursor.offset
    m, n = cursor.unpack("<2q", f"the sizes of {what}")
    if rows is None:
        cursor.check(m >= 0, f"the number of rows of {what} is not possible", start, "0 or more", m)
    else:
        cursor.check(m == rows, f"the number of rows of {what} is not that of words and n-grams", start, rows, m)
    cursor.check(n == dim or m == 0, f"the number of columns of {what} is not the dimension", start + 8, dim, n)
    return m


def _read_dense(cursor, dim, what, rows):
    _read_shape(cursor, dim, what, rows)
    return Dense(cursor.array((rows, dim), "<f4", what).astype(np.float32, copy=False))


def _read_quantized(cursor, dim, what, rows=None):
    with_norms = cursor.flag(f"whether the norms of {what} are apart")
    rows = _read_shape(cursor, dim, what, rows)
    start = cursor.offset
    (size,) = cursor.unpack("<i", f"the size of the codes of {what}")
    subspaces = size // max(rows, 1)
    cursor.check(1 <= subspaces <= dim and size == rows * subspaces,
                 f"the size of the codes of {what} is not possible", start, f"{rows} times 1 to {dim}", size)
    codes = cursor.array((rows, subspaces), np.uint8, f"the codes of {what}")
    codebooks = _read_codebooks(cursor, dim, subspaces, what)
    if not with_norms:
        return Quantized(codes, codebooks, None, None)
    norm_codes = cursor.array((rows,), np.uint8, f"the norms of {what}")
    (norms,) = _read_codebooks(cursor, 1, 1, f"the norms of {what}")
    return Quantized(codes, codebooks, norm_codes, norms[:, 0])


def _read_codebooks(cursor, dim, subspaces, what):
    """Return a quantizer's codebooks, a (256, columns) float32 array for each subspace."""
    start = cursor.offset
    found = cursor.unpack("<4i", f"the quantizer of {what}")
    width = found[2]
    cursor.check(1 <= width <= dim, f"the columns of a subspace of {what} are not possible", start + 8, f"1 to {dim}",
                 width)
    count = -(-dim // width)
    expected = (dim, count, width, dim - (count - 1) * width)
    for i, name in enumerate(("number of columns", "number of subspaces", "", "width of the last subspace")):
        cursor.check(found[i] == expected[i], f"the {name} of the quantizer of {what} does not fit", start + 4 * i,
                     expected[i], found[i])
    cursor.check(subspaces == count, f"the codes of {what} are not as many as its quantizer needs", start + 4,
                 count, subspaces)
    start = cursor.offset
    centroids = cursor.array((dim * CENTROIDS,), "<f4", f"the centroids of {what}", mapped=False)
    centroids = centroids.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(centroids))
    if len(bad):
        raise cursor.error(f"a centroid of {what} is not finite", start + 4 * int(bad[0]), expected="a finite number",
                           found=float(centroids[bad[0]]))
    return [part.reshape(CENTROIDS, -1) for part in np.split(centroids, np.arange(1, count) * width * CENTROIDS)]


def _pass_output(cursor, quantized, version, dim, allow_truncated):
    """Check the lengths of the output matrix, which is not needed; return whether it is whole."""
    what = "the output matrix"
    try:
        quantized = bool(version) and cursor.flag("whether the output matrix is quantized") and quantized
        if quantized:
            _read_quantized(cursor, dim, what)
        else:
            cursor.skip(4 * dim * _read_shape(cursor, dim, what), what)
    except SourceError:
        if allow_truncated and cursor.ended:
            return False
        raise
    cursor.check(not cursor.some(1), "bytes follow the model", cursor.offset - 1, "the end of the file", "more bytes")
    return True
