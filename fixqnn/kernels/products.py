"""Rescaling by one product and one shift: the constants of `rescale_multiply`, and of its longer sister `rescale_split`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fixqnn.arith.fast import BELOW, FIRST, WIDEST, register_constants, shift_constants
from fixqnn.datapath import Register
from fixqnn.errors import TooWide
from fixqnn.kernels.multiplier import mode_without_ties, multiplier_for
from fixqnn.modes import Overflow, Rounding
from fixqnn.scaler import Exact, Multiplier, Scaler, Shift

CLAMPING = (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid)


class Simple(NamedTuple):
    """Constants of `rescale_multiply` between the accumulators and the random numbers, in its order."""

    m: np.ndarray
    shift: np.ndarray
    add: np.ndarray
    if_negative: np.ndarray | None
    if_odd: np.ndarray | None
    flip: int
    offset: np.ndarray | None
    zero: int
    first: int
    last: int
    other: tuple[int, ...] | None


@dataclass(frozen=True)
class Products:
    """round((acc·m + offset) / 2^s) + zero for every channel, whatever scaler asked for it.

    Parameters
    ----------
    pairs : tuple
        (m, s) of all channels, or one for all.
    rounding : Rounding
        Mode of the shift.
    bound : int
        No accumulator passes this magnitude.
    zero_point : Fraction
        Added before the rounding; behind it, where it is whole.
    register : Register
        What stores the result.
    """

    pairs: tuple[tuple[int, int], ...]
    rounding: Rounding
    bound: int
    zero_point: Fraction
    register: Register

    @cached_property
    def _lifted(self) -> tuple[tuple[tuple[int, int], ...], list[int], int]:
        """(m, s) of all channels, what is added to their products, and the whole zero point behind the shift."""
        pairs, zero = self.pairs, self.zero_point
        if zero.denominator == 1:
            return pairs, [0] * len(pairs), int(zero)
        pairs = tuple((m << 1, s + 1) if s < 1 else (m, s) for m, s in pairs)
        return pairs, [int(zero * (1 << s)) for _, s in pairs], 0

    @cached_property
    def _longest(self) -> int:
        """No product, with what is added to it, passes this magnitude."""
        pairs, offsets, _ = self._lifted
        return max(self.bound * m + abs(o) for (m, _), o in zip(pairs, offsets, strict=True))

    @cached_property
    def too_long(self) -> bool:
        """Whether products pass 62 bits; TooWide where they cannot be cut in two either."""
        pairs, offsets, _ = self._lifted
        split, deepest = self._longest.bit_length() > WIDEST - 1, max(s for _, s in pairs)
        if (
            split
            and not (
                not any(offsets)
                and min(s for _, s in pairs) >= 25
                and max((self.bound >> 24) * m + (m << 1) for m, _ in pairs).bit_length() < WIDEST - 2
                and max(m for m, _ in pairs).bit_length() <= 36
                and self.rounding is not Rounding.stochastic
            )
        ) or deepest > WIDEST:
            raise TooWide(
                f"rescaling by {max(m for m, _ in pairs)} / 2^{deepest} an accumulator of up to ±{self.bound} passes 62 bits; "
                "use a narrower multiplier or accumulator, or engine='exact'"
            )
        return split

    def simple(self, channels: int, width: int) -> Simple:
        """Constants for an inner loop of that width, where products are not `too_long`."""
        pairs, offsets, zero = self._lifted
        first, last, other = output_limits(self.register)
        word = np.int64
        if other is None and max(self._longest + (1 << max(s for _, s in pairs)) + abs(zero), zero).bit_length() < 32:
            word, ends = np.int32, np.iinfo(np.int32)  # all numbers are within these ends, so that limits may be
            first, last, zero = (np.int32(min(max(v, ends.min), ends.max)) for v in (first, last, zero))
        narrow = max(m for m, _ in pairs) < 1 << 31
        m = spread([m for m, _ in pairs], channels, width, np.int32 if narrow else np.int64)
        rows = shifts_of([s for _, s in pairs], self.rounding)
        shift, add, if_negative, if_odd = (spread(row, channels, width, word) for row in rows[:4])
        if_negative, if_odd = (row if row.any() else None for row in (if_negative, if_odd))
        offset = spread(offsets, channels, width, word) if any(offsets) else None
        return Simple(m, shift, add, if_negative, if_odd, word(max(rows[4])), offset, zero, first, last, other)

    def halves(self, channels: int, width: int) -> tuple[Any, ...]:
        """The constants of `rescale_split` behind the accumulators, where products are `too_long`."""
        pairs, _, zero = self._lifted
        *rows, flip = shifts_of([s - 23 for _, s in pairs], self.rounding)
        m = spread([m for m, _ in pairs], channels, width)
        return m, *(spread(row, channels, width) for row in rows), max(flip), zero, *output_limits(self.register)


def products_of(
    scaler: Scaler | None, constants: tuple[Any, ...], bound: int, zero_point: Fraction, register: Register
) -> Products | None:
    """The products that a scaler makes, or that provably come to the same; None where there are none."""
    pairs: tuple[tuple[int, int], ...] | None = None
    bound = max(bound, 1)  # of a sum that is always 0, any multiplier would do, one that fits no word too
    match scaler:
        case None:
            pairs, rounding = ((1, 0),), Rounding.floor
        case Shift():
            pairs, rounding = tuple((1 << max(-s, 0), max(s, 0)) for s in constants), scaler.rounding
        case Multiplier():
            pairs, rounding = tuple((m << max(-s, 0), max(s, 0)) for m, s in constants), scaler.rounding
        case Exact():
            pairs, rounding = _whole_ratios(scaler.rounding, constants, bound, zero_point, register)
    return None if pairs is None else Products(pairs, rounding, bound, zero_point, register)


def _whole_ratios(
    rounding: Rounding, ratios: tuple[Fraction, ...], bound: int, zero_point: Fraction, register: Register
) -> tuple[tuple[tuple[int, int], ...] | None, Rounding]:
    """(m, s) of every ratio and the mode: exact for m / 2^s, else proved to round alike."""
    if all(r.denominator & (r.denominator - 1) == 0 for r in ratios):
        pairs = tuple((r.numerator, r.denominator.bit_length() - 1) for r in ratios)
        if max(bound * m for m, _ in pairs).bit_length() < WIDEST and max(s for _, s in pairs) < WIDEST:
            return pairs, rounding
    if zero_point.denominator != 1:
        return None, rounding
    first, last, other = output_limits(register)
    reach = max(abs(first - int(zero_point)), abs(last - int(zero_point))) if other is None else None
    mode = mode_without_ties(ratios, bound, rounding)
    pairs = []
    for ratio in ratios:
        pair = multiplier_for(ratio, bound, mode, reach)
        if pair is None:
            return None, rounding
        pairs.append(pair)
    return tuple(pairs), mode


def output_limits(register: Register) -> tuple[int, int, tuple[int, ...] | None]:
    """First and last number that a register holds; what it does with others, or None where it clamps."""
    first, last, *other = register_constants(register, 0)[FIRST : BELOW + 1]
    return int(first), int(last), None if register.overflow in CLAMPING else tuple(map(int, other))


def spread(values: Sequence[Any], channels: int, width: int, dtype: Any = np.int64) -> np.ndarray:
    """Constants of one channel after the other, or one of all, as a vector as long as an inner loop."""
    array = np.array(values, dtype)
    if array.size == 1:
        return np.full(width, array[0])
    return array[np.arange(width) % max(channels, 1) % array.size]


def shifts_of(shifts: Sequence[int], rounding: Rounding) -> list[list[int]]:
    """The constants SHIFT … FLIP for shifts per channel, one list each."""
    return [list(row) for row in zip(*(shift_constants(s, rounding)[:5] for s in shifts), strict=True)]
