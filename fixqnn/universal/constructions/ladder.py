"""Sums of functions of one input each: thresholds of every input, added up (two or three hidden layers, weights with a zero).

Parameters are proportional to the number of values at which some summand changes. A function of a single input is the
simplest case.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fixqnn.universal.constructions.coordinate import encode, rows_of_one
from fixqnn.universal.constructions.draft import Draft, Gate
from fixqnn.universal.constructions.layers import nearest
from fixqnn.universal.constructions.reduction import Reduced
from fixqnn.universal.constructions.runs import Run, runs_of
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["ladder"]


def ladder(setting: Setting, table: Sequence[int], reduced: Reduced) -> Sketch | None:
    """Draw the network; None where the target is no such sum, or steps of the table cannot form it.

    Where the rise T(M) − T(−M) of a threshold does not add up to whole codes, a third layer gives it another one.
    """
    if not setting.has_zero or not reduced.axes:
        return None
    parts = _summands(reduced.table)
    if parts is None:
        return None
    rises = {run.value - table[0]: run for run in runs_of(setting, table) if run.value != table[0]}
    whole = [run for rise, run in rises.items() if setting.s % (rise * setting.weight_unit) == 0]
    made = [_drawn(setting, table, reduced, parts, on) for on in (None, *whole)]
    return min((s for s in made if s is not None and s.realisable), key=lambda s: s.size.parameters, default=None)


def _drawn(
    setting: Setting, table: Sequence[int], reduced: Reduced, parts: Sequence[np.ndarray], on: Run | None
) -> Sketch | None:
    """Draw it with thresholds as they are, or with their signals in run `on` of a further layer."""
    draft = Draft(setting, table, reduced.table.ndim)
    rows = rows_of_one(setting, tuple(table))
    output: dict[int, int] = {}
    theta = int(reduced.table.reshape(-1)[0]) * setting.s
    offset, sums = theta, np.full(reduced.table.shape, theta, np.int64)
    for axis in reduced.axes:
        coordinate = encode(draft, rows, reduced.direction(axis), reduced.labels[axis])
        if coordinate is None:
            return None
        gates = coordinate.steps or coordinate.gates[1:]
        if on is not None:
            signals = [draft.join(3, [gate], on) for gate in gates]
            if None in signals:
                return None
            gates = tuple(Gate(((signal, 1),)) for signal in signals)
        reached = np.zeros(len(parts[axis]), np.int64)
        for i, gate in enumerate(gates, 1):
            pitch = gate.amplitude * setting.weight_unit
            before = int(reached[i - 1]) if coordinate.steps else 0
            times = round((int(parts[axis][i] - parts[axis][0]) * setting.s - before) / pitch)
            reached[i] = before + times * pitch
            c = times * setting.weight_unit
            offset += c * gate.amplitude * gate.constant
            for signal, direction in gate.terms:
                output[signal.neuron] = output.get(signal.neuron, 0) + c * direction
                offset -= c * direction * signal.off
        sums = sums + reached.reshape([-1 if a == axis else 1 for a in range(sums.ndim)])
    if not np.array_equal(nearest(setting, sums), reduced.table):
        return None  # steps of the table do not add up to whole codes
    draft.add(3 if on is None else 4, output, offset)
    return draft.sketch("ladder")


def _summands(table: np.ndarray) -> list[np.ndarray] | None:
    """Functions of one index each that add up to the table (each 0 at index 0, but for the first entry)."""
    origin = (0,) * table.ndim
    parts, total = [], np.full(table.shape, table[origin], np.int64)
    for axis in range(table.ndim):
        line = table[tuple(slice(None) if a == axis else 0 for a in range(table.ndim))].astype(np.int64)
        parts.append(line)
        total = total + (line - line[0]).reshape([-1 if a == axis else 1 for a in range(table.ndim)])
    return parts if np.array_equal(total, table) else None
