"""LiteRT's kernel families against LiteRT itself, and TFLite Micro's against CMSIS-NN."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from replay import bias_format, channels_first, load, per_channel, replay, same_codes, same_padding, single

import fixqnn as fq
import hw_models

OPS, OP_ARRAYS = load("litert_ops.npz")
SWEEP, SWEEP_ARRAYS = load("litert_requant_sweep.npz")
FAMILIES = {"ref": "reference", "opt": "optimized", "xnn": "xnnpack"}
# Operations of the file that a family has no rule for, and why.
NO_RULE = {
    ("SOFTMAX", "ref"): "softmax is no operation of a graph",
    ("SOFTMAX", "opt"): "softmax is no operation of a graph",
    ("SOFTMAX", "xnn"): "softmax is no operation of a graph",
    ("RESIZE_BILINEAR", "ref"): "bilinear resizing is no operation of a graph",
    ("RESIZE_BILINEAR", "opt"): "bilinear resizing is no operation of a graph",
    ("RESIZE_BILINEAR", "xnn"): "bilinear resizing is no operation of a graph",
    ("DEPTHWISE_CONV_2D", "opt"): "some shapes take a path that is not known",
    ("MUL", "opt"): "its SIMD part rounds in a way that is not known",
    ("MEAN", "opt"): "its rule is not known",
}


def act_of(case: dict) -> dict[str, float] | None:
    """The fused activation, as a clamp in real numbers."""
    bounds = {"NONE": None, "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}[case.get("act", "NONE")]
    return None if bounds is None else {"low": bounds[0], "high": bounds[1]}


def int8(case: dict, prefix: str) -> fq.Format:
    return fq.affine(8, case[f"{prefix}_scale"], case[f"{prefix}_zp"])


def weighted(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    """FULLY_CONNECTED, CONV_2D and DEPTHWISE_CONV_2D as (operation, inputs, constants, output, attributes)."""
    x_format, w_format = int8(case, "x"), per_channel(8, arrays["w_scale"])
    x, w = arrays["in0"], arrays["w"]
    attributes: dict = {}
    operation = "linear"
    if case["op"] != "FULLY_CONNECTED":
        operation, kernel, out = "conv", w.shape[1:3], arrays["out_ref"].shape[1:3]
        x = channels_first(x)
        depthwise = case["op"] == "DEPTHWISE_CONV_2D"
        w = np.moveaxis(w, -1, 0 if depthwise else 1)
        if depthwise:
            w = w.reshape(w.shape[0], 1, *kernel)
        stride, dilation = tuple(case["stride"]), tuple(case["dilation"])
        padding = same_padding(x.shape[2:], out, kernel, stride, dilation) if case["pad"] == "SAME" else ((0, 0), (0, 0))
        attributes = {"stride": stride, "dilation": dilation, "padding": padding, "groups": x.shape[1] if depthwise else 1}
    constants = {
        "w": fq.Tensor(np.ascontiguousarray(w), w_format),
        "b": fq.Tensor(arrays["b"], bias_format(x_format, w_format)),
    }
    return operation, {"x": fq.Tensor(x, x_format)}, constants, int8(case, "y"), attributes


def pooled(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    form = fq.affine(8, case["scale"], case["zp"])
    x, out = channels_first(arrays["in0"]), arrays["out_ref"].shape[1:3]
    padding = same_padding(x.shape[2:], out, case["kernel"], case["stride"]) if case["pad"] == "SAME" else ((0, 0), (0, 0))
    attributes = {"kernel": tuple(case["kernel"]), "stride": tuple(case["stride"]), "padding": padding}
    if case["op"] == "AVERAGE_POOL_2D":
        return "average_pool", {"x": fq.Tensor(x, form)}, {}, form, {**attributes, "include_padding": False}
    return "max_pool", {"x": fq.Tensor(x, form)}, {}, form, {**attributes, "dilation": (1, 1)}


def elementwise(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    operation = {"ADD": "add", "SUB": "subtract", "MUL": "multiply"}[case["op"]]
    inputs = {
        "a": fq.Tensor(channels_first(arrays["in0"]), int8(case, "a")),
        "b": fq.Tensor(channels_first(arrays["in1"]), int8(case, "b")),
    }
    return operation, inputs, {}, int8(case, "y"), {}


def unary(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    inputs = {"x": fq.Tensor(arrays["in0"], int8(case, "x"))}
    if case["op"].startswith("QUANTIZE"):
        return "requantize", inputs, {}, int8(case, "y"), {}
    function = {"LOGISTIC": "sigmoid", "TANH": "tanh", "HARD_SWISH": "hardswish", "LEAKY_RELU": "leaky_relu"}[case["op"]]
    attributes = {"function": function}
    if function == "leaky_relu":
        attributes["negative_slope"] = case["alpha"]
    return "lookup", inputs, {}, int8(case, "y"), attributes


def mean(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    inputs = {"x": fq.Tensor(channels_first(arrays["in0"]), int8(case, "x"))}
    return "mean", inputs, {}, int8(case, "y"), {"axes": (2, 3), "keepdims": True}


def nearest(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    x, out = channels_first(arrays["in0"]), arrays["out_ref"].shape[1:3]
    factor = tuple(o // n for o, n in zip(out, x.shape[2:], strict=True))
    return "resize", {"x": fq.Tensor(x, fq.fixed(8, 0))}, {}, fq.fixed(8, 0), {"factor": factor}


READ = {
    "FULLY_CONNECTED": weighted,
    "CONV_2D": weighted,
    "DEPTHWISE_CONV_2D": weighted,
    "ADD": elementwise,
    "SUB": elementwise,
    "MUL": elementwise,
    "LOGISTIC": unary,
    "TANH": unary,
    "HARD_SWISH": unary,
    "LEAKY_RELU": unary,
    "QUANTIZE (int8 to int8)": unary,
    "AVERAGE_POOL_2D": pooled,
    "MAX_POOL_2D": pooled,
    "MEAN": mean,
    "RESIZE_NEAREST_NEIGHBOR": nearest,
}


def expressible(case: dict, arrays: dict) -> bool:
    """Nearest neighbours: only whole factors, without aligned corners, are an operation of a graph."""
    if case["op"] != "RESIZE_NEAREST_NEIGHBOR":
        return True
    whole = all(o % n == 0 for o, n in zip(arrays["out_ref"].shape[1:3], arrays["in0"].shape[1:3], strict=True))
    return whole and not case["align_corners"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("operation", READ)
def test_every_operation_with_a_rule_gives_litert_s_codes(operation, family):
    compared = 0
    for key, case in OPS["cases"].items():
        arrays = OP_ARRAYS[key]
        if case["op"] != operation or not expressible(case, arrays):
            continue
        name, inputs, constants, output, attributes = READ[operation](case, arrays)
        graph = single(name, inputs, constants, output, act_of(case), **attributes)
        scales = "per_channel" if len(arrays.get("w_scale", ())) > 1 else "per_tensor"
        machine = hw_models.tflite(FAMILIES[family], linear_scales=scales)
        if (operation, family) in NO_RULE:
            # LiteRT's own arithmetic is refused rather than guessed
            if operation != "DEPTHWISE_CONV_2D" or attributes["groups"] > 1:
                with pytest.raises(fq.DoesNotFit):
                    fq.lower(graph, machine)
            continue
        want = arrays[f"out_{family}"]
        if want.ndim == 4 and name not in ("linear", "lookup", "requantize"):
            want = channels_first(want)
        compared += replay(machine, graph, inputs, want, f"{key} {family}")
    assert compared or (operation, family) in NO_RULE or operation == "RESIZE_NEAREST_NEIGHBOR"
