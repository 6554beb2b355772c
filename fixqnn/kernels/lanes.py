"""How vector lanes hold a register that is clamped, wrapped or rounded at every addition, and when that is exact."""

from __future__ import annotations

from dataclasses import dataclass

from fixqnn.kernels.extent import Extent
from fixqnn.kernels.proofs import Case, holds, limit_of, moves_right, rounded_range
from fixqnn.modes import Overflow, Rounding

INT16 = -(1 << 15), (1 << 15) - 1
INT32 = -(1 << 31), (1 << 31) - 1
# Spare bits in which a clamp leaves a trace: sums begin with 0…01 there, addends leave it, and every clamp makes it 0…0 or 1…1.
# With one spare bit 1…1 is 0…01, and with none there is no trace: such lanes would give codes, but miss events.
TRACE = 2


@dataclass(frozen=True)
class Lanes:
    """How a stepwise tile holds its register.

    Attributes
    ----------
    form : str
        ``"saturate16"`` and ``"saturate32"``: the lane's own saturation is the register's; ``"any32"``: mask, add, clamp.
    x_shift, w_shift : int
        Operands are multiplied by 2^x_shift and 2^w_shift when packed; then both fit 16 bits.
    spare : int
        Low bits of the lane below the register's last bit: the register is held shifted left by so many.
    doubled : bool
        In saturate32: the pair holds (x, x)·(w, w), so that the product arrives doubled.
    rounding : str
        In any32, where low bits are cleared: ``"none"``, ``"product"`` (before adding) or ``"sum"`` (after).
    drop : int
        So many bits of the product's scale are cleared; any32 with a rounding has ``spare == drop``.
    mode : Rounding
        How they are rounded away.
    """

    form: str
    x_shift: int = 0
    w_shift: int = 0
    spare: int = 0
    doubled: bool = False
    rounding: str = "none"
    drop: int = 0
    mode: Rounding = Rounding.floor


def inside(low: int, high: int, limits: tuple[int, int]) -> bool:
    """Whether [low, high] lies within limits."""
    return limits[0] <= low and high <= limits[1]


def not_bytes(reach: Extent) -> str:
    """Why operands are not an unsigned byte, less x_low, and a signed one; empty when they are."""
    if reach.x_high - reach.x_low > 255:
        return f"inputs of [{reach.x_low}, {reach.x_high}] span more than a byte"
    if not inside(reach.w_low, reach.w_high, (-128, 127)):
        return f"weights of [{reach.w_low}, {reach.w_high}] are no signed bytes"
    return ""


def not_words(reach: Extent, x_limits: tuple[int, int] = INT16, w_limits: tuple[int, int] = INT16) -> str:
    """Why operands are not of 16 bits; empty when they are."""
    for what, low, high, limits in (
        ("inputs", reach.x_low, reach.x_high, x_limits), ("weights", reach.w_low, reach.w_high, w_limits),
    ):  # fmt: skip
        if not inside(low, high, limits):
            return f"{what} of [{low}, {high}] leave [{limits[0]}, {limits[1]}]"
    return ""


def _split(case: Case, need: int) -> tuple[int, int] | str:
    """Shifts of x and w that sum to `need` and leave both within 16 bits; weights take what they can, once and for all."""
    reach = case.reach

    def room(low: int, high: int) -> int:
        return next((s for s in range(need, -1, -1) if inside(low << s, high << s, INT16)), -1)

    x, w = room(reach.x_low, reach.x_high), room(reach.w_low, reach.w_high)
    if min(x, w) < 0:
        return not_words(reach)
    if x + w < need:
        return f"operands times 2^{need} in all pass 16 bits each"
    return need - w, w


def _saturates(case: Case, spare: int) -> str:
    """Why the inner register, held above `spare` bits, does not clamp at the ends of a signed lane; empty when it does."""
    place = case.inner.register
    if spare < TRACE:
        lane = spare + place.register.bits
        return (
            f"{place.name} ({place.register.bits} bits) leaves less than {TRACE} of {lane} bits for a trace of events"
        )
    if moves_right(place):
        return f"{place.name} moves by {place.drop} bits"
    if not place.register.signed or place.register.overflow not in (Overflow.saturate, Overflow.forbid):
        sign = "" if place.register.signed else " without a sign"
        return f"{place.name} does not saturate at both ends of its bits but {place.register.overflow}{sign}"
    return ""


