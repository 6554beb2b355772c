"""First-layer neurons over all values of one input, and sums of a few of them that lie between bounds."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from fixqnn.universal.constructions.code import Neurons
from fixqnn.universal.constructions.draft import Draft
from fixqnn.universal.constructions.fitting import Fit, Fitter

__all__ = ["SEARCHED_P", "Line"]

SEARCHED_P = 5  # the search takes a time that grows with the square of the number of values
SWEEPS = 2  # over all sums that are wanted together
OFFSETS = 4  # to begin with, that are looked at for every sum


class Line:
    """Finds second-layer neurons that read one input, and share the first-layer neurons that they read.

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

    def neurons(self, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[dict[int, int], int] | None]:
        """Coefficients of rows, and the offset, for sums between bounds; None for one that is not found.

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
        return [None if fits is None else self._sum(fits) for fits in found]

    def _fit(self, low: np.ndarray, high: np.ndarray, most: float) -> list[Fit] | None:
        """The sides of a sum between bounds that costs less than `most`."""
        best, starts = None, self._starts(low, high)
        begins = [[start] for start in starts] if self.halves else [starts] * bool(starts)  # halves have one in common
        for begin in begins:
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
