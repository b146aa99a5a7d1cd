"""What people see: reports with what to do next, tables that fit, progress that moves, and the first compile."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_vectors

import embshrink
from embshrink import ReadOptions, compress, list_methods, prune, quantize
from embshrink.cli import console, tables
from embshrink.cli.commands import cli
from embshrink.cli.demo import DemoResult, DemoRow
from embshrink.cli.tables import Column, Table
from embshrink.compression.job import PlannedFile
from embshrink.compression.pareto import ParetoPoint
from embshrink.compression.report import Report, Suggestion
from embshrink.evaluation.scores import AnalogyScore, Evaluation, Overlap, Reconstruction, SimilarityScore
from embshrink.formats import list_formats, write_vectors

LONG = "/data/of/some/" + "folder-with-a-long-name/" * 4 + "vectors.of.2014.bin"
WORD = "donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
WIDTHS = [80, 200, None]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder and checks its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0, input=None):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        return result

    return call


def write(path, n=1500, d=12):
    vectors = make_vectors(n, d)
    embshrink.write_vectors([f"w{i}" for i in range(n)], [vectors.matrix], path, "word2vec")
    return path


# ---------------------------------------------------------------- reports


def suggested(output):
    """Return the estimated bytes and the command of each suggestion of a printed report."""
    units = {"bytes": 1, "kB": 1e3, "MB": 1e6}
    found = re.findall(r"^(better|smaller) +about ([\d.]+) (\w+):\s+(.*)$", output, re.M)
    return {goal: (float(number) * units[unit], shlex.split(command)) for goal, number, unit, command in found}


@pytest.mark.parametrize("arguments, goals", [
    (["quantize", "v e.bin"], {"better", "smaller"}),
    (["quantize", "v e.bin", "t.ems", "--bits", 60, "--seed", 3, "--limit", 1200, "--vocabulary", "packed"],
     {"better", "smaller"}),
    (["quantize", "v e.bin", "t.ems", "--method", "pq"], {"better", "smaller"}),
    (["quantize", "v e.bin", "t.ems", "--method", "scalar", "--set", "bits=4"], {"better", "smaller"}),
    (["quantize", "v e.bin", "t.ems", "--max-error", 0.05], {"better"}),  # ecq's tables take most of the bytes
    (["quantize", "v e.bin", "t.ems", "--method", "cast"], {"better", "smaller"}),
    (["compress", "v e.bin", "t.ems"], {"better", "smaller"}),
    (["compress", "v e.bin", "t.ems", "--lossless"], {"smaller"}),  # nothing is lost
    (["compress", "v e.bin", "t.ems", "lowrank:dims=8", "ecq"], {"better", "smaller"}),
    (["compress", "v e.bin", "t.ems", "prune:keep=900", "ecq"], {"better", "smaller"}),
    (["prune", "v e.bin", "t.ems", "--keep", 100], {"better", "smaller"}),
    (["prune", "v e.bin", "t.ems", "--keep", 20], {"better"}),  # nearly all of it are words
    (["prune", "v e.bin", "t.ems", "--keep", 900], {"better", "smaller"}),
])
def test_suggestions_can_be_followed(run, arguments, goals):
    """They are of this source and target, they run as they stand, and the size is what was said."""
    write("v e.bin")
    first = run(*arguments)
    found = suggested(first.stdout)
    assert set(found) == goals
    for goal, (size, command) in found.items():
        assert command[:4] == ["embshrink", "compress", "v e.bin", arguments[2] if len(arguments) > 2 else "v e.ems"]
        assert command[-1] == "--force"
        assert ("--seed" in command) == ("--seed" in arguments)
        before = os.path.getsize(command[3])
        run(*command[1:])
        assert os.path.getsize(command[3]) == pytest.approx(size, rel=0.1)
        assert goal == "better" or size < before
        run(*arguments, "--force")


def test_better_is_better(tmp_path):
    vectors, target = make_vectors(1500, 12), tmp_path / "v.ems"
    for steps in (["ecq:bits=24"], ["pq:subspaces=4,centroids=16"], ["prune:keep=300"], ["scalar:bits=3"]):
        before = compress(vectors, target, steps, force=True)
        better = next(one for one in before.suggestions if one.goal == "better")
        after = compress(vectors, target, better.steps, force=True)
        assert after.loss["relative_error"] < before.loss["relative_error"]


def test_suggestions_on_tables_of_any_size(tmp_path):
    """What is suggested never fails, however small the table is."""
    for n, d in ((4, 2), (20, 3), (100, 8), (600, 30)):
        vectors = make_vectors(n, d)
        for steps in ("ecq", "pq:subspaces=1", "rq:codebooks=1", "cast", "iiq", "scalar:bits=1", "prune:keep=2",
                      ["kmeans:centroids=3", "scalar"], ["prune:keep=3", "ecq"]):
            report = compress(vectors, tmp_path / "v.ems", steps, force=True)
            for one in report.suggestions:
                compress(vectors, tmp_path / "w.ems", one.steps, force=True, measure=False)


def test_suggestions_keep_the_options_that_were_given(run):
    write("v.bin")
    with open("keep words.txt", "w") as file:
        file.write("w7\n")
    given = ["--keep-words", "keep words.txt", "--max-memory", "1G", "--keep-order", "--from", "word2vec"]
    (_, command), *_ = suggested(run("prune", "v.bin", "t.ems", "--keep", 300, *given).stdout).values()
    assert {"--keep-words", "keep words.txt", "--max-memory", "--keep-order", "--from", "word2vec"} <= set(command)
    assert "--keep" not in command
    run(*command[1:])


def test_standard_input_is_named_source(run):
    write("v.bin")
    with open("v.bin", "rb") as file:
        output = run("quantize", "-", "t.ems", input=file.read()).stdout
    assert output.startswith("source   standard input (word2vec, ")
    assert all(command[2] == "SOURCE" for _, command in suggested(output).values())


def test_suggestions_of_ngrams(run, gensim_data):
    """Sizes count n-grams, which have the same steps; a table of n-grams alone gets no suggestion."""
    source = gensim_data / "crime-and-punishment.bin"
    found = suggested(run("quantize", source, "m.ems").stdout)
    for size, command in found.values():
        run(*command[1:])
        assert os.path.getsize("m.ems") == pytest.approx(size, rel=0.1)


def report_of(**changed):
    values = {
        "target": "t.ems", "steps": ["ecq:bits=20"], "words": 1000, "rows": 1000, "dim": 10, "dropped": 0,
        "source_bytes": 40_000, "target_bytes": 4000, "parts": {"words": 1000, "codes": 2990}, "bits_per_word": 20.0,
        "loss": {"relative_error": 0.038, "mean_cosine": 0.98, "cosine_p1": 0.95, "overlap_at_10": 0.554},
        "seconds": {"read": 0.1}, "source": "s.bin", "source_format": "word2vec"}
    return Report(**{**values, **changed})


def printed(report, capsys):
    console.print_report(report)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("changed, expected", [
    ({}, "source s.bin (word2vec, 40.00 kB): 1,000 words, dim 10 target t.ems: 4.00 kB, 10.0 times smaller"),
    ({}, "bytes words 1.00 kB, codes 2.99 kB, other 10 bytes"),
    ({}, "2.00 bits per dimension, 20.0 bits per word"),
    ({}, "relative error 0.0380: 3.8 % of the vectors' variance is lost"),
    ({}, "5.5 of a word's 10 nearest neighbours stayed (overlap@10 0.554)"),
    ({"words": 3}, "55 % of a word's nearest neighbours stayed"),
    ({"source_bytes": 2000}, "4.00 kB, 2.0 times larger"),
    ({"source_bytes": 4100}, "4.00 kB, about the same size"),
    ({"whole_source": False}, "the first rows only, 1,000 words, dim 10 target t.ems: 4.00 kB steps"),
    ({"source": None, "source_bytes": None},
     "source vectors in memory: 1,000 words, dim 10 target t.ems: 4.00 kB"),
    ({"rows": 100, "shared": 900}, "words 100 have their own vector, 900 share one of these"),
    ({"rows": 100, "shared": 1000}, "words 1,000 share 100 vectors"),
    ({"dropped": 50}, "1,050 words, dim 10 target"),
    ({"dropped": 50}, "words 1,000 kept, 50 dropped"),
    ({"loss": None}, "lost not measured"),
    ({"loss": {"relative_error": 0.0, "mean_cosine": 1.0, "cosine_p1": 1.0, "overlap_at_10": 1.0}},
     "lost nothing: the vectors are equal to the source's"),
    ({"loss": {"relative_error": 0.0, "mean_cosine": 1.0, "cosine_p1": 1.0, "overlap_at_10": 1.0}, "dropped": 5},
     "lost nothing: the vectors of the 1,000 words that are left are equal"),
    ({"loss": {"relative_error": 1.2415, "mean_cosine": 0.5, "cosine_p1": 0.3, "overlap_at_10": 0.05}},
     "relative error 1.2415: farther off than if every vector were replaced by the mean (1.0)"),
    ({"loss": {"relative_error": 1.02, "weighted_error": 0.25, "mean_cosine": 0.5, "cosine_p1": 0.3,
               "overlap_at_10": 0.05}}, "relative error 0.2500 with words weighted by their frequency"),
    ({"loss": {"relative_error": 0.972, "mean_cosine": 0.5, "cosine_p1": 0.3, "overlap_at_10": None}},
     "relative error 0.9720: about as far off as if every vector were replaced by the mean (1.0)"),
    ({"loss": {"relative_error": 4.7e-8, "mean_cosine": 1.0, "cosine_p1": 1.0, "overlap_at_10": 1.0}},
     "relative error 4.7e-08: less than 0.1 % of the vectors' variance is lost"),
    ({"loss": {"relative_error": None, "mean_cosine": 1.0, "cosine_p1": 1.0, "overlap_at_10": 1.0}},
     "relative error not defined: the source's vectors are all equal"),
    ({"notes": {"isotropy before": 0.5, "isotropy after": 0.75}},
     "found isotropy before 0.5000, isotropy after 0.7500"),
])
def test_report_in_words(changed, expected, capsys):
    assert expected in printed(report_of(**changed), capsys)


def test_relative_error_of_one_is_that_of_the_mean_vector(tmp_path):
    """What the report says of errors from 1 on."""
    vectors = make_vectors(300, 6)
    mean = embshrink.WordVectors(vectors.words, np.broadcast_to(vectors.matrix.mean(0), (300, 6)).astype(np.float32))
    assert embshrink.evaluate(mean, vectors).reconstruction.relative_error == pytest.approx(1, abs=1e-5)


def test_limit_claims_no_ratio(tmp_path):
    source = write(tmp_path / "v.bin")
    report = quantize(source, tmp_path / "v.ems", options=ReadOptions(limit=100))
    assert report.ratio is None
    assert not report.whole_source
    assert embshrink.plan(source, options=ReadOptions(limit=100)).source_bytes is None
    assert embshrink.plan(source).source_bytes == os.path.getsize(source)
    assert quantize(source, tmp_path / "v.ems", force=True).ratio > 1


def test_prune_that_keeps_all_says_so(tmp_path):
    vectors = make_vectors(60, 5)
    report = prune(vectors, tmp_path / "v.ems")
    assert any("all 60 words were kept, so nothing was pruned" in one and "--keep" in one for one in report.warnings)
    assert not prune(vectors, tmp_path / "v.ems", keep=59, force=True).warnings


def test_few_words_are_not_called_alphabetical(tmp_path):
    words = [f"{chr(97 + i % 26)}{i:03}" for i in range(99)]
    matrix = make_vectors(99, 5).matrix
    report = prune(embshrink.WordVectors(sorted(words), matrix), tmp_path / "v.ems", keep=9)
    assert not report.warnings


def test_report_has_its_suggestions_as_data(tmp_path):
    report = quantize(make_vectors(1500, 12), tmp_path / "v.ems")
    listed = report.as_dict()["suggestions"]
    assert [one["goal"] for one in listed] == ["better", "smaller"]
    assert set(listed[0]) == {"goal", "steps", "bytes", "min_overlap"}


# ---------------------------------------------------------------- tables


def scores(name, k=10):
    similarity = SimilarityScore(**{
        **{field.name: 0 for field in dataclasses.fields(SimilarityScore)}, "name": f"pairs-{name}", "spearman": 0.5,
        "pairs_used": 1200, "pairs_total": 1300, "shared_rows": 3})
    analogies = AnalogyScore("questions-words", 0.25, 500, 2000, 100, 0.9, 0, 1000, ())
    part = Reconstruction(words=9, coverage=0.5, relative_error=1e-7, weighted_error=2e-7, mean_cosine=0.9,
                          cosine_p1=0.8, worst_cosine=-0.1, worst_word=WORD, zero_words=0)
    overlap = Overlap(k=k, overlap=0.5, first_decile=0.1, standard_error=0.01, queries=9, words=9, coverage=0.5)
    return Evaluation((similarity, dataclasses.replace(similarity, name="simlex999")), (similarity,),
                      ((similarity, similarity),), analogies, analogies, part, overlap)


def points():
    return [ParetoPoint(step, bits, size, 0.5, 0.9, None, best) for step, bits, size, best in (
        ("magnitude:sparsity=0.19999999999999996,dtype=int8,scope=global", 40.5, 7_510_000, False),
        ("ecq:bits=20", 123456.8, 123_456_789_000, True))]


def a_report():
    return report_of(
        target=LONG, source=LONG, steps=["prune:keep=20000,norms=true,select=facility", "pq:" + "subspaces=25," * 9],
        suggestions=[Suggestion("better", ["ecq:bits=30"], 5000), Suggestion("smaller", ["ecq:bits=10"], 3000)])


def a_demo():
    row = DemoRow("pq, half the bits", ["pq"], 5_970_000, 14.0, 104.3, 0.0962, 0.416, 0.461, None)
    return DemoResult("GloVe 6B 50d", 400_000, 50, [row, dataclasses.replace(row, name="word2vec binary")],
                      {"wordsim353": {"used": 353, "total": 353}}, LONG)


def an_info():
    return {
        "path": LONG, "bytes": 1_884_632, "version": "1.0", "writer": "embshrink 0.1.0", "words": 400_000,
        "rows": 20_000, "dim": 50, "owned": True, "steps": ["pq:subspaces=10,sample=20000"], "seed": 0,
        "bits_per_word": 22.6, "word_bits_per_word": 15.0, "exact_ids": None,
        "sections": {"words.blocks": 577_090, "codes.codes": 200_000},
        "source": {"name": LONG, "size": 10**7, "format": "ems", "sha256": "8" * 64, "steps": ["prune:keep=20000"]}}


SCREENS = {
    "report": lambda: console.print_report(a_report()),
    "plan": lambda: console.print_plan(PlannedFile(["prune:keep=20000", "ecq:bits=101"], 5_805_208,
                                                   {"codes.data": 5_017_856, "words.a": 0}, 101.0, 170_000_000)),
    "pareto": lambda: console.print_pareto(points()),
    "info": lambda: console.print_info(an_info()),
    "evaluation of one": lambda: console.print_evaluation({LONG: scores("a")}),
    "evaluation": lambda: console.print_evaluation(
        {LONG: scores("a"), "tiny.ems": scores("a"), "b.ems": scores("another-benchmark")}),
    "formats": lambda: console.print_formats(list_formats()),
    "methods": lambda: console.print_methods(list_methods(), details=False),
    "demo": lambda: console.print_demo(a_demo()),
    **{f"method {one.name}": lambda one=one: console.print_methods([one], details=True) for one in list_methods()},
}


def shown(name, width, monkeypatch, capsys):
    monkeypatch.setattr(console, "terminal_width", lambda: width)
    SCREENS[name]()
    return capsys.readouterr().out.splitlines()


def test_every_screen_is_looked_at():
    called = {name for name in vars(console) if name.startswith("print_")}
    assert called == {"print_report", "print_plan", "print_pareto", "print_info", "print_evaluation", "print_formats",
                      "print_methods", "print_demo"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCREENS)
def test_screens_fit(name, width, monkeypatch, capsys):
    """No trailing spaces; nothing wider than the terminal but paths and commands, which are there to be copied."""
    lines = shown(name, width, monkeypatch, capsys)
    assert lines and lines[0] and lines[-1]
    assert lines == [line.rstrip() for line in lines]
    assert not any(tables.FIXED in line for line in lines)
    copied = [line for line in lines if "embshrink compress" in line or LONG in line or WORD in line]
    steps = [line for line in lines if "subspaces=25," * 3 in line]
    for line in lines:
        assert width is None or len(line) <= width or line in [*copied, *steps]


@pytest.mark.parametrize("name", SCREENS)
def test_screens_say_the_same_at_any_width(name, monkeypatch, capsys):
    """No word is broken in two or cut, but for long paths, steps and words in a narrow table."""
    def words(width):
        lines = [re.sub("\u2500+", "", line) for line in shown(name, width, monkeypatch, capsys)]
        return sorted(set(" ".join(lines).split()))

    piped = words(None)
    folded = {LONG, WORD, f"({WORD})", points()[0].step}
    for width in (80, 200):
        assert set(piped) - set(words(width)) <= folded


def test_commands_are_not_broken(monkeypatch, capsys):
    for width in WIDTHS:
        lines = shown("report", width, monkeypatch, capsys)
        assert len([line for line in lines if line.endswith(f"{LONG} ecq:bits=30 --force")]) == 1


def test_numbers_are_aligned_to_the_right():
    table = Table(Column("file", left=True), Column("size, MB"))
    table.add("a", "1.00")
    table.add("long name", "123.00")
    assert table.lines(80)[2:] == ["a              1.00", "long name    123.00"]


def test_wide_characters_are_counted():
    table = Table(Column("word", left=True), Column("n"))
    table.add("\u4e2d\u6587", "1")
    table.add("abcd", "2")
    assert table.lines(80)[2:] == ["\u4e2d\u6587  1", "abcd  2"]


def test_a_table_too_wide_is_cut_into_several():
    table = Table(Column("file", left=True), *(Column(f"column{i:02}") for i in range(20)))
    table.add("a.ems", *map(str, range(20)))
    lines = table.lines(80)
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("a.ems") for line in lines) > 1
    assert len(table.lines(None)) == 3


def test_lines_are_plain_where_the_output_has_no_others(monkeypatch):
    class Output:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Output())
    table = Table(Column("a"))
    table.add("1")
    assert table.lines(None) == ["a", "-", "1"]


def test_one_file_has_lines_and_several_have_rows(run):
    write("v.bin")
    run("quantize", "v.bin", "a.ems", "-q")
    run("prune", "v.bin", "b.ems", "--keep", 40, "-q")
    with open("pairs.csv", "w") as file:
        file.write("w1,w2,3\nw3,w4,1\nw5,w6,2\nw7,nothing,2\n")
    one = run("evaluate", "a.ems", "--pairs", "pairs.csv").stdout.splitlines()
    assert one[0] == "file   a.ems"
    assert one[1].startswith("pairs  Spearman x 100: ") and one[1].endswith("3 of 4 pairs used")
    several = run("evaluate", "a.ems", "b.ems", "--baseline", "v.bin", "--pairs", "pairs.csv").stdout.splitlines()
    assert [line.split()[0] for line in several if re.match(r"(v\.bin|[ab]\.ems) ", line)] == [
        "v.bin", "a.ems", "b.ems", "a.ems", "b.ems"]


# ---------------------------------------------------------------- progress


class Terminal:
    """Standard error that takes itself for a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.fixture
