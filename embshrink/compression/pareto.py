"""What every method would make of a table, tried on a sample: error against bytes, and which are the best."""

from __future__ import annotations

from dataclasses import dataclass

from embshrink.errors import EmbshrinkError
from embshrink.methods import registry
from embshrink.numerics.progress import no_progress

SAMPLE = 20_000  # words that everything is tried on
BITS = (0.5, 1, 2, 4, 8)  # a number
MOST_BITS = {"rq": 1}  # beyond, it takes minutes, and learns the sample by heart


@dataclass
class Tried:
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
    overlap_at_10: float
    best: bool = False


def frontier(job, *, progress=no_progress):
    """Try every bits method at several sizes on a sample of a table's words.

    Parameters
    ----------
    job : embshrink.compression.run.Job
    progress : callable

    Returns
    -------
    list of Tried
        From small to large.
    """
    from embshrink.compression.run import plan_file

    n, d = len(job.table.words), job.table.matrix.shape[1]
    sample = job.sample(min(SAMPLE, n))
    _, alone, parts, _ = plan_file(job, ["cast:dtype=float32"])
    words = alone - sum(size for name, size in parts.items() if name.startswith(("codes.", "state.")))
    names = [name for name in registry.METHODS if registry.method(name).axis == "bits"]
    tried = {}
    for at, name in enumerate(names):
        for bits in BITS:
            progress("trying methods", at * len(BITS) + BITS.index(bits), len(names) * len(BITS))
            if bits > MOST_BITS.get(name, bits):
                continue
            try:
                made = sample.run([registry.make(name).with_bits(bits * d, d)])
            except EmbshrinkError:  # not with so few bits
                continue
            step = made.header["steps"][-1]
            if step not in tried:
                tried[step] = _measured(sample, made, step, n, words)
    found = sorted(tried.values(), key=lambda one: (one.bytes, one.relative_error))
    least = float("inf")
    for one in found:
        one.best = one.relative_error < least
        least = min(least, one.relative_error)
    return found


def _measured(sample, made, step, n, words):
    loss = sample.loss(made)
    codes = sum(part.nbytes for name, part in made.sections.items() if name.startswith(("codes.", "map.")))
    state = sum(part.nbytes for name, part in made.sections.items() if name.startswith("state."))
    taken = codes * n / len(made.words) + state
    return Tried(step, 8 * taken / n, round(words + taken), loss["relative_error"], loss["mean_cosine"],
                 loss["overlap_at_10"])
