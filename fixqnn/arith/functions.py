"""The real functions of one variable that tables are made of, as mathematics: no grid, no rounding.

Every irrational function is written as ``f(x) = line(x) + rest(|x|)``, one line for each side of zero. The line is
rational and taken exactly; the rest is a short chain of operations in which nothing cancels, so it has a small
*relative* error however close f runs along its line. Thus gelu(128), which is 128 less some 2⁻¹¹⁸⁰⁰, is still known to
lie below 128. The rest is written over a namespace `m` of elementary functions: one formula serves float64 arrays and
numbers of any precision.

Where f is rational it is computed in exact fractions: everywhere for the piecewise rational functions, at a few
points (mostly 0) for the others, whose values at other rational points are irrational and hence never on a tie
(Lindemann and Weierstrass; open for erf and the two gelus, where the enclosure has to show it point by point).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, FormatError
from fixqnn.rationals import nearest_float, rational

ZERO, ONE, HALF = Fraction(0), Fraction(1), Fraction(1, 2)
# The constants of selu as torch documents them; the decimals are the definition.
SELU_ALPHA = Fraction("1.6732632423543772848170429916717")
SELU_SCALE = Fraction("1.0507009873554804934193349852946")

Line = tuple[Fraction, Fraction]  # slope, intercept


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=np.float64)  # numpy has neither


def _erfc(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(math.erfc, 1, 1)(x), dtype=np.float64)


FLOAT64 = SimpleNamespace(
    exp=np.exp,
    log=np.log,
    log1p=np.log1p,
    sqrt=np.sqrt,
    sin=np.sin,
    cos=np.cos,
    erfc=_erfc,
    pi=math.pi,
    number=float,
)


@dataclass(frozen=True)
class Split:
    """An irrational function beside its lines: ``f(x) = slope·x + intercept + rest(|x|)``.

    Attributes
    ----------
    line : callable
        ``line(up, **parameters) -> (slope, intercept)`` in fractions, for x > 0 (`up`) or x < 0.
    rest : callable
        ``rest(m, t, up, **parameters)`` for t = abs(x).
    rational_above : callable
        ``rational_above(**parameters) -> Fraction``: beyond it the function is rational and the split says nothing;
        None: nowhere.
    wavy : bool
        Whether the rest crosses zero: its error is then relative to 1 + t, not to itself.
    """

    line: Callable[..., Line]
    rest: Callable[..., Any]
    rational_above: Callable[..., Fraction | None] = lambda **_: None
    wavy: bool = False


@dataclass(frozen=True)
class RealFunction:
    """A real function of one variable with torch's parameters.

    Attributes
    ----------
    name : str
        Its name in `FUNCTIONS` and in the ``function`` attribute of a lookup.
    rational : callable
        ``rational(x, **parameters) -> Fraction`` where the value is rational; None where it is not.
    vector : callable or None
        ``vector(x, **parameters)`` on float64 arrays; None: line plus rest is good enough near zero too.
    split : Split or None
        Its irrational part; None for a rational function.
    enclosure : callable or None
        ``enclosure(x, bits) -> (low, high)``: a function that is neither comes with proven bounds on its value, the
        tighter the more bits; equal ends are the value itself.
    parameters : mapping
        Torch's names and defaults.
    undefined : mapping of int to str
        By sign of x: ``"high"`` or ``"low"`` for a pole, ``"nowhere"`` for points outside the domain.
    allowed, demand : callable, str
        Which parameters make sense, as a test and in words.
    """

    name: str
    rational: Callable[..., Fraction | None]
    vector: Callable[..., np.ndarray] | None = None
    split: Split | None = None
    enclosure: Callable[[Fraction, int], tuple[Any, Any]] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    undefined: Mapping[int, str] = field(default_factory=dict)
    allowed: Callable[..., bool] = lambda **_: True
    demand: str = ""

    def __post_init__(self) -> None:
        for name in ("parameters", "undefined"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __repr__(self) -> str:
        return f"FUNCTIONS[{self.name!r}]"

    def complete(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, the given ones over the defaults; numbers as fractions, a float at its exact binary value."""
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise BadInput(f"{self.name} has no parameter {', '.join(unknown)}; its parameters: {known}")
        complete = {}
        for name, value in {**self.parameters, **parameters}.items():
            if isinstance(self.parameters[name], str):
                complete[name] = value
                continue
            try:
                complete[name] = rational(value, name)
            except FormatError as error:
                raise BadInput(f"{self.name}: {error}") from None
        if not self.allowed(**complete):
            shown = ", ".join(f"{name}={value!s}" for name, value in complete.items())
            raise BadInput(f"{self.name} needs {self.demand}, not {shown}")
        return complete

    def exact(self, x: Fraction, **parameters: Any) -> Fraction | None:
        """The value at `x` where it is rational; None where it is irrational or there is none.

        >>> FUNCTIONS["hardswish"].exact(Fraction(1, 2)), FUNCTIONS["sigmoid"].exact(Fraction(0))
        (Fraction(7, 24), Fraction(1, 2))
        >>> FUNCTIONS["exp"].exact(Fraction(1)) is None
        True
        """
        x = Fraction(x)
        if sign(x) in self.undefined:
            return None
        return self.rational(x, **self.complete(parameters))

    def real(self, values: Any, **parameters: Any) -> np.ndarray:
        """The function in float64, element by element; NaN or infinity where it is undefined.

        >>> FUNCTIONS["silu"].real([0.0, 1.0]).round(6).tolist()
        [0.0, 0.731059]
        """
        x = np.asarray(values, dtype=np.float64)
        complete = self.complete(parameters)
        settled = {name: value if isinstance(value, str) else nearest_float(value) for name, value in complete.items()}
        with np.errstate(all="ignore"):
            if self.vector is not None:
                return self.vector(x, **settled)
            sides = []
            for up in (True, False):
                slope, intercept = self.split.line(up, **complete)
                bent = float(slope) * x if slope else 0.0  # 0·∞ would be NaN
                sides.append(bent + float(intercept) + self.split.rest(FLOAT64, np.abs(x), up, **settled))
            return np.where(x < 0, sides[1], sides[0])


