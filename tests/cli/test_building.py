from __future__ import annotations

import json

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.cli import main
from fixqnn.universal import verify

RELU = ["universal", "relu", "--p", "2", "--s", "3", "--inputs", "2"]


@pytest.fixture
def call(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([*RELU, *map(str, arguments)])
        return done.value.code, "".join(capsys.readouterr())

    return run


def test_a_random_table_is_built_verified_and_saved(call, tmp_path):
    status, output = call("--build", "random:3", "--verify", "-o", tmp_path / "network.npz", "--json")
    assert status == 0, output
    facts = json.loads(output)
    assert (facts["entries"], facts["verified"], facts["counting_bound"]) == (49, True, 49)
    program = fq.Program.load(tmp_path / "network.npz")
    assert program.fingerprint == facts["fingerprint"]
    target = np.random.default_rng(3).integers(-3, 4, (7, 7))
    assert verify(program, target) is None
    assert facts["parameters"] <= min(facts["plans"].values())


def test_a_table_from_a_file_is_told_in_words(call, tmp_path):
    np.save(tmp_path / "table.npy", np.add.outer(np.arange(-3, 4), np.zeros(7, np.int64)))
    status, output = call("--build", tmp_path / "table.npy", "--verify")
    assert status == 0, output
    assert "built (affine): widths 1; 1 weights and 0 biases" in output
    assert "all 49 inputs run on ideal('half_up'): every code as wanted" in output


def test_a_table_in_one_row_is_taken_and_one_of_another_size_refused(call, tmp_path):
    np.save(tmp_path / "row.npy", np.zeros(49, np.int64))
    assert call("--build", tmp_path / "row.npy", "--verify")[0] == 0
    np.save(tmp_path / "row.npy", np.zeros(48, np.int64))
    assert "table of 1 inputs" in call("--build", tmp_path / "row.npy")[1]
    np.save(tmp_path / "row.npy", np.int64(0))
    assert "it needs shape (7, 7)" in call("--build", tmp_path / "row.npy")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--verify"], "add --build"),
        (["--build", "random:x"], "whole number"),
        (["--build", "random"], "as in random:0"),
        (["--build", "nowhere.npy"], "no file nowhere.npy"),
        (["--build", "random:1", "--map"], "leave out --map"),
        (["--build", "random:1", "--check"], "--verify"),
        (["-o", "x.npz"], "--map or --build"),
        (["--build", "random:1", "-o", "nowhere/x.npz"], "there is no folder nowhere"),
    ],
)
def test_odd_requests_are_refused_in_words(call, arguments, words):
    status, output = call(*arguments)
    assert status == 2
    assert words in output


def test_a_table_of_another_number_of_inputs_is_refused(call, tmp_path):
    np.save(tmp_path / "table.npy", np.zeros(7, np.int64))
    status, output = call("--build", tmp_path / "table.npy")
    assert status == 2
    assert "--inputs 1" in output
