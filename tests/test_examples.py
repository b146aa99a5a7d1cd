"""The examples run, on the default file and on one that is given, and use public names only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from gensim.test.utils import datapath

import embshrink

EXAMPLES = sorted(Path(__file__).resolve().parents[1].joinpath("examples").glob("*.py"))
EXPECTED = {
    "shrink_and_look_up": "times smaller",
    "evaluate_before_and_after": "share a row",
    "in_place_of_keyedvectors": "good",
}


def outcome(path, folder, env, *arguments):
    command = [sys.executable, str(path), *arguments]
    result = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not list(folder.iterdir())
    return result.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, subprocess_env, tmp_path):
    printed = outcome(path, tmp_path, subprocess_env)
    assert EXPECTED[path.stem] in printed
    assert outcome(path, tmp_path, subprocess_env, datapath("pang_lee_polarity_fasttext.vec")) == printed


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_uses_public_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert all(not one.name.startswith("embshrink.") for one in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not str(node.module).startswith("embshrink")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "embshrink":
            assert node.attr in embshrink.__all__
