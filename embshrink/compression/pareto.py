"""Try every bits method on a sample of a table, and find the settings with the smallest error for their size."""

from __future__ import annotations

from dataclasses import dataclass

from embshrink.compression.job import Job, Made
from embshrink.errors import EmbshrinkError
from embshrink.methods import registry
from embshrink.methods.base import Codec
from embshrink.numerics.progress import Progress, no_progress

SAMPLE = 20_000  # words that every setting is tried on
BITS = (0.5, 1, 2, 4, 8)  # per dimension
MOST_BITS = {"rq": 1}  # with more, it takes minutes and overfits the sample


@dataclass
class ParetoPoint:
    """One setting of a method that `embshrink.pareto` tried.

    Attributes
    ----------
    step : str
        The step, such as ``"pq:subspaces=25"``.
    bits_per_word : float
        Bits per word of the vectors: codes as on the sample, and tables divided by the number of all words.
    bytes : int
        Estimated size of the whole file.
    relative_error : float
        ``||X - X^||^2 / ||X - mean||^2`` on the sample; infinity if it is not defined.
    mean_cosine : float
        Mean cosine of each word's vectors before and after, on the sample.
    overlap_at_10 : float or None
        Share of the ten nearest neighbours that stay the same, on the sample. On all words it is lower. None for a
        single word.
    best : bool
        No other setting that was tried has both a file as small and an error as small.
    """

    step: str
    bits_per_word: float
    bytes: int
    relative_error: float
    mean_cosine: float
    overlap_at_10: float | None
    best: bool = False


def pareto_front(job: Job, *, progress: Progress = no_progress) -> list[ParetoPoint]:
    """Try every bits method at several sizes on a sample of the words of a table.

    Parameters
    ----------
    job : Job
        The table, and the seed.
    progress : callable, optional
        Called as ``progress("trying methods", done, total)``.

    Returns
    -------
    list of ParetoPoint
        The smallest file first.
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
        except EmbshrinkError:  # too few bits for this method
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
    """Return the point of a setting that was tried on a sample, for n words that take `words` bytes themselves."""
    loss = sample.loss(made)
    codes = sum(part.nbytes for name, part in made.sections.items() if name.startswith(("codes.", "map.")))
    state = sum(part.nbytes for name, part in made.sections.items() if name.startswith("state."))
    taken = codes * n / len(made.words) + state
    error = loss["relative_error"]
    return ParetoPoint(step, 8 * taken / n, round(words + taken), float("inf") if error is None else error,
                 loss["mean_cosine"], loss["overlap_at_10"])
