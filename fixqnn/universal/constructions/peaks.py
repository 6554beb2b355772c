"""Indicators of one input's classes that need no saturation: a ramp keeps a neuron off on each side of the class.

A first-layer neuron that is largest (or least) over a whole class, and moves away from there on one side, tells that side from
the class however slowly it moves: rounding does the rest, since a second-layer sum that misses half a code shows
nothing. Two such neurons, one for each side, make an indicator, and none is copied. Thresholds that saturate at both
ends (`coordinate`) need s/M times as many copies for every code that they rise by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fixqnn.universal.constructions.code import Neurons
from fixqnn.universal.constructions.coordinate import Coordinate, first_neuron
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.line import Line
from fixqnn.universal.constructions.runs import FAR, Run, offset_between
from fixqnn.universal.grid import Setting

__all__ = ["peaks"]

TRIED = 8  # coefficients below the largest that are looked at for an offset that a bias gives


def peaks(
    draft: Draft, rows: Neurons, direction: Sequence[int], labels: Sequence[int], on: Run, searched: bool = False
) -> Coordinate | None:
    """Add first- and second-layer neurons in run `on` where the input is in a class, and in the run of −M elsewhere.

    Parameters
    ----------
    draft, rows, direction, labels
        As for `encode`.
    on : Run
        Of the neurons, where they are on.
    searched : bool
        Whether weights are searched for: this finds fewer first-layer neurons, of which several second-layer ones read the
        same, and serves activations that are nowhere flat; but it takes long where inputs have many values.

    Returns
    -------
    Coordinate or None
        None where no first-layer neurons part a class from the rest.
    """
    labels = np.asarray(labels)
    n, starts = len(labels), [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()]
    if not len(rows.values):
        return None
    lone = [(start, stop) for start, stop in zip(starts, [*starts[1:], n], strict=True)]
    within = _searched if searched else _parted
    signals = within(draft, rows, direction, lone, on)
    steps = within(draft, rows, direction, [(start, n) for start in starts[1:]], on)
    terms: dict[int, list[tuple[Signal, int]]] = {int(label): [] for label in labels}
    constants = dict.fromkeys(terms, 0)
    for i, (start, signal) in enumerate(zip(starts, signals, strict=True)):
        pieces = [(signal, 1)]
        if signal is None:  # what one neuron does not say, the difference of two steps does
            pieces = [(steps[i - 1], 1)] * (i > 0) + [(step, -1) for step in steps[i : i + 1]]
            constants[int(labels[start])] += i == 0
        terms[int(labels[start])] += pieces
    if any(signal is None for pieces in terms.values() for signal, _ in pieces):
        return None
    gates = tuple(Gate(tuple(terms[label]), constants[label]) for label in sorted(terms))
    in_order = len(starts) == len(terms) and np.all(np.diff(labels) >= 0) and None not in steps
    return Coordinate(gates, tuple(Gate(((step, 1),)) for step in steps) if in_order else None)


def _searched(
    draft: Draft, rows: Neurons, direction: Sequence[int], places: Sequence[tuple[int, int]], on: Run
) -> list[Signal | None]:
    """Neurons that are on at positions start … stop − 1, by search; None where nothing is found."""
    signals: list[Signal | None] = []
    for found in _search(draft.setting, tuple(draft.table), rows, tuple(places), on):
        if found is None:
            signals.append(None)
            continue
        sources = {first_neuron(draft, rows, row, direction): c for row, c in found[0].items()}
        signals.append(Signal(2, draft.add(2, sources, found[1]), draft.runs[0].value, on.value))
    return signals


@lru_cache(maxsize=64)
def _search(
    setting: Setting, table: tuple[int, ...], rows: Neurons, places: tuple[tuple[int, int], ...], on: Run
) -> list[tuple[dict[int, int], int] | None]:
    """The coefficients of rows and the offset for each place: inputs whose classes are alike share them."""
    draft, position, bounds = Draft(setting, table, 1), np.arange(rows.values.shape[1]), []
    for start, stop in places:
        here = (position >= start) & (position < stop)
        bounds.append((np.where(here, on.low, draft.runs[0].low), np.where(here, on.high, draft.runs[0].high)))
    return Line(draft, rows, halves=False).neurons(bounds)


def _parted(
    draft: Draft, rows: Neurons, direction: Sequence[int], places: Sequence[tuple[int, int]], on: Run
) -> list[Signal | None]:
    """The same from ramps that are flat up to each end; None where there is none."""
    parts = _Parts(draft, rows, direction, on)
    return [parts.within(start, stop) for start, stop in places]


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
