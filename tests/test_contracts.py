"""Callers ask for what a class declares: nobody looks whether an attribute is there."""

import ast
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

import embshrink
from embshrink.methods import base, registry

PACKAGE = Path(embshrink.__file__).parent

# Attributes of modules and of other people's objects, which may be missing: (file, attribute) and why.
ALLOWED = {
    ("storage/disk_rows.py", "preadv"): "os has it on some systems only",
    ("storage/disk_rows.py", "pwritev"): "os has it on some systems only",
    ("storage/disk_rows.py", "O_BINARY"): "os has it on Windows only",
    ("storage/atomic.py", "O_BINARY"): "os has it on Windows only",
    ("storage/container.py", "MADV_DONTNEED"): "mmap has it on some systems only",
    ("numerics/parallel.py", "register_at_fork"): "os has it on some systems only",
}


def asked(source):
    """Yield (line, attribute) for each call in a source text that asks whether an attribute is there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (
            node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) > 2)
        ):
            name = node.args[1]
            yield node.lineno, name.value if isinstance(name, ast.Constant) else ast.unparse(name)


def test_what_is_looked_for():
    source = "hasattr(a, 'b')\ngetattr(a, 'c')\ngetattr(a, 'd', 1)\ngetattr(a, name + '_', None)"
    assert list(asked(source)) == [(1, "b"), (3, "d"), (4, "name + '_'")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_looks_whether_an_attribute_is_there(path):
    file = path.relative_to(PACKAGE).as_posix()
    for line, name in asked(path.read_text(encoding="utf-8")):
        assert (file, name) in ALLOWED, (
            f"{file}:{line} asks whether there is {name!r}: declare it, with a default, where the class is declared")


# ---------------------------------------------------------------- methods


KINDS = (base.RowStep, base.ColumnStep, base.Codec)
EXTRA = {}  # {method: {public attributes beside those that its base class declares}}; better make them private


def declared(cls):
    """Return the public names that a class itself declares: annotated, or in its body."""
    return {name for name in {*vars(cls), *vars(cls).get("__annotations__", {})} if not name.startswith("_")}


def promised(kind):
    """Return what a base class of methods declares, with what it inherits."""
    return set().union(*(declared(cls) for cls in kind.__mro__ if issubclass(cls, base.Step)))


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_method_is_of_one_kind_and_frozen(name):
    cls = registry.method(name)
    assert [kind for kind in KINDS if issubclass(cls, kind)] == [
        kind for kind in KINDS if kind.axis == cls.axis]
    assert cls.__bases__[0] in (*KINDS, base.SteppedCodec)
    assert len(cls.__bases__) == 1
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert not inspect.isabstract(cls)


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_method_has_nothing_public_that_its_kind_does_not_declare(name):
    cls = registry.method(name)
    parameters = {parameter.name for parameter in registry.parameters(cls)}
    assert declared(cls) - parameters - promised(cls.__bases__[0]) == EXTRA.get(name, set())


@pytest.mark.parametrize("name", registry.METHODS)
def test_overrides_are_called_as_declared(name):
    cls = registry.method(name)
    for attribute in declared(cls) & promised(cls.__bases__[0]):
        ours = vars(cls)[attribute]
        theirs = inspect.getattr_static(cls.__bases__[0], attribute, None)  # None: declared by annotation alone
        assert callable(ours) == callable(theirs), attribute
        if callable(ours):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), attribute


def test_defaults_are_what_the_base_says():
    """A codec that overrides nothing it need not does what the documentation of `Codec` says of the defaults."""
    matrix = np.zeros((3, 2), "f4")
    step = registry.parse("cast").resolve(3, 2)
    context = base.Context(None, None)
    assert not step.weighs
    assert not step.reorders
    assert not isinstance(step, base.SteppedCodec)
    assert step.arrange(matrix, context) is None
    state = step.fit(matrix, context)
    assert step.fitted(state) is step
    codes = step.encode(matrix, state, context)
    rows = np.array([2, 0])
    assert (step.decoder(codes, state)(rows) == step.decode(codes, state, rows)).all()
    assert step.scores(codes, state, matrix[0]) is None
    assert step.small_codes(codes, state) is None


def test_a_step_that_was_not_resolved_says_so():
    with pytest.raises(embshrink.StepError, match="a step must be resolved before it is used"):
        registry.parse("pq").plan(400, 10)