def sign(x: Fraction | int) -> int:
    """Return -1, 0 or +1."""
    return (x > 0) - (x < 0)


def _at(point: Fraction, value: Fraction) -> Callable[..., Fraction | None]:
    return lambda x, **_: value if x == point else None


def _root(x: Fraction) -> Fraction | None:
    """The square root of a fraction in lowest terms is rational when both its parts are squares."""
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    return root if root * root == x else None


def _relu_line(up: bool, **_: Any) -> Line:
    return (ONE if up else ZERO), ZERO


def _signs_line(up: bool, **_: Any) -> Line:
    return ZERO, (ONE if up else -ONE)


def _flat_line(up: bool, **_: Any) -> Line:
    return ZERO, ZERO


# --- the rests. e = exp(−t) never passes 1, so nothing overflows and every denominator lies between 1 and 5. ---


def _sigmoid_rest(m: Any, t: Any, up: bool) -> Any:
    e = m.exp(-t)
    return (-e if up else e) / (1 + e)


def _tanh_rest(m: Any, t: Any, up: bool) -> Any:
    e = m.exp(-2 * t)
    return (-2 * e if up else 2 * e) / (1 + e)


def _silu_rest(m: Any, t: Any, up: bool) -> Any:
    e = m.exp(-t)
    return -t * e / (1 + e)


def _gelu_rest(m: Any, t: Any, up: bool, approximate: str) -> Any:
    if approximate == "none":
        return -t * m.erfc(t / m.sqrt(2)) / 2  # x·Φ(x), and Φ(−t) = erfc(t/√2)/2
    # x·(1 + tanh u)/2 = x·σ(2u) with torch's u = √(2/π)·(x + 0.044715·x³)
    e = m.exp(-2 * m.sqrt(2 / m.pi) * (t + m.number(Fraction("0.044715")) * t * t * t))
    return -t * e / (1 + e)


