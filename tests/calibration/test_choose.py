from __future__ import annotations

import doctest
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import hw_models
from fixqnn.calibration import Policy, calibrate, choose, quantize
from fixqnn.calibration.choose import bias_format
from fixqnn.errors import BadInput
from fixqnn.format import Format, affine, binary, fixed
from fixqnn.graph import Graph, Node, Value
from fixqnn.metrics import sqnr
from fixqnn.ops.op import Op
from fixqnn.program import lower
from fixqnn.simulate import run
from fixqnn.tensor import Tensor
from tests.calibration.networks import chain, conv, lenet, mlp, node, pictures, relu, rows


def test_the_examples_in_the_docstrings_hold():
    import sys

    assert doctest.testmod(sys.modules["fixqnn.calibration.choose"]).failed == 0


# ------------------------------------------------------------------------------------------------------ whole graphs
def test_everything_without_a_format_gets_one_by_hand():
    graph = chain(
        node("fc", "linear", "x", "w", "b"), relu("y", "fc"), node("z", "add", "y", "k"), shape=(2,),
        w=[[0.5, -1.0]], b=[0.25], k=[3.0],
    )  # fmt: skip
    found = quantize(graph, np.array([[1.0, 0.5], [-1.0, 0.25], [3.0, 0.0]]))
    assert dict(found.formats) == {
        "x": fixed(8, 5),  # −1 to 3
        "w": fixed(8, 7),  # −1 to 0.5
        "b": fixed(32, 12),
        "fc": fixed(8, 7, signed=False),
        "y": fixed(8, 7, signed=False),  # 0 to 1.75
        "k": fixed(8, 6, signed=False),
        "z": fixed(8, 5, signed=False),  # 3 to 4.75
    }
    assert set(found.formats) == set(found.values)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(scales="free", style="affine", per_channel=True),
        Policy(ranges="mse", weight_ranges="mse", fuse_relu=False),
        Policy(ranges="percentile", share=False),
        Policy(weights=6, activations=10, signed=True, narrow_weights=True),
    ],
    ids=repr,
)
def test_a_quantized_network_runs_and_is_near_the_real_one(policy):
    graph = lenet()
    found = quantize(graph, pictures(60), policy)
    assert set(found.formats) == set(found.values)
    real = graph.evaluate(pictures(30, seed=9))["fc"]
    trace = run(lower(found, hw_models.ideal()), pictures(30, seed=9))
    assert (
        sqnr(real, trace.output) > 20
    )  # one part in a hundred of the power; 8 bits promise no more after three layers


def test_more_bits_come_nearer():
    graph, seen = lenet(), calibrate(lenet(), pictures(60))
    real = graph.evaluate(pictures())["fc"]
    found = [
        sqnr(real, run(lower(choose(graph, seen, Policy(bits, bits)), hw_models.ideal()), pictures()).output)
        for bits in (4, 6, 8, 12)
    ]
    assert found == sorted(found)
    assert found[-1] > 45


def test_binary_and_ternary_weights_and_one_bit_values_run():
    for policy in (
        Policy(weights="binary"),
        Policy(weights="ternary", per_channel=True),
        Policy(weights=1, activations=1),
    ):
        trace = run(lower(quantize(mlp(), rows(), policy), hw_models.ideal()), rows())
        assert np.isfinite(trace.output.real()).all()


def test_quantize_is_choose_after_calibrate_and_batches_make_no_difference():
    graph, policy = lenet(), Policy(ranges="mse", scales="free")
    once = quantize(graph, pictures(100), policy)
    again = choose(graph, calibrate(graph, (pictures(100)[i : i + 7] for i in range(0, 100, 7))), policy)
    assert once.formats == again.formats
    assert once.notes == again.notes


