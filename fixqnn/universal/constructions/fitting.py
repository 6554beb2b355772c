"""A few weights for a sum that must lie between bounds at every point, found point by point.

Of many first-layer neurons, ramps of all slopes, few with the right weights give a sum that is above half a code here
and below it there: a random pattern of fifteen bits takes four or five of them. The search goes to the first point that is
wrong, puts it right by one more weight that spoils none before it, and keeps the most promising ways to go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

__all__ = ["Fit", "Fitter"]

WORK = 384  # ways that are kept, times points
CHOICES = 1 << 14  # further weights that are looked at together
COPIES = 8  # of a row in one sum, at most
PROGRESS, WRONG = 1.0, 0.2  # parameters that a further point in order is worth, and that a wrong one costs
AHEAD = 0.85  # how much less a wrong point counts than the one before it


@dataclass(frozen=True)
class Fit:
    """What a sum costs in weights, copies of rows and its start; the start and its cost; and the coefficients of rows."""

    cost: int
    start: int
    paid: int
    coefficients: dict[int, int]


class Fitter:
    """Finds weights for one sum after another; a row that an earlier one reads costs nothing but the weight.

    Parameters
    ----------
    values : ndarray of int
        Rows (rows, points), the points in the order in which they are put right.
    parameters : ndarray of int
        What a copy of each row costs.
    largest : int
        The largest weight.
    """

    def __init__(self, values: np.ndarray, parameters: np.ndarray, largest: int) -> None:
        self.values, self.parameters, self.largest = values, parameters, largest
        inverse = np.divide(1.0, values, out=np.zeros(values.shape), where=values != 0)
        free = np.where(values == 0, float(COPIES * largest), 0.0)  # a row does not matter to a point at which it is 0
        # for every point the rows that move it, and how they bear on all points up to there
        self.moving = []
        for x in range(values.shape[1]):
            rows = np.flatnonzero(values[:, x])
            self.moving.append((rows, inverse[rows, : x + 1], free[rows, : x + 1]))
        self.copies = np.zeros(len(values), np.int64)

    def fit(
        self, low: np.ndarray, high: np.ndarray, starts: Sequence[tuple[int, int]], most: float = inf
    ) -> Fit | None:
        """Weights for a sum between `low` and `high` at every point.

        Parameters
        ----------
        low, high : ndarray of int
            The bounds.
        starts : sequence of (int, int)
            What the sum may be without any row, and what that costs.
        most : float
            Sums that cost so much are of no use.

        Returns
        -------
        Fit or None
            None if nothing is found.

        Examples
        --------
        >>> ramps, peak = np.array([[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1]]), np.array([0, 5, 0, 0])
        >>> Fitter(ramps, np.ones(3, int), 7).fit(peak, peak, [(0, 0)])
        Fit(cost=8, start=0, paid=0, coefficients={0: 5, 1: -10, 2: 5})
        """
        sums = np.repeat(np.array([[start] for start, _ in starts], np.int64), len(low), axis=1)
        costs = np.array([cost for _, cost in starts], np.int64)
        ways: list[tuple[int, tuple[tuple[int, int], ...]]] = [(start, ()) for start, _ in starts]
        best = None
        for _ in range(3 * len(low)):
            wrong = (sums < low) | (sums > high)
            right = np.flatnonzero(~wrong.any(axis=1) & (costs < most))
            if right.size:
                i = int(right[np.argmin(costs[right])])
                best, most = (int(costs[i]), *ways[i]), int(costs[i])
            going = np.flatnonzero(wrong.any(axis=1) & (costs + 1 < most))
            found = [self._further(i, sums[i], int(costs[i]), int(wrong[i].argmax()), low, high) for i in going]
            if not found:
                break
            way, row, c, cost = (np.concatenate(part) for part in zip(*found, strict=True))
            few = np.argsort(cost, kind="stable")[:CHOICES]
            way, row, c, cost = way[few], row[few], c[few], cost[few]
            made = sums[way] + c[:, None] * self.values[row]
            keep = self._promising(made, cost, low, high)
            ways = [(ways[way[i]][0], (*ways[way[i]][1], (int(row[i]), int(c[i])))) for i in keep]
            sums, costs = made[keep], cost[keep]
        if best is None:
            return None
        _, start, steps = best
        coefficients: dict[int, int] = {}
        for number, c in steps:
            coefficients[number] = coefficients.get(number, 0) + c
        coefficients, paid = {number: c for number, c in coefficients.items() if c}, dict(starts)[start]
        return Fit(paid + self.cost(coefficients), start, paid, coefficients)

    def cost(self, coefficients: Mapping[int, int]) -> int:
        """Weights of a sum, and copies of rows that are not there for another."""
        copies = {row: -(-abs(c) // self.largest) for row, c in coefficients.items()}
        new = sum(max(n - int(self.copies[row]), 0) * int(self.parameters[row]) for row, n in copies.items())
        return sum(copies.values()) + new

    def keep(self, sums: Iterable[Mapping[int, int]]) -> None:
        """Count the rows of these sums as there, and no others."""
        self.copies[:] = 0
        for coefficients in sums:
            for row, c in coefficients.items():
                self.copies[row] = max(self.copies[row], -(-abs(c) // self.largest))

    def _further(
        self, way: int, sums: np.ndarray, cost: int, x: int, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ways, rows, coefficients and costs of one more weight with which all points up to x are right."""
        most, (rows, inverse, free) = COPIES * self.largest, self.moving[x]
        a, b = (low[: x + 1] - sums[: x + 1]) * inverse, (high[: x + 1] - sums[: x + 1]) * inverse
        least, largest = (np.minimum(a, b) - free).max(axis=1), (np.maximum(a, b) + free).min(axis=1)
        # quotients of whole numbers far below 2^40: a whole one may be off by less than the margin, others by more
        least, largest = np.maximum(np.ceil(least - 1e-6), -most), np.minimum(np.floor(largest + 1e-6), most)
        fits = np.flatnonzero(least <= largest)
        rows, first, last = rows[fits], least[fits].astype(np.int64), largest[fits].astype(np.int64)
        nearest = np.clip(0, first, last)
        whole = np.clip(np.where(nearest > 0, self.largest, -self.largest), first, last)
        c = np.concatenate([nearest, (nearest + whole) // 2, whole])
        rows = np.tile(rows, 3)
        copies = -(-np.abs(c) // self.largest)
        cost = cost + copies + np.maximum(copies - self.copies[rows], 0) * self.parameters[rows]
        return np.full(len(rows), way), rows, c, cost

    def _promising(self, sums: np.ndarray, costs: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[int]:
        """The ways to keep: cheap ones that are right far, and wrong at few points."""
        wrong = (sums < low) | (sums > high)
        first = np.where(wrong.any(axis=1), wrong.argmax(axis=1), sums.shape[1])
        ahead = AHEAD ** np.maximum(np.arange(sums.shape[1]) - first[:, None], 0)
        kept: dict[bytes, int] = {}
        for i in np.argsort(costs - PROGRESS * first + WRONG * (wrong * ahead).sum(axis=1), kind="stable").tolist():
            kept.setdefault(sums[i, first[i] :].tobytes(), i)
            if len(kept) * sums.shape[1] >= WORK:
                break
        return list(kept.values())
