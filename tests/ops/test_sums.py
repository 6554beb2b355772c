"""Every operation that sums products: both engines, all kernel paths, random datapaths, formats and shapes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.errors import BadInput, DoesNotFit, TooWide
from fixqnn.format import Format, affine, binary, fixed
from fixqnn.modes import Rounding
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier
from tests.stepping import fitting_step, make_step, run_exact, run_fast, twins, twins_unless_too_wide
from tests.strategies import codes_of, formats, registers, scalers

MANY = settings(max_examples=220, deadline=None)
SOME = settings(max_examples=120, deadline=None)
AXES = ("depth", "row", "column", "channel")


@st.composite
def stages(draw: Any) -> tuple[Stage, ...]:
    count = draw(st.integers(1, 3))
    made = []
    for level in range(count):
        register = draw(registers(bits=(4, 26), drops=(0, draw(st.sampled_from([0, 0, 3])))))
        size = within = None
        if level < count - 1:
            size = draw(st.one_of(st.none(), st.integers(1, 7)))
            within = draw(st.sampled_from(AXES)) if size is None or draw(st.booleans()) else None
        out = draw(registers(bits=(4, 20), drops=(0, 2))) if draw(st.integers(0, 4)) == 0 else None
        made.append(Stage(register, size, within, out))
    return tuple(made)


@st.composite
def datapaths(draw: Any, bias: bool = True) -> SumOfProducts:
    product = draw(registers(bits=(3, 20))) if draw(st.integers(0, 2)) == 0 else None
    plain = (
        Stage(Register(draw(st.integers(6, 40)), draw(st.sampled_from(["saturate", "wrap", "saturate_symmetric"])))),
    )
    tiled = (
        Stage(Register(draw(st.integers(5, 18))), draw(st.integers(1, 9))),
        Stage(Register(draw(st.integers(8, 40)))),
    )
    chosen = draw(st.sampled_from(["plain", "tiled", "any", "any"]))
    summed = {"plain": plain, "tiled": tiled}.get(chosen) or draw(stages())
    zero_point = draw(st.sampled_from(["subtracted", "subtracted", "folded"])) if bias else "subtracted"
    return SumOfProducts(
        draw(scalers()), product, summed, tuple(draw(st.permutations(AXES))), "product", zero_point,
        draw(st.sampled_from(["first", "last"])),
    )  # fmt: skip


@st.composite
def weight_formats(draw: Any, axis: int, channels: int) -> Format:
    form = draw(formats(bits=(1, 8), zero_points=draw(st.integers(0, 3)) == 0))
    if draw(st.booleans()):
        return form
    scales = [form.scale * Fraction(draw(st.integers(1, 9)), 4) for _ in range(channels)]
    return Format(form.bits, form.signed, tuple(scales), form.zero_point, axis)


def bias_format(x: Format, w: Format, channels: int, bits: int = 14) -> Format:
    denominator = Fraction(x.zero_point).denominator
    scales = [x.scale / denominator * w.scale_at(i % w.channels) / Fraction(w.zero_at(i % w.channels)).denominator
              for i in range(channels)]  # fmt: skip
    return affine(bits, scales, axis=0) if w.per_channel else affine(bits, scales[0])


def paths_agree(step: Step, *codes: np.ndarray, seed: int = 0) -> None:
    """The planned path and the one that covers everything give the definition's codes and events."""
    twins_unless_too_wide(step, *codes, seed=seed)
    if step.op.plan is not None:
        try:
            path, _ = step.op.plan(replace(step))
        except (TooWide, DoesNotFit):  # wider than 62 bits, or a forbidden overflow that lowering foresees
            return
        event(f"path {path}")
        for forced in {"wide", path}:
            try:
                twins(replace(step, path=forced), *codes, seed=seed)
            except TooWide:
                event(f"{forced} too wide")


