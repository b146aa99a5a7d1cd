"""Packed words: any words come back, are found, take little room, and damage is refused or harmless."""

import contextlib
import dataclasses
import hashlib
import math
import random
import re
import subprocess
import sys
import tracemalloc
from unittest import mock

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from second_reader import Array, packed_words

from embshrink.errors import FormatError
from embshrink.kernels.words import list_symbols, share
from embshrink.storage import rans
from embshrink.vocabulary import context_model, front_coding, listed_ids, numbers
from embshrink.vocabulary import packed as packed_module
from embshrink.vocabulary.numbers import pack_numbers, read_number, unpack_numbers
from embshrink.vocabulary.octave_ids import encode_octaves
from embshrink.vocabulary.packed import PackedWords, encode_packed
from embshrink.vocabulary.tree_ids import OCTAVE, borders
from embshrink.vocabulary.words import PlainWords, Words, encode_plain, to_bytes, to_text

ODD = [b"", b"\0", b"\0\0", b"\xff\xfe", b"\xff", b"a b", b"a\n", "caf\u00e9".encode(), b"caf\xe9", b"a", b"x" * 300,
       "\U0001f600".encode(), b"\xed\xa0\x80", b"x" * 299, b"x" * 254, b"x" * 255, b"x" * 256, b"x" * 255 + b"y"]
word_lists = st.lists(st.binary(max_size=4) | st.sampled_from(ODD), max_size=200, unique=True)


def numbered(n):
    return [b"w%d" % (i * 7919 % 10_007) for i in range(n)]


LIMITS = {"plain": (10**9, 10**9), "numpy": (0, 10**9), "kernel": (0, 0)}  # FEW and MANY with which a way is used


@pytest.fixture(params=LIMITS)
def way(request, monkeypatch):
    """Have all words decoded in one of the three ways."""
    few, many = LIMITS[request.param]
    monkeypatch.setattr(front_coding, "FEW", few)
    monkeypatch.setattr(front_coding, "MANY", many)


@pytest.mark.parametrize("size", [1, 3, 10**6])
def test_words_in_parts(way, size, monkeypatch):
    """Parts of one block or more are put together, and every word is compared."""
    monkeypatch.setattr(front_coding, "BLOCKS_AT_ONCE", size)
    monkeypatch.setattr(front_coding, "MOST_LANES", size)
    words = Words(random_words(300))
    packed = PackedWords(encode_packed(words)[1])
    packed.check(words)
    assert packed.raw == words.raw and packed.equals(words)
    swapped = [*range(298), 299, 298]
    for other in (words.take(swapped), words.part(0, 299), Words([*words.raw[:-1], b"other"])):
        assert not packed.equals(other)
        with pytest.raises(FormatError, match="the words are not those that were to be written"):
            packed.check(other)
    assert packed.take(swapped).raw == words.take(swapped).raw and packed.take([299]).raw == words.raw[299:]


@pytest.mark.parametrize("per_search", [1, 10**9])  # decode some blocks; decode all
@given(word_lists, word_lists, st.randoms())
@settings(deadline=None, max_examples=40)
def test_many_words_are_found_as_one_by_one(per_search, words, others, random):
    index = PackedWords(encode_packed(Words(words))[1])
    asked = [*words, *others, *words[:3]]
    random.shuffle(asked)
    asked = asked[: random.choice([1, 5, 500])]
    expected = [index.find(word) for word in asked]
    with mock.patch.multiple(packed_module, MANY=0, WORDS_PER_SEARCH=per_search):
        assert index.find_all(asked).tolist() == expected
        assert index.find_all([to_text(word) for word in asked]).tolist() == expected
    index.unpack()
    assert index.find_all(asked).tolist() == expected


def random_words(n, seed=0):
    """Return words of few letters, so that many share much."""
    rng = random.Random(seed)
    words = {}
    while len(words) < n:
        words[bytes(rng.choices(b"aaabcde\xff\0", k=rng.randrange(1, 9)))] = None
    return list(words)


def spelled_words(n, seed=0):
    """Return words of syllables, some frequent, most not."""
    rng = random.Random(seed)
    syllables = [bytes(rng.choices(b"bcdfghklmnprstvwz", k=1) + rng.choices(b"aeiou", k=rng.choice([1, 1, 2]))
                       + rng.choices(b"nrstl", k=rng.choice([0, 1]))) for _ in range(40)]
    words = {}
    while len(words) < n:
        words[b"".join(syllables[int(40 * rng.random() ** 2)] for _ in range(rng.choice([2, 3, 4])))] = None
    return list(words)


