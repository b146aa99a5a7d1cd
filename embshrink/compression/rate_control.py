"""Find the setting of a bits step that meets an aim: so many bits or bytes, or so much quality."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from embshrink.errors import StepError

SAMPLE = 20_000  # words that settings are tried on first
TRIES = 12  # on the sample
LAST_TRIES = 5  # on the whole
FEW_BITS = 0.9  # a number: from here on rq may lose less
NEAR = 0.97  # of what may be lost, or taken: near enough

# name: (what is measured, how what is lost follows from it)
QUALITIES = {
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
    def one_of(cls, **given):
        """Return the one aim that is given, or None.

        Raises
        ------
        StepError
            If there are two, or one is impossible.
        """
        given = {kind: value for kind, value in given.items() if value is not None}
        if len(given) > 1:
            raise StepError(f"{' and '.join(given)} are both given", hint="Give one of them.")
        for kind, value in given.items():
            if not (value > 0 and (kind in ("bits", "size") or value < 1)):
                raise StepError(f"{kind} cannot be {value}", expected="> 0" if kind in ("bits", "size") else "0 to 1")
            return cls(kind, value)
        return None

    def __str__(self):
        return f"{self.kind.replace('_', ' ')} {self.value:g}"


class AimMissed(StepError):
    """No setting of the method meets the aim; the message says what comes nearest."""


def meet(aim, steps, job, choose=False):
    """Return what steps make of a job's table with their bits step set so that the aim is met.

    Parameters
    ----------
    aim : Aim
    steps : list of step
    job : embshrink.compression.run.Job
    choose : bool
        Below `FEW_BITS` a number, try `rq` too, and take what has the smaller relative error.

    Returns
    -------
    embshrink.compression.run.Made

    Raises
    ------
    StepError
        If there is no bits step to set.
    AimMissed
    """
    if not steps or steps[-1].axis != "bits":
        raise StepError(f"{aim.kind} needs a bits step to set", hint="Add ecq, or another of: embshrink methods")
    fits_itself = steps[-1].fits_itself
    if aim.kind in QUALITIES:
        return _reach_by_step(aim, steps, job) if fits_itself else _reach_by_bits(aim, steps, job)
    if not fits_itself:
        return _spend_planned(aim, steps, job)
    try:
        made = _spend(aim, steps, job)
    except (AimMissed, StepError):
        if not choose:
            raise
        made = None
    if choose and (made is None or made.bits_per_word < FEW_BITS * made.stored.dim):
        return _or_rq(aim, steps, job, made)
    return made


def _or_rq(aim, steps, job, made):
    """Return what `rq` makes of it if that loses less than `made`, or there is nothing made."""
    from embshrink.methods import registry

    try:
        other = _spend_planned(aim, [*steps[:-1], registry.make("rq")], job)
    except (AimMissed, StepError):
        if made is None:
            raise
        return made
    if made is None or job.loss(other)["relative_error"] < job.loss(made)["relative_error"]:
        return other
    return made


def _width(job, steps):
    """Return what is planned for words, or where there are none for n-grams."""
    from embshrink.compression.run import _ngram_steps
    from embshrink.methods import pipeline

    table = job.table
    if len(table.words):
        return pipeline.plan(len(table.words), table.matrix.shape[1], steps, row_map=table.row_map)
    return pipeline.plan(*table.ngrams.matrix.shape, _ngram_steps(table, steps, "same")[1])


def _settings(job, steps):
    """Return the step lists that differ, from few bits a row to many, for a codec of whole bits."""
    found = []
    width = _width(job, steps).width
    for bits in range(1, 32 * width + 1):
        try:
            step = steps[-1].with_bits(bits, width)
        except StepError:
            continue
        if not found or found[-1][-1] != step:
            found.append([*steps[:-1], step])
    return found


# ---------------------------------------------------------------- bits and bytes


def _spend_planned(aim, steps, job):
    """Meet bits or a size with a codec whose size is known beforehand: the most that keeps within it."""
    from embshrink.compression.run import plan_file

    def taken(settings):
        if aim.kind == "size":
            return plan_file(job, settings)[1]
        planned = _width(job, settings)
        return 8 * planned.nbytes / max(len(job.table.words) or planned.rows, 1)

    settings = _settings(job, steps)
    low, high = 0, len(settings)  # settings[low - 1] keeps within it, settings[high] does not
    while low < high:
        middle = (low + high) // 2
        if taken(settings[middle]) <= aim.value:
            low = middle + 1
        else:
            high = middle
    if not low:
        raise _missed(aim, taken(settings[0]))
    return job.run(settings[low - 1])


def _spend(aim, steps, job):
    """Meet bits or a size with a codec that finds its own step: try, and correct."""
    from embshrink.compression.run import plan_file, planned_bytes

    width = _width(job, steps).width
    empty = [*steps[:-1], steps[-1].with_bits(1e-9, width)]
    planned = _width(job, empty)
    rows, n = planned.rows, max(len(job.table.words) or planned.rows, 1)
    codec = planned_bytes({name: part for name, part in planned.sections.items()
                           if name.startswith(("state.", "codes."))})
    if aim.kind == "size":
        bits = 8 * (aim.value - plan_file(job, empty)[1] + codec) / rows
    else:
        bits = (aim.value * n - 8 * (planned.nbytes - codec)) / rows
    best = taken = None
    for _ in range(LAST_TRIES):
        if bits < 0.001:
            break
        bits = math.floor(bits * 1000) / 1000  # the file's header is read by people too
        made = job.run([*steps[:-1], steps[-1].with_bits(bits, width)])
        taken = made.nbytes if aim.kind == "size" else made.bits_per_word
        spare = (aim.value - taken) * (8 if aim.kind == "size" else n) / rows  # bits a row
        if spare >= 0 and (best is None or taken > best[0]):
            best = taken, made
        if 0 <= spare <= max(0.005 * bits, 0.25):
            break
        bits += spare - max(0.001 * bits, 0.05)
    if best is None:
        raise _missed(aim, taken)
    return best[1]


def _missed(aim, nearest):
    if aim.kind == "size":
        return AimMissed("the file cannot be made so small by this method",
                         expected=None if nearest is None else f">= {nearest:,} bytes", found=f"{aim.value:,.0f}",
                         hint="Prune first, or take another method.")
    return AimMissed(f"{aim} is out of reach of this method",
                     found=None if nearest is None else f"{nearest:.4g} at the nearest",
                     hint="Take another method, or another aim.")


# ---------------------------------------------------------------- quality


def _loss(aim, job, made):
    key, lost = QUALITIES[aim.kind]
    value = job.loss(made)[key]
    return (lost(value) if value is not None else 0.0), value


def _smaller(job, steps):
    """Return the job on a sample of its words; itself where it is small, or row steps need all words."""
    if len(job.table.words) > 2 * SAMPLE and not any(part.axis == "rows" for part in steps):
        return job.sample(SAMPLE)
    return job


def _reach_by_step(aim, steps, job):
    """Find the largest step that meets a quality: on a sample, then on the whole."""
    allowed = QUALITIES[aim.kind][1](aim.value)
    step, tried = None, _smaller(job, steps)
    if tried is not job:
        step = _search(aim, steps, tried, allowed, None, TRIES)[0]
    step, made, value = _search(aim, steps, job, allowed, step, LAST_TRIES if step else TRIES)
    if made is None:
        raise _missed(aim, value)
    return made


def _search(aim, steps, job, allowed, step, tries):
    """Return (step, what it made, its quality) of the largest step found that meets the aim; None where none does."""
    low = high = None  # (logarithm of a step, that of what it loses): one that meets the aim, one that does not
    best, nearest = (None, None), None
    for _ in range(tries):
        codec = replace(steps[-1], bits=None, step=step) if step else steps[-1]
        made = job.run([*steps[:-1], codec])
        log = math.log(made.stored.codec.step)
        loss, value = _loss(aim, job, made)
        point = log, math.log(max(loss, 1e-9))
        if loss <= allowed:
            if low is None or log > low[0]:
                low, best, nearest = point, (math.exp(log), made), value
            if loss >= NEAR * allowed:
                break
        else:
            high = point
            if low is None:
                nearest = value
        goal = math.log(allowed * (1 + NEAR) / 2)
        if low and high:
            if high[0] - low[0] < 0.005:
                break
            share = (goal - low[1]) / max(high[1] - low[1], 1e-9)
            step = math.exp(low[0] + min(max(share, 0.1), 0.9) * (high[0] - low[0]))
        else:
            step = math.exp(log + min(max((goal - point[1]) / 2, -2.5), 2.5))
    return *best, nearest


def _reach_by_bits(aim, steps, job):
    """Find the fewest bits that meet a quality: on a sample, then on the whole, more where it is missed there."""
    allowed = QUALITIES[aim.kind][1](aim.value)
    settings = _settings(job, steps)
    first = 0
    tried, last = _smaller(job, steps), len(settings) - 1
    while first < last:
        middle = (first + last) // 2
        if _loss(aim, tried, tried.run(settings[middle]))[0] <= allowed:
            last = middle
        else:
            first = middle + 1
    nearest = None
    for setting in settings[first:]:
        made = job.run(setting)
        loss, nearest = _loss(aim, job, made)
        if loss <= allowed:
            return made
    raise _missed(aim, nearest)
