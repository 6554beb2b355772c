"""How wide registers must be: nothing proven is ever violated, what attains a bound attains it, and data are seen whole."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

import fixqnn as fq
import hw_models as hw
from fixqnn.analysis.accumulators import accumulators
from fixqnn.analysis.needs import RegisterNeed
from fixqnn.analysis.seen import asked
from fixqnn.analysis.spans import narrowest
from fixqnn.arith.exact import _runs, add_up, round_shift
from fixqnn.cli import main
from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.events import Run
from fixqnn.format import affine, binary, fixed
from fixqnn.graph import Value
from fixqnn.kernels.ranges import ranged
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.ops.pieces import pieces
from fixqnn.ops.sums import meeting
from fixqnn.program import Program, plan
from fixqnn.scaler import Exact
from tests.ops.test_sums import bias_format, datapaths, weight_formats
from tests.stepping import fitting_step, make_step
from tests.strategies import codes_of, formats

SOME = settings(max_examples=20, deadline=None)


def summed(data: Any, bias: bool = True) -> SumOfProducts:
    """Any datapath; its output saturates, as none of this is about it."""
    return replace(data.draw(datapaths(bias)), scaler=Exact())


WINDOW = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def program_of(step: Step, known: dict[str, tuple[int, int]] | None = None) -> Program:
    step = plan(ranged(step, known or {}))
    values = [n for n in step.inputs if n not in step.constants]
    return Program((step,), tuple(Value(n, step.shapes[n], step.formats[n]) for n in values), ("y",), "made by hand")


def fitting_program(step: Step, known: dict[str, tuple[int, int]] | None = None) -> Program:
    """The same, or have hypothesis try another where lowering refuses a register that forbids its only product."""
    try:
        return program_of(step, known)
    except DoesNotFit:
        event("does not fit")
        reject()


def as_proven(step: Step, needs: list[RegisterNeed]) -> Step:
    """The step with every register as wide as proven."""
    bits = {need.register: need.proven_bits for need in needs}

    def new(name: str, register: Register | None) -> Register | None:
        return None if register is None else replace(register, bits=bits[name])

    stages = tuple(
        replace(s, register=new(f"sum[{i}]", s.register), out=new(f"sum[{i}].out", s.out))
        for i, s in enumerate(step.datapath.sum)
    )
    return replace(step, datapath=replace(step.datapath, product=new("product", step.datapath.product), sum=stages))


def adversarial(step: Step, needs: list[RegisterNeed], seed: int, known: tuple[int, int] | None = None) -> np.ndarray:
    """Random codes, codes of corners only, and what attains bounds of all channels."""
    form, shape, random = step.in_format(0), step.shapes[step.inputs[0]], np.random.default_rng(seed)
    low, high = known or (form.low, form.high)
    parts = [
        np.clip(codes_of(form, (2, *shape[1:]), seed), low, high),
        random.choice([low, high], (2, *shape[1:])),
    ]
    for need in needs:
        channel = int(random.integers(len(need.proven.low)))
        parts.append(need.attaining(channel, bool(random.integers(2))).inputs[step.inputs[0]])
    return np.concatenate(parts).astype(form.code_dtype)


def by_brute_force(step: Step, x: np.ndarray) -> dict[str, tuple[list[int], list[int]]]:
    """Ends of all that registers are asked, no register acting: every sum by loops over Python integers."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for piece in pieces(step):
        c = piece.contraction
        rows = piece.rows(x)
        for place in c.bound.registers:
            found.setdefault(place.name, ([0] * c.outputs, [0] * c.outputs))
        for n, channel, p in np.ndindex(len(rows), c.outputs, c.window.positions):
            terms = []
            for tap, at in meeting(c.window, c.order, channel, np.unravel_index(p, c.window.out)):
                a = c.padding if at is None else c.scale * int(rows[n][at]) - c.offset
                b = int(c.w[channel // c.window.outputs, channel % c.window.outputs][tap])
                terms.append(int(a == b) if c.xnor else a * b)
            for name, value in fold(terms, c.bound, c.bias[channel] if c.bias else None):
                low, high = found[name]
                low[channel], high[channel] = min(low[channel], value), max(high[channel], value)
    return found


def fold(terms: list[int], bound: Any, bias: int | None) -> list[tuple[str, int]]:
    """What is asked of each register, run by run."""
    noted: list[tuple[str, int]] = []

    def kept(place: Any, x: int, total: int | None = None) -> int:
        if total is None:
            value = round_shift(x, place.drop, place.register.rounding)
        else:
            up, left = max(place.drop, 0), max(-place.drop, 0)
            value = round_shift((total << up) + (x << left), up, place.register.rounding)
        noted.append((place.name, value))
        return value

    numbers = [(kept(bound.product, t) if bound.product else t, k) for k, t in enumerate(terms)]
    for level, stage in enumerate(bound.stages):
        outermost, totals = level == len(bound.stages) - 1, []
        for run in _runs(numbers, bound.ends[level], stage.size):
            total = 0
            if outermost and bias is not None and bound.bias == "first":
                total = kept(bound.bias_register, bias)
            for number, _ in run:
                total = kept(stage.register, number, total)
            if outermost and bias is not None and bound.bias == "last":
                total = kept(bound.bias_register, bias, total)
            totals.append((kept(stage.out, total) if stage.out else total, run[-1][1]))
        numbers = totals
    return noted


def holds_and_attains(step: Step, seed: int, known: tuple[int, int] | None = None) -> None:
    """All that is claimed of a step, held against the exact engine."""
    program = fitting_program(step, known and {"x0": known})
    step = program.steps[0]
    needs = list(accumulators(program).registers)
    for need in needs:
        attaining = need.attaining()
        assert attaining.attained
        if need.proven_bits is None:
            assert not need.record.signed
            assert need.proven.least < 0
            assert attaining.run(need.bits).any
            continue
        assert attaining.bits == need.proven_bits <= max(need.types_bits or 99, need.proven_bits)
        assert not attaining.run(need.proven_bits).any
        if need.proven_bits > max(1, need.record.kept + 1):
            events = attaining.run(need.proven_bits - 1)
            assert events.per_channel[attaining.channel] > 0
    x = adversarial(step, needs, seed, known)
    if all(need.proven_bits is not None for need in needs):
        run = Run()
        wide_enough = as_proven(step, needs)
        wide_enough.op.exact(wide_enough, run, x.astype(object), *(c.astype(object) for c in step.constants.values()))
        assert not [name for name, e in run.events.items() if e.any and name != "output"]
        event("all registers as proven")
    try:
        report = accumulators(program, x)
    except fq.TooWide:
        report = accumulators(program, x, engine="exact")
        event("exact engine")
    want = by_brute_force(step, x)
    for need in report.registers:
        assert (list(need.seen.low), list(need.seen.high)) == want[need.register]
        inside = (need.proven.low, need.proven.high)
        assert all(a <= b for a, b in zip(inside[0], need.seen.low, strict=True))
        assert all(a >= b for a, b in zip(inside[1], need.seen.high, strict=True))
    try:
        acted = any(e.any for n, e in fq.run(program, x, engine="exact").events["step"].items() if n != "output")
    except fq.RegisterOverflow:
        acted = True
    assert report.survived is not acted
    assert not (report.proven and acted)


@SOME
@given(data=st.data())
def test_proven_widths_of_linear_layers_hold_and_are_attained(data):
    d, m = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 4))
    x, w = data.draw(formats(bits=(1, 8))), data.draw(weight_formats(0, m))
    seed = data.draw(st.integers(0, 2**20))
    ins, shapes, constants = [x, w], [(None, d), (m, d)], {1: codes_of(w, (m, d), seed)}
    if data.draw(st.booleans()):
        ins.append(bias_format(x, w, m))
        shapes.append((m,))
        constants[2] = codes_of(ins[2], (m,), seed + 1)
    step = fitting_step(OPS["linear"], ins, data.draw(formats(bits=(1, 12))), shapes, summed(data), constants)
    known = None
    if data.draw(st.booleans()):  # an earlier step leaves only some of the codes
        known = tuple(sorted((data.draw(st.integers(x.low, x.high)), data.draw(st.integers(x.low, x.high)))))
    holds_and_attains(step, seed, known)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_proven_widths_of_convolutions_hold_and_are_attained(data):
    op = data.draw(st.sampled_from(["conv", "conv", "conv_transpose"]))
    groups, per_group, outputs = (data.draw(st.integers(1, 2)) for _ in range(3))
    kernel, stride, dilation = ((data.draw(st.integers(1, n)), data.draw(st.integers(1, n))) for n in (3, 2, 2))
    size = tuple(data.draw(st.integers(1, 3)) for _ in range(2))
    x, w = data.draw(formats(bits=(1, 8))), data.draw(weight_formats(int(op != "conv"), groups * outputs))
    seed = data.draw(st.integers(0, 2**20))
    more: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    if op == "conv":
        w_shape = (groups * outputs, per_group, *kernel)
        more["padding"] = tuple((data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))) for _ in range(2))
    else:
        w_shape = (groups * per_group, outputs, *kernel)
        more |= {"padding": (data.draw(st.integers(0, 1)),) * 2, "output_padding": (0, 0)}
    constants = {1: codes_of(w, w_shape, seed)}
    try:
        step = fitting_step(OPS[op], [x, w], data.draw(formats(bits=(1, 12))),
                            [(None, groups * per_group, *size), w_shape], summed(data, bias=False), constants,
                            **more)  # fmt: skip
    except BadInput:  # the window does not fit
        reject()
    holds_and_attains(step, seed)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_proven_ends_are_those_of_all_inputs(data):
    d = data.draw(st.integers(1, 4))
    x, w = data.draw(formats(bits=(1, 3))), data.draw(formats(bits=(1, 5)))
    seed = data.draw(st.integers(0, 2**20))
    step = fitting_step(OPS["linear"], [x, w], fixed(8, 0), [(None, d), (2, d)], summed(data),
                        {1: codes_of(w, (2, d), seed)})  # fmt: skip
    step = fitting_program(step).steps[0]
    everything = np.array(list(itertools.product(range(x.low, x.high + 1), repeat=d)), object)
    want = by_brute_force(step, everything)
    for need in accumulators(program_of(step)).registers:
        assert (list(need.proven.low), list(need.proven.high)) == want[need.register]


