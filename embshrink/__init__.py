"""Make pre-trained word vectors small after training, and keep them useful.

Public names are imported on first use: ``import embshrink`` costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

_PUBLIC = {
    "load": "embshrink.reader",
    "as_embeddings": "embshrink.reader",
    "Embeddings": "embshrink.reader",
    "WordVectors": "embshrink.embeddings.word_vectors",
    "read_vectors": "embshrink.formats",
    "write_vectors": "embshrink.formats",
    "ReadOptions": "embshrink.formats",
    "compress": "embshrink.compression.run",
    "evaluate": "embshrink.evaluation.run",
    "EmbshrinkError": "embshrink.errors",
    "FormatError": "embshrink.errors",
    "SourceError": "embshrink.errors",
    "StepError": "embshrink.errors",
    "ShapeError": "embshrink.errors",
    "TargetError": "embshrink.errors",
    "ExtraError": "embshrink.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'embshrink' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted(__all__)
