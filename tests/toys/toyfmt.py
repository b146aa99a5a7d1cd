"""toyfmt: a line ``TOY n d``, then as many lines of a word, a tab and its numbers.

tests/test_contributing.py adds it to a copy of the tree, as embshrink/formats/toyfmt.py. Files have at most 1 MiB.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable
from embshrink.formats.io.table_builder import show
from embshrink.formats.text import DECIMAL

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

MAGIC = b"TOY "
HEADER = re.compile(rb"TOY (\d{1,9}) (\d{1,5})")


def is_toy(head: bytes) -> bool:
    """Whether a file that begins so is one of this format."""
    return head.startswith(MAGIC)


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the format; as `embshrink.formats.text.read`."""
    content = bytearray(1 << 20)
    header, *lines = bytes(content[: stream.readinto(memoryview(content))]).splitlines()
    sizes = HEADER.fullmatch(header)
    if sizes is None or int(sizes[1]) != len(lines):  # before anything is allocated
        raise SourceError("the header does not state the number of rows", path=stream.path, where="line 1",
                          expected=f"TOY {len(lines)} d", found=show(header), hint="Fetch the file again.")
    words: list[bytes] = []
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=2):
        word, *fields = line.split(b"\t")
        if len(fields) != int(sizes[2]) or not all(map(DECIMAL.fullmatch, fields)):
            raise SourceError("a row does not have the numbers that the header states", path=stream.path,
                              where=f"line {number}", expected=f"{int(sizes[2])} numbers", found=show(line),
                              hint="Fetch the file again.")
        words.append(word)
        rows.append(list(map(float, fields)))
    return words[: options.limit], np.array(rows[: options.limit], np.float32), []


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the format; see `embshrink.formats.write_vectors`."""
    file.write(b"%s%d %d\n" % (MAGIC, len(outgoing.words), outgoing.dim))
    words = iter(outgoing.words.raw)
    for block in outgoing.blocks:
        for word, row in zip(words, block.astype("S20").tolist()):
            if b"\n" in word or b"\t" in word:
                raise TargetError("a word holds a tab or a newline", hint="Write word2vec instead.")
            file.write(b"\t".join([word, *row]) + b"\n")
