"""Compute many points, write every row down at once, and go on where an earlier call stopped."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fixqnn.calibration.policy import DEFAULT, SETTINGS, Policy
from fixqnn.errors import BadInput, FixqnnError
from fixqnn.graph import Graph
from fixqnn.sweeps.cluster import is_parallel, stream
from fixqnn.sweeps.evaluate import MEMORY, Bench, Task
from fixqnn.sweeps.points import Point, points_of, split
from fixqnn.sweeps.rows import Rows
from fixqnn.sweeps.store import Store
from fixqnn.sweeps.variants import machines_of

SOME = 32  # test samples that a prediction looks at


def sweep(
    graph: Graph,
    samples: Any,
    test_set: Any,
    points: Any,
    machines: Any = "ideal",
    store: str | Path | None = None,
    jobs: int = 1,
    seed: int = 0,
    policy: Policy = DEFAULT,
    progress: Callable[[int, int], None] | None = None,
    memory: int = MEMORY,
    command: str = "",
) -> Rows:
    """Compute every point on every machine, on exact integers, and tell how good and how dear each is.

    The same call again computes only what is missing. Nothing is compiled for a point; samples pass once, the float network
    runs once, and steps that points share are computed once, as far as `memory` allows.

    Parameters
    ----------
    graph : Graph
        The network in real numbers, as it was before `quantize`; formats that it has stay.
    samples : array, or as `calibrate` takes them
        Typical inputs, which set the ranges.
    test_set : tuple or array
        ``(x, labels)``, or x alone: then nothing is said of accuracy.
    points : iterable of Point
        As `grid` makes them.
    machines : Accelerator, callable, str, or a list of these
        A callable makes an Accelerator, and gets a point's settings of the machine that it has parameters for. The others
        are changed in the record, on any machine: ``accumulator_bits``, ``partial_bits``, ``overflow``, ``rounding``. A text is
        as `fixqnn.machines.resolve` takes it, and may hold ranges: ``"systolic(partial=12..16)"``.
    store : path, optional
        An SQLite file for the rows, made if it is not there; two processes may write to one. By default rows are in memory.
    jobs : int
        Processes, through joblib; -1: one per processor. Inside ``joblib.parallel_config(backend="dask")`` or ``"ray"``
        that cluster computes, and this process alone writes to the store.
    seed : int
        Of stochastic rounding.
    policy : Policy
        What holds where points say nothing.
    progress : callable, optional
        ``progress(done, all)`` in rows.
    memory : int
        Bytes of codes kept for points to come.
    command : str
        How all this was asked for; kept with the rows.

    Returns
    -------
    Rows
        One per point and machine, in this order; see `fixqnn.sweeps.rows.COLUMNS`. An impossible point is a row with its
        reason.

    Raises
    ------
    BadInput
        For unusable data, a setting that nothing knows, or a store of another graph, data set or version.
    BadFile
        For a store that is damaged, locked or cannot be written; what is in it stays.
    KeyboardInterrupt
        After Ctrl-C; rows that were computed are in the store.

    Examples
    --------
    >>> import numpy as np
    >>> from fixqnn.graph import Node, Value
    >>> from fixqnn.ops import OPS
    >>> from fixqnn.sweeps.points import grid
    >>> graph = Graph((Value("x", (None, 2)),), ("fc",), (Node("fc", OPS["linear"], ("x", "w")),), {"w": np.eye(2)})
    >>> x = np.array([[0.9, 0.1], [0.2, 0.7]])
    >>> rows = sweep(graph, x, (x, [0, 1]), grid(weights=(2, 4), activations=(1, 4)), "ideal")
    >>> [(row["settings"]["activations"], row["accuracy"]) for row in rows]
    [(1, 1.0), (4, 1.0), (1, 1.0), (4, 1.0)]
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0:
        raise BadInput(f"jobs is a number of processes, or -1 for one per processor, not {jobs!r}")
    points, machines = points_of(points), machines_of(machines)
    bench = Bench(graph, samples, test_set, policy, seed, memory)
    bench.check(points, machines)
    tasks = {task.key: task for task in (bench.task(point, machine) for point in points for machine in machines)}
    with Store(store, bench.belongs) as opened:
        describe(opened, bench, command)
        settled = opened.settled()
        todo = [task for key, task in tasks.items() if key not in settled]
        done = len(tasks) - len(todo)
        if progress is not None:
            progress(done, len(tasks))
        ordered = in_order(bench.graph, todo)
        found = stream(bench, ordered, jobs) if is_parallel(jobs) and ordered else _one_by_one(bench, ordered, opened)
        try:
            with closing(found):
                for row in found:
                    if row is not None:
                        opened.add(row)
                    done += 1
                    if progress is not None:
                        progress(done, len(tasks))
        except KeyboardInterrupt:
            where = "in memory, and gone" if store is None else f"in {store}; the same call goes on from there"
            raise KeyboardInterrupt(f"stopped after {done} of {len(tasks)} rows: they are {where}") from None
        return opened.rows(list(tasks))


