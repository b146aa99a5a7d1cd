"""Write the golden files that are not there yet: run by hand, never by a test.

    python tests/golden/make.py

Each case is a file ``NAME.ems``, and ``NAME.npz`` with what the commit that wrote it read back from it: words,
vectors, the row of each word, and the vectors of unseen words where the file has n-grams. Files are only ever added,
never written again: an .ems file that was written once must stay readable.
"""

from pathlib import Path

import numpy as np

import embshrink

FOLDER = Path(__file__).parent
UNSEEN = ["seaside", "unhappiest", "zzzzzz", "caf\u00e9s"]

# name: (steps, options of compress)
CASES = {
    "float32": ([], {}),
    "prune": (["prune:keep=40"], {}),
    "prune-norms": (["prune:keep=40,norms=true"], {}),
    "prune-dropped": (["prune:keep=40,min_similarity=0.8", "cast"], {}),
    "facility": (["prune:keep=30,select=facility", "cast"], {}),
    "dedupe": (["dedupe", "scalar"], {}),
    "kmeans": (["kmeans:centroids=25", "cast"], {}),
    "kmeans-norms": (["kmeans:centroids=25,spherical=true,norms=true", "scalar"], {}),
    "rows-columns-bits": (["dedupe", "prune:keep=90", "lowrank:dims=6", "pq:subspaces=3,centroids=16"], {}),
    "lowrank": (["lowrank:dims=5", "cast"], {}),
    "lowrank-uncentred": (["lowrank:dims=5,center=false", "scalar:bits=5"], {}),
    "rescale": (["rescale:exponent=3", "ecq:step=0.2"], {}),
    "ecq": (["ecq"], {}),
    "ecq-bits": (["ecq:bits=60,block=4"], {}),
    "ecq-plain": (["ecq:step=0.2,trellis=0,norms=true"], {}),
    "ecq-centroids": (["ecq:step=0.15,trellis=4,centroids=12,weights=zipf:0.5"], {}),
    "pq": (["pq:subspaces=4"], {}),
    "pq-opq": (["pq:subspaces=3,centroids=16,rotate=opq,normalize=columns"], {}),
    "pq-wide": (["pq:subspaces=2,centroids=150,rotate=pca"], {}),
    "iiq": (["iiq"], {}),
    "itq": (["itq:bits=7"], {}),
    "sign": (["sign"], {}),
    "scalar": (["scalar:bits=3"], {}),
    "scalar-matrix": (["scalar:bits=4,per=matrix"], {}),
    "rq": (["rq:codebooks=3,centroids=20"], {}),
    "groupreduce": (["groupreduce:blocks=3,keep=0.6"], {}),
    "groupreduce-int8": (["groupreduce:blocks=3,keep=0.6,refine=2,dtype=int8"], {}),
    "blocksparse": (["blocksparse"], {}),
    "tensortrain": (["tensortrain:rank=5"], {}),
    "magnitude": (["magnitude:sparsity=0.65"], {}),
    "magnitude-global": (["magnitude:scope=global,sparsity=0.8,dtype=float16"], {}),
    "cast": (["cast"], {}),
    "packed": (["scalar"], {"vocabulary": "packed"}),
    "packed-order": (["prune:keep=50", "ecq"], {"vocabulary": "packed", "keep_order": True}),
    "order-exact": (["scalar"], {"vocabulary": "packed"}),
    "order-approximate": (["cast"], {"vocabulary": "packed", "order": "approximate", "source": "many"}),
    "counts": (["ecq:step=0.2,weights=counts"], {"counts": {f"sea{i}": 1000 // (i + 1) for i in range(40)}}),
    "protected": (["prune:keep=20", "cast"], {"keep_words": ["sea100", "caf\u00e9"]}),
    "ngrams": (["ecq"], {"source": "fasttext"}),
    "ngrams-own-steps": (["scalar"], {"source": "fasttext", "ngrams": ["prune:keep=50", "scalar:bits=6"]}),
    "ngrams-pruned": (["pq:subspaces=3,centroids=16"], {"source": "pruned"}),
    "ngrams-alone": (["scalar"], {"source": "floret"}),
}


def table():
    """Return 160 words of 12 numbers with the shape real ones have; some rows are equal, one is zero."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((12, 12)) * np.linspace(2, 0.3, 12)
    matrix = centres[rng.integers(12, size=160)] + 0.4 * rng.standard_normal((160, 12)) + 0.2
    matrix[30], matrix[31], matrix[59] = matrix[7], matrix[8], 0
    words = [f"sea{i}" for i in range(150)]
    words += ["the", "happy", "unhappy", "caf\u00e9", "New York", "a\ttab", b"\xff\xfe",
              "\u4eac\u90fd", "x" * 300, ""]
    return embshrink.WordVectors(words, matrix.astype(np.float32))


def many():
    """Return 4,700 words of 2 numbers: enough for words to move in approximate order."""
    rng = np.random.default_rng(5)
    return embshrink.WordVectors([f"sea{i * 7919 % 10_007}" for i in range(4700)],
                                 rng.standard_normal((4700, 2)).astype(np.float32))


def floret(path):
    """Write a small floret table: n-grams without words."""
    rng = np.random.default_rng(3)
    matrix = (rng.standard_normal((9, 6))[rng.integers(9, size=120)] + 0.3 * rng.standard_normal((120, 6)))
    lines = ["120 6 2 4 2 2166136261 < >"]
    lines += [f"{i} {' '.join(f'{number:.5f}' for number in row)}" for i, row in enumerate(matrix)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_back(path):
    """Return what a file holds, as arrays."""
    with embshrink.load(path, verify="full") as emb:
        found = {"words": np.array([word.encode("utf-8", "surrogateescape").hex() for word in emb.index_to_key], str),
                 "vectors": np.asarray(emb.vectors)}
        if emb.row_map is not None:
            found["rows"] = np.asarray(emb.row_map)
        if emb.subwords is not None:
            unseen = [word for word in UNSEEN if emb.get(word) is not None]
            found["unseen"] = np.array(unseen)
            found["unseen_vectors"] = np.array([emb[word] for word in unseen])
    return found


def main():
    import tempfile

    from gensim.test.utils import datapath

    with tempfile.TemporaryDirectory() as folder:
        sources = {"table": table(), "fasttext": datapath("crime-and-punishment.bin"),
                   "pruned": FOLDER.parent / "data" / "pruned.ftz", "floret": floret(Path(folder, "v.floret")),
                   "many": many()}
        for name, (steps, options) in CASES.items():
            target = FOLDER / f"{name}.ems"
            if target.exists():
                continue
            options = dict(options)
            source = sources[options.pop("source", "table")]
            embshrink.compress(source, target, steps, measure=False, **options)
            np.savez_compressed(FOLDER / f"{name}.npz", **read_back(target))


if __name__ == "__main__":
    main()