@SOME
@given(data=st.data())
def test_what_is_asked_without_acting_is_what_the_definition_adds_up_in_wide_registers(data):
    step = fitting_step(OPS["linear"], [fixed(6, 0), fixed(5, 0)], fixed(8, 0), [(None, 9), (1, 9)],
                        summed(data), {1: codes_of(fixed(5, 0), (1, 9), 0)})  # fmt: skip
    (piece,) = pieces(step)
    terms = data.draw(st.lists(st.integers(-900, 900), min_size=9, max_size=9))
    bias = data.draw(st.sampled_from([None, 77]))
    values = list(asked(terms, piece.contraction.bound, bias))
    assert sorted(values) == sorted(fold(terms, piece.contraction.bound, bias))
    wide = {p.name: replace(p.register, bits=200, signed=True, overflow="saturate", kept=0)
            for p in piece.contraction.bound.registers}  # fmt: skip
    bound = piece.contraction.bound
    stages = tuple(replace(s, register=replace(s.register, register=wide[s.register.name]),
                           out=s.out and replace(s.out, register=wide[s.out.name])) for s in bound.stages)  # fmt: skip
    product = bound.product and replace(bound.product, register=wide["product"])
    last = replace(bound.bias_register, register=wide[bound.bias_register.name])
    bound = replace(bound, stages=stages, product=product, bias_register=last)
    assert values[-1][1] == add_up(terms, bound, bias, lambda *_: pytest.fail("a wide register acted"))


