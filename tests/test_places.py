"""Every method, format and command is in all the places that CONTRIBUTING.md lists; a test names what is missing.

The checks read files as text or as syntax trees, so they also work while a place is missing.
tests/test_contributing.py adds a method, a format and a command to a copy of the tree, and leaves out one place at a
time: then the test of that place must fail.
"""

import ast
import inspect
import re
from pathlib import Path

import pytest

import embshrink
from embshrink.formats.base import FORMATS
from embshrink.methods import registry

ROOT = Path(__file__).resolve().parents[1]
METHODS_FOLDER = ROOT / "embshrink" / "methods"

# What need not be in a place, and why.
NOT_BENCHMARKED = {"dedupe": "GloVe has no equal rows", "ecq": "benchmarks/quality.py measures it",
                   "rescale": "it loses nothing and saves nothing"}
NOT_FOUND_BY_CONTENT = {"gensim": "reading it runs code", "word2vec-text": "it is read as text"}
NOTHING_TO_SAY = {"text", "word2vec-text", "word2vec", "ems"}  # words and numbers come back as they are
TESTED_IN = {"text": "test_formats_cases.py", "word2vec-text": "test_formats_cases.py",
             "word2vec": "test_formats_cases.py", "gensim": "test_export_gensim.py", "ems": "test_reader.py"}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def strings(path, variable):
    """Return all strings in what a file assigns to a variable at its top: keys, values, members of lists."""
    for node in ast.parse(text(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(
            node, ast.AnnAssign) else []
        if variable in [target.id for target in targets if isinstance(target, ast.Name)]:
            return [part.value for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    raise AssertionError(f"{path} does not assign {variable}")


def methods_in(path, variable):
    """Return the names of the methods of all steps in a variable."""
    steps = [registry.ALIASES.get(step.partition(":")[0], step)
             for entry in strings(path, variable) for step in entry.split()]
    return {step.partition(":")[0] for step in steps}


def method(name):
    """Return the class of a method, or None where its file is missing: the test of the first place says that."""
    try:
        return registry.method(name)
    except ModuleNotFoundError:
        return None


# ---------------------------------------------------------------- methods


def has_file(name):
    return method(name) is not None


def files_of_methods():
    found = {path.stem if path.suffix else path.name for path in METHODS_FOLDER.iterdir() if path.name[0] != "_"}
    return found - {"base", "pipeline", "registry", "row_map"}


def is_registered(name):
    return name in registry.METHODS


def source(name):
    """Return the text of a method's files."""
    path = METHODS_FOLDER / f"{name}.py"
    paths = [path] if path.exists() else sorted((METHODS_FOLDER / name).rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def works_by_blocks(name):
    return method(name) is not None and registry.make(name).resolve(400, 10).by_blocks


def max_memory_names_it(name):
    documented = re.search(r"\nmax_memory : .*?\n(?=\w)", inspect.getdoc(embshrink.compress), re.S).group()
    return not works_by_blocks(name) or re.search(rf"`{name}\b", documented)


def warmup_reaches_its_kernels(name):
    return "embshrink.kernels" not in source(name) or name in methods_in("embshrink/cli/warmup.py", "STEPS")


def has_settings(name):
    cls = method(name)
    return cls is None or not registry.parameters(cls) or name in strings("tests/checks.py", "SETTINGS")


def is_composed(name):
    return any(name in methods_in("tests/test_compress.py", variable) for variable in ("ROWS", "COLUMNS", "BITS"))


def is_tried_with_little_memory(name):
    if works_by_blocks(name):
        return name in methods_in("tests/test_spool.py", "STEPS")
    return f'"{name}"' in text("tests/test_spool.py")


def is_damaged(name):
    cls = method(name)
    return cls is None or cls.axis == "rows" or name in methods_in("tests/test_damage.py", "MADE_BY")


def is_read_by_the_second_reader(name):
    reader = text("tests/second_reader.py")
    if method(name) is None or method(name).axis == "bits":
        return f"def _read_{name}(" in reader and f"def _decode_{name}(" in reader
    return f'"{name}"' in reader


def second_reader_tries_it(name):
    return any(name in methods_in("tests/test_second_reader.py", variable) for variable in ("ROWS", "BITS"))


def has_golden_case(name):
    return name in methods_in("tests/golden/make.py", "CASES")


def has_golden_file(name):
    """The header of an .ems file is JSON near its start; its steps are in it as strings."""
    named = re.compile(rb'"%s[:"]' % name.encode())
    return any(named.search(path.read_bytes()[: 1 << 14]) and path.with_suffix(".npz").exists()
               for path in (ROOT / "tests" / "golden").glob("*.ems"))


def is_specified(name):
    document, cls = text("docs/format.md"), method(name)
    if f"`{name}`" not in document:
        return False
    sections = registry.make(name).resolve(400, 10).plan(400, 10) if cls is not None and cls.axis == "bits" else ()
    return all(f"`{section}`" in document or re.search(r"core\d", section) for section in sections)


def is_in_the_guide(name):
    return re.search(rf"`{name}[`:]", text("docs/methods.md"))


def is_benchmarked(name):
    return name in NOT_BENCHMARKED or name in methods_in("benchmarks/methods.py", "SETTINGS")


def is_in_the_changelog(name):
    return re.search(rf"(?<![\w-]){name}(?![\w-])", text("CHANGELOG.md"), re.I)


METHOD_PLACES = {  # place: (what tells whether a method is there, what to do)
    "embshrink/methods/NAME.py": (has_file, "write the class that METHODS names"),
    "embshrink/methods/registry.py": (is_registered, "add a line to METHODS"),
    "embshrink/compression/run.py": (max_memory_names_it, "name it in the docstring of compress, at max_memory"),
    "embshrink/cli/warmup.py": (warmup_reaches_its_kernels, "add settings that reach its kernels to STEPS"),
    "tests/checks.py": (has_settings, "add settings to SETTINGS"),
    "tests/test_compress.py": (is_composed, "add it to ROWS, COLUMNS or BITS"),
    "tests/test_spool.py": (is_tried_with_little_memory,
                            "add it to STEPS if it works by blocks, else to the methods that need the whole table"),
    "tests/test_damage.py": (is_damaged, "add it to MADE_BY"),
    "tests/second_reader.py": (is_read_by_the_second_reader, "write a decoder from docs/format.md alone"),
    "tests/test_second_reader.py": (second_reader_tries_it, "add it to ROWS or BITS"),
    "tests/golden/make.py": (has_golden_case, "add a case to CASES"),
    "tests/golden/NAME.ems": (has_golden_file, "run python tests/golden/make.py and commit the .ems and .npz files"),
    "docs/format.md": (is_specified, "describe its parameters, and every section that it stores"),
    "docs/methods.md": (is_in_the_guide, "say when to use it"),
    "benchmarks/methods.py": (is_benchmarked, "add it to SETTINGS"),
    "CHANGELOG.md": (is_in_the_changelog, "name it under the next release"),
}


# ---------------------------------------------------------------- formats


def has_module(name):
    path = ROOT / FORMATS[name].module.replace(".", "/") if name in FORMATS else None
    return path is None or path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def files_of_formats():
    found = {path.stem if path.suffix else path.name for path in (ROOT / "embshrink" / "formats").iterdir()
             if path.name[0] != "_"}
    return found - {"base", "sniff", "io"}


def is_listed(name):
    return name in FORMATS


def is_found_by_content(name):
    return name in NOT_FOUND_BY_CONTENT or f'"{name}"' in text("embshrink/formats/sniff.py")


def has_tests(name):
    return (ROOT / "tests" / TESTED_IN.get(name, f"test_{name}.py")).exists()


def is_announced(name):
    return name in NOTHING_TO_SAY or is_in_the_changelog(name)


def is_described(name):
    return name in NOTHING_TO_SAY or re.search(rf"^#+ .*\b{name}\b", text("docs/formats.md"), re.M | re.I)


FORMAT_PLACES = {
    "embshrink/formats/NAME.py": (has_module, "write the module that FORMATS names"),
    "embshrink/formats/base.py": (is_listed, "add a line to FORMATS"),
    "embshrink/formats/sniff.py": (is_found_by_content, "add a rule to _RECOGNIZED"),
    "tests/test_NAME.py": (has_tests, "write tests: a round trip, and damage that is refused"),
    "docs/formats.md": (is_described, "write a section: what is kept, what is lost"),
    "CHANGELOG.md": (is_announced, "name it under the next release"),
}


# ---------------------------------------------------------------- commands


def commands():
    """Return the names of the functions in cli/commands.py that are commands."""
    return [node.name.rstrip("_") for node in ast.parse(text("embshrink/cli/commands.py")).body
            if isinstance(node, ast.FunctionDef) and any("cli.command" in ast.unparse(one)
                                                         for one in node.decorator_list)]


def twins():
    found = strings("tests/test_structure.py", "TWINS")  # all keys, then all values
    half = len(found) // 2
    return dict(zip(found[:half], found[half:]))


def call_exists(name):
    """Whether some file defines the public call; formats/__init__.py hands one on."""
    call = twins().get(name, name)
    module = ROOT / embshrink._PUBLIC.get(call, "embshrink.reader").replace(".", "/")
    path = module.with_suffix(".py") if module.with_suffix(".py").exists() else module / "__init__.py"
    return re.search(rf"^def {call}\(|^    {call},$", path.read_text(encoding="utf-8"), re.M)


def call_is_public(name):
    call, init = twins().get(name, name), text("embshrink/__init__.py")
    return f" as {call}\n" in init and f'"{call}": ' in init


def command_is_documented(name):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return any(f"embshrink {name}" in page.read_text(encoding="utf-8") for page in pages)


COMMAND_PLACES = {
    "embshrink/cli/commands.py": (lambda name: name in commands(), "write the command"),
    "embshrink/reader.py": (call_exists, "write the public call, here or in compression/run.py"),
    "embshrink/__init__.py": (call_is_public, "name the call twice: for type checkers, and in _PUBLIC"),
    "tests/test_structure.py": (lambda name: name in twins(), "add the command and its call to TWINS"),
    "README.md": (command_is_documented, "show it here or in docs/"),
    "CHANGELOG.md": (is_in_the_changelog, "name it under the next release"),
}


# ---------------------------------------------------------------- the tests


def names_of(kind):
    """Return every name that anything knows: the table's, and the files'."""
    if kind == "method":
        return {*registry.METHODS, *files_of_methods()}
    if kind == "format":
        return {*FORMATS, *(files_of_formats() - {"text"})}
    return {*commands(), *twins()}


PLACES = {"method": METHOD_PLACES, "format": FORMAT_PLACES, "command": COMMAND_PLACES}


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, places in PLACES.items() for place in places])
def test_everything_is_in_every_place(kind, place):
    is_there, what = PLACES[kind][place]
    for name in sorted(names_of(kind)):
        assert is_there(name), f"{place.replace('NAME', name)}: the {kind} {name} is missing here; {what}"


def listed(kind):
    """Return the places in the numbered list of CONTRIBUTING.md's section on how to add something."""
    section = re.search(rf"^## Add a {kind}\n(.*?)(?=^## )", text("CONTRIBUTING.md"), re.M | re.S).group(1)
    return re.findall(r"^\d+\. `([^`]+)`", section, re.M)


@pytest.mark.parametrize("kind", PLACES)
def test_contributing_lists_the_same_places(kind):
    assert sorted(listed(kind)) == sorted(PLACES[kind])
