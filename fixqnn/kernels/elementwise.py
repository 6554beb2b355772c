"""Sums and products of two codes on their way to the output: a register over whole arrays, and scaled sums in float64.

Arrays have the shape (samples, channels, positions), except where an estimate looks at single elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from fixqnn.arith.bind import BoundRegister
from fixqnn.arith.fast import (
    ABOVE,
    ADD,
    BELOW,
    FIRST,
    FLIP,
    IF_NEGATIVE,
    IF_ODD,
    LAST,
    LEFT,
    LOW,
    REST,
    SHIFT,
    WIDEST,
    kernel,
    mode_flags,
    register_constants,
    round_shift,
    sequence_key,
    store,
)
from fixqnn.errors import TooWide
from fixqnn.events import Run, Witness
from fixqnn.kernels.rescale import fill_random
from fixqnn.modes import Overflow, Rounding, round_quotient

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
        """No content of the register passes this magnitude."""
        register = self.place.register
        return min(self.asked, max(-register.low, register.high)) if self.acts else self.asked

    @cached_property
    def _row(self) -> np.ndarray:
        drop, register = self.place.drop, self.place.register
        if max(self.bound + (1 << max(drop, 0)), self.asked).bit_length() > WIDEST:
            raise TooWide(
                f"{self.place.name}: numbers up to ±{self.bound} pass 62 bits on their way into {register}; "
                "use narrower formats, or engine='exact'"
            )
        # one that cannot act only rounds, whatever its overflow mode
        idle = replace(register, bits=WIDEST, signed=True, overflow=Overflow.saturate, kept=0)
        return register_constants(register if self.acts else idle, drop)

    def fast(self, x: np.ndarray, run: Run, position: Position) -> np.ndarray:
        """Keep every number; events go to `run`."""
        row, register, channels = self._row, self.place.register, x.shape[1]
        below, above = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        if not self.acts and self.place.drop == 0:
            run.note(self.place.name, register, below, above)
            return x
        random = np.empty((0, 0, 0), np.uint64)
        if register.rounding is Rounding.stochastic and self.place.drop > 0:
            random = np.empty(x.shape, np.uint64)
            fill_random(
                sequence_key(run.seed, run.stream), run.first_sample, self.places, self.place.number, 0, random
            )
        kept = np.empty(x.shape, np.int64)
        n, p, c, value = keep_all(x, row, random, kept, below, above)
        first = None if n < 0 else Witness(run.first_sample + int(n), position(int(p)), int(c), -1, int(value))
        run.note(self.place.name, register, below, above, first)
        return kept


@kernel
def keep_all(x, row, random, kept, below, above):
    """Round and store every number; returns (sample, position, channel, number) of the first event, or −1 first."""
    shift, add, neg, odd, flip = row[SHIFT], row[ADD], row[IF_NEGATIVE], row[IF_ODD], row[FLIP]
    first, last, low, rest, up, down = row[FIRST], row[LAST], row[LOW], row[REST], row[ABOVE], row[BELOW]
    left = row[LEFT]
    samples, channels, positions = x.shape
    sample, place, channel, number = np.int64(-1), np.int64(0), np.int64(0), np.int64(0)
    for n in range(samples):
        for c in range(channels):
            under = np.int64(0)
            over = np.int64(0)
            for p in range(positions):
                value = np.int64(x[n, c, p]) << left
                if random.size > 0:
                    value += np.int64(random[n, c, p] >> np.uint64(64 - shift))
                value = round_shift(value, shift, add, neg, odd, flip)
                stored = store(value, first, last, low, rest, up, down)
                kept[n, c, p] = stored
                if stored != value:
                    under += np.int64(value < first)
                    over += np.int64(value > last)
                    if sample < 0 or (sample == n and p < place):
                        sample, place, channel, number = np.int64(n), np.int64(p), np.int64(c), value
            below[c] += under
            above[c] += over
    return sample, place, channel, number


@dataclass(frozen=True)
class Estimate:
    """round((left·a + right·b + offset) / bottom) for whole numbers too long for 62 bits.

    Float64 decides wherever no integer and no half is within its error; what is left, hardly ever more than exact
    ties and whole results, is divided in Python integers, every pair of operands once.

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

    def check(self) -> None:
        """TooWide where float64 cannot hold the operands, or 62 bits the results."""
        if max(-self.a_low, self.a_high, -self.b_low, self.b_high).bit_length() > 53 or self.reach >= 1 << 60:
            raise TooWide(
                f"a sum of up to ±{float(self.reach):.3g} output steps passes 62 bits; "
                "use narrower formats, or engine='exact'"
            )

    def fast(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Results for integer arrays that broadcast, int64."""
        self.check()
        # Each quotient's error is at most two roundings of its magnitude, the two additions one each of the sum of
        # magnitudes: below 4.1·2⁻⁵³ of `reach` in all; we allow 2⁻⁵⁰, as the reach itself is rounded, and the same
        # again for subnormals.
        margin = float(self.reach) * 2.0**-50 + 2.0**-1000
        value = a * float(Fraction(self.left, self.bottom)) + b * float(Fraction(self.right, self.bottom))
        if self.offset:
            value += float(Fraction(self.offset, self.bottom))
        rounded = np.empty(value.shape, np.int64)
        doubtful = np.empty(value.shape, np.bool_)
        nearest, *_, positive, negative = mode_flags(self.rounding)  # on magnitudes; a floor is on numbers
        add, positive, negative = (0.5, 0, 0) if nearest else (0.0, positive, 1 - negative)
        flat = value.reshape(-1)
        if round_estimates(flat, margin, add, positive, negative, rounded.reshape(-1), doubtful.reshape(-1)):
            where = np.nonzero(doubtful)
            a, b = (np.broadcast_to(operand, value.shape)[where] for operand in (a, b))
            rounded[where] = self._exactly(a, b)
        return rounded

    def _exactly(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        keys = (a.astype(np.int64) - self.a_low) * (self.b_high - self.b_low + 1) + (b - self.b_low)
        if (self.a_high - self.a_low + 1) * (self.b_high - self.b_low + 1) >= 1 << WIDEST:
            return np.array([self._one(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)], np.int64)
        _, first, back = np.unique(keys, return_index=True, return_inverse=True)
        return np.array([self._one(int(a[i]), int(b[i])) for i in first], np.int64)[back]

    def _one(self, a: int, b: int) -> int:
        return round_quotient(self.left * a + self.right * b + self.offset, self.bottom, self.rounding)


@kernel
def round_estimates(value, margin, add, positive, negative, rounded, doubtful):
    """Round what is farther than `margin` from every integer and half; mark and count the rest.

    Between two halves a mode is one shift of the floor: `add` is ½ for the modes that go to the nearest, `positive` and
    `negative` is one for those that go up there.
    """
    found = 0
    for i in range(value.size):
        v = value[i]
        halves = v + v
        near = not (abs(v) < 2.0**49 and abs(halves - np.floor(halves + 0.5)) > 2.0 * margin)
        doubtful[i] = near
        found += near
        rounded[i] = np.int64(np.floor(v + add)) + (negative if v < 0.0 else positive)
    return found
