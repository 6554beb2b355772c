"""The demo's network and what is measured on it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import fixqnn as fq
from fixqnn.demo import MACHINES, compute, load_digits, quantized, train
from fixqnn.machines import resolve


def test_train_and_test_pictures_are_different_and_the_same_for_the_same_seed():
    one, two, other = load_digits(0), load_digits(0), load_digits(1)
    assert np.array_equal(one.test_images, two.test_images)
    assert not np.array_equal(one.test_images, other.test_images)
    assert (len(one.train_labels), len(one.test_labels)) == (1198, 599)
    everything = np.concatenate([one.train_images, one.test_images]).reshape(1797, -1)
    assert len(np.unique(everything, axis=0)) == 1797  # no digit occurs twice, so none can be in both parts
    counts = np.bincount(one.test_labels)
    assert counts.min() >= 55  # every label is there


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(fq.BadInput, match=r"pip install 'fixqnn\[demo\]'"):
        load_digits()


def test_training_repeats_itself_and_leaves_the_random_state_alone():
    digits = load_digits(0, 100)
    before = torch.random.get_rng_state()
    one, two, other = (train(digits, 1, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["stem.weight"], other["stem.weight"])


def test_it_learns_and_every_machine_runs_and_narrow_registers_act():
    digits = load_digits(0)
    net = train(digits, 3)
    graph = quantized(net, digits)
    steps = []
    outcome = compute(net, graph, digits, rounds=1, progress=lambda done, total: steps.append((done, total)))
    rows = {row["machine"]: row for row in outcome.rows}
    assert list(rows) == list(MACHINES)
    assert steps[-1] == (len(MACHINES), len(MACHINES))
    assert outcome.float_row["accuracy"] > 0.9
    assert abs(rows["ideal"]["accuracy"] - outcome.float_row["accuracy"]) < 0.02
    assert rows["ideal"]["events"] == 0
    assert rows["systolic(partial=14)"]["events"] > rows["systolic(partial=16)"]["events"]
    for name, row in rows.items():
        program = fq.lower(graph, resolve(MACHINES[name]), paths="wide")  # the plainest kernel
        few = fq.run(program, digits.test_images[:20], watch="all")
        full = outcome.comparisons[name].trace
        assert all(np.array_equal(few[value].codes, full[value].codes[:20]) for value in few.values)
        right = int((full.output.codes.argmax(1) == digits.test_labels).sum())
        assert row["right"] == right
