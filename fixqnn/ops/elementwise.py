"""What add, subtract and multiply share: two operands aligned, combined, kept in a register, rescaled.

Random numbers of one output are drawn at four places: the two alignments, the register, the scaler.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith import exact as steps
from fixqnn.arith.bind import BoundRegister, power_of_two
from fixqnn.arith.fast import WIDEST, sequence_key
from fixqnn.datapath import Elementwise
from fixqnn.errors import DoesNotFit, TooWide
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.elementwise import Estimate, Keep
from fixqnn.kernels.rescale import Rescale, element_draw
from fixqnn.modes import Rounding
from fixqnn.ops.layout import check_one_scale, lanes, position_of
from fixqnn.ops.op import Step
from fixqnn.ops.sums import Operand
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier, ratio

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
    try:
        made = _prepare(step)
        _rescale(step, made, 0)
    except DoesNotFit as problem:
        raise DoesNotFit(f"{step.name} ({step.op.name}): {problem}") from None
    return made


def _prepare(step: Step) -> dict[str, Any]:
    datapath = step.datapath
    if not isinstance(datapath, Elementwise):
        raise DoesNotFit(f"needs an Elementwise datapath, not {datapath!r}")
    check_one_scale(step)
    _check_parts(step, datapath)
    out = step.out_format
    operands = _operands(step)
    common = _common(datapath, operands, out)
    align, units = _align(step, datapath, operands, common)
    up = list(units) if step.op.name == "multiply" else [units[0]]
    drop = 0
    if datapath.register is not None:
        drop = datapath.register.drop
        if datapath.register.frac is not None:
            drop = power_of_two(np.prod(up), "Elementwise.register") - datapath.register.frac
        up[0] *= Fraction(2) ** drop
    if datapath.scaler is not None:
        rescale = datapath.scaler.prepare(tuple(up), out.scale)
    else:
        rescale = None
        if np.prod(up) != out.scale:
            raise DoesNotFit(
                f"scaler=None hands out the register as it is, in steps of {float(np.prod(up)):.9g}; the output has {out}"
            )
    return {"align": align, "drop": drop, "rescale": rescale, "zero_point": _folded(step, datapath, align)}


def _check_parts(step: Step, datapath: Elementwise) -> None:
    if datapath.scaler is not None and not isinstance(datapath.scaler, Divide) and getattr(datapath.scaler, "rounding", 0) is None:
        raise DoesNotFit(f"{datapath.scaler!r} keeps the unrounded value: that is for operands, not for the output")
    if _floats(datapath) and (datapath.register is not None or not isinstance(datapath.scaler, Float)):
        raise DoesNotFit(f"operands are floats ({datapath.align!r}), which no register holds and only a Float rescales")
    if datapath.zero_point == "folded" and not (
        _floats(datapath) and datapath.common == "output" and step.op.name != "multiply" and datapath.scaler.zero_point == "before"
    ):
        raise DoesNotFit(
            "folded zero points are for sums of floats on the output's step: "
            "Elementwise(Float(zero_point='before'), 'output', align=Float(rounding=None), zero_point='folded')"
        )


def _floats(datapath: Elementwise) -> bool:
    return isinstance(datapath.align, Float) and datapath.align.rounding is None


def _operands(step: Step) -> tuple[Operand, Operand]:
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
            down = np.lcm.reduce([a.denominator, b.denominator], dtype=object)
            return Fraction(np.gcd.reduce([int(a * down), int(b * down)], dtype=object), down)
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
                f"without align, operands in steps of {' and '.join(f'{float(o.step):.9g}' for o in operands)} must be whole "
                f"multiples of {float(units[0]):.9g}; use common='finest', or an align scaler"
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
    return float(fl(fl(float(step.out_format.zero_point)) - _float_combine(step.op.name, fl, *parts)))


def _float_combine(name: str, fl: type, a: Any, b: Any) -> Any:
    """One float operation of the machine, on scalars or arrays."""
    with np.errstate(all="ignore"):
        if name == "multiply":
            return fl(a) * fl(b) if np.isscalar(a) else a * b
        if name == "subtract":
            return fl(a) - fl(b) if np.isscalar(a) else a - b
        return fl(a) + fl(b) if np.isscalar(a) else a + b


def _rescale(step: Step, made: dict[str, Any], bound: int) -> Rescale:
    zero = step.out_format.zero_point if made["zero_point"] is None else Fraction(made["zero_point"])
    return Rescale(step.datapath.scaler, (made["rescale"],), step.out_format, bound, zero, (), PLACES, SCALER, 0)


def _register(step: Step) -> BoundRegister | None:
    if step.datapath.register is None:
        return None
    name = "product" if step.op.name == "multiply" else "sum"
    return BoundRegister(name, step.datapath.register, step.constants["drop"], REGISTER)


# -- the definition ----------------------------------------------------------------------------------------------------


def exact(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute one output after another, on Python integers."""
    datapath, operands, constants = step.datapath, _operands(step), step.constants["align"]
    a, b = np.broadcast_arrays(a, b)
    shape = a.shape
    a, b = lanes(a), lanes(b)
    register, position = _register(step), position_of(shape)
    counter = Counter(a.shape[1])
    key = int(sequence_key(run.seed, run.stream))
    acc = np.empty(a.shape, object)

    def aligned(which: int, code: Any, draw: Any) -> Any:
        operand = operands[which].scale * int(code) - operands[which].offset
        if datapath.align is None:
            return operand * constants[which]
        return steps.scale(operand << datapath.headroom, datapath.align, constants[which], 0, draw(which, 0))

    for n, c, p in np.ndindex(*acc.shape):
        element = ((run.first_sample + n) * acc.shape[2] + p) * acc.shape[1] + c
        draw = element_draw(key, element, 0, PLACES)
        left, right = aligned(0, a[n, c, p], draw), aligned(1, b[n, c, p], draw)
        if _floats(datapath):
            acc[n, c, p] = float(_float_combine(step.op.name, datapath.align.dtype, left, right))
            continue
        total = {"add": left + right, "subtract": left - right, "multiply": left * right}[step.op.name]
        if register is not None:
            total, asked = steps.keep(total, register.drop, register.register, draw(REGISTER, 0))
            if total != asked:
                witness = Witness(run.first_sample + n, position(p), c, -1, asked)
                counter.add(witness, register.register.high)
        acc[n, c, p] = total
    if register is not None:
        run.note(register.name, register.register, counter.below, counter.above, counter.first)
    return _rescale(step, step.constants, 0).exact_array(acc, run, position).reshape(shape)


