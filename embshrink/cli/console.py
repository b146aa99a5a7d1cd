"""What a person sees: progress on standard error, tables on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import rich.progress
    import rich.table

    from embshrink.cli.demo import DemoResult
    from embshrink.compression.job import PlannedFile
    from embshrink.compression.pareto import ParetoPoint
    from embshrink.compression.report import Report
    from embshrink.embeddings.table import FileInfo
    from embshrink.evaluation.scores import Evaluation
    from embshrink.formats import FormatEntry
    from embshrink.methods.registry import MethodInfo


class Progress:
    """A progress line with rate and remaining time, for what takes over a second.

    Call it as ``progress(stage, done, total)``. It shows nothing if `quiet`, or if standard error
    is not a terminal.

    Parameters
    ----------
    quiet : bool
    """

    def __init__(self, quiet: bool = False) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._began = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` units of a stage are done."""
        if not self._shown or (self._bar is None and time.monotonic() - self._began < 1):
            return
        bar = self._bar = self._bar or self._start()
        if stage not in self._tasks:
            for task in self._tasks.values():  # one line at a time: what came before is done
                bar.update(task, visible=False)
            self._tasks[stage] = bar.add_task(stage, total=total)
        bar.update(self._tasks[stage], completed=done, total=total, visible=True)

    @staticmethod
    def _start() -> rich.progress.Progress:
        from rich import progress
        from rich.console import Console

        class Rate(progress.ProgressColumn):
            """Units done a second."""

            def render(self, task: progress.Task) -> str:
                """Return the cell."""
                speed = task.finished_speed or task.speed
                return f"{short(speed)}/s" if speed else ""

        bar = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(), Rate(),
            progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        bar.start()
        return bar

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def printable(text: object) -> str:
    """Return text with what would control a terminal, or is not UTF-8, shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
                   for char in str(text))


def short(number: float) -> str:
    """Return a number with a decimal suffix: 1.2 M."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.1f}{suffix}"
    return f"{number:.0f}"


def megabytes(count: float | None) -> str:
    """Return a number of bytes as a person reads it."""
    if count is None:
        return "?"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count} bytes"


