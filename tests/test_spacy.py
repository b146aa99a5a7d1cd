"""spaCy's vocab folders: read, with the rows that words share, and written; and folders that appear whole."""

import hashlib
import io
import json
import os
import struct

import numpy as np
import pytest

from embshrink import SourceError, TargetError, WordVectors, as_embeddings, compress, load, read_vectors
from embshrink.compression.source import open_table
from embshrink.formats import ReadOptions, export, spacy, write_vectors
from embshrink.formats.io.spacy_keys import SYMBOLS, keys_of
from embshrink.storage import atomic

# From spaCy 3.8: the strings of its symbols have small numbers, others a hash.
KEYS = {
    "apple": 8566208034543834098, "naïve": 16224804062388677344, "東京": 9360021637096476946,
    "straße": 4835282032338639150, "mark": 423, "_": 456, "PERSON": 380, "X": 101, "FLAG19": 19, "DEPRECATED276": 379,
    "": 0, "sevenle": 1695004749243028639, "eightlen": 120995131995803951, "nineletter": 10683280152125443451,
    "a b": 14690602572977681134, "😀": 13900606239988879105,
}
DEFAULT = {"mode": "default"}
FLORET = {"mode": "floret", "minn": 3, "maxn": 5, "hash_count": 2, "hash_seed": 7, "bow": "<", "eow": ">", "attr": 65}
MATRIX = np.arange(18, dtype=np.float32).reshape(6, 3) + 1


def packed(number):
    """Write a number as MessagePack does, not always in the fewest bytes."""
    if number < 100:
        return struct.pack(">B", number)
    if number < 256:
        return struct.pack(">BB", 0xCC, number)
    if number < 60_000:
        return struct.pack(">BH", 0xCD, number)
    return struct.pack(">BI", 0xCE, number) if number < 2**32 else struct.pack(">BQ", 0xCF, number)


def packed_map(pairs):
    head = struct.pack(">B", 0x80 + len(pairs)) if len(pairs) < 16 else struct.pack(">BH", 0xDE, len(pairs))
    return head + b"".join(packed(key) + packed(row) for key, row in pairs.items())


def npy(matrix):
    file = io.BytesIO()
    np.save(file, matrix)
    return file.getvalue()


def make(folder, rows, matrix=MATRIX, strings=None, **files):
    """Write a vocab folder as spaCy does: words by row, and strings in their order, without its symbols."""
    folder.mkdir(parents=True, exist_ok=True)
    if strings is None:
        strings = sorted(word for word in rows if KEYS.get(word, 999) > 456)
    contents = {"strings.json": json.dumps(strings, ensure_ascii=False).encode(),
                "key2row": packed_map({KEYS[word]: row for word, row in rows.items()}), "vectors": npy(matrix),
                "vectors.cfg": json.dumps(DEFAULT).encode(), "lookups.bin": b"\x80"}
    contents.update({name.replace("_", "."): data for name, data in files.items()})
    for name, data in contents.items():
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


ROWS = {"apple": 1, "naïve": 0, "東京": 1, "mark": 2, "_": 1, "": 3, "a b": 4, "eightlen": 5}


def test_keys_are_spacys():
    assert keys_of([word.encode() for word in KEYS]).tolist() == list(KEYS.values())
    assert len(SYMBOLS) == 457
    assert hashlib.sha256(b"\n".join(SYMBOLS)).hexdigest()[:16] == "4cf7071ef69e7ba0"  # of spacy.symbols.NAMES
    assert keys_of([]).tolist() == []


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("place", ["", "vocab"])
def test_words_and_the_rows_they_share(place, tmp_path):
    make(tmp_path / "en" / place, ROWS)
    found = read_vectors(tmp_path / "en")
    assert list(found.words) == ["naïve", "apple", "東京", "_", "mark", "", "a b", "eightlen"]
    assert all(np.array_equal(found[word], MATRIX[row]) for word, row in ROWS.items())
    assert found.warnings == [] and found.source["format"] == "spacy" and found.source["name"] == "en"

    report = compress(tmp_path / "en", tmp_path / "a.ems", "cast:dtype=float32")
    with load(tmp_path / "a.ems", verify="full") as emb:
        assert (len(emb), emb.n_rows, report.rows) == (8, 6, 6)
        assert all(np.array_equal(emb[word], MATRIX[row]) for word, row in ROWS.items())
        assert emb.alias_of("東京") == "apple" and emb.shares_row("_", "apple")


