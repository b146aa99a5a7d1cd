"""The commands: each parses, makes one library call of the same name, and prints.

Only click is imported here at the top, so that ``--help`` is instant; everything else is imported
by the command that needs it. Data and ``--json`` go to standard output, progress and messages
to standard error. Exit codes: 0 done, 1 the operation failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from embshrink import __version__
from embshrink.cli.options import (
    FILE,
    SOURCE,
    aims_options,
    checked_format,
    complete_formats,
    complete_methods,
    json_option,
    quiet_option,
    reading,
    reading_options,
    search_options,
    threads_option,
    writing_options,
)
from embshrink.errors import EmbshrinkError, TargetError

if TYPE_CHECKING:
    from embshrink.compression.report import Report
    from embshrink.reader import Neighbour


class _Command(click.Command):
    """A command whose help ends in examples.

    Parameters
    ----------
    examples : tuple of str
        Command lines; click would fill them into one paragraph if they were in the docstring.
    """

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        super().format_epilog(context, formatter)


class _Group(click.Group):
    """A group whose commands fail with a message instead of a traceback."""

    command_class = _Command

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of this file, which is the order of use

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EmbshrinkError as error:
            _fail(str(error), error.as_dict())
        except MemoryError:
            _fail("out of memory", {"error": "MemoryError", "message": "out of memory"})
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has left: nothing to say, and nobody to say it to
            context.exit(1)
        except OSError as error:
            _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "),
                  {"error": "OSError", "message": str(error)})
        except KeyError as error:
            _fail(f"no such word: {error.args[0]}", {"error": "KeyError", "message": str(error.args[0])})
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            context.exit(130)


def _fail(message: str, parts: Mapping[str, object]) -> NoReturn:
    context = click.get_current_context()
    if context.find_root().meta.get("embshrink.json"):
        click.echo(json.dumps({"error": parts}))
    click.echo(f"Error: {message}", err=True)
    context.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog="Shell completion: eval \"$(_EMBSHRINK_COMPLETE=bash_source embshrink)\" (or zsh_source, "
                    "fish_source) in your shell's start-up file.")
@click.version_option(__version__, prog_name="embshrink")
def cli() -> None:
    """Make word-vector files (word2vec, GloVe, fastText) small after training, and keep them useful."""


# ---------------------------------------------------------------- shrinking


@cli.command(examples=(
    "embshrink prune glove.6B.50d.txt",
    "embshrink prune vectors.bin small.ems --keep 50000 --remap remap.tsv",
))
@SOURCE
@click.argument("target", type=click.Path(), required=False)
@click.option("--keep", type=click.IntRange(1), help="Vectors to keep; a tenth, at least 20,000, by default.")
@click.option("--min-similarity", type=click.FloatRange(-1, 1), default=-1.0,
              help="Drop a removed word whose nearest kept word is less similar than this.")
@click.option("--norms", is_flag=True, help="Keep each word's own length (2 bytes a word).")
@click.option("--select", type=click.Choice(["frequency", "facility"]), default="frequency", show_default=True,
              help="Which words: the most frequent, or those that stand best for all (slower).")
@click.option("--weighted", is_flag=True, help="With facility: count each word by its frequency.")
@writing_options
def prune(
    source: str, target: str | None, keep: int | None, min_similarity: float, norms: bool, select: str,
    weighted: bool, **values: Any,
) -> None:
    """Keep the vectors of the most frequent words; the others share the nearest kept one.

    SOURCE is taken to be sorted by frequency, as nearly all files are, unless --counts says otherwise. TARGET is
    SOURCE's name with .ems by default.
    """
    from embshrink.compression import run

    _write(values, lambda settings: run.prune(
        source, _target(source, target), keep=keep, min_similarity=min_similarity, norms=norms, select=select,
        weighted=weighted, **settings))


@cli.command(examples=(
    "embshrink quantize glove.6B.50d.txt",
    "embshrink quantize glove.6B.50d.txt small.ems --size 6MB",
    "embshrink quantize vectors.bin good.ems --min-overlap 0.8",
    "embshrink quantize vectors.bin --method pq --set subspaces=25",
))
@SOURCE
@click.argument("target", type=click.Path(), required=False)
@click.option("--method", shell_complete=complete_methods("bits"),
              help="A bits method; see: embshrink methods. ecq by default; rq where that loses less.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the method; repeatable.")
@aims_options
@writing_options
def quantize(
    source: str, target: str | None, method: str | None, settings: tuple[str, ...], **values: Any
) -> None:
    """Store vectors in fewer bits: about 2 a number, or as few as an aim allows."""
    from embshrink.compression import run

    _write(values, lambda given: run.quantize(source, _target(source, target), method=method, parameters=settings,
                                              **given))


@cli.command(examples=(
    "embshrink compress glove.txt glove.ems prune:keep=50000 pq:subspaces=25",
))
@SOURCE
@click.argument("target", type=click.Path())
@click.argument("steps", nargs=-1, metavar="[STEP]...", shell_complete=complete_methods())
@aims_options
@writing_options
def compress(source: str, target: str, steps: tuple[str, ...], **values: Any) -> None:
    """Run any steps in order: rows, then columns, then at most one of bits.

    A STEP is name:key=value,key=value; see: embshrink methods. An aim such as --size sets the bits step. With no STEP
    nothing is lost: codes of another program's file are kept as they are, other numbers in full.
    """
    from embshrink.compression import run

    _write(values, lambda settings: run.compress(source, target, list(steps), **settings))


def _target(source: str, target: str | None) -> str:
    """Return TARGET, by default SOURCE's name with .ems for its endings."""
    from embshrink.compression.run import default_target

    if target:
        return target
    if source == "-":
        raise click.UsageError("name a TARGET when reading standard input")
    try:
        return default_target(source)
    except TargetError as error:
        raise click.UsageError(f"name a TARGET: {source} would be written onto itself") from error


