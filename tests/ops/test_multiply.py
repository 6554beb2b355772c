from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.datapath import Elementwise, Register
from fixqnn.errors import DoesNotFit, TooWide
from fixqnn.format import affine, binary, fixed
from fixqnn.ops import OPS
from fixqnn.scaler import Exact, Float, Multiplier, Shift, TwoStepMultiplier
from tests.ops.test_add import ONNX as ONNX_ADD
from tests.ops.test_add import SHAPES, operands
from tests.stepping import fitting_step, make_step, run_exact, run_fast, twins, twins_unless_too_wide
from tests.strategies import formats, registers, scalers

ONNX = Elementwise(Float(by="divide", zero_point="before"), "real", Float(rounding=None))
REFERENCE = Elementwise(TwoStepMultiplier(ratio="float32"), register=Register(32, "wrap"))
DELEGATE = Elementwise(Float(), register=Register(32, "wrap"))
VECTORS = Path(__file__).parents[1] / "vectors" / "onnxruntime_int.npz"


def test_product_means_what_torch_means():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 3, 4)), random.normal(size=(2, 1, 4))
    want = torch.mul(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(OPS["multiply"].real(a, b), want)
    assert OPS["multiply"].shape((None, 3, 4), (None, 1, 4)) == (None, 3, 4)


# ----------------------------------------------------------------------------------------------------- known answers
@pytest.mark.parametrize(("kind", "op", "datapath"), [("Add", "add", ONNX_ADD), ("Mul", "multiply", ONNX)])
def test_onnx_runtime_gives_the_same_codes(kind, op, datapath):
    with np.load(VECTORS) as file:
        cases = {
            k: v for k, v in json.loads(str(file["meta"]))["cases"].items() if v["op"] == f"com.microsoft.QLinear{kind}"
        }
        assert len(cases) == 10
        for name, case in cases.items():
            codes = [file[f"{name}/{which}"] for which in ("a", "b", "out")]
            a, b, y = (
                affine(8, scale, zero_point, signed=c.dtype == np.int8)
                for scale, zero_point, c in zip(case["scales"], case["zps"], codes, strict=True)
            )
            step = make_step(OPS[op], [a, b], y, [(None,)] * 2, datapath)
            got, _ = twins(step, *codes[:2])
            np.testing.assert_array_equal(got, codes[2])


def test_zero_point_inside_the_rounding_turns_ties_to_odd():
    step = make_step(OPS["multiply"], [fixed(8, 0), fixed(8, 1)], affine(8, 1, 3), [(None, 2)] * 2, ONNX)
    codes, _ = twins(step, np.array([[41, 43]]), np.array([[1, 1]]))
    assert codes.tolist() == [[24, 24]]  # 20.5 + 3 and 21.5 + 3; adding 3 afterwards would give 23 and 25


# Scales at which the kinds of ratio differ; what LiteRT 2.3 computes for MUL by a code 1 of scale 1.
X, Y = Fraction(12582911, 2**24), Fraction(16777215, 2**24)


@pytest.mark.parametrize(("datapath", "want"), [(REFERENCE, [2, 5, 8, 11, -1, -4]), (DELEGATE, [2, 4, 8, 10, -2, -4])])
def test_litert_forms_the_ratio_in_binary32(datapath, want):
    step = make_step(OPS["multiply"], [affine(8, X), affine(8, 1)], affine(8, Y), [(None, 6)] * 2, datapath)
    codes, _ = twins(step, np.array([[2, 6, 10, 14, -2, -6]]), np.ones((1, 6), int))
    assert codes.tolist() == [want]


def test_a_product_that_leaves_its_register_is_counted():
    datapath = Elementwise(Shift(), register=Register(10, "wrap"))
    step = make_step(OPS["multiply"], [fixed(8, 0)] * 2, fixed(10, 0), [(None, 3)] * 2, datapath)
    codes, events = twins(step, np.array([[30, -30, 3]]), np.array([[20, 20, 20]]))
    assert codes.tolist() == [[600 - 1024, 1024 - 600, 60]]
    assert events["product"].above.tolist() == [1, 0, 0]
    assert events["product"].below.tolist() == [0, 1, 0]
    assert events["product"].first.value == 600


def test_binary_codes_multiply_by_their_signs():
    step = make_step(OPS["multiply"], [binary(), binary()], binary(), [(None, 4)] * 2, Elementwise(Exact()))
    codes, _ = twins(step, np.array([[0, 0, 1, 1]]), np.array([[0, 1, 0, 1]]))
    assert codes.tolist() == [[1, 0, 0, 1]]


# ------------------------------------------------------------------------------------------------------------- twins
@settings(deadline=None, max_examples=120)
@given(st.data(), SHAPES, st.integers(0, 2**31))
def test_both_engines_multiply_alike(data, shapes, seed):
    power_of_two = data.draw(st.booleans())
    a, b, y = (data.draw(formats(power_of_two=power_of_two or None)) for _ in range(3))
    register, scaler = data.draw(st.none() | registers()), data.draw(scalers(power_of_two))
    common, align = data.draw(
        st.sampled_from([(None, None), (None, None), ("finest", None), ("output", Multiplier(12, None))])
    )
    datapath = Elementwise(scaler, common, align, data.draw(st.integers(0, 4)), register)
    step = fitting_step(OPS["multiply"], [a, b], y, shapes, datapath)
    twins_unless_too_wide(step, *operands(shapes, seed, a, b), first_sample=3)


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES, st.sampled_from(["float32", "float64"]), st.integers(0, 2**31))
def test_both_engines_multiply_floats_alike(data, shapes, precision, seed):
    a, b, y = (data.draw(formats(bits=(1, 24))) for _ in range(3))
    scaler = Float(precision, "half_even", "divide", data.draw(st.sampled_from(["before", "after"])))
    step = make_step(OPS["multiply"], [a, b], y, shapes, Elementwise(scaler, "real", Float(precision, None)))
    twins(step, *operands(shapes, seed, a, b))


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES, st.integers(0, 2**31))
def test_products_of_wide_codes_round_alike_on_the_way_to_binary32(data, shapes, seed):
    a, b = (data.draw(formats(bits=(28, 31), power_of_two=True, zero_points=False)) for _ in range(2))
    y = fixed(60, 0)
    step = make_step(OPS["multiply"], [a, b], y, shapes, Elementwise(Float("float32")))
    twins(step, *operands(shapes, seed, a, b))


