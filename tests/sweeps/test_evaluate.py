"""One row: its figures are those of the library's own functions, and what cannot be is said."""

from __future__ import annotations

import functools
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.machines import resolve
from fixqnn.sweeps import identity
from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.rows import COLUMNS
from tests.sweeps.sweeping import TIMING, computed, data, network

X, LABELS = data()
POINT = {"weights": 4, "activations": 5, "weights[fc2]": 3}


@pytest.fixture(scope="module")
def bench():
    return Bench(network(), X, (X, LABELS))


def test_a_row_says_what_the_library_says(bench):
    row = bench.row(POINT, "systolic(partial=7)")
    graph = fq.quantize(network(), X, fq.Policy(weights=4, activations=5, overrides={"fc2": {"weights": 3}}))
    program = fq.lower(graph, hw.systolic(partial=7))
    trace = fq.run(program, X)
    floats = network().evaluate(X)["fc2"]
    found = fq.accuracy(trace.output, LABELS)
    assert row["fingerprint"] == program.fingerprint
    assert row["machine"] == program.accelerator
    assert row["machine_text"] == "systolic(partial=7)"
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == (found.value, found.low, found.high)
    assert (row["right"], row["total"], row["samples_used"]) == (found.right, 60, 60)
    assert row["float_accuracy"] == fq.accuracy(floats, LABELS).value == bench.float_accuracy
    assert row["changed"] == fq.predictions_changed(floats, trace.output)
    assert row["p"] == fq.paired_test(floats.argmax(1) == LABELS, trace.output.real().argmax(1) == LABELS)
    assert row["sqnr"] == fq.sqnr(floats, trace.output)
    assert row["events"] == trace.total_events() > 0
    assert row["clips"] == trace.total_events(output=True)
    assert row["layer_events"]["fc1"]["sum[0]"] == trace.events["fc1"]["sum[0]"].count
    assert set(row) <= set(COLUMNS)
    json.dumps({**row, "settings": {}})


def test_sizes_are_counted_by_hand(bench):
    row = bench.row(POINT, "systolic(partial=7, accumulator=21)")
    assert row["weight_bits"] == 12 * 8 * 4 + 12 * 32 + 4 * 12 * 3 + 4 * 32
    assert row["value_bits"] == 5 * (8 + 12 + 12 + 4)
    assert row["macs"] == 12 * 8 + 4 * 12
    assert row["bit_operations"] == 12 * 8 * 4 * 5 + 4 * 12 * 3 * 5
    assert row["accumulator_bits"] == 21


def test_without_labels_nothing_is_said_of_accuracy():
    row = Bench(network(), X, X).row(POINT, "ideal")
    assert row["status"] == "ok"
    assert row.get("accuracy") is None
    assert row.get("p") is None
    assert row["changed"] >= 0
    assert row["sqnr"] > 0


def test_a_subset_is_the_first_samples_and_another_row(bench):
    some, whole = bench.row(POINT, "systolic(partial=7)", subset=20), bench.row(POINT, "systolic(partial=7)")
    alone = Bench(network(), X, (X[:20], LABELS[:20])).row(POINT, "systolic(partial=7)")
    differing = (*TIMING, "key")
    assert {k: v for k, v in some.items() if k not in differing} == {
        k: v for k, v in alone.items() if k not in differing
    }
    assert some["key"] != whole["key"]
    assert bench.row(POINT, "systolic(partial=7)", subset=60)["key"] == whole["key"]
    with pytest.raises(fq.BadInput, match="subset must lie between 1 and the 60"):
        bench.row(POINT, "ideal", subset=61)


