"""The exceptions embshrink raises.

::

    EmbshrinkError (ValueError)
    +-- FormatError   an .ems file is damaged, foreign or too new
    +-- SourceError   an input file is malformed, or is not what it was taken for
    +-- StepError     unknown method, bad parameter, wrong order of steps
    +-- ShapeError    a method and a matrix do not fit each other
    +-- TargetError   the output could not be written
    +-- ExtraError    an optional package is needed and not installed

A message says where, what was expected, what was found, and what to do next.
A missing word is a plain :class:`KeyError`, as everywhere in Python.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from typing_extensions import Self

LONGEST = 300  # characters shown of what was expected or found: a hostile file may hold a megabyte of it


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


class EmbshrinkError(ValueError):
    """Base of every error embshrink raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, in one clause, with the numbers in it.
    path : str or os.PathLike, optional
        The file it is wrong in.
    where : str, optional
        The place inside the file: ``"line 12"``, ``"byte 345"``.
    expected, found : object, optional
        What should have been there and what was.
    hint : str, optional
        What the user can do next, as a full sentence.
    """

    def __init__(self, problem: str, *, path: str | os.PathLike[str] | None = None, where: str | None = None,
                 expected: object = None, found: object = None, hint: str | None = None) -> None:
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.where = where
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(self._message())

    def _message(self) -> str:
        place = ": ".join(str(part) for part in (self.path, self.where) if part is not None)
        text = f"{place}: {self.problem}" if place else self.problem
        sides = [f"{name} {_short(value)}" for name, value in (("expected", self.expected), ("found", self.found))
                 if value is not None]
        if sides:
            text += f" ({', '.join(sides)})"
        return f"{text}. {self.hint}" if self.hint else text

    def located(self, path: str | os.PathLike[str]) -> Self:
        """Return this error with `path` filled in, unless it already names a file."""
        if self.path is None:
            self.path = os.fspath(path)
            self.args = (self._message(),)
        return self

    def as_dict(self) -> dict[str, str | int | float]:
        """Return the parts as a JSON-able dict, for ``--json``."""
        parts: dict[str, str | int | float] = {
            "error": type(self).__name__, "problem": self.problem, "message": str(self),
        }
        for name in ("path", "where", "expected", "found", "hint"):
            value = getattr(self, name)
            if value is not None:
                parts[name] = value if isinstance(value, (int, float)) else _short(value)
        return parts


class FormatError(EmbshrinkError):
    """An ``.ems`` file is damaged, is not one, or was written by a newer major version."""


class SourceError(EmbshrinkError):
    """An input file is malformed, truncated, or not a word-vector file at all."""


class StepError(EmbshrinkError):
    """A step names an unknown method, has a bad parameter, or stands in the wrong order."""


class ShapeError(EmbshrinkError):
    """A method cannot work on a matrix of this shape, or on these values."""


class TargetError(EmbshrinkError):
    """The output could not be written; whatever was there before is untouched."""


class ExtraError(EmbshrinkError):
    """An optional package is needed for this and is not installed."""


def need_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise :class:`ExtraError` with the pip command.

    Parameters
    ----------
    module : str
        The module's name.
    extra : str
        The extra of embshrink that installs it.
    purpose : str
        What the module is needed for; the message begins with it.

    Returns
    -------
    module

    Raises
    ------
    ExtraError
        If the module is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraError(
            f"{purpose} needs the package {module}",
            hint=f"Install it with: pip install 'embshrink[{extra}]'",
        ) from error
