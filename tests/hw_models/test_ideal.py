"""The yardstick against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from replay import replay, single

import fixqnn as fq
import hw_models
from fixqnn.modes import round_quotient


def nearest(value: Fraction, form: fq.Format, rounding: str = "half_even") -> int:
    quotient = value / form.scale
    return max(
        form.low, min(form.high, round_quotient(quotient.numerator, quotient.denominator, rounding) + form.zero_point)
    )


def tensor(rng: np.random.Generator, shape: tuple[int, ...], form: fq.Format) -> fq.Tensor:
    return fq.Tensor(rng.integers(form.low, form.high + 1, shape), form)


@pytest.mark.parametrize("rounding", ["half_even", "half_away", "floor"])
def test_a_layer_rounds_its_real_value_once(rounding):
    rng = np.random.default_rng(0)
    x = tensor(rng, (4, 6), fq.affine(8, 0.1, 5))
    w = tensor(rng, (3, 6), fq.affine(8, [0.3, 0.01, 1 / 3], axis=0))
    y = fq.affine(8, 1.7, -9)
    reals = x.format.decode_exact(x.codes) @ w.format.decode_exact(w.codes).T
    want = np.array([[nearest(v, y, rounding) for v in row] for row in reals])
    replay(hw_models.ideal(rounding), single("linear", {"x": x}, {"w": w}, y), {"x": x}, want, "linear")


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_two_operands_on_any_scales_are_combined_exactly(operation):
    rng = np.random.default_rng(1)
    a, b = tensor(rng, (1, 300), fq.affine(8, 0.1, 5)), tensor(rng, (1, 300), fq.affine(8, 0.037, -20))
    y = fq.affine(8, 0.09, 3)
    left, right = a.format.decode_exact(a.codes), b.format.decode_exact(b.codes)
    reals = {"add": left + right, "subtract": left - right, "multiply": left * right}[operation]
    want = np.array([[nearest(v, y) for v in row] for row in reals])
    replay(hw_models.ideal(), single(operation, {"a": a, "b": b}, {}, y), {"a": a, "b": b}, want, operation)


def test_averages_divide_by_the_number_of_terms_exactly():
    rng = np.random.default_rng(2)
    x = tensor(rng, (2, 3, 7), fq.affine(8, 0.1, 5))
    y = fq.affine(8, 0.09, 3)
    reals = x.format.decode_exact(x.codes)
    want = np.array([[nearest(sum(row) / 7, y) for row in image] for image in reals])
    replay(hw_models.ideal(), single("mean", {"x": x}, {}, y, axes=(2,), keepdims=False), {"x": x}, want, "mean")


def test_functions_are_correctly_rounded():
    x = fq.Tensor(np.arange(-128, 128)[None], fq.fixed(8, 4))
    want = [[int(np.rint(np.tanh(c / 16) * 128)) for c in range(-128, 128)]]
    want = np.minimum(want, 127)
    replay(hw_models.ideal(), single("lookup", {"x": x}, {}, fq.fixed(8, 7), function="tanh"), {"x": x}, want, "tanh")


@pytest.mark.parametrize("name", ["ideal", "per_operation", "systolic", "hls4ml"])
def test_every_operation_that_computes_has_a_datapath(name):
    sums = {"linear", "conv", "conv_transpose", "matmul", "average_pool", "adaptive_average_pool", "mean"}
    datapaths = hw_models.CATALOG[name]().datapaths
    assert set(datapaths) >= {*sums, "add", "subtract", "multiply", "lookup", "requantize"}
