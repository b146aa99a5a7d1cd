"""What `ecq` decides when it writes: centroids, axes, step, tables; and writing the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.ecq.blocks import BLOCKS_PER_START, bucket_count, bucket_of, split_bits
from embshrink.methods.ecq.codec import centroid_unit, parse_weights
from embshrink.methods.ecq.model import (
    BASE,
    ESCAPED,
    FRACTION,
    LARGEST,
    LEVELS_PER_OCTAVE,
    MAX_SIZES,
    RAW,
    SHIFTED,
    TOTAL,
    UNIT,
    Model,
    gains,
    value_of,
)
from embshrink.numerics.arrays import narrowest_uint
from embshrink.numerics.assignment import best_targets
from embshrink.numerics.kmeans import kmeans
from embshrink.numerics.linalg import column_means, eigen, gram
from embshrink.numerics.parallel import blocks, map_blocks, one_blas_thread
from embshrink.storage.disk_rows import Pile

SAMPLE, SAMPLE_NUMBERS = 32_768, 4 << 20  # rows that everything is learned from, and numbers
TRIAL = 8_192  # rows that a step is tried on
LEARNT_ROWS, LEARNT_NUMBERS = 32, 20 << 20  # rows that a centroid is learned on, and numbers that all are
CENTROIDS = (4096, 1024, 256, 64, 16)
ROWS_PER_CENTROID = 16  # that a centroid must have to be worth trying
WORTH = 6  # bits a row that all centroids may take to be worth trying
DEARER = 100  # bits that a centroid takes beyond a row, about
ROUNDS = 6  # of k-means
SLOPES = {0: 0.14, 4: 0.5, 8: 0.5}  # squared steps that a bit is worth
DISTORTIONS = {0: 0.085, 4: 0.24, 8: 0.235}  # squared steps lost a number, about
ROWS = 2048  # coded at a time
PARTS = 64  # times as many until what was coded is put away
ZERO_LEVEL = 24  # of a number as large as the distance of its values, while tables are learned
TRIED_LEVELS = 88
ESCAPE_PRICE = 1e5  # bits from which on a size has no symbol in a table
ENDING = 18.5  # bits the coder's end takes a block
SAME = 1e-10  # of the square of a mean: rounding
NO_SPREAD = 2.0**-6  # in distances of values: less counts as so much
NEGLIGIBLE = 0.08  # axes behind the last one of more extent, in distances of values, are left out
FAINT = 1e-6  # weight of means and centroids when axes are chosen: they gather in few of those that rows leave free
FIRST_OF_SIZE = np.repeat(np.arange(MAX_SIZES), 1 << RAW)
FIRST_OF_SIZE = np.append(FIRST_OF_SIZE, np.full(LARGEST + 1 - len(FIRST_OF_SIZE), MAX_SIZES)).astype(np.int64)


def distance(trellis):
    """Return how far two values of one quantizer are apart, in 1/64 steps."""
    return 2 * UNIT if trellis else UNIT


@dataclass
class Tables:
    """Statistics to code by, while they are learned.

    Parameters
    ----------
    trellis : int
    counts : numpy.ndarray, shape (quantizers, levels, sizes + 1), float64
        Relative frequency of each size, both signs together, in each level.
    shifts : numpy.ndarray, shape (quantizers, levels, 3), int8
    """

    trellis: int
    frequencies: np.ndarray
    shifts: np.ndarray

    @classmethod
    def first(cls, trellis):
        """Return tables of numbers with a Laplace distribution, to begin with."""
        spreads = 2.0 ** ((np.arange(TRIED_LEVELS) - ZERO_LEVEL) / LEVELS_PER_OCTAVE) / math.sqrt(2)
        tables = []
        for quantizer in range(2 if trellis else 1):
            edges = np.concatenate([[0], BASE[1:] - 0.5, [LARGEST]])
            if quantizer:
                edges[1:-1] -= 0.5
                edges[1] = 0.25
            tables.append(-np.diff(np.exp(-edges[None] / spreads[:, None]), axis=1))
        shares = np.stack(tables)
        shares = np.concatenate([shares, np.full((*shares.shape[:2], 1), 1e-7)], axis=2)
        shifts = np.zeros((*shares.shape[:2], SHIFTED), np.int8)
        return cls(trellis, shares / shares.sum(axis=2, keepdims=True), shifts)

    def learned(self, counts, sums):
        """Return tables after what was counted, smoothed by these."""
        shape = self.frequencies.shape
        counts = counts.reshape(shape).astype(np.float64)
        # A level that was hardly met leans on the tables it was begun with.
        mixed = counts + 20 * self.frequencies
        sums = sums.reshape(*shape[:2], SHIFTED)
        number = np.maximum(counts[:, :, 1 : SHIFTED + 1], 1)
        sizes = np.arange(1, SHIFTED + 1)
        quantizers = np.arange(shape[0])[:, None, None]
        shifts = (sums - number * value_of(sizes, quantizers, self.trellis)) / (number + 20)
        return Tables(self.trellis, mixed / mixed.sum(axis=2, keepdims=True),
                      np.clip(np.rint(shifts), -40, 40).astype(np.int8))

    def rounded(self, low=0, high=TRIED_LEVELS, sizes=MAX_SIZES):
        """Return the tables as a file has them, for these levels and so many sizes: slots and shifts."""
        shares = self.frequencies[:, low:high]
        each = shares[:, :, 1 : MAX_SIZES] / 2  # a sign's
        slots = np.where(each * TOTAL >= 0.25, np.maximum(np.rint(each * TOTAL), 1), 0).astype(np.int64)
        slots[:, :, sizes - 1 :] = 0
        over = 2 * slots.sum(axis=2) + 2 - TOTAL  # zero and the escape need one each
        for quantizer, level in zip(*np.nonzero(over > 0)):
            row = slots[quantizer, level]
            while 2 * row.sum() + 2 > TOTAL:
                row[np.argmax(row)] -= 1
        table = np.zeros((*shares.shape[:2], sizes + 1), np.uint16)
        table[:, :, 1:sizes] = slots[:, :, : sizes - 1]
        table[:, :, sizes] = 1
        table[:, :, 0] = TOTAL - 1 - 2 * slots.sum(axis=2)
        return table, self.shifts[:, low:high]


class Coder:
    """Chooses sizes by tables, and counts what that costs.

    Parameters
    ----------
    table, shifts : numpy.ndarray
        As a file has them.
    trellis : int
    base : numpy.ndarray, shape (m,), int64
    fixed : bool
        As for centroids: no states, no shifts.
    """

    def __init__(self, table, shifts, trellis, base, fixed=False):
        self.model = Model(table, np.zeros_like(shifts) if fixed else shifts, trellis)
        self.trellis, self.base, self.fixed, self.gains = trellis, base.astype(np.int64), fixed, gains(len(base))
        model, sizes = self.model, table.shape[2] - 1
        codes = np.append(np.maximum(2 * np.arange(sizes) - 1, 0), len(model.base) - 1)  # of each size, plus sign
        frequencies = model.frequencies[:, codes]
        plain = np.append(RAW[:sizes] , 16.0)
        with np.errstate(divide="ignore"):
            price = PROBABILITY - np.log2(frequencies) + plain
        self.price = np.where(frequencies > 0, price, 2 * ESCAPE_PRICE)
        self.values = np.abs(model.values[:, codes]).astype(np.float64)
        scores = model.scores[:, codes]
        self.scores = np.where(frequencies > 0, scores, scores[:, -1:])
        self.first = np.minimum(FIRST_OF_SIZE, sizes)
        self.steps = np.array([[distance(trellis), 0.0], [distance(trellis), UNIT if trellis else 0.0]])

    def choose(self, targets, levels, slope):
        """Return signed sizes, (n, m) int32, for targets in 1/64 steps and what rows' levels begin with."""
        from embshrink.kernels.ecq import choose

        sizes = np.empty(targets.shape, np.int32)
        states = 1 if self.fixed else len(self.model.moves)
        room, links = np.empty((4, states)), np.empty((targets.shape[1], states), np.int64)
        choose(targets, levels, self.base, self.gains, slope * UNIT * UNIT, self.price, self.values, self.scores,
               self.first, self.steps, self.model.moves, self.fixed, sizes, room, links)
        return sizes

    def choose_all(self, targets, levels, slope, sizes):
        """Do as `choose`, some rows at a time on all cores; fill in sizes, (n, m) int32."""
        def work(start, stop):
            sizes[start:stop] = self.choose(targets[start:stop], levels[start:stop], slope)

        map_blocks(work, len(targets), ROWS)

    def count(self, targets, sizes, levels, rebuilt):
        """Return how often each size is met in each context, and what the smallest stand for; fill in the values."""
        from embshrink.kernels.ecq import count

        counts, sums = np.zeros(self.price.shape, np.int64), np.zeros((len(self.price), SHIFTED))
        count(sizes, levels, targets, self.base, self.gains, self.values, self.scores, self.first, self.steps,
              self.model.levels, self.model.moves, self.fixed, counts, sums, rebuilt)
        return counts, sums

    def write(self, sizes, levels, heads, tails, tail_bits, index, block):
        """Return the bytes of rows' blocks, end to end, and the length of each."""
        from embshrink.kernels.ecq import write

        n, m = sizes.shape
        model, blocks = self.model, -(-n // block)
        lengths = np.empty(blocks, np.int64)
        symbols = min(block, n) * (3 * m + 2)
        out, scratch = np.empty((blocks, symbols * 3 // 2 + 8), np.uint8), np.empty((symbols, 2), np.int64)
        write(sizes, levels, heads, tails, tail_bits, index, np.cumsum(index) - index, self.base, self.gains,
              model.frequencies, model.starts, model.scores, self.first, model.base, model.raw, model.levels,
              model.moves, self.fixed, block, out, lengths, scratch)
        return b"".join(row[len(row) - length :].tobytes() for row, length in zip(out, lengths)), lengths


PROBABILITY = float(np.log2(TOTAL))


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


def _nearest(matrix, centroids):
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
            labels = _nearest(choice.sample, book)
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
        self.inverse = _inverse(self.basis, self.unit)
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
        inverse = _inverse(self.basis[:m], self.unit)
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


def _inverse(basis, unit):
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


# ---------------------------------------------------------------- writing


def encode(codec, matrix, state, context):
    """Return the codes of a matrix (n, c): blocks, their lengths, and where every 64th begins."""
    n, c = matrix.shape
    decoder = _tables_only(codec, state, n)
    book = decoder.centroid_vectors()
    table, trellis = state["tables"], codec.trellis
    base = state["base"][0].astype(np.int64)
    coder = Coder(table, state["shifts"], trellis, base)
    step = float(state["step"][0])
    inverse = _inverse(state["basis"], float(state["step"][1]))
    means = state["means"].astype(np.float64)  # in 1/64 steps along the axes
    index, tail = state["index"].astype(np.int64), split_bits(len(state["classes"]))[1]
    prior, classes = state["prior"].astype(np.int64), state["classes"].astype(np.int64) * 16
    mean_vectors = (means @ state["basis"].astype(np.float64) * (step * state["step"][1] / UNIT)).astype(np.float32)
    size = codec.block * max(1, ROWS // codec.block)
    done = 0

    def part(start, stop):
        buckets = bucket_of(np.arange(start, stop))
        rows = matrix[start:stop]
        labels = np.zeros(len(rows), np.int64)
        levels = prior[buckets]
        targets = rows.astype(np.float64) @ inverse / (step / UNIT) - means[buckets]
        if len(book):
            labels = _nearest(rows - mean_vectors[buckets], book)
            targets -= decoder.centroid_values(labels) / UNIT
            levels = levels + classes[labels]
        targets = np.ascontiguousarray(targets * (UNIT / state["weights"][buckets].astype(np.float64))[:, None])
        sizes = coder.choose(targets, levels, SLOPES[trellis])
        return coder.write(sizes, levels, labels >> tail, labels & ((1 << tail) - 1), tail, index, codec.block)

    def report(count):
        nonlocal done
        done += count
        context.progress("encoding", done, n)

    data, lengths = Pile(matrix), [np.zeros(0, np.int64)]
    for first, last in blocks(n, PARTS * size):
        for coded, own in map_blocks(lambda start, stop: part(first + start, first + stop), last - first, size,  # noqa: B023
                                     report):
            data.add(coded)
            lengths.append(own)
    lengths = np.concatenate(lengths)
    least = int(lengths.min(initial=1 << 40)) if len(lengths) else 0
    spare = lengths - least
    return {
        "data": data.whole(),
        "lengths": spare.astype(narrowest_uint(int(spare.max(initial=0)))),
        "starts": (np.cumsum(lengths) - lengths)[::BLOCKS_PER_START].astype(np.uint64),
        "sizes": np.array([least, n], np.uint64),
    }


def _tables_only(codec, state, n):
    """Return a decoder that can decode centroids, before there are codes."""
    nothing = {"data": np.zeros(0, np.uint8), "lengths": np.zeros(0, np.uint8), "starts": np.zeros(0, np.uint64),
               "sizes": np.array([0, n], np.uint64)}
    return codec.decoder(nothing, state)