ORDERS = ["exact", "approximate", "octaves"]


def encode(words, kept="exact"):
    """Return (the id that each new id had before, sections), in any of the orders that are read."""
    order, sections = encode_packed(Words(words), kept != "approximate")
    if kept == "octaves" and sections is not None:  # no longer written
        places = sorted(range(len(words)), key=words.__getitem__)
        rank = {place: rank for rank, place in enumerate(places)}
        order = sorted(range(len(words)), key=lambda i: ((i + 1).bit_length(), rank[i]) if i >= 63 else (0, i))
        ids = np.empty(len(words), np.int64)
        ids[[rank[i] for i in order]] = np.arange(len(words))
        del sections["ids"], sections["back"]
        order, sections = np.array(order, np.int64), {**sections, **encode_octaves(ids)}
    return order, sections


def pack(words, kept="exact"):
    """Return (the packed words, the words in the order of their new ids)."""
    words = [to_bytes(word) for word in words]
    order, sections = encode(words, kept)
    return PackedWords(sections), [words[i] for i in order.tolist()]


# ---------------------------------------------------------------- the entropy coder


@st.composite
def coded(draw):
    """Return tables and blocks of symbols."""
    counts = np.array(draw(st.lists(st.sampled_from([1, 2, 3, 17, 257, 4096]), min_size=1, max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = np.ceil(np.exp(rng.uniform(0, draw(st.sampled_from([0, 3, 25])), counts.sum()))).astype(np.int64)
    sizes = np.array(draw(st.lists(st.integers(0, 40), max_size=12)), np.int64)
    tables = rng.integers(len(counts), size=sizes.sum())
    return weights, counts, sizes, tables, (rng.random(len(tables)) * counts[tables]).astype(np.int64)


@settings(max_examples=200, deadline=None)
@given(coded())
def test_blocks_come_back_and_are_those_of_the_slow_encoder(case):
    weights, counts, sizes, tables, symbols = case
    freqs = rans.frequencies(weights, counts)
    starts = rans.starts_of(freqs, counts)
    firsts = np.cumsum(counts) - counts
    cells = firsts[tables] + symbols
    assert freqs.min() >= 1
    assert np.add.reduceat(freqs, firsts).tolist() == [4096] * len(counts)
    data, lengths = rans.encode(freqs[cells], starts[cells], sizes)
    ends = np.cumsum(sizes).tolist()
    table = list(zip(freqs.tolist(), starts.tolist()))
    blocks = [naive.rans_block(cells[end - size : end].tolist(), table) for end, size in zip(ends, sizes.tolist())]
    assert data.tobytes() == b"".join(blocks)
    assert lengths.tolist() == [len(block) for block in blocks]
    assert np.array_equal(rans.Tables(freqs).decode(data, lengths, sizes, tables), cells)
    own = [([*starts[a : a + k].tolist(), 4096], list(range(a, a + k)))
           for a, k in zip(firsts.tolist(), counts.tolist())]
    for block, end, size in zip(blocks, ends, sizes.tolist()):
        coder = rans.Block(block)
        assert [coder.take(own[table]) for table in tables[end - size : end]] == cells[end - size : end].tolist()
        coder.end()


@pytest.mark.parametrize("weights", [[1] * 256, [9, 1, 1], [4000, 1], [2**i for i in range(12)],
                                     [1000, 900, 3, 3, 2]])
def test_a_long_block_takes_what_its_symbols_hold(weights):
    freqs = rans.frequencies(np.array(weights), np.array([len(weights)]))
    starts = rans.starts_of(freqs, np.array([len(weights)]))
    symbols = np.random.default_rng(0).choice(len(weights), 30_000, p=freqs / 4096)
    data, _ = rans.encode(freqs[symbols], starts[symbols], np.array([len(symbols)]))
    entropy = -np.log2(freqs[symbols] / 4096).sum() / 8
    assert entropy <= len(data) <= 1.005 * entropy + 3


def test_a_symbol_that_is_certain_takes_nothing():
    data, _ = rans.encode(np.full(1000, 4096), np.zeros(1000, np.int64), np.array([1000]))
    assert data.tobytes() == b"\x40\x00"


def test_weights_become_frequencies_as_the_format_says():
    assert rans.frequencies(np.array([1, 1, 1]), np.array([3])).tolist() == [1366, 1365, 1365]
    assert rans.frequencies(np.array([1, 5, 5, 7]), np.array([1, 3])).tolist() == [4096, 1204, 1204, 1688]


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\0" + data,
                                    lambda data: b"", lambda data: b"\0\0", lambda data: b"\0" * 99])
def test_a_block_that_is_cut_or_longer_is_refused(change):
    freqs, starts = np.array([1000, 3096]), np.array([0, 1000])
    symbols = np.arange(50) % 2
    data = change(rans.encode(freqs[symbols], starts[symbols], np.array([50]))[0].tobytes())
    with pytest.raises(rans.Damaged):
        rans.Tables(freqs).decode(np.frombuffer(data, np.uint8), np.array([len(data)]), np.array([50]),
                                  np.zeros(50, np.int64))
    with pytest.raises(rans.Damaged):  # noqa: PT012
        coder = rans.Block(data)
        for _ in symbols:
            coder.take(([0, 1000, 4096], [0, 1]))
        coder.end()


# ---------------------------------------------------------------- the tables


def test_levels_and_what_is_nearest_to_them():
    assert context_model.WEIGHTS[:11].tolist() == [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    counts = np.arange(2000)
    found = context_model.WEIGHTS[context_model._nearest_levels(counts)]
    for count in range(1, 2000):
        best = min(abs(math.log(count / weight)) for weight in context_model.WEIGHTS[1:].tolist())
        assert abs(math.log(count / found[count])) == pytest.approx(best)
    assert found[0] == 0


@pytest.mark.parametrize("words", [[b""], numbered(500), random_words(3000), [f"\u6771{i}" for i in range(999)]],
                         ids=["empty", "numbered", "random", "text"])
def test_tables_read_back_as_they_were_built(words):
    model, cells, stored, codes = built(words)
    again = context_model.read(stored)
    for name in ("codes", "counts", "symbols", "freqs", "firsts", "starts"):
        assert np.array_equal(getattr(model, name), getattr(again, name)), name
    assert np.array_equal(model.symbols[cells], codes & 511)
    tables = again.scalar_tables()
    for code, cell in zip(codes.tolist(), cells.tolist()):  # the context that is looked up is the one that was chosen
        starts, symbols = tables[code >> 9]
        assert starts[symbols.index(code & 511)] == model.starts[cell]


def built(words):
    raw = sorted(map(to_bytes, words))
    codes = np.array([naive_code(symbol) for symbol in naive.word_symbols(raw, front_coding.WORDS_PER_BLOCK)])
    distinct, uses = np.unique(codes, return_counts=True)
    return *context_model.build(distinct, uses), distinct


def naive_code(parts):
    code = 0
    for part in parts:
        code = code << 9 | part
    return code


@settings(max_examples=50, deadline=None)
@given(words=word_lists, size=st.sampled_from([1, 2, 32]))
def test_symbols_of_words_are_those_of_the_slow_twin(words, size):
    raw = sorted(words)
    data, lengths = np.frombuffer(b"".join(raw), np.uint8), np.array([len(word) for word in raw], np.int64)
    starts, shared = np.cumsum(lengths) - lengths, np.empty(len(raw), np.int64)
    share(data, starts, lengths, size, shared)
    expected = [naive_code(parts) for parts in naive.word_symbols(raw, size)]
    codes = np.empty(len(expected), np.int64)
    list_symbols(data, starts, lengths, shared, size, codes)
    assert codes.tolist() == expected


def test_contexts_are_there_only_where_they_pay():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 257, 5000) | rng.integers(0, 257, 5000) << 27
    none = context_model.build(*np.unique(noise, return_counts=True))
    assert len(none[0].codes) == 0
    keys = rng.integers(0, 20, 5000)
    some = context_model.build(*np.unique(2 << 36 | keys << 27 | keys, return_counts=True))
    assert len(some[0].codes) == 20  # the key says it all


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("kept", ORDERS)
@settings(max_examples=60, deadline=None)
@given(words=word_lists, others=st.lists(st.binary(max_size=4), max_size=20))
def test_every_word_is_found_and_nothing_else(kept, words, others):
    index, words = pack(words, kept)
    assert len(index) == len(words)
    assert index.raw == words
    assert list(index) == [to_text(word) for word in words]
    assert [index.raw_at(i) for i in range(len(words))] == words
    assert [index.find(word) for word in words] == list(range(len(words)))
    assert [index.find(to_text(word)) for word in words] == list(range(len(words)))
    for word in others:
        assert index.find(word) == (words.index(word) if word in words else -1)
        assert index.prefix(word[:1]) == Words(words).prefix(word[:1])
    assert index[::-1] == list(index)[::-1]
    ids = list(range(0, len(words), 2))[::-1]
    assert index.take(ids).raw == [words[i] for i in ids]
    index.check()


@pytest.mark.parametrize("kept", ORDERS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 31, 32, 33, 62, 63, 64, 65, 126, 127, 128, 512, 575, 1100, 3001])
def test_counts_around_the_strides(n, kept):
    words = numbered(n)
    index, new = pack(words, kept)
    index.check()
    assert index.raw == new
    assert [index.find(word) for word in new] == list(range(n))
    assert [index.raw_at(i) for i in range(n)] == new
    assert index.find(b"none") == index.find(b"") == index.find(b"\xff" * 9) == -1


