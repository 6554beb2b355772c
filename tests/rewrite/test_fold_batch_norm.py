"""Folding batch norms changes no real number, keeps names, and shares what was shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.format import fixed
from fixqnn.graph import Graph, Node, Value
from fixqnn.ops import OPS
from fixqnn.rewrite.fold_batch_norm import BATCH_NORM, fold_batch_norm
from fixqnn.tensor import Tensor

RANDOM = np.random.default_rng(11)
CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def statistics(name, channels):
    """Constants of a batch norm: weight, bias, mean, variance."""
    ranges = {"weight": (0.5, 1.5), "bias": (-1, 1), "mean": (-2, 2), "variance": (0.5, 3)}
    return {f"{name}.{role}": RANDOM.uniform(low, high, channels) for role, (low, high) in ranges.items()}


def norm(name, x, parameters=None, epsilon=1e-3):
    names = tuple(f"{parameters or name}.{role}" for role in ("weight", "bias", "mean", "variance"))
    return Node(name, BATCH_NORM, (x, *names), attributes={"epsilon": epsilon})


def graph_of(shape, nodes, outputs=None, **constants):
    return Graph((Value("x", (None, *shape)),), outputs or (nodes[-1].output,), nodes, constants)


def assert_same_reals(graph, folded):
    """Both graphs agree on random samples; the folded one has no batch norm left."""
    x = RANDOM.normal(size=(3, *graph.inputs[0].shape[1:]))
    want, got = graph.evaluate(x), folded.evaluate(x)
    assert BATCH_NORM not in [node.op for node in folded.nodes]
    assert len(graph.outputs) == len(folded.outputs)
    for old, new in zip(graph.outputs, folded.outputs, strict=True):
        # float64 sums in another order
        np.testing.assert_allclose(got[new], want[old], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 6), (4, 2, 3, 2)])
def test_a_batch_norm_means_what_torch_means(shape):
    constants = statistics("bn", 4)
    graph = graph_of(shape, [norm("bn", "x")], **constants)
    x = RANDOM.normal(size=(3, *shape))
    weight, bias, mean, variance = (torch.from_numpy(c) for c in constants.values())
    want = torch.nn.functional.batch_norm(torch.from_numpy(x), mean, variance, weight, bias, eps=1e-3).numpy()
    np.testing.assert_allclose(graph.evaluate(x)["bn"], want, rtol=1e-12, atol=1e-12)  # float64 on both sides


LAYERS = {
    "linear": ((5,), "linear", (4, 5), {}, 4),
    "conv": ((3, 6, 5), "conv", (4, 3, 3, 3), CONV, 4),
    "grouped conv": ((4, 6, 5), "conv", (6, 2, 3, 3), {**CONV, "groups": 2}, 6),
    "conv_transpose": (
        (4, 6, 5), "conv_transpose", (4, 3, 2, 2),
        {"stride": (2, 2), "padding": (0, 1), "output_padding": (1, 0), "dilation": (1, 1), "groups": 1}, 3,
    ),
    "grouped conv_transpose": (
        (4, 6), "conv_transpose", (4, 3, 2),
        {"stride": (2,), "padding": (0,), "output_padding": (1,), "dilation": (1,), "groups": 2}, 6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_batch_norm_goes_into_the_layer_before_it_which_keeps_its_names(layer, with_bias):
    shape, op, weight, attributes, channels = layer
    constants = {"a.weight": RANDOM.normal(size=weight), **statistics("bn", channels)}
    if with_bias:
        constants["a.bias"] = RANDOM.normal(size=channels)
    inputs = ("x", "a.weight", "a.bias") if with_bias else ("x", "a.weight")
    clamp = Node("relu", OPS["clamp"], ("bn",), attributes={"low": 0.0, "high": None})
    graph = graph_of(shape, [Node("a", OPS[op], inputs, attributes=attributes), norm("bn", "a"), clamp], **constants)
    folded = fold_batch_norm(graph)
    assert [(node.name, node.inputs) for node in folded.nodes] == [("a", ("x", "a.weight", "a.bias")), ("relu", ("a",))]
    assert set(folded.constants) == {"a.weight", "a.bias"}
    assert_same_reals(graph, folded)


def test_two_batch_norms_in_a_row_go_into_one_layer():
    nodes = [Node("a", OPS["linear"], ("x", "a.weight")), norm("b", "a"), norm("c", "b")]
    graph = graph_of(
        (5,), nodes, **{"a.weight": RANDOM.normal(size=(4, 5))}, **statistics("b", 4), **statistics("c", 4)
    )
    folded = fold_batch_norm(graph)
    assert [node.name for node in folded.nodes] == ["a"]
    assert folded.outputs == ("a",)
    assert_same_reals(graph, folded)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 3, 3, 2)])
def test_a_batch_norm_on_its_own_becomes_a_convolution_of_each_channel(shape):
    graph = graph_of(shape, [norm("bn", "x")], **statistics("bn", 4))
    folded = fold_batch_norm(graph)
    (node,) = folded.nodes
    assert (node.name, node.op, node.inputs) == ("bn", OPS["conv"], ("x", "bn.weight", "bn.bias"))
    assert node.attributes["groups"] == 4
    assert folded.constants["bn.weight"].shape == (4, 1, *(1,) * (len(shape) - 1))
    assert_same_reals(graph, folded)


def test_a_batch_norm_of_vectors_on_its_own_becomes_a_multiply_and_an_add():
    graph = graph_of((4,), [norm("bn", "x")], **statistics("bn", 4))
    folded = fold_batch_norm(graph)
    assert [(node.name, node.op.name) for node in folded.nodes] == [("bn.multiply", "multiply"), ("bn", "add")]
    assert_same_reals(graph, folded)


def layer_then_norm(**changes):
    nodes = [Node("a", OPS["linear"], ("x", "a.weight", "a.bias")), norm("bn", "a")]
    constants = {"a.weight": RANDOM.normal(size=(4, 5)), "a.bias": RANDOM.normal(size=4), **statistics("bn", 4)}
    return nodes, {**constants, **changes}


def test_a_layer_that_others_read_or_that_leaves_the_graph_is_left_alone():
    nodes, constants = layer_then_norm()
    read_twice = graph_of((5,), [*nodes, Node("sum", OPS["add"], ("a", "bn"))], **constants)
    leaves = graph_of((5,), nodes, ("a", "bn"), **constants)
    for graph in (read_twice, leaves):
        folded = fold_batch_norm(graph)
        assert [node.name for node in folded.nodes][:3] == ["a", "bn.multiply", "bn"]
        assert np.array_equal(folded.constants["a.weight"], constants["a.weight"])
        assert_same_reals(graph, folded)


def test_a_layer_whose_codes_are_fixed_is_left_alone():
    codes = Tensor(RANDOM.integers(-8, 8, (4, 5)), fixed(4, 2))
    nodes, constants = layer_then_norm(**{"a.weight": codes})
    fixed_weight = graph_of((5,), nodes, **constants)
    nodes, constants = layer_then_norm()
    fixed_result = graph_of((5,), nodes, **constants).with_formats({"a": fixed(8, 4)})
    for graph in (fixed_weight, fixed_result):
        folded = fold_batch_norm(graph)
        assert [node.name for node in folded.nodes] == ["a", "bn.multiply", "bn"]
        assert_same_reals(graph, folded)
    assert fold_batch_norm(fixed_weight).constants["a.weight"] is codes
    assert fold_batch_norm(fixed_result).formats == {"a": fixed(8, 4)}


def test_the_format_of_a_folded_batch_norm_passes_to_its_layer():
    nodes, constants = layer_then_norm()
    graph = graph_of((5,), nodes, **constants).with_formats({"bn": fixed(8, 4), "x": fixed(8, 7)})
    assert fold_batch_norm(graph).formats == {"a": fixed(8, 4), "x": fixed(8, 7)}


def test_a_batch_norm_along_another_axis_than_the_features_of_a_linear_layer_is_not_folded():
    nodes, constants = layer_then_norm()  # (N, 4, 5) → (N, 4, 4): the batch norm scales axis 1, the layer makes axis 2
    graph = graph_of((4, 5), nodes, **constants)
    folded = fold_batch_norm(graph)
    assert [(node.name, node.op.name) for node in folded.nodes] == [("a", "linear"), ("bn", "conv")]
    assert_same_reals(graph, folded)


def shared(*norms, last=()):
    """One weight read by two linear layers, each followed by one of the batch norms."""
    nodes = [
        Node("a", OPS["linear"], ("x", "a.weight", "a.bias")), norms[0],
        Node("a_1", OPS["linear"], (norms[0].output, "a.weight", "a.bias")), *norms[1:], *last,
    ]  # fmt: skip
    constants = {"a.weight": RANDOM.normal(size=(4, 4)), "a.bias": RANDOM.normal(size=4)}
    return graph_of((4,), nodes, **constants, **statistics("p", 4), **(statistics("q", 4)))


def test_a_shared_layer_with_different_batch_norms_gets_a_weight_per_call():
    graph = shared(norm("p", "a"), norm("q", "a_1"))
    folded = fold_batch_norm(graph)
    assert [(node.name, node.inputs[1:]) for node in folded.nodes] == [
        ("a", ("a.weight", "a.bias")), ("a_1", ("a_1.weight", "a_1.bias")),
    ]  # fmt: skip
    assert_same_reals(graph, folded)


def test_a_shared_layer_with_a_shared_batch_norm_still_has_one_weight():
    graph = shared(norm("p", "a"), norm("p_1", "a_1", parameters="p"))
    folded = fold_batch_norm(graph)
    assert [node.inputs[1:] for node in folded.nodes] == [("a.weight", "a.bias")] * 2
    assert_same_reals(graph, folded)


def test_a_shared_layer_of_which_one_call_has_no_batch_norm_keeps_the_old_weight_for_it():
    graph = shared(norm("p", "a"))
    folded = fold_batch_norm(graph)
    assert [node.inputs[1:] for node in folded.nodes] == [("a.weight_1", "a.bias_1"), ("a.weight", "a.bias")]
    assert np.array_equal(folded.constants["a.weight"], graph.constants["a.weight"])
    assert_same_reals(graph, folded)


def test_a_graph_without_batch_norms_stays_as_it_is():
    nodes, constants = layer_then_norm()
    graph = graph_of((5,), nodes[:1], **{name: constants[name] for name in ("a.weight", "a.bias")})
    assert fold_batch_norm(graph).nodes == graph.nodes


def test_a_batch_norm_refuses_to_be_lowered_and_says_what_to_do():
    for meaning in (BATCH_NORM.prepare, BATCH_NORM.exact, BATCH_NORM.fast):
        with pytest.raises(DoesNotFit, match=r"fold_batch_norm\(graph\)"):
            meaning(None)


def test_parameters_of_the_wrong_shape_or_computed_ones_are_refused():
    with pytest.raises(BadInput, match=r"node 'bn' \(batch_norm\).*takes \(N, C, \*spatial\)"):
        graph_of((5,), [norm("bn", "x")], **statistics("bn", 4))
    constants = statistics("bn", 4)
    moving = Node("bn", BATCH_NORM, ("x", "y", *list(constants)[1:]), attributes={"epsilon": 0.0})
    lazy = Node("y", OPS["add"], ("bn.weight", "bn.bias"))
    with pytest.raises(BadInput, match=r"'bn' reads \['y'\], which must be constants"):
        fold_batch_norm(graph_of((4,), [lazy, moving], **constants))
