"""Graphs and machines travel to other processes, and are there what they were here."""

from __future__ import annotations

import pickle

import cloudpickle
import numpy as np
import pytest

import fixqnn as fq
import hw_models


def test_a_graph_keeps_formats_notes_and_its_built_in_operations():
    nodes = (
        fq.Node("fc", fq.OPS["linear"], ("x", "w")),
        fq.Node("relu", fq.OPS["clamp"], ("fc",), attributes={"low": 0.0}),
    )
    real = fq.Graph((fq.Value("x", (None, 2)),), ("relu",), nodes, {"w": np.eye(2)})
    graph = fq.quantize(real, np.array([[0.5, -1.0]]))
    again = pickle.loads(pickle.dumps(graph, 5))
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]
    assert all(a.op is b.op for a, b in zip(again.nodes, graph.nodes, strict=True)), (
        "the very records that kernels know"
    )
    assert str(again) == str(graph)
    machine = hw_models.systolic()
    assert fq.lower(again, machine).fingerprint == fq.lower(graph, machine).fingerprint


def test_an_operation_of_ones_own_keeps_its_functions():
    linear = fq.OPS["linear"]
    mine = fq.Op("linear", linear.shape, linear.real, linear.prepare, linear.exact, linear.fast)
    again = pickle.loads(pickle.dumps(mine))
    assert again == mine
    assert again is not linear


@pytest.mark.parametrize("name", hw_models.CATALOG)
def test_machines_are_equal_after_the_journey(name):
    machine = hw_models.CATALOG[name]()
    again = cloudpickle.loads(cloudpickle.dumps(machine))
    if machine.rewrites:
        assert len(again.rewrites) == len(machine.rewrites)
        assert dict(again.datapaths) == dict(machine.datapaths)
    else:
        assert again == machine
