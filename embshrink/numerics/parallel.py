"""Row blocks on all cores, with the same answer at any number of threads.

Work is cut into blocks whose bounds do not depend on the number of threads, each block is
computed by one thread, and BLAS is held at one thread meanwhile: so every sum is taken in
the same order whether one core works or eight.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import threading

_threads = None
_local = threading.local()
_pool, _pool_size = None, 0
_pool_lock = threading.Lock()


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
    helpers = min(thread_count(), len(bounds)) - 1 if len(bounds) > 1 else 0
    if helpers < 1 or getattr(_local, "working", False):
        results = []
        for start, stop in bounds:
            results.append(function(start, stop))
            if on_done:
                on_done(stop - start)
        return results
    job = _Job(function, bounds)
    futures = _hire(helpers, job.work)
    depth = getattr(_local, "depth", 0)
    _begin_work()
    try:
        job.work(on_done)
    finally:  # on an error or Ctrl-C the blocks not begun are dropped
        _local.working, _local.depth = False, depth
        job.stop()
        for future in futures:
            if not future.cancel():
                future.result()
    job.report(on_done)
    return job.results()


class _Job:
    """Blocks that several threads take in turn, each the first that nobody has taken."""

    def __init__(self, function, bounds):
        self._function, self._bounds = function, bounds
        self._results, self._errors = [None] * len(bounds), {}
        self._next = itertools.count().__next__  # one step of the interpreter, so no two threads get the same
        self._stopped = False
        self._done = collections.deque()

    def work(self, on_done=None):
        """Work on blocks until none is left; only the calling thread may report."""
        while not self._stopped and (number := self._next()) < len(self._bounds):
            start, stop = self._bounds[number]
            try:
                self._results[number] = self._function(start, stop)
            except Exception as error:
                self._errors[number] = error
                self.stop()
            self._done.append(stop - start)
            if on_done:
                self.report(on_done)

    def stop(self):
        """Let no other block begin."""
        self._stopped = True

    def report(self, on_done):
        """Tell of the blocks that were finished since the last report."""
        while on_done and self._done and not self._errors:
            on_done(self._done.popleft())

    def results(self):
        """Return what each block gave, in their order, or raise the error of the first that failed."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._results


def _hire(count, work):
    """Begin `work` in so many threads of the pool; it is kept, for starting threads takes longer than a search."""
    global _pool, _pool_size
    from concurrent.futures import ThreadPoolExecutor  # ten milliseconds a single lookup can do without

    futures = []
    with _pool_lock, contextlib.suppress(RuntimeError):  # as the interpreter exits there are none; we do without
        if _pool_size < count:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(count, initializer=_begin_work), count
        for _ in range(count):
            futures.append(_pool.submit(work))
    return futures


def _after_fork():
    """Forget the pool in a forked child, where its threads are not."""
    global _pool, _pool_size, _pool_lock
    _pool, _pool_size, _pool_lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
