"""The lists of CONTRIBUTING.md are complete: a method, a format and a command are added to a copy of the tree.

With every place filled, the tests that concern the new name pass. With one place left out, tests/test_places.py names
it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_places import PLACES, listed
from trees import copy_tree

TOYS = Path(__file__).parent / "toys"


def toy(name):
    """Return an edit: the whole file, from tests/toys."""
    return lambda before: (TOYS / name).read_text(encoding="utf-8")


def after(anchor, added):
    """Return an edit: lines added behind the first line that matches a pattern."""
    def edit(before):
        found = re.search(rf"^.*{anchor}.*\n", before, re.M)
        assert found, f"no line matches {anchor}"
        return before[: found.end()] + added + before[found.end() :]

    return edit


def at_end(added):
    return lambda before: before + added


def by_script(before):
    """Golden files are bytes that a script writes once all other places are filled."""


# What a contributor does in each place: {path: edit}. Places of the same name as in CONTRIBUTING.md, in any order.
METHOD = {
    "embshrink/methods/NAME.py": {"embshrink/methods/toy.py": toy("toy.py"),
                                  "embshrink/kernels/toy.py": toy("toy_kernel.py")},
    "embshrink/methods/registry.py": after(r'"cast": "emb', '    "toy": "embshrink.methods.toy:Toy",\n'),
    "embshrink/compression/run.py": after(r"^    max_memory : int", "        `toy` works block by block.\n"),
    "embshrink/cli/warmup.py": after(r"^STEPS = \{", '    "toy": ["toy:nearest=false"],\n'),
    "tests/checks.py": after(r"^SETTINGS = \{", '    "toy": ["toy:nearest=false"],\n'),
    "tests/test_compress.py": after(r'^BITS = \[', '        "toy",\n'),
    "tests/test_spool.py": after(r"^STEPS = \[", '         "toy",\n'),
    "tests/test_damage.py": after(r"^MADE_BY = \{", '    "toy": ["toy"],\n'),
    "tests/second_reader.py": lambda before: after(r"return list\(self.values.row\(row\)\)", '''
    def _read_toy(self, given, rows, c):
        self.upper = self._take("codes.upper", "uint16", rows, c)

    def _decode_toy(self, row):
        return [struct.unpack("<f", struct.pack("<I", number << 16))[0] for number in self.upper.row(row)]
''')(after(r"^CODECS = \{", "")(before).replace("CODECS = {", 'CODECS = {"toy", ', 1)),
    "tests/test_second_reader.py": after(r"^BITS = \[", '    ["toy"],\n'),
    "tests/golden/make.py": after(r"^CASES = \{", '    "toy": (["toy"], {}),\n'),
    "tests/golden/NAME.ems": {"tests/golden/toy.ems": by_script, "tests/golden/toy.npz": by_script},
    "docs/format.md": at_end("\n`toy`: `codes.upper` is uint16 (rows, c), the upper halves of float32.\n"),
    "docs/methods.md": at_end("\n`toy` is for tests.\n"),
    "benchmarks/methods.py": after(r"^SETTINGS = \[", '    ["toy"],\n'),
    "CHANGELOG.md": at_end("\n- The method `toy`.\n"),
}
FORMAT = {
    "embshrink/formats/NAME.py": {"embshrink/formats/toyfmt.py": toy("toyfmt.py")},
    "embshrink/formats/base.py": after(r"^FORMATS = \{", '    "toyfmt": Format("embshrink.formats.toyfmt"),\n'),
    "embshrink/formats/sniff.py": lambda before: after(r"^_RECOGNIZED: ", '    ("toyfmt", is_toy),\n')(after(
        r"^from embshrink.formats.text import DECIMAL", "from embshrink.formats.toyfmt import is_toy\n")(before)),
    "tests/test_NAME.py": {"tests/test_toyfmt.py": toy("toyfmt_checks.py")},
    "docs/formats.md": at_end("\n## toyfmt\n\nWords and numbers come back as they are.\n"),
    "CHANGELOG.md": at_end("\n- The format toyfmt.\n"),
}
COMMAND = {
    "embshrink/cli/commands.py": at_end('''

@cli.command(examples=("embshrink toys small.ems",))
@FILE
@json_option
def toys(file: str, as_json: bool) -> None:
    """Count the words of an .ems file."""
    from embshrink import reader

    click.echo(json.dumps({"words": reader.toys(file)}) if as_json else reader.toys(file))
'''),
    "embshrink/reader.py": at_end('''

def toys(path: Path) -> int:
    """Return how many words an ``.ems`` file has."""
    with load(path) as emb:
        return len(emb)
'''),
    "embshrink/__init__.py": lambda before: after(r"^_PUBLIC = \{", '    "toys": "embshrink.reader",\n')(after(
        r"import similar as similar", "    from embshrink.reader import toys as toys\n")(before)),
    "tests/test_structure.py": after(r"^TWINS = \{", '    "toys": "toys",\n'),
    "README.md": at_end("\n`embshrink toys FILE` counts words.\n"),
    "CHANGELOG.md": at_end("\n- The command toys.\n"),
}

# What must pass with every place filled: (test files, the expression that selects the tests of the new name)
CONCERNED = {
    "method": (["places", "registry", "contracts", "methods", "compress", "damage", "second_reader", "golden",
                "spool", "warmup"],
               "toy or place or registered or is_complete or every_method_and or composed or job_for"),
    "format": (["places", "toyfmt", "formats_files"], "toy or place or registry or round_trip or missing"),
    "command": (["places", "structure"], "place or twins or editors or public"),
}
NAMES = {"method": "toy", "format": "toyfmt", "command": "toys"}


def run(tree, *arguments):
    """Run Python in a tree, with that tree's package; kernels are not compiled, as the tables are tiny."""
    env = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True)


