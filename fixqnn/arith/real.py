"""Real functions correctly rounded onto a grid: the entries of lookup tables.

No entry is guessed. A number is placed between two neighbouring half steps of the output grid; every rounding mode is
constant in between, so its neighbours decide. Rational values are exact. Irrational ones are enclosed: first all
together in float64 with an error bound, then, where that does not tell, one by one in interval arithmetic of growing
precision, up to a cap at which an error is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.enclosures import bounds, intervals
from fixqnn.arith.explicit import NAMED
from fixqnn.arith.functions import FLOAT64, FUNCTIONS, RealFunction, Split, sign
from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format
from fixqnn.modes import Overflow, Rounding, check_store, fit, round_quotient
from fixqnn.rationals import rational

__all__ = ["FUNCTIONS", "RealFunction", "enclose", "rounded", "tabulate"]

# Float64 tells rests between these apart; of others, all of them exponentials, only the sign and that they are beyond.
TINY, HUGE = 2.0**-900, 2.0**700
# So an exponent that counts is below 2¹⁰, and so is the number by which the error of an argument is magnified
# (gelu's erfc included, whose t² is such an exponent). Arguments are off by at most 16 units of 2⁻⁵³, then up to 16
# operations add 8 each at worst (numpy, libm): 2⁻³⁸ in all, of which we allow four times.
FLOAT64_ERROR = 2.0**-36
# Intervals tell rests apart down to 2⁻⁸¹⁹² and up to 2⁴⁰⁹⁶; so many more bits than asked for make them tight.
SPARE_BITS = 32
# With steps and parameters within these, float64 neither overflows nor underflows unnoticed.
SMALLEST, LARGEST = Fraction(1, 2**100), Fraction(2**100)

PRECISIONS = (64, 128, 256, 512, 1024, 2048, 4096)
LARGEST_TABLE = 24  # bits of input: 16 million entries


@dataclass(frozen=True)
class _Grid:
    """Where values land: at value / scale + shift. Of those beyond ±limit, if there is one, no more need be known."""

    scale: Fraction
    shift: Fraction
    limit: int | None = None


def rounded(
    function: str | Callable[[Fraction], Fraction],
    x: Fraction,
    scale: Fraction,
    zero_point: int | Fraction = 0,
    rounding: str = "half_even",
    **parameters: Any,
) -> int:
    """Round function(x) to the grid of a format, whatever its width: the code before any overflow.

    An integer zero point joins after rounding, a fractional one before it, as in ``Format.encode``.

    Parameters
    ----------
    function : str or callable
        A name of `FUNCTIONS`, or a function from Fraction to Fraction, taken as exact.
    x : Fraction, int or float
        The point.
    scale : Fraction, int or float
        The step of the grid.
    zero_point : int or Fraction
        The code of real zero.
    rounding : Rounding or str
        Any mode but ``stochastic``.
    **parameters
        The function's parameters, by torch's names.

    Returns
    -------
    int
        round(function(x) / scale) + zero_point.

    Raises
    ------
    BadInput
        Where the function is undefined, for unknown names, and if 4096 bits do not decide.

    Examples
    --------
    >>> rounded("sigmoid", Fraction(0), 1), rounded("sigmoid", Fraction(0), 1, rounding="half_up")
    (0, 1)
    >>> rounded("gelu", Fraction(128), 1, rounding="floor"), rounded("tanh", 1, Fraction(1, 10**12))
    (127, 761594155956)
    """
    function = _resolve(function)
    settings = function.complete(parameters)
    x, scale, zero_point = rational(x, "x"), _positive(scale), rational(zero_point, "zero_point")
    if sign(x) in function.undefined:
        raise BadInput(f"{function.name} is not defined at {x}")
    inner, outer = _zero_point(zero_point)
    rounding = _deterministic(rounding)
    place = _place(function, settings, x, _Grid(scale, inner), rounding.nearest)
    return round_quotient(*place, rounding) + outer


def tabulate(
    function: str | Callable[[Fraction], Fraction],
    in_format: Format,
    out_format: Format,
    rounding: str = "half_even",
    overflow: str = "saturate",
    **parameters: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate a function: for every input code, the correctly rounded output code.

    A pole counts as a number beyond every code: 1/0 and rsqrt(0) lie above, log(0) below (``wrap`` saturates them).
    Where there is no value at all (sqrt, rsqrt, log of negative numbers) the entry is the code of real zero, clipped
    into the format, and flagged as clipped below.

    Parameters
    ----------
    function : str or callable
        A name of `FUNCTIONS`, or a function from Fraction to Fraction, taken as exact.
    in_format, out_format : Format
        What the codes mean; one scale each.
    rounding : Rounding or str
        Any mode but ``stochastic``.
    overflow : Overflow or str
        What becomes of values beyond the output's codes; ``forbid`` clips, the flags tell.
    **parameters
        The function's parameters, by torch's names.

    Returns
    -------
    entries : ndarray
        Output codes for the input codes from `in_format.low` to `in_format.high`.
    flags : ndarray of int8
        -1 where the overflow mode changed a code too low, +1 where one too high, else 0.

    Raises
    ------
    FormatError
        For formats per channel, more than 24 input bits, or a mode that a table cannot have.
    BadInput
        For unknown names, and if 4096 bits do not decide an entry.

    Examples
    --------
    >>> from fixqnn.format import fixed
    >>> entries, flags = tabulate("exp", fixed(3, 0), fixed(6, 2))
    >>> entries.tolist(), flags.tolist()
    ([0, 0, 1, 1, 4, 11, 30, 31], [0, 0, 0, 0, 0, 0, 0, 1])
    """
    function = _resolve(function)
    settings = function.complete(parameters)
    rounding, overflow = _deterministic(rounding), Overflow.of(overflow)
    for which, format in (("in_format", in_format), ("out_format", out_format)):
        if format.per_channel:
            raise FormatError(f"a table has one scale, but {which} is {format}; tabulate each {which}.channel(i)")
    if in_format.bits > LARGEST_TABLE:
        raise FormatError(f"a table for {in_format} would have 2**{in_format.bits} entries; at most 2**{LARGEST_TABLE}")
    check_store(out_format.bits, out_format.signed, overflow, 0, out_format.narrow_range)

    zero = Fraction(in_format.zero_point)
    codes = np.arange(in_format.low, in_format.high + 1).astype(object)
    units, step = codes * zero.denominator - zero.numerator, in_format.scale / zero.denominator  # x = step·unit
    inner, outer = _zero_point(Fraction(out_format.zero_point))
    limit = max(abs(out_format.low), out_format.high) + math.ceil(abs(out_format.zero_point)) + 2
    grid = _Grid(out_format.scale, inner, None if overflow.wraps else limit)

    entries = np.zeros(len(codes), out_format.code_dtype)
    flags = np.zeros(len(codes), np.int8)
    gaps = {at: _undefined(gap, out_format, rounding, overflow) for at, gap in function.undefined.items()}
    known: dict[tuple[int, int], tuple[int, int]] = {}
    for index, half_step in enumerate(_half_steps(function, settings, units, step, grid)):
        if half_step is not None:
            place = 2 * half_step + 1, 4
        elif sign(units[index]) in gaps:
            entries[index], flags[index] = gaps[sign(units[index])]
            continue
        else:
            place = _place(function, settings, step * units[index], grid, rounding.nearest)
        if place not in known:
            code = round_quotient(*place, rounding) + outer
            deleted_bit = (place[0] // place[1] + outer) >> out_format.bits & 1
            entry = fit(code, out_format.bits, out_format.signed, overflow, 0, deleted_bit, out_format.narrow_range)
            known[place] = entry, sign(code - entry)
        entries[index], flags[index] = known[place]
    return entries, flags


def enclose(
    function: RealFunction, settings: dict[str, Any], x: Fraction, bits: int
) -> tuple[Fraction, Fraction] | None:
    """Enclose an irrational value strictly between two fractions; None if it lies beyond ±2**4096.

    The rest beside the function's line is computed in interval arithmetic, which rounds outwards at every step.
    A function with an enclosure of its own is asked for that; there the ends count.

    Parameters
    ----------
    function : RealFunction
        The function.
    settings : dict
        Its complete parameters.
    x : Fraction
        A point where it is defined and irrational.
    bits : int
        How tight: the width is about 2**-bits of the distance from the function's line.

    Returns
    -------
    low, high : Fraction
        With low < function(x) < high.

    Examples
    --------
    >>> low, high = enclose(FUNCTIONS["exp"], {}, Fraction(1), 64)
    >>> float(low), float(high), high - low < Fraction(1, 2**61)
    (2.718281828459045, 2.718281828459045, True)
    """
    if function.enclosure is not None:
        return _given(function, x, bits)
    split, up, t = function.split, x >= 0, abs(x)
    slope, intercept = split.line(up, **settings)
    m = intervals(bits + SPARE_BITS)
    numbers = {name: value if isinstance(value, str) else m.number(value) for name, value in settings.items()}
    rest = split.rest(m, m.number(t), up, **numbers)
    line = slope * x + intercept
    (negative, mantissa, exponent, size), (below_zero, _, high_exponent, high_size) = rest._mpi_
    if mantissa and min(exponent + size, high_exponent + high_size) > PRECISIONS[-1]:
        return None
    if mantissa and negative == below_zero and max(exponent + size, high_exponent + high_size) < -2 * PRECISIONS[-1]:
        nothing = Fraction(1, 2 ** (2 * PRECISIONS[-1]))  # its sign is all that can matter
        return (line - nothing, line) if negative else (line, line + nothing)
    low, high = bounds(rest)
    hair = max(abs(low), abs(high)) / 2**bits
    return line + low - hair, line + high + hair


def _given(function: RealFunction, x: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Ask the user's own enclosure, and check that it is one."""
    try:
        low, high = (rational(end, "an end") for end in function.enclosure(x, bits))
    except (TypeError, ValueError) as problem:
        raise BadInput(f"{function.name}({x}, {bits}) must return two fractions (low, high): {problem}") from None
    if low > high:
        raise BadInput(f"{function.name}({x}, {bits}) returned low = {low} above high = {high}")
    return low, high


def _place(
    function: RealFunction, settings: dict[str, Any], x: Fraction, grid: _Grid, nearest: bool
) -> tuple[int, int]:
    """Find a quotient that rounds as function(x) / scale + shift does, in every mode: itself, or one beside it.

    An enclosure given by the user may stay around a point of the grid for ever; to the `nearest` it rounds all the same.
    """
    value = function.rational(x, **settings)
    if value is not None:
        if not isinstance(value, int | Fraction):
            raise BadInput(f"{function.name} must return a Fraction or an int, not {value!r} (at {x})")
        return (value / grid.scale + grid.shift).as_integer_ratio()
    if function.split is None and function.enclosure is None:
        raise BadInput(f"{function.name} must return a Fraction or an int, not None (at {x})")
    for bits in PRECISIONS:
        enclosure = enclose(function, settings, x, bits)
        if enclosure is None:
            if grid.limit is None or grid.limit * grid.scale > 2 ** (PRECISIONS[-1] - 1):
                break
            return grid.limit, 1
        low, high = (2 * (bound / grid.scale + grid.shift) for bound in enclosure)
        half_step = math.floor(low)
        if high <= half_step + 1 and (function.enclosure is None or (half_step < low and high < half_step + 1)):
            return 2 * half_step + 1, 4
        if nearest and half_step % 2 and half_step < low and high < half_step + 2:
            return (half_step + 1) // 2, 1
        if low == high:  # only an enclosure given by the user: the value itself
            return (low / 2).as_integer_ratio()
    shown = ", ".join([str(x), *(f"{name}={value}" for name, value in settings.items())])
    raise BadInput(
        f"{function.name}({shown}) on a grid of step {grid.scale}: {PRECISIONS[-1]} bits do not decide how it rounds; "
        "use a narrower input, or an overflow mode that clips"
    )


def _half_steps(
    function: RealFunction, settings: dict[str, Any], units: np.ndarray, step: Fraction, grid: _Grid
) -> list[int | None]:
    """Find n with n < 2·(function(step·unit) / scale + shift) < n + 1 wherever float64 proves it; None elsewhere."""
    found = np.full(len(units), None, dtype=object)
    split = function.split
    if split is None:
        return found.tolist()
    numbers = [abs(value) for value in settings.values() if value and not isinstance(value, str)]
    others = (*units[[0, -1]], grid.shift)
    if not all(
        SMALLEST < size < LARGEST for size in (step, grid.scale, *numbers, *(1 + abs(other) for other in others))
    ):
        return found.tolist()
    last = split.rational_above(**settings)
    for up in (True, False):
        if (1 if up else -1) in function.undefined:
            continue
        side = ((units > 0) if up else (units < 0)).astype(bool)
        if last is not None:
            side &= (units <= math.floor(last / step)).astype(bool)
        where = np.flatnonzero(side)
        if where.size:
            found[where] = _half_steps_of_side(split, settings, units[where], up, step, grid)
    return found.tolist()


def _half_steps_of_side(
    split: Split, settings: dict[str, Any], units: np.ndarray, up: bool, step: Fraction, grid: _Grid
) -> np.ndarray:
    numbers = {name: value if isinstance(value, str) else float(value) for name, value in settings.items()}
    t = np.abs(units).astype(np.float64) * float(step)
    below, above = _along(split.line(up, **settings), units, step, grid)
    with np.errstate(all="ignore"):
        rest = split.rest(FLOAT64, t, up, **numbers)
        size = np.abs(rest)
        if split.wavy:
            error = FLOAT64_ERROR * (1 + t + size)
        else:
            error = FLOAT64_ERROR * size
            vague = (size < TINY) | (size > HUGE)
            rest = np.where(vague, np.copysign(np.clip(size, TINY, HUGE), rest), rest)
            error = np.where(vague, np.abs(rest) / 2, error)
        beyond = rest * float(2 / grid.scale)
        total = above + beyond  # twice the quotient, less the whole number `below`
        error = error * float(2 / grid.scale) + np.where(above != 0, 2.0**-50 * (1 + np.abs(beyond)), 0)
        sure = np.abs(total - np.rint(total)) > error
    found = np.full(len(units), None, dtype=object)
    found[sure] = below[sure] + np.floor(total[sure]).astype(np.int64).astype(object)
    if grid.limit is not None and grid.limit < LARGEST:
        whole = below.astype(np.float64)
        for side, far in ((1, whole + total), (-1, -whole - total)):
            found[far - error - 2.0**-50 * np.abs(whole) > 2.0 * grid.limit] = side * 2 * grid.limit
    return found


def _along(
    line: tuple[Fraction, Fraction], units: np.ndarray, step: Fraction, grid: _Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Split twice the quotient of a line into its exact whole part and the float64 nearest to what is left."""
    slope, intercept = 2 * line[0] * step / grid.scale, 2 * (line[1] / grid.scale + grid.shift)
    denominator = math.lcm(slope.denominator, intercept.denominator)
    numerators = units * int(slope * denominator) + int(intercept * denominator)
    whole = numerators // denominator
    return whole, ((numerators - whole * denominator) / denominator).astype(np.float64)


def _undefined(gap: str, format: Format, rounding: Rounding, overflow: Overflow) -> tuple[int, int]:
    if gap == "nowhere":
        return int(np.clip(format.encode(0, rounding), format.low, format.high)), -1
    beyond, flag = (format.high + 1, 1) if gap == "high" else (format.low - 1, -1)
    overflow = Overflow.saturate if overflow.wraps else overflow
    return fit(beyond, format.bits, format.signed, overflow, narrow_range=format.narrow_range), flag


def _resolve(function: str | RealFunction | Callable[[Fraction], Fraction]) -> RealFunction:
    if isinstance(function, RealFunction):
        return function
    if callable(function):
        return RealFunction(getattr(function, "__name__", repr(function)), function)
    if function not in NAMED:
        raise BadInput(f"there is no function {function!r}; there are {', '.join(sorted(NAMED))}")
    return NAMED[function]


def _deterministic(rounding: str) -> Rounding:
    rounding = Rounding.of(rounding)
    if rounding is Rounding.stochastic:
        raise FormatError("a table entry is rounded once and for all, so not by stochastic; choose another mode")
    return rounding


def _positive(scale: Any) -> Fraction:
    scale = rational(scale, "scale")
    if scale <= 0:
        raise FormatError(f"scale must be positive, not {scale}")
    return scale


def _zero_point(zero_point: Fraction) -> tuple[Fraction, int]:
    """Return what of a zero point joins before rounding, and what after."""
    return (Fraction(0), int(zero_point)) if zero_point.denominator == 1 else (zero_point, 0)
