"""How far a sum can go, and the cheapest path that is proved to give its codes and events.

With zero points removed, input operands lie in [lo, hi]; every partial sum, in every order, lies between
Σ min(0, w·lo, w·hi) and Σ max(0, w·lo, w·hi). Registers that this interval fits never act, and order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.fast import WIDEST
from fixqnn.datapath import Register
from fixqnn.errors import BadInput, TooWide
from fixqnn.kernels.dot import FLOAT32_BOUND, FLOAT64_BOUND
from fixqnn.modes import Overflow, Rounding

PATHS = ("sum", "stepwise", "wide")


@dataclass(frozen=True)
class Extent:
    """How far the partial sums of each output channel can go, without the bias; Python integers."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    term: int

    @property
    def size(self) -> int:
        """Largest magnitude of all channels."""
        return max(max(-min(self.low), max(self.high)), 0)


@dataclass(frozen=True)
class Plan:
    """A chosen path and why it is exact; `bound`: no last register's content passes this magnitude.

    `refused`: the first register forbids overflow, and a single product of these weights may overflow it.
    """

    path: str
    reason: str
    bound: int
    refused: bool = False


def extent(w: np.ndarray, x_low: int, x_high: int, xnor: bool) -> Extent:
    """Interval of all partial sums; w are operands (channels, terms)."""
    if xnor:
        return Extent((0,) * w.shape[0], (w.shape[1],) * w.shape[0], 1)
    largest = max(abs(x_low), abs(x_high)) * int(np.abs(w).max(initial=0))
    wide = largest * max(w.shape[1], 1) >= 1 << WIDEST
    a = w.astype(object) if wide else w.astype(np.int64)
    at_low, at_high = a * x_low, a * x_high
    least = np.minimum(np.minimum(at_low, at_high), 0).sum(axis=1)
    most = np.maximum(np.maximum(at_low, at_high), 0).sum(axis=1)
    return Extent(tuple(int(v) for v in least), tuple(int(v) for v in most), largest)


def choose(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int, forced: str | None = None) -> Plan:
    """Walk the paths from the cheapest and stop at the first one whose proof holds.

    Parameters
    ----------
    reach : Extent
        How far sums go.
    bound : BoundSum
        The datapath's registers.
    bias : tuple of int
        Bias codes per channel at the bias's own step; empty without a bias.
    terms : int
        Terms of one sum.
    forced : str, optional
        A path that must be taken.

    Raises
    ------
    BadInput
        For an unknown path, or a forced one whose proof fails; the message says what fails.
    TooWide
        When no path can be trusted within 62 bits.
    """
    if forced is not None and forced not in PATHS:
        raise BadInput(f"there is no kernel path {forced!r}; there are {', '.join(PATHS)}")
    limit = content_bound(reach, bound, bias, terms)
    refusals = {}
    for path, prove in (("sum", _prove_sum), ("stepwise", _prove_stepwise), ("wide", _prove_wide)):
        if forced not in (None, path):
            continue
        ok, reason = prove(reach, bound, bias, terms)
        if ok:
            return Plan(path, reason, limit)
        refusals[path] = reason
    if forced in ("sum", "stepwise"):
        raise BadInput(f"the path {forced!r} is not proved here: {refusals[forced]}")
    raise TooWide(f"{refusals['wide']}; use engine='exact'")


def too_narrow_for_one(reach: Extent, bound: BoundSum) -> tuple[str, bool]:
    """Whether the first register cannot hold a single product, in words, and whether it forbids overflow."""
    place = bound.product or bound.stages[0].register
    asked = _kept(reach.term, place)
    if asked <= _limits(place.register) + 1:
        return "", False
    text = f"{place.name} ({place.register.bits} bits) does not hold a single product, which reaches ±{asked}"
    return text, place.register.overflow is Overflow.forbid