# -- by hand -----------------------------------------------------------------------------------------------------------


def linear(w: list[list[int]], datapath: SumOfProducts, x: Any = None, bias: Any = None) -> Program:
    x, w = x or fixed(8, 0), np.array(w)
    ins, shapes, constants = [x, fixed(8, 0)], [(None, w.shape[1]), w.shape], {1: w}
    if bias is not None:
        ins, shapes, constants = [*ins, fixed(16, 0)], [*shapes, (len(w),)], {1: w, 2: np.array(bias)}
    out = affine(8, 0.5) if datapath.scaler else fixed(32, 0)
    return program_of(make_step(OPS["linear"], ins, out, shapes, datapath, constants))


ONE = SumOfProducts(Exact(), sum=(Stage(Register(32)),))


def test_three_products_of_bytes_need_the_bits_that_a_hand_finds():
    need = fq.accumulators(linear([[-128, -128, 127]], ONE))["step"]["sum[0]"]
    assert (need.proven.low, need.proven.high) == ((-48768,), (48897,))
    assert need.types.high == (3 * 16384,)
    assert (need.types_bits, need.proven_bits, need.spare) == (17, 17, 15)
    assert need.attaining().inputs["x0"].tolist() == [[-128, -128, 127]]
    assert need.attaining(high=False).inputs["x0"].tolist() == [[127, 127, -128]]


