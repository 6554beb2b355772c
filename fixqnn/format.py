"""What an integer code means: real = scale * (code - zero_point), in exact rationals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.encoding import as_reals, at, decode, decode_exact, encode
from fixqnn.errors import BadInput, FormatError, RegisterOverflow
from fixqnn.modes import bounds
from fixqnn.rationals import each, exponent, rational, show, show_briefly, whole


@dataclass(frozen=True, repr=False)
class Format:
    """What an integer code means: ``real = scale * (code - zero_point)``.

    Parameters
    ----------
    bits : int
        Width of a code; there is no upper limit.
    signed : bool
        Whether codes are two's complement.
    scale : int, float or Fraction, or a sequence of these
        The real step between codes, positive; a float is taken at its exact binary value. A sequence gives one step
        per channel.
    zero_point : int or Fraction, or a sequence of these
        The code of real zero, which need not be a code of the format (1/2 for ``binary()``). A sequence of equal
        numbers is stored as one.
    axis : int or None
        The axis that channels run along, for per-channel formats only.
    narrow_range : bool
        Whether one extreme code is left out: the lowest if signed, else the highest.

    Raises
    ------
    FormatError
        For a format that cannot exist.

    Examples
    --------
    >>> Format(8, scale=0.0625)
    fixed(8, 4)
    >>> Format(8, scale=Fraction(1, 3), zero_point=-5)
    affine(8, Fraction(1, 3), -5)
    """

    bits: int
    signed: bool = True
    scale: Fraction | tuple[Fraction, ...] = Fraction(1)
    zero_point: int | Fraction | tuple[int | Fraction, ...] = 0
    axis: int | None = None
    narrow_range: bool = False

    def __post_init__(self) -> None:
        bits = whole(self.bits, "bits")
        signed, narrow_range = bool(self.signed), bool(self.narrow_range)
        bounds(bits, signed, narrow_range)
        axis = None if self.axis is None else whole(self.axis, "axis")
        if axis is not None and axis < 0:
            raise FormatError(f"axis must not be negative, as its meaning would change with the rank, not {axis}")
        scale = each(self.scale, "scale", _scale)
        zero_point = each(self.zero_point, "zero_point", _zero_point)
        lengths = {len(v) for v in (scale, zero_point) if isinstance(v, tuple)}
        if axis is None and lengths:
            raise FormatError(f"{lengths.pop()} scales or zero points but no axis; say axis=... along which they run")
        if axis is not None and not lengths:
            raise FormatError(f"axis={axis} but a single scale and zero point; give one scale per channel, or no axis")
        if len(lengths) > 1:
            raise FormatError(f"{len(scale)} scales but {len(zero_point)} zero points; give one each per channel")
        if lengths:
            count = lengths.pop()
            if not count:
                raise FormatError("scale is empty; there must be at least one channel")
            scale = scale if isinstance(scale, tuple) else (scale,) * count
            zero_point = zero_point if isinstance(zero_point, tuple) else (zero_point,) * count
            if len(set(zero_point)) == 1:
                zero_point = zero_point[0]  # one spelling for one meaning: equal formats compare equal
        for name, value in (
            ("bits", bits), ("signed", signed), ("scale", scale),
            ("zero_point", zero_point), ("axis", axis), ("narrow_range", narrow_range),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------ what codes there are

    @cached_property
    def low(self) -> int:
        """Smallest code."""
        return bounds(self.bits, self.signed, self.narrow_range)[0]

    @cached_property
    def high(self) -> int:
        """Largest code."""
        return bounds(self.bits, self.signed, self.narrow_range)[1]

    @cached_property
    def code_dtype(self) -> np.dtype:
        """Array type that holds the codes: int32, int64 if that is too small, Python integers beyond."""
        for dtype in (np.int32, np.int64):
            if np.iinfo(dtype).min <= self.low and self.high <= np.iinfo(dtype).max:
                return np.dtype(dtype)
        return np.dtype(object)

    @cached_property
    def narrow_dtype(self) -> np.dtype:
        """Narrowest array type that holds the codes, in which they travel from step to step of a fast run."""
        for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64):
            if np.iinfo(dtype).min <= self.low and self.high <= np.iinfo(dtype).max:
                return np.dtype(dtype)
        return np.dtype(object)

    # ------------------------------------------------------------------ what they mean

    @property
    def per_channel(self) -> bool:
        """Whether each channel along `axis` has its own scale."""
        return self.axis is not None

    @property
    def channels(self) -> int:
        """How many channels have their own scale; 1 for a format with a single scale."""
        return len(self.scale) if isinstance(self.scale, tuple) else 1

    @cached_property
    def scales(self) -> tuple[Fraction, ...]:
        """The scale of every channel, also where there is but one."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @cached_property
    def zero_points(self) -> tuple[int | Fraction, ...]:
        """The zero point of every channel, also where there is but one."""
        return self.zero_point if isinstance(self.zero_point, tuple) else (self.zero_point,) * self.channels

    def scale_at(self, channel: int) -> Fraction:
        """Scale of one channel; a single scale serves every channel."""
        return self.scales[channel] if self.per_channel else self.scales[0]

    def zero_at(self, channel: int) -> int | Fraction:
        """Zero point of one channel; a single one serves every channel."""
        return self.zero_points[channel] if self.per_channel else self.zero_points[0]

    def channel(self, index: int) -> Format:
        """Format of one channel, with a single scale."""
        return Format(self.bits, self.signed, self.scale_at(index), self.zero_at(index), None, self.narrow_range)

    @cached_property
    def is_power_of_two(self) -> bool:
        """Whether there is a single scale and it is a power of two."""
        return not self.per_channel and exponent(self.scale) is not None

    @cached_property
    def frac(self) -> int | None:
        """Fraction bits, if this is fixed point: scale 2**-frac and zero point 0; else None."""
        return -exponent(self.scale) if self.is_power_of_two and self.zero_point == 0 else None

    @cached_property
    def real_low(self) -> Fraction:
        """Smallest real number of any channel."""
        return min(s * (self.low - z) for s, z in zip(self.scales, self.zero_points, strict=True))

    @cached_property
    def real_high(self) -> Fraction:
        """Largest real number of any channel."""
        return max(s * (self.high - z) for s, z in zip(self.scales, self.zero_points, strict=True))

    # ------------------------------------------------------------------ from reals to codes and back

    def encode(
        self,
        values: Any,
        rounding: str = "half_even",
        overflow: str = "saturate",
        kept: int = 0,
        seed: int = 0,
        name: str = "values",
    ) -> np.ndarray:
        """Turn real numbers into codes; the exact quotient value / scale is rounded, whatever its size.

        With an integer zero point the code is round(value / scale) + zero_point; a fractional one is added before
        rounding. Then the overflow mode applies to the code.

        Parameters
        ----------
        values : array of floats or integers, torch tensor, number, Fraction, or nested list of these
            Finite numbers.
        rounding : Rounding or str
            How quotients become integers.
        overflow : Overflow or str
            What happens to codes out of range. ``forbid`` raises.
        kept : int
            Bits that saturate when the overflow mode wraps.
        seed : int
            For stochastic rounding: element i, in C order, uses ``draw64(seed, 0, i)``.
        name : str
            What messages call the values.

        Returns
        -------
        ndarray
            Codes of type `code_dtype`, in the shape of `values`.

        Raises
        ------
        BadInput
            For NaN, infinity or what is no real number, by index; or a channel axis of the wrong length.
        RegisterOverflow
            If ``overflow="forbid"`` and a value is out of range.

        Examples
        --------
        >>> fixed(8, 4).encode([0.09375, 0.15625, 100.0])
        array([  2,   2, 127], dtype=int32)
        >>> binary().encode([-0.3, 0.0, 0.3], rounding="half_up")
        array([0, 1, 1], dtype=int32)
        """
        codes, acted = encode(values, self, rounding, overflow, kept, seed, name)
        if overflow == "forbid" and acted.any():
            index = tuple(int(i) for i in np.argwhere(acted)[0])
            raise RegisterOverflow(
                f"{at(name, index)} = {as_reals(values, name)[index]} is beyond {self}, which reaches from "
                f"{float(self.real_low)!r} to {float(self.real_high)!r}; overflow='saturate' would clip it"
            )
        return codes

    def encode_and_count(
        self,
        values: Any,
        rounding: str = "half_even",
        overflow: str = "saturate",
        kept: int = 0,
        seed: int = 0,
        name: str = "values",
    ) -> tuple[np.ndarray, int]:
        """Encode, and count the codes that the overflow mode changed; ``forbid`` counts and does not raise.

        >>> fixed(8, 4).encode_and_count([7.9375, 8.0, -9.0])
        (array([ 127,  127, -128], dtype=int32), 2)
        """
        codes, acted = encode(values, self, rounding, overflow, kept, seed, name)
        return codes, int(np.count_nonzero(acted))

    def decode(self, codes: Any) -> np.ndarray:
        """Turn codes into the nearest float64 of the reals they stand for; the codes may be out of range.

        >>> affine(8, 0.1, 3).decode([3, 4, 13])
        array([0. , 0.1, 1. ])
        """
        return decode(codes, self)

    def decode_exact(self, codes: Any) -> np.ndarray:
        """Turn codes into the exact reals they stand for: an object array of Fractions."""
        return decode_exact(codes, self)

    def check_codes(self, codes: np.ndarray, name: str = "codes") -> None:
        """Refuse an array with a code outside the format, or a channel axis of the wrong length (BadInput)."""
        self.check_shape(codes.shape, name)
        if codes.size and not self.low <= int(codes.min()) <= int(codes.max()) <= self.high:
            outside = (codes < self.low) | (codes > self.high)
            index = tuple(int(i) for i in np.argwhere(outside)[0])
            raise BadInput(
                f"{at(name, index)} is {codes[index]}, but codes of {self} reach from {self.low} to {self.high}"
            )

    def check_shape(self, shape: tuple[int, ...], name: str = "values") -> None:
        """Refuse a shape whose channel axis does not have one entry per scale (BadInput)."""
        if self.axis is None:
            return
        if self.axis >= len(shape):
            raise BadInput(f"{name} has shape {tuple(shape)}, which has no axis {self.axis} for the channels of {self}")
        if shape[self.axis] != self.channels:
            raise BadInput(
                f"{name} has shape {tuple(shape)}: {shape[self.axis]} channels on axis {self.axis}, "
                f"but {self} has {self.channels} scales"
            )

    # ------------------------------------------------------------------ as text

    @staticmethod
    def parse(text: str) -> Format:
        """Read a format from the name another tool gives it, such as ``ap_fixed<16,6>`` or ``fxp-s16/8``.

        >>> Format.parse("ap_fixed<16,6>"), Format.parse("ti:Q0.15")
        (fixed(16, 10), fixed(16, 15))
        """
        from fixqnn.dialects import parse_type

        return parse_type(text).format

    def __repr__(self) -> str:
        return self._call(show)

    def __str__(self) -> str:
        return self._call(show_briefly)

    def _call(self, write: Any) -> str:
        """Write the shortest call that makes this format."""
        if self == _BINARY:
            return "binary()"
        unsigned = "" if self.signed else ", signed=False"
        if self.narrow_range and self.signed and self.zero_point == 0 and not self.per_channel:
            if self.bits == 2:
                return "ternary()" if self.scale == 1 else f"ternary({write(self.scale)})"
            if self.scale.numerator == 1:
                return f"symmetric({self.bits - 1}, {self.scale.denominator})"
        if self.frac is not None and not self.narrow_range:
            return f"fixed({self.bits}, {self.frac}{unsigned})"
        zero_point = "" if self.zero_point == 0 else f", {write(self.zero_point)}"
        axis = "" if self.axis is None else f", axis={self.axis}"
        narrow_range = ", narrow_range=True" if self.narrow_range else ""
        return f"affine({self.bits}, {write(self.scale)}{zero_point}{unsigned}{axis}{narrow_range})"


