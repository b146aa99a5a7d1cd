"""Small tables that every test can have cheaply."""

import importlib.util
import os
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from embshrink import WordVectors
from embshrink.numerics import parallel

UNCOMPILED_SECONDS = 20  # that a test may take where nothing is compiled


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """With NUMBA_DISABLE_JIT=1 skip a test once it has taken too long: some would take an hour, most do not."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0" or not hasattr(signal, "setitimer"):
        return (yield)

    def stop(number, frame):
        if frame is not None and frame.f_code.co_name == "gc_callback":  # of hypothesis: what it raises is lost
            return
        raise pytest.skip.Exception(f"takes more than {UNCOMPILED_SECONDS} s without compiling")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, UNCOMPILED_SECONDS, 1)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        tracemalloc.stop()  # what a test that was skipped did not come to


@pytest.fixture(autouse=True)
def all_threads():
    """Leave the number of threads as it was found."""
    yield
    parallel.set_threads(None)


@pytest.fixture(scope="session")
def gensim_data():
    """Return the folder of real files in gensim's wheel."""
    return Path(importlib.util.find_spec("gensim").submodule_search_locations[0], "test", "test_data")


def make_vectors(n=400, d=10, seed=0, clusters=20):
    """Return word vectors with the shape real ones have: clusters, an uneven spectrum, a mean."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, d)) * np.linspace(2, 0.3, d)
    matrix = centres[rng.integers(clusters, size=n)] + rng.standard_normal((n, d)) * np.linspace(0.7, 0.1, d) + 0.2
    words = [f"w{i}" for i in range(n - 3)] + ["caf\u00e9", "two words", b"\xff\xfe"]
    return WordVectors(words, matrix.astype(np.float32))


@pytest.fixture(scope="session")
def vectors():
    """Return 400 words of dim 10."""
    return make_vectors()


@pytest.fixture(scope="session")
def subprocess_env():
    """Return an environment in which this checkout's embshrink is imported."""
    root = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
