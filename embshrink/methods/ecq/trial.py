"""The bits and the error of a setting of `ecq`, tried on a sample of the rows.

A `Candidate` is a set of centroids with the axes that fit the residuals; it does not depend on the step size. A
`Trial` is a candidate at one step size, with the levels, sizes and statistics that result.

*Axes.* The axes are the eigenvectors of the second moments of the residuals (the Karhunen-Loeve transform). They are
stored as int8, so they are only nearly orthonormal. Coordinates are found by least squares for the stored axes A,
(m, c): ``x A^T (A A^T)^-1``.

*Levels.* With s[j] the root mean square of the coefficients of axis j, in 1/256 of a level:

    axis_levels[j] = 256 (4 log2(s[j] / distance of two values) + 24)

To this, a bucket and a centroid add the relative mean energy of their rows. The energy of row i is
e[i] = mean over j of (x[i, j] / s[j])^2. Means are smoothed as if 4 rows of the overall mean energy were added:

    centroid_levels[k] = 512 log2(mean of e over its rows), a multiple of 16
    bucket_levels[b] = 512 log2(mean over its rows of e / 2^(centroid_levels / 512))

The factor 512 is 256 * 4 / 2, because an octave of energy is half an octave of size. In a file, axis levels are
relative to the first level of its tables (`embshrink.methods.ecq.stored`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.coder import ROWS_AT_ONCE, SLOPES, Coder
from embshrink.methods.ecq.model import (
    ESCAPED,
    FRACTION,
    LEVELS_PER_OCTAVE,
    UNIT,
    SizeArray,
    Uint16Array,
    centroid_unit,
    spacing,
)
from embshrink.methods.ecq.statistics import ZERO_LEVEL, Statistics
from embshrink.numerics.assignment import best_targets
from embshrink.numerics.linalg import eigen, gram
from embshrink.numerics.parallel import map_blocks, one_blas_thread

if TYPE_CHECKING:
    from embshrink.methods.ecq.model import Int8Array, Settings
    from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray

TRIAL_ROWS = 8_192  # approximate number of rows on which a step size is tried
NO_SPREAD = 2.0**-6  # minimum standard deviation in levels, in distances of two values
NEGLIGIBLE = 0.08  # in distances of two values: axes after the last one of larger extent are dropped
FAINT = 1e-6  # weight of means and centroids in the axes: concentrates them on few of the axes without residuals
SMOOTHING = 4  # rows of the overall mean energy that are added to those of a bucket or centroid
ENERGY_LEVELS = LEVELS_PER_OCTAVE / 2 * (1 << FRACTION)  # an octave of energy in 1/256 level: half an octave of size
CLASS_UNIT = 16  # levels of centroids are multiples of 16/256


@dataclass(frozen=True)
class Sample:
    """The sample of rows from which the state is learned.

    Parameters
    ----------
    n : int
        Rows of the whole table.
    rows : numpy.ndarray, shape (s, c), float32
        The sampled rows, less the mean of their bucket.
    buckets : numpy.ndarray, shape (s,), int64
        Rank bucket of each sampled row.
    means : numpy.ndarray, shape (buckets, c), float64
        Mean row of each bucket.
    weights : numpy.ndarray, shape (buckets,), uint16
        Relative step size of each bucket: the factor for decoded values, in 1/64.
    words : numpy.ndarray, shape (s,), int64
        Number of words that share each sampled row.
    """

    n: int
    rows: FloatArray
    buckets: IntArray
    means: DoubleArray
    weights: Uint16Array
    words: IntArray

    @property
    def multipliers(self) -> DoubleArray:
        """The relative step size of each row, (s,): the factor for its decoded values."""
        return self.weights[self.buckets].astype(np.float64) / UNIT

    @property
    def few(self) -> IntArray:
        """The rows on which a step size is tried."""
        return np.arange(len(self.rows))[:: max(1, len(self.rows) // TRIAL_ROWS)]


@dataclass(frozen=True)
class Trial:
    """A candidate at one step size.

    Parameters
    ----------
    step : float
        Step size, in the unit of the vectors.
    bits : float
        Bits per row of the coefficients.
    axis_levels, bucket_levels, centroid_levels : numpy.ndarray, shape (m,), (buckets,), (centroids,), int64
        The terms of the initial level of a coefficient, in 1/256.
    row_levels : numpy.ndarray, shape (s,), int64
        The sum of the bucket's and the centroid's level of each row tried.
    targets, rebuilt : numpy.ndarray, shape (s, m), float64
        Coefficients before and after quantization, in 1/64 steps.
    sizes : numpy.ndarray, shape (s, m), int32
        Signed sizes.
    statistics : Statistics
        Statistics of these sizes.
    """

    step: float
    bits: float
    axis_levels: IntArray
    bucket_levels: IntArray
    centroid_levels: IntArray
    row_levels: IntArray
    targets: DoubleArray
    sizes: SizeArray
    rebuilt: DoubleArray
    statistics: Statistics

    @property
    def axes(self) -> int:
        """Number of axes that have coefficients."""
        return len(self.axis_levels)

    @property
    def distortion(self) -> float:
        """Mean squared error of a row, in squares of 1/64 steps."""
        return float(np.square(self.targets - self.rebuilt).sum() / len(self.targets))


class Candidate:
    """Centroids, and axes for the residuals, to be tried at several step sizes.

    Parameters
    ----------
    codec : Settings
    sample : Sample
    centroids : numpy.ndarray, shape (k, c), float32
        Empty (k = 0), or at least two.

    Attributes
    ----------
    centroids : numpy.ndarray, shape (k, c), float32
        The most used centroid first.
    labels : numpy.ndarray, shape (s,), int64
        Centroid of each sampled row.
    basis : numpy.ndarray, shape (c, c), int8
        Axes as rows, in descending order of variance, in `basis_unit`.
    variances : numpy.ndarray, shape (c,), float64
        Variance of the residuals along each axis.
    spread, extent : numpy.ndarray, shape (c,), float64
        Root mean square of the coordinates along each axis: of the residuals, and including means and centroids.
    reach, least_step : float
        The largest coordinate, and the smallest step size for which it still has a size.
    """

    def __init__(self, codec: Settings, sample: Sample, centroids: FloatArray) -> None:
        self.codec, self.sample = codec, sample
        self.labels, rest = np.zeros(len(sample.rows), np.int64), sample.rows
        taken = sample.means[sample.buckets].astype(np.float32)  # subtracted from each row
        if len(centroids):
            labels = nearest_centroids(sample.rows, centroids)
            # The most used first, so that centroids with the same head are about equally frequent.
            order = np.argsort(-np.bincount(labels, minlength=len(centroids)), kind="stable")
            centroids, self.labels = centroids[order], np.argsort(order, kind="stable")[labels]
            rest = sample.rows - centroids[self.labels]
            taken += centroids[self.labels]
        self.centroids = centroids
        spent = gram(rest)
        axes = eigen(spent + FAINT * gram(taken))[1]
        self.variances: DoubleArray = np.maximum(np.einsum("ij,ij->j", axes, spent @ axes), 0) / len(rest)
        self.basis_unit = float(np.float32(float(np.abs(axes).max()) / 127))
        self.basis: Int8Array = np.clip(np.rint(axes.T / self.basis_unit), -127, 127).astype(np.int8)
        self._inverse = inverse_axes(self.basis, self.basis_unit)
        self._centroid_coordinates = centroids @ self._inverse
        self._multipliers = sample.multipliers
        self.spread: DoubleArray = np.sqrt(self._mean_squares(rest, self._multipliers))
        ones = np.ones(len(taken))
        self.extent: DoubleArray = np.sqrt(np.square(self.spread) + self._mean_squares(taken, ones))
        reach = max(map_blocks(lambda start, stop: float(np.abs(
            self._along(sample.rows[start:stop], self._multipliers[start:stop])).max()), len(rest), ROWS_AT_ONCE))
        self.reach = max(reach, float(np.abs(sample.means).max()), 1e-30)
        self.least_step = self.reach / (ESCAPED // 2)

    def _along(self, vectors: FloatArray, multipliers: DoubleArray) -> DoubleArray:
        """Return the coordinates of rows along the axes, divided by the relative step size of each row."""
        found: DoubleArray = vectors.astype(np.float64) @ self._inverse / multipliers[:, None]
        return found

    def _mean_squares(self, vectors: FloatArray, multipliers: DoubleArray) -> DoubleArray:
        sums = map_blocks(lambda start, stop: np.square(
            self._along(vectors[start:stop], multipliers[start:stop])).sum(axis=0), len(vectors), ROWS_AT_ONCE)
        total: DoubleArray = functools.reduce(np.add, sums)
        return total / len(vectors)

    def try_step(self, step: float, rows: IntArray, statistics: Statistics, learn: int = 1) -> Trial:
        """Quantize some rows of the sample with one step size.

        Parameters
        ----------
        step : float
            Step size, in the unit of the vectors.
        rows : numpy.ndarray, shape (s,), int64
            Indices of rows of the sample.
        statistics : Statistics
            Statistics for the first tables.
        learn : int
            How many times to learn statistics from the sizes and to choose sizes again.
        """
        axis_levels, targets, energy = self._targets(step, rows)
        bucket_levels, centroid_levels = self._priors(energy, rows)
        row_levels = bucket_levels[self.sample.buckets[rows]]
        if len(centroid_levels):
            row_levels = row_levels + centroid_levels[self.labels[rows]]
        sizes, rebuilt = np.empty(targets.shape, np.int32), np.empty(targets.shape)
        for _ in range(learn + 1):
            coder = Coder(*statistics.rounded(), self.codec.trellis, axis_levels)
            coder.choose_all(targets, row_levels, SLOPES[self.codec.trellis], sizes)
            counts, sums = coder.count(targets, sizes, row_levels, rebuilt)
            statistics = statistics.updated(counts, sums)
        return Trial(step, coder.bits(counts) / len(rows), axis_levels, bucket_levels, centroid_levels, row_levels,
                     targets, sizes, rebuilt, statistics)

    def _targets(self, step: float, rows: IntArray) -> tuple[IntArray, DoubleArray, DoubleArray]:
        """Return the levels of the axes, and the coefficients (s, m), in 1/64 steps, and energy (s,) of some rows."""
        apart = step * spacing(self.codec.trellis) / UNIT
        m = 1 + int(np.flatnonzero(self.extent > NEGLIGIBLE * apart).max(initial=0))
        usual = np.maximum(self.spread[:m], apart * NO_SPREAD) / step * UNIT
        centroids = self.centroid_values(step, m)
        targets, energy = np.empty((len(rows), m)), np.empty(len(rows))

        def work(start: int, stop: int) -> None:
            part = rows[start:stop]
            own = self._along(self.sample.rows[part], self._multipliers[part])[:, :m] / (step / UNIT)
            if len(centroids):
                own -= centroids[self.labels[part]] / self._multipliers[part, None]
            targets[start:stop] = own
            energy[start:stop] = np.square(own / usual).mean(axis=1)

        map_blocks(work, len(rows), ROWS_AT_ONCE)
        return levels_of(self.spread[:m] / apart), targets, energy

    def _priors(self, energy: DoubleArray, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the levels of buckets and of centroids, in 1/256: see the top of this file."""
        centroid_levels = np.zeros(len(self.centroids), np.int64)
        if len(self.centroids):
            labels = self.labels[rows]
            mean = _smooth_means(energy, labels, len(self.centroids))
            classes = np.clip(np.rint(np.log2(np.maximum(mean, 1e-6)) * ENERGY_LEVELS / CLASS_UNIT), -127, 127)
            centroid_levels = CLASS_UNIT * classes.astype(np.int64)
            energy = energy / 2.0 ** (centroid_levels[labels] / ENERGY_LEVELS)
        mean = _smooth_means(energy, self.sample.buckets[rows], len(self.sample.means))
        bucket_levels = np.clip(np.rint(np.log2(np.maximum(mean, 1e-6)) * ENERGY_LEVELS), -30_000, 30_000)
        return bucket_levels.astype(np.int64), centroid_levels

    def rebuild(self, trial: Trial, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return rows of the sample, (s, c) float32, before and after a trial of them."""
        m, unit = trial.axes, trial.step / UNIT
        found = np.zeros((len(rows), self.basis.shape[0]))
        found[:, :m] = trial.rebuilt * self._multipliers[rows, None]
        if len(self.centroids):
            found[:, :m] += self.centroid_values(trial.step, m)[self.labels[rows]]
        before = self.sample.rows[rows]
        after = (found * (unit * self.basis_unit)) @ self.basis
        means = self.sample.means[self.sample.buckets[rows]]
        return (before + means).astype(np.float32), (after + means).astype(np.float32)

    def centroid_sizes(self, step: float, m: int) -> SizeArray:
        """Return the signed sizes of the coefficients of all centroids, (k, m) int32."""
        unit = step / UNIT * centroid_unit(self.codec.trellis)
        sizes = np.rint(self._centroid_coordinates[:, :m] / unit)
        return np.clip(sizes, 1 - ESCAPED, ESCAPED - 1).astype(np.int32)

    def centroid_values(self, step: float, m: int) -> DoubleArray:
        """Return the coefficients of all centroids as they are stored, (k, m), in 1/64 steps."""
        return self.centroid_sizes(step, m).astype(np.float64) * centroid_unit(self.codec.trellis)


def levels_of(spread: DoubleArray) -> IntArray:
    """Return the levels, in 1/256, of standard deviations in distances of two values."""
    levels = LEVELS_PER_OCTAVE * np.log2(np.maximum(spread, NO_SPREAD)) + ZERO_LEVEL
    rounded: IntArray = np.rint(levels * (1 << FRACTION)).astype(np.int64)
    return rounded


def _smooth_means(energy: DoubleArray, groups: IntArray, count: int) -> DoubleArray:
    """Return the mean energy of each group, with `SMOOTHING` rows of the overall mean added."""
    met = np.bincount(groups, minlength=count)
    sums = np.bincount(groups, energy, minlength=count).astype(np.float64)
    means: DoubleArray = (sums + SMOOTHING * float(energy.mean())) / (met + SMOOTHING)
    return means


def nearest_centroids(matrix: FloatArray, centroids: FloatArray) -> IntArray:
    """Return the nearest centroid of each row, (n,); unlike in `numerics.kmeans`, always by matrix products."""
    offsets: FloatArray = np.einsum("ij,ij->i", centroids, centroids) * np.float32(-0.5)
    nearest: IntArray = best_targets(matrix, centroids, offsets)[0]
    return nearest


def inverse_axes(basis: AnyArray, unit: float) -> DoubleArray:
    """Return the matrix (c, m) that maps rows to least-squares coordinates along axes (m, c) times `unit`."""
    axes = np.asarray(basis, np.int8) * unit
    with one_blas_thread():
        solution: DoubleArray = np.linalg.solve(axes @ axes.T, axes)
    return solution.T
