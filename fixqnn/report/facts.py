"""What a run shows, as plain rows: per layer, per register, per machine; and what one would need to repeat it."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from fixqnn import __version__
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph, Node
from fixqnn.metrics import accuracy, paired_test, predictions_changed
from fixqnn.ops.op import Step
from fixqnn.program import Program
from fixqnn.trace import Trace

BATCH_NUMBERS = 1 << 23  # real numbers that one pass of the float graph may hold
PACKAGES = ("numpy", "numba", "torch", "scikit-learn")


def brief(form: Format | None) -> str:
    """Write a format in one word: sign, width, then fraction bits, or the step and zero point.

    >>> from fixqnn.format import affine, fixed
    >>> brief(fixed(8, 6)), brief(fixed(8, 7, signed=False)), brief(affine(8, 0.0123, -5))
    ('s8/6', 'u8/7', 's8·0.0123-5')
    """
    if form is None:
        return ""
    head = f"{'s' if form.signed else 'u'}{form.bits}"
    if form.frac is not None:
        return f"{head}/{form.frac}"
    scales = [float(s) for s in form.scales]
    step = f"{min(scales):.3g}" + (f"…{max(scales):.3g}" if max(scales) > min(scales) else "")
    zeros = {float(z) for z in form.zero_points}
    return f"{head}·{step}" + ("" if zeros == {0.0} else f"{zeros.pop():+g}" if len(zeros) == 1 else "±…")


@dataclass
class Deviation:
    """How far the codes of one value are from the float network: sums that grow batch by batch."""

    signal: float = 0.0
    noise: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    beyond: int = 0
    count: int = 0

    def add(self, reference: np.ndarray, found: np.ndarray, form: Format) -> None:
        """Take in one batch of real numbers and what the codes stand for."""
        if not reference.size:
            return
        self.signal += float(np.square(reference).sum())
        self.noise += float(np.square(reference - found).sum())
        self.low, self.high = min(self.low, float(reference.min())), max(self.high, float(reference.max()))
        half = float(max(form.scales)) / 2  # what rounds into the range is not beyond it
        self.beyond += int(np.count_nonzero((reference > form.real_high + half) | (reference < form.real_low - half)))
        self.count += reference.size

    @property
    def decibels(self) -> float:
        """Signal to noise: 10·log10(Σ reference² / Σ (reference − found)²), as `fixqnn.sqnr` of all batches together."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(frozen=True)
class Comparison:
    """Deviation of every value of one run, by name, against the float network."""

    trace: Trace
    deviations: dict[str, Deviation] = field(default_factory=dict)

    def at_outputs(self) -> float | None:
        """Decibels at the network's output, of several at the worst; None where nothing was compared."""
        found = [self.deviations[name].decibels for name in self.trace.program.outputs if name in self.deviations]
        return min(found, default=None)


def references(graph: Graph, program: Program) -> dict[str, tuple[str, float, float]]:
    """Say what each value of a program is to be compared with: a value of the float graph, and bounds to clip it to.

    A value whose format leaves out what the relu after it would cut off has done that relu already: its float
    counterpart is cut off in the same way.
    """
    found = {}
    for name in [v.name for v in program.inputs] + [step.output for step in program.steps]:
        if name not in graph.values:
            continue
        low, high = -math.inf, math.inf
        readers = graph.readers(name)
        if len(readers) == 1 and readers[0].op.name == "clamp" and name not in graph.outputs:
            clamp, form = readers[0].attributes, program.formats[name]
            if clamp.get("low") is not None and form.real_low >= clamp["low"]:
                low = clamp["low"]
            if clamp.get("high") is not None and form.real_high <= clamp["high"]:
                high = clamp["high"]
        found[name] = (name, low, high)
    return found


