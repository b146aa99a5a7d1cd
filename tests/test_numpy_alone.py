"""Without the other packages, reading gives the same, and what needs a package names it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from embshrink import ExtraError, compress, load
from embshrink.errors import need
from embshrink.vocabulary.front_coding import FrontCodedWords, encode_sorted
from embshrink.vocabulary.words import Words

MISSING = ["numba", "llvmlite", "scipy", "sklearn", "gensim", "rich", "threadpoolctl", "zstandard"]
START = f"""
import json, sys
sys.modules.update(dict.fromkeys({MISSING!r}))
import numpy as np, embshrink
"""
READ = START + """
with embshrink.load(sys.argv[1], verify="full") as emb:
    names = emb.index_to_key
    print(json.dumps([names, emb.vectors_for(names[::-1]).tobytes().hex(), emb.most_similar(names[7]),
                      [found.tolist() for found in emb.nearest(names[:3], topn=4)], emb.info()["steps"]],
                     default=float))
"""
FAIL = START + """
from embshrink.evaluation.benchmarks import WordPairs
source = embshrink.WordVectors(["a", "b"], [[1, 2], [2, 1]])
emb = embshrink.load(sys.argv[1])
open("text.txt", "w").write("a 1 2\\nb 2 1\\n")
for call in (
    lambda: embshrink.compress(source, "out.ems", ["scalar"]), lambda: embshrink.plan("text.txt", ["scalar"]),
    lambda: embshrink.read_vectors("text.txt"), lambda: embshrink.export(emb, "out", "gensim"),
    lambda: emb.evaluate_word_pairs(WordPairs("one", [("w1", "w2", 1.0)])),
):
    try:
        call()
    except embshrink.ExtraError as error:
        print(error)
"""


def python(code, *arguments, env, cwd=None):
    run = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=env, cwd=cwd, capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the path of 3,500 packed words: enough for numpy to decode them at once."""
    path = tmp_path_factory.mktemp("alone") / "v.ems"
    compress(make_vectors(3500, 6), path, ["ecq:step=0.3,centroids=20"], vocabulary="packed", measure=False)
    return path


def test_reading_gives_the_same(path, subprocess_env):
    names, vectors, similar, nearest, steps = json.loads(python(READ, path, env=subprocess_env))
    with load(path) as emb:
        assert names == emb.index_to_key
        assert vectors == emb.vectors_for(names[::-1]).tobytes().hex()
        assert similar == [[word, float(cosine)] for word, cosine in emb.most_similar(names[7])]
        assert nearest == [found.tolist() for found in emb.nearest(names[:3], topn=4)]
        assert steps == emb.info()["steps"]


def test_what_needs_a_package_names_it(path, subprocess_env, tmp_path):
    said = python(FAIL, path, env=subprocess_env, cwd=tmp_path).splitlines()
    compression = ("compression needs the packages numba, scipy and threadpoolctl. Install them with: "
                   "pip install numba scipy threadpoolctl.")
    assert said[:2] == [compression] * 2
    assert said[2].endswith("needs the package numba. Install it with: pip install numba.")
    assert said[3] == "the format gensim needs the package gensim. Install it with: pip install gensim."
    assert said[4] == "word similarity needs the package scipy. Install it with: pip install scipy."


def test_a_missing_package_is_an_import_error():
    need("this", "numpy", "json")
    with pytest.raises(ImportError, match=r"^this needs the packages no_such and nor_this\. Install them with: pip "):
        need("this", "no_such", "numpy", "nor_this")
    with pytest.raises(ExtraError, match=r"pip install 'embshrink\[demo\]'\.$"):
        need("this", "no_such", extra="demo")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=6) | st.text("abc", max_size=9).map(str.encode), unique=True, min_size=1),
       st.integers(0, 3))
def test_words_are_decoded_alike_one_by_one_and_at_once(words, slack):
    words = sorted(words)
    model, blocks, lengths = encode_sorted(Words(words), np.arange(len(words)))
    stored = [np.frombuffer(model, np.uint8), blocks, lengths]
    longest, total = max(map(len, words)) + slack, sum(map(len, words)) + slack
    coded = FrontCodedWords(len(words), longest, *stored, ValueError)
    for way in (coded._decode_one_by_one, coded._decode_in_lockstep):
        text, found = way(0, coded.block_count, total)
        assert text.tobytes() == b"".join(words)
        assert found.tolist() == [*map(len, words)]
