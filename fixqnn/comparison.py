"""How far the codes of a run are from the float network, value by value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fixqnn.format import Format
from fixqnn.graph import Graph
from fixqnn.program import Program
from fixqnn.trace import Trace

BATCH_NUMBERS = 1 << 23  # real numbers that one pass of the float graph may hold


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
