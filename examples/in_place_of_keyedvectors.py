"""Pass a compressed file to code that was written for gensim's KeyedVectors.

    python in_place_of_keyedvectors.py [VECTORS]

VECTORS is a file that embshrink reads, such as glove.6B.50d.txt. Without it, a small file of gensim's tests is used.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from gensim.test.utils import datapath

import embshrink


def expand(query, keyed_vectors, topn=2):
    """Return the words of a query and their nearest neighbours: ordinary gensim code."""
    words = [word for word in query.split() if word in keyed_vectors]
    near = [other for word in words for other, _ in keyed_vectors.most_similar(word, topn=topn)]
    return words + near


def sentence_vector(sentence, keyed_vectors):
    """Return the mean of the vectors of a sentence: ordinary gensim code."""
    known = [word for word in sentence.split() if word in keyed_vectors.key_to_index]
    return np.mean([keyed_vectors[word] for word in known], axis=0)


source = sys.argv[1] if len(sys.argv) > 1 else datapath("pang_lee_polarity_fasttext.vec")
with tempfile.TemporaryDirectory() as folder:
    report = embshrink.compress(source, Path(folder, "small.ems"), ["pq"], measure=False)
    with embshrink.load(report.target) as keyed_vectors:
        print(expand("a good movie", keyed_vectors))
        print(sentence_vector("a good movie", keyed_vectors).shape)
        print(keyed_vectors.doesnt_match(["good", "bad", "great", "movie"]))
        print(keyed_vectors.n_similarity(["good", "film"], ["great", "movie"]))
