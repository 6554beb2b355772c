from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format, affine, binary, fixed, symmetric, ternary

ROOT = Path(__file__).parents[1]
NAMES = {f.__name__: f for f in (Format, affine, binary, fixed, symmetric, ternary, Fraction)}

scales = st.one_of(
    st.integers(-30, 30).map(lambda e: Fraction(2) ** e),
    st.floats(1e-6, 1e6),
    st.fractions(Fraction(1, 1000), 1000),
    st.integers(1, 50).map(lambda s: Fraction(1, s)),
)
zeros = st.one_of(st.just(0), st.integers(-300, 300), st.fractions(-3, 3, max_denominator=4))


@st.composite
def formats(draw):
    """Draw any format, per channel or not."""
    bits = draw(st.integers(2, 100))
    signed, narrow_range = draw(st.booleans()), draw(st.booleans())
    if draw(st.booleans()):
        return Format(bits, signed, draw(scales), draw(zeros), None, narrow_range)
    count = draw(st.integers(1, 6))
    channel_scales = draw(st.lists(scales, min_size=count, max_size=count))
    channel_zeros = draw(st.one_of(zeros, st.lists(zeros, min_size=count, max_size=count)))
    return Format(bits, signed, channel_scales, channel_zeros, draw(st.integers(0, 3)), narrow_range)


@given(formats())
def test_a_format_prints_as_a_call_that_makes_it(format):
    again = eval(repr(format), dict(NAMES))
    assert again == format
    assert hash(again) == hash(format)
    assert isinstance(str(format), str)


@pytest.mark.parametrize(
    "text",
    [
        "fixed(8, 4)",
        "fixed(8, 4, signed=False)",
        "fixed(8, -3)",
        "fixed(4, 9)",
        "fixed(1, 0)",
        "affine(8, 0.1, 3)",
        "affine(8, 0.1, 3, signed=False)",
        "affine(8, Fraction(1, 3))",
        "affine(8, 0.25, 1)",
        "affine(8, 0.1, Fraction(1, 3), signed=False, narrow_range=True)",
        "affine(8, 3, narrow_range=True)",
        "affine(8, (0.5, 0.25), axis=0)",
        "affine(8, (0.5, 0.25), (1, 2), axis=1)",
        "affine(8, (0.5,), 0.5, axis=1)",
        "binary()",
        "symmetric(3, 4)",
        "symmetric(7, 1)",
        "ternary()",
        "ternary(0.5)",
    ],
)
def test_the_shortest_maker_is_printed(text):
    assert repr(eval(text, dict(NAMES))) == text


def test_many_scales_are_printed_by_count_and_range_for_readers():
    format = affine(8, np.linspace(0.001, 0.02, 64), axis=0)
    assert str(format) == "affine(8, <64 values 0.001 to 0.02>, axis=0)"
    assert str(fixed(8, 4)) == "fixed(8, 4)"
    assert len(repr(format)) > 64


def test_makers_make_the_sets_that_they_name():
    assert fixed(8, 4) == Format(8, True, Fraction(1, 16), 0)
    assert fixed(8, 4, signed=False).high == 255
    assert affine(8, 0.1, 3) == Format(8, True, Fraction(0.1), 3)
    three = symmetric(3, 4)
    assert (three.bits, three.low, three.high, three.scale, three.narrow_range) == (4, -7, 7, Fraction(1, 4), True)
    assert symmetric(1, 2) == ternary(0.5)
    assert binary().decode([0, 1]).tolist() == [-1.0, 1.0]
    assert (binary().bits, binary().low, binary().high) == (1, 0, 1)
    assert ternary(3).decode([-1, 0, 1]).tolist() == [-3.0, 0.0, 3.0]
    assert (ternary().low, ternary().high) == (-1, 1)


