"""Evaluation of tables: word similarity, analogies, and the loss against a baseline."""

QUERIES = 1600  # words whose neighbours are compared by default: a standard error of at most .005
