"""How far the numbers go that registers are asked to hold: both ends of every partial sum, in the datapath's order.

Rounding never reverses the order of two numbers, and neither does a register that clips. So every partial sum is largest
where every term is, and smallest where every term is: two walks through the datapath, one with all terms at their largest and
one with all at their smallest, give the ends exactly, and the terms of these walks are an input that attains them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.fast import WIDEST, round_shift, shift_constants
from fixqnn.datapath import Register
from fixqnn.modes import Overflow, Rounding, round_quotient

CLIPS = (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid)
Ends = np.ndarray  # (2, channels): smallest, largest
SIGN = np.array([[-1], [1]])


@dataclass(frozen=True)
class Span:
    """Smallest and largest number that a register is asked to hold, per output channel; 0, where sums begin, included."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @classmethod
    def of(cls, low: Any, high: Any) -> Span:
        """Make one of arrays."""
        return cls(tuple(min(int(v), 0) for v in low), tuple(max(int(v), 0) for v in high))

    @property
    def least(self) -> int:
        """Smallest number of all channels."""
        return min(self.low, default=0)

    @property
    def most(self) -> int:
        """Largest number of all channels."""
        return max(self.high, default=0)

    def join(self, other: Span) -> Span:
        """The span that holds both."""
        return Span(tuple(map(min, self.low, other.low)), tuple(map(max, self.high, other.high)))

    def bits(self, register: Register) -> int | None:
        """Fewest bits with which such a register holds all channels; None where no unsigned one does."""
        return narrowest(self.least, self.most, register)

    def fits(self, register: Register) -> bool:
        """Whether a register holds all of it."""
        return register.low <= self.least and self.most <= register.high


def narrowest(low: int, high: int, register: Register) -> int | None:
    """Fewest bits with which a register of this kind holds every number of [low, high]; None: unsigned, and low < 0.

    Examples
    --------
    >>> narrowest(-128, 100, Register(32)), narrowest(-128, 100, Register(32, "saturate_symmetric"))
    (8, 9)
    >>> narrowest(0, 255, Register(32, signed=False)), narrowest(-1, 0, Register(32, signed=False))
    (8, None)
    """
    least = register.kept + 1
    if not register.signed:
        return None if low < 0 else max(high.bit_length(), least)
    below = (-low).bit_length() if register.overflow is Overflow.saturate_symmetric else (-low - 1).bit_length()
    return max(high.bit_length() + 1, (below if low < 0 else 0) + 1, least)


@dataclass
class Reach:
    """Both ends of what one place is asked to hold: signed so that more is further, at which term, and whether attained."""

    further: Ends
    at: Ends
    tight: np.ndarray

    @property
    def span(self) -> Span:
        """As a Span."""
        return Span.of(-self.further[0], self.further[1])


class Walk:
    """Both ends of every partial sum of a datapath, for terms that may be anything between two ends each.

    Parameters
    ----------
    bound : BoundSum
        Registers with their drops.
    flush : ndarray
        How many stages hand on their total after every term.
    terms : ndarray
        Smallest and largest of every term: (terms, 2, channels).
    bias : ndarray or None
        Smallest and largest bias code (2, channels).
    acting : bool
        Whether registers store as they do; else each holds whatever comes, as if it were wide enough.

    Attributes
    ----------
    reaches : dict of str to Reach
        By register name; the bias enters the outermost one.
    products : ndarray
        The terms behind the product register.
    """

    def __init__(
        self, bound: BoundSum, flush: np.ndarray, terms: np.ndarray, bias: np.ndarray | None, acting: bool = False
    ) -> None:
        channels, self.acting, self.bound = terms.shape[2], acting, bound
        self.dtype = _word(bound, terms, bias)
        terms = terms.astype(self.dtype)
        self.loose = np.zeros(channels, bool)
        self.reaches = {
            place.name: Reach(np.zeros((2, channels), self.dtype), np.full((2, channels), -1), np.ones(channels, bool))
            for place in bound.registers
        }
        self.products = np.empty_like(terms)
        self._walk(terms, flush.tolist(), None if bias is None else bias.astype(self.dtype))

    def _walk(self, terms: np.ndarray, flush: list[int], bias: np.ndarray | None) -> None:
        bound, stages = self.bound, self.bound.stages
        totals = [np.zeros_like(terms[0]) for _ in stages]
        last = len(stages) - 1
        if bias is not None and bound.bias == "first":
            totals[last] = self._keep(bias, bound.bias_register, -1)
        for k, number in enumerate(terms):
            if bound.product:
                number = self._keep(number, bound.product, k)
            self.products[k] = number
            totals[0] = self._keep(number, stages[0].register, k, totals[0])
            for level in range(flush[k]):
                number, out = totals[level], stages[level].out
                totals[level] = np.zeros_like(number)
                if out:
                    number = self._keep(number, out, k)
                totals[level + 1] = self._keep(number, stages[level + 1].register, k, totals[level + 1])
        if bias is not None and bound.bias == "last":
            totals[last] = self._keep(bias, bound.bias_register, len(terms), totals[last])
        if stages[last].out:
            self._keep(totals[last], stages[last].out, len(terms) - 1)

    def _keep(self, number: Ends, place: BoundRegister, index: int, total: Ends | None = None) -> Ends:
        if place.drop > 0:
            exact = number if total is None else total * (1 << place.drop) + number
            asked = np.stack([_rounded(exact[side], place, bool(side)) for side in (0, 1)])
        else:
            number = number if place.drop == 0 else number * (1 << -place.drop)
            asked = number if total is None else total + number
        reach, further = self.reaches[place.name], asked * SIGN
        better = further > reach.further
        if better.any():
            np.copyto(reach.further, further, where=better)
            reach.at[better] = index
        reach.tight &= ~self.loose
        if place.drop > 0 and place.register.rounding is Rounding.stochastic:
            reach.tight[:] = False
            self.loose[:] = True
        return self._stored(asked, place.register) if self.acting else asked

    def _stored(self, asked: Ends, register: Register) -> Ends:
        low, high = register.low, register.high
        acts = (asked[0] < low) | (asked[1] > high)
        if not acts.any():
            return asked
        if register.overflow in CLIPS:
            return np.minimum(np.maximum(asked, low), high)
        self.loose |= acts
        return np.where(acts, np.array([[low], [high]], self.dtype), asked)


