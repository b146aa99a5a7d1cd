"""How far work has come: what a caller may be told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Protocol):
    """What is called as work goes on: a stage's name, how much of it is done, and of how much (None: not known)."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> object:
        """Take note."""


def count_progress(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Return a function that adds up what was done and reports it: the `on_done` of `map_blocks`.

    Parameters
    ----------
    progress : Progress
    stage : str
        Name of the stage, passed on to `progress`.
    total : int
        How much there is to do.

    Returns
    -------
    callable
        ``report(count)`` reports that `count` more are done.
    """
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(stage, done, total)

    return report


class _NoProgress:
    """Ignore reports of progress; an object, so that signatures in the documentation show its name."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "no_progress"


no_progress = _NoProgress()  # the default of every `progress` parameter
