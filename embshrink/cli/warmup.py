"""Compile every kernel before it is needed, by running small jobs through the public functions.

numba caches compiled kernels in a folder, by the argument types of each call. The jobs below read, compress, search,
score and write small tables: this compiles the kernels that commands use, and no list of types has to be maintained.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import EmbshrinkError, ExtraError, TargetError, need
from embshrink.numerics.progress import Progress, no_progress

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

    from embshrink.embeddings.word_vectors import WordVectors

# Settings that reach kernels which a method's defaults do not reach on a small table.
STEPS = {
    "prune": ["prune:keep=200", "prune:keep=200,norms=true", "prune:keep=200,select=facility"],
    "kmeans": ["kmeans:centroids=50"],
    "ecq": ["ecq:step=0.3,centroids=8", "ecq:step=0.3,trellis=0"],
    "pq": ["pq:subspaces=5", "pq:subspaces=5,centroids=300", "pq:subspaces=5,rotate=opq"],
    "rq": ["rq:codebooks=2", "rq:codebooks=2,centroids=300"],
}
INDEXED = ["scalar:bits=8", "pq:subspaces=4,centroids=16", "pq:subspaces=4", "prune:keep=21000,norms=true"]
ROWS, DIM = 2000, 20  # more than 16 columns: k-means of fewer has other kernels, which pq reaches
MANY_ROWS, FEW_COLUMNS = 22_000, 8  # search keeps an index of 20,000 rows and more


@dataclass
class Warmed:
    """Result of `warmup`.

    Parameters
    ----------
    folder : str
        The folder of compiled kernels.
    compiled, found : int
        Number of kernels compiled now, and of kernels found in the cache. A kernel counts once for each combination
        of argument types.
    seconds : float
    """

    folder: str
    compiled: int
    found: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return the parts as a JSON-able dict."""
        return asdict(self)


def warmup(jobs: Sequence[str] | None = None, *, progress: Progress = no_progress) -> Warmed:
    """Compile the kernels that commands use, so that their first use is fast.

    Parameters
    ----------
    jobs : sequence of str, optional
        Names in `job_names`; all by default.
    progress : callable
        ``progress(job, done, total)``.

    Returns
    -------
    Warmed

    Raises
    ------
    TargetError
        If there is no writable folder for compiled kernels: compiling them now would be useless.
    EmbshrinkError
        If NUMBA_DISABLE_JIT is set, or a job is unknown.
    """
    start = time.perf_counter()
    need("warmup", "numba", "scipy", "threadpoolctl")
    folder = cache_folder()
    chosen = _chosen(jobs)
    with tempfile.TemporaryDirectory() as scratch:
        for done, (name, job) in enumerate(chosen.items()):
            progress(name, done, len(chosen))
            job(scratch)
    progress("ready", len(chosen), len(chosen))
    stats = [kernel.stats for kernel in _kernels()]
    return Warmed(folder, sum(sum(one.cache_misses.values()) for one in stats),
                  sum(sum(one.cache_hits.values()) for one in stats), time.perf_counter() - start)


def cache_folder() -> str:
    """Return the folder of embshrink's compiled kernels; raise TargetError if there is none."""
    from numba.core import config

    disabled = vars(config)["DISABLE_JIT"]  # numba sets the module's names when it is imported
    if disabled:
        raise EmbshrinkError("compiling is switched off", expected="NUMBA_DISABLE_JIT unset or 0",
                             found=disabled, hint="Unset NUMBA_DISABLE_JIT.")
    import embshrink.kernels.top  # noqa: F401

    path = next(kernel.stats.cache_path for kernel in _kernels())
    if path is None:
        raise TargetError("no writable folder for compiled kernels", path=os.path.dirname(__file__),
                          hint="Set NUMBA_CACHE_DIR to a writable folder, for this command and for later ones; "
                               "without it every command compiles its kernels again.")
    return str(path)


def job_names() -> list[str]:
    """Return the names of all jobs."""
    return list(_jobs())


def _chosen(names: Sequence[str] | None) -> dict[str, Callable[[str], None]]:
    jobs = _jobs()
    unknown = [name for name in names or () if name not in jobs]
    if unknown:
        raise EmbshrinkError(f"unknown warmup job {unknown[0]!r}", expected=f"one of {', '.join(jobs)}")
    return jobs if names is None else {name: jobs[name] for name in names}


