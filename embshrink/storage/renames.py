"""Renames that replace nothing or exchange two names, with what the system and the file system offer."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_REPLACE, _EXCHANGE = 1, 2  # flags of renameat2(2) in Linux
_HERE = -100  # AT_FDCWD: relative paths begin at the working directory
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
# What a kernel, a sandbox or a file system answers that does not have an operation.
_MISSING = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK}


def rename_new(source: str, target: str) -> None:
    """Rename a file or folder to a name that is free; of several processes that do so at once, one succeeds.

    Where the file system can neither rename without replacing nor link, the free name is first taken by an empty
    file or folder, and then replaced. A process that is killed in between leaves it empty.

    Parameters
    ----------
    source, target : str
        Paths on one file system.

    Raises
    ------
    FileExistsError
        If `target` exists.
    OSError
        If the system reports another error; then nothing has changed.
    """
    if sys.platform == "win32":
        os.rename(source, target)  # replaces nothing there
        return
    if _tried(renameat2, source, target, _NO_REPLACE):
        return
    if not os.path.isdir(source) and _tried(os.link, source, target):
        with contextlib.suppress(OSError):  # the file has its name, whatever becomes of the other
            os.unlink(source)
    else:
        _take_and_replace(source, target)


def exchange(first: str, second: str) -> bool:
    """Exchange the names of two files or folders in one step.

    Returns
    -------
    bool
        False if the system or the file system cannot do this; then nothing has changed.

    Raises
    ------
    OSError
        If the system reports another error.
    """
    return _tried(renameat2, first, second, _EXCHANGE)


def renameat2(source: str, target: str, flags: int) -> None:
    """Rename with the flags of Linux's renameat2; OSError with ENOSYS if there is no such call."""
    call = _system_call()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    call(os.fsencode(source), os.fsencode(target), flags)


@functools.cache
def _system_call() -> Callable[[bytes, bytes, int], None] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # takes milliseconds, which reading does not need

    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # an old or another C library
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def call(source: bytes, target: bytes, flags: int) -> None:
        if function(_HERE, source, _HERE, target, flags) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fsdecode(source), None, os.fsdecode(target))

    return call


def _tried(call: Callable[..., object], source: str, target: str, *rest: int) -> bool:
    """Make a call that may be missing, and return whether it was there."""
    try:
        call(source, target, *rest)
    except OSError as error:
        if error.errno in _TAKEN:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        if error.errno in _MISSING:
            return False
        raise
    return True


def _take_and_replace(source: str, target: str) -> None:
    """Take a free name by an empty file or folder, and replace that; free the name again if this fails."""
    folder = os.path.isdir(source)
    descriptor = None
    if folder:
        os.mkdir(target)
    else:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        if descriptor is not None:
            os.close(descriptor)
        os.replace(source, target)
    except BaseException:
        with contextlib.suppress(OSError):
            (os.rmdir if folder else os.unlink)(target)
        raise
