"""Files that earlier commits wrote stay readable, and say what they said then (tests/golden/make.py wrote them)."""

from pathlib import Path

import numpy as np
import pytest
from golden.make import CASES, read_back

from embshrink import load
from embshrink.methods import registry

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.ems"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_files_stay_readable(path):
    before = np.load(path.with_suffix(".npz"))
    now = read_back(path)
    assert sorted(now) == sorted(before.files)
    for name, array in now.items():
        if array.dtype.kind == "f":  # the last bits of a product depend on the processor
            np.testing.assert_allclose(array, before[name], rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert np.array_equal(array, before[name]), name


def test_every_method_and_case_has_a_golden_file():
    assert {path.stem for path in FILES} >= set(CASES)
    found = set()
    for path in FILES:
        with load(path) as emb:
            info = emb.info()
        found.update(registry.name_of(registry.parse(step)) for step in info["steps"])
    assert found == set(registry.METHODS)
