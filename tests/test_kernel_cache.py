"""The cache of compiled kernels is optional: damaged, full, read-only or shared, kernels compute the same."""

import importlib
import os
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config

from embshrink.kernels import cache, kernel

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits and folders")
SOURCE = '"""A kernel."""\n\n\ndef total(array):\n    s = 0.0\n    for x in array:\n        s += x\n    return s\n'
INTEGERS, NUMBERS = np.arange(5), np.array([0.5, 1.25])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write a kernel's source to a folder, and have its cache in another one; return that one."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "totals.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "cache"
    monkeypatch.setattr(config, "CACHE_DIR", str(folder))
    monkeypatch.setattr(cache, "_warned", threading.Event())
    yield folder
    sys.modules.pop("totals", None)


def started(place):
    """Return the kernel as a new process has it."""
    cache._warned.clear()
    return kernel(imported())


def imported():
    sys.modules.pop("totals", None)
    return importlib.import_module("totals").total


def files(place, ending="*.nb[ic]"):
    return sorted(place.rglob(ending))


def compiled(place, loaded):
    """Run the kernel of a new process without a warning; check whether it comes from the cache."""
    total = started(place)
    assert total(INTEGERS) == 10
    assert sum(total.stats.cache_hits.values()) == loaded


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a lost page": lambda path: path.write_bytes(path.read_bytes()[:64] + bytes(path.stat().st_size - 64)),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("ending", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_compiled_anew(place, damage, ending):
    compiled(place, 0)
    assert len(files(place)) == 2
    compiled(place, 1)
    for path in files(place, ending):
        DAMAGE[damage](path)
    total = started(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert total(INTEGERS) == 10
    assert len(caught) == 1
    assert str(files(place)[0].parent) in str(caught[0].message)
    if damage != "a folder":
        compiled(place, 1)
    else:  # nothing can be stored there, and every process says so once
        with pytest.warns(UserWarning, match="the folder of compiled kernels cannot be used: .*Is a directory"):
            assert started(place)(INTEGERS) == 10


def test_every_flipped_bit_of_a_kernel_is_noticed(place):
    """Machine code with a wrong bit would crash, or compute something else."""
    compiled(place, 0)
    [data] = files(place, "*.nbc")
    for at in np.linspace(0, data.stat().st_size - 1, 12).astype(int):
        flip(data, at)
        total = started(place)
        with pytest.warns(UserWarning, match="are damaged, and are compiled again"):
            assert total(INTEGERS) == 10


def test_one_warning_for_all_kernels(place):
    for argument in (INTEGERS, NUMBERS):
        started(place)(argument)
    for path in files(place):
        path.write_bytes(b"")
    total = started(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (total(INTEGERS), total(NUMBERS)) == (10, 1.75)
    assert len(caught) == 1
    assert started(place)(NUMBERS) == 1.75


def test_files_that_numba_wrote_itself_are_not_taken_for_damaged(place):
    assert numba.njit(nogil=True, error_model="numpy", cache=True)(imported())(INTEGERS) == 10
    assert len(files(place)) == 2
    compiled(place, 0)
    compiled(place, 1)


def test_a_kernel_for_other_types_is_not_taken(place):
    """Two processes that compile at once may both call their file .1; the one that is last must not be mistaken."""
    total = started(place)
    total(INTEGERS), total(NUMBERS)
    first, second = files(place, "*.nbc")
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    total = started(place)
    assert (total(INTEGERS), total(NUMBERS)) == (10, 1.75)
    assert sum(total.stats.cache_hits.values()) == 0


@posix
def test_processes_that_compile_at_once(place, subprocess_env):
    code = ("import importlib, sys; import numpy as np; from embshrink.kernels import kernel; import totals\n"
            "total = kernel(totals.total)\n"
            "input()\n"
            "print([total(np.arange(5).astype(one)) for one in sys.argv[1:]])")
    path = os.pathsep.join([str(place.parent / "site"), subprocess_env["PYTHONPATH"]])
    env = {**subprocess_env, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(place)}
    kinds = [["f4", "f8"], ["f8", "f4"]]
    children = [subprocess.Popen([sys.executable, "-c", code, *one], env=env, text=True, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for one in kinds]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        assert child.communicate(timeout=60) == ("[10.0, 10.0]\n", "")
    total = started(place)
    assert [total(np.arange(5).astype(one)) for one in ("f4", "f8")] == [10, 10]


@contextmanager
def limit_of_files(size):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix
@pytest.mark.parametrize("size", [0, 1, 300, 5000])
def test_a_cache_that_cannot_be_written_is_not_used(place, size):
    total = started(place)
    with pytest.warns(UserWarning, match=f"cannot be used: {place}.*: File too large. Set NUMBA_CACHE_DIR") as caught:
        with limit_of_files(size):
            assert total(INTEGERS) == 10
    assert len(caught) == 1
    assert files(place, "*.tmp.*") == []
    compiled(place, 0)
    compiled(place, 1)


@posix
def test_a_full_disk(place):
    place.mkdir()
    if shutil.which("mount") is None or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True).returncode:
        pytest.skip("NOT RUN: a file system may be mounted by root only")
    try:
        with pytest.raises(OSError, match="No space left"):
            (place / "full").write_bytes(bytes(1 << 20))
        total = started(place)
        with warnings.catch_warnings(record=True) as caught:  # what cannot have a folder goes beside the source
            warnings.simplefilter("always")
            assert total(INTEGERS) == 10
        assert len(caught) == 1 and "No space left on device" in str(caught[0].message)
        assert str(place) in str(caught[0].message)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def no_place(place, monkeypatch):
    """Leave no folder for a cache: a file where one is wanted, beside the source, and no home."""
    place.write_bytes(b"")
    (place.parent / "site" / "__pycache__").write_bytes(b"")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    return place


def test_where_there_is_no_folder(no_place):
    total = started(no_place)
    with pytest.warns(UserWarning, match=f"{no_place.parent / 'site'} and the user's .* Set NUMBA_CACHE_DIR"):
        assert total(INTEGERS) == 10
    assert total.stats.cache_path is None


def test_without_a_home_no_folder_named_tilde_is_made(no_place, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # of a user who is not in the list of users
    with pytest.warns(UserWarning, match="Set NUMBA_CACHE_DIR"):
        assert started(no_place)(INTEGERS) == 10
    assert os.listdir() == []


def test_commands_use_what_is_left(tmp_path, subprocess_env):
    """From the command line: files emptied, one warning on standard error, the same bytes."""
    import embshrink

    vectors = embshrink.WordVectors(map(str, range(50)), np.random.default_rng(0).standard_normal((50, 3)))
    embshrink.write_vectors(vectors.words, [vectors.matrix], tmp_path / "v.bin", "word2vec")
    env = {**subprocess_env, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "embshrink", "compress", "v.bin", "v.ems", "cast", "-f", "-q", "--no-measure"]

    def run():
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stderr, Path(tmp_path, "v.ems").read_bytes()

    said, data = run()
    assert said == ""
    for path in files(tmp_path / "cache"):
        path.write_bytes(b"")
    again, same = run()
    assert again.startswith("Warning: compiled kernels in ") and again.count("\n") == 1
    assert same == data
