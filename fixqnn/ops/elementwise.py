"""What add, subtract and multiply share: two operands aligned, combined, kept in a register, rescaled.

Random numbers of one output are drawn at four places: the two alignments, the register, the scaler.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith import exact as steps
from fixqnn.arith.bind import BoundRegister, power_of_two
from fixqnn.arith.fast import sequence_key
from fixqnn.datapath import Elementwise
from fixqnn.errors import DoesNotFit, FormatError
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.rescale import Rescale, element_draw
from fixqnn.ops.layout import check_one_scale, check_rounds, lanes, position_of
from fixqnn.ops.op import Step
from fixqnn.ops.sums import Operand
from fixqnn.scaler import Float, Multiplier, ratio

PLACES, REGISTER, SCALER = 4, 2, 3


def prepare(step: Step) -> dict[str, Any]:
    """Make the constants of a sum or product of two codes.

    Returns
    -------
    dict
        ``align``: of both operands, a whole factor or what the aligning scaler made; ``drop``: bits that the register
        takes off; ``rescale``: of the scaler; ``zero_point``: the float that stands for all three, if they are folded.

    Raises
    ------
    DoesNotFit
        Where the datapath cannot carry the formats at hand; the message names the step.
    """
    check_one_scale(step)
    check_rounds(step)
    try:
        made = _prepare(step)
        rescale_of(step, made, 0)  # refuses output formats that the scaler does not reach
    except (DoesNotFit, FormatError) as problem:
        raise DoesNotFit(f"{step.name} ({step.op.name}): {problem}") from None
    return made


def _prepare(step: Step) -> dict[str, Any]:
    datapath = step.datapath
    if not isinstance(datapath, Elementwise):
        raise DoesNotFit(f"needs an Elementwise datapath, not {datapath!r}")
    _check_parts(step, datapath)
    out = step.out_format
    operands = operands_of(step)
    common = _common(datapath, operands, out)
    align, units = _align(step, datapath, operands, common)
    up = list(units) if step.op.name == "multiply" else [units[0]]
    drop = 0
    if datapath.register is not None:
        drop = datapath.register.drop
        if datapath.register.frac is not None:
            drop = power_of_two(math.prod(up), "Elementwise.register") - datapath.register.frac
        up[0] *= Fraction(2) ** drop
    if datapath.scaler is not None:
        rescale = datapath.scaler.prepare(tuple(up), out.scale)
    else:
        rescale = None
        if math.prod(up) != out.scale:
            raise DoesNotFit(
                f"scaler=None hands out the register as it is, in steps of {float(math.prod(up)):.9g}; "
                f"the output has {out}"
            )
    return {"align": align, "drop": drop, "rescale": rescale, "zero_point": _folded(step, datapath, align)}


def _check_parts(step: Step, datapath: Elementwise) -> None:
    if in_floats(datapath) and (datapath.register is not None or not isinstance(datapath.scaler, Float)):
        raise DoesNotFit(f"operands are floats ({datapath.align!r}), which no register holds and only a Float rescales")
    sums = in_floats(datapath) and step.op.name != "multiply" and datapath.common == "output"
    if datapath.zero_point == "folded" and not (sums and datapath.scaler.zero_point == "before"):
        raise DoesNotFit(
            "folded zero points are for sums of floats on the output's step: "
            "Elementwise(Float(zero_point='before'), 'output', align=Float(rounding=None), zero_point='folded')"
        )


def in_floats(datapath: Elementwise) -> bool:
    """Tell whether operands stay floats until the output is rounded."""
    return isinstance(datapath.align, Float) and datapath.align.rounding is None


def operands_of(step: Step) -> tuple[Operand, Operand]:
    """How the codes of both inputs become operands."""
    formats = step.in_format(0), step.in_format(1)
    if step.datapath.zero_point == "folded":
        return tuple(Operand(1, 0, f.scale) for f in formats)
    return tuple(Operand.of(f.scale, f.zero_point) for f in formats)


def _common(datapath: Elementwise, operands: tuple[Operand, Operand], out: Format) -> Fraction | None:
    """The step on which both operands stand after alignment; None: each on its own."""
    a, b = (operand.step for operand in operands)
    match datapath.common:
        case "output":
            return out.scale
        case "finest":  # the greatest rational of which both are whole multiples
            down = math.lcm(a.denominator, b.denominator)
            return Fraction(math.gcd(int(a * down), int(b * down)), down)
        case "twice_max":
            return 2 * max(a, b)
        case "real":
            return Fraction(1)
    return None


def _align(
    step: Step, datapath: Elementwise, operands: tuple[Operand, Operand], common: Fraction | None
) -> tuple[tuple[Any, Any], tuple[Fraction, Fraction]]:
    """Constants of both alignments, and the real value of 1 after them."""
    lifted = Fraction(1, 1 << datapath.headroom)
    if common is None:
        if step.op.name != "multiply" or datapath.align is not None:
            raise DoesNotFit(
                "needs a step to align to: Elementwise(common=...), 'output', 'finest', 'twice_max' or 'real'"
            )
        return (1 << datapath.headroom,) * 2, tuple(operand.step * lifted for operand in operands)
    units = (common * lifted,) * 2
    if datapath.align is None:
        factors = [operand.step / unit for operand, unit in zip(operands, units, strict=True)]
        if any(factor.denominator != 1 for factor in factors):
            raise DoesNotFit(
                f"without align, operands in steps of {float(operands[0].step):.9g} and {float(operands[1].step):.9g} "
                f"must be whole multiples of {float(units[0]):.9g}; use common='finest', or an align scaler"
            )
        return tuple(int(factor) for factor in factors), units
    if isinstance(datapath.align, Multiplier) and datapath.align.rounding is None:
        pairs = _shared_multipliers(datapath.align, [operand.step for operand in operands], common)
        return pairs, tuple(unit * Fraction(2) ** -s for unit, (_, s) in zip(units, pairs, strict=True))
    return tuple(datapath.align.prepare((operand.step,), common) for operand in operands), units


def _shared_multipliers(align: Multiplier, steps: list[Fraction], common: Fraction) -> tuple[tuple[int, int], ...]:
    """(m, s) of both operands with one s, such that the larger m fills its bits."""
    if align.shift is not None:
        return tuple(align.prepare((step,), common) for step in steps)
    s = min(align.normal_shift(ratio((step,), common, align.ratio)) for step in steps)
    try:
        return tuple(align.prepare((step,), common, shift=s) for step in steps)
    except DoesNotFit:  # the larger m was rounded up to the next power of two
        return tuple(align.prepare((step,), common, shift=s - 1) for step in steps)


def _folded(step: Step, datapath: Elementwise, align: tuple[Any, Any]) -> float | None:
    """fl(z_y − fl(r_a·z_a ± r_b·z_b)), every step in the operands' precision."""
    if datapath.zero_point != "folded":
        return None
    fl = datapath.align.dtype
    parts = [
        steps.scale(float(step.in_format(i).zero_point), datapath.align, constants) for i, constants in enumerate(align)
    ]
    return float(fl(step.out_format.zero_point) - combine(step.op.name, *map(fl, parts)))


