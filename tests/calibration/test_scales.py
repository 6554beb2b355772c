from __future__ import annotations

import doctest
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixqnn.calibration import Observation, Policy, scales
from fixqnn.calibration.scales import centred, least_error, signs, spanning, squared_error, value_format, weight_format
from fixqnn.errors import BadInput
from fixqnn.format import Format, affine, fixed, ternary

HALF = Fraction(1, 2)
reach = st.floats(1e-30, 1e30) | st.floats(0.001, 1000) | st.sampled_from([0.5, 1.0, 127.0, 127.5, 128.0, 255.5])
policies = st.builds(
    Policy,
    activations=st.integers(2, 40),
    scales=st.sampled_from(["power_of_two", "free"]),
    style=st.sampled_from(["symmetric", "affine"]),
)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(scales).failed == 0


def seen(*numbers: float) -> Observation:
    return Observation.of(np.array(numbers))


@pytest.mark.parametrize(
    ("low", "high", "form"),
    [
        (-1.0, 0.5, fixed(8, 7)),  # the lowest code reaches −1
        (-0.5, 1.0, fixed(8, 6)),  # the highest does not reach 1
        (0.0, 1.0, fixed(8, 7, signed=False)),
        (0.0, 1.99, fixed(8, 7, signed=False)),  # 254.7 rounds to 255
        (0.0, 1.997, fixed(8, 6, signed=False)),  # 255.6 would round to 256
        (-100.0, 100.0, fixed(8, 0)),
        (-1000.0, 100.0, fixed(8, -3)),
        (0.0, 2.0**-20, fixed(8, 27, signed=False)),
        (2.0, 3.0, fixed(8, 6, signed=False)),  # a range contains 0
        (-128.5, 0.0, fixed(8, -1)),  # a tie, which some machines round to −129
        (0.0, 255.5, fixed(8, -1, signed=False)),
    ],
)
def test_powers_of_two_by_hand(low, high, form):
    assert value_format(seen(low, high), Policy(), "x") == form


def test_two_bits_reach_twice_as_far_below_zero():
    assert value_format(seen(-1.0, 0.1), Policy(activations=2), "x") == fixed(2, 1)
    assert value_format(seen(-0.1, 1.0), Policy(activations=2), "x") == fixed(2, 0)


def test_free_scales_are_float32_and_reach_the_highest_code():
    found = value_format(seen(-3.0, 1.0), Policy(scales="free"), "x")
    assert found == Format(8, True, Fraction(float(np.float32(3 / 127))))
    found = value_format(seen(0.0, 6.0), Policy(scales="free"), "x")
    assert found == Format(8, False, Fraction(float(np.float32(6 / 255))))


def test_affine_scales_by_hand():
    scale = Fraction(float(np.float32(4 / 255)))
    assert value_format(seen(-1.0, 3.0), Policy(scales="free", style="affine"), "x") == affine(8, scale, -64)
    assert value_format(seen(-1.0, 3.0), Policy(scales="free", style="affine", signed=False), "x") == affine(
        8, scale, 64, False
    )
    # ReLU6 as LiteRT writes it: 6/255 and −128
    relu6 = affine(8, Fraction(float(np.float32(6 / 255))), -128)
    assert value_format(seen(0.0, 6.0), Policy(scales="free", style="affine"), "x") == relu6


@settings(deadline=None)
@given(policies, reach, reach, st.sampled_from([0, 1, -1]))
def test_the_range_is_contained_zero_is_a_code_and_no_finer_scale_would_do(policy, a, b, sides):
    assume(max(a, b) < 1e25 or policy.scales == "power_of_two")
    low, high = (-a, b) if sides == 0 else (0.0, b) if sides == 1 else (-a, 0.0)
    form = value_format(seen(low, high), policy, "x")
    assert form.bits == policy.activations
    ends = [Fraction(low), Fraction(0), Fraction(high)]
    _, clipped = form.encode_and_count(ends)
    assert clipped == 0
    assert form.encode([0.0])[0] == form.zero_point  # so that zero is exact
    if policy.scales == "power_of_two":
        assert form.is_power_of_two
        below, above = Fraction(low) / form.scale * 2, Fraction(high) / form.scale * 2  # with half the step
        if policy.style == "affine":  # the largest zero point that the upper end allows is too small for the lower
            most = math.ceil(form.high + HALF - above) - 1
            assert below + min(most, form.high) <= form.low - HALF
        else:
            assert below <= form.low - HALF or above >= form.high + HALF
    else:
        assert Fraction(float(np.float32(float(form.scale)))) == form.scale
        wanted = Fraction(high) - Fraction(low) if policy.style == "affine" else max(-Fraction(low), Fraction(high))
        codes = form.high - form.low if policy.style == "affine" else form.high
        if wanted / codes > Fraction(2) ** -120:
            assert abs(form.scale * codes / wanted - 1) < 2.0**-22  # two roundings to float32


