"""The tables there are, and what each of their columns means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fixqnn.accelerator import Accelerator
from fixqnn.costs import macs, parameters
from fixqnn.graph import Graph, show_shape
from fixqnn.program import Program
from fixqnn.report.facts import brief, operation
from fixqnn.report.records import datapath_rows, short_text
from fixqnn.report.tables import Column, Table, show_count, show_decibels, show_number, show_percent

Rows = Sequence[Mapping[str, Any]]


def _interval(pair: tuple[float, float]) -> str:
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"


def _span(pair: tuple[float, float]) -> str:
    return f"{show_number(pair[0])} … {show_number(pair[1])}"


MACHINE = (
    Column("machine", "machine", "whose arithmetic ran the same integer network; `fixqnn machines NAME` explains it"),
    Column("accuracy", "accuracy", "share of test pictures whose label it got right", show_percent),
    Column(
        ("accuracy_low", "accuracy_high"), "95 %", "where the true share lies with 95 % confidence (Wilson)", _interval
    ),
    Column("changed", "changed", "pictures whose predicted label is not the float network's", show_count),
    Column("p", "p", "chance of such a change in right answers by luck (exact McNemar); small: real", show_number),
    Column("sqnr", "SQNR", "signal over error at the output, dB, against float64; 6 dB are one bit", show_decibels),
    Column("events", "events", "times that a register inside a layer overflowed", show_count),
    Column("clips", "clips", "times that a layer's result did not fit its format; a fused relu clips here", show_count),
    Column(
        "per_second",
        "images/s",
        "pictures per second of processor time, one thread, median of several runs",
        show_count,
    ),
    Column("times_torch", "× torch", "processor time as a multiple of torch float32 on the same pictures", show_number),
)

LAYER = (
    Column("layer", "layer", "the step, named as in the torch model"),
    Column("op", "op", "what it computes"),
    Column("formats", "formats", "inputs → output; s signed, u unsigned, bits / fraction bits (or bits·step)"),
    Column("path", "path", "how the compiled engine sums; every path is proved to give the datapath's codes"),
    Column("sqnr", "SQNR", "signal over error after this layer, dB, against the same value in float64", show_decibels),
    Column(("low", "high"), "float range", "smallest and largest real number that the float network made here", _span),
    Column(
        ("representable_low", "representable_high"),
        "format holds",
        "smallest and largest real number that the output's format holds",
        _span,
    ),
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

NEED = (
    Column("layer", "layer", "the step"),
    Column("register", "register", "product; sum[0], the innermost running sum, sum[1], the next, bias included"),
    Column("bits", "has", "bits that it has", show_count),
    Column("types", "by types", "bits that do if only the formats are known", show_count),
    Column(
        "proven", "proven", "bits that do for every input, with these weights, in this order; fewer do not", show_count
    ),
    Column("any_order", "any order", "bits that do for every input in any order of the additions", show_count),
    Column("any_tiling", "any tiling", "the same with tiles of any size", show_count),
    Column("seen", "on data", "bits that these data asked for, no register acting", show_count),
    Column("spare", "spare", "bits beyond the proven ones; negative: so many are missing", show_count),
    Column("short_channels", "short", "output channels for which its bits are not proven to do", show_count),
    Column("can_act", "can act", "whether some input of the layer makes it overflow, the machine being as it is"),
    Column("events", "events", "overflows on these data, the machine being as it is", show_count),
    Column("order", "order matters", "whether another order or tile size changes a sum; never: proved for every input"),
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


STEP = (
    Column("step", "step", "in the order of computation"),
    Column("op", "op", "what it computes"),
    Column("shape", "shape", "of its result; N is the batch"),
    Column("format", "format", "what the result's integer codes mean"),
    Column("path", "path", "how the compiled engine sums; every path is proved to give the datapath's codes"),
    Column("reason", "why", "what allows that path"),
)

DIFFERENCE = (
    Column("value", "value", "result of a layer, or an input"),
    Column("codes", "codes", "how many were compared", show_count),
    Column("differing", "differ", "of these, how many are not equal", show_count),
    Column("share", "share", "the same as a share", show_percent),
    Column("worst", "worst", "largest distance between two codes", show_count),
)

CATALOGUE = (
    Column("name", "machine", "name for --machine; arguments go in parentheses"),
    Column("summary", "what it is", "in a line"),
    Column("source", "source", "where its arithmetic is written down, and what it was compared with"),
)

DATAPATH = (
    Column("operations", "operations", "operations (or functions, or layers by name) that are computed this way"),
    Column("datapath", "datapath", "registers, order and rescaling as a record; fields at their default are left out"),
)


def machines(rows: Rows, title: str) -> Table:
    """One line per machine."""
    return Table(title, _used(MACHINE, rows), rows)


def layers(rows: Rows, title: str) -> Table:
    """One line per layer."""
    return Table(title, _used(LAYER, rows), rows)


def registers(rows: Rows, title: str) -> Table:
    """One line per register that acted."""
    return Table(title, REGISTER, [{**row, "record": short_text(row["record"])} for row in rows])


def needs(rows: Rows, title: str) -> Table:
    """One line per register: bits that it has and needs."""
    return Table(title, _used(NEED, rows), rows)


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


def totals(graph: Graph) -> dict[str, Any]:
    """Sums over a graph."""
    constants = {name for node in graph.nodes for name in node.inputs if name in graph.constants}
    return {
        "inputs": ", ".join(v.name for v in graph.inputs),
        "outputs": ", ".join(graph.outputs),
        "parameters": sum(math.prod(graph.values[name].shape) for name in constants),
        "multiply-accumulates per sample": sum(macs(graph, node) for node in graph.nodes),
    }


def steps(program: Program) -> Table:
    """One line per step of a program."""
    return Table(f"Program for {program.accelerator}", STEP, program.table())


def differences(rows: Rows, title: str) -> Table:
    """One line per value that was compared."""
    return Table(title, DIFFERENCE, rows)


def catalogue(rows: Rows, title: str) -> Table:
    """One line per ready-made machine."""
    return Table(title, CATALOGUE, rows)


def datapaths(accelerator: Accelerator) -> Table:
    """One line per datapath of a machine."""
    return Table(accelerator.name, DATAPATH, datapath_rows(accelerator))


def _used(columns: Sequence[Column], rows: Rows) -> tuple[Column, ...]:
    """Columns that any row has something for."""
    return tuple(column for column in columns if any(column.cell(row) for row in rows)) or tuple(columns)
