"""Exact numbers: taken from what a user gives, and written so that reading them back changes nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from fractions import Fraction
from math import isfinite
from numbers import Rational, Real
from typing import Any

from fixqnn.errors import FormatError


def whole(value: Any, name: str) -> int:
    """Accept an integer of any kind, but no bool and no float.

    >>> whole(3, "bits")
    3
    """
    if type(value).__name__ not in ("bool", "bool_"):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise FormatError(f"{name} must be an integer, not {value!r}")


def rational(value: Any, name: str) -> Fraction:
    """Take a number at its exact value; a float is the binary number that it is.

    >>> rational(0.1, "scale") == Fraction(1, 10), rational(0.5, "scale")
    (False, Fraction(1, 2))
    """
    if isinstance(value, Rational) and not isinstance(value, bool):
        return Fraction(int(value.numerator), int(value.denominator))
    if isinstance(value, Real) and not isinstance(value, bool):
        if not isfinite(value):
            raise FormatError(f"{name} must be finite, not {value}")
        return Fraction(*value.as_integer_ratio())
    raise FormatError(f"{name} must be an integer, a float or a Fraction, not {value!r}")


def each(value: Any, name: str, convert: Callable[[Any, str], Any]) -> Any:
    """Convert a number, or every number of a sequence or array of one axis into a tuple."""
    if hasattr(value, "tolist"):  # numpy and torch alike; widening to float64 is exact
        value = value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(convert(v, f"{name}[{i}]") for i, v in enumerate(value))
    return convert(value, name)


def exponent(value: Fraction) -> int | None:
    """Find e with value = 2**e, or None.

    >>> exponent(Fraction(1, 8)), exponent(Fraction(4)), exponent(Fraction(3))
    (-3, 2, None)
    """
    up, down = value.numerator, value.denominator
    if up < 1 or up & (up - 1) or down & (down - 1):
        return None
    return up.bit_length() - down.bit_length()


def nearest_float(value: int | Fraction) -> float:
    """Round to float64, correctly; infinity beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def is_float(value: int | Fraction) -> bool:
    """Whether float64 holds the number exactly."""
    nearest = nearest_float(value)
    return isfinite(nearest) and Fraction(nearest) == value


def show(value: Any) -> str:
    """Write a number or tuple of numbers so that Python reads back the same; a float where that says the same.

    >>> show(Fraction(1, 10)), show(Fraction(0.1)), show((2, Fraction(1, 4)))
    ('Fraction(1, 10)', '0.1', '(2, 0.25)')
    """
    if isinstance(value, tuple):
        return "(" + ", ".join(show(v) for v in value) + (",)" if len(value) == 1 else ")")
    if is_float(value):
        return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
    return str(value) if isinstance(value, int) else repr(value)


def show_briefly(value: Any) -> str:
    """Write numbers for a reader: more than four become their count and range."""
    if isinstance(value, tuple) and len(value) > 4:
        low, high = (f"{nearest_float(v):.4g}" for v in (min(value), max(value)))
        return f"<{len(value)} values {low} to {high}>"
    return show(value)
