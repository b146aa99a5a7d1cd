"""Compress word vectors and look up words in the compressed file.

    python shrink_and_look_up.py [VECTORS]

VECTORS is a file that embshrink reads, such as glove.6B.50d.txt. Without it, a small file of gensim's tests is used.
"""

import sys
import tempfile
from pathlib import Path

from gensim.test.utils import datapath

import embshrink

source = sys.argv[1] if len(sys.argv) > 1 else datapath("pang_lee_polarity_fasttext.vec")

with tempfile.TemporaryDirectory() as folder:
    report = embshrink.compress(source, Path(folder, "small.ems"), ["pq"])
    print(f"{report.source_bytes:,} bytes -> {report.target_bytes:,}: {report.ratio:.1f} times smaller")
    print(f"relative error {report.relative_error:.4f}, mean cosine {report.mean_cosine:.4f}")

    with embshrink.load(report.target) as emb:
        print("good:", emb["good"][:4], "...")
        print("missing word:", emb.get("notaword"))
        print("good, bad:", round(emb.similarity("good", "bad"), 3))
        for word, cosine in emb.most_similar("good", topn=3):
            print(f"  {cosine:.3f} {word}")
