"""Search for the settings worth having: Optuna proposes, exact integers decide, hopeless points end early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixqnn.calibration.policy import DEFAULT, Policy
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.sweeps.constraints import NEED_LABELS, Constraint
from fixqnn.sweeps.constraints import constraints as read
from fixqnn.sweeps.early_stop import early_stop as make_rule
from fixqnn.sweeps.evaluate import MEMORY, Bench
from fixqnn.sweeps.fair import FairBench
from fixqnn.sweeps.found import Found, python_line
from fixqnn.sweeps.points import Point
from fixqnn.sweeps.rows import LARGER_IS_BETTER, NUMBERS, Rows
from fixqnn.sweeps.seeds import seeds
from fixqnn.sweeps.space import MACHINE, Space, space_of
from fixqnn.sweeps.store import Store
from fixqnn.sweeps.sweep import describe
from fixqnn.sweeps.trials import Trials
from fixqnn.sweeps.variants import Machine, machines_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from fixqnn.sweeps.proposals import Proposals

POPULATION = 12
TARGETS = (12.0, 18.0, 24.0)
TOGETHER = {"nsga2": POPULATION, "tpe": 4}  # points of a round: TPE learns from every one of them
UNSTEADY = ("seconds",)  # not the same twice


def search(
    graph: Graph,
    samples: Any,
    test_set: Any,
    space: Space | Mapping[str, Any],
    objectives: Sequence[str] = ("accuracy", "bit_operations", "accumulator_bits"),
    machines: Any = "ideal",
    trials: int = 100,
    store: str | Path | None = None,
    jobs: int = 1,
    seed: int = 0,
    sampler: str = "nsga2",
    storage: str | Path | BaseStorage | None = None,
    constraints: Any = (),
    progress: Callable[[int, int | None], None] | None = None,
    *,
    policy: Policy = DEFAULT,
    early_stop: float = 0.01,
    targets: Sequence[float] = TARGETS,
    memory: int = MEMORY,
    command: str = "",
) -> Found:
    """Search a space of settings for those that no others beat, within limits.

    It begins with one width everywhere, from wide to narrow, and with what `fixqnn.allocate_bits` gives the layers; then Optuna
    proposes, each point once. All rows are of exact integer runs, as those of `sweep`; a row that the store has is not
    computed again. The same seed gives the same rows and the same front, for any `jobs`, and however often the search was
    interrupted: the same call goes on.

    Parameters
    ----------
    graph : Graph
        The network in real numbers.
    samples : array, or as `calibrate` takes them
        Typical inputs, which set the ranges.
    test_set : tuple or array
        ``(x, labels)``, or x alone: then nothing is known of accuracy.
    space : Space or mapping
        Settings and their values, as `fixqnn.space` takes them: ``{"weights": range(2, 9), "per_layer": "weights"}``.
    objectives : sequence of str
        Columns of a row; larger accuracy and SQNR are better, of everything else less.
    machines : Accelerator, callable, text, or a list of these
        As for `sweep`; several are one more axis.
    trials : int
        Points to try, at most; fewer where the space holds fewer. A later call with more goes on from there.
    store : path, optional
        SQLite file of rows, which a sweep may share; None: in memory.
    jobs : int
        Processes; -1: one per processor. A cluster computes, as for `sweep`, inside ``joblib.parallel_config``.
    seed : int
        Of the sampler, of the order in which samples are looked at, and of stochastic rounding.
    sampler : "nsga2" or "tpe"
        NSGA-II (K. Deb et al., 2002) or a tree-structured Parzen estimator for several objectives (Y. Ozaki et al., 2022).
    storage : str, path or Optuna storage, optional
        Where Optuna keeps the trials: a URL (``"postgresql://…"`` for a cluster, ``"sqlite:///…"``) or the file of a journal. By
        default a journal beside the store. Processes that make the same call on one storage and one store share the work.
    constraints : str, callable, or a sequence of these
        Limits for the front: ``"accuracy >= float - 0.01"``, ``"events == 0"``; or ``function(row) -> float``, at most 0
        where the row is fine.
    progress : callable, optional
        ``progress(done, all)`` in points.
    policy : Policy
        What holds where points say nothing.
    early_stop : float
        A point ends after a 32nd or an 8th of the test set if it cannot keep the constraints any more, or is dominated by a
        row that was measured whole, at its best. This is the chance, over the order of the samples, that any point of the whole
        space ends so although it belongs to the front (see `fixqnn.sweeps.early_stop`). 0: all points are measured whole.
    targets : sequence of float
        Signal over error in dB: where layers have widths of their own, the search begins with those that `allocate_bits` gives
        them for each of these, too. This takes seconds for each; none: it does not.
    memory : int
        Bytes of codes to keep for other points.
    command : str
        How all this was asked for; kept with the rows.

    Returns
    -------
    Found
        Rows in the order of proposal; `front`: those that keep all constraints and that no other beats, measured on the whole
        test set; `command(row)`: the line that computes a row again.

    Raises
    ------
    BadInput
        For a space, an objective or a constraint that cannot be; without Optuna, which the extra ``search`` installs; for a
        store of another graph or data set.
    BadFile
        For a store or storage that cannot be used.
    KeyboardInterrupt
        After Ctrl-C; it says where the rows are.

    Examples
    --------
    >>> import numpy as np
    >>> import fixqnn as fq
    >>> nodes = (fq.Node("fc", fq.OPS["linear"], ("x", "w")),)
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("fc",), nodes, {"w": np.array([[1.0, 0.2], [0.2, 1.0]])})
    >>> x = np.random.default_rng(0).random((64, 2))
    >>> found = search(graph, x, (x, x.argmax(1)), {"weights": range(2, 5), "activations": range(2, 5)},
    ...     objectives=("accuracy", "bit_operations"), constraints="accuracy >= 0.9")
    >>> len(found), all(row["accuracy"] >= 0.9 for row in found.front)
    (9, True)
    """
    _need_optuna()
    import optuna

    from fixqnn.sweeps.proposals import Proposals

    signs, limits = _signs(objectives), read(constraints)
    targets = _checked(trials, jobs, sampler, targets)
    offered = _labelled(machines_of(machines))
    bench = FairBench(graph, samples, test_set, policy, seed, memory)
    _check_columns(bench, signs, limits)
    whole = space_of(space).for_graph(graph)
    bench.check(
        tuple(Point({name: value}) for name, axis in whole.axes.items() for value in axis), tuple(offered.values())
    )
    if len(offered) > 1:
        whole = Space({**whole.axes, MACHINE: tuple(offered)})
    rule = make_rule(bench.samples, early_stop, whole.size)
    name = _name(bench, whole, offered, signs, limits, sampler, early_stop)
    with _quiet(optuna), Store(store, bench.belongs) as kept:
        describe(kept, bench, command)
        rows = Trials(bench, whole, offered, signs, limits, rule, kept, name, jobs)

        def begin() -> list[dict[str, Any]]:
            return [whole.params(settings) for settings in seeds(whole, bench, samples, trials, targets)]

        with _said(rows, trials, store), Proposals(
            _storage(storage, store), name, ["maximize" if s > 0 else "minimize" for s in signs.values()],
            whole.distributions(), begin, sampler, seed, POPULATION, TOGETHER[sampler],
        ) as proposals:  # fmt: skip
            _play(proposals, rows, whole, trials, progress)
        front = rows.front()
        found = {"objectives": list(signs), "constraints": [limit.text for limit in limits], "trials": len(rows.rows)}
        kept.set_meta(search={**found, "front": [row["key"] for row in front]})
        meta = kept.meta
    told = tuple(signs), tuple(limit.text for limit in limits)
    return Found(rows.rows, meta, Rows(front, meta), *told, partial(python_line, policy=policy))


def _play(
    proposals: Proposals, rows: Trials, space: Space, trials: int, progress: Callable[[int, int | None], None] | None
) -> None:
    """Go on from what was told already, round after round."""
    everything = min(trials, proposals.size)

    def done(count: int) -> None:
        if progress is not None:
            progress(min(count, everything), everything)

    rows.measure_new([space.settings(params) for params in proposals.told()])
    done(len(rows.rows))
    while points := proposals.round(trials):
        before = len(rows.rows)
        measured = rows.measure(
            [space.settings(params) for _, params in points], lambda count, b=before: done(b + count)
        )
        for (trial, _), row in zip(points, measured, strict=True):
            proposals.tell(trial, rows.values(row), rows.violations(row))
    rows.measure_new([space.settings(params) for params in proposals.told()])  # what other processes found meanwhile


# ---------------------------------------------------------------------- what the user gave
def _need_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise BadInput("searches need Optuna, which is not installed: pip install 'fixqnn[search]'") from None


def _signs(objectives: Any) -> dict[str, int]:
    """Objectives by name: 1 where more is better."""
    from difflib import get_close_matches

    names = (objectives,) if isinstance(objectives, str) else tuple(objectives)
    if not names or len(set(names)) < len(names):
        raise BadInput(
            f"objectives are one or more different columns, such as ('accuracy', 'bit_operations'), not {names!r}"
        )
    steady = [name for name in NUMBERS if name not in UNSTEADY]
    for name in names:
        if name in UNSTEADY:
            raise BadInput(
                f"{name} are not the same twice, and no objective: a search with the same seed is to find the same"
            )
        if name not in NUMBERS:
            close = get_close_matches(str(name), steady, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(steady)}"
            raise BadInput(f"objective {name!r} is no column of numbers; {hint}")
    return {name: 1 if name in LARGER_IS_BETTER else -1 for name in names}


def _checked(trials: Any, jobs: Any, sampler: Any, targets: Any) -> tuple[float, ...]:
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise BadInput(f"trials is a number of points, 1 or more, not {trials!r}")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0:
        raise BadInput(f"jobs is a number of processes, or -1 for one per processor, not {jobs!r}")
    if sampler not in TOGETHER:
        raise BadInput(f"sampler must be {' or '.join(map(repr, TOGETHER))}, not {sampler!r}")
    try:
        decibels = tuple(map(float, targets))
    except (TypeError, ValueError):
        decibels = (math.nan,)
    if not all(map(math.isfinite, decibels)):
        raise BadInput(f"targets are numbers of dB, such as (12, 18, 24), or () for none, not {targets!r}")
    return decibels


def _check_columns(bench: Bench, signs: Mapping[str, int], limits: Iterable[Constraint]) -> None:
    """Refuse what the test set cannot tell."""
    for what, columns in (("objective", signs), *((f"constraint {limit.text!r}", limit.columns) for limit in limits)):
        for name in columns:
            if name in UNSTEADY:
                raise BadInput(
                    f"{what}: {name} are not the same twice; a search with the same seed is to find the same"
                )
            if name in NEED_LABELS and bench.labels is None:
                raise BadInput(f"{what}: {name} needs labels: give test_set=(x, labels), or use sqnr")
            if name == "changed" and len(bench.graph.outputs) > 1:
                raise BadInput(
                    f"{what}: predictions change where a network has one output; this one has several: use sqnr"
                )


def _labelled(machines: Iterable[Machine]) -> dict[str, Machine]:
    """Machines by label; those of one label are counted."""
    found: dict[str, Machine] = {}
    for machine in machines:
        label, count = machine.label, 1
        while label in found:
            count += 1
            label = f"{machine.label} #{count}"
        found[label] = machine
    return found


def _name(bench: Bench, space: Space, machines: Mapping[str, Machine], signs: Mapping[str, int],
          limits: Iterable[Constraint], sampler: str, error: float) -> str:  # fmt: skip
    """Name the study: the same for the same search, so that it goes on, and another for every other one."""
    records = [f"{label} {machine.source!r}" if machine.text is None else label for label, machine in machines.items()]
    told = [
        sorted(bench.belongs.items()), list(space.axes.items()), records, list(signs), [limit.text for limit in limits],
        sampler, bench.seed, bench.policy, error, POPULATION, TOGETHER[sampler],
    ]  # fmt: skip
    return f"fixqnn-{sha256(repr(told).encode()).hexdigest()[:24]}"


def _storage(storage: Any, store: str | Path | None) -> Any:
    """By default the journal lies beside the store."""
    if storage is None and store is not None:
        return Path(store).with_suffix(".search.jsonl")
    return storage


@contextmanager
def _said(rows: Trials, trials: int, store: str | Path | None) -> Iterator[None]:
    """Say, after Ctrl-C, how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        where = "in memory, and gone" if store is None else f"in {store}; the same call goes on from there"
        raise KeyboardInterrupt(f"stopped after {rows.settled} of {trials} points: their rows are {where}") from None


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna says every new study; progress is said by ours."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
