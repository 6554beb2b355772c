import dataclasses
import itertools

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.analysis.errors import certified_agreement, error_bound
from tests.analysis.random_networks import random_graph, random_policy, samples

WIDE = {"partial": 40, "accumulator": 48}
MACHINES = {
    "ideal": hw.ideal(),
    "floor": hw.ideal("floor"),
    "toward_zero": hw.ideal("toward_zero"),
    "stochastic": dataclasses.replace(
        hw.ideal("stochastic"), datapaths={**hw.ideal("stochastic").datapaths, "lookup": fq.Lookup()}
    ),
    "multiplier": hw.systolic(**WIDE),
    "shift": hw.systolic(**WIDE, scaler="shift"),
}
SEEDS = range(8)


def network(seed, name):
    """A quantized random network, inputs that go beyond what its ranges were chosen for, and its program."""
    graph = random_graph(seed)
    graph = fq.quantize(graph, samples(seed), random_policy(seed, power_of_two=name == "shift"))
    return graph, samples(seed + 1000, reach=1.5), fq.lower(graph, MACHINES[name])


@pytest.mark.parametrize(("name", "seed"), list(itertools.product(MACHINES, SEEDS)))
def test_no_value_is_ever_farther_from_float_than_its_bound(name, seed):
    graph, x, program = network(100 * seed + list(MACHINES).index(name), name)
    real, trace = graph.evaluate(x, watch="all"), fq.run(program, x, watch="all")
    bounds = error_bound(graph, x, machine=program, watch="all")
    boxed = error_bound(graph, box=(x.min(axis=0), x.max(axis=0)), machine=MACHINES[name], watch="all")
    for value in (v for v in bounds if v in real):
        seen = np.abs(trace[value].real() - real[value])
        assert bounds[value].shape == seen.shape
        assert (seen <= bounds[value]).all(), value
        assert (seen.max(axis=0) <= boxed[value]).all(), f"{value}, box"


def linear(weights, formats, bias=None):
    inputs = ("x", "w") if bias is None else ("x", "w", "b")
    constants = {"w": np.array(weights)} | ({} if bias is None else {"b": np.array(bias)})
    node = fq.Node("y", fq.OPS["linear"], inputs)
    return fq.Graph((fq.Value("x", (None, len(weights[0]))),), ("y",), (node,), constants, formats)


def by_hand(relu_format=None):
    nodes = (
        fq.Node("hidden", fq.OPS["linear"], ("x", "w1", "b1")),
        fq.Node("relu", fq.OPS["clamp"], ("hidden",), attributes={"low": 0.0}),
        fq.Node("y", fq.OPS["linear"], ("relu", "w2", "b2")),
    )
    constants = {"w1": [[0.3, -0.6]], "b1": [0.1], "w2": [[0.7]], "b2": [0.0]}
    wide = relu_format or fq.fixed(16, 6)
    formats = {
        "x": fq.fixed(8, 4), "w1": fq.fixed(4, 2), "b1": fq.fixed(8, 2), "hidden": wide, "relu": wide,
        "w2": fq.fixed(4, 2), "b2": fq.fixed(8, 2), "y": fq.fixed(16, 8),
    }  # fmt: skip
    return fq.Graph((fq.Value("x", (None, 2)),), ("y",), nodes, constants, formats)


def test_the_bound_is_the_one_computed_by_hand():
    graph = by_hand()
    assert graph.evaluate([[1.0, 0.5]])["y"].item() == pytest.approx(0.07)
    assert fq.run(fq.lower(graph, hw.ideal()), np.array([[1.0, 0.5]])).output.real().item() == 0
    assert error_bound(graph, [[1.0, 0.5]]).item() == pytest.approx(0.155, rel=1e-6)


