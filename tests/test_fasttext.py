"""fastText's models: real ones against gensim and .vec files; generated ones for each field, cut, contradiction."""

import gzip
import io
import re
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from models import open_model
from test_formats_files import Pipe

from embshrink.compression.source import open_table
from embshrink.errors import EmbshrinkError, SourceError
from embshrink.formats import ReadOptions, read_vectors
from embshrink.formats.fasttext import model as fasttext_model
from embshrink.formats.fasttext import reader as fasttext_reader
from embshrink.formats.io import table_builder
from embshrink.storage.disk_rows import LEAST_LIMIT, Rows, Spool
from embshrink.vocabulary.ngram_hashing import all_bucket_ids, bucket_ids, ngram_hash, ngrams

DATA = Path(__file__).parent / "data"
WORDS = [b"</s>", b"the", "žluťoučký".encode(), "日本語".encode(), b"caf\xe9\xff", b"caf\xe9\xfe", b"a"]
LABELS = [b"__label__a", b"__label__b"]
NOT_KEPT = r"dropped [\d,]+ n-gram vectors?: the vectors of the words do not change, but out-of-vocabulary words"

# ---------------------------------------------------------------- a writer of models


def i32(*values):
    return struct.pack(f"<{len(values)}i", *values)


def i64(*values):
    return struct.pack(f"<{len(values)}q", *values)


