"""Sweeps on several processes and on a cluster: the rows of one process, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.sweeps import cluster
from fixqnn.sweeps.evaluate import Bench
from tests.sweeps.sweeping import computed, data, network, small_sweep

X, LABELS = data()


@pytest.fixture(scope="module")
def serial():
    return small_sweep()


def test_two_processes_find_what_one_finds(serial, tmp_path):
    store = tmp_path / "rows.sqlite"
    progress = []
    rows = small_sweep(store, jobs=2, progress=lambda done, everything: progress.append(done))
    assert computed(rows) == computed(serial)
    assert progress == list(range(37))
    assert len(fq.Rows.load(store)) == 36


def test_a_machine_from_a_users_file_and_an_operation_of_ones_own_travel(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import hw_models\n\n\ndef narrow(partial=9):\n    return hw_models.systolic(partial=partial)\n")
    linear = fq.OPS["linear"]
    mine = fq.Op(
        "mine", linear.shape, linear.real, linear.prepare, linear.exact, lambda *arguments: linear.fast(*arguments)
    )
    graph = network()
    nodes = (*graph.nodes[:2], fq.Node("fc2", mine, graph.nodes[2].inputs))
    graph = fq.Graph(graph.inputs, graph.outputs, nodes, graph.constants)
    machine = fq.Accelerator("both", {**hw.ideal().datapaths, "mine": hw.ideal().datapaths["linear"]})
    points = fq.grid(weights=(3, 4), activations=(4, 5))
    policy = fq.Policy()
    one = fq.sweep(graph, X, X, points, [machine], policy=policy)
    assert computed(fq.sweep(graph, X, X, points, [machine], jobs=2, policy=policy)) == computed(one)
    one = fq.sweep(network(), X, X, points, f"{file}:narrow(partial=8..9)")
    assert {row["status"] for row in one} == {"ok"}
    assert computed(fq.sweep(network(), X, X, points, f"{file}:narrow(partial=8..9)", jobs=2)) == computed(one)


def test_a_bench_is_read_as_it_was_written_and_its_arrays_are_views():
    bench = Bench(network(), X, (X, LABELS))
    content = cluster.packed(bench)
    again = cluster.unpacked(memoryview(bytearray(content)))
    assert computed([again.row({"weights": 4}, "ideal")]) == computed([bench.row({"weights": 4}, "ideal")])
    assert not again.inputs["x"].flags.owndata
    assert again.inputs["x"].flags.aligned
    assert again.inputs["x"].flags.writeable, "a read-only array would compile kernels anew"


def test_what_cannot_be_sent_is_named(tmp_path):
    held = (tmp_path / "held").open("w")

    def rewrite(graph):
        return graph if held else None

    machine = fq.Accelerator("held", hw.ideal().datapaths, rewrites=(rewrite,))
    with pytest.raises(fq.BadInput, match=r"cannot be sent to other processes: .*use jobs=1"):
        fq.sweep(network(), X, X, fq.grid(weights=(3, 4, 5)), [machine], jobs=2)


def test_a_worker_that_does_not_see_the_file_is_sent_its_content(serial, monkeypatch):
    from joblib import parallel_config

    monkeypatch.setattr(cluster, "_mapped", lambda path: None)  # as on another machine
    monkeypatch.setattr(cluster, "_BENCHES", {})
    with parallel_config(backend="threading", n_jobs=2):
        assert computed(small_sweep()) == computed(serial)


class Mortal(Bench):
    """A bench whose process dies when it computes a certain key, the first so many times."""

    key = times = folder = None

    def compute(self, task):
        if task.key == self.key and os.getpid() != self.home:
            deaths = len(list(Path(self.folder).iterdir()))
            if deaths < self.times:
                (Path(self.folder) / str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().compute(task)


@pytest.mark.parametrize("times", [1, 10**6])
def test_a_point_that_takes_its_process_down_is_tried_again_and_then_fails_alone(tmp_path, times):
    points = fq.grid(weights=(3, 4, 5), activations=(4, 5))
    bench = Mortal(network(), X, (X, LABELS))
    tasks = [bench.task(point, "ideal") for point in points]
    bench.key, bench.times, bench.folder, bench.home = tasks[3].key, times, str(tmp_path), os.getpid()
    found = {row["key"]: row for row in cluster.stream(bench, tasks, 2)}
    assert len(list(tmp_path.iterdir())) >= 1
    assert set(found) == {task.key for task in tasks}
    statuses = [found[task.key]["status"] for task in tasks]
    assert statuses == (["ok"] * 6 if times == 1 else ["ok", "ok", "ok", "failed", "ok", "ok"])
    if times > 1:
        assert "the process that computed it died" in found[tasks[3].key]["reason"]


def test_workers_that_compute_nothing_at_all_are_an_error(monkeypatch):
    from joblib import parallel_config

    def broken(*_):
        raise OSError("no such cluster")

    monkeypatch.setattr(cluster, "compute_group", broken)
    with (
        parallel_config(backend="threading", n_jobs=2),
        pytest.raises(fq.BadInput, match=r"workers compute nothing: .*no such cluster"),
    ):
        small_sweep()


@pytest.mark.skipif(sys.platform == "win32", reason="workers are killed by a signal")
def test_a_dask_cluster_that_loses_a_worker_loses_no_row_and_doubles_none(serial, tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    from joblib import parallel_config

    store = tmp_path / "rows.sqlite"
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "silence_logs": 50,
    }
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        workers = list(client.run(os.getpid).values())
        seen = []

        def progress(done, everything):
            seen.append(done)
            if done == 5:
                os.kill(workers[0], signal.SIGKILL)

        with parallel_config(backend="dask"):
            rows = small_sweep(store, progress=progress)
        assert set(client.run(os.getpid).values()) != set(workers), "one of them was killed and another came"
    assert computed(rows) == computed(serial)
    assert seen == list(range(37))
    stored = fq.Rows.load(store)
    assert len(stored) == len({row["key"] for row in stored}) == 36


def test_a_cluster_that_never_says_what_it_lost_is_asked_again(serial, monkeypatch):
    """As dask does where a task took several workers down: the call would wait for its answer for ever."""
    import time

    from joblib import parallel_config

    calls, asked, compute = [], [], cluster.compute_group

    def forgetful(*arguments):
        calls.append(1)
        asked.extend(task.key for task in pickle.loads(arguments[-1]))
        if len(calls) == 3:
            time.sleep(3)
        return compute(*arguments)

    monkeypatch.setattr(cluster, "compute_group", forgetful)
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with parallel_config(backend="threading", n_jobs=2):
        assert computed(small_sweep()) == computed(serial)
    assert len(asked) > len(set(asked)) == 36, "what did not come back was asked for again"


def test_groups_are_longer_than_it_takes_to_hand_them_out_and_small_at_the_end():
    bench = Bench(network(), X, X)
    sent = cluster._Sent(bench, None, 2)
    tasks = [bench.task({"weights": 4}, "ideal")] * 100
    sent.seconds = 0.02
    sizes = [len(group) for group in sent._groups(tasks, 2)]
    assert sizes[0] > 10
    assert sizes[-1] == 1
    assert sum(sizes) == 100
    sent.seconds = 5.0
    assert {len(group) for group in sent._groups(tasks, 2)} == {1}
    assert np.diff(sizes).max() <= 0
