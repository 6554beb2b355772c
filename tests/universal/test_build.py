from __future__ import annotations

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.errors import BadInput
from fixqnn.universal.build import CONSTRUCTIONS, build, counting_bound, plans, size_of
from fixqnn.universal.decide import decide
from fixqnn.universal.functions import decide_function
from fixqnn.universal.grid import Setting
from fixqnn.universal.table import activation_table
from fixqnn.universal.verify import verify
from hw_models import ideal
from tests.universal.simulator import TIES, simulate

ACTIVATIONS = (
    "identity",
    "relu",
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "softplus",
    "abs",
    "gaussian",
    "step",
    "sign",
)


def random_target(p: int, d: int, seed: int) -> np.ndarray:
    most = 2**p - 1
    return np.random.default_rng(seed).integers(-most, most + 1, (2 * most + 1,) * d)


# ---------------------------------------------------------------------------------------------- random functions, all arithmetics
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("bias", ["values", "wide", "fine"])
@pytest.mark.parametrize("weights", ["full", "ternary", "binary", "scaled:2"])
def test_random_functions_are_computed_on_every_input_or_refused_with_the_verdicts_reason(weights, bias, ties):
    generator = np.random.default_rng([len(weights), len(bias), TIES.index(ties)])
    built = 0
    for n in generator.permutation(len(ACTIVATIONS))[:6].tolist():
        activation = ACTIVATIONS[n]
        p, s, d = [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 4, 1), (1, 1, 2), (2, 3, 1)][
            (n + int(generator.integers(6))) % 6
        ]
        values, target = fq.symmetric(p, s), random_target(p, d, n)
        table = list(activation_table(activation, values, ties))
        verdict = decide_function(target, table, values, weights, bias, ties)
        if verdict.representable is not True:
            with pytest.raises(BadInput, match="computes this target"):
                build(target, table, values, weights, bias, ties)
            continue
        graph = build(target, table, values, weights, bias, ties)
        built += 1
        assert simulate(graph, table, p, s, ties) == target.ravel().tolist(), (activation, p, s, d)
        assert verify(graph, target) is None
        assert verify(graph, target, engine="exact") is None
        check_legal(graph, Setting(p, s, weights, bias, ties))
    assert built >= 2


def check_legal(graph, setting):
    """Weights and biases are those that the setting allows, and the counts in the notes are true."""
    weights = {setting.real(w) for w in setting.weight_codes}
    unit, limit = setting.bias_unit, setting.bias_limit
    counts = [0, 0]
    for node in graph.nodes:
        if node.op.name == "linear":
            tensors = [graph.constants[name] for name in node.inputs[1:]]
            w, b = (t.format.decode_exact(t.codes).ravel().tolist() for t in tensors)
            assert set(w) <= weights
            assert all((x * setting.s**2) % unit == 0 and (limit is None or abs(x * setting.s**2) <= limit) for x in b)
            counts[0] += sum(x != 0 for x in w)
            counts[1] += sum(x != 0 for x in b)
    note = graph.notes["y"]
    assert [note["weights"], note["biases"]] == counts
    assert note["parameters"] == sum(counts) == size_of(graph).parameters


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(
    ("construction", "activation", "p", "s", "d", "weights", "bias"),
    [
        ("bits", "relu", 2, 6, 2, "full", "values"),
        ("bits", "relu", 2, 5, 3, "full", "wide"),
        ("bits", "sigmoid", 3, 4, 1, "full", "fine"),
        ("bits", "tanh", 2, 4, 2, "full", "values"),
        ("bits", "gelu", 2, 3, 2, "ternary", "wide"),
        ("bits", "gaussian", 2, 2, 2, "full", "values"),
        ("patterns", "relu", 3, 1, 1, "full", "values"),
        ("patterns", "relu", 3, 13, 1, "full", "values"),
        ("patterns", "sigmoid", 3, 2, 1, "full", "wide"),
        ("patterns", "gelu", 2, 3, 1, "full", "fine"),
        ("patterns", "relu", 2, 2, 1, "ternary", "values"),
    ],
)
def test_small_signals_that_grow_compute_the_target_under_every_tie_rule(
    construction, activation, p, s, d, weights, bias, ties
):
    values, target = fq.symmetric(p, s), random_target(p, d, s)
    table = list(activation_table(activation, values, ties))
    graph = build(target, table, values, weights, bias, ties, construction=construction)
    assert graph.notes["y"]["construction"] == construction
    assert simulate(graph, table, p, s, ties) == target.ravel().tolist()
    assert verify(graph, target) is None
    check_legal(graph, Setting(p, s, weights, bias, ties))


