"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

if TYPE_CHECKING:
    from embshrink.formats import ReadOptions

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[Function], Function]


def options(*listed: Decorator[Any]) -> Decorator[Any]:
    """Return a decorator that applies click options in the order they are listed."""
    return lambda function: functools.reduce(lambda wrapped, option: option(wrapped), reversed(listed), function)


def _remember_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    context.find_root().meta["embshrink.json"] = value
    return value


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Parse 6MB, 500k, 1GiB or a plain number of bytes."""
    if value is None:
        return None
    import re

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", value.lower())
    if not match:
        raise click.BadParameter(f"{value!r} is not a size; write 6MB, 500k, 1GiB or a number of bytes")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))


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
                raise click.BadParameter(f"{value!r} is not one of {', '.join(names)}")
        return value

    return check


Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_formats(*, written: bool = False) -> Complete:
    """Return what completes the name of a format that is read, or of one that is written."""
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        return [name for name in _format_names(written) if name.startswith(begun)]

    return complete


def complete_methods(axis: str | None = None) -> Complete:
    """Return what completes the name of a method, or of one of an axis; aliases too where any is asked for."""
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from embshrink.methods import registry

        names = [*registry.METHODS, *registry.ALIASES] if axis is None else [
            name for name in registry.METHODS if registry.method(name).axis == axis]
        return [name for name in names if name.startswith(begun)]

    return complete


def _threads(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        from embshrink.numerics.parallel import set_threads

        set_threads(value)


json_option = click.option("--json", "as_json", is_flag=True, callback=_remember_json, is_eager=True,
                           help="Print one JSON object instead of text.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No report, no progress; warnings and errors only.")
reading_options = options(
    click.option("--from", "format", callback=checked_format(), metavar="FORMAT", shell_complete=complete_formats(),
                 help="Format of SOURCE, see: embshrink formats. Found by content by default. gensim unpickles, "
                      "which runs code from the file: only load files you trust."),
    click.option("--member", help="Which file inside a .zip."),
    click.option("--header", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
                 help="Whether a text file begins with its counts."),
    click.option("--limit", type=click.IntRange(1), help="Read the first so many rows only."),
    click.option("--nonfinite", type=click.Choice(["error", "drop", "zero"]), default="error", show_default=True,
                 help="What to do with rows that hold NaN or infinity."),
    click.option("--duplicates", type=click.Choice(["first", "error"]), default="first", show_default=True,
                 help="What to do with a word that comes again."),
    click.option("--skip-bad-rows", type=click.IntRange(0), default=0, show_default=True,
                 help="Pass over at most so many malformed rows."),
    click.option("--allow-truncated", is_flag=True, help="Take a file that ends before its header says."),
    click.option("--expect-rows", type=click.IntRange(0), help="Refuse a file of any other number of rows."),
    click.option("--row-newline", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
                 help="Whether rows of a word2vec .bin end in a newline."),
    click.option("--strict", is_flag=True, help="Refuse what is only doubtful: rows that look too long."),
    click.option("--max-expanded", callback=_size, default="64GiB", show_default=True, metavar="SIZE",
                 help="Refuse a compressed file whose content is larger."),
)
READING = ("format", "member", "header", "limit", "nonfinite", "duplicates", "skip_bad_rows", "allow_truncated",
           "expect_rows", "row_newline", "strict", "max_expanded")
aims_options = options(
    click.option("--size", callback=_size, help="The whole file at most so large: 6MB, 500k, 1GiB."),
    click.option("--bits", type=click.FloatRange(min=0, min_open=True),
                 help="At most so many bits a word for vectors, every table counted."),
    click.option("--max-error", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as a relative error of this allows."),
    click.option("--min-cosine", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as a mean cosine of this allows."),
    click.option("--min-overlap", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as an overlap of the ten nearest neighbours of this allows."),
)
threads_option = click.option("--threads", type=click.IntRange(1), callback=_threads, expose_value=False,
                              help="Cores to use; all by default. The result does not depend on it.")
writing_options = options(
    reading_options,
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                 help="Same input, steps and seed give the same bytes."),
    click.option("--counts", type=click.Path(exists=True, dir_okay=False),
                 help="File of words and counts; without, SOURCE is taken to be sorted by frequency."),
    click.option("--keep-words", type=click.File("rb"), help="File of words, one a line, to keep as they are."),
    click.option("--ngrams", multiple=True, metavar="STEP", shell_complete=complete_methods(),
                 help="A step for the n-grams of a fastText model, from which unseen words get vectors; repeatable. "
                      "prune:keep=N keeps the most useful. The column and bits steps of the words by default."),
    click.option("--no-ngrams", is_flag=True, help="Drop the n-grams: unseen words get no vector."),
    click.option("--vocabulary", type=click.Choice(["auto", "packed", "plain"]), default="auto", show_default=True,
                 help="How words are stored: packed takes a sixth, plain is faster; auto packs 10,000 and more."),
    click.option("--keep-order", is_flag=True,
                 help="Keep every word's exact rank in packed words (2 bytes a word); else its power of two."),
    click.option("--max-memory", callback=_size, metavar="SIZE",
                 help="Memory to take at most, about: 512M, 2GiB. A larger table is kept in a temporary file beside "
                      "TARGET; the result is the same."),
    click.option("--remap", type=click.Path(), help="Write which word answers with whose vector (.tsv or .json)."),
    click.option("--no-measure", is_flag=True, help="Skip measuring what was lost."),
    click.option("-f", "--force", is_flag=True, help="Replace an existing TARGET."),
    threads_option, quiet_option, json_option,
)
SOURCE = click.argument("source", type=click.Path(allow_dash=True))
FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False))


def reading(values: dict[str, Any]) -> ReadOptions:
    """Take the reading options out of a command's values and return them as `ReadOptions`."""
    from embshrink.formats import ReadOptions

    return ReadOptions(**{name: values.pop(name) for name in READING})


search_options = options(
    click.option("-n", "--topn", type=click.IntRange(1), default=10, show_default=True, help="How many."),
    click.option("--restrict-vocab", type=click.IntRange(1), help="Look only among the first so many words."),
    json_option,
)
