"""Methods by name, and steps as strings: ``prune:keep=50000``, ``pq:subspaces=25,rotate=opq``.

A step string is what the command line takes, what the file's header keeps and what ``info``
prints. Importing this module imports no method.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterable

from embshrink.errors import StepError

if typing.TYPE_CHECKING:
    from embshrink.methods.base import Step

Steps: typing.TypeAlias = "str | Step | Iterable[str | Step]"

METHODS = {
    "prune": "embshrink.methods.prune:Prune",
    "dedupe": "embshrink.methods.dedupe:Dedupe",
    "kmeans": "embshrink.methods.kmeans:KMeans",
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


def method(name: str) -> type[Step]:
    """Return the class of the method called `name`.

    Raises
    ------
    StepError
        If there is none; the message lists what there is.
    """
    if name not in METHODS:
        import difflib

        close = difflib.get_close_matches(name, [*METHODS, *ALIASES], 1)
        raise StepError(f"unknown method {name!r}", expected=f"one of {', '.join([*METHODS, *ALIASES])}",
                        hint=f"Did you mean {close[0]}?" if close else "See: embshrink methods")
    module, attribute = METHODS[name].split(":")
    cls: type[Step] = getattr(importlib.import_module(module), attribute)
    return cls


def name_of(step: Step) -> str:
    """Return the name under which a step's class is registered."""
    target = f"{type(step).__module__}:{type(step).__qualname__}"
    for name, place in METHODS.items():
        if place == target:
            return name
    raise StepError(f"{type(step).__qualname__} is not a registered method")


@dataclasses.dataclass(repr=False)
class Parameter:
    """One parameter of a method: its name, type, default, and what it may be.

    Parameters
    ----------
    name : str
    hint : type
        As annotated: ``int``, ``float``, ``bool`` or ``str``, or one of them or None.
    default : object
        None means: chosen from the table's shape.
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
        """What a value may be, in words."""
        if self.choices:
            return "|".join(map(str, self.choices))
        if self.type is bool:
            return "true|false"
        kind = "whole number" if self.type is int else "number" if self.type is float else "text"
        low = "" if self.low is None else f" >= {self.low:g}"
        high = "" if self.high is None else f" <= {self.high:g}"
        return f"{kind}{low}{' and' if low and high else ''}{high}"

    def parse(self, text: str) -> object:
        """Return the value that `text` stands for; `check` it then.

        Raises
        ------
        ValueError, KeyError
            If it cannot be read as this parameter's type.
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
            If it is not of the type, or not allowed.
        """
        if value is None and self.default is None:
            return None
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type or (self.choices and value not in self.choices):
            raise ValueError(value)
        if isinstance(value, (int, float)) and not self._in_range(value):
            raise ValueError(value)
        return value

    def _in_range(self, value: float) -> bool:
        """Whether a number is in the range allowed; NaN is in no range."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def parameters(cls: type[Step]) -> list[Parameter]:
    """Return the parameters of a method's class, in order."""
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
    """What a method is, as ``embshrink methods`` tells it.

    Parameters
    ----------
    name : str
        Under which it is registered, and which step strings begin with.
    axis : {"rows", "columns", "bits"}
        What there will be less of.
    source : str
        Where the method is described.
    text : str
        What it does: a line, and most often more below it.
    parameters : tuple of Parameter
        In order.
    """

    name: str
    axis: str
    source: str
    text: str
    parameters: tuple[Parameter, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON can hold it; of each parameter ``name``, ``default``, ``allowed`` and ``help``."""
        return {
            "name": self.name, "axis": self.axis, "source": self.source, "text": self.text,
            "parameters": [{"name": one.name, "default": one.default, "allowed": one.allowed, "help": one.help}
                           for one in self.parameters],
        }


def describe(name: str) -> MethodInfo:
    """Return what the method called `name` is, or that an alias stands for.

    Raises
    ------
    StepError
        If there is none.
    """
    import inspect

    name = ALIASES.get(name, name).partition(":")[0]
    cls = method(name)
    text = inspect.cleandoc(cls.__doc__ or "").split("\nNotes\n")[0].strip()
    return MethodInfo(name, cls.axis, cls.source, text, tuple(parameters(cls)))


def list_methods(*names: str) -> list[MethodInfo]:
    """Return what methods are: those called `names`, or all.

    Raises
    ------
    StepError
        If there is no method of a name.

    Examples
    --------
    >>> [info.name for info in list_methods() if info.axis == "columns"]
    ['lowrank']
    """
    return [describe(name) for name in names or METHODS]


def make(name: str, **values: object) -> Step:
    """Return a step from the method's name and its parameters' values.

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
            raise StepError(f"{name} has no parameter {key!r}", expected=f"one of {', '.join(known) or '(none)'}",
                            hint=f"See: embshrink methods {name}")
        try:
            checked[key] = known[key].check(value)
        except (ValueError, TypeError) as error:
            raise StepError(f"{name} cannot take {key}={value}", expected=known[key].allowed,
                            hint=f"See: embshrink methods {name}") from error
    return cls(**checked)


def parse(text: str) -> Step:
    """Return the step that a string stands for.

    Parameters
    ----------
    text : str
        ``name`` or ``name:key=value,key=value``. An alias stands for a method and some of its parameters.

    Returns
    -------
    Step
        Parameters not named have their defaults.

    Raises
    ------
    StepError
        If it is malformed, or the method, a parameter or a value is unknown.

    Examples
    --------
    >>> parse("cast:dtype=float32")
    Cast(dtype='float32')
    """
    name, colon, rest = text.strip().partition(":")
    if name in ALIASES:
        name, _, preset = ALIASES[name].partition(":")
        rest, colon = f"{preset},{rest}" if colon else preset, ":"
    known = {parameter.name: parameter for parameter in parameters(method(name))}
    values: dict[str, object] = {}
    for part in rest.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise StepError(f"cannot read {part!r} in step {text!r}", expected="name:key=value,key=value",
                            hint=f"See: embshrink methods {name}")
        if key in values:
            raise StepError(f"{key} is given twice in step {text!r}")
        try:
            values[key] = known[key].parse(value) if key in known else value
        except (ValueError, KeyError) as error:
            raise StepError(f"{name} cannot take {key}={value}", expected=known[key].allowed,
                            hint=f"See: embshrink methods {name}") from error
    return make(name, **values)


def format(step: Step) -> str:
    """Return the string of a step: parameters that differ from their defaults, in order.

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
    """Return a list of steps from strings, steps, or a mixture; parameters are checked.

    Parameters
    ----------
    steps : str, Step, or iterable of these

    Raises
    ------
    StepError
        If one is not a step, or they are out of order (rows, then columns, then at most one of bits).
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
            raise StepError(f"{name_of(before)} stands before {name_of(after)}",
                            expected="rows, then columns, then bits", hint=f"Put {name_of(after)} first.")
    bits = [name_of(step) for step in made if step.axis == "bits"]
    if len(bits) > 1:
        raise StepError("there can be only one bits step", found=" and ".join(bits), hint="Choose one of them.")
    return made
