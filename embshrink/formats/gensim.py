"""Models saved by gensim: pickles, so read only when asked for by name."""

from __future__ import annotations

from embshrink.arrays import as_matrix
from embshrink.errors import SourceError
from embshrink.vocab import to_bytes

WARNING = "unpickling runs code from the file: only load files you trust"


def read(stream, options, progress=None):
    """Read KeyedVectors, or a model that holds some in ``wv``; as `embshrink.formats.text.read`.

    Raises
    ------
    SourceError
        If gensim cannot load it, for whatever reason.
    """
    path = stream.file_path
    if path is None:
        raise SourceError("gensim's models are read from a file only", path=stream.path, where="byte 0",
                          hint="Save it to a file, with those that belong to it beside it, and give its path.")
    try:
        from gensim.models import KeyedVectors

        model = KeyedVectors.load(path)
        model = getattr(model, "wv", model)
        words = [to_bytes(str(word)) for word in model.index_to_key]
        matrix = as_matrix(model.vectors[: len(words)], "its table")
    except Exception as error:
        # Unpickling runs anything and so raises anything.
        raise SourceError(f"gensim cannot load this as word vectors: {type(error).__name__}: {error}", path=path,
                          where="byte 0", hint="Check that it was saved by KeyedVectors.save or by a model's save, "
                          "and that the .npy files that belong to it are beside it.") from error
    return words[: options.limit], matrix[: options.limit], [WARNING]
