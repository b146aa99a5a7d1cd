"""Row blocks on all cores, with the same answer at any number of threads.

Work is cut into blocks whose bounds do not depend on the number of threads, each block is
computed by one thread, and BLAS is held at one thread meanwhile: so every sum is taken in
the same order whether one core works or eight.
"""

from __future__ import annotations

import contextlib
import os
import threading

_threads = None
_local = threading.local()


def thread_count():
    """Return how many threads to work with: what `set_threads` said, else the cores this process may use."""
    if _threads is not None:
        return _threads
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def set_threads(count):
    """Work with `count` threads from now on; None for all cores."""
    global _threads
    if count is not None and count < 1:
        raise ValueError(f"threads must be at least 1, not {count}")
    _threads = count


def blocks(n, size):
    """Return the bounds ``[(0, size), (size, 2 * size), ...]`` that cover ``range(n)``."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def map_blocks(function, n, size, on_done=None):
    """Call ``function(start, stop)`` for every block of ``range(n)``, on all cores.

    Parameters
    ----------
    function : callable
        Must release the GIL for its heavy part (numpy and our kernels do).
    n, size : int
        Length to cover and block length.
    on_done : callable, optional
        Called as ``on_done(rows)`` in the calling thread as each block is finished.

    Returns
    -------
    list
        What each call returned, in the order of the blocks.
    """
    with one_blas_thread():
        return run_blocks(function, n, size, on_done)


def run_blocks(function, n, size, on_done=None):
    """Do as `map_blocks` for a function that does not call BLAS: holding that takes a millisecond."""
    bounds = blocks(n, size)
    if thread_count() == 1 or len(bounds) < 2 or getattr(_local, "working", False):
        results = []
        for start, stop in bounds:
            results.append(function(start, stop))
            if on_done:
                on_done(stop - start)
        return results
    from concurrent.futures import ThreadPoolExecutor  # ten milliseconds a single lookup can do without

    pool = ThreadPoolExecutor(min(thread_count(), len(bounds)), initializer=_begin_work)
    try:
        futures = [pool.submit(function, start, stop) for start, stop in bounds]
        results = []
        for future, (start, stop) in zip(futures, bounds):
            results.append(future.result())
            if on_done:
                on_done(stop - start)
        return results
    finally:  # on an error or Ctrl-C the blocks not begun are dropped
        pool.shutdown(cancel_futures=True)


def _begin_work():
    """Mark this thread as a worker: blocks inside blocks run one after the other, and BLAS is already held."""
    _local.working = True
    _local.depth = 1


@contextlib.contextmanager
def one_blas_thread():
    """Hold BLAS at one thread: two layers of threads would fight, and its sums would depend on their number."""
    depth = getattr(_local, "depth", 0)
    if depth:  # looking BLAS up costs a millisecond; nested calls need not
        _local.depth = depth + 1
        try:
            yield
        finally:
            _local.depth = depth
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        _local.depth = 1
        try:
            yield
        finally:
            _local.depth = 0
