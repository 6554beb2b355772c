from __future__ import annotations

from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format, affine, binary, fixed, symmetric, ternary
from fixqnn.tensor import Tensor

NAMES = {f.__name__: f for f in (Tensor, Format, affine, binary, fixed, symmetric, ternary, Fraction)}


def test_a_tensor_gives_the_reals_of_its_codes():
    tensor = Tensor([[1, -2], [3, 127]], fixed(8, 4))
    assert tensor.real().tolist() == [[0.0625, -0.125], [0.1875, 7.9375]]
    assert tensor.real().dtype == np.float64
    assert tensor.shape == (2, 2)
    assert Tensor(5, fixed(8, 4)).shape == ()


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.int32), (40, np.int64), (80, object)])
def test_codes_are_stored_in_the_type_of_their_width_and_read_only(bits, dtype):
    given = np.array([[1, 2, 3], [4, 5, 6]], np.uint8).T
    codes = Tensor(given, fixed(bits, 0)).codes
    assert codes.dtype == dtype
    assert codes.flags.c_contiguous
    assert codes.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert all(type(code) is int for code in codes.ravel().tolist())
    with pytest.raises(ValueError, match="read-only"):
        codes[0, 0] = 0


def test_changing_the_given_array_does_not_change_the_tensor():
    given = np.array([1, 2, 3], np.int32)
    view = given[:]
    view.flags.writeable = False
    for codes in (given, view):
        tensor = Tensor(codes, fixed(8, 4))
        given[0] = 7
        assert tensor.codes.tolist() == [1, 2, 3]
        given[0] = 1
    assert given.flags.writeable


def test_codes_of_a_tensor_are_shared_and_not_copied_again():
    tensor = Tensor([1, 2, 3], fixed(8, 4))
    assert Tensor(tensor.codes, fixed(8, 2)).codes is tensor.codes


def test_what_are_no_codes_of_the_format_is_refused():
    with pytest.raises(BadInput, match=r"codes\[1, 0\] is 128, but codes of fixed\(8, 4\) reach from -128 to 127"):
        Tensor([[0, 1], [128, 0]], fixed(8, 4))
    with pytest.raises(BadInput, match=r"codes\[0\] is -4, but codes of symmetric\(2, 4\) reach from -3 to 3"):
        Tensor([-4], symmetric(2, 4))
    with pytest.raises(BadInput, match="codes has dtype float64, but codes are integers"):
        Tensor([0.5], fixed(8, 4))
    with pytest.raises(BadInput, match="format must be a Format, not 'fxp-s8/4'; Format"):
        Tensor([1], "fxp-s8/4")
    with pytest.raises(BadInput, match="3 channels on axis 0, but affine"):
        Tensor([1, 2, 3], affine(8, (0.5, 0.25), axis=0))


def test_a_tensor_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Tensor([1], fixed(8, 4)).codes = np.zeros(1)


def test_tensors_are_equal_when_codes_and_format_are():
    tensor = Tensor([1, 2], fixed(8, 4))
    assert tensor == Tensor(np.array([1, 2], np.int8), affine(8, 0.0625))
    assert tensor != Tensor([1, 3], fixed(8, 4))
    assert tensor != Tensor([1, 2], fixed(8, 5))
    assert tensor != Tensor([[1, 2]], fixed(8, 4))
    assert tensor != [1, 2]
    assert Tensor([2**70], fixed(80, 0)) == Tensor([2**70], fixed(80, 0))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor([1, -2], fixed(8, 4)),
        Tensor([[0], [1]], binary()),
        Tensor(3, affine(8, 0.1, 3)),
        Tensor([2**70], fixed(80, 0)),
        Tensor([], ternary()),
    ],
)
def test_a_small_tensor_prints_as_the_call_that_makes_it(tensor):
    assert eval(repr(tensor), dict(NAMES)) == tensor


def test_a_large_tensor_prints_its_shape_and_range():
    tensor = Tensor(np.arange(-40, 40).reshape(8, 10), affine(8, np.linspace(0.1, 0.8, 8), axis=0))
    assert repr(tensor) == "<Tensor of 8x10 codes from -40 to 39, affine(8, <8 values 0.1 to 0.8>, axis=0)>"


def test_real_numbers_become_codes_by_the_rounding_asked_for():
    assert Tensor.from_real([0.03125, 99.0], fixed(8, 4)).codes.tolist() == [0, 127]
    assert Tensor.from_real([0.03125, 99.0], fixed(8, 4), "half_up", "wrap").codes.tolist() == [1, 48]
    with pytest.raises(BadInput, match=r"image\[0\] is nan"):
        Tensor.from_real([np.nan], fixed(8, 4), name="image")


def test_torch_codes_are_read():
    torch = pytest.importorskip("torch")
    given = torch.tensor([[1, 2]], dtype=torch.int8)
    tensor = Tensor(given, fixed(8, 4))
    given[0, 0] = 9
    assert tensor.codes.tolist() == [[1, 2]]


