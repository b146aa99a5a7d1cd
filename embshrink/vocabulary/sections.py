"""The sections that words are stored in: taken from a file, and refused in its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from embshrink.errors import FormatError
from embshrink.storage.arrays import StoredArray


class ErrorMaker(Protocol):
    """Makes the error for damage in one file."""

    def __call__(
        self, problem: str, *, where: str | None = None, expected: object = None, found: object = None
    ) -> FormatError:
        """Return it; the parameters are those of `EmbshrinkError`."""


def fitting(
    arrays: Mapping[str, StoredArray], name: str, dtype: type[np.generic] | np.dtype[np.generic], length: int | None,
    error: ErrorMaker,
) -> StoredArray:
    """Return a section of words.

    Raises
    ------
    FormatError
        Unless it is there with this dtype, one axis and this length (any, for None).
    """
    if name not in arrays:
        raise error(f"section words.{name} is missing")
    found = arrays[name]
    if found.dtype != dtype or len(found.shape) != 1 or (length is not None and len(found) != length):
        raise error(f"words.{name} does not fit",
                    expected=f"{np.dtype(dtype)} ({'any' if length is None else length},)",
                    found=f"{found.dtype} {found.shape}")
    return found
