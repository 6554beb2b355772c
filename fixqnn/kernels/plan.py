"""The cheapest kernel path that is proved to give a sum's codes and events.

Every path has a proof, a function of the operands' ranges and the registers, that either hands out a plan or says what
fails. `fixqnn.kernels.extent` says how far sums can go, `fixqnn.kernels.proofs` what registers make of it, and
`fixqnn.kernels.lanes` how vector lanes hold a register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fixqnn.arith.bind import BoundSum
from fixqnn.errors import BadInput, TooWide
from fixqnn.kernels.dot import FLOAT32_BOUND, FLOAT64_BOUND
from fixqnn.kernels.extent import BLOCK, Extent, extent
from fixqnn.kernels.lanes import (
    INT32,
    Lanes,
    any32,
    describe,
    inside,
    lanes32,
    not_bytes,
    not_words,
    saturate16,
)
from fixqnn.kernels.proofs import Case, holds, kept_size, limit_of, random, too_wide
from fixqnn.modes import Overflow

__all__ = ["PATHS", "Extent", "Lanes", "Plan", "choose", "content_bound", "extent", "too_narrow_for_one"]


@dataclass(frozen=True)
class Plan:
    """A chosen path and why it is exact.

    Attributes
    ----------
    path, reason : str
        One of `PATHS`, and words.
    bound : int
        No last register's content passes this magnitude.
    refused : bool
        The first register forbids overflow, and a single product of these weights may overflow it.
    level : int
        The stage that is followed step by step; those before it are proved inert, so that what enters are exact totals.
    lanes : Lanes, optional
        For lanes16 and lanes32, and for what a certified sum computes again.
    by_channel : Lanes, optional
        What lanes16 uses instead where every channel has operands of its own.
    counting : Lanes, optional
        Of form any32, in which the events of those lanes are counted; None: step by step in 64 bits.
    operands : str
        ``"int8"`` (unsigned bytes x − x_low against signed bytes) or ``"int16"``, wherever products are added exactly.
    limbs : int
        For sum/limbs: in how many limbs of 8 bits inputs are split, 1 or 2.
    block : int
        For sum/limbs: the sum of so many terms fits 32 bits.
    watched : bool
        For certified: whether the register could act; if not, no running sum need be looked at.
    """

    path: str
    reason: str
    bound: int = 0
    refused: bool = False
    level: int = 0
    lanes: Lanes | None = None
    by_channel: Lanes | None = None
    counting: Lanes | None = None
    operands: str = ""
    limbs: int = 1
    block: int = 0
    watched: bool = True


Proof = Callable[[Case], Plan | str]  # a plan, or why there is none


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
        A path that must be taken; ``"sum"`` is the first of those.

    Raises
    ------
    BadInput
        For an unknown path, or a forced one whose proof fails; the message says what fails.
    TooWide
        When no path can be trusted within 62 bits.
    """
    if forced is not None and forced not in (*PATHS, "sum"):
        raise BadInput(
            f"there is no kernel path {forced!r}; there are {', '.join(PATHS)}, and 'sum' for the first of sums"
        )
    case = Case(reach, bound, bias, terms)
    refusals: dict[str, str] = {}
    for path, prove in PROOFS.items():
        if forced not in (None, path, path.partition("/")[0]):
            continue
        found = prove(case)
        if isinstance(found, Plan) and (forced or path != "certified" or _worth_watching(case, found)):
            return replace(found, path=path, bound=content_bound(reach, bound, bias, terms))
        refusals[path] = str(found)
    if forced in (None, "wide"):
        raise TooWide(f"{refusals['wide']}; use engine='exact'")
    why = "; ".join(dict.fromkeys(refusals.values()))
    raise BadInput(f"the path {forced!r} is not proved here: {why}")


def content_bound(reach: Extent, bound: BoundSum, bias: tuple[int, ...], terms: int) -> int:
    """A magnitude that the last register's content never passes."""
    *_, last = Case(reach, bound, bias, terms).content
    return last[1]


