"""A network drawn neuron by neuron: signals that are zero or one, carried by activations, and neurons that join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from fixqnn.universal.constructions.layers import Layer
from fixqnn.universal.constructions.runs import Run, offset_between, runs_of
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["Draft", "Gate", "Signal"]


@dataclass(frozen=True)
class Signal:
    """A neuron with two values: `off` where the signal is 0, `on` where it is 1."""

    level: int
    neuron: int
    off: int
    on: int

    @property
    def amplitude(self) -> int:
        """How much the neuron rises when the signal comes on."""
        return self.on - self.off


@dataclass(frozen=True)
class Gate:
    """constant + Σ ± signal, a sum that is zero or one; all its signals rise by the same amplitude."""

    terms: tuple[tuple[Signal, int], ...]
    constant: int = 0

    @property
    def amplitude(self) -> int:
        """Of its signals."""
        return self.terms[0][0].amplitude

    @property
    def resting(self) -> int:
        """What its neurons show together while all signals are 0, counted upward where signals rise."""
        shown = sum(direction * signal.off for signal, direction in self.terms)
        return shown if self.amplitude > 0 else -shown


@dataclass
class Draft:
    """Neurons per level, from 1; each a mapping of sources to coefficients, and an offset. Equal neurons are made once."""

    setting: Setting
    table: Sequence[int]
    inputs: int
    levels: list[list[tuple[Mapping[int, int], int]]] = field(default_factory=list)
    _known: dict[tuple[int, tuple[tuple[int, int], ...], int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runs: tuple[Run, ...] = runs_of(self.setting, self.table)
        self.largest = max(self.setting.weight_codes)
        # Without a zero among the weights a neuron that one target needs must cancel for the others: even multiples only.
        self.unit = self.setting.weight_unit * (1 if self.setting.has_zero else 2)
        # Weights and biases of the neurons added from here on, each counted once, however often it is copied.
        self.spent = 0

    def copy(self) -> Draft:
        """The same neurons, to go on from."""
        return Draft(self.setting, self.table, self.inputs, [list(level) for level in self.levels], dict(self._known))

    def rises(self) -> list[Run]:
        """Runs in which a neuron differs from what the run of −M shows, one per value, nearest to that run first."""
        found: dict[int, Run] = {}
        for run in self.runs[1:]:
            if run.value != self.runs[0].value:
                found.setdefault(run.value, run)
        return list(found.values())

    def cost(self, level: int, gates: Sequence[Gate]) -> float:
        """Parameters of all neurons up to a level that these gates need, read with single weights; infinite if impossible."""
        reading = self.copy()
        reading.add(level + 1, {signal.neuron: self.unit for gate in gates for signal, _ in gate.terms}, 0)
        sketch = reading.sketch("")
        return sketch.size.parameters - sketch.size.widths[-2] if sketch.realisable else inf

    def add(self, level: int, coefficients: Mapping[int, int], offset: int) -> int:
        """Add a neuron and give its number; one that is there already is found again."""
        while len(self.levels) < level:
            self.levels.append([])
        kept = {source: int(c) for source, c in coefficients.items() if c}
        key = (level, tuple(sorted(kept.items())), int(offset))
        if key not in self._known:
            self._known[key] = len(self.levels[level - 1])
            self.levels[level - 1].append((kept, int(offset)))
            self.spent += sum(self.copies(c) for c in kept.values()) + (offset != 0)
        return self._known[key]

    def copies(self, coefficient: int) -> int:
        """Weights that a coefficient takes."""
        return -(-abs(coefficient) // self.largest)

    def conjunction(self, gates: Sequence[Gate], on: Run) -> tuple[dict[int, int], int, int] | None:
        """Coefficients and offset of a neuron in run `on` where all gates are 1 and in the run of −M elsewhere.

        Gains are the smallest whose sums keep both runs apart. Returns coefficients, offset and the number of weights; None
        where no offset of the bias's unit fits.
        """
        off, unit = self.runs[0], self.unit
        swing, rises = max(on.low - off.high, 1), [abs(gate.amplitude) for gate in gates]
        # what a gate's neurons add while it is 0, per unit of gain: a constant of the gate is theirs or the offset's
        still = [gate.resting - gate.constant * rise for gate, rise in zip(gates, rises, strict=True)]
        for extra in range(2 * self.setting.s + 2):
            gains = [-(-(swing + extra) // (rise * unit)) * unit for rise in rises]
            heights = [gain * rise for gain, rise in zip(gains, rises, strict=True)]
            top = sum(heights) + sum(gain * rest for gain, rest in zip(gains, still, strict=True))
            bound = min(on.high, off.high + min(heights))
            offset = offset_between(on.low - top, bound - top, self.setting.bias_unit)
            if offset is not None:
                coefficients: dict[int, int] = {}
                for gate, gain in zip(gates, gains, strict=True):
                    c = gain if gate.amplitude > 0 else -gain
                    for signal, direction in gate.terms:
                        coefficients[signal.neuron] = coefficients.get(signal.neuron, 0) + c * direction
                return coefficients, offset, sum(self.copies(c) for c in coefficients.values())
        return None

    def join(self, level: int, gates: Sequence[Gate], on: Run) -> Signal | None:
        """Add the conjunction as a neuron at a level."""
        made = self.conjunction(gates, on)
        if made is None:
            return None
        return Signal(level, self.add(level, made[0], made[1]), self.runs[0].value, on.value)

    def carry(self, level: int, gates: Sequence[Gate]) -> Signal | None:
        """Add the conjunction with the fewest weights, of these with the largest amplitude."""
        best = None
        for run in self.runs[1:]:
            if run.value == self.runs[0].value:
                continue
            made = self.conjunction(gates, run)
            if made is not None:
                merit = (made[2] + (made[1] != 0), -abs(run.value - self.runs[0].value))
                if best is None or merit < best[0]:
                    best = (merit, made, run)
        if best is None:
            return None
        _, (coefficients, offset, _), run = best
        return Signal(level, self.add(level, coefficients, offset), self.runs[0].value, run.value)

    def sketch(self, name: str) -> Sketch:
        """All levels as arrays, without neurons that nothing reads."""
        kept: list[list[int]] = [list(range(len(self.levels[-1])))]
        for neurons in reversed(self.levels[1:]):
            kept.append(sorted({source for i in kept[-1] for source in neurons[i][0]}))
        layers, sources = [], np.arange(self.inputs)
        for neurons, used in zip(self.levels, reversed(kept), strict=True):
            place = np.full(int(sources.max(initial=0)) + 1, -1)
            place[sources] = np.arange(len(sources))
            weights = np.zeros((len(used), len(sources)), np.int64)
            for i, number in enumerate(used):
                coefficients = neurons[number][0]
                if coefficients:
                    weights[i, place[list(coefficients)]] = list(coefficients.values())
            layers.append(Layer(weights, np.array([neurons[number][1] for number in used], np.int64)))
            sources = np.array(used, np.int64)
        return Sketch(self.setting, tuple(self.table), tuple(layers), name)
