"""Every proof on its corner: where it just holds, and one beyond, where the shortcut would go wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fixqnn.arith.exact import add_up, keep
from fixqnn.datapath import Register, Stage
from fixqnn.errors import BadInput, TooWide
from fixqnn.kernels.extent import extent
from fixqnn.kernels.lanes import Lanes
from fixqnn.kernels.plan import choose, spaced
from tests.kernels.planning import bound_of, chosen, flush_of, refusal, wrapped


@pytest.mark.parametrize(
    ("w", "low", "high", "bits"), [([127, 1], -128, 127, 15), ([-128, -128], -128, 0, 17), ([3], 0, 5, 5)]
)
def test_a_register_that_just_fits_is_inert_and_one_bit_less_acts(w, low, high, bits):
    assert chosen(w, low, high, Register(bits)).path == "sum/int8"
    text = refusal(w, low, high, Register(bits - 1), "sum")
    assert "sums of channel 0 reach" in text
    assert f"({bits - 1} bits) does not hold" in text
    acting = []
    for x in itertools.product((low, high), repeat=len(w)):
        add_up(
            [a * b for a, b in zip(x, w, strict=True)],
            bound_of(Register(bits - 1), len(w)),
            None,
            lambda *e: acting.append(e),
        )
    assert acting


def test_a_bias_takes_its_part_of_the_register():
    assert chosen([1], 0, 100, Register(8), bias=(27,)).path == "sum/int8"
    assert "reach [0, 128]" in refusal([1], 0, 100, Register(8), "sum", bias=(28,))
    assert chosen([1], 0, 100, Register(8), bias=(-128,)).path == "sum/int8"
    assert "reach [-129, 100]" in refusal([1], 0, 100, Register(8), "sum", bias=(-129,))
    assert chosen([1], 0, 7, Register(8), bias=(15,), ratio=3).path == "sum/int8"
    assert "reach [0, 128]" in refusal([1], 0, 8, Register(8), "sum", bias=(15,), ratio=3)
    assert "the bias is rounded" in refusal([1], 0, 8, Register(8), "sum", bias=(15,), ratio=-1)


def test_a_partial_register_is_bounded_by_its_worst_tile_in_the_datapaths_order():
    w = [[1] * 6, [3, -3] * 3]
    tiles = Stage(Register(5), 3), Stage(Register(7))
    # a tile of the second channel reaches 5·(3 + 3) = 30, one of the first 15
    assert "channel 1 reach [-30, 30], which sum[0] (5 bits)" in refusal(w, 0, 5, tiles, "sum")
    assert chosen(w, 0, 5, (Stage(Register(6), 3), Stage(Register(7)))).path == "sum/int8"
    assert "reach [-45, 45], which sum[1] (6 bits)" in refusal(
        w, 0, 5, (Stage(Register(6), 3), Stage(Register(6))), "sum"
    )
    assert chosen([[3, 3, 3, -3, -3, -3]], 0, 5, (Stage(Register(7), 3), Stage(Register(7)))).path == "sum/int8"


def test_bytes_against_bytes():
    wide = Register(40)
    for x, w, good in (
        ((-100, 155), 127, True),
        ((-100, 156), 127, False),
        ((0, 255), -128, True),
        ((0, 255), 128, False),
    ):
        path = chosen([w], *x, wide).path
        assert path == ("sum/int8" if good else "sum/int16"), (x, w)
    assert "span more than a byte" in refusal([1], -100, 156, wide, "sum/int8")
    assert "no signed bytes" in refusal([128], 0, 255, wide, "sum/int8")


def test_finished_sums_leave_32_bits_by_one():
    for path, w, x in (("sum/int8", [127], (0, 255)), ("sum/int16", [127], (0, 300))):
        room = (1 << 31) - 1 - 127 * x[1]
        assert chosen(w, *x, Register(40), path, bias=(room,)).path == path
        assert "past 32 bits" in refusal(w, *x, Register(40), path, bias=(room + 1,))
        assert wrapped(127 * x[1] + room + 1, 32) == -(1 << 31)  # what 32 bits would deliver
    # partial sums may pass 32 bits where finished ones do not
    assert chosen([30000, -30000] * 200, 30000, 30001, Register(40)).path == "sum/int16"


def test_words_against_words():
    for w, x, good in (
        ([1], (-32768, 32767), True),
        ([1], (-32768, 32768), False),
        ([32767], (0, 1), True),
        ([32768], (0, 1), False),
    ):
        path = chosen(w, *x, Register(40), None).path
        assert (path in ("sum/int8", "sum/int16")) == good
    assert "inputs of [-32768, 32768] leave [-32768, 32767]" in refusal([1], -32768, 32768, Register(40), "sum/int16")
    assert "weights of [0, 32768] leave [-32768, 32767]" in refusal([32768], 0, 1, Register(40), "sum/int16")


def test_limbs():
    wide = Register(60)
    plan = chosen([32767] * 300, 0, 32767, wide)
    assert (plan.path, plan.limbs) == ("sum/limbs", 2)
    assert "inputs of [0, 32768] leave [-32768, 32767]" in refusal([32767] * 300, 0, 32768, wide, "sum/limbs")
    # 64 terms are the shortest block of whole inputs: 1024·32768·64 is 2^31, one too many
    assert chosen([-32768] * 300, 0, 1023, wide, "sum/limbs").limbs == 1
    assert chosen([-32768] * 300, 0, 1023, wide, "sum/limbs").block == ((1 << 31) - 1) // (1023 * 32768) == 64
    assert chosen([-32768] * 300, 0, 1024, wide, "sum/limbs").limbs == 2
    # a limb of −128 or 128 times −32768: 512 of them are 2^31, one too many
    assert chosen([-32768] * 600, -32768, 32767, wide, "sum/limbs").block == 511


@pytest.mark.parametrize(("path", "bits", "kind"), [("sum/float32", 24, np.float32), ("sum/float64", 53, np.float64)])
def test_floats_hold_whole_numbers_up_to_a_power_of_two(path, bits, kind):
    bound = 1 << bits
    assert chosen([1, 1], 0, bound // 2, Register(62), path).path == path
    assert f"past 2^{bits}" in refusal([1, 1], 0, bound // 2, Register(62), path, bias=(1,))
    assert kind(bound) + kind(1) == bound


def test_16_bit_lanes_need_every_product_to_fit_the_register():
    assert chosen([8], -128, 127, Register(11), "lanes16").lanes == Lanes("saturate16", 0, 5, 5)
    assert chosen([9, -9], 0, 113, Register(11), "lanes16").lanes.spare == 5
    assert "leaves sum[0] (11 bits)" in refusal([9, -9], 0, 114, Register(11), "lanes16")  # 1026 > 1023
    assert wrapped((9 * 114) << 5, 16) != (9 * 114) << 5
    assert chosen([-8, -8], 0, 128, Register(11), "lanes16").lanes.spare == 5  # −1024 fits
    assert chosen([1], -8, 7, Register(14), "lanes16").lanes.spare == 2
    assert "for a trace of events" in refusal([1], -8, 7, Register(15), "lanes16")


def test_operands_share_the_scaling_up_to_16_bits():
    assert chosen([-128] * 9, -128, 127, Register(16)).lanes == Lanes("saturate32", 8, 8, 16)
    doubled = chosen([-128] * 9, 0, 255, Register(16)).lanes
    assert doubled == Lanes("saturate32", 7, 8, 16, doubled=True)
    fallen = chosen([-128] * 9, 0, 511, Register(16))  # one bit more than both can take
    assert fallen.lanes.form == "any32"


def test_the_lowest_product_is_not_doubled():
    # scaled, both operands are −2^15: twice their product is 2^31, which pairs of products wrap to −2^31
    plan = chosen([-256] * 9, -128, 127, Register(16), "lanes32")
    assert plan.lanes.form == "any32"
    assert wrapped(2 * (-(1 << 15)) ** 2, 32) == -(1 << 31)
    assert chosen([-255] * 9, -128, 127, Register(16), "lanes32").lanes.doubled


def test_what_the_lane_clamps_needs_room_for_a_trace():
    assert chosen([100] * 99, -128, 127, Register(20), "lanes32").lanes.form == "saturate32"
    forms = {}
    for bits in (30, 31):
        forms[bits] = chosen([16000] * 99, -16000, 16000, Register(bits), "lanes32").lanes.form
    assert forms == {30: "saturate32", 31: "any32"}
    assert "for a trace of events" in refusal([16000] * 99, -16000, 16000, Register(32), "lanes32")
    assert chosen([16000] * 99, -16000, 16000, Register(32)).path == "wide"


def test_any_lanes_hold_31_bits_and_a_sign():
    register = Register(17, "wrap", rounding="half_even", drop=13)
    assert chosen([32767], 0, 32767, register, "lanes32").lanes == Lanes(
        "any32", 0, 0, 13, rounding="sum", drop=13, mode=register.rounding
    )
    register = replace(register, bits=19, drop=13)  # 2^18·2^13 = 2^31
    assert "past 32 bits" in refusal([1], 0, 1, register, "lanes32")
    register = replace(
        register, bits=18, drop=13
    )  # 2^17·2^13 for the register, 2^13 for rounding, the rest for a product
    room = (1 << 31) - 1 - (1 << 30) - (1 << 13)
    assert room // 32767 == 32768
    assert chosen([32767], 0, 32767, register, "lanes32").lanes.form == "any32"
    assert "past 32 bits" in refusal([-32768], -32768, 0, register, "lanes32")  # 2^30 + 2^30 + 2^13


def test_any_lanes_have_room_for_what_rounding_adds():
    # 2^30 for the register, 2^30 − 2^16 + 1 for a product, and 2^15 or 2^17 for rounding up
    up = {"overflow": "wrap", "rounding": "half_away"}
    assert chosen([32767], 0, 32767, Register(16, **up, drop=15), "lanes32").lanes.form == "any32"
    assert "past 32 bits" in refusal([32767], 0, 32767, Register(14, **up, drop=17), "lanes32")
    # a product rounded by itself: 2^30 − 2^16 + 1 and 2^30 for rounding up, or 2^30 twice, which is one too many
    alone = Register(14, "wrap", rounding="ceil", drop=30)
    assert chosen([32767], 0, 32767, alone, "lanes32").lanes == Lanes(
        "any32", rounding="term", drop=30, mode=alone.rounding
    )
    assert "past 32 bits" in refusal([-32768], -32768, 0, alone, "lanes32")
    # what is left of it meets the register at the register's own scale: 2^30 + 2^29 + 1
    assert chosen([-32768], -32768, 0, Register(31, "wrap", drop=1), "lanes32").lanes.rounding == "term"
    # without a rounding the sum is all there is: 2^30 + 2^30 is one too many
    assert "ask for ±2147483648" in refusal([-32768], -32768, 0, Register(31, "wrap"), "lanes32")
    assert chosen([-32767], -32768, 0, Register(31, "wrap"), "lanes32").lanes.form == "any32"


def test_a_register_without_a_sign_is_no_lane_of_its_own():
    assert chosen([3] * 99, 0, 99, Register(12, signed=False), "lanes32").lanes == Lanes("any32")
    assert "without a sign" in refusal([3] * 99, 0, 99, Register(12, signed=False), "lanes16")
    assert chosen([3] * 99, 0, 99, Register(12), "lanes16").lanes == Lanes("saturate16", 0, 4, 4)


def test_a_register_with_a_finer_step_takes_scaled_products():
    w = [5] * 99
    assert chosen(w, 0, 99, Register(20, frac=3), "lanes32").lanes == Lanes("saturate32", 3, 12, 12)
    assert chosen(w, 0, 99, Register(20, "wrap", frac=3), "lanes32").lanes == Lanes("any32", 0, 3)
    finer = Register(14, frac=3)
    assert chosen(w, 0, 99, Register(20, "wrap"), "lanes32", product=finer).lanes == Lanes("any32", 0, 3)
    assert "may leave product (12 bits)" in refusal(w, 0, 99, Register(20), "lanes32", product=replace(finer, bits=12))
    rounding = Register(12, drop=3)
    assert chosen(w, 0, 99, Register(20), "lanes32", product=rounding).lanes.rounding == "term"
    assert "both product and sum[0] move" in refusal(w, 0, 99, Register(20, frac=0), "lanes32", product=rounding)


@pytest.mark.parametrize(("rounding", "top"), [("floor", 255), ("half_up", 251)])
def test_a_rounding_product_register_must_not_overflow(rounding, top):
    product = Register(6, rounding=rounding, drop=3)
    plan = chosen([1, 1], 0, top, Register(8), "lanes32", product=product)
    assert plan.lanes == Lanes("any32", rounding="term", drop=3, mode=product.rounding)
    assert "may leave product (6 bits)" in refusal([1, 1], 0, top + 1, Register(8), "lanes32", product=product)
    assert keep(top + 1, 3, product)[1] == 32


HALF_UP, FLOOR = ({"rounding": r} for r in ("half_up", "floor"))


def high(w, low, high, register, product=None):
    """Lanes of a rounded product, or what they fall back to."""
    return chosen(w, low, high, register, "lanes32", product=product).lanes


def test_the_high_half_of_a_scaled_product_is_a_rounded_product():
    w = [100, -100] * 9
    for mode, x_shift in (("half_up", 3), ("floor", 4)):
        rounding = Register(20, rounding=mode, drop=4)
        want = Lanes("high32", x_shift, 8, 12, rounding="term", drop=4, mode=rounding.rounding)
        assert high(w, -128, 127, Register(20), rounding) == want
        assert high(w, -128, 127, rounding) == want  # floor((2^s · total + p) / 2^s) = total + floor(p / 2^s)
        assert all(
            keep((total << 4) + p, 4, rounding)[1] == total + keep(p, 4, rounding)[1]
            for total in range(-3, 4)
            for p in range(-40, 40)
        )
    assert high(w, -128, 127, Register(20, rounding="ceil", drop=4)).form == "any32"
    assert high(w, -128, 127, Register(20, "wrap", drop=4)).form == "any32"
    assert high(w, -128, 127, Register(20, "saturate_symmetric", drop=4)).form == "any32"
    even = Register(20, rounding="half_even", drop=4)
    assert high(w, -128, 127, even).rounding == "sum"  # the even one of two is not told by the product alone
    assert keep((1 << 4) + 8, 4, even)[1] != 1 + keep(8, 4, even)[1]


def test_a_rounded_product_is_shifted_by_a_factor_of_16_bits_and_leaves_room_for_a_trace():
    forms = {bits: high([100] * 9, -128, 127, Register(bits, drop=4)).form for bits in (17, 18, 30, 31)}
    assert forms == {17: "any32", 18: "high32", 30: "high32", 31: "any32"}
    assert wrapped(1 << 15, 16) == -(1 << 15)  # what a register of 17 bits would multiply by


def test_the_lowest_product_is_not_rounded_half_up_to_16_bits():
    w, rounding = [-16384] * 9, Register(20, **HALF_UP, drop=13)
    assert high(w, -16384, 16383, rounding).form == "any32"  # scaled, both are −2^15, which would round to 2^15
    assert keep(16384 * 16384, 13, rounding)[1] == 1 << 15
    assert high(w, -16383, 16383, rounding) == Lanes(
        "high32", 1, 1, 12, rounding="term", drop=13, mode=rounding.rounding
    )
    assert high(w, -16384, 16383, replace(rounding, rounding="floor")).form == "any32"  # 2^3 in all is a bit too much
    assert high(w, -16384, 16383, Register(20, **FLOOR, drop=14)).form == "high32"


def test_no_more_is_dropped_than_the_multiplier_drops():
    w = [30000] * 9
    for mode, most in ((FLOOR, 16), (HALF_UP, 15)):
        assert high(w, -30000, 30000, Register(18, **mode, drop=most)).form == "high32"
        assert high(w, -30000, 30000, Register(18, **mode, drop=most + 1)).form == "any32"
    assert high([15000] * 9, -15000, 15000, Register(18, drop=14)).form == "high32"
    assert high([15000] * 9, -15000, 16384, Register(18, drop=14)).form == "any32"  # scaled it is 2^15
    assert wrapped(16384 << 1, 16) == -(1 << 15)


def test_a_product_that_may_overflow_after_rounding_is_no_high_half():
    product = Register(10, **HALF_UP, drop=4)
    assert high([64], 0, 127, Register(20), product).form == "high32"  # 508
    assert "may leave product" in refusal([64], 0, 128, Register(20), "lanes32", product=product)
    assert keep(64 * 128, 4, product) == (511, 512)


def test_totals_of_an_inert_stage_enter_the_next_one():
    w = [7, -7] * 20
    for bits, level in ((10, 1), (9, 0)):  # 8 · 7 · 9 = 504 fits 10 bits, in tiles of 16
        plan = chosen(w, 0, 9, (Stage(Register(bits), 16), Stage(Register(11))), "lanes32")
        assert (plan.level, plan.lanes.form) == (level, "any32" if level else "saturate32")
    reason = chosen(w, 0, 9, (Stage(Register(10), 16), Stage(Register(9)))).reason
    assert reason == "9-bit sum[1] saturates at every addition of an exact total of sum[0]: 32-bit lanes"


def test_totals_leave_32_bits_with_the_register_by_one():
    tiles = Stage(Register(32), 4), Stage(Register(31), 2), Stage(Register(40))
    w = [1 << 14, 1 << 14, 1 << 14, (1 << 14) - 1]
    assert chosen(w * 4, 0, 1 << 14, tiles, "lanes32").level == 1  # 2^30 for the register, 2^30 − 2^14 for a total
    text = refusal([1 << 14] * 16, 0, 1 << 14, tiles, "lanes32")
    assert "sum[1] (31 bits) plus a term may ask for ±2147483648, past 32 bits" in text


def test_a_late_bias_bars_the_outermost_stage_only():
    w = [7, -7] * 20
    two = (Stage(Register(10), 16), Stage(Register(11)))
    inner = (two[0], replace(two[1], size=3))
    assert chosen(w, 0, 9, two, "lanes32", bias=(3,)).level == 1
    assert chosen(w, 0, 9, two, "lanes32", bias=(3,), at="last").level == 0
    assert chosen(w, 0, 9, (*inner, Stage(Register(20))), "lanes32", bias=(3,), at="last").level == 1


def test_a_stage_of_totals_is_watched_where_a_block_of_terms_is_small():
    w = [1, -1] * 512
    for bits, path in ((14, "certified"), (13, "lanes32")):  # four tiles of 16 terms may move it by 32 · 100
        plan = chosen(w, 0, 100, (Stage(Register(12), 16), Stage(Register(bits))))
        assert (plan.path, plan.level, plan.watched) == (path, 1, True)


def test_random_numbers_and_late_biases_are_left_to_the_wide_path():
    random = Register(12, rounding="stochastic", drop=2)
    for forced in ("lanes16", "lanes32", "certified"):
        assert "rounds at random" in refusal([1] * 9, 0, 9, random, forced)
        assert "a bias that comes last" in refusal([99] * 9, 0, 99, Register(12), forced, bias=(1,), at="last")
        assert "the bias alone makes its register act" in refusal([99] * 9, 0, 99, Register(12), forced, bias=(5000,))
    assert chosen([1] * 9, 0, 9, random).path == "wide"


def test_a_certificate_is_sought_where_a_block_is_small_against_the_register():
    w = [1] * 1024
    for high, path in ((255, "certified"), (256, "lanes32")):  # 4 · 64 · 255 ≤ 2^16 − 1
        plan = chosen(w, 0, high, Register(16))
        assert plan.path == path
        assert chosen(w, 0, high, Register(16), "certified").operands == ("int8" if high == 255 else "int16")
    plan = chosen(w, 0, 255, Register(16))
    assert plan.watched
    assert plan.lanes == Lanes("saturate32", 2, 14, 16)
    assert plan.counting == Lanes("any32")
    # totals of an inert stage go on in 64 bits only where no lanes can follow the next one
    for bits, path, level in ((28, "lanes32", 1), (29, "certified", 0)):  # 2^27 · 8, a total and a half, or twice that
        rounded = (Stage(Register(30), 64), Stage(Register(bits, rounding="half_even", drop=3)))
        plan = chosen(w, 0, 255, rounded)
        assert (plan.path, plan.level, plan.watched) == (path, level, path == "lanes32")
    assert "past 32 bits" in refusal([32767] * 9, 0, 32767, Register(20), "certified")
    assert "sum[0] moves by 2 bits" in refusal(w, 0, 255, Register(12, drop=2), "certified")


def test_agreements_of_bits_are_counted_step_by_step():
    bound = bound_of(Register(3, signed=False), 13)
    reach = extent(np.ones((1, 13), np.int64), -1, 1, True, flush_of(bound, 13))
    assert choose(reach, bound, (), 13).path == "wide"
    for forced in ("sum", "lanes32", "certified"):
        with pytest.raises(BadInput, match="agreements of bits"):
            choose(reach, bound, (), 13, forced)


def test_unknown_and_hopeless_paths_are_named():
    assert "no kernel path 'quick'" in refusal([1], 0, 1, Register(8), "quick")
    assert "sum/int8" in refusal([1], 0, 1, Register(8), "quick")
    sign = Register(8, "wrap_sign_magnitude")
    with pytest.raises(TooWide, match=r"sign and magnitude.*engine='exact'"):
        chosen([9], 0, 99, sign)
    with pytest.raises(TooWide, match="more than 62"):
        chosen([1 << 60], 0, 99, Register(64), "wide")


def test_numbers_in_reasons_are_grouped():
    assert [spaced(n) for n in (0, 999, 1000, -83211)] == ["0", "999", "1 000", "-83 211"]
    assert "sums stay within ±32 385; unsigned bytes × int8" in chosen([127], 0, 255, Register(32)).reason
    reason = chosen([-128] * 9, -128, 127, Register(16)).reason
    assert reason == "16-bit sum[0] saturates at every addition: 32-bit lanes, products scaled by 2^16"