def test_a_register_that_saturates_does_the_relu():
    graph = mlp()
    trace = run(lower(quantize(graph, rows()), hw_models.ideal()), rows(), watch="all")
    real = graph.evaluate(rows(), watch="all")
    assert (real["fc1"] < 0).any()
    assert np.array_equal(trace["fc1"].codes, trace["relu1"].codes)
    assert trace["fc1"].codes.min() == 0
    assert sqnr(real["relu1"], trace["relu1"]) > 35


def test_an_upper_bound_is_still_clamped():
    graph = chain(node("a", "add", "x", "x"), relu("y", "a", 1.0))
    found = quantize(graph, rows())
    assert found.formats["a"] == found.formats["y"] == fixed(8, 7, signed=False)
    trace = run(lower(found, hw_models.ideal()), rows(), watch="all")
    assert trace["a"].codes.max() > 128 == trace["y"].codes.max()


# --------------------------------------------------------------------------------------------------- what is given
def test_given_formats_and_codes_are_never_touched():
    weight = Tensor.from_real(mlp().constants["fc1.weight"], fixed(5, 2))
    graph = mlp().with_constants({"fc1.weight": weight}).with_formats({"x": fixed(8, 2), "fc2.bias": fixed(16, 3)})
    found = quantize(graph, rows(), Policy(overrides={"fc1*": {"weights": 8}, "x": {"activations": 4}}))
    assert found.formats["x"] == fixed(8, 2)
    assert found.formats["fc2.bias"] == fixed(16, 3)
    assert found.constants["fc1.weight"] is weight
    assert found.formats["fc1.bias"] == fixed(32, 4)
    assert found.notes["x"]["clipped"] == 0


def test_a_graph_with_all_formats_comes_back_with_the_same():
    graph = quantize(mlp(), rows())
    assert quantize(graph, rows(), Policy(weights=2, activations=3)).formats == graph.formats


def test_formats_named_in_the_policy_are_taken_and_travel():
    graph = chain(node("t", "lookup", "x", function="tanh"), node("y", "reshape", "t", shape=(None, 2, 2)))
    wish = Policy(kinds={"tanh": {"format": fixed(8, 7)}}, overrides={"x": {"format": fixed(16, 12)}})
    found = quantize(graph, rows(), wish)
    assert dict(found.formats) == {"x": fixed(16, 12), "t": fixed(8, 7), "y": fixed(8, 7)}
    assert quantize(graph.with_formats({"t": fixed(4, 3)}), rows(), wish).formats["t"] == fixed(4, 3)


# -------------------------------------------------------------------------------------------------------- overrides
def test_overrides_reach_values_weights_biases_and_constants_by_name():
    first = {"weights": 4, "activations": 6, "bias": 20}
    wish = Policy(overrides={"fc1": first, "*.weight": {"narrow_weights": True}, "x": {"activations": 5}})
    found = quantize(mlp(), rows(), wish)
    bits = {name: form.bits for name, form in found.formats.items()}
    assert bits == {
        "x": 5,
        "fc1": 6,
        "relu1": 6,
        "fc2": 8,
        "fc1.weight": 4,
        "fc1.bias": 20,
        "fc2.weight": 8,
        "fc2.bias": 32,
    }
    assert found.formats["fc2.weight"].narrow_range
    by_constant = quantize(
        mlp(), rows(), Policy(weights=4, overrides={"fc2.weight": {"weights": "binary", "scales": "free"}})
    )
    assert by_constant.formats["fc2.weight"].bits == 1
    assert not by_constant.formats["fc2.weight"].is_power_of_two
    assert by_constant.formats["fc1.weight"].bits == 4


def test_the_width_of_inputs_and_outputs_is_a_wish_of_its_own():
    found = quantize(mlp(), rows(), Policy(activations=6, inputs=12, outputs=16))
    assert [found.formats[name].bits for name in ("x", "fc1", "relu1", "fc2")] == [12, 6, 6, 16]


