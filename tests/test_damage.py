"""Damaged and hostile files: refused with FormatError, or read exactly. Never a crash, never a wrong vector.

Noise is what happens to files, and checksums find it. An attacker repairs the checksums: `assemble` does that, and
then only bounds and consistency are left to stop a file.
"""

import contextlib
import json
import os
import random
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import make_vectors
from forge import BLOCK, PRELUDE, assemble, spans, take_apart

from embshrink import WordVectors, compress, load
from embshrink.errors import FormatError
from embshrink.storage.container import MAGIC, Container

MADE_BY = {
    "cast16": ["cast"],
    "cast32": ["cast:dtype=float32"],
    "pq8": ["pq:subspaces=3,centroids=30"],
    "pq4": ["pq:subspaces=3,centroids=10"],
    "pq16": ["pq:subspaces=2,centroids=257"],
    "scalar": ["scalar:bits=3"],
    "rq": ["rq:codebooks=2,centroids=12,rounds=0"],
    "iiq": ["iiq:bits=5,remove=1"],
    "lowrank": ["lowrank:dims=4", "pq:subspaces=2,centroids=9,normalize=columns"],
    "rescale": ["rescale:exponent=2", "scalar:bits=5"],
    "magnitude": ["magnitude"],
    "global": ["magnitude:scope=global"],
    "blocksparse": ["blocksparse:blocks=3,density=0.6"],
    "groupreduce": ["groupreduce:blocks=3,keep=0.8,alpha=1,refine=1,dtype=int8"],
    "tensortrain": ["tensortrain:rank=3"],
    "ecq": ["ecq:step=0.3,centroids=20"],
    "ecq-rdo": ["ecq:trellis=0,block=5,weights=zipf:0.5,norms=true"],
    "prune+pq": ["prune:keep=40,norms=true", "pq:subspaces=2,centroids=16,rotate=pca"],
    "kmeans": ["kmeans:centroids=12,norms=true", "cast"],
    "dedupe": ["dedupe", "cast:dtype=float32"],
}
RANGES = {"prune+pq", "kmeans", "dedupe", "tensortrain"}  # those with a row map


