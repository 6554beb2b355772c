from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixqnn.dialects import Dialect, format_name, parse_type
from fixqnn.errors import FormatError
from fixqnn.format import Format, affine, binary, fixed, symmetric, ternary
from fixqnn.modes import Overflow, Rounding

MEANINGS = {
    # ap_fixed: W bits, I before the point, sign included
    "ap_fixed<16,6>": fixed(16, 10),
    " ap_fixed< 16 , 6 > ": fixed(16, 10),
    "ap_ufixed<8,8>": fixed(8, 0, signed=False),
    "ap_fixed<8,-2>": fixed(8, 10),
    "ap_fixed<8,12>": fixed(8, -4),
    "ap_int<7>": fixed(7, 0),
    "ap_uint<1>": fixed(1, 0, signed=False),
    # ac_fixed
    "ac_fixed<16,6>": fixed(16, 10),
    "ac_fixed<16, 6, true>": fixed(16, 10),
    "ac_fixed<16,6,false,AC_RND,AC_SAT>": fixed(16, 10, signed=False),
    "ac_int<7>": fixed(7, 0),
    "ac_int<7,false>": fixed(7, 0, signed=False),
    # fxpmath
    "fxp-s16/8": fixed(16, 8),
    "fxp-u8/4": fixed(8, 4, signed=False),
    "fxp-s8/-2": fixed(8, -2),
    "fxp-s8/12": fixed(8, 12),
    # Q: 16 bits with 15 after the point have two names
    "arm:Q1.15": fixed(16, 15),
    "ti:Q0.15": fixed(16, 15),
    "Q1.15 (ARM)": fixed(16, 15),
    "Q0.15 (TI)": fixed(16, 15),
    "ti:Q3.4": fixed(8, 4),
    "arm:Q4.4": fixed(8, 4),
    "ti:Q-2.9": fixed(8, 9),
    "UQ4.4": fixed(8, 4, signed=False),
    "arm:UQ4.4": fixed(8, 4, signed=False),
    "ti:UQ4.4": fixed(8, 4, signed=False),
    # MATLAB
    "fixdt(1,16,8)": fixed(16, 8),
    "fixdt(0, 8, -2)": fixed(8, -2, signed=False),
    "numerictype(true,16,8)": fixed(16, 8),
    "fixdt(1,8,0.5,-3)": affine(8, 0.5, 6),
    "fixdt(1,8,2^-4,0)": fixed(8, 4),
    "fixdt(0,8,0.1,0.25)": Format(8, False, 0.1, Fraction(-1, 4) / Fraction(0.1)),
    "fixdt(1,8,1.5,-3,0)": affine(8, 1.5 / 8),
    "sfix16_En8": fixed(16, 8),
    "ufix8_E2": fixed(8, -2, signed=False),
    "sfix8": fixed(8, 0),
    "ufix16_S5_B10": affine(16, 5, -2, signed=False),
    "sfix16_S0p5_Bn25": affine(16, 0.5, 50),
    "sfix16_Sp5_Bn25": affine(16, 0.5, 50),
    "ufix16_F1p5_En5": affine(16, 1.5 / 32, signed=False),
    "sfix8_S1en3": affine(8, 0.001),
    # QONNX
    "INT4": fixed(4, 0),
    "UINT8": fixed(8, 0, signed=False),
    "BINARY": fixed(1, 0, signed=False),
    "BIPOLAR": binary(),
    "TERNARY": ternary(),
    "FIXED<8,4>": fixed(8, 4),
    "FIXED<8, 3>": fixed(8, 5),
}

