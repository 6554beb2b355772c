"""The page of a sweep: whole without a network or a script, true to its rows, and sane for any number of them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as tree
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

import fixqnn as fq
from fixqnn.report.sweep_page import sweep_page
from fixqnn.sweeps.rows import Rows
from fixqnn.sweeps.store import Store
from tests.report.made_rows import LAYERS, grid, impossible, row, unlabelled

EMPTY = {"meta", "br", "wbr", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Checks that every element is closed in turn, and collects tags, attributes and texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def headings(text: str) -> list[str]:
    return Outline(text).texts.get("h2", [])


def body_of(text: str) -> tree.Element:
    return tree.fromstring(text[text.index("<body>") : text.index("</html>")].replace("<wbr>", ""))


def tables_of(text: str) -> list[list[list[str]]]:
    """Cells of every table, the headings first."""
    return [
        [["".join(cell.itertext()) for cell in line] for line in table.iter("tr")]
        for table in body_of(text).iter("table")
    ]


def columns(table: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], line, strict=True)) for line in table[1:]]


def test_a_page_has_its_sections_in_the_order_of_the_questions():
    assert headings(sweep_page(grid())) == [
        "What to pick", "What accuracy costs", "Accuracy against each setting", "Weights and activations together",
        "Which layers need the bits", "Overflows by layer and bits of activations", "All rows",
        "Points that were not computed", "Do it again",
    ]  # fmt: skip


def test_a_page_needs_nothing_from_outside():
    text = sweep_page(grid())
    outline = Outline(text)
    assert not {"link", "img", "iframe", "object", "embed"} & set(outline.tags)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in outline.attributes}
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_only_the_script_of_the_page_itself_may_run():
    text = sweep_page(grid())
    assert text.count("<script>") == 1
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in text


def test_names_are_text_whatever_they_hold():
    evil = "<script>alert('&\"1\"')</script><b>"
    events = {evil: {"sum[0]": 5}}
    rows = [
        row(w, a, machine_text=evil, layer_events=events, versions={evil: evil}, fingerprint=evil, created=evil,
            settings={"weights": w, "activations": a, f"weights[{evil}]": b, f"weights[{evil}2]": 4, "rounding": evil})
        for w in (3, 4) for a in (4, 5) for b in (3, 4)
    ]  # fmt: skip
    rows += [impossible(5, 5, evil, reason=evil)]
    meta = {"sensitivity": {evil: 1.0}, "command": evil, evil: evil}
    text = sweep_page(Rows(rows, meta), title=evil, command=evil, source=evil)
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert outline.tags.count("b") == 0
    assert evil in outline.texts["h1"]
    assert evil in outline.texts["code"]
    body_of(text)  # well-formed
    assert "alert('" not in re.sub(r"&lt;script&gt;alert\(&#x27;&amp;&quot;1&quot;&#x27;\)&lt;/script&gt;", "", text)


def test_what_to_pick_is_the_best_row_and_the_cheapest_within_each_loss():
    rows = [{**r, "float_accuracy": 0.97} for r in grid(("ideal",))]
    picked = columns(tables_of(sweep_page(rows))[0])
    best = max(rows, key=lambda r: (r["accuracy"], -r["bit_operations"]))
    assert picked[0]["may lose"].startswith("best")
    assert picked[0]["accuracy"] == f"{100 * best['accuracy']:.1f} %"
    found = {}
    for loss in (0.5, 1.0, 2.0):
        cheapest = min((r for r in rows if r["accuracy"] >= 0.97 - loss / 100), key=lambda r: r["bit_operations"])
        ends = {line["settings"]: re.findall(r"[\d.]+", line["may lose"]) for line in picked if "≤" in line["may lose"]}
        (found[loss],) = (settings for settings, its in ends.items() if float(its[0]) <= loss <= float(its[-1]))
        assert found[loss] == "weights={weights}, activations={activations}".format(**cheapest["settings"])
    assert len(set(found.values())) > 1


def test_losses_of_sqnr_count_from_the_best_row():
    text = sweep_page([unlabelled(row(w, a)) for w in (4, 5, 6) for a in (4, 5, 6)])
    assert {line["may lose"]: line["settings"] for line in columns(tables_of(text)[0])} == {
        "best, ≤ 3 dB": "weights=6, activations=6",  # six decibels a bit
        "≤ 6 dB": "weights=5, activations=5",
        "≤ 12 dB": "weights=4, activations=4",
    }
    assert "no labels" in text


def test_the_table_holds_every_row_with_the_numbers_to_sort_by():
    rows = grid()
    text = sweep_page(rows)
    table = next(t for t in body_of(text).iter("table") if t.get("class") == "sortable")
    head = [cell.text for cell in table.find("thead").iter("th")]
    lines = list(table.find("tbody").iter("tr"))
    assert len(lines) == len(rows)
    place = head.index("accuracy")
    values = [line[place].get("data-value") for line in lines]
    assert [float(v) for v in values if v] == sorted((r["accuracy"] for r in rows.ok), reverse=True)
    assert values[len(rows.ok) :] == [None] * 3
    assert [line[head.index("reason")].text for line in lines[-3:]] == ["DoesNotFit: too wide"] * 3
    assert sum(line[head.index("front")].text == "●" for line in lines) == sum(
        len(Rows(r for r in rows if r["machine_text"] == name).pareto()) for name in ("ideal", "narrow")
    )


def test_pareto_pictures_have_a_mark_for_every_computed_row():
    rows = grid(("ideal",))
    text = sweep_page(rows)
    start = text.index('<svg viewBox="0 0 360 250"', text.index("What accuracy costs"))
    picture = tree.fromstring(text[start : text.index("</svg>", start) + 6])
    circles = list(picture.iter("circle"))
    assert len(circles) == len(rows)
    assert len([c for c in circles if "dot" not in c.get("class")]) == len(rows.pareto())
    titles = "".join(picture.itertext())
    assert all(f"weights={w}, activations={a} on ideal" in titles for w in (3, 4, 5, 6) for a in (4, 5, 6))


def test_no_text_leaves_its_drawing():
    long = Rows([{**r, "layer_events": {"a" * 80: {"sum[0]": 3}}} for r in grid()], {"sensitivity": {"b" * 80: 1.0}})
    words = [row(4, 4, settings={"c" * 60: "d" * 40 + str(i), "e" * 60: "f" * 40 + str(i)}) for i in range(3)]
    for text in (sweep_page(grid()), sweep_page(long), sweep_page(words)):
        for svg in body_of(text).iter("svg"):
            wide = float(svg.get("viewBox").split()[2])
            for label in svg.iter("text"):
                if label.get("x") is None:  # set sideways
                    continue
                room = 5.6 * len(label.text or "")  # mean width of small letters at this size
                x, anchor = float(label.get("x")), label.get("text-anchor")
                left = x - {"middle": room / 2, "end": room}.get(anchor, 0)
                assert left > -4, label.text
                assert left + room < wide + 4, label.text


def test_long_names_of_layers_are_told_apart():
    names = [f"encoder.layers.{i}.self_attention.projection_out" for i in range(12)]
    text = sweep_page(Rows([row(4, 4)], {"sensitivity": dict.fromkeys(names, 1 / 12)}))
    labels = [e for e in body_of(text).iter("text") if e.get("class") == "label"]
    assert len({label.text for label in labels}) == 12
    assert {label[0].text for label in labels} == set(names)  # whole in the tooltip


def test_one_row_makes_a_page_without_pictures_of_change():
    text = sweep_page([row(4, 4)])
    assert headings(text) == ["What to pick", "Registers that overflowed", "All rows", "Do it again"]
    assert "1 row on ideal: 1 computed." in text


def test_axes_that_do_not_vary_leave_out_the_heat_map():
    text = sweep_page([row(w, 4) for w in (3, 4, 5)])
    assert "Accuracy against each setting" in headings(text)
    assert not [heading for heading in headings(text) if "together" in heading]


def test_other_settings_take_the_place_of_missing_widths():
    rows = [row(4, 4, settings={"partial": p, "rounding": r}) for p in (12, 16) for r in ("floor", "half_even")]
    assert "Partial and rounding together" in headings(sweep_page(rows))


def test_a_failed_sweep_still_says_why():
    rows = [impossible(w, 4, reason=f"DoesNotFit: {w} bits") for w in (2, 3)] + [
        {**impossible(4, 4, reason="ValueError: <odd>"), "status": "failed"}
    ]
    text = sweep_page(rows)
    assert headings(text) == ["All rows", "Points that were not computed"]
    assert [line["reason"] for line in columns(tables_of(text)[-1])] == [
        "DoesNotFit: 2 bits", "DoesNotFit: 3 bits", "ValueError: <odd>",
    ]  # fmt: skip
    assert "3 rows on narrow: 2 impossible, 1 failed." in text


@pytest.fixture(scope="module")
def search() -> Rows:
    """Five thousand rows as a search leaves them: every layer has a width of its own."""
    rows = []
    for i in range(5000):
        w, a = 3 + i % 4, 4 + i // 4 % 3
        widths = {f"weights[{layer}]": 3 + (i * 7 + 3 * j) % 5 for j, layer in enumerate(LAYERS)}
        change = {"bit_operations": 10_000 * w * a + (i * 7919) % 5000, "sqnr": 20 + (i * 31) % 97 / 10, "key": str(i)}
        rows.append(row(w, a, settings={"weights": w, "activations": a, **widths}, **change))
    return Rows(rows, grid().meta)


def test_thousands_of_rows_make_a_page_of_sane_size_that_says_so(search):
    text = sweep_page(search, source="my rows.sqlite")
    assert len(text.encode()) < 1_500_000
    assert "The best 400 of 5 000 rows" in text
    assert "fixqnn report &#x27;my rows.sqlite&#x27; --csv rows.csv" in text
    table = next(t for t in body_of(text).iter("table") if t.get("class") == "sortable")
    assert len(list(table.find("tbody").iter("tr"))) == 400
    assert "Widths of single layers along the front" in headings(text)


def test_rows_that_saw_a_part_of_the_test_set_are_listed_but_not_drawn():
    rows = [row(4, 4), row(5, 4), row(6, 4, samples_used=50, accuracy=1.0)]
    text = sweep_page(rows)
    start = text.index('<svg viewBox="0 0 360 250"', text.index("What accuracy costs"))
    assert text[start : text.index("</svg>", start)].count("<circle") == 2
    assert "weights=6" not in text[: text.index("All rows")]
    table = columns(next(t for t in tables_of(text) if "samples" in t[0]))
    assert sorted(line["samples"] for line in table) == ["50", "500", "500"]


def test_the_float_network_is_judged_on_the_whole_test_set():
    part = {**row(3, 4), "status": "stopped", "samples_used": 20, "float_accuracy": 1.0}
    text = sweep_page([part, row(5, 5), row(6, 6)])
    assert "The float network gets 99.0 % of them right." in text
    assert "100.0 %" not in text[text.index("</style>") :]


def test_the_title_names_what_varies():
    assert "<h1>Sweep over weights and activations</h1>" in sweep_page(grid())
    layered = [row(4, 4, settings={"weights": w, "weights[fc]": 3}) for w in (4, 5)]
    assert "<h1>Sweep over weights and weights by layer</h1>" in sweep_page(layered)
    many = [
        row(4, 4, settings=dict.fromkeys(("weights", "bias", "ranges", "accumulator_bits", "rounding"), i))
        for i in (4, 5)
    ]
    assert "<h1>Sweep over weights, bias, ranges and more</h1>" in sweep_page(many)


def test_a_machine_has_one_colour_in_every_picture():
    rows = [row(w, 4, "plain") for w in (4, 5)] + [
        row(w, 4, "other", settings={"weights": w, "activations": 4, "partial": p}) for w in (4, 5) for p in (12, 14)
    ]
    text = sweep_page(rows)
    legend = text[text.index('class="legend"') :].split("</p>")[0]
    assert re.findall(r"series(\d).*?</svg>([a-z]+)<", legend) == [("0", "plain"), ("1", "other")]
    pictures = [svg for svg in body_of(text).iter("svg") if svg.get("aria-label", "").endswith("value of partial")]
    assert len(pictures) == 1
    assert {e.get("class").split()[-1] for e in pictures[0].iter() if "series" in e.get("class", "")} == {"series1"}


def test_a_range_of_arguments_is_an_axis_and_the_row_can_still_be_computed_again():
    rows = [
        row(4, 4, f"systolic(rows=8, partial={p})", accuracy=p / 20, settings={"weights": 4}, events=20 - p,
            layer_events={"fc": {"sum[0]": 20 - p}})
        for p in (12, 14, 16)
    ] + [row(4, 4, "ideal", settings={"weights": 4}, layer_events={}, events=0)]  # fmt: skip
    text = sweep_page(rows)
    assert "4 rows on 2 machines" in text
    assert "Overflows by layer and partial" in headings(text)
    table = columns(next(t for t in tables_of(text) if "partial" in t[0]))
    assert sorted((line["machine"], line["partial"]) for line in table) == [
        ("ideal", ""), *(("systolic(rows=8)", str(p)) for p in (12, 14, 16)),
    ]  # fmt: skip
    assert "fq.grid(weights=4), &#x27;ideal&#x27;" in text
    best = sweep_page(rows[:3])
    assert "fq.grid(weights=4, partial=16), &#x27;systolic(rows=8)&#x27;" in best
    two = sweep_page(rows[1:3])
    assert "2 rows on 2 machines" in two


def test_more_machines_than_colours_leave_the_worst_to_the_table():
    rows = [row(w, 4, f"m{i}", accuracy=0.5 + i / 20 + w / 1000) for i in range(8) for w in (3, 4)]
    text = sweep_page(rows)
    assert "Pictures show the 6 machines with the best rows" in text
    legend = text[text.index('class="legend"') :].split("</p>")[0]
    assert [f"m{i}" in legend for i in range(8)] == [False, False] + [True] * 6
    assert ">m0<" in text


def test_equal_outputs_have_no_finite_sqnr_and_are_counted():
    rows = [unlabelled(row(w, 4, sqnr=s)) for w, s in ((4, 10.0), (5, 20.0), (6, float("inf")))]
    assert "Not drawn: 1 with a SQNR that is no finite number." in sweep_page(rows)


def test_the_foot_says_what_the_rows_are_of():
    text = sweep_page(grid(), command="fixqnn report rows.sqlite")
    foot = Outline(text[text.index("<footer>") : text.index("</footer>") + 9])
    stamps = dict(zip(foot.texts["dt"], foot.texts["dd"], strict=True))
    assert stamps["fixqnn"] == "0.1.0"
    assert stamps["seed"] == "3"
    assert stamps["computed"] == "2026-01-02T03:04:05+00:00"
    assert stamps["page"] == "fixqnn report rows.sqlite"


def test_the_page_prints_how_to_go_on():
    text = sweep_page(grid(), source="rows.sqlite")
    commands = Outline(text).texts["code"]
    assert "fixqnn sweep net.pt2 --store rows.sqlite" in commands
    assert "fixqnn report rows.sqlite -o report.html" in commands
    line = "fq.sweep(graph, samples, test_set, fq.grid(weights=6, activations=6), 'ideal', seed=3)"
    assert f"{line}  # program 0000000600" in commands


def test_the_front_of_a_search_is_listed_with_its_aims_and_limits():
    rows = [row(3, 4), row(4, 4), row(5, 5), {**row(6, 6), "status": "stopped", "reason": "no use", "samples_used": 60}]
    told = {
        "objectives": ["accuracy", "weight_bits"],
        "constraints": ["accuracy >= float - 0.2"],
        "front": ["ideal/5/5"],
    }
    text = sweep_page(Rows(rows, {"search": told}))
    assert "What the search found" in headings(text)
    assert "beats in accuracy, weight bits, among those that keep to accuracy &gt;= float - 0.2" in text
    front = next(columns(t) for t, heading in zip(tables_of(text), headings(text), strict=False) if "search" in heading)
    assert [(line["weights"], line["activations"]) for line in front] == [("5", "5")]
    assert "fq.grid(weights=5, activations=5)" in text
    assert "3 computed, 1 given up after a part of the test set" in text
    assert "Points that were not computed" not in headings(text)
    none = sweep_page(Rows(rows, {"search": {**told, "front": []}}))
    assert "No row keeps to accuracy &gt;= float - 0.2." in none


def test_write_report_writes_and_refuses_to_write_over_the_store(tmp_path):
    store = Store(tmp_path / "rows.sqlite", {})
    for one in grid():
        store.add(one)
    store.set_meta(**grid().meta)
    store.close()
    out = fq.write_report(tmp_path / "rows.sqlite", tmp_path / "page.html")
    text = out.read_text(encoding="utf-8")
    assert tables_of(text) == tables_of(sweep_page(grid()))
    with pytest.raises(fq.BadInput, match="is the store itself"):
        fq.write_report(tmp_path / "rows.sqlite", tmp_path / "rows.sqlite")
    with pytest.raises(fq.BadFile, match="cannot write"):
        fq.write_report(grid(), tmp_path / "nowhere" / "page.html")
    with pytest.raises(fq.BadInput, match="there are no rows"):
        fq.write_report([], tmp_path / "page.html")
