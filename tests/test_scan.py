"""The index of search: whatever it passes over, ids and cosines are those of decoding everything."""

import pickle
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import make_vectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embshrink import WordVectors, compress, load
from embshrink.embeddings import index as scan
from embshrink.embeddings import search
from embshrink.methods.row_map import RowMap
from embshrink.numerics import parallel
from embshrink.reader import Embeddings, as_embeddings
from embshrink.vocabulary.words import Words

SETTINGS = [
    ["cast"], ["cast:dtype=float32"], ["pq:subspaces=3"], ["scalar:bits=3"], ["iiq:bits=5"], ["ecq:step=0.5"],
    ["rq:codebooks=3,centroids=20"], ["lowrank:dims=4", "scalar"], ["tensortrain:rank=6"],
    ["kmeans:centroids=60", "cast"], ["kmeans:centroids=60,spherical=true,norms=true", "scalar"],
    ["prune:keep=150", "pq:subspaces=3"], ["prune:keep=150,norms=true", "cast"], ["dedupe", "scalar"],
]


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Make an index of any table."""
    monkeypatch.setattr(scan, "LEAST_ROWS", 1)


@pytest.fixture(scope="module")
def source():
    """Return 1500 words with zero vectors, equal ones, and very long and short ones."""
    vectors = make_vectors(1500, 12)
    matrix = vectors.matrix.copy()
    matrix[[7, 300, 1200]] = 0
    matrix[[40, 500, 501, 1400]] = matrix[3]
    matrix[[60, 1300]] = matrix[5] * np.float32(1000)
    matrix[[61, 1301]] = matrix[5] * np.float32(1e-4)
    return WordVectors(vectors.words, matrix)


def whole(emb, *args, **kwargs):
    """Search without an index."""
    least, scan.LEAST_ROWS = scan.LEAST_ROWS, 10**9
    index, emb.index = emb.index, None
    try:
        return emb.most_similar(*args, **kwargs)
    finally:
        scan.LEAST_ROWS, emb.index = least, index


def cosines_of(matrix, query):
    return search._cosines(*search._with_norms(matrix), query)


def assert_same(emb, *args, **kwargs):
    emb.index_for(2)  # or the first search would do without an index
    found = emb.most_similar(*args, **kwargs)
    assert emb.index is not None
    assert repr(found) == repr(whole(emb, *args, **kwargs))  # where NaN is NaN
    return found


def queries(emb):
    """Yield arguments of `most_similar`, of every kind."""
    words, rng = emb.index_to_key, np.random.default_rng(3)
    for index in (0, 3, 5, 7, 40, 60, 61, 500, 1200, 1301, 1499, *rng.integers(1500, size=10)):
        yield [words[index]], {}
    yield [words[3]], {"topn": 1}
    yield [words[3]], {"topn": 5000}
    yield [words[3]], {"topn": 999}
    yield [words[3]], {"topn": 0}
    yield [words[3]], {"restrict_vocab": 200}
    yield [words[3]], {"restrict_vocab": 5, "topn": 10}
    yield [words[3]], {"clip_start": 100, "clip_end": 700, "topn": 30}
    yield [words[3]], {"clip_start": 1490}
    yield [[words[3], words[9]]], {"negative": [words[700]], "topn": 20}
    yield [[(words[3], 2.5), (words[9], -0.5)]], {}
    yield [], {"negative": words[8]}
    yield [rng.standard_normal(12).astype(np.float32)], {"topn": 40}
    for query in (0, 1e-30, 1e30):  # no direction that float32 could give
        yield [np.full(12, query, np.float32)], {}


@pytest.mark.parametrize("steps", SETTINGS, ids=" ".join)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_an_index_finds_what_decoding_all_finds(steps, source, tmp_path):
    compress(source, tmp_path / "v.ems", steps, measure=False)
    emb = load(tmp_path / "v.ems")
    for args, kwargs in queries(emb):
        assert_same(emb, *args, **kwargs)


def test_words_of_a_zero_scale_are_found_at_cosine_zero(source, tmp_path):
    matrix = source.matrix.copy()
    matrix[[300, 1200]] = matrix[8] * np.float32(1e-10)  # to nothing in float16
    compress(WordVectors(source.words, matrix), tmp_path / "v.ems", ["prune:keep=150,norms=true", "cast"],
             measure=False)
    emb = load(tmp_path / "v.ems")
    assert np.flatnonzero(emb.scale == 0).tolist() == [300, 1200]
    found = dict(assert_same(emb, "w3", topn=900))
    assert found["w300"] == 0
    assert dict(assert_same(emb, "w3", clip_start=295, clip_end=305))["w300"] == 0


def test_rows_of_words_of_a_zero_scale_alone_are_no_measure_for_others():
    matrix = np.eye(6, dtype=np.float32)
    matrix[:, 0] = np.linspace(1, 0.5, 6)
    row_map = RowMap(np.arange(6), 6, np.arange(6), np.array([1, 0, 0, 1, 1, 1], np.float32))
    emb = Embeddings(Words("abcdef"), matrix.__getitem__, 6, row_map, 6)
    assert [word for word, _ in assert_same(emb, "a", topn=2)] == ["d", "e"]


def laid_out(codes):
    """Return codes (n, d) as `scan_rows` takes them, (blocks, pairs, ROWS, 2)."""
    from embshrink.kernels.scan import ROWS

    n, d = codes.shape
    whole = np.zeros((-(-n // ROWS) * ROWS, d + d % 2), codes.dtype)
    whole[:n, :d] = codes
    return np.ascontiguousarray(whole.reshape(-1, ROWS, whole.shape[1] // 2, 2).transpose(0, 2, 1, 3))


def codes_of(index, dim):
    """Return the codes that an index holds, (n, dim)."""
    return index.codes.transpose(0, 2, 1, 3).reshape(index.codes.shape[0] * index.codes.shape[2], -1)[: index.n, :dim]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from([0, 1]), st.sampled_from([1, 2, 5, 16]),
       st.integers(1, 5))
def test_the_kernel_is_its_slow_twin(seed, k, exact, dim, many):
    from embshrink.kernels.scan import scan_rows

    rng = np.random.default_rng(seed)
    codes = rng.integers(-3, 4, (300, dim)).astype(np.int8)
    queries = np.zeros((many, dim + dim % 2), np.int16)
    queries[:, :dim] = rng.integers(-5, 6, (many, dim))
    scales = rng.choice(np.array([0, 0.5, 1], np.float32), 300)
    bounds = rng.choice(np.array([0] if exact else [0, 0.25, 8, np.inf], np.float32), 300)
    eligible = rng.random(300) < 0.8
    rows, uppers = np.empty((many, 300), np.int64), np.empty((many, 300), np.float32)
    found = np.full(many, 77)
    factors = np.array([[2, 0.5, 0 if exact else 1.5]] * many, np.float32)
    factors[1:] *= rng.choice(np.array([0.5, 1, 2], np.float32), (many - 1, 1))
    start, stop = sorted(rng.integers(0, 301, 2).tolist())
    floor = np.float32(rng.choice([-np.inf, -20]))
    best = np.full((many, k), floor)
    everything = rng.random() < 0.3
    scan_rows(laid_out(codes), scales, bounds, start, stop, eligible[:0] if everything else eligible, queries,
              factors, best, rows, uppers, found)

    eligible &= not everything
    eligible |= everything
    eligible[:start] = eligible[stop:] = False
    for q, (factor, reach, error) in enumerate(factors):
        # Small whole numbers and parts of them: no rounding anywhere.
        cosines = factor * scales * (codes @ queries[q, :dim].astype(np.float32))
        slack = bounds * reach + error
        lowest = np.append((cosines - slack)[eligible], np.full(k, floor))
        assert np.array_equal(best[q], np.sort(lowest)[::-1][:k])
        assert np.array_equal(uppers[q, : found[q]], (cosines + slack)[rows[q, : found[q]]])
        kept = rows[q, : found[q]][uppers[q, : found[q]] >= best[q, -1]]
        assert np.array_equal(kept, np.flatnonzero(eligible & (cosines + slack >= best[q, -1])))


@pytest.mark.parametrize("dim", [1, 2, 7, 50])
def test_both_ways_to_multiply_are_one(dim):
    from embshrink.kernels import scan as kernels

    if kernels._multiply is kernels._multiply_plainly:
        pytest.skip("there is one way here")
    rng = np.random.default_rng(dim)
    codes = rng.choice(np.array([-127, 0, 127], np.int8), (200, dim))
    queries = rng.choice(np.array([-32767, 0, 32767], np.int16), (3, dim + dim % 2))
    blocks = laid_out(codes)
    plain, quick = np.empty((2, kernels.ROWS), np.int32)
    quickly = kernels.kernel(lambda *parts: kernels._multiply_quickly(*parts))
    for block in range(len(blocks)):
        for number in range(3):
            where = blocks.ravel(), block, blocks.shape[1], queries.ravel(), number
            kernels._multiply_plainly(*where, plain)
            quickly(*where, quick)
            assert np.array_equal(plain, quick)
            own = codes[block * kernels.ROWS :][: kernels.ROWS].astype(np.int64)
            assert np.array_equal(quick[: len(own)], own @ queries[number, :dim])


def test_few_rows_are_decoded(monkeypatch):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((70_000, 70)).astype(np.float32)
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(70_000)], matrix))
    decoded = []
    decode = emb.decode_rows
    for threads in (1, 3):
        parallel.set_threads(threads)
        emb.index = None
        expected = assert_same(emb, "w3")
        monkeypatch.setattr(emb, "decode_rows", lambda rows: decoded.append(len(rows)) or decode(rows))
        assert emb.most_similar("w3") == expected
        monkeypatch.undo()
        scan.LEAST_ROWS = 1
    assert len(decoded) == 4 and max(decoded) < 60  # the word's own vector, and the candidates; twice
    assert [word for word, _ in expected] == [f"w{i}" for i in np.argsort(
        -(matrix @ matrix[3]) / np.linalg.norm(matrix, axis=1), kind="stable")[1:11]]


def test_ties_come_in_order_of_id():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((5, 6)).astype(np.float32)[rng.integers(5, size=400)]
    matrix *= (2.0 ** rng.integers(-20, 20, size=400)).astype(np.float32)[:, None]  # the same directions to the bit
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(400)], matrix))
    found = [int(word[1:]) for word, _ in assert_same(emb, "w0", topn=30)]
    assert found == sorted(found) and len(found) == 30


def test_the_index_takes_the_memory_it_says():
    emb = as_embeddings(make_vectors(100, 50))
    emb.most_similar("w3")
    emb.most_similar("w3")
    index = emb.index.rows
    assert index.codes.nbytes + index.scales.nbytes + index.bounds.nbytes == 128 * 50 + 100 * 8
    assert index.bytes_per_row(50) == 58 and index.bytes_per_row(51) == 60


@pytest.mark.parametrize("limit", [("LEAST_ROWS", 101), ("MOST_BYTES", 5799)])
def test_no_index_of_few_rows_or_of_too_many_bytes(limit, monkeypatch):
    emb = as_embeddings(make_vectors(100, 50))
    monkeypatch.setattr(scan, *limit)
    expected = emb.most_similar("w3")
    assert emb.most_similar("w3") == expected
    assert emb.index is None
    monkeypatch.setattr(scan, limit[0], limit[1] + (1 if limit[0] == "MOST_BYTES" else -1))
    assert [emb.most_similar("w3") for _ in range(2)] == 2 * [expected]
    assert emb.index is not None


def test_a_search_for_most_of_the_words_decodes_them_all(source):
    emb = as_embeddings(source)
    assert_same(emb, "w3", topn=1200)
    query = search._unit(emb["w3"])[None]
    assert emb.index.candidates(query, scan.MOST_FOUND + 1, 0, 1500) == [None]
    assert len(emb.index.candidates(query, scan.MOST_FOUND, 0, 1500)[0]) >= scan.MOST_FOUND


@pytest.fixture
def uncompiled(monkeypatch):
    """Have indexes made and read by numpy alone."""
    monkeypatch.setattr(scan, "can_compile", lambda: False)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_numpy_alone_finds_what_decoding_all_finds(source, uncompiled):
    emb = as_embeddings(source)
    for args, kwargs in queries(emb):
        assert_same(emb, *args, **kwargs)
    index = emb.index.rows
    assert type(index) is scan.PlainRowIndex
    assert index.codes.nbytes + index.scales.nbytes + index.bounds.nbytes == 1500 * index.bytes_per_row(12)
    assert index.bytes_per_row(12) == 12 + 8


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0, 1, 8, 30]), st.sampled_from([1, 2, 9, 70]))
def test_numpy_alone_never_passes_over_a_neighbour(uncompiled, seed, topn, spread, dim):
    rng = np.random.default_rng(seed)
    matrix = np.round(rng.standard_normal((300, dim)), 1) if not spread else rng.standard_normal(
        (300, dim)) * 10.0 ** rng.uniform(-spread, spread, (300, 1 if rng.random() < 0.5 else dim))
    matrix[rng.integers(300, size=9)] = 0
    matrix[rng.integers(300, size=40)] = matrix[3]
    emb = Embeddings(Words(map(str, range(300))), matrix.astype(np.float32).__getitem__, dim, None, 300)
    start, stop = sorted(rng.integers(0, 301, 2).tolist())
    with np.errstate(all="ignore"):
        for query in ([matrix[5].astype(np.float32)], [rng.standard_normal(dim).astype(np.float32)]):
            assert_same(emb, query, topn=topn)
            assert_same(emb, query, topn=topn, clip_start=start, clip_end=stop)


def test_without_numba_the_first_search_makes_the_index_and_says_so(monkeypatch, uncompiled, caplog):
    monkeypatch.setattr("embshrink.embeddings.table.numba_installed", lambda: False)
    emb = as_embeddings(make_vectors())
    for _ in range(3):
        emb.most_similar("w3")
        assert type(emb.index.rows) is scan.PlainRowIndex
    assert [record.name for record in caplog.records] == ["embshrink"]
    assert "numba is not installed" in caplog.text and "400 rows" in caplog.text


def test_threads_make_one_index(monkeypatch, source):
    made = []

    class Counted(scan.RowIndex):
        def __init__(self, emb):
            made.append(1)
            super().__init__(emb)

    emb = as_embeddings(source)
    expected = {word: whole(emb, word) for word in emb.index_to_key[:40]}
    monkeypatch.setattr(scan, "RowIndex", Counted)
    wrong = []

    def look(first):
        for word in emb.index_to_key[first:40:2]:
            if emb.most_similar(word) != expected[word]:
                wrong.append(word)

    threads = [threading.Thread(target=look, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, len(made)) == ([], 1)


def test_an_index_is_not_pickled_and_goes_when_the_file_is_closed(vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", ["scalar"], measure=False)
    emb = load(tmp_path / "v.ems")
    expected = emb.most_similar("w3")
    data = pickle.dumps(emb)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again.index is None
    assert again.most_similar("w3") == expected
    again.close()
    assert again.index is None


FLOATS = st.one_of(st.floats(-2, 2, width=32),
                   st.sampled_from([0.0, 1.0, -1.0, 0.5, 1.0 + 2**-20, 127.5, 3e38, 1e-38, 1e-45, 2**-70]))
MATRICES = hnp.arrays(np.float32, st.tuples(st.integers(2, 12), st.integers(1, 9)), elements=FLOATS)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MATRICES, st.integers(1, 12), st.data())
def test_any_table_and_any_query(matrix, topn, data):
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(len(matrix))], matrix))
    query = data.draw(hnp.arrays(np.float32, matrix.shape[1], elements=FLOATS))
    with np.errstate(all="ignore"):
        assert_same(emb, [query], topn=topn)
        assert_same(emb, "w0", negative="w1", topn=topn)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 50, 300, 1000]), st.floats(-12, 12))
def test_cosines_lie_within_the_bounds_even_along_what_was_lost(seed, dim, power):
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((30, dim)) ** 3 * 10.0**power).astype(np.float32)
    index = scan.RowIndex(as_embeddings(WordVectors([f"w{i}" for i in range(30)], matrix)))
    held = codes_of(index, dim) * index.scales[:, None].astype(np.float64)
    lost = matrix / np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True) - held
    for query in (*lost, *-lost, *matrix.astype(np.float64), *rng.standard_normal((5, dim))):
        if not query.any():
            continue
        query = search._unit(query / np.linalg.norm(query))
        cosines = cosines_of(matrix, query)
        assert (np.abs(cosines - held @ query) <= index.bounds).all()
        normal = np.linalg.norm(matrix, axis=1) > 2e-15
        worth = np.linalg.norm(lost, axis=1) + 1e-5 * dim + 1e-5  # with more, nothing would be passed over
        assert (index.bounds <= worth)[normal].all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 50, 130]), st.sampled_from([0.0, 1e-7, 1e-4, 1e-2]))
def test_queries_along_what_was_lost_among_rows_nearly_alike(seed, dim, spread):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(dim)
    matrix = (base + spread * rng.standard_normal((300, dim))).astype(np.float32)
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(300)], matrix))
    index = scan.RowIndex(emb)
    unit = matrix / np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    lost = unit - codes_of(index, dim) * index.scales[:, None].astype(np.float64)
    for query in (unit[0], lost[0], -lost[1], unit[2] + 30 * lost[2]):
        assert_same(emb, [query.astype(np.float32)], topn=5)


def test_what_the_query_lost_counts_too():
    query = np.full(50, 0.49 / 32767, np.float32)  # all but two numbers of it are rounded to nothing
    query[:2] = 1, -4 / 32767
    matrix = np.ones((2, 50), np.float32)  # held without loss
    matrix[0, 1:] = -1  # by the rounded query the nearer
    emb = as_embeddings(WordVectors(["far", "near"], matrix))
    assert assert_same(emb, [query], topn=1)[0][0] == "near"


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 17, 50, 300, 301])
def test_a_cosine_does_not_depend_on_the_rows_beside_it(dim):
    rng = np.random.default_rng(dim)
    matrix = rng.standard_normal((40, dim)).astype(np.float32)
    query = search._unit(rng.standard_normal(dim))
    cosines = cosines_of(matrix, query)
    for start, stop in ((0, 1), (3, 4), (5, 12), (7, 40)):
        assert np.array_equal(cosines_of(matrix[start:stop], query), cosines[start:stop])
        assert np.array_equal(cosines_of(np.asfortranarray(matrix[start:stop]), query), cosines[start:stop])


def test_long_rows_do_not_overflow_the_sums():
    matrix = np.ones((40, 9000), np.float32)
    matrix[20:, ::2] = -1
    emb = as_embeddings(WordVectors([f"w{i}" for i in range(40)], matrix))
    assert [word for word, _ in assert_same(emb, "w0", topn=3)] == ["w1", "w2", "w3"]
    assert [word for word, _ in assert_same(emb, "w25", topn=2)] == ["w20", "w21"]
    query = search._unit(matrix[0])[None]
    assert len(emb.index.candidates(query, 3, 0, 40)[0]) == 20


PLAIN = """
import sys
import numpy as np
import embshrink
from embshrink.embeddings import index as scan
rng = np.random.default_rng(0)
matrix = rng.standard_normal((150, 7)).astype(np.float32)
matrix[9] = 0
matrix[10] = 1e25
emb = embshrink.as_embeddings(embshrink.WordVectors([f"w{i}" for i in range(150)], matrix))
before = [emb.most_similar(word) for word in ("w3", "w9")]
assert emb.index is None
scan.LEAST_ROWS = 1
assert [emb.most_similar(word) for word in ("w3", "w9")] == before
assert emb.index is not None
query = matrix[3] / np.linalg.norm(matrix[3])
print(len(emb.index.candidates(query[None], 10, 0, 150)[0]), "candidates")
"""


def test_the_kernels_are_right_without_compiling(subprocess_env):
    run = subprocess.run([sys.executable, "-W", "error", "-W", "ignore:overflow encountered in einsum", "-c", PLAIN],
                         env={**subprocess_env, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 11 <= int(run.stdout.split()[0]) < 40


@pytest.mark.parametrize("env", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_CPU_NAME": "generic"},
                                 {"NUMBA_CPU_FEATURES": "+sse2,-avx2"}, {}], ids=str)
def test_without_shuffles_there_is_the_other_index(env, subprocess_env, tmp_path):
    path = tmp_path / "v.ems"
    compress(make_vectors(), path, ["pq:subspaces=5,centroids=16"], measure=False)
    program = f"""
