"""Ranges of codes: what lowering finds holds on data, and comes back with a saved program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import fixqnn as fq
from fixqnn.graph import Graph, Node, Value
from fixqnn.kernels.ranges import range_of
from fixqnn.ops import OPS

SUM = fq.SumOfProducts(fq.Shift("half_even"), sum=(fq.Stage(fq.Register(32)),))
MACHINE = fq.Accelerator(
    "mine", {"conv": SUM, "linear": SUM, "sigmoid": fq.Lookup(), "add": fq.Elementwise(fq.Shift(), "finest")}
)


def ranges_graph() -> Graph:
    form, random = fq.fixed(8, 4), np.random.default_rng(0)
    conv = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    nodes = (
        Node("relu", OPS["clamp"], ("x",), attributes={"low": 0.0, "high": 3.0}),
        Node("sigmoid", OPS["lookup"], ("relu",), attributes={"function": "sigmoid"}),
        Node("pool", OPS["max_pool"], ("relu",), attributes=pool),
        Node("pad", OPS["pad"], ("relu",), attributes={"padding": ((0, 0), (0, 0), (1, 0), (0, 1)), "value": -1.0}),
        Node("concat", OPS["concat"], ("pool", "pad"), attributes={"axis": 1}),
        Node("again", OPS["clamp"], ("concat",), attributes={"low": -0.5, "high": None}),
        Node("conv", OPS["conv"], ("again", "w"), attributes=conv),
        Node("sum", OPS["add"], ("conv", "relu_of_conv")),
    )
    nodes = (
        *nodes[:-1],
        Node("relu_of_conv", OPS["clamp"], ("conv",), attributes={"low": 0.0, "high": None}),
        nodes[-1],
    )
    formats = dict.fromkeys(("relu", "pool", "pad", "concat", "again", "conv", "sum", "relu_of_conv"), form)
    weights = random.normal(size=(3, 4, 1, 1))
    return Graph(
        (Value("x", (None, 2, 3, 3), form),), ("sum", "sigmoid"), nodes, {"w": weights},
        {**formats, "sigmoid": fq.fixed(8, 7), "w": fq.fixed(8, 6)},
    )  # fmt: skip


def test_codes_stay_within_the_ranges_that_lowering_finds():
    program = fq.lower(ranges_graph(), MACHINE)
    found = {step.output: range_of(step, step.output) for step in program.steps}
    assert found["relu"] == found["pool"] == (0, 48)
    assert found["pad"] == found["concat"] == (-16, 48)
    assert found["again"] == (-8, 48)
    assert found["conv"] == found["sum"] == (-128, 127)
    assert found["relu_of_conv"] == (0, 127)
    assert found["sigmoid"][0] == 64
    codes = np.random.default_rng(1).integers(-128, 128, (50, 2, 3, 3))
    for engine in ("fast", "exact"):
        trace = fq.run(program, codes[: 50 if engine == "fast" else 3], engine=engine, watch="all")
        for name, (low, high) in found.items():
            seen = trace[name].codes
            assert low <= seen.min() <= seen.max() <= high, name
    conv = program.step("conv")
    assert range_of(conv, "again") == (-8, 48)
    assert range_of(replace(conv, ranges={}), "again") == (-128, 127)


def test_a_loaded_program_has_the_same_ranges_and_paths(tmp_path):
    program = fq.lower(ranges_graph(), MACHINE)
    program.save(tmp_path / "program.npz")
    loaded = fq.Program.load(tmp_path / "program.npz")
    assert [(s.ranges, s.path, s.reason) for s in loaded.steps] == [(s.ranges, s.path, s.reason) for s in program.steps]
    assert loaded.fingerprint == program.fingerprint


def test_an_operation_of_the_users_own_has_its_formats_range_whatever_its_name():
    graph = ranges_graph()
    own = replace(OPS["clamp"])
    nodes = tuple(replace(node, op=own) if node.name == "relu" else node for node in graph.nodes)
    program = fq.lower(replace(graph, nodes=nodes), MACHINE)
    assert range_of(program.step("relu"), "relu") == (-128, 127)
    assert range_of(program.step("again"), "again") == (-8, 127)
