"""The command line: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.analysis.rebinding import bind_again
from fixqnn.cli import main

MODEL = """
import torch
from torch import nn

def build(classes=3):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes), nn.Sigmoid()]
    return nn.Sequential(*layers).eval()

def example():
    return (torch.zeros(2, 1, 8, 8),)

def training():
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout())

def broken():
    return 1 / 0

def number():
    return 3
"""
MACHINE = """
import hw_models

def narrow(partial=9):
    return hw_models.systolic(partial=partial)

FIXED = hw_models.ideal()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a machine, data, and one saved run."""
    home = tmp_path_factory.mktemp("work")
    (home / "net.py").write_text(MODEL)
    (home / "mine.py").write_text(MACHINE)
    random = np.random.default_rng(0)
    np.save(home / "x.npy", random.normal(size=(20, 1, 8, 8)))
    np.save(home / "y.npy", random.integers(0, 3, 20))
    np.save(home / "bytes.npy", random.integers(0, 255, (20, 1, 8, 8)).astype(np.uint8))
    np.save(home / "nan.npy", np.full((2, 1, 8, 8), np.nan))
    np.save(home / "text.npy", np.array(["a"]))
    (home / "junk.npy").write_text("hello")
    (home / "junk.npz").write_text("hello")
    (home / "syntax.py").write_text("def build(:\n")
    return home


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


@pytest.fixture
def saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of the model on a narrow array."""
    if not (folder / "run").exists():
        status, _, err = call(
            capsys, "run", "net.py:build", "--data", "x.npy", "--machine", "mine.py:narrow(partial=10)", "--save", "run"
        )
        assert status == 0, err
    return folder / "run"


def test_demo_writes_a_page_a_summary_and_runs_that_compare(capsys, tmp_path):
    out = tmp_path / "demo"
    status, text, err = call(capsys, "demo", "--out", str(out), "--epochs", "1", "--images", "64")
    assert status == 0, err
    machines = (
        "torch float32",
        "ideal",
        "per_operation",
        "systolic(partial=16)",
        "systolic(partial=14)",
        "hls4ml",
        "tflite",
    )
    assert all(f"\n {name} " in text for name in machines)
    assert all(
        column in text for column in ("accuracy", "95 %", "changed", "SQNR", "events", "clips", "images/s", "× torch")
    )
    assert "Registers that overflowed on systolic(partial=14)" in text
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") > 3
    assert "://" not in page.replace("http://www.w3.org", "")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [row["machine"] for row in summary["machines"]] == list(machines[1:])
    assert summary["machines"][3]["events"] == sum(
        r["events"] for r in summary["machines"][3]["registers"] if r["register"] != "output"
    )
    command = next(line for line in text.splitlines() if "fixqnn compare" in line)
    status, text, _ = call(capsys, *command.partition("#")[0].split()[1:])
    assert status == 1
    assert "first difference: " in text
    status, text, _ = call(capsys, "compare", str(out / "runs" / "ideal"), str(out / "runs" / "ideal"))
    assert status == 0


def test_inspect_shows_nodes_shapes_parameters_and_multiplications(capsys):
    status, text, _ = call(capsys, "inspect", "net.py:build")
    assert status == 0
    assert "(N, 4, 6, 6)" in text
    assert "parameters: 475" in text  # 4·9 + 4 + 144·3 + 3
    assert "multiply-accumulates per sample: 1728" in text  # 4·36·9 + 144·3
    status, text, _ = call(capsys, "inspect", "net.py:build(classes=2)", "--json")
    assert json.loads(text)["parameters"] == 4 * 9 + 4 + 144 * 2 + 2
    status, text, _ = call(capsys, "inspect", "net.py:build", "--shape", "5,1,8,8", "--json")
    assert json.loads(text)["values"][0]["shape"] == "(N, 1, 8, 8)"


def test_inspect_reads_exported_torch_files_and_saved_programs(capsys, saved):
    import torch

    names: dict[str, object] = {}
    exec(MODEL, names)
    program = torch.export.export(names["build"](), names["example"](), dynamic_shapes=({0: torch.export.Dim("b")},))
    torch.export.save(program, "net.pt2")
    status, text, _ = call(capsys, "inspect", "net.pt2", "--json")
    assert status == 0
    assert json.loads(text)["parameters"] == 475
    status, text, _ = call(capsys, "inspect", str(saved / "program.npz"))
    assert status == 0
    assert "Program for systolic(16x16, partial=10, accumulator=32)" in text
    assert "fingerprint: " in text


