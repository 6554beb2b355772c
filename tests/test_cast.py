"""Conversions between formats against the headers that define ap_fixed and ac_fixed, and against arithmetic."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fixqnn import DoesNotFit, FormatError, RegisterOverflow, Tensor, affine, cast, fixed, parse_type

VECTORS = Path(__file__).parent / "vectors"
COUNTS = {"ap_fixed_cast.npz": 263_424, "ac_fixed_cast.npz": 147_456}


def type_name(words: list) -> str:
    bits, whole, signed, rounding, overflow, kept = words
    if rounding.startswith("AC"):
        return f"ac_fixed<{bits},{whole},{str(signed).lower()},{rounding},{overflow}>"
    return f"ap_{'' if signed else 'u'}fixed<{bits},{whole},{rounding},{overflow},{kept}>"


@pytest.mark.parametrize("file", COUNTS)
def test_every_code_of_every_type_is_assigned_as_its_header_does(file):
    compared = 0
    with np.load(VECTORS / file) as arrays:
        for case in json.loads(str(arrays["meta"]))["cases"]:
            bits, whole, signed = case["src"]
            target = parse_type(type_name(case["dst"]))
            source = Tensor(arrays[case["raw"]], fixed(bits, bits - whole, signed))
            found = cast(source, target.format, target.rounding, target.overflow, target.kept).codes
            want = arrays[case["key"]]
            differ = np.flatnonzero(found != want)
            assert not differ.size, (
                f"{case}: code {source.codes[differ[0]]} gives {found[differ[0]]}, not {want[differ[0]]}"
            )
            compared += want.size
    assert compared == COUNTS[file]


TIES = Tensor([-5, -3, -1, 1, 3, 5], fixed(8, 1))  # -2.5 ... 2.5


@pytest.mark.parametrize(
    ("rounding", "want"),
    [
        ("half_up", [-2, -1, 0, 1, 2, 3]),
        ("half_toward_zero", [-2, -1, 0, 0, 1, 2]),
        ("half_down", [-3, -2, -1, 0, 1, 2]),
        ("half_away", [-3, -2, -1, 1, 2, 3]),
        ("half_even", [-2, -2, 0, 0, 2, 2]),
        ("half_odd", [-3, -1, -1, 1, 1, 3]),
        ("floor", [-3, -2, -1, 0, 1, 2]),
        ("toward_zero", [-2, -1, 0, 0, 1, 2]),
        ("ceil", [-2, -1, 0, 1, 2, 3]),
        ("away_from_zero", [-3, -2, -1, 1, 2, 3]),
    ],
)
def test_ties_go_where_the_datasheets_say(rounding, want):
    assert cast(TIES, fixed(8, 0), rounding).codes.tolist() == want


WIDE = Tensor([9, -9, 23, -20, -8, 7], fixed(8, 0))


@pytest.mark.parametrize(
    ("overflow", "kept", "signed", "want"),
    [
        ("saturate", 0, True, [7, -8, 7, -8, -8, 7]),
        ("saturate_zero", 0, True, [0, 0, 0, 0, -8, 7]),
        ("saturate_symmetric", 0, True, [7, -7, 7, -7, -7, 7]),
        ("wrap", 0, True, [-7, 7, 7, -4, -8, 7]),
        ("wrap", 1, True, [1, -1, 7, -4, -8, 7]),
        ("wrap", 3, True, [7, -7, 7, -8, -8, 7]),
        ("wrap_sign_magnitude", 0, True, [6, -8, -8, 3, -8, 7]),
        ("wrap_sign_magnitude", 1, True, [6, -8, 7, -4, -8, 7]),
        ("wrap_sign_magnitude", 3, True, [6, -8, 7, -8, -8, 7]),
        ("wrap", 0, False, [9, 7, 7, 12, 8, 7]),
        ("wrap", 1, False, [9, 15, 15, 12, 8, 7]),
        ("wrap", 3, False, [9, 15, 15, 14, 14, 7]),
    ],
)
def test_overflows_end_where_the_datasheets_say(overflow, kept, signed, want):
    assert cast(WIDE, fixed(4, 0, signed), overflow=overflow, kept=kept).codes.tolist() == want


def test_rounding_may_be_what_makes_a_number_overflow():
    assert cast(Tensor([31], fixed(8, 2)), fixed(4, 0), "half_up", "saturate").codes.tolist() == [7]  # 7.75 → 8
    assert cast(Tensor([31], fixed(8, 2)), fixed(4, 0), "half_up", "wrap").codes.tolist() == [-8]


def test_scales_that_are_no_powers_of_two_are_converted_by_the_exact_quotient():
    thirds = Tensor([-5, 1, 2, 5], affine(8, Fraction(1, 3)))
    assert cast(thirds, fixed(8, 0), "half_even").codes.tolist() == [-2, 0, 1, 2]
    assert cast(thirds, affine(8, Fraction(2, 3), 10), "half_even").codes.tolist() == [
        8,
        10,
        11,
        12,
    ]  # -2.5, .5, 1, 2.5


def test_zero_points_of_both_sides_count():
    x = Tensor([3, 4, 13], affine(8, 0.5, 3))
    assert cast(x, affine(8, 0.25, -20)).codes.tolist() == [-20, -18, 0]


def test_channels_are_converted_each_by_its_own_scale():
    x = Tensor([[4, 4], [4, 4]], affine(8, [1, 0.25], axis=1))
    assert cast(x, fixed(8, 0)).codes.tolist() == [[4, 1], [4, 1]]
    with pytest.raises(DoesNotFit, match="channels differ"):
        cast(x, affine(8, [1, 1], axis=0))


def test_codes_of_a_hundred_bits_are_exact():
    x = Tensor(np.array([2**99 - 1, -(2**99)], object), fixed(100, 10))
    assert cast(x, fixed(64, 0), "floor", "saturate").codes.tolist() == [2**63 - 1, -(2**63)]
    assert cast(x, fixed(101, 11)).codes.tolist() == [2**100 - 2, -(2**100)]


def test_forbid_raises_with_the_code_and_where_it_stands():
    with pytest.raises(RegisterOverflow, match=r"code 9 at \(0,\) becomes 9"):
        cast(WIDE, fixed(4, 0), overflow="forbid")


def test_stochastic_rounding_repeats_itself_and_averages_out():
    x = Tensor([5] * 4000, fixed(8, 4))
    found = [cast(x, fixed(8, 0), "stochastic", seed=s).codes for s in (1, 1, 2)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    # 5/16 of 4000 draws, within five standard deviations (√(4000·p·(1 - p)) = 29)
    assert set(found[0].tolist()) == {0, 1}
    assert abs(found[0].sum() - 1250) < 150


def test_a_narrow_range_that_would_wrap_is_refused():
    with pytest.raises((DoesNotFit, FormatError), match="narrow range"):
        cast(WIDE, affine(4, 1, narrow_range=True))
    assert cast(WIDE, affine(4, 1, narrow_range=True), overflow="saturate").codes.tolist() == [7, -7, 7, -7, -7, 7]


def test_shape_and_scalars_survive():
    assert cast(Tensor(np.zeros((2, 0, 3), int), fixed(8, 0)), fixed(4, 0)).codes.shape == (2, 0, 3)
    assert cast(Tensor(np.array(9), fixed(8, 0)), fixed(4, 0)).codes.item() == -7