def test_the_order_of_the_datapath_is_what_is_proven_and_other_orders_may_need_more():
    tiled = SumOfProducts(Exact(), sum=(Stage(Register(16), size=2), Stage(Register(32))))
    need = fq.accumulators(linear([[100, 1, 100, 1]], tiled))["step"]["sum[0]"]
    assert need.proven.low == (-128 * 101,)
    assert need.any_order.low == (-128 * 200,)  # both hundreds may meet in one tile
    assert need.any_tiling.low == (-128 * 202,)
    assert (need.proven_bits, need.any_order_bits, need.any_tiling_bits) == (15, 16, 16)


def test_a_bias_that_comes_first_is_there_before_any_term_and_one_that_comes_last_is_not():
    for at, high, index in (("first", 1000 + 127 * 100, 1), ("last", 127 * 100, 0)):
        need = fq.accumulators(linear([[100, 0]], replace(ONE, bias=at), bias=[1000 if at == "first" else -1000]))
        need = need["step"]["sum[0]"]
        assert need.proven.high == (high,)
        assert need.attaining(high=True).index in (0, index)
        assert need.attaining().attained


def test_the_end_that_needs_fewer_bits_is_attained_too():
    need = fq.accumulators(linear([[1, -2]], ONE, bias=[1000]))["step"]["sum[0]"]
    least, most = need.attaining(high=False), need.attaining(high=True)
    assert (least.value, most.value) == (0, 1383)  # the register begins at 0, and 1000 - 382 is above it
    assert (need.proven.low, need.proven.high) == ((0,), (1383,))
    assert least.attained
    assert most.attained
    need = fq.accumulators(linear([[1, -9]], ONE, bias=[1000]))["step"]["sum[0]"]
    least = need.attaining(high=False)
    assert (least.value, least.bits, least.attained) == (
        1000 - 128 - 9 * 127,
        10,
        True,
    )  # with the bias it holds 1000 before
    assert least.run(9).any
    assert not least.run(need.proven_bits).any


def test_codes_that_a_relu_leaves_spare_a_bit():
    step = linear([[100, -100, 100]], ONE).steps[0]
    free, after_relu = (fq.accumulators(program_of(step, known))["step"]["sum[0]"] for known in ({}, {"x0": (0, 127)}))
    assert (free.proven.low, free.proven.high) == ((-38300,), (38200,))
    assert (after_relu.proven.low, after_relu.proven.high) == ((-12700,), (25400,))
    assert (free.proven_bits, after_relu.proven_bits) == (17, 16)


def test_a_product_register_that_rounds_is_bounded_as_it_rounds():
    datapath = SumOfProducts(Exact(), Register(16, drop=4, rounding="ceil"), (Stage(Register(32)),))
    layer = fq.accumulators(linear([[3, 3]], datapath))["step"]
    assert layer["product"].proven.high == (24,)  # ceil(381 / 16)
    assert layer["product"].proven.low == (-24,)
    assert layer["sum[0]"].proven.high == (48,)
    assert layer["sum[0]"].any_order.high == (48,)
    assert layer["sum[0]"].attaining().attained


