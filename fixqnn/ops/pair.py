"""Add, subtract and multiply on 64-bit arrays: the compiled form of what `fixqnn.ops.elementwise` defines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundRegister
from fixqnn.arith.fast import WIDEST
from fixqnn.datapath import Register
from fixqnn.errors import TooWide
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.kernels.elementwise import Estimate, Keep, combine_floats, combine_whole
from fixqnn.kernels.rescale import Rescale
from fixqnn.kernels.rows import from_rows, rows_of
from fixqnn.modes import Rounding
from fixqnn.ops.elementwise import PLACES, in_floats, operands_of, register_of, rescale_of
from fixqnn.ops.layout import position_of, positions_of
from fixqnn.ops.op import Step
from fixqnn.rationals import exponent
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier


@dataclass
class Side:
    """One operand on its way to the common step: factor·code + offset, then perhaps a scaler."""

    factor: int
    offset: int
    bound: int
    aligned: int  # no number passes this magnitude behind the scaler
    rescale: Rescale | None = None

    @property
    def widest(self) -> int:
        """No number passes this magnitude before the scaler, the bare product included."""
        return self.bound + 2 * abs(self.offset)

    def operand(self, codes: np.ndarray) -> np.ndarray:
        """factor·code + offset, in a type that holds it."""
        word = np.int32 if self.widest.bit_length() < 31 else np.int64
        x = np.multiply(codes, word(self.factor), dtype=word) if self.factor != 1 else codes.astype(word)
        if self.offset:
            x += word(self.offset)
        return x

    def fast(self, codes: np.ndarray, run: Run, shape: tuple[int, ...]) -> np.ndarray:
        """Rows of the aligned operand in an output of that shape; only where a scaler aligns it."""
        x = self.operand(codes)
        quiet = Run(run.seed, run.stream, run.first_sample)
        if draws(self.rescale.scaler):  # every output draws its own number for an operand that serves many
            x = rows_of(np.broadcast_to(x, shape))
            return self.rescale.fast(x, quiet, position_of(shape), positions_of(shape))
        if x.shape == shape:
            return self.rescale.fast(rows_of(x), quiet, position_of(shape), positions_of(shape))
        aligned = self.rescale.fast(x.reshape(-1, 1), quiet, lambda p: (p,), max(x.size, 1))
        return rows_of(np.broadcast_to(aligned.reshape(x.shape), shape))


def draws(scaler: Any) -> bool:
    """Whether a scaler asks for random numbers."""
    roundings = [getattr(scaler, name, None) for name in ("rounding", "first", "second")]
    return Rounding.stochastic in roundings or (isinstance(scaler, Divide) and draws(scaler.then))


def _registers(register: BoundRegister | None, output: Rescale) -> tuple[tuple[str, Register], ...]:
    inner = () if register is None else ((register.name, register.register),)
    return (*inner, ("output", output.register))


@dataclass
class Pair:
    """Two operands combined on 64-bit integers."""

    name: str
    left: Side
    right: Side
    keep: Keep | None
    rescale: Rescale
    bound: int

    @property
    def registers(self) -> tuple[tuple[str, Register], ...]:
        """Names and records of what may act, in order."""
        return _registers(self.keep and self.keep.place, self.rescale)

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        shape, sides = np.broadcast_shapes(a.shape, b.shape), (self.left, self.right)
        rows, factors, offsets = [], [], []
        for side, codes in zip(sides, (a, b), strict=True):
            plain = side.rescale is None
            rows.append(rows_of(np.broadcast_to(codes, shape)) if plain else side.fast(codes, run, shape))
            factors.append(side.factor if plain else 1)
            offsets.append(side.offset if plain else 0)
        if self.name == "subtract":
            factors[1], offsets[1] = -factors[1], -offsets[1]
        # whatever wraps on the way in 32 bits comes out right, as the result fits
        word = np.int32 if max(self.bound, *map(abs, factors), *map(abs, offsets)).bit_length() < 32 else np.int64
        acc, product = np.empty(rows[0].shape, word), True if self.name == "multiply" else None
        flat = (v.reshape(-1) for v in rows)
        combine_whole(*flat, *map(word, factors), *map(word, offsets), product, acc.reshape(-1))
        position, positions = position_of(shape), positions_of(shape)
        if self.keep is not None:
            acc = self.keep.fast(acc, run, position, positions)
        return from_rows(self.rescale.fast(acc, run, position, positions, narrow=True), shape)


@dataclass
class FloatPair:
    """Two operands combined on the processor's floats."""

    step: Step
    left: Side
    right: Side
    rescale: Rescale

    @property
    def registers(self) -> tuple[tuple[str, Register], ...]:
        """Names and records of what may act, in order."""
        return _registers(None, self.rescale)

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        align, constants = self.step.datapath.align, self.step.prepared["align"]
        shape, sides = np.broadcast_shapes(a.shape, b.shape), (self.left, self.right)
        a, b = (rows_of(np.broadcast_to(codes, shape)) for codes in (a, b))
        total = np.empty(a.shape, align.dtype)
        combine_floats(
            a.reshape(-1), b.reshape(-1), *(side.factor for side in sides), *(side.offset for side in sides),
            *map(align.dtype, constants), True if align.by == "divide" else None,
            {"add": 1, "subtract": -1, "multiply": 0}[self.step.op.name], total.reshape(-1),
        )  # fmt: skip
        return from_rows(self.rescale.fast(total, run, position_of(shape), positions_of(shape), narrow=True), shape)