def attach(monkeypatch):
    """Return a function that makes standard error a terminal: called in the test, as pytest sets it before."""
    def call():
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(console, "DELAY", 0.01)
        return made

    return call


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen")


def test_progress_shows_one_stage_at_a_time_and_stops(attach):
    terminal = attach()
    before = threading.active_count()
    with console.Progress() as progress:
        progress("read", 0, 10)
        until(lambda: "reading" in terminal.text)
        progress("n-grams: training pq", 1, 4)
        until(lambda: "n-grams: fitting pq" in terminal.text)
        assert len(progress._bar.tasks) == 1
        progress("read", 10, 10)
        assert [task.description for task in progress._bar.tasks] == ["reading"]
    until(lambda: threading.active_count() == before)


def test_progress_is_quiet_where_it_should_be(attach, monkeypatch):
    terminal = attach()
    with console.Progress(quiet=True) as progress:
        progress("read", 0, 10)
    monkeypatch.setattr(console, "DELAY", 60)
    with console.Progress() as progress:  # it is over before the delay is
        progress("read", 0, 10)
    terminal.isatty = lambda: False
    monkeypatch.setattr(console, "DELAY", 0.01)
    with console.Progress() as progress:
        progress("read", 0, 10)
        time.sleep(0.05)
    assert terminal.text == ""