@pytest.mark.parametrize("n", [0, 1, 63, 4096, 4097, 8192, 20_000])
def test_exact_order_is_the_default_and_approximate_order_stays_in_its_buckets(n):
    words = numbered_widely(n)
    assert encode_packed(Words(words))[0].tolist() == list(range(n))
    order, _ = encode_packed(Words(words), exact=False)
    assert sorted(order.tolist()) == list(range(n))
    assert order[:4096].tolist() == list(range(min(n, 4096)))
    for first, stop in zip(borders(n)[1:], borders(n)[2:]):
        assert sorted(order[first:stop].tolist()) == list(range(first, stop))
        own = [words[i] for i in order[first:stop].tolist()]
        assert own == sorted(own)
    for count in range(1, n, 97):
        assert (order[:count] < count).mean() >= 0.97


def numbered_widely(n):
    return [b"w%d" % (i * 7919 % 100_003) for i in range(n)]


def test_buckets_are_an_eighth_of_an_octave_wide():
    assert OCTAVE == tuple(int(4096 * 2 ** (k / 8)) for k in range(8))
    ends = borders(10**9)
    assert ends[:3] == [0, 4096, 4466] and ends[-1] == 10**9
    ratios = np.diff(np.log2(ends[1:-1]))
    assert abs(ratios - 1 / 8).max() < 3e-4