@settings(deadline=None)
@given(reach, reach)
def test_signed_codes_are_for_negative_numbers_only(a, b):
    assert value_format(seen(-a, b), Policy(), "x").signed
    assert not value_format(seen(0.0, b), Policy(), "x").signed
    assert value_format(seen(0.0, b), Policy(signed=True), "x").signed
    assert not value_format(seen(-a, b), Policy(signed=False), "x").signed


def test_unsigned_codes_by_force_cover_the_positive_side():
    assert value_format(seen(-100.0, 1.0), Policy(signed=False), "x") == fixed(8, 7, signed=False)
    assert value_format(seen(-100.0, -1.0), Policy(signed=False), "x") == fixed(8, 7, signed=False)


def test_a_value_that_was_always_zero_is_taken_to_reach_one():
    assert value_format(seen(0.0, 0.0), Policy(), "x") == fixed(8, 6)
    assert value_format(seen(0.0), Policy(signed=False), "x") == fixed(8, 7, signed=False)
    for ranges in ("mse", "percentile"):
        assert value_format(seen(0.0), Policy(ranges=ranges), "x") == fixed(8, 6)
    assert value_format(seen(0.0), Policy(scales="free", style="affine"), "x").zero_point in (-1, 0)


def test_one_bit_values_are_a_sign_or_zero_and_a_step():
    found = value_format(seen(-1.0, 1.0, 0.5, -0.5), Policy(activations=1, scales="free"), "x")
    assert (found.bits, found.signed, found.zero_point) == (1, False, HALF)
    assert float(found.scale / 2) == pytest.approx(0.75, abs=2.0**-12)  # as fine as the bins
    assert value_format(seen(0.0, 1.0), Policy(activations=1), "x") == fixed(1, 0, signed=False)
    assert value_format(seen(0.0), Policy(activations=1), "x") == signs(0.0, "power_of_two", "x")


def test_percentiles_ignore_outliers_unless_nothing_would_be_left():
    x = np.concatenate([np.linspace(0, 1, 9999), [64.0]])
    assert value_format(Observation.of(x), Policy(), "x") == fixed(8, 1, signed=False)
    assert value_format(Observation.of(x), Policy(ranges="percentile", percentile=99.9), "x").frac == 7
    sparse = np.zeros(10000)
    sparse[0] = 4.0
    assert value_format(Observation.of(sparse), Policy(ranges="percentile", percentile=99), "x") == fixed(
        8, 5, signed=False
    )


# ------------------------------------------------------------------------------------------- least squared error
def brute_error(x: np.ndarray, form: Format) -> float:
    return float(np.mean((form.decode(form.encode(x)) - x) ** 2))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("spread", ["normal", "laplace", "uniform"])
def test_the_least_error_over_powers_of_two_is_found(bits, spread):
    x = getattr(np.random.default_rng(bits), spread)(size=20000)
    if spread == "uniform":
        x = 2 * x - 1
    found = value_format(Observation.of(x), Policy(activations=bits, ranges="mse"), "x")
    errors = {frac: brute_error(x, fixed(bits, frac)) for frac in range(-6, 14)}
    assert found == fixed(bits, min(errors, key=errors.get))


