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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import embshrink
from embshrink import load
from embshrink.cli.commands import cli
from embshrink.cli.help import GROUPS
from embshrink.cli.signals import Terminated, terminable


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
    assert report["steps"] == ["cast"]  # for so few numbers, the tables of ecq would take more bytes
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
    assert result.stderr == "Error: no such word in crime.ems: 'nothing'\n"
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


@pytest.mark.parametrize("command, others", [("get", ()), ("similar", ()), ("analogy", ("king", "tea"))])
def test_a_missing_word_has_one_sentence_everywhere(run, command, others):
    """It names the file and the word, and a spelling of it only if the file has that."""
    words = ["king", "tea", "Movie", "ice_cream", "New York", "NATO"]
    embshrink.compress(embshrink.WordVectors(words, np.eye(6, dtype=np.float32)), "small.ems", "cast", measure=False)
    for word, found in (("movie", "Movie"), ("MOVIE", "Movie"), (" king ", "king"), ("Ice cream", "ice_cream"),
                        ("new_york", "New York"), ("nato", "NATO"), ("queen", None), ("", None)):
        result = run(command, "small.ems", word, *others, code=1)
        hint = "" if found is None else f". Did you mean '{found}'?"
        assert result.stderr == f"Error: no such word in small.ems: '{word}'{hint}\n"
    parts = json.loads(run(command, "small.ems", "movie", *others, "--json", code=1).stdout)
    assert (parts["error"] if "error" in parts else parts)["missing"] == ["movie"]
    if others:
        assert run(command, "small.ems", "movie", "tea", "queen", code=1).stderr.count("Error: no such word") == 2


def test_aliases_are_shown(run, source):
    run("prune", source, "--keep", 5, "-q")
    assert "shares the vector of" in run("similar", "crime.ems", "и", "-n", 30).stdout


def test_plan_is_what_is_written(run, source):
    planned = json.loads(run("plan", source, "prune:keep=60", "pq:subspaces=2", "--json").stdout)
    run("compress", source, "v.ems", "prune:keep=60", "pq:subspaces=2", "-q")
    assert planned["bytes"] == os.path.getsize("v.ems") == sum(planned["sections"].values())
    assert "whole file" in run("plan", source, "prune").stdout
    assert run("plan", source).stdout.startswith("steps    ecq:bits=")
    assert "STEP and --pareto exclude each other" in run("plan", source, "pq", "--pareto", code=2).stderr
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
    assert "unknown method 'nope'" in run("methods", "nope", code=2).stderr


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
    assert "would replace itself" in run("quantize", "a.ems", code=2).stderr
    assert "Name a TARGET" in run("quantize", "-", code=2).stderr


def test_standard_input(run, source):
    with open(source, "rb") as file:
        run("quantize", "-", "v.ems", "-q", input=file.read())
    assert len(load("v.ems")) == 291


def test_no_overwriting_without_force(run, source):
    run("quantize", source, "-q")
    before = Path("crime.ems").read_bytes()
    result = run("prune", source, "--keep", 9, code=1)
    assert "Error: crime.ems: the target exists. Choose another target, or use --force" in result.stderr
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
    assert "is not an .ems file" in run("info", source, code=1).stderr


