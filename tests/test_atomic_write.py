"""A write is whole or it is not there: whatever fails, and whenever the process dies."""

import contextlib
import errno
import functools
import glob
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import faults
import numpy as np
import pytest

import embshrink
from embshrink import WordVectors, compress, load
from embshrink.cli import demo
from embshrink.compression import source
from embshrink.errors import EmbshrinkError, SameFileError, TargetError
from embshrink.storage import renames
from embshrink.storage.atomic import atomic_folder, atomic_write, check_target
from embshrink.storage.container import Container, write_container
from embshrink.storage.paths import check_distinct

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, links and fifos")
HEADER = {"x": 1}
NEW = {"a": np.arange(300_000, dtype=np.uint32), "b": np.ones(5, np.float32)}  # more than any buffer holds
OLD = b"what was there before"


def write(path, force=True):
    return write_container(path, HEADER, NEW, force=force)


def is_new(path):
    with Container(path, verify="full") as opened:
        return opened.header == HEADER and np.array_equal(opened.sections["a"], NEW["a"])


def temporaries(folder):
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_errors_that_are_not_of_writing_pass_through(tmp_path):
    """An OSError of the source is not taken for one of the target; whatever stops the writer, nothing is left."""
    for error in (OSError(errno.EIO, "the source"), MemoryError(), KeyboardInterrupt(), SystemExit(3), ValueError()):
        for target, before in ((tmp_path / "new", None), (tmp_path / "old", OLD)):
            if before:
                target.write_bytes(before)
            with pytest.raises(type(error)) as caught, atomic_write(target, force=True) as file:
                file.write(b"half")
                raise error
            assert caught.value is error
            assert temporaries(tmp_path) == []
            assert target.read_bytes() == before if before else not target.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TargetError("no"), OSError(errno.EIO, "x"), MemoryError()])
def test_a_check_that_raises_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.ems"
    path.write_bytes(OLD)
    seen = []

    def check(temporary):
        assert is_new(temporary)
        assert path.read_bytes() == OLD
        seen.append(temporary)
        raise error

    with pytest.raises(type(error)) as caught:
        write_container(path, HEADER, NEW, force=True, check=check)
    assert caught.value is error
    assert len(seen) == 1
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["a.ems"]


def test_a_compression_whose_file_does_not_verify_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.ems"
    path.write_bytes(OLD)
    real = os.fsync

    def corrupt(descriptor):  # a disk that loses a bit of the file while it is written
        if os.fstat(descriptor).st_size > 100 and os.path.isfile(f"/proc/self/fd/{descriptor}"):
            os.pwrite(descriptor, b"\x55", os.fstat(descriptor).st_size - 64)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", corrupt)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    matrix = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    with pytest.raises(EmbshrinkError, match=r"[\\/]a\.ems: byte \d+: "):
        compress(WordVectors(map(str, range(50)), matrix), path, "cast", force=True)
    assert path.read_bytes() == OLD
    assert temporaries(tmp_path) == []


# ---------------------------------------------------------------- targets


def test_an_existing_file_is_not_replaced_without_force(tmp_path):
    path = tmp_path / "a.ems"
    path.write_bytes(OLD)
    for attempt in (check_target, lambda path: write(path, force=False)):
        with pytest.raises(TargetError, match=r"a\.ems: the target exists\. .* use --force \(force=True\)"):
            attempt(path)
    assert path.read_bytes() == OLD
    write(path)
    assert is_new(path)


@pytest.mark.parametrize("force", [False, True])
def test_targets_that_cannot_be(tmp_path, force):
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetError, match=r"folder: the target is a folder\. Give the path of a file"):
        write(tmp_path / "folder", force)
    with pytest.raises(TargetError, match=r"nowhere.a\.ems: the target's folder does not exist\. Create it first"):
        write(tmp_path / "nowhere" / "a.ems", force)
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(TargetError, match="the target's folder does not exist"):
        write(tmp_path / "file" / "a.ems", force)
    with pytest.raises(TargetError, match="cannot write: File name too long"):
        write(tmp_path / ("x" * 300), force)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@posix
def test_a_fifo_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(TargetError, match="the target is not a regular file"):
            write(target)
    assert os.listdir(tmp_path) == ["fifo"]


