from __future__ import annotations

import numpy as np
import pytest

from fixqnn.calibration import Policy
from fixqnn.calibration.sharing import groups
from fixqnn.format import affine, fixed
from fixqnn.graph import Graph, Value
from tests.calibration.networks import chain, conv, lenet, mlp, node, pool, relu

ONE = np.ones((1, 1, 1, 1))
PLAIN = (1, 4, 4)


def shared(graph: Graph, policy: Policy | None = None) -> list[set[str]]:
    """Values that are chosen together, values whose clamp is left to saturation in brackets."""
    return [{*g.members, *(f"({name})" for name in g.fused)} for g in groups(graph, policy or Policy())]


def formats(graph: Graph, policy: Policy | None = None) -> dict[str, object]:
    return {name: g.format for g in groups(graph, policy or Policy()) for name in (*g.members, *g.fused) if g.format}


# ---------------------------------------------------------------------------------------------------------- sharing
@pytest.mark.parametrize(
    "mover",
    [
        node("y", "reshape", "x", shape=(None, 16)),
        node("y", "transpose", "x", axes=(0, 2, 3, 1)),
        node("y", "slice", "x", axis=2, start=0, stop=2, step=1),
        node("y", "pad", "x", padding=((0, 0), (0, 0), (1, 1), (1, 1)), value=0.0),
        node("y", "resize", "x", factor=(2, 2)),
        node("y", "adaptive_average_pool", "x", output=(1, 1)),
        pool("y", "x"),
        pool("y", "x", "average_pool"),
    ],
    ids=lambda n: n.op.name,
)
def test_what_moves_compares_or_pools_keeps_the_format_of_its_input(mover):
    graph = chain(mover, shape=PLAIN)
    assert shared(graph) == [{"x", "y"}]
    assert shared(graph, Policy(share=False)) == [{"x"}, {"y"}]
    assert shared(graph, Policy(kinds={mover.op.name: {"share": False}})) == [{"x"}, {"y"}]
    assert shared(graph, Policy(overrides={"y": {"activations": 4}})) == [{"x"}, {"y"}]
    assert shared(graph, Policy(overrides={"y": {"activations": 8}})) == [{"x", "y"}]


def test_pixel_shuffle_keeps_the_format_of_its_input():
    assert shared(chain(node("y", "pixel_shuffle", "x", factor=2), shape=(4, 2, 2))) == [{"x", "y"}]


def test_arithmetic_tables_and_means_have_formats_of_their_own():
    graph = chain(
        node("a", "add", "x", "x"),
        node("t", "lookup", "a", function="tanh"),
        node("m", "mean", "t", axes=(1,), keepdims=True),
    )
    assert shared(graph) == [{"x"}, {"a"}, {"t"}, {"m"}]


def test_a_concat_and_all_its_inputs_have_one_format():
    graph = chain(
        node("a", "add", "x", "x"),
        node("b", "add", "a", "x"),
        node("c", "concat", "a", "k", "b", axis=1),
        k=np.ones((1, 2)),
    )
    assert shared(graph) == [{"x"}, {"a", "k", "b", "c"}]


def test_an_input_of_a_concat_with_wishes_of_its_own_stays_apart():
    graph = chain(node("a", "add", "x", "x"), node("b", "add", "a", "x"), node("c", "concat", "a", "b", axis=1))
    assert shared(graph, Policy(overrides={"a": {"activations": 4}})) == [{"x"}, {"a"}, {"b", "c"}]
    assert shared(graph, Policy(kinds={"add": {"activations": 4}})) == [{"x"}, {"a", "b", "c"}]


def test_what_follows_has_the_settings_of_what_it_follows():
    graph = lenet()
    found = groups(graph, Policy(overrides={"conv1": {"activations": 5}}))
    settings = {name: g.settings.activations for g in found for name in (*g.members, *g.fused)}
    assert [settings[name] for name in ("conv1", "relu1", "pool1", "conv2", "relu2")] == [5, 5, 5, 8, 8]


