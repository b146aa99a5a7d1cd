"""The way out: everything that the command prints, except progress, leaves through these functions.

Words, headers and file names come from anyone, so text is escaped here: no line of it can control a terminal or look
like two lines. Only lines of data are written as they are, and not to a terminal. JSON is ASCII and exact.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator

import click

from embshrink.errors import printable

OUTPUT = "standard output"  # in messages


class ClosedOutput(io.TextIOBase):
    """Standard output that the caller has closed: writing to it fails, so that a command does not seem to succeed."""

    def write(self, text: str, /) -> int:
        """Raise OSError."""
        raise OSError(errno.EBADF, "it is closed", OUTPUT)


def say(line: str = "") -> None:
    """Print a line for people to standard output."""
    with _reported():
        click.echo(printable(line))


def data(*fields: str, gap: str) -> None:
    """Print a line of data to standard output: escaped on a terminal, else with the exact bytes of its words.

    A newline in a word is always escaped, for it would end the line.

    Parameters
    ----------
    *fields : str
    gap : str
        Stands between two fields.
    """
    stream = sys.stdout
    if stream.isatty() or not isinstance(stream, io.TextIOWrapper):
        with _reported():
            click.echo(gap.join(map(printable, fields)))
        return
    from embshrink.vocabulary.words import to_bytes

    with _reported():
        stream.flush()
        stream.buffer.write(to_bytes(gap.join(fields).replace("\n", "\\n")) + b"\n")
        stream.buffer.flush()


def print_json(value: object) -> None:
    """Print a value as JSON, in one line of ASCII, to standard output."""
    with _reported():
        click.echo(json.dumps(value))


def tell(line: str) -> None:
    """Print a message to standard error; nothing can be done if that fails."""
    try:
        click.echo(printable(line), err=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Name standard output in the error if writing to it fails.

    What is written afterwards is dropped, at exit too, so that the failure is reported once.
    """
    try:
        yield
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        error.filename = OUTPUT
        raise
