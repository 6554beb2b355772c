"""How far sums go, and every plan's claim checked on data: in Python integers, where nothing overflows unseen."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add, add_up, keep, round_shift
from fixqnn.datapath import Register, Stage
from fixqnn.errors import BadInput, TooWide
from fixqnn.kernels.extent import BLOCK, Extent, extent
from fixqnn.kernels.lanes import INT16, INT32, Lanes
from fixqnn.kernels.plan import PATHS, Plan, choose
from fixqnn.modes import Overflow, Rounding, fit
from tests.kernels.planning import Channels, bound_of, reach_of, runs_of, wrapped
from tests.strategies import roundings

MANY = settings(max_examples=300, deadline=None)


# -- how far sums go -----------------------------------------------------------------------------------------------------


@given(
    w=st.lists(st.integers(-3, 3), min_size=1, max_size=5),
    edges=st.lists(st.integers(-3, 4), min_size=2, max_size=2).map(sorted),
    size=st.integers(1, 5),
)
@settings(deadline=None)
def test_extents_are_attained_by_some_input_in_some_order_and_passed_by_none(w, edges, size):
    bound = bound_of((Stage(Register(40), size), Stage(Register(40))), len(w))
    reach = reach_of(w, *edges, bound)
    whole, partial, products = set(), [{0}, {0}], set()
    for x in itertools.product(edges, repeat=len(w)):  # sums are linear in every input: the corners are enough
        terms = [a * b for a, b in zip(x, w, strict=True)]
        whole.add(sum(terms))
        products |= set(terms)
        for level, runs in enumerate(runs_of(bound, len(w))):
            for run in runs:
                for chosen_terms in itertools.product((0, 1), repeat=len(run)):
                    partial[level].add(sum(terms[k] * c for k, c in zip(run, chosen_terms, strict=True)))
    for level in range(2):
        assert reach.run(level, 2) == ((min(partial[level]),), (max(partial[level]),))
    assert (reach.low, reach.high) == ((min(partial[1]),), (max(partial[1]),))
    assert (reach.total_low, reach.total_high) == ((min(whole),), (max(whole),))
    assert reach.block == max(-min(partial[0]), max(partial[0]))
    low, high = reach.products
    assert low <= min(products) <= max(products) <= high
    assert max(-low, high) <= reach.term


def test_blocks_begin_anew_with_every_run():
    w = np.ones((1, 200), np.int64)
    whole, tiled = bound_of(Register(40), 200), bound_of((Stage(Register(40), 65), Stage(Register(40))), 200)
    assert reach_of(w, 0, 1, whole).block == BLOCK
    assert reach_of(w, 0, 1, tiled).block == BLOCK
    assert reach_of(w, 0, 1, tiled).runs == (((0,), (65,)), ((0,), (200,)))
    alternating = np.tile([1, -1], 100)[None]
    assert reach_of(alternating, 0, 1, whole).block == BLOCK // 2


def test_extents_past_64_bits_are_python_integers():
    reach = extent(np.array([[1 << 61, 1 << 61, 1 << 61]]), -1, 3)
    assert reach.high == (9 << 61,)
    assert reach.low == (-(3 << 61),)


def test_extents_of_many_channels_are_found_in_parts():
    w = np.random.default_rng(0).integers(-128, 128, (1500, 1000))
    reach = extent(w, -7, 200)
    most = np.maximum(w * -7, w * 200)
    assert reach.high == tuple(np.maximum(most, 0).sum(axis=1).tolist())
    assert reach.total_high == tuple(most.sum(axis=1).tolist())


# -- what every path claims, on data -----------------------------------------------------------------------------------------

modes = st.sampled_from([o for o in Overflow if o is not Overflow.wrap_sign_magnitude])
drops = st.sampled_from([0, 0, 0, 1, 3, 7])
registers = st.builds(Register, st.integers(3, 34), modes, st.sampled_from([True, True, True, False]), roundings, drops)
finer = st.builds(Register, st.integers(8, 34), modes, frac=st.integers(-2, 4))
plain = st.builds(Register, st.integers(3, 34), st.sampled_from(["saturate", "forbid", "wrap", "saturate_symmetric"]))
narrow = st.builds(Register, st.integers(6, 20), st.sampled_from(["saturate", "forbid"]))
rounded = st.builds(
    Register, st.integers(12, 31), rounding=st.sampled_from(["floor", "half_up"]), drop=st.integers(1, 17)
)
X_RANGES = [(0, 255), (-128, 127), (-1, 254), (0, 15), (-8, 7), (0, 1), (3, 9), (-32768, 32639), (-32768, 32767), (0, 65535),
            (-128, 128), (-1000, 90000)]  # fmt: skip
W_RANGES = [(-128, 127), (-8, 7), (-1, 1), (0, 3), (-127, 128), (-32768, 32639), (-32768, 32767), (-40000, 2)]


@st.composite
def problems(draw: Any) -> tuple[np.ndarray, tuple[int, int], BoundSum, Channels]:
    terms = draw(st.sampled_from([1, 2, 3, 5, 9, 70, 150]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    small = draw(st.booleans())  # operands with room to be scaled
    x_range = draw(st.sampled_from(X_RANGES[:7] if small else X_RANGES))
    low, high = draw(st.sampled_from(W_RANGES[:4] if small else W_RANGES))
    w = random.integers(low, high, (2, terms), endpoint=True)
    if draw(st.booleans()):
        w[0] = random.choice([low, high], terms)
    inner = draw(st.one_of(narrow, narrow, plain, registers, finer, rounded))
    stages: tuple[Stage, ...] = (Stage(inner),)
    if draw(st.booleans()):
        stages = (Stage(inner, draw(st.integers(1, 80))), Stage(draw(st.one_of(plain, registers))))
        if draw(st.booleans()):
            stages = (Stage(Register(34), draw(st.integers(1, 20))), *stages)
    product = draw(st.one_of(registers, finer, rounded)) if draw(st.integers(0, 3)) == 0 else None
    bias = tuple(random.integers(-300, 300, 2).tolist()) if draw(st.booleans()) else ()
    ratio = draw(st.sampled_from([0, 0, 3, -2])) if bias else 0
    return w, x_range, bound_of(stages, terms, draw(st.sampled_from(["first", "last"])), product, ratio), bias


def inputs_for(w: np.ndarray, low: int, high: int) -> list[list[int]]:
    """All at one end, all at the end that takes a channel farthest, and some at random."""
    random = np.random.default_rng(0)
    rows = [np.full(w.shape[1], v) for v in (low, high)]
    rows += [np.where(c > 0, a, b) for c in w for a, b in ((low, high), (high, low))]
    rows += [random.integers(low, high, w.shape[1], endpoint=True), random.choice([low, high], w.shape[1])]
    return [row.tolist() for row in rows]


@MANY
@given(problem=problems())
def test_every_plan_that_is_handed_out_keeps_its_word(problem):
    w, (low, high), bound, bias = problem
    reach, terms = reach_of(w, low, high, bound), w.shape[1]
    for path in PATHS:
        try:
            plan = choose(reach, bound, bias, terms, path)
        except (BadInput, TooWide):
            continue
        event(f"{path} {plan.lanes.form if plan.lanes else ''} {plan.watched} {plan.level}")
        for x in inputs_for(w, low, high):
            for channel, row in enumerate(w.tolist()):
                b = bias[channel] if bias else None
                check(plan, reach, bound, x, row, b)


def check(plan: Plan, reach: Extent, bound: BoundSum, x: list[int], w: list[int], bias: int | None) -> None:
    """One output along a path, against the definition."""
    events: list[tuple[str, int]] = []
    want = add_up(
        [a * b for a, b in zip(x, w, strict=True)], bound, bias, lambda place, k, _: events.append((place, k))
    )
    assert abs(want) <= plan.bound
    if plan.path.startswith("sum/"):
        assert not events
        start = 0 if bias is None else bias << -bound.bias_register.drop
        assert summed(plan, reach, x, w, start) == want
    if plan.path not in ("certified", "lanes16", "lanes32"):
        return
    runs = runs_of(bound, len(x))
    inert = [place.name for stage in bound.stages[: plan.level] for place in (stage.register, stage.out) if place]
    assert not any(place in (*inert, "product" if plan.level else "") for place, _ in events)
    for run in runs[plan.level]:
        start = keep(bias, bound.bias_register.drop, bound.bias_register.register)[0] if alone(plan, bound, bias) else 0
        groups = [g for g in runs[plan.level - 1] if g[0] in run] if plan.level else [[k] for k in run]
        terms = [[(x[k], w[k]) for k in group] for group in groups]
        held, acted = stepwise(plan, bound, terms, start)
        if plan.path == "certified":
            products = [a * b for term in terms for a, b in term]
            running = list(itertools.accumulate(products, initial=start))
            assert INT32[0] <= min(running) <= max(running) <= INT32[1]
            if not plan.level:
                assert all(abs(p - running[k // BLOCK * BLOCK]) <= reach.block for k, p in enumerate(running))
            assert plan.watched or not acted
            assert acted or running[-1] == held
        for lanes in filter(None, (plan.lanes, plan.by_channel, plan.counting)):
            assert in_lanes(lanes, bound.stages[plan.level].register, terms, start) == (held, acted)


def alone(plan: Plan, bound: BoundSum, bias: int | None) -> bool:
    return bias is not None and plan.level == len(bound.stages) - 1


def stepwise(plan: Plan, bound: BoundSum, terms: list[list[tuple[int, int]]], total: int) -> tuple[int, bool]:
    """Content of the register that is followed after one of its runs, and whether it ever acted."""
    acted = False
    for term in terms:
        number = sum(a * b for a, b in term)
        if bound.product and not plan.level:
            number = keep(number, bound.product.drop, bound.product.register)[0]
        total, asked = add(total, number, bound.stages[plan.level].register)
        acted |= total != asked
    return total, acted


def within(limits: tuple[int, int], *values: int) -> None:
    assert limits[0] <= min(values) <= max(values) <= limits[1]


def summed(plan: Plan, reach: Extent, x: list[int], w: list[int], start: int) -> int:
    """A finished sum as the path's type of number makes it."""
    terms = [a * b for a, b in zip(x, w, strict=True)]
    if plan.path == "sum/int8":
        bytes_ = [a - reach.x_low for a in x]
        within((0, 255), *bytes_)
        within((-128, 127), *w)
        return wrapped(sum(a * b for a, b in zip(bytes_, w, strict=True)) + reach.x_low * sum(w) + start, 32)
    if plan.path == "sum/int16":
        within(INT16, *x, *w)
        return wrapped(sum(terms) + start, 32)
    if plan.path == "sum/limbs":
        return limbs(plan, x, w) + start
    kind = np.float32 if plan.path == "sum/float32" else np.float64
    total = kind(start)
    for term in terms:
        assert int(kind(term)) == term
        total = total + kind(term)
        assert total.dtype == kind
    assert int(total) == sum(terms) + start
    return int(total)


