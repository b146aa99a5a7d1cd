"""Size, loss and time of every method on GloVe 6B 50d.

    pip install -e '.[bench]'
    python benchmarks/methods.py

Writes results/methods.json, and the table between the markers in docs/methods.md and README.md.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import RESULTS, glove_files, seconds, write

import embshrink

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    ["cast:dtype=float32"],
    ["cast"],
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


def decode_nanoseconds(emb, rows=20_000):
    """Return nanoseconds per row to decode random rows in one batch."""
    chosen = np.random.default_rng(0).integers(emb.n_rows, size=rows)
    emb.decode_rows(chosen)
    return 1e9 * min(seconds(lambda: emb.decode_rows(chosen))[0] for _ in range(3)) / rows


def measure(steps, source, folder):
    target = os.path.join(folder, "v.ems")
    report = embshrink.compress(source, target, steps, force=True)
    with embshrink.load(target) as emb:
        scores = {score.name: score.spearman for score in embshrink.evaluate(emb).similarity}
        nanoseconds = decode_nanoseconds(emb)
    return {
        "steps": steps, "resolved": report.steps, "bits_per_word": report.bits_per_word, "bytes": report.target_bytes,
        "ratio": report.ratio, **report.loss, **scores, "seconds": report.seconds["shrink"], "decode_ns": nanoseconds,
    }


def table(rows):
    lines = ["| steps | bits a word | file, times smaller | relative error | cosine, 1st percentile | overlap@10 | "
             "WordSim-353 | SimLex-999 | seconds | ns a row |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| `{' '.join(row['steps'])}` | {row['bits_per_word']:.0f} | {row['ratio']:.1f} | "
            f"{row['relative_error']:.4f} | {row['cosine_p1']:.3f} | {row['overlap_at_10']:.3f} | "
            f"{100 * row['wordsim353']:.1f} | {100 * row['simlex999']:.1f} | {row['seconds']:.1f} | "
            f"{row['decode_ns']:.0f} |")
    return "\n".join(lines)


def replace_table(path, name, text):
    """Replace the text between the markers <!-- name --> and <!-- /name --> of a file."""
    content = path.read_text(encoding="utf-8")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if re.search(pattern, content, re.S):
        path.write_text(re.sub(pattern, lambda m: m[1] + text + "\n" + m[2], content, flags=re.S), encoding="utf-8")


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
        replace_table(ROOT / "docs" / "methods.md", "methods", table(rows))
        replace_table(ROOT / "README.md", "methods", table(rows))
    print(table(rows))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main(sys.argv[1:])
