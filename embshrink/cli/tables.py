"""Tables and labelled lines as text: they fit the terminal, and break no word in two."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embshrink.errors import printable

GAP = 2  # spaces between columns
PREFERRED = 100  # columns for running text, and for tables that no terminal limits
MOST_LINES = 50  # of a row
FIXED = "\u00a0"  # a space at which no line is broken; printed as a space
NARROWEST = 12  # columns that a path or a long word is folded into, at least


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    heading : str
        With the unit.
    left : bool
        Align to the left: text. Numbers are aligned to the right.
    fold : bool
        Whether a word that is too long for the terminal may be broken: paths, vocabulary words, steps.
    """

    heading: str
    left: bool = False
    fold: bool = False


class Table:
    """A table whose columns are as wide as their content, or narrower where the terminal is too narrow.

    Parameters
    ----------
    *columns : Column
    """

    def __init__(self, *columns: Column) -> None:
        self.columns = [dataclasses.replace(one, heading=_plain(one.heading)) for one in columns]
        self.rows: list[tuple[str, ...]] = []
        self.totals: list[tuple[str, ...]] = []

    def add(self, *cells: str, total: bool = False) -> None:
        """Add a row; a total stands below a line."""
        (self.totals if total else self.rows).append(tuple(map(_plain, cells)))

    def lines(self, width: int | None) -> list[str]:
        """Return the lines of the table, without trailing spaces.

        Parameters
        ----------
        width : int or None
            Columns of the terminal. If the columns of the table do not fit, it is cut into tables that begin with
            the same column. None if nothing limits it, as in a file or a pipe.
        """
        lines: list[str] = []
        for chosen in self._chunks(width):
            if lines:
                lines.append("")
            lines += self._part(chosen, width)
        return lines

    def _cells(self, index: int) -> list[str]:
        return [self.columns[index].heading, *(row[index] for row in [*self.rows, *self.totals])]

    def _least(self, index: int, fold: bool) -> int:
        """Return the smallest width of a column: that of its longest word, or less if words may be folded."""
        heading, *cells = self._cells(index)
        longest = max(map(_longest, cells), default=0)
        if fold and self.columns[index].fold:
            longest = min(longest, NARROWEST)
        return max(longest, _longest(heading))

    def _chunks(self, width: int | None) -> list[list[int]]:
        """Return the columns of each of the tables into which this table is cut."""
        everything = list(range(len(self.columns)))
        if width is None:
            return [everything]
        chunks, used = [[0]], self._least(0, True)
        for index in everything[1:]:
            least = GAP + self._least(index, True)
            if used + least > width and len(chunks[-1]) > 1:
                chunks.append([0])
                used = self._least(0, True)
            chunks[-1].append(index)
            used += least
        return chunks

    def _widths(self, chosen: Sequence[int], width: int | None) -> list[int]:
        """Return the widths of columns: the content's if it fits, else as it can be broken at spaces, else folded."""
        limit = (PREFERRED if width is None else width) - GAP * (len(chosen) - 1)
        wanted = [max(map(_columns, self._cells(index))) for index in chosen]
        if sum(wanted) <= limit:
            return wanted
        found = [self._least(index, False) for index in chosen]
        if width is not None and sum(found) > limit:
            least = [self._least(index, True) for index in chosen]
            for _ in range(sum(found) - limit):  # from the widest that may be folded, a character at a time
                widest = max(range(len(found)), key=lambda place: (found[place] > least[place]) * found[place])
                if found[widest] <= least[widest]:
                    break
                found[widest] -= 1
        return self._grown(chosen, found, wanted, limit)

    def _grown(self, chosen: Sequence[int], least: list[int], wanted: list[int], limit: int) -> list[int]:
        """Return widths between these limits for which rows have the fewest lines, and the spare width."""
        height, found = 1, wanted
        while sum(found) > limit and found != least:
            height += 1
            found = [self._narrowest(index, low, high, height) for index, low, high in zip(chosen, least, wanted)]
            if height > MOST_LINES:
                found = least
        spare = limit - sum(found)
        texts = [place for place, index in enumerate(chosen) if self.columns[index].left]
        for place in sorted(texts, key=lambda place: wanted[place] - found[place]):
            more = max(0, min(wanted[place] - found[place], spare))
            found[place], spare = found[place] + more, spare - more
        return found

    def _narrowest(self, index: int, low: int, high: int, height: int) -> int:
        """Return the smallest width between two at which no cell of a column has more lines than `height`."""
        return next((size for size in range(low, high) if self._height(index, size) <= height), high)

    def _height(self, index: int, size: int) -> int:
        """Return the number of lines of the highest cell in a column of this width."""
        return max(len(wrap(cell, size)) for cell in self._cells(index))

    def _part(self, chosen: Sequence[int], width: int | None) -> list[str]:
        widths = self._widths(chosen, width)
        rule = _dash() * (sum(widths) + GAP * (len(widths) - 1))

        def line(row: Sequence[str], bottom: bool = False) -> list[str]:
            cells = [wrap(row[index], size) for index, size in zip(chosen, widths)]
            height = max(map(len, cells))
            padded = [[""] * (height - len(cell)) + cell if bottom else cell + [""] * (height - len(cell))
                      for cell in cells]
            lines = ((" " * GAP).join(_aligned(cell[number], size, self.columns[index].left)
                                      for cell, size, index in zip(padded, widths, chosen))
                     for number in range(height))
            return [text.replace(FIXED, " ").rstrip() for text in lines]

        headings = line([column.heading for column in self.columns], bottom=True)
        body = [text for row in self.rows for text in line(row)]
        totals = [text for row in self.totals for text in line(row)]
        return [*headings, rule, *body, *([rule, *totals] if totals else [])]


