"""One point after another on one network and one test set; what points share is done once."""

from __future__ import annotations

import itertools
import json
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.calibration.choose import choose
from fixqnn.calibration.observe import calibrate
from fixqnn.calibration.policy import DEFAULT, FOR_CONSTANTS, Policy
from fixqnn.errors import BadInput, FixqnnError, FormatError
from fixqnn.graph import Graph
from fixqnn.metrics import accuracy, paired_test, sqnr
from fixqnn.program import Program, lower
from fixqnn.provenance import PACKAGES, stamps
from fixqnn.simulate import check_widths, encode_input
from fixqnn.sweeps import identity
from fixqnn.sweeps.points import POLICY, Point, split
from fixqnn.sweeps.prefix import Prefixes, Walk, identify
from fixqnn.sweeps.sizes import sizes
from fixqnn.sweeps.test_set import bound, float_outputs, samples_per_part
from fixqnn.sweeps.variants import Machine, changed_layers, machines_of

MEMORY = 3 << 26  # bytes of codes kept for points to come, in every process
FRESH = ("prefixes", "_graphs", "_machines", "_sources")  # not sent along to other processes
GRAPHS = 64  # quantized graphs kept: they share their constants


@dataclass(frozen=True)
class Task:
    """A point on a machine: all that a process needs to compute its row.

    Attributes
    ----------
    key : str
        Of the row.
    point : Point
        Settings.
    text : str or None
        What the user called the machine, if by a text.
    machine : Accelerator or None
        None where it cannot exist.
    reason : str
        Why it cannot.
    subset : int or None
        Use only so many of the first samples.
    """

    key: str
    point: Point
    text: str | None
    machine: Accelerator | None
    reason: str = ""
    subset: int | None = None


