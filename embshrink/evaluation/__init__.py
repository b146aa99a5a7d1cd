"""Scores of tables: word similarity, analogies, and what was lost against a baseline."""
