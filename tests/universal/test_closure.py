"""Closures against theorems, against networks enumerated on the exact engine, and against networks derived from them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, permutations, product
from pathlib import Path

import numpy as np
import pytest
from datapaths import ALL, MACHINES, any_datapath, outputs

import fixqnn as fq
from fixqnn.universal.closure import decide_by_closure
from fixqnn.universal.closure_table import as_markdown, closure_table, datapath
from fixqnn.universal.constructions.layers import Layer, Network


@cache
def settled(name, activation="relu"):
    return decide_by_closure(MACHINES[name], 1, 2, activation)


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("bias", ["values", "fine"])
def test_sums_rounded_once_are_settled_as_the_theorems_say(s, bias):
    for tie in ("half_up", "half_away"):
        sums = fq.universal.round_once(tie).datapaths["linear"]
        for table in ALL:
            verdict = decide_by_closure(sums, 1, s, table, bias=bias, rounding=tie)
            assert verdict.universal is fq.universal.decide(table, fq.symmetric(1, s), "full", bias, tie).universal


@pytest.mark.parametrize("table", [(0, 0, 1), (-1, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_ternary_weights_are_settled_as_the_theorems_say(table):
    sums = fq.universal.round_once().datapaths["linear"]
    for s in (1, 2):
        verdict = decide_by_closure(sums, 1, s, table, weights="ternary")
        assert verdict.universal is fq.universal.decide(table, fq.symmetric(1, s), "ternary").universal


def enumerated(result, chosen=3):
    """Functions of all networks with one hidden layer of a few neurons: all weights, all biases, all orders."""
    setting, codes = result.setting, result.setting.codes
    pairs = np.array(list(product(setting.weight_codes, codes)))
    neurons = Layer(pairs[:, :1], pairs[:, 1] * setting.s)
    single = outputs(Network(setting, result.table, (neurons,)), result.machine)
    _, distinct = np.unique(single, axis=0, return_index=True)
    found = {tuple(row) for row in single.tolist()}
    weights = np.array([(*w, b) for w in product(setting.weight_codes, repeat=chosen) for b in codes])
    for some in list(permutations(distinct.tolist(), chosen))[::17]:
        hidden = Layer(pairs[list(some), :1], pairs[list(some), 1] * setting.s)
        readout = Layer(weights[:, :-1], weights[:, -1] * setting.s)
        made = outputs(Network(setting, result.table, (hidden, readout)), result.machine)
        found |= {tuple(row) for row in made.tolist()}
    return found


@pytest.mark.parametrize("name", ["every step", "wrap", "tiled", "rounded sums", "bias last", "float"])
def test_no_network_computes_what_the_closure_excludes(name):
    result = settled(name)
    found = enumerated(result)
    assert len(found) > 5
    assert all(result.reaches(list(function)) for function in found)


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_reached_is_computed_by_the_network_it_comes_from(name):
    for activation in ("relu", "sign"):
        result = settled(name, activation)
        reached = [function for function in ALL if result.reaches(list(function))]
        assert result.complete
        assert len(reached) == result.reached
        for function in reached:
            graph = result.network(list(function))
            assert fq.universal.verify(graph, list(function), machine=result.machine, engine="exact") is None


def test_the_first_layer_holds_just_what_single_neurons_compute():
    for name in ("every step", "float", "bias last", "three stages"):
        result = settled(name)
        setting = result.setting
        pairs = np.array(list(product(setting.weight_codes, setting.codes)))
        single = outputs(
            Network(setting, result.table, (Layer(pairs[:, :1], pairs[:, 1] * setting.s),)), result.machine
        )
        assert len({tuple(row) for row in single.tolist()}) == result.layers[0]


def test_rounding_every_product_takes_relu_its_universality():
    result = settled("every step")
    assert (result.universal, result.reached, result.functions) == (False, 14, 27)
    assert result.reaches(result.missing) is False
    assert fq.universal.decide("relu", fq.symmetric(1, 2)).universal is True
    with pytest.raises(fq.BadInput, match="no network for the codes"):
        result.network(result.missing)


def test_saturation_lets_sign_out_of_its_parity_class():
    """With one rounding all last sums of a sign network on whole numbers have one parity; at a register's end they change it."""
    assert fq.universal.decide("sign", fq.symmetric(2, 1)).failed == "covering"
    result = decide_by_closure(datapath("every step", 2, 1), 2, 1, "sign", limit=100_000_000)
    assert result.reached > 7**7 / 2
    target = [0, -1, 3, -2, 2, 1, 0]
    assert fq.universal.decide_function(target, "sign", fq.symmetric(2, 1)).representable is False
    assert result.reaches(target)
    assert fq.universal.verify(result.network(target), target, machine=result.machine) is None


