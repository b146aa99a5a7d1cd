"""rq: residual quantization. A vector is a sum of centroids, one of each codebook."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import Codec, expect_planned, param
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.parallel import map_blocks, one_blas_thread

BLOCK = 1024
RIDGE = 1e-3  # of a centroid's count: keeps the least squares solvable where a centroid is not used


@dataclass(frozen=True)
class RQ(Codec):
    """Store a vector as the sum of `codebooks` centroids, each refining what those before it left.

    The best method below one bit a number. Slower to compress than `pq`, as fast to decode.

    Notes
    -----
    Chen, Guan and Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", Sensors 10 (2010);
    beam search as in Babenko and Lempitsky, CVPR 2014 (additive quantization). After the stages are learned one
    by one, all codebooks are solved for together by least squares, given the codes, and rows are encoded again,
    `rounds` times: the codebook update of Martinez et al., ECCV 2016 (LSQ).
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Chen et al. 2010; Babenko & Lempitsky 2014; Martinez et al. 2016"

    codebooks: int | None = param(None, "centroids a vector is a sum of; a tenth of the columns by default", low=1,
                                  high=256)
    centroids: int = param(256, "centroids in a codebook; a code takes 8 bits up to 256, else 16", low=1, high=4096)
    beam: int = param(8, "partial sums kept while encoding; wider is better and slower", low=1, high=256)
    rounds: int = param(4, "least squares updates of all codebooks together", low=0, high=100)
    iterations: int = param(15, "k-means rounds at most", low=1, high=1000)
    sample: int = param(65_536, "rows to train on", low=1)

    def resolve(self, n, d):
        codebooks = max(1, d // 10) if self.codebooks is None else self.codebooks
        centroids = min(self.centroids, n)
        return replace(self, codebooks=codebooks, centroids=centroids, sample=max(centroids, min(self.sample, n)))

    def with_bits(self, bits, c):
        width = 8 if self.centroids <= 256 else 16
        if bits < width:
            raise StepError("rq cannot spend so few bits a word", expected=f">= {width}", found=bits)
        return replace(self, codebooks=min(256, int(bits // width)))

    def plan(self, n, c):
        return {
            "state.codebooks": (np.dtype(np.float32), (self.codebooks, self.centroids, c)),
            "codes.codes": (np.dtype(np.uint8 if self.centroids <= 256 else np.uint16), (n, self.codebooks)),
        }

    def fit(self, matrix, context):
        n, d = matrix.shape
        rows = np.sort(context.rng.choice(n, self.sample, replace=False))
        sample = np.ascontiguousarray(matrix[rows])
        books = np.zeros((self.codebooks, self.centroids, d), np.float32)
        rest = sample
        for stage in range(self.codebooks):
            books[stage], _ = clustering.kmeans(rest, self.centroids, context.rng, iterations=self.iterations)
            codes = self._encode(sample, books[: stage + 1])
            rest = sample - _sum(books, codes)
            context.progress("training rq", stage + 1, self.codebooks + self.rounds)
        for done in range(self.rounds):
            books = _solve(sample, codes, books)
            codes = self._encode(sample, books)
            context.progress("training rq", self.codebooks + done + 1, self.codebooks + self.rounds)
        return {"codebooks": books}

    def _encode(self, matrix, books, progress=None):
        from embshrink.kernels.beam import encode_beam

        stages, k, d = books.shape
        flat = books.reshape(stages * k, d)
        with one_blas_thread():
            cross = flat @ flat.T
        norms = np.ascontiguousarray(np.diagonal(cross).reshape(stages, k))
        columns = np.ascontiguousarray(flat.T)
        codes = np.empty((len(matrix), stages), np.int64)

        def work(start, stop):
            encode_beam(matrix[start:stop] @ columns, cross, norms, self.beam, codes[start:stop])

        done = 0

        def report(count):
            nonlocal done
            done += count
            if progress:
                progress("encoding", done, len(matrix))

        map_blocks(work, len(matrix), BLOCK, report)
        return codes

    def encode(self, matrix, state, context):
        codes = self._encode(matrix, state["codebooks"], context.progress)
        return {"codes": codes.astype(np.uint8 if self.centroids <= 256 else np.uint16)}

    def decode(self, codes, state, rows):
        return _sum(state["codebooks"], codes["codes"][rows])

    def scores(self, codes, state, query):
        """Return the dot product of a vector and every decoded row, by table."""
        tables = state["codebooks"] @ query.astype(np.float32)
        labels = np.asarray(codes["codes"])
        total = tables[0][labels[:, 0]]
        for stage in range(1, len(tables)):
            total += tables[stage][labels[:, stage]]
        return total

    def check(self, codes, state, n, c):
        if self.codebooks is None:
            raise FormatError("rq has no number of codebooks")
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes, state):
        labels = np.asarray(codes["codes"])
        if labels.size and int(labels.max()) >= self.centroids:
            raise FormatError("a code names a centroid that is not there", expected=f"< {self.centroids}",
                              found=int(labels.max()))


def _sum(books, codes):
    """Add up the centroids of each row, in the order of the codebooks."""
    total = books[0][codes[:, 0]]
    for stage in range(1, codes.shape[1]):
        total = total + books[stage][codes[:, stage]]
    return total


def _solve(sample, codes, books):
    """Return the codebooks that fit rows best given their codes, by least squares; unused centroids stay."""
    from scipy.linalg import solve

    from embshrink.kernels.beam import count_pairs

    stages, k, d = books.shape
    counts = np.zeros((stages * k, stages * k))
    count_pairs(codes, k, counts)
    sums = np.concatenate([clustering.cluster_sums(sample, codes[:, stage], k)[0] for stage in range(stages)])
    used = np.diagonal(counts).copy()
    pull = np.where(used > 0, RIDGE * used, 1.0)
    counts[np.diag_indices_from(counts)] += pull
    with one_blas_thread():
        solved = solve(counts, sums + pull[:, None] * books.reshape(-1, d), assume_a="pos")
    return solved.reshape(stages, k, d).astype(np.float32)
