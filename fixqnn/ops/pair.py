"""Add, subtract and multiply on 64-bit arrays: the compiled form of what `fixqnn.ops.elementwise` defines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundRegister
from fixqnn.arith.fast import WIDEST
from fixqnn.errors import TooWide
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.kernels.elementwise import Estimate, Keep
from fixqnn.kernels.rescale import Rescale
from fixqnn.modes import Rounding
from fixqnn.ops.elementwise import PLACES, combine, in_floats, operands_of, register_of, rescale_of
from fixqnn.ops.layout import lanes, position_of
from fixqnn.ops.op import Step
from fixqnn.rationals import exponent
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier


def fast(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the same codes on 64-bit arrays."""
    try:
        if "pair" not in step.cache:
            step.cache["pair"] = _build(step)
        return step.cache["pair"].fast(run, a, b).astype(step.out_format.code_dtype, copy=False)
    except TooWide as problem:
        raise TooWide(f"{step.name} ({step.op.name}): {problem}") from None


@dataclass
class Side:
    """One operand on its way to the common step: factor·code + offset, then perhaps a scaler."""

    factor: int
    offset: int
    bound: int
    rescale: Rescale | None = None

    @property
    def widest(self) -> int:
        """No number passes this magnitude before the scaler, the bare product included."""
        return self.bound + 2 * abs(self.offset)

    def fast(self, codes: np.ndarray, run: Run, shape: tuple[int, ...]) -> np.ndarray:
        """Aligned operand, int64, in the shape of its codes (of the output where random numbers are drawn)."""
        x = _times(codes, self.factor)
        if self.offset:
            x += np.int64(self.offset)
        if self.rescale is None:
            return x
        if draws(self.rescale.scaler):
            x = np.ascontiguousarray(np.broadcast_to(x, shape))
        quiet = Run(run.seed, run.stream, run.first_sample)
        return self.rescale.fast(lanes(x), quiet, position_of(x.shape)).reshape(x.shape)


def draws(scaler: Any) -> bool:
    """Whether a scaler asks for random numbers."""
    roundings = [getattr(scaler, name, None) for name in ("rounding", "first", "second")]
    return Rounding.stochastic in roundings or (isinstance(scaler, Divide) and draws(scaler.then))


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
        align, constants = self.step.datapath.align, self.step.prepared["align"]
        fl, reals = align.dtype, []
        for side, codes, c in zip((self.left, self.right), (a, b), constants, strict=True):
            x = side.fast(codes, run, codes.shape).astype(fl)
            with np.errstate(all="ignore"):
                reals.append(np.divide(x, fl(c), out=x) if align.by == "divide" else np.multiply(x, fl(c), out=x))
        total = combine(self.step.op.name, *reals)
        return self.rescale.fast(lanes(total), run, position_of(total.shape)).reshape(total.shape)


@dataclass
class EstimatedPair:
    """A sum that is rounded once, however long its aligned operands are."""

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
    """Make the working form; TooWide where 62 bits do not carry it.

    A sum that is rounded once by a ratio that is no power of two is estimated: that is faster than dividing.
    """
    if in_floats(step.datapath):
        sides = [_side(step, i) for i in (0, 1)]
        return FloatPair(step, *sides, rescale_of(step, step.prepared, 1))
    sides = [_side(step, i) for i in (0, 1)]
    a, b = (side.bound for side in sides)
    bound = a * b if step.op.name == "multiply" else a + b
    register = register_of(step)
    keep = None if register is None else Keep(register, bound, PLACES)
    too_wide = max(bound, *(side.widest for side in sides)).bit_length() > WIDEST
    if _roundable_at_once(step, keep) and (too_wide or exponent(step.prepared["rescale"]) is None):
        pair = _estimated(step, keep)
        if pair.estimate.fits:
            return pair
    if too_wide:
        where = "" if keep is None else f", on their way into {keep.place.name}, {keep.place.register}"
        raise TooWide(
            f"aligned operands together go up to ±{bound}, past 62 bits{where}; "
            "use narrower formats or power-of-two scales, or engine='exact'"
        )
    return Pair(step.op.name, *sides, keep, rescale_of(step, step.prepared, bound if keep is None else keep.content))


def _side(step: Step, which: int) -> Side:
    align, operand = step.datapath.align, operands_of(step)[which]
    constants, factor = step.prepared["align"][which], 1 << step.datapath.headroom
    if align is None:
        factor = constants
    elif isinstance(align, Multiplier) and align.rounding is None:
        factor *= constants[0]
    bound = max(map(abs, operand.range(step.in_format(which)))) * factor
    side = Side(operand.scale * factor, -operand.offset * factor, bound)
    if align is None:
        return side
    if side.widest.bit_length() > WIDEST:
        raise TooWide(f"an operand of up to ±{side.widest} passes 62 bits; use narrower formats, or engine='exact'")
    if getattr(align, "rounding", "both") is not None:
        # no register stands behind an alignment: what comes out must fit one that is as wide as can be
        side.rescale = Rescale(align, (constants,), Format(WIDEST), bound, 0, (), PLACES, which, 0)
        side.bound = reach(align, constants, bound)
        if side.bound.bit_length() > WIDEST - 1:
            raise TooWide(f"an operand of up to ±{side.bound} passes 62 bits; use narrower formats, or engine='exact'")
    return side


def reach(scaler: Any, constants: Any, bound: int) -> int:
    """A magnitude that no rescaled number passes."""
    match scaler:
        case Exact():
            return int(bound * constants) + 1
        case Shift():
            return bound // (1 << constants) + 1 if constants > 0 else bound << -constants
        case Multiplier():
            m, s = constants
            return bound * m // (1 << s) + 1 if s > 0 else bound * m << -s
        case TwoStepMultiplier():
            return 1 << (scaler.bits - 1)
        case Float():
            c = Fraction(constants)
            return int(2 * bound * (1 / c if scaler.by == "divide" else c)) + 1
        case Divide():
            count, then = constants
            return reach(scaler.then, then, bound // count + 1)
    raise TypeError(f"not a scaler: {scaler!r}")


def _roundable_at_once(step: Step, keep: Keep | None) -> bool:
    """Whether nothing acts or rounds but one Exact scaler."""
    datapath = step.datapath
    if step.op.name == "multiply" or datapath.align is not None or not isinstance(datapath.scaler, Exact):
        return False
    if keep is not None and (keep.acts or keep.place.drop):
        return False
    return datapath.scaler.rounding is not Rounding.stochastic


def _estimated(step: Step, keep: Keep | None) -> EstimatedPair:
    scaler, out = step.datapath.scaler, step.out_format
    formats, operands = (step.in_format(0), step.in_format(1)), operands_of(step)
    signs = (1, -1 if step.op.name == "subtract" else 1)
    slopes = [o.scale * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True)]
    zero = Fraction(out.zero_point)
    whole = int(zero) if zero.denominator == 1 else 0
    offset = zero - whole - sum(o.offset * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True))
    bottom = math.lcm(*(v.denominator for v in (*slopes, offset)))
    estimate = Estimate(
        int(slopes[0] * bottom), int(slopes[1] * bottom), int(offset * bottom), bottom,
        formats[0].low, formats[0].high, formats[1].low, formats[1].high, scaler.rounding,
    )  # fmt: skip
    store = Rescale(Shift(overflow=scaler.overflow), (0,), out, int(estimate.reach) + 2, whole)
    return EstimatedPair(estimate, keep and keep.place, store)
