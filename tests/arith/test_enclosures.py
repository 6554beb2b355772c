"""Intervals hold the true value and shrink with the precision; mpmath at 400 digits is the witness."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest

from fixqnn.arith.enclosures import bounds, intervals
from fixqnn.arith.functions import RealFunction
from fixqnn.arith.real import rounded
from fixqnn.errors import BadInput

WITNESS = mpmath.MPContext()
WITNESS.dps = 400
POINTS = [
    Fraction(1, 10**6),
    Fraction(1, 3),
    Fraction(7, 5),
    Fraction(8),
    Fraction(81, 10),
    Fraction(23),
    Fraction(1000, 7),
]


def true(name, x):
    negative, mantissa, exponent, _ = getattr(WITNESS, name)(WITNESS.mpf(x.numerator) / x.denominator)._mpf_
    return (-mantissa if negative else mantissa) * Fraction(2) ** exponent


@pytest.mark.parametrize("name", ["exp", "log", "log1p", "sqrt", "sin", "cos", "erfc"])
@pytest.mark.parametrize("bits", [64, 65, 200, 700])
def test_intervals_enclose_and_are_tight(name, bits):
    for x in POINTS:
        m = intervals(bits)
        low, high = bounds(getattr(m, name)(m.number(x)))
        assert low < true(name, x) < high, x
        assert high - low < (1 + x**2) * abs(high) * Fraction(1, 2 ** (bits - 8)) + Fraction(
            1, 2 ** (bits + 40)
        ) or name in ("sin", "cos", "log")


def test_log1p_stays_sharp_where_its_argument_vanishes():
    m = intervals(64)
    low, high = bounds(m.log1p(m.number(Fraction(1, 2**50))))
    assert low < true("log1p", Fraction(1, 2**50)) < high
    assert high - low < high / 2**55
    low, high = bounds(m.log1p(m.exp(-m.number(Fraction(300)))))
    assert 0 < low < high
    assert high - low < high / 2**50


def test_an_enclosure_of_the_users_own_is_asked_until_it_decides():
    asked = []

    def third(x, bits):
        asked.append(bits)
        return Fraction(2**bits // 3, 2**bits), Fraction(2**bits // 3 + 1, 2**bits)

    function = RealFunction("third", lambda x: None, enclosure=third)
    assert rounded(function, 0, Fraction(1, 10**20), rounding="ceil") == 10**20 // 3 + 1
    assert asked == [64, 128]
    assert rounded(function, 0, Fraction(1, 3 * 10**20)) == 10**20  # a point of the grid: no tie is near
    with pytest.raises(BadInput, match="do not decide"):
        rounded(function, 0, Fraction(1, 3 * 10**20), rounding="floor")


def test_an_enclosure_with_equal_ends_is_the_value_and_may_be_a_tie():
    half = RealFunction("half", lambda x: None, enclosure=lambda x, bits: (Fraction(1, 2), Fraction(1, 2)))
    assert [rounded(half, 0, 1, rounding=tie) for tie in ("half_up", "half_down", "half_even")] == [1, 0, 0]


def test_an_enclosure_that_never_decides_is_an_error_and_no_guess():
    around = RealFunction(
        "around", lambda x: None, enclosure=lambda x, bits: (Fraction(1, 2), Fraction(1, 2) + Fraction(1, 2**bits))
    )
    with pytest.raises(BadInput, match="4096 bits do not decide"):
        rounded(around, 0, 1)
    for wrong in (lambda x, bits: 0.5, lambda x, bits: (1, 0), lambda x, bits: (0, float("nan"))):
        with pytest.raises(BadInput, match="low"):
            rounded(RealFunction("wrong", lambda x: None, enclosure=wrong), 0, 1)