# ------------------------------------------------------------------ fxpmath


@settings(max_examples=60, deadline=None)
@given(
    bits=st.one_of(st.integers(2, 70), st.sampled_from([62, 63, 64, 65, 200])),
    frac=st.integers(-10, 80),
    signed=st.booleans(),
    data=st.data(),
)
def test_fixed_point_goes_to_fxpmath_and_back_bit_for_bit(bits, frac, signed, data):
    format = fixed(bits, frac, signed)
    ends = [format.low, format.high, 0]
    codes = ends + data.draw(st.lists(st.integers(format.low, format.high), max_size=4))
    tensor = Tensor(codes, format)
    fxp = tensor.to_fxp()
    assert (fxp.n_word, fxp.n_frac, fxp.signed) == (bits, frac, signed)
    assert [int(v) for v in fxp.val] == codes
    assert Tensor.from_fxp(fxp) == tensor


@pytest.mark.parametrize("format", [affine(8, 0.1), affine(8, 0.25, 3), affine(8, 0.5, -2.5, signed=False), binary()])
def test_scaled_formats_go_to_fxpmath_and_back_with_their_reals(format):
    tensor = Tensor(np.arange(format.low, format.high + 1), format)
    fxp = tensor.to_fxp()
    assert Tensor.from_fxp(fxp) == tensor
    assert np.array_equal(fxp.get_val(), np.array([float(format.scale) * c + fxp.bias for c in tensor.codes.tolist()]))
    assert np.array_equal(fxp.real, fxp.get_val())


def test_numbers_made_by_fxpmath_keep_their_codes_and_their_meaning():
    fxpmath = pytest.importorskip("fxpmath")
    assert Tensor.from_fxp(fxpmath.Fxp([[0.5, -1.25]], dtype="fxp-s8/4")) == Tensor([[8, -20]], fixed(8, 4))
    assert Tensor.from_fxp(fxpmath.Fxp(3, False, 6, 1)) == Tensor(6, fixed(6, 1, signed=False))
    scaled = fxpmath.Fxp([1.5, 2], True, 16, 8, scale=0.5, bias=3)
    tensor = Tensor.from_fxp(scaled)
    assert tensor == Tensor([-768, -512], affine(16, Fraction(1, 512), -1536))
    assert tensor.real().tolist() == scaled.get_val().tolist() == [1.5, 2.0]
    wide = fxpmath.Fxp(0.5, dtype="fxp-s80/40")
    assert Tensor.from_fxp(wide) == Tensor(2**39, fixed(80, 40))


def test_an_unsigned_word_of_64_bits_is_not_rounded_on_its_way_to_fxpmath():
    # An array of raw codes handed to fxpmath came back as 2**64: it had passed through float64.
    codes = [0, 2**64 - 1, 2**63 + 1]
    fxp = Tensor(codes, fixed(64, 8, signed=False)).to_fxp()
    assert fxp.val.tolist() == codes


def test_tensors_of_any_shape_go_to_fxpmath():
    for codes in (5, [], [[1, 2], [3, 4]], np.zeros((0, 3), int)):
        tensor = Tensor(codes, fixed(8, 4))
        fxp = tensor.to_fxp()
        assert fxp.shape == tensor.shape
        assert np.array_equal(fxp.get_val(), tensor.real())
        assert Tensor.from_fxp(fxp) == tensor


def test_fxpmath_computes_with_what_it_was_given():
    fxp = Tensor([8, -20], fixed(8, 4)).to_fxp()
    assert (fxp + fxp).get_val().tolist() == [1.0, -2.5]
    assert (fxp * 2)[1] == -2.5


def test_a_narrow_range_goes_to_fxpmath_as_the_whole_range():
    assert Tensor.from_fxp(Tensor([3, -3], symmetric(2, 4)).to_fxp()) == Tensor([3, -3], fixed(3, 2))


def test_what_fxpmath_and_tensors_do_not_share_is_refused():
    fxpmath = pytest.importorskip("fxpmath")
    with pytest.raises(BadInput, match="an Fxp of type fxp-s8/4-complex is complex"):
        Tensor.from_fxp(fxpmath.Fxp(1 + 2j, True, 8, 4))
    raw = fxpmath.Fxp(127, True, 8, 4, raw=True, scale=0.5, bias=3)
    assert raw.get_val() == 7.9375  # it ignores its own scale, so what it stands for is not clear
    with pytest.raises(BadInput, match=r"holds raw codes that it reads without them; set its attribute scaled"):
        Tensor.from_fxp(raw)
    with pytest.raises(FormatError, match=r"an Fxp has one scale, .* has 2; convert each channel by itself"):
        Tensor([1, 2], affine(8, (0.5, 0.25), axis=0)).to_fxp()
    with pytest.raises(FormatError, match="an Fxp holds scale and bias as floats, which those of affine"):
        Tensor([1, 2], affine(8, Fraction(1, 3))).to_fxp()
