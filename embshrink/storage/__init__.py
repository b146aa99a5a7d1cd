"""Bytes on disk: the ``.ems`` container, atomic writing, rows that do not fit in memory."""