def codebooks(rng, prefix, dim, dsub):
    """Return a quantizer's parts and its centroids as (subspaces, 256, dsub), zeros behind the short last one."""
    count = -(-dim // dsub)
    last = dim - (count - 1) * dsub
    books = [rng.normal(size=(256, dsub if i < count - 1 else last)).astype(np.float32) for i in range(count)]
    parts = {f"{prefix}.dim": i32(dim), f"{prefix}.nsubq": i32(count), f"{prefix}.dsub": i32(dsub),
             f"{prefix}.lastdsub": i32(last), f"{prefix}.centroids": b"".join(book.tobytes() for book in books)}
    return parts, books


def quantized(rng, prefix, rows, dim, dsub, qnorm):
    parts, books = codebooks(rng, f"{prefix}.pq", dim, dsub)
    codes = rng.integers(256, size=(rows, len(books)), dtype=np.uint8)
    values = np.hstack([book[codes[:, i]] for i, book in enumerate(books)])
    out = {f"{prefix}.qnorm": bytes([qnorm]), f"{prefix}.m": i64(rows), f"{prefix}.n": i64(dim),
           f"{prefix}.codesize": i32(codes.size), f"{prefix}.codes": codes.tobytes(), **parts}
    if qnorm:
        parts, (norms,) = codebooks(rng, f"{prefix}.npq", 1, 1)
        norm_codes = rng.integers(256, size=rows, dtype=np.uint8)
        out |= {f"{prefix}.norm_codes": norm_codes.tobytes(), **parts}
        values = values * norms[norm_codes]
    return out, values


def dense(rng, prefix, rows, dim):
    values = rng.normal(size=(rows, dim)).astype(np.float32)
    return {f"{prefix}.m": i64(rows), f"{prefix}.n": i64(dim), f"{prefix}.values": values.tobytes()}, values


def build(version=12, kind=2, dim=3, words=WORDS, labels=(), minn=2, maxn=4, bucket=40, kept=None, quant=False,
          qnorm=False, qout=False, dsub=2):
    """Return a model as its parts by name, in order, and the vectors its words have by a slow obvious way."""
    rng = np.random.default_rng(7)
    parts = {} if version == 0 else {"magic": i32(793712314), "version": i32(version)}
    args = {"dim": dim, "ws": 5, "epoch": 5, "minCount": 1, "neg": 5, "wordNgrams": 1, "loss": 2, "model": kind,
            "bucket": bucket, "minn": minn, "maxn": maxn, "lrUpdateRate": 100}
    parts |= {name: i32(value) for name, value in args.items()} | {"t": struct.pack("<d", 1e-4)}
    parts |= {"size": i32(len(words) + len(labels)), "nwords": i32(len(words)), "nlabels": i32(len(labels)),
              "ntokens": i64(12345)}
    if version:
        parts["pruneidx_size"] = i64(-1 if kept is None else len(kept))
    for i, word in enumerate([*words, *labels]):
        parts |= {f"word{i}": word + b"\0", f"count{i}": i64(1000 - i), f"type{i}": bytes([i >= len(words)])}
    remap = {b: b for b in range(bucket)} if kept is None else {b: len(kept) - 1 - i for i, b in enumerate(kept)}
    if kept is not None:
        for i, old in enumerate(kept):
            parts |= {f"old{i}": i32(old), f"new{i}": i32(remap[old])}
    rows = len(words) + len(remap)
    if version:
        parts["quant"] = bytes([quant])
    more, table = quantized(rng, "in", rows, dim, dsub, qnorm) if quant else dense(rng, "in", rows, dim)
    parts |= more
    if version:
        parts["qout"] = bytes([qout])
    outputs = len(labels) if kind == 3 else len(words)
    parts |= (quantized(rng, "out", outputs, dim, 2, qnorm) if quant and qout else dense(rng, "out", outputs, dim))[0]
    return parts, naive_vectors(words, table, minn, 0 if kind == 3 and version < 12 else maxn, bucket, remap)


def naive_vectors(words, table, minn, maxn, bucket, remap):
    vectors = []
    for i, word in enumerate(words):
        total = table[i].copy()
        rows = [len(words) + remap[b] for b in bucket_ids(word, minn, maxn, bucket) if b in remap]
        for row in rows:
            total += table[row]
        vectors.append(total * np.float32(1 / (1 + len(rows))))
    return np.array(vectors)


def join(parts):
    return b"".join(parts.values())


def offset(parts, name):
    return sum(len(parts[part]) for part in list(parts)[: list(parts).index(name)])


def load(data, **options):
    return read_vectors(io.BytesIO(data), ReadOptions(format="fasttext", **options))


DENSE = {"version": 12}
PRUNED = {"kept": [3, 39, 8, 20, 11], "quant": True, "qnorm": True, "qout": True, "kind": 3, "labels": LABELS}

# ---------------------------------------------------------------- n-grams


def test_ngrams_by_hand():
    assert ngrams(b"to", 1, 3) == [b"<t", b"<to", b"t", b"to", b"to>", b"o", b"o>"]
    assert ngrams("né".encode(), 3, 3) == ["<né".encode(), "né>".encode()]
    assert ngrams(b"a", 1, 1) == [b"a"] and ngrams(b"", 1, 3) == [b"<>"]
    assert ngrams(b"</s>", 1, 3) == [] and ngrams(b"to", 3, 0) == [] and ngrams(b"to", 3, 2) == []
    assert ngrams(b"\x80x", 1, 2) == [b"<\x80x", b"x", b"x>"]  # a stray byte belongs to what is before it
    assert bucket_ids(b"to", 1, 3, 0) == []


def test_hash_is_over_signed_bytes():
    assert ngram_hash(b"") == 2166136261
    assert ngram_hash(b"a") == 0xE40C292C  # as FNV-1a has it
    unsigned = ((2166136261 ^ 0xE9) * 16777619) & 0xFFFFFFFF
    assert ngram_hash(b"\xe9") != unsigned
    assert ngram_hash(b"\xe9") == ((2166136261 ^ 0xFFFFFFE9) * 16777619) & 0xFFFFFFFF


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("minn", "maxn", "bucket"), [(3, 6, 1000), (1, 1, 7), (0, 3, 2**31 - 1), (1, 4, 5),
                                                      (5, 2, 9), (0, 0, 9), (2, 3, 0), (2, 100, 1000)])
def test_kernel_and_twin_agree(minn, maxn, bucket, jit, monkeypatch):
    from embshrink.kernels import subwords as kernels

    if not jit:  # as numba may be told for all
        for name in ("count_ngrams", "hash_ngrams"):
            kernel = getattr(kernels, name)
            monkeypatch.setattr(kernels, name, getattr(kernel, "py_func", kernel))
    rng = np.random.default_rng(0)
    words = [*WORDS, b"", b"\x80\x81", *(rng.bytes(rng.integers(12)) for _ in range(300 if jit else 30))]
    ids, ends = all_bucket_ids(words, minn, maxn, bucket)
    expected = [bucket_ids(word, minn, maxn, bucket) for word in words]
    assert ids.tolist() == [id for part in expected for id in part]
    assert ends.tolist() == np.cumsum([len(part) for part in expected]).tolist()
    assert [part.tolist() for part in all_bucket_ids([], minn, maxn, bucket)] == [[], []]


# ---------------------------------------------------------------- real models


