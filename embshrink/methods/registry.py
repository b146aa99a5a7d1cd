"""Methods by name, and steps as strings: ``prune:keep=50000``, ``pq:subspaces=25,rotate=opq``.

The command line takes step strings, a file's header stores them and ``info`` prints them. Importing this module
imports no method.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import types
import typing
from collections.abc import Iterable

from embshrink.errors import StepError

if typing.TYPE_CHECKING:
    from embshrink.methods.base import Step

Steps: typing.TypeAlias = "str | Step | Iterable[str | Step]"

LARGEST = 2**63  # whole numbers are smaller than this
METHODS = {
    "prune": "embshrink.methods.prune:Prune",
    "dedupe": "embshrink.methods.dedupe:Dedupe",
    "kmeans": "embshrink.methods.kmeans:KMeans",
    "rescale": "embshrink.methods.rescale:Rescale",
    "lowrank": "embshrink.methods.lowrank:LowRank",
    "ecq": "embshrink.methods.ecq.codec:ECQ",
    "pq": "embshrink.methods.pq:PQ",
    "iiq": "embshrink.methods.iiq:IIQ",
    "scalar": "embshrink.methods.scalar:Scalar",
    "rq": "embshrink.methods.rq:RQ",
    "groupreduce": "embshrink.methods.groupreduce:GroupReduce",
    "blocksparse": "embshrink.methods.blocksparse:BlockSparse",
    "tensortrain": "embshrink.methods.tensortrain:TensorTrain",
    "magnitude": "embshrink.methods.magnitude:Magnitude",
    "cast": "embshrink.methods.cast:Cast",
}
ALIASES = {
    "itq": "iiq:remove=0",
    "sign": "iiq:remove=0,center=false,rotate=none",
    "int8": "scalar:bits=8",
}
AXES = ("rows", "columns", "bits")
KINDS = {"rows": "row", "columns": "column", "bits": "bits"}  # what a step on each axis is called: "row step"


def method(name: str, *, axis: str | None = None) -> type[Step]:
    """Return the class of the method called `name`.

    Parameters
    ----------
    name : str
        A method, not an alias.
    axis : {"rows", "columns", "bits"}, optional
        The axis that the caller needs: the message for an unknown name lists only the methods of this axis. Whether
        the method found is of this axis is not checked.

    Raises
    ------
    StepError
        If there is no such method; the message lists the names that are allowed, the closest ones first.
    """
    if name not in METHODS:
        raise _unknown_method(name, axis)
    module, attribute = METHODS[name].split(":")
    cls: type[Step] = getattr(importlib.import_module(module), attribute)
    return cls


def _unknown_method(name: str, axis: str | None) -> StepError:
    """Return the error for a name that is not a method's."""
    names = [one for one in METHODS if axis is None or method(one).axis == axis]
    if name in ALIASES:  # aliases are allowed in step strings, but not here
        target, _, preset = ALIASES[name].partition(":")
        return StepError(f"{name!r} is an alias, not a method", expected=f"one of {', '.join(names)}",
                         hint=f"Use {target} with {preset.replace(',', ', ')}.")
    if axis is None:
        names += ALIASES
    listed, question = _closest_first(name, names)
    if "=" in name:
        question = "Write parameters after the method and a colon, such as prune:keep=5000, without spaces."
    kind = "method" if axis is None else f"{KINDS[axis]} method"
    return StepError(f"unknown {kind} {name!r}", expected=listed,
                     hint=question or "List all methods with: embshrink methods")


def _closest_first(name: str, names: Iterable[str]) -> tuple[str, str]:
    """Return ``one of ...``, with the names most like `name` first, and a question for the closest one, or ""."""
    import difflib

    names = list(names)
    close = difflib.get_close_matches(name.lower(), names, 3)
    listed = [*close, *(one for one in names if one not in close)]
    return f"one of {', '.join(listed)}", f"Did you mean {close[0]}?" if close else ""


def name_of(step: Step) -> str:
    """Return the name under which a step's class is registered."""
    target = f"{type(step).__module__}:{type(step).__qualname__}"
    for name, place in METHODS.items():
        if place == target:
            return name
    raise StepError(f"{type(step).__qualname__} is not a registered method",
                    expected="a step string or an object of a method's class",
                    hint="Pass for example 'pq:subspaces=25'.")


