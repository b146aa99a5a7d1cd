"""Tests of toyfmt: tests/test_contributing.py copies this file to tests/test_toyfmt.py."""

import numpy as np
import pytest

from embshrink import SourceError, read_vectors, write_vectors

WORDS, ROWS = [b"up", b"two words"], np.array([[1, -0.1], [1e-30, 3]], np.float32)


def test_round_trip(tmp_path):
    write_vectors(WORDS, [ROWS], tmp_path / "v.toy", "toyfmt")
    found = read_vectors(tmp_path / "v.toy")
    assert found.source["format"] == "toyfmt"
    assert found.words.raw == WORDS
    assert np.array_equal(found.matrix, ROWS)


@pytest.mark.parametrize("data", [b"TOY 2 1\nup\t1\n", b"TOY 1 2\nup\t1\n"])
def test_what_is_missing_is_refused(data, tmp_path):
    (tmp_path / "v.toy").write_bytes(data)
    with pytest.raises(SourceError):
        read_vectors(tmp_path / "v.toy")