def test_what_a_fused_relu_cuts_off_is_no_error_after_the_relu():
    graph = by_hand(fq.fixed(16, 6, signed=False))
    x = [[0.0, 6.0]]  # hidden is −3.5, beyond what its format holds
    assert graph.evaluate(x, watch="all")["hidden"].item() == pytest.approx(-3.5)
    found = error_bound(graph, x, watch="all")
    assert found["hidden"].item() == pytest.approx(3.5)
    assert found["relu"].item() == found["y"].item() == 0


def test_the_bound_is_attained_where_errors_cannot_cancel():
    graph = linear([[0.3, 0.4]], {"x": fq.fixed(8, 4), "w": fq.fixed(6, 3), "y": fq.fixed(20, 12)})
    x = np.array(
        [[1.0, -2.0], [0.5, -0.25]]
    )  # 0.3 becomes 0.25, 0.4 becomes 0.375: both lower, and then x has two signs
    seen = np.abs(fq.run(fq.lower(graph, hw.ideal()), x).output.real() - graph.evaluate(x)["y"])
    same_sign = np.abs(x)
    bound = error_bound(graph, same_sign)
    attained = np.abs(fq.run(fq.lower(graph, hw.ideal()), same_sign).output.real() - graph.evaluate(same_sign)["y"])
    assert (seen < error_bound(graph, x)).all()
    assert bound == pytest.approx(attained, rel=1e-6)


def test_saturation_is_counted_to_the_last_digit():
    graph = linear([[1.0]], {"x": fq.fixed(8, 3), "w": fq.fixed(8, 4), "y": fq.fixed(4, 1)})
    found = error_bound(graph, [[10.0], [-10.0], [1.25], [40.0]])
    # y reaches from −4 to 3.5; 40 is clipped on entry already
    assert found.ravel() == pytest.approx([6.5, 6.0, 0.25, 36.5], rel=1e-6)


@pytest.mark.parametrize(("rounding", "steps"), [("half_even", 0.5), ("floor", 1.0), ("ceil", 1.0), ("half_up", 0.5)])
def test_an_output_step_is_rounded_by_half_or_by_a_whole_one(rounding, steps):
    graph = linear([[1.0]], {"x": fq.fixed(8, 4), "w": fq.fixed(8, 4), "y": fq.fixed(8, 2)})
    assert error_bound(graph, [[1.0]], machine=hw.ideal(rounding)).item() == pytest.approx(steps / 4, rel=1e-6)


def test_what_needs_no_rounding_has_no_error():
    graph = linear([[0.5, -1.25]], {"x": fq.fixed(8, 4), "w": fq.fixed(8, 4), "y": fq.fixed(16, 8)})
    assert error_bound(graph, [[1.0, 0.0625]]).item() < 1e-12
    codes = np.array([[16, 1]])
    assert error_bound(graph, codes).item() < 1e-12
    assert error_bound(graph, fq.Tensor(codes, fq.fixed(8, 4))).item() < 1e-12


def test_a_box_holds_the_bounds_of_its_points():
    graph = by_hand()
    box = error_bound(graph, box=(np.array([0.0, -1.0]), np.array([1.0, 0.5])))
    x = np.random.default_rng(0).uniform([0.0, -1.0], [1.0, 0.5], (500, 2))
    assert box.shape == (1, 1)
    assert (error_bound(graph, x) <= box * (1 + 1e-6)).all()
    two = error_bound(graph, box=(np.array([[0.0, -1.0], [0.0, 0.0]]), np.array([[1.0, 0.5], [0.0, 0.0]])))
    assert two.shape == (2, 1)
    assert two[0] == box[0]
    assert two[1] < box[0]


def test_classes_that_are_certified_never_change():
    certain = same = 0
    for seed in range(40):
        graph = random_graph(seed, operations=2)
        graph = fq.quantize(graph, samples(seed), fq.Policy(weights=12, activations=14))
        x = samples(seed + 500, 20)
        proved = certified_agreement(graph, x)
        real, found = graph.evaluate(x)[graph.outputs[0]], fq.run(fq.lower(graph, hw.ideal()), x).output.real()
        agree = real.argmax(axis=1) == found.argmax(axis=1)
        assert agree[proved].all()
        certain, same = certain + proved.sum(), same + agree.sum()
    assert 0.3 * same < certain < same  # many, and not all