@pytest.mark.parametrize("name", ["lee_fasttext.bin", "lee_fasttext_new.bin", "crime-and-punishment.bin",
                                  "non_ascii_fasttext.bin", "toy-model.bin", "toy-model-pretrained.bin"])
def test_real_models_as_gensim_reads_them(name, gensim_data):
    from gensim.models.fasttext import load_facebook_vectors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        theirs = load_facebook_vectors(str(gensim_data / name))
    ours = read_vectors(gensim_data / name)
    model = open_model(gensim_data / name)
    assert sorted(ours.words) == sorted(theirs.index_to_key)
    assert re.match(NOT_KEPT, ours.warnings[0]) and ours.source["format"] == "fasttext"
    words = [word for word in ours.words if word != "</s>"]  # gensim gives it n-grams, fastText does not
    assert len(words) >= len(ours) - 1
    np.testing.assert_allclose([ours[word] for word in words], [theirs[word] for word in words], rtol=0, atol=1e-6)
    for word in ("unseen", "žluťoučký kůň", "преступленье", "日本語", "naïveté", "x"):
        assert word not in theirs.key_to_index
        np.testing.assert_allclose(model.vector(word), theirs[word], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "vec"), [
    ("lee_fasttext.bin", "lee_fasttext.vec"), ("crime-and-punishment.bin", "crime-and-punishment.vec"),
    ("pang_lee_polarity_fasttext.bin", "pang_lee_polarity_fasttext.vec"), ("toy-model.bin", "toy-model.vec")])
def test_real_models_and_the_text_that_came_with_them(name, vec, gensim_data):
    model, text = read_vectors(gensim_data / name), read_vectors(gensim_data / vec)
    assert model.words.raw == text.words.raw
    # Of 2016's fastText "</s>" had n-grams; those that came after read such models as if it had none, and so do we.
    rows = [i for i, word in enumerate(model.words) if word != "</s>" or name != "lee_fasttext.bin"]
    np.testing.assert_allclose(model.matrix[rows], text.matrix[rows], rtol=6e-5, atol=1e-9)  # 5 digits


def test_words_that_are_not_utf8(gensim_data):
    """The same text in two encodings: gensim hashes both as UTF-8, fastText (and we) the bytes that are there."""
    model = open_model(gensim_data / "cp852_fasttext.bin")
    utf8 = open_model(gensim_data / "non_ascii_fasttext.bin")
    assert [word.decode("cp852") for word in model.words.raw] == list(utf8.words)
    word = "který".encode("cp852")
    assert word in model.words.raw
    rows = [model.words.find(word), *(len(model.words) + b for b in bucket_ids(word, 2, 4, 1000))]
    np.testing.assert_allclose(model.vector(word), model.rows(rows).mean(axis=0), atol=1e-6)


def test_supervised_model(gensim_data):
    model = open_model(gensim_data / "pang_lee_polarity_fasttext.bin")
    assert model.labels == [b"__label__pos", b"__label__neg"] and len(model.words) == 1694
    assert model.args["model"] == 3 and not model.has_ngrams and not model.quantized
    assert read_vectors(gensim_data / "pang_lee_polarity_fasttext.bin").warnings == [
        "dropped 2 labels of the classifier, which are not words: '__label__pos', ..."]
    with pytest.raises(KeyError, match="unseen"):
        model.vector("unseen")
    with pytest.raises(KeyError):
        model.vector("__label__pos")


def test_golden_quantized_model():
    """Made and answered by fastText itself: pruned, norms apart, a short last subspace, a quantized output."""
    model = open_model(DATA / "pruned.ftz")
    golden = read_vectors(DATA / "pruned.vec")
    n = len(model.words)
    assert model.quantized and n < len(golden) and golden.words.raw[:n] == model.words.raw
    assert len(model.labels) == 260 and len(model.pruned[0]) == 500 and model.table.codebooks[-1].shape == (256, 1)
    np.testing.assert_array_equal(model.word_vectors(), golden.matrix[:n])
    np.testing.assert_array_equal([model.vector(word) for word in golden.words], golden.matrix)
    np.testing.assert_array_equal(read_vectors(DATA / "pruned.ftz").matrix, golden.matrix[:n])


# ---------------------------------------------------------------- generated models

