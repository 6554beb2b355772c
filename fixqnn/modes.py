"""The names of every rounding and every overflow, and what each does to one Python integer.

These few functions are the definition; whatever is fast elsewhere is tested against them.
"""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Self

from fixqnn.errors import BadInput, FormatError

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


class _Mode(StrEnum):
    """Modes are strings; a text that names none is refused with the list of those that exist."""

    @classmethod
    def of(cls, mode: str) -> Self:
        """Accept a mode or its name; FormatError lists the names there are."""
        return mode if type(mode) is cls else cls(mode)

    @classmethod
    def _missing_(cls, value: object) -> Self:
        raise FormatError(f"{value!r} is no {cls.__name__.lower()} mode; there are {', '.join(cls)}")

    def __repr__(self) -> str:
        return repr(self.value)


class Rounding(_Mode):
    """How a number between two integers becomes one of them; the ``half_`` modes differ only on ties."""

    floor = auto()
    ceil = auto()
    toward_zero = auto()
    away_from_zero = auto()
    half_up = auto()
    half_down = auto()
    half_away = auto()
    half_toward_zero = auto()
    half_even = auto()
    half_odd = auto()
    stochastic = auto()

    @property
    def nearest(self) -> bool:
        """Whether only ties are a matter of taste: all the ``half_`` modes."""
        return self.value.startswith("half_")


class Overflow(_Mode):
    """What a register of `bits` bits holds when asked to hold an integer outside its range."""

    wrap = auto()
    saturate = auto()
    saturate_symmetric = auto()
    saturate_zero = auto()
    wrap_sign_magnitude = auto()
    forbid = auto()

    @property
    def wraps(self) -> bool:
        """Whether high bits are dropped: the two modes that know `kept` bits."""
        return self in (Overflow.wrap, Overflow.wrap_sign_magnitude)


