"""fastText's models: ``.bin`` and ``.ftz`` read, and ``.bin`` written, without fastText.

A model is: magic and version, 13 arguments, a dictionary, the input matrix (a row for each word,
then one for each bucket of n-grams), the output matrix. A word's vector is the mean of its own row
and those of its n-grams. A ``.ftz`` holds the matrices as product quantization codes, and often
only some of the buckets. Models of 2016 have no magic and neither quantize nor prune. Source:
fastText's ``FastText::loadModel``, ``Dictionary::load``, ``QuantMatrix::load``; what is written is
also what gensim's ``load_facebook_vectors`` and ``load_facebook_model`` take.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.io.cursor import CUT, PIECE, Cursor
from embshrink.formats.io.table_builder import MAX_WORD, check_count, check_dim, plural, settle, show
from embshrink.numerics.arrays import as_matrix, first_nonfinite
from embshrink.numerics.parallel import map_blocks
from embshrink.vocabulary.ngram_hashing import all_bucket_ids, bucket_ids
from embshrink.vocabulary.words import Words, to_bytes

MAGIC = struct.pack("<i", 793712314)
ARGS = ("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn",
        "lrUpdateRate", "t")
SKIPGRAM, SUPERVISED = 2, 3
SOFTMAX = 3
WITH_SUBWORDS = 12  # the first version whose supervised models have character n-grams
MAX_NGRAM = 100
CENTROIDS = 256
BLOCK = 1 << 18  # n-grams looked up at a time
DECODED = 1 << 22  # numbers decoded at a time
WRITTEN = 1 << 23  # numbers of n-gram rows summed up at a time
MAX_ROWS = 2**31 - 1  # fastText numbers rows by int32

_ENTRY = np.dtype([("count", "<i8"), ("kind", "i1")])


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
    check_count(len(model.words), options, stream.path)
    words = model.words.raw[: options.limit]
    places = model.places[: options.limit]
    matrix = model.word_vectors(len(words), overwrite=True, progress=progress)
    return *settle(words, matrix, places, options, stream.path, warnings), warnings


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
    from embshrink.formats.io.stream import open_source

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
        As for `embshrink.vocabulary.ngram_hashing.bucket_ids`.
    pruned : tuple of numpy.ndarray, shape (k,), int64; or None
        Buckets that were kept, ascending, and the row of each. None if all were.
    table : Dense, OnDisk or Quantized
        The input matrix.
    cut : bool
        The output matrix is incomplete.
    spool : embshrink.storage.disk_rows.Spool, optional
        Where vectors go that are too many for memory.
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
    table: Dense | OnDisk | Quantized
    cut: bool
    spool: object = None

    codes = None  # a word's vector is a mean, which no codes of its rows are

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
        numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (n, d), float32
        """
        words = self.words.raw[:limit]
        n = len(words)
        overwrite = overwrite and self.table.in_memory
        out = self.table.array[:n] if overwrite else self._room(n)
        most = np.fromiter(map(len, words), dtype=np.int64, count=n)  # n-grams a word may have, and itself
        most = np.cumsum((most + 2) * self.maxn + 1)
        bounds = np.searchsorted(most, np.arange(BLOCK, most[-1], BLOCK), side="right")
        bounds = np.unique(np.concatenate([[0], bounds, [n]])).tolist()
        done = 0

        def average(first, _):
            start, stop = bounds[first : first + 2]
            block = out[start:stop] if overwrite else np.empty((stop - start, self.dim), np.float32)
            if not overwrite:
                self.table.copy(start, stop, block)
            ids, ends = self._ngram_rows(*all_bucket_ids(words[start:stop], self.minn, self.maxn, self.bucket))
            with np.errstate(over="ignore", invalid="ignore"):
                self.table.add(ids, ends, block)
                counts = 1 + np.diff(ends, prepend=0)
                block *= (1 / counts).astype(np.float32)[:, None]
            if not overwrite:
                out[start:stop] = block

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

    def _room(self, n):
        if self.spool is not None:
            return self.spool.empty((n, self.dim))
        return np.empty((n, self.dim), dtype=np.float32)

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


