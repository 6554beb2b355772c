"""Tables hold the correctly rounded value, whoever asks: hand values, mpmath at 500 digits, grids made to be hard."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.arith import real
from fixqnn.arith.functions import FUNCTIONS
from fixqnn.arith.real import enclose, rounded, tabulate
from fixqnn.errors import BadInput, FormatError
from fixqnn.format import affine, binary, fixed, symmetric
from fixqnn.modes import Overflow, Rounding, fit, round_quotient
from tests.arith.textbook import POSITIVE, SPLIT, reference

MODES = [mode for mode in Rounding if mode is not Rounding.stochastic]
PARAMETERS = {
    "gelu": st.fixed_dictionaries({"approximate": st.sampled_from(["none", "tanh"])}),
    "leaky_relu": st.fixed_dictionaries({"negative_slope": st.fractions(-2, 2, max_denominator=50)}),
    "hardtanh": st.fixed_dictionaries(
        {"min_val": st.fractions(-3, 0, max_denominator=9), "max_val": st.fractions(0, 3, max_denominator=9)}
    ),
    "elu": st.fixed_dictionaries({"alpha": st.fractions(-2, 3, max_denominator=50)}),
    "celu": st.fixed_dictionaries({"alpha": st.fractions(Fraction(1, 4), 3, max_denominator=50)}),
    "softplus": st.fixed_dictionaries(
        {"beta": st.fractions(Fraction(1, 4), 4, max_denominator=9), "threshold": st.integers(-3, 30)}
    ),
}


def expected(name: str, x: Fraction, scale: Fraction, zero_point: Fraction | int, rounding: str, **parameters) -> int:
    """Round the reference; so near to a half step that only equality explains it, it is that half step."""
    whole = Fraction(zero_point).denominator == 1
    halves = 2 * (reference(name, x, **parameters) / scale + (0 if whole else zero_point))
    if abs(halves - round(halves)) < Fraction(1, 10**330):
        halves = Fraction(round(halves))
    return round_quotient(halves.numerator, 2 * halves.denominator, rounding) + (zero_point if whole else 0)


# ----------------------------------------------------------------------------------------- by hand


def test_sigmoid_of_zero_is_a_tie_on_whole_numbers():
    codes = {rounding: rounded("sigmoid", 0, 1, rounding=rounding) for rounding in MODES}
    assert codes == {
        "floor": 0, "ceil": 1, "toward_zero": 0, "away_from_zero": 1, "half_up": 1, "half_down": 0,
        "half_away": 1, "half_toward_zero": 0, "half_even": 0, "half_odd": 1,
    }  # fmt: skip
    assert rounded("sigmoid", 0, Fraction(1, 3), rounding="half_down") == 1  # 3/2
    assert rounded("sigmoid", 0, Fraction(1, 3), rounding="half_up") == 2


def test_functions_at_zero_are_exact():
    elsewhere = {
        "exp",
        "cos",
        "gaussian",
        "sigmoid",
        "softplus",
        "logsigmoid",
        "hardsigmoid",
        "log",
        "rsqrt",
        "reciprocal",
    }
    for name in set(FUNCTIONS) - elsewhere:
        assert rounded(name, 0, 1, rounding="ceil") == rounded(name, 0, 1, rounding="floor") == 0, name
    for name in ("exp", "cos", "gaussian"):
        assert rounded(name, 0, 1, rounding="ceil") == rounded(name, 0, 1, rounding="floor") == 1, name
    assert rounded("log", 1, 1, rounding="ceil") == rounded("log", 1, 1, rounding="floor") == 0
    for rounding in MODES:
        assert tabulate("log", fixed(3, 0), fixed(8, 4), rounding)[0][5] == 0
    assert rounded("softplus", 0, Fraction(1, 10**9)) == 693147181  # log 2
    assert rounded("logsigmoid", 0, Fraction(1, 10**9)) == -693147181


def test_square_roots_of_squares_can_be_ties():
    assert rounded("sqrt", Fraction(9, 4), 1, rounding="half_even") == 2  # 3/2
    assert rounded("sqrt", Fraction(9, 4), 1, rounding="half_down") == 1
    assert rounded("sqrt", Fraction(9, 4) + Fraction(1, 10**50), 1, rounding="half_down") == 2
    assert rounded("rsqrt", Fraction(4, 25), 1, rounding="half_odd") == 3  # 5/2
    assert rounded("sqrt", 10**60, 1, rounding="ceil") == 10**30
    assert rounded("sqrt", 10**60 + 1, 1, rounding="ceil") == 10**30 + 1


def test_published_digits():
    assert rounded("exp", 1, Fraction(1, 10**20)) == 271828182845904523536
    assert rounded("log", 2, Fraction(1, 10**20)) == 69314718055994530942
    assert rounded("erf", 1, Fraction(1, 10**20)) == 84270079294971486934
    assert rounded("tanh", 1, Fraction(1, 10**20)) == 76159415595576488812
    assert rounded("sqrt", 2, Fraction(1, 10**20)) == 141421356237309504880
    assert rounded("sin", 1, Fraction(1, 10**20)) == 84147098480789650665


def test_hard_functions_have_ties():
    assert [rounded("hardsigmoid", x, 1, rounding="half_even") for x in (-3, -1, 0, 1, 3)] == [0, 0, 0, 1, 1]
    assert [rounded("hardswish", x, Fraction(1, 3), rounding="half_up") for x in (-2, -1, 1, 2)] == [-1, -1, 2, 5]
    assert rounded("leaky_relu", -1, Fraction(1, 2), rounding="half_even", negative_slope=0.25) == 0
    assert rounded("leaky_relu", -1, Fraction(1, 2), rounding="half_away", negative_slope=0.25) == -1


def test_an_integer_zero_point_joins_after_rounding_and_a_fraction_before():
    assert rounded("identity", Fraction(1, 2), 1, zero_point=3, rounding="half_even") == 3
    assert rounded("identity", 0, 1, zero_point=Fraction(7, 2), rounding="half_even") == 4
    assert rounded("sigmoid", 5, 1, zero_point=Fraction(1, 2), rounding="floor") == 1
    entries, _ = tabulate("tanh", fixed(3, 0), binary())
    assert entries.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]  # tanh(0)/2 + 1/2 is a tie, to even


def test_a_table_runs_from_the_lowest_code_to_the_highest():
    entries, flags = tabulate("relu", fixed(3, 0), fixed(2, 0, signed=False))
    assert entries.tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert flags.tolist() == [0] * 8
    assert (entries.dtype, flags.dtype) == (np.int32, np.int8)
    entries, flags = tabulate("identity", affine(2, 3, -1, signed=False), fixed(4, 0))
    assert (entries.tolist(), flags.tolist()) == ([3, 6, 7, 7], [0, 0, 1, 1])


def test_tables_of_the_theory_by_tie_rule():
    square = {mode: tabulate("square", symmetric(1, 2), symmetric(1, 2), mode)[0].tolist() for mode in MODES}
    assert square["half_up"] == square["half_away"] == [1, 0, 1]
    assert square["half_even"] == [0, 0, 0]

    def bent(x: Fraction) -> Fraction:
        return min(x + Fraction(1, 2), Fraction(3, 2))

    assert tabulate(bent, symmetric(2, 1), symmetric(2, 1))[0].tolist() == [-2, -2, 0, 0, 2, 2, 2]


# ------------------------------------------------------------------------- against another evaluation


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_rounding_agrees_with_five_hundred_digits(name):
    @settings(max_examples=25, deadline=None)
    @given(
        x=st.fractions(-20, 20, max_denominator=300),
        scale=st.fractions(Fraction(1, 10**6), 3),
        zero_point=st.one_of(st.integers(-200, 200), st.just(Fraction(1, 2)), st.just(Fraction(-7, 3))),
        parameters=PARAMETERS.get(name, st.just({})),
    )
    def check(x, scale, zero_point, parameters):
        x = abs(x) + Fraction(1, 7) if name in POSITIVE else x
        for rounding in MODES:
            want = expected(name, x, scale, zero_point, rounding, **parameters)
            assert rounded(name, x, scale, zero_point, rounding, **parameters) == want

    check()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_table_agrees_with_rounding_every_entry_alone(name):
    wide = st.fractions(Fraction(1, 200), 20)
    fine = st.sampled_from(
        [Fraction(1, 128), Fraction(2, 255), Fraction(1, 3), Fraction(2) ** -20, Fraction(0.1), Fraction(9)]
    )

    @settings(max_examples=12, deadline=None)
    @given(
        step=st.one_of(wide, fine),
        scale=st.one_of(wide, fine),
        zero_in=st.one_of(st.integers(-70, 70), st.just(Fraction(1, 2))),
        zero_out=st.one_of(st.integers(-70, 70), st.just(Fraction(1, 2)), st.just(Fraction(5, 3))),
        bits=st.sampled_from([4, 8, 24, 70]),
        rounding=st.sampled_from(MODES),
        overflow=st.sampled_from([mode for mode in Overflow if not mode.wraps]),
        parameters=PARAMETERS.get(name, st.just({})),
    )
    def check(step, scale, zero_in, zero_out, bits, rounding, overflow, parameters):
        inputs, outputs = affine(6, step, zero_in), affine(bits, scale, zero_out)
        entries, flags = tabulate(name, inputs, outputs, rounding, overflow, **parameters)
        assert entries.dtype == outputs.code_dtype
        for code, entry, flag in zip(range(-32, 32), entries.tolist(), flags.tolist(), strict=True):
            x = inputs.decode_exact(code).item()
            if (x < 0 and -1 in FUNCTIONS[name].undefined) or (x == 0 and 0 in FUNCTIONS[name].undefined):
                continue
            if name == "exp" and x > 300:
                assert (entry, flag) == (fit(2**bits, bits, True, overflow), 1)
                continue
            want = rounded(name, x, scale, zero_out, rounding, **parameters)
            assert entry == fit(want, bits, True, overflow), (x, want)
            assert flag == (want > entry) - (want < entry), (x, want)

    check()


def _check_next_to_half_steps(name: str, x: Fraction, digits: int) -> None:
    """Cut the step of the grid after so many digits, which puts the quotient that near to a tie and to a whole number."""
    value = reference(name, x)
    for target in (Fraction(77, 2), Fraction(39)):
        for shove in (-1, 1):
            unit = Fraction(10) ** (math.floor(math.log10(abs(value))) - digits)
            scale = (abs(value) / target // unit + shove) * unit
            for rounding in ("half_even", "floor"):
                entries, _ = tabulate(name, affine(2, abs(x)), affine(16, scale), rounding)
                assert entries[3 if x > 0 else 1] == expected(name, x, scale, 0, rounding), (x, target, scale)


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("digits", [12, 15, 16, 17, 18, 60])
def test_grids_made_to_bring_a_value_next_to_a_tie(name, digits):
    points = (Fraction(9, 8), Fraction(13, 3), Fraction(64, 7), Fraction(50, 3), -Fraction(1, 5), -Fraction(50, 3))
    for x in [x for x in points if x > 0 or name not in POSITIVE]:
        _check_next_to_half_steps(name, x, digits)


@pytest.mark.parametrize(
    ("name", "x"),
    [("sin", Fraction(103993, 33102)), ("cos", Fraction(51819, 32989)), ("log", 1 + Fraction(1, 3 * 10**9))],
)
def test_next_to_a_zero_the_float_of_the_argument_is_not_trusted(name, x):
    for digits in range(4, 18):
        _check_next_to_half_steps(name, x, digits)


@pytest.mark.parametrize("x", [50, 128, 700, 1000, 10**6, 10**12])
def test_values_next_to_their_asymptote_stay_on_their_side(x):
    halves = Fraction(2, 2 * x + 1)  # x is x·(x + 1/2) steps: a tie
    for name in ("gelu", "silu", "mish"):
        assert (rounded(name, x, 1, rounding="floor"), rounded(name, x, 1, rounding="ceil")) == (x - 1, x), name
        assert (rounded(name, -x, 1, rounding="floor"), rounded(name, -x, 1, rounding="ceil")) == (-1, 0), name
    assert rounded("silu", 1, halves, rounding="half_up") <= x
    for name in ("sigmoid", "tanh", "erf"):
        assert (rounded(name, x, 1, rounding="floor"), rounded(name, x, 1, rounding="ceil")) == (0, 1), name
        assert rounded(name, x, 2, rounding="half_up") == 0, name  # just below 1/2
    assert (rounded("sigmoid", -x, 1, rounding="floor"), rounded("sigmoid", -x, 1, rounding="ceil")) == (0, 1)
    assert (rounded("tanh", -x, 1, rounding="floor"), rounded("tanh", -x, 1, rounding="ceil")) == (-1, 0)
    assert rounded("tanhshrink", x, 1, rounding="ceil") == x
    assert rounded("tanhshrink", x, 1, rounding="floor") == x - 1
    assert (rounded("elu", -x, 1, rounding="floor"), rounded("elu", -x, 1, rounding="ceil")) == (-1, 0)
    assert (rounded("logsigmoid", -x, 1, rounding="floor"), rounded("logsigmoid", x, 1, rounding="ceil")) == (-x - 1, 0)
    assert (rounded("softplus", -x, 1, rounding="ceil"), rounded("softplus", x, 1, rounding="floor")) == (1, x)
    assert rounded("softplus", x, 1, rounding="floor", threshold=10**13) == x
    assert rounded("softplus", x, 1, rounding="ceil", threshold=10**13) == x + 1


@pytest.mark.parametrize("rounding", ["floor", "ceil", "half_even", "half_up"])
def test_tables_keep_their_side_of_an_asymptote_too(rounding):
    inputs = affine(6, Fraction(1000, 3))
    for name in [name for name in SPLIT if name not in ("exp", "sin", "cos", *POSITIVE)]:
        for scale in (1, Fraction(1000, 3), Fraction(2000, 3), Fraction(2, 3)):
            entries, _ = tabulate(name, inputs, affine(24, scale), rounding)
            want = [rounded(name, inputs.decode_exact(c).item(), scale, 0, rounding) for c in range(-32, 32)]
            assert entries.tolist() == want, (name, scale)


@pytest.mark.parametrize("name", SPLIT)
def test_few_entries_need_more_than_float64(name, monkeypatch):
    asked = []
    monkeypatch.setattr(real, "enclose", lambda *arguments: asked.append(arguments) or enclose(*arguments))
    tabulate(name, fixed(12, 1), fixed(16, 10), "floor")
    assert len(asked) <= 6  # sin and cos at multiples of 355/2, which is almost 113π/2
    tabulate(name, affine(10, Fraction(1, 300)), affine(16, Fraction(1, 7777)), "floor")
    assert len(asked) <= 6


def test_an_enclosure_is_strict_and_tightens():
    for name in SPLIT:
        function = FUNCTIONS[name]
        x = Fraction(19, 7)
        for settings_ in ({"approximate": "none"}, {"approximate": "tanh"}) if name == "gelu" else ({},):
            complete = function.complete(settings_)
            for sign in (1,) if name in POSITIVE or name in ("elu", "selu", "celu") else (1, -1):
                at = -sign * x if name in ("elu", "selu", "celu") else sign * x
                value = reference(name, at, **settings_)
                for bits in (64, 512):
                    low, high = enclose(function, complete, at, bits)
                    assert low < value < high, (name, at)
                    assert high - low < Fraction(1, 2 ** (bits - 5)), (name, at)


# ------------------------------------------------------------------------------------ poles and overflow


def test_poles_lie_beyond_every_code():
    inputs, outputs = fixed(3, 0), fixed(8, 4)
    assert [table[4].item() for table in tabulate("reciprocal", inputs, outputs)] == [127, 1]
    assert [table[4].item() for table in tabulate("rsqrt", inputs, outputs)] == [127, 1]
    assert [table[4].item() for table in tabulate("log", inputs, outputs)] == [-128, -1]
    assert [table[4].item() for table in tabulate("log", inputs, outputs, overflow="wrap")] == [-128, -1]
    assert [table[4].item() for table in tabulate("log", inputs, outputs, overflow="saturate_symmetric")] == [-127, -1]
    assert [table[4].item() for table in tabulate("log", inputs, symmetric(7, 16))] == [-127, -1]


def test_points_without_a_value_hold_the_code_of_zero():
    for name in ("sqrt", "rsqrt", "log"):
        for outputs, zero in ((fixed(8, 4), 0), (affine(8, 0.5, 7), 7), (affine(8, 0.5, -300), -128)):
            entries, flags = tabulate(name, fixed(3, 0), outputs)
            assert (entries[:4].tolist(), flags[:4].tolist()) == ([zero] * 4, [-1] * 4)


def test_overflow_modes_act_on_the_unclipped_code():
    inputs = fixed(4, 0)  # squares 64, 49, ... 0, ... 49
    squares = [x * x for x in range(-8, 8)]
    for overflow in Overflow:
        entries, flags = tabulate("square", inputs, fixed(5, 0), overflow=overflow)
        assert entries.tolist() == [fit(s, 5, True, overflow, deleted_bit=s >> 5 & 1) for s in squares]
        assert flags.tolist() == [int(s > 15) for s in squares]
    entries, flags = tabulate("identity", fixed(3, 0), fixed(3, 0), overflow="saturate_symmetric")
    assert (entries[0], flags[0]) == (-3, -1)


def test_wrapping_reads_the_true_value_of_large_results():
    entries, flags = tabulate("exp", affine(3, 25), fixed(16, 0), "floor", "wrap")
    large = int(reference("exp", Fraction(75)) // 1)
    assert (entries[-1], flags[-1]) == (fit(large, 16, True, "wrap"), 1)
    with pytest.raises(BadInput, match=r"exp\(10000\).*4096 bits do not decide"):
        tabulate("exp", affine(3, 10000), fixed(16, 0), "floor", "wrap")


def test_values_too_large_for_any_float_are_clipped():
    for inputs in (affine(3, 10000), affine(3, 10**40)):
        for outputs in (fixed(8, 0), fixed(8, 1200), fixed(8, -1200), fixed(300, 10), fixed(2000, 0)):
            entries, flags = tabulate("exp", inputs, outputs)
            if outputs.frac > -1200:
                assert (entries[-1], flags[-1]) == (outputs.high, 1)
            assert entries[0] == 0
    with pytest.raises(BadInput, match="4096 bits do not decide"):
        rounded("exp", 10**6, 1)


def test_steps_and_parameters_beyond_float64_are_exact_all_the_same():
    tiny = affine(3, Fraction(1, 2**1200))
    assert tabulate("sin", tiny, tiny)[0].tolist() == tabulate("tanh", tiny, tiny)[0].tolist() == list(range(-4, 4))
    assert tabulate("tanh", tiny, tiny, "toward_zero")[0].tolist() == [-3, -2, -1, 0, 0, 0, 1, 2]
    for alpha in (10**400, Fraction(1, 10**400)):
        entries, flags = tabulate("elu", fixed(3, 0), affine(8, alpha / Fraction(100)), alpha=alpha)
        assert entries[:4].tolist() == [-98, -95, -86, -63]
        assert flags[:4].tolist() == [0] * 4


# ------------------------------------------------------------------------------------ what is refused


def test_formats_and_modes_that_no_table_can_have_are_refused():
    with pytest.raises(FormatError, match=r"tabulate each in_format\.channel"):
        tabulate("exp", affine(8, [1, 2], axis=0), fixed(8, 0))
    with pytest.raises(FormatError, match=r"would have 2\*\*32 entries"):
        tabulate("exp", fixed(32, 0), fixed(8, 0))
    with pytest.raises(FormatError, match="not by stochastic"):
        tabulate("exp", fixed(8, 0), fixed(8, 0), "stochastic")
    with pytest.raises(FormatError, match="not by stochastic"):
        rounded("exp", 1, 1, rounding="stochastic")
    with pytest.raises(FormatError, match="narrow range cannot wrap"):
        tabulate("exp", fixed(8, 0), symmetric(3, 1), overflow="wrap")
    with pytest.raises(FormatError, match="scale must be positive"):
        rounded("exp", 1, 0)


def test_unknown_names_and_senseless_parameters_are_refused():
    with pytest.raises(BadInput, match="no function 'expo'; there are abs, celu"):
        rounded("expo", 1, 1)
    with pytest.raises(BadInput, match="elu has no parameter beta; its parameters: alpha"):
        rounded("elu", 1, 1, beta=1)
    with pytest.raises(BadInput, match='gelu needs approximate="none" or'):
        rounded("gelu", 1, 1, approximate="erf")
    with pytest.raises(BadInput, match="softplus needs beta > 0"):
        tabulate("softplus", fixed(4, 0), fixed(4, 0), beta=0)
    with pytest.raises(BadInput, match="log is not defined at 0"):
        rounded("log", 0, 1)


def test_a_callable_on_fractions_is_taken_as_exact():
    assert rounded(lambda x: x * x * x / 2, 3, 1, rounding="half_even") == 14  # 27/2
    assert tabulate(lambda x: 1, fixed(2, 0), fixed(4, 0))[0].tolist() == [1] * 4
    with pytest.raises(BadInput, match=r"must return a Fraction or an int, not 0\.5"):
        rounded(lambda x: 0.5, 3, 1)
    with pytest.raises(BadInput, match="not None"):
        rounded(lambda x: None, 3, 1)


# ------------------------------------------------------------------------------------ surroundings


def test_threads_do_not_disturb_each_other_nor_the_users_precision():
    before = mpmath.mp.prec
    points = [Fraction(k, 97) for k in range(1, 97)]
    alone = [rounded("mish", x, Fraction(1, 10**30)) for x in points]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: rounded("mish", x, Fraction(1, 10**30)), points))
    assert together == alone
    assert mpmath.mp.prec == before


def test_importing_tables_is_light():
    code = "import sys, fixqnn.arith.real; print([m for m in ('mpmath', 'torch', 'numba') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