def batches(graph: Graph, samples: int) -> Iterator[slice]:
    """Cut a batch so that all values of one part fit in memory."""
    each = sum(math.prod(v.shape[1:]) for v in graph.values.values() if v.shape and v.shape[0] is None)
    size = max(1, BATCH_NUMBERS // max(1, each))
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def compare_with_float(
    graph: Graph,
    traces: Mapping[str, Trace],
    inputs: Mapping[str, np.ndarray],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Comparison]:
    """Compare the codes of several runs, value by value, with the same network in float64.

    Parameters
    ----------
    graph : Graph
        The network in real numbers.
    traces : mapping of str to Trace
        Runs of programs made from it, on these inputs; values that a trace does not hold are passed over.
    inputs : mapping of str to ndarray
        Real inputs by name, batch first.
    progress : callable, optional
        ``progress(done, all)`` in samples.

    Returns
    -------
    dict of str to Comparison
        One per trace, under the same name.
    """
    found = {name: Comparison(trace) for name, trace in traces.items()}
    samples = len(next(iter(inputs.values())))
    pairs = {name: references(graph, trace.program) for name, trace in traces.items()}
    for part in batches(graph, samples):
        reals = graph.evaluate({name: x[part] for name, x in inputs.items()}, watch="all")
        for name, trace in traces.items():
            for value, (source, low, high) in pairs[name].items():
                if value not in trace or source not in reals:
                    continue
                tensor, real = trace[value], reals[source]
                if low > -math.inf or high < math.inf:
                    real = np.clip(real, low, high)
                deviation = found[name].deviations.setdefault(value, Deviation())
                deviation.add(real, tensor.format.decode(tensor.codes[part]), tensor.format)
        if progress is not None:
            progress(part.stop, samples)
    return found


def operation(step: Step | Node) -> str:
    """Name of what a step computes: a lookup is called by its function."""
    return step.attributes.get("function") or step.op.name


def formats_of(step: Step) -> str:
    """Write the formats of a step's inputs and output on one line."""
    return f"{', '.join(brief(step.formats[name]) for name in step.inputs)} → {brief(step.out_format)}"


def layer_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per step: formats, kernel path, distance from float, ranges, events."""
    rows = []
    for step in comparison.trace.program.steps:
        deviation = comparison.deviations.get(step.output)
        events = comparison.trace.events.get(step.name, {})
        form = step.out_format
        rows.append({
            "layer": step.name,
            "op": operation(step),
            "formats": formats_of(step),
            "path": step.path,
            "sqnr": None if deviation is None else deviation.decibels,
            "low": None if deviation is None else deviation.low,
            "high": None if deviation is None else deviation.high,
            "representable_low": float(form.real_low),
            "representable_high": float(form.real_high),
            "beyond": None if deviation is None else deviation.beyond,
            "events": sum(e.count for name, e in events.items() if name != "output"),
            "clips": events["output"].count if "output" in events else 0,
        })  # fmt: skip
    return rows


def register_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row per register that acted: how often, on which side, in how many channels, and the first number."""
    rows = []
    for step, registers in trace.events.items():
        for name, e in registers.items():
            if not e.count:
                continue
            first = e.first
            place = (
                None
                if first is None
                else (
                    f"sample {first.sample}, channel {first.channel}"
                    + (f", at {', '.join(map(str, first.position))}" if first.position else "")
                    + (f", term {first.index}" if first.index >= 0 else "")
                )
            )
            rows.append({
                "layer": step,
                "register": name,
                "record": e.record,
                "events": e.count,
                "below": int(e.below.sum()),
                "above": int(e.above.sum()),
                "channels": int(np.count_nonzero(e.per_channel)),
                "of_channels": len(e.below),
                "first": place,
                "value": None if first is None else first.value,
            })  # fmt: skip
    return rows


def machine_row(
    name: str,
    comparison: Comparison | None,
    reference: np.ndarray | None,
    labels: np.ndarray | None = None,
    seconds: float | None = None,
    torch_seconds: float | None = None,
) -> dict[str, Any]:
    """Sum one machine up in one row.

    Parameters
    ----------
    name : str
        What the table calls it.
    comparison : Comparison or None
        Of its run with float64; None for the float network itself.
    reference : ndarray or None
        The float network's output, classes along axis 1, where there is one.
    labels : ndarray, optional
        True labels; without them nothing is said of accuracy.
    seconds, torch_seconds : float, optional
        Time for all samples: this machine's, and that of torch's float network.
    """
    outputs, row = reference, {"machine": name}
    if comparison is not None:
        trace = comparison.trace
        row["sqnr"] = comparison.at_outputs()
        row["events"], row["clips"] = trace.total_events(), trace.total_events(output=True)
        outputs = trace.output.real() if len(trace.program.outputs) == 1 else None
        if reference is not None and outputs is not None and outputs.ndim == 2:
            row["changed"] = predictions_changed(reference, outputs)
    if labels is not None:
        if outputs is None:
            raise BadInput("labels need a network with one output")
        found = accuracy(outputs, labels)
        row.update(accuracy=found.value, accuracy_low=found.low, accuracy_high=found.high)
        row.update(right=found.right, total=found.total)
        if comparison is not None and reference is not None:
            right = ((scores.argmax(1) == labels).ravel() for scores in (reference, outputs))
            row["p"] = paired_test(*right)
    if seconds is not None and outputs is not None:
        row["seconds"], row["per_second"] = seconds, round(len(outputs) / seconds)
        if torch_seconds is not None:
            row["times_torch"] = seconds / torch_seconds
    return row


def macs(graph: Graph, node: Node) -> int:
    """Multiplications of one sample in a sum of products; 0 for every other operation.

    A convolution is counted at every output, padding included.
    """
    shapes = [graph.values[name].shape for name in (*node.inputs, node.output)]
    out = math.prod(shapes[-1][1:])
    match node.op.name:
        case "linear":
            return out * shapes[0][-1]
        case "conv":
            return out * math.prod(shapes[1][1:])
        case "conv_transpose":
            return math.prod(shapes[0][1:]) * math.prod(shapes[1][1:])
        case "matmul":
            return out * shapes[0][-1]
    return 0


def parameters(graph: Graph, node: Node) -> int:
    """Constants that a node reads, counted."""
    return sum(math.prod(graph.values[name].shape) for name in node.inputs if name in graph.constants)


def stamps(command: str = "", settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What one would need to repeat a run: versions, machine, command, settings."""
    found = {"fixqnn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = f"{_processor()}, {platform.system()} {platform.machine()}"
    if command:
        found["command"] = command
    return {**found, **{str(key): str(value) for key, value in (settings or {}).items()}}


def _processor() -> str:
    if sys.platform.startswith("linux"):
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        except OSError:
            names = []
        if names:
            return names[0]
    return platform.processor() or "unknown processor"
