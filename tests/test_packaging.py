"""What the wheel and the source package hold, versions and links that must agree, forms and workflows.

The packages are built from a copy of the tree, without network. `.ci/run` sets EMBSHRINK_DIST to a folder with
packages that were built as for a release, and the same tests look into those.
"""

import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import yaml
from trees import FOLDERS, ROOT, copy_tree, files_of

import embshrink

MOST_BYTES = 1_000_000  # of a file in a package
NEEDED = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "RELEASING.md", "SECURITY.md",
          "MANIFEST.in", "pyproject.toml", "setup.cfg", ".pre-commit-config.yaml"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Return the folder of a wheel and a source package."""
    if "EMBSHRINK_DIST" in os.environ:
        return Path(os.environ["EMBSHRINK_DIST"])
    folder = tmp_path_factory.mktemp("packages")
    tree = copy_tree(folder / "tree")
    built = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", tree],
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "dist"


def one_of(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture(scope="module")
def wheel(dist):
    """Return the files of the wheel, name -> bytes."""
    with zipfile.ZipFile(one_of(dist, "*.whl")) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def sdist(dist):
    """Return the files of the source package, name without the folder -> bytes."""
    with tarfile.open(one_of(dist, "*.tar.gz")) as file:
        return {member.name.partition("/")[2]: file.extractfile(member).read()
                for member in file.getmembers() if member.isfile()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    meta = f"embshrink-{embshrink.__version__}.dist-info/"
    package = {name for name in wheel if not name.startswith(meta)}
    assert package == {name for name in files_of("embshrink") if name.endswith((".py", "py.typed"))}
    assert {name.removeprefix(meta) for name in wheel if name.startswith(meta)} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


def test_the_source_package_holds_what_tests_need(sdist):
    assert set(sdist) >= NEEDED
    for folder in FOLDERS:
        assert not files_of(folder) - set(sdist), f"MANIFEST.in leaves out files of {folder}"


def test_the_source_package_holds_nothing_else(sdist):
    made = {"PKG-INFO", *(name for name in sdist if name.startswith("embshrink.egg-info/"))}
    allowed = {path.name for path in ROOT.iterdir() if path.is_file()}.union(*map(files_of, FOLDERS))
    assert set(sdist) - made <= allowed


def test_packages_hold_no_large_file(wheel, sdist):
    for files in (wheel, sdist):
        assert {name: len(data) for name, data in files.items() if len(data) > MOST_BYTES} == {}


def test_metadata(wheel):
    meta = message_from_string(wheel[f"embshrink-{embshrink.__version__}.dist-info/METADATA"].decode())
    assert meta["Version"] == embshrink.__version__
    assert meta["Description-Content-Type"] == "text/markdown"
    assert meta.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    urls = dict(value.split(", ", 1) for value in meta.get_all("Project-URL"))
    assert {"Documentation", "Changelog", "Issues", "Source"} <= set(urls)
    pythons = [value.rpartition(" ")[2] for value in meta.get_all("Classifier") if re.search(r":: 3\.\d+$", value)]
    assert meta["Requires-Python"] == f">={pythons[0]}"


# ---------------------------------------------------------------- versions and links


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(\d[^\s\]]*)", changelog, re.M).group(1)
    assert str(citation["version"]) == embshrink.__version__, "CITATION.cff"
    assert newest == embshrink.__version__, "CHANGELOG.md"
    assert setup()["metadata"]["version"] == "attr: embshrink.__version__"


def test_links_to_the_project_have_one_base():
    """The base stands in setup.cfg, as url; another host or owner in any file is a mistake."""
    base = setup()["metadata"]["url"]
    host = re.escape(base.split("/")[2])
    texts = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")
             if path.suffix in {".py", ".md", ".yml", ".yaml", ".html", ".toml"}]
    texts += [ROOT / name for name in NEEDED]
    found = 0
    for path in texts:
        for link in re.findall(rf"https?://{host}/[\w./-]*embshrink[\w./-]*", path.read_text(encoding="utf-8")):
            assert re.match(rf"{re.escape(base)}(?![\w-])", link), f"{path.relative_to(ROOT)}: {link}"
            found += 1
    assert found > 6


def test_links_of_the_metadata_name_files_that_exist():
    base = setup()["metadata"]["url"]
    for link in re.findall(rf"{re.escape(base)}/(?:blob|tree)/main/(\S+)", (ROOT / "setup.cfg").read_text()):
        assert (ROOT / link).exists(), link


# ---------------------------------------------------------------- forms, workflows, hooks


def test_issue_forms():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")}
    assert set(forms) == {"bug", "quality", "format", "config"}
    config = forms.pop("config")
    assert config["blank_issues_enabled"] is False
    for link in config["contact_links"]:
        assert set(link) == {"name", "url", "about"}
    for name, form in forms.items():
        assert form["name"] and form["description"], name
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(ids)) == len(ids), name
        for part in form["body"]:
            assert part["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}, name
            assert part["attributes"].get("value" if part["type"] == "markdown" else "label"), name
        assert any(part.get("validations", {}).get("required") for part in form["body"]), name
    assert {"version", "command", "kind", "head", "info"} <= {part.get("id") for part in forms["bug"]["body"]}


def test_the_workflow_runs_what_contributors_run():
    (path,) = (ROOT / ".github" / "workflows").glob("*.yml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    pythons = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert all(f"Programming Language :: Python :: {python}" in setup()["metadata"]["classifiers"]
               for python in pythons)


def test_hooks_are_pinned_and_run_the_linter_in_use():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}
    assert set(hooks) >= {"ruff", "end-of-file-fixer", "trailing-whitespace", "check-added-large-files"}
    for name, hook in hooks.items():
        for package in hook.get("additional_dependencies", ()):
            assert re.fullmatch(r"[\w-]+==[\d.]+", package), f"{name}: {package} is not pinned"
    (pinned,) = hooks["ruff"]["additional_dependencies"]
    lowest = re.search(r"^    ruff(.*)$", setup()["options.extras_require"]["test"].replace("\n", "\n    "), re.M)
    assert lowest.group(1) == pinned.removeprefix("ruff"), "setup.cfg and .pre-commit-config.yaml must name one ruff"
