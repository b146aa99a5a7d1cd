"""All numba code, one self-contained file per family.

No jitted function calls one of another file: numba's on-disk cache would not notice that the
other file changed. Kernels get C-contiguous arrays of one dtype and write into arrays the caller
gives; they check nothing. They hold no lock on the interpreter, so threads run them side by side.
"""

from __future__ import annotations

# No nnan/ninf: those let the compiler delete isnan checks. reassoc is what allows SIMD sums.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function=None, *, fastmath=False):
    """Compile `function` with numba; cache the result on disk where that is possible.

    A read-only install without a home folder has nowhere to keep a cache, and numba refuses at
    import then. Compiling anew in each process is slower, not wrong.
    """
    import numba

    if function is None:
        return lambda function: kernel(function, fastmath=fastmath)
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


def compiled_for(feature):
    """Whether kernels are compiled here, and for a processor with a feature, as LLVM names it, that numba may use."""
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features

    if config.DISABLE_JIT:
        return False
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return f"+{feature}" in features.split(",")
