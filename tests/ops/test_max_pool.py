from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.format import affine, fixed
from fixqnn.ops import OPS
from tests.stepping import make_step, twins
from tests.strategies import codes_of, formats

POOL = OPS["max_pool"]


@st.composite
def pools(draw):
    """Sizes and attributes that torch takes too: padding on both sides alike, at most half the kernel."""
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(d * (k - 1) + 1 + draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True))
    return size, {
        "kernel": kernel, "stride": stride, "dilation": dilation, "padding": tuple((p, p) for p in padding)
    }  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(pools())
def test_max_pool_means_what_torch_means(pool):
    torch = pytest.importorskip("torch")
    size, attributes = pool
    x = np.random.default_rng(0).normal(size=(2, 2, *size))
    function = {1: torch.nn.MaxPool1d, 2: torch.nn.MaxPool2d, 3: torch.nn.MaxPool3d}[len(size)]
    padding = tuple(before for before, _ in attributes["padding"])
    module = function(attributes["kernel"], attributes["stride"], padding, attributes["dilation"])
    want = module(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(POOL.real(x, **attributes), want)
    assert POOL.shape((None, 2, *size), **attributes) == (None, *want.shape[1:])


def test_ceil_mode_is_a_longer_padding_after():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(1, 1, 6))
    want = torch.nn.MaxPool1d(3, 2, ceil_mode=True)(torch.from_numpy(x)).numpy()
    got = POOL.real(x, kernel=(3,), stride=(2,), padding=((0, 1),), dilation=(1,))
    np.testing.assert_array_equal(got, want)


@settings(deadline=None, max_examples=100)
@given(pools(), st.data(), formats(bits=(1, 20)), st.integers(0, 2**31))
def test_both_engines_pool_alike_and_as_real_numbers_do(pool, data, form, seed):
    size, attributes = pool
    attributes["padding"] = tuple(
        (before, after + data.draw(st.integers(0, 1))) for before, after in attributes["padding"]
    )
    try:
        step = make_step(POOL, [form], form, [(None, 2, *size)], None, **attributes)
    except BadInput:  # a window of nothing but padding
        return
    codes = codes_of(form, (2, 2, *size), seed)
    got, events = twins(step, codes)
    np.testing.assert_array_equal(form.decode(got), POOL.real(form.decode(codes), **attributes))
    assert not events


def test_padding_never_wins():
    form = affine(8, 1, -128)  # every number is positive but real zero, the smallest code
    step = make_step(
        POOL, [form], form, [(None, 1, 2)], None, kernel=(2,), stride=(1,), padding=((1, 1),), dilation=(1,)
    )
    assert twins(step, np.array([[[-128, -127]]]))[0].tolist() == [[[-128, -127, -127]]]


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"kernel": (2, 2)}, "spatial axes"),
        ({"kernel": (5,)}, "does not fit"),
        ({"padding": ((0, 3),)}, "nothing else"),
        ({"stride": (0,)}, "at least 1"),
        ({"padding": ((-1, 0),)}, "at least 0"),
    ],
)
def test_windows_that_do_not_fit_are_refused(attributes, word):
    with pytest.raises(BadInput, match=word):
        POOL.shape(
            (None, 1, 4), **{"kernel": (2,), "stride": (1,), "padding": ((0, 0),), "dilation": (1,), **attributes}
        )


def test_unequal_formats_are_refused():
    attributes = {"kernel": (2,), "stride": (1,), "padding": ((0, 0),), "dilation": (1,)}
    with pytest.raises(DoesNotFit, match="requantize"):
        make_step(POOL, [fixed(8, 4)], fixed(8, 3), [(None, 1, 3)], None, **attributes)
