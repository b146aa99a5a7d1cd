"""Steps as strings, and the registry as the only place a method is named."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import embshrink.methods
from embshrink import StepError
from embshrink.methods import base, registry


def test_every_method_file_is_registered():
    files = {name for _, name, _ in pkgutil.iter_modules(embshrink.methods.__path__)}
    files -= {"base", "pipeline", "registry", "row_map"}
    registered = {place.split(":")[0].split(".")[2] for place in registry.METHODS.values()}
    assert files == registered


@pytest.mark.parametrize("name", registry.METHODS)
def test_every_method_is_complete(name):
    cls = registry.method(name)
    protocol = {"rows": base.RowStep, "columns": base.ColumnStep, "bits": base.Codec}[cls.axis]
    assert issubclass(cls, protocol)
    assert cls.source
    assert registry.name_of(cls()) == name
    for parameter in registry.parameters(cls):
        assert parameter.help
        assert parameter.allowed
        parameter.check(parameter.default)


def test_importing_the_registry_imports_no_method(subprocess_env):
    code = ("import sys, embshrink.methods.registry; "
            "print([m for m in sys.modules if 'methods.' in m and not m.endswith('registry') or m == 'numba'])")
    result = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("text", "message"), [
    ("prun", r"unknown method 'prun' \(expected one of prune, .*\). Did you mean prune\?"),
    ("opq", r"unknown method 'opq' \(expected one of pq, .*\). Did you mean pq\?"),
    ("KMeans", r"Did you mean kmeans\?"),
    ("svd", r"unknown method 'svd' \(expected one of .*itq.*\). List all methods with: embshrink methods"),
    ("", r"unknown method ''"),
    ("prune:keep", r"cannot read 'keep' in step 'prune:keep' \(expected name:key=value,key=value\)"),
    ("prune:", r"cannot read ''"),
    ("prune:kep=3", r"prune has no parameter 'kep' \(expected one of keep, .*Did you mean keep\? .*methods prune"),
    ("prune:keep=3,keep=4", r"keep is given twice"),
    ("prune:keep=0", r"prune cannot take keep=0 \(expected whole number >= 1\)"),
    ("prune:keep=ten", r"prune cannot take keep=ten \(expected whole number >= 1\)"),
    ("prune:keep=1.5", r"prune cannot take keep=1.5"),
    ("prune:min_similarity=2", r"expected number >= -1 and <= 1"),
    ("prune:min_similarity=nan", r"prune cannot take min_similarity=nan"),
    ("pq:rotate=some", r"expected none\|pca\|opq"),
    ("pq:centroids=65537", r"expected whole number >= 1 and <= 65536"),
    ("kmeans:norms=maybe", r"expected true\|false"),
    ("dedupe:x=1", r"dedupe has no parameter 'x' \(expected no parameters\)"),
])
def test_bad_steps_are_refused(text, message):
    with pytest.raises(StepError, match=message):
        registry.parse(text)


@pytest.mark.parametrize(("steps", "message"), [
    (["pq", "prune"], r"prune, a row step, comes after pq, a bits step \(.*\). Put prune before pq"),
    (["pq", "cast"], r"only one bits step is allowed \(found pq and cast\). Give one"),
    ([3], r"int is not a registered method \(expected a step string"),
])
def test_bad_pipelines_are_refused(steps, message):
    with pytest.raises(StepError, match=message):
        registry.as_steps(steps)


def test_steps_made_in_python_are_checked_too():
    cls = registry.method("pq")
    with pytest.raises(StepError, match="pq cannot take subspaces=0"):
        registry.as_steps([cls(subspaces=0)])
    with pytest.raises(StepError, match="pq cannot take rotate=7"):
        registry.as_steps([cls(rotate=7)])
    with pytest.raises(StepError, match="pq cannot take subspaces=True"):
        registry.as_steps([cls(subspaces=True)])


def test_one_string_is_one_step():
    assert registry.as_steps("prune:keep=5") == registry.as_steps(["prune:keep=5"])


def test_methods_are_listed_with_what_a_program_needs():
    listed = registry.list_methods()
    assert [info.name for info in listed] == list(registry.METHODS)
    for info in listed:
        assert info.axis in registry.AXES
        assert info.text
        assert "Notes" not in info.text
        assert registry.make(info.name, **{one.name: one.default for one in info.parameters}) == registry.method(
            info.name)()
    by_name = {info.name: info for info in listed}
    assert by_name["cast"].as_dict() == {
        "name": "cast", "axis": "bits", "source": "IEEE 754 binary16", "text": by_name["cast"].text,
        "parameters": [{"name": "dtype", "default": "float16", "allowed": "float16|float32",
                        "help": "type of the stored numbers"}]}
    with pytest.raises(StepError, match="unknown method 'cats'.*Did you mean cast"):
        registry.describe("cats")


def test_registered_places_exist():
    for place in registry.METHODS.values():
        module, name = place.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_an_alias_is_described_as_what_it_stands_for():
    for alias, text in registry.ALIASES.items():
        assert registry.list_methods(alias) == registry.list_methods(text.partition(":")[0])
