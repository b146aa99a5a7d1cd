"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from embshrink.errors import StepError

MOST_BYTES = 2**63


def parse_size(text: str, name: str = "size") -> int:
    """Return the bytes of a size such as ``"6MB"`` or ``"500k"`` (powers of 1000) or ``"1GiB"`` (powers of 1024).

    Parameters
    ----------
    text : str
        A number, with or without a unit.
    name : str
        What the size is of, for the message.

    Raises
    ------
    StepError
        If it is not a size, below 1 byte, or 8 EiB or more.

    Examples
    --------
    >>> parse_size("6MB"), parse_size("1.5 KiB"), parse_size("70")
    (6000000, 1536, 70)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not match:
        raise StepError(f"{name} is not a size", expected="6MB, 500k, 1GiB or a number of bytes", found=repr(text))
    number, unit, binary = match.groups()
    count = float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " ")
    if not 1 <= count < MOST_BYTES:
        raise StepError(f"{name} is too {'small' if count < 1 else 'large'}",
                        expected="1 byte or more, and less than 8 EiB", found=repr(text))
    return int(count)
