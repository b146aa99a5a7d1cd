"""Nothing imports what it does not use: start-up is most of what a short command takes."""

import json
import subprocess
import sys

import pytest
from conftest import make_vectors

import embshrink

BESIDE = {"numba", "scipy", "sklearn", "gensim", "rich", "pyarrow", "zstandard", "threadpoolctl", "llvmlite"}
NUMBA = {"numba", "llvmlite", "scipy"}  # numba imports scipy

COMMAND = """
import json, sys
from click.testing import CliRunner
from embshrink.cli.commands import cli
result = CliRunner().invoke(cli, sys.argv[1:])
print(json.dumps([result.exit_code, result.output, sorted({name.split(".")[0] for name in sys.modules})]))
"""
PLANS = """
import sys
from embshrink.methods import pipeline, registry
for text in sys.argv[1:]:
    pipeline.plan(400, 10, [text])
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
READING = """
import sys
from embshrink import ReadOptions, read_vectors
for path in sys.argv[1:]:
    read_vectors(path)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with files made of 400 words: pq.ems, and one in each format that is read unasked."""
    folder, vectors = tmp_path_factory.mktemp("imports"), make_vectors()
    words = [f"w{i}" for i in range(400)]
    embshrink.compress(embshrink.WordVectors(words, vectors.matrix), folder / "pq.ems", ["pq"], measure=False)
    for name in ("text", "word2vec-text", "word2vec", "finalfusion", "fasttext"):
        with embshrink.load(folder / "pq.ems") as emb:
            from embshrink.formats import export

            export(emb, folder / name, name)
    return folder


def python(code, *arguments, env, cwd=None):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=env, cwd=cwd, capture_output=True,
                          text=True, check=True).stdout


def test_the_package_imports_nothing(subprocess_env):
    code = "import sys; before = set(sys.modules); import embshrink; print(*(set(sys.modules) - before))"
    assert set(python(code, env=subprocess_env).split()) - {"__future__"} == {"embshrink"}


@pytest.mark.parametrize(("command", "allowed"), [
    ("--help", set()),
    ("--version", set()),
    ("quantize --help", set()),
    ("warmup --help", set()),
    ("methods --json", {"numpy"}),
    ("formats --json", {"numpy"}),
    ("info pq.ems --json", {"numpy"}),
    ("info pq.ems", {"numpy", "rich"}),
    ("get pq.ems w3", {"numpy"}),
    ("similar pq.ems w3", {"numpy"}),
    ("analogy pq.ems w3 w4 w5", {"numpy"}),
    ("verify pq.ems", {"numpy"}),
    ("export pq.ems out.txt", {"numpy", "rich"}),
    ("export pq.ems out.bin -q", {"numpy"}),
    ("export pq.ems out.fifu -q", {"numpy"}),
    ("plan word2vec prune:keep=100 pq --json", {"numpy", "threadpoolctl", *NUMBA}),
    ("compress text out.ems scalar -q --no-measure", {"numpy", "threadpoolctl", *NUMBA}),
    ("quantize word2vec out2.ems -q", {"numpy", "threadpoolctl", *NUMBA}),
])
def test_commands_import_what_they_use(command, allowed, folder, subprocess_env):
    code, output, modules = json.loads(python(COMMAND, *command.split(), env=subprocess_env, cwd=folder))
    assert code == 0, output
    assert (BESIDE | {"numpy"}) & set(modules) <= allowed


def test_planning_imports_numpy_only(subprocess_env):
    from checks import all_settings

    found = python(PLANS, *all_settings(), env=subprocess_env).split()
    assert not BESIDE & set(found)


def test_reading_imports_no_library_of_a_peer(folder, subprocess_env):
    paths = [path for path in sorted(folder.iterdir()) if not path.suffix]
    assert len(paths) == 5
    found = python(READING, *paths, env=subprocess_env).split()
    assert BESIDE & set(found) <= {"threadpoolctl", *NUMBA}