def test_agreeing_bits_are_counted():
    x = binary()
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(8)),), term="xnor")
    step = make_step(OPS["linear"], [x, x], fixed(8, 0), [(None, 9), (2, 9)], datapath,
                     {1: np.array([[0, 1] * 4 + [0], [1] * 9])})  # fmt: skip
    need = fq.accumulators(program_of(step))["step"]["sum[0]"]
    assert (need.proven.low, need.proven.high, need.proven_bits) == ((0, 0), (9, 9), 5)
    assert need.attaining(channel=0, high=True).inputs["x0"].tolist() == [[0, 1, 0, 1, 0, 1, 0, 1, 0]]
    assert need.attaining(channel=0).attained


def test_padding_and_tiny_images_count_only_the_terms_that_can_meet():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(32)),))
    w = np.full((1, 1, 3, 3), 10)
    for size, met in ((1, 1), (2, 4), (5, 9)):
        step = make_step(OPS["conv"], [fixed(8, 0), fixed(8, 0)], fixed(8, 0), [(None, 1, size, size), w.shape], datapath,
                         {1: w}, **WINDOW)  # fmt: skip
        need = fq.accumulators(program_of(step))["step"]["sum[0]"]
        assert need.proven.low == (-1280 * met,)
        assert need.attaining().attained


def test_folded_zero_points_count_the_padding_that_they_bring():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(32)),), zero_point="folded")
    x = affine(8, 0.5, -100)
    step = make_step(OPS["conv"], [x, fixed(8, 0)], fixed(8, 0), [(None, 1, 4, 4), (1, 1, 3, 3)], datapath,
                     {1: np.full((1, 1, 3, 3), 10)}, **WINDOW)  # fmt: skip
    need = fq.accumulators(program_of(step, {"x0": (0, 127)}))["step"]["sum[0]"]
    # the folded bias is 100·90; in the corner five of nine terms are padding, −100 · 10 each, and come first
    assert need.proven.high == (9000 + 9 * 1270,)
    assert need.proven.low == (0,)
    assert need.attaining(high=True).attained


def test_a_wrapping_register_before_another_leaves_only_its_own_range():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(12, "wrap"), size=2), Stage(Register(13))))
    report = fq.accumulators(linear([[100, 100, 100, 100]], datapath))
    inner, outer = report.registers
    assert inner.can_act is True
    assert outer.can_act is False  # two totals of 12 bits always fit 13 bits
    assert outer.proven_bits == 17  # what it would have to hold if the first one did not wrap
    narrow = replace(datapath, sum=(datapath.sum[0], Stage(Register(12))))
    assert fq.accumulators(linear([[100] * 4], narrow)).registers[1].can_act is None


def test_saturating_registers_say_exactly_what_the_next_one_may_be_asked():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(12), size=2), Stage(Register(13))))
    inner, outer = fq.accumulators(linear([[100] * 4], datapath)).registers
    assert (inner.can_act, outer.can_act) == (True, False)
    assert (
        fq.accumulators(linear([[100] * 4], replace(datapath, sum=(datapath.sum[0], Stage(Register(12))))))
        .registers[1]
        .can_act
    )


def test_no_unsigned_register_holds_what_may_be_negative():
    need = fq.accumulators(linear([[1, -1]], replace(ONE, sum=(Stage(Register(32, signed=False)),)))).registers[0]
    assert need.proven_bits is None
    assert need.can_act is True
    assert need.attaining().value < 0
    assert need.attaining().attained


def test_random_rounding_has_a_bound_and_nothing_that_is_said_to_attain_it():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(8, drop=3, rounding="stochastic")),))
    program = linear([[100, 7, -3]], datapath)
    x = codes_of(fixed(8, 0), (60, 3), 1)
    report = fq.accumulators(program, x, seed=5)
    (need,) = report.registers
    assert not need.attaining().attained
    assert need.can_act is None
    assert need.proven.least <= need.seen.least < need.seen.most <= need.proven.most
    assert report.survived is not fq.run(program, x, seed=5).events["step"]["sum[0]"].any


