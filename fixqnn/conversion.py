"""One step of conversion between two formats, as a public door: the assignment of one fixed-point type to another."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fixqnn.arith.bind import output_register
from fixqnn.arith.exact import round_shift
from fixqnn.errors import BadInput, DoesNotFit, RegisterOverflow
from fixqnn.format import Format
from fixqnn.modes import Overflow, Rounding, draw64, fit, round_quotient
from fixqnn.tensor import Tensor


def cast(
    tensor: Tensor,
    format: Format,
    rounding: str = "floor",
    overflow: str = "wrap",
    kept: int = 0,
    seed: int = 0,
) -> Tensor:
    """Convert codes to another format: one rounding, one overflow, as ``ap_fixed`` and ``ac_fixed`` assign.

    Parameters
    ----------
    tensor : Tensor
        Codes of any format, of any width.
    format : Format
        The format to convert to. Scales need not be powers of two: the exact quotient is rounded.
    rounding : Rounding or str
        How dropped bits are rounded; the default, as in HLS types, is ``"floor"`` (AP_TRN).
    overflow : Overflow or str
        What becomes of a code that does not fit; the default, as in HLS types, is ``"wrap"`` (AP_WRAP).
        ``"forbid"`` raises.
    kept : int
        How many top bits saturate when it wraps: the N of AP_WRAP and AP_WRAP_SM.
    seed : int
        For stochastic rounding; element i, in C order, draws number i.

    Returns
    -------
    Tensor
        Codes of `format`, in the same shape.

    Raises
    ------
    RegisterOverflow
        With ``overflow="forbid"``, for the first code that does not fit.
    BadInput
        For anything but a Tensor and a Format, or a channel axis of the wrong length.
    DoesNotFit
        For per-channel formats that differ in their channels, or a narrow range that would wrap.

    Examples
    --------
    >>> from fixqnn import Tensor, fixed
    >>> cast(Tensor([300, -300], fixed(10, 4)), fixed(6, 3), rounding="half_even", overflow="saturate")
    Tensor([31, -32], fixed(6, 3))
    """
    if not isinstance(tensor, Tensor) or not isinstance(format, Format):
        raise BadInput(f"cast takes a Tensor and a Format, not {type(tensor).__name__} and {type(format).__name__}")
    rounding, overflow = Rounding.of(rounding), Overflow.of(overflow)
    source = tensor.format
    format.check_shape(tensor.shape, "tensor")
    if source.per_channel and format.per_channel and (source.axis, source.channels) != (format.axis, format.channels):
        raise DoesNotFit(f"cannot cast {source} to {format}: their channels differ")
    register = output_register(format, overflow, kept)
    axis = source.axis if source.per_channel else format.axis
    codes = np.empty(tensor.codes.shape, object)
    for number, (index, code) in enumerate(np.ndenumerate(tensor.codes)):
        channel = index[axis] if axis is not None else 0
        draw = draw64(seed, 0, number) if rounding is Rounding.stochastic else 0
        asked, unrounded, dropped = _convert(int(code), source, format, channel, rounding, draw)
        deleted_bit = (unrounded >> (dropped + format.bits)) & 1
        stored = fit(asked, register.bits, register.signed, register.overflow, register.kept, deleted_bit)
        if overflow is Overflow.forbid and stored != asked:
            raise RegisterOverflow(f"code {code} at {index} becomes {asked}, which {format} does not hold")
        codes[index] = stored
    return Tensor(codes.astype(format.code_dtype), format)


def _convert(
    code: int, source: Format, target: Format, channel: int, rounding: Rounding, draw: int
) -> tuple[int, int, int]:
    """(rounded code, unrounded number, how many of its low bits the rounding dropped)."""
    ratio = source.scale_at(channel) / target.scale_at(channel)
    zero = Fraction(target.zero_at(channel))
    whole = int(zero) if zero.denominator == 1 else 0
    shifted = code - Fraction(source.zero_at(channel))
    power = ratio.denominator.bit_length() - 1
    if ratio.denominator == 1 << power and shifted.denominator == zero.denominator == 1:
        number = int(shifted) * ratio.numerator
        return round_shift(number, power, rounding, draw) + whole, number + (whole << power), power
    value = shifted * ratio + (zero - whole)
    asked = round_quotient(value.numerator, value.denominator, rounding, draw) + whole
    return asked, (value.numerator // value.denominator) + whole, 0
