"""From proposed settings to rows: out of the store, stopped early, or measured on the whole test set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fixqnn.sweeps.cluster import is_parallel, stream
from fixqnn.sweeps.constraints import Constraint
from fixqnn.sweeps.early_stop import GROWING, EarlyStop
from fixqnn.sweeps.evaluate import Task
from fixqnn.sweeps.fair import FairBench
from fixqnn.sweeps.rows import COLUMNS, Row, Rows
from fixqnn.sweeps.space import MACHINE, Space, point
from fixqnn.sweeps.store import Store
from fixqnn.sweeps.sweep import in_order
from fixqnn.sweeps.variants import Machine

MEASURED = {"ok": 0.0, "stopped": 0.5}
WORST = 1e9  # what the sampler is told of an objective that has no number


@dataclass
class Trials:
    """Rows of one search, in the order in which they were asked for.

    Attributes
    ----------
    bench : FairBench
        Network and test set.
    space, machines
        What settings mean.
    signs : mapping of str to int
        Objectives: 1 where more is better, −1 where less is.
    limits : tuple of Constraint
        What the front keeps.
    rule : EarlyStop or None
        When to give a point up.
    store : Store
        Where rows are kept.
    name : str
        Of the search: rows that it gave up early are nobody else's.
    jobs : int
        Processes.
    rows : list of mapping
        Rows so far.
    seen : set of str
        The settings asked for so far, as they print.
    there : dict of str to mapping, or None
        Rows that the store had when it was last read, by key.
    settled : int
        Rows of `rows`, and those after them that are in the store already.
    """

    bench: FairBench
    space: Space
    machines: Mapping[str, Machine]
    signs: Mapping[str, int]
    limits: tuple[Constraint, ...]
    rule: EarlyStop | None
    store: Store
    name: str
    jobs: int = 1
    rows: list[Row] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    there: dict[str, Row] | None = None
    settled: int = 0

    # ------------------------------------------------------------------ rows
    def measure(self, asked: Sequence[Mapping[str, Any]], progress: Callable[[int], None] | None = None) -> list[Row]:
        """Give the rows of some settings, in their order; ``progress(done)`` counts those that are settled.

        Whether a point is given up depends on the rows before this call only, so that the order inside it does not matter.
        """
        tasks = [self.bench.task(*self._what(settings)) for settings in asked]
        found: dict[int, Row] = self._known(tasks)
        front = self.front()

        def settle(place: int, row: Row) -> None:
            self.store.add(row)
            self.settled += 1
            found[place] = {name: row.get(name) for name in COLUMNS}
            if progress is not None:
                progress(len(found))

        for look in () if self.rule is None else self.rule.looks:
            places = [i for i, task in enumerate(tasks) if i not in found and _steady(task)]
            parts = [self.bench.task(*self._what(asked[i]), subset=look) for i in places]
            for place, row in self._compute(places, parts):
                if row["status"] == "ok" and (reason := self._reason(row, front)):
                    settle(
                        place, {**row, "key": self._stopped_key(tasks[place]), "status": "stopped", "reason": reason}
                    )
        places = [i for i in range(len(tasks)) if i not in found]
        for place, row in self._compute(places, [tasks[i] for i in places]):
            settle(place, row)
        rows = [found[i] for i in range(len(tasks))]
        self.rows += rows
        self.settled = len(self.rows)
        self.seen.update(map(repr, asked))
        return rows

    def measure_new(self, asked: Iterable[Mapping[str, Any]]) -> None:
        """Add the rows of settings that were not asked for yet."""
        new = {repr(settings): settings for settings in asked}
        self.measure([settings for name, settings in new.items() if name not in self.seen])

    def front(self) -> Rows:
        """Rows on the whole test set that keep all constraints and that no other one beats."""
        return Rows(row for row in self.rows if self._kept(row)).pareto(list(self.signs))

    def _kept(self, row: Row) -> bool:
        return row["status"] == "ok" and all(limit.violation(row) <= 0 for limit in self.limits)

    def _what(self, settings: Mapping[str, Any]) -> tuple[Any, Machine]:
        """Take settings apart: point and machine."""
        label = settings.get(MACHINE, next(iter(self.machines)))
        return point(settings), self.machines[label]

    def _known(self, tasks: Sequence[Task]) -> dict[int, Row]:
        """Rows that the store has, by place; it is read again when another process has written one of them."""
        if self.there is None or any(task.key not in self.there and self.store.has(task.key) for task in tasks):
            self.there = {row["key"]: row for row in self.store.rows() if row["status"] != "failed"}
        found = {}
        for place, task in enumerate(tasks):
            row = self.there.get(task.key, self.there.get(self._stopped_key(task)))
            if row is not None:
                found[place] = row
        return found

    def _compute(self, places: Sequence[int], tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Compute rows, as they come: (place, row). Settings of other names may be one program, and have one key."""
        wanted: dict[str, list[int]] = {}
        for place, task in zip(places, tasks, strict=True):
            wanted.setdefault(task.key, []).append(place)
        ordered = in_order(self.bench.graph, list({task.key: task for task in tasks}.values()))
        found = (
            stream(self.bench, ordered, self.jobs)
            if ordered and is_parallel(self.jobs)
            else map(self.bench.compute, ordered)
        )
        for row in found:
            for place in wanted[row["key"]]:
                yield place, row

    def _reason(self, row: Mapping[str, Any], front: Rows) -> str:
        whole = {**row, "float_accuracy": self.bench.float_accuracy}
        return self.rule.reason(whole, self.limits, self.signs, front)

    def _stopped_key(self, task: Task) -> str:
        """Key of the row that says why this search gave a point up; a sweep that wants the whole row computes it."""
        return sha256(f"{task.key} given up by {self.name}".encode()).hexdigest()

    # ------------------------------------------------------------------ what the sampler is told
    def values(self, row: Row) -> list[float]:
        """Objectives; of a row of few samples as for all, of a row without numbers the worst."""
        estimate = self._estimate(row)
        return [
            float(estimate[name]) if estimate.get(name) is not None else -WORST * sign
            for name, sign in self.signs.items()
        ]

    def violations(self, row: Row) -> dict[str, float]:
        """By how much a row breaks each limit, below 1; what was not measured whole breaks one more."""
        if row["status"] not in MEASURED:
            return {**{f"limit {i}": 1.0 for i in range(len(self.limits))}, "measured": 1.0 + len(self.limits)}
        estimate = self._estimate(row)
        found = {f"limit {i}": below_one(limit.violation(estimate)) for i, limit in enumerate(self.limits)}
        return {**found, "measured": MEASURED[row["status"]]}

    def _estimate(self, row: Row) -> dict[str, Any]:
        """Counts grow with the samples."""
        if row["status"] != "stopped":
            return dict(row)
        more = self.bench.samples / row["samples_used"]
        counts = {n: row[n] * more for n in (*GROWING, "right") if row[n] is not None}
        return {**row, **counts, "total": self.bench.samples, "float_accuracy": self.bench.float_accuracy}


def below_one(violation: float) -> float:
    """Bring violations of different units together: what keeps a limit stays, what breaks it comes between 0 and 1.

    >>> below_one(-3.0), below_one(1.0), below_one(math.inf)
    (-3.0, 0.5, 1.0)
    """
    if violation <= 0:
        return violation
    return 1.0 if math.isinf(violation) else max(violation / (1 + violation), math.ulp(0.0))


def _steady(task: Task) -> bool:
    """Whether the first samples come out alike among all: not where rounding draws random numbers by place."""
    return task.machine is not None and "stochastic" not in repr(task.machine)
