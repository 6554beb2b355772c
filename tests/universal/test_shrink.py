from __future__ import annotations

import numpy as np
import pytest

from fixqnn.universal.constructions.layers import Layer, Network, grid
from fixqnn.universal.grid import Setting
from fixqnn.universal.shrink import shrink

RELU = (0, 0, 0, 0, 1, 2, 3)


def network(weights="full", extra=()):
    """The absolute value: relu(x) + relu(−x), and neurons that do not matter."""
    setting = Setting(2, 1, weights, "wide")
    hidden = [(1, 0), (-1, 0), *((w, b) for w, b, _ in extra)]
    output = [1, 1, *(out for _, _, out in extra)]
    return Network(
        setting,
        RELU,
        (
            Layer(np.array([[w] for w, _ in hidden]), np.array([b for _, b in hidden])),
            Layer(np.array([output]), np.array([0])),
        ),
    )


@pytest.mark.parametrize(
    ("weights", "extra"),
    [
        ("full", [(2, 1, 0)]),  # nothing reads it
        ("full", [(1, -3, 2)]),  # it is never on
        ("full", [(2, 1, 1), (2, 1, -1)]),  # two that cancel
        ("binary", [(1, 1, 1), (1, 1, -1)]),
        ("binary", [(1, -9, 1), (1, -9, 1)]),
    ],
)
def test_what_does_not_matter_goes(weights, extra):
    before = network(weights, extra)
    after = shrink(before)
    assert before.codes(grid(before.setting, 1)).tolist() == [3, 2, 1, 0, 1, 2, 3]
    assert after.codes(grid(before.setting, 1)).tolist() == [3, 2, 1, 0, 1, 2, 3]
    assert after.size.widths == (2, 1)
    assert after.size.parameters == 4


def test_equal_neurons_are_joined_where_one_weight_holds_both():
    doubled = network(extra=[(1, 0, 1)])  # 2 relu(x) + relu(−x)
    after = shrink(doubled)
    assert after.size.widths == (2, 1)
    assert sorted(after.layers[1].weights.ravel().tolist()) == [1, 2]
    assert after.codes(grid(doubled.setting, 1)).tolist() == doubled.codes(grid(doubled.setting, 1)).tolist()


def test_weights_stay_legal_where_none_is_zero():
    after = shrink(network("binary", [(1, -9, 1), (-1, -9, 1)]))
    assert set(np.unique(np.concatenate([layer.weights.ravel() for layer in after.layers]))) <= {-1, 1}


def test_without_effort_only_what_is_certain_changes_and_outputs_stay():
    before = network(extra=[(1, -3, 2)])
    after = shrink(before, effort=0)
    assert after.codes(grid(before.setting, 1)).tolist() == [3, 2, 1, 0, 1, 2, 3]
