"""The public door: verdicts, their words, what is refused, and how long it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.universal.decide import decide_setting

decide = fq.universal.decide


def test_a_verdict_says_why_in_words():
    verdict = decide("sigmoid", fq.symmetric(2, 1), "binary", inputs=2)
    text = str(verdict)
    assert "NO, not every function" in text
    assert "no neuron of the first layer tells the input codes (-3, -3) and (-2, -2) apart" in text
    assert verdict.condition("constant").holds
    assert verdict.condition("covering").holds
    assert verdict.condition("distinguishability").holds is False
    assert (verdict.value_set, verdict.g, verdict.gamma, verdict.omega) == ((0, 1), 1, 1, 1)
    assert json.loads(json.dumps(verdict.facts()))["certificate"]["x"] == [-3, -3]


def test_sigmoid_with_weights_of_one_bit_needs_a_wide_bias_or_an_unsaturated_table():
    for s in (1, 2, 4):
        values = fq.symmetric(3, s)
        assert decide("sigmoid", values, "binary", "values", inputs=2).universal is False
        assert decide("sigmoid", values, "binary", "wide", inputs=2).universal is True
        assert decide("sigmoid", values, "binary", "fine", inputs=2).universal is True
        assert decide("sigmoid", values, "ternary", "values", inputs=2).universal is True


def test_a_recipe_says_how_a_network_is_built():
    recipe = decide("relu", fq.symmetric(3, 4), inputs=2).certificate
    assert (recipe.construction, recipe.hidden_layers, recipe.step, recipe.offset) == ("cubes", 2, 1, 0)
    assert decide("abs", fq.symmetric(2, 1)).certificate.threshold is False
    assert (
        decide([0, 1, 1, 1, 1, 0, 2], fq.symmetric(2, 1), "binary", "wide", inputs=3).certificate.construction
        == "binary cubes"
    )


def test_three_hidden_layers_where_rows_are_multiples_of_each_other():
    verdict = decide((0, -1, 0, 0, 0, 1, 0), fq.symmetric(2, 1), "binary")
    assert verdict.universal
    assert verdict.certificate.hidden_layers == 3
    assert "C2" in verdict.condition("second layer").words
    assert fq.universal.check_certificate(verdict)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("relu", fq.fixed(4, 2)), "symmetric format"),
        (("relu", fq.symmetric(2, 1.5)), "whole number s"),
        (("relu", fq.affine(3, 0.5)), "symmetric format"),
        (("relu", "symmetric"), "values must be a format"),
        (("relu", fq.symmetric(2, 1), "bniary"), "did you mean 'binary'"),
        (("relu", fq.symmetric(2, 1), "scaled"), "no weights are called"),
        (("relu", fq.symmetric(2, 1), "scaled:0"), "at least 1"),
        (("relu", fq.symmetric(2, 1), "full", "wdie"), "did you mean 'wide'"),
        (("relu", fq.symmetric(2, 1), "full", "values", "floor"), "must round to the nearest"),
        (("relu", fq.symmetric(2, 1), "full", "values", "half_odd"), "must round to the nearest"),
        (("relu", fq.symmetric(2, 1), "full", "values", "half_up", 0), "inputs must be at least 1, not 0"),
        (("relu", fq.symmetric(2, 1), "full", "values", "half_up", 1.5), "inputs must be an integer"),
        (([0, 1], fq.symmetric(2, 1)), "has 7 codes"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(fq.BadInput, match=words):
        decide(*arguments)


@pytest.mark.parametrize(("p", "s"), [(0, 1), (-1, 1), (1, 0), (1, -2), (1.5, 1)])
def test_formats_that_there_are_not(p, s):
    with pytest.raises(fq.FixqnnError):
        decide("relu", fq.symmetric(p, s))
    with pytest.raises(fq.BadInput, match="must be"):
        fq.universal.Setting(p, s)


def test_the_tie_rule_has_a_second_spelling():
    both = [decide("square", fq.symmetric(2, 6), rounding=tie) for tie in ("half_to_zero", "half_toward_zero")]
    assert both[0] == both[1]


def test_single_functions():
    values = fq.symmetric(2, 1)
    single = fq.universal.decide_function
    parity = np.arange(7) % 2
    assert single(parity, "sign", values).representable is False
    assert single(3 * parity, "sign", values).representable is True  # ends of the range are always reached
    assert single(np.arange(-3, 4), [0] * 7, values).certificate.weights == (1,)
    assert single([2] * 7, [0] * 7, values).representable is True
    assert single([2] * 7, [0] * 7, values, "binary").representable is True
    plane = np.add.outer(parity, parity) % 2
    assert single(plane, "relu", values, "binary").representable is True
    blind = np.zeros((7, 7), int)
    blind[0, 0] = 1
    assert (
        single(blind, "sigmoid", values, "binary").certificate
        == fq.universal.decide("sigmoid", values, "binary", inputs=2).certificate
    )
    for wrong in ([0, 1], np.zeros((7, 6), int), [0.5] * 7, [9] * 7, [[0], [1, 2]]):
        with pytest.raises(fq.BadInput, match="function"):
            single(wrong, "relu", values)


def best_of(count, work):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def test_small_formats_take_milliseconds_and_twelve_bits_less_than_a_second():
    for weights, bias in (("full", "values"), ("ternary", "values"), ("binary", "values"), ("binary", "wide")):
        assert best_of(3, lambda w=weights, b=bias: decide("gelu", fq.symmetric(6, 16), w, b, inputs=3)) < 0.05
    assert (
        best_of(2, lambda: decide(fq.universal.activation_table("gelu", fq.symmetric(12, 64)), fq.symmetric(12, 64)))
        < 1
    )


def test_the_room_loads_nothing_heavy_and_functions_win_their_names():
    code = (
        "import sys, fixqnn as fq; v = fq.universal.decide('gelu', fq.symmetric(3, 4)); import fixqnn.universal.decide; "
        "assert callable(fq.universal.decide); "
        "print([m for m in ('torch', 'numba', 'mpmath', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="did you mean decide"):
        fq.universal.deicde  # noqa: B018


@pytest.mark.parametrize("s", [2**61, 2**63, 10**30])
def test_steps_beyond_a_machine_word_are_exact_or_refused(s):
    def setting(weights, bias="values", s=s):
        return fq.universal.Setting(3, s, weights, bias)

    table = tuple(range(-7, 8))
    assert decide_setting("table", setting("full"), 2, table).letter == "x"
    assert decide_setting("table", setting("full", s=14), 2, table).letter == "R"
    assert decide_setting("table", setting("binary", "wide"), 2, table).letter == "R"
    missed = decide_setting("table", setting(f"scaled:{3 * s}"), 2, table)
    assert missed.letter == "c"
    for offset, code in missed.certificate.offsets:
        low, high = missed.setting.cell(code)
        assert low + (offset - low) % missed.certificate.step > high
    for weights in ("binary", "ternary", "scaled:3", f"scaled:{s + 1}"):
        with pytest.raises(fq.BadInput, match="too large, sums are exact"):
            decide_setting("table", setting(weights), 2, table)
    with pytest.raises(fq.BadInput, match="too large, sums are exact"):
        fq.universal.decide_function([0] * 15, "identity", fq.symmetric(3, s))


@pytest.mark.parametrize("weights", ["binary", "scaled:{s}", "ternary"])
def test_weights_of_one_give_one_verdict_for_every_step_that_is_taken(weights):
    """All sums are multiples of s and never meet a tie, so s does not matter to a table."""
    largest = 2**6 - 1
    tables = [
        tuple(max(k - k % 2, -62) for k in range(-largest, largest + 1)),
        tuple(range(-largest, largest + 1)),
        tuple(max(k, 0) for k in range(-largest, largest + 1)),
        tuple(abs(k) for k in range(-largest, largest + 1)),
        tuple(1 if k == 5 else 2 if k == -5 else 0 for k in range(-largest, largest + 1)),
    ]
    for table in tables:
        for inputs in (1, 3):
            found = {
                fq.universal.decide(table, fq.symmetric(6, s), weights.format(s=s), inputs=inputs).letter
                for s in (7, 2**40 + 1, 2**62 // (64 * largest))
            }
            assert len(found) == 1


def test_very_many_offsets_are_not_listed():
    values = fq.symmetric(2, 10**9 + 7)
    missed = fq.universal.decide([-3, -3, -3, 3, 3, 3, 3], values, "ternary", "fine")
    assert (missed.letter, missed.certificate.offsets) == ("c", ())
    single = fq.universal.decide_function
    assert single([0, 1, 2, 0, 1, 2, 0], [-3, -3, -3, 3, 3, 3, 3], values, "ternary", "fine").representable is None
    assert single([0, 3, 0, 3, 0, 3, 0], [-3, -3, -3, 3, 3, 3, 3], values, "ternary", "fine").representable is True


@pytest.mark.parametrize("codes", [np.full(7, 2**64 - 3, np.uint64), np.full(7, -(2**63)), np.full(7, 2**63 - 1)])
def test_codes_of_a_function_do_not_wrap(codes):
    with pytest.raises(fq.BadInput, match="between ±3, not"):
        fq.universal.decide_function(codes, "relu", fq.symmetric(2, 2))
    network = fq.universal.build([0] * 7, "relu", fq.symmetric(2, 2))
    with pytest.raises(fq.BadInput, match="between ±3, not"):
        fq.universal.verify(network, codes)


def test_what_is_no_table_and_no_size():
    values = fq.symmetric(1, 1)
    with pytest.raises(fq.BadInput, match="7 for one input, not the single value 3"):
        fq.universal.decide_function(3, "relu", fq.symmetric(2, 2))
    for wrong in ({-1: 0, 0: 1, 1: 1}, {0, 1, -1}, None, 3):
        with pytest.raises(fq.BadInput, match="a name, a function, or the sequence of its codes"):
            decide(wrong, values)
    with pytest.raises(fq.BadInput, match="one row of 3 codes"):
        decide([[0], [1], [1]], values)
    with pytest.raises(fq.BadInput, match="at least 1"):
        decide("relu", values, "scaled:" + "9" * 5000)
    assert "p=1, s=1), this function of 1 input: YES" in str(fq.universal.decide_function([0, 0, 1], "relu", values))