@MANY
@given(data=st.data())
def test_linear_agrees(data):
    d, m = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 9))
    lead = data.draw(st.sampled_from([(), (), (3,), (2, 2)]))
    x, w = data.draw(formats()), data.draw(weight_formats(0, m))
    bias, seed = data.draw(st.booleans()), data.draw(st.integers(0, 2**20))
    x_shape = (None, *lead, d)
    ins, shapes = [x, w], [x_shape, (m, d)]
    constants = {1: codes_of(w, (m, d), seed)}
    if bias:
        ins.append(bias_format(x, w, m))
        shapes.append((m,))
        constants[2] = codes_of(ins[2], (m,), seed + 1)
    step = fitting_step(OPS["linear"], ins, data.draw(formats(bits=(1, 12))), shapes, data.draw(datapaths()), constants)
    codes = codes_of(x, (data.draw(st.integers(1, 4)), *lead, d), seed + 2)
    paths_agree(step, codes, *constants.values(), seed=seed)


@MANY
@given(data=st.data())
def test_conv_agrees(data):
    rank = data.draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups, per_group, outputs = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    stride = tuple(data.draw(st.integers(1, 2)) for _ in range(rank))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(rank))
    padding = tuple((data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(rank))
    size = tuple(d * (k - 1) + 1 + data.draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True))
    x, w = data.draw(formats()), data.draw(weight_formats(0, groups * outputs))
    seed = data.draw(st.integers(0, 2**20))
    w_shape = (groups * outputs, per_group, *kernel)
    constants = {1: codes_of(w, w_shape, seed)}
    ins, shapes = [x, w], [(None, groups * per_group, *size), w_shape]
    if data.draw(st.booleans()):
        ins.append(bias_format(x, w, groups * outputs))
        shapes.append((groups * outputs,))
        constants[2] = codes_of(ins[2], (groups * outputs,), seed + 1)
    step = fitting_step(
        OPS["conv"], ins, data.draw(formats(bits=(1, 12))), shapes, data.draw(datapaths()), constants,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    codes = codes_of(x, (data.draw(st.integers(1, 2)), groups * per_group, *size), seed + 2)
    paths_agree(step, codes, *constants.values(), seed=seed)


@SOME
@given(data=st.data())
def test_transposed_conv_agrees(data):
    rank = data.draw(st.sampled_from([1, 2]))
    groups, per_group, outputs = (data.draw(st.integers(1, 2)) for _ in range(3))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    stride = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(rank))
    padding = tuple(data.draw(st.integers(0, (k - 1) * d)) for k, d in zip(kernel, dilation, strict=True))
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    size = tuple(data.draw(st.integers(2, 4)) for _ in range(rank))
    lengths = zip(size, stride, padding, dilation, kernel, extra, strict=True)
    assume(min((n - 1) * s - 2 * p + d * (k - 1) + e for n, s, p, d, k, e in lengths) >= 0)
    x, w = data.draw(formats()), data.draw(weight_formats(1, outputs))
    seed = data.draw(st.integers(0, 2**20))
    w_shape = (groups * per_group, outputs, *kernel)
    constants = {1: codes_of(w, w_shape, seed)}
    step = fitting_step(
        OPS["conv_transpose"], [x, w], data.draw(formats(bits=(1, 12))), [(None, groups * per_group, *size), w_shape],
        data.draw(datapaths()), constants,
        stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups,
    )  # fmt: skip
    paths_agree(step, codes_of(x, (2, groups * per_group, *size), seed + 2), *constants.values(), seed=seed)


@SOME
@given(data=st.data())
def test_matmul_agrees(data):
    n, k, m = (data.draw(st.integers(1, 5)) for _ in range(3))
    lead = data.draw(st.sampled_from([((None,), (None,)), ((None, 2), (None, 2)), ((None, 3), (None, 1))]))
    a, b = data.draw(formats()), data.draw(formats())
    shapes = [(*lead[0], n, k), (*lead[1], k, m)]
    step = fitting_step(OPS["matmul"], [a, b], data.draw(formats()), shapes, data.draw(datapaths(bias=False)))
    seed = data.draw(st.integers(0, 2**20))
    codes = [codes_of(f, (2, *s[1:]), seed + i) for i, (f, s) in enumerate(zip((a, b), shapes, strict=True))]
    twins_unless_too_wide(step, *codes, seed=seed)


