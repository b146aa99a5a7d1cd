"""Find the setting of a bits step that meets an aim: a number of bits or bytes, or a quality."""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np

from embshrink.compression.job import NEIGHBOURS, Job, Made, ngram_steps
from embshrink.compression.quality_goal import CosineGoal, ErrorGoal, OverlapGoal
from embshrink.compression.sizes import parse_size
from embshrink.errors import EmbshrinkError, StepError
from embshrink.evaluation.neighbour_sample import NeighbourSample
from embshrink.methods import pipeline, registry
from embshrink.methods.base import Codec, QualityGoal, Step, SteppedCodec, TooFewBits
from embshrink.methods.cast import Cast
from embshrink.methods.rq import RQ
from embshrink.storage.container import ALIGNMENT

SAMPLE = 20_000  # words on which settings are tried first
TRIES = 12  # on the sample
LAST_TRIES = 5  # on the whole table
FEW_BITS = 0.9  # per dimension: with fewer, rq may have the smaller error
MOST_THOUSANDTHS = 10**10  # of a bit per row: the most that a codec takes as a parameter
PADDING = 3 * ALIGNMENT  # bytes that are not planned, of sections whose size is not known before
SPARE = 0.015  # share of the bits per row that may be left
GOAL_ROWS = 2000  # with fewer, everything is tried outright
CANDIDATES, MORE_CANDIDATES = 64, 256  # nearest neighbours of a word that may be among its ten nearest afterwards
WELL_KEPT = 0.7  # overlap from which on the fewer candidates are enough
SPARED = {"max_error": 0.015, "min_cosine": 0.015, "min_overlap": 0.03}  # shares of the allowed loss not aimed at
GOALS = 3  # runs for a goal; usually 1 or 2
CLOSE = 0.93  # after a goal, a loss of this share of what is allowed is close enough
NEAR = 0.97  # a loss of this share of what is allowed is close enough

# aim: (key in `Loss`, loss as a function of its value)
QUALITIES: dict[str, tuple[str, Callable[[float], float]]] = {
    "max_error": ("relative_error", lambda value: value),
    "min_cosine": ("mean_cosine", lambda value: 1 - value),
    "min_overlap": ("overlap_at_10", lambda value: 1 - value),
}
MEASURED = {"relative_error": "relative error", "mean_cosine": "mean cosine", "overlap_at_10": "overlap@10"}


@dataclass(frozen=True)
class Aim:
    """The one aim of a run, and its value.

    Parameters
    ----------
    kind : {"bits", "size", "max_error", "min_cosine", "min_overlap"}
        Name of the parameter of `embshrink.compress`.
    value : float
        Bits per word for `bits`, bytes of the whole file for `size`, else above 0 and below 1.
    """

    kind: str
    value: float

    @classmethod
    def one_of(cls, **values: float | str | None) -> Aim | None:
        """Return the one aim that is given, or None.

        Raises
        ------
        StepError
            If several aims are given, or the value of one is not a number in its range.
        """
        given = {kind: parse_size(value, _named(kind)) if kind == "size" and isinstance(value, str) else value
                 for kind, value in values.items() if value is not None}
        if len(given) > 1:
            raise StepError("only one aim can be given", found=" and ".join(map(_named, given)),
                            hint=f"Keep one of {', '.join(values)}.")
        for kind, value in given.items():
            unbounded = kind in ("bits", "size")
            if not isinstance(value, Real) or not (value > 0 and (value < math.inf if unbounded else value < 1)):
                raise StepError(f"{_named(kind)} is out of range", found=repr(value),
                                expected=f"a number above 0{'' if unbounded else ' and below 1'}",
                                hint=None if unbounded else "To lose nothing, use cast:dtype=float32 without an aim.")
            return cls(kind, value)
        return None

    @property
    def option(self) -> str:
        """The name of the parameter, and of the command-line option."""
        return _named(self.kind)

    def __str__(self) -> str:
        value = f"{self.value:,.0f}" if self.kind == "size" else f"{self.value:g}"
        return f"{self.kind}={value} (--{self.kind.replace('_', '-')})"


def _named(kind: str) -> str:
    """Return an aim's parameter, and the command-line option of it."""
    return f"{kind} (--{kind.replace('_', '-')})"