def test_bits_of_outputs_reach_back_to_where_the_numbers_are_made():
    graph = chain(node("a", "add", "x", "x"), relu("b", "a"), node("c", "reshape", "b", shape=(None, 2, 2)))
    found = groups(graph, Policy(outputs=16, inputs=6))
    assert {name: g.settings.activations for g in found for name in (*g.members, *g.fused)} == {
        "x": 6,
        "a": 16,
        "b": 16,
        "c": 16,
    }
    both = chain(node("a", "add", "x", "x"), node("c", "reshape", "a", shape=(None, 2, 2)), node("d", "add", "a", "a"))
    found = groups(both, Policy(outputs=16))
    assert {name: g.settings.activations for g in found for name in g.members} == {"x": 8, "a": 8, "c": 8, "d": 16}
    both = chain(
        node("a", "add", "x", "x"),
        node("c", "reshape", "a", shape=(None, 2, 2)),
        node("d", "add", "a", "a"),
        outputs=("c",),
    )
    found = groups(both, Policy(outputs=16))  # others read a
    assert {name: g.settings.activations for g in found for name in g.members} == {"x": 8, "a": 8, "c": 16, "d": 8}
    found = groups(
        graph, Policy(outputs=16, kinds={"clamp": {"activations": 12}}, overrides={"c": {"activations": 10}})
    )
    assert next(g.settings.activations for g in found if "c" in g.members) == 10


# ----------------------------------------------------------------------------------------------------------- fusing
def test_a_relu_is_left_to_the_saturation_of_the_layer_before():
    assert shared(mlp()) == [{"x"}, {"relu1", "(fc1)"}, {"fc2"}]
    assert shared(mlp(), Policy(fuse_relu=False)) == [{"x"}, {"fc1"}, {"relu1"}, {"fc2"}]
    assert shared(mlp(), Policy(overrides={"relu1": {"fuse_relu": False}})) == [{"x"}, {"fc1"}, {"relu1"}, {"fc2"}]


@pytest.mark.parametrize(
    "maker",
    [
        node("a", "add", "x", "x"),
        node("a", "subtract", "x", "x"),
        node("a", "multiply", "x", "x"),
        node("a", "matmul", "x", "x"),
        node("a", "mean", "x", axes=(2,), keepdims=True),
        conv("a", "x", "w"),
        node(
            "a",
            "conv_transpose",
            "x",
            "w",
            stride=(1, 1),
            padding=(0, 0),
            output_padding=(0, 0),
            dilation=(1, 1),
            groups=1,
        ),
    ],
    ids=lambda n: n.op.name,
)
def test_every_arithmetic_operation_can_fuse_a_clamp(maker):
    assert shared(chain(maker, relu("y", "a", 6.0), shape=PLAIN, w=ONE)) == [{"x"}, {"y", "(a)"}]


def test_saturation_reaches_through_pooling_and_moves():
    graph = chain(
        conv("a", "x", "w"),
        pool("b", "a"),
        node("c", "reshape", "b", shape=(None, 4)),
        relu("y", "c"),
        shape=PLAIN,
        w=ONE,
    )
    assert shared(graph) == [{"x"}, {"y", "(a)", "(b)", "(c)"}]
    assert shared(graph, Policy(share=False)) == [{"x"}, {"a"}, {"b"}, {"y", "(c)"}]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([relu("y", "x")], ()),  # an input arrives as it is
        ([node("a", "lookup", "x", function="tanh"), relu("y", "a")], ()),  # a table has no register to saturate
        ([conv("a", "x", "w"), relu("y", "a"), node("z", "add", "a", "y")], ()),  # somebody else reads it
        ([conv("a", "x", "w"), relu("y", "a")], ("a", "y")),  # it leaves the graph
        ([conv("a", "x", "w"), pool("b", "a", "average_pool"), relu("y", "b")], ()),  # clamping does not commute
        ([conv("a", "x", "w"), pool("b", "a"), relu("y", "b"), node("z", "add", "a", "a")], ()),
        (
            [conv("a", "x", "w"), node("b", "pad", "a", padding=((0, 0),) * 3 + ((1, 1),), value=-1.0), relu("y", "b")],
            (),
        ),
    ],
    ids=["input", "table", "second reader", "output", "average", "reader before the pool", "padding that is no zero"],
)
def test_a_value_that_somebody_else_would_miss_is_not_fused(nodes, outputs):
    found = groups(chain(*nodes, shape=PLAIN, outputs=outputs, w=ONE), Policy())
    assert not any(g.fused for g in found)


