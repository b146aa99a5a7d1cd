"""Whether paths name one file, through links and relative names."""

from __future__ import annotations

import itertools
import os
import stat
from typing import TYPE_CHECKING

from embshrink.errors import SameFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Identity = tuple[str | int, ...]


def check_distinct(outputs: Mapping[str, object], inputs: Mapping[str, object]) -> None:
    """Check that no output of a call is the same file as another output, or as an input.

    Parameters
    ----------
    outputs, inputs : dict of str to object
        What each path is called in messages, and the path. A value that is no path, such as None or vectors in
        memory, is left out. The input ``"-"`` is standard input.

    Raises
    ------
    SameFileError
        If two paths are one file, also through symbolic links and hard links, or would be one once it exists.
    """
    written = {name: _identity(path) for name, path in outputs.items() if isinstance(path, (str, os.PathLike))}
    read = {name: _of_input(path) for name, path in inputs.items() if isinstance(path, (str, os.PathLike))}
    pairs = itertools.chain(itertools.combinations(written, 2), itertools.product(written, read))
    for one, other in pairs:
        if written[one] == {**read, **written}[other]:
            raise SameFileError(f"{one} is the same file as {other}", path=str(outputs[one]),
                                hint="Choose another path: one of the two would be lost.")


def _of_input(path: str | os.PathLike[str]) -> Identity | None:
    if path != "-":
        return _identity(path)
    try:
        status = os.fstat(0)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _identity(path: str | os.PathLike[str]) -> Identity:
    """Return what is equal for all paths of one file, whether it exists or not."""
    try:
        status = os.stat(path)
        return status.st_dev, status.st_ino
    except OSError:
        folder, name = os.path.split(os.path.realpath(path))
    name = os.path.normcase(name)
    try:
        status = os.stat(folder)
    except OSError:
        return folder, name
    return status.st_dev, status.st_ino, name
