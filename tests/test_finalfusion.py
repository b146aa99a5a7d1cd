"""finalfusion's files, made here from their layout: read exactly, or refused; what is written, read by hand."""

import io
import struct

import numpy as np
import pytest
from conftest import make_vectors

from embshrink import SourceError, TargetError, WordVectors, compress, load
from embshrink.compression.job import Job
from embshrink.compression.source import open_table
from embshrink.formats import ReadOptions, export, finalfusion, format_of, read_vectors, write_vectors
from embshrink.vocabulary.ngram_hashing import bucket_ids

WORDS = ["the", "of", "caf\u00e9", "\u6771\u4eac", "two words"]
N, DIM, SUBSPACES = len(WORDS), 6, 2
SIMPLE, DENSE, BUCKETS, QUANTIZED, METADATA, NORMS, FASTTEXT, EXPLICIT, FLORET = range(1, 10)


# ---------------------------------------------------------------- a second writer


def item(text, *tail):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<I", len(text)) + text + b"".join(struct.pack("<Q", number) for number in tail)


class Builder:
    """A file chunk by chunk; `marks` remembers where each begins."""

    def __init__(self):
        self.kinds, self.data, self.marks = [], [], {}

    def add(self, kind, fields, payload=b"", padded=False, length=None):
        self.kinds.append(kind)
        self.data.append((kind, fields, payload, padded, length))
        return self

    def build(self, **header):
        out = b"FiFu" + struct.pack("<II", header.get("version", 0), len(self.kinds))
        out += struct.pack(f"<{len(self.kinds)}I", *self.kinds)
        for kind, fields, payload, padded, length in self.data:
            self.marks[kind] = len(out)
            position = len(out) + 12 + len(fields)
            zeros = bytes(4 - position % 4) if padded else b""
            body = fields + zeros + payload
            out += struct.pack("<IQ", kind, len(body) if length is None else length) + body
        return out

    def simple(self, words=WORDS):
        return self.add(SIMPLE, struct.pack("<Q", len(words)), b"".join(map(item, words)))

    def hashed(self, kind=FASTTEXT, buckets=50, minn=3, maxn=5):
        fields = struct.pack("<QIII", N, minn, maxn, buckets)
        return self.add(kind, fields, b"".join(map(item, WORDS)))

    def explicit(self, ngrams=(("<th", 0), ("the", 1), ("he>", 0)), python=False):
        fields = struct.pack("<QQII", N, len(ngrams), 3, 6)
        payload = b"".join(map(item, WORDS)) + b"".join(item(*ngram) for ngram in ngrams)
        length = len(fields) + len(payload) - 8 * len(ngrams)
        return self.add(EXPLICIT, fields, payload, length=length if python else None)

    def dense(self, matrix):
        return self.add(DENSE, struct.pack("<QII", *matrix.shape, 10), matrix.astype("<f4").tobytes(), True)

    def quantized(self, codes, codebooks, projection=None, norms=None):
        fields = struct.pack("<5IQ2I", projection is not None, norms is not None, codes.shape[1], DIM,
                             codebooks.shape[1], len(codes), 1, 10)
        parts = [part.astype("<f4").tobytes() for part in (projection, codebooks, norms) if part is not None]
        return self.add(QUANTIZED, fields, b"".join(parts) + codes.tobytes(), True)

    def norms(self, norms):
        return self.add(NORMS, struct.pack("<QI", len(norms), 10), norms.astype("<f4").tobytes(), True)

    def metadata(self, text=b"a = 1\n"):
        return self.add(METADATA, text)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def table(rng, rows=N):
    return rng.standard_normal((rows, DIM)).astype(np.float32)


