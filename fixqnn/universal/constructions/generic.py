"""The generic network: two hidden layers for any table, any weights, any number of inputs.

A code v = Σ k_r h_r of first-layer neurons tells the points apart. In *threshold mode* the second layer holds one
neuron per change of the target along v: its sum t·v + offset saturates below and above. In *pair mode*, which needs no
T(−M) ≠ T(M), two neurons per step agree everywhere but at one point, where they show T(q) and T(q'). Sizes grow with the
square of the number of points, so it serves single inputs, tiny formats and targets that change rarely along a small code.

The idea of indicator functions of grid points is that of Park, Park, Hwang (arXiv 2409.00297); the ordering by a code, the pairs,
and the weights that are shared by all thresholds are this library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import numpy as np

from fixqnn.universal.constructions.code import Code, classes, code_of, first_rows
from fixqnn.universal.constructions.layers import Layer
from fixqnn.universal.constructions.runs import FAR, ends, offset_between, steepness
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting, difference_gcd

__all__ = ["generic", "recipes", "thresholds_along"]

MOST_SUMS = 1 << 20  # points times neurons before the bias, where neurons of several inputs are listed


def thresholds_along(
    setting: Setting, table: Sequence[int], code: Code, target: np.ndarray, theta: int = 0, even: bool = False
) -> Sketch | None:
    """Threshold mode along a given code; None where the table's ends are equal or its steps miss a value.

    Parameters
    ----------
    setting : Setting
        Format, weights, biases, tie rule.
    table : sequence of int
        The activation.
    code : Code
        Points with the same v must have the same target.
    target : ndarray of int
        Output codes of the points.
    theta : int
        Offset of the output in units of 1/s².
    even : bool
        Whether coefficients are even multiples, so that weights without a zero can cancel.
    """
    low, high = ends(setting, table)
    step = setting.weight_unit * (high.value - low.value)
    levels = _levels(setting, target, step, theta)
    if not step or levels is None:
        return None
    order = np.argsort(code.values, kind="stable")
    v, f = code.values[order], target[order]
    cuts = np.flatnonzero(f[1:] != f[:-1])
    gaps = [(int(v[i]), int(v[i + 1])) for i in cuts]
    if not gaps or any(below == above for below, above in gaps):
        return None
    unit = setting.weight_unit * (1 + even)
    t = steepness(setting, low, high, gaps, unit)
    if t is None:
        return None
    offsets = [offset_between(high.low - t * above, low.high - t * below, setting.bias_unit) for below, above in gaps]
    steps = [(levels[int(f[i + 1])] - levels[int(f[i])]) // (high.value - low.value) for i in cuts]
    hidden = Layer(np.tile(t * code.multiples, (len(gaps), 1)), np.array(offsets))
    first = levels[int(f[0])] - sum(steps) * low.value
    return Sketch(
        setting, tuple(table),
        (Layer(code.rows.weights, code.rows.biases), hidden, Layer(np.array([steps]), np.array([first]))),
        "generic, thresholds",
    )  # fmt: skip


def _levels(setting: Setting, target: np.ndarray, step: int, theta: int) -> dict[int, int] | None:
    """For every code of the target a sum that rounds to it and is `theta` modulo `step`, the nearest to its middle."""
    levels = {}
    for k in np.unique(target).tolist():
        low, high = setting.cell(k)
        low = -FAR if low is None else low
        high = FAR if high is None else high
        middle = max(low, min(k * setting.s, high)) - theta
        if not step:
            return None
        near = round(middle / step) * step + theta
        found = [y for y in (near, near - step, near + step) if low <= y <= high]
        if not found:
            return None
        levels[k] = min(found, key=lambda y: abs(y - k * setting.s))
    return levels


def pairs_at_points(
    setting: Setting, table: Sequence[int], code: Code, target: np.ndarray, labels: np.ndarray, theta: int = 0,
    even: bool = False,
) -> Sketch | None:  # fmt: skip
    """Pair mode along a code that tells all classes of points apart; None where differences of T miss a value."""
    m, s = setting.largest, setting.s
    values = np.unique(code.values)
    unit = lcm(setting.weight_unit * (1 + even), s)  # so that a sum can be q·s at any point, whatever the bias's unit
    gap = int(np.diff(values).min()) if len(values) > 1 else 1
    reach = 2 * m * s + s  # from any code to beyond the other end
    t = -(-max(reach, 1) // (gap * unit)) * unit
    steps = recipes(setting, table, {int(k) for k in np.unique(target)}, theta)
    if steps is None:
        return None
    offsets, weights = [], []
    for label in np.unique(labels):
        here = int(np.flatnonzero(labels == label)[0])
        for (q, r), times in steps[int(target[here])]:
            for code_here, sign in ((q, 1), (r, -1)):
                offset = offset_between(
                    code_here * s - t * int(code.values[here]),
                    code_here * s - t * int(code.values[here]),
                    setting.bias_unit,
                )
                if offset is None:
                    return None
                offsets.append(offset)
                weights.append(sign * times)
    hidden = Layer(np.tile(t * code.multiples, (len(offsets), 1)), np.array(offsets, np.int64))
    return Sketch(
        setting, tuple(table),
        (Layer(code.rows.weights, code.rows.biases), hidden, Layer(np.array([weights]), np.array([theta]))),
        "generic, pairs",
    )  # fmt: skip


def recipes(
    setting: Setting, table: Sequence[int], wanted: set[int], theta: int
) -> dict[int, list[tuple[tuple[int, int], int]]] | None:
    """Write a sum in the cell of every wanted code as θ + Σ w (T(q) − T(r)): the fewest pairs, w what one weight may hold."""
    m = setting.largest
    steps: dict[int, tuple[tuple[int, int], int]] = {}
    for w in sorted((w for w in setting.weight_codes if w > 0), reverse=True):
        for q in setting.codes:
            for r in setting.codes:
                steps.setdefault(w * (table[q + m] - table[r + m]), ((q, r), w))
    steps.pop(0, None)
    if not steps:
        return None
    limit = (m + 2) * setting.s + abs(theta) + max(steps)
    came: dict[int, tuple[int, tuple[tuple[int, int], int]] | None] = {theta: None}
    frontier, found = [theta], {}
    cells = {k: setting.cell(k) for k in wanted}

    def settle(total: int) -> None:
        for k, (low, high) in cells.items():
            if k not in found and (low is None or low <= total) and (high is None or total <= high):
                path, here = [], total
                while came[here] is not None:
                    here, what = came[here]
                    path.append(what)
                found[k] = path

    settle(theta)
    while frontier and len(found) < len(cells):
        following = []
        for here in frontier:
            for step, what in steps.items():
                there = here + step
                if abs(there) <= limit and there not in came:
                    came[there] = (here, what)
                    following.append(there)
                    settle(there)
        frontier = following
    return found if len(found) == len(cells) else None


def generic(setting: Setting, table: Sequence[int], points: np.ndarray, target: np.ndarray) -> list[Sketch]:
    """All generic networks found for a target: along short linear codes, along a code of all points, and in pairs.

    Parameters
    ----------
    setting : Setting
        Format, weights, biases, tie rule.
    table : sequence of int
        The activation.
    points : ndarray of int
        The inputs (points, inputs).
    target : ndarray of int
        Output code of every point.

    Returns
    -------
    list of Sketch
        Those that exist; empty where the first layer does not tell apart what the target does, or no offset of the
        output lets the last layer reach all values.
    """
    rows = first_rows(setting, table, points)
    labels = classes(rows)
    found = []
    if _mixes(labels, target):
        if not setting.has_zero or len(setting.weight_codes) ** points.shape[1] * points.size > MOST_SUMS:
            return found
        rows = first_rows(setting, table, points, lone=False)  # small weights may move no input alone, yet two together
        labels = classes(rows)
        if _mixes(labels, target):
            return found
    codes = [code for code in (code_of(rows, target), code_of(rows, labels)) if code is not None]
    for even in (False,) if setting.has_zero else (False, True):
        for theta in _thetas(setting, table, target):
            for code in codes:
                for sketch in (
                    thresholds_along(setting, table, code, target, theta, even),
                    pairs_at_points(setting, table, code, target, labels, theta, even) if code is codes[-1] else None,
                ):
                    if sketch is not None and sketch.realisable:
                        found.append(sketch)
            if found:
                return found
    return found


def _mixes(labels: np.ndarray, target: np.ndarray) -> bool:
    return any(len(np.unique(target[labels == label])) > 1 for label in np.unique(labels))


def _thetas(setting: Setting, table: Sequence[int], target: np.ndarray) -> list[int]:
    """Offsets of the output, by modulus, for which the table's steps can reach every value of the target."""
    step = setting.weight_unit * difference_gcd(table)
    if not step:
        return []
    offsets = sorted(range(-step, step + 1), key=abs)
    return [theta for theta in offsets if _levels(setting, target, step, theta) is not None]
