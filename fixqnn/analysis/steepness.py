"""How steep a function of one code is, and where its values lie, on an interval: for errors over whole boxes of inputs.

Constants are the suprema of the derivatives, rounded up in the last decimal: silu has 1.09983…, at 2.3993…; mish
1.08855…, at 1.4907…; gelu 1.12890…, at √2, and with tanh 1.12908…; a gaussian √(2/e), at 1/√2; erf 2/√π, at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fixqnn.arith.functions import FUNCTIONS
from fixqnn.errors import DoesNotFit

# float64 evaluation of any of the functions is off by less than this, relative to 1 + |x| + |f(x)|
EVALUATION = 2.0**-36

CONSTANT: Mapping[str, float] = {
    **dict.fromkeys(
        ("identity", "abs", "relu", "relu6", "hardtanh", "softsign", "tanh", "tanhshrink", "logsigmoid", "sin", "cos"),
        1.0,
    ),
    "sigmoid": 0.25,
    "hardsigmoid": 0.1666666667,
    "hardswish": 1.5,
    "silu": 1.0999,
    "mish": 1.0886,
    "gelu": 1.1292,
    "erf": 1.1283791671,
    "gaussian": 0.8577638850,
    "selu": 1.7580993409,
    "celu": 1.0,
    "softplus": 1.0,
}
LOCAL: Mapping[str, Callable[..., np.ndarray]] = {
    "leaky_relu": lambda low, high, negative_slope: np.full(low.shape, max(1.0, abs(float(negative_slope)))),
    "elu": lambda low, high, alpha: np.full(low.shape, max(1.0, abs(float(alpha)))),
    "square": lambda low, high: 2 * np.maximum(np.abs(low), np.abs(high)),
    "exp": lambda low, high: np.exp(high),
    "log": lambda low, high: _above_zero(low, lambda x: 1 / x),
    "sqrt": lambda low, high: _above_zero(low, lambda x: 0.5 / np.sqrt(x)),
    "rsqrt": lambda low, high: _above_zero(low, lambda x: 0.5 / (x * np.sqrt(x))),
    "reciprocal": lambda low, high: np.where(
        (low > 0) | (high < 0), 1 / np.square(np.maximum(np.minimum(np.abs(low), np.abs(high)), 1e-150)), np.inf
    ),
    "sign": lambda low, high: np.where((low > 0) | (high < 0), 0.0, np.inf),
}
INCREASING = (
    "identity", "relu", "relu6", "hardtanh", "hardsigmoid", "softsign", "sqrt", "sigmoid", "tanh", "tanhshrink",
    "logsigmoid", "erf", "exp", "log", "selu", "celu", "softplus", "sign",
)  # fmt: skip


def _above_zero(low: np.ndarray, slope: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.where(low > 0, slope(np.maximum(low, 1e-100)), np.inf)


def steepest(function: str, low: np.ndarray, high: np.ndarray, **parameters: Any) -> np.ndarray:
    """Bound the slope of a function on intervals, element by element; infinite where it has none.

    >>> steepest("sigmoid", np.array([-1.0]), np.array([2.0])), steepest("square", np.array([-1.0]), np.array([2.0]))
    (array([0.25]), array([4.]))
    """
    if function in CONSTANT:
        return np.full(np.shape(low), CONSTANT[function])
    if function == "table":  # a list of values, which jumps from each to the next
        return np.full(np.shape(low), np.inf)
    if function in LOCAL:
        with np.errstate(all="ignore"):
            settings = FUNCTIONS[function].complete(parameters)
            return LOCAL[function](np.asarray(low, float), np.asarray(high, float), **settings)
    raise DoesNotFit(
        f"nothing is known of how steep {function!r} is; known are {', '.join(sorted({*CONSTANT, *LOCAL}))}"
    )


def jump(function: str, **parameters: Any) -> float:
    """The height of a step that a slope does not speak of: softplus leaves its curve for the identity at its threshold."""
    if function != "softplus":
        return 0.0
    settings = {name: float(value) for name, value in FUNCTIONS["softplus"].complete(parameters).items()}
    return float(np.log1p(np.exp(-settings["threshold"])) / settings["beta"])


def image(function: str, low: np.ndarray, high: np.ndarray, **parameters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Enclose the values of a function on intervals: by its ends where it never falls, else from the middle by its slope.

    >>> low, high = image("silu", np.array([-2.0]), np.array([0.0]))
    >>> bool(low[0] <= -0.2785 and high[0] >= 0)
    True
    """
    if function == "table":
        entries = [float(entry) for entry in parameters["entries"]]
        return np.full(np.shape(low), min(entries)), np.full(np.shape(low), max(entries))
    real = FUNCTIONS[function].real
    if function in INCREASING:
        found = real(low, **parameters), real(high, **parameters)
    else:
        middle, half = (low + high) / 2, (high - low) / 2
        with np.errstate(invalid="ignore"):
            reach = np.where(half > 0, steepest(function, low, high, **parameters) * half, 0.0)
        found = real(middle, **parameters) - reach, real(middle, **parameters) + reach
    slack = EVALUATION * (1 + np.maximum(np.abs(low), np.abs(high))) + jump(function, **parameters)
    return tuple(np.nan_to_num(v, nan=s * np.inf, posinf=np.inf, neginf=-np.inf) for v, s in (
        (found[0] - slack - EVALUATION * np.abs(found[0]), -1), (found[1] + slack + EVALUATION * np.abs(found[1]), 1)
    ))  # fmt: skip
