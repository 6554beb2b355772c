"""Indicators of one input's classes that need no saturation: a ramp keeps a neuron off on each side of the class.

A first-layer neuron that is largest (or least) over a whole class, and moves away from there on one side, tells that side from
the class however slowly it moves: rounding does the rest, since a second-layer sum that misses half a code shows
nothing. Two such neurons, one for each side, make an indicator, and none is copied. Thresholds that saturate at both
ends (`coordinate`) need s/M times as many copies for every code that they rise by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fixqnn.universal.constructions.code import Neurons
from fixqnn.universal.constructions.coordinate import Coordinate, first_neuron
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.runs import FAR, Run, offset_between

__all__ = ["peaks"]

TRIED = 8  # coefficients below the largest that are looked at for an offset that a bias gives


def peaks(draft: Draft, rows: Neurons, direction: Sequence[int], labels: Sequence[int], on: Run) -> Coordinate | None:
    """Add first- and second-layer neurons in run `on` where the input is in a class, and in the run of −M elsewhere.

    Parameters are those of `encode`. None where no first-layer neurons part a class from the rest.
    """
    labels = np.asarray(labels)
    if not len(rows.values):
        return None
    parts = _Parts(draft, rows, direction, on)
    starts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()]
    stops = [*starts[1:], len(labels)]
    terms: dict[int, list[tuple[Signal, int]]] = {}
    for start, stop in zip(starts, stops, strict=True):
        signal = parts.within(start, stop)
        if signal is None:
            return None
        terms.setdefault(int(labels[start]), []).append((signal, 1))
    gates = tuple(Gate(tuple(terms[label])) for label in sorted(terms))
    steps = None
    if len(starts) == len(terms) and np.all(np.diff(labels) >= 0):
        steps = [parts.within(start, len(labels)) for start in starts[1:]]
    return Coordinate(gates, None if steps is None or None in steps else tuple(Gate(((s, 1),)) for s in steps))


class _Row(NamedTuple):
    """A first-layer neuron, by how much it falls beyond the class, copies that make this enough, parameters they take."""

    number: int
    fall: int
    copies: int
    cost: int


class _Parts:
    """First-layer neurons, as they are and negated, by where they are largest and how far they fall on each side."""

    def __init__(self, draft: Draft, rows: Neurons, direction: Sequence[int], on: Run) -> None:
        self.draft, self.rows, self.direction, self.on = draft, rows, direction, on
        values = np.vstack([rows.values, -rows.values])
        self.top = values.max(axis=1)
        end = np.full((len(values), 1), -FAR)
        self.before = np.hstack([end, np.maximum.accumulate(values, axis=1)])
        self.behind = np.hstack([np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1], end])
        self.below = np.hstack([0 * end, np.cumsum(values < self.top[:, None], axis=1)])
        self.parameters = 2 + (np.tile(rows.biases, 2) != 0)  # of a copy, and the weight that reads it
        self.swing = on.low - draft.runs[0].high

    def within(self, start: int, stop: int) -> Signal | None:
        """The neuron that is on at the positions start … stop − 1 and nowhere else."""
        level = np.flatnonzero(self.below[:, start] == self.below[:, stop])
        left, right = self.top[level] - self.before[level, start], self.top[level] - self.behind[level, stop]
        alone = self._cheapest(level, np.minimum(left, right))
        sides = [self._cheapest(level, left), self._cheapest(level, right)]
        if None in sides or (alone is not None and alone.cost <= sides[0].cost + sides[1].cost):
            sides = [alone]
        return None if None in sides else self._drawn(sides)

    def _cheapest(self, level: np.ndarray, falls: np.ndarray) -> _Row | None:
        """The row with the fewest parameters, of these the one that falls most."""
        level, falls = level[falls > 0], falls[falls > 0]
        if not len(level):
            return None
        copies = -(-self.swing // (falls * self.draft.largest))
        costs = copies * self.parameters[level]
        best = int(np.lexsort((-falls, costs))[0])
        return _Row(int(level[best]), int(falls[best]), int(copies[best]), int(costs[best]))

    def _drawn(self, chosen: Sequence[_Row]) -> Signal | None:
        """Add the neuron, with the largest coefficients for which a bias is its offset, or needs no bias at all."""
        draft, low, best = self.draft, self.draft.runs[0], None
        limit = draft.setting.bias_limit
        for less in range(0, TRIED * draft.unit, draft.unit):
            gains = [max(row.copies * draft.largest - less, draft.unit) for row in chosen]
            top = sum(gain * int(self.top[row.number]) for gain, row in zip(gains, chosen, strict=True))
            fall = min(gain * row.fall for gain, row in zip(gains, chosen, strict=True))
            first, last = self.on.low - top, min(self.on.high, low.high + fall) - top
            if first > last:
                break
            offset = offset_between(first, last, draft.setting.bias_unit)
            simple = offset is not None and (limit is None or abs(offset) <= limit)
            if offset is None:  # constant neurons are to make it: a multiple of the largest is the cheapest
                offset = offset_between(first, last, draft.largest)
            offset = first if offset is None else offset
            merit = (not simple, offset != 0, less)
            if best is None or merit < best[0]:
                best = merit, gains, offset
        if best is None:
            return None
        coefficients: dict[int, int] = {}
        for gain, row in zip(best[1], chosen, strict=True):
            negated, number = divmod(row.number, len(self.rows.values))
            neuron = first_neuron(draft, self.rows, number, self.direction)
            coefficients[neuron] = coefficients.get(neuron, 0) + (-gain if negated else gain)
        return Signal(2, draft.add(2, coefficients, best[2]), low.value, self.on.value)
