"""The cheapest kernel path that is proved to give a sum's codes and events.

Every path has a proof, a function of the operands' ranges and the registers, that either hands out a plan or says what
fails. `fixqnn.kernels.extent` says how far sums can go, `fixqnn.kernels.proofs` what registers make of it, and
`fixqnn.kernels.lanes` how vector lanes hold a register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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

LIMBS = -(1 << 15), (127 << 8) + 127  # 256·h + l with h and l of 8 signed bits


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
    lanes : Lanes, optional
        For lanes16 and lanes32, and for what a certified sum computes again.
    counting : Lanes, optional
        Of form any32, in which the events of those lanes are counted; None: step by step in 64 bits.
    operands : str
        ``"int8"`` (unsigned bytes x − x_low against signed bytes) or ``"int16"``, for sums and certified sums of integers.
    limbs : tuple of int
        In how many limbs of 8 bits x and w are split: (2, 1) or (2, 2) for sum/limbs.
    watched : bool
        For certified: whether the inner register could act; if not, no running sum need be looked at.
    """

    path: str
    reason: str
    bound: int = 0
    refused: bool = False
    lanes: Lanes | None = None
    counting: Lanes | None = None
    operands: str = ""
    limbs: tuple[int, int] = (1, 1)
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
    """With x = 256·h + l, sums of h·w and l·w must each fit 32 bits; they are joined in 64 bits, with the bias.

    With w split too, no product of two limbs passes 2^14, so that 2^17 − 1 terms fit whatever the weights are.
    """
    reach = case.reach
    why_not = _whole_sum(case) or not_words(reach, x_limits=LIMBS)
    if not why_not and max(reach.size + max(map(abs, case.biases), default=0), -case.sums[0], case.sums[1]) >= 1 << 62:
        why_not = f"sums reach [{case.sums[0]}, {case.sums[1]}], past 62 bits"
    if why_not:
        return why_not
    halves = ((reach.x_low + 128) >> 8, (reach.x_high + 128) >> 8), (-128, 127)
    farthest = max(
        max(abs(p * lo + n * hi), abs(p * hi + n * lo))
        for lo, hi in halves
        for p, n in zip(reach.positive, reach.negative, strict=True)
    )
    if farthest <= INT32[1]:
        return Plan("", f"{_stays(case)}; inputs in two limbs, whose sums stay within ±{spaced(farthest)}",
                    operands="int16", limbs=(2, 1))  # fmt: skip
    if not_words(reach, LIMBS, LIMBS):
        return f"sums of one limb reach ±{farthest}, past 32 bits, and {not_words(reach, LIMBS, LIMBS)}"
    farthest = case.terms << 14
    if farthest > INT32[1]:
        return f"sums of products of two limbs reach ±{farthest}, past 32 bits"
    return Plan("", f"{_stays(case)}; inputs and weights in two limbs, whose sums stay within ±{spaced(farthest)}",
                operands="int16", limbs=(2, 2))  # fmt: skip


def _prove_float(largest: int, name: str) -> Proof:
    def prove(case: Case) -> Plan | str:
        size = case.reach.size + max(map(abs, case.biases), default=0)
        why_not = _whole_sum(case)
        if not why_not and size > largest:
            why_not = f"partial sums reach {size}, past 2^{largest.bit_length() - 1}"
        return why_not or Plan("", f"no register can act: sums stay within ±{spaced(size)}; {name} products are exact")

    return prove


# -- step by step: an inner register in lanes, outer ones folded in 64 bits ----------------------------------------------


def _prove_lanes16(case: Case) -> Plan | str:
    """16-bit lanes whose own saturation is the register's; products must fit by themselves."""
    found = _folds(case) or case.product_acts() or saturate16(case)
    return (
        found if isinstance(found, str) else Plan("", describe(case, found, "16-bit lanes"), **_in_lanes(case, found))
    )


def _prove_lanes32(case: Case) -> Plan | str:
    found = _folds(case) or lanes32(case)
    return (
        found if isinstance(found, str) else Plan("", describe(case, found, "32-bit lanes"), **_in_lanes(case, found))
    )


def _in_lanes(case: Case, lanes: Lanes) -> dict[str, Lanes | None]:
    counting = any32(case)
    return {"lanes": lanes, "counting": counting if isinstance(counting, Lanes) else None}


def _prove_certified(case: Case) -> Plan | str:
    """Exact running sums, looked at every `BLOCK` terms, prove for the data at hand that the inner register did not act."""
    reach, place = case.reach, case.inner.register
    why_not = _folds(case) or case.product_acts()
    if why_not:
        return why_not
    if place.drop:
        return f"{place.name} moves by {place.drop} bits"
    operands = "int16" if not_bytes(reach) else "int8"
    if operands == "int16" and not_words(reach):
        return not_words(reach)
    low, high = (pick(sums) for pick, sums in zip((min, max), case.partial(0), strict=True))
    if not inside(low, high, INT32):
        return f"partial sums reach [{low}, {high}], past 32 bits"
    if holds(place.register, low, high):
        reason = (
            f"{place.name} cannot act: its sums stay within [{spaced(low)}, {spaced(high)}]; totals go on in 64 bits"
        )
        return Plan("", reason, operands=operands, watched=False)
    lanes = lanes32(case)
    if isinstance(lanes, str):
        return f"what a certificate does not settle cannot be computed again: {lanes}"
    reason = (
        f"{place.register.bits}-bit {place.name} rarely acts: {BLOCK} terms move it by at most {spaced(reach.block)}; exact sums "
        "are watched, and added again step by step where it might act"
    )
    return Plan("", reason, operands=operands, **_in_lanes(case, lanes))


def _worth_watching(case: Case, plan: Plan) -> bool:
    """Whether one block of terms is small against the register, so that most data will have a certificate."""
    register = case.inner.register.register
    return not plan.watched or 4 * case.reach.block <= register.high - register.low


def _prove_wide(case: Case) -> Plan | str:
    return too_wide(case) or Plan("", "every register step by step, in 64-bit lanes")


def _folds(case: Case) -> str:
    """Why totals of the inner register cannot be carried on in 64 bits; empty when they can."""
    bound, reach = case.bound, case.reach
    if reach.xnor:
        return "terms are agreements of bits, no products"
    if case.levels == 1 and case.bias and bound.bias != "first":
        return "a bias that comes last joins in the only register"
    if case.levels == 1 and case.bias_acts():
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
