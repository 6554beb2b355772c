import itertools

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.analysis.a_priori import BitPlan, frac_bits_for, param_lipschitz


def layers(widths, r, random):
    """Random parameters within the bounds: every row sums to r at most in magnitude."""
    made = []
    for n, m in itertools.pairwise(widths):
        w = random.normal(size=(m, n))
        w *= r * random.random((m, 1)) / np.abs(w).sum(axis=1, keepdims=True)
        made.append((w, random.uniform(-r, r, m)))
    return made


def output(x, parameters):
    for i, (w, b) in enumerate(parameters):
        x = (np.maximum(x, 0) if i else x) @ w.T + b
    return x


@pytest.mark.parametrize(
    ("widths", "r", "eps", "constant", "fraction", "integer", "total"),
    [
        ((4, 16, 16, 1), 1, 1e-2, 87, 13, 1, 15),
        ((4, 16, 16, 1), 2, 1e-2, 311, 14, 2, 17),
        ((4, 16, 16, 1), 2, 1e-3, 311, 18, 2, 21),
        ((8, 32, 32, 32, 32, 10), 2, 1e-2, 5343, 19, 2, 22),
    ],
)
def test_constants_and_bits_are_those_computed_by_hand(widths, r, eps, constant, fraction, integer, total):
    plan = frac_bits_for(widths, r, 1.0, eps)
    assert (plan.F, plan.I, plan.total, plan.K) == (fraction, integer, total, constant)
    assert param_lipschitz(widths, r, 1.0) == plan.K
    assert eps / 2 * 0.8 < plan.certified_error <= eps  # one bit less would not do
    assert plan.format == fq.fixed(total, fraction)


def test_bits_grow_by_about_one_per_layer_when_rows_sum_to_two_and_hardly_when_they_sum_to_one():
    depths = (2, 3, 4, 6, 8, 12, 16)
    found = {r: [frac_bits_for((4, *(16,) * (depth - 1), 1), r, 1, 1e-2).F for depth in depths] for r in (1, 2)}
    assert found == {1: [11, 13, 13, 15, 15, 16, 17], 2: [12, 14, 16, 19, 21, 26, 31]}


def test_the_constant_of_the_smallest_network_is_five():
    assert param_lipschitz((1, 1, 1), 1, 1) == 5
    eta = 2.0**-10
    changed = output(np.ones((1, 1)), [(np.array([[1 - eta]]), np.array([1 - eta]))] * 2).item()
    assert 3 - changed == pytest.approx(5 * eta - 2 * eta**2, rel=1e-12)


@pytest.mark.parametrize("r", [0.5, 1.0, 2.0])
def test_the_constant_is_attained(r):
    widths, reach, eta = (3, 5, 4, 2), 1.5, 1e-7
    whole = [(np.full((m, n), r / n), np.full(m, r)) for n, m in itertools.pairwise(widths)]
    moved = [(w - eta, b - eta) for w, b in whole]
    x = np.full((1, 3), reach)
    ratio = np.abs(output(x, whole) - output(x, moved)).max() / eta
    assert ratio == pytest.approx(param_lipschitz(widths, r, reach), rel=1e-5)


def test_no_pair_of_networks_differs_by_more():
    random = np.random.default_rng(0)
    largest = 0.0
    for _ in range(2000):
        widths = (*random.integers(1, 6, random.integers(2, 6)), 2)
        r, reach = random.uniform(0.2, 3, 2)
        one = layers(widths, r, random)
        other = [
            tuple(p + random.uniform(-1, 1, p.shape) * 10.0 ** random.integers(-4, 1) for p in layer) for layer in one
        ]
        for w, b in other:  # the other one has to be within the bounds as well
            w /= np.maximum(np.abs(w).sum(axis=1, keepdims=True) / r, 1)
            np.clip(b, -r, r, out=b)
        moved = max(np.abs(p - q).max() for a, b in zip(one, other, strict=True) for p, q in zip(a, b, strict=True))
        x = random.uniform(-reach, reach, (8, widths[0]))
        seen = np.abs(output(x, one) - output(x, other)).max() / moved
        bound = param_lipschitz(widths, r, reach)
        assert seen <= bound * (1 + 1e-12)
        largest = max(largest, seen / bound)
    assert largest > 0.3  # the bound is of the size of what is seen, not far above it


def test_rounded_networks_stay_within_the_certified_error():
    random = np.random.default_rng(1)
    for _ in range(200):
        widths, r = (*random.integers(1, 9, 3), 1), random.uniform(0.3, 2)
        plan = frac_bits_for(widths, r, 1, 0.05)
        one = layers(widths, r, random)
        other = [tuple(fq.Tensor.from_real(p, plan.format, overflow="forbid").real() for p in layer) for layer in one]
        x = random.uniform(-1, 1, (50, widths[0]))
        assert np.abs(output(x, one) - output(x, other)).max() <= plan.certified_error <= 0.05


def test_a_domain_is_a_magnitude_or_a_box():
    same = {
        param_lipschitz((2, 3, 1), 1.5, d) for d in (2, 2.0, (-2, 1), ([-2, 0], [1, 1]), np.array([[0, 0], [2, 1]]))
    }
    assert len(same) == 1


def test_large_tolerances_ask_for_few_bits_and_small_entries_for_no_integer_bits():
    plan = frac_bits_for((2, 1), 0.2, 1, 1.0)
    assert plan.F <= 1
    assert plan.total >= 1
    assert 2.0**plan.I - 2.0**-plan.F >= 0.2
    small = frac_bits_for((2, 1), 0.01, 1, 1e-4)
    assert small.I < 0
    assert small.total < small.F
    assert isinstance(plan, BitPlan)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((4,), 1, 1, 0.1), "at least one layer"),
        (((4, 0, 1), 1, 1, 0.1), r"widths\[1\] must be a whole number"),
        (((4, 1.5), 1, 1, 0.1), r"widths\[1\]"),
        (("41", 1, 1, 0.1), "widths must be"),
        (((4, 1), -1, 1, 0.1), "r bounds magnitudes"),
        (((4, 1), float("nan"), 1, 0.1), "r must be finite"),
        (((4, 1), 1, -2, 0.1), "domain is the largest magnitude"),
        (((4, 1), 1, (1, 0), 0.1), "low must not pass its high"),
        (((4, 1), 1, ([0, 0], [1, 1]), 0.1), "the network has 4 inputs"),
        (((4, 1), 1, (0, float("inf")), 0.1), "must be finite"),
        (((4, 1), 1, 1, 0), "eps must be above 0"),
        (((4, 1), 1, 1, "x"), "eps must be a number"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(arguments, words):
    with pytest.raises(fq.BadInput, match=words):
        frac_bits_for(*arguments)
