"""Make files of pre-trained word vectors smaller after training, and measure what is lost.

A public name is imported when it is first used, so that ``import embshrink`` alone takes almost no time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from embshrink.cli.demo import demo as demo
    from embshrink.cli.warmup import warmup as warmup
    from embshrink.compression.run import compress as compress
    from embshrink.compression.run import pareto as pareto
    from embshrink.compression.run import plan as plan
    from embshrink.compression.run import prune as prune
    from embshrink.compression.run import quantize as quantize
    from embshrink.embeddings.word_vectors import WordVectors as WordVectors
    from embshrink.errors import EmbshrinkError as EmbshrinkError
    from embshrink.errors import ExtraError as ExtraError
    from embshrink.errors import FormatError as FormatError
    from embshrink.errors import SameFileError as SameFileError
    from embshrink.errors import ShapeError as ShapeError
    from embshrink.errors import SourceError as SourceError
    from embshrink.errors import StepError as StepError
    from embshrink.errors import TargetError as TargetError
    from embshrink.formats import ReadOptions as ReadOptions
    from embshrink.formats import list_formats as list_formats
    from embshrink.formats import read_vectors as read_vectors
    from embshrink.formats import write_vectors as write_vectors
    from embshrink.keyed_vectors.embeddings import Embeddings as Embeddings
    from embshrink.methods.registry import list_methods as list_methods
    from embshrink.reader import analogy as analogy
    from embshrink.reader import as_embeddings as as_embeddings
    from embshrink.reader import evaluate as evaluate
    from embshrink.reader import export as export
    from embshrink.reader import get as get
    from embshrink.reader import info as info
    from embshrink.reader import load as load
    from embshrink.reader import similar as similar
    from embshrink.reader import verify as verify

__version__ = "0.1.0"

# name: its module; the block above tells type checkers and editors the same, and a test compares the two
_PUBLIC = {
    "load": "embshrink.reader",
    "as_embeddings": "embshrink.reader",
    "Embeddings": "embshrink.keyed_vectors.embeddings",
    "WordVectors": "embshrink.embeddings.word_vectors",
    "read_vectors": "embshrink.formats",
    "write_vectors": "embshrink.formats",
    "ReadOptions": "embshrink.formats",
    # the functions that have the names of commands
    "prune": "embshrink.compression.run",
    "quantize": "embshrink.compression.run",
    "compress": "embshrink.compression.run",
    "plan": "embshrink.compression.run",
    "pareto": "embshrink.compression.run",
    "info": "embshrink.reader",
    "verify": "embshrink.reader",
    "get": "embshrink.reader",
    "similar": "embshrink.reader",
    "analogy": "embshrink.reader",
    "evaluate": "embshrink.reader",
    "export": "embshrink.reader",
    "list_formats": "embshrink.formats",
    "list_methods": "embshrink.methods.registry",
    "warmup": "embshrink.cli.warmup",
    "demo": "embshrink.cli.demo",
    "EmbshrinkError": "embshrink.errors",
    "FormatError": "embshrink.errors",
    "SourceError": "embshrink.errors",
    "StepError": "embshrink.errors",
    "ShapeError": "embshrink.errors",
    "TargetError": "embshrink.errors",
    "SameFileError": "embshrink.errors",
    "ExtraError": "embshrink.errors",
}
__all__ = [*_PUBLIC, "__version__"]


if not TYPE_CHECKING:  # so that type checkers report names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'embshrink' has no attribute {name!r}")
        import importlib

        found: object = getattr(importlib.import_module(_PUBLIC[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
