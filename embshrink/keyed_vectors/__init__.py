"""`Embeddings`: a table of vectors with the names of gensim's ``KeyedVectors``, one file for each duty."""