def test_updates_are_few(attach, monkeypatch):
    """However often work reports, the terminal is not written to more often than a person can see."""
    attach()
    updates = []
    monkeypatch.setattr(console.Progress, "_update", lambda self, bar, *latest: updates.append(latest))
    with console.Progress() as progress:
        until(lambda: progress._due)
        began = time.monotonic()
        for done in range(20_001):
            progress("encoding", done, 20_000)
        taken = time.monotonic() - began
    assert len(updates) <= 5 + taken / console.INTERVAL
    assert updates[-1] == ("encoding", 20_000, 20_000)


def test_long_stages_are_reported(tmp_path):
    """Between reading and the end no stage of the main job is without a name."""
    seen = {}
    source = write(tmp_path / "v.bin", 12_000)
    quantize(source, tmp_path / "v.ems", progress=lambda stage, done, total: seen.setdefault(stage, []).append(done))
    assert list(seen) == ["read", "neighbours of the source", "packing words", "fitting ecq", "encoding", "measuring",
                          "writing", "verifying"]
    assert len(seen["fitting ecq"]) > 10
    assert len(seen["measuring"]) > 3
    assert all(done == sorted(done) for stage, done in seen.items() if stage in ("encoding", "measuring"))


def test_progress_changes_no_byte(tmp_path):
    vectors = make_vectors(3000, 12)
    compress(vectors, tmp_path / "a.ems", "ecq")
    compress(vectors, tmp_path / "b.ems", "ecq", progress=lambda stage, done, total: None)
    assert (tmp_path / "a.ems").read_bytes() == (tmp_path / "b.ems").read_bytes()


