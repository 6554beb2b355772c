"""Early stops: the limit is exact, and what belongs to the front is given up as rarely as promised."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from fixqnn.errors import BadInput
from fixqnn.metrics import accuracy
from fixqnn.sweeps.constraints import constraint
from fixqnn.sweeps.early_stop import EarlyStop, dominates, early_stop, right_limit, tail

OBJECTIVES = {"accuracy": 1, "bit_operations": -1}


def chances(all_right, seen, total):
    """P(X = k) of the hypergeometric distribution, as fractions."""
    every = math.comb(total, seen)
    return [Fraction(math.comb(all_right, k) * math.comb(total - all_right, seen - k), every) for k in range(seen + 1)]


def test_tails_are_those_of_the_definition():
    for total in (1, 7, 30):
        for all_right in range(total + 1):
            for seen in range(1, total + 1, 3):
                exact = np.cumsum([float(p) for p in chances(all_right, seen, total)])
                for right in range(seen + 1):
                    assert tail(right, all_right, seen, total) == pytest.approx(exact[right], rel=1e-10, abs=1e-300)


def test_tails_of_large_sets_are_right_at_both_ends():
    assert tail(600, 5000, 1000, 10_000) == pytest.approx(1.0, abs=1e-9)
    assert tail(400, 5000, 1000, 10_000) == pytest.approx(float(sum(chances(5000, 1000, 10_000)[:401])), rel=1e-9)


@pytest.mark.parametrize("error", [0.3, 0.05, 1e-3])
def test_the_limit_errs_as_rarely_as_it_promises_and_is_the_smallest_that_does(error):
    for total in range(1, 21):
        for seen in range(1, total + 1):
            limits = [right_limit(right, seen, total, error) for right in range(seen + 1)]
            for all_right in range(total + 1):
                some = chances(all_right, seen, total)
                missed = sum(p for right, p in enumerate(some) if all_right > limits[right])
                assert missed <= error
            for right, limit in enumerate(limits):
                assert right <= limit <= right + total - seen
                assert sum(chances(limit, seen, total)[: right + 1]) > error * (1 - 1e-5) or limit == right


def test_what_needs_no_luck_is_known_exactly():
    rule = EarlyStop(1000, 0.01, 10, (31, 125))
    limits = rule.bounds({"samples_used": 31, "right": 31, "events": 4, "bit_operations": 77, "sqnr": 9.0})
    assert limits["events"] == (4, math.inf)
    assert limits["bit_operations"] == (77, 77)
    assert limits["accuracy"] == (Fraction(31, 1000), 1)
    assert "sqnr" not in limits
    few = rule.bounds({"samples_used": 31, "right": 3})
    assert few["accuracy_low"][1] < few["accuracy"][1] < few["accuracy_high"][1] < 0.7
    whole = EarlyStop(31, 0.01, 10, ()).bounds({"samples_used": 31, "right": 3})
    found = accuracy(np.arange(31) < 3, np.ones(31, int))
    assert [whole[name][1] for name in ("accuracy_low", "accuracy_high")] == [found.low, found.high]


def test_a_point_ends_when_a_constraint_cannot_hold_any_more():
    rule = EarlyStop(1000, 0.01, 100, (31, 125))
    row = {"samples_used": 31, "right": 5, "events": 2, "bit_operations": 64, "float_accuracy": 0.95}
    limits = [constraint("accuracy >= float - 0.01")]
    assert "accuracy >= float - 0.01 cannot hold" in rule.reason(row, limits, OBJECTIVES, [])
    assert rule.reason({**row, "right": 29}, limits, OBJECTIVES, []) == ""
    assert "events <= 1" in rule.reason({**row, "right": 31}, [constraint("events <= 1")], OBJECTIVES, [])
    assert rule.reason({**row, "right": 31}, [constraint("events <= 2")], OBJECTIVES, []) == ""


def test_a_point_ends_when_it_is_dominated_at_its_best():
    rule = EarlyStop(1000, 0.01, 100, (31, 125))
    member = {
        "accuracy": 0.9,
        "right": 900,
        "total": 1000,
        "bit_operations": 64,
        "settings": {"weights": 8},
        "machine": "m",
    }
    row = {"samples_used": 31, "right": 5, "bit_operations": 64}
    assert "dominated by weights=8 on m" in rule.reason(row, [], OBJECTIVES, [member])
    assert rule.reason({**row, "bit_operations": 63}, [], OBJECTIVES, [member]) == ""  # cheaper: may be on the front
    assert rule.reason({**row, "right": 30}, [], OBJECTIVES, [member]) == ""
    # of an objective that a part of the samples tells nothing about, anything is possible
    assert rule.reason(row, [], {**OBJECTIVES, "sqnr": 1}, [{**member, "sqnr": 30.0}]) == ""


def test_equal_rows_do_not_dominate_each_other():
    one = {"accuracy": Fraction(1, 2), "bit_operations": Fraction(4)}
    assert not dominates(one, one, OBJECTIVES)
    assert dominates(one, {**one, "bit_operations": None}, OBJECTIVES)


@pytest.mark.parametrize("error", [-0.1, 1, 1.5, "often", True, None])
def test_a_chance_of_error_is_one(error):
    with pytest.raises(BadInput, match="early_stop is a chance"):
        early_stop(1000, error, 10)


def test_small_sets_are_always_measured_whole():
    assert early_stop(128, 0.01, 10).looks == (16,)
    assert early_stop(127, 0.01, 10) is None
    assert early_stop(100, 0.0, 10) is None
    assert early_stop(1000, 0.01, 10).looks == (31, 125)
    assert early_stop(200, 0.01, 10).looks == (25,)


def search_once(random, rule, answers, costs):
    """Look at every point in one order of the samples; those given up, and the true front."""
    order = random.permutation(answers.shape[1])
    totals = answers.sum(axis=1)
    rows = [
        {"accuracy": right / rule.total, "right": int(right), "total": rule.total, "bit_operations": int(cost)}
        for right, cost in zip(totals, costs, strict=True)
    ]
    front = [row for row in rows if not any(dominates(other, row, OBJECTIVES) for other in rows)]
    stopped = []
    for i, row in enumerate(rows):
        for look in rule.looks:
            seen = {**row, "right": int(answers[i, order[:look]].sum()), "samples_used": look}
            if rule.reason(seen, [], OBJECTIVES, front):
                stopped.append(i)
                break
    return stopped, [i for i, row in enumerate(rows) if row in front]


def test_members_of_the_front_are_given_up_as_rarely_as_promised_and_hopeless_points_almost_always():
    random = np.random.default_rng(7)
    lost, hopeless, ended, runs, error = 0, 0, 0, 400, 0.2
    for _ in range(runs):
        shares = np.sort(random.beta(4, 1, 12))[:, None] if random.random() < 0.5 else random.beta(2, 1, (12, 1))
        difficulty = random.random((1, 300))  # the same samples are hard for all
        answers = (random.random((12, 300)) * 0.5 + difficulty * 0.5) < shares
        costs = random.integers(1, 6, 12)
        rule = EarlyStop(300, error, 12, (18, 37))
        stopped, front = search_once(random, rule, answers, costs)
        lost += bool(set(stopped) & set(front))
        bad = [i for i, total in enumerate(answers.sum(axis=1)) if total < 100 and i not in front]
        hopeless, ended = hopeless + len(bad), ended + len(set(bad) & set(stopped))
    assert lost <= error * runs
    assert hopeless > 50
    assert ended > 0.5 * hopeless


def test_the_simulation_would_notice_a_limit_that_is_too_tight(monkeypatch):
    monkeypatch.setattr("fixqnn.sweeps.early_stop.right_limit", lambda right, seen, total, error: right * total // seen)
    random = np.random.default_rng(7)
    lost = 0
    for _ in range(50):
        answers = random.random((12, 300)) < np.linspace(0.8, 0.95, 12)[:, None]
        stopped, front = search_once(random, EarlyStop(300, 0.2, 12, (18, 37)), answers, np.arange(12))
        lost += bool(set(stopped) & set(front))
    assert lost > 0.2 * 50
