"""The command line as a user sees it: output, messages, exit codes, files."""

import ast
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import embshrink
from embshrink import load
from embshrink.cli.commands import cli


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder and checks its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0, input=None):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture
def source(tmp_path, gensim_data):
    """Copy a real file of 291 words into the folder the commands run in."""
    (tmp_path / "crime.vec").write_bytes((gensim_data / "crime-and-punishment.vec").read_bytes())
    return "crime.vec"


def test_prune_with_no_other_word_says_what_it_chose(run, source):
    result = run("prune", source)
    assert set(os.listdir()) == {"crime.vec", "crime.ems"}
    assert "crime.ems: " in result.stdout
    assert "steps    prune:keep=291 cast:dtype=float32" in result.stdout
    assert "291 words, dim 5" in result.stdout
    assert "nothing: the vectors are equal to the source's" in result.stdout


def test_prune_options(run, source):
    run("prune", source, "small.ems", "--keep", 40, "--remap", "r.tsv", "--norms", "--quiet")
    assert load("small.ems").info()["steps"] == ["prune:keep=40,norms=true", "cast:dtype=float32"]
    lines = Path("r.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 251


def test_quantize_defaults_and_settings(run, source):
    result = run("quantize", source, "--json")
    report = json.loads(result.stdout)
    assert report["steps"][0].startswith("ecq:bits=") and report["loss"]["relative_error"] < 0.01
    assert report["target"] == "crime.ems"
    assert report["ratio"] == os.path.getsize(source) / os.path.getsize("crime.ems")
    run("quantize", source, "b.ems", "--method", "pq", "--set", "subspaces=5", "--set", "centroids=16", "-q")
    assert load("b.ems").info()["steps"] == ["pq:subspaces=5,centroids=16,sample=291"]
    run("quantize", source, "c.ems", "--method", "pq", "--set", "centroids=16", "--bits", 20, "-q")
    assert load("c.ems").info()["steps"] == ["pq:subspaces=2,centroids=16,sample=291"]
    run("quantize", "crime.ems", "d.ems", "--size", "12kB", "-q")
    assert os.path.getsize("d.ems") <= 12000


def test_quiet_is_quiet(run, source):
    result = run("quantize", source, "-q")
    assert result.output == ""


def test_compress_info_verify_get_export(run, source):
    run("compress", source, "v.ems", "prune:keep=100", "cast", "--seed", 3)
    info = run("info", "v.ems").stdout
    assert "291 of dim 5: 100 have their own vector, 191 share one of these" in info
    assert "prune:keep=100 cast (seed 3)" in info
    assert "codes.values" in info
    assert json.loads(run("info", "v.ems", "--json").stdout)["rows"] == 100
    assert run("verify", "v.ems").stdout.startswith("v.ems: good (291 words and 100 rows")
    assert json.loads(run("verify", "v.ems", "--quick", "--json").stdout)["ok"] is True
    got = run("get", "v.ems", "и", "в").stdout.splitlines()
    assert [line.split()[0] for line in got] == ["и", "в"]
    np.testing.assert_allclose([float(x) for x in got[0].split()[1:]], load("v.ems")["и"], rtol=1e-5)
    for target, format in (("v.txt", "text"), ("v.vec", "word2vec-text"), ("v.bin", "word2vec")):
        result = run("export", "v.ems", target)
        assert format in result.stderr
        again = embshrink.read_vectors(target)
        assert np.array_equal(again.matrix, np.asarray(load("v.ems").vectors))


def test_get_names_missing_words_and_fails(run, source):
    run("quantize", source, "-q")
    result = run("get", "crime.ems", "и", "nothing", code=1)
    assert "Error: no such word: nothing" in result.stderr
    assert result.stdout.startswith("и ")
    listed = json.loads(run("get", "crime.ems", "и", "nothing", "--json", code=1).stdout)
    assert listed["missing"] == ["nothing"]
    assert listed["vectors"][0]["alias_of"] == "и"


def test_similar_and_analogy(run, source):
    run("prune", source, "--keep", 50, "-q")
    rows = run("similar", "crime.ems", "и", "-n", 4).stdout.splitlines()
    assert len(rows) == 4
    expected = load("crime.ems").most_similar("и", topn=4)
    assert [row.split("\t")[1] for row in rows] == [word for word, _ in expected]
    found = json.loads(run("analogy", "crime.ems", "и", "в", "не", "-n", 2, "--json").stdout)
    assert [row["word"] for row in found["neighbours"]] == [
        word for word, _ in load("crime.ems").most_similar(["в", "не"], ["и"], topn=2)]
    result = run("similar", "crime.ems", "nothing", code=1)
    assert "Error: no such word: Key 'nothing' not present" in result.stderr


def test_aliases_are_shown(run, source):
    run("prune", source, "--keep", 5, "-q")
    assert "answers with the vector of" in run("similar", "crime.ems", "и", "-n", 30).stdout


def test_plan_is_what_is_written(run, source):
    planned = json.loads(run("plan", source, "prune:keep=60", "pq:subspaces=2", "--json").stdout)
    run("compress", source, "v.ems", "prune:keep=60", "pq:subspaces=2", "-q")
    assert planned["bytes"] == os.path.getsize("v.ems") == sum(planned["sections"].values())
    assert "whole file" in run("plan", source, "prune").stdout
    assert run("plan", source).stdout.startswith("steps    ecq:bits=")
    assert "either a STEP or --pareto" in run("plan", source, "pq", "--pareto", code=2).stderr
    assert os.path.exists("v.ems")
    assert not os.path.exists("crime.ems")


def test_evaluate(run, source):
    run("quantize", source, "-q")
    with open("pairs.csv", "w", encoding="utf-8") as file:
        file.write("и,в,3.5\nв,не,1\nне,что,7\nи,nothing,2\n")
    table = run("evaluate", "crime.ems", "--baseline", source, "--pairs", "pairs.csv").stdout
    assert "Spearman x 100" in table
    assert "3 of 4" in table
    assert "overlap@10" in table
    scores = json.loads(run("evaluate", "crime.ems", source, "--pairs", "pairs.csv", "--json").stdout)
    assert set(scores) == {"crime.ems", source}
    assert scores[source]["similarity"][0]["pairs_used"] == 3


def test_methods(run):
    listed = run("methods").stdout
    assert all(name in listed for name in ("prune", "kmeans", "pq", "cast", "dedupe"))
    one = run("methods", "pq").stdout
    assert "subspaces" in one
    assert "none | pca | opq" in one
    assert json.loads(run("methods", "prune", "--json").stdout)[0]["parameters"][0]["name"] == "keep"
    assert "unknown method 'nope'" in run("methods", "nope", code=1).stderr


def test_target_names(run, source):
    import bz2
    import gzip

    with open(source, "rb") as file:
        data = file.read()
    Path("a.txt.gz").write_bytes(gzip.compress(data))
    Path("b.vec.bz2").write_bytes(bz2.compress(data))
    run("quantize", "a.txt.gz", "-q")
    run("quantize", "b.vec.bz2", "-q")
    assert np.array_equal(np.asarray(load("a.ems").vectors), np.asarray(load("b.ems").vectors))
    assert "would be written onto itself" in run("quantize", "a.ems", code=2).stderr
    assert "name a TARGET" in run("quantize", "-", code=2).stderr


def test_standard_input(run, source):
    with open(source, "rb") as file:
        run("quantize", "-", "v.ems", "-q", input=file.read())
    assert len(load("v.ems")) == 291


def test_no_overwriting_without_force(run, source):
    run("quantize", source, "-q")
    before = Path("crime.ems").read_bytes()
    result = run("prune", source, "--keep", 9, code=1)
    assert "Error: crime.ems: the target exists. Use --force" in result.stderr
    assert Path("crime.ems").read_bytes() == before
    run("prune", source, "--keep", 9, "--force", "-q")
    assert Path("crime.ems").read_bytes() != before


def test_errors_are_one_line_and_json_when_asked(run, source):
    Path("bad.txt").write_text("a 1 2 3\nb 1 2\nc 1 2 3\n")
    result = run("quantize", "bad.txt", code=1)
    assert result.stderr.startswith("Error: ")
    assert "bad.txt" in result.stderr
    assert "line 2" in result.stderr
    assert os.path.exists("bad.ems") is False
    listed = json.loads(run("quantize", "bad.txt", "--json", code=1).stdout)
    assert listed["error"]["error"] == "SourceError"
    assert "line 2" in listed["error"]["where"]
    assert "no such file" in run("quantize", "nothing.txt", code=1).stderr.lower()
    assert "is not an .ems file" in run("info", source, code=1).stderr
    assert "unknown method" in run("compress", source, "v.ems", "nope", code=1).stderr
    assert "kmeans is not a bits method" in run("quantize", source, "--method", "kmeans", code=1).stderr
    assert run("quantize", source, "--size", "huge", code=2).stderr
    assert run("quantize", source, "--threads", "0", code=2).stderr


def test_warnings_reach_standard_error(run):
    Path("twice.txt").write_text("a 1 2\nb 1 3\na 4 5\nc 0 0\n")
    result = run("quantize", "twice.txt")
    assert "Warning: " in result.stderr
    assert "1 repeated row left out" in result.stderr


def test_words_cannot_control_the_terminal(run):
    Path("esc.txt").write_bytes(b"\x1b[31mred 1 2\n[bold]b 3 4\n\xff 5 6\n")
    run("compress", "esc.txt", "v.ems", "cast", "-q")
    out = run("similar", "v.ems", "[bold]b").stdout
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert "\\udcff" in out


def test_keep_words(run, source):
    words = load_words(source)
    Path("keep.txt").write_text(f"{words[200]}\nnothing\n", encoding="utf-8")
    result = run("prune", source, "--keep", 5, "--keep-words", "keep.txt")
    assert load("crime.ems").alias_of(words[200]) == words[200]
    assert "1 of 2 words to keep are not in the source: nothing" in result.stderr


def load_words(source):
    return list(embshrink.read_vectors(source).words)


def test_every_command_and_option_has_help():
    for name, command in cli.commands.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "seed":
                assert parameter.help, (name, parameter.name)
        help_text = CliRunner().invoke(cli, [name, "--help"]).output
        assert all(len(line) <= 100 for line in help_text.splitlines())


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", ["", *cli.commands])
def test_help_is_readable(name, width):
    """No control character or escape is left, nothing is wider than the terminal, each example has its line."""
    shown = CliRunner().invoke(cli, [*filter(None, [name]), "--help"], terminal_width=width).output
    assert "\\b" not in shown and "\b" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    for example in getattr(cli.commands.get(name), "examples", ()):
        assert f"  {example}" in lines


def test_examples_of_help_run(tmp_path, monkeypatch):
    """Every example of every --help does what it shows, on small files with the names it uses."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = ["man", "king", "woman", "tiger", "cat", *(f"w{i}" for i in range(600))]
    matrix = (rng.standard_normal((12, 50))[rng.integers(12, size=len(words))]
              + 0.5 * rng.standard_normal((len(words), 50))).astype(np.float32)
    for path, format in (("glove.6B.50d.txt", "text"), ("glove.txt", "text"), ("vectors.bin", "word2vec")):
        embshrink.write_vectors(words, [matrix], path, format)
    for name, command in cli.commands.items():
        for example in command.examples:
            program, *arguments = shlex.split(example)
            assert (program, arguments[0]) == ("embshrink", name)
            for written in ("glove.6B.50d.ems", "small.ems", "vectors.ems"):
                (tmp_path / written).unlink(missing_ok=True)
            result = CliRunner().invoke(cli, arguments)
            assert result.exit_code == 0, (example, result.output)
            assert result.stdout


def test_tables_have_no_trailing_spaces(run, source):
    run("quantize", source, "v.ems", "-q")
    for command in (["info", "v.ems"], ["plan", source], ["formats"], ["methods"], ["methods", "pq"],
                    ["evaluate", "v.ems", "--baseline", source]):
        assert not [line for line in run(*command).stdout.splitlines() if line != line.rstrip()], command


def test_options_that_messages_name_exist():
    """What an error tells people to use is there: every --option in a text of the package is one of a command."""
    options = {name for command in cli.commands.values() for one in command.params if isinstance(one, click.Option)
               for name in one.opts} | {"--help", "--force-reinstall", "--mode"}  # of pip, and of floret's program
    package = Path(embshrink.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value))
                assert named <= options, f"{path.name}:{node.lineno}"


def test_a_bomb_is_refused_and_let_in_by_the_option_that_its_message_names(run, source, tmp_path):
    (tmp_path / "v.vec.gz").write_bytes(gzip.compress((tmp_path / source).read_bytes()))
    refused = run("quantize", "v.vec.gz", "--max-expanded", "1k", code=1)
    assert "raise --max-expanded" in refused.stderr
    run("quantize", "v.vec.gz", "--max-expanded", "1MB", "-q")


@pytest.mark.parametrize("arguments, begun, expected", [
    (["quantize", "a.txt", "--method"], "", {"ecq", "pq", "iiq", "scalar", "rq", "groupreduce", "blocksparse",
                                            "tensortrain", "magnitude", "cast"}),
    (["compress", "a.txt", "b.ems"], "p", {"prune", "pq"}),
    (["compress", "a.txt", "b.ems", "prune"], "i", {"iiq", "itq", "int8"}),
    (["plan", "a.txt"], "low", {"lowrank"}),
    (["methods"], "ma", {"magnitude"}),
    (["prune", "a.txt", "--from"], "word2vec", {"word2vec", "word2vec-text"}),
    (["export", "a.ems", "b", "--to"], "n", set()),
    (["export", "a.ems", "b", "--to"], "s", {"spacy"}),
])
def test_completion_knows_names(arguments, begun, expected):
    completer = ShellComplete(cli, {}, "embshrink", "_EMBSHRINK_COMPLETE")
    assert {item.value for item in completer.get_completions(arguments, begun)} == expected


def test_json_everywhere():
    without = {name for name, command in cli.commands.items()
               if not any(parameter.name == "as_json" for parameter in command.params)}
    assert without == {"export"}  # it writes a file, and there is nothing to say but that


def test_help_imports_click_only(subprocess_env):
    code = ("import sys; from click.testing import CliRunner; from embshrink.cli.commands import cli; "
            "CliRunner().invoke(cli, ['--help']); print([m for m in ('numpy', 'rich', 'numba') if m in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_is_130_and_leaves_nothing(tmp_path, subprocess_env):
    rng = np.random.default_rng(0)
    embshrink.write_vectors([f"w{i}" for i in range(60_000)], [rng.standard_normal((60_000, 50)).astype(np.float32)],
                            tmp_path / "v.bin", "word2vec")
    process = subprocess.Popen(
        [sys.executable, "-m", "embshrink", "compress", "v.bin", "v.ems", "rq:codebooks=48,sample=60000"],
        cwd=tmp_path, env=subprocess_env, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # ignored, if we run in the background
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip().endswith("interrupted")
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["v.bin"]