def test_averages_and_matrix_products_have_registers_too():
    datapath = SumOfProducts(Exact(), sum=(Stage(Register(10)),))
    form = fixed(8, 0)
    pool = make_step(OPS["adaptive_average_pool"], [form], form, [(None, 2, 5, 5)], datapath, output=(2, 2))
    (need,) = fq.accumulators(program_of(pool), codes_of(form, (3, 2, 5, 5), 0)).registers
    assert need.proven.low == (-128 * 9,) * 2
    assert need.attaining().attained
    assert need.attaining().run(need.proven_bits - 1).any
    product = make_step(OPS["matmul"], [form, form], form, [(None, 2, 3, 4), (None, 2, 4, 2)], datapath)
    program = program_of(product)
    a, b = codes_of(form, (2, 2, 3, 4), 1), codes_of(form, (2, 2, 4, 2), 2)
    (need,) = fq.accumulators(program, (a, b)).registers
    assert need.proven.high == (4 * 16384,) * 2
    assert need.attaining().attained
    assert not need.attaining().run(need.proven_bits).any
    assert need.attaining().run(need.proven_bits - 1).any
    prefixes = np.cumsum(a[..., :, None].swapaxes(-1, -2) * b.swapaxes(-1, -2)[..., None, :, :], -1)
    low, high = (pick(prefixes, axis=(0, 1, 2, 4)) for pick in (np.min, np.max))
    assert (list(need.seen.low), list(need.seen.high)) == (low.tolist(), high.tolist())


def test_a_register_that_forbids_overflow_is_counted_and_not_raised():
    program = linear([[127] * 4], replace(ONE, sum=(Stage(Register(16, "forbid")),)))
    report = fq.accumulators(program, np.full((2, 4), 127))
    assert report.registers[0].events == 4  # the third and fourth term of each sum
    assert report.overflowed.register == "sum[0]"
    assert report.verdict.startswith(
        "does not survive: first overflow in sum[0] of layer step at sample 0, channel 0, term 2"
    )


# -- orders ------------------------------------------------------------------------------------------------------------


def test_where_no_register_can_act_no_order_matters_and_it_is_said_to_be_proved():
    report = fq.accumulators(linear([[1, 2, 3]], ONE), np.ones((4, 3), int))
    assert report["step"].order_is_idle
    assert report.proven
    assert report.verdict == "survives: proven for every input, no register can act"


def test_sums_that_another_order_or_tile_size_changes_are_counted():
    tiled = SumOfProducts(Exact(), sum=(Stage(Register(8), size=2), Stage(Register(32))))
    x = np.array([[100, -100, 0, 100], [1, 1, 1, 1]])
    layer = fq.accumulators(linear([[1, 1, 1, 1]], tiled), x)["step"]
    found = layer.order
    assert not layer.order_is_idle
    assert (found.sums, found.settled, found.tried) == (2, 0, 2)  # blocks are settled as a whole
    assert layer["sum[0]"].seen.high == (100,)
    worse = fq.accumulators(linear([[1, 1, 1, 1]], tiled), np.array([[100, 100, 0, -100]]))["step"].order
    assert (worse.by_order, worse.by_tiles) == (1, 1)
    quiet = fq.accumulators(linear([[1, 1, 1, 1]], tiled), x[1:])["step"]
    assert quiet.order_in_words == "not on this data"


def test_what_wraps_last_is_the_same_in_every_order():
    program = linear([[127] * 8], replace(ONE, sum=(Stage(Register(12, "wrap")),)))
    assert fq.accumulators(program)["step"].order_is_idle
    assert not fq.accumulators(linear([[127] * 8], replace(ONE, sum=(Stage(Register(12)),))))["step"].order_is_idle


# -- networks, words, command line -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> tuple[fq.Graph, np.ndarray]:
    random = np.random.default_rng(0)
    x = fq.Value("x", (None, 2, 5, 5), fixed(8, 4))
    nodes = (
        fq.Node("conv", OPS["conv"], ("x", "w"), attributes=WINDOW),
        fq.Node("relu", OPS["clamp"], ("conv",), attributes={"low": 0.0}),
        fq.Node("flat", OPS["reshape"], ("relu",), attributes={"shape": (None, 75)}),
        fq.Node("fc", OPS["linear"], ("flat", "v")),
    )
    constants = {
        "w": fq.Tensor(random.integers(-128, 127, (3, 2, 3, 3)), fixed(8, 7)),
        "v": fq.Tensor(random.integers(-128, 127, (4, 75)), fixed(8, 7)),
    }
    formats = {"conv": fixed(8, 4), "relu": fixed(8, 4), "flat": fixed(8, 4), "fc": fixed(8, 2)}
    return fq.Graph((x,), ("fc",), nodes, constants, formats), random.normal(size=(40, 2, 5, 5))