def test_inputs_of_many_values_are_served_without_a_search():
    target = random_target(6, 1, 0)
    graph = build(target, "relu", fq.symmetric(6, 32), shrink=False)
    assert graph.notes["y"]["construction"] == "bits"
    assert verify(graph, target) is None
    assert size_of(graph).parameters <= 10 * target.size


def test_a_program_on_ideal_hardware_computes_the_target(tmp_path):
    target = random_target(2, 2, 5)
    for ties in ("half_up", "half_even"):
        program = fq.lower(build(target, "gelu", fq.symmetric(2, 3), rounding=ties), ideal(ties))
        assert verify(program, target) is None
        program.save(tmp_path / "network.npz")
        assert verify(fq.Program.load(tmp_path / "network.npz"), target) is None


@pytest.mark.parametrize(
    ("activation", "p", "s", "d", "weights", "bias"),
    [
        ("relu", 3, 4, 1, "full", "values"),
        ("relu", 2, 4, 2, "full", "values"),
        ("sigmoid", 2, 2, 2, "full", "wide"),
        ("abs", 2, 3, 2, "full", "values"),
        ("gaussian", 2, 2, 1, "ternary", "wide"),
        ("identity", 2, 4, 2, "ternary", "values"),
        ("gelu", 2, 4, 2, "ternary", "fine"),
        ("relu", 2, 2, 2, "binary", "wide"),
        ("sigmoid", 2, 2, 1, "binary", "wide"),
        ("sigmoid", 2, 2, 2, "binary", "values"),
        ("relu", 2, 3, 1, "scaled:2", "fine"),
    ],
)
def test_every_construction_computes_the_target_and_its_size_is_what_the_formula_says(
    activation, p, s, d, weights, bias
):
    values, target = fq.symmetric(p, s), random_target(p, d, 17)
    table = list(activation_table(activation, values))
    sizes = plans(target, activation, values, weights, bias)
    served = set()
    for construction in CONSTRUCTIONS:
        try:
            graph = build(target, activation, values, weights, bias, construction=construction, shrink=False)
        except BadInput as problem:
            assert construction in str(problem)  # noqa: PT017
            continue
        name = graph.notes["y"]["construction"]
        served.add(name)
        assert simulate(graph, table, p, s, "half_up") == target.ravel().tolist(), construction
        assert size_of(graph) == sizes[name], construction
    assert len(served) >= (1 if (weights, bias) == ("binary", "values") else 2)
    smallest = build(target, activation, values, weights, bias)
    assert size_of(smallest).parameters <= min(size.parameters for size in sizes.values())


# ---------------------------------------------------------------------------------------------------------- what cannot be built
def test_a_target_that_no_network_computes_is_refused_with_the_reason():
    target = random_target(2, 1, 0)
    verdict = decide("sign", fq.symmetric(2, 4))
    assert verdict.universal is False
    with pytest.raises(BadInput, match="miss"):
        build(target, verdict)
    with pytest.raises(BadInput, match="apart"):
        build([0, 1, 0], "relu", fq.symmetric(1, 3))