def content_bound(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> int:
    """A magnitude that the last register's content never passes."""
    *_, last = _content(reach, bound, bias, terms)
    return last[1]


def _limits(register: Register) -> int:
    return max(-register.low, register.high)


def _kept(size: int, place: BoundRegister, steps: int = 1) -> int:
    """Bound of a number of magnitude `size` after its drop, `steps` roundings included."""
    return (size >> place.drop) + steps if place.drop > 0 else size << -place.drop


def _held(asked: int, register: Register) -> tuple[int, bool]:
    """Bound of what a register holds when asked to hold up to ±asked, and whether it may act.

    Clipping brings a number nearer to zero; wrapping may take a small one to the far end: −1 becomes the largest code of an
    unsigned register.
    """
    acts = not (register.low <= -asked and asked <= register.high)
    return (_limits(register) if acts and register.overflow.wraps else min(asked, _limits(register))), acts


def _content(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> list[tuple[str, int, int]]:
    """(place, bound of its content, bound of what it computes with) for every place, in order."""
    rows: list[tuple[str, int, int]] = []
    term, size, steps = reach.term, reach.size, terms
    if bound.product:
        place = bound.product
        asked = term << max(-place.drop, 0)
        term, acts = _held(_kept(term, place), place.register)
        size = term * terms if acts else _kept(size, place, steps)
        rows.append((place.name, term, asked + (1 << max(place.drop, 0))))
    number = term
    for level, stage in enumerate(bound.stages):
        place = stage.register
        size = _kept(size, place, steps)
        largest_bias = 0
        if level == len(bound.stages) - 1 and bias:
            largest_bias, _ = _held(_kept(max(map(abs, bias)), bound.bias_register), place.register)
            size += largest_bias
            rows.append(
                (f"{place.name} (bias)", largest_bias, max(map(abs, bias)) << max(-bound.bias_register.drop, 0))
            )
        content, acts = _held(size, place.register)
        up = max(place.drop, 0)
        rows.append((place.name, content, (content << up) + (number << max(-place.drop, 0)) + (1 << up) + largest_bias))
        number = content
        if stage.out:
            asked = number << max(-stage.out.drop, 0)
            size = _kept(size, stage.out, steps)
            number, out_acts = _held(_kept(number, stage.out), stage.out.register)
            acts = acts or out_acts
            rows.append((stage.out.name, number, asked + (1 << max(stage.out.drop, 0))))
        # a register that may act changes the sum of what it hands on; then only each number's own bound is left
        size = number * terms if acts else size
    return rows


def _inert(reach: Extent, bound: BoundSum, bias: tuple[int, ...]) -> str:
    """Why some register might act or round; empty when none can."""
    if bound.product:
        if bound.product.drop:
            return f"product moves by {bound.product.drop} bits"
        if not (bound.product.register.low <= -reach.term and reach.term <= bound.product.register.high):
            return f"a product of ±{reach.term} may leave product ({bound.product.register.bits} bits)"
    biases = bias or (0,) * len(reach.low)
    for level, stage in enumerate(bound.stages):
        outermost = level == len(bound.stages) - 1
        if outermost and bias and bound.bias_register.drop > 0:
            return "the bias is rounded into its register"
        shift = -bound.bias_register.drop if outermost and bias else 0
        for place in filter(None, (stage.register, stage.out)):
            if place.drop:
                return f"{place.name} moves by {place.drop} bits"
            for channel, (low, high, b) in enumerate(zip(reach.low, reach.high, biases, strict=True)):
                b = b << shift if outermost else 0
                low, high = low + min(b, 0), high + max(b, 0)
                if low < place.register.low or high > place.register.high:
                    return (
                        f"sums of channel {channel} reach [{low}, {high}], which {place.name} "
                        f"({place.register.bits} bits) does not hold"
                    )
    return ""


def _prove_sum(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> tuple[bool, str]:
    why_not = _inert(reach, bound, bias)
    if why_not:
        return False, why_not
    size = reach.size + max(map(abs, bias), default=0)
    if size > FLOAT64_BOUND:
        return False, f"sums reach {size}, past 2^53"
    kind = "float32" if size <= FLOAT32_BOUND else "float32 in blocks or float64"
    return True, f"no register can act: sums stay within ±{size}; {kind} products are exact"


def _prove_stepwise(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> tuple[bool, str]:
    stage = bound.stages[0]
    register = stage.register.register
    if bound.product:
        return False, "products are kept in a register of their own"
    if stage.register.drop:
        return False, f"sum[0] moves by {stage.register.drop} bits"
    if register.overflow not in (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid):
        return False, f"sum[0] does not saturate but {register.overflow}"
    if _limits(register) + reach.term >= 1 << 31:
        return False, f"sum[0] ({register.bits} bits) plus a product of ±{reach.term} passes 32-bit lanes"
    if len(bound.stages) == 1 and bias and bound.bias != "first":
        return False, "a bias that comes last joins in the only register"
    if len(bound.stages) == 1 and bias and any(_bias_acts(b, bound.bias_register) for b in bias):
        return False, "the bias alone makes its register act"
    if any(p.register.rounding is Rounding.stochastic and p.drop > 0 for p in [*bound.registers, bound.bias_register]):
        return False, "an outer register rounds at random"
    ok, reason = _prove_wide(reach, bound, bias, terms)
    return (
        (True, f"whole products, every addition clamped to {register.bits} bits in 32-bit lanes")
        if ok
        else (ok, reason)
    )


def _bias_acts(b: int, place: BoundRegister) -> bool:
    value = b << -place.drop if place.drop <= 0 else None
    return value is None or not place.register.low <= value <= place.register.high


def _prove_wide(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> tuple[bool, str]:
    for place in bound.registers:
        if place.register.overflow is Overflow.wrap_sign_magnitude:
            return False, f"{place.name} wraps by sign and magnitude, which asks for the unrounded number at each step"
        if place.register.bits > WIDEST:
            return False, f"{place.name} has {place.register.bits} bits, more than {WIDEST}"
    for name, _, asked in _content(reach, bound, bias, terms):
        if asked.bit_length() >= WIDEST:
            return False, f"{name} may have to compute with ±{asked}, past {WIDEST} bits"
    return True, "every register step by step, in 64-bit lanes"