@dataclasses.dataclass(repr=False)
class Parameter:
    """One parameter of a method: its name, type, default and allowed values.

    Parameters
    ----------
    name : str
    hint : type
        The annotation: ``int``, ``float``, ``bool`` or ``str``, or a union of one of them and None.
    default : object
        None: the default is chosen from the table's shape.
    help, choices, low, high
        As for `embshrink.methods.base.param`.
    """

    name: str
    hint: object
    default: object
    help: str
    choices: tuple[object, ...] | None = None
    low: float | None = None
    high: float | None = None

    @property
    def type(self) -> object:
        """The type without ``None``."""
        if isinstance(self.hint, types.UnionType) or typing.get_origin(self.hint) is typing.Union:
            return next(part for part in typing.get_args(self.hint) if part is not type(None))
        return self.hint

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return "|".join(map(str, self.choices))
        if self.type is bool:
            return "true|false"
        kind = "whole number" if self.type is int else "number" if self.type is float else "text"
        low = "" if self.low is None else f" >= {self.low:g}"
        high = "" if self.high is None else f" <= {self.high:g}"
        return f"{kind}{low}{' and' if low and high else ''}{high}"

    def parse(self, text: str) -> object:
        """Convert text to this parameter's type; pass the result to `check`.

        Raises
        ------
        ValueError, KeyError
            If the text cannot be converted.
        """
        if text == "auto" and self.default is None:
            return None
        if self.type is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if self.type is int:
            return int(text.replace("_", ""))
        return float(text) if self.type is float else text

    def check(self, value: object) -> object:
        """Return `value` as this parameter's type.

        Raises
        ------
        ValueError
            If the value has another type or is not allowed.
        """
        if value is None and self.default is None:
            return None
        if self.type is float and type(value) is int and abs(value) < LARGEST:
            value = float(value)
        if type(value) is not self.type or (self.choices and value not in self.choices):
            raise ValueError(value)
        if isinstance(value, (int, float)) and not self._in_range(value):
            raise ValueError(value)
        return value

    def _in_range(self, value: float) -> bool:
        """Whether a number is in the allowed range; NaN and infinity never are."""
        return ((self.low is None or value >= self.low) and (self.high is None or value <= self.high)
                and (abs(value) < LARGEST if type(value) is int else math.isfinite(value)))


def parameters(cls: type[Step]) -> list[Parameter]:
    """Return the parameters of a method's class, in the order of their declaration."""
    hints = typing.get_type_hints(cls)
    return [Parameter(field.name, hints[field.name], field.default, **field.metadata)
            for field in _fields(cls)]


def _fields(cls: type[Step]) -> tuple[dataclasses.Field[object], ...]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    return dataclasses.fields(cls)


def _values(step: Step) -> dict[str, object]:
    """Return the values of a step's parameters, by name, in order."""
    return {field.name: getattr(step, field.name) for field in _fields(type(step))}


@dataclasses.dataclass(frozen=True)
class MethodInfo:
    """The description of a method, as printed by ``embshrink methods``.

    Parameters
    ----------
    name : str
        The method's name, with which a step string begins.
    axis : {"rows", "columns", "bits"}
        What the method reduces: the stored rows, the numbers of a row, or the bits of a number.
    source : str
        The literature or software that the method follows.
    text : str
        One summary line; for nearly all methods, more text after an empty line.
    parameters : tuple of Parameter
        In the order of their declaration.
    """

    name: str
    axis: str
    source: str
    text: str
    parameters: tuple[Parameter, ...]

    def as_dict(self) -> dict[str, object]:
        """Return a JSON-able dict; each parameter has ``name``, ``default``, ``allowed`` and ``help``."""
        return {
            "name": self.name, "axis": self.axis, "source": self.source, "text": self.text,
            "parameters": [{"name": one.name, "default": one.default, "allowed": one.allowed, "help": one.help}
                           for one in self.parameters],
        }


def describe(name: str) -> MethodInfo:
    """Return the description of a method, or of the method that an alias stands for.

    Raises
    ------
    StepError
        If there is no such method or alias.
    """
    import inspect

    name = ALIASES.get(name, name).partition(":")[0]
    cls = method(name)
    text = inspect.cleandoc(cls.__doc__ or "").split("\nNotes\n")[0].strip()
    return MethodInfo(name, cls.axis, cls.source, text, tuple(parameters(cls)))


def list_methods(*names: str) -> list[MethodInfo]:
    """Return the descriptions of methods.

    Parameters
    ----------
    *names : str
        Methods or aliases; all methods by default.

    Returns
    -------
    list of MethodInfo

    Raises
    ------
    StepError
        If a name is neither a method nor an alias.

    Examples
    --------
    >>> [info.name for info in list_methods() if info.axis == "columns"]
    ['rescale', 'lowrank']
    """
    return [describe(name) for name in names or METHODS]


