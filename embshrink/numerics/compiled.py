"""Whether compiled code can be used: reading does without it where numba is not installed."""

from __future__ import annotations

import functools


@functools.cache
def numba_installed() -> bool:
    """Return whether numba is installed, without importing it."""
    from importlib.util import find_spec

    return find_spec("numba") is not None


@functools.cache
def can_compile() -> bool:
    """Return whether numba can be imported. It is imported, which takes a second: ask only where it would be used."""
    if not numba_installed():
        return False
    try:
        import numba  # noqa: F401
    except ImportError:  # too old for this numpy
        return False
    return True