@pytest.mark.parametrize(
    ("settings", "machine", "reason"),
    [
        ({"accumulator_bits": 3}, "ideal", "DoesNotFit: ideal, accumulator_bits=3 cannot take this graph"),
        ({"accumulator_bits": 0}, "ideal", "FormatError: Register.bits must be"),
        (
            {"weights": 12},
            replace(hw.ideal(), ports=fq.Ports(weights=range(2, 9))),
            "12-bit weights do not pass the port",
        ),
        ({"weights": 40, "activations": 40}, "ideal", "TooWide"),
        (
            {"weights": 2, "activations": 6, "overflow": "forbid"},
            "systolic(partial=7)",
            "RegisterOverflow: fc2 (linear)",
        ),
        ({"rounding": "upwards"}, "ideal", "FormatError"),
    ],
)
def test_an_impossible_point_is_a_row_with_its_reason(bench, settings, machine, reason):
    row = bench.row(settings, machine)
    assert row["status"] == "impossible"
    assert reason in row["reason"]
    assert row["settings"] == settings
    assert row.get("fingerprint") is None
    assert row["key"] == bench.task(settings, machine).key


def test_an_unexpected_error_is_a_failed_row_that_says_where(bench, monkeypatch):
    from fixqnn.sweeps import evaluate

    monkeypatch.setattr(evaluate, "sizes", lambda program: 1 / 0)
    row = bench.row(POINT, "ideal")
    assert row["status"] == "failed"
    assert row["reason"].startswith("ZeroDivisionError: division by zero (test_evaluate.py, line ")


