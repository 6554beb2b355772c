"""LiteRT's int8 sigmoid, tanh and hard swish: 256 entries, each by the kernel's own fixed-point steps.

Numbers of 32 bits stand for fractions: Qa.b has `a` integer and b = 31 - a fraction bits. The functions are those of
gemmlowp's fixedpoint.h (Apache-2.0), read as arithmetic; the constants are exp(-2^k) and the like in these formats.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

import fixqnn as fq

HIGH = (1 << 31) - 1
LOW = -(1 << 31)


def logistic(step: fq.Step) -> list[int]:
    """Entries of LOGISTIC: sigma on Q4.27, written in steps of 1/256."""
    _check(step, "LOGISTIC", fq.affine(8, Fraction(1, 256), -128))
    codes, m, e = _input(step)
    radius = _radius(e)

    def entry(v: int) -> int:
        if abs(v) >= radius:
            return 127 if v > 0 else -128
        return _clip(_divide_by_power(_sigmoid(_rescale(v, m, e)), 23) - 128)

    return [entry(v) for v in codes]


def tanh(step: fq.Step) -> list[int]:
    """Entries of TANH: tanh on Q4.27, written in steps of 1/128."""
    _check(step, "TANH", fq.fixed(8, 7))
    codes, m, e = _input(step)
    radius = _radius(e)

    def entry(v: int) -> int:
        if abs(v) >= radius:
            return 127 if v > 0 else -128
        return _clip(_divide_by_power(_tanh(_rescale(v, m, e)), 24))

    return [entry(v) for v in codes]


def hard_swish(step: fq.Step) -> list[int]:
    """Entries of HARD_SWISH, which works on 16 bits."""
    _check(step, "HARD_SWISH", None)
    x, y = step.in_format(0), step.out_format
    fine = np.float32(1 / 128) * np.float32(float(x.scale))  # v carries seven fraction bits more than the code
    m_out, e_out = _short_multiplier(fine / np.float32(float(y.scale)))
    m_relu, e_relu = _short_multiplier(fine / np.float32(3 / 32768))
    if e_out > 0:
        raise fq.DoesNotFit(f"{step.name}: LiteRT's HARD_SWISH needs an output scale above input scale / 128, not {y}")

    def entry(v: int) -> int:
        v <<= 7
        preshift = _high_mul(v, m_out, 16)
        relu = v
        if e_relu > 0:
            relu = _saturate(relu << (e_relu - 1), 16)
        relu = _high_mul(relu, m_relu, 16)
        if e_relu > 0:
            relu = _saturate(relu << 1, 16)
        if e_relu < 0:
            relu = _divide_by_power(relu, -e_relu)
        relu = (relu + (1 << 15)) >> 1
        product = relu * preshift
        whole = abs(product) >> 15  # this one product is cut, not rounded
        return _clip(_divide_by_power(whole if product >= 0 else -whole, -e_out) + int(y.zero_point))

    return [entry(code - int(x.zero_point)) for code in range(x.low, x.high + 1)]


def logistic_in_float(step: fq.Step) -> list[int]:
    """Entries of LOGISTIC in the optimised kernels: float32, rounded half away from zero."""
    _check(step, "LOGISTIC", fq.affine(8, Fraction(1, 256), -128))
    return _in_float(step, lambda x: np.float32(1) / (np.float32(1) + np.exp(-x)))


def tanh_in_float(step: fq.Step) -> list[int]:
    """Entries of TANH in the optimised kernels: float32, rounded half away from zero."""
    _check(step, "TANH", fq.fixed(8, 7))
    return _in_float(step, np.tanh)


def _in_float(step: fq.Step, function: np.ufunc) -> list[int]:
    x, y = step.in_format(0), step.out_format
    codes = np.arange(x.low, x.high + 1) - int(x.zero_point)
    with np.errstate(over="ignore"):
        value = function(codes.astype(np.float32) * np.float32(float(x.scale))).astype(np.float32)
    scaled = value * np.float32(float(1 / y.scale))
    return [
        _clip(math.floor(abs(v) + 0.5) * (1 if v >= 0 else -1) + int(y.zero_point)) for v in scaled.astype(np.float64)
    ]


def _check(step: fq.Step, kernel: str, wanted: fq.Format | None) -> None:
    x, y = step.in_format(0), step.out_format
    if wanted is not None and y != wanted:
        raise fq.DoesNotFit(
            f"{step.name}: LiteRT's {kernel} writes {wanted!r} only, not {y}; give {step.output!r} that format"
        )
    if any(f.bits != 8 or not f.signed or f.per_channel or f.narrow_range for f in (x, y)):
        raise fq.DoesNotFit(f"{step.name}: LiteRT's {kernel} takes and gives signed codes of 8 bits, not {x} and {y}")


def _input(step: fq.Step) -> tuple[list[int], int, int]:
    """Codes less their zero point, and the multiplier that brings them to Q4.27."""
    x = step.in_format(0)
    m, e = fq.TwoStepMultiplier().prepare((x.scale,), Fraction(1, 1 << 27))
    return [code - int(x.zero_point) for code in range(x.low, x.high + 1)], m, e


def _radius(e: int) -> int:
    """Codes this far from zero are beyond what Q4.27 holds."""
    return math.floor(Fraction(15 << 27) / Fraction(2) ** e)


def _short_multiplier(r: np.float32) -> tuple[int, int]:
    """A multiplier of 16 bits and its exponent."""
    m, e = fq.TwoStepMultiplier().prepare((Fraction(float(r)),), Fraction(1))
    return (32767 if m >= 0x7FFF0000 else (m + (1 << 15)) >> 16), e


def _clip(code: int) -> int:
    return max(-128, min(127, code))


def _saturate(x: int, bits: int = 32) -> int:
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, x))


def _high_mul(a: int, b: int, bits: int = 32) -> int:
    """a·b / 2^(bits-1), ties up: the product of two fractions."""
    return _saturate((a * b + (1 << (bits - 2))) >> (bits - 1), bits)


def _divide_by_power(x: int, exponent: int) -> int:
    """Divide by 2^exponent, ties away from zero."""
    half = (1 << exponent) >> 1
    return (x + half) >> exponent if x >= 0 else -((-x + half) >> exponent)


def _rescale(v: int, m: int, e: int) -> int:
    return _divide_by_power(_high_mul(v << max(e, 0), m), max(-e, 0))


def _exp_of_quarter(a: int) -> int:
    """Compute exp on [-1/4, 0), Q0.31: a Taylor polynomial of degree four around -1/8."""
    x = a + (1 << 28)
    x2 = _high_mul(x, x)
    x3 = _high_mul(x2, x)
    x4 = _high_mul(x2, x2)
    # 715827883 is 1/3, 1895147668 is exp(-1/8)
    tail = _divide_by_power(_high_mul(_divide_by_power(x4, 2) + x3, 715827883) + x2, 1)
    return 1895147668 + _high_mul(1895147668, x + tail)


# exp(-2^k) in Q0.31
_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


def _exp(a: int, integer_bits: int) -> int:
    """Compute exp of a number at most zero, Q0.31: a quarter by the polynomial, the rest by one factor per bit."""
    if a == 0:
        return HIGH
    quarter = 1 << (29 - integer_bits)
    inner = (a & (quarter - 1)) - quarter
    result = _exp_of_quarter(_saturate(inner << integer_bits))
    rest = inner - a
    for k, factor in _POWERS.items():
        if k < integer_bits and rest & (1 << (31 - integer_bits + k)):
            result = _high_mul(result, factor)
    return result


def _newton(a: int) -> int:
    """1 / ((1 + a) / 2) for a in [0, 1], Q2.29, by three Newton steps from 48/17 - 32/17·x."""
    half = (a + HIGH + 1) // 2
    x = 1515870810 + _high_mul(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - _high_mul(half, x)
        x += _saturate(_high_mul(x, error) << 2)
    return x


def _sigmoid(a: int) -> int:
    """1 / (1 + exp(-a)), Q4.27 to Q0.31."""
    if a == 0:
        return 1 << 30
    positive = _saturate(_newton(_exp(-abs(a), 4)) << 1)  # 1 / (1 + e) is half of what Newton found, in Q0.31
    return positive if a > 0 else HIGH - positive


def _tanh(a: int) -> int:
    """(1 - e) / (1 + e) with e = exp(-2·abs(a)), Q4.27 to Q0.31."""
    if a == 0:
        return 0
    value = _saturate((_newton(_exp(-abs(a), 5)) - (1 << 29)) << 2)
    return value if a > 0 else -value