@pytest.mark.parametrize("style", ["symmetric", "affine"])
def test_the_least_error_over_free_scales_is_nearly_found(style):
    x = np.random.default_rng(1).laplace(size=20000)
    x = np.where(x < 0, x / 3, x)
    policy = Policy(activations=4, scales="free", style=style)
    found = value_format(Observation.of(x), Policy(activations=4, scales="free", style=style, ranges="mse"), "x")
    factors = np.linspace(0.02, 1, 400)
    best = min(brute_error(x, value_format(seen(x.min() * f, x.max() * f), policy, "x")) for f in factors)
    assert brute_error(x, found) < 1.0005 * best  # a search on a grid of scales, over bins
    assert brute_error(x, found) < 0.6 * brute_error(x, value_format(Observation.of(x), policy, "x"))


@settings(deadline=None)
@given(arrays(np.float64, 50, elements=st.floats(-8, 8)), st.integers(2, 7), st.integers(-1, 3))
def test_the_error_of_a_histogram_is_that_of_its_numbers_as_fine_as_the_bins(x, bits, frac):
    assume(np.abs(x).max() > 4)
    observed, form = Observation.of(x), fixed(bits, frac)
    bin_width = 2.0**observed.step
    found, clipping = squared_error(observed, form)
    # An error e moves by a bin's width at most, so its square by (2e + w)·w.
    largest = np.abs(form.decode(form.encode(x)) - x).max()
    assert abs(found * bin_width**2 - brute_error(x, form)) <= (2 * largest + bin_width) * bin_width * 1.001
    assert 0 <= clipping <= found * (1 + 1e-9)


def test_steps_finer_than_a_bin_are_judged_by_a_twelfth_of_their_square():
    x = np.random.default_rng(0).uniform(0, 1, 100000)
    observed = Observation.of(x)
    found, clipping = squared_error(observed, fixed(24, 24, signed=False))
    assert clipping < 1e-6 * found  # the last bin ends half a step or so beyond the highest code
    assert found * 4.0**observed.step == pytest.approx(2.0**-48 / 12, rel=1e-3)


def test_huge_and_tiny_numbers_are_searched_too():
    x = np.random.default_rng(1).normal(size=1000)

    def search(unit):
        return least_error(
            Observation.of(x * unit),
            lambda f: centred(-4 * unit * f, 4 * unit * f, 4, True, False, "power_of_two", "x"),
        )

    for unit in (2.0**-900, 2.0**900):
        assert search(unit).scale == search(1.0).scale * Fraction(unit)


# ------------------------------------------------------------------------------------------------------- weights
def test_weights_by_hand():
    w = np.array([[0.5, -1.0], [0.25, 0.125]])
    assert weight_format(w, Policy(), None, "w") == fixed(8, 7)
    assert weight_format(w, Policy(narrow_weights=True), None, "w") == Format(
        8, scale=Fraction(1, 64), narrow_range=True
    )
    assert weight_format(w, Policy(scales="free"), None, "w").scale == Fraction(float(np.float32(1 / 127)))
    assert weight_format(w, Policy(), 0, "w") == affine(8, [Fraction(1, 128), Fraction(1, 256)], axis=0)
    assert weight_format(w, Policy(), 1, "w") == affine(8, [Fraction(1, 128), Fraction(1, 128)], axis=1)
    assert weight_format(np.abs(w), Policy(), None, "w").signed


def test_binary_weights_are_the_mean_magnitude_with_a_sign():
    w = np.array([[0.5, -1.0], [0.25, 0.25]])
    assert weight_format(w, Policy(weights="binary"), None, "w") == affine(1, 1, HALF, signed=False)
    assert weight_format(w, Policy(weights=1), None, "w") == weight_format(w, Policy(weights="binary"), None, "w")
    assert weight_format(w, Policy(weights="binary", scales="free"), 0, "w") == affine(
        1, [1.5, 0.5], HALF, signed=False, axis=0
    )
    codes = affine(1, 1, HALF, signed=False).encode(w)
    assert affine(1, 1, HALF, signed=False).decode(codes).tolist() == [[0.5, -0.5], [0.5, 0.5]]


@settings(deadline=None)
@given(st.floats(0.01, 100))
def test_the_power_of_two_of_binary_weights_has_the_least_error(size):
    s = signs(size, "power_of_two", "w").scale / 2
    error = {k: (Fraction(2) ** k - Fraction(size)) ** 2 for k in range(-12, 12)}
    assert (s - Fraction(size)) ** 2 == min(error.values())