def fixed(bits: int, frac: int, signed: bool = True) -> Format:
    """Fixed point: codes of `bits` bits, `frac` of them after the point; `frac` may be negative or exceed `bits`.

    >>> fixed(8, 4).real_high
    Fraction(127, 16)
    """
    return Format(bits, signed, Fraction(2) ** -whole(frac, "frac"))


def affine(
    bits: int,
    scale: Any,
    zero_point: Any = 0,
    signed: bool = True,
    axis: int | None = None,
    narrow_range: bool = False,
) -> Format:
    """Any format, with the scale first; see Format for the parameters.

    >>> affine(8, [0.5, 0.25], axis=0).channel(1)
    fixed(8, 2)
    """
    return Format(bits, signed, scale, zero_point, axis, narrow_range)


def symmetric(p: int, s: Any) -> Format:
    """The numbers k / s with abs(k) at most 2**p - 1: `p` bits of magnitude and a sign.

    >>> symmetric(3, 4).low, symmetric(3, 4).high, symmetric(3, 4).scale
    (-7, 7, Fraction(1, 4))
    """
    return Format(whole(p, "p") + 1, scale=1 / _scale(s, "s"), narrow_range=True)


def binary() -> Format:
    """The numbers -1 and +1, as codes 0 and 1."""
    return Format(1, signed=False, scale=2, zero_point=Fraction(1, 2))


def ternary(scale: Any = 1) -> Format:
    """The numbers -scale, 0 and +scale."""
    return Format(2, scale=scale, narrow_range=True)


def _scale(value: Any, name: str) -> Fraction:
    scale = rational(value, name)
    if scale <= 0:
        raise FormatError(f"{name} must be positive, not {value}")
    return scale


def _zero_point(value: Any, name: str) -> int | Fraction:
    zero_point = rational(value, name)
    return int(zero_point) if zero_point.denominator == 1 else zero_point


_BINARY = binary()
