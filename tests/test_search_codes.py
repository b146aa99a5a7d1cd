"""The index of small codes: rows passed over by shuffled tables are never among the nearest."""

import re

import numpy as np
import pytest
from conftest import make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scan import assert_same, small_tables, source, whole  # noqa: F401

from embshrink import compress, load
from embshrink.embeddings import index as scan
from embshrink.embeddings import search
from embshrink.errors import FormatError
from embshrink.methods.iiq import IIQ
from embshrink.methods.pipeline import Stored
from embshrink.methods.pq import PQ, pack_nibbles
from embshrink.methods.scalar import Scalar, pack_bits
from embshrink.numerics import parallel
from embshrink.reader import Embeddings
from embshrink.vocabulary.words import Words

pytestmark = [pytest.mark.usefixtures("small_tables"),
              pytest.mark.skipif(not scan._can_shuffle(4), reason="there is no AVX2 here")]


def table(codec, codes, state, dim):
    """Return embeddings of codes and state, whatever they are."""
    n = len(next(iter(codes.values())))
    stored = Stored([codec], dim, None, [], codec, state, codes)
    emb = Embeddings(Words([f"w{i}" for i in range(n)]), stored.decode, dim, None, n)
    emb.stored = stored
    return emb


def sizes(rng, shape, spread):
    """Return numbers of sizes as different as `spread` says: 0 for small whole numbers, which tie."""
    if not spread:
        return rng.integers(-2, 3, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-spread, spread, shape)).astype(np.float32)


def random_pq(rng, n, dim, spread):
    codec = PQ(subspaces=int(rng.integers(1, dim + 1)), centroids=int(rng.integers(1, rng.choice(SIZES))),
               rotate=rng.choice(["none", "pca"]), normalize=rng.choice(["none", "columns"])).resolve(n=100, d=dim)
    state = {"codebook": sizes(rng, (codec.centroids, dim), spread)}
    if codec.rotate == "pca":
        turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        state["rotation"] = turn if rng.random() < 0.5 else sizes(rng, (dim, dim), spread)
    if codec.normalize == "columns":
        state["scale"] = np.abs(sizes(rng, dim, spread))
    labels = rng.integers(codec.centroids, size=(n, codec.subspaces)).astype(np.uint8)
    return table(codec, {"codes": pack_nibbles(labels) if codec.centroids <= 16 else labels}, state, dim)


def random_iiq(rng, n, dim, spread):
    codec = IIQ(bits=int(rng.integers(1, dim + 1)))
    signs = rng.random((n, codec.bits)) < 0.5
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0][: codec.bits] if rng.random() < 0.5 else sizes(
        rng, (codec.bits, dim), spread)
    state = {"basis": basis.astype(np.float32), "length": np.array([rng.choice([1, 0.37, 1e-3])], np.float32)}
    return table(codec, {"bits": np.packbits(signs, axis=1, bitorder="little")}, state, dim)


def random_scalar(rng, n, dim, spread):
    codec = Scalar(bits=int(rng.integers(1, 5)))
    levels = rng.integers(2**codec.bits, size=(n, dim)).astype(np.uint8)
    state = {"low": sizes(rng, dim, spread), "step": np.abs(sizes(rng, dim, spread))}
    return table(codec, {"codes": pack_bits(levels, codec.bits)}, state, dim)


SIZES = [17, 257] if scan._can_shuffle(8) else [17]
TABLES = {"pq": random_pq, "iiq": random_iiq, "scalar": random_scalar}


@pytest.mark.parametrize("kind", TABLES)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([1, 2, 63, 64, 65, 127, 500]), dim=st.integers(1, 70),
       spread=st.sampled_from([0, 0.1, 1, 4]), topn=st.sampled_from([1, 3, 10]))
def test_any_codes_and_any_query(kind, seed, n, dim, spread, topn):
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", invalid="ignore"):
        emb = TABLES[kind](rng, n, dim, spread)
        for index in rng.integers(n, size=3).tolist():
            assert_same(emb, f"w{index}", topn=topn)
        if type(emb.index.rows) is scan.CodeIndex:
            rows = rng.integers(n, size=20)
            assert np.array_equal(emb.index.rows.decode(rows), emb.decode_rows(rows))
        assert_same(emb, [rng.standard_normal(dim).astype(np.float32)], topn=topn)
        assert_same(emb, [sizes(rng, dim, spread)], negative="w0", topn=topn)
        start, stop = sorted(rng.integers(0, n + 1, 2).tolist())
        assert_same(emb, "w0", topn=topn, clip_start=start, clip_end=stop)
    assert isinstance(emb.index.rows, (scan.CodeIndex, scan.RowIndex))


