"""What is written if neither steps nor an aim are given: the smallest file that keeps 8 of 10 nearest neighbours."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import NamedTuple

from embshrink.compression.job import Job, Made, PlannedFile
from embshrink.compression.rate_control import CANDIDATES, Aim, AimMissed, estimate_bits, meet
from embshrink.errors import EmbshrinkError, ShapeError
from embshrink.methods import registry
from embshrink.methods.base import Step
from embshrink.methods.cast import Cast
from embshrink.methods.ecq.codec import ECQ

DEFAULT = ECQ()
AIM = Aim("min_overlap", 0.8)
LEAST_VECTORS = 100  # distinct ones; of fewer, ten neighbours are a large part
WORTHWHILE = 0.9  # codes of the source are replaced only by a file of at most this share of the size
KEPT = "8 of 10 nearest neighbours"
LARGER = "because ecq would take more bytes"
TWO_BITS = "about 2 bits per dimension, besides the tables of ecq"


class Outcome(NamedTuple):
    """What was run, and its result.

    Parameters
    ----------
    steps : list of Step
        The steps as the user gave them, or would have given them.
    made : Made
        Their result.
    remarks : list of str
        What the default decided, and why.
    aim : Aim or None
        What the only step, `ecq`, was set for.
    """

    steps: list[Step]
    made: Made
    remarks: list[str]
    aim: Aim | None = None


def run_default(job: Job, *, measure: bool) -> Outcome:
    """Run `ecq` for the smallest file that keeps 8 of 10 nearest neighbours, or at 2 bits where that cannot be known.

    A cast is run instead if its file is smaller, or if `ecq` cannot store the vectors.

    Parameters
    ----------
    job : Job
    measure : bool
        Whether the loss may be measured.
    """
    reason = _why_two_bits(job, measure)
    try:
        found = _smallest(job) if reason is None else _two_bits(job, reason)
    except ShapeError as unfit:
        exact = Cast("float32")
        found = Outcome([exact], job.run([exact]), [f"{registry.format(exact)}, because {unfit.problem}"])
    return found if job.table.stored is None else _or_codes(job, found)


def plan_default(job: Job) -> PlannedFile:
    """Return the size of the file that `run_default` would make: an estimate, as its bits follow from neighbours.

    Parameters
    ----------
    job : Job
    """
    reason = _why_two_bits(job, True)
    if reason is not None:
        planned, cast = job.plan([DEFAULT]), job.plan([Cast()])
        if cast.bytes < planned.bytes:
            return dataclasses.replace(cast, remarks=[_instead(Cast(), reason)])
        return dataclasses.replace(planned, remarks=[f"{TWO_BITS}, {reason}"])
    bits = estimate_bits(AIM, DEFAULT, job)
    if bits is None:
        unknown = f"the bits that keep {KEPT} are not known before the run"
        return dataclasses.replace(job.plan([DEFAULT]), remarks=[f"{TWO_BITS}; {unknown}"])
    return dataclasses.replace(job.plan([DEFAULT.with_bits(math.ceil(bits), job.table.matrix.shape[1])]), remarks=[
        f"an estimate, from a sample of rows, of the smallest file that keeps {KEPT}: {AIM}"])


def _why_two_bits(job: Job, measure: bool) -> str | None:
    """Return why the default is 2 bits per dimension for this table, or None if it is an overlap."""
    table = job.table
    if not len(table.words):
        return "because n-grams alone have no words whose neighbours could be kept"
    if not measure:
        return "because the loss is not measured: measure=False (--no-measure)"
    if len(table.matrix) < LEAST_VECTORS or len(job.neighbours(CANDIDATES).ids) < LEAST_VECTORS:
        return f"because the neighbours among fewer than {LEAST_VECTORS} distinct vectors say little"
    return None


def _two_bits(job: Job, reason: str) -> Outcome:
    """Return the file of ecq at 2 bits per dimension; that of a cast to float16 if it is smaller."""
    made, cast = job.run([DEFAULT]), Cast()
    if job.plan([cast]).bytes < made.nbytes:
        with contextlib.suppress(EmbshrinkError):  # numbers too large for float16
            return Outcome([cast], job.run([cast]), [_instead(cast, reason)])
    return Outcome([DEFAULT], made, [f"{TWO_BITS}, {reason}"])


def _instead(cast: Cast, reason: str) -> str:
    """Return the remark on a cast that is smaller than `ecq` at 2 bits, which would be used for `reason`."""
    return f"{registry.format(cast)}, {LARGER} and {reason}"


def _smallest(job: Job) -> Outcome:
    """Return the smallest file of ecq that keeps enough neighbours; a cast if that is smaller, or if ecq cannot."""
    try:
        made, kept = meet(AIM, [DEFAULT], job, choose=True), f"the smallest file that keeps {KEPT}: {AIM}"
        codec = made.stored.codec
        if isinstance(codec, ECQ):
            return Outcome([DEFAULT], made, [kept], AIM)
        return Outcome([codec], made, [kept, f"{registry.format(codec)}, {LARGER}"])
    except AimMissed as missed:
        instead = missed.instead
    never = f"because ecq cannot keep {KEPT} of these vectors"
    if instead is None:
        return Outcome([DEFAULT], job.run([DEFAULT]), [f"{TWO_BITS}, {never}"])
    cast = instead.stored.codec
    return Outcome([cast], instead, [f"{registry.format(cast)}, {never}"])


def _or_codes(job: Job, found: Outcome) -> Outcome:
    """Return the codes of the source unchanged if little is saved without them; else say how to keep them."""
    kept = job.run([])
    if found.made.nbytes > WORTHWHILE * kept.nbytes:
        return Outcome([], kept, ["lossless (--lossless), because ecq would save less than a tenth of the file"])
    if isinstance(kept.stored.codec, Cast):
        return found
    return found._replace(remarks=[
        *found.remarks, f"lossless (--lossless) keeps the codes of the source, in {kept.nbytes:,} bytes"])
