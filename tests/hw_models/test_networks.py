"""A small network with every kind of operation runs on every machine that takes its scales, on both engines alike."""

from __future__ import annotations

import numpy as np
import pytest

import fixqnn as fq
import hw_models

FREE = {"ideal": hw_models.ideal(), "systolic": hw_models.systolic(), "tflite": hw_models.tflite()}
MACHINES = {
    **{
        name: factory() for name, factory in hw_models.CATALOG.items() if name not in ("onnxruntime", "torch_quantized")
    },
    "systolic(shift)": hw_models.systolic(scaler="shift"),
    "systolic(partial=10)": hw_models.systolic(rows=4, partial=10),
    "per_operation(24, 12)": hw_models.per_operation(24, 12),
    "hls4ml(auto)": hw_models.hls4ml(None, "ap_fixed<8,4,AP_RND_CONV,AP_SAT>"),
    "tflite(xnnpack)": hw_models.tflite("xnnpack"),
    "tflite(micro)": hw_models.tflite("micro", linear_scales="per_tensor"),
}


def network(sigmoid: bool) -> fq.Graph:
    rng = np.random.default_rng(0)
    ops, conv = fq.OPS, {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    nodes = [
        fq.Node("conv1", ops["conv"], ("x", "w1", "b1"), attributes=conv),
        fq.Node("relu1", ops["clamp"], ("conv1",), attributes={"low": 0.0}),
        fq.Node("depthwise", ops["conv"], ("relu1", "w2"), attributes={**conv, "groups": 4}),
        fq.Node("leaky", ops["lookup"], ("depthwise",), attributes={"function": "leaky_relu", "negative_slope": 0.125}),
        fq.Node("sum", ops["add"], ("leaky", "relu1")),
        fq.Node("product", ops["multiply"], ("sum", "relu1")),
        fq.Node("pool", ops["average_pool"], ("product",), attributes=pool),
        fq.Node("mean", ops["mean"], ("pool",), attributes={"axes": (2, 3)}),
        fq.Node("fc", ops["linear"], ("mean", "w3", "b3")),
    ]
    if sigmoid:
        nodes.append(fq.Node("sigmoid", ops["lookup"], ("fc",), attributes={"function": "sigmoid"}))
    constants = {
        "w1": rng.normal(0, 0.3, (4, 2, 3, 3)), "b1": rng.normal(0, 0.3, 4), "w2": rng.normal(0, 0.3, (4, 1, 3, 3)),
        "w3": rng.normal(0, 0.5, (3, 4)), "b3": rng.normal(0, 0.3, 3),
    }  # fmt: skip
    return fq.Graph((fq.Value("x", (None, 2, 6, 6)),), (nodes[-1].name,), tuple(nodes), constants)


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (count, 2, 6, 6))


@pytest.mark.parametrize("name", MACHINES)
def test_a_network_with_power_of_two_scales_runs_on_every_machine(name):
    table = not name.startswith("tflite")  # LiteRT's sigmoid writes one format only
    graph = fq.quantize(network(table), samples(64))
    program = fq.lower(graph, MACHINES[name])
    x = samples(20)
    fast, slow = fq.run(program, x, watch="all"), fq.run(program, x[:2], engine="exact", watch="all")
    for value in fast.values:
        assert np.array_equal(fast[value].codes[:2], slow[value].codes), f"{name}: {value}"
    assert fq.run(program, x[:2]).events == slow.events
    if name in ("ideal", "systolic", "systolic(shift)", "per_operation(24, 12)", "hls4ml(auto)"):
        reference = graph.evaluate(x)[graph.outputs[0]]
        assert fq.sqnr(reference, fast.output.real()) > 15  # eight bits, ten layers: near the real network


@pytest.mark.parametrize("name", FREE)
def test_a_network_with_any_scales_runs_where_a_multiplier_is(name):
    policy = fq.Policy(scales="free", style="affine", per_channel=True)
    graph = fq.quantize(network(name != "tflite"), samples(64), policy)
    program = fq.lower(graph, FREE[name])
    x = samples(20)
    fast, slow = fq.run(program, x, watch="all"), fq.run(program, x[:2], engine="exact", watch="all")
    for value in fast.values:
        assert np.array_equal(fast[value].codes[:2], slow[value].codes), f"{name}: {value}"
    reference = graph.evaluate(x)[graph.outputs[0]]
    assert fq.sqnr(reference, fast.output.real()) > 15


def test_a_narrower_partial_sum_saturates_more():
    graph = fq.quantize(network(True), samples(64))
    counts = [
        fq.run(fq.lower(graph, hw_models.systolic(rows=4, partial=bits)), samples(20)).events["conv1"]["sum[0]"].count
        for bits in (16, 12, 10)
    ]
    assert 0 == counts[0] < counts[1] < counts[2]
