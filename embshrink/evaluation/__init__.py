"""Evaluation of tables: word similarity, analogies, and the loss against a baseline."""
