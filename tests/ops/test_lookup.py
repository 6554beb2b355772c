from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.arith.explicit import NAMED
from fixqnn.arith.real import rounded, tabulate
from fixqnn.datapath import Lookup, Register
from fixqnn.errors import BadInput, DoesNotFit, TooWide
from fixqnn.format import affine, binary, fixed, symmetric
from fixqnn.graph import Graph, Node, Value
from fixqnn.modes import Overflow, Rounding, round_quotient
from fixqnn.ops import OPS
from fixqnn.program import Program, lower
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier
from fixqnn.simulate import run
from hw_models import ideal
from tests.stepping import fitting_step, make_step, run_exact, run_fast, twins, twins_unless_too_wide
from tests.strategies import codes_of, formats, overflows, roundings, scalers

LOOKUP = OPS["lookup"]
X, Y = Fraction(12582911, 2**24), Fraction(16777215, 2**24)
TABLE = Register(18, "wrap", frac=10)
HLS = Lookup(size=1024, low=-8.0, high=8.0, entry=TABLE, scaler=Shift("floor", "wrap"))
SMALL = (None, 2, 3)
functions = st.sampled_from(
    ["sigmoid", "tanh", "gelu", "silu", "exp", "sqrt", "reciprocal", "abs", "square", "hardswish", "log", "leaky_relu"]
)


# ------------------------------------------------------------------------------------------------------ the meaning
@pytest.mark.parametrize(
    ("function", "parameters", "module"),
    [
        ("sigmoid", {}, "Sigmoid"),
        ("gelu", {"approximate": "tanh"}, "GELU"),
        ("elu", {"alpha": 0.5}, "ELU"),
        ("softplus", {"beta": 2.0, "threshold": 5.0}, "Softplus"),
        ("leaky_relu", {"negative_slope": 0.2}, "LeakyReLU"),
        ("hardswish", {}, "Hardswish"),
    ],
)
def test_functions_mean_what_torch_means(function, parameters, module):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).normal(size=(2, 50)) * 3
    want = getattr(torch.nn, module)(**parameters)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(
        LOOKUP.real(x, function=function, **parameters), want, rtol=1e-13, atol=1e-15
    )  # two libms
    assert LOOKUP.shape((None, 50), function=function, **parameters) == (None, 50)


def test_unknown_functions_and_parameters_are_refused_with_what_there_is():
    with pytest.raises(BadInput, match="sigmoid"):
        LOOKUP.shape((None, 2), function="sigmoyd")
    with pytest.raises(BadInput, match="alpha"):
        LOOKUP.shape((None, 2), function="elu", beta=1.0)


# ------------------------------------------------------------------------------------------- one entry for every code
@settings(deadline=None, max_examples=100)
@given(st.data(), functions, st.integers(0, 2**31))
def test_both_engines_look_up_alike(data, function, seed):
    x, y = data.draw(formats(bits=(1, 9))), data.draw(formats(bits=(1, 12)))
    step = make_step(LOOKUP, [x], y, [SMALL], Lookup(output_rounding=data.draw(roundings)), function=function)
    twins(step, codes_of(x, (3, 2, 3), seed), first_sample=8)


@settings(deadline=None, max_examples=60)
@given(st.data(), functions, scalers(power_of_two=True), st.integers(0, 2**31))
def test_both_engines_rescale_entries_alike(data, function, scaler, seed):
    x, y = data.draw(formats(bits=(1, 9))), data.draw(formats(bits=(1, 12), power_of_two=True))
    overflow = data.draw(overflows)
    entry = Register(data.draw(st.integers(2, 18)), overflow, data.draw(st.booleans()), data.draw(roundings), frac=6)
    step = fitting_step(LOOKUP, [x], y, [SMALL], Lookup(entry=entry, scaler=scaler), function=function)
    twins_unless_too_wide(step, codes_of(x, (3, 2, 3), seed))


