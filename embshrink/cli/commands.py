"""The commands. Each one parses its arguments, calls the library function of the same name, and prints the result.

Only click is imported at the top, so that ``--help`` is fast; a command imports all other modules that it
needs. Data and ``--json`` go to standard output, progress and messages
to standard error. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interruption, 143 termination.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from embshrink import __version__
from embshrink.cli.help import Command, Group
from embshrink.cli.options import (
    AIMS,
    FILE,
    SOURCE,
    STEPS,
    TABLE,
    TARGET,
    FiniteRange,
    InputPath,
    OutputPath,
    WholeRange,
    aims_options,
    argument,
    checked_format,
    checked_method,
    complete_formats,
    complete_methods,
    force_option,
    json_option,
    option,
    quiet_option,
    reading,
    reading_options,
    search_options,
    seed_option,
    threads_option,
    writing_options,
)
from embshrink.cli.output import data, print_json, say, tell
from embshrink.cli.signals import outcome, terminable
from embshrink.errors import EmbshrinkError, SameFileError, StepError, printable
from embshrink.evaluation import QUERIES

if TYPE_CHECKING:
    from embshrink.compression.report import Report
    from embshrink.reader import Embeddings, Neighbour

FAILED, USAGE = 1, 2
PACKAGES = {"sklearn": "scikit-learn"}  # packages whose pip name differs from the import name


class _Command(Command):
    """A command that stores, before anything can fail, whether failures are printed as JSON."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if parent is not None:
            parent.meta["embshrink.json"] = "--json" in itertools.takewhile(lambda one: one != "--", args)
        return super().make_context(info_name, args, parent, **extra)


class _Group(Group):
    """A group whose commands fail with a message instead of a traceback."""

    command_class = _Command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise _escaped(error) from None
        except KeyboardInterrupt as error:  # click would exit with 1
            said, code = outcome(error)
            tell(said)
            raise click.exceptions.Exit(code) from error

    def invoke(self, context: click.Context) -> Any:
        try:
            with terminable(), warnings.catch_warnings():
                warnings.showwarning = _show_warning
                warnings.simplefilter("default", UserWarning)
                return super().invoke(context)
        except click.UsageError as error:
            _print_json_error({"error": "UsageError", "message": error.format_message()})
            raise _escaped(error) from None
        except EmbshrinkError as error:
            _fail(str(error), error.as_dict(), USAGE if isinstance(error, (SameFileError, StepError)) else FAILED)
        except (MemoryError, OSError, ModuleNotFoundError) as error:
            _fail_outside(error)
        except KeyboardInterrupt as error:
            said, code = outcome(error)
            tell(said)
            context.exit(code)


def _escaped(error: click.UsageError) -> click.UsageError:
    """Return the same error with a message that can be printed; click repeats arguments, such as names of files."""
    if type(error).show is not click.UsageError.show:
        return error  # prints the help instead
    return click.UsageError(printable(error.format_message()), error.ctx)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    tell(f"Warning: {message}")


def _print_json_error(parts: Mapping[str, object]) -> None:
    if click.get_current_context().find_root().meta.get("embshrink.json"):
        print_json({"error": parts})


def _fail(message: str, parts: Mapping[str, object], code: int = FAILED) -> NoReturn:
    _print_json_error(parts)
    tell(f"Error: {message}")
    click.get_current_context().exit(code)


def _fail_outside(error: MemoryError | OSError | ModuleNotFoundError) -> NoReturn:
    """Fail with a message if memory runs out, the system reports an error, or a package is missing."""
    if isinstance(error, BrokenPipeError):
        click.get_current_context().exit(FAILED)  # the reader of the output needs no more of it, and no message
    if isinstance(error, MemoryError):
        message = "out of memory"
    elif isinstance(error, OSError):
        message = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    else:
        module = (error.name or "").partition(".")[0]
        if module in ("", __package__.partition(".")[0]):
            raise error  # not a package that could be installed
        package = PACKAGES.get(module, module)
        message = f"this command needs the package {package}. Install it with: pip install {package}"
    kind = "OSError" if isinstance(error, OSError) else type(error).__name__
    _fail(message, {"error": kind, "message": str(error) if isinstance(error, OSError) else message})