@MANY
@given(data=st.data())
def test_averages_agree(data):
    rank = data.draw(st.sampled_from([1, 2, 2, 3]))
    size = tuple(data.draw(st.integers(2, 5)) for _ in range(rank))
    x = data.draw(formats())
    kind = data.draw(st.sampled_from(["average_pool", "adaptive_average_pool", "mean"]))
    attributes: dict[str, Any] = {}
    if kind == "average_pool":
        attributes["kernel"] = tuple(data.draw(st.integers(1, n)) for n in size)
        attributes["stride"] = tuple(data.draw(st.integers(1, 3)) for _ in size)
        attributes["padding"] = tuple((data.draw(st.integers(0, k // 2)), data.draw(st.integers(0, k // 2)))
                                      for k in attributes["kernel"])  # fmt: skip
        attributes["include_padding"] = data.draw(st.booleans())
    elif kind == "adaptive_average_pool":
        attributes["output"] = tuple(data.draw(st.integers(1, n)) for n in size)
    else:
        axes = data.draw(st.lists(st.integers(1, rank + 1), min_size=1, max_size=rank + 1, unique=True))
        attributes |= {"axes": tuple(axes), "keepdims": data.draw(st.booleans())}
    datapath = data.draw(datapaths(bias=False))
    out = data.draw(formats(bits=(1, 12)))
    if data.draw(st.integers(0, 4)) == 0:
        datapath, out = replace(datapath, zero_point="ignored"), x
    step = fitting_step(OPS[kind], [x], out, [(None, 2, *size)], datapath, **attributes)
    seed = data.draw(st.integers(0, 2**20))
    codes = codes_of(x, (2, 2, *size), seed)
    paths_agree(step, codes, seed=seed) if kind != "adaptive_average_pool" else twins_unless_too_wide(step, codes)


@SOME
@given(data=st.data())
def test_narrow_saturating_registers_take_a_path_in_lanes_and_agree(data):
    channels, outputs = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 3, 8, 200]))
    side = data.draw(st.sampled_from([3, 9]))
    bits, outer = data.draw(st.integers(8, 16)), data.draw(st.sampled_from([None, 14, 20, 32]))
    inner = Register(bits, data.draw(st.sampled_from(["saturate", "saturate_symmetric"])))
    summed = (Stage(inner),)
    if outer:
        summed = (Stage(inner, data.draw(st.sampled_from([3, 4, 16]))), Stage(Register(outer)))
    x, w = fixed(8, 4, signed=data.draw(st.booleans())), fixed(8, 6)
    seed = data.draw(st.integers(0, 2**20))
    constants = {1: codes_of(w, (outputs, channels, 3, 3), seed), 2: codes_of(fixed(10, 10), (outputs,), seed)}
    step = make_step(
        OPS["conv"], [x, w, fixed(10, 10)], fixed(8, 2), [(None, channels, side, side), (outputs, channels, 3, 3), (outputs,)],
        SumOfProducts(Shift("half_even"), sum=summed), constants,
        stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    path, _ = step.op.plan(step)
    event(path)
    codes = codes_of(x, (2, channels, side, side), seed)
    fast, events = run_fast(step, codes, *constants.values())
    wide, wide_events = run_fast(replace(step, path="wide"), codes, *constants.values())
    assert np.array_equal(fast, wide)
    assert events == wide_events
    if outputs * channels < 40:
        twins(step, codes, *constants.values())


# -- stochastic rounding -----------------------------------------------------------------------------------------------


def stochastic_step() -> tuple[Step, np.ndarray, dict[int, np.ndarray]]:
    random = Rounding.stochastic
    datapath = SumOfProducts(
        Shift(random), Register(16, rounding=random, drop=3),
        (Stage(Register(14, rounding=random, drop=1), 3, out=Register(12, rounding=random, drop=1)), Stage(Register(16))),
    )  # fmt: skip
    x, w = fixed(8, 4), fixed(8, 6)
    constants = {1: codes_of(w, (4, 2, 3, 3), 1), 2: codes_of(fixed(12, 10), (4,), 2)}
    step = make_step(
        OPS["conv"], [x, w, fixed(12, 10)], fixed(8, 1), [(None, 2, 5, 5), (4, 2, 3, 3), (4,)], datapath, constants,
        stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    return step, codes_of(x, (4, 2, 5, 5), 3), constants


def test_stochastic_rounding_agrees_and_follows_its_seed():
    step, codes, constants = stochastic_step()
    seven, _ = twins(step, codes, *constants.values(), seed=7)
    eight, _ = run_fast(step, codes, *constants.values(), seed=8)
    assert (seven != eight).any()


def test_stochastic_rounding_does_not_depend_on_how_a_batch_is_cut():
    step, codes, constants = stochastic_step()
    whole, _ = run_fast(step, codes, *constants.values(), seed=7)
    parts = [run_fast(step, codes[i : i + 1], *constants.values(), seed=7, first_sample=i)[0] for i in range(4)]
    assert np.array_equal(whole, np.concatenate(parts))


# -- wide formats, half zero points, popcounts, folded zero points -------------------------------------------------------


def test_nothing_rounds_in_wide_formats_and_the_result_is_the_real_one():
    random = np.random.default_rng(0)
    x, w = fixed(20, 10), fixed(18, 12)
    xs, ws = x.decode(codes_of(x, (2, 3, 4, 4), 1)), w.decode(codes_of(w, (5, 3, 2, 2), 2))
    attributes = {"stride": (1, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 1), "groups": 1}
    real = OPS["conv"].real(xs, ws, **attributes)
    step = make_step(
        OPS["conv"], [x, w], fixed(48, 22), [(None, 3, 4, 4), ws.shape], SumOfProducts(Shift(), sum=(Stage(Register(50)),)),
        {1: w.encode(ws)}, **attributes,
    )  # fmt: skip
    codes, events = twins(step, x.encode(xs), w.encode(ws))
    assert np.array_equal(step.out_format.decode(codes), real)
    assert all(e.count == 0 for e in events.values())
    assert random is not None


def test_registers_of_a_hundred_bits_run_in_the_exact_engine_only():
    x, w = fixed(60, 30), fixed(60, 30)
    constants = {1: codes_of(w, (1, 3), 1)}
    step = make_step(OPS["linear"], [x, w], fixed(130, 60), [(None, 3), (1, 3)],
                     SumOfProducts(Shift(), sum=(Stage(Register(128)),)), constants)  # fmt: skip
    codes = codes_of(x, (1, 3), 2)
    found, _ = run_exact(step, codes, constants[1])
    assert found[0, 0] == sum(int(a) * int(b) for a, b in zip(codes[0], constants[1][0], strict=True))
    with pytest.raises(TooWide, match="62"):
        step.op.plan(step)


@pytest.mark.parametrize("term", ["product", "xnor"])
def test_binary_codes_multiply_as_plus_and_minus_one(term):
    x, w = codes_of(binary(), (6, 13), 1), codes_of(binary(), (4, 13), 2)
    register = Register(4, signed=False) if term == "xnor" else Register(6)
    datapath = SumOfProducts(Exact(), sum=(Stage(register),), term=term)
    step = make_step(OPS["linear"], [binary(), binary()], fixed(6, 0), [(None, 13), (4, 13)], datapath, {1: w})
    codes, _ = twins(step, x, w)
    assert codes.tolist() == ((2 * x - 1) @ (2 * w - 1).T).tolist()


def test_a_popcount_register_that_is_too_narrow_saturates_at_its_top():
    x = np.ones((1, 13), np.int32)
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(3, signed=False)),), term="xnor")
    step = make_step(OPS["linear"], [binary(), binary()], fixed(6, 0), [(None, 13), (1, 13)], datapath, {1: x})
    codes, events = twins(step, x, x)
    assert codes.tolist() == [[2 * 7 - 13]]
    assert events["sum[0]"].above.tolist() == [6]