def _kernels() -> Iterator[Dispatcher]:
    """Yield the kernels of the modules that are loaded."""
    from numba.core.dispatcher import Dispatcher

    for name, module in list(sys.modules.items()):
        if name.startswith("embshrink.kernels."):
            yield from (value for value in vars(module).values() if isinstance(value, Dispatcher))


# ---------------------------------------------------------------- jobs


def _jobs() -> dict[str, Callable[[str], None]]:
    """Return the jobs by name; each is called with a folder for its files."""
    from embshrink.methods import registry

    jobs: dict[str, Callable[[str], None]] = {
        "formats": _formats, "fasttext": _fasttext, "search": _search, "evaluate": _evaluate}
    for method in registry.METHODS:
        jobs[method] = functools.partial(_method, method)
    return jobs


def _table(rows: int, columns: int) -> WordVectors:
    """Return vectors similar to real ones: clusters, and an uneven spectrum."""
    from embshrink.embeddings.word_vectors import WordVectors

    rng = np.random.default_rng(0)
    spectrum = np.linspace(1, 0.2, columns)
    centres = rng.standard_normal((30, columns)) * spectrum
    matrix = centres[rng.integers(30, size=rows)] + rng.standard_normal((rows, columns)) * spectrum
    return WordVectors([f"word{i}" for i in range(rows)], matrix.astype(np.float32))


def _use(path: str) -> None:
    """Decode all rows of a file, and search it three times: the second search builds an index."""
    from embshrink.reader import load

    with load(path, verify="full") as emb:
        np.asarray(emb.vectors)
        for word in ("word1", "word2", "word3"):
            emb.most_similar(word)


def _method(name: str, folder: str) -> None:
    from embshrink.compression.run import compress
    from embshrink.methods import registry

    vectors, target = _table(ROWS, DIM), os.path.join(folder, "method.ems")
    for step in STEPS.get(name, [name]):
        last = [] if registry.method(name).axis == "bits" else ["scalar"]
        compress(vectors, target, [step, *last], vocabulary="packed", force=True)
        _use(target)


def _formats(folder: str) -> None:
    """Write and read every format that embshrink writes and that can hold words without n-grams."""
    from embshrink.formats import FORMATS, ReadOptions, read_vectors, write_vectors

    vectors = _table(ROWS, DIM)
    for name, one in FORMATS.items():
        if one.write and not one.holds_ngrams_alone and name not in ("fasttext", "gensim"):
            path = os.path.join(folder, name)
            write_vectors(vectors.words, [vectors.matrix], path, name)
            read_vectors(path, ReadOptions(format=name))


def _fasttext(folder: str) -> None:
    """Compress a model with n-grams, look up an OOV word, and write the model back."""
    from embshrink.compression.run import compress
    from embshrink.evaluation.benchmarks import gensim_file
    from embshrink.formats import export, read_vectors
    from embshrink.reader import load

    try:
        source = gensim_file("crime-and-punishment.bin")
    except ExtraError:  # gensim is installed without its test data
        return
    target = os.path.join(folder, "model.ems")
    compress(source, target, ["scalar"], force=True)
    with load(target) as emb:
        emb.get("unseen")
        export(emb, os.path.join(folder, "model.bin"), "fasttext", force=True)
    read_vectors(source)


def _search(folder: str) -> None:
    from embshrink.compression.run import compress

    vectors, target = _table(MANY_ROWS, FEW_COLUMNS), os.path.join(folder, "search.ems")
    for step in INDEXED:
        compress(vectors, target, [step], force=True, measure=False)
        _use(target)


def _evaluate(folder: str) -> None:
    from embshrink.reader import evaluate
    from embshrink.storage.atomic import atomic_write

    vectors, questions = _table(ROWS, DIM), os.path.join(folder, "questions.txt")
    with atomic_write(questions, force=True) as file:
        file.write(b": all\nword1 word2 word3 word4\nword5 word6 word7 word8\n")
    evaluate(vectors, vectors, analogies=questions)