def _mish_rest(m: Any, t: Any, up: bool) -> Any:
    # tanh(log(1 + eˣ)) = (e²ˣ + 2eˣ) / (e²ˣ + 2eˣ + 2), and its distance from 1 for x > 0
    e = m.exp(-t)
    return -2 * t * e * e / (1 + 2 * e + 2 * e * e) if up else -t * e * (2 + e) / (2 + 2 * e + e * e)


def _softplus_rest(m: Any, t: Any, up: bool, beta: Any, threshold: Any) -> Any:
    return m.log1p(m.exp(-beta * t)) / beta


def _logsigmoid_rest(m: Any, t: Any, up: bool) -> Any:
    return -m.log1p(m.exp(-t))


def _elu_rest(m: Any, t: Any, up: bool, alpha: Any) -> Any:
    return alpha * m.exp(-t)


def _selu_rest(m: Any, t: Any, up: bool) -> Any:
    return m.number(SELU_SCALE * SELU_ALPHA) * m.exp(-t)


def _celu_rest(m: Any, t: Any, up: bool, alpha: Any) -> Any:
    return alpha * m.exp(-t / alpha)


def _softplus_vector(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    curved = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(beta * x))) / beta
    return np.where(beta * x > threshold, x, curved)


def _gate(x: Fraction) -> Fraction:
    """relu6(x + 3) / 6."""
    return min(max(x + 3, ZERO), Fraction(6)) / 6


def _gate_vector(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3, 0, 6) / 6


def _identity(x: Any) -> Any:
    return x


