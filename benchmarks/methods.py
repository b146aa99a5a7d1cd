"""Size, loss and time of every method on GloVe 6B 50d.

    pip install -e '.[bench]'
    python benchmarks/methods.py               # ten minutes
    python benchmarks/methods.py --settings    # a minute

The first writes results/methods.json, and the table of docs/methods.md. The second writes results/settings.json,
and the table of README.md and docs/index.md: a few settings beside the file they are made from, without times.
"""

import os
import sys
import tempfile

import numpy as np
import pages
from common import RESULTS, glove_files, seconds, write

import embshrink

SETTINGS = [
    ["cast:dtype=float32"],
    ["cast"],
    ["ecq:bits=150"],
    ["ecq"],
    ["scalar:bits=8"],
    ["scalar:bits=4"],
    ["scalar:bits=2"],
    ["pq:subspaces=25"],
    ["pq:subspaces=25,centroids=16,rotate=pca"],
    ["pq:subspaces=10,rotate=opq"],
    ["pq:subspaces=5,rotate=opq"],
    ["rq:codebooks=10"],
    ["rq:codebooks=5"],
    ["iiq"],
    ["itq"],
    ["sign"],
    ["iiq:bits=25"],
    ["prune:keep=20000"],
    ["prune:keep=20000,norms=true"],
    ["prune:keep=20000,select=facility"],
    ["prune:keep=20000,select=facility,weighted=true"],
    ["kmeans:centroids=4000,norms=true,iterations=5"],
    ["lowrank:dims=25"],
    ["lowrank:dims=43", "scalar:bits=4"],
    ["groupreduce:keep=0.25"],
    ["groupreduce:keep=0.25,dtype=int8"],
    ["blocksparse:density=0.25"],
    ["tensortrain"],
    ["magnitude:sparsity=0.8"],
    ["prune:keep=20000,norms=true", "pq:subspaces=25"],
    ["prune:keep=100000,norms=true", "rq:codebooks=10"],
]

DEFAULT = ["default"]  # no steps
SHOWN = [["cast"], ["pq"], DEFAULT, ["ecq"]]


def decode_nanoseconds(emb, rows=20_000):
    """Return nanoseconds per row to decode random rows in one batch."""
    chosen = np.random.default_rng(0).integers(emb.n_rows, size=rows)
    emb.decode_rows(chosen)
    return 1e9 * min(seconds(lambda: emb.decode_rows(chosen))[0] for _ in range(3)) / rows


def measure(steps, source, folder):
    target = os.path.join(folder, "v.ems")
    report = embshrink.compress(source, target, None if steps == DEFAULT else steps, force=True)
    with embshrink.load(target) as emb:
        scores = {score.name: score.spearman for score in embshrink.evaluate(emb).similarity}
        nanoseconds = decode_nanoseconds(emb)
    return {
        "steps": steps, "resolved": report.steps, "bits_per_word": report.bits_per_word, "bytes": report.target_bytes,
        "ratio": report.ratio, **report.loss, **scores, "seconds": report.seconds["shrink"], "decode_ns": nanoseconds,
    }


def settings():
    """Write results/settings.json."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _, source = glove_files(folder)
        scores = {score.name: score.spearman for score in embshrink.evaluate(source).similarity}
        rows.append({"steps": [], "bytes": source.stat().st_size, "ratio": 1.0, "relative_error": 0.0,
                     "overlap_at_10": 1.0, **scores})
        for steps in SHOWN:
            row = measure(steps, source, folder)
            rows.append({key: value for key, value in row.items() if key not in ("seconds", "decode_ns")})
    write("settings", {"source": "GloVe 6B 50d, word2vec binary", "rows": rows})
    pages.fill()


def main(chosen):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _, source = glove_files(folder)
        for steps in SETTINGS:
            if chosen and not any(name in " ".join(steps) for name in chosen):
                continue
            rows.append(measure(steps, source, folder))
            print(rows[-1], file=sys.stderr, flush=True)
    write("methods" if not chosen else "methods-some", {"source": "GloVe 6B 50d, word2vec binary", "rows": rows})
    if not chosen:
        pages.fill()
    print(pages.methods({"methods": {"rows": rows}}))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    settings() if sys.argv[1:] == ["--settings"] else main(sys.argv[1:])
