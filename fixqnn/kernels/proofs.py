"""What is known of a sum's registers before it runs: which of them can act, and how much each may have to hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from fixqnn.arith.bind import BoundRegister, BoundStage, BoundSum
from fixqnn.arith.fast import WIDEST
from fixqnn.datapath import Register
from fixqnn.kernels.extent import Channels, Extent
from fixqnn.modes import Overflow, Rounding, round_quotient


def limit_of(register: Register) -> int:
    """Largest magnitude that a register holds."""
    return max(-register.low, register.high)


def holds(register: Register, low: int, high: int) -> bool:
    """Whether no number of [low, high] makes a register act."""
    return register.low <= low and high <= register.high


def moves_right(place: BoundRegister) -> bool:
    """Whether a register rounds: low bits are dropped on the way in."""
    return place.drop > 0


def random(place: BoundRegister) -> bool:
    """Whether a register draws random numbers."""
    return place.register.rounding is Rounding.stochastic and moves_right(place)


@dataclass(frozen=True)
class Case:
    """All that a proof looks at: how far sums go, the registers, and bias codes per channel (empty: no bias).

    `level` is the stage that is followed step by step; what enters one after the first are exact totals of the stage before.
    """

    reach: Extent
    bound: BoundSum
    bias: Channels
    terms: int
    level: int = 0

    @property
    def levels(self) -> int:
        """Number of stages."""
        return len(self.bound.stages)

    @property
    def inner(self) -> BoundStage:
        """The stage that is followed step by step."""
        return self.bound.stages[self.level]

    @property
    def outermost(self) -> bool:
        """Whether no other stage comes after the one that is followed."""
        return self.level == self.levels - 1

    @property
    def product(self) -> BoundRegister | None:
        """The register that terms pass before they enter the stage that is followed."""
        return None if self.level else self.bound.product

    @cached_property
    def entering(self) -> tuple[int, int]:
        """Smallest and largest term of the stage that is followed: a product, or a total of the stage before."""
        if not self.level:
            return self.reach.products
        low, high = self.partial(self.level - 1)
        return min(low), max(high)

    @cached_property
    def first_to_act(self) -> Case:
        """The same, following the first stage that can act: those before it hand on exact totals, as in one long sum."""
        level = 0
        while not self.product_acts() and level < self.levels - 1 and not self.stage_acts(level):
            level += 1
        return replace(self, level=level) if level else self

    @cached_property
    def biases(self) -> Channels:
        """Bias per channel in steps of the outermost register, where it enters without rounding; else zeros."""
        shift = -self.bound.bias_register.drop
        return tuple(b << shift for b in self.bias) if self.bias and shift >= 0 else (0,) * len(self.reach.low)

    @cached_property
    def sums(self) -> tuple[int, int]:
        """Smallest and largest finished sum of all channels, bias included."""
        reach = self.reach
        return (
            min(s + b for s, b in zip(reach.total_low, self.biases, strict=True)),
            max(s + b for s, b in zip(reach.total_high, self.biases, strict=True)),
        )

    def partial(self, level: int) -> tuple[Channels, Channels]:
        """Smallest and largest partial sum within a run of a stage, per channel; the outermost with the bias, first or last."""
        low, high = self.reach.run(level, self.levels)
        if level < self.levels - 1:
            return low, high
        return (
            tuple(v + min(b, 0) for v, b in zip(low, self.biases, strict=True)),
            tuple(v + max(b, 0) for v, b in zip(high, self.biases, strict=True)),
        )

    def product_acts(self) -> str:
        """Why the product register may round or act; empty when products stay whole."""
        place = self.bound.product
        if place is None:
            return ""
        if place.drop:
            return f"product moves by {place.drop} bits"
        if not holds(place.register, *self.reach.products):
            return f"a product of ±{self.reach.term} may leave product ({place.register.bits} bits)"
        return ""

    def stage_acts(self, level: int) -> str:
        """Why a register of stage `level` may act or round, if what enters is whole; empty when none can."""
        stage = self.bound.stages[level]
        outermost = level == self.levels - 1
        if outermost and self.bias and moves_right(self.bound.bias_register):
            return "the bias is rounded into its register"
        lows, highs = self.partial(level)
        for place in filter(None, (stage.register, stage.out)):
            if place.drop:
                return f"{place.name} moves by {place.drop} bits"
            for channel, (low, high) in enumerate(zip(lows, highs, strict=True)):
                if not holds(place.register, low, high):
                    return (
                        f"sums of channel {channel} reach [{low}, {high}], which {place.name} "
                        f"({place.register.bits} bits) does not hold"
                    )
        return ""

    def acts(self) -> str:
        """Why some register might act or round; empty when none can: then the exact sum is the answer, in every order."""
        return self.product_acts() or next(filter(None, map(self.stage_acts, range(self.levels))), "")

    def bias_acts(self) -> bool:
        """Whether the bias alone makes its register round or act."""
        place = self.bound.bias_register
        return bool(self.bias) and (moves_right(place) or not holds(place.register, min(self.biases), max(self.biases)))

    @cached_property
    def content(self) -> list[tuple[str, int, int]]:
        """(place, bound of its content, bound of what it computes with) for every place, in order."""
        return _content(self)


def rounded_range(low: int, high: int, place: BoundRegister) -> tuple[int, int]:
    """Range of what a register is asked to hold for numbers of [low, high]: rounding is monotone."""
    if place.drop <= 0:
        return low << -place.drop, high << -place.drop
    return tuple(round_quotient(v, 1 << place.drop, place.register.rounding) for v in (low, high))  # type: ignore[return-value]


def kept_size(size: int, place: BoundRegister, steps: int = 1) -> int:
    """Bound of a number of magnitude `size` after its drop, `steps` roundings included."""
    return (size >> place.drop) + steps if place.drop > 0 else size << -place.drop


def _held(asked: int, register: Register) -> tuple[int, bool]:
    """Bound of what a register holds when asked to hold up to ±asked, and whether it may act.

    Clipping brings a number nearer to zero; wrapping may take a small one to the far end: −1 becomes the largest code of an
    unsigned register.
    """
    acts = not holds(register, -asked, asked)
    return (limit_of(register) if acts and register.overflow.wraps else min(asked, limit_of(register))), acts


def _content(case: Case) -> list[tuple[str, int, int]]:
    reach, bound, bias, terms = case.reach, case.bound, case.bias, case.terms
    rows: list[tuple[str, int, int]] = []
    term, steps = reach.term, terms
    # per stage, in steps of what enters it: how far sums within one of its runs can go
    sizes = [reach.run_size(level, case.levels) for level in range(case.levels)]

    def pass_on(place: BoundRegister) -> list[int]:
        return [kept_size(s, place, steps) for s in sizes]

    if bound.product:
        place = bound.product
        asked = term << max(-place.drop, 0)
        term, acts = _held(kept_size(term, place), place.register)
        sizes = [term * terms] * case.levels if acts else pass_on(place)
        rows.append((place.name, term, asked + (1 << max(place.drop, 0))))
    number = term
    for level, stage in enumerate(bound.stages):
        place = stage.register
        sizes = pass_on(place)
        largest_bias = 0
        if level == case.levels - 1 and bias:
            largest_bias, _ = _held(kept_size(max(map(abs, bias)), bound.bias_register), place.register)
            sizes = [s + largest_bias for s in sizes]
            entered = max(map(abs, bias)) << max(-bound.bias_register.drop, 0)
            rows.append((f"{place.name} (bias)", largest_bias, entered))
        content, acts = _held(sizes[level], place.register)
        up = max(place.drop, 0)
        rows.append((place.name, content, (content << up) + (number << max(-place.drop, 0)) + (1 << up) + largest_bias))
        number = content
        if stage.out:
            asked = number << max(-stage.out.drop, 0)
            sizes = pass_on(stage.out)
            number, out_acts = _held(kept_size(number, stage.out), stage.out.register)
            acts = acts or out_acts
            rows.append((stage.out.name, number, asked + (1 << max(stage.out.drop, 0))))
        # a register that may act changes the sum of what it hands on; then only each number's own bound is left
        sizes = [number * terms] * case.levels if acts else sizes
    return rows


def too_wide(case: Case) -> str:
    """Why 64-bit lanes cannot be trusted with every register, step by step; empty when they can."""
    for place in case.bound.registers:
        if place.register.overflow is Overflow.wrap_sign_magnitude:
            return f"{place.name} wraps by sign and magnitude, which asks for the unrounded number at each step"
        if place.register.bits > WIDEST:
            return f"{place.name} has {place.register.bits} bits, more than {WIDEST}"
    for name, _, asked in case.content:
        if asked.bit_length() >= WIDEST:
            return f"{name} may have to compute with ±{asked}, past {WIDEST} bits"
    return ""
