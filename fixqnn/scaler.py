"""From an accumulator's step to the output's step: six records, each with its formula.

`prepare(up, down, count)` turns the scales above and below the line, and the number of averaged terms, into the
constants that the machine would hold: R = Πup / (down·count). How a machine forms them is part of its arithmetic.
The formulas themselves are carried out in `fixqnn.arith`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_args

import numpy as np

from fixqnn.errors import DoesNotFit, FormatError
from fixqnn.modes import Overflow, Rounding, round_quotient

RATIOS = ("exact", "float64", "float32", "float32_product")


def check_count(what: str, value: Any, least: int) -> None:
    """Refuse anything but a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise FormatError(f"{what} must be a whole number of at least {least}, not {value!r}")


def check_choice(what: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse anything but one of `choices`."""
    if value not in choices:
        raise FormatError(f"{what} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_kind(what: str, value: Any, kind: Any) -> None:
    """Refuse anything but an instance of `kind`."""
    if not isinstance(value, kind):
        names = getattr(kind, "__name__", None) or " or ".join(getattr(k, "__name__", str(k)) for k in get_args(kind))
        raise FormatError(f"{what} must be {names.replace('NoneType', 'None')}, not {value!r}")


def ratio(up: Sequence[Fraction], down: Fraction, kind: str = "exact") -> Fraction:
    """Form Πup / down in the arithmetic that a tool uses for it.

    ``"exact"``: rationals; ``"float64"``: binary64 throughout; ``"float32"``: every step in binary32;
    ``"float32_product"``: the product in binary32, the quotient in binary64 (LiteRT, one scale for all weights).

    >>> ratio([Fraction(1, 10)], Fraction(3))
    Fraction(1, 30)
    """
    check_choice("ratio", kind, RATIOS)
    if kind == "exact":
        return math.prod(up, start=Fraction(1)) / down
    product_type = np.float64 if kind == "float64" else np.float32
    quotient_type = np.float32 if kind == "float32" else np.float64
    product = product_type(1)
    with np.errstate(all="ignore"):
        for factor in up:
            product = product_type(product * product_type(factor.numerator / factor.denominator))
        quotient = quotient_type(product) / quotient_type(down.numerator / down.denominator)
    if not np.isfinite(quotient):
        raise DoesNotFit(f"the scale ratio {[float(u) for u in up]} / {float(down)} leaves the range of {kind}")
    return Fraction(float(quotient))


def _scaled(r: Fraction, shift: int, rounding: Rounding) -> int:
    """round(r·2^shift)."""
    return round_quotient(r.numerator << max(shift, 0), r.denominator << max(-shift, 0), rounding)


def _set_modes(record: Any) -> None:
    if record.rounding is not None:
        object.__setattr__(record, "rounding", Rounding.of(record.rounding))
    object.__setattr__(record, "overflow", Overflow.of(record.overflow))


@dataclass(frozen=True)
class Exact:
    """y = round(acc·R), R the exact rational: one rounding, nothing approximated."""

    rounding: Rounding = Rounding.half_even
    overflow: Overflow = Overflow.saturate

    def __post_init__(self) -> None:
        _set_modes(self)

    def prepare(self, up: Sequence[Fraction], down: Fraction, count: int = 1) -> Fraction:
        """R itself."""
        return ratio(up, down) / count


@dataclass(frozen=True)
class Shift:
    """y = round(acc / 2ˢ); a negative s shifts left, exactly. R must be a power of two."""

    rounding: Rounding = Rounding.floor
    overflow: Overflow = Overflow.saturate
    kept: int = 0

    def __post_init__(self) -> None:
        _set_modes(self)
        check_count("Shift.kept", self.kept, 0)

    def prepare(self, up: Sequence[Fraction], down: Fraction, count: int = 1) -> int:
        """s; DoesNotFit, with the nearest power of two, when R is none."""
        exact = ratio(up, down) / count
        shift = exact.denominator.bit_length() - exact.numerator.bit_length()
        for s in (shift - 1, shift, shift + 1):
            if exact == (Fraction(1, 1 << s) if s >= 0 else Fraction(1 << -s)):
                return s
        nearest = -round(math.log2(exact)) if 1e-300 < exact < 1e300 else shift
        raise DoesNotFit(
            f"this machine rescales by a shift, and the ratio of scales {float(exact):.9g} is no power of two; the nearest "
            f"is 2^{-nearest}: quantize with power-of-two scales (Policy(scales='power_of_two'))"
        )


@dataclass(frozen=True)
class Multiplier:
    """y = round(acc·m / 2ˢ): one rounding, m of `bits` bits with its sign, s from the scales or fixed.

    `constant` is the rounding that makes m from R·2ˢ; `ratio` how R is formed. ``rounding=None`` keeps the unrounded
    value: an operand of a sum, both operands sharing one s.
    """

    bits: int = 32
    rounding: Rounding | None = Rounding.half_up
    ratio: str = "exact"
    shift: int | None = None
    constant: Rounding = Rounding.half_away
    overflow: Overflow = Overflow.saturate

    def __post_init__(self) -> None:
        _set_modes(self)
        object.__setattr__(self, "constant", Rounding.of(self.constant))
        check_count("Multiplier.bits", self.bits, 2)
        check_choice("Multiplier.ratio", self.ratio, RATIOS)
        check_kind("Multiplier.shift", self.shift, int | None)

    def prepare(
        self, up: Sequence[Fraction], down: Fraction, count: int = 1, shift: int | None = None
    ) -> tuple[int, int]:
        """(m, s). A given `shift` (an operand's shared one) wins over the record's."""
        r = ratio(up, down, self.ratio) / count
        s = shift if shift is not None else self.shift
        fixed = s is not None
        if s is None:
            s = self.normal_shift(r)
        m = _scaled(r, s, self.constant)
        if not fixed and m == 1 << (self.bits - 1):  # rounded up to the next power of two
            s -= 1
            m = _scaled(r, s, self.constant)
        if m >= 1 << (self.bits - 1):
            raise DoesNotFit(
                f"multiplier {m} for the ratio {float(r):.9g} at shift {s} needs more than {self.bits} bits"
            )
        return m, s

    def normal_shift(self, r: Fraction) -> int:
        """The s at which m = R·2ˢ fills `bits` bits with its sign: 2^(bits−2) ≤ m < 2^(bits−1)."""
        s = self.bits - 2 - (r.numerator.bit_length() - r.denominator.bit_length())
        return s + 1 if _scaled(r, s, Rounding.floor) < 1 << (self.bits - 2) else s


@dataclass(frozen=True)
class TwoStepMultiplier:
    """h = sat(first(wrap(acc·2ˡ)·m / 2^(bits−1))); y = second(h / 2ʳ): gemmlowp's two roundings.

    m and e come from frexp(R), m rounded half away from zero; l = max(e, 0), r = max(−e, 0). A count enters m by
    truncated division, as in LiteRT's MEAN.
    """

    bits: int = 32
    first: Rounding = Rounding.half_up
    second: Rounding = Rounding.half_away
    ratio: str = "float64"
    overflow: Overflow = Overflow.saturate

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            object.__setattr__(self, name, Rounding.of(getattr(self, name)))
        object.__setattr__(self, "overflow", Overflow.of(self.overflow))
        check_count("TwoStepMultiplier.bits", self.bits, 2)
        check_choice("TwoStepMultiplier.ratio", self.ratio, RATIOS)

    def prepare(self, up: Sequence[Fraction], down: Fraction, count: int = 1) -> tuple[int, int]:
        """(m, e), R ≈ m·2^(e − bits + 1)."""
        r = ratio(up, down, self.ratio)
        e = r.numerator.bit_length() - r.denominator.bit_length()
        if r < Fraction(2) ** (e - 1):  # frexp: ½ ≤ R / 2^e < 1
            e -= 1
        if r >= Fraction(2) ** e:
            e += 1
        m = _scaled(r, self.bits - 1 - e, Rounding.half_away)
        if m == 1 << (self.bits - 1):
            m, e = m >> 1, e + 1
        if e < -(self.bits - 1):
            return 0, 0
        if count > 1:
            shift = min(count.bit_length() - 1, 32, 31 + e)
            m, e = (m << shift) // count, e - shift
        return m, e


@dataclass(frozen=True)
class Float:
    """v = fl(acc); v·c or v / c in `precision`; then round(v) + z, or round(fl(v + z)), on the processor's own floats.

    ``by="multiply"``: c = fl(fl(Πup / down) / count); ``"divide"``: c = down (fl(down/Πup) if there are scales above);
    ``"reciprocal"``: c = fl(1/down), then multiplied. ``zero_point="after"`` the rounding or ``"before"`` it.
    ``rounding=None`` keeps the float: an operand of a sum.
    """

    precision: str = "float32"
    rounding: Rounding | None = Rounding.half_even
    by: str = "multiply"
    zero_point: str = "after"
    overflow: Overflow = Overflow.saturate

    def __post_init__(self) -> None:
        _set_modes(self)
        check_choice("Float.precision", self.precision, ("float32", "float64"))
        check_choice("Float.by", self.by, ("multiply", "divide", "reciprocal"))
        check_choice("Float.zero_point", self.zero_point, ("after", "before"))

    @property
    def dtype(self) -> type:
        """The numpy type that carries it."""
        return np.float32 if self.precision == "float32" else np.float64

    def prepare(self, up: Sequence[Fraction], down: Fraction, count: int = 1) -> float:
        """c, a Python float that `precision` holds exactly."""
        fl = self.dtype
        bottom = fl(float(down))
        if self.by == "multiply":
            top = fl(1)
            for factor in up:
                top = fl(top * fl(float(factor)))
            return float(fl(fl(top / bottom) / fl(count)))
        # up·acc enters as a dequantised float whose step is 1 when the operand is already real
        scale = fl(1)
        for factor in up:
            scale = fl(scale * fl(float(factor)))
        bottom = fl(fl(bottom * fl(count)) / scale)
        return float(bottom if self.by == "divide" else fl(fl(1) / bottom))


@dataclass(frozen=True)
class Divide:
    """then(round(acc / count)): an average, then a rescaling."""

    rounding: Rounding = Rounding.half_away
    then: Exact | Shift | Multiplier | TwoStepMultiplier | Float = Shift()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounding", Rounding.of(self.rounding))
        if isinstance(self.then, Divide) or not is_scaler(self.then):
            raise FormatError(f"Divide.then must be another scaler, not {self.then!r}")

    @property
    def overflow(self) -> Overflow:
        """The output register's, from `then`."""
        return self.then.overflow

    @property
    def kept(self) -> int:
        """The output register's, from `then`."""
        return getattr(self.then, "kept", 0)

    def prepare(self, up: Sequence[Fraction], down: Fraction, count: int = 1) -> tuple[int, Any]:
        """(count, constants of `then` without the count)."""
        return count, self.then.prepare(up, down)


Scaler = Exact | Shift | Multiplier | TwoStepMultiplier | Float | Divide


def is_scaler(record: Any) -> bool:
    """Tell whether `record` is one of the six scalers."""
    return isinstance(record, Exact | Shift | Multiplier | TwoStepMultiplier | Float | Divide)
