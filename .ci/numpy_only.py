"""Check, in an environment that has numpy and the wheel alone, that reading works and errors name packages.

    python .ci/numpy_only.py write FOLDER                # in the full environment
    python .ci/numpy_only.py read FOLDER tests/golden    # with numpy alone

``write`` makes a file of each method, with 20,000 words and more, and keeps what the full environment reads from it.
``read`` must find the same. The golden files have n-grams too.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

import embshrink

BESIDE = ("click", "scipy", "numba", "gensim", "rich", "threadpoolctl", "sklearn", "zstandard")
WORDS = 20_500
UNSEEN = ["seaside", "unhappiest", "zzzzzz"]
# name: (steps, options of compress)
FILES = {
    "plain-float32": ([], {"vocabulary": "plain"}),
    "cast": (["cast"], {}),
    "scalar": (["scalar:bits=4"], {"order": "approximate"}),
    "iiq": (["iiq"], {}),
    "pq": (["pq:subspaces=6"], {}),
    "pq-opq": (["pq:subspaces=4,centroids=16,rotate=opq,normalize=columns"], {}),
    "rq": (["rq:codebooks=2,centroids=32,beam=2"], {}),
    "ecq": (["ecq"], {"order": "approximate"}),
    "ecq-plain": (["ecq:step=0.3,trellis=0,norms=true,block=5"], {"vocabulary": "plain"}),
    "groupreduce": (["groupreduce:blocks=4,keep=0.5"], {}),
    "blocksparse": (["blocksparse:blocks=4"], {}),
    "tensortrain": (["tensortrain:rank=6"], {}),
    "magnitude": (["magnitude"], {}),
    "lowrank": (["lowrank:dims=8", "scalar"], {}),
    "prune": (["prune:keep=3000,norms=true", "cast"], {}),
    "dedupe": (["dedupe", "scalar"], {}),
    "kmeans": (["kmeans:centroids=300,norms=true", "cast"], {}),
}


def words():
    """Return words as they are in text: parts that recur, numbers, other alphabets, bytes that are not UTF-8."""
    rng = np.random.default_rng(3)
    parts = ["sea", "un", "happi", "ness", "er", "ing", "s", "over", "k\u00f6", "\u4eac", "-", "pre", "th", "o", "a"]
    found = {"the": None, "": None, "x" * 300: None, b"\xff\xfe": None}
    while len(found) < WORDS:
        found["".join(parts[i] for i in rng.integers(len(parts), size=rng.integers(1, 7)))
              + (str(rng.integers(3000)) if rng.random() < 0.5 else "")] = None
    return list(found)


def table():
    """Return word vectors with the shape real ones have; some rows are equal, one is zero."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((60, 12)) * np.linspace(2, 0.3, 12)
    matrix = centres[rng.integers(60, size=WORDS)] + 0.4 * rng.standard_normal((WORDS, 12)) + 0.2
    matrix[300], matrix[301], matrix[59] = matrix[7], matrix[8], 0
    return embshrink.WordVectors(words(), matrix.astype(np.float32))


def write(folder):
    source = table()
    for name, (steps, options) in FILES.items():
        path = folder / f"{name}.ems"
        embshrink.compress(source, path, steps, measure=False, **options)
        with embshrink.load(path) as emb:
            np.savez(path.with_suffix(".npz"), **read(emb))
    print(len(FILES), "files of", WORDS, "words")


def digest(items):
    return hashlib.sha256("\0".join(items).encode("utf-8", "surrogateescape")).hexdigest()


