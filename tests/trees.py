"""A copy of the source tree, for tests that change files or build packages."""

import fnmatch
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", ".github", "benchmarks", "docs", "embshrink", "examples", "fuzz", "tests")
GENERATED = ("__pycache__", "*.pyc", ".*_cache", ".hypothesis", "*.egg-info", "_build")


def files_of(folder):
    """Return the names of the project's files in a folder, from the root."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in paths
            if not any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in GENERATED)}


def copy_tree(target):
    """Copy the files that belong to the project, and nothing that tools or builds leave in the tree."""
    for folder in FOLDERS:
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns(*GENERATED))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":  # in a worktree .git is a file
            shutil.copy2(path, target / path.name)
    return target