def test_a_weight_of_two_layers_whose_settings_differ_is_an_error():
    graph = chain(node("a", "linear", "x", "w"), node("b", "linear", "a", "w"), w=np.eye(4))
    assert quantize(graph, rows()).formats["w"].bits == 8
    with pytest.raises(BadInput, match=r"weight 'w' is read by 'a' and 'b', whose settings differ; .* or name 'w'"):
        quantize(graph, rows(), Policy(overrides={"b": {"weights": 4}}))
    assert quantize(graph, rows(), Policy(overrides={"b": {"weights": 4}, "w": {"weights": 5}})).formats["w"].bits == 5


# ----------------------------------------------------------------------------------------------------------- biases
def test_a_bias_has_exactly_the_scale_of_its_products():
    found = quantize(mlp(), rows(), Policy(scales="free", per_channel=True))
    x, w, bias = (found.formats[name] for name in ("x", "fc1.weight", "fc1.bias"))
    assert bias.scales == tuple(x.scale * s for s in w.scales)
    assert (bias.bits, bias.axis, bias.zero_point) == (32, 0, 0)
    whole = quantize(mlp(), rows(), Policy(scales="free", style="affine"))
    assert whole.formats["fc2.bias"] == Format(
        32, scale=whole.formats["relu1"].scale * whole.formats["fc2.weight"].scale
    )


def test_the_bias_of_a_transposed_convolution_in_groups_repeats_the_scales():
    w = np.zeros((4, 3, 1, 1))
    w[:, 0], w[:, 1], w[:, 2] = 1.0, 0.5, 0.25
    attributes = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1), "groups": 2}
    graph = chain(node("y", "conv_transpose", "x", "w", "b", **attributes), shape=(4, 2, 2), w=w, b=np.ones(6))
    found = quantize(graph, np.ones((1, 4, 2, 2)), Policy(per_channel=True))
    x = found.formats["x"].scale
    assert found.formats["w"].axis == 1
    assert found.formats["b"].scales == tuple(x * s for s in found.formats["w"].scales * 2)
    assert (
        run(lower(found, hw_models.ideal()), np.ones((1, 4, 2, 2))).output.real()[0, :, 0, 0].tolist()
        == [3, 2, 1.5] * 2
    )


def test_a_half_zero_point_halves_the_scale_of_the_bias():
    assert bias_format(fixed(8, 4), binary(), 32, 3) == fixed(32, 4)
    weight = affine(1, [4, 1], Fraction(1, 2), signed=False, axis=0)
    assert bias_format(fixed(8, 4), weight, 16, 2) == affine(16, [2 / 16, 0.5 / 16], axis=0)


def test_a_bias_of_two_layers_with_different_products_is_copied():
    graph = chain(
        node("a", "linear", "x", "w", "b"), node("c", "multiply", "a", "half"), node("d", "linear", "c", "w", "b"), shape=(4,),
        w=np.eye(4), b=np.full(4, 0.3), half=0.01,
    )  # fmt: skip
    found = quantize(graph, rows())
    assert found.node("a").inputs[2] == "b"
    assert found.node("d").inputs[2] == "d.bias"
    assert found.formats["b"].scale == found.formats["x"].scale * found.formats["w"].scale
    assert (
        found.formats["d.bias"].scale == found.formats["c"].scale * found.formats["w"].scale != found.formats["b"].scale
    )
    assert np.array_equal(found.constants["d.bias"], graph.constants["b"])
    assert found.notes["d.bias"]["why"].startswith("copy of 'b'")
    for name in ("a", "d"):
        assert np.array_equal(found.evaluate(rows(), watch=(name,))[name], graph.evaluate(rows(), watch=(name,))[name])
    taken = quantize(replace(graph, constants={**graph.constants, "d.bias": np.ones(1)}), rows())
    assert taken.node("d").inputs[2] == "d.bias_1"
    same = chain(node("a", "linear", "x", "w", "b"), node("d", "linear", "x", "w", "b"), w=np.eye(4), b=np.ones(4))
    assert set(quantize(same, rows()).constants) == {"w", "b"}


