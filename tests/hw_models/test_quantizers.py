"""How other tools turn reals into codes: the Float and Shift scalers against ONNX Runtime, torch and QONNX."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from replay import load, same_codes

import fixqnn as fq
from fixqnn.arith import exact
from fixqnn.events import Run
from fixqnn.kernels.rescale import Rescale

ORT, ORT_ARRAYS = load("onnxruntime_int.npz")
TORCH, TORCH_ARRAYS = load("torch_quantized.npz")
QONNX, QONNX_ARRAYS = load("qonnx_quant.npz")
ROUNDINGS = {  # not the words of ap_fixed: HALF_UP is away from zero
    "ROUND": "half_even",
    "HALF_EVEN": "half_even",
    "HALF_UP": "half_away",
    "HALF_DOWN": "half_toward_zero",
    "UP": "away_from_zero",
    "DOWN": "toward_zero",
    "CEIL": "ceil",
    "FLOOR": "floor",
}


def rounded(x: np.ndarray, scaler: fq.Float, scale: float, zero_point: float) -> np.ndarray:
    """Unclipped codes of float32 numbers, by the definition and by the compiled form."""
    scale_, zero = Fraction(float(np.float32(scale))), Fraction(zero_point)
    constant = scaler.prepare((), scale_)
    slow = np.array([exact.scale(float(v), scaler, constant, zero) for v in x])
    wide = Rescale(scaler, (constant,), fq.fixed(60, 0), 1 << 30, zero)
    same_codes(wide.fast(x.reshape(-1, 1), Run(), lambda p: (p,), x.size).ravel(), slow, f"{scaler} engines")
    return slow


def limits(case: dict) -> tuple[int, int]:
    """Smallest and largest code; one unsigned bit with a narrow range is 0 alone, which no Format is."""
    if case["signed"]:
        high = 2 ** (case["bits"] - 1) - 1
        return -high - 1 + case["narrow"], high
    return 0, 2 ** case["bits"] - 1 - case["narrow"]


def test_quantize_linear_divides_and_adds_the_zero_point_after():
    compared = 0
    for key, case in ORT["cases"].items():
        if case["op"] != "QuantizeLinear+DequantizeLinear":
            continue
        x, out, real = (ORT_ARRAYS[key][name] for name in ("x", "out", "dequantized"))
        ends = np.iinfo(out.dtype)
        found = np.clip(rounded(x, fq.Float(by="divide"), case["scale"], case["zp"]), ends.min, ends.max)
        same_codes(found, out, key)
        assert np.array_equal((found - case["zp"]).astype(np.float32) * np.float32(case["scale"]), real)
        compared += out.size
    assert compared == 4000


@pytest.mark.parametrize(
    ("operator", "zero_point"), [("quantize_per_tensor", "before"), ("decomposed", "after"), ("fake_quantize", "after")]
)
def test_torch_multiplies_by_the_reciprocal(operator, zero_point):
    compared = 0
    for key, case in TORCH["cases"].items():
        if case["op"] != "quantize":
            continue
        scaler = fq.Float(by="reciprocal", zero_point=zero_point)
        found = np.clip(rounded(TORCH_ARRAYS[key]["x"], scaler, case["scale"], case["zp"]), -128, 127)
        want = TORCH_ARRAYS[key][operator]
        if operator == "fake_quantize":
            found = (found - case["zp"]).astype(np.float32) * np.float32(case["scale"])
            assert np.array_equal(found, want), key
        else:
            same_codes(found, want, key)
        compared += want.size
    assert compared == 4000


def test_qonnx_s_quant_adds_the_zero_point_before_rounding():
    compared, modes = 0, set()
    for key, case in QONNX["cases"].items():
        if case["op"] not in ("Quant", "BipolarQuant"):
            continue
        x, want = QONNX_ARRAYS[key]["x"], QONNX_ARRAYS[key]["out"]
        if case["op"] == "BipolarQuant" or (case["bits"] == 1 and case["signed"]):
            # the format binary(), zero going to +1
            scaler = fq.Float(rounding="half_up", by="divide", zero_point="before")
            codes = np.clip(rounded(x, scaler, 2 * case["scale"], 0.5), 0, 1)
            found = np.where(codes == 1, np.float32(case["scale"]), -np.float32(case["scale"]))
        else:
            scaler = fq.Float(rounding=ROUNDINGS[case["rounding"]], by="divide", zero_point="before")
            codes = np.clip(rounded(x, scaler, case["scale"], case["zp"]), *limits(case))
            found = (codes.astype(np.float32) - np.float32(case["zp"])) * np.float32(case["scale"])
            modes.add(case["rounding"])
        assert np.array_equal(found, want), f"{key}: {case}"
        compared += want.size
    assert compared == 9006
    assert modes == set(ROUNDINGS)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_qonnx_s_trunc_is_a_shift(version):
    compared = 0
    for key, case in QONNX["cases"].items():
        if case["op"] != f"Trunc {version}":
            continue
        x, want = QONNX_ARRAYS[key]["x"], QONNX_ARRAYS[key]["out"]
        wide = rounded(x, fq.Float(by="divide"), case["scale"], 0)
        rounding = ROUNDINGS[case["rounding"]]
        if version == "v1":  # the scale stays, so the number shrinks; nothing is clipped
            shift, scale, ends = case["in_bits"] - case["out_bits"], case["scale"], (None, None)
        else:
            shift, scale = round(np.log2(case["out_scale"] / case["scale"])), case["out_scale"]
            ends = limits({**case, "bits": case["out_bits"]})
        codes = np.array([exact.scale(int(v), fq.Shift(rounding), shift) for v in wide])
        found = np.clip(codes, *ends).astype(np.float32) * np.float32(scale)
        assert np.array_equal(found, want), f"{key}: {case}"
        compared += want.size
    assert compared == 6000


def test_dividing_and_multiplying_by_the_reciprocal_part_at_a_tie():
    scale, x = 1.8392857313156128, np.array([-24.83035659790039], np.float32)
    assert rounded(x, fq.Float(by="divide"), scale, 0).tolist() == [-14]
    assert rounded(x, fq.Float(by="reciprocal"), scale, 0).tolist() == [-13]


def test_a_zero_point_before_the_rounding_moves_the_tie():
    x = np.array([2.5], np.float32)
    assert rounded(x, fq.Float(by="reciprocal", zero_point="before"), 1.0, 3).tolist() == [6]
    assert rounded(x, fq.Float(by="reciprocal", zero_point="after"), 1.0, 3).tolist() == [5]


def test_a_zero_point_inside_the_float_is_rounded_with_it():
    x = np.array([0.5 - 2.0**-25], np.float32)
    assert rounded(x, fq.Float(by="divide", zero_point="before"), 1.0, 3).tolist() == [4]  # fl(v + 3) = 3.5
    assert rounded(x, fq.Float(by="divide", zero_point="after"), 1.0, 3).tolist() == [3]
