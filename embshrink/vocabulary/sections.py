"""The sections of words in a file: checks of their dtype and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from embshrink.errors import FormatError
from embshrink.storage.arrays import StoredArray


class ErrorMaker(Protocol):
    """Makes the `FormatError` for damage in a file."""

    def __call__(
        self, problem: str, *, where: str | None = None, expected: object = None, found: object = None
    ) -> FormatError:
        """Return the error; the parameters are those of `EmbshrinkError`."""


def fitting(
    arrays: Mapping[str, StoredArray], name: str, dtype: type[np.generic] | np.dtype[np.generic], length: int | None,
    error: ErrorMaker,
) -> StoredArray:
    """Return the section ``words.<name>``, after checking its dtype and shape.

    Raises
    ------
    FormatError
        If it is missing, or does not have this dtype, one axis and this length (None for any length).
    """
    if name not in arrays:
        raise error(f"section words.{name} is missing")
    found = arrays[name]
    if found.dtype != dtype or len(found.shape) != 1 or (length is not None and len(found) != length):
        raise error(f"section words.{name} has the wrong dtype or shape",
                    expected=f"{np.dtype(dtype)} ({'any' if length is None else length},)",
                    found=f"{found.dtype} {found.shape}")
    return found
