"""toyfmt: a line ``TOY n d``, then as many lines of a word, a tab and its numbers.

tests/test_contributing.py copies this file to embshrink/formats: it is the format that is added to a copy of the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.errors import SourceError, TargetError
from embshrink.formats.base import Outgoing, OutputFile, ReadOptions, ReadTable

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress

MAGIC = b"TOY "


def is_toy(head: bytes) -> bool:
    """Whether a file that begins so is one of this format."""
    return head.startswith(MAGIC)


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read the format; as `embshrink.formats.text.read`."""
    content = bytearray(1 << 20)
    header, *lines = bytes(content[: stream.readinto(memoryview(content))]).splitlines()
    rows, dim = map(int, header.split()[1:])
    words, matrix = [], np.empty((len(lines), dim), np.float32)
    for number, line in enumerate(lines):
        word, *numbers = line.split(b"\t")
        if len(numbers) != dim:
            raise SourceError("a row does not have the numbers that the header states", path=stream.path,
                              where=f"line {number + 2}", expected=dim, found=len(numbers),
                              hint="Fetch the file again.")
        words.append(word)
        matrix[number] = numbers
    if len(words) != rows:
        raise SourceError("the file does not have the rows that its header states", path=stream.path,
                          where="line 1", expected=rows, found=len(words), hint="Fetch the file again.")
    return words[: options.limit], matrix[: options.limit], []


def write(file: OutputFile, outgoing: Outgoing) -> None:
    """Write the format; see `embshrink.formats.write_vectors`."""
    file.write(b"%s%d %d\n" % (MAGIC, len(outgoing.words), outgoing.dim))
    words = iter(outgoing.words.raw)
    for block in outgoing.blocks:
        for word, row in zip(words, block.astype("S16").tolist()):
            if b"\n" in word or b"\t" in word:
                raise TargetError("a word holds a tab or a newline", hint="Write word2vec instead.")
            file.write(b"\t".join([word, *row]) + b"\n")