def test_batches_of_any_size_and_both_engines_see_the_same(network, monkeypatch):
    graph, images = network
    program = fq.lower(graph, hw.systolic(rows=4, partial=12, accumulator=16))
    whole = fq.accumulators(program, images[:6])
    assert fq.accumulators(program, images[:6], engine="exact").table() == whole.table()
    monkeypatch.setattr("fixqnn.analysis.accumulators.WATCHED", 1)
    steps = []
    parts = fq.accumulators(program, images[:6], progress=lambda done, every: steps.append((done, every)))
    assert steps == [(k, 6) for k in range(1, 7)]
    assert [row["seen"] for row in parts.table()] == [row["seen"] for row in whole.table()]
    assert [row["events"] for row in parts.table()] == [row["events"] for row in whole.table()]


def test_the_verdict_names_the_first_overflow_that_the_run_itself_has(network):
    graph, images = network
    program = fq.lower(graph, hw.systolic(rows=4, partial=12, accumulator=32))
    report = fq.accumulators(program, images)
    trace = fq.run(program, images)
    assert report.overflowed.witness == trace.events["conv"]["sum[0]"].first
    events = {layer: trace.events[layer] for layer in ("conv", "fc")}
    assert {n.layer: n.events for n in report.registers if n.register == "sum[0]"} == {
        layer: e["sum[0]"].count for layer, e in events.items()
    }
    assert "does not survive: first overflow in sum[0] of layer conv at sample 0" in str(report)


def test_a_network_survives_its_data_or_every_input(network):
    graph, images = network
    needed = max(
        n.proven_bits for n in fq.accumulators(fq.lower(graph, hw.systolic())).registers if n.register == "sum[0]"
    )
    seen = fq.accumulators(fq.lower(graph, hw.systolic()), images)
    most = max(n.seen_bits for n in seen.registers if n.register == "sum[0]")
    assert most < needed
    for bits, word in ((most, "survived this data (40 samples"), (needed, "survives: proven"), (most - 1, "does not")):
        report = fq.accumulators(fq.lower(graph, hw.systolic(partial=bits)), images)
        assert report.verdict.startswith(word), report.verdict
    unseen = fq.accumulators(fq.lower(graph, hw.systolic(partial=needed - 1)))
    assert unseen.verdict.startswith(f"not proven; a proof needs {needed} bits in sum[0] of layer ")


def test_rows_are_plain_facts_per_register_and_per_channel(network):
    graph, images = network
    report = fq.accumulators(fq.lower(graph, hw.systolic(partial=16)), images)
    rows = report.table()
    assert [(r["layer"], r["register"]) for r in rows] == [(a, f"sum[{b}]") for a in ("conv", "fc") for b in (0, 1)]
    json.dumps(rows)
    channels = report.channels()
    assert len(channels) == 2 * 3 + 2 * 4
    for row in rows:
        mine = [c for c in channels if (c["layer"], c["register"]) == (row["layer"], row["register"])]
        assert max(c["proven"] for c in mine) == row["proven"]
        assert max(c["seen"] for c in mine) == row["seen"] <= row["proven"] <= row["types"]


def test_a_layer_is_run_on_codes_of_its_input_only():
    need = fq.accumulators(linear([[1, 2, 3]], ONE))["step"]["sum[0]"]
    assert need.attaining(np.int64(0)).channel == 0
    assert not need.run({"x0": [[1, 2, 3]]}, 8).any
    for inputs, bits, engine, message in (
        ({"x": [[1, 2, 3]]}, 8, "exact", "step takes codes of 'x0'; given were 'x'"),
        ({"x0": [[1, 2]]}, 8, "exact", r"has shape \(1, 2\); the layer takes \(N, 3\)"),
        ({"x0": [[1, 2, 999]]}, 8, "exact", r"x0\[0, 2\] is 999, but codes of fixed\(8, 0\)"),
        ({"x0": [[0.5, 2, 3]]}, 8, "exact", "codes are integers"),
        ({"x0": [[1, 2, 3]]}, 8, "quick", "there is no engine 'quick'"),
        ({"x0": [[1, 2, 3]]}, 0, "exact", "at least 1, not 0"),
    ):
        with pytest.raises(fq.FixqnnError, match=message):
            need.run(inputs, bits, engine)