def combine(name: str, a: Any, b: Any) -> Any:
    """Add, subtract or multiply, by the name of the operation; floats as the processor does."""
    with np.errstate(all="ignore"):
        return {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}[name](a, b)


def rescale_of(step: Step, made: dict[str, Any], bound: int) -> Rescale:
    """The scaler behind an accumulator of at most `bound`, with what `prepare` made."""
    zero = step.out_format.zero_point if made["zero_point"] is None else Fraction(made["zero_point"])
    return Rescale(step.datapath.scaler, (made["rescale"],), step.out_format, bound, zero, (), PLACES, SCALER, 0)


def register_of(step: Step) -> BoundRegister | None:
    """The register at its place, if there is one."""
    if step.datapath.register is None:
        return None
    name = "product" if step.op.name == "multiply" else "sum"
    return BoundRegister(name, step.datapath.register, step.prepared["drop"], REGISTER)


# -- the definition ----------------------------------------------------------------------------------------------------


def combiner(step: Step) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Make the function (a, b, draw) of two codes: what the register holds, and what it was asked to; alike without one."""
    datapath, operands, constants = step.datapath, operands_of(step), step.prepared["align"]
    register = register_of(step)

    def aligned(which: int, code: Any, draw: Any) -> Any:
        operand = operands[which].scale * int(code) - operands[which].offset
        if datapath.align is None:
            return operand * constants[which]
        return steps.scale(operand << datapath.headroom, datapath.align, constants[which], 0, draw(which, 0))

    def combined(a: Any, b: Any, draw: Any) -> tuple[Any, Any]:
        left, right = aligned(0, a, draw), aligned(1, b, draw)
        if in_floats(datapath):
            fl = datapath.align.dtype
            total = float(combine(step.op.name, fl(left), fl(right)))
        else:
            total = combine(step.op.name, left, right)
        if register is None:
            return total, total
        return steps.keep(total, register.drop, register.register, draw(REGISTER, 0))

    return combined


def exact(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute one output after another, on Python integers."""
    a, b = np.broadcast_arrays(a, b)
    shape = a.shape
    a, b = lanes(a), lanes(b)
    register, position = register_of(step), position_of(shape)
    counter = Counter(a.shape[1])
    key = int(sequence_key(run.seed, run.stream))
    acc, combined = np.empty(a.shape, object), combiner(step)

    for n, c, p in np.ndindex(*acc.shape):
        element = ((run.first_sample + n) * acc.shape[2] + p) * acc.shape[1] + c
        draw = element_draw(key, element, 0, PLACES)
        acc[n, c, p], asked = combined(a[n, c, p], b[n, c, p], draw)
        if register is not None and acc[n, c, p] != asked:
            counter.add(Witness(run.first_sample + n, position(p), c, -1, asked), register.register.high)
    if register is not None:
        run.note(register.name, register.register, counter.below, counter.above, counter.first)
    return rescale_of(step, step.prepared, 0).exact_array(acc, run, position).reshape(shape)