def make(name: str, **values: object) -> Step:
    """Return a step, given the name of its method and the values of parameters.

    Parameters
    ----------
    name : str
        A method, not an alias.
    **values : object
        Values of parameters; the others have their defaults.

    Raises
    ------
    StepError
        If the method or a parameter is unknown, or a value is not allowed.
    """
    cls = method(name)
    known = {parameter.name: parameter for parameter in parameters(cls)}
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            listed, question = _closest_first(key, known)
            raise StepError(f"{name} has no parameter {key!r}", expected=listed if known else "no parameters",
                            hint=f"{question} {_see(name)}".strip() if known else f"Leave out {key}.")
        try:
            checked[key] = known[key].check(value)
        except (ValueError, TypeError) as error:
            raise StepError(f"{name} cannot take {key}={value}", expected=known[key].allowed,
                            hint=_see(name)) from error
    return cls(**checked)


def _see(name: str) -> str:
    """Return the hint that tells where a method's parameters are described."""
    return f"Show the parameters of {name} with: embshrink methods {name}"


def parse(text: str) -> Step:
    """Return the step that a string describes.

    Parameters
    ----------
    text : str
        ``name`` or ``name:key=value,key=value``. The name may be an alias, which stands for a method and the values
        of some of its parameters.

    Returns
    -------
    Step
        Parameters that the string does not set have their defaults.

    Raises
    ------
    StepError
        If the string is malformed, the method or a parameter is unknown, a value is not allowed, or a parameter is
        set twice.

    Examples
    --------
    >>> parse("cast:dtype=float32")
    Cast(dtype='float32')
    """
    typed, colon, rest = text.strip().partition(":")
    name = typed
    if name in ALIASES:
        name, _, preset = ALIASES[name].partition(":")
        rest, colon = f"{preset},{rest}" if colon else preset, ":"
    known = {parameter.name: parameter for parameter in parameters(method(name))}
    values: dict[str, object] = {}
    for part in rest.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise StepError(f"cannot read {part!r} in step {text!r}", expected="name:key=value,key=value",
                            hint=_see(name))
        if key in values:
            raise StepError(f"{key} is given twice in step {text!r}",
                            hint=_set_by_alias(typed) or f"Give {key} once.")
        try:
            values[key] = known[key].parse(value) if key in known else value
        except (ValueError, KeyError) as error:
            raise StepError(f"{name} cannot take {key}={value}", expected=known[key].allowed,
                            hint=_see(name)) from error
    return make(name, **values)


def _set_by_alias(name: str) -> str:
    """Return the hint that says what an alias stands for; "" if `name` is not an alias."""
    if name not in ALIASES:
        return ""
    return f"{name} stands for {ALIASES[name]}: use {ALIASES[name].partition(':')[0]} to set other values."


def format(step: Step) -> str:
    """Return the step string of a step, with the parameters that differ from their defaults.

    Examples
    --------
    >>> format(parse("pq:rotate=none,subspaces=25"))
    'pq:subspaces=25'
    """
    parts = []
    for field, (name, value) in zip(_fields(type(step)), _values(step).items()):
        if value != field.default:
            if isinstance(value, bool):
                value = str(value).lower()
            elif isinstance(value, float) and value.is_integer():
                value = int(value)
            parts.append(f"{name}={value}")
    return name_of(step) + (":" + ",".join(parts) if parts else "")


def as_steps(steps: Steps) -> list[Step]:
    """Return a list of steps from step strings, steps, or a mixture of both; check parameters and order.

    Parameters
    ----------
    steps : str, Step, or iterable of these

    Returns
    -------
    list of Step

    Raises
    ------
    StepError
        If an item is not a step, a parameter is wrong, or the order is not row steps, then column steps, then at
        most one bits step.
    """
    listed = [steps] if isinstance(steps, str) or not isinstance(steps, Iterable) else steps
    made: list[Step] = []
    for step in listed:
        if isinstance(step, str):
            step = parse(step)
        else:
            make(name_of(step), **_values(step))
        made.append(step)
    for before, after in zip(made, made[1:]):
        if AXES.index(before.axis) > AXES.index(after.axis):
            first, last = name_of(before), name_of(after)
            raise StepError(f"{last}, a {KINDS[after.axis]} step, comes after {first}, a {KINDS[before.axis]} step",
                            expected="row steps, then column steps, then at most one bits step",
                            hint=f"Put {last} before {first}.")
    bits = [name_of(step) for step in made if step.axis == "bits"]
    if len(bits) > 1:
        raise StepError("only one bits step is allowed", found=" and ".join(bits), hint="Give one of them.")
    return made
