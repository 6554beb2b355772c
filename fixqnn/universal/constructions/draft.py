"""A network drawn neuron by neuron: signals that are zero or one, carried by activations, and neurons that join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

    def add(self, level: int, coefficients: Mapping[int, int], offset: int) -> int:
        """Add a neuron and give its number; one that is there already is found again."""
        while len(self.levels) < level:
            self.levels.append([])
        kept = {source: int(c) for source, c in coefficients.items() if c}
        key = (level, tuple(sorted(kept.items())), int(offset))
        if key not in self._known:
            self._known[key] = len(self.levels[level - 1])
            self.levels[level - 1].append((kept, int(offset)))
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
        swing = max(on.low - off.high, 1)
        for extra in range(2 * self.setting.s + 2):
            gains = [-(-(swing + extra) // (abs(gate.amplitude) * unit)) * unit for gate in gates]
            made = self._joined(gates, gains, on.low, on.high, off.high)
            if made is not None:
                return made
        return None

    def _joined(
        self, gates: Sequence[Gate], gains: Sequence[int], low: int, high: int, most: int
    ) -> tuple[dict[int, int], int, int] | None:
        """With given gains: the offset of least size such that the sum of all ones is in [low, high], others at most `most`."""
        coefficients: dict[int, int] = {}
        heights, base = [], 0
        for gate, gain in zip(gates, gains, strict=True):
            sign = 1 if gate.amplitude > 0 else -1
            heights.append(gain * abs(gate.amplitude))
            base += gate.constant * heights[-1]
            for signal, direction in gate.terms:
                c = gain * sign * direction
                coefficients[signal.neuron] = coefficients.get(signal.neuron, 0) + c
                base -= c * signal.off
        # the sum of all ones, less the offset, is Σ heights; `base` is what the neurons do not give of it
        top = sum(heights) - base
        bound = min(high, most + min(heights))
        offset = offset_between(low - top, bound - top, self.setting.bias_unit)
        if offset is None:
            return None
        weights = sum(self.copies(c) for c in coefficients.values())
        return coefficients, offset, weights

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
