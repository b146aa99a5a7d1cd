"""Words and ids: any bytes are a word, every word is found, and a wrong index is an error or harmless."""

import random
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embshrink.errors import FormatError
from embshrink.vocabulary.words import Numerals, PlainWords, Words, encode_plain, plan_plain, to_bytes, to_text

ODD = [b"", b"\0", b"\0\0", b"\xff\xfe", b"a b", b"a\n", "caf\u00e9".encode(), b"caf\xe9", "\U0001f600".encode(),
       b"a", b"\xed\xa0\x80", b"x" * 300]
word_lists = st.lists(st.binary(max_size=6) | st.sampled_from(ODD), max_size=150, unique=True)


def plain(words):
    return PlainWords(encode_plain(Words(words)))


def numbered(n):
    return [b"w%d" % i for i in range(n)]


@pytest.mark.parametrize("make", [Words, plain])
@settings(max_examples=100, deadline=None)
@given(words=word_lists, others=st.lists(st.binary(max_size=6), max_size=20))
def test_every_word_is_found_and_nothing_else(make, words, others):
    index = make(words)
    assert len(index) == len(words)
    assert index.raw == words
    assert list(index) == [to_text(word) for word in words]
    assert [to_bytes(word) for word in index] == words
    assert [index.find(word) for word in words] == list(range(len(words)))
    assert [index.find(to_text(word)) for word in words] == list(range(len(words)))
    for word in others:
        assert index.find(word) == (words.index(word) if word in words else -1)
    assert [index[i] for i in range(len(words))] == list(index)
    assert [index[i - len(words)] for i in range(len(words))] == list(index)
    assert index[1:100:3] == list(index)[1:100:3]
    assert index[::-1] == list(index)[::-1]
    ids = list(range(0, len(words), 2))[::-1]
    assert index.take(ids).raw == [words[i] for i in ids]


@settings(max_examples=100, deadline=None)
@given(words=word_lists)
def test_the_layout_is_as_planned_and_passes_its_own_check(words):
    arrays = encode_plain(Words(words))
    plan = plan_plain(len(words), sum(map(len, words)), max(map(len, words), default=0))
    assert {name: (part.dtype, part.shape) for name, part in arrays.items()} == plan
    PlainWords(arrays).check()


@pytest.mark.parametrize("n", [0, 1, 2, 4, 5, 63, 64, 65, 127, 128, 129, 1000])
def test_counts_around_the_strides(n):
    words = numbered(n)
    arrays = encode_plain(Words(words))
    index = PlainWords(arrays)
    assert [index.raw_at(i) for i in range(n)] == words
    assert [index.find(word) for word in words] == list(range(n))
    assert index.find(b"none") == -1
    assert arrays["starts"].tolist() == [sum(map(len, words[:i])) for i in range(0, n, 64)]
    buckets = len(arrays["buckets"]) - 1
    assert buckets & (buckets - 1) == 0
    assert n <= 4 * buckets
    assert buckets == 1 or n > 2 * buckets
    for bucket in range(buckets):
        held = arrays["ids"][arrays["buckets"][bucket] : arrays["buckets"][bucket + 1]].tolist()
        assert held == [i for i, word in enumerate(words) if zlib.crc32(word) % buckets == bucket]


def test_words_in_one_bucket_are_told_apart():
    rng, words = random.Random(0), []
    while len(words) < 64:  # 64 words make 16 buckets: all of these fall into bucket 3
        word = rng.randbytes(rng.choice([3, 4]))
        if zlib.crc32(word) % 16 == 3 and word not in words:
            words.append(word)
    index = plain(words)
    assert np.diff(encode_plain(Words(words))["buckets"]).tolist() == [0, 0, 0, 64] + [0] * 12
    assert [index.find(word) for word in words] == list(range(64))
    index.check()


def test_words_with_one_crc32_are_told_apart():
    words = [b"plumless", b"buckeroo"]
    assert zlib.crc32(words[0]) == zlib.crc32(words[1])
    assert [plain(words).find(word) for word in [*words, b"plumlesz"]] == [0, 1, -1]


