from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.datapath import Elementwise, Register
from fixqnn.errors import BadInput, DoesNotFit, TooWide
from fixqnn.events import Run
from fixqnn.format import Format, affine, binary, fixed
from fixqnn.modes import Overflow, Rounding, round_quotient
from fixqnn.ops import OPS
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier
from tests.stepping import fitting_step, make_step, run_exact, run_fast, twins, twins_unless_too_wide
from tests.strategies import codes_of, formats, overflows, registers, scalers

GEMMLOWP = TwoStepMultiplier(32, "half_up", "half_away", ratio="float64")
LITERT = Elementwise(GEMMLOWP, "twice_max", GEMMLOWP, 20, Register(32, "wrap"))
DELEGATE = Elementwise(Shift("half_up"), "output", Multiplier(22, None, "float32", constant="half_even"))
ONNX = Elementwise(Float(zero_point="before"), "output", Float(rounding=None), zero_point="folded")
IDEAL = Elementwise(Exact(), "finest")

SHAPES = st.sampled_from(
    [
        ((None, 3), (None, 3)),
        ((None, 2, 3), (None, 2, 3)),
        ((None, 2, 2, 2), (None, 2, 2, 2)),
        ((None, 3, 4), (3, 1)),
        ((None, 3, 2), (2,)),
        ((2, 1, 1), (None, 2, 2, 2)),
        ((None, 3), ()),
        ((None, 1, 3), (None, 2, 1)),
        ((None,), (None,)),
    ]
)


def with_batch(shape: tuple, batch: int = 3) -> tuple[int, ...]:
    return tuple(batch if n is None else n for n in shape)


def operands(shapes: tuple, seed: int, *formats_: Format) -> list[np.ndarray]:
    return [codes_of(f, with_batch(s), seed + i) for i, (f, s) in enumerate(zip(formats_, shapes, strict=True))]


