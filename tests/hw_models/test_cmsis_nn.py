"""TFLite Micro's arithmetic against CMSIS-NN, which is given multipliers and shifts in place of scales."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from replay import bias_format, channels_first, load, replay, same_padding, single

import fixqnn as fq
import hw_models

META, ARRAYS = load("cmsis_nn.npz")
# Codes per operation; softmax is no operation of a graph here.
COUNTS = {"conv": 735, "dwconv": 984, "fc": 675, "add": 2400, "mul": 2400, "avgpool": 547}
LEFT_OUT = {"softmax"}


def scale_of(multiplier: int, shift: int) -> Fraction:
    """The scale whose constants are this multiplier and this shift."""
    scale = Fraction(int(multiplier)) * Fraction(2) ** (int(shift) - 31)
    assert fq.TwoStepMultiplier().prepare((Fraction(1), scale), Fraction(1)) == (multiplier, shift)
    return scale


def act_of(case: dict) -> dict[str, float]:
    return {"low": float(case["act"][0] - case["y_zp"]), "high": float(case["act"][1] - case["y_zp"])}


def read(case: dict, arrays: dict) -> tuple[fq.Graph, dict[str, fq.Tensor], np.ndarray]:
    """One case as a graph, its inputs and CMSIS-NN's output."""
    operation, out = case["op"], arrays["out"]
    if operation in ("add", "mul"):
        scales = case["scales"] if operation == "add" else (scale_of(*case["y_mult"]), 1, 1)
        forms = [fq.affine(8, s, case[f"{name}_zp"]) for s, name in zip(scales, "aby", strict=True)]
        inputs = {name: fq.Tensor(arrays[name].reshape(1, -1), form) for name, form in zip("ab", forms, strict=False)}
        return single({"add": "add", "mul": "multiply"}[operation], inputs, {}, forms[2]), inputs, out.reshape(1, -1)
    if operation == "avgpool":
        x, form = channels_first(arrays["x"]), fq.fixed(8, 0)
        kernel, stride = tuple(case["kernel"]), tuple(case["stride"])
        padding = (
            same_padding(x.shape[2:], out.shape[1:3], kernel, stride) if case["padding"] == "SAME" else ((0, 0), (0, 0))
        )
        inputs = {"x": fq.Tensor(x, form)}
        graph = single(
            "average_pool", inputs, {}, form, kernel=kernel, stride=stride, padding=padding, include_padding=False
        )
        return graph, inputs, channels_first(out)
    scales = [scale_of(m, s) for m, s in zip(arrays["multiplier"], arrays["shift"], strict=True)]
    x_format, w_format, y_format = (
        fq.affine(8, 1, case["x_zp"]),
        fq.affine(8, scales, axis=0),
        fq.affine(8, 1, case["y_zp"]),
    )
    x, w, attributes = arrays["x"], arrays["w"], {}
    if operation != "fc":
        x, out, kernel, stride = channels_first(x), channels_first(out), w.shape[1:3], tuple(case["stride"])
        depthwise = operation == "dwconv"
        w = np.moveaxis(w, -1, 0 if depthwise else 1).reshape(-1, 1 if depthwise else x.shape[1], *kernel)
        padding = ((0, 0), (0, 0))
        if case["padding"] == "SAME":
            padding = same_padding(x.shape[2:], out.shape[2:], kernel, stride)
            assert [before for before, _ in padding] == case["pad_top_left"]
        attributes = {
            "stride": stride,
            "padding": padding,
            "dilation": (1, 1),
            "groups": x.shape[1] if depthwise else 1,
        }
    constants = {
        "w": fq.Tensor(np.ascontiguousarray(w), w_format),
        "b": fq.Tensor(arrays["b"], bias_format(x_format, w_format)),
    }
    inputs = {"x": fq.Tensor(x, x_format)}
    return (
        single("linear" if operation == "fc" else "conv", inputs, constants, y_format, act_of(case), **attributes),
        inputs,
        out,
    )


def test_every_operation_of_the_file_is_replayed_or_left_out_by_name():
    assert {case["op"] for case in META["cases"].values()} == {*COUNTS, *LEFT_OUT}


@pytest.mark.parametrize("operation", COUNTS)
def test_micro_gives_cmsis_nn_s_codes(operation):
    machine, compared = hw_models.tflite("micro"), 0
    for key, case in META["cases"].items():
        if case["op"] == operation:
            graph, inputs, want = read(case, ARRAYS[key])
            compared += replay(machine, graph, inputs, want, key)
    assert compared == COUNTS[operation]


def test_the_constants_of_add_are_those_that_cmsis_nn_was_given():
    for key, case in META["cases"].items():
        if case["op"] == "add":
            graph, _, _ = read(case, ARRAYS[key])
            made = fq.lower(graph, hw_models.tflite("micro")).step("op").prepared
            assert [list(pair) for pair in made["align"]] == [case["a_mult"], case["b_mult"]]
            assert list(made["rescale"]) == case["y_mult"]  # holds 2^-20, the left shift of the operands
