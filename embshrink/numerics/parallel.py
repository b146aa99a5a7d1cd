"""Parallel work on blocks of rows, with the same result for any number of threads.

Work is cut into blocks whose bounds do not depend on the number of threads. Each block is
computed by one thread, and BLAS is limited to one thread meanwhile, so every sum is computed
in the same order on one core or on eight.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")

BLOCK_ROWS = 16_384  # rows processed at a time if rows are independent of each other


class _ThreadState(threading.local):
    """The state of a thread; every thread starts with these values."""

    working = False  # whether the thread is working on blocks
    blas_depth = 0  # number of `one_blas_thread` contexts that are open in it


_threads: int | None = None
_state = _ThreadState()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = threading.Lock()


def thread_count() -> int:
    """Return the number of threads to use: that of `set_threads`, or else the cores this process may use."""
    if _threads is not None:
        return _threads
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def set_threads(count: int | None) -> None:
    """Set the number of threads to use from now on.

    Parameters
    ----------
    count : int or None
        Number of threads, at least 1; None for all cores.

    Raises
    ------
    ValueError
        If `count` is less than 1.
    """
    global _threads
    if count is not None and count < 1:
        raise ValueError(f"threads must be at least 1, not {count}")
    _threads = count


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """Return the bounds ``[(0, size), (size, 2 * size), ...]`` that cover ``range(n)``."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def map_blocks(function: Callable[[int, int], T], n: int, size: int,
               on_done: Callable[[int], object] | None = None) -> list[T]:
    """Call ``function(start, stop)`` for every block of ``range(n)``, on all cores.

    Parameters
    ----------
    function : callable
        Should release the GIL in its expensive part (numpy and our kernels do).
    n, size : int
        Length of the range, and length of a block.
    on_done : callable, optional
        Called as ``on_done(rows)`` in the calling thread for each finished block.

    Returns
    -------
    list
        The result of each call, in the order of the blocks.
    """
    with one_blas_thread():
        return run_blocks(function, n, size, on_done)


def run_blocks(function: Callable[[int, int], T], n: int, size: int,
               on_done: Callable[[int], object] | None = None) -> list[T]:
    """Do as `map_blocks` for a function that does not call BLAS: limiting BLAS to one thread takes a millisecond."""
    bounds = blocks(n, size)
    helpers = min(thread_count(), len(bounds)) - 1 if len(bounds) > 1 else 0
    if helpers < 1 or _state.working:
        results = []
        for start, stop in bounds:
            results.append(function(start, stop))
            if on_done:
                on_done(stop - start)
        return results
    job = _Job(function, bounds)
    futures = _hire(helpers, job.work)
    depth = _state.blas_depth
    _begin_work()
    try:
        job.work(on_done)
    finally:  # on an error or Ctrl-C, blocks that were not started are dropped
        _state.working, _state.blas_depth = False, depth
        job.stop()
        for future in futures:
            if not future.cancel():
                future.result()
    job.report(on_done)
    return job.results()


class _Job(Generic[T]):
    """Blocks shared by several threads: each thread takes the first block that no thread has taken yet."""

    def __init__(self, function: Callable[[int, int], T], bounds: list[tuple[int, int]]) -> None:
        self._function, self._bounds = function, bounds
        self._results: dict[int, T] = {}
        self._errors: dict[int, Exception] = {}
        self._next = itertools.count().__next__  # atomic, so no two threads get the same number
        self._stopped = False
        self._done: collections.deque[int] = collections.deque()  # rows of each finished block, not yet reported

    def work(self, on_done: Callable[[int], object] | None = None) -> None:
        """Work on blocks until none is left; only the calling thread may pass `on_done`."""
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

    def stop(self) -> None:
        """Start no further block."""
        self._stopped = True

    def report(self, on_done: Callable[[int], object] | None) -> None:
        """Report the blocks that were finished since the last report."""
        while on_done and self._done and not self._errors:
            on_done(self._done.popleft())

    def results(self) -> list[T]:
        """Return the result of each block, in order, or raise the error of the first block that failed."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[number] for number in range(len(self._bounds))]


def _hire(count: int, work: Callable[[], None]) -> list[Future[None]]:
    """Run `work` in `count` threads of the pool, which is kept: starting threads takes longer than a search."""
    global _pool, _pool_size
    from concurrent.futures import ThreadPoolExecutor  # takes ten milliseconds, which a single lookup can avoid

    futures: list[Future[None]] = []
    with _pool_lock, contextlib.suppress(RuntimeError):  # no thread can be started while the interpreter exits
        pool = _pool
        if pool is None or _pool_size < count:
            if pool is not None:
                pool.shutdown(wait=False)
            pool = ThreadPoolExecutor(count, initializer=_begin_work)
            _pool, _pool_size = pool, count
        for _ in range(count):
            futures.append(pool.submit(work))
    return futures


def _after_fork() -> None:
    """Forget the pool in a forked child process, where its threads do not exist."""
    global _pool, _pool_size, _pool_lock
    _pool, _pool_size, _pool_lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _begin_work() -> None:
    """Mark this thread as a worker: nested blocks run one after the other, and BLAS is limited already."""
    _state.working = True
    _state.blas_depth = 1


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, so that threads do not compete and sums do not depend on their number.

    Without threadpoolctl, BLAS keeps its threads. No sum of a reader depends on them, and what writes files needs the
    package (see `embshrink.compression.source.open_table`).
    """
    depth = _state.blas_depth
    if depth:  # finding the BLAS library takes a millisecond, which nested calls avoid
        _state.blas_depth = depth + 1
        try:
            yield
        finally:
            _state.blas_depth = depth
        return
    with _limited_blas():
        _state.blas_depth = 1
        try:
            yield
        finally:
            _state.blas_depth = 0


def _limited_blas() -> contextlib.AbstractContextManager[object]:
    """Return a context in which BLAS uses one thread; nothing changes if threadpoolctl is not installed."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