def pytest_in(tree, tests, selected):
    files = [f"tests/test_{name}.py" for name in tests]
    return run(tree, "-m", "pytest", "-q", "-rfs", "--tb=line", "-p", "no:cacheprovider", "-k", selected, *files)


class Tree:
    """A copy of the project in which the places of one kind can be filled and left out."""

    def __init__(self, root, edits):
        self.root = copy_tree(root)
        self.edits = {place: edit if isinstance(edit, dict) else {place: edit} for place, edit in edits.items()}
        self.before = {path: self.read(path) for files in self.edits.values() for path in files}
        for files in self.edits.values():
            for path, edit in files.items():
                if edit is not by_script:
                    (root / path).write_text(edit((self.before[path] or b"").decode()), encoding="utf-8")
        if any(edit is by_script for files in self.edits.values() for edit in files.values()):
            made = run(root, "tests/golden/make.py")
            assert made.returncode == 0, made.stderr
        self.filled = {path: self.read(path) for path in self.before}

    def read(self, path):
        return (self.root / path).read_bytes() if (self.root / path).exists() else None

    def put(self, contents, place):
        for path in self.edits[place]:
            if contents[path] is None:
                (self.root / path).unlink()
            else:
                (self.root / path).write_bytes(contents[path])


EDITS = {"method": METHOD, "format": FORMAT, "command": COMMAND}


@pytest.mark.parametrize("kind", EDITS)
def test_every_place_is_needed_and_no_other(kind, tmp_path):
    assert sorted(listed(kind)) == sorted(EDITS[kind]) == sorted(PLACES[kind])
    tree = Tree(tmp_path / "tree", EDITS[kind])
    done = pytest_in(tree.root, *CONCERNED[kind])
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout, done.stdout
    for place in EDITS[kind]:
        tree.put(tree.before, place)
        done = pytest_in(tree.root, ["places"], f"every_place and {kind}")
        expected = f"{place.replace('NAME', NAMES[kind])}: the {kind} {NAMES[kind]} is missing here"
        assert done.returncode == 1 and expected in done.stdout, f"without {place}:\n{done.stdout}{done.stderr}"
        tree.put(tree.filled, place)
