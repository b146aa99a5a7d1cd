"""Words stored small: sorted, each as what it does not share with the one before, and entropy-coded.

What a reader of `embshrink.vocabulary.words.PlainWords` can ask for is answered here from a sixth of the bytes.
Sorting loses the order of ids, which says how frequent words are: words are put into buckets of ids,
each twice as large as the one before, and by bytes inside a bucket; which bucket a word is in takes
a little more than two bits.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from embshrink.errors import FormatError
from embshrink.numerics.arrays import narrowest_uint
from embshrink.storage import rans
from embshrink.vocabulary import context_model as spelling
from embshrink.vocabulary.words import Words, to_bytes, to_text

WORDS_PER_BLOCK = 32
PART_WORDS = WORDS_PER_BLOCK << 11  # laid out at a time: their symbols take ten times their bytes
EXACT = 63  # ids below this stay what they are; buckets of 64, 128, 256, ... follow
BITS_PER_RANK = 512
LONGEST = 65_535
GROWTH = 256  # all words take at most so many times the bytes they are stored in
SHARED, FIRST, REST = range(spelling.KINDS)
FULL = 255
MANY = 50_000  # words from which on compiled code is quicker, its loading included


def encode_packed(words, keep_order=False):
    """Lay words out so small that they are still found by a few blocks' decoding.

    Parameters
    ----------
    words : Words or PlainWords
        n distinct words.
    keep_order : bool
        Keep every id, for ceil(log2 n) bits a word. Without, a word's id changes, but
        floor(log2(id + 1)) does not, and the first 63 words keep theirs.

    Returns
    -------
    order : numpy.ndarray, shape (n,), int64
        The id that each new id had before.
    sections : dict of str to numpy.ndarray, or None
        ``sizes`` : (3,) uint64, n, bytes of all words, bytes of the longest.
        ``model`` : uint8, the `Spelling`.
        ``blocks`` : uint8, 32 words after 32 words, in the order of their bytes.
        ``lengths`` : (ceil(n / 32),) narrowest unsigned, bytes of each block.
        ``order``, ``ranks``, ``first``, or ``ids`` : between places among the sorted words and ids.

        None if a word is longer than 65,535 bytes, or the words are 256 times what they would be stored in,
        which no reader would believe.
    """
    raw = words.raw
    n = len(raw)
    places = np.array(sorted(range(n), key=raw.__getitem__), np.int64)  # the id of each sorted word
    sizes = np.array([n, sum(map(len, raw)), max(map(len, raw), default=0)], np.uint64)
    order, ids = np.arange(n), places
    if sizes[2] > LONGEST:
        return order, None
    model, data, lengths = _encode_sorted([raw[i] for i in places.tolist()])
    if sizes[1] > GROWTH * len(data):
        return order, None
    if not keep_order:
        order, ids = _by_buckets(places)
    sections = {"sizes": sizes, "model": np.frombuffer(model, np.uint8), "blocks": data,
                "lengths": lengths.astype(narrowest_uint(int(lengths.max(initial=0))))}
    return order, {**sections, **(_encode_ids if keep_order else _encode_buckets)(ids)}


def _encode_sorted(raw):
    """Return (stored spelling, blocks, bytes of each block) of sorted words."""
    starts = range(0, max(len(raw), 1), PART_WORDS)
    found = [np.unique(_symbols(raw[start : start + PART_WORDS])[0], return_counts=True) for start in starts]
    distinct, which = np.unique(np.concatenate([codes for codes, _ in found]), return_inverse=True)
    uses = np.bincount(which, np.concatenate([uses for _, uses in found]), len(distinct)).astype(np.int64)
    model, cells, stored = spelling.build(distinct, uses)
    parts = []
    for start in starts:
        codes, counts = _symbols(raw[start : start + PART_WORDS])
        own = cells[np.searchsorted(distinct, codes)]
        parts.append(rans.encode(model.freqs[own], model.starts[own], counts))
    return stored, *map(np.concatenate, zip(*parts))


def _symbols(raw):
    """Return the symbols of sorted words, the first the head of a block, and how many each block has."""
    from embshrink.kernels.words import list_symbols, share

    n = len(raw)
    data = np.frombuffer(b"".join(raw), np.uint8)
    lengths = np.fromiter(map(len, raw), np.int64, n)
    starts, shared = np.cumsum(lengths) - lengths, np.empty(n, np.int64)
    share(data, starts, lengths, WORDS_PER_BLOCK, shared)
    heads = np.arange(0, n, WORDS_PER_BLOCK)
    per_word = shared // FULL + 2 + lengths - shared  # what is shared, the rest, the end
    per_word[heads] = lengths[heads] + 1
    codes = np.empty(int(per_word.sum()), np.int64)
    list_symbols(data, starts, lengths, shared, WORDS_PER_BLOCK, codes)
    return codes, np.add.reduceat(per_word, heads) if n else np.zeros(0, np.int64)


# ---------------------------------------------------------------- ids


def _buckets(n):
    """Return (first id, how many) of each bucket of n ids, largest first."""
    found, first = [], EXACT
    while first < n:
        found.append((first, min(first + 1, n - first)))
        first = 2 * first + 1
    return sorted(found, key=lambda bucket: -bucket[1])


def _by_buckets(places):
    """Return (old id of each new one, new id of each sorted word): ids in a bucket are dealt out anew, sorted."""
    ids = places.copy()
    for first, size in _buckets(len(places)):
        ids[(places >= first) & (places < first + size)] = np.arange(first, first + size)
    order = np.empty_like(ids)
    order[ids] = places
    return order, ids


def _encode_buckets(ids):
    """Lay out which bucket each sorted word is in, as bits: is it in the largest? if not, in the next? ..."""
    bits, rest = [np.zeros(0, bool)], ids
    for first, size in _buckets(len(ids)):
        bits.append((rest >= first) & (rest < first + size))
        rest = rest[~bits[-1]]
    bits = np.concatenate(bits)
    before = np.cumsum(bits) - bits
    return {"order": np.packbits(bits, bitorder="little"), "ranks": before[::BITS_PER_RANK].astype(np.uint32),
            "first": rest.astype(np.uint8)}


def _encode_ids(ids):
    """Lay out the id of each sorted word, in as many bits as the largest needs."""
    bits = ids[:, None] >> np.arange(_width(len(ids))) & 1
    return {"ids": np.packbits(bits.astype(bool).ravel(), bitorder="little")}


def _width(n):
    return max(0, n - 1).bit_length()


class _Buckets:
    """Between places among sorted words and ids, by the bits of `_encode_buckets`."""

    def __init__(self, n, arrays, error):
        self._error = error
        self._levels, start, ones, length = [], 0, 0, n  # (first id, how many, first bit, bits, ones before)
        for first, size in _buckets(n):
            self._levels.append((first, size, start, length, ones))
            start, ones, length = start + length, ones + size, length - size
        self._n, self._total = n, start
        plan = {"order": (np.uint8, -(-start // 8)), "ranks": (np.uint32, -(-start // BITS_PER_RANK)),
                "first": (np.uint8, length)}
        self._bits, self._ranks, self._first = (_fitting(arrays, name, *plan[name], error) for name in plan)

    def _rank(self, bit):
        """Return (ones before this bit, the bit)."""
        block = bit // BITS_PER_RANK
        chunk = int.from_bytes(self._bits[block * BITS_PER_RANK // 8 : bit // 8 + 1].tobytes(), "little")
        place = bit % BITS_PER_RANK
        return int(self._ranks[block]) + (chunk & (1 << place) - 1).bit_count(), chunk >> place & 1

    def _select(self, level, number, wanted):
        """Return the place inside a level of its `number`-th bit that is `wanted`."""
        _, _, start, length, ones = level
        number += ones if wanted else start - ones  # now counted from the first level on

        def before(block):
            rank = int(self._ranks[block])
            return rank if wanted else block * BITS_PER_RANK - rank

        block = max(0, bisect_right(range(len(self._ranks)), number, key=before) - 1)
        number -= before(block)
        step = BITS_PER_RANK // 8
        bit = block * BITS_PER_RANK
        for byte in self._bits[block * step : (block + 1) * step].tobytes():
            byte ^= 0 if wanted else 255
            if number < byte.bit_count():
                places = [place for place in range(8) if byte >> place & 1]
                place = bit + places[number] - start if number >= 0 else -1
                if 0 <= place < length:
                    return place
                break
            number -= byte.bit_count()
            bit += 8
        raise self._error("words.ranks does not count words.order")

    def id_at(self, place):
        """Return the id of the sorted word number `place`."""
        for first, size, start, length, ones in self._levels:
            rank, bit = self._rank(start + place)
            rank -= ones
            if not (0 <= rank < size if bit else 0 <= place - rank < length - size):
                raise self._error("words.ranks does not count words.order")
            if bit:
                return first + rank
            place -= rank
        found = int(self._first[place])
        if found >= len(self._first):
            raise self._error("words.first names a word that is not there", expected=f"< {len(self._first)}",
                              found=found)
        return found

    def place_of(self, index):
        """Return the number among sorted words of the word with id `index`."""
        if index < len(self._first):
            place, level = bytes(self._first[:]).find(index), len(self._levels)
            if place < 0:
                raise self._error("words.first leaves a word out", expected=index)
        else:
            level = next(i for i, (first, size, *_) in enumerate(self._levels) if first <= index < first + size)
            place = self._select(self._levels[level], index - self._levels[level][0], 1)
        for above in reversed(self._levels[:level]):
            place = self._select(above, place, 0)
        return place

    def all(self):
        """Return the id of every sorted word, (n,) int64."""
        bits = np.unpackbits(np.asarray(self._bits), bitorder="little", count=self._total).astype(bool)
        ids, rest = np.empty(self._n, np.int64), np.arange(self._n)
        for first, size, start, length, _ in self._levels:
            own = bits[start : start + length]
            if int(own.sum()) != size:
                raise self._error(f"words.order has the wrong number of words from id {first} on", expected=size,
                                  found=int(own.sum()))
            ids[rest[own]] = np.arange(first, first + size)
            rest = rest[~own]
        ids[rest] = np.asarray(self._first)
        if not np.array_equal(np.sort(ids[rest]), np.arange(len(rest))):
            raise self._error("words.first names a word twice, or one that is not there")
        return ids

    def check(self):
        """Raise FormatError unless ranks count bits, and no spare bit is set."""
        expected = _encode_buckets(self.all())
        for name, found in (("order", self._bits), ("ranks", self._ranks)):
            if not np.array_equal(np.asarray(found), expected[name]):
                raise self._error(f"words.{name} is not what its words need")


class _Ids:
    """Between places among sorted words and ids, by the numbers of `_encode_ids`."""

    def __init__(self, n, arrays, error):
        self._n, self._width, self._error = n, _width(n), error
        self._bits = _fitting(arrays, "ids", np.uint8, -(-n * self._width // 8), error)
        self._places = None

    def id_at(self, place):
        start = place * self._width
        chunk = int.from_bytes(self._bits[start // 8 : (start + self._width + 7) // 8].tobytes(), "little")
        found = chunk >> start % 8 & (1 << self._width) - 1
        if found >= self._n:
            raise self._error("words.ids names a word that is not there", expected=f"< {self._n}", found=found)
        return found

    def place_of(self, index):
        if self._places is None:
            places = np.empty(self._n, np.int64)
            places[self.all()] = np.arange(self._n)
            self._places = places
        return int(self._places[index])

    def all(self):
        bits = np.unpackbits(np.asarray(self._bits), bitorder="little", count=self._n * self._width)
        ids = np.zeros(self._n, np.int64)
        for place, column in enumerate(bits.reshape(self._n, self._width).T):
            ids |= column.astype(np.int64) << place
        if int(ids.max(initial=0)) >= max(1, self._n) or (np.bincount(ids, minlength=self._n) != 1).any():
            raise self._error("words.ids names a word twice, or one that is not there")
        return ids

    def check(self):
        if not np.array_equal(np.asarray(self._bits), _encode_ids(self.all())["ids"]):
            raise self._error("words.ids has spare bits that are set")


def _fitting(arrays, name, dtype, length, error):
    """Return a section if it is there with this dtype and length (any, for None)."""
    if name not in arrays:
        raise error(f"section words.{name} is missing")
    found = arrays[name]
    if found.dtype != dtype or len(found.shape) != 1 or (length is not None and len(found) != length):
        length = "any" if length is None else length
        raise error(f"words.{name} does not fit", expected=f"{np.dtype(dtype)} ({length},)",
                    found=f"{found.dtype} {found.shape}")
    return found


# ---------------------------------------------------------------- reading


class PackedWords(Sequence):
    """Words of an open file, found by decoding a few blocks.

    Parameters
    ----------
    arrays : mapping of str to array_like
        What `encode_packed` made, mapped or not. Only dtypes, shapes and sizes are checked here; the
        contents are checked as they are decoded, and all of them by `check`.
    path : str, optional
        The file they are from, for messages.

    Raises
    ------
    FormatError
        If an array is missing, or the arrays contradict each other.
    """

    def __init__(self, arrays, path=None):
        # Not a method: with one, these objects would hold each other, and so keep the mapped file.
        self._error = functools.partial(FormatError, path=path)
        self._n, self._total, self._longest = map(int, _fitting(arrays, "sizes", np.uint64, 3, self._error)[:])
        self._model = _fitting(arrays, "model", np.uint8, None, self._error)
        self._blocks = _fitting(arrays, "blocks", np.uint8, None, self._error)
        width = getattr(arrays.get("lengths"), "dtype", None)
        if width not in (np.uint8, np.uint16, np.uint32):
            width = np.uint32
        self._lengths = _fitting(arrays, "lengths", width, -(-self._n // WORDS_PER_BLOCK), self._error)
        if self._longest > min(LONGEST, self._total) or self._total > GROWTH * len(self._blocks):
            raise self._error("words.sizes has an impossible number", found=(self._n, self._total, self._longest))
        self._order = (_Ids if "ids" in arrays else _Buckets)(self._n, arrays, self._error)
        self._spelling = self._tables = self._bounds = self._unpacked = None
        self._heads = {}

    def __len__(self):
        return self._n

    def _prepare(self):
        """Read what every block needs."""
        if self._bounds is None:
            bounds = np.cumsum(np.append(0, self._lengths[:].astype(np.int64)))
            if bounds[-1] != len(self._blocks):
                raise self._error("the lengths of blocks do not add up to words.blocks", expected=len(self._blocks),
                                  found=int(bounds[-1]))
            try:
                self._spelling = spelling.read(self._model[:].tobytes())
            except rans.Damaged:
                raise self._error("words.model is damaged") from None
            self._tables, self._bounds = self._spelling.scalar_tables(), bounds

    def _words_of(self, block):
        """Yield the words of a block, from its head on."""
        self._prepare()
        first, tables, word, shared = block * WORDS_PER_BLOCK, self._tables, bytearray(), 0
        try:
            coder = rans.Block(self._blocks[int(self._bounds[block]) : int(self._bounds[block + 1])].tobytes())
            take = coder.take
            for i in range(min(WORDS_PER_BLOCK, self._n - first)):
                context = REST << 27
                if i:
                    length = len(word)
                    table = tables[SHARED << 27 | min(shared, 256) << 18 | min(length, 256) << 9
                                   | (word[-1] + 1 if length else 0)]
                    shared, symbol = 0, FULL
                    while symbol == FULL:
                        symbol = take(table)
                        shared += symbol
                        if shared > length or symbol > FULL:
                            raise rans.Damaged
                    there = word[shared] + 1 if shared < length else 0
                    del word[shared:]
                    keys = (word[-1] + 1) << 9 if shared else 0
                    if shared > 1:
                        keys |= word[-2] + 1
                    symbol = take(tables[FIRST << 27 | there << 18 | keys])
                    if symbol <= there:
                        raise rans.Damaged
                    word.append(symbol - 1)
                    context |= symbol << 18 | keys
                while len(word) <= self._longest and (symbol := take(tables[context])):
                    word.append(symbol - 1)
                    context = REST << 27 | symbol << 18 | context >> 9 & 0x3FFFF
                if len(word) > self._longest:
                    raise rans.Damaged
                yield bytes(word)
            coder.end()
        except rans.Damaged:
            raise self._error(f"block {block} of words.blocks is damaged") from None

    def _head(self, block):
        head = self._heads.get(block)
        if head is None:
            head = self._heads[block] = next(self._words_of(block))
        return head

    def _seek(self, word):
        """Return (place of the first sorted word that is not below `word`, whether it is that word)."""
        low, high = 0, len(self._lengths)
        while high - low > 1:
            middle = (low + high) // 2
            if self._head(middle) <= word:
                low = middle
            else:
                high = middle
        place = low * WORDS_PER_BLOCK
        for found in self._words_of(low) if high else ():
            if found >= word:
                return place, found == word
            place += 1
        return place, False

    def unpack(self):
        """Decode all words and keep them in memory, so that a word is found, or named, in a few microseconds.

        Takes the bytes of the words and 12 bytes a word, 16 of more than 4 GiB; needs numba. `pack` lets go of it.

        Raises
        ------
        FormatError
            If the words are damaged.
        """
        if self._unpacked is None:
            self._unpacked = _Unpacked(*self._decoded(), self._order.all())

    def pack(self):
        """Let go of what `unpack` keeps."""
        self._unpacked = None

    def find(self, word):
        """Return the id of `word`, or -1."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.find(to_bytes(word))
        place, there = self._seek(to_bytes(word))
        return self._order.id_at(place) if there else -1

    def prefix(self, text):
        """Return the ids of the words that begin with `text`, ascending, as a list."""
        low = to_bytes(text)
        high = low.rstrip(b"\xff")
        start = self._seek(low)[0]
        stop = self._seek(high[:-1] + bytes([high[-1] + 1]))[0] if high else self._n
        if stop - start > WORDS_PER_BLOCK:
            return np.sort(self._order.all()[start:stop]).tolist()
        return sorted(self._order.id_at(place) for place in range(start, stop))

    def raw_at(self, index):
        """Return the bytes of the word with id `index`."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.raw_at(index)
        block, place = divmod(self._order.place_of(int(index)), WORDS_PER_BLOCK)
        for at, word in enumerate(self._words_of(block)):
            if at == place:
                return word
        raise self._error(f"block {block} of words.blocks is damaged")

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [to_text(word) for word in self._raw_of(range(*index.indices(len(self))))]
        if index < 0:
            index += self._n
        if not 0 <= index < self._n:
            raise IndexError(f"no word has the id {index}: there are {self._n} words")
        return to_text(self.raw_at(index))

    def _raw_of(self, ids):
        if len(ids) < len(self) // WORDS_PER_BLOCK:
            return [self.raw_at(index) for index in ids]
        raw = self.raw
        return [raw[index] for index in ids]

    def take(self, ids):
        """Return the words with these ids, in this order, as `Words` in memory."""
        return Words(self._raw_of(np.asarray(ids, np.int64).tolist()))

    @property
    def raw(self):
        """All words as a list of bytes, in order of id."""
        words = list(self._sorted())
        places = np.empty(self._n, np.int64)
        places[self._order.all()] = np.arange(self._n)
        return [words[place] for place in places.tolist()]

    def equals(self, raw):
        """Whether these are all words, given as a list of bytes in order of id."""
        if len(raw) != self._n:
            return False
        return all(raw[index] == word for index, word in zip(memoryview(self._order.all()), self._sorted()))

    def __iter__(self):
        return map(to_text, self.raw)

    def _sorted(self):
        """Return all words as bytes, sorted, to be iterated over once."""
        unpacked = self._unpacked
        if unpacked is not None:
            return unpacked.sorted()
        if self._n < MANY:
            words, total = [], 0
            for block in range(len(self._lengths)):
                for word in self._words_of(block):
                    words.append(word)
                    total += len(word)
                    if total > self._total:
                        raise self._error(f"block {block} of words.blocks is damaged")
            if total != self._total:
                raise self._error("the words do not add up to words.sizes", expected=self._total, found=total)
            return iter(words)
        return _split(*self._decoded())

    def _decoded(self):
        """Return all words' bytes, sorted, and where each word ends, (n,) int64."""
        from embshrink.kernels.words import decode_words

        self._prepare()
        model = self._spelling
        text, lengths = np.empty(self._total, np.uint8), np.empty(self._n, np.int64)
        damaged = decode_words(np.asarray(self._blocks), self._bounds, WORDS_PER_BLOCK, self._longest, model.codes,
                               model.firsts, model.counts, model.symbols, model.starts, text, lengths)
        if damaged >= 0:
            raise self._error(f"block {damaged} of words.blocks is damaged")
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if self._n else 0
        if total != self._total:
            raise self._error("the words do not add up to words.sizes", expected=self._total, found=total)
        return text.tobytes(), ends

    def check(self):
        """Check everything: all blocks, that words ascend and so are distinct, and that ids are all there once.

        Raises
        ------
        FormatError
            Naming the first thing that is wrong.
        """
        before, longest = None, 0
        for place, word in enumerate(self._sorted()):
            if before is not None and before >= word:
                raise self._error("the words are not sorted", where=f"sorted word {place}")
            before, longest = word, max(longest, len(word))
        if longest != self._longest:
            raise self._error("no word is as long as words.sizes says", expected=self._longest)
        self._order.check()


