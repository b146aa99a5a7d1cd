"""The state that a file stores besides the blocks of rows, computed from a trial, and its size.

Centroids are coded like rows, with the tables of the rows. Their coefficients are rounded to multiples of half the
distance of two values (`centroid_unit`). They have their own axis levels, computed from the root mean square of each
column. Without trellis states, only the tables of the first quantizer are used, and there are no shifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embshrink.methods.ecq.blocks import block_starts
from embshrink.methods.ecq.coder import BIN_OF_SIZE, ROWS_AT_ONCE, Coder
from embshrink.methods.ecq.model import (
    FRACTION,
    LARGEST,
    MAX_BINS,
    TOTAL,
    UNIT,
    LabelCode,
    SizeTables,
    label_bits,
)
from embshrink.methods.ecq.statistics import TRIED_LEVELS, Statistics
from embshrink.methods.ecq.trial import CLASS_UNIT, Candidate, Trial, inverse_axes, levels_of
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.parallel import map_blocks

if TYPE_CHECKING:
    from embshrink.storage.arrays import AnyArray, DoubleArray, IntArray

BLOCK_END_BITS = 18.5  # approximate bits per block of the coder's last state
BLOCK_PLACE_BITS = 8.13  # approximate bits per block of its length and start
SPARE_LEVELS = 3  # levels in tables below and above the initial levels of rows


@dataclass(frozen=True)
class CodedCentroids:
    """Centroids as a file stores them.

    Parameters
    ----------
    axis_levels : numpy.ndarray, shape (m,), int64
        The initial level of each coefficient in the stored tables, in 1/256.
    data : bytes
        The blocks.
    lengths : numpy.ndarray, shape (blocks,), int64
        Bytes of each block.
    """

    axis_levels: IntArray
    data: bytes
    lengths: IntArray


@dataclass(frozen=True)
class CodedTables:
    """Tables as a file stores them, and the centroids coded with them.

    Parameters
    ----------
    tables : SizeTables
    lowest : int
        The first level of the tables, counted as while tables are learned.
    centroids : CodedCentroids
    """

    tables: SizeTables
    lowest: int
    centroids: CodedCentroids

    @property
    def nbytes(self) -> int:
        """Bytes of the tables, their shifts and the centroids."""
        return self.tables.frequencies.nbytes + self.tables.shifts.nbytes + len(self.centroids.data)

    @classmethod
    def smallest(cls, candidate: Candidate, trial: Trial) -> CodedTables:
        """Return the tables for the levels and sizes of rows, or also of centroids if this is smaller in total."""
        levels, row_levels = trial.axis_levels, trial.row_levels
        low, high = int(levels.min() + row_levels.min()), int(levels.max() + row_levels.max())
        largest = int(np.abs(trial.sizes).max())
        best = cls._trimmed(candidate, trial, low, high, largest)
        if len(candidate.centroids):
            sizes = candidate.centroid_sizes(trial.step, trial.axes)
            high = max(high, int(_root_mean_square_levels(sizes).max()))
            other = cls._trimmed(candidate, trial, low, high, max(largest, int(np.abs(sizes).max())))
            best = min(best, other, key=lambda stored: stored.nbytes)
        return best

    @classmethod
    def _trimmed(cls, candidate: Candidate, trial: Trial, low: int, high: int, largest: int) -> CodedTables:
        """Return the tables for levels from `low` to `high`, in 1/256, and sizes up to `largest`."""
        tables, lowest = _trim(trial.statistics, low, high, largest)
        return cls(tables, lowest, _code_centroids(candidate, trial, tables, lowest))


def _trim(statistics: Statistics, low: int, high: int, largest: int) -> tuple[SizeTables, int]:
    """Return tables for these levels, in 1/256, some more levels, and sizes up to `largest`; and the first level."""
    spare = SPARE_LEVELS << FRACTION
    first = min(max(0, low - spare >> FRACTION), TRIED_LEVELS - 1)
    end = min(TRIED_LEVELS, (high + spare >> FRACTION) + 1)
    last_bin = int(BIN_OF_SIZE[min(largest, LARGEST)])
    return statistics.rounded(first, max(end, first + 1), min(MAX_BINS, max(last_bin + 2, 2))), first


def _root_mean_square_levels(sizes: AnyArray) -> IntArray:
    """Return the level of the root mean square of each column of sizes (k, m), in 1/256."""
    return levels_of(np.sqrt(np.square(sizes.astype(np.float64)).mean(axis=0)))


def _code_centroids(candidate: Candidate, trial: Trial, tables: SizeTables, lowest: int) -> CodedCentroids:
    if not len(candidate.centroids):
        return CodedCentroids(np.zeros(trial.axes, np.int64), b"", np.zeros(0, np.int64))
    sizes = candidate.centroid_sizes(trial.step, trial.axes)
    axis_levels = _root_mean_square_levels(sizes) - (lowest << FRACTION)
    coder = Coder(*tables, candidate.codec.trellis, axis_levels, fixed=True)
    none = np.zeros(len(sizes), np.int64)
    return CodedCentroids(axis_levels, *coder.write(sizes, none, none, LabelCode(none[:0], 0), candidate.codec.block))


# ---------------------------------------------------------------- how much it takes


def total_bits(candidate: Candidate, trial: Trial) -> float:
    """Return all bits per row: those of the trial's coefficients plus `overhead`."""
    return trial.bits + overhead(candidate, trial)


