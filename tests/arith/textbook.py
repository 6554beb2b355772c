"""The real functions as a textbook writes them, at 500 digits: a second voice that shares no formula with the first."""

from __future__ import annotations

from fractions import Fraction

import mpmath

from fixqnn.arith.functions import FUNCTIONS

REFERENCE = mpmath.MPContext()
REFERENCE.dps = 500


def _number(value: Fraction) -> mpmath.mpf:
    return REFERENCE.mpf(value.numerator) / value.denominator


def _normal_cdf(x):
    return (1 + REFERENCE.erf(x / REFERENCE.sqrt(2))) / 2


def _softplus(x, beta=1, threshold=20):
    return x if beta * x > threshold else REFERENCE.log(1 + REFERENCE.exp(beta * x)) / beta


def _elu(x, alpha=1):
    return x if x > 0 else alpha * (REFERENCE.exp(x) - 1)


def _gelu_tanh(x):
    u = REFERENCE.sqrt(2 / REFERENCE.pi) * (x + REFERENCE.mpf(44715) / 10**6 * x**3)
    return x / 2 * (1 + REFERENCE.tanh(u))


def _clip(x, low, high):
    return min(max(x, low), high)


TEXTBOOK = {
    "identity": lambda x: x,
    "abs": abs,
    "square": lambda x: x * x,
    "sign": REFERENCE.sign,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: _clip(x, 0, 6),
    "hardtanh": lambda x, min_val=-1, max_val=1: _clip(x, min_val, max_val),
    "leaky_relu": lambda x, negative_slope=0.01: x if x > 0 else negative_slope * x,
    "hardsigmoid": lambda x: _clip(x / 6 + REFERENCE.mpf(1) / 2, 0, 1),
    "hardswish": lambda x: x * _clip(x / 6 + REFERENCE.mpf(1) / 2, 0, 1),
    "softsign": lambda x: x / (1 + abs(x)),
    "reciprocal": lambda x: 1 / x,
    "sqrt": REFERENCE.sqrt,
    "rsqrt": lambda x: 1 / REFERENCE.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + REFERENCE.exp(-x)),
    "tanh": REFERENCE.tanh,
    "tanhshrink": lambda x: x - REFERENCE.tanh(x),
    "silu": lambda x: x / (1 + REFERENCE.exp(-x)),
    "gelu": lambda x, approximate="none": x * _normal_cdf(x) if approximate == "none" else _gelu_tanh(x),
    "mish": lambda x: x * REFERENCE.tanh(REFERENCE.log(1 + REFERENCE.exp(x))),
    "logsigmoid": lambda x: -REFERENCE.log(1 + REFERENCE.exp(-x)),
    "erf": REFERENCE.erf,
    "exp": REFERENCE.exp,
    "gaussian": lambda x: REFERENCE.exp(-(x**2)),
    "log": REFERENCE.log,
    "sin": REFERENCE.sin,
    "cos": REFERENCE.cos,
    "elu": _elu,
    "selu": lambda x: (
        REFERENCE.mpf("1.0507009873554804934193349852946") * _elu(x, REFERENCE.mpf("1.6732632423543772848170429916717"))
    ),
    "celu": lambda x, alpha=1: x if x > 0 else alpha * (REFERENCE.exp(x / alpha) - 1),
    "softplus": _softplus,
}
SPLIT = sorted(name for name, function in FUNCTIONS.items() if function.split)
POSITIVE = ("sqrt", "rsqrt", "log", "reciprocal")


def reference(name: str, x: Fraction, **parameters) -> Fraction:
    """The function by its textbook formula, off by less than 10**-400."""
    numbers = {key: value if isinstance(value, str) else _number(Fraction(value)) for key, value in parameters.items()}
    value = REFERENCE.mpf(TEXTBOOK[name](_number(x), **numbers))
    sign, mantissa, exponent, _ = value._mpf_
    return (-1) ** sign * mantissa * Fraction(2) ** exponent