class Bench:
    """A network, its calibration and its test set, ready to compute rows.

    Parameters
    ----------
    graph : Graph
        In real numbers; formats that it has stay.
    samples : array, or as `calibrate` takes them
        Typical inputs, which set the ranges; they pass once.
    test_set : tuple or array
        ``(x, labels)``, or x alone: then nothing is said of accuracy. x is an array, or a tuple or mapping of arrays where the
        graph has several inputs. The float network runs on it once, in float64.
    policy : Policy
        What holds where points say nothing.
    seed : int
        Of stochastic rounding.
    memory : int
        Bytes of codes to keep for other points; 0: none, and every step of every point is computed.

    Raises
    ------
    BadInput
        For unusable samples, or a test set that does not fit the graph, or labels that do not fit the test set.

    Examples
    --------
    >>> from fixqnn.graph import Node, Value
    >>> from fixqnn.ops import OPS
    >>> graph = Graph((Value("x", (None, 2)),), ("fc",), (Node("fc", OPS["linear"], ("x", "w")),), {"w": np.eye(2)})
    >>> x = np.array([[0.9, 0.1], [0.2, 0.7]])
    >>> row = Bench(graph, x, (x, [0, 1])).row({"weights": 4, "activations": 4}, "ideal")
    >>> row["status"], row["accuracy"], row["weight_bits"], row["bit_operations"]
    ('ok', 1.0, 16, 64)
    """

    def __init__(
        self, graph: Graph, samples: Any, test_set: Any, policy: Policy = DEFAULT, seed: int = 0, memory: int = MEMORY
    ) -> None:
        if not isinstance(graph, Graph):
            raise BadInput(f"a sweep takes a Graph, not {type(graph).__name__}; from_torch(module, example) makes one")
        if not isinstance(policy, Policy):
            raise BadInput(f"policy must be a Policy, as in Policy(weights=8, activations=8), not {policy!r}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise BadInput(f"seed must be a whole number, not {seed!r}")
        if isinstance(memory, bool) or not isinstance(memory, int | np.integer) or memory < 0:
            raise BadInput(f"memory is a number of bytes, 0 or more, not {memory!r}")
        self.graph, self.policy, self.seed, self.memory = graph, policy, int(seed), int(memory)
        self.inputs, self.labels = bound(graph, test_set)
        self.samples = len(next(iter(self.inputs.values())))
        self.calibration = calibrate(graph, samples, policy)
        self.part = samples_per_part(graph)
        self._begin()

    def _begin(self) -> None:
        self.prefixes = Prefixes(self.memory)
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._machines: dict[Any, tuple[Accelerator | None, str, str]] = {}
        self._sources: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in FRESH}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @cached_property
    def reference(self) -> dict[str, np.ndarray]:
        """What the float network hands out on the test set, by name."""
        return float_outputs(self.graph, self.reals())

    def reals(self) -> dict[str, np.ndarray]:
        """The test set in real numbers; codes count as their reals."""
        formats = self.graph.formats
        return {n: formats[n].decode(x) if x.dtype.kind in "iu" else x for n, x in self.inputs.items()}

    @property
    def belongs(self) -> dict[str, str]:
        """What rows depend on beside their settings, as a store keeps it."""
        labels = "none" if self.labels is None else identity.of_arrays({"labels": self.labels})
        return {
            "fixqnn": stamps()["fixqnn"], "graph": identity.of_graph(self.graph),
            "samples": identity.of_calibration(self.calibration), "test_set": identity.of_arrays(self.inputs),
            "labels": labels,
        }  # fmt: skip

    @property
    def float_accuracy(self) -> float | None:
        """Share of right answers of the float network on the test set."""
        return None if self.labels is None else accuracy(self.reference[self.graph.outputs[0]], self.labels).value

    # ------------------------------------------------------------------ what to compute
    def check(self, points: tuple[Point, ...], machines: tuple[Machine, ...]) -> None:
        """Refuse settings that nothing knows, before anything runs.

        Raises
        ------
        BadInput
            For a name that a machine does not know, a pattern that matches nothing in the graph, or a setting of formats that
            the graph has already.
        """
        for machine in machines:
            machine.check(dict.fromkeys(name for point in points for name in point.machine_settings))
        names = dict.fromkeys(name for point in points for name in point.settings)
        Policy(overrides={pattern: {} for name in names if (pattern := split(name)[1])}).check(self.graph)
        self._check_free(names)
        layers = {json.dumps(p.layer_machine_settings, default=str): p.layer_machine_settings for p in points}
        for settings, machine in itertools.product(filter(None, layers.values()), machines):
            with suppress(FormatError):  # of a register that cannot exist, the row will say so
                changed_layers(machine.make({}), self.graph, settings)
        for point in points:
            point.policy(self.policy)

    def _check_free(self, names: Iterable[str]) -> None:
        """Refuse settings of formats where there is nothing left to choose."""
        graph = self.graph
        weights = any(name not in graph.formats for name in graph.constants)
        values = any(v.name not in graph.formats for v in graph.values.values() if v.name not in graph.constants)
        for name in names:
            setting, pattern = split(name)
            of_weights = setting in FOR_CONSTANTS
            if (setting in POLICY or pattern) and not (weights if of_weights else values):
                what = "weights" if of_weights else "values"
                raise BadInput(
                    f"{name} would change nothing: all {what} of the graph have formats already; sweep the graph as it was "
                    "before quantize"
                )

    def task(self, point: Point | Mapping[str, Any], machine: Any, subset: int | None = None) -> Task:
        """Settle what a point on a machine is: its machine, if it can exist, and the key of its row."""
        point = point if isinstance(point, Point) else Point(point)
        (machine,) = machines_of(machine)
        if subset is not None and (isinstance(subset, bool) or not 1 <= subset <= self.samples):
            raise BadInput(f"subset must lie between 1 and the {self.samples} samples of the test set, not {subset!r}")
        subset = None if subset == self.samples else subset
        made, reason, name = self._made(point, machine)
        key = identity.of_point(point, self.policy, name, self.seed, subset)
        return Task(key, point, machine.text, made, reason, subset)

    def _made(self, point: Point, machine: Machine) -> tuple[Accelerator | None, str, str]:
        """Make a machine with a point's settings, once; if it cannot exist, say why; and what keys call it."""
        settings = repr((point.machine_settings, point.layer_machine_settings))
        known = self._machines.get((id(machine.source), machine.text, settings))
        if known is None:
            try:
                made = machine.make(point.machine_settings)
                made = changed_layers(made, self.graph, point.layer_machine_settings)
                known = made, "", identity.of_machine(made)
            except FixqnnError as problem:
                known = None, _said(problem), f"impossible: {machine.label}"
            self._sources.append(machine.source)  # kept, so that no other gets its id
            self._machines[id(machine.source), machine.text, settings] = known
        return known

    def row(self, point: Point | Mapping[str, Any], machine: Any, subset: int | None = None) -> dict[str, Any]:
        """Compute one row; see `fixqnn.sweeps.rows.COLUMNS`.

        Parameters
        ----------
        point : Point or mapping
            Settings.
        machine : Accelerator, callable or str
            One machine.
        subset : int, optional
            Use only so many of the first test samples.

        Returns
        -------
        dict
            With status ``"impossible"`` and the reason where there is no such program, ``"failed"`` after an error that is
            nobody's intention.
        """
        return self.compute(self.task(point, machine, subset))

    def program(self, point: Point | Mapping[str, Any], machine: Any) -> Program:
        """Lower a point onto a machine: the program that its row speaks of, to run it alone.

        Raises
        ------
        FixqnnError
            For an impossible point: the reason.
        """
        point = point if isinstance(point, Point) else Point(point)
        (machine,) = machines_of(machine)
        made = changed_layers(machine.make(point.machine_settings), self.graph, point.layer_machine_settings)
        return lower(self.quantized(point), made)

    def quantized(self, point: Point) -> Graph:
        """Choose formats, once per policy: machines with other registers have the same."""
        policy = point.policy(self.policy)
        name = repr(policy)
        if name not in self._graphs:
            self._graphs[name] = choose(self.graph, self.calibration, policy)
            if len(self._graphs) > GRAPHS:
                self._graphs.popitem(last=False)
        return self._graphs[name]

    # ------------------------------------------------------------------ computing
    def compute(self, task: Task) -> dict[str, Any]:
        """Compute the row of a task; never raises for what the task says."""
        started = perf_counter()
        row = self._head(task)
        try:
            if task.machine is None:
                row.update(status="impossible", reason=task.reason)
            else:
                row.update(self._measured(lower(self.quantized(task.point), task.machine), task.subset or self.samples))
        except FixqnnError as problem:
            row.update(status="impossible", reason=_said(problem))
        except Exception as problem:  # whatever it is, the sweep goes on
            frame = traceback.extract_tb(problem.__traceback__)[-1]
            row.update(status="failed", reason=f"{_said(problem)} ({Path(frame.filename).name}, line {frame.lineno})")
        return {**row, **_stamp(started)}

    def lost(self, task: Task, reason: str) -> dict[str, Any]:
        """Make the row of a task that came to no end."""
        return {**self._head(task), "status": "failed", "reason": reason, **_stamp(perf_counter())}

    def _head(self, task: Task) -> dict[str, Any]:
        machine = task.machine.name if task.machine else task.text
        return {
            "key": task.key, "settings": dict(task.point.settings), "machine": machine, "machine_text": task.text,
            "seed": self.seed, "status": "ok", "reason": "",
        }  # fmt: skip

    def outputs(self, program: Program, samples: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Run a program on the test set, reusing what is known.

        Parameters
        ----------
        program : Program
            Made from this bench's graph.
        samples : int, optional
            How many of the first samples; by default all.

        Returns
        -------
        tuple
            Output codes by name, and how often every register acted: {step: {register: count}}.
        """
        check_widths(program)
        samples = samples or self.samples
        identities = identify(program, self.seed)
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in program.outputs}
        events: dict[str, dict[str, int]] = {step.name: {} for step in program.steps}
        self.prefixes.next_point()
        size = self.part
        for start in range(0, samples, size):
            part = start, min(start + size, samples)

            def encode(value: Any, part: tuple[int, int] = part) -> np.ndarray:
                return encode_input(value, self.inputs[value.name][slice(*part)])[0]

            walk = Walk(program, identities, self.prefixes, encode, part, self.seed)
            for step, registers in walk.run().items():
                for name, count in registers.items():
                    events[step][name] = events[step].get(name, 0) + count
            for name in pieces:
                pieces[name].append(walk.values[name])
        return {name: np.concatenate(parts) for name, parts in pieces.items()}, events

    def _measured(self, program: Program, samples: int) -> dict[str, Any]:
        """Run a program, and say how good and how dear it is."""
        codes, events = self.outputs(program, samples)
        reals = {name: program.formats[name].decode(c) for name, c in codes.items()}
        registers = [(name, n) for counts in events.values() for name, n in counts.items()]
        row: dict[str, Any] = {
            "sqnr": min(sqnr(self.reference[name][:samples], real) for name, real in reals.items()),
            "events": sum(n for name, n in registers if name != "output"),
            "clips": sum(n for name, n in registers if name == "output"),
            "layer_events": {s: {k: n for k, n in c.items() if n} for s, c in events.items() if any(c.values())},
            "fingerprint": program.fingerprint, "codes": _hash(codes), "samples_used": samples, **sizes(program),
        }  # fmt: skip
        if len(reals) == 1:
            row.update(self._predictions(next(iter(reals.values())), samples))
        return row

    def _predictions(self, outputs: np.ndarray, samples: int) -> dict[str, Any]:
        """Compare what is predicted with the float network and with labels."""
        reference = self.reference[self.graph.outputs[0]][:samples]
        if outputs.ndim < 2:
            return {}
        ours, floats = outputs.argmax(1), reference.argmax(1)
        row: dict[str, Any] = {"changed": int(np.count_nonzero(ours != floats))}
        if self.labels is not None:
            labels = self.labels[:samples]
            found = accuracy(ours, labels)
            row.update(accuracy=found.value, accuracy_low=found.low, accuracy_high=found.high)
            row.update(right=found.right, total=found.total, float_accuracy=accuracy(floats, labels).value)
            row["p"] = paired_test((floats == labels).ravel(), (ours == labels).ravel())
        return row


def _stamp(started: float) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"seconds": perf_counter() - started, "versions": _versions(), "created": now}


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = stamps()
    return {name: found[name] for name in ("fixqnn", "python", *PACKAGES) if name in found}


def _hash(codes: Mapping[str, np.ndarray]) -> str:
    digest = sha256()
    for name, array in codes.items():
        wide = array.astype(object if array.dtype.hasobject else np.int64)
        digest.update(name.encode() + (str(wide.tolist()).encode() if wide.dtype.hasobject else wide.tobytes()))
    return digest.hexdigest()


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"
