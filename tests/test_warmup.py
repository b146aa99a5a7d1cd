"""What warmup compiled is what commands use; where nothing can be kept, it says so, and all else works."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_vectors

import embshrink
from embshrink.cli import warmup
from embshrink.errors import EmbshrinkError
from embshrink.methods import registry

WARM = "import sys; from embshrink.cli.warmup import warmup; print(warmup(sys.argv[1:]).compiled)"
JOBS = ["formats", "pq"]  # the others compile for a minute


def run(*command, env, code=0, cwd=None):
    result = subprocess.run([sys.executable, *map(str, command)], env=env, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result


def without_disabled(env):
    return {name: value for name, value in env.items() if name != "NUMBA_DISABLE_JIT"}


def test_commands_compile_nothing_new(tmp_path, subprocess_env):
    cache, source, target = tmp_path / "cache", tmp_path / "v.txt", tmp_path / "v.ems"
    env = {**without_disabled(subprocess_env), "NUMBA_CACHE_DIR": str(cache)}
    vectors = make_vectors(3000, 12)
    words = [f"w{i}" for i in range(3000)]
    embshrink.write_vectors(words, [vectors.matrix], source, "text")

    def kept():
        return sorted((path.name, path.stat().st_mtime_ns) for path in cache.rglob("*.nbc"))

    assert int(run("-c", WARM, *JOBS, env=env).stdout) == len(kept()) > 5
    before = kept()
    run("-m", "embshrink", "quantize", source, target, "--method", "pq", env=env)
    run("-m", "embshrink", "similar", target, "w7", env=env)
    run("-m", "embshrink", "evaluate", target, "--baseline", source, env=env)
    assert kept() == before


def test_there_is_a_job_for_every_method_and_setting():
    assert set(registry.METHODS) < set(warmup.job_names())
    assert set(warmup.STEPS) <= set(registry.METHODS)
    for name, steps in warmup.STEPS.items():
        assert all(registry.name_of(registry.parse(step)) == name for step in steps)
    from embshrink.embeddings import index as scan

    assert warmup.MANY_ROWS > scan.LEAST_ROWS


@pytest.fixture
def read_only(tmp_path, subprocess_env):
    """Return an environment with a package beside which, and a home in which, nobody can write, not even root."""
    package = tmp_path / "site" / "embshrink"
    shutil.copytree(Path(embshrink.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_bytes(b"")  # a file where a folder is wanted
    unset = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "NUMBA_DISABLE_JIT"}
    return {**{name: value for name, value in subprocess_env.items() if name not in unset},
            "PYTHONPATH": str(package.parent), "HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.skipif(sys.platform == "win32", reason="the user's folder is found elsewhere")
def test_where_nothing_can_be_kept(read_only, tmp_path):
    words = [f"w{i}" for i in range(400)]
    embshrink.write_vectors(words, [make_vectors(400, 6).matrix], tmp_path / "v.bin", "word2vec")

    def command(*words, **how):
        return run("-m", "embshrink", *words, env=read_only, cwd=tmp_path, **how)

    where = run("-c", "import embshrink; print(embshrink.__file__)", env=read_only, cwd=tmp_path).stdout
    assert where.startswith(read_only["PYTHONPATH"])
    said = command("quantize", "v.bin", "v.ems", "--method", "pq", "--quiet").stderr
    assert said.startswith("Warning: no folder for compiled kernels: ") and said.count("\n") == 1
    assert len(command("similar", "v.ems", "w7").stdout.splitlines()) == 10
    failed = command("warmup", code=1)
    assert "no writable folder for compiled kernels" in failed.stderr
    assert "Set NUMBA_CACHE_DIR" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_without_compiling_there_is_nothing_to_do(subprocess_env):
    failed = run("-m", "embshrink", "warmup", "--json", env={**subprocess_env, "NUMBA_DISABLE_JIT": "1"}, code=1)
    assert "NUMBA_DISABLE_JIT" in json.loads(failed.stdout)["error"]["hint"]


def test_an_unknown_job():
    with pytest.raises(EmbshrinkError, match="unknown warmup job 'pqq'"):
        warmup._chosen(["pqq"])
