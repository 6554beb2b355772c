"""The table itself as weights: nearly one parameter per entry (weights with a zero).

All inputs but one, the *prefix*, are turned into indicators e_x, one neuron per prefix. For every value y of the last
input a few neurons then read Σ_x W_{xy}·e_x, one weight per entry of the table that is not the row's most common one, and
a gate that keeps them at T(−M) unless the last input is y. The output adds these neurons up: only those of the right y
differ from T(−M), and they show the digits of f(x, y).

So a random table of N = n^d entries costs about N·(digits in use) + O(n^(d−1)) parameters. An entry can take 2M+1
values and so can a weight: no architecture does with fewer than N parameters for all tables. The construction is this
library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from fixqnn.universal.constructions.coordinate import Coordinate, encode, rows_of_one
from fixqnn.universal.constructions.digits import Digits, digit_systems
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.reduction import Reduced, occurrences
from fixqnn.universal.constructions.runs import FAR, Run
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["readout"]

TRIED = 3  # amplitudes of the prefix that are drawn in full
SPARE = 1.25  # what is drawn and not read in the end does not count, but is little
LARGE = 8192  # entries beyond which only the most promising way is drawn


def readout(setting: Setting, table: Sequence[int], reduced: Reduced, last: int, most: float = inf) -> Sketch | None:
    """Draw the network with input `last` as the one that selects; None where the setting does not allow it, or in vain.

    Parameters
    ----------
    setting : Setting
        Weights must have a zero.
    table : sequence of int
        The activation.
    reduced : Reduced
        The target; at least two inputs make a difference.
    last : int
        The input whose values select.
    most : float
        Parameters from which on a network is of no use: what takes more is not drawn to its end.
    """
    others = [axis for axis in reduced.axes if axis != last]
    if not setting.has_zero or not others:
        return None
    order = [*others, last]
    f = reduced.table.transpose([*order, *(a for a in range(reduced.table.ndim) if a not in order)])
    f = f.reshape([reduced.table.shape[a] for a in order])
    counts = occurrences(f)
    systems, amplitudes = digit_systems(setting, table, counts), _amplitudes(setting, table)
    if f.size > LARGE:
        systems, amplitudes = systems[:1], amplitudes[:1]
    best = None
    for base in _bases(setting, table, reduced, order, amplitudes, most - _least(f)):
        for digits in systems:
            sketch = _drawn(base, f, digits, most)
            if sketch is not None and sketch.realisable and (best is None or sketch.size.parameters < most):
                best, most = sketch, min(most, sketch.size.parameters)
    return best


def _least(f: np.ndarray) -> int:
    """Weights that read the table at least: one for each change along a prefix, or for each entry but a row's most common."""
    flat = f.reshape(-1, f.shape[-1])
    common = sum(int(np.unique(row, return_counts=True)[1].max()) for row in flat.T)
    return min(flat.size - common, int(np.count_nonzero(np.diff(flat, axis=0))))


@dataclass(frozen=True, eq=False)
class _Base:
    """What is read, at one level: indicators of all prefixes, or steps along the only one, and of the last input."""

    draft: Draft
    level: int
    prefixes: Sequence[Signal]
    steps: bool
    gates: Sequence[Signal]


def _bases(
    setting: Setting,
    table: Sequence[int],
    reduced: Reduced,
    order: Sequence[int],
    amplitudes: Sequence[Run],
    most: float,
) -> Iterator[_Base]:
    """Indicators of all amplitudes; none where these already take too much."""
    rows, draft = rows_of_one(setting, tuple(table)), Draft(setting, table, reduced.table.ndim)
    coordinates = [encode(draft, rows, reduced.direction(axis), reduced.labels[axis]) for axis in order]
    if None in coordinates or draft.cost(2, [gate for each in coordinates for gate in each.gates]) >= most:
        return
    for steps in (False, True):
        for on in amplitudes:
            begun = draft.copy()
            made = _stepped(begun, coordinates, on) if steps else _prefixes(begun, coordinates, on)
            if made is not None:
                yield _Base(begun, made[0], made[1], steps, made[2])


