"""Forms of a step in vector lanes, forced: codes and events are those of the definition and of the wide path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.format import Format, affine, fixed
from fixqnn.kernels.vectors import LANES, MOST
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.scaler import Shift
from tests.stepping import make_step, run_fast, twins
from tests.strategies import codes_of, roundings

SOME = settings(max_examples=40, deadline=None)
BYTE = fixed(8, 0)
BYTES = [BYTE, fixed(8, 0, signed=False), affine(8, 1, 100, signed=False), affine(8, 1, 300, signed=False)]
OUTPUTS = [1, 3, LANES, 2 * LANES + 1, MOST - 1, MOST + 5]
IMAGE = {"stride": (1, 1), "padding": ((1, 1), (1, 0)), "dilation": (1, 1)}

clamps = st.sampled_from(["saturate", "forbid"])
others = st.sampled_from(["saturate", "wrap", "saturate_symmetric", "saturate_zero"])


def codes(form: Format, shape: tuple[int, ...], seed: int, spread: int) -> np.ndarray:
    """Codes of a format, corners among them; with `spread`, so near zero that some sums stay inside their registers."""
    if not spread:
        return codes_of(form, shape, seed)
    near = np.random.default_rng(seed).integers(-spread, spread + 1, shape) + int(form.zero_point)
    return near.clip(form.low, form.high).astype(form.code_dtype)


def linear(
    product: Register | None, stages: tuple[Stage, ...], rows: int, terms: int, outputs: int, x: Format,
    w: Format = BYTE, bias: int | None = None, seed: int = 0, spread: int = 0, **more: Any,
) -> tuple[Step, list[np.ndarray]]:  # fmt: skip
    """A matrix product whose output is its last register, and codes."""
    shapes, formats = [(None, terms), (outputs, terms)], [x, w]
    made = [codes(x, (rows, terms), seed + 1, spread), codes(w, (outputs, terms), seed, spread)]
    if bias is not None:
        shapes.append((outputs,))
        formats.append(fixed(16, -product.drop if product else 0))
        made.append(np.full(outputs, bias))
    return _step("linear", product, stages, shapes, formats, made, **more)


def conv(
    product: Register | None, stages: tuple[Stage, ...], channels: int, outputs: int, groups: int, x: Format,
    seed: int = 0, spread: int = 0, **more: Any,
) -> tuple[Step, list[np.ndarray]]:  # fmt: skip
    """A convolution with a border, and codes."""
    shapes = [(None, groups * channels, 5, 4), (groups * outputs, channels, 3, 2)]
    w = fixed(8, 0)
    made = [codes(x, (2, *shapes[0][1:]), seed + 1, spread), codes(w, shapes[1], seed, spread)]
    return _step("conv", product, stages, shapes, [x, w], made, groups=groups, **IMAGE, **more)


def _step(
    op: str, product: Register | None, stages: tuple[Stage, ...], shapes: list, formats: list[Format], made: list[np.ndarray],
    at: str = "first", **attributes: Any,
) -> tuple[Step, list[np.ndarray]]:  # fmt: skip
    places = [product, *(place for stage in stages for place in (stage.register, stage.out))]
    drop = sum(place.drop for place in places if place)
    datapath = SumOfProducts(Shift("half_even"), product, stages, bias=at)
    constants = dict(enumerate(made[1:], 1))
    return make_step(OPS[op], formats, fixed(36, -drop), shapes, datapath, constants, **attributes), made


def forced(step: Step, path: str, said: str, made: list[np.ndarray]) -> dict[str, int]:
    """The path, with these words in its reason, gives the definition's codes and events, and so does the wide one.

    Returns how often every register acted.
    """
    step = replace(step, path=path)
    reason = step.op.plan(step)[1]
    assert said in reason, reason
    want, events = twins(step, *made)
    again, same = run_fast(replace(step, path="wide"), *made)
    assert np.array_equal(want, again)
    assert events == same
    return {name: e.count for name, e in events.items() if name != "output"}


# -- products rounded by the multiplier ------------------------------------------------------------------------------------


@SOME
@given(data=st.data())
def test_the_high_half_of_a_product_agrees(data):
    rounding, drop = data.draw(st.sampled_from(["floor", "half_up"])), data.draw(st.integers(2, 9))
    bits, overflow = data.draw(st.integers(18, 22)), data.draw(clamps)
    x = data.draw(st.sampled_from(BYTES[:3]))
    if data.draw(st.booleans()):
        product, register = Register(16, rounding=rounding, drop=drop), Register(bits, overflow)
    else:
        product, register = None, Register(bits, overflow, rounding=rounding, drop=drop)
    stages: tuple[Stage, ...] = (Stage(register),)
    if data.draw(st.booleans()):
        stages = (
            Stage(register, data.draw(st.integers(1, 200))),
            Stage(Register(data.draw(st.sampled_from([20, 32])))),
        )
    step, made = linear(
        product, stages, data.draw(st.integers(1, 14)), data.draw(st.sampled_from([1, 2, 63, 300])),
        data.draw(st.sampled_from(OUTPUTS)), x, seed=data.draw(st.integers(0, 2**20)),
        spread=data.draw(st.sampled_from([0, 20])),
    )  # fmt: skip
    counts = forced(step, "lanes32", "as the high half", made)
    event(f"some act: {any(counts.values())}")


@pytest.mark.parametrize("rounding", ["floor", "half_up"])
@pytest.mark.parametrize("drop", [5, 6])
def test_every_product_of_a_byte_is_rounded_right(rounding, drop):
    """One term each, so that nothing hides a product: all of [-128, 127] by [-128, 127]."""
    values = np.arange(-128, 128)
    register = Register(18, rounding=rounding, drop=drop)
    made = [values[:, None], values[:, None]]
    step, _ = _step("linear", None, (Stage(register),), [(None, 1), (256, 1)], [fixed(8, 0)] * 2, made)
    forced(step, "lanes32", "as the high half", made)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("channels", [1, 5])
def test_the_high_half_agrees_in_convolutions(groups, channels):
    stages = (Stage(Register(18, rounding="half_up", drop=2)),)
    for x in BYTES[:3]:
        step, made = conv(None, stages, channels, 4, groups, x, seed=groups)
        forced(step, "lanes32", "as the high half", made)


def test_a_bias_begins_a_sum_of_rounded_products():
    for rounding in ("floor", "half_up"):
        product = Register(16, rounding=rounding, drop=3)
        step, made = linear(product, (Stage(Register(18)),), 9, 40, 33, fixed(8, 0), bias=-12000, spread=9)
        forced(step, "lanes32", "as the high half", made)


# -- totals of an inert stage ------------------------------------------------------------------------------------------------


@SOME
@given(data=st.data())
def test_sums_that_are_clamped_every_few_terms_agree(data):
    size, x = data.draw(st.integers(1, 20)), data.draw(st.sampled_from(BYTES))
    bits, drop = data.draw(st.integers(9, 20)), data.draw(st.sampled_from([0, 0, 3, 6]))
    register = Register(bits, data.draw(others), rounding=data.draw(roundings), drop=drop)
    inner, bias, out = Register(32, data.draw(others)), None, None
    stages: tuple[Stage, ...] = (Stage(inner, size), Stage(register))
    if data.draw(st.booleans()):
        out = Register(12, drop=1) if data.draw(st.booleans()) else None
        stages = (Stage(inner, size), Stage(register, data.draw(st.integers(1, 9)), out=out), Stage(Register(18)))
    elif drop == 0:
        bias = data.draw(st.sampled_from([None, 100, -100]))
    step, made = linear(
        None, stages, data.draw(st.integers(1, 14)), data.draw(st.sampled_from([1, 5, 64, 150])),
        data.draw(st.sampled_from(OUTPUTS)), x, bias=bias, seed=data.draw(st.integers(0, 2**20)),
        spread=data.draw(st.sampled_from([0, 6])),
    )  # fmt: skip
    counts = forced(step, "lanes32", "of an exact total of sum", made)
    event(f"some act: {any(counts.values())}")


@pytest.mark.parametrize("x", BYTES, ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (5, 1), (3, 2), (1, 4)])
def test_totals_agree_in_convolutions(x, channels, groups):
    for size, within in ((4, None), (None, "channel"), (None, "row")):
        stages = (Stage(Register(30), size, within), Stage(Register(14)))
        step, made = conv(None, stages, channels, 3, groups, x, seed=channels)
        for path, said in (("lanes32", "of an exact total of sum[0]"), ("certified", "sum[1] rarely acts")):
            counts = forced(step, path, said, made)
            assert counts["sum[1]"] > 0
            assert counts["sum[0]"] == 0


def test_totals_of_wide_operands_and_of_finer_steps_agree():
    x, w = fixed(12, 0), fixed(10, 0)
    for register in (Register(22), Register(26, frac=2), Register(20, rounding="half_even", drop=2)):
        stages = (Stage(Register(30), 7), Stage(register))
        step, made = linear(None, stages, 8, 150, 20, x, w)
        forced(step, "lanes32", "of an exact total of sum[0]", made)


def test_rows_past_the_end_have_no_events_where_a_byte_of_zero_is_no_zero():
    """The last block of rows is filled up with real zeros: −100 or −300 + 300 would overflow on its own."""
    for x in BYTES:
        for rows in (1, 5, 7):
            step, made = linear(None, (Stage(Register(30), 8), Stage(Register(15))), rows, 64, 16, x)
            forced(step, "lanes32", "of an exact total of sum[0]", made)


def test_a_second_inert_stage_is_passed_over_too():
    stages = (Stage(Register(30), 4), Stage(Register(30), 3), Stage(Register(15)))
    step, made = linear(None, stages, 9, 130, 20, fixed(8, 0))
    assert forced(step, "lanes32", "of an exact total of sum[1]", made)["sum[2]"] > 0


@pytest.mark.parametrize("x", BYTES, ids=str)
def test_watched_totals_agree_inside_and_at_the_registers_ends(x):
    """Spread by spread, more and more blocks of rows lose their certificate."""
    acted = []
    for spread in (1, 3, 6, 12, 40):
        stages = (Stage(Register(30), 16), Stage(Register(15), 20), Stage(Register(16)))
        step, made = linear(None, stages, 13, 330, 3, x, seed=spread, spread=spread)
        acted.append(forced(step, "certified", "sum[1] rarely acts", made)["sum[1]"])
    assert acted[0] == 0
    assert acted[-1] > 0


@pytest.mark.parametrize("weaker", [False, True])
def test_a_first_stage_that_acts_once_is_no_exact_total(weaker):
    """7 · 127 · 16 fits 15 bits; with one bit less the largest tile is clamped, and a total would not tell."""
    stages = (Stage(Register(14 if weaker else 15), 16), Stage(Register(16)))
    made = [np.full((1, 64), 127), np.full((1, 64), 7)]
    step, _ = _step("linear", None, stages, [(None, 64), (1, 64)], [fixed(8, 0)] * 2, made)
    said = "saturates at every addition: " if weaker else "of an exact total of sum[0]"
    counts = forced(step, "lanes32", said, made)
    assert (counts["sum[0]"] > 0) == weaker


def test_depthwise_sums_in_16_bit_lanes_take_32_bits():
    x, shapes = fixed(4, 0), [(None, 20, 5, 4), (40, 1, 3, 2)]
    made = [codes_of(x, (2, *shapes[0][1:]), 1), codes_of(x, shapes[1], 2)]
    step, _ = _step("conv", None, (Stage(Register(8)),), shapes, [x, x], made, groups=20, **IMAGE)
    assert forced(step, "lanes16", "16-bit lanes", made)["sum[0]"] > 0