USAGE = """
    --nope
    nope
    info
    info crime.ems --nope
    formats extra
    methods nope
    quantize crime.vec --method nope
    quantize crime.vec --method kmeans
    quantize crime.vec --method pq --set nope=1
    quantize crime.vec --method pq --set subspaces=0
    quantize crime.vec new.ems --method pq --set subspaces=99
    quantize crime.vec --set nonsense
    quantize crime.vec --size 9kB --bits 30
    quantize crime.vec --size 0
    quantize crime.vec --size 9e99
    quantize crime.vec --size 99999999999TB
    quantize crime.vec --size huge
    quantize crime.vec --bits 0
    quantize crime.vec --bits inf
    quantize crime.vec --bits nan
    quantize crime.vec --min-overlap 1
    quantize crime.vec --max-memory 1
    quantize crime.vec --max-expanded 0
    quantize crime.vec --threads 0
    quantize crime.vec --expect-rows 0
    quantize crime.vec --from nope
    quantize crime.vec --ngrams nope
    quantize crime.vec --ngrams cast --no-ngrams
    quantize crime.vec --vocabulary nope
    quantize crime.vec new.ems --remap new.ems
    quantize crime.vec new.ems --remap crime.vec --force
    quantize crime.vec ./crime.vec --force
    quantize crime.vec new.ems --remap empty --counts empty --force
    quantize crime.vec empty --keep-words ./empty --force
    prune crime.vec new.ems --remap ./new.ems
    compress crime.vec new.ems --remap crime.vec --force
    export crime.ems ./crime.ems --to text --force
    quantize crime.vec ''
    quantize crime.vec -
    quantize crime.ems
    quantize -
    quantize - new.ems --keep-words -
    quantize crime.vec --counts .
    prune crime.vec --keep 0
    prune crime.vec --min-similarity nan
    prune crime.vec --min-similarity 2
    compress crime.vec new.ems nope
    compress crime.vec new.ems pq:nope=1
    compress crime.vec new.ems ''
    compress crime.vec new.ems pq prune
    compress crime.vec new.ems pq ecq
    compress crime.vec new.ems lowrank:dims=2,keep=0.5
    compress crime.vec new.ems prune --size 9kB
    compress crime.vec new.ems --lossless --size 9kB
    compress crime.vec new.ems --lossless cast
    plan crime.vec nope
    plan crime.vec pq --pareto
    get crime.ems
    get . word
    get crime.ems word --precision 0
    similar crime.ems word -n 0
    analogy crime.ems a b
    evaluate crime.ems --queries 0
    evaluate .
    export crime.ems new.bin --to nope
    export crime.ems new.bin --to navec
    export crime.ems -
    demo --folder crime.vec
"""
FAILURES = """
    info crime.vec
    verify crime.vec
    export crime.vec new.bin
    export crime.ems crime.vec
    quantize crime.vec
    quantize . new.ems
    quantize empty new.ems
    quantize crime.vec new.ems --size 1
    quantize crime.vec new.ems --bits 1e-9
    quantize crime.vec new.ems --method pq --bits 0.5
    quantize crime.vec new.ems --method ecq --size 1kB
    quantize crime.vec new.ems --max-error 1e-30
    quantize crime.vec new.ems --expect-rows 5
    quantize crime.vec new.ems --counts empty
    quantize crime.vec nofolder/new.ems
    quantize crime.vec new.ems --remap nofolder/remap.tsv
    get crime.ems nothing
    similar crime.ems nothing
    analogy crime.ems nothing nothing nothing
    evaluate crime.ems --pairs empty
    evaluate empty
"""
COMMANDS_OF_A_FILE = ["quantize FILE", "prune FILE", "compress FILE new.ems", "plan FILE", "info FILE", "verify FILE",
                      "get FILE word", "similar FILE word", "analogy FILE a b c", "evaluate FILE",
                      "export FILE new.bin", "evaluate crime.ems --baseline FILE", "evaluate crime.ems --pairs FILE",
                      "evaluate crime.ems --analogies FILE", "quantize crime.vec new.ems --counts FILE",
                      "quantize crime.vec new.ems --keep-words FILE"]


@pytest.fixture
def made(run, source):
    """Run a command line on crime.vec, crime.ems and an empty file; check the exit code, and that nothing changes."""
    run("quantize", source, "-q")
    Path("empty").touch()
    before = {path: path.read_bytes() for path in Path().iterdir()}

    def call(line, code):
        result = run(*shlex.split(line), code=code)
        assert {path: path.read_bytes() for path in Path().iterdir()} == before
        return result

    return call