def too_narrow_for_one(reach: Extent, bound: BoundSum) -> tuple[str, bool]:
    """Whether the first register cannot hold a single product, in words, and whether it forbids overflow."""
    place = bound.product or bound.stages[0].register
    asked = kept_size(reach.term, place)
    if asked <= limit_of(place.register) + 1:
        return "", False
    text = f"{place.name} ({place.register.bits} bits) does not hold a single product, which reaches ±{asked}"
    return text, place.register.overflow is Overflow.forbid


def spaced(n: int) -> str:
    """Write a number with its digits in groups of three.

    >>> spaced(-83211)
    '-83 211'
    """
    return f"{n:,}".replace(",", " ")


# -- sums: no register acts, so any exact sum will do ---------------------------------------------------------------------


def _whole_sum(case: Case) -> str:
    return "terms are agreements of bits, no products" if case.reach.xnor else case.acts()


def _stays(case: Case) -> str:
    return f"no register can act: sums stay within ±{spaced(max(-case.sums[0], case.sums[1], 0))}"


def _past_32(case: Case) -> str:
    """Why 32-bit lanes deliver no right sum; wrapping on the way does no harm, so only finished sums matter."""
    return "" if inside(*case.sums, INT32) else f"sums reach [{case.sums[0]}, {case.sums[1]}], past 32 bits"


def _prove_int8(case: Case) -> Plan | str:
    why_not = _whole_sum(case) or not_bytes(case.reach) or _past_32(case)
    return why_not or Plan("", f"{_stays(case)}; unsigned bytes × int8", operands="int8")


def _prove_int16(case: Case) -> Plan | str:
    why_not = _whole_sum(case) or not_words(case.reach) or _past_32(case)
    return why_not or Plan("", f"{_stays(case)}; int16 × int16", operands="int16")


