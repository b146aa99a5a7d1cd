"""Output on the screen: progress on standard error, tables and reports on standard output."""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from embshrink.cli.output import say, tell
from embshrink.cli.tables import FIXED, Column, Table, labelled, terminal_width
from embshrink.errors import printable

if TYPE_CHECKING:
    import rich.progress

    from embshrink.cli.demo import DemoResult
    from embshrink.compression.job import PlannedFile
    from embshrink.compression.pareto import ParetoPoint
    from embshrink.compression.report import Loss, Report, Suggestion
    from embshrink.embeddings.table import FileInfo
    from embshrink.evaluation.scores import Evaluation, Reconstruction, SimilarityScore
    from embshrink.formats import FormatEntry
    from embshrink.methods.registry import MethodInfo

COMPILING = "compiling once; see embshrink warmup"
DELAY = 1.0  # seconds until progress is shown
INTERVAL = 0.05  # seconds between two updates of a stage
STAGES = {  # names of stages in the code, and on the screen
    "read": "reading", "average": "averaging n-grams", "neighbours": "finding neighbours", "k-means": "clustering",
    "turning": "fitting the rotation", "checking rows": "verifying",
}
SOME = 0.005  # smallest share of the file that a part needs to be named; smaller parts are added up as "other"


class Progress:
    """A progress line with rate and remaining time, for work that takes more than a second.

    Call it as ``progress(stage, done, total)``. It shows nothing if `quiet`, or if standard error is not a terminal.
    The line also announces the first compilation of a kernel, which takes seconds.

    Parameters
    ----------
    quiet : bool
    announce_compiling : bool
        False for the command that compiles kernels on purpose.
    """

    def __init__(self, quiet: bool = False, *, announce_compiling: bool = True) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._announce = self._shown and announce_compiling
        self._lock = threading.RLock()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        self._latest: tuple[str, int, int | None] | None = None
        self._shown_stage: str | None = None
        self._next = 0.0
        self._due = False
        self._timer: threading.Timer | None = None

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` units of a stage are done."""
        if not self._shown:
            return
        now = time.monotonic()
        if now < self._next and self._latest is not None and stage == self._latest[0] and done != total:
            return
        self._next = now + INTERVAL
        with self._lock:
            self._latest = stage, done, total
            self._show()

    def _begin(self) -> None:
        """Start to show progress; the timer calls this once."""
        with self._lock:
            self._due = True
            self._show()

    def _show(self) -> None:
        """Show the latest report, if it is time."""
        if self._due and self._latest is not None and self._timer is not None:
            self._bar = self._bar or self._start()
            self._update(self._bar, *self._latest)

    def _update(self, bar: rich.progress.Progress, stage: str, done: int, total: int | None) -> None:
        if self._task is None or stage != self._shown_stage:  # one line at a time: the stage before is done
            if self._task is not None:
                bar.remove_task(self._task)
            self._task, self._shown_stage = bar.add_task(stage_name(stage), total=None), stage
        bar.update(self._task, completed=done, total=None if total == 1 and not done else total)

    def _compiling(self) -> None:
        """Announce once that a kernel is being compiled."""
        with self._lock:
            if not self._announce:
                return
            self._announce = False
            if self._bar is not None:
                self._bar.console.print(COMPILING, highlight=False)
            else:
                tell(COMPILING)

    @staticmethod
    def _start() -> rich.progress.Progress:
        from rich import progress
        from rich.console import Console

        class Pace(progress.ProgressColumn):
            """Units per second, and elapsed and remaining seconds."""

            def render(self, task: progress.Task) -> str:
                """Return the cell."""
                speed, left = task.finished_speed or task.speed, task.time_remaining
                parts = [f"{task.elapsed or 0:.0f} s", f"{left:.0f} s left" if left else "",
                         f"{short(speed)}/s" if speed else ""]
                return ", ".join(filter(None, parts))

        bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(),
            progress.TaskProgressColumn(), Pace(), console=Console(stderr=True), transient=True)
        bar.start()
        return bar

    def __enter__(self) -> Progress:
        if self._shown:
            _compile_watchers().append(self._compiling)
            self._timer = threading.Timer(DELAY, self._begin)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._shown:
            return
        with contextlib.suppress(ValueError):
            _compile_watchers().remove(self._compiling)
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None  # a timer that has begun meanwhile shows nothing
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()


def _compile_watchers() -> list[Callable[[], object]]:
    """Return the functions that numba calls when it compiles a kernel; a new list if numba is not installed."""
    try:
        from embshrink.kernels import compile_watchers
    except ImportError:
        return []
    return compile_watchers


def stage_name(stage: str) -> str:
    """Return the name of a stage for the screen; a prefix before a colon is kept."""
    before, colon, own = stage.rpartition(": ")
    if own.startswith("training "):
        own = own.replace("training", "fitting", 1)
    return printable(f"{before}{colon}{STAGES.get(own, own)}")


def short(number: float) -> str:
    """Return a number with a decimal suffix: 1.2 M."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.1f}{suffix}"
    return f"{number:.0f}"


UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))


def megabytes(count: float | None) -> str:
    """Return a number of bytes with a unit."""
    if count is None:
        return "?"
    limit, unit = next((one for one in UNITS if count >= one[0]), UNITS[-1])
    return f"{count:.0f} bytes" if limit == 1 else f"{count / limit:.2f} {unit}"


def compared(ratio: float) -> str:
    """Return how many times smaller or larger a file is; `ratio` is the size before divided by the size after."""
    if 1 / 1.05 < ratio < 1.05:
        return "about the same size"
    return f"{ratio:.1f} times smaller" if ratio > 1 else f"{1 / ratio:.1f} times larger"


def _sizes(counts: Sequence[float]) -> tuple[str, list[str]]:
    """Return one unit for all of these numbers of bytes, and the numbers in this unit."""
    limit, unit = next((one for one in UNITS if min(counts) >= one[0]), UNITS[-1])
    return unit, [f"{count:,.0f}" if limit == 1 else f"{count / limit:,.2f}" for count in counts]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _error(value: float | None) -> str:
    """Return a relative error as text; with an exponent if it would otherwise be shown as 0."""
    return f"{value:.1e}" if value and value < 0.00005 else _number(value)


def _hundredfold(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _show(table: Table) -> None:
    for line in table.lines(terminal_width()):
        say(line)


def _say(text: str) -> None:
    """Print a sentence, wrapped at spaces to the width of the terminal."""
    for line in labelled([("", text)], terminal_width(), indent=""):
        say(line.strip())


def _fields(pairs: Sequence[tuple[str, str]], indent: str = "") -> None:
    for line in labelled(pairs, terminal_width(), indent):
        say(line)


# ---------------------------------------------------------------- reports


def print_report(report: Report, command: Callable[[Suggestion], str] | None = None) -> None:
    """Print what a command wrote, what was lost, and suggestions.

    Parameters
    ----------
    report : Report
    command : callable, optional
        Returns the command for a suggestion; `suggested_command` by default.
    """
    held = f"{report.words + report.dropped:,} words, dim {report.dim}"
    if report.source is None:
        source = f"vectors in memory: {held}"
    else:
        size = "" if report.source_bytes is None else f", {megabytes(report.source_bytes)}"
        part = "" if report.whole_source else "the first rows only, "
        name = "standard input" if report.source == "-" else report.source
        source = f"{name} ({report.source_format}{size}): {part}{held}"
    ratio = f", {compared(report.ratio)}" if report.ratio else ""
    pairs = [
        ("source", source), ("target", f"{report.target}: {megabytes(report.target_bytes)}{ratio}"),
        ("steps", " ".join(report.steps)),
        *(("" if number else "default", remark) for number, remark in enumerate(report.remarks)),
        ("bytes", _parts(report)), *_words(report),
        ("vectors", f"{report.bits_per_word / report.dim:.2f} bits per dimension, {report.bits_per_word:.1f} bits "
                    "per word, without the words' text"),
        *_losses(report),
    ]
    if report.notes:
        pairs.append(("found", ", ".join(f"{name} {value:.4f}" for name, value in report.notes.items())))
    pairs.append(("time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())))
    _fields(pairs)
    for one in report.suggestions:
        _print_suggestion(one, (command or (lambda one: suggested_command(report, one)))(one))


def _print_suggestion(one: Suggestion, command: str) -> None:
    """Print a suggestion; its command stays on one line, so that it can be copied."""
    start = f"{one.goal:<7}  about {megabytes(one.bytes)}:"
    width = terminal_width()
    if width is None or len(start) + 1 + len(command) <= width:
        say(f"{start} {command}")
    else:
        say(start)
        say(f"{'':9}{command}")


def suggested_command(report: Report, one: Suggestion) -> str:
    """Return the command for a suggestion, with those options of the running command that it does not replace.

    Parameters
    ----------
    report : Report
    one : Suggestion
    """
    source = "SOURCE" if report.source in (None, "-") else _path(str(report.source))
    words = ["embshrink", "compress", source, _path(report.target), *map(shlex.quote, one.steps or [])]
    if one.min_overlap is not None:
        words.append(f"--min-overlap {one.min_overlap:g}")
    return printable(" ".join([*words, *_given_options(), "--force"]))


def _path(path: str) -> str:
    """Return a path as an argument of a shell; one that begins with a hyphen would be taken for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


# Options that the steps of a suggestion replace, that every suggestion has, or that no suggestion needs.
REPLACED = {
    "keep", "min_similarity", "norms", "select", "weighted", "method", "settings", "lossless", "size", "bits",
    "max_error", "min_cosine", "min_overlap", "force", "as_json", "quiet", "no_measure"}


def _given_options() -> Iterator[str]:
    """Yield the options of the running command, except those that a suggestion replaces."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    for option in context.command.params:
        if not isinstance(option, click.Option) or option.name is None or option.name in REPLACED:
            continue
        if context.get_parameter_source(option.name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params.get(option.name)
        if option.is_flag:
            yield option.opts[-1]
        elif value is not None:
            for each in value if option.multiple else [value]:
                text = each.name if isinstance(option.type, click.File) else each
                yield f"{option.opts[-1]} {shlex.quote(str(text))}"


def _parts(report: Report) -> str:
    """Return the sizes of the parts of a file, with small parts added up."""
    large = {name: size for name, size in report.parts.items()
             if size >= SOME * report.target_bytes and not name.startswith("header")}
    rest = report.target_bytes - sum(large.values())
    return ", ".join([*(f"{name} {megabytes(size)}" for name, size in large.items()), f"other {megabytes(rest)}"])


def _words(report: Report) -> Iterator[tuple[str, str]]:
    """Yield lines about dropped words and words that share vectors, if there are any."""
    if report.dropped:
        yield "words", f"{report.words:,} kept, {report.dropped:,} dropped"
    if report.shared and report.words:
        yield ("" if report.dropped else "words"), _sharing(report.words, report.rows, report.shared)


def _sharing(words: int, rows: int, shared: int) -> str:
    if shared == words:
        return f"{words:,} share {rows:,} vectors"
    return f"{words - shared:,} have their own vector, {shared:,} share one of these"


def _losses(report: Report) -> Iterator[tuple[str, str]]:
    loss = report.loss
    if not loss:
        yield "lost", "not measured"
        return
    if report.lossless:
        left = f" of the {report.words:,} words that are left" if report.dropped else ""
        yield "lost", f"nothing: the vectors{left} are equal to the source's"
        return
    lines = [*_errors_in_words(loss), f"cosine to the source {_number(loss['mean_cosine'])} on average, "
                                     f"{_number(loss['cosine_p1'])} at the 1st percentile"]
    overlap = loss["overlap_at_10"]
    if overlap is not None:
        many = report.words > 10 or not report.words
        kept = f"{10 * overlap:.1f} of a word's 10" if many else f"{100 * overlap:.0f} % of a word's"
        error = loss.get("overlap_se")
        spread = f" ± {error:.3f}" if error else ""
        lines.append(f"{kept} nearest neighbours stayed (overlap@10 {_number(overlap, 3)}{spread})")
    if loss.get("unseen_cosine") is not None:
        lines.append(f"cosine of OOV words' vectors, made of n-grams, {_number(loss['unseen_cosine'])} on average")
    for number, line in enumerate(lines):
        yield ("" if number else "lost"), line


def _errors_in_words(loss: Loss) -> Iterator[str]:
    error, weighted = loss["relative_error"], loss.get("weighted_error")
    if error is None:
        yield "relative error not defined: the source's vectors are all equal"
    elif error > 1.05:
        yield f"relative error {error:.4f}: farther off than if every vector were replaced by the mean (1.0)"
    elif error >= 0.9:
        yield f"relative error {error:.4f}: about as far off as if every vector were replaced by the mean (1.0)"
    else:
        share = "less than 0.1 %" if error < 0.001 else f"{100 * error:.1f} %"
        yield f"relative error {_error(error)}: {share} of the vectors' variance is lost"
    if weighted is not None:
        yield f"relative error {_error(weighted)} with words weighted by their frequency"


def print_plan(planned: PlannedFile) -> None:
    """Print the planned size of a file, section by section."""
    target = megabytes(planned.bytes)
    if planned.source_bytes:
        how = compared(planned.source_bytes / planned.bytes)
        target += f", {how} {'as' if 'same' in how else 'than'} the source ({megabytes(planned.source_bytes)})"
    _fields([("steps", " ".join(planned.steps)), *(("default", remark) for remark in planned.remarks),
             ("target", target),
             ("vectors", f"{planned.bits_per_word:.1f} bits per word, without the words' text")])
    say()
    _print_sections(planned.sections, planned.bytes)


def _print_sections(sections: Mapping[str, int], total: int) -> None:
    table = Table(Column("section", left=True, fold=True), Column("bytes"), Column("share, %"))
    for name, size in sections.items():
        if size:
            table.add(name, f"{size:,}", f"{100 * size / total:.1f}")
    table.add("whole file", f"{total:,}", "100.0", total=True)
    _show(table)


def print_pareto(found: Sequence[ParetoPoint]) -> None:
    """Print the settings that were tried, and mark the best ones."""
    if not found:
        say("No method can be tried on this table.")
        return
    unit, sizes = _sizes([one.bytes for one in found])
    table = Table(Column("best"), Column("step", left=True, fold=True), Column("bits per word"),
                  Column(f"file, {unit}"), Column("relative error"), Column("mean cosine"), Column("overlap@10"))
    for one, size in zip(found, sizes):
        table.add("*" if one.best else "", one.step, f"{one.bits_per_word:.1f}", size,
                  _error(one.relative_error), _number(one.mean_cosine, 3), _number(one.overlap_at_10, 3))
    _show(table)
    say()
    _say("* No other setting has both a smaller file and a smaller relative error. The losses are measured on a "
         "sample of the words, where overlap@10 is higher than among all words.")


# ---------------------------------------------------------------- files


def print_info(info: FileInfo) -> None:
    """Print a file's header, and the size of each section."""
    from embshrink.compression.report import group_parts

    source = info["source"]
    size, steps, sha256 = source.get("size"), source.get("steps"), source.get("sha256")
    words, rows = info["words"], info["rows"]
    held = f"{words:,} of dim {info['dim']}"
    if words and rows < words:
        held += ": " + _sharing(words, rows, words - rows if info.get("owned", True) else words)
    origin = [str(source.get("format", "?"))]
    if isinstance(size, int):
        origin.append(megabytes(size))
    name = source.get("name")
    lines = [
        ("file", f"{info['path']}: {info['bytes']:,} bytes, format {info['version']}, written by {info['writer']}"),
        ("words", held),
        ("vectors", f"{info['bits_per_word'] / info['dim']:.2f} bits per dimension, "
                    f"{info['bits_per_word']:.1f} bits per word"),
        ("text", f"{info['word_bits_per_word']:.1f} bits per word, for the words themselves"),
        ("order", _order(info["exact_ids"])),
        ("steps", f"{' '.join(info['steps'])} (seed {info['seed']})"),
        ("source", "vectors in memory" if name is None else f"{name} ({', '.join(origin)})"),
    ]
    if isinstance(steps, list):
        lines.append(("", f"was made by {' '.join(map(str, steps))}"))
    if sha256 is not None:
        lines.append(("", f"sha256 {sha256}"))
    _fields(lines)
    say()
    rest = group_parts(info["sections"], info["bytes"])["header, checksums, padding"]
    _print_sections({**info["sections"], "header, checksums, padding": rest}, info["bytes"])


def _order(exact: int | None) -> str:
    """Return what is known of the order of the words."""
    if exact is None:
        return "exact: every word has its id in the source"
    return f"approximate: exact for the first {exact:,} words, others may have moved"


def print_formats(listed: Sequence[FormatEntry]) -> None:
    """Print the formats, as `embshrink formats` does."""
    table = Table(Column("format", left=True), Column("read", left=True), Column("written", left=True),
                  Column("chosen by the ending", left=True))
    for one in listed:
        table.add(one["format"], "yes" if one["read"] else "-", "yes" if one["written"] else "-",
                  " ".join(one["endings"]))
    _show(table)
    say()
    _say("The format of a source is detected from its content, except gensim's, which needs --from gensim. The "
         "ending of the target chooses the format that export writes; --to sets it.")


# ---------------------------------------------------------------- scores


def print_evaluation(results: Mapping[str, Evaluation]) -> None:
    """Print scores: for one file as names and values, for several as tables with a row for each file.

    Parameters
    ----------
    results : dict of str to embshrink.evaluation.scores.Evaluation
    """
    if len(results) == 1:
        (file, result), = results.items()
        _fields([("file", file), *_scores_of_one(result)])
    else:
        _print_benchmarks(results)
        _print_losses({file: result for file, result in results.items() if result.reconstruction or result.overlap})
    notes = [note for file, result in results.items() for note in _notes(file, result)]
    if notes:
        say()
        for note in notes:
            _say(note)


def _scores_of_one(result: Evaluation) -> Iterator[tuple[str, str]]:
    for score in result.similarity:
        yield (score.name, f"Spearman x 100: {_hundredfold(score.spearman)}, {_pairs(score)} pairs used")
    if result.analogies is not None:
        answers = result.analogies
        yield (answers.name, f"{_hundredfold(answers.accuracy)} % right, "
                                        f"{_used(answers.total, answers.total + answers.unknown)} questions used")
    if result.reconstruction is not None:
        part = result.reconstruction
        yield "coverage", f"{_hundredfold(part.coverage)} % of the baseline's words"
        yield "relative error", _error(part.relative_error)
        yield "cosine", f"{_number(part.mean_cosine)} on average, {_number(part.cosine_p1)} at the 1st percentile"
        yield "", f"lowest {_worst(part)}"
    if result.overlap is not None:
        yield f"overlap@{result.overlap.k}", _number(result.overlap.overlap, 3)


def _pairs(score: SimilarityScore) -> str:
    return _used(score.pairs_used, score.pairs_total)


def _used(count: int, total: int) -> str:
    return f"{count:,}{FIXED}of{FIXED}{total:,}"


def _worst(part: Reconstruction) -> str:
    return f"{_number(part.worst_cosine)} ({part.worst_word})"


def _print_benchmarks(results: Mapping[str, Evaluation]) -> None:
    """Print a table of similarity and analogies, a row for each file."""
    names = list(dict.fromkeys(score.name for result in results.values() for score in result.similarity))
    analogies = {result.analogies.name for result in results.values() if result.analogies is not None}
    columns = [Column("file", left=True, fold=True)]
    for name in names:
        columns += [Column(f"{name}, Spearman x 100"), Column("pairs used")]
    for name in sorted(analogies):
        columns += [Column(f"{name}, right, %"), Column("questions used")]
    table = Table(*columns)
    for file, result in results.items():
        cells = [file]
        by_name = {score.name: score for score in result.similarity}
        for name in names:
            score = by_name.get(name)
            cells += ["-", "-"] if score is None else [_hundredfold(score.spearman), _pairs(score)]
        for _ in analogies:
            answers = result.analogies
            cells += ["-", "-"] if answers is None else [
                _hundredfold(answers.accuracy), _used(answers.total, answers.total + answers.unknown)]
        table.add(*cells)
    _show(table)


def _print_losses(results: Mapping[str, Evaluation]) -> None:
    """Print a table of what files lost against the baseline, a row for each."""
    if not results:
        return
    ks = {result.overlap.k for result in results.values() if result.overlap is not None}
    partly = any(result.reconstruction and result.reconstruction.coverage < 1 for result in results.values())
    table = Table(
        Column("file", left=True, fold=True), *([Column("words in common, %")] if partly else []),
        Column("relative error"), Column("mean cosine"), Column("cosine, 1st percentile"),
        Column(f"overlap@{max(ks, default=10)}"), Column("lowest cosine"), Column("its word", left=True, fold=True))
    for file, result in results.items():
        part, overlap = result.reconstruction, result.overlap
        cells = ["-"] * 4 if part is None else [
            _hundredfold(part.coverage), _error(part.relative_error), _number(part.mean_cosine),
            _number(part.cosine_p1)]
        worst = ["-", ""] if part is None else [_number(part.worst_cosine), part.worst_word]
        table.add(file, *cells[not partly:], "-" if overlap is None else _number(overlap.overlap, 3), *worst)
    say()
    say("Against the baseline:")
    say()
    _show(table)


def _notes(file: str, result: Evaluation) -> Iterator[str]:
    """Yield notes on the scores of a file."""
    for score in result.similarity:
        if score.shared_rows:
            yield (f"{file}, {score.name}: in {score.shared_rows:,} pair{'s'[:score.shared_rows > 1]} "
                   "both words have the same vector.")
    for score, before in result.common_similarity:
        if score.spearman is not None and before.spearman is not None:
            yield (f"{file}, {score.name}: on the {score.pairs_used:,} pairs that the baseline knows too "
                   f"{_hundredfold(score.spearman)}, baseline {_hundredfold(before.spearman)}.")


# ---------------------------------------------------------------- methods, demo


def print_methods(described: Sequence[MethodInfo], details: bool) -> None:
    """Print a table of methods, or one method with its parameters."""
    if not details:
        table = Table(Column("method", left=True), Column("reduces", left=True), Column("what it does", left=True),
                      Column("source", left=True))
        for one in described:
            summary = one.text.split("\n")[0].replace("``", "`")
            table.add(one.name, one.axis, summary, one.source)
        _show(table)
        say()
        _say("Show the parameters of a method with: embshrink methods NAME")
        return
    for one in described:
        _fields([("method", f"{one.name} (reduces {one.axis})"), ("source", one.source)])
        for paragraph in one.text.replace("``", "`").split("\n\n"):
            say()
            _say(" ".join(paragraph.split()))
        say()
        if not one.parameters:
            say("It has no parameters.")
            return
        table = Table(Column("parameter", left=True), Column("default", left=True), Column("allowed", left=True),
                      Column("meaning", left=True))
        for part in one.parameters:
            default = "chosen" if part.default is None else str(part.default).lower()
            table.add(part.name, default, part.allowed.replace("|", " | "), part.help)
        _show(table)


def print_demo(result: DemoResult) -> None:
    """Print the demo's table."""
    _say(f"{result.name}: {result.words:,} words, dim {result.dim}")
    say()
    unit, sizes = _sizes([row.bytes for row in result.rows])
    table = Table(Column("", left=True), Column(f"file, {unit}"), Column("times smaller"), Column("bits per word"),
                  Column("relative error"), Column("overlap@10"), Column("WordSim"), Column("SimLex"))
    for row, size in zip(result.rows, sizes):
        table.add(row.name, size, _number(row.ratio, 1), _number(row.bits_per_word, 1),
                  _error(row.relative_error), _number(row.overlap_at_10, 3), _hundredfold(row.wordsim353, 1),
                  _hundredfold(row.simlex999, 1))
    _show(table)
    say()
    _say("File sizes and ratios include the words' text; bits per word do not. WordSim and SimLex: Spearman x 100 on "
         "WordSim-353 and SimLex-999.")
    for name, pairs in result.pairs.items():
        say(f"{name}: {pairs['used']} of {pairs['total']} pairs have both words in the vocabulary.")
    if result.folder:
        _say(f"The files are in {result.folder}.")