def test_wrong_usage_exits_2_in_every_command(made):
    for line in USAGE.strip().splitlines():
        result = made(line, 2)
        assert sum(text.startswith("Error: ") for text in result.stderr.splitlines()) == 1, line
        as_json = made(line.strip() + " --json", 2).stdout
        if not line.strip().startswith(("-", "nope")):
            assert json.loads(as_json)["error"]["message"], line


def test_what_fails_exits_1_in_every_command(made):
    for line in FAILURES.strip().splitlines():
        assert made(line, 1).stderr.startswith("Error: "), line


@pytest.mark.parametrize("line", COMMANDS_OF_A_FILE)
def test_a_missing_file_has_one_sentence_in_every_command(made, line):
    assert made(line.replace("FILE", "nothing.txt"), 2).stderr.endswith(": no such file: 'nothing.txt'\n")
    assert made(line.replace("FILE", "''"), 2).stderr.endswith(": no such file: ''\n")


def test_an_unknown_bits_method_lists_the_bits_methods(run, source):
    for name in ("nope", "kmeans"):
        message = run("quantize", source, "--method", name, code=2).stderr.splitlines()[-1]
        assert f"'{name}' is not a bits method" in message
        assert "ecq, pq, iiq" in message and "prune" not in message and "lowrank" not in message
    assert "embshrink compress SOURCE TARGET kmeans" in message
    assert "Did you mean scalar?" in run("quantize", source, "--method", "scaler", code=2).stderr


def test_a_word_after_two_dashes_is_no_option(run, source):
    run("quantize", source, "-q")
    assert run("get", "crime.ems", "--", "--json", code=1).stdout == ""


def python(code, *arguments, env, redirect=""):
    """Run Python code in a shell, and return the finished process."""
    line = shlex.join([sys.executable, "-c", code, *map(str, arguments)])
    return subprocess.run(f"{line} {redirect}", shell=True, env=env, capture_output=True, text=True)


WITHOUT = "import sys; sys.modules[sys.argv.pop(1)] = None; from embshrink.cli import main; main()"


@pytest.mark.parametrize("package, line", [
    ("click", "--help"), ("numpy", "formats"), ("numba", "quantize crime.vec v.ems -q"),
    ("threadpoolctl", "quantize crime.vec v.ems -q"),
])
def test_a_package_that_is_missing_is_named(source, tmp_path, monkeypatch, subprocess_env, package, line):
    monkeypatch.chdir(tmp_path)
    result = python(WITHOUT, package, *line.split(), env=subprocess_env)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert f"pip install {package}" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="redirections")
@pytest.mark.parametrize("redirect, code", [
    (">&-", 1), ("2>&-", 0), (">&- 2>&- <&-", 1), (">/dev/full", 1), ("2>/dev/full", 0)])
@pytest.mark.parametrize("line", ["--help", "formats", "quantize crime.vec -f"])
def test_standard_streams_may_be_closed_or_full(source, tmp_path, monkeypatch, subprocess_env, line, redirect, code):
    if "full" in redirect and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    monkeypatch.chdir(tmp_path)
    result = python("from embshrink.cli import main; main()", *line.split(), env=subprocess_env, redirect=redirect)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    if code and "2>" not in redirect:
        assert result.stderr.startswith("Error: standard output: ") and result.stderr.count("\n") == 1


def test_warnings_reach_standard_error(run):
    Path("twice.txt").write_text("a 1 2\nb 1 3\na 4 5\nc 0 0\n")
    result = run("quantize", "twice.txt")
    assert "Warning: " in result.stderr
    assert "dropped 1 row of repeated words" in result.stderr


def test_keep_words(run, source):
    words = load_words(source)
    Path("keep.txt").write_text(f"{words[200]}\nnothing\n", encoding="utf-8")
    result = run("prune", source, "--keep", 5, "--keep-words", "keep.txt")
    assert load("crime.ems").alias_of(words[200]) == words[200]
    assert "1 of 2 words in keep_words (--keep-words) are not in the source and have no" in result.stderr


