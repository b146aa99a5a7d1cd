"""The main job: compositions through a real file, reports, remaps, sizes, provenance."""

import csv
import itertools
import json
import os
import threading

import numpy as np
import pytest
from conftest import make_vectors

import embshrink
from embshrink import ShapeError, StepError, TargetError, WordVectors, compress, load
from embshrink.compression.job import Job
from embshrink.compression.source import open_table
from embshrink.evaluation.loss import reconstruction
from embshrink.formats import write_vectors
from embshrink.methods import registry
from embshrink.methods.scalar import Scalar

ROWS = ["", "prune:keep=120", "kmeans:centroids=50", "dedupe", "prune:keep=120,norms=true",
        "prune:keep=200 kmeans:centroids=40,norms=true", "dedupe prune:keep=90"]
COLUMNS = ["", "lowrank:dims=6", "rescale:exponent=4"]
BITS = ["", "pq:subspaces=4", "pq:subspaces=5,centroids=16,rotate=pca", "cast", "scalar:bits=3",
        "rq:codebooks=2,rounds=1", "iiq", "groupreduce:blocks=3,keep=0.5", "blocksparse:density=0.5,blocks=3",
        "tensortrain:rank=5", "magnitude", "ecq:step=0.2"]


def tail(steps):
    """Return the steps a file is given, the lossless codec filled in."""
    return steps if steps and registry.parse(steps[-1]).axis == "bits" else [*steps, "cast:dtype=float32"]


def test_every_axis_and_method_is_composed():
    composed = " ".join([*ROWS, *COLUMNS, *BITS])
    assert all(name in composed for name in registry.METHODS)


@pytest.mark.parametrize(("rows", "columns", "bits"), list(itertools.product(ROWS, COLUMNS, BITS)))
def test_compositions_through_a_file(rows, columns, bits, vectors, tmp_path):
    steps = [*rows.split(), *columns.split(), *bits.split()]
    report = compress(vectors, tmp_path / "v.ems", steps)
    emb = load(tmp_path / "v.ems", verify="full")
    assert [registry.parse(step) for step in report.steps] == [
        registry.parse(step) for step in emb.info()["steps"]]
    assert len(report.steps) == len(tail(steps))
    assert len(emb) == report.words == 400
    assert emb.n_rows == report.rows <= 400
    whole = np.asarray(emb.vectors)
    error = ((whole - vectors.matrix) ** 2).sum() / ((vectors.matrix - vectors.matrix.mean(axis=0)) ** 2).sum()
    assert report.loss["relative_error"] == pytest.approx(error, rel=1e-4, abs=1e-9)
    planned = Job(open_table(vectors)).plan(steps)
    assert sum(report.parts.values()) == report.target_bytes
    if "groupreduce" in bits or "tensortrain" in bits or "ecq" in bits:  # how much they take depends on the values
        assert planned.bytes >= report.target_bytes
    else:
        assert planned.bytes == report.target_bytes
        assert planned.bits_per_word == report.bits_per_word


def test_sharing_survives_quantization(vectors, tmp_path):
    """A pruned file that is quantized keeps its row map: the same as both steps at once."""
    compress(vectors, tmp_path / "pruned.ems", ["prune:keep=100"], measure=False)
    report = compress(tmp_path / "pruned.ems", tmp_path / "two.ems", ["pq:subspaces=5"], measure=False)
    compress(vectors, tmp_path / "one.ems", ["prune:keep=100", "pq:subspaces=5"], measure=False)
    assert report.rows == 100
    one, two = load(tmp_path / "one.ems"), load(tmp_path / "two.ems")
    assert np.array_equal(one.row_map, two.row_map)
    assert [two.alias_of(word) for word in two.index_to_key] == [one.alias_of(word) for word in one.index_to_key]
    assert two.info()["source"]["steps"] == ["prune:keep=100", "cast:dtype=float32"]
    assert two.info()["source"]["format"] == "ems"


def test_prune_twice_keeps_aliases_true(vectors, tmp_path):
    compress(vectors, tmp_path / "a.ems", ["prune:keep=200"], measure=False)
    compress(tmp_path / "a.ems", tmp_path / "b.ems", ["prune:keep=50"], measure=False)
    emb = load(tmp_path / "b.ems", verify="full")
    for word in emb.index_to_key:
        owner = emb.alias_of(word)
        assert np.array_equal(emb[word], vectors[owner])
        assert emb.get_index(owner) < 50


