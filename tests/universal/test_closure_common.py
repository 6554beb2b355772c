"""Closures for weights without a zero, whose neurons share their terms: against theorems, plain sets, and real networks."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from datapaths import ALL, MACHINES, any_datapath, outputs

import fixqnn as fq
from fixqnn.universal.closure import decide_by_closure
from fixqnn.universal.closure_table import datapath
from fixqnn.universal.constructions.layers import Layer, Network

ONCE = fq.universal.round_once().datapaths["linear"]


@pytest.mark.parametrize("weights", ["binary", "scaled:1", "scaled:2"])
@pytest.mark.parametrize("bias", ["values", "wide", "fine"])
def test_sums_rounded_once_are_settled_as_the_theorems_say(weights, bias):
    """Theorem B for wide and fine biases, theorem C for those among the values; every answer is yes or no."""
    answers = set()
    for table in ALL:
        verdict = decide_by_closure(ONCE, 1, 2, table, weights=weights, bias=bias)
        assert verdict.universal is fq.universal.decide(table, fq.symmetric(1, 2), weights, bias).universal
        answers.add(verdict.universal)
    assert answers == {True, False}


@pytest.mark.parametrize(
    ("sums", "s", "table", "weights", "bias"),
    [
        (ONCE, 1, (1, 0, 1), "binary", "fine"),
        (ONCE, 1, (-1, 0, 1), "binary", "values"),
        (MACHINES["every step"], 2, (-1, 1, 1), "binary", "values"),
        (MACHINES["wrap"], 2, (0, 0, 1), "binary", "wide"),
        (MACHINES["bias last"], 2, (-1, 1, 1), "scaled:1", "values"),
        (MACHINES["float"], 2, (-1, 0, 1), "binary", "values"),
        (MACHINES["tiled"], 2, (-1, 1, 1), "binary", "wide"),
    ],
)
def test_what_is_reached_is_computed_by_a_network_without_a_zero(sums, s, table, weights, bias):
    result = decide_by_closure(sums, 1, s, table, weights=weights, bias=bias)
    reached = [function for function in ALL if result.reaches(list(function))]
    assert result.complete
    assert len(reached) == result.reached > 10
    for function in reached:
        graph = result.network(list(function))
        weights_of_graph = [graph.constants[node.inputs[1]] for node in graph.nodes if node.op.name == "linear"]
        assert weights_of_graph
        assert all((layer.real() != 0).all() for layer in weights_of_graph)
        assert fq.universal.verify(graph, list(function), machine=result.machine, engine="exact") is None


def closed_by_plain_sets(sums_to, codes_of, table, biases):
    """All functions on three points, layer by layer, from all sets of states that words lead to and no other set contains.

    ``sums_to(content, product)`` is what a register holds next, ``codes_of(content)`` the code of a sum.
    """

    def functions(states):
        return {tuple(codes_of(content) for content in state) for state in states}

    def after(states, function):
        return frozenset(
            tuple(sums_to(content, sign * code) for content, code in zip(state, function, strict=True))
            for state in states
            for sign in (-1, 1)
        )

    def sets(letters):
        found, waiting = [], [start]
        while waiting:
            states = waiting.pop(waiting.index(max(waiting, key=len)))  # large ones contain others soon
            for letter in letters:
                following = after(states, letter)
                if not any(following <= other for other in found):
                    found.append(following)
                    waiting.append(following)
        return found

    start = frozenset((bias,) * 3 for bias in biases)
    first = functions(after(start, (-1, 0, 1)))
    reached, tried = set(first), set()
    offers = [frozenset(tuple(table[code + 1] for code in function) for function in first)]
    while offers:
        offer = offers.pop()
        if offer in tried:
            continue
        tried.add(offer)
        for states in sets(sorted(offer)):
            made = functions(states)
            reached |= made
            offers.append(frozenset(tuple(table[code + 1] for code in function) for function in made))
    return reached


@pytest.mark.parametrize("table", [(0, 0, 1), (-1, 0, 1), (-1, 1, 1), (1, 0, 0), (1, 0, 1), (0, 1, 0)])
@pytest.mark.parametrize("name", ["every step", "wrap"])
def test_plain_sets_of_states_give_the_same_functions(name, table):
    def sums_to(content, product):
        total = content + product
        return max(-1, min(total, 1)) if name == "every step" else (total + 2) % 4 - 2

    reached = closed_by_plain_sets(sums_to, lambda content: max(-1, min(content, 1)), table, (-1, 0, 1))
    result = decide_by_closure(datapath(name, 1, 1), 1, 1, table, weights="binary")
    assert result.complete
    assert {function for function in ALL if result.reaches(list(function))} == reached
    assert result.universal is (len(reached) == 27)


@pytest.mark.parametrize("weights", ["full", "ternary", "binary"])
@pytest.mark.parametrize(("p", "inputs"), [(2, 1), (1, 2)])
def test_larger_grids_are_settled_as_the_theorems_say(weights, p, inputs):
    """Whole sums in a wide register: integer combinations settle what cannot be listed one by one."""
    rng, answers = np.random.default_rng(2 * p + inputs), []
    for bias, tie in product(("values", "wide", "fine"), ("half_up", "half_even")):
        sums = fq.universal.round_once(tie).datapaths["linear"]
        for _ in range(3):
            largest = 2**p - 1
            chosen = rng.integers(-largest, largest + 1, int(rng.integers(2, 4)))
            table, s = rng.choice(chosen, 2 * largest + 1).tolist(), int(rng.integers(1, 2 * largest + 2))
            found = decide_by_closure(sums, p, s, table, weights, bias, inputs, tie, limit=4_000_000)
            expected = fq.universal.decide(table, fq.symmetric(p, s), weights, bias, tie, inputs=inputs).universal
            assert found.universal in (expected, None if weights == "binary" else expected)
            answers.append(found.universal)
    assert {True, False} <= set(answers)
    assert answers.count(None) <= 3


def test_a_combination_that_is_not_listed_has_no_network_and_says_so():
    result = decide_by_closure(ONCE, 2, 2, "relu", "binary")
    assert result.universal is True
    assert "integer combinations" in result.reason
    rng, refused = np.random.default_rng(0), []
    for _ in range(20):
        target = rng.integers(-3, 4, 7)
        assert result.reaches(target) is True
        try:
            graph = result.network(target)
        except fq.BadInput as problem:
            refused.append(str(problem))
        else:
            assert fq.universal.verify(graph, target, machine=result.machine) is None
    assert refused
    assert all("did not list" in problem for problem in refused)


def test_two_inputs_are_settled_too():
    result = decide_by_closure(datapath("every step", 1, 2), 1, 2, "sign", weights="binary", inputs=2)
    assert result.universal is True
    target = np.array([[1, -1, 0], [0, 1, 1], [-1, 0, -1]])
    assert fq.universal.verify(result.network(target), target, machine=result.machine) is None


def test_what_even_free_neurons_cannot_do_is_excluded():
    result = decide_by_closure(MACHINES["every step"], 1, 2, (1, 1, 1), weights="binary")
    assert result.universal is False
    assert result.reaches([0, 1, 0]) is False
    with pytest.raises(fq.BadInput, match="no network for the codes"):
        result.network([0, 1, 0])


def test_a_limit_leaves_it_open_and_says_so():
    result = decide_by_closure(datapath("wrap +1 bit", 1, 2), 1, 2, "relu", "binary", inputs=2, limit=200_000)
    assert result.universal is None
    assert not result.complete
    assert "limit" in result.reason
    assert 0 < result.reached < 3**9
    assert result.reaches(result.missing) is None


@pytest.mark.parametrize("seed", range(20))
def test_any_datapath_computes_what_is_reached_and_nothing_that_is_excluded(seed):
    rng = np.random.default_rng(seed)
    table, s = rng.integers(-1, 2, 3).tolist(), int(rng.choice([1, 2, 4]))
    weights = ("binary", "scaled:1", "scaled:3")[rng.integers(3)]
    bias = ("values", "wide", "fine")[rng.integers(3)]
    result = decide_by_closure(any_datapath(rng), 1, s, table, weights=weights, bias=bias, limit=3_000_000)
    reached = [function for function in ALL if result.reaches(list(function))]
    for place in rng.permutation(len(reached))[:3]:
        target = list(reached[place])
        assert fq.universal.verify(result.network(target), target, machine=result.machine, engine="exact") is None
    setting = result.setting
    for widths in product([1], [2, 3, 7], [1, 4, 9], [24]):
        layers = tuple(
            Layer(rng.choice(setting.weight_codes, (n, m)), rng.choice(list(setting.codes), n) * s)
            for m, n in pairwise(widths)
        )
        found = outputs(Network(setting, tuple(table), layers), result.machine)
        assert all(result.reaches(function) is not False for function in found.tolist())


@pytest.mark.parametrize("limit", [1, 1000, 30_000, 300_000])
def test_three_bits_are_left_open_where_the_limit_ends_it(limit):
    result = decide_by_closure(datapath("every step", 2, 2, "binary"), 2, 2, "identity", "binary", limit=limit)
    assert result.universal is None
    assert "limit" in result.reason
    assert result.layers[0] == 14
    assert sum(result.layers) >= result.reached >= 14