def test_a_narrow_popcount_register_counts_agreements_and_not_products():
    x, w = codes_of(binary(), (6, 13), 1), codes_of(binary(), (4, 13), 2)
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(3, signed=False)),), term="xnor")
    step = make_step(OPS["linear"], [binary(), binary()], fixed(6, 0), [(None, 13), (4, 13)], datapath, {1: w})
    assert step.op.plan(step)[0] == "wide"
    codes, _ = twins(step, x, w)  # products of ±1 would take the register below zero
    agreements = 13 - ((2 * x - 1)[:, None] != (2 * w - 1)[None]).sum(axis=2)
    assert codes.tolist() == (2 * np.minimum(agreements, 7) - 13).tolist()


def test_folded_zero_points_change_what_a_narrow_register_sees_but_not_the_exact_sum():
    x, w = affine(8, 0.5, 100, signed=False), fixed(8, 0)
    codes, weights = np.full((1, 4), 100, np.int32), np.full((1, 4), 100, np.int32)

    def step(zero_point: str, bits: int) -> Step:
        datapath = SumOfProducts(Exact(), sum=(Stage(Register(bits)),), zero_point=zero_point, bias="last")
        return make_step(OPS["linear"], [x, w], fixed(8, 0), [(None, 4), (1, 4)], datapath, {1: weights})

    assert twins(step("subtracted", 16), codes, weights)[0].tolist() == [[0]]
    assert twins(step("folded", 20), codes, weights)[0].tolist() == [[0]]
    found, events = twins(step("folded", 16), codes, weights)
    assert found.tolist() == [[-128]]  # raw sums stop at 32767, then −40000 is added
    assert events["sum[0]"].count == 1


