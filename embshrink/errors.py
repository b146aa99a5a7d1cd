"""The exceptions of embshrink.

::

    EmbshrinkError (a ValueError)
    +-- FormatError   an .ems file is damaged, of another kind, or too new
    +-- SourceError   an input file is malformed, or not of a format that embshrink reads
    +-- StepError     unknown method, bad parameter, wrong order of steps, or an aim that is not met
    +-- ShapeError    a method cannot work on a matrix of this shape or with these values
    +-- TargetError   the output could not be written
    |   +-- SameFileError   two paths of a call are one file
    +-- ExtraError    a package that is not installed is needed (also an ImportError)

A message says what happened, where, what was expected and found, and what to do.
A word that is missing is a plain :class:`KeyError`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

DAMAGED = "The file is damaged: download it again, or compress the source vectors again."  # a hint
LONGEST = 300  # characters shown of a value: a hostile file may hold a megabyte of it


def printable(text: object) -> str:
    r"""Return text as one line that cannot control a terminal.

    Control characters, marks that change the direction of text, other invisible characters, and bytes that are not
    UTF-8 become escapes such as ``\x1b``. Words and names in files from anyone may contain these.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
                   for char in str(text))


def shortened(value: object, most: int = LONGEST) -> str:
    """Return a value as text, of which at most `most` characters are shown."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


class EmbshrinkError(ValueError):
    """Base class of the errors that embshrink raises on purpose.

    The parameters are attributes of the exception.

    Parameters
    ----------
    problem : str
        What is wrong, in one clause.
    path : str or os.PathLike, optional
        The file that the error is about.
    where : str, optional
        The place in the file, such as ``"line 12"`` or ``"byte 345"``.
    expected, found : object, optional
        The value that was expected, and the value that was found.
    hint : str, optional
        What to do, as a full sentence.

    Examples
    --------
    >>> raise SourceError("the row is too short", path="glove.txt", where="line 12", expected=50, found=49)
    Traceback (most recent call last):
    ...
    embshrink.errors.SourceError: glove.txt: line 12: the row is too short (expected 50, found 49)
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
        sides = [f"{name} {shortened(value)}" for name, value in (("expected", self.expected), ("found", self.found))
                 if value is not None]
        if sides:
            text += f" ({', '.join(sides)})"
        return printable(f"{text}. {self.hint}" if self.hint else text)

    def located(self, path: str | os.PathLike[str]) -> Self:
        """Return this error after setting `path`, unless the error already names a file."""
        if self.path is None:
            self.path = os.fspath(path)
            self.args = (self._message(),)
        return self

    def as_dict(self) -> dict[str, str | int | float]:
        """Return the error as a dict that can be written as JSON, as ``--json`` does.

        Returns
        -------
        dict
            ``error`` (name of the class), ``problem``, ``message`` (the whole text), and those of ``path``,
            ``where``, ``expected``, ``found`` and ``hint`` that are given.
        """
        parts: dict[str, str | int | float] = {
            "error": type(self).__name__, "problem": self.problem, "message": str(self),
        }
        for name in ("path", "where", "expected", "found", "hint"):
            value = getattr(self, name)
            if value is not None:
                parts[name] = value if isinstance(value, (int, float)) else shortened(value)
        return parts


class FormatError(EmbshrinkError):
    """A file is damaged, is not an ``.ems`` file, or is of a newer version of the format."""


class SourceError(EmbshrinkError):
    """An input file is malformed, truncated, or not a word-vector file."""


class StepError(EmbshrinkError):
    """A step has an unknown method or a bad parameter, steps are in the wrong order, or an aim cannot be met."""


class ShapeError(EmbshrinkError):
    """A method cannot work on a matrix of this shape or with these values."""


class TargetError(EmbshrinkError):
    """The output could not be written; an existing file at the target is unchanged."""


class SameFileError(TargetError):
    """An output is the same file as another output or as an input, so that one of the two would be lost."""


class ExtraError(EmbshrinkError, ImportError):
    """A package is needed that is not installed; also an :class:`ImportError`."""


def need(purpose: str, *packages: str, extra: str | None = None) -> None:
    """Raise :class:`ExtraError` with the pip command unless packages are installed.

    Parameters
    ----------
    purpose : str
        What needs the packages; the message begins with it.
    *packages : str
        Names of packages, which are also the names of their modules. They are not imported.
    extra : str, optional
        The extra of embshrink that installs them, such as ``"zstd"``.

    Raises
    ------
    ExtraError
        If a package is not installed. The message names all that are missing.

    Examples
    --------
    >>> need("reading", "numpy")
    >>> need("drawing", "numpy", "no_such")
    Traceback (most recent call last):
    ...
    embshrink.errors.ExtraError: drawing needs the package no_such. Install it with: pip install no_such.
    """
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    several = len(missing) > 1
    names = " and ".join([*filter(None, [", ".join(missing[:-1])]), missing[-1]])
    wanted = f"'embshrink[{extra}]'" if extra else " ".join(missing)
    raise ExtraError(f"{purpose} needs the package{'s' if several else ''} {names}",
                     hint=f"Install {'them' if several else 'it'} with: pip install {wanted}.")
