from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.format import affine, binary, fixed
from fixqnn.ops import OPS
from tests.stepping import make_step, twins
from tests.strategies import codes_of

X = (2, 3, 4, 5)
CASES = [
    ("reshape", [X], {"shape": (None, 12, 5)}, lambda torch, x: x.reshape(2, 12, 5)),
    ("reshape", [X], {"shape": (None, 60)}, lambda torch, x: x.flatten(1)),
    ("reshape", [(2, 6)], {"shape": (None, 1, 2, 3)}, lambda torch, x: x.reshape(2, 1, 2, 3)),
    ("reshape", [(2, 1)], {"shape": (None,)}, lambda torch, x: x.reshape(2)),
    ("transpose", [X], {"axes": (0, 3, 1, 2)}, lambda torch, x: x.permute(0, 3, 1, 2)),
    ("transpose", [X], {"axes": (0, 1, 3, 2)}, lambda torch, x: x.transpose(2, 3)),
    ("slice", [X], {"axis": 2, "start": 1, "stop": 4, "step": 2}, lambda torch, x: x[:, :, 1:4:2]),
    ("slice", [X], {"axis": 1, "start": 2, "stop": 3, "step": 1}, lambda torch, x: x[:, 2:3]),
    ("slice", [X], {"axis": 3, "start": 0, "stop": 0, "step": 1}, lambda torch, x: x[..., 0:0]),
    (
        "pad",
        [X],
        {"padding": ((0, 0), (0, 0), (1, 2), (0, 3)), "value": -1.5},
        lambda torch, x: torch.nn.functional.pad(x, (0, 3, 1, 2), value=-1.5),
    ),
    ("pad", [(2, 3)], {"padding": ((0, 0), (2, 0))}, lambda torch, x: torch.nn.functional.pad(x, (2, 0))),
    ("concat", [X, (2, 1, 4, 5)], {"axis": 1}, lambda torch, x, y: torch.cat([x, y], 1)),
    ("concat", [X, X, (2, 3, 4, 1)], {"axis": 3}, lambda torch, *x: torch.cat(x, 3)),
    ("pixel_shuffle", [(2, 18, 2, 3)], {"factor": 3}, lambda torch, x: torch.nn.functional.pixel_shuffle(x, 3)),
    ("pixel_shuffle", [(2, 4, 1, 1)], {"factor": 2}, lambda torch, x: torch.nn.functional.pixel_shuffle(x, 2)),
]


@pytest.mark.parametrize(("name", "shapes", "attributes", "wanted"), CASES)
def test_moving_means_what_torch_means(name, shapes, attributes, wanted):
    torch = pytest.importorskip("torch")
    arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    want = wanted(torch, *map(torch.from_numpy, arrays)).numpy()
    np.testing.assert_array_equal(OPS[name].real(*arrays, **attributes), want)
    assert OPS[name].shape(*((None, *s[1:]) for s in shapes), **attributes) == (None, *want.shape[1:])


@pytest.mark.parametrize("bits", [8, 40, 70])
@pytest.mark.parametrize(("name", "shapes", "attributes", "wanted"), CASES)
def test_codes_move_alike_in_both_engines_and_as_real_numbers_do(name, shapes, attributes, wanted, bits):
    form = affine(bits, 0.5, 3)
    step = make_step(OPS[name], [form] * len(shapes), form, [(None, *s[1:]) for s in shapes], None, **attributes)
    codes = [codes_of(form, s, i) for i, s in enumerate(shapes)]
    got, events = twins(step, *codes)
    assert not events
    if bits == 8:
        want = OPS[name].real(*map(form.decode, codes), **attributes)
        np.testing.assert_array_equal(form.decode(got), want)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 2**31))
def test_random_reshapes_transposes_and_slices_move_alike(data, seed):
    form = fixed(12, 0)
    shape = (2, *data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))
    axis = data.draw(st.integers(1, len(shape) - 1))
    start = data.draw(st.integers(0, shape[axis] - 1))
    kinds = [
        ("reshape", {"shape": (None, *data.draw(st.permutations(shape[1:])))}),
        ("transpose", {"axes": (0, *data.draw(st.permutations(range(1, len(shape)))))}),
        ("slice", {"axis": axis, "start": start, "stop": data.draw(st.integers(start, shape[axis])), "step": 2}),
    ]
    name, attributes = data.draw(st.sampled_from(kinds))
    codes = codes_of(form, shape, seed)
    step = make_step(OPS[name], [form], form, [(None, *shape[1:])], None, **attributes)
    np.testing.assert_array_equal(twins(step, codes)[0], OPS[name].real(codes, **attributes))


def test_a_constant_with_a_batch_of_one_joins_every_sample():
    form, other = fixed(8, 0), np.array([[[7, 8]]])
    step = make_step(OPS["concat"], [form, form], form, [(None, 1, 2), (1, 1, 2)], None, axis=1)
    codes, _ = twins(step, np.array([[[1, 2]], [[3, 4]]]), other)
    assert codes.tolist() == [[[1, 2], [7, 8]], [[3, 4], [7, 8]]]
    np.testing.assert_array_equal(OPS["concat"].real(np.zeros((0, 1, 2)), other, axis=1), np.zeros((0, 2, 2)))


def test_pad_codes_its_value_exactly_or_not_at_all():
    padding = ((0, 0), (1, 1))
    step = make_step(
        OPS["pad"], [affine(8, 0.5, 3)] * 1, affine(8, 0.5, 3), [(None, 1)], None, padding=padding, value=0.0
    )
    assert twins(step, np.array([[9]]))[0].tolist() == [[3, 9, 3]]
    for form, value in ((fixed(8, 1), 0.25), (fixed(4, 0), 8.0), (binary(), 0.0)):
        with pytest.raises(DoesNotFit, match="no code of"):
            make_step(OPS["pad"], [form], form, [(None, 1)], None, padding=padding, value=value)


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        ("reshape", [(None, 6)], {"shape": (None, 4)}),
        ("reshape", [(None, 6)], {"shape": (6, 1)}),
        ("transpose", [(None, 2, 3)], {"axes": (1, 0, 2)}),
        ("transpose", [(None, 2, 3)], {"axes": (0, 1, 1)}),
        ("slice", [(None, 4)], {"axis": 0, "start": 0, "stop": 1, "step": 1}),
        ("slice", [(None, 4)], {"axis": 1, "start": 0, "stop": 5, "step": 1}),
        ("pad", [(None, 4)], {"padding": ((0, 1), (0, 0)), "value": 0.0}),
        ("pad", [(None, 4)], {"padding": ((0, 0), (-1, 0)), "value": 0.0}),
        ("concat", [(None, 2, 3), (None, 2, 4)], {"axis": 1}),
        ("concat", [(None, 2), (None, 2)], {"axis": 0}),
        ("concat", [(None, 2, 3), (5, 2, 3)], {"axis": 1}),
        ("pixel_shuffle", [(None, 6, 2, 2)], {"factor": 2}),
        ("pixel_shuffle", [(None, 4, 2)], {"factor": 2}),
    ],
)
def test_moves_that_cannot_be_are_refused_with_the_shapes(name, shapes, attributes):
    with pytest.raises(BadInput) as caught:
        OPS[name].shape(*shapes, **attributes)
    assert str(shapes[0]) in str(caught.value)


def test_unequal_formats_are_refused():
    with pytest.raises(DoesNotFit, match=r"'x1'.*requantize"):
        make_step(OPS["concat"], [fixed(8, 4), fixed(8, 3)], fixed(8, 4), [(None, 2)] * 2, None, axis=1)
