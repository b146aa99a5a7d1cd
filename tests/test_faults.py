"""Writing under faults: a part of what ``python tests/faults.py --full`` runs, for every writer and every export."""

import errno
import os
import random

import faults
import pytest

from embshrink.storage import atomic

pytestmark = pytest.mark.skipif(os.name != "posix" or not os.path.isdir("/proc/self/fd"), reason="needs Linux")


def test_all_kinds_of_faults(tmp_path):
    counts = faults.run(tmp_path)
    if not counts.pop("a full disk (tmpfs of 1 MiB)"):
        print("NOT RUN: a small file system, which root may mount")
    assert min(counts.values()) > 0
    assert counts["power cut"] > 1000 and counts["N-th call fails"] > 200


def lost_fsync(file, target):
    file.close()


def too_early(temporary, target, old, force):
    if os.path.isdir(target):
        os.rename(target, old)
    os.rename(temporary, target)


@pytest.mark.parametrize(("name", "kind", "part", "instead"), [
    ("ems", "power_cuts", "_finish", lost_fsync),
    ("spacy", "power_cuts", "_place_folder", too_early),
    ("text", "nth_call", "_finish", lambda file, target: file.close()),
])
def test_a_writer_without_a_precaution_is_found(tmp_path, monkeypatch, name, kind, part, instead):
    """Without fsync, or with two renames in place of one, the runs above fail."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "place").mkdir()
    writer = next(one for one in faults.writers(tmp_path / "scratch") if one.name == name)
    writer.write(tmp_path / "place", True)
    new = writer.state(tmp_path / "place")
    rest = random.Random(0) if kind == "power_cuts" else [errno.ENOSPC]
    getattr(faults, kind)(writer, tmp_path / "place", new, rest)
    monkeypatch.setattr(atomic, part, instead)
    with pytest.raises((AssertionError, OSError)):
        getattr(faults, kind)(writer, tmp_path / "place", new, rest)