def _amplitudes(setting: Setting, table: Sequence[int]) -> list[Run]:
    """Runs that give the prefix's indicators different amplitudes: those nearest to one code per unit weight first."""
    runs = {abs(run.value - table[0]): run for run in reversed(Draft(setting, table, 1).rises())}
    near = sorted(runs, key=lambda rise: (abs(rise * setting.weight_unit - setting.s), rise))
    return [runs[rise] for rise in dict.fromkeys((*near[: TRIED - 1], max(runs)))] if runs else []


def _drawn(base: _Base, f: np.ndarray, digits: Digits, most: float) -> Sketch | None:
    """One network, neuron by neuron; None where some neuron cannot be made, or they become too many."""
    draft, table = base.draft.copy(), base.draft.table
    reader = Reader(draft, base.prefixes, base.steps)
    flat = f.reshape(-1, f.shape[-1])
    output: dict[int, int] = {}
    offset = digits.theta
    for j, w in enumerate(digits.weights):
        shown = {k: levels[j] for k, levels in digits.levels.items()}
        wanted = np.vectorize(shown.__getitem__, otypes=[np.int64])(flat)
        for y in range(f.shape[-1]):
            if not wanted[:, y].any():
                continue
            row = reader.row(wanted[:, y], base.gates[y])
            if row is None or draft.spent > SPARE * most:
                return None
            neuron = draft.add(base.level + 1, *row)
            output[neuron] = output.get(neuron, 0) + w
            offset -= w * table[0]
    draft.add(base.level + 2, output, offset)
    return draft.sketch("readout")


def _stepped(draft: Draft, coordinates: Sequence[Coordinate], on: Run) -> tuple[int, list[Signal], list[Signal]] | None:
    """For a prefix of one input: signals that its class is i or a later one; and indicators of the last input."""
    if len(coordinates) != 2 or coordinates[0].steps is None:
        return None
    prefixes = [draft.join(3, [gate], on) for gate in coordinates[0].steps]
    gates = [draft.carry(3, [gate]) for gate in coordinates[1].gates]
    return None if None in prefixes or None in gates else (3, prefixes, gates)


def _prefixes(
    draft: Draft, coordinates: Sequence[Coordinate], on: Run
) -> tuple[int, list[Signal], list[Signal]] | None:
    """Indicators of all prefixes, in C order of their classes, and of the last input, at the same level."""
    level, alone = 3, len(coordinates) == 2
    first = [draft.join(3, [gate], on) if alone else draft.carry(3, [gate]) for gate in coordinates[0].gates]
    rest = [[draft.carry(3, [gate]) for gate in coordinate.gates] for coordinate in coordinates[1:]]
    while len(rest) > 1:
        if None in first or any(None in signals for signals in rest):
            return None
        level, final = level + 1, len(rest) == 2
        pairs = [[Gate(((a, 1),)), Gate(((b, 1),))] for a in first for b in rest[0]]
        first = [draft.join(level, pair, on) if final else draft.carry(level, pair) for pair in pairs]
        rest = [[draft.carry(level, [Gate(((signal, 1),))]) for signal in signals] for signals in rest[1:]]
    return None if None in first or None in rest[0] else (level, first, rest[0])