VARIANTS = {
    "v12-skipgram": {}, "v11-cbow": {"version": 11, "kind": 1}, "v0-skipgram": {"version": 0},
    "v0-cbow": {"version": 0, "kind": 1}, "v0-supervised": {"version": 0, "kind": 3, "labels": LABELS},
    "v12-supervised": {"kind": 3, "labels": LABELS}, "v11-supervised": {"version": 11, "kind": 3, "labels": LABELS},
    "stray-label": {"labels": LABELS[:1]}, "maxn-0": {"maxn": 0, "minn": 0}, "bucket-0": {"bucket": 0},
    "minn-over-maxn": {"minn": 5, "maxn": 3}, "characters": {"minn": 1, "maxn": 1}, "one-word": {"words": [b"x"]},
    "dim-1": {"dim": 1}, "quantized": {"quant": True}, "quantized-dsub-1": {"quant": True, "dsub": 1},
    "quantized-dsub-dim": {"quant": True, "dsub": 3}, "quantized-even": {"quant": True, "dim": 6, "qnorm": True},
    "quantized-output": {"quant": True, "qout": True}, "pruned": PRUNED, "pruned-to-nothing": {**PRUNED, "kept": []},
    "pruned-v11": {**PRUNED, "version": 11},
    "qout-alone": {"qout": True},  # fastText looks at it in quantized models only
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, tmp_path, monkeypatch):
    options = VARIANTS[variant]
    parts, expected = build(**options)
    words, labels = options.get("words", WORDS), options.get("labels", [])
    data = join(parts)
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    (tmp_path / "model.bin.gz").write_bytes(gzip.compress(data))
    for block, decoded in ((1 << 18, 1 << 20), (1, 1)):  # blocks of words and pieces of n-grams of any size
        monkeypatch.setattr(fasttext_model, "BLOCK", block)
        monkeypatch.setattr(fasttext_model, "DECODED", decoded)
        for source in (path, tmp_path / "model.bin.gz", io.BytesIO(data), Pipe(data, 50), Pipe(gzip.compress(data))):
            vectors = read_vectors(source)
            assert vectors.source["format"] == "fasttext"
            assert vectors.words.raw == list(words)
            np.testing.assert_array_equal(vectors.matrix, expected)
            assert vectors.matrix.flags.owndata and vectors.matrix.dtype == np.float32
    model = open_model(path)
    np.testing.assert_array_equal([model.vector(word) for word in words], expected)
    np.testing.assert_array_equal(model.word_vectors(2), expected[:2])
    assert model.labels == list(labels) and model.counts.tolist() == [1000 - i for i in range(len(words))]
    assert [data[place : place + len(word)] for place, word in zip(model.places, words)] == list(words)
    said = [warning.split(",")[0].split(":")[0] for warning in vectors.warnings]
    assert said == ([f"dropped {len(labels)} label{'s' * (len(labels) > 1)} of the classifier"] if labels else []) + (
        [f"dropped {model.bucket if model.pruned is None else len(model.pruned[0])} n-gram vectors"]
        if model.has_ngrams else [])


def test_pieces_of_any_size(monkeypatch):
    words = [b"w%d" % i * (1 + i % 7) for i in range(60)]
    parts, expected = build(words=words)
    for piece in (150, 1000):
        monkeypatch.setattr(fasttext_reader, "PIECE", piece)
        monkeypatch.setattr(fasttext_reader, "MAX_WORD", 100)
        for source in (io.BytesIO(join(parts)), Pipe(join(parts), 33)):
            vectors = read_vectors(source)
            assert vectors.words.raw == words
            np.testing.assert_array_equal(vectors.matrix, expected)


def test_threads_do_not_matter(tmp_path, monkeypatch):
    from embshrink.numerics import parallel

    monkeypatch.setattr(fasttext_model, "BLOCK", 50)
    parts, expected = build(words=[b"word%d" % i for i in range(300)])
    for threads in (1, 3):
        parallel.set_threads(threads)
        np.testing.assert_array_equal(load(join(parts)).matrix, expected)


def test_unseen_words(tmp_path):
    parts, _ = build(**PRUNED)
    model = open_model(io.BytesIO(join(parts)))
    kept = dict(zip(*(part.tolist() for part in model.pruned)))
    assert kept == {3: 4, 39: 3, 8: 2, 20: 1, 11: 0}
    found = 0
    for word in ("kníže", "an", "thesaurus", "本日", "of"):
        rows = [len(WORDS) + kept[b] for b in bucket_ids(word.encode(), 2, 4, 40) if b in kept]
        if rows:
            found += 1
            np.testing.assert_allclose(model.vector(word), model.rows(rows).mean(axis=0), atol=1e-6)
        else:
            with pytest.raises(KeyError):
                model.vector(word)
    assert found >= 2


