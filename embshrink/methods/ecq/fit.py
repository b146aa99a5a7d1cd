"""The fit of `ecq`: it finds the number of centroids, the axes, the step size and the tables.

*The first step size tried* follows from reverse water-filling: for independent Gaussian coefficients with variances
var[j], the best use of R bits per row gives all coefficients the same error D, or the error var[j] if that is less
(Cover and Thomas, Elements of Information Theory, 1991, section 13.3.3):

    R = sum over j of max(0, log2(var[j] / D) / 2)

D is found by bisection. A quantizer has an error of about D = c step^2 per coefficient, with c in `DISTORTIONS`.

*The number of centroids* is chosen at this step size. With m axes, one more bit per coefficient divides the error by
4: m more bits lower log2(error) by 2. Candidates of different error are therefore compared by bits + m / 2
log2(error), which is the bits they would take if all had the same error, up to a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.base import TooFewBits
from embshrink.methods.ecq.coder import ROWS_AT_ONCE
from embshrink.methods.ecq.measure import measured_bits
from embshrink.methods.ecq.model import bucket_count, bucket_of
from embshrink.methods.ecq.search import find_measured, find_step, find_step_for, settle
from embshrink.methods.ecq.statistics import Statistics
from embshrink.methods.ecq.stored import state_of, total_bits
from embshrink.methods.ecq.trial import TRIAL_ROWS, Candidate, Sample, Trial
from embshrink.methods.ecq.weights import bucket_weights
from embshrink.numerics.kmeans import kmeans
from embshrink.numerics.linalg import column_means

if TYPE_CHECKING:
    from embshrink.methods.base import Context, State
    from embshrink.methods.ecq.model import Settings
    from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray
    from embshrink.storage.disk_rows import Matrix

SAMPLE_ROWS, SAMPLE_NUMBERS = 32_768, 4 << 20  # limits of the sample: rows, and numbers
LEARNT_ROWS, LEARNT_NUMBERS = 32, 20 << 20  # rows per centroid for k-means, and limit of numbers in all
CENTROIDS = (4096, 1024, 256, 64, 16)
ROWS_PER_CENTROID = 16  # minimum for a number of centroids to be tried
WORTH = 6  # maximum of bits per row that all centroids may take to be tried
DEARER = 100  # approximate bits that a centroid takes more than a row
ROUNDS = 6  # iterations of k-means
DISTORTIONS = {0: 0.085, 4: 0.24, 8: 0.235}  # by trellis: approximate error per coefficient, in squared steps
FIRST_BITS = 3.0  # per number: the step size of the first trial for a goal
CLOSE, CLOSE_BYTES = 0.2, 64  # bits per row, or bytes of the table, below the bits requested that are close enough
FAR = 1e6  # times the largest coordinate: a larger step gives the same rows, all means
SAME = 1e-10  # relative to the square of a mean; smaller variances are rounding errors


class _Scored(NamedTuple):
    """A candidate, its statistics at the step size tried, and its score; lower is better."""

    candidate: Candidate
    statistics: Statistics
    score: float


class _Measured(NamedTuple):
    """A state, and the bits per row that the table takes with it."""

    bits: float
    state: State


def fit(codec: Settings, matrix: Matrix, context: Context) -> State:
    """Return the state of `codec` for a matrix (n, c); docs/format.md describes its arrays.

    Raises
    ------
    StepError
        If the step size is too small for the largest coordinates, or `bits` is too small.
    """
    n, c = matrix.shape
    means = bucket_means(matrix)

    def centred(rows: IntArray) -> FloatArray:
        sample, taken = matrix[rows], means.astype(np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):  # avoids a temporary array of the same size
            part = slice(start, start + ROWS_AT_ONCE)
            sample[part] -= taken[bucket_of(rows[part])]
        return sample

    def draw(count: int) -> FloatArray:
        return centred(np.sort(context.rng.choice(n, min(count, n), replace=False)))

    count = min(n, SAMPLE_ROWS, max(TRIAL_ROWS, SAMPLE_NUMBERS // c))
    rows = np.unique(np.linspace(0, n - 1, count).astype(np.int64))
    weights = bucket_weights(codec.weights, n, context.weights)
    words = np.ones(len(rows), np.int64) if context.words is None else context.words[rows]
    sample = Sample(n, centred(rows), bucket_of(rows), means, weights, words)
    return _Fit(codec, sample, draw, lambda state: measured_bits(codec, matrix, state), context).state()


def bucket_means(matrix: Matrix) -> DoubleArray:
    """Return the mean row of each rank bucket, (buckets, c) float64."""
    n = len(matrix)
    ends = [min((256 << bucket) - 1, n) for bucket in range(bucket_count(n))]
    return np.stack([column_means(matrix, None, start, end) if end > start else np.zeros(matrix.shape[1])
                     for start, end in zip([0, *ends], ends)])


class _Fit:
    """Finds centroids, axes, step size and tables for a sample of rows.

    Parameters
    ----------
    codec : Settings
    sample : Sample
    draw : callable
        ``draw(count)`` returns up to `count` random rows for k-means, less the means of their buckets.
    measure : callable
        ``measure(state)`` returns the bits per row that the table takes with a state.
    context : embshrink.methods.base.Context
    """

    def __init__(
        self, codec: Settings, sample: Sample, draw: Callable[[int], FloatArray],
        measure: Callable[[State], float], context: Context,
    ) -> None:
        self.codec, self.sample, self.draw, self.measure, self.context = codec, sample, draw, measure, context

    def state(self) -> State:
        """Return the state for the codec's bits or step size."""
        codec, means = self.codec, self.sample.means
        candidate, statistics = self._candidate(codec.centroids or 1), Statistics.initial(codec.trellis)
        bits, variances, least_step = codec.bits, candidate.variances, candidate.least_step
        goal = self.context.goal
        if goal is not None:
            bits = FIRST_BITS * len(variances)  # per row, to begin with
        if bits is None:
            step = min(codec.step or 0.0, FAR * candidate.reach)  # `resolve` ensures that one of them is given
            if step < 0.99 * least_step:
                found, least = (math.ldexp(one, self.context.unit) for one in (step, least_step))
                raise StepError("the step of ecq is too small for these vectors", found=found,
                                expected=f">= {least:.3g}", hint="Raise step, or use bits instead.")
        elif not variances.max() > SAME * np.square(means).sum(axis=1).max():  # all rows equal their means
            step = max(float(np.abs(means).max()), 1e-6) / 1000
            return state_of(candidate, settle(candidate, step, statistics))
        else:
            step = math.sqrt(water_level(variances, bits) / DISTORTIONS[codec.trellis])
            step = max(step, least_step)
        if codec.centroids is None:
            candidate, statistics, _ = self._cheapest(self._score(candidate, step), step)
        self._report(len(CENTROIDS))
        if goal is None and bits is not None:
            return self._within(bits, candidate, step, statistics)
        if goal is not None:
            step, statistics = find_step_for(goal, candidate, step, statistics)
            self._report(len(CENTROIDS) + 0.5)
        return state_of(candidate, settle(candidate, step, statistics))

    def _within(self, bits: float, candidate: Candidate, step: float, statistics: Statistics) -> State:
        """Return the state for the smallest step size with at most `bits` per row.

        If the centroids take too many bits, fewer are used, unless their number was given.
        """
        try:
            step, statistics = find_step(candidate, bits, step, statistics)
            self._report(len(CENTROIDS) + 0.5)
            return self._settled(bits, candidate, step, statistics)
        except TooFewBits:
            if self.codec.centroids is not None or not len(candidate.centroids):
                raise
        fewer = next((k for k in CENTROIDS if k < len(candidate.centroids)), 1)
        return self._within(bits, self._candidate(fewer, len(CENTROIDS)), step,
                            Statistics.initial(self.codec.trellis))

    def _settled(self, bits: float, candidate: Candidate, step: float, statistics: Statistics) -> State:
        """Correct a step size until the bits per row, as measured, are at most `bits` and close to it."""
        close = min(max(min(CLOSE, bits / 100), 8 * CLOSE_BYTES / self.sample.n), bits / 20)
        tried: list[_Measured] = []

        def over(trial: Trial) -> float:
            state = state_of(candidate, trial)
            tried.append(_Measured(self.measure(state), state))
            return tried[-1].bits - bits

        find_measured(candidate, over, close, step, statistics)
        kept = [one for one in tried if one.bits <= bits]
        if not kept:
            raise TooFewBits("ecq needs more bits per row", bits, min(one.bits for one in tried) + CLOSE)
        return max(kept, key=lambda one: one.bits).state

    def _report(self, done: float) -> None:
        """Report how many numbers of centroids were tried; the step is found last."""
        self.context.progress("fitting ecq", round(ROUNDS * done), ROUNDS * (len(CENTROIDS) + 1))

    def _candidate(self, k: int, done: int = 0) -> Candidate:
        """Return the candidate with k centroids, found by k-means; with none if k is 1. `done` were tried before."""
        c = self.sample.rows.shape[1]
        centroids: FloatArray = np.zeros((0, c), np.float32)
        if k > 1:
            most = max(LEARNT_NUMBERS // c, ROWS_PER_CENTROID * k)
            rows = self.draw(max(min(LEARNT_ROWS * k, most), TRIAL_ROWS))
            init = "k-means++" if k <= 256 else "random"
            centroids = kmeans(rows, k, self.context.rng, init=init, iterations=ROUNDS,
                               progress=lambda stage, turn, turns: self._report(done + turn / (ROUNDS + 1)))[0]
        return Candidate(self.codec, self.sample, centroids)

    def _score(self, candidate: Candidate, step: float) -> _Scored:
        """Score a candidate at a step size: bits per row, plus bits for its error (see the top of this file)."""
        statistics = Statistics.initial(self.codec.trellis)
        trial = candidate.try_step(step, self.sample.few, statistics, learn=2)
        score = total_bits(candidate, trial) + trial.axes / 2 * math.log2(max(trial.distortion, 1e-30))
        return _Scored(candidate, trial.statistics, score)

    def _cheapest(self, none: _Scored, step: float) -> _Scored:
        """Return the candidate of lowest score at this step size.

        Numbers of centroids are tried from many to few, until fewer are worse. ``WORTH * n`` limits the bits that all
        centroids may take.
        """
        n, variances = self.sample.n, none.candidate.variances
        best = none
        bits = np.log2(np.maximum(variances / (DISTORTIONS[self.codec.trellis] * step**2), 1)).sum() / 2
        done = 0
        for k in CENTROIDS:
            if k * ROWS_PER_CENTROID > n or k * (bits + DEARER) > WORTH * n:
                continue
            self._report(done)
            found = self._score(self._candidate(k, done), step)
            done += 1
            if found.score < best.score:
                best = found
            elif best is not none:
                break
        return best


def water_level(variances: DoubleArray, bits: float) -> float:
    """Return the error D per coefficient of reverse water-filling at `bits` bits: see the top of this file."""
    low, high = -60.0, math.log2(max(float(variances.max()), 1e-30)) + 1
    for _ in range(60):
        middle = (low + high) / 2
        if np.maximum(0, np.log2(np.maximum(variances, 1e-30)) - middle).sum() / 2 > bits:
            low = middle
        else:
            high = middle
    return float(2.0**high)
