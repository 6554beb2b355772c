from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.format import affine, binary, fixed
from fixqnn.ops import OPS
from tests.stepping import make_step, twins
from tests.strategies import codes_of, formats

CLAMP = OPS["clamp"]


@pytest.mark.parametrize(("low", "high"), [(0.0, None), (0.0, 6.0), (-1.0, 1.0), (None, 0.5), (None, None)])
def test_bounds_mean_what_torch_means(low, high):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).normal(size=(2, 5)) * 5
    want = x if low is None and high is None else torch.clamp(torch.from_numpy(x), low, high).numpy()
    np.testing.assert_array_equal(CLAMP.real(x, low=low, high=high), want)
    assert CLAMP.shape((None, 5), low=low, high=high) == (None, 5)


def test_bounds_are_rounded_half_away_and_clipped_into_the_format():
    step = make_step(CLAMP, [fixed(8, 0)], fixed(8, 0), [(None, 4)], None, low=-2.5, high=2.5)
    assert (step.prepared["lowest"], step.prepared["highest"]) == (-3, 3)
    step = make_step(CLAMP, [fixed(4, 0)], fixed(4, 0), [(None, 4)], None, low=-100.0, high=100.0)
    assert (step.prepared["lowest"], step.prepared["highest"]) == (-8, 7)


def test_relu6_of_an_affine_format_stops_at_its_zero_point():
    form = affine(8, 0.05, -3)
    step = make_step(CLAMP, [form], form, [(None, 6)], None, low=0.0, high=6.0)
    codes, events = twins(step, np.array([[-128, -4, -3, 50, 117, 127]]))
    assert codes.tolist() == [[-3, -3, -3, 50, 117, 117]]
    assert not events


def test_a_zero_point_outside_the_format_clips_the_bound():
    form = affine(4, 1, 20)
    step = make_step(CLAMP, [form], form, [(None, 2)], None, low=0.0)
    assert twins(step, np.array([[-8, 7]]))[0].tolist() == [[7, 7]]
    step = make_step(CLAMP, [binary()], binary(), [(None, 2)], None, low=0.0)
    assert twins(step, np.array([[0, 1]]))[0].tolist() == [[1, 1]]  # zero is as near to −1; away from zero is +1


@settings(deadline=None, max_examples=100)
@given(formats(bits=(1, 40)), st.none() | st.floats(-9, 0), st.none() | st.floats(0, 9), st.integers(0, 2**31))
def test_both_engines_clamp_alike_and_as_real_numbers_do(form, low, high, seed):
    step = make_step(CLAMP, [form], form, [(None, 3, 4)], None, low=low, high=high)
    codes = codes_of(form, (2, 3, 4), seed)
    got, _ = twins(step, codes)
    real = CLAMP.real(form.decode(codes), low=low, high=high)
    np.testing.assert_array_equal(got, form.encode(real, "half_away"))


def test_crossed_bounds_and_unequal_formats_are_refused():
    with pytest.raises(BadInput, match="low <= high"):
        CLAMP.shape((None, 3), low=1.0, high=0.0)
    with pytest.raises(DoesNotFit, match="requantize"):
        make_step(CLAMP, [fixed(8, 4)], fixed(8, 3), [(None, 2)], None, low=0.0)
    form = affine(8, [0.1, 0.2], axis=1)
    with pytest.raises(DoesNotFit, match="per channel"):
        make_step(CLAMP, [form], form, [(None, 2)], None, low=0.0)
