"""Agreements about the code that nobody should have to remember."""

import ast
from pathlib import Path

import pytest

import embshrink

PACKAGE = Path(embshrink.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Who may import whom at the top of a file; inside functions anything may be imported late.
LAYERS = {
    "errors": set(),
    "kernels": {"kernels"},
    "storage": {"errors", "storage"},
    "numerics": {"errors", "methods", "numerics", "storage"},
    "vocabulary": {"errors", "numerics", "storage", "vocabulary"},
    "methods": {"errors", "methods", "numerics", "storage"},
    "embeddings": {"embeddings", "errors", "numerics", "reader", "vocabulary"},
    "formats": {"embeddings", "errors", "formats", "methods", "numerics", "storage", "vocabulary"},
    "evaluation": {"errors", "evaluation", "methods", "numerics", "vocabulary"},
    "compression": {"compression", "embeddings", "errors", "methods", "numerics", "reader", "storage", "vocabulary"},
    "reader": {"embeddings", "errors", "methods", "numerics", "storage", "vocabulary"},
    "cli": {"errors", "methods", "numerics"},
    "__main__": {"cli"},
    "__init__": set(),
}
LATE = {"numba", "scipy", "sklearn", "gensim", "rich", "pyarrow", "zstandard", "threadpoolctl"}
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "joblib"}


def own_name(path):
    relative = path.relative_to(PACKAGE).with_suffix("")
    return relative.parts[0]


def imported(node):
    """Yield the dotted names an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    tree = ast.parse(path.read_text())
    name = own_name(path)
    allowed = LAYERS[name]
    for node in tree.body:
        for module in imported(node):
            parts = module.split(".")
            assert name == "kernels" or parts[0] not in LATE, f"{parts[0]} is imported at the top"
            if parts[0] == "embshrink" and len(parts) > 1 and parts[1] not in ("__version__",):
                assert parts[1] in allowed, f"{name} imports {parts[1]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_code_from_a_file(path):
    for node in ast.walk(ast.parse(path.read_text())):
        for module in imported(node):
            assert module.split(".")[0] not in FORBIDDEN
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called not in {"eval", "exec", "extractall", "extract"}, f"line {node.lineno}"
            for keyword in node.keywords:
                assert keyword.arg not in {"allow_pickle", "shell"}, f"line {node.lineno}"
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: an assert is gone under python -O"


def test_jitted_functions_call_only_their_own_file():
    for path in (PACKAGE / "kernels").glob("*.py"):
        if path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for module in imported(node):
                assert not module.startswith("embshrink.kernels.") or module in (
                    "embshrink.kernels.kernel", "embshrink.kernels.FAST", "embshrink.kernels.compiled_for"), path.name


def test_public_names_exist():
    for name in embshrink.__all__:
        assert getattr(embshrink, name) is not None
    assert set(dir(embshrink)) >= set(embshrink.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        embshrink.nothing  # noqa: B018


def test_public_functions_stay_functions():
    """Importing a submodule must not put a module in a public name's place."""
    import embshrink.compression.run
    import embshrink.evaluation.run

    assert callable(embshrink.compress)
    assert callable(embshrink.evaluate)
    assert callable(embshrink.load)