def test_provenance(tmp_path, gensim_data):
    import hashlib

    source = gensim_data / "crime-and-punishment.vec"
    compress(source, tmp_path / "v.ems", ["prune:keep=100"], seed=5)
    info = load(tmp_path / "v.ems").info()
    assert info["source"] == {"name": source.name, "size": source.stat().st_size, "format": "text",
                              "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert info["seed"] == 5
    assert info["writer"] == f"embshrink {embshrink.__version__}"
    assert info["bytes"] == (tmp_path / "v.ems").stat().st_size


def test_seed_decides(vectors, tmp_path):
    contents = []
    for seed in (0, 0, 1):
        compress(vectors, tmp_path / "v.ems", ["pq:subspaces=4,centroids=20"], seed=seed, measure=False, force=True)
        contents.append((tmp_path / "v.ems").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_dropped_words_are_gone_and_counted(vectors, tmp_path):
    report = compress(vectors, tmp_path / "v.ems", ["prune:keep=50,min_similarity=0.95"], remap=tmp_path / "r.json")
    emb = load(tmp_path / "v.ems", verify="full")
    remap = json.loads((tmp_path / "r.json").read_bytes())
    dropped = {entry["word"] for entry in remap if entry["kept"] is None}
    assert 0 < report.dropped == len(dropped) == 400 - len(emb)
    assert not any(word in emb for word in dropped)
    assert all(entry["similarity"] >= 0.95 for entry in remap if entry["kept"])
    assert all(emb.alias_of(entry["word"]) == entry["kept"] for entry in remap if entry["kept"])


def test_everything_dropped_is_refused(tmp_path):
    matrix = np.eye(4, dtype=np.float32)
    report = compress(WordVectors(list("abcd"), matrix), tmp_path / "v.ems", ["prune:keep=1,min_similarity=0.5"])
    assert report.words == 1  # the kept word itself is never dropped


def test_remap_as_tsv(tmp_path):
    words = ["up", "down", "tab\tword", "up again", "back\\slash"]
    matrix = np.array([[0, 2], [0, -1], [0.1, 2], [0, 4], [0.2, -3]], np.float32)
    compress(WordVectors(words, matrix), tmp_path / "v.ems", ["prune:keep=2"], remap=tmp_path / "r.tsv")
    with open(tmp_path / "r.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [
        ["word", "kept", "similarity"],
        ["tab\\tword", "up", f"{2 / np.sqrt(4.01):.6f}"],
        ["up again", "up", "1.000000"],
        ["back\\\\slash", "down", f"{3 / np.sqrt(9.04):.6f}"],
    ]


def test_remap_of_centroids_is_refused_before_anything_is_written(vectors, tmp_path):
    with pytest.raises(StepError, match=r"remap \(--remap\) cannot be written: rows are centroids"):
        compress(vectors, tmp_path / "v.ems", ["kmeans:centroids=9"], remap=tmp_path / "r.tsv")
    assert not list(tmp_path.iterdir())


def test_bits_and_size(vectors, tmp_path):
    report = compress(vectors, tmp_path / "a.ems", ["pq:centroids=16"], bits=40, measure=False)
    assert report.steps == ["pq:subspaces=6,centroids=16,sample=400"]
    assert report.bits_per_word == 24 + 8 * 16 * 10 * 4 / 400  # codes, and the codebook
    whole = compress(vectors, tmp_path / "b.ems", ["pq:centroids=16"], size=report.target_bytes, measure=False)
    assert whole.steps == report.steps
    less = compress(vectors, tmp_path / "c.ems", ["pq:centroids=16"], size=report.target_bytes - 1, measure=False)
    assert less.target_bytes < report.target_bytes


@pytest.mark.parametrize(("arguments", "message"), [
    ({"size": 100}, r"size=100 \(--size\) is too small for pq \(expected >= [\d,]+ bytes\)"),
    ({"bits": 3}, r"bits=3 \(--bits\) is too small for pq \(expected >= 212.8 bits per word\)"),
    ({"bits": 3, "size": 4}, r"only one aim can be given \(found bits \(--bits\) and size \(--size\)\)"),
])
def test_impossible_aims_are_refused(arguments, message, vectors, tmp_path):
    with pytest.raises(StepError, match=message):
        compress(vectors, tmp_path / "v.ems", ["pq"], **arguments)
    assert not list(tmp_path.iterdir())


def test_aims_need_a_bits_step(vectors, tmp_path):
    for aim in ({"bits": 50}, {"size": 10**6}):
        with pytest.raises(StepError, match=r"(bits|size) \(--\1\) needs a bits step .*found prune"):
            compress(vectors, tmp_path / "v.ems", ["prune"], **aim)


@pytest.mark.parametrize(("arguments", "kind", "message"), [
    ({"seed": -1}, StepError, r"seed \(--seed\) cannot be -1 \(expected a whole number of at least 0\)"),
    ({"vocabulary": "zip"}, StepError, r"vocabulary \(--vocabulary\) cannot be 'zip' .*auto or packed or plain"),
    ({"ngrams": "none"}, StepError, "unknown method 'none'"),
    ({"counts": [1, 2]}, TypeError, "counts must be a path or a mapping from words to counts, not list"),
    ({"keep_words": "king"}, TypeError, "keep_words must be a list of words, not one str"),
    ({"max_memory": "1G"}, TypeError, "max_memory must be a number of bytes, not str"),
    ({"options": {"limit": 5}}, TypeError, "options must be embshrink.ReadOptions, not dict"),
])
def test_wrong_settings_are_refused_before_any_work(arguments, kind, message, vectors, tmp_path):
    source = tmp_path / "v.txt"
    embshrink.write_vectors(vectors.words, [vectors.matrix], source, "text")
    with pytest.raises(kind, match=message):
        compress(source, tmp_path / "v.ems", "pq", **arguments)
    assert os.listdir(tmp_path) == ["v.txt"]


def test_existing_target_is_kept_without_force(vectors, tmp_path):
    target = tmp_path / "v.ems"
    target.write_bytes(b"mine")
    with pytest.raises(TargetError, match=r"the target exists. Choose another"):
        compress(vectors, target, ["pq"])
    assert target.read_bytes() == b"mine"
    compress(vectors, target, ["pq"], force=True)
    assert load(target)


def test_failure_leaves_the_old_target(tmp_path):
    target = tmp_path / "v.ems"
    target.write_bytes(b"mine")
    with pytest.raises(ShapeError):
        compress(WordVectors(["a"], [[1e9]]), target, ["cast"], force=True)
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["v.ems"]


def test_a_file_that_reads_back_wrong_is_not_put_in_place(vectors, tmp_path, monkeypatch):
    from embshrink.methods.cast import Cast

    encode = Cast.encode
    monkeypatch.setattr(Cast, "encode", lambda self, matrix, state, context: encode(self, matrix, state, context))
    decode = Cast.decode
    calls = []

    def wrong(self, codes, state, rows):
        calls.append(len(rows))
        return decode(self, codes, state, rows) + (len(calls) % 2) * (len(rows) < 400)

    monkeypatch.setattr(Cast, "decode", wrong)
    with pytest.raises(ShapeError, match="the file does not read back as it was written"):
        compress(vectors, tmp_path / "v.ems", ["cast"])
    assert not list(tmp_path.iterdir())


def test_measured_loss_is_of_common_words(tmp_path):
    vectors = make_vectors(50, 5)
    report = compress(vectors, tmp_path / "v.ems", ["cast:dtype=float32"])
    assert report.loss == {"relative_error": 0, "weighted_error": 0, "mean_cosine": pytest.approx(1),
                           "cosine_p1": pytest.approx(1),
                           "overlap_at_10": 1, "overlap_se": 0}


def test_progress_reaches_the_end_of_each_stage(vectors, tmp_path):
    seen = {}
    compress(vectors, tmp_path / "v.ems", ["prune:keep=100", "pq:rotate=opq,centroids=16"],
             progress=lambda stage, done, total: seen.__setitem__(stage, (done, total)))
    assert {"pruning", "training pq", "training opq", "encoding", "measuring"} <= set(seen)
    assert all(done == total for stage, (done, total) in seen.items())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("name", ["crime-and-punishment.vec", "lee_fasttext_new.bin"])
def test_a_pipe_is_read_once(name, gensim_data, tmp_path):
    """Finding out what a source is must not use up its first bytes: ``embshrink quantize <(zcat vectors.gz)``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((gensim_data / name).read_bytes()))
    writer.start()
    compress(pipe, tmp_path / "piped.ems", ["cast"], measure=False)
    writer.join()
    compress(gensim_data / name, tmp_path / "plain.ems", ["cast"], measure=False)
    piped, plain = load(tmp_path / "piped.ems"), load(tmp_path / "plain.ems")
    assert list(piped.words) == list(plain.words)
    assert np.array_equal(np.asarray(piped.vectors), np.asarray(plain.vectors))
    assert (piped.subwords is None) == (plain.subwords is None)
    assert piped.info()["source"]["sha256"] == plain.info()["source"]["sha256"]


@pytest.mark.parametrize("steps", [
    "scalar", Scalar(), ["scalar"], (Scalar(),), iter(["scalar"]), {"scalar"}, map(str, ["scalar"])])
def test_steps_may_be_given_in_any_way(steps, vectors, tmp_path):
    assert compress(vectors, tmp_path / "v.ems", steps, measure=False).steps == ["scalar"]


def test_prune_keeps_lengths_by_default(vectors, tmp_path):
    """The command and the call write norms=true into the step; the step alone does not have it."""
    kept = embshrink.prune(vectors, tmp_path / "a.ems", keep=50)
    plain = embshrink.prune(vectors, tmp_path / "b.ems", keep=50, norms=False)
    assert (kept.steps[0], plain.steps[0]) == ("prune:keep=50,norms=true", "prune:keep=50")
    assert kept.relative_error < plain.relative_error
    with embshrink.load(kept.target) as emb:
        lengths = np.linalg.norm(emb.vectors_for(vectors.words), axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(vectors.matrix, axis=1), rtol=1e-3)
    everything = embshrink.prune(vectors, tmp_path / "c.ems", keep=10**6)
    assert everything.parts["row map"] == 0 and "norms" not in everything.steps[0]


def test_the_weighted_error_counts_words_by_their_frequency(tmp_path):
    """By hand: the mean is (4, 0) with weights 1, 1, 2 and rows 0, 4, 6; only the last row changes, by 1."""
    source, made = (embshrink.as_embeddings(WordVectors(["b", "c", "a"], [[0, 0], [4, 0], last]))
                    for last in ([6, 0], [6, 1]))
    found = reconstruction(made, source, weights=np.array([1, 1, 2.0]))
    assert found.weighted_error == pytest.approx(2 / (16 + 0 + 2 * 4))
    assert found.relative_error == pytest.approx(1 / ((10 / 3) ** 2 + (2 / 3) ** 2 + (8 / 3) ** 2))
    words = sorted(f"{chr(97 + index % 26)}{index}" for index in range(200))
    alphabetical = compress(WordVectors(words, make_vectors(200, 5).matrix), tmp_path / "a.ems", "scalar")
    assert alphabetical.weighted_error is None and alphabetical.relative_error > 0


def test_the_calls_behind_prune_and_quantize(vectors, tmp_path):
    assert embshrink.prune(vectors, tmp_path / "a.ems", keep=50, norms=True).rows == 50
    for parameters in ({"subspaces": 2, "rotate": "opq", "sample": None}, "subspaces=2,rotate=opq",
                       ["subspaces=2", "rotate=opq"]):
        report = embshrink.quantize(vectors, tmp_path / "b.ems", method="pq", parameters=parameters, force=True)
        assert report.steps == ["pq:subspaces=2,rotate=opq,sample=400"]
    with pytest.raises(StepError, match="cannot read '' in step"):
        embshrink.quantize(vectors, tmp_path / "c.ems", parameters=[""])
    with pytest.raises(StepError, match=r"unknown bits method 'opq' \(expected one of pq, ecq, (?!.*prune)"):
        embshrink.quantize(vectors, tmp_path / "c.ems", method="opq")
    with pytest.raises(StepError, match=r"'itq' is an alias.* Use iiq with remove=0"):
        embshrink.quantize(vectors, tmp_path / "c.ems", method="itq")
    with pytest.raises(TargetError, match="has no default target.*Pass the path"):
        embshrink.quantize(vectors)
    write_vectors(vectors.words, [vectors.matrix], tmp_path / "v.vec", "word2vec-text")
    assert embshrink.prune(tmp_path / "v.vec", keep=9).target == str(tmp_path / "v.ems")
    assert embshrink.plan(tmp_path / "v.vec", "cast").bytes == embshrink.compress(
        tmp_path / "v.vec", tmp_path / "d.ems", "cast").target_bytes
