"""How often words are used: from a file of counts, or guessed from their order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError
from embshrink.vocabulary.words import Vocabulary, to_bytes

if TYPE_CHECKING:
    from embshrink.storage.arrays import DoubleArray

ALPHABETICAL = 0.9  # share of neighbouring words in order from which a list is taken to be sorted by spelling
MOST_DIGITS = 18  # of a count, so that it fits 64 bits
LEAST_WORDS, LEAST_INITIALS = 100, 10  # fewer say little: w1, w2, w3, ... may well be in order of frequency


def read_counts(path: str | os.PathLike[str]) -> tuple[dict[bytes, float], dict[str, str]]:
    """Read a file of words and counts, one pair a line, as GloVe's and word2vec's vocabulary tools write it.

    Parameters
    ----------
    path : str or os.PathLike
        ``word count``, separated by a tab or by spaces; the count is the last field.

    Returns
    -------
    counts : dict of bytes to float
        Where a word comes again, the counts are added up.
    source : dict
        ``name`` and ``sha256``, for the header.

    Raises
    ------
    SourceError
        If the file cannot be read, is empty, or a line has no count.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SourceError(f"cannot read the counts: {error.strerror or error}", path=path) from error
    counts: dict[bytes, float] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        line = line.rstrip(b"\r")
        if not line:
            continue
        word, _, count = line.replace(b"\t", b" ").rpartition(b" ")
        if not count.isdigit() or len(count) > MOST_DIGITS:
            raise SourceError("a line of counts has no whole number at its end", path=path, where=f"line {number}",
                              expected="word count", found=line[:60].decode("utf-8", "replace"))
        word = word.strip(b" ")
        counts[word] = counts.get(word, 0.0) + int(count)
    if not counts:
        raise SourceError("there are no counts in the file", path=path, expected="word count, one pair a line")
    source = {"name": os.path.basename(os.fspath(path)), "sha256": hashlib.sha256(data).hexdigest()}
    return counts, source


def weights_of(words: Vocabulary, counts: Mapping[str, float] | Mapping[bytes, float]) -> tuple[DoubleArray, int]:
    """Return how often each word is used, and how many words had no count.

    Parameters
    ----------
    words : Vocabulary
        n words.
    counts : mapping of str or bytes to float

    Returns
    -------
    weights : numpy.ndarray, shape (n,), float64
        A word without a count, or with a count below 1, counts as 1.
    missing : int
    """
    by_bytes = {to_bytes(word): float(count) for word, count in counts.items()}
    raw = words.raw
    weights = np.array([by_bytes.get(word, 0.0) for word in raw])
    return np.maximum(weights, 1.0), sum(word not in by_bytes for word in raw)


def looks_alphabetical(words: Vocabulary) -> bool:
    """Whether words come in order of spelling, and so not in order of frequency."""
    raw = words.raw
    if len(raw) < LEAST_WORDS or len({word[:1] for word in raw}) < LEAST_INITIALS:
        return False
    ascending = sum(first < second for first, second in zip(raw, raw[1:]))
    return ascending >= ALPHABETICAL * (len(raw) - 1)
