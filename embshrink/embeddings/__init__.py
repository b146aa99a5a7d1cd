"""Tables of vectors in memory, and search in them."""