def overhead(candidate: Candidate, trial: Trial) -> float:
    """Return the approximate bits per row of everything except the coefficients."""
    block, k, m, c = candidate.codec.block, len(candidate.centroids), trial.axes, candidate.basis.shape[1]
    stored, buckets = CodedTables.smallest(candidate, trial), len(candidate.sample.means)
    heads = label_bits(k)[0]
    nbytes = stored.nbytes + m * c + 4 * m  # basis and base
    nbytes += buckets * (2 * m + 12)  # means and the other arrays of buckets
    nbytes += k + 2 * heads + 2 * -(-k // block)  # classes, index, lengths of the centroids' blocks
    nbytes += 200  # the rest
    return _label_entropy(candidate) + (BLOCK_END_BITS + BLOCK_PLACE_BITS) / block + 8 * nbytes / candidate.sample.n


def _label_entropy(candidate: Candidate) -> float:
    """Return the bits per row of the centroid numbers."""
    k = len(candidate.centroids)
    if not k:
        return 0.0
    tail_bits = label_bits(k)[1]
    shares = np.bincount(candidate.labels, minlength=k) / len(candidate.labels)
    shares = np.add.reduceat(shares, np.arange(0, k, 1 << tail_bits))  # share of each head
    return tail_bits - float((shares * np.log2(np.maximum(shares, 1e-9))).sum())


# ---------------------------------------------------------------- the state


def state_of(candidate: Candidate, trial: Trial) -> dict[str, AnyArray]:
    """Return the arrays of `state` for a trial of all rows of the sample; docs/format.md describes them."""
    step, sample, unit = trial.step, candidate.sample, candidate.basis_unit
    stored = CodedTables.smallest(candidate, trial)
    coded = stored.centroids
    basis = np.ascontiguousarray(candidate.basis[: trial.axes])
    means: IntArray = np.rint(sample.means @ inverse_axes(basis, unit) / (step / UNIT)).astype(np.int64)
    scale = np.full(len(means), step / UNIT / UNIT * unit)
    if candidate.codec.norms:
        scale *= _stretch(candidate, trial, means)
    axis_levels = np.stack([trial.axis_levels - (stored.lowest << FRACTION), coded.axis_levels])
    return {
        "step": np.array([step, unit], np.float32), "scale": scale.astype(np.float32), "basis": basis,
        "means": means.astype(np.int16 if np.abs(means).max(initial=0) < 1 << 15 else np.int32),
        "weights": sample.weights, "prior": trial.bucket_levels.astype(np.int16),
        "base": axis_levels.astype(np.int16),
        "classes": (trial.centroid_levels // CLASS_UNIT).astype(np.int8), "index": _head_frequencies(candidate),
        "tables": stored.tables.frequencies, "shifts": stored.tables.shifts,
        "centroids": np.frombuffer(coded.data, np.uint8), "least": np.zeros(1, np.uint32),
        "lengths": coded.lengths.astype(narrowest_uint(int(coded.lengths.max(initial=0)))),
        "starts": block_starts(coded.lengths),
    }


def _stretch(candidate: Candidate, trial: Trial, means: IntArray) -> DoubleArray:
    """Return the factor, (buckets,), that restores the root mean square length of the rows of each bucket."""
    sample, m = candidate.sample, trial.axes
    multipliers = sample.multipliers
    centroids = candidate.centroid_values(trial.step, m)
    axes = candidate.basis[:m].astype(np.float64) * (candidate.basis_unit * trial.step / UNIT)

    def measure(start: int, stop: int) -> DoubleArray:
        part = slice(start, stop)
        buckets = sample.buckets[part]
        rebuilt = trial.rebuilt[part] * multipliers[part, None] + means[buckets]
        if len(centroids):
            rebuilt += centroids[candidate.labels[part]]
        before = sample.rows[part] + sample.means[buckets]
        return np.stack([np.bincount(buckets, np.square(rows).sum(axis=1), minlength=len(means))
                         for rows in (before, rebuilt @ axes)])

    before, after = np.sum(map_blocks(measure, len(sample.rows), ROWS_AT_ONCE), axis=0)
    ratio: DoubleArray = np.where(after > 0, before, 1) / np.where(after > 0, after, 1)
    return np.sqrt(ratio)


def _head_frequencies(candidate: Candidate) -> AnyArray:
    """Return the frequencies of the heads of centroid numbers, (heads,) uint16, of 4096; each at least 1."""
    k = len(candidate.centroids)
    if not k:
        return np.zeros(0, np.uint16)
    met = np.bincount(candidate.labels, minlength=k)
    counts = np.add.reduceat(met, np.arange(0, k, 1 << label_bits(k)[1]))
    shares = (counts + 0.5) / (counts + 0.5).sum()
    slots: IntArray = np.maximum(1, np.floor(shares * TOTAL)).astype(np.int64)
    while slots.sum() > TOTAL:
        slots[np.argmax(slots)] -= 1
    slots[np.argmax(slots)] += TOTAL - slots.sum()
    return slots.astype(np.uint16)
