"""The journeys on real network shapes: from torch to codes, on every machine, with both engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fixqnn as fq
import hw_models as hw
from benchmarks.networks import NETWORKS
from fixqnn.graph import Graph, Node, Value

MACHINES = {
    "ideal": lambda: hw.ideal(),
    "per_operation": lambda: hw.per_operation(),
    "systolic": lambda: hw.systolic(partial=13, accumulator=24),
    "tflite": lambda: hw.tflite(),
}


def quantized(name: str, **policy: object) -> tuple[fq.Graph, np.ndarray, np.ndarray]:
    network = NETWORKS[name]()
    module, inputs = network.build(), network.example(batch=3)[0]
    graph = fq.quantize(fq.from_torch(module, network.example(batch=2)), inputs.numpy(), fq.Policy(**policy))
    with torch.inference_mode():
        return graph, inputs.numpy(), module(inputs).numpy()


@pytest.mark.parametrize("name", ["mlp", "lenet", "conv1d_net", "ds_cnn", "resnet8", "unet"])
def test_networks_run_on_every_machine_and_stay_near_the_float_network_where_nothing_overflows(name):
    graph, images, reference = quantized(name, weights=10, activations=10)
    for label, machine in MACHINES.items():
        if label in ("per_operation", "tflite"):  # 16-bit products are not enough for 10-bit codes; int8 only
            continue
        trace = fq.run(fq.lower(graph, machine()), images)
        if trace.total_events() == 0:
            assert fq.sqnr(reference, trace.output.real()) > 20, label


@pytest.mark.parametrize("label", list(MACHINES))
def test_the_fast_engine_gives_the_definition_on_whole_networks(label):
    for name in ("mlp",) if label == "tflite" else ("mlp", "lenet"):  # LiteRT takes a tanh of one format only
        graph, images, _ = quantized(name)
        program = fq.lower(graph, MACHINES[label]())
        fast, exact = (fq.run(program, images[:1], engine=e, watch="all") for e in ("fast", "exact"))
        assert fq.first_difference(fast, exact) is None
        assert fast.events == exact.events
        forced = fq.run(fq.lower(graph, MACHINES[label](), paths="wide"), images[:1], watch="all")
        assert fq.first_difference(fast, forced) is None
        assert fast.events == forced.events


def test_sixteen_bit_partial_sums_and_a_32_bit_total_in_one_line():
    graph, images, _ = quantized("lenet")
    trace = fq.run(fq.lower(graph, hw.systolic(partial=16, accumulator=32)), images, watch="all")
    assert set(trace.events["conv1"]) == {"sum[0]", "sum[1]", "output"}


def test_an_operation_of_my_own_needs_no_registration(tmp_path):
    def double(step, run, x):
        return np.clip(x * 2, step.out_format.low, step.out_format.high).astype(step.out_format.code_dtype)

    def exact(step, run, x):
        return np.array(
            [min(max(2 * int(v), step.out_format.low), step.out_format.high) for v in x.ravel()], object
        ).reshape(x.shape)

    mine = fq.Op("double", lambda x: x, lambda x: 2 * x, lambda step: {}, exact, double)
    form = fq.fixed(8, 4)
    graph = Graph((Value("x", (None, 3), form),), ("y",), (Node("y", mine, ("x",)),), {}, {"y": form})
    machine = fq.Accelerator("mine", {"double": fq.Shift()})
    program = fq.lower(graph, machine)
    codes = np.array([[1, -3, 100]])
    for engine in ("fast", "exact"):
        assert fq.run(program, codes, engine=engine).output.codes.tolist() == [[2, -6, 127]]
    program.save(tmp_path / "mine.npz")
    with pytest.raises(fq.BadFile, match="'double', which is not built in"):
        fq.Program.load(tmp_path / "mine.npz")
    assert fq.Program.load(tmp_path / "mine.npz", ops=(mine,)).fingerprint == program.fingerprint
