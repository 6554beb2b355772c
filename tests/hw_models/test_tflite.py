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
# Codes of each operation in the file; softmax and resizing are no operations of a graph here (resizing: by whole
# factors only, which no case of the file has).
COUNTS = {
    "FULLY_CONNECTED": 6864,
    "CONV_2D": 831,
    "DEPTHWISE_CONV_2D": 1104,
    "ADD": 1440,
    "SUB": 1440,
    "MUL": 1440,
    "LOGISTIC": 2304,
    "TANH": 2304,
    "HARD_SWISH": 2304,
    "LEAKY_RELU": 2304,
    "QUANTIZE (int8 to int8)": 2304,
    "AVERAGE_POOL_2D": 722,
    "MAX_POOL_2D": 722,
    "MEAN": 46,
}
LEFT_OUT = {"SOFTMAX": 3220, "RESIZE_BILINEAR": 8742, "RESIZE_NEAREST_NEIGHBOR": 8742}
# Operations that the optimised kernels compute, in part at least, by rules that are not known.
NO_RULE = {("DEPTHWISE_CONV_2D", "opt"), ("MUL", "opt"), ("MEAN", "opt")}


def act_of(case: dict) -> dict[str, float] | None:
    """The fused activation, as a clamp in real numbers."""
    bounds = {"NONE": None, "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}[
        case.get("act", "NONE")
    ]
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
        padding = (
            same_padding(x.shape[2:], out, kernel, stride, dilation) if case["pad"] == "SAME" else ((0, 0), (0, 0))
        )
        attributes = {
            "stride": stride,
            "dilation": dilation,
            "padding": padding,
            "groups": x.shape[1] if depthwise else 1,
        }
    constants = {
        "w": fq.Tensor(np.ascontiguousarray(w), w_format),
        "b": fq.Tensor(arrays["b"], bias_format(x_format, w_format)),
    }
    return operation, {"x": fq.Tensor(x, x_format)}, constants, int8(case, "y"), attributes


def pooled(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    form = fq.affine(8, case["scale"], case["zp"])
    x, out = channels_first(arrays["in0"]), arrays["out_ref"].shape[1:3]
    padding = (
        same_padding(x.shape[2:], out, case["kernel"], case["stride"]) if case["pad"] == "SAME" else ((0, 0), (0, 0))
    )
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
    function = {"LOGISTIC": "sigmoid", "TANH": "tanh", "HARD_SWISH": "hardswish", "LEAKY_RELU": "leaky_relu"}[
        case["op"]
    ]
    attributes = {"function": function}
    if function == "leaky_relu":
        attributes["negative_slope"] = case["alpha"]
    return "lookup", inputs, {}, int8(case, "y"), attributes


def mean(case: dict, arrays: dict) -> tuple[str, dict, dict, fq.Format, dict]:
    inputs = {"x": fq.Tensor(channels_first(arrays["in0"]), int8(case, "x"))}
    return "mean", inputs, {}, int8(case, "y"), {"axes": (2, 3), "keepdims": True}


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
}


def test_every_operation_of_the_file_is_replayed_or_left_out_by_name():
    assert {case["op"] for case in OPS["cases"].values()} == {*COUNTS, *LEFT_OUT}
    assert {operation for operation, _ in NO_RULE} < set(COUNTS) == set(READ)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("operation", READ)
def test_every_operation_with_a_rule_gives_litert_s_codes(operation, family):
    compared = 0
    for key, case in OPS["cases"].items():
        if case["op"] != operation:
            continue
        arrays = OP_ARRAYS[key]
        name, inputs, constants, output, attributes = READ[operation](case, arrays)
        graph = single(name, inputs, constants, output, act_of(case), **attributes)
        scales = "per_channel" if len(arrays.get("w_scale", ())) > 1 else "per_tensor"
        machine = hw_models.tflite(FAMILIES[family], linear_scales=scales)
        if (operation, family) in NO_RULE:
            with pytest.raises(fq.DoesNotFit):
                fq.lower(graph, machine)
            continue
        want = arrays[f"out_{family}"]
        if want.ndim == 4:
            want = channels_first(want)
        compared += replay(machine, graph, inputs, want, f"{key} {family}")
    assert compared == (0 if (operation, family) in NO_RULE else COUNTS[operation])