class Reader:
    """Designs the neurons that read the prefix: which multiples of its signals, which gate, which offset.

    With y0 the sum of a neuron whose gate is open and whose multiples are all zero, a multiple m of a signal of amplitude E
    moves the sum to y0 + m·E, which must lie in a run that shows the wanted level. The cheapest y0 is taken.
    """

    def __init__(self, draft: Draft, prefixes: Sequence[Signal], steps: bool) -> None:
        self.draft, self.prefixes, self.steps = draft, prefixes, steps
        setting = draft.setting
        self.amplitude = prefixes[0].amplitude
        self.pitch = abs(self.amplitude) * setting.weight_unit
        self.reach = (2 * setting.largest + 2) * setting.s
        self.sums = np.arange(-self.reach, self.reach + 1)
        self._multiples: dict[int, np.ndarray] = {}

    def multiples(self, level: int) -> np.ndarray:
        """For every sum, the least multiple of the pitch that takes it to a run showing `level`; `FAR` where none does."""
        if level not in self._multiples:
            best = np.full(len(self.sums), FAR)
            for run in self.draft.runs:
                if run.value - self.draft.runs[0].value != level:
                    continue
                up = -(-(run.low - self.sums) // self.pitch)
                down = -(-(self.sums - run.high) // self.pitch)
                m = np.where(self.sums < run.low, up, np.where(self.sums > run.high, -down, 0))
                there = self.sums + m * self.pitch
                m = np.where((there >= run.low) & (there <= run.high), m, FAR)
                best = np.where(np.abs(m) < np.abs(best), m, best)
            self._multiples[level] = best
        return self._multiples[level]

    def row(self, wanted: np.ndarray, gate: Signal) -> tuple[dict[int, int], int] | None:
        """Coefficients and offset of a neuron that shows `wanted` levels while its gate is 1, and T(−M) while it is 0."""
        multiples, cost, top = self._walks(wanted) if self.steps else self._jumps(wanted)
        setting, draft = self.draft.setting, self.draft
        unit = setting.weight_unit
        closing = top - draft.runs[0].high  # what the gate must take away
        force = -(-np.maximum(closing, 1) // (abs(gate.amplitude) * unit)) * unit
        cost = cost + -(-force // draft.largest)
        limit = setting.bias_limit
        best, sign = None, unit if self.amplitude > 0 else -unit
        for i in np.argsort(cost, kind="stable")[:24]:
            if cost[i] >= FAR or (best is not None and cost[i] >= best[0]):
                break
            m = multiples(i)
            rest = int(self.sums[i]) - sign * self.prefixes[0].off * int(m.sum())
            for extra in range(4):
                c = int(force[i] + extra * unit) * (1 if gate.amplitude > 0 else -1)
                offset = rest - c * gate.on
                odd = offset % setting.bias_unit != 0 or (limit is not None and abs(offset) > limit)
                total = cost[i] + (offset != 0) + 2 * odd
                if best is None or total < best[0]:
                    best = (total, m, c, offset)
        if best is None:
            return None
        _, m, c, offset = best
        coefficients = {gate.neuron: c}
        for signal, times in zip(self.prefixes, m.tolist(), strict=True):
            coefficients[signal.neuron] = coefficients.get(signal.neuron, 0) + sign * times
        return coefficients, offset

    def _jumps(self, wanted: np.ndarray) -> tuple[Callable[[int], np.ndarray], np.ndarray, np.ndarray]:
        """Signals are indicators: every prefix has a multiple of its own."""
        levels, where, counts = np.unique(wanted, return_inverse=True, return_counts=True)
        table = np.stack([self.multiples(int(level)) for level in levels])
        open_ = (np.abs(table) < FAR).all(axis=0)
        cost = np.where(open_, (counts[:, None] * self._weights(table)).sum(axis=0), FAR)
        top = self.sums + np.where(open_, np.maximum(table, 0), 0).max(axis=0) * self.pitch
        return lambda i: table[where.reshape(-1), i], cost, top

    def _walks(self, wanted: np.ndarray) -> tuple[Callable[[int], np.ndarray], np.ndarray, np.ndarray]:
        """Signals are steps: sums walk from class to class, and move only where they must."""
        here = np.where(self.multiples(int(wanted[0])) == 0, self.sums, FAR)
        cost = np.where(here < FAR, 0, FAR)
        top, moves = here.copy(), []
        for level in wanted[1:].tolist():
            inside = np.abs(here) <= self.reach
            m = np.where(inside, self.multiples(level)[np.where(inside, here + self.reach, 0)], FAR)
            cost = np.where(np.abs(m) < FAR, cost + self._weights(m), FAR)
            here = np.where(np.abs(m) < FAR, here + m * self.pitch, FAR)
            top = np.maximum(top, here)
            moves.append(m)
        cost = np.where(cost < FAR, cost, FAR)
        top = np.where(cost < FAR, top, 0)
        return lambda i: np.array([m[i] for m in moves], np.int64), cost, top

    def _weights(self, multiples: np.ndarray) -> np.ndarray:
        size = np.where(np.abs(multiples) < FAR, np.abs(multiples), 0) * self.draft.setting.weight_unit
        return -(-size // self.draft.largest)
