"""All numba code, one self-contained file per family.

No jitted function calls one of another file: numba's on-disk cache would not notice that the
other file changed. Kernels take C-contiguous arrays of fixed dtypes and write into arrays that the
caller passes; they check nothing. They release the GIL, so threads run them in parallel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

compile_watchers: list[Callable[[], object]] = []  # called, in any thread, as numba begins to compile a kernel
_listening = False

# Without nnan and ninf, which let the compiler delete isnan checks. reassoc is what allows SIMD sums.
FAST = {"reassoc", "contract", "nsz", "arcp"}


@overload
def kernel(function: Callable[..., R]) -> Callable[..., R]: ...
@overload
def kernel(*, fastmath: bool | set[str]) -> Callable[[Callable[..., R]], Callable[..., R]]: ...
def kernel(function: Callable[..., R] | None = None, *, fastmath: bool | set[str] = False,
           ) -> Callable[..., R] | Callable[[Callable[..., R]], Callable[..., R]]:
    """Compile `function` with numba when it is first called; cache the result on disk where that is possible.

    Parameters
    ----------
    function : callable, optional
        Without it, a decorator is returned.
    fastmath : bool or set of str
        LLVM's fast-math flags, such as `FAST`.

    Returns
    -------
    callable
        It takes arrays of any dtype and is compiled for each combination, so only its result is typed.

    Notes
    -----
    A read-only install without a home folder has no place for a cache, and numba raises RuntimeError then. Compiling
    again in each process is slower but not wrong.
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

    _listen()
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": fastmath}
    try:
        compiled: Callable[..., R] = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        compiled = numba.njit(**options)(function)
    return compiled


def compiled_for(feature: str) -> bool:
    """Return whether numba compiles here, for a processor with `feature` (LLVM's name of it) that numba may use."""
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features

    if config.DISABLE_JIT:
        return False
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return f"+{feature}" in features.split(",")
