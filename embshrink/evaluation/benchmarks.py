"""Benchmarks: find the default ones, and read files of word pairs or of analogies."""

from __future__ import annotations

import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from embshrink.errors import ExtraError, SourceError
from embshrink.vocabulary.words import to_text

Pair: TypeAlias = tuple[str, str, float]  # two words and their similarity
Question: TypeAlias = tuple[str, str, str, str]  # "a is to b as c is to d"

MAX_BYTES = 64 << 20  # the largest benchmark in use has 3 MB; beyond this it is another file by mistake
DELIMITERS = ("\t", ",", ";", None)  # None: runs of white space; earlier wins where several read as much


@dataclass(frozen=True)
class WordPairs:
    """Word pairs, each with a similarity judged by people.

    Parameters
    ----------
    name : str
        The file's name without its ending.
    pairs : list of (str, str, float)
        In the order of the file.
    invalid : int
        Lines that are neither a pair, a comment, a header nor blank.
    """

    name: str
    pairs: list[Pair]
    invalid: int = 0

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class Analogies:
    """Questions "a is to b as c is to d", by section.

    Parameters
    ----------
    name : str
        The file's name without its ending.
    sections : list of (str, list of (str, str, str, str))
        Name and questions of each section, in the order of the file.
    invalid : int
        Lines that are neither a question, a section's header nor blank.
    """

    name: str
    sections: list[tuple[str, list[Question]]]
    invalid: int = 0

    def __len__(self) -> int:
        return sum(len(questions) for _, questions in self.sections)


def find_pairs() -> list[Path]:
    """Return the files of the default word-similarity sets: WordSim-353 and SimLex-999.

    Returns
    -------
    list of pathlib.Path
        Files of the installed gensim, which is not imported.

    Raises
    ------
    ExtraError
        If gensim is not installed, or without its test data.

    References
    ----------
    WordSim-353: Finkelstein et al., ACM TOIS 20(1), 2002. SimLex-999: Hill, Reichart and Korhonen,
    Computational Linguistics 41(4), 2015.
    """
    return [gensim_file("wordsim353.tsv"), gensim_file("simlex999.txt")]


def find_analogies() -> Path:
    """Return the file of the default analogies: Google's questions-words, 19,544 questions in 14 sections.

    Returns
    -------
    pathlib.Path
        A file of the installed gensim, which is not imported.

    Raises
    ------
    ExtraError
        If gensim is not installed, or without its test data.

    References
    ----------
    Mikolov, Chen, Corrado and Dean, arXiv 1301.3781, 2013.
    """
    return gensim_file("questions-words.txt")


def gensim_file(name: str) -> Path:
    """Return a file of the test data in the installed gensim, which is not imported.

    Parameters
    ----------
    name : str

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ExtraError
        If gensim is not installed, or without this file.
    """
    spec = importlib.util.find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise ExtraError(f"{name} is a file of the package gensim, which is not installed",
                         hint="Install it with: pip install gensim, or name a file of your own.")
    path = Path(spec.submodule_search_locations[0], "test", "test_data", name)
    if not path.is_file():
        raise ExtraError("gensim is installed without the files in its test data", path=path,
                         hint="Reinstall it with: pip install --force-reinstall gensim, or name a file of your own.")
    return path


def read_pairs(path: str | os.PathLike[str], delimiter: str | None = None) -> WordPairs:
    """Read a word-similarity file.

    Parameters
    ----------
    path : str or os.PathLike
        UTF-8 text, one pair a line. Columns are separated by tabs, commas, semicolons or white space,
        whichever fits most lines. The first two columns are the words, the first number after them is the
        score, and further columns are ignored, so that SimLex-999 and Rare Words can be read as they were
        published. Lines that begin with ``#``, blank lines and a header are skipped.
    delimiter : str, optional
        What separates the columns; None to choose the one that fits most lines.

    Returns
    -------
    WordPairs

    Raises
    ------
    SourceError
        If the file cannot be read, is not text, is too large, or holds no pair.
    """
    lines = [(number, line) for number, line in _lines(path) if line.strip() and not line.startswith("#")]
    rows, (width, column) = _split(lines, [delimiter] if delimiter else DELIMITERS)
    pairs = [(row[0], row[1], float(row[column])) for row in rows if _shape(row) == (width, column)]
    if not pairs:
        number, line = lines[0] if lines else (1, "")
        raise SourceError("there is no word pair in the file", path=path, where=f"line {number}",
                          expected="two words and a number, separated by tabs, commas or spaces",
                          found=_excerpt(line),
                          hint="Is it a word-similarity set? Analogies are read from four words a line.")
    if sum(_is_number(pair[1]) for pair in pairs) > len(pairs) / 2:
        raise SourceError("the second words are numbers", path=path, expected="two words and a number a line",
                          found=_excerpt(lines[0][1]), hint="Is it a word-vector file?")
    first = rows[0]
    header = len(first) == width and _shape(first) is None
    return WordPairs(Path(path).stem, pairs, len(rows) - len(pairs) - header)


