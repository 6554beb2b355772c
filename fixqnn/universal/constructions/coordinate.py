"""One input at a time: neurons of the first two layers that say in which class its value is.

Where T(−M) ≠ T(M) the second layer holds thresholds, whose differences are the classes' indicators; where the ends are
equal it holds a bump per class. Each reads one well chosen first-layer neuron, doubled until the sum is steep enough; where no
single neuron will do, a code of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fixqnn.universal.constructions.code import Neurons, classes, code_of, first_rows
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.runs import FAR, Run, offset_between
from fixqnn.universal.grid import Setting

__all__ = ["Coordinate", "encode", "first_neuron", "rows_of_one"]

ALL_ROWS_P = 4  # beyond, a few weights are looked at first


@dataclass(frozen=True)
class Coordinate:
    """Indicators of the classes of one input or form, at level 2.

    Attributes
    ----------
    gates : tuple of Gate
        One per class: 1 where the input's value is in it.
    steps : tuple of Gate or None
        From class 1 on: 1 where the class is this one or a later one; None where classes are not in order along the
        input, or there are no thresholds.
    """

    gates: tuple[Gate, ...]
    steps: tuple[Gate, ...] | None


def encode(draft: Draft, rows: Neurons, direction: Sequence[int], labels: Sequence[int]) -> Coordinate | None:
    """Add first- and second-layer neurons that say in which class a form of the inputs is.

    Parameters
    ----------
    draft : Draft
        Gets the neurons.
    rows : Neurons
        First-layer neurons of a single number, over all values of the form, in order.
    direction : sequence of int
        The form's coefficients: a single 1 for an input by itself, signs for a form ±x₁ ± … ± x_d.
    labels : sequence of int
        The class of every value of the form.

    Returns
    -------
    Coordinate or None
        None where rows do not tell the classes apart.
    """
    labels = np.asarray(labels)
    low, high = draft.runs[0], draft.runs[-1]
    if not len(rows.values):
        return None
    if low.value == high.value:
        return _bumps(draft, rows, direction, labels)
    order = np.arange(len(labels))
    cuts = (np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()
    made = _thresholds(draft, rows, direction, cuts)
    if made is None:
        code = code_of(rows, labels)
        if code is None:
            return None
        order = np.argsort(code.values, kind="stable")
        v = code.values[order]
        cuts = (np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1).tolist()
        made = _along_code(draft, code.rows, code.multiples, direction, v, cuts)
        if made is None:
            return None
    signals = [made[cut] for cut in cuts]
    pieces: dict[int, list[tuple[Signal, int]]] = {int(label): [] for label in np.unique(labels)}
    constants = dict.fromkeys(pieces, 0)
    for i in range(len(cuts) + 1):
        label = int(labels[order[cuts[i - 1] if i else 0]])
        if i == 0:
            constants[label] += 1
        else:
            pieces[label].append((signals[i - 1], 1))
        if i < len(cuts):
            pieces[label].append((signals[i], -1))
    gates = tuple(Gate(tuple(pieces[label]), constants[label]) for label in sorted(pieces))
    in_order = len(cuts) + 1 == len(pieces) and np.all(np.diff(labels[order]) >= 0)
    return Coordinate(gates, tuple(Gate(((s, 1),)) for s in signals) if in_order else None)


def _thresholds(draft: Draft, rows: Neurons, direction: Sequence[int], cuts: Sequence[int]) -> dict[int, Signal] | None:
    """Thresholds at cuts (1 where the position is at or behind the cut), few first-layer neurons shared among them."""
    plan = _plan(rows, draft.setting, tuple(draft.table), tuple(cuts))
    if plan is None:
        return None
    low, high = draft.runs[0], draft.runs[-1]
    return {
        cut: Signal(2, draft.add(2, {first_neuron(draft, rows, row, direction): c}, offset), low.value, high.value)
        for cut, row, c, offset in plan
    }


@lru_cache(maxsize=64)
def _plan(
    rows: Neurons, setting: Setting, table: tuple[int, ...], cuts: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], ...] | None:
    """For every cut the row to read, the coefficient and the offset; None where some cut has no row."""
    draft = Draft(setting, table, 1)
    low, high = draft.runs[0], draft.runs[-1]
    both = np.vstack([rows.values, -rows.values])
    below = np.maximum.accumulate(both, axis=1)
    above = np.minimum.accumulate(both[:, ::-1], axis=1)[:, ::-1]
    ends = [(below[:, cut - 1], above[:, cut]) for cut in cuts]
    steep = np.stack([_steepness(draft, *end, low, high) for end in ends], axis=1) if cuts else both[:, :0]
    copies = -(-steep // draft.largest)
    left, made = set(range(len(cuts))), []
    while left:
        row, served = _best_row(copies, sorted(left))
        if not served:
            return None
        sign, index = (1, row) if row < len(rows.values) else (-1, row - len(rows.values))
        for i in served:
            c, (least, most) = int(steep[row, i]), (int(end[row]) for end in ends[i])
            offset = offset_between(high.low - c * most, low.high - c * least, setting.bias_unit)
            made.append((cuts[i], index, c * sign, offset))
        left -= set(served)
    return tuple(made)


def _steepness(draft: Draft, below: np.ndarray, above: np.ndarray, low: Run, high: Run) -> np.ndarray:
    """For every row the least coefficient that parts what is at most `below` from what is at least `above`; or `FAR`."""
    unit, step = draft.unit, draft.setting.bias_unit
    gap = above - below
    found = np.full(len(gap), FAR)
    rows = np.flatnonzero(gap > 0)
    c = -(-np.maximum(-(-(high.low - low.high) // gap[rows]), 1) // unit) * unit
    for _ in range(draft.setting.s + 1):
        first = -(-(high.low - c * above[rows]) // step) * step
        fits = first <= low.high - c * below[rows]
        found[rows[fits]] = c[fits]
        rows, c = rows[~fits], c[~fits] + unit
        if not rows.size:
            break
    return found


def _best_row(copies: np.ndarray, left: list[int]) -> tuple[int, list[int]]:
    """The row that serves open cuts at the least cost per cut, and which: 2 parameters per copy, copies + 1 per cut."""
    part = np.sort(copies[:, left], axis=1)
    counts = np.arange(1, len(left) + 1)
    cost = (2 * part + np.cumsum(part + 1, axis=1)) / counts
    cost[part >= FAR // 1024] = np.inf
    row, last = np.unravel_index(int(np.argmin(cost)), cost.shape)
    if not np.isfinite(cost[row, last]):
        return 0, []
    cap = part[row, last]
    return int(row), [i for i in left if copies[row, i] <= cap]


def _along_code(
    draft: Draft, rows: Neurons, multiples: np.ndarray, direction: Sequence[int], v: np.ndarray, cuts: Sequence[int]
) -> dict[int, Signal] | None:
    """Thresholds along a code, in the order of its values."""
    low, high, made = draft.runs[0], draft.runs[-1], {}
    sources = [first_neuron(draft, rows, i, direction) for i in range(len(rows.biases))]
    for cut in cuts:
        c = int(_steepness(draft, v[cut - 1 : cut], v[cut : cut + 1], low, high)[0])
        if c >= FAR:
            return None
        offset = offset_between(high.low - c * int(v[cut]), low.high - c * int(v[cut - 1]), draft.setting.bias_unit)
        coefficients: dict[int, int] = {}
        for source, k in zip(sources, multiples, strict=True):
            coefficients[source] = coefficients.get(source, 0) + c * int(k)
        made[cut] = Signal(2, draft.add(2, coefficients, offset), low.value, high.value)
    return made


def _bumps(draft: Draft, rows: Neurons, direction: Sequence[int], labels: np.ndarray) -> Coordinate | None:
    """A bump per value for tables with equal ends: on within some inner run, off beyond it on both sides."""
    end = draft.runs[0]
    inner = [run for run in draft.runs[1:-1] if run.value != end.value]
    code = None
    gates = {}
    for position in range(len(labels)):
        here = _bump_from(draft, rows.values, position, inner)
        if here is None:
            if code is None:
                code = code_of(rows, np.arange(len(labels))) or False
            if code is False:
                return None
            here = _bump_from(draft, code.values[None, :], position, inner)
            if here is None:
                return None
            _, c, offset, run = here
            coefficients: Mapping[int, int] = {}
            for i, k in enumerate(code.multiples):
                source = first_neuron(draft, code.rows, i, direction)
                coefficients = {**coefficients, source: coefficients.get(source, 0) + c * int(k)}
        else:
            row, c, offset, run = here
            coefficients = {first_neuron(draft, rows, row, direction): c}
        gates.setdefault(int(labels[position]), []).append(
            (Signal(2, draft.add(2, coefficients, offset), end.value, run.value), 1)
        )
    amplitudes = {signal.amplitude for terms in gates.values() for signal, _ in terms}
    if len(amplitudes) > 1 and any(len({s.amplitude for s, _ in terms}) > 1 for terms in gates.values()):
        return None
    return Coordinate(tuple(Gate(tuple(gates[label])) for label in sorted(gates)), None)


def _bump_from(
    draft: Draft, values: np.ndarray, position: int, inner: Sequence[Run]
) -> tuple[int, int, int, Run] | None:
    """The row, coefficient, offset and run of the cheapest bump at a position; None where no row is alone there."""
    low, high, unit = draft.runs[0], draft.runs[-1], draft.unit
    others = np.delete(values, position, axis=1) - values[:, position : position + 1]
    up = np.where(others > 0, others, FAR).min(axis=1, initial=FAR)
    down = np.where(others < 0, -others, FAR).min(axis=1, initial=FAR)
    lone = np.flatnonzero((others != 0).all(axis=1)) if others.size else np.arange(len(values))
    if not lone.size:
        return None
    run = max(inner, key=lambda r: (abs(r.value - low.value), -r.low), default=None)
    if run is None:
        return None
    gap = np.minimum(up, down)[lone]
    for row in lone[np.argsort(-gap, kind="stable")][:1]:
        for sign in (1, -1):
            above, below = (int(up[row]), int(down[row])) if sign > 0 else (int(down[row]), int(up[row]))
            need = max(-(-(high.low - run.low) // above), -(-(run.high - low.high) // below), 1)
            c = -(-need // unit) * unit
            for extra in range(draft.setting.s + 1):
                d = c + extra * unit
                v = d * sign * int(values[row, position])
                bottom = max(run.low, high.low - d * above) - v
                top = min(run.high, low.high + d * below) - v
                offset = offset_between(bottom, top, draft.setting.bias_unit)
                if offset is not None:
                    return int(row), d * sign, offset, run
    return None


def first_neuron(draft: Draft, rows: Neurons, index: int, direction: Sequence[int]) -> int:
    """The first-layer neuron that applies a row to a form of the inputs."""
    weight = int(rows.weights[index, 0])
    return draft.add(1, {i: weight * c for i, c in enumerate(direction)}, int(rows.biases[index]))


@lru_cache(maxsize=64)
def rows_of_one(setting: Setting, table: tuple[int, ...]) -> Neurons:
    """First-layer neurons of a single input over all its values: some of them where there are many, if these suffice."""
    points = np.arange(-setting.largest, setting.largest + 1)[:, None]
    if setting.p > ALL_ROWS_P:
        rows = first_rows(setting, table, points, few=True)
        if len(rows.values) and classes(rows).max() + 1 == len(points):
            return rows
    return first_rows(setting, table, points)
