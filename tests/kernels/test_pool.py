"""Rows are shared out whole, in order, and whatever goes wrong in a piece reaches the caller."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixqnn.errors import BadInput
from fixqnn.kernels import pool

ROOT = Path(__file__).parent.parent.parent


@given(st.integers(0, 3000), st.integers(0, 400), st.integers(1, 9))
def test_ranges_cover_all_rows_once_in_order_and_begin_at_multiples(total, least, threads):
    ranges = pool.split(lambda start, stop: (start, stop), total, least, threads)
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(total))
    assert all(start % max(least, 1) == 0 for start, _ in ranges)
    assert all(stop - start >= min(least, total) for start, stop in ranges)
    assert len(ranges) <= (pool.PIECES * threads if threads > 1 else 1)


@pytest.mark.parametrize(("total", "least", "threads"), [(1000, 1, 1), (100, 51, 4), (1, 1, 4)])
def test_what_is_one_piece_runs_in_the_calling_thread(total, least, threads):
    assert pool.split(lambda *_: threading.get_ident(), total, least, threads) == [threading.get_ident()]


def test_pieces_run_at_the_same_time_in_several_threads():
    barrier = threading.Barrier(3, timeout=60)

    def work(start, stop):
        if start < 3:
            barrier.wait()  # passed only if three threads are inside at once
        return threading.get_ident()

    assert len(set(pool.split(work, 3, 1, 3))) == 3


def test_a_pool_that_is_too_small_is_replaced():
    for threads in (2, 5, 3):
        barrier = threading.Barrier(threads, timeout=60)
        assert len(pool.split(lambda *_, barrier=barrier: barrier.wait(), threads, 1, threads)) == threads


def test_a_split_inside_a_piece_stays_in_its_thread():
    def inner(start, stop):
        return threading.get_ident()

    def work(start, stop):
        return [threading.get_ident(), *pool.split(inner, 100, 1, 4)]

    assert all(len(found) == 2 and found[0] == found[1] for found in pool.split(work, 12, 1, 4))
    assert len(pool.split(inner, 100, 1, 4)) > 1  # and the next call outside shares out again


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_first_failure_is_raised_and_the_rest_is_dropped(threads):
    seen = []

    def work(start, stop):
        seen.append(start)
        if start:
            time.sleep(0.01 if start == 1 else 0)  # the first to fail is not the first to say so
            raise ValueError(start)

    for _ in range(10):
        with pytest.raises(ValueError, match=r"^1$"):
            pool.split(work, threads * pool.PIECES, 1, threads)
        assert len(seen) <= 1 + threads
        seen.clear()
    assert len(pool.split(lambda *_: None, 100, 1, threads)) > 1


def test_an_interrupt_in_a_pool_thread_reaches_the_caller():
    def work(start, stop):
        if start == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.split(work, 16, 1, 4)


def test_python_threads_may_call_at_once():
    results: dict[int, list] = {}

    def user(number):
        results[number] = [pool.split(lambda a, b: (number, a, b), 500, 7, 1 + (number + i) % 4) for i in range(50)]

    users = [threading.Thread(target=user, args=(n,)) for n in range(6)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(60)
    for number in range(6):
        for ranges in results[number]:
            assert {n for n, _, _ in ranges} == {number}
            assert [row for _, a, b in ranges for row in range(a, b)] == list(range(500))


def test_no_thread_can_be_started_and_the_caller_does_it_all(monkeypatch):
    class Refuses:
        def __init__(self, *_, **__):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "ThreadPoolExecutor", Refuses)
    monkeypatch.setattr(pool, "_pool", None)
    found = pool.split(lambda *_: threading.get_ident(), 100, 1, 4)
    assert set(found) == {threading.get_ident()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_its_own_pool():
    code = """
import os, sys, threading
from fixqnn.kernels import pool
names = lambda *_: threading.current_thread().name
assert len(pool.split(names, 8, 1, 3)) == 8
started = threading.Event()
def fork_inside(start, stop):  # a child of a thread that works, too
    if start != 3:
        return 0
    child = os.fork()
    if not child:
        barrier = threading.Barrier(2, timeout=60)
        found = pool.split(lambda *_: barrier.wait(), 2, 1, 2)
        os._exit(0 if sorted(found) == [0, 1] else 1)
    return os.waitpid(child, 0)[1]
assert set(pool.split(fork_inside, 8, 1, 3)) == {0}
child = os.fork()
if not child:
    barrier = threading.Barrier(3, timeout=60)
    found = pool.split(lambda *_: barrier.wait(), 3, 1, 3)
    sys.exit(0 if sorted(found) == [0, 1, 2] else 1)
sys.exit(os.waitpid(child, 0)[1] != 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_pool_starts_no_thread():
    code = "import threading, fixqnn.kernels.pool as p; p.split(lambda *_: 0, 9, 1, 1); print(threading.active_count(), p._pool)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "None"], done.stderr


def test_after_the_main_thread_has_ended_work_is_done_without_a_pool():
    code = (
        "import atexit, threading\nfrom fixqnn.kernels import pool\n"
        "atexit.register(lambda: print(len(pool.split(lambda *_: 0, 9, 1, 3))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "9", done.stderr


def test_the_argument_wins_over_the_environment_and_one_is_the_default(monkeypatch):
    monkeypatch.delenv(pool.VARIABLE, raising=False)
    assert pool.threads() == 1
    assert pool.threads(3) == pool.threads("3") == 3
    assert pool.threads("all") == pool.threads(0) == pool.processors() >= 1
    for text, count in (("4", 4), (" 2 ", 2), ("", 1), ("all", pool.processors()), ("0", pool.processors())):
        monkeypatch.setenv(pool.VARIABLE, text)
        assert pool.threads() == count
        assert pool.threads(5) == 5


@pytest.mark.parametrize("wrong", [-1, 1.5, "many", "-2", True, [2], "1.0"])
def test_what_is_no_number_of_threads_is_refused_by_name(wrong, monkeypatch):
    with pytest.raises(BadInput, match="threads is a number of threads"):
        pool.threads(wrong)
    if isinstance(wrong, str):
        monkeypatch.setenv(pool.VARIABLE, wrong)
        with pytest.raises(BadInput, match="FIXQNN_THREADS is a number of threads"):
            pool.threads()
