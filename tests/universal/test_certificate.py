"""Certificates hold, and tampered ones are refused."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import fixqnn as fq
from fixqnn.universal.grid import TIES
from fixqnn.universal.verdict import BlindPair, ConstantTable, MissedCells, Recipe

check, decide = fq.universal.check_certificate, fq.universal.decide


@pytest.mark.parametrize("weights", ["full", "ternary", "binary", "scaled:3"])
@pytest.mark.parametrize("bias", ["values", "wide", "fine"])
def test_every_verdict_has_a_certificate_that_holds(weights, bias):
    draw = random.Random(f"{weights}{bias}")
    kinds = set()
    for _ in range(40):
        p, inputs = draw.choice([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
        largest = 2**p - 1
        pool = draw.sample(range(-largest, largest + 1), draw.randint(1, 3))
        table = [draw.choice(pool) for _ in range(2 * largest + 1)]
        s = draw.randint(1, 2 * largest + 2)
        verdict = decide(table, fq.symmetric(p, s), weights, bias, draw.choice(TIES), inputs)
        found = fq.universal.examine_certificate(verdict)
        assert found.holds, (verdict, found)
        kinds.add(type(verdict.certificate).__name__)
    assert {"ConstantTable", "Recipe"} <= kinds
    assert bias == "fine" or "BlindPair" in kinds or weights in ("ternary", "binary")


@pytest.mark.parametrize(
    ("arguments", "certificate"),
    [
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), BlindPair((-7, -7), (-4, -4))),
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), BlindPair((-7, -7), (-7, -7))),
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), BlindPair((-7,), (-6,))),
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), BlindPair((-9, -9), (-8, -8))),
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), None),
        (("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2), Recipe("cubes", 2, 2, 0, True)),
        (("relu", fq.symmetric(2, 7)), BlindPair((0,), (3,))),
        (("sign", fq.symmetric(2, 1)), MissedCells(2, ((0, 1),), -2, 2)),
        (("sign", fq.symmetric(2, 1)), MissedCells(2, ((0, 0), (1, 0)), -2, 2)),
        (("sign", fq.symmetric(2, 1)), MissedCells(3, ((0, 1), (1, 0), (2, 0)), -2, 2)),
        (("sign", fq.symmetric(2, 1)), MissedCells(2, (), -1, 1)),
        (("sign", fq.symmetric(2, 1)), ConstantTable(1)),
        (("sigmoid", fq.symmetric(1, 2)), ConstantTable(0)),
        (("relu", fq.symmetric(2, 2)), Recipe("generic", 2, 2, 0, False)),
        (("relu", fq.symmetric(2, 2)), Recipe("magic", 2, 1, 0, False)),
        (("relu", fq.symmetric(2, 2)), Recipe("generic", 1, 1, 0, False)),
        (("relu", fq.symmetric(2, 2)), Recipe("generic", 2, 1, 0, True)),
        (("relu", fq.symmetric(2, 2), "binary", "wide"), Recipe("cubes", 2, 2, 0, False)),
        (("relu", fq.symmetric(2, 2), "binary"), Recipe("generic", 3, 2, 0, False)),
        (("relu", fq.symmetric(2, 2), "binary"), Recipe("generic", 2, 2, 1, False)),
    ],
)
def test_a_certificate_that_was_changed_is_refused(arguments, certificate):
    verdict = decide(*arguments)
    assert check(verdict)
    if certificate == Recipe("generic", 2, 2, 1, False):
        certificate = replace(verdict.certificate, step=3)
    assert not check(replace(verdict, certificate=certificate))


def test_a_verdict_that_was_changed_is_refused():
    verdict = decide("tanh", fq.symmetric(3, 2), "binary", "values", "half_up", 2)
    for change in (
        {"universal": True},
        {"universal": None},
        {"g": 2},
        {"gamma": 3},
        {"omega": 1},
        {"value_set": (0, 1)},
        {"table": (0, *verdict.table[1:])},
        {"table": verdict.table[1:]},
        {"table": (9, *verdict.table[1:])},
        {"setting": replace(verdict.setting, bias="wide")},
        {"inputs": 1},
    ):
        assert not check(replace(verdict, **change)), change


def test_a_false_claim_of_universality_is_refused():
    yes = decide("relu", fq.symmetric(2, 1), "binary", inputs=2)
    for name in ("sigmoid", "abs"):
        no = decide(name, fq.symmetric(2, 1), "binary", inputs=2)
        assert not check(replace(no, universal=True, certificate=yes.certificate))
    no = decide((0, 0, 0, 0, 0, 1, 0), fq.symmetric(2, 1), "binary")
    assert check(no)


def test_the_span_proves_what_is_too_long_to_list():
    verdict = decide("step", fq.symmetric(11, 1000), "binary", "fine")
    assert verdict.failed == "covering"
    assert verdict.certificate.offsets == ()
    assert check(verdict)
    assert not check(replace(verdict, certificate=replace(verdict.certificate, first=0)))


def test_large_inputs_are_sampled_and_it_says_so():
    found = fq.universal.examine_certificate(decide("gelu", fq.symmetric(8, 16), inputs=3))
    assert found.holds
    assert "SAMPLE" in str(found)


def test_single_functions_have_certificates_too():
    draw, values = random.Random(3), fq.symmetric(2, 2)
    for weights in ("full", "binary"):
        for _ in range(25):
            table = [draw.choice((-3, 0, 2)) for _ in range(7)]
            target = [draw.choice((0, 1, 2)) for _ in range(7)]
            verdict = fq.universal.decide_function(target, table, values, weights, "wide")
            assert check(verdict), verdict
    affine = fq.universal.decide_function(range(-3, 4), "relu", values)
    assert check(affine)
    assert not check(replace(affine, certificate=replace(affine.certificate, bias=2)))


def test_only_verdicts_are_checked():
    with pytest.raises(fq.BadInput, match="a verdict of decide"):
        check(True)


def test_a_pair_of_inputs_with_many_coordinates_is_shown_in_short():
    certificate = decide("relu", fq.symmetric(2, 7), inputs=10**5).certificate
    assert str(certificate).endswith("the input codes (0, 0, … 0) and (1, 0, … 0) apart")
    assert str(decide("relu", fq.symmetric(2, 7), inputs=3).certificate).endswith("(0, 0, 0) and (1, 0, 0) apart")


@pytest.mark.parametrize("weights", ["scaled:3000000021", "full", "ternary"])
@pytest.mark.parametrize("bias", ["values", "wide", "fine"])
def test_coverings_with_large_steps_are_examined_at_once(weights, bias):
    verdict = fq.universal.decide([-3, -3, -3, -3, 3, 3, 3], fq.symmetric(2, 4), weights, bias)
    assert verdict.failed == "covering"
    assert fq.universal.check_certificate(verdict)