def test_a_bias_that_saturates_is_counted_in_the_notes():
    graph = chain(node("y", "linear", "x", "w", "b"), w=np.eye(4), b=[1.0, 100.0, -100.0, 0.5])
    found = quantize(graph, np.ones((1, 4)), Policy(bias=16))
    assert found.formats["b"].frac == 13  # 7 + 6
    assert found.notes["b"]["clipped"] == 0.5
    assert "2 of 4 saturate" in str(found)


# -------------------------------------------------------------------------------------------------- other constants
def test_a_constant_operand_has_the_width_of_values_and_a_scale_of_its_own():
    graph = chain(node("y", "multiply", "x", "k"), k=[-0.1, 0.02, 0.03, 0.05])
    assert quantize(graph, rows()).formats["k"] == fixed(8, 10)
    assert quantize(graph, rows(), Policy(activations=6, scales="free", style="affine")).formats["k"] == Format(
        6, scale=Fraction(float(np.float32(0.1 / 31)))
    )
    assert quantize(graph, rows(), Policy(overrides={"k": {"activations": 12}})).formats["k"] == fixed(12, 14)


def test_a_constant_may_come_first():
    graph = chain(node("y", "subtract", "k", "x"), node("z", "multiply", "k", "y"), k=1.0)
    found = quantize(graph, rows())
    assert found.formats["k"] == fixed(8, 7, signed=False)
    assert run(lower(found, hw_models.ideal()), rows()).output.shape == (20, 4)


def test_a_constant_matrix_is_a_weight_with_one_scale():
    graph = chain(node("y", "matmul", "x", "k"), shape=(2, 2), k=[[0.5, -1.0], [0.1, 0.1]])
    found = quantize(graph, np.ones((1, 2, 2)), Policy(weights=5, per_channel=True))
    assert found.formats["k"] == fixed(5, 4)


def test_constants_that_nobody_reads_and_empty_ones_get_a_format_too():
    graph = chain(relu("y", "x"), k=[2.0], nothing=np.zeros(0))
    assert set(quantize(graph, rows()).formats) == {"x", "y", "k", "nothing"}


def test_a_constant_joined_to_values_has_their_format():
    graph = chain(node("y", "concat", "x", "k", axis=1), k=[[5.0, -5.0]])
    found = quantize(graph, rows())
    assert found.formats["k"] == found.formats["x"] == found.formats["y"] == fixed(8, 4)
    assert run(lower(found, hw_models.ideal()), rows()).output.real()[:, 4:].tolist() == [[5.0, -5.0]] * 20


# ------------------------------------------------------------------------------------------------------------ notes
def test_the_result_tells_ranges_and_reasons():
    found = quantize(lenet(), pictures(), Policy(ranges="percentile", percentile=90))
    seen = calibrate(lenet(), pictures())
    assert found.notes["relu1"]["low"] == 0
    assert found.notes["fc"]["high"] == seen["fc"].high
    assert found.notes["pool1"]["why"] == "shares the format of 'relu1'"
    assert found.notes["conv1"]["why"] == "has the format of 'relu1': saturation does the clamping"
    assert "clipped" not in found.notes["conv1"]
    assert 0 < found.notes["x"]["clipped"] < 0.1
    lines = {line.split()[0]: line for line in str(found).splitlines()}
    assert lines["value"].split() == ["value", "kind", "shape", "format", "note"]
    assert "clips" in lines["x"]
    assert lines["pool1"].endswith("shares the format of 'relu1'")
    assert {row["value"]: row["note"] for row in found.table()}["flat"].endswith("shares the format of 'relu2'")


