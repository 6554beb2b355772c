"""Sums and products of two codes on their way to the output: a register over whole arrays, and scaled sums in float64.

A register sees rows (rows, channels), an estimate single elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from fixqnn.arith.bind import BoundRegister
from fixqnn.arith.fast import WIDEST, decided, kernel, mode_flags, undecided, widest_vectors
from fixqnn.errors import TooWide
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.kernels.rescale import Rescale
from fixqnn.kernels.rescale_choice import WIDTH
from fixqnn.modes import Rounding, round_quotient
from fixqnn.scaler import Shift

EVENTS = 4  # counters of a pair: two registers, below and above
LARGEST_MEMORY = 1 << 20  # pairs of operands whose exact results are kept

Position = Callable[[int], tuple[int, ...]]


@dataclass
class Keep:
    """One register at its place, over arrays of 64-bit numbers.

    Parameters
    ----------
    place : BoundRegister
        The register and its drop; its number tells where among the random numbers of one output it draws.
    bound : int
        No number that enters passes this magnitude.
    places : int
        How many places of one output draw random numbers.
    """

    place: BoundRegister
    bound: int
    places: int

    @cached_property
    def asked(self) -> int:
        """No number that the register is asked to hold passes this magnitude."""
        drop = self.place.drop
        return (self.bound >> drop) + 1 if drop > 0 else self.bound << -drop

    @cached_property
    def acts(self) -> bool:
        """Whether any number could fail to fit."""
        register = self.place.register
        return not (self.asked <= register.high and -self.asked >= register.low)

    @cached_property
    def content(self) -> int:
        """No content of the register passes this magnitude; wrapping may carry a small number to the far end."""
        register = self.place.register
        limit = max(-register.low, register.high)
        if self.acts and register.overflow.wraps:
            return limit
        return min(self.asked, limit) if self.acts else self.asked

    @cached_property
    def _rescale(self) -> Rescale:
        """The same as a scaler behind which the register stands."""
        drop, register = self.place.drop, self.place.register
        if max(self.bound + (1 << max(drop, 0)), self.asked).bit_length() > WIDEST:
            raise TooWide(
                f"{self.place.name}: numbers up to ±{self.bound} pass 62 bits on their way into {register}; "
                "use narrower formats, or engine='exact'"
            )
        form, scaler = (
            Format(register.bits, register.signed),
            Shift(register.rounding, register.overflow, register.kept),
        )
        if not self.acts:  # one that cannot act only rounds, whatever its overflow mode
            form, scaler = Format(self.asked.bit_length() + 1), Shift(register.rounding)
        return Rescale(
            scaler, (drop,), form, self.bound, 0, (), self.places, self.place.number, 0, (self.place.name, register)
        )

    def fast(self, x: np.ndarray, run: Run, position: Position, positions: int) -> np.ndarray:
        """Keep every number of rows (rows, channels); events go to `run`."""
        rescale = self._rescale
        if not self.acts and self.place.drop == 0:
            none = np.zeros(x.shape[1], np.int64)
            run.note(self.place.name, self.place.register, none, none)
            return x
        return rescale.fast(x, run, position, positions)


@kernel
def combine_whole(a, b, left, right, a_offset, b_offset, product, combined):
    """left·a + right·b + both offsets, or (left·a + a_offset)·(right·b + b_offset), in the type of the result."""
    word = combined.dtype.type
    for i in range(combined.size):
        x, y = word(word(a[i] * left) + a_offset), word(word(b[i] * right) + b_offset)
        combined[i] = word(x + y) if product is None else word(x * y)


@kernel
def combine_floats(a, b, left, right, a_offset, b_offset, a_factor, b_factor, divide, way, combined):
    """fl(left·a + a_offset)·a_factor, or divided by it, and the same of b: then added (1), subtracted (−1) or multiplied (0)."""
    fl = combined.dtype.type
    for i in range(combined.size):
        x, y = fl(np.int64(a[i]) * left + a_offset), fl(np.int64(b[i]) * right + b_offset)
        x, y = (fl(x * a_factor), fl(y * b_factor)) if divide is None else (fl(x / a_factor), fl(y / b_factor))
        combined[i] = fl(x * y) if way == 0 else fl(x + y if way > 0 else x - y)


@dataclass(frozen=True)
class Estimate:
    """round((left·a + right·b + offset) / bottom), also for whole numbers too long for 62 bits.

    Float64 decides wherever its error reaches no number at which the rounding changes; what is left, hardly ever more
    than exact ties or whole results, is divided in Python integers, and remembered where operands are narrow.

    Parameters
    ----------
    left, right, offset, bottom : int
        The formula; `bottom` is positive.
    a_low, a_high, b_low, b_high : int
        Ranges of the operands.
    rounding : Rounding
        Any but stochastic.
    """

    left: int
    right: int
    offset: int
    bottom: int
    a_low: int
    a_high: int
    b_low: int
    b_high: int
    rounding: Rounding

    @cached_property
    def reach(self) -> Fraction:
        """Sum of the largest magnitudes of the three quotients."""
        a, b = max(-self.a_low, self.a_high), max(-self.b_low, self.b_high)
        return Fraction(a * abs(self.left) + b * abs(self.right) + abs(self.offset), self.bottom)

    @cached_property
    def fits(self) -> bool:
        """Whether float64 holds every operand, and 62 bits every result."""
        return max(-self.a_low, self.a_high, -self.b_low, self.b_high).bit_length() <= 53 and self.reach < 1 << 60

    def fast(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Results for two arrays of one shape in C order; only where it `fits`."""
        # Each quotient's error is at most two roundings of its magnitude, the two additions one each of the sum of
        # magnitudes: below 4.1·2⁻⁵³ of `reach` in all; we allow 2⁻⁵⁰, as the reach itself is rounded, and the same
        # again for subnormals.
        margin = float(self.reach) * 2.0**-50 + 2.0**-1000
        slopes = (float(Fraction(v, self.bottom)) for v in (self.left, self.right, self.offset))
        nearest, *_, if_positive, if_negative = mode_flags(self.rounding)
        rounded = np.empty(a.shape, np.int32 if self.reach < (1 << 31) - 2 else np.int64)
        a, b, flat = (v.reshape(-1) for v in (a, b, rounded))
        doubtful = np.empty(256 + flat.size // 256, np.int64)
        constants = *slopes, margin, nearest, if_positive, if_negative
        found = estimate_pairs(a, b, *constants, flat, doubtful)
        if found > doubtful.size:
            doubtful = np.empty(found, np.int64)
            estimate_pairs(a, b, *constants, flat, doubtful)
        if found:
            where = doubtful[:found]
            flat[where] = self._exactly(a[where], b[where])
        return rounded

    @cached_property
    def _done(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Results by pair of operands, and which of them are there; None where there are too many pairs."""
        pairs = (self.a_high - self.a_low + 1) * (self.b_high - self.b_low + 1)
        return (np.zeros(pairs, np.int64), np.zeros(pairs, np.bool_)) if pairs <= LARGEST_MEMORY else None

    def _exactly(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if self._done is None:
            return np.array([self._one(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)], np.int64)
        results, there = self._done
        width = self.b_high - self.b_low + 1
        keys = (a.astype(np.int64) - self.a_low) * width + (b.astype(np.int64) - self.b_low)
        for key in np.unique(keys[~there[keys]]).tolist():
            results[key] = self._one(self.a_low + key // width, self.b_low + key % width)
            there[key] = True
        return results[keys]

    def _one(self, a: int, b: int) -> int:
        return round_quotient(self.left * a + self.right * b + self.offset, self.bottom, self.rounding)


@kernel
def estimate_pairs(a, b, left, right, offset, margin, nearest, if_positive, if_negative, rounded, doubtful):
    """Round what is farther than `margin` from every number at which the mode changes; list and count the rest."""
    found = 0
    for start in range(0, rounded.size, WIDTH):
        x, y, target = a[start : start + WIDTH], b[start : start + WIDTH], rounded[start : start + WIDTH]
        doubts = np.int64(0)
        for i in range(target.size):
            value = np.float64(x[i]) * left + np.float64(y[i]) * right + offset
            doubts += undecided(value, margin, nearest)
            target[i] = np.int64(decided(value, nearest, if_positive, if_negative))
        if doubts == 0:
            continue
        for i in range(target.size):
            value = np.float64(x[i]) * left + np.float64(y[i]) * right + offset
            if undecided(value, margin, nearest):
                if found < doubtful.size:
                    doubtful[found] = start + i
                found += 1
    return found


@kernel
def look_up_pairs(a, b, a_low, b_low, span, table, y, counts):
    """Read the entry of every pair of codes: its code above EVENTS bits, of which bit i says whether counter i goes up.

    All are flat; `counts` (EVENTS, width) is as wide as some whole number of rows.
    """
    width = counts.shape[1]
    entries = np.empty(width, table.dtype)
    for start in range(0, y.size, width):
        left, right, target = a[start : start + width], b[start : start + width], y[start : start + width]
        for i in range(target.size):
            pair = (np.int64(left[i]) - a_low) * span + (np.int64(right[i]) - b_low)
            entries[i] = table[np.uint64(pair)]
        for i in range(target.size):
            target[i] = entries[i] >> EVENTS
        for event in range(counts.shape[0]):
            count = counts[event]
            for i in range(target.size):
                count[i] += (entries[i] >> event) & 1


@kernel
def combine_line(a, b, line, zero, y, counts):
    """Round left·a + right·b + offset half to even, clamp to [first, last], add a whole zero; flat, as in `look_up_pairs`.

    `line` holds the five numbers, in the type of the arithmetic.

    Every step is one operation of IEEE 754, so that what comes out depends on nothing but the pair of codes.
    """
    widest_vectors()
    below, above, fl = counts[0], counts[1], line.dtype.type
    left, right, offset, first, last = line[0], line[1], line[2], line[3], line[4]
    width = below.size
    for start in range(0, y.size, width):
        p, q, target = a[start : start + width], b[start : start + width], y[start : start + width]
        for i in range(target.size):
            v = np.rint(fl(fl(fl(p[i]) * left) + fl(fl(q[i]) * right)) + offset)
            below[i] += v < first
            above[i] += v > last
            target[i] = np.int32(min(max(v, first), last)) + zero


@kernel
def first_pair(a, b, a_low, b_low, span, table, mask):
    """Row and channel of the first pair whose entry has one of the bits of `mask`; −1 where there is none."""
    for r in range(a.shape[0]):
        for c in range(a.shape[1]):
            pair = (np.int64(a[r, c]) - a_low) * span + (np.int64(b[r, c]) - b_low)
            if table[np.uint64(pair)] & mask:
                return r, c
    return -1, -1
