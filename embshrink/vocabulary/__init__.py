"""Words and n-grams, and how a file holds them; knows nothing of vectors."""
