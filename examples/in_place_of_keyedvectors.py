"""Hand a compressed file to code that was written for gensim's KeyedVectors."""

import tempfile
from pathlib import Path

import numpy as np

import embshrink
from embshrink.cli.demo import real_vectors


def expand(query, keyed_vectors, topn=2):
    """Add to a query's words their nearest neighbours: ordinary gensim code."""
    words = [word for word in query.split() if word in keyed_vectors]
    near = [other for word in words for other, _ in keyed_vectors.most_similar(word, topn=topn)]
    return words + near


def sentence_vector(sentence, keyed_vectors):
    """Return the mean of a sentence's vectors: ordinary gensim code."""
    known = [word for word in sentence.split() if word in keyed_vectors.key_to_index]
    return np.mean([keyed_vectors[word] for word in known], axis=0)


name, vectors = real_vectors()
with tempfile.TemporaryDirectory() as folder:
    target = Path(folder, "vectors.ems")
    embshrink.compress(vectors, target, ["pq"], measure=False)
    keyed_vectors = embshrink.load(target)

    print(expand("a good movie", keyed_vectors))
    print(sentence_vector("a good movie", keyed_vectors).shape)
    print(keyed_vectors.doesnt_match(["good", "bad", "great", "movie"]))
    print(keyed_vectors.n_similarity(["good", "film"], ["great", "movie"]))