@pytest.mark.parametrize("kept", ORDERS)
@pytest.mark.parametrize("n", [4095, 4096, 4097, 4466, 4467, 9000])
def test_counts_around_the_borders_of_buckets(n, kept):
    words = numbered_widely(n)
    index, new = pack(words, kept)
    index.check()
    assert index.raw == new
    for i in [*range(0, n, 61), *range(4090, n, 7)]:
        assert index.find(new[i]) == i
        assert index.raw_at(i) == new[i]


@pytest.mark.parametrize("width", [0, 1, 3, 7, 8, 9, 12, 19, 31, 33, 62])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 100])
def test_packed_numbers_are_those_of_packbits(width, n):
    values = np.random.default_rng(width).integers(0, 1 << width, n)
    bits = (values[:, None] >> np.arange(width) & 1).astype(np.bool_)
    with mock.patch.object(numbers, "GROUPS_AT_ONCE", 3):
        found = pack_numbers(values, width)
    assert np.array_equal(found, np.packbits(bits.ravel(), bitorder="little"))
    assert unpack_numbers(found, n, width).tolist() == values.tolist()
    assert [read_number(found, i, width) for i in range(n)] == values.tolist()


@pytest.mark.parametrize("name, values, problem", [
    ("tree", 0, r"words\.tree has the wrong number of words from id \d+ on"),
    ("tree", 255, r"words\.tree has the wrong number of words from id \d+ on"),
    ("ranks", 0, r"words\.ranks does not match the words"),
    ("first", 0, r"words\.first refers to a word twice"),
])
def test_a_tree_that_lies_is_refused(name, values, problem):
    sections = encode(numbered_widely(9000), "approximate")[1]
    sections[name] = np.full_like(sections[name], values)
    with pytest.raises(FormatError, match=rf"^a\.ems: {problem}"):
        PackedWords(sections, "a.ems").check()
    for i in range(0, 9000, 83):  # any answer but a crash
        with contextlib.suppress(FormatError):
            PackedWords(sections, "a.ems").raw_at(i)
        with contextlib.suppress(FormatError):
            PackedWords(sections, "a.ems").find(b"w%d" % (i * 7919 % 100_003))


def test_a_list_that_lies_ends_and_is_refused():
    sections = encode(numbered_widely(9000))[1]
    n, rng = 9000, np.random.default_rng(0)
    for ids in (np.roll(np.arange(n), 1), np.zeros(n, np.int64), np.minimum(np.arange(n) + 2, n - 1)):
        for back in (np.zeros(282, np.int64), np.full(282, 1), rng.integers(n, size=282)):
            lie = {**sections, "ids": pack_numbers(ids, 14), "back": pack_numbers(back, 14)}
            for i in range(0, n, 997):
                with contextlib.suppress(FormatError):
                    PackedWords(lie, "a.ems").raw_at(i)
            with pytest.raises(FormatError, match=r"^a\.ems: words\.(ids|back) "):
                PackedWords(lie, "a.ems").check()