@dataclass
class EstimatedPair:
    """A sum that is rounded once, however long its aligned operands are."""

    estimate: Estimate
    register: BoundRegister | None
    store: Rescale

    @property
    def registers(self) -> tuple[tuple[str, Register], ...]:
        """Names and records of what may act, in order."""
        return _registers(self.register, self.store)

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes, int64."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        acc = self.estimate.fast(*(rows_of(np.broadcast_to(codes, shape)) for codes in (a, b)))
        if self.register is not None:
            none = np.zeros(acc.shape[1], np.int64)
            run.note(self.register.name, self.register.register, none, none)
        return from_rows(self.store.fast(acc, run, position_of(shape), positions_of(shape), narrow=True), shape)


def build(step: Step) -> Pair | FloatPair | EstimatedPair:
    """Make the working form; TooWide where 62 bits do not carry it.

    A sum that is rounded once by a ratio that is no power of two is estimated: that is faster than dividing.
    """
    if in_floats(step.datapath):
        sides = [_side(step, i) for i in (0, 1)]
        return FloatPair(step, *sides, rescale_of(step, step.prepared, 1))
    sides = [_side(step, i) for i in (0, 1)]
    a, b = (side.aligned for side in sides)
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
    rescale = rescale_of(step, step.prepared, bound if keep is None else keep.content)
    return Pair(step.op.name, *sides, keep, rescale, bound)


def _side(step: Step, which: int) -> Side:
    align, operand = step.datapath.align, operands_of(step)[which]
    constants, factor = step.prepared["align"][which], 1 << step.datapath.headroom
    if align is None:
        factor = constants
    elif isinstance(align, Multiplier) and align.rounding is None:
        factor *= constants[0]
    bound = max(map(abs, operand.range(step.in_format(which)))) * factor
    side = Side(operand.scale * factor, -operand.offset * factor, bound, bound)
    if align is None:
        return side
    if side.widest.bit_length() > WIDEST:
        raise TooWide(f"an operand of up to ±{side.widest} passes 62 bits; use narrower formats, or engine='exact'")
    if getattr(align, "rounding", "both") is not None:
        side.aligned = reach(align, constants, bound)
        if side.aligned.bit_length() > WIDEST - 1:
            raise TooWide(
                f"an operand of up to ±{side.aligned} passes 62 bits; use narrower formats, or engine='exact'"
            )
        # no register stands behind an alignment: what comes out fits one so wide
        form = Format(min(side.aligned.bit_length() + 2, WIDEST))
        side.rescale = Rescale(align, (constants,), form, bound, 0, (), PLACES, which, 0)
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
            (m, e), half = constants, 1 << (scaler.bits - 1)
            lifted = bound << max(e, 0)
            high = lifted * m // half + 1 if lifted < half else half  # what wraps may become anything
            return min(high, half) // (1 << max(-e, 0)) + 1
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


def line_of(step: Step) -> tuple[Fraction, Fraction, Fraction, int]:
    """(left, right, offset, zero): a sum or difference, in steps of the output, is left·a + right·b + offset + zero."""
    out, operands = step.out_format, operands_of(step)
    signs = (1, -1 if step.op.name == "subtract" else 1)
    slopes = [o.scale * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True)]
    zero = Fraction(out.zero_point)
    whole = int(zero) if zero.denominator == 1 else 0
    offset = zero - whole - sum(o.offset * o.step / out.scale * sign for o, sign in zip(operands, signs, strict=True))
    return (*slopes, offset, whole)


def _estimated(step: Step, keep: Keep | None) -> EstimatedPair:
    scaler, out = step.datapath.scaler, step.out_format
    formats = step.in_format(0), step.in_format(1)
    *numbers, whole = line_of(step)
    bottom = math.lcm(*(v.denominator for v in numbers))
    estimate = Estimate(
        *(int(v * bottom) for v in numbers), bottom,
        formats[0].low, formats[0].high, formats[1].low, formats[1].high, scaler.rounding,
    )  # fmt: skip
    store = Rescale(Shift(overflow=scaler.overflow), (0,), out, int(estimate.reach) + 2, whole)
    return EstimatedPair(estimate, keep and keep.place, store)
