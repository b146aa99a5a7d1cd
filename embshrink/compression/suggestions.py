"""Suggestions after a run: steps for less loss and for a smaller file, with estimated sizes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from embshrink.compression.job import NEIGHBOURS, Job, Made, ngram_steps
from embshrink.compression.quality_goal import OverlapGoal
from embshrink.compression.rate_control import CANDIDATES, Aim
from embshrink.compression.report import Suggestion
from embshrink.errors import EmbshrinkError
from embshrink.evaluation.neighbour_sample import NeighbourSample
from embshrink.methods import pipeline, registry
from embshrink.methods.base import Codec, ColumnStep, Step, SteppedCodec, resolved
from embshrink.methods.cast import Cast
from embshrink.methods.ecq.codec import ECQ
from embshrink.methods.prune import Prune
from embshrink.numerics.parallel import one_blas_thread
from embshrink.storage.arrays import StoredArray

ROWS_AT_ONCE = 65_536
MODEL_QUERIES = 400  # words from whose neighbours other overlaps are estimated
MORE, LESS = 1.5, 0.75  # bits of the suggestions, relative to those of the run
FEWEST_BITS, MOST_BITS = 0.5, 10.0  # bits per dimension that ecq is suggested for
SECTIONS_OF_ECQ = 2000  # bytes of header and padding that its many sections take, more than those of another codec
SAME = 1.02  # times the size: a suggestion for less loss needs more than that
FLOAT16_MAX = 65504.0
WORTHWHILE = 0.95  # a smaller file is suggested only if it has at most this share of the size


def suggest(
    job: Job, steps: Sequence[Step], made: Made, *, size: int, aim: Aim | None = None
) -> list[Suggestion]:
    """Return at most one suggestion for less loss and one for a smaller file.

    Parameters
    ----------
    job : Job
    steps : sequence of Step
        The steps as the user gave them.
    made : Made
        Their result.
    size : int
        Bytes of the written file.
    aim : Aim, optional
        What `ecq` was set for, if the user gave no steps. After an overlap, other overlaps are suggested.
    """
    if not len(made.words):  # only n-grams
        return []
    advice = _Advice(job, steps, made, size)
    if aim is not None and aim.kind == "min_overlap" and isinstance(advice.codec, ECQ):
        found = advice.other_overlaps(aim.value)
        if found is not None:
            return found
    (better, more), (smaller, less) = advice.better(), advice.smaller()
    if more <= SAME * size and not advice.merging:  # so few bytes more buy nothing
        better = []
    return [Suggestion(goal, [registry.format(step) for step in chosen], bytes)
            for goal, chosen, bytes in (("better", better, more), ("smaller", smaller, less)) if chosen]


class _Advice:
    """Chooses steps for a table, given those that were run.

    Parameters
    ----------
    job, steps, made, size
        As for `suggest`.
    """

    def __init__(self, job: Job, steps: Sequence[Step], made: Made, size: int) -> None:
        self.job, self.made, self.size = job, made, size
        ran = made.stored.codec
        # Empty if `choose` replaced ecq by rq.
        asked = [step for step in steps if isinstance(step, Codec) and type(step) is type(ran)]
        self.before = [step for step in steps if not isinstance(step, Codec)]
        self.codec: Codec = asked[0] if asked else ran
        self.rows, self.words = made.header.rows, len(made.words)
        self.width = _stored_width(made)
        self.taken = _codec_bytes(made.sections, "")
        self.bits = 8 * self.taken / self.rows  # per row
        self.code_bits = 8 * _bytes_of(made.sections, "codes.") / self.rows
        self.merging = [step for step in self.before if step.axis == "rows"] if self.rows < self.words else []

    def better(self) -> tuple[list[Step], int]:
        """Return steps that lose less, and the estimated size; an empty list if there is nothing to suggest."""
        if self.merging:
            return self._without_merging()
        if isinstance(self.codec, Cast):
            lossless = Cast(dtype="float32")
            return ([], 0) if self.codec == lossless else self._planned(lossless)
        if isinstance(self.codec, SteppedCodec):
            bits = MORE * self.bits
            if bits > MOST_BITS * self.width:
                return self._planned(self._cast())
            return self._entropy_coded(bits) if self._fits_ecq(bits) else ([], 0)
        if self._fits_ecq(self.bits) and self.bits >= self.width:
            return self._entropy_coded(min(self.bits, MOST_BITS * self.width))
        return self._other_bits(MORE)

    def smaller(self) -> tuple[list[Step], int]:
        """Return steps for a smaller file, and the estimated size; an empty list if there is nothing to suggest."""
        bits = LESS * self.bits
        if isinstance(self.codec, Cast):
            bits = ECQ().resolve(self.rows, self.width).bits or 0.0
        ecq = self._entropy_coded(bits) if self._fits_ecq(bits) else ([], 0)
        other = ([], 0) if isinstance(self.codec, SteppedCodec) else self._other_bits(LESS)
        choices = [ecq, other] if isinstance(self.codec, Cast) else [other, ecq]
        return next(((steps, size) for steps, size in choices if steps and size <= WORTHWHILE * self.size), ([], 0))

    def other_overlaps(self, aim: float) -> list[Suggestion] | None:
        """Return suggestions of a larger and of a smaller overlap than the aim; None if sizes cannot be estimated.

        The larger one loses half as many neighbours, the smaller one half as many again.
        """
        overlap = (self.made.loss or {}).get("overlap_at_10")
        if overlap is None or overlap >= (1 + aim) / 2 or self.job.table.row_map.scale is not None:
            return None
        sample = self.job.neighbours(CANDIDATES)
        if sample.nearest.shape[1] < 2 * NEIGHBOURS:
            return None
        better, smaller = round((1 + aim) / 2, 4), round(1 - 1.5 * (1 - aim), 4)
        model = _OverlapModel(self.job, self.made, sample, overlap)
        found = []
        more = self._with_more_bits(model.more_bits(better))
        cast, size = self._planned(self._cast())
        if more < size:
            found.append(Suggestion("better", None, more, better))
        elif size > SAME * self.size:
            found.append(Suggestion("better", [registry.format(step) for step in cast], size))
        if smaller > 0:
            less = self._with_more_bits(model.more_bits(smaller))
            if less <= WORTHWHILE * self.size:
                found.append(Suggestion("smaller", None, less, smaller))
        return found

    def _with_more_bits(self, bits: float) -> int:
        """Return the size of the file with more bits per row, or fewer if they are negative."""
        rows, header = self.rows, self.made.header.subwords
        if header is not None and self.job.ngrams == "same":
            rows += header.rows
        return self.size + round(bits * rows / 8)

    def _fits_ecq(self, bits: float, rows: int | None = None) -> bool:
        """Whether ecq works with this number of bits per row: in a small table, its own tables take most of them."""
        rows = self.rows if rows is None else rows
        tables = 8 * (3000 + self.width * (self.width + 40)) / rows  # as in the default of its parameter `bits`
        return bits >= tables + FEWEST_BITS * self.width

    def _without_merging(self) -> tuple[list[Step], int]:
        """Return steps that keep the own vectors of more words: of all words if ecq can do that in as many bytes."""
        taken = self.taken + _bytes_of(self.made.sections, "map.")
        bits = min(8 * taken / self.words, MOST_BITS * self.width)
        if self._fits_ecq(bits, self.words) and bits >= self.width and not _merged_before(self.job):
            return self._entropy_coded(bits, [step for step in self.before if step not in self.merging], self.words)
        doubled = [self._doubled(step) if isinstance(step, Prune) else step for step in self.before]
        nothing = any(isinstance(step, Prune) and step.keep == self.words for step in doubled)
        return ([], 0) if nothing or doubled == self.before else self._planned(self._budgeted(), doubled)

    def _cast(self) -> Cast:
        """Return the cast to float16, or to float32 if a number may be too large for it."""
        matrix, limit = self.job.table.matrix, FLOAT16_MAX / math.sqrt(self.made.stored.dim)
        large = any(float(np.abs(matrix[start : start + ROWS_AT_ONCE]).max()) > limit
                    for start in range(0, len(matrix), ROWS_AT_ONCE))
        return Cast(dtype="float32") if large else Cast()

    def _doubled(self, step: Prune) -> Prune:
        keep = resolved(step.resolve(self.words, self.width).keep)
        return dataclasses.replace(step, keep=min(2 * keep, self.words))

    def _budgeted(self) -> Codec:
        """Return the codec with parameters for which its plan has the size of the run."""
        return self.codec.with_bits(self.bits, self.width) if isinstance(self.codec, SteppedCodec) else self.codec

    def _entropy_coded(
        self, bits: float, before: Sequence[Step] | None = None, rows: int | None = None
    ) -> tuple[list[Step], int]:
        """Return the steps before the codec, then ecq with this number of bits per row; and the estimated size."""
        codec, more = (self.codec, 0) if isinstance(self.codec, ECQ) else (ECQ(), SECTIONS_OF_ECQ)
        bits = round(bits) if bits >= 20 else math.ceil(10 * bits) / 10
        same = before is None
        size = self.size + more - self.taken - (0 if same else _bytes_of(self.made.sections, "map."))
        size += round(bits * (self.rows if rows is None else rows) / 8)
        header = self.made.header.subwords
        if header is not None and self.job.ngrams == "same":
            size += more + round(bits * header.rows / 8) - _codec_bytes(self.made.sections, "ngrams.")
        return [*(self.before if before is None else before), codec.with_bits(bits, self.width)], size

    def _other_bits(self, factor: float) -> tuple[list[Step], int]:
        """Return the steps with `factor` times the bits of the codec, and the planned size."""
        try:
            codec = self.codec.with_bits(factor * self.code_bits, self.width)
        except EmbshrinkError:  # too few bits for this codec
            return [], 0
        return ([], 0) if codec == self.codec else self._planned(codec)

    def _planned(self, codec: Codec, before: Sequence[Step] | None = None) -> tuple[list[Step], int]:
        """Return the steps with another codec, and the planned size."""
        steps = [*(self.before if before is None else before), codec]
        try:
            if len(self.made.ids) == len(self.job.table.words):
                return steps, self.job.plan(steps).bytes
            more = self._vector_bytes(steps) - self._vector_bytes([*self.before, self._budgeted()])
        except EmbshrinkError:  # the codec does not work on this table
            return [], 0
        return steps, self.size + more

    def _vector_bytes(self, steps: Sequence[Step]) -> int:
        """Return the planned bytes of the vectors of words, and of n-grams if they have the same steps."""
        table = self.job.table
        dim = table.matrix.shape[1]
        taken = pipeline.plan(len(table.words), dim, steps, row_map=table.row_map).nbytes
        if table.ngrams is not None and self.job.ngrams == "same":
            kept, own = ngram_steps(table.ngrams, steps, "same")
            taken += pipeline.plan(len(kept.ids), dim, own).nbytes
        return taken


class _OverlapModel:
    """Estimates how many bits per row another overlap takes, from a result of `ecq` and its overlap.

    The differences of rows are scaled until the predicted overlap is the wanted one. The bits follow from reverse
    water-filling at the error before and after that.

    Parameters
    ----------
    job : Job
    made : Made
    whole : NeighbourSample
        Words of the source and their nearest neighbours.
    overlap : float
        As it was measured.
    """

    def __init__(self, job: Job, made: Made, whole: NeighbourSample, overlap: float) -> None:
        self.job, self.overlap = job, overlap
        few = slice(None, None, max(1, len(whole.asked) // MODEL_QUERIES))
        self.sample = dataclasses.replace(whole, asked=whole.asked[few], nearest=whole.nearest[few])
        self.before, self.after = job.before_and_after(made, whole.ids)
        centred = self.before.astype(np.float64) - self.before.mean(axis=0, dtype=np.float64)
        with one_blas_thread():
            self.variances = np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(centred)), 0)  # ascending
        self.error = float(np.square(self.before - self.after.astype(np.float64)).sum(axis=1).mean())

    def more_bits(self, wanted: float) -> float:
        """Return how many bits per row more an overlap takes than the result has."""
        goal = OverlapGoal(self.job.table.embeddings, self.sample, NEIGHBOURS, wanted)
        factor = goal.scale_for(self.before, self.after, self.overlap)
        return self._bits(self.error * factor**2) - self._bits(self.error)

    def _bits(self, error: float) -> float:
        """Return the bits per row for a squared error, up to a constant: reverse water-filling."""
        rising = self.variances
        below = np.concatenate([[0.0], np.cumsum(rising)])[:-1]  # the error of all smaller ones if they get no bits
        levels = (error - below) / np.arange(len(rising), 0, -1)
        if not error < rising.sum():
            return 0.0
        level = max(float(levels[np.argmax(levels <= rising)]), 1e-30)
        return float(np.log2(np.maximum(rising / level, 1)).sum() / 2)


def _merged_before(job: Job) -> bool:
    """Whether words share rows in the source."""
    return not job.table.row_map.is_identity


def _stored_width(made: Made) -> int:
    """Return the number of columns that the codec encodes."""
    width = made.stored.dim
    for step in made.stored.steps:
        if isinstance(step, ColumnStep):
            width, _ = step.plan(made.header.rows, width)
    return width


def _bytes_of(sections: dict[str, StoredArray], prefix: str | tuple[str, ...]) -> int:
    return sum(part.nbytes for name, part in sections.items() if name.startswith(prefix))


def _codec_bytes(sections: dict[str, StoredArray], prefix: str) -> int:
    return _bytes_of(sections, (f"{prefix}state.", f"{prefix}codes."))