@pytest.mark.parametrize("turn", [1, 31, 32, 33, 64, 999, 1999])
def test_a_place_is_found_on_cycles_of_every_length(turn):
    """Words in sorted order but for a turn of all: cycles as long as there are words, with and without shortcuts."""
    n = 2000
    words = [b"%05d" % i for i in range(n)]
    words = words[turn:] + words[:turn]
    sections = encode_packed(Words(words))[1]
    for parts in (sections, {name: part for name, part in sections.items() if name != "back"}):
        index = PackedWords(parts)
        assert [index.raw_at(i) for i in range(0, n, 7)] == words[::7]
        index.check()


def test_a_word_is_named_without_an_array_of_all(monkeypatch):
    index, words = pack(random_words(3000))
    monkeypatch.setattr(listed_ids.ListedIds, "all", None)
    assert [index.raw_at(i) for i in range(listed_ids.SEARCHES)] == words[: listed_ids.SEARCHES]
    monkeypatch.undo()
    assert [index.raw_at(i) for i in range(3000)] == words


@pytest.mark.parametrize("words", [[*random_words(4000), *ODD[-6:], b"q" * 10_000], spelled_words(10_000)],
                         ids=["random", "spelled"])
def test_compiled_and_plain_decoding_agree(words, monkeypatch):
    order, sections = encode_packed(Words(words))
    words = [words[i] for i in order.tolist()]
    for few, many in LIMITS.values():
        monkeypatch.setattr(front_coding, "FEW", few)
        monkeypatch.setattr(front_coding, "MANY", many)
        index = PackedWords(sections)
        index.check()
        assert index.raw == words


def test_words_with_a_spelling_make_contexts_of_every_depth():
    model = context_model.read(encode_packed(Words(spelled_words(10_000)))[1]["model"].tobytes())
    paths = [(0,), (1,), (2,)]
    for code in model.codes.tolist():
        paths.append((*paths[code >> 9], code & 511))
    assert {(path[0], len(path)) for path in paths} == {(kind, depth) for kind in range(3) for depth in range(1, 5)}
    assert paths == sorted(paths, key=lambda path: (len(path), path))


def test_long_words():
    rng = random.Random(0)
    words = [b"a" * k + rng.randbytes(k) for k in (0, 1, 254, 255, 256, 509, 510, 511, 10_000)]
    words += [words[-1][:k] for k in (3, 300, 15_000)]
    index, words = pack(words)
    index.check()
    assert index.raw == words
    assert [index.find(word) for word in words] == list(range(len(words)))


@pytest.mark.parametrize("words", [[bytes(65_536)], [b"a" * i for i in range(3000)]], ids=["long", "alike"])
def test_what_no_reader_would_believe_is_not_packed(words):
    order, sections = encode_packed(Words(words))
    assert sections is None
    assert order.tolist() == list(range(len(words)))


def test_prefixes_at_the_edges():
    index, words = pack(["king", "kings", "kingdom", "k", "", "queen", b"ki\xff", b"ki\xff\xff", b"\xff", "kin"])
    for prefix in ("", "k", "ki", "king", "kings", "kingsx", b"ki\xff", b"\xff", b"\xff\xff", "z"):
        assert index.prefix(prefix) == Words(words).prefix(prefix)


@pytest.mark.parametrize("make", [Words, lambda words: PlainWords(encode_plain(Words(words))),
                                  lambda words: pack(words)[0]])
def test_prefixes_of_many_words(make):
    index = make(random_words(2000))
    for prefix in (b"", b"a", b"ab", b"\xff", b"\xff\xff", b"aaaa", b"\0"):
        expected = [i for i, word in enumerate(index.raw) if word.startswith(prefix)]
        assert index.prefix(prefix) == index.prefix(to_text(prefix)) == expected


def test_an_id_that_is_not_there_is_an_index_error():
    index, _ = pack(numbered(65))
    for wrong in (65, -66, 10**12):
        with pytest.raises(IndexError, match="no word has the id"):
            index[wrong]
    assert index[-1] == index[64]