def _write(values: dict[str, Any], call: Callable[[dict[str, Any]], Report]) -> None:
    """Make the call of a command that writes an .ems file, and print its report.

    Parameters
    ----------
    values : dict
        What click found of `writing_options`; used up.
    call : callable
        It is given the settings that these stand for.
    """
    from embshrink.cli.console import Progress, print_report

    quiet, as_json, measure = values.pop("quiet"), values.pop("as_json"), not values.pop("no_measure")
    steps, drop = list(values.pop("ngrams")), values.pop("no_ngrams")
    if steps and drop:
        raise click.UsageError("--ngrams and --no-ngrams exclude each other")
    options, keep_words = reading(values), values.pop("keep_words")
    words = [line.rstrip(b"\r") for line in keep_words.read().split(b"\n")] if keep_words else []
    with Progress(quiet) as progress:
        report = call({**values, "options": options, "keep_words": [word for word in words if word],
                       "measure": measure, "ngrams": "drop" if drop else steps or "same", "progress": progress})
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    elif not quiet:
        print_report(report)


@cli.command(examples=(
    "embshrink plan glove.txt",
    "embshrink plan glove.txt prune:keep=50000 pq:subspaces=25",
    "embshrink plan glove.txt --pareto",
))
@SOURCE
@click.argument("steps", nargs=-1, metavar="[STEP]...", shell_complete=complete_methods())
@click.option("--pareto", is_flag=True, help="Try all bits methods on a sample instead, and show which are best.")
@click.option("--seed", type=click.IntRange(0), default=0)
@reading_options
@threads_option
@json_option
def plan(source: str, steps: tuple[str, ...], pareto: bool, seed: int, as_json: bool, **values: Any) -> None:
    """Say what a file would take, section by section, before any work.

    Without a STEP, what quantize would make of it. With --pareto, what each bits method would make of it at several
    sizes, tried on a sample. Nothing is written.
    """
    if pareto and steps:
        raise click.UsageError("give either a STEP or --pareto")
    from embshrink.cli.console import Progress, print_pareto, print_plan
    from embshrink.compression import run

    with Progress(as_json) as progress:
        if pareto:
            found = run.pareto(source, seed=seed, options=reading(values), progress=progress)
        else:
            planned = run.plan(source, list(steps) or "ecq", seed=seed, options=reading(values), progress=progress)
    if pareto and as_json:
        click.echo(json.dumps([vars(one) for one in found]))
    elif pareto:
        print_pareto(found)
    elif as_json:
        click.echo(json.dumps(planned.as_dict()))
    else:
        print_plan(planned)


# ---------------------------------------------------------------- looking


@cli.command()
@FILE
@json_option
def info(file: str, as_json: bool) -> None:
    """Say what is in an .ems file, and where its bytes go."""
    from embshrink import reader
    from embshrink.cli.console import print_info

    found = reader.info(file)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_info(found)


