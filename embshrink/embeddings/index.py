"""Indexes in memory, which find the few rows that may be nearest to a vector, so that only these are decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from embshrink.embeddings import plain_scan
from embshrink.numerics.arrays import ranges
from embshrink.numerics.compiled import can_compile, numba_installed
from embshrink.numerics.parallel import map_blocks, run_blocks, thread_count

LEAST_ROWS = 20_000  # decoding fewer rows takes less time than making an index
LEAST_ROWS_UNCOMPILED = 1_000  # the same without numba
MOST_BYTES = 1 << 30
PAGE = 1 << 21
PIECE_BYTES = 1 << 22  # least work of a thread: with less, starting it would take longer than its work
MOST_FOUND = 1000
SHORTEST, LONGEST = 1e-15, 1e15  # lengths whose squares float32 holds with full precision
ALIGNED = 128  # rows: pieces of work begin at a multiple, so that no block of codes is split
MOST_CODES = 512  # bytes per row, up to which sums fit 16 bits
ALL = np.zeros(0, bool)  # stands for: all rows are eligible
UNIT = 2.0**-24  # largest relative rounding error of float32

if TYPE_CHECKING:
    from embshrink.embeddings.protocols import LookupTable
    from embshrink.methods.base import SmallCodes
    from embshrink.methods.pipeline import Stored
    from embshrink.storage.arrays import AnyArray, BoolArray, FloatArray, IntArray, Shape

    class IndexedTable(LookupTable, Protocol):
        """The attributes and methods of a table that an index uses."""

        @property
        def n_rows(self) -> int:
            """Number of stored rows."""

        @property
        def block_rows(self) -> int:
            """Number of rows to decode at a time."""

        @property
        def stored(self) -> Stored | None:
            """Codes and state, if rows are decoded from these."""

        def decode_rows(self, rows: IntArray, /) -> FloatArray:
            """Return stored rows, (k, d), given their numbers."""


# scan(start, stop, best, rows, uppers, found): a kernel, for all queries
Scan: TypeAlias = "Callable[[int, int, FloatArray, IntArray, FloatArray, IntArray], object]"


def make_index(table: IndexedTable) -> Index | None:
    """Return the smallest index that a table can have; None if it would take more than 1 GiB."""
    rows = _make_row_index(table)
    return None if rows is None else Index(table, rows)


def _make_row_index(table: IndexedTable) -> RowIndex | CodeIndex | None:
    kind = RowIndex if can_compile() else PlainRowIndex
    small = _small_codes_of(table.stored) if kind is RowIndex else None
    if small is not None and table.n_rows * CodeIndex.bytes_per_row(small) <= MOST_BYTES:
        index = CodeIndex(table, small)
        if index.usable:
            return index
    if table.n_rows * kind.bytes_per_row(table.vector_size) > MOST_BYTES:
        return None
    if kind is PlainRowIndex and table.n_rows >= LEAST_ROWS:
        import logging

        logging.getLogger("embshrink").warning(
            "numba is not installed: the first search is slow, because it decodes all %s rows with numpy and makes "
            "an index of them; later searches are fast", f"{table.n_rows:,}")
    return kind(table)


def least_rows() -> int:
    """Return the smallest number of rows of which an index is worth making."""
    return LEAST_ROWS if numba_installed() else min(LEAST_ROWS, LEAST_ROWS_UNCOMPILED)


def _small_codes_of(stored: Stored | None) -> SmallCodes | None:
    """Return the `SmallCodes` of a stored table; None if it has none, or if this processor cannot look them up."""
    if stored is None or stored.columns:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # in codebook entries that no row uses
        small = stored.codec.small_codes(stored.codes, stored.state)
    if small is None or small.bytes_per_row > MOST_CODES or not _can_shuffle(small.bits):
        return None
    # A table lookup takes longer than a multiplication: with more codes, searching rows of numbers is faster.
    return None if small.bits == 8 and 2 * small.bytes_per_row > stored.dim else small


def _can_shuffle(bits: int) -> bool:
    """Return whether numba compiles here, and the processor looks up many codes of `bits` bits at once."""
    from embshrink.kernels import compiled_for

    return compiled_for("avx2" if bits == 4 else "avx512vbmi")


def _zeros(shape: Shape, dtype: type[np.generic]) -> AnyArray:
    """Return zeros that are aligned to a large page of memory, so that a scan crosses few pages.

    This reserves 2 MiB more than the array, which are never touched.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    whole = np.zeros(size + PAGE, np.uint8)  # numpy asks for large pages, and gets those that it fills
    start = -whole.ctypes.data % PAGE
    return whole[start : start + size].view(dtype).reshape(shape)