def test_options():
    parts, expected = build()
    data = join(parts)
    np.testing.assert_array_equal(load(data, limit=3).matrix, expected[:3])
    assert len(load(data, expect_rows=7)) == 7
    with pytest.raises(SourceError, match="the number of rows differs from --expect-rows .*expected 8, found 7"):
        load(data, expect_rows=8)
    calls = []
    read_vectors(io.BytesIO(data), progress=lambda *call: calls.append(call))
    assert calls[-1] == ("average", 7, 7) and ("read", len(data), len(data)) in calls


def test_duplicates_zeros_and_nan():
    words = [b"x", b"y", b"x", b"z"]
    parts, expected = build(words=words, maxn=0)
    vectors = load(join(parts))
    assert vectors.words.raw == [b"x", b"y", b"z"] and "dropped 1 row of repeated words" in vectors.warnings[0]
    np.testing.assert_array_equal(vectors.matrix, expected[[0, 1, 3]])
    with pytest.raises(SourceError, match=f"byte {offset(parts, 'word2')}: the word 'x' is repeated"):
        load(join(parts), duplicates="error")
    values = expected.copy()
    values[1, 2] = np.nan
    values[3] = 0
    parts["in.values"] = values.tobytes() + parts["in.values"][values.nbytes :]
    with pytest.raises(SourceError, match=f"byte {offset(parts, 'word1')}: number 3 of the word 'y' is not finite"):
        load(join(parts))
    vectors = load(join(parts), nonfinite="drop")
    assert vectors.words.raw == [b"x", b"z"]
    assert vectors.warnings[0] == "dropped 1 row with a NaN or an infinity"
    assert vectors.warnings[-1] == "kept 1 zero vector, whose cosine similarity to any vector is 0"
    np.testing.assert_array_equal(load(join(parts), nonfinite="zero")["y"], [*expected[1, :2], 0])


# ---------------------------------------------------------------- what must be refused

Q = {"quant": True, "qnorm": True, "qout": True}
NAN = struct.pack("<f", np.nan)

