"""docs/format.md is enough: a reader written from it alone finds every word and decodes every vector."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from second_reader import BadFile, SecondReader

from embshrink import WordVectors, compress, load
from embshrink.methods import registry
from embshrink.storage.container import write_container

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    [],
    ["prune:keep=50"],
    ["prune:keep=60,norms=true"],
    ["prune:keep=300,min_similarity=0.7"],
    ["prune:keep=40,select=facility"],
    ["dedupe"],
    ["kmeans:centroids=20"],
    ["kmeans:centroids=20,norms=true"],
    ["kmeans:centroids=15,spherical=true,norms=true"],
    ["dedupe", "prune:keep=280", "kmeans:centroids=30"],
]
BITS = [
    [],
    ["cast"],
    ["cast:dtype=float32"],
    ["pq:subspaces=3"],
    ["pq:subspaces=5,centroids=16"],
    ["pq:subspaces=4,centroids=7,rotate=pca"],
    ["pq:subspaces=3,centroids=12,rotate=opq"],
    ["pq:subspaces=2,centroids=299"],
    ["pq:subspaces=10,centroids=1"],
    ["pq:subspaces=4,centroids=9,normalize=columns"],
    ["pq:subspaces=3,centroids=20,rotate=pca,normalize=columns"],
    ["scalar"],
    ["scalar:bits=3,per=matrix"],
    ["rq:codebooks=3,centroids=11,rounds=1"],
    ["rq:codebooks=1,centroids=290,rounds=0,beam=1"],
    ["iiq:iterations=3"],
    ["iiq:bits=7,remove=2,iterations=3"],
    ["lowrank"],
    ["rescale:exponent=-3", "lowrank:dims=5", "pq:subspaces=2,centroids=9"],
    ["lowrank:dims=4", "pq:subspaces=3,centroids=9"],
    ["lowrank:energy=0.95", "lowrank:dims=2,center=false", "scalar"],
    ["magnitude:sparsity=0.65"],
    ["magnitude:scope=global,sparsity=0.83,dtype=float16"],
    ["lowrank:dims=9", "magnitude:scope=global"],
    ["blocksparse"],
    ["blocksparse:blocks=4,density=0.5,order=rand,dtype=float32"],
    ["groupreduce"],
    ["groupreduce:blocks=2,keep=0.8,refine=2"],
    ["groupreduce:blocks=3,keep=0.9,alpha=1,refine=1,dtype=int8"],
    ["lowrank:dims=8,weighted=true", "groupreduce:blocks=1,keep=1,dtype=float32"],
    ["tensortrain:rank=4"],
    ["tensortrain:rank=6,factors=4,order=frequency,dtype=float32"],
    ["lowrank:dims=6", "tensortrain:rank=9,factors=2"],
    ["ecq:step=0.3,centroids=20"],
    ["ecq:step=0.2,centroids=150,trellis=4,block=7,norms=true"],
    ["ecq:step=0.0005,trellis=0,block=1,centroids=3,weights=zipf:0.5"],
    ["lowrank:dims=6", "ecq:step=0.01,centroids=1,block=100"],
]


@pytest.mark.parametrize("bits", BITS, ids="".join)
@pytest.mark.parametrize("rows", ROWS, ids="+".join)
def test_it_decodes_what_embshrink_decodes(rows, bits, vectors, tmp_path):
    compress(vectors, tmp_path / "a.ems", [*rows, *bits], measure=False)
    second = SecondReader(tmp_path / "a.ems")
    with load(tmp_path / "a.ems") as emb:
        n = len(emb)
        assert [second.word(i) for i in range(n)] == emb.words.raw
        assert [second.find(word) for word in emb.words.raw] == list(range(n))
        assert [second.find(word) for word in (b"", b"nothing", b"w4000", b"\xff")] == [-1] * 4
        own = np.array([second.vector(i) for i in range(n)])
        np.testing.assert_allclose(own, np.asarray(emb.vectors), rtol=1e-6, atol=1e-6)
        aliases = [None if second.owner(i) is None else emb.words[second.owner(i)] for i in range(n)]
        assert aliases == [emb.alias_of(word) for word in emb.words.raw]


def test_every_registered_method_is_tried_here_and_described_in_the_document():
    tried = {step.partition(":")[0] for steps in [*ROWS, *BITS] for step in steps}
    assert tried == set(registry.METHODS)
    text = (ROOT / "docs" / "format.md").read_text()
    assert all(f"`{name}`" in text for name in registry.METHODS)


def test_sections_of_several_blocks_are_checked_by_both(tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((70_001, 10)).astype(np.float32)
    vectors = WordVectors(map(str, range(len(matrix))), matrix)
    compress(vectors, tmp_path / "a.ems", "cast:dtype=float32", measure=False)
    second = SecondReader(tmp_path / "a.ems")
    assert second.sections["checksums"].shape == (3,)  # 2.67 MiB of vectors; the rest fits into one block each
    assert second.vector(second.find(b"70000")) == matrix[-1].tolist()
    data = bytearray((tmp_path / "a.ems").read_bytes())
    data[-2_000_000] ^= 1
    (tmp_path / "a.ems").write_bytes(data)
    with pytest.raises(BadFile, match="crc32 of codes.values"):
        SecondReader(tmp_path / "a.ems")


def test_the_file_shown_in_the_document_is_what_is_written(tmp_path):
    text = (ROOT / "docs" / "format.md").read_text()
    shown, last = {}, 0
    for offset, digits in re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} {1,2})+)", text, re.M):
        shown[int(offset, 16)] = bytes.fromhex(digits)
    header = "".join(re.search(r'^(\{"dim".*?"\})$', text, re.M | re.S).group(1).split("\n"))
    shown[0x20] = header.encode()
    whole = bytearray(1112)
    for offset, part in shown.items():
        whole[offset : offset + len(part)] = part
        last = max(last, offset + len(part))
    assert last == 1112
    (tmp_path / "shown.ems").write_bytes(whole)
    with load(tmp_path / "shown.ems", verify="full") as emb:
        assert emb.index_to_key == ["up", "down", "café"]
        assert np.asarray(emb.vectors).tolist() == [[1, 2], [-1, -2], [0.5, 0]]
        arrays = {name: section[:] for name, section in emb._container.sections.items()}
        write_container(tmp_path / "again.ems", emb._container.header, arrays)
    assert (tmp_path / "again.ems").read_bytes() == whole
    second = SecondReader(tmp_path / "shown.ems")
    assert second.vector(second.find("café".encode())) == [0.5, 0]


@pytest.mark.parametrize("position", [0, 9, 15, 20, 24, 28, 40, 0x2B0, 0x2C2, 0x310, 0x400, 0x445, 0x457])
def test_it_refuses_damage(position, tmp_path):
    compress(WordVectors(["up", "down", "café"], [[1, 2], [-1, -2], [0.5, 0]]), tmp_path / "a.ems", "cast",
             measure=False)
    data = bytearray((tmp_path / "a.ems").read_bytes())
    data[position] ^= 4
    (tmp_path / "a.ems").write_bytes(data)
    with pytest.raises(BadFile):
        SecondReader(tmp_path / "a.ems")


def test_it_is_independent():
    tree = ast.parse((ROOT / "tests" / "second_reader.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("steps", [["cast"], ["prune:keep=300,norms=true", "pq:subspaces=5"],
                                   ["lowrank:dims=4", "iiq"]])
@pytest.mark.parametrize("own", ["same", ["prune:keep=300", "scalar:bits=4"], ["kmeans:centroids=90,norms=true"]])
def test_unseen_words(steps, own, gensim_data, tmp_path):
    path = tmp_path / "v.ems"
    compress(gensim_data / "lee_fasttext_new.bin", path, steps, ngrams=own, measure=False)
    emb, second = load(path), SecondReader(path)
    for word in ["theoretically", "caf\u00e9s", "\u6771\u4eac", "</s>", "a", "", "night"]:
        expected = emb.subwords.vector(word)
        found = second.unseen(word.encode())
        assert (expected is None) == (found is None)
        if found is not None:
            np.testing.assert_allclose(found, expected, atol=1e-5)