def test_keys_tell_points_machines_seeds_and_policies_apart():
    def key(point=None, machine="ideal", policy=None, seed=0):
        return Bench(network(), X, X, policy or fq.Policy(), seed).task(point or {"weights": 4}, machine).key

    keys = [
        key(), key({"weights": 5}), key({"weights[fc1]": 4}), key(machine="systolic"), key(machine=hw.ideal("floor")),
        key(policy=fq.Policy(ranges="mse")), key(seed=1), key({"weights": 4, "accumulator_bits": 20}),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key() == key(machine=hw.ideal) == key(machine=hw.ideal()), "the same record, however it was named"
    assert key({"weights": 4, "bias": 16}) == key({"bias": 16, "weights": 4})


class Filled:
    def __init__(self, code):
        self.code = code

    def __call__(self, step):
        return np.full(1 << step.in_format(0).bits, self.code)

    def entries(self, step):
        return self(step)


def filled(code, table):
    return lambda step, extra=code: np.full(1 << step.in_format(0).bits, table[0] + 0 * extra)


@pytest.mark.parametrize(
    "make",
    [
        Filled,
        lambda k: Filled(k).entries,
        lambda k: functools.partial(lambda code, step: Filled(code)(step), k),
        lambda k: filled(0, np.array([k, *range(2000)])),
        lambda k: filled(k, [0]),
        lambda k: (lambda step: Filled(1)(step)) if k == 1 else (lambda step: Filled(2)(step)),
    ],
    ids=["object", "method", "partial", "closure", "default", "code"],
)
def test_machines_whose_tables_are_filled_otherwise_have_other_keys(make):
    machine = resolve("ideal")

    def key(k):
        paths = {**machine.datapaths, "lookup": fq.Lookup(fill=make(k))}
        return identity.of_machine(replace(machine, datapaths=paths))

    assert key(1) == key(1) != key(2) == key(2)


def test_the_key_of_a_row_does_not_depend_on_the_kind_of_number_or_the_process():
    bench = Bench(network(), X, X)
    keys = {bench.task({"weights": np.int64(4)}, "ideal").key, bench.task({"weights": 4}, "ideal").key}
    assert len(keys) == 1
    assert pickle.loads(pickle.dumps(bench)).task({"weights": 4}, "ideal").key in keys


def test_a_bench_that_travelled_computes_the_same(bench):
    again = pickle.loads(pickle.dumps(bench))
    assert computed([again.row(POINT, "systolic(partial=7)")]) == computed([bench.row(POINT, "systolic(partial=7)")])
    assert again.belongs == bench.belongs


def test_formats_are_chosen_once_for_machines_that_differ_only_in_registers(bench, monkeypatch):
    from fixqnn.sweeps import evaluate

    calls = []
    monkeypatch.setattr(evaluate, "choose", lambda *arguments: calls.append(1) or fq.choose(*arguments))
    monkeypatch.setattr(evaluate, "calibrate", lambda *_: pytest.fail("samples pass once"))
    for bits in (16, 20, 24):
        bench.row({"weights": 7, "activations": 7, "accumulator_bits": bits}, "ideal")
    assert len(calls) == 1


TWO = fq.Graph(
    (fq.Value("a", (None, 2)), fq.Value("b", (None, 2))), ("sum",), (fq.Node("sum", fq.OPS["add"], ("a", "b")),)
)


def test_networks_with_several_inputs_take_tuples_or_mappings():
    a, b = np.array([[0.5, 0.25], [0.1, 0.75]]), np.array([[0.5, 0.75], [0.2, 0.5]])
    labels = [0, 1]
    rows = [
        Bench(TWO, (a, b), test_set).row({"activations": 6}, "ideal")
        for test_set in (((a, b), labels), ({"a": a, "b": b}, labels), [(a, b), labels])
    ]
    assert rows[0]["accuracy"] == 1.0
    assert len({row["codes"] for row in rows}) == 1
    assert Bench(TWO, (a, b), (a, b)).row({}, "ideal").get("accuracy") is None


def test_whole_numbers_in_floats_are_labels_too():
    assert Bench(network(), X, (X, LABELS.astype(np.float32))).belongs == Bench(network(), X, (X, LABELS)).belongs


@pytest.mark.parametrize(
    ("test_set", "message"),
    [
        ((X, LABELS[:5]), r"labels have shape \(5,\); 60 samples need \(60,\)"),
        (X[:0], "the test set is empty"),
        (X[:, :3], r"input 'x' has shape \(60, 3\)"),
        ((X, LABELS, 3), "not 3 things"),
        (np.full((2, 8), np.nan), r"is nan at \[0, 0\]"),
        (X.astype(int), "holds int64 numbers; give reals"),
        ((X, LABELS + 0.5), "labels are the numbers of the right classes.* float64"),
        ((X, X), r"labels are the numbers of the right classes.* shape \(60, 8\)"),
        ((X, ["cat"] * 60), "labels are the numbers of the right classes"),
        ((X, LABELS * np.nan), "labels are the numbers of the right classes"),
        ([(x, y) for x, y in zip(X, LABELS, strict=True)][:3], "not 3 things"),
        (({"x": [X[0], X[1, :2]]}, LABELS), "a list is none: stack its samples"),
        (iter(X), "a generator is none|iterator is none: stack its samples"),
    ],
)
def test_a_test_set_that_does_not_fit_is_refused(test_set, message):
    with pytest.raises(fq.BadInput, match=message):
        Bench(network(), X, test_set)


def test_other_bad_input_is_refused():
    for make, message in (
        (lambda: Bench("net", X, X), "takes a Graph"),
        (lambda: Bench(network(), X, X, policy=8), "must be a Policy"),
        (lambda: Bench(network(), X, X, seed=0.5), "seed must be"),
        (lambda: Bench(network(), X, X, memory=-1), "memory is a number of bytes"),
        (lambda: Bench(network(), [], X), "samples"),
    ):
        with pytest.raises(fq.BadInput, match=message):
            make()


def test_graphs_differ_where_an_operation_of_the_user_differs():
    # both are called "twice": the name alone once made them one graph
    def graph(times: float) -> fq.Graph:
        own = replace(fq.OPS["clamp"], name="twice", real=lambda x: times * x)
        return fq.Graph((fq.Value("x", (None, 2)),), ("y",), (fq.Node("y", own, ("x",)),))

    assert identity.of_graph(graph(2.0)) == identity.of_graph(graph(2.0))
    assert identity.of_graph(graph(2.0)) != identity.of_graph(graph(3.0))