def quantizer(rng, rows=N, centroids=20):
    codes = rng.integers(centroids, size=(rows, SUBSPACES)).astype(np.uint8)
    codes[0] = 0, centroids - 1
    return codes, rng.standard_normal((SUBSPACES, centroids, DIM // SUBSPACES)).astype(np.float32)


def decoded(codes, codebooks, projection=None, norms=None):
    rows = np.concatenate([codebooks[part][codes[:, part]] for part in range(SUBSPACES)], axis=1)
    rows = rows if projection is None else rows @ projection.T
    return rows if norms is None else rows * norms[:, None]


def save(tmp_path, builder, name="v.fifu"):
    path = tmp_path / name
    path.write_bytes(builder if isinstance(builder, bytes) else builder.build())
    return path


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("metadata", [None, b"", b"a", b"ab = 1", "caf\u00e9".encode()])
def test_dense_rows_times_norms(metadata, rng, tmp_path):
    matrix, norms = table(rng), rng.uniform(0.5, 9, N).astype(np.float32)
    builder = Builder() if metadata is None else Builder().metadata(metadata)
    found = read_vectors(save(tmp_path, builder.simple().dense(matrix).norms(norms)))
    assert list(found.words) == WORDS
    assert np.array_equal(found.matrix, matrix * norms[:, None])
    assert found.source["format"] == "finalfusion"
    said = f"dropped {len(metadata or b'')} bytes of metadata; vectors do not depend on them"
    assert found.warnings == ([] if not metadata else [said.replace("1 bytes", "1 byte")])


def test_without_norms_rows_are_as_they_are(rng, tmp_path):
    matrix = table(rng)
    matrix[2] = 0
    found = read_vectors(save(tmp_path, Builder().simple().dense(matrix)))
    assert np.array_equal(found.matrix, matrix)
    assert found.warnings == ["kept 1 zero vector, whose cosine similarity to any vector is 0"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_and_a_packed_file_read_the_same(packed, rng, tmp_path):
    import gzip

    codes, books = quantizer(rng)
    data = Builder().simple().quantized(codes, books).build()
    source = save(tmp_path, gzip.compress(data), "v.gz") if packed else io.BytesIO(data)
    assert np.array_equal(read_vectors(source).matrix, decoded(codes, books))


VOCABULARIES = {
    "buckets": (lambda builder: builder.hashed(BUCKETS, buckets=4), 16),
    "fasttext": (lambda builder: builder.hashed(FASTTEXT, buckets=50), 50),
    "explicit": (lambda builder: builder.explicit(), 2),
    "explicit-of-python": (lambda builder: builder.explicit(python=True), 2),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_words_are_read_with_any_kind_of_ngrams(name, rng, tmp_path):
    add, more = VOCABULARIES[name]
    matrix = table(rng, N + more)
    found = read_vectors(save(tmp_path, add(Builder()).dense(matrix)))
    assert list(found.words) == WORDS
    assert np.array_equal(found.matrix, matrix[: N])
    assert found.warnings == [f"dropped {more} n-gram vectors: the vectors of the words do not change, but "
                              "out-of-vocabulary words get no vector"]
    cut = read_vectors(tmp_path / "v.fifu", ReadOptions(limit=2))
    assert list(cut.words) == WORDS[:2]


@pytest.mark.parametrize("centroids", [3, 16, 17, 256])
@pytest.mark.parametrize("projected", [False, True])
def test_codes(centroids, projected, rng, tmp_path):
    codes, books = quantizer(rng, centroids=centroids)
    projection = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32) if projected else None
    own, norms = (rng.uniform(0.5, 2, N).astype(np.float32) for _ in range(2))
    plain = read_vectors(save(tmp_path, Builder().simple().quantized(codes, books, projection)))
    if projected:
        np.testing.assert_allclose(plain.matrix, decoded(codes, books, projection), atol=1e-6)
    else:
        assert np.array_equal(plain.matrix, decoded(codes, books))
    path = save(tmp_path, Builder().simple().quantized(codes, books, projection, own).norms(norms))
    np.testing.assert_allclose(read_vectors(path).matrix, decoded(codes, books, projection, own * norms), atol=1e-5)


def test_a_word_that_comes_again_is_left_out_with_its_codes(rng, tmp_path):
    words = ["a", "b", "a", "c"]
    codes, books = quantizer(rng, rows=4)
    path = save(tmp_path, Builder().simple(words).quantized(codes, books))
    compress(path, tmp_path / "v.ems", [])
    emb = load(tmp_path / "v.ems")
    assert list(emb.words) == ["a", "b", "c"]
    assert np.array_equal(np.asarray(emb.vectors), decoded(codes, books)[[0, 1, 3]])


def test_a_row_that_is_not_finite_is_dealt_with_as_asked(rng, tmp_path):
    matrix = table(rng)
    matrix[1, 2] = np.inf
    path = save(tmp_path, Builder().simple().dense(matrix))
    with pytest.raises(SourceError, match="number 3 of the word 'of' is not finite"):
        read_vectors(path)
    assert list(read_vectors(path, ReadOptions(nonfinite="drop")).words) == WORDS[:1] + WORDS[2:]
    with pytest.raises(SourceError, match=r"the number of rows differs from --expect-rows .*expected 6, found 5"):
        read_vectors(path, ReadOptions(expect_rows=6))


# ---------------------------------------------------------------- refusals


def good(rng, metadata=True, kind=QUANTIZED, vocabulary=SIMPLE):
    builder = Builder().metadata() if metadata else Builder()
    more = 0
    if vocabulary == SIMPLE:
        builder.simple()
    elif vocabulary == EXPLICIT:
        builder.explicit()
        more = 2
    else:
        more = 16 if vocabulary == BUCKETS else 50
        builder.hashed(vocabulary, buckets=4 if vocabulary == BUCKETS else 50)
    rows = N + more
    if kind == DENSE:
        builder.dense(table(rng, rows))
    else:
        projection = np.eye(DIM, dtype=np.float32)
        builder.quantized(*quantizer(rng, rows), projection, np.ones(rows, np.float32))
    return builder.norms(np.ones(N, np.float32))


def u32(number):
    return struct.pack("<I", number)


def u64(number):
    return struct.pack("<Q", number)


NAN = struct.pack("<f", np.nan)
PROJECTION, BOOKS = 4 * DIM * DIM, 4 * 20 * DIM
# what; storage, vocabulary; chunk (None: the header), byte in it or in the file; what to put there; what is said
DAMAGE = [
    ("version", DENSE, SIMPLE, None, 4, u32(1), "the version of the file is not supported (expected 0, found 1)"),
    ("no-chunks", DENSE, SIMPLE, None, 8, u32(0), "the number of chunks is out of range (expected 2 to 4, found 0)"),
    ("many-chunks", DENSE, SIMPLE, None, 8, u32(2**32 - 1), "the number of chunks is out of range"),
    ("unknown-chunk", DENSE, SIMPLE, None, 16, u32(77), "a chunk is not supported (expected 1 to 9, found 77)"),
    ("order", DENSE, SIMPLE, None, 16, u32(DENSE), "the chunks do not form a table of vectors"),
    ("two-norms", DENSE, SIMPLE, None, 20, u32(NORMS), "the chunks do not form a table of vectors"),
    ("other-chunk", DENSE, SIMPLE, SIMPLE, 0, u32(BUCKETS),
     "the chunk is not the one that the header lists (expected 1 (SimpleVocab), found 3 (BucketSubwordVocab)"),
    ("chunk-too-long", DENSE, SIMPLE, DENSE, 4, u64(2**60), "the file ends in the chunk NdArray"),
    ("vocab-length", DENSE, SIMPLE, SIMPLE, 4, u64(12), "the length of the chunk SimpleVocab does not match its"),
    ("dense-length", DENSE, SIMPLE, DENSE, 4, u64(40),
     "the length of the chunk NdArray does not match its content"),
    ("codes-length", QUANTIZED, SIMPLE, QUANTIZED, 4, u64(99), "the length of the chunk QuantizedArray does not"),
    ("norms-length", DENSE, SIMPLE, NORMS, 4, u64(16), "the length of the chunk NdNorms does not match"),
    ("explicit-length", DENSE, EXPLICIT, EXPLICIT, 4, u64(60), "the length of the chunk ExplicitSubwordVocab does"),
    ("metadata", DENSE, SIMPLE, METADATA, 14, b"\xff", "the metadata is not UTF-8"),
    ("no-words", DENSE, SIMPLE, SIMPLE, 12, u64(0), "the model has no words"),
    ("many-words", DENSE, SIMPLE, SIMPLE, 12, u64(2**61), "the file ends in the list of 2305843009213693952 words"),
    ("long-word", DENSE, SIMPLE, SIMPLE, 20, u32(2**31), "word 1 is too long (expected at most 65536 bytes"),
    ("word-utf8", DENSE, SIMPLE, SIMPLE, 26, b"\xff", "a word is not UTF-8 (expected UTF-8, found"),
    ("min-n", DENSE, FASTTEXT, FASTTEXT, 20, u32(0), "the lengths of the n-grams are out of range"),
    ("min-max", DENSE, FASTTEXT, FASTTEXT, 20, u32(6), "1 or more, the shortest first, found 6 to 5"),
    ("no-buckets", DENSE, FASTTEXT, FASTTEXT, 28, u32(0), "the number of buckets is out of range"),
    ("exponent", DENSE, BUCKETS, BUCKETS, 28, u32(64), "the exponent of the number of buckets is out of range"),
    ("buckets", DENSE, FASTTEXT, FASTTEXT, 28, u32(51), "not match the words and n-grams (expected 56, found 55)"),
    ("more-buckets", DENSE, BUCKETS, BUCKETS, 28, u32(63), "the number of rows does not match the words and n-grams"),
    ("dense-dim", DENSE, SIMPLE, DENSE, 20, u32(0), "the dimension is out of range"),
    ("dense-type", DENSE, SIMPLE, DENSE, 24, u32(11), "the type of the numbers is not supported (expected 10"),
    ("padding", DENSE, SIMPLE, DENSE, 28, b"\1", "the padding before the numbers is not zero"),
    ("projection-flag", QUANTIZED, SIMPLE, QUANTIZED, 12, u32(2), "the flag for a projection is out of range"),
    ("norms-flag", QUANTIZED, SIMPLE, QUANTIZED, 16, u32(2), "the flag for norms is out of range"),
    ("no-subspaces", QUANTIZED, SIMPLE, QUANTIZED, 20, u32(0),
     "the number of subspaces does not divide the dimension"),
    ("subspaces", QUANTIZED, SIMPLE, QUANTIZED, 20, u32(4), "expected a divisor of 6, found 4"),
    ("codes-dim", QUANTIZED, SIMPLE, QUANTIZED, 24, u32(2**31), "the dimension is out of range"),
    ("no-centroids", QUANTIZED, SIMPLE, QUANTIZED, 28, u32(0), "the number of centroids is out of range"),
    ("centroids", QUANTIZED, SIMPLE, QUANTIZED, 28, u32(257), "is out of range (expected 1 to 256, found 257"),
    ("rows", QUANTIZED, SIMPLE, QUANTIZED, 32, u64(2**63), "the number of rows does not match the words and n-grams"),
    ("code-type", QUANTIZED, SIMPLE, QUANTIZED, 40, u32(10),
     "the type of the numbers is not supported (expected 1,"),
    ("float-type", QUANTIZED, SIMPLE, QUANTIZED, 44, u32(1),
     "the type of the numbers is not supported (expected 10"),
    ("projection-nan", QUANTIZED, SIMPLE, QUANTIZED, 52, NAN, "a number in the projection is not finite"),
    ("codebook-nan", QUANTIZED, SIMPLE, QUANTIZED, 52 + PROJECTION, NAN, "a number in the codebooks is not finite"),
    ("row-norm-nan", QUANTIZED, SIMPLE, QUANTIZED, 52 + PROJECTION + BOOKS, NAN,
     "a number in the norms of the codes"),
    ("code", QUANTIZED, SIMPLE, QUANTIZED, 52 + PROJECTION + BOOKS + 20 + 3, b"\x14",
     "a code refers to a centroid that does not exist (expected 0 to 19, found 20)"),
    ("norm-count", DENSE, SIMPLE, NORMS, 12, u64(4),
     "the number of norms does not match the number of words (expected 5, found 4)"),
    ("norm-type", DENSE, SIMPLE, NORMS, 20, u32(1), "the type of the numbers is not supported"),
    ("norm-nan", DENSE, SIMPLE, NORMS, 28, NAN, "a number in the norms is not finite"),
]


@pytest.mark.parametrize("name, kind, vocabulary, chunk, byte, value, says", DAMAGE, ids=[row[0] for row in DAMAGE])
def test_damage_is_refused(name, kind, vocabulary, chunk, byte, value, says, rng, tmp_path):
    builder = good(rng, True, kind, vocabulary)
    data = bytearray(builder.build())
    if chunk == DENSE and byte == 28 or chunk in (QUANTIZED, NORMS) and byte >= 28 and value == NAN:
        position = builder.marks[chunk] + {DENSE: 28, QUANTIZED: 48, NORMS: 24}[chunk]
        aligned = position + 4 - position % 4  # where the numbers begin
        at = position if chunk == DENSE else aligned + byte - {QUANTIZED: 52, NORMS: 28}[chunk]
    elif name == "code":
        position = builder.marks[chunk] + 48
        at = position + 4 - position % 4 + byte - 52
    else:
        at = byte + (builder.marks[chunk] if chunk else 0)
    data[at : at + len(value)] = value
    with pytest.raises(SourceError) as caught:
        read_vectors(save(tmp_path, bytes(data)), ReadOptions(format="finalfusion"))
    error = caught.value
    assert says in str(error)
    assert error.where.startswith("byte ") and int(error.where[5:]) <= len(data)
    assert error.hint.endswith(".") and error.path == str(tmp_path / "v.fifu")


def test_more_refusals(rng, tmp_path):
    matrix = table(rng, N + 3)

    def refused(builder, says, **options):
        with pytest.raises(SourceError) as caught:
            read_vectors(save(tmp_path, builder), ReadOptions(format="finalfusion", **options))
        assert says in str(caught.value), caught.value

    refused(b"FiFi" + bytes(20), "this is not a finalfusion file (expected 'FiFu', found 'FiFi')")
    refused(Builder().simple().dense(matrix[:5]).build() + b"\0", "bytes follow the last chunk")
    refused(Builder().explicit((("a", 0), ("b", 2))).dense(matrix),
            "the row numbers of n-grams have gaps")
    refused(Builder().explicit((("a", 0), (b"\xff", 1))).dense(matrix), "an n-gram is not UTF-8")
    refused(Builder().simple(["a", b"\xc3", b"\xa9"]).dense(matrix[:3]), "a word is not UTF-8")
    refused(Builder().add(FLORET, bytes(40)).dense(matrix),
            "a floret vocabulary has no words, only n-grams")
    refused(Builder().metadata(), "the number of chunks is out of range (expected 2 to 4, found 1)")
    refused(Builder().metadata().simple(), "the chunks do not form a table of vectors")


@pytest.mark.parametrize("vocabulary", [SIMPLE, FASTTEXT, EXPLICIT])
def test_every_cut_is_refused(vocabulary, rng, tmp_path):
    data = good(rng, True, QUANTIZED, vocabulary).build()
    options = ReadOptions(format="finalfusion")
    for length in range(len(data)):
        with pytest.raises(SourceError, match="the file ends in|is empty"):
            read_vectors(io.BytesIO(data[:length]), options)
    for length in range(0, len(data), 37):
        with pytest.raises(SourceError, match="the file ends in|is empty"):
            read_vectors(save(tmp_path, data[:length]), options)


def test_any_byte_may_be_any_other(rng):
    data = good(rng, True, QUANTIZED, EXPLICIT).build()
    for place in range(len(data)):
        for value in (0, 1, 127, 255):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                found = read_vectors(io.BytesIO(changed), ReadOptions(format="finalfusion"))
            except SourceError:
                continue
            assert found.matrix.shape[1] == DIM and np.isfinite(found.matrix).all()


# ---------------------------------------------------------------- codes one to one


@pytest.mark.parametrize("centroids", [7, 16, 200])
@pytest.mark.parametrize("projected", [False, True])
def test_no_steps_keep_codes_bit_for_bit(centroids, projected, rng, tmp_path):
    codes, books = quantizer(rng, centroids=centroids)
    projection = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32) if projected else None
    path = save(tmp_path, Builder().simple().quantized(codes, books, projection))
    planned = Job(open_table(path)).plan([])
    report = compress(path, tmp_path / "v.ems", [])
    emb = load(tmp_path / "v.ems", verify="full")
    rotate = ",rotate=opq" if projected else ""
    assert report.steps == planned.steps == [f"pq:subspaces=2,centroids={centroids}{rotate}"]
    assert report.target_bytes == planned.bytes
    assert report.loss["relative_error"] == 0
    assert np.array_equal(np.asarray(emb.vectors), read_vectors(path).matrix)
    stored = emb.stored.codes["codes"]
    assert np.array_equal(stored if centroids > 16 else np.stack([stored[:, 0] & 15, stored[:, 0] >> 4], 1), codes)


def test_norms_become_float16_factors(rng, tmp_path):
    codes, books = quantizer(rng)
    norms = rng.uniform(0.5, 40, N).astype(np.float32)
    path = save(tmp_path, Builder().simple().quantized(codes, books).norms(norms))
    compress(path, tmp_path / "v.ems", [])
    emb = load(tmp_path / "v.ems", verify="full")
    assert np.array_equal(np.asarray(emb.vectors), decoded(codes, books, None, norms.astype(np.float16).astype("f4")))
    np.testing.assert_allclose(np.asarray(emb.vectors), read_vectors(path).matrix, rtol=1e-3)


def test_norms_out_of_range_are_not_kept_as_codes(rng, tmp_path):
    codes, books = quantizer(rng)
    norms = np.array([1, 1e6, 1, 1, 1], np.float32)
    path = save(tmp_path, Builder().simple().quantized(codes, books).norms(norms))
    report = compress(path, tmp_path / "v.ems", [])
    assert report.steps == ["cast:dtype=float32"]
    assert any("words are decoded instead of kept: a norm is outside" in said for said in report.warnings)
    assert np.array_equal(np.asarray(load(tmp_path / "v.ems").vectors), read_vectors(path).matrix)


def test_no_steps_keep_every_number_of_other_sources(rng, tmp_path):
    path = save(tmp_path, Builder().simple().dense(table(rng)))
    assert compress(path, tmp_path / "v.ems", []).steps == ["cast:dtype=float32"]
    assert np.array_equal(np.asarray(load(tmp_path / "v.ems").vectors), read_vectors(path).matrix)


def test_no_steps_copy_an_ems_file(tmp_path):
    steps = ["prune:keep=100", "lowrank:dims=6", "pq:subspaces=3,centroids=30"]
    compress(make_vectors(), tmp_path / "a.ems", steps, seed=3)
    report = compress(tmp_path / "a.ems", tmp_path / "b.ems", [])
    one, two = load(tmp_path / "a.ems"), load(tmp_path / "b.ems", verify="full")
    assert report.steps == one.info()["steps"] and report.loss["relative_error"] == 0
    assert report.target_bytes == Job(open_table(tmp_path / "a.ems")).plan([]).bytes
    assert one.info()["sections"] == two.info()["sections"]
    assert np.array_equal(np.asarray(one.vectors), np.asarray(two.vectors))
    assert two.alias_of(one.words[399]) == one.alias_of(one.words[399])


@pytest.mark.parametrize("kind", [DENSE, QUANTIZED])
def test_fasttexts_ngrams_are_kept(kind, rng, tmp_path):
    buckets = 5  # so few that the words' own n-grams fall into every one
    rows = N + buckets
    builder = Builder().hashed(FASTTEXT, buckets=buckets)
    if kind == DENSE:
        matrix = table(rng, rows)
        builder.dense(matrix)
    else:
        codes, books = quantizer(rng, rows)
        matrix = decoded(codes, books)
        builder.quantized(codes, books)
    norms = rng.uniform(2, 3, N).astype(np.float32)
    path = save(tmp_path, builder.norms(norms))
    report = compress(path, tmp_path / "v.ems", [])
    assert report.warnings == []
    emb = load(tmp_path / "v.ems", verify="full")
    assert emb.subwords.rows.stored.steps[0].axis == "bits"
    assert (emb.info()["subwords"]["steps"] == ["cast:dtype=float32"]) == (kind == DENSE)
    for word in ("unseen", "caf\u00e9s", "\u6771\u4eac\u90fd"):
        total = sum(matrix[N + bucket] for bucket in bucket_ids(word.encode(), 3, 5, buckets))
        expected = total / np.linalg.norm(total)  # what finalfusion answers with
        np.testing.assert_allclose(emb.get_vector(word, norm=True), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(emb.vectors), matrix[: N] * norms[:, None], rtol=1e-3)


def test_ngrams_of_one_character_are_not_fasttexts(rng, tmp_path):
    path = save(tmp_path, Builder().hashed(FASTTEXT, buckets=5, minn=1).dense(table(rng, N + 5)))
    opened = open_table(path)
    assert opened.ngrams is None and "dropped 5 n-gram vectors" in opened.warnings[0]


# ---------------------------------------------------------------- writing


def parse(data):
    """Return words, rows, norms and the storage's kind of a file without metadata or n-grams."""
    magic, version, count, *kinds = struct.unpack_from("<4sII3I", data)
    assert (magic, version, count, kinds[0], kinds[2]) == (b"FiFu", 0, 3, SIMPLE, NORMS)
    at, words = 24, []
    kind, length, n = struct.unpack_from("<IQQ", data, at)
    end, at = at + 12 + length, at + 20
    for _ in range(n):
        (size,) = struct.unpack_from("<I", data, at)
        words.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    assert (kind, at) == (SIMPLE, end)
    kind, length = struct.unpack_from("<IQ", data, at)
    end, at = at + 12 + length, at + 12
    assert kind == kinds[1]

    def floats(at, *shape):
        return np.frombuffer(data, "<f4", int(np.prod(shape)), at).reshape(shape)

    if kind == DENSE:
        rows, dim, number = struct.unpack_from("<QII", data, at)
        at += 16 + 4 - at % 4
        matrix = floats(at, rows, dim)
        at += matrix.nbytes
    else:
        projected, normed, parts, dim, centroids, rows, code, number = struct.unpack_from("<5IQ2I", data, at)
        at += 36 + 4 - at % 4
        assert normed == 1 and code == 1
        projection = floats(at, dim, dim) if projected else np.eye(dim, dtype=np.float32)
        at += 4 * dim * dim * projected
        books = floats(at, parts, centroids, dim // parts)
        at += books.nbytes
        inner = floats(at, rows)
        at += 4 * rows
        codes = np.frombuffer(data, np.uint8, rows * parts, at).reshape(rows, parts)
        at += codes.nbytes
        matrix = np.concatenate([books[part][codes[:, part]] for part in range(parts)], 1) @ projection.T
        matrix = matrix * inner[:, None]
    assert (rows, number, at) == (n, 10, end)
    kind, length, count, number = struct.unpack_from("<IQQI", data, at)
    end, at = at + 12 + length, at + 24
    at += 4 - at % 4
    norms = floats(at, n)
    assert (kind, count, number, at + 4 * n, end) == (NORMS, n, 10, len(data), len(data))
    return words, matrix, norms, kinds[1]


def test_dense_round_trip(tmp_path):
    words, matrix = ["a", "two words", "caf\u00e9"], np.array([[3, 4], [0, 0], [1e-10, -1e20]], np.float32)
    assert format_of("x.fifu") == "finalfusion"
    write_vectors(words, [matrix[:2], matrix[2:]], tmp_path / "v.fifu", "finalfusion")
    got, rows, norms, kind = parse((tmp_path / "v.fifu").read_bytes())
    assert (got, kind) == (words, DENSE)
    np.testing.assert_allclose(rows[:2], [[0.6, 0.8], [0, 0]], rtol=1e-7)
    np.testing.assert_allclose(norms, [5, 0, 1e20], rtol=1e-7)
    back = read_vectors(tmp_path / "v.fifu")
    np.testing.assert_allclose(back.matrix, matrix, rtol=2e-7)
    assert list(back.words) == words


PQ_STEPS = {
    "plain": ["pq:subspaces=5,centroids=40"],
    "nibbles": ["pq:subspaces=5,centroids=16"],
    "rotated": ["pq:subspaces=5,centroids=40,rotate=pca"],
    "scaled": ["pq:subspaces=2,centroids=40,normalize=columns"],
    "rotated-scaled": ["pq:subspaces=10,centroids=9,rotate=opq,normalize=columns"],
    "pruned": ["prune:keep=50", "pq:subspaces=5,centroids=40"],
    "lengths": ["kmeans:centroids=40,spherical=true,norms=true", "pq:subspaces=5,centroids=40"],
}


def text_vectors():
    vectors = make_vectors()
    return WordVectors([*vectors.words.raw[:-1], "last"], vectors.matrix)


@pytest.mark.parametrize("name", PQ_STEPS)
def test_pq_is_written_as_codes(name, tmp_path):
    compress(text_vectors(), tmp_path / "v.ems", PQ_STEPS[name])
    emb = load(tmp_path / "v.ems")
    expected = np.asarray(emb.vectors)
    assert export(emb, tmp_path / "v.fifu") == "finalfusion"
    words, rows, norms, kind = parse((tmp_path / "v.fifu").read_bytes())
    assert words == list(emb.words) and kind == QUANTIZED
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows * norms[:, None], expected, atol=2e-6)
    back = read_vectors(tmp_path / "v.fifu")
    np.testing.assert_allclose(back.matrix, expected, atol=2e-6)
    compress(tmp_path / "v.fifu", tmp_path / "again.ems", [])
    again = load(tmp_path / "again.ems")
    np.testing.assert_allclose(np.asarray(again.vectors), expected, atol=2e-6)
    if name in ("plain", "nibbles", "pruned", "lengths"):  # then nothing is left to rounding
        assert np.array_equal(np.asarray(again.vectors), expected)
        assert (again.scale is None) == (emb.scale is None)


@pytest.mark.parametrize("steps", [["pq:subspaces=3"], ["lowrank:dims=4", "pq:subspaces=2"], ["scalar:bits=8"], [],
                                   ["pq:subspaces=5,centroids=300"]])
def test_what_codes_cannot_say_is_written_dense(steps, tmp_path):
    compress(text_vectors(), tmp_path / "v.ems", steps)
    emb = load(tmp_path / "v.ems")
    export(emb, tmp_path / "v.fifu")
    _, rows, norms, kind = parse((tmp_path / "v.fifu").read_bytes())
    assert kind == DENSE
    np.testing.assert_allclose(rows * norms[:, None], np.asarray(emb.vectors), atol=1e-6)


def test_zero_rows_of_codes_stay_zero(tmp_path):
    matrix = np.zeros((4, 2), np.float32)
    matrix[1:] = [[1, 2], [3, 4], [5, 6]]
    compress(WordVectors(list("abcd"), matrix), tmp_path / "v.ems", ["pq:subspaces=1,centroids=4"])
    export(load(tmp_path / "v.ems"), tmp_path / "v.fifu")
    _, rows, norms, kind = parse((tmp_path / "v.fifu").read_bytes())
    assert kind == QUANTIZED and norms[0] == 0 and not rows[0].any()
    np.testing.assert_allclose(read_vectors(tmp_path / "v.fifu").matrix, matrix, rtol=1e-6)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(TargetError, match=r"the word .* is not UTF-8, which a finalfusion file cannot store"):
        write_vectors([b"\xff"], [np.ones((1, 2), np.float32)], tmp_path / "v.fifu", "finalfusion")
    with pytest.raises(TargetError, match="the norm of the vector of 'b' is too large for float32"):
        write_vectors(["a", "b"], [np.array([[1, 1], [3e38, 3e38]], np.float32)], tmp_path / "v.fifu", "finalfusion")
    assert list(tmp_path.iterdir()) == []


def test_sizes_in_the_header_are_never_believed(rng):
    """A promise of more than there is costs no memory, even where the size of the source is unknown."""
    import tracemalloc

    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self._inner = io.BytesIO(data)

        def readinto(self, view):
            return self._inner.readinto(view)

    data = Builder().hashed(FASTTEXT, buckets=2**31 - 1).build()[:-1]
    head = Builder().simple().add(DENSE, struct.pack("<QII", N, 60_000, 10), b"", True, 4 * 60_000 * 5 + 20)
    for source in (data, head.build() + bytes(1000)):
        tracemalloc.start()
        with pytest.raises(SourceError):
            finalfusion.load_model(open_pipe(Pipe(source)), ReadOptions())
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
        tracemalloc.stop()


def open_pipe(pipe):
    from embshrink.formats.io.stream import open_source

    return open_source(pipe, ReadOptions())