# -- the compiled form -------------------------------------------------------------------------------------------------


def fast(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the same codes on 64-bit arrays."""
    if "pair" not in step.cache:
        step.cache["pair"] = _build(step)
    return step.cache["pair"].fast(run, a, b).astype(step.out_format.code_dtype, copy=False)


@dataclass
class Side:
    """One operand on its way to the common step: factor·code + offset, then perhaps a scaler."""

    factor: int
    offset: int
    bound: int
    rescale: Rescale | None = None

    def fast(self, codes: np.ndarray, run: Run, shape: tuple[int, ...]) -> np.ndarray:
        """Aligned operand, int64, in the shape of its codes (of the output where random numbers are drawn)."""
        x = _times(codes, self.factor)
        if self.offset:
            x += np.int64(self.offset)
        if self.rescale is None:
            return x
        if getattr(self.rescale.scaler, "rounding", None) is Rounding.stochastic:
            x = np.ascontiguousarray(np.broadcast_to(x, shape))
        quiet = Run(run.seed, run.stream, run.first_sample)
        return self.rescale.fast(lanes(x), quiet, position_of(x.shape)).reshape(x.shape)


def _times(codes: np.ndarray, factor: int) -> np.ndarray:
    return codes.astype(np.int64) if factor == 1 else np.multiply(codes, np.int64(factor), dtype=np.int64)


@dataclass
class Pair:
    """Two operands combined on 64-bit integers."""

    name: str
    left: Side
    right: Side
    keep: Keep | None
    rescale: Rescale

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        x, y = self.left.fast(a, run, shape), self.right.fast(b, run, shape)
        larger, other = (x, y) if x.shape == shape else (y, x)
        into = larger if larger.shape == shape else None
        if self.name == "multiply":
            acc = np.multiply(larger, other, out=into)
        elif self.name == "add":
            acc = np.add(larger, other, out=into)
        else:
            acc = np.subtract(x, y, out=into)
        acc, position = lanes(acc), position_of(shape)
        if self.keep is not None:
            acc = self.keep.fast(acc, run, position)
        return self.rescale.fast(acc, run, position).reshape(shape)


@dataclass
class FloatPair:
    """Two operands combined on the processor's floats."""

    step: Step
    left: Side
    right: Side
    rescale: Rescale

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        align, constants = self.step.datapath.align, self.step.constants["align"]
        fl, reals = align.dtype, []
        for side, codes, c in zip((self.left, self.right), (a, b), constants, strict=True):
            x = side.fast(codes, run, codes.shape).astype(fl)
            with np.errstate(all="ignore"):
                reals.append(np.divide(x, fl(c), out=x) if align.by == "divide" else np.multiply(x, fl(c), out=x))
        total = _float_combine(self.step.op.name, fl, *reals)
        return self.rescale.fast(lanes(total), run, position_of(total.shape)).reshape(total.shape)


@dataclass
class EstimatedPair:
    """A sum whose aligned operands are too long for 62 bits, rounded exactly in one step."""

    estimate: Estimate
    register: BoundRegister | None
    store: Rescale

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        rounded = self.estimate.fast(a, b)
        acc = lanes(rounded)
        if self.register is not None:
            none = np.zeros(acc.shape[1], np.int64)
            run.note(self.register.name, self.register.register, none, none)
        return self.store.fast(acc, run, position_of(rounded.shape)).reshape(rounded.shape)


def _build(step: Step) -> Pair | FloatPair | EstimatedPair:
    """Make the working form; TooWide where 62 bits do not carry it."""
    try:
        if _floats(step.datapath):
            sides = [_side(step, i, floats=True) for i in (0, 1)]
            return FloatPair(step, *sides, _rescale(step, step.constants, 1))
        sides = [_side(step, i) for i in (0, 1)]
        a, b = (side.bound for side in sides)
        bound = a * b if step.op.name == "multiply" else a + b
        register = _register(step)
        keep = None if register is None else Keep(register, bound, PLACES)
        if max(a, b, bound).bit_length() > WIDEST:
            return _estimated(step, bound, keep)
        for side in sides:
            _check_fits(side)
        return Pair(step.op.name, *sides, keep, _rescale(step, step.constants, bound if keep is None else keep.content))
    except TooWide as problem:
        raise TooWide(f"{step.name} ({step.op.name}): {problem}") from None


def _side(step: Step, which: int, floats: bool = False) -> Side:
    datapath, operand, form = step.datapath, _operands(step)[which], step.in_format(which)
    constants = step.constants["align"][which]
    factor = 1 << datapath.headroom
    if datapath.align is None:
        factor = constants
    elif isinstance(datapath.align, Multiplier) and datapath.align.rounding is None:
        factor *= constants[0]
    low, high = operand.range(form)
    bound = max(-low, high) * abs(factor)
    side = Side(operand.scale * factor, -operand.offset * factor, bound)
    plain = datapath.align is None or floats or (isinstance(datapath.align, Multiplier) and datapath.align.rounding is None)
    if plain:
        if floats:
            _check_fits(side)
        return side
    _check_fits(side)
    # no register stands behind an alignment: what comes out must fit one that is as wide as can be
    side.rescale = Rescale(datapath.align, (constants,), Format(WIDEST), bound, 0, (), PLACES, which, 0)
    side.bound = _reach(datapath.align, constants, bound)
    if side.bound.bit_length() > WIDEST - 1:
        raise TooWide(f"an aligned operand of up to ±{side.bound} passes 62 bits; use narrower formats, or engine='exact'")
    return side


def _check_fits(side: Side) -> None:
    widest = side.bound + 2 * abs(side.offset)
    if widest.bit_length() > WIDEST:
        raise TooWide(f"an operand of up to ±{widest} passes 62 bits; use narrower formats, or engine='exact'")


def _reach(scaler: Any, constants: Any, bound: int) -> int:
    """A magnitude that no rescaled number passes."""
    match scaler:
        case Exact():
            return int(bound * constants) + 1
        case Shift():
            return (bound >> constants) + 1 if constants > 0 else bound << -constants
        case Multiplier():
            m, s = constants
            return (bound * m >> s) + 1 if s > 0 else bound * m << -s
        case TwoStepMultiplier():
            return 1 << (scaler.bits - 1)
        case Float():
            c = Fraction(constants)
            return int(2 * bound * (1 / c if scaler.by == "divide" else c)) + 1
        case Divide():
            count, then = constants
            return _reach(scaler.then, then, bound // count + 1)
    raise TypeError(f"not a scaler: {scaler!r}")


def _estimated(step: Step, bound: int, keep: Keep | None) -> EstimatedPair:
    datapath, out = step.datapath, step.out_format
    idle = keep is None or (not keep.acts and keep.place.drop == 0)
    scaler = datapath.scaler
    if step.op.name == "multiply" or datapath.align is not None or not idle or not isinstance(scaler, Exact):
        what = "the product" if step.op.name == "multiply" else "the sum"
        where = "" if keep is None else f", before {keep.place.register}"
        raise TooWide(f"{what} of aligned operands goes up to ±{bound}, past 62 bits{where}; use power-of-two scales, or engine='exact'")
    if scaler.rounding is Rounding.stochastic:
        raise TooWide("stochastic rounding of a sum past 62 bits; use power-of-two scales, or engine='exact'")
    formats, operands = (step.in_format(0), step.in_format(1)), _operands(step)
    signs = (1, -1 if step.op.name == "subtract" else 1)
    slopes = [o.scale * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True)]
    zero = Fraction(out.zero_point)
    whole = int(zero) if zero.denominator == 1 else 0
    offset = zero - whole - sum(o.offset * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True))
    bottom = int(np.lcm.reduce([v.denominator for v in (*slopes, offset)], dtype=object))
    estimate = Estimate(
        int(slopes[0] * bottom), int(slopes[1] * bottom), int(offset * bottom), bottom,
        formats[0].low, formats[0].high, formats[1].low, formats[1].high, scaler.rounding,
    )  # fmt: skip
    estimate.check()
    store = Rescale(Shift(overflow=scaler.overflow), (0,), out, int(estimate.reach) + 2, whole)
    return EstimatedPair(estimate, keep and keep.place, store)