@posix
def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.ems").write_bytes(OLD)
    (tmp_path / "link.ems").symlink_to("real/a.ems")
    (tmp_path / "dangling.ems").symlink_to("real/b.ems")
    with pytest.raises(TargetError, match="the target exists"):
        write(tmp_path / "link.ems", force=False)
    write(tmp_path / "link.ems")
    write(tmp_path / "dangling.ems", force=False)
    for name in ("link.ems", "dangling.ems"):
        assert (tmp_path / name).is_symlink()
        assert is_new(tmp_path / name)
    assert sorted(os.listdir(tmp_path / "real")) == ["a.ems", "b.ems"]
    assert sorted(os.listdir(tmp_path)) == ["dangling.ems", "link.ems", "real"]


@posix
def test_a_folder_one_may_not_write_to(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("NOT RUN: root may write to read-only folders; run the tests as another user too")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o500)
    try:
        with pytest.raises(TargetError, match=r"locked/a\.ems: cannot write: Permission denied"):
            write(tmp_path / "locked" / "a.ems")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.ems", "[x].ems", "*?.ems", "-n", "caf\u00e9", ".hidden", "a\nb", "bare"):
        write(name, force=False)
        assert is_new(tmp_path / name)
    assert temporaries(tmp_path) == []


def test_only_dead_writers_old_temporaries_are_removed(tmp_path):
    """All that writers to this folder left a day ago: files and folders; nothing that has a similar name."""
    day_old = [".a.ems.123.0123abcd.tmp", ".a.ems.9.ffffffff.tmp", ".b.ems.123.0123abcd.tmp",
               ".a\nb.123.0123abcd.tmp"]
    kept = [".a.ems.old.tmp", ".a.ems.tmp", "a.ems.123.0123abcd.tmp", ".a.ems.x123.0123abcd.tmp", "..1.0123abcd.tmp",
            ".a.ems.123.0123abc.tmp", ".a.ems.123.0123abcg.tmp", ".gone.123.0123abcd.old", ".a.ems.123.0123abcd.tmp2"]
    for name, kind in ((".vocab.5.00000001.tmp", "old"), (".vocab.5.00000002.tmp", "new"), (".nested.5.00000003.tmp",
                                                                                           "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vectors").write_bytes(b"x")
        if kind == "old":
            os.utime(tmp_path / name / "vectors", (time.time() - 25 * 3600,) * 2)
        if name.startswith(".nested"):
            (tmp_path / name / "folder").mkdir()  # no writer makes this
            os.utime(tmp_path / name / "folder", (time.time() - 25 * 3600,) * 2)
        os.utime(tmp_path / name, (time.time() - 25 * 3600,) * 2)
    for name in [*day_old, *kept]:
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - 25 * 3600,) * 2)
    young = ".a.ems.77.00000000.tmp"
    (tmp_path / young).write_bytes(b"x")
    os.utime(tmp_path / young, (time.time() - 23 * 3600,) * 2)
    write(tmp_path / "a.ems")
    assert sorted(os.listdir(tmp_path)) == sorted([
        *kept, young, "a.ems", ".vocab.5.00000002.tmp", ".nested.5.00000003.tmp"])


# ---------------------------------------------------------------- names that are taken, and paths that are one file


def missing(*arguments):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def without(monkeypatch, *calls):
    """Take away what a file system may not have: renames with flags, hard links."""
    if "flags" in calls:
        monkeypatch.setattr(renames, "renameat2", missing)
    if "link" in calls:
        monkeypatch.setattr(os, "link", missing)


WAYS = [(), ("flags",), ("flags", "link")]


