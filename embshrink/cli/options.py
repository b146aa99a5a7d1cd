"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from embshrink.cli.help import Argument, Option
from embshrink.errors import shortened

if TYPE_CHECKING:
    from embshrink.formats import ReadOptions

LONGEST = 40  # characters shown of a value that is refused
Function = TypeVar("Function", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[Function], Function]

option = functools.partial(click.option, cls=Option)
argument = functools.partial(click.argument, cls=Argument)


def options(*listed: Decorator[Any]) -> Decorator[Any]:
    """Return a decorator that applies click options in the order they are listed."""
    return lambda function: functools.reduce(lambda wrapped, option: option(wrapped), reversed(listed), function)


# ---------------------------------------------------------------- values


class InputPath(click.Path):
    """A path of a file to read; a missing one has the same message in every command.

    Parameters
    ----------
    folders : bool
        Allow a folder too.
    dash : bool
        Allow ``-``, standard input.
    """

    def __init__(self, *, folders: bool = False, dash: bool = False) -> None:
        super().__init__(exists=True, dir_okay=folders, allow_dash=dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path if the file exists and can be read."""
        if not (self.allow_dash and value == "-") and not os.path.exists(value):
            self.fail(f"no such file: {value!r}", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(click.Path):
    """A path of a file or folder to write: neither empty nor ``-``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path if it is neither empty nor ``-``."""
        if not value:
            self.fail("the name is empty.", param, ctx)
        if value == "-":
            self.fail("embshrink cannot write to standard output; name a file.", param, ctx)
        return super().convert(value, param, ctx)


class WholeRange(click.IntRange):
    """A whole number in a range, smaller than 2^63."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if abs(number) >= 2**63:
            self.fail(f"{shortened(value, LONGEST)} is too large.", param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{shortened(value, LONGEST)!r} is not a finite number.", param, ctx)
        return number


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Parse 6MB, 500k, 1GiB or a plain number of bytes."""
    if value is None:
        return None
    from embshrink.compression.sizes import parse_size
    from embshrink.errors import StepError

    try:
        return parse_size(value, repr(shortened(value, LONGEST)))
    except StepError as error:
        raise click.BadParameter(f"{error.problem}; expected {error.expected}.") from None


def _memory(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Parse a size; refuse one that is too small for Python and its libraries."""
    count = _size(context, parameter, value)
    if count is not None:
        from embshrink.storage.disk_rows import LEAST_LIMIT

        if count < LEAST_LIMIT:
            raise click.BadParameter(f"{value!r} is too small; Python and the libraries alone take about 200 MB. "
                                     f"Allow {LEAST_LIMIT >> 20} MiB or more.")
    return count


def _format_names(written: bool) -> list[str]:
    """Return the names of the formats that are written, or of those that are read."""
    from embshrink.formats import list_formats

    return [one["format"] for one in list_formats() if one["written" if written else "read"]]


def checked_format(*, written: bool = False) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that checks a format's name: one that is read, or one that is written."""
    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            names = _format_names(written)
            if value not in names:
                raise click.BadParameter(f"{value!r} is not one of {', '.join(names)}.")
        return value

    return check


Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_formats(*, written: bool = False) -> Complete:
    """Return a completion for the names of formats that are read, or of those that are written."""
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        return [name for name in _format_names(written) if name.startswith(begun)]

    return complete


def complete_methods(axis: str | None = None) -> Complete:
    """Return a completion for the names of methods of an axis; of all methods and aliases without an axis."""
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from embshrink.methods import registry

        names = [*registry.METHODS, *registry.ALIASES] if axis is None else _method_names(axis)
        return [name for name in names if name.startswith(begun)]

    return complete


def checked_method(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check the name of a bits method."""
    if value is None:
        return None
    import difflib

    from embshrink.methods import registry

    if value in registry.METHODS and registry.method(value).axis == "bits":
        return value
    names = _method_names("bits")
    close = difflib.get_close_matches(value, names, 1)
    if value in registry.METHODS or value in registry.ALIASES:
        hint = f" Use: embshrink compress SOURCE TARGET {value}"
    else:
        hint = f" Did you mean {close[0]}?" if close else ""
    raise click.BadParameter(f"{value!r} is not a bits method; expected one of {', '.join(names)}.{hint}")


def _method_names(axis: str) -> list[str]:
    from embshrink.methods import registry

    return [name for name in registry.METHODS if registry.method(name).axis == axis]


def _threads(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        from embshrink.numerics.parallel import set_threads

        set_threads(value)


# ---------------------------------------------------------------- arguments


SOURCE = argument("source", type=InputPath(folders=True, dash=True), about=(
    "File of word vectors: word2vec, GloVe, fastText, gensim, finalfusion, navec, floret or .ems. It may be "
    "compressed (.gz, .bz2, .xz, .zst, .zip). Or the vocab folder of a spaCy pipeline, or - for standard input."))
TARGET = functools.partial(argument, "target", type=OutputPath())
STEPS = functools.partial(argument, "steps", nargs=-1, metavar="[STEP]...", shell_complete=complete_methods())
FILE = argument("file", type=InputPath(), about="The .ems file.")
TABLE = argument("file", type=InputPath(), about=(
    "The .ems file. Other files of word vectors work too, but are read whole each time."))


# ---------------------------------------------------------------- options


json_option = option("--json", "as_json", is_flag=True, group="Other options",
                     help="Print one JSON object to standard output instead of text.")
quiet_option = option("-q", "--quiet", is_flag=True, group="Other options",
                      help="Print no report and no progress, only warnings and errors.")
seed_option = option("--seed", type=WholeRange(0), default=0, show_default=True, metavar="N",
                     group="Other options",
                     help="Random seed. The same input, steps and seed give the same bytes.")
threads_option = option("--threads", type=WholeRange(1), callback=_threads, expose_value=False, metavar="N",
                        group="Other options", show_default="all cores",
                        help="Number of threads. The result is the same for any number.")
force_option = option("-f", "--force", is_flag=True, group="Output", help="Replace existing output files.")
_reading = functools.partial(option, group="Reading SOURCE")
reading_options = options(
    _reading("--from", "format", callback=checked_format(), metavar="FORMAT", shell_complete=complete_formats(),
             show_default="detected from the content",
             help="Format of SOURCE; list the formats with: embshrink formats. The gensim format must be named: "
                  "reading it unpickles, which runs code from the file. Use it only for files that you trust."),
    _reading("--member", metavar="NAME", help="Name of the file to read inside a .zip archive."),
    _reading("--header", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
             help="Whether a text file begins with a header line (rows and dimensions)."),
    _reading("--limit", type=WholeRange(1), metavar="N", help="Read only the first N rows."),
    _reading("--nonfinite", type=click.Choice(["error", "drop", "zero"]), default="error", show_default=True,
             help="For rows that hold NaN or infinity: refuse the file, drop the row, or replace the number by 0."),
    _reading("--duplicates", type=click.Choice(["first", "error"]), default="first", show_default=True,
             help="For repeated words: keep the first row, or refuse the file."),
    _reading("--skip-bad-rows", type=WholeRange(0), default=0, show_default=True, metavar="N",
             help="Skip up to N malformed rows of a text file."),
    _reading("--allow-truncated", is_flag=True, help="Accept a file that is shorter than its header states."),
    _reading("--expect-rows", type=WholeRange(1), metavar="N",
             help="Refuse a file that does not have exactly N rows."),
    _reading("--row-newline", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
             help="Whether each row of a word2vec binary file ends in a newline."),
    _reading("--strict", is_flag=True,
             help="Refuse a text row that has one number too many. Without it, the word may contain a space."),
    _reading("--max-expanded", callback=_size, default="64GiB", show_default=True, metavar="SIZE",
             help="Refuse a compressed file whose content is larger than this."),
)
READING = ("format", "member", "header", "limit", "nonfinite", "duplicates", "skip_bad_rows", "allow_truncated",
           "expect_rows", "row_newline", "strict", "max_expanded")
_aim = functools.partial(option, group="Aims")
_quality = functools.partial(_aim, type=FiniteRange(0, 1, min_open=True, max_open=True))
aims_options = options(
    _aim("--size", callback=_size, metavar="SIZE",
         help="Maximum size of the output file: 6MB, 500k (powers of 1000), 1GiB (powers of 1024) or bytes."),
    _aim("--bits", type=FiniteRange(min=0, min_open=True), metavar="BITS",
         help="Maximum bits per word for the vectors, including codebooks and other tables."),
    _quality("--max-error", metavar="ERROR", help="Smallest file whose relative error is at most this."),
    _quality("--min-cosine", metavar="COSINE",
             help="Smallest file whose mean cosine similarity to the source vectors is at least this."),
    _quality("--min-overlap", metavar="OVERLAP", help="Smallest file whose neighbour overlap@10 is at least this."),
)
AIMS = ("size", "bits", "max_error", "min_cosine", "min_overlap")
writing_options = options(
    force_option,
    option("--remap", type=OutputPath(dir_okay=False), metavar="FILE", group="Output",
           help="Also write a list of the words that share another word's vector: JSON if FILE ends in .json, else "
                "tab-separated."),
    option("--vocabulary", type=click.Choice(["auto", "packed", "plain"]), default="auto", show_default=True,
           group="Output",
           help="How to store the words: packed takes about a third of the bytes, plain is faster to look up, auto "
                "packs 10,000 words or more."),
    option("--order", type=click.Choice(["exact", "approximate"]), default="exact", show_default=True, group="Output",
           help="Order of packed words: exact keeps the id of every word; approximate saves about 14 bits per word, "
                "keeps the first 4,096 ids, and moves other words by at most 9 % of their rank."),
    option("--keep-order", is_flag=True, group="Output", help="The same as --order exact."),
    option("--no-measure", is_flag=True, group="Output", help="Do not measure the loss, which saves time."),
    option("--counts", type=InputPath(), metavar="FILE", group="Words",
           help="File of word counts, one word and its count per line. Without it, the words of SOURCE must be "
                "sorted by frequency, most frequent first."),
    option("--keep-words", type=InputPath(dash=True), metavar="FILE", group="Words",
           help="File of words, one per line, whose own vectors the row steps must keep."),
    option("--ngrams", multiple=True, metavar="STEP", shell_complete=complete_methods(), group="fastText n-grams",
           help="Step for the n-gram vectors of a fastText model, which make the vectors of out-of-vocabulary words; "
                "repeatable. prune:keep=N keeps the N most useful n-grams.",
           show_default="the column and bits steps of the words"),
    option("--no-ngrams", is_flag=True, group="fastText n-grams",
           help="Drop the n-grams: out-of-vocabulary words get no vector."),
    reading_options,
    seed_option, threads_option,
    option("--max-memory", callback=_memory, metavar="SIZE", group="Other options",
           help="Approximate limit of memory, for example 512M or 2GiB, 256MiB or more. A larger table is kept in a "
                "temporary file beside TARGET. The result is the same."),
    quiet_option, json_option,
)
search_options = options(
    option("-n", "--topn", type=WholeRange(1), default=10, show_default=True, metavar="N",
           help="Number of words to print."),
    option("--restrict-vocab", type=WholeRange(1), metavar="N",
           help="Search only the first N words of the file."),
    json_option,
)


def reading(values: dict[str, Any]) -> ReadOptions:
    """Take the reading options out of a command's values and return them as `ReadOptions`."""
    from embshrink.formats import ReadOptions

    return ReadOptions(**{name: values.pop(name) for name in READING})
