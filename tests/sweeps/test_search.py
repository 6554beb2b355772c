"""Searches: the same again, the true front, early ends, limits, interruptions, lines that compute rows again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from functools import partial

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.errors import BadFile, BadInput
from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.points import grid
from fixqnn.sweeps.rows import Rows
from fixqnn.sweeps.search import search

COSTS = ("accuracy", "bit_operations", "accumulator_bits")
SMALL = {"weights": (2, 3, 4), "activations": (2, 4, 6), "accumulator_bits": (6, 10, 14)}


def network(seed=0, samples=256):
    """Two linear layers that separate four noisy clusters, and data for them: (graph, calibration, (x, labels))."""
    random = np.random.default_rng(seed)
    centres = np.array([[1, 1, 0, 0], [1, -1, 0.5, 0], [-1, 1, 0, 0.5], [-1, -1, -0.5, -0.5]])
    labels = random.integers(0, 4, samples)
    x = centres[labels] + random.normal(0, 0.45, (samples, 4))
    lift = random.normal(0, 1, (6, 4))
    hidden = np.maximum(x @ lift.T, 0)
    read, *_ = np.linalg.lstsq(np.c_[hidden, np.ones(samples)], np.eye(4)[labels], rcond=None)
    nodes = (
        fq.Node("fc1", fq.OPS["linear"], ("x", "w1")),
        fq.Node("relu", fq.OPS["clamp"], ("fc1",), attributes={"low": 0.0}),
        fq.Node("fc2", fq.OPS["linear"], ("relu", "w2", "b2")),
    )
    constants = {"w1": lift, "w2": read[:-1].T, "b2": read[-1]}
    graph = fq.Graph((fq.Value("x", (None, 4)),), ("fc2",), nodes, constants)
    return graph, x[:64], (x, labels)


GRAPH, SAMPLES, TEST = network()


def find(space=None, **changes):
    given = {"objectives": COSTS, "machines": "ideal", "trials": 20, "early_stop": 0.0, **changes}
    return search(GRAPH, SAMPLES, TEST, SMALL if space is None else space, **given)


def told(rows):
    """What is the same in two runs of one search."""
    left_out = ("seconds", "created", "versions")
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


def beats(a, b, signs=(1, -1, -1)):
    pairs = [(s * a[name], s * b[name]) for name, s in zip(COSTS, signs, strict=True)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


# ---------------------------------------------------------------------- the front
@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
def test_with_enough_trials_the_front_is_the_true_one(sampler, early_stop):
    bench = Bench(GRAPH, SAMPLES, TEST)
    rows = [bench.row(point, "ideal") for point in grid(**SMALL)]
    ok = [row for row in rows if row["status"] == "ok"]
    true = {tuple(row[name] for name in COSTS) for row in ok if not any(beats(other, row) for other in ok)}
    found = find(trials=100, sampler=sampler, early_stop=early_stop)
    assert len(found) == len(rows) == 27
    assert {tuple(row[name] for name in COSTS) for row in found.front} == true
    assert all(row["samples_used"] == len(TEST[0]) for row in found.front)
    assert len({str(row["settings"]) for row in found}) == 27


def test_nothing_on_the_front_is_beaten_by_any_row_however_few_the_trials():
    found = find({"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}, trials=40)
    assert len(found) == 40
    assert len(found.front) >= 2
    assert not any(beats(row, member) for member in found.front for row in found.ok)


def test_the_first_points_have_one_width_everywhere():
    found = find({"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}, trials=20)
    first = [tuple(row["settings"].values()) for row in found[:7]]
    assert first == [(bits, bits, 19) for bits in range(8, 1, -1)]


def test_widths_by_layer_begin_with_those_that_their_noise_asks_for():
    space = {"weights": range(2, 9), "activations": range(2, 9), "per_layer": ("weights", "activations")}
    begun = [row["settings"] for row in find(space, trials=20, targets=(20.0,))[:8]]
    mixed = [settings for settings in begun if len(set(settings.values())) > 1]
    assert len(mixed) == 1  # after seven uniform ones
    found = fq.allocate_bits(GRAPH, SAMPLES, target_sqnr=20, bits=(2, 8), limit=16)
    for name, given in found.widths.items():
        for setting, bits in given.items():
            assert mixed[0].get(f"{setting}[{name}]", bits) == bits
    begun = [row["settings"] for row in find(space, trials=20, targets=())[:7]]
    assert all(len(set(settings.values())) == 1 for settings in begun)


def test_each_layer_may_have_its_own_widths():
    found = find({"weights": (3, 4, 5), "activations": (4, 6), "per_layer": ("weights", "activations")}, trials=30)
    assert set(found[0]["settings"]) == {
        "weights[fc1]", "weights[fc2]", "activations[x]", "activations[fc1]", "activations[fc2]",
    }  # fmt: skip
    mixed = [row for row in found if len({row["settings"]["weights[fc1]"], row["settings"]["weights[fc2]"]}) > 1]
    assert mixed
    assert len({row["weight_bits"] for row in found}) > 3


# ---------------------------------------------------------------------- the same again
@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_the_same_seed_finds_the_same_and_another_seed_asks_otherwise(sampler):
    space = {"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}
    first, again, other = (find(space, trials=45, sampler=sampler, seed=seed) for seed in (1, 1, 2))
    assert told(first) == told(again)
    assert told(first.front) == told(again.front)
    assert [row["settings"] for row in first] != [row["settings"] for row in other]


class StopAfter(Exception):
    pass


@pytest.mark.parametrize("early_stop", [0.0, 0.3])
def test_an_interrupted_search_goes_on_and_ends_as_if_nothing_had_been(tmp_path, monkeypatch, early_stop):
    space = {"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}
    whole = find(space, trials=45, early_stop=early_stop)
    counted = []
    compute = Bench.compute

    def counting(bench, task):
        if len(counted) in (13, 30, 31):
            counted.append("stop")
            raise StopAfter
        counted.append(task.key)
        return compute(bench, task)

    monkeypatch.setattr(Bench, "compute", counting)
    for _ in range(3):
        with pytest.raises(StopAfter):
            find(space, trials=45, store=tmp_path / "rows.sqlite", early_stop=early_stop)
    found = find(space, trials=45, store=tmp_path / "rows.sqlite", early_stop=early_stop)
    assert told(found) == told(whole)
    assert told(found.front) == told(whole.front)
    if not early_stop:
        assert len(counted) == 45 + 3  # nothing twice
    before = len(counted)
    assert told(find(space, trials=45, store=tmp_path / "rows.sqlite", early_stop=early_stop)) == told(whole)
    assert len(counted) == before  # nothing at all


def in_child(work):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def test_a_search_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(tmp_path, monkeypatch):
    space = {"weights": range(2, 9), "activations": range(2, 9)}
    whole = find(space, trials=30)
    compute, count = Bench.compute, iter(range(100))

    def deadly(bench, task):
        if next(count) == 23:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(bench, task)

    monkeypatch.setattr(Bench, "compute", deadly)
    child = in_child(lambda: find(space, trials=30, store=tmp_path / "rows.sqlite"))
    child.join()
    monkeypatch.undo()
    assert child.exitcode == -signal.SIGKILL
    assert len(Rows.load(tmp_path / "rows.sqlite")) == 23
    found = find(space, trials=30, store=tmp_path / "rows.sqlite")
    assert told(found) == told(whole)
    assert told(found.front) == told(whole.front)


def test_two_processes_share_the_work_of_one_search(tmp_path):
    space = {"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}
    work = partial(find, space, trials=40, store=tmp_path / "rows.sqlite")
    children = [in_child(work), in_child(work)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    rows = Rows.load(tmp_path / "rows.sqlite")
    found = work()
    assert len(Rows.load(tmp_path / "rows.sqlite")) == len(rows) == len(found)
    assert 35 <= len(found) <= 40  # a point that both asked for at the same moment counts twice
    assert not any(beats(row, member) for member in found.front for row in found.ok)


def test_a_longer_search_goes_on_from_a_shorter_one(tmp_path):
    space = {"weights": range(2, 9), "activations": range(2, 9), "accumulator_bits": range(6, 20)}
    shorter = find(space, trials=46, store=tmp_path / "rows.sqlite")
    longer = find(space, trials=60, store=tmp_path / "rows.sqlite")
    assert told(longer[:46]) == told(shorter)
    assert len(longer) == 60


def test_rows_of_a_sweep_are_not_computed_again(tmp_path, monkeypatch):
    fq.sweep(GRAPH, SAMPLES, TEST, fq.grid(**SMALL), "ideal", store=tmp_path / "rows.sqlite")
    monkeypatch.setattr(Bench, "compute", lambda bench, task: pytest.fail("computed again"))
    assert len(find(trials=100, store=tmp_path / "rows.sqlite")) == 27


def test_a_search_in_another_store_of_the_same_journal_still_has_all_rows(tmp_path):
    first = find(trials=10, store=tmp_path / "one.sqlite", storage=tmp_path / "journal")
    again = find(trials=10, store=tmp_path / "other.sqlite", storage=tmp_path / "journal")
    assert told(first) == told(again)
    assert len(Rows.load(tmp_path / "other.sqlite")) == 10


def test_any_storage_of_optuna_serves(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    assert told(find(storage=url, trials=8)) == told(find(trials=8))
    tables = sqlite3.connect(tmp_path / "studies.db").execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'")
    assert tables.fetchone() == (8,)


@pytest.mark.parametrize("machines", ["ideal", ["ideal", "systolic(partial=6, rows=2)"]])
def test_the_printed_line_computes_the_same_program_and_row(machines):
    found = find(
        {"weights": (2, 4), "overrides": {"fc2": {"weights": (3, 6)}}, "accumulator_bits": (8, 12)},
        machines=machines,
        seed=3,
    )
    names = {"fq": fq, "graph": GRAPH, "samples": SAMPLES, "test_set": TEST}
    for row in found.front:
        (again,) = eval(found.command(row), names)  # it is a line of Python for the user to run
        assert again["fingerprint"] == row["fingerprint"]
        assert told([again]) == told([row])


def test_the_line_says_which_policy_and_which_machine_when_it_is_no_text():
    import hw_models

    machine = hw_models.systolic(partial=12, rows=2)
    policy = fq.Policy(activations=6, per_channel=True)
    found = find({"weights": (3, 5), "bias": (8, 16)}, machines=machine, policy=policy, trials=4)
    names = {"fq": fq, "graph": GRAPH, "samples": SAMPLES, "test_set": TEST, "machine": machine}
    for row in found:
        assert found.command(row).endswith(f"# machine: {machine.name}")
        (again,) = eval(found.command(row), names)  # it is a line of Python for the user to run
        assert told([again]) == told([row])


def test_several_jobs_find_what_one_finds(tmp_path):
    space = {"weights": range(2, 9), "activations": range(2, 9)}
    one = find(space, trials=24, early_stop=0.05, constraints="accuracy >= float - 0.02")
    two = find(
        space, trials=24, early_stop=0.05, constraints="accuracy >= float - 0.02", jobs=2, store=tmp_path / "r.sqlite"
    )
    assert told(one) == told(two)


# ---------------------------------------------------------------------- limits and early ends
def test_the_front_keeps_the_constraints():
    limits = ["accuracy >= float - 0.02", "accumulator_bits <= 10", lambda row: row["weight_bits"] - 10_000]
    found = find(trials=100, constraints=limits)
    assert len(found.front)
    for row in found.front:
        assert row["accuracy"] >= row["float_accuracy"] - 0.02 - 1e-12
        assert row["accumulator_bits"] <= 10
    assert found.constraints[:2] == tuple(limits[:2])
    assert any(row["accumulator_bits"] > 10 for row in found.ok)
    assert len(find(constraints="accuracy >= float + 0.5").front) == 0


def test_hopeless_points_end_early_with_a_reason_and_never_reach_the_front():
    whole = find(trials=100, constraints="accuracy >= float - 0.02")
    found = find(trials=100, constraints="accuracy >= float - 0.02", early_stop=0.01)
    assert len(found.stopped) >= 3
    for row in found.stopped:
        assert row["samples_used"] in (16, 32)
        assert f"after {row['samples_used']} of 256 samples" in row["reason"]
        assert row["status"] == "stopped"
    assert told(found.front) == told(whole.front)


def test_a_stopped_row_does_not_stand_in_the_way_of_a_sweep(tmp_path):
    find(trials=100, constraints="accuracy >= float - 0.02", early_stop=0.01, store=tmp_path / "rows.sqlite")
    rows = fq.sweep(GRAPH, SAMPLES, TEST, fq.grid(**SMALL), "ideal", store=tmp_path / "rows.sqlite")
    assert len(rows) == 27
    assert all(row["status"] != "stopped" for row in rows)


def test_impossible_points_are_rows_and_do_not_stop_the_search():
    found = find({"weights": (2, 4), "accumulator_bits": (1, 2, 12)}, trials=10)
    assert {row["status"] for row in found} >= {"ok", "impossible"}
    assert all(row["reason"] for row in found if row["status"] == "impossible")
    assert all(row["status"] == "ok" for row in found.front)


def test_random_rounding_is_always_measured_whole():
    found = find(
        {"weights": (2, 4, 6), "rounding": ("stochastic",)}, constraints="accuracy >= float - 0.01", early_stop=0.2
    )
    assert not len(found.stopped)


def test_machines_are_an_axis():
    found = find({"weights": (3, 6)}, machines=["ideal", "systolic(partial=8..10, rows=2)"], trials=50)
    assert len(found) == 8
    assert len({row["machine_text"] for row in found}) == 4


def test_without_labels_other_objectives_do():
    x, _ = TEST
    found = search(GRAPH, SAMPLES, x, SMALL, objectives=("sqnr", "bit_operations"), trials=12)
    assert len(found.front) > 1
    with pytest.raises(BadInput, match=r"objective: accuracy needs labels"):
        search(GRAPH, SAMPLES, x, SMALL)
    with pytest.raises(BadInput, match=r"constraint 'accuracy >= 0.9': accuracy needs labels"):
        search(GRAPH, SAMPLES, x, SMALL, objectives=("sqnr",), constraints="accuracy >= 0.9")


def test_progress_counts_points():
    calls = []
    find(trials=20, progress=lambda done, everything: calls.append((done, everything)))
    assert calls[-1] == (20, 20)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": ()}, "objectives are one or more"),
        ({"objectives": ("accuracy", "accuracy")}, "different columns"),
        ({"objectives": ("acuracy",)}, "did you mean 'accuracy'"),
        ({"objectives": ("seconds",)}, "not the same twice"),
        ({"constraints": "seconds <= 3"}, "not the same twice"),
        ({"constraints": "accuracy >= best"}, "no column 'best'"),
        ({"trials": 0}, "trials is a number"),
        ({"jobs": 0}, "jobs is a number"),
        ({"targets": "much"}, "targets are numbers"),
        ({"targets": 12}, "targets are numbers"),
        ({"sampler": "random"}, "'nsga2' or 'tpe'"),
        ({"early_stop": 1.0}, "chance of error"),
        ({"machines": "nosuch"}, "no machine 'nosuch'"),
        ({"space": {"acumulator_bits": (8, 9)}}, "did you mean 'accumulator_bits'"),
        ({"space": {"weights[conv*]": (8, 9)}}, "matches no node"),
        ({"storage": "nosuch://x"}, "cannot be used as the storage"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(changes, words, monkeypatch):
    monkeypatch.setattr(Bench, "compute", lambda bench, task: pytest.fail("ran"))
    with pytest.raises((BadInput, BadFile), match=words):
        find(**changes)


def test_without_optuna_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadInput, match=r"pip install 'fixqnn\[search\]'"):
        find()


def test_a_store_of_another_network_is_refused(tmp_path):
    find(store=tmp_path / "rows.sqlite", trials=3)
    graph, samples, test = network(seed=1)
    with pytest.raises(BadInput, match="graph"):
        search(graph, samples, test, SMALL, store=tmp_path / "rows.sqlite")
