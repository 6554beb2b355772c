from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixqnn.errors import FormatError
from fixqnn.rationals import each, exponent, is_float, nearest_float, rational, show, show_briefly, whole


def test_whole_accepts_integers_of_any_kind_and_nothing_else():
    assert [whole(v, "bits") for v in (3, np.int8(-3), np.uint64(2**63))] == [3, -3, 2**63]
    for wrong in (3.0, "3", True, np.True_, None, Fraction(3)):
        with pytest.raises(FormatError, match="bits must be an integer, not"):
            whole(wrong, "bits")


def test_rational_takes_numbers_at_their_exact_value():
    assert rational(0.1, "scale") == Fraction(3602879701896397, 2**55)
    assert rational(np.float32(0.1), "scale") == Fraction(13421773, 2**27)
    assert rational(np.int64(7), "scale") == 7
    assert type(rational(np.int64(7), "scale").numerator) is int
    assert rational(Fraction(1, 3), "scale") == Fraction(1, 3)
    for wrong in ("0.1", None, True, 1j, Decimal("0.1")):
        with pytest.raises(FormatError, match="scale must be an integer, a float or a Fraction"):
            rational(wrong, "scale")
    for wrong in (float("inf"), float("nan"), np.float32("inf")):
        with pytest.raises(FormatError, match=f"scale must be finite, not {wrong}"):
            rational(wrong, "scale")


def test_each_reads_lists_and_arrays_and_names_the_wrong_entry():
    assert each(np.array([0.5, 2], np.float32), "scale", rational) == (Fraction(1, 2), 2)
    assert each((1, Fraction(1, 3)), "scale", rational) == (1, Fraction(1, 3))
    assert each(np.float32(0.5), "scale", rational) == Fraction(1, 2)
    with pytest.raises(FormatError, match=r"scale\[1\] must be finite, not nan"):
        each([1.0, float("nan")], "scale", rational)


def test_exponent_knows_powers_of_two_of_any_size():
    for e in (-3000, -1, 0, 1, 3000):
        assert exponent(Fraction(2) ** e) == e
        assert exponent(3 * Fraction(2) ** e) is None
    assert exponent(Fraction(0)) is None
    assert exponent(Fraction(-4)) is None


def test_nearest_float_rounds_to_even_and_overflows_to_infinity():
    assert nearest_float(2**53 + 1) == 2.0**53
    assert nearest_float(Fraction(1, 3)) == 1 / 3
    assert nearest_float(10**400) == float("inf")
    assert nearest_float(Fraction(-(10**400))) == float("-inf")
    assert is_float(2**53)
    assert not is_float(2**53 + 1)
    assert not is_float(Fraction(1, 3))
    assert not is_float(10**400)


@given(st.one_of(st.fractions(), st.floats(allow_nan=False, allow_infinity=False).map(Fraction)))
def test_a_shown_number_reads_back_as_the_same_rational(value):
    assert Fraction(eval(show(value))) == value


def test_a_float_is_shown_only_where_it_says_the_same():
    assert show(Fraction(1, 10)) == "Fraction(1, 10)"
    assert show(Fraction(0.1)) == "0.1"
    assert show(Fraction(3)) == "3"
    assert show((1, Fraction(1, 2))) == "(1, 0.5)"
    assert show((Fraction(1, 2),)) == "(0.5,)"
    assert show(10**400) == str(10**400)


def test_many_numbers_are_shown_as_count_and_range():
    assert show_briefly(tuple(Fraction(k, 4) for k in range(1, 9))) == "<8 values 0.25 to 2>"
    assert show_briefly((Fraction(1, 4), Fraction(1, 2))) == "(0.25, 0.5)"