import embshrink
from embshrink.embeddings import index as scan
with embshrink.load({str(path)!r}) as emb:
    before = emb.most_similar("w3")
    scan.LEAST_ROWS = 1
    assert [emb.most_similar("w3") for _ in range(3)] == 3 * [before]
    print(type(emb.index.rows).__name__)
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True,
                         env={**subprocess_env, "NUMBA_CACHE_DIR": str(tmp_path), **env})
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["CodeIndex" if not env and scan._can_shuffle(4) else "RowIndex"]


def assembly_of(kernel, signature):
    """Return what a kernel is compiled to, anew: one from the cache on disk has no assembly to show."""
    import numba

    from embshrink.kernels import FAST

    fresh = numba.njit(nogil=True, error_model="numpy", boundscheck=False, fastmath=FAST)(kernel.py_func)
    fresh.compile(signature)
    return "".join(fresh.inspect_asm().values())


shuffles = pytest.mark.skipif(not scan._can_shuffle(4), reason="nothing is compiled for AVX2 here")


@shuffles
def test_analogies_are_compared_many_at_once():
    """By a comparison of vectors: a running maximum, which is not SIMD, takes three times as long."""
    from embshrink.kernels.top import keep_top

    keep_top(np.zeros((3, 64), np.float32), np.zeros((1, 3), np.int64), np.ones(3, np.float32), 0,
             np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64))
    assert re.search(r"\bvcmp\w*ps\b.*%[yz]mm", assembly_of(keep_top, keep_top.signatures[0]))


@shuffles
def test_the_scan_multiplies_whole_numbers_many_at_once():
    """By vpmaddwd or its like; a change that makes numba widen them to 64 bits takes three times as long."""
    from embshrink.kernels.scan import scan_rows

    emb = as_embeddings(make_vectors())
    for _ in range(2):
        emb.most_similar("w3")
    assembly = assembly_of(scan_rows, scan_rows.signatures[0])
    assert re.search(r"\bvpmaddwd|\bvpdpwssd", assembly)
    assert not re.search(r"\bv?pmuldq|\bvpgather", assembly)