def test_every_code_reads_the_correctly_rounded_entry():
    x, y = affine(8, 0.05, 3), affine(8, Fraction(1, 256), -128)
    step = make_step(LOOKUP, [x], y, [(None, 256)], Lookup(), function="sigmoid")
    codes, events = twins(step, np.arange(-128, 128).reshape(1, 256))
    want = [rounded("sigmoid", x.scale * (c - 3), y.scale, -128) for c in range(-128, 128)]
    assert codes.tolist() == [want]
    assert events["output"].count == 0


def test_entries_that_the_output_clips_count_every_time_they_are_read():
    step = make_step(LOOKUP, [fixed(6, 2)], fixed(6, 2), [(None, 2, 3)], Lookup(), function="exp")
    codes, events = twins(step, np.array([[[0, 1, 2], [3, 31, 12]], [[31, 31, -32], [0, 0, 0]]]), first_sample=5)
    assert codes.tolist() == [[[4, 5, 7], [8, 31, 31]], [[31, 31, 0], [4, 4, 4]]]
    assert (events["output"].below.tolist(), events["output"].above.tolist()) == ([0, 0], [2, 2])
    first = events["output"].first
    # exp(7.75) = 2321.57…, in quarters 9286
    assert (first.sample, first.position, first.channel, first.index, first.value) == (5, (1,), 1, -1, 9286)


def test_poles_count_as_the_first_number_beyond():
    step = make_step(LOOKUP, [fixed(4, 0)], fixed(6, 4), [(None, 4)], Lookup(), function="reciprocal")
    codes, events = twins(step, np.array([[-1, 0, 2, 1]]))
    assert codes.tolist() == [[-16, 31, 8, 16]]
    assert events["output"].above.tolist() == [0, 1, 0, 0]
    assert events["output"].first.value == 32


def test_a_machine_fills_its_own_table():
    def doubled(step):
        form = step.in_format(0)
        return [max(min(2 * code, 127), -128) for code in range(form.low, form.high + 1)]

    step = make_step(LOOKUP, [fixed(8, 0)], fixed(8, 0), [(None, 3)], Lookup(fill=doubled), function="tanh")
    assert twins(step, np.array([[-128, 5, 100]]))[0].tolist() == [[-128, 10, 127]]


@pytest.mark.parametrize("entries", [[0] * 15, [0] * 15 + [9], [0] * 15 + [0.5]])
def test_a_table_of_the_wrong_length_or_type_is_refused(entries):
    with pytest.raises(DoesNotFit, match=r"step \(tanh\).*16 whole entries from -8 to 7"):
        make_step(LOOKUP, [fixed(4, 0)], fixed(4, 0), [(None, 1)], Lookup(fill=lambda step: entries), function="tanh")


def test_formats_with_a_zero_point_of_one_half_are_tabulated():
    step = make_step(LOOKUP, [binary()], affine(8, Fraction(1, 64), 5), [(None, 2)], Lookup(), function="tanh")
    assert twins(step, np.array([[0, 1]]))[0].tolist() == [[5 - 49, 5 + 49]]  # tanh(1)·64 = 48.74…