class OnDisk:
    """A matrix of float32 that is too large for memory.

    Parameters
    ----------
    array : embshrink.storage.disk_rows.Rows, shape (m, d)
    """

    in_memory = False

    def __init__(self, array):
        self.array = array

    def rows(self, ids):
        """Return rows, shape (k, d), float32."""
        return self.array[ids]

    def copy(self, start, stop, out):
        """Write the rows `start` to `stop` to `out`."""
        out[:] = self.array[start:stop]

    def add(self, ids, ends, out):
        """Add rows to those of `out`, as `embshrink.kernels.subwords.add_rows`."""
        _add_in_parts(self, ids, ends, out)


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
        _add_in_parts(self, ids, ends, out)


def _add_in_parts(table, ids, ends, out):
    """Add rows of a table that has no array of them, some thousand at a time, each taken from it once."""
    from embshrink.kernels.subwords import add_rows

    step = max(1, DECODED // out.shape[1])
    for first in range(0, len(ids), step):
        distinct, which = np.unique(ids[first : first + step], return_inverse=True)
        add_rows(table.rows(distinct), which, np.clip(ends - first, 0, len(which)), out)


# ---------------------------------------------------------------- reading


def load_model(stream, options, progress=None):
    """Read a model from a stream; see `open_model`."""
    cursor = Cursor(stream, progress, "fastText model")
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
    if quantized:
        table = _read_quantized(cursor, args["dim"], "the input matrix", rows)
    else:
        table = _read_dense(cursor, args["dim"], "the input matrix", rows, options.spool)
    cut = not _pass_output(cursor, quantized, version, args["dim"], options.allow_truncated)
    return FastTextModel(version, args, Words(words[:nwords]), entries["count"][:nwords], places[:nwords],
                         words[nwords:], args["minn"], args["maxn"], args["bucket"], pruned, table, cut,
                         options.spool)


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
    hint = cursor.damaged
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
            raise cursor.error(f"the file ends in entry {len(words) + 1} of its dictionary", cursor.offset, CUT,
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


def _read_dense(cursor, dim, what, rows, spool=None):
    _read_shape(cursor, dim, what, rows)
    if spool is not None and not spool.fits(4 * rows * dim):
        return OnDisk(cursor.rows((rows, dim), what, spool))
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


# ---------------------------------------------------------------- writing


def write(file, outgoing):
    """Write a dense model, with the n-grams that the embeddings have; see `embshrink.formats.write_vectors`.

    fastText takes the mean of a word's own row and those of its k n-grams. We have that mean, so a word's row is
    1 + k times its vector, less the rows of its n-grams.

    The output matrix has no rows: it serves further training only, for which we have nothing. The loss is softmax
    without negative samples, for which fastText builds no tree or table over the words when it loads, and with
    which gensim refuses to train rather than read past that matrix. Counts, which we do not have either, are
    n * n / rank: they fall as Zipf's law says, and no two are equal.

    Raises
    ------
    TargetError
        If a word holds a NUL byte, a row would not be finite, or the n-grams are floret's.
    FormatError
        If the n-grams are damaged.
    """
    raw, dim, n = outgoing.words.raw, outgoing.dim, len(outgoing.words)
    subwords = getattr(outgoing.embeddings, "subwords", None)
    minn = maxn = bucket = 0
    if subwords is not None:
        hashing = subwords.hashing
        if hashing.floret is not None:
            raise TargetError("floret's n-grams are hashed in a way that a fastText model cannot tell",
                              hint="Write the format floret, or text for words alone.")
        minn, maxn, bucket = hashing.minn, hashing.maxn, hashing.bucket
    if n + bucket > MAX_ROWS:
        raise TargetError("fastText cannot number so many rows", expected=f"at most {MAX_ROWS}",
                          found=f"{plural(n, 'word')} and {plural(bucket, 'bucket')} of n-grams")
    args = {"dim": dim, "ws": 5, "epoch": 5, "minCount": 1, "neg": 0, "wordNgrams": 1, "loss": SOFTMAX,
            "model": SKIPGRAM, "bucket": bucket, "minn": minn, "maxn": maxn, "lrUpdateRate": 100, "t": 1e-4}
    file.write(MAGIC + struct.pack("<i12id", WITH_SUBWORDS, *(args[name] for name in ARGS)))
    entries = np.zeros(n, _ENTRY)
    entries["count"] = n * n // np.arange(1, n + 1, dtype=np.int64)
    file.write(struct.pack("<3i2q", n, n, 0, int(entries["count"].sum()), -1))
    for start in range(0, n, BLOCK):
        words = raw[start : start + BLOCK]
        for word in words:
            if b"\0" in word:
                raise TargetError(f"the word {show(word)} holds a NUL byte, which a fastText model cannot hold",
                                  hint="Leave the word out.")
        tails = entries[start : start + BLOCK].view("V9").tolist()  # bytes
        file.write(b"".join([b"%b\0%b" % pair for pair in zip(words, tails)]))
    file.write(struct.pack("<?2q", False, n + bucket, dim))
    ngrams = None if subwords is None else _Ngrams(subwords)
    start = 0
    for block in outgoing.blocks:
        words = raw[start : start + len(block)]
        rows = block if ngrams is None else _own_rows(block, words, ngrams)
        file.write(rows.astype("<f4", copy=False).tobytes())
        start += len(block)
    for _, block in () if subwords is None else subwords.blocks():
        file.write(as_matrix(block, "the n-gram table").astype("<f4", copy=False).tobytes())
    file.write(struct.pack("<?2q", False, 0, dim))


def _own_rows(vectors, words, ngrams):
    """Return the rows, (n, d) float32, that with the rows of their n-grams make the words' finished vectors."""
    counts, sums = ngrams.sums(words)
    with np.errstate(over="ignore"):
        rows = ((1 + counts)[:, None] * vectors.astype(np.float64) - sums).astype(np.float32)
    bad = first_nonfinite(rows)
    if bad >= 0:
        raise TargetError(f"the row of the word {show(words[bad])} is too large for float32",
                          hint="Its vector and those of its n-grams are far larger than vectors are: check them.")
    return rows


class _Ngrams:
    """Sums of the n-gram rows of many words.

    Parameters
    ----------
    subwords : embshrink.vocabulary.ngram_rows.Subwords
    """

    def __init__(self, subwords):
        self._hashing = subwords.hashing
        self._table = subwords.rows
        # No n-gram falls into the last, so that every search ends at one.
        self._buckets = np.append(subwords.ids(), self._hashing.bucket)

    def sums(self, words):
        """Return how many n-grams each word has, (n,) int64, and the sum of their rows, (n, d) float64."""
        from embshrink.kernels.subwords import add_rows

        dim = self._table.vector_size
        sums = np.zeros((len(words), dim))
        buckets, ends = all_bucket_ids(words, self._hashing.minn, self._hashing.maxn, self._hashing.bucket)
        counts = np.diff(ends, prepend=0)
        rows = np.searchsorted(self._buckets, buckets)
        found = self._buckets[rows] == buckets
        rows, ends = rows[found], np.concatenate([[0], np.cumsum(found)])[ends]
        step = max(1, WRITTEN // dim)
        for first in range(0, len(rows), step):
            distinct, places = np.unique(rows[first : first + step], return_inverse=True)
            decoded = as_matrix(self._table.decode_ids(distinct), "the n-gram table")
            add_rows(decoded, places, np.clip(ends - first, 0, len(places)), sums)
        return counts, sums
