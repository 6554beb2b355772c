"""One input: its values in bits, each bit a pattern along the input that few first-layer neurons give (weights with a zero).

Or, without bits, the positive values by one neuron and the negative ones by another, where weights are large enough for
sums that jump by many codes. Which first-layer neurons a second-layer neuron reads is searched for (`fitting`); all of them
share the same ones. Bits then grow through narrow layers as they do in `bits`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np

from fixqnn.universal.constructions.coordinate import first_neuron, rows_of_one
from fixqnn.universal.constructions.draft import Draft, Signal
from fixqnn.universal.constructions.growth import DEEPEST, Path, bring_out, growth_of
from fixqnn.universal.constructions.line import SEARCHED_P, Line
from fixqnn.universal.constructions.radix import bit_codes
from fixqnn.universal.constructions.reduction import Reduced, occurrences
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["patterns"]

CODES = 2  # ways to write values in bits that are searched for


@dataclass(frozen=True, eq=False)
class _Part:
    """What a second-layer neuron must show: bounds of its sum for every value, and how it goes on from there."""

    low: np.ndarray
    high: np.ndarray
    path: Path


def patterns(setting: Setting, table: Sequence[int], reduced: Reduced) -> Sketch | None:
    """Draw the network; None where more than one input makes a difference, or no weights are found."""
    if not setting.has_zero or len(reduced.axes) != 1 or setting.p > SEARCHED_P:
        return None
    (axis,) = reduced.axes
    rows, target = rows_of_one(setting, tuple(table)), reduced.table.reshape(-1)[reduced.labels[axis]]
    ways = list(_ways(Draft(setting, table, 1), target))
    for halves in (True, False):
        made = []
        for zero, parts in ways:
            draft = Draft(setting, table, reduced.table.ndim)
            if _draw(draft, Line(draft, rows, halves), reduced.direction(axis), zero, parts):
                made.append(draft.sketch("patterns"))
        made = [sketch for sketch in made if sketch.realisable]
        if made:
            return min(made, key=lambda sketch: sketch.size.parameters)
    return None


def _ways(draft: Draft, target: np.ndarray) -> Iterator[tuple[int, list[_Part]]]:
    """The code from which parts count, and the parts: signed, where the activation has all values for them; and bits."""
    s, off, rises = draft.setting.s, draft.runs[0], draft.rises()
    if not rises:
        return
    levels = {run.value - off.value: run for run in rises}
    if all(abs(k) in levels for k in target.tolist() if k):
        parts = []
        for sign in (1, -1):
            runs = [levels[sign * k] if sign * k > 0 else off for k in target.tolist()]
            low, high = np.array([run.low for run in runs]), np.array([run.high for run in runs])
            parts.append(_Part(low, high, Path(0, 1, (rises[0],), sign * s)))
        yield 0, parts
    on, growth = rises[0], growth_of(draft.setting, tuple(draft.table), 1, rises[0])
    reading = len(target) // 4  # weights of a random pattern, about

    def cost(layers: int, steps: Sequence[int], slack: int) -> float:
        paths = growth.paths(layers, steps, slack)
        return inf if paths is None else sum(path.cost + path.copies * reading for path in paths)

    @cache
    def least(step: int) -> float:
        return min(cost(layers, [step], s // 8) for layers in range(DEEPEST))

    counts = occurrences(target)
    for code in bit_codes(counts, lambda step, _: least(step), CODES):
        slack = code.slack(s)
        layers = min(range(DEEPEST), key=lambda number: cost(number, code.steps, slack))
        paths = growth.paths(layers, code.steps, slack)
        if paths is not None:
            yield (
                code.zero,
                [
                    _Part(np.where(one, on.low, off.low), np.where(one, on.high, off.high), path)
                    for one, path in zip(code.shown(target), paths, strict=True)
                ],
            )


def _draw(draft: Draft, line: Line, direction: Sequence[int], zero: int, parts: Sequence[_Part]) -> bool:
    """Add all neurons; False where one cannot be made."""
    output: dict[int, int] = {}
    offset = zero * draft.setting.s
    sums = line.neurons([(part.low, part.high) for part in parts])
    if None in sums:
        return False
    for part, (coefficients, start) in zip(parts, sums, strict=True):
        sources = {first_neuron(draft, line.rows, row, direction): c for row, c in coefficients.items()}
        signal = Signal(2, draft.add(2, sources, start), draft.runs[0].value, part.path.runs[0].value)
        resting = bring_out(draft, 2, [signal], part.path, output)
        if resting is None:
            return False
        offset -= resting
    draft.add(2 + len(parts[0].path.runs), output, offset)
    return True
