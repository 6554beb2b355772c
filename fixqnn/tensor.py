"""Integer codes together with what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.encoding import as_codes
from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format
from fixqnn.rationals import is_float, rational

if TYPE_CHECKING:
    from fxpmath import Fxp


@dataclass(frozen=True, eq=False, repr=False)
class Tensor:
    """Integer codes and their format; the codes are checked, copied and cannot be written.

    Parameters
    ----------
    codes : array of integers, torch tensor, integer or nested list
        The codes; stored as `format.code_dtype`.
    format : Format
        What they mean.

    Raises
    ------
    BadInput
        For codes that are no integers or outside the format, or a channel axis of the wrong length.

    Examples
    --------
    >>> from fixqnn.format import fixed
    >>> Tensor([1, 2, 40], fixed(8, 4)).real()
    array([0.0625, 0.125 , 2.5   ])
    """

    codes: np.ndarray
    format: Format

    def __post_init__(self) -> None:
        if not isinstance(self.format, Format):
            raise BadInput(f"format must be a Format, not {self.format!r}; Format.parse reads one from text")
        codes = as_codes(self.codes)
        self.format.check_codes(codes)
        dtype = self.format.code_dtype
        if dtype.hasobject:
            exact = np.empty(codes.shape, object)
            exact.reshape(-1)[:] = [int(code) for code in codes.ravel()]
            codes = exact
        elif codes.flags.writeable or codes.dtype != dtype or not codes.flags.c_contiguous or codes.base is not None:
            codes = np.array(codes, dtype, order="C")  # nobody else may hold a writable view of it
        codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)

    @classmethod
    def from_real(
        cls,
        values: Any,
        format: Format,
        rounding: str = "half_even",
        overflow: str = "saturate",
        name: str = "values",
    ) -> Tensor:
        """Encode real numbers; see ``Format.encode``.

        >>> from fixqnn.format import fixed
        >>> Tensor.from_real([0.5, 1.25], fixed(8, 4))
        Tensor([8, 20], fixed(8, 4))
        """
        return cls(format.encode(values, rounding, overflow, name=name), format)

    def real(self) -> np.ndarray:
        """Give the reals that the codes stand for, float64."""
        return self.format.decode(self.codes)

    @classmethod
    def from_fxp(cls, fxp: Fxp) -> Tensor:
        """Take over an fxpmath number: its raw integers, width, point, scale and bias.

        >>> from fxpmath import Fxp
        >>> Tensor.from_fxp(Fxp([0.5, -1.25], dtype="fxp-s8/4"))
        Tensor([8, -20], fixed(8, 4))
        """
        if np.iscomplexobj(fxp.val):
            raise BadInput(f"an Fxp of type {fxp.dtype} is complex; convert its real and imaginary parts separately")
        scaling, bias = rational(fxp.scale, "Fxp.scale"), rational(fxp.bias, "Fxp.bias")
        if (scaling, bias) != (1, 0) and not fxp.scaled:
            raise BadInput(
                f"this Fxp has scale {fxp.scale} and bias {fxp.bias} but holds raw codes that it reads without them; "
                "set its attribute scaled to True, or scale=1 and bias=0"
            )
        scale = scaling * Fraction(2) ** -int(fxp.n_frac)
        return cls(as_codes(fxp.val), Format(int(fxp.n_word), bool(fxp.signed), scale, -bias / scale))

    def to_fxp(self) -> Fxp:
        """Give an fxpmath number with the same codes and reals; the narrow range of a format is not carried along.

        >>> Tensor([8, -20], Format.parse("fxp-s8/4")).to_fxp().dtype
        'fxp-s8/4'
        """
        from fxpmath import Fxp

        format = self.format
        if format.per_channel:
            raise FormatError(f"an Fxp has one scale, {format} has {format.channels}; convert each channel by itself")
        if format.frac is not None:
            frac, scale, bias = format.frac, 1, 0
        else:
            frac, scale, bias = 0, format.scale, -format.scale * format.zero_point
            if not (is_float(scale) and is_float(bias)):
                raise FormatError(f"an Fxp holds scale and bias as floats, which those of {format} are not")
            scale, bias = float(scale), float(bias)
        fxp = Fxp(0, format.signed, format.bits, frac, raw=True, scale=scale, bias=bias)
        # Given whole arrays of raw codes, fxpmath 0.4 turns words of 64 bits into floats and its scaling off.
        fxp.val = self.codes.astype(fxp.val.dtype)
        fxp.scaled = (scale, bias) != (1, 0)
        fxp.real = fxp.get_val()
        return fxp

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return self.codes.shape

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return self.format == other.format and np.array_equal(self.codes, other.codes)

    __hash__ = None

    def __repr__(self) -> str:
        if self.codes.size <= 16:
            return f"Tensor({self.codes.tolist()}, {self.format!r})"
        shape = "x".join(str(length) for length in self.shape)
        return f"<Tensor of {shape} codes from {self.codes.min()} to {self.codes.max()}, {self.format}>"