def test_a_box_is_certified_only_where_its_class_is_one():
    formats = {"x": fq.fixed(12, 8), "w": fq.fixed(12, 8), "y": fq.fixed(16, 8)}
    graph = linear([[1.0, 0.0], [0.0, 1.0]], formats)
    assert certified_agreement(graph, box=([0.6, 0.0], [0.9, 0.5])).tolist() == [True]
    assert certified_agreement(graph, box=([0.4, 0.0], [0.9, 0.5])).tolist() == [False]
    assert certified_agreement(graph, box=([0.501, 0.0], [0.9, 0.5])).tolist() == [False]


def test_several_outputs_are_bounded_by_name():
    graph = by_hand()
    graph = dataclasses.replace(graph, outputs=("relu", "y"))
    found = error_bound(graph, [[1.0, 0.5]])
    assert list(found) == ["relu", "y"]
    with pytest.raises(fq.BadInput, match="the only output"):
        certified_agreement(graph, [[1.0, 0.5]])


def test_registers_that_may_act_are_refused_by_name():
    graph = linear([[0.9] * 300], {"x": fq.fixed(8, 4), "w": fq.fixed(8, 6), "y": fq.fixed(16, 8)})
    with pytest.raises(fq.DoesNotFit, match=r"y \(linear\): sums of channel 0 reach .* does not hold"):
        error_bound(graph, np.zeros((1, 300)), machine=hw.systolic(partial=16))
    assert error_bound(graph, np.zeros((1, 300)), machine="systolic(partial=20)").shape == (1, 1)


def test_an_operation_without_a_rule_is_refused_by_name():
    from fixqnn.ops.clamp import CLAMP

    own = dataclasses.replace(CLAMP, name="my_clamp")
    node = fq.Node("mine", own, ("x",), attributes={"low": 0.0})
    form = fq.fixed(8, 4)
    graph = fq.Graph((fq.Value("x", (None, 2), form),), ("mine",), (node,), formats={"mine": form})
    machine = dataclasses.replace(hw.ideal(), datapaths={**hw.ideal().datapaths, "my_clamp": fq.Exact()})
    with pytest.raises(fq.DoesNotFit, match=r"mine \(my_clamp\): no error bound"):
        error_bound(graph, [[1.0, 2.0]], machine=machine)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "one of the two"),
        ({"x": [[1.0, 2.0]], "box": (0, 1)}, "one of the two"),
        ({"x": [[1.0]]}, r"shape \(1, 1\)"),
        ({"x": np.zeros((0, 2))}, "no samples"),
        ({"x": [[1.0, float("nan")]]}, "x"),
        ({"box": (1, 0)}, "low above its high"),
        ({"box": (0, np.ones(3))}, r"one sample has \(2,\)"),
        ({"box": 3}, "pair"),
        ({"x": [[1.0, 2.0]], "watch": "nobody"}, "cannot watch"),
        ({"x": ([[1.0, 2.0]], [[1.0]])}, "takes 1 inputs"),
    ],
)
def test_what_cannot_be_bounded_is_refused(arguments, words):
    with pytest.raises(fq.BadInput, match=words):
        error_bound(by_hand(), **arguments)


def test_a_program_of_another_graph_is_refused():
    other = linear([[1.0, 2.0]], {"x": fq.fixed(8, 3), "w": fq.fixed(8, 4), "y": fq.fixed(4, 1)})
    with pytest.raises(fq.BadInput, match="not lowered from this graph"):
        error_bound(by_hand(), [[1.0, 0.5]], machine=fq.lower(other, hw.ideal()))
