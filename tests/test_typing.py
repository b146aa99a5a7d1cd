"""The package is typed: a user's script is checked, and its types are what an editor shows."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import numpy as np

import embshrink

report = embshrink.compress("glove.txt", "glove.ems", ["prune:keep=50000", "pq:subspaces=25"], seed=1)
reveal_type(report.ratio)  # float | None
reveal_type(report.steps)  # list[str]
reveal_type(report.relative_error)  # float | None
print(f"{report.ratio:.2f} times smaller, relative error {report.relative_error:.1e}")
emb = embshrink.load("glove.ems")
reveal_type(emb)  # embshrink.keyed_vectors.embeddings.Embeddings
reveal_type(emb["king"].shape)  # tuple[int, ...]
reveal_type(emb["king"].dtype)  # numpy.dtype[numpy.floating[numpy._typing._nbit_base._32Bit]]
reveal_type(emb.most_similar("king", topn=3))  # list[tuple[str, float]]
reveal_type(emb.most_similar(positive=["king", "woman"], negative=["man"])[0][0])  # str
reveal_type(emb.most_similar("king", topn=None).dtype)  # numpy.dtype[numpy.floating[numpy._typing._nbit_base._32Bit]]
reveal_type(emb.most_similar([(np.ones(3), 0.5)], None, None).shape)  # tuple[int, ...]
reveal_type(emb.similar_by_vector(np.ones(3)))  # list[tuple[str, float]]
reveal_type(emb.doesnt_match(["a", "b"]))  # str
reveal_type(emb.get("a", np.zeros(3, np.float32)).ndim)  # int
reveal_type("king" in emb)  # bool
reveal_type(emb.similarity("king", "queen"))  # float
reveal_type(embshrink.WordVectors(["a", "b"], np.ones((2, 3)))["a"].ndim)  # int
reveal_type([one.name for one in embshrink.list_methods()])  # list[str]
reveal_type(embshrink.plan("glove.txt", "ecq").bytes)  # int
reveal_type(embshrink.info("glove.ems")["bits_per_word"])  # float
reveal_type(emb.info()["sections"])  # dict[str, int]
reveal_type(embshrink.evaluate(emb).similarity[0].spearman)  # float | None
reveal_type(embshrink.prune("glove.txt", keep=20_000, seed=3).rows)  # int
"""
WRONG = {
    "embshrink.lod('glove.ems')": "attr-defined",
    "embshrink.compress('a.txt', 'a.ems', 3)": "arg-type",
    "embshrink.prune('a.txt', keeps=3)": "call-arg",
    "embshrink.load('a.ems')['king'].upper()": "attr-defined",
    "embshrink.WordVectors(3, [[1.0]])": "arg-type",
}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy")


def check(code, folder, env):
    """Return mypy's lines about a script that uses the installed package."""
    (folder / "script.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports",
         "--python-version=3.12", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"), "script.py"],
        cwd=folder, env={**env, "MYPYPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout.splitlines()


def test_a_users_script(tmp_path, subprocess_env):
    expected = re.findall(r"reveal_type.*  # (.*)", SCRIPT)
    lines = check(SCRIPT, tmp_path, subprocess_env)
    shown = [re.search(r'Revealed type is "(.*)"', line).group(1).replace("builtins.", "")
             for line in lines if "Revealed" in line]
    assert not [line for line in lines if ": error" in line]
    assert shown == expected


def test_mistakes_are_found(tmp_path, subprocess_env):
    lines = check("import embshrink\n" + "\n".join(WRONG), tmp_path, subprocess_env)
    found = {int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]") for line in lines if ": error" in line}
    assert found == dict(enumerate(WRONG.values(), start=2))
