"""Activation tables: named, given with proof, or listed; never guessed."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from mpmath import iv

import fixqnn as fq
from fixqnn.universal.grid import TIES

table = fq.universal.activation_table
SMOOTH = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gaussian": lambda x: mpmath.exp(-x * x),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_smooth_activations_round_as_forty_digits_do(name):
    for p, s in ((1, 1), (2, 3), (3, 8), (4, 5), (5, 24), (7, 100)):
        largest = 2**p - 1
        with mpmath.workdps(40):
            scaled = [SMOOTH[name](mpmath.mpf(k) / s) * s for k in range(-largest, largest + 1)]
            want = [int(max(-largest, min(mpmath.floor(v + mpmath.mpf("0.5")), largest))) for v in scaled]
        assert list(table(name, fq.symmetric(p, s))) == want, (p, s)


@pytest.mark.parametrize("s", [1, 3, 5, 7])
def test_sigmoid_of_zero_is_a_tie_for_odd_s(s):
    codes = {str(tie): table("sigmoid", fq.symmetric(3, s), tie)[7] for tie in TIES}
    even = (s - 1) // 2 if (s - 1) // 2 % 2 == 0 else (s + 1) // 2
    up, down = (s + 1) // 2, (s - 1) // 2
    assert codes == {"half_up": up, "half_down": down, "half_away": up, "half_toward_zero": down, "half_even": even}


def test_sign_has_two_values_and_sign3_three():
    values = fq.symmetric(2, 2)
    assert table("sign", values) == (-2, -2, -2, 2, 2, 2, 2)
    assert table("sign3", values) == (-2, -2, -2, 0, 2, 2, 2)
    assert table("step", values) == (0, 0, 0, 2, 2, 2, 2)


def test_hard_functions_round_their_ties():
    values = fq.symmetric(2, 1)
    assert table("hardsigmoid", values, "half_up") == (0, 0, 0, 1, 1, 1, 1)
    assert table("hardsigmoid", values, "half_even") == (0, 0, 0, 0, 1, 1, 1)
    assert table("square", fq.symmetric(1, 2), "half_up") == (1, 0, 1)
    assert table("square", fq.symmetric(1, 2), "half_even") == (0, 0, 0)
    assert table("leaky_relu", values, negative_slope=Fraction(1, 2)) == (-1, -1, 0, 0, 1, 2, 3)


def test_a_callable_with_proof_gives_the_table_of_its_name():
    values = fq.symmetric(4, 5)
    assert table(lambda x: max(x, 0), values) == table("relu", values)
    assert table(lambda x: iv.exp(-x * x), values) == table("gaussian", values)
    assert table(lambda x: 1 / (1 + iv.exp(-x)), fq.symmetric(4, 5), "half_down") == table(
        "sigmoid", values, "half_down"
    )

    def truncated_exp(x, bits):
        """exp(x) for x ≤ 0 by its alternating series; x² for x > 0."""
        if x >= 0:
            return x * x + 1, x * x + 1
        total, term, n = Fraction(0), Fraction(1), 0
        while n < -x or abs(term) > Fraction(1, 2**bits):
            total, n = total + term, n + 1
            term = term * x / n
        return min(total, total + term), max(total, total + term)

    got = table(truncated_exp, values)
    assert got[:15] == table(lambda x: iv.exp(x), values)[:15]
    assert fq.universal.decide(truncated_exp, values).activation == "truncated_exp"
    before = iv.prec
    table(lambda x: iv.sin(x), values)
    assert iv.prec == before


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ("gleu", "did you mean gelu"),
        ("nothing_like_it", "there are abs"),
        ("log", "no activation is called 'log'"),
        (np.tanh, "neither fractions nor mpmath intervals"),
        (lambda x: float(x), "proves nothing"),
        (lambda x: 1 / x, "must have a value"),
        (lambda x: iv.log(x), "logarithm of a negative"),
        ([0, 1], "has 7 codes, for k = -3 … 3, not 2"),
        ([0, 1, 2, 3, 4, 0, 0], "for k=1 must be between -3 and 3, not 4"),
        ([0, 0, 0, 0.5, 0, 0, 0], "for k=0 must be an integer, not 0.5"),
        (7, "an activation is a name, a function, or the sequence of its codes, not 7"),
    ],
)
def test_what_is_no_activation_is_refused(activation, words):
    with pytest.raises(fq.BadInput, match=words):
        table(activation, fq.symmetric(2, 1))


def test_parameters_belong_to_named_activations():
    assert fq.universal.decide("elu", fq.symmetric(2, 1), alpha=2).universal
    with pytest.raises(fq.BadInput, match="no parameter slope"):
        table("leaky_relu", fq.symmetric(2, 1), slope=1)
    with pytest.raises(fq.BadInput, match="only a named activation takes parameters"):
        table([0] * 7, fq.symmetric(2, 1), alpha=1)


def test_a_function_of_fractions_may_lack_values_off_the_grid():
    assert table(lambda x: 1 / (3 * x - 1), fq.symmetric(1, 1)) == (0, -1, 1)
    with pytest.raises(fq.BadInput, match="must have a value at every k/1"):
        table(lambda x: 1 / (x - x), fq.symmetric(1, 1))
