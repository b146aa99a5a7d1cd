"""Tables that do not fit: rows on disk against an array, and files compressed with and without a limit of memory."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import badfiles
import numpy as np
import pytest
import test_fasttext
from conftest import make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

import embshrink
from embshrink.compression import run as compression
from embshrink.errors import EmbshrinkError, SourceError, TargetError
from embshrink.formats import ReadOptions, export, read_vectors, write_vectors
from embshrink.methods import pipeline, registry
from embshrink.methods.ecq import encode as ecq_encode
from embshrink.numerics import linalg
from embshrink.storage import container
from embshrink.storage import disk_rows as spool
from embshrink.storage.container import write_container
from embshrink.storage.disk_rows import LEAST_LIMIT, Rows, Spool, on_blocks

STEPS = ["ecq:trellis=0,bits=40", "pq:subspaces=5,centroids=16", "rq:codebooks=2,centroids=8", "scalar:bits=4", "iiq",
         "magnitude:scope=row", "cast:dtype=float16", "lowrank:dims=4 pq:subspaces=2,centroids=16", "prune:keep=100",
         "rescale:exponent=2 iiq",
         "prune:keep=150,norms=true scalar", "prune:keep=90,select=facility ecq:trellis=0,bits=60"]


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Return a spool that puts every table on disk."""
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)
    return Spool(LEAST_LIMIT, tmp_path)


def rows_of(matrix, disk):
    rows = Rows.new(disk, matrix.shape, matrix.dtype)
    rows[:] = matrix
    return rows


# ---------------------------------------------------------------- rows


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_are_as_an_array(data):
    n, rest = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([(), (1,), (5,), (2, 3)]))
    dtype = data.draw(st.sampled_from([np.float32, np.float16, np.uint8, np.uint16]))
    matrix = (100 * np.random.default_rng(n).random((n, *rest))).astype(dtype)
    rows = rows_of(matrix, Spool(LEAST_LIMIT, "."))
    if data.draw(st.booleans()):
        order = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50)))
        rows, matrix = rows.take(order, axis=0), matrix.take(order, axis=0)
    for name in ("shape", "dtype", "nbytes", "ndim"):
        assert getattr(rows, name) == getattr(matrix, name)
    assert len(rows) == len(matrix)
    bound = st.integers(-50, 50) | st.none()
    part = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, 7, -1])))
    ids = np.array(data.draw(st.lists(st.integers(-len(matrix), len(matrix) - 1), max_size=30)), np.int64)
    for key in (part, ids, int(ids[0]) if len(ids) else 0, np.arange(len(matrix)) % 3 > 0):
        found = rows[key]
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, matrix[key])
    np.testing.assert_array_equal(np.asarray(rows), matrix)


def test_rows_that_are_far_apart_are_read_one_by_one(disk, monkeypatch):
    matrix = np.arange(3000.0, dtype=np.float32).reshape(-1, 3)
    rows = rows_of(matrix, disk)
    ids = np.array([999, 3, 4, 500, 3, 0])
    for gap, run in ((0, 1), (12, 24), (1 << 20, 36)):
        monkeypatch.setattr(spool, "GAP", gap)
        monkeypatch.setattr(spool, "RUN", run)
        np.testing.assert_array_equal(rows[ids], matrix[ids])
        np.testing.assert_array_equal(on_blocks(lambda block: block[:, 0], rows), matrix[:, 0])


def test_without_positioned_reads(disk, monkeypatch):
    monkeypatch.setattr(spool, "_POSITIONED", False)
    matrix = np.random.default_rng(0).standard_normal((500, 7)).astype(np.float32)
    rows = rows_of(matrix, disk)
    np.testing.assert_array_equal(rows[np.arange(499, -1, -3)], matrix[np.arange(499, -1, -3)])
    np.testing.assert_array_equal(linalg.gram(rows), linalg.gram(matrix))