class Index:
    """What search keeps in memory: an index of the rows, the words of each row, and unpacked words.

    Parameters
    ----------
    table : IndexedTable
        The table.
    rows : RowIndex or CodeIndex
        The index of its rows.

    Notes
    -----
    In addition to the index of the rows, it takes 4 bytes per word and 8 bytes per row if words share rows, and about
    20 bytes per word if words are packed (see `PackedWords.unpack`).
    """

    def __init__(self, table: IndexedTable, rows: RowIndex | CodeIndex) -> None:
        self.rows = rows
        self.words = None if table.row_map is None else WordsOfRows(table.row_map, table.scale, table.n_rows)
        table.words.unpack()

    def candidates(self, queries: FloatArray, count: int, start: int, stop: int) -> list[IntArray | None]:
        """Return, for each query, the rows that may belong to the nearest words, ascending.

        Parameters
        ----------
        queries : numpy.ndarray of float32, shape (q, dim)
            Unit vectors.
        count : int
            The rows of the `count` nearest words are among the result, with all that tie with the last one.
        start, stop : int
            Search only the words with ids from `start` to ``stop - 1``.

        Returns
        -------
        list of numpy.ndarray of int64, or of None
            None if all rows must be decoded: if `count` is above 1000, or if the query is not a unit vector, because
            it is zero, or too long or short for float32.
        """
        found: list[IntArray | None] = [None] * len(queries)
        usual = [place for place, query in enumerate(queries) if 0.999 < float(query @ query) < 1.001]
        if count > MOST_FOUND or not usual:
            return found
        eligible: BoolArray = ALL
        if self.words is not None:
            eligible, start, stop = self.words.eligible(start, stop), 0, self.rows.n
        asked = queries if len(usual) == len(queries) else queries[usual]
        for place, rows in zip(usual, self.rows.candidates(asked, count, start, stop, eligible)):
            found[place] = rows
        return found


class WordsOfRows:
    """The words of each row, and separately the words with a scale of 0, whose vectors are zero.

    Parameters
    ----------
    row_map : numpy.ndarray of unsigned integers, shape (n,)
        The row of each word.
    scale : numpy.ndarray of float32, shape (n,), or None
        The factor of each word by which its row is multiplied; None if all are 1.
    n_rows : int
        Number of rows.
    """

    def __init__(self, row_map: AnyArray, scale: FloatArray | None, n_rows: int) -> None:
        self._row_map, self._scale, self._n_rows = row_map, scale, n_rows
        zero = np.zeros(len(row_map), bool) if scale is None else scale == 0
        self.zeros, ids = np.flatnonzero(zero), np.flatnonzero(~zero)
        self.starts = np.append(0, np.cumsum(np.bincount(row_map[ids], minlength=n_rows)))
        self.ids = ids[np.argsort(row_map[ids], kind="stable")].astype(np.uint32)
        self._last: tuple[tuple[int, int], BoolArray] | None = None

    def eligible(self, start: int, stop: int) -> BoolArray:
        """Return which rows have a word with an id from `start` to ``stop - 1``, (rows,) bool; cached.

        The result is empty if all rows have one.
        """
        if self._last is None or self._last[0] != (start, stop):
            rows = self._row_map[start:stop]
            if self._scale is not None:
                rows = rows[self._scale[start:stop] != 0]
            found = np.zeros(self._n_rows, bool)
            found[rows] = True
            self._last = (start, stop), ALL if found.all() else found
        return self._last[1]

    def spread(
        self, rows: IntArray, cosines: FloatArray, start: int, stop: int, count: int
    ) -> tuple[IntArray, FloatArray]:
        """Return the ids of the words of some rows, ascending, and their cosines.

        Parameters
        ----------
        rows, cosines : numpy.ndarray, shape (k,)
            Numbers of the rows, and their cosines.
        start, stop : int
            Return only ids from `start` to ``stop - 1``.
        count : int
            Largest number of words with a zero vector to return.
        """
        firsts, lengths = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        ids = self.ids[ranges(firsts, lengths)].astype(np.int64)
        cosines = np.repeat(cosines, lengths)
        inside = (ids >= start) & (ids < stop)
        first = np.searchsorted(self.zeros, start)
        zeros = self.zeros[first : min(first + count, np.searchsorted(self.zeros, stop))]
        ids = np.concatenate([ids[inside], zeros])
        cosines = np.concatenate([cosines[inside], np.zeros(len(zeros), np.float32)])
        order = np.argsort(ids)
        return ids[order], cosines[order]