def test_most_of_those_tables_were_searched_by_their_codes():
    kinds = []
    for kind in TABLES.values():
        for seed in range(20):
            rng = np.random.default_rng(seed)
            emb = kind(rng, 40, 20, [0, 1][seed % 2])
            assert_same(emb, "w0")
            kinds.append(type(emb.index.rows) is scan.CodeIndex)
    assert np.mean(kinds) > 0.75


SETTINGS = [
    ["pq:subspaces=3,centroids=16"], ["pq:subspaces=12,centroids=5"], ["pq:subspaces=5,centroids=16,rotate=pca"],
    ["pq:subspaces=6,centroids=16,rotate=opq,normalize=columns"], ["pq:subspaces=5,centroids=9,normalize=columns"],
    ["iiq:bits=5"], ["iiq"], ["sign"], ["scalar:bits=1"], ["scalar:bits=2,per=matrix"], ["scalar:bits=3"],
    ["scalar:bits=4"], ["prune:keep=150", "pq:subspaces=3,centroids=16"],
    ["prune:keep=150,norms=true", "scalar:bits=4"], ["kmeans:centroids=60", "iiq"], ["dedupe", "scalar:bits=2"],
]
if scan._can_shuffle(8):
    SETTINGS += [["pq:subspaces=3"], ["pq:subspaces=6,centroids=17"], ["pq:subspaces=5,rotate=pca"],
                 ["pq:subspaces=6,rotate=opq,normalize=columns"], ["pq:subspaces=5,centroids=99,normalize=columns"],
                 ["prune:keep=450,norms=true", "pq:subspaces=4"]]


@pytest.mark.parametrize("steps", SETTINGS, ids=" ".join)
def test_a_file_is_searched_by_its_codes(steps, source, tmp_path):  # noqa: F811
    compress(source, tmp_path / "v.ems", steps, measure=False)
    emb = load(tmp_path / "v.ems")
    words, rng = emb.index_to_key, np.random.default_rng(3)
    for index in (0, 3, 7, 40, 60, 300, 500, 1301, 1499):
        assert_same(emb, words[index])
    assert type(emb.index.rows) is scan.CodeIndex
    for kwargs in ({"topn": 1}, {"topn": 5000}, {"topn": 999}, {"topn": 0}, {"restrict_vocab": 200},
                   {"restrict_vocab": 5}, {"clip_start": 100, "clip_end": 700, "topn": 30}, {"clip_start": 1490},
                   {"clip_start": 700, "clip_end": 100}, {"clip_end": 700, "topn": 30}):
        assert_same(emb, words[3], **kwargs)
    assert_same(emb, [(words[3], 2.5), (words[9], -0.5)], negative=[words[700]])
    for query in (0, 1e-30, 1e30):
        with np.errstate(over="ignore"):
            assert_same(emb, [np.full(12, query, np.float32)])
    assert_same(emb, [rng.standard_normal(12).astype(np.float32)], topn=40)


@pytest.mark.parametrize("steps", [["pq:subspaces=3,centroids=300"], ["scalar:bits=5"],
                                   ["lowrank:dims=4", "scalar:bits=4"]], ids=" ".join)
