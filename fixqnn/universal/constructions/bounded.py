"""Weights without a zero and biases among the values: neurons that are nothing at one point.

Offsets come from a bias of at most M here, so a neuron is placed on its point by a combination of first-layer neurons
that is zero there and nowhere else: its sum is then the bias alone, and saturates at all other points (two hidden
layers). Where some points have proportional values on all first-layer neurons, a second layer separates them first
(three hidden layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from fixqnn.universal.constructions.code import Neurons, classes, first_rows
from fixqnn.universal.constructions.generic import recipes
from fixqnn.universal.constructions.layers import Layer, nearest
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["bounded"]

TRIES = 200


def bounded(setting: Setting, table: Sequence[int], points: np.ndarray, target: np.ndarray) -> Sketch | None:
    """Draw the network; None where it is not needed, or no combination is found."""
    rows = first_rows(setting, table, points, constants=True)
    labels = classes(rows)
    firsts = np.array([int(np.flatnonzero(labels == label)[0]) for label in range(labels.max() + 1)])
    if any(len(np.unique(target[labels == label])) > 1 for label in range(len(firsts))):
        return None
    pairs = recipes(setting, table, {int(k) for k in np.unique(target)}, 0)
    if pairs is None:
        return None
    values = rows.values[:, firsts]
    chosen = _independent(values)
    layers = []
    if chosen is None:
        second = _second_layer(setting, table, rows, values)
        if second is None:
            return None
        base, coefficients, offsets, values = second
        layers.append(Layer(rows.weights[base], rows.biases[base]))
        chosen = _independent(values)
        if chosen is None:
            return None
        layers.append(Layer(coefficients[chosen], offsets[chosen]))
    else:
        layers.append(Layer(rows.weights[chosen], rows.biases[chosen]))
    hidden = _at_points(setting, values[chosen], target[firsts], pairs)
    if hidden is None:
        return None
    coefficients, offsets, weights = hidden
    layers += [Layer(coefficients, offsets), Layer(np.array([weights]), np.array([0]))]
    return Sketch(setting, tuple(table), tuple(layers), "bounded")


def _at_points(setting: Setting, values: np.ndarray, target: np.ndarray, pairs: dict) -> tuple | None:
    """The neurons that show T(q) at one point, in pairs, and their output weights."""
    generator = np.random.default_rng(0)
    unit, reach = 2 * setting.weight_unit, (2 * setting.largest + 1) * setting.s
    coefficients, offsets, weights = [], [], []
    for x, k in enumerate(target.tolist()):
        if not pairs[k]:
            continue
        multiples = _zero_only_at(values, x, generator)
        if multiples is None:
            return None
        smallest = int(np.abs(np.delete(multiples @ values, x)).min(initial=reach))
        t = -(-reach // (smallest * unit)) * unit
        for (q, r), w in pairs[k]:
            for code, sign in ((q, 1), (r, -1)):
                coefficients.append(t * multiples)
                offsets.append(code * setting.s)
                weights.append(sign * w)
    if not weights:
        return None
    return np.stack(coefficients), np.array(offsets, np.int64), weights


def _zero_only_at(values: np.ndarray, x: int, generator: np.random.Generator) -> np.ndarray | None:
    """Small multiples of rows whose sum is 0 at point x and not at others."""
    column = values[:, x]
    pivot = int(np.argmax(np.abs(column)))
    if column[pivot] == 0 or len(column) == 1:
        return None
    basis = []
    for j in range(len(column)):
        if j != pivot:
            common = gcd(int(column[pivot]), int(column[j]))
            vector = np.zeros(len(column), np.int64)
            vector[pivot], vector[j] = column[j] // common, -column[pivot] // common
            basis.append(vector)
    best = None
    for attempt in range(TRIES):
        size = 1 + attempt // 25
        k = (
            generator.integers(-size, size + 1, len(basis))
            if attempt >= len(basis)
            else np.eye(len(basis), dtype=int)[attempt]
        )
        multiples = k @ np.stack(basis)
        common = int(np.gcd.reduce(multiples))
        if not common:
            continue
        multiples = multiples // common
        smallest = int(np.abs(np.delete(multiples @ values, x)).min(initial=1 << 40))
        if smallest:
            merit = np.abs(multiples).sum() / smallest
            if best is None or merit < best[0]:
                best = (merit, multiples)
    return None if best is None else best[1]


def _directions(values: np.ndarray) -> np.ndarray:
    """Columns divided by their content, the first entry that is not zero positive; zero columns stay."""
    content = np.gcd.reduce(values, axis=0)
    reduced = values // np.maximum(content, 1)
    lead = np.take_along_axis(reduced, (reduced != 0).argmax(axis=0)[None, :], axis=0)
    return reduced * np.where(lead < 0, -1, 1)


def _independent(values: np.ndarray) -> np.ndarray | None:
    """Rows, chosen greedily, on which no column is zero and no two are proportional; None where all rows do not do."""

    def good(rows: list[int]) -> int:
        columns = _directions(values[rows])
        return len(np.unique(columns[:, columns.any(axis=0)], axis=1).T)

    points = values.shape[1]
    if not len(values) or good(list(range(len(values)))) < points:
        return None
    chosen: list[int] = []
    while not chosen or good(chosen) < points:
        chosen.append(max((r for r in range(len(values)) if r not in chosen), key=lambda r: good([*chosen, r])))
    return np.array(chosen, np.int64)


def _second_layer(setting: Setting, table: Sequence[int], rows: Neurons, values: np.ndarray) -> tuple | None:
    """Second-layer neurons T(2·Σ k_r h_r + b) on which columns are told apart: rows used, coefficients, biases, values."""
    generator = np.random.default_rng(0)
    entries, m, s = np.array(table, np.int64), setting.largest, setting.s
    base = np.unique(np.linspace(0, len(values) - 1, min(len(values), 16)).astype(np.int64))
    found: dict[bytes, tuple[np.ndarray, int, np.ndarray]] = {}
    for attempt in range(TRIES):
        k = np.zeros(len(base), np.int64)
        if attempt < 2 * len(base):
            k[attempt // 2] = 1 if attempt % 2 else -1
        else:
            k = generator.integers(-2, 3, len(base)) * (generator.random(len(base)) < 0.4)
        coefficients = 2 * setting.weight_unit * k
        sums = coefficients @ values[base]
        for b in range(-m, m + 1):
            shown = entries[nearest(setting, sums + b * s) + m]
            found.setdefault(shown.tobytes(), (coefficients, b * s, shown))
    kept = list(found.values())
    made = np.stack([row for _, _, row in kept])
    return base, np.stack([c for c, _, _ in kept]), np.array([b for _, b, _ in kept], np.int64), made
