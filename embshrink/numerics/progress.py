"""Progress reports: how a function tells its caller how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Protocol):
    """A function that is called as work goes on: stage, units done, and units in total (None: not known)."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> object:
        """Receive one report."""


def count_progress(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Return a function that sums up the units done and reports them: the `on_done` of `map_blocks`.

    Parameters
    ----------
    progress : Progress
    stage : str
        Name of the stage.
    total : int
        Units in total.

    Returns
    -------
    callable
        ``report(count)`` reports that `count` more units are done.
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