REFUSED = [  # name, how it is built, the part in error, what is in its place, what the message says
    ("version-13", {}, "version", i32(13), "the version of the model is not supported (expected 11 or 12, found 13)"),
    ("version-10", {}, "version", i32(10), "the version of the model is not supported"),
    ("dim-0", {}, "dim", i32(0), "the dimension is out of range (expected 1 to 65536, found 0)"),
    ("dim-huge", {}, "dim", i32(2**31 - 1), "the dimension is out of range"),
    ("loss", {}, "loss", i32(9), "the loss function is out of range (expected 1 to 4, found 9)"),
    ("model", {}, "model", i32(4), "the kind of model is out of range"),
    ("bucket-negative", {}, "bucket", i32(-1), "the number of buckets is out of range"),
    ("minn", {}, "minn", i32(-3), "the length of the shortest n-grams (minn) is out of range"),
    ("maxn", {}, "maxn", i32(101), "the length of the longest n-grams (maxn) is out of range"),
    ("size", {}, "size", i32(8), "contradict each other (expected entries = words + labels, found 8 = 7 + 0)"),
    ("nwords-over-size", {}, "nwords", i32(9), "contradict each other"),
    ("nwords-negative", {"labels": LABELS}, "size", i32(1, -1, 2), "contradict each other (expected entries = words"),
    ("nlabels-negative", {}, "size", i32(6, 7, -1), "contradict each other"),
    ("no-words", {"words": [], "labels": LABELS}, "nwords", i32(0), "the model has no words"),
    ("pruneidx-negative", {}, "pruneidx_size", i64(-2), "by pruning is out of range (expected -1 to 40, found -2)"),
    ("pruneidx-huge", {}, "pruneidx_size", i64(2**62), "the number of n-grams kept by pruning is out of range"),
    ("entries-huge", {}, "size", i32(10**9, 10**9, 0), "the file ends in the dictionary of 1000000000 entries"),
    ("count-negative", {}, "count3", i64(-1), "entry 4 of the dictionary, '日本語': the count of the word"),
    ("type-2", {}, "type2", b"\2", "the entry is neither a word nor a label (expected 0 or 1, found 2)"),
    ("type-label", {}, "type2", b"\1", "labels are not in order (expected 7 words, then 0 labels, found 1)"),
    ("type-word", {"labels": LABELS}, "type7", b"\0", "words and labels are not in order"),
    ("word-long", {}, "word1", b"x" * 70_000 + b"\0", "the word is too long (expected at most 65536 bytes, found 7"),
    ("word-endless", {}, "word6", b"x" * 5_000_000, "the word of entry 7 of the dictionary (expected a NUL byte"),
    ("old-bucket", PRUNED, "old2", i32(40), "the bucket of kept n-gram 3 is out of range (expected 0 to 39"),
    ("old-negative", PRUNED, "old2", i32(-1), "the bucket of kept n-gram 3 is out of range"),
    ("new-row", PRUNED, "new4", i32(5), "the row of kept n-gram 5 is out of range (expected 0 to 4"),
    ("old-twice", PRUNED, "old0", i32(8), "a bucket occurs twice among the kept n-grams (expected distinct"),
    ("quant", {}, "quant", b"\2", "the quantization flag of the model is out of range (expected 0 or 1, found 2)"),
    ("dense-pruned", {"kept": [1]}, "quant", b"\0", "n-grams are pruned but the matrix is not quantized"),
    ("rows-negative", {}, "in.m", i64(-5), "number of rows of the input matrix does not match the words and n-grams"),
    ("rows", {}, "in.m", i64(46), "input matrix does not match the words and n-grams (expected 47, found 46)"),
    ("rows-overflow", {}, "in.m", i64(2**62), "the number of rows of the input matrix"),
    ("rows-pruned", PRUNED, "in.m", i64(47), "matrix does not match the words and n-grams (expected 12, found 47)"),
    ("columns", {}, "in.n", i64(4), "columns of the input matrix does not match the dimension (expected 3, found 4"),
    ("qnorm", Q, "in.qnorm", b"\7", "the flag for separate norms of the input matrix is out of range"),
    ("codesize", Q, "in.codesize", i32(95), "the size of the codes of the input matrix is out of range (expected 47"),
    ("codesize-0", Q, "in.codesize", i32(0), "the size of the codes of the input matrix is out of range"),
    ("codesize-negative", Q, "in.codesize", i32(-94), "the size of the codes of the input matrix is out of range"),
    ("pq-dim", Q, "in.pq.dim", i32(4), "the number of columns of the quantizer of the input matrix is wrong"),
    ("pq-nsubq", Q, "in.pq.nsubq", i32(3), "number of subspaces of the quantizer of the input matrix is wrong"),
    ("pq-dsub-0", Q, "in.pq.dsub", i32(0), "the width of a subspace of the input matrix is out of range"),
    ("pq-dsub-huge", Q, "in.pq.dsub", i32(2**31 - 1), "the width of a subspace of the input matrix is out of range"),
    ("pq-lastdsub", Q, "in.pq.lastdsub", i32(2), "the width of the last subspace of the quantizer of the input"),
    ("centroid-nan", Q, "in.pq.centroids", NAN * 768, "a centroid of the input matrix is not finite (expected a"),
    ("npq-dim", Q, "in.npq.dim", i32(3), "the number of columns of the quantizer of the norms of the input matrix"),
    ("npq-nan", Q, "in.npq.centroids", NAN * 256, "a centroid of the norms of the input matrix is not finite"),
    ("qout", {}, "qout", b"\xff", "the quantization flag of the output matrix is out of range"),
    ("output-rows", {}, "out.m", i64(-1), "the number of rows of the output matrix is out of range"),
    ("output-huge", {}, "out.m", i64(2**62), "the file ends in the output matrix"),
    ("output-columns", {}, "out.n", i64(2), "number of columns of the output matrix does not match the dimension"),
    ("output-codes", Q, "out.codesize", i32(1), "the size of the codes of the output matrix is out of range"),
    ("output-no-rows", Q, "out.m", i64(0), "the size of the codes of the output matrix is out of range"),
]


def refused(data, says, **options):
    with pytest.raises(SourceError) as caught:
        load(data, **options)
    error = caught.value
    assert says in str(error)
    assert error.where.startswith("byte ") and error.hint[0].isupper() and len(str(error)) < 600
    return error


@pytest.mark.parametrize(("options", "part", "value", "says"), [case[1:] for case in REFUSED],
                         ids=[case[0] for case in REFUSED])