# ------------------------------------------------------------------------------------------------- tables with a range
def test_a_range_is_read_toward_zero_with_a_middle_bin_twice_as_wide():
    step = make_step(LOOKUP, [fixed(18, 10)], fixed(16, 10), [(None, 5)], HLS, function="sigmoid")
    x = fixed(18, 10).encode([[-0.01, 0.01, -100.0, 100.0, 1.0]])
    codes, _ = twins(step, x)
    half = 512  # entry 512, for −0.64 and 0.64 alike
    last = rounded("sigmoid", Fraction(511, 64), Fraction(1, 1024), rounding="floor")
    assert codes.tolist() == [[half, half, 0, last, rounded("sigmoid", 1, Fraction(1, 1024), rounding="floor")]]


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(["sigmoid", "tanh", "square"]), st.integers(0, 2**31))
def test_both_engines_find_the_same_entry(data, function, seed):
    x = data.draw(formats(bits=(1, 12)) | formats(bits=(17, 40)))
    size = data.draw(st.sampled_from([1, 2, 16, 64, 1024]) | st.integers(1, 40).map(lambda n: 2 * n))
    overflow = "wrap" if size & (size - 1) == 0 and data.draw(st.booleans()) else "saturate"
    low, high = data.draw(st.sampled_from([(-8.0, 8.0), (-1.5, 1.5), (0.0, 4.0), (-4.0, 0.0)]))
    rounding = data.draw(roundings)
    datapath = Lookup(size=size, low=low, high=high, rounding=rounding, overflow=overflow)
    step = fitting_step(LOOKUP, [x], fixed(10, 6), [SMALL], datapath, function=function)
    codes = codes_of(x, (3, 2, 3), seed)
    twins(step, codes, first_sample=1)
    wide = codes_of(x, (1, 2, 400), seed) if x.bits > 12 else np.arange(x.low, x.high + 1).reshape(1, 1, -1)
    got, _ = twins(step, wide)
    # the formula, in fractions
    pitch = Fraction(high - low) / size
    for code, y in zip(wide.ravel().tolist()[:50], got.ravel().tolist()[:50], strict=True):
        place = x.scale * (code - x.zero_point) / pitch
        index = round_quotient(place.numerator, place.denominator, rounding) - int(Fraction(low) / pitch)
        index = index % size if overflow == "wrap" else min(max(index, 0), size - 1)
        entry = rounded(function, Fraction(low) + pitch * index, Fraction(1, 64))
        assert y == min(max(entry, -512), 511)


def test_a_wide_input_reads_a_table_with_a_range():
    step = make_step(LOOKUP, [fixed(48, 30)], fixed(16, 10), [(None, 3)], HLS, function="tanh")
    codes, _ = twins(step, np.array([[0, 3 << 30, -(1 << 46)]]))
    floor = {"scale": Fraction(1, 1024), "rounding": "floor"}
    assert codes.tolist() == [[0, rounded("tanh", 3, **floor), rounded("tanh", -8, **floor)]]


# -------------------------------------------------------------------------------------------------- one constant per sign
@pytest.mark.parametrize(
    "scaler",
    [TwoStepMultiplier(ratio="float32"), Multiplier(16, "half_up", "float32", shift=8, constant="half_even")],
)
def test_litert_leaky_relu_of_made_up_scales_as_measured(scaler):
    step = make_step(
        LOOKUP, [affine(8, X)], affine(8, Y), [(None, 7)], scaler, function="leaky_relu", negative_slope=1.0
    )
    assert twins(step, np.array([[2, 6, 10, 14, -2, -6, -10]]))[0].tolist() == [[2, 5, 8, 11, -1, -4, -7]]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(0, 2**31))
def test_both_engines_rescale_each_sign_alike(data, seed):
    power_of_two = data.draw(st.booleans())
    x, y = (data.draw(formats(bits=(1, 20), power_of_two=power_of_two or None)) for _ in range(2))
    scaler = data.draw(
        scalers(power_of_two)
        | st.sampled_from([Shift("stochastic"), Exact("stochastic"), Float(rounding="stochastic")])
    )
    slope = data.draw(st.sampled_from([0.125, 1.0, 2.0]) | st.floats(0.01, 1.5))
    step = fitting_step(LOOKUP, [x], y, [SMALL], scaler, function="leaky_relu", negative_slope=slope)
    twins_unless_too_wide(step, codes_of(x, (3, 2, 3), seed), seed=seed, first_sample=6)