@pytest.mark.parametrize(
    "kernel", ["fc_ref", "fc_opt", "fc_xnn", "conv_ref", "conv_opt", "conv_xnn", "dwconv_ref", "dwconv_xnn"]
)
def test_accumulators_on_and_beside_ties_are_rescaled_as_litert_does(kernel):
    layer, family = kernel.split("_")
    machine = hw_models.tflite(FAMILIES[family], linear_scales="per_tensor")
    compared = 0
    for case in SWEEP["cases"]:
        arrays = SWEEP_ARRAYS[case["key"]]
        channels = len(arrays["acc"])
        x_format, w_format = fq.affine(8, case["x_scale"]), fq.affine(8, case["w_scale"])
        depthwise = layer == "dwconv"
        shape = {"fc": (channels, 1), "conv": (channels, 1, 1, 1), "dwconv": (channels, 1, 1, 1)}[layer]
        constants = {  # zero weights: the accumulator is the bias
            "w": fq.Tensor(np.zeros(shape, int), w_format),
            "b": fq.Tensor(arrays["acc"], bias_format(x_format, w_format)),
        }
        x = np.zeros((1, channels if depthwise else 1, *shape[2:]), int)
        attributes = {
            "stride": (1, 1),
            "padding": ((0, 0), (0, 0)),
            "dilation": (1, 1),
            "groups": channels if depthwise else 1,
        }
        graph = single(
            "linear" if layer == "fc" else "conv", {"x": fq.Tensor(x, x_format)}, constants,
            fq.affine(8, case["y_scale"], case["y_zp"]), **({} if layer == "fc" else attributes),
        )  # fmt: skip
        want = arrays[kernel].reshape(1, channels, *shape[2:])
        compared += replay(machine, graph, {"x": fq.Tensor(x, x_format)}, want, f"{case['key']} {kernel}")
    assert compared == 6000


# -- scales made up so that the last bits of a constant show; codes measured on LiteRT 2.3.0 ------------------------------

X, Y = 12582911 * 2.0**-24, 16777215 * 2.0**-24  # the quotient is 3/4 in float32 and just below it in float64
ONE = 4097 / 4096
TWO = 2 + 2.0**-10  # ONE·ONE / TWO is 1/2 with a float32 product, a little more without
UNARY = [2, 6, 10, 14, -2, -6, -10]


def codes_of(family: str, graph: fq.Graph, *inputs: fq.Tensor) -> list[int]:
    machine = hw_models.tflite(family, linear_scales="per_tensor")
    found = {
        engine: fq.run(fq.lower(graph, machine), tuple(inputs), engine=engine).output.codes.ravel().tolist()
        for engine in ("fast", "exact")
    }
    assert found["fast"] == found["exact"]
    return found["fast"]


@pytest.mark.parametrize("family", ["reference", "optimized", "xnnpack"])
def test_leaky_relu_forms_its_ratio_in_float32(family):
    x = fq.Tensor([[c] for c in UNARY], fq.affine(8, X))
    graph = single("lookup", {"x": x}, {}, fq.affine(8, Y), function="leaky_relu", negative_slope=1.0)
    assert codes_of(family, graph, x) == [2, 5, 8, 11, -1, -4, -7]


@pytest.mark.parametrize(("family", "want"), [("reference", [2, 5, 8, 11, -1, -4]), ("xnnpack", [2, 4, 8, 10, -2, -4])])
def test_multiply_forms_its_ratio_in_float32(family, want):
    x = fq.Tensor([[c] for c in UNARY[:6]], fq.affine(8, X))
    one = fq.Tensor([[1]] * 6, fq.fixed(8, 0))
    graph = single("multiply", {"x": x, "one": one}, {}, fq.affine(8, Y))
    assert codes_of(family, graph, x, one) == want


@pytest.mark.parametrize(
    ("family", "want"),
    [
        ("reference", [1, 4, 7, 10, -1, -4, -7]),
        ("optimized", [1, 4, 7, 10, -1, -4, -7]),
        ("xnnpack", [2, 5, 8, 11, -1, -4, -7]),
    ],
)
def test_requantize_forms_its_ratio_in_float64_but_for_the_delegate(family, want):
    x = fq.Tensor([[c] for c in UNARY], fq.affine(8, X))
    assert codes_of(family, single("requantize", {"x": x}, {}, fq.affine(8, Y)), x) == want


@pytest.mark.parametrize(
    ("family", "want"), [("reference", [-1, -2, -3, 1]), ("optimized", [0, -1, -2, 1]), ("xnnpack", [0, -2, -2, 0])]
)
def test_one_weight_scale_is_multiplied_in_float32_by_the_optimised_kernels(family, want):
    x = fq.Tensor([[-1], [-3], [-5], [1]], fq.affine(8, ONE))
    graph = single("linear", {"x": x}, {"w": fq.Tensor([[1]], fq.affine(8, ONE))}, fq.affine(8, TWO))
    assert codes_of(family, graph, x) == want


