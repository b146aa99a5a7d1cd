"""Atomic writing of files and folders: the target is complete, or unchanged."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from typing import TYPE_CHECKING, Protocol

from embshrink.errors import EmbshrinkError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    StrPath = str | os.PathLike[str]

STALE_SECONDS = 24 * 3600
EXISTS = "Choose another target, or use --force (force=True) to replace it."  # the hint


class Output(Protocol):
    """A file to write bytes to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes and return their number; raise TargetError if that fails."""


class _CheckedFile:
    """A file that raises `TargetError` for write errors, to tell them from read errors."""

    def __init__(self, file: BinaryIO, target: StrPath) -> None:
        self._file = file
        self._target = target

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise _target_error(error, self._target) from error


def _target_error(error: OSError, target: StrPath) -> TargetError:
    return TargetError(f"cannot write: {error.strerror or error}", path=target,
                       hint="Nothing was changed: check free space and permissions, or choose another target.")


def check_target(path: StrPath, force: bool = False) -> None:
    """Check that a file can be written to `path`.

    Parameters
    ----------
    path : str or os.PathLike
        The target.
    force : bool
        Accept an existing file; False by default.

    Raises
    ------
    TargetError
        If the target exists and `force` is false, is a folder or a device, or its folder does not exist.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise TargetError("the target is a folder", path=path, hint="Give the path of a file.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise TargetError("the target is not a regular file", path=path, hint="Give the path of a file.")
    if os.path.exists(path) and not force:
        raise TargetError("the target exists", path=path, hint=EXISTS)
    if not os.path.isdir(folder):
        raise TargetError("the target's folder does not exist", path=path, hint="Create it first.")


@contextlib.contextmanager
def atomic_write(path: StrPath, *, force: bool = False,
                 check: Callable[[str], object] | None = None) -> Iterator[Output]:
    """Write a file atomically: it is complete, or the target is unchanged.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    force : bool
        Replace an existing file.
    check : callable, optional
        Called with the path of the temporary file, after that is on disk and before it replaces the target. If it
        raises, the target is unchanged.

    Yields
    ------
    Output
        An object with ``write(bytes)``.

    Raises
    ------
    TargetError
        If the target exists and `force` is false, or writing fails. Then the target is unchanged and no temporary
        file is left.
    """
    check_target(path, force)
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    _remove_stale(folder, name)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise _target_error(error, path) from error
    file = os.fdopen(descriptor, "wb")
    try:
        yield _CheckedFile(file, path)
        try:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        except OSError as error:
            raise _target_error(error, path) from error
        if check is not None:
            _check(check, temporary, path)
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise _target_error(error, path) from error
        _sync_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()  # writes the buffer, and so fails again if the disk is full
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _check(check: Callable[[str], object], temporary: str, path: StrPath) -> None:
    """Check a temporary file; an error names the target, which is what the user knows."""
    try:
        check(temporary)
    except EmbshrinkError as error:
        if error.path == temporary:
            error.path = None
        raise error.located(path) from error.__cause__


@contextlib.contextmanager
def atomic_folder(path: StrPath, names: Collection[str], *, force: bool = False,
                  ) -> Iterator[Callable[[str], AbstractContextManager[Output]]]:
    """Write a folder of files atomically: it is complete, or the target is unchanged.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    names : collection of str
        Names of the files. An existing folder with other files is not replaced.
    force : bool
        Replace an existing folder.

    Yields
    ------
    callable
        ``create(name)`` is a context manager that yields an `Output`.

    Raises
    ------
    TargetError
        If the target exists and `force` is false, is a file or a folder with other files, or if writing fails. Then
        the target is unchanged and no temporary folder is left.

    Notes
    -----
    No system call replaces a folder: for a moment, between two renames, the target does not exist.
    """
    _check_folder_target(path, names, force)
    target = os.path.realpath(path)
    parent, name = os.path.split(target)
    stem = os.path.join(parent, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
    temporary, old = f"{stem}.tmp", f"{stem}.old"

    @contextlib.contextmanager
    def create(name: str) -> Iterator[Output]:
        try:
            file = open(os.path.join(temporary, name), "wb")
        except OSError as error:
            raise _target_error(error, path) from error
        try:
            yield _CheckedFile(file, path)
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise _target_error(error, path) from error
        finally:
            with contextlib.suppress(OSError):
                file.close()

    try:
        os.mkdir(temporary)
    except OSError as error:
        raise _target_error(error, path) from error
    try:
        yield create
        _sync_folder(temporary)
        _replace_folder(temporary, target, old, path)
    except BaseException:
        _remove_folder(temporary, names)
        raise
    _sync_folder(parent)
    _remove_folder(old, names)


def _check_folder_target(path: StrPath, names: Collection[str], force: bool) -> None:
    path = os.fspath(path)
    if os.path.isdir(path):
        others = sorted(set(os.listdir(path)) - set(names))
        if others:
            raise TargetError("the target is a folder with other files", path=path,
                              expected=f"a new folder, or one with only {', '.join(names)}",
                              found=", ".join(others[:5]), hint="Choose another folder.")
        if not force:
            raise TargetError("the target exists", path=path, hint=EXISTS)
    elif os.path.lexists(path):
        raise TargetError("the target is a file, but this format is a folder", path=path,
                          hint="Choose another target.")
    elif not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        raise TargetError("the target's folder does not exist", path=path, hint="Create it first.")


def _replace_folder(temporary: str, target: str, old: str, path: StrPath) -> None:
    """Rename an existing `target` to `old`, and `temporary` to `target`; undo the first rename on failure."""
    try:
        if os.path.isdir(target):
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            if os.path.isdir(old):
                os.rename(old, target)
            raise
    except OSError as error:
        raise _target_error(error, path) from error


def _remove_folder(folder: str, names: Collection[str]) -> None:
    """Remove the files `names` of a folder, and then the folder if it is empty."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _sync_folder(folder: str) -> None:
    """Write the entries of a folder to disk, so that a new name survives a power failure; errors are ignored."""
    if os.name != "posix":  # Windows cannot open a folder
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: str, name: str) -> None:
    """Remove temporary files of the same target that are a day old or more: their writer was killed."""
    pattern = f".{glob.escape(name)}.[0-9]*.{'[0-9a-f]' * 8}.tmp"  # exact: a user's files may have similar names
    for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > STALE_SECONDS:
                os.unlink(path)
