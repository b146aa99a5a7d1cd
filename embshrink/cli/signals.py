"""Signals that end a command: what is half done is cleaned up, as after Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ENDING = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The process was told to end; everything that cleans up after Ctrl-C cleans up after this.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _stop(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` for SIGTERM and SIGHUP, which would end the process at once; as long as the block runs.

    A signal that is ignored stays so (nohup), and another program's handler stays in place.
    """
    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():  # others may not set handlers
        ours = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def outcome(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return what to print after a command was stopped, and its exit code: 128 and the number of the signal."""
    if isinstance(error, Terminated):
        return "terminated", 128 + error.number
    return "interrupted", 128 + signal.SIGINT
