"""What the constructions are made of, and their examples."""

from __future__ import annotations

import doctest
from importlib import import_module

import numpy as np
import pytest

from fixqnn.universal.constructions.code import classes, code_of, first_rows
from fixqnn.universal.constructions.coordinate import rows_of_one
from fixqnn.universal.constructions.digits import digit_systems
from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.fitting import Fitter
from fixqnn.universal.constructions.growth import Growth
from fixqnn.universal.constructions.layers import Layer, grid, nearest
from fixqnn.universal.constructions.peaks import peaks
from fixqnn.universal.constructions.radix import bit_codes, radices
from fixqnn.universal.constructions.sketch import Sketch, Unrealisable
from fixqnn.universal.grid import TIES, Setting
from fixqnn.universal.table import activation_table

FILES = ("build", "verify", "approximate", "smallest", "shrink", "question")
SHARED = (
    "layers", "sketch", "runs", "code", "draft", "coordinate", "peaks", "fitting", "line", "growth", "radix", "digits",
    "reduction", "generic", "cubes", "bits", "patterns", "readout", "ladder",
)  # fmt: skip


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


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize(
    ("activation", "p", "s", "labels"),
    [
        ("relu", 3, 14, range(15)),
        ("relu", 3, 4, [0, 0, 1, 1, 1, 2, 3, 3, 0, 0, 4, 4, 4, 1, 5]),  # classes that are no intervals
        ("sigmoid", 3, 4, range(15)),
        ("gaussian", 2, 2, range(7)),
        ("identity", 3, 8, range(15)),
        ("tanh", 3, 8, [0] * 7 + [1] * 8),
    ],
)
def test_indicators_are_one_in_their_class_and_zero_elsewhere(activation, p, s, labels, searched):
    setting, labels = Setting(p, s), np.array(labels)
    table = activation_table(activation, setting.values)
    draft = Draft(setting, table, 1)
    on = draft.rises()[0]
    coordinate = peaks(draft, rows_of_one(setting, tuple(table)), (1,), labels, on, searched)
    if coordinate is None:  # first-layer neurons that nowhere are flat: only a search finds some
        assert (activation, searched) in (("identity", False), ("tanh", False))
        return
    neurons = sorted({signal.neuron for gate in coordinate.gates for signal, _ in gate.terms})
    draft.add(3, dict.fromkeys(neurons, 1), 0)
    network = draft.sketch("").network()  # neurons in their order, copied where one weight is not enough
    shown = np.array(table)[nearest(setting, list(network.sums(grid(setting, 1)))[1]) + setting.largest]
    by_neuron = dict(zip(neurons, shown.T[: len(neurons)], strict=True))
    for label, gate in enumerate(coordinate.gates):
        values = [(by_neuron[signal.neuron] - signal.off) * sign / signal.amplitude for signal, sign in gate.terms]
        assert (gate.constant + sum(values) == (labels == label)).all()
    if coordinate.steps is not None:
        assert len(coordinate.steps) == labels.max()


def test_weights_that_are_found_keep_sums_between_their_bounds_and_cost_what_is_said():
    generator = np.random.default_rng(0)
    ramps = np.stack([np.maximum(w * (np.arange(12) - c), 0) for c in range(11) for w in (1, 2, 3)])
    fitter, found = Fitter(ramps, np.full(33, 2), 7), 0
    for _ in range(30):
        low = generator.integers(-20, 20, 12)
        high = low + generator.integers(0, 30, 12)
        fit = fitter.fit(low, high, [(0, 0), (5, 1)])
        if fit is not None:
            found += 1
            sums = fit.start + sum(c * ramps[row] for row, c in fit.coefficients.items())
            assert ((low <= sums) & (sums <= high)).all()
            copies = sum(-(-abs(c) // 7) for c in fit.coefficients.values())
            assert fit.cost == 3 * copies + (fit.start == 5)
    assert found >= 10


def test_rows_that_another_sum_reads_cost_a_weight_only():
    ramps = np.array([[0, 1, 2], [0, 0, 1]])
    fitter, wanted = Fitter(ramps, np.array([2, 2]), 7), np.array([0, 3, 3])
    assert fitter.fit(wanted, wanted, [(0, 0)]).cost == 6
    fitter.keep([{0: 1}])
    assert fitter.fit(wanted, wanted, [(0, 0)]).cost == 4
    assert fitter.fit(wanted, wanted, [(0, 0)], most=4) is None


@pytest.mark.parametrize("values", [2, 3, 7, 15, 31, 100])
def test_bits_add_up_to_every_value(values):
    counts = {code: 1 + code % 3 for code in range(-5, values - 5)}
    for bits in bit_codes(counts, lambda step, count: count + abs(step), most=1000):
        assert len(set(bits.ones.values())) == values
        for code, ones in bits.ones.items():
            assert bits.zero + sum(bits.steps[j] for j in ones) == code
            assert len(ones) <= bits.digits
    for radix in radices(values):
        assert np.prod(radix) >= values > max(np.prod(radix) // r * (r - 1) for r in radix)


@pytest.mark.parametrize(
    ("activation", "p", "s"), [("relu", 3, 14), ("relu", 4, 15), ("sigmoid", 3, 4), ("tanh", 3, 8)]
)
def test_a_signal_grows_at_the_cost_that_its_path_says(activation, p, s):
    setting = Setting(p, s)
    table, fan, row = activation_table(activation, setting.values), 5, 2
    first = Draft(setting, table, 1).rises()[0]
    growth, drawn = Growth(setting, tuple(table), fan, first), 0
    for layers in range(5):
        for step in (1, 3, -6):
            path = growth.path(layers, step * s, 0)
            if path is None:
                continue
            assert len(path.runs) == layers + 1
            assert path.weight * (path.runs[-1].value - table[0]) == step * s
            draft = Draft(setting, table, 1)
            signals = [Signal(1, draft.add(1, {0: 1}, (n + 1) * s), table[0], first.value) for n in range(fan)]
            for level, run in enumerate(path.runs[1:], 2):
                signals = [draft.join(level, [Gate(tuple((signal, 1) for signal in signals))], run)]
            draft.add(layers + 2, {signal.neuron: path.weight for signal in signals}, 0)
            size = draft.sketch("").size
            constants = size.parameters - path.cost - path.copies * fan * row
            assert (
                constants == 0 if table[0] == 0 else constants >= 0
            )  # where −M shows something, offsets may need more
            drawn += 1
    assert drawn >= 4
