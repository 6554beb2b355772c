"""The first run of a process loads what another has compiled, and nothing that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numba
import numpy as np
import pytest

import fixqnn as fq
from fixqnn import warm
from fixqnn.cli import main
from fixqnn.kernels.plan import PATHS
from tests.hw_models.test_networks import MACHINES, network, samples

ROOT = Path(__file__).parent.parent
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


def save(folder: Path, machine: str) -> tuple[Path, Path]:
    path, inputs = folder / "program.npz", folder / "x.npy"
    graph = fq.quantize(network(not machine.startswith("tflite")), samples(64))
    fq.lower(graph, MACHINES[machine]).save(path)
    np.save(inputs, samples(3))
    return path, inputs


RUN = """
import json, sys
import numpy as np
import fixqnn as fq
trace = fq.run(fq.Program.load(sys.argv[1]), np.load(sys.argv[2]), threads=2)
from fixqnn.arith.fast import KERNELS
print(json.dumps({
    "torch": "torch" in sys.modules, "compiled": [k.__name__ for k in KERNELS if sum(k.stats.cache_misses.values())],
    "codes": trace.output.codes.tolist(),
}))
"""


def fresh(code: str, *arguments: object, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("machine", ["ideal", "systolic(partial=10)", "hls4ml", "tflite"])
def test_a_saved_program_runs_without_torch(machine, tmp_path):
    assert json.loads(fresh(RUN, *save(tmp_path, machine)))["torch"] is False


@compiled_only
def test_after_a_warm_up_another_process_compiles_nothing(tmp_path):
    program, inputs = save(tmp_path, "systolic(partial=10)")
    folder = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    verb = "from fixqnn.cli import main; main()"
    done = json.loads(fresh(verb, "warmup", "--program", program, "--json", **folder))
    assert done["compiled"] > 0
    assert all(place.startswith(folder["NUMBA_CACHE_DIR"]) for place in done["folders"])
    after = json.loads(fresh(RUN, program, inputs, **folder))
    assert after["compiled"] == []
    assert after["codes"] == fq.run(fq.Program.load(program), np.load(inputs)).output.codes.tolist()
    again = json.loads(fresh(verb, "warmup", "--program", program, "--json", **folder))
    assert again["compiled"] == 0
    assert again["loaded"] > 0


def test_warming_up_goes_down_every_kernel_path_and_tells_how_far_it_is(monkeypatch):
    """Which paths are proved for its cases; what running them compiles is the business of the tests of kernels."""
    paths, steps = set(), []
    monkeypatch.setattr(warm, "run", lambda program, _: paths.update(step.path for step in program.steps))
    done = fq.warmup(progress=lambda now, everything: steps.append((now, everything)))
    assert paths >= set(PATHS)
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]
    assert (done.compiled, done.loaded) == (0, 0)


def test_a_case_of_every_operation_really_runs():
    ran = set()
    for case in warm._cases():
        operation = case[0].nodes[0].op.name
        if operation not in ran:
            with suppress(fq.DoesNotFit):  # a shift does not lead from any step to any other
                warm._exercise(warm._lowered(case))
                ran.add(operation)
    moves = {"reshape", "transpose", "slice", "pad", "concat", "pixel_shuffle", "resize", "conv_transpose"}
    assert ran == set(fq.OPS) - moves


def test_warming_up_a_program_changes_nothing_it_gives(tmp_path):
    path, inputs = save(tmp_path, "systolic")
    program, x = fq.Program.load(path), np.load(inputs)
    before = fq.run(program, x)
    fq.warmup(program)
    after = fq.run(program, x)
    assert np.array_equal(before.output.codes, after.output.codes)
    assert before.events == after.events


def test_what_is_no_program_is_refused():
    with pytest.raises(fq.BadInput, match="warmup takes a Program, not str"):
        fq.warmup("net.npz")


@pytest.mark.parametrize(
    ("folders", "words"), [(("/a", "/b"), ["kept in /a", "kept in /b"]), ((), ["set NUMBA_CACHE_DIR"])]
)
def test_the_command_says_where_kernels_are_kept(folders, words, monkeypatch, capsys):
    done = warm.Warmed(3, 4, 5.0, folders)
    monkeypatch.setattr(warm, "warmup", lambda program, progress: done)
    with pytest.raises(SystemExit) as exit:
        main(["warmup"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert "3 kernels compiled, 4 found on disk, in 5.0 s" in out
    assert all(word in out for word in words)
    with pytest.raises(SystemExit):
        main(["warmup", "--json"])
    assert json.loads(capsys.readouterr().out) == {**asdict(done), "folders": list(folders)}


def test_a_missing_program_is_one_message(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit:
        main(["warmup", "--program", str(tmp_path / "no.npz")])
    assert exit.value.code == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["two", "-1", "1.5"])
def test_a_wrong_number_of_threads_is_refused_before_any_work(wrong, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit:
        main(["run", "missing.py:net", "--data", str(tmp_path / "x.npy"), "--threads", wrong])
    assert exit.value.code == 2
    assert "threads is a number of threads" in capsys.readouterr().err


def test_threads_of_the_command_line_reach_the_run(tmp_path, monkeypatch, capsys):
    import fixqnn.job

    program, inputs = save(tmp_path, "systolic")
    seen, run = [], fixqnn.job.run
    monkeypatch.setattr(fixqnn.job, "run", lambda *a, **k: (seen.append(k["threads"]), run(*a, **k))[1])
    monkeypatch.setenv("FIXQNN_THREADS", "2")
    for options in ([], ["--threads", "3"]):
        with pytest.raises(SystemExit):
            main(["run", str(program), "--data", str(inputs), "--json", *options])
        assert json.loads(capsys.readouterr().out)
    assert seen == [2, 3]
