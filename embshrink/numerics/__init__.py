"""Arithmetic that methods share; knows nothing of files or words."""