def _best_rows(scan: Scan, queries: int, count: int, start: int, stop: int, width: int) -> list[IntArray | None]:
    """Run a scan on all threads; return, for each query, the rows that may be among the nearest, ascending.

    Parameters
    ----------
    scan : callable
        ``scan(start, stop, best, rows, uppers, found)``, a kernel of embshrink/kernels/, for all queries. It sets
        ``found`` to -1 for a query that it cannot answer.
    queries : int
        Number of queries.
    count : int
        The `count` rows with the highest cosine are among the result.
    start, stop : int
        Search only the rows from `start` to ``stop - 1``.
    width : int
        Bytes per row, by which work is divided.

    Returns
    -------
    list of numpy.ndarray of int64, or of None
        None for a query that the scan cannot answer.
    """
    count = min(count, stop - start)
    if count < 1:
        return [np.zeros(0, np.int64)] * queries
    origin = start // ALIGNED * ALIGNED
    n = stop - origin
    pieces = max(1, min(queries * n * width // PIECE_BYTES, thread_count()))  # the result is the same
    reached: list[FloatArray] = []  # for each piece that is done, the cosine of its last neighbour

    def work(first: int, last: int) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
        first, last = max(origin + first, start), origin + last
        best, found = np.full((queries, count), -np.inf, np.float32), np.empty(queries, np.int64)
        rows, uppers = np.empty((queries, last - first), np.int64), np.empty((queries, last - first), np.float32)
        if reached:
            best[:] = np.max(reached, axis=0)[:, None]
        scan(first, last, best, rows, uppers, found)
        reached.append(best[:, -1])
        return best, rows, uppers, found

    if pieces == 1:
        _, rows, _, found = work(0, n)
        return [own[:many] if many >= 0 else None for own, many in zip(rows, found.tolist())]
    parts = run_blocks(work, n, -(-n // pieces // ALIGNED) * ALIGNED)
    limits = np.partition(np.concatenate([best for best, *_ in parts], axis=1), -count, axis=1)[:, -count]
    answers: list[IntArray | None] = []
    for q, limit in enumerate(limits):
        if any(found[q] < 0 for *_, found in parts):
            answers.append(None)
            continue
        own = [rows[q, : found[q]][uppers[q, : found[q]] >= limit] for _, rows, uppers, found in parts]
        answers.append(np.concatenate(own))
    return answers


class RowIndex:
    """All stored rows at 8 bits per dimension: dim + 8 bytes per row, and one more if dim is odd.

    Parameters
    ----------
    table : IndexedTable
        Decoded once, block by block.

    Notes
    -----
    A row x of length 1 is held as ``s * c + r`` with whole numbers c; of the remainder r only the length is kept. For
    every unit vector q, r . q is at most that length. So each cosine is known to lie between two limits. Rows that
    cannot be among the nearest are skipped, and the others are decoded: the result is that of decoding all rows.
    """

    def __init__(self, table: IndexedTable) -> None:
        from embshrink.kernels.scan import ROWS, encode_rows

        n, dim = self.n, self._dim = table.n_rows, table.vector_size
        self.codes = _zeros((-(-n // ROWS), -(-dim // 2), ROWS, 2), np.int8)
        self.scales = np.empty(n, np.float32)
        self.bounds = np.empty(n, np.float32)
        margin = (2 * dim + 32) * UNIT  # rounding error of float32 in the cosine, (1.5 dim + 3), and in the limits

        def encode(start: int, stop: int) -> None:
            vectors = np.ascontiguousarray(table.decode_rows(np.arange(start, stop)))
            encode_rows(vectors, start, SHORTEST, LONGEST, margin, self.codes, self.scales, self.bounds)

        map_blocks(encode, n, table.block_rows)

    decode: None = None  # rows rounded to 8 bits cannot be decoded exactly

    @staticmethod
    def bytes_per_row(dim: int) -> int:
        """Return the bytes of memory that an index takes for each stored row of `dim` dimensions."""
        return dim + dim % 2 + 8

    def candidates(
        self, queries: FloatArray, count: int, start: int, stop: int, eligible: BoolArray
    ) -> list[IntArray | None]:
        """Return, for each query, the rows that may be among the nearest, ascending.

        Parameters
        ----------
        queries : numpy.ndarray of float32, shape (q, dim)
            Unit vectors. One scan answers all of them: each row is read from memory once.
        count : int
            The `count` nearest rows are among the result.
        start, stop : int
            Search only the rows from `start` to ``stop - 1``.
        eligible : numpy.ndarray of bool, shape (rows,)
            Search only the rows that are marked; an empty array stands for all.

        Returns
        -------
        list of numpy.ndarray of int64, or of None
            None for a query that cannot be answered.
        """
        from embshrink.kernels.scan import scan_rows

        exact = queries.astype(np.float64)
        codes = np.zeros((len(exact), 2 * self.codes.shape[1]), np.int16)
        # The sums must fit 32 bits.
        steps = np.minimum(32767 / np.abs(exact).max(axis=1), 2**30 / (127 * codes.shape[1] ** 0.5))
        codes[:, : self._dim] = np.rint(exact * steps[:, None])
        error = np.linalg.norm(exact - codes[:, : self._dim] / steps[:, None], axis=1)
        factors = np.stack([1 / steps, np.linalg.norm(exact, axis=1) + error, error], axis=1).astype(np.float32)

        def scan(
            first: int, last: int, best: FloatArray, rows: IntArray, uppers: FloatArray, found: IntArray
        ) -> None:
            scan_rows(self.codes, self.scales, self.bounds, first, last, eligible, codes, factors, best, rows, uppers,
                      found)

        return _best_rows(scan, len(codes), count, start, stop, self.bytes_per_row(self._dim))


class PlainRowIndex(RowIndex):
    """The index of `RowIndex` where numba is not installed: dim + 8 bytes per row, read by numpy.

    Parameters
    ----------
    table : IndexedTable
        Decoded once, block by block.
    """

    def __init__(self, table: IndexedTable) -> None:
        n, dim = self.n, self._dim = table.n_rows, table.vector_size
        self.codes = np.empty((n, dim), np.int8)
        self.scales, self.bounds = np.empty(n, np.float32), np.empty(n, np.float32)
        margin = (2 * dim + 32) * UNIT  # as for RowIndex

        def encode(start: int, stop: int) -> None:
            vectors = table.decode_rows(np.arange(start, stop))
            plain_scan.encode_rows(vectors, start, SHORTEST, LONGEST, margin, self.codes, self.scales, self.bounds)

        run_blocks(encode, n, table.block_rows)

    @staticmethod
    def bytes_per_row(dim: int) -> int:
        """Return the bytes of memory that an index takes for each stored row of `dim` dimensions."""
        return dim + 8

    def candidates(
        self, queries: FloatArray, count: int, start: int, stop: int, eligible: BoolArray
    ) -> list[IntArray | None]:
        """Return, for each query, the rows that may be among the nearest, ascending, as `RowIndex` does."""
        exact = np.linalg.norm(queries.astype(np.float64), axis=1)
        # The rounding error of a product of float32, in any order of summation, with room for that of the limits.
        error = np.full(len(queries), (1.1 * self._dim + 16) * UNIT)
        factors = np.stack([exact + error, error], axis=1).astype(np.float32)
        columns = np.ascontiguousarray(queries.T, np.float32)

        def scan(
            first: int, last: int, best: FloatArray, rows: IntArray, uppers: FloatArray, found: IntArray
        ) -> None:
            plain_scan.scan_rows(self.codes, self.scales, self.bounds, first, last, eligible, columns, factors, best,
                                 rows, uppers, found)

        return _best_rows(scan, len(queries), count, start, stop, self.bytes_per_row(self._dim))


class CodeIndex:
    """The codes of rows, of 4 or 8 bits, in the order that a byte shuffle needs, and 2 bytes per row.

    Parameters
    ----------
    table : IndexedTable
        Decoded once, block by block, for the lengths of rows.
    small : SmallCodes
        The codes.

    Attributes
    ----------
    usable : bool
        False if the length of a row is outside the range of float32: then another index is needed.

    Notes
    -----
    For a query, each code stands for a number, and the dot product of a row is the sum of the numbers of its codes.
    Tables hold these numbers in 8 bits, so that a shuffle looks up many at once. They are rounded so that the error
    of a sum is bounded: rows that cannot be among the nearest are skipped. For the others the kernel adds exact
    numbers, and the rows that may still be among the nearest are decoded, as with `RowIndex`.
    """

    def __init__(self, table: IndexedTable, small: SmallCodes) -> None:
        from embshrink.kernels.shuffle import ROWS, UNKNOWN, decode_rows, lay_out, search_codes

        self._search, self._decode = search_codes, decode_rows
        n, self.n = table.n_rows, table.n_rows
        blocks, per = -(-n // ROWS), 8 // small.bits
        book, self._turn = small.codebook.astype(np.float64), small.transform
        self._book, self._starts = np.ascontiguousarray(book.T), np.append(small.starts, book.shape[1])
        self._numbers, self._finish = small.codebook, small.finish
        self.codes = _zeros((blocks, small.bytes_per_row, ROWS), np.uint8)
        self.lengths = np.zeros(blocks * ROWS, np.uint16)
        lengths = np.empty(n, np.float32)
        self.usable = True

        def fill(start: int, stop: int) -> None:
            own = np.sqrt(np.square(table.decode_rows(np.arange(start, stop)), dtype=np.float64).sum(axis=1))
            if not ((own == 0) | (own >= SHORTEST) & (own <= LONGEST)).all():
                self.usable = False
                return
            lengths[start:stop] = own
            lay_out(np.ascontiguousarray(small.codes(slice(start, stop))), start, per, self.codes)

        map_blocks(fill, n, max(1, table.block_rows // ALIGNED) * ALIGNED)
        if not self.usable:
            return
        # A few long rows must not leave the others too few steps.
        usual = np.median(lengths[lengths > 0]) if lengths.any() else 1
        self._unit = float(min(lengths.max(initial=0) or 1, 16 * usual)) / UNKNOWN
        steps = np.minimum(lengths / self._unit, UNKNOWN)
        steps[lengths == 0] = UNKNOWN
        self.lengths[:n] = steps
        # Decoding rotates in float32: the largest distance of a row from the sum of the numbers of its codes.
        self._error = 0.0
        if self._turn is not None:
            longest = np.sqrt(np.add.reduceat(np.square(book), small.starts, axis=1).max(axis=0).sum())
            self._error = 1.02 * (len(self._turn) + 4) * UNIT * longest * np.linalg.norm(self._turn)
        self._margin = (2 * table.vector_size + 64) * UNIT  # as for RowIndex

    @staticmethod
    def bytes_per_row(small: SmallCodes) -> int:
        """Return the bytes of memory that an index of `SmallCodes` takes for each stored row."""
        return small.bytes_per_row + 2

    def candidates(
        self, queries: FloatArray, count: int, start: int, stop: int, eligible: BoolArray
    ) -> list[IntArray | None]:
        """Return the rows that may be among the nearest, as `RowIndex` does; None if numbers are too large."""
        turned = queries.astype(np.float64)
        turned = turned if self._turn is None else turned @ self._turn.T

        def scan(
            first: int, last: int, best: FloatArray, rows: IntArray, uppers: FloatArray, found: IntArray
        ) -> None:
            self._search(self.codes, self.lengths, self._unit, first, last, eligible, self._book, self._starts,
                         turned, self._error, self._margin, best, rows, uppers, found)

        return _best_rows(scan, len(turned), count, start, stop, self.codes.shape[1] + 2)

    def decode(self, rows: IntArray) -> FloatArray:
        """Return rows as float32, (k, dim), equal to the last bit to those that the codec decodes."""
        vectors = np.empty((len(rows), len(self._book)), np.float32)
        self._decode(self.codes, rows, self._numbers, self._starts, vectors)
        return vectors if self._finish is None else self._finish(vectors)
