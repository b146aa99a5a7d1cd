"""Tests of toyfmt; in the copy of the tree they are tests/test_toyfmt.py."""

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


@pytest.mark.parametrize(("data", "place"), [
    (b"TOY 2 1\nup\t1\n", "line 1"), (b"TOY 999999999 9\n", "line 1"), (b"TOY 1 2\nup\t1\n", "line 2"),
    (b"TOY 1 1\nup\tone\n", "line 2"),
])
def test_what_is_missing_is_refused(data, place, tmp_path):
    (tmp_path / "v.toy").write_bytes(data)
    with pytest.raises(SourceError, match=place):
        read_vectors(tmp_path / "v.toy")
