"""Spaces: which axes, per layer, and how Optuna sees them."""

from __future__ import annotations

import numpy as np
import pytest

from fixqnn.calibration import Policy, calibrate, choose
from fixqnn.errors import BadInput
from fixqnn.graph import Graph, Node, Value
from fixqnn.ops import OPS
from fixqnn.sweeps.points import split
from fixqnn.sweeps.space import Space, escaped, point, space, space_of, value_layers, weight_layers


def small_graph():
    """Input, linear, relu, linear with the same weights, then a sum."""
    w = np.array([[0.5, -1.0], [0.25, 0.75]])
    nodes = (
        Node("fc[1]", OPS["linear"], ("x", "w")),
        Node("relu", OPS["clamp"], ("fc[1]",), attributes={"low": 0.0}),
        Node("fc2", OPS["linear"], ("relu", "v")),
        Node("sum", OPS["add"], ("fc2", "x")),
    )
    return Graph((Value("x", (None, 2)),), ("sum",), nodes, {"w": w, "v": w.T})


def test_layers_are_what_has_weights_and_what_computes_values():
    assert weight_layers(small_graph()) == ("fc[1]", "fc2")
    assert value_layers(small_graph()) == ("x", "fc[1]", "fc2", "sum")


def test_weights_that_two_layers_read_are_one_axis_of_their_own_name():
    graph = small_graph()
    nodes = (*graph.nodes[:2], Node("fc2", OPS["linear"], ("relu", "w")), graph.nodes[3])
    shared = Graph(graph.inputs, graph.outputs, nodes, {"w": graph.constants["w"]})
    assert weight_layers(shared) == ("w",)
    found = space(weights=(2, 4), per_layer="weights").for_graph(shared)
    calibration = calibrate(shared, np.ones((4, 2)))
    assert choose(shared, calibration, point({"weights[w]": 2}).policy()).formats["w"].bits == 2
    assert list(found.axes) == ["weights[w]"]


def test_each_layer_gets_the_axis_and_the_policy_obeys_it():
    graph = small_graph()
    found = space(weights=(2, 4), activations=(4, 6, 8), per_layer=("weights", "activations")).for_graph(graph)
    assert list(found.axes) == [
        "weights[fc[[]1]]", "weights[fc2]",
        "activations[x]", "activations[fc[[]1]]", "activations[fc2]", "activations[sum]",
    ]  # fmt: skip
    assert found.size == 2**2 * 3**4
    settings = dict(zip(found.axes, (2, 4, 4, 6, 8, 6), strict=True))
    made = choose(graph, calibrate(graph, np.ones((4, 2))), point(settings).policy(Policy(weights=7, activations=7)))
    assert {name: made.formats[name].bits for name in ("w", "v", "x", "fc[1]", "relu", "fc2", "sum")} == {
        "w": 2, "v": 4, "x": 4, "fc[1]": 6, "relu": 6, "fc2": 8, "sum": 6,
    }  # fmt: skip


def test_what_optuna_proposes_and_the_settings_are_two_ways_to_say_one_thing():
    found = space(weights=range(2, 6), activations=(4, 8, 16), bias=32, rounding=("floor", "half_up"),
                  signed=(True, "auto"), kept=(0, None), per_channel=(False, True), weight_kind=(1, True))  # fmt: skip
    distributions = found.distributions()
    for settings in [found.uniform()[0], {name: axis[-1] for name, axis in found.axes.items()}]:
        params = found.params(settings)
        assert all(distributions[name]._contains(distributions[name].to_internal_repr(params[name])) for name in params)
        assert repr(found.settings(params)) == repr(settings)
    assert str(distributions["weights"]) == "IntDistribution(high=5, log=False, low=2, step=1)"
    assert "Categorical" in str(distributions["activations"])


def test_seeds_have_one_width_everywhere_and_the_machine_at_its_best():
    found = space(weights=(2, 4), activations=(3, 4), accumulator_bits=range(10, 20)).uniform()
    assert [tuple(settings.values()) for settings in found] == [(4, 4, 19), (4, 3, 19), (2, 3, 19)]
    assert space(rounding=("floor", "ceil")).uniform() == [{"rounding": "floor"}]


def test_widths_by_layer_are_rounded_up_to_what_the_space_holds():
    given = {"a.conv": {"weights": 3, "activations": 5}, "a.fc": {"weights": 6}, "b": {"weights": 9}}
    found = space(
        weights=(2, 4, 8), overrides={"a.*": {"weights": (4, 7)}, "b": {"weights": (2, 4)}}, activations=(4, 8)
    )
    assert found.from_overrides(given) == {"weights": 8, "activations": 8, "weights[a.*]": 7, "weights[b]": 4}


def test_plain_mappings_are_spaces():
    same = space(weights=(2, 4), overrides={"fc*": {"weights": (6, 8)}}, per_layer=())
    assert space_of({"weights": (2, 4), "overrides": {"fc*": {"weights": (6, 8)}}}) == same
    assert space_of({"weights": (2, 4), "weights[fc*]": (6, 8)}) == same
    assert space_of(same) is same


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no axes"),
        ({"weights": ()}, "no values"),
        ({"weights": (0, 4)}, "at least 1"),
        ({"weights[fc": (2, 4)}, "a setting is called"),
        ({"weights[fc]": (2, 0)}, "at least 1"),
        ({"machine": ("a", "b")}, "machines="),
        ({"weights": (2, 4), "per_layer": "accumulator_bits"}, "single layers cannot have"),
        ({"weights": (2, 4), "per_layer": ("activations",)}, "no values"),
        ({"overrides": {"fc": 4}}, "must map settings"),
        (7, "a space maps"),
    ],
)
def test_what_is_no_space_is_refused(given, words):
    with pytest.raises(BadInput, match=words):
        space_of(given)


def test_names_with_brackets_are_matched_as_they_are():
    from fnmatch import fnmatchcase

    for name in ("x[0]", "a*b", "what?", "layer1.0"):
        assert fnmatchcase(name, escaped(name))
        assert split(f"weights[{escaped(name)}]") == ("weights", escaped(name))
    assert not fnmatchcase("aXb", escaped("a*b"))
    assert Space({"weights": (2,)}).size == 1
