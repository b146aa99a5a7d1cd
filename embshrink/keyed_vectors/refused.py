"""The names of gensim's ``KeyedVectors`` that `Embeddings` does not have, each with the reason and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

_READ_ONLY = ("the words and vectors of an open file are read-only. Change the source and compress it again, or "
              "change the gensim object that to_keyedvectors() returns")
_TRAINING = "it belongs to training, and compressed vectors cannot be trained. Use the object of to_keyedvectors()"
_RENAMED = "gensim 4 no longer has it either. Use {}"
_LOG = "results are returned and not logged. Print what evaluate_word_pairs or evaluate_word_analogies returns"

REFUSED = {
    **dict.fromkeys(("add_vector", "add_vectors", "set_vecattr", "unit_normalize_all", "sort_by_descending_frequency",
                     "intersect_word2vec_format"), _READ_ONLY),
    **dict.fromkeys(("allocate_vecattrs", "resize_vectors", "next_index", "mapfile_path", "adjust_vectors",
                     "init_post_load", "recalc_char_ngram_buckets", "buckets_word", "compatible_hash",
                     "vectors_vocab", "vectors_ngrams"), _TRAINING),
    **dict.fromkeys(("min_n", "max_n", "bucket"), 'see info()["subwords"], which has them if the file has n-grams'),
    "init_sims": "use fill_norms(), as gensim 4 recommends",
    "expandos": "use get_vecattr(word, 'count') or counts",
    "vectors_norm": _RENAMED.format("get_normed_vectors()"),
    "vocab": _RENAMED.format("key_to_index, index_to_key and get_vecattr(word, 'count')"),
    "index2word": _RENAMED.format("index_to_key"),
    "index2entity": _RENAMED.format("index_to_key"),
    "log_accuracy": _LOG,
    "log_evaluate_word_pairs": _LOG,
    "add_lifecycle_event": "there is no log of events. info() has the steps and the source of a file",
    "lifecycle_events": "there is no log of events. info() has the steps and the source of a file",
    "similarity_unseen_docs": "it needs a Doc2Vec model, in gensim too",
}


class Refused:
    """Raises errors that explain for the names in `REFUSED`."""

    if not TYPE_CHECKING:  # so that type checkers report these names

        def __getattr__(self, name: str) -> object:
            reason = REFUSED.get(name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}"
                                 + (f": {reason}." if reason else ""))

        def __setitem__(self, key: object, vector: object) -> None:
            raise TypeError(f"{type(self).__name__!r} object does not support item assignment: {_READ_ONLY}.")
