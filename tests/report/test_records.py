"""Records as short calls."""

from __future__ import annotations

import fixqnn as fq
import hw_models
from fixqnn.report.records import catalogue_rows, datapath_rows, short, short_text


def test_what_is_printed_makes_the_record_again():
    names = {name: getattr(fq, name) for name in fq.__all__}
    for factory in hw_models.CATALOG.values():
        for record in factory().datapaths.values():
            text = short(record)
            if "fill=" not in text:  # a machine's own table is a function, shown by its name
                assert eval(text, dict(names)) == record, text


def test_registers_in_events_are_shortened_and_other_text_is_left_alone():
    assert short_text(repr(fq.Register(8, "wrap", signed=False))) == "Register(8, overflow='wrap', signed=False)"
    assert short_text("something else") == "something else"
    assert short_text("Register(12)") == "Register(12)"


def test_operations_that_share_a_datapath_stand_together():
    rows = datapath_rows(hw_models.systolic())
    named = ", ".join(row["operations"] for row in rows).split(", ")
    assert sorted(named) == sorted(hw_models.systolic().datapaths)
    assert len({row["datapath"] for row in rows}) == len(rows)


def test_the_catalogue_says_what_each_machine_is_and_where_it_is_written_down():
    for row in catalogue_rows(hw_models.CATALOG):
        assert row["summary"].endswith(".")
        assert len(row["source"]) > 40