def load_words(source):
    return list(embshrink.read_vectors(source).words)


def test_everything_has_help():
    for name, command in cli.commands.items():
        assert command.help, name
        assert command.examples, name
        assert command.group, name
        for parameter in command.params:
            assert parameter.help if isinstance(parameter, click.Option) else parameter.about, (name, parameter.name)


@pytest.mark.parametrize("name", cli.commands)
def test_every_option_is_in_one_group_and_help_is_last(name):
    command = cli.commands[name]
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    groups = command.grouped_options(context)
    listed = [option for options in groups.values() for option in options]
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    assert sorted(sorted(one.opts) for one in listed) == sorted(sorted(one.opts) for one in options)
    assert set(groups) <= set(GROUPS)
    assert all(option.group in GROUPS for option in options if "--help" not in option.opts)
    assert "--help" in listed[-1].opts
    shown = re.split(r"\n(?:Arguments|Options):\n", shown_help(name, 80), maxsplit=1)[1]
    for option in options:
        assert len(re.findall(rf"^  (-\w, )?{max(option.opts, key=len)}\b(?!-)", shown, re.MULTILINE)) == 1, option


def shown_help(name, columns):
    return CliRunner().invoke(cli, [*filter(None, [name]), "--help"], env={"COLUMNS": str(columns)}).output


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", ["", *cli.commands])
def test_help_is_readable(name, columns):
    """No control character, no line that is too long, no word that is cut or broken, each example on its line."""
    shown = shown_help(name, columns)
    assert "\\b" not in shown and "\b" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)
    assert not [line for line in lines if line != line.rstrip()]
    assert not [line for line in lines if "..." in line and not line.startswith("Usage: ")]
    wide = CliRunner().invoke(cli, [*filter(None, [name]), "--help"], terminal_width=10_000).output
    assert shown.split() == wide.split()  # also what is broken at a hyphen would differ
    assert not re.search(r"\n\n\n", shown)
    for example in cli.commands[name].examples if name else cli.examples:
        assert f"  {example}" in lines


def test_main_help_lists_each_command_once_on_one_line():
    lines = shown_help("", 80).splitlines()
    for name, command in cli.commands.items():
        assert lines.count(f"  {name:<8}  {command.get_short_help_str(limit=1000)}") == 1
        assert f"{command.group}:" in lines


def test_help_of_quantize_shows_first_what_matters():
    shown = shown_help("quantize", 80)
    order = ["\nArguments:", "\nOptions:", "\nAims:", "\nOutput:", "\nWords:", "\nfastText n-grams:",
             "\nReading SOURCE:", "\nOther options:", "\nExamples:"]
    places = [shown.index(heading) for heading in order]
    assert places == sorted(places)
    assert "x>=" not in shown and "<x<" not in shown and "INTEGER" not in shown and "default: (" not in shown