def _prove_limbs(case: Case) -> Plan | str:
    """Terms in blocks whose sums fit 32 bits, joined in 64 bits, with the bias.

    Where whole inputs would leave blocks too short, x = 256·h + l; with l in [−128, 127] and h in [−128, 128], blocks of
    either limb are long enough whatever the weights are.
    """
    reach = case.reach
    why_not = _whole_sum(case) or not_words(reach)
    if not why_not and max(reach.size + max(map(abs, case.biases), default=0), -case.sums[0], case.sums[1]) >= 1 << 62:
        why_not = f"sums reach [{case.sums[0]}, {case.sums[1]}], past 62 bits"
    if why_not:
        return why_not
    x, w = max(-reach.x_low, reach.x_high), max(-reach.w_low, reach.w_high)
    blocks = {limbs: INT32[1] // max(1, most * w) for limbs, most in ((1, x), (2, 128))}
    limbs = next(n for n, block in blocks.items() if block >= BLOCK)
    how = "int16 × int16" if limbs == 1 else "inputs in two limbs of 8 bits"
    reason = f"{_stays(case)}; {how}, every {blocks[limbs]} terms in 32 bits, joined in 64"
    return Plan("", reason, operands="int16", limbs=limbs, block=blocks[limbs])


def _prove_float(largest: int, name: str) -> Proof:
    def prove(case: Case) -> Plan | str:
        size = case.reach.size + max(map(abs, case.biases), default=0)
        why_not = _whole_sum(case)
        if not why_not and size > largest:
            why_not = f"partial sums reach {size}, past 2^{largest.bit_length() - 1}"
        return why_not or Plan("", f"no register can act: sums stay within ±{spaced(size)}; {name} products are exact")

    return prove


# -- step by step: one register in lanes, outer ones folded in 64 bits ---------------------------------------------------


def _prove_lanes16(case: Case) -> Plan | str:
    """16-bit lanes whose own saturation is the register's; products must fit by themselves.

    They hold twice as many channels. A register of 15 or 16 bits would leave no trace of events in them.
    """
    case = case.first_to_act
    found = _folds(case) or saturate16(case)
    if isinstance(found, str):
        return found
    by_channel = lanes32(case)
    return Plan("", describe(case, found, "16-bit lanes"), **_in_lanes(case, found),
                by_channel=by_channel if isinstance(by_channel, Lanes) else None)  # fmt: skip


def _prove_lanes32(case: Case) -> Plan | str:
    refusals = []
    # a bias that comes last may bar the outermost stage, and totals of the first may still be folded in 64 bits
    for one in (case.first_to_act, case) if case.first_to_act.level else (case,):
        found = _folds(one) or lanes32(one)
        if isinstance(found, Lanes):
            return Plan("", describe(one, found, "32-bit lanes"), **_in_lanes(one, found))
        refusals.append(found)
    return "; ".join(dict.fromkeys(refusals))


def _in_lanes(case: Case, lanes: Lanes) -> dict[str, Any]:
    counting = any32(case)
    return {
        "level": case.level,
        "lanes": lanes,
        "counting": counting if isinstance(counting, Lanes) else None,
        "operands": "int16" if not_bytes(case.reach) else "int8",
    }


def _prove_certified(case: Case) -> Plan | str:
    """Exact running sums, looked at every `BLOCK` terms, prove for the data at hand that a register did not act.

    Stages before it are inert: then a register that gathers their totals holds some of these running sums, and no others.
    """
    found = _certified(case.first_to_act)
    # where outer registers cannot be followed in lanes, totals of an inert first stage are still sums
    return _certified(case) if isinstance(found, str) and case.first_to_act.level else found


def _certified(case: Case) -> Plan | str:
    reach, place = case.reach, case.inner.register
    why_not = _folds(case) or case.product_acts()
    if why_not:
        return why_not
    if place.drop:
        return f"{place.name} moves by {place.drop} bits"
    if not_bytes(reach) and not_words(reach):
        return not_words(reach)
    low, high = (pick(sums) for pick, sums in zip((min, max), case.partial(case.level), strict=True))
    if not inside(low, high, INT32):
        return f"partial sums reach [{low}, {high}], past 32 bits"
    if holds(place.register, low, high):
        reason = (
            f"{place.name} cannot act: its sums stay within [{spaced(low)}, {spaced(high)}]; totals go on in 64 bits"
        )
        return Plan("", reason, level=case.level, operands="int16" if not_bytes(reach) else "int8", watched=False)
    lanes = lanes32(case)
    if isinstance(lanes, str):
        return f"what a certificate does not settle cannot be computed again: {lanes}"
    moves = f": {BLOCK} terms move it by at most {spaced(reach.block)}" if not case.level else ""
    reason = (
        f"{place.register.bits}-bit {place.name} rarely acts{moves}; exact sums are watched, and added again step by step where "
        "it might act"
    )
    return Plan("", reason, **_in_lanes(case, lanes))


def _worth_watching(case: Case, plan: Plan) -> bool:
    """Whether a certified sum is the cheapest.

    So it is if one block of terms is small against the register, as most data will then have a certificate; with nothing to
    watch, if no register further out can be followed in lanes, which spares a fold in 64 bits.
    """
    if not plan.watched:
        other = _prove_lanes32(case)
        return isinstance(other, str) or other.level <= plan.level
    stage = case.bound.stages[plan.level]
    inner = case.bound.stages[0]
    runs = -(-BLOCK // inner.size) if plan.level and inner.size else 1  # of the first stage, in one block
    return 4 * case.reach.block * runs <= stage.register.register.high - stage.register.register.low


def _prove_wide(case: Case) -> Plan | str:
    return too_wide(case) or Plan("", "every register step by step, in 64-bit lanes")


def _folds(case: Case) -> str:
    """Why totals of the register at hand cannot be carried on in 64 bits; empty when they can."""
    bound, reach = case.bound, case.reach
    if reach.xnor:
        return "terms are agreements of bits, no products"
    if case.outermost and case.bias and bound.bias != "first":
        return f"a bias that comes last joins in {case.inner.register.name}"
    if case.outermost and case.bias_acts():
        return "the bias alone makes its register act"
    if any(random(place) for place in [*bound.registers, bound.bias_register]):
        return "a register rounds at random"
    return too_wide(case)


PROOFS: dict[str, Proof] = {
    "sum/int8": _prove_int8,
    "sum/int16": _prove_int16,
    "sum/limbs": _prove_limbs,
    "sum/float32": _prove_float(FLOAT32_BOUND, "float32"),
    "sum/float64": _prove_float(FLOAT64_BOUND, "float64"),
    "certified": _prove_certified,
    "lanes16": _prove_lanes16,
    "lanes32": _prove_lanes32,
    "wide": _prove_wide,
}
PATHS = tuple(PROOFS)