def test_packed_words_are_small():
    words = spelled_words(10_000)
    sizes = {kept: 8 * sum(part.nbytes for part in encode(words, kept)[1].values()) / len(words) for kept in ORDERS}
    assert sizes["exact"] < 8 * sum(part.nbytes for part in encode_plain(Words(words)).values()) / len(words) / 3.2
    assert sizes["octaves"] < 14.5
    assert sizes["approximate"] < sizes["octaves"] + 6.5
    assert sizes["exact"] < sizes["octaves"] + 12.5


def test_the_same_bytes_without_compiled_code(subprocess_env):
    program = ("import hashlib\nfrom test_packed import random_words\n"
               "from embshrink.vocabulary.packed import encode_packed\nfrom embshrink.vocabulary.words import Words\n"
               "order, parts = encode_packed(Words(random_words(300)))\n"
               "print(hashlib.sha256(b''.join(part.tobytes() for part in [order, *parts.values()])).hexdigest())")
    order, parts = encode_packed(Words(random_words(300)))
    expected = hashlib.sha256(b"".join(part.tobytes() for part in [order, *parts.values()])).hexdigest()
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True,
                           cwd=re.sub(r"[^/\\]*$", "", __file__), env={**subprocess_env, "NUMBA_DISABLE_JIT": "1"})
    assert found.stdout.strip() == expected


# ---------------------------------------------------------------- the second reader


def second(sections):
    return packed_words({f"words.{name}": Array(part.tobytes(), part.dtype.name, part.shape)
                         for name, part in sections.items()})


@pytest.mark.parametrize("kept", ORDERS)
@pytest.mark.parametrize("words", [[], [b""], ODD, numbered(1500), random_words(2000), spelled_words(10_000)],
                         ids=["none", "empty", "odd", "numbered", "random", "spelled"])
def test_a_reader_written_from_the_document_reads_the_same(words, kept):
    order, sections = encode(words, kept)
    assert second(sections) == [words[i] for i in order.tolist()]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(("kept", "name"), [
    *(("exact", name) for name in ("sizes", "model", "blocks", "lengths", "ids", "back")),
    *((kept, name) for kept in ("approximate", "octaves") for name in ("ranks", "first")),
    ("approximate", "tree"), ("octaves", "order")])
def test_a_missing_or_misshapen_array_is_refused(kept, name):
    sections = encode(numbered_widely(4500), kept)[1]
    if name not in ("ids", "tree", "back"):  # without these it is taken for another order, or read more slowly
        with pytest.raises(FormatError, match=rf"^a\.ems: section words\.{name} is missing\. "):
            PackedWords({key: part for key, part in sections.items() if key != name}, "a.ems")
    part = sections[name]
    wrongs = [part[:, None], part.astype(np.int16), part.astype(np.float32)]
    wrongs += [] if name in ("model", "blocks") else [part[:-1], np.append(part, part[:1])]
    for wrong in wrongs:
        with pytest.raises(FormatError, match=rf"a\.ems: section words\.{name} has the wrong dtype or shape \(exp"):
            PackedWords({**sections, name: wrong}, "a.ems")


@pytest.mark.parametrize("kept", ORDERS)
def test_a_changed_byte_is_refused_or_harmless(kept):
    """What passes the full check is a vocabulary: sorted, distinct, each word found under its own id.

    Before that check, a word may be missed, or be found under an id that damaged bits of ids gave it.
    """
    words = numbered(150)
    order, sections = encode(words, kept)
    ids = {words[old]: new for new, old in enumerate(order.tolist())}
    rng, passed, same = random.Random(0), 0, 0
    for name, part in sections.items():
        for position in range(part.nbytes):
            wrong = bytearray(part.tobytes())
            wrong[position] ^= rng.choice([1, 2, 16, 128, 255])
            changed = {**sections, name: np.frombuffer(bytes(wrong), part.dtype)}
            try:
                index = PackedWords(changed, "a.ems")
                word = words[position % len(words)]
                found = index.find(word)
                assert -1 <= found < len(words)
                assert name in ("order", "ranks", "first", "ids", "back", "tree") or found in (-1, ids[word])
            except FormatError as error:
                assert str(error).startswith("a.ems: ")
            try:
                index = PackedWords(changed, "a.ems")
                index.check()
            except FormatError as error:
                assert str(error).startswith("a.ems: ")
                continue
            passed += 1
            raw = index.raw
            assert len(set(raw)) == len(words)
            assert [index.find(word) for word in raw] == list(range(len(raw)))
            assert [index.raw_at(i) for i in range(len(raw))] == raw
            same += second(changed) == raw
    assert passed == same < 40