def split(values: list[int]) -> tuple[list[int], list[int]]:
    """High and low limbs: 256·h + l with l in [−128, 127]."""
    low = [(v + 128) % 256 - 128 for v in values]
    high = [(v - part) // 256 for v, part in zip(values, low, strict=True)]
    within((-128, 128), *high, *low)
    return high, low


def limbs(plan: Plan, x: list[int], w: list[int]) -> int:
    total = 0
    for shift, part in zip((8, 0), split(x), strict=True) if plan.limbs == 2 else [(0, x)]:
        within(INT16, *part, *w)
        for k in range(0, len(w), plan.block):
            piece = sum(a * b for a, b in zip(part[k : k + plan.block], w[k : k + plan.block], strict=True))
            within(INT32, piece)
            total += piece << shift
    within((-(1 << 62), 1 << 62), total)
    return total


def in_lanes(lanes: Lanes, place: BoundRegister, terms: list[list[tuple[int, int]]], start: int) -> tuple[int, bool]:
    """One run in a lane, and whether an event left its trace there."""
    bits = 16 if lanes.form == "saturate16" else 32
    limits = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    acted = False
    mask = 0 if lanes.form == "any32" else (1 << lanes.spare) - 1
    total = (start << lanes.spare) + (mask & 1)
    for term in terms:
        factors = [(a << lanes.x_shift, b << lanes.w_shift) for a, b in term]
        for pair in factors:
            within(INT16, *pair)
        product = wrapped(sum(a * b for a, b in factors) * (1 + lanes.doubled), 32)  # pairs of products, modulo 2^32
        if lanes.form == "high32":
            half_up = lanes.mode is Rounding.half_up
            high = (product + (1 << 14)) >> 15 if half_up else product >> 16
            within(INT16, high, 1 << lanes.spare)
            product = high << lanes.spare
        if lanes.form != "any32":
            assert len(term) == 1
            total = min(max(total + (wrapped(product, bits)), limits[0]), limits[1])
            continue
        if lanes.rounding == "term":
            within(INT32, product - (1 << lanes.drop), product + (1 << lanes.drop))
            product = round_shift(product, lanes.drop, lanes.mode)
        asked = total + product
        within(INT32, asked, asked + (1 << lanes.drop if lanes.rounding == "sum" else 0))
        if lanes.rounding == "sum":
            asked = round_shift(asked, lanes.drop, lanes.mode) << lanes.drop
        register = place.register
        value = fit(asked >> lanes.spare, register.bits, register.signed, register.overflow, register.kept)
        total = value << lanes.spare
        acted |= total != asked
    return total >> lanes.spare, acted or total & mask != (mask & 1)
