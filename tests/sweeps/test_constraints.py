"""Constraints: what they read, what they refuse, and what they know of half-measured rows."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from fixqnn.errors import BadInput
from fixqnn.sweeps.constraints import COLUMNS, constraint, constraints
from fixqnn.sweeps.rows import NUMBERS

ROW = {"accuracy": 0.95, "right": 95, "total": 100, "float_accuracy": 0.97, "events": 3, "accumulator_bits": 20,
       "bit_operations": 6400, "macs": 100, "sqnr": math.inf, "changed": None}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("accuracy >= float - 0.02", True),
        ("accuracy >= float - 0.01", False),
        ("accuracy >= 0.95", True),
        ("accuracy > 0.95", False),
        ("0.95 <= accuracy", True),
        ("events == 0", False),
        ("events == 3", True),
        ("events < 4", True),
        ("events < 3", False),
        ("accumulator_bits <= 24", True),
        ("bit_operations <= 8 * 8 * macs", True),
        ("bit_operations / macs < 64", False),
        ("-(events + 1) >= -4", True),
        ("sqnr >= 40", True),
        ("sqnr <= 40", False),
    ],
)
def test_a_text_means_what_it_says(text, kept):
    assert (constraint(text).violation(ROW) <= 0) is kept


def test_limits_met_to_the_last_sample_are_met_whatever_floats_make_of_them():
    assert 0.3 - 0.1 != 0.2  # binary fractions
    row = {"accuracy": 0.2, "right": 2, "total": 10, "float_accuracy": 0.3}
    assert constraint("accuracy >= float - 0.1").violation(row) == 0
    for total in (599, 1000, 10_000):
        for right in range(total // 2, total, 37):
            row = {"accuracy": right / total, "float_accuracy": (right + 1) / total}
            assert constraint(f"{total} * accuracy >= {total} * float - 1").violation(row) == 0


def test_the_violation_says_by_how_much():
    assert constraint("accumulator_bits <= 16").violation(ROW) == 4
    assert constraint("accumulator_bits >= 24").violation(ROW) == 4
    assert constraint("events == 5").violation(ROW) == 2
    assert constraint("accumulator_bits <= 24").violation(ROW) == -4
    assert constraint("events < 3").violation(ROW) > 0


def test_what_was_not_measured_keeps_no_limit():
    assert constraint("changed <= 5").violation(ROW) == math.inf
    assert constraint("clips <= 5").violation(ROW) == math.inf
    assert constraint("events / (macs - 100) <= 5").violation(ROW) == math.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accuracy", "not one comparison"),
        ("0.9 <= accuracy <= 1", "not one comparison"),
        ("accuracy != 1", "not one comparison"),
        ("accuracy >= 0.9 and events == 0", "not one comparison"),
        ("accuracy >=", "cannot be read"),
        ("accuracy >= 95 %", "cannot be read"),
        ("", "cannot be read"),
        ("accurcy >= 0.9", "did you mean 'accuracy'"),
        ("speed >= 0.9", "no column 'speed'"),
        ("accuracy >= __import__('os').system('true')", "cannot stand"),
        ("accuracy.real >= 0.9", "'accuracy.real' cannot stand"),
        ("accuracy[0] >= 0.9", "cannot stand"),
        ("accuracy >= max(float, 0.9)", "cannot stand"),
        ("accuracy >= 10 ** 10", "cannot stand"),
        ("accuracy >= 'high'", "cannot stand"),
        ("accuracy >= True", "not a number"),
        ("accuracy >= 1j", "not a number"),
        ("accuracy >= 1e999", "cannot stand"),
        ("(lambda: accuracy)() >= 1", "cannot stand"),
        ("accuracy >= [0.9]", "cannot stand"),
        ("1 >= 0", "names no column"),
        ("accuracy >= " + "-" * 100_000 + "1", "short text"),
        (5, "short text"),
        (None, "short text"),
    ],
)
def test_anything_else_is_refused_with_the_way_to_write_it(text, words):
    with pytest.raises(BadInput, match=words):
        constraint(text)


def test_nothing_in_a_text_runs(tmp_path):
    with pytest.raises(BadInput):
        constraint(f"accuracy >= open({str(tmp_path / 'made')!r}, 'w').write('x')")
    assert not list(tmp_path.iterdir())


def test_functions_are_constraints_too():
    def small(row):
        return row["accumulator_bits"] - 16

    assert constraint(small).violation(ROW) == 4
    assert constraint(small).text == "small"
    assert constraint(lambda row: math.nan).violation(ROW) == math.inf
    with pytest.raises(BadInput, match="must give a number"):
        constraint(lambda row: "much").violation(ROW)
    assert not constraint(small).hopeless({"accumulator_bits": (Fraction(99), Fraction(99))})


def test_one_or_several_are_taken():
    assert constraints(None) == ()
    assert [c.text for c in constraints("events == 0")] == ["events == 0"]
    assert len(constraints(["events == 0", lambda row: 0.0])) == 2
    with pytest.raises(BadInput, match="constraints are texts"):
        constraints(7)


@pytest.mark.parametrize(
    ("text", "bounds", "hopeless"),
    [
        ("accuracy >= 0.9", {"accuracy": (0, 0.89)}, True),
        ("accuracy >= 0.9", {"accuracy": (0, 0.9)}, False),
        ("accuracy > 0.9", {"accuracy": (Fraction(0), Fraction("0.9"))}, True),
        ("events == 0", {"events": (1, math.inf)}, True),
        ("events == 0", {"events": (0, math.inf)}, False),
        ("events == 5", {"events": (0, 4)}, True),
        ("accuracy >= float - 0.01", {"accuracy": (0, 0.9), "float_accuracy": (0.95, 0.95)}, True),
        ("sqnr >= 30", {}, False),
        ("accuracy * bit_operations >= 10", {"accuracy": (0, 0.5), "bit_operations": (10, 10)}, True),
        ("events / macs <= 0.5", {"events": (60, math.inf), "macs": (100, 100)}, True),
        ("-events >= -10", {"events": (11, math.inf)}, True),
        ("events - changed <= 0", {"events": (5, math.inf), "changed": (3, math.inf)}, False),
        ("changed / events <= 0.5", {"events": (0, math.inf), "changed": (3, math.inf)}, False),
    ],
)
def test_bounds_tell_whether_a_limit_can_still_be_kept(text, bounds, hopeless):
    assert constraint(text).hopeless(bounds) is hopeless


def test_every_column_of_numbers_can_stand_in_a_constraint():
    assert set(COLUMNS) == set(NUMBERS)