def test_refused(options, part, value, says):
    parts, _ = build(**options)
    start = offset(parts, part)
    data = bytearray(join(parts))
    data[start : start + (len(parts[part]) if part.startswith("word") else len(value))] = value
    for source in (bytes(data), gzip.compress(bytes(data) + bytes(100_000))):  # of known and of unknown size
        if source[:2] == b"\x1f\x8b" and says.startswith("the file ends"):
            continue
        error = refused(source, says)
        at = int(error.where[5:]) - offset(parts, part)
        if part.startswith(("count", "type")):
            assert at == -len(parts["word" + part[-1]]) - 8 * part.startswith("type")  # where the word is
        elif part in ("size", "nwords", "nlabels", "out.m"):
            assert -4 <= at <= 28  # what contradicts it may come before or behind
        else:
            assert at == 0


def test_refused_for_more_than_one_number():
    parts, _ = build(**Q)
    refused(join({**parts, "in.pq.dsub": i32(3), "in.pq.nsubq": i32(1), "in.pq.lastdsub": i32(3)}),
            "the number of codes in a row of the input matrix does not match its quantizer (expected 1, found 2)")
    refused(join(parts) + b"\0", "bytes follow the end of the model (expected the end of the file")
    floret = {**parts, "lrUpdateRate": i32(2, 1, 100)}
    assert "floret" in refused(join(floret), "contradict each other").hint
    refused(b"", "the file ends in the arguments (expected 56 bytes, found 0)")
    refused(b"king 0.5 1.5\n" * 20, "the dimension is out of range")
    many = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32).tobytes()
    refused(many, "is out of range")


def test_an_output_matrix_of_no_rows_or_cut_off():
    parts, expected = build()
    empty = {**parts, "out.m": i64(0), "out.n": i64(0), "out.values": b""}
    np.testing.assert_array_equal(load(join(empty)).matrix, expected)
    zeros = {**parts, "out.values": bytes(len(parts["out.values"]))}
    np.testing.assert_array_equal(load(join(zeros)).matrix, expected)
    for data in (join(parts)[:-5], join(parts)[: offset(parts, "qout")], join(parts)[: offset(parts, "out.n")]):
        refused(data, "the file ends in")
        vectors = load(data, allow_truncated=True)
        np.testing.assert_array_equal(vectors.matrix, expected)
        assert vectors.warnings[-1] == "the file ends in the output matrix; word vectors do not depend on it"
    refused(join(parts)[: offset(parts, "qout") - 1], "the file ends in the input matrix", allow_truncated=True)
    refused(join({**parts, "out.n": i64(2)})[:-1], "columns of the output matrix", allow_truncated=True)


@pytest.mark.parametrize("options", [DENSE, {"version": 0, "kind": 3, "labels": LABELS}, PRUNED],
                         ids=["dense", "old", "pruned"])
def test_every_cut_is_refused(options):
    parts, _ = build(**options)
    data = join(parts)
    centroids = {i for name, part in parts.items() if name.endswith("centroids")
                 for i in range(offset(parts, name) + 5, offset(parts, name) + len(part) - 5) if i % 97}
    lengths = [length for length in range(len(data)) if length not in centroids]
    assert len(lengths) > 400
    for length in lengths:
        with pytest.raises(SourceError, match="the file ends in") as caught:
            load(data[:length])
        assert int(caught.value.where[5:]) <= length
        with pytest.raises(SourceError):
            read_vectors(Pipe(data[:length], 1000), ReadOptions(format="fasttext"))


@pytest.mark.parametrize("options", [DENSE, {"version": 0, "kind": 3, "labels": LABELS}, PRUNED],
                         ids=["dense", "old", "pruned"])
