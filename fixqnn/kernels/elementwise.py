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
    decided,
    kernel,
    mode_flags,
    register_constants,
    round_shift,
    sequence_key,
    store,
    undecided,
)
from fixqnn.errors import TooWide
from fixqnn.events import Run, Witness
from fixqnn.kernels.rescale import fill_random
from fixqnn.modes import Overflow, Rounding, round_quotient

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
            fill_random(sequence_key(run.seed, run.stream), run.first_sample, self.places, self.place.number, 0, random)
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
        """Results for integer arrays that broadcast, int64; only where it `fits`."""
        # Each quotient's error is at most two roundings of its magnitude, the two additions one each of the sum of
        # magnitudes: below 4.1·2⁻⁵³ of `reach` in all; we allow 2⁻⁵⁰, as the reach itself is rounded, and the same
        # again for subnormals.
        margin = float(self.reach) * 2.0**-50 + 2.0**-1000
        value = a * float(Fraction(self.left, self.bottom)) + b * float(Fraction(self.right, self.bottom))
        if self.offset:
            value += float(Fraction(self.offset, self.bottom))
        rounded = np.empty(value.shape, np.int64)
        doubtful = np.empty(value.shape, np.bool_)
        nearest, *_, if_positive, if_negative = mode_flags(self.rounding)
        flat = value.reshape(-1)
        if round_estimates(flat, margin, nearest, if_positive, if_negative, rounded.reshape(-1), doubtful.reshape(-1)):
            where = np.nonzero(doubtful)
            a, b = (np.broadcast_to(operand, value.shape)[where] for operand in (a, b))
            rounded[where] = self._exactly(a, b)
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
        keys = (a.astype(np.int64) - self.a_low) * width + (b - self.b_low)
        for key in np.unique(keys[~there[keys]]).tolist():
            results[key] = self._one(self.a_low + key // width, self.b_low + key % width)
            there[key] = True
        return results[keys]

    def _one(self, a: int, b: int) -> int:
        return round_quotient(self.left * a + self.right * b + self.offset, self.bottom, self.rounding)


@kernel
def round_estimates(value, margin, nearest, if_positive, if_negative, rounded, doubtful):
    """Round what is farther than `margin` from every number at which the mode changes; mark and count the rest."""
    found = 0
    for i in range(value.size):
        open_ = undecided(value[i], margin, nearest)
        doubtful[i] = open_
        found += open_
        rounded[i] = np.int64(decided(value[i], nearest, if_positive, if_negative))
    return found
