from __future__ import annotations

import numpy as np
import pytest

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.format import fixed
from fixqnn.ops import OPS
from tests.stepping import make_step, twins
from tests.strategies import codes_of

RESIZE = OPS["resize"]
CASES = [((2, 3, 4), (3,)), ((2, 3, 4, 5), (2, 3)), ((1, 2, 2, 3, 2), (1, 2, 3))]


@pytest.mark.parametrize(("size", "factor"), CASES)
def test_nearest_upsampling_means_what_torch_means(size, factor):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=size)
    want = torch.nn.functional.interpolate(torch.from_numpy(x), scale_factor=factor, mode="nearest").numpy()
    np.testing.assert_array_equal(RESIZE.real(x, factor=factor), want)
    assert RESIZE.shape((None, *size[1:]), factor=factor) == (None, *want.shape[1:])


@pytest.mark.parametrize("bits", [8, 40, 70])
@pytest.mark.parametrize(("size", "factor"), CASES)
def test_both_engines_resize_alike_and_as_real_numbers_do(size, factor, bits):
    form = fixed(bits, 3)
    step = make_step(RESIZE, [form], form, [(None, *size[1:])], None, factor=factor)
    codes = codes_of(form, size, 1)
    got, events = twins(step, codes)
    np.testing.assert_array_equal(got, RESIZE.real(codes, factor=factor))
    assert not events


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="per spatial axis"):
        RESIZE.shape((None, 3, 4, 4), factor=(2,))
    with pytest.raises(BadInput, match="at least 1"):
        RESIZE.shape((None, 3, 4), factor=(0,))
    with pytest.raises(DoesNotFit, match="requantize"):
        make_step(RESIZE, [fixed(8, 4)], fixed(8, 3), [(None, 2, 3)], None, factor=(2,))
