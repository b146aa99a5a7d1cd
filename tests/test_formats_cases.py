"""Every odd or bad file of `badfiles`: loaded exactly, loaded with a warning, or refused with a useful message."""

import itertools
import re

import badfiles
import numpy as np
import pytest

from embshrink.errors import EmbshrinkError, SourceError
from embshrink.formats import ReadOptions, read_vectors

GROUPS = ("text_exact", "text_warning", "text_refused", "word2vec_cases", "container_cases", "foreign_cases")
CASES = [case for group in GROUPS for case in getattr(badfiles, group)()]


def check(case, tmp_path):
    path = tmp_path / case.file
    path.write_bytes(case.data)
    options = ReadOptions(**case.options)
    if case.outcome == "refused":
        with pytest.raises(SourceError) as caught:
            read_vectors(path, options)
        error = caught.value
        assert case.says in str(error)
        assert error.path == str(path)
        assert re.search(r"\b(line|byte|member|list of files)\b", error.where), error
        assert error.hint and error.hint[0].isupper()
        assert len(str(error)) < 600
        return
    vectors = read_vectors(path, options)
    assert vectors.words.raw == case.words
    np.testing.assert_array_equal(vectors.matrix.view(np.int32), case.rows.view(np.int32))
    if case.outcome == "exact":
        assert vectors.warnings == []
    else:
        assert any(case.says in warning for warning in vectors.warnings), vectors.warnings
    assert vectors.source["size"] == len(case.data)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case, tmp_path):
    check(case, tmp_path)


def test_zstd_cases(tmp_path):
    pytest.importorskip("zstandard")
    for case in badfiles.zstd_cases():
        check(case, tmp_path)


def test_case_names_are_distinct_within_their_group():
    for group in GROUPS:
        names = [case.name for case in getattr(badfiles, group)()]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", ["text", "text-header", "binary"])
def test_every_cut_loads_a_true_part_or_is_refused(kind, tmp_path):
    words, rows = badfiles.WORDS[:3], badfiles.ROWS[:3]
    whole = badfiles.binary(words, rows) if kind == "binary" else badfiles.text(words, rows, header=kind != "text")
    path = tmp_path / "cut"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            vectors = read_vectors(path, ReadOptions(format="word2vec" if kind == "binary" else None))
        except EmbshrinkError:
            continue
        # Only what a cut cannot be told from may load: whole rows of headerless text, or a last number cut short.
        if kind == "binary":
            assert length == len(whole) - 1
        elif kind == "text-header" and vectors.dim == 3:
            assert len(vectors) == 3 and any("no newline" in warning for warning in vectors.warnings)
        assert whole[:length].endswith(b"\n") or kind == "binary" or vectors.warnings
        if vectors.dim == 3:
            np.testing.assert_array_equal(vectors.matrix[:-1], rows[: len(vectors) - 1])


@pytest.mark.parametrize("kind", ["text", "binary", "gzip"])
def test_damage_never_ends_in_another_exception(kind, tmp_path):
    import gzip

    data = badfiles.binary(badfiles.MANY, badfiles.MANY_ROWS) if kind == "binary" else badfiles.text(header=True)
    data = gzip.compress(data) if kind == "gzip" else data
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged"
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_vectors(path)
        except EmbshrinkError:
            pass


def test_huge_promises_cost_no_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "promises"
    read_vectors(_write(path, badfiles.text()))  # compile first
    hostile = [badfiles.binary(count=10**18), badfiles.binary(dim=65_536, count=1),
               b"9999999999 60000\nw " + b"1 " * 60_000,
               badfiles.text(header=True).replace(b"6 3", b"999999999999 3")]
    for data, truncated in itertools.product(hostile, (False, True)):
        tracemalloc.start()
        try:
            read_vectors(_write(path, data), ReadOptions(allow_truncated=truncated))
        except SourceError:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30 << 20


def test_a_word_that_never_ends_is_given_up_early(tmp_path):
    path = tmp_path / "sparse.bin"
    with open(path, "wb") as file:
        file.write(b"2 10\n\x01")
        file.truncate(1 << 30)
    with pytest.raises(SourceError, match="no space ends the word of row 1"):
        read_vectors(path)


def _write(path, data):
    path.write_bytes(data)
    return path