# ------------------------------------------------------------------------------------------------ nothing is rounded
@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES, st.integers(0, 2**31))
def test_wide_formats_multiply_as_real_numbers_do(data, shapes, seed):
    a, b = (data.draw(formats(power_of_two=True)) for _ in range(2))
    step = make_step(OPS["multiply"], [a, b], fixed(48, 12), shapes, Elementwise(Shift()))
    left, right = operands(shapes, seed, a, b)
    codes, events = twins(step, left, right)
    real = OPS["multiply"].real(a.decode(left), b.decode(right))
    np.testing.assert_array_equal(fixed(48, 12).decode(codes), real)
    assert events["output"].count == 0


def test_scaler_none_hands_out_the_product():
    step = make_step(OPS["multiply"], [fixed(8, 4), fixed(8, 3)], fixed(16, 7), [(None, 2)] * 2, Elementwise())
    assert twins(step, np.array([[-128, 3]]), np.array([[-128, 5]]))[0].tolist() == [[16384, 15]]
    with pytest.raises(DoesNotFit, match="scaler=None"):
        make_step(OPS["multiply"], [fixed(8, 4), fixed(8, 3)], fixed(16, 6), [(None, 2)] * 2, Elementwise())


def test_a_product_past_62_bits_is_left_to_the_exact_engine():
    step = make_step(OPS["multiply"], [fixed(40, 0)] * 2, fixed(60, -30), [(None, 1)] * 2, Elementwise(Exact("floor")))
    big = np.array([[2**39 - 1]])
    assert run_exact(step, big, big)[0].tolist() == [[(2**39 - 1) ** 2 >> 30]]
    with pytest.raises(TooWide, match=r"step \(multiply\).*exact"):
        run_fast(step, big, big)


def test_folded_zero_points_are_refused_for_products():
    datapath = Elementwise(Float(zero_point="before"), "output", Float(rounding=None), zero_point="folded")
    with pytest.raises(DoesNotFit, match="folded"):
        make_step(OPS["multiply"], [fixed(8, 4)] * 2, fixed(8, 4), [(None, 1)] * 2, datapath)
