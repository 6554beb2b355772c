"""Charts and pages: well-formed, self-contained, and showing the numbers they were given."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as tree

import numpy as np

import fixqnn as fq
import hw_models
from fixqnn.comparison import compare_with_float
from fixqnn.report import html, svg, views
from fixqnn.report.facts import machine_row
from fixqnn.report.pages import run_page

ROW = {"layer": "a<b", "low": -1.0, "high": 3.0, "representable_low": -2.0, "representable_high": 2.0}


def drawing(text: str) -> tree.Element:
    return tree.fromstring(text[: text.index("</svg>") + 6])


def test_ranges_mark_what_the_format_cannot_hold():
    root = drawing(svg.ranges([ROW]))
    bars = {e.get("class"): (float(e.get("x")), float(e.get("width"))) for e in root.iter("rect")}
    held, seen, beyond = bars["held"], bars["seen"], bars["beyond"]
    whole = seen[0] + seen[1] - held[0]  # -2 … 3
    assert abs(held[1] / whole - 4 / 5) < 0.01
    assert abs((seen[0] - held[0]) / whole - 1 / 5) < 0.01
    assert abs(beyond[0] - (held[0] + held[1])) < 0.2
    assert "seen -1 … 3;  held -2 … 2" in "".join(root.itertext())
    inside = drawing(svg.ranges([{**ROW, "high": 2.0}]))
    assert "beyond" not in [e.get("class") for e in inside.iter("rect")]


def test_lines_place_equal_values_at_equal_heights_and_infinity_at_the_edge():
    text = svg.lines(["one", "two"], {"m": [5.0, math.inf], "n": [5.0, None]}, "dB")
    root = drawing(text)
    circles = [float(e.get("cx")) for e in root.iter("circle")]
    squares = [float(e.get("x")) + 3 for e in root.iter("rect")]
    assert len(circles) == 2
    assert len(squares) == 1
    assert abs(circles[0] - squares[0]) < 0.2
    assert circles[1] > circles[0] + 50
    assert ">m</span>" in text
    assert ">n</span>" in text


def test_bars_grow_with_counts_and_print_them():
    root = drawing(svg.bars([("a sum[0]", 9, "inner"), ("a output", 999_999, "output")]))
    small, large = (float(e.get("width")) for e in root.iter("rect"))
    assert abs(large / small - 6) < 0.1  # log10(10⁶) / log10(10)
    assert "999 999" in "".join(root.itertext())


def test_charts_of_nothing_are_still_drawings():
    for text in (svg.ranges([]), svg.lines([], {}, "dB"), svg.bars([])):
        assert drawing(text).tag == "svg"


def test_long_names_keep_their_end_and_are_whole_in_the_tooltip():
    root = drawing(svg.bars([("encoder.block7.branch.convolution sum[0]", 1, "inner")]))
    label = next(e for e in root.iter("text") if e.get("class") == "label")
    assert label.text.startswith("…")
    assert label.text.endswith("convolution sum[0]")
    assert label[0].text == "encoder.block7.branch.convolution sum[0]"


def test_a_page_needs_nothing_from_outside_and_escapes_names():
    w = np.random.default_rng(0).normal(size=(3, 4))
    graph = fq.Graph(
        (fq.Value("x", (None, 4), fq.fixed(8, 5)),), ("<fc>",), (fq.Node("<fc>", fq.OPS["linear"], ("x", "w")),),
        {"w": w}, {"w": fq.fixed(8, 5), "<fc>": fq.fixed(8, 4)},
    )  # fmt: skip
    data = np.random.default_rng(1).normal(size=(40, 4))
    traces = {
        name: fq.run(fq.lower(graph, machine), data, watch="all")
        for name, machine in (("ideal", hw_models.ideal()), ("narrow", hw_models.systolic(partial=8)))
    }
    found = compare_with_float(graph, traces, {"x": data})
    rows = [machine_row(name, found[name], graph.evaluate(data)["<fc>"]) for name in found]
    overview = views.machines(rows, "")
    text = run_page("T & U", "lead", overview, found, "narrow", {"seed": "0"}, ["a note"])
    assert text.startswith("<!doctype html>")
    assert "<fc>" not in text
    assert "&lt;fc&gt;" in text
    assert "T &amp; U" in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    body = text[text.index("<body>") : text.index("</html>")].replace("<wbr>", "")
    root = tree.fromstring(body)
    assert len(list(root.iter("table"))) == 3
    events = traces["narrow"].total_events()
    assert events > 0
    assert f">{views.show_count(events)}<" in body
    assert "a note" in body
    headings = [cell.text for cell in next(root.iter("table")).iter("th")]
    assert headings == ["machine", "changed", "SQNR", "events", "clips"]


def test_a_table_without_rows_says_none():
    assert "None." in html.table(views.registers([], ""))
