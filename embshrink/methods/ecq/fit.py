"""What `ecq` decides when it writes: centroids, axes, step, tables; and writing the rows."""

from __future__ import annotations

import math

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.ecq.blocks import BLOCKS_PER_START, bucket_count, bucket_of, split_bits
from embshrink.methods.ecq.coder import (
    ESCAPE_PRICE,
    FIRST_OF_SIZE,
    ROWS,
    SLOPES,
    TRIED_LEVELS,
    ZERO_LEVEL,
    Coder,
    Tables,
    distance,
)
from embshrink.methods.ecq.model import (
    ESCAPED,
    FRACTION,
    LARGEST,
    LEVELS_PER_OCTAVE,
    MAX_SIZES,
    SHIFTED,
    TOTAL,
    UNIT,
    centroid_unit,
    parse_weights,
)
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.assignment import best_targets
from embshrink.numerics.kmeans import kmeans
from embshrink.numerics.linalg import column_means, eigen, gram
from embshrink.numerics.parallel import map_blocks, one_blas_thread

SAMPLE, SAMPLE_NUMBERS = 32_768, 4 << 20  # rows that everything is learned from, and numbers
TRIAL = 8_192  # rows that a step is tried on
LEARNT_ROWS, LEARNT_NUMBERS = 32, 20 << 20  # rows that a centroid is learned on, and numbers that all are
CENTROIDS = (4096, 1024, 256, 64, 16)
ROWS_PER_CENTROID = 16  # that a centroid must have to be worth trying
WORTH = 6  # bits a row that all centroids may take to be worth trying
DEARER = 100  # bits that a centroid takes beyond a row, about
ROUNDS = 6  # of k-means
DISTORTIONS = {0: 0.085, 4: 0.24, 8: 0.235}  # squared steps lost a number, about
ENDING = 18.5  # bits the coder's end takes a block
SAME = 1e-10  # of the square of a mean: rounding
NO_SPREAD = 2.0**-6  # in distances of values: less counts as so much
NEGLIGIBLE = 0.08  # axes behind the last one of more extent, in distances of values, are left out
FAINT = 1e-6  # weight of means and centroids when axes are chosen: they gather in few of those that rows leave free


# ---------------------------------------------------------------- fitting


