"""The .ems file as bytes: what goes in comes out, the same input gives the same bytes, and plans are exact."""

import os
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embshrink.errors import FormatError
from embshrink.storage import container
from embshrink.storage.container import (
    ALIGNMENT,
    BLOCK,
    CHECKSUMS,
    DTYPES,
    Container,
    canonical_json,
    plan_container,
    write_container,
)

MB = 1 << 20
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
)
headers = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key != "sections"),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                 lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_size=4,
)
names = st.text("abcdefghij.0123", min_size=1, max_size=12).filter(lambda name: name != CHECKSUMS)


def same_bits(one, two):
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that hypothesis may write into again and again."""
    return tmp_path_factory.mktemp("container")


@settings(max_examples=150, deadline=None)
@given(header=headers, sections=st.dictionaries(names, arrays, max_size=5), mmap=st.booleans())
def test_what_goes_in_comes_out(header, sections, mmap, folder):
    path = folder / "a.ems"
    total = write_container(path, header, sections, force=True)
    assert total == path.stat().st_size
    assert plan_container(header, {name: (part.dtype, part.shape) for name, part in sections.items()})[0] == total
    with Container(path, verify="full", mmap=mmap) as opened:
        assert opened.header == header
        assert list(opened.sections) == list(sections)
        for name, part in sections.items():
            assert same_bits(np.asarray(opened.sections[name]), part)
            assert opened.sections[name].shape == part.shape
            assert opened.sections[name].nbytes == part.nbytes
    data = path.read_bytes()
    write_container(path, header, sections, force=True)
    assert path.read_bytes() == data


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_small_blocks_take_every_turn_that_large_ones_do(data, folder):
    """With blocks of 64 bytes a few numbers make many of them, and the checksums are longer than a block too."""
    path = folder / "b.ems"
    parts = data.draw(st.dictionaries(names, arrays, min_size=1, max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "BLOCK", 64)
        total = write_container(path, {}, parts, force=True)
        planned, _ = plan_container({}, {name: (part.dtype, part.shape) for name, part in parts.items()})
        assert planned == total
        with Container(path, verify="full") as opened:
            assert all(same_bits(np.asarray(opened.sections[name]), part) for name, part in parts.items())


def test_block_sums_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "BLOCK", 64)
    values = np.arange(5000, dtype=np.uint32)
    write_container(tmp_path / "a.ems", {}, {"a": values, "b": values[:3]})
    with Container(tmp_path / "a.ems", verify="full") as opened:
        assert np.array_equal(opened.sections["a"], values)
    data = bytearray((tmp_path / "a.ems").read_bytes())
    data[-24 - 64] ^= 1  # in the last of the sums
    (tmp_path / "a.ems").write_bytes(data)
    with pytest.raises(FormatError, match="the block checksums are damaged"):
        Container(tmp_path / "a.ems", verify="header")


def test_sections_are_aligned_and_padded_with_zeros(tmp_path):
    sections = {name: np.full(size, 255, np.uint8) for name, size in zip("abcde", (1, 63, 64, 65, 0))}
    write_container(tmp_path / "a.ems", {"x": 1}, sections)
    data = (tmp_path / "a.ems").read_bytes()
    with Container(tmp_path / "a.ems", verify="full"):
        pass
    header_length = int.from_bytes(data[12:16], "little")
    start = -(-(32 + header_length) // ALIGNMENT) * ALIGNMENT
    assert not any(data[32 + header_length : start])
    for size, padded in ((1, 64), (63, 64), (64, 64), (65, 128), (0, 0)):
        assert data[start : start + size] == b"\xff" * size
        assert not any(data[start + size : start + padded])
        start += padded
    assert start == len(data) - 24


def test_parts_of_a_plan_add_up(tmp_path):
    sections = {"a": np.zeros(3 * MB + 5, np.uint8), "b": np.zeros((7, 3), np.float16), "c": np.zeros(0, np.int32)}
    header = {"text": "\u00e9\ud800\n", "n": 10**30}
    total, parts = plan_container(header, {name: (part.dtype, part.shape) for name, part in sections.items()})
    assert write_container(tmp_path / "a.ems", header, sections) == total == sum(parts.values())
    assert list(parts) == ["header", "a", "b", "c", CHECKSUMS, "footer"]
    assert parts[CHECKSUMS] == 64
    assert parts["b"] == 64


def test_big_endian_and_strided_arrays_are_stored_little_endian_in_c_order(tmp_path):
    values = np.arange(24, dtype=">f4").reshape(4, 6)
    write_container(tmp_path / "a.ems", {}, {"a": values.T[::2], "b": values.astype(">u2")})
    with Container(tmp_path / "a.ems", verify="full") as opened:
        assert opened.sections["a"][:].tolist() == values.T[::2].tolist()
        assert opened.sections["a"].dtype == np.dtype("<f4")
        assert opened.sections["b"][:].tobytes() == values.astype("<u2").tobytes()


def test_what_the_file_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(FormatError, match="section a has a dtype that an .ems file cannot store .*found float64"):
        write_container(tmp_path / "a.ems", {}, {"a": np.zeros(3)})
    with pytest.raises(FormatError, match=r"the header is too large \(expected <= 1048576 bytes, found 1048"):
        write_container(tmp_path / "a.ems", {"x": "y" * MB}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_container(tmp_path / "a.ems", {"x": float("nan")}, {})
    assert list(tmp_path.iterdir()) == []


def test_canonical_json_is_sorted_dense_ascii():
    assert canonical_json({"b": [1, True, None], "a": "\u00e9\U0001f600\n/\x7f"}) == (
        b'{"a":"\\u00e9\\ud83d\\ude00\\n/\\u007f","b":[1,true,null]}'
    )


# ---------------------------------------------------------------- sections


@pytest.fixture(scope="module")
def large(folder):
    """Five and a half blocks of rows of 24 bytes, which straddle the blocks' edges."""
    values = np.random.default_rng(0).integers(0, 2**31, (5 * BLOCK // 24 + 20_000, 6), dtype=np.int32)
    write_container(folder / "large.ems", {}, {"a": values, "small": values[:5]}, force=True)
    return folder / "large.ems", values


KEYS = [
    0, 1, -1, np.int64(7), np.uint8(200), -200_000, True, False,
    slice(None), slice(3, 9), slice(-5, None), slice(9, 3), slice(0, None, 7), slice(None, None, -1),
    [], [1, 2, 3], [-1, 0], np.array([], np.int64), np.array([5, -5, 200_000]), np.array([[1, 2], [3, 200_000]]),
    np.array([3, 4], np.uint64), np.array(17), (3, 4), (-1, -1), (slice(0, 9), 2), (slice(None), -1), Ellipsis, None,
    ([1, 200_000], [0, 5]), (0, slice(1, 3)),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_is_numpys(large, key):
    path, values = large
    with Container(path) as opened:
        section = opened.sections["a"]
        assert np.array_equal(section[key], values[key])
        assert section.dtype == values.dtype
        assert len(section) == len(values)


def test_a_mask_takes_what_it_marks(large):
    path, values = large
    mask = np.arange(len(values)) % 1000 == 999
    with Container(path) as opened:
        assert np.array_equal(opened.sections["a"][mask], values[mask])
        assert all(opened.sections["a"]._checked)
        assert np.array_equal(opened.sections["small"][[True, False, True, False, False]], values[[0, 2]])


@pytest.mark.parametrize("key", [10**9, -(10**9), [0, 10**9], (0, 6)])
def test_out_of_range_is_an_index_error_as_in_numpy(large, key):
    with Container(large[0]) as opened, pytest.raises(IndexError):
        opened.sections["a"][key]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_only_touched_blocks_are_read_and_each_before_it_is_used(data, large):
    """Every block that holds a byte of the result is checked; for plain keys no other is."""
    path, values = large
    n = len(values)
    key = data.draw(st.integers(-n, n - 1) | st.lists(st.integers(-n, n - 1), min_size=1, max_size=5)
                    | st.slices(n).filter(lambda part: part.step in (None, 1)))
    rows = np.arange(n)[key].ravel()
    needed = set((rows * 24 // BLOCK).tolist()) | set(((rows * 24 + 23) // BLOCK).tolist())
    with Container(path) as opened:
        section = opened.sections["a"]
        assert np.array_equal(section[key], values[key])
        assert set(np.flatnonzero(section._checked).tolist()) == needed


@pytest.mark.parametrize("make", [int, lambda row: slice(row, row + 1), lambda row: [row], lambda row: [row, row]])
def test_a_row_across_an_edge_touches_both_blocks(large, make):
    path, values = large
    for block in (1, 2, 4, 5):
        row = block * BLOCK // 24
        assert row * 24 < block * BLOCK < row * 24 + 24
        with Container(path) as opened:
            assert np.array_equal(opened.sections["a"][make(row)], values[make(row)])
            assert np.flatnonzero(opened.sections["a"]._checked).tolist() == [block - 1, block]


def test_what_comes_out_is_read_only_and_outlives_the_file(large):
    path, values = large
    with Container(path) as opened:
        part = opened.sections["a"][5:9]
        whole = np.asarray(opened.sections["small"])
        copied = np.array(opened.sections["small"])
        converted = np.asarray(opened.sections["small"], dtype=np.float32)
    assert np.array_equal(part, values[5:9])
    assert np.array_equal(whole, values[:5])
    assert not part.flags.writeable
    assert not whole.flags.writeable
    assert copied.flags.writeable
    assert converted.dtype == np.float32


def test_threads_may_touch_the_same_blocks(large):
    path, values = large
    wrong = []
    with Container(path) as opened:
        def look(seed):
            rows = np.random.default_rng(seed).integers(0, len(values), 50)
            for row in rows:
                if not np.array_equal(opened.sections["a"][int(row)], values[row]):
                    wrong.append(row)

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_group_names_sections_by_what_follows_the_dot(tmp_path):
    part = np.zeros(1, np.uint8)
    write_container(tmp_path / "a.ems", {}, {"a.x": part, "a.y.z": part, "ab.x": part, "a": part})
    with Container(tmp_path / "a.ems") as opened:
        assert sorted(opened.group("a")) == ["x", "y.z"]
        assert opened.group("b") == {}


# ---------------------------------------------------------------- files


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a mapped file")
@pytest.mark.parametrize("mmap", [True, False])
def test_an_open_file_serves_the_old_data_when_it_is_replaced_or_deleted(tmp_path, mmap):
    old, new = np.zeros(3 * MB, np.uint8), np.ones(10, np.uint8)
    write_container(tmp_path / "a.ems", {}, {"a": old})
    with Container(tmp_path / "a.ems", mmap=mmap) as opened:
        assert opened.sections["a"][0] == 0
        write_container(tmp_path / "a.ems", {}, {"a": new}, force=True)
        assert np.array_equal(opened.sections["a"], old)
        with Container(tmp_path / "a.ems", mmap=mmap) as again:
            assert np.array_equal(again.sections["a"], new)
        (tmp_path / "a.ems").unlink()
        assert np.array_equal(opened.sections["a"], old)


def test_in_memory_it_survives_being_cut_short(tmp_path):
    values = np.arange(MB, dtype=np.uint32)
    write_container(tmp_path / "a.ems", {}, {"a": values})
    with Container(tmp_path / "a.ems", mmap=False) as opened:
        os.truncate(tmp_path / "a.ems", 100)
        assert np.array_equal(opened.sections["a"], values)


def test_descriptors_are_given_back(large, tmp_path):
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("no /proc here to count descriptors in")
    before = len(os.listdir(folder))
    (tmp_path / "bad.ems").write_bytes(large[0].read_bytes()[:-1])
    for _ in range(50):
        with Container(large[0]):
            pass
        with pytest.raises(FormatError):
            Container(tmp_path / "bad.ems")
        Container(large[0]).close()
    assert len(os.listdir(folder)) == before


@pytest.mark.parametrize("verify", ["quick", "", None])
def test_an_unknown_level_is_refused(large, verify):
    with pytest.raises(FormatError, match="unknown verify level .*expected lazy, header or full"):
        Container(large[0], verify=verify)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"nothing\.ems: cannot read the file: No such file"):
        Container(tmp_path / "nothing.ems")
    with pytest.raises(FormatError, match="cannot read the file: Is a directory"):
        Container(tmp_path)
    with pytest.raises(FormatError, match="cannot read the file: embedded null"):
        Container("a\0b")


def test_sections_beyond_4_gib(tmp_path):
    """A sparse file: the second section begins past 2^32, and is found, checked and indexed there."""
    blocks = 4097
    size = blocks * MB
    tail = np.arange(300, dtype=np.int64).astype(np.int32)
    sums = np.full(blocks, zlib.crc32(bytes(MB)), np.uint32)
    table = [
        {"name": "zeros", "dtype": "uint8", "shape": [size], "offset": 0, "crc32": f"{zlib.crc32(sums):08x}"},
        {"name": "tail", "dtype": "int32", "shape": [300], "offset": size, "crc32": f"{zlib.crc32(tail):08x}"},
        {"name": CHECKSUMS, "dtype": "uint32", "shape": [blocks], "offset": size + 1216,
         "crc32": f"{zlib.crc32(sums):08x}"},
    ]
    text = canonical_json({"sections": table})
    start = -(-(32 + len(text)) // 64) * 64
    padded = -(-sums.nbytes // 64) * 64
    length = start + size + 1216 + padded + 24
    fields = (container.MAGIC, 1, 0, len(text), length, 0)
    crc = zlib.crc32(text, zlib.crc32(container._PRELUDE.pack(*fields, 0)))
    with open(tmp_path / "large.ems", "wb") as file:
        file.write(container._PRELUDE.pack(*fields, crc) + text)
        file.truncate(length)
        file.seek(start + size)
        file.write(tail.tobytes())
        file.seek(start + size + 1216)
        file.write(sums.tobytes())
        file.seek(length - 24)
        file.write(container._FOOTER.pack(length, crc, 0, container.END_MAGIC))
    status = os.stat(tmp_path / "large.ems")
    if status.st_blocks * 512 > 50 * MB:
        pytest.skip("this file system has no sparse files")
    with Container(tmp_path / "large.ems") as opened:
        zeros, last = opened.sections["zeros"], opened.sections["tail"]
        assert np.array_equal(last, tail)
        assert zeros[size - 1] == zeros[-1] == zeros[2**32 + 5] == 0
        assert np.flatnonzero(zeros._checked).tolist() == [4096]
    with open(tmp_path / "large.ems", "r+b") as file:
        file.seek(start + 2**32 + 5)
        file.write(b"\1")
    with Container(tmp_path / "large.ems") as opened:
        assert opened.sections["zeros"][2**32 - 1] == 0
        with pytest.raises(FormatError, match=r"large\.ems: section zeros is damaged in block 4096"):
            opened.sections["zeros"][2**32]