@settings(deadline=None, max_examples=60)
@given(st.data(), roundings, st.integers(0, 2**31))
def test_an_exact_scaler_and_a_table_compute_the_same_leaky_relu(data, rounding, seed):
    x, y = (data.draw(formats(bits=(1, 8))) for _ in range(2))
    settings_ = {"function": "leaky_relu", "negative_slope": data.draw(st.floats(0.01, 2.0))}
    codes = codes_of(x, (3, 2, 3), seed)
    by_table = make_step(LOOKUP, [x], y, [SMALL], Lookup(output_rounding=rounding), **settings_)
    by_scaler = make_step(LOOKUP, [x], y, [SMALL], Exact(rounding), **settings_)
    (one, events), (other, other_events) = twins(by_table, codes), twins(by_scaler, codes)
    np.testing.assert_array_equal(one, other)
    assert events == other_events


# -------------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("datapath", "function", "word"),
    [
        (None, "gelu", r"gelu needs a Lookup"),
        (Shift(), "gelu", r"Shift computes leaky_relu only, not gelu.*Lookup\(\)"),
        (Shift(), "leaky_relu", "power of two"),
        (Exact(rounding=None), "leaky_relu", "unrounded"),
        (Lookup(scaler=Shift()), "gelu", "entry"),
        (Lookup(size=10, low=-1.0, high=2.0), "gelu", "whole"),
        (Lookup(size=12, low=-1.0, high=1.0, overflow="wrap"), "gelu", "power of two"),
        (Lookup(size=16, low=-1.0, high=1.0, rounding="stochastic"), "gelu", "stochastic"),
        (Lookup(output_rounding="stochastic"), "gelu", "stochastic"),
        (Lookup(size=1 << 21, low=-1.0, high=1.0), "gelu", "entries"),
        (Lookup(entry=Register(8, "wrap", frac=4, kept=1), scaler=Shift()), "gelu", "fill"),
    ],
)
def test_a_datapath_that_cannot_compute_the_function_is_refused(datapath, function, word):
    with pytest.raises(DoesNotFit, match=word) as caught:
        make_step(LOOKUP, [fixed(8, 4)], fixed(8, 4), [(None, 1)], datapath, function=function)
    assert "step" in str(caught.value)
    assert function in str(caught.value)


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_a_scaler_refuses_a_slope_that_is_not_positive(slope):
    with pytest.raises(DoesNotFit, match="slope"):
        make_step(LOOKUP, [fixed(8, 4)], fixed(8, 4), [(None, 1)], Exact(), function="leaky_relu", negative_slope=slope)


def test_too_many_codes_for_one_entry_each_are_refused_with_the_remedy():
    with pytest.raises(DoesNotFit, match=r"requantize 'x0'.*Lookup\(size=\.\.\.\)"):
        make_step(LOOKUP, [fixed(21, 4)], fixed(8, 4), [(None, 1)], Lookup(), function="gelu")


def test_twenty_bits_of_input_are_tabulated():
    datapath = Lookup(fill=lambda step: abs(np.arange(-(1 << 19), 1 << 19)) >> 13)
    step = make_step(LOOKUP, [fixed(20, 12)], fixed(8, 4), [(None, 3)], datapath, function="abs")
    assert twins(step, np.array([[-(1 << 19), 1 << 18, 0]]))[0].tolist() == [[64, 32, 0]]


def test_scales_per_channel_are_refused():
    with pytest.raises(DoesNotFit, match="per channel"):
        make_step(LOOKUP, [affine(8, [0.1, 0.2], axis=1)], fixed(8, 4), [(None, 2)], Lookup(), function="gelu")


def test_an_index_past_62_bits_is_left_to_the_exact_engine():
    step = make_step(LOOKUP, [fixed(70, 40)], fixed(16, 10), [(None, 1)], HLS, function="sigmoid")
    assert run_exact(step, np.array([[0]]))[0].tolist() == [[512]]
    with pytest.raises(TooWide, match=r"step \(sigmoid\).*exact"):
        run_fast(step, np.array([[0]], object))