def describe(store: Store, bench: Bench, command: str) -> None:
    """Write down what all rows have in common, once."""
    known = store.meta
    if "float_accuracy" not in known:
        store.set_meta(float_accuracy=bench.float_accuracy, test_samples=bench.samples)
    if store.path is not None and "sensitivity" not in known and (shares := _sensitivity(bench)):
        store.set_meta(sensitivity=shares)
    if command and command not in known.get("commands", []):
        store.set_meta(commands=[*known.get("commands", []), command], command=command)


def _sensitivity(bench: Bench) -> dict[str, float]:
    """Predict each layer's share in the output's error, for the report; nothing where that cannot be had for little."""
    if "torch" not in sys.modules:  # gradients come from torch, and loading it takes longer than many a sweep
        return {}
    from fixqnn.analysis.prediction import predict_rms

    with suppress(FixqnnError):
        some = {name: x[:SOME] for name, x in bench.reals().items()}
        return predict_rms(bench.quantized(Point({})), some).shares()
    return {}


def _one_by_one(bench: Bench, tasks: Sequence[Task], store: Store) -> Iterator[dict[str, Any] | None]:
    """Compute tasks in this process; None for one that another process wrote meanwhile.

    Whoever computed a row in vain, because another process was faster, goes on from the other end: two processes meet in the
    middle.
    """
    waiting, forward = deque(tasks), True
    while waiting:
        task = waiting.popleft() if forward else waiting.pop()
        if store.path is not None and store.has(task.key):
            yield None
            continue
        row = bench.compute(task)
        if store.path is not None and store.has(task.key):
            forward = not forward
        yield row


def in_order(graph: Graph, tasks: Sequence[Task]) -> list[Task]:
    """Order tasks so that those after one another share as many first steps as possible.

    What concerns all layers changes slowest, then what concerns single layers, early ones before late ones, then the machine
    and its settings; of numbers the smaller come first, since a register that was wide enough makes wider ones known.

    Parameters
    ----------
    graph : Graph
        The network; a setting stands where the first layer that it is for stands.
    tasks : sequence of Task
        In any order.
    """
    names = dict.fromkeys(name for task in tasks for name in task.point.settings)
    place = {name: _place(graph, name) for name in names}
    ordered = sorted(names, key=lambda name: place[name])
    formats = [name for name in ordered if place[name] < len(graph.nodes)]
    others = [name for name in ordered if place[name] >= len(graph.nodes)]
    machines = {text: i for i, text in enumerate(dict.fromkeys(_label(task) for task in tasks))}

    def rank(task: Task) -> tuple[Any, ...]:
        settings = task.point.settings
        first = [_sortable(settings.get(name)) for name in formats]
        return (*first, machines[_label(task)], *(_sortable(settings.get(name)) for name in others))

    return sorted(tasks, key=rank)


def _label(task: Task) -> str:
    return task.text or ""


def _place(graph: Graph, name: str) -> int:
    setting, pattern = split(name)
    if pattern is None:
        return -1 if setting in SETTINGS or setting in ("inputs", "outputs") else len(graph.nodes)
    if setting not in SETTINGS:
        return len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        if any(fnmatchcase(known, pattern) for known in (node.name, node.output, *node.inputs)):
            return index
    return len(graph.nodes)


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, repr(value)
