"""Compressed files of embshrink's own, as a source: decoded, they can be compressed anew."""

from __future__ import annotations

from embshrink.errors import SourceError


def read(stream, options, progress=None):
    """Read and decode an ``.ems`` file; as `embshrink.formats.text.read`."""
    if stream.file_path is None or stream.packed:
        raise SourceError("an .ems file is read from a plain file only", path=stream.path, where="byte 0",
                          hint="Save it to a file, uncompressed, and give its path.")
    from embshrink.reader import load

    emb = load(stream.file_path)
    return emb.words.raw[: options.limit], emb.vectors[: options.limit], []
