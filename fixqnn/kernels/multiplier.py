"""Rational factors as integer multipliers: acc·m >> s in place of a division, where that is proved to round alike.

The proof looks at sums. For all j >= 0 the rounded j·m/2^s is never below the rounded j·R if m/2^s >= R, and never above it if
m/2^s <= R. So all of them up to a bound are equal if and only if their totals are, and a total of floors takes a few
steps of Euclid's algorithm, however many floors there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from fixqnn.arith.fast import WIDEST, mode_flags
from fixqnn.modes import Rounding


def mode_without_ties(ratios: Iterable[Fraction], bound: int, rounding: Rounding) -> Rounding:
    """The cheapest mode that rounds acc·ratio alike: where nothing lies half way, all modes to the nearest are one.

    acc·p/q lies half way for the odd multiples of q/2, if q is even.

    >>> [mode_without_ties([Fraction(1, q)], 1000, Rounding.half_even) for q in (9, 6)]
    ['half_up', 'half_even']
    """
    ties = any(r.denominator % 2 == 0 and r.denominator // 2 <= bound for r in ratios)
    return Rounding.half_up if rounding.nearest and not ties else rounding


@lru_cache(maxsize=1 << 16)
def multiplier_for(ratio: Fraction, bound: int, rounding: Rounding, reach: int | None = None) -> tuple[int, int] | None:
    """Find (m, s) such that acc·m / 2^s rounds as acc·ratio does for all |acc| <= bound, products below 2^61.

    None: there is no proof, so nothing is claimed.

    Parameters
    ----------
    ratio, bound, rounding
        What is to be computed.
    reach : int, optional
        Results beyond this magnitude need only stay beyond it: a register that clamps makes one of them all. Both sides
        are monotone in acc, so that the proof may stop at the first acc that arrives there.

    Examples
    --------
    >>> multiplier_for(Fraction(1, 9), 1000, Rounding.half_up)
    (2001599834386888, 54)
    """
    if rounding in (Rounding.half_even, Rounding.half_odd, Rounding.stochastic) or ratio <= 0:
        return None
    furthest = bound if reach is None else min(bound, int((reach + 2) / ratio) + 1)
    shift = WIDEST - 1 - int(bound * ratio + 1).bit_length()
    below = (ratio.numerator << max(shift, 0)) // ratio.denominator
    for m in (below + 1, below):
        if (
            shift > 0
            and m > 0
            and (bound * m) >> (WIDEST - 1) == 0
            and rounds_alike(ratio, m, shift, furthest, rounding)
        ):
            return m, shift
    return None


def rounds_alike(ratio: Fraction, m: int, shift: int, bound: int, rounding: Rounding) -> bool:
    """Whether round(acc·ratio) and round(acc·m / 2^shift) are one for every whole acc with |acc| <= bound."""
    for negative in (False, True):
        totals = [_total(a, b, bound, rounding, negative) for a, b in (ratio.as_integer_ratio(), (m, 1 << shift))]
        if totals[0] != totals[1]:
            return False
    return True


def floor_sum(count: int, a: int, b: int, divisor: int) -> int:
    """Σ floor((a·j + b) / divisor) for j = 0 … count − 1; nothing is negative.

    >>> floor_sum(5, 3, 1, 2), sum((3 * j + 1) // 2 for j in range(5))
    (16, 16)
    """
    total = 0
    while count:
        total += count * (count - 1) // 2 * (a // divisor) + count * (b // divisor)
        a, b = a % divisor, b % divisor
        count, b = divmod(a * count + b, divisor)  # count points under the line, row by row
        a, divisor = divisor, a
    return total


def _total(a: int, b: int, bound: int, rounding: Rounding, negative: bool) -> int:
    """Sum of |round(±j·a/b)| for j = 0 … bound, for a mode that needs no parity: floor((2aj + lift) / 2b)."""
    nearest, tie_positive, tie_negative, _, _, any_positive, any_negative = mode_flags(rounding)
    if nearest:
        lift = b if (tie_negative if negative else tie_positive) else b - 1
    else:
        lift = 2 * b - 1 if (any_negative if negative else any_positive) else 0
    return floor_sum(bound + 1, 2 * a, lift, 2 * b)