def test_ternary_weights_have_the_least_error():
    w = np.random.default_rng(3).normal(size=(40, 50))
    found = weight_format(w, Policy(weights="ternary", scales="free"), None, "w")
    assert found == ternary(found.scale)
    best = min(brute_error(w, ternary(s)) for s in np.linspace(0.2, 4, 400))
    assert brute_error(w, found) < 1.005 * best  # a search on a grid of scales, over bins
    two = weight_format(w, Policy(weights="ternary"), None, "w")
    assert brute_error(w, two) == min(brute_error(w, ternary(2.0**e)) for e in range(-4, 4))


@pytest.mark.parametrize("weights", [3, 8, "ternary"])
@pytest.mark.parametrize("kind", ["power_of_two", "free"])
def test_every_channel_has_the_least_error(weights, kind):
    w = np.random.default_rng(7).laplace(size=(6, 500)) * np.array([1, 1e-3, 50, 1e-40, 3, 0])[:, None]
    policy = Policy(weights=weights, scales=kind, weight_ranges="mse")
    found = weight_format(w.T.reshape(5, 100, 6), policy, 2, "w")
    assert (found.axis, found.channels, found.zero_point) == (2, 6, 0)
    for channel, row in enumerate(w[:5]):
        form = found.channel(channel)
        if kind == "power_of_two":
            assert form.is_power_of_two
            errors = {e: brute_error(row, replace(form, scale=form.scale * Fraction(2) ** e)) for e in range(-6, 7)}
            assert min(errors, key=errors.get) == 0
        elif channel != 3:  # that one's scale is the smallest float32
            factors = np.linspace(0.3, 3, 1000)
            best = min(brute_error(row, replace(form, scale=form.scale * Fraction(f))) for f in factors)
            assert brute_error(row, form) < 1.08 * best  # of few numbers the error is jagged, and the search has a grid
            assert Fraction(float(np.float32(float(form.scale)))) == form.scale
    assert found.scales[5] == weight_format(np.zeros(3), policy, None, "w").scale


def test_mse_weights_clip_an_outlier():
    w = np.random.default_rng(4).normal(size=1000)
    w[0] = 20.0
    exact, clipped = (weight_format(w, Policy(weights=4, weight_ranges=r), None, "w") for r in ("max", "mse"))
    assert exact.encode_and_count(w)[1] == 0
    assert clipped.real_high < exact.real_high
    assert brute_error(w, clipped) < brute_error(w, exact)


def test_a_channel_of_zeros_is_taken_to_reach_one():
    w = np.array([[0.0, 0.0], [0.25, 0.125]])
    for ranges in ("max", "mse"):
        found = weight_format(w, Policy(weight_ranges=ranges), 0, "w")
        assert found.scales[0] == fixed(8, 6).scale


def test_a_tiny_range_has_the_smallest_normal_float32():
    assert value_format(seen(-1e-300, 1e-300), Policy(scales="free"), "x").scale == Fraction(2) ** -126
    assert value_format(seen(-1e-300, 1e-300), Policy(), "x").scale == Fraction(2) ** -1003


def test_a_scale_beyond_float32_names_the_value():
    with pytest.raises(
        BadInput, match=r"'x' reaches so far that its scale .* is beyond float32; scales='power_of_two'"
    ):
        value_format(seen(-1e300, 1.0), Policy(scales="free"), "x")
    assert value_format(seen(-1e300, 1.0), Policy(), "x").frac == -math.frexp(1e300)[1] + 7


@settings(deadline=None)
@given(st.integers(1, 70), st.booleans(), reach)
def test_any_width_has_a_finest_scale(bits, signed, high):
    low = -high if signed and bits > 1 else 0.0
    assume(bits > 1 or not signed)
    form = centred(low, high, bits, signed, False, "power_of_two", "x")
    assert form.encode_and_count([Fraction(low), Fraction(high)])[1] == 0
    spanned = spanning(low, high, bits, signed, "power_of_two", "x")
    assert spanned.scale <= form.scale
