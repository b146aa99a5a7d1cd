"""What leaves the command: text from files is escaped, data is exact, and failing streams are reported."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from embshrink import WordVectors, compress, load
from embshrink.cli import console
from embshrink.cli.commands import cli
from embshrink.errors import SourceError, StepError, printable
from embshrink.methods import registry

HOSTILE = [  # a title, colours by ESC and C1, a line that is overwritten, a bell, text that is turned around, markup
    "\x1b]0;title\x07", "\x1b[31mred", "\x9b31mred", "over\rwritten", "bell\a", "back\bspace", "\u202eright",
    "\u2066left\u2069", "[red]markup[/red]", "<script>alert(1)</script>", '"onload="', "two\nlines", "\u200bnothing",
    b"\xff\x1b".decode("utf-8", "surrogateescape"),
]
FILE = "\x1b]0;a\u202e\r"  # begins the names of files
WORDS = [*HOSTILE, *(f"w{i}" for i in range(26))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with hostile files: FILE.ems, FILE.txt, a damaged FILE.bad, and word lists."""
    folder = tmp_path_factory.mktemp("output")
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((len(WORDS), 6)).astype(np.float32)
    matrix[1] = matrix[0]
    vectors = WordVectors(WORDS, matrix, {"name": HOSTILE[0], "format": HOSTILE[1]})
    compress(vectors, folder / f"{FILE}.ems", ["prune:keep=30", "cast"], measure=False)
    rows = [b"%s %s\n" % (word.encode("utf-8", "surrogateescape"), b" ".join(b"%.3f" % x for x in row))
            for word, row in zip(WORDS, matrix.tolist()) if "\n" not in word]
    (folder / f"{FILE}.txt").write_bytes(b"".join([*rows, rows[0], rows[1]]))
    (folder / f"{FILE}.short").write_bytes(b"".join([*rows, b"\x1b]0;t\a 1 2\n"]))
    (folder / f"{FILE}.words").write_bytes("\n".join([*WORDS, "\x1b]0;gone"]).encode("utf-8", "surrogateescape"))
    (folder / f"{FILE}.pairs").write_text("".join(f"w{i} w{i + 1} {i}\n" for i in range(9)))
    (folder / f"{FILE}.damaged").write_bytes((folder / f"{FILE}.ems").read_bytes()[:-20] + b"\x1b" * 20)
    return folder


COMMANDS = {  # each command that prints something from a file: what it prints, and the messages when it fails
    "quantize": "quantize @.txt o.ems --force --method scalar",
    "quantize a short row": "quantize @.short o.ems --force",
    "prune": "prune @.txt o.ems --force --keep 39 --keep-words @.words",
    "compress": "compress @.ems o.ems --force",
    "compress to the same": "compress @.txt @.ems cast",
    "compress, bad counts": "compress @.txt o.ems cast --force --counts @.words",
    "compress, a bad step": "compress @.txt o.ems \x1b]0;t --force",
    "compress, a bad option": "compress @.txt o.ems --\x1b]0;t",
    "plan": "plan @.txt cast",
    "plan, damaged": "plan @.damaged cast",
    "info": "info @.ems",
    "info, damaged": "info @.damaged",
    "info, another file": "info @.txt",
    "info, missing": "info @.missing",
    "verify": "verify @.ems",
    "verify, damaged": "verify @.damaged",
    "get": ["get", "@.ems", *HOSTILE],
    "get, missing": "get @.ems \x1b]0;t W1",
    "get, damaged": "get @.damaged w1",
    "similar": "similar @.ems w1 -n 40",
    "similar, missing": "similar @.ems \x1b]0;t",
    "similar, damaged": "similar @.damaged w1",
    "analogy": "analogy @.ems w1 w2 w3 -n 40",
    "analogy, missing": "analogy @.ems \x1b]0;t w2 \x1b]0;u",
    "evaluate": "evaluate @.ems --pairs @.pairs",
    "evaluate two": "evaluate @.ems @.txt --pairs @.pairs --baseline @.txt",
    "evaluate, bad pairs": "evaluate @.ems --pairs @.words",
    "evaluate, bad analogies": "evaluate @.ems --analogies @.words",
    "export": "export @.ems o@.bin --force",
    "export, a newline": "export @.ems o@.txt --force",
    "methods": "methods \x1b]0;t",
    "no command": "\x1b]0;t",
    "no option": "--\x1b]0;t",
}
JSON = ["quantize", "quantize a short row", "plan", "info", "info, damaged", "verify", "get", "similar", "analogy",
        "analogy, missing", "evaluate"]


@pytest.fixture
def run(folder, monkeypatch):
    """Return a function that runs one of COMMANDS, and returns its result."""
    monkeypatch.chdir(folder)

    def call(name, *more):
        line = COMMANDS[name]
        words = line.split(" ") if isinstance(line, str) else line
        result = CliRunner().invoke(cli, [*(word.replace("@", FILE) for word in words), *more])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


def unsafe(text):
    return [char for char in text if not char.isprintable() and char not in "\n\t"]


