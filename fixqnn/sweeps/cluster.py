"""Points on several processes or machines, through joblib: this process hands out tasks, takes rows, and loses none.

What all tasks need (network, calibration, test set) is written to one file, which processes of this machine map into their
memory; to others it is sent. Whatever dies on the way, rows that did not come back are asked for again.
"""

from __future__ import annotations

import mmap
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.sweeps.evaluate import Bench, Task

Row = dict[str, Any]
GROUP_SECONDS = 0.3  # tasks are handed out in groups of about this length: longer than it takes to hand them out
LARGEST_GROUP = 16
PATIENCE = 300.0  # seconds without a row after which a cluster that does not say what it lost is asked again
ALIGNED = 64


def is_parallel(jobs: int) -> bool:
    """Whether a call with so many jobs runs in other processes: it does, too, where joblib was told of another backend."""
    backend, context_jobs = _context()
    return jobs != 1 or backend is not None or context_jobs not in (None, 1)


def _context() -> tuple[Any, int | None]:
    """The backend that ``joblib.parallel_config`` names, if it is not joblib's own processes, and its number of jobs."""
    if "joblib" not in sys.modules:  # then nobody told it anything
        return None, None
    from joblib.parallel import get_active_backend

    backend, jobs = get_active_backend()
    own = type(backend).__name__ in ("LokyBackend", "SequentialBackend")
    return None if own else backend, jobs


def stream(bench: Bench, tasks: Sequence[Task], jobs: int) -> Iterator[Row]:
    """Compute tasks elsewhere; rows come as they are ready, each once.

    Parameters
    ----------
    bench : Bench
        What computes them.
    tasks : sequence of Task
        In an order in which neighbours share work.
    jobs : int
        Processes of this machine, where no cluster is at hand.

    Raises
    ------
    BadInput
        For a network or a machine that cannot be sent, or a cluster that computes nothing at all.
    """
    backend, context_jobs = _context()
    jobs = context_jobs if jobs == 1 and context_jobs is not None else jobs
    remaining = {task.key: task for task in tasks}
    _ = bench.reference  # once, here
    if backend is None:  # compiles kernels, which the processes then find on disk
        first = remaining.pop(tasks[0].key)
        yield bench.compute(first)
    with _Sent(bench, None if backend is None else backend, jobs) as sent:
        while remaining:
            before, problem = len(remaining), None
            try:
                with closing(sent.rows(list(remaining.values()))) as rows:
                    for row in rows:
                        if remaining.pop(row["key"], None) is not None:
                            yield row
            except Exception as caught:  # tasks never raise: whatever it is, it happened on the way
                problem = caught
            if remaining and len(remaining) == before and not sent.changed():
                yield from _alone(sent, remaining, problem)


def _alone(sent: _Sent, remaining: dict[str, Task], problem: Exception | None) -> Iterator[Row]:
    """Hand out one task at a time: those that take their process down with them become rows that failed."""
    for task in list(remaining.values()):
        found = []
        try:
            with closing(sent.rows([task])) as rows:
                found = [row for row in rows if row["key"] == task.key]
        except Exception as caught:
            problem = caught
        if not found and not sent.worked:
            raise BadInput(f"joblib's workers compute nothing: {type(problem).__name__}: {problem}") from problem
        del remaining[task.key]
        yield found[0] if found else sent.bench.lost(task, f"the process that computed it died: {problem}")


