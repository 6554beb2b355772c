"""The table in bits: signals as small as rounding lets them be, which grow only where few are left (weights with a zero).

Where weights are at most M/s < 1, each code by which a neuron is to rise takes s/M weights to others that rise by one. So all
signals that are many are small here, whatever the sums round to: they differ by as little as half a code before they are
rounded. For every value y of one input, the *selector*, and every bit of the output one neuron says

    (is the selector's value y?) AND (is the rest of the input one of those for which the bit is 1?)

with a weight for every one of those, or for every one of the others. Bits are gathered over y, grow through a few
narrow layers, and are added up. A random table of N entries in bits that are 1 with frequency q takes about q·N weights per
bit, and s matters only to what grows: a number of parameters that does not depend on N.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np

from fixqnn.universal.constructions.coordinate import Coordinate, rows_of_one
from fixqnn.universal.constructions.draft import Draft, Gate
from fixqnn.universal.constructions.growth import DEEPEST, Path, bring_out, growth_of
from fixqnn.universal.constructions.line import SEARCHED_P
from fixqnn.universal.constructions.peaks import peaks
from fixqnn.universal.constructions.radix import Bits, bit_codes
from fixqnn.universal.constructions.reduction import Reduced, occurrences
from fixqnn.universal.constructions.runs import Run
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["bits"]

SEARCHED = 2  # rises of the indicators that are searched for
CODES = 3  # ways to write values in bits that are looked at
DRAWN = 2  # plans that are drawn in full, to compare their true sizes


def bits(setting: Setting, table: Sequence[int], reduced: Reduced) -> Sketch | None:
    """Draw the network; None where the setting does not allow it.

    Parameters
    ----------
    setting : Setting
        Weights must have a zero.
    table : sequence of int
        The activation.
    reduced : Reduced
        The target; at least one input makes a difference. A single one is read without a selector.
    """
    if not setting.has_zero or not reduced.axes:
        return None
    plans: list[_Plan] = []
    for last in reduced.axes if len(reduced.axes) > 1 else (None,):
        others = [axis for axis in reduced.axes if axis != last]
        f = reduced.table if last is None else np.moveaxis(reduced.table, last, -1)
        f = f.reshape(-1, 1 if last is None else f.shape[-1])
        for sources in _sources(setting, table, reduced, others, last):
            plans += _plans(sources, f)
    drawn = [_drawn(plan) for plan in sorted(plans, key=lambda plan: plan.cost)[:DRAWN]]
    made = [sketch for sketch in drawn if sketch is not None and sketch.realisable]
    return min(made, key=lambda sketch: sketch.size.parameters, default=None)


@dataclass(frozen=True, eq=False)
class _Sources:
    """What is read, at one level: gates that are 1 for a combination of the other inputs, or for a value of the selector.

    Attributes
    ----------
    draft : Draft
        With their neurons.
    level : int
        Theirs.
    prefix : sequence of Gate
        One per combination of the other inputs. If `steps`: of a single one, each 1 from a class on, without the first.
    steps : bool
        See there.
    selector : sequence of Gate
        One per class; a single one without terms where there is no selector.
    run : Run
        Of a neuron that reads them.
    weights : int
        Its parameters per term of the prefix.
    others : int
        Its other parameters.
    cost : float
        Parameters up to this level.
    """

    draft: Draft
    level: int
    prefix: Sequence[Gate]
    steps: bool
    selector: Sequence[Gate]
    run: Run
    weights: int
    others: int
    cost: float


@dataclass(frozen=True, eq=False)
class _Plan:
    """Parameters, and what is to be drawn: for every bit where it is 1 (combinations, classes), and how it grows."""

    cost: float
    sources: _Sources
    code: Bits
    ones: Sequence[np.ndarray]
    paths: Sequence[Path]


def _sources(
    setting: Setting, table: Sequence[int], reduced: Reduced, others: Sequence[int], last: int | None
) -> Iterator[_Sources]:
    """Indicators that rise by little: searched for where that does not take too long, else from ramps that are flat."""
    rows, order = rows_of_one(setting, tuple(table)), [*others, *([] if last is None else [last])]
    rises = Draft(setting, table, 1).rises()

    def read(on: Run, searched: bool) -> list[_Sources]:
        draft = Draft(setting, table, reduced.table.ndim)
        inputs = [peaks(draft, rows, reduced.direction(axis), reduced.labels[axis], on, searched) for axis in order]
        return [] if None in inputs else list(_read(draft, inputs, last is not None))

    found = [each for on in rises[:SEARCHED] for each in read(on, True)] if setting.p <= SEARCHED_P else []
    yield from found or next(filter(None, (read(on, False) for on in rises)), ())


def _read(draft: Draft, inputs: Sequence[Coordinate], selected: bool) -> Iterator[_Sources]:
    """Indicators of combinations, or steps of a single input, each with those of the selector, and how they are read."""
    level, gates = 2, [coordinate.gates for coordinate in inputs]
    steps = inputs[0].steps if len(inputs) == 1 + selected else None
    while len(gates) > 1 + selected:
        level += 1
        both = [[a, b] for a in gates[0] for b in gates[1]]
        gates = [_carried(draft, level, both), *(_carried(draft, level, [[g] for g in each]) for each in gates[2:])]
        if None in gates:
            return
    selector = gates[1] if selected else (Gate(()),)
    for prefix in (gates[0], steps):
        sources = None if prefix is None else _best_read(draft, level, prefix, prefix is steps, selector)
        if sources is not None:
            yield sources


def _carried(draft: Draft, level: int, each: Sequence[Sequence[Gate]]) -> list[Gate] | None:
    """A neuron for each AND of gates; None where they do not all rise alike."""
    signals = [draft.carry(level, gates) for gates in each]
    if None in signals or len({signal.amplitude for signal in signals}) > 1:
        return None
    return [Gate(((signal, 1),)) for signal in signals]


def _best_read(
    draft: Draft, level: int, prefix: Sequence[Gate], steps: bool, selector: Sequence[Gate]
) -> _Sources | None:
    """The sources, with the run in which a neuron reads them at the fewest weights, and rises most."""
    gates = [gate for gate in (prefix[0], selector[0]) if gate.terms]
    found = [(draft.conjunction(gates, run), run) for run in draft.rises()]
    made = [(weights + (offset != 0), c, run) for c, offset, weights, run in ((*m, run) for m, run in found if m)]
    if not made:
        return None
    least, coefficients, run = min(made, key=lambda m: (m[0], -abs(m[2].value - draft.runs[0].value)))
    weights = draft.copies(coefficients[prefix[0].terms[0][0].neuron])
    cost = draft.cost(level, [*prefix, *selector])
    if cost == inf:
        return None
    return _Sources(draft, level, prefix, steps, selector, run, weights, least - weights * len(prefix[0].terms), cost)


def _plans(sources: _Sources, f: np.ndarray) -> Iterator[_Plan]:
    """Ways to write values in bits, with every number of layers in which they may grow."""
    s, selected = sources.draft.setting.s, f.shape[1]
    growth = growth_of(sources.draft.setting, tuple(sources.draft.table), selected, sources.run)

    def read(weights: int) -> int:
        return sources.weights * weights + sources.others * selected

    @cache
    def growing(step: int) -> list[Path]:
        found = (growth.path(layers, step * s, s // 8) for layers in range(DEEPEST))
        return [path for path in found if path is not None]

    def price(step: int, count: int) -> float:
        row = read(min(count, f.size - count))
        return min((path.cost + path.copies * row for path in growing(step)), default=inf)

    counts = occurrences(f)
    for code in bit_codes(counts, price, CODES):
        ones = code.shown(f)
        rows = [read(int(_terms(sources, each).sum())) for each in ones]
        for layers in range(DEEPEST):
            paths = growth.paths(layers, code.steps, code.slack(s))
            if paths is not None:
                cost = sum(path.cost + path.copies * row for path, row in zip(paths, rows, strict=True))
                yield _Plan(sources.cost + cost, sources, code, ones, paths)


def _terms(sources: _Sources, ones: np.ndarray) -> np.ndarray:
    """Terms of the prefix that a neuron reads, for every class of the selector."""
    if sources.steps:
        return np.diff(ones, axis=0).sum(axis=0)
    many = ones.sum(axis=0)
    return np.minimum(many, len(ones) - many)


def _one_of(sources: _Sources, ones: np.ndarray) -> Gate:
    """Whether the prefix is one of those whose bit is 1."""
    if sources.steps:
        changes = np.diff(ones.astype(np.int64))
        terms = tuple((sources.prefix[i].terms[0][0], int(changes[i])) for i in np.flatnonzero(changes))
        return Gate(terms, int(ones[0]))
    many = 2 * int(ones.sum()) > len(ones)
    terms = tuple((s, -d if many else d) for i in np.flatnonzero(ones != many) for s, d in sources.prefix[i].terms)
    return Gate(terms, int(many))


def _drawn(plan: _Plan) -> Sketch | None:
    """All neurons of a plan; None where one cannot be made."""
    sources, draft = plan.sources, plan.sources.draft.copy()
    output: dict[int, int] = {}
    offset = plan.code.zero * draft.setting.s
    for ones, path in zip(plan.ones, plan.paths, strict=True):
        signals = []
        for y, selector in enumerate(sources.selector):
            if ones[:, y].any():
                gates = [gate for gate in (_one_of(sources, ones[:, y]), selector) if gate.terms]
                signals.append(draft.join(sources.level + 1, gates, path.runs[0]))
        resting = bring_out(draft, sources.level + 1, signals, path, output)
        if resting is None:
            return None
        offset -= resting
    draft.add(sources.level + 1 + len(plan.paths[0].runs), output, offset)
    return draft.sketch("bits")
