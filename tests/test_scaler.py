"""How a machine turns scales into constants."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fixqnn as fq
from fixqnn.arith.exact import scale
from fixqnn.scaler import ratio

ONE = Fraction(1)
ratios = st.fractions(Fraction(1, 10**9), 10**6, max_denominator=10**9)


@pytest.mark.parametrize(
    ("r", "constants"),
    [(0.0005, (1099511628, -10)), (0.75, (1610612736, 0)), (1.5, (1610612736, 1)), (2.0**-40, (0, 0))],
)
def test_two_step_constants_are_litert_s(r, constants):
    assert fq.TwoStepMultiplier().prepare([Fraction(r)], ONE) == constants


def test_a_multiplier_that_rounds_up_to_a_power_of_two_moves_its_exponent():
    assert fq.TwoStepMultiplier().prepare([1 - Fraction(1, 2**40)], ONE) == (1 << 30, 1)
    assert fq.Multiplier(8, ratio="exact").prepare([1 - Fraction(1, 2**20)], ONE) == (64, 6)


@given(ratios, st.integers(2, 40))
def test_a_multiplier_fills_its_bits(r, bits):
    m, s = fq.Multiplier(bits).prepare([r], ONE)
    assert 1 << (bits - 2) <= m < 1 << (bits - 1)
    assert abs(Fraction(m, 2**s) / r - 1) <= Fraction(1, 2 ** (bits - 1)) if s >= 0 else True


@given(st.integers(-70, 70))
def test_a_shift_takes_powers_of_two_only(s):
    assert fq.Shift().prepare([Fraction(2) ** -s], ONE) == s
    with pytest.raises(fq.DoesNotFit, match=r"no power of two; the nearest is 2\^"):
        fq.Shift().prepare([Fraction(2) ** -s * Fraction(9, 8)], ONE)


def test_the_ratio_is_formed_in_the_tool_s_own_arithmetic():
    x, y = Fraction(12582911, 2**24), Fraction(16777215, 2**24)  # x / y is 3/4 in float32, just below it in float64
    assert ratio([x], y, "float32") == Fraction(3, 4)
    assert ratio([x], y, "float64") < Fraction(3, 4)
    x = w = Fraction(4097, 4096)
    y = 2 + Fraction(1, 2**10)  # a float32 product makes it 1/2 exactly
    assert ratio([x, w], y, "float32_product") == Fraction(1, 2)
    assert ratio([x, w], y, "float64") > Fraction(1, 2)


def test_a_count_enters_the_constant_as_the_machine_does_it():
    assert fq.Exact().prepare([ONE], Fraction(2), 3) == Fraction(1, 6)
    assert fq.Divide("half_away", fq.Shift()).prepare([ONE], ONE, 9) == (9, 0)
    m, e = fq.TwoStepMultiplier().prepare([ONE], ONE, 3)  # truncated: 2^30·2 // 3, and one bit less
    assert (m, e) == ((1 << 31) // 3, 0)
    assert fq.Float().prepare([Fraction(1, 3)], ONE, 7) == float(np.float32(np.float32(1 / 3) / np.float32(7)))


@pytest.mark.parametrize(("by", "code"), [("divide", -14), ("reciprocal", -13)])
def test_dividing_and_multiplying_by_the_reciprocal_differ(by, code):
    s, x = np.float32(1.8392857313156128), np.float32(-24.83035659790039)
    scaler = fq.Float(by=by)
    assert scale(x, scaler, scaler.prepare([], Fraction(float(s)))) == code


def test_an_accumulator_is_rounded_to_float32_first():
    scaler = fq.Float()
    assert scale(26279937, scaler, 2.0**-17) == 200  # exact: 201
    assert scale(26279937, fq.Exact(), Fraction(1, 2**17)) == 201


def test_a_zero_point_inside_the_float_moves_ties():
    v = 0.5 - 2.0**-25
    assert scale(v, fq.Float(zero_point="before"), 1.0, 3) == 4
    assert scale(v, fq.Float(zero_point="after"), 1.0, 3) == 3


def test_a_two_step_multiplier_wraps_before_it_multiplies():
    scaler = fq.TwoStepMultiplier()
    assert scale(1 << 29, scaler, scaler.prepare([Fraction(4)], ONE)) == 0