@dataclass
class _Sent:
    """A bench in a file, and the calls that use it."""

    bench: Bench
    backend: Any
    jobs: int
    worked: bool = False
    embedded: Any = None  # the file's content, once a worker was met that does not see the file
    slowest: float = 0.0
    seconds: float = GROUP_SECONDS
    patience: float = PATIENCE
    _embed: bool = False
    _folder: Path = field(default_factory=Path)

    def __enter__(self) -> _Sent:
        self._folder = Path(tempfile.mkdtemp(prefix="fixqnn-sweep-"))
        content = packed(self.bench)
        self.token = sha256(content).hexdigest()
        (self._folder / "bench").write_bytes(content)
        self.patience = PATIENCE
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def changed(self) -> bool:
        """Whether the next call differs from the last one: workers that do not see the file are sent its content."""
        if self._embed and self.embedded is None:
            self.embedded = np.fromfile(self._folder / "bench", np.uint8)
            return True
        return False

    def rows(self, tasks: list[Task]) -> Iterator[Row]:
        """One call of joblib."""
        from joblib import Parallel, delayed

        patience = None if self.backend is None else max(self.patience, 20 * self.slowest)
        with self._config():
            parallel = Parallel(
                n_jobs=self.jobs if self.backend is None else None, return_as="generator_unordered", batch_size=1,
                pre_dispatch="2*n_jobs", timeout=patience,
            )  # fmt: skip
            call = delayed(compute_group)
            place = str(self._folder / "bench")
            groups = self._groups(tasks, self.jobs if self.jobs > 0 else 8)
            generator = parallel(call(self.token, place, self.embedded, _pickled(group)) for group in groups)
        try:
            for found in generator:
                if found is None:
                    self._embed = True
                    continue
                for row in found:
                    self.worked = True
                    self.seconds, self.slowest = row["seconds"], max(self.slowest, row["seconds"])
                    yield row
        finally:
            generator.close()

    @contextmanager
    def _config(self) -> Iterator[None]:
        """Processes of our own keep to one thread each; a cluster is as its owner wants it."""
        if self.backend is not None:
            yield
            return
        from joblib import parallel_config

        with parallel_config(backend="loky", inner_max_num_threads=1):
            yield

    def _groups(self, tasks: list[Task], jobs: int) -> Iterator[list[Task]]:
        """Cut tasks into groups that take a moment each; towards the end, small ones, so that nobody waits for one."""
        start = 0
        while start < len(tasks):
            wanted = int(GROUP_SECONDS / max(self.seconds, 1e-3))
            size = max(1, min(wanted, LARGEST_GROUP, (len(tasks) - start) // (4 * jobs)))
            yield tasks[start : start + size]
            start += size


# ---------------------------------------------------------------------- in the worker
_BENCHES: dict[str, Bench] = {}  # the last one: a worker serves one sweep after another


def compute_group(token: str, place: str, content: Any, tasks: bytes) -> list[Row] | None:
    """Compute a group of tasks in a worker; None where the worker has no bench and cannot get it.

    Parameters
    ----------
    token : str
        SHA-256 of the bench's file.
    place : str
        Where that file is, on the machine that asks.
    content : ndarray or None
        What is in it, where the file may not be seen.
    tasks : bytes
        The tasks, pickled.
    """
    bench = _BENCHES.get(token)
    if bench is None:
        bench = _mapped(Path(place)) if content is None else unpacked(np.array(content).data)
        if bench is None:
            return None
        _BENCHES.clear()
        _BENCHES[token] = bench
    return [bench.compute(task) for task in pickle.loads(tasks)]


def _mapped(path: Path) -> Bench | None:
    try:
        with path.open("rb") as file:
            # A private map: pages are shared between processes as long as nobody writes, and arrays are ordinary ones.
            return unpacked(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))
    except OSError:
        return None


# ---------------------------------------------------------------------- packing
def packed(bench: Bench) -> bytes:
    """Write a bench as bytes in which its arrays lie as they are in memory.

    Raises
    ------
    BadInput
        Where something in it cannot be sent, such as an operation that holds an open file.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = _pickled(bench, buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    lengths = np.array([len(head), *(len(part) for part in raw)], np.int64)
    parts: list[Any] = [np.int64(len(lengths)).tobytes(), lengths.tobytes(), head, *raw]
    return b"".join(bytes(part) + bytes(-len(part) % ALIGNED) for part in parts)


def unpacked(content: memoryview) -> Bench:
    """Read what `packed` wrote; arrays are views of it."""
    place = 0

    def take(length: int) -> memoryview:
        nonlocal place
        part = content[place : place + length]
        place += length + -length % ALIGNED
        return part

    (count,) = np.frombuffer(take(8), np.int64)
    lengths = np.frombuffer(take(8 * int(count)), np.int64).tolist()
    head, *raw = [take(length) for length in lengths]
    return pickle.loads(head, buffers=raw)


def _pickled(value: Any, buffers: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """Pickle with functions that only this process knows, such as those of a user's file."""
    cloudpickle = _cloudpickle()
    strangers = [m for name, m in sys.modules.items() if name.startswith("fixqnn_user_") and isinstance(m, ModuleType)]
    for module in strangers:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(value, protocol=5, buffer_callback=buffers)
    except Exception as problem:
        raise BadInput(f"this cannot be sent to other processes: {problem}; use jobs=1") from problem
    finally:
        for module in strangers:
            cloudpickle.unregister_pickle_by_value(module)


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:  # joblib before 1.6 brings its own
        from joblib.externals import cloudpickle
    return cloudpickle