def test_row_steps_go_on_from_there(tmp_path):
    make(tmp_path / "vocab", ROWS)
    compress(tmp_path / "vocab", tmp_path / "a.ems", ["prune:keep=3", "cast:dtype=float32"])
    with load(tmp_path / "a.ems", verify="full") as emb:
        assert (len(emb), emb.n_rows) == (8, 3)
        assert np.array_equal(emb["東京"], MATRIX[1])


def test_what_the_source_was(tmp_path):
    make(tmp_path / "vocab", ROWS)
    source = read_vectors(str(tmp_path / "vocab") + os.sep).source
    names = ("key2row", "strings.json", "vectors", "vectors.cfg")
    contents = {name: (tmp_path / "vocab" / name).read_bytes() for name in names}
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
    assert source == {"name": "vocab", "format": "spacy", "size": sum(map(len, contents.values())),
                      "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def test_a_folder_without_vectors_cfg_is_of_the_default_mode(tmp_path):
    make(tmp_path / "vocab", ROWS, vectors_cfg=None)
    assert len(read_vectors(tmp_path / "vocab")) == 8


def test_an_older_symbol_is_found_by_its_hash(tmp_path):
    make(tmp_path / "vocab", {"apple": 0}, MATRIX[:2], ["apple", "_"],
         key2row=packed_map({KEYS["apple"]: 0, int(spacy.murmurhash64([b"_"])[0]): 1}))
    assert list(read_vectors(tmp_path / "vocab").words) == ["apple", "_"]


def test_what_is_left_out_is_counted(tmp_path):
    rows = {**ROWS, "straße": 1, "sevenle": 0}
    make(tmp_path / "vocab", rows, np.vstack([MATRIX, MATRIX]), ["apple", "naïve", "東京", "a b", "apple", "other"])
    found = read_vectors(tmp_path / "vocab")
    assert list(found.words) == ["naïve", "apple", "東京", "_", "mark", "", "a b"]
    assert found.warnings == ["dropped 3 of 10 keys, because strings.json lacks their strings",
                              "dropped 7 rows that no word has"]


def test_limit_and_expected_rows(tmp_path):
    make(tmp_path / "vocab", ROWS)
    found = read_vectors(tmp_path / "vocab", ReadOptions(limit=3))
    assert list(found.words) == ["naïve", "apple", "東京"] and np.array_equal(found["東京"], MATRIX[1])
    assert len(open_table(tmp_path / "vocab", ReadOptions(limit=3)).matrix) == 2
    assert len(read_vectors(tmp_path / "vocab", ReadOptions(expect_rows=8))) == 8
    with pytest.raises(SourceError, match="differs from --expect-rows .*expected 9, found 8"):
        read_vectors(tmp_path / "vocab", ReadOptions(expect_rows=9))


def test_numbers_that_are_not_finite(tmp_path):
    matrix = MATRIX.copy()
    matrix[1, 2] = np.inf
    make(tmp_path / "vocab", ROWS, matrix)
    with pytest.raises(SourceError, match="number 3 of the word 'apple' is not finite"):
        read_vectors(tmp_path / "vocab")
    found = read_vectors(tmp_path / "vocab", ReadOptions(nonfinite="zero"))
    assert found["東京"].tolist() == [4, 5, 0] and found["mark"].tolist() == [7, 8, 9]
    found = read_vectors(tmp_path / "vocab", ReadOptions(nonfinite="drop"))
    assert list(found.words) == ["naïve", "mark", "", "a b", "eightlen"] and found["mark"].tolist() == [7, 8, 9]


def test_a_floret_table(tmp_path):
    make(tmp_path / "vocab", {}, vectors_cfg=json.dumps(FLORET).encode())
    found = open_table(tmp_path / "vocab")
    assert np.array_equal(found.ngrams.matrix, MATRIX) and found.ngrams.hashing.floret.seed == 7
    make(tmp_path / "vocab", {}, vectors_cfg=json.dumps({**FLORET, "minn": 1}).encode())
    assert "minn is 1: spaCy also hashes the begin and end markers" in open_table(tmp_path / "vocab").warnings[0]
    with pytest.raises(SourceError, match="cannot be limited to its first rows"):
        open_table(tmp_path / "vocab", ReadOptions(limit=2))


MAP = packed_map({KEYS[word]: row for word, row in ROWS.items()})
CFG = json.dumps(FLORET).encode()
HUGE = npy(MATRIX).replace(b"(6, 3), ", b"(6, 10000000000000), ")[:-4]


@pytest.mark.parametrize("files, says", [
    ({"key2row": None}, "key2row: the folder lacks this file"),
    ({"key2row": b""}, "this is not a MessagePack map"),
    ({"key2row": b"\x93\x01\x02\x03"}, "this is not a MessagePack map"),
    ({"key2row": b"\xde\x00"}, "this is not a MessagePack map"),
    ({"key2row": b"\xdf\xff\xff\xff\xff\x01\x02"}, "the map is longer than the file"),
    ({"key2row": MAP[:-1]}, "row 7 is not an integer .expected an integer of 1 to 9 bytes, found the end"),
    ({"key2row": b"\x82\x05\x01\xcf\x01\x02\x03"}, "byte 3: key 1 is not an integer"),
    ({"key2row": b"\x81\xa1a\x01"}, "byte 1: key 0 is not an integer"),
    ({"key2row": b"\x81\x05\xff"}, "byte 2: row 0 is not an integer"),
    ({"key2row": MAP + b"\x00"}, "bytes follow the map .expected the end of the file, found 1 byte"),
    ({"key2row": b"\x82\x05\x00\x05\x01"}, "a key occurs twice"),
    ({"key2row": b"\x81\x05\x06"}, "a key refers to a row that does not exist .expected 0 to 5, found 6"),
    ({"key2row": b"\x80"}, "no word has a vector"),
    ({"strings_json": b"{}"}, "the JSON value has the wrong type .expected a list of strings, found dict"),
    ({"strings_json": b'["a", 3]'}, "item 1: the item is not a string"),
    ({"strings_json": b'["a'}, "this is not JSON"),
    ({"strings_json": b"[" * 100_000}, "this is not JSON"),
    ({"strings_json": b"\xff\xfe"}, "this is not JSON"),
    ({"vectors": b""}, r"this is not a \.npy file with a table"),
    ({"vectors": b"\x93NUMPY\x09\x00"}, r"this is not a \.npy file with a table"),
    ({"vectors": npy(MATRIX)[:60]}, r"this is not a \.npy file with a table"),
    ({"vectors": npy(MATRIX[0])}, r"this is not a \.npy file with a table"),
    ({"vectors": npy(MATRIX.astype(np.float64))}, "unsupported type .expected little-endian float32.*found float64"),
    ({"vectors": npy(MATRIX.astype(">f4"))}, "the vectors have an unsupported type.*found >f4"),
    ({"vectors": npy(np.asfortranarray(MATRIX))}, "the vectors have an unsupported type.*by column"),
    ({"vectors": npy(np.array([[None]]))}, "the vectors have an unsupported type.*found object"),
    ({"vectors": npy(MATRIX[:0])}, "the pipeline has no word vectors.*_md or _lg"),
    ({"vectors": npy(MATRIX[:, :0])}, "the pipeline has no word vectors"),
    ({"vectors": npy(MATRIX)[:-1]}, "not match its header .expected 200 bytes for 6 rows of 3, found 199"),
    ({"vectors": npy(MATRIX) + b"\0"}, "not match its header .expected 200 bytes.*found 201"),
    ({"vectors": HUGE}, "the dimension is out of range"),
    ({"vectors": b"\x1f\x8b\x08" + bytes(30)}, "damaged|compressed with gzip"),
    ({"vectors_cfg": b"[]"}, "the JSON value has the wrong type .expected an object of settings"),
    ({"vectors_cfg": b'{"mode": "bloom"}'}, "the mode of the vectors is not supported .expected default or floret"),
    ({"vectors_cfg": b'{"mode": ["floret"]}'}, "the mode of the vectors is not supported"),
    ({"vectors_cfg": b'{"mode": "floret"}'}, r"vectors\.cfg: a setting of floret's hashing is missing"),
    ({"vectors_cfg": CFG.replace(b'"minn": 3', b'"minn": "3"')}, "hashing is missing or has the wrong type"),
    ({"vectors_cfg": CFG.replace(b'"minn": 3', b'"minn": 6')}, "minn must be at most maxn, but they are 6 and 5"),
    ({"vectors_cfg": CFG.replace(b'count": 2', b'count": 5')}, "hashes must be 1 to 4, not 5"),
    ({"vectors_cfg": CFG.replace(b'seed": 7', b'seed": -7')}, "seed must be 0 to 4294967295, not -7"),
])
def test_what_is_refused(files, says, tmp_path):
    make(tmp_path / "vocab", ROWS, **files)
    with pytest.raises(SourceError, match=says):
        open_table(tmp_path / "vocab")


def test_folders_and_files_are_told_apart(tmp_path):
    with pytest.raises(SourceError, match="this is a folder .expected a file, or a spaCy.*Give the path of a file"):
        read_vectors(tmp_path)
    with pytest.raises(SourceError, match="the format text is a file, but this is a folder. Give the path of a file"):
        read_vectors(make(tmp_path / "vocab", ROWS), ReadOptions(format="text"))
    (tmp_path / "v.txt").write_bytes(b"a 1\n")
    with pytest.raises(SourceError, match="spacy is a folder, but this is a file. Give the path of a folder"):
        read_vectors(tmp_path / "v.txt", ReadOptions(format="spacy"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="this is not a spaCy vocab folder"):
        read_vectors(tmp_path / "empty", ReadOptions(format="spacy"))


# ---------------------------------------------------------------- writing


def test_the_bytes_are_those_spacy_writes(tmp_path):
    words = ["mark", "naïve", "a b"]
    write_vectors(words, [MATRIX[:3]], tmp_path / "vocab", "spacy")
    assert sorted(os.listdir(tmp_path / "vocab")) == ["key2row", "strings.json", "vectors", "vectors.cfg"]
    written = {name: (tmp_path / "vocab" / name).read_bytes() for name in spacy.FILES}
    assert json.loads(written["strings.json"]) == words
    assert written["key2row"] == (b"\x83\xcd\x01\xa7\x00" + b"\xcf" + KEYS["naïve"].to_bytes(8, "big") + b"\x01"
                                  + b"\xcf" + KEYS["a b"].to_bytes(8, "big") + b"\x02")
    assert written["vectors"] == npy(MATRIX[:3])
    assert json.loads(written["vectors.cfg"]) == DEFAULT


def test_numbers_of_all_widths_and_large_maps(tmp_path):
    # srsly.msgpack_dumps({5: 0, 412: 3, ...: 200, ...: 70000, 70000: 300})
    pairs = {5: 0, 412: 3, KEYS["apple"]: 200, KEYS["naïve"]: 70_000, 70_000: 300}
    expected = (b"\x05\x00\xcd\x01\x9c\x03\xcfv\xe1H\xd2[\x15\x13\xf2\xcc\xc8\xcf\xe1*\x15U\x00\xfd\xea\xe0\xce"
                b"\x00\x01\x11p\xce\x00\x01\x11p\xcd\x01,")
    assert b"".join(map(spacy._number, [number for pair in pairs.items() for number in pair])) == expected
    for count in (15, 16, 70_000):
        words = [f"wörd {i}" for i in range(count)]
        write_vectors(words, [np.arange(count, dtype=np.float32)[:, None]], tmp_path / "v", "spacy", force=True)
        found = read_vectors(tmp_path / "v")
        assert list(found.words) == words and found.matrix[:, 0].tolist() == list(range(count))


@pytest.mark.parametrize("steps, rows", [
    (["cast"], 397), (["prune:keep=50", "pq:subspaces=5"], 50), (["kmeans:centroids=20"], 20),
    (["prune:keep=50,norms=true", "cast"], 397), (["tensortrain:rank=4"], 397)])
def test_shared_rows_stay_shared(steps, rows, vectors, tmp_path):
    utf8 = WordVectors(vectors.words[:396] + ["mark"], vectors.matrix[:397])
    compress(utf8, tmp_path / "a.ems", steps, measure=False)
    with load(tmp_path / "a.ems") as emb:
        assert export(emb, tmp_path / "vocab", "spacy") == "spacy"
        found = open_table(tmp_path / "vocab")
        assert len(found.matrix) == rows and sorted(found.words.raw) == sorted(emb.words.raw)
        again = read_vectors(tmp_path / "vocab")
        assert np.array_equal([again[word] for word in emb.words], np.asarray(emb.vectors))


def test_what_spacy_cannot_hold(tmp_path, monkeypatch):
    with pytest.raises(TargetError, match=r"is not UTF-8, which spaCy cannot store"):
        write_vectors([b"\xff"], [MATRIX[:1]], tmp_path / "vocab", "spacy")
    monkeypatch.setattr(spacy, "keys_of", lambda words: np.zeros(len(words), np.uint64))
    with pytest.raises(TargetError, match="the words 'a' and 'b' have the same key in spaCy"):
        write_vectors(["a", "b"], [MATRIX[:2]], tmp_path / "vocab", "spacy")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- folders that appear whole


def write(path, rows=3, force=False):
    emb = as_embeddings(WordVectors(map(str, range(rows)), MATRIX[:rows]))
    export(emb, path, "spacy", force=force)


def test_a_folder_is_replaced_only_by_force_and_if_it_is_ours(tmp_path):
    target = tmp_path / "vocab"
    write(target)
    with pytest.raises(TargetError, match=r"vocab: the target exists\. Choose another"):
        write(target, 4)
    assert len(read_vectors(target)) == 3
    write(target, 4, force=True)
    assert len(read_vectors(target)) == 4
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(TargetError, match="a folder with other files.*found thesis.txt"):
        write(target, 5, force=True)
    assert (target / "thesis.txt").read_text() == "mine" and len(read_vectors(target)) == 4
    assert os.listdir(tmp_path) == ["vocab"]


def test_targets_that_cannot_be_folders(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(TargetError, match="the target is a file, but this format is a folder"):
        write(tmp_path / "file", force=True)
    with pytest.raises(TargetError, match="the target's folder does not exist"):
        write(tmp_path / "nowhere" / "vocab")
    with pytest.raises(TargetError, match="cannot write: File name too long"):
        write(tmp_path / ("x" * 300))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", ["rename", "mkdir", "fsync"])
def test_a_failure_leaves_the_old_folder(failing, tmp_path, monkeypatch):
    write(tmp_path / "vocab")
    if failing == "rename":  # the way where two folders cannot be exchanged
        monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    real, calls = getattr(os, failing), []

    def fail(*arguments):
        calls.append(arguments)
        if failing != "rename" or len(calls) == 2:  # the old one is out of the way then
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(TargetError, match="cannot write: No space left on device"):
        write(tmp_path / "vocab", 5, force=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["vocab"] and len(read_vectors(tmp_path / "vocab")) == 3


def test_an_old_folder_that_cannot_be_put_back_is_named(tmp_path, monkeypatch):
    write(tmp_path / "vocab")
    real, calls = os.rename, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(TargetError, match=r"Input/output error\. The folder that was there is now .*\.old: rename"):
        write(tmp_path / "vocab", 5, force=True)
    monkeypatch.undo()
    [left] = os.listdir(tmp_path)
    assert left.endswith(".old") and len(read_vectors(tmp_path / left)) == 3
    # The only copy stays, however old it is.
    os.utime(tmp_path / left, (0, 0))
    write(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == [left, "other"]
    for name in os.listdir(tmp_path / left):
        os.utime(tmp_path / left / name, (0, 0))
    os.utime(tmp_path / left, (0, 0))
    write(tmp_path / "vocab")
    assert sorted(os.listdir(tmp_path)) == [left, "other", "vocab"]
    write(tmp_path / "third")
    assert sorted(os.listdir(tmp_path)) == ["other", "third", "vocab"]


def test_a_folder_is_replaced_in_one_step_where_that_can_be(tmp_path, monkeypatch):
    write(tmp_path / "vocab")
    monkeypatch.setattr(os, "rename", None)
    try:
        write(tmp_path / "vocab", 5, force=True)
    except TypeError:
        pytest.skip("NOT RUN: this system or file system cannot exchange two folders")
    assert os.listdir(tmp_path) == ["vocab"] and len(read_vectors(tmp_path / "vocab")) == 5


def test_an_error_of_the_writers_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic.atomic_folder(tmp_path / "new", ["a"]) as create:
        with create("a") as file:
            file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_a_folder_is_followed(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", 5, force=True)
    assert (tmp_path / "link").is_symlink() and len(read_vectors(tmp_path / "real")) == 5
