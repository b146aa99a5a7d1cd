"""Agreements about the code that nobody should have to remember."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import embshrink

PACKAGE = Path(embshrink.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up: a folder or file may import what stands in a row below its own, and itself. This counts for
# imports inside functions and for those of type checkers too.
LAYERS = [
    {"errors"},
    {"storage"},
    {"kernels"},
    {"numerics"},
    {"vocabulary", "methods"},
    {"embeddings"},
    {"formats"},
    {"evaluation"},
    {"compression"},
    {"keyed_vectors"},
    {"reader"},
    {"cli"},
    {"__main__", "__init__"},
]
LATE = {"numba", "scipy", "sklearn", "gensim", "rich", "pyarrow", "zstandard", "threadpoolctl"}
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "joblib"}


def dotted(path):
    """Return a file's name as it is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def place(module):
    """Return the folder or single file that a module of the package is in."""
    return (module.split(".") + ["__init__"])[1]


def imported(node):
    """Yield the dotted names an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path):
    """Return the modules of the package that a file imports, also inside functions.

    ``from a import b`` is an import of a.b if that is a module.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES}
            if names - set(MODULES):
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found - {dotted(path)}


def above(importer, module):
    """Whether a module stands in a row above that of who imports it, or beside it in another place."""
    rows = {name: number for number, names in enumerate(LAYERS) for name in names}
    here, there = place(importer), place(module)
    return here != there and rows[there] >= rows[here]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    wrong = {module for module in imports_of(path) if module != "embshrink" and above(dotted(path), module)}
    assert not wrong or dotted(path) == "embshrink"  # which names all that is public


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_large_libraries_are_imported_late(path):
    for node in ast.parse(path.read_text()).body:
        for module in imported(node):
            assert place(dotted(path)) == "kernels" or module.split(".")[0] not in LATE, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_missing_package_is_named(path):
    """Who imports a package that may be missing says so (`errors.need`), or does without it."""
    tree = ast.parse(path.read_text())
    late = {module.split(".")[0] for node in ast.walk(tree) for module in imported(node)} & LATE
    late -= {"pyarrow"}  # the demo looks for it, and takes another table
    if place(dotted(path)) == "kernels" and path.name != "__init__.py":
        return  # kernels/__init__.py names numba
    if place(dotted(path)) == "cli":  # whose commands name any missing package
        late &= {"numba"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = {argument.value for node in calls if node.func.id == "need" for argument in node.args
             if isinstance(argument, ast.Constant)}
    caught = any(isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name)
                 and node.type.id == "ImportError" for node in ast.walk(tree))
    above_all = {"scipy"} if path.name == "rq.py" else set()  # compression needs it, whatever the method
    assert not late - named - above_all or caught, late


def test_no_two_files_import_each_other():
    """There is no circle of any length, imports inside functions and of type checkers counted."""
    graph = {module: imports_of(path) - {"embshrink"} for module, path in MODULES.items()}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module):], module])
        if module not in done:
            path.append(module)
            for other in sorted(graph[module]):
                visit(other)
            done.add(path.pop())

    for module in sorted(graph):
        visit(module)


def test_the_tree_has_a_place_for_every_file():
    rows = set().union(*LAYERS)
    assert {place(dotted(path)) for path in FILES} == rows
    assert {path.name for path in PACKAGE.iterdir() if path.suffix in (".py", ".typed")} == {
        "__init__.py", "__main__.py", "errors.py", "reader.py", "py.typed"}


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


def test_signatures_read_well():
    """What help() shows has names, not addresses of objects."""
    for name in embshrink.__all__:
        if callable(getattr(embshrink, name)):
            assert " at 0x" not in str(inspect.signature(getattr(embshrink, name))), name
    assert "progress: 'Progress' = no_progress" in str(inspect.signature(embshrink.plan))


TWINS = {  # a command, and the public call that does what it does
    "prune": "prune", "quantize": "quantize", "compress": "compress", "plan": "plan", "info": "info",
    "verify": "verify", "get": "get", "similar": "similar", "analogy": "analogy", "evaluate": "evaluate",
    "export": "export",
    "formats": "list_formats", "methods": "list_methods", "warmup": "warmup", "demo": "demo",
}


def test_commands_and_library_are_twins():
    from embshrink.cli.commands import cli

    assert set(cli.commands) == set(TWINS)
    commands = {node.name.rstrip("_"): node for node in ast.parse(MODULES["embshrink.cli.commands"].read_text()).body
                if isinstance(node, ast.FunctionDef)}
    for command, call in TWINS.items():
        assert callable(getattr(embshrink, call))
        called = {node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                  for node in ast.walk(commands[command]) if isinstance(node, ast.Call)
                  if isinstance(node.func, (ast.Attribute, ast.Name))}
        assert call in called, f"{command} does not call {call}"
    assert callable(embshrink.pareto)  # plan --pareto


def test_editors_see_the_public_names():
    """What type checkers are told of is what there is, name by name."""
    told = {alias.asname: node.module
            for node in ast.walk(ast.parse(MODULES["embshrink"].read_text())) if isinstance(node, ast.ImportFrom)
            for alias in node.names if alias.asname}
    assert told == embshrink._PUBLIC
    for name in told:
        assert getattr(embshrink, name).__name__ == name


def test_every_function_is_annotated():
    bare = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs,
                             *filter(None, (node.args.vararg, node.args.kwarg))]
                named = [one for one in arguments if one.arg not in ("self", "cls")]
                if node.returns is None or any(one.annotation is None for one in named):
                    bare.append(f"{module}:{node.lineno} {node.name}")
    assert not bare


def says_any(function):
    """Whether Any is in the annotations of a function's parameters or of what it returns."""
    parts = [function.returns, *(one.annotation for one in ast.walk(function.args) if isinstance(one, ast.arg))]
    return any(isinstance(word, ast.Name) and word.id == "Any" for part in parts if part for word in ast.walk(part))


def test_no_public_signature_says_any():
    """Any hides what a function takes; what click and numpy hand on is private."""
    found = []
    for module, path in MODULES.items():
        if place(module) in ("kernels", "cli"):
            continue
        tree = ast.parse(path.read_text())
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
        for owner in [tree, *classes]:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and says_any(node):
                    found.append(f"{module}:{node.lineno} {node.name}")
    assert not found


def test_every_ignored_type_has_its_code_and_reason():
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if "type: ignore" in line:
                assert re.search(r"# type: ignore\[[a-z-]+\]  # \w", line), f"{path.name}:{number}"