def test_run_prints_and_saves_what_the_library_computes(capsys, saved):
    import fixqnn as fq

    trace = fq.Trace.load(saved)
    assert trace.samples == 20
    assert set(trace.values) == {"input", "0", "1", "2", "3", "4"}
    report = json.loads((saved / "report.json").read_text())
    assert report["run"]["events"] == trace.total_events() > 0
    assert report["stamps"]["machine"] == "mine.py:narrow(partial=10)"
    assert report["stamps"]["fingerprint"] == trace.program.fingerprint
    assert (saved / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = fq.run(trace.program, np.load("x.npy"), watch="all", engine="exact")
    assert fq.first_difference(trace, again) is None


def test_run_says_accuracy_events_and_clipped_inputs_in_text_and_json(capsys):
    arguments = ("run", "net.py:build", "--data", "x.npy", "--labels", "y.npy", "--calibration", "x.npy")
    status, text, _ = call(capsys, *arguments, "--weights", "4", "--activations", "6")
    assert status == 0
    assert "input 'input': 0 of 1280 values clipped" in text
    status, text, err = call(capsys, *arguments, "--weights", "4", "--activations", "6", "--json")
    assert err == ""
    facts = json.loads(text)
    assert set(facts) == {"run", "layers", "registers", "clipped inputs", "notes"}
    assert facts["run"][0]["machine"] == "ideal"
    assert 0 <= facts["run"][0]["accuracy"] <= 1
    assert facts["layers"][0]["formats"].startswith("s6/")
    assert ", s4/" in facts["layers"][0]["formats"]
    assert facts["run"][0]["sqnr"] == facts["layers"][-1]["sqnr"]


def test_free_scales_per_channel_and_other_ranges_reach_the_policy(capsys):
    arguments = ("--scales", "free", "--per-channel", "--ranges", "mse", "--engine", "exact", "--json")
    status, text, _ = call(capsys, "run", "net.py:build", "--data", "x.npy", *arguments)
    assert status == 0
    formats = json.loads(text)["layers"][0]["formats"]
    assert "·" in formats
    assert "…" in formats


def test_a_saved_program_runs_as_it_is_and_gives_the_same_codes(capsys, saved, folder):
    status, _, err = call(capsys, "run", "run/program.npz", "--data", "x.npy", "--engine", "exact", "--save", "again")
    assert status == 0, err
    status, text, _ = call(capsys, "compare", "run", "again")
    assert status == 0
    assert "equal: all " in text


def test_integer_data_are_codes_of_a_saved_program(capsys, saved):
    np.save("codes.npy", np.load(saved / "input.npy"))
    call(capsys, "run", "run/program.npz", "--data", "codes.npy", "--save", "coded")
    assert call(capsys, "compare", "run", "coded")[0] == 0


def test_compare_explains_a_difference(capsys, saved, tmp_path):
    dump = tmp_path / "rtl"
    dump.mkdir()
    np.save(dump / "input.npy", np.load(saved / "input.npy"))
    np.save(dump / "0.npy", np.load(saved / "0.npy"))
    status, text, _ = call(capsys, "compare", "run", str(dump), "--explain")
    assert (status, "equal: all" in text) == (0, True)
    program = fq.Program.load(saved / "program.npz")
    datapath = program.steps[0].datapath
    step = bind_again(program.steps[0], replace(datapath, scaler=replace(datapath.scaler, rounding="floor")))
    floored = fq.run(replace(program, steps=(step, *program.steps[1:])), np.load(saved / "input.npy"), watch="all")
    np.save(dump / "0.npy", floored["0"].codes)
    status, text, _ = call(capsys, "compare", "run", str(dump), "--explain")
    assert status == 1
    assert "0 differs first, at [" in text
    assert "Explained by: scaler rounding floor instead of half_even" in text
    status, text, _ = call(capsys, "compare", "run", str(dump), "--explain", "--json")
    assert status == 1
    assert json.loads(text)["explanation"]["explanation"]["words"] == "scaler rounding floor instead of half_even"


def test_compare_finds_the_first_difference_in_dumps_from_elsewhere(capsys, saved, tmp_path):
    dump = tmp_path / "dump"
    dump.mkdir()
    for name in ("input", "0", "3"):
        np.save(dump / f"{name}.npy", np.load(saved / f"{name}.npy").astype(np.int16))
    status, text, _ = call(capsys, "compare", "run", str(dump))
    assert status == 0
    assert "not compared: 1, 2, 4" in text
    codes = np.load(dump / "3.npy")
    codes[7, 2] += 3
    codes[9, 0] -= 5
    np.save(dump / "3.npy", codes)
    status, text, _ = call(capsys, "compare", "run", str(dump), "--json")
    assert status == 1
    facts = json.loads(text)
    first = facts["first difference"]
    assert (first["step"], first["index"], first["differing"]) == ("3", [7, 2], 2)
    assert first["codes"][1] - first["codes"][0] == 3
    assert len(first["operands"]) == 144
    assert {row["value"]: (row["differing"], row["worst"]) for row in facts["values"]} == {
        "input": (0, 0), "0": (0, 0), "3": (2, 5),
    }  # fmt: skip


def test_machines_lists_the_catalogue_and_prints_a_record_in_full(capsys):
    import hw_models

    status, text, _ = call(capsys, "machines")
    assert status == 0
    assert all(f"\n {name} " in text for name in hw_models.CATALOG)
    rows = json.loads(call(capsys, "machines", "--json")[1])["machines"]
    assert {row["name"]: row["source"] for row in rows} == {name: f().source for name, f in hw_models.CATALOG.items()}
    status, text, _ = call(capsys, "machines", "systolic(partial=12, overflow='wrap')")
    assert "Stage(Register(12, overflow='wrap'), size=16)" in text
    assert "source: H. T. Kung" in text
    assert "ideal" in call(capsys, "machines", "mine.py:FIXED")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run net.py:build --data bytes.npy", "uint8 codes, but net.py:build has no formats yet"),
        ("run net.py:build --data nan.npy", r"[0, 0, 0, 0]"),
        ("run net.py:build --data junk.npy", "junk.npy is no .npy file of numbers"),
        ("run net.py:build --data text.npy", "text.npy does not hold one array of numbers"),
        ("run net.py:build --data no.npy", "there is no file no.npy"),
        ("run net.py:build --data x.npy --data x.npy", "2"),
        ("run net.py:build --data x.npy --labels no.npy", "there is no file no.npy"),
        ("run net.py:build --data x.npy --machine sistolic", "(did you mean 'systolic'?); it has: hls4ml, ideal"),
        ("run net.py:build --data x.npy --machine systolic(rows=-1)", "-1"),
        ("run net.py:build --data x.npy --machine systolic(rose=1)", "argument 'rose'; it is systolic(rows=16, columns=16,"),
        ("run net.py:build --data x.npy --machine no_such_package:machine", "no_such_package cannot be imported"),
        ("run net.py:build --data x.npy --machine net.py:number", "gives an object of type int, not an Accelerator"),
        ("run net.py:build --data x.npy --weights 0", "weights must be"),
        ("run net.py:build --data x.npy --save x.npy", "'x.npy' is a file"),
        ("run net.py:training --data x.npy --shape 2,2", "training mode"),
        ("run net.py:broken --data x.npy", "net.py:broken failed: ZeroDivisionError: division by zero (net.py, line 17)"),
        ("run net.py:biuld --data x.npy", "(did you mean 'build'?)"),
        ("run net.py:build(1/0) --data x.npy", "must be literals"),
        ("run net.py:build --data x.npy --shape 1,a", "whole numbers with commas"),
        ("run junk.npz --data x.npy", "junk.npz is no saved program"),
        ("inspect junk", "'junk' is no model"),
        ("inspect missing.py:build", "there is no file missing.py"),
        ("inspect syntax.py:build", "syntax.py cannot be imported: SyntaxError"),
        ("inspect net.py:number", "gives an object of type int, which is no torch module"),
        ("inspect mine.py:narrow", "gives an object of type Accelerator, which is no torch module"),
        ("inspect no.pt2", "no.pt2"),
        ("compare . .", "holds no trace.json"),
        ("demo --images 3", "Invalid value"),
        ("demo --out x.npy", "'x.npy' is a file"),
        ("nonsense", "No such command"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_message_and_exit_status_2(capsys, arguments, message):
    status, out, err = call(capsys, *arguments.split())
    assert status == 2
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert "fixqnn: unexpected" not in err


def test_refusals_that_need_a_saved_run(capsys, saved, tmp_path):
    for arguments, message in (
        (("run", "run/program.npz", "--data", "x.npy", "--machine", "ideal"), "its machine and formats are settled"),
        (("run", "run/program.npz", "--data", "x.npy", "--data", "x.npy"), "2 data files for 1 inputs: input"),
        (("compare", "run", str(tmp_path)), "holds neither a saved run"),
        (("compare", "run", "nowhere"), "is no folder"),
        (("compare", "run", "."), "no .npy file of numbers"),
    ):
        status, _, err = call(capsys, *arguments)
        assert status == 2
        assert message in err


def test_dumps_of_another_layout_or_type_are_refused(capsys, saved, tmp_path):
    np.save(tmp_path / "0.npy", np.load(saved / "0.npy").transpose(0, 2, 3, 1))
    status, _, err = call(capsys, "compare", "run", str(tmp_path))
    assert status == 2
    assert "(20, 4, 6, 6) in one and (20, 6, 6, 4) in the other; layouts must agree" in err
    np.save(tmp_path / "0.npy", np.load(saved / "0.npy").astype(np.float32))
    status, _, err = call(capsys, "compare", "run", str(tmp_path))
    assert status == 2
    assert "holds float32" in err


def test_an_unforeseen_error_is_told_shortly_and_shown_on_request(capsys, monkeypatch):
    monkeypatch.setattr("fixqnn.models.load_model", lambda *_: {}["gone"])
    status, _, err = call(capsys, "inspect", "net.py:build")
    assert status == 2
    assert "unexpected KeyError: 'gone'" in err
    monkeypatch.setenv("FIXQNN_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["inspect", "net.py:build"])
