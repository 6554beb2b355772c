"""Rows of one step, shared out over threads.

Kernels are serial and release the lock; here is the only place where work is divided. Pieces are consecutive ranges of
independent outputs, and results come back in their order, so codes and events cannot depend on how many threads there are.

The pool is made at the first call that needs it, never at import, and anew in a forked child, which inherits no threads.
The calling thread works too and never waits for a piece that nobody has begun: a pool that is busy elsewhere, or that can
start no thread, costs speed only.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Lock, local
from typing import Generic, TypeVar

from fixqnn.errors import BadInput

VARIABLE = "FIXQNN_THREADS"
PIECES = 4  # per thread: a thread that the machine slows down leaves its share to the others

T = TypeVar("T")


def threads(asked: int | str | None = None) -> int:
    """How many threads a run takes: what it asks for, else the environment's FIXQNN_THREADS, else one.

    "all" or 0 stands for every processor that this process may use. One is the default because those who run many
    samples often run many processes.

    Raises
    ------
    BadInput
        For anything but a whole number from 0 or "all".
    """
    source = "threads"
    if asked is None:
        source, asked = VARIABLE, os.environ.get(VARIABLE, "").strip() or 1
    try:
        if isinstance(asked, bool):
            raise TypeError
        count = 0 if asked == "all" else int(asked) if isinstance(asked, str) else operator.index(asked)
    except (TypeError, ValueError):
        count = -1
    if count < 0:
        raise BadInput(f"{source} is a number of threads from 1, or 'all' (or 0) for every processor, not {asked!r}")
    return count or processors()


def processors() -> int:
    """Processors that this process may use; a machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split(work: Callable[[int, int], T], total: int, least: int, threads: int = 1) -> list[T]:
    """Call ``work(start, stop)`` for consecutive ranges that cover `total` rows, and list what it gave, in order.

    Parameters
    ----------
    work : callable
        Computes the outputs of a range and gives back its events; it may not write where another range reads or writes.
    total : int
        Number of rows; without rows nothing is called.
    least : int
        Rows worth a piece of their own, from about a millisecond of work. Ranges begin at multiples of it, so a kernel
        that asks for a multiple of its tile has whole tiles.
    threads : int
        Threads at work at most, the caller among them. Inside a piece of another split there is only the caller.

    Raises
    ------
    Exception
        What the first failing range raised; ranges not yet begun are dropped.
    """
    if total <= 0:
        return []
    ranges = [(0, total)] if threads <= 1 or getattr(_here, "inside", False) else _ranges(total, least, threads)
    if len(ranges) == 1:
        return [work(0, total)]
    queue = _Queue(work, ranges)
    _submit(queue.drain, min(threads, len(ranges)) - 1)
    queue.drain()
    return queue.results()


def _ranges(total: int, least: int, threads: int) -> list[tuple[int, int]]:
    """Nearly equal ranges of whole blocks of `least` rows; what is left over belongs to the last."""
    least = max(1, least)
    blocks = max(1, total // least)
    pieces = min(blocks, PIECES * threads)
    starts = [blocks * i // pieces * least for i in range(pieces)]
    return list(zip(starts, [*starts[1:], total], strict=True))


class _Queue(Generic[T]):
    """Pieces of one call, taken in order by whoever is free."""

    def __init__(self, work: Callable[[int, int], T], ranges: list[tuple[int, int]]) -> None:
        self.work, self.ranges = work, ranges
        self.done: dict[int, T] = {}
        self.failed: dict[int, BaseException] = {}
        self.begun, self.running = 0, 0
        self.idle = Condition()  # guards the two counts, and tells when nobody works any more

    def drain(self) -> None:
        """Work until no piece is left; after a failure none is."""
        _here.inside = True
        try:
            while (index := self._take()) is not None:
                try:
                    self.done[index] = self.work(*self.ranges[index])
                except BaseException as problem:  # an interrupt too has to reach the caller
                    self.failed[index] = problem
                finally:
                    self._put_back()
        finally:
            _here.inside = False

    def _take(self) -> int | None:
        with self.idle:
            if self.failed or self.begun == len(self.ranges):
                return None
            self.begun, self.running = self.begun + 1, self.running + 1
            return self.begun - 1

    def _put_back(self) -> None:
        with self.idle:
            self.running -= 1
            self.idle.notify_all()

    def results(self) -> list[T]:
        """Wait for what was begun, and give all results in order.

        Pieces are begun in order, so the first one to fail is always begun: which failure is raised is no matter of luck.
        """
        with self.idle:
            self.idle.wait_for(lambda: self.running == 0)
        if self.failed:
            raise self.failed[min(self.failed)]
        return [self.done[i] for i in range(len(self.ranges))]


_here = local()
_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0


def _submit(work: Callable[[], None], times: int) -> None:
    """Hand work to pool threads, as far as threads can be started."""
    global _pool, _size
    with _lock:
        try:
            if _pool is None or _size < times:
                if _pool is not None:
                    _pool.shutdown(wait=False)  # what it has begun or queued is still done
                _pool, _size = ThreadPoolExecutor(times, thread_name_prefix="fixqnn"), times
            for _ in range(times):
                _pool.submit(work)
        except RuntimeError:  # no more threads allowed, or the interpreter is shutting down: the caller does it all
            pass


def _forget() -> None:
    """Start without pool and locks: a forked child has copies of both, and none of the threads."""
    global _here, _lock, _pool, _size
    _here, _lock, _pool, _size = local(), Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
