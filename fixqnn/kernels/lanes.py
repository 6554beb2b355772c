"""How vector lanes hold a register that is clamped, wrapped or rounded at every addition, and when that is exact."""

from __future__ import annotations

from dataclasses import dataclass

from fixqnn.arith.bind import BoundRegister
from fixqnn.kernels.extent import Extent
from fixqnn.kernels.proofs import Case, holds, limit_of, moves_right, rounded_range
from fixqnn.modes import Overflow, Rounding

INT16 = -(1 << 15), (1 << 15) - 1
INT32 = -(1 << 31), (1 << 31) - 1
# Spare bits in which a clamp leaves a trace: sums begin with 0…01 there, addends leave it, and every clamp makes it 0…0 or 1…1.
# With one spare bit 1…1 is 0…01, and with none there is no trace: such lanes would give codes, but miss events.
TRACE = 2
# 2^spare is a factor of 16 bits in high32
MOST_SPARE = 14
# The high half drops 16 bits of a product and rounds down; the rounding high half drops 15, and halves go up.
HIGH_HALF = {Rounding.floor: 16, Rounding.half_up: 15}
# Modes that are the floor of a quotient to which a constant was added.
FLOORS = (Rounding.floor, Rounding.ceil, Rounding.half_up, Rounding.half_down)


@dataclass(frozen=True)
class Lanes:
    """How a stepwise tile holds its register.

    Attributes
    ----------
    form : str
        ``"saturate16"`` and ``"saturate32"``: the lane's own saturation is the register's; ``"high32"``: the same after the
        multiplier rounded; ``"any32"``: round, add, clamp.
    x_shift, w_shift : int
        Operands are multiplied by 2^x_shift and 2^w_shift when packed; then both fit 16 bits.
    spare : int
        Low bits of the lane below the register's last bit: the register is held shifted left by so many.
    doubled : bool
        In saturate32: the pair holds (x, x)·(w, w), so that the product arrives doubled.
    rounding : str
        ``"none"``, ``"term"`` (dropped before adding) or ``"sum"`` (low bits are cleared after, so that ``spare == drop``).
    drop : int
        So many bits are rounded away.
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


def _clamps(case: Case, spare: int) -> str:
    """Why the register, held above `spare` bits, does not clamp at the ends of a signed lane; empty when it does."""
    place = case.inner.register
    if case.level:
        return f"totals enter {place.name}, no products"
    if spare < TRACE:
        lane = spare + place.register.bits
        return (
            f"{place.name} ({place.register.bits} bits) leaves less than {TRACE} of {lane} bits for a trace of events"
        )
    if not place.register.signed or place.register.overflow not in (Overflow.saturate, Overflow.forbid):
        sign = "" if place.register.signed else " without a sign"
        return f"{place.name} does not saturate at both ends of its bits but {place.register.overflow}{sign}"
    return ""


def _saturates(case: Case, spare: int) -> str:
    """Why whole products do not enter such a register; empty when they do."""
    place = case.inner.register
    return case.product_acts() or (
        f"{place.name} moves by {place.drop} bits" if moves_right(place) else _clamps(case, spare)
    )


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
    """The lane's own saturation where it is the register's, else add and clamp."""
    refusals: list[str] = []
    for form in (_saturate32, high32, any32):
        found = form(case)
        if isinstance(found, Lanes):
            return found
        refusals.append(found)
    return "; ".join(dict.fromkeys(refusals))


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


def _rounded(case: Case) -> tuple[BoundRegister, bool] | str:
    """The one register that rounds what enters, and whether it may as well round each term before it is added.

    floor((total·2^s + p) / 2^s) = total + floor(p / 2^s), and likewise for every mode that is a floor of something added.
    """
    place, product = case.inner.register, case.product
    if product and not holds(product.register, *rounded_range(*case.reach.products, product)):
        return f"a product of ±{case.reach.term} may leave product ({product.register.bits} bits)"
    if product and product.drop > 0:
        return f"both product and {place.name} move" if place.drop else (product, True)
    return place, moves_right(place) and place.register.rounding in FLOORS


def high32(case: Case) -> Lanes | str:
    """Products rounded by the multiplier, which keeps the high half, and then the lane's own saturation."""
    found = _rounded(case)
    if isinstance(found, str):
        return found
    place, alone = found
    spare = 32 - case.inner.register.register.bits
    mode = place.register.rounding
    if not alone or mode not in HIGH_HALF:
        return "no register rounds products down or half up"
    if case.product and case.product.drop < 0:
        return "product has a finer step than products"
    why_not = _clamps(case, spare)
    if why_not:
        return why_not
    if spare > MOST_SPARE:
        return f"{case.inner.register.name} begins {spare} bits up its lane, and 2^{spare} is no factor of 16 bits"
    low, high = rounded_range(*case.reach.products, place)
    if not inside(low, high, INT16):
        return f"a rounded product of [{low}, {high}] leaves 16 bits"
    need = HIGH_HALF[mode] - place.drop
    shifts = _split(case, need) if need >= 0 else f"{place.name} moves by {place.drop} bits, past a product's high half"
    return shifts if isinstance(shifts, str) else Lanes("high32", *shifts, spare, False, "term", place.drop, mode)


def any32(case: Case) -> Lanes | str:
    """Round, add, clamp: nothing on the way passes 31 bits and a sign."""
    place, product = case.inner.register, case.product
    register = place.register
    if register.overflow is Overflow.wrap_sign_magnitude:
        return f"{place.name} wraps by sign and magnitude"
    found = _rounded(case)
    if isinstance(found, str):
        return found
    rounds, alone = found
    drop, mode = max(rounds.drop, 0), rounds.register.rounding
    rounding = "none" if not drop else "term" if alone else "sum"
    up = max(-place.drop, 0) + (max(-product.drop, 0) if product else 0)
    term = max(-case.entering[0], case.entering[1]) << up
    # a term rounded by itself enters at the register's own scale, where its size is at most one more than without
    asked = (
        max(limit_of(register) + (term >> drop) + 1, term + (1 << drop))
        if rounding == "term"
        else (limit_of(register) << drop) + term + (1 << drop if drop else 0)
    )
    if asked > INT32[1]:
        return f"{place.name} ({register.bits} bits) plus a term may ask for ±{asked}, past 32 bits"
    shifts = _split(case, up)
    spare = drop if rounding == "sum" else 0
    return shifts if isinstance(shifts, str) else Lanes("any32", *shifts, spare, False, rounding, drop, mode)


def describe(case: Case, lanes: Lanes, width: str) -> str:
    """What every addition does, in words."""
    place = case.inner.register
    register = place.register
    verb = {Overflow.wrap: "wraps", Overflow.forbid: "may overflow"}.get(register.overflow, "saturates")
    text = f"{register.bits}-bit {place.name} {verb} at every addition"
    if case.level:
        text += f" of an exact total of sum[{case.level - 1}]"
    text += f": {width}"
    scale = lanes.x_shift + lanes.w_shift + lanes.doubled
    if lanes.form == "high32":
        return f"{text}, products rounded ({lanes.mode}) by {lanes.drop} bits as the high half of scaled ones"
    if lanes.rounding != "none":
        what = ("totals are" if case.level else "products are") if lanes.rounding == "term" else "sums are"
        text += f", {what} rounded ({lanes.mode}) by {lanes.drop} bits"
        text += " at the product's scale" if lanes.rounding == "sum" else ""
    return text + (f", products scaled by 2^{scale}" if scale else "")
