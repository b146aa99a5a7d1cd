"""Find the setting of a bits step that meets an aim: so many bits or bytes, or so much quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from embshrink.compression.job import Job, Made, ngram_steps
from embshrink.errors import StepError
from embshrink.methods import pipeline
from embshrink.methods.base import Codec, Step, SteppedCodec
from embshrink.methods.rq import RQ
from embshrink.storage.arrays import layout_bytes

SAMPLE = 20_000  # words that settings are tried on first
TRIES = 12  # on the sample
LAST_TRIES = 5  # on the whole
FEW_BITS = 0.9  # a number: from here on rq may lose less
NEAR = 0.97  # of what may be lost, or taken: near enough

# name: (what is measured, how what is lost follows from it)
QUALITIES: dict[str, tuple[str, Callable[[float], float]]] = {
    "max_error": ("relative_error", lambda value: value),
    "min_cosine": ("mean_cosine", lambda value: 1 - value),
    "min_overlap": ("overlap_at_10", lambda value: 1 - value),
}


@dataclass(frozen=True)
class Aim:
    """What to reach.

    Parameters
    ----------
    kind : {"bits", "size", "max_error", "min_cosine", "min_overlap"}
    value : float
    """

    kind: str
    value: float

    @classmethod
    def one_of(cls, **values: float | None) -> Aim | None:
        """Return the one aim that is given, or None.

        Raises
        ------
        StepError
            If there are two, or one is impossible.
        """
        given = {kind: value for kind, value in values.items() if value is not None}
        if len(given) > 1:
            raise StepError(f"{' and '.join(given)} are both given", hint="Give one of them.")
        for kind, value in given.items():
            if not (value > 0 and (kind in ("bits", "size") or value < 1)):
                raise StepError(f"{kind} cannot be {value}", expected="> 0" if kind in ("bits", "size") else "0 to 1")
            return cls(kind, value)
        return None

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.value:g}"


class AimMissed(StepError):
    """No setting of the method meets the aim; the message says what comes nearest."""


def meet(aim: Aim, steps: Sequence[Step], job: Job, choose: bool = False) -> Made:
    """Return what steps make of a job's table with their bits step set so that the aim is met.

    Parameters
    ----------
    aim : Aim
    steps : list of step
    job : Job
    choose : bool
        Below `FEW_BITS` a number, try `rq` too, and take what has the smaller relative error.

    Returns
    -------
    Made

    Raises
    ------
    StepError
        If there is no bits step to set.
    AimMissed
    """
    if not steps or not isinstance(steps[-1], Codec):
        raise StepError(f"{aim.kind} needs a bits step to set", hint="Add ecq, or another of: embshrink methods")
    codec = steps[-1]
    search = _Search(aim, steps[:-1], codec, job)
    if not isinstance(codec, SteppedCodec):
        return search.reach_by_bits() if aim.kind in QUALITIES else search.spend_planned()
    if aim.kind in QUALITIES:
        return search.reach_by_step(codec)
    if not choose:
        return search.spend()
    try:
        made = search.spend()
    except StepError:
        return search.or_rq(None)
    return search.or_rq(made) if made.bits_per_word < FEW_BITS * made.stored.dim else made


class _Point(NamedTuple):
    """A step that was tried, and what it loses: both as logarithms, for they are near to a line then."""

    step: float
    loss: float


class _Tried(NamedTuple):
    """The largest step found that meets a quality, what it made (None: no step does), and the nearest quality."""

    step: float | None
    made: Made | None
    nearest: float | None


class _Search:
    """Looks for the setting of a codec that meets an aim.

    Parameters
    ----------
    aim : Aim
    before : sequence of Step
        The steps before the codec.
    codec : Codec
    job : Job
    """

    def __init__(self, aim: Aim, before: Sequence[Step], codec: Codec, job: Job) -> None:
        self.aim, self.before, self.codec, self.job = aim, before, codec, job

    def _with(self, codec: Codec) -> list[Step]:
        return [*self.before, codec]

    def or_rq(self, made: Made | None) -> Made:
        """Return what `rq` makes of it if that loses less than `made`, or there is nothing made."""
        search = _Search(self.aim, self.before, RQ(), self.job)
        if made is None:
            return search.spend_planned()
        try:
            other = search.spend_planned()
        except StepError:
            return made
        return other if self._relative_error(other) < self._relative_error(made) else made

    def _relative_error(self, made: Made) -> float:
        error = self.job.loss(made)["relative_error"]
        return math.inf if error is None else error

    def _plan(self, codec: Codec) -> pipeline.Planned:
        """Return what is planned for words, or where there are none for n-grams."""
        table, steps = self.job.table, self._with(codec)
        if len(table.words) or table.ngrams is None:
            return pipeline.plan(len(table.words), table.matrix.shape[1], steps, row_map=table.row_map)
        rows, dim = table.ngrams.matrix.shape
        return pipeline.plan(rows, dim, ngram_steps(table.ngrams, steps, "same")[1])

    def _settings(self) -> list[Codec]:
        """Return the settings that differ, from few bits a row to many, of a codec whose size is known beforehand."""
        found: list[Codec] = []
        width = self._plan(self.codec).width
        for bits in range(1, 32 * width + 1):
            try:
                codec = self.codec.with_bits(bits, width)
            except StepError:
                continue
            if not found or found[-1] != codec:
                found.append(codec)
        return found

    # ------------------------------------------------------------ bits and bytes

    def spend_planned(self) -> Made:
        """Meet bits or a size with a codec whose size is known beforehand: the most that keeps within it."""
        def taken(codec: Codec) -> float:
            if self.aim.kind == "size":
                return self.job.plan(self._with(codec)).bytes
            planned = self._plan(codec)
            return 8 * planned.nbytes / max(len(self.job.table.words) or planned.rows, 1)

        settings = self._settings()
        low, high = 0, len(settings)  # settings[low - 1] keeps within it, settings[high] does not
        while low < high:
            middle = (low + high) // 2
            if taken(settings[middle]) <= self.aim.value:
                low = middle + 1
            else:
                high = middle
        if not low:
            raise self._missed(taken(settings[0]))
        return self.job.run(self._with(settings[low - 1]))

    def spend(self) -> Made:
        """Meet bits or a size with a codec that finds its own step: try, and correct."""
        by_size = self.aim.kind == "size"
        width = self._plan(self.codec).width
        empty = self.codec.with_bits(1e-9, width)
        planned = self._plan(empty)
        rows, n = planned.rows, max(len(self.job.table.words) or planned.rows, 1)
        codec_bytes = layout_bytes({name: part for name, part in planned.sections.items()
                                    if name.startswith(("state.", "codes."))})
        if by_size:
            bits = 8 * (self.aim.value - self.job.plan(self._with(empty)).bytes + codec_bytes) / rows
        else:
            bits = (self.aim.value * n - 8 * (planned.nbytes - codec_bytes)) / rows
        best: tuple[float, Made] | None = None
        taken: float | None = None
        for _ in range(LAST_TRIES):
            if bits < 0.001:
                break
            bits = math.floor(bits * 1000) / 1000  # the file's header is read by people too
            made = self.job.run(self._with(self.codec.with_bits(bits, width)))
            taken = made.nbytes if by_size else made.bits_per_word
            spare = (self.aim.value - taken) * (8 if by_size else n) / rows  # bits a row
            if spare >= 0 and (best is None or taken > best[0]):
                best = taken, made
            if 0 <= spare <= max(0.005 * bits, 0.25):
                break
            bits += spare - max(0.001 * bits, 0.05)
        if best is None:
            raise self._missed(taken)
        return best[1]

    def _missed(self, nearest: float | None) -> AimMissed:
        if self.aim.kind == "size":
            return AimMissed("the file cannot be made so small by this method",
                             expected=None if nearest is None else f">= {nearest:,} bytes",
                             found=f"{self.aim.value:,.0f}", hint="Prune first, or take another method.")
        return AimMissed(f"{self.aim} is out of reach of this method",
                         found=None if nearest is None else f"{nearest:.4g} at the nearest",
                         hint="Take another method, or another aim.")

    # ------------------------------------------------------------ quality

    @property
    def _allowed(self) -> float:
        """How much may be lost."""
        return QUALITIES[self.aim.kind][1](self.aim.value)

    def _loss(self, job: Job, made: Made) -> tuple[float, float | None]:
        """Return what a run lost, and the quality that the aim speaks of."""
        key, lost = QUALITIES[self.aim.kind]
        value = dict(job.loss(made))[key]
        if not isinstance(value, float):
            return 0.0, None
        return lost(value), value

    def _smaller(self) -> Job:
        """Return the job on a sample of its words; itself where it is small, or row steps need all words."""
        if len(self.job.table.words) > 2 * SAMPLE and not any(step.axis == "rows" for step in self.before):
            return self.job.sample(SAMPLE)
        return self.job

    def reach_by_step(self, codec: SteppedCodec) -> Made:
        """Find the largest step that meets a quality: on a sample, then on the whole."""
        step, smaller = None, self._smaller()
        if smaller is not self.job:
            step = self._try_steps(codec, smaller, None, TRIES).step
        found = self._try_steps(codec, self.job, step, LAST_TRIES if step else TRIES)
        if found.made is None:
            raise self._missed(found.nearest)
        return found.made

    def _try_steps(self, codec: SteppedCodec, job: Job, step: float | None, tries: int) -> _Tried:
        """Return the largest step found that meets the aim, by bisection of logarithms."""
        allowed, best = self._allowed, _Tried(None, None, None)
        low: _Point | None = None  # meets the aim
        high: _Point | None = None  # does not
        for _ in range(tries):
            made = job.run(self._with(codec.with_step(step) if step else codec))
            loss, value = self._loss(job, made)
            point = _Point(math.log(_found_step(made)), math.log(max(loss, 1e-9)))
            if loss <= allowed:
                if low is None or point.step > low.step:
                    low, best = point, _Tried(math.exp(point.step), made, value)
                if loss >= NEAR * allowed:
                    break
            else:
                high = point
                if low is None:
                    best = best._replace(nearest=value)
            goal = math.log(allowed * (1 + NEAR) / 2)
            if low and high:
                if high.step - low.step < 0.005:
                    break
                share = (goal - low.loss) / max(high.loss - low.loss, 1e-9)
                step = math.exp(low.step + min(max(share, 0.1), 0.9) * (high.step - low.step))
            else:
                step = math.exp(point.step + min(max((goal - point.loss) / 2, -2.5), 2.5))
        return best

    def reach_by_bits(self) -> Made:
        """Find the fewest bits that meet a quality: on a sample, then on the whole, more where it is missed there."""
        settings, smaller = self._settings(), self._smaller()
        first, last = 0, len(settings) - 1
        while first < last:
            middle = (first + last) // 2
            if self._loss(smaller, smaller.run(self._with(settings[middle])))[0] <= self._allowed:
                last = middle
            else:
                first = middle + 1
        nearest = None
        for codec in settings[first:]:
            made = self.job.run(self._with(codec))
            loss, nearest = self._loss(self.job, made)
            if loss <= self._allowed:
                return made
        raise self._missed(nearest)


def _found_step(made: Made) -> float:
    """Return the step that a run's codec found."""
    codec = made.stored.codec
    if not isinstance(codec, SteppedCodec) or codec.step is None:
        raise TypeError("the codec has no step")
    return codec.step
