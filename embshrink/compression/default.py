"""What is written if neither steps nor an aim are given: the smallest file that keeps 8 of 10 nearest neighbours."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from embshrink.compression.job import Job, Made, PlannedFile
from embshrink.compression.rate_control import Aim, AimMissed, estimate_bits, meet
from embshrink.methods import registry
from embshrink.methods.base import Step
from embshrink.methods.cast import Cast
from embshrink.methods.ecq.codec import ECQ

DEFAULT = ECQ()
AIM = Aim("min_overlap", 0.8)
LEAST_ROWS = 100  # with fewer, ten neighbours are a large part of the table, and ecq's tables most of the file
WORTHWHILE = 0.9  # codes of the source are replaced only by a file of at most this share of the size
KEPT = "8 of 10 nearest neighbours"
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

    Parameters
    ----------
    job : Job
    measure : bool
        Whether the loss may be measured.
    """
    reason = why_two_bits(job, measure)
    found = _smallest(job) if reason is None else Outcome([DEFAULT], job.run([DEFAULT]), [f"{TWO_BITS}, {reason}"])
    return found if job.table.stored is None else _or_codes(job, found)


def plan_default(job: Job) -> PlannedFile:
    """Return the size of the file that `run_default` would make: an estimate, as its bits follow from neighbours.

    Parameters
    ----------
    job : Job
    """
    reason = why_two_bits(job, True)
    if reason is not None:
        return dataclasses.replace(job.plan([DEFAULT]), remarks=[f"{TWO_BITS}, {reason}"])
    bits = estimate_bits(AIM, DEFAULT, job)
    if bits is None:
        unknown = f"the bits that keep {KEPT} are not known before the run"
        return dataclasses.replace(job.plan([DEFAULT]), remarks=[f"{TWO_BITS}; {unknown}"])
    return dataclasses.replace(job.plan([DEFAULT.with_bits(math.ceil(bits), job.table.matrix.shape[1])]), remarks=[
        f"an estimate, from a sample of rows, of the smallest file that keeps {KEPT}: {AIM}"])


def why_two_bits(job: Job, measure: bool) -> str | None:
    """Return why the default is 2 bits per dimension for this table, or None if it is an overlap."""
    table = job.table
    if not len(table.words):
        return "because n-grams alone have no words whose neighbours could be kept"
    if len(table.matrix) < LEAST_ROWS:
        return f"because the neighbours in a table of fewer than {LEAST_ROWS} vectors say little"
    if not measure:
        return "because the loss is not measured: measure=False (--no-measure)"
    return None


def _smallest(job: Job) -> Outcome:
    """Return the smallest file of ecq that keeps enough neighbours; a cast if that is smaller, or if ecq cannot."""
    try:
        made, kept = meet(AIM, [DEFAULT], job, choose=True), f"the smallest file that keeps {KEPT}: {AIM}"
        codec = made.stored.codec
        if isinstance(codec, ECQ):
            return Outcome([DEFAULT], made, [kept], AIM)
        return Outcome([codec], made, [kept, f"{registry.format(codec)}, because ecq would take more bytes"])
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