def test_examples_of_help_run(tmp_path, monkeypatch):
    """Every example of every --help does what it shows, on small files with the names it uses."""
    from embshrink.cli import demo, warmup

    rng = np.random.default_rng(0)
    words = ["man", "king", "woman", "queen", "tiger", "cat", *(f"w{i}" for i in range(600))]
    matrix = (rng.standard_normal((12, 50))[rng.integers(12, size=len(words))]
              + 0.5 * rng.standard_normal((len(words), 50))).astype(np.float32)
    vectors = embshrink.WordVectors(words, matrix)
    monkeypatch.setattr(demo, "real_vectors", lambda: ("small", vectors))
    monkeypatch.setattr(demo, "RECIPES", {"pq": ["pq"]})
    monkeypatch.setattr(warmup, "_jobs", lambda: {"none": lambda folder: None})
    for number, (name, example) in enumerate((name, example) for name, command in [("", cli), *cli.commands.items()]
                                             for example in command.examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for path, format in (("glove.6B.50d.txt", "text"), ("glove.txt", "text"), ("vectors.bin", "word2vec")):
            embshrink.write_vectors(words, [matrix], path, format)
        program, *arguments = shlex.split(example)
        assert program == "embshrink" and name in ("", arguments[0])
        if cli.commands[arguments[0]].group != "Compress":
            embshrink.compress(vectors, "glove.ems", "scalar", measure=False)
            embshrink.compress(vectors, "small.ems", "cast", measure=False)
            Path("pairs.tsv").write_text("king\tqueen\t9\nman\tcat\t2\ncat\ttiger\t7\n")
            Path("questions-words.txt").write_text(": family\nman king woman queen\n")
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, (example, result.output)
        assert result.output


def test_tables_have_no_trailing_spaces(run, source):
    run("quantize", source, "v.ems", "-q")
    for command in (["info", "v.ems"], ["plan", source], ["formats"], ["methods"], ["methods", "pq"],
                    ["evaluate", "v.ems", "--baseline", source]):
        assert not [line for line in run(*command).stdout.splitlines() if line != line.rstrip()], command


def test_options_that_messages_name_exist():
    """What an error tells people to use is there: every --option in a text of the package is one of a command."""
    options = {name for command in cli.commands.values() for one in command.params if isinstance(one, click.Option)
               for name in [*one.opts, *one.secondary_opts]}
    options |= {"--help", "--force-reinstall", "--mode"}  # of pip, and of floret's program
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


@pytest.mark.parametrize("arguments", [
    ["quantize"], ["quantize", "a.txt"], ["quantize", "a.txt", "--counts"], ["quantize", "a.txt", "--keep-words"],
    ["prune", "a.txt", "--remap"], ["info"], ["get"], ["similar"], ["evaluate"], ["evaluate", "a.ems", "--baseline"],
    ["export"], ["export", "a.ems"],
])
def test_completion_of_files_is_left_to_the_shell(arguments):
    items = ShellComplete(cli, {}, "embshrink", "_EMBSHRINK_COMPLETE").get_completions(arguments, "cr")
    assert [(item.type, item.value) for item in items] == [("file", "cr")]


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
@pytest.mark.parametrize(("number", "code", "said"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "terminated"),
])
def test_a_signal_ends_a_command_and_leaves_nothing(tmp_path, subprocess_env, number, code, said):
    rng = np.random.default_rng(0)
    embshrink.write_vectors([f"w{i}" for i in range(60_000)], [rng.standard_normal((60_000, 50)).astype(np.float32)],
                            tmp_path / "v.bin", "word2vec")
    process = subprocess.Popen(
        [sys.executable, "-m", "embshrink", "compress", "v.bin", "v.ems", "rq:codebooks=48,sample=60000"],
        cwd=tmp_path, env=subprocess_env, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # ignored, if we run in the background
    time.sleep(2.5)
    process.send_signal(number)
    try:
        _, stderr = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:  # Python loses what is raised inside a callback of a library, such as LLVM's
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert stderr.strip().endswith(said)
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["v.bin"]


def test_an_interruption_before_a_command_has_begun_is_130(run, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "parse_args", stop)
    assert run("formats", code=130).stderr == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_handlers_of_signals_are_only_borrowed(run, source):
    def mine(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN), signal.signal(signal.SIGHUP, mine)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGTERM)  # is ignored, as under nohup
            assert signal.getsignal(signal.SIGHUP) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(Terminated), terminable():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with ThreadPoolExecutor(1) as pool:  # where handlers cannot be set
            assert pool.submit(run, "formats").result().exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


@pytest.mark.parametrize("line", ["compress SOURCE ecq", "compress SOURCE pq:subspaces=2", "quantize SOURCE 20kB",
                                  "quantize SOURCE 500", "prune SOURCE int8"])
def test_a_forgotten_target_is_named(run, source, line):
    before = sorted(os.listdir())
    found = run(*[source if part == "SOURCE" else part for part in line.split()], code=2)
    assert "TARGET is missing" in found.stderr and "./" in found.stderr
    assert sorted(os.listdir()) == before
