"""The step at which everything takes the bits that are asked for.

At high rates each of m coefficients takes one bit less where the step is doubled, so for an excess of `over` bits a
row

    log step  <-  log step + over ln 2 / m

is Newton's method. It is used until there is a step on either side of the one sought; then log step is interpolated
linearly between them (regula falsi). Each trial goes on from the statistics of the one before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.ecq.statistics import Statistics
from embshrink.methods.ecq.stored import total_bits
from embshrink.methods.ecq.trial import Candidate, Trial

ATTEMPTS = 24
CLOSE = 0.1  # bits a row below what is asked for that need not be spent, on few rows
ENOUGH_APART = 1e-4  # in the logarithm of a step
MARGIN = 0.05  # bits a row below what is asked for that are aimed at
CORRECTIONS = 6  # on all rows of the sample
FINAL_MARGIN = 0.1  # bits a row that must be left there
FINAL_CLOSE = 0.3  # and that may be
FINAL_AIM = 0.2  # and that are aimed at


class _Tried(NamedTuple):
    log: float  # of the step
    over: float  # bits a row that it takes too many


def find_step(candidate: Candidate, bits: float, step: float, statistics: Statistics) -> tuple[float, Statistics]:
    """Return a step at which everything takes `bits` a row, found on some rows, and the statistics there.

    Parameters
    ----------
    candidate : Candidate
    bits : float
    step : float
        To begin with.
    statistics : Statistics
        To begin with.

    Raises
    ------
    StepError
        If so few bits are not enough even for a step beyond all coordinates.
    """
    rows, lowest = candidate.sample.few, math.log(candidate.least_step)
    log = math.log(step)
    low: _Tried | None = None  # takes too many bits
    high: _Tried | None = None  # takes few enough
    for attempt in range(ATTEMPTS):
        trial = candidate.try_step(math.exp(log), rows, statistics, learn=1 if attempt else 2)
        statistics = trial.statistics
        over = total_bits(candidate, trial) - bits
        if over > 0:
            low = _Tried(log, over)
        else:
            high = _Tried(log, over)
        if -CLOSE <= over <= 0 or (over <= 0 and log <= lowest):
            break
        if low and high:
            if high.log - low.log < ENOUGH_APART:
                break
            share = (low.over + MARGIN) / (low.over - high.over)
            log = low.log + min(max(share, 0.02), 0.98) * (high.log - low.log)
        else:
            log = max(log + _newton(over + MARGIN, trial), lowest)
        if log > math.log(1e3 * candidate.reach):
            break
    if high is None:
        raise StepError("ecq cannot spend so few bits a row", expected=f">= {total_bits(candidate, trial):.4g}",
                        found=bits, hint="Its tables weigh with few rows: set centroids=1, or use rq or pq.")
    return math.exp(high.log), statistics


def settle(candidate: Candidate, bits: float | None, step: float, statistics: Statistics) -> Trial:
    """Return the trial of all rows of the sample at this step, or at one near it that keeps `bits` a row.

    Parameters
    ----------
    candidate : Candidate
    bits : float or None
        None: the step as it is.
    step : float
    statistics : Statistics
        To begin with.
    """
    rows = np.arange(len(candidate.sample.rows))
    trial = candidate.try_step(step, rows, statistics, learn=1)
    if bits is None:
        return trial
    for _ in range(CORRECTIONS):
        over = total_bits(candidate, trial) - bits
        if over <= -FINAL_MARGIN and (over >= -FINAL_CLOSE or step <= candidate.least_step):
            break
        step = max(step * math.exp(_newton(over + FINAL_AIM, trial)), candidate.least_step)
        statistics = trial.statistics
        del trial  # not two at a time
        trial = candidate.try_step(step, rows, statistics, learn=0)
    return trial


def _newton(over: float, trial: Trial) -> float:
    """Return by how much the logarithm of a step that takes `over` bits too many is to change."""
    return min(max(over * math.log(2) / max(trial.axes, 1), -3), 3)
