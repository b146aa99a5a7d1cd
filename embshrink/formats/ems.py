"""``.ems`` files as a source: decoded, they can be compressed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import VectorTable
from embshrink.errors import SourceError
from embshrink.formats.base import ReadOptions, ReadTable

if TYPE_CHECKING:
    from embshrink.formats.io.stream import Stream
    from embshrink.numerics.progress import Progress


def read(stream: Stream, options: ReadOptions, progress: Progress | None = None) -> ReadTable:
    """Read and decode an ``.ems`` file; as `embshrink.formats.text.read`."""
    if stream.file_path is None or stream.packed:
        raise SourceError("an .ems file must be an uncompressed file that is given by its path", path=stream.path,
                          where="byte 0", hint="Save it uncompressed and give the path of the file.")
    table = open_file(stream.file_path, VectorTable)
    words = table.words.in_memory().part(0, len(table) if options.limit is None else options.limit)
    return words, table.decode_ids(np.arange(len(words))), []
