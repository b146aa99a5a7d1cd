"""All numba code, in self-contained files.

No compiled function calls one in another file, because numba's on-disk cache would not notice a change of the
other file. Kernels take C-contiguous arrays of fixed dtypes, write into arrays that the caller passes, and check
nothing. They release the GIL, so threads can run them in parallel.

In the docstrings, "out:" begins the list of arrays that a kernel writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from embshrink.errors import need

if TYPE_CHECKING:
    from collections.abc import Callable

need("this function of embshrink", "numba")  # here, because every file with kernels imports this one first

R = TypeVar("R")

compile_watchers: list[Callable[[], object]] = []  # called, in any thread, as numba begins to compile a kernel
_listening = False

# Without nnan and ninf, which would let the compiler remove isnan checks. reassoc allows SIMD sums.
FAST = {"reassoc", "contract", "nsz", "arcp"}


@overload
def kernel(function: Callable[..., R]) -> Callable[..., R]: ...
@overload
def kernel(*, fastmath: bool | set[str]) -> Callable[[Callable[..., R]], Callable[..., R]]: ...
def kernel(function: Callable[..., R] | None = None, *, fastmath: bool | set[str] = False,
           ) -> Callable[..., R] | Callable[[Callable[..., R]], Callable[..., R]]:
    """Compile `function` with numba at its first call; cache the result on disk if possible.

    Parameters
    ----------
    function : callable, optional
        The function to compile; without it, a decorator is returned.
    fastmath : bool or set of str
        LLVM's fast-math flags, such as `FAST`.

    Returns
    -------
    callable
        Takes arrays of any dtypes and is compiled for each combination of them, so only its result is typed.

    Notes
    -----
    A cache that is damaged or cannot be written is replaced or not used, with one warning (see `cache`). The function
    is compiled again then, which is slower but gives the same results.
    """
    if function is None:
        return lambda function: _compiled(function, fastmath)
    return _compiled(function, fastmath)


def _listen() -> None:
    """Have numba call the watchers when it compiles a kernel. Loading one from its cache is no such event."""
    global _listening
    if _listening:
        return
    from numba.core import event

    class Compiles(event.Listener):
        def on_start(self, event: object) -> None:
            for watcher in list(compile_watchers):
                watcher()

        def on_end(self, event: object) -> None:
            pass

    event.register("numba:compile", Compiles())
    _listening = True


def _compiled(function: Callable[..., R], fastmath: bool | set[str]) -> Callable[..., R]:
    import numba
    from numba.core import config

    from embshrink.kernels.cache import cache_of

    _listen()
    compiled = numba.njit(nogil=True, error_model="numpy", boundscheck=False, fastmath=fastmath)(function)
    if not config.DISABLE_JIT:  # with it, the function itself comes back
        compiled._cache = cache_of(function)
    return compiled


def compiled_for(feature: str) -> bool:
    """Return whether numba compiles, and may use a feature of this processor, given by its name in LLVM."""
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features

    if config.DISABLE_JIT:
        return False
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return f"+{feature}" in features.split(",")
