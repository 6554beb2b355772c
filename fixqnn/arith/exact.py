"""The scalar steps on Python integers: the definition that everything else is held to.

Roundings and overflows themselves are defined in `fixqnn.modes`; here they are put together to registers, sums and
scalers. Nothing here is limited in width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.datapath import Register
from fixqnn.modes import Overflow, Rounding, fit, round_quotient
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier

Note = Callable[[str, int, int], None]
Draw = Callable[[int, int], int]


def no_draw(place: int, index: int) -> int:
    """Stand in for the random numbers of a datapath that has none."""
    return 0


def round_shift(x: int, shift: int, rounding: Rounding, draw: int = 0) -> int:
    """X / 2^shift rounded; a negative shift multiplies, exactly.

    >>> [round_shift(x, 1, Rounding.half_even) for x in (-5, -3, -1, 1, 3, 5)]
    [-2, -2, 0, 0, 2, 2]
    """
    return x << -shift if shift <= 0 else round_quotient(x, 1 << shift, rounding, draw)


def keep(x: int, drop: int, register: Register, draw: int = 0) -> tuple[int, int]:
    """Round away `drop` low bits of x, then store it: the atom of every datapath.

    Returns
    -------
    stored, asked : int
        What the register holds, and the rounded number that it was asked to hold; it acted if the two differ.

    Examples
    --------
    >>> keep(300, 1, Register(8, "saturate"))
    (127, 150)
    """
    asked = round_shift(x, drop, register.rounding, draw)
    deleted_bit = (x >> (max(drop, 0) + register.bits)) & 1
    return fit(asked, register.bits, register.signed, register.overflow, register.kept, deleted_bit), asked


def add(total: int, term: int, place: BoundRegister, draw: int = 0) -> tuple[int, int]:
    """Add a term to a running total and keep the sum: one rounding of the exact sum, one store."""
    if place.drop > 0:
        return keep((total << place.drop) + term, place.drop, place.register, draw)
    return keep(total + (term << -place.drop), 0, place.register, draw)


def add_up(terms: Sequence[int], bound: BoundSum, bias: int | None, note: Note, draw: Draw = no_draw) -> int:
    """Fold terms through the stages of a datapath, in order.

    Parameters
    ----------
    terms : sequence of int
        Whole products, in the datapath's order.
    bound : BoundSum
        The datapath with its drops and run ends resolved.
    bias : int or None
        Bias code, at the bias's own step.
    note : callable
        ``note(place, index, asked)``: called whenever a register acts; index is the term's, −1 for a bias that
        comes first, ``len(terms)`` for one that comes last.
    draw : callable
        ``draw(place_number, index) -> 64 random bits`` for stochastic rounding.

    Returns
    -------
    int
        The content of the last register.
    """

    def kept(x: int, place: BoundRegister, index: int, total: int | None = None) -> int:
        random = draw(place.number, index)
        stored, asked = keep(x, place.drop, place.register, random) if total is None else add(total, x, place, random)
        if stored != asked:
            note(place.name, index, asked)
        return stored

    numbers = [(kept(t, bound.product, k) if bound.product else t, k) for k, t in enumerate(terms)]
    for level, stage in enumerate(bound.stages):
        outermost = level == len(bound.stages) - 1
        totals = []
        for run in _runs(numbers, bound.ends[level], stage.size):
            total = 0
            if outermost and bias is not None and bound.bias == "first":
                total = kept(bias, bound.bias_register, -1)
            for number, index in run:
                total = kept(number, stage.register, index, total)
            if outermost and bias is not None and bound.bias == "last":
                total = kept(bias, bound.bias_register, len(terms), total)
            index = run[-1][1] if run else -1
            totals.append((kept(total, stage.out, index) if stage.out else total, index))
        numbers = totals
    ((total, _),) = numbers
    return total


def _runs(numbers: list[tuple[int, int]], ends: Sequence[bool] | None, size: int | None) -> list[list[tuple[int, int]]]:
    """Cut numbers into runs of at most `size`, and after every number whose last term ends a pass."""
    runs: list[list[tuple[int, int]]] = [[]]
    for number, index in numbers:
        runs[-1].append((number, index))
        if (size is not None and len(runs[-1]) == size) or (ends is not None and ends[index]):
            runs.append([])
    return runs if runs[-1] or len(runs) == 1 else runs[:-1]


def scale(
    acc: Any, scaler: Any, constants: Any, zero_point: Fraction | int = 0, draw: int = 0, bias: float = 0.0
) -> Any:
    """Carry out a scaler's formula on one accumulator; the result is not yet stored.

    `constants` is what ``scaler.prepare`` made. `bias` is a real number that a Float adds to the accumulator.

    >>> from fixqnn.scaler import Shift
    >>> scale(-478, Shift("half_away"), 2)
    -120
    """
    match scaler:
        case Exact():
            if zero_point == int(zero_point):
                return round_quotient(acc * constants.numerator, constants.denominator, scaler.rounding, draw) + int(
                    zero_point
                )
            value = acc * constants + zero_point
            return round_quotient(value.numerator, value.denominator, scaler.rounding, draw)
        case Shift():
            return round_shift(acc, constants, scaler.rounding, draw) + int(zero_point)
        case Multiplier():
            m, s = constants
            return (
                acc * m if scaler.rounding is None else round_shift(acc * m, s, scaler.rounding, draw) + int(zero_point)
            )
        case TwoStepMultiplier():
            return _two_step(acc, scaler, *constants, draw) + int(zero_point)
        case Float():
            return _float(acc, scaler, constants, zero_point, draw, bias)
        case Divide():
            count, then = constants
            return scale(round_quotient(acc, count, scaler.rounding, draw), scaler.then, then, zero_point, draw)
    raise TypeError(f"not a scaler: {scaler!r}")


def _two_step(acc: int, scaler: TwoStepMultiplier, m: int, e: int, draw: int) -> int:
    bits = scaler.bits
    shifted = fit(acc << max(e, 0), bits, True, Overflow.wrap)
    high = round_quotient(shifted * m, 1 << (bits - 1), scaler.first, draw)
    return round_shift(fit(high, bits, True, Overflow.saturate), max(-e, 0), scaler.second, draw)


def _to_float(acc: Any, fl: type) -> Any:
    """Round a whole number to a float once; numpy would go through binary64 on its way to binary32."""
    if isinstance(acc, int):
        beyond = max(abs(acc).bit_length() - np.finfo(fl).nmant - 1, 0)
        acc = round_shift(acc, beyond, Rounding.half_even) << beyond
    return fl(acc)


def _float(acc: Any, scaler: Float, c: float, zero_point: Fraction | int, draw: int, bias: float) -> Any:
    fl = scaler.dtype
    value = _to_float(acc, fl)
    if bias:
        value = fl(value + fl(bias))
    value = fl(value / fl(c)) if scaler.by == "divide" else fl(value * fl(c))
    if scaler.rounding is None:
        return float(value)
    if scaler.zero_point == "before":
        value, zero_point = fl(value + fl(float(zero_point))), 0
    if not math.isfinite(value):
        return int(math.copysign(1 << 200, value)) if not math.isnan(value) else 0
    exact = Fraction(float(value))
    return round_quotient(exact.numerator, exact.denominator, scaler.rounding, draw) + int(zero_point)
