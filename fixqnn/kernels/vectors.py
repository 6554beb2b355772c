"""Register tiles in explicit vectors: a few rows times some vectors of channels, summed over all terms without leaving registers.

Lanes are output channels, rows are output positions, the reduction is time. Each tile writes the loop over terms in LLVM vector
IR; a form (those in `FORMS`, and what `any_tile` does) says how one term enters the running sums, and why that is exact.
Forms are written in generic operations, legal on any target; an instruction of the processor takes their place only where
the compiler's target has it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)


@functools.cache
def features() -> frozenset[str]:
    """What the compiler's target can do, by LLVM's names; ``NUMBA_CPU_FEATURES`` may name less than the processor has."""
    _, _, text = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in str(text).split(",") if name.startswith("+"))


WIDTH = 512 if {"avx512f", "avx512bw"} <= features() else 256 if "avx2" in features() else 128
LANES = WIDTH // 32  # 32-bit lanes of one vector; a 16-bit form holds twice as many channels in it
ROWS = 6 if WIDTH == 512 else 4
VECTORS = 4 if WIDTH == 512 else 2
HALF = VECTORS // 2
MOST = VECTORS * LANES  # lanes of a full panel
FEW = ROWS // 2  # rows of a tile whose steps need registers for more than sums


# -- one term into the running sums ---------------------------------------------------------------------------------------


def vector(lane: ir.Type, bits: int = WIDTH) -> ir.VectorType:
    """As many lanes as a register has."""
    return ir.VectorType(lane, bits // lane.width)


def call(b: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call an intrinsic function of LLVM."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), arguments)


def splat(b: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A number in every lane."""
    first = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)


def _every_second(b: ir.IRBuilder, v: ir.Value, start: int) -> ir.Value:
    count = v.type.count // 2
    mask = ir.Constant(ir.VectorType(I32, count), [start + 2 * i for i in range(count)])
    return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), mask)


