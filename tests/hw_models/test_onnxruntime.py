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
    "QLinearMatMul": 426,
    "MatMulInteger": 426,
    "QLinearConv": 1093,
    "ConvInteger": 564,
    "com.microsoft.QLinearAdd": 4000,
    "com.microsoft.QLinearMul": 4000,
}
LEFT_OUT = {"QuantizeLinear+DequantizeLinear"}  # replayed in test_quantizers.py


def code_format(array: np.ndarray, scale: float, zero_point: int) -> fq.Format:
    return fq.affine(8, scale, zero_point, signed=array.dtype.kind == "i")


def read(case: dict, arrays: dict) -> tuple[fq.Graph, dict[str, fq.Tensor]]:
    """One case as a graph with its inputs."""
    operation, out = case["op"], arrays["out"]
    if "scales" in case:
        forms = [
            code_format(arrays[n], s, z) for n, s, z in zip(("a", "b", "out"), case["scales"], case["zps"], strict=True)
        ]
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
    pads = ((case["pad"], case["pad"]),) * 2
    attributes = {"stride": (case["stride"],) * 2, "padding": pads, "dilation": (1, 1), "groups": case["group"]}
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


def test_every_operation_of_the_file_is_replayed_or_left_out_by_name():
    assert {case["op"] for case in META["cases"].values()} == {*COUNTS, *LEFT_OUT}


def test_matmul_gives_the_same_codes_as_linear():
    compared = 0
    for key, case in META["cases"].items():
        if case["op"] != "QLinearMatMul" or len(ARRAYS[key]["b_scale"]) > 1:
            continue
        a, b, out = (ARRAYS[key][name] for name in ("a", "b", "out"))
        x = fq.Tensor(a[None], code_format(a, case["a_scale"], case["a_zp"]))
        w = fq.Tensor(b[None], fq.affine(8, float(ARRAYS[key]["b_scale"][0])))
        inputs = {"x": x, "w": w}
        graph = single("matmul", inputs, {}, code_format(out, case["y_scale"], case["y_zp"]))
        compared += replay(hw_models.onnxruntime(), graph, inputs, out[None], key)
    assert compared > 200


# -- numbers worked by hand ---------------------------------------------------------------------------------------------


def rescaled(accumulators: list[int], y: fq.Format, products: fq.Format | None = None) -> list[int]:
    """Carry accumulators, given as biases, to codes."""
    step = products or fq.fixed(8, 0)
    x, w = fq.Tensor([[0]], fq.fixed(8, 0)), fq.Tensor([[0]] * len(accumulators), step)
    constants = {"w": w, "b": fq.Tensor(accumulators, fq.affine(32, step.scale))}
    program = fq.lower(single("linear", {"x": x}, constants, y), hw_models.onnxruntime())
    found = [fq.run(program, x, engine=engine).output.codes.ravel().tolist() for engine in ("fast", "exact")]
    assert found[0] == found[1]
    return found[0]


def test_quarters_go_to_even():
    assert rescaled([477, -478, 478, 474], fq.fixed(9, -2)) == [119, -120, 120, 118]


def test_an_accumulator_past_24_bits_is_itself_rounded_to_float32():
    assert rescaled([26279937], fq.fixed(9, -17)) == [200]  # 200.5 and a little, exactly: 201


def test_a_product_s_zero_point_is_inside_the_rounding():
    a, b = fq.Tensor([[41]], fq.fixed(8, 1)), fq.Tensor([[1]], fq.fixed(8, 0))
    graph = single("multiply", {"a": a, "b": b}, {}, fq.affine(8, 1, 3))
    for engine in ("fast", "exact"):  # 20.5 + 3 = 23.5, to even; 20 + 3 would be 23
        assert fq.run(fq.lower(graph, hw_models.onnxruntime()), (a, b), engine=engine).output.codes.item() == 24


def test_a_float_after_the_rounding_keeps_the_value_below_a_half():
    # v = 1/2 - 2^-25 rounds to 0 and becomes 3; fl(v + 3) would be 3.5 and become 4
    assert rescaled([2**24 - 1], fq.affine(8, 2**25, 3)) == [3]


def test_operations_that_were_never_compared_are_refused():
    x = fq.Tensor([[1]], fq.fixed(8, 0))
    with pytest.raises(fq.DoesNotFit, match="no datapath"):
        fq.lower(single("requantize", {"x": x}, {}, fq.fixed(8, 1)), hw_models.onnxruntime())
    with pytest.raises(fq.FormatError, match="'quantized' or 'integer'"):
        hw_models.onnxruntime("float")