def test_random_changes_of_many_bytes(monkeypatch):
    sections = encode_packed(Words(random_words(300)))[1]
    rng = random.Random(1)
    for round in range(300):
        name = "blocks" if round % 2 else rng.choice(list(sections))
        raw = bytearray(sections[name].tobytes())
        for _ in range(rng.choice([1, 2, 9, 99])):
            raw[rng.randrange(len(raw))] = rng.choice([0, 1, 255, rng.randrange(256)])
        if name in ("model", "blocks") and rng.random() < 0.3:
            del raw[rng.randrange(len(raw)) :]
        changed = {**sections, name: np.frombuffer(bytes(raw), sections[name].dtype)}
        outcomes = []
        for few, many in list(LIMITS.values())[:: 2 if round % 6 > 1 else 1]:  # numpy takes long for few words
            monkeypatch.setattr(front_coding, "FEW", few)
            monkeypatch.setattr(front_coding, "MANY", many)
            try:
                outcomes.append(PackedWords(changed)._decoded().raw)
            except FormatError as error:
                outcomes.append(str(error))
        assert outcomes[1:] == outcomes[:-1]
        with contextlib.suppress(FormatError):
            index = PackedWords(changed)
            index.check()
            assert [index.find(word) for word in index.raw] == list(range(len(index)))


@pytest.mark.parametrize("change, problem", [
    ({"sizes": [2**63, 70, 3]}, r"section words\.lengths has the .* \(expected uint8 \(\d+,\), found uint8 \(3,\)\)"),
    ({"sizes": [70, 2**63, 3]}, r"a number in words\.sizes is out of range \(found \(70, \d+, 3\)\)"),
    ({"sizes": [70, 280, 65_536]}, r"a number in words\.sizes is out of range"),
    ({"sizes": [70, 280, 60_000]}, r"a number in words\.sizes is out of range"),
    ({"sizes": [70, 200, 2]}, r"block 0 of words\.blocks is damaged"),
    ({"sizes": [70, 200, 4]}, r"the longest word does not match words\.sizes \(expected 4, found 3\)"),
    ({"sizes": [70, 199, 3]}, r"block 2 of words\.blocks is damaged"),
    ({"sizes": [70, 201, 3]}, r"the bytes of all words do not match words\.sizes \(expected 201, found 200\)"),
    ({"sizes": [69, 200, 3]}, r"section words\.ids has the|block 2"),
    ({"lengths": [9, 9, 9]}, r"words\.lengths do not add up to words\.blocks \(expected \d+, found 27\)"),
    ({"model": b""}, r"words\.model is damaged"),
    ({"model": b"\xff" * 12 + bytes(3) + (b"\1\0\1" * 22)}, r"words\.model is damaged"),
    ({"model": b"\xff\xff" + bytes(13) + (b"\1\0\1" * 22) + b"\2" * 999}, r"words\.model is damaged"),
    ({"ids": [0] * 62}, r"words\.ids refers to a word twice"),
    ({"ids": [255] * 62}, r"words\.ids refers to a word"),
    ({"back": [0] * 3}, r"words\.back does not match the words"),
    ({"first": [0] * 63}, r"words\.first refers to a word twice"),
    ({"first": [99] * 63}, r"words\.first refers to a word"),
    ({"ranks": [9]}, r"words\.ranks does not match the words"),
    ({"order": [0] * 9}, r"words\.order has the wrong number .* the bucket of id 63 \(expected 7, found 0\)"),
])
def test_lies_about_sizes_take_little_memory(change, problem, way):
    kept = "octaves" if change.keys() & {"first", "ranks", "order"} else "exact"
    sections = encode([b"w%d" % i for i in range(70)], kept)[1]
    for name, values in change.items():
        part = np.frombuffer(values, np.uint8) if isinstance(values, bytes) else np.array(values, np.uint64)
        sections[name] = part.astype(sections[name].dtype)
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"^a\.ems: " + problem):
        PackedWords(sections, "a.ems").check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_words_that_do_not_ascend_are_refused(way):
    words = sorted(numbered(96))
    order = np.array([*range(32, 64), *range(32), *range(64, 96)])
    model, data, lengths = front_coding.encode_sorted(Words(words), order)
    sections = encode_packed(Words(words))[1]
    sections.update(model=np.frombuffer(model, np.uint8), blocks=data, lengths=lengths.astype(np.uint8))
    with pytest.raises(FormatError, match=r"sorted word 32: the words are not sorted"):
        PackedWords(sections).check()
    sections = encode_packed(Words(words[:32]))[1]
    for wrong in ([*words[:31], words[30]], [words[1], words[0], *words[2:32]]):
        with pytest.raises(FormatError, match=r"block 0 of words\.blocks is damaged"):
            PackedWords({**sections, **symbols_of(naive.word_symbols(wrong, 32))}).check()