def test_a_scale_is_taken_at_its_exact_value():
    assert affine(8, 0.1).scale == Fraction(0.1) != Fraction(1, 10)
    assert affine(8, np.float32(0.1)).scale == Fraction(float(np.float32(0.1)))
    assert affine(8, np.array([0.1, 0.5], np.float32), axis=0).scale == (
        Fraction(float(np.float32(0.1))),
        Fraction(1, 2),
    )
    assert affine(8, 2) == affine(8, 2.0) == affine(8, Fraction(2))
    assert type(affine(8, 1, np.int8(3)).zero_point) is int
    assert type(affine(8, 1, 3.0).zero_point) is int
    assert affine(8, 1, 0.5).zero_point == Fraction(1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fixed(0, 4), "bits must be at least 1 for a signed format, not 0"),
        (lambda: fixed(-1, 4, signed=False), "bits must be at least 1 for an unsigned format, not -1"),
        (lambda: fixed(8.0, 4), "bits must be an integer, not 8.0"),
        (lambda: fixed(8, 0.5), "frac must be an integer, not 0.5"),
        (lambda: fixed(True, 4), "bits must be an integer, not True"),
        (lambda: affine(8, 0), "scale must be positive, not 0"),
        (lambda: affine(8, -0.5), "scale must be positive, not -0.5"),
        (lambda: affine(8, float("nan")), "scale must be finite, not nan"),
        (lambda: affine(8, float("inf")), "scale must be finite, not inf"),
        (lambda: affine(8, "0.1"), "scale must be an integer, a float or a Fraction, not '0.1'"),
        (lambda: affine(8, 1, float("inf")), "zero_point must be finite, not inf"),
        (lambda: affine(8, [0.1, 0.0], axis=0), "scale[1] must be positive, not 0.0"),
        (lambda: affine(8, [0.1, 0.2]), "2 scales or zero points but no axis; say axis=... along which they run"),
        (lambda: affine(8, 0.1, [1, 2]), "2 scales or zero points but no axis; say axis=... along which they run"),
        (lambda: affine(8, 0.1, axis=0), "axis=0 but a single scale and zero point"),
        (lambda: affine(8, [0.1, 0.2], [1, 2, 3], axis=0), "2 scales but 3 zero points; give one each per channel"),
        (lambda: affine(8, [], axis=0), "scale is empty; there must be at least one channel"),
        (lambda: affine(8, [0.1], axis=-1), "axis must not be negative"),
        (lambda: affine(8, [[0.1]], axis=0), "scale[0] must be an integer, a float or a Fraction, not [0.1]"),
        (lambda: affine(1, 1, narrow_range=True), "a narrow range needs at least 2 bits, not 1"),
        (lambda: symmetric(0, 1), "a narrow range needs at least 2 bits, not 1"),
        (lambda: symmetric(3, 0), "s must be positive, not 0"),
    ],
)
def test_a_format_that_cannot_exist_is_refused_in_words(make, message):
    with pytest.raises(FormatError) as problem:
        make()
    assert str(problem.value).startswith(message)


def test_a_format_is_frozen_and_hashable():
    with pytest.raises(FrozenInstanceError):
        fixed(8, 4).bits = 9
    assert replace(fixed(8, 4), bits=9) == fixed(9, 4)
    assert len({fixed(8, 4), fixed(8, 4), affine(8, 0.0625), fixed(8, 5)}) == 2


def test_equal_zero_points_are_stored_as_one():
    assert affine(8, [0.1, 0.2], [3, 3], axis=0) == affine(8, [0.1, 0.2], 3, axis=0)
    assert affine(8, [0.1, 0.2], [3, 3], axis=0).zero_point == 3
    assert affine(8, 0.1, [3, 4], axis=0) == affine(8, [0.1, 0.1], [3, 4], axis=0)


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        (fixed(32, 0), np.int32),
        (fixed(31, 0, signed=False), np.int32),
        (fixed(32, 0, signed=False), np.int64),
        (fixed(33, 0), np.int64),
        (fixed(64, 0), np.int64),
        (fixed(63, 0, signed=False), np.int64),
        (fixed(64, 0, signed=False), object),
        (fixed(65, 0), object),
    ],
)
def test_codes_live_in_the_smallest_of_three_types(format, dtype):
    assert format.code_dtype == dtype
    codes = format.encode([0.0, 1.0])
    assert codes.dtype == dtype
    assert format.encode([2.0**80]).tolist() == [format.high]


