"""Atomic writing of files and folders: the target is complete, or unchanged."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Protocol

from embshrink.errors import EmbshrinkError, TargetError
from embshrink.storage.renames import exchange, rename_new

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    StrPath = str | os.PathLike[str]

STALE_SECONDS = 24 * 3600
_TEMPORARY = re.compile(r"\.(?P<target>.+)\.[0-9]+\.[0-9a-f]{8}\.(?P<kind>tmp|old)", re.DOTALL)  # see _names_for
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


def _target_error(error: OSError, target: StrPath, old: str | None = None) -> TargetError:
    """Return the error of a target that could not be written; `old` is where its folder may have been left."""
    if isinstance(error, FileExistsError):
        return TargetError("the target exists", path=target, hint=EXISTS)
    hint = "Nothing was changed: check free space and permissions, or choose another target."
    if old is not None and os.path.isdir(old):
        hint = f"The folder that was there is now {old}: rename it back, and try again."
    return TargetError(f"cannot write: {error.strerror or error}", path=target, hint=hint)


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
    _remove_stale(os.path.dirname(target))
    temporary, _ = _names_for(target)
    file = None
    try:
        file = _create(temporary, path)
        yield _CheckedFile(file, path)
        _finish(file, path)
        if check is not None:
            _check(check, temporary, path)
        try:
            (os.replace if force else rename_new)(temporary, target)
        except OSError as error:
            raise _target_error(error, path) from error
        _sync_folder(os.path.dirname(target))
    except BaseException:
        if file is not None:
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


def _names_for(target: str) -> tuple[str, str]:
    """Return new names beside a target: for what is being written, and for what it replaces."""
    folder, name = os.path.split(target)
    stem = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
    return f"{stem}.tmp", f"{stem}.old"


def _create(name: str, target: StrPath) -> BinaryIO:
    """Create a file and open it for writing."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise _target_error(error, target) from error
    return os.fdopen(descriptor, "wb")


def _finish(file: BinaryIO, target: StrPath) -> None:
    """Write a file to disk, and close it."""
    try:
        file.flush()
        os.fsync(file.fileno())
        file.close()
    except OSError as error:
        raise _target_error(error, target) from error


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
    Where the system cannot exchange two folders (Linux can, on most file systems), the old folder is renamed before
    the new one takes its name. If the process is killed in between, the target does not exist, and the old folder is
    beside it as ``.NAME.PID.HEX.old``.
    """
    _check_folder_target(path, names, force)
    target = os.path.realpath(path)
    _remove_stale(os.path.dirname(target))
    temporary, old = _names_for(target)

    @contextlib.contextmanager
    def create(name: str) -> Iterator[Output]:
        file = _create(os.path.join(temporary, name), path)
        try:
            yield _CheckedFile(file, path)
            _finish(file, path)
        finally:
            with contextlib.suppress(OSError):
                file.close()

    try:
        try:
            os.mkdir(temporary)
        except OSError as error:
            raise _target_error(error, path) from error
        yield create
        _sync_folder(temporary)
        try:
            _place_folder(temporary, target, old, force)
        except OSError as error:
            raise _target_error(error, path, old) from error
        _sync_folder(os.path.dirname(target))
    finally:
        _remove_folder(temporary, names)  # after an exchange, what was there before
        if os.path.lexists(target):
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


def _place_folder(temporary: str, target: str, old: str, force: bool) -> None:
    """Give a folder its name. What had the name before is at `temporary` or `old` then."""
    try:
        rename_new(temporary, target)
    except FileExistsError:
        if not force:
            raise
        if not exchange(temporary, target):
            _replace_in_two_steps(temporary, target, old)


def _replace_in_two_steps(temporary: str, target: str, old: str) -> None:
    """Rename `target` to `old`, and `temporary` to `target`; undo the first on a failure of the second."""
    try:
        os.rename(target, old)
        os.rename(temporary, target)
    except BaseException:
        if not os.path.lexists(target):
            with contextlib.suppress(OSError):  # then the error says where the old folder is
                os.rename(old, target)
        raise


def _remove_folder(folder: str, names: Iterable[str]) -> None:
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


def _remove_stale(folder: str) -> None:
    """Remove temporary files and folders that are a day old or more: their writers were killed.

    A folder that was renamed to make room for a new one stays while its target does not exist: it is the only copy.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)  # exact: a user's files may have similar names
            if found and (found["kind"] == "tmp" or os.path.lexists(os.path.join(folder, found["target"]))):
                with contextlib.suppress(OSError):
                    _remove_if_stale(entry.path)


def _remove_if_stale(path: str) -> None:
    status = os.lstat(path)
    inside = os.listdir(path) if stat.S_ISDIR(status.st_mode) else []
    times = [status.st_mtime, *(os.lstat(os.path.join(path, name)).st_mtime for name in inside)]
    if time.time() - max(times) <= STALE_SECONDS:
        return
    if stat.S_ISDIR(status.st_mode):
        _remove_folder(path, inside)
    elif stat.S_ISREG(status.st_mode):
        os.unlink(path)