def test_other_codes_are_not(steps, vectors, tmp_path):
    compress(vectors, tmp_path / "v.ems", steps, measure=False)
    emb = load(tmp_path / "v.ems")
    assert_same(emb, "w3")
    assert type(emb.index.rows) is scan.RowIndex


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """Return the path of a file of 4-bit codes."""
    path = tmp_path_factory.mktemp("coded") / "v.ems"
    compress(make_vectors(1000, 20), path, ["pq:subspaces=10,centroids=16"], measure=False)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_few_rows_are_decoded_at_any_number_of_threads(size, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(size - 1, size=(70_001, 20)).astype(np.uint8)
    emb = table(PQ(20, size - 1), {"codes": pack_nibbles(labels) if size == 17 else labels},
                {"codebook": sizes(rng, (size - 1, 50), 0.1)}, 50)
    monkeypatch.setattr(scan, "PIECE_BYTES", 1 << 14)
    expected = assert_same(emb, "w69999")
    queries = np.array([search._unit(emb[f"w{index}"]) for index in range(0, 70_000, 7777)])
    found = {}
    for threads in (1, 2, 5):
        parallel.set_threads(threads)
        one_by_one = [emb.index.candidates(query[None], 10, 5, 69_999)[0].tolist() for query in queries]
        together = [rows.tolist() for rows in emb.index.candidates(queries, 10, 5, 69_999)]
        assert together == one_by_one  # in several parts of the table, one behind the other
        found[threads] = together
        assert emb.most_similar("w69999") == expected
    assert found[1] == found[2] == found[5]
    units = emb.decode_rows(np.arange(70_001)).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    for query, rows in zip(queries, found[1]):
        nearest = 5 + np.argsort(-(units[5:69_999] @ query))[:10]
        assert set(nearest.tolist()) <= set(rows) and len(rows) < 40
    assert type(emb.index.rows) is scan.CodeIndex


def test_many_wide_codes_are_left_to_the_other_index():
    rng = np.random.default_rng(1)
    labels = rng.integers(20, size=(50, 7)).astype(np.uint8)
    for dim in (13, 14):
        emb = table(PQ(7, 20), {"codes": labels}, {"codebook": sizes(rng, (20, dim), 0.3)}, dim)
        assert_same(emb, "w3")
        kind = scan.CodeIndex if dim == 14 and scan._can_shuffle(8) else scan.RowIndex
        assert type(emb.index.rows) is kind


@pytest.mark.parametrize("size", SIZES)
def test_numbers_too_large_that_no_row_has_warn_of_nothing(size):
    book = np.ones((size - 2, 4), np.float32)
    book[1:] = 1e30
    state = {"codebook": book, "scale": np.full(4, 1e10, np.float32)}
    labels = np.zeros((60, 2), np.uint8)
    codec = PQ(2, size - 2, normalize="columns")
    emb = table(codec, {"codes": pack_nibbles(labels) if size == 17 else labels}, state, 4)
    assert_same(emb, "w3")


def test_ties_come_in_order_of_id():
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=(400, 3)).astype(np.uint8)
    emb = table(PQ(3, 2), {"codes": pack_nibbles(labels)}, {"codebook": sizes(rng, (2, 6), 0.3)}, 6)
    found = [int(word[1:]) for word, _ in assert_same(emb, "w0", topn=30)]
    assert found == sorted(found) and len(found) == 30


def test_the_index_takes_the_memory_it_says(coded):
    emb = load(coded)
    assert_same(emb, "w3")
    index = emb.index.rows
    assert index.codes.nbytes + index.lengths.nbytes == 1024 * 7
    assert index.bytes_per_row(scan._small_codes_of(emb.stored)) == 7


@pytest.mark.parametrize("rotate", ["none", "pca"])
def test_zero_rows_and_long_ones_leave_few_candidates(rotate):
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 15, (2000, 4)).astype(np.uint8)
    labels[500:1500] = 0
    book = rng.standard_normal((16, 8)).astype(np.float32)
    book[0], state = 0, {"codebook": book}
    if rotate == "none":
        labels[:3], book[15] = 15, 1e6
    else:
        state["rotation"] = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    emb = table(PQ(4, 16, rotate=rotate), {"codes": pack_nibbles(labels)}, state, 8)
    for word in ("w0", "w700", "w1999"):
        assert_same(emb, word)
    assert len(emb.index.candidates(search._unit(emb["w1999"])[None], 10, 0, 2000)[0]) < 20


def test_rows_out_of_reach_of_float32_are_left_to_the_other_index():
    state = {"codebook": np.full((3, 4), 1e-20, np.float32)}
    emb = table(PQ(2, 3), {"codes": np.zeros((50, 1), np.uint8)}, state, 4)
    assert_same(emb, "w3")
    assert type(emb.index.rows) is scan.RowIndex


def test_too_many_parts_are_left_to_the_other_index(monkeypatch):
    rng = np.random.default_rng(2)
    emb = random_scalar(rng, 40, 400, 0.3)
    assert_same(emb, "w3")
    assert type(emb.index.rows) is scan.CodeIndex
    monkeypatch.setattr(scan, "MOST_CODES", 10)
    emb.index = None
    assert_same(emb, "w3")
    assert type(emb.index.rows) is scan.RowIndex