def saturate16(case: Case) -> Lanes | str:
    """A 16-bit lane's own saturation where it is the register's; the product is formed modulo 2^16, so it must fit by itself."""
    place = case.inner.register
    spare, up = 16 - place.register.bits, -place.drop
    why_not = _saturates(case, spare)
    if why_not:
        return why_not
    low, high = (p << up for p in case.reach.products)
    if not holds(place.register, low, high):
        return f"a product of [{low}, {high}] leaves {place.name} ({place.register.bits} bits)"
    shifts = _split(case, spare + up)
    return shifts if isinstance(shifts, str) else Lanes("saturate16", *shifts, spare)


def lanes32(case: Case) -> Lanes | str:
    """The lane's own saturation where it is the register's, else mask, add and clamp."""
    first = case.product_acts() or _saturate32(case)
    if isinstance(first, Lanes):
        return first
    second = any32(case)
    return second if isinstance(second, Lanes) or second == first else f"{first}; {second}"


def _saturate32(case: Case) -> Lanes | str:
    """x0·w0 + x1·w1 is added exactly and clamped once, so that only operands need fit; the register's width does the rest."""
    place, reach = case.inner.register, case.reach
    spare, up = 32 - place.register.bits, -place.drop
    why_not = _saturates(case, spare)
    if why_not:
        return why_not
    shifts = _split(case, spare + up)
    if not isinstance(shifts, str):
        return Lanes("saturate32", *shifts, spare)
    twice = _split(case, spare + up - 1)
    if isinstance(twice, str):
        return shifts
    # twice (−2^15)·(−2^15) is the one pair whose sum passes 32 bits
    if reach.x_low << twice[0] == reach.w_low << twice[1] == INT16[0]:
        return "operands are both at the low end of 16 bits, where the product cannot be doubled"
    return Lanes("saturate32", *twice, spare, doubled=True)


def any32(case: Case) -> Lanes | str:
    """Mask, add, clamp: nothing on the way passes 31 bits and a sign."""
    place, product = case.inner.register, case.bound.product
    register = place.register
    if register.overflow is Overflow.wrap_sign_magnitude:
        return f"{place.name} wraps by sign and magnitude"
    rounding, drop, mode, up = "none", 0, Rounding.floor, max(-place.drop, 0)
    if product:
        if not holds(product.register, *rounded_range(*case.reach.products, product)):
            return f"a product of ±{case.reach.term} may leave product ({product.register.bits} bits)"
        if product.drop > 0:
            if place.drop:
                return f"both product and {place.name} move"
            rounding, drop, mode = "product", product.drop, product.register.rounding
        up += max(-product.drop, 0)
    if moves_right(place):
        rounding, drop, mode = "sum", place.drop, register.rounding
    asked = (limit_of(register) << drop) + (case.reach.term << up) + (1 << drop if drop else 0)
    if asked > INT32[1]:
        return f"{place.name} ({register.bits} bits) plus a product may ask for ±{asked}, past 32 bits"
    shifts = _split(case, up)
    return shifts if isinstance(shifts, str) else Lanes("any32", *shifts, drop, False, rounding, drop, mode)


def describe(case: Case, lanes: Lanes, width: str) -> str:
    """What every addition does, in words."""
    place = case.inner.register
    register = place.register
    verb = {Overflow.wrap: "wraps", Overflow.forbid: "may overflow"}.get(register.overflow, "saturates")
    text = f"{register.bits}-bit {place.name} {verb} at every addition: {width}"
    scale = lanes.x_shift + lanes.w_shift + lanes.doubled
    if lanes.rounding != "none":
        what = "products are" if lanes.rounding == "product" else "sums are"
        text += f", {what} rounded ({lanes.mode}) by {lanes.drop} bits at the product's scale"
    return text + (f", products scaled by 2^{scale}" if scale else "")
