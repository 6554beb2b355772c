"""Elementary functions over intervals: every result encloses the true value, whatever was rounded on the way.

mpmath's interval arithmetic rounds outwards at each operation. It lacks erfc and a log1p that is sharp near zero;
here they are, from series whose remainders are enclosed too.
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
    """The function erfc for x ≥ 0; it falls, so the ends of an interval give the ends of the result."""
    low, high = (_erfc_at(context, bits, end) for end in (x.b, x.a))
    return context.mpf([low.a, high.b])


def _erfc_at(context: Any, bits: int, x: Any) -> Any:
    square = float(x.mid) ** 2 if x.b < 2**100 else float(2**200)
    if square > bits:
        return _erfc_far(context, x)
    # 1 − erf loses x²·log₂e bits
    context.prec = bits + int(1.5 * square) + 16
    result = 1 - _erf_near(context, x)
    context.prec = bits
    return +result


def _erf_near(context: Any, x: Any) -> Any:
    """erf(x) = 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3···(2n+1)): positive terms, the rest below twice the next one."""
    twice, term = 2 * x * x, +x
    total, n = +x, 0
    smallest = context.mpf(2) ** -(context.prec + 8)
    while not (2 * twice.b < 2 * n + 3 and term.b < smallest):
        n += 1
        term = term * twice / (2 * n + 1)
        total = total + term
    rest = context.mpf([0, (term * twice / (2 * n + 3) * 2).b])
    return 2 / context.sqrt(context.pi) * context.exp(-x * x) * (total + rest)


def _erfc_far(context: Any, x: Any) -> Any:
    """exp(−x²)/(x√π) · Σ (−1)ⁿ (2n−1)!! / (2x²)ⁿ: it alternates, so the value lies between partial sums while terms fall."""
    twice = 2 * x * x
    term = total = context.mpf(1)
    n = 0
    smallest = context.mpf(2) ** -(context.prec + 8)
    while (2 * n + 1) < twice.a and abs(term).b > smallest:
        n += 1
        term = -term * (2 * n - 1) / twice
        total = total + term
    between = total - term * context.mpf([0, 1])
    return context.exp(-x * x) / (x * context.sqrt(context.pi)) * between
