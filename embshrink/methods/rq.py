"""rq: residual quantization. A vector is a sum of centroids, one from each codebook.

With codebooks C^1 ... C^M of k centroids each, ``state.codebooks``, (M, k, c), a row decodes as
``x' = C^1[code_1] + ... + C^M[code_M]``.

- Encode: beam search (Babenko and Lempitsky 2014), codebook by codebook. After stage m the `beam` best
  prefixes of codes are kept. The error of a prefix, less |x|^2, which all prefixes share, is ``sum_i |C^i|^2 -
  2 sum_i x . C^i + 2 sum_{i<j} C^i . C^j`` over its centroids. The dot products of centroids with each other are
  computed once, those with rows once for a block of rows, so extending a prefix by a centroid takes m additions.
  ``beam=1`` is greedy: each stage takes the centroid nearest to the residual.
- Fit (Chen, Guan and Wang 2010): C^m by k-means on the residuals that the previous codebooks leave of a sample. Then,
  `rounds` times (Martinez et al. 2016): all centroids by least squares, given the codes, ``min_C |X - B C|^2`` with
  B, (n, M k), the 0/1 matrix of the codes; then new codes. B^T B counts how often two centroids are used together. A
  small ridge term, which pulls centroids towards their previous values, keeps the system solvable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import Codec, Codes, Context, State, expect_planned, param, resolved
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.parallel import map_blocks, one_blas_thread
from embshrink.numerics.progress import Progress, count_progress, no_progress
from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray, Layout
from embshrink.storage.disk_rows import Matrix

BLOCK = 1024
RIDGE = 1e-3  # ridge as a share of a centroid's count: keeps the least squares solvable

CodeArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.integer]]


@dataclass(frozen=True)
class RQ(Codec):
    """Residual quantization: a vector is the sum of one centroid per codebook.

    Each codebook refines the residual that the previous ones leave. Use it below
    one bit per dimension, where it loses less than the other methods. It is slower to
    compress than `pq` and as fast to decode.

    Notes
    -----
    Chen, Guan and Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", Sensors 10 (2010);
    beam search as in Babenko and Lempitsky, CVPR 2014 (additive quantization). We deviate after the codebooks are
    learned one by one: `rounds` times, all codebooks are solved for together by least squares, given the codes, and
    rows are encoded again. This is the codebook update of Martinez et al., ECCV 2016 (LSQ).
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Chen et al. 2010; Babenko & Lempitsky 2014; Martinez et al. 2016"

    codebooks: int | None = param(None, "number of codebooks; a tenth of the columns by default", low=1,
                                  high=256)
    centroids: int = param(256, "centroids per codebook; a code takes 8 bits up to 256, else 16", low=1, high=4096)
    beam: int = param(8, "beam width of the encoder; wider loses less and takes longer", low=1, high=256)
    rounds: int = param(4, "joint least-squares updates of all codebooks", low=0, high=100)
    iterations: int = param(15, "maximum number of k-means iterations per codebook", low=1, high=1000)
    sample: int = param(65_536, "number of rows to train on", low=1)

    def resolve(self, n: int, d: int) -> RQ:
        codebooks = max(1, d // 10) if self.codebooks is None else self.codebooks
        centroids = min(self.centroids, n)
        return replace(self, codebooks=codebooks, centroids=centroids, sample=max(centroids, min(self.sample, n)))

    def with_bits(self, bits: float, c: int) -> RQ:
        width = 8 if self.centroids <= 256 else 16
        if bits < width:
            raise StepError("rq needs more bits per row", expected=f">= {width}", found=bits,
                            hint="Raise bits.")
        return replace(self, codebooks=min(256, int(bits // width)))

    def _code_dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(np.uint8) if self.centroids <= 256 else np.dtype(np.uint16)

    def plan(self, n: int, c: int) -> Layout:
        codebooks = resolved(self.codebooks)
        return {
            "state.codebooks": (np.dtype(np.float32), (codebooks, self.centroids, c)),
            "codes.codes": (self._code_dtype(), (n, codebooks)),
        }

    def fit(self, matrix: Matrix, context: Context) -> State:
        n, d = matrix.shape
        rows = np.sort(context.rng.choice(n, self.sample, replace=False))
        sample = np.ascontiguousarray(matrix[rows])
        stages = resolved(self.codebooks)
        codebooks: FloatArray = np.zeros((stages, self.centroids, d), np.float32)
        codes: IntArray = np.zeros((len(sample), 0), np.int64)
        residual = sample
        for stage in range(stages):
            codebooks[stage], _ = clustering.kmeans(residual, self.centroids, context.rng, iterations=self.iterations)
            codes = self._search(sample, codebooks[: stage + 1])
            residual = sample - _sum(codebooks, codes)
            context.progress("training rq", stage + 1, stages + self.rounds)
        for done in range(self.rounds):
            codebooks = _solve(sample, codes, codebooks)
            codes = self._search(sample, codebooks)
            context.progress("training rq", stages + done + 1, stages + self.rounds)
        return {"codebooks": codebooks}

    def _search(self, matrix: Matrix, codebooks: FloatArray, progress: Progress = no_progress) -> IntArray:
        """Encode rows by beam search; return the codes, (n, codebooks) int64."""
        from embshrink.kernels.beam import encode_beam

        stages, k, d = codebooks.shape
        centroids = codebooks.reshape(stages * k, d)
        with one_blas_thread():
            cross = centroids @ centroids.T
        squares = np.ascontiguousarray(np.diagonal(cross).reshape(stages, k))
        columns = np.ascontiguousarray(centroids.T)
        codes = np.empty((len(matrix), stages), np.int64)

        def work(start: int, stop: int) -> None:
            encode_beam(matrix[start:stop] @ columns, cross, squares, self.beam, codes[start:stop])

        map_blocks(work, len(matrix), BLOCK, count_progress(progress, "encoding", len(matrix)))
        return codes

    def encode(self, matrix: Matrix, state: State, context: Context) -> Codes:
        codes = self._search(matrix, np.asarray(state["codebooks"], np.float32), context.progress)
        return {"codes": codes.astype(self._code_dtype())}

    def decode(self, codes: Codes, state: State, rows: IntArray) -> FloatArray:
        labels = np.asarray(codes["codes"][rows], self._code_dtype())
        return _sum(np.asarray(state["codebooks"], np.float32), labels)

    def scores(self, codes: Codes, state: State, query: FloatArray) -> FloatArray:
        """Return the dot product of a vector and every decoded row, with one table lookup per codebook."""
        tables = np.asarray(state["codebooks"], np.float32) @ query.astype(np.float32)
        labels = np.asarray(codes["codes"], self._code_dtype())
        total: FloatArray = tables[0][labels[:, 0]]
        for stage in range(1, len(tables)):
            total += tables[stage][labels[:, stage]]
        return total

    def check(self, codes: Codes, state: State, n: int, c: int) -> None:
        if self.codebooks is None:
            raise FormatError("the header's rq step lacks the number of codebooks")
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes: Codes, state: State) -> None:
        labels = np.asarray(codes["codes"], self._code_dtype())
        if labels.size and int(labels.max()) >= self.centroids:
            raise FormatError("a code refers to a centroid that does not exist", expected=f"< {self.centroids}",
                              found=int(labels.max()))


def _sum(codebooks: FloatArray, codes: CodeArray) -> FloatArray:
    """Add up the centroids of each row, in the order of the codebooks."""
    total: FloatArray = codebooks[0][codes[:, 0]]
    for stage in range(1, codes.shape[1]):
        total = total + codebooks[stage][codes[:, stage]]
    return total


def _solve(sample: FloatArray, codes: IntArray, codebooks: FloatArray) -> FloatArray:
    """Fit all codebooks to rows by least squares, given the codes; unused centroids stay as they are."""
    from scipy.linalg import solve

    from embshrink.kernels.beam import count_pairs

    stages, k, d = codebooks.shape
    counts: DoubleArray = np.zeros((stages * k, stages * k))
    count_pairs(codes, k, counts)
    sums = np.concatenate([clustering.cluster_sums(sample, codes[:, stage], k)[0] for stage in range(stages)])
    used = np.diagonal(counts).copy()
    pull = np.where(used > 0, RIDGE * used, 1.0)
    counts[np.diag_indices_from(counts)] += pull
    with one_blas_thread():
        solved: DoubleArray = solve(counts, sums + pull[:, None] * codebooks.reshape(-1, d), assume_a="pos")
    return solved.reshape(stages, k, d).astype(np.float32)