# ------------------------------------------------------------------------------------------------------ the meaning
def test_sum_and_difference_mean_what_torch_means():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 3, 4)), random.normal(size=(3, 1))
    for name, function in (("add", torch.add), ("subtract", torch.sub)):
        want = function(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_array_equal(OPS[name].real(a, b), want)
        assert OPS[name].shape((None, 3, 4), (3, 1)) == (None, 3, 4)


@pytest.mark.parametrize("shapes", [((None, 3), (2,)), ((None, 3), (None, 3, 3)), ((None, 3), (4, 3)), ((None,), (3,))])
def test_shapes_that_do_not_meet_are_refused_with_both_named(shapes):
    with pytest.raises(BadInput) as caught:
        OPS["add"].shape(*shapes)
    assert all(str(shape) in str(caught.value) for shape in shapes)


# ----------------------------------------------------------------------------------------------------- known answers
def test_litert_reference_adds_its_worked_example():
    float32 = [Fraction(float(np.float32(s))) for s in (0.05, 0.031, 0.07)]
    formats_ = [affine(8, s, z) for s, z in zip(float32, (-3, 9, -20), strict=True)]
    step = make_step(OPS["add"], formats_[:2], formats_[2], [(None, 1)] * 2, LITERT)
    codes, _ = twins(step, np.array([[50]]), np.array([[-20]]))
    assert codes.tolist() == [[5]]


def test_litert_aligns_both_operands_to_twice_the_larger_step():
    half = affine(8, 0.5)
    step = make_step(OPS["add"], [half, affine(8, 0.25)], half, [(None, 1)] * 2, LITERT)
    # t = 1: frexp(0.5 / t) = (½, 0), frexp(0.25 / t) = (½, −1), frexp(t / (2²⁰·0.5)) = (½, −18)
    assert step.prepared["align"] == ((2**30, 0), (2**30, -1))
    assert step.prepared["rescale"] == (2**30, -18)


def test_operands_of_the_delegates_sum_share_one_shift():
    float32 = [Fraction(float(np.float32(s))) for s in (0.05, 0.031, 0.07)]
    step = make_step(OPS["add"], [affine(8, s) for s in float32[:2]], affine(8, float32[2]), [(None, 1)] * 2, DELEGATE)
    (m_a, s_a), (m_b, s_b) = step.prepared["align"]
    assert s_a == s_b == step.prepared["rescale"] == 21
    assert 2**20 <= m_a < 2**21
    assert (m_a, m_b) == (1497966, 928739)  # rint(fl(0.05 / 0.07)·2²¹), rint(fl(0.031 / 0.07)·2²¹)


def test_a_multiplier_that_rounds_up_to_the_next_power_of_two_takes_one_bit_less():
    nearly = Fraction(2**24 - 1, 2**24)
    step = make_step(OPS["add"], [affine(8, nearly), affine(8, nearly / 3)], affine(8, 1), [(None, 1)] * 2, DELEGATE)
    assert step.prepared["align"] == ((2**20, 20), (round(nearly / 3 * 2**20), 20))


def test_folded_zero_points_become_one_float_constant():
    a, b, y = affine(8, 0.5, 3), affine(8, 0.25, -7), affine(8, 0.5, 2)
    step = make_step(OPS["add"], [a, b], y, [(None, 1)] * 2, ONNX)
    assert step.prepared["zero_point"] == 2 - (1.0 * 3 + 0.5 * -7)
    step = make_step(OPS["subtract"], [a, b], y, [(None, 1)] * 2, ONNX)
    assert step.prepared["zero_point"] == 2 - (1.0 * 3 - 0.5 * -7)


def test_a_sum_in_a_narrow_register_saturates_and_is_counted():
    register = Elementwise(Shift(), "finest", register=Register(8))
    step = make_step(OPS["add"], [fixed(8, 4), fixed(8, 4)], fixed(8, 4), [(None, 2, 2)] * 2, register)
    a = np.array([[[1, 100], [-100, 2]], [[0, 0], [0, 127]]])
    codes, events = twins(step, a, a, first_sample=10)
    assert codes.tolist() == [[[2, 127], [-128, 4]], [[0, 0], [0, 127]]]
    assert events["sum"].below.tolist() == [0, 1]
    assert events["sum"].above.tolist() == [1, 1]
    first = events["sum"].first
    assert (first.sample, first.position, first.channel, first.index, first.value) == (10, (0,), 1, -1, -200)
    assert events["output"].count == 0


def test_a_register_with_a_point_of_its_own_drops_to_it():
    register = Register(8, rounding="half_up", frac=2)
    datapath = Elementwise(Shift("half_even"), "finest", register=register)
    step = make_step(OPS["add"], [fixed(8, 4), fixed(8, 3)], fixed(8, 1), [(None, 4)] * 2, datapath)
    assert step.prepared["drop"] == 2
    codes, _ = twins(step, np.array([[1, 2, 5, 7]]), np.array([[0, 0, 0, 1]]))
    assert codes.tolist() == [[0, 0, 0, 1]]  # quarters 0, 1, 1, 2; halves of 0.5 and 0.5 tie to 0, of 1 to 1


# ------------------------------------------------------------------------------------------------------------- twins
@settings(deadline=None, max_examples=120)
@given(st.data(), st.sampled_from(["add", "subtract"]), SHAPES, st.integers(0, 2**31))
def test_both_engines_add_alike_in_power_of_two_formats(data, op, shapes, seed):
    a, b, y = (data.draw(formats(power_of_two=True)) for _ in range(3))
    common = data.draw(st.sampled_from(["finest", "finest", "output", "twice_max"]))
    align = data.draw(scalers(power_of_two=True)) if common != "finest" else None
    headroom = data.draw(st.integers(0, 12))
    register = data.draw(st.none() | registers())
    scaler = data.draw(scalers(power_of_two=True))
    datapath = Elementwise(scaler, common, align, headroom, register)
    step = fitting_step(OPS[op], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins_unless_too_wide(step, left, right, first_sample=5)


@settings(deadline=None, max_examples=120)
@given(st.data(), st.sampled_from(["add", "subtract"]), SHAPES, st.integers(0, 2**31))
def test_both_engines_add_alike_with_free_scales(data, op, shapes, seed):
    a, b, y = (data.draw(formats()) for _ in range(3))
    datapath = data.draw(
        st.sampled_from([LITERT, DELEGATE, IDEAL])
        | scalers().map(lambda s: Elementwise(s, "output", Float("float32", "half_even")))
        | st.tuples(scalers(), scalers()).map(lambda p: Elementwise(p[0], "twice_max", p[1], 6))
        | scalers().map(lambda s: Elementwise(s, "real", Multiplier(16, None), 4))
    )
    step = fitting_step(OPS[op], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins_unless_too_wide(step, left, right, first_sample=5)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(["add", "subtract"]), SHAPES, st.integers(0, 2**31))
def test_both_engines_add_floats_alike(data, op, shapes, seed):
    a, b, y = (data.draw(formats(bits=(1, 16))) for _ in range(3))
    precision = data.draw(st.sampled_from(["float32", "float64"]))
    by = data.draw(st.sampled_from(["multiply", "divide", "reciprocal"]))
    rounding = data.draw(st.sampled_from(Rounding))
    align = Float(precision, None, by)
    folded = data.draw(st.booleans())
    scaler = Float(data.draw(st.sampled_from(["float32", "float64"])), rounding, by, "before" if folded else "after")
    common, zero_point = ("output", "folded") if folded else ("real", "subtracted")
    datapath = Elementwise(scaler, common, align, zero_point=zero_point)
    step = make_step(OPS[op], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins(step, left, right, seed=seed, first_sample=2)


@settings(deadline=None, max_examples=120)
@given(st.data(), st.sampled_from(["add", "subtract"]), SHAPES, st.integers(0, 2**31))
def test_sums_too_long_for_62_bits_are_still_rounded_exactly(data, op, shapes, seed):
    scales = st.floats(0.01, 1.0).map(Fraction)
    a, b = (Format(8, True, data.draw(scales), data.draw(st.integers(-20, 20))) for _ in range(2))
    y = Format(8, True, data.draw(st.sampled_from([a.scale, b.scale, a.scale / 2, b.scale * 2]) | scales), 3)
    datapath = Elementwise(Exact(data.draw(st.sampled_from(list(Rounding)[:-1]))), "finest")
    step = make_step(OPS[op], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins(step, left, right)


@pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode is not Rounding.stochastic])
def test_a_sum_is_not_decided_by_float64_where_that_is_off(rounding):
    """c·(1/10 + e) + c·(4/10 − e) is c/2, whole or a tie; binary64 gets 1.5000000000000002 for c = 3, and e is lost."""
    e = Fraction(1, 3 * 2**60)
    a, b = affine(8, Fraction(1, 10) + e), affine(8, Fraction(4, 10) - e)
    step = make_step(OPS["add"], [a, b], affine(8, 1), [(None, 256)] * 2, Elementwise(Exact(rounding), "finest"))
    codes = np.arange(-128, 128).reshape(1, 256)
    got, _ = twins(step, codes, codes)
    assert got.tolist() == [[round_quotient(c, 2, rounding) for c in range(-128, 128)]]


def test_a_sum_that_misses_a_tie_by_less_than_float64_sees_is_rounded_rightly():
    for sign, want in ((1, 1), (-1, 0)):
        a, b = affine(8, Fraction(1, 3)), affine(8, Fraction(1, 6) + Fraction(sign, 2**61))
        step = make_step(OPS["add"], [a, b], affine(8, 1), [(None, 1)] * 2, IDEAL)
        codes, _ = twins(step, np.array([[1]]), np.array([[1]]))
        assert codes.tolist() == [[want]]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(["add", "subtract", "multiply"]), SHAPES, st.integers(0, 2**31))
def test_a_table_of_all_pairs_says_what_the_loops_say(data, op, shapes, seed):
    a, b, y = (data.draw(formats(bits=(1, 5))) for _ in range(3))
    narrow = Elementwise(Exact(), "finest", register=Register(data.draw(st.integers(2, 8)), data.draw(overflows)))
    datapath = data.draw(st.sampled_from([LITERT, DELEGATE, ONNX, IDEAL, narrow]))
    if op == "multiply":
        datapath = data.draw(st.sampled_from([Elementwise(GEMMLOWP), replace(narrow, common=None)]))
    step = fitting_step(OPS[op], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins(step, left, right, first_sample=3)
    step.cache["pair"].missing = 1  # the next output fills the table
    twins(step, left, right, first_sample=3)
    assert step.cache["pair"].table is not None
    if left.ndim > 2 and left.shape == right.shape:  # channels last in memory
        last = [np.moveaxis(np.ascontiguousarray(np.moveaxis(v, 1, -1)), -1, 1) for v in (left, right)]
        twins(step, *last, first_sample=3)


@pytest.mark.parametrize("op", ["add", "subtract"])
@pytest.mark.parametrize(
    ("scaler", "out", "straight"),
    [
        (Exact(), fixed(5, 3), True),
        (Exact(), affine(5, 0.071, 2), True),
        (Exact(), affine(5, 0.3, 2), False),  # ties that no float hits
        (Shift("floor"), fixed(5, 1), True),
        (Shift("ceil"), fixed(5, 1), True),
        (Shift("half_up"), fixed(5, 1), True),
        (Shift("half_down"), fixed(5, 1), True),
        (Float(), affine(5, 0.071), True),
        (Shift("half_even", "saturate_symmetric"), fixed(5, 3), True),
        (Shift("half_away"), fixed(5, 1), False),
        (Shift("half_even", "wrap"), fixed(5, 3), False),
    ],
)
def test_a_line_in_floats_stands_for_the_table_where_every_pair_comes_out_alike(op, scaler, out, straight):
    formats_ = fixed(5, 3), Format(5, False, Fraction(1, 4), 7)
    step = make_step(OPS[op], formats_, out, [(None, 1)] * 2, Elementwise(scaler, "finest"))
    codes = np.meshgrid(*(np.arange(f.low, f.high + 1) for f in formats_))
    step.op.fast(step, Run(), np.zeros((1, 1), np.int8), np.zeros((1, 1), np.uint8))
    step.cache["pair"].missing = 1
    twins(step, *(c.reshape(-1, 1) for c in codes), first_sample=3)
    assert (step.cache["pair"].line is not None) == straight


def test_a_line_whose_inner_register_acts_is_refused():
    datapath = Elementwise(Exact(), "finest", register=Register(5))
    step = make_step(OPS["add"], [fixed(5, 3)] * 2, fixed(5, 3), [(None, 2)] * 2, datapath)
    a = np.array([[15, -16], [1, 2]])
    twins(step, a, a)
    step.cache["pair"].missing = 1
    _, events = twins(step, a, a)
    assert step.cache["pair"].line is None
    assert events["sum"].count == 2


@pytest.mark.parametrize("bits", [8, 12])
def test_channels_last_in_memory_stay_last(bits):
    step = make_step(
        OPS["add"], [affine(bits, 0.1), affine(bits, 0.3)], affine(bits, 0.2), [(None, 3, 4, 5)] * 2, IDEAL
    )
    codes = np.moveaxis(codes_of(affine(bits, 0.1), (2, 4, 5, 3), 1), -1, 1)
    for _ in range(2):
        got, _ = run_fast(step, codes, codes)
        assert np.moveaxis(got, 1, -1).flags.c_contiguous
        step.cache["pair"].missing = step.cache["pair"].missing and 1


def test_every_output_draws_its_own_number_for_an_operand_that_serves_many():
    datapath = Elementwise(Shift(), "output", Shift("stochastic"))
    step = make_step(OPS["add"], [fixed(8, 6), fixed(8, 6)], fixed(8, 2), [(None, 2, 50), (2, 1)], datapath)
    codes, _ = twins(step, np.zeros((2, 2, 50), int), np.full((2, 1), 8))
    assert set(codes.ravel()) == {0, 1}  # half a step, up or down for each output


@settings(deadline=None, max_examples=40)
@given(st.data(), SHAPES, st.integers(0, 2**31))
def test_both_engines_draw_the_same_random_numbers(data, shapes, seed):
    a, b, y = (data.draw(formats(bits=(4, 8), power_of_two=True)) for _ in range(3))
    lost = Register(16, rounding="stochastic", drop=data.draw(st.integers(0, 4)))
    align = data.draw(
        st.sampled_from(
            [Shift("stochastic"), Multiplier(16, "stochastic"), Divide("half_up", Exact("stochastic")), GEMMLOWP]
        )
    )
    datapath = Elementwise(
        data.draw(st.sampled_from([Shift("stochastic"), Exact("stochastic"), Float(rounding="stochastic")])),
        "output",
        align,
        data.draw(st.integers(0, 6)),
        lost,
    )
    step = make_step(OPS["add"], [a, b], y, shapes, datapath)
    left, right = operands(shapes, seed, a, b)
    twins(step, left, right, seed=seed, first_sample=7)


def test_stochastic_rounding_differs_from_sample_to_sample_and_follows_the_seed():
    datapath = Elementwise(Shift("stochastic"), "finest")
    step = make_step(OPS["add"], [fixed(8, 6)] * 2, fixed(8, 4), [(None, 1)] * 2, datapath)
    ones = np.ones((200, 1), int)
    codes, _ = twins(step, ones, ones, seed=1)
    assert 60 < codes.sum() < 140  # half of them round up
    assert (codes != twins(step, ones, ones, seed=2)[0]).any()
    assert (codes[100:] == twins(step, ones[:100], ones[:100], seed=1, first_sample=100)[0]).all()


# ------------------------------------------------------------------------------------------------ nothing is rounded
@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(["add", "subtract"]), SHAPES, st.integers(0, 2**31))
def test_wide_formats_add_as_real_numbers_do(data, op, shapes, seed):
    a, b = (data.draw(formats(power_of_two=True, zero_points=True)) for _ in range(2))
    y = fixed(40, 8)
    step = make_step(OPS[op], [a, b], y, shapes, Elementwise(Shift(), "finest", register=Register(40, "forbid")))
    left, right = operands(shapes, seed, a, b)
    codes, events = twins(step, left, right)
    np.testing.assert_array_equal(y.decode(codes), OPS[op].real(a.decode(left), b.decode(right)))
    assert not any(e.count for e in events.values())


def test_binary_codes_add_to_minus_two_zero_and_two():
    step = make_step(OPS["add"], [binary(), binary()], fixed(4, 0), [(None, 4)] * 2, Elementwise(Shift(), "finest"))
    codes, _ = twins(step, np.array([[0, 0, 1, 1]]), np.array([[0, 1, 0, 1]]))
    assert codes.tolist() == [[-2, 0, 0, 2]]


def test_an_empty_batch_is_an_empty_batch():
    for datapath in (LITERT, DELEGATE, ONNX, IDEAL):
        step = make_step(OPS["add"], [affine(8, 0.1)] * 2, affine(8, 0.3), [(None, 3)] * 2, datapath)
        codes, _ = twins(step, np.zeros((0, 3), int), np.zeros((0, 3), int))
        assert codes.shape == (0, 3)


# ---------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("datapath", "word"),
    [
        (None, "Elementwise"),
        (Shift(), "Elementwise"),
        (Elementwise(Shift()), "common"),
        (Elementwise(Exact(), "output"), "whole multiples"),
        (Elementwise(Shift(), "finest"), "power of two"),
        (Elementwise(None, "finest"), "scaler=None"),
        (Elementwise(Float(rounding=None), "finest"), "unrounded"),
        (Elementwise(Exact(), "real", Float(rounding=None)), "Float"),
        (Elementwise(Float(), "real", Float(rounding=None), register=Register(8)), "register"),
        (Elementwise(Exact(), "finest", zero_point="folded"), "folded"),
        (Elementwise(Exact(), "finest", register=Register(8, frac=3)), "frac"),
    ],
)
def test_a_datapath_that_cannot_add_is_refused_by_name(datapath, word):
    a, b, y = (affine(8, Fraction(scale)) for scale in ("0.2", "0.3", "0.7"))
    with pytest.raises(DoesNotFit, match=word) as caught:
        make_step(OPS["add"], [a, b], y, [(None, 3)] * 2, datapath)
    assert "step" in str(caught.value)


