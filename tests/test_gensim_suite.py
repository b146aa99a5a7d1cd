"""gensim's own tests of KeyedVectors, with our reader in place of every KeyedVectors that is loaded from a file.

The tests are those in the installed gensim (``gensim/test/test_keyedvectors.py``). Objects that they build word by
word stay gensim's.
"""

import functools
import unittest

import pytest
from gensim.test import test_keyedvectors as suite
from gensim.test.utils import datapath
from gensim.utils import SaveLoad

import embshrink
from embshrink import ReadOptions, read_vectors

READ_ONLY = "it adds or replaces words, and an .ems file is read-only"
SKIPPED = {  # a test of gensim, and why it cannot pass
    "TestKeyedVectors.test_add_single": READ_ONLY,
    "TestKeyedVectors.test_add_multiple": READ_ONLY,
    "TestKeyedVectors.test_set_item": READ_ONLY,
}
TESTS = {f"{type(test).__name__}.{test._testMethodName}": test
         for group in unittest.defaultTestLoader.loadTestsFromModule(suite) for test in group}


def as_ems(vectors, folder, name):
    """Return our vectors in memory as an .ems file, which is compressed without loss and opened."""
    target = folder / f"{name}.ems"
    embshrink.compress((vectors.words, vectors.vectors), target, "cast:dtype=float32", measure=False, force=True)
    return embshrink.load(target)


@functools.lru_cache
def euclidean(folder):
    """Return the file that most tests use, which is compressed once."""
    path = datapath("euclidean_vectors.bin")
    return as_ems(embshrink.Embeddings.load_word2vec_format(path, binary=True), folder, "euclidean")


@pytest.fixture
def ours(monkeypatch, tmp_path, tmp_path_factory):
    """Put our reader in place of the three functions by which gensim's tests load KeyedVectors."""
    from gensim.models import KeyedVectors, keyedvectors

    def load_word2vec_format(path, fvocab=None, **settings):
        if path == datapath("euclidean_vectors.bin"):
            return euclidean(tmp_path_factory.getbasetemp())
        found = embshrink.Embeddings.load_word2vec_format(path, fvocab, **settings)
        return found if fvocab else as_ems(found, tmp_path, "v")  # an .ems file stores no counts

    def load_chunks(cls, fname, binary_chunk_size, **settings):
        return load_word2vec_format(fname, **settings)

    def load(path):
        with monkeypatch.context() as before:
            before.setattr(KeyedVectors, "load", gensims_load)
            return as_ems(embshrink.as_embeddings(read_vectors(path, ReadOptions(format="gensim"))), tmp_path, "v")

    gensims_load = KeyedVectors.__dict__.get("load", vars(SaveLoad)["load"])
    monkeypatch.setattr(KeyedVectors, "load_word2vec_format", staticmethod(load_word2vec_format))
    monkeypatch.setattr(KeyedVectors, "load", staticmethod(load), raising=False)
    monkeypatch.setattr(keyedvectors, "_load_word2vec_format", load_chunks)


@pytest.mark.parametrize("name", TESTS)
def test_gensims_own_tests_pass(name, ours):
    result = unittest.TestResult()
    TESTS[name].run(result)
    faults = result.failures + result.errors
    if name in SKIPPED:
        assert faults, f"{name} passes: take it out of SKIPPED"
        pytest.skip(SKIPPED[name])
    assert not faults, faults[0][1]


def test_every_skipped_test_exists():
    assert set(SKIPPED) < set(TESTS) and len(TESTS) - len(SKIPPED) >= 30
