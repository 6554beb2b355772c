from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn import encoding
from fixqnn.encoding import SLACK, draws, fit_array
from fixqnn.errors import BadInput, RegisterOverflow
from fixqnn.format import Format, affine, binary, fixed
from fixqnn.kernels import reals
from fixqnn.modes import Overflow, Rounding, draw64, fit, round_quotient

VECTORS = Path(__file__).parent / "vectors"
DETERMINISTIC = [r for r in Rounding if r != "stochastic"]
# Names of the vendors' modes, spelled out here and not taken from the dialects under test elsewhere.
WORDS = {
    "TRN": "floor", "TRN_ZERO": "toward_zero", "RND": "half_up", "RND_ZERO": "half_toward_zero",
    "RND_MIN_INF": "half_down", "RND_INF": "half_away", "RND_CONV": "half_even", "RND_CONV_ODD": "half_odd",
    "SAT": "saturate", "SAT_ZERO": "saturate_zero", "SAT_SYM": "saturate_symmetric", "WRAP": "wrap",
    "WRAP_SM": "wrap_sign_magnitude",
}  # fmt: skip


def reference(value, format, rounding, overflow="saturate", kept=0, channel=0, draw=0):
    """Encode one number as the documentation says it, in rationals."""
    scale, zero = format.scale_at(channel), format.zero_at(channel)
    quotient = Fraction(value) / scale
    inside, after = (quotient, zero) if isinstance(zero, int) else (quotient + zero, 0)
    code = round_quotient(inside.numerator, inside.denominator, rounding, draw) + after
    deleted = (inside.numerator // inside.denominator + after) >> format.bits & 1
    return fit(code, format.bits, format.signed, overflow, kept, deleted, format.narrow_range)


scales = st.one_of(
    st.integers(-40, 40).map(lambda e: Fraction(2) ** e),
    st.floats(1e-3, 1e3).map(Fraction),
    st.floats(2.0**-10, 1024.0, width=32).map(Fraction),
    st.fractions(Fraction(1, 1000), 1000, max_denominator=1000),
    st.sampled_from([Fraction(1, 10**400), Fraction(10**400), Fraction(5e-324), Fraction(1.7e308)]),
)
zeros = st.one_of(st.integers(-300, 300), st.sampled_from([Fraction(1, 2), Fraction(-1, 3), Fraction(7, 4), 10**30]))
formats = st.builds(Format, st.integers(2, 80), st.booleans(), scales, zeros)


@st.composite
def formats_and_values(draw):
    """Draw a format and float64 values on, beside and far from its ties, integers and ends."""
    format = draw(formats)
    values = []
    for _ in range(draw(st.integers(1, 8))):
        code = draw(st.one_of(st.integers(-20, 20), st.integers(format.low - 3, format.high + 3)))
        real = format.scale * (code + draw(st.sampled_from([0, Fraction(1, 2)])) - format.zero_point)
        try:
            near = float(real)
        except OverflowError:
            near = 1.7e308
        for _ in range(abs(steps := draw(st.integers(-3, 3)))):
            near = float(np.nextafter(near, np.inf * steps))
        values.append(near)
    values.append(draw(st.floats(allow_nan=False, allow_infinity=False)))
    return format, np.nan_to_num(np.array(values))


@settings(max_examples=300, deadline=None)
@given(formats_and_values(), st.sampled_from(DETERMINISTIC), st.sampled_from(["saturate", "wrap", "saturate_zero"]))
def test_codes_on_and_beside_every_tie_are_those_of_rational_arithmetic(pair, rounding, overflow):
    format, values = pair
    got = format.encode(values, rounding, overflow).tolist()
    assert got == [reference(v, format, rounding, overflow) for v in values.tolist()]


@settings(max_examples=100, deadline=None)
@given(formats_and_values(), st.integers(-(2**70), 2**70))
def test_stochastic_codes_are_those_of_rational_arithmetic_with_the_numbered_draws(pair, seed):
    format, values = pair
    got = format.encode(values, "stochastic", seed=seed).tolist()
    want = [reference(v, format, "stochastic", draw=draw64(seed, 0, i)) for i, v in enumerate(values.tolist())]
    assert got == want


def test_a_tie_that_float_division_misses_is_found():
    # 0.35 / 0.1 is 3.4999999999999996 in float64 and 3.5 in float32; exactly it is a little below 3.5.
    assert affine(8, 0.1).encode([0.35], "half_up").tolist() == [3]
    # 0.15 / 0.1 is 1.4999999999999998 in float64; with a scale of exactly 1/10 it is a little below 1.5.
    assert affine(8, Fraction(1, 10)).encode([0.15], "half_up").tolist() == [1]
    # 2.5 * float64(0.1) is no float64; the float64 next to it divide to 2.5 in float arithmetic, from both sides.
    scale = Fraction(0.1)
    near = float(scale * 5 / 2)
    values = [np.nextafter(near, 0.0), near, np.nextafter(near, 1.0)]
    want = [int(Fraction(float(v)) / scale >= Fraction(5, 2)) + 2 for v in values]
    assert sorted(set(want)) == [2, 3]
    assert affine(8, 0.1).encode(values, "half_up").tolist() == want


def test_a_true_tie_of_a_free_scale_follows_the_mode():
    third = affine(8, Fraction(1, 3))
    assert third.encode([0.5, -0.5, 1.5], "half_even").tolist() == [2, -2, 4]
    assert third.encode([0.5, -0.5, 1.5], "half_up").tolist() == [2, -1, 5]
    assert third.encode([0.5, -0.5, 1.5], "half_odd").tolist() == [1, -1, 5]
    assert third.encode([1.0, -2.0], "floor").tolist() == [3, -6]


def test_every_half_of_a_float_scale_is_decided_exactly():
    for scale in (0.1, 0.3, 1 / 3, float(np.float32(0.017))):
        format = affine(12, scale)
        values = (np.arange(-2000, 2001) / 2) * scale  # rounded: some land above their tie, some below
        for rounding in DETERMINISTIC:
            want = [reference(v, format, rounding) for v in values.tolist()]
            assert format.encode(values, rounding).tolist() == want, (scale, rounding)


def test_the_slack_covers_the_error_of_a_rounded_scale_and_a_rounded_quotient():
    # The largest relative error that division by a rounded scale shows here must stay below half the slack.
    generator = np.random.default_rng(3)
    worst = Fraction(0)
    for _ in range(3000):
        scale = Fraction(int(generator.integers(1, 2**60)), int(generator.integers(1, 2**60)))
        value = float(generator.normal())
        exact = Fraction(value) / scale
        worst = max(worst, abs((Fraction(value / float(scale)) - exact) / exact))
    assert Fraction(SLACK) / 16 < worst < Fraction(SLACK) / 2


def test_values_barely_beside_zero_are_not_taken_for_zero():
    tiny = [5e-324, -5e-324, 0.0, -0.0]
    assert fixed(8, 4).encode(tiny, "ceil").tolist() == [1, 0, 0, 0]
    assert fixed(8, 4).encode(tiny, "floor").tolist() == [0, -1, 0, 0]
    assert fixed(8, -900).encode(tiny, "away_from_zero").tolist() == [1, -1, 0, 0]
    assert affine(8, 3.7).encode(tiny, "away_from_zero").tolist() == [1, -1, 0, 0]
    assert binary().encode(tiny, "half_down").tolist() == [1, 0, 0, 0]
    beside = [-0.25 - 2**-54, -0.25, -0.25 + 2**-55]  # adding 1 to the last quotient would round to a tie
    assert fixed(8, 1).encode(beside, "half_up").tolist() == [-1, 0, 0]
    assert fixed(8, 1).encode(beside, "half_down").tolist() == [-1, -1, 0]


def test_scales_and_zero_points_at_the_ends_of_the_machine_numbers_change_nothing():
    subnormal = affine(8, Fraction(5, 3) / 2**1074)  # its nearest float64 is 20 % off
    values = [k * 5e-324 for k in range(-9, 10)]
    for rounding in DETERMINISTIC:
        assert subnormal.encode(values, rounding).tolist() == [reference(v, subnormal, rounding) for v in values]
    assert affine(8, 1, 2**63 - 1).encode([5.0]).tolist() == [127]
    assert affine(8, 1, -(2**63)).encode([-5.0]).tolist() == [-128]
    assert affine(8, 1, 2**63 - 1).encode([5.0], overflow="wrap").tolist() == [4]
    assert affine(8, 1e300, 10**400).encode([1.0]).tolist() == [127]


def test_binary_codes_are_signs():
    assert binary().encode([-1, -0.1, 0, 0.1, 1], "half_up").tolist() == [0, 0, 1, 1, 1]
    assert binary().encode([-1, -0.1, 0, 0.1, 1], "half_even").tolist() == [0, 0, 0, 1, 1]
    assert binary().encode([-9.0, 9.0]).tolist() == [0, 1]


def test_an_integer_zero_point_is_added_after_rounding_and_a_fractional_one_before():
    assert affine(8, 1, 1).encode([0.5, 1.5], "half_even").tolist() == [1, 3]
    assert affine(8, 1, Fraction(1, 2)).encode([0.5, 1.0, 2.0], "half_even").tolist() == [1, 2, 2]
    assert affine(8, 1, Fraction(1, 2)).encode([0.5, 1.0, 2.0], "half_up").tolist() == [1, 2, 3]


@pytest.mark.parametrize("vendor", ["ap", "ac"])
def test_codes_of_doubles_are_those_of_the_vendor(vendor):
    with np.load(VECTORS / f"{vendor}_fixed_from_double.npz") as file:
        x, rows, types = file["x"], file["y"], json.loads(str(file["meta"]))["dst"]
    assert len(rows) == len(types) == {"ap": 105, "ac": 64}[vendor]
    for row, (bits, whole, signed, rounding, overflow, kept) in zip(rows, types, strict=True):
        got = fixed(bits, bits - whole, signed).encode(x, WORDS[rounding[3:]], WORDS[overflow[3:]], kept)
        first = np.flatnonzero(got != row)[:1]
        assert not first.size, (bits, whole, signed, rounding, overflow, kept, x[first], got[first], row[first])


@pytest.mark.parametrize("overflow", Overflow)
def test_arrays_are_stored_as_single_integers_are(overflow):
    whole = np.arange(-300, 301)
    for bits, signed in [(1, True), (1, False), (2, True), (5, True), (5, False), (8, True)]:
        if overflow == "wrap_sign_magnitude" and not signed:
            continue
        for kept in range(bits if overflow.wraps else 1):
            codes, acted, unfit = fit_array(whole, Format(bits, signed), overflow, kept)
            for v, code, changed, left in zip(whole.tolist(), codes.tolist(), acted, unfit, strict=True):
                want = fit(v, bits, signed, overflow, kept)
                if left:
                    assert overflow == "wrap_sign_magnitude"
                    assert changed
                else:
                    assert code == want, (bits, signed, kept, v)
                    assert changed == (want != v)


def test_narrow_ranges_store_without_their_extreme():
    values = [-9.0, -8.0, -7.0, 7.0, 8.0]
    narrow = affine(4, 1, narrow_range=True)
    assert narrow.encode(values).tolist() == [-7, -7, -7, 7, 7]
    assert narrow.encode(values, overflow="saturate_zero").tolist() == [0, 0, -7, 7, 0]
    assert affine(4, 1, signed=False, narrow_range=True).encode([-1.0, 14.0, 15.0]).tolist() == [0, 14, 14]


def test_only_codes_that_overflow_changed_are_counted():
    format = fixed(4, 0)
    values = [-9.0, -8.5, -8.0, 7.0, 7.5, 100.0, np.float64(1e300)]
    codes, count = format.encode_and_count(values)
    assert codes.tolist() == [-8, -8, -8, 7, 7, 7, 7]
    assert count == 4  # -8.5 rounds to -8, which is in range; 7.5 rounds to 8, which is not
    assert format.encode_and_count([-8.0, 7.0], overflow="saturate_symmetric")[1] == 1
    assert format.encode_and_count(values, overflow="wrap")[1] == 4
    assert format.encode_and_count(values, overflow="forbid")[1] == 4


def test_forbid_raises_where_the_first_value_is_out_of_range():
    assert fixed(8, 4).encode([[7.9]], overflow="forbid").tolist() == [[126]]
    with pytest.raises(RegisterOverflow) as problem:
        fixed(8, 4).encode([[0.0, 1.0], [2.0, -9.25]], overflow="forbid", name="weight")
    assert str(problem.value) == (
        "weight[1, 1] = -9.25 is beyond fixed(8, 4), which reaches from -8.0 to 7.9375; "
        "overflow='saturate' would clip it"
    )


def test_every_channel_has_its_own_scale_and_zero_point():
    third = Fraction(1, 3)
    format = affine(8, (0.5, Fraction(1, 5), third, third), (0, 10, 0, Fraction(1, 2)), axis=1)
    ties = np.array([-1.5, -1, -0.5, -0.125, 0.125, 0.5, 1, 1.5]).reshape(2, 1, 4)
    values = np.broadcast_to(ties, (2, 4, 4))  # the same ones in every channel
    got = format.encode(values, "half_up")
    for index in np.ndindex(values.shape):
        assert got[index] == reference(float(values[index]), format, "half_up", channel=index[1]), index
    assert np.array_equal(format.channel(2).encode(values[:, 2], "half_up"), got[:, 2])


def test_the_layout_of_an_array_in_memory_changes_nothing():
    format = affine(6, (0.1, Fraction(1, 7)), axis=0)
    values = np.linspace(-2, 2, 2 * 3 * 5).reshape(2, 3, 5)
    values[1, 2, 3] = 1e300
    want = format.encode(values, "stochastic", seed=5)
    for other in (np.asfortranarray(values), values[::-1][::-1], values.transpose(2, 1, 0).copy().transpose(2, 1, 0)):
        got = format.encode(other, "stochastic", seed=5)
        assert np.array_equal(got, want)
        assert got.flags.c_contiguous


def test_all_kinds_of_numbers_are_read_at_their_exact_value():
    torch = pytest.importorskip("torch")
    format = fixed(20, 10)
    for values in (
        [0.5, -1.25],
        np.array([0.5, -1.25], np.float16),
        np.array([0.5, -1.25], np.longdouble),
        [Fraction(1, 2), Fraction(-5, 4)],
        np.array([Fraction(1, 2), -1.25], object),
        torch.tensor([0.5, -1.25], requires_grad=True),
        torch.tensor([0.5, -1.25], dtype=torch.bfloat16),
    ):
        assert format.encode(values).tolist() == [512, -1280]
    for values in ([True, False], np.array([1, 0], np.uint8), torch.tensor([1, 0])):
        assert format.encode(values).tolist() == [1024, 0]
    assert format.encode(0.5) == 512
    assert format.encode(0.5).shape == ()
    assert format.encode([]).shape == (0,)
    assert format.encode(np.zeros((0, 3))).shape == (0, 3)
    assert format.encode(np.array([], object)).dtype == np.int32


def test_integers_past_float64_keep_every_bit():
    format = fixed(80, 0)
    wide = [2**53 + 1, -(2**63) - 1, 2**78 + 1]
    assert format.encode(wide).tolist() == wide
    assert format.encode([2**63 + 1, -1]).tolist() == [2**63 + 1, -1]
    assert format.encode([2**60 + 1, 0.5], "half_up").tolist() == [2**60 + 1, 1]
    assert fixed(64, 0).encode(np.array([2**62 + 1], np.int64)).tolist() == [2**62 + 1]
    assert fixed(64, 0, signed=False).encode(np.array([2**64 - 1], np.uint64)).tolist() == [2**64 - 1]
    assert fixed(64, 0).encode([2.0**63, -(2.0**63), 2.0**62]).tolist() == [2**63 - 1, -(2**63), 2**62]
    assert fixed(63, 0).encode([2.0**62, -(2.0**62) - 1024]).tolist() == [2**62 - 1, -(2**62)]
    for bits in (62, 63, 64, 65):
        unsigned = fixed(bits, 0, signed=False)
        assert unsigned.encode([-1.0, 1.0]).tolist() == [0, 1]
        assert unsigned.encode([-1.0, 1.0], overflow="wrap").tolist() == [2**bits - 1, 1]
        assert unsigned.encode([-1.0], overflow="wrap", kept=2).tolist() == [2**bits - 1]
    assert fixed(62, 0).encode([2.0**61, -(2.0**61)]).tolist() == [2**61 - 1, -(2**61)]


def test_large_arrays_meet_rational_arithmetic_only_at_doubtful_values(monkeypatch):
    calls = []
    monkeypatch.setattr(encoding, "round_quotient", lambda *a: calls.append(a) or round_quotient(*a))
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    affine(8, 0.0123, 3).encode(values)
    fixed(16, 8).encode(values, "floor", "wrap")
    binary().encode(np.where(values > 1, 0, values), "half_up")
    assert len(calls) == 1  # the one value 0, exactly between the codes of binary()
    calls.clear()
    on_grid = np.round(values.astype(np.float64)) * 0.0123
    affine(8, 0.0123).encode(on_grid, "floor")
    assert 0 < len(calls) <= len(np.unique(on_grid)) < 20


def test_what_is_no_finite_number_is_refused_by_index():
    with pytest.raises(BadInput, match=r"^values\[3, 1\] is nan; only finite numbers can be encoded$"):
        fixed(8, 4).encode(np.where(np.arange(8).reshape(4, 2) == 7, np.nan, 0.0))
    with pytest.raises(BadInput, match=r"^x\[0\] is -inf; "):
        fixed(8, 4).encode(np.array([-np.inf, np.nan], np.float32), name="x")
    with pytest.raises(BadInput, match=r"^values is inf; "):
        fixed(8, 4).encode(float("inf"))
    with pytest.raises(BadInput, match=r"^values\[1\] is nan; only finite real numbers"):
        fixed(8, 4).encode([Fraction(1, 2), float("nan")])
    with pytest.raises(BadInput, match=r"^values\[1\] is None; only finite real numbers"):
        fixed(8, 4).encode([1.0, None])
    with pytest.raises(BadInput, match="values has dtype complex128; only real numbers can be encoded"):
        fixed(8, 4).encode([1j])
    with pytest.raises(BadInput, match="values has dtype <U1; only real numbers can be encoded"):
        fixed(8, 4).encode(["1"])
    with pytest.raises(BadInput, match="x cannot be made an array"):
        fixed(8, 4).encode([[1], [1, 2]], name="x")


def test_draws_of_an_array_are_the_numbered_draws():
    for seed in (0, 1, 2**64 - 1, -7):
        assert draws(seed, 50).tolist() == [draw64(seed, 0, i) for i in range(50)]


def test_stochastic_codes_beside_the_deciding_draw_are_exact():
    decided = set()
    for seed in range(100):
        draw = draw64(seed, 0, 0)
        edge = float(1 - Fraction(draw, 2**64))  # from here on the code is 1
        for value in (np.nextafter(edge, 0.0), edge, np.nextafter(edge, 2.0)):
            want = reference(float(value), fixed(8, 0), "stochastic", draw=draw)
            assert fixed(8, 0).encode([value], "stochastic", seed=seed).tolist() == [want], (seed, value)
            decided.add((float(value) + draw * 2.0**-64 >= 1, want))
    assert (True, 0) in decided  # float64 would have been wrong


def test_stochastic_codes_average_to_the_value_and_repeat_by_seed():
    values = np.full(100_000, 0.3)
    codes = fixed(8, 0).encode(values, "stochastic", seed=1)
    assert set(codes.tolist()) == {0, 1}
    assert abs(codes.mean() - 0.3) < 0.0075  # five standard deviations of 100,000 draws
    assert np.array_equal(codes, fixed(8, 0).encode(values, "stochastic", seed=1))
    assert not np.array_equal(codes, fixed(8, 0).encode(values, "stochastic", seed=2))


@settings(max_examples=200, deadline=None)
@given(formats, st.data())
def test_decoded_reals_are_correctly_rounded(format, data):
    codes = data.draw(st.lists(st.integers(format.low, format.high), max_size=5))
    exact = [format.scale * (code - format.zero_point) for code in codes]
    assert format.decode_exact(codes).tolist() == exact
    want = []
    for value in exact:
        try:
            want.append(float(value))
        except OverflowError:
            want.append(float("inf") if value > 0 else float("-inf"))
    assert format.decode(np.array(codes, format.code_dtype)).tolist() == want


def test_per_channel_codes_decode_by_channel():
    format = affine(8, (0.5, Fraction(1, 3)), (0, Fraction(1, 2)), axis=1)
    assert format.decode([[2, 2], [4, -1]]).tolist() == [[1.0, 0.5], [2.0, -0.5]]
    assert format.decode_exact([[2, 2]]).tolist() == [[1, Fraction(1, 2)]]
    deep = affine(8, (0.5, Fraction(1, 3)), axis=1)
    want = [[[0, Fraction(1, 2), 1], [1, Fraction(4, 3), Fraction(5, 3)]]]
    assert deep.decode_exact(np.arange(6).reshape(1, 2, 3)).tolist() == want
    wide = affine(90, (Fraction(1, 3), Fraction(1)), axis=0)
    assert wide.decode([3 * 2**80, 2**80 + 1]).tolist() == [2.0**80, 2.0**80]


def test_decoding_refuses_what_are_no_codes():
    with pytest.raises(BadInput, match="codes has dtype float64, but codes are integers"):
        fixed(8, 4).decode([0.5])
    with pytest.raises(BadInput, match=r"codes\[1\] is 1/2; codes are integers"):
        fixed(8, 4).decode([2**70, Fraction(1, 2)])
    assert fixed(8, 4).decode([]).tolist() == []
    assert fixed(8, 4).decode([True]).tolist() == [0.0625]


@settings(max_examples=100, deadline=None)
@given(formats, st.sampled_from([r for r in DETERMINISTIC if r.nearest]), st.data())
def test_encoding_brings_exact_reals_back_to_their_codes(format, rounding, data):
    codes = data.draw(st.lists(st.integers(format.low, format.high), max_size=5))
    assert format.encode(format.decode_exact(codes), rounding).tolist() == codes


# ------------------------------------------------------------------------------- one compiled pass, for the fast engine
def assert_encoded_alike(format, values):
    want, clipped = format.encode_and_count(values)
    got, counted = reals.encode_and_count(format, values)
    assert got.dtype == format.narrow_dtype
    assert np.array_equal(got, want), (format, values[got != want])
    assert counted == clipped


@settings(max_examples=300, deadline=None)
@given(formats_and_values())
def test_the_compiled_pass_gives_the_codes_of_the_definition_on_and_beside_ties(pair):
    format, values = pair
    assert_encoded_alike(format, values)
    with np.errstate(over="ignore"):
        assert_encoded_alike(format, np.nan_to_num(values.astype(np.float32)))


@pytest.mark.parametrize("scale", [0.1, 1 / 3, Fraction(1, 3), Fraction(1, 255), 0.25, 2.0**-899, 1.1 * 2.0**899])
@pytest.mark.parametrize("zero", [0, -128, 300, 2**24])
def test_the_compiled_pass_decides_every_half_and_its_neighbours(scale, zero):
    format = affine(8, scale, zero)
    halves = np.array([float(Fraction(scale) * k / 2) for k in range(-2 * abs(zero) - 270, -2 * abs(zero) + 270)]
                      + [float(Fraction(scale) * k / 2) for k in range(-270, 270)])  # fmt: skip
    values = np.concatenate([halves, np.nextafter(halves, np.inf), np.nextafter(halves, -np.inf)])
    assert_encoded_alike(format, values)
    extremes = [0.0, -0.0, 5e-324, -5e-324, 2.3e-308, np.finfo(float).max, -np.finfo(float).max]
    assert_encoded_alike(format, np.array(extremes))


def test_the_slack_of_the_compiled_pass_is_needed():
    # 0.35 / 0.1 is a little below 3.5, and 0.35 times the float64 next to 10 is 3.5: rounding that half to even gives 4.
    assert 0.35 * float(1 / Fraction(0.1)) == 3.5
    assert reals.encode_and_count(affine(8, 0.1), np.array([0.35]))[0].tolist() == [3]


def test_the_compiled_pass_names_what_is_not_finite_and_leaves_the_rest_to_the_definition():
    with pytest.raises(BadInput, match=r"^x\[1\] is nan; only finite numbers"):
        reals.encode_and_count(fixed(8, 4), np.array([0.0, np.nan], np.float32), "x")
    with pytest.raises(BadInput, match=r"^x\[0\] is -inf; only finite numbers"):
        reals.encode_and_count(affine(8, 0.1), np.array([-np.inf, 0.0]), "x")
    for format in (binary(), fixed(40, 4), affine(8, 1, 2**40), affine(8, Fraction(1, 10**400))):
        assert_encoded_alike(format, np.array([[0.5, -1.25], [1e300, 0.0]]))
    assert_encoded_alike(fixed(8, 4), np.array([[0.5, -1.25]], np.float16))
    assert_encoded_alike(fixed(8, 4), np.zeros((0, 3)))


def test_the_compiled_pass_keeps_the_order_in_memory():
    values = np.random.default_rng(2).normal(size=(3, 4, 5, 2)) * 4
    for x in (values, np.asfortranarray(values), values.transpose(0, 3, 1, 2), values[::-1, ::2]):
        assert_encoded_alike(fixed(6, 3), x)
    codes, _ = reals.encode_and_count(fixed(6, 3), values.transpose(0, 3, 1, 2))
    assert codes.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_compiled_pass_takes_every_channel_by_its_own_scale(axis):
    third = Fraction(1, 3)
    format = affine(5, (0.5, Fraction(1, 5), third, third), (0, 10, -3, 0), axis=axis)
    ties = np.arange(-120, 120).reshape(1, 1, 240) / 12
    values = np.moveaxis(np.broadcast_to(ties, (4, 3, 240)), 0, axis)
    assert_encoded_alike(format, values)
    with pytest.raises(BadInput, match="4 scales"):
        reals.encode_and_count(format, np.zeros((5, 5, 5)))
    assert_encoded_alike(format, np.moveaxis(values, axis, 0)[:, :0].swapaxes(0, axis))
