"""ONNX Runtime's integer operators against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from replay import bias_format, load, per_channel, replay, single

import fixqnn as fq
import hw_models

META, ARRAYS = load("onnxruntime_int.npz")
LINEAR = ("QLinearMatMul", "MatMulInteger")
COUNTS = {
    "QLinearMatMul": 0,
    "MatMulInteger": 0,
    "QLinearConv": 0,
    "ConvInteger": 0,
    "com.microsoft.QLinearAdd": 4000,
    "com.microsoft.QLinearMul": 4000,
}


def code_format(array: np.ndarray, scale: float, zero_point: int) -> fq.Format:
    return fq.affine(8, scale, zero_point, signed=array.dtype.kind == "i")


def read(case: dict, arrays: dict) -> tuple[fq.Graph, dict[str, fq.Tensor]]:
    """One case as a graph with its inputs."""
    operation, out = case["op"], arrays["out"]
    if "scales" in case:
        forms = [code_format(arrays[n], s, z) for n, s, z in zip(("a", "b", "out"), case["scales"], case["zps"], strict=True)]
        inputs = {n: fq.Tensor(arrays[n].reshape(1, -1), f) for n, f in zip("ab", forms, strict=False)}
        return single({"Add": "add", "Mul": "multiply"}[operation[-3:]], inputs, {}, forms[2]), inputs
    quantized = operation.startswith("Q")
    name = "a" if operation in LINEAR else "x"
    weight, scale_name = ("b", "b_scale") if operation in LINEAR else ("w", "w_scale")
    x_format = code_format(arrays[name], case[f"{name}_scale"] if quantized else 1, case[f"{name}_zp"])
    w = arrays[weight].T if operation in LINEAR else arrays[weight]
    w_format = per_channel(8, arrays[scale_name]) if quantized else fq.fixed(8, 0)
    y_format = code_format(out, case["y_scale"], case["y_zp"]) if quantized else fq.fixed(32, 0)
    constants = {"w": fq.Tensor(np.ascontiguousarray(w), w_format)}
    inputs = {"x": fq.Tensor(arrays[name], x_format)}
    if operation in LINEAR:
        return single("linear", inputs, constants, y_format), inputs
    if "b" in arrays:
        constants["b"] = fq.Tensor(arrays["b"], bias_format(x_format, w_format))
    attributes = {"stride": (case["stride"],) * 2, "padding": ((case["pad"],) * 2,) * 2, "dilation": (1, 1), "groups": case["group"]}
    return single("conv", inputs, constants, y_format, **attributes), inputs


@pytest.mark.parametrize("operation", COUNTS)
def test_onnx_runtime_s_codes_come_out(operation):
    machine, compared = hw_models.onnxruntime("integer" if "Integer" in operation else "quantized"), 0
    for key, case in META["cases"].items():
        if case["op"] == operation:
            graph, inputs = read(case, ARRAYS[key])
            want = ARRAYS[key]["out"]
            compared += replay(machine, graph, inputs, want.reshape(1, -1) if "scales" in case else want, key)
    assert compared == COUNTS[operation]
