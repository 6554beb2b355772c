"""The HTML pages there are: several machines side by side, or one run by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fixqnn.comparison import Comparison
from fixqnn.report import html, svg
from fixqnn.report.facts import layer_rows, register_rows
from fixqnn.report.tables import Table
from fixqnn.report.views import layers, registers

MOST_BARS = 60  # of a deep network the registers that acted most


def run_page(
    title: str,
    lead: str,
    overview: Table,
    comparisons: Mapping[str, Comparison],
    close_up: str,
    stamps: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """Write the page of one or several runs on the same data.

    Parameters
    ----------
    title, lead : str
        Heading, and what was done, in a sentence or two.
    overview : Table
        One row per machine.
    comparisons : mapping of str to Comparison
        By machine.
    close_up : str
        The machine whose layers are shown one by one.
    stamps : mapping of str to str
        Versions, command and settings.
    notes : sequence of str
        What lowering changed or clipped.
    """
    rows = {name: layer_rows(comparison) for name, comparison in comparisons.items()}
    near = rows[close_up]
    told = "".join(f"<p>{escape(note)}</p>" for note in notes)
    parts = [
        html.section(
            "Summary",
            "The same integer network, computed by each machine's own arithmetic.",
            html.table(overview),
            told,
        ),
        html.section(
            "Error, layer by layer",
            "Signal over error after each layer, against the same network in float64: further right is better. Where a "
            "machine falls behind the others, its arithmetic costs accuracy; where all fall together, the formats do.",
            html.figure(svg.lines([row["layer"] for row in near], _series(rows, near), "dB")),
        ),
        html.section(
            "Ranges",
            "What the float network produced in each layer, inside what its format can hold.",
            html.figure(
                svg.ranges(near),
                "Blue: real numbers seen. Grey: what the format holds. Red: seen, but out of range. "
                "Upright stroke: zero. Each row has its own scale.",
            ),
        ),
        _events(comparisons),
        html.section(
            f"Layers on {close_up}",
            "One row per step of the program.",
            html.table(layers(near, "")),
        ),
        html.section(
            f"Registers that overflowed on {close_up}",
            "With the first number that did not fit, so that it can be looked up in the trace.",
            html.table(registers(register_rows(comparisons[close_up].trace), "")),
        ),
    ]
    return html.page(title, lead, parts, stamps)


def _series(rows: Mapping[str, Sequence[Mapping[str, Any]]], near: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Decibels of every machine, in the order of the close-up's layers; machines may differ in inserted steps."""
    return {
        name: [{row["layer"]: row["sqnr"] for row in its}.get(row["layer"]) for row in near]
        for name, its in rows.items()
    }


def _events(comparisons: Mapping[str, Comparison]) -> str:
    """One chart per machine whose registers acted."""
    charts = []
    for name, comparison in comparisons.items():
        rows = register_rows(comparison.trace)
        most = sorted(rows, key=lambda row: -row["events"])[:MOST_BARS]
        bars = [
            (f"{row['layer']} {row['register']}", row["events"], "output" if row["register"] == "output" else "inner")
            for row in rows
            if row in most
        ]
        if any(kind == "inner" for _, _, kind in bars):
            charts.append(f"<h3>{escape(name)}</h3>" + html.figure(svg.bars(bars)))
    quiet = [n for n, c in comparisons.items() if not c.trace.total_events()]
    rest = f"<p>No register inside a layer overflowed on: {escape(', '.join(quiet))}.</p>" if quiet else ""
    return html.section(
        "Overflows, by register",
        "Red: registers inside a layer. Blue: results clipped by the output's format, where a fused relu clips on purpose. "
        "Lengths are logarithmic.",
        *charts,
        rest,
    )
