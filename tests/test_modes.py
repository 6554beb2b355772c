from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixqnn.errors import BadInput, FormatError
from fixqnn.modes import Overflow, Rounding, bounds, check_store, draw64, fit, mix64, round_quotient

# The numbers that people argue about, at -2.5, -1.5, -0.5, 0.5, 1.5, 2.5.
TIES = {
    "half_up": [-2, -1, 0, 1, 2, 3],
    "half_toward_zero": [-2, -1, 0, 0, 1, 2],
    "half_down": [-3, -2, -1, 0, 1, 2],
    "half_away": [-3, -2, -1, 1, 2, 3],
    "half_even": [-2, -2, 0, 0, 2, 2],
    "half_odd": [-3, -1, -1, 1, 1, 3],
    "floor": [-3, -2, -1, 0, 1, 2],
    "ceil": [-2, -1, 0, 1, 2, 3],
    "toward_zero": [-2, -1, 0, 0, 1, 2],
    "away_from_zero": [-3, -2, -1, 1, 2, 3],
}

# Into 4 bits, from the 8-bit integers 9, -9, 23, -20, -8, 7: (mode, signed, kept) -> stored.
STORED = {
    ("saturate", True, 0): [7, -8, 7, -8, -8, 7],
    ("forbid", True, 0): [7, -8, 7, -8, -8, 7],
    ("saturate_zero", True, 0): [0, 0, 0, 0, -8, 7],
    ("saturate_symmetric", True, 0): [7, -7, 7, -7, -7, 7],
    ("wrap", True, 0): [-7, 7, 7, -4, -8, 7],
    ("wrap", True, 1): [1, -1, 7, -4, -8, 7],
    ("wrap", True, 3): [7, -7, 7, -8, -8, 7],
    ("wrap_sign_magnitude", True, 0): [6, -8, -8, 3, -8, 7],
    ("wrap_sign_magnitude", True, 1): [6, -8, 7, -4, -8, 7],
    ("wrap_sign_magnitude", True, 3): [6, -8, 7, -8, -8, 7],
    ("saturate", False, 0): [9, 0, 15, 0, 0, 7],
    ("saturate_zero", False, 0): [9, 0, 0, 0, 0, 7],
    ("saturate_symmetric", False, 0): [9, 0, 15, 0, 0, 7],
    ("wrap", False, 0): [9, 7, 7, 12, 8, 7],
    ("wrap", False, 1): [9, 15, 15, 12, 8, 7],
    ("wrap", False, 3): [9, 15, 15, 14, 14, 7],
}


@pytest.mark.parametrize("rounding", TIES)
def test_ties_go_where_the_table_says(rounding):
    assert [round_quotient(n, 2, rounding) for n in (-5, -3, -1, 1, 3, 5)] == TIES[rounding]


def test_the_table_of_ties_has_every_mode_but_the_random_one():
    assert set(TIES) == set(Rounding) - {"stochastic"}


def allowed(value: Fraction, rounding: Rounding) -> int:
    """Say what a mode means by its name alone: candidates, the nearest of them, then the name's preference."""
    candidates = [k for k in range(int(value) - 2, int(value) + 3) if abs(k - value) < 1]
    direction = {
        "floor": lambda k: k <= value,
        "ceil": lambda k: k >= value,
        "toward_zero": lambda k: abs(k) <= abs(value),
        "away_from_zero": lambda k: abs(k) >= abs(value),
    }
    if rounding in direction:
        (only,) = [k for k in candidates if direction[rounding](k)]
        return only
    preference = {
        "half_up": lambda k: -k,
        "half_down": lambda k: k,
        "half_away": lambda k: -abs(k),
        "half_toward_zero": abs,
        "half_even": lambda k: k % 2,
        "half_odd": lambda k: 1 - k % 2,
    }
    return min(candidates, key=lambda k: (abs(k - value), preference[rounding](k)))


@pytest.mark.parametrize("rounding", TIES)
def test_every_small_quotient_goes_to_the_neighbour_that_the_name_of_the_mode_means(rounding):
    for numerator, denominator in product(range(-60, 61), range(1, 13)):
        want = allowed(Fraction(numerator, denominator), Rounding(rounding))
        assert round_quotient(numerator, denominator, rounding) == want, (numerator, denominator)