def test_fixed_point_is_known_as_such():
    assert (fixed(8, 4).frac, fixed(8, -2).frac, affine(8, 0.0625).frac) == (4, -2, 4)
    for other in (affine(8, 0.1), affine(8, 0.5, 1), affine(8, (0.5, 0.5), axis=0)):
        assert other.frac is None
    assert affine(8, 0.5, 1).is_power_of_two
    assert not affine(8, 0.75).is_power_of_two
    assert not affine(8, (0.5, 0.5), axis=0).is_power_of_two


def test_a_channel_is_a_format_with_one_scale():
    format = affine(8, (0.5, 0.1), (0, 3), signed=False, axis=1, narrow_range=True)
    assert format.per_channel
    assert format.channels == 2
    assert format.channel(1) == affine(8, 0.1, 3, signed=False, narrow_range=True)
    assert (format.scale_at(1), format.zero_at(1)) == (Fraction(0.1), 3)
    assert affine(8, (0.5, 0.1), 7, axis=0).zero_points == (7, 7)
    single = affine(8, 0.1, 3)
    assert not single.per_channel
    assert (single.channels, single.scales, single.zero_points) == (1, (Fraction(0.1),), (3,))
    assert (single.scale_at(5), single.zero_at(5)) == (Fraction(0.1), 3)


def test_real_ends_are_those_of_the_widest_channel():
    assert (fixed(8, 4).real_low, fixed(8, 4).real_high) == (-8, Fraction(127, 16))
    format = affine(8, (0.5, 2), (0, 100), axis=0)
    assert (format.real_low, format.real_high) == (-456, Fraction(127, 2))
    assert (binary().real_low, binary().real_high) == (-1, 1)


def test_codes_out_of_range_are_refused_by_index():
    fixed(8, 4).check_codes(np.array([-128, 127]))
    with pytest.raises(BadInput) as problem:
        symmetric(7, 128).check_codes(np.array([[0, 1], [-128, 3]]), "weight")
    assert str(problem.value) == "weight[1, 0] is -128, but codes of symmetric(7, 128) reach from -127 to 127"
    with pytest.raises(BadInput, match="codes is 200, but"):
        fixed(8, 4).check_codes(np.array(200))
    with pytest.raises(BadInput, match=r"codes\[0\] is -1, but"):
        fixed(70, 0, signed=False).check_codes(np.array([-1], object))
    with pytest.raises(BadInput, match=r"codes\[0\] is 18446744073709551615, but"):
        fixed(8, 4).check_codes(np.array([2**64 - 1], np.uint64))


def test_a_shape_whose_channels_do_not_match_is_refused():
    format = affine(8, (0.5, 0.25), axis=1)
    for door in (format.encode, format.decode, format.decode_exact):
        with pytest.raises(BadInput, match=r"shape \(3, 4\): 4 channels on axis 1, but affine\(.*\) has 2 scales"):
            door(np.zeros((3, 4), int))
        with pytest.raises(BadInput, match=r"shape \(2,\), which has no axis 1 for the channels"):
            door(np.zeros(2, int))


def test_parse_reads_other_tools_names():
    assert Format.parse("ap_fixed<16,6,AP_RND,AP_SAT>") == fixed(16, 10)
    assert Format.parse("fxp-u8/4") == fixed(8, 4, signed=False)
    with pytest.raises(FormatError, match="is no type name"):
        Format.parse("fixed(8, 4)")


@settings(max_examples=50)
@given(formats())
def test_low_and_high_are_what_decode_and_encode_meet(format):
    if format.per_channel:
        format = format.channel(0)
    ends = format.decode_exact([format.low, format.high])
    assert format.encode(ends).tolist() == [format.low, format.high]
    outside = [ends[0] - 2 * format.scale, ends[1] + 2 * format.scale]
    assert format.encode(outside).tolist() == [format.low, format.high]


def test_the_import_needs_neither_torch_nor_numba_nor_fxpmath():
    code = (
        "import sys, fixqnn.format, fixqnn.dialects, fixqnn.tensor; "
        "print([m for m in ('torch', 'numba', 'fxpmath', 'mpmath') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
