"""numba's on-disk cache of compiled kernels, made optional: whatever is wrong with it, kernels are compiled.

numba fails if a file of its cache is empty or cut short, as after a power cut, and if the cache cannot be written.
It also may mix up two kernels that two processes compile at once. Here, every file has a checksum, and every kernel
is stored with what it was compiled for; what does not match is compiled again. One warning names the folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
import zlib
from typing import TYPE_CHECKING

from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    NullCache,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FunctionType

CHECKSUM = 4  # bytes of a CRC-32 at the end of each file
_warned = threading.Event()


class _Damaged(Exception):
    """A file of the cache is not as it was written."""


class _UserWideLocator(UserWideCacheLocator):
    """The user's cache folder, if the user has a home: numba would make a folder named ~ in the working directory."""

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> _UserWideLocator | None:
        known = os.path.isabs(cls(py_func, py_file).get_cache_path())
        return super().from_function(py_func, py_file) if known else None


class _Files(IndexDataCacheFile):
    """The index and the data files of one kernel, with checksums."""

    def save(self, key: object, data: object) -> None:
        super().save(key, (key, data))

    def load(self, key: object) -> object:
        found = super().load(key)
        return found[1] if found is not None and found[0] == key else None

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        data = content.getvalue()
        with super()._open_for_write(filepath) as file:
            file.write(data + zlib.crc32(data).to_bytes(CHECKSUM, "little"))  # unpickling ignores what follows

    def _load_index(self) -> dict[object, str]:
        if os.path.lexists(self._index_path):
            _check(self._index_path)
        return super()._load_index()

    def _load_data(self, name: str) -> object:
        _check(self._data_path(name))
        return super()._load_data(name)


def _check(path: str) -> None:
    """Raise `_Damaged` if a file does not end in the checksum of the rest."""
    with open(path, "rb") as file:
        data = file.read()
    if zlib.crc32(data[:-CHECKSUM]) != int.from_bytes(data[-CHECKSUM:], "little"):
        raise _Damaged(path)


class _Impl(CompileResultCacheImpl):
    _locator_classes = [UserProvidedCacheLocator, InTreeCacheLocator, _UserWideLocator]


class KernelCache(FunctionCache):
    """The cache of one kernel; any failure is the same as finding nothing in it.

    Parameters
    ----------
    py_func : callable
        The function to compile.

    Raises
    ------
    RuntimeError
        If there is no writable folder.
    """

    _impl_class = _Impl

    def __init__(self, py_func: Callable[..., object]) -> None:
        super().__init__(py_func)
        name = f"{self._impl.filename_base}-crc32"  # not that of the files that numba itself would write
        self._cache_file = _Files(self._cache_path, name, self._impl.locator.get_source_stamp())

    def load_overload(self, sig: object, target_context: object) -> object:
        """Return a kernel, or None if there is none, or none that can be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling may raise any
            _warn(self._cache_path, error)
            return None

    def save_overload(self, sig: object, data: object) -> None:
        """Store a kernel if that is possible; an index that cannot be read is replaced."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:
                self.flush()
                super().save_overload(sig, data)
        except Exception as error:
            _warn(self._cache_path, error)


class NoCache(NullCache):
    """In place of a cache where no folder is writable: warns when a kernel is compiled.

    Parameters
    ----------
    folder : str
        The folder of the kernels' source.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def save_overload(self, sig: object, data: object) -> None:
        """Warn that the kernel is not stored."""
        _warn(self._folder, None)


def cache_of(function: FunctionType) -> KernelCache | NoCache:
    """Return the cache of a kernel, or what stands for it where no folder is writable."""
    try:
        return KernelCache(function)
    except (OSError, RuntimeError):
        return NoCache(os.path.dirname(function.__code__.co_filename))


def _warn(folder: str, error: Exception | None) -> None:
    """Warn once in a process; an error of the system means that the cache cannot be used."""
    if _warned.is_set():
        return
    _warned.set()
    advice = "Set NUMBA_CACHE_DIR to a writable folder to keep them."
    if error is None:
        text = f"no folder for compiled kernels: {folder} and the user's cache folder are not writable. {advice}"
    elif isinstance(error, OSError):
        text = f"the folder of compiled kernels cannot be used: {folder}: {error.strerror or error}. {advice}"
    else:
        text = f"compiled kernels in {folder} are damaged, and are compiled again"
    warnings.warn(text, UserWarning, stacklevel=2)