def test_what_rounds_to_the_highest_code_is_not_clipped():
    found = quantize(chain(relu("y", "x")), np.array([[1.9955, 0.0, 0.0, 0.0]]))
    assert found.formats["x"] == fixed(8, 7, signed=False)  # up to 255/128 = 1.992
    assert found.notes["x"]["clipped"] == 0
    assert (
        quantize(chain(relu("y", "x", 1.0)).with_formats({"x": fixed(8, 7)}), np.full((1, 4), 1.0)).notes["x"][
            "clipped"
        ]
        == 1
    )


def test_notes_stay_when_formats_or_constants_change_and_go_with_their_value():
    found = quantize(mlp(), rows())
    assert found.with_formats({"x": fixed(4, 1)}).notes == found.notes
    assert found.with_constants({"fc1.bias": np.zeros(6)}).notes == found.notes
    assert replace(found, outputs=("relu1",)).notes == found.notes
    shorter = replace(
        found, nodes=found.nodes[:1], outputs=("fc1",), constants={}, formats={},
        inputs=(Value("x", (None, 4)), Value("fc1.weight", (6, 4)), Value("fc1.bias", (6,))),
    )  # fmt: skip
    assert "relu1" not in shorter.notes
    assert "fc1" in shorter.notes


def test_a_value_that_was_always_zero_is_noted():
    found = quantize(mlp(), np.zeros((3, 4)))
    assert found.formats["x"] == fixed(8, 6)
    assert "always 0 in the samples" in found.notes["x"]["why"]


def test_padding_that_is_no_code_is_noted():
    attributes = {"padding": ((0, 0), (1, 0)), "value": 0.3}
    found = quantize(chain(node("y", "pad", "x", **attributes)), rows())
    assert "pads with 0.3, which is no code of" in found.notes["y"]["why"]
    attributes["value"] = -0.5
    found = quantize(chain(node("y", "pad", "x", **attributes)), rows())
    assert "no code" not in found.notes["y"].get("why", "")


# ----------------------------------------------------------------------------------------------------------- errors
def test_what_cannot_be_quantized_is_named():
    seen = calibrate(mlp(), rows())
    with pytest.raises(BadInput, match="policy must be a Policy, not a dict"):
        choose(mlp(), seen, {"weights": 4})
    with pytest.raises(BadInput, match="matches no node"):
        choose(mlp(), seen, Policy(overrides={"conv*": {"weights": 4}}))
    with pytest.raises(BadInput, match="the calibration saw no value 'pool1', so it was made on another graph"):
        choose(lenet(), seen)
    broken = mlp().constants["fc2.bias"].copy()
    broken[1] = np.nan
    with pytest.raises(BadInput, match=r"constant 'fc2.bias' holds NaN or infinity"):
        choose(mlp().with_constants({"fc2.bias": broken}), seen)


def test_an_unfolded_batch_norm_is_refused():
    norm = Op("batch_norm", lambda x, *_: x, lambda x, *_: x, None, None, None)
    graph = Graph((Value("x", (None, 4)),), ("y",), (Node("y", norm, ("x",)),), {})
    with pytest.raises(BadInput, match=r"folding batch norms \['y'\] would change weights; fold_batch_norm"):
        quantize(graph, rows())


def test_an_operation_of_ones_own_is_observed_like_any_other():
    twice = Op("twice", lambda x: x, lambda x: 2 * x, None, None, None)
    graph = Graph((Value("x", (None, 4)),), ("y",), (Node("y", twice, ("x",)),), {})
    found = quantize(graph, rows(), Policy(kinds={"twice": {"activations": 10}}))
    assert found.formats["y"].bits == 10


def test_a_convolution_per_channel_has_its_scales_along_the_outputs():
    graph = chain(conv("y", "x", "w"), shape=(1, 4, 4), w=np.array([1.0, 0.25, 0.0]).reshape(3, 1, 1, 1))
    found = quantize(graph, pictures()[:, :, :4, :4], Policy(per_channel=True, weights=4))
    assert found.formats["w"] == affine(4, [0.25, 0.0625, 0.25], axis=0)
