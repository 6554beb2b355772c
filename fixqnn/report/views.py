"""The tables there are, and what each of their columns means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fixqnn.graph import Graph, show_shape
from fixqnn.report.facts import brief, macs, operation, parameters
from fixqnn.report.tables import Column, Table, show_count, show_decibels, show_number, show_percent

Rows = Sequence[Mapping[str, Any]]


def _interval(pair: tuple[float, float]) -> str:
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"


def _span(pair: tuple[float, float]) -> str:
    return f"{show_number(pair[0])} … {show_number(pair[1])}"


MACHINE = (
    Column("machine", "machine", "whose arithmetic ran the same integer network; `fixqnn machines NAME` explains it"),
    Column("accuracy", "accuracy", "share of test pictures whose label it got right", show_percent),
    Column("interval", "95 %", "where the true share lies with 95 % confidence (Wilson)", _interval),
    Column("changed", "changed", "pictures whose predicted label is not the float network's", show_count),
    Column("p", "p", "chance of such a change in right answers by luck (exact McNemar); small: real", show_number),
    Column("sqnr", "SQNR", "signal over error at the output, dB, against float64; 6 dB are one bit", show_decibels),
    Column("events", "events", "times that a register inside a layer overflowed", show_count),
    Column("clips", "clips", "times that a layer's result did not fit its format; a fused relu clips here", show_count),
    Column("per_second", "images/s", "through this simulator, one thread, median of several runs", show_count),
    Column("times_torch", "× torch", "time as a multiple of torch float32, same pictures, same thread", show_number),
)

LAYER = (
    Column("layer", "layer", "the step, named as in the torch model"),
    Column("op", "op", "what it computes"),
    Column("formats", "formats", "inputs → output; s signed, u unsigned, bits / fraction bits (or bits·step)"),
    Column("path", "path", "how the compiled engine sums; every path is proved to give the datapath's codes"),
    Column("sqnr", "SQNR", "signal over error after this layer, dB, against the same value in float64", show_decibels),
    Column("seen", "float range", "smallest and largest real number that the float network made here", _span),
    Column("held", "format holds", "smallest and largest real number that the output's format holds", _span),
    Column("events", "events", "overflows of registers inside the layer", show_count),
    Column("clips", "clips", "results that the output's format clipped; a fused relu clips here", show_count),
)

REGISTER = (
    Column("layer", "layer", "the step"),
    Column("register", "register", "product; sum[0], the innermost running sum, sum[1], the next; output"),
    Column("record", "what it is", "width and rule of that register"),
    Column("events", "events", "how often it was asked to hold a number that does not fit", show_count),
    Column("below", "too low", "of these, below its range", show_count),
    Column("above", "too high", "of these, above its range", show_count),
    Column("channels", "channels", "output channels where it happened", show_count),
    Column("first", "first witness", "where it happened first; terms of a sum are numbered in the machine's order"),
    Column("value", "number", "the integer that did not fit", show_count),
)

NODE = (
    Column("name", "value", "inputs and results by name"),
    Column("kind", "made by", "input, or the operation"),
    Column("shape", "shape", "N is the batch"),
    Column(
        "format", "format", "what its integer codes mean: s signed, u unsigned, bits / fraction bits (or bits·step)"
    ),
    Column("weights", "weights", "format of its weights"),
    Column("parameters", "parameters", "constants that the operation reads", show_count),
    Column("macs", "MACs", "multiply-accumulates per sample", show_count),
)


def machines(rows: Rows, title: str) -> Table:
    """One line per machine."""
    shown = [{**row, "interval": _pair(row, "accuracy_low", "accuracy_high")} for row in rows]
    return Table(title, _used(MACHINE, shown), shown)


def layers(rows: Rows, title: str) -> Table:
    """One line per layer."""
    shown = [
        {**row, "seen": _pair(row, "low", "high"), "held": _pair(row, "representable_low", "representable_high")}
        for row in rows
    ]
    return Table(title, _used(LAYER, shown), shown)


def registers(rows: Rows, title: str) -> Table:
    """One line per register that acted."""
    return Table(title, REGISTER, rows)


def nodes(graph: Graph, title: str) -> Table:
    """One line per value of a graph; constants stand with the operation that reads them."""
    rows: list[dict[str, Any]] = [
        {"name": v.name, "kind": "input", "shape": show_shape(v.shape), "format": brief(graph.formats.get(v.name))}
        for v in graph.inputs
    ]
    for node in graph.nodes:
        value = graph.values[node.output]
        weights = node.inputs[1] if len(node.inputs) > 1 and node.inputs[1] in graph.constants else None
        rows.append(
            {
                "name": value.name,
                "kind": operation(node),
                "shape": show_shape(value.shape),
                "format": brief(value.format),
                "weights": brief(graph.formats.get(weights)) if weights else "",
                "parameters": parameters(graph, node) or None,
                "macs": macs(graph, node) or None,
            }
        )
    return Table(title, _used(NODE, rows), rows)


def _pair(row: Mapping[str, Any], low: str, high: str) -> tuple[float, float] | None:
    return None if row.get(low) is None else (row[low], row[high])


def _used(columns: Sequence[Column], rows: Rows) -> tuple[Column, ...]:
    """Columns that any row has something for."""
    return tuple(column for column in columns if any(column.cell(row) for row in rows)) or tuple(columns)