def test_what_is_not_there_is_refused_by_name(network):
    graph, images = network
    program = fq.lower(graph, hw.ideal())
    with pytest.raises(BadInput, match="takes a Program, not Graph"):
        fq.accumulators(graph)
    report = fq.accumulators(program)
    with pytest.raises(BadInput, match="no sum of products is named 'relu'; there are conv, fc"):
        report["relu"]
    with pytest.raises(BadInput, match=r"conv has no register 'product'; it has sum\[0\]"):
        report["conv"]["product"]
    with pytest.raises(BadInput, match="conv has the channels 0 … 2, not 3"):
        report["conv"]["sum[0]"].attaining(channel=3)
    with pytest.raises(BadInput, match="has shape"):
        fq.accumulators(program, images[:, :1])
    with pytest.raises(DoesNotFit):
        fq.accumulators(fq.lower(graph, fq.Accelerator("nothing", {})))


@pytest.mark.parametrize(("low", "high", "record", "bits"), [
    (0, 0, Register(9), 1), (-1, 0, Register(9), 1), (-1, 1, Register(9), 2), (-128, 127, Register(9), 8),
    (-129, 0, Register(9), 9), (0, 128, Register(9), 9), (-8, 7, Register(9, "saturate_symmetric"), 5),
    (-7, 7, Register(9, "saturate_symmetric"), 4), (0, 8, Register(9, signed=False), 4), (0, 1, Register(9, "wrap", kept=3), 4),
])  # fmt: skip
def test_the_narrowest_register_holds_and_one_bit_less_does_not(low, high, record, bits):
    assert narrowest(low, high, record) == bits
    fits = replace(record, bits=bits)
    assert fits.low <= low <= high <= fits.high
    if bits > record.kept + 1:
        less = replace(record, bits=bits - 1)
        assert low < less.low or high > less.high


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


def test_inspect_shows_the_registers_of_a_saved_program(network, tmp_path, capsys):
    graph, images = network
    program = fq.lower(graph, hw.systolic(partial=14))
    path, data = str(tmp_path / "p.npz"), str(tmp_path / "x.npy")
    program.save(path)
    np.save(data, images)
    status, text, _ = call(capsys, "inspect", path, "--accumulators")
    assert status == 0
    assert fq.accumulators(program).verdict in text
    status, text, _ = call(capsys, "inspect", path, "--accumulators", "--data", data, "--json")
    document = json.loads(text)
    report = fq.accumulators(program, images)
    assert status == 0
    assert document["registers"] == json.loads(json.dumps(report.table()))
    assert document["verdict"] == report.verdict
    assert len(document["channels"]) == len(report.channels())
    status, _, err = call(capsys, "inspect", path, "--accumulators", "--machine", "ideal")
    assert status == 2
    assert "its machine and formats are settled" in err
    status, _, err = call(capsys, "inspect", path, "--data", data)
    assert status == 2
    assert "belong to --accumulators" in err


def test_inspect_quantizes_and_lowers_a_model_first(tmp_path, capsys, monkeypatch):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()\n\n"
        "def example():\n    return (torch.zeros(2, 6),)\n"
    )
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 6)))
    monkeypatch.chdir(tmp_path)
    machine = "systolic(partial=16)"
    status, text, err = call(
        capsys, "inspect", "net.py:build", "--accumulators", "--data", "x.npy", "--machine", machine
    )
    assert status == 0, err
    assert "30 samples" in text
    assert text.strip().splitlines()[-1].startswith(("survive", "does not"))
    status, _, err = call(capsys, "inspect", "net.py:build", "--accumulators")
    assert status == 2
    assert "give --data x.npy" in err