SECTIONS = {  # at the end of the main help
    "Exit codes": {
        "0": "The command succeeded.",
        "1": "The command failed: for example, a file is damaged, an output file exists, a word is missing, or an "
             "aim cannot be met.",
        "2": "The command line is wrong: an unknown option, method, step, parameter or format, a value that is not "
             "allowed, options that exclude each other, or an input file that does not exist.",
        "130": "The command was interrupted (Ctrl-C, SIGINT).",
        "143": "The command was terminated (SIGTERM); 129 after SIGHUP.",
    },
    "Shell completion": {
        "bash": 'in ~/.bashrc: eval "$(_EMBSHRINK_COMPLETE=bash_source embshrink)"',
        "zsh": 'in ~/.zshrc: eval "$(_EMBSHRINK_COMPLETE=zsh_source embshrink)"',
        "fish": "in config.fish: _EMBSHRINK_COMPLETE=fish_source embshrink | source",
    },
}


@click.group(cls=_Group, sections=SECTIONS, examples=(
    "embshrink quantize glove.txt",
    "embshrink similar glove.ems king",
    "embshrink quantize --help",
), context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="embshrink")
def cli() -> None:
    """Make files of word vectors 9 to 20 times smaller, after training.

    embshrink reads word2vec, GloVe, fastText and other formats, and writes .ems files. An .ems file is memory-mapped,
    and a word is looked up without decoding the whole file.
    """


# ---------------------------------------------------------------- shrinking


@cli.command(group="Compress", examples=(
    "embshrink quantize glove.6B.50d.txt",
    "embshrink quantize glove.6B.50d.txt small.ems --size 6MB",
    "embshrink quantize vectors.bin good.ems --min-overlap 0.9",
    "embshrink quantize vectors.bin --method pq --set subspaces=25",
))
@SOURCE
@TARGET(required=False, about="The .ems file to write. By default, SOURCE with the ending .ems.")
@option("--method", metavar="METHOD", callback=checked_method, shell_complete=complete_methods("bits"),
        show_default="ecq, or rq if rq loses less",
        help="The bits method, with its own default settings; list the methods with: embshrink methods")
