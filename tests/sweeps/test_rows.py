"""Rows: fronts, best ones, and the ways out."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.sweeps.rows import COLUMNS, point_of


def row(settings, status="ok", **more):
    return {"settings": settings, "status": status, "layer_events": {"fc": {"sum[0]": 2}}, **more}


ROWS = fq.Rows(
    [
        row(
            {"weights": 4, "accumulator_bits": 16}, accuracy=0.9, bit_operations=10, accumulator_bits=18, sqnr=math.inf
        ),
        row({"weights": 6, "accumulator_bits": 16}, accuracy=0.9, bit_operations=8, accumulator_bits=18, sqnr=20.5),
        row({"weights": "ternary"}, accuracy=0.7, bit_operations=4, accumulator_bits=16, sqnr=3.0),
        row({"weights": 9}, accuracy=0.8, bit_operations=9, accumulator_bits=30),
        row({"weights": 8}, accuracy=None, bit_operations=1, accumulator_bits=1, sqnr=-math.inf),
        row({"weights": 2}, "impossible", reason="DoesNotFit: 100 % of x_1"),
    ],
    {"graph": "g"},
)


def test_the_front_holds_what_no_other_row_beats():
    front = ROWS.pareto(("accuracy", "bit_operations"))
    assert [r["settings"]["weights"] for r in front] == [6, "ternary"]
    assert [r["settings"]["weights"] for r in ROWS.pareto("sqnr")] == [4]
    assert front.meta["graph"] == "g"


def test_the_front_agrees_with_comparing_all_pairs():
    random = np.random.default_rng(0)
    rows = fq.Rows(
        row({"weights": i}, accuracy=float(a), bit_operations=int(b), events=int(e))
        for i, (a, b, e) in enumerate(random.integers(0, 6, (80, 3)))
    )

    def beats(one, other):
        costs = [(-r["accuracy"], r["bit_operations"], r["events"]) for r in (one, other)]
        return costs[0] != costs[1] and all(a <= b for a, b in zip(*costs, strict=True))

    found = {
        (r["accuracy"], r["bit_operations"], r["events"]) for r in rows.pareto(("accuracy", "bit_operations", "events"))
    }
    free = {(r["accuracy"], r["bit_operations"], r["events"]) for r in rows if not any(beats(o, r) for o in rows)}
    assert found == free
    assert len(rows.pareto(("accuracy", "bit_operations", "events"))) == len(free), "of equal rows, one"


def test_the_best_comes_first_and_the_cheaper_of_equals():
    assert [r["settings"]["weights"] for r in ROWS.best(count=3)] == [6, 4, 9]
    assert ROWS.best("bit_operations")[0]["settings"]["weights"] == 8
    with pytest.raises(fq.BadInput, match="no column of numbers 'acuracy'; did you mean 'accuracy'"):
        ROWS.best("acuracy")


def test_rows_are_an_immutable_sequence_with_all_columns():
    assert len(ROWS) == 6
    assert len(ROWS[1:3]) == 2
    assert set(ROWS[0]) == set(COLUMNS)
    with pytest.raises(TypeError):
        ROWS[0]["accuracy"] = 1
    assert repr(ROWS) == "<6 rows: 5 ok, 1 impossible>"
    assert point_of(ROWS[2]) == fq.Point({"weights": "ternary"})


def test_csv_has_a_column_per_setting_and_texts_for_what_is_nested(tmp_path):
    text = ROWS.to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8") == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["weights"] for r in rows] == ["4", "6", "ternary", "9", "8", "2"]
    assert rows[0]["accumulator_bits setting"] == "16"
    assert rows[0]["accumulator_bits"] == "18"
    assert json.loads(rows[0]["layer_events"]) == {"fc": {"sum[0]": 2}}
    with pytest.raises(fq.BadFile, match="cannot write"):
        ROWS.to_csv(tmp_path / "no" / "rows.csv")
    assert fq.Rows().to_csv().startswith("key,machine,")


def test_pandas_and_parquet_hold_the_same_numbers(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = ROWS.to_pandas()
    assert frame["accuracy"].dtype == "float64"
    assert frame["bit_operations"].sum() == 32
    assert math.isinf(frame["sqnr"][0])
    ROWS.to_parquet(tmp_path / "rows.parquet")
    again = pandas.read_parquet(tmp_path / "rows.parquet")
    assert list(again["weights"]) == ["4", "6", "ternary", "9", "8", "2"], "a column of mixed types is written as text"
    assert list(again.columns) == list(frame.columns)
    assert again["bit_operations"].sum() == 32
    fq.Rows().to_parquet(tmp_path / "none.parquet")


def test_latex_escapes_and_leaves_out_what_is_empty(tmp_path):
    pytest.importorskip("jinja2")
    text = ROWS.to_latex(tmp_path / "rows.tex")
    assert text == (tmp_path / "rows.tex").read_text()
    assert r"\toprule" in text
    assert "ternary" in text
    assert "events" not in text
    assert r"100 \% of x\_1" in ROWS.to_latex(columns=["weights", "reason"])
    with pytest.raises(fq.BadInput, match=r"there are no columns \['speed'\]"):
        ROWS.to_latex(columns=["speed"])
