"""Numerical code shared by methods; independent of files and words."""
