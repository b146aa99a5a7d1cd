"""The search for the step size at which all bits together are those requested.

At high rates, doubling the step size saves one bit in each of m coefficients. For an excess of `over` bits per row,

    log step  <-  log step + over ln 2 / m

is therefore a Newton step. It is used until there is a step size on either side of the target; then log step is
interpolated linearly between them (regula falsi). Each trial starts from the statistics of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.base import TooFewBits
from embshrink.methods.ecq.statistics import Statistics
from embshrink.methods.ecq.stored import total_bits
from embshrink.methods.ecq.trial import Candidate, Trial

if TYPE_CHECKING:
    from embshrink.methods.base import QualityGoal
    from embshrink.storage.arrays import IntArray

ATTEMPTS = 24  # maximum of step sizes tried on some rows
CLOSE = 0.1  # on some rows: bits per row below the target that are close enough
ENOUGH_APART = 1e-4  # minimum difference of the logarithms of two step sizes
MARGIN = 0.05  # on some rows: bits per row below the target to aim at
CORRECTIONS = 10  # maximum of step sizes tried on all rows of the sample; usually 2
GOAL_CLOSE = 0.02  # octaves of the error below a goal that need not be lost


class _Tried(NamedTuple):
    log: float  # logarithm of the step size
    over: float  # bits per row above the target


def find_step(candidate: Candidate, bits: float, step: float, statistics: Statistics) -> tuple[float, Statistics]:
    """Find a step size at which all bits together are `bits` per row, on some rows; return it and its statistics.

    Parameters
    ----------
    candidate : Candidate
    bits : float
        Bits per row, tables included.
    step : float
        Initial step size.
    statistics : Statistics
        Initial statistics.

    Raises
    ------
    TooFewBits
        If `bits` is too small even for a step size far above all coordinates.
    """
    def over(trial: Trial) -> float:
        return total_bits(candidate, trial) - bits

    found, trial = _search(candidate, step, statistics, over, lambda over, trial: _newton(over + MARGIN, trial),
                           close=CLOSE, margin=MARGIN, least=0.02, larger=True, rows=candidate.sample.few)
    if found is None:
        raise TooFewBits("ecq needs more bits per row", bits, total_bits(candidate, trial) + CLOSE)
    return found, trial.statistics


def find_step_for(
    goal: QualityGoal, candidate: Candidate, step: float, statistics: Statistics
) -> tuple[float, Statistics]:
    """Return the largest step size found on some rows that reaches a quality, and the statistics with it.

    The error grows about as the square of the step size, so that Newton's method for an excess in octaves is

        log step  <-  log step - excess ln 2 / 2

    Parameters
    ----------
    goal : QualityGoal
    candidate : Candidate
    step : float
        Initial step size.
    statistics : Statistics
        Initial statistics.

    Raises
    ------
    StepError
        If even the smallest possible step size loses too much.
    """
    few, words = candidate.sample.few, candidate.sample.words[candidate.sample.few]

    def excess(trial: Trial) -> float:
        return goal.excess(*candidate.rebuild(trial, few), words)

    def change(over: float, trial: Trial) -> float:
        return -min(max((over + GOAL_CLOSE / 2) * math.log(2) / 2, -2), 2)

    found, trial = _search(candidate, max(step, candidate.least_step), statistics, excess, change, close=GOAL_CLOSE,
                           margin=GOAL_CLOSE / 2, least=0.05, larger=False, rows=few)
    if found is None:
        raise StepError("the step of ecq is too small for these vectors", expected=f">= {candidate.least_step:.3g}",
                        hint="Allow a larger error, or use cast.")
    return found, trial.statistics


def _search(
    candidate: Candidate, step: float, statistics: Statistics, over: Callable[[Trial], float],
    change: Callable[[float, Trial], float], *, close: float, margin: float, least: float, larger: bool,
    rows: IntArray, attempts: int = ATTEMPTS, learn: int = 2,
) -> tuple[float | None, Trial]:
    """Search the step size at which `over` is just below 0.

    Parameters
    ----------
    candidate : Candidate
    step : float
        Initial step size.
    statistics : Statistics
        Initial statistics.
    over : callable
        Returns how far a trial is above what is allowed.
    change : callable
        Returns the change of the logarithm of the step size for ``(over, trial)``, while only one side is known.
    close, margin : float
        How far below 0 is close enough, and how far to aim at.
    least : float
        Least share of the way between both sides by which a step size is moved.
    larger : bool
        Whether a larger step size makes `over` smaller: it does for bits, and makes errors larger.
    rows : numpy.ndarray, shape (s,), int64
        The rows of the sample that are tried.
    attempts : int
        Maximum of step sizes.
    learn : int
        As for `Candidate.try_step`, for the first step size.

    Returns
    -------
    step : float or None
        The last step size found that is allowed; None if none is.
    trial : Trial
        The last one.
    """
    log, lowest = math.log(step), math.log(candidate.least_step)
    bad: _Tried | None = None
    good: _Tried | None = None
    for attempt in range(attempts):
        trial = candidate.try_step(math.exp(log), rows, statistics, learn=1 if attempt else learn)
        statistics = trial.statistics
        found = _Tried(log, over(trial))
        if found.over > 0:
            bad = found
        else:
            good = found
        if -close <= found.over <= 0 or ((found.over <= 0) == larger and log <= lowest):  # none is smaller
            break
        if bad and good:
            if abs(good.log - bad.log) < ENOUGH_APART:
                break
            share = (bad.over + margin) / (bad.over - good.over)
            log = bad.log + min(max(share, least), 1 - least) * (good.log - bad.log)
        else:
            log = max(log + change(found.over, trial), lowest)
        if log > math.log(1e3 * candidate.reach):
            break
    return None if good is None else math.exp(good.log), trial


def find_measured(
    candidate: Candidate, over: Callable[[Trial], float], close: float, step: float, statistics: Statistics
) -> None:
    """Try step sizes on all rows of the sample until `over` returns at most 0 and at least ``-close``.

    Parameters
    ----------
    candidate : Candidate
    over : callable
        Returns how many bits per row a trial is above what is allowed; it keeps the trials that are of use.
    close : float
        Bits per row below what is allowed that are close enough.
    step : float
        Initial step size.
    statistics : Statistics
        Initial statistics.
    """
    _search(candidate, step, statistics, over, lambda over, trial: _newton(over + close / 2, trial), close=close,
            margin=close / 2, least=0.1, larger=True, rows=_all_rows(candidate), attempts=CORRECTIONS, learn=1)


def settle(candidate: Candidate, step: float, statistics: Statistics) -> Trial:
    """Return the trial of a step size on all rows of the sample."""
    return candidate.try_step(step, _all_rows(candidate), statistics, learn=1)


def _all_rows(candidate: Candidate) -> IntArray:
    return np.arange(len(candidate.sample.rows))


def _newton(over: float, trial: Trial) -> float:
    """Return the change of the logarithm of a step size that takes `over` bits too many."""
    return min(max(over * math.log(2) / max(trial.axes, 1), -3), 3)
