"""Opening files to read: devices, sockets and pipes to which nothing is written are refused, so that nothing hangs.

Every file that a user names is opened here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, BinaryIO

from embshrink.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Buffer

PATIENCE = 2.0  # seconds to wait for a program that writes to a pipe
PAUSE = 0.02  # seconds between two looks at it


class _Pipe(io.RawIOBase):
    """A pipe of which the first byte was read, to see whether a program writes to it."""

    def __init__(self, descriptor: int, first: bytes) -> None:
        self._descriptor, self._first = descriptor, first

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Read the next bytes into `buffer`; return their number, 0 at the end."""
        view = memoryview(buffer)
        data = self._first[: len(view)] or os.read(self._descriptor, len(view))
        self._first = self._first[len(data) :]
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the pipe."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_input(path: str | os.PathLike[str], *, pipes: bool = False) -> io.RawIOBase:
    """Open a file to read, unbuffered.

    Parameters
    ----------
    path : str or os.PathLike
    pipes : bool, default False
        Accept a pipe, such as that of ``<(zcat file)`` in a shell, and a terminal, which can be read once only.

    Returns
    -------
    io.RawIOBase

    Raises
    ------
    OSError
        If it cannot be opened, or is neither a file nor what `pipes` accepts.
    ValueError
        If the path has a NUL.
    """
    mode = os.stat(path).st_mode
    if pipes and stat.S_ISFIFO(mode):
        return _open_pipe(path)
    kinds = ((stat.S_ISFIFO, "a pipe, and a file is needed"), (stat.S_ISSOCK, "a socket"),
             (stat.S_ISBLK, "a device"), (stat.S_ISCHR, "a device"))
    kind = next((what for test, what in kinds if test(mode)), None)
    if kind == "a device" and os.path.realpath(path) == os.path.realpath(os.devnull):
        kind = None  # empty
    if kind is not None and not (pipes and _is_terminal(path, mode)):
        raise OSError(errno.EINVAL, f"it is {kind}", os.fspath(path))
    file = open(path, "rb", buffering=0)
    if stat.S_ISREG(mode) and not os.fstat(file.fileno()).st_size and file.read(1):  # as files of /proc do
        file.close()
        raise OSError(errno.EINVAL, "it has content although its size is 0, so it is not an ordinary file",
                      os.fspath(path))
    return file


def read_input(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """Return the content of a small file, a pipe too: all of it, or at most the first `most` bytes.

    Raises
    ------
    OSError
        As `open_input`, or if it cannot be read.
    """
    try:
        with io.BufferedReader(open_input(path, pipes=True)) as file:
            return file.read(most)
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error


def standard_input() -> BinaryIO:
    """Return standard input as a binary file; raise SourceError if it is closed."""
    if sys.stdin is None:
        raise SourceError("standard input is closed", path="<stdin>", hint="Pipe a file into the command.")
    return sys.stdin.buffer


def _is_terminal(path: str | os.PathLike[str], mode: int) -> bool:
    if not stat.S_ISCHR(mode):
        return False
    with open(path, "rb", buffering=0) as file:
        return file.isatty()


def _open_pipe(path: str | os.PathLike[str]) -> _Pipe:
    """Open a pipe once a program writes to it; a plain `open` would wait for one for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        first, end = b"", time.monotonic() + PATIENCE
        while not first and time.monotonic() < end:
            try:
                first = os.read(descriptor, 1)  # nothing, if no program writes
            except BlockingIOError:  # a program has opened the pipe, and has written nothing yet
                break
            if not first:
                time.sleep(PAUSE)
        else:
            if not first:
                raise OSError(errno.EPIPE, "it is a pipe, and no program writes to it", os.fspath(path))
        os.set_blocking(descriptor, True)
        return _Pipe(descriptor, first)
    except BaseException:
        os.close(descriptor)
        raise