def _table(*columns: str) -> rich.table.Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _show(table: rich.table.Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to respect
        console.width = max(console.width, 160)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():  # rich fills lines up with spaces
        click.echo(line.rstrip())


def _cell(text: object) -> str:
    from rich.markup import escape

    return escape(printable(str(text)))


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_report(report: Report) -> None:
    """Print what `compress` did, on one screen."""
    ratio = f", {report.ratio:.1f} times smaller" if report.ratio else ""
    click.echo(f"{printable(report.target)}: {megabytes(report.source_bytes)} -> "
               f"{megabytes(report.target_bytes)}{ratio}")
    click.echo(f"  steps    {' '.join(report.steps)}")
    dropped = f", {report.dropped:,} dropped" if report.dropped else ""
    click.echo(f"  words    {report.words:,} on {report.rows:,} rows{dropped}, dim {report.dim}")
    parts = ", ".join(f"{name} {megabytes(size)}" for name, size in report.parts.items() if size >= 500)
    click.echo(f"  bytes    {parts}")
    click.echo(f"  vectors  {report.bits_per_word:.1f} bits a word (words' own text not counted)")
    if report.loss:
        loss = report.loss
        click.echo(f"  lost     relative error {_number(loss['relative_error'])}, "
                   f"mean cosine {_number(loss['mean_cosine'])} (1st percentile {_number(loss['cosine_p1'])}), "
                   f"overlap of 10 nearest {_number(loss['overlap_at_10'], 3)}")
        if loss.get("unseen_cosine") is not None:
            click.echo(f"  unseen   mean cosine {_number(loss['unseen_cosine'])} of vectors made from spelling alone")
    for name, value in report.notes.items():
        click.echo(f"  found    {name} {value:.4f}")
    click.echo(f"  time     {', '.join(f'{name} {seconds:.1f} s' for name, seconds in report.seconds.items())}")


def print_plan(planned: PlannedFile) -> None:
    """Print what a file would take."""
    click.echo(f"steps: {printable(' '.join(planned.steps))}\n")
    table = _table("section", "bytes", "share")
    for name, size in planned.sections.items():
        table.add_row(_cell(name), f"{size:,}", f"{size / planned.bytes:.1%}")
    table.add_section()
    ratio = f"{planned.source_bytes / planned.bytes:.1f} times smaller" if planned.source_bytes else ""
    table.add_row("whole file", f"{planned.bytes:,}", ratio)
    _show(table)
    click.echo(f"{planned.bits_per_word:.1f} bits a word for the vectors")


def print_pareto(found: Sequence[ParetoPoint]) -> None:
    """Print what methods would make of a table, the best ones marked."""
    table = _table("", "step", "bits a word", "file", "relative error", "cosine", "overlap@10")
    table.columns[1].justify = "left"
    for one in found:
        table.add_row("*" if one.best else "", _cell(one.step), f"{one.bits_per_word:.1f}", megabytes(one.bytes),
                      _number(one.relative_error), _number(one.mean_cosine, 3), _number(one.overlap_at_10, 3))
    _show(table)
    click.echo("* loses less than everything as small. Tried on a sample of words, among which more neighbours stay.")


def print_info(info: FileInfo) -> None:
    """Print a file's header and where its bytes go."""
    from embshrink.compression.report import group_parts

    source = info["source"]
    size, steps = source.get("size"), source.get("steps")
    lines = {
        "file": f"{info['path']} ({info['bytes']:,} bytes, format {info['version']}, written by {info['writer']})",
        "words": f"{info['words']:,} on {info['rows']:,} rows, dim {info['dim']}",
        "steps": f"{' '.join(info['steps'])} (seed {info['seed']})",
        "source": f"{source.get('name', 'memory')} ({megabytes(size if isinstance(size, int) else None)}, "
                  f"{source.get('format', '?')}, "
                  f"sha256 {str(source.get('sha256', '?'))[:16]}...)",
        "bits a word": f"{info['bits_per_word']:.1f} for vectors, {info['word_bits_per_word']:.1f} for the words",
    }
    if isinstance(steps, list):
        lines["before that"] = " ".join(steps)
    for name, text in lines.items():
        click.echo(f"{name:<12} {printable(text)}")
    click.echo()
    table = _table("section", "bytes", "share")
    for name, size in info["sections"].items():
        table.add_row(_cell(name), f"{size:,}", f"{size / info['bytes']:.1%}")
    rest = group_parts(info["sections"], info["bytes"])["header, checksums, padding"]
    table.add_row("header, checksums, padding", f"{rest:,}", f"{rest / info['bytes']:.1%}")
    _show(table)


def print_evaluation(results: Mapping[str, Evaluation]) -> None:
    """Print a table of scores, a column a file.

    Parameters
    ----------
    results : dict of str to embshrink.evaluation.scores.Evaluation
    """
    table = _table("", *(_cell(file) for file in results))
    rows: dict[str, list[str]] = {}
    for column, result in enumerate(results.values()):
        for name, cell in _evaluation_rows(result):
            rows.setdefault(name, ["-"] * len(results))[column] = cell
    for name, cells in rows.items():
        table.add_row(_cell(name), *cells)
    _show(table)


def _evaluation_rows(result: Evaluation) -> Iterator[tuple[str, str]]:
    for score in result.similarity:
        rho = "-" if score.spearman is None else f"{100 * score.spearman:.2f}"
        yield f"{score.name}: Spearman x 100", rho
        shared = f", {score.shared_rows} share a row" if score.shared_rows else ""
        yield f"{score.name}: pairs used", f"{score.pairs_used} of {score.pairs_total}{shared}"
    for score, before in result.common_similarity:
        if score.spearman is not None and before.spearman is not None:
            yield (f"{score.name}: on the {score.pairs_used} pairs both know (before)",
                   f"{100 * score.spearman:.2f} ({100 * before.spearman:.2f})")
    if result.analogies is not None:
        answers = result.analogies
        yield f"{answers.name}: right %", "-" if answers.accuracy is None else f"{100 * answers.accuracy:.2f}"
        yield f"{answers.name}: questions used", f"{answers.total:,} of {answers.total + answers.unknown:,}"
    if result.reconstruction is not None:
        part = result.reconstruction
        yield "words in common with baseline", f"{part.coverage:.2%}"
        yield "relative error", _number(part.relative_error)
        yield "mean cosine", _number(part.mean_cosine)
        yield "1st percentile of cosine", _number(part.cosine_p1)
        yield "worst cosine", f"{_number(part.worst_cosine)} ({_cell(part.worst_word)})"
    if result.overlap is not None:
        yield f"neighbour overlap@{result.overlap.k}", _number(result.overlap.overlap, 3)


def print_formats(listed: Sequence[FormatEntry]) -> None:
    """Print the formats, as `embshrink formats` does."""
    table = _table("format", "read", "written", "by its ending")
    for one in listed:
        table.add_row(one["format"], "yes" if one["read"] else "-", "yes" if one["written"] else "-",
                      " ".join(one["endings"]))
    _show(table)


def print_methods(described: Sequence[MethodInfo], details: bool) -> None:
    """Print methods: a table, or one with its parameters."""
    if not details:
        table = _table("method", "axis", "what it does", "source")
        table.columns[1].justify = table.columns[2].justify = table.columns[3].justify = "left"
        for one in described:
            table.add_row(one.name, one.axis, _cell(one.text.split("\n")[0]), _cell(one.source))
        _show(table)
        click.echo("Parameters of one: embshrink methods NAME")
        return
    for one in described:
        click.echo(f"{one.name} ({one.axis}), after {one.source}\n\n{one.text}\n")
        if not one.parameters:
            click.echo("It has no parameters.")
            return
        table = _table("parameter", "default", "allowed", "meaning")
        table.columns[2].justify = table.columns[3].justify = "left"
        for part in one.parameters:
            default = "chosen" if part.default is None else str(part.default).lower()
            table.add_row(part.name, default, _cell(part.allowed), _cell(part.help))
        _show(table)


def print_demo(result: DemoResult) -> None:
    """Print the demo's table."""
    click.echo(f"{printable(result.name)}: {result.words:,} words, dim {result.dim}\n")
    table = _table("", "file", "times smaller", "bits a word", "relative error", "overlap@10", "WordSim-353",
                   "SimLex-999")
    for row in result.rows:
        table.add_row(
            _cell(row.name), megabytes(row.bytes), _number(row.ratio, 1), _number(row.bits_per_word, 1),
            _number(row.relative_error), _number(row.overlap_at_10, 3),
            *("-" if score is None else f"{100 * score:.1f}" for score in (row.wordsim353, row.simlex999)),
        )
    _show(table)
    click.echo("\nBits a word are for the vectors; file sizes and ratios count the words too. "
               "WordSim-353 and SimLex-999 are Spearman x 100.")
    for name, pairs in result.pairs.items():
        click.echo(f"{name}: {pairs['used']} of {pairs['total']} pairs have both words here.")
    if result.folder:
        click.echo(f"The files are in {printable(result.folder)}.")
