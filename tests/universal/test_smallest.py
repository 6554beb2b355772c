from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.errors import BadInput
from fixqnn.universal.smallest import narrowest
from fixqnn.universal.table import activation_table
from fixqnn.universal.verify import verify
from tests.universal.simulator import rounded, simulate


@pytest.mark.parametrize(
    ("activation", "s", "weights", "widest", "reached"),
    [
        ("identity", 2, "full", 6, 27),
        ("relu", 1, "full", 4, 27),
        ("relu", 2, "full", 7, 27),
        ("gaussian", 1, "full", 2, 27),
        ("relu", 1, "binary", 4, 27),
        ("gaussian", 1, "binary", 2, 27),
        ("identity", 1, "binary", 2, 19),
        ("identity", 1, "full", 6, 27),  # neurons that read nothing add what one bias cannot
    ],
)
def test_the_widest_of_the_27_functions_of_three_values(activation, s, weights, widest, reached):
    values = fq.symmetric(1, s)
    table = list(activation_table(activation, values))
    widths = []
    for target in product((-1, 0, 1), repeat=3):
        found = narrowest(target, activation, values, weights, most=8)
        if found.width is None:
            assert found.status == "none found"
            continue
        assert found.proved
        assert found.status == "minimal"
        assert simulate(found.graph(), table, 1, s, "half_up") == list(target)
        widths.append(found.width)
    assert (max(widths), len(widths)) == (widest, reached)


def test_minimal_widths_agree_with_a_plain_search_over_neurons():
    table, s = [0, 0, 1], 2  # relu, p = 1, full weights, bounded biases
    rows = {
        tuple(table[max(-1, min(1, rounded(w * x + b * s, s, "half_up"))) + 1] for x in (-1, 0, 1))
        for w in (-1, 0, 1)
        for b in (-1, 0, 1)
    }
    steps = {tuple(w * h for h in row) for row in rows for w in (-1, 0, 1)}
    sums, least = {(0, 0, 0)}, {}
    for width in range(8):
        for total in sums:
            for b in (-1, 0, 1):
                shown = tuple(max(-1, min(1, rounded(v + b * s, s, "half_up"))) for v in total)
                least.setdefault(shown, width)
        sums = {tuple(a + b for a, b in zip(total, step, strict=True)) for total in sums for step in steps}
    for target, width in least.items():
        assert narrowest(target, "relu", fq.symmetric(1, 2)).width == width, target


def test_two_inputs_are_searched_and_the_network_is_right():
    target = np.array([[0, 1, 1], [0, 0, 1], [-1, 0, 0]])
    found = narrowest(target, "relu", fq.symmetric(1, 1))
    assert found.status in ("minimal", "best found")
    assert verify(found.graph(), target) is None


def test_out_of_time_the_answer_says_what_is_proved():
    target = np.random.default_rng(3).integers(-3, 4, 7)
    found = narrowest(target, "relu", fq.symmetric(2, 4), seconds=0.0)
    assert (found.width, found.proved, found.status) == (None, False, "none found")
    assert str(found) == "no network (none found; 0 are proved not to be enough)"
    with pytest.raises(BadInput, match="no network to be written"):
        found.graph()


def test_without_a_zero_weight_one_neuron_that_shows_zero_serves_a_constant():
    for table in ([0, 0, 1], [0, 0, 0]):
        found = narrowest([0, 0, 0], table, fq.symmetric(1, 1), "binary")
        assert (found.width, found.status) == (1, "minimal")
        assert verify(found.graph(), np.zeros(3, int)) is None
