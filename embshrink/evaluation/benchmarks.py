"""Find the default benchmarks, and read files of word pairs and of analogies."""

from __future__ import annotations

import codecs
import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from embshrink.errors import ExtraError, SourceError
from embshrink.storage.inputs import read_input
from embshrink.vocabulary.words import to_text

Pair: TypeAlias = tuple[str, str, float]  # two words and their similarity
Question: TypeAlias = tuple[str, str, str, str]  # "a is to b as c is to d"

MAX_BYTES = 64 << 20  # the largest known benchmark has 3 MB; a larger file is probably the wrong one
DELIMITERS = ("\t", ",", ";", None)  # None: runs of white space; the first one wins if several fit as many lines


@dataclass(frozen=True)
class WordPairs:
    """A word-similarity benchmark: pairs of words, each with a similarity judged by people.

    Parameters
    ----------
    name : str
        Name of the file without its ending.
    pairs : list of (str, str, float)
        Two words and their similarity, in the order of the file.
    invalid : int, default 0
        Number of lines that are not a pair, a comment, a header or blank.
    """

    name: str
    pairs: list[Pair]
    invalid: int = 0

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class Analogies:
    """An analogy benchmark: questions "a is to b as c is to d", in sections.

    Parameters
    ----------
    name : str
        Name of the file without its ending.
    sections : list of (str, list of (str, str, str, str))
        Name and questions of each section, in the order of the file.
    invalid : int, default 0
        Number of lines that are not a question, the header of a section or blank.
    """

    name: str
    sections: list[tuple[str, list[Question]]]
    invalid: int = 0

    def __len__(self) -> int:
        return sum(len(questions) for _, questions in self.sections)


def find_pairs() -> list[Path]:
    """Return the files of the default word-similarity benchmarks: WordSim-353 and SimLex-999.

    Returns
    -------
    list of pathlib.Path
        Files of the installed gensim, which is not imported.

    Raises
    ------
    ExtraError
        If gensim or its test data is not installed.

    References
    ----------
    WordSim-353: Finkelstein et al., ACM TOIS 20(1), 2002. SimLex-999: Hill, Reichart and Korhonen,
    Computational Linguistics 41(4), 2015.
    """
    return [gensim_file("wordsim353.tsv"), gensim_file("simlex999.txt")]


def find_analogies() -> Path:
    """Return the file of the default analogy benchmark: Google's questions-words, 19,544 questions in 14 sections.

    Returns
    -------
    pathlib.Path
        A file of the installed gensim, which is not imported.

    Raises
    ------
    ExtraError
        If gensim or its test data is not installed.

    References
    ----------
    Mikolov, Chen, Corrado and Dean, arXiv 1301.3781, 2013.
    """
    return gensim_file("questions-words.txt")


def gensim_file(name: str) -> Path:
    """Return the path of a file in the test data of the installed gensim, which is not imported.

    Parameters
    ----------
    name : str
        Name of the file.

    Returns
    -------
    pathlib.Path
        Path of the file.

    Raises
    ------
    ExtraError
        If gensim or this file is not installed.
    """
    spec = importlib.util.find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise ExtraError(f"{name} is a file of the package gensim, which is not installed",
                         hint="Install it with: pip install gensim, or pass the path of a file.")
    path = Path(spec.submodule_search_locations[0], "test", "test_data", name)
    if not path.is_file():
        raise ExtraError("gensim is installed without its test data, which has this file", path=path,
                         hint="Run: pip install --force-reinstall gensim, or pass the path of a file.")
    return path


def read_pairs(path: str | os.PathLike[str], delimiter: str | None = None, encoding: str = "utf8") -> WordPairs:
    """Read a word-similarity file.

    Parameters
    ----------
    path : str or os.PathLike
        A file of UTF-8 text with one pair per line. The first two columns are the words, and the first number after
        them is the similarity. Further columns are ignored, so that SimLex-999 and Rare Words can be read as they are
        published. Lines that begin with ``#``, blank lines and a header are skipped.
    delimiter : str, optional
        Separator of the columns. By default the one of tabs, commas, semicolons and white space that fits most lines.
    encoding : str, default "utf8"
        Encoding of the text.

    Returns
    -------
    WordPairs
        The pairs in the order of the file.

    Raises
    ------
    SourceError
        If the file cannot be read, is not text, is larger than 64 MiB, or has no pair.
    """
    lines = [(number, line) for number, line in _lines(path, encoding)
             if line.strip() and not line.startswith("#")]
    rows, (width, column) = _split(lines, [delimiter] if delimiter else DELIMITERS)
    pairs = [(row[0], row[1], float(row[column])) for row in rows if _shape(row) == (width, column)]
    if not pairs:
        number, line = lines[0] if lines else (1, "")
        raise SourceError("the file has no word pair", path=path, where=f"line {number}",
                          expected="two words and a number, separated by tabs, commas or spaces",
                          found=_excerpt(line),
                          hint="Pass a word-similarity benchmark; pass analogies as analogies (--analogies).")
    if sum(_is_number(pair[1]) for pair in pairs) > len(pairs) / 2:
        raise SourceError("the second column has numbers in most lines", path=path,
                          expected="two words and a number on each line", found=_excerpt(lines[0][1]),
                          hint="Pass a word-similarity benchmark; this may be a word-vector file.")
    first = rows[0]
    header = len(first) == width and _shape(first) is None
    return WordPairs(Path(path).stem, pairs, len(rows) - len(pairs) - header)


