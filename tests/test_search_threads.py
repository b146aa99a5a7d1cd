"""Blocks on a pool of threads that is kept: order, errors, nesting, forks and the interpreter's end."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from embshrink.numerics import parallel


def spin(seconds=0.002):
    time.sleep(seconds)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_results_come_in_the_order_of_blocks(threads):
    parallel.set_threads(threads)
    reported, caller = [], threading.get_ident()

    def work(start, stop):
        spin(0.001 * (start % 3))
        return start, stop

    def report(rows):
        assert threading.get_ident() == caller
        reported.append(rows)

    for _ in range(5):
        assert parallel.run_blocks(work, 23, 2, report) == parallel.blocks(23, 2)
    assert sum(reported) == 5 * 23 and len(reported) == 5 * 12
    assert parallel.run_blocks(work, 0, 2) == []


def test_threads_are_kept_and_no_more_than_said():
    def who(start, stop):
        spin()
        return threading.get_ident()

    parallel.set_threads(3)
    for _ in range(20):
        found = set(parallel.run_blocks(who, 12, 1))
        assert len(found) <= 3
    before = threading.active_count()
    for _ in range(20):
        parallel.run_blocks(who, 12, 1)
    assert threading.active_count() == before
    parallel.set_threads(6)
    assert len(set(parallel.run_blocks(who, 30, 1))) > 3
    parallel.set_threads(2)
    assert len(set(parallel.run_blocks(who, 30, 1))) <= 2


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_block_that_fails_is_told_of_and_later_ones_are_dropped(threads):
    parallel.set_threads(threads)
    begun = []

    def work(start, stop):
        begun.append(start)
        spin()
        if start in (4, 5, 6):
            raise ValueError(start)

    for _ in range(5):
        begun.clear()
        with pytest.raises(ValueError, match="^4$"):
            parallel.run_blocks(work, 200, 1)
        assert len(begun) < 20
    assert parallel.run_blocks(lambda start, stop: stop, 3, 1) == [1, 2, 3]


def test_an_error_in_a_report_drops_what_is_not_begun():
    parallel.set_threads(2)
    begun = []

    def report(rows):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        parallel.run_blocks(lambda start, stop: spin() or begun.append(start), 200, 1, report)
    count = len(begun)
    assert count < 20
    spin(0.02)
    assert len(begun) == count  # nobody works on
    assert parallel.run_blocks(lambda start, stop: stop, 3, 1) == [1, 2, 3]


def test_ctrl_c_drops_what_is_not_begun():
    parallel.set_threads(2)
    begun = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind & ignores it
    try:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            parallel.run_blocks(lambda start, stop: begun.append(start) or spin(), 2000, 1)
    finally:
        signal.signal(signal.SIGINT, before)
    count = len(begun)
    assert 2 < count < 1000
    spin(0.02)
    assert len(begun) == count


def test_blocks_inside_blocks_run_in_the_thread_of_the_outer_one():
    parallel.set_threads(4)

    def inner(start, stop):
        return threading.get_ident()

    def outer(start, stop):
        spin()
        return {threading.get_ident(), *parallel.map_blocks(inner, 8, 1)}

    for _ in range(5):
        assert [len(found) for found in parallel.map_blocks(outer, 8, 1)] == 8 * [1]
    threads = set(parallel.run_blocks(lambda start, stop: spin() or threading.get_ident(), 8, 1))
    assert len(threads) > 1  # the caller is not taken for a worker any more


def test_many_callers_share_the_pool():
    parallel.set_threads(3)
    wrong = []

    def call(which):
        for size in range(1, 40):
            if parallel.run_blocks(lambda start, stop: (which, start), 40, size) != [
                (which, start) for start in range(0, 40, size)
            ]:
                wrong.append(which)

    threads = [threading.Thread(target=call, args=(which,)) for which in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


PROGRAM = """
import atexit, os, threading, time
from embshrink.numerics import parallel
parallel.set_threads(3)
work = lambda start, stop: time.sleep(0.002) or (start, threading.get_ident())
def blocks():
    found = parallel.run_blocks(work, 12, 1)
    assert [start for start, _ in found] == list(range(12))
    return len({thread for _, thread in found})
assert blocks() > 1
atexit.register(lambda: print("at exit", blocks() >= 1, flush=True))
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if blocks() > 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
print("done", flush=True)
"""


def test_a_forked_child_has_a_pool_of_its_own_and_the_end_of_the_interpreter_needs_none(subprocess_env):
    run = subprocess.run([sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", "-c", PROGRAM],
                         env=subprocess_env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "done\nat exit True\n" and not run.stderr
