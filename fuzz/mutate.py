"""Mutation testing: change one place of the reading code at a time, and see whether a test fails.

    python fuzz/mutate.py                       # 500 mutants, drawn by seed 0; hours
    python fuzz/mutate.py --count 100           # the first 100 of the same 500
    python fuzz/mutate.py --list                # only print what would be changed

A mutant is one changed operator, comparison, constant, condition or statement of the modules in `TESTS`. The tests of
its module, without those in `SLOW`, run with ``-x`` on a copy of the tree, in a fork of this process. A mutant is
killed if a test fails, or if the tests take more than five times as long as without a change. The exit status is 1 if
fewer than 90 % are killed. Mutants that behave as the code does are in `EQUAL`, with the reason; they are left out.
"""

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from trees import copy_tree  # noqa: E402  (needs the path)

DRAWN = 500
LEAST_KILLED = 0.9

_DAMAGE = "tests/test_damage.py"
_CASES = "tests/test_formats_cases.py"
_FILES = "tests/test_formats_files.py"
_STREAM = [_CASES, _FILES, "tests/test_formats_numbers.py"]
_PACKED = ["tests/test_golden.py", "tests/test_packed.py", "tests/test_order.py"]
SLOW = ("500_data_bits", "cut_at_every", "a_changed_byte", "random_changes", "many_bytes")  # tests that take long
TESTS = {  # module below embshrink/: the tests that must notice a change of it, the most likely first
    "storage/container.py": ["tests/test_container.py", _DAMAGE, "tests/test_golden.py"],
    "storage/header.py": ["tests/test_header.py", "tests/test_golden.py", _DAMAGE],
    "embeddings/file.py": ["tests/test_golden.py", "tests/test_ngrams.py", _DAMAGE],
    "vocabulary/words.py": ["tests/test_vocab.py", "tests/test_reader.py", _DAMAGE],
    "vocabulary/packed.py": _PACKED,
    "vocabulary/front_coding.py": _PACKED,
    "vocabulary/context_model.py": _PACKED,
    "vocabulary/listed_ids.py": _PACKED,
    "vocabulary/octave_ids.py": _PACKED,
    "vocabulary/tree_ids.py": _PACKED,
    "vocabulary/id_order.py": _PACKED,
    "vocabulary/numbers.py": _PACKED,
    "vocabulary/bitmap.py": ["tests/test_bitmap.py", "tests/test_ngrams.py"],
    "vocabulary/ngram_hashing.py": ["tests/test_ngrams.py", "tests/test_floret.py", "tests/test_fasttext.py"],
    "vocabulary/ngram_rows.py": ["tests/test_ngrams.py", "tests/test_floret.py"],
    "formats/sniff.py": [_CASES, _FILES, "tests/test_navec.py", "tests/test_floret.py", "tests/test_finalfusion.py"],
    "formats/text.py": _STREAM,
    "formats/word2vec.py": _STREAM,
    "formats/fasttext/reader.py": ["tests/test_fasttext.py"],
    "formats/fasttext/model.py": ["tests/test_fasttext.py", "tests/test_ngrams.py"],
    "formats/finalfusion.py": ["tests/test_finalfusion.py"],
    "formats/floret.py": ["tests/test_floret.py"],
    "formats/navec.py": ["tests/test_navec.py"],
    "formats/io/cursor.py": ["tests/test_fasttext.py", "tests/test_navec.py", "tests/test_finalfusion.py"],
    "formats/io/pieces.py": [*_STREAM, "tests/test_floret.py"],
    "formats/io/pq_files.py": ["tests/test_navec.py", "tests/test_finalfusion.py"],
    "formats/io/raw.py": [_CASES, _FILES],
    "formats/io/stream.py": [_CASES, _FILES, "tests/test_spacy.py"],
    "formats/io/table_builder.py": [*_STREAM, "tests/test_fasttext.py"],
    "formats/io/unpack.py": [_CASES, _FILES],
}
EQUAL: dict[str, str] = {}  # what a mutant prints: why no test can notice it

# ---------------------------------------------------------------- mutants

OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And}
MESSAGES = {"hint", "expected", "found", "where", "path"}  # of an error: its wording is not what is tested here


@dataclass(frozen=True)
class Mutant:
    """One change of a module: bytes `start` to `stop` become `text`."""

    module: str
    start: int
    stop: int
    text: str
    shown: str  # the module, and what the code and the change are


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield what of a node changes, and to what."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            changed = copy.copy(node)
            changed.ops = [*node.ops[:place], OPERATORS[type(operator)](), *node.ops[place + 1 :]]
            yield node, f"({ast.unparse(changed)})"
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS and not _is_text(node):
        changed = copy.copy(node)
        changed.op = OPERATORS[type(node.op)]()
        yield node, f"({ast.unparse(changed)})"
    elif isinstance(node, ast.UnaryOp):
        yield node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):  # True and False too
        yield node, str(not node.value) if isinstance(node.value, bool) else str(node.value + 1)
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield node.test, "False"
    elif isinstance(node, (ast.Expr, ast.AugAssign)):
        yield node, "pass"
    elif isinstance(node, ast.Return) and not (node.value is None or ast.unparse(node.value) == "None"):
        yield node.value, "None"
    elif isinstance(node, ast.Break):
        yield node, "continue"


