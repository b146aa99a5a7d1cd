"""Directives that document the program from its code: commands with their options, and methods with their parameters.

``{commands}`` documents the command line from click's objects: arguments, options in their groups, and the examples
of each command's help; ``{from-help} NAME`` is a section of the main help. ``{methods}`` documents the parameters
of each method from `embshrink.list_methods`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from embshrink import list_methods
from embshrink.cli.commands import cli
from embshrink.methods.registry import ALIASES

try:
    from embshrink.cli.help import GROUPS  # the line below each heading
except ImportError:
    GROUPS = {}

OPTION = re.compile(r"(?<![\w`-])--?[a-z][a-z-]*(?! *\|)\b")
NAME = re.compile(r"(?<![\w`-])[A-Z]{4,}(?![\w`])")


def escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is, with options and the names of arguments as code."""
    text = re.sub(r"([\\`*_{}\[\]<>#|$~^])", r"\\\1", text)
    return NAME.sub(r"*\g<0>*", OPTION.sub(r"`\g<0>`", text))


class Listing(Directive):
    """A directive that is replaced by sections, each parsed from Markdown."""

    def section(self, title: str, name: str, lines: list[str]) -> nodes.section:
        """Return a section with an anchor `name`."""
        found = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        found += nodes.title("", "", nodes.literal("", title))
        self.state.document.note_explicit_target(found)
        self.state.nested_parse(StringList(lines, self.state.document["source"]), self.content_offset, found)
        return found


class Commands(Listing):
    """The commands of the command line under their headings, in the order of ``--help``."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each heading, with a section for each command."""
        context = click.Context(cli, info_name="embshrink", **cli.context_settings)
        groups: dict[str, list[nodes.section]] = {}
        for name in cli.list_commands(context):
            command = cli.commands[name]
            section = self.section(f"embshrink {name}", f"embshrink {name}", list(command_lines(command, context)))
            groups.setdefault(getattr(command, "group", ""), []).append(section)
        found: list[nodes.Node] = []
        for heading, sections in groups.items():
            if heading:
                found.append(nodes.section("", nodes.title("", heading), *sections, ids=[nodes.make_id(heading)]))
            else:
                found += sections
        return found


def command_lines(command: click.Command, parent: click.Context) -> Iterator[str]:
    """Yield the documentation of a command, as Markdown."""
    context = click.Context(command, parent=parent, info_name=command.name)
    yield from ["```{program} " + context.command_path, "```", ""]
    yield from ["```text", command.get_usage(context).removeprefix("Usage: ").replace("\n", "\n  "), "```", ""]
    yield from [escaped(inspect.cleandoc(command.help or "")), ""]
    arguments = {one.label: one.about for one in command.params if hasattr(one, "about")}
    if arguments:
        yield from definition_lines("Arguments", arguments)
    for heading, options in grouped(command, context).items():
        yield from [f"```{{rubric}} {heading}", "```", "", GROUPS.get(heading, ""), ""]
        for option in options:
            yield from option_lines(option, context)
    if getattr(command, "examples", ()):
        yield from ["```{rubric} Examples", "```", "", "```console"]
        yield from (f"$ {example}" for example in command.examples)
        yield from ["```", ""]


def grouped(command: click.Command, context: click.Context) -> dict[str, list[click.Option]]:
    """Return a command's options under their headings, without ``--help``."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    groups = command.grouped_options(context) if hasattr(command, "grouped_options") else {"Options": options}
    kept = {heading: [one for one in listed if one in options] for heading, listed in groups.items()}
    return {heading: listed for heading, listed in kept.items() if listed}


def definition_lines(heading: str, meanings: dict[str, str]) -> Iterator[str]:
    """Yield a list of names and meanings, as Markdown."""
    if heading:
        yield from [f"```{{rubric}} {heading}", "```", ""]
    for name, meaning in meanings.items():
        yield from [f"`{name}`", f": {escaped(meaning)}", ""]


class FromHelp(Listing):
    """A section of the main help, such as its exit codes."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the list of the section's names and meanings."""
        sections = getattr(cli, "sections", {self.arguments[0]: {}})
        found = nodes.Element()
        self.state.nested_parse(StringList(list(definition_lines("", sections[self.arguments[0]])), "help"),
                                self.content_offset, found)
        return found.children


def option_lines(option: click.Option, context: click.Context) -> Iterator[str]:
    """Yield the documentation of an option, as Markdown; nothing for one that is hidden."""
    record = option.get_help_record(context)
    if record is None:
        return
    metavar = option.make_metavar(context).removesuffix(" RANGE")
    value = "" if option.is_flag or option.count else f" {metavar}"
    names = ", ".join(f"{name}{value}" for name in [*option.opts, *option.secondary_opts])
    yield from [f"````{{option}} {names}", escaped(record[1]), "````", ""]


class Methods(Listing):
    """The parameters of the methods."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each method."""
        return [self.section(info.name, info.name, list(method_lines(info))) for info in list_methods()]


def method_lines(info) -> Iterator[str]:
    """Yield the documentation of a method, as Markdown."""
    yield from [re.sub(r"``(.*?)``", r"`\1`", info.text), "", f"*Reduces:* {info.axis}. *Source:* {info.source}.", ""]
    aliases = [f"`{name}` for `{steps}`" for name, steps in ALIASES.items() if steps.partition(":")[0] == info.name]
    if aliases:
        yield from [f"*Aliases:* {', '.join(aliases)}.", ""]
    if info.parameters:
        yield from ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
        for one in info.parameters:
            default = str(one.default).lower() if one.type is bool else one.default
            default = "chosen" if one.default is None else default
            allowed = one.allowed.replace("|", " \\| ")
            yield f"| `{one.name}` | `{default}` | {allowed} | {escaped(one.help)} |"
        yield ""


LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
GITHUB = "https://github.com/embshrink/embshrink/blob/main/"


def whole_file(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the text of a file of the top folder in place of a page that contains only a link to it."""
    match = re.fullmatch(r"\[(\w+\.md)\]\(\.\./\1\)\s*", source[0])
    if not match:
        return
    path = Path(app.srcdir).parent / match[1]
    app.env.note_dependency(str(path))

    def moved(link: re.Match[str]) -> str:
        """Return the target as seen from docs/: a page there if it is one, else the file on GitHub."""
        for target in (link[1].removeprefix("docs/"), link[1].lower()):
            if (Path(app.srcdir) / target).is_file():
                return target
        return GITHUB + link[1]

    source[0] = LINK.sub(moved, path.read_text(encoding="utf-8"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("commands", Commands)
    app.add_directive("from-help", FromHelp)
    app.add_directive("methods", Methods)
    app.connect("source-read", whole_file)
    return {"parallel_read_safe": True}