@pytest.mark.parametrize("ways", WAYS, ids=["rename", "link", "exclusive"])
def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, ways):
    without(monkeypatch, *ways)
    path = tmp_path / "a.ems"
    with pytest.raises(TargetError, match=r"a\.ems: the target exists\. .* use --force"), atomic_write(path) as file:
        file.write(b"mine")
        path.write_bytes(OLD)
    assert path.read_bytes() == OLD and os.listdir(tmp_path) == ["a.ems"]
    folder = tmp_path / "folder"
    with pytest.raises(TargetError, match="folder: the target exists"), atomic_folder(folder, ["a"]) as create:
        with create("a") as file:
            file.write(b"mine")
        folder.mkdir()
    assert os.listdir(folder) == []
    write(tmp_path / "b.ems", force=False)
    assert is_new(tmp_path / "b.ems")
    with atomic_folder(tmp_path / "new", ["a"]) as create, create("a") as file:
        file.write(b"mine")
    assert sorted(os.listdir(tmp_path)) == ["a.ems", "b.ems", "folder", "new"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize(("ways", "call"), [((), (renames, "renameat2")), (("flags",), (os, "link")),
                                            (("flags", "link"), (os, "replace"))])
def test_a_name_that_cannot_be_given(tmp_path, monkeypatch, ways, call, code):
    """Whatever way is taken: an error is one of writing, and nothing is left, not even an empty file."""
    without(monkeypatch, *ways)

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*call, fail)
    with pytest.raises(TargetError, match=f"cannot write: {os.strerror(code)}"):
        write(tmp_path / "a.ems", force=False)
    assert os.listdir(tmp_path) == []


@posix
@pytest.mark.parametrize("ways", WAYS, ids=["rename", "link", "exclusive"])
def test_of_processes_that_write_one_new_target_one_succeeds(tmp_path, monkeypatch, ways):
    without(monkeypatch, *ways)
    assert faults.races(tmp_path, 4, 7) == 7


def test_paths_that_are_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).write_bytes(OLD)
    os.makedirs("folder/sub")
    os.symlink("a", "link")
    os.symlink("folder", "there")
    os.symlink("new", "dangling")
    os.link("a", "hard")
    same = [("a", "./a"), ("a", tmp_path / "a"), ("a", "link"), ("link", "hard"), ("a", "hard"), ("new", "./new"),
            ("folder/new", "there/new"), ("folder/sub/../new", "there/new"), ("dangling", "new"),
            ("nowhere/x", "./nowhere/x"), ("folder", "there")]
    for one, other in same:
        with pytest.raises(SameFileError, match="first is the same file as second. Choose another path"):
            check_distinct({"first": one}, {"second": other})
        with pytest.raises(SameFileError):
            check_distinct({"first": one, "second": other}, {})
        check_distinct({}, {"first": one, "second": other})
    for one, other in (("a", "b"), ("new", "newer"), ("folder/new", "new"), ("a", None), ("a", {"a": 1})):
        check_distinct({"first": one}, {"second": other})
        check_distinct({"first": one, "second": other}, {})
    with open("a", "rb") as file, redirected(file.fileno()):
        with pytest.raises(SameFileError):
            check_distinct({"first": "link"}, {"second": "-"})
        check_distinct({"first": "b"}, {"second": "-"})
        check_distinct({"first": "-"}, {"second": "a"})  # a file of this name


@contextlib.contextmanager
def redirected(descriptor):
    """Make a descriptor standard input for a while."""
    before = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_no_call_writes_over_what_it_reads(tmp_path, monkeypatch):
    """Every call with several paths refuses two that are one file, before any work and even with force."""
    monkeypatch.chdir(tmp_path)
    vectors = WordVectors(map(str, range(40)), np.random.default_rng(0).standard_normal((40, 4)))
    embshrink.write_vectors(vectors.words, [vectors.matrix], "v.txt", "text")
    compress(vectors, "v.ems", "cast")
    Path("counts").write_text("1 2\n")
    for name in ("v.txt", "v.ems", "counts"):
        os.symlink(name, f"{name}.link")
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    monkeypatch.setattr(source, "_read_table", None)  # no work is done
    calls = []
    for call in (embshrink.prune, embshrink.quantize, lambda *paths, **rest: compress(*paths, "cast", **rest)):
        calls += [functools.partial(call, "v.txt", "v.txt.link"), functools.partial(call, "v.ems", "./v.ems"),
                  functools.partial(call, "v.txt", "v.ems", remap="v.ems.link"),
                  functools.partial(call, "v.txt", "new.ems", remap="./new.ems"),
                  functools.partial(call, "v.txt", "new.ems", remap="v.txt.link"),
                  functools.partial(call, "v.txt", "new.ems", remap="counts.link", counts="counts"),
                  functools.partial(call, "v.txt", "counts.link", counts="counts")]
    emb = load("v.ems")
    calls += [functools.partial(embshrink.export, "v.ems", "v.ems.link", "text"),
              functools.partial(embshrink.export, "v.txt", "./v.txt", "text"),
              functools.partial(embshrink.export, emb, "v.ems.link", "text"),
              functools.partial(emb.save_word2vec_format, "v.ems")]
    for call in calls:
        with pytest.raises(SameFileError):
            call(force=True)
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_the_demo_replaces_nothing_unless_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "real_vectors", None)  # no work is done
    (tmp_path / "pq-half-the-bits.ems").write_bytes(OLD)
    with pytest.raises(TargetError, match=r"pq-half-the-bits\.ems: the target exists"):
        demo.demo(tmp_path)
    assert os.listdir(tmp_path) == ["pq-half-the-bits.ems"]