def test_single_functions_are_built_where_the_setting_is_not_universal():
    target = 3 * np.array([1, -1, 1, 1, -1, -1, 1])
    assert decide("sign", fq.symmetric(2, 4)).universal is False
    graph = build(target, "sign", fq.symmetric(2, 4))
    assert simulate(graph, [-3] * 3 + [3] * 4, 2, 4, "half_up") == target.tolist()


def test_tables_that_need_a_second_layer_to_tell_points_apart_are_built():
    found = 0  # p = 2, one input, no zero weight, bounded bias: all rows are zero at some point, or proportional
    for seed in range(20):
        table = np.random.default_rng(seed).integers(-1, 2, 7).tolist()
        target = random_target(2, 1, seed)
        if decide_function(target, table, fq.symmetric(2, 1), "binary").representable is True:
            graph = build(target, table, fq.symmetric(2, 1), "binary")
            assert simulate(graph, table, 2, 1, "half_up") == target.tolist()
            found += 1
    assert found >= 5


@pytest.mark.parametrize(
    ("p", "s", "weights", "bias", "ties", "table", "d"),
    [
        # constant neurons whose sources did not come in equal pairs: outputs were wrong
        (2, 5, "scaled:6", "wide", "half_up", (1, 3, 0, 2, -3, -1, 0), 1),
        (2, 8, "scaled:5", "values", "half_up", (-3, -3, -3, 3, 3, 3, 3), 1),
        (1, 8, "scaled:6", "wide", "half_down", (-1, 0, 1), 2),
        # one class of points only: an empty basis
        (1, 5, "scaled:1", "values", "half_up", (-1, 1, 1), 2),
    ],
)
def test_settings_that_once_went_wrong(p, s, weights, bias, ties, table, d):
    most, values = 2**p - 1, fq.symmetric(p, s)
    for seed in range(3 if d == 2 else 6):
        shown = [[-most, most], [most], [-most, 0, most]][seed % 3]
        target = np.random.default_rng(seed).choice(shown, (2 * most + 1,) * d)
        if decide_function(target, table, values, weights, bias, ties).representable is True:
            for graph in _all_ways(target, table, values, weights, bias, ties):
                assert simulate(graph, list(table), p, s, ties) == target.ravel().tolist()
        else:
            with pytest.raises(BadInput, match="computes this target"):
                build(target, table, values, weights, bias, ties)


def _all_ways(target, *arguments):
    ways = []
    for construction in CONSTRUCTIONS:
        try:
            ways.append(build(target, *arguments, construction=construction, shrink=False))
        except BadInput:
            continue
    assert ways
    return ways


@pytest.mark.parametrize(
    ("target", "arguments", "words"),
    [
        ([0, 1], ("relu", fq.symmetric(1, 1)), "3"),
        ([0, 1, 2], ("relu", fq.symmetric(1, 1)), "between"),
        ([0, 1, 0.5], ("relu", fq.symmetric(1, 1)), "integers"),
        ([0, 1, 0], ("relu",), "symmetric"),
        ([0, 1, 0], ("relo", fq.symmetric(1, 1)), "relu"),
        ([0, 1, 0], (decide("relu", fq.symmetric(1, 1), inputs=2),), "2 inputs"),
    ],
)
def test_odd_arguments_are_refused_in_words(target, arguments, words):
    with pytest.raises(BadInput, match=words):
        build(target, *arguments)


def test_an_unknown_construction_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match="readout"):
        build([0, 1, 0], "relu", fq.symmetric(1, 1), construction="cube")


# ------------------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("activation", "p", "s", "d", "most"),
    [
        ("identity", 3, 4, 2, 2156),
        ("relu", 2, 2, 3, 4309),
        ("relu", 4, 8, 2, 14895),
        ("sigmoid", 2, 2, 3, 5035),
        ("sigmoid", 3, 4, 2, 16349),
        ("identity", 3, 4, 3, 26396),
        ("relu", 3, 4, 3, 37915),
    ],
)
def test_random_functions_take_no_more_parameters_than_the_compact_construction_is_known_for(activation, p, s, d, most):
    target = random_target(p, d, 0)
    graph = build(target, activation, fq.symmetric(p, s))
    assert verify(graph, target) is None
    assert size_of(graph).parameters <= most


