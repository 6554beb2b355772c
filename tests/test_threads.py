"""How many threads work, and in which process, changes nothing that comes out."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.kernels import pool
from tests.hw_models.test_networks import MACHINES, network, samples

ROOT = Path(__file__).parent.parent
TIMED_OUT = 120


@cache
def program(name: str) -> fq.Program:
    graph = fq.quantize(network(not name.startswith("tflite")), samples(64))
    return fq.lower(graph, MACHINES[name])


def facts(trace: fq.Trace) -> tuple:
    """Everything that a trace says, in a form that can be compared and sent between processes."""
    codes = {name: trace[name].codes.tolist() for name in trace.values}
    events = {
        (step, name): (e.below.tolist(), e.above.tolist(), e.first)
        for step, registers in trace.events.items()
        for name, e in registers.items()
    }
    return codes, events, dict(trace.clipped)


@pytest.fixture
def small_pieces(monkeypatch):
    """Share out even what is not worth it; counts the ranges."""
    seen = []

    def ranges(total, least, threads):
        size = max(1, total // (3 * threads))
        found = [(start, min(start + size, total)) for start in range(0, total, size)]
        seen.append(len(found))
        return found

    monkeypatch.setattr(pool, "_ranges", ranges)
    return seen


@pytest.mark.parametrize("name", MACHINES)
def test_codes_and_events_do_not_depend_on_the_number_of_threads(name, small_pieces):
    x = samples(7)
    alone = facts(fq.run(program(name), x, watch="all"))
    assert not small_pieces
    for threads in (2, 3, 4, 5):
        assert facts(fq.run(program(name), x, watch="all", threads=threads)) == alone
    assert max(small_pieces) > 1


def test_threads_of_the_user_s_own_may_run_the_same_program_at_once(small_pieces):
    x = samples(5)
    want = {name: facts(fq.run(program(name), x)) for name in ("ideal", "systolic(partial=10)")}
    wrong = []

    def user(name: str, threads: int) -> None:
        for _ in range(3):
            if facts(fq.run(program(name), x, threads=threads)) != want[name]:
                wrong.append((name, threads))

    users = [threading.Thread(target=user, args=(name, threads)) for name in want for threads in (1, 2, 4)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(TIMED_OUT)
    assert not wrong


def test_the_environment_gives_the_number_and_the_argument_wins(monkeypatch, small_pieces):
    monkeypatch.setenv(pool.VARIABLE, "2")
    fq.run(program("ideal"), samples(3))
    used = len(small_pieces)
    assert used
    fq.run(program("ideal"), samples(3), threads=1)
    assert len(small_pieces) == used
    monkeypatch.setenv(pool.VARIABLE, "several")
    with pytest.raises(fq.BadInput, match="FIXQNN_THREADS is a number of threads"):
        fq.run(program("ideal"), samples(3))
    with pytest.raises(fq.BadInput, match="threads is a number of threads"):
        fq.run(program("ideal"), samples(3), threads=-1)


@pytest.fixture
def saved(tmp_path):
    """A program and inputs on disk, and what they give here."""
    path, x = tmp_path / "program.npz", samples(5)
    program("systolic(partial=10)").save(path)
    np.save(tmp_path / "x.npy", x)
    return path, tmp_path / "x.npy", facts(fq.run(program("systolic(partial=10)"), x, watch="all"))


def load_and_run(path: Path, x: Path, threads: int) -> tuple:
    """What a worker does."""
    return facts(fq.run(fq.Program.load(path), np.load(x), watch="all", threads=threads))


def in_a_fresh_python(code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code, *map(str, arguments)],
        cwd=ROOT, timeout=TIMED_OUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


PREAMBLE = """
import os, sys
import numpy as np
import fixqnn as fq
from fixqnn.kernels import pool
pool._ranges = lambda total, least, threads: [(i, i + 1) for i in range(total)] if total < 50 else [(0, 20), (20, total)]
if len(sys.argv) > 2:
    program, x = fq.Program.load(sys.argv[1]), np.load(sys.argv[2])
def equal(a, b):
    return np.array_equal(a.output.codes, b.output.codes) and a.events == b.events
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same_before_and_after_its_parent_used_threads(saved):
    code = """
for used in (False, True):
    want = fq.run(program, x, threads=3 if used else 1)
    children = []
    for threads in (1, 3):
        child = os.fork()
        if not child:
            os._exit(0 if equal(fq.run(program, x, threads=threads), want) else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0], used
assert equal(fq.run(program, x, threads=3), want)
"""
    in_a_fresh_python(code, *saved[:2])


def test_a_spawned_worker_computes_the_same(saved):
    path, x, want = saved
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert workers.apply(load_and_run, (path, x, 2)) == want


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_computes_the_same(saved, backend):
    joblib = pytest.importorskip("joblib")
    path, x, want = saved
    jobs = (joblib.delayed(load_and_run)(path, x, threads) for threads in (1, 2, 3))
    assert joblib.Parallel(n_jobs=2, backend=backend)(jobs) == [want] * 3


def test_torch_may_work_in_the_same_process(saved):
    """Its own threads, before, between and after; a run gives the same, and leaves torch's settings alone."""
    code = """
import torch
torch.set_num_threads(2)
a = torch.ones(300, 300)
net = torch.nn.Conv2d(2, 8, 3)
real = torch.from_numpy(x).float()
before = (a @ a).sum().item(), net(real).sum().item()
settings = lambda: (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu"))
kept = settings()
want = fq.run(program, x, threads=1)
for threads in (2, 3):
    assert equal(fq.run(program, x, threads=threads), want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal(fq.run(program, x, threads=threads), want)
    assert before == ((a @ a).sum().item(), net(real).sum().item())
assert settings() == kept
"""
    in_a_fresh_python(code, *saved[:2])