@option("--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="A parameter of the method; repeatable. List the parameters with: embshrink methods METHOD")
@aims_options
@writing_options
def quantize(
    source: str, target: str | None, method: str | None, settings: tuple[str, ...], **values: Any
) -> None:
    """Store vectors in as few bits as keep 8 of 10 neighbours.

    This is the command for most uses: it keeps every word. By default, it writes the smallest ecq file whose
    neighbour overlap@10 is at least 0.8, as with --min-overlap 0.8. Another aim, such as --size, replaces this one.
    Without an aim, --method and --set use the default settings of the method.

    About 2 bits per dimension are used instead with --no-measure, for fewer than 100 distinct vectors, and for
    n-grams alone. Numbers are stored as float16 where that takes fewer bytes, as in small tables.
    """
    from embshrink.compression import run

    target = _target(source, target)
    _check_aims(values, [":".join(filter(None, [method or "ecq", ",".join(settings)]))])
    _write(source, target, values, lambda given: run.quantize(
        source, target, method=method, parameters=settings, **given))


@cli.command(group="Compress", examples=(
    "embshrink prune glove.6B.50d.txt",
    "embshrink prune vectors.bin small.ems --keep 50000 --remap remap.tsv",
))
@SOURCE
@TARGET(required=False, about="The .ems file to write. By default, SOURCE with the ending .ems.")
@option("--keep", type=WholeRange(1), metavar="N", show_default="a tenth, at least 20,000",
        help="Number of vectors to keep.")
@option("--min-similarity", type=FiniteRange(-1, 1), default=-1.0, metavar="COSINE", show_default="drop no word",
        help="Drop a removed word if its cosine similarity to the nearest kept word is below this.")
@option("--norms/--no-norms", default=True, show_default=True,
        help="Store the length of each word's own vector, in 2 bytes per word.")
@option("--select", type=click.Choice(["frequency", "facility"]), default="frequency", show_default=True,
        help="Which words to keep: the most frequent ones, or those that represent all words best (slower).")
@option("--weighted", is_flag=True, help="With --select facility: weight each word by its frequency.")
@writing_options
def prune(
    source: str, target: str | None, keep: int | None, min_similarity: float, norms: bool, select: str,
    weighted: bool, **values: Any,
) -> None:
    """Keep the vectors of frequent words; other words share them.

    Each removed word uses the vector of its nearest kept word, so the vocabulary stays whole. The words of SOURCE
    must be sorted by frequency, as they are in most files; otherwise give --counts.
    """
    from embshrink.compression import run

    target = _target(source, target)
    _write(source, target, values, lambda settings: run.prune(
        source, target, keep=keep, min_similarity=min_similarity, norms=norms, select=select, weighted=weighted,
        **settings))


@cli.command(group="Compress", examples=(
    "embshrink compress glove.txt glove.ems prune:keep=50000 pq:subspaces=25",
    "embshrink compress glove.txt glove.ems lowrank:keep=0.5 ecq --bits 100",
    "embshrink compress vectors.bin exact.ems --lossless",
))
@SOURCE
@TARGET(about="The .ems file to write.")
@STEPS(about="METHOD or METHOD:KEY=VALUE,KEY=VALUE, for example prune:keep=50000 or pq:subspaces=25. Row steps come "
            "first, then column steps, then at most one bits step. List the methods with: embshrink methods")
@option("--lossless", is_flag=True,
        help="Keep the codes of a quantized file as they are, and all other numbers in full precision. Give no STEP "
             "and no aim with it.")
@aims_options
@writing_options
def compress(source: str, target: str, steps: tuple[str, ...], lossless: bool, **values: Any) -> None:
    """Run several steps in order: rows, then columns, then bits.

    Without a STEP, compress does the same as quantize: it writes the smallest ecq file that keeps 8 of 10 nearest
    neighbours, or that meets the aim.
    """
    from embshrink.compression import run

    _check_no_step(target)
    _check_lossless(lossless, steps, values)
    _check_aims(values, steps or ["ecq"])
    _write(source, target, values, lambda settings: run.compress(
        source, target, list(steps) or None, lossless=lossless, **settings))


def _target(source: str, target: str | None) -> str:
    """Return TARGET; by default, SOURCE with its endings replaced by .ems."""
    from embshrink.compression.run import default_target
    from embshrink.errors import TargetError

    if target:
        _check_no_step(target)
        return target
    if source == "-":
        raise click.UsageError("Name a TARGET when SOURCE is standard input.")
    try:
        return default_target(source)
    except TargetError as error:
        raise click.UsageError(f"Name a TARGET: without it, {source} would replace itself.") from error


def _check_no_step(target: str) -> None:
    """Refuse a TARGET that is a step or a size: it was forgotten, and what follows it took its place."""
    from embshrink.methods import registry

    if target.partition(":")[0] in (*registry.METHODS, *registry.ALIASES):
        raise click.UsageError(f"TARGET is missing: '{target}' is a step. To write a file of this name, "
                               f"use ./{target}")
    if re.fullmatch(r"\d+(\.\d+)?[kmgt]?i?b?", target.lower()):
        raise click.UsageError(f"TARGET is missing: '{target}' is a number or a size. Use --size {target}, or "
                               f"./{target} to write a file of this name.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _given_aims(values: Mapping[str, Any]) -> list[str]:
    """Return the aims that are given, as the user typed them."""
    return [_flag(name) for name in AIMS if values.get(name) is not None]


def _check_lossless(lossless: bool, steps: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse --lossless with a step or an aim."""
    others = [*steps, *_given_aims(values)]
    if lossless and others:
        raise click.UsageError(f"--lossless and {others[0]} exclude each other. Give one of them.")


def _check_aims(values: Mapping[str, Any], steps: Sequence[str]) -> None:
    """Refuse wrong steps, two aims, and an aim without a bits step to set, before a large file is read."""
    from embshrink.methods import registry

    listed, aims = registry.as_steps(steps), _given_aims(values)
    if len(aims) > 1:
        raise click.UsageError(f"{' and '.join(aims)} exclude each other. Give one of them.")
    if aims and not (listed and listed[-1].axis == "bits"):
        raise click.UsageError(f"{aims[0]} sets the bits step, and no STEP is one. Add a bits step, such as ecq.")


def _check_together(source: str, target: str, values: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other, paths that are one file, and wrong steps for n-grams."""
    from embshrink.methods import registry
    from embshrink.storage.paths import check_distinct

    registry.as_steps(values["ngrams"])
    if values["ngrams"] and values["no_ngrams"]:
        raise click.UsageError("--ngrams and --no-ngrams exclude each other. Give one of them.")
    if source == values["keep_words"] == "-":
        raise click.UsageError("SOURCE and --keep-words cannot both be standard input.")
    check_distinct({"the target": target, "remap (--remap)": values["remap"]}, {
        "the source": source, "counts (--counts)": values["counts"], "--keep-words": values["keep_words"]})


def _write(
    source: str, target: str, values: dict[str, Any], call: Callable[[dict[str, Any]], Report]
) -> None:
    """Make the call of a command that writes an .ems file, and print its report.

    Parameters
    ----------
    source, target : str
    values : dict
        The values of `writing_options` from click; they are removed from the dict.
    call : callable
        Called with the settings that these values give.
    """
    from embshrink.cli.console import Progress, print_report

    _check_together(source, target, values)
    aims = _given_aims(values)
    quiet, as_json, measure = values.pop("quiet"), values.pop("as_json"), not values.pop("no_measure")
    steps, drop = list(values.pop("ngrams")), values.pop("no_ngrams")
    options, keep_words = reading(values), _lines(values.pop("keep_words"))
    with Progress(quiet) as progress:
        try:
            report = call({**values, "options": options, "keep_words": keep_words, "measure": measure,
                           "ngrams": "drop" if drop else steps or "same", "progress": progress})
        except StepError as error:
            if aims:  # the steps are valid, but these vectors cannot meet the aim
                _fail(str(error), error.as_dict())
            raise
    for warning in report.warnings:
        _show_warning(warning)
    if as_json:
        print_json(report.as_dict())
    elif not quiet:
        print_report(report)


def _lines(path: str | None) -> list[bytes]:
    """Return the lines of a file that are not empty; none without a path."""
    if path is None:
        return []
    from embshrink.storage.inputs import read_input, standard_input

    text = standard_input().read() if path == "-" else read_input(path)
    return [word for line in text.split(b"\n") if (word := line.rstrip(b"\r"))]


@cli.command(group="Compress", examples=(
    "embshrink plan glove.txt",
    "embshrink plan glove.txt prune:keep=50000 pq:subspaces=25",
    "embshrink plan glove.txt --pareto",
))
@SOURCE
@STEPS(about="Steps, as for embshrink compress. Without a STEP, the size of the default of quantize is estimated.")
@option("--pareto", is_flag=True, help="Try all bits methods on a sample of the words, and mark the best ones.")
@reading_options
@seed_option
@threads_option
@json_option
def plan(source: str, steps: tuple[str, ...], pareto: bool, seed: int, as_json: bool, **values: Any) -> None:
    """Predict the size of the output file; write nothing.

    The size is listed by section. Without a STEP, it is an estimate, for which ecq is fitted to a sample of the rows.
    With --pareto, plan prints the size and the loss of each bits method at several settings.
    """
    if pareto and steps:
        raise click.UsageError("STEP and --pareto exclude each other. Give one of them.")
    from embshrink.cli.console import Progress, print_pareto, print_plan
    from embshrink.compression import run

    with Progress(as_json) as progress:
        if pareto:
            found = run.pareto(source, seed=seed, options=reading(values), progress=progress)
        else:
            planned = run.plan(source, list(steps) or None, seed=seed, options=reading(values), progress=progress)
    if pareto and as_json:
        print_json([vars(one) for one in found])
    elif pareto:
        print_pareto(found)
    elif as_json:
        print_json(planned.as_dict())
    else:
        print_plan(planned)


# ---------------------------------------------------------------- looking


@cli.command(group="Look inside", examples=(
    "embshrink info glove.ems",
    "embshrink info glove.ems --json",
))
@FILE
@json_option
def info(file: str, as_json: bool) -> None:
    """Show the steps, the source and the sections of an .ems file.

    Nothing is decoded, so this is fast for files of any size. Sizes are in bytes.
    """
    from embshrink import reader
    from embshrink.cli.console import print_info

    found = reader.info(file)
    if as_json:
        print_json(found)
    else:
        print_info(found)


@cli.command(group="Look inside", examples=(
    "embshrink verify glove.ems",
    "embshrink verify glove.ems --quick",
))
@FILE
@option("--quick", is_flag=True, help="Check only the header, the lengths and the section table.")
@json_option
def verify(file: str, quick: bool, as_json: bool) -> None:
    """Check an .ems file: checksums, words, row map and all vectors.

    The exit code is 1 if the file is damaged.
    """
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json) as progress:
        good = reader.verify(file, quick=quick, progress=progress)
    if as_json:
        print_json(good.as_dict())
    else:
        checked = "header and section table" if quick else f"{good.words:,} words and {good.rows:,} rows"
        say(f"{file}: good ({checked}, {good.bytes:,} bytes)")


@cli.command(group="Look inside", examples=(
    "embshrink get glove.ems king queen",
    "embshrink get glove.ems king --precision 3",
    "embshrink get glove.ems king --json",
))
@TABLE
@argument("words", nargs=-1, required=True, metavar="WORD...", about="Words to look up. Case matters.")
@option("--precision", type=WholeRange(1, 9), default=6, show_default=True, metavar="N",
        help="Significant digits of the numbers.")
@json_option
def get(file: str, words: tuple[str, ...], precision: int, as_json: bool) -> None:
    r"""Print the vectors of words, as lines of GloVe text.

    A terminal shows control characters in words as escapes, such as \x1b. A file or a pipe gets the exact words,
    except that a newline in a word becomes \n.

    If a word is missing, get names it on standard error, prints the other words and exits with code 1.
    """
    from embshrink import reader

    with reader.as_embeddings(file) as emb:
        found = reader.get(emb, words, aliases=as_json)
        missing = [one.word for one in found if one.vector is None]
        sentences = [_missing(emb, file, word) for word in missing]
    if as_json:
        rows = [{"word": one.word, "alias_of": one.alias_of, "vector": [float(number) for number in one.vector]}
                for one in found if one.vector is not None]
        print_json({"vectors": rows, "missing": missing})
    else:
        for one in found:
            if one.vector is not None:
                numbers = " ".join(f"{number:.{precision}g}" for number in one.vector.tolist())
                data(one.word, numbers, gap=" ")
    for sentence in sentences:
        tell(f"Error: {sentence}")
    if missing:
        click.get_current_context().exit(FAILED)


def _missing(emb: Embeddings, file: str, word: str) -> str:
    """Return the message for a word that is not in a file; it suggests another spelling that is."""
    found = next((other for other in _spellings(word) if other != word and other in emb), None)
    hint = "" if found is None else f". Did you mean '{found}'?"
    return f"no such word in {file}: '{word}'{hint}"


def _spellings(word: str) -> Iterator[str]:
    """Yield spellings of a word: stripped, with underscores in place of spaces and the reverse, in each case."""
    plain = word.strip()
    cases: list[Callable[[str], str]] = [str, str.lower, str.capitalize, str.title, str.upper]
    for change in cases:
        yield from (change(plain), change(plain.replace(" ", "_")), change(plain.replace("_", " ")))


@cli.command(group="Look inside", examples=(
    "embshrink similar glove.ems king",
    "embshrink similar glove.ems king -n 3",
))
@TABLE
@argument("word", about="The word to search for. Case matters.")
@search_options
def similar(file: str, word: str, topn: int, restrict_vocab: int | None, as_json: bool) -> None:
    """Print the nearest neighbours of a word.

    Each line is a cosine similarity and a word, most similar first. A terminal shows control characters in words as
    escapes; a file or a pipe gets the exact words.
    """
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json), reader.as_embeddings(file) as emb:  # announces compilation
        found = _search(emb, file, [word], lambda: reader.similar(
            emb, word, topn=topn, restrict_vocab=restrict_vocab))
    _print_neighbours(found, [word], [], as_json)


@cli.command(group="Look inside", examples=(
    "embshrink analogy glove.ems man king woman",
))
@TABLE
@argument("a", about="First word of the known pair, for example man.")
@argument("b", about="Second word of the known pair, for example king.")
@argument("c", about="First word of the pair to complete, for example woman.")
@search_options
def analogy(file: str, a: str, b: str, c: str, topn: int, restrict_vocab: int | None, as_json: bool) -> None:
    """Print the words that are to C as B is to A.

    These are the words with the highest cosine similarity to B - A + C (3CosAdd), most similar first.
    """
    from embshrink import reader
    from embshrink.cli.console import Progress

    with Progress(as_json), reader.as_embeddings(file) as emb:  # announces compilation
        found = _search(emb, file, [a, b, c], lambda: reader.analogy(
            emb, a, b, c, topn=topn, restrict_vocab=restrict_vocab))
    _print_neighbours(found, [b, c], [a], as_json)


def _search(
    emb: Embeddings, file: str, words: list[str], call: Callable[[], list[Neighbour]]
) -> list[Neighbour]:
    """Make a call that searches for words; fail if a word is missing in the file."""
    try:
        return call()
    except KeyError:
        missing = [word for word in dict.fromkeys(words) if emb.get(word) is None]
        if not missing:
            raise
    *others, last = [_missing(emb, file, word) for word in missing]
    for sentence in others:
        tell(f"Error: {sentence}")
    _fail(last, {"error": "KeyError", "message": "; ".join([*others, last]), "missing": missing})


def _print_neighbours(found: list[Neighbour], positive: list[str], negative: list[str], as_json: bool) -> None:
    if as_json:
        rows = [one.as_dict() for one in found]
        print_json({"positive": positive, "negative": negative, "neighbours": rows})
        return
    for one in found:
        note = [] if one.alias_of in (None, one.word) else [f"(shares the vector of {one.alias_of})"]
        data(f"{one.cosine:.4f}", one.word, *note, gap="\t")


@cli.command(group="Evaluate and export", examples=(
    "embshrink evaluate glove.ems --baseline glove.6B.50d.txt",
    "embshrink evaluate glove.ems small.ems --pairs pairs.tsv",
    "embshrink evaluate glove.ems --analogies questions-words.txt",
))
@argument("files", nargs=-1, required=True, type=InputPath(), metavar="FILE...",
          about="Files to evaluate: .ems files or other files of word vectors.")
@option("--baseline", type=InputPath(), metavar="FILE",
        help="The source vectors. Also measure the loss against them: relative error, cosine similarity and "
             "neighbour overlap@10.")
@option("--queries", type=WholeRange(1), default=QUERIES, show_default=True, metavar="N",
        help="Number of words for the neighbour overlap.")
@option("--pairs", multiple=True, type=InputPath(), metavar="FILE", group="Benchmarks",
        show_default="WordSim-353 and SimLex-999",
        help="Word-similarity benchmark: lines of word, word, score, separated by tabs, commas or spaces; "
             "repeatable.")
@option("--analogies", type=InputPath(), metavar="FILE", group="Benchmarks",
        help="Analogy benchmark, in the format of questions-words.txt.")
@option("--default-analogies", is_flag=True, group="Benchmarks",
        help="Use the analogy benchmark that gensim includes.")
@option("--restrict-vocab", type=WholeRange(1), default=300_000, show_default=True, metavar="N",
        group="Benchmarks", help="Use only the first N words of each file, as gensim does.")
@option("--case-sensitive", is_flag=True, group="Benchmarks", help="Do not ignore case.")
@threads_option
@json_option
def evaluate(
    files: tuple[str, ...], baseline: str | None, pairs: tuple[str, ...], analogies: str | None,
    default_analogies: bool, restrict_vocab: int, case_sensitive: bool, queries: int, as_json: bool,
) -> None:
    """Measure word similarity, analogies, and the loss of compression.

    The word-similarity score is the Spearman correlation x 100 with human ratings. Pairs and analogies with an
    out-of-vocabulary word are skipped and counted.
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
        print_json({file: result.as_dict() for file, result in results.items()})
    else:
        print_evaluation(results)


@cli.command("export", group="Evaluate and export", examples=(
    "embshrink export glove.ems glove.bin",
    "embshrink export glove.ems glove.kv",
    "embshrink export glove.ems vocab --to spacy",
))
@FILE
@TARGET(about="The file to write, or the folder for spaCy.")
@option("--to", "format", callback=checked_format(written=True), metavar="FORMAT",
        shell_complete=complete_formats(written=True), show_default="by the ending of TARGET",
        help="Format to write; list the formats with: embshrink formats. The ending .bin means word2vec binary, .vec "
             "word2vec text, .kv gensim, .fifu finalfusion, .floret floret, any other GloVe text.")
@force_option
@quiet_option
def export_(file: str, target: str, format: str | None, force: bool, quiet: bool) -> None:
    """Convert an .ems file to word2vec, GloVe, spaCy and other formats.

    A format that can hold n-grams, shared rows or product quantization codes gets them. Other formats get the decoded
    vector of each word.
    """
    from embshrink import reader
    from embshrink.cli.console import Progress

    with reader.load(file) as emb, Progress(quiet) as progress:
        format = reader.export(emb, target, format, force=force, progress=progress)
        count = len(emb)
    if not quiet:
        tell(f"{target}: {count:,} words as {format}")


@cli.command(group="List and set up", examples=(
    "embshrink formats",
))
@json_option
def formats(as_json: bool) -> None:
    """List the file formats that embshrink reads and writes."""
    from embshrink.cli.console import print_formats
    from embshrink.formats import list_formats

    listed = list_formats()
    if as_json:
        print_json(listed)
    else:
        print_formats(listed)


@cli.command(group="List and set up", examples=(
    "embshrink methods",
    "embshrink methods pq",
))
@argument("name", required=False, shell_complete=complete_methods(),
          about="A method, to show its parameters, their defaults and allowed values.")
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the compression methods, or explain one."""
    from embshrink.cli.console import print_methods
    from embshrink.methods.registry import list_methods

    described = list_methods(*([name] if name else []))
    if as_json:
        print_json([one.as_dict() for one in described])
    else:
        print_methods(described, details=bool(name))


@cli.command(group="List and set up", examples=(
    "embshrink warmup",
))
@json_option
def warmup(as_json: bool) -> None:
    """Compile all kernels now, so that other commands start faster.

    Without warmup, numba compiles each kernel when a command first needs it. The compiled kernels are kept in the
    folder NUMBA_CACHE_DIR if it is set, else beside the installed package, else in the user's cache folder.

    They are valid for one user and one type of processor. Run warmup as the user who runs the other commands, on the
    same type of machine. In a Dockerfile, set NUMBA_CACHE_DIR with ENV, and run warmup after USER.

    If no folder is writable, warmup compiles nothing and exits with code 1.
    """
    from embshrink.cli import warmup as job
    from embshrink.cli.console import Progress

    with Progress(as_json, announce_compiling=False) as progress:
        warmed = job.warmup(progress=progress)
    if as_json:
        print_json(warmed.as_dict())
    else:
        say(f"{warmed.compiled} kernels compiled, {warmed.found} found in the cache ({warmed.seconds:.0f} s): "
                   f"{warmed.folder}")


@cli.command(group="List and set up", examples=(
    "embshrink demo",
    "embshrink demo --folder demo-files",
))
@option("--folder", type=OutputPath(file_okay=False), metavar="FOLDER",
        help="Folder to keep the files in. Without it, they are deleted.")
@force_option
@threads_option
@json_option
def demo(folder: str | None, force: bool, as_json: bool) -> None:
    """Compress real vectors in six ways and compare the results.

    The vectors are GloVe 6B 50d (400,000 words) if the extra embshrink[demo] is installed, else a small fastText
    model that gensim includes. Nothing is downloaded.
    """
    from embshrink.cli import demo as job
    from embshrink.cli.console import Progress, print_demo

    with Progress(as_json) as progress:
        result = job.demo(folder, force=force, progress=progress)
    if as_json:
        print_json(result.as_dict())
    else:
        print_demo(result)