def fit(codec, matrix, context):
    """Return the state of `codec` for a matrix (n, c): see docs/format.md for what is in it."""
    n, c = matrix.shape
    means = bucket_means(matrix)

    def centred(rows):
        sample, taken = matrix[rows], means.astype(np.float32)
        for start in range(0, len(rows), ROWS):  # not a second time as large
            part = slice(start, start + ROWS)
            sample[part] -= taken[bucket_of(rows[part])]
        return sample

    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLE, max(TRIAL, SAMPLE_NUMBERS // c))).astype(np.int64))
    choice = _Choice(codec, n, centred(rows), bucket_of(rows), means, _weights(codec.weights, n, context.weights))
    return choice.state(lambda count: centred(np.sort(context.rng.choice(n, min(count, n), replace=False))), context)


def bucket_means(matrix):
    """Return the mean of the rows of each rank bucket, (buckets, c) float64."""
    n = len(matrix)
    ends = [min((256 << bucket) - 1, n) for bucket in range(bucket_count(n))]
    return np.stack([column_means(matrix, None, start, end) if end > start else np.zeros(matrix.shape[1])
                     for start, end in zip([0, *ends], ends)])


def _weights(text, n, frequencies):
    """Return what the values of each bucket's rows are multiplied by, in 1/64."""
    name, power = parse_weights(text)
    buckets = bucket_of(np.arange(n))
    if name == "none":
        return np.full(bucket_count(n), UNIT, np.uint16)
    worth = (np.arange(n) + 1.0) ** -power if name == "zipf" else np.maximum(frequencies, 1e-12) ** power
    rows = np.maximum(np.bincount(buckets, minlength=bucket_count(n)), 1)
    mean = np.bincount(buckets, worth, minlength=bucket_count(n)) / rows
    steps = np.where(mean > 0, mean, 1) ** -0.5
    steps /= np.exp((np.log(steps) * rows).sum() / rows.sum())
    return np.clip(np.rint(steps * UNIT), 4, 1024).astype(np.uint16)


def _water(variances, bits):
    """Return the distortion a number at which numbers of these variances take so many bits: water-filling."""
    low, high = -60.0, math.log2(max(float(variances.max()), 1e-30)) + 1
    for _ in range(60):
        middle = (low + high) / 2
        if np.maximum(0, np.log2(np.maximum(variances, 1e-30)) - middle).sum() / 2 > bits:
            low = middle
        else:
            high = middle
    return 2.0**high


def nearest_centroids(matrix, centroids):
    """Return the nearest centroid of each row, (n,) int64."""
    return best_targets(matrix, centroids, np.einsum("ij,ij->i", centroids, centroids) * np.float32(-0.5))[0]


class _Choice:
    """Finds centroids, axes, step and tables for a sample of rows, their buckets' means taken off."""

    def __init__(self, codec, n, sample, buckets, means, weights):
        self.codec, self.n, self.sample, self.buckets, self.means = codec, n, sample, buckets, means
        self.weights = weights
        self.relative = weights[buckets].astype(np.float64) / UNIT

    def state(self, draw, context):
        """Return the state; ``draw(count)`` gives rows to learn centroids on."""
        codec = self.codec

        def trial(k):
            book = np.zeros((0, self.sample.shape[1]), np.float32)
            if k > 1:
                init = "k-means++" if k <= 256 else "random"
                most = max(LEARNT_NUMBERS // self.sample.shape[1], ROWS_PER_CENTROID * k)
                learnt = max(min(LEARNT_ROWS * k, most), TRIAL)
                book = kmeans(draw(learnt), k, context.rng, init=init, iterations=ROUNDS)[0]
            return _Trial(self, book)

        best = trial(1 if codec.centroids is None else codec.centroids)
        variances = best.variances
        if codec.step is not None and codec.bits is None:
            step = codec.step
            if step < 0.99 * best.least_step:
                raise StepError("ecq's step is too small for these vectors", found=step,
                                expected=f">= {best.least_step:.3g}")
        elif not variances.max() > SAME * np.square(self.means).sum(axis=1).max():  # rows are as their means
            return best.finish(max(float(np.abs(self.means).max()), 1e-6) / 1000, adjust=False)
        else:
            step = max(math.sqrt(_water(variances, codec.bits) / DISTORTIONS[codec.trellis]), best.least_step)
        if codec.centroids is None:
            best = self._cheapest(best, trial, step, context)
        if codec.bits is not None:
            step = best.find(step)
        context.progress("fitting ecq", len(CENTROIDS), len(CENTROIDS) + 1)
        return best.finish(step)

    def _cheapest(self, none, trial, step, context):
        """Return the trial with as many centroids as pay at this step: from many to few, until fewer are worse."""
        best, score = none, none.score(step)
        bits = np.log2(np.maximum(none.variances / (DISTORTIONS[self.codec.trellis] * step**2), 1)).sum() / 2
        done = 0
        for k in CENTROIDS:
            if k * ROWS_PER_CENTROID > self.n or k * (bits + DEARER) > WORTH * self.n:
                continue
            context.progress("fitting ecq", done, len(CENTROIDS) + 1)
            done += 1
            found = trial(k)
            reached = found.score(step)
            if reached < score:
                best, score = found, reached
            elif best is not none:
                break
        return best


class _Trial:
    """A set of axes and centroids, tried at one step after the other."""

    def __init__(self, choice, book):
        self.choice, self.codec, self.means = choice, choice.codec, choice.means
        self.labels, rest = np.zeros(len(choice.sample), np.int64), choice.sample
        taken = self.means[choice.buckets].astype(np.float32)  # off each row
        if len(book):
            labels = nearest_centroids(choice.sample, book)
            # The most used first, so that the heads of their numbers say something.
            order = np.argsort(-np.bincount(labels, minlength=len(book)), kind="stable")
            book, self.labels = book[order], np.argsort(order, kind="stable")[labels]
            rest = choice.sample - book[self.labels]
            taken += book[self.labels]
        self.book = book
        spent = gram(rest)
        axes = eigen(spent + FAINT * gram(taken))[1]
        self.variances = np.maximum(np.einsum("ij,ij->j", axes, spent @ axes), 0) / len(rest)
        peak = float(np.abs(axes).max())
        self.unit = float(np.float32(peak / 127))
        self.basis = np.clip(np.rint(axes.T / self.unit), -127, 127).astype(np.int8)
        self.inverse = inverse_axes(self.basis, self.unit)
        self.book_numbers = book @ self.inverse
        self.spread = np.sqrt(self._mean_squares(rest, choice.relative))
        self.extent = np.sqrt(np.square(self.spread) + self._mean_squares(taken, np.ones(len(taken))))
        self.tables = Tables.first(self.codec.trellis)
        reach = max(map_blocks(lambda start, stop: float(np.abs(
            self._along(choice.sample[start:stop], choice.relative[start:stop])).max()), len(rest), ROWS))
        self.reach = max(reach, float(np.abs(self.means).max()), 1e-30)
        self.least_step = self.reach / (ESCAPED // 2)

    def _along(self, vectors, relative):
        """Return the coordinates of rows along the axes, in the vectors' unit times what a row's values are worth."""
        return vectors.astype(np.float64) @ self.inverse / relative[:, None]

    def _mean_squares(self, vectors, relative):
        sums = map_blocks(lambda start, stop: np.square(
            self._along(vectors[start:stop], relative[start:stop])).sum(axis=0), len(vectors), ROWS)
        return sum(sums) / len(vectors)

    def score(self, step):
        """Return what is to be small: bits a row, and the error as bits that would undo it."""
        found = self.at(step, self._few(), self.tables, learn=2)
        self.tables = found[-1]
        lost = np.square(found[6] - found[8]).sum() / len(found[6])
        return found[0] + self._overhead(step, found) + found[1] / 2 * math.log2(max(lost, 1e-30))

    def _few(self):
        rows = np.arange(len(self.choice.sample))
        return rows[:: max(1, len(rows) // TRIAL)]

    # one step

    def at(self, step, rows, tables, learn=1):
        """Quantize some rows with one step, learning tables `learn` times before.

        Returns bits a row, axes, levels of axes, of buckets, of centroids and of rows, targets, sizes, values,
        and tables learned at last.
        """
        codec, choice = self.codec, self.choice
        apart = step * distance(codec.trellis) / UNIT
        m = 1 + int(np.flatnonzero(self.extent > NEGLIGIBLE * apart).max(initial=0))
        base = self._levels(self.spread[:m] / apart)
        usual = np.maximum(self.spread[:m], apart * NO_SPREAD) / step * UNIT
        book = self._book_values(step, m)
        targets, energy = np.empty((len(rows), m)), np.empty(len(rows))

        def aim(start, stop):
            part = rows[start:stop]
            own = self._along(choice.sample[part], choice.relative[part])[:, :m] / (step / UNIT)
            if len(book):
                own -= book[self.labels[part]] / choice.relative[part, None]
            targets[start:stop] = own
            energy[start:stop] = np.square(own / usual).mean(axis=1)

        map_blocks(aim, len(rows), ROWS)
        prior, classes = self._priors(energy, rows)
        levels = (prior[choice.buckets[rows]] + (16 * classes[self.labels[rows]] if len(classes) else 0))
        sizes, rebuilt = np.empty(targets.shape, np.int32), np.empty(targets.shape)
        for _ in range(learn + 1):
            coder = Coder(*tables.rounded(), codec.trellis, base)
            coder.choose_all(targets, levels, SLOPES[codec.trellis], sizes)
            counts, sums = coder.count(targets, sizes, levels, rebuilt)
            tables = tables.learned(counts, sums)
        price = np.where(coder.price < ESCAPE_PRICE, coder.price, coder.price[:, -1:])
        bits = float((counts * price).sum()) / len(rows)
        return bits, m, base, prior, classes, levels, targets, sizes, rebuilt, tables

    @staticmethod
    def _levels(spread):
        levels = LEVELS_PER_OCTAVE * np.log2(np.maximum(spread, NO_SPREAD)) + ZERO_LEVEL
        return np.rint(levels * (1 << FRACTION)).astype(np.int64)

    def _priors(self, energy, rows):
        """Return what buckets and centroids say of a row's levels: (buckets,) int16, and (k,) int8 in 1/16."""
        unit = LEVELS_PER_OCTAVE / 2 * (1 << FRACTION)
        classes = np.zeros(len(self.book), np.int64)
        if len(self.book):
            labels = self.labels[rows]
            met = np.bincount(labels, minlength=len(self.book))
            mean = (np.bincount(labels, energy, minlength=len(self.book)) + 4 * energy.mean()) / (met + 4)
            classes = np.clip(np.rint(np.log2(np.maximum(mean, 1e-6)) * unit / 16), -127, 127).astype(np.int64)
            energy = energy / 2.0 ** (16 * classes[labels] / unit)
        buckets = self.choice.buckets[rows]
        count = len(self.means)
        met = np.bincount(buckets, minlength=count)
        mean = (np.bincount(buckets, energy, minlength=count) + 4 * energy.mean()) / (met + 4)
        prior = np.clip(np.rint(np.log2(np.maximum(mean, 1e-6)) * unit), -30_000, 30_000)
        return prior.astype(np.int64), classes

    # the step for so many bits

    def find(self, step):
        """Return the step at which everything takes `codec.bits` a row."""
        few = self._few()
        log, tables = math.log(step), self.tables
        low = high = None  # (logarithm of a step, bits it takes too many) on either side
        for attempt in range(24):
            found = self.at(math.exp(log), few, tables, learn=2 if attempt == 0 else 1)
            tables = found[-1]
            over = found[0] + self._overhead(math.exp(log), found) - self.codec.bits
            low, high = ((log, over), high) if over > 0 else (low, (log, over))
            if -0.1 <= over <= 0 or (low and high and high[0] - low[0] < 1e-4) or (
                over <= 0 and log <= math.log(self.least_step)
            ):
                break
            if low and high:
                share = (low[1] + 0.05) / (low[1] - high[1])
                log = low[0] + min(max(share, 0.02), 0.98) * (high[0] - low[0])
            else:
                log += self._move(over + 0.05, found[1])
                log = max(log, math.log(self.least_step))
            if log > math.log(1e3 * self.reach):
                break
        if high is None:
            least = found[0] + self._overhead(math.exp(log), found)
            raise StepError("ecq cannot spend so few bits a row", expected=f">= {least:.4g}", found=self.codec.bits,
                            hint="Its tables weigh with few rows: set centroids=1, or use rq or pq.")
        self.tables = tables
        return math.exp(high[0])

    @staticmethod
    def _move(over, m):
        """Return by how much the logarithm of a step that takes `over` bits too many is to change."""
        return min(max(over * math.log(2) / max(m, 1), -3), 3)

    def _overhead(self, step, found):
        """Return the bits a row of everything but its coefficients."""
        n, k, block = self.choice.n, len(self.book), self.codec.block
        m = found[1]
        table, _, _, (_, _, book) = self._stored(step, found)
        index = 0.0
        if k:
            shares = np.bincount(self.labels, minlength=k) / len(self.labels)
            heads, tail = split_bits(k)
            shares = np.add.reduceat(shares, np.arange(0, k, 1 << tail))
            index = tail - float((shares * np.log2(np.maximum(shares, 1e-9))).sum())
        buckets, c = len(self.means), self.basis.shape[1]
        state = len(book) + m * c + table.size * 2 + table.shape[0] * table.shape[1] * SHIFTED + k + 4 * m
        state += buckets * (2 * m + 12) + 2 * split_bits(k)[0] + 2 * -(-k // block) + 200
        return index + (ENDING + 8.13) / block + 8 * state / n

    def _stored(self, step, found):
        """Return slots, shifts, the first level, and the centroids coded by these.

        Tables are for the levels and sizes that occur in rows, or also in centroids if that is smaller.
        """
        _, m, base, _, _, levels, _, sizes, _, tables = found
        low, high, largest = int(base.min() + levels.min()), int(base.max() + levels.max()), int(np.abs(sizes).max())
        trimmed = self._trimmed(tables, low, high, largest)
        best = *trimmed, self._book(step, m, *trimmed)
        if len(self.book):
            sizes = self._book_sizes(step, m)
            high, largest = max(high, int(self._book_base(sizes).max())), max(largest, int(np.abs(sizes).max()))
            trimmed = self._trimmed(tables, low, high, largest)
            other = *trimmed, self._book(step, m, *trimmed)
            best = min(best, other, key=lambda found: found[0].nbytes + found[1].nbytes + len(found[3][2]))
        return best

    @staticmethod
    def _trimmed(tables, low, high, largest):
        """Return slots and shifts for these levels and sizes, and the first level."""
        reach = 3 << FRACTION
        low = min(max(0, low - reach >> FRACTION), TRIED_LEVELS - 1)
        high = min(TRIED_LEVELS, (high + reach >> FRACTION) + 1)
        largest = int(FIRST_OF_SIZE[min(largest, LARGEST)])
        return *tables.rounded(low, max(high, low + 1), min(MAX_SIZES, max(largest + 2, 2))), low

    def _book_sizes(self, step, m):
        """Return the sizes of the centroids' coefficients, signed, (k, m) int32."""
        unit = step / UNIT * centroid_unit(self.codec.trellis)
        return np.clip(np.rint(self.book_numbers[:, :m] / unit), 1 - ESCAPED, ESCAPED - 1).astype(np.int32)

    def _book_values(self, step, m):
        """Return the centroids' coefficients as they are stored, in 1/64 steps."""
        return self._book_sizes(step, m) * float(centroid_unit(self.codec.trellis))

    def _book_base(self, sizes):
        return self._levels(np.sqrt(np.square(sizes.astype(np.float64)).mean(axis=0)))

    def _book(self, step, m, table, shifts, low):
        """Return the centroids' levels, lengths of blocks and bytes, coded with the rows' tables."""
        if not len(self.book):
            return np.zeros(m, np.int64), np.zeros(0, np.int64), b""
        sizes = self._book_sizes(step, m)
        base = self._book_base(sizes) - (low << FRACTION)
        coder = Coder(table, shifts, self.codec.trellis, base, fixed=True)
        levels = np.zeros(len(sizes), np.int64)
        none = np.zeros(len(sizes), np.int64)
        data, lengths = coder.write(sizes, levels, none, none, 0, none[:0], self.codec.block)
        return base, lengths, data

    def _stretch(self, found, step, means):
        """Return what to multiply each bucket's rows by, so that they are as long as before on average."""
        choice, m = self.choice, found[1]
        book, axes = self._book_values(step, m), self.basis[:m].astype(np.float64) * (self.unit * step / UNIT)

        def measure(start, stop):
            part = slice(start, stop)
            buckets = choice.buckets[part]
            rebuilt = found[8][part] * choice.relative[part, None] + means[buckets]
            if len(book):
                rebuilt += book[self.labels[part]]
            before = choice.sample[part] + choice.means[buckets]
            return [np.bincount(buckets, np.square(rows).sum(axis=1), minlength=len(means))
                    for rows in (before, rebuilt @ axes)]

        lengths = np.sum(map_blocks(measure, len(choice.sample), ROWS), axis=0)
        return np.sqrt(np.where(lengths[1] > 0, lengths[0], 1) / np.where(lengths[1] > 0, lengths[1], 1))

    # the end

    def finish(self, step, adjust=True):
        """Return the state for a step, or with `adjust` for one near it that keeps `codec.bits`, if that is set."""
        codec, choice = self.codec, self.choice
        rows, tables = np.arange(len(choice.sample)), self.tables
        found = self.at(step, rows, tables, learn=1)
        if adjust and codec.bits is not None:
            for _ in range(6):
                over = found[0] + self._overhead(step, found) - codec.bits
                if over <= -0.1 and (over >= -0.3 or step <= self.least_step):
                    break
                step = max(step * math.exp(self._move(over + 0.2, found[1])), self.least_step)
                tables, found = found[-1], None  # not two at a time
                found = self.at(step, rows, tables, learn=0)
        _, m, base, prior, classes = found[:5]
        table, shifts, low, (book_base, lengths, data) = self._stored(step, found)
        inverse = inverse_axes(self.basis[:m], self.unit)
        means = np.rint(self.means @ inverse / (step / UNIT)).astype(np.int64)
        index = np.zeros(0, np.int64)
        if len(self.book):
            met = np.bincount(self.labels, minlength=len(self.book))
            index = _slots(np.add.reduceat(met, np.arange(0, len(met), 1 << split_bits(len(met))[1])))
        least = int(lengths.min(initial=0)) if len(lengths) else 0
        ends = np.cumsum(lengths)
        scale = np.full(len(means), step / UNIT / UNIT * self.unit)
        if codec.norms:
            scale *= self._stretch(found, step, means)
        return {
            "step": np.array([step, self.unit], np.float32), "scale": scale.astype(np.float32),
            "basis": np.ascontiguousarray(self.basis[:m]),
            "means": means.astype(_narrowest_int(means)), "weights": choice.weights,
            "prior": prior.astype(np.int16), "base": np.stack([base - (low << FRACTION), book_base]).astype(np.int16),
            "classes": classes.astype(np.int8), "index": index.astype(np.uint16), "tables": table, "shifts": shifts,
            "centroids": np.frombuffer(data, np.uint8), "least": np.array([least], np.uint32),
            "lengths": (lengths - least).astype(narrowest_uint(int((lengths - least).max(initial=0)))),
            "starts": (ends - lengths)[::BLOCKS_PER_START].astype(np.uint64),
        }


def inverse_axes(basis, unit):
    """Return what rows (c,) are multiplied by for their coordinates along axes (m, c) that are nearly orthonormal."""
    basis = basis * unit
    with one_blas_thread():
        return np.linalg.solve(basis @ basis.T, basis).T


def _narrowest_int(values):
    return np.int16 if np.abs(values).max(initial=0) < 1 << 15 else np.int32


def _slots(counts):
    """Return how many of 4096 slots each count gets; at least one."""
    shares = (counts + 0.5) / (counts + 0.5).sum()
    slots = np.maximum(1, np.floor(shares * TOTAL)).astype(np.int64)
    while slots.sum() > TOTAL:
        slots[np.argmax(slots)] -= 1
    slots[np.argmax(slots)] += TOTAL - slots.sum()
    return slots