def as_word_pairs(
    benchmark: WordPairs | str | os.PathLike[str], delimiter: str | None = None, encoding: str = "utf8"
) -> WordPairs:
    """Return a benchmark unchanged, or read it from a file; see `read_pairs`."""
    return benchmark if isinstance(benchmark, WordPairs) else read_pairs(benchmark, delimiter, encoding)


def as_analogies(benchmark: Analogies | str | os.PathLike[str]) -> Analogies:
    """Return a benchmark unchanged, or read it from a file; see `read_analogies`."""
    return benchmark if isinstance(benchmark, Analogies) else read_analogies(benchmark)


def similarity_benchmarks(
    pairs: WordPairs | str | os.PathLike[str] | Iterable[WordPairs | str | os.PathLike[str]] | None,
) -> list[WordPairs]:
    """Return the word-similarity benchmarks that are given, or the default ones for None.

    Raises
    ------
    SourceError
        If a benchmark cannot be read.
    ExtraError
        If the default benchmarks are not installed.
    """
    if pairs is None:
        return [read_pairs(path) for path in find_pairs()]
    if isinstance(pairs, (str, os.PathLike, WordPairs)):
        return [as_word_pairs(pairs)]
    if not isinstance(pairs, Iterable):
        raise TypeError(f"pairs must be WordPairs, a path, a list of these, or None, not {type(pairs).__name__}")
    return [as_word_pairs(benchmark) for benchmark in pairs]


def analogy_benchmark(analogies: Analogies | str | os.PathLike[str] | Literal[True] | None) -> Analogies | None:
    """Return the analogy benchmark that is given, the default one for True, or None for None.

    Raises
    ------
    SourceError
        If the benchmark cannot be read.
    ExtraError
        If the default benchmark is not installed.
    """
    if analogies is None:
        return None
    if analogies is not True and not isinstance(analogies, (Analogies, str, os.PathLike)):
        raise TypeError(f"analogies must be Analogies, a path, True or None, not {analogies!r}")
    return as_analogies(find_analogies() if analogies is True else analogies)


def _split(
    lines: list[tuple[int, str]], delimiters: Iterable[str | None]
) -> tuple[list[list[str]], tuple[int, int]]:
    """Return the columns of each line, and the (number of columns, column of the score) that most lines have."""
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
    """Return (number of columns, column of the score) of a line; None if it has no pair."""
    if len(row) < 3 or not row[0] or not row[1]:
        return None
    return next(((len(row), column) for column in range(2, len(row)) if _is_number(row[column])), None)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_analogies(path: str | os.PathLike[str]) -> Analogies:
    """Read a file of analogies.

    Parameters
    ----------
    path : str or os.PathLike
        A file of UTF-8 text. A line ``: name`` begins a section, and each line below it has four words, separated by
        white space. Blank lines are skipped.

    Returns
    -------
    Analogies
        The questions in the order of the file.

    Raises
    ------
    SourceError
        If the file cannot be read, is not text, is larger than 64 MiB, has no question, or has a question before the
        first section.
    """
    sections: list[tuple[str, list[Question]]] = []
    invalid, first_invalid = 0, (1, "")
    for number, line in _lines(path):
        words = line.split()
        if line.startswith(": "):
            sections.append((line[1:].strip(), []))
        elif len(words) == 4 and not sections:
            raise SourceError("a question comes before the first section", path=path, where=f"line {number}",
                              expected="': name of a section'", found=_excerpt(line),
                              hint="Add a line such as ': all' above it.")
        elif len(words) == 4:
            sections[-1][1].append((words[0], words[1], words[2], words[3]))
        elif words:
            invalid += 1
            if invalid == 1:
                first_invalid = (number, line)
    analogies = Analogies(Path(path).stem, sections, invalid)
    if not len(analogies):
        number, line = first_invalid
        raise SourceError("the file has no analogy", path=path, where=f"line {number}",
                          expected="lines of four words below a line ': name of a section'", found=_excerpt(line),
                          hint="Pass an analogy benchmark; pass word pairs with scores as pairs (--pairs).")
    return analogies


def _lines(path: str | os.PathLike[str], encoding: str = "utf8") -> list[tuple[int, str]]:
    """Return (line number from 1, line) of a text file."""
    utf8 = codecs.lookup(encoding).name == "utf-8"
    try:
        data = read_input(path, MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"cannot read the file: {error.strerror or error}", path=path) from error
    if len(data) > MAX_BYTES:
        raise SourceError("the file is too large for a benchmark", path=path, expected=f"at most {MAX_BYTES} bytes",
                          hint="Pass a benchmark; this may be a word-vector file.")
    if utf8 and b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise SourceError("the file is not UTF-8 text: it has a zero byte", path=path, where=f"line {line}",
                          hint="Decompress it if it is compressed; save it as UTF-8 if it is UTF-16.")
    try:
        text = to_text(data.removeprefix(b"\xef\xbb\xbf")) if utf8 else data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(f"the file is not {encoding} text: {error.reason}", path=path, where=f"byte {error.start}",
                          hint="Pass the encoding of the file.") from error
    return list(enumerate(text.split("\n"), 1))


def _excerpt(line: str) -> str:
    line = line.strip()
    return repr(line[:60] + "..." if len(line) > 60 else line) if line else "nothing"
