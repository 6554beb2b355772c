"""``fixqnn sweep``: what it reads, writes and says."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.cli import main
from fixqnn.cli.sweeping import options
from fixqnn.sweeps.rows import point_of
from tests.sweeps.sweeping import data

ROOT = Path(__file__).parent.parent.parent
MODEL = "from tests.sweeps.sweeping import network\n\n\ndef build():\n    return network()\n"
SWEEP = ("sweep", "net.py:build", "--data", "x.npy", "--labels", "y.npy")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A model, data and labels, in the folder where the command runs."""
    (tmp_path / "net.py").write_text(MODEL)
    x, labels = data()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *arguments):
    """Exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


def test_every_combination_has_a_row_and_the_best_are_shown(capsys, monkeypatch):
    more = (
        "--weights 3..4 --activations 4,6 --machine hw_models:systolic(accumulator_bits=6..7) --machine ideal "
        "--set ranges=min_max,mse --override fc2:weights=5 --store rows.sqlite"
    )
    line = [*SWEEP, *more.split()]
    monkeypatch.setattr(sys, "argv", ["fixqnn", *line])
    status, text, err = call(capsys, *line)
    assert status == 0, err
    assert "24 rows: 24 ok" in text
    assert "wrote rows.sqlite; `fixqnn report rows.sqlite` makes a page of it" in text
    rows = fq.Rows.load("rows.sqlite")
    assert len(rows) == 24
    assert {row["machine_text"] for row in rows} == {
        "hw_models:systolic(accumulator_bits=6)", "hw_models:systolic(accumulator_bits=7)", "ideal",
    }  # fmt: skip
    assert {row["settings"]["weights[fc2]"] for row in rows} == {5}
    assert rows.meta["command"] == shlex.join(["fixqnn", *line])
    status, again, _ = call(capsys, *line)
    assert status == 0
    assert again == text
    assert len(fq.Rows.load("rows.sqlite")) == 24


def test_json_holds_all_rows_and_a_printed_line_computes_one_again(capsys):
    status, text, err = call(
        capsys, *SWEEP, "--weights", "4", "--override", "fc1:weights=3,5", "--set", "overflow=wrap", "--machine",
        "systolic(partial=8)", "--json",
    )  # fmt: skip
    assert status == 0, err
    rows = json.loads(text)["rows"]
    assert [row["settings"]["weights[fc1]"] for row in rows] == [3, 5]
    alone = shlex.split(options(point_of(rows[1]), rows[1]["machine_text"]))
    found = json.loads(call(capsys, *SWEEP, *alone, "--json")[1])["rows"]
    assert [(row["key"], row["fingerprint"], row["codes"]) for row in found] == [
        (rows[1]["key"], rows[1]["fingerprint"], rows[1]["codes"])
    ]


def test_impossible_points_are_counted_with_their_reasons(capsys):
    status, text, _ = call(capsys, *SWEEP, "--weights", "8", "--machine", "ideal(accumulator_bits=3..4)")
    assert status == 0
    assert "2 rows: 2 impossible" in text
    assert "DoesNotFit" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--weights 8..2", "the range 8..2 of weights is empty"),
        ("--weights 2,,3", "weights takes values such as"),
        ("--weights x", "weights must be a number of bits"),
        ("--set weights", "--set takes name=values"),
        ("--weights 3 --set weights=4", "weights is set twice"),
        ("--override fc1=4", "--override takes pattern:setting=values"),
        ("--override nothing*:weights=4", "matches no node"),
        ("--machine sistolic", "did you mean 'systolic'"),
        ("--set accumulator_bit=4", "no setting 'accumulator_bit'"),
        ("--store no/rows.sqlite", "there is no folder no"),
        ("--jobs 0", "jobs is a number of processes"),
        ("--labels x.npy", "labels"),
    ],
)
def test_what_cannot_be_used_is_one_message_and_status_2(capsys, arguments, message):
    status, _, err = call(capsys, *SWEEP, *shlex.split(arguments))
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_saved_program_is_no_model_of_a_sweep(capsys):
    import hw_models
    from tests.sweeps.sweeping import network

    fq.lower(fq.quantize(network(), data()[0]), hw_models.ideal()).save("program.npz")
    status, _, err = call(capsys, "sweep", "program.npz", "--data", "x.npy")
    assert status == 2
    assert "name the model that it came from" in err


def test_ctrl_c_stops_and_says_how_to_go_on(folder):
    line = [
        *SWEEP,
        "--weights",
        "2..12",
        "--activations",
        "2..12",
        "--set",
        "accumulator_bits=8..30",
        "--store",
        "rows.sqlite",
    ]
    command = [sys.executable, "-m", "fixqnn.cli", *line]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "FIXQNN_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and _rows_in(folder / "rows.sqlite") < 3:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "of 2783 rows: they are in rows.sqlite; the same call goes on from there" in err
    assert "go on with: fixqnn " in err
    assert "Traceback" not in err
    assert 3 <= _rows_in(folder / "rows.sqlite") < 2783


def _rows_in(path):
    try:
        return len(fq.Rows.load(path))
    except fq.BadFile:
        return 0