def symbols_of(symbols):
    """Return one block of these symbols, and its model."""
    distinct, which, uses = np.unique(list(map(naive_code, symbols)), return_inverse=True, return_counts=True)
    model, cells, stored = context_model.build(distinct, uses)
    cells = cells[which]
    data, lengths = rans.encode(model.freqs[cells], model.starts[cells], np.array([len(symbols)]))
    return {"model": np.frombuffer(stored, np.uint8), "blocks": data, "lengths": lengths.astype(np.uint8)}


def test_blocks_are_used_up_and_symbols_are_what_they_may_be(way):
    words = [b"a" * 300, b"a" * 256 + b"b"]
    sections = encode_packed(Words(words))[1]
    symbols = naive.word_symbols(words, 32)
    assert PackedWords({**sections, **symbols_of(symbols)}).raw == words
    both = [symbol for symbol in symbols if symbol[0] == 0]
    assert [symbol[-1] for symbol in both] == [255, 1]
    place = symbols.index(both[0])
    longer = {"blocks": np.append(sections["blocks"], np.uint8(0)), "lengths": sections["lengths"] + np.uint8(1)}
    for wrong in (longer, symbols_of([*symbols[:place], (*both[0][:4], 256), *symbols[place + 2 :]])):
        with pytest.raises(FormatError, match=r"block 0 of words\.blocks is damaged"):
            PackedWords({**sections, **wrong}).check()


def test_words_that_never_end_are_refused(way):
    """A symbol that is certain takes no bits: only the sizes that are stored say where to stop."""
    codes = np.array([2 << 36 | 2, 2 << 36 | 98 << 27 | 98])  # an a, then nothing but a
    model = context_model.build(codes, np.array([1, 10**6]))[2]
    sections = {"sizes": np.array([1, 500, 500], np.uint64), "model": np.frombuffer(model, np.uint8),
                "blocks": np.array([0x40, 0], np.uint8), "lengths": np.array([2], np.uint8),
                "order": np.zeros(0, np.uint8), "ranks": np.zeros(0, np.uint32), "first": np.zeros(1, np.uint8)}
    with pytest.raises(FormatError, match=r"block 0 of words\.blocks is damaged"):
        PackedWords(sections).check()


# ---------------------------------------------------------------- damaged tables


@pytest.fixture
def layers(monkeypatch):
    """Return the layers of a small model: kind 2 after keys 200 and 210, and a second key there."""
    found = []
    store = context_model._store
    monkeypatch.setattr(context_model, "_store", lambda layers: found.extend(layers) or store(layers))
    codes = [2 << 36 | one << 27 | two << 18 | one + two for one in (200, 210) for two in (5, 6, 7)]
    context_model.build(np.array(codes), np.full(6, 1000))
    monkeypatch.undo()
    assert [len(layer.counts) for layer in found] == [3, 2, 6, 0]
    return found


def refused_tables(layers):
    with pytest.raises(rans.Damaged):
        context_model.read(context_model._store(layers))


def test_tables_that_are_cut_or_longer_are_refused(layers):
    stored = context_model._store(layers)
    context_model.read(stored)
    for wrong in [stored + b"\0", *(stored[:end] for end in range(len(stored)))]:
        with pytest.raises(rans.Damaged):
            context_model.read(wrong)


def test_numbers_of_contexts_that_do_not_agree_are_refused(layers):
    stored = bytearray(context_model._store(layers))
    assert stored[0] != stored[4]
    stored[0], stored[4] = stored[4], stored[0]
    with pytest.raises(rans.Damaged):
        context_model.read(bytes(stored))


def test_keys_and_levels_beyond_their_range_are_refused(layers):
    above, own = layers[0], layers[1]
    rest = [layer.children(*[np.zeros(0, np.int64)] * 3).marked(np.zeros(0, np.int64)) for layer in (own, own)]
    context_model.read(context_model._store([above, own, *rest]))
    contexts = own.contexts
    keys = contexts.keys.copy()
    contexts.keys[1] = 257
    refused_tables([above, own, *rest])
    contexts.keys[1] = 258 + 100
    refused_tables([above, own, *rest])
    high = above.children(contexts.parents, keys, np.array([63, 63]))
    refused_tables([above, dataclasses.replace(own, contexts=high, marks=np.full(len(high.tables), 31)), *rest])
    contexts.keys[1] = keys[1]
    own.marks[: len(own.marks) // 2] = 0
    refused_tables([above, own, *rest])
