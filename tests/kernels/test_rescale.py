"""Every scaler, rounding and overflow on rows of accumulators, against the definition."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import TooWide
from fixqnn.events import Run
from fixqnn.format import Format, affine, fixed
from fixqnn.kernels.multiplier import floor_sum, mode_without_ties, multiplier_for, rounds_alike
from fixqnn.kernels.rescale import Rescale
from fixqnn.kernels.rescale_choice import width_of
from fixqnn.kernels.rows import from_rows
from fixqnn.modes import Overflow, Rounding, round_quotient
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier

MODES = [mode for mode in Rounding if mode is not Rounding.stochastic]
OVERFLOWS = [mode for mode in Overflow if mode is not Overflow.wrap_sign_magnitude]
SCALERS = {
    "none": lambda rounding, overflow: None,
    "shift": lambda rounding, overflow: Shift(rounding, overflow),
    "multiplier": lambda rounding, overflow: Multiplier(20, rounding, overflow=overflow),
    "wide multiplier": lambda rounding, overflow: Multiplier(32, rounding, overflow=overflow),
    "two step": lambda rounding, overflow: TwoStepMultiplier(32, rounding, MODES[-1 - MODES.index(rounding)], "float64", overflow
    ),
    "exact": lambda rounding, overflow: Exact(rounding, overflow),
    "float32": lambda rounding, overflow: Float("float32", rounding, overflow=overflow),
    "float64 before": lambda rounding, overflow: Float("float64", rounding, zero_point="before", overflow=overflow),
    "quotient": lambda rounding, overflow: Float("float32", rounding, "divide", overflow=overflow),
    "divide": lambda rounding, overflow: Divide(rounding, Exact(rounding, overflow)),
}  # fmt: skip


def accumulators(bound: int, rows: int, channels: int, seed: int, dtype: Any) -> np.ndarray:
    """Rows of numbers, small ones, some on the bound and some at random."""
    random = np.random.default_rng(seed)
    wide = random.integers(-bound, bound, (rows, channels), np.int64, endpoint=True)
    corners = np.array([0, 1, -1, bound, -bound, max(bound - 1, 0), min(1 - bound, 0)])
    small = random.integers(-min(bound, 600), min(bound, 600), (rows, channels), np.int64, endpoint=True)
    pick = random.integers(0, 4, (rows, channels))
    return np.select([pick == 0, pick == 1], [random.choice(corners, wide.shape), wide], small).astype(dtype)


def assert_twins(rescale: Rescale, acc: np.ndarray, positions: int, first_sample: int = 0, seed: int = 0) -> None:
    """Codes and events of both engines."""
    rows, channels = acc.shape
    shape = rows // positions, channels, positions
    run, twin = Run(seed, 3, first_sample), Run(seed, 3, first_sample)
    whole = np.array([int(v) for v in from_rows(acc, shape).ravel()], object).reshape(shape)
    want = rescale.exact_array(whole, run, lambda p: (p,))
    got = rescale.fast(acc, twin, lambda p: (p,), positions)
    assert got.dtype == rescale.out.code_dtype
    np.testing.assert_array_equal(from_rows(got, shape).astype(object), want, str(rescale))
    assert run.events == twin.events, f"{rescale}\nexact {run.events}\nfast {twin.events}"


def constants_of(scaler: Any, ratios: list[Fraction]) -> tuple[Any, ...]:
    if isinstance(scaler, Shift):
        return tuple(scaler.prepare((Fraction(1, 1 << (i % 7 + 1)),), Fraction(1)) for i, _ in enumerate(ratios))
    if isinstance(scaler, Divide):
        return tuple(scaler.prepare((r,), Fraction(1), 6 + i % 3) for i, r in enumerate(ratios))
    return tuple(scaler.prepare((r,), Fraction(1)) for r in ratios) if scaler is not None else ()


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("rounding", MODES)
def test_every_scaler_rounds_and_stores_as_defined(kind, rounding):
    for i, overflow in enumerate(OVERFLOWS):
        scaler = SCALERS[kind](rounding, overflow)
        channels, per_channel = (1, 3, 64, 65)[(i + MODES.index(rounding)) % 4], i % 2 == 0
        ratios = [Fraction(5 + k, 1009) for k in range(channels if per_channel else 1)]
        dtype, bound = ((np.int32, 2**15), (np.int64, 2**22), (np.int32, 2**24))[i % 3]
        out = (affine(8, 1, 3), Format(6, False), affine(12, 1, -40))[(i + MODES.index(rounding)) % 3]
        rescale = Rescale(scaler, constants_of(scaler, ratios), out, bound)
        assert_twins(rescale, accumulators(bound, 10, channels, i, dtype), 5, first_sample=4)


@pytest.mark.parametrize("channels", [1, 3, 64, 65, 300])
def test_rows_that_do_not_fill_the_last_pass_are_rescaled_too(channels):
    rescale = Rescale(Exact(), (Fraction(1, 700),), affine(8, 1, 1), 2**17)
    width = width_of(channels) // channels
    for rows in (1, width, width + 1, 2 * width + 3):
        assert_twins(rescale, accumulators(2**17, rows, channels, rows, np.int32), 1)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(SCALERS)), st.sampled_from(MODES), st.integers(0, 2**31))
def test_any_ratio_and_bound_agree(data, kind, rounding, seed):
    channels = data.draw(st.sampled_from([1, 2, 5]))
    ratios = [Fraction(data.draw(st.floats(1e-6, 2.0))) for _ in range(data.draw(st.sampled_from([1, channels])))]
    bound = data.draw(st.sampled_from([0, 1, 255, 2**16, 2**24, 2**31 - 1, 2**40]))
    scaler = SCALERS[kind](rounding, data.draw(st.sampled_from(OVERFLOWS)))
    zero = data.draw(st.sampled_from([0, 7, -100]))
    rescale = Rescale(
        scaler, constants_of(scaler, ratios), affine(data.draw(st.sampled_from([4, 8, 16, 40])), 1, zero), bound
    )
    acc = accumulators(bound, 6, channels, seed, np.int64 if bound > 2**31 - 1 else np.int32)
    try:
        rescale.fast(acc, Run(), lambda p: (p,), 3)
    except TooWide:
        return
    assert_twins(rescale, acc, 3, 2)


@pytest.mark.parametrize("scaler", [Shift("stochastic"), Multiplier(16, "stochastic"), Exact("stochastic")])
def test_rows_draw_the_numbers_of_their_elements(scaler):
    constants = (4,) if isinstance(scaler, Shift) else (scaler.prepare((Fraction(1, 16),), Fraction(1)),)
    rescale = Rescale(scaler, constants, fixed(8, 0), 2**14, places=2, place=1, terms=3)
    assert_twins(rescale, accumulators(2**14, 120, 3, 1, np.int32), 60, first_sample=2, seed=5)


def test_accumulators_in_floats_are_the_same_whole_numbers():
    rescale, acc = Rescale(Exact(), (Fraction(3, 1000),), fixed(8, 0), 2**20), accumulators(2**20, 8, 64, 1, np.int64)
    for dtype in (np.float32, np.float64):
        assert_twins(rescale, (acc // 1).astype(dtype), 2)


def test_a_witness_is_found_among_many_numbers_at_the_edge():
    acc = np.full((1000, 3), -128, np.int32)
    acc[777, 1], acc[777, 2], acc[900] = 200, -129, 500
    run = Run(first_sample=10)
    Rescale(None, (), fixed(8, 0), 1000).fast(acc, run, lambda p: (p,), 100)
    first = run.events["output"].first
    assert (first.sample, first.position, first.channel, first.value) == (17, (77,), 1, 200)


# -------------------------------------------------------------------------------------------- one product and one shift
@pytest.mark.parametrize("scaler", [Exact("floor", "wrap"), Exact("half_even"), Multiplier(32)])
def test_a_sum_that_is_always_zero_takes_no_multiplier_that_fits_no_word(scaler):
    # a bound of 0 once proved a multiplier of 64 bits, which then fitted no array
    rescale = Rescale(scaler, constants_of(scaler, [Fraction(1024 * 2, 250)]), fixed(1, 10, signed=False), 0)
    assert_twins(rescale, np.zeros((3, 1), np.int64), 3)


def test_a_ratio_becomes_a_multiplier_only_where_every_accumulator_rounds_alike():
    """1/3 ≈ 85 / 2⁸: weakened by one accumulator, the proof lets a wrong code through."""
    ratio = Fraction(1, 3)
    part = min(
        abs(a) for a in range(-999, 999) if round_quotient(a, 3, "half_up") != round_quotient(85 * a, 256, "half_up")
    )
    assert rounds_alike(ratio, 85, 8, part - 1, Rounding.half_up)
    assert not rounds_alike(ratio, 85, 8, part, Rounding.half_up)


@settings(deadline=None, max_examples=200)
@given(
    st.fractions(Fraction(1, 60), 3, max_denominator=60), st.integers(0, 60), st.integers(1, 9), st.booleans(),
    st.sampled_from([m for m in MODES if m not in ("half_even", "half_odd")]),
)  # fmt: skip
def test_the_proof_says_what_brute_force_says(ratio, bound, shift, up, rounding):
    m = int(ratio * 2**shift) + up
    pairs = [(ratio.numerator * a, ratio.denominator, m * a) for a in range(-bound, bound + 1)]
    alike = all(round_quotient(p, q, rounding) == round_quotient(x, 1 << shift, rounding) for p, q, x in pairs)
    assert rounds_alike(ratio, m, shift, bound, rounding) == alike


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 40), st.integers(0, 99), st.integers(0, 99), st.integers(1, 50))
def test_floors_are_added_up_by_euclid(count, a, b, divisor):
    assert floor_sum(count, a, b, divisor) == sum((a * j + b) // divisor for j in range(count))


@settings(deadline=None, max_examples=100)
@given(st.fractions(Fraction(1, 3000), 2, max_denominator=3000), st.integers(0, 3000), st.sampled_from(MODES),
       st.none() | st.integers(0, 40))  # fmt: skip
def test_a_multiplier_found_rounds_as_the_ratio_does_or_both_leave_the_register(ratio, bound, rounding, reach):
    mode = mode_without_ties([ratio], bound, rounding)
    m, shift = multiplier_for(ratio, bound, mode, reach) or (0, 0)
    for a in range(-bound, bound + 1) if m else ():
        want = round_quotient(a * ratio.numerator, ratio.denominator, rounding)
        got = round_quotient(a * m, 1 << shift, mode)
        assert want == got or (reach is not None and min(abs(want), abs(got)) > reach and want * got > 0)


def test_ties_that_go_to_even_codes_are_left_to_division():
    half_even = Rounding.half_even
    for divisor, bound, mode in (
        (6, 1000, half_even),
        (6, 2, "half_up"),
        (9, 1000, "half_up"),
    ):  # 3/6 is a tie, n/9 is none
        assert mode_without_ties([Fraction(1, 9), Fraction(1, divisor)], bound, half_even) == mode
    assert multiplier_for(Fraction(1, 6), 1000, half_even) is None
