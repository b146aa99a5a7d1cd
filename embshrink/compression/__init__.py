"""Compression of a source to an ``.ems`` file: read, run steps, write, verify, report."""
