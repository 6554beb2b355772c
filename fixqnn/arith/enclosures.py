"""Elementary functions over intervals: every result encloses the true value, whatever was rounded on the way.

mpmath's interval arithmetic rounds outwards at each operation. It lacks erfc and a log1p that is sharp near zero;
here they are, erfc from series whose remainders are enclosed too.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

__all__ = ["bounds", "intervals"]

_PER_THREAD = threading.local()


def intervals(bits: int) -> SimpleNamespace:
    """Elementary functions over intervals of `bits` bits, in a context of this thread's own.

    >>> m = intervals(64)
    >>> low, high = bounds(m.erfc(m.number(Fraction(1, 2))))
    >>> float(low), float(high), 0 < high - low < Fraction(1, 2**60)
    (0.4795001221869535, 0.4795001221869535, True)
    """
    if not hasattr(_PER_THREAD, "context"):
        from mpmath.ctx_iv import MPIntervalContext

        _PER_THREAD.context = MPIntervalContext()
    context = _PER_THREAD.context
    context.prec = bits
    return SimpleNamespace(
        **{name: getattr(context, name) for name in ("exp", "log", "sqrt", "sin", "cos")},
        pi=+context.pi,
        log1p=lambda x: _log1p(context, bits, x),
        erfc=lambda x: _erfc(context, bits, x),
        number=lambda value: context.mpf(value.numerator) / context.mpf(value.denominator),
    )


def bounds(interval: Any, most: int | None = None) -> tuple[Fraction, Fraction] | None:
    """The ends of an interval; None where one is infinite, or has an exponent beyond `most` bits.

    >>> bounds(intervals(10).number(Fraction(3, 4)))
    (Fraction(3, 4), Fraction(3, 4))
    """
    ends = []
    for negative, mantissa, exponent, size in interval._mpi_:
        if (not mantissa and exponent) or (most is not None and mantissa and abs(exponent + size) > most):
            return None
        ends.append((-mantissa if negative else mantissa) * Fraction(2) ** exponent)
    return tuple(ends)


def _log1p(context: Any, bits: int, x: Any) -> Any:
    """log(1 + x) for x > 0: between x − x²/2 and x; where that is not sharp, at twice the precision."""
    if x.b < context.mpf(2) ** -bits:
        return context.mpf([(x.a - x.a * x.a / 2).a, x.b])
    context.prec = 2 * bits + 8
    result = context.log(1 + x)
    context.prec = bits
    return +result


def _erfc(context: Any, bits: int, x: Any) -> Any:
    """The function erfc for x ≥ 0: at the lower end, less at most what its slope, −2/√π·exp(−x²), takes off."""
    low, high = x.a, x.b
    square = float(low.mid) ** 2 if low < 2**100 else float(2**200)
    # 1 − erf loses x²·log₂e bits
    context.prec = bits + 16 if square > bits else bits + int(1.5 * square) + 32
    near = context.exp(-low * low) / context.sqrt(context.pi)
    value = near * _far_sum(context, low) / low if square > bits else 1 - 2 * near * _near_sum(context, low)
    value = context.mpf([(value.a - 2 * (near * (high - low)).b).a, value.b])
    context.prec = bits
    return +value


# The two sums are formed in whole numbers of unit 2⁻ᵖʳᵉᶜ, one rounded down all along, one up.


def _near_sum(context: Any, x: Any) -> Any:
    """Σ 2ⁿ x²ⁿ⁺¹ / (1·3···(2n+1)); erf(x) is 2/√π·exp(−x²) times it. Once 2x² < n + 3/2, terms more than halve."""
    one = 1 << context.prec
    point = bounds(x)[0]
    low, high = _down(point * one), _up(point * one)
    twice = 2 * point * point * one
    twice_low, twice_high = _down(twice), _up(twice)
    total_low, total_high, n = low, high, 0
    while high > 1 or twice_high >= (2 * n + 3) * one // 2:
        n += 1
        low = low * twice_low // (one * (2 * n + 1))
        high = -(-high * twice_high // (one * (2 * n + 1)))
        total_low, total_high = total_low + low, total_high + high
    return context.mpf([total_low, total_high + 2 * high]) / one


def _far_sum(context: Any, x: Any) -> Any:
    """Σ (−1)ⁿ (2n−1)!! / (2x²)ⁿ; erfc(x) is exp(−x²)/(x√π) times what lies between any two partial sums in a row."""
    one = 1 << context.prec
    low = high = total_low = total_high = one
    twice = 2 * bounds(x)[0] ** 2
    n, before = 0, (one, one)
    while high > 1 and 2 * n + 1 < twice:
        n += 1
        before = total_low, total_high
        factor = (2 * n - 1) / twice
        low = low * factor.numerator // factor.denominator
        high = -(-high * factor.numerator // factor.denominator)
        total_low, total_high = (
            (total_low + low, total_high + high) if n % 2 == 0 else (total_low - high, total_high - low)
        )
    return context.mpf([min(before[0], total_low), max(before[1], total_high)]) / one


def _down(value: Fraction) -> int:
    return value.numerator // value.denominator


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
