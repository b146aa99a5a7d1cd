"""Checks that every registered method must pass; test_methods.py runs them through the registry."""

import numpy as np

from embshrink import compress, load
from embshrink.compression.job import Job
from embshrink.compression.source import open_table
from embshrink.methods import registry
from embshrink.numerics import parallel

# Settings each method is tried with, beside its defaults. A method that is not here is tried with its defaults.
SETTINGS = {
    "prune": ["prune:keep=20,select=facility", "prune:keep=50",
              "prune:keep=1", "prune:keep=100000", "prune:keep=60,norms=true"],
    "kmeans": ["kmeans:centroids=20", "kmeans:centroids=20,norms=true", "kmeans:centroids=15,spherical=true",
               "kmeans:centroids=15,spherical=true,norms=true", "kmeans:centroids=9,init=random"],
    "pq": ["pq:subspaces=1", "pq:subspaces=3", "pq:subspaces=10,centroids=16", "pq:subspaces=3,centroids=5",
           "pq:subspaces=4,centroids=300", "pq:subspaces=3,centroids=16,rotate=pca", "pq:subspaces=4,rotate=opq",
           "pq:subspaces=2,sample=50,centroids=32", "pq:normalize=columns,rotate=opq,subspaces=3"],
    "ecq": ["ecq:bits=400", "ecq:step=0.05", "ecq:step=0.3,trellis=0", "ecq:step=0.2,trellis=4,centroids=20",
            "ecq:step=0.2,centroids=150,block=7", "ecq:step=0.3,norms=true,weights=zipf:0.5",
            "ecq:step=0.3,weights=counts,block=1", "ecq:step=40", "ecq:step=0.0005"],
    "cast": ["cast:dtype=float32"],
    "iiq": ["iiq:bits=5", "iiq:remove=3", "iiq:ratio=64", "itq", "itq:bits=7", "sign", "iiq:rotate=none"],
    "scalar": ["scalar:bits=1", "scalar:bits=3", "scalar:bits=4,per=matrix", "scalar:bits=7", "int8"],
    "rq": ["rq:codebooks=3,centroids=20", "rq:codebooks=2,centroids=300,beam=1", "rq:rounds=0,centroids=9,beam=30"],
    "rescale": ["rescale:exponent=3", "rescale:exponent=-2"],
    "lowrank": ["lowrank:dims=3", "lowrank:keep=1,center=false", "lowrank:dims=4,weighted=true"],
    "groupreduce": ["groupreduce:dtype=float32,alpha=1,keep=0.6", "groupreduce:dtype=int8,blocks=7,keep=0.5",
                    "groupreduce:refine=5,keep=0.4", "groupreduce:refine=3,dtype=int8,blocks=4,keep=0.5"],
    "blocksparse": ["blocksparse:density=0.5,blocks=4,dtype=float32", "blocksparse:order=down",
                    "blocksparse:order=rand,density=0.15", "blocksparse:blocks=1"],
    "tensortrain": ["tensortrain:rank=8,dtype=float32", "tensortrain:rank=6,order=frequency", "tensortrain:bits=60",
                    "tensortrain:factors=2,rank=5", "tensortrain:factors=5"],
    "magnitude": ["magnitude:sparsity=0.75,dtype=float16", "magnitude:scope=global",
                  "magnitude:scope=global,sparsity=0.9,dtype=float16", "magnitude:sparsity=0",
                  "magnitude:sparsity=1"],
}

# What depends on the values: rows that are equal, ranks, whether the rows of a tiny table are in order already.
UNKNOWN_SIZE = {"dedupe", "ecq", *SETTINGS["ecq"], "groupreduce", *SETTINGS["groupreduce"], "tensortrain"}


def all_settings():
    return [text for name in registry.METHODS for text in [name, *SETTINGS.get(name, [])]]


def check_string_round_trip(text):
    step = registry.parse(text)
    assert registry.parse(registry.format(step)) == step
    resolved = step.resolve(400, 10)
    assert registry.parse(registry.format(resolved)) == resolved
    assert resolved.resolve(400, 10) == resolved  # what a file says is final


def check_file(text, vectors, path):
    """Write, reopen, verify; single, batch and whole decoding agree to the last bit; the plan was right."""
    report = compress(vectors, path, [text], force=True)
    planned = Job(open_table(vectors)).plan([text])
    if registry.name_of(registry.parse(text)) != "ecq":  # which finds its step as it runs
        assert planned.steps == report.steps
    assert report.target_bytes == path.stat().st_size
    if text in UNKNOWN_SIZE:
        assert planned.bytes >= report.target_bytes - 64
    else:
        assert planned.bytes == report.target_bytes
    with load(path, verify="full") as emb:
        assert list(emb.words) == list(vectors.words)
        whole = np.asarray(emb.vectors)
        assert whole.shape == vectors.matrix.shape
        assert whole.dtype == np.float32
        ids = np.random.default_rng(0).permutation(len(emb))[:60]
        assert np.array_equal(emb.decode_ids(ids), whole[ids])
        assert all(np.array_equal(emb[vectors.words[int(i)]], whole[i]) for i in ids)
        rows = np.arange(emb.n_rows)
        assert np.array_equal(emb.decode_rows(rows[::7]), emb.decode_rows(rows)[::7])
    return whole


def check_deterministic(text, vectors, folder):
    """Same input, step and seed: the same bytes at 1, 2 and 3 threads; another seed may differ."""
    contents = set()
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        target = folder / f"threads-{threads}.ems"
        compress(vectors, target, [text], seed=7, measure=False)
        contents.add(target.read_bytes())
    assert len(contents) == 1


def check_inputs_untouched(text, vectors, path):
    before = vectors.matrix.copy()
    compress(vectors, path, [text], force=True, measure=False)
    assert np.array_equal(vectors.matrix, before)