class AimMissed(StepError):
    """No setting of the method meets the aim. The message gives the closest value, and what would meet the aim.

    Attributes
    ----------
    least : float
        For `bits` and `size`: the fewest bits per word, or bytes, of the method.
    instead : Made or None
        For a quality: the result of the smallest `cast` that meets the aim, or None if there is none.
    """

    least: float = math.inf
    instead: Made | None = None


def meet(aim: Aim, steps: Sequence[Step], job: Job, choose: bool = False) -> Made:
    """Run steps with the bits step set to meet an aim.

    Parameters
    ----------
    aim : Aim
    steps : sequence of Step
        The last one is the bits step that is set.
    job : Job
    choose : bool
        With bits or a size, below `FEW_BITS` bits per dimension: try `rq` too, and keep the result with the smaller
        relative error. With a quality: keep a `cast` that meets it if its file is smaller.

    Returns
    -------
    Made

    Raises
    ------
    StepError
        If there is no bits step to set.
    AimMissed
        If no setting of the bits step meets the aim.
    """
    if not steps or not isinstance(steps[-1], Codec):
        found = " ".join(map(registry.format, steps)) or "no step"
        raise StepError(f"{aim.option} needs a bits step as the last step", found=found,
                        hint="Add ecq, or another bits method (embshrink methods lists them).")
    codec = steps[-1]
    search = _Search(aim, steps[:-1], codec, job)
    if aim.kind in QUALITIES:
        search.check_neighbours()
        made = search.reach_by_step(codec) if isinstance(codec, SteppedCodec) else search.reach_by_bits()
        return search.or_cast(made) if choose else made
    if not choose or not isinstance(codec, SteppedCodec):
        return search.spend()
    try:
        made = search.spend()
    except StepError as missed:
        return search.rq_instead(missed)
    return search.or_rq(made) if made.bits_per_word < FEW_BITS * made.stored.dim else made


def estimate_bits(aim: Aim, codec: SteppedCodec, job: Job) -> float | None:
    """Return about how many bits per row a codec takes for a quality, tables included, by fitting a sample of rows.

    Parameters
    ----------
    aim : Aim
        A quality of the whole table, such as an overlap among all of its words.
    codec : SteppedCodec
    job : Job

    Returns
    -------
    float or None
        None if this codec or table must be tried from outside, or no step meets the aim.
    """
    search = _Search(aim, [], codec, job)
    goal = search.goal(codec, search.aimed)
    if goal is None:
        return None
    try:
        made = job.sample(SAMPLE).run([codec.with_step(1.0)], goal=goal)
    except StepError:
        return None
    codes, state = (sum(part.nbytes for name, part in made.sections.items() if name.startswith(kind))
                    for kind in ("codes.", "state."))
    return 8 * (codes / made.header.rows + state / len(job.table.matrix))


class _Point(NamedTuple):
    """A quantization step that was tried, and its loss: both as logarithms, which are nearly linear in each other."""

    step: float
    loss: float


@dataclass
class _Bounds:
    """Steps between which the best one is.

    Parameters
    ----------
    goal : float
        Logarithm of the loss to come near to.
    low, high : _Point or None
        The largest step that meets the aim, and the last one that does not.
    floor : float or None
        Logarithm of a step that is too small for the codec.
    """

    goal: float
    low: _Point | None = None
    high: _Point | None = None
    floor: float | None = None
    last: _Point | None = None

    def add(self, point: _Point, met: bool) -> None:
        """Note a step that was tried, and whether it meets the aim."""
        self.last = point
        if not met:
            self.high = point
        elif self.low is None or point.step > self.low.step:
            self.low = point

    def next_step(self) -> float | None:
        """Return the step to try next, or None if the bounds are close enough."""
        low, high = self.low, self.high
        if low and high:
            if high.step - low.step < 0.005:
                return None
            share = (self.goal - low.loss) / max(high.loss - low.loss, 1e-9)
            return math.exp(low.step + min(max(share, 0.1), 0.9) * (high.step - low.step))
        guess = math.inf if self.last is None else (
            self.last.step + min(max((self.goal - self.last.loss) / 2, -2.5), 2.5))
        if self.floor is None or self.floor < guess < math.inf:
            return math.exp(guess)
        if high is None:
            return math.exp(self.floor + 0.25)
        return math.exp((self.floor + high.step) / 2) if high.step - self.floor > 0.02 else None