def as_word_pairs(benchmark: WordPairs | str | os.PathLike[str], delimiter: str | None = None) -> WordPairs:
    """Return word pairs as they are, or read their file; see `read_pairs`."""
    return benchmark if isinstance(benchmark, WordPairs) else read_pairs(benchmark, delimiter)


def as_analogies(benchmark: Analogies | str | os.PathLike[str]) -> Analogies:
    """Return analogies as they are, or read their file; see `read_analogies`."""
    return benchmark if isinstance(benchmark, Analogies) else read_analogies(benchmark)


def similarity_benchmarks(
    pairs: WordPairs | str | os.PathLike[str] | Iterable[WordPairs | str | os.PathLike[str]] | None,
) -> list[WordPairs]:
    """Return the word-similarity benchmarks to use: one, several, or the default ones for None.

    Raises
    ------
    SourceError
        If one cannot be read.
    ExtraError
        If the default ones are not there.
    """
    if pairs is None:
        return [read_pairs(path) for path in find_pairs()]
    if isinstance(pairs, (str, os.PathLike, WordPairs)):
        return [as_word_pairs(pairs)]
    return [as_word_pairs(benchmark) for benchmark in pairs]


def analogy_benchmark(analogies: Analogies | str | os.PathLike[str] | Literal[True] | None) -> Analogies | None:
    """Return the analogy benchmark to use: one, the default one for True, none for None.

    Raises
    ------
    SourceError
        If it cannot be read.
    ExtraError
        If the default one is not there.
    """
    if analogies is None:
        return None
    return as_analogies(find_analogies() if analogies is True else analogies)


def _split(
    lines: list[tuple[int, str]], delimiters: Iterable[str | None]
) -> tuple[list[list[str]], tuple[int, int]]:
    """Return the lines' columns, and the (number of columns, column of the score) that most lines have."""
    best: tuple[list[list[str]], tuple[int, int]] = [], (0, 0)
    best_count = 0
    for delimiter in delimiters:
        rows = [[field.strip() for field in line.split(delimiter)] for _, line in lines]
        shapes = Counter(shape for shape in map(_shape, rows) if shape)
        if shapes and shapes.most_common(1)[0][1] > best_count:
            shape, best_count = shapes.most_common(1)[0]
            best = rows, shape
    return best


def _shape(row: Sequence[str]) -> tuple[int, int] | None:
    """Return (number of columns, column of the score) of a line, or None if it holds no pair."""
    if len(row) < 3 or not row[0] or not row[1]:
        return None
    return next(((len(row), column) for column in range(2, len(row)) if _is_number(row[column])), None)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_analogies(path: str | os.PathLike[str]) -> Analogies:
    """Read a file of analogy questions.

    Parameters
    ----------
    path : str or os.PathLike
        UTF-8 text: ``: name`` begins a section, and each line below it holds four words, separated
        by white space. Blank lines are skipped.

    Returns
    -------
    Analogies

    Raises
    ------
    SourceError
        If the file cannot be read, is not text, is too large, holds no question, or has one before
        the first section.
    """
    sections: list[tuple[str, list[Question]]] = []
    invalid, first_invalid = 0, (1, "")
    for number, line in _lines(path):
        words = line.split()
        if line.startswith(": "):
            sections.append((line[1:].strip(), []))
        elif len(words) == 4 and not sections:
            raise SourceError("a question stands before the first section", path=path, where=f"line {number}",
                              expected="': name of the section'", found=_excerpt(line),
                              hint="Put a line such as ': all' above it.")
        elif len(words) == 4:
            sections[-1][1].append((words[0], words[1], words[2], words[3]))
        elif words:
            invalid += 1
            if invalid == 1:
                first_invalid = (number, line)
    analogies = Analogies(Path(path).stem, sections, invalid)
    if not len(analogies):
        number, line = first_invalid
        raise SourceError("there is no analogy question in the file", path=path, where=f"line {number}",
                          expected="four words a line, below lines ': name of the section'", found=_excerpt(line),
                          hint="Is it a file of analogies? Word pairs with scores are another kind of benchmark.")
    return analogies


def _lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Return (line number from 1, line) of a text file."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"cannot read the file: {error.strerror or error}", path=path) from error
    if len(data) > MAX_BYTES:
        raise SourceError("the file is too large for a benchmark", path=path, expected=f"at most {MAX_BYTES} bytes",
                          hint="Is it a word-vector file?")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise SourceError("the file is not UTF-8 text: it holds a zero byte", path=path, where=f"line {line}",
                          hint="Unpack it if it is compressed; save it as UTF-8 if it is UTF-16.")
    text = to_text(data.removeprefix(b"\xef\xbb\xbf"))
    return list(enumerate(text.split("\n"), 1))


def _excerpt(line: str) -> str:
    line = line.strip()
    return repr(line[:60] + "..." if len(line) > 60 else line) if line else "nothing"
