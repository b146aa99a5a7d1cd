"""The command line. Importing this package is fast, because only `main` imports the commands."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line."""
    try:
        from embshrink.cli.commands import cli

        _prepare_output()
        cli(prog_name="embshrink")
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("Error: the embshrink command needs the package click. Install it with: pip install click")
    except OSError as error:  # --help and --version come here; commands have their own messages
        sys.exit(f"Error: {error.filename or 'standard output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare_output() -> None:
    """Let any text be written to standard output and standard error, whether they are open or not."""
    from embshrink.cli.output import ClosedOutput

    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every encoding has every word