# -- tiles, witnesses --------------------------------------------------------------------------------------------------


def test_tiles_that_stop_at_each_kernel_position():
    # three channels at each of four positions, tiles of at most two within a position: 2 + 1 terms each
    x, w = fixed(8, 0), fixed(8, 0)
    codes, weights = np.full((1, 3, 2, 2), 10, np.int32), np.full((1, 3, 2, 2), 10, np.int32)
    summed = (Stage(Register(8), 2, "channel"), Stage(Register(16)))
    step = make_step(
        OPS["conv"], [x, w], fixed(16, 0), [(None, 3, 2, 2), (1, 3, 2, 2)], SumOfProducts(Shift(), sum=summed), {1: weights},
        stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    found, events = twins(step, codes, weights)
    assert found.item() == 4 * (127 + 100)
    assert events["sum[0]"].count == 4


def test_order_decides_what_a_saturating_register_ends_with():
    # three products 16384, 16384, −16256: clipped at 32767 on the way, so 16511 and not the exact 16512
    x, w = fixed(8, 0), fixed(8, 0)
    codes, weights = np.full((1, 3), -128, np.int32), np.array([[-128, -128, 127]], np.int32)
    datapath = SumOfProducts(Shift(), sum=(Stage(Register(16)),))
    step = make_step(OPS["linear"], [x, w], fixed(20, 0), [(None, 3), (1, 3)], datapath, {1: weights})
    found, events = twins(step, codes, weights)
    assert found.item() == 16511
    first = events["sum[0]"].first
    assert (first.sample, first.channel, first.index, first.value) == (0, 0, 1, 32768)


def test_the_witness_is_the_earliest_sample_then_position_then_channel():
    x, w = fixed(8, 0), fixed(8, 0)
    codes = np.zeros((3, 1, 2, 2), np.int32)
    codes[1, 0, 1, 0] = 100
    codes[2] = 100
    weights = np.array([1, 3, 2], np.int32).reshape(3, 1, 1, 1)
    step = make_step(
        OPS["conv"], [x, w], fixed(16, 0), [(None, 1, 2, 2), (3, 1, 1, 1)], SumOfProducts(Shift(), sum=(Stage(Register(8)),)),
        {1: weights}, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    _, events = twins(step, codes, weights)
    first = events["sum[0]"].first
    assert (first.sample, first.position, first.channel, first.index, first.value) == (1, (1, 0), 1, 0, 300)
    assert events["sum[0]"].per_channel.tolist() == [0, 5, 5]


# -- scalers past 62 bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", [r for r in Rounding if r is not Rounding.stochastic])
def test_a_48_bit_accumulator_times_a_32_bit_multiplier(rounding):
    x, w = affine(24, 0.37), affine(24, 0.0021)
    weights = codes_of(w, (3, 4), 5)
    datapath = SumOfProducts(Multiplier(32, rounding), sum=(Stage(Register(50)),))
    step = make_step(OPS["linear"], [x, w], affine(30, 11.3), [(None, 4), (3, 4)], datapath, {1: weights})
    twins(step, codes_of(x, (400, 4), 6), weights)


@pytest.mark.parametrize(
    "scaler", [Exact(), Float("float64"), Float("float32"), TwoStepMultiplier(), Divide("half_even", Exact())]
)
def test_free_scales_leave_no_tie_to_chance(scaler):
    x, w = affine(8, 1 / 3), affine(8, Fraction(1, 7))
    weights = codes_of(w, (5, 9), 5)
    step = make_step(
        OPS["linear"], [x, w], affine(8, Fraction(2, 21)), [(None, 9), (5, 9)], SumOfProducts(scaler), {1: weights}
    )
    twins(step, codes_of(x, (300, 9), 6), weights)


# -- real meaning ------------------------------------------------------------------------------------------------------


def test_real_meanings_equal_torch():
    random, functional = np.random.default_rng(0), torch.nn.functional
    x, w, b = random.normal(size=(2, 4, 7, 6)), random.normal(size=(6, 2, 3, 2)), random.normal(size=6)
    t = torch.from_numpy
    ours = OPS["conv"].real(x, w, b, stride=(2, 1), padding=((1, 1), (0, 0)), dilation=(1, 2), groups=2)
    theirs = functional.conv2d(t(x), t(w), t(b), (2, 1), (1, 0), (1, 2), 2)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)  # float64 sums in another order
    w = random.normal(size=(4, 3, 3, 2))
    ours = OPS["conv_transpose"].real(
        x, w, b, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), dilation=(1, 2), groups=2
    )
    theirs = functional.conv_transpose2d(t(x), t(w), t(b), (2, 3), (1, 0), (1, 2), 2, (1, 2))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)
    for include in (True, False):
        ours = OPS["average_pool"].real(
            x, kernel=(3, 2), stride=(2, 1), padding=((1, 1), (1, 1)), include_padding=include
        )
        theirs = functional.avg_pool2d(t(x), (3, 2), (2, 1), (1, 1), count_include_pad=include)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)
    ours = OPS["adaptive_average_pool"].real(x, output=(3, 4))
    np.testing.assert_allclose(ours, functional.adaptive_avg_pool2d(t(x), (3, 4)).numpy(), rtol=1e-12, atol=1e-12)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_scale_that_is_no_power_of_two_does_not_fit_a_shift():
    with pytest.raises(DoesNotFit, match=r"step \(linear\).*0\.3.*power of two"):
        make_step(OPS["linear"], [affine(8, 0.3), fixed(8, 0)], fixed(8, 0), [(None, 2), (1, 2)], SumOfProducts(Shift()),
                  {1: np.ones((1, 2), np.int32)})  # fmt: skip