def read(emb):
    """Return what every reading call gives, as arrays."""
    names = emb.index_to_key
    asked = [0, 5, 59, 4000, 9999, 20_000, len(emb) - 1]
    some = [names[index] for index in asked]
    ids, cosines = emb.nearest(some[:2] + some[3:], topn=8)
    found = {
        "words": digest(names), "iterated": digest(emb.words), "sliced": digest(emb.words[15_000:]),
        "vectors": np.asarray(emb.vectors), "batch": emb.vectors_for(names[::-1]), "norms": emb.norms,
        "few": emb[some], "ids": ids, "cosines": cosines,
        "found": np.array([emb.words.find(word) for word in [*names[::50], *UNSEEN]]),
        "prefix": np.array(emb.words.prefix("sea")), "similarity": emb.similarity(some[0], some[4]),
        "distances": emb.distances(some[4], some), "logits": emb.logits(emb[some[4]]),
        "mean": emb.get_mean_vector(some), "odd": emb.doesnt_match(some[3:]),
        "rank": emb.rank(some[0], some[4]), "closer": len(emb.closer_than(some[0], ids_word(emb, ids[0, 3]))),
        "alias": str(emb.alias_of(some[5])),
        "info": json.dumps({key: value for key, value in emb.info().items() if key != "path"}, default=str),
    }
    for kind, options in {"plain": {}, "restricted": {"restrict_vocab": 300}, "many": {"topn": 1500}}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of approximate order
            neighbours = emb.most_similar(some[4], **options)
        found[f"similar-{kind}"] = digest(word for word, _ in neighbours)
        found[f"similar-{kind}-cosines"] = np.array([cosine for _, cosine in neighbours])
    return found


def ids_word(emb, index):
    return emb.words[int(index)]


def same(found, expected, name):
    """Numbers may differ in the last bit: the two environments may have different versions of numpy."""
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6, err_msg=name)
    else:
        assert np.array_equal(found, expected), name


def check_files(folder):
    paths = sorted(folder.glob("*.ems"))
    assert len(paths) == len(FILES)
    for path in paths:
        with np.load(path.with_suffix(".npz")) as expected, embshrink.load(path, verify="full") as emb:
            found = read(emb)
            assert found.keys() == set(expected.files), path.name
            for name, value in found.items():
                same(value, expected[name], f"{path.name}: {name}")
        embshrink.verify(path)


def check_golden(golden):
    for path in sorted(golden.glob("*.ems")):
        before = np.load(path.with_suffix(".npz"))
        with embshrink.load(path, verify="full") as emb:
            same(np.asarray(emb.vectors), before["vectors"], path.name)
            if len(emb):
                word = emb.index_to_key[0]
                same(emb[word], before["vectors"][0], path.name)
                assert len(emb.most_similar(word, topn=3)) == 3
            if "unseen" in before:
                for word, vector in zip(before["unseen"], before["unseen_vectors"]):
                    same(emb[str(word)], vector, path.name)


def check_errors(folder):
    """What needs a package names it."""
    source, target = embshrink.WordVectors(["a", "b"], [[1, 2], [2, 1]]), folder / "target"
    text = folder / "vectors.txt"
    text.write_text("a 1 2\nb 2 1\n")
    emb = embshrink.load(folder / "pq.ems")
    for package, call in {
        "numba": lambda: embshrink.compress(source, target, ["scalar"]),
        "scipy": lambda: embshrink.quantize(source, target),
        "threadpoolctl": lambda: embshrink.plan(text, ["scalar"]),
        "numba. ": lambda: embshrink.read_vectors(text),
        "numba, ": embshrink.warmup,
        "gensim": lambda: embshrink.export(emb, target, "gensim"),
        "package gensim": lambda: embshrink.evaluate(emb),
        "package numba": lambda: embshrink.evaluate(emb, emb, pairs=[]),
    }.items():
        try:
            call()
        except embshrink.ExtraError as error:
            assert isinstance(error, ImportError)
            assert package in str(error) and "pip install" in str(error) and "\n" not in str(error), error
        else:
            raise AssertionError(f"{package} is not named")
    embshrink.export(emb, folder / "exported.txt", force=True)


def check_command():
    command = subprocess.run([Path(sys.executable).with_name("embshrink"), "--version"], capture_output=True,
                             text=True)
    assert command.returncode == 1, command
    message = command.stderr.strip().splitlines()
    assert "click" in message[-1], command.stderr
    assert len(message) == 1, command.stderr
    print("numpy alone reads all files; without click the command says:", message[-1])


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        for beside in BESIDE:
            assert importlib.util.find_spec(beside) is None, f"{beside} is installed: this environment proves nothing"
        check_files(Path(sys.argv[2]))
        check_golden(Path(sys.argv[3]))
        check_errors(Path(sys.argv[2]))
        check_command()
