"""How far work has come: what a caller may be told of it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What is called as work goes on: a stage's name, how much of it is done, and of how much (None: not known)."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> object:
        """Take note."""


def no_progress(stage: str, done: int, total: int | None, /) -> None:
    """Ignore what is reported: the default of every `progress` parameter."""
