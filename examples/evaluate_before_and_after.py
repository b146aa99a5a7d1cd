"""Say what three ways of shrinking cost, on word similarity and against the vectors themselves."""

import tempfile
from pathlib import Path

import embshrink
from embshrink.cli.demo import real_vectors

name, vectors = real_vectors()
print(f"{name}: {len(vectors):,} words, dim {vectors.dim}")

with tempfile.TemporaryDirectory() as folder:
    for steps in (["cast"], ["pq"], [f"prune:keep={len(vectors) // 10}", "pq"]):
        target = Path(folder, f"{len(steps)}-{steps[-1]}.ems")
        embshrink.compress(vectors, target, steps, measure=False)
        with embshrink.load(target) as emb:
            scores = embshrink.evaluate(emb, vectors, queries=200)
        print(f"\n{' '.join(steps)}: {target.stat().st_size:,} bytes")
        print(f"  relative error {scores.reconstruction.relative_error:.4f}, "
              f"1st percentile of cosine {scores.reconstruction.cosine_p1:.3f}, "
              f"overlap@10 {scores.overlap.overlap:.3f}")
        for before, after in zip(scores.baseline_similarity, scores.similarity):
            print(f"  {after.name}: {before.spearman:.4f} -> {after.spearman:.4f} "
                  f"({after.pairs_used} of {after.pairs_total} pairs, {after.shared_rows} share a row)")