def test_a_forced_path_without_proof_says_what_fails():
    weights = np.full((1, 9), 127, np.int32)
    step = make_step(OPS["linear"], [fixed(8, 0), fixed(8, 0)], fixed(8, 0), [(None, 9), (1, 9)],
                     SumOfProducts(Shift(), sum=(Stage(Register(16)),)), {1: weights})  # fmt: skip
    with pytest.raises(BadInput, match=r"'sum' is not proved.*channel 0 reach.*16 bits"):
        step.op.plan(replace(step, path="sum"))
    with pytest.raises(BadInput, match="no kernel path 'quick'"):
        step.op.plan(replace(step, path="quick"))


def test_a_bound_that_just_fits_is_taken_and_one_code_less_is_refused():
    weights = np.array([[127, 1]], np.int32)  # the largest sum is 127·127 + 127 = 16256, the smallest −16384
    for bits, path in ((15, "sum/int8"), (14, "lanes32")):
        datapath = SumOfProducts(Shift(), sum=(Stage(Register(bits)),))
        step = make_step(
            OPS["linear"], [fixed(8, 0), fixed(8, 0)], fixed(16, 0), [(None, 2), (1, 2)], datapath, {1: weights}
        )
        assert step.op.plan(step)[0] == path


def test_an_order_that_forgets_an_axis_does_not_fit():
    datapath = SumOfProducts(Exact(), order=("row", "channel"))
    with pytest.raises(DoesNotFit, match="column"):
        make_step(
            OPS["conv"], [fixed(8, 0), fixed(8, 0)], fixed(8, 0), [(None, 1, 3, 3), (1, 1, 2, 2)], datapath,
            {1: np.ones((1, 1, 2, 2), np.int32)}, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1,
        )  # fmt: skip


