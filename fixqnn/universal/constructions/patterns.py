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

from fixqnn.universal.constructions.code import Neurons
from fixqnn.universal.constructions.coordinate import first_neuron, rows_of_one
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.fitting import Fit, Fitter
from fixqnn.universal.constructions.growth import Growth, Path
from fixqnn.universal.constructions.radix import bit_codes
from fixqnn.universal.constructions.reduction import Reduced
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.grid import Setting

__all__ = ["patterns"]

MOST_P = 5  # the search takes a time that grows with the square of the number of values
DEEPEST = 8  # layers in which bits may grow
CODES = 2  # ways to write values in bits that are searched for
SWEEPS = 2  # over all neurons
OFFSETS = 4  # to begin with, that are looked at for every neuron


@dataclass(frozen=True, eq=False)
class _Part:
    """What a second-layer neuron must show: bounds of its sum for every value, and how it goes on from there."""

    low: np.ndarray
    high: np.ndarray
    path: Path


def patterns(setting: Setting, table: Sequence[int], reduced: Reduced) -> Sketch | None:
    """Draw the network; None where more than one input makes a difference, or no weights are found."""
    if not setting.has_zero or len(reduced.axes) != 1 or setting.p > MOST_P:
        return None
    (axis,) = reduced.axes
    rows, target = rows_of_one(setting, tuple(table)), reduced.table.reshape(-1)[reduced.labels[axis]]
    ways = list(_ways(Draft(setting, table, 1), target))
    for halves in (True, False):
        made = []
        for zero, parts in ways:
            draft = Draft(setting, table, reduced.table.ndim)
            if _draw(draft, _Line(draft, rows, halves), reduced.direction(axis), zero, parts):
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
    on, growth = rises[0], Growth(draft, 1, rises[0])
    reading = len(target) // 4  # weights of a random pattern, about

    def cost(layers: int, steps: Sequence[int], slack: int) -> float:
        paths = [growth.path(layers, step * s, slack) for step in steps]
        return inf if None in paths else sum(path.cost + path.copies * reading for path in paths)

    @cache
    def least(step: int) -> float:
        return min(cost(layers, [step], s // 8) for layers in range(DEEPEST))

    counts = dict(zip(*(v.tolist() for v in np.unique(target, return_counts=True)), strict=True))
    for code in bit_codes(counts, lambda step, _: least(step), CODES):
        slack = (s - 1) // 2 // code.digits
        layers = min(range(DEEPEST), key=lambda number: cost(number, code.steps, slack))
        paths = [growth.path(layers, step * s, slack) for step in code.steps]
        if None not in paths:
            parts = []
            for j, path in enumerate(paths):
                one = np.isin(target, [k for k, bits in code.ones.items() if j in bits])
                parts.append(_Part(np.where(one, on.low, off.low), np.where(one, on.high, off.high), path))
            yield code.zero, parts


def _draw(draft: Draft, line: _Line, direction: Sequence[int], zero: int, parts: Sequence[_Part]) -> bool:
    """Add all neurons; False where one cannot be made."""
    output: dict[int, int] = {}
    offset = zero * draft.setting.s
    sums = line.neurons([(part.low, part.high) for part in parts])
    if sums is None:
        return False
    for part, (coefficients, start) in zip(parts, sums, strict=True):
        sources = {first_neuron(draft, line.rows, row, direction): c for row, c in coefficients.items()}
        signal = Signal(2, draft.add(2, sources, start), draft.runs[0].value, part.path.runs[0].value)
        for level, run in enumerate(part.path.runs[1:], 3):
            grown = draft.join(level, [Gate(((signal, 1),))], run)
            if grown is None:
                return False
            signal = grown
        output[signal.neuron] = output.get(signal.neuron, 0) + part.path.weight
        offset -= part.path.weight * signal.off
    draft.add(2 + len(parts[0].path.runs), output, offset)
    return True


class _Line:
    """First-layer neurons over all values of an input, and sums of them that lie between bounds.

    From the middle outward, by rows that move on one side only, the two sides are independent of each other, and so
    short that better weights are found. Where there are no such rows, all of them serve all values together.
    """

    def __init__(self, draft: Draft, rows: Neurons, halves: bool) -> None:
        self.draft, self.rows, self.halves = draft, rows, halves
        n, middle = rows.values.shape[1], rows.values.shape[1] // 2
        sides = [(np.arange(middle, n), np.arange(middle + 1)), (np.arange(middle, -1, -1), np.arange(middle, n))]
        if not halves:
            sides = [(np.argsort(np.abs(np.arange(n) - middle), kind="stable"), np.arange(0))]
        self.still = rows.values[:, middle] if halves else np.zeros(len(rows.values), np.int64)
        moved, parameters = rows.values - self.still[:, None], 1 + (rows.biases != 0)
        self.sides = []
        for points, rest in sides:
            numbers = np.flatnonzero(~moved[:, rest].any(axis=1))
            shown = np.abs(self.still[numbers])  # goes into the offset: the least is the best
            numbers = numbers[shown == shown.min(initial=draft.setting.largest)]
            values = draft.unit * moved[numbers][:, points]
            self.sides.append((points, numbers, Fitter(values, parameters[numbers], draft.largest // draft.unit)))

    def neurons(self, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[dict[int, int], int]] | None:
        """Coefficients of rows, and the offset, for sums between bounds; None if one is not found.

        Each is searched for once more when all are there, since then it can read what others read.
        """
        found: list[list[Fit] | None] = [None] * len(bounds)
        for _ in range(SWEEPS):
            for j, (low, high) in enumerate(bounds):
                others = [fits for i, fits in enumerate(found) if i != j and fits is not None]
                for side, (_, _, fitter) in enumerate(self.sides):
                    fitter.keep(fits[side].coefficients for fits in others)
                fits, most = found[j], inf
                if fits is not None:
                    sides = zip(self.sides, fits, strict=True)
                    most = fits[0].paid + sum(fitter.cost(fit.coefficients) for (_, _, fitter), fit in sides)
                found[j] = self._fit(low, high, most) or fits
                if found[j] is None:
                    return None
        return [self._sum(fits) for fits in found]

    def _fit(self, low: np.ndarray, high: np.ndarray, most: float) -> list[Fit] | None:
        """The sides of a sum between bounds that costs less than `most`."""
        best, starts = None, self._starts(low, high)
        for begin in [[start] for start in starts] if self.halves else [starts]:  # both halves have the same start
            found, spent = [], 0
            for points, _, fitter in self.sides:
                fit = fitter.fit(low[points], high[points], [(found[0].start, 0)] if found else begin, most - spent)
                if fit is None:
                    break
                found.append(fit)
                spent += fit.cost
            else:
                if spent < most:
                    best, most = found, spent
        return best

    def _sum(self, fits: Sequence[Fit]) -> tuple[dict[int, int], int]:
        coefficients, offset = {}, fits[0].start
        for (_, numbers, _), fit in zip(self.sides, fits, strict=True):
            for number, c in fit.coefficients.items():
                row = int(numbers[number])
                coefficients[row] = coefficients.get(row, 0) + c * self.draft.unit
                offset -= c * self.draft.unit * int(self.still[row])
        return coefficients, offset

    def _starts(self, low: np.ndarray, high: np.ndarray) -> list[tuple[int, int]]:
        """Sums to begin with, from a bias or a constant neuron, and what these cost; the cheapest and smallest first."""
        setting, middle = self.draft.setting, len(low) // 2
        least, most = int(high.min()) - 4 * setting.s, int(low.max()) + setting.s
        if self.halves:
            least, most = max(least, int(low[middle])), min(most, int(high[middle]))
        found: dict[int, int] = {}
        for unit, cost in ((setting.bias_unit, 1), (abs(self.draft.table[-1]) * self.draft.unit, 2)):
            if unit:
                for start in range(-(-least // unit) * unit, most + 1, unit):
                    if setting.bias_limit is None or abs(start) <= setting.bias_limit:
                        found.setdefault(start, cost if start else 0)
        return sorted(found.items(), key=lambda each: (each[1], abs(each[0])))[:OFFSETS]
