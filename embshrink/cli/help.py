"""The layout of ``--help``: arguments with their meaning, options under headings, commands by purpose, examples."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import click

# Headings of options, in the order of the help, each with the line below it.
GROUPS = {
    "Options": "",
    "Aims": "An aim sets the bits step. Give one at most. If it cannot be met, the command fails and reports the "
            "closest value.",
    "Benchmarks": "",
    "Output": "",
    "Words": "",
    "fastText n-grams": "",
    "Reading SOURCE": "",
    "Other options": "",  # --help is in the last group that a command has
}
FEW = 5  # with at most this many options, there are no headings
WIDEST = 26  # characters of the column of names; longer names have their own line


class Argument(click.Argument):
    """An argument with a help text, which older versions of click do not support.

    Parameters
    ----------
    about : str
        The text.
    """

    def __init__(self, *args: Any, about: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = about

    @property
    def label(self) -> str:
        """The name as the usage line shows it, without brackets and dots."""
        return (self.metavar or self.human_readable_name.upper()).strip("[].")


class Option(click.Option):
    """An option that is listed under a heading.

    Parameters
    ----------
    group : str
        A key of `GROUPS`.
    """

    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return names and help; a range shows the metavar in place of click's x."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        names, text = record
        text = re.sub(r"\[default: \((.+)\)(?=[\];])", r"[default: \1", text)  # click adds brackets around text
        return names, re.sub(r"(?<=[\[<= ])x(?=[<>])", self.metavar or "x", text)


class Command(click.Command):
    """A command whose help lists arguments, options under headings, and examples.

    Parameters
    ----------
    examples : tuple of str
        Command lines; in the docstring, click would join them into one paragraph.
    group : str
        The heading under which the main help lists the command.
    """

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), group: str = "Commands", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.group = group

    def grouped_options(self, context: click.Context) -> dict[str, list[click.Option]]:
        """Return the options under their headings, in order; ``--help`` is the last."""
        options = [one for one in self.get_params(context) if isinstance(one, click.Option)]
        chosen = [one for one in options if isinstance(one, Option)]
        groups: dict[str, list[click.Option]] = {}
        for name in GROUPS:
            listed = [one for one in chosen if one.group == name]
            if listed:
                groups.setdefault(name if len(chosen) > FEW else "Options", []).extend(listed)
        last = list(groups)[-1] if groups else "Options"
        groups.setdefault(last, []).extend(one for one in options if not isinstance(one, Option))
        return groups

    def format_help_text(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the paragraphs of the help."""
        _write_help(self, formatter)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments and the options."""
        arguments = [(one.label, one.about) for one in self.params if isinstance(one, Argument)]
        if arguments:
            _write_sections(formatter, {"Arguments": arguments})
        groups = {name: [record for one in listed if (record := one.get_help_record(context))]
                  for name, listed in self.grouped_options(context).items()}
        _write_sections(formatter, groups)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(formatter, self.examples)
        super().format_epilog(context, formatter)


class Group(click.Group):
    """A group that lists its commands under headings, with whole summaries.

    Parameters
    ----------
    examples : tuple of str
        Command lines.
    sections : dict of str to dict of str to str
        Sections after the examples: heading -> names and their meanings.
    """

    command_class = Command

    def __init__(
        self, *args: Any, examples: tuple[str, ...] = (), sections: dict[str, dict[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.sections = sections or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the code, which is the order of use."""
        return list(self.commands)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the paragraphs of the help."""
        _write_help(self, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings; click would cut long summaries."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            summary = command.get_short_help_str(limit=1000)
            heading = command.group if isinstance(command, Command) else "Commands"
            groups.setdefault(heading, []).append((name, summary))
        _write_sections(formatter, groups)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections that follow the commands."""
        _write_examples(formatter, self.examples)
        for name, content in self.sections.items():
            _write_sections(formatter, {name: list(content.items())})
        super().format_epilog(ctx, formatter)


# click breaks lines at hyphens, also those of --option-names, and aligns each section for itself.


def _filled(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False, break_long_words=False)


def _write_text(formatter: click.HelpFormatter, text: str) -> None:
    for line in _filled(text, formatter.width - formatter.current_indent):
        formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _write_help(command: click.Command, formatter: click.HelpFormatter) -> None:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        formatter.write_paragraph()
        with formatter.indentation():
            _write_text(formatter, paragraph)


def _write_examples(formatter: click.HelpFormatter, examples: tuple[str, ...]) -> None:
    """Write command lines, one per line."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def _write_sections(formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections of names and their meanings, aligned to one column."""
    names = [name for records in sections.values() for name, _ in records]
    column = 4 + min(max(map(len, names), default=0), WIDEST)
    for heading, records in sections.items():
        with formatter.section(heading):
            if GROUPS.get(heading):
                _write_text(formatter, GROUPS[heading])
            for name, text in records:
                lines = _filled(text, formatter.width - column) or [""]
                first = f"  {name}\n" if len(name) + 4 > column else f"  {name:<{column - 2}}{lines.pop(0)}\n"
                formatter.write(first + "".join(f"{'':{column}}{line}\n" for line in lines))