def small_vectors(n, d=6, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, d)).astype(np.float32)
    matrix[n // 2] = matrix[3]  # something to dedupe
    return WordVectors([f"w{i}" for i in range(n - 2)] + ["café", b"\xff\0"], matrix)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """For each codec the bytes of a file of a few kB, its words, and its vectors."""
    folder, files = tmp_path_factory.mktemp("made"), {}
    for name, steps in MADE_BY.items():
        compress(small_vectors(270 if name == "pq16" else 70), folder / "a.ems", steps, measure=False, force=True)
        with load(folder / "a.ems", verify="full", mmap=False) as emb:
            files[name] = ((folder / "a.ems").read_bytes(), emb.words.raw, np.asarray(emb.vectors))
    return files


@pytest.fixture(params=MADE_BY)
def case(request, made):
    return made[request.param]


@pytest.fixture(params=["cast16", "pq4", "prune+pq", "kmeans"])
def some_case(request, made):
    """Fewer, for what does not depend on the codec."""
    return made[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.ems"


def refused(path, verify="header", match=None):
    """Assert that `path` is refused at open, by an error that names it."""
    with pytest.raises(FormatError, match=match) as caught:
        load(path, verify=verify).close()
    assert str(path) in str(caught.value)
    return caught.value


def use(emb, words):
    """Touch everything a user can; what comes of it does not matter here."""
    for word in words:
        emb.get(word)
        with contextlib.suppress(KeyError):
            emb.alias_of(word)
    emb.get("nothing")
    emb.info()
    list(emb.words)
    emb.words[-1:]
    np.asarray(emb.vectors)
    emb.most_similar([np.ones(emb.vector_size, np.float32)], topn=3)


def judge(path, words, vectors):
    """Full level: refused, or exact. Header level, which trusts most: FormatError or nothing. Return the refusal."""
    wrong = None
    try:
        with load(path, verify="full", mmap=False) as emb:
            assert emb.words.raw == words
            assert np.array_equal(np.asarray(emb.vectors), vectors)
            assert [emb.words.find(word) for word in words] == list(range(len(words)))
            use(emb, words)
    except FormatError as error:
        assert str(path) in str(error)
        wrong = str(error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # infinities in trusted data
        try:
            with load(path, verify="header", mmap=False) as emb:
                use(emb, words[::9])
        except FormatError as error:
            assert str(path) in str(error)
    return wrong


@contextlib.contextmanager
def bounded(limit=16 << 20):
    """Assert that no more than `limit` bytes are allocated at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- noise


def test_the_files_are_small_and_of_every_kind(made):
    for name, (data, words, vectors) in made.items():
        assert 2000 < len(data) < 12_000
        assert vectors.shape == (len(words), 6)
        assert (b"map.rows" in data) == (name in RANGES)


def test_cut_at_every_length(case, path):
    data = case[0]
    path.write_bytes(data)
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(FormatError) as caught:
            Container(path, verify="header")
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "truncated" in message or length == 0


@pytest.mark.parametrize("extra", [1, 7, 64])
@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_anything_appended(case, path, extra, byte):
    path.write_bytes(case[0] + extra * byte)
    error = refused(path, match="truncated or has extra bytes at its end")
    assert (error.expected, error.found) == (f"{len(case[0])} bytes", len(case[0]) + extra)


def test_anything_put_before(case, path):
    path.write_bytes(b"\n" + case[0])
    refused(path, match=r"not an \.ems file")
    path.write_bytes(case[0] * 2)
    refused(path, match="extra bytes at its end")


def test_every_bit_that_is_not_data_flipped(some_case, path):
    """Prelude, header, section table, padding, footer."""
    data = some_case[0]
    inside = np.zeros(len(data), bool)
    for begin, end in spans(data):
        inside[begin:end] = True
    path.write_bytes(data)
    with open(path, "r+b", buffering=0) as file:
        for position in np.flatnonzero(~inside).tolist():
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([data[position] ^ 1 << bit]), position)
                with pytest.raises(FormatError):
                    Container(path, verify="header")
            os.pwrite(file.fileno(), data[position : position + 1], position)
    Container(path, verify="full").close()


def test_500_data_bits_flipped(case, path):
    """Full refuses all; lazy refuses as soon as the section is touched; header does not crash."""
    data, words, vectors = case
    rng = random.Random(0)
    bits = rng.sample([(position, bit) for begin, end in spans(data) for position in range(begin, end)
                       for bit in range(8)], 500)
    path.write_bytes(data)
    with open(path, "r+b", buffering=0) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # header level trusts the data: there may be infinities
        for number, (position, bit) in enumerate(bits):
            os.pwrite(file.fileno(), bytes([data[position] ^ 1 << bit]), position)
            with pytest.raises(FormatError, match=r"a\.ems: section .* is damaged in block 0 \(expected crc32 "):
                Container(path, verify="full")
            if number % 20 == 0:
                refused(path, "full")
                with pytest.raises(FormatError, match=r"a\.ems: section .* is damaged"), load(path) as emb:
                    use(emb, words)
                with contextlib.suppress(FormatError), load(path, verify="header") as emb:
                    use(emb, words)
            os.pwrite(file.fileno(), data[position : position + 1], position)


def test_lazy_refuses_the_block_that_is_damaged_and_no_other(path):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3000, 300)).astype(np.float32)  # 3.4 MiB of vectors
    words = [f"{i:04d}".encode() * 200 for i in range(3000)]  # 2.3 MiB of words
    compress(WordVectors(words, matrix), path, "cast:dtype=float32", measure=False)
    data = path.read_bytes()
    with load(path) as emb:
        names = list(emb._container.sections)
    for name, row_size in (("codes.values", 1200), ("words.bytes", 800)):
        begin, _ = spans(data)[names.index(name)]
        path.write_bytes(data)
        with open(path, "r+b") as file:
            file.seek(begin + BLOCK + 12_345)
            file.write(bytes([data[begin + BLOCK + 12_345] ^ 16]))
        for mmap in (True, False):
            failed = []
            with load(path, mmap=mmap) as emb:
                for i in range(3000):
                    try:
                        assert np.array_equal(emb.decode_ids([i])[0], matrix[i])
                        assert emb.words.raw_at(i) == words[i]
                    except FormatError as error:
                        assert f"{path}: section {name} is damaged in block 1" in str(error)
                        failed.append(i)
            assert failed == [i for i in range(3000) if i * row_size < 2 * BLOCK and (i + 1) * row_size > BLOCK]
        refused(path, "full", match=f"section {name} is damaged in block 1")
        load(path, verify="header").close()


def test_a_later_check_looks_at_what_was_trusted_or_seen_before(made, path):
    data, words, vectors = made["cast32"]
    path.write_bytes(data)
    with load(path) as emb:
        use(emb, words)
        with open(path, "r+b") as file:  # changed in place, under the mapping
            file.seek(spans(data)[-1][0])
            file.write(b"\x55")
        with pytest.raises(FormatError, match=r"a\.ems: section codes\.values is damaged in block 0"):
            emb.check()
    with load(path, verify="header") as emb:
        use(emb, words)
        with pytest.raises(FormatError, match=r"a\.ems: section codes\.values is damaged in block 0"):
            emb.check()


def test_damaged_block_sums_are_refused_at_open(path):
    matrix = np.random.default_rng(0).standard_normal((1000, 300)).astype(np.float32)
    compress(WordVectors(map(str, range(1000)), matrix), path, "cast:dtype=float32", measure=False)
    data = bytearray(path.read_bytes())
    assert b'"checksums"' in data
    data[-24 - 64] ^= 1
    path.write_bytes(data)
    refused(path, match="block checksums are damaged")


@pytest.mark.parametrize("content, hint", [
    (b"", "Make an .ems file from word vectors"),
    (b"\n", "Make an .ems file"),
    (b"<!DOCTYPE html>\n<html>", "Make an .ems file"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Make an .ems file"),
    (b"3 2\nup 1 2\n", "embshrink quantize"),
    (MAGIC[:5], "truncated"),
    (MAGIC.replace(b"\r\n", b"\n") + bytes(100), "text-mode transfer"),
    (b"\x09" + MAGIC[1:] + bytes(100), "text-mode transfer"),
    (MAGIC + bytes(100), "the format version is not supported"),
])
def test_other_files(path, content, hint):
    path.write_bytes(content)
    refused(path, match=hint)


# ---------------------------------------------------------------- attackers


def test_assemble_changes_nothing_by_itself(case):
    assert assemble(*take_apart(case[0])) == case[0]


def numbers(value):
    return sorted({0, 1, -1, value - 1, value + 1, 2**31, 2**32, 2**53, 2**63, 2**64 - 1} - {value})


def test_every_number_in_the_header(some_case, path):
    data, words, vectors = some_case
    harmless = set()
    with bounded():
        for key in ("dim", "words", "rows", "seed"):
            header, arrays = take_apart(data)
            for value in numbers(header[key]):
                path.write_bytes(assemble({**header, key: value}, arrays))
                if judge(path, words, vectors) is None:
                    harmless.add(key)
                    assert value >= 0
    assert harmless == {"seed"}  # for whoever repeats the run; decoding does not need it


def test_every_number_in_the_section_table(some_case, path):
    data, words, vectors = some_case
    header, arrays = take_apart(data)
    with bounded():
        for index, array in enumerate(arrays.values()):
            places = [("offset", None), *(("shape", axis) for axis in range(array.ndim))]
            for key, axis in places:
                for value in numbers(0 if axis is None else array.shape[axis]):
                    def edit(table, index=index, key=key, axis=axis, value=value):
                        if axis is None:
                            table[index][key] = value
                        else:
                            table[index][key][axis] = value

                    content = assemble(header, arrays, edit=edit)
                    if content != data:
                        path.write_bytes(content)
                        assert judge(path, words, vectors) is not None, (index, key, value)


@pytest.mark.parametrize("field, bits", [("major", 16), ("minor", 16), ("size", 32), ("length", 64), ("flags", 32)])
def test_every_number_in_the_prelude(some_case, path, field, bits):
    data, words, vectors = some_case
    at = {"major": 1, "minor": 2, "size": 3, "length": 4, "flags": 5}[field]
    right = PRELUDE.unpack(data[:32])[at]
    with bounded():
        for value in numbers(right):
            value %= 1 << bits
            if value != right:
                path.write_bytes(assemble(*take_apart(data), **{field: value}))
                assert (judge(path, words, vectors) is None) == (field == "minor")


def test_versions_and_flags_are_named(made, path):
    parts = take_apart(made["pq8"][0])
    path.write_bytes(assemble(*parts, major=2))
    refused(path, match=r"format version is not supported \(expected 1\.x, found 2\.0\)\..*update embshrink")
    path.write_bytes(assemble(*parts, flags=1 << 31))
    refused(path, match=r"a feature that this version does not support \(found flags 0x80000000\)\..*update embs")
    path.write_bytes(assemble(*parts, minor=7))
    with load(path, verify="full") as emb:
        assert emb.info()["version"] == "1.7"


def test_what_a_later_minor_version_may_add_is_ignored(case, path):
    data, words, vectors = case
    header, arrays = take_apart(data)
    zeros = np.zeros((2, 3), np.float32)
    more = {"state.rotation", "state.more", "codes.more", "columns.0.more", "words.more", "other", "map.more"}
    arrays.update({name: zeros for name in more - set(arrays) if "map.rows" in arrays or name != "map.more"})
    path.write_bytes(assemble({**header, "more": {"x": [1, 2]}}, arrays, minor=1))
    assert judge(path, words, vectors) is None


@pytest.mark.parametrize("key", ["dim", "words", "rows", "owned", "vocabulary", "steps", "seed", "source", "writer"])
def test_header_keys_of_the_wrong_type(made, path, key):
    data, words, vectors = made["prune+pq"]
    header, arrays = take_apart(data)
    path.write_bytes(assemble({name: value for name, value in header.items() if name != key}, arrays))
    refused(path, match=f"the key '{key}' is missing or has the wrong type")
    for value in (None, True, 1, 1.5, "x", [], {}, [None], {"a": 1}, "9" * 100_000):
        if type(value) is not type(header[key]):
            path.write_bytes(assemble({**header, key: value}, arrays))
            refused(path, match=f"the key '{key}' is missing or has the wrong type")


@pytest.mark.parametrize("key, values", [
    ("name", [5, [], True]), ("size", ["5", -1, 2**63, 10**400, 1.5, True, {}]), ("sha256", [5]), ("format", [[]]),
    ("steps", ["cast", 5, {}, [5], ["cast", None]]),
])
def test_a_source_that_no_report_could_print(made, path, key, values):
    header, arrays = take_apart(made["cast16"][0])
    for value in values:
        path.write_bytes(assemble({**header, "source": {key: value}}, arrays))
        refused(path, match=f"the key 'source.{key}' is invalid")
    path.write_bytes(assemble({**header, "source": {key: None, "more": [5]}}, arrays))
    load(path, verify="full").close()


def drop(table, index):
    del table[index]


ENTRY_EDITS = {
    "not an object": lambda entry: [],
    "no name": lambda entry: {key: entry[key] for key in entry if key != "name"},
    "one key more": lambda entry: {**entry, "more": 1},
    "name is a number": lambda entry: {**entry, "name": 5},
    "float64": lambda entry: {**entry, "dtype": "float64"},
    "object": lambda entry: {**entry, "dtype": "O"},
    "big endian": lambda entry: {**entry, "dtype": ">u4"},
    "another dtype": lambda entry: {**entry, "dtype": "int8" if entry["dtype"] != "int8" else "uint8"},
    "same size": lambda entry: {**entry, "dtype": {"uint8": "int8", "float32": "int32"}.get(entry["dtype"], "int16")},
    "no shape": lambda entry: {**entry, "shape": None},
    "no axes": lambda entry: {**entry, "shape": []},
    "five axes": lambda entry: {**entry, "shape": [1, 1, 1, 1, *entry["shape"]]},
    "one axis more": lambda entry: {**entry, "shape": [*entry["shape"], 1]},
    "an axis in front": lambda entry: {**entry, "shape": [1, *entry["shape"]]},
    "float axis": lambda entry: {**entry, "shape": [float(axis) for axis in entry["shape"]]},
    "true axis": lambda entry: {**entry, "shape": [True]},
    "string axis": lambda entry: {**entry, "shape": ["1"]},
    "empty but immense": lambda entry: {**entry, "shape": [2**47, 2**47, 0]},
    "immense": lambda entry: {**entry, "shape": [2**47, 2**47, 2**47, 2**47]},
    "offset is a string": lambda entry: {**entry, "offset": "0"},
    "offset is true": lambda entry: {**entry, "offset": True},
    "crc of another": lambda entry: {**entry, "crc32": "00000001"},
    "crc in upper case": lambda entry: {**entry, "crc32": entry["crc32"].upper()},
    "crc too long": lambda entry: {**entry, "crc32": "0" + entry["crc32"]},
    "crc with a line end": lambda entry: {**entry, "crc32": entry["crc32"] + "\n"},
    "crc with an underscore": lambda entry: {**entry, "crc32": entry["crc32"][:4] + "_" + entry["crc32"][4:]},
    "crc with a prefix": lambda entry: {**entry, "crc32": "0x" + entry["crc32"][2:]},
    "crc is a number": lambda entry: {**entry, "crc32": int(entry["crc32"], 16)},
    "name of another": lambda entry: {**entry, "name": "words.ids" if entry["name"] != "words.ids" else "map.rows"},
    "unknown name": lambda entry: {**entry, "name": "unknown" if entry["name"] != "map.scale" else "map.rows"},
    "checksums": lambda entry: {**entry, "name": "checksums"},
}


@pytest.mark.parametrize("kind", ENTRY_EDITS)
def test_entries_of_the_section_table(made, path, kind):
    for data, words, vectors in (made["prune+pq"], made["cast32"]):
        header, arrays = take_apart(data)
        for index, name in enumerate(arrays):
            def edit(table, index=index):
                table[index] = ENTRY_EDITS[kind](table[index])

            content = assemble(header, arrays, edit=edit)
            path.write_bytes(content)
            with bounded():
                wrong = judge(path, words, vectors)
            assert wrong is not None or content == data, name


def test_sections_that_overlap_leave_gaps_repeat_or_are_missing(case, path):
    data, words, vectors = case
    header, arrays = take_apart(data)

    def try_it(*args, **kwargs):
        path.write_bytes(assemble(*args, **kwargs))
        return judge(path, words, vectors)

    assert "does not begin at the end of the section before it" in try_it(header, arrays, gap=64)
    for index in range(1, len(arrays)):
        def overlap(table, index=index):
            table[index]["offset"] = table[index - 1]["offset"]

        def repeat(table, index=index):
            table[index]["name"] = table[index - 1]["name"]

        if arrays[list(arrays)[index - 1]].nbytes:
            assert "does not begin at the end of the section before it" in try_it(header, arrays, edit=overlap)
        assert "occurs twice" in try_it(header, arrays, edit=repeat)
    for name in arrays:
        less = {key: array for key, array in arrays.items() if key != name}
        # without its scales, or without the row map that is but an order, it is another file, and a proper one
        if name != "map.scale" and (name != "map.rows" or header["rows"] < header["words"]):
            wrong = try_it(header, less)
            assert "missing" in wrong or name == "map.owners"
    assert "not begin at the end of the section before it" in try_it(header, arrays, edit=lambda table: table[::-1])
    assert try_it(header, dict(reversed(arrays.items()))) is None  # the order of sections is free
    assert "the last section does not end at the footer" in try_it(header, arrays, edit=lambda table: drop(table, -1))
    assert "is missing" in try_it(header, {})
    arrays["checksums"] = np.zeros(1, np.uint32)
    assert "no section that needs them" in try_it(header, arrays)


def test_wrong_block_sums(path):
    matrix = np.random.default_rng(0).standard_normal((700, 400)).astype(np.float32)
    vectors = WordVectors(map(str, range(700)), matrix)
    compress(vectors, path, "cast:dtype=float32", measure=False)
    header, arrays = take_apart(path.read_bytes())
    sums = arrays.pop("checksums")
    for wrong in (sums[:0], sums[:1], np.append(sums, sums), sums[:, None], sums.astype(np.int32),
                  sums.view(np.uint8), np.append(sums, np.uint32(0)), sums[::-1].copy(), sums + np.uint32(1)):
        path.write_bytes(assemble(header, {**arrays, "checksums": wrong}))
        assert "block checksums" in judge(path, vectors.words.raw, matrix)
    path.write_bytes(assemble(header, arrays))
    refused(path, match="the block checksums are missing")
    path.write_bytes(assemble(header, {**arrays, "checksums": sums}))
    assert judge(path, vectors.words.raw, matrix) is None


# ---------------------------------------------------------------- JSON


def json_attacks(text):
    """Yield (name, header bytes) made from a good header."""
    yield "empty", b""
    yield "a list", b"[]"
    yield "a number", b"1"
    yield "null", b"null"
    yield "an empty object", b"{}"
    yield "cut", text[:-1]
    yield "a space", text.replace(b":", b": ", 1)
    yield "a line end", text + b"\n"
    yield "a key twice", text.replace(b'{"dim"', b'{"dim":6,"dim"', 1)
    yield "sections twice", text.replace(b'"seed"', b'"sections":[],"seed"', 1)
    yield "keys unsorted", b'{"writer":"x",' + text[1:]
    yield "NaN", text.replace(b'"seed":0', b'"seed":NaN')
    yield "Infinity", text.replace(b'"seed":0', b'"seed":-Infinity')
    yield "a float too large", text.replace(b'"seed":0', b'"seed":1e999')
    yield "an exponent", text.replace(b'"seed":0', b'"seed":1e2')
    yield "minus zero", text.replace(b'"seed":0', b'"seed":-0')
    yield "a leading zero", text.replace(b'"seed":0', b'"seed":00')
    yield "hexadecimal", text.replace(b'"seed":0', b'"seed":0x0')
    yield "5000 digits", text.replace(b'"seed":0', b'"seed":' + b"9" * 5000)
    yield "5000 digits of dim", text.replace(b'"dim":6', b'"dim":' + b"9" * 5000)
    yield "4000 digits of dim", text.replace(b'"dim":6', b'"dim":' + b"9" * 4000)
    yield "4000 digits of rows", text.replace(b'"rows":', b'"rows":' + b"9" * 4000)
    yield "4000 digits of shape", text.replace(b'"shape":[', b'"shape":[' + b"9" * 4000, 1)
    yield "4000 digits of offset", text.replace(b'"offset":', b'"offset":' + b"9" * 4000, 1)
    yield "invalid UTF-8", text.replace(b"embshrink", b"\xff\xfe\xfd")
    yield "UTF-8 not escaped", text.replace(b"embshrink", "é".encode())
    yield "escape in upper case", text.replace(b"embshrink", b"\\u00E9")
    yield "a needless escape", text.replace(b"embshrink", b"\\u0061")
    yield "UTF-16", text.decode().encode("utf-16")
    yield "BOM", b"\xef\xbb\xbf" + text
    yield "NUL", text.replace(b"embshrink", b"\0")
    yield "a comment", text[:-1] + b"/**/}"
    yield "a trailing comma", text[:-1] + b",}"
    yield "deep list", b"[" * 100_000
    yield "deep and closed", b"[" * 100_000 + b"]" * 100_000
    yield "deep object", b'{"a":' * 100_000
    yield "deep source", text.replace(b'"source":{}', b'"source":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    yield "too large", text[:-1] + b" " * (1 << 20) + b"}"


def test_headers_that_are_not_the_json_they_should_be(some_case, path):
    data = some_case[0]
    header, arrays = take_apart(data)
    text = data[32 : 32 + struct.unpack_from("<I", data, 12)[0]]
    for name, wrong in json_attacks(text):
        assert wrong != text, name
        path.write_bytes(assemble(header, arrays, text=wrong))
        with bounded():
            error = refused(path)
        assert len(str(error)) < 5000, name


def test_any_depth_of_nesting_is_read_or_refused(made, path):
    """The last depth that Python's JSON takes must not be too deep for what comes after."""
    data, words, vectors = made["cast16"]
    header, arrays = take_apart(data)
    text = data[32 : 32 + struct.unpack_from("<I", data, 12)[0]]
    for depth in [*range(1, 100, 9), *range(850, 1010), 2000, 5000, 9000, 10_000, 20_000]:
        nest = b"[" * depth + b"]" * depth
        for wrong in (text.replace(b'"source":{}', b'"source":{"a":' + nest + b"}"),
                      text.replace(b'"dim":6', b'"dim":' + nest), text.replace(b'"shape":[', b'"shape":[' + nest, 1)):
            path.write_bytes(assemble(header, arrays, text=wrong))
            with contextlib.suppress(FormatError), load(path, mmap=False) as emb:
                json.dumps(emb.info())
                repr(emb.info())


def test_strings_that_no_terminal_should_see_come_back_as_they_are(made, path):
    data, words, vectors = made["cast16"]
    header, arrays = take_apart(data)
    odd = "\x1b[31m\u202e\ud800\0"
    path.write_bytes(assemble({**header, "writer": odd, "source": {"name": odd}}, arrays))
    with load(path, verify="full") as emb:
        assert emb.info()["writer"] == odd


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("steps", [
    [], ["prune:keep=40"], ["kmeans"], ["pq"], ["pq:subspaces=0"], ["pq:subspaces=-1"], ["pq:subspaces=7"],
    ["pq:subspaces=1"], ["pq:subspaces=3"], ["pq:subspaces=2,centroids=17"],
    ["pq:subspaces=2,centroids=0,rotate=pca"], ["pq:subspaces=2,centroids=65537,rotate=pca"],
    ["pq:subspaces=2,centroids=16,rotate=maybe"], ["pq:subspaces=2,centroids=16,rotate=pca,rotate=pca"],
    ["pq:subspaces=" + "9" * 5000], ["pq:subspaces=2,unknown=1"], ["pq:subspaces"], ["pq:"], ["pq:,"], [":"], [""],
    ["cast"], ["cast:dtype=float64"], ["cast:dtype=object"], ["unknown"], ["__import__('os')"], ["os.system:x=1"],
    ["x" * 500_000], ["pq:" + "a=1," * 100_000], ["cast", "pq:subspaces=2,centroids=16,rotate=pca"],
    ["pq:subspaces=2,centroids=16,rotate=pca", "prune:keep=40"], ["pq:subspaces=2,centroids=16,rotate=pca"] * 2,
    ["dedupe"] * 40_000 + ["pq:subspaces=2,centroids=16,rotate=pca"],
    ["prune:min_similarity=nan", "pq:subspaces=2,centroids=16,rotate=pca"],
    ["prune:keep=1e5", "pq:subspaces=2,centroids=16,rotate=pca"], [None], [[]], [5],
], ids=lambda steps: str(steps)[:40])
def test_steps_that_do_not_fit(made, path, steps):
    header, arrays = take_apart(made["prune+pq"][0])
    path.write_bytes(assemble({**header, "steps": steps}, arrays))
    with bounded(32 << 20):
        refused(path, match="steps|section|subspaces")


@pytest.mark.parametrize("steps", [
    ["pq:subspaces=2,centroids=16,rotate=opq"], ["dedupe", "pq:rotate=pca,centroids=16,subspaces=2"],
    ["dedupe"] * 99 + ["pq:subspaces=2,centroids=16,rotate=pca,iterations=3,sample=9"],
])
def test_steps_that_decode_alike_decode_alike(made, path, steps):
    data, words, vectors = made["prune+pq"]
    header, arrays = take_apart(data)
    path.write_bytes(assemble({**header, "steps": steps}, arrays))
    assert judge(path, words, vectors) is None


def test_unknown_vocabulary_and_rows_that_nobody_has(made, path):
    header, arrays = take_apart(made["cast16"][0])
    path.write_bytes(assemble({**header, "vocabulary": "folded"}, arrays))
    refused(path, match=r"kind of vocabulary is not supported .expected plain or packed, found folded.*update emb")
    path.write_bytes(assemble({**header, "owned": False}, arrays))
    refused(path, match=r"section map\.rows is missing \(expected 70 words on 70 rows\)")


# ---------------------------------------------------------------- data, with checksums that agree


def with_value(array, index, value):
    array = array.copy()
    array.reshape(-1)[index] = value
    return array


@pytest.mark.parametrize("name", ["words.lengths", "words.starts", "words.buckets", "words.ids"])
def test_every_entry_of_the_word_index(made, path, name):
    data, words, vectors = made["cast16"]
    header, arrays = take_apart(data)
    top = int(np.iinfo(arrays[name].dtype).max)
    for index in range(arrays[name].size):
        before = int(arrays[name][index])
        for value in {(before + 1) & top, top, 70} - {before}:
            path.write_bytes(assemble(header, {**arrays, name: with_value(arrays[name], index, value)}))
            refused(path, "full", match="words" if name != "words.lengths" else "words|word ")
            try:
                with load(path, mmap=False) as emb:
                    for word in words[index % 10 :: 10]:
                        assert emb.words.find(word) in (-1, words.index(word))
            except FormatError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("kind", sorted(RANGES))
def test_rows_that_are_not_there(made, path, kind):
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    for index in range(0, len(words), 7):
        for value in (header["rows"], 255):
            path.write_bytes(assemble(header, {**arrays, "map.rows": with_value(arrays["map.rows"], index, value)}))
            refused(path, "full", match=r"map\.rows refers to a row that does not exist .*expected < \d+, found \d+")
            with load(path) as emb:
                with pytest.raises(FormatError, match=r"a\.ems: map\.rows refers to a row that does not exist"):
                    emb.get(words[index])
                other = (index + 1) % len(words)
                assert np.array_equal(emb[words[other]], vectors[other])
            assert judge(path, words, vectors) is not None


def test_owners(made, path):
    data, words, vectors = made["prune+pq"]
    header, arrays = take_apart(data)
    rows = header["rows"]
    for owners in ([70] * rows, [2**32 - 1] * rows, [0] * rows, list(range(rows))[::-1]):
        path.write_bytes(assemble(header, {**arrays, "map.owners": np.array(owners, np.uint32)}))
        refused(path, "full", match=r"map\.owners refers to a word that (does not exist|has another row)")
        if owners[0] >= 70:
            with load(path) as emb, pytest.raises(FormatError, match=r"a\.ems: map\.owners refers to a word"):
                emb.alias_of("w1")
    first = np.unique(arrays["map.rows"], return_index=True)[1].astype(np.uint32)
    path.write_bytes(assemble(header, {**arrays, "map.owners": first}))
    assert judge(path, words, vectors) is None
    no_word = np.zeros_like(arrays["map.rows"])
    less = {name: array for name, array in arrays.items() if name != "map.owners"}
    path.write_bytes(assemble(header, {**less, "map.rows": no_word}))
    refused(path, "full", match="a stored row belongs to no word")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind, name, at_open", [
    ("pq8", "state.codebook", True), ("prune+pq", "state.rotation", True), ("prune+pq", "map.scale", False),
    ("cast16", "codes.values", False), ("cast32", "codes.values", False), ("scalar", "state.low", True),
    ("scalar", "state.step", True), ("rq", "state.codebooks", True), ("iiq", "state.basis", True),
    ("iiq", "state.length", True), ("iiq", "state.mean", True), ("iiq", "state.removed", True),
    ("lowrank", "columns.0.basis", True), ("lowrank", "columns.0.mean", True), ("lowrank", "state.scale", True),
    ("magnitude", "state.scale", True), ("blocksparse", "state.rotation", True),
    ("blocksparse", "codes.values", False), ("groupreduce", "state.axis_levels", True),
    ("groupreduce", "codes.levels", False), ("tensortrain", "state.rotation", True),
    ("tensortrain", "codes.core1", False), ("ecq", "state.scale", True), ("ecq", "state.step", True),
])
def test_numbers_that_are_not_finite(made, path, kind, name, at_open, value):
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    for index in {0, arrays[name].size // 2, arrays[name].size - 1}:
        path.write_bytes(assemble(header, {**arrays, name: with_value(arrays[name], index, value)}))
        refused(path, "full", match=f"{name} holds a NaN or an infinity")
        if at_open:
            refused(path, "header", match=f"section {name} holds a NaN or an infinity")
        assert judge(path, words, vectors) is not None


@pytest.mark.parametrize("kind, name, at_open", [
    ("blocksparse", "state.lengths", True), ("groupreduce", "state.blocks", True),
    ("groupreduce", "state.block", True), ("groupreduce", "state.before", True), ("magnitude", "codes.bitmap", False),
    ("global", "codes.bitmap", False), ("global", "codes.starts", False), ("ecq", "state.tables", True),
    ("ecq", "state.index", True), ("ecq", "state.lengths", False), ("ecq", "state.starts", False),
    ("ecq", "state.least", False), ("ecq", "codes.lengths", False), ("ecq", "codes.starts", False),
    ("ecq", "codes.sizes", False), ("ecq-rdo", "codes.lengths", False), ("ecq-rdo", "state.tables", True),
])
def test_numbers_that_say_where_others_are(made, path, kind, name, at_open):
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    top = np.iinfo(arrays[name].dtype).max
    for index in range(0, arrays[name].size, 1 + arrays[name].size // 9):
        before = int(arrays[name].flat[index])
        for value in {before ^ 1, 0, int(top)} - {before}:
            path.write_bytes(assemble(header, {**arrays, name: with_value(arrays[name], index, value)}))
            refused(path, "header" if at_open else "full", match=r"state\.|codes\.")
            assert judge(path, words, vectors) is not None


@pytest.mark.parametrize("kind, step", [
    ("lowrank", "lowrank"), ("lowrank", "lowrank:dims=0"), ("lowrank", "lowrank:dims=3"),
    ("lowrank", "lowrank:dims=7"), ("lowrank", "lowrank:dims=" + "9" * 4000),
    ("rescale", "rescale:exponent=129"), ("rescale", "rescale:exponent=-149"), ("rescale", "rescale:exponent=nan"),
    ("lowrank", "lowrank:dims=4,energy=nan"), ("magnitude", "magnitude:sparsity=0.9"),
    ("magnitude", "magnitude:sparsity=nan"),
    ("magnitude", "magnitude:scope=global"), ("magnitude", "magnitude:dtype=float16"),
    ("global", "magnitude"), ("global", "magnitude:scope=global,sparsity=1"),
    ("blocksparse", "blocksparse"), ("blocksparse", "blocksparse:blocks=7,density=1"),
    ("blocksparse", "blocksparse:blocks=2,density=0.6"), ("groupreduce", "groupreduce"),
    ("groupreduce", "groupreduce:blocks=3,keep=0.8,refine=1"),
    ("groupreduce", "groupreduce:blocks=4,keep=0.8,refine=1,dtype=int8"), ("tensortrain", "tensortrain"),
    ("tensortrain", "tensortrain:rank=4"), ("tensortrain", "tensortrain:rank=3,factors=6"),
    ("tensortrain", "tensortrain:rank=3,dtype=float32"), ("tensortrain", "tensortrain:bits=9"),
    ("ecq", "ecq"), ("ecq", "ecq:step=0.3"), ("ecq", "ecq:centroids=20"), ("ecq", "ecq:step=0,centroids=20"),
    ("ecq", "ecq:step=nan,centroids=20"), ("ecq", "ecq:step=0.3,centroids=20,bits=inf"),
    ("ecq", "ecq:step=0.3,centroids=21"), ("ecq", "ecq:step=0.3,centroids=4097"), ("ecq", "ecq:step=0.3,centroids=1"),
    ("ecq", "ecq:step=0.3,centroids=20,trellis=0"), ("ecq", "ecq:step=0.3,centroids=20,trellis=2"),
    ("ecq", "ecq:step=0.3,centroids=20,block=7"), ("ecq", "ecq:step=0.3,centroids=20,block=0"),
    ("ecq-rdo", "ecq:step=0.3,centroids=1,block=5"),
])
def test_parameters_that_do_not_fit(made, path, kind, step):
    header, arrays = take_apart(made[kind][0])
    method = step.partition(":")[0]
    steps = [step if text.startswith(method) else text for text in header["steps"]]
    path.write_bytes(assemble({**header, "steps": steps}, arrays))
    with bounded():
        refused(path)


def test_finite_numbers_whose_sum_is_not(made, path):
    data, words, vectors = made["prune+pq"]
    header, arrays = take_apart(data)
    huge = np.full_like(arrays["state.codebook"], 3e38)
    path.write_bytes(assemble(header, {**arrays, "state.codebook": huge, "state.rotation": np.ones((6, 6), "f4")}))
    assert "a decoded vector is not finite" in judge(path, words, vectors)
    path.write_bytes(assemble(header, {**arrays, "state.codebook": huge / 10,
                                       "map.scale": np.full(70, 65_504, np.float16)}))
    assert "map.scale makes a vector that is not finite" in judge(path, words, vectors)


@pytest.mark.parametrize("kind, limit", [("pq8", 30), ("pq4", 10), ("pq16", 257), ("rq", 12)])
def test_codes_without_a_centroid(made, path, kind, limit):
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    codes = arrays["codes.codes"]
    worst = {"pq8": [30, 255], "pq4": [10, 15, 0xA0, 0xFF], "pq16": [257, 65_535], "rq": [12, 255]}[kind]
    for row in (0, 35, len(codes) - 1):
        for value in worst:
            wrong = with_value(codes, row * codes.shape[1], value)
            path.write_bytes(assemble(header, {**arrays, "codes.codes": wrong}))
            refused(path, "full", match=rf"a centroid that does not exist \(expected < {limit}, found \d+\)")
            with load(path) as emb:
                with pytest.raises(FormatError, match=r"a\.ems: a code is out of range"):
                    emb.get(words[row])
                assert np.array_equal(emb[words[1]], vectors[1])
            assert judge(path, words, vectors) is not None


def test_the_unused_half_byte_is_not_looked_at(made, path):
    data, words, vectors = made["pq4"]
    header, arrays = take_apart(data)
    path.write_bytes(assemble(header, {**arrays, "codes.codes": arrays["codes.codes"] | np.uint8([0, 0xF0])}))
    assert judge(path, words, vectors) is None


def test_a_small_file_that_claims_long_vectors_takes_little_memory(path):
    """40,000 rows of one byte that stand for 65,536 numbers each: 10 GiB if decoded at once."""
    compress(WordVectors(["a"], np.ones((1, 4), np.float32)), path, "pq:subspaces=1,centroids=1", measure=False)
    header, arrays = take_apart(path.read_bytes())
    arrays["state.codebook"] = np.ones((1, 65_536), np.float32)
    arrays["codes.codes"] = np.zeros((400, 1), np.uint8)
    arrays["map.rows"] = np.zeros(1, np.uint16)
    header.update(dim=65_536, rows=400, owned=False)
    path.write_bytes(assemble(header, arrays))
    with bounded(200 << 20), load(path, verify="full") as emb:
        assert emb["a"].tolist() == [1.0] * 65_536


def test_vectors_may_be_so_long_and_no_longer(made, path):
    header, arrays = take_apart(made["cast16"][0])
    arrays = {name: array[:0] for name, array in arrays.items()} | {"words.buckets": np.zeros(2, np.uint32)}
    for dim in (65_536, 65_537, 2**40):
        arrays["codes.values"] = np.zeros((0, dim), np.float16)
        path.write_bytes(assemble({**header, "dim": dim, "words": 0, "rows": 0}, arrays))
        if dim == 65_536:
            with load(path, verify="full") as emb:
                assert len(emb) == 0
        else:
            refused(path, match=f"header: a number is out of range .*'dim': {dim}")


def test_random_changes_with_checksums_repaired(case, path):
    """What passes the full check is a proper file: all words found under their own ids, all rows finite."""
    data, words, vectors = case
    rng = random.Random(1)
    passed = 0
    for _ in range(60):
        header, arrays = take_apart(data)
        for _ in range(rng.choice([1, 1, 2, 5])):
            name = rng.choice(list(arrays))
            if rng.random() < 0.2:
                key = rng.choice(["dim", "words", "rows", "owned", "steps", "seed"])
                header[key] = rng.choice([header[key], 0, 1, 6, 70, True, False, [], ["cast"], 2**40])
            elif rng.random() < 0.2:
                arrays[name] = arrays[name][: rng.randrange(len(arrays[name]) + 1)]
            elif arrays[name].nbytes:
                raw = arrays[name].reshape(-1).view(np.uint8)
                raw[rng.randrange(raw.size)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        path.write_bytes(assemble(header, arrays))
        with warnings.catch_warnings(), contextlib.suppress(FormatError):
            warnings.simplefilter("ignore", RuntimeWarning)
            with load(path, verify="lazy", mmap=False) as emb:
                use(emb, words[::5])
        with warnings.catch_warnings(), contextlib.suppress(FormatError):
            warnings.simplefilter("ignore", RuntimeWarning)
            with load(path, verify="full", mmap=False) as emb:
                assert [emb.words.find(word) for word in emb.words.raw] == list(range(len(emb)))
                assert np.isfinite(emb.decode_rows(np.arange(emb.n_rows))).all()
                passed += 1
    assert passed > 0


def test_columns_do_not_become_more(made, path):
    """A small file must not make rows of any width."""
    header, arrays = take_apart(made["lowrank"][0])
    arrays["columns.0.basis"] = np.ones((10_000, 6), np.float32)
    arrays["state.codebook"], arrays["state.scale"] = np.ones((9, 10_000), np.float32), np.ones(10_000, np.float32)
    path.write_bytes(assemble({**header, "steps": ["lowrank:dims=10000", header["steps"][1]]}, arrays))
    with bounded():
        refused(path, match="a column step returns more columns than it gets .expected <= 6, found 10000")


def test_a_changed_block_of_ecq_is_refused_and_no_other(made, path):
    """Where it has no escapes, whose sizes are plain bits: any are as good as others."""
    data, words, vectors = made["ecq"]
    header, arrays = take_apart(data)
    ends = np.cumsum(arrays["codes.lengths"].astype(int) + int(arrays["codes.sizes"][0]))
    for index in range(0, arrays["codes.data"].size, 7):
        wrong = with_value(arrays["codes.data"], index, arrays["codes.data"][index] ^ 1 << index % 8)
        path.write_bytes(assemble(header, {**arrays, "codes.data": wrong}))
        hurt = int(np.searchsorted(ends, index, side="right"))
        message = rf"a\.ems: (block {hurt} of codes\.data does not end where it should|a row names a centroid)"
        refused(path, "full", match=message)
        with load(path, mmap=False) as emb:
            for start in range(0, 70, 16):
                rows = np.arange(start, min(start + 16, 70))
                if start == hurt * 16:
                    with pytest.raises(FormatError, match=message):
                        emb.decode_rows(rows)
                else:
                    assert np.array_equal(emb.decode_rows(rows), vectors[rows])


@pytest.mark.parametrize("kind", ["ecq", "ecq-rdo"])
def test_arrays_of_ecq_of_another_shape_or_type(made, path, kind):
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    for name in [name for name in arrays if name.startswith(("state.", "codes."))]:
        array = arrays[name]
        for wrong in (array[:0], array[None], np.zeros((), array.dtype), np.zeros(array.shape, np.float16),
                      np.concatenate([array, np.ones_like(array[:1])]), np.zeros((0, 2**40), array.dtype)):
            if (wrong.shape, wrong.dtype) != (array.shape, array.dtype) and wrong.size + array.size:
                path.write_bytes(assemble(header, {**arrays, name: wrong}))
                with bounded():
                    assert judge(path, words, vectors) is not None, (name, wrong.shape)


@pytest.mark.parametrize("kind", ["ecq", "ecq-rdo"])
@pytest.mark.parametrize("name", ["basis", "weights", "means", "prior", "base", "classes", "shifts", "index", "scale",
                                  "tables", "lengths", "starts", "least"])
def test_extreme_numbers_of_ecq(made, path, kind, name):
    """What checksums and shapes let through is read or refused; it may be another file's vectors."""
    data, words, vectors = made[kind]
    header, arrays = take_apart(data)
    array = arrays[f"state.{name}"]
    limits = np.finfo(array.dtype) if array.dtype.kind == "f" else np.iinfo(array.dtype)
    for value in (limits.min, limits.max, 0, 1):
        path.write_bytes(assemble(header, {**arrays, f"state.{name}": np.full_like(array, value)}))
        for verify in ("full", "header"):
            with bounded(), warnings.catch_warnings(), contextlib.suppress(FormatError), load(
                path, verify=verify, mmap=False
            ) as emb:
                warnings.simplefilter("ignore", RuntimeWarning)  # infinities in trusted data
                use(emb, words[::9])
                assert verify == "header" or np.isfinite(np.asarray(emb.vectors)).all()


@pytest.mark.parametrize("value", [-128, -64, 64, 127])
def test_shifts_that_would_turn_signs_are_refused(made, path, value):
    header, arrays = take_apart(made["ecq"][0])
    path.write_bytes(assemble(header, {**arrays, "state.shifts": with_value(arrays["state.shifts"], 5, value)}))
    refused(path, match=r"a shift of state\.shifts is too large \(expected < 64\)")


def test_another_trellis_is_refused(made, path):
    data, words, vectors = made["ecq"]
    header, arrays = take_apart(data)
    path.write_bytes(assemble({**header, "steps": ["ecq:step=0.3,centroids=20,trellis=4"]}, arrays))
    assert "does not end where it should" in judge(path, words, vectors)


def test_marked_numbers_that_are_not_there_are_refused_on_touch(tmp_path):
    table = make_vectors(70, 6)
    compress(table, tmp_path / "v.ems", ["magnitude:sparsity=0.9"], measure=False)
    header, arrays = take_apart((tmp_path / "v.ems").read_bytes())
    arrays["codes.bitmap"] = arrays["codes.bitmap"].copy()
    arrays["codes.bitmap"][0] = 0b111
    (tmp_path / "v.ems").write_bytes(assemble(header, arrays))
    emb = load(tmp_path / "v.ems")
    with pytest.raises(FormatError, match="codes.bitmap does not match codes.values .expected 1, found 3"):
        emb.decode_rows(np.array([0]))
