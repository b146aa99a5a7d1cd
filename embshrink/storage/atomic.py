"""Files and folders that appear whole, or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from typing import TYPE_CHECKING, Protocol

from embshrink.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    StrPath = str | os.PathLike[str]

STALE_SECONDS = 24 * 3600


class Output(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes; return how many. Raises TargetError if that fails."""


class _CheckedFile:
    """A file whose write errors are `TargetError`, so that they are not taken for errors of reading."""

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
                       hint="Nothing was changed; free some space or choose another place, and run it again.")


def check_target(path: StrPath, force: bool = False) -> None:
    """Refuse a target that exists (unless `force`), or that cannot be a file.

    Parameters
    ----------
    path : str or os.PathLike
    force : bool

    Raises
    ------
    TargetError
        If the target is there and `force` is false, is a folder or a device, or its folder is missing.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise TargetError("the target is a folder", path=path, hint="Name a file in it.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise TargetError("the target is not a regular file", path=path, hint="Name a file.")
    if os.path.exists(path) and not force:
        raise TargetError("the target exists", path=path, hint="Use --force (force=True) to replace it.")
    if not os.path.isdir(folder):
        raise TargetError("the target's folder does not exist", path=path, hint="Create it first.")


@contextlib.contextmanager
def atomic_write(path: StrPath, *, force: bool = False,
                 check: Callable[[str], object] | None = None) -> Iterator[Output]:
    """Write a file so that it appears whole, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    force : bool
        Replace an existing file.
    check : callable, optional
        Called with the path of the temporary file after it is on disk and before it is put in
        place. If it raises, the target stays as it was.

    Yields
    ------
    Output
        An object with ``write(bytes)``.

    Raises
    ------
    TargetError
        If the target exists and `force` is false, or writing fails. The target is then as it
        was and no temporary is left.
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
            check(temporary)
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise _target_error(error, path) from error
        _sync_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()  # writes what is buffered, and so fails again where the disk is full
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def atomic_folder(path: StrPath, names: Collection[str], *, force: bool = False,
                  ) -> Iterator[Callable[[str], AbstractContextManager[Output]]]:
    """Write a folder of files so that it appears whole, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    names : collection of str
        Files that the folder may have. An existing folder with anything else in it is not replaced.
    force : bool
        Replace an existing folder.

    Yields
    ------
    callable
        ``create(name)`` is a context manager that yields an `Output`.

    Raises
    ------
    TargetError
        If the target exists and `force` is false, if it is a file or a folder with other files, or if writing fails.
        The target is then as it was and no temporary folder is left.

    Notes
    -----
    No system call replaces a folder: for a moment, after the old one was moved away, there is none.
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
            raise TargetError("the target is a folder that holds other things", path=path,
                              expected=f"a new folder, or one with {', '.join(names)} alone",
                              found=", ".join(others[:5]), hint="Name another folder.")
        if not force:
            raise TargetError("the target exists", path=path, hint="Use --force (force=True) to replace it.")
    elif os.path.lexists(path):
        raise TargetError("the target is a file, and this format is a folder", path=path, hint="Name another.")
    elif not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        raise TargetError("the target's folder does not exist", path=path, hint="Create it first.")


def _replace_folder(temporary: str, target: str, old: str, path: StrPath) -> None:
    """Move a new folder to `target`, and a folder that is there to `old`; put that back on failure."""
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
    """Remove the files `names` of a folder, and the folder if it is empty then."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _sync_folder(folder: str) -> None:
    """Write a folder's entries to disk, so that a new name survives a power cut; errors are ignored."""
    if os.name != "posix":  # Windows cannot open a folder
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: str, name: str) -> None:
    """Remove temporary files that a killed writer of the same target left a day ago or more."""
    pattern = f".{glob.escape(name)}.[0-9]*.{'[0-9a-f]' * 8}.tmp"  # strict: a user's files may look similar
    for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > STALE_SECONDS:
                os.unlink(path)
