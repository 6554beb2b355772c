"""Closed forms and hashes of the first two layers against a list of all neurons."""

from __future__ import annotations

import random
import time
from itertools import product
from math import gcd

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.universal.grid import TIES, Setting
from fixqnn.universal.rows import Rows
from fixqnn.universal.second_layer import _told_apart, second_layer
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


def told_apart(setting, table, a, b):
    """Whether a second layer of weights ±a, an even number of each, gives different outputs on the two multiples."""
    largest, unit, s, tie = setting.largest, setting.weight_unit, setting.s, str(setting.rounding)

    def output(n):
        return table[max(-largest, min(nearest(n, s, tie), largest)) + largest]

    turns = range(-2 * largest * s // unit - 3, 2 * largest * s // unit + 4)
    shifts = [s * c for c in range(-largest, largest + 1)]
    return any(output(2 * unit * t * a + c) != output(2 * unit * t * b + c) for t in turns for c in shifts)


def listed_theorem_c(setting, table, inputs):
    """How many hidden layers theorem C gives, by comparing all rows; 0: none."""
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

    if not pairs:
        return 2
    return 3 if all(told_apart(setting, table, a, b) for a, b in pairs) else 0


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


def test_square_waves_whose_rows_are_often_opposite():
    seen = set()
    for period, setting in product(range(1, 15, 2), (Setting(3, 1, "binary"), Setting(3, 4, "scaled:3"))):
        for shift in range(0, 2 * period, 2):
            table = tuple(1 if (k + 7 + shift) // period % 2 else -1 for k in range(-7, 8))
            if len(set(table)) > 1:
                layers = listed_theorem_c(setting, table, 2)
                assert second_layer(setting, table, 2).hidden_layers == layers, table
                seen.add(layers)
    assert {2, 3} <= seen


def sparse(count, seed, p_and_inputs):
    """Tables that are mostly zero, where rows are zero or multiples of each other most often."""
    draw = random.Random(seed)
    for _ in range(count):
        p, inputs = draw.choice(p_and_inputs)
        largest = 2**p - 1
        table = [0] * (2 * largest + 1)
        while not any(table):
            for _ in range(draw.randint(1, 3)):
                table[draw.randrange(len(table))] = draw.choice((-2, -1, 1, 2)) if p > 1 else draw.choice((-1, 1))
        s = draw.randint(1, 2 * largest + 2)
        yield (
            Setting(p, s, f"scaled:{draw.randint((s + 1) // 2, 2 * s + 1)}", "values", draw.choice(TIES)),
            table,
            inputs,
        )


@pytest.mark.parametrize("seed", range(3))
def test_theorem_c_for_sparse_tables_and_up_to_four_inputs(seed):
    seen = set()
    for setting, table, inputs in sparse(120, seed, [(1, 3), (1, 4), (2, 1), (2, 2), (2, 2), (2, 2), (3, 1)]):
        layers = listed_theorem_c(setting, table, inputs)
        assert second_layer(setting, table, inputs).hidden_layers == layers, (setting, table, inputs)
        seen.add(layers)
    assert {2, 3} <= seen


def test_multiples_that_a_second_layer_tells_apart():
    seen, draw = set(), random.Random(9)
    for _ in range(300):
        s, tie = draw.randint(1, 8), draw.choice(TIES)
        setting = Setting(2, s, f"scaled:{draw.randint(1, 3 * s)}", "values", tie)
        table = [draw.choice((0, 0, 1)) for _ in setting.codes]
        a, b = draw.sample(range(-3, 4), 2)
        if len(set(table)) > 1:
            seen.add(told_apart(setting, table, a, b))
            assert _told_apart(Rows(setting, table), a, b) is told_apart(setting, table, a, b), (setting, table, a, b)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("setting", "table", "layers"),
    [
        (Setting(2, 6, "scaled:14", rounding="half_toward_zero"), (0, -2, 0, 0, 0, 2, 0), 0),
        (Setting(2, 2, "scaled:4", rounding="half_even"), (0, -1, 0, 0, 0, 1, 0), 3),
        (Setting(2, 2, "scaled:4"), (0, 0, 0, 1, 0, 0, 0), 3),
    ],
)
def test_three_inputs_where_some_have_zero_rows(setting, table, layers):
    assert any(not any(rows) for rows in listed_rows(setting, table, 3).values())
    assert listed_theorem_c(setting, table, 3) == layers
    assert second_layer(setting, table, 3).hidden_layers == layers


@pytest.mark.parametrize("bias", ["values", "wide"])
@pytest.mark.parametrize("seed", range(2))
def test_scaled_weights_by_theorem_e(bias, seed):
    draw, letters = random.Random(seed + 4), set()
    for _ in range(80):
        p, inputs = draw.choice([(1, 2), (1, 3), (1, 4), (2, 2), (2, 2), (2, 3)])
        largest = 2**p - 1
        s = draw.randint(1, 2 * largest + 2)
        setting = Setting(p, s, f"scaled:{draw.randint((s + 1) // 2, s + 1)}", bias, draw.choice(TIES))
        table = tuple(draw.choice((0, 1, largest)) for _ in setting.codes)
        if len(set(table)) == 1:
            continue
        rows = listed_rows(setting, table, inputs)
        found = first_layer(setting, table, inputs)
        blind = len(set(rows.values())) < len(rows)
        assert found.holds is not blind, (setting, table)
        assert found.pair is None or found.pair[0] != found.pair[1]
        assert found.pair is None or rows[found.pair[0]] == rows[found.pair[1]]
        letters.add(blind)
    assert letters == {True, False}


def test_many_inputs_are_decided_like_few():
    for setting, table, _ in sparse(100, 1, [(3, 1), (4, 1)]):
        few, many = first_layer(setting, table, 3), first_layer(setting, table, 50)
        assert few.holds is many.holds
        assert few.pair is None or many.pair == tuple(x + (0,) * 47 for x in few.pair)
        if few.holds:
            assert second_layer(setting, table, 2).hidden_layers == second_layer(setting, table, 50).hidden_layers


def test_twelve_inputs_with_a_certificate():
    verdict = fq.universal.decide("gelu", fq.symmetric(3, 4), "scaled:3", inputs=12)
    assert (verdict.letter, verdict.certificate.hidden_layers) == ("R", 2)
    verdict = fq.universal.decide("tanh", fq.symmetric(3, 2), "scaled:2", inputs=12)
    assert verdict.letter == "x"
    assert fq.universal.check_certificate(verdict)


def test_six_bits_and_many_inputs_take_milliseconds():
    for name, s, weights in (("sigmoid", 126, "scaled:63"), ("gelu", 127, "scaled:126"), ("tanh", 8, "scaled:7")):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            fq.universal.decide(name, fq.symmetric(6, s), weights, inputs=9)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.03


def test_hashes_that_coincide_are_found_out(monkeypatch):
    setting, table = Setting(2, 4, "scaled:3"), (-3, -2, -1, 0, 1, 2, 3)
    assert (first_layer(setting, table, 2).holds, second_layer(setting, table, 2).holds) == (True, True)
    monkeypatch.setattr(Rows, "hashes", lambda self, sums, prime: np.zeros(len(sums), np.int64))
    assert first_layer(setting, table, 2).holds is None
    assert second_layer(setting, table, 2).holds is None


@pytest.mark.parametrize("tie", TIES)
def test_rows_and_their_sizes_by_definition(tie):
    draw = random.Random(3)
    for p, s in product((1, 2, 3), (1, 2, 3, 6)):
        largest = 2**p - 1
        setting = Setting(p, s, rounding=tie)
        table = [draw.choice((-largest, 0, 2 % (largest + 1), largest)) for _ in setting.codes]
        rows, sums = Rows(setting, table), np.arange(-4 * largest * s, 4 * largest * s + 1)
        windows = rows.windows(sums)
        for n, window in zip(sums.tolist(), windows.tolist(), strict=True):
            codes = [max(-largest, min(nearest(n + s * b, s, str(tie)), largest)) for b in setting.codes]
            assert window == [table[k + largest] for k in codes]
        assert (rows.sizes(sums) == np.gcd.reduce(windows, axis=1)).all()
