"""The names that other tools give to formats: read, and written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from fixqnn.errors import FormatError
from fixqnn.format import Format, binary, fixed, ternary
from fixqnn.modes import Overflow, Rounding, check_store
from fixqnn.rationals import is_float

ROUNDINGS = {
    "TRN": Rounding.floor,
    "TRN_ZERO": Rounding.toward_zero,
    "RND": Rounding.half_up,
    "RND_ZERO": Rounding.half_toward_zero,
    "RND_MIN_INF": Rounding.half_down,
    "RND_INF": Rounding.half_away,
    "RND_CONV": Rounding.half_even,
    "RND_CONV_ODD": Rounding.half_odd,  # ac_fixed only
}
OVERFLOWS = {
    "WRAP": Overflow.wrap,
    "SAT": Overflow.saturate,
    "SAT_ZERO": Overflow.saturate_zero,
    "SAT_SYM": Overflow.saturate_symmetric,
    "WRAP_SM": Overflow.wrap_sign_magnitude,  # ap_fixed only
}
ABSENT = {"AP": {"RND_CONV_ODD"}, "AC": {"WRAP_SM"}}

# Six digits are a million bits: more would only exhaust memory.
WHOLE = r"[+-]?\d{1,6}"
REAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?|2\^-?\d{1,4}"
TRUTH = {"true": True, "1": True, "false": False, "0": False}

SPELLINGS = (
    "ap_fixed<W,I,Q,O,N>, ap_ufixed<...>, ap_int<W>, ap_uint<W>; ac_fixed<W,I,S,Q,O>, ac_int<W,S>; "
    "fxp-s16/8, fxp-u8/4; arm:Q1.15, ti:Q0.15, UQ8.8; fixdt(1,16,8), numerictype(1,16,8), fixdt(1,8,slope,bias), "
    "sfix16_En8, ufix8_S0p1_Bn3; INT4, UINT8, BIPOLAR, BINARY, TERNARY, FIXED<8,4>"
)


@dataclass(frozen=True)
class Dialect:
    """What a foreign type name says: a format and, where the name carries them, the modes of assigning to it.

    >>> parse_type("ap_fixed<16,6,AP_RND,AP_SAT>")
    Dialect(format=fixed(16, 10), rounding='half_up', overflow='saturate', kept=0)
    >>> parse_type("UINT8")
    Dialect(format=fixed(8, 0, signed=False), rounding=None, overflow=None, kept=0)
    """

    format: Format
    rounding: Rounding | None = None
    overflow: Overflow | None = None
    kept: int = 0

    def __post_init__(self) -> None:
        if self.rounding is not None:
            object.__setattr__(self, "rounding", Rounding.of(self.rounding))
        if self.overflow is not None:
            object.__setattr__(self, "overflow", Overflow.of(self.overflow))
        format = self.format
        check_store(format.bits, format.signed, self.overflow or Overflow.wrap, self.kept)


def parse_type(text: str) -> Dialect:
    """Read a type name of any dialect; FormatError lists the spellings there are.

    >>> parse_type("ac_fixed<8, 3, false>").format
    fixed(8, 5, signed=False)
    >>> parse_type("sfix16_En8").format == parse_type("fixdt(1, 16, 8)").format == fixed(16, 8)
    True
    """
    if not isinstance(text, str):
        raise FormatError(f"a type name is text, not {text!r}")
    tight = re.sub(r"\s*([<>(),:/])\s*", r"\1", text.strip())
    for pattern, read in _READERS:
        match = re.fullmatch(pattern, tight)
        if match:
            try:
                return read(*match.groups())
            except FormatError as problem:
                raise FormatError(f"{text!r}: {problem}") from None
    raise FormatError(f"{text!r} is no type name of a known dialect; there are {SPELLINGS}")


def format_name(
    format: Format,
    dialect: str = "ap_fixed",
    rounding: str | None = None,
    overflow: str | None = None,
    kept: int = 0,
) -> str:
    """Write a format in a dialect, so that reading it back gives the same format.

    Parameters
    ----------
    format : Format
        The format.
    dialect : str
        ``ap_fixed``, ``ap_int``, ``ac_fixed``, ``ac_int``, ``fxp``, ``arm``, ``ti``, ``fixdt``, ``numerictype``,
        ``matlab`` (names such as sfix16_En8) or ``qonnx``.
    rounding, overflow, kept
        Modes, for ``ap_fixed`` and ``ac_fixed``, the dialects that have words for them.

    Returns
    -------
    str
        The name.

    Raises
    ------
    FormatError
        If the dialect has no name for that format or mode.

    Examples
    --------
    >>> format_name(fixed(16, 10)), format_name(fixed(16, 10), "ac_fixed", overflow="saturate")
    ('ap_fixed<16,6>', 'ac_fixed<16,6,true,AC_TRN,AC_SAT>')
    >>> format_name(fixed(16, 15), "ti"), format_name(fixed(16, 15), "arm"), format_name(fixed(16, 15), "matlab")
    ('ti:Q0.15', 'arm:Q1.15', 'sfix16_En15')
    """
    if dialect not in _WRITERS:
        raise FormatError(f"{dialect!r} is no dialect; there are {', '.join(_WRITERS)}")
    modes = Dialect(format, rounding, overflow, kept)
    has_modes = modes.rounding is not None or modes.overflow is not None or kept
    if has_modes and dialect not in ("ap_fixed", "ac_fixed"):
        raise FormatError(f"{dialect} names carry no rounding or overflow; ap_fixed and ac_fixed names do")
    if format.per_channel:
        raise FormatError(f"{dialect} has no name for a format with {format.channels} scales; name each channel(i)")
    if format.narrow_range and not (dialect == "qonnx" and format == ternary()):
        raise FormatError(f"{dialect} has no name for {format}: none leaves out one extreme code")
    return _WRITERS[dialect](format, modes)


# ---------------------------------------------------------------------- ap_fixed and ac_fixed


def _modes(family: str, rounding: str | None, overflow: str | None, kept: str | None) -> tuple[Rounding, Overflow, int]:
    """Read the words of one family; the defaults are floor and wrap."""
    found = []
    for word, names, default in ((rounding, ROUNDINGS, "TRN"), (overflow, OVERFLOWS, "WRAP")):
        known = [name for name in names if name not in ABSENT[family]]
        word = word or f"{family}_{default}"
        if word.removeprefix(family + "_") not in known or not word.startswith(family + "_"):
            raise FormatError(f"{word} is no mode here; there are {', '.join(f'{family}_{k}' for k in known)}")
        found.append(names[word.removeprefix(family + "_")])
    return found[0], found[1], int(kept or 0)


def _words(family: str, modes: Dialect) -> list[str]:
    """Write the words of one family: none if no mode was given."""
    if modes.rounding is None and modes.overflow is None and not modes.kept:
        return []
    words = []
    for mode, names in ((modes.rounding or Rounding.floor, ROUNDINGS), (modes.overflow or Overflow.wrap, OVERFLOWS)):
        word = next((w for w, m in names.items() if m is mode and w not in ABSENT[family]), None)
        if word is None:
            raise FormatError(f"{family.lower()}_fixed has no word for {mode}")
        words.append(f"{family}_{word}")
    if family == "AC" and modes.kept:
        raise FormatError("ac_fixed cannot keep bits when it wraps; ap_fixed can")
    return words + ([str(modes.kept)] if modes.kept else [])


def _read_ap_fixed(
    u: str, bits: str, whole: str, rounding: str | None, overflow: str | None, kept: str | None
) -> Dialect:
    return Dialect(fixed(int(bits), int(bits) - int(whole), not u), *_modes("AP", rounding, overflow, kept))


def _read_ac_fixed(bits: str, whole: str, signed: str | None, rounding: str | None, overflow: str | None) -> Dialect:
    frac = int(bits) - int(whole)
    return Dialect(fixed(int(bits), frac, TRUTH[signed or "true"]), *_modes("AC", rounding, overflow, None))


def _write_ap_fixed(format: Format, modes: Dialect) -> str:
    whole = format.bits - _point(format, "ap_fixed")
    words = [str(format.bits), str(whole), *_words("AP", modes)]
    return f"ap_{'' if format.signed else 'u'}fixed<{','.join(words)}>"


def _write_ac_fixed(format: Format, modes: Dialect) -> str:
    whole = format.bits - _point(format, "ac_fixed")
    words = [str(format.bits), str(whole), str(format.signed).lower(), *_words("AC", modes)]
    return f"ac_fixed<{','.join(words)}>"


def _write_ap_int(format: Format, modes: Dialect) -> str:
    _integer(format, "ap_int")
    return f"ap_{'' if format.signed else 'u'}int<{format.bits}>"


def _write_ac_int(format: Format, modes: Dialect) -> str:
    _integer(format, "ac_int")
    return f"ac_int<{format.bits},{str(format.signed).lower()}>"


# ---------------------------------------------------------------------- fxpmath and Q


def _write_fxp(format: Format, modes: Dialect) -> str:
    return f"fxp-{'s' if format.signed else 'u'}{format.bits}/{_point(format, 'fxp')}"


def _read_q(reading: str | None, u: str, whole: str, frac: str, note: str | None) -> Dialect:
    """Read a Q name: ARM counts the sign in the digits before the point, TI does not; unsigned, they agree."""
    if reading and note:
        raise FormatError("the reading is named twice; write arm: or ti: before, or (ARM) or (TI) behind")
    reading = reading or (note or "").lower()
    bits = int(whole) + int(frac)
    if u:
        return Dialect(fixed(bits, int(frac), signed=False))
    if not reading:
        name = f"Q{whole}.{frac}"
        raise FormatError(
            f"{name} has two readings: ARM counts the sign bit before the point, {bits} bits, written arm:{name}; "
            f"TI does not, {bits + 1} bits, written ti:{name}"
        )
    return Dialect(fixed(bits + (reading == "ti"), int(frac)))


def _read_bare_q(u: str, frac: str) -> Dialect:
    full = f"{u}Q0.{frac}" if u else f"arm:Q1.{frac} (also called ti:Q0.{frac})"
    raise FormatError(f"it does not say how wide the word is; with nothing before the point it is {full}")


def _write_q(reading: str) -> Callable[[Format, Dialect], str]:
    def write(format: Format, modes: Dialect) -> str:
        frac = _point(format, reading)
        whole = format.bits - frac - (format.signed and reading == "ti")
        return f"{reading}:{'' if format.signed else 'U'}Q{whole}.{frac}"

    return write


# ---------------------------------------------------------------------- MATLAB
# V = slope * Q + bias; slope = adjustment * 2**exponent ("Fixed-Point Numbers in Simulink", MathWorks documentation).


def _read_fixdt(signed: str, bits: str, first: str, second: str | None, third: str | None) -> Dialect:
    """Read fixdt(signed, bits, frac), (..., slope, bias) or (..., adjustment, exponent, bias)."""
    if second is None:
        if not re.fullmatch(WHOLE, first):
            raise FormatError(f"the fraction length must be an integer, not {first}")
        return Dialect(fixed(int(bits), int(first), TRUTH[signed]))
    if third is None:
        slope, bias = _double(first), _double(second)
    else:
        if not re.fullmatch(WHOLE, second):
            raise FormatError(f"the fixed exponent must be an integer, not {second}")
        slope, bias = _double(first) * Fraction(2) ** int(second), _double(third)
    return Dialect(_from_slope(int(bits), TRUTH[signed], slope, bias))


def _read_fix(
    s: str, bits: str, slope: str | None, adjustment: str | None, exponent: str | None, bias: str | None
) -> Dialect:
    """Read sfix16_En8 and the like; numbers are spelled with n for minus, p for the point, e for powers of ten."""
    if slope and (adjustment or exponent):
        raise FormatError("a slope S goes with neither an adjustment F nor an exponent E; it replaces them")
    step = _double(_plain(slope or adjustment or "1")) * Fraction(2) ** int(_plain(exponent or "0"))
    return Dialect(_from_slope(int(bits), s == "s", step, _double(_plain(bias or "0"))))


def _write_fixdt(name: str) -> Callable[[Format, Dialect], str]:
    def write(format: Format, modes: Dialect) -> str:
        if format.frac is not None:
            return f"{name}({int(format.signed)},{format.bits},{format.frac})"
        slope, bias = _slope(format, name)
        return f"{name}({int(format.signed)},{format.bits},{slope!r},{bias!r})"

    return write


def _write_matlab(format: Format, modes: Dialect) -> str:
    start = f"{'s' if format.signed else 'u'}fix{format.bits}"
    if format.frac is not None:
        return start if format.frac == 0 else f"{start}_E{'n' if format.frac > 0 else ''}{abs(format.frac)}"
    slope, bias = (repr(v).replace(".0", "", 1) if v == int(v) else repr(v) for v in _slope(format, "matlab"))
    letters = str.maketrans({"-": "n", ".": "p", "+": None})
    return f"{start}_S{slope.translate(letters)}" + ("" if bias == "0" else f"_B{bias.translate(letters)}")


def _plain(number: str) -> str:
    return number.replace("n", "-").replace("p", ".")


def _double(number: str) -> Fraction:
    """Take a number as MATLAB does: as the nearest float64."""
    if number.startswith("2^"):
        return Fraction(2) ** int(number[2:])
    return Fraction(float(number))


def _from_slope(bits: int, signed: bool, slope: Fraction, bias: Fraction) -> Format:
    if slope <= 0:
        raise FormatError(f"the slope must be positive, not {float(slope)}")
    return Format(bits, signed, slope, -bias / slope)


def _slope(format: Format, dialect: str) -> tuple[float, float]:
    """Give slope and bias as float64, if that is exact."""
    slope, bias = format.scale, -format.scale * format.zero_point
    for name, value in (("slope", slope), ("bias", bias)):
        if not is_float(value):
            raise FormatError(f"{dialect} has no name for {format}: its {name} {value} is no float64")
    return float(slope), float(bias)


# ---------------------------------------------------------------------- QONNX


def _read_qonnx_integer(u: str, bits: str) -> Dialect:
    if not u and int(bits) == 1:
        raise FormatError("one signed bit is -1 and +1 to QONNX; write BIPOLAR, or ap_int<1> for -1 and 0")
    return Dialect(fixed(int(bits), 0, not u))


def _refuse(why: str) -> Callable[..., Dialect]:
    def read(*_: str) -> Dialect:
        raise FormatError(why)

    return read


def _write_qonnx(format: Format, modes: Dialect) -> str:
    for name, special in (("BIPOLAR", binary()), ("TERNARY", ternary()), ("BINARY", fixed(1, 0, signed=False))):
        if format == special:
            return name
    frac = _point(format, "qonnx")
    if frac == 0:
        if format == fixed(1, 0):
            raise FormatError(f"qonnx has no name for {format}: it takes one signed bit for -1 and +1")
        return f"{'' if format.signed else 'U'}INT{format.bits}"
    if not format.signed:
        raise FormatError(f"qonnx has no name for {format}: its FIXED is signed")
    return f"FIXED<{format.bits},{format.bits - frac}>"


# ---------------------------------------------------------------------- tables


def _point(format: Format, dialect: str) -> int:
    if format.frac is None:
        raise FormatError(f"{dialect} has no name for {format}: its scale is no power of two, or it has a zero point")
    return format.frac


def _integer(format: Format, dialect: str) -> None:
    if format.frac != 0:
        raise FormatError(f"{dialect} has no name for {format}: it holds integers")


_NUMBER = r"n?(?:\d+p?\d*|p\d+)(?:en?\d{1,3})?"
_READERS: tuple[tuple[str, Callable[..., Dialect]], ...] = (
    (rf"ap_(u?)fixed<({WHOLE}),({WHOLE})(?:,(\w+)(?:,(\w+)(?:,({WHOLE}))?)?)?>", _read_ap_fixed),
    (rf"ac_fixed<({WHOLE}),({WHOLE})(?:,(true|false|1|0)(?:,(\w+)(?:,(\w+))?)?)?>", _read_ac_fixed),
    (rf"ap_(u?)int<({WHOLE})>", lambda u, bits: Dialect(fixed(int(bits), 0, not u))),
    (rf"ac_int<({WHOLE})(?:,(true|false|1|0))?>", lambda bits, s: Dialect(fixed(int(bits), 0, TRUTH[s or "true"]))),
    (rf"fxp-([su])({WHOLE})/({WHOLE})", lambda s, bits, frac: Dialect(fixed(int(bits), int(frac), s == "s"))),
    (rf"fxp-[su]{WHOLE}/{WHOLE}-complex", _refuse("complex numbers have no format; give the two parts separately")),
    (rf"(?:(arm|ti):)?(U?)Q({WHOLE})\.({WHOLE})(?:\((ARM|TI)\))?", _read_q),
    (r"(U?)Q(\d{1,6})", _read_bare_q),
    (
        rf"(?:fixdt|numerictype)\((true|false|1|0),({WHOLE}),({REAL})(?:,({REAL})(?:,({REAL}))?)?\)",
        _read_fixdt,
    ),
    (rf"(?:fixdt|numerictype)\((?:true|false|1|0),{WHOLE}\)", _refuse("it has no scaling; write fixdt(1,16,8)")),
    (
        rf"([su])fix(\d{{1,6}})(?:_S({_NUMBER}))?(?:_F({_NUMBER}))?(?:_E(n?\d{{1,6}}))?(?:_B({_NUMBER}))?",
        _read_fix,
    ),
    (r"(U?)INT(\d{1,6})", _read_qonnx_integer),
    (rf"FIXED<({WHOLE}),({WHOLE})>", lambda bits, whole: Dialect(fixed(int(bits), int(bits) - int(whole)))),
    (r"BIPOLAR", lambda: Dialect(binary())),
    (r"BINARY", lambda: Dialect(fixed(1, 0, signed=False))),
    (r"TERNARY", lambda: Dialect(ternary())),
    (r"SCALEDINT<.*>", _refuse("it does not carry its scale; make it with affine(bits, scale)")),
    (r"FLOAT\d*(?:<.*>)?|ARBPRECFLOAT<.*>", _refuse("floating point is no format of integer codes")),
)
_WRITERS: dict[str, Callable[[Format, Dialect], str]] = {
    "ap_fixed": _write_ap_fixed,
    "ap_int": _write_ap_int,
    "ac_fixed": _write_ac_fixed,
    "ac_int": _write_ac_int,
    "fxp": _write_fxp,
    "arm": _write_q("arm"),
    "ti": _write_q("ti"),
    "fixdt": _write_fixdt("fixdt"),
    "numerictype": _write_fixdt("numerictype"),
    "matlab": _write_matlab,
    "qonnx": _write_qonnx,
}
