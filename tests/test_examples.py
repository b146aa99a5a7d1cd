"""The examples run."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).resolve().parents[1].joinpath("examples").glob("*.py"))
EXPECTED = {
    "shrink_and_look_up": "times smaller",
    "evaluate_before_and_after": "share a row",
    "in_place_of_keyedvectors": "good",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, subprocess_env, tmp_path):
    # Without the GloVe package, so that it is the same test, and a quick one, wherever it runs.
    run = "import runpy, sys; runpy.run_path(sys.argv[1])"
    hide = ("import importlib.util as u; find = u.find_spec; "
            "u.find_spec = lambda name, *rest: None if name.startswith('kumo') else find(name, *rest); ")
    result = subprocess.run([sys.executable, "-c", hide + run, str(path)], env=subprocess_env, cwd=tmp_path,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert EXPECTED[path.stem] in result.stdout
    assert not list(tmp_path.iterdir())
