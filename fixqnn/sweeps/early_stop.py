"""When a point may be given up after a part of the test set: an exact bound, not a guess.

The samples are looked at in a random order. Of a point that gets R of all N samples right, the number right among the first
n is then hypergeometric, and R is bounded above by the largest R for which so few would still be plausible
(C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26, 1934, for draws without replacement). Chances of error add up at most (Bonferroni): the `error` that is
allowed is divided by the looks and by *all* points that the space holds, not only by those that are tried. So it bounds the
chance that any point at all is given up wrongly, however the points tried were picked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.metrics import accuracy
from fixqnn.sweeps.constraints import ANYTHING, Constraint, Interval, Number, exact

SHARES = (32, 8)  # looks are at a 32nd and at an 8th of the samples: they cost a survivor 16 % more
FEWEST = 16  # samples of a look
NOTHING = 1e-18  # share of a sum that is not added any more
# What a part of the samples tells of the whole: all of it, or that it is at least so much.
EXACT = ("weight_bits", "value_bits", "macs", "bit_operations", "accumulator_bits", "float_accuracy")
GROWING = ("events", "clips", "changed")


@dataclass(frozen=True)
class EarlyStop:
    """The rule: after which numbers of samples to look, and how sure to be.

    Attributes
    ----------
    total : int
        Samples of the whole test set.
    error : float
        Chance, over the order of the samples, that any point of the space is given up although it keeps all constraints
        and belongs to the front.
    points : int
        How many points the space holds.
    looks : tuple of int
        Numbers of samples after which to look, growing.
    """

    total: int
    error: float
    points: int
    looks: tuple[int, ...]

    @property
    def error_of_a_look(self) -> float:
        """Chance of a wrong end at one look at one point."""
        return self.error / (self.points * max(1, len(self.looks)))

    def bounds(self, row: Mapping[str, Any]) -> dict[str, Interval]:
        """Say, of a row measured on the first samples, between what its numbers on all of them lie.

        What is not listed may be anything. Exact numbers need no luck, nor do counts, which only grow.

        Examples
        --------
        >>> rule = EarlyStop(1000, 0.01, 100, (32, 128))
        >>> limits = rule.bounds({"right": 8, "samples_used": 32, "events": 5, "bit_operations": 640})
        >>> limits["accuracy"][1] < 0.7, limits["events"], limits["bit_operations"]
        (True, (Fraction(5, 1), inf), (Fraction(640, 1), Fraction(640, 1)))
        """
        found: dict[str, Interval] = {"total": (Fraction(self.total), Fraction(self.total))}
        for name in EXACT:
            if (number := exact(row, name)) is not None:
                found[name] = number, number
        for name in GROWING:
            if (number := exact(row, name)) is not None:
                found[name] = number, math.inf
        if row.get("right") is not None:
            right = int(row["right"])
            most = right_limit(right, int(row["samples_used"]), self.total, self.error_of_a_look)
            found["right"] = Fraction(right), Fraction(most)
            found["accuracy"] = Fraction(right, self.total), Fraction(most, self.total)
            ends = [_interval(count, self.total) for count in (right, most)]
            for place, name in enumerate(("accuracy_low", "accuracy_high")):
                found[name] = ends[0][place], ends[1][place]
        return found

    def reason(
        self,
        row: Mapping[str, Any],
        constraints: Iterable[Constraint],
        objectives: Mapping[str, int],
        front: Sequence[Mapping[str, Any]],
    ) -> str:
        """Say why a point need not be measured any further; empty where it may still be wanted.

        Parameters
        ----------
        row : mapping
            What the first ``row["samples_used"]`` samples gave.
        constraints : iterable of Constraint
            Limits that a wanted point keeps.
        objectives : mapping of str to int
            By column: 1 where more is better, −1 where less is.
        front : sequence of mapping
            Rows on all samples that keep the constraints.
        """
        limits = self.bounds(row)
        seen = f"after {row['samples_used']} of {self.total} samples"
        right = f" ({row['right']} right, at most {limits['right'][1]} in all)" if "right" in limits else ""
        for one in constraints:
            if one.hopeless(limits):
                return f"{seen}{right}: {one.text} cannot hold"
        best = {name: _best(limits.get(name, ANYTHING), sign) for name, sign in objectives.items()}
        for member in front:
            if dominates({name: exact(member, name) for name in objectives}, best, objectives):
                return f"{seen}{right}: at its best still dominated by {_name(member)}"
        return ""


def early_stop(total: int, error: float, points: int) -> EarlyStop | None:
    """Make the rule for a test set; None where there is nothing to gain: an error of 0, or a small test set.

    >>> early_stop(1000, 0.01, 49)
    EarlyStop(total=1000, error=0.01, points=49, looks=(31, 125))
    >>> early_stop(50, 0.01, 49) is None
    True
    """
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 <= error < 1:
        raise BadInput(f"early_stop is a chance of error, at least 0 (never stop early) and below 1, not {error!r}")
    looks = tuple(n for n in (total // share for share in SHARES) if n >= FEWEST)
    return EarlyStop(total, float(error), points, looks) if error and looks else None


def right_limit(right: int, seen: int, total: int, error: float) -> int:
    """Bound how many of all samples a point gets right, from how many it got right among the first, in random order.

    The largest R with P(X ≤ right) > error, X hypergeometric: of `total` samples R are right, `seen` are drawn. The chance
    that the true R is larger is at most `error`.

    Parameters
    ----------
    right, seen, total : int
        Right answers so far, samples so far, and all samples.
    error : float
        Chance of being wrong.

    Examples
    --------
    >>> right_limit(10, 20, 100, 0.01), right_limit(10, 20, 100, 1e-12), right_limit(0, 100, 100, 0.01)
    (73, 90, 0)
    """
    low, high = right, right + total - seen  # with `low` it is plausible, above `high` impossible
    while low < high:
        middle = (low + high + 1) // 2
        if tail(right, middle, seen, total) > error * (1 - 1e-6):  # so that rounding only ever keeps a point
            low = middle
        else:
            high = middle - 1
    return low


def tail(right: int, all_right: int, seen: int, total: int) -> float:
    """P(X ≤ right), X hypergeometric: how many of `seen` samples are right, when `all_right` of `total` are.

    >>> tail(1, 5, 2, 10)  # 1 - (5/10)(4/9)
    0.77777777777...
    """
    wrong = total - all_right
    least, most = max(0, seen - wrong), min(right, all_right, seen)
    if most < least:
        return 0.0
    # From the likeliest count outwards, each chance as a multiple of the last one and all as multiples of the first.
    start = max(least, min(most, (seen + 1) * (all_right + 1) // (total + 2)))
    logarithm = _choices(all_right, start) + _choices(wrong, seen - start) - _choices(total, seen)
    term, together = 1.0, 1.0
    for count in range(start, least, -1):
        term *= count * (wrong - seen + count) / ((all_right - count + 1) * (seen - count + 1))
        together += term
        if term < NOTHING * together:
            break
    term = 1.0
    for count in range(start, most):
        term *= (all_right - count) * (seen - count) / ((count + 1) * (wrong - seen + count + 1))
        together += term
        if term < NOTHING * together:
            break
    return min(1.0, math.exp(logarithm) * together)


def _choices(of: int, some: int) -> float:
    """Logarithm of a binomial coefficient."""
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def dominates(
    one: Mapping[str, Number | None], other: Mapping[str, Number | None], objectives: Mapping[str, int]
) -> bool:
    """Whether `one` is nowhere worse and somewhere better; what has no number is worse than all numbers.

    >>> dominates({"accuracy": 0.9, "events": 0}, {"accuracy": 0.9, "events": 3}, {"accuracy": 1, "events": -1})
    True
    """
    pairs = [
        tuple(-math.inf if record[name] is None else sign * record[name] for record in (one, other))
        for name, sign in objectives.items()
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _interval(right: int, total: int) -> tuple[Fraction, Fraction]:
    """Ends of the interval of an accuracy, as rows have it."""
    found = accuracy(np.arange(total) < right, np.ones(total, np.int64))
    return Fraction(found.low), Fraction(found.high)


def _best(interval: Interval, sign: int) -> Number:
    return interval[1] if sign > 0 else interval[0]


def _name(row: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in dict(row.get("settings", {})).items())
    return f"{settings} on {row.get('machine', '?')}"
