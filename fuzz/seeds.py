"""The inputs that fuzzing starts from: made here, from the cases of the tests."""

import bz2
import gzip
import itertools
import lzma
import tempfile
from collections.abc import Iterator
from pathlib import Path

import badfiles
import test_damage
import test_fasttext
import test_finalfusion
import test_floret
import test_navec

from embshrink import compress
from fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 3000  # of a seed of text: longer lines are cases of their own tests


def _each(cases, options: int) -> Iterator[bytes]:
    """Yield the data of cases, each with another choice of options."""
    for number, data in enumerate(cases):
        if len(data) <= MOST_BYTES:
            yield bytes([number % options if number % 3 else 0]) + data


def text() -> Iterator[bytes]:
    cases = itertools.chain(badfiles.text_exact(), badfiles.text_warning(), badfiles.text_refused())
    return _each((case.data for case in cases), 13)


def word2vec() -> Iterator[bytes]:
    small = (badfiles.binary(badfiles.WORDS, badfiles.ROWS, newline=newline) for newline in (True, False))
    return _each(itertools.chain(small, (case.data for case in badfiles.word2vec_cases())), 10)


def _models() -> Iterator[bytes]:
    for variant in ({}, {"version": 11}, {"version": 0}, {"kind": 1}, {"kind": 3, "labels": test_fasttext.LABELS},
                    {"maxn": 0}, {"kept": [3, 8, 20]}, {"quant": True, "dim": 4}, {"kept": []},
                    {"quant": True, "qnorm": True, "qout": True, "dim": 3, "kept": [1, 5]}):
        yield test_fasttext.join(test_fasttext.build(**variant)[0])


def fasttext() -> Iterator[bytes]:
    return (bytes([number % 8]) + data for number, data in enumerate(_models()))


def ems() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted((ROOT / "tests" / "golden").glob("*.ems")))
    with tempfile.TemporaryDirectory() as folder:
        for number, steps in enumerate(test_damage.MADE_BY.values()):
            path, rows = Path(folder, "a.ems"), 270 if "257" in " ".join(steps) else 45
            compress(test_damage.small_vectors(rows), path, steps, measure=False, force=True,
                     vocabulary="packed" if number % 2 else "plain")
            yield path.read_bytes()


def evaluation() -> Iterator[bytes]:
    pairs = ["tiger\tcat\t7.35\nbook\tpaper\t7.46\n", "Word 1,Word 2,Human (mean)\ntiger,cat,7.35\nbook,paper,7.46\n",
             "word1\tword2\tPOS\tSimLex999\nold\tnew\tA\t1.58\nsmart\tbright\tA\t9.2\n", "a b 1\nc d 2\ne f 3\n",
             "# comment\n\ufefftiger;cat;7\nx;y;1e3\n\n", "a b 1\na\tb\t2\nc,d,3\n",
             "a\tb\tinf\nc\td\tnan\ne\tf\t1_0\n"]
    questions = [": capitals\nathens greece oslo norway\n\n: family\nthe cat book paper\n", "a b c d\n",
                 ": x\na b c d e\na b c\nAthens Greece Oslo Norway\n", ":no space\n: \na b c d\n"]
    counts = ["the 100\ncat 7\n", "the\t100\ncat\t7\nthe 3\n", "two words 9\n\u00e9 1\r\n",
              "x 999999999999999999\n", "x\n"]
    for number, cases in enumerate((pairs, questions, counts)):
        for case in cases:
            yield bytes([number]) + case.encode()
    yield b"\x03" + pairs[1].encode()


def _floret() -> Iterator[bytes]:
    yield test_floret.table(bucket=12, dim=3)[0]
    yield test_floret.table(bucket=9, dim=2, minn=1, maxn=2, hashes=4, seed=0, bow="\u00ab", eow="\u00bb")[0]


def _finalfusion() -> Iterator[bytes]:
    import numpy as np

    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((5, 6)).astype(np.float32)
    codes, books = rng.integers(4, size=(5, 2)).astype(np.uint8), rng.standard_normal((2, 4, 3)).astype(np.float32)
    Builder = test_finalfusion.Builder
    yield Builder().simple().dense(matrix).build()
    yield Builder().simple().quantized(codes, books).build()
    yield Builder().hashed(buckets=4, minn=2, maxn=3).dense(np.vstack([matrix, matrix[:4]])).build()
    yield Builder().explicit().dense(np.vstack([matrix, matrix[:2]])).build()


def _containers() -> Iterator[bytes]:
    yield from (case.data for case in badfiles.container_cases())
    yield from (case.data for case in badfiles.zstd_cases())
    yield from (case.data for case in badfiles.foreign_cases())
    yield test_navec.archive()
    yield from itertools.chain(_floret(), _finalfusion())
    yield from itertools.islice(_models(), 0, None, 3)
    for inner in (test_navec.archive(), *_floret(), *_finalfusion()):
        yield gzip.compress(inner, mtime=0)
        yield badfiles.zipped({"v": inner})
    yield bz2.compress(next(_floret()))
    yield lzma.compress(next(_finalfusion()))
    yield (ROOT / "tests" / "golden" / "cast.ems").read_bytes()


def containers() -> Iterator[bytes]:
    return (data for data in _containers() if len(data) <= TARGETS["containers"].max_bytes)


SEEDS = {"text": text, "word2vec": word2vec, "fasttext": fasttext, "ems": ems, "evaluation": evaluation,
         "containers": containers}
