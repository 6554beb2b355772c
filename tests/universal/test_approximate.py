from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.errors import BadInput
from fixqnn.universal.approximate import approximate
from fixqnn.universal.verify import verify


@pytest.mark.parametrize("rounding", ["half_up", "half_even"])
def test_the_target_is_the_function_rounded_once_and_the_bound_holds(rounding):
    def function(x, y):
        return x * y / 2 - x / 3 + Fraction(1, 7)

    found = approximate(function, fq.symmetric(2, 3), 2, activation="relu", rounding=rounding)
    errors = {}
    for i, j in np.ndindex(7, 7):
        point = (i - 3, j - 3)
        value = function(*(Fraction(k, 3) for k in point))
        if abs(value) <= 1:
            errors[point] = abs(Fraction(int(found.target[i, j]), 3) - value)
        else:
            assert found.target[i, j] == (3 if value > 0 else -3)
    assert max(errors.values()) == found.largest_error == errors[found.where] <= found.bound == Fraction(1, 6)
    assert found.clipped == 49 - len(errors)
    assert verify(found.graph, found.target) is None


def test_ties_of_the_function_follow_the_rule():
    up, even = (
        approximate(lambda x: x / 2, fq.symmetric(2, 2), rounding=ties).target.tolist()
        for ties in ("half_up", "half_even")
    )
    assert up == [-1, -1, 0, 0, 1, 1, 2]
    assert even == [-2, -1, 0, 0, 0, 1, 2]


def test_arrays_of_floats_give_the_same_as_one_point_after_another():
    alone = approximate(lambda x: math.sin(float(x)), fq.symmetric(3, 4), activation="tanh")
    together = approximate(np.sin, fq.symmetric(3, 4), activation="tanh", exact=False)
    assert alone.target.tolist() == together.target.tolist()
    assert 0 < alone.largest_error <= alone.bound
    assert "largest error on the grid" in str(alone)


def test_between_grid_points_the_modulus_of_continuity_joins_the_bound():
    found = approximate(lambda x: abs(x), fq.symmetric(2, 2))
    bound = found.bound_between(lambda distance: distance)
    for x in np.linspace(-1.5, 1.5, 301):
        nearest = round(x * 2)
        assert abs(found.target[nearest + 3] / 2 - abs(x)) <= float(bound)


def test_a_function_is_asked_on_its_domain_only():
    asked = []

    def function(x, y):
        asked.append((x, y))
        return 1 / x - y

    found = approximate(function, fq.symmetric(2, 2), [(0.6, 1.5), (-1, 0)], activation="gelu")
    assert set(asked) == {(Fraction(i, 2), Fraction(j, 2)) for i in (2, 3) for j in (-2, -1, 0)}
    for i, j in np.ndindex(7, 7):
        x, y = Fraction(min(max(i - 3, 2), 3), 2), Fraction(min(max(j - 3, -2), 0), 2)
        code = min(max(math.floor((1 / x - y) * 2 + Fraction(1, 2)), -3), 3)
        assert found.target[i, j] == code
    assert found.clipped == 2  # 1 + 1 and 2/3 + 1 are beyond 3/2
    assert found.radius == Fraction(2, 2) - Fraction(0.6)
    assert found.largest_error <= found.bound


@pytest.mark.parametrize(
    ("function", "domain", "exact", "words"),
    [
        (lambda x: float("nan") if x else 0, 1, True, r"the function at \(-1\)"),
        (lambda x: "one", 1, True, "the function at"),
        (lambda x: 1 / x, 1, True, r"no value at \(0\)"),
        (3, 1, True, "callable with 1 numbers"),
        (lambda x: x[:-1], 1, False, "one number per point"),
        (lambda x, y: 0, 1, True, "does not take 1 fractions"),
        (np.sin, 1, True, "exact=False"),
        (lambda x, y: x, 1, False, "does not turn 1 arrays"),
        (lambda *x: 0, 0, True, "at least 1"),
        (lambda x: x, (-2, 1), True, r"the domain \(-2, 1\) must hold"),
        (lambda x: x, (0.25, 0.75), True, "must hold one of the values k/1"),
        (lambda x: x, [(0, 1, 1)], True, "a pair"),
        (lambda x: x, "01", True, "a pair"),
        (lambda x: x, (), True, "a pair"),
        (lambda x: x, True, True, "a number of inputs"),
        (lambda *x: 0, 40, True, "at most"),
    ],
)
def test_odd_functions_are_refused_with_the_point(function, domain, exact, words):
    with pytest.raises(BadInput, match=words):
        approximate(function, fq.symmetric(1, 1), domain, exact=exact)