@pytest.mark.parametrize("rounding", TIES)
def test_huge_quotients_round_like_small_ones(rounding):
    unit = 3 * 2**200  # a multiple of 2: parity is unchanged
    for numerator in range(-9, 10):
        shifted = round_quotient(numerator * unit + 4 * unit * 2**90, 4 * unit, rounding)
        far = {
            "half_away": "half_up",
            "half_toward_zero": "half_down",
            "toward_zero": "floor",
            "away_from_zero": "ceil",
        }
        assert shifted - 2**90 == round_quotient(numerator, 4, far.get(rounding, rounding)), numerator


def test_stochastic_rounding_goes_up_exactly_when_the_draw_reaches_the_rest():
    third = -(-(2**64) * 2 // 3)  # 1/3 + draw / 2**64 reaches 1 here and not one draw earlier
    assert round_quotient(1, 3, "stochastic", third) == 1
    assert round_quotient(1, 3, "stochastic", third - 1) == 0
    assert round_quotient(-1, 3, "stochastic", 2**64 // 3 + 1) == 0
    assert round_quotient(-1, 3, "stochastic", 2**64 // 3) == -1
    assert round_quotient(6, 3, "stochastic", 2**64 - 1) == 2


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6), st.integers(0, 2**64 - 1))
def test_stochastic_rounding_is_the_floor_of_quotient_plus_draw(numerator, denominator, draw):
    want = (Fraction(numerator, denominator) + Fraction(draw, 2**64)).__floor__()
    assert round_quotient(numerator, denominator, "stochastic", draw) == want


def test_a_quotient_needs_a_positive_denominator_and_a_draw_64_bits():
    with pytest.raises(BadInput, match="denominator must be positive, not -2"):
        round_quotient(1, -2, "floor")
    with pytest.raises(BadInput, match="draw must be a number of 64 bits, not 18446744073709551616"):
        round_quotient(1, 2, "stochastic", 2**64)


@pytest.mark.parametrize(("mode", "signed", "kept"), STORED)
def test_overflow_into_four_bits_is_as_the_table_says(mode, signed, kept):
    got = [fit(v, 4, signed, mode, kept, deleted_bit=v >> 4 & 1) for v in (9, -9, 23, -20, -8, 7)]
    assert got == STORED[mode, signed, kept]


def bits_of(value: int, width: int) -> str:
    return format(value % 2**width, f"0{width}b")


def number(pattern: str, signed: bool) -> int:
    return int(pattern, 2) - (2 ** len(pattern) if signed and pattern[0] == "1" else 0)


def stored(value: int, bits: int, signed: bool, mode: str, kept: int, deleted: str) -> int:
    """Think in strings of bits, as a datasheet draws them."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if mode == "saturate_symmetric" and signed:
        low = -high
    if low <= value <= high:
        return value
    if mode in ("saturate", "forbid", "saturate_symmetric"):
        return min(max(value, low), high)
    if mode == "saturate_zero":
        return 0
    word = bits_of(value, bits)
    sign = "1" if value < 0 else "0"
    other = {"0": "1", "1": "0"}
    turned = "".join(other[b] for b in word)
    if mode == "wrap_sign_magnitude":
        if kept == 0:
            word = deleted + (turned if deleted != word[0] else word)[1:]
            return number(word, signed)
        must_turn = sign != word[0] if kept == 1 else sign == word[kept - 1]
        word = turned if must_turn else word
    if kept and signed:
        word = sign + other[sign] * (kept - 1) + word[kept:]
    elif kept:
        word = "1" * kept + word[kept:]
    return number(word, signed)


@pytest.mark.parametrize("mode", Overflow)
def test_every_small_register_stores_what_the_drawing_of_its_bits_shows(mode):
    for bits, signed in product(range(1, 7), (True, False)):
        if mode == "wrap_sign_magnitude" and not signed:
            continue
        for kept in range(bits if mode.wraps else 1):
            for value in range(-(2**8), 2**8 + 1):
                deleted = value >> bits & 1
                want = stored(value, bits, signed, mode, kept, str(deleted))
                assert fit(value, bits, signed, mode, kept, deleted) == want, (bits, signed, kept, value)


def test_a_narrow_range_saturates_one_code_earlier():
    assert [fit(v, 3, True, "saturate", narrow_range=True) for v in (-5, -4, -3, 3, 4)] == [-3, -3, -3, 3, 3]
    assert [fit(v, 3, False, "saturate", narrow_range=True) for v in (-1, 0, 6, 7)] == [0, 0, 6, 6]
    assert fit(-4, 3, True, "saturate_zero", narrow_range=True) == 0


def test_registers_of_any_width_store():
    assert fit(2**200, 200, True, "saturate") == 2**199 - 1
    assert fit(2**200 + 5, 200, True, "wrap") == 5
    assert fit(2**199, 200, True, "wrap") == -(2**199)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, True, "wrap", 8), "kept must be at least 0 and less than the 8 bits of the register, not 8"),
        ((8, True, "wrap", -1), "kept must be at least 0 and less than the 8 bits of the register, not -1"),
        ((8, True, "saturate", 1), "kept=1 asks for an overflow that wraps (wrap, wrap_sign_magnitude), not saturate"),
        ((8, False, "wrap_sign_magnitude"), "wrap_sign_magnitude needs a signed register"),
        ((8, True, "wrap", 0, True), "a narrow range cannot wrap"),
        ((0, True, "wrap"), "bits must be at least 1 for a signed format, not 0"),
        ((0, False, "wrap"), "bits must be at least 1 for an unsigned format, not 0"),
        ((1, True, "saturate", 0, True), "a narrow range needs at least 2 bits, not 1"),
    ],
)
def test_a_register_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(FormatError) as problem:
        check_store(*arguments)
    assert str(problem.value).startswith(message)


def test_an_unknown_mode_is_answered_with_the_list_of_modes():
    for make in (Rounding, Rounding.of):
        with pytest.raises(FormatError, match=r"'nonsense' is no rounding mode; there are floor, ceil, .*stochastic"):
            make("nonsense")
    with pytest.raises(FormatError, match=r"'clip' is no overflow mode; there are wrap, saturate, .*forbid"):
        fit(0, 4, True, "clip")
    with pytest.raises(FormatError, match="None is no rounding mode"):
        Rounding.of(None)


def test_modes_are_their_own_names():
    assert Rounding.of("half_even") is Rounding.of(Rounding.half_even) is Rounding.half_even
    assert Overflow.wrap == "wrap"
    assert repr(Overflow.wrap) == "'wrap'"
    assert [m for m in Rounding if m.nearest] == [m for m in Rounding if m.startswith("half_")]


def test_bounds_are_those_of_twos_complement():
    assert bounds(1, True) == (-1, 0)
    assert bounds(1, False) == (0, 1)
    assert bounds(2, True, narrow_range=True) == (-1, 1)


def test_the_generator_is_splitmix64():
    # Started at 0, splitmix64 gives these first (published with the reference implementation of its author).
    golden = 0x9E3779B97F4A7C15
    assert [mix64(golden * k % 2**64) for k in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_draws_differ_by_seed_stream_and_counter_and_fill_64_bits():
    seen = {draw64(*key) for key in product(range(5), range(5), range(40))}
    assert len(seen) == 5 * 5 * 40
    ones = sum(bin(z).count("1") for z in seen)
    assert abs(ones / (64 * len(seen)) - 0.5) < 0.01  # 64,000 fair bits: five standard deviations
    assert 0 <= min(seen) < 2**55
    assert 2**64 - 2**55 < max(seen) < 2**64


def test_draws_never_change_from_one_version_to_the_next():
    # Saved results of stochastic rounding depend on these; written down when they were chosen.
    assert [draw64(0, 0, 0), draw64(1, 0, 0), draw64(0, 1, 0), draw64(-1, 2, 3)] == [
        12035550249420947055,
        6791897765849424158,
        5095610196844313600,
        1344852033074974342,
    ]
