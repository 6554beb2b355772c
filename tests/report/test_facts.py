"""Facts of a run, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fixqnn as fq
import hw_models
from fixqnn.comparison import Comparison, Deviation, compare_with_float
from fixqnn.costs import macs, parameters
from fixqnn.provenance import stamps
from fixqnn.report.facts import layer_rows, machine_row, register_rows


def small(relu: bool = True) -> fq.Graph:
    """x (N, 4) → linear → relu, with formats given by hand."""
    rng = np.random.default_rng(0)
    nodes = [fq.Node("fc", fq.OPS["linear"], ("x", "w"))]
    if relu:
        nodes.append(fq.Node("relu", fq.OPS["clamp"], ("fc",), attributes={"low": 0.0, "high": None}))
    unsigned = fq.fixed(8, 5, signed=False)
    formats = {"x": fq.fixed(8, 5), "w": fq.fixed(8, 6), "fc": unsigned, "relu": unsigned}
    return fq.Graph(
        (fq.Value("x", (None, 4)),), (nodes[-1].name,), tuple(nodes), {"w": rng.normal(size=(3, 4)) / 2},
        {k: v for k, v in formats.items() if relu or k != "relu"},
    )  # fmt: skip


DATA = np.random.default_rng(1).normal(size=(64, 4))


def test_deviation_of_batches_is_the_sqnr_of_all():
    rng = np.random.default_rng(2)
    reference, found = rng.normal(size=(2, 50, 3))
    deviation = Deviation()
    for part in (slice(0, 20), slice(20, 50)):
        deviation.add(reference[part], found[part], fq.fixed(8, 4))
    assert deviation.decibels == pytest.approx(fq.sqnr(reference, found), abs=1e-9)  # sums in another order
    assert (deviation.low, deviation.high) == (reference.min(), reference.max())


def test_deviation_counts_what_lies_beyond_the_format():
    deviation = Deviation()
    form = fq.fixed(4, 0)  # -8 … 7; 7.5 still rounds into it
    deviation.add(np.array([7.5, 7.6, -8.5, -8.6, 0.0]), np.zeros(5), form)
    assert deviation.beyond == 2


def test_equal_signals_are_infinitely_good_and_a_missed_zero_infinitely_bad():
    one, two = Deviation(), Deviation()
    one.add(np.ones(3), np.ones(3), fq.fixed(8, 4))
    two.add(np.zeros(3), np.ones(3), fq.fixed(8, 4))
    assert one.decibels == math.inf
    assert two.decibels == -math.inf


def test_a_fused_relu_is_compared_with_what_comes_after_the_relu():
    graph = small()
    trace = fq.run(fq.lower(graph, hw_models.ideal()), DATA, watch="all")
    found = compare_with_float(graph, {"": trace}, {"x": DATA})[""].deviations
    after = graph.evaluate(DATA)["relu"]
    assert found["fc"].decibels == found["relu"].decibels == pytest.approx(fq.sqnr(after, trace.output), abs=1e-9)
    assert found["fc"].low == 0


def test_without_fusion_the_layer_is_compared_with_itself():
    graph = small(relu=False).with_formats({"fc": fq.fixed(8, 5)})
    trace = fq.run(fq.lower(graph, hw_models.ideal()), DATA, watch="all")
    found = compare_with_float(graph, {"": trace}, {"x": DATA})[""].deviations
    assert found["fc"].low < 0
    assert found["fc"].decibels == pytest.approx(fq.sqnr(graph.evaluate(DATA)["fc"], trace.output), abs=1e-9)


def test_memory_limits_cut_batches_and_change_nothing(monkeypatch):
    graph = small()
    trace = fq.run(fq.lower(graph, hw_models.ideal()), DATA, watch="all")
    whole = compare_with_float(graph, {"": trace}, {"x": DATA})[""].deviations["fc"]
    monkeypatch.setattr("fixqnn.comparison.BATCH_NUMBERS", 30)
    steps = []
    cut = compare_with_float(graph, {"": trace}, {"x": DATA}, lambda done, total: steps.append((done, total)))[""]
    assert cut.deviations["fc"].decibels == pytest.approx(whole.decibels, abs=1e-9)
    assert len(steps) > 5
    assert steps[-1] == (64, 64)


def test_rows_repeat_what_the_trace_counted():
    graph = small()
    trace = fq.run(fq.lower(graph, hw_models.systolic(rows=2, partial=9)), DATA, watch="all")
    comparison = compare_with_float(graph, {"": trace}, {"x": DATA})[""]
    layers, registers = layer_rows(comparison), register_rows(trace)
    assert sum(row["events"] for row in layers) == trace.total_events() > 0
    assert sum(row["clips"] for row in layers) == trace.total_events(output=True) > 0
    assert [(r["layer"], r["register"], r["events"], r["below"], r["above"]) for r in registers] == [
        (r["step"], r["register"], r["events"], r["below"], r["above"]) for r in trace.summary()
    ]
    first = trace.events["fc"]["sum[0]"].first
    row = next(r for r in registers if r["register"] == "sum[0]")
    assert row["first"].startswith(f"sample {first.sample}, channel {first.channel}")
    assert row["value"] == first.value
    assert layers[0]["formats"] == "s8/5, s8/6 → u8/5"


def test_a_machine_in_one_row():
    graph = small(relu=False).with_formats({"fc": fq.fixed(8, 5)})
    trace = fq.run(fq.lower(graph, hw_models.ideal()), DATA, watch="all")
    comparison = compare_with_float(graph, {"": trace}, {"x": DATA})[""]
    reference = graph.evaluate(DATA)["fc"]
    labels = reference.argmax(1)
    row = machine_row("m", comparison, reference, labels, seconds=2.0, torch_seconds=0.5)
    changed = int((trace.output.codes.argmax(1) != labels).sum())
    assert row["changed"] == changed
    assert (row["right"], row["total"]) == (64 - changed, 64)
    assert row["accuracy_low"] < row["accuracy"] <= row["accuracy_high"]
    assert (row["per_second"], row["times_torch"]) == (32, 4.0)
    assert machine_row("float", None, reference, labels)["accuracy"] == 1
    bare = machine_row("m", Comparison(trace), None)
    assert bare["sqnr"] is None
    assert "changed" not in bare


def test_multiplications_and_parameters_of_every_sum_of_products():
    ops, rng = fq.OPS, np.random.default_rng(0)
    pair = ((1, 1), (1, 1))
    common = {"stride": (2, 2), "dilation": (1, 1), "groups": 2}
    graph = fq.Graph(
        (fq.Value("x", (None, 4, 8, 8)),),
        ("up",),
        (
            fq.Node("conv", ops["conv"], ("x", "w", "b"), attributes={**common, "padding": pair}),
            fq.Node(
                "up", ops["conv_transpose"], ("conv", "v"),
                attributes={**common, "padding": (1, 1), "output_padding": (1, 1)},
            ),
        ),
        {"w": rng.normal(size=(6, 2, 3, 3)), "b": rng.normal(size=6), "v": rng.normal(size=(6, 5, 3, 3))},
    )  # fmt: skip
    assert macs(graph, graph.node("conv")) == 6 * 4 * 4 * 2 * 9
    assert macs(graph, graph.node("up")) == 6 * 4 * 4 * 5 * 9
    assert parameters(graph, graph.node("conv")) == 6 * 2 * 9 + 6
    linear = small()
    assert (macs(linear, linear.node("fc")), macs(linear, linear.node("relu"))) == (12, 0)


def test_stamps_name_versions_command_and_settings():
    found = stamps("fixqnn run", {"seed": 3})
    assert found["fixqnn"] == fq.__version__
    assert found["numpy"] == np.__version__
    assert (found["command"], found["seed"]) == ("fixqnn run", "3")
    assert found["processor"]