class _Tried(NamedTuple):
    """The largest step found that meets a quality and its result, or None; the value of the quality closest to it."""

    step: float | None
    made: Made | None
    nearest: float | None


class _Taken(NamedTuple):
    """What a result leaves of an aim, what its codec takes, and what a size is a multiple of: in bits per row."""

    spare: float
    coded: float
    unit: float


class _Search:
    """Search for the setting of a codec that meets an aim.

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

    def rq_instead(self, missed: StepError) -> Made:
        """Return the result of `rq` after another codec missed the aim; if both miss it, raise the closer one."""
        try:
            return self.or_rq(None)
        except AimMissed as other:
            if isinstance(missed, AimMissed) and missed.least < other.least:
                raise missed from None
            raise

    def or_rq(self, made: Made | None) -> Made:
        """Return the result of `rq` if its error is smaller than that of `made`, or if `made` is None."""
        search = _Search(self.aim, self.before, RQ(), self.job)
        if made is None:
            return search.spend()
        try:
            other = search.spend()
        except StepError:
            return made
        return other if self._relative_error(other) < self._relative_error(made) else made

    def _relative_error(self, made: Made) -> float:
        error = self.job.loss(made)["relative_error"]
        return math.inf if error is None else error

    def _plan(self, codec: Codec) -> pipeline.Planned:
        """Return the plan for the words, or for the n-grams of a table without words."""
        table, steps = self.job.table, self._with(codec)
        if len(table.words) or table.ngrams is None:
            return pipeline.plan(len(table.words), table.matrix.shape[1], steps, row_map=table.row_map)
        rows, dim = table.ngrams.matrix.shape
        return pipeline.plan(rows, dim, ngram_steps(table.ngrams, steps, "same")[1])

    def _settings(self) -> list[Codec]:
        """Return the distinct settings of a codec of known size, from few bits per row to many."""
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

    def spend(self) -> Made:
        """Meet bits or a size with the largest setting within it."""
        if isinstance(self.codec, SteppedCodec):
            return self._spend_bits(self.codec)
        settings = self._settings()
        within = bisect.bisect_right(settings, self.aim.value, key=self._planned)
        if not within:
            raise self._too_small(self._planned(settings[0]))
        return self.job.run(self._with(settings[within - 1]))

    def _planned(self, codec: Codec) -> float:
        """Return the bits per word, or the bytes of the file, that a setting takes; for a `SteppedCodec`, about."""
        if self.aim.kind == "size":
            return self.job.plan(self._with(codec)).bytes + (PADDING if isinstance(codec, SteppedCodec) else 0)
        planned = self._plan(codec)
        return 8 * planned.nbytes / max(len(self.job.table.words) or planned.rows, 1)

    def _spend_bits(self, codec: SteppedCodec) -> Made:
        """Meet bits or a size with a codec that finds its step for a number of bits per row.

        One run is enough, unless row steps keep fewer rows than planned, or the file is small and its padding is not
        as planned. Then the bits are corrected by what the file takes.
        """
        width = self._plan(codec).width
        thousandths = bisect.bisect_right(range(MOST_THOUSANDTHS), self.aim.value,
                                          key=lambda bits: self._planned(codec.with_bits(bits / 1000, width)))
        bits, best = max(thousandths - 1, 1) / 1000, None  # people read the file's header too
        for _ in range(LAST_TRIES):
            try:
                made = self.job.run(self._with(codec.with_bits(bits, width)))
            except TooFewBits as missed:
                if best is None:
                    raise self._too_small(self._least(codec, width, missed.least)) from None
                break
            taken = self._taken(made)
            if taken.spare >= 0 and (best is None or made.nbytes > best.nbytes):
                best = made
            if taken.spare >= 0 and (taken.spare <= max(SPARE * bits, 3 * taken.unit)
                                     or taken.coded < (1 - SPARE) * bits):
                break  # close enough, or the codec cannot use more
            bits = math.floor(1000 * (bits + taken.spare - taken.unit) - bits) / 1000
            if bits <= 0:
                break
        if best is None:
            raise self._too_small(made.nbytes if self.aim.kind == "size" else made.bits_per_word)
        return best

    def _taken(self, made: Made) -> _Taken:
        """Return what a result leaves of the aim, and what the codec takes."""
        sections, subwords = made.sections, made.header.subwords
        kinds, rows, count = ("state.", "codes."), made.header.rows, len(made.words)
        if not count and subwords is not None:
            kinds, rows, count = ("ngrams.state.", "ngrams.codes."), subwords.rows, subwords.present
        coded = 8 * sum(part.nbytes for name, part in sections.items() if name.startswith(kinds)) / rows
        if self.aim.kind == "bits":
            return _Taken((self.aim.value - made.bits_per_word) * count / rows, coded, 0.0)
        if len(made.words) and subwords is not None and self.job.ngrams == "same":
            rows += subwords.rows
        return _Taken(8 * (self.aim.value - made.nbytes) / rows, coded, 8 * ALIGNMENT / rows)

    def _least(self, codec: SteppedCodec, width: int, bits: float) -> float:
        """Return the smallest aim that a codec meets, about; `bits` per row are said to be enough."""
        for _ in range(LAST_TRIES):
            bits = math.ceil(10 * bits) / 10
            with_bits = codec.with_bits(bits, width)
            try:
                made = self.job.run(self._with(with_bits))
                return max(self._planned(with_bits), made.nbytes if self.aim.kind == "size" else made.bits_per_word)
            except TooFewBits as missed:
                bits = max(missed.least, 1.15 * bits)
        return self._planned(codec.with_bits(bits, width))

    def _too_small(self, least: float) -> AimMissed:
        """Return the error for too few bits or bytes, given the fewest that the method reached or would take."""
        name = registry.name_of(self.codec)
        if self.aim.kind == "bits":
            needed = f"{math.ceil(least * 10) / 10:g}"
            hint = f"Set bits to at least {needed}, put prune before {name}, or use another bits method."
            return self._missed(f"{self.aim} is too small for {name}", f">= {needed} bits per word", hint, least)
        sizes = self.job.plan(self._with(self.codec)).sections
        words = sum(size for section, size in sizes.items() if section.startswith("words."))
        hint = f"Set size to at least {least:,.0f}, put prune before {name}, or use another bits method."
        if self.aim.value <= words:
            hint = f"The words alone take {words:,} bytes. Set a larger size, or read fewer words (limit, --limit)."
        return self._missed(f"{self.aim} is too small for {name}", f">= {least:,.0f} bytes", hint, least)

    @staticmethod
    def _missed(problem: str, expected: str, hint: str, least: float) -> AimMissed:
        error = AimMissed(problem, expected=expected, hint=hint)
        error.least = least
        return error

    # ------------------------------------------------------------ quality

    def check_neighbours(self) -> None:
        """Raise StepError for an overlap if there are so few vectors that each is a neighbour of each."""
        if self.aim.kind != "min_overlap" or not len(self.job.table.words):
            return
        distinct = len(self._neighbours().ids)
        if distinct <= NEIGHBOURS + 1:
            raise StepError(f"{self.aim.option} means nothing for so few vectors: each is a neighbour of each",
                            expected=f"more than {NEIGHBOURS + 1} distinct vectors", found=distinct,
                            hint="Set max_error, min_cosine, bits or size, or use cast.")

    def _neighbours(self) -> NeighbourSample:
        """Return words and as many neighbours as an overlap goal needs, so that they are searched once."""
        return self.job.neighbours(CANDIDATES if self.aim.value >= WELL_KEPT else MORE_CANDIDATES)

    @property
    def _allowed(self) -> float:
        """The largest loss that meets the aim."""
        return QUALITIES[self.aim.kind][1](self.aim.value)

    @property
    def aimed(self) -> float:
        """The loss to come to, which is less than allowed: what is predicted is not quite what comes."""
        return (1 - SPARED[self.aim.kind]) * self._allowed

    def _loss(self, job: Job, made: Made) -> tuple[float, float]:
        """Return the loss of a result, and the measured value that the aim is about.

        Raises
        ------
        StepError
            If the value is not defined.
        """
        key, lost = QUALITIES[self.aim.kind]
        value = dict(job.loss(made))[key]
        if not isinstance(value, float):
            raise StepError(f"{self.aim.option} means nothing for these vectors: the {MEASURED[key]} is not defined",
                            hint="There are no words, or all vectors are equal. Set bits or size, or use cast.")
        return lost(value), value

    def _out_of_reach(self, nearest: float | None) -> AimMissed:
        """Return the error for a quality that the codec does not reach, given the closest value it reached."""
        less = self.aim.kind == "max_error"
        measured, name = MEASURED[QUALITIES[self.aim.kind][0]], registry.name_of(self.codec)
        instead = self._met_by_cast()
        hint = None if instead is None else (
            f"Use {registry.format(instead.stored.codec)}, which reaches {self._loss(self.job, instead)[1]:.4g}")
        if nearest is not None:
            change = f"set {self.aim.kind} to {_rounded(nearest, up=less)} or {'more' if less else 'less'}"
            before = " and ".join(registry.name_of(step) for step in self.before)
            hint = f"{hint}, or {change}." if hint else (
                f"{change.capitalize()}{f', or keep more in {before}' if before else ''}.")
        missed = AimMissed(f"{self.aim} cannot be met by {name}",
                           expected=f"{measured} {'<=' if less else '>='} {self.aim.value:g}",
                           found=None if nearest is None else f"{nearest:.4g} as the closest", hint=hint)
        missed.instead = instead
        return missed

    def _met_by_cast(self) -> Made | None:
        """Return the result of the smallest other cast that meets the aim; None if the steps before lose too much."""
        for cast in (Cast("float16"), Cast("float32")):
            if cast == self.codec:
                continue
            with contextlib.suppress(EmbshrinkError):  # numbers too large for float16
                made = self.job.run(self._with(cast))
                loss, _ = self._loss(self.job, made)
                if loss <= self._allowed:
                    return made
        return None

    def or_cast(self, made: Made) -> Made:
        """Return the result of a cast that meets the aim if its file is smaller than that of `made`."""
        if self.job.plan(self._with(Cast())).bytes >= made.nbytes:
            return made
        other = self._met_by_cast()
        return made if other is None or other.nbytes >= made.nbytes else other

    def _smaller(self) -> Job:
        """Return the job on a sample of its words; the job itself if it is small, or if row steps need all words."""
        if self.job.table.row_map.count > 2 * SAMPLE and not any(step.axis == "rows" for step in self.before):
            return self.job.sample(SAMPLE)
        return self.job

    def reach_by_step(self, codec: SteppedCodec) -> Made:
        """Find the largest step that meets a quality: by a goal, or on a sample and then on the whole table."""
        best, step = self._reach_by_goal(codec)
        if best is not None:
            return best
        smaller = self._smaller()
        if step is None and smaller is not self.job:
            step = self._try_steps(codec, smaller, None, TRIES).step
        found = self._try_steps(codec, self.job, step, LAST_TRIES if step else TRIES)
        if found.made is None:
            raise self._out_of_reach(found.nearest)
        return found.made

    def _reach_by_goal(self, codec: SteppedCodec) -> tuple[Made | None, float | None]:
        """Return the result of a codec that finds its step for a goal, or None; and the last step it found, or None.

        What is measured is not quite what was predicted, so the goal is corrected if the result is not close enough.
        """
        best, step = None, None
        aimed = self.aimed
        for _ in range(GOALS):
            goal = self.goal(codec, aimed)
            made = None if goal is None else self._run_for(goal, codec)
            if made is None:
                break
            step, loss = _found_step(made), max(self._loss(self.job, made)[0], 1e-9)
            if loss <= self._allowed:
                best = made if best is None or made.nbytes < best.nbytes else best
            if CLOSE * self._allowed <= loss <= self._allowed:
                break
            aimed *= (1 + CLOSE) / 2 * self._allowed / loss
        return best, step

    def goal(self, codec: SteppedCodec, lost: float) -> QualityGoal | None:
        """Return what `codec` can find its step for by itself, in one run; None if it must be tried from outside.

        Parameters
        ----------
        codec : SteppedCodec
        lost : float
            The loss to come to, of the kind of the aim.
        """
        table = self.job.table
        plain = not self.before and table.row_map.scale is None
        if not (plain and codec.takes_goal and table.row_map.count >= GOAL_ROWS):
            return None
        if self.aim.kind == "max_error":
            return ErrorGoal(lost)
        if self.aim.kind == "min_cosine":
            return CosineGoal(1 - lost)
        return self._overlap_goal(lost)

    def _overlap_goal(self, lost: float) -> OverlapGoal | None:
        """Return the goal of an overlap among all words of the table; None if nearly all vectors are equal."""
        sample = self._neighbours()
        if sample.nearest.shape[1] < 2 * NEIGHBOURS:
            return None
        return OverlapGoal(self.job.table.embeddings, sample, NEIGHBOURS, 1 - lost)

    def _run_for(self, goal: QualityGoal, codec: SteppedCodec) -> Made | None:
        """Return the result of a codec that finds its step for a goal; None if there is no such step."""
        try:
            return self.job.run(self._with(codec.with_step(1.0)), goal=goal)
        except StepError:
            return None

    def _try_steps(
        self, codec: SteppedCodec, job: Job, step: float | None, tries: int
    ) -> _Tried:
        """Return the largest step found that meets the aim, by bisection of logarithms."""
        allowed, best = self._allowed, _Tried(None, None, None)
        bounds = _Bounds(math.log(allowed * (1 + NEAR) / 2))
        for _ in range(tries):
            made = self._run_with_step(codec, job, step)
            if made is None:
                bounds.floor = math.log(step or 1)
            else:
                loss, value = self._loss(job, made)
                point = _Point(math.log(_found_step(made)), math.log(max(loss, 1e-9)))
                if loss <= allowed and (bounds.low is None or point.step > bounds.low.step):
                    best = _Tried(math.exp(point.step), made, value)
                elif best.made is None and (bounds.high is None or point.loss < bounds.high.loss):
                    best = best._replace(nearest=value)
                if NEAR * allowed <= loss <= allowed:
                    break
                bounds.add(point, loss <= allowed)
            step = bounds.next_step()
            if step is None:
                break
        return best

    def _run_with_step(self, codec: SteppedCodec, job: Job, step: float | None) -> Made | None:
        """Return the result of a codec with a step; None if the step, which no user gave, is too small for it."""
        if step is None:
            return job.run(self._with(codec))
        try:
            return job.run(self._with(codec.with_step(step)))
        except StepError:
            return None

    def reach_by_bits(self) -> Made:
        """Find the fewest bits that meet a quality: on a sample, then on the whole table, with more if needed."""
        settings, smaller = self._settings(), self._smaller()
        sampled = smaller is not self.job and self.aim.kind == "min_overlap"
        goal = self._overlap_goal(self._allowed) if sampled else None
        first, last = 0, len(settings) - 1
        while first < last:
            middle = (first + last) // 2
            if self._lost(smaller, smaller.run(self._with(settings[middle])), goal) <= self._allowed:
                last = middle
            else:
                first = middle + 1
        nearest = None
        for codec in settings[first:]:
            made = self.job.run(self._with(codec))
            loss, nearest = self._loss(self.job, made)
            if loss <= self._allowed:
                return made
        raise self._out_of_reach(nearest)

    def _lost(self, smaller: Job, made: Made, goal: OverlapGoal | None) -> float:
        """Return the loss of a result on a sample: with a goal, as predicted for all words, which lie closer."""
        if goal is None:
            return self._loss(smaller, made)[0]
        return 1 - goal.predict(*smaller.before_and_after(made, np.arange(len(smaller.table.words))))


def _rounded(value: float, *, up: bool) -> str:
    """Return a number with four digits, rounded towards an aim that is easier to meet."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value > 0 else 1.0
    return f"{(math.ceil if up else math.floor)(value / unit) * unit:.4g}"


def _found_step(made: Made) -> float:
    """Return the quantization step of a result."""
    codec = made.stored.codec
    if not isinstance(codec, SteppedCodec) or codec.step is None:
        raise TypeError("the codec has no step")
    return codec.step
