"""fastText's models: reads ``.bin`` and ``.ftz`` and writes ``.bin``, without fastText.

A model consists of magic and version, 13 arguments, a dictionary, the input matrix (a row for each word, then one for
each bucket of n-grams) and the output matrix. The vector of a word is the mean of its own row and the rows of its
n-grams. A ``.ftz`` stores the matrices as product quantization codes, and often only some of the buckets. Models of
2016 have no magic, and are neither quantized nor pruned. Source: fastText's ``FastText::loadModel``,
``Dictionary::load``, ``QuantMatrix::load``. gensim's ``load_facebook_vectors`` and ``load_facebook_model`` load the
written files, too.
"""

from embshrink.formats.fasttext.model import FastTextModel
from embshrink.formats.fasttext.reader import is_model, load_model, read
from embshrink.formats.fasttext.writer import write

__all__ = ["FastTextModel", "is_model", "load_model", "read", "write"]
