"""fixqnn search: the front, the commands that compute its rows again, refusals."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from fixqnn.cli import main
from fixqnn.sweeps.rows import Rows

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

def example():
    return (torch.zeros(2, 4),)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("search")
    (home / "net.py").write_text(MODEL)
    x = np.random.default_rng(0).normal(size=(256, 4)).astype(np.float32)
    np.save(home / "my x.npy", x)
    import torch

    space: dict = {}
    exec(MODEL, space)
    np.save(home / "y.npy", space["build"]()(torch.tensor(x)).argmax(1).numpy())
    return home


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


GIVEN = ("search", "net.py:build", "--data", "my x.npy", "--labels", "y.npy", "--weights", "2..6", "--activations", "4,8",
         "--per-layer", "weights", "--machine", "systolic(accumulator_bits=10..12, rows=4)", "--objective", "accuracy",
         "--objective", "bit_operations", "--constraint", "accuracy >= float - 0.05", "--trials", "24",
         "--seed", "2")  # fmt: skip


def test_search_prints_the_front_and_each_of_its_commands_computes_the_row_again(capsys, folder, monkeypatch):
    monkeypatch.chdir(folder)
    status, text, err = call(capsys, *GIVEN, "--store", "rows.sqlite", "--json")
    assert status == 0, err
    found = json.loads(text)
    assert len(found["rows"]) == 24
    assert found["front"]
    assert len(Rows.load("rows.sqlite")) == 24
    for row in found["front"]:
        assert row["accuracy"] >= 0.95
        verb, *words = shlex.split(row["command"])
        assert verb == "fixqnn"
        status, text, err = call(capsys, *words, "--json")
        assert status == 0, err
        (again,) = json.loads(text)["rows"]
        assert again["fingerprint"] == row["fingerprint"]
        assert {name: again[name] for name in ("key", "accuracy", "events", "sqnr", "codes")} == {
            name: row[name] for name in ("key", "accuracy", "events", "sqnr", "codes")
        }
    status, text, err = call(capsys, *GIVEN, "--store", "rows.sqlite")
    assert status == 0, err
    assert f"24 points: {len(Rows.load('rows.sqlite').ok)} ok" in text
    assert all(row["command"] in text for row in found["front"])
    assert "fixqnn report rows.sqlite" in text


def test_without_labels_sqnr_stands_for_accuracy(capsys, folder, monkeypatch):
    monkeypatch.chdir(folder)
    status, text, err = call(capsys, "search", "net.py:build", "--data", "my x.npy", "--weights", "2..4", "--json")
    assert status == 0, err
    assert json.loads(text)["meta"]["search"]["objectives"] == ["sqnr", "bit_operations", "accumulator_bits"]


def test_an_empty_front_is_said(capsys, folder, monkeypatch):
    monkeypatch.chdir(folder)
    status, text, _ = call(
        capsys, "search", "net.py:build", "--data", "my x.npy", "--weights", "2..3", "--constraint", "sqnr >= 90"
    )
    assert status == 0
    assert "no point keeps sqnr >= 90" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "the space has no axes"),
        (("--weights", "8..2"), "the range 8..2 of weights is empty"),
        (("--weights", "2..8", "--constraint", "accuracy > best"), "no column 'best'"),
        (("--weights", "2..8", "--objective", "speed"), "objective 'speed'"),
        (("--weights", "2..8", "--per-layer", "activations"), "no values"),
        (("--weights", "2..8", "--objective", "accuracy"), "needs labels"),
        (("--weights", "2..8", "--trials", "0"), "trials is a number"),
        (("--weights", "2..8", "--sampler", "random"), "'random' is not one of"),
        (("--weights", "2..8", "--storage", "nosuch://x"), "cannot be used as the storage"),
    ],
)
def test_what_cannot_be_searched_is_one_message_and_status_2(capsys, folder, monkeypatch, options, words):
    monkeypatch.chdir(folder)
    status, text, err = call(capsys, "search", "net.py:build", "--data", "my x.npy", *options)
    assert status == 2
    assert words in err
    assert text == ""
    assert "Traceback" not in err


def test_ctrl_c_says_how_to_go_on(capsys, folder, monkeypatch):
    from fixqnn.sweeps.evaluate import Bench

    monkeypatch.chdir(folder)
    compute, calls = Bench.compute, []

    def interrupted(bench, task):
        calls.append(task)
        if len(calls) == 23:
            raise KeyboardInterrupt
        return compute(bench, task)

    monkeypatch.setattr(Bench, "compute", interrupted)
    status, _, err = call(capsys, *GIVEN, "--store", "stopped.sqlite", "--early-stop", "0")
    assert status == 130
    assert "stopped after 22 of 24 points: their rows are in stopped.sqlite" in err
    assert "go on with: fixqnn" in err
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    status, text, err = call(capsys, *GIVEN, "--store", "stopped.sqlite", "--early-stop", "0")
    assert status == 0, err
    assert "24 points: 24 ok" in text