def pair_products(b: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
    """x0·w0 + x1·w1 of neighbouring 16-bit lanes, modulo 2^32."""
    x, w = (b.bitcast(v, vector(I16)) for v in (x, w))
    name = {512: "llvm.x86.avx512.pmaddw.d.512", 256: "llvm.x86.avx2.pmadd.wd"}.get(WIDTH)
    if name:
        return call(b, name, vector(I32), x, w)
    halves = [[b.sext(_every_second(b, v, i), vector(I32)) for v in (x, w)] for i in (0, 1)]
    return b.add(b.mul(*halves[0]), b.mul(*halves[1]))


def _saturating_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return call(b, f"llvm.sadd.sat.v{x.type.count}i{x.type.element.width}", x.type, x, y)


class Form:
    """How one word of terms enters the running sums.

    `lane` is the type of a sum, `per_lane` how many channels a 32-bit lane of weights serves.
    """

    lane = I32
    per_lane = 1

    @classmethod
    def factors(cls, b: ir.IRBuilder, x: ir.Value, w: ir.Value, spare: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
        """What `step` takes for every vector of sums that a vector of weights serves."""
        yield x, w


class Dot8(Form):
    """Sums of four products of an unsigned by a signed byte, modulo 2^32: exact for every sum that 32 bits hold."""

    @staticmethod
    def step(b: ir.IRBuilder, total: ir.Value, x: ir.Value, w: ir.Value) -> ir.Value:
        """Let one word of terms enter a vector of sums."""
        if WIDTH == 512 and "avx512vnni" in features():
            return call(b, "llvm.x86.avx512.vpdpbusd.512", total.type, total, x, w)
        x, w = (b.bitcast(v, vector(I8)) for v in (x, w))
        for i in (0, 1):  # even bytes, then odd ones, as pairs of 16 bits
            low = b.zext(_every_second(b, x, i), vector(I16))
            high = b.sext(_every_second(b, w, i), vector(I16))
            total = b.add(total, pair_products(b, low, high))
        return total


class Dot16(Form):
    """Sums of two products of 16 bits, modulo 2^32: exact for every sum that 32 bits hold."""

    @staticmethod
    def step(b: ir.IRBuilder, total: ir.Value, x: ir.Value, w: ir.Value) -> ir.Value:
        """Let one word of terms enter a vector of sums."""
        if WIDTH == 512 and "avx512vnni" in features():
            return call(b, "llvm.x86.avx512.vpdpwssd.512", total.type, total, x, w)
        return b.add(total, pair_products(b, x, w))


class Saturate32(Form):
    """A product whose top bit is the lane's top bit, added with the lane's own saturation.

    A W-bit register is held shifted left by 32 − W. Operands are scaled when packed, so that x0·w0 (+ x1·w1, the same product
    once more) arrives shifted likewise: the lane overflows exactly where the register does. A clamp above leaves ones in
    the unused low bits; they lie below every addend, never carry, and vanish in the final shift.
    """

    @staticmethod
    def step(b: ir.IRBuilder, total: ir.Value, x: ir.Value, w: ir.Value) -> ir.Value:
        """Let one word of terms enter a vector of sums."""
        if WIDTH == 512 and "avx512vnni" in features():
            return call(b, "llvm.x86.avx512.vpdpwssds.512", total.type, total, x, w)
        # the one pair whose sum passes 32 bits, four times −2^15, is excluded where operands are scaled
        return _saturating_add(b, total, pair_products(b, x, w))


class Saturate16(Form):
    """The same in 16-bit lanes, for registers up to 16 bits that hold every product."""

    lane = I16
    per_lane = 2

    @staticmethod
    def step(b: ir.IRBuilder, total: ir.Value, x: ir.Value, w: ir.Value) -> ir.Value:
        """Let one word of terms enter a vector of sums."""
        x, w = (b.bitcast(v, vector(I16)) for v in (x, w))
        return _saturating_add(b, total, b.mul(x, w))


class HighFloor(Saturate32):
    """The high half of a 16-bit product, which is a product shifted right and rounded down, added as in `Saturate32`.

    Operands are scaled by 2^(16 − drop) in all, so that the high half is floor(product / 2^drop). It meets the constants
    (2^spare, 0) and (0, 2^spare), which put its two channels where the register begins in lanes of their own.
    """

    per_lane = 2
    low, rounding = 16, 0  # bits that the product loses, and what is added before

    @classmethod
    def factors(cls, b: ir.IRBuilder, x: ir.Value, w: ir.Value, spare: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Give the rounded products of both channels of a lane, each with the constant that picks it."""
        x, w = (b.bitcast(v, vector(I16)) for v in (x, w))
        high = b.bitcast(cls.high_half(b, x, w), vector(I32))
        for channel in (0, 16):
            shift = b.add(b.trunc(spare, I32), ir.Constant(I32, channel))
            yield splat(b, b.shl(ir.Constant(I32, 1), shift), vector(I32)), high

    @classmethod
    def high_half(cls, b: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
        """(x·w + rounding) >> low in 16-bit lanes."""
        wide = ir.VectorType(I32, x.type.count)
        product = b.mul(b.sext(x, wide), b.sext(w, wide))
        low, rounding = (ir.Constant(wide, [n] * wide.count) for n in (cls.low, cls.rounding))
        return b.trunc(b.ashr(b.add(product, rounding), low), x.type)


class HighHalfUp(HighFloor):
    """The rounding high half: operands are scaled by 2^(15 − drop), and halves go up.

    −2^15 by −2^15 would round to 2^15; a rounded product that fits 16 bits excludes it.
    """

    low, rounding = 15, 1 << 14

    @classmethod
    def high_half(cls, b: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
        """(x·w + 2^14) >> 15 in 16-bit lanes."""
        name = {512: "llvm.x86.avx512.pmul.hr.sw.512", 256: "llvm.x86.avx2.pmul.hr.sw"}.get(WIDTH)
        return call(b, name, x.type, x, w) if name else super().high_half(b, x, w)


FORMS = (Dot8, Dot16, Saturate32, Saturate16, HighFloor, HighHalfUp)
DOT8, DOT16, SATURATE32, SATURATE16, HIGH_FLOOR, HIGH_HALF_UP = range(len(FORMS))


# -- the loop over terms ---------------------------------------------------------------------------------------------------


def load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """Read a number or vector that need not be aligned."""
    return b.load(b.bitcast(address, kind.as_pointer()), align=1)


def at(b: ir.IRBuilder, base: ir.Value, offset: ir.Value | int) -> ir.Value:
    """Step a pointer on by so many of its elements."""
    return b.gep(base, [ir.Constant(I64, offset) if isinstance(offset, int) else offset])


def loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, carried: list[ir.Value], body) -> list[ir.Value]:
    """``for k in range(start, stop): carried = body(k, carried)``."""
    before = b.block
    head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
    b.branch(head)
    b.position_at_end(head)
    k = b.phi(I64)
    phis = [b.phi(v.type) for v in carried]
    for phi, value in zip([k, *phis], [start, *carried], strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", k, stop), inside, after)
    b.position_at_end(inside)
    made = body(k, phis)
    following = b.add(k, ir.Constant(I64, 1))
    for phi, value in zip([k, *phis], [following, *made], strict=True):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return phis


def any_set(b: ir.IRBuilder, v: ir.Value) -> ir.Value:
    """Whether any bit of a vector is set, as 0 or 1."""
    whole = b.bitcast(v, ir.IntType(WIDTH))
    return b.zext(b.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0)), I64)