def _word(bound: BoundSum, terms: np.ndarray, bias: np.ndarray | None) -> Any:
    """Type that holds everything on the way."""
    places = [*bound.registers, bound.bias_register]
    largest = max((abs(int(v)) for v in (terms.min(initial=0), terms.max(initial=0))), default=0) * max(len(terms), 1)
    largest += 0 if bias is None else max(abs(int(v)) for v in (bias.min(initial=0), bias.max(initial=0)))
    widest = max(place.register.bits for place in places)
    shifts = sum(abs(place.drop) for place in places)
    return np.int64 if largest.bit_length() + shifts + 2 < WIDEST and widest < WIDEST else object


def _rounded(numbers: np.ndarray, place: BoundRegister, up: bool) -> np.ndarray:
    """Drop low bits; a rounding at random is bounded from above or below."""
    mode = place.register.rounding
    if mode is Rounding.stochastic:
        mode = Rounding.ceil if up else Rounding.floor
    if numbers.dtype != object:
        shift, *constants = shift_constants(place.drop, mode)[:5]
        return round_shift.py_func(numbers, shift, *constants)
    one: Callable[..., Any] = np.frompyfunc(lambda v: round_quotient(v, 1 << place.drop, mode), 1, 1)
    return one(numbers)


# -- any order ---------------------------------------------------------------------------------------------------------


def rounds_in_tiles(bound: BoundSum) -> bool:
    """Whether a running total, or a total on its way to the next stage, is rounded: then the order shows in the sum."""
    return any(s.register.drop > 0 for s in bound.stages) or any(s.out and s.out.drop > 0 for s in bound.stages[:-1])


def any_order(
    bound: BoundSum, flush: np.ndarray, products: np.ndarray, bias: np.ndarray | None, tiles: bool
) -> dict[str, Span]:
    """Spans of stage registers, whatever the order of the terms and of the bias; with `tiles`, whatever the tile sizes, too.

    A run of m terms adds at most the m largest positive ones; where tiles may have any size, all positive ones. Valid where
    no total is rounded on the way; empty elsewhere.
    """
    if rounds_in_tiles(bound):
        return {}
    signed = np.stack([np.minimum(products[:, 0], 0), np.maximum(products[:, 1], 0)], 1)
    further = -np.sort(-signed * SIGN, axis=0)  # the furthest first
    spans, up = {}, 0
    last = len(bound.stages) - 1
    for level, stage in enumerate(bound.stages):
        up += -stage.register.drop
        terms = len(products) if tiles else longest_run(flush, level)
        ends = further[:terms].sum(axis=0) * SIGN * (1 << up)
        if level == last and bias is not None:
            ends = ends + joined(bias, bound.bias_register)
        spans[stage.register.name] = Span.of(ends[0], ends[1])
        if stage.out and level < last:
            up += -stage.out.drop
            ends = ends * (1 << -stage.out.drop)
            spans[stage.out.name] = Span.of(ends[0], ends[1])
        elif stage.out:
            ends = [_rounded(e, stage.out, bool(i)) if stage.out.drop > 0 else e * (1 << -stage.out.drop)
                    for i, e in enumerate(ends)]  # fmt: skip
            spans[stage.out.name] = Span.of(*ends)
    return spans


def joined(bias: np.ndarray, place: BoundRegister) -> Ends:
    """How far the bias can move a sum, either way; a rounding of it goes to one of two neighbours."""
    if place.drop > 0:
        step = 1 << place.drop
        bias = np.stack([bias[0] // step, -(-bias[1] // step)])
    else:
        bias = bias * (1 << -place.drop)
    return np.stack([np.minimum(bias[0], 0), np.maximum(bias[1], 0)])


def longest_run(flush: np.ndarray, level: int) -> int:
    """Most terms that one run of a stage gathers."""
    ends = np.append(np.flatnonzero(flush > level) + 1, len(flush))
    return int(np.diff(ends, prepend=0).max(initial=0))
