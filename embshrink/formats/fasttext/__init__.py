"""fastText's models: ``.bin`` and ``.ftz`` read, and ``.bin`` written, without fastText.

A model is: magic and version, 13 arguments, a dictionary, the input matrix (a row for each word,
then one for each bucket of n-grams), the output matrix. A word's vector is the mean of its own row
and those of its n-grams. A ``.ftz`` holds the matrices as product quantization codes, and often
only some of the buckets. Models of 2016 have no magic and neither quantize nor prune. Source:
fastText's ``FastText::loadModel``, ``Dictionary::load``, ``QuantMatrix::load``; what is written is
also what gensim's ``load_facebook_vectors`` and ``load_facebook_model`` take.
"""

from embshrink.formats.fasttext.model import FastTextModel
from embshrink.formats.fasttext.reader import is_model, load_model, read
from embshrink.formats.fasttext.writer import write

__all__ = ["FastTextModel", "is_model", "load_model", "read", "write"]
