"""Tables: cells, meanings, blocks that fit a terminal."""

from __future__ import annotations

import doctest
import io
import json
import math

from rich.console import Console

from fixqnn.report import facts, records, tables
from fixqnn.report.tables import Column, Table, print_table, show_count, show_decibels, show_number, split_columns

WIDE = Table(
    "Wide",
    [Column("name", "name", "who")] + [Column(f"c{i}", f"column {i}", f"number {i}", show_count) for i in range(8)],
    [{"name": "first", **{f"c{i}": 10**i for i in range(8)}}, {"name": "second", "c7": None}],
)


def printed(table: Table, width: int) -> str:
    stream = io.StringIO()
    print_table(table, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def test_examples_in_docstrings_run():
    for module in (tables, facts, records):
        found = doctest.testmod(module)
        assert found.failed == 0
        assert found.attempted > 0


def test_a_narrow_terminal_gets_every_number_whole_in_several_blocks():
    text = printed(WIDE, 60)
    assert max(len(line) for line in text.splitlines()) <= 60
    for i in range(8):
        assert show_count(10**i) in text
        assert f"column {i}  number {i}" in text
    assert text.count("first") == len(split_columns(WIDE, 60)) > 1
    assert printed(WIDE, 200).count("first") == 1


def test_a_missing_fact_is_an_empty_cell():
    assert WIDE.cells()[1] == ["second"] + [""] * 8


def test_several_keys_make_one_cell_or_none():
    column = Column(("low", "high"), "range", "", lambda pair: f"{pair[0]}..{pair[1]}")
    assert column.cell({"low": 1, "high": 2}) == "1..2"
    assert column.cell({"low": 1}) == ""


def test_an_empty_table_says_so():
    assert "none" in printed(Table("Empty", WIDE.columns, []), 80)


def test_text_shows_headings_and_cells_in_columns():
    lines = str(Table("T", WIDE.columns[:2], WIDE.rows)).splitlines()
    assert lines == ["T", "name    column 0", "first          1", "second"]


def test_facts_survive_json_even_where_infinite():
    rows = Table("", [], [{"a": math.inf, "b": math.nan, "c": (1, 2.5), "d": {"e": -math.inf}}]).facts()
    assert json.loads(json.dumps(rows)) == [{"a": "inf", "b": "nan", "c": [1, 2.5], "d": {"e": "-inf"}}]


def test_decibels_have_no_minus_zero():
    assert show_decibels(-0.01) == "0.0"
    assert show_decibels(-math.inf) == "–"


def test_numbers_keep_three_telling_digits():
    assert [show_number(v) for v in (0, 1.0, -0.000123456, 12.3456, 999.9, 123456.7, 1e9)] == [
        "0", "1", "-0.000123", "12.3", "1e+03", "123457", "1e+09",
    ]  # fmt: skip
