"""Benchmarks: where the default ones are, and how any file of word pairs or analogies is read."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from embshrink.errors import ExtraError, SourceError
from embshrink.vocabulary.words import to_text

MAX_BYTES = 64 << 20  # the largest benchmark in use has 3 MB; beyond this it is another file by mistake
DELIMITERS = ("\t", ",", ";", None)  # None: runs of white space; earlier wins where several read as much


@dataclass(frozen=True)
class WordPairs:
    """Word pairs with the similarity that people gave them.

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
    pairs: list
    invalid: int = 0

    def __len__(self):
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
    sections: list
    invalid: int = 0

    def __len__(self):
        return sum(len(questions) for _, questions in self.sections)


def find_pairs():
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


def find_analogies():
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


def gensim_file(name):
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
    if spec is None:
        raise ExtraError(f"{name} is a file of the package gensim, which is not installed",
                         hint="Install it with: pip install gensim, or name a file of your own.")
    path = Path(spec.submodule_search_locations[0], "test", "test_data", name)
    if not path.is_file():
        raise ExtraError("gensim is installed without the files in its test data", path=path,
                         hint="Reinstall it with: pip install --force-reinstall gensim, or name a file of your own.")
    return path


def read_pairs(path, delimiter=None):
    """Read a word-similarity file.

    Parameters
    ----------
    path : str or os.PathLike
        UTF-8 text, one pair a line. Columns are separated by tabs, commas, semicolons or white space,
        whichever fits most lines. The first two columns are the words, the first number after them is the
        score, and further columns are left alone, so that the published forms of SimLex-999 and Rare Words
        need no editing. Lines that begin with ``#``, blank lines and a header are skipped.
    delimiter : str, optional
        What separates the columns; None for whichever fits.

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


def _split(lines, delimiters):
    """Return the lines' columns, and the (number of columns, column of the score) that most lines have."""
    best, best_count = ([], (0, 0)), 0
    for delimiter in delimiters:
        rows = [[field.strip() for field in line.split(delimiter)] for _, line in lines]
        shapes = Counter(shape for shape in map(_shape, rows) if shape)
        if shapes and shapes.most_common(1)[0][1] > best_count:
            shape, best_count = shapes.most_common(1)[0]
            best = rows, shape
    return best


def _shape(row):
    """Return (number of columns, column of the score) of a line, or None if it is no pair."""
    if len(row) < 3 or not row[0] or not row[1]:
        return None
    return next(((len(row), column) for column in range(2, len(row)) if _is_number(row[column])), None)


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_analogies(path):
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
    sections, invalid = [], 0
    first_invalid = (1, "")
    for number, line in _lines(path):
        words = line.split()
        if line.startswith(": "):
            sections.append((line[1:].strip(), []))
        elif len(words) == 4 and not sections:
            raise SourceError("a question stands before the first section", path=path, where=f"line {number}",
                              expected="': name of the section'", found=_excerpt(line),
                              hint="Put a line such as ': all' above it.")
        elif len(words) == 4:
            sections[-1][1].append(tuple(words))
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


def _lines(path):
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


def _excerpt(line):
    line = line.strip()
    return repr(line[:60] + "..." if len(line) > 60 else line) if line else "nothing"