def test_scales_per_channel_are_refused():
    with pytest.raises(DoesNotFit, match="per channel"):
        make_step(OPS["add"], [affine(8, [0.1, 0.2], axis=1), fixed(8, 4)], fixed(8, 4), [(None, 2)] * 2, IDEAL)


def test_what_passes_62_bits_is_left_to_the_exact_engine():
    datapath = Elementwise(Exact(), "finest", register=Register(64))
    step = make_step(OPS["add"], [fixed(50, 0), fixed(50, 20)], fixed(32, 0), [(None, 1)] * 2, datapath)
    codes, _ = run_exact(step, np.array([[3]]), np.array([[1 << 20]]))
    assert codes.tolist() == [[4]]
    with pytest.raises(TooWide, match=r"step \(add\).*exact"):
        run_fast(step, np.array([[3]]), np.array([[1 << 20]]))


def test_overflow_modes_of_the_sums_register_all_run():
    for overflow in Overflow:
        datapath = Elementwise(Shift(), "finest", register=Register(6, overflow))
        step = make_step(OPS["add"], [fixed(6, 0)] * 2, fixed(9, 0), [(None, 64)] * 2, datapath)
        codes = np.arange(-32, 32).reshape(1, -1)
        if overflow is Overflow.wrap_sign_magnitude:
            with pytest.raises(TooWide):
                run_fast(step, codes, codes)
            continue
        assert twins(step, codes, codes)[1]["sum"].count > 0


@pytest.mark.parametrize("register", [None, Register(48), Register(41, "wrap"), Register(30, drop=8)])
def test_a_wide_content_meets_a_wide_multiplier_without_losing_bits(register):
    """A 41-bit sum times a 31-bit constant has 72 bits: the compiled rescaling has to know."""
    a, b = affine(40, Fraction(1, 2**20)), affine(40, Fraction(1, 2**20))
    datapath = Elementwise(Multiplier(32, "half_up"), "finest", register=register)
    step = make_step(OPS["add"], [a, b], affine(24, Fraction(1, 3)), [(None, 50)] * 2, datapath)
    twins(step, codes_of(a, (2, 50), 1), codes_of(b, (2, 50), 2))