def _split(text, ends):
    """Yield words that lie end to end."""
    start = 0
    for end in memoryview(np.ascontiguousarray(ends)):
        yield text[start:end]
        start = end


class _Unpacked:
    """Sorted words in memory: their bytes end to end, where each ends, and places to ids and back."""

    def __init__(self, text, ends, ids):
        from embshrink.kernels.words import find_word

        places = np.empty(len(ids), np.uint32)
        places[ids] = np.arange(len(ids), dtype=np.uint32)
        ends = np.append(0, ends).astype(np.uint32 if len(text) < 2**32 else np.uint64)
        self._text = text
        self._find = functools.partial(find_word, np.frombuffer(text, np.uint8), ends)
        self._ends, self._ids, self._places = map(memoryview, (ends, ids.astype(np.uint32), places))

    def _at(self, place):
        return self._text[self._ends[place] : self._ends[place + 1]]

    def find(self, word):
        """Return the id of `word`, or -1."""
        place = self._find(np.frombuffer(word, np.uint8))
        return self._ids[place] if place >= 0 else -1

    def raw_at(self, index):
        """Return the bytes of the word with id `index`."""
        return self._at(self._places[index])

    def sorted(self):
        """Yield all words as bytes."""
        return _split(self._text, np.asarray(self._ends)[1:])