_ALL = (
    # rational everywhere
    RealFunction("identity", _identity, _identity),
    RealFunction("abs", abs, np.abs),
    RealFunction("square", lambda x: x * x, np.square),
    RealFunction("sign", lambda x: Fraction(sign(x)), np.sign),
    RealFunction("relu", lambda x: max(x, ZERO), lambda x: np.maximum(x, 0)),
    RealFunction("relu6", lambda x: min(max(x, ZERO), Fraction(6)), lambda x: np.clip(x, 0, 6)),
    RealFunction(
        "hardtanh",
        lambda x, min_val, max_val: min(max(x, min_val), max_val),
        lambda x, min_val, max_val: np.clip(x, min_val, max_val),
        parameters={"min_val": -1.0, "max_val": 1.0},
        allowed=lambda min_val, max_val: min_val <= max_val,
        demand="min_val at most max_val",
    ),
    RealFunction(
        "leaky_relu",
        lambda x, negative_slope: x if x >= 0 else negative_slope * x,
        lambda x, negative_slope: np.where(x >= 0, x, negative_slope * x),
        parameters={"negative_slope": 0.01},
    ),
    RealFunction("hardsigmoid", _gate, _gate_vector),
    RealFunction("hardswish", lambda x: x * _gate(x), lambda x: x * _gate_vector(x)),
    RealFunction("softsign", lambda x: x / (1 + abs(x)), lambda x: x / (1 + np.abs(x))),
    RealFunction("reciprocal", lambda x: 1 / x, lambda x: 1 / x, undefined={0: "high"}),
    # rational at squares of rational numbers
    RealFunction(
        "sqrt",
        _root,
        np.sqrt,
        Split(_flat_line, lambda m, t, up: m.sqrt(t)),
        undefined={-1: "nowhere"},
    ),
    RealFunction(
        "rsqrt",
        lambda x: _root(1 / x),
        lambda x: 1 / np.sqrt(x),
        Split(_flat_line, lambda m, t, up: 1 / m.sqrt(t)),
        undefined={-1: "nowhere", 0: "high"},
    ),
    # rational at one point
    RealFunction("sigmoid", _at(ZERO, HALF), None, Split(lambda up: (ZERO, ONE if up else ZERO), _sigmoid_rest)),
    RealFunction("tanh", _at(ZERO, ZERO), np.tanh, Split(_signs_line, _tanh_rest)),
    RealFunction(
        "tanhshrink",
        _at(ZERO, ZERO),
        lambda x: x - np.tanh(x),
        Split(lambda up: (ONE, -ONE if up else ONE), lambda m, t, up: -_tanh_rest(m, t, up)),
    ),
    RealFunction("silu", _at(ZERO, ZERO), None, Split(_relu_line, _silu_rest)),
    RealFunction(
        "gelu",
        _at(ZERO, ZERO),
        None,
        Split(_relu_line, _gelu_rest),
        parameters={"approximate": "none"},
        allowed=lambda approximate: approximate in ("none", "tanh"),
        demand='approximate="none" or approximate="tanh"',
    ),
    RealFunction("mish", _at(ZERO, ZERO), None, Split(_relu_line, _mish_rest)),
    RealFunction("logsigmoid", lambda x: None, None, Split(lambda up: (ZERO if up else ONE, ZERO), _logsigmoid_rest)),
    RealFunction("erf", _at(ZERO, ZERO), _erf, Split(_signs_line, lambda m, t, up: -m.erfc(t) if up else m.erfc(t))),
    RealFunction("exp", _at(ZERO, ONE), np.exp, Split(_flat_line, lambda m, t, up: m.exp(t if up else -t))),
    RealFunction("gaussian", _at(ZERO, ONE), None, Split(_flat_line, lambda m, t, up: m.exp(-t * t))),
    RealFunction(
        "log",
        _at(ONE, ZERO),
        np.log,
        Split(_flat_line, lambda m, t, up: m.log(t), wavy=True),
        undefined={-1: "nowhere", 0: "low"},
    ),
    RealFunction("sin", _at(ZERO, ZERO), np.sin, Split(_flat_line, lambda m, t, up: m.sin(t if up else -t), wavy=True)),
    RealFunction("cos", _at(ZERO, ONE), np.cos, Split(_flat_line, lambda m, t, up: m.cos(t), wavy=True)),
    # rational on a half-line
    RealFunction(
        "elu",
        lambda x, alpha: x if x >= 0 else (None if alpha else ZERO),
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
        Split(lambda up, alpha: (ONE, ZERO) if up else (ZERO, -alpha), _elu_rest, lambda alpha: ZERO),
        parameters={"alpha": 1.0},
    ),
    RealFunction(
        "selu",
        lambda x: SELU_SCALE * x if x >= 0 else None,
        lambda x: float(SELU_SCALE) * np.where(x > 0, x, float(SELU_ALPHA) * np.expm1(x)),
        Split(lambda up: (SELU_SCALE, ZERO) if up else (ZERO, -SELU_SCALE * SELU_ALPHA), _selu_rest, lambda: ZERO),
    ),
    RealFunction(
        "celu",
        lambda x, alpha: x if x >= 0 else None,
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x / alpha)),
        Split(
            lambda up, alpha: (ONE, ZERO) if up else (ZERO, -alpha),
            _celu_rest,
            lambda alpha: ZERO,
        ),
        parameters={"alpha": 1.0},
        allowed=lambda alpha: alpha > 0,
        demand="alpha > 0",
    ),
    RealFunction(
        "softplus",
        lambda x, beta, threshold: x if beta * x > threshold else None,
        _softplus_vector,
        Split(_relu_line, _softplus_rest, lambda beta, threshold: threshold / beta),
        parameters={"beta": 1.0, "threshold": 20.0},
        allowed=lambda beta, threshold: beta > 0,
        demand="beta > 0",
    ),
)

FUNCTIONS: Mapping[str, RealFunction] = MappingProxyType({function.name: function for function in _ALL})