def test_two_inputs_make_nothing_possible_that_one_excludes():
    one, two = (decide_by_closure(MACHINES["every step"], 1, 2, "relu", inputs=d) for d in (1, 2))
    assert two.universal is False
    assert two.complete
    for function in ALL:
        repeated = np.repeat(np.array(function)[:, None], 3, axis=1)  # of the first input alone
        assert two.reaches(repeated) is one.reaches(list(function))
    both = np.minimum.outer([-1, 0, 1], [-1, 0, 1])
    if two.reaches(both):
        assert fq.universal.verify(two.network(both), both, machine=two.machine) is None


def test_a_limit_leaves_it_open_and_says_so():
    result = decide_by_closure(datapath("every step", 2, 2), 2, 2, "relu", limit=20_000)
    assert result.universal is None
    assert not result.complete
    assert "limit" in result.reason
    assert 0 < result.reached < 7**7
    assert result.reaches(result.missing) is None
    assert result.additions <= 20_000


def test_a_wide_register_that_saturates_is_not_called_impossible():
    """Terms by the billion could reach its end, and what they do there is not listed."""
    sums = fq.SumOfProducts(fq.Exact("half_up"), sum=(fq.Stage(fq.Register(32, "saturate")),))
    assert decide_by_closure(sums, 1, 1, "relu").universal is True
    result = decide_by_closure(sums, 2, 1, "sign", limit=1_000_000)
    assert result.universal is None


def test_a_wide_register_that_wraps_is_followed_in_a_window():
    sums = fq.SumOfProducts(fq.Exact("half_up"))
    assert decide_by_closure(sums, 1, 1, "relu").universal is True
    constant = decide_by_closure(sums, 1, 2, "sigmoid")
    assert constant.universal is False
    assert constant.reached == 7
    assert constant.complete


def test_what_wraps_may_be_settled_without_a_list():
    """All functions are combinations modulo a power of two, though the listing ends long before."""
    result = decide_by_closure(datapath("wrap +1 bit", 1, 1), 1, 1, "relu", inputs=2, limit=100_000)
    assert result.universal is True
    assert "combinations" in result.reason
    assert result.reaches(np.zeros((3, 3), int)) is True


def test_progress_is_told():
    told = []
    decide_by_closure(MACHINES["every step"], 1, 2, "tanh", progress=lambda reached, all: told.append((reached, all)))
    assert told[-1] == (27, 27)
    assert told == sorted(told)


def test_it_prints_and_lists_its_facts():
    result = settled("every step")
    assert "NO, not every function" in str(result)
    assert "14 of 27" in str(result)
    assert result.facts()["missing"] == result.missing.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 3}, "p must be 1 … 2"),
        ({"inputs": 3}, "inputs must be 1 … 2"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"activation": "rellu"}, "did you mean"),
        ({"weights": "three"}, "weights"),
        ({"datapath": fq.universal.round_once()}, "datapaths"),
        ({"datapath": fq.Lookup()}, "must be a SumOfProducts"),
        ({"datapath": fq.SumOfProducts(fq.Exact("stochastic"))}, "random"),
        ({"datapath": MACHINES["float"], "bias": "wide"}, "bias='values'"),
    ],
)
def test_bad_questions_are_refused(arguments, message):
    question = {"datapath": MACHINES["every step"], "p": 1, "s": 2, "activation": "relu"} | arguments
    with pytest.raises(fq.BadInput, match=message):
        decide_by_closure(**question)


def test_a_datapath_that_cannot_carry_the_format_says_so():
    with pytest.raises(fq.DoesNotFit, match="power of two"):
        decide_by_closure(fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(4)),)), 1, 3, "relu")


def test_the_tables_of_the_page_are_what_is_computed():
    page = (Path(fq.__file__).parent / "universal" / "README.md").read_text()
    for s, weights in product((1, 2), ("full", "binary")):
        assert as_markdown(closure_table([(1, s)], weights=weights)[1, s]) in page


@pytest.mark.parametrize("seed", range(30))
def test_any_datapath_computes_what_is_reached_and_nothing_that_is_excluded(seed):
    rng = np.random.default_rng(seed)
    table, s = rng.integers(-1, 2, 3).tolist(), int(rng.choice([1, 2, 4]))
    sums, weights, bias = (
        any_datapath(rng),
        ("full", "ternary")[rng.integers(2)],
        ("values", "wide", "fine")[rng.integers(3)],
    )
    result = decide_by_closure(sums, 1, s, table, weights=weights, bias=bias, limit=3_000_000)
    reached = [function for function in ALL if result.reaches(list(function))]
    for place in rng.permutation(len(reached))[:3]:
        target = list(reached[place])
        assert fq.universal.verify(result.network(target), target, machine=result.machine, engine="exact") is None
    setting = result.setting
    for widths in ([1, 24], [1, 3, 24], [1, 4, 4, 24]):
        layers = tuple(
            Layer(rng.choice(setting.weight_codes, (n, m)), rng.choice(list(setting.codes), n) * s)
            for m, n in pairwise(widths)
        )
        try:
            found = outputs(Network(setting, tuple(table), layers), result.machine)
        except fq.RegisterOverflow:
            continue
        assert all(result.reaches(function) is not False for function in found.tolist())