@cli.command()
@FILE
@click.option("--quick", is_flag=True, help="Header, lengths and section table only.")
@json_option
def verify(file: str, quick: bool, as_json: bool) -> None:
    """Check an .ems file: checksums, word index, row map, and every row decoded."""
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json) as progress:
        good = reader.verify(file, quick=quick, progress=progress)
    if as_json:
        click.echo(json.dumps(good.as_dict()))
    else:
        checked = "header and section table" if quick else f"{good.words:,} words and {good.rows:,} rows"
        click.echo(f"{file}: good ({checked}, {good.bytes:,} bytes)")


@cli.command()
@FILE
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--precision", type=click.IntRange(1, 9), default=6, show_default=True, help="Significant digits.")
@json_option
def get(file: str, words: tuple[str, ...], precision: int, as_json: bool) -> None:
    """Print words' vectors, as rows of GloVe text.

    A missing word is named on standard error, and the exit code is 1.
    """
    from embshrink import reader
    from embshrink.cli.console import printable

    found = reader.get(file, words, aliases=as_json)
    missing = [one.word for one in found if one.vector is None]
    if as_json:
        rows = [{"word": one.word, "alias_of": one.alias_of, "vector": [float(number) for number in one.vector]}
                for one in found if one.vector is not None]
        click.echo(json.dumps({"vectors": rows, "missing": missing}))
    else:
        for one in found:
            if one.vector is not None:
                numbers = " ".join(f"{number:.{precision}g}" for number in one.vector.tolist())
                click.echo(f"{printable(one.word)} {numbers}")
    for word in missing:
        click.echo(f"Error: no such word: {printable(word)}", err=True)
    if missing:
        click.get_current_context().exit(1)


@cli.command()
@FILE
@click.argument("word")
@search_options
def similar(file: str, word: str, topn: int, restrict_vocab: int | None, as_json: bool) -> None:
    """Print the words nearest to WORD, by cosine."""
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json):  # says when a kernel is compiled
        found = reader.similar(file, word, topn=topn, restrict_vocab=restrict_vocab)
    _print_neighbours(found, [word], [], as_json)


@cli.command(examples=(
    "embshrink analogy glove.ems man king woman",
))
@FILE
@click.argument("a")
@click.argument("b")
@click.argument("c")
@search_options
def analogy(file: str, a: str, b: str, c: str, topn: int, restrict_vocab: int | None, as_json: bool) -> None:
    """Print what is to C as B is to A."""
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json):  # says when a kernel is compiled
        found = reader.analogy(file, a, b, c, topn=topn, restrict_vocab=restrict_vocab)
    _print_neighbours(found, [b, c], [a], as_json)


def _print_neighbours(found: list[Neighbour], positive: list[str], negative: list[str], as_json: bool) -> None:
    from embshrink.cli.console import printable

    if as_json:
        rows = [one.as_dict() for one in found]
        click.echo(json.dumps({"positive": positive, "negative": negative, "neighbours": rows}))
        return
    for one in found:
        note = "" if one.alias_of in (None, one.word) else (
            f"\t(answers with the vector of {printable(one.alias_of)})")
        click.echo(f"{one.cosine:.4f}\t{printable(one.word)}{note}")


@cli.command(examples=(
    "embshrink evaluate glove.ems --baseline glove.6B.50d.txt",
))
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE...")
@click.option("--baseline", type=click.Path(exists=True, dir_okay=False),
              help="The vectors before: adds relative error, cosine and neighbour overlap.")
@click.option("--pairs", multiple=True, type=click.Path(exists=True, dir_okay=False),
              help="A word-similarity file (word, word, score; tabs, commas or spaces); repeatable. "
                   "WordSim-353 and SimLex-999 by default.")
@click.option("--analogies", type=click.Path(exists=True, dir_okay=False), help="An analogy file (questions-words).")
@click.option("--default-analogies", is_flag=True, help="Use the analogies that come with gensim.")
@click.option("--restrict-vocab", type=click.IntRange(1), default=300_000, show_default=True,
              help="Look only among the first so many words, as gensim does.")
@click.option("--case-sensitive", is_flag=True, help="Do not fold case.")
@click.option("--queries", type=click.IntRange(1), default=1000, show_default=True,
              help="Words the neighbour overlap is averaged over.")