# ---------------------------------------------------------------- compiling


def in_terminal(arguments, env):
    """Return what a command writes to a terminal."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "embshrink", *map(str, arguments)], env=env, stdin=theirs,
                               stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    data = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        data += part
    os.close(ours)
    assert process.wait() == 0, data
    return data.decode()


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_the_first_compile_is_said_once(tmp_path, subprocess_env):
    """Loading what was compiled before says nothing; neither does a command that was told to be quiet."""
    env = {name: value for name, value in subprocess_env.items() if name != "NUMBA_DISABLE_JIT"}
    env["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    source = write(tmp_path / "v.bin", 300)
    command = ["quantize", source, tmp_path / "v.ems", "--method", "scalar", "--force"]
    first, second = in_terminal(command, env), in_terminal(command, env)
    assert first.count(console.COMPILING) == 1
    assert console.COMPILING not in second
    env["NUMBA_CACHE_DIR"] = str(tmp_path / "other")
    assert console.COMPILING not in in_terminal([*command, "--quiet"], env)


def test_numba_is_not_imported_to_listen(subprocess_env):
    code = ("import sys; sys.stderr.isatty = lambda: True\n"
            "from embshrink.cli.console import Progress\n"
            "with Progress(): print('numba' in sys.modules, 'rich' in sys.modules)")
    result = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True)
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_commands_are_those_of_click():
    """What a suggestion leaves out of the options of its command is one of them."""
    names = {option.name for command in cli.commands.values() for option in command.params
             if isinstance(option, click.Option)}
    assert names >= console.REPLACED


# ---------------------------------------------------------------- suggestions that must not be made


def plain_source(path, matrix):
    """Write a table as word2vec binary, and return its name."""
    write_vectors([f"w{i}" for i in range(len(matrix))], [np.asarray(matrix, np.float32)], path, "word2vec")
    return path.name


@pytest.mark.parametrize("arguments", [
    ["quantize", "--bits", "5"], ["quantize", "--bits", "7"], ["quantize"], ["compress", "lowrank:dims=4", "ecq"],
    ["prune", "--keep", "1"], ["prune", "--keep", "900"], ["quantize", "--method", "rq"], ["compress"],
    ["compress", "cast:dtype=float32"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["gaussian", "large", "one dimension"])
def test_suggestions_run_on_odd_tables(kind, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    matrix = {"gaussian": rng.standard_normal((1000, 20)), "large": 1e6 * rng.standard_normal((1000, 20)),
              "one dimension": rng.standard_normal((1000, 1))}[kind]
    source = plain_source(tmp_path / "-v.bin", matrix)
    steps = [one for one in arguments[1:] if not one.startswith("-")] if arguments[0] == "compress" else []
    options = [] if arguments[0] == "compress" else arguments[1:]
    result = CliRunner().invoke(cli, [arguments[0], f"./{source}", "t.ems", *steps, *options, "--json"])
    if result.exit_code:
        return  # this table is not for these steps
    report = json.loads(result.stdout)
    for one in report["suggestions"]:
        again = CliRunner().invoke(cli, ["compress", f"./{source}", "s.ems", *again_with(one), "-f", "--json"])
        assert again.exit_code == 0, (one, again.output)
        assert "nothing was pruned" not in again.stderr
        if one["goal"] == "better":
            larger = json.loads(again.stdout)["target_bytes"] > report["target_bytes"]
            assert larger or "prune" in str(report["steps"])


def again_with(one):
    return [f"--min-overlap={one['min_overlap']}"] if one["steps"] is None else one["steps"]


def test_a_suggested_command_is_one_that_a_shell_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = plain_source(tmp_path / "-v.bin", np.random.default_rng(0).standard_normal((500, 10)))
    shown = CliRunner().invoke(cli, ["quantize", "--", source, "t.ems"]).stdout
    assert "embshrink compress ./-v.bin t.ems" in shown


@pytest.mark.parametrize("ratio, said", [(1.04, "about the same size"), (1.06, "1.1 times smaller"),
                                         (1 / 1.04, "about the same size"), (0.9, "1.1 times larger"),
                                         (1.4, "1.4 times smaller"), (0.5, "2.0 times larger")])
def test_a_file_is_about_the_same_size_within_five_percent(ratio, said):
    assert console.compared(ratio) == said


def test_labelled_lines_are_no_wider_on_wide_terminals():
    lines = tables.labelled([("words", "one " * 100)], 250)
    assert 80 <= max(map(len, lines)) <= 100


@pytest.mark.parametrize("shared", [1, 2, 7])
def test_pairs_that_share_a_vector_are_counted_from_one_on(shared):
    score = SimilarityScore("pairs", 0.5, 0.1, 0.5, 0.1, 9, 9, 0, 1.0, shared, 0, 9)
    notes = list(console._notes("v.ems", Evaluation((score,), None)))
    assert notes == [f"v.ems, pairs: in {shared} pair{'s' if shared > 1 else ''} both words have the same vector."]


def test_no_help_is_broken_at_a_hyphen():
    for name in cli.commands:
        text = CliRunner().invoke(cli, [name, "--help"], env={"COLUMNS": "60"}).stdout
        assert not [line for line in text.splitlines() if re.search(r"\w-$", line)], name


def test_no_message_controls_the_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "\x1b[31mred\x1b]0;title\x07.bin"
    plain_source(tmp_path / name, np.random.default_rng(0).standard_normal((50, 4)))
    words = tmp_path / "words"
    words.write_text("\x1b[2Jnone\n")
    for arguments in (["quantize", name, name, "-f"], ["quantize", name, "t.ems"], ["quantize", name, "t.ems"],
                      ["prune", name, "u.ems", "--keep", "9", "--keep-words", "words"], ["verify", "t.ems"],
                      ["compress", name, "t.ems", "-f", "pq:subspaces=\x1b[31m3"], ["export", "t.ems", name, "-f"]):
        result = CliRunner().invoke(cli, arguments)
        assert "\x1b" not in result.output and "\x07" not in result.output, arguments
