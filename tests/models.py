"""Models, opened as `embshrink.formats` does on its way to their words."""

from embshrink.formats import ReadOptions, fasttext
from embshrink.formats.io.stream import open_source


def open_model(source, options=None, *, progress=None):
    """Open a fastText model, to have vectors of unseen words too."""
    options = options or ReadOptions()
    with open_source(source, options) as stream:
        return fasttext.load_model(stream, options, progress)