def test_a_list_of_shared_words_appears_with_its_file(tmp_path):
    """The list is on disk before the file gets its name; if only the list cannot get its own, the error says so."""
    vectors = WordVectors(map(str, range(40)), np.random.default_rng(0).standard_normal((40, 4)))
    target, remap = tmp_path / "a.ems", tmp_path / "remap.json"

    def take(stage, done, total=None):
        if stage == "verifying":
            remap.write_bytes(OLD)

    with pytest.raises(TargetError, match=r"remap\.json: the target exists. Only this list is missing: the \.ems"):
        compress(vectors, target, "prune:keep=9", remap=remap, progress=take)
    assert remap.read_bytes() == OLD and sorted(os.listdir(tmp_path)) == ["a.ems", "remap.json"]
    remap.unlink()

    def fail(stage, done, total=None):
        if stage == "verifying":
            assert json.loads(next(tmp_path.glob(".remap.json.*")).read_bytes())
            raise KeyboardInterrupt

    target.write_bytes(OLD)
    with pytest.raises(KeyboardInterrupt):
        compress(vectors, target, "prune:keep=9", remap=remap, progress=fail, force=True)
    assert target.read_bytes() == OLD and os.listdir(tmp_path) == ["a.ems"]


# ---------------------------------------------------------------- other processes

CHILD = """
import os, resource, signal, sys, time
import numpy as np
from embshrink.storage.container import write_container
from embshrink.storage.atomic import atomic_write
from embshrink.errors import EmbshrinkError
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
path = sys.argv[1]
"""


def child(code, *args, env, **kwargs):
    return subprocess.Popen([sys.executable, "-c", CHILD + textwrap.dedent(code), *map(str, args)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def test_four_processes_write_the_same_target(tmp_path, subprocess_env):
    code = """
        value = int(sys.argv[2])
        for _ in range(15):
            write_container(path, {"by": value}, {"a": np.full(1_500_000, value, np.uint8)}, force=True)
    """
    path = tmp_path / "a.ems"
    processes = [child(code, path, value, env=subprocess_env) for value in range(4)]
    seen = set()
    while any(process.poll() is None for process in processes):
        if path.exists():
            with Container(path, verify="full") as opened:
                seen.add(opened.header["by"])
                assert np.unique(opened.sections["a"]).tolist() == [opened.header["by"]]
        time.sleep(0.01)
    for process in processes:
        assert process.communicate() == (b"", b"")
        assert process.returncode == 0
    with Container(path, verify="full") as opened:
        assert np.unique(opened.sections["a"]).tolist() == [opened.header["by"]]
    assert os.listdir(tmp_path) == ["a.ems"]
    assert seen


def test_all_writers_in_the_package_write_so():
    """No module opens a file for writing by itself."""
    folder = Path(sys.modules["embshrink"].__file__).parent
    for name in glob.glob(str(folder / "**" / "*.py"), recursive=True):
        text = Path(name).read_text().replace('os.devnull, "w"', "")
        for mode in ('"w"', '"wb"', '"a"', '"ab"', '"x"', '"xb"', '"r+b"', '"w+b"'):
            allowed = name.endswith(os.path.join("storage", "atomic.py")) and mode == '"wb"'
            assert allowed or f", {mode}" not in text, f"{name} opens a file with mode {mode}"


def test_what_was_written_can_be_read(tmp_path):
    compress(WordVectors(["a"], [[1.0, 2.0]]), tmp_path / "a.ems", "cast", measure=False)
    with load(tmp_path / "a.ems", verify="full") as emb:
        assert emb["a"].tolist() == [1, 2]
