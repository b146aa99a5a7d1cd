"""Frequencies of words, from a file or mapping of counts, and whether words are in alphabetical order."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError
from embshrink.storage.inputs import read_input
from embshrink.vocabulary.buffer import split
from embshrink.vocabulary.words import Vocabulary, to_bytes

if TYPE_CHECKING:
    from embshrink.storage.arrays import DoubleArray

ALPHABETICAL = 0.9  # share of neighbouring words in order from which a list is taken to be sorted by spelling
MOST_DIGITS = 18  # of a count, so that it fits 64 bits
LEAST_WORDS, LEAST_INITIALS = 100, 10  # fewer say little: w1, w2, w3, ... may well be in order of frequency


def read_counts(path: str | os.PathLike[str]) -> tuple[dict[bytes, float], dict[str, str]]:
    """Read a file of words and counts, as the vocabulary tools of GloVe and word2vec write it.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Each line has a word, a tab or spaces, and a whole number.

    Returns
    -------
    counts : dict of bytes to float
        The count of each word. Counts of a word that occurs again are added.
    source : dict of str to str
        ``name`` and ``sha256`` of the file, for the header.

    Raises
    ------
    SourceError
        If the file cannot be read, is empty, or a line does not end in a count.
    """
    try:
        data = read_input(path)
    except OSError as error:
        raise SourceError(f"cannot read the file of counts: {error.strerror or error}", path=path) from error
    counts: dict[bytes, float] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        line = line.rstrip(b"\r")
        if not line:
            continue
        word, _, count = line.replace(b"\t", b" ").rpartition(b" ")
        if not count.isdigit() or len(count) > MOST_DIGITS:
            raise SourceError("the line does not end in a count", path=path, where=f"line {number}",
                              expected=f"a word, a space, and a whole number of at most {MOST_DIGITS} digits",
                              found=repr(line[:60].decode("utf-8", "replace")),
                              hint="Correct the line, or pass the right file as counts (--counts).")
        word = word.strip(b" ")
        counts[word] = counts.get(word, 0.0) + int(count)
    if not counts:
        raise SourceError("the file of counts is empty", path=path, expected="a word and a count on each line",
                          hint="Pass the right file as counts (--counts).")
    source = {"name": os.path.basename(os.fspath(path)), "sha256": hashlib.sha256(data).hexdigest()}
    return counts, source


def weights_of(words: Vocabulary, counts: Mapping[str, float] | Mapping[bytes, float]) -> tuple[DoubleArray, int]:
    """Return the frequency of each word, and the number of words without a count.

    Parameters
    ----------
    words : Vocabulary
        n words.
    counts : mapping of str or bytes to float
        The count of each word.

    Returns
    -------
    weights : numpy.ndarray of float64, shape (n,)
        The counts; 1 for a word without a count, or with a count below 1.
    missing : int
        Number of words without a count.

    Raises
    ------
    SourceError
        If a count is not a finite number.
    """
    by_bytes: dict[bytes, float] = {}
    for word, count in counts.items():
        try:
            number = float(count)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise SourceError(f"the count of {word!r} in counts is not a finite number", found=repr(count))
        by_bytes[to_bytes(word)] = number
    own = words.in_memory()
    weights = np.fromiter((by_bytes.get(word, -math.inf) for word in split(own.text, own.bounds)), np.float64,
                          len(own))
    return np.maximum(weights, 1.0), int(np.count_nonzero(np.isneginf(weights)))


def looks_alphabetical(words: Vocabulary) -> bool:
    """Return whether words are in alphabetical order, and so not in order of frequency."""
    own = words.in_memory()
    if len(own) < LEAST_WORDS or len({word[:1] for word in split(own.text, own.bounds)}) < LEAST_INITIALS:
        return False
    ascending = sum(first < second for first, second in pairwise(split(own.text, own.bounds)))
    return ascending >= ALPHABETICAL * (len(own) - 1)
