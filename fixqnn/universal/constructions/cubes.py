"""One neuron per point: the products of indicators that Park, Park, Hwang (arXiv 2409.00297) start from.

*Cubes* (weights with a zero, three hidden layers): thresholds of every input, then for every point an AND of their
differences, then a sum. *Compact* (four hidden layers, T(−M) ≠ T(M)) has indicators of all but the last input, and one
neuron of two effective inputs per change along the last. *Binary cubes* (weights without a zero, biases wide or fine): the
inputs are read through the d sign forms x₁ + … + x_d and the same with one of the first d − 1 signs turned, which
together determine the point; all hidden coefficients are even, so that what a neuron does not need cancels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from fixqnn.universal.constructions.code import first_rows
from fixqnn.universal.constructions.coordinate import Coordinate, encode, rows_of_one
from fixqnn.universal.constructions.digits import Digits, digit_systems
from fixqnn.universal.constructions.draft import Draft, Gate
from fixqnn.universal.constructions.reduction import Reduced, occurrences
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Bias, Setting

__all__ = ["binary_cubes", "compact", "cubes"]


def cubes(setting: Setting, table: Sequence[int], reduced: Reduced) -> Sketch | None:
    """One neuron per combination of classes whose value is not the most frequent one."""
    if not setting.has_zero:
        return None
    draft = Draft(setting, table, reduced.table.ndim)
    coordinates = _coordinates(draft, reduced)
    if coordinates is None:
        return None
    axes = reduced.axes
    f = reduced.table.reshape([reduced.table.shape[a] for a in axes])
    cells = ((index, int(f[index])) for index in np.ndindex(*f.shape))
    return _summed(draft, coordinates, cells, _systems(setting, table, f), "cubes")


def binary_cubes(setting: Setting, table: Sequence[int], target: np.ndarray) -> Sketch | None:
    """One neuron or more per point whose value is not the most frequent one, from sign forms."""
    if setting.has_zero or setting.bias == Bias.values:
        return None
    d, m = target.ndim, setting.largest
    draft = Draft(setting, table, d)
    rows = first_rows(setting, table, np.arange(-d * m, d * m + 1)[:, None])
    forms = [np.ones(d, np.int64)] + [1 - 2 * np.eye(d, dtype=np.int64)[i] for i in range(d - 1)]
    coordinates = []
    for form in forms:
        coordinate = encode(draft, rows, form.tolist(), np.arange(2 * d * m + 1))
        if coordinate is None:
            return None
        coordinates.append(coordinate)

    def cells() -> Iterable[tuple[tuple[int, ...], int]]:
        for index in np.ndindex(*target.shape):
            point = np.array(index) - m
            yield tuple(int(form @ point) + d * m for form in forms), int(target[index])

    return _summed(draft, coordinates, cells(), _systems(setting, table, target), "binary cubes")


def _coordinates(draft: Draft, reduced: Reduced) -> list[Coordinate] | None:
    rows = rows_of_one(draft.setting, tuple(draft.table))
    made = [encode(draft, rows, reduced.direction(axis), reduced.labels[axis]) for axis in reduced.axes]
    return None if None in made or not made else made


def _systems(setting: Setting, table: Sequence[int], f: np.ndarray) -> list[Digits]:
    return digit_systems(setting, table, occurrences(f), most=1)


def _summed(
    draft: Draft,
    coordinates: Sequence[Coordinate],
    cells: Iterable[tuple[tuple[int, ...], int]],
    systems: Sequence[Digits],
    name: str,
) -> Sketch | None:
    """An AND of one gate per coordinate for every digit of every cell, and their sum."""
    if not systems:
        return None
    digits, output = systems[0], {}
    offset = digits.theta
    shows = _shows(draft)
    for index, value in cells:
        gates = [coordinate.gates[i] for coordinate, i in zip(coordinates, index, strict=True)]
        for w, rise in zip(digits.weights, digits.levels[value], strict=True):
            if not rise:
                continue
            made = _cheapest(draft, gates, rise, shows)
            if made is None:
                return None
            neuron = draft.add(3, *made)
            output[neuron] = output.get(neuron, 0) + w
            offset -= w * draft.table[0]
    draft.add(4, output, offset)
    return draft.sketch(name)


def _shows(draft: Draft) -> dict[int, list]:
    """Runs by how much they rise above T(−M)."""
    shows: dict[int, list] = {}
    for run in draft.runs[1:]:
        shows.setdefault(run.value - draft.runs[0].value, []).append(run)
    return shows


def _cheapest(draft: Draft, gates: Sequence[Gate], rise: int, shows: dict[int, list]) -> tuple[dict, int] | None:
    made = [m for m in (draft.conjunction(gates, run) for run in shows[rise]) if m is not None]
    return min(made, key=lambda m: m[2] + (m[1] != 0))[:2] if made else None


def compact(setting: Setting, table: Sequence[int], reduced: Reduced, last: int) -> Sketch | None:
    """Indicators of the prefix, and one neuron per change along input `last`."""
    others = [axis for axis in reduced.axes if axis != last]
    if not setting.has_zero or not others or table[0] == table[-1]:
        return None
    draft = Draft(setting, table, reduced.table.ndim)
    coordinates = _coordinates(draft, reduced)
    if coordinates is None:
        return None
    by_axis = dict(zip(reduced.axes, coordinates, strict=True))
    steps = by_axis[last].steps
    if steps is None:
        return None
    f = np.moveaxis(reduced.table, last, -1).reshape(-1, reduced.table.shape[last])
    ladders = [draft.carry(3, [gate]) for gate in steps]
    prefixes = [draft.carry(3, list(gates)) for gates in product(*(by_axis[axis].gates for axis in others))]
    if None in ladders or None in prefixes:
        return None
    middle = int(np.bincount(f[:, 0] + setting.largest).argmax()) - setting.largest
    counts: dict[int, int] = {}
    changes = np.diff(f, axis=1, prepend=middle)
    jumps = [(int(p), int(j), int(changes[p, j])) for p, j in np.argwhere(changes)]
    for _, _, jump in jumps:
        counts[jump] = counts.get(jump, 0) + 1
    recipes = _jumps(draft, counts)
    if recipes is None:
        return None
    output: dict[int, int] = {}
    offset = middle * setting.s
    for p, j, jump in jumps:
        prefix = Gate(((prefixes[p], 1),))
        gates = [prefix] if j == 0 else [prefix, Gate(((ladders[j - 1], 1),))]
        w, rise = recipes[jump]
        made = _cheapest(draft, gates, rise, _shows(draft))
        if made is None:
            return None
        neuron = draft.add(4, *made)
        output[neuron] = output.get(neuron, 0) + w
        offset -= w * draft.table[0]
    draft.add(5, output, offset)
    return draft.sketch("compact")


def _jumps(draft: Draft, counts: dict[int, int]) -> dict[int, tuple[int, int]] | None:
    """For every jump in codes the output weight and the rise that make it exactly, with the fewest copies."""
    setting, found = draft.setting, {}
    for jump in counts:
        best = None
        for rise in _shows(draft):
            if rise and jump * setting.s % (rise * setting.weight_unit) == 0:
                w = jump * setting.s // rise
                if best is None or draft.copies(w) < draft.copies(best[0]):
                    best = (w, rise)
        if best is None:
            return None
        found[jump] = best
    return found
