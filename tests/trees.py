"""A copy of the source tree, for tests that change files or build packages."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", ".github", "benchmarks", "docs", "embshrink", "examples", "tests")
GENERATED = ("__pycache__", "*.pyc", ".*_cache", ".hypothesis", "*.egg-info")


def copy_tree(target):
    """Copy the files that belong to the project, and nothing that tools or builds leave in the tree."""
    for folder in FOLDERS:
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns(*GENERATED))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":  # in a worktree .git is a file
            shutil.copy2(path, target / path.name)
    return target