@threads_option
@json_option
def evaluate(
    files: tuple[str, ...], baseline: str | None, pairs: tuple[str, ...], analogies: str | None,
    default_analogies: bool, restrict_vocab: int, case_sensitive: bool, queries: int, as_json: bool,
) -> None:
    """Score files on word similarity and analogies, and against the vectors they came from.

    FILE may be .ems or any source. Pairs with an unknown word are skipped and counted.
    """
    from embshrink import reader
    from embshrink.cli.console import Progress, print_evaluation

    with Progress(as_json) as progress:
        before = None if baseline is None else reader.as_embeddings(baseline)
        results = {
            file: reader.evaluate(
                file, before, pairs=list(pairs) or None, analogies=analogies or (True if default_analogies else None),
                restrict_vocab=restrict_vocab, case_insensitive=not case_sensitive, queries=queries,
                progress=progress)
            for file in files
        }
    if baseline is not None:
        results = {baseline: next(iter(results.values())).of_baseline(), **results}
    if as_json:
        click.echo(json.dumps({file: result.as_dict() for file, result in results.items()}))
    else:
        print_evaluation(results)


@cli.command("export")
@FILE
@click.argument("target", type=click.Path())
@click.option("--to", "format", callback=checked_format(written=True), metavar="FORMAT",
              shell_complete=complete_formats(written=True),
              help="See: embshrink formats. By TARGET's ending by default: .bin word2vec binary, .vec word2vec text, "
                   ".kv gensim, .fifu finalfusion, .floret floret, else GloVe text.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing TARGET.")
@quiet_option
def export_(file: str, target: str, format: str | None, force: bool, quiet: bool) -> None:
    """Write an .ems file for other programs: word2vec, GloVe, fastText, gensim, spaCy, finalfusion and more."""
    from embshrink import reader
    from embshrink.cli.console import Progress

    with reader.load(file) as emb, Progress(quiet) as progress:
        format = reader.export(emb, target, format, force=force, progress=progress)
        count = len(emb)
    if not quiet:
        click.echo(f"{target}: {count:,} words as {format}", err=True)


@cli.command()
@json_option
def formats(as_json: bool) -> None:
    """List the file formats that are read and written."""
    from embshrink.cli.console import print_formats
    from embshrink.formats import list_formats

    listed = list_formats()
    if as_json:
        click.echo(json.dumps(listed))
    else:
        print_formats(listed)


@cli.command()
@click.argument("name", required=False, shell_complete=complete_methods())
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the methods, or one with its parameters and defaults."""
    from embshrink.cli.console import print_methods
    from embshrink.methods.registry import list_methods

    described = list_methods(*([name] if name else []))
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in described]))
    else:
        print_methods(described, details=bool(name))


@cli.command()
@json_option
def warmup(as_json: bool) -> None:
    """Compile now what other commands would compile when they first need it.

    What is compiled is kept in NUMBA_CACHE_DIR where that is set, else beside the installed package, else in the
    user's cache folder. It serves one user and one kind of processor: run this as the user, and on a machine like
    the one, that the other commands run on. In a Dockerfile that is behind USER, with NUMBA_CACHE_DIR set by ENV.

    Where there is no folder that can be written, nothing is compiled, and the exit code is 1.
    """
    from embshrink.cli import warmup as job
    from embshrink.cli.console import Progress

    with Progress(as_json, announce_compiling=False) as progress:
        warmed = job.warmup(progress=progress)
    if as_json:
        click.echo(json.dumps(warmed.as_dict()))
    else:
        click.echo(f"{warmed.compiled} kernels compiled, {warmed.found} were there ({warmed.seconds:.0f} s): "
                   f"{warmed.folder}")


@cli.command()
@click.option("--folder", type=click.Path(file_okay=False), help="Keep the files there.")
@threads_option
@json_option
def demo(folder: str | None, as_json: bool) -> None:
    """Run the whole job on real vectors, and print one table.

    Uses GloVe 6B 50d (400,000 words) if the [demo] extra is installed, else a small fastText table that
    comes with gensim. Installs and downloads nothing.
    """
    from embshrink.cli import demo as job
    from embshrink.cli.console import Progress, print_demo

    with Progress(as_json) as progress:
        result = job.demo(folder, progress=progress)
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        print_demo(result)
