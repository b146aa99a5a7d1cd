"""Methods by name, and steps as strings: ``prune:keep=50000``, ``pq:subspaces=25,rotate=opq``.

A step string is what the command line takes, what the file's header keeps and what ``info``
prints. Importing this module imports no method.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing

from embshrink.errors import StepError

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


def method(name):
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
    return getattr(importlib.import_module(module), attribute)


def name_of(step):
    """Return the name under which a step's class is registered."""
    target = f"{type(step).__module__}:{type(step).__qualname__}"
    for name, place in METHODS.items():
        if place == target:
            return name
    raise StepError(f"{type(step).__qualname__} is not a registered method")


def parameters(cls):
    """Return the parameters of a method's class, as a list of `Parameter`."""
    hints = typing.get_type_hints(cls)
    return [Parameter(field.name, hints[field.name], field.default, **field.metadata)
            for field in dataclasses.fields(cls)]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a method: its name, type, default, and what it may be."""

    name: str
    hint: object
    default: object
    help: str
    choices: tuple | None = None
    low: float | None = None
    high: float | None = None

    @property
    def type(self):
        """The type without ``None``."""
        if isinstance(self.hint, types.UnionType) or typing.get_origin(self.hint) is typing.Union:
            return next(part for part in typing.get_args(self.hint) if part is not type(None))
        return self.hint

    @property
    def allowed(self):
        """What a value may be, in words."""
        if self.choices:
            return "|".join(map(str, self.choices))
        if self.type is bool:
            return "true|false"
        kind = {int: "whole number", float: "number", str: "text"}[self.type]
        low = "" if self.low is None else f" >= {self.low:g}"
        high = "" if self.high is None else f" <= {self.high:g}"
        return f"{kind}{low}{' and' if low and high else ''}{high}"

    def parse(self, text):
        """Return the value that `text` stands for, or raise ValueError."""
        if text == "auto" and self.default is None:
            return None
        if self.type is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if self.type is int:
            return int(text.replace("_", ""))
        return self.type(text)

    def check(self, value):
        """Return `value` as this parameter's type, or raise ValueError."""
        if value is None and self.default is None:
            return None
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type:
            raise ValueError(value)
        if self.choices and value not in self.choices:
            raise ValueError(value)
        if (self.low is not None and not value >= self.low) or (self.high is not None and not value <= self.high):
            raise ValueError(value)
        return value


def make(name, **values):
    """Return a step from the method's name and its parameters' values.

    Raises
    ------
    StepError
        If the method or a parameter is unknown, or a value is not allowed.
    """
    cls = method(name)
    known = {parameter.name: parameter for parameter in parameters(cls)}
    for key, value in values.items():
        if key not in known:
            raise StepError(f"{name} has no parameter {key!r}", expected=f"one of {', '.join(known) or '(none)'}",
                            hint=f"See: embshrink methods {name}")
        try:
            values[key] = known[key].check(value)
        except (ValueError, TypeError) as error:
            raise StepError(f"{name} cannot take {key}={value}", expected=known[key].allowed,
                            hint=f"See: embshrink methods {name}") from error
    return cls(**values)


def parse(text):
    """Return the step that a string stands for.

    Parameters
    ----------
    text : str
        ``name`` or ``name:key=value,key=value``. An alias stands for a method and some of its parameters.

    Returns
    -------
    object
        A step; parameters not named have their defaults.

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
    values = {}
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


def format(step):
    """Return the string of a step: parameters that differ from their defaults, in order.

    Examples
    --------
    >>> format(parse("pq:rotate=none,subspaces=25"))
    'pq:subspaces=25'
    """
    parts = []
    for parameter in parameters(type(step)):
        value = getattr(step, parameter.name)
        if value != parameter.default:
            if isinstance(value, bool):
                value = str(value).lower()
            elif isinstance(value, float) and value.is_integer():
                value = int(value)
            parts.append(f"{parameter.name}={value}")
    return name_of(step) + (":" + ",".join(parts) if parts else "")


def as_steps(steps):
    """Return a list of steps from strings, steps, or a mixture; parameters are checked.

    Raises
    ------
    StepError
        If one is not a step, or they are out of order (rows, then columns, then at most one of bits).
    """
    if isinstance(steps, str):
        steps = [steps]
    made = []
    for step in steps:
        if isinstance(step, str):
            step = parse(step)
        else:
            name = name_of(step)
            make(name, **{parameter.name: getattr(step, parameter.name) for parameter in parameters(type(step))})
        made.append(step)
    for before, after in zip(made, made[1:]):
        if AXES.index(before.axis) > AXES.index(after.axis):
            raise StepError(f"{name_of(before)} stands before {name_of(after)}",
                            expected="rows, then columns, then bits", hint=f"Put {name_of(after)} first.")
    bits = [name_of(step) for step in made if step.axis == "bits"]
    if len(bits) > 1:
        raise StepError("there can be only one bits step", found=" and ".join(bits), hint="Choose one of them.")
    return made