def test_many_parts_do_not_overflow_the_sums():
    emb = table(Scalar(4), {"codes": np.full((40, 130), 255, np.uint8)},
                {"low": np.full(260, -1, np.float32), "step": np.full(260, 2 / 15, np.float32)}, 260)
    emb.stored.codes["codes"][:20] = 15  # columns of 1 and -1 in turn
    assert [word for word, _ in assert_same(emb, "w33", topn=2)] == ["w20", "w21"]
    assert type(emb.index.rows) is scan.CodeIndex


def test_a_code_that_names_no_centroid_is_refused(coded):
    state = {"codebook": np.ones((3, 4), np.float32)}
    emb = table(PQ(2, 3), {"codes": np.full((50, 1), 0xF0, np.uint8)}, state, 4)
    with pytest.raises(FormatError, match="a code is out of range"):
        emb.index_for(2)
    with pytest.raises(FormatError, match="a code is out of range"):
        emb.most_similar([np.ones(4, np.float32)])


def test_the_kernel_reads_what_was_laid_out():
    from embshrink.kernels.shuffle import ROWS, lay_out

    rng = np.random.default_rng(0)
    labels = rng.integers(16, size=(157, 5)).astype(np.uint8)
    codes, bytes_ = np.zeros((256 // ROWS, 3, ROWS), np.uint8), np.zeros((256 // ROWS, 5, ROWS), np.uint8)
    for part, first in ((labels[:40], 0), (labels[40:], 40)):
        lay_out(part, first, 2, codes)
        lay_out(part, first, 1, bytes_)
    for row, place in ((0, 0), (1, 2), (31, 62), (32, 1), (63, 63), (76, 64 + 24), (156, 128 + 56)):
        both = codes[place // ROWS, :, place % ROWS]
        assert np.stack([both & 15, both >> 4], axis=1).ravel().tolist() == [*labels[row].tolist(), 0]
        assert bytes_[place // ROWS, :, place % ROWS].tolist() == labels[row].tolist()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 32, 63, 64, 65, 130, 300, 5000]),
       st.sampled_from([1, 2, 3, 4, 5, 26, 255, 512]), st.integers(1, 20), st.sampled_from(SIZES))
def test_the_kernel_is_its_slow_twin(seed, n, count, k, size):
    from embshrink.kernels.shuffle import ROWS, UNKNOWN, Candidates, Query, RowCodes, lay_out, scan_codes

    rng = np.random.default_rng(seed)
    n = min(n, 300) if count > 26 else n
    per, entries = (2, 16) if size == 17 else (1, 256)
    parts = per * count - int(rng.integers(per))
    labels = rng.integers(entries, size=(n, parts)).astype(np.uint8)
    codes = np.zeros((-(-n // ROWS), count, ROWS), np.uint8)
    lay_out(labels, 0, per, codes)
    tables = np.zeros((per * count, entries), np.uint8)
    tables[:parts] = rng.integers(0, 128 // per, (parts, entries))
    lengths = np.zeros(len(codes) * ROWS, np.uint16)
    lengths[:n] = rng.choice([0, 1, 9000, 30_000, 60_000, UNKNOWN], n, p=rng.dirichlet(np.ones(6)))
    eligible = rng.random(n) < 0.8 if rng.random() < 0.7 else np.ones(0, bool)
    start, stop = sorted(rng.integers(0, n + 1, 2).tolist())
    unit, floor = float(rng.choice([2**-14, 1])), np.float32(rng.choice([-np.inf, 2 * parts]))
    base = float(rng.choice([0, -3, -30 * parts, 1e9, -1e9, 1e30]))
    error, margin = float(rng.choice([0, 2])), float(rng.choice([0, 1]))
    best = np.full(k, floor)
    rows, uppers = np.empty(n, np.int64), np.empty(n, np.float32)
    tables = tables.reshape(count, per, entries)
    exact = tables.astype(np.float64)
    exact[0, 0] += base
    found = scan_codes(1, floor, RowCodes(codes, lengths, unit), start, stop, eligible,
                       Query(tables, 1.0, base + error, exact, error, margin), Candidates(best, rows, uppers))

    sums = exact.reshape(-1, entries)[np.arange(parts), labels].sum(axis=1)
    shortest = lengths[:n] * unit
    longest = np.where(lengths[:n] == UNKNOWN, np.inf, shortest + unit)
    with np.errstate(all="ignore"):
        highest = ((sums + error) / np.where(sums + error > 0, shortest, longest) + margin).astype(np.float32)
        lowest = ((sums - error) / np.where(sums - error >= 0, longest, shortest) - margin).astype(np.float32)
    allowed = np.zeros(n, bool)
    allowed[start:stop] = eligible[start:stop] if len(eligible) else True
    assert np.array_equal(best, np.sort(np.append(lowest[allowed], np.full(k, floor)))[::-1][:k])
    assert np.array_equal(uppers[:found], highest[rows[:found]])
    kept = rows[:found][uppers[:found] >= best[-1]]
    assert np.array_equal(kept, np.flatnonzero(allowed & (highest >= best[-1])))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 3, 6]))
def test_what_turning_in_float32_loses_is_allowed_for(seed, power):
    rng = np.random.default_rng(seed)
    codec = PQ(subspaces=4, centroids=8, rotate="pca")
    book = rng.standard_normal((8, 8)).astype(np.float32)
    book[:, 4:] = -book[:, :4] + 10.0**-power * rng.standard_normal((8, 4))  # what is large cancels out
    turn = rng.standard_normal((4, 6))
    state = {"codebook": book, "rotation": np.concatenate([turn, turn]).astype(np.float32)}
    labels = np.tile(rng.integers(8, size=(200, 2)).astype(np.uint8), 2)
    emb, turn64 = table(codec, {"codes": pack_nibbles(labels)}, state, 6), state["rotation"].astype(np.float64)
    for word in ("w0", "w1", "w2"):
        assert_same(emb, word, topn=3)
        query = search._unit(emb[word]).astype(np.float64)
        index = emb.index.rows
        columns = index._book * (turn64 @ query)[:, None]
        sums = sum(columns[2 * m : 2 * m + 2].sum(axis=0)[labels[:, m]] for m in range(4))
        lost = np.abs(sums - emb.vectors[:].astype(np.float64) @ query)
        assert 0 < lost.max() <= index._error < 1e4 * lost.max()


def test_numbers_too_large_for_float32_are_no_bounds():
    book = np.ones((4, 4), np.float32)
    book[1], book[2], book[3] = 0, -1, -3e38  # the last is nobody's
    labels = np.array([1, 2, 0], np.uint8).repeat(100)[:, None]
    emb = table(PQ(1, 4), {"codes": pack_nibbles(labels)}, {"codebook": book}, 4)
    assert assert_same(emb, "w299", topn=70)[0][0] == "w200"
    assert type(emb.index.rows) is scan.CodeIndex


def test_another_index_finds_the_same(coded, monkeypatch):
    emb = load(coded)
    expected = assert_same(emb, "w3")
    emb.index = None
    monkeypatch.setattr(scan, "_can_shuffle", lambda bits: False)
    assert assert_same(emb, "w3") == expected
    assert type(emb.index.rows) is scan.RowIndex


def test_codes_are_shuffled_many_at_once(coded):
    import numba

    from embshrink.kernels import FAST
    from embshrink.kernels.shuffle import search_codes

    emb = load(coded)
    assert_same(emb, "w3")
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": FAST}
    fresh = numba.njit(**options)(search_codes.py_func)  # one from the cache on disk has no assembly to show
    fresh.compile(search_codes.signatures[0])
    assembly = "".join(fresh.inspect_asm().values())
    assert re.search(r"\b(vpshufb|vpermb)\b.*%[yz]mm", assembly)
    assert re.search(r"\bvpaddw\b.*%[yz]mm", assembly)
    loops = re.findall(r"\n(\.LBB\w+):((?:(?!\n\.LBB).)*?)j\w+\s+\1\n", assembly, re.S)
    loop = next(body for _, body in loops if "vpshufb" in body or "vpermb" in body)
    assert "call" not in loop and "rsp" not in loop  # sums stay in registers
    if scan._can_shuffle(8):
        loop = next(body for _, body in loops if re.search(r"vperm[it]2b", body))
        assert "call" not in loop and "rsp" not in loop
