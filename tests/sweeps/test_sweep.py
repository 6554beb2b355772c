"""Sweeps: all points in order, work shared, stopped at any moment and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.sweeps import evaluate
from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.rows import point_of
from fixqnn.sweeps.sweep import in_order
from tests.sweeps.sweeping import MACHINES, POINTS, computed, data, network, small_sweep

ROOT = Path(__file__).parent.parent.parent
X, LABELS = data()


@pytest.fixture(scope="module")
def serial():
    return small_sweep()


def child(store: Path, seconds: float) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "FIXQNN_THREADS": "1"}
    command = [sys.executable, "tests/sweeps/sweeping.py", str(store), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)


def test_every_point_has_a_row_on_every_machine_in_the_order_asked_for(serial):
    assert [(point_of(row), row["machine_text"]) for row in serial] == [(p, m) for p in POINTS for m in MACHINES]
    statuses = {row["status"] for row in serial}
    assert statuses == {"ok", "impossible"}
    assert len({row["key"] for row in serial}) == len(serial) == 36
    assert any(row["events"] for row in serial.ok)


def test_the_best_rows_computed_alone_have_the_same_programs_and_codes(serial):
    for row in serial.best(count=3):
        alone = Bench(network(), X, (X, LABELS), memory=0)
        program = alone.program(point_of(row), row["machine_text"])
        assert program.fingerprint == row["fingerprint"]
        assert computed([alone.row(row["settings"], row["machine_text"])]) == computed([row])
        trace = fq.run(program, X)
        assert fq.accuracy(trace.output, LABELS).right == row["right"]
        assert trace.total_events() == row["events"]


def test_keeping_results_for_other_points_changes_no_row(serial):
    assert computed(small_sweep(memory=0)) == computed(serial)
    assert computed(small_sweep(memory=500)) == computed(serial)


def test_the_same_call_computes_only_what_is_missing(serial, tmp_path, monkeypatch):
    store = tmp_path / "rows.sqlite"
    x, labels = X, LABELS
    fq.sweep(network(), x, (x, labels), POINTS[:5], MACHINES, store)
    calls = []
    compute = Bench.compute
    monkeypatch.setattr(Bench, "compute", lambda self, task: calls.append(task.key) or compute(self, task))
    progress = []
    rows = small_sweep(store, progress=lambda done, everything: progress.append((done, everything)), command="again")
    assert len(calls) == 36 - 10
    assert progress[0] == (10, 36)
    assert progress[-1] == (36, 36)
    assert computed(rows) == computed(serial)
    assert computed(small_sweep(store)) == computed(serial)
    assert len(calls) == 36 - 10
    assert rows.meta["commands"] == ["again"]
    assert rows.meta["float_accuracy"] == serial[0]["float_accuracy"]
    assert rows.meta["test_samples"] == 60


def test_rows_that_failed_are_tried_again(tmp_path, monkeypatch, serial):
    store = tmp_path / "rows.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "sizes", lambda program: 1 / 0)
        rows = small_sweep(store)
    assert {row["status"] for row in rows} == {"failed", "impossible"}
    assert "ZeroDivisionError" in next(row["reason"] for row in rows if row["status"] == "failed")
    assert computed(small_sweep(store)) == computed(serial)
    assert len(fq.Rows.load(store)) == 36


def test_a_sweep_killed_at_any_moment_goes_on_where_it_was(tmp_path, serial):
    store = tmp_path / "rows.sqlite"
    process = child(store, 0.03)
    for line in process.stdout:
        if line.startswith("9 "):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = fq.Rows.load(store)
    assert 9 <= len(left) < 36
    process = child(store, 0)
    first = process.stdout.readline()
    assert process.wait() == 0
    assert first.split() == [str(len(left)), "36"], "nothing that was there is computed again"
    rows = fq.Rows.load(store)
    assert len(rows) == 36
    assert sorted(computed(rows), key=lambda row: row["key"]) == sorted(computed(serial), key=lambda row: row["key"])
    assert computed(small_sweep(store)) == computed(serial)


def test_two_processes_write_to_one_store_and_share_the_work(tmp_path, serial):
    store = tmp_path / "rows.sqlite"
    processes = [child(store, 0.05) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    rows = fq.Rows.load(store)
    assert len(rows) == 36
    assert computed(small_sweep(store)) == computed(serial)


def test_ctrl_c_keeps_the_rows_and_says_how_to_go_on(tmp_path, serial):
    store = tmp_path / "rows.sqlite"

    def stop(done, everything):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"stopped after 7 of 36 rows: they are in .*rows.sqlite; the same call goes on"
    ):
        small_sweep(store, progress=stop)
    assert len(fq.Rows.load(store)) == 7
    assert computed(small_sweep(store)) == computed(serial)


def test_a_store_of_other_data_or_another_network_is_refused(tmp_path):
    store = tmp_path / "rows.sqlite"
    points = fq.grid(weights=4)
    fq.sweep(network(), X, (X, LABELS), points, "ideal", store)
    for arguments, what in (
        ((network(11), X, (X, LABELS)), "graph"),
        ((network(), X, (X + 0.5, LABELS)), "test set"),
        ((network(), X, (X, (LABELS + 1) % 4)), "labels"),
        ((network(), X, X), "labels"),
        ((network(), X[:50], (X, LABELS)), "calibration samples"),
    ):
        with pytest.raises(fq.BadInput, match=f"belongs to something else(.|\n)*  - {what}: the store has"):
            fq.sweep(*arguments, points, "ideal", store)
    assert len(fq.Rows.load(store)) == 1
    again = fq.sweep(network(), iter([X[:30], X[30:]]), (X.astype(np.float64), LABELS.tolist()), points, "ideal", store)
    assert len(again) == 1, "the same numbers, however they came"


def test_settings_that_nothing_knows_are_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(Bench, "compute", lambda *_: pytest.fail("computed"))
    for points, machine, message in (
        (
            fq.grid(weights=4, acumulator_bits=16),
            "ideal",
            "no setting 'acumulator_bits'; did you mean 'accumulator_bits'",
        ),
        (fq.grid(overrides={"fc3": {"weights": 4}}), "ideal", r"overrides\['fc3'\] matches no node"),
        (fq.grid(overrides={"fc1": {"accumulator": 4}}), "ideal", r"accumulator\[fc1\] is no setting of a layer"),
        ([], "ideal", "there are no points"),
        (fq.grid(weights=4), "idle", "did you mean 'ideal'"),
    ):
        with pytest.raises(fq.BadInput, match=message):
            fq.sweep(network(), X, (X, LABELS), points, machine)
    with pytest.raises(fq.BadInput, match="jobs is a number of processes"):
        small_sweep(jobs=0)


def test_a_graph_whose_formats_are_settled_is_not_swept_over_formats():
    graph = fq.quantize(network(), X)
    with pytest.raises(fq.BadInput, match="weights would change nothing: all weights of the graph have formats"):
        fq.sweep(graph, X, (X, LABELS), fq.grid(weights=(4, 8)))
    rows = fq.sweep(graph, X, (X, LABELS), fq.grid(accumulator_bits=(20, 24)))
    assert [row["status"] for row in rows] == ["ok", "ok"]


def test_a_layer_may_have_registers_of_its_own():
    rows = fq.sweep(network(), X, (X, LABELS), fq.grid(overrides={"fc1": {"partial_bits": (7, 16)}}), "systolic")
    assert [bool(row["events"]) for row in rows] == [True, False]
    assert set(rows[0]["layer_events"]["fc1"]) == {"sum[0]", "output"}
    assert not rows[0]["layer_events"].get("fc2", {}).get("sum[0]")


def test_points_go_in_an_order_in_which_neighbours_share_steps():
    bench = Bench(network(), X, (X, LABELS))
    points = fq.grid(accumulator_bits=(16, 12), overrides={"fc2": {"weights": (3, 4)}, "fc1": {"weights": (5, 6)}})
    tasks = [bench.task(point, machine) for point in points for machine in ("ideal", hw.systolic)]
    order = in_order(network(), tasks)
    seen = [(t.point.settings["weights[fc1]"], t.point.settings["weights[fc2]"]) for t in order]
    assert seen == sorted(seen)
    assert sorted(t.key for t in order) == sorted(t.key for t in tasks)
    assert [t.point.settings["accumulator_bits"] for t in order[:2]] == [12, 16], "narrow registers first"