REFUSED = {
    "Q1.15": "Q1.15 has two readings: ARM counts the sign bit before the point, 16 bits, written arm:Q1.15; "
    "TI does not, 17 bits, written ti:Q1.15",
    "Q15": "it does not say how wide the word is; with nothing before the point it is arm:Q1.15 (also called ti:Q0.15)",
    "UQ8": "it does not say how wide the word is; with nothing before the point it is UQ0.8",
    "arm:Q1.15(TI)": "the reading is named twice",
    "ap_fixed<0,0>": "bits must be at least 1 for a signed format, not 0",
    "ap_fixed<-3,0>": "bits must be at least 1 for a signed format, not -3",
    "ap_fixed<8,4,AP_RND_CONV_ODD>": "AP_RND_CONV_ODD is no mode here; there are AP_TRN, AP_TRN_ZERO, AP_RND, ",
    "ap_fixed<8,4,AC_RND>": "AC_RND is no mode here; there are AP_TRN, ",
    "ap_fixed<8,4,RND>": "RND is no mode here; there are AP_TRN, ",
    "ap_fixed<8,4,AP_SAT>": "AP_SAT is no mode here; there are AP_TRN, ",
    "ap_fixed<8,4,AP_RND,AP_SAT,1>": "kept=1 asks for an overflow that wraps",
    "ap_fixed<8,4,AP_RND,AP_WRAP,8>": "kept must be at least 0 and less than the 8 bits",
    "ap_ufixed<8,4,AP_RND,AP_WRAP_SM>": "wrap_sign_magnitude needs a signed register",
    "ac_fixed<8,4,true,AC_RND,AC_WRAP_SM>": "AC_WRAP_SM is no mode here; there are AC_WRAP, AC_SAT, ",
    "fxp-s16/8-complex": "complex numbers have no format; give the two parts separately",
    "fixdt(1,16)": "it has no scaling; write fixdt(1,16,8)",
    "fixdt(1,16,8.5)": "the fraction length must be an integer, not 8.5",
    "fixdt(1,16,1.5,0.5,0)": "the fixed exponent must be an integer, not 0.5",
    "fixdt(1,16,-0.5,0)": "the slope must be positive, not -0.5",
    "sfix8_S0p5_En3": "a slope S goes with neither an adjustment F nor an exponent E",
    "SCALEDINT<8>": "it does not carry its scale; make it with affine(bits, scale)",
    "FLOAT32": "floating point is no format of integer codes",
    "FLOAT<5,10,15>": "floating point is no format of integer codes",
    "INT1": "one signed bit is -1 and +1 to QONNX; write BIPOLAR",
    "INT0": "bits must be at least 1",
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_foreign_name_means_what_its_tool_means(text):
    assert parse_type(text).format == Format.parse(text) == MEANINGS[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_name_that_is_wrong_or_ambiguous_is_answered_with_the_way_out(text):
    with pytest.raises(FormatError) as problem:
        parse_type(text)
    assert str(problem.value).startswith(f"{text!r}: {REFUSED[text]}")


@pytest.mark.parametrize(
    "text",
    [
        "", "ap_fixed", "ap_fixed<16>", "ap_fixed<16,6", "AP_FIXED<16,6>", "ap_fixed<16,6,>", "ap_fixed<1e1,6>",
        "ap_fixed<16,6>;", "fixed(8, 4)", "int8", "fxp-s16", "fxp-x16/8", "qq:Q1.15", "fixdt(2,16,8)", "INT", "INT4.5",
        "ap_fixed<9999999,4>", "Q1.15\nQ1.15", "FIXED<8>",
    ],
)  # fmt: skip
def test_text_of_no_dialect_is_answered_with_the_spellings_there_are(text):
    with pytest.raises(
        FormatError, match=r"is no type name of a known dialect; there are ap_fixed<W,I,Q,O,N>, .*BIPOLAR"
    ):
        parse_type(text)


def test_what_is_no_text_is_refused():
    with pytest.raises(FormatError, match="a type name is text, not 8"):
        parse_type(8)


@pytest.mark.parametrize(
    ("text", "rounding", "overflow", "kept"),
    [
        ("ap_fixed<8,4>", "floor", "wrap", 0),
        ("ap_fixed<8,4,AP_TRN_ZERO>", "toward_zero", "wrap", 0),
        ("ap_fixed<8,4,AP_RND,AP_SAT>", "half_up", "saturate", 0),
        ("ap_fixed<8,4,AP_RND_ZERO,AP_SAT_ZERO,0>", "half_toward_zero", "saturate_zero", 0),
        ("ap_fixed<8,4,AP_RND_MIN_INF,AP_SAT_SYM>", "half_down", "saturate_symmetric", 0),
        ("ap_fixed<8,4,AP_RND_INF,AP_WRAP,3>", "half_away", "wrap", 3),
        ("ap_fixed<8,4,AP_RND_CONV,AP_WRAP_SM,2>", "half_even", "wrap_sign_magnitude", 2),
        ("ac_fixed<8,4,true>", "floor", "wrap", 0),
        ("ac_fixed<8,4,true,AC_RND_CONV_ODD,AC_SAT_SYM>", "half_odd", "saturate_symmetric", 0),
        ("ap_int<8>", None, None, 0),
        ("fxp-s8/4", None, None, 0),
    ],
)
def test_modes_in_a_name_are_read(text, rounding, overflow, kept):
    found = parse_type(text)
    assert (found.rounding, found.overflow, found.kept) == (rounding, overflow, kept)


EXPRESSIBLE = {
    "ap_fixed": lambda f: f.frac is not None,
    "ap_int": lambda f: f.frac == 0,
    "ac_fixed": lambda f: f.frac is not None,
    "ac_int": lambda f: f.frac == 0,
    "fxp": lambda f: f.frac is not None,
    "arm": lambda f: f.frac is not None,
    "ti": lambda f: f.frac is not None,
    "qonnx": lambda f: (f.frac is not None and (f.signed or f.frac == 0) and f != fixed(1, 0)) or f == binary(),
}


def doubles(format):
    """Tell whether slope and bias are doubles, so that MATLAB can hold them."""
    return all(Fraction(float(v)) == v for v in (format.scale, format.scale * format.zero_point))


some_formats = st.one_of(
    st.builds(fixed, st.integers(1, 130), st.integers(-140, 140), st.booleans()),
    st.builds(fixed, st.integers(1, 130), st.just(0), st.booleans()),
    st.builds(Format, st.integers(1, 64), st.booleans(), st.floats(1e-9, 1e9), st.integers(-300, 300)),
    st.builds(Format, st.integers(1, 64), st.booleans(), st.fractions(Fraction(1, 99), 99), st.integers(-9, 9)),
    st.just(binary()),
)


@pytest.mark.parametrize("dialect", [*EXPRESSIBLE, "fixdt", "numerictype", "matlab"])
@given(format=some_formats)
def test_a_written_name_reads_back_as_the_same_format_or_is_refused(dialect, format):
    if EXPRESSIBLE.get(dialect, doubles)(format):
        assert parse_type(format_name(format, dialect)).format == format
    else:
        with pytest.raises(FormatError, match=f"{dialect} has no name for"):
            format_name(format, dialect)


@pytest.mark.parametrize("family", ["ap_fixed", "ac_fixed"])
@given(
    st.builds(fixed, st.integers(4, 40), st.integers(-9, 40), st.booleans()),
    st.sampled_from(Rounding),
    st.sampled_from(Overflow),
    st.integers(0, 3),
)
def test_written_modes_read_back_or_are_refused(family, format, rounding, overflow, kept):
    try:
        text = format_name(format, family, rounding, overflow, kept)
    except FormatError:
        assert (
            rounding in ("ceil", "away_from_zero", "stochastic")
            or overflow == "forbid"
            or (kept and not overflow.wraps)
            or (overflow == "wrap_sign_magnitude" and (not format.signed or family == "ac_fixed"))
            or (rounding == "half_odd" and family == "ap_fixed")
            or (kept and family == "ac_fixed")
        )
    else:
        assert parse_type(text) == Dialect(format, rounding, overflow, kept)


@pytest.mark.parametrize(
    ("format", "dialect", "text"),
    [
        (fixed(16, 10), "ap_fixed", "ap_fixed<16,6>"),
        (fixed(16, 10, signed=False), "ac_fixed", "ac_fixed<16,6,false>"),
        (fixed(8, 0, signed=False), "ap_int", "ap_uint<8>"),
        (fixed(8, 0), "ac_int", "ac_int<8,true>"),
        (fixed(8, -2), "fxp", "fxp-s8/-2"),
        (fixed(16, 15), "arm", "arm:Q1.15"),
        (fixed(16, 15), "ti", "ti:Q0.15"),
        (fixed(8, 4, signed=False), "ti", "ti:UQ4.4"),
        (fixed(16, 8), "fixdt", "fixdt(1,16,8)"),
        (affine(8, 0.1, 3), "qonnx", None),
        (affine(8, 0.5, 6), "fixdt", "fixdt(1,8,0.5,-3.0)"),
        (affine(8, 0.5, 6), "matlab", "sfix8_S0p5_Bn3"),
        (affine(8, 1e-7), "matlab", "sfix8_S1en07"),
        (fixed(8, -3), "matlab", "sfix8_E3"),
        (fixed(8, 0), "matlab", "sfix8"),
        (ternary(), "qonnx", "TERNARY"),
        (binary(), "qonnx", "BIPOLAR"),
        (fixed(1, 0, signed=False), "qonnx", "BINARY"),
        (fixed(8, 4), "qonnx", "FIXED<8,4>"),
    ],
)
def test_names_are_spelled_as_their_tools_spell_them(format, dialect, text):
    if text is None:
        with pytest.raises(FormatError, match="its scale is no power of two, or it has a zero point"):
            format_name(format, dialect)
    else:
        assert format_name(format, dialect) == text


def test_modes_are_written_with_the_defaults_before_them():
    assert format_name(fixed(8, 4), rounding="half_up") == "ap_fixed<8,4,AP_RND,AP_WRAP>"
    assert format_name(fixed(8, 4), overflow="saturate") == "ap_fixed<8,4,AP_TRN,AP_SAT>"
    assert format_name(fixed(8, 4), overflow="wrap", kept=2) == "ap_fixed<8,4,AP_TRN,AP_WRAP,2>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((fixed(8, 4), "verilog"), "'verilog' is no dialect; there are ap_fixed, ap_int, "),
        ((fixed(8, 4), "fxp", "floor"), "fxp names carry no rounding or overflow; ap_fixed and ac_fixed names do"),
        ((fixed(8, 4), "ap_fixed", "ceil"), "ap_fixed has no word for ceil"),
        ((fixed(8, 4), "ap_fixed", "half_odd"), "ap_fixed has no word for half_odd"),
        ((fixed(8, 4), "ac_fixed", None, "wrap", 2), "ac_fixed cannot keep bits when it wraps; ap_fixed can"),
        ((affine(8, (0.5, 0.5), axis=0), "fxp"), "fxp has no name for a format with 2 scales; name each channel(i)"),
        ((symmetric(3, 4), "ap_fixed"), "ap_fixed has no name for symmetric(3, 4): none leaves out one extreme code"),
        ((affine(8, Fraction(1, 3)), "fixdt"), "fixdt has no name for affine(8, Fraction(1, 3)): its slope 1/3"),
        ((fixed(8, 4), "ap_int"), "ap_int has no name for fixed(8, 4): it holds integers"),
        ((fixed(8, 4, signed=False), "qonnx"), "qonnx has no name for fixed(8, 4, signed=False): its FIXED is signed"),
        ((fixed(1, 0), "qonnx"), "qonnx has no name for fixed(1, 0): it takes one signed bit for -1 and +1"),
    ],
)
def test_what_a_dialect_cannot_say_is_refused_with_the_reason(arguments, message):
    with pytest.raises(FormatError) as problem:
        format_name(*arguments)
    assert str(problem.value).startswith(message)
