"""What every method would make of a table, tried on a sample: error against bytes, and which are the best."""

from __future__ import annotations

from dataclasses import dataclass

from embshrink.compression.job import Job, Made
from embshrink.errors import EmbshrinkError
from embshrink.methods import registry
from embshrink.methods.base import Codec
from embshrink.numerics.progress import Progress, no_progress

SAMPLE = 20_000  # words that everything is tried on
BITS = (0.5, 1, 2, 4, 8)  # a number
MOST_BITS = {"rq": 1}  # beyond, it takes minutes, and learns the sample by heart


@dataclass
class ParetoPoint:
    """One setting of a method.

    Attributes
    ----------
    step : str
    bits_per_word : float
        For vectors; codes as on the sample, tables spread over all words.
    bytes : int
        Of the whole file.
    relative_error, mean_cosine, overlap_at_10 : float
        On the sample; among fewer words neighbours are easier to keep than among all.
    best : bool
        No other setting tried is as small and loses as little.
    """

    step: str
    bits_per_word: float
    bytes: int
    relative_error: float
    mean_cosine: float
    overlap_at_10: float | None
    best: bool = False


def pareto_front(job: Job, *, progress: Progress = no_progress) -> list[ParetoPoint]:
    """Try every bits method at several sizes on a sample of a table's words.

    Parameters
    ----------
    job : Job
    progress : callable
        ``progress("trying methods", done, total)``.

    Returns
    -------
    list of ParetoPoint
        From small to large.
    """
    n, d = len(job.table.words), job.table.matrix.shape[1]
    sample = job.sample(min(SAMPLE, n))
    alone = job.plan("cast:dtype=float32")
    words = alone.bytes - sum(size for name, size in alone.sections.items() if name.startswith(("codes.", "state.")))
    settings = [(name, bits) for name in registry.METHODS if registry.method(name).axis == "bits" for bits in BITS]
    tried: dict[str, ParetoPoint] = {}
    for done, (name, bits) in enumerate(settings):
        progress("trying methods", done, len(settings))
        step = registry.make(name)
        if bits > MOST_BITS.get(name, bits) or not isinstance(step, Codec):
            continue
        try:
            made = sample.run([step.with_bits(bits * d, d)])
        except EmbshrinkError:  # not with so few bits
            continue
        text = made.header.steps[-1]
        if text not in tried:
            tried[text] = _measured(sample, made, text, n, words)
    found = sorted(tried.values(), key=lambda one: (one.bytes, one.relative_error))
    least = float("inf")
    for one in found:
        one.best = one.relative_error < least
        least = min(least, one.relative_error)
    return found


def _measured(sample: Job, made: Made, step: str, n: int, words: int) -> ParetoPoint:
    """Return a setting tried on a sample, as it would be for n words whose names take so many bytes."""
    loss = sample.loss(made)
    codes = sum(part.nbytes for name, part in made.sections.items() if name.startswith(("codes.", "map.")))
    state = sum(part.nbytes for name, part in made.sections.items() if name.startswith("state."))
    taken = codes * n / len(made.words) + state
    error = loss["relative_error"]
    return ParetoPoint(step, 8 * taken / n, round(words + taken), float("inf") if error is None else error,
                 loss["mean_cosine"], loss["overlap_at_10"])