def _is_text(node: ast.AST) -> bool:
    """Whether an operation makes text, such as that of a message."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
        return True
    return any(isinstance(part, ast.JoinedStr) or isinstance(part, ast.Constant) and isinstance(part.value, str)
               for part in ast.walk(node))


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that do something when the module is used: no annotation, docstring or message."""
    if isinstance(node, ast.JoinedStr) or isinstance(node, ast.keyword) and node.arg in MESSAGES:
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.FunctionDef) and any("overload" in ast.unparse(one) for one in node.decorator_list):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from _run(part)


def mutants(module: str) -> list[Mutant]:
    """Return every change of a module."""
    source = (ROOT / "embshrink" / module).read_bytes()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found = []
    for node in _run(ast.parse(source)):
        for part, text in _changes(node):
            start = lines[part.lineno - 1] + part.col_offset
            stop = lines[part.end_lineno - 1] + part.end_col_offset
            shown = f"{module}:{part.lineno}: {ast.unparse(part).splitlines()[0]}  ->  {text}"
            found.append(Mutant(module, start, stop, text, shown))
    return found


def drawn(seed: int, count: int) -> list[Mutant]:
    """Return mutants of all modules, drawn by seed."""
    every = [mutant for module in TESTS for mutant in mutants(module)]
    return random.Random(seed).sample(every, min(count, len(every)))


# ---------------------------------------------------------------- running the tests

HEAVY = ("hypothesis", "numba", "scipy.linalg", "sklearn.cluster", "click", "rich.table", "zstandard")
PRELOADED = "ignore::pytest.PytestAssertRewriteWarning"  # of hypothesis


def preload() -> None:
    """Import what the tests import besides embshrink, once: each mutant runs in a fork of this process."""
    for name in HEAVY:
        importlib.import_module(name)


def run_tests(tree: Path, module: str, seconds: float) -> bool:
    """Return whether the tests of a module pass in a tree, within a time."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(tree)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        sys.path[:] = [str(tree), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        code = 1
        try:
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-W", PRELOADED, "-k",
                                    " and ".join(f"not {name}" for name in SLOW), *TESTS[module]]))
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def judge(mutant: Mutant, tree: Path, seconds: float) -> bool:
    """Return whether a mutant is killed."""
    path = tree / "embshrink" / mutant.module
    source = path.read_bytes()
    path.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.stop :])
    try:
        return not run_tests(tree, mutant.module, seconds)
    finally:
        path.write_bytes(source)


def time_of(module: str, tree: Path) -> float:
    """Return how long the tests of a module take without a change."""
    start = time.monotonic()
    if not run_tests(tree, module, 600):
        raise SystemExit(f"the tests of {module} fail without a change: {' '.join(TESTS[module])}")
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=DRAWN, help=f"mutants to try (default: {DRAWN})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--module", action="append", choices=list(TESTS), help="only this module; can be repeated")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these minutes (default: never)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "embshrink-mutants"),
                        help="folder for the copy of the tree (default: embshrink-mutants in the temporary folder)")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    chosen = drawn(options.seed, DRAWN)[: options.count]
    if options.module:
        chosen = [mutant for mutant in chosen if mutant.module in options.module]
    if options.list:
        print("\n".join(mutant.shown for mutant in chosen))
        return 0
    start, times, killed, survivors, equal = time.monotonic(), {}, 0, [], 0
    shutil.rmtree(options.work, ignore_errors=True)
    tree = copy_tree(options.work / "tree")  # always the same path, for numba's cache
    preload()
    for mutant in chosen:
        if time.monotonic() - start > 60 * options.minutes:
            break
        if mutant.shown in EQUAL:
            equal += 1
            continue
        tests = tuple(TESTS[mutant.module])
        if tests not in times:
            times[tests] = time_of(mutant.module, tree)
        if judge(mutant, tree, 10 + 5 * times[tests]):
            killed += 1
        else:
            survivors.append(mutant.shown)
            print(f"survived: {mutant.shown}", flush=True)
        print(f"{killed} of {killed + len(survivors)} killed", file=sys.stderr, flush=True)
    tried = killed + len(survivors)
    print(f"{tried} mutants: {killed} killed ({killed / max(tried, 1):.1%}), {len(survivors)} survived; {equal} that "
          f"change nothing were left out; seed {options.seed}, {(time.monotonic() - start) / 60:.0f} minutes")
    return int(killed < LEAST_KILLED * tried)


if __name__ == "__main__":
    sys.exit(main())