@pytest.mark.parametrize(
    ("family", "want"), [("reference", [-1, -2, -3, 1]), ("optimized", [-1, -2, -3, 1]), ("xnnpack", [0, -2, -2, 0])]
)
def test_scales_per_channel_and_convolutions_are_multiplied_in_float64(family, want):
    x = fq.Tensor([[-1], [-3], [-5], [1]], fq.affine(8, ONE))
    w = fq.Tensor([[1]], fq.affine(8, [ONE], axis=0))
    graph = single("linear", {"x": x}, {"w": w}, fq.affine(8, TWO))
    machine = hw_models.tflite(family)
    assert fq.run(fq.lower(graph, machine), x).output.codes.ravel().tolist() == want
    image = fq.Tensor(x.codes.reshape(4, 1, 1), x.format)
    constants = {"w": fq.Tensor([[[1]]], fq.affine(8, ONE))}
    graph = single(
        "conv", {"x": image}, constants, fq.affine(8, TWO), stride=(1,), padding=((0, 0),), dilation=(1,), groups=1
    )
    assert codes_of(family, graph, image) == want


@pytest.mark.parametrize("operation", ["add", "subtract"])
@pytest.mark.parametrize(
    "scales",
    [
        (0.05, 0.031, 0.07),
        (1.0, 0.4999999, 1.25),
        (0.003, 0.11, 0.09),
        ((2**20 + 0.5) / 2**21, 0.25, 1.0),
    ],  # a constant on a tie
)
def test_the_delegate_s_sum_holds_for_all_pairs_of_codes(operation, scales):
    a_scale, b_scale, y_scale = (float(np.float32(s)) for s in scales)
    a, b = (v.reshape(256, 256) for v in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    zeros = (-3, 9, -20)
    # the rule as found by measurement: both constants share one s, the larger one has 21 bits
    ratios = [Fraction(float(np.float32(s) / np.float32(y_scale))) for s in (a_scale, b_scale)]
    s = next(s for s in range(60, -60, -1) if max(ratios) * Fraction(2) ** s < 2**21)
    m = [round(r * Fraction(2) ** s) for r in ratios]
    second = (b - zeros[1]) * m[1] * (1 if operation == "add" else -1)
    want = np.clip(((a - zeros[0]) * m[0] + second + (1 << (s - 1)) >> s) + zeros[2], -128, 127)
    inputs = {"a": fq.Tensor(a, fq.affine(8, a_scale, zeros[0])), "b": fq.Tensor(b, fq.affine(8, b_scale, zeros[1]))}
    graph = single(operation, inputs, {}, fq.affine(8, y_scale, zeros[2]))
    found = fq.run(fq.lower(graph, hw_models.tflite("xnnpack")), inputs).output.codes
    same_codes(found, want, f"{operation} at {scales}")


# -- numbers worked by hand ---------------------------------------------------------------------------------------------


def rescaled(machine: fq.Accelerator, accumulators: list[int], y: fq.Format, operation: str = "linear") -> list[int]:
    """Carry accumulators, given as biases, to codes."""
    shape = (1, 1) if operation == "linear" else (1, 1, 1)
    attributes = {} if operation == "linear" else {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
    x, count = fq.Tensor(np.zeros(shape, int), fq.fixed(8, 0)), len(accumulators)
    constants = {
        "w": fq.Tensor(np.zeros((count, *shape[1:]), int), x.format),
        "b": fq.Tensor(accumulators, fq.fixed(32, 0)),
    }
    program = fq.lower(single(operation, {"x": x}, constants, y, **attributes), machine)
    found = [fq.run(program, x, engine=engine).output.codes.ravel().tolist() for engine in ("fast", "exact")]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("family", "want"),
    [
        ("micro", [120, -120, -120]),  # 477: 238.5 → 239, 119.5 → 120: two roundings leave the nearest integer
        ("optimized", [120, -119, -119]),
        ("micro_single", [119, -119, -120]),
        ("reference", [119, -120, -120]),
        ("xnnpack", [119, -120, -120]),
    ],
)
def test_quarters_are_rounded_five_ways(family, want):
    machine = hw_models.tflite(family, linear_scales="per_tensor")
    assert rescaled(machine, [477, -478, -479], fq.fixed(8, -2)) == want


def test_convolutions_of_the_single_rounding_build_round_half_up():
    assert rescaled(hw_models.tflite("micro_single"), [477, -478, -479], fq.fixed(8, -2), "conv") == [119, -119, -120]


def test_the_delegate_s_constant_for_one_operand_is_rounded_half_to_even():
    x = fq.Tensor([[100], [-100]], fq.affine(8, 8.5 / 256))
    assert codes_of("xnnpack", single("requantize", {"x": x}, {}, fq.fixed(8, 0)), x) == [3, -3]  # 8/256; 9/256 gives 4
    graph = single("lookup", {"x": x}, {}, fq.fixed(8, 0), function="leaky_relu", negative_slope=1.0)
    assert codes_of("xnnpack", graph, x) == [3, -3]


def test_the_left_shift_of_a_two_step_multiplier_wraps():
    y = fq.fixed(32, 2)
    assert rescaled(hw_models.tflite("micro", "per_tensor"), [2**29], y) == [0]
    assert rescaled(hw_models.ideal(), [2**29], y) == [2**31 - 1]


def test_add_s_worked_example():
    a, b = fq.Tensor([[50]], fq.affine(8, 0.05, -3)), fq.Tensor([[-20]], fq.affine(8, 0.031, 9))
    assert codes_of("reference", single("add", {"a": a, "b": b}, {}, fq.affine(8, 0.07, -20)), a, b) == [5]


def test_an_average_s_tie_goes_away_from_code_zero_whatever_the_zero_point():
    form = fq.affine(8, 0.5, 17)
    x = fq.Tensor([[[-1, -2, -3, -4]]], form)
    graph = single(
        "average_pool", {"x": x}, {}, form, kernel=(4,), stride=(4,), padding=((0, 0),), include_padding=False
    )
    assert codes_of("reference", graph, x) == [-3]


def test_a_global_average_is_an_average_pool_over_the_image():
    rng = np.random.default_rng(8)
    form = fq.affine(8, 0.5, 17)
    x = fq.Tensor(rng.integers(-128, 128, (3, 4, 5, 6)), form)
    sums = x.codes.sum(axis=(2, 3))
    want = (np.sign(sums) * ((2 * np.abs(sums) + 30) // 60)).ravel().tolist()
    kernel = {"kernel": (5, 6), "stride": (1, 1), "padding": ((0, 0), (0, 0)), "include_padding": True}
    for operation, attributes in (("average_pool", kernel), ("adaptive_average_pool", {"output": (1, 1)})):
        assert codes_of("reference", single(operation, {"x": x}, {}, form, **attributes), x) == want


@pytest.mark.parametrize(
    ("function", "y", "codes", "want"),
    [
        ("sigmoid", fq.affine(8, Fraction(1, 256), -128), [0, 20, -20], [0, 59, -59]),
        ("tanh", fq.fixed(8, 7), [0, 20, -20], [0, 97, -97]),  # tanh(1) = 97.5 / 128
        ("hardswish", fq.affine(8, 0.05), [40, -40, 100], [33, -7, 100]),
    ],
)
def test_tables_hold_the_worked_values(function, y, codes, want):
    x = fq.Tensor([[c] for c in codes], fq.affine(8, 0.05))
    assert codes_of("reference", single("lookup", {"x": x}, {}, y, function=function), x) == want


def test_a_multiplier_of_sixteen_bits_never_rounds_up_to_its_sign_bit():
    from hw_models.tflite_tables import _short_multiplier

    assert _short_multiplier(np.float32(1 - 2.0**-20)) == (32767, 0)
    assert _short_multiplier(np.float32(0.75)) == (24576, 0)


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_sigmoid_writes_one_format_only():
    x = fq.Tensor([[0]], fq.affine(8, 0.05))
    with pytest.raises(fq.DoesNotFit, match=r"LOGISTIC writes affine\(8, 0.00390625, -128\) only"):
        fq.lower(single("lookup", {"x": x}, {}, fq.fixed(8, 7), function="sigmoid"), hw_models.tflite())


def test_a_multiplier_formed_for_other_weight_scales_is_refused():
    x, w = fq.Tensor([[1]], fq.affine(8, 0.1)), fq.Tensor([[1]], fq.affine(8, 0.1))
    graph = single("linear", {"x": x}, {"w": w}, fq.affine(8, 0.1))
    with pytest.raises(fq.DoesNotFit, match="linear_scales='per_tensor'"):
        fq.lower(graph, hw_models.tflite("micro"))


def test_unknown_families_are_refused_with_the_list():
    with pytest.raises(fq.FormatError, match="reference, micro, micro_single, optimized, xnnpack"):
        hw_models.tflite("fast")
