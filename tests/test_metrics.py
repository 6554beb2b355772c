from __future__ import annotations

import doctest
import math
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn import metrics
from fixqnn.errors import BadInput
from fixqnn.format import fixed
from fixqnn.metrics import Accuracy, accuracy, agreement, paired_test, predictions_changed, sqnr, worst_code_error
from fixqnn.tensor import Tensor


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(metrics).failed == 0


# ------------------------------------------------------------------------------------------------------------- sqnr
def test_sqnr_of_a_tenth_is_twenty_decibels_and_of_a_half_six():
    assert sqnr([10.0, -10.0], [9.0, -9.0]) == 20.0
    assert sqnr([[2.0, 0.0], [0.0, -2.0]], [[1.0, 0.0], [0.0, -1.0]]) == 10 * math.log10(4)


def test_sqnr_is_infinite_where_nothing_differs_and_minus_infinite_where_zeros_are_missed():
    assert sqnr([0.0, 1.5], [0.0, 1.5]) == math.inf
    assert sqnr([0.0, 0.0], [0.0, 0.0]) == math.inf
    assert sqnr([0.0, 0.0], [0.0, 0.5]) == -math.inf


@pytest.mark.parametrize("unit", [2.0**-1000, 2.0**1000])
def test_sqnr_does_not_depend_on_the_unit_even_where_squares_leave_float64(unit):
    assert sqnr([10.0 * unit, -10.0 * unit], [9.0 * unit, -9.0 * unit]) == 20.0


def test_sqnr_reads_tensors_of_codes_and_of_torch():
    found = Tensor([16, 24], fixed(8, 4))  # 1.0 and 1.5
    assert sqnr(torch.tensor([1.0, 2.0]), found) == 10 * math.log10(5 / 0.25)


def test_sqnr_names_shapes_that_differ_and_numbers_that_are_none():
    with pytest.raises(BadInput, match=r"reference has shape \(2,\) and found \(3,\)"):
        sqnr([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match=r"found\[1\] is nan"):
        sqnr([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(BadInput, match="empty"):
        sqnr([], [])


# ------------------------------------------------------------------------------------------------------ predictions
def test_agreement_compares_the_place_of_the_largest_and_the_first_of_equals_wins():
    reference = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = np.array([[0.0, 2.0, 1.0], [7.0, 1.0, 1.0], [9.0, 8.0, 7.0], [0.0, 1.0, 1.0]])
    assert agreement(reference, found) == 0.5
    assert predictions_changed(reference, found) == 2


def test_agreement_runs_along_axis_1_at_every_position():
    reference = np.zeros((1, 2, 2, 2))
    reference[:, 1] = 1.0
    found = reference.copy()
    found[0, 0, 1, 0] = 2.0
    assert agreement(reference, found) == 0.75


def test_predictions_need_an_axis_of_classes():
    with pytest.raises(
        BadInput, match=r"reference has shape \(3,\); predictions need samples on axis 0 and classes on axis 1"
    ):
        agreement([1, 2, 3], [1, 2, 3])


# ------------------------------------------------------------------------------------------------------------ codes
def test_worst_code_error_counts_codes_and_is_exact_beyond_64_bits():
    assert worst_code_error(np.array([[1, 2], [3, 4]], np.int8), np.array([[1, 2], [-3, 4]], np.int8)) == 6
    assert worst_code_error(np.array([127], np.int8), np.array([-128], np.int8)) == 255
    assert worst_code_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 255
    assert worst_code_error([2**63 - 1], [-(2**63)]) == 2**64 - 1
    assert worst_code_error([2**100], [1]) == 2**100 - 1


def test_worst_code_error_refuses_formats_that_differ_and_reals():
    with pytest.raises(BadInput, match="cannot be compared"):
        worst_code_error(Tensor([1], fixed(8, 4)), Tensor([1], fixed(8, 5)))
    with pytest.raises(BadInput, match="codes are integers"):
        worst_code_error([0.5], [1])
    assert worst_code_error(Tensor([1], fixed(8, 4)), Tensor([4], fixed(8, 4))) == 3


# --------------------------------------------------------------------------------------------------------- accuracy
def test_accuracy_has_the_interval_of_a_textbook():
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I,
    # method 3 (Wilson, no continuity correction).
    table = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    for right, total, low, high in table:
        found = accuracy(np.arange(total) < right, np.ones(total, int))
        assert (found.right, found.total, found.value) == (right, total, right / total)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_accuracy_takes_scores_or_predictions():
    scores = np.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
    assert accuracy(scores, [1, 0, 0]) == accuracy([1, 0, 1], torch.tensor([1, 0, 0]))
    assert accuracy(Tensor([[1, 3], [2, 1], [0, 7]], fixed(8, 4)), [1, 0, 0]).right == 2


@settings(deadline=None)
@given(st.integers(1, 60).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_contains_the_share_mirrors_and_widens_with_confidence(case):
    right, total = case

    def of(right, confidence=0.95):
        return accuracy(np.arange(total) < right, np.ones(total, int), confidence)

    assert 0 <= of(right).low <= of(right).value <= of(right).high <= 1
    assert math.isclose(of(right).low, 1 - of(total - right).high, abs_tol=1e-12)  # a real number is the subject
    assert of(right, 0.99).low <= of(right).low
    assert of(right, 0.99).high >= of(right).high


def test_accuracy_prints_what_a_table_needs():
    assert str(accuracy([1, 1], [1, 1])) == "100.00% [34.24%, 100.00%] (2 of 2)"
    assert isinstance(accuracy([1], [1]), Accuracy)


def test_accuracy_refuses_what_it_cannot_count():
    with pytest.raises(BadInput, match=r"predictions has shape \(2,\) and labels \(3,\)"):
        accuracy([[0.1, 0.9], [0.2, 0.8]], [1, 1, 1])
    with pytest.raises(BadInput, match="confidence must lie between 0 and 1, not 95"):
        accuracy([1], [1], confidence=95)
    with pytest.raises(BadInput, match="empty"):
        accuracy(np.zeros((0, 2)), np.zeros(0, int))


# ------------------------------------------------------------------------------------------------------ paired test
def test_paired_test_is_the_exact_binomial():
    # 9 samples only a gets right, 1 only b: 2·(C(10,0) + C(10,1)) / 2^10
    a = np.array([1] * 9 + [0] + [1] * 50)
    b = np.array([0] * 9 + [1] + [1] * 50)
    assert paired_test(a, b) == paired_test(b, a) == 2 * 11 / 1024


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_paired_test_adds_up_the_tail_and_ignores_what_both_get_right(one, other, both):
    a = [True] * one + [False] * other + [True] * both
    b = [False] * one + [True] * other + [True] * both
    if not a:
        return
    tail = sum(comb(one + other, i) for i in range(min(one, other) + 1))
    assert paired_test(a, b) == min(1.0, 2 * tail / 2 ** (one + other))


def test_paired_test_stays_exact_for_many_samples():
    assert paired_test(np.arange(4000) < 2000, np.arange(4000) >= 2000) == 1.0
    assert paired_test(np.ones(3000, int), np.zeros(3000, int)) == 0.0  # 2^-2999 is below float64


def test_paired_test_refuses_what_is_neither_right_nor_wrong():
    with pytest.raises(BadInput, match=r"right_b\[1\] is 2; right or wrong is True or False"):
        paired_test([1, 0], [0, 2])
    with pytest.raises(BadInput, match="compared place by place"):
        paired_test([1, 0], [0])