@pytest.mark.parametrize(
    ("activation", "p", "s", "d", "most"),
    [
        *(("relu", 3, s, 1, 4) for s in (1, 2, 3)),
        *(("relu", 4, s, 1, 4) for s in (6, 9)),
        *(("relu", 3, s, 2, 3.3) for s in (1, 4, 7, 8, 11, 14)),
        *(("relu", 4, s, 2, 2.8) for s in (8, 16, 23, 30)),
        *(("relu", 3, s, 3, 1.4) for s in (4, 14)),
        ("identity", 3, 4, 2, 4),
        ("tanh", 3, 8, 2, 4),
        ("gelu", 3, 8, 2, 4),
        ("sigmoid", 3, 4, 2, 4),
        # not within four: bits must grow s/M-fold from layer to layer, which counts where entries are few
        ("relu", 3, 7, 1, 5),
        ("relu", 3, 14, 1, 7.5),
        ("relu", 4, 30, 1, 7),
        ("identity", 3, 14, 2, 10),
    ],
)
def test_random_functions_come_within_a_few_parameters_per_entry_of_the_counting_bound(activation, p, s, d, most):
    target = random_target(p, d, 1)
    graph = build(target, activation, fq.symmetric(p, s), shrink=False)
    assert verify(graph, target) is None
    bound = counting_bound(Setting(p, s), d)
    assert bound == target.size
    assert size_of(graph).parameters <= most * bound


@pytest.mark.parametrize(
    ("activation", "p", "s", "d", "most"), [("relu", 3, 4, 2, 40905), ("identity", 2, 2, 3, 37277)]
)
def test_binary_weights_take_no_more_than_binary_cubes_are_known_for(activation, p, s, d, most):
    target = random_target(p, d, 2)
    graph = build(target, activation, fq.symmetric(p, s), "binary", "wide", shrink=False)
    assert verify(graph, target) is None
    assert size_of(graph).weights <= most


def test_structured_functions_take_parameters_in_proportion_to_their_changes():
    values = fq.symmetric(4, 8)
    k = np.arange(-15, 16)
    plane = np.meshgrid(k, k, indexing="ij")

    def parameters(target):
        graph = build(target, "relu", values, shrink=False)
        assert verify(graph, target) is None
        return size_of(graph).parameters

    assert parameters(np.full((31, 31), 5)) == 1
    assert parameters(np.clip(plane[0] - plane[1], -15, 15)) == 2  # affine
    one, two = parameters(np.where(plane[0] > 3, 7, -2)), parameters(np.where((plane[0] > 3) & (plane[1] < -4), 7, -2))
    assert one <= 25
    assert two <= 60
    separable = parameters(np.where(plane[0] > 0, 4, 0) + np.where(plane[1] > 7, 3, -3))
    assert separable <= 60
    stairs = [parameters(np.minimum(k // step, 15)) for step in (16, 8, 4)]
    assert max(stairs) <= 10
    sparse = np.zeros((31, 31), np.int64)
    sparse[3, 4], sparse[20, 8] = 9, -4
    assert parameters(sparse) <= 120


def test_inputs_that_only_move_together_are_told_apart_by_neurons_that_read_both():
    target = np.array([[0, -1, 0], [-1, -1, -1], [0, -1, 0]])  # s > 2M: no weight moves one input alone past a tie
    values = fq.symmetric(1, 3)
    assert decide("relu", values, inputs=2).failed == "distinguishability"
    assert decide_function(target, "relu", values).representable
    graph = build(target, "relu", values)
    assert simulate(graph, [0, 0, 1], 1, 3, "half_up") == target.ravel().tolist()