def bounds(bits: int, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """Smallest and largest integer of that many bits; a narrow range leaves out one extreme.

    >>> bounds(8, True), bounds(8, False), bounds(8, True, narrow_range=True), bounds(8, False, narrow_range=True)
    ((-128, 127), (0, 255), (-127, 127), (0, 254))
    """
    if bits < 1:
        raise FormatError(f"bits must be at least 1 for {'a signed' if signed else 'an unsigned'} format, not {bits}")
    if narrow_range and bits == 1:
        raise FormatError("a narrow range needs at least 2 bits, not 1; it would hold nothing but 0")
    if signed:
        high = 2 ** (bits - 1) - 1
        return (-high if narrow_range else -high - 1), high
    return 0, 2**bits - 1 - narrow_range


def round_quotient(numerator: int, denominator: int, rounding: str, draw: int = 0) -> int:
    """Round numerator / denominator to an integer: the definition of every rounding mode.

    Parameters
    ----------
    numerator, denominator : int
        The exact quotient; the denominator is positive.
    rounding : Rounding or str
        The mode.
    draw : int
        For ``stochastic``: a random number of 64 bits. The result is floor(quotient + draw / 2**64).

    Returns
    -------
    int
        The chosen neighbour of the quotient.

    Examples
    --------
    >>> [round_quotient(n, 2, "half_even") for n in (-5, -3, -1, 1, 3, 5)]
    [-2, -2, 0, 0, 2, 2]
    >>> [round_quotient(n, 2, "half_up") for n in (-5, -3, -1, 1, 3, 5)]
    [-2, -1, 0, 1, 2, 3]
    """
    if denominator < 1:
        raise BadInput(f"denominator must be positive, not {denominator}")
    rounding = Rounding.of(rounding)
    below, rest = divmod(numerator, denominator)
    if rounding is Rounding.stochastic:
        if not 0 <= draw < WORD:
            raise BadInput(f"draw must be a number of 64 bits, not {draw}")
        return (numerator + draw * denominator // WORD) // denominator
    if rest == 0 or rounding is Rounding.floor:
        return below
    if rounding is Rounding.ceil:
        return below + 1
    if rounding is Rounding.toward_zero:
        return below + (numerator < 0)
    if rounding is Rounding.away_from_zero:
        return below + (numerator > 0)
    if 2 * rest != denominator:
        return below + (2 * rest > denominator)
    goes_up = {
        Rounding.half_up: True,
        Rounding.half_down: False,
        Rounding.half_away: numerator > 0,
        Rounding.half_toward_zero: numerator < 0,
        Rounding.half_even: below % 2 == 1,
        Rounding.half_odd: below % 2 == 0,
    }[rounding]
    return below + goes_up


def check_store(bits: int, signed: bool, overflow: str, kept: int = 0, narrow_range: bool = False) -> None:
    """Refuse an overflow that a register of this kind cannot have.

    Parameters
    ----------
    bits, signed, narrow_range
        The register.
    overflow : Overflow or str
        What it does on overflow.
    kept : int
        How many top bits saturate when it wraps.

    Raises
    ------
    FormatError
        For an unknown mode, `kept` bits without wrapping or as wide as the register, an unsigned register that
        wraps by sign and magnitude, or a narrow range that wraps.
    """
    overflow = Overflow.of(overflow)
    bounds(bits, signed, narrow_range)
    if kept < 0 or kept >= bits:
        raise FormatError(f"kept must be at least 0 and less than the {bits} bits of the register, not {kept}")
    if kept and not overflow.wraps:
        raise FormatError(f"kept={kept} asks for an overflow that wraps (wrap, wrap_sign_magnitude), not {overflow}")
    if overflow is Overflow.wrap_sign_magnitude and not signed:
        raise FormatError("wrap_sign_magnitude needs a signed register; an unsigned one has no sign to keep: use wrap")
    if narrow_range and overflow.wraps:
        raise FormatError(f"a narrow range cannot {overflow}: the code left out would come back; use saturate")


def fit(
    value: int,
    bits: int,
    signed: bool,
    overflow: str,
    kept: int = 0,
    deleted_bit: int = 0,
    narrow_range: bool = False,
) -> int:
    """Store an integer in a register: the definition of every overflow mode.

    Parameters
    ----------
    value : int
        The rounded integer to be held.
    bits, signed, narrow_range
        The register.
    overflow : Overflow or str
        The mode; ``forbid`` stores like ``saturate``, and its owner raises.
    kept : int
        For the modes that wrap: so many top bits take the value's sign and saturate, the others wrap (the N of
        ``AP_WRAP`` and ``AP_WRAP_SM``).
    deleted_bit : int
        For ``wrap_sign_magnitude`` with nothing kept: the lowest bit lost at the top, read before rounding.

    Returns
    -------
    int
        What the register then holds.

    Examples
    --------
    >>> [fit(9, 4, True, mode) for mode in ("saturate", "wrap", "saturate_zero")]
    [7, -7, 0]
    >>> [fit(-8, 4, True, mode) for mode in ("saturate", "saturate_symmetric")]
    [-8, -7]
    >>> fit(9, 4, True, "wrap", kept=1), fit(-9, 4, True, "wrap", kept=1)
    (1, -1)
    """
    overflow = Overflow.of(overflow)
    check_store(bits, signed, overflow, kept, narrow_range)
    low, high = bounds(bits, signed, narrow_range)
    if overflow is Overflow.saturate_symmetric and signed:
        low = -high  # acts on the one code in range that has no opposite
    if low <= value <= high:
        return value
    if overflow is Overflow.saturate_zero:
        return 0
    if not overflow.wraps:
        return high if value > high else low

    pattern = value % 2**bits
    negative = value < 0
    top_bit = pattern // 2 ** (bits - 1)
    if overflow is Overflow.wrap_sign_magnitude:
        if kept == 0:
            turned, sign = deleted_bit != top_bit, deleted_bit
        elif kept == 1:
            turned, sign = negative != top_bit, negative
        else:
            turned, sign = (pattern >> (bits - kept) & 1) == negative, negative
        if turned:
            pattern = 2**bits - 1 - pattern
        if kept == 0:
            pattern = sign * 2 ** (bits - 1) + pattern % 2 ** (bits - 1)
    if kept:
        body = 2 ** (bits - kept)
        if not signed:
            top = 2**kept - 1  # all ones, below zero too
        elif negative:
            top = 2 ** (kept - 1)  # 10...0
        else:
            top = 2 ** (kept - 1) - 1  # 01...1
        pattern = top * body + pattern % body
    return pattern - 2**bits if signed and pattern >= 2 ** (bits - 1) else pattern


def mix64(z: int) -> int:
    """Scramble 64 bits reversibly: the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def draw64(seed: int, stream: int, counter: int) -> int:
    """Draw number `counter` of a stream of random 64-bit numbers; any order of asking gives the same numbers.

    >>> draw64(0, 0, 0) == draw64(0, 0, 0) != draw64(0, 0, 1)
    True
    """
    key = mix64((seed + GOLDEN * (stream + 1)) % WORD)
    return mix64((key + GOLDEN * (counter + 1)) % WORD)