@pytest.mark.parametrize("overflow", [mode for mode in Overflow if mode is not Overflow.forbid])
def test_entries_overflow_as_their_register_says(overflow):
    entry = Register(6, overflow, rounding=Rounding.floor, frac=2)
    step = make_step(
        LOOKUP, [fixed(6, 2)], fixed(6, 2), [(None, 64)], Lookup(entry=entry, scaler=Shift()), function="exp"
    )
    codes, events = twins(step, np.arange(-32, 32).reshape(1, 64))
    want, flags = tabulate("exp", fixed(6, 2), fixed(6, 2), "floor", overflow)
    assert codes.tolist() == [want.tolist()]
    assert events["entry"].above.tolist() == (flags > 0).astype(int).tolist()


def test_a_divide_scaler_is_one_constant_per_sign_too():
    settings_ = {"function": "leaky_relu", "negative_slope": 0.5}
    step = make_step(LOOKUP, [fixed(8, 4)], fixed(8, 4), [(None, 3)], Divide("half_away", Shift("floor")), **settings_)
    assert twins(step, np.array([[-3, -4, 5]]))[0].tolist() == [[-2, -2, 5]]


# ---------------------------------------------------------------------------------------------------- explicit tables
def listed(codes, x, y):
    values = tuple(Fraction(c) * y.scale for c in codes)
    return {"function": "table", "entries": values, "first": x.scale * (x.low - x.zero_point), "step": x.scale}


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(0, 2**31))
def test_a_list_of_values_is_read_code_by_code_in_both_engines(data, seed):
    x, y = data.draw(formats(bits=(1, 7))), data.draw(formats(bits=(1, 12)))
    codes = codes_of(y, (x.high - x.low + 1,), seed)
    values = tuple((int(c) - y.zero_point) * y.scale for c in codes)
    first = x.scale * (x.low - x.zero_point)
    step = make_step(
        LOOKUP, [x], y, [(None, len(codes))], Lookup(output_rounding=data.draw(roundings)),
        function="table", entries=values, first=first, step=x.scale,
    )  # fmt: skip
    got, events = twins(step, np.arange(x.low, x.high + 1).reshape(1, -1))
    assert got.tolist() == [codes.tolist()]
    assert events["output"].count == 0


def test_a_list_of_values_means_the_nearest_point_and_is_constant_beyond_its_ends():
    x = np.array([-9.0, -0.26, -0.125, 0.1, 9.0])
    parameters = {"entries": (5, -3, 7), "first": Fraction(-1, 4), "step": 0.25}
    assert LOOKUP.real(x, function="table", **parameters).tolist() == [5, 5, -3, -3, 7]
    exact = [NAMED["table"].exact(Fraction(v), **parameters) for v in x.tolist()]
    assert exact == [5, 5, -3, -3, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entries": ()}, "at least one number"),
        ({"entries": (1, float("nan"))}, r"entries\[1\]"),
        ({"step": 0}, "step must be positive, not 0"),
        ({"slope": 3}, "needs them all"),
    ],
)
def test_odd_lists_of_values_are_refused(change, words):
    with pytest.raises(BadInput, match=words):
        LOOKUP.shape((None, 2), **{"function": "table", "entries": (1, 2), "first": 0, "step": 1, **change})


def test_a_program_with_a_list_of_values_is_saved_and_loaded(tmp_path):
    form = symmetric(2, 5)
    graph = Graph(
        (Value("x", (None, 1), form),), ("y",),
        (Node("y", LOOKUP, ("x",), attributes=listed((3, -1, 0, 2, 2, -3, 1), form, form)),), {}, {"y": form},
    )  # fmt: skip
    program = lower(graph, ideal())
    program.save(tmp_path / "table.npz")
    loaded = Program.load(tmp_path / "table.npz")
    assert loaded.fingerprint == program.fingerprint
    codes = np.arange(-3, 4).reshape(-1, 1)
    for engine in ("fast", "exact"):
        assert run(loaded, codes, engine=engine).output.codes.ravel().tolist() == [3, -1, 0, 2, 2, -3, 1]
