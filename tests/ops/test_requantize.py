from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.datapath import Lookup
from fixqnn.errors import DoesNotFit, TooWide
from fixqnn.format import affine, binary, fixed
from fixqnn.ops import OPS
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier
from tests.stepping import fitting_step, make_step, run_exact, run_fast, twins, twins_unless_too_wide
from tests.strategies import codes_of, formats, scalers

X, Y = Fraction(12582911, 2**24), Fraction(16777215, 2**24)


def test_real_numbers_stay_as_they_are():
    x = np.random.default_rng(0).normal(size=(2, 3))
    assert OPS["requantize"].shape((None, 3)) == (None, 3)
    np.testing.assert_array_equal(OPS["requantize"].real(x), x)


@pytest.mark.parametrize(
    ("scaler", "want"),
    [
        (TwoStepMultiplier(32, "half_up", "half_away", "float64"), [1, 4, 7, 10, -1, -4, -7]),
        (TwoStepMultiplier(32, "half_up", "half_up", "float64"), [1, 4, 7, 10, -1, -4, -7]),
        (Multiplier(16, "half_up", "float32", shift=8, constant="half_even"), [2, 5, 8, 11, -1, -4, -7]),
    ],
)
def test_litert_requantizes_made_up_scales_as_measured(scaler, want):
    step = make_step(OPS["requantize"], [affine(8, X)], affine(8, Y), [(None, 7)], scaler)
    assert twins(step, np.array([[2, 6, 10, 14, -2, -6, -10]]))[0].tolist() == [want]


def test_a_whole_number_becomes_a_float_in_one_rounding():
    step = make_step(OPS["requantize"], [fixed(62, 0)], fixed(62, 0), [(None, 1)], Float("float32"))
    codes, _ = twins(step, np.array([[2**60 + 2**36 + 1]]))
    assert codes.tolist() == [[2**60 + 2**37]]  # by way of binary64 it would be a tie, and 2**60


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from([(None, 5), (None, 2, 3), (None, 2, 2, 2), (None,)]), st.integers(0, 2**31))
def test_both_engines_requantize_alike(data, shape, seed):
    power_of_two = data.draw(st.booleans())
    x, y = (data.draw(formats(bits=(1, 20), power_of_two=power_of_two or None)) for _ in range(2))
    scaler = data.draw(
        scalers(power_of_two)
        | st.sampled_from([Shift("stochastic"), Exact("stochastic"), Divide("stochastic", Exact())])
    )
    step = fitting_step(OPS["requantize"], [x], y, [shape], scaler)
    codes = codes_of(x, tuple(4 if n is None else n for n in shape), seed)
    twins_unless_too_wide(step, codes, seed=seed, first_sample=9)


@settings(deadline=None, max_examples=60)
@given(formats(power_of_two=True), st.integers(0, 2**31))
def test_a_wide_output_holds_the_same_real_numbers(x, seed):
    codes = codes_of(x, (3, 4), seed)
    step = make_step(OPS["requantize"], [x], fixed(30, 8), [(None, 4)], Shift())
    got, events = twins(step, codes)
    np.testing.assert_array_equal(fixed(30, 8).decode(got), x.decode(codes))
    assert events["output"].count == 0


def test_a_zero_point_of_one_half_goes_in_and_out():
    to_fixed = make_step(OPS["requantize"], [binary()], fixed(3, 0), [(None, 2)], Exact())
    assert twins(to_fixed, np.array([[0, 1]]))[0].tolist() == [[-1, 1]]
    to_binary = make_step(OPS["requantize"], [fixed(3, 0)], binary(), [(None, 8)], Exact("half_up"))
    codes, events = twins(to_binary, np.arange(-4, 4).reshape(1, 8))
    assert codes.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]  # zero is a tie between −1 and +1, and goes up
    assert events["output"].below.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert events["output"].above.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_saturation_is_counted_per_channel_with_its_first_witness():
    step = make_step(OPS["requantize"], [fixed(8, 0)], fixed(4, 0), [(None, 2, 2)], Shift())
    codes, events = twins(step, np.array([[[1, 9], [-9, 2]], [[100, 0], [0, 0]]]), first_sample=4)
    assert codes.tolist() == [[[1, 7], [-8, 2]], [[7, 0], [0, 0]]]
    assert (events["output"].below.tolist(), events["output"].above.tolist()) == ([0, 1], [2, 0])
    first = events["output"].first
    assert (first.sample, first.position, first.channel, first.value) == (4, (0,), 1, -9)


def test_a_division_keeps_the_bits_that_its_second_step_keeps():
    """A division used to wrap without the kept bit in the exact engine, and with it in the fast one."""
    scaler = Divide("toward_zero", Shift("floor", "wrap", kept=1))
    step = make_step(OPS["requantize"], [fixed(8, 0)], fixed(4, 0), [(None, 2)], scaler)
    assert twins(step, np.array([[9, -9]]))[0].tolist() == [[1, -1]]
    with pytest.raises(DoesNotFit, match="kept=1"):
        make_step(OPS["requantize"], [fixed(8, 0)], fixed(1, 0), [(None, 2)], scaler)


@pytest.mark.parametrize(
    ("scaler", "word"),
    [(None, "bare scaler"), (Lookup(), "bare scaler"), (Shift(), "power of two"), (Float(rounding=None), "unrounded")],
)
def test_what_cannot_requantize_is_refused_by_name(scaler, word):
    with pytest.raises(DoesNotFit, match=word) as caught:
        make_step(OPS["requantize"], [affine(8, 0.1)], affine(8, 0.3), [(None, 2)], scaler)
    assert "step" in str(caught.value)


def test_scales_per_channel_are_refused():
    with pytest.raises(DoesNotFit, match="per channel"):
        make_step(OPS["requantize"], [affine(8, [0.1, 0.2], axis=1)], fixed(8, 4), [(None, 2)], Exact())


def test_codes_past_62_bits_are_left_to_the_exact_engine():
    step = make_step(OPS["requantize"], [fixed(70, 40)], fixed(32, 2), [(None, 1)], Shift())
    big = np.array([[3 << 45]], object)
    assert run_exact(step, big)[0].tolist() == [[3 << 7]]
    with pytest.raises(TooWide, match=r"step.*exact"):
        run_fast(step, big)
