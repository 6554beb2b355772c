"""More than ten thousand verdicts against activations rounded separately and criteria written out again."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import gcd

import mpmath
import pytest

import fixqnn as fq
from fixqnn.universal.grid import TIES
from tests.universal.exhaustive import nearest

ONE, HALF, ZERO = Fraction(1), Fraction(1, 2), Fraction(0)
RATIONAL = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, ZERO),
    "leaky_relu": lambda x: x if x >= 0 else x * Fraction(0.01),
    "hardtanh": lambda x: min(max(x, -ONE), ONE),
    "hardsigmoid": lambda x: min(max(x / 6 + HALF, ZERO), ONE),
    "step": lambda x: ONE if x >= 0 else ZERO,
    "sign": lambda x: ONE if x >= 0 else -ONE,
    "sign3": lambda x: Fraction((x > 0) - (x < 0)),
    "abs": abs,
    "square": lambda x: x * x,
    "softsign": lambda x: x / (1 + abs(x)),
}
# The function, and its value at zero where that is rational.
SMOOTH = {
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), HALF),
    "tanh": (mpmath.tanh, ZERO),
    "silu": (lambda x: x / (1 + mpmath.exp(-x)), ZERO),
    "mish": (lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), ZERO),
    "gelu": (lambda x: x * mpmath.ncdf(x), ZERO),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), None),
    "gaussian": (lambda x: mpmath.exp(-x * x), ONE),
    "cos": (mpmath.cos, ONE),
}
ASKED = (
    ("full", "values", 2), ("full", "wide", 1), ("full", "fine", 1), ("ternary", "values", 1), ("ternary", "wide", 3),
    ("binary", "values", 1), ("binary", "values", 2), ("binary", "values", 3), ("binary", "wide", 2), ("binary", "fine", 1),
)  # fmt: skip


def rounded_table(name, p, s, tie):
    largest, codes = 2**p - 1, []
    for k in range(-largest, largest + 1):
        if name in RATIONAL:
            scaled = RATIONAL[name](Fraction(k, s)) * s
        elif k == 0 and SMOOTH[name][1] is not None:
            scaled = SMOOTH[name][1] * s
        else:
            with mpmath.workdps(30):
                scaled = Fraction(int(mpmath.floor(SMOOTH[name][0](mpmath.mpf(k) / s) * s * 2**60)), 2**60)
        code = nearest(scaled.numerator, scaled.denominator, tie)
        codes.append(max(-largest, min(code, largest)))
    return tuple(codes)


def letter(table, p, s, weights, bias, tie, inputs):
    """The criteria, for weights that are full, ternary or binary."""
    largest = 2**p - 1
    g = gcd(*(code - table[0] for code in table))
    if g == 0:
        return "k"
    step = g if weights == "full" else s * g
    if (2 * largest - 2) * (step - s) > s - (tie not in ("half_toward_zero", "half_even")):
        return "c"
    act = {k: table[max(-largest, min(k, largest)) + largest] for k in range(-4 * largest, 4 * largest + 1)}
    codes = range(-largest, largest + 1)
    if bias == "fine":
        return "R"
    if weights == "full":
        compared = codes
        if s == 2 * largest and tie == "half_away":
            compared = [k for k in codes if k]
        if s == 2 * largest and tie == "half_even":
            compared = [k for k in codes if k % 2 == 0 or abs(k) == largest]
        return "R" if s <= 2 * largest and len({act[k] for k in compared}) > 1 else "x"
    if bias == "wide":
        return "R"
    if weights == "ternary" or inputs == 1:
        rows = {tuple(act[sign * x + b] for sign in (1, -1) for b in codes) for x in codes}
        return "R" if len(rows) == len(codes) else "x"
    flat = len(set(table[:3])) == 1 and len(set(table[-3:])) == 1
    return "x" if table[0] == table[-1] or flat else "R"


@pytest.mark.parametrize("name", [*RATIONAL, *SMOOTH])
def test_tables_and_verdicts_agree_with_a_second_writing(name):
    count = 0
    for p, tie in product((1, 2, 3, 4), TIES):
        boundary = 2 ** (p + 1)
        for s in {1, 4, 5, boundary - 2, boundary - 1}:
            table = rounded_table(name, p, s, str(tie))
            assert fq.universal.activation_table(name, fq.symmetric(p, s), tie) == table, (p, s, tie)
            for weights, bias, inputs in ASKED:
                verdict = fq.universal.decide(name, fq.symmetric(p, s), weights, bias, tie, inputs)
                assert verdict.letter == letter(table, p, s, weights, bias, str(tie), inputs), verdict
                count += 1
    assert count >= 900
