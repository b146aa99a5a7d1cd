"""Words and n-grams, and their encoding in files; independent of vectors."""