@pytest.mark.parametrize("longest, dtype", [(0, "u1"), (255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4")])
def test_lengths_take_the_narrowest_dtype(longest, dtype):
    arrays = encode_plain(Words([b"a" * longest]))
    assert arrays["lengths"].dtype == np.dtype(dtype)
    assert PlainWords(arrays).raw == [b"a" * longest]


@pytest.mark.parametrize("make", [Words, plain])
def test_an_id_that_is_not_there_is_an_index_error(make):
    index = make(numbered(65))
    for wrong in (65, -66, 10**12):
        with pytest.raises(IndexError):
            index[wrong]


def test_numerals_are_words_as_any_others():
    for n in (0, 1, 10, 101):
        names, words = Numerals(n), Words([str(i) for i in range(n)])
        assert len(names) == n and names.raw == words.raw and list(names) == list(words)
        assert names.equals(words) and names.take([*range(n)][::-1]).raw == words.raw[::-1]
        for word in [*words, "", "-1", "+1", "01", "1_0", " 1", "\u0661", str(n), "9" * 9999, b"5"]:
            assert names.find(word) == words.find(word)
        assert [names.raw_at(i) for i in range(n)] == words.raw
        assert names.prefix("1") == words.prefix("1") and names[-1:] == words[-1:]
        with pytest.raises(IndexError, match="no word has the id"):
            names[n]
        names.unpack()
        names.check()
        names.pack()


def test_two_byte_strings_are_two_words_however_they_are_shown():
    index = plain([b"\xff", "\u00ff".encode(), b"\xc3"])
    assert index[0] == "\udcff"
    assert index.find("\udcff") == 0
    assert index.find("\u00ff") == 1
    assert index.find(b"\xc3") == 2
    assert index.find("\ud800") == -1  # stands for no byte


# ---------------------------------------------------------------- wrong indexes


@pytest.mark.parametrize("name", ["bytes", "lengths", "starts", "buckets", "ids"])
def test_a_missing_or_misshapen_array_is_refused(name):
    arrays = encode_plain(Words(numbered(70)))
    with pytest.raises(FormatError, match=rf"^a\.ems: section words\.{name} is missing\. "):
        PlainWords({key: part for key, part in arrays.items() if key != name}, "a.ems")
    part = arrays[name]
    for wrong in (part[:, None], part.reshape(-1, 1, 1), np.array(3, part.dtype)):
        with pytest.raises(FormatError, match=rf"a\.ems: section words\.{name} has the .* shape \(expected one axis"):
            PlainWords({**arrays, name: wrong}, "a.ems")
    for dtype in {"int8", "int16", "int32", "float16", "float32", "uint64", "uint8"} - {part.dtype.name}:
        with pytest.raises(FormatError, match=rf"a\.ems: section words\.{name} has the wrong dtype or shape"):
            PlainWords({**arrays, name: part.astype(dtype)}, "a.ems")


@pytest.mark.parametrize("name", ["starts", "buckets", "ids"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_length_that_does_not_fit_is_refused(name, change):
    arrays = encode_plain(Words(numbered(70)))
    arrays[name] = np.resize(arrays[name], len(arrays[name]) + change)
    with pytest.raises(FormatError, match=rf"words\.{name} has the wrong dtype or shape \(expected .*, found "):
        PlainWords(arrays)


@pytest.mark.parametrize("name", ["lengths", "starts", "buckets", "ids"])
def test_every_entry_changed_is_an_error_or_a_word_that_is_right(name):
    """No wrong entry makes `find` name another word, reach outside, or pass the full check."""
    words = numbered(70)
    good = encode_plain(Words(words))
    top = int(np.iinfo(good[name].dtype).max)
    for position in range(len(good[name])):
        before = int(good[name][position])
        for value in {0, 1, before - 1, before + 1, 69, 70, 71, top // 2, top - 1, top} - {before, -1}:
            arrays = {**good, name: good[name].copy()}
            arrays[name][position] = value
            index = PlainWords(arrays)
            with pytest.raises(FormatError):
                index.check()
            for i in range(position % 7, 70, 7):
                try:
                    found = index.find(words[i])
                    assert found == -1 or index.raw_at(found) == words[i]
                except FormatError as error:
                    assert "words." in str(error)


def test_the_full_check_names_what_is_wrong():
    good = encode_plain(Words(numbered(70)))
    for name in ("starts", "buckets", "ids"):
        wrong = good[name].copy()
        wrong[-1] -= 1
        with pytest.raises(FormatError, match=rf"a\.ems: words\.{name} does not match the words"):
            PlainWords({**good, name: wrong}, "a.ems").check()
    twice = encode_plain(Words([b"a", b"b", b"a"]))
    with pytest.raises(FormatError, match=r"a\.ems: a word occurs twice"):
        PlainWords(twice, "a.ems").check()
    with pytest.raises(FormatError, match=r"lengths do not add up to words\.bytes \(expected 201, found 200\)"):
        PlainWords({**good, "bytes": np.append(good["bytes"], good["bytes"][:1])}).check()
    with pytest.raises(FormatError, match=r"word 69 ends after .* words\.bytes \(expected <= 199, found 200\)"):
        PlainWords({**good, "bytes": good["bytes"][:-1]})[69]
    past = PlainWords({**good, "buckets": np.where(good["buckets"] == 70, 71, good["buckets"])}, "a.ems")
    with pytest.raises(FormatError, match=r"a\.ems: words\.buckets is not ascending at \d+ \(expected <= 70, found"):
        for word in numbered(70):
            past.find(word)
    outside = PlainWords({**good, "ids": np.where(good["ids"] == 7, 70, good["ids"])}, "a.ems")
    with pytest.raises(FormatError, match=r"words\.ids refers to a word that .* \(expected < 70, found 70\)"):
        outside.find(b"w7")