@pytest.mark.parametrize("source", [io.BytesIO, lambda data: Pipe(data, 1 << 16)], ids=["known", "unknown"])
def test_every_integer_is_refused_or_harmless(options, source):
    parts, expected = build(**options)
    read_vectors(io.BytesIO(join(parts)))  # compile first
    harmless = set()
    tracemalloc.start()
    try:
        for name, part in parts.items():
            if len(part) not in (1, 4, 8) or name.startswith("word") or name.endswith(("codes", "values")):
                continue
            bits = 8 * len(part)
            old = int.from_bytes(part, "little")
            for value in {0, -1, 1, old - 1, old + 1, 2 * old, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**31 - 1, 2**31,
                          2**32, 2**53, 10**9, 10**6}:
                if value % 2**bits == old or value >= 2**bits:
                    continue
                changed = {**parts, name: (value % 2**bits).to_bytes(len(part), "little")}
                try:
                    vectors = read_vectors(source(join(changed)), ReadOptions(format="fasttext"))
                except SourceError:
                    continue
                assert vectors.matrix.shape == expected.shape and np.isfinite(vectors.matrix).all()
                harmless.add(name.rstrip("0123456789"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20
    assert harmless <= {"version", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn",
                        "maxn", "lrUpdateRate", "t", "ntokens", "count", "old", "new", "qout"}


def test_many_ngrams_cost_little_memory():
    """Long words have hundreds of thousands of n-grams each; they are looked up a few words at a time."""
    parts, _ = build(words=[b"x" * 20_000 + b"%d" % i for i in range(30)], minn=1, maxn=20, bucket=0)
    changed = {**parts, "bucket": i32(10), "in.m": i64(40), "in.values": bytes(4 * 3 * 40)}
    tracemalloc.start()
    vectors = load(join(changed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(vectors) == 30 and peak < 40 << 20  # 12 million n-grams


@pytest.mark.parametrize("nonfinite", ["drop", "zero"])
def test_models_on_disk_read_as_models_in_memory(nonfinite, tmp_path, monkeypatch):
    """Also with a word that occurs twice and a vector that is not finite, and in blocks of two rows."""
    parts, _ = build(words=[*WORDS, WORDS[1]], maxn=0)
    values = np.frombuffer(parts["in.values"], np.float32).reshape(-1, 3).copy()
    values[4, 1] = np.nan
    data = join({**parts, "in.values": values.tobytes()})
    expected = load(data, nonfinite=nonfinite)
    spool = Spool(LEAST_LIMIT, tmp_path)
    monkeypatch.setattr(spool, "fits", lambda size: False)
    monkeypatch.setattr(table_builder, "BLOCK_ROWS", 2)
    found = load(data, nonfinite=nonfinite, spool=spool)
    assert isinstance(found.matrix, Rows)
    assert found.words.raw == expected.words.raw and np.array_equal(np.asarray(found.matrix[:]), expected.matrix)
    assert found.warnings == expected.warnings and len(found) == len(WORDS) - (nonfinite == "drop")


def test_many_buckets_cost_little_memory_if_few_have_rows():
    """A file of some kB may state 2^31 - 1 buckets; the counts of its n-grams are kept for the rows it has."""
    parts, _ = build(**PRUNED, bucket=40)
    few = open_table(io.BytesIO(join(parts))).ngrams
    found = np.concatenate([bucket_ids(word, 2, 4, 40) for word in WORDS]).astype(np.int64)
    assert few.uses.tolist() == [np.count_nonzero(found == bucket) for bucket in few.ids] and few.uses.any()
    tracemalloc.start()
    many = open_table(io.BytesIO(join({**parts, "bucket": i32(2**31 - 1)}))).ngrams
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert many.ids.tolist() == few.ids.tolist() and peak < 10 << 20


@pytest.mark.parametrize("options", [DENSE, PRUNED], ids=["dense", "pruned"])
def test_damage_never_ends_in_another_exception(options):
    parts, _ = build(**options)
    data = join(parts)
    bounds = [offset(parts, name) for name in parts]
    rng = np.random.default_rng(1)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[min(int(rng.choice(bounds)) + int(rng.integers(8)), len(data) - 1)] = rng.integers(256)
        try:
            read_vectors(io.BytesIO(damaged))
        except EmbshrinkError:
            pass


def test_found_by_content(tmp_path):
    """A text that begins like nothing of fastText's stays a text, whatever the name."""
    (tmp_path / "model.bin").write_bytes(b"king 1 2\nqueen 3 4\n")
    assert read_vectors(tmp_path / "model.bin").source["format"] == "text"
    parts, _ = build(version=0)
    assert read_vectors(io.BytesIO(join(parts))).source["format"] == "fasttext"
    with pytest.raises(SourceError, match="binary data of an unknown format"):
        read_vectors(io.BytesIO(join({**parts, "size": i32(99)})))


def test_command_line(tmp_path):
    from click.testing import CliRunner

    from embshrink.cli.commands import cli

    target = tmp_path / "small.ems"
    source = str(DATA / "pruned.ftz")
    result = CliRunner().invoke(cli, ["compress", source, str(target), "int8", "--from", "fasttext"])
    assert result.exit_code == 0, result.output
    assert target.exists() and "n-grams" in result.output