@pytest.mark.parametrize("name", COMMANDS)
def test_text_from_files_cannot_control_a_terminal(run, monkeypatch, name):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    monkeypatch.setattr(console, "DELAY", 3600)  # progress is drawn with escape sequences
    result = run(name)
    assert (result.exit_code != 0) == ("," in name or name.startswith("no ") or "short" in name or "same" in name
                                       or name == "methods"), result.output
    assert result.output
    assert not unsafe(result.stdout) + unsafe(result.stderr)


@pytest.mark.parametrize("name", JSON)
def test_json_is_exact(run, name):
    out = run(name, "--json").stdout
    assert out.isascii() and out.count("\n") == 1
    found = json.loads(out)
    if name == "get":
        assert [row["word"] for row in found["vectors"]] == HOSTILE
    if name == "similar":
        assert {row["word"] for row in found["neighbours"]} == {*WORDS} - {"w1"}
    if name == "analogy, missing":
        assert found["error"]["missing"] == ["\x1b]0;t", "\x1b]0;u"]


def test_a_pipe_gets_exact_words(run):
    rows = run("similar").stdout_bytes.split(b"\n")[:-1]
    words = {row.split(b"\t")[1] for row in rows}
    assert words == {word.encode("utf-8", "surrogateescape").replace(b"\n", b"\\n") for word in WORDS} - {b"w1"}
    rows = run("get").stdout_bytes.split(b"\n")[:-1]
    assert [row.rsplit(b" ", 6)[0] for row in rows] == [
        word.encode("utf-8", "surrogateescape").replace(b"\n", b"\\n") for word in HOSTILE]


def test_export_writes_exact_words(run, folder):
    run("export")
    assert {word.encode("utf-8", "surrogateescape") for word in HOSTILE} <= set(
        load(folder / f"{FILE}.ems").words.raw)
    data = Path(f"o{FILE}.bin").read_bytes()
    assert all(word.encode("utf-8", "surrogateescape") + b" " in data for word in HOSTILE)


def test_messages_of_the_library_are_escaped():
    error = SourceError("the word \x1b]0;t\a is wrong", path="a\rb", found="\u202e")
    assert str(error) == r"a\rb: the word \x1b]0;t\x07 is wrong (found \u202e)"
    assert error.as_dict()["problem"] == "the word \x1b]0;t\a is wrong"
    assert printable("é 日本 [red]") == "é 日本 [red]"


def test_the_command_prints_by_one_module_only():
    """Only output.py writes to a stream; help.py formats what click prints."""
    for path in Path(cli.callback.__code__.co_filename).parent.glob("*.py"):
        if path.name in ("output.py", "help.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"), (
                    path, called)


# ---------------------------------------------------------------- streams that fail

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@FULL
@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
@pytest.mark.parametrize("line", ["info v.ems --json", "info v.ems", "get v.ems w1", "info v.ems --json 2>&1"])
def test_output_that_cannot_be_written_is_a_failure(folder, tmp_path, subprocess_env, line, redirect):
    (tmp_path / "v.ems").write_bytes((folder / f"{FILE}.ems").read_bytes())
    found = shell(f"{line} {redirect}", tmp_path, subprocess_env)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr and "Exception" not in found.stderr
    assert found.stderr.startswith("Error: standard output: ") or "2>&1" in line


def test_a_reader_that_stops_ends_the_command_quietly(folder, tmp_path, subprocess_env):
    (tmp_path / "v.ems").write_bytes((folder / f"{FILE}.ems").read_bytes())
    found = shell("get v.ems " + "w1 " * 5000 + "| head -1", tmp_path, subprocess_env)
    assert found.stdout.startswith("w1 ") and found.stdout.count("\n") == 1
    assert not found.stderr


def test_closed_standard_input_is_named(folder, tmp_path, subprocess_env):
    (tmp_path / "v.txt").write_bytes(b"a 1 2\nb 3 4\n")
    for line in ("compress - o.ems <&-", "prune v.txt o.ems --keep-words - <&-"):
        found = shell(line, tmp_path, subprocess_env)
        assert found.returncode == 1
        assert found.stderr == "Error: <stdin>: standard input is closed. Pipe a file into the command.\n"


def shell(line, folder, env):
    return subprocess.run(f'"{sys.executable}" -m embshrink {line}', shell=True, env=env, cwd=folder,
                          capture_output=True, text=True)


# ---------------------------------------------------------------- numbers that are not meant

MANY = "9" * 400


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", MANY, f"-{MANY}", "1e400", "9" * 5000, "", " ", "0x10"])
def test_no_numeric_option_takes_such_a_number(value):
    kinds = (click.types.IntParamType, click.types.FloatParamType)
    checked = 0
    for command in cli.commands.values():
        for one in command.params:
            callbacks = {"--size", "--max-memory", "--max-expanded"} & set(one.opts)
            if isinstance(one.type, kinds) or callbacks:
                with pytest.raises(click.BadParameter):
                    one.process_value(click.Context(command), value)
                checked += 1
    assert checked > 40


def test_no_parameter_of_a_method_takes_such_a_number():
    for name in registry.METHODS:
        for one in registry.parameters(registry.method(name)):
            if one.type in (int, float):
                for value in ("nan", "inf", "-inf", MANY, f"-{MANY}", "1e400", "9" * 5000):
                    with pytest.raises(StepError):
                        registry.as_steps([f"{name}:{one.name}={value}"])
                for number in (10**400, float("inf")):
                    with pytest.raises(ValueError):
                        one.check(number)