def labelled(pairs: Iterable[tuple[str, str]], width: int | None, indent: str = "") -> list[str]:
    """Return lines of a label and its text, which is broken at spaces; an empty label continues the one above."""
    pairs = [(_plain(label), _plain(text)) for label, text in pairs]
    size = max(len(label) for label, _ in pairs)
    limit = min(width or PREFERRED, PREFERRED) - size - GAP - len(indent)
    lines = []
    for label, text in pairs:
        for number, part in enumerate(wrap(text, max(limit, NARROWEST), fold=False)):
            lines.append(f"{indent}{'' if number else label:<{size}}{' ' * GAP}{part}".replace(FIXED, " ").rstrip())
    return lines


def wrap(text: str, width: int, *, fold: bool = True) -> list[str]:
    """Return text in lines of at most `width` columns, broken at spaces; longer words are folded, or stick out."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if _columns(joined) <= width:
            lines[-1] = joined
            continue
        parts = _folded(word, width) if fold else [word]
        lines[-1:] = [*filter(None, [lines[-1]]), *parts]
    return lines


def terminal_width() -> int | None:
    """Return the width of the terminal in columns; None if standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _plain(text: str) -> str:
    """Return text as it will be printed, so that its width is known."""
    return FIXED.join(map(printable, text.split(FIXED)))


def _folded(word: str, width: int) -> list[str]:
    """Return the pieces of a word: broken after punctuation if there is any, else anywhere."""
    pieces = [""]
    for part in re.findall(r"[^/,:]*[/,:]|[^/,:]+", word):
        for piece in [part] if _columns(part) <= width else list(part):
            if _columns(pieces[-1] + piece) > width and pieces[-1]:
                pieces.append("")
            pieces[-1] += piece
    return pieces


def _columns(text: str) -> int:
    """Return the columns that text takes on a terminal: two for a Chinese character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _longest(text: str) -> int:
    return max(map(_columns, text.split(" ")))


def _aligned(text: str, width: int, left: bool) -> str:
    space = " " * (width - _columns(text))
    return text + space if left else space + text


def _dash() -> str:
    """Return the character for lines; a hyphen if standard output cannot encode the usual one."""
    try:
        "\u2500".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "-"
    return "\u2500"
