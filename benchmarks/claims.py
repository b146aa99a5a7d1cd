"""Check on GloVe 6B 50d, in one run, what papers and the documentation claim of each method.

    pip install -e '.[bench]'
    python benchmarks/claims.py

Takes about five minutes, most of them in the residual quantizer of faiss. Relative errors marked "uncentred" are
relative to ||X||^2, as in the papers; all others to ||X - mean||^2.
"""

import numpy as np
from common import glove, seconds, write

import embshrink
from embshrink.methods import pipeline, registry
from embshrink.methods.base import Context
from embshrink.numerics.arrays import unit_rows

FIRST = 20_000  # words, where a claim is about a table that size


def shrink(text, matrix, seed=0):
    """Return (decoded rows of all words, step, seconds)."""
    taken, (stored, row_map) = seconds(lambda: pipeline.shrink(matrix, [text], seed=seed))
    return stored.decode(np.arange(row_map.count))[row_map.rows], stored, taken


def uncentred(matrix, decoded, weights=None):
    weights = np.ones(len(matrix)) if weights is None else weights
    lost = np.einsum("i,ij->", weights, np.square(matrix - decoded, dtype=np.float64))
    return float(lost / np.einsum("i,ij->", weights, np.square(matrix, dtype=np.float64)))


def residual_quantization(matrix):
    import faiss

    peer = faiss.ResidualQuantizer(50, 5, 8)
    sample = np.ascontiguousarray(matrix[np.random.default_rng(0).choice(len(matrix), 65_536, replace=False)])

    def theirs():
        peer.train(sample)
        return peer.decode(peer.compute_codes(matrix))

    record = {}
    for name in ("rq:codebooks=5", "rq:codebooks=5,beam=32"):
        decoded, _, taken = shrink(name, matrix)
        record[name] = {"uncentred": uncentred(matrix, decoded), "seconds": taken}
    taken, decoded = seconds(theirs)
    record["faiss ResidualQuantizer(50, 5, 8)"] = {"uncentred": uncentred(matrix, decoded), "seconds": taken}
    return record


def binary_codes(words, matrix):
    def score(rows):
        found = embshrink.evaluate(embshrink.WordVectors(words, rows)).similarity
        return float(np.mean([100 * part.spearman for part in found]))

    record = {"float32": [score(matrix)]}
    for name in ("iiq", "itq", "sign"):
        record[name] = [score(shrink(name, matrix, seed)[0]) for seed in range(3)]
    return {name: {"mean": float(np.mean(scores)), "by_seed": scores} for name, scores in record.items()}


def choice_of_rows(matrix):
    first, weights = matrix[:8000], pipeline.zipf_weights(8000)
    record = {}
    for name in ("prune:keep=800", "prune:keep=800,select=facility", "prune:keep=800,select=facility,weighted=true",
                 "kmeans:centroids=800"):
        step = registry.parse(name).resolve(*first.shape)
        row_map, rows = step.reduce(first, Context(weights, np.random.default_rng(0)))
        cosines = np.einsum("ij,ij->i", unit_rows(first), unit_rows(rows)[row_map.rows])
        record[name] = {"mean cosine": float(cosines.mean()), "by frequency": float(cosines @ weights)}
    chosen = np.random.default_rng(0).choice(8000, 800, replace=False)
    cosines = (unit_rows(first) @ unit_rows(first[chosen]).T).max(axis=1)
    record["random 800"] = {"mean cosine": float(cosines.mean()), "by frequency": float(cosines @ weights)}
    return record


def factorizations(matrix):
    first, weights = matrix[:FIRST], pipeline.zipf_weights(FIRST)
    record = {}
    names = {
        "plain SVD, 10 of 50 dims": "lowrank:dims=10,center=false",
        "groupreduce, equal parameters": "groupreduce:keep=0.2005,dtype=float32",
        "groupreduce, equal parameters, as in the paper": "groupreduce:keep=0.2005,alpha=1,dtype=float32",
        "tensor train, rows alike together": "tensortrain:rank=16",
        "tensor train, rows by frequency": "tensortrain:rank=16,order=frequency",
    }
    for name, text in names.items():
        decoded, stored, _ = shrink(text, first)
        stored_bytes = sum(part.nbytes for key, part in stored.sections().items() if not key.startswith("map."))
        record[name] = {"steps": text, "uncentred": uncentred(first, decoded),
                        "by frequency": uncentred(first, decoded, weights), "bytes": stored_bytes}
    return record


def main():
    words, matrix = glove()
    write("claims", {
        "binary codes: mean of WordSim-353 and SimLex-999, 50 bits": binary_codes(words, matrix),
        "choosing 800 of 8,000 rows: cosine of a word to its representative": choice_of_rows(matrix),
        f"factorizations of the first {FIRST:,} words": factorizations(matrix),
        "residual quantization at 40 bits, all rows": residual_quantization(matrix),
    })


if __name__ == "__main__":
    main()
