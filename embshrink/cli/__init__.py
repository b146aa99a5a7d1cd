"""The command line. Importing it costs next to nothing: the commands are imported by `main`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from embshrink.cli.commands import cli

    cli(prog_name="embshrink")
