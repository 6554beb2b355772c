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
    plan = chosen([32767] * 300, 0, 32639, wide)
    assert (plan.path, plan.limbs) == ("sum/limbs", (2, 1))
    assert "inputs of [0, 32640] leave [-32768, 32639]" in refusal([32767] * 300, 0, 32640, wide, "sum/limbs")
    # sums of the low limb reach −128·32639·n: n = 514 still fits 32 bits, 515 does not
    assert chosen([32639] * 514, 0, 32639, wide, "sum/limbs").limbs == (2, 1)
    assert chosen([32639] * 515, 0, 32639, wide, "sum/limbs").limbs == (2, 2)
    assert 128 * 32639 * 514 < 1 << 31 < 128 * 32639 * 515
    assert "weights of [0, 32640] leave" in refusal([32640] * 515, 0, 32639, wide, "sum/limbs")
    # −128 · −32768 · 512 is 2^31, one too many
    assert chosen([-32768] * 511, -32768, 32639, wide, "sum/limbs").limbs == (2, 1)
    assert chosen([-32768] * 512, -32768, 32639, wide, "sum/limbs").limbs == (2, 2)
    # a product of two limbs is at most 2^14, so 2^17 of them are one too many
    many = [32639] * (1 << 17)
    assert chosen(many[1:], 0, 32639, wide, "sum/limbs").limbs == (2, 2)
    assert "products of two limbs reach ±2147483648" in refusal(many, 0, 32639, wide, "sum/limbs")


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
    register = Register(17, "wrap", drop=13)
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
    assert chosen([32767], 0, 32767, Register(16, "wrap", rounding="ceil", drop=15), "lanes32").lanes.form == "any32"
    assert "past 32 bits" in refusal([32767], 0, 32767, Register(14, "wrap", rounding="ceil", drop=17), "lanes32")
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
    assert chosen(w, 0, 99, Register(20), "lanes32", product=rounding).lanes.rounding == "product"
    assert "both product and sum[0] move" in refusal(w, 0, 99, Register(20, frac=0), "lanes32", product=rounding)


@pytest.mark.parametrize(("rounding", "top"), [("floor", 255), ("half_up", 251)])
def test_a_rounding_product_register_must_not_overflow(rounding, top):
    product = Register(6, rounding=rounding, drop=3)
    plan = chosen([1, 1], 0, top, Register(8), "lanes32", product=product)
    assert plan.lanes == Lanes("any32", 0, 0, 3, rounding="product", drop=3, mode=product.rounding)
    assert "may leave product (6 bits)" in refusal([1, 1], 0, top + 1, Register(8), "lanes32", product=product)
    assert keep(top + 1, 3, product)[1] == 32


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
    rounded = (Stage(Register(30), 64), Stage(Register(16, drop=3)))
    assert not chosen(w, 0, 255, rounded).watched
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