# -- found by looking for trouble ---------------------------------------------------------------------------------------


def test_a_folded_zero_point_is_corrected_beside_a_real_bias_too():
    x, w = affine(8, 0.5, 100, signed=False), fixed(8, 0)
    weights, codes = np.full((1, 4), 3, np.int32), np.full((1, 4), 110, np.int32)
    datapath = SumOfProducts(Float(), sum=(Stage(Register(32)),), zero_point="folded", bias="scaler")
    step = make_step(OPS["linear"], [x, w], fixed(16, 0), [(None, 4), (1, 4)], datapath, {1: weights})
    assert twins(step, codes, weights)[0].item() == 60


def test_a_bias_rounded_at_random_into_its_register_agrees():
    datapath = SumOfProducts(Shift(), sum=(Stage(Register(16), 2), Stage(Register(16, rounding="stochastic"))))
    constants = {1: np.full((4, 4), 3, np.int32), 2: np.array([1, 2, 3, -1], np.int32)}
    step = make_step(OPS["linear"], [fixed(8, 4), fixed(8, 4), fixed(16, 10)], fixed(16, 8), [(None, 4), (4, 4), (4,)],
                     datapath, constants)  # fmt: skip
    twins(step, np.full((3, 4), 5), *constants.values())


@pytest.mark.parametrize("modes", [{"first": "stochastic"}, {"second": "stochastic"}])
def test_an_average_that_is_rescaled_at_random_agrees(modes):
    datapath = SumOfProducts(Divide(then=TwoStepMultiplier(**modes)))
    step = make_step(OPS["mean"], [fixed(8, 4)], affine(8, 0.013), [(None, 3, 5)], datapath, axes=(2,), keepdims=False)
    twins(step, np.arange(30).reshape(2, 3, 5))


def test_an_unsigned_register_that_wraps_holds_large_codes_after_small_negative_sums():
    datapath = SumOfProducts(Exact("floor", "wrap"), sum=(Stage(Register(9, "wrap", signed=False)),))
    x = affine(1, Fraction(17, 50), 1)
    step = make_step(
        OPS["mean"], [x], affine(1, 1.15, signed=False), [(None, 2, 2)], datapath, axes=(2,), keepdims=False
    )
    twins(step, np.array([[[0, -1], [-1, -1]]]))


def test_padding_on_one_side_of_a_window_of_one_is_no_matrix_product():
    weights = np.ones((3, 1, 1), np.int32)
    step = make_step(
        OPS["conv"], [fixed(8, 0), fixed(8, 0)], fixed(8, 0), [(None, 1, 1), (3, 1, 1)], SumOfProducts(Shift()), {1: weights},
        stride=(1,), padding=((0, 1),), dilation=(1,), groups=1,
    )  # fmt: skip
    assert twins(step, np.array([[[5]]]), weights)[0].tolist() == [[[5, 0]] * 3]


def test_output_padding_past_stride_and_dilation_is_refused_as_torch_does():
    with pytest.raises(BadInput, match="output_padding"):
        OPS["conv_transpose"].shape(
            (None, 2, 3), (2, 1, 2), stride=(1,), padding=(0,), output_padding=(1,), dilation=(1,)
        )
