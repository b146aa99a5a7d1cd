"""The command line. Importing it costs next to nothing: the commands are imported by `main`."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line."""
    try:
        from embshrink.cli.commands import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("Error: the embshrink command needs the package click. Install it with: pip install click")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")  # not every encoding has every word
    cli(prog_name="embshrink")
