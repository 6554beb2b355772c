"""Closed forms and hashes of the first two layers against a list of all neurons."""

from __future__ import annotations

import random
from itertools import product
from math import gcd

import pytest

from fixqnn.universal.grid import TIES, Setting
from fixqnn.universal.rows import Rows
from fixqnn.universal.second_layer import _has_opposite_rows as opposite
from fixqnn.universal.second_layer import second_layer
from fixqnn.universal.separation import _doubtful_points as doubtful
from fixqnn.universal.separation import first_layer
from tests.universal.exhaustive import nearest


def listed_rows(setting, table, inputs):
    """The outputs of all first-layer neurons on every input."""
    largest, s, tie = setting.largest, setting.s, str(setting.rounding)
    reach = max(setting.weight_codes) * largest * inputs
    biases = {
        "values": [s * b for b in range(-largest, largest + 1)],
        "wide": [s * b for b in range(-reach // s - largest - 2, reach // s + largest + 3)],
        "fine": range(-reach - s * (largest + 2), reach + s * (largest + 2) + 1),
    }[setting.bias]
    outputs = {}

    def row(n):
        if n not in outputs:
            codes = [max(-largest, min(nearest(n + b, s, tie), largest)) for b in biases]
            outputs[n] = tuple(table[k + largest] for k in codes)
        return outputs[n]

    points = list(product(range(-largest, largest + 1), repeat=inputs))
    forms = list(product(setting.weight_codes, repeat=inputs))
    return {x: sum((row(sum(w * c for w, c in zip(form, x, strict=True))) for form in forms), ()) for x in points}


def cases(count, seed, p_and_inputs, all_weights, all_biases):
    draw = random.Random(seed)
    while count:
        p, inputs = draw.choice(p_and_inputs)
        largest = 2**p - 1
        setting = Setting(
            p, draw.randint(1, 2 * largest + 2), draw.choice(all_weights), draw.choice(all_biases), draw.choice(TIES)
        )
        pool = draw.sample(range(-largest, largest + 1), draw.randint(2, 3))
        table = [draw.choice(pool) for _ in range(2 * largest + 1)]
        if draw.random() < 0.6:  # flat ends, where theorems break
            for i in range(draw.randint(1, largest)):
                table[i], table[-1 - i] = table[0], draw.choice((table[0], table[-1], -table[0]))
        if draw.random() < 0.3:
            table = [table[abs(i - largest)] for i in range(2 * largest + 1)]
        if len(set(table)) > 1:
            count -= 1
            yield setting, tuple(table), inputs


WEIGHTS = ("full", "ternary", "binary", "binary", "scaled:1", "scaled:2", "scaled:3", "scaled:5")


@pytest.mark.parametrize("seed", range(4))
def test_the_first_layer_tells_apart_what_its_neurons_tell_apart(seed):
    found = set()
    for setting, table, inputs in cases(
        60, seed, [(1, 1), (1, 2), (2, 1), (2, 1), (1, 3)], WEIGHTS, ("values", "wide", "fine")
    ):
        rows = listed_rows(setting, table, inputs)
        separation = first_layer(setting, table, inputs)
        if setting.has_zero and inputs > 1:  # the theorem: as for one input
            assert separation.holds is (len(set(listed_rows(setting, table, 1).values())) == 2 * setting.largest + 1)
        else:
            assert separation.holds is (len(set(rows.values())) == len(rows)), (setting, table, inputs)
        if separation.pair:
            x, y = separation.pair
            assert x != y
            assert rows[x] == rows[y] or (setting.has_zero and inputs > 1)
        found.add(separation.holds)
    assert found == {True, False}


@pytest.mark.parametrize("seed", range(3))
def test_two_inputs_of_two_bits_without_a_zero_weight(seed):
    for setting, table, inputs in cases(25, seed, [(2, 2)], WEIGHTS[2:], ("values", "wide")):
        rows = listed_rows(setting, table, inputs)
        assert first_layer(setting, table, inputs).holds is (len(set(rows.values())) == len(rows)), (setting, table)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("tie", TIES)
def test_full_weights_meet_theorem_s_at_its_boundary(p, tie):
    draw, largest = random.Random(p), 2**p - 1
    for s, bias in product((2 * largest - 1, 2 * largest, 2 * largest + 1), ("values", "wide")):
        setting = Setting(p, s, "full", bias, tie)
        spikes = [tuple(int(k == spike) for k in setting.codes) for spike in setting.codes]
        for table in [*draw.sample(spikes, 3), tuple(k % 2 for k in setting.codes)]:
            rows = listed_rows(setting, table, 1)
            assert first_layer(setting, table, 1).holds is (len(set(rows.values())) == len(rows)), (setting, table)


def listed_theorem_c(setting, table, inputs):
    """How many hidden layers theorem C gives, by comparing all rows; 0: none."""
    largest, unit, s, tie = setting.largest, setting.weight_unit, setting.s, str(setting.rounding)
    groups, zeros = {}, []
    for x, row in listed_rows(setting, table, inputs).items():
        size = gcd(*row)
        if not size:
            zeros.append(x)
            continue
        size = size if next(code for code in row if code) > 0 else -size
        groups.setdefault(tuple(code // size for code in row), []).append(size)
    pairs = {(a, b) for group in groups.values() for a in group for b in group if a != b}
    pairs |= {(0, b) for group in groups.values() for b in group if zeros}

    def output(n):
        return table[max(-largest, min(nearest(n, s, tie), largest)) + largest]

    def told_apart(a, b):
        turns = range(-2 * largest * s // unit - 3, 2 * largest * s // unit + 4)
        shifts = [s * c for c in range(-largest, largest + 1)]
        return any(output(2 * unit * t * a + c) != output(2 * unit * t * b + c) for t in turns for c in shifts)

    if not pairs:
        return 2
    return 3 if all(told_apart(a, b) for a, b in pairs) else 0


@pytest.mark.parametrize("seed", range(4))
def test_theorem_c_is_what_all_rows_say(seed):
    seen = set()
    for setting, table, inputs in cases(
        60, seed + 20, [(1, 1), (2, 1), (2, 1), (1, 2), (1, 3)], WEIGHTS[2:], ("values",)
    ):
        layers = listed_theorem_c(setting, table, inputs)
        assert second_layer(setting, table, inputs).hidden_layers == layers, (setting, table, inputs)
        seen.add(layers)
    assert {2, 3} <= seen


def test_two_inputs_of_two_bits_need_no_third_layer():
    for setting, table, inputs in cases(15, 7, [(2, 2)], ("binary", "scaled:2"), ("values",)):
        assert second_layer(setting, table, inputs).hidden_layers == listed_theorem_c(setting, table, inputs)


def test_tables_of_many_codes_are_settled_neuron_by_neuron():
    for p, tie in product((8, 9), ("half_up", "half_even")):
        largest = 2**p - 1
        even = tuple(abs(k) // 2 for k in range(-largest, largest + 1))
        for s in (3, largest, 2 * largest):
            assert first_layer(Setting(p, s, rounding=tie), even, 1).holds


def test_square_waves_have_opposite_rows_and_are_listed_for_that():
    """Where the shortcut for two and more inputs does not apply, all inputs are compared."""
    found = 0
    for period in range(1, 15):
        for shift in range(2 * period):
            table = tuple(1 if (k + 7 + shift) // period % 2 else -1 for k in range(-7, 8))
            setting = Setting(3, 1, "binary")
            if table[0] != table[-1] and opposite(Rows(setting, table), 2):
                found += 1
                if first_layer(setting, table, 2).holds:
                    layers = listed_theorem_c(setting, table, 2)
                    assert second_layer(setting, table, 2).hidden_layers == layers, table
    assert found


@pytest.mark.parametrize("bias", ["values", "wide"])
def test_scaled_weights_with_sums_that_share_rows_are_settled_without_listing_all_inputs(bias):
    """What is left to list, where sums saturate or round alike, still holds the blind pairs."""
    draw, letters = random.Random(4), set()
    for _ in range(60):
        p, inputs = draw.choice([(1, 2), (1, 3), (2, 2)])
        largest = 2**p - 1
        s = draw.randint(1, 2 * largest + 2)
        setting = Setting(p, s, f"scaled:{draw.randint(1, 2 * s + 1)}", bias, draw.choice(TIES))
        table = tuple(draw.choice((0, 1, largest)) for _ in setting.codes)
        if len(set(table)) == 1:
            continue
        rows = listed_rows(setting, table, inputs)
        found = first_layer(setting, table, inputs)
        blind = len(set(map(tuple, rows.values()))) < len(rows)
        assert found.holds is not blind, (setting, table)
        assert found.pair is None or rows[found.pair[0]] == rows[found.pair[1]]
        letters.add(blind)
    assert letters == {True, False}


def test_of_two_million_inputs_only_those_with_doubtful_sums_are_listed():
    setting, half = Setting(6, 126, "scaled:127"), Setting(6, 8, "scaled:4", rounding="half_even")
    relu, even = (tuple(f(k) for k in range(-63, 64)) for f in (lambda k: max(k, 0), abs))
    assert len(doubtful(setting, Rows(setting, relu), 3)[0]) < 127**3 / 20
    assert len(doubtful(half, Rows(half, relu), 3)[0]) == 0
    assert first_layer(setting, relu, 3).holds
    assert not first_layer(setting, even, 3).holds
