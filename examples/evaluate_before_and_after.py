"""Measure what three ways of compression lose: on word similarity, and against the vectors before.

    python evaluate_before_and_after.py [VECTORS]

VECTORS is a file that embshrink reads, such as glove.6B.50d.txt. Without it, a small file of gensim's tests is used.
"""

import sys
import tempfile
from pathlib import Path

from gensim.test.utils import datapath

import embshrink

source = sys.argv[1] if len(sys.argv) > 1 else datapath("pang_lee_polarity_fasttext.vec")
vectors = embshrink.read_vectors(source)
print(f"{len(vectors):,} words, dimension {vectors.dim}")

with tempfile.TemporaryDirectory() as folder:
    for steps in (["cast"], ["pq"], [f"prune:keep={len(vectors) // 10}", "pq"]):
        target = Path(folder, f"{len(steps)}-{steps[-1]}.ems")
        embshrink.compress(vectors, target, steps, measure=False)
        scores = embshrink.evaluate(target, vectors, queries=200)
        print(f"\n{' '.join(steps)}: {target.stat().st_size:,} bytes")
        print(f"  relative error {scores.reconstruction.relative_error:.4f}, "
              f"1st percentile of cosine {scores.reconstruction.cosine_p1:.3f}, "
              f"overlap@10 {scores.overlap.overlap:.3f}")
        for before, after in zip(scores.baseline_similarity, scores.similarity):
            print(f"  {after.name}: Spearman {before.spearman:.4f} -> {after.spearman:.4f} "
                  f"({after.pairs_used} of {after.pairs_total} pairs, {after.shared_rows} share a row)")
