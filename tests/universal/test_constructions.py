"""What the constructions are made of, and their examples."""

from __future__ import annotations

import doctest
from importlib import import_module

import numpy as np
import pytest

from fixqnn.universal.constructions.code import classes, code_of, first_rows
from fixqnn.universal.constructions.digits import digit_systems
from fixqnn.universal.constructions.layers import Layer, grid, nearest
from fixqnn.universal.constructions.sketch import Sketch, Unrealisable
from fixqnn.universal.grid import TIES, Setting
from fixqnn.universal.table import activation_table

FILES = ("build", "verify", "approximate", "smallest", "shrink", "question")
SHARED = ("layers", "sketch", "runs", "code", "draft", "coordinate", "digits", "reduction", "generic", "cubes")


@pytest.mark.parametrize("name", [*FILES, *(f"constructions.{name}" for name in SHARED)])
def test_examples_of_docstrings_run(name):
    assert doctest.testmod(import_module(f"fixqnn.universal.{name}")).failed == 0


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("s", [1, 2, 3, 6])
def test_arrays_of_sums_are_rounded_as_single_sums_are(s, ties):
    setting = Setting(2, s, rounding=ties)
    sums = np.arange(-6 * s, 6 * s + 1)
    assert nearest(setting, sums).tolist() == [setting.round(n) for n in sums.tolist()]


def test_the_grid_is_listed_in_the_order_of_a_table():
    setting = Setting(2, 1)
    points = grid(setting, 3)
    table = np.arange(343).reshape(7, 7, 7)
    assert table[tuple(points.T + 3)].tolist() == list(range(343))
    assert grid(setting, 3, 50, 60).tolist() == points[50:60].tolist()


@pytest.mark.parametrize(
    ("weights", "bias", "coefficients", "offsets"),
    [
        ("full", "values", [[9, -4], [0, 2]], [40, -4]),
        ("full", "wide", [[9, -4], [0, 2]], [400, -44]),
        ("full", "fine", [[9, -4], [0, 2]], [401, -43]),
        ("full", "values", [[1, 0], [0, 2]], [3, -1]),  # residues that only constant neurons give
        ("ternary", "wide", [[8, -4], [0, 4]], [44, 0]),
        ("binary", "wide", [[8, -16], [0, 8]], [44, 0]),
    ],
)
def test_coefficients_and_offsets_of_any_size_are_realised_exactly(weights, bias, coefficients, offsets):
    setting = Setting(2, 4, weights, bias)
    table = activation_table("relu", setting.values)
    unit = setting.weight_unit
    first = Layer(np.array([[unit], [-unit]]), np.array([0, 0]))
    wanted = Sketch(
        setting, table, (first, Layer(np.array(coefficients), np.array(offsets)), Layer([[unit, unit]], [0]))
    )
    network = wanted.network()
    assert network.size == wanted.size
    assert {w for layer in network.layers for w in layer.weights.ravel().tolist()} <= set(setting.weight_codes)
    points = grid(setting, 1)
    hidden = np.array(table)[nearest(setting, points * np.array([[unit, -unit]])) + 3]
    expected = hidden @ np.array(coefficients).T + np.array(offsets)
    assert list(network.sums(points))[1].tolist() == expected.tolist()


def test_what_weights_and_biases_cannot_give_is_said():
    setting = Setting(2, 4, "ternary", "wide")
    first = Layer(np.array([[4]]), np.array([0]))
    odd = Sketch(setting, (0, 0, 0, 0, 1, 2, 3), (first, Layer(np.array([[3]]), np.array([0]))))
    with pytest.raises(Unrealisable, match="no multiple of the weights' unit 4/4"):
        odd.network()
    even = Sketch(setting, (0, 0, 0, 0, 2, 2, 2), (first, Layer(np.array([[4]]), np.array([1]))))
    assert not even.realisable


@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid", "gaussian"])
def test_a_code_tells_all_points_apart(activation):
    setting = Setting(2, 2)
    rows = first_rows(setting, activation_table(activation, setting.values), grid(setting, 2))
    code = code_of(rows, classes(rows))
    assert len(np.unique(code.values)) == 49


@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid", "tanh", "step", "abs"])
@pytest.mark.parametrize("weights", ["full", "ternary"])
def test_digits_add_up_to_the_cell_of_every_value(activation, weights):
    setting = Setting(2, 2, weights)
    table = activation_table(activation, setting.values)
    rises = {code - table[0] for code in table}
    systems = digit_systems(setting, table, dict.fromkeys(setting.codes, 1))
    if not systems:  # steps too coarse for the cells
        assert (activation, weights) == ("step", "ternary")
    for digits in systems:
        for value, levels in digits.levels.items():
            assert set(levels) <= rises
            total = digits.theta + sum(w * level for w, level in zip(digits.weights, levels, strict=True))
            assert setting.round(total) == value
