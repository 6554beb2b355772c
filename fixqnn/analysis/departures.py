"""How far a machine's datapath leaves the exact result: roundings and rescaling constants, where no register acts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.bind import bind_sum
from fixqnn.datapath import SumOfProducts
from fixqnn.errors import DoesNotFit
from fixqnn.kernels.proofs import Case, holds
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops.elementwise import in_floats, operands_of, register_of
from fixqnn.ops.op import Step
from fixqnn.ops.sums import Operand
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier


@dataclass(frozen=True)
class Departure:
    """A result differs from the exact one by at most `steps` of the output's format and `share` of its own magnitude.

    Attributes
    ----------
    steps : float or ndarray
        In steps of the output, before saturation.
    share : float or ndarray
        Relative to the exact real result, zero points removed.
    """

    steps: Any = 0.0
    share: Any = 0.0


def refuse(step: Step, why: str) -> DoesNotFit:
    """Make the error that says why no bound holds for a step."""
    return DoesNotFit(f"{step.name} ({step.attributes.get('function') or step.op.name}): {why}")


def rounding_steps(rounding: Rounding | None) -> float:
    """Farthest that a rounding takes a number, in steps: half a step to nearest, else a whole one."""
    return 0.0 if rounding is None else 0.5 if Rounding.of(rounding).nearest else 1.0


def departure(
    step: Step, scaler: Any, constants: Any, exact: Fraction, zero_point: Any = 0, reach: int | None = None
) -> Departure:
    """What a scaler makes of a whole accumulator times the ratio `exact`.

    Parameters
    ----------
    step : Step
        For messages.
    scaler : Scaler
        The machine's.
    constants : Any
        What its `prepare` made.
    exact : Fraction
        The ratio of scales that they stand for, a count included.
    zero_point : int or Fraction
        The output's: a fractional one is added before rounding.
    reach : int, optional
        The accumulator's largest magnitude, where it is known.
    """
    whole = Fraction(zero_point).denominator == 1
    match scaler:
        case Exact():
            return Departure(0.0 if whole and exact.denominator == 1 else rounding_steps(scaler.rounding))
        case Shift():
            return Departure(0.0 if whole and constants <= 0 else rounding_steps(scaler.rounding))
        case Multiplier():
            m, s = constants
            made = Fraction(m) / Fraction(2) ** s
            return Departure(
                0.0 if whole and made.denominator == 1 else rounding_steps(scaler.rounding), _off(made, exact)
            )
        case TwoStepMultiplier():
            m, e = constants
            if reach is None or reach << max(e, 0) >= 1 << (scaler.bits - 1):
                raise refuse(step, f"an accumulator of up to ±{reach} may leave the {scaler.bits} bits of {scaler!r}")
            made = Fraction(m) * Fraction(2) ** (e - scaler.bits + 1)
            first = rounding_steps(scaler.first) * 2.0 ** min(e, 0)
            return Departure(first + (rounding_steps(scaler.second) if e < 0 else 0.0), _off(made, exact))
        case Float():
            if not 1e-30 < constants < 1e30:
                raise refuse(
                    step, f"the constant {constants} of {scaler!r} leaves the range in which floats are precise"
                )
            made = 1 / Fraction(constants) if scaler.by == "divide" else Fraction(constants)
            unit = 2.0**-24 if scaler.precision == "float32" else 2.0**-53
            # fl(acc), the product or quotient, and, with the zero point before, their sum: three roundings, each of its size
            steps = rounding_steps(scaler.rounding) + 3 * unit * abs(float(zero_point))
            return Departure(steps, _off(made, exact) * (1 + 4 * unit) + 4 * unit)
        case Divide():
            count, then = constants
            inner = departure(step, scaler.then, then, exact * count, zero_point, reach)
            # dividing by a count of 1 loses nothing; the quotient is whole, so only `then` can round after it
            first = rounding_steps(scaler.rounding) * float(exact * count) if count > 1 else 0.0
            return Departure(inner.steps + first * (1 + inner.share), inner.share)
    raise refuse(step, f"nothing is known of how {scaler!r} rounds")


def _off(made: Fraction, exact: Fraction) -> float:
    """Relative error of a constant, rounded up."""
    error = abs(made / exact - 1)
    return math.nextafter(float(error), math.inf) if error else 0.0


def sum_departure(step: Step) -> Departure:
    """What the scaler of a sum of products does, per output channel or position (axis 1, or trailing axes).

    Raises
    ------
    DoesNotFit
        Where a register may act, and for datapaths that sum something other than the real numbers.
    """
    datapath = step.datapath
    if not isinstance(datapath, SumOfProducts):
        raise refuse(step, f"needs a SumOfProducts, not {datapath!r}")
    if datapath.term == "xnor":
        raise refuse(step, "agreements of bits are counted, which is no sum of products in real numbers")
    if datapath.bias == "scaler" and step.prepared.get("real_bias"):
        raise refuse(step, "the bias is added as a float inside the scaler, for which there is no bound yet")
    reach = _whole_reach(step, datapath)
    if datapath.scaler is None:
        return Departure()
    exact = step.op.prepare(replace(step, datapath=replace(datapath, scaler=Exact())))["scaler"]
    zero = 0 if datapath.zero_point == "ignored" else step.out_format.zero_point
    found = [
        departure(step, datapath.scaler, constants, ratio, zero, reach)
        for (_, made), (_, ratios) in zip(step.prepared["scaler"], exact, strict=True)
        for constants, ratio in zip(made, ratios, strict=True)
    ]
    # of several channels or counts the worst: they differ by roundings of constants, or not at all
    return Departure(max(d.steps for d in found), max(d.share for d in found))


def _whole_reach(step: Step, datapath: SumOfProducts) -> int:
    """Largest accumulator; refuses sums whose registers can act or round. Where weights are known the proof looks at them."""
    if step.op.plan is not None:
        step.op.plan(step)
        sums = step.cache["sum"].contraction
        reach, why = sums.limit, Case(sums.reach, sums.bound, sums.bias, sums.window.terms).acts()
    else:
        reach, why = _reach_by_formats(step, datapath)
    if why:
        raise refuse(
            step, f"{why}; an error bound needs registers that cannot act: widen them, or bound the errors on 'ideal'"
        )
    return reach


def _reach_by_formats(step: Step, datapath: SumOfProducts) -> tuple[int, str]:
    """Largest sum where only formats are known (matmul, adaptive averages), and why registers may act on it, if they may."""
    forms = [step.in_format(i) for i in range(len(step.inputs))]
    operands = [Operand.of(f.scale, f.zero_point) for f in forms]
    shape = step.shapes[step.inputs[0]]
    terms = shape[-1] if step.op.name == "matmul" else math.prod(shape[2:])
    bound = bind_sum(datapath, math.prod(o.step for o in operands), {"channel": terms})
    reach = terms * math.prod(max(map(abs, o.range(f))) for o, f in zip(operands, forms, strict=True))
    for place in bound.registers:
        if place.drop:
            return reach, f"{place.name} moves by {place.drop} bits"
        if not holds(place.register, -reach, reach):
            return reach, f"sums of up to ±{reach} may leave {place.name} ({place.register.bits} bits)"
    return reach, ""


@dataclass(frozen=True)
class Alignment:
    """What aligning an operand adds: `real` as a real number, `share` of its own magnitude."""

    real: float = 0.0
    share: float = 0.0


def pair_departure(step: Step) -> tuple[tuple[Alignment, Alignment], Departure]:
    """What add, subtract or multiply does to each operand, and then the scaler; refuses as `sum_departure`."""
    datapath = step.datapath
    if in_floats(datapath) or isinstance(datapath.align, Float):
        raise refuse(step, "operands are floats, for which there is no bound yet")
    if datapath.align is not None and step.op.name == "multiply":
        raise refuse(step, "operands of a product are aligned, for which there is no bound yet")
    out = step.out_format
    exact: Fraction = step.op.prepare(replace(step, datapath=replace(datapath, scaler=Exact())))["rescale"]
    unit = exact * out.scale / Fraction(2) ** step.prepared["drop"]  # real value of 1 in the register, before its drop
    sides = (Alignment(), Alignment())
    if datapath.align is not None:
        sides = tuple(_alignment(step, i, unit) for i in (0, 1))  # type: ignore[assignment]
    reach = _pair_reach(step, unit)
    if datapath.scaler is None:
        return sides, Departure()
    return sides, departure(step, datapath.scaler, step.prepared["rescale"], exact, out.zero_point, reach)


def _alignment(step: Step, index: int, unit: Fraction) -> Alignment:
    datapath, constants = step.datapath, step.prepared["align"][index]
    kept = isinstance(datapath.align, Multiplier) and datapath.align.rounding is None
    common = unit * (1 << datapath.headroom) * (Fraction(2) ** constants[1] if kept else 1)
    operand = operands_of(step)[index]
    reach = max(map(abs, operand.range(step.in_format(index)))) << datapath.headroom
    made = departure(step, datapath.align, constants, operand.step / common, reach=reach)
    return Alignment(0.0 if kept else made.steps * float(unit), made.share)


def _pair_reach(step: Step, unit: Fraction) -> int:
    """Largest number in the register of a sum or product of two; refuses where the register may act or round."""
    forms = [step.in_format(i) for i in (0, 1)]
    largest = [max(abs(f.real_low), abs(f.real_high)) for f in forms]
    # aligned operands are rounded, and their constants too: two units and a thousandth are more than that
    reach = math.prod(largest) / unit if step.op.name == "multiply" else sum(largest) / unit * Fraction(1001, 1000) + 2
    place = register_of(step)
    if place is None:
        return math.ceil(reach)
    if place.drop > 0:
        raise refuse(step, f"register {place.name} moves by {place.drop} bits, which rounds once more than is bounded")
    reach = math.ceil(reach * Fraction(2) ** -place.drop)
    if not holds(place.register, -reach, reach):
        raise refuse(step, f"up to ±{reach} may leave register {place.name} ({place.register.bits} bits)")
    return reach


def output_bounds(step: Step, overflow: Overflow) -> tuple[float, float, bool]:
    """Least and greatest real output, and whether what lies beyond is brought to the nearer of them.

    A register that wraps or zeroes makes any code of what is beyond.
    """
    form = step.out_format
    low, high = float(form.real_low), float(form.real_high)
    if overflow is Overflow.saturate_symmetric and form.signed and form.zero_point == 0:
        low = max(low, -high)
    return low, high, overflow in (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid)


def all_codes(step: Step) -> np.ndarray:
    """Every code of a step's first input, ascending; DoesNotFit where there are too many to try."""
    form = step.in_format(0)
    if form.bits > 20:
        raise refuse(step, f"{form} has 2^{form.bits} codes, too many to look at each")
    return np.arange(form.low, form.high + 1)