def test_two_clamps_of_one_value_are_not_fused():
    graph = chain(conv("a", "x", "w"), relu("y", "a"), relu("z", "a", 1.0), shape=PLAIN, w=ONE)
    assert shared(graph) == [{"x"}, {"a"}, {"y"}, {"z"}]


def test_wishes_that_differ_prevent_fusing_but_a_wish_for_the_clamp_alone_does_not():
    apart = Policy(overrides={"fc1": {"activations": 6}, "relu1": {"activations": 4}})
    assert shared(mlp(), apart) == [{"x"}, {"fc1"}, {"relu1"}, {"fc2"}]
    assert shared(mlp(), Policy(overrides={"relu1": {"activations": 4}})) == [{"x"}, {"relu1", "(fc1)"}, {"fc2"}]
    assert shared(mlp(), Policy(overrides={"fc1": {"activations": 6}})) == [{"x"}, {"relu1", "(fc1)"}, {"fc2"}]


# ---------------------------------------------------------------------------------------------------- given formats
def test_given_formats_travel_forward_and_backward_through_moves():
    graph = lenet()
    given = fixed(8, 5)
    assert formats(graph.with_formats({"pool1": given})) == {"relu1": given, "conv1": given}
    assert formats(graph.with_formats({"relu1": given})) == {"pool1": given, "conv1": given}
    assert formats(graph.with_formats({"relu2": given})) == {
        "pool3": given,
        "flat": given,
        "conv2": given,
        "pool2": given,
    }
    assert formats(graph.with_formats({"conv1": given})) == {}


def test_a_given_format_is_never_overruled_and_a_wish_is_not_either():
    graph = lenet().with_formats({"relu1": fixed(8, 5), "pool1": fixed(8, 4)})
    assert formats(graph) == {"conv1": fixed(8, 5)}
    wish = Policy(overrides={"pool1": {"activations": 4}, "conv1": {"activations": 6}})
    found = groups(lenet().with_formats({"relu1": fixed(8, 5)}), wish)
    assert next(g for g in found if "pool1" in g.members).format is None
    assert next(g for g in found if "conv1" in g.members).format is None


def test_given_formats_stay_where_they_are_without_sharing():
    assert formats(lenet().with_formats({"pool1": fixed(8, 5)}), Policy(share=False)) == {}


def test_a_format_per_channel_does_not_travel():
    per_channel = affine(8, [0.5, 0.25, 0.125], axis=1)
    assert formats(lenet().with_formats({"relu1": per_channel}), Policy(fuse_relu=False)) == {}


def test_the_format_of_a_concat_is_that_of_its_inputs_where_they_agree():
    graph = Graph((Value("a", (None, 2)), Value("b", (None, 2))), ("c",), (node("c", "concat", "a", "b", axis=1),), {})
    given = fixed(8, 5)
    assert formats(graph.with_formats({"a": given, "b": given})) == {"c": given}
    assert formats(graph.with_formats({"c": given})) == {"a": given, "b": given}
    assert formats(graph.with_formats({"a": given, "b": fixed(8, 4)})) == {}
    assert shared(graph.with_formats({"a": given})) == [{"b", "c"}]
