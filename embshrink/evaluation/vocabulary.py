"""The words of a table that are used in benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral

from embshrink.embeddings.protocols import LookupTable
from embshrink.errors import EmbshrinkError
from embshrink.vocabulary.words import to_text, warn_if_moved

RESTRICT_VOCAB = 300_000  # gensim's default


class FoldedVocabulary:
    """The first words of a table, in upper case if case is ignored.

    If several words are equal in upper case, the first one is found, which usually is the most frequent.

    Parameters
    ----------
    table : LookupTable
        The table.
    restrict_vocab : int or None
        Number of words, from the first; None for all.
    case_insensitive : bool
        Convert words to upper case.

    Raises
    ------
    EmbshrinkError
        If `restrict_vocab` is below 1.
    """

    def __init__(self, table: LookupTable, restrict_vocab: int | None, case_insensitive: bool) -> None:
        check_count("restrict_vocab", restrict_vocab)
        warn_if_moved(table.words, restrict_vocab)
        self.fold: Callable[[str], str] = str.upper if case_insensitive else str
        self.words = [self.fold(to_text(word)) for word in table.words.raw[:restrict_vocab]]
        self._ids = dict(zip(reversed(self.words), range(len(self.words) - 1, -1, -1)))

    def __len__(self) -> int:
        return len(self.words)

    def find(self, words: Iterable[str]) -> list[int] | None:
        """Return the ids of several words; None if one of them is unknown."""
        try:
            return [self._ids[self.fold(word)] for word in words]
        except KeyError:
            return None


def check_count(name: str, value: int | None) -> None:
    """Raise EmbshrinkError unless a parameter is None or a whole number of at least 1."""
    if value is not None and (not isinstance(value, Integral) or value < 1):
        raise EmbshrinkError(f"{name} must be a whole number of at least 1", found=repr(value))
