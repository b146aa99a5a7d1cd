"""navec's models, made here from their layout: read exactly, or refused."""

import gzip
import io
import json
import struct
import tarfile

import numpy as np
import pytest

from embshrink import SourceError, compress, load
from embshrink.formats import ReadOptions, navec, read_vectors

WORDS = ["\u0434\u043e\u043c", "\u043d\u0430\u0432\u0435\u043a", "two words", "a\x85b", "<unk>", "<pad>"]
DIM, SUBSPACES = 6, 2


def vocabulary(words=WORDS, count=None, packed=gzip.compress):
    text = b"\n".join(word if isinstance(word, bytes) else word.encode() for word in words)
    count = len(words) if count is None else count
    return packed(struct.pack("<I", count) + struct.pack(f"<{len(words)}I", *range(len(words))) + text)


def quantizer(centroids=20):
    rng, rows = np.random.default_rng(3), len(WORDS)
    codes = rng.integers(centroids, size=(rows, SUBSPACES)).astype(np.uint8)
    books = rng.standard_normal((SUBSPACES, centroids, DIM // SUBSPACES)).astype("<f4")
    matrix = np.concatenate([books[part][codes[:, part]] for part in range(SUBSPACES)], axis=1)
    return struct.pack("<4I", rows, DIM, SUBSPACES, centroids) + codes.tobytes() + books.tobytes(), codes, matrix


PQ, CODES, MATRIX = quantizer()
META = b'{\n  "id": "test",\n  "protocol": 1\n}'


def block(name, data, kind=b"0", size=None):
    """Return a file as an archive holds it, by POSIX's layout of 1988."""
    size = len(data) if size is None else size
    head = bytearray(struct.pack("<100s8s8s8s12s12s8sc355x", name, b"0000644\0", b"0000000\0", b"0000000\0",
                                 b"%011o\0" % size, b"00000000000\0", b" " * 8, kind))
    head[257:265] = b"ustar\x0000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data + bytes(-len(data) % 512)


END = bytes(1024)


def archive(meta=META, vocab=None, pq=PQ, end=END):
    vocab = vocabulary() if vocab is None else vocab
    return block(b"meta.json", meta) + block(b"vocab.bin", vocab) + block(b"pq.bin", pq) + end


def save(tmp_path, data):
    path = tmp_path / "v.tar"
    path.write_bytes(data)
    return path


def test_words_and_vectors(tmp_path):
    found = read_vectors(save(tmp_path, archive()))
    assert list(found.words) == WORDS
    assert np.array_equal(found.matrix, MATRIX)
    assert found.warnings == [] and found.source["format"] == "navec"
    cut = read_vectors(tmp_path / "v.tar", ReadOptions(limit=2))
    assert list(cut.words) == WORDS[:2]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_python_read_the_same(format, tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data in (("meta.json", META), ("vocab.bin", vocabulary()), ("pq.bin", PQ)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert np.array_equal(read_vectors(save(tmp_path, file.getvalue())).matrix, MATRIX)
    assert np.array_equal(read_vectors(io.BytesIO(gzip.compress(file.getvalue()))).matrix, MATRIX)


def test_other_files_and_another_order_do_no_harm(tmp_path):
    other = block(b"README", b"read me") + block(b"folder/", b"", b"5")
    data = block(b"pq.bin", PQ) + other + block(b"vocab.bin", vocabulary()) + block(b"meta.json", META) + END
    with pytest.raises(SourceError, match="this is a tar archive"):
        read_vectors(save(tmp_path, data))
    assert np.array_equal(read_vectors(tmp_path / "v.tar", ReadOptions(format="navec")).matrix, MATRIX)


def test_other_archives_are_not_taken_for_navec(tmp_path):
    data = block(b"meta.json", META) + block(b"config.cfg", b"x") + END
    with pytest.raises(SourceError, match="this is a tar archive"):
        read_vectors(save(tmp_path, data))
    assert not navec.is_navec(b"") and not navec.is_navec(bytes(2000)) and not navec.is_navec(data[:512])


@pytest.mark.parametrize("centroids", [5, 16, 256])
def test_no_steps_keep_codes_bit_for_bit(centroids, tmp_path):
    pq, codes, matrix = quantizer(centroids=centroids)
    path = save(tmp_path, archive(pq=pq))
    report = compress(path, tmp_path / "v.ems", [])
    emb = load(tmp_path / "v.ems", verify="full")
    assert report.steps == [f"pq:subspaces=2,centroids={centroids}".replace(",centroids=256", "")]
    assert np.array_equal(np.asarray(emb.vectors), matrix)
    assert list(emb.words) == WORDS
    stored = emb.stored.codes["codes"]
    assert np.array_equal(stored if centroids > 16 else np.stack([stored[:, 0] & 15, stored[:, 0] >> 4], 1), codes)


def test_a_word_that_comes_again_is_left_out(tmp_path):
    path = save(tmp_path, archive(vocab=vocabulary(["a", "b", "a", "c", "<unk>", "<pad>"])))
    found = read_vectors(path)
    assert "dropped 1 row of repeated words" in found.warnings[0]
    compress(path, tmp_path / "v.ems", [])
    emb = load(tmp_path / "v.ems")
    assert list(emb.words) == list(found.words) == ["a", "b", "c", "<unk>", "<pad>"]
    assert np.array_equal(np.asarray(emb.vectors), MATRIX[[0, 1, 3, 4, 5]])


def sizes(*numbers):
    return struct.pack("<4I", *numbers) + PQ[16:]


NAN = PQ[:-4] + struct.pack("<f", np.nan)
REFUSED = {
    "not-json": (archive(meta=b"{"), "meta.json is not JSON"),
    "deep-json": (archive(meta=b"[" * 200_000), "meta.json is not JSON"),
    "large-json": (archive(meta=b" " * (1 << 21)), "meta.json is too large"),
    "protocol": (archive(meta=b'{"protocol": 2}'),
                 "the protocol of the model is not supported (expected 1, found 2)"),
    "protocol-true": (archive(meta=b'{"protocol": true}'), "the protocol of the model is not supported"),
    "no-protocol": (archive(meta=b"[]"), "the protocol of the model is not supported (expected 1)"),
    "vocab-plain": (archive(vocab=vocabulary(packed=bytes)),
                    "the vocabulary is not compressed with gzip (expected gzip"),
    "vocab-empty": (archive(vocab=b""), "the vocabulary is not compressed with gzip"),
    "vocab-cut": (archive(vocab=vocabulary()[:-12]), "the gzip data is truncated"),
    "vocab-damaged": (archive(vocab=vocabulary()[:20] + b"\xff" * 20 + vocabulary()[40:]),
                      "the gzip data is damaged"),
    "vocab-more": (archive(vocab=vocabulary() + b"more"), "bytes follow the end of the vocabulary"),
    "vocab-short": (archive(vocab=gzip.compress(b"\1")), "the file ends in the number of words"),
    "no-words": (archive(vocab=vocabulary(count=0)), "the model has no words"),
    "counts-cut": (archive(vocab=vocabulary(count=2**32 - 1)), "the file ends in the counts of the words"),
    "fewer-words": (archive(vocab=gzip.compress(struct.pack("<3I", 2, 1, 1) + b"a")),
                    "the number of words is not the one stated (expected 2, found 1)"),
    "vocab-utf8": (archive(vocab=vocabulary([b"a", b"\xff"])), "a word is not UTF-8 (expected UTF-8"),
    "long-word": (archive(vocab=vocabulary(["a", "x" * 65_537])), "word 2 is too long (expected at most 65536 bytes"),
    "another-count": (archive(vocab=vocabulary(WORDS[:5])),
                      "the number of vectors does not match the number of words (expected 5, found 6)"),
    "bomb": (archive(vocab=vocabulary(["x" * (80 << 20)])), "the content expands like a decompression bomb"),
    "pq-short": (archive(pq=PQ[:-1]), "the size of pq.bin does not match its content"),
    "pq-long": (archive(pq=PQ + b"\0"), "the size of pq.bin does not match its content"),
    "no-vectors": (archive(pq=sizes(0, 6, 2, 20)), "the model has no vectors"),
    "many-vectors": (archive(pq=sizes(2**32 - 1, 6, 2, 20)), "the size of pq.bin does not match its content"),
    "no-dim": (archive(pq=sizes(6, 0, 2, 20)), "the dimension is out of range"),
    "subspaces": (archive(pq=sizes(6, 6, 4, 20)), "the number of subspaces does not divide the dimension"),
    "no-centroids": (archive(pq=sizes(6, 6, 2, 0)), "the number of centroids is out of range"),
    "centroids": (archive(pq=sizes(6, 6, 2, 257)), "the number of centroids is out of range (expected 1 to 256"),
    "code": (archive(pq=PQ[:19] + b"\x14" + PQ[20:]),
             "a code refers to a centroid that does not exist (expected 0 to 19, found 20)"),
    "nan": (archive(pq=NAN), "a number in the codebooks is not finite"),
    "no-end": (archive(end=b""), "the file ends in the archive, before the zeros at its end"),
    "behind-end": (archive(end=END + b"x"), "bytes follow the end of the archive"),
    "head-damaged": (archive(end=b"x" * 512), "the head of a file in the archive is damaged"),
    "twice": (archive(end=block(b"meta.json", META) + END), "the archive has two files meta.json"),
    "missing": (block(b"meta.json", META) + block(b"vocab.bin", vocabulary()) + END,
                "a file is missing in the archive (expected meta.json, vocab.bin, pq.bin, found no pq.bin)"),
    "link": (block(b"meta.json", META) + block(b"vocab.bin", b"", b"2") + END,
             "an entry of the archive is neither a plain file nor a folder"),
    "sparse": (archive(end=block(b"x", b"", b"S") + END), "an entry of the archive is neither a plain file nor"),
    "large-file": (block(b"meta.json", META) + block(b"vocab.bin", b"", size=8**11 - 1),
                   "the file ends in vocab.bin"),
    "large-other": (archive(end=block(b"x", b"", size=8**11 - 1)), "the file ends in the file 'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_damage_is_refused(name, tmp_path):
    data, says = REFUSED[name]
    for source in (save(tmp_path, data), io.BytesIO(data)):
        with pytest.raises(SourceError) as caught:
            read_vectors(source, ReadOptions(format="navec"))
        error = caught.value
        assert says in str(error)
        assert error.where.startswith("byte ") and error.hint.endswith(".")


def test_a_size_below_zero_is_refused(tmp_path):
    head = bytearray(block(b"vocab.bin", b""))
    head[124:136] = b"\xff" * 12  # -1 as GNU writes numbers
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(SourceError, match="the size of a file in the archive is out of range"):
        read_vectors(save(tmp_path, block(b"meta.json", META) + bytes(head) + END))


def test_every_cut_is_refused():
    data = archive()
    for length in [*range(0, len(data) - len(END), 7), len(data) - len(END)]:
        with pytest.raises(SourceError):
            read_vectors(io.BytesIO(data[:length]), ReadOptions(format="navec"))


def test_any_byte_may_be_any_other():
    data = archive(meta=json.dumps({"id": "x", "protocol": 1}).encode())
    for place in range(0, len(data), 3):
        for value in (0, 255):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                found = read_vectors(io.BytesIO(changed), ReadOptions(format="navec"))
            except SourceError:
                continue
            assert found.matrix.shape[1] == DIM and np.isfinite(found.matrix).all()
