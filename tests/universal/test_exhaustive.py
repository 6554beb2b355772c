"""Verdicts against everything that tiny networks compute."""

from __future__ import annotations

import random
from itertools import product

import pytest

import fixqnn as fq
from fixqnn.universal.decide import covers
from fixqnn.universal.grid import TIES
from tests.universal.exhaustive import Exhaustive

WEIGHTS = ("full", "ternary", "binary", "scaled:1", "scaled:2", "scaled:5")
BIASES = ("values", "wide", "fine")
ALL_TABLES = list(product((-1, 0, 1), repeat=3))


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("tie", TIES)
def test_every_table_of_three_codes_has_the_verdict_of_exhaustion(s, tie):
    for weights, bias in product(WEIGHTS, BIASES):
        computed = Exhaustive(1, s, weights, bias, tie, (-1, 0, 1))
        for table in ALL_TABLES:
            verdict = fq.universal.decide(table, fq.symmetric(1, s), weights, bias, tie)
            assert verdict.universal is (len(computed.functions(table)) == 27), verdict


@pytest.mark.parametrize("tie", TIES)
def test_every_function_of_three_inputs_has_the_verdict_of_exhaustion(tie):
    draw = random.Random(tie)
    for weights, bias in product(WEIGHTS, BIASES):
        s = draw.choice((2, 2, 3, 4))
        computed = Exhaustive(1, s, weights, bias, tie, (-1, 0, 1))
        for table in draw.sample(ALL_TABLES, 5):
            functions = computed.functions(table)
            for target in ALL_TABLES:
                verdict = fq.universal.decide_function(target, table, fq.symmetric(1, s), weights, bias, tie)
                assert verdict.representable is (target in functions), verdict


def settings_of_two_bits():
    draw = random.Random(2)
    for weights in ("full", "ternary", "binary", "scaled:2", "scaled:3"):
        for bias in BIASES:
            yield weights, bias, draw.choice((2, 4, 6) if weights == "full" else (1, 2, 3)), draw.choice(TIES)


def missed_by_every_offset(verdict):
    """Triples of codes whose cells no residue class modulo ωg meets, all three."""
    step, setting = verdict.omega * verdict.g, verdict.setting
    reached = set()
    for theta in range(step):
        codes = [
            k
            for k in setting.codes[1:-1]
            if any((n - theta) % step == 0 for n in range(setting.cell(k)[0], setting.cell(k)[1] + 1))
        ]
        reached |= set(product(codes, repeat=3))
    return [triple for triple in product(setting.codes[1:-1], repeat=3) if triple not in reached]


@pytest.mark.parametrize(("weights", "bias", "s", "tie"), list(settings_of_two_bits()))
def test_tables_of_seven_codes_have_the_verdict_of_exhaustion_on_three_inputs(weights, bias, s, tie):
    """A universal network computes all 343 functions on any three inputs; a blind pair among them forbids some."""
    draw = random.Random(f"{weights} {bias}")
    points = tuple(draw.sample(range(-3, 4), 3))
    computed = Exhaustive(2, s, weights, bias, tie, points)
    for _ in range(150):
        pool = draw.sample(range(-3, 4), draw.randint(2, 4))
        table = tuple(draw.choice(pool) for _ in range(7))
        verdict = fq.universal.decide(table, fq.symmetric(2, s), weights, bias, tie)
        assert verdict.universal is not None
        if verdict.failed == "distinguishability":
            x, y = verdict.certificate.x[0], verdict.certificate.y[0]
            points = (x, y, next(k for k in range(-3, 4) if k not in (x, y)))
            functions = Exhaustive(2, s, weights, bias, tie, points).functions(table)
            assert len(functions) < 343, verdict
        elif verdict.failed == "covering":
            functions = computed.functions(table)
            for triple in missed_by_every_offset(verdict):
                assert triple not in functions or triple in computed.first_sums, verdict
        else:
            assert (len(computed.functions(table)) == 343) is verdict.universal, verdict


@pytest.mark.parametrize("tie", TIES)
def test_functions_of_seven_codes_agree_with_exhaustion_where_a_cell_is_missed(tie):
    """Three inputs show three codes: which triples are computed is what the offsets say."""
    draw = random.Random(tie)
    for weights, bias in product(("full", "binary", "scaled:3"), ("wide", "fine")):
        s = draw.choice((1, 2, 3, 4))
        points = tuple(draw.sample(range(-3, 4), 3))
        computed = Exhaustive(2, s, weights, bias, tie, points)
        for _ in range(20):
            pool = draw.sample(range(-3, 4), 2)
            table = tuple(draw.choice(pool) for _ in range(7))
            verdict = fq.universal.decide(table, fq.symmetric(2, s), weights, bias, tie)
            functions = computed.functions(table)
            for triple in draw.sample(list(product(range(-3, 4), repeat=3)), 12):
                target = [triple[0]] * 7
                for x, code in zip(points, triple, strict=True):
                    target[x + 3] = code
                found = fq.universal.decide_function(target, table, fq.symmetric(2, s), weights, bias, tie)
                if found.representable:
                    assert triple in functions, found
                elif verdict.failed == "covering" and found.certificate.__class__.__name__ == "MissedCells":
                    affine = triple in computed.first_sums  # on three inputs an affine map may do what none does on all
                    assert affine or triple not in functions, found


@pytest.mark.parametrize(("weights", "s"), [("full", 1), ("full", 2), ("binary", 1), ("binary", 3), ("scaled:2", 3)])
def test_two_inputs_have_the_verdict_of_exhaustion(weights, s):
    draw = random.Random(s)
    inputs = list(product((-1, 0, 1), repeat=2))
    for bias, tie in product(BIASES, TIES):
        points = tuple(draw.sample(inputs, 3))
        computed = Exhaustive(1, s, weights, bias, tie, points)
        for table in ALL_TABLES:
            verdict = fq.universal.decide(table, fq.symmetric(1, s), weights, bias, tie, inputs=2)
            assert verdict.universal is not None
            if verdict.failed == "distinguishability":
                pair = verdict.certificate.x, verdict.certificate.y
                points = (*pair, next(x for x in inputs if x not in pair))
                assert len(Exhaustive(1, s, weights, bias, tie, points).functions(table)) < 27, verdict
            else:
                assert (len(computed.functions(table)) == 27) is verdict.universal, verdict


@pytest.mark.parametrize("tie", TIES)
def test_the_closed_form_of_covering_is_its_definition_for_every_offset(tie):
    for p, s in product((1, 2, 3), range(1, 13)):
        setting = fq.universal.Setting(p, s, rounding=tie)
        cells = [setting.cell(k) for k in setting.codes[1:-1]]
        for step in range(1, 3 * s + 2):
            meets = [all(low + (theta - low) % step <= high for low, high in cells) for theta in range(step)]
            assert any(meets) == meets[0] == covers(setting, step), (setting, step)
