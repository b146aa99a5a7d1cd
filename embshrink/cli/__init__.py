"""The command line."""


def main():
    """Run the command line."""
    from embshrink.cli.commands import main

    main()
