"""Blame: the layer and the cause that were made bad on purpose come first, and everything exact is the float64 graph."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.analysis.blame import blame
from fixqnn.analysis.hybrid import lean
from fixqnn.errors import BadInput

WIDE = fq.fixed(16, 11)
SCALER = fq.Multiplier(32, "half_even")
MAC = fq.SumOfProducts(SCALER, sum=(fq.Stage(fq.Register(40), size=8), fq.Stage(fq.Register(48))))
CLEAN = {
    **dict.fromkeys(("linear", "conv", "average_pool"), MAC),
    "add": fq.Elementwise(SCALER, common="finest", register=fq.Register(40)),
    "lookup": fq.Lookup(),
    "requantize": SCALER,
}


def network() -> fq.Graph:
    """Two convolutions around a relu, a sum, a tanh, a pool and a linear layer; 16-bit formats for everything."""
    random = np.random.default_rng(1)
    same = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    nodes = (
        fq.Node("conv1", fq.OPS["conv"], ("x", "w1", "b1"), attributes=same),
        fq.Node("relu", fq.OPS["clamp"], ("conv1",), attributes={"low": 0.0}),
        fq.Node("conv2", fq.OPS["conv"], ("relu", "w2"), attributes=same),
        fq.Node("sum", fq.OPS["add"], ("conv2", "relu")),
        fq.Node("tanh", fq.OPS["lookup"], ("sum",), attributes={"function": "tanh"}),
        fq.Node("pool", fq.OPS["average_pool"], ("tanh",),
                attributes={"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}),
        fq.Node("flat", fq.OPS["reshape"], ("pool",), attributes={"shape": (None, 36)}),
        fq.Node("fc", fq.OPS["linear"], ("flat", "w3", "b3")),
    )  # fmt: skip
    constants = {
        "w1": random.normal(0, 0.4, (4, 2, 3, 3)), "b1": random.normal(0, 0.2, 4), "w2": random.normal(0, 0.2, (4, 4, 3, 3)),
        "w3": random.normal(0, 0.3, (5, 36)), "b3": random.normal(0, 0.2, 5),
    }  # fmt: skip
    names = ("conv1", "relu", "conv2", "sum", "tanh", "pool", "flat", "fc")
    formats = {**dict.fromkeys(names, WIDE), **dict.fromkeys(("w1", "w2", "w3"), fq.fixed(16, 13))}
    return fq.Graph((fq.Value("x", (None, 2, 6, 6), WIDE),), ("fc",), nodes, constants, formats)


GRAPH = network()
IMAGES = np.random.default_rng(2).uniform(-1.0, 1.0, (12, 2, 6, 6))


def machine(**changes: object) -> fq.Accelerator:
    return fq.Accelerator("planted", {**CLEAN, **changes})


IGNORED = fq.SumOfProducts(fq.Divide("half_away", fq.Shift()), zero_point="ignored")
PLANTED = {
    "weights": ("conv2", GRAPH.with_formats({"w2": fq.fixed(3, 2)}), machine()),
    "values": ("conv1", GRAPH.with_formats({"conv1": fq.fixed(4, 2)}), machine()),
    "register": ("fc", GRAPH, machine(fc=replace(MAC, sum=(fq.Stage(fq.Register(21), size=8), fq.Stage(fq.Register(48)))))),
    "product": ("conv2", GRAPH, machine(conv2=replace(MAC, product=fq.Register(32, drop=17)))),
    "scaler": ("conv2", GRAPH, machine(conv2=replace(MAC, scaler=fq.Multiplier(4, "half_even", constant="floor", shift=10)))),
    "rounding": ("conv1", GRAPH.with_formats({"conv1": fq.fixed(9, 4)}), machine(conv1=replace(MAC, scaler=fq.Exact("ceil")))),
    "table": ("tanh", GRAPH, machine(tanh=fq.Lookup(size=16, low=-4.0, high=4.0, entry=fq.Register(16, frac=11),
                                                    scaler=fq.Shift("half_even")))),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_the_planted_layer_and_cause_come_first(planted):
    layer, graph, accelerator = PLANTED[planted]
    if planted == "scaler":  # at 2^10, 2^-13 of a product's step is 0.125: a multiplier of 0
        graph = graph.with_formats({"w2": fq.affine(16, 0.00011)})
        accelerator = machine(conv2=replace(MAC, scaler=fq.Multiplier(4, "half_even", constant="floor")))
    found = blame(graph, fq.lower(graph, accelerator), IMAGES)
    expected = {"product": "register", "rounding": "scaler"}.get(planted, planted)
    worst = found.worst()
    assert (worst.layer, worst.cause) == (layer, expected), str(found)
    assert worst.share > 0.5
    assert found.layers[0].layer == layer
    assert found.total.rms > 5 * blame(GRAPH, fq.lower(GRAPH, machine()), IMAGES, alone=False).total.rms


@pytest.mark.parametrize("planted", ["weights", "values", "register", "product", "table"])
def test_the_planted_cause_alone_makes_nearly_all_of_the_error(planted):
    _, graph, accelerator = PLANTED[planted]
    found = blame(graph, fq.lower(graph, accelerator), IMAGES)
    assert found.worst().alone.rms == pytest.approx(found.total.rms, rel=0.1)  # the rest adds in the square


@pytest.mark.parametrize("name", ["ideal", "systolic", "hls4ml", "per_operation"])
def test_everything_exact_is_the_float64_graph(name):
    makers = {"systolic": lambda: hw.systolic(partial=20), "hls4ml": lambda: hw.hls4ml("ap_fixed<12,6>")}
    program = fq.lower(GRAPH, makers.get(name, getattr(hw, name))())
    found = blame(GRAPH, program, IMAGES[:4])
    assert found.remainder.rms < 1e-9  # float64, and only it
    assert found.total.rms == pytest.approx(
        np.sqrt(np.mean((fq.run(program, IMAGES[:4]).output.real() - GRAPH.evaluate(IMAGES[:4])["fc"]) ** 2)), rel=1e-12
    )


def test_what_never_acts_has_no_share_and_makes_no_error():
    found = blame(GRAPH, fq.lower(GRAPH, machine()), IMAGES)
    for row in found.rows:
        if row.cause == "register":
            assert (row.share, row.alone.rms) == (0, 0), row


def test_a_step_whose_exact_results_are_codes_has_no_share():
    for accelerator in (hw.systolic(partial=20), machine(average_pool=IGNORED)):
        found = blame(GRAPH, fq.lower(GRAPH, accelerator), IMAGES)
        assert [row.share for row in found.rows if row.layer == "relu"] == [0]  # a relu's bound is a code


def test_inputs_that_are_codes_have_no_share_whatever_the_registers_do():
    codes = GRAPH.formats["x"].encode(IMAGES)
    found = blame(GRAPH, fq.lower(GRAPH, hw.systolic(partial=18, overflow="wrap")), GRAPH.formats["x"].decode(codes))
    (row,) = (row for row in found.rows if row.layer == "x")
    assert (row.share, row.alone.rms) == (0, 0)


def test_shares_and_interaction_add_up_to_one():
    found = blame(GRAPH, fq.lower(GRAPH, hw.systolic(partial=20)), IMAGES)
    assert sum(row.share for row in found.rows) + found.interaction == pytest.approx(1)
    assert [row.share for row in found.rows] == sorted((row.share for row in found.rows), reverse=True)


def test_one_cause_in_one_layer_is_switched_as_a_machine_without_it_would_compute():
    _, graph, accelerator = PLANTED["register"]
    found = blame(graph, fq.lower(graph, accelerator), IMAGES, alone=False)
    mended = fq.run(fq.lower(graph, machine(fc=replace(MAC, sum=(fq.Stage(fq.Register(62, "forbid")),)))), IMAGES)
    rms = np.sqrt(np.mean((mended.output.real() - graph.evaluate(IMAGES)["fc"]) ** 2))
    assert found.worst().without.rms == pytest.approx(rms, rel=1e-12)
    assert found.worst().alone is None


def test_weights_made_exact_are_the_finest_weights():
    _, graph, accelerator = PLANTED["weights"]
    found = blame(graph, fq.lower(graph, accelerator), IMAGES, alone=False)
    fine = graph.with_formats({"w2": fq.fixed(28, 26)})
    trace = fq.run(
        fq.lower(fine, fq.Accelerator("wide", {**CLEAN, "conv": replace(MAC, sum=(fq.Stage(fq.Register(60)),))})),
        IMAGES,
    )
    rms = np.sqrt(np.mean((trace.output.real() - graph.evaluate(IMAGES)["fc"]) ** 2))
    assert found.worst().without.rms == pytest.approx(rms, rel=0.02)  # 2^-27 of a weight, and the ties that it tips


def test_an_input_is_blamed_by_its_name():
    graph = GRAPH.with_formats({"x": fq.fixed(3, 1)})
    graph = replace(graph, inputs=(replace(graph.inputs[0], format=fq.fixed(3, 1)),))
    found = blame(graph, fq.lower(graph, machine()), IMAGES)
    worst = found.worst()
    assert (worst.layer, worst.op, worst.cause) == ("x", "input", "values")
    assert (found.layers[0].layer, found.layers[0].share) == ("x", worst.share)


def test_predictions_that_change_are_counted():
    _, graph, accelerator = PLANTED["weights"]
    program = fq.lower(graph, accelerator)
    found = blame(graph, program, IMAGES)
    want = fq.predictions_changed(graph.evaluate(IMAGES)["fc"], fq.run(program, IMAGES).output)
    assert found.total.changed == want > 0
    assert found.worst().without.changed <= want


def test_a_batch_in_parts_gives_the_same_as_a_batch_at_once(monkeypatch):
    _, graph, accelerator = PLANTED["register"]
    program = fq.lower(graph, accelerator)
    whole = blame(graph, program, IMAGES)
    monkeypatch.setattr("fixqnn.comparison.BATCH_NUMBERS", 20_000)
    calls = []
    parts = blame(graph, program, IMAGES, progress=lambda done, all_: calls.append((done, all_)))
    assert parts.total.rms == pytest.approx(whole.total.rms, rel=1e-12)
    assert [(r.layer, r.cause) for r in parts.rows[:3]] == [(r.layer, r.cause) for r in whole.rows[:3]]
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_a_step_without_a_scaler_has_its_register_alone():
    mac = fq.SumOfProducts(None, sum=(fq.Stage(fq.Register(9)),))
    node = fq.Node("fc", fq.OPS["linear"], ("x", "w"))
    graph = fq.Graph(
        (fq.Value("x", (None, 4), fq.fixed(8, 4)),), ("fc",), (node,), {"w": np.full((1, 4), 0.75)},
        {"w": fq.fixed(4, 2), "fc": fq.fixed(9, 6)},
    )  # fmt: skip
    data = np.random.default_rng(0).integers(-32, 32, (8, 4)) / 16
    found = blame(graph, fq.lower(graph, fq.Accelerator("bare", {"linear": mac})), data)
    assert [row.cause for row in found.rows if row.layer == "fc"] == ["register"]
    assert (found.worst().share, found.worst().without.rms) == (1, 0)


def test_what_a_machine_cannot_do_exactly_is_noted():
    found = blame(GRAPH, fq.lower(GRAPH, machine(average_pool=IGNORED)), IMAGES)
    assert any(note.startswith("pool: ") for note in found.notes)
    assert found.remainder.rms < 1e-9  # float64, and only it


def test_a_directed_rounding_leans_half_a_step_its_own_way_where_there_is_something_to_round():
    y = np.array([0.3, -0.3, 1.0])
    leans = {
        "floor": [-0.5, -0.5, 0],
        "ceil": [0.5, 0.5, 0],
        "toward_zero": [-0.5, 0.5, 0],
        "away_from_zero": [0.5, -0.5, 0],
    }
    for rounding, want in leans.items():
        assert lean(y, fq.Rounding.of(rounding), 1.0).tolist() == want, rounding
    assert lean(y, fq.Rounding.half_up, 1.0) == 0


def test_it_prints_as_text_and_as_rich_tables():
    from rich.console import Console

    found = blame(GRAPH, fq.lower(GRAPH, machine()), IMAGES[:2])
    text = str(found)
    assert all(words in text for words in ("by layer and cause", "interaction", "rms alone"))
    assert "rms alone" not in str(blame(GRAPH, fq.lower(GRAPH, machine()), IMAGES[:2], alone=False))
    console = Console(width=140, file=StringIO())
    console.print(found)
    assert "conv2" in console.file.getvalue()
    assert found.table()[0]["share"] == found.rows[0].share
    assert {row["layer"] for row in found.table("network")} == {"all"}


BAD = [
    (lambda g, p: blame(p, p, IMAGES), "blame takes a Graph"),
    (lambda g, p: blame(g, g, IMAGES), "blame takes a Program"),
    (lambda g, p: blame(g, p, IMAGES[0]), "shape"),
    (lambda g, p: blame(g, p, IMAGES[:0]), "at least one sample"),
    (lambda g, p: blame(g, p, np.ones((1, 2, 6, 6), int)), "int64"),
    (lambda g, p: blame(g, p, IMAGES * np.nan), "NaN"),
    (lambda g, p: blame(g, p, {"y": IMAGES}), "y"),
    (lambda g, p: blame(g, p, IMAGES, output="conv1"), "no output 'conv1'"),
    (lambda g, p: blame(replace(g, outputs=("pool",)), p, IMAGES), "another graph"),
    (lambda g, p: blame(g, p, IMAGES, alone=False).worst("luck"), "no cause 'luck'"),
    (lambda g, p: blame(g, p, IMAGES, alone=False).table("luck"), "by must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(BadInput, match=message):
        call(GRAPH, fq.lower(GRAPH, machine()))