def test_rows_out_of_range_and_writes_elsewhere_are_refused(disk):
    rows = rows_of(np.ones((4, 2), np.float32), disk)
    with pytest.raises(IndexError, match="rows are 0 to 3"):
        rows[np.array([4])]
    with pytest.raises(IndexError, match="only consecutive rows"):
        rows[::2] = 0
    with pytest.raises(IndexError, match="only consecutive rows"):
        rows.take([1, 0])[:] = 0


def test_a_file_cut_short_says_so(disk):
    rows = rows_of(np.ones((4, 2), np.float32), disk)
    os.ftruncate(rows._file.descriptor, 20)
    with pytest.raises(EmbshrinkError, match="byte 20: a file of rows ends too early.*12 more bytes"):
        rows[:]


def test_all_of_it_is_refused_where_that_is_too_much(tmp_path):
    rows = Rows.new(Spool(LEAST_LIMIT, tmp_path), (LEAST_LIMIT // 8 + 1, 1))
    with pytest.raises(EmbshrinkError, match="whole table in memory.*--max-memory"):
        np.asarray(rows)


def test_a_limit_that_is_too_low_is_refused(tmp_path):
    with pytest.raises(EmbshrinkError, match=f"expected >= {LEAST_LIMIT} bytes, found 1000"):
        Spool(1000, tmp_path)


def test_no_room_on_the_disk(disk, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool._File, "move", full)
    write_vectors(["a", "b"], [np.eye(2, dtype=np.float32)], tmp_path / "a.bin", "word2vec")
    with pytest.raises(TargetError, match="rows cannot be kept on disk: No space left.*--max-memory"):
        embshrink.compress(tmp_path / "a.bin", tmp_path / "a.ems", ["pq"], max_memory=LEAST_LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_sums_over_blocks_are_the_same(disk, monkeypatch):
    monkeypatch.setattr(linalg, "BLOCK_NUMBERS", 64)
    monkeypatch.setattr(linalg, "BLOCKS_HELD", 3)
    matrix = np.random.default_rng(0).standard_normal((1000, 7)).astype(np.float32)
    weights = np.random.default_rng(1).random(1000)
    weights /= weights.sum()
    rows = rows_of(matrix, disk)
    np.testing.assert_allclose(linalg.column_means(rows), matrix.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(linalg.column_means(rows, weights), weights @ matrix.astype(np.float64), rtol=1e-12)
    np.testing.assert_allclose(linalg.column_means(rows, None, 30, 33), matrix[30:33].mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(linalg.gram(rows), matrix.T.astype(np.float64) @ matrix, rtol=1e-12)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("group", ["text_exact", "text_warning", "text_refused", "word2vec_cases"])
def test_files_are_read_as_into_memory(group, disk, tmp_path):
    for case in getattr(badfiles, group)():
        path = tmp_path / case.file
        path.write_bytes(case.data)
        options = ReadOptions(**case.options, spool=disk)
        if case.outcome == "refused":
            with pytest.raises(SourceError) as caught:
                read_vectors(path, options)
            assert case.says in str(caught.value)
            continue
        found = read_vectors(path, options)
        assert isinstance(found.matrix, Rows), case.name
        assert found.words.raw == case.words
        np.testing.assert_array_equal(found.matrix[:].view(np.int32), case.rows.view(np.int32), err_msg=case.name)
        assert found.warnings == read_vectors(path, ReadOptions(**case.options)).warnings


@pytest.mark.parametrize("packed", [False, True])
def test_fasttext_models(packed, disk, tmp_path):
    parts, vectors = test_fasttext.build()
    path = tmp_path / "model.bin"
    path.write_bytes(gzip.compress(test_fasttext.join(parts)) if packed else test_fasttext.join(parts))
    found = read_vectors(path, ReadOptions(spool=disk))
    assert isinstance(found.matrix, Rows)
    np.testing.assert_array_equal(found.matrix[:], vectors)
    for steps, ngrams in ((["scalar"], "same"), ([], ["prune:keep=5", "scalar"]), (["ecq:centroids=1"], "same")):
        targets = [tmp_path / "whole.ems", tmp_path / "parts.ems"]
        for target, limit in zip(targets, (None, LEAST_LIMIT)):
            embshrink.compress(path, target, steps, ngrams=ngrams, max_memory=limit, force=True)
        assert targets[0].read_bytes() == targets[1].read_bytes()


def test_bad_numbers_of_a_model(disk, tmp_path):
    parts, vectors = test_fasttext.build(maxn=0, bucket=0)
    table = np.frombuffer(parts["in.values"], np.float32).reshape(vectors.shape).copy()
    table[2, 1], table[4, 0] = np.nan, np.inf
    path = tmp_path / "model.bin"
    path.write_bytes(test_fasttext.join({**parts, "in.values": table.tobytes()}))
    for option in ("error", "drop", "zero"):
        both = []
        for where in (None, disk):
            try:
                found = read_vectors(path, ReadOptions(nonfinite=option, spool=where))
            except SourceError as error:
                both.append(str(error))
            else:
                both.append((found.words.raw, found.matrix[:].tolist(), found.warnings))
        assert both[0] == both[1], option


# ---------------------------------------------------------------- compressing


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return one table as text, as gzip, as word2vec binary and as a compressed file."""
    folder, vectors = tmp_path_factory.mktemp("sources"), make_vectors(n=700, d=9)
    matrix = vectors.matrix.copy()
    matrix[500] = 0
    words = [b"word%d" % i for i in range(len(matrix))]
    write_vectors(words, [matrix], folder / "a.txt", "text")
    write_vectors(words, [matrix], folder / "a.bin", "word2vec")
    (folder / "a.txt.gz").write_bytes(gzip.compress((folder / "a.txt").read_bytes()))
    embshrink.compress(folder / "a.bin", folder / "a.ems", ["prune:keep=600"])
    return folder


@pytest.mark.parametrize("steps", STEPS)
def test_the_same_bytes_with_a_limit(steps, sources, tmp_path, monkeypatch):
    found = {}
    for share in (8, LEAST_LIMIT):
        monkeypatch.setattr(spool, "SHARE", share)
        target = tmp_path / f"{share}.ems"
        report = embshrink.compress(sources / "a.bin", target, steps.split(), vocabulary="packed",
                                    max_memory=None if share == 8 else LEAST_LIMIT)
        found[share] = target.read_bytes(), report.loss, report.notes
    assert found[8] == found[LEAST_LIMIT]
    assert {path.suffix for path in tmp_path.iterdir()} == {".ems"}


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.ems"])
def test_the_same_bytes_from_every_source(name, sources, tmp_path, monkeypatch):
    embshrink.compress(sources / name, tmp_path / "whole.ems", ["pq:subspaces=3,centroids=16"])
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)
    embshrink.compress(sources / name, tmp_path / "parts.ems", ["pq:subspaces=3,centroids=16"],
                       max_memory=LEAST_LIMIT)
    assert (tmp_path / "whole.ems").read_bytes() == (tmp_path / "parts.ems").read_bytes()


def test_an_aim_is_met_on_disk(sources, tmp_path, monkeypatch):
    embshrink.compress(sources / "a.bin", tmp_path / "whole.ems", ["ecq"], bits=40)
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)
    embshrink.compress(sources / "a.bin", tmp_path / "parts.ems", ["ecq"], bits=40, max_memory=LEAST_LIMIT)
    assert (tmp_path / "whole.ems").read_bytes() == (tmp_path / "parts.ems").read_bytes()


def test_every_method_works_or_says_what_to_do(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)

    def too_much(self, nbytes):
        raise EmbshrinkError("whole")

    monkeypatch.setattr(Spool, "check_whole", too_much)
    whole = set()
    for name in registry.METHODS:
        try:
            embshrink.compress(sources / "a.bin", tmp_path / "a.ems", [name], max_memory=LEAST_LIMIT, force=True)
        except EmbshrinkError as error:
            assert str(error) == "whole"
            whole.add(name)
    assert whole == {"blocksparse", "dedupe", "groupreduce", "kmeans", "tensortrain"}


def test_other_formats_are_refused_where_they_do_not_fit(sources, tmp_path, monkeypatch):
    export(embshrink.as_embeddings(sources / "a.bin"), tmp_path / "a.fifu")
    embshrink.compress(tmp_path / "a.fifu", tmp_path / "a.ems", ["pq"], max_memory=LEAST_LIMIT)
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)
    with pytest.raises(SourceError, match=r"max_memory \(--max-memory\) is too small: a finalfusion file is read"):
        embshrink.compress(tmp_path / "a.fifu", tmp_path / "b.ems", ["pq"], max_memory=LEAST_LIMIT)


@pytest.mark.parametrize("steps", [step for step in STEPS if not step.startswith("prune")])
def test_codes_are_not_held_in_memory(steps, sources, tmp_path, monkeypatch):
    """Where the rows are on disk, so are the codes, which are made some rows at a time."""
    monkeypatch.setattr(spool, "SHARE", LEAST_LIMIT)
    monkeypatch.setattr(pipeline, "rows_at_once", lambda c: 256)
    monkeypatch.setattr(ecq_encode, "ROWS_AT_ONCE", 32)
    monkeypatch.setattr(ecq_encode, "PARTS_PER_BATCH", 2)
    seen, reported = {}, []
    write = compression.write_container

    def look(path, header, sections, **how):
        seen.update(sections)
        return write(path, header, sections, **how)

    monkeypatch.setattr(compression, "write_container", look)
    embshrink.compress(sources / "a.bin", tmp_path / "parts.ems", steps.split(), max_memory=LEAST_LIMIT,
                       progress=lambda stage, done, total: reported.append((stage, done, total)))
    large = "codes.data" if steps.startswith("ecq") else None
    assert {name for name, part in seen.items() if isinstance(part, Rows)} == {
        name for name in seen if name.startswith("codes.") and large in (None, name)}
    encoding = [part for part in reported if part[0] == "encoding"]
    assert encoding == sorted(encoding) and all(part[1:] <= (700, 700) for part in encoding)
    embshrink.compress(sources / "a.bin", tmp_path / "whole.ems", steps.split())
    assert (tmp_path / "whole.ems").read_bytes() == (tmp_path / "parts.ems").read_bytes()


def test_a_container_writes_rows_on_disk_as_arrays(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(container, "BLOCK", 256)
    monkeypatch.setattr(container, "PIECE", 100)
    rng = np.random.default_rng(0)
    for shape in ((0, 3), (1, 3), (85, 3), (256,), (300, 7)):
        array = rng.integers(256, size=shape).astype(np.uint8)
        sizes = [write_container(tmp_path / f"{kind}.ems", {"a": 1}, {"codes.x": part, "state.y": array[:1]})
                 for kind, part in (("array", array), ("rows", rows_of(array, disk)))]
        assert sizes[0] == sizes[1]
        assert (tmp_path / "array.ems").read_bytes() == (tmp_path / "rows.ems").read_bytes()
        for kind in ("array", "rows"):
            (tmp_path / f"{kind}.ems").unlink()


def test_less_memory_is_taken(tmp_path, subprocess_env):
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say how much memory a process took")
    rows = np.random.default_rng(0).standard_normal((100_000, 256), np.float32)
    write_vectors([f"w{i}" for i in range(len(rows))], [rows], tmp_path / "a.bin", "word2vec")
    peaks, files = [], []
    # The first time is for compiling, which takes memory of its own.
    for more in (["--limit", "3000"], [], ["--max-memory", "300M"]):
        target = tmp_path / f"{more[:1]}.ems"
        command = [sys.executable, "-m", "embshrink", "compress", tmp_path / "a.bin", target,
                   "pq:subspaces=32,centroids=16,iterations=2,sample=2000", "--no-measure", "--json", *more]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=subprocess_env)
        peaks.append(json.loads(done.stdout)["peak_memory"])
        files.append(target.read_bytes())
    assert files[1] == files[2]
    assert peaks[1] - peaks[2] > 0.4 * rows.nbytes, peaks
